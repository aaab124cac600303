//! Schedules of ordinary tasks, and running what is due.
//!
//! A time at which the server was down, or too busy, is not made up for one by one: the task is run once, as
//! soon as that is noticed, and its execution says how many times it stands for. A time at which the run
//! before has not ended is not waited for: it is written down as rejected (code 907).

use tracing::{info, warn};

use super::{App, Inner};
use crate::catalog::{Due, REJECTED, new_id, now_ms};
use crate::error::{Error, Result, Subject};
use crate::model::{
    ExecuteStatus, Execution, NewDispatch, Node, NodeStatus, Scope, Task, TaskKind,
};
use crate::schedule::{Dispatch, When, parse_cron};

/// Times that are counted as missed.
const MISSED_MAX: u32 = 1_000;

impl App {
    /// Gives a scheduled task its schedule, which is turned on by starting the task.
    pub async fn dispatch_create(
        &self,
        scope: &Scope,
        task: &str,
        new: NewDispatch,
    ) -> Result<Dispatch> {
        let shown = self.created(scope, task).await?.shown;
        if !shown.kind.ends() {
            return Err(Error::invalid(
                "task_id",
                "only an ordinary task of the type TIMING has a schedule",
            ));
        }
        if shown.dispatch.is_some() {
            return Err(Error::invalid(
                "task_id",
                "the task has a schedule already; change it by PUT",
            ));
        }
        let now = now_ms();
        let dispatch = Dispatch {
            id: new_id(),
            task_id: shown.id.clone(),
            start_ms: new.start_ms,
            when: new.when,
            remark: new.remark,
            created_ms: now,
            updated_ms: now,
        };
        self.dispatch_put(dispatch).await
    }

    /// The schedule of a task. `NotFound(Dispatch)`.
    pub async fn dispatch_show(&self, scope: &Scope, task: &str) -> Result<Dispatch> {
        let shown = self.created(scope, task).await?.shown;
        shown.dispatch.ok_or(Error::NotFound(Subject::Dispatch))
    }

    /// Replaces a schedule; if it is on, the next time is by the new one.
    pub async fn dispatch_update(
        &self,
        scope: &Scope,
        task: &str,
        id: &str,
        new: NewDispatch,
    ) -> Result<Dispatch> {
        let shown = self.created(scope, task).await?.shown;
        let old = shown.dispatch.clone().filter(|dispatch| dispatch.id == id);
        let old = old.ok_or(Error::NotFound(Subject::Dispatch))?;
        let dispatch = Dispatch {
            start_ms: new.start_ms,
            when: new.when,
            remark: new.remark,
            updated_ms: now_ms(),
            ..old
        };
        self.dispatch_put(dispatch).await
    }

    async fn dispatch_put(&self, dispatch: Dispatch) -> Result<Dispatch> {
        if let When::Cron(text) = &dispatch.when {
            parse_cron(text)?;
        }
        let next = dispatch.next_after(self.inner.zone, now_ms())?;
        if next.is_none() {
            let field = match dispatch.when {
                When::Cron(_) => "cron",
                When::Every(..) => "period",
            };
            return Err(Error::invalid(
                field,
                "there is no such time that is still to come",
            ));
        }
        self.catalog().dispatch_put(&dispatch, next).await?;
        self.supervisor.hint();
        Ok(dispatch)
    }
}

/// Runs what is due at `now_ms`.
pub(crate) async fn dispatch_due(inner: &Inner, now_ms: i64) -> Result<()> {
    for due in inner.catalog.dispatches_due().await? {
        if due.due_ms > now_ms {
            break;
        }
        let task = &due.dispatch.task_id;
        if let Err(error) = dispatch(inner, &due, now_ms).await {
            warn!(task = %task, error = %error, "a scheduled run could not be dispatched");
        }
    }
    Ok(())
}

async fn dispatch(inner: &Inner, due: &Due, now_ms: i64) -> Result<()> {
    let (schedule, task) = (&due.dispatch, &due.dispatch.task_id);
    let mut missed = 0;
    let mut last = due.due_ms;
    let next = loop {
        match schedule.next_after(inner.zone, last)? {
            Some(next) if next <= now_ms && missed < MISSED_MAX => {
                missed += 1;
                last = next;
            }
            Some(next) if next <= now_ms => break schedule.next_after(inner.zone, now_ms)?,
            next => break next,
        }
    };
    let Some(shown) = inner.catalog.task_scheduled(task).await? else {
        return Ok(());
    };
    let remarks = match missed {
        0 => String::new(),
        1 => "1 time before was missed, as the server was down or late".to_owned(),
        MISSED_MAX => format!(
            "at least {MISSED_MAX} times before were missed, as the server was down or late"
        ),
        more => format!("{more} times before were missed, as the server was down or late"),
    };
    let now = after_last(&shown, now_ms);
    let run = Execution {
        remarks,
        ..waiting(now)
    };
    let rejected = rejected(now);
    let runs = (&run, &rejected);
    let started = inner
        .catalog
        .dispatch_start(due, next, runs, begins_anew(&shown));
    match started.await? {
        None => {}
        Some(true) => info!(task = %task, missed, "scheduled run"),
        Some(false) => {
            warn!(task = %task, "a scheduled run is rejected: the one before has not ended");
        }
    }
    Ok(())
}

/// Two runs that are called within one millisecond keep their order.
fn after_last(task: &Task, now_ms: i64) -> i64 {
    let last = task.execution.as_ref().map_or(0, |last| last.dispatched_ms);
    now_ms.max(last + 1)
}

fn begins_anew(task: &Task) -> bool {
    task.kind == TaskKind::Timing { incremental: false }
}

/// Has a task run; `false`: it does already.
pub(super) async fn start(inner: &Inner, task: &Task, now_ms: i64) -> Result<bool> {
    let run = waiting(after_last(task, now_ms));
    inner
        .catalog
        .execution_start(&task.id, &run, begins_anew(task))
        .await
}

fn waiting(now_ms: i64) -> Execution {
    Execution {
        id: new_id(),
        dispatched_ms: now_ms,
        started_ms: now_ms,
        ended_ms: None,
        status: ExecuteStatus::Waiting,
        node: Node::Adapter,
        node_status: NodeStatus::Normal,
        code: 900,
        remarks: String::new(),
        figures: Default::default(),
        steps: Vec::new(),
    }
}

fn rejected(now_ms: i64) -> Execution {
    Execution {
        ended_ms: Some(now_ms),
        status: ExecuteStatus::Cancelled,
        node: Node::Reader,
        node_status: NodeStatus::RuntimeErr,
        code: REJECTED,
        remarks: "not begun: the run before has not ended".to_owned(),
        ..waiting(now_ms)
    }
}

#[cfg(test)]
mod tests;
