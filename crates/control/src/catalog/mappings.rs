//! Mappings of tasks.

use sqlx::any::AnyRow;

use super::{Catalog, flag, is_taken, number, text, text_or_none};
use crate::error::{Error, Result, Subject};
use crate::model::{MappingStatus, Paused, TableMapping};
use crate::stored;

fn mapping(row: &AnyRow) -> Result<TableMapping> {
    let status = match text(row, "status")?.as_str() {
        "AUTO" => MappingStatus::Auto,
        "USING" => MappingStatus::Using,
        "ADD" => MappingStatus::Add,
        "UPDATE" => MappingStatus::Update,
        _ => MappingStatus::Manual,
    };
    Ok(TableMapping {
        id: text(row, "id")?,
        source_table: text(row, "source_table")?,
        target_table: text(row, "target_table")?,
        source_columns: stored::columns_read(&text(row, "source_columns")?)?,
        target_columns: stored::columns_read(&text(row, "target_columns")?)?,
        columns: stored::links_read(&text(row, "links")?)?,
        status,
        percent: u8::try_from(number(row, "percent")?).unwrap_or(100),
        updated_ms: number(row, "updated_ms")?,
        paused: match text_or_none(row, "paused")? {
            Some(paused) => Some(stored::paused_read(&paused)?),
            None => None,
        },
        reload: flag(row, "reload")?,
        doubt: flag(row, "doubt")?,
    })
}

fn taken(error: sqlx::Error, one: &TableMapping) -> Error {
    match is_taken(&error) {
        true => Error::Mapping(format!(
            "{} is mapped to {} already",
            one.source_table, one.target_table
        )),
        false => error.into(),
    }
}

