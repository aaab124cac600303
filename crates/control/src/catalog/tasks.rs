//! Tasks.

use std::collections::BTreeMap;

use thalweg_core::mapping::{Operations, TaskOptions};

use sqlx::any::AnyRow;

use super::{Catalog, flag, is_taken, now_ms, number, number_or_none, text, text_or_none};
use crate::error::{Error, Result, Subject};
use crate::model::{DataSourceRef, Task, TaskKind};
use crate::stored;

/// A task with what callers never see.
#[derive(Clone, Debug)]
pub(crate) struct StoredTask {
    pub(crate) shown: Task,
    pub(crate) instance: String,
    /// Whether create was called.
    pub(crate) created: bool,
    /// Application named at create, checked once the source is known.
    pub(crate) source_app: Option<String>,
    /// Likewise.
    pub(crate) target_app: Option<String>,
    /// Whether the target has a checkpoint.
    pub(crate) begun: bool,
    /// Whether the next run forgets the position first.
    pub(crate) forget: bool,
}

/// A deleted task whose traces are being removed.
#[derive(Clone, Debug)]
pub(crate) struct Releasing {
    pub(crate) task: StoredTask,
    pub(crate) error: Option<String>,
    pub(crate) tried_ms: Option<i64>,
}

const SELECT: &str = "SELECT t.*, \
    s.name AS s_name, s.kind AS s_kind, s.application AS s_app, sa.name AS s_app_name, \
    d.name AS d_name, d.kind AS d_kind, d.application AS d_app, da.name AS d_app_name \
    FROM task t LEFT JOIN datasource s ON s.id = t.source LEFT JOIN application sa ON sa.id = s.application \
    LEFT JOIN datasource d ON d.id = t.target LEFT JOIN application da ON da.id = d.application ";

/// `SELECT` with a condition; both are texts of ours.
fn select(condition: &'static str) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(format!("{SELECT}{condition}"))
}

fn end(row: &AnyRow, id: &str, prefix: &str) -> Result<Option<DataSourceRef>> {
    let Some(id) = text_or_none(row, id)? else {
        return Ok(None);
    };
    Ok(Some(DataSourceRef {
        id,
        name: text(row, &format!("{prefix}_name"))?,
        kind: text(row, &format!("{prefix}_kind"))?,
        app_id: text(row, &format!("{prefix}_app"))?,
        app_name: text(row, &format!("{prefix}_app_name"))?,
    }))
}

fn task(row: &AnyRow) -> Result<StoredTask> {
    let name = text_or_none(row, "name")?;
    Ok(StoredTask {
        instance: text(row, "instance")?,
        created: name.is_some(),
        source_app: text_or_none(row, "source_app")?,
        target_app: text_or_none(row, "target_app")?,
        begun: flag(row, "begun")?,
        forget: flag(row, "forget")?,
        shown: Task {
            id: text(row, "id")?,
            name: name.unwrap_or_default(),
            description: text_or_none(row, "description")?,
            tag: text_or_none(row, "tag")?,
            operations: Operations {
                insert: flag(row, "insert_rows")?,
                update: flag(row, "update_rows")?,
                delete: flag(row, "delete_rows")?,
            },
            source: end(row, "source", "s")?,
            target: end(row, "target", "d")?,
            server_id: number_or_none(row, "server_id")?.and_then(|id| u32::try_from(id).ok()),
            options: stored::options_read(&text(row, "options")?)?,
            kind: match text(row, "kind")?.as_str() {
                "timing" => TaskKind::Timing {
                    incremental: flag(row, "incremental")?,
                },
                "realtime" => TaskKind::Realtime,
                _ => TaskKind::Composite,
            },
            detail: None,
            running: flag(row, "desired")?,
            scheduled: flag(row, "scheduled")?,
            dispatch: None,
            execution: None,
            created_ms: number(row, "created_ms")?,
            updated_ms: number(row, "updated_ms")?,
        },
    })
}

