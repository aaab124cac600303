//! A source in memory.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use thalweg_core::finding::Finding;
use thalweg_core::ports::{
    Bridge, ChangeStream, Chunk, ChunkReader, ChunkSize, Confirm, Gate, Inspect, Source,
    StreamLimits, Unsaid,
};
use thalweg_core::position::{Layout, Position, TxId, Visibility};
use thalweg_core::range::{Bound, KeyRange};
use thalweg_core::schema::{ColumnSchema, TableName, TableSchema};
use thalweg_core::value::CellRef;
use thalweg_core::{Error, Kind, Result, Side};
use tokio::sync::Notify;

use super::alter::{Alter, Definition, Lie, Step, bits};
use super::places::{at_server, columns, number, picked, place, seen, undo};
use super::snapshot::Snapshot;
use super::stream::{Forget, Stream, Wanted};
use super::{Faults, Row, Rows};

/// One change of a committed transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryChange {
    /// Index of the table.
    pub table: usize,
    /// The row before; `None`: an insert.
    pub before: Option<Row>,
    /// The row after; `None`: a delete.
    pub after: Option<Row>,
}

/// A source in memory. Clones share one state.
#[derive(Clone, Debug)]
pub struct MemorySource {
    shared: Arc<Shared>,
    /// A transaction with more changes than this comes in parts.
    pub part_changes: usize,
    /// Whether all chunks are read in the snapshot in which the place to begin was secured, as long
    /// as this value lives.
    pub one_snapshot: bool,
    /// What rows of before have in a column that came is guessed by its present default; the stream ends
    /// where it comes to be wrong.
    pub guesses: bool,
    /// What it says wrongly.
    pub lie: Lie,
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) more: Notify,
    pub(super) faults: Arc<Faults>,
    silent: AtomicBool,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no test panics while it holds the state")
    }
}

/// One transaction of the log.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) changes: Vec<MemoryChange>,
    /// The bits of each column of each table, as far as tables are altered.
    pub(super) shapes: Arc<Vec<Vec<u8>>>,
    /// The statement that it is, and its table.
    pub(super) step: Option<(usize, Step)>,
}

/// A table of the source behind a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Names of its columns, and numbers that no other column of the table ever has.
    pub columns: Vec<(String, u32)>,
    /// Its rows.
    pub rows: Rows,
}

#[derive(Debug)]
pub(super) struct State {
    schemas: Vec<TableSchema>,
    definitions: Vec<Definition>,
    shapes: Arc<Vec<Vec<u8>>>,
    tables: Vec<Rows>,
    /// What the tables were behind each transaction, from the first on, if they are altered.
    moments: Vec<Vec<Moment>>,
    /// Whether they are.
    altered: bool,
    /// Committed transactions; the first has number `forgotten + 1`.
    pub(super) log: VecDeque<Entry>,
    pub(super) forgotten: u64,
    /// Transactions that are in the log and that no snapshot sees yet, as a commit is for a moment.
    unseen: Vec<(u64, Vec<MemoryChange>)>,
    /// The snapshot that was shared when the place to begin was secured.
    secured: Option<(Visibility, Vec<Rows>)>,
    /// The last transaction that a reader knows of.
    pub(super) told: u64,
    /// How often the server was replaced.
    pub(super) server: u64,
}

impl State {
    fn head(&self) -> u64 {
        self.forgotten + self.log.len() as u64
    }

    fn push(&mut self, changes: Vec<MemoryChange>, step: Option<(usize, Step)>) {
        if self.altered {
            let shape = |d: &Definition| d.columns.iter().map(|c| c.bits).collect();
            if step.is_some() || self.shapes.is_empty() {
                self.shapes = Arc::new(self.definitions.iter().map(shape).collect());
            }
            self.note();
        }
        self.log.push_back(Entry {
            changes,
            shapes: Arc::clone(&self.shapes),
            step,
        });
    }

    /// Keeps what the tables are now.
    fn note(&mut self) {
        let tables = self.definitions.iter().zip(&self.tables);
        let moment = tables.map(|(definition, rows)| Moment {
            columns: definition
                .columns
                .iter()
                .map(|column| (column.name.clone(), column.number))
                .collect(),
            rows: rows.clone(),
        });
        let moment = moment.collect();
        self.moments.push(moment);
    }

