//! Cutting a table into chunks by the first column of its primary key.
//!
//! The optimizer estimates the rows of a range by going down the index twice (`records_in_range`),
//! and EXPLAIN shows what it found; so a table of any size is cut without its rows being read. Only
//! kinds are taken which the server orders as [`thalweg_core::range::compare`] does. A MariaDB UUID
//! is stored, and ordered, with its parts swapped; a TIMESTAMP may be zero, which is no moment; YEAR
//! reads numbers in a way of its own.

use mysql_async::Conn;
use mysql_async::Row;
use mysql_async::prelude::Queryable;
use thalweg_core::ports::{Chunk, ChunkSize, DataSourceConfig};
use thalweg_core::range::{Bound, Cutter, KeyRange};
use thalweg_core::schema::{ColumnSchema, ColumnType, TableName};
use thalweg_core::value::{CellRef, RowBatch};
use thalweg_core::{Error, Result, Side};

use crate::error::{from_driver, reading};
use crate::snapshot::{push, quote};
use crate::wire::Malformed;
use crate::wire::cells::{self, Meaning};

/// Cuts a chunk.
pub(crate) async fn split(
    conn: &mut Conn,
    config: &DataSourceConfig,
    chunk: &Chunk,
    size: ChunkSize,
) -> Result<Vec<Chunk>> {
    let schema = &chunk.schema;
    let key = schema.primary_key.first().copied();
    let ordered = key.and_then(|index| Some((index, schema.columns.get(index)?)));
    let Some((index, column)) = ordered.filter(|(_, column)| is_ordered(column)) else {
        return Ok(vec![chunk.clone()]);
    };
    let whole = KeyRange {
        column: index,
        from: None,
        to: None,
    };
    let range = chunk.range.as_ref().unwrap_or(&whole);
    let table = format!(
        "{}.{}",
        quote(&schema.name.schema),
        quote(&schema.name.name)
    );
    let rows_max = rows_max(conn, &schema.name, size).await?;
    let within = condition(column, range)?;
    let ends = ends(conn, config, &table, column, &within).await?;
    let Some((first, last)) = ends else {
        return Ok(vec![chunk.clone()]);
    };
    let mut cutter = Cutter::new(first, last, rows_max);
    while let Some((from, to)) = cutter.question() {
        let piece = KeyRange {
            column: index,
            from: Some(from.clone()),
            to: Some(to.clone()),
        };
        let rows = estimate(conn, &table, &condition(column, &piece)?).await?;
        cutter.answer(rows);
    }
    let cuts = cutter.cuts();
    if cuts.is_empty() {
        return Ok(vec![chunk.clone()]);
    }
    let mut begin = range.from.clone();
    let ends = cuts.into_iter().map(Some).chain([range.to.clone()]);
    let chunks = ends.map(|to| Chunk {
        range: Some(KeyRange {
            column: index,
            from: std::mem::replace(&mut begin, to.clone()),
            to,
        }),
        ..chunk.clone()
    });
    Ok(chunks.collect())
}

/// Whether the server orders a column's values as [`thalweg_core::range::compare`] does.
fn is_ordered(column: &ColumnSchema) -> bool {
    match column.ty {
        ColumnType::Int { .. } => !column.native.starts_with("year"),
        ColumnType::Date { .. } | ColumnType::Timestamp { .. } => true,
        ColumnType::Bytes { .. } => {
            column.native.starts_with("binary") || column.native.starts_with("varbinary")
        }
        _ => false,
    }
}

/// Rows of a chunk, by the average length the server knows.
async fn rows_max(conn: &mut Conn, table: &TableName, size: ChunkSize) -> Result<u64> {
    let known: Option<Option<u64>> = conn
        .exec_first(
            "SELECT avg_row_length FROM information_schema.tables \
             WHERE table_schema = ? AND table_name = ?",
            (table.schema.as_str(), table.name.as_str()),
        )
        .await
        .map_err(from_driver)?;
    let length = known.flatten().unwrap_or(1).max(1);
    Ok(size.rows.min(size.bytes / length).max(1))
}

