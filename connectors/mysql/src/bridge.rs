//! Reading the log of a table from a place on where it was made in another way than it is now.
//!
//! Rows have their old form up to the statement that altered the table, and none of the columns that it
//! brought. What they have of such a column in the end is not in the log: when a column comes, the rows that
//! are there get its default. It is known if it is a constant, as long as it is the same still. So it is
//! kept with the layout until the column comes, together with the end of the log by now: a default that
//! is changed between the two may be another than the one the rows got, and the stream ends there.
//!
//! A column that got another type is read as it was and given as it is, if every value of the old type is
//! that value in the new one.

use std::mem::discriminant;

use mysql_async::Conn;
use thalweg_core::Result;
use thalweg_core::plan::{Pair, Verdict};
use thalweg_core::ports::{Bridge, DataSourceConfig};
use thalweg_core::position;
use thalweg_core::range::Bound;
use thalweg_core::schema::{ColumnSchema, ColumnType, TableSchema};
use thalweg_core::value::CellRef;

use crate::catalog::constant;
use crate::layout::{self, Layout, Young};
use crate::schema::of_native;
use crate::server;
use crate::wire::rows::Missing;

/// See [`thalweg_core::ports::Source::bridge`].
pub(crate) async fn bridge(
    conn: &mut Conn,
    config: &DataSourceConfig,
    table: &TableSchema,
    then: Option<&position::Layout>,
    added: &[usize],
    retyped: &[(usize, String)],
) -> Result<Bridge> {
    let closed = |why: String| Ok(Bridge::Closed(why));
    let Some(then) = then else {
        return closed("what columns the table had there is not known".to_owned());
    };
    let mut layout = Layout::read(then, &table.name)?;
    layout
        .young
        .retain(|y| table.column(&y.column.name).is_some());
    for (at, was) in retyped {
        let Some(column) = table.columns.get(*at) else {
            continue;
        };
        if let Err(why) = retype(&mut layout, column, was) {
            return closed(why);
        }
    }
    let end = server::marked_end(conn, config).await?.position();
    let now = Layout::of(table)?;
    let mut fills = Vec::new();
    let mut doubt = false;
    let mut begun = Vec::new();
    for column in added.iter().filter_map(|at| table.columns.get(*at)) {
        let name = &column.name;
        if layout.at(name).is_some() {
            return Ok(Bridge::Unread);
        }
        if let Some(young) = layout.awaited(name) {
            fills.push(young.fill.to_vec());
            begun.push(true);
            continue;
        }
        begun.push(false);
        let described = now.at(name).and_then(|at| now.columns.get(at));
        let missing = described.map_or(Missing::Unknown, |c| c.missing.clone());
        let fill = match (&missing, implicit(column)) {
            (Missing::Default(raw), _) => raw.clone(),
            (Missing::Unknown, Some(cell)) => cell.raw().into(),
            // What was computed for each row, or is not known.
            _ => {
                doubt = true;
                Bound::new(CellRef::Null).raw().into()
            }
        };
        fills.push(fill.to_vec());
        layout.young.push(Young {
            column: layout::Column {
                name: name.clone(),
                native: layout::short(&column.native),
                missing,
            },
            fill,
            until: end.as_str().to_owned(),
            came: false,
        });
    }
    let layout = layout.stored();
    Ok(Bridge::Open {
        layout,
        fills,
        doubt,
        begun,
    })
}

/// Notes the type that a column had; `Err`: why what it had cannot be read as what it has.
fn retype(layout: &mut Layout, column: &ColumnSchema, was: &str) -> Result<(), String> {
    let (name, is) = (&column.name, &column.native);
    let before = of_native(was);
    if !widens(&before, column) {
        return Err(format!(
            "column {name} was {was} and is {is}, which does not hold every value as it was"
        ));
    }
    let at = layout.at(name);
    let Some(known) = at.and_then(|at| layout.columns.get_mut(at)) else {
        return Err(format!("column {name}, which is {is}, came as {was}"));
    };
    known.native = match &before.ty {
        // Labels are no part of a layout; that there were fewer has to be seen.
        ColumnType::Enum { labels } => format!("enum({})", labels.len()),
        ColumnType::Set { labels } => format!("set({})", labels.len()),
        _ => layout::short(was),
    };
    Ok(())
}

