//! What the log has of rows as they were.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use thalweg_core::Result;
use thalweg_core::schema::{ColumnSchema, ColumnType, TableName};

use crate::error::plain;
use crate::snapshot::quote;

/// What `binlog_row_image` is now.
pub(crate) async fn image(conn: &mut Conn) -> Result<String> {
    let image: Option<String> = conn
        .query_first("SELECT @@GLOBAL.binlog_row_image")
        .await
        .map_err(plain)?;
    Ok(image.unwrap_or_default())
}

/// The columns whose old values are in the log where `binlog_row_image` is this; `None`: all.
///
/// MINIMAL logs the primary key, or else the first unique key without NULL, or else everything. NOBLOB
/// logs everything but texts, bytes and documents of any length that are not part of that key.
/// <https://dev.mysql.com/doc/refman/8.4/en/replication-options-binary-log.html>.
pub(crate) async fn old_image(
    conn: &mut Conn,
    image: &str,
    table: &TableName,
    columns: &[ColumnSchema],
    primary_key: &[usize],
) -> Result<Option<Vec<usize>>> {
    if !matches!(image, "MINIMAL" | "NOBLOB") {
        return Ok(None);
    }
    let mut key = primary_key.to_vec();
    if key.is_empty() {
        key = first_key(conn, table, columns).await?;
    }
    if key.is_empty() {
        return Ok(None);
    }
    if image == "NOBLOB" {
        let long = |c: &ColumnSchema| {
            let name = c.native.split(['(', ' ']).next().unwrap_or_default();
            name.ends_with("text")
                || name.ends_with("blob")
                || name == "json"
                || matches!(c.ty, ColumnType::Geometry)
        };
        let rest = columns.iter().enumerate();
        key.extend(rest.filter_map(|(i, c)| (!long(c)).then_some(i)));
    }
    key.sort_unstable();
    key.dedup();
    Ok(Some(key))
}

/// The key the server takes for the primary one where there is none: the first, in its own order, that
/// is unique over whole columns without NULL.
async fn first_key(
    conn: &mut Conn,
    table: &TableName,
    columns: &[ColumnSchema],
) -> Result<Vec<usize>> {
    let show = format!(
        "SHOW INDEX FROM {}.{}",
        quote(&table.schema),
        quote(&table.name)
    );
    let rows: Vec<Row> = conn.query(show).await.map_err(plain)?;
    let mut keys: Vec<(String, Option<Vec<usize>>)> = Vec::new();
    for row in rows {
        let text = |name: &str| row.get::<Option<String>, _>(name).flatten();
        if row.get::<u64, _>("Non_unique") != Some(0) {
            continue;
        }
        let (Some(key), column) = (text("Key_name"), text("Column_name")) else {
            continue;
        };
        if keys.last().is_none_or(|(last, _)| *last != key) {
            keys.push((key, Some(Vec::new())));
        }
        let at = columns
            .iter()
            .position(|c| Some(&c.name) == column.as_ref() && !c.nullable);
        let whole = row.get::<Option<u64>, _>("Sub_part").flatten().is_none();
        if let Some((_, list)) = keys.last_mut() {
            *list = match (list.take(), at) {
                (Some(mut list), Some(at)) if whole => {
                    list.push(at);
                    Some(list)
                }
                _ => None,
            };
        }
    }
    Ok(keys
        .into_iter()
        .find_map(|(_, list)| list)
        .unwrap_or_default())
}
