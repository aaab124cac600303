//! What is said and done of rows.

use ring::digest::{Context, SHA256};
use thalweg_core::Error;
use thalweg_core::batch::{ApplyBatch, RowOp, TableOp};
use thalweg_core::plan::{Cell, Plan};
use thalweg_core::ports::{Compared, Difference, Differs};
use thalweg_core::schema::ColumnType;
use thalweg_core::value::{CellRef, RowBatch, RowRef};

use super::TableReport;
use crate::barrier::Keys;

/// Takes out the differences that are disputed; whether there are any.
pub(super) fn open(plan: &Plan, target: usize, compared: &mut Compared, disputed: &Keys) -> bool {
    let Some(table) = plan.targets.get(target) else {
        return true;
    };
    if disputed.is_empty() || compared.is_equal() {
        return false;
    }
    let all = compared.changed + compared.missing + compared.extra;
    if all > compared.differences.len() as u64 {
        // Which ones the others are is not known.
        *compared = Compared {
            there: compared.there,
            ..Compared::default()
        };
        return true;
    }
    let rows = &compared.rows;
    let before = compared.differences.len();
    compared
        .differences
        .retain(|d| !disputed.has(rows.row(d.row), &table.key));
    let count = |differs: Differs| {
        let kept = compared.differences.iter();
        kept.filter(|d| d.differs == differs).count() as u64
    };
    let counts = [Differs::Changed, Differs::Missing, Differs::Extra].map(count);
    [compared.changed, compared.missing, compared.extra] = counts;
    compared.differences.len() < before
}

/// What makes rows as they are expected: those that are not go first.
pub(super) fn repairs(target: usize, compared: &Compared) -> Vec<TableOp> {
    let op = |op: RowOp| TableOp {
        target,
        feed: 0,
        op,
        unchecked: false,
        origin: 0,
    };
    let extra = |d: &&Difference| d.differs == Differs::Extra;
    let differences = &compared.differences;
    let gone = differences.iter().filter(extra);
    let come = differences.iter().filter(|d| !extra(d));
    let gone = gone.map(|d| op(RowOp::Delete(d.row)));
    gone.chain(come.map(|d| op(RowOp::Insert(d.row)))).collect()
}

/// A batch of some operations, with their rows.
pub(super) fn some(rows: &RowBatch, ops: &[TableOp]) -> ApplyBatch {
    let mut batch = ApplyBatch::default();
    for op in ops {
        let mut take = |row: usize| batch.rows.append(rows.row(row));
        let taken = match op.op {
            RowOp::Insert(row) => RowOp::Insert(take(row)),
            RowOp::Delete(row) => RowOp::Delete(take(row)),
            // None of these is a repair.
            other => other,
        };
        batch.ordered.push(TableOp { op: taken, ..*op });
    }
    batch
}

/// An error with what to do about it.
pub(super) fn with_fix(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{}. Fix: {hint}", error.chain()),
        None => error.chain(),
    }
}

/// A table before it is verified.
pub(super) fn blank(plan: &Plan, target: usize) -> TableReport {
    let Some(table) = plan.targets.get(target) else {
        return TableReport::default();
    };
    let sources = table
        .feeds
        .iter()
        .filter_map(|f| plan.sources.get(f.source));
    let sources: Vec<_> = sources.map(|s| s.schema.name.to_string()).collect();
    TableReport {
        source: sources.join(", "),
        target: table.name.to_string(),
        ..TableReport::default()
    }
}

/// Adds a row to the hash of a table.
pub(super) fn sum(hash: u128, row: RowRef<'_>) -> u128 {
    let mut digest = Context::new(&SHA256);
    for cell in row.raw_cells() {
        let length = u64::try_from(cell.len()).unwrap_or(u64::MAX);
        digest.update(&length.to_le_bytes());
        digest.update(cell);
    }
    let digest = digest.finish();
    let mut first = [0; 16];
    let bytes = first.iter_mut().zip(digest.as_ref());
    bytes.for_each(|(to, from)| *to = *from);
    hash.wrapping_add(u128::from_le_bytes(first))
}

/// The target column over which a table can be cut into ranges: it holds the first column of the
/// source's primary key with the same values in the same order, and is of the target's key.
pub(super) fn cut_column(plan: &Plan, target: usize) -> Option<usize> {
    let table = plan.targets.get(target)?;
    let source = plan.source_of(target, 0)?;
    let first = *source.schema.primary_key.first()?;
    let from = &source.schema.columns.get(first)?.ty;
    let route = source.routes.iter().find(|route| route.target == target)?;
    let holds = |place: &&usize| {
        let cell = route.cells.get(**place);
        matches!(cell, Some(Cell::Column(column, _)) if *column == first)
    };
    let place = *table.key.iter().find(holds)?;
    let to = &table.columns.get(place)?.ty;
    let same = match (from, to) {
        (
            ColumnType::Int { bits, unsigned },
            ColumnType::Int {
                bits: more,
                unsigned: also,
            },
        ) => unsigned == also && more >= bits,
        (ColumnType::Date { .. }, ColumnType::Date { .. }) => true,
        _ => false,
    };
    same.then_some(place)
}

/// A cell of a key, to be shown.
pub(crate) fn shown(cell: CellRef<'_>) -> String {
    match cell {
        CellRef::Null => "NULL".to_owned(),
        CellRef::Unchanged | CellRef::Absent => String::new(),
        CellRef::Bool(value) => value.to_string(),
        CellRef::I64(value) => value.to_string(),
        CellRef::U64(value) => value.to_string(),
        CellRef::F32(value) => value.to_string(),
        CellRef::F64(value) => value.to_string(),
        CellRef::Decimal(value) => value.to_string(),
        CellRef::Text(text) | CellRef::Json(text) | CellRef::Other(text) => text.to_owned(),
        CellRef::Bytes(bytes) => hex(bytes),
        CellRef::Bits(_, bytes) => hex(bytes),
        CellRef::Uuid(bytes) => hex(&bytes),
        CellRef::Date(date) => format!("{:04}-{:02}-{:02}", date.year, date.month, date.day),
        CellRef::Time(micros) | CellRef::Instant(micros) => format!("{micros} µs"),
        CellRef::Timestamp(date, micros) => {
            format!(
                "{:04}-{:02}-{:02} +{micros} µs",
                date.year, date.month, date.day
            )
        }
        CellRef::Interval(interval) => format!("{interval:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = "0x".to_owned();
    for byte in bytes {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_rows_does_not_depend_on_their_order_but_on_each_cell() {
        let rows = |texts: &[[&str; 2]]| {
            let mut rows = RowBatch::new();
            for text in texts {
                for cell in text {
                    rows.push(CellRef::Text(cell));
                }
                rows.end_row();
            }
            rows.iter().fold(0, sum)
        };
        let hash = rows(&[["a", "b"], ["c", "d"]]);
        assert_eq!(hash, rows(&[["c", "d"], ["a", "b"]]));
        assert_ne!(hash, rows(&[["a", "b"], ["c", "e"]]));
        assert_ne!(hash, rows(&[["ab", ""], ["c", "d"]]), "where a cell ends");
        assert_ne!(hash, rows(&[["a", "b"]]));
    }
}
