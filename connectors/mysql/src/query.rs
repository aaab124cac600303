//! The columns of a query that is not run: what the server says of it when it prepares it.
//!
//! <https://mariadb.com/kb/en/com_stmt_prepare/>, <https://mariadb.com/kb/en/result-set-packets/#column-definition-packet>

use mysql_async::consts::{ColumnFlags, ColumnType};
use mysql_async::prelude::Queryable;
use mysql_async::{Column, Conn, Error as My};
use thalweg_core::schema::{ColumnSchema, TableName, TableSchema, UniqueKey};
use thalweg_core::{Error, Result};

use crate::error::from_driver;
use crate::schema::of_native;

/// Errors that the statement has nothing to do with: too many connections, shutting down, a lock, a deadlock, killed,
/// too slow.
const OF_THE_SERVER: [u16; 8] = [1040, 1053, 1203, 1205, 1213, 1317, 1969, 3024];

/// The number of the character set of octets.
const BINARY: u16 = 63;
/// Bytes of a character, as lengths are told on our connections (`utf8mb4`).
const CHAR_BYTES: u32 = 4;

/// What a query gives, as a table without a name; its keys are those of single columns. A `Schema` error
/// if the server takes it for no query, or takes it not at all.
pub(crate) async fn describe(conn: &mut Conn, sql: &str) -> Result<TableSchema> {
    let prepared = conn.prep(sql).await.map_err(|error| match error {
        My::Server(error) if !OF_THE_SERVER.contains(&error.code) => Error::schema(format!(
            "the server refuses the statement ({}): {}",
            error.code, error.message
        )),
        other => from_driver(other),
    })?;
    if prepared.num_params() > 0 {
        return Err(Error::schema("the statement has parameters (?)"));
    }
    let told = prepared.columns();
    if told.is_empty() {
        return Err(Error::schema(
            "the statement gives no columns: it is no query",
        ));
    }
    let with = |flag: ColumnFlags| {
        let columns = told.iter().enumerate();
        let columns = columns.filter(move |(_, column)| column.flags().contains(flag));
        columns.map(|(at, _)| at)
    };
    let unique = with(ColumnFlags::UNIQUE_KEY_FLAG).map(|at| UniqueKey {
        name: String::new(),
        columns: vec![at],
    });
    Ok(TableSchema {
        primary_key: with(ColumnFlags::PRI_KEY_FLAG).collect(),
        unique_keys: unique.collect(),
        ..TableSchema::new(TableName::new("", ""), told.iter().map(column).collect())
    })
}

fn column(told: &Column) -> ColumnSchema {
    let native = native(told);
    ColumnSchema {
        nullable: !told.flags().contains(ColumnFlags::NOT_NULL_FLAG),
        name: told.name_str().into_owned(),
        ..of_native(&native)
    }
}

/// The type as a table's definition would have it. Labels are not told, and an enumeration is its text.
fn native(told: &Column) -> String {
    let (length, digits) = (told.column_length(), u32::from(told.decimals()));
    let unsigned = told.flags().contains(ColumnFlags::UNSIGNED_FLAG);
    let sign = if unsigned { " unsigned" } else { "" };
    let octets = told.character_set() == BINARY;
    // 31 and 39: as many as there are.
    let fraction = |name: &str| match digits {
        1..=6 => format!("{name}({digits})"),
        _ => name.to_owned(),
    };
    let sized = |binary: &str, text: &str| match octets {
        true => format!("{binary}({length})"),
        false => format!("{text}({})", length / CHAR_BYTES),
    };
    let large = || {
        let (word, length) = match octets {
            true => ("blob", length),
            false => ("text", length / CHAR_BYTES),
        };
        let size = match length {
            0..=0xff => "tiny",
            0x100..=0xffff => "",
            0x1_0000..=0xff_ffff => "medium",
            _ => "long",
        };
        format!("{size}{word}")
    };
    match told.column_type() {
        ColumnType::MYSQL_TYPE_TINY => format!("tinyint{sign}"),
        ColumnType::MYSQL_TYPE_SHORT => format!("smallint{sign}"),
        ColumnType::MYSQL_TYPE_INT24 => format!("mediumint{sign}"),
        ColumnType::MYSQL_TYPE_LONG => format!("int{sign}"),
        ColumnType::MYSQL_TYPE_LONGLONG => format!("bigint{sign}"),
        ColumnType::MYSQL_TYPE_FLOAT => format!("float{sign}"),
        ColumnType::MYSQL_TYPE_DOUBLE => format!("double{sign}"),
        ColumnType::MYSQL_TYPE_DECIMAL | ColumnType::MYSQL_TYPE_NEWDECIMAL => {
            // The length counts the sign and the point.
            let around = u32::from(!unsigned) + u32::from(digits > 0);
            format!("decimal({},{digits}){sign}", length.saturating_sub(around))
        }
        ColumnType::MYSQL_TYPE_YEAR => "year".to_owned(),
        ColumnType::MYSQL_TYPE_DATE | ColumnType::MYSQL_TYPE_NEWDATE => "date".to_owned(),
        ColumnType::MYSQL_TYPE_TIME | ColumnType::MYSQL_TYPE_TIME2 => fraction("time"),
        ColumnType::MYSQL_TYPE_DATETIME | ColumnType::MYSQL_TYPE_DATETIME2 => fraction("datetime"),
        ColumnType::MYSQL_TYPE_TIMESTAMP | ColumnType::MYSQL_TYPE_TIMESTAMP2 => {
            fraction("timestamp")
        }
        ColumnType::MYSQL_TYPE_BIT => format!("bit({length})"),
        ColumnType::MYSQL_TYPE_JSON => "json".to_owned(),
        ColumnType::MYSQL_TYPE_GEOMETRY => "geometry".to_owned(),
        ColumnType::MYSQL_TYPE_STRING => sized("binary", "char"),
        ColumnType::MYSQL_TYPE_TINY_BLOB
        | ColumnType::MYSQL_TYPE_MEDIUM_BLOB
        | ColumnType::MYSQL_TYPE_LONG_BLOB
        | ColumnType::MYSQL_TYPE_BLOB => large(),
        // NULL by itself has a length of none.
        _ => sized("varbinary", "varchar"),
    }
}
