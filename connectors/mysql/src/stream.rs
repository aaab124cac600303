//! Committed transactions from the binlog.
//!
//! The position moves only at the end of a group (XID, COMMIT, a standalone statement): a place
//! inside a transaction is never handed out. An event that may carry rows and is not known, or that
//! says what we do not build yet, stops the stream with an error.
//!
//! Nor is a log that was reset taken for the one that was read: nothing may lie before the position, and
//! its file must have been made in the same second as before.
//!
//! XA: MariaDB logs a group at XA PREPARE and decides it later. A prepared group is not held; its start
//! goes into the position, and at XA COMMIT a second dump reads it from there. The transaction's
//! identity is the place of the XA COMMIT, because a snapshot sees its rows from there on.

mod dump;

use std::cell::Cell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use thalweg_core::change::{Change, ChangeBatch, ChangeKind, Commit, Transaction};
use thalweg_core::ports::{ChangeStream, DataSourceConfig, StreamLimits};
use thalweg_core::position::Position;
use thalweg_core::schema::{TableSchema, UniqueKey};
use thalweg_core::value::RowBatch;
use thalweg_core::{Error, Kind, Result, Side};

use self::dump::{Dump, Packet};
use crate::ddl::{self, Effect};
use crate::error::lost;
use crate::position::{Coordinate, Place};
use crate::wire::Buf;
use crate::wire::event::{self, RowOp, ty};
use crate::wire::rows::{self, Column, RowsEvent, TableMap};

/// Empty transactions are handed out at most this often.
const IDLE: Duration = Duration::from_millis(200);
/// The server sends heartbeats every half second; silence of this length is a dead connection.
const SILENCE: Duration = Duration::from_secs(10);

/// A group being read.
struct Open {
    start: Coordinate,
    gtid: Option<(u32, u32, u64)>,
    /// Ends with its one statement.
    single: bool,
    prepared: bool,
    xid: Option<String>,
    time_us: i64,
    touched: bool,
    parts: bool,
}

struct Captured {
    body: Vec<u8>,
    /// Index of the table and its columns, if it is captured.
    table: Option<(usize, Vec<Column>)>,
}

pub(crate) struct Stream {
    config: DataSourceConfig,
    limits: StreamLimits,
    tables: Vec<TableSchema>,
    names: HashMap<(Vec<u8>, Vec<u8>), usize>,
    main: Dump,
    maps: HashMap<u64, Captured>,
    /// The group that an XA COMMIT decides, and where it starts.
    wanted: Option<(String, u64)>,
    xa: Option<Dump>,
    place: Place,
    /// Whether the coordinate of `place` is one of this server's log, and not yet another's.
    anchored: bool,
    open: Option<Open>,
    changes: ChangeBatch,
    log_bytes: u64,
    moved: bool,
    last_empty: Instant,
}

/// When the file of a place was made.
pub(crate) async fn birth(config: &DataSourceConfig, place: &Place) -> Result<u32> {
    Box::pin(Dump::beside(config, place)).await?.birth().await
}

fn stop(message: impl Into<String>) -> Error {
    Error::config(message).at(Side::Source)
}

impl Stream {
    pub(crate) async fn open(
        config: &DataSourceConfig,
        from: &Position,
        tables: &[TableSchema],
        limits: StreamLimits,
    ) -> Result<Stream> {
        let mut place = Place::of_position(from)?;
        let main = Dump::open(config, &place).await?;
        let anchored = main.server == place.at.server;
        if !anchored {
            place.at.server = main.server;
            place.born = 0;
        }
        let names = tables
            .iter()
            .enumerate()
            .map(|(i, t)| {
                let key = (
                    t.name.schema.clone().into_bytes(),
                    t.name.name.clone().into_bytes(),
                );
                (key, i)
            })
            .collect();
        Ok(Stream {
            config: config.clone(),
            limits,
            tables: tables.to_vec(),
            names,
            main,
            maps: HashMap::new(),
            wanted: None,
            xa: None,
            place,
            anchored,
            open: None,
            changes: ChangeBatch::default(),
            log_bytes: 0,
            moved: false,
            last_empty: Instant::now(),
        })
    }

