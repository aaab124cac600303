//! From messages to transactions; no socket.
//!
//! A transaction in progress (which we do not ask for, see `docs/decisions`) comes in stretches between
//! those of others, each change under the number of its subtransaction. A savepoint that is rolled back
//! is told by that number, so the changes are kept by it until the commit. So are the forms that tables
//! have inside of such a transaction.

use std::collections::{HashMap, VecDeque};

use rustc_hash::FxHashMap;
use thalweg_core::change::{Change, ChangeBatch, ChangeKind, Commit, SchemaChange, Transaction};
use thalweg_core::ports::StreamLimits;
use thalweg_core::schema::TableName;
use thalweg_core::value::RowBatch;
use thalweg_core::{Error, Result, Side};

use super::relation::{self, Captured, Known, Which};
use super::unreadable;
use crate::layout::Column;
use crate::position::{self, Place};
use crate::unsaid;
use crate::wire::Malformed;
use crate::wire::cells;
use crate::wire::pgoutput::{self, Ended, Message, Old, Relation};
use crate::wire::replication::{EPOCH_MICROS, Lsn};

/// Bytes kept of transactions in progress.
const HELD_BYTES_MAX: usize = 64 << 20;

/// A transaction being read.
/// A table that has other files.
pub(super) struct Refiled {
    pub(super) oid: u32,
    pub(super) was: String,
    pub(super) truncates: Vec<u32>,
}

/// So many transactions that truncated a table are remembered.
const TRUNCATES: usize = 64;

struct Open {
    xid: u32,
    /// Where its commit record begins.
    at: Lsn,
    parts: bool,
}

/// A transaction in progress.
#[derive(Default)]
struct Streamed {
    /// Changes in order, by subtransaction.
    stretches: Vec<(u32, ChangeBatch)>,
    relations: Relations,
}

/// What the server calls its tables; `None`: not captured.
type Relations = FxHashMap<u32, Option<Captured>>;

/// Messages on their way to transactions.
pub(crate) struct Assembly {
    limits: StreamLimits,
    known: Vec<Known>,
    names: HashMap<TableName, usize>,
    /// The end of the log when the tables were asked about.
    asked: Lsn,
    relations: Relations,
    /// Tables that were described behind that place, since somebody asked ([`Assembly::told`]).
    told: Vec<usize>,
    /// The table that the last message described.
    described: Option<usize>,
    /// What the open transaction has shown of tables.
    schema: Vec<SchemaChange>,
    reader: cells::Reader,
    place: Place,
    open: Option<Open>,
    changes: ChangeBatch,
    log_bytes: u64,
    /// The place has moved since it was last handed out.
    moved: bool,
    ready: VecDeque<Transaction>,
    /// The transaction in progress whose stretch is being read.
    stretch: Option<u32>,
    streamed: HashMap<u32, Streamed>,
}

impl Assembly {
    /// Goes on at `place`. The tables are as they were known when the log ended at `asked`.
    pub(crate) fn new(known: Vec<Known>, asked: Lsn, place: Place, limits: StreamLimits) -> Self {
        let names = known.iter().enumerate();
        Assembly {
            limits,
            names: names.map(|(i, k)| (k.schema.name.clone(), i)).collect(),
            known,
            asked,
            relations: Relations::default(),
            told: Vec::new(),
            described: None,
            schema: Vec::new(),
            reader: cells::Reader::new(limits.row_bytes_max),
            place,
            open: None,
            changes: ChangeBatch::default(),
            log_bytes: 0,
            moved: false,
            ready: VecDeque::new(),
            stretch: None,
            streamed: HashMap::new(),
        }
    }

    /// The server has come to `end`.
    pub(super) fn alive(&mut self, end: Lsn) {
        if self.open.is_none() && self.stretch.is_none() {
            self.step(end);
        }
    }

    /// Whether the place has moved, and is between two transactions.
    pub(super) fn moved(&self) -> bool {
        self.moved && self.open.is_none()
    }

    /// Tables that may have been altered since they were asked about, and what is known of all.
    pub(super) fn told(&self) -> (&[usize], &[Known]) {
        (&self.told, &self.known)
    }

    /// Those are as they were.
    pub(super) fn looked(&mut self) {
        self.told.clear();
    }

    /// The files of a table are `now` these, and the log ends at `end`. If they are others than those known and
    /// the log was read to where it ended when they were seen first: the table's number, the files known,
    /// and the transactions that truncated it lately.
    pub(super) fn refiled(&mut self, at: usize, now: &str, end: Lsn) -> Option<Refiled> {
        let place = self.place.lsn;
        let known = self.known.get_mut(at)?;
        if known.schema.layout.is_none() || known.layout.files == now {
            known.refiled = None;
            return None;
        }
        match &known.refiled {
            Some((files, seen)) if files == now => (place >= *seen).then(|| Refiled {
                oid: known.oid,
                was: known.layout.files.clone(),
                truncates: known.truncates.iter().copied().collect(),
            }),
            _ => {
                known.refiled = Some((now.to_owned(), end));
                None
            }
        }
    }

