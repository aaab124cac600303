//! Loading tables while the stream of the others goes on.
//!
//! A table that is added to a running task, resumed or loaded again is loaded by [`crate::load`] as at the
//! start of a task, but the stream does not wait for that: it applies what happens to the other tables, and
//! of those that are being loaded what happens to chunks that are there already. Why nothing is lost or
//! doubled is the argument of [`crate::ledger`], with one more case: a change of a transaction T to a key that
//! is in no chunk of the ledger yet.
//!
//! - *No chunk that holds the key has been begun.* The change is dropped, because the chunk that will hold
//!   the key has T: before it is judged, T's place becomes the *floor*, and whoever begins a chunk asks for a
//!   snapshot that has seen all before the floor ([`thalweg_core::ports::Source::read`]). Judging and beginning
//!   exclude each other, so a chunk is begun either before T is judged, which is the next case, or sees T. If
//!   the task dies, the key is still in a gap, and the next run's chunks see all before the checkpoint.
//! - *The chunk that holds it is on its way.* If its snapshot is known to contain T, the change is dropped: the
//!   chunk will be there with it, or if the task dies, its key is in a gap again. Otherwise the stream waits, at
//!   the begin of T, until the chunk is there and T can be judged as ever. Chunks never wait for the stream,
//!   so this ends.
//!
//! Where a foreign key of the source changes rows below its log, the children's chunk is asked as if the
//! change were one of all their keys. A table that several sources fill is left alone by the stream from its first
//! chunk to its last: what one source does to a row takes several statements, between which a chunk of another must
//! not come. While a transaction that comes in parts is open no chunk is on its way and none is begun: its place is
//! not known before its end, and its target transaction should not be held open for a chunk.

use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

use rustc_hash::FxHashMap;
use thalweg_core::Result;
use thalweg_core::change::{Change, ChangeKind, Transaction};
use thalweg_core::checkpoint::LoadedChunk;
use thalweg_core::plan::Plan;
use thalweg_core::position::{Position, Visibility};
use thalweg_core::range::KeyRange;
use thalweg_core::value::RowBatch;
use tokio::sync::Notify;

use crate::ledger::Ledger;
use crate::load::{Phase, feeds};

/// Where the load and the stream meet.
#[derive(Debug)]
pub(crate) struct Beside {
    state: Mutex<State>,
    /// Something has changed that the stream may wait for.
    news: Notify,
    /// Chunks may be begun again.
    opened: Notify,
}

#[derive(Debug)]
struct State {
    /// Per target of the plan; `None`: it is not loaded here.
    tables: Vec<Option<Table>>,
    /// What every snapshot that is taken from now on has to see.
    floor: Position,
    /// A transaction in parts is open, or waits to be.
    closed: bool,
    /// Grows whenever a ledger becomes another.
    version: u64,
    /// The load has ended with an error.
    failed: bool,
}

/// A table that is being loaded.
#[derive(Debug, Default)]
struct Table {
    /// Index of the target.
    target: usize,
    /// Whether it is decided which of its chunks can be kept.
    decided: bool,
    chunks: Vec<LoadedChunk>,
    on_the_way: Vec<OnTheWay>,
    /// When its chunks became others the last time.
    version: u64,
    /// Rows of it went into quarantine that the stream does not know of yet, with their chunks.
    held: Vec<LoadedChunk>,
}

/// A chunk that was begun and is not there.
#[derive(Debug)]
struct OnTheWay {
    source: usize,
    range: Option<KeyRange>,
    seen: Option<Visibility>,
}

