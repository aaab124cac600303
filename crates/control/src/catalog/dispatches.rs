//! Schedules, and what is due by them.

use std::collections::HashMap;

use sqlx::any::AnyRow;

use super::executions::{execution_insert, executions_trim, task_start};
use super::{Catalog, number, number_or_none, text, text_or_none};
use crate::error::{Error, Result};
use crate::model::Execution;
use crate::schedule::{Dispatch, Unit, When};

/// A task whose time has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// Its schedule.
    pub(crate) dispatch: Dispatch,
    /// When that was, or will be; milliseconds since the Unix epoch.
    pub(crate) due_ms: i64,
}

fn dispatch(row: &AnyRow) -> Result<Dispatch> {
    let unit = text_or_none(row, "unit")?;
    let unit = unit.as_deref().and_then(Unit::parse);
    let every = number_or_none(row, "every")?.and_then(|n| u32::try_from(n).ok());
    let when = match (text_or_none(row, "cron")?, every, unit) {
        (Some(cron), ..) => When::Cron(cron),
        (None, Some(every), Some(unit)) => When::Every(every, unit),
        _ => {
            return Err(Error::Internal(
                "a schedule in the catalogue has no time".to_owned(),
            ));
        }
    };
    Ok(Dispatch {
        id: text(row, "id")?,
        task_id: text(row, "task")?,
        start_ms: number_or_none(row, "start_ms")?,
        when,
        remark: text_or_none(row, "remark")?,
        created_ms: number(row, "created_ms")?,
        updated_ms: number(row, "updated_ms")?,
    })
}

impl Catalog {
    /// Stores the schedule of a task, instead of the one it had. `next_ms`: its next time, which counts if it is on.
    pub(crate) async fn dispatch_put(&self, new: &Dispatch, next_ms: Option<i64>) -> Result<()> {
        let (cron, every, unit) = match &new.when {
            When::Cron(cron) => (Some(cron.clone()), None, None),
            When::Every(every, unit) => (None, Some(i64::from(*every)), Some(unit.as_str())),
        };
        sqlx::query(
            "INSERT INTO dispatch (id, task, start_ms, unit, every, cron, remark, due_ms, created_ms, \
             updated_ms) SELECT $1, id, $3, $4, $5, $6, $7, \
             CASE WHEN scheduled = 1 THEN $8 ELSE NULL END, $9, $10 FROM task WHERE id = $2 \
             ON CONFLICT (task) DO UPDATE SET id = $1, start_ms = $3, unit = $4, every = $5, cron = $6, \
             remark = $7, due_ms = excluded.due_ms, updated_ms = $10",
        )
        .bind(new.id.clone())
        .bind(new.task_id.clone())
        .bind(new.start_ms)
        .bind(unit.map(str::to_owned))
        .bind(every)
        .bind(cron)
        .bind(new.remark.clone())
        .bind(next_ms)
        .bind(new.created_ms)
        .bind(new.updated_ms)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// The schedule of a task.
    pub(crate) async fn dispatch_show(&self, task: &str) -> Result<Option<Dispatch>> {
        let row = sqlx::query("SELECT * FROM dispatch WHERE task = $1")
            .bind(task.to_owned())
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(dispatch).transpose()
    }

    /// The schedules of an instance, by task.
    pub(super) async fn dispatch_list(&self, instance: &str) -> Result<HashMap<String, Dispatch>> {
        let rows = sqlx::query(
            "SELECT d.* FROM dispatch d JOIN task t ON t.id = d.task WHERE t.instance = $1",
        )
        .bind(instance.to_owned())
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| dispatch(row).map(|one| (one.task_id.clone(), one)))
            .collect()
    }

    /// Turns the schedule of a task on, with its next time, or off.
    pub(crate) async fn task_schedule(
        &self,
        task: &str,
        on: bool,
        due_ms: Option<i64>,
    ) -> Result<()> {
        let mut tx = self.writer.begin().await?;
        sqlx::query("UPDATE task SET scheduled = $2 WHERE id = $1 AND deleted = 0")
            .bind(task.to_owned())
            .bind(i64::from(on))
            .execute(&mut *tx)
            .await?;
        sqlx::query("UPDATE dispatch SET due_ms = $2 WHERE task = $1")
            .bind(task.to_owned())
            .bind(due_ms.filter(|_| on))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// The schedules that are on, the one that is due first first.
    pub(crate) async fn dispatches_due(&self) -> Result<Vec<Due>> {
        let rows = sqlx::query(
            "SELECT d.* FROM dispatch d JOIN task t ON t.id = d.task \
             WHERE t.scheduled = 1 AND t.deleted = 0 AND d.due_ms IS NOT NULL ORDER BY d.due_ms, d.id",
        )
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Due {
                    dispatch: dispatch(row)?,
                    due_ms: number(row, "due_ms")?,
                })
            })
            .collect()
    }

    /// Moves a schedule from a time that has come to the next, or turns it off if there is none, and has its task
    /// run; all of it or nothing. `None`: the schedule was moved or turned off meanwhile; `Some(false)`: the task runs
    /// already, and `rejected` is written.
    pub(crate) async fn dispatch_start(
        &self,
        due: &Due,
        next_ms: Option<i64>,
        (run, rejected): (&Execution, &Execution),
        forget: bool,
    ) -> Result<Option<bool>> {
        let task = &due.dispatch.task_id;
        let mut tx = self.writer.begin().await?;
        let moved = sqlx::query(
            "UPDATE dispatch SET due_ms = $3 WHERE task = $1 AND due_ms = $2 AND EXISTS \
             (SELECT 1 FROM task WHERE id = $1 AND scheduled = 1 AND deleted = 0)",
        )
        .bind(task.clone())
        .bind(due.due_ms)
        .bind(next_ms)
        .execute(&mut *tx)
        .await?;
        if moved.rows_affected() == 0 {
            return Ok(None);
        }
        let started = task_start(task, forget).execute(&mut *tx).await?;
        let started = started.rows_affected() > 0;
        let written = if started { run } else { rejected };
        execution_insert(task, written).execute(&mut *tx).await?;
        executions_trim(task).execute(&mut *tx).await?;
        if next_ms.is_none() {
            sqlx::query("UPDATE task SET scheduled = 0 WHERE id = $1")
                .bind(task.clone())
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(Some(started))
    }
}
