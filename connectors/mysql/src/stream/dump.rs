//! One binlog dump: connection, headers, checksums, coordinate.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use mysql_async::binlog::events::Event;
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStream, BinlogStreamRequest};
use thalweg_core::ports::DataSourceConfig;
use thalweg_core::{Error, Result, Side};

use crate::config::connect;
use crate::error::{from_driver, reading};
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
}

impl Dump {
    /// Opens a dump at `from`: by GTID where `by_gtid` and the place has one, else by file.
    pub(super) async fn open(
        config: &DataSourceConfig,
        from: &Place,
        by_gtid: bool,
    ) -> Result<Dump> {
        let mut conn = connect(config).await?;
        let server: Option<u32> = conn
            .query_first("SELECT @@server_id")
            .await
            .map_err(from_driver)?;
        let gtid = by_gtid && !from.gtid.is_empty();
        let mut statements = vec![
            // 4: GTID and every MariaDB event (MARIA_SLAVE_CAPABILITY_GTID).
            "SET @mariadb_slave_capability = 4".to_owned(),
            format!("SET @master_heartbeat_period = {HEARTBEAT_NS}"),
            // A slow target must not make the server hang up.
            "SET SESSION net_write_timeout = 86400".to_owned(),
        ];
        if gtid {
            // Digits, dashes and commas only: made from numbers.
            statements.push(format!("SET @slave_connect_state = '{}'", from.gtid_text()));
            statements.push("SET @slave_gtid_strict_mode = 0".to_owned());
        }
        for statement in statements {
            conn.query_drop(statement).await.map_err(from_driver)?;
        }
        // Own ids lie above 2^30, where people rarely put theirs. A second dump needs another one:
        // the server ends an older dump that has the same.
        let id = match config.server_id {
            Some(id) if by_gtid => id,
            _ => fresh_id(),
        };
        // Under this name the server lists us among its replicas, and preflight knows us again.
        let mut request =
            BinlogStreamRequest::new(id).with_hostname(config.application_name.as_bytes());
        if !gtid {
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
            server: server.unwrap_or(0),
            file: String::new(),
            pos: 4,
        })
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
                self.file = file;
                self.pos = pos;
            }
            ty::HEARTBEAT => {
                self.file = event::file_name(header, body, body);
                self.widen(header.log_pos);
            }
            _ if header.artificial() || header.log_pos == 0 => {}
            _ => self.widen(header.log_pos),
        }
        Ok(())
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

/// A replica id that is very likely free: from the clock, at least 2^30.
fn fresh_id() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(std::process::id());
    (1 << 30) | u32::try_from(random & 0x3FFF_FFFF).unwrap_or(1)
}
