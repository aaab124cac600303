//! Changes that a target refuses, and those of the same row that wait behind them.
//!
//! A change in quarantine is kept as the source sent it, so that it can be converted anew when it is
//! released: the target may have another column type by then, or the task another option. It lies at
//! the target beside the checkpoint, and is written in the transaction that moves the position past it.

use crate::change::{Change, ChangeBatch, ChangeKind};
use crate::plan::Fate;
use crate::schema::{TableName, TableSchema};
use crate::value::{RowBatch, split_raw};

/// A change in quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its place among those of the task: the later change has the larger number.
    pub number: i64,
    /// The target table it is for.
    pub target: TableName,
    /// The source table it is of.
    pub source: TableName,
    /// The key of the target row that it touches, as encoded cells of the plan's key.
    pub key: Vec<u8>,
    /// The key that it gives this row, if that is another one.
    pub moved: Option<Vec<u8>>,
    /// The columns of `key` with their values, as text.
    pub shown: String,
    /// What the source did.
    pub kind: ChangeKind,
    /// Why the target refused it; `None`: it waits behind another change of its row.
    pub error: Option<String>,
    /// The place in the source's log behind which it lies, or of the load that met it.
    pub place: String,
    /// When it was put here, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The change itself ([`encode`]); empty where it was not asked for.
    pub change: Vec<u8>,
}

/// The form of what [`encode`] gives.
const FORM: u8 = 1;

/// A change of a table with its images, and what becomes of it at its target.
pub fn encode(table: &TableSchema, change: &Change, images: &RowBatch, fate: Fate) -> Vec<u8> {
    let mut out = vec![FORM, kind_byte(change.kind), fate_byte(fate)];
    out.push(u8::from(change.unchecked));
    put_len(&mut out, table.columns.len());
    for column in &table.columns {
        put(&mut out, column.name.as_bytes());
    }
    for image in [change.before, change.after] {
        out.push(u8::from(image.is_some()));
        if let Some(row) = image {
            for cell in images.row(row).raw_cells() {
                put(&mut out, cell);
            }
        }
    }
    out
}

/// The change that [`encode`] made these bytes of, appended to `into` as one of the source table of
/// index `table` and this schema, and what becomes of it. Columns are found by their names; one that the
/// table did not have then is `Absent`. `None`: the bytes are not from here, or from a later version.
pub fn decode(
    bytes: &[u8],
    table: usize,
    schema: &TableSchema,
    into: &mut ChangeBatch,
) -> Option<Fate> {
    let mut rest = bytes;
    let [form, kind, fate, unchecked] = take(&mut rest, 4)?.try_into().ok()?;
    if form != FORM {
        return None;
    }
    let width = take_len(&mut rest)?;
    let mut names = Vec::new();
    for _ in 0..width {
        names.push(take_bytes(&mut rest)?);
    }
    let place = |name: &str| names.iter().position(|known| *known == name.as_bytes());
    let places: Vec<_> = schema.columns.iter().map(|c| place(&c.name)).collect();
    let mut image = || -> Option<Option<usize>> {
        if take(&mut rest, 1)? == [0] {
            return Some(None);
        }
        let mut cells = Vec::new();
        for _ in 0..width {
            let cell = take_bytes(&mut rest)?;
            // One cell, and nothing behind it.
            (split_raw(cell)?.len() == cell.len()).then_some(())?;
            cells.push(cell);
        }
        for place in &places {
            match place.and_then(|place| cells.get(place)) {
                Some(cell) => into.rows.push_raw(cell),
                None => into.rows.push(crate::value::CellRef::Absent),
            }
        }
        Some(Some(into.rows.end_row()))
    };
    let (before, after) = (image()?, image()?);
    let kind = kind_of(kind)?;
    let whole = match kind {
        ChangeKind::Insert => after.is_some(),
        ChangeKind::Update => before.is_some() && after.is_some(),
        ChangeKind::Delete => before.is_some(),
        ChangeKind::Truncate => false,
    };
    (whole && rest.is_empty()).then_some(())?;
    into.changes.push(Change {
        table,
        kind,
        before,
        after,
        unchecked: unchecked != 0,
    });
    fate_of(fate)
}

/// The word for what the source did, as it is stored and shown.
pub fn kind_word(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Insert => "insert",
        ChangeKind::Update => "update",
        ChangeKind::Delete => "delete",
        ChangeKind::Truncate => "truncate",
    }
}

