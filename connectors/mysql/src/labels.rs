//! Labels of `ENUM` and `SET` that the catalogue cannot show.
//!
//! `information_schema` and `SHOW CREATE TABLE` are in `utf8mb3`, so that a character outside of the
//! basic plane is a question mark in them. MariaDB tells the labels themselves through a variable
//! of the column's type (`TYPE OF`, from 10.3 on), which takes numbers and gives labels, and needs no
//! right but to read the table: <https://mariadb.com/kb/en/declare-variable/>. MySQL has no such
//! thing; there the column cannot be captured if a label has a question mark.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use thalweg_core::schema::{ColumnSchema, ColumnType, TableName};
use thalweg_core::{Error, Result};

use crate::error::plain;

/// Ends the native type of a column whose labels cannot be told.
pub(crate) const HIDDEN: &str = " with labels the catalogue cannot show";

/// Puts the exact labels where those of the catalogue may not be.
pub(crate) async fn settle(
    conn: &mut Conn,
    table: &TableName,
    columns: &mut [ColumnSchema],
) -> Result<()> {
    for column in columns {
        let (labels, several) = match &column.ty {
            ColumnType::Enum { labels } => (labels, false),
            ColumnType::Set { labels } => (labels, true),
            _ => continue,
        };
        if !labels.iter().any(|label| label.contains('?')) {
            continue;
        }
        // MySQL's versions end below 10.
        if conn.server_version() < (10, 3, 0) {
            column.native.push_str(HIDDEN);
            continue;
        }
        let exact = ask(conn, table, &column.name, labels.len(), several).await?;
        if exact.len() != labels.len() {
            return Err(Error::schema(format!(
                "the labels of column {} of {table} changed while they were read",
                column.name
            ))
            .with_hint("run the task again"));
        }
        let quoted =
            |label: &String| format!("'{}'", label.replace('\\', "\\\\").replace('\'', "''"));
        let quoted: Vec<String> = exact.iter().map(quoted).collect();
        let kind = if several { "set" } else { "enum" };
        column.native = format!("{kind}({})", quoted.join(","));
        column.ty = match several {
            true => ColumnType::Set { labels: exact },
            false => ColumnType::Enum { labels: exact },
        };
    }
    Ok(())
}

fn quote(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

async fn ask(
    conn: &mut Conn,
    table: &TableName,
    column: &str,
    count: usize,
    several: bool,
) -> Result<Vec<String>> {
    conn.query_drop("SET SESSION sql_mode = ''")
        .await
        .map_err(plain)?;
    let value = if several { "1 << (n - 1)" } else { "n" };
    let block = format!(
        "BEGIN NOT ATOMIC \
         DECLARE label TYPE OF {}.{}.{}; \
         DECLARE labels LONGTEXT CHARACTER SET ascii DEFAULT ''; \
         DECLARE n INT UNSIGNED DEFAULT 0; \
         WHILE n < {count} DO \
         SET n = n + 1; SET label = {value}; \
         SET labels = CONCAT(labels, HEX(CONVERT(label USING utf8mb4)), ','); \
         END WHILE; \
         SELECT labels; END",
        quote(&table.schema),
        quote(&table.name),
        quote(column)
    );
    let said: Option<String> = conn.query_first(block).await.map_err(plain)?;
    let said = said.unwrap_or_default();
    let labels = said.split_terminator(',').map(unhex);
    labels
        .collect::<Option<_>>()
        .ok_or_else(|| Error::bug("a label that is not hexadecimal UTF-8"))
}

fn unhex(text: &str) -> Option<String> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let octet = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok();
    let bytes: Option<Vec<u8>> = pairs.iter().map(octet).collect();
    String::from_utf8(bytes?).ok().filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    #[test]
    fn labels_come_as_hexadecimal() {
        assert_eq!(super::unhex("F09FA68A").as_deref(), Some("🦊"));
        assert_eq!(super::unhex("").as_deref(), Some(""));
        assert_eq!(super::unhex("F"), None);
        assert_eq!(super::unhex("ZZ"), None);
        assert_eq!(super::unhex("F0"), None);
    }
}
