//! What a source in memory knows of places in its log and in its tables.

use thalweg_core::schema::TableSchema;
use thalweg_core::{Error, Result};

use super::source::MemoryChange;
use super::{Row, Rows};

/// Takes a transaction's changes back.
pub(super) fn undo(schemas: &[TableSchema], tables: &mut [Rows], changes: &[MemoryChange]) {
    for change in changes.iter().rev() {
        let (Some(schema), Some(rows)) = (schemas.get(change.table), tables.get_mut(change.table))
        else {
            continue;
        };
        if let Some(after) = &change.after {
            rows.remove(&place(schema, rows, after, false));
        }
        if let Some(before) = &change.before {
            let place = place(schema, rows, before, true);
            rows.insert(place, before.clone());
        }
    }
}

/// What a snapshot has seen, and at which server.
pub(super) fn at_server(text: &str) -> Result<(&str, u64)> {
    match text.split_once(" at ") {
        Some((seen, server)) => Ok((seen, number(server)?)),
        None => Ok((text, 0)),
    }
}

/// The last transaction a snapshot may have seen, and those before it that it has not.
pub(super) fn seen(text: &str) -> Result<(u64, Vec<u64>)> {
    let text = at_server(text)?.0;
    let mut numbers = text.split(" but ").map(number);
    let last = numbers.next().unwrap_or_else(|| number(text))?;
    Ok((last, numbers.collect::<Result<_>>()?))
}

/// Where the columns of `asked` stand in the table that is there.
pub(super) fn columns(there: &TableSchema, asked: &TableSchema) -> Vec<usize> {
    let names = asked.columns.iter();
    names.filter_map(|c| there.column_index(&c.name)).collect()
}

pub(super) fn picked(row: &[i64], columns: &[usize]) -> Row {
    columns
        .iter()
        .filter_map(|c| row.get(*c))
        .copied()
        .collect()
}

/// Where a row lies: under its key, or without one under all cells and the next free number.
pub(super) fn place(schema: &TableSchema, rows: &Rows, row: &Row, free: bool) -> Row {
    if schema.primary_key.is_empty() {
        let like = |n: i64| row.iter().copied().chain([n]).collect::<Row>();
        let next = (0..)
            .find(|n| !rows.contains_key(&like(*n)))
            .expect("a free number");
        return like(if free { next } else { next - 1 });
    }
    let cell = |c: &usize| *row.get(*c).expect("a row has all columns");
    schema.primary_key.iter().map(cell).collect()
}

/// The number a position or a transaction is.
pub(super) fn number(text: &str) -> Result<u64> {
    text.parse()
        .map_err(|_| Error::bug("a position this source did not make"))
}
