//! Executions of tasks, and their steps.

use std::collections::HashMap;

use sqlx::any::AnyRow;

use super::{Catalog, count, now_ms, number, number_or_none, text};
use crate::error::{Error, Result, Subject};
use crate::model::{ExecuteStatus, Execution, Figures, Node, NodeStatus, Page, Step, Window};

/// The contract's code of an execution that was not begun, as another one has not ended.
pub(crate) const REJECTED: u16 = 907;

/// Executions kept of one task; the oldest go first.
const KEPT: i64 = 500;
const KEPT_REJECTED: i64 = 100;

fn figures(row: &AnyRow) -> Result<Figures> {
    Ok(Figures {
        rows: count(row, "row_count")?,
        bytes: count(row, "byte_count")?,
        dirty: count(row, "dirty_count")?,
    })
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Any, sqlx::any::AnyArguments>;

/// Has a task run that does not.
pub(super) fn task_start(task: &str, forget: bool) -> Query<'static> {
    sqlx::query(
        "UPDATE task SET desired = 1, forget = CASE WHEN $2 = 1 THEN 1 ELSE forget END \
         WHERE id = $1 AND desired = 0 AND deleted = 0",
    )
    .bind(task.to_owned())
    .bind(i64::from(forget))
}

pub(super) fn execution_insert(task: &str, new: &Execution) -> Query<'static> {
    sqlx::query(
        "INSERT INTO execution (id, task, dispatched_ms, started_ms, ended_ms, status, node, \
         node_status, code, remarks, row_count, byte_count, dirty_count) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, 0, 0)",
    )
    .bind(new.id.clone())
    .bind(task.to_owned())
    .bind(new.dispatched_ms)
    .bind(new.started_ms)
    .bind(new.ended_ms)
    .bind(new.status.as_str().to_owned())
    .bind(new.node.as_str().to_owned())
    .bind(new.node_status.as_str().to_owned())
    .bind(i64::from(new.code))
    .bind(new.remarks.clone())
}

/// Drops the oldest of those that are too many, rejected ones apart from the others; one that goes on is never among
/// them.
pub(super) fn executions_trim(task: &str) -> Query<'static> {
    sqlx::query(
        "DELETE FROM execution WHERE task = $1 AND ended_ms IS NOT NULL AND id NOT IN \
         (SELECT id FROM execution WHERE task = $1 AND code <> $3 ORDER BY dispatched_ms DESC LIMIT $2) \
         AND id NOT IN \
         (SELECT id FROM execution WHERE task = $1 AND code = $3 ORDER BY dispatched_ms DESC LIMIT $4)",
    )
    .bind(task.to_owned())
    .bind(KEPT)
    .bind(i64::from(REJECTED))
    .bind(KEPT_REJECTED)
}

fn word<T>(found: Option<T>) -> Result<T> {
    found.ok_or_else(|| Error::Internal("the catalogue has a word of a newer version".to_owned()))
}

fn execution(row: &AnyRow) -> Result<Execution> {
    Ok(Execution {
        id: text(row, "id")?,
        dispatched_ms: number(row, "dispatched_ms")?,
        started_ms: number(row, "started_ms")?,
        ended_ms: number_or_none(row, "ended_ms")?,
        status: word(ExecuteStatus::parse(&text(row, "status")?))?,
        node: word(Node::parse(&text(row, "node")?))?,
        node_status: word(NodeStatus::parse(&text(row, "node_status")?))?,
        code: u16::try_from(number(row, "code")?).unwrap_or(0),
        remarks: text(row, "remarks")?,
        figures: figures(row)?,
        steps: Vec::new(),
    })
}

fn step(row: &AnyRow) -> Result<Step> {
    Ok(Step {
        id: text(row, "id")?,
        node: word(Node::parse(&text(row, "node")?))?,
        node_status: word(NodeStatus::parse(&text(row, "node_status")?))?,
        code: u16::try_from(number(row, "code")?).unwrap_or(0),
        stage: text(row, "stage")?,
        remarks: text(row, "remarks")?,
        figures: figures(row)?,
        begin_ms: number(row, "begin_ms")?,
        end_ms: number_or_none(row, "end_ms")?,
    })
}

