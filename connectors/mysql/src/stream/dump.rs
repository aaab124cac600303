//! One binlog dump: connection, headers, checksums, coordinate.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use mysql_async::binlog::events::Event;
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn, Row, Sid};
use thalweg_core::ports::DataSourceConfig;
use thalweg_core::{Error, Result, Side};

use super::SILENCE;
use super::cursor::Cursor;
use crate::config::connect;
use crate::error::{from_driver, lost, reading};
use crate::gtid::GtidSet;
use crate::position::{Coordinate, Place};
use crate::server::is_mariadb;
use crate::wire::event::{self, Header};

/// Nanoseconds between heartbeats.
const HEARTBEAT_NS: u64 = 500_000_000;

/// An event whose checksum was right.
pub(super) struct Packet {
    pub(super) header: Header,
    pub(super) event: Event,
}

pub(super) struct Dump {
    events: BinlogStream,
    /// `@@server_id`.
    pub(super) server: u32,
    /// How many events the driver still has that were in a compressed transaction.
    inner: u64,
    /// Whether it gives all that the log has from its place on, in the order of the log, so that another
    /// that has come to the same place gives the same. One that goes by GTIDs leaves out what they say
    /// was read, wherever that is in the log.
    pub(super) whole: bool,
    /// The replica id.
    pub(super) id: u32,
    /// Bytes of log between its place and the end, when it was opened; 0: not asked.
    pub(super) behind: u64,
}

/// How the server is told where to begin.
#[derive(Clone, Copy, PartialEq)]
enum By {
    File,
    Gtid,
}

impl Dump {
    /// Opens the dump that goes on at `from`. On the server the place was taken at that is its
    /// file and offset, which costs the server nothing and whose identity can be checked; GTIDs find
    /// the place on another server, and where the file was purged after all of it was read.
    /// `used`: the replica id of another dump that is not to be ended by this one.
    pub(super) async fn open(
        config: &DataSourceConfig,
        from: &Place,
        used: Option<u32>,
    ) -> Result<Dump> {
        let mut conn = connect(config).await?;
        let server = server_id(&mut conn).await?;
        let behind = match &from.set {
            None if server == from.at.server => listed(&mut conn, config, from).await?,
            _ => None,
        };
        let by = match behind {
            Some(_) => By::File,
            None => By::Gtid,
        };
        if from.set.is_some() {
            by_mysql_gtid(&mut conn, server, from).await?;
        } else if by == By::Gtid {
            by_gtid(&mut conn, server, from).await?;
        }
        let id = config.server_id.filter(|id| used != Some(*id));
        let id = id.unwrap_or_else(fresh_id);
        let dump = Dump::request(conn, config, server, id, from, by).await?;
        Ok(Dump {
            behind: behind.unwrap_or(0),
            ..dump
        })
    }

    /// Opens a dump beside another one, by file and offset.
    pub(super) async fn beside(config: &DataSourceConfig, from: &Place) -> Result<Dump> {
        let mut conn = connect(config).await?;
        let server = server_id(&mut conn).await?;
        // The server ends an older dump that has the same id.
        Dump::request(conn, config, server, fresh_id(), from, By::File).await
    }

    async fn request(
        mut conn: Conn,
        config: &DataSourceConfig,
        server: u32,
        id: u32,
        from: &Place,
        by: By,
    ) -> Result<Dump> {
        let mut statements = vec![
            // 4: GTID and every MariaDB event (MARIA_SLAVE_CAPABILITY_GTID).
            "SET @mariadb_slave_capability = 4".to_owned(),
            format!("SET @master_heartbeat_period = {HEARTBEAT_NS}"),
            // The same for MySQL 8.4 and newer.
            format!("SET @source_heartbeat_period = {HEARTBEAT_NS}"),
            // A slow target must not make the server hang up.
            "SET SESSION net_write_timeout = 86400".to_owned(),
        ];
        if by == By::Gtid && from.set.is_none() {
            // Digits, dashes and commas only: made from numbers.
            statements.push(format!("SET @slave_connect_state = '{}'", from.gtid_text()));
            statements.push("SET @slave_gtid_strict_mode = 0".to_owned());
        }
        for statement in statements {
            conn.query_drop(statement).await.map_err(from_driver)?;
        }
        // Under this name the server lists us among its replicas, and preflight knows us again.
        let mut request =
            BinlogStreamRequest::new(id).with_hostname(config.application_name.as_bytes());
        if let (By::Gtid, Some(set)) = (by, &from.set) {
            request = request.with_gtid().with_gtid_set(sids(set)?);
        }
        if by == By::File {
            request = request
                .with_filename(from.at.file.as_bytes())
                .with_pos(from.at.pos);
        }
        // A compressed transaction of MySQL is given twice by the driver: see `skip_inner`.
        let maria = is_mariadb(&conn);
        let events = conn
            .get_binlog_stream(request)
            .await
            .map_err(|error| reading(error, config, "REPLICATION SLAVE", "*.*"))?;
        Ok(Dump {
            events,
            server,
            inner: 0,
            whole: maria && by == By::File,
            id,
            behind: 0,
        })
    }

