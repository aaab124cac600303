//! Quarantine: rows that the target has refused. They lie at the target, and leave it by way of the
//! running task.

use std::time::Duration;

use thalweg_core::checkpoint::TaskKey;
use thalweg_core::quarantine::Held;
use thalweg_engine::quarantine::{Settled, Ward, Way, groups};
use thalweg_engine::status::{TablePhase, TaskPhase, TaskStatus};
use tracing::info;

use super::App;
use super::datasources::{CALL_LIMIT, unreachable};
use crate::catalog::{StoredTask, page};
use crate::error::{Error, Result, Subject};
use crate::model::{QuarantinePage, QuarantinedRow, Scope, Window};

/// How long a running task is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

impl App {
    /// Rows in quarantine, also of a task that does not run, by their first change. With `table` those of
    /// target tables of that name: `schema.table`, or `table` alone. Their keys are values of the user.
    pub async fn quarantine_list(
        &self,
        scope: &Scope,
        task: &str,
        table: Option<&str>,
        window: Window,
    ) -> Result<QuarantinePage> {
        let stored = self.created(scope, task).await?;
        let mut all = self.quarantined(&stored).await?;
        if let Some(table) = table {
            let names = |row: &QuarantinedRow| {
                let target = &row.first.target;
                table == target.name || table == target.to_string()
            };
            all.retain(names);
        }
        Ok(QuarantinePage {
            changes: all.iter().map(QuarantinedRow::changes).sum(),
            rows: page(all, window),
        })
    }

    /// One of them, by the number of its first change.
    pub async fn quarantine_show(
        &self,
        scope: &Scope,
        task: &str,
        row: i64,
    ) -> Result<QuarantinedRow> {
        let stored = self.created(scope, task).await?;
        let all = self.quarantined(&stored).await?;
        let found = all.into_iter().find(|one| one.first.number == row);
        found.ok_or(Error::NotFound(Subject::QuarantinedRow))
    }

    /// Has a running task release or discard rows, by the numbers of their first changes; `None`: all
    /// that there are. `NotRunning`, `TooMany`, and `NotYet` if it has not answered after a minute.
    pub async fn quarantine_settle(
        &self,
        scope: &Scope,
        task: &str,
        way: Way,
        rows: Option<Vec<i64>>,
    ) -> Result<Settled> {
        let stored = self.created(scope, task).await?;
        let ward = self.of_running(&stored, |supervisor| supervisor.quarantine(task));
        let ward = ward.await?;
        self.settle(&stored, ward, way, rows).await
    }

    async fn settle(
        &self,
        task: &StoredTask,
        ward: Ward,
        way: Way,
        rows: Option<Vec<i64>>,
    ) -> Result<Settled> {
        let (id, name) = (&task.shown.id, &task.shown.name);
        let asked = rows
            .as_ref()
            .map_or("all".to_owned(), |rows| rows.len().to_string());
        let Some(answer) = ward.ask(way, rows) else {
            return Err(Error::TooMany(
                "other requests to its quarantine wait already; wait until one is answered"
                    .to_owned(),
            ));
        };
        // The end of the task ends the waiting.
        drop(ward);
        info!(task = %id, ?way, rows = %asked, "rows in quarantine: asked for");
        match tokio::time::timeout(PATIENCE, answer).await {
            // What came of it the task has logged.
            Ok(Ok(settled)) => Ok(settled),
            Ok(Err(_)) if self.supervisor.runs(id) => Err(Error::NotYet(format!(
                "task {name} met an error before it was done: look at what is left"
            ))),
            Ok(Err(_)) => Err(Error::NotRunning(format!(
                "task {name} stopped before it was done: run it, and look at what is left"
            ))),
            Err(_) => {
                let live = self.supervisor.live(id);
                Err(late(name, live.as_ref().map(|live| &live.status)))
            }
        }
    }

    /// All rows in quarantine, by their first change.
    async fn quarantined(&self, task: &StoredTask) -> Result<Vec<QuarantinedRow>> {
        // One that was never run has none.
        let (Some(target), Some(_)) = (&task.shown.target, &task.shown.execution) else {
            return Ok(Vec::new());
        };
        let stored = self.catalog().datasource_show(&task.instance, &target.id);
        let name = format!("thalweg/{}", task.shown.id);
        let (connector, mut config) = self.inner.reach(&stored.await?, name)?;
        config.timeout = config.timeout.min(CALL_LIMIT);
        let target = connector.target(&config).map_err(|e| unreachable(&e))?;
        let key = TaskKey {
            server: self.inner.server.clone(),
            task: task.shown.id.clone(),
        };
        let held = tokio::time::timeout(CALL_LIMIT, target.held(&key, false)).await;
        let held = held.map_err(|_| Error::Unreachable {
            reason: format!(
                "the target has not answered within {} seconds",
                CALL_LIMIT.as_secs()
            ),
            detail: None,
        })?;
        Ok(grouped(held.map_err(|e| unreachable(&e))?))
    }
}

/// The rows that changes are of.
fn grouped(held: Vec<Held>) -> Vec<QuarantinedRow> {
    let groups = groups(&held);
    let mut held: Vec<Option<Held>> = held.into_iter().map(Some).collect();
    let rows = groups.iter().filter_map(|group| {
        let mut changes = group
            .iter()
            .filter_map(|at| held.get_mut(*at).and_then(Option::take));
        Some(QuarantinedRow {
            first: changes.next()?,
            later: changes.collect(),
        })
    });
    rows.collect()
}

/// Why a running task that says this of itself has not answered.
fn late(name: &str, status: Option<&TaskStatus>) -> Error {
    let live = |status: &TaskStatus| {
        let mut tables = status.tables.iter();
        status.phase == TaskPhase::Streaming && tables.all(|t| t.phase == TablePhase::Live)
    };
    Error::NotYet(match status.is_some_and(live) {
        true => format!(
            "task {name} has not answered within {} seconds; what it has begun is done all the same: \
             look at what is left",
            PATIENCE.as_secs()
        ),
        false => format!(
            "rows leave quarantine while all tables of task {name} are live, and they are not yet: look \
             at its status, and try again later"
        ),
    })
}

#[cfg(test)]
mod tests;
