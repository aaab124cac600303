//! A connection as the target needs it: everything pinned that could change what a statement means.
//!
//! - `sql_mode`: strict, so that what does not fit is refused; `NO_BACKSLASH_ESCAPES`, because
//!   [`super::literal`] doubles quotes only; `ALLOW_INVALID_DATES` without `NO_ZERO_DATE` and
//!   `NO_ZERO_IN_DATE`, so that a date of a MySQL source goes in as it is; `NO_AUTO_VALUE_ON_ZERO`,
//!   so that a key of 0 stays 0.
//! - `time_zone` UTC, because a `TIMESTAMP` is written as its civil time there.
//! - UTF-8 with a binary collation for literals.
//! - READ COMMITTED: a statement that finds no row leaves no lock on the gap it looked in, so two
//!   tasks (or loaders) beside each other do not meet in deadlocks. Nothing here reads twice and
//!   expects the same. A server that logs statements takes no such writes; there it is REPEATABLE
//!   READ.
//! - `autocommit` off: a statement outside of a transaction never becomes durable by itself.
//! - Waits for locks are bounded, and those for a client that is gone as well.
//!
//! A server that asks for a file (`LOCAL INFILE`) gets the rows that were written for the statement it was
//! sent ([`super::file`]), and never a file.

use std::collections::BTreeMap;

use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, Params, Row, Value};
use thalweg_core::mapping::ForeignKeys;
use thalweg_core::ports::DataSourceConfig;
use thalweg_core::schema::{TableName, TableSchema};
use thalweg_core::{Error, Result};

use super::error::convert;
use super::event::Events;
use super::statement::Statement;
use crate::config::connect_target;
use crate::schema::{self, Columns, Names};

/// Which of the two servers, and which version of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flavor {
    /// MariaDB; otherwise MySQL.
    pub(super) maria: bool,
    /// Version.
    pub(super) version: (u16, u16, u16),
}

impl Flavor {
    /// What is assumed before a server was asked: the oldest MariaDB we are tested with.
    pub(super) const DEFAULT: Flavor = Flavor {
        maria: true,
        version: (10, 11, 0),
    };

    /// From `SELECT VERSION()`, such as `10.11.4-MariaDB-log` or `8.0.36`.
    pub(super) fn parse(text: &str) -> Self {
        let number = text.split(['-', '+', '~']).next().unwrap_or_default();
        let mut parts = number.split('.').map(|part| part.parse().unwrap_or(0));
        let mut next = || parts.next().unwrap_or(0);
        Flavor {
            maria: text.contains("MariaDB"),
            version: (next(), next(), next()),
        }
    }

    /// The product's name.
    pub(super) fn name(self) -> &'static str {
        if self.maria { "MariaDB" } else { "MySQL" }
    }

    /// A collation under which no two different texts are equal, trailing spaces included; where the
    /// server has none, one that ignores trailing spaces only.
    pub(super) fn collation(self) -> &'static str {
        match (self.maria, self.version) {
            (true, version) if version >= (10, 2, 2) => "utf8mb4_nopad_bin",
            (false, version) if version >= (8, 0, 17) => "utf8mb4_0900_bin",
            _ => "utf8mb4_bin",
        }
    }

    /// Whether it has the type `UUID`.
    pub(super) fn has_uuid(self) -> bool {
        self.maria && self.version >= (10, 7, 0)
    }

    /// Whether the rows of an `INSERT` get an alias, by which `ON DUPLICATE KEY UPDATE` names them;
    /// otherwise by `VALUES()`.
    pub(super) fn has_row_alias(self) -> bool {
        !self.maria && self.version >= (8, 0, 19)
    }
}

/// What the server says when a session begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) flavor: Flavor,
    /// Bytes of the longest statement.
    pub(super) packet_max: usize,
    /// Whether rows may go as files ([`super::file`]): it is a MariaDB that takes them, and its log has
    /// no statements.
    pub(super) files: bool,
    /// Whether only rows are locked, and never the gaps between them.
    pub(super) locks_rows: bool,
}

/// One connection to the target.
#[derive(Debug)]
pub(super) struct Session {
    conn: Conn,
    pub(super) facts: Facts,
    pub(super) events: Events,
}

