//! The written record of one execution: its row and steps in the catalogue.

use std::sync::Arc;
use std::time::Duration;

use thalweg_core::{Kind, Side};
use thalweg_engine::status::{TaskPhase, TaskStatus};
use tokio::sync::watch;
use tracing::error;

use crate::app::Inner;
use crate::catalog::{StoredTask, new_id, now_ms};
use crate::model::{ExecuteStatus, Execution, Figures, Node, NodeStatus, Step};

/// How often figures are written while a task runs.
const EVERY: Duration = Duration::from_secs(1);

/// Characters of remarks kept.
const REMARKS_MAX: usize = 4_000;

/// How an execution ended.
pub(super) enum End {
    /// The process ends; the execution goes on at the next start.
    Paused,
    /// A person stopped it.
    Cancelled,
    /// It has done what it was run for.
    Done,
    /// It failed.
    Failed(Failure),
}

/// Why it failed.
pub(super) struct Failure {
    pub(super) kind: Kind,
    pub(super) side: Option<Side>,
    /// Whether it had not begun to move rows.
    pub(super) at_start: bool,
    /// The fact and the fix.
    pub(super) text: String,
}

/// The written record of one execution.
pub(super) struct Record {
    inner: Arc<Inner>,
    task: String,
    execution: Execution,
    /// As the catalogue has it; `None`: not known.
    written: Option<Execution>,
    /// Figures of the process's earlier lives.
    before: Figures,
    begun: bool,
}

impl Record {
    /// Goes on with the last execution, which has not ended.
    pub(super) fn open(inner: Arc<Inner>, task: &StoredTask, execution: Execution) -> Self {
        Record {
            inner,
            task: task.shown.id.clone(),
            before: execution.figures,
            // A run that forgets the position begins anew.
            begun: task.begun && !task.forget,
            execution,
            written: None,
        }
    }

    /// Writes that it runs, with a first step.
    pub(super) async fn begin(&mut self) {
        let execution = &mut self.execution;
        if execution.status == ExecuteStatus::Waiting {
            execution.started_ms = now_ms();
        }
        execution.status = ExecuteStatus::Running;
        self.step(Node::Adapter, 99, "preflight");
        self.write(false).await;
    }

    /// Begins a step; the one before it has done its part.
    fn step(&mut self, node: Node, code: u16, stage: &str) {
        self.close_step(NodeStatus::NodeEnd, None);
        self.execution.node = node;
        self.execution.node_status = NodeStatus::Normal;
        self.execution.code = code;
        self.execution.steps.push(Step {
            id: new_id(),
            node,
            node_status: NodeStatus::Normal,
            code,
            stage: stage.to_owned(),
            remarks: String::new(),
            figures: Figures::default(),
            begin_ms: now_ms(),
            end_ms: None,
        });
    }

    fn close_step(&mut self, status: NodeStatus, code: Option<u16>) {
        for step in &mut self.execution.steps {
            if step.end_ms.is_none() {
                step.end_ms = Some(now_ms());
                step.node_status = status;
                step.code = code.unwrap_or(match step.code {
                    102 => 104,
                    502 => 504,
                    other => other,
                });
            }
        }
    }

    /// What there is to say of the present step.
    pub(super) async fn remark(&mut self, text: &str) {
        let text = cut(text);
        if let Some(step) = self.execution.steps.last_mut() {
            step.remarks.clone_from(&text);
        }
        self.execution.remarks = text;
        self.write(false).await;
    }

