//! Passing over a value that nobody asked for: only its length matters.

use super::map::Physical;
use super::{Buf, Malformed, numbers};

/// Passes over the bytes of one value that is not NULL.
pub(super) fn skip(d: &mut Buf<'_>, physical: Physical) -> Result<(), Malformed> {
    let bytes = match physical {
        Physical::Int(n) | Physical::Bit(n) | Physical::Enum(n) | Physical::Set(n) => n,
        Physical::Float => 4,
        Physical::Double => 8,
        Physical::Year => 1,
        Physical::Date => 3,
        Physical::Time2(fsp) => 3 + fsp.div_ceil(2),
        Physical::Datetime2(fsp) => 5 + fsp.div_ceil(2),
        Physical::Timestamp2(fsp) => 4 + fsp.div_ceil(2),
        Physical::Decimal(precision, scale) => {
            return numbers::digits(d, precision, scale).map(drop);
        }
        Physical::OldTime(fsp) => return numbers::old_time(d, fsp).map(drop),
        Physical::OldDatetime(fsp) => return numbers::old_datetime(d, fsp).map(drop),
        Physical::OldTimestamp(fsp) => return numbers::old_timestamp(d, fsp).map(drop),
        Physical::Str(n)
        | Physical::Json(n)
        | Physical::Array(n)
        | Physical::Vector(n)
        | Physical::Compressed(n) => return d.prefixed(usize::from(n)).map(drop),
    };
    d.take(usize::from(bytes)).map(drop)
}
