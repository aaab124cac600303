//! Cells as SQL writes them, exactly: for the bounds of ranges.

use thalweg_core::value::{CellRef, Date};

use crate::wire::cells::DAY_MICROS;

/// A literal with its type; `None` for kinds that have no order we vouch for
/// (see [`thalweg_core::range`]).
pub(crate) fn of(cell: CellRef<'_>) -> Option<String> {
    Some(match cell {
        CellRef::I64(v) => format!("'{v}'::bigint"),
        CellRef::Date(date) => match infinity(date) {
            Some(word) => format!("'{word}'::date"),
            None => {
                let (day, era) = day(date);
                format!("'{day}{era}'::date")
            }
        },
        CellRef::Timestamp(date, micros) => match infinity(date) {
            Some(word) => format!("'{word}'::timestamp"),
            None => {
                let (day, era) = day(date);
                format!("'{day} {}{era}'::timestamp", clock(micros))
            }
        },
        CellRef::Instant(i64::MAX) => "'infinity'::timestamptz".to_owned(),
        CellRef::Instant(i64::MIN) => "'-infinity'::timestamptz".to_owned(),
        CellRef::Instant(v) => {
            let (day, era) = day(Date::from_unix_days(v.div_euclid(DAY_MICROS))?);
            let clock = clock(v.rem_euclid(DAY_MICROS));
            format!("'{day} {clock}+00{era}'::timestamptz")
        }
        CellRef::Uuid(v) => format!("'{}'::uuid", hex(&v)),
        CellRef::Bytes(v) => format!("'\\x{}'::bytea", hex(v)),
        _ => return None,
    })
}

/// A constant as a column's default writes it, to be followed by the column's type; `None` for kinds that are
/// not built.
pub(crate) fn constant(cell: CellRef<'_>) -> Option<String> {
    let text = match cell {
        CellRef::Null => return Some("NULL".to_owned()),
        CellRef::Bool(v) => v.to_string(),
        CellRef::I64(v) => v.to_string(),
        CellRef::U64(v) => v.to_string(),
        CellRef::F32(v) if v.is_finite() => v.to_string(),
        CellRef::F64(v) if v.is_finite() => v.to_string(),
        CellRef::Decimal(v) => v.to_string(),
        CellRef::Text(v) | CellRef::Json(v) | CellRef::Other(v) => v.to_owned(),
        CellRef::Time(v @ 0..) => clock(v),
        CellRef::Bytes(_)
        | CellRef::Date(_)
        | CellRef::Timestamp(..)
        | CellRef::Instant(_)
        | CellRef::Uuid(_) => return of(cell),
        _ => return None,
    };
    (!text.contains('\0')).then(|| {
        let text = text.replace('\\', "\\\\").replace('\'', "''");
        format!("E'{text}'")
    })
}

fn infinity(date: Date) -> Option<&'static str> {
    match date {
        Date::INFINITY => Some("infinity"),
        Date::NEG_INFINITY => Some("-infinity"),
        _ => None,
    }
}

/// A day and its era.
fn day(date: Date) -> (String, &'static str) {
    let (year, era) = match date.year {
        year @ 1.. => (year, ""),
        year => (1 - year, " BC"),
    };
    (format!("{year:04}-{:02}-{:02}", date.month, date.day), era)
}

fn clock(micros: i64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{fraction:06}", seconds % 60)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_written_exactly() {
        let date = |year, month, day| Date { year, month, day };
        for (cell, expected) in [
            (CellRef::I64(i64::MIN), "'-9223372036854775808'::bigint"),
            (CellRef::Date(date(-43, 3, 15)), "'0044-03-15 BC'::date"),
            (CellRef::Date(Date::INFINITY), "'infinity'::date"),
            (
                CellRef::Timestamp(date(12_024, 2, 29), 3_723_000_001),
                "'12024-02-29 01:02:03.000001'::timestamp",
            ),
            (
                CellRef::Instant(-1),
                "'1969-12-31 23:59:59.999999+00'::timestamptz",
            ),
            (CellRef::Bytes(&[0, 255]), "'\\x00ff'::bytea"),
        ] {
            assert_eq!(of(cell).as_deref(), Some(expected));
        }
        assert_eq!(of(CellRef::Text("a")), None);
    }

    #[test]
    fn constants_of_most_kinds_are_written() {
        for (cell, expected) in [
            (CellRef::Null, Some("NULL")),
            (CellRef::Bool(true), Some("E'true'")),
            (CellRef::I64(-7), Some("E'-7'")),
            (CellRef::Text("it's \\n"), Some("E'it''s \\\\n'")),
            (CellRef::Text("\0"), None),
            (CellRef::Time(3_723_000_001), Some("E'01:02:03.000001'")),
            (
                CellRef::Uuid([1; 16]),
                Some("'01010101010101010101010101010101'::uuid"),
            ),
            (CellRef::F64(f64::NAN), None),
        ] {
            assert_eq!(constant(cell).as_deref(), expected);
        }
    }
}
