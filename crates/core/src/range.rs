//! Parts of a table: ranges over one key column whose order we can reproduce exactly.
//!
//! A load cuts a table into such ranges, and a change belongs to the range its key lies in. Both the
//! database (in `WHERE column >= … AND column < …`) and [`compare`] here order the values, so only
//! kinds may be used for which the two orders are the same: integers, dates, timestamps, moments,
//! and octets or UUIDs that the system compares byte by byte. Text is left out on purpose:
//! collations.

use std::cmp::Ordering;

use crate::value::{CellRef, RowBatch, decode_raw};

/// One encoded cell, owned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bound(Box<[u8]>);

impl Bound {
    /// Encodes a cell.
    pub fn new(cell: CellRef<'_>) -> Self {
        let mut rows = RowBatch::new();
        rows.push(cell);
        rows.end_row();
        let raw = rows.row(0).raw_cells().next().unwrap_or_default();
        Bound(raw.into())
    }

    /// The cell.
    pub fn cell(&self) -> CellRef<'_> {
        decode_raw(&self.0).unwrap_or(CellRef::Absent)
    }

    /// The encoded bytes, for storing; [`Bound::from_raw`] reads them back.
    pub fn raw(&self) -> &[u8] {
        &self.0
    }

    /// What [`Bound::raw`] gave; `None` if it is no cell that has an order.
    pub fn from_raw(raw: &[u8]) -> Option<Self> {
        let cell = decode_raw(raw)?;
        compare(cell, cell)?;
        Some(Bound(raw.into()))
    }
}

/// A half-open range `from <= column < to` of a table; no bound: without end on that side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRange {
    /// Index of the column in the source table's schema: the first of its primary key.
    pub column: usize,
    /// Smallest value in it.
    pub from: Option<Bound>,
    /// Smallest value after it.
    pub to: Option<Bound>,
}

impl KeyRange {
    /// Whether a value lies in it; `None` if the value has no order.
    pub fn contains(&self, cell: CellRef<'_>) -> Option<bool> {
        let not_below = match &self.from {
            Some(from) => compare(from.cell(), cell)? != Ordering::Greater,
            None => true,
        };
        let below = match &self.to {
            Some(to) => compare(cell, to.cell())? == Ordering::Less,
            None => true,
        };
        compare(cell, cell)?;
        Some(not_below && below)
    }
}

/// The order of two cells of one column; `None` for kinds without an order we can vouch for.
pub fn compare(a: CellRef<'_>, b: CellRef<'_>) -> Option<Ordering> {
    Some(match (a, b) {
        (CellRef::I64(a), CellRef::I64(b)) => a.cmp(&b),
        (CellRef::U64(a), CellRef::U64(b)) => a.cmp(&b),
        (CellRef::Date(a), CellRef::Date(b)) => a.cmp(&b),
        (CellRef::Timestamp(a, x), CellRef::Timestamp(b, y)) => (a, x).cmp(&(b, y)),
        (CellRef::Instant(a), CellRef::Instant(b)) => a.cmp(&b),
        (CellRef::Uuid(a), CellRef::Uuid(b)) => a.cmp(&b),
        (CellRef::Bytes(a), CellRef::Bytes(b)) => a.cmp(b),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_half_open() {
        let range = |from: Option<i64>, to: Option<i64>| KeyRange {
            column: 0,
            from: from.map(|v| Bound::new(CellRef::I64(v))),
            to: to.map(|v| Bound::new(CellRef::I64(v))),
        };
        for (range, value, expected) in [
            (range(None, None), i64::MIN, true),
            (range(Some(1), None), 0, false),
            (range(Some(1), None), 1, true),
            (range(None, Some(5)), 4, true),
            (range(None, Some(5)), 5, false),
            (range(Some(1), Some(5)), -7, false),
        ] {
            assert_eq!(
                range.contains(CellRef::I64(value)),
                Some(expected),
                "{range:?} {value}"
            );
        }
        assert_eq!(range(None, None).contains(CellRef::Text("a")), None);
        assert_eq!(range(Some(1), None).contains(CellRef::U64(1)), None);
    }

    #[test]
    fn bounds_are_stored_as_they_are() {
        let bound = Bound::new(CellRef::Bytes(&[0, 255]));
        assert_eq!(Bound::from_raw(bound.raw()), Some(bound.clone()));
        assert_eq!(bound.cell(), CellRef::Bytes(&[0, 255]));
        assert_eq!(Bound::from_raw(&[]), None);
        assert_eq!(Bound::from_raw(Bound::new(CellRef::Null).raw()), None);
    }
}