    /// What a snapshot taken now has seen, and the rows it shows.
    fn snapshot(&self) -> (Visibility, Vec<Rows>) {
        let mut seen = self.head().to_string();
        let mut tables = self.tables.clone();
        for (number, changes) in self.unseen.iter().rev() {
            seen.push_str(&format!(" but {number}"));
            undo(&self.schemas, &mut tables, changes);
        }
        if self.server > 0 {
            seen.push_str(&format!(" at {}", self.server));
        }
        (Visibility::new(seen), tables)
    }
}

impl MemorySource {
    /// An empty source with these tables.
    pub fn new(schemas: Vec<TableSchema>, faults: Arc<Faults>) -> Self {
        let tables = schemas.iter().map(|_| Rows::new()).collect();
        let state = State {
            definitions: schemas.iter().map(Definition::of).collect(),
            shapes: Arc::default(),
            moments: Vec::new(),
            altered: false,
            schemas,
            tables,
            log: VecDeque::new(),
            forgotten: 0,
            unseen: Vec::new(),
            secured: None,
            told: 0,
            server: 0,
        };
        let shared = Shared {
            state: Mutex::new(state),
            more: Notify::new(),
            faults,
            silent: AtomicBool::new(false),
        };
        MemorySource {
            shared: Arc::new(shared),
            part_changes: usize::MAX,
            one_snapshot: false,
            guesses: false,
            lie: Lie::None,
        }
    }

    /// The same with tables that may be altered ([`MemorySource::alter`]): each comes with how its rows lie
    /// in the log.
    pub fn altered(schemas: Vec<TableSchema>, faults: Arc<Faults>) -> Self {
        let source = MemorySource::new(schemas, faults);
        let mut state = source.state();
        state.altered = true;
        let State {
            schemas,
            definitions,
            ..
        } = &mut *state;
        for (schema, definition) in schemas.iter_mut().zip(definitions) {
            definition.describe(schema);
        }
        state.note();
        drop(state);
        source
    }

    /// Alters a table, in a transaction of its own; it waits until all others are visible. `false`: it cannot
    /// be done.
    ///
    /// # Panics
    /// If there is no such table.
    pub fn alter(&self, table: usize, alter: &Alter) -> bool {
        let mut state = self.state();
        state.unseen.clear();
        let State {
            schemas,
            definitions,
            tables,
            ..
        } = &mut *state;
        let rows = tables.get_mut(table).expect("a table of the source");
        let definition = definitions.get_mut(table).expect("a table of the source");
        let schema = schemas.get_mut(table).expect("a table of the source");
        let Some(step) = definition.alter(alter, rows) else {
            return false;
        };
        definition.describe(schema);
        state.push(Vec::new(), Some((table, step)));
        drop(state);
        self.shared.more.notify_waiters();
        true
    }

    /// What the tables were behind each transaction, and before the first.
    pub fn moments(&self) -> Vec<Vec<Moment>> {
        self.state().moments.clone()
    }

    /// A table as it is now.
    ///
    /// # Panics
    /// If there is no such table.
    pub fn table(&self, table: usize) -> TableSchema {
        let state = self.state();
        state
            .schemas
            .get(table)
            .expect("a table of the source")
            .clone()
    }

    /// Commits a transaction on tables whose key is the first column: writes these rows (`Ok`) and
    /// removes these keys (`Err`).
    ///
    /// # Panics
    /// If a table does not exist or a key to remove has no row.
    pub fn commit(&self, writes: &[(usize, std::result::Result<Row, i64>)]) {
        let mut state = self.state();
        let mut changes = Vec::new();
        for (table, write) in writes {
            let rows = state.tables.get_mut(*table).expect("a table of the source");
            let (before, after) = match write {
                Ok(row) => {
                    let key = *row.first().expect("a row has a key");
                    (rows.insert(vec![key], row.clone()), Some(row.clone()))
                }
                Err(key) => {
                    let old = rows.remove([*key].as_slice());
                    (Some(old.expect("the row to remove")), None)
                }
            };
            changes.push(MemoryChange {
                table: *table,
                before,
                after,
            });
        }
        state.push(changes, None);
        drop(state);
        self.shared.more.notify_waiters();
    }

