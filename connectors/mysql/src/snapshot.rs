//! One table in a consistent snapshot of its own.
//!
//! Values come by the binary protocol (floats are exact) and text as stored
//! (`character_set_results = NULL`), and end in the functions of [`crate::wire::cells`] that the
//! stream uses. Labels of `ENUM` and `SET` are asked for by number for the same reason.
//!
//! What a snapshot has seen: MariaDB tells its coordinate. MySQL does not, but with GTIDs it can be
//! found out without a lock. A transaction is at first unknown to the server; then it owns its GTID
//! (`gtid_owned`), is written to the log and becomes visible; and then, in one step, it gives the GTID
//! up and stands in `gtid_executed`. So if `gtid_executed` is the same set before the snapshot was
//! taken and after, and after it nobody owned a GTID before that second look, then the set is exactly
//! what the snapshot saw: what is in it was visible before the first look, and what was visible to the
//! snapshot owned a GTID or had given it up by then, and so had given it up by the second look. Where
//! transactions commit too close to each other for such a moment, it is tried again ([`TRIES`]).

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::StreamExt;
use mysql_async::prelude::{Query, Queryable, WithParams};
use mysql_async::{BinaryProtocol, Conn, ResultSetStream, Row, Value};
use thalweg_core::ports::{Chunk, ChunkReader, DataSourceConfig, StreamLimits};
use thalweg_core::position::{Position, Visibility};
use thalweg_core::schema::{ColumnType, TableName};
use thalweg_core::value::{CellRef, RowBatch};
use thalweg_core::{Error, Result, Side};

use crate::config::connect;
use crate::error::{from_driver, lost, reading};
use crate::position::{Coordinate, Place, Seen};
use crate::server::{self, gtid_at};
use crate::split::condition;
use crate::wire::Malformed;
use crate::wire::cells::{self, Civil, Meaning};

/// Rows handed over at once.
const BATCH_BYTES: usize = 1 << 20;

pub(crate) struct Reader {
    rows: ResultSetStream<'static, 'static, 'static, Row, BinaryProtocol>,
    columns: Vec<(Meaning, ColumnType)>,
    seen: Visibility,
    batch_bytes: usize,
    row_bytes_max: u64,
    table: String,
    done: bool,
}

pub(crate) fn quote(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// What a column is asked for as, so that [`push`] can read it.
pub(crate) fn read(column: &str, meaning: &Meaning) -> String {
    match meaning {
        Meaning::Enum(_) | Meaning::Set(_) | Meaning::Bits(_) => {
            format!("CAST({column} AS UNSIGNED)")
        }
        Meaning::Uuid | Meaning::Inet6 => format!("CAST({column} AS BINARY(16))"),
        Meaning::Inet4 => format!("CAST({column} AS BINARY(4))"),
        _ => column.to_owned(),
    }
}

fn select(chunk: &Chunk, meanings: &[(Meaning, ColumnType)]) -> Result<String> {
    let schema = &chunk.schema;
    let list: Vec<String> = schema
        .columns
        .iter()
        .zip(meanings)
        .map(|(c, (meaning, _))| read(&quote(&c.name), meaning))
        .collect();
    let mut select = format!(
        "SELECT {} FROM {}.{}",
        list.join(", "),
        quote(&schema.name.schema),
        quote(&schema.name.name)
    );
    if let Some(range) = &chunk.range {
        let column = schema.columns.get(range.column);
        let column = column.ok_or_else(|| Error::bug("a range over a column that is not there"))?;
        // Otherwise a large chunk is read as a whole table of which most is thrown away.
        select.push_str(" FORCE INDEX (PRIMARY) WHERE ");
        select.push_str(&condition(column, range)?);
    }
    // The driver reads an answer to its end, also one that nobody wants any more.
    if chunk.empty {
        select.push_str(" LIMIT 0");
    }
    Ok(select)
}

/// The coordinate of the snapshot a transaction `WITH CONSISTENT SNAPSHOT` has on MariaDB.
async fn coordinate(conn: &mut Conn) -> Result<Coordinate> {
    let rows: Vec<(String, String)> = conn
        .query("SHOW STATUS LIKE 'binlog_snapshot_%'")
        .await
        .map_err(from_driver)?;
    let find = |name: &str| {
        rows.iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.clone())
            .filter(|v| !v.is_empty())
    };
    let server: Option<u32> = conn
        .query_first("SELECT @@server_id")
        .await
        .map_err(from_driver)?;
    match (
        find("binlog_snapshot_file"),
        find("binlog_snapshot_position").and_then(|p| p.parse().ok()),
        server,
    ) {
        (Some(file), Some(pos), Some(server)) => Ok(Coordinate { server, file, pos }),
        _ => Err(Error::config(
            "the server does not tell the log coordinate of a snapshot (binlog_snapshot_file): \
             its log is off",
        )
        .at(Side::Source)),
    }
}