/// What a word of [`kind_word`] means.
pub fn kind_named(word: &str) -> Option<ChangeKind> {
    let all = [
        ChangeKind::Insert,
        ChangeKind::Update,
        ChangeKind::Delete,
        ChangeKind::Truncate,
    ];
    all.into_iter().find(|kind| kind_word(*kind) == word)
}

fn kind_byte(kind: ChangeKind) -> u8 {
    match kind {
        ChangeKind::Insert => 0,
        ChangeKind::Update => 1,
        ChangeKind::Delete => 2,
        ChangeKind::Truncate => 3,
    }
}

fn kind_of(byte: u8) -> Option<ChangeKind> {
    Some(match byte {
        0 => ChangeKind::Insert,
        1 => ChangeKind::Update,
        2 => ChangeKind::Delete,
        _ => return None,
    })
}

fn fate_byte(fate: Fate) -> u8 {
    match fate {
        Fate::Apply => 0,
        Fate::Drop => 1,
        Fate::Old => 2,
        Fate::New => 3,
        Fate::Again => 4,
    }
}

fn fate_of(byte: u8) -> Option<Fate> {
    Some(match byte {
        0 => Fate::Apply,
        2 => Fate::Old,
        3 => Fate::New,
        _ => return None,
    })
}

fn put_len(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("a row is bounded long before");
    out.extend_from_slice(&length.to_le_bytes());
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

fn take_len(rest: &mut &[u8]) -> Option<usize> {
    let bytes = take(rest, 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(bytes)).ok()
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_len(rest)?;
    take(rest, length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{ColumnSchema, ColumnType};
    use crate::value::CellRef;

    fn table(names: &[&str]) -> TableSchema {
        let columns = names.iter().map(|name| {
            let ty = ColumnType::Int {
                bits: 64,
                unsigned: false,
            };
            ColumnSchema::new(*name, ty, "bigint")
        });
        TableSchema::new(TableName::new("s", "t"), columns.collect())
    }

    fn an_update() -> ChangeBatch {
        let mut batch = ChangeBatch::default();
        let mut row = |cells: &[CellRef<'_>]| {
            cells.iter().for_each(|cell| batch.rows.push(*cell));
            batch.rows.end_row()
        };
        let before = row(&[CellRef::I64(1), CellRef::Absent]);
        let after = row(&[CellRef::I64(2), CellRef::Text("x")]);
        batch.changes.push(Change {
            table: 7,
            kind: ChangeKind::Update,
            before: Some(before),
            after: Some(after),
            unchecked: true,
        });
        batch
    }

    #[test]
    fn a_change_comes_back_with_columns_by_their_names() {
        let batch = an_update();
        let [change] = batch.changes.as_slice() else {
            panic!("one change")
        };
        let bytes = encode(&table(&["a", "b"]), change, &batch.rows, Fate::New);
        let mut back = ChangeBatch::default();
        let fate = decode(&bytes, 3, &table(&["b", "c", "a"]), &mut back);
        assert_eq!(fate, Some(Fate::New));
        let read = back.changes[0];
        assert_eq!(
            (read.table, read.kind, read.unchecked),
            (3, ChangeKind::Update, true)
        );
        let cells = |row: Option<usize>| back.rows.row(row.unwrap()).cells().collect::<Vec<_>>();
        let absent = CellRef::Absent;
        assert_eq!(cells(read.before), [absent, absent, CellRef::I64(1)]);
        assert_eq!(
            cells(read.after),
            [CellRef::Text("x"), absent, CellRef::I64(2)]
        );
    }

    #[test]
    fn bytes_of_somebody_else_are_no_change() {
        let batch = an_update();
        let schema = table(&["a", "b"]);
        let bytes = encode(&schema, &batch.changes[0], &batch.rows, Fate::Apply);
        let reads = |bytes: &[u8]| decode(bytes, 0, &schema, &mut ChangeBatch::default()).is_some();
        assert!(reads(&bytes));
        for length in 0..bytes.len() {
            assert!(!reads(&bytes[..length]), "{length}");
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 9, 255] {
                let mut other = bytes.clone();
                other[at] = value;
                // Whatever it says, it neither panics nor takes memory that is not there.
                reads(&other);
            }
        }
        assert!(!reads(&[bytes.as_slice(), &[0]].concat()));
    }

    #[test]
    fn words_of_operations_are_read_again() {
        for word in ["insert", "update", "delete", "truncate"] {
            assert_eq!(kind_named(word).map(kind_word), Some(word));
        }
        assert_eq!(kind_named("merge"), None);
    }
}
