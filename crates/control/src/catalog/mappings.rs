//! Mappings of tasks.

use std::collections::HashMap;

use sqlx::any::AnyRow;
use sqlx::{Any, Transaction};

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

/// In the order they were made or changed.
const LIST: &str = "SELECT * FROM mapping WHERE task = $1 ORDER BY updated_ms, source_table, id";

/// What is to become of a task's mappings.
#[derive(Clone, Debug)]
pub(crate) enum MappingChange {
    /// A new one.
    Add(TableMapping),
    /// Its table is left out of runs.
    Pause(String, Paused),
    /// Its table is back, and loaded again.
    Resume(String),
    /// Its table is loaded again.
    Reload(String),
    /// It goes.
    Remove(String),
}

impl MappingChange {
    /// What it makes of a list of mappings.
    pub(crate) fn apply(&self, all: &mut Vec<TableMapping>) {
        match self {
            MappingChange::Add(new) => all.push(new.clone()),
            MappingChange::Remove(id) => all.retain(|one| one.id != *id),
            MappingChange::Pause(id, _) | MappingChange::Resume(id) | MappingChange::Reload(id) => {
                for one in all.iter_mut().filter(|one| one.id == *id) {
                    match self {
                        MappingChange::Pause(_, paused) => one.paused = Some(paused.clone()),
                        MappingChange::Resume(_) => (one.paused, one.reload) = (None, true),
                        _ => one.reload = true,
                    }
                }
            }
        }
    }
}

/// Stores one change; of a mapping that is gone there is nothing to be changed.
async fn change(tx: &mut Transaction<'_, Any>, task: &str, change: &MappingChange) -> Result<()> {
    let of = |sql, id: &String| sqlx::query(sql).bind(task.to_owned()).bind(id.clone());
    let query = match change {
        MappingChange::Add(new) => return insert(tx, task, new).await,
        MappingChange::Pause(id, paused) => {
            let sql = "UPDATE mapping SET paused = $3 WHERE task = $1 AND id = $2";
            of(sql, id).bind(stored::paused_write(paused))
        }
        MappingChange::Resume(id) => {
            let sql = "UPDATE mapping SET paused = NULL, reload = 1 WHERE task = $1 AND id = $2";
            of(sql, id)
        }
        MappingChange::Reload(id) => of(
            "UPDATE mapping SET reload = 1 WHERE task = $1 AND id = $2",
            id,
        ),
        MappingChange::Remove(id) => of("DELETE FROM mapping WHERE task = $1 AND id = $2", id),
    };
    query.execute(&mut **tx).await?;
    Ok(())
}

/// Whether a mapping that is paused returns by itself; `None`: it is not paused.
async fn returns(tx: &mut Transaction<'_, Any>, task: &str, id: &str) -> Result<Option<bool>> {
    let row = sqlx::query("SELECT paused FROM mapping WHERE task = $1 AND id = $2")
        .bind(task.to_owned())
        .bind(id.to_owned())
        .fetch_optional(&mut **tx)
        .await?;
    let paused = row.map(|row| text_or_none(&row, "paused")).transpose()?;
    let paused = paused.flatten().map(|text| stored::paused_read(&text));
    Ok(paused.transpose()?.map(|paused| paused.returns))
}

async fn insert(tx: &mut Transaction<'_, Any>, task: &str, new: &TableMapping) -> Result<()> {
    sqlx::query(
        "INSERT INTO mapping (id, task, source_table, target_table, source_columns, \
         target_columns, links, status, percent, updated_ms, reload) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
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
    .bind(i64::from(new.reload))
    .execute(&mut **tx)
    .await
    .map_err(|error| taken(error, new))?;
    Ok(())
}

impl Catalog {
    /// All of them or none. `Mapping` if the same pair of tables is mapped already.
    pub(crate) async fn mapping_create(&self, task: &str, new: &[TableMapping]) -> Result<()> {
        let mut tx = self.writer.begin().await?;
        for one in new {
            insert(&mut tx, task, one).await?;
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
        let rows = sqlx::query(LIST)
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

    /// Pauses tables, each by its mapping; one that is gone meanwhile is passed, and of one that somebody has paused the
    /// reason stays.
    pub(crate) async fn mappings_pause(
        &self,
        task: &str,
        mappings: &[(String, Paused)],
    ) -> Result<()> {
        let mut tx = self.writer.begin().await?;
        for (id, paused) in mappings {
            if returns(&mut tx, task, id).await? == Some(false) {
                continue;
            }
            change(
                &mut tx,
                task,
                &MappingChange::Pause(id.clone(), paused.clone()),
            )
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Tables that are paused return, and are loaded again; one that somebody has paused meanwhile stays paused.
    pub(crate) async fn mappings_resume(&self, task: &str, ids: &[String]) -> Result<()> {
        let mut tx = self.writer.begin().await?;
        for id in ids {
            if returns(&mut tx, task, id).await? == Some(true) {
                change(&mut tx, task, &MappingChange::Resume(id.clone())).await?;
            }
        }
        tx.commit().await?;
        Ok(())
    }

    /// Stores what `decide` makes of all mappings of a task, and of whether it is to run, in one
    /// transaction: of calls at the same time, each decides about what the other has left.
    /// `NotFound(Task)`; `Mapping` if a pair of tables is mapped already; and the errors of `decide`.
    pub(crate) async fn mappings_change(
        &self,
        task: &str,
        decide: impl FnOnce(Vec<TableMapping>, bool) -> Result<Vec<MappingChange>> + Send,
    ) -> Result<()> {
        let mut tx = self.writer.begin().await?;
        let running = sqlx::query("SELECT desired FROM task WHERE id = $1 AND deleted = 0")
            .bind(task.to_owned())
            .fetch_optional(&mut *tx)
            .await?;
        let running = flag(&running.ok_or(Error::NotFound(Subject::Task))?, "desired")?;
        let rows = sqlx::query(LIST)
            .bind(task.to_owned())
            .fetch_all(&mut *tx)
            .await?;
        let all = rows.iter().map(mapping).collect::<Result<_>>()?;
        for one in &decide(all, running)? {
            change(&mut tx, task, one).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// How many mappings of each task are paused, by the task's id; tasks without are left out.
    pub(crate) async fn mappings_paused(&self) -> Result<HashMap<String, u64>> {
        let rows = sqlx::query(
            "SELECT task, COUNT(*) AS n FROM mapping WHERE paused IS NOT NULL GROUP BY task",
        )
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| Ok((text(row, "task")?, super::count(row, "n")?)))
            .collect()
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