    /// Follows a running task and writes what it says, until dropped.
    pub(super) async fn follow(&mut self, mut status: watch::Receiver<TaskStatus>) {
        let mut phase = TaskPhase::Preparing;
        loop {
            let now = status.borrow_and_update().clone();
            self.note_begun(&now).await;
            if now.phase != phase {
                phase = now.phase;
                match phase {
                    TaskPhase::Loading => self.step(Node::Reader, 102, "load"),
                    TaskPhase::Streaming => self.step(Node::Writer, 502, "stream"),
                    _ => {}
                }
            }
            self.figures(&now);
            self.execution.remarks = now.last_error.as_ref().map_or(String::new(), |error| {
                let fix = error
                    .hint
                    .as_ref()
                    .map_or(String::new(), |h| format!(" Fix: {h}."));
                cut(&format!(
                    "waiting, try {}: {}.{fix}",
                    error.attempt, error.message
                ))
            });
            self.write(false).await;
            // That the target has a checkpoint is not to be missed by a short run.
            if self.begun {
                tokio::time::sleep(EVERY).await;
            }
            if !status.has_changed().unwrap_or(false) {
                // Nothing new to write; wait for it. The end of the sender ends the run as well.
                if status.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// The target has no checkpoint any more.
    pub(super) fn forgotten(&mut self) {
        self.begun = false;
    }

    /// Stores that the target has a checkpoint, once.
    async fn note_begun(&mut self, now: &TaskStatus) {
        if now.applied.is_some() && !self.begun {
            self.begun = true;
            let stored = self.inner.catalog.task_begun(&self.task).await;
            self.told(stored);
        }
    }

    fn figures(&mut self, now: &TaskStatus) {
        let rows: u64 = now
            .tables
            .iter()
            .map(|table| {
                let written = &table.written;
                table.loaded_rows.saturating_sub(table.loaded_earlier)
                    + written.inserts
                    + written.updates
                    + written.deletes
            })
            .sum();
        let run = Figures {
            rows,
            bytes: now.bytes_written,
            dirty: now.tables.iter().map(|table| table.refused).sum(),
        };
        let earlier: Figures = self
            .execution
            .steps
            .iter()
            .filter(|step| step.end_ms.is_some())
            .fold(Figures::default(), |sum, step| add(sum, step.figures));
        if let Some(step) = self.execution.steps.last_mut() {
            step.figures = Figures {
                rows: (self.before.rows + run.rows).saturating_sub(earlier.rows),
                bytes: (self.before.bytes + run.bytes).saturating_sub(earlier.bytes),
                dirty: (self.before.dirty + run.dirty).saturating_sub(earlier.dirty),
            };
        }
        self.execution.figures = add(self.before, run);
    }

    /// Keeps what `last` says of its tables, because their figures begin anew.
    pub(super) fn carry(&mut self, last: &TaskStatus) {
        self.figures(last);
        let figures = self.execution.figures;
        self.before = Figures {
            // Bytes are counted on.
            bytes: self.before.bytes,
            ..figures
        };
    }

    /// Writes the end.
    pub(super) async fn end(&mut self, end: End, last: &TaskStatus) {
        self.note_begun(last).await;
        self.figures(last);
        let execution = &mut self.execution;
        match end {
            End::Paused => {
                self.write(false).await;
                return;
            }
            End::Cancelled => {
                execution.status = ExecuteStatus::Cancelled;
                execution.node_status = NodeStatus::RuntimeCancel;
                execution.code = match execution.node {
                    Node::Adapter => 16,
                    Node::Reader => 106,
                    Node::Writer => 505,
                };
                execution.remarks = "stopped by a person".to_owned();
                let code = execution.code;
                self.close_step(NodeStatus::RuntimeCancel, Some(code));
            }
            End::Done => {
                execution.status = ExecuteStatus::Success;
                execution.node = Node::Writer;
                execution.node_status = NodeStatus::NodeEnd;
                execution.code = 901;
                self.close_step(NodeStatus::NodeEnd, None);
            }
            End::Failed(failure) => {
                execution.status = ExecuteStatus::Error;
                execution.node_status = match failure.kind {
                    Kind::Bug => NodeStatus::InternalErr,
                    _ => NodeStatus::RuntimeErr,
                };
                (execution.node, execution.code) = match (failure.side, failure.at_start) {
                    (Some(Side::Source), true) => (Node::Reader, 911),
                    (Some(Side::Target), true) => (Node::Writer, 912),
                    (Some(Side::Source), false) => (Node::Reader, 103),
                    (Some(Side::Target), false) => (Node::Writer, 503),
                    (None, _) => (execution.node, 915),
                };
                // The row that it stops at.
                let dirty = u64::from(failure.kind == Kind::Data);
                execution.figures.dirty += dirty;
                execution.remarks = cut(&failure.text);
                if let Some(step) = execution.steps.last_mut() {
                    step.remarks.clone_from(&execution.remarks);
                    step.figures.dirty += dirty;
                }
                let (status, code) = (execution.node_status, execution.code);
                self.close_step(status, Some(code));
            }
        }
        self.execution.ended_ms = Some(now_ms());
        self.write(true).await;
    }

    /// Writes what the catalogue does not have yet. The status of an idle task moves each second too, and
    /// there is nothing in it to be written.
    async fn write(&mut self, stopped: bool) {
        let (task, execution) = (&self.task, &self.execution);
        if !stopped && self.written.as_ref() == Some(execution) {
            return;
        }
        let stored = self
            .inner
            .catalog
            .execution_write(task, execution, stopped)
            .await;
        self.written = stored.is_ok().then(|| execution.clone());
        self.told(stored);
    }

    fn told(&self, stored: crate::Result<()>) {
        if let Err(error) = stored {
            error!(task = %self.task, error = %error, "the catalogue could not be written");
        }
    }
}

fn add(a: Figures, b: Figures) -> Figures {
    Figures {
        rows: a.rows + b.rows,
        bytes: a.bytes + b.bytes,
        dirty: a.dirty + b.dirty,
    }
}

fn cut(text: &str) -> String {
    text.chars().take(REMARKS_MAX).collect()
}
