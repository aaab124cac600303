//! What a case's target tables hold in the end, from its source's rows and changes alone.

use std::collections::BTreeMap;

use thalweg_core::mapping::Operations;
use thalweg_core::schema::{TableName, TableSchema};

use super::Case;
use crate::memory::{DEFAULT, MemoryChange, NULL, Row};

/// Per target table its rows, sorted. A row has all columns of the table's schema.
pub type Expected = BTreeMap<TableName, Vec<Row>>;

/// What the target holds when it is loaded with the rows of `before` and then follows `after`.
/// Without INSERT it is what it held for all operations, changed by those that are carried over.
pub fn model(case: &Case, before: &[Vec<MemoryChange>], after: &[Vec<MemoryChange>]) -> Expected {
    let tables = case.targets.iter().map(|table| {
        let parts = case.mappings.iter().filter(|m| m.target == table.name);
        let parts: Vec<(bool, Part)> = parts
            .filter_map(|mapping| {
                let index = case.sources.iter().position(|s| s.name == mapping.source)?;
                let source = case.sources.get(index)?;
                let mut part = Part::new(table, source, &mapping.columns)?;
                let of = |change: &&MemoryChange| change.table == index;
                for change in before.iter().flatten().filter(of) {
                    part.change(change, Operations::ALL);
                }
                for change in after.iter().flatten().filter(of) {
                    part.change(change, case.operations);
                }
                let owner = case.options.row_owner.get(&table.name.to_string());
                Some((owner == Some(&source.name.to_string()), part))
            })
            .collect();
        (table.name.clone(), join(table, &parts))
    });
    tables.collect()
}

/// The columns that identify a row of a target.
fn key(table: &TableSchema) -> Vec<usize> {
    match table.unique_keys.first() {
        Some(unique) if table.primary_key.is_empty() => unique.columns.clone(),
        _ => table.primary_key.clone(),
    }
}

/// The rows that one mapping makes, as if it were alone.
struct Part {
    /// Target column and the source column behind it.
    columns: Vec<(usize, usize)>,
    key: Vec<usize>,
    /// Source columns whose old values are logged, if not all.
    logged: bool,
    /// Cells by target column.
    rows: Vec<BTreeMap<usize, i64>>,
}

impl Part {
    fn new(
        table: &TableSchema,
        source: &TableSchema,
        pairs: &[thalweg_core::mapping::ColumnPair],
    ) -> Option<Part> {
        let column = |pair: &thalweg_core::mapping::ColumnPair| {
            Some((
                table.column_index(&pair.target)?,
                source.column_index(&pair.source)?,
            ))
        };
        Some(Part {
            columns: pairs.iter().map(column).collect::<Option<_>>()?,
            key: key(table),
            logged: source.old_image.is_none(),
            rows: Vec::new(),
        })
    }

    fn project(&self, row: &Row) -> BTreeMap<usize, i64> {
        let cell = |(to, from): &(usize, usize)| (*to, row.get(*from).copied().unwrap_or(NULL));
        self.columns.iter().map(cell).collect()
    }

    /// Where a row is that the target takes for the same.
    fn find(&self, row: &BTreeMap<usize, i64>) -> Option<usize> {
        self.rows
            .iter()
            .position(|there| match self.key.as_slice() {
                [] => there == row,
                key => key.iter().all(|c| there.get(c) == row.get(c)),
            })
    }

    fn change(&mut self, change: &MemoryChange, operations: Operations) {
        let rows = (change.before.as_ref(), change.after.as_ref());
        match rows {
            (None, Some(after)) if operations.insert => self.put(self.project(after)),
            (Some(before), Some(after)) if operations.update => {
                let old = self.project(before);
                let new = self.project(after);
                let sent = |(to, from): &&(usize, usize)| {
                    self.logged || self.key.contains(to) || before.get(*from) != after.get(*from)
                };
                let sent: Vec<usize> = self
                    .columns
                    .iter()
                    .filter(sent)
                    .map(|(to, _)| *to)
                    .collect();
                if let Some(at) = self.find(&old) {
                    let mut row = self.rows.swap_remove(at);
                    row.extend(new.into_iter().filter(|(to, _)| sent.contains(to)));
                    self.put(row);
                } else if operations.insert && sent.len() == self.columns.len() {
                    self.put(new);
                }
            }
            (Some(before), None) if operations.delete => {
                let old = self.project(before);
                if let Some(at) = self.find(&old) {
                    self.rows.swap_remove(at);
                }
            }
            (None, None) if operations.delete => self.rows.clear(),
            _ => {}
        }
    }

    /// A row comes, and takes the place of one with its key.
    fn put(&mut self, row: BTreeMap<usize, i64>) {
        if let Some(at) = self.find(&row).filter(|_| !self.key.is_empty()) {
            self.rows.swap_remove(at);
        }
        self.rows.push(row);
    }
}

/// The rows of all mappings of a table, joined by its key: `true` marks the owner's.
fn join(table: &TableSchema, parts: &[(bool, Part)]) -> Vec<Row> {
    let nobodys = |index: usize| match table.columns.get(index) {
        Some(column) if column.has_default => DEFAULT,
        _ => NULL,
    };
    let fresh = || (0..table.columns.len()).map(nobodys).collect::<Row>();
    let key = key(table);
    let owned = parts.iter().any(|(owner, _)| *owner);
    // Per key the row, and whether it is shown.
    let mut joined: Vec<(Row, bool)> = Vec::new();
    for (owner, part) in parts {
        for cells in &part.rows {
            let same = |(row, _): &(Row, bool)| {
                parts.len() > 1 && key.iter().all(|c| row.get(*c) == cells.get(c))
            };
            let at = joined.iter().position(same).unwrap_or_else(|| {
                joined.push((fresh(), false));
                joined.len() - 1
            });
            if let Some((row, shown)) = joined.get_mut(at) {
                *shown |= *owner || !owned;
                for (column, cell) in cells {
                    if let Some(slot) = row.get_mut(*column) {
                        *slot = *cell;
                    }
                }
            }
        }
    }
    let shown = joined.into_iter().filter(|(_, shown)| *shown);
    let mut rows: Vec<Row> = shown.map(|(row, _)| row).collect();
    rows.sort();
    rows
}