    /// Rows of a table may have become what the log does not say.
    pub(super) fn not_said(&self, at: usize, how: &str) -> Error {
        match self.known.get(at) {
            Some(known) => relation::not_said(&known.schema.name, how),
            None => Error::bug("a table that is not there"),
        }
    }

    /// A table's files are others, and its rows are what the log says.
    pub(super) fn settle_files(&mut self, at: usize, now: String) {
        let Some(known) = self.known.get_mut(at) else {
            return;
        };
        known.layout.files = now;
        known.refiled = None;
        let layout = known.layout.stored();
        self.schema.retain(|change| change.table != at);
        self.schema.push(SchemaChange { table: at, layout });
        self.moved = true;
    }

    /// What is finished.
    pub(crate) fn ready(&mut self) -> Option<Transaction> {
        self.ready.pop_front()
    }

    /// An empty transaction that moves the position.
    pub(super) fn empty(&mut self) -> Transaction {
        self.moved = false;
        Transaction {
            id: position::tx(0),
            changes: ChangeBatch::default(),
            schema: std::mem::take(&mut self.schema),
            commit: Some(Commit {
                position: self.place.position(),
                time_us: None,
            }),
            log_bytes: std::mem::take(&mut self.log_bytes),
        }
    }

    /// The place moves to `lsn`, but never back.
    fn step(&mut self, lsn: Lsn) {
        if lsn > self.place.lsn {
            self.place.lsn = lsn;
            self.moved = true;
        }
    }