/// The smallest and the largest key that there is.
async fn ends(
    conn: &mut Conn,
    config: &DataSourceConfig,
    table: &str,
    column: &ColumnSchema,
    within: &str,
) -> Result<Option<(Bound, Bound)>> {
    let name = quote(&column.name);
    let query = format!("SELECT MIN({name}), MAX({name}) FROM {table} WHERE {within}");
    // The binary protocol, as the chunks are read by.
    let row: Option<Row> = conn
        .exec_first(query, ())
        .await
        .map_err(|error| reading(error, config, "SELECT", table))?;
    let meaning = cells::meaning(column).unwrap_or(Meaning::Plain);
    let mut rows = RowBatch::new();
    let missing = || Error::from(Malformed("a row has too few values"));
    let row = row.ok_or_else(missing)?;
    for at in [0, 1] {
        let value = row.as_ref(at).ok_or_else(missing)?;
        push(&mut rows, &meaning, &column.ty, value)?;
    }
    rows.end_row();
    let cells = rows.row(0);
    Ok(match (cells.cell(0), cells.cell(1)) {
        (Some(first), Some(last)) if first != CellRef::Null => {
            Some((Bound::new(first), Bound::new(last)))
        }
        _ => None,
    })
}

/// Rows that the optimizer expects.
async fn estimate(conn: &mut Conn, table: &str, within: &str) -> Result<u64> {
    let explain = format!("EXPLAIN SELECT 1 FROM {table} FORCE INDEX (PRIMARY) WHERE {within}");
    let row: Option<Row> = conn.query_first(explain).await.map_err(from_driver)?;
    // NULL: it knows that there is none.
    let rows = row.and_then(|row| row.get::<Option<u64>, _>("rows"));
    Ok(rows.flatten().unwrap_or(0))
}

/// A range as a condition.
pub(crate) fn condition(column: &ColumnSchema, range: &KeyRange) -> Result<String> {
    let name = quote(&column.name);
    let bound = |sign: &str, bound: &Option<Bound>| {
        let bound = bound.as_ref();
        let literal = bound.map(|bound| literal(bound.cell())).transpose()?;
        Ok::<_, Error>(literal.map(|literal| format!("{name} {sign} {literal}")))
    };
    let bounds = [bound(">=", &range.from)?, bound("<", &range.to)?];
    let conditions: Vec<String> = bounds.into_iter().flatten().collect();
    Ok(match conditions.is_empty() {
        true => "TRUE".to_owned(),
        false => conditions.join(" AND "),
    })
}

/// A value as the server reads it back exactly, whatever its mode.
fn literal(cell: CellRef<'_>) -> Result<String> {
    Ok(match cell {
        CellRef::I64(n) => n.to_string(),
        CellRef::U64(n) => n.to_string(),
        CellRef::Date(d) => format!("'{:04}-{:02}-{:02}'", d.year, d.month, d.day),
        CellRef::Timestamp(d, micros) => {
            let seconds = micros / 1_000_000;
            format!(
                "'{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:06}'",
                d.year,
                d.month,
                d.day,
                seconds / 3_600,
                seconds / 60 % 60,
                seconds % 60,
                micros % 1_000_000
            )
        }
        CellRef::Bytes(bytes) => {
            let mut text = String::from("x'");
            for byte in bytes {
                text.push_str(&format!("{byte:02x}"));
            }
            text + "'"
        }
        other => {
            let kind = other.kind_name();
            return Err(Error::bug(format!("a range over a {kind} key")).at(Side::Source));
        }
    })
}

#[cfg(test)]
mod tests {
    use thalweg_core::value::Date;

    use super::*;

    #[test]
    fn literals_are_exact() {
        let date = Date {
            year: 21,
            month: 2,
            day: 3,
        };
        for (cell, expected) in [
            (CellRef::I64(i64::MIN), "-9223372036854775808"),
            (CellRef::U64(u64::MAX), "18446744073709551615"),
            (CellRef::Date(date), "'0021-02-03'"),
            (
                CellRef::Timestamp(date, 86_399_000_001),
                "'0021-02-03 23:59:59.000001'",
            ),
            (CellRef::Bytes(&[0, 39, 255]), "x'0027ff'"),
            (CellRef::Bytes(&[]), "x''"),
        ] {
            assert_eq!(literal(cell).unwrap(), expected);
        }
        assert!(literal(CellRef::Text("a'b")).is_err());
    }
}