impl Beside {
    /// Tables that are to be loaded, per target of the plan (`Some`: with the chunks that are there), beside a
    /// stream that begins at `from`.
    pub(crate) fn new(tables: Vec<Option<Vec<LoadedChunk>>>, from: Position) -> Self {
        let table = |(target, chunks): (usize, Option<Vec<LoadedChunk>>)| {
            chunks.map(|chunks| Table {
                target,
                // What is not there cannot be given up.
                decided: chunks.is_empty(),
                chunks,
                ..Table::default()
            })
        };
        Beside {
            state: Mutex::new(State {
                tables: tables.into_iter().enumerate().map(table).collect(),
                floor: from,
                closed: false,
                version: 0,
                failed: false,
            }),
            news: Notify::new(),
            opened: Notify::new(),
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes a table, and tells the stream.
    fn alter(&self, target: usize, change: impl FnOnce(&mut Table)) {
        self.with(|state| {
            if let Some(Some(table)) = state.tables.get_mut(target) {
                change(table);
                state.version += 1;
                table.version = state.version;
            }
        });
        self.news.notify_one();
    }

    // What the load says.

    /// Which chunks of a table are kept. What was given up is to be removed after this only.
    pub(crate) fn decided(&self, target: usize, chunks: &[LoadedChunk]) {
        self.alter(target, |table| {
            table.decided = true;
            table.chunks = chunks.to_vec();
        });
    }

    /// Begins a chunk, once chunks may be; gives what its snapshot has to see.
    pub(crate) async fn begin(
        &self,
        target: usize,
        source: usize,
        range: Option<&KeyRange>,
    ) -> Position {
        loop {
            let mut opened = std::pin::pin!(self.opened.notified());
            // From here on nothing is missed.
            opened.as_mut().enable();
            let floor = self.with(|state| {
                if state.closed {
                    return None;
                }
                if let Some(Some(table)) = state.tables.get_mut(target) {
                    // It may be begun anew.
                    table.on_the_way.retain(|begun| !begun.is(source, range));
                    table.on_the_way.push(OnTheWay {
                        source,
                        range: range.cloned(),
                        seen: None,
                    });
                }
                Some(state.floor.clone())
            });
            match floor {
                Some(floor) => return floor,
                None => opened.await,
            }
        }
    }

    /// The snapshot of a chunk that was begun is known.
    pub(crate) fn sees(
        &self,
        target: usize,
        source: usize,
        range: Option<&KeyRange>,
        seen: &Visibility,
    ) {
        self.with(|state| {
            let tables = state.tables.iter_mut().skip(target).take(1).flatten();
            let mut begun = tables.flat_map(|table| &mut table.on_the_way);
            if let Some(chunk) = begun.find(|chunk| chunk.is(source, range)) {
                chunk.seen = Some(seen.clone());
            }
        });
        self.news.notify_one();
    }

    /// A chunk is durably there; `held`: rows of it went into quarantine, so that it counts as being on its way
    /// until the stream knows of them.
    pub(crate) fn there(&self, target: usize, source: usize, chunk: &LoadedChunk, held: bool) {
        self.alter(target, |table| {
            if held {
                table.held.push(chunk.clone());
                return;
            }
            let is = |begun: &OnTheWay| begun.is(source, chunk.range.as_ref());
            table.on_the_way.retain(|begun| !is(begun));
            table.chunks.push(chunk.clone());
        });
    }

    /// The load has ended with an error, which is none of the stream.
    pub(crate) fn fail(&self) {
        self.with(|state| state.failed = true);
    }

    // What the stream asks.

    /// Waits until something has changed.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// Whether the load has ended with an error.
    pub(crate) fn has_failed(&self) -> bool {
        self.with(|state| state.failed)
    }

    /// The phases of all tables as they are now.
    pub(crate) fn phases(&self, plan: &Plan) -> Result<Vec<Phase>> {
        self.with(|state| {
            let phase = |table: &Option<Table>| match table {
                Some(table) => Ok(Phase::Loaded(table.ledger(plan)?)),
                None => Ok(Phase::Live),
            };
            state.tables.iter().map(phase).collect()
        })
    }

    /// Renews the phases of tables that have changed since the version `known`, which becomes that of now.
    pub(crate) fn renew(&self, plan: &Plan, phases: &mut [Phase], known: &mut u64) -> Result<()> {
        self.with(|state| {
            if state.version == *known {
                return Ok(());
            }
            for (table, phase) in state.tables.iter().zip(phases) {
                if let Some(table) = table.as_ref().filter(|table| table.version > *known) {
                    *phase = Phase::Loaded(table.ledger(plan)?);
                }
            }
            *known = state.version;
            Ok(())
        })
    }

    /// Whether there are rows in quarantine that the stream does not know of.
    pub(crate) fn has_held(&self) -> bool {
        self.with(|state| {
            let mut tables = state.tables.iter().flatten();
            tables.any(|table| !table.held.is_empty())
        })
    }

    /// The stream is about to read what lies in quarantine: from then on the chunks whose rows lie there count.
    pub(crate) fn take_held(&self, plan: &Plan) {
        self.with(|state| {
            for table in state.tables.iter_mut().flatten() {
                for chunk in std::mem::take(&mut table.held) {
                    let of = |begun: &OnTheWay| {
                        let source = plan.sources.get(begun.source);
                        let same = source.is_some_and(|s| s.schema.name == chunk.source);
                        same && begun.range == chunk.range
                    };
                    table.on_the_way.retain(|begun| !of(begun));
                    table.chunks.push(chunk);
                    state.version += 1;
                    table.version = state.version;
                }
            }
        });
    }

    /// Whether a transaction, or the first part of one, can be judged now. If not, it can after some
    /// [`Self::news`].
    pub(crate) fn admits(
        &self,
        plan: &Plan,
        transaction: &Transaction,
        mut contains: impl FnMut(&Visibility) -> Result<bool>,
    ) -> Result<bool> {
        self.with(|state| {
            let loads = state.tables.iter().flatten();
            let Some(commit) = &transaction.commit else {
                state.closed = true;
                return Ok(loads.map(|t| t.on_the_way.len()).sum::<usize>() == 0
                    && state.tables.iter().flatten().all(|table| table.decided));
            };
            let mut touches = false;
            // Merged targets, and whether something of them is missing.
            let mut merged = FxHashMap::default();
            for change in &transaction.changes.changes {
                for (target, all) in touched(plan, change) {
                    let Some(Some(table)) = state.tables.get(target) else {
                        continue;
                    };
                    touches = true;
                    if !table.decided {
                        return Ok(false);
                    }
                    if plan.targets.get(target).is_some_and(|t| t.merged()) {
                        let lacks = match merged.entry(target) {
                            Entry::Occupied(known) => *known.get(),
                            Entry::Vacant(new) => *new.insert(table.ledger(plan)?.grows()),
                        };
                        if lacks && table.is_begun() {
                            return Ok(false);
                        }
                    }
                    let change = (!all).then_some(change);
                    for chunk in &table.on_the_way {
                        if chunk.may_hold(plan, change, &transaction.changes.rows)
                            && !chunk.seen.as_ref().map_or(Ok(false), &mut contains)?
                        {
                            return Ok(false);
                        }
                    }
                }
            }
            if touches {
                state.floor = commit.position.clone();
            }
            Ok(true)
        })
    }

    /// The last part of a transaction was judged.
    pub(crate) fn ended(&self, at: &Position) {
        self.with(|state| {
            state.floor = at.clone();
            state.closed = false;
        });
        self.opened.notify_waiters();
    }
}

impl Table {
    fn is_begun(&self) -> bool {
        !self.chunks.is_empty() || !self.on_the_way.is_empty()
    }

    /// The ledger as it is now.
    fn ledger(&self, plan: &Plan) -> Result<Ledger> {
        let mut ledger = Ledger::new(plan, &self.chunks)?;
        let mut sources = feeds(plan, self.target);
        let gap = sources.any(|(_, source)| !ledger.gaps(source).is_empty());
        ledger.grow(gap || !self.decided || !self.on_the_way.is_empty());
        Ok(ledger)
    }
}

impl OnTheWay {
    fn is(&self, source: usize, range: Option<&KeyRange>) -> bool {
        self.source == source && self.range.as_ref() == range
    }

    /// Whether a change may be about a row of the chunk; `None`: one of all rows.
    fn may_hold(&self, plan: &Plan, change: Option<&Change>, rows: &RowBatch) -> bool {
        let (Some(change), Some(range)) = (change, &self.range) else {
            return true;
        };
        if change.kind == ChangeKind::Truncate || plan.sources.get(change.table).is_none() {
            return true;
        }
        if change.table != self.source {
            return false;
        }
        // A key that is not in the image did not change.
        let inside = |row: Option<usize>| {
            let cell = rows.row(row?).cell(range.column)?;
            cell.is_present().then(|| range.contains(cell))
        };
        [change.before, change.after]
            .into_iter()
            .filter_map(inside)
            .any(|inside| inside != Some(false))
    }
}

/// The targets whose rows a change touches; `true`: perhaps all of them.
fn touched(plan: &Plan, change: &Change) -> impl Iterator<Item = (usize, bool)> {
    let source = plan.sources.get(change.table).into_iter();
    let routes = source.flat_map(|source| &source.routes).map(|r| r.target);
    let writes = !matches!(change.kind, ChangeKind::Insert);
    let derived = || plan.cascades.iter().filter(|cascade| cascade.derived);
    let fires = move |target: &usize| writes && derived().any(|c| c.parent == *target);
    // What one of them does may make another one act.
    let below = routes.clone().any(|target| fires(&target));
    let children = derived().filter(move |_| below).map(|c| (c.child, true));
    routes.map(|target| (target, false)).chain(children)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use thalweg_core::change::ChangeBatch;
    use thalweg_core::mapping::{Mapping, Operations, TaskOptions};
    use thalweg_core::plan::{TablePair, resolve};
    use thalweg_core::position::TxId;
    use thalweg_core::schema::TableName;

    use super::*;

    /// A plan of two tables that are loaded.
    fn plan() -> Plan {
        let named = |schema: &str| {
            ["a", "b"].map(|name| thalweg_testkit::memory::table(schema, name, &["id", "v"]))
        };
        let pairs = named("s")
            .into_iter()
            .zip(named("t"))
            .map(|(source, target)| TablePair {
                mapping: Mapping {
                    id: source.name.name.clone(),
                    source: source.name.clone(),
                    target: target.name.clone(),
                    columns: Vec::new(),
                },
                source: Some(source),
                target: Some(target),
                create: false,
                rekey: false,
            });
        let plan = resolve(pairs.collect(), Operations::ALL, TaskOptions::default()).plan;
        plan.expect("two tables can be planned")
    }

    fn chunk(name: &str) -> LoadedChunk {
        LoadedChunk {
            source: TableName::new("s", name),
            range: None,
            seen: Visibility::new("1"),
            rows: 0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_that_is_there_does_not_grow_because_another_one_does() {
        let plan = plan();
        let from = Position::new("1");
        let beside = Beside::new(vec![Some(Vec::new()), Some(Vec::new())], from);
        let grow = || {
            let phases = beside.phases(&plan).expect("ledgers");
            let grows = |phase: &Phase| matches!(phase, Phase::Loaded(ledger) if ledger.grows());
            phases.iter().map(grows).collect::<Vec<_>>()
        };
        assert_eq!(grow(), [true, true]);
        beside.begin(0, 0, None).await;
        assert_eq!(grow(), [true, true], "its chunk is on its way");
        beside.there(0, 0, &chunk("a"), false);
        assert_eq!(grow(), [false, true]);
        beside.begin(1, 1, None).await;
        beside.there(1, 1, &chunk("b"), true);
        assert_eq!(grow(), [false, true], "its refused rows are not known");
        assert!(beside.has_held());
        beside.take_held(&plan);
        assert_eq!(grow(), [false, false]);
    }

    async fn begun(beside: &Beside) -> Option<Position> {
        let begin = beside.begin(0, 0, None);
        tokio::time::timeout(Duration::from_secs(1), begin)
            .await
            .ok()
    }

    fn part() -> Transaction {
        Transaction {
            id: TxId::new("5"),
            changes: ChangeBatch::default(),
            schema: Vec::new(),
            commit: None,
            log_bytes: 0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_chunk_is_on_its_way_beside_a_transaction_in_parts() {
        let plan = plan();
        let beside = Beside::new(vec![Some(Vec::new())], Position::new("1"));
        let admits = || {
            let admits = beside.admits(&plan, &part(), |_| Ok(false));
            admits.expect("nothing is asked")
        };
        assert_eq!(begun(&beside).await, Some(Position::new("1")));
        assert!(!admits(), "a chunk is on its way");
        assert_eq!(begun(&beside).await, None, "the transaction waits");
        beside.there(0, 0, &chunk("a"), false);
        assert!(admits(), "it is there");
        assert_eq!(begun(&beside).await, None, "the transaction is open");
        beside.ended(&Position::new("7"));
        assert_eq!(begun(&beside).await, Some(Position::new("7")));
    }
}
