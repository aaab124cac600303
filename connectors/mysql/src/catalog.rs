//! What only the catalogue knows and the log needs to be read: the constants that an insert leaves out
//! of a partial image, which columns are virtual, and which character set a collation is of.

use std::collections::{BTreeMap, HashMap};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use thalweg_core::Result;
use thalweg_core::range::Bound;
use thalweg_core::schema::{ColumnSchema, ColumnType, TableName};
use thalweg_core::value::{CellRef, Date, RowBatch};

use crate::error::{from_driver, plain};
use crate::schema::{NAMES, of_tables};
use crate::stream::decode::Known;
use crate::wire::cells;
use crate::wire::rows::Missing;

/// Asks for what all tables share.
pub(crate) async fn known(conn: &mut Conn) -> Result<Known> {
    Ok(Known {
        collations: collations(conn).await?,
    })
}

/// MariaDB 10.10 and newer list collations that fit several character sets elsewhere.
async fn collations(conn: &mut Conn) -> Result<HashMap<u64, String>> {
    let version = conn.server_version();
    let from = if version >= (10, 10, 0) {
        "collation_character_set_applicability"
    } else {
        "collations"
    };
    let rows: Vec<(Option<u64>, Option<String>)> = conn
        .query(format!(
            "SELECT CAST(id AS UNSIGNED), character_set_name FROM information_schema.{from}"
        ))
        .await
        .map_err(from_driver)?;
    Ok(rows
        .into_iter()
        .filter_map(|(id, name)| Some((id?, name?)))
        .collect())
}

/// A column, its default and what else the catalogue says of it.
pub(crate) type Default = (String, Option<String>, String);

/// The defaults of the columns of tables.
pub(crate) async fn defaults(
    conn: &mut Conn,
    tables: &[TableName],
) -> Result<BTreeMap<TableName, Vec<Default>>> {
    // Constants of TIMESTAMP come in the session's zone.
    conn.query_drop("SET SESSION time_zone = '+00:00'")
        .await
        .map_err(plain)?;
    let defaults = "SELECT column_name, column_default, extra, {names} \
                    FROM information_schema.columns WHERE {of}";
    let defaults = of_tables(conn, tables, NAMES, defaults).await;
    defaults.map_err(plain)
}

/// What each column of a table is in an image that lacks it.
pub(crate) fn missing(defaults: &[Default], columns: &[ColumnSchema], maria: bool) -> Vec<Missing> {
    let missing = |column: &ColumnSchema| {
        let found = defaults.iter().find(|(name, _, _)| *name == column.name);
        let Some((_, default, extra)) = found else {
            return Missing::Unknown;
        };
        if extra.contains("VIRTUAL") {
            return Missing::Virtual;
        }
        // What is computed is in the log.
        if column.generated
            || extra.contains("auto_increment")
            || extra.contains("DEFAULT_GENERATED")
        {
            return Missing::Unknown;
        }
        let default = match (default.as_deref(), maria) {
            (None, _) => None,
            (Some("NULL"), true) => None,
            (Some(text), true) => match unquoted(text) {
                Some(text) => Some(text),
                None => return Missing::Unknown,
            },
            (Some(text), false) => Some(text.to_owned()),
        };
        let cell = match default {
            None if column.nullable => Some(Bound::new(CellRef::Null)),
            None => None,
            Some(text) => constant(column, &text),
        };
        cell.map_or(Missing::Unknown, |cell| Missing::Default(cell.raw().into()))
    };
    columns.iter().map(missing).collect()
}

/// MariaDB writes defaults as expressions: a quoted text, a number, or something that is computed.
fn unquoted(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')) {
        return Some(inner.replace("''", "'"));
    }
    let plain = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
    let bits = text.starts_with("b'") && text.ends_with('\'');
    (bits || text.chars().all(plain)).then(|| text.to_owned())
}

/// The cell of a constant as the catalogue writes it; `None`: it cannot be told.
pub(crate) fn constant(column: &ColumnSchema, text: &str) -> Option<Bound> {
    // The catalogue writes `?` for what it cannot show, and bytes as if they were text.
    if text.contains('?') {
        return None;
    }
    let mut rows = RowBatch::new();
    match &column.ty {
        ColumnType::Int { unsigned: true, .. } => rows.push(CellRef::U64(text.parse().ok()?)),
        ColumnType::Int { .. } => rows.push(CellRef::I64(text.parse().ok()?)),
        ColumnType::Float32 { .. } => rows.push(CellRef::F32(text.parse().ok()?)),
        ColumnType::Float64 { .. } => rows.push(CellRef::F64(text.parse().ok()?)),
        ColumnType::Decimal { scale, .. } => {
            let scale = usize::try_from((*scale)?).ok()?;
            let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
            if fraction.len() > scale {
                return None;
            }
            let dot = if scale > 0 { "." } else { "" };
            let text = format!("{whole}{dot}{fraction:0<scale$}");
            cells::push_decimal_text(&mut rows, text.as_bytes()).ok()?;
        }
        ColumnType::Text { .. } if text.is_ascii() || column.native.contains("utf8") => {
            let trimmed = column.native.starts_with("char(");
            let text = if trimmed {
                text.trim_end_matches(' ')
            } else {
                text
            };
            rows.push(CellRef::Text(text));
        }
        ColumnType::Enum { labels } => {
            rows.push(CellRef::Text(labels.iter().find(|l| *l == text)?));
        }
        ColumnType::Set { labels } => {
            let known = |one: &str| labels.iter().any(|l| l == one);
            if !text.is_empty() && !text.split(',').all(known) {
                return None;
            }
            rows.push(CellRef::Text(text));
        }
        ColumnType::Bits { len, .. } => {
            let digits = text.strip_prefix("b'")?.strip_suffix('\'')?;
            let value = u64::from_str_radix(digits, 2).ok()?;
            cells::push_bits(&mut rows, (*len)?, value);
        }
        ColumnType::Date { .. } => rows.push(CellRef::Date(date(text)?)),
        ColumnType::Timestamp { .. } => {
            let (day, time) = text.split_once(' ')?;
            rows.push(CellRef::Timestamp(date(day)?, micros(time)?));
        }
        ColumnType::Instant { .. } => {
            let (day, time) = text.split_once(' ')?;
            let (day, time) = (date(day)?, micros(time)?);
            if day.is_zero_date() {
                rows.push(CellRef::Timestamp(day, time));
            } else {
                rows.push(CellRef::Instant(
                    day.to_unix_days()? * 86_400_000_000 + time,
                ));
            }
        }
        ColumnType::Time { .. } => {
            let (sign, text) = match text.strip_prefix('-') {
                Some(rest) => (-1, rest),
                None => (1, text),
            };
            rows.push(CellRef::Time(sign * micros(text)?));
        }
        _ => return None,
    }
    rows.end_row();
    rows.row(0).cell(0).map(Bound::new)
}

fn date(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let date = Date {
        year: parts.next()?.parse().ok()?,
        month: parts.next()?.parse().ok()?,
        day: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(date)
}

fn micros(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = seconds.split(':').map(|p| p.parse::<i64>().ok());
    let (h, m, s) = (parts.next()??, parts.next()??, parts.next()??);
    let fraction: i64 = format!("{fraction:0<6}").parse().ok()?;
    Some(((h * 60 + m) * 60 + s) * 1_000_000 + fraction)
}
