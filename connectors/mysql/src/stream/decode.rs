//! Events to transactions, without a connection: the stream feeds it from a dump, recordings from a
//! file.
//!
//! The position moves only at the end of a group (XID, COMMIT, a standalone statement): a place
//! inside a transaction is never handed out. An event that may carry rows and is not known stops with
//! an error. Nor is a log that was reset taken for the one that was read: nothing may lie before the
//! position, and its file must have been made in the same second as before.
//!
//! XA: a server logs a group at XA PREPARE and decides it later. A prepared group is not held; its
//! start goes into the position, and at XA COMMIT it is asked for again ([`Step::Again`]). The
//! transaction's identity is the place (or GTID) of the XA COMMIT, because a snapshot sees its rows
//! from there on. MariaDB says at the group's beginning that it will be prepared; MySQL only at its
//! end whether it is, so there the rows of every XA group are read in the second pass, after the end.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use thalweg_core::change::{ChangeBatch, Commit, SchemaChange, Transaction};
use thalweg_core::ports::StreamLimits;
use thalweg_core::schema::TableSchema;
use thalweg_core::{Error, Result, Side};

use super::cursor::Cursor;
use super::piece::{self, Point};
use crate::error::lost;
use crate::gtid::{Gtid, GtidSet};
use crate::layout::{self, Layout};
use crate::position::{Coordinate, Place, TxName};
use crate::wire::event::{self, Form, Header, ty};
use crate::wire::map::TableMap;
use crate::wire::payload::Payload;
use crate::wire::rows::Columns;
use crate::wire::{ids, numbers};

/// Empty transactions are handed out at most this often.
pub(super) const IDLE: Duration = Duration::from_millis(200);

/// What an event gives.
#[derive(Debug)]
pub(crate) enum Step {
    Nothing,
    Out(Transaction),
    /// The group that begins here is wanted again, up to its XA PREPARE.
    Again(String, u64),
}

/// How many events a compressed transaction had, read for the first or the second time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Inner {
    #[default]
    None,
    First(u64),
    Second(u64),
}

/// Who began a group.
#[derive(Clone, Debug)]
pub(super) enum Began {
    /// A server without identifiers, or a transaction without one.
    Nameless,
    /// MySQL.
    MySql(Gtid),
    /// MariaDB: domain, server, sequence.
    Maria(u32, u32, u64),
}

/// A group being read.
pub(super) struct Open {
    pub(super) start: Coordinate,
    pub(super) began: Began,
    /// Ends with its one statement.
    pub(super) single: bool,
    /// Its one statement alters nothing yet, or not any more: MariaDB logs the beginning and the end of
    /// an `ALTER TABLE` (`binlog_alter_two_phase`), and rows of the old form in between.
    pub(super) undone: bool,
    /// Its rows come in a second pass.
    pub(super) later: bool,
    pub(super) xid: Option<String>,
    pub(super) time_us: i64,
    pub(super) touched: bool,
    pub(super) parts: bool,
}

pub(super) struct Captured {
    pub(super) body: Vec<u8>,
    /// Index of the table and its columns, if it is captured.
    pub(super) table: Option<(usize, Columns)>,
}

/// What the catalogue says beyond the schemas.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The character set of each collation.
    pub(crate) collations: HashMap<u64, String>,
}

pub(crate) struct Decoder {
    pub(super) limits: StreamLimits,
    pub(super) tables: Vec<TableSchema>,
    /// Of each table all the columns at the place that is read.
    pub(super) layouts: Vec<Layout>,
    pub(super) names: HashMap<(Vec<u8>, Vec<u8>), usize>,
    pub(super) known: Known,
    /// The end of the log when the stream was opened: what the tables were asked for as is of that place or
    /// behind it. `None`: there is no server.
    pub(crate) end: Option<Place>,
    pub(super) cursor: Cursor,
    pub(super) maps: FxHashMap<u64, Captured>,
    pub(super) place: Place,
    /// Whether the coordinate of `place` is one of this server's log, and not yet another's.
    anchored: bool,
    pub(super) open: Option<Open>,
    /// A compressed transaction, and whether it is read for the second time.
    payload: Option<(Payload, bool)>,
    /// What is left of a row event, its form, and whether it is read for the second time.
    pub(super) rest: Option<(Vec<u8>, Form, bool)>,
    /// The compressed transaction that has just come to its end.
    pub(crate) inner: Inner,
    pub(super) changes: ChangeBatch,
    /// What the group has made of layouts.
    pub(super) schema: Vec<SchemaChange>,
    pub(super) log_bytes: u64,
    pub(super) moved: bool,
    pub(super) last_empty: Instant,
    /// Set while a recording is played.
    pub(crate) playing: Option<Playing>,
}