    /// The table of a message of which only the beginning was read.
    pub(super) fn table_of(&self, beginning: &[u8]) -> String {
        let id = beginning
            .get(1..5)
            .and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?)));
        let captured = id.and_then(|id| self.relations.get(&id)?.as_ref());
        let known = captured.and_then(|captured| self.known.get(captured.table));
        known.map_or("a source table".to_owned(), |k| k.schema.name.to_string())
    }

    /// Takes a message of the output plugin.
    pub(crate) fn take(&mut self, body: &[u8]) -> Result<()> {
        self.log_bytes += u64::try_from(body.len()).unwrap_or(0);
        let (subxid, message) = pgoutput::parse(body, self.stretch.is_some())?;
        match message {
            Message::Begin { xid, commit, .. } => {
                if self.open.is_some() || self.stretch.is_some() {
                    return Err(Malformed("a transaction begins inside another").into());
                }
                self.open = Some(Open {
                    xid,
                    at: commit,
                    parts: false,
                });
                Ok(())
            }
            Message::Commit(ended) => {
                let open = self
                    .open
                    .take()
                    .ok_or(Malformed("a commit outside a transaction"))?;
                self.commit(open, ended);
                Ok(())
            }
            Message::StreamStart { xid } => {
                if self.open.is_some() || self.stretch.is_some() {
                    return Err(Malformed("a transaction goes on inside another").into());
                }
                self.stretch = Some(xid);
                Ok(())
            }
            Message::StreamStop => match self.stretch.take() {
                Some(_) => self.bounded(),
                None => Err(Malformed("a transaction stops that did not go on").into()),
            },
            Message::StreamAbort { xid, subxid } => {
                if xid == subxid {
                    self.streamed.remove(&xid);
                } else if let Some(streamed) = self.streamed.get_mut(&xid) {
                    streamed.stretches.retain(|(of, _)| *of != subxid);
                }
                Ok(())
            }
            Message::StreamCommit { xid, ended } => {
                self.commit_streamed(xid, ended);
                Ok(())
            }
            Message::BeginPrepare { gid }
            | Message::Prepare { gid }
            | Message::StreamPrepare { gid }
            | Message::CommitPrepared { gid }
            | Message::RollbackPrepared { gid } => Err(Error::config(format!(
                "the slot sends transactions before they are decided: {gid}"
            ))
            .with_hint(
                "ALTER_REPLICATION_SLOT cannot change it: drop the slot and reset the task, so that \
                 it makes its own",
            )
            .at(Side::Source)),
            message => self.rows(message, subxid),
        }
    }

    /// Takes what is between begin and commit.
    fn rows(&mut self, message: Message<'_>, subxid: Option<u32>) -> Result<()> {
        let known = self.known.as_slice();
        let (relations, more, changes) = match (self.stretch, subxid) {
            (Some(xid), Some(subxid)) => {
                let streamed = self.streamed.entry(xid).or_default();
                let Streamed {
                    stretches,
                    relations,
                } = streamed;
                if stretches.last().is_none_or(|(of, _)| *of != subxid) {
                    stretches.push((subxid, ChangeBatch::default()));
                }
                let last = stretches.last_mut().map(|(_, changes)| changes);
                let last = last.ok_or_else(|| Error::bug("a stretch that was just made"))?;
                (relations, Some(&self.relations), last)
            }
            _ => (&mut self.relations, None, &mut self.changes),
        };
        let described = std::mem::take(&mut self.described);
        if let Message::Relation(relation) = message {
            let news = self.open.as_ref().is_none_or(|open| open.at >= self.asked);
            let captured = relation::compare(&relation, known, &self.names, news)?;
            let table = captured.as_ref().map(|captured| captured.table);
            relations.insert(relation.id, captured);
            if let Some(root) = described.filter(|_| table.is_none()) {
                self.part_of(root, relation.id);
            }
            self.described = table;
            if let Some(table) = table.filter(|_| self.stretch.is_none()) {
                self.shown(table, &relation);
            }
            self.told.extend(table.filter(|_| news));
            return Ok(());
        }
        let truncates = match &message {
            Message::Truncate { relations } => relations.iter().collect(),
            _ => Vec::new(),
        };
        let mut rows = Rows {
            relations,
            more,
            known,
            reader: &mut self.reader,
            changes,
            row_bytes_max: self.limits.row_bytes_max,
        };
        rows.take(message)?;
        if !truncates.is_empty() {
            let xid = self.stretch.or(self.open.as_ref().map(|open| open.xid));
            let known = self.known.iter_mut();
            for known in known.filter(|known| truncates.contains(&known.oid)) {
                if known.truncates.len() == TRUNCATES {
                    known.truncates.pop_front();
                }
                known.truncates.extend(xid);
            }
        }
        if self.stretch.is_some() {
            return Ok(());
        }
        match &mut self.open {
            Some(open) if self.changes.bytes() >= self.limits.part_bytes => {
                open.parts = true;
                let xid = open.xid;
                self.hand_out(xid, None);
                Ok(())
            }
            None if !self.changes.changes.is_empty() => {
                Err(Malformed("a change outside a transaction").into())
            }
            _ => Ok(()),
        }
    }

    /// A table was described right behind one of ours, before any row: it is a part of that, whose rows come now.
    fn part_of(&mut self, root: usize, part: u32) {
        let Some(known) = self.known.get_mut(root) else {
            return;
        };
        let Some(files) = unsaid::with_part(&known.layout.files, known.oid, part) else {
            return;
        };
        known.layout.files = files;
        let layout = known.layout.stored();
        self.schema.retain(|change| change.table != root);
        self.schema.push(SchemaChange {
            table: root,
            layout,
        });
    }

    /// A table of ours was described as it is from here on. Columns that were young are there for good.
    fn shown(&mut self, table: usize, relation: &Relation<'_>) {
        let Some(known) = self.known.get_mut(table) else {
            return;
        };
        let layout = &mut known.layout;
        let columns = relation.columns.iter();
        let now = columns.clone().map(|c| (c.name, (c.ty, c.typmod)));
        let before = layout.columns.iter().map(|c| (c.name.as_str(), c.ty));
        // What nobody asks about is not remembered.
        if known.schema.layout.is_none() || now.eq(before) {
            return;
        }
        let number = |name: &str| {
            let asked = known.numbers.iter().find(|(of, _)| of == name);
            layout.number(name).or(asked.map(|(_, number)| *number))
        };
        let column = |column: &pgoutput::Column<'_>| Column {
            name: column.name.to_owned(),
            ty: (column.ty, column.typmod),
            number: number(column.name).unwrap_or(0),
        };
        layout.columns = columns.map(column).collect();
        let there = &layout.columns;
        layout
            .young
            .retain(|young| there.iter().all(|column| column.name != young.name));
        self.schema.retain(|change| change.table != table);
        self.schema.push(SchemaChange {
            table,
            layout: layout.stored(),
        });
    }

    fn commit(&mut self, open: Open, ended: Ended) {
        self.step(ended.end);
        if self.changes.changes.is_empty() && !open.parts {
            return;
        }
        self.moved = false;
        let commit = Commit {
            position: self.place.position(),
            time_us: ended.time.checked_add(EPOCH_MICROS),
        };
        self.hand_out(open.xid, Some(commit));
    }

    fn hand_out(&mut self, xid: u32, commit: Option<Commit>) {
        let schema = match commit {
            Some(_) => std::mem::take(&mut self.schema),
            None => Vec::new(),
        };
        self.ready.push_back(Transaction {
            id: position::tx(xid),
            changes: self.changes.take(),
            schema,
            commit,
            log_bytes: std::mem::take(&mut self.log_bytes),
        });
    }

    fn commit_streamed(&mut self, xid: u32, ended: Ended) {
        let streamed = self.streamed.remove(&xid).unwrap_or_default();
        // From here on the server takes these as told.
        self.relations.extend(streamed.relations);
        let mut parts = false;
        for (_, changes) in streamed.stretches {
            if !self.changes.changes.is_empty() {
                parts = true;
                self.hand_out(xid, None);
            }
            self.changes = changes;
        }
        let at = ended.commit;
        self.commit(Open { xid, at, parts }, ended);
    }

    /// Transactions in progress must not take all memory.
    fn bounded(&self) -> Result<()> {
        let stretches = self.streamed.values().flat_map(|s| &s.stretches);
        let held: usize = stretches.map(|(_, changes)| changes.held_bytes()).sum();
        if held > HELD_BYTES_MAX {
            return Err(Error::config(
                "transactions in progress are larger than what is kept of them",
            )
            .with_hint("raise logical_decoding_work_mem on the server")
            .at(Side::Source));
        }
        Ok(())
    }

    /// Bytes held, for the test that nothing grows beyond its input.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        let streamed = self.streamed.values().flat_map(|s| &s.stretches);
        let ready = self.ready.iter().map(|t| t.changes.held_bytes());
        self.changes.held_bytes()
            + streamed.map(|(_, c)| c.held_bytes()).sum::<usize>()
            + ready.sum::<usize>()
    }
}