impl Catalog {
    /// Makes the task, or replaces what callers can change of it. Whether it should run and whether
    /// it has begun are the supervisor's: what a caller read of them may be old. `Invalid(task_name)`
    /// if the name is taken.
    pub(crate) async fn task_put(&self, task: &StoredTask) -> Result<()> {
        let shown = &task.shown;
        let id_of = |end: &Option<DataSourceRef>| end.as_ref().map(|end| end.id.clone());
        let (kind, incremental) = match shown.kind {
            TaskKind::Composite => ("composite", false),
            TaskKind::Realtime => ("realtime", false),
            TaskKind::Timing { incremental } => ("timing", incremental),
        };
        let mut tx = self.writer.begin().await?;
        sqlx::query(
            "INSERT INTO task (id, instance, name, description, tag, insert_rows, update_rows, \
             delete_rows, source, target, source_app, target_app, server_id, options, desired, \
             begun, forget, deleted, created_ms, updated_ms, kind, incremental) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, \
             $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, 0, $18, $19, $20, $21) \
             ON CONFLICT (id) DO UPDATE SET name = $3, description = $4, tag = $5, \
             insert_rows = $6, update_rows = $7, delete_rows = $8, source = $9, target = $10, \
             source_app = $11, target_app = $12, server_id = $13, options = $14, \
             forget = $17, created_ms = $18, updated_ms = $19, kind = $20, \
             incremental = $21",
        )
        .bind(shown.id.clone())
        .bind(task.instance.clone())
        .bind(task.created.then(|| shown.name.clone()))
        .bind(shown.description.clone())
        .bind(shown.tag.clone())
        .bind(i64::from(shown.operations.insert))
        .bind(i64::from(shown.operations.update))
        .bind(i64::from(shown.operations.delete))
        .bind(id_of(&shown.source))
        .bind(id_of(&shown.target))
        .bind(task.source_app.clone())
        .bind(task.target_app.clone())
        .bind(shown.server_id.map(i64::from))
        .bind(stored::options_write(&shown.options))
        .bind(i64::from(shown.running))
        .bind(i64::from(task.begun))
        .bind(i64::from(task.forget))
        .bind(shown.created_ms)
        .bind(shown.updated_ms)
        .bind(kind.to_owned())
        .bind(i64::from(incremental))
        .execute(&mut *tx)
        .await
        .map_err(|error| match is_taken(&error) {
            true => Error::invalid("task_name", "a task of this name exists; choose another"),
            false => error.into(),
        })?;
        if let Some(detail) = &shown.detail {
            sqlx::query(
                "INSERT INTO task_detail (task, detail) VALUES ($1, $2) \
                 ON CONFLICT (task) DO UPDATE SET detail = $2",
            )
            .bind(shown.id.clone())
            .bind(detail.clone())
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// One that exists for callers, drafts included.
    pub(crate) async fn task_show(&self, instance: &str, id: &str) -> Result<StoredTask> {
        let row = sqlx::query(select(
            "WHERE t.instance = $1 AND t.id = $2 AND t.deleted = 0",
        ))
        .bind(instance.to_owned())
        .bind(id.to_owned())
        .fetch_optional(&self.reader)
        .await?;
        let found = row.as_ref().map(task).transpose()?;
        let mut found = found.ok_or(Error::NotFound(Subject::Task))?;
        found.shown.execution = self.execution_last(id).await?;
        found.shown.dispatch = self.dispatch_show(id).await?;
        let detail = sqlx::query("SELECT detail FROM task_detail WHERE task = $1")
            .bind(id.to_owned())
            .fetch_optional(&self.reader)
            .await?;
        found.shown.detail = detail.map(|row| text(&row, "detail")).transpose()?;
        Ok(found)
    }

    /// All that were created, oldest first.
    pub(crate) async fn task_list(&self, instance: &str) -> Result<Vec<StoredTask>> {
        let rows = sqlx::query(select(
            "WHERE t.instance = $1 AND t.deleted = 0 AND t.name IS NOT NULL",
        ))
        .bind(instance.to_owned())
        .fetch_all(&self.reader)
        .await?;
        let mut last = self.executions_last(instance).await?;
        let mut dispatches = self.dispatch_list(instance).await?;
        let mut all = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut one = task(row)?;
            one.shown.execution = last.remove(&one.shown.id);
            one.shown.dispatch = dispatches.remove(&one.shown.id);
            all.push(one);
        }
        all.sort_by(|a: &StoredTask, b| {
            (a.shown.created_ms, &a.shown.id).cmp(&(b.shown.created_ms, &b.shown.id))
        });
        Ok(all)
    }

    /// Whether an id is in use, also by a task that is being removed.
    pub(crate) async fn task_id_taken(&self, id: &str) -> Result<bool> {
        let row = sqlx::query("SELECT 1 FROM task WHERE id = $1")
            .bind(id.to_owned())
            .fetch_optional(&self.reader)
            .await?;
        Ok(row.is_some())
    }

    /// How many tasks an instance has, drafts included.
    pub(crate) async fn task_count(&self, instance: &str) -> Result<u64> {
        let row = sqlx::query("SELECT COUNT(*) AS n FROM task WHERE instance = $1 AND deleted = 0")
            .bind(instance.to_owned())
            .fetch_one(&self.reader)
            .await?;
        super::count(&row, "n")
    }

    /// Drops drafts made before `before_ms` that were never created.
    pub(crate) async fn task_drop_drafts(&self, before_ms: i64) -> Result<()> {
        sqlx::query("DELETE FROM task WHERE name IS NULL AND deleted = 0 AND created_ms < $1")
            .bind(before_ms)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Tasks that should run: their names by their ids.
    pub(crate) async fn tasks_desired(&self) -> Result<BTreeMap<String, String>> {
        let rows = sqlx::query("SELECT id, name FROM task WHERE desired = 1 AND deleted = 0")
            .fetch_all(&self.reader)
            .await?;
        rows.iter()
            .map(|row| {
                Ok((
                    text(row, "id")?,
                    text_or_none(row, "name")?.unwrap_or_default(),
                ))
            })
            .collect()
    }

    /// A task that should run, as it is now; `None`: it should not, or is gone.
    pub(crate) async fn task_desired(&self, id: &str) -> Result<Option<StoredTask>> {
        let row = sqlx::query(select(
            "WHERE t.id = $1 AND t.desired = 1 AND t.deleted = 0",
        ))
        .bind(id.to_owned())
        .fetch_optional(&self.reader)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let mut found = task(&row)?;
        found.shown.execution = self.execution_last(id).await?;
        Ok(Some(found))
    }

    /// A task whose schedule is on; `None`: it is off, or the task is gone.
    pub(crate) async fn task_scheduled(&self, id: &str) -> Result<Option<Task>> {
        let row = sqlx::query(select(
            "WHERE t.id = $1 AND t.scheduled = 1 AND t.deleted = 0",
        ))
        .bind(id.to_owned())
        .fetch_optional(&self.reader)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let mut found = task(&row)?.shown;
        found.execution = self.execution_last(id).await?;
        Ok(Some(found))
    }

    /// Whether the task should run.
    pub(crate) async fn task_desire(&self, id: &str, running: bool) -> Result<()> {
        sqlx::query("UPDATE task SET desired = $2 WHERE id = $1")
            .bind(id.to_owned())
            .bind(i64::from(running))
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// The position is to be forgotten: the task begins anew.
    pub(crate) async fn task_forgets(&self, id: &str) -> Result<()> {
        sqlx::query("UPDATE task SET forget = 1 WHERE id = $1")
            .bind(id.to_owned())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// The position is forgotten at the target: the next run begins anew.
    pub(crate) async fn task_forgotten(&self, id: &str) -> Result<()> {
        sqlx::query("UPDATE task SET forget = 0, begun = 0 WHERE id = $1")
            .bind(id.to_owned())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    pub(crate) async fn task_server_id_set(&self, id: &str, server_id: u32) -> Result<()> {
        sqlx::query("UPDATE task SET server_id = $2 WHERE id = $1")
            .bind(id.to_owned())
            .bind(i64::from(server_id))
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    pub(crate) async fn task_options_set(&self, id: &str, options: &TaskOptions) -> Result<()> {
        sqlx::query("UPDATE task SET options = $2, updated_ms = $3 WHERE id = $1")
            .bind(id.to_owned())
            .bind(stored::options_write(options))
            .bind(now_ms())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Gone for callers; its name is free at once.
    pub(crate) async fn task_delete(&self, id: &str) -> Result<()> {
        sqlx::query(
            "UPDATE task SET deleted = 1, desired = 0, description = name, name = NULL \
             WHERE id = $1",
        )
        .bind(id.to_owned())
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Deleted tasks that may have left traces; their name stands in `description`.
    pub(crate) async fn tasks_releasing(&self) -> Result<Vec<Releasing>> {
        let rows = sqlx::query(select("WHERE t.deleted = 1"))
            .fetch_all(&self.reader)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Releasing {
                    task: task(row)?,
                    error: text_or_none(row, "release_error")?,
                    tried_ms: number_or_none(row, "release_ms")?,
                })
            })
            .collect()
    }

    /// Removing its traces failed; it will be tried again.
    pub(crate) async fn task_release_failed(&self, id: &str, error: &str) -> Result<()> {
        sqlx::query("UPDATE task SET release_error = $2, release_ms = $3 WHERE id = $1")
            .bind(id.to_owned())
            .bind(error.to_owned())
            .bind(now_ms())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Its traces are gone, and so is it.
    pub(crate) async fn task_remove(&self, id: &str) -> Result<()> {
        sqlx::query("DELETE FROM task WHERE id = $1")
            .bind(id.to_owned())
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::fresh;

    #[tokio::test]
    async fn what_a_caller_read_does_not_undo_what_the_supervisor_wrote() {
        let (folder, catalog) = fresh().await;
        for sql in [
            "INSERT INTO project (id, name) VALUES ('p', 'p')",
            "INSERT INTO instance (id, project) VALUES ('i', 'p')",
        ] {
            sqlx::query(sql).execute(&catalog.writer).await.unwrap();
        }
        let read = StoredTask {
            instance: "i".into(),
            created: true,
            source_app: None,
            target_app: None,
            begun: false,
            forget: false,
            shown: Task {
                id: "task".into(),
                name: "name".into(),
                description: None,
                tag: None,
                operations: Operations::ALL,
                source: None,
                target: None,
                server_id: None,
                options: TaskOptions::default(),
                kind: TaskKind::Composite,
                detail: None,
                running: false,
                scheduled: false,
                dispatch: None,
                execution: None,
                created_ms: 1,
                updated_ms: 1,
            },
        };
        catalog.task_put(&read).await.unwrap();
        catalog.task_begun("task").await.unwrap();
        catalog.task_desire("task", true).await.unwrap();
        catalog.task_put(&read).await.unwrap();
        let now = catalog.task_show("i", "task").await.unwrap();
        assert!(now.begun && now.shown.running);
        catalog.close().await;
        std::fs::remove_dir_all(folder).unwrap();
    }
}