/// What playing a recording changes. Definitions and logged statements are passed over, because the
/// recording was made for other things, and so is an end of a group whose beginning is not in it; rows
/// outside of a group, which servers before 5.1.24 logged, are one of their own.
#[derive(Debug, Default)]
pub(crate) struct Playing {
    /// How many events of each type came.
    pub(crate) events: BTreeMap<u8, u64>,
    /// The transactions before the file, if it says so.
    pub(crate) previous: GtidSet,
    /// Makes the schema of each table from the log itself, if none were given.
    pub(crate) learn: Option<fn(&TableMap<'_>) -> Result<TableSchema>>,
}

pub(super) fn stop(message: impl Into<String>) -> Error {
    Error::config(message).at(Side::Source)
}

/// What messages call the group that is read, or the place between two.
pub(super) fn place_of(open: Option<&Open>, cursor: &Cursor) -> String {
    match open {
        Some(open) => format!("{}:{}", open.start.file, open.start.pos),
        None => format!("{}:{}", cursor.file, cursor.pos),
    }
}

impl Decoder {
    /// Goes on at `place`; `anchored`: its coordinate is one of this log.
    pub(crate) fn new(
        place: Place,
        cursor: Cursor,
        anchored: bool,
        tables: &[TableSchema],
        known: Known,
        limits: StreamLimits,
    ) -> Result<Decoder> {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let name =
            |(i, t): (usize, &TableSchema)| ((bytes(&t.name.schema), bytes(&t.name.name)), i);
        Ok(Decoder {
            limits,
            tables: tables.to_vec(),
            layouts: tables.iter().map(Layout::of).collect::<Result<_>>()?,
            names: tables.iter().enumerate().map(name).collect(),
            known,
            end: None,
            cursor,
            maps: FxHashMap::default(),
            place,
            anchored,
            open: None,
            payload: None,
            rest: None,
            inner: Inner::None,
            changes: ChangeBatch::default(),
            schema: Vec::new(),
            log_bytes: 0,
            moved: false,
            last_empty: Instant::now(),
            playing: None,
        })
    }

    /// The tables, which playing a recording may have added.
    pub(crate) fn tables(&self) -> &[TableSchema] {
        &self.tables
    }

    /// Whether a group has begun and not ended.
    pub(crate) fn in_group(&self) -> bool {
        self.open.is_some()
    }

    /// Takes a table's present schema from the log.
    pub(super) fn learn(&mut self, map: &TableMap<'_>) -> Result<()> {
        let Some(learn) = self.playing.as_ref().and_then(|p| p.learn) else {
            return Ok(());
        };
        let schema = learn(map)?;
        let key = (map.schema.to_vec(), map.table.to_vec());
        let known = self.names.get(&key).and_then(|i| self.tables.get(*i));
        if known != Some(&schema) {
            let null = vec![layout::null(); schema.columns.len()];
            self.layouts.push(Layout::new(&schema, null));
            self.names.insert(key, self.tables.len());
            self.tables.push(schema);
        }
        Ok(())
    }

    pub(super) fn table_name(&self, index: usize) -> String {
        self.tables
            .get(index)
            .map_or_else(String::new, |t| t.name.to_string())
    }

    /// An event's size beyond which a row in it is larger than the limit: the server cuts events at
    /// a few KiB unless one row is larger.
    pub(super) fn event_max(&self) -> u64 {
        self.limits.row_bytes_max.saturating_mul(2) + 65_536
    }

