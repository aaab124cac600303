//! Removing what deleted tasks left at both ends, until it is gone.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thalweg_core::Side;
use thalweg_core::checkpoint::TaskKey;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::Supervisor;
use crate::app::Inner;
use crate::catalog::{Releasing, StoredTask, now_ms};
use crate::error::{Error, Result};

/// How long after a failure it is tried again, in milliseconds.
const AGAIN_MS: i64 = 15_000;

/// How long one try may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Which deleted tasks are being worked on.
#[derive(Clone, Default)]
pub(super) struct Release(Arc<Mutex<HashSet<String>>>);

impl Release {
    /// Begins a try for every deleted task whose time has come.
    pub(super) async fn look(
        &self,
        supervisor: &Arc<Supervisor>,
        runs: &mut JoinSet<()>,
    ) -> Result<()> {
        for one in supervisor.inner.catalog.tasks_releasing().await? {
            let id = one.task.shown.id.clone();
            let due = one.tried_ms.is_none_or(|at| now_ms() - at >= AGAIN_MS);
            let mut busy = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if !due || supervisor.runs(&id) || !busy.insert(id.clone()) {
                continue;
            }
            let (inner, busy) = (Arc::clone(&supervisor.inner), Arc::clone(&self.0));
            let ending = supervisor.ending.clone();
            runs.spawn(async move {
                tokio::select! {
                    () = attempt(&inner, &one) => {}
                    () = ending.cancelled() => {}
                }
                busy.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&id);
            });
        }
        Ok(())
    }
}

async fn attempt(inner: &Inner, one: &Releasing) {
    let id = &one.task.shown.id;
    let outcome = tokio::time::timeout(LIMIT, release(inner, one)).await;
    let outcome = outcome.unwrap_or_else(|_| {
        Err(Error::Internal(
            "the data sources did not answer in time".to_owned(),
        ))
    });
    let stored = match outcome {
        Ok(()) => {
            info!(task = %id, "traces of the deleted task are removed");
            inner.catalog.task_remove(id).await
        }
        Err(error) => {
            warn!(task = %id, error = %error, "traces of the deleted task stay; will try again");
            inner
                .catalog
                .task_release_failed(id, &error.to_string())
                .await
        }
    };
    if let Err(error) = stored {
        warn!(task = %id, error = %error, "the catalogue could not be written");
    }
}

async fn release(inner: &Inner, one: &Releasing) -> Result<()> {
    let task = &one.task;
    // One that was never run has left nothing.
    if inner
        .catalog
        .execution_last(&task.shown.id)
        .await?
        .is_none()
    {
        return Ok(());
    }
    let (Some(source), Some(target)) = (&task.shown.source, &task.shown.target) else {
        return Ok(());
    };
    let key = TaskKey {
        server: inner.server.clone(),
        task: task.shown.id.clone(),
    };
    // Each end for itself, the source first: what is left there may hold its log.
    let (source, target) = (
        at_source(inner, task, &source.id).await,
        at_target(inner, task, &target.id, &key).await,
    );
    match (source, target) {
        (Err(source), Err(target)) => Err(Error::Internal(format!("{source}; {target}"))),
        (source, target) => source.and(target),
    }
}

fn failed(error: thalweg_core::Error) -> Error {
    Error::Internal(error.chain())
}

/// Takes from its source what a task that goes on has left there; its failure costs log at the source, until the
/// task is run again or deleted.
pub(super) async fn release_source(inner: &Inner, task: &StoredTask) {
    let Some(source) = &task.shown.source else {
        return;
    };
    let released = tokio::time::timeout(LIMIT, at_source(inner, task, &source.id)).await;
    let error = match released {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the data source did not answer in time".to_owned(),
    };
    warn!(task = %task.shown.id, error, "the source keeps its log for the task until its next run");
}

async fn at_source(inner: &Inner, task: &StoredTask, id: &str) -> Result<()> {
    let stored = inner.catalog.datasource_show(&task.instance, id).await?;
    let (connector, config) = inner.reach(&stored, format!("thalweg/{}", task.shown.id))?;
    let source = connector.source(&config).map_err(failed)?;
    let released = source.release().await;
    released.map_err(|error| failed(error.at(Side::Source)))
}

async fn at_target(inner: &Inner, task: &StoredTask, id: &str, key: &TaskKey) -> Result<()> {
    let stored = inner.catalog.datasource_show(&task.instance, id).await?;
    let (connector, config) = inner.reach(&stored, format!("thalweg/{}", key.task))?;
    let target = connector.target(&config).map_err(failed)?;
    let released = target.release(key).await;
    released.map_err(|error| failed(error.at(Side::Target)))
}
