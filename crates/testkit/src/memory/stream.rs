//! The stream of a source in memory.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use thalweg_core::change::{Change, ChangeBatch, ChangeKind, Commit, SchemaChange, Transaction};
use thalweg_core::ports::{ChangeStream, Confirm};
use thalweg_core::position::{Position, TxId};
use thalweg_core::schema::TableSchema;
use thalweg_core::value::{CellRef, RowBatch};
use thalweg_core::{Error, Kind, Result, Side};

use super::alter::{Definition, Layout, Lie, Step, bits};
use super::places::number;
use super::source::Shared;
use super::{NULL, Row};

/// Where the cell of a column that is asked for comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pick {
    /// From the column of this index.
    At(usize),
    /// It is the same in all rows.
    Fill(i64),
    /// From nowhere: the rows do not have it.
    Nowhere,
}

/// A table that is asked for.
pub(super) struct Wanted {
    /// Its index in the task.
    index: usize,
    schema: TableSchema,
    /// For each of its columns.
    picks: Vec<Pick>,
    /// The columns whose old values are logged; `None`: all.
    logged: Option<Vec<usize>>,
    /// How it lies where the stream stands; `None`: as it is now.
    layout: Option<Layout>,
    /// The numbers of the columns that are asked for, as far as they are known.
    numbers: Vec<Option<u32>>,
    /// The numbers of those that the table had when the stream was opened, and the end of the log then.
    present: (Vec<u32>, u64),
    /// What it does wrong.
    lie: Lie,
}

impl Wanted {
    pub(super) fn new(
        (index, schema): (usize, &TableSchema),
        there: &TableSchema,
        known: Option<(&Definition, Lie)>,
        end: u64,
    ) -> Result<Self> {
        // Of tables that are not altered layouts mean nothing.
        let layout = schema.layout.as_ref().filter(|_| known.is_some());
        let present = known.iter().flat_map(|(definition, _)| &definition.columns);
        let mut wanted = Wanted {
            index,
            schema: schema.clone(),
            picks: Vec::new(),
            logged: there.old_image.clone(),
            layout: layout.map(Layout::parse).transpose()?,
            numbers: Vec::new(),
            lie: known.map_or(Lie::None, |(_, lie)| lie),
            present: (present.map(|column| column.number).collect(), end),
        };
        let names = schema.columns.iter().map(|column| &column.name);
        match &wanted.layout {
            None => {
                let places = names.filter_map(|name| there.column_index(name));
                wanted.picks = places.map(Pick::At).collect();
            }
            Some(layout) => {
                wanted.numbers = names.map(|name| layout.number(name)).collect();
                wanted.pick();
            }
        }
        Ok(wanted)
    }

    /// Looks where the cells are as the table lies now.
    fn pick(&mut self) {
        let Some(layout) = &self.layout else { return };
        let pick = |number: &Option<u32>| {
            let at = layout
                .columns
                .iter()
                .position(|c| Some(c.number) == *number);
            let young = layout
                .young
                .iter()
                .find(|y| Some(y.lying.number) == *number);
            match (at, young) {
                (Some(at), _) => Pick::At(at),
                (None, Some(young)) => Pick::Fill(young.fill),
                (None, None) => Pick::Nowhere,
            }
        };
        self.picks = self.numbers.iter().map(pick).collect();
    }