    /// An empty transaction that moves the position.
    pub(super) fn empty(&mut self) -> Transaction {
        self.moved = false;
        self.last_empty = Instant::now();
        Transaction {
            id: TxName::At(self.place.at.clone()).id(),
            changes: ChangeBatch::default(),
            schema: Vec::new(),
            commit: Some(Commit {
                position: self.place.position(),
                time_us: None,
            }),
            log_bytes: std::mem::take(&mut self.log_bytes),
        }
    }

    /// Takes an event; `second`: of a group that is read again.
    pub(crate) fn event(&mut self, header: &Header, body: &[u8], second: bool) -> Result<Step> {
        if !second {
            self.cursor.advance(header, body)?;
            if !header.artificial() {
                self.log_bytes += u64::from(header.size);
            }
        }
        self.handle(header, body, second)
    }

    /// The next step of a row event that is larger than a part, or of a compressed transaction; `None`:
    /// there is none, or it has come to its end. To be asked after each event until it is `None`.
    pub(crate) fn more(&mut self) -> Result<Option<Step>> {
        if let Some(step) = self.resume()? {
            return Ok(Some(step));
        }
        let Some((payload, second)) = &mut self.payload else {
            return Ok(None);
        };
        let second = *second;
        match payload.next()? {
            Some((header, body)) => self.handle(&header, &body, second).map(Some),
            None => {
                self.inner = if second {
                    Inner::Second(payload.count)
                } else {
                    Inner::First(payload.count)
                };
                self.payload = None;
                Ok(None)
            }
        }
    }

    fn handle(&mut self, header: &Header, body: &[u8], second: bool) -> Result<Step> {
        if let Some(playing) = &mut self.playing
            && !second
        {
            *playing.events.entry(header.ty).or_default() += 1;
        }
        match header.ty {
            ty::ROTATE => self.maps.clear(),
            ty::FORMAT_DESCRIPTION => {
                self.maps.clear();
                if !second {
                    self.file_begins()?;
                }
            }
            ty::HEARTBEAT | ty::HEARTBEAT_V2 if !second => return self.heartbeat(),
            ty::HEARTBEAT | ty::HEARTBEAT_V2 => {}
            ty::MARIA_GTID => self.maria_gtid(header, body, second)?,
            ty::GTID | ty::ANONYMOUS_GTID | ty::GTID_TAGGED if !second => {
                let begins = match header.ty {
                    ty::GTID_TAGGED => ids::tagged(body)?,
                    _ => ids::gtid(body)?,
                };
                let began = begins.gtid.map_or(Began::Nameless, Began::MySql);
                self.begin(header, true, began)?;
                if let (Some(open), Some(time_us)) = (&mut self.open, begins.time_us) {
                    open.time_us = time_us;
                }
            }
            ty::GTID | ty::ANONYMOUS_GTID | ty::GTID_TAGGED => {}
            ty::QUERY => return self.query(header, body, second),
            ty::QUERY_COMPRESSED => {
                let (_, statement) = event::query(body)?;
                let head = body.len() - statement.len();
                let mut plain = body.get(..head).unwrap_or(&[]).to_vec();
                plain.extend(numbers::inflate(statement, self.limits.row_bytes_max)?);
                return self.query(header, &plain, second);
            }
            ty::XID if !second => return self.commit(),
            ty::XID => {
                return Err(lost(
                    "another group lies where a prepared XA transaction began",
                ));
            }
            ty::XA_PREPARE => return self.xa_prepared(body, second),
            ty::TABLE_MAP => {
                if self.playing.is_some() && self.open.is_none() {
                    self.begin(header, true, Began::Nameless)?;
                }
                self.table_map(body)?;
            }
            ty::PREVIOUS_GTIDS => {
                if let Some(playing) = &mut self.playing {
                    playing.previous = ids::previous(body)?;
                }
            }
            ty::TRANSACTION_PAYLOAD if self.payload.is_none() => {
                self.payload = Some((Payload::open(body, self.event_max())?, second));
            }
            ty::INCIDENT => {
                return Err(lost(format!(
                    "the server logged an incident at {}: changes are missing",
                    self.here()
                )));
            }
            ty::START_ENCRYPTION => return Err(stop("the server sends an encrypted log")),
            other => {
                if let Some(form) = event::form(other) {
                    return self.row_event(body, form, second);
                }
                if event::load_data(other) {
                    return self.load_data();
                }
                if !event::harmless(header) {
                    return Err(stop(format!(
                        "the log has an event of type {other} at {} that this version does not know",
                        self.here()
                    )));
                }
            }
        }
        Ok(Step::Nothing)
    }