impl Catalog {
    /// All of them or none. `Mapping` if the same pair of tables is mapped already.
    pub(crate) async fn mapping_create(&self, task: &str, new: &[TableMapping]) -> Result<()> {
        let mut tx = self.writer.begin().await?;
        for one in new {
            sqlx::query(
                "INSERT INTO mapping (id, task, source_table, target_table, source_columns, \
                 target_columns, links, status, percent, updated_ms) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            )
            .bind(one.id.clone())
            .bind(task.to_owned())
            .bind(one.source_table.clone())
            .bind(one.target_table.clone())
            .bind(stored::columns_write(&one.source_columns))
            .bind(stored::columns_write(&one.target_columns))
            .bind(stored::links_write(&one.columns))
            .bind(one.status.as_str().to_owned())
            .bind(i64::from(one.percent))
            .bind(one.updated_ms)
            .execute(&mut *tx)
            .await
            .map_err(|error| taken(error, one))?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Puts `new` in the place of the task's mapping of its id. `NotFound(Mapping)` if there is none,
    /// `Mapping` if another one pairs its tables.
    pub(crate) async fn mapping_update(&self, task: &str, new: &TableMapping) -> Result<()> {
        let done = sqlx::query(
            "UPDATE mapping SET source_table = $3, target_table = $4, source_columns = $5, \
             target_columns = $6, links = $7, status = $8, percent = $9, updated_ms = $10 \
             WHERE id = $1 AND task = $2",
        )
        .bind(new.id.clone())
        .bind(task.to_owned())
        .bind(new.source_table.clone())
        .bind(new.target_table.clone())
        .bind(stored::columns_write(&new.source_columns))
        .bind(stored::columns_write(&new.target_columns))
        .bind(stored::links_write(&new.columns))
        .bind(new.status.as_str().to_owned())
        .bind(i64::from(new.percent))
        .bind(new.updated_ms)
        .execute(&self.writer)
        .await
        .map_err(|error| taken(error, new))?;
        match done.rows_affected() {
            0 => Err(Error::NotFound(Subject::Mapping)),
            _ => Ok(()),
        }
    }

    /// In the order they were made or changed.
    pub(crate) async fn mapping_list(&self, task: &str) -> Result<Vec<TableMapping>> {
        let rows = sqlx::query(
            "SELECT * FROM mapping WHERE task = $1 ORDER BY updated_ms, source_table, id",
        )
        .bind(task.to_owned())
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(mapping).collect()
    }

    pub(crate) async fn mapping_count(&self, task: &str) -> Result<u64> {
        let row = sqlx::query("SELECT COUNT(*) AS n FROM mapping WHERE task = $1")
            .bind(task.to_owned())
            .fetch_one(&self.reader)
            .await?;
        super::count(&row, "n")
    }

    pub(crate) async fn mapping_delete(&self, task: &str, id: &str) -> Result<()> {
        let done = sqlx::query("DELETE FROM mapping WHERE task = $1 AND id = $2")
            .bind(task.to_owned())
            .bind(id.to_owned())
            .execute(&self.writer)
            .await?;
        match done.rows_affected() {
            0 => Err(Error::NotFound(Subject::Mapping)),
            _ => Ok(()),
        }
    }

    /// Whether a mapping of this id belongs to some other task.
    pub(crate) async fn mapping_elsewhere(&self, task: &str, id: &str) -> Result<bool> {
        let row = sqlx::query("SELECT COUNT(*) AS n FROM mapping WHERE task <> $1 AND id = $2")
            .bind(task.to_owned())
            .bind(id.to_owned())
            .fetch_one(&self.reader)
            .await?;
        Ok(super::count(&row, "n")? > 0)
    }

    /// Pauses tables, each by its mapping, or resumes it (`None`). All or none; `NotFound(Mapping)` if one
    /// is not there.
    pub(crate) async fn mappings_pause(
        &self,
        task: &str,
        mappings: &[(String, Option<Paused>)],
    ) -> Result<()> {
        let mut tx = self.writer.begin().await?;
        for (id, paused) in mappings {
            let done = sqlx::query("UPDATE mapping SET paused = $3 WHERE task = $1 AND id = $2")
                .bind(task.to_owned())
                .bind(id.clone())
                .bind(paused.as_ref().map(stored::paused_write))
                .execute(&mut *tx)
                .await?;
            if done.rows_affected() == 0 {
                return Err(Error::NotFound(Subject::Mapping));
            }
        }
        tx.commit().await?;
        Ok(())
    }

    /// Notes that a mapping's table is to be loaded again. `NotFound(Mapping)` if there is none.
    pub(crate) async fn mapping_reload(&self, task: &str, id: &str) -> Result<()> {
        let done = sqlx::query("UPDATE mapping SET reload = 1 WHERE task = $1 AND id = $2")
            .bind(task.to_owned())
            .bind(id.to_owned())
            .execute(&self.writer)
            .await?;
        match done.rows_affected() {
            0 => Err(Error::NotFound(Subject::Mapping)),
            _ => Ok(()),
        }
    }

    /// The target knows of the tables that are to be loaded again.
    pub(crate) async fn mappings_reloaded(&self, task: &str, ids: &[String]) -> Result<()> {
        let mut tx = self.writer.begin().await?;
        for id in ids {
            sqlx::query("UPDATE mapping SET reload = 0 WHERE task = $1 AND id = $2")
                .bind(task.to_owned())
                .bind(id.clone())
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Notes whether the rows of mappings' tables are to be compared and repaired.
    pub(crate) async fn mappings_doubt(
        &self,
        task: &str,
        ids: &[String],
        doubt: bool,
    ) -> Result<()> {
        let mut tx = self.writer.begin().await?;
        for id in ids {
            sqlx::query("UPDATE mapping SET doubt = $3 WHERE task = $1 AND id = $2")
                .bind(task.to_owned())
                .bind(id.clone())
                .bind(i64::from(doubt))
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// A run uses them.
    pub(crate) async fn mappings_used(&self, task: &str) -> Result<()> {
        sqlx::query("UPDATE mapping SET status = 'USING' WHERE task = $1")
            .bind(task.to_owned())
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}
