//! Questions that MariaDB and MySQL want asked in different words.

use std::collections::BTreeMap;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use thalweg_core::ports::DataSourceConfig;
use thalweg_core::{Error, Result, Side};

use crate::error::{from_driver, lost, reading};
use crate::gtid::GtidSet;
use crate::position::{Coordinate, Place};

/// MariaDB counts its versions from 10, MySQL's end before.
pub(crate) fn is_mariadb(conn: &Conn) -> bool {
    conn.server_version() >= (10, 0, 0)
}

/// The place at the log's end; on MySQL with its `gtid_executed`, if it has GTIDs.
pub(crate) async fn end_of_log(conn: &mut Conn, config: &DataSourceConfig) -> Result<Place> {
    let maria = is_mariadb(conn);
    let statement = if !maria && conn.server_version() >= (8, 2, 0) {
        "SHOW BINARY LOG STATUS"
    } else {
        "SHOW MASTER STATUS"
    };
    let right = if maria {
        "BINLOG MONITOR"
    } else {
        "REPLICATION CLIENT"
    };
    let row: Option<Row> = conn
        .query_first(statement)
        .await
        .map_err(|error| reading(error, config, right, "*.*"))?;
    let (file, pos) = row
        .and_then(|r| Some((r.get::<String, _>(0)?, r.get::<u64, _>(1)?)))
        .ok_or_else(|| {
            Error::config("the binary log is off")
                .with_hint(
                    "set log_bin and binlog_format=ROW in the server's configuration, restart",
                )
                .at(Side::Source)
        })?;
    let server: Option<u32> = conn
        .query_first("SELECT @@server_id")
        .await
        .map_err(from_driver)?;
    Ok(Place {
        at: Coordinate {
            server: server.unwrap_or(0),
            file,
            pos,
        },
        set: if maria { None } else { executed(conn).await? },
        ..Place::default()
    })
}

/// The place at the log's end with all that names it on another server as well.
pub(crate) async fn marked_end(conn: &mut Conn, config: &DataSourceConfig) -> Result<Place> {
    let mut end = end_of_log(conn, config).await?;
    if is_mariadb(conn) {
        let text: Option<String> = conn
            .query_first("SELECT @@GLOBAL.gtid_binlog_pos")
            .await
            .map_err(from_driver)?;
        end.gtid = Place::parse_gtid(&text.unwrap_or_default())?;
    }
    Ok(end)
}

/// MySQL's `gtid_executed`; `None`: not every transaction has a GTID.
pub(crate) async fn executed(conn: &mut Conn) -> Result<Option<GtidSet>> {
    let row: Option<(String, String)> = conn
        .query_first("SELECT @@GLOBAL.gtid_mode, @@GLOBAL.gtid_executed")
        .await
        .map_err(from_driver)?;
    match row {
        Some((mode, set)) if mode == "ON" => set_of(&set).map(Some),
        _ => Ok(None),
    }
}

/// A GTID set as the server writes it.
pub(crate) fn set_of(text: &str) -> Result<GtidSet> {
    GtidSet::parse(text).ok_or_else(|| lost("a GTID set of the server cannot be read"))
}

/// MariaDB's GTIDs at a place. The server reads the file up to there: not a question for every second.
pub(crate) async fn gtid_at(conn: &mut Conn, at: &Coordinate) -> Result<BTreeMap<u32, (u32, u64)>> {
    if !is_mariadb(conn) {
        return Ok(BTreeMap::new());
    }
    let text: Option<Option<String>> = conn
        .exec_first("SELECT BINLOG_GTID_POS(?, ?)", (at.file.as_str(), at.pos))
        .await
        .map_err(from_driver)?;
    Place::parse_gtid(&text.flatten().unwrap_or_default())
}

/// The prepared XA transactions, each as XA COMMIT names it.
pub(crate) async fn prepared(conn: &mut Conn) -> Result<Vec<String>> {
    if is_mariadb(conn) {
        let rows: Vec<Row> = conn
            .query("XA RECOVER FORMAT='SQL'")
            .await
            .map_err(from_driver)?;
        return Ok(rows.iter().filter_map(|r| r.get::<String, _>(3)).collect());
    }
    // formatID, lengths of the two parts, both in hexadecimal.
    let rows: Vec<(u32, usize, usize, String)> = conn
        .query("XA RECOVER CONVERT XID")
        .await
        .map_err(from_driver)?;
    let name = |(format, gtrid, bqual, data): &(u32, usize, usize, String)| {
        let hex = data.strip_prefix("0x").unwrap_or(data);
        let (g, q) = hex.split_at_checked(2 * gtrid).unwrap_or((hex, ""));
        let q = q.get(..2 * bqual).unwrap_or(q);
        format!("X'{g}',X'{q}',{format}")
    };
    Ok(rows.iter().map(name).collect())
}