    /// When the file at the beginning was made.
    pub(super) async fn birth(mut self) -> Result<u32> {
        let mut cursor = Cursor::new(self.server);
        while cursor.born == 0 {
            match self.next(SILENCE, &cursor.file).await? {
                Some(packet) => cursor.advance(&packet.header, packet.event.data())?,
                None => return Err(super::silent()),
            }
        }
        Ok(cursor.born)
    }

    /// The driver inflates a compressed transaction as well, all at once and without a word if it
    /// fails, and gives its events next. We have read them already.
    pub(super) fn skip_inner(&mut self, events: u64) {
        self.inner = events;
    }

    /// The next event; `None` if none came in time. `file` is for errors. Cancel-safe.
    pub(super) async fn next(&mut self, wait: Duration, file: &str) -> Result<Option<Packet>> {
        while self.inner > 0 {
            let Some(packet) = self.read(wait, file).await? else {
                return Ok(None);
            };
            if packet.header.log_pos != 0 && event::begins_group(packet.header.ty) {
                return Err(Error::bug(
                    "the driver lost events of a compressed transaction",
                ));
            }
            self.inner -= 1;
        }
        self.read(wait, file).await
    }

    /// The next event, if it is there. Only for a dump that is [`Dump::whole`].
    pub(super) fn ready(&mut self, file: &str) -> Option<Result<Packet>> {
        let event = self.events.next().now_or_never()?;
        Some(packet(event, file))
    }

    async fn read(&mut self, wait: Duration, file: &str) -> Result<Option<Packet>> {
        // Most of the time an event is there; a timer costs more than the look.
        let event = match self.events.next().now_or_never() {
            Some(event) => event,
            None => match tokio::time::timeout(wait, self.events.next()).await {
                Ok(event) => event,
                Err(_) => return Ok(None),
            },
        };
        packet(event, file).map(Some)
    }
}

/// What the driver gave as an event whose checksum is right.
fn packet(
    event: Option<std::result::Result<Event, mysql_async::Error>>,
    file: &str,
) -> Result<Packet> {
    let event = event
        .ok_or_else(|| Error::transient("the server ended the binlog stream").at(Side::Source))?
        .map_err(from_driver)?;
    let h = event.header();
    let header = Header {
        timestamp: h.timestamp(),
        ty: h.event_type_raw(),
        server_id: h.server_id(),
        size: h.event_size(),
        log_pos: h.log_pos(),
        flags: h.flags_raw(),
    };
    // The dump thread rewrites a FORMAT_DESCRIPTION_EVENT (15) on its way and MariaDB's sum does
    // not follow the driver's rule for it. It carries no rows.
    let checked = event.header().event_type_raw() != 15
        && event.footer().get_checksum_enabled()
        && matches!(event.footer().get_checksum_alg(), Ok(Some(a)) if a as u8 == 1);
    if checked
        && let Some(sum) = event.checksum()
        && u32::from_le_bytes(sum) != header.crc(event.data())
    {
        return Err(Error::transient(format!(
            "an event of type {} before {file}:{} has a wrong checksum",
            header.ty, header.log_pos
        ))
        .at(Side::Source));
    }
    Ok(Packet { header, event })
}