    fn table_name(&self, index: usize) -> String {
        self.tables
            .get(index)
            .map_or_else(String::new, |t| t.name.to_string())
    }

    /// An empty transaction that moves the position.
    fn empty(&mut self) -> Transaction {
        self.moved = false;
        self.last_empty = Instant::now();
        Transaction {
            id: self.place.at.tx(),
            changes: ChangeBatch::default(),
            commit: Some(Commit {
                position: self.place.position(),
                time_us: None,
            }),
            log_bytes: std::mem::take(&mut self.log_bytes),
        }
    }

    fn handle(&mut self, packet: Packet, second: bool) -> Result<Option<Transaction>> {
        let header = packet.header;
        let body = packet.event.data();
        if !second && !header.artificial() {
            self.log_bytes += u64::from(header.size);
        }
        match header.ty {
            ty::ROTATE => self.maps.clear(),
            ty::FORMAT_DESCRIPTION => {
                self.maps.clear();
                if !second {
                    self.file_begins()?;
                }
            }
            ty::HEARTBEAT => {
                if !second && self.open.is_none() && !self.main.file.is_empty() {
                    self.not_before_place(&self.main.coordinate())?;
                    let before = self.place.at.clone();
                    self.step();
                    if before != self.place.at || self.moved {
                        return Ok(Some(self.empty()));
                    }
                }
            }
            ty::MARIA_GTID => {
                let gtid = event::maria_gtid(body)?;
                if second {
                    if gtid.xid != self.open.as_ref().and_then(|o| o.xid.clone()) {
                        return Err(lost(
                            "another group lies where a prepared XA transaction began",
                        ));
                    }
                } else {
                    let single = gtid.standalone;
                    self.begin(
                        &packet,
                        single,
                        Some((gtid.domain, header.server_id, gtid.seq)),
                    )?;
                    if let Some(open) = &mut self.open {
                        open.prepared = gtid.prepared;
                        open.xid = gtid.xid;
                    }
                }
            }
            ty::GTID | ty::ANONYMOUS_GTID => self.begin(&packet, true, None)?,
            ty::QUERY => return self.query(&packet, body, second),
            ty::QUERY_COMPRESSED => {
                let (_, statement) = event::query(body)?;
                let head = body.len() - statement.len();
                let mut plain = body.get(..head).unwrap_or(&[]).to_vec();
                plain.extend(rows::inflate(statement, self.limits.row_bytes_max)?);
                return self.query(&packet, &plain, second);
            }
            ty::XID if !second => return self.commit(),
            ty::XA_PREPARE => {
                if second {
                    self.xa = None;
                    self.maps.clear();
                    return self.commit();
                }
                return self.xa_prepared(body);
            }
            ty::TABLE_MAP => self.table_map(body)?,
            ty::INCIDENT => {
                return Err(lost(format!(
                    "the server logged an incident at {}: changes are missing",
                    self.here()
                )));
            }
            ty::START_ENCRYPTION => return Err(stop("the server sends an encrypted log")),
            ty::TRANSACTION_PAYLOAD => {
                return Err(stop("compressed transactions of MySQL are not built yet")
                    .with_hint("SET GLOBAL binlog_transaction_compression = OFF;"));
            }
            ty::PARTIAL_UPDATE => {
                return Err(stop("partial JSON updates are not built yet")
                    .with_hint("SET GLOBAL binlog_row_value_options = '';"));
            }
            other => {
                if let Some((op, v2, compressed)) = event::row_op(other) {
                    return self.rows(body, op, v2, compressed, second);
                }
                if !event::harmless(other) {
                    return Err(stop(format!(
                        "the log has an event of type {other} at {} that this version does not know",
                        self.here()
                    )));
                }
            }
        }
        Ok(None)
    }

    fn here(&self) -> String {
        match &self.open {
            Some(open) => format!("{}:{}", open.start.file, open.start.pos),
            None => format!("{}:{}", self.main.file, self.main.pos),
        }
    }

    /// Takes the dump's coordinate as the place.
    fn step(&mut self) {
        self.place.at = self.main.coordinate();
        self.place.born = self.main.born;
        self.anchored = true;
        self.moved = true;
    }