/// Seconds until the server gives up waiting for a lock, or for a client that is gone.
pub(super) const LOCK_WAIT_S: u32 = 20;
const IDLE_S: u32 = 3_600;

/// Rows, and bytes of their parameters, of one statement of [`Session::exec_rows`]; a longer row is one by
/// itself.
const ROWS_MAX: usize = 200;
const ROWS_BYTES: u64 = 256 << 10;

/// The mode that refuses what does not fit, after what is common to all.
const STRICT: &str = "STRICT_ALL_TABLES,";
const MODE: &str = "ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_BACKSLASH_ESCAPES,\
                    NO_ENGINE_SUBSTITUTION";

/// The statements that pin a session. `log_statements`: the server's log has statements, not rows.
pub(super) fn pins(flavor: Flavor, log_statements: bool) -> Vec<String> {
    let isolation = if log_statements {
        "REPEATABLE READ"
    } else {
        "READ COMMITTED"
    };
    let mut pins = vec![
        "SET NAMES utf8mb4 COLLATE utf8mb4_bin".to_owned(),
        format!(
            "SET SESSION sql_mode = '{STRICT}{MODE}', time_zone = '+00:00', autocommit = 0, \
             lc_messages = 'en_US', innodb_lock_wait_timeout = {LOCK_WAIT_S}, \
             lock_wait_timeout = {LOCK_WAIT_S}, wait_timeout = {IDLE_S}, net_read_timeout = 600, \
             net_write_timeout = 600"
        ),
        format!("SET SESSION TRANSACTION ISOLATION LEVEL {isolation}"),
    ];
    if flavor.maria {
        pins.push(
            "SET SESSION max_statement_time = 0, in_predicate_conversion_threshold = 0".to_owned(),
        );
    }
    pins
}

impl Session {
    /// Connects and pins.
    pub(super) async fn open(config: &DataSourceConfig) -> Result<Session> {
        let conn = Box::pin(connect_target(config)).await?;
        let mut session = Session {
            conn,
            facts: Facts {
                flavor: Flavor::DEFAULT,
                packet_max: 0,
                files: false,
                locks_rows: false,
            },
            events: Events::default(),
        };
        type Variables = (String, u64, Option<String>, u8);
        let found: Option<Variables> = session
            .first(
                "SELECT VERSION(), @@max_allowed_packet, \
                 (SELECT IF(@@log_bin, @@binlog_format, NULL)), @@local_infile",
            )
            .await?;
        let (version, packet, log, files) = found.ok_or_else(|| Error::transient("no answer"))?;
        let log_statements = log.as_deref() == Some("STATEMENT");
        let flavor = Flavor::parse(&version);
        session.facts = Facts {
            flavor,
            packet_max: usize::try_from(packet).unwrap_or(usize::MAX),
            files: flavor.maria && files != 0 && !log_statements,
            locks_rows: !log_statements,
        };
        for pin in pins(session.facts.flavor, log_statements) {
            session.run(&pin).await?;
        }
        Ok(session)
    }

    /// Turns the server's own checks off where the user chose so.
    ///
    /// `unique_checks` stay on: with both off, MariaDB notes of an `INSERT` into a table that was empty when
    /// the transaction began only that, and one that fails then takes along the rows of all before it.
    pub(super) async fn enforce(&mut self, foreign_keys: ForeignKeys) -> Result<()> {
        if foreign_keys == ForeignKeys::Replica {
            self.events.refuse();
            self.run("SET SESSION foreign_key_checks = 0").await?;
        }
        Ok(())
    }

    /// The driver's connection.
    pub(super) fn conn(&mut self) -> &mut Conn {
        &mut self.conn
    }

    /// How many seconds a lock is waited for from now on.
    pub(super) async fn wait_for_locks(&mut self, seconds: u64) -> Result<()> {
        let wait = format!(
            "SET SESSION innodb_lock_wait_timeout = {seconds}, lock_wait_timeout = {seconds}"
        );
        self.run(&wait).await
    }

