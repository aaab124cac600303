//! Integration applications.

use sqlx::any::AnyRow;

use super::{Catalog, flag, is_taken, number, text, text_or_none};
use crate::error::{Error, Result, Subject};
use crate::model::{Application, User};

const SELECT: &str = "SELECT a.*, c.name AS created_name, u.name AS updated_name FROM application a \
    JOIN account c ON c.id = a.created_by JOIN account u ON u.id = a.updated_by \
    WHERE a.instance = $1";

const SELECT_ONE: &str = "SELECT a.*, c.name AS created_name, u.name AS updated_name \
    FROM application a JOIN account c ON c.id = a.created_by JOIN account u ON u.id = a.updated_by \
    WHERE a.instance = $1 AND a.id = $2";

fn application(row: &AnyRow) -> Result<Application> {
    Ok(Application {
        id: text(row, "id")?,
        name: text(row, "name")?,
        remark: text_or_none(row, "remark")?,
        key: text(row, "app_key")?,
        favorite: flag(row, "favorite")?,
        created_ms: number(row, "created_ms")?,
        updated_ms: number(row, "updated_ms")?,
        created_by: User {
            id: text(row, "created_by")?,
            name: text(row, "created_name")?,
        },
        updated_by: User {
            id: text(row, "updated_by")?,
            name: text(row, "updated_name")?,
        },
        roles: Vec::new(),
    })
}

impl Catalog {
    /// `secret` is sealed. `Invalid` if the name or the key is taken.
    pub(crate) async fn application_create(
        &self,
        instance: &str,
        new: &Application,
        secret: &str,
    ) -> Result<()> {
        self.application_unique(instance, new).await?;
        sqlx::query(
            "INSERT INTO application (id, instance, name, remark, app_key, secret, favorite, \
             created_ms, updated_ms, created_by, updated_by) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(new.id.clone())
        .bind(instance.to_owned())
        .bind(new.name.clone())
        .bind(new.remark.clone())
        .bind(new.key.clone())
        .bind(secret.to_owned())
        .bind(i64::from(new.favorite))
        .bind(new.created_ms)
        .bind(new.updated_ms)
        .bind(new.created_by.id.clone())
        .bind(new.updated_by.id.clone())
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    pub(crate) async fn application_update(&self, instance: &str, new: &Application) -> Result<()> {
        self.application_unique(instance, new).await?;
        sqlx::query(
            "UPDATE application SET name = $3, remark = $4, favorite = $5, updated_ms = $6, \
             updated_by = $7 WHERE instance = $1 AND id = $2",
        )
        .bind(instance.to_owned())
        .bind(new.id.clone())
        .bind(new.name.clone())
        .bind(new.remark.clone())
        .bind(i64::from(new.favorite))
        .bind(new.updated_ms)
        .bind(new.updated_by.id.clone())
        .execute(&self.writer)
        .await
        .map_err(|error| match is_taken(&error) {
            true => Error::invalid("name", "an application of this name exists"),
            false => error.into(),
        })?;
        Ok(())
    }

    async fn application_unique(&self, instance: &str, new: &Application) -> Result<()> {
        for other in self.application_list(instance).await? {
            if other.id == new.id {
                continue;
            }
            if other.name == new.name {
                return Err(Error::invalid(
                    "name",
                    "an application of this name exists; choose another",
                ));
            }
            if other.key == new.key {
                return Err(Error::invalid(
                    "key",
                    "an application with this key exists; choose another or leave it out",
                ));
            }
        }
        Ok(())
    }

    /// Oldest first.
    pub(crate) async fn application_list(&self, instance: &str) -> Result<Vec<Application>> {
        let rows = sqlx::query(SELECT)
            .bind(instance.to_owned())
            .fetch_all(&self.reader)
            .await?;
        let mut all: Vec<_> = rows.iter().map(application).collect::<Result<_>>()?;
        all.sort_by(|a, b| (a.created_ms, &a.id).cmp(&(b.created_ms, &b.id)));
        Ok(all)
    }

    pub(crate) async fn application_show(&self, instance: &str, id: &str) -> Result<Application> {
        let row = sqlx::query(SELECT_ONE)
            .bind(instance.to_owned())
            .bind(id.to_owned())
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref()
            .map(application)
            .transpose()?
            .ok_or(Error::NotFound(Subject::Application))
    }

    pub(crate) async fn application_delete(&self, instance: &str, id: &str) -> Result<()> {
        sqlx::query("DELETE FROM application WHERE instance = $1 AND id = $2")
            .bind(instance.to_owned())
            .bind(id.to_owned())
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}
