//! Staging tables: how rows come to the server, and how they are read there.
//!
//! `COPY … BINARY` and binary parameters are exact and cheap, but there are types whose binary form
//! only their own `recv` function knows: an array or a composite has the identifiers of its parts'
//! types in it, which differ between servers. Their cells come as text instead. In a staging table
//! the column is of type `text`, and the statements that read it cast it, so that the type's input
//! function reads exactly the text that the source's output function wrote. Row by row, the
//! parameter is sent in text format, which ends in the same input function.
//!
//! The cast is to the type without its modifier (`varchar[]`, not `varchar(3)[]`): an explicit
//! cast would cut what is too long, whereas the assignment to the column behind it refuses it. For
//! the same reason, and because a domain may refuse the NULL that a staged delete has in it, a
//! domain is staged as its base type.

use thalweg_core::plan::TargetTable;
use thalweg_core::{Error, Result, Side};
use tokio_postgres::Client;

use super::column_list;
use super::encode::RowEncoder;
use crate::error::convert;
use crate::schema::quote_table;

/// The types a table's mapped columns are staged as.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    columns: Vec<Column>,
}

#[derive(Clone, Debug)]
struct Column {
    /// The base type without modifier, as the server writes it.
    base: String,
    /// The same with its modifier.
    full: String,
    form: bool,
}

const BASE_TYPES: &str = "\
    WITH RECURSIVE base (name, type, modifier) AS (\
      SELECT attname::text, atttypid, atttypmod FROM pg_attribute \
      WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped \
    UNION ALL \
      SELECT b.name, t.typbasetype, t.typtypmod FROM base b JOIN pg_type t ON t.oid = b.type \
      WHERE t.typtype = 'd') \
    SELECT b.name, format_type(b.type, -1), format_type(b.type, b.modifier) FROM base b JOIN pg_type t ON t.oid = b.type \
    WHERE t.typtype <> 'd'";

impl Stage {
    /// Asks the server for the types. `Schema` error if a column is not there any more.
    pub(super) async fn of(client: &Client, table: &TargetTable) -> Result<Stage> {
        let encoder = RowEncoder::new(table);
        let name = quote_table(&table.name);
        let found = client.query(BASE_TYPES, &[&name]).await.map_err(convert)?;
        let column = |(index, column): (usize, &thalweg_core::schema::ColumnSchema)| {
            let row = found
                .iter()
                .find(|row| row.get::<_, &str>(0) == column.name);
            let row = row.ok_or_else(|| {
                Error::schema(format!("{} has no column {}", table.name, column.name))
                    .with_hint("run the task again, so that it reads the table again")
                    .at(Side::Target)
            })?;
            Ok(Column {
                base: row.get(1),
                full: row.get(2),
                form: encoder.is_form(index),
            })
        };
        Ok(Stage {
            columns: table
                .columns
                .iter()
                .enumerate()
                .map(column)
                .collect::<Result<_>>()?,
        })
    }

    /// The type of a column's staging column.
    pub(super) fn staged(&self, index: usize) -> &str {
        self.columns.get(index).map_or(
            "text",
            |column| {
                if column.form { "text" } else { &column.base }
            },
        )
    }

    /// Whether a column comes as the type's text form.
    pub(super) fn is_form(&self, index: usize) -> bool {
        self.columns.get(index).is_some_and(|column| column.form)
    }

    /// A column's base type with its modifier.
    pub(super) fn full(&self, index: usize) -> &str {
        self.columns
            .get(index)
            .map_or("text", |column| &column.full)
    }

    /// The value of a column from its staging column.
    pub(super) fn value(&self, index: usize, staged: &str) -> String {
        match self.columns.get(index) {
            Some(Column {
                base, form: true, ..
            }) => format!("{staged}::{base}"),
            _ => staged.to_owned(),
        }
    }

    /// What a column holds (SQL), as its staging column has it.
    pub(super) fn as_staged(&self, index: usize, held: &str) -> String {
        match self.columns.get(index) {
            Some(Column { form: true, .. }) => format!("({held})::text"),
            _ => held.to_owned(),
        }
    }

    /// The text of a parameter as the column's text would be if it held the value.
    pub(super) fn text_of(&self, index: usize, parameter: usize) -> String {
        match self.columns.get(index) {
            Some(Column { base, full, .. }) => format!("(${parameter}::{base})::{full}::text"),
            None => format!("${parameter}::text"),
        }
    }

    /// How rows get into a table by a staging table of this name, which is empty at the begin of
    /// each transaction.
    pub(super) fn through(&self, name: &str, table: &TargetTable) -> Through {
        let columns = 0..table.columns.len();
        let fields = columns.clone().map(|n| format!("c{n} {}", self.staged(n)));
        let values = columns.map(|n| self.value(n, &format!("c{n}")));
        let (fields, values): (Vec<_>, Vec<_>) = (fields.collect(), values.collect());
        Through {
            create: format!(
                "CREATE TEMP TABLE IF NOT EXISTS {name} ({}) ON COMMIT DELETE ROWS",
                fields.join(", ")
            ),
            copy: format!("COPY pg_temp.{name} FROM STDIN (FORMAT binary)"),
            insert: format!(
                "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM pg_temp.{name}",
                quote_table(&table.name),
                column_list(table.columns.iter(), ""),
                values.join(", ")
            ),
        }
    }
}

/// Statements in the order they are run.
pub(super) struct Through {
    pub(super) create: String,
    pub(super) copy: String,
    pub(super) insert: String,
}