/// What rows need of an assembly.
struct Rows<'a> {
    relations: &'a Relations,
    /// Where to look for what is not in there.
    more: Option<&'a Relations>,
    known: &'a [Known],
    reader: &'a mut cells::Reader,
    changes: &'a mut ChangeBatch,
    row_bytes_max: u64,
}

impl Rows<'_> {
    fn take(&mut self, message: Message<'_>) -> Result<()> {
        match message {
            Message::Insert { relation, new } => {
                self.change(relation, ChangeKind::Insert, |captured, reader, rows| {
                    let after = captured.image(new, Which::New, None, reader, rows)?;
                    Ok((None, Some(after)))
                })
            }
            Message::Update { relation, old, new } => {
                self.change(relation, ChangeKind::Update, |captured, reader, rows| {
                    captured.explains(old.as_ref())?;
                    // Without an old row the columns that identify it are as they were.
                    let (before, which) = match old {
                        Some(Old::Full(old)) => (old, Which::Old),
                        Some(Old::Key(old)) => (old, Which::Key),
                        None => (new, Which::Key),
                    };
                    let before = captured.image(before, which, None, reader, rows)?;
                    let fill = (which == Which::Old).then_some(before);
                    let after = captured.image(new, Which::New, fill, reader, rows)?;
                    Ok((Some(before), Some(after)))
                })
            }
            Message::Delete { relation, old } => {
                self.change(relation, ChangeKind::Delete, |captured, reader, rows| {
                    captured.explains(Some(&old))?;
                    let (old, which) = match old {
                        Old::Full(old) => (old, Which::Old),
                        Old::Key(old) => (old, Which::Key),
                    };
                    let before = captured.image(old, which, None, reader, rows)?;
                    Ok((Some(before), None))
                })
            }
            Message::Truncate { relations } => {
                let before = self.changes.changes.len();
                for id in relations.iter() {
                    self.change(id, ChangeKind::Truncate, |_, _, _| Ok((None, None)))?;
                    if self.changes.changes.len() - before > self.known.len() {
                        return Err(Malformed("a table is truncated twice at once").into());
                    }
                }
                Ok(())
            }
            Message::Origin | Message::Type | Message::Logical => Ok(()),
            _ => Err(Malformed("a message in a place where there is none").into()),
        }
    }

    /// Adds a change of a table, if it is one of ours. `images` makes the rows before and after.
    fn change(
        &mut self,
        relation: u32,
        kind: ChangeKind,
        images: impl FnOnce(
            &Captured,
            &mut cells::Reader,
            &mut RowBatch,
        ) -> std::result::Result<Images, Malformed>,
    ) -> Result<()> {
        let more = || self.more.and_then(|more| more.get(&relation));
        let captured = self
            .relations
            .get(&relation)
            .or_else(more)
            .ok_or(Malformed("rows of a table that was not described"))?;
        let Some(captured) = captured else {
            return Ok(());
        };
        let made = images(captured, self.reader, &mut self.changes.rows);
        let (before, after) = made.map_err(|error| {
            self.changes.rows.discard_open_row();
            let name = self.known.get(captured.table).map(|t| &t.schema.name);
            let name = name.map_or_else(String::new, TableName::to_string);
            if error == relation::IDENTITY {
                return relation::other_identity(&name);
            }
            unreadable(error, &name, self.row_bytes_max)
        })?;
        self.changes.changes.push(Change {
            table: captured.table,
            kind,
            before,
            after,
            unchecked: false,
        });
        Ok(())
    }
}

/// Indexes of the rows before and after.
type Images = (Option<usize>, Option<usize>);
