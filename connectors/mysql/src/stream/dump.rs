//! One binlog dump: connection, headers, checksums, coordinate.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use mysql_async::binlog::events::Event;
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn, Row};
use thalweg_core::ports::DataSourceConfig;
use thalweg_core::{Error, Result, Side};

use super::SILENCE;
use crate::config::connect;
use crate::error::{from_driver, lost, reading};
use crate::position::{Coordinate, Place};
use crate::wire::event::{self, Header, ty};

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
    pub(super) file: String,
    /// Offset behind the last event.
    pub(super) pos: u64,
    /// When the file was made, in Unix seconds; 0 until the file's first event has come.
    pub(super) born: u32,
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
    pub(super) async fn open(config: &DataSourceConfig, from: &Place) -> Result<Dump> {
        let mut conn = connect(config).await?;
        let server = server_id(&mut conn).await?;
        let by = if server == from.at.server && listed(&mut conn, config, from).await? {
            By::File
        } else {
            by_gtid(&mut conn, server, from).await?;
            By::Gtid
        };
        let id = config.server_id.unwrap_or_else(fresh_id);
        Dump::request(conn, config, server, id, from, by).await
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
            // A slow target must not make the server hang up.
            "SET SESSION net_write_timeout = 86400".to_owned(),
        ];
        if by == By::Gtid {
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
        if by == By::File {
            request = request
                .with_filename(from.at.file.as_bytes())
                .with_pos(from.at.pos);
        }
        let events = conn
            .get_binlog_stream(request)
            .await
            .map_err(|error| reading(error, config, "REPLICATION SLAVE", "*.*"))?;
        Ok(Dump {
            events,
            server,
            file: String::new(),
            pos: 4,
            born: 0,
        })
    }

    /// When the file at the beginning was made.
    pub(super) async fn birth(mut self) -> Result<u32> {
        while self.born == 0 {
            if self.next(SILENCE).await?.is_none() {
                return Err(super::silent());
            }
        }
        Ok(self.born)
    }

    pub(super) fn coordinate(&self) -> Coordinate {
        Coordinate {
            server: self.server,
            file: self.file.clone(),
            pos: self.pos,
        }
    }

    /// The next event; `None` if none came in time. Cancel-safe.
    pub(super) async fn next(&mut self, wait: Duration) -> Result<Option<Packet>> {
        // Most of the time an event is there; a timer costs more than the look.
        let event = match self.events.next().now_or_never() {
            Some(event) => event,
            None => match tokio::time::timeout(wait, self.events.next()).await {
                Ok(event) => event,
                Err(_) => return Ok(None),
            },
        };
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
                "an event of type {} before {}:{} has a wrong checksum",
                header.ty, self.file, header.log_pos
            ))
            .at(Side::Source));
        }
        self.advance(&header, event.data())?;
        Ok(Some(Packet { header, event }))
    }

    fn advance(&mut self, header: &Header, body: &[u8]) -> Result<()> {
        match header.ty {
            ty::ROTATE => {
                let (pos, file) = event::rotate(header, body)?;
                self.enter(file);
                self.pos = pos;
            }
            ty::HEARTBEAT => {
                self.enter(event::file_name(header, body, body));
                self.widen(header.log_pos);
            }
            ty::FORMAT_DESCRIPTION => {
                self.born = header.timestamp;
                if header.log_pos != 0 {
                    self.widen(header.log_pos);
                }
            }
            _ if header.artificial() || header.log_pos == 0 => {}
            _ => self.widen(header.log_pos),
        }
        Ok(())
    }

    fn enter(&mut self, file: String) {
        if self.file != file {
            self.file = file;
            self.born = 0;
        }
    }

    /// Offsets in headers have 32 bits, files may be larger.
    fn widen(&mut self, low: u32) {
        let mut pos = (self.pos & !0xFFFF_FFFF) | u64::from(low);
        if pos + (1 << 31) < self.pos {
            pos += 1 << 32;
        }
        self.pos = pos;
    }
}

async fn server_id(conn: &mut Conn) -> Result<u32> {
    let id: Option<u32> = conn
        .query_first("SELECT @@server_id")
        .await
        .map_err(from_driver)?;
    Ok(id.unwrap_or(0))
}

/// Whether the server has the place's file. `false`: it was purged.
async fn listed(conn: &mut Conn, config: &DataSourceConfig, from: &Place) -> Result<bool> {
    let rows: Vec<Row> = conn
        .query("SHOW BINARY LOGS")
        .await
        .map_err(|error| reading(error, config, "BINLOG MONITOR", "*.*"))?;
    let files: Vec<String> = rows.iter().filter_map(|r| r.get(0)).collect();
    if files.contains(&from.at.file) {
        return Ok(true);
    }
    let first = Coordinate {
        file: files.into_iter().next().unwrap_or_default(),
        ..from.at.clone()
    };
    if from.at.compare(&first)?.is_lt() {
        return Ok(false);
    }
    Err(lost(format!(
        "the log has no file {} any more: it was reset",
        from.at.file
    )))
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

/// A replica id that is very likely free: random, and at least 2^30, where people rarely put theirs.
fn fresh_id() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(std::process::id());
    (1 << 30) | u32::try_from(random & 0x3FFF_FFFF).unwrap_or(1)
}