    /// Nothing behind the place can lie before it, but in a log that was reset.
    fn not_before_place(&self, here: &Coordinate) -> Result<()> {
        let at = &self.place.at;
        if self.anchored && here.compare(at)?.is_lt() {
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
        let (here, at) = (self.main.coordinate(), &self.place.at);
        if here.file == at.file {
            if self.place.born != 0 && self.place.born != self.main.born {
                return Err(lost(format!(
                    "the log's file {} is not the one that was read: the log was reset",
                    at.file
                )));
            }
            self.place.born = self.main.born;
        } else if here.compare(at)?.is_gt() {
            self.step();
        }
        Ok(())
    }

    fn begin(
        &mut self,
        packet: &Packet,
        single: bool,
        gtid: Option<(u32, u32, u64)>,
    ) -> Result<()> {
        if self.open.is_some() {
            return Err(Error::new(
                Kind::Transient,
                format!("the group at {} has no end in the log", self.here()),
            )
            .at(Side::Source));
        }
        let mut start = self.main.coordinate();
        start.pos = start.pos.saturating_sub(u64::from(packet.header.size));
        self.not_before_place(&start)?;
        self.open = Some(Open {
            start,
            gtid,
            single,
            prepared: false,
            xid: None,
            time_us: i64::from(packet.header.timestamp) * 1_000_000,
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

    fn query(&mut self, packet: &Packet, body: &[u8], second: bool) -> Result<Option<Transaction>> {
        let (db, sql) = event::query(body)?;
        let (db, sql) = (String::from_utf8_lossy(db), String::from_utf8_lossy(sql));
        if second {
            return Ok(None);
        }
        if self.open.is_none() {
            // A server without GTIDs: the group begins here.
            self.begin(packet, true, None)?;
        }
        let effect = self.classify(&db, &sql);
        let at = self.here();
        let Some(open) = self.open.as_mut() else {
            return Ok(None);
        };
        match effect {
            Effect::Begin | Effect::XaStart => open.single = false,
            Effect::Commit => return self.commit(),
            Effect::Rollback => {
                if open.touched {
                    return Err(stop(format!(
                        "the group at {at} is rolled back in part: it mixes transactional and other \
                         tables, which is not built"
                    )));
                }
                if sql.trim().eq_ignore_ascii_case("ROLLBACK") {
                    return self.commit();
                }
            }
            Effect::XaCommit => {
                if let Some(start) = open.xid.as_ref().and_then(|x| self.place.xa.remove(x)) {
                    self.wanted = Some(start);
                    return Ok(None);
                }
                return self.commit();
            }
            Effect::XaRollback => {
                if let Some(xid) = &open.xid {
                    self.place.xa.remove(xid);
                }
                return self.commit();
            }
            Effect::Truncate(table) => {
                open.touched = true;
                self.changes.changes.push(Change {
                    table,
                    kind: ChangeKind::Truncate,
                    before: None,
                    after: None,
                    // InnoDB truncates no table that another references, unless they are off.
                    unchecked: true,
                });
                return self.commit();
            }
            Effect::Schema(kind, table) => {
                return Err(Error::schema(format!(
                    "{kind} on {} at {at}: the task stopped before it",
                    self.table_name(table)
                ))
                .with_hint("make the same change in the target, then reset the task to load again")
                .at(Side::Source));
            }
            Effect::Statement(kind, table) => {
                let message = match table {
                    Some(table) => format!(
                        "{kind} on {} at {at} is logged as a statement, not as rows",
                        self.table_name(table)
                    ),
                    None => format!(
                        "{kind} at {at} is logged as a statement: by a view, trigger or function it \
                         may change a table of the task"
                    ),
                };
                return Err(stop(message)
                    .with_hint("SET GLOBAL binlog_format = 'ROW'; then reconnect all writers"));
            }
            Effect::Nothing | Effect::DropIndex(..) => {
                if open.single {
                    return self.commit();
                }
            }
        }
        Ok(None)
    }

    /// What a statement means, with the names of our tables.
    fn classify(&self, db: &str, sql: &str) -> Effect {
        let garbled = |text: &str| text.contains(char::REPLACEMENT_CHARACTER);
        let guessed = Cell::new(false);
        let find = |schema: &str, name: &str| {
            if name.is_empty() {
                return self
                    .names
                    .iter()
                    .find_map(|((s, _), i)| (s == schema.as_bytes()).then_some(*i));
            }
            if garbled(schema) || garbled(name) {
                // Sent in a character set other than UTF-8: it may be any name that needs one.
                let hit = self
                    .names
                    .iter()
                    .find_map(|((s, n), i)| (!s.is_ascii() || !n.is_ascii()).then_some(*i));
                guessed.set(guessed.get() || hit.is_some());
                return hit;
            }
            self.names
                .get(&(schema.as_bytes().to_vec(), name.as_bytes().to_vec()))
                .copied()
        };
        match ddl::classify(db, sql, &find) {
            Effect::Truncate(table) if guessed.get() => Effect::Schema("TRUNCATE", table),
            Effect::DropIndex(table, index) => {
                let identifies = self.tables.get(table).is_some_and(|t| {
                    let unique = |u: &UniqueKey| u.name.eq_ignore_ascii_case(&index);
                    t.primary_key.is_empty() && t.unique_keys.iter().any(unique)
                });
                if identifies || index.eq_ignore_ascii_case("PRIMARY") {
                    Effect::Schema("DROP INDEX", table)
                } else {
                    Effect::Nothing
                }
            }
            effect => effect,
        }
    }

    fn xa_prepared(&mut self, body: &[u8]) -> Result<Option<Transaction>> {
        let one_phase = Buf(body).u8()? != 0;
        let Some(open) = &self.open else {
            return Err(stop("an XA PREPARE outside a group"));
        };
        if !one_phase && open.touched {
            let Some(xid) = open.xid.clone().filter(|_| open.prepared) else {
                return Err(stop("XA transactions of MySQL are not built yet"));
            };
            let start = (open.start.file.clone(), open.start.pos);
            self.place.xa.insert(xid, start);
        }
        self.commit()
    }

    /// The group ends here: the position moves.
    fn commit(&mut self) -> Result<Option<Transaction>> {
        let Some(open) = self.open.take() else {
            return Err(stop(format!("a commit outside a group at {}", self.here())));
        };
        if let Some((domain, server, seq)) = open.gtid {
            self.place.gtid.insert(domain, (server, seq));
        }
        self.step();
        if self.changes.changes.is_empty() && !open.parts {
            return Ok((self.last_empty.elapsed() >= IDLE).then(|| self.empty()));
        }
        self.moved = false;
        Ok(Some(Transaction {
            id: open.start.tx(),
            changes: std::mem::take(&mut self.changes),
            commit: Some(Commit {
                position: self.place.position(),
                time_us: Some(open.time_us),
            }),
            log_bytes: std::mem::take(&mut self.log_bytes),
        }))
    }

    fn table_map(&mut self, body: &[u8]) -> Result<()> {
        let map = TableMap::parse(body)?;
        let known = self.maps.get(&map.id).filter(|m| m.body == body);
        let captured = match known {
            Some(known) => known.table.is_some(),
            None => {
                let key = (map.schema.to_vec(), map.table.to_vec());
                let table = match self.names.get(&key).copied() {
                    None => None,
                    Some(index) => {
                        let schema = self
                            .tables
                            .get(index)
                            .ok_or_else(|| Error::bug("a captured table without a schema"))?;
                        let columns = rows::join(&map.columns()?, schema).map_err(|why| {
                            Error::schema(format!(
                                "table {} at {}: {why}",
                                schema.name,
                                self.here()
                            ))
                            .with_hint("reset the task to load again with the present schema")
                            .at(Side::Source)
                        })?;
                        Some((index, columns))
                    }
                };
                let captured = table.is_some();
                let body = body.to_vec();
                self.maps.insert(map.id, Captured { body, table });
                captured
            }
        };
        if let Some(open) = &mut self.open {
            open.touched |= captured;
        }
        Ok(())
    }

    fn rows(
        &mut self,
        body: &[u8],
        op: RowOp,
        v2: bool,
        compressed: bool,
        second: bool,
    ) -> Result<Option<Transaction>> {
        let event = RowsEvent::parse(body, v2, op == RowOp::Update)?;
        let Some(map) = self.maps.get(&event.table_id) else {
            return Err(stop(format!("rows without a table map at {}", self.here())));
        };
        let Some((table, columns)) = &map.table else {
            return Ok(None);
        };
        let at = self.here();
        let Some(open) = self.open.as_mut() else {
            return Err(stop(format!("rows outside a group at {at}")));
        };
        if open.prepared && !second {
            return Ok(None);
        }
        let limit = self.limits.row_bytes_max;
        // The server cuts events at a few KiB unless one row is larger.
        if u64::try_from(body.len()).unwrap_or(u64::MAX) > limit.saturating_mul(2) + 65_536 {
            return Err(
                Error::data(format!("a row at {at} is larger than {limit} bytes")).at(Side::Source),
            );
        }
        if event.width != columns.len() {
            return Err(stop(format!(
                "rows at {at} have another width than their table map"
            )));
        }
        if rows::partial(columns, event.present) || rows::partial(columns, event.present_after) {
            let name = self
                .tables
                .get(*table)
                .map_or_else(String::new, |t| t.name.to_string());
            return Err(stop(format!("partial row image of {name} at {at}")).with_hint(
                "SET GLOBAL binlog_row_image = 'FULL'; reconnect all writers, then reset the task",
            ));
        }
        let inflated;
        let mut data = if compressed {
            inflated = rows::inflate(event.data, limit.saturating_mul(2) + 65_536)?;
            Buf(&inflated)
        } else {
            Buf(event.data)
        };
        let batch = &mut self.changes;
        let read = |data: &mut Buf<'_>, present: &[u8], rows: &mut RowBatch| -> Result<usize> {
            rows::image(data, columns, present, rows)?;
            Ok(rows.end_row())
        };
        while !data.0.is_empty() {
            let left = data.0.len();
            let first = read(&mut data, event.present, &mut batch.rows)?;
            let (kind, before, after) = match op {
                RowOp::Write => (ChangeKind::Insert, None, Some(first)),
                RowOp::Delete => (ChangeKind::Delete, Some(first), None),
                RowOp::Update => {
                    let second = read(&mut data, event.present_after, &mut batch.rows)?;
                    (ChangeKind::Update, Some(first), Some(second))
                }
            };
            if data.0.len() == left {
                return Err(stop(format!("row images without content at {at}")));
            }
            batch.changes.push(Change {
                table: *table,
                kind,
                before,
                after,
                unchecked: event.unchecked,
            });
        }
        if batch.bytes() < self.limits.part_bytes {
            return Ok(None);
        }
        open.parts = true;
        Ok(Some(Transaction {
            id: open.start.tx(),
            changes: std::mem::take(&mut self.changes),
            commit: None,
            log_bytes: std::mem::take(&mut self.log_bytes),
        }))
    }
}

#[async_trait]
impl ChangeStream for Stream {
    async fn next(&mut self) -> Result<Transaction> {
        loop {
            if self.wanted.is_some() || self.xa.is_some() {
                if let Some((file, pos)) = self.wanted.clone() {
                    let start = Place {
                        at: Coordinate {
                            server: self.main.server,
                            file,
                            pos,
                        },
                        ..Place::default()
                    };
                    let dump = Box::pin(Dump::beside(&self.config, &start)).await?;
                    self.xa = Some(dump);
                    self.wanted = None;
                    self.maps.clear();
                }
                let Some(dump) = &mut self.xa else {
                    continue;
                };
                let packet = dump.next(SILENCE).await?.ok_or_else(silent)?;
                if let Some(out) = self.handle(packet, true)? {
                    return Ok(out);
                }
                continue;
            }
            let wait = if self.moved {
                IDLE.saturating_sub(self.last_empty.elapsed())
            } else {
                SILENCE
            };
            match self.main.next(wait).await? {
                Some(packet) => {
                    if let Some(out) = self.handle(packet, false)? {
                        return Ok(out);
                    }
                }
                None if self.moved && self.open.is_none() => return Ok(self.empty()),
                None if self.moved => self.moved = false,
                None => return Err(silent()),
            }
        }
    }
}

fn silent() -> Error {
    Error::transient(format!("the source sent nothing for {SILENCE:?}")).at(Side::Source)
}