    fn heartbeat(&mut self) -> Result<Step> {
        if self.open.is_some() || self.cursor.file.is_empty() {
            return Ok(Step::Nothing);
        }
        self.not_before_place(&self.cursor.coordinate())?;
        let before = self.place.at.clone();
        self.step();
        if before != self.place.at || self.moved {
            return Ok(Step::Out(self.empty()));
        }
        Ok(Step::Nothing)
    }

    fn maria_gtid(&mut self, header: &Header, body: &[u8], second: bool) -> Result<()> {
        let gtid = event::maria_gtid(body)?;
        if second {
            if gtid.xid != self.open.as_ref().and_then(|o| o.xid.clone()) {
                return Err(lost(
                    "another group lies where a prepared XA transaction began",
                ));
            }
            return Ok(());
        }
        let began = Began::Maria(gtid.domain, header.server_id, gtid.seq);
        self.begin(header, gtid.standalone, began)?;
        if let Some(open) = &mut self.open {
            open.later = gtid.prepared;
            open.undone = gtid.undone;
            open.xid = gtid.xid;
        }
        Ok(())
    }

    /// Goes on at a place between two groups; nothing up to there was for this one.
    pub(super) fn pass(&mut self, to: &Point, bytes: u64) -> Result<()> {
        if self.open.is_some() {
            return Err(self.endless());
        }
        self.not_before_place(&to.cursor.coordinate())?;
        self.cursor = to.cursor.clone();
        self.place.gtid.extend(to.gtids.iter());
        self.log_bytes += bytes;
        self.step();
        Ok(())
    }

    /// A group begins, or all of another has passed, while one is open.
    fn endless(&self) -> Error {
        Error::transient(format!(
            "the group at {} has no end in the log",
            self.here()
        ))
        .at(Side::Source)
    }

    /// The names of the tables, as [`piece::name`] makes them.
    pub(super) fn wanted(&self) -> Vec<Vec<u8>> {
        let names = self.names.keys();
        names
            .map(|(schema, table)| piece::name(schema, table))
            .collect()
    }

    /// The place to read from to come to where this one stands.
    pub(super) fn start(&self) -> Coordinate {
        let open = self.open.as_ref();
        open.map_or_else(|| self.cursor.coordinate(), |open| open.start.clone())
    }

    pub(super) fn here(&self) -> String {
        place_of(self.open.as_ref(), &self.cursor)
    }

    /// Takes the cursor as the place.
    fn step(&mut self) {
        self.place.at = self.cursor.coordinate();
        self.place.born = self.cursor.born;
        self.anchored = true;
        self.moved = true;
    }

    /// Nothing behind the place can lie before it, but in a log that was reset.
    fn not_before_place(&self, here: &Coordinate) -> Result<()> {
        let at = &self.place.at;
        if self.anchored && self.playing.is_none() && here.compare(at)?.is_lt() {
            return Err(lost(format!(
                "the log continues at {}:{}, before the position {}:{}: it was reset",
                here.file, here.pos, at.file, at.pos
            )));
        }
        Ok(())
    }

    /// A file's first event came.
    fn file_begins(&mut self) -> Result<()> {
        self.abandon()?;
        if !self.anchored {
            return Ok(());
        }
        let (here, at) = (self.cursor.coordinate(), &self.place.at);
        if here.file == at.file {
            if self.place.born != 0 && self.place.born != self.cursor.born {
                return Err(lost(format!(
                    "the log's file {} is not the one that was read: the log was reset",
                    at.file
                )));
            }
            self.place.born = self.cursor.born;
        } else if here.compare(at)?.is_gt() {
            self.step();
        }
        Ok(())
    }

