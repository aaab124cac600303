//! Where cells stand in an index.

use super::{CellRef, DecimalRef, decode_raw};

/// About where an encoded cell stands in an index of its column. Rows that are written in this order
/// are close to each other in it; equal numbers say nothing.
pub fn rank(raw: &[u8]) -> u64 {
    const SIGN: u64 = 1 << 63;
    let signed = |v: i64| v.cast_unsigned() ^ SIGN;
    let first = |bytes: &[u8]| {
        let mut first = [0; 8];
        for (to, from) in first.iter_mut().zip(bytes) {
            *to = *from;
        }
        u64::from_be_bytes(first)
    };
    match decode_raw(raw) {
        Some(CellRef::I64(v) | CellRef::Instant(v) | CellRef::Time(v)) => signed(v),
        Some(CellRef::U64(v)) => v,
        Some(CellRef::Date(day) | CellRef::Timestamp(day, _)) => {
            let days = i64::from(day.year) << 16 | i64::from(day.month) << 8 | i64::from(day.day);
            signed(days)
        }
        Some(CellRef::Decimal(DecimalRef::Finite {
            negative,
            scale,
            digits,
        })) => {
            let whole = digits.len().saturating_sub(usize::from(scale));
            let lead = (whole.min(255) as u64) << 55 | first(digits) >> 9;
            if negative {
                !lead & (SIGN - 1)
            } else {
                lead | SIGN
            }
        }
        Some(CellRef::Text(v) | CellRef::Other(v)) => first(v.as_bytes()),
        Some(CellRef::Bytes(v) | CellRef::Bits(_, v)) => first(v),
        Some(CellRef::Uuid(v)) => first(&v),
        _ => 0,
    }
}
