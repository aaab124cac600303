//! What single columns do not take of their type's values, and what is nearest to it.

use super::{ConvertError, WRONG_KIND, refuse};
use crate::schema::Refuses;
use crate::value::{CellRef, Interval, RowBatch, Varying};

const ESCAPE: &str = "\\u0000";
/// `YEAR`: <https://mariadb.com/kb/en/year-data-type/>.
const YEARS: std::ops::RangeInclusive<i64> = 1901..=2155;

/// Whether the column takes the cell.
pub(super) fn check(refuses: Refuses, cell: CellRef<'_>) -> Result<(), ConvertError> {
    let reason = match (refuses, cell) {
        (Refuses::Nul, CellRef::Text(v) | CellRef::Json(v) | CellRef::Other(v))
            if v.as_bytes().contains(&0) =>
        {
            "text with a NUL character has no counterpart in the target column"
        }
        (Refuses::NulEscape, CellRef::Json(v)) if next_escape(v).is_some() => {
            "a document with the escape \\u0000 has no counterpart in the target column"
        }
        (Refuses::SpacesAtEnd, CellRef::Text(v)) if v.ends_with(' ') => {
            "the target column does not keep spaces at the end of a text"
        }
        (Refuses::Shorter(len), CellRef::Bytes(v)) if v.len() < len as usize => {
            "the value is shorter than the target column, which would fill it with zeros"
        }
        (Refuses::NotYear, CellRef::I64(v)) if v != 0 && !YEARS.contains(&v) => {
            "a YEAR is 0 or lies between 1901 and 2155"
        }
        (Refuses::Between(unit), CellRef::Interval(v)) if coarse(v, unit) != v => {
            "the interval is finer than the target column"
        }
        _ => return Ok(()),
    };
    refuse(reason)
}

/// Appends the nearest cell that the column takes to one that it refuses.
pub(super) fn nearest(
    refuses: Refuses,
    cell: CellRef<'_>,
    out: &mut RowBatch,
) -> Result<(), ConvertError> {
    let without = |text: &str, out: &mut RowBatch, kind| {
        out.push_with(kind, |to| {
            to.extend(text.bytes().filter(|byte| *byte != 0));
            Ok(())
        })
    };
    match (refuses, cell) {
        (Refuses::Nul, CellRef::Text(v)) => return without(v, out, Varying::Text),
        (Refuses::Nul, CellRef::Json(v)) => return without(v, out, Varying::Json),
        (Refuses::Nul, CellRef::Other(v)) => return without(v, out, Varying::Other),
        (Refuses::NulEscape, CellRef::Json(mut v)) => {
            return out.push_with(Varying::Json, |to| {
                while let Some((before, after)) = next_escape(v) {
                    to.extend_from_slice(before.as_bytes());
                    v = after;
                }
                to.extend_from_slice(v.as_bytes());
                Ok(())
            });
        }
        (Refuses::SpacesAtEnd, CellRef::Text(v)) => {
            out.push(CellRef::Text(v.trim_end_matches(' ')));
        }
        (Refuses::Shorter(len), CellRef::Bytes(v)) => {
            return out.push_with(Varying::Bytes, |to| {
                let end = to.len() + len as usize;
                to.extend_from_slice(v);
                to.resize(end, 0);
                Ok(())
            });
        }
        (Refuses::NotYear, CellRef::I64(v)) => {
            // Between 0 and 1901 the nearer of the two.
            let year = if v < 951 { 0 } else { v.clamp(1901, 2155) };
            out.push(CellRef::I64(year));
        }
        (Refuses::Between(unit), CellRef::Interval(v)) => {
            out.push(CellRef::Interval(coarse(v, unit)));
        }
        _ => return refuse(WRONG_KIND),
    }
    Ok(())
}

/// The interval as a column keeps it: fractions of a second rounded, half away from zero, all other
/// parts cut (`AdjustIntervalForTypmod` of PostgreSQL).
fn coarse(v: Interval, unit: Interval) -> Interval {
    let infinite = |sign: (i32, i32, i64)| (v.months, v.days, v.micros) == sign;
    if infinite((i32::MAX, i32::MAX, i64::MAX)) || infinite((i32::MIN, i32::MIN, i64::MIN)) {
        return v;
    }
    let half = match unit.micros {
        ..=1_000_000 => unit.micros / 2 * v.micros.signum(),
        _ => 0,
    };
    Interval {
        months: v.months / unit.months * unit.months,
        days: v.days / unit.days * unit.days,
        micros: v.micros.saturating_add(half) / unit.micros * unit.micros,
    }
}

/// What stands before and after the first escape of a NUL: one whose backslash is not itself escaped.
fn next_escape(document: &str) -> Option<(&str, &str)> {
    let mut from = 0;
    while let Some(at) = document.get(from..)?.find(ESCAPE) {
        let at = from + at;
        let before = document.get(..at)?;
        let backslashes = before.bytes().rev().take_while(|b| *b == b'\\').count();
        if backslashes % 2 == 0 {
            return Some((before, document.get(at + ESCAPE.len()..)?));
        }
        from = at + 1;
    }
    None
}