    pub(super) fn begin(&mut self, header: &Header, single: bool, began: Began) -> Result<()> {
        if self.open.is_some() {
            return Err(self.endless());
        }
        let mut start = self.cursor.coordinate();
        start.pos = start.pos.saturating_sub(u64::from(header.size));
        self.not_before_place(&start)?;
        self.open = Some(Open {
            start,
            began,
            single,
            undone: false,
            later: false,
            xid: None,
            time_us: i64::from(header.timestamp) * 1_000_000,
            touched: false,
            parts: false,
        });
        Ok(())
    }

    /// A new file begins. No group spans two, so one that is open was cut short by a crash of the
    /// server, which has rolled it back.
    fn abandon(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        self.changes.clear();
        self.schema.clear();
        if open.parts {
            // Only a new start takes back what was handed out.
            return Err(Error::transient(format!(
                "the group at {}:{} has no end in the log",
                open.start.file, open.start.pos
            ))
            .at(Side::Source));
        }
        Ok(())
    }

    fn xa_prepared(&mut self, body: &[u8], second: bool) -> Result<Step> {
        let (one_phase, xid) = event::xa_prepare(body)?;
        let Some(open) = &mut self.open else {
            return Err(stop("an XA PREPARE outside a group"));
        };
        if second {
            if open.xid.as_ref().is_some_and(|wanted| *wanted != xid) {
                return Err(lost(
                    "another group lies where a prepared XA transaction began",
                ));
            }
            self.maps.clear();
            return self.commit();
        }
        if open.touched && open.later {
            let (file, pos) = (open.start.file.clone(), open.start.pos);
            if one_phase {
                open.xid = Some(xid);
                return Ok(Step::Again(file, pos));
            }
            self.place.xa.insert(xid, (file, pos));
        }
        self.commit()
    }

    /// The decision to commit a prepared transaction; `said`: which, as the statement has it.
    pub(super) fn xa_commit(&mut self, said: Option<String>) -> Result<Step> {
        let Some(open) = &mut self.open else {
            return Err(stop("an XA COMMIT outside a group"));
        };
        if open.xid.is_none() {
            open.xid = said;
        }
        match open.xid.as_ref().and_then(|xid| self.place.xa.remove(xid)) {
            Some((file, pos)) => Ok(Step::Again(file, pos)),
            None => self.commit(),
        }
    }

    /// What was handed to be read again is read from its beginning.
    pub(crate) fn again(&mut self) {
        self.maps.clear();
    }

    pub(super) fn name(open: &Open) -> TxName {
        match &open.began {
            Began::MySql(gtid) => TxName::Gtid(gtid.clone()),
            _ => TxName::At(open.start.clone()),
        }
    }

    /// The group ends here: the position moves.
    pub(super) fn commit(&mut self) -> Result<Step> {
        let Some(open) = self.open.take() else {
            if self.playing.is_some() {
                return Ok(Step::Nothing);
            }
            return Err(stop(format!("a commit outside a group at {}", self.here())));
        };
        match &open.began {
            Began::Maria(domain, server, seq) => {
                self.place.gtid.insert(*domain, (*server, *seq));
            }
            Began::MySql(gtid) => {
                if let Some(set) = &mut self.place.set {
                    set.add(gtid);
                }
            }
            Began::Nameless => {}
        }
        self.step();
        if self.changes.changes.is_empty() && self.schema.is_empty() && !open.parts {
            let due = self.last_empty.elapsed() >= IDLE;
            return Ok(if due {
                Step::Out(self.empty())
            } else {
                Step::Nothing
            });
        }
        self.moved = false;
        Ok(Step::Out(Transaction {
            id: Decoder::name(&open).id(),
            changes: self.changes.take(),
            schema: std::mem::take(&mut self.schema),
            commit: Some(Commit {
                position: self.place.position(),
                time_us: Some(open.time_us),
            }),
            log_bytes: std::mem::take(&mut self.log_bytes),
        }))
    }
}
