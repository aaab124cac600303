//! What a running task says of itself.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thalweg_core::batch::TableCounts;
use thalweg_core::plan::{Changed, Plan, ReadCounts, TargetTable};
use thalweg_core::position::Position;
use thalweg_core::{Error, Kind, Side};
use tokio::sync::watch;
use tracing::warn;

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
    /// Rows the last load committed or has under way.
    pub loaded_rows: u64,
    /// Of those, rows that an earlier run of the process had loaded.
    pub loaded_earlier: u64,
    /// The source's estimate of all rows there are to load, made when the plan was; `None`: it has
    /// none. It may be far off, and less than `loaded_rows`.
    pub estimated_rows: Option<u64>,
    /// Chunks its load has; 0: not known yet, or loaded before this run.
    pub chunks: u64,
    /// Of those, chunks that are in.
    pub chunks_loaded: u64,
    /// What was applied and is durable.
    pub written: TableCounts,
    /// Values that did not fit and were changed on the way, as the task's option `unfit_values` says:
    /// those loaded, and those applied and durable. What is loaded again is counted again.
    pub changed: Vec<ChangedValues>,
    /// Changes that lie in quarantine now.
    pub quarantined: u64,
    /// Rows that were refused and put into quarantine.
    pub refused: u64,
}

/// Values of one column that were changed for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedValues {
    /// The target column.
    pub column: String,
    /// Why they did not fit.
    pub reason: &'static str,
    /// How many.
    pub values: u64,
}

/// Figures of one source table, since the start of the run. What is read again after trouble is
/// counted again: it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceStatus {
    /// Changes taken from the log, by kind (`repaired` and `missing` stay zero), whether the task
    /// carries that kind over or not.
    pub read: TableCounts,
    /// Rows read by loads, once per target table they were read for.
    pub loaded_rows: u64,
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
    /// Per index of [`thalweg_core::plan::Plan::sources`].
    pub sources: Vec<SourceStatus>,
    /// Durable at the target.
    pub applied: Option<Position>,
    /// When the last applied transaction that had changes was committed at the source, by the
    /// source's clock, in microseconds since the Unix epoch. Not a lag: an idle source has none.
    pub applied_commit_us: Option<i64>,
    /// Source transactions with changes applied since the start of the run.
    pub transactions: u64,
    /// Bytes of log, and of loaded rows as decoded, read since the start of the run.
    pub bytes_read: u64,
    /// Bytes of rows, as converted for the target, that loads and applied changes have written.
    pub bytes_written: u64,
    /// How far the target is behind the source now, measured every second by a probe (module
    /// `probe`); `None`: unknown. Never zero because nobody could look.
    pub lag_ms: Option<u64>,
    /// Bytes of log between what is applied and the log's end; `None`: unknown.
    pub backlog_bytes: Option<u64>,
    /// Trouble that is not over.
    pub last_error: Option<LastError>,
}

/// What one batch was made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Read {
    /// Per source table, by kind.
    pub(crate) changes: ReadCounts,
    /// Bytes of log.
    pub(crate) bytes: u64,
}

/// What was written and became durable at once: one batch, or the parts of a huge transaction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    /// Per target table.
    pub(crate) counts: Vec<TableCounts>,
    /// Bytes of row images.
    pub(crate) bytes: u64,
    /// Transactions that ended.
    pub(crate) transactions: u64,
    /// Commit time of the last one that has one.
    pub(crate) commit_us: Option<i64>,
    /// Values that did not fit.
    pub(crate) changed: Changed,
    /// Changes that were refused and put into quarantine, per target table.
    pub(crate) refused: Vec<u64>,
}

impl Written {
    /// Adds what came after.
    pub(crate) fn add(&mut self, later: &Written) {
        add_all(&mut self.counts, &later.counts);
        self.bytes += later.bytes;
        self.transactions += later.transactions;
        self.commit_us = later.commit_us.or(self.commit_us);
        self.changed.merge(&later.changed);
        let refused = &mut self.refused;
        refused.resize(refused.len().max(later.refused.len()), 0);
        for (sum, more) in refused.iter_mut().zip(&later.refused) {
            *sum += more;
        }
    }
}

/// Adds counts place by place; `sum` grows as needed.
pub(crate) fn add_all(sum: &mut Vec<TableCounts>, more: &[TableCounts]) {
    if sum.len() < more.len() {
        sum.resize(more.len(), TableCounts::default());
    }
    for (sum, more) in sum.iter_mut().zip(more) {
        sum.add(more);
    }
}

/// Rows that all sources of a target have together; unknown if it is of one.
fn estimated_rows(plan: &Plan, target: &TargetTable) -> Option<u64> {
    let feeds = target.feeds.iter();
    let rows = feeds.map(|feed| plan.sources.get(feed.source)?.schema.estimated_rows);
    rows.sum()
}

/// Publishes a status: once per batch or event, never per row.
#[derive(Clone, Debug)]
pub(crate) struct Reporter(watch::Sender<TaskStatus>, Arc<Plan>);

impl Reporter {
    pub(crate) fn new(sender: watch::Sender<TaskStatus>, plan: &Arc<Plan>) -> Self {
        sender.send_modify(|status| {
            status
                .sources
                .resize(plan.sources.len(), SourceStatus::default());
            status.tables = plan
                .targets
                .iter()
                .map(|target| TableStatus {
                    estimated_rows: estimated_rows(plan, target),
                    ..TableStatus::default()
                })
                .collect();
        });
        Reporter(sender, Arc::clone(plan))
    }