    /// The server is replaced by its replica, which has nothing behind the last transaction that a stream gave
    /// and names other transactions as the old one named those. Streams break; snapshots that are being read
    /// show the old server to their end. Not for tables that are altered or truncated.
    pub fn replace(&self) {
        let mut state = self.state();
        let state = &mut *state;
        // Before anybody has asked for a place nothing is lost.
        while state.told > 0
            && state.head() > state.told
            && let Some(entry) = state.log.pop_back()
        {
            undo(&state.schemas, &mut state.tables, &entry.changes);
        }
        state.unseen.clear();
        state.secured = None;
        state.server += 1;
        self.shared.more.notify_waiters();
    }

    /// Commits a transaction of any changes. One with neither row before nor after is a TRUNCATE.
    ///
    /// # Panics
    /// If a table does not exist, a row before is not there, or one after is there already.
    pub fn commit_changes(&self, changes: Vec<MemoryChange>) {
        self.write(changes, true);
    }

    /// Commits a transaction that stands in the log at once, but that snapshots do not see before
    /// [`MemorySource::reveal`]. Until then no other may touch its rows.
    ///
    /// # Panics
    /// As [`MemorySource::commit_changes`].
    pub fn commit_unseen(&self, changes: Vec<MemoryChange>) {
        self.write(changes, false);
    }

    /// From now on snapshots see all that is committed.
    pub fn reveal(&self) {
        self.state().unseen.clear();
        self.shared.more.notify_waiters();
    }

    fn write(&self, changes: Vec<MemoryChange>, visible: bool) {
        let mut state = self.state();
        for change in &changes {
            let schema = state.schemas.get(change.table).expect("a table").clone();
            let rows = state.tables.get_mut(change.table).expect("a table");
            if change.before.is_none() && change.after.is_none() {
                rows.clear();
            }
            if let Some(before) = &change.before {
                let old = rows.remove(&place(&schema, rows, before, false));
                assert_eq!(old.as_ref(), Some(before), "the row before a change");
            }
            if let Some(after) = &change.after {
                let old = rows.insert(place(&schema, rows, after, true), after.clone());
                assert_eq!(old, None, "the row after a change has a place");
            }
        }
        state.push(changes.clone(), None);
        if !visible {
            let number = state.head();
            state.unseen.push((number, changes));
        }
        drop(state);
        self.shared.more.notify_waiters();
    }

    /// While `silent`, questions for the end of the log are not answered; the stream goes on.
    pub fn silent(&self, silent: bool) {
        self.shared.silent.store(silent, Ordering::SeqCst);
    }

