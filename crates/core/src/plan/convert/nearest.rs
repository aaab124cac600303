//! The nearest value a target column takes, for a value that its converter refused.
//!
//! | refused | nearest |
//! | --- | --- |
//! | number beyond the range | the end of the range |
//! | digits after the point, fraction of a second, digits of a float | rounded, half away from zero |
//! | NaN, infinity | nothing |
//! | day with a zero part | that part is 1; `0000-00-00`: nothing |
//! | day past its month's end | the month's last day |
//! | date, moment or time beyond the range | the end of the range |
//! | time of day in a date | the day |
//! | octets that are no text | U+FFFD for what is none |
//! | what single columns refuse | see [`super::refuses`] |
//! | label, UUID, geometry, interval with days | nothing |
//! | text, octets, bits that are too long | refused |
//!
//! It is the same for the same value always, so that loaded rows and changes agree.

use super::{ConvertError, Converter, Form, WRONG_KIND, number, refuse, refuses, text, time};
use crate::value::{CellRef, RowBatch, decode_raw};

impl Converter {
    /// Appends the nearest cell to one that [`Converter::convert`] refused, and says whether there is
    /// one. After an error, or if there is none, nothing has been appended.
    pub(crate) fn nearest(&self, raw: &[u8], out: &mut RowBatch) -> Result<bool, ConvertError> {
        let Some(cell) = decode_raw(raw) else {
            return refuse("the cell is not readable");
        };
        let near = match *self {
            Converter::Without(refuses, ref inner) => {
                return without(refuses, inner, raw, out);
            }
            Converter::Int { min, max, unsigned } => number::near_int(cell, min, max, unsigned)?,
            Converter::Bool => number::near_int(cell, 0, 1, true)?
                .map(|near| CellRef::Bool(near == CellRef::U64(1))),
            Converter::Float { single, special } => number::near_float(cell, single, special)?,
            Converter::Decimal {
                precision,
                scale,
                special,
            } => return number::near_decimal(cell, precision, scale, special, out),
            Converter::Text {
                max_chars,
                form: Form::Plain | Form::Lenient,
            } => return text::near(cell, max_chars, out),
            Converter::Date(calendar) => {
                time::near_civil(cell, calendar, 6)?.map(|(date, _)| CellRef::Date(date))
            }
            Converter::Timestamp {
                calendar,
                precision,
            } => time::near_civil(cell, calendar, precision)?
                .map(|(date, micros)| CellRef::Timestamp(date, micros)),
            Converter::Instant {
                calendar,
                precision,
            } => time::near_instant(cell, calendar, precision)?,
            Converter::Time { of_day, precision } => time::near_time(cell, of_day, precision)?,
            Converter::Labels { .. }
            | Converter::Uuid
            | Converter::Interval
            | Converter::Geometry => None,
            // Too long, or not of the kind at all.
            _ => return self.convert(raw, out).map(|()| true),
        };
        if let Some(near) = near {
            out.push(near);
        }
        Ok(near.is_some())
    }
}

/// The nearest cell that is also none that the column refuses.
fn without(
    refused: crate::schema::Refuses,
    inner: &Converter,
    raw: &[u8],
    out: &mut RowBatch,
) -> Result<bool, ConvertError> {
    let mut made = RowBatch::new();
    if inner.convert(raw, &mut made).is_err() && !inner.nearest(raw, &mut made)? {
        return Ok(false);
    }
    made.end_row();
    let Some(cell) = made.row(0).cell(0) else {
        return refuse(WRONG_KIND);
    };
    match refuses::check(refused, cell) {
        Ok(()) => out.push(cell),
        Err(_) => refuses::nearest(refused, cell, out)?,
    }
    Ok(true)
}