    /// Grows while anything is read or written.
    pub(crate) fn moved(&self) -> u64 {
        let status = self.0.borrow();
        status.bytes_read.wrapping_add(status.bytes_written)
    }

    /// A new phase. Lag and backlog are known while streaming only: outside it nobody looks.
    pub(crate) fn phase(&self, phase: TaskPhase) {
        self.0.send_modify(|status| enter(status, phase));
    }

    /// A phase with its error, at once: who sees the one sees the other.
    pub(crate) fn error(&self, phase: TaskPhase, error: &Error, attempt: u32) {
        self.0.send_modify(|status| {
            enter(status, phase);
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

    /// Trouble that does not stop the stream; it is told until the next phase.
    pub(crate) fn trouble(&self, error: &Error) {
        let phase = self.0.borrow().phase;
        self.error(phase, error, 0);
    }

    /// It is over.
    pub(crate) fn over(&self) {
        self.0.send_modify(|status| status.last_error = None);
    }

    pub(crate) fn table(&self, target: usize, change: impl FnOnce(&mut TableStatus)) {
        self.0.send_modify(|status| {
            if let Some(table) = status.tables.get_mut(target) {
                change(table);
            }
        });
    }

    /// A batch of a load: `rows` of `source` for `target`.
    pub(crate) fn loaded(
        &self,
        source: usize,
        target: usize,
        rows: u64,
        read: usize,
        written: usize,
    ) {
        self.0.send_modify(|status| {
            if let Some(source) = status.sources.get_mut(source) {
                source.loaded_rows += rows;
            }
            if let Some(table) = status.tables.get_mut(target) {
                table.loaded_rows += rows;
            }
            status.bytes_read += read as u64;
            status.bytes_written += written as u64;
        });
    }

    /// Where the stream begins.
    pub(crate) fn start(&self, position: &Position) {
        self.0
            .send_modify(|status| status.applied = Some(position.clone()));
    }

    /// A batch was applied; `durable` if something has become durable with it.
    pub(crate) fn batch(&self, read: &Read, durable: Option<(&Position, &Written)>) {
        self.0.send_modify(|status| {
            for (table, counts) in read.changes.iter() {
                if let Some(source) = status.sources.get_mut(table) {
                    source.read.add(counts);
                }
            }
            status.bytes_read += read.bytes;
            let Some((position, written)) = durable else {
                return;
            };
            status.applied = Some(position.clone());
            status.transactions += written.transactions;
            status.bytes_written += written.bytes;
            status.applied_commit_us = written.commit_us.or(status.applied_commit_us);
            for (table, counts) in status.tables.iter_mut().zip(&written.counts) {
                table.written.add(counts);
            }
            for (table, refused) in status.tables.iter_mut().zip(&written.refused) {
                table.refused += refused;
            }
        });
        if let Some((_, written)) = durable {
            self.changed(&written.changed);
        }
    }

    /// How many changes lie in quarantine, per target.
    pub(crate) fn quarantined(&self, changes: &[u64]) {
        self.0.send_if_modified(|status| {
            let mut moved = false;
            for (table, now) in status.tables.iter_mut().zip(changes) {
                moved |= std::mem::replace(&mut table.quarantined, *now) != *now;
            }
            moved
        });
    }

    /// Values that did not fit were changed on the way. Each table, column and reason is logged once.
    pub(crate) fn changed(&self, changed: &Changed) {
        for cells in changed.iter() {
            let Some(table) = self.1.targets.get(cells.target) else {
                continue;
            };
            let column = table.columns.get(cells.column);
            let column = column.map_or("?", |column| column.name.as_str());
            let mut first = false;
            self.table(cells.target, |status| {
                let mut known = status.changed.iter_mut();
                let same = |c: &&mut ChangedValues| {
                    (c.column.as_str(), c.reason) == (column, cells.reason)
                };
                match known.find(same) {
                    Some(known) => known.values += cells.cells,
                    None => {
                        first = true;
                        status.changed.push(ChangedValues {
                            column: column.to_owned(),
                            reason: cells.reason,
                            values: cells.cells,
                        });
                    }
                }
            });
            if first {
                let (table, reason) = (&table.name, cells.reason);
                warn!(%table, column, reason, "values that do not fit are changed");
            }
        }
    }

    /// What a probe measured; dropped if the task does not stream any more.
    pub(crate) fn lag(&self, lag: Option<Duration>) {
        let lag = lag.map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX));
        self.streaming(|status| std::mem::replace(&mut status.lag_ms, lag) != lag);
    }

    /// Likewise.
    pub(crate) fn backlog(&self, bytes: Option<u64>) {
        self.streaming(|status| std::mem::replace(&mut status.backlog_bytes, bytes) != bytes);
    }

    fn streaming(&self, change: impl FnOnce(&mut TaskStatus) -> bool) {
        self.0
            .send_if_modified(|status| status.phase == TaskPhase::Streaming && change(status));
    }
}

fn enter(status: &mut TaskStatus, phase: TaskPhase) {
    if status.phase != phase || status.since_ms == 0 {
        status.phase = phase;
        status.since_ms = now_ms();
        status.lag_ms = None;
        status.backlog_bytes = None;
    }
    if matches!(phase, TaskPhase::Streaming | TaskPhase::Stopped) {
        status.last_error = None;
    }
}

pub(crate) fn now_ms() -> u64 {
    u64::try_from(now().as_millis()).unwrap_or(u64::MAX)
}

/// The same in microseconds.
pub(crate) fn now_us() -> i64 {
    i64::try_from(now().as_micros()).unwrap_or(i64::MAX)
}

fn now() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}