    /// Passes a statement, which is this transaction; how the table lies behind it, if in another way than before.
    fn meet(&mut self, step: &Step, id: u64) -> Result<Option<SchemaChange>> {
        let Some(mut layout) = self.layout.clone() else {
            return Err(self.changed("it was altered"));
        };
        if let Step::Vanish(times) = step
            && layout.gone < *times
            && self.lie != Lie::Passes
        {
            return Err(self.changed("rows have gone").of_unsaid());
        }
        if let Step::Add(column) = step {
            // One that is asked for, and that nothing is known of.
            let asked = self.schema.columns.iter().zip(&mut self.numbers);
            for (asked, number) in asked.filter(|(asked, _)| asked.name == column.name) {
                if number.is_none() && bits(asked) == column.bits {
                    *number = Some(column.number);
                }
            }
        }
        let asked = |number: u32| {
            let of = self.numbers.iter().position(|n| *n == Some(number));
            let column = self
                .schema
                .columns
                .get(of.filter(|_| self.lie != Lie::Passes)?);
            column.map(bits)
        };
        let whole = self.schema.whole && self.lie != Lie::Passes;
        let (present, end) = &self.present;
        let ends = |number: u32| whole && (id > *end || present.contains(&number));
        let passed = layout.pass(step, asked, ends, self.lie);
        passed.map_err(|why| self.changed(&why))?;
        let names = self.schema.columns.iter().zip(&self.numbers);
        let mut unknown = names.filter(|(_, number)| number.is_none());
        if unknown.any(|(column, _)| layout.number(&column.name).is_some()) {
            return Err(self.changed("a column is called as one that is read"));
        }
        if self.layout.as_ref() == Some(&layout) {
            return Ok(None);
        }
        let stored = layout.stored();
        self.layout = Some(layout);
        self.pick();
        Ok(Some(SchemaChange {
            table: self.index,
            layout: stored,
        }))
    }

    /// The cells that are asked for of a row of the log.
    fn cells(&self, row: &[i64], shape: &[u8]) -> Result<Row> {
        if let Some(layout) = &self.layout
            && !layout.is_shaped(shape)
        {
            return Err(self.changed("its rows do not lie as they are known to"));
        }
        let cell = |pick: &Pick| match *pick {
            Pick::At(at) => row.get(at).copied(),
            Pick::Fill(fill) => Some(fill),
            Pick::Nowhere => None,
        };
        let cells: Option<Row> = self.picks.iter().map(cell).collect();
        cells.ok_or_else(|| self.changed("a column is not there"))
    }

    fn changed(&self, how: &str) -> Error {
        let name = &self.schema.name;
        Error::schema(format!("table {name} has changed: {how}"))
            .at(Side::Source)
            .about(name)
    }

    /// Adds a change of the table to a batch.
    fn add(
        &self,
        change: &super::MemoryChange,
        shape: &[u8],
        into: &mut ChangeBatch,
    ) -> Result<()> {
        let rows = &mut into.rows;
        let cells = |row: &Option<Row>| row.as_ref().map(|row| self.cells(row, shape)).transpose();
        let (old, new) = (cells(&change.before)?, cells(&change.after)?);
        let logged = self.logged.as_ref();
        let place = |c: usize| match self.picks.get(c) {
            Some(Pick::At(at)) => *at,
            _ => c,
        };
        let before = old.as_ref().map(|row| {
            let sent = |c: usize| logged.is_none_or(|logged| logged.contains(&place(c)));
            image(rows, row, sent, CellRef::Absent)
        });
        let after = new.as_ref().map(|row| {
            let old = old.as_ref().filter(|_| logged.is_some());
            let sent = |c: usize| old.is_none_or(|old| old.get(c) != row.get(c));
            image(rows, row, sent, CellRef::Unchanged)
        });
        let kind = match (before, after) {
            (None, None) => ChangeKind::Truncate,
            (None, _) => ChangeKind::Insert,
            (_, None) => ChangeKind::Delete,
            _ => ChangeKind::Update,
        };
        into.changes.push(Change {
            table: self.index,
            kind,
            before,
            after,
            unchecked: false,
        });
        Ok(())
    }
}

/// Committed transactions from a place on.
pub(super) struct Stream {
    pub(super) shared: Arc<Shared>,
    /// Per table of the source.
    pub(super) wanted: Vec<Option<Wanted>>,
    pub(super) at: u64,
    /// Changes of the transaction after `at` that were delivered in parts.
    pub(super) sent: usize,
    pub(super) part_changes: usize,
    /// Whether times without changes come as empty transactions.
    pub(super) tells: bool,
    /// The server it is read at.
    pub(super) server: u64,
}

/// After so long without changes an empty transaction comes.
const STILL: Duration = Duration::from_secs(1);

