//! What a running task says of itself.

use std::time::{SystemTime, UNIX_EPOCH};

use thalweg_core::batch::TableCounts;
use thalweg_core::position::Position;
use thalweg_core::{Error, Kind, Side};
use tokio::sync::watch;

/// Where a task stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TaskPhase {
    /// Claims the target and reads the checkpoint.
    #[default]
    Preparing,
    /// Copies existing rows.
    Loading,
    /// Follows the source.
    Streaming,
    /// Tries again after transient trouble.
    Waiting,
    /// Stopped by an error; a person must act.
    Failed,
    /// Stopped because it was asked to.
    Stopped,
}

/// Where a target table stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TablePhase {
    /// Not loaded yet.
    #[default]
    Waiting,
    /// Being loaded.
    Copying,
    /// Loaded; the stream has not passed the load yet.
    CatchingUp,
    /// Every transaction is applied whole.
    Live,
}

/// Figures of one target table, since the start of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableStatus {
    /// Where it stands.
    pub phase: TablePhase,
    /// Rows loaded.
    pub loaded_rows: u64,
    /// What was applied.
    pub written: TableCounts,
}

/// The error a task stopped with or waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    /// What it asks for.
    pub kind: Kind,
    /// At which end.
    pub side: Option<Side>,
    /// The fact, with its causes.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// When, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// How often it was tried again.
    pub attempt: u32,
}

/// What a running task says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskStatus {
    /// Where it stands.
    pub phase: TaskPhase,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Per index of [`thalweg_core::plan::Plan::targets`].
    pub tables: Vec<TableStatus>,
    /// Durable at the target.
    pub applied: Option<Position>,
    /// Source transactions applied since the start of the run.
    pub transactions: u64,
    /// Trouble that is not over.
    pub last_error: Option<LastError>,
}

/// Publishes a status.
#[derive(Clone, Debug)]
pub(crate) struct Reporter(watch::Sender<TaskStatus>);

impl Reporter {
    pub(crate) fn new(sender: watch::Sender<TaskStatus>, tables: usize) -> Self {
        sender.send_modify(|status| status.tables.resize(tables, TableStatus::default()));
        Reporter(sender)
    }

    pub(crate) fn phase(&self, phase: TaskPhase) {
        self.0.send_modify(|status| {
            if status.phase != phase || status.since_ms == 0 {
                status.phase = phase;
                status.since_ms = now_ms();
            }
            if matches!(phase, TaskPhase::Streaming | TaskPhase::Stopped) {
                status.last_error = None;
            }
        });
    }

    pub(crate) fn error(&self, phase: TaskPhase, error: &Error, attempt: u32) {
        self.phase(phase);
        self.0.send_modify(|status| {
            status.last_error = Some(LastError {
                kind: error.kind(),
                side: error.side(),
                message: error.chain(),
                hint: error.hint().map(str::to_owned),
                since_ms: now_ms(),
                attempt,
            });
        });
    }

    pub(crate) fn table(&self, target: usize, change: impl FnOnce(&mut TableStatus)) {
        self.0.send_modify(|status| {
            if let Some(table) = status.tables.get_mut(target) {
                change(table);
            }
        });
    }

    pub(crate) fn applied(&self, position: &Position, transactions: u64, counts: &[TableCounts]) {
        self.0.send_modify(|status| {
            status.applied = Some(position.clone());
            status.transactions += transactions;
            for (table, counts) in status.tables.iter_mut().zip(counts) {
                table.written.add(counts);
            }
        });
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