    async fn answers(&self) {
        if self.shared.silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    /// The end of the log.
    pub fn position(&self) -> Position {
        Position::new(self.state().head().to_string())
    }

    /// The present rows of a table.
    ///
    /// # Panics
    /// If there is no such table.
    pub fn rows(&self, table: usize) -> Rows {
        self.state()
            .tables
            .get(table)
            .expect("a table of the source")
            .clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    fn step(&self) -> Result<()> {
        self.shared.faults.step()
    }

    /// Waits until every transaction up to `number` is visible.
    async fn all_seen(&self, number: u64) {
        loop {
            let more = self.shared.more.notified();
            tokio::pin!(more);
            more.as_mut().enable();
            if self
                .state()
                .unseen
                .iter()
                .all(|(unseen, _)| *unseen > number)
            {
                return;
            }
            more.await;
        }
    }

    /// The rows of a chunk, in a snapshot of now or in the shared one, and what that has seen.
    fn rows_of(&self, chunk: &Chunk, shared_wanted: bool) -> Result<(Visibility, Vec<Row>)> {
        let state = self.state();
        let shared = state.secured.clone();
        let shared = shared.filter(|_| shared_wanted && self.one_snapshot);
        let (visibility, tables) = shared.unwrap_or_else(|| state.snapshot());
        let mut schemas = state.schemas.iter().zip(tables);
        let found = schemas.find(|(schema, _)| schema.name == chunk.schema.name);
        let (schema, rows) = found.ok_or_else(|| Error::schema("no such table"))?;
        let same = |asked: &ColumnSchema| {
            let there = schema.column(&asked.name);
            there.is_some_and(|there| bits(there) == bits(asked))
        };
        if !chunk.schema.columns.iter().all(same) {
            let name = &schema.name;
            let changed = Error::schema(format!("table {name} has changed while it was read"));
            return Err(changed.at(Side::Source).about(name));
        }
        let columns = columns(schema, &chunk.schema);
        let rows = rows.into_values().map(|row| picked(&row, &columns));
        let within = |row: &Row| {
            let Some(range) = &chunk.range else {
                return true;
            };
            let key = row.get(range.column).map(|key| CellRef::I64(*key));
            key.and_then(|key| range.contains(key)) == Some(true)
        };
        Ok((visibility, rows.filter(within).collect()))
    }
}

#[async_trait]
impl Inspect for MemorySource {
    async fn probe(&self) -> Result<()> {
        self.step()
    }

    async fn tables(&self) -> Result<Vec<TableName>> {
        self.step()?;
        Ok(self
            .state()
            .schemas
            .iter()
            .map(|schema| schema.name.clone())
            .collect())
    }

    async fn describe(&self, tables: &[TableName]) -> Result<Vec<TableSchema>> {
        self.step()?;
        let state = self.state();
        let find = |name: &TableName| state.schemas.iter().find(|s| s.name == *name).cloned();
        Ok(tables.iter().filter_map(find).collect())
    }
}

#[async_trait]
impl Source for MemorySource {
    async fn check(&self, _tables: &[TableName]) -> Result<Vec<Finding>> {
        self.step()?;
        Ok(Vec::new())
    }

    async fn secure(&self, _tables: &[TableName]) -> Result<Position> {
        self.step()?;
        // As a new replication slot does, it waits until everything before the place is visible.
        self.all_seen(u64::MAX).await;
        let mut state = self.state();
        if self.one_snapshot {
            state.secured = Some(state.snapshot());
        }
        state.told = state.told.max(state.head());
        Ok(Position::new(state.head().to_string()))
    }

    async fn split(&self, chunk: &Chunk, size: ChunkSize) -> Result<Vec<Chunk>> {
        self.step()?;
        let (Some(column), [_, ..]) = (
            chunk.schema.primary_key.first().copied(),
            chunk.schema.columns.as_slice(),
        ) else {
            return Ok(vec![chunk.clone()]);
        };
        let rows = self.rows_of(chunk, true)?.1;
        let mut keys: Vec<i64> = rows
            .iter()
            .filter_map(|row| row.get(column))
            .copied()
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let every = usize::try_from(size.rows).unwrap_or(usize::MAX).max(1);
        let cuts: Vec<Bound> = keys
            .into_iter()
            .step_by(every)
            .skip(1)
            .map(|key| Bound::new(CellRef::I64(key)))
            .collect();
        if cuts.is_empty() {
            return Ok(vec![chunk.clone()]);
        }
        let range = chunk.range.clone().unwrap_or(KeyRange {
            column,
            from: None,
            to: None,
        });
        let mut from = range.from;
        let ends = cuts.into_iter().map(Some).chain([range.to]);
        Ok(ends
            .map(|to| Chunk {
                range: Some(KeyRange {
                    column,
                    from: std::mem::replace(&mut from, to.clone()),
                    to,
                }),
                ..chunk.clone()
            })
            .collect())
    }

    fn shared_snapshot(&self) -> Option<Visibility> {
        let state = self.state();
        let secured = state.secured.as_ref().filter(|_| self.one_snapshot);
        secured.map(|(seen, _)| seen.clone())
    }

    async fn read(
        &self,
        chunk: &Chunk,
        from: &Position,
        _limits: StreamLimits,
    ) -> Result<Box<dyn ChunkReader>> {
        self.step()?;
        self.all_seen(number(from.as_str())?).await;
        let (visibility, rows) = self.rows_of(chunk, true)?;
        tokio::task::yield_now().await;
        Ok(Box::new(Snapshot {
            visibility,
            rows: rows.into(),
            shared: Arc::clone(&self.shared),
        }))
    }

    async fn read_now(
        &self,
        chunk: &Chunk,
        from: &Position,
        _limits: StreamLimits,
        gate: &dyn Gate,
    ) -> Result<Box<dyn ChunkReader>> {
        self.step()?;
        self.all_seen(number(from.as_str())?).await;
        gate.close().await;
        tokio::task::yield_now().await;
        let (visibility, rows) = self.rows_of(chunk, false)?;
        tokio::task::yield_now().await;
        Ok(Box::new(Snapshot {
            visibility,
            rows: rows.into(),
            shared: Arc::clone(&self.shared),
        }))
    }

    fn contains(&self, snapshot: &Visibility, tx: &TxId) -> Result<bool> {
        let (last, unseen) = seen(snapshot.as_str())?;
        let tx = number(tx.as_str())?;
        Ok(tx <= last && !unseen.contains(&tx))
    }

    fn passed(&self, at: &Position, snapshot: &Visibility) -> Result<bool> {
        Ok(number(at.as_str())? >= seen(snapshot.as_str())?.0)
    }

    async fn of_other_log(&self, seen: &[&Visibility]) -> Result<Vec<bool>> {
        self.step()?;
        let now = self.state().server;
        let seen = seen.iter().map(|seen| at_server(seen.as_str()));
        seen.map(|seen| Ok(seen?.1 != now)).collect()
    }

    async fn head(&self) -> Result<Position> {
        self.answers().await;
        Ok(Position::new(self.state().head().to_string()))
    }

    fn reached(&self, at: &Position, mark: &Position) -> Result<bool> {
        Ok(number(at.as_str())? >= number(mark.as_str())?)
    }

    async fn backlog_bytes(&self, at: &Position) -> Result<Option<u64>> {
        self.answers().await;
        Ok(self.state().head().checked_sub(number(at.as_str())?))
    }

    async fn stream(
        &self,
        from: &Position,
        tables: &[TableSchema],
        _limits: StreamLimits,
    ) -> Result<(Box<dyn ChangeStream>, Box<dyn Confirm>)> {
        self.step()?;
        let from = number(from.as_str())?;
        let state = self.state();
        if from < state.forgotten {
            return Err(Error::new(
                Kind::PositionLost,
                "the log was forgotten too early",
            ));
        }
        let there = state.schemas.iter().zip(&state.definitions);
        let wanted = there.map(|(schema, definition)| {
            let mut asked = tables.iter().enumerate();
            let asked = asked.find(|(_, table)| table.name == schema.name);
            let known = state.altered.then_some((definition, self.lie));
            let wanted = asked.map(|asked| Wanted::new(asked, schema, known, state.head()));
            wanted.transpose()
        });
        let wanted = wanted.collect::<Result<_>>()?;
        let shared = Arc::clone(&self.shared);
        let part_changes = self.part_changes.max(1);
        let stream = Stream {
            shared,
            wanted,
            at: from,
            sent: 0,
            part_changes,
            tells: state.altered,
            server: state.server,
        };
        Ok((Box::new(stream), Box::new(Forget(Arc::clone(&self.shared)))))
    }

    async fn bridge(
        &self,
        table: &TableSchema,
        then: Option<&Layout>,
        added: &[usize],
        retyped: &[(usize, String)],
    ) -> Result<Bridge> {
        self.step()?;
        let state = self.state();
        let mut all = state.schemas.iter().zip(&state.definitions);
        let found = all.find(|(schema, _)| schema.name == table.name);
        let (_, definition) = found.ok_or_else(|| Error::schema("no such table"))?;
        definition.bridge(table, then, added, retyped, (self.guesses, self.lie))
    }

    /// One that `guesses` knows only what its stream has met.
    async fn unsaid(&self, tables: &[(&TableName, &Layout, bool)]) -> Result<Vec<Unsaid>> {
        self.step()?;
        let state = self.state();
        let mut out = Vec::new();
        for (table, (name, then, told)) in tables.iter().enumerate() {
            let mut all = state.schemas.iter().zip(&state.definitions);
            let found = all.find(|(schema, _)| schema.name == **name);
            let found = found.filter(|_| *told || !self.guesses);
            let unsaid = found.map(|(_, definition)| definition.unsaid(table, then));
            out.extend(unsaid.transpose()?.flatten());
        }
        Ok(out)
    }

    async fn release(&self) -> Result<()> {
        self.step()
    }
}