    /// A table as it is now. What it takes to read that is set back.
    pub(super) async fn describe(&mut self, table: &TableName) -> Result<Option<TableSchema>> {
        let described = schema::describe(&mut self.conn, std::slice::from_ref(table)).await;
        let strict = format!("SET SESSION sql_mode = '{STRICT}{MODE}'");
        self.run(&strict).await?;
        Ok(described?.pop())
    }

    /// Says farewell; what was not committed is rolled back.
    pub(super) async fn close(self) {
        // What was done stands, whether or not the farewell arrives.
        drop(self.conn.disconnect().await);
    }

    /// Runs a statement of ours.
    pub(super) async fn run(&mut self, sql: &str) -> Result<()> {
        self.conn.query_drop(sql).await.map_err(convert)
    }

    /// Runs a statement with parameters; the rows it has found or written.
    pub(super) async fn exec(
        &mut self,
        sql: &str,
        params: impl Into<Params> + Send,
    ) -> Result<u64> {
        let result = self.conn.exec_iter(sql, params).await.map_err(convert)?;
        let rows = result.affected_rows();
        result.drop_result().await.map_err(convert)?;
        Ok(rows)
    }

    /// Runs a statement with rows of parameters after the `first`, `{rows}` in it, each of which is written as
    /// `one`: in blocks, none of which is longer than a server takes that has little room.
    pub(super) async fn exec_rows(
        &mut self,
        sql: &str,
        first: &[Value],
        (one, rows): (&str, &[Vec<Value>]),
    ) -> Result<()> {
        let bytes = |row: &[Value]| row.iter().map(|value| value.bin_len()).sum::<u64>();
        let mut left = rows;
        while !left.is_empty() {
            let mut room = ROWS_BYTES;
            let fits = left.iter().take(ROWS_MAX).take_while(|row| {
                let fits = room > 0;
                room = room.saturating_sub(bytes(row));
                fits
            });
            let (block, rest) = left.split_at(fits.count());
            let places = vec![one; block.len()].join(", ");
            let params = first.iter().chain(block.iter().flatten());
            let params: Vec<Value> = params.cloned().collect();
            self.exec(&sql.replace("{rows}", &places), params).await?;
            left = rest;
        }
        Ok(())
    }

    /// The first row of an answer.
    pub(super) async fn first<T: FromRow + Send + 'static>(
        &mut self,
        sql: impl AsRef<[u8]> + Send,
    ) -> Result<Option<T>> {
        let sql = sql.as_ref();
        self.conn.query_first(sql).await.map_err(convert)
    }

    /// All rows of an answer to a question with parameters.
    pub(super) async fn ask<T: FromRow + Send + 'static>(
        &mut self,
        sql: &str,
        params: impl Into<Params> + Send,
    ) -> Result<Vec<T>> {
        self.conn.exec(sql, params).await.map_err(convert)
    }

    /// All rows of an answer to a question about tables ([`schema::of_tables`]).
    pub(super) async fn ask_of<T: Columns>(
        &mut self,
        tables: &[TableName],
        names: Names,
        question: &str,
    ) -> Result<BTreeMap<TableName, Vec<T>>> {
        let found = schema::of_tables(&mut self.conn, tables, names, question).await;
        found.map_err(convert)
    }

    /// Runs a statement and gives the server's words about it, and its own words where it refuses it.
    pub(super) async fn tell(
        &mut self,
        sql: &str,
    ) -> std::result::Result<String, mysql_async::Error> {
        let result = self.conn.query_iter(sql).await?;
        let info = result.info().into_owned();
        result.drop_result().await?;
        Ok(info)
    }

    /// Runs one or more statements and gives what each has found or written, with the server's words.
    pub(super) async fn write(
        &mut self,
        sql: &[u8],
    ) -> std::result::Result<Vec<Written>, mysql_async::Error> {
        let mut result = self.conn.query_iter(sql).await?;
        let mut written = Vec::new();
        loop {
            written.push(Written {
                rows: result.affected_rows(),
                duplicates: duplicates(&result.info()),
            });
            if result.is_empty() {
                break;
            }
            result.for_each(|_: Row| ()).await?;
        }
        result.drop_result().await?;
        Ok(written)
    }
}