/// How long what is in the log may not be visible yet.
const IN_FLIGHT: Duration = Duration::from_secs(5);
/// How often a moment between two transactions of a MySQL server is looked for.
const TRIES: u32 = 500;
const BEGIN: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";

/// Takes a snapshot and gives what it has seen.
async fn begin(conn: &mut Conn) -> Result<Seen> {
    if server::is_mariadb(conn) {
        conn.query_drop(BEGIN).await.map_err(from_driver)?;
        return Ok(Seen::At(coordinate(conn).await?));
    }
    for _ in 0..TRIES {
        let before = server::executed(conn).await?.ok_or_else(|| {
            Error::config("a table of a MySQL server cannot be loaded while gtid_mode is not ON")
                .with_hint(GTID_MODE_ON)
                .at(Side::Source)
        })?;
        conn.query_drop(BEGIN).await.map_err(from_driver)?;
        // In this order: see the head of the module.
        let owned: Option<String> = conn
            .query_first("SELECT @@GLOBAL.gtid_owned")
            .await
            .map_err(from_driver)?;
        let after = server::executed(conn).await?;
        if owned.unwrap_or_default().trim().is_empty() && after.as_ref() == Some(&before) {
            return Ok(Seen::Gtids(before));
        }
        conn.query_drop("ROLLBACK").await.map_err(from_driver)?;
    }
    Err(Error::transient(
        "no moment between two transactions was found to take a snapshot in: the server commits \
         without a pause, or a session holds a GTID (gtid_next)",
    )
    .with_hint("load while fewer transactions are committed")
    .at(Side::Source))
}

/// How MySQL is given GTIDs while it runs.
pub(crate) const GTID_MODE_ON: &str = "SET GLOBAL enforce_gtid_consistency = ON; \
     SET GLOBAL gtid_mode = OFF_PERMISSIVE; SET GLOBAL gtid_mode = ON_PERMISSIVE; \
     SET GLOBAL gtid_mode = ON;";

/// Whether a snapshot has seen all that was committed before a place, which may be one of another
/// server that this one has replaced: then GTIDs tell.
async fn holds(conn: &mut Conn, seen: &Seen, place: &Place) -> Result<bool> {
    let seen = match seen {
        Seen::At(at) => at,
        Seen::Gtids(seen) => return Ok(place.set.as_ref().is_some_and(|p| seen.contains_all(p))),
    };
    if let Ok(order) = seen.compare(&place.at) {
        return Ok(order != Ordering::Less);
    }
    let there = gtid_at(conn, seen).await?;
    let mut domains = place.gtid.iter();
    Ok(domains.all(|(domain, (_, seq))| there.get(domain).is_some_and(|(_, at)| at >= seq)))
}

