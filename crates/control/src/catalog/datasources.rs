//! Data sources.

use serde_json::{Map, Value};
use sqlx::any::AnyRow;

use super::{Catalog, number, text, text_or_none};
use crate::error::{Error, Result, Subject};
use crate::model::DataSource;

/// A data source with what callers never see.
#[derive(Clone, Debug)]
pub(crate) struct StoredDataSource {
    pub(crate) shown: DataSource,
    /// Sealed.
    pub(crate) password: String,
    /// Native options as JSON.
    pub(crate) options: String,
}

/// What is written of one.
#[derive(Clone, Debug)]
pub(crate) struct NewDataSourceRow<'a> {
    pub(crate) instance: &'a str,
    pub(crate) shown: &'a DataSource,
    pub(crate) password: &'a str,
    pub(crate) options: &'a str,
}

const SELECT: &str = "SELECT d.*, a.name AS app_name FROM datasource d \
    JOIN application a ON a.id = d.application WHERE d.instance = $1";

const SELECT_ONE: &str = "SELECT d.*, a.name AS app_name FROM datasource d \
    JOIN application a ON a.id = d.application WHERE d.instance = $1 AND d.id = $2";

fn datasource(row: &AnyRow) -> Result<StoredDataSource> {
    let content: Map<String, Value> =
        serde_json::from_str(&text(row, "content")?).map_err(Error::internal)?;
    Ok(StoredDataSource {
        shown: DataSource {
            id: text(row, "id")?,
            name: text(row, "name")?,
            kind: text(row, "kind")?,
            app_id: text(row, "application")?,
            app_name: text(row, "app_name")?,
            roles: Vec::new(),
            content,
            description: text_or_none(row, "description")?,
            created_ms: number(row, "created_ms")?,
            updated_ms: number(row, "updated_ms")?,
        },
        password: text(row, "password")?,
        options: text(row, "options")?,
    })
}

impl Catalog {
    /// Makes it, or replaces the one with its id.
    pub(crate) async fn datasource_put(&self, new: NewDataSourceRow<'_>) -> Result<()> {
        let shown = new.shown;
        sqlx::query(
            "INSERT INTO datasource (id, instance, application, name, kind, content, password, \
             options, description, created_ms, updated_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
             ON CONFLICT (id) DO UPDATE SET application = $3, name = $4, kind = $5, content = $6, \
             password = $7, options = $8, description = $9, updated_ms = $11",
        )
        .bind(shown.id.clone())
        .bind(new.instance.to_owned())
        .bind(shown.app_id.clone())
        .bind(shown.name.clone())
        .bind(shown.kind.clone())
        .bind(Value::Object(shown.content.clone()).to_string())
        .bind(new.password.to_owned())
        .bind(new.options.to_owned())
        .bind(shown.description.clone())
        .bind(shown.created_ms)
        .bind(shown.updated_ms)
        .execute(&self.writer)
        .await
        .map_err(|error| match super::is_taken(&error) {
            true => Error::invalid(
                "datasource_name",
                "a data source of this name exists; choose another",
            ),
            false => error.into(),
        })?;
        Ok(())
    }

    pub(crate) async fn datasource_options_set(&self, id: &str, options: &str) -> Result<()> {
        sqlx::query("UPDATE datasource SET options = $2 WHERE id = $1")
            .bind(id.to_owned())
            .bind(options.to_owned())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Oldest first.
    pub(crate) async fn datasource_list(&self, instance: &str) -> Result<Vec<DataSource>> {
        let rows = sqlx::query(SELECT)
            .bind(instance.to_owned())
            .fetch_all(&self.reader)
            .await?;
        let mut all = Vec::with_capacity(rows.len());
        for row in &rows {
            all.push(datasource(row)?.shown);
        }
        all.sort_by(|a, b| (a.created_ms, &a.id).cmp(&(b.created_ms, &b.id)));
        Ok(all)
    }

    pub(crate) async fn datasource_show(
        &self,
        instance: &str,
        id: &str,
    ) -> Result<StoredDataSource> {
        let row = sqlx::query(SELECT_ONE)
            .bind(instance.to_owned())
            .bind(id.to_owned())
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref()
            .map(datasource)
            .transpose()?
            .ok_or(Error::NotFound(Subject::DataSource))
    }

    pub(crate) async fn datasource_delete(&self, instance: &str, id: &str) -> Result<()> {
        sqlx::query("DELETE FROM datasource WHERE instance = $1 AND id = $2")
            .bind(instance.to_owned())
            .bind(id.to_owned())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Names of the tasks (drafts and tasks being removed too) that use a data source.
    pub(crate) async fn datasource_users(&self, id: &str) -> Result<Vec<String>> {
        let rows = sqlx::query("SELECT id, name FROM task WHERE source = $1 OR target = $1")
            .bind(id.to_owned())
            .fetch_all(&self.reader)
            .await?;
        rows.iter()
            .map(|row| Ok(text_or_none(row, "name")?.unwrap_or(text(row, "id")?)))
            .collect()
    }
}