/// Whether every value of a column is the same value after the server has given the column another type,
/// and is read from the log as that.
fn widens(was: &ColumnSchema, is: &ColumnSchema) -> bool {
    let verdict = Pair::of(&was.ty, &is.ty).verdict;
    let holds = matches!(verdict, Verdict::Exact | Verdict::Widening);
    let (from, to) = (was.native.as_str(), is.native.as_str());
    let word = layout::first_word;
    holds
        && discriminant(&was.ty) == discriminant(&is.ty)
        && layout::same_kind(from, to)
        && match (&was.ty, &is.ty) {
            // A year lies in another way.
            (ColumnType::Int { .. }, _) => word(from) != "year",
            (ColumnType::Decimal { .. }, _) => true,
            // Digits after the point round.
            (ColumnType::Float32 { .. } | ColumnType::Float64 { .. }, _) => !to.contains('('),
            // The log leaves out what a `BINARY` is filled up with.
            (ColumnType::Text { .. } | ColumnType::Bytes { .. }, _) => {
                let same = is.refuses.is_none() || is.refuses == was.refuses;
                same && word(from) != "binary" && room(from) <= room(to)
            }
            (ColumnType::Time { .. }, _)
            | (ColumnType::Timestamp { .. }, _)
            | (ColumnType::Instant { .. }, _) => true,
            // The log has their numbers.
            (ColumnType::Enum { labels: a }, ColumnType::Enum { labels: b })
            | (ColumnType::Set { labels: a }, ColumnType::Set { labels: b }) => b.starts_with(a),
            _ => false,
        }
}

/// Text and octets in the order of the bytes they have room for, as far as their type has a limit in bytes.
fn room(native: &str) -> u8 {
    match layout::first_word(native) {
        "tinytext" | "tinyblob" => 0,
        "text" | "blob" => 2,
        "mediumtext" | "mediumblob" => 3,
        "longtext" | "longblob" => 4,
        _ => 1,
    }
}

/// What rows get of a column that has no default and cannot be NULL; `None`: it is none, or it is not known.
fn implicit(column: &ColumnSchema) -> Option<Bound> {
    if column.has_default || column.generated || column.nullable {
        return None;
    }
    match &column.ty {
        ColumnType::Int { .. }
        | ColumnType::Float32 { .. }
        | ColumnType::Float64 { .. }
        | ColumnType::Decimal { .. } => constant(column, "0"),
        ColumnType::Text { .. } => Some(Bound::new(CellRef::Text(""))),
        ColumnType::Bytes { .. } if layout::first_word(&column.native) != "binary" => {
            Some(Bound::new(CellRef::Bytes(b"")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_hold_every_value_as_it_was() {
        let long = "varchar(20) character set utf8mb4";
        for (was, is, want) in [
            ("int(11)", "bigint(20)", true),
            ("int", "int(10)", true),
            ("tinyint(3) unsigned", "int(10) unsigned", true),
            ("int", "bigint unsigned", false),
            ("int unsigned", "bigint", false),
            ("bigint", "int", false),
            ("int", "decimal(20,0)", false),
            ("year(4)", "int", false),
            ("smallint", "year(4)", false),
            ("decimal(6,2)", "decimal(10,4)", true),
            ("decimal(6,2)", "decimal(6,3)", false),
            ("decimal(6,2) unsigned", "decimal(8,2)", false),
            ("float", "double", false),
            ("float", "float(7,2)", false),
            ("float(7,2)", "float", true),
            ("varchar(10) character set utf8mb4", long, true),
            (long, "varchar(10) character set utf8mb4", false),
            ("varchar(10) character set latin1", long, false),
            ("char(10) character set utf8mb4", long, true),
            (long, "char(30) character set utf8mb4", false),
            (
                "char(3) character set utf8mb4",
                "char(5) character set utf8mb4",
                true,
            ),
            (long, "text character set utf8mb4", true),
            (long, "tinytext character set utf8mb4", false),
            (
                "text character set utf8mb4",
                "longtext character set utf8mb4",
                true,
            ),
            (
                "text character set utf8mb4",
                "tinytext character set utf8mb4",
                false,
            ),
            ("text character set utf8mb4", long, false),
            ("varbinary(3)", "varbinary(5)", true),
            ("varbinary(3)", "blob", true),
            ("blob", "tinyblob", false),
            ("binary(3)", "binary(5)", false),
            ("binary(3)", "varbinary(5)", false),
            ("varbinary(3)", "binary(5)", false),
            ("blob", "longtext character set utf8mb4", false),
            ("datetime", "datetime(3)", true),
            ("datetime(3)", "datetime", false),
            ("datetime", "timestamp", false),
            ("timestamp(2)", "timestamp(6)", true),
            ("time", "time(6)", true),
            ("date", "datetime", false),
            ("bit(3)", "bit(9)", false),
            ("enum('a','b')", "enum('a','b','character set c')", true),
            ("enum('a','b')", "enum('b','a','c')", false),
            ("enum('a','b')", "enum('c','a','b')", false),
            ("enum('a','b')", "set('a','b')", false),
            ("set('a')", "set('a','b')", true),
            ("point", "geometry", false),
            ("uuid", "char(36) character set utf8mb4", false),
            ("long-0123456789abcdef", "enum('a')", false),
        ] {
            assert_eq!(widens(&of_native(was), &of_native(is)), want, "{was} {is}");
        }
    }
}