pub(crate) async fn open(
    config: &DataSourceConfig,
    chunk: &Chunk,
    from: &Position,
    limits: StreamLimits,
) -> Result<Reader> {
    let schema = &chunk.schema;
    let columns = schema
        .columns
        .iter()
        .map(|c| match crate::schema::unsupported(c) {
            Some(why) => {
                Err(Error::config(format!("{}.{}: {why}", schema.name, c.name)).at(Side::Source))
            }
            None => Ok((cells::meaning(c).unwrap_or(Meaning::Plain), c.ty.clone())),
        })
        .collect::<Result<Vec<_>>>()?;
    let mut conn = connect(config).await?;
    for statement in [
        "SET SESSION time_zone = '+00:00', net_write_timeout = 86400, \
         wait_timeout = 86400, character_set_results = NULL",
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    ] {
        conn.query_drop(statement).await.map_err(from_driver)?;
    }
    let no_limit = if server::is_mariadb(&conn) {
        "SET SESSION max_statement_time = 0"
    } else {
        "SET SESSION max_execution_time = 0"
    };
    conn.query_drop(no_limit).await.map_err(from_driver)?;
    let place = Place::of_position(from)?;
    let since = Instant::now();
    let seen = loop {
        let seen = begin(&mut conn).await?;
        if holds(&mut conn, &seen, &place).await? {
            break seen;
        }
        // A transaction is in the log a moment before it is visible.
        if since.elapsed() > IN_FLIGHT {
            return Err(lost(
                "the server's log ends before the place where the task is",
            ));
        }
        conn.query_drop("ROLLBACK").await.map_err(from_driver)?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let seen = seen.visibility();
    let rows = select(chunk, &columns)?
        .with(())
        .stream::<Row, _>(conn)
        .await
        .map_err(|error| {
            let TableName { schema, name } = &schema.name;
            let table = format!("{}.{}", quote(schema), quote(name));
            reading(error, config, "SELECT", &table)
        })?;
    Ok(Reader {
        rows,
        columns,
        seen,
        batch_bytes: limits.part_bytes.min(BATCH_BYTES),
        row_bytes_max: limits.row_bytes_max,
        table: schema.name.to_string(),
        done: false,
    })
}

#[async_trait]
impl ChunkReader for Reader {
    fn visibility(&self) -> &Visibility {
        &self.seen
    }

    async fn next(&mut self, into: &mut RowBatch) -> Result<bool> {
        into.clear();
        while !self.done && into.bytes() < self.batch_bytes {
            let Some(row) = self.rows.next().await else {
                self.done = true;
                break;
            };
            let mut values = row.map_err(from_driver)?.unwrap_raw().into_iter();
            for (meaning, ty) in &self.columns {
                let value = values.next().flatten();
                // Dropped before the next one is copied.
                let value = value.ok_or(Malformed("a row has too few values"))?;
                push(into, meaning, ty, &value).map_err(|e| Error::from(e).context(&self.table))?;
            }
            if u64::try_from(into.open_bytes()).unwrap_or(u64::MAX) > self.row_bytes_max {
                return Err(Error::data(format!(
                    "a row of {} is larger than the limit of {} bytes",
                    self.table, self.row_bytes_max
                ))
                .at(Side::Source));
            }
            into.end_row();
        }
        Ok(!into.is_empty())
    }
}

pub(crate) fn push(
    out: &mut RowBatch,
    meaning: &Meaning,
    ty: &ColumnType,
    value: &Value,
) -> Result<(), Malformed> {
    const OTHER: Malformed = Malformed("a value has another type than its column");
    let number = || match value {
        Value::UInt(n) => Ok(*n),
        Value::Int(n) => Ok(n.cast_unsigned()),
        _ => Err(OTHER),
    };
    if *value == Value::NULL {
        out.push(CellRef::Null);
        return Ok(());
    }
    match (meaning, ty) {
        (Meaning::Enum(labels), _) => cells::push_enum(out, labels, number()?)?,
        (Meaning::Set(labels), _) => cells::push_set(out, labels, number()?)?,
        (Meaning::Bits(len), _) => cells::push_bits(out, *len, number()?),
        (Meaning::Uuid, _) => match value {
            // CAST gives the order in which it is written, not the storage order.
            Value::Bytes(b) => {
                let b = <[u8; 16]>::try_from(b.as_slice()).map_err(|_| OTHER)?;
                out.push(CellRef::Uuid(b));
            }
            _ => return Err(OTHER),
        },
        (_, ColumnType::Int { unsigned: true, .. }) => out.push(CellRef::U64(number()?)),
        (_, ColumnType::Int { .. }) => out.push(CellRef::I64(number()?.cast_signed())),
        _ => match value {
            Value::Float(v) => out.push(CellRef::F32(*v)),
            Value::Double(v) => out.push(CellRef::F64(*v)),
            Value::Bytes(b) if matches!(ty, ColumnType::Decimal { .. }) => {
                cells::push_decimal_text(out, b)?;
            }
            Value::Bytes(b) => cells::push_string(out, meaning, b)?,
            Value::Date(year, month, day, h, m, s, us) => {
                let seconds = i64::from(*h) * 3600 + i64::from(*m) * 60 + i64::from(*s);
                let civil = Civil {
                    year: *year,
                    month: *month,
                    day: *day,
                    day_us: seconds * 1_000_000 + i64::from(*us),
                };
                match ty {
                    ColumnType::Date { .. } => cells::push_date(out, civil),
                    ColumnType::Instant { .. } => cells::push_instant_civil(out, civil)?,
                    _ => cells::push_datetime(out, civil),
                }
            }
            Value::Time(negative, days, h, m, s, us) => {
                let hours = i64::from(*days) * 24 + i64::from(*h);
                let seconds = hours * 3600 + i64::from(*m) * 60 + i64::from(*s);
                let micros = seconds * 1_000_000 + i64::from(*us);
                out.push(CellRef::Time(if *negative { -micros } else { micros }));
            }
            _ => return Err(OTHER),
        },
    }
    Ok(())
}