impl Session {
    /// Writes a statement behind its long values, and `unlabelled` values that a strict session
    /// refuses.
    pub(super) async fn write_with_long(
        &mut self,
        sql: &Statement<'_>,
        unlabelled: u16,
    ) -> std::result::Result<Vec<Written>, mysql_async::Error> {
        for long in sql.long() {
            let value = if long.octets {
                "CAST(? AS BINARY)"
            } else {
                "?"
            };
            let set = format!("SET {} = {value}", long.variable());
            // The driver takes no borrowed value: a copy, of one value at a time.
            let params = (long.bytes.to_vec(),);
            self.conn.exec_drop(set, params).await?;
        }
        let written = match unlabelled {
            0 => self.write(&sql.text).await,
            unlabelled => self.write_unlabelled(&sql.text, unlabelled).await,
        };
        for long in sql.long() {
            // The server does not keep it either.
            let forget = format!("SET {} = NULL", long.variable());
            let forgotten = self.conn.query_drop(forget).await;
            if written.is_ok() {
                forgotten?;
            }
        }
        written
    }

    /// Runs a statement that writes `unlabelled` values that a strict session refuses. For each of
    /// them the server has a warning; it must have no other.
    pub(super) async fn write_unlabelled(
        &mut self,
        sql: &[u8],
        unlabelled: u16,
    ) -> std::result::Result<Vec<Written>, mysql_async::Error> {
        let lenient = format!("SET SESSION sql_mode = '{MODE}'");
        self.conn.query_drop(lenient).await?;
        let written = self.write(sql).await;
        let warnings = self.conn.get_warnings();
        let strict = format!("SET SESSION sql_mode = '{STRICT}{MODE}'");
        self.conn.query_drop(strict).await?;
        let written = written?;
        if warnings != unlabelled {
            return Err(mysql_async::Error::Server(mysql_async::ServerError {
                code: 1265,
                message: "a value was changed".to_owned(),
                state: "01000".to_owned(),
            }));
        }
        Ok(written)
    }
}

/// What one statement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Rows found or written.
    pub(super) rows: u64,
    /// Of an `INSERT` of several rows: those that met a row with their key.
    pub(super) duplicates: Option<u64>,
}

/// From `Records: 2  Duplicates: 1  Warnings: 0`.
fn duplicates(info: &str) -> Option<u64> {
    let (_, rest) = info.split_once("Duplicates: ")?;
    rest.split(' ').next()?.parse().ok()
}

/// A name as statements write it.
pub(crate) fn quote(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text as statements write it.
pub(super) fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let check = |text: &str, maria, version, collation: &str| {
            let flavor = Flavor::parse(text);
            assert_eq!(flavor, Flavor { maria, version }, "{text}");
            assert_eq!(flavor.collation(), collation, "{text}");
        };
        let nopad = "utf8mb4_nopad_bin";
        check("10.11.4-MariaDB-1+deb12u1-log", true, (10, 11, 4), nopad);
        check("11.4.2-MariaDB", true, (11, 4, 2), nopad);
        check("8.0.36", false, (8, 0, 36), "utf8mb4_0900_bin");
        check("8.4.0-commercial", false, (8, 4, 0), "utf8mb4_0900_bin");
        check("5.7.44-log", false, (5, 7, 44), "utf8mb4_bin");
    }

    #[test]
    fn what_a_server_does_not_know_is_not_set() {
        let pins = |flavor: &str, log| pins(Flavor::parse(flavor), log).join(";");
        assert!(pins("10.11.4-MariaDB", false).contains("READ COMMITTED"));
        assert!(pins("10.11.4-MariaDB", true).contains("REPEATABLE READ"));
        assert!(pins("10.11.4-MariaDB", false).contains("max_statement_time"));
        assert!(!pins("8.0.36", false).contains("max_statement_time"));
        assert!(!pins("8.0.36", false).contains("in_predicate"));
    }

    #[test]
    fn duplicates_are_read_from_the_servers_words() {
        assert_eq!(
            duplicates("Records: 12  Duplicates: 3  Warnings: 1"),
            Some(3)
        );
        assert_eq!(duplicates(""), None);
    }
}