impl Catalog {
    /// Stores a new execution and that its task should run, together; `false`: it should already. `forget`: it
    /// begins anew.
    pub(crate) async fn execution_start(
        &self,
        task: &str,
        new: &Execution,
        forget: bool,
    ) -> Result<bool> {
        let mut tx = self.writer.begin().await?;
        let started = task_start(task, forget).execute(&mut *tx).await?;
        if started.rows_affected() == 0 {
            return Ok(false);
        }
        execution_insert(task, new).execute(&mut *tx).await?;
        executions_trim(task).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Ends executions whose task should not run and that nobody ended: the process was killed while
    /// it stopped them.
    pub(crate) async fn executions_orphaned(&self) -> Result<()> {
        sqlx::query(
            "UPDATE execution SET status = 'CANCELLED', node_status = 'RUNTIME_CANCEL', code = 16, \
             ended_ms = $1 WHERE ended_ms IS NULL AND task IN (SELECT id FROM task WHERE desired = 0)",
        )
        .bind(now_ms())
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Likewise, of one task that was stopped before it had begun.
    pub(crate) async fn executions_orphaned_of(&self, task: &str) -> Result<()> {
        sqlx::query(
            "UPDATE execution SET status = 'CANCELLED', node_status = 'RUNTIME_CANCEL', code = 16, \
             ended_ms = $1 WHERE ended_ms IS NULL AND task = $2",
        )
        .bind(now_ms())
        .bind(task.to_owned())
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// The last execution of a task that was begun, with its steps.
    pub(crate) async fn execution_last(&self, task: &str) -> Result<Option<Execution>> {
        let row = sqlx::query(
            "SELECT * FROM execution WHERE task = $1 AND code <> $2 \
             ORDER BY dispatched_ms DESC, id LIMIT 1",
        )
        .bind(task.to_owned())
        .bind(i64::from(REJECTED))
        .fetch_optional(&self.reader)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let mut found = execution(&row)?;
        found.steps = self.steps(&found.id).await?;
        Ok(Some(found))
    }

    /// The last execution of each task of an instance, by the task's id, without steps.
    pub(super) async fn executions_last(
        &self,
        instance: &str,
    ) -> Result<HashMap<String, Execution>> {
        let rows = sqlx::query(
            "SELECT e.* FROM execution e JOIN task t ON t.id = e.task WHERE t.instance = $1 \
             AND e.code <> $2 AND NOT EXISTS (SELECT 1 FROM execution n WHERE n.task = e.task \
             AND n.code <> $2 AND n.dispatched_ms > e.dispatched_ms)",
        )
        .bind(instance.to_owned())
        .bind(i64::from(REJECTED))
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| Ok((text(row, "task")?, execution(row)?)))
            .collect()
    }

    async fn steps(&self, execution: &str) -> Result<Vec<Step>> {
        let rows = sqlx::query("SELECT * FROM step WHERE execution = $1 ORDER BY begin_ms, id")
            .bind(execution.to_owned())
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(step).collect()
    }

    /// Executions that began in `[begin_ms, end_ms]`, newest first, with their steps.
    pub(crate) async fn execution_list(
        &self,
        task: &str,
        begin_ms: i64,
        end_ms: i64,
        window: Window,
    ) -> Result<Page<Execution>> {
        let total = sqlx::query(
            "SELECT COUNT(*) AS n FROM execution WHERE task = $1 AND dispatched_ms >= $2 \
             AND dispatched_ms <= $3",
        )
        .bind(task.to_owned())
        .bind(begin_ms)
        .bind(end_ms)
        .fetch_one(&self.reader)
        .await?;
        let rows = sqlx::query(
            "SELECT * FROM execution WHERE task = $1 AND dispatched_ms >= $2 \
             AND dispatched_ms <= $3 ORDER BY dispatched_ms DESC, id LIMIT $4 OFFSET $5",
        )
        .bind(task.to_owned())
        .bind(begin_ms)
        .bind(end_ms)
        .bind(i64::from(window.limit))
        .bind(i64::from(window.offset))
        .fetch_all(&self.reader)
        .await?;
        let mut entities = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut one = execution(row)?;
            one.steps = self.steps(&one.id).await?;
            entities.push(one);
        }
        Ok(Page {
            total: count(&total, "n")?,
            entities,
        })
    }

    /// One execution of a task, with its steps. `NotFound(Execution)`.
    pub(crate) async fn execution_show(&self, task: &str, id: &str) -> Result<Execution> {
        let row = sqlx::query("SELECT * FROM execution WHERE task = $1 AND id = $2")
            .bind(task.to_owned())
            .bind(id.to_owned())
            .fetch_optional(&self.reader)
            .await?;
        let mut found = execution(&row.ok_or(Error::NotFound(Subject::Execution))?)?;
        found.steps = self.steps(id).await?;
        Ok(found)
    }

    /// How many executions of a task came to what.
    pub(crate) async fn executions_counted(&self, task: &str) -> Result<Vec<(ExecuteStatus, u64)>> {
        let rows = sqlx::query(
            "SELECT status, COUNT(*) AS n FROM execution WHERE task = $1 GROUP BY status",
        )
        .bind(task.to_owned())
        .fetch_all(&self.reader)
        .await?;
        let counted = |row: &AnyRow| {
            let status = text(row, "status")?;
            let status = ExecuteStatus::parse(&status)
                .ok_or_else(|| Error::Internal(format!("status {status:?} in the catalogue")))?;
            Ok((status, count(row, "n")?))
        };
        rows.iter().map(counted).collect()
    }
}
