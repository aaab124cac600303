//! Parts of a table: ranges over one key column whose order we can reproduce exactly.
//!
//! A load cuts a table into such ranges, and a change belongs to the range its key lies in. Both the
//! database (in `WHERE column >= … AND column < …`) and [`compare`] here order the values, so only
//! kinds may be used for which the two orders are the same: integers, dates, timestamps, moments,
//! and octets or UUIDs that the system compares byte by byte. Text is left out on purpose:
//! collations.

mod cut;

use std::cmp::Ordering;

pub use cut::Cutter;

use crate::value::{CellRef, Date, RowBatch, decode_raw};

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

/// Microseconds of a second, and seconds of a day.
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400;

/// A value about half way between two of one column, above `low` and below `high`. Times come in
/// whole seconds, which every column of theirs can hold. `None` if there is none, or for a date that
/// no calendar has.
pub fn midpoint(low: CellRef<'_>, high: CellRef<'_>) -> Option<Bound> {
    let seconds = |date: Date, micros: i64| {
        let days = date.to_unix_days()?;
        Some(days * DAY + micros.div_euclid(SECOND))
    };
    let signed = |low, high| between(low, high, i64::midpoint);
    let middle = match (low, high) {
        (CellRef::I64(low), CellRef::I64(high)) => CellRef::I64(signed(low, high)?),
        (CellRef::U64(low), CellRef::U64(high)) => CellRef::U64(between(low, high, u64::midpoint)?),
        (CellRef::Date(low), CellRef::Date(high)) => {
            let days = signed(low.to_unix_days()?, high.to_unix_days()?)?;
            CellRef::Date(Date::from_unix_days(days)?)
        }
        (CellRef::Timestamp(low, a), CellRef::Timestamp(high, b)) => {
            let at = signed(seconds(low, a)?, seconds(high, b)?)?;
            let date = Date::from_unix_days(at.div_euclid(DAY))?;
            CellRef::Timestamp(date, at.rem_euclid(DAY) * SECOND)
        }
        (CellRef::Instant(low), CellRef::Instant(high)) => {
            if low == i64::MIN || high == i64::MAX {
                return None;
            }
            let at = signed(low.div_euclid(SECOND), high.div_euclid(SECOND))?;
            CellRef::Instant(at * SECOND)
        }
        (CellRef::Uuid(low), CellRef::Uuid(high)) => {
            let middle = between(
                u128::from_be_bytes(low),
                u128::from_be_bytes(high),
                u128::midpoint,
            )?;
            CellRef::Uuid(middle.to_be_bytes())
        }
        (CellRef::Bytes(low), CellRef::Bytes(high)) => {
            // The eight octets after what both begin with, as a number.
            let same = low.iter().zip(high).take_while(|(a, b)| a == b).count();
            let number = |bytes: &[u8]| {
                let mut eight = [0; 8];
                for (to, from) in eight.iter_mut().zip(bytes.iter().skip(same)) {
                    *to = *from;
                }
                u64::from_be_bytes(eight)
            };
            let middle = between(number(low), number(high), u64::midpoint)?.to_be_bytes();
            let mut bytes = low.get(..same)?.to_vec();
            bytes.extend_from_slice(&middle);
            return Some(Bound::new(CellRef::Bytes(&bytes)));
        }
        _ => return None,
    };
    Some(Bound::new(middle))
}

/// The middle of two numbers, above the lower and below the higher one.
fn between<N: Copy + Ord>(low: N, high: N, midpoint: fn(N, N) -> N) -> Option<N> {
    let middle = midpoint(low, high);
    (low < middle && middle < high).then_some(middle)
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

    #[test]
    fn a_midpoint_lies_between() {
        let date = |days| Date::from_unix_days(days).unwrap();
        let dates = [-800_000, -1, 0, 1, 19_000, 5_000_000].map(date);
        let zero = Date {
            year: 0,
            month: 0,
            day: 0,
        };
        let mut columns = vec![
            [i64::MIN, -7, -1, 0, 1, 2, 1 << 40, i64::MAX]
                .map(CellRef::I64)
                .to_vec(),
            [0, 1, 3, u64::MAX - 1, u64::MAX].map(CellRef::U64).to_vec(),
            dates.map(CellRef::Date).to_vec(),
            [0, 1, 2, 255, u128::MAX]
                .map(|n: u128| CellRef::Uuid(n.to_be_bytes()))
                .to_vec(),
            [-5_000_000, 0, 1, 999_999, 1_000_000, 1 << 50]
                .map(CellRef::Instant)
                .to_vec(),
        ];
        let octets: [&[u8]; 7] = [b"", b"\0", b"\0\x01", b"a", b"ab", b"abcdefghi", b"b"];
        columns.push(octets.map(CellRef::Bytes).to_vec());
        columns.push(
            dates
                .iter()
                .flat_map(|date| [0, 1, 86_399_999_999].map(|us| CellRef::Timestamp(*date, us)))
                .collect(),
        );
        let mut found = 0;
        for column in columns {
            for (at, low) in column.iter().enumerate() {
                assert_eq!(midpoint(*low, *low), None);
                for high in column.iter().skip(at + 1) {
                    assert_eq!(midpoint(*high, *low), None, "{high:?} {low:?}");
                    let Some(middle) = midpoint(*low, *high) else {
                        continue;
                    };
                    found += 1;
                    assert_eq!(
                        compare(*low, middle.cell()),
                        Some(Ordering::Less),
                        "{low:?}"
                    );
                    assert_eq!(
                        compare(middle.cell(), *high),
                        Some(Ordering::Less),
                        "{high:?}"
                    );
                }
            }
        }
        assert!(found > 100, "{found}");
        for pair in [
            (CellRef::I64(1), CellRef::I64(2)),
            (CellRef::I64(-1), CellRef::I64(0)),
            (CellRef::Date(zero), CellRef::Date(date(0))),
            (CellRef::Date(date(0)), CellRef::Date(Date::INFINITY)),
            (CellRef::Instant(0), CellRef::Instant(i64::MAX)),
            (CellRef::Text("a"), CellRef::Text("c")),
        ] {
            assert_eq!(midpoint(pair.0, pair.1), None, "{pair:?}");
        }
    }
}