async fn server_id(conn: &mut Conn) -> Result<u32> {
    let id: Option<u32> = conn
        .query_first("SELECT @@server_id")
        .await
        .map_err(from_driver)?;
    Ok(id.unwrap_or(0))
}

/// How many bytes of log are behind the place, if the server has its file. `None`: it was purged.
async fn listed(conn: &mut Conn, config: &DataSourceConfig, from: &Place) -> Result<Option<u64>> {
    let rows: Vec<Row> = conn
        .query("SHOW BINARY LOGS")
        .await
        .map_err(|error| reading(error, config, "BINLOG MONITOR", "*.*"))?;
    let files: Vec<String> = rows.iter().filter_map(|r| r.get(0)).collect();
    if let Some(index) = files.iter().position(|file| *file == from.at.file) {
        let sizes = rows.iter().skip(index).filter_map(|r| r.get::<u64, _>(1));
        return Ok(Some(sizes.sum::<u64>().saturating_sub(from.at.pos)));
    }
    let first = Coordinate {
        file: files.into_iter().next().unwrap_or_default(),
        ..from.at.clone()
    };
    if from.at.compare(&first)?.is_lt() {
        return Ok(None);
    }
    Err(lost(format!(
        "the log has no file {} any more: it was reset",
        from.at.file
    )))
}

/// A set in the driver's form.
fn sids(set: &GtidSet) -> Result<Vec<Sid<'static>>> {
    set.by_origin()
        .map(|one| {
            let sid = one.parse::<Sid<'_>>();
            sid.map_err(|_| Error::bug("the driver does not read a GTID set"))
        })
        .collect()
}

/// Whether the MySQL server can go on behind a set: it must have had all of it, and must still have
/// all the rest.
async fn by_mysql_gtid(conn: &mut Conn, server: u32, from: &Place) -> Result<()> {
    let read = from.set.as_ref().cloned().unwrap_or_default();
    if server != from.at.server && !from.xa.is_empty() {
        return Err(lost(format!(
            "XA transactions were prepared at server {} and this is server {server}",
            from.at.server
        )));
    }
    let state: Option<(String, String)> = conn
        .query_first("SELECT @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged")
        .await
        .map_err(from_driver)?;
    let (executed, purged) = state.unwrap_or_default();
    let parse = |text: &str| {
        GtidSet::parse(text).ok_or_else(|| lost("a GTID set of the server cannot be read"))
    };
    if !parse(&executed)?.contains_all(&read) {
        return Err(lost(format!(
            "server {server} has not executed all of the position's GTIDs: it was reset, or is behind"
        )));
    }
    if !read.contains_all(&parse(&purged)?) {
        return Err(lost(format!(
            "the log of server {server} no longer has the transactions after the position: purged"
        )));
    }
    Ok(())
}

/// Whether GTIDs find the place. The server itself refuses a GTID that it lacks only in a domain
/// of which it has others.
async fn by_gtid(conn: &mut Conn, server: u32, from: &Place) -> Result<()> {
    if from.gtid.is_empty() {
        return Err(lost(format!(
            "the file {} of server {} is not at server {server}, and the position has no GTIDs",
            from.at.file, from.at.server
        )));
    }
    if server != from.at.server && !from.xa.is_empty() {
        return Err(lost(format!(
            "XA transactions were prepared at server {} and this is server {server}",
            from.at.server
        )));
    }
    let state: Option<String> = conn
        .query_first("SELECT @@gtid_binlog_pos")
        .await
        .map_err(from_driver)?;
    let state = Place::parse_gtid(&state.unwrap_or_default())?;
    let lacks = |(domain, (_, seq)): (&u32, &(u32, u64))| {
        state.get(domain).is_none_or(|(_, last)| last < seq)
    };
    if from.gtid.iter().any(lacks) {
        return Err(lost(format!(
            "the log of server {server} does not reach the position's GTIDs {}",
            from.gtid_text()
        )));
    }
    Ok(())
}

/// Replica ids from here on are drawn, by us or by the control plane; people rarely put theirs there.
pub(super) const DRAWN: u32 = 1 << 30;

/// A replica id that is very likely free.
fn fresh_id() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(std::process::id());
    DRAWN | u32::try_from(random & 0x3FFF_FFFF).unwrap_or(1)
}