impl Stream {
    fn nothing(&self) -> Transaction {
        let at = self.at.to_string();
        Transaction {
            id: TxId::new(at.clone()),
            changes: ChangeBatch::default(),
            schema: Vec::new(),
            commit: Some(Commit {
                position: Position::new(at),
                time_us: None,
            }),
            log_bytes: 0,
        }
    }

    /// The next transaction or part, if the log has one.
    fn take(&mut self) -> Result<Option<Transaction>> {
        let mut state = self.shared.state();
        if state.server != self.server {
            return Err(Error::transient("the server is gone"));
        }
        let Some(index) = self.at.checked_sub(state.forgotten) else {
            return Err(Error::new(
                Kind::PositionLost,
                "the log was forgotten too early",
            ));
        };
        let index = usize::try_from(index).expect("a log in memory is short");
        let Some(entry) = state.log.get(index) else {
            return Ok(None);
        };
        let id = self.at + 1;
        let mut schema = Vec::new();
        if let Some((table, step)) = &entry.step
            && let Some(Some(wanted)) = self.wanted.get_mut(*table)
        {
            schema.extend(wanted.meet(step, id)?);
        }
        let mut changes = ChangeBatch::default();
        let rest = entry.changes.iter().skip(self.sent);
        for change in rest.take(self.part_changes) {
            self.sent += 1;
            if let Some(Some(wanted)) = self.wanted.get(change.table) {
                let shape = entry.shapes.get(change.table);
                let shape = shape.map_or(&[][..], Vec::as_slice);
                wanted.add(change, shape, &mut changes)?;
            }
        }
        let commit = (self.sent >= entry.changes.len()).then(|| Commit {
            position: Position::new(id.to_string()),
            // Recognisable: the number of the transaction, in seconds.
            time_us: i64::try_from(id).ok().map(|id| id * 1_000_000),
        });
        if commit.is_some() {
            state.told = state.told.max(id);
        }
        drop(state);
        if commit.is_some() {
            self.at = id;
            self.sent = 0;
        }
        let log_bytes = changes.bytes() as u64;
        Ok(Some(Transaction {
            id: TxId::new(id.to_string()),
            changes,
            schema,
            commit,
            log_bytes,
        }))
    }
}

#[async_trait]
impl ChangeStream for Stream {
    async fn next(&mut self) -> Result<Transaction> {
        self.shared.faults.step()?;
        let shared = Arc::clone(&self.shared);
        loop {
            // Registered before looking, so that a commit in between is not missed.
            let more = shared.more.notified();
            tokio::pin!(more);
            more.as_mut().enable();
            if let Some(transaction) = self.take()? {
                return Ok(transaction);
            }
            match self.tells {
                false => more.await,
                true => {
                    if tokio::time::timeout(STILL, more).await.is_err() {
                        return Ok(self.nothing());
                    }
                }
            }
        }
    }
}

pub(super) struct Forget(pub(super) Arc<Shared>);

#[async_trait]
impl Confirm for Forget {
    async fn confirm(&mut self, durable: &Position) -> Result<()> {
        self.0.faults.step()?;
        let durable = number(durable.as_str())?;
        let mut state = self.0.state();
        while state.forgotten < durable && state.log.pop_front().is_some() {
            state.forgotten += 1;
        }
        drop(state);
        self.0.faults.step()
    }
}

/// Appends a row.
pub(super) fn push(rows: &mut RowBatch, row: &[i64]) -> usize {
    image(rows, row, |_| true, CellRef::Absent)
}

/// Appends a row; cells that are not `sent` as `left_out`.
fn image(
    rows: &mut RowBatch,
    row: &[i64],
    sent: impl Fn(usize) -> bool,
    left_out: CellRef<'static>,
) -> usize {
    for (column, cell) in row.iter().enumerate() {
        rows.push(match *cell {
            _ if !sent(column) => left_out,
            NULL => CellRef::Null,
            cell => CellRef::I64(cell),
        });
    }
    rows.end_row()
}
