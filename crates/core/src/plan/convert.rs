//! Converters: chosen once per mapped column from source type × target type.
//!
//! A converter never changes a value silently. It either carries it over as it is, perhaps in
//! another kind of cell, or refuses it with a reason that does not show the value.

use crate::schema::ColumnType;
use crate::value::{CellRef, Date, DecimalRef, Interval, RowBatch, decode_raw};

/// How a conversion treats values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Every value arrives as it is.
    Exact,
    /// Every value arrives as it is in a type that could hold more.
    Widening,
    /// A value that does not fit stops the task; one that fits arrives as it is.
    Narrowing,
    /// There is no conversion; the plan is refused.
    Impossible,
}

/// A value a converter cannot carry. Never shows the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvertError {
    /// The fact, such as "the number does not fit".
    pub reason: &'static str,
}

const fn refuse<T>(reason: &'static str) -> Result<T, ConvertError> {
    Err(ConvertError { reason })
}

/// What happens to the cells of one mapped column. NULL, `Unchanged` and `Absent` always pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Converter {
    /// Bytes are copied.
    Copy,
    /// An integer to a signed or unsigned integer within these bounds.
    Int {
        /// Smallest value that fits.
        min: i64,
        /// Largest value that fits.
        max: u64,
        /// Whether the target's cells are `U64`.
        unsigned: bool,
    },
    /// An integer to a decimal of scale 0 with at most so many digits.
    IntToDecimal {
        /// Digits before the point that fit.
        whole: u32,
    },
    /// An integer 0 or 1 to a truth value.
    IntToBool,
    /// An integer to its text.
    IntToText,
    /// A truth value to 0 or 1.
    BoolToInt,
    /// Single to double precision.
    F32ToF64,
    /// A decimal that must not lose digits.
    Decimal {
        /// Digits before the point that fit.
        whole: u32,
        /// Digits after the point that fit.
        scale: u32,
    },
    /// Text limited in characters.
    Text {
        /// Limit.
        max_chars: u32,
    },
    /// Bytes limited in length.
    Bytes {
        /// Limit.
        max_bytes: u32,
    },
    /// Text kept as the JSON text of a JSON column; the target checks it.
    TextToJson,
    /// JSON text to text.
    JsonToText,
    /// A real civil date.
    Date,
    /// A date to midnight of it.
    DateToTimestamp,
    /// A real civil date and time.
    Timestamp,
    /// A moment.
    Instant,
    /// A time of day: not negative, at most 24 hours.
    TimeOfDay,
    /// A duration to an interval of microseconds.
    TimeToInterval,
    /// A single bit to a truth value.
    BitToBool,
    /// The text form of a foreign type.
    OtherToText,
    /// Text to a type given by its text form; the target checks it.
    TextToOther,
    /// A UUID to its canonical text.
    UuidToText,
}

impl Converter {
    /// The converter between two column types, and how it treats values.
    pub fn choose(source: &ColumnType, target: &ColumnType) -> (Converter, Verdict) {
        use ColumnType as T;
        use Verdict::{Exact, Impossible, Narrowing, Widening};
        match (source, target) {
            (
                T::Int {
                    bits: s,
                    unsigned: su,
                },
                T::Int {
                    bits: t,
                    unsigned: tu,
                },
            ) => choose_int((*s, *su), (*t, *tu)),
            (
                T::Int { bits, unsigned },
                T::Decimal {
                    precision, scale, ..
                },
            ) => {
                let whole = whole_digits(*precision, *scale);
                let verdict = if whole >= int_digits(*bits, *unsigned) {
                    Widening
                } else {
                    Narrowing
                };
                (Converter::IntToDecimal { whole }, verdict)
            }
            (T::Int { .. }, T::Bool) => (Converter::IntToBool, Narrowing),
            (T::Int { .. }, T::Text { max_chars }) if max_chars.is_none_or(|m| m >= 20) => {
                (Converter::IntToText, Widening)
            }
            (T::Bool, T::Int { .. }) => (Converter::BoolToInt, Widening),
            (T::Float32 { special: s }, T::Float64 { special: t }) => (
                Converter::F32ToF64,
                if *s && !*t { Narrowing } else { Widening },
            ),
            (T::Float32 { special: s }, T::Float32 { special: t })
            | (T::Float64 { special: s }, T::Float64 { special: t }) => (
                Converter::Copy,
                match (*s, *t) {
                    (true, false) => Narrowing,
                    (false, true) => Widening,
                    _ => Exact,
                },
            ),
            (
                T::Decimal {
                    precision: sp,
                    scale: ss,
                    ..
                },
                T::Decimal {
                    precision: tp,
                    scale: ts,
                    ..
                },
            ) => choose_decimal((*sp, *ss), (*tp, *ts)),
            (T::Text { max_chars: s }, T::Text { max_chars: t }) => choose_text(*s, *t),
            (T::Enum { labels } | T::Set { labels }, T::Text { max_chars }) => {
                let longest = if matches!(source, T::Set { .. }) {
                    labels.iter().map(|l| l.chars().count() + 1).sum::<usize>()
                } else {
                    labels.iter().map(|l| l.chars().count()).max().unwrap_or(0)
                };
                choose_text(u32::try_from(longest).ok(), *max_chars)
            }
            (T::Text { .. }, T::Enum { .. }) => (Converter::Copy, Narrowing),
            (T::Enum { labels: s }, T::Enum { labels: t }) => {
                let all = s.iter().all(|label| t.contains(label));
                (Converter::Copy, if all { Exact } else { Narrowing })
            }
            (T::Bytes { max_bytes: s }, T::Bytes { max_bytes: t }) => match (s, t) {
                (s, None) => (Converter::Copy, if s.is_some() { Widening } else { Exact }),
                (Some(s), Some(t)) if s <= t => (Converter::Copy, Widening),
                (_, Some(t)) => (Converter::Bytes { max_bytes: *t }, Narrowing),
            },
            (T::Text { .. }, T::Json { .. }) => (Converter::TextToJson, Narrowing),
            (T::Json { .. }, T::Text { max_chars: None }) => (Converter::JsonToText, Widening),
            (s, t) if s == t => (Converter::Copy, Exact),
            (T::Date { .. }, T::Date { .. }) => (Converter::Date, Narrowing),
            (T::Date { .. }, T::Timestamp { .. }) => (Converter::DateToTimestamp, Narrowing),
            (
                T::Timestamp {
                    precision: s,
                    calendar: sc,
                },
                T::Timestamp {
                    precision: t,
                    calendar: tc,
                },
            ) if s <= t => {
                if sc == tc {
                    (Converter::Copy, Widening)
                } else {
                    (Converter::Timestamp, Narrowing)
                }
            }
            (T::Instant { precision: s, .. }, T::Instant { precision: t, .. }) if s <= t => {
                (Converter::Instant, Narrowing)
            }
            (
                T::Time { precision: s, .. },
                T::Time {
                    precision: t,
                    of_day: true,
                },
            ) if s <= t => (Converter::TimeOfDay, Narrowing),
            (
                T::Time { precision: s, .. },
                T::Time {
                    precision: t,
                    of_day: false,
                },
            ) if s <= t => (Converter::Copy, Widening),
            (T::Time { .. }, T::Interval) => (Converter::TimeToInterval, Widening),
            (
                T::Bits {
                    len: Some(1),
                    varying: false,
                },
                T::Bool,
            ) => (Converter::BitToBool, Exact),
            (
                T::Bits { len: s, .. },
                T::Bits {
                    len: t,
                    varying: true,
                },
            ) if t.is_none() || s.is_some() && s <= t => (Converter::Copy, Widening),
            (T::Other { .. }, T::Other { .. }) => (Converter::Copy, Narrowing),
            (T::Other { .. }, T::Text { max_chars: None }) => (Converter::OtherToText, Exact),
            (T::Text { .. } | T::Enum { .. }, T::Other { .. }) => {
                (Converter::TextToOther, Narrowing)
            }
            (T::Uuid, T::Text { max_chars }) if max_chars.is_none_or(|m| m >= 36) => {
                (Converter::UuidToText, Widening)
            }
            (s, t) if s == t => (Converter::Copy, Exact),
            _ => (Converter::Copy, Impossible),
        }
    }

    /// Appends the converted cell to `out`. `raw` is one encoded cell of a row. After an error
    /// nothing of the cell has been appended.
    pub fn convert(&self, raw: &[u8], out: &mut RowBatch) -> Result<(), ConvertError> {
        if *self == Converter::Copy {
            out.push_raw(raw);
            return Ok(());
        }
        let Some(cell) = decode_raw(raw) else {
            return refuse("the cell is not readable");
        };
        if let CellRef::Null | CellRef::Unchanged | CellRef::Absent = cell {
            out.push_raw(raw);
            return Ok(());
        }
        match (*self, cell) {
            (Converter::Int { min, max, unsigned }, cell) => int(cell, min, max, unsigned, out),
            (Converter::IntToDecimal { whole }, cell) => int_to_decimal(cell, whole, out),
            (Converter::IntToBool, CellRef::I64(v @ (0 | 1))) => put(out, CellRef::Bool(v == 1)),
            (Converter::IntToBool, CellRef::U64(v @ (0 | 1))) => put(out, CellRef::Bool(v == 1)),
            (Converter::IntToBool, _) => refuse("the number is neither 0 nor 1"),
            (Converter::IntToText, CellRef::I64(v)) => text(out, format_args!("{v}")),
            (Converter::IntToText, CellRef::U64(v)) => text(out, format_args!("{v}")),
            (Converter::BoolToInt, CellRef::Bool(v)) => put(out, CellRef::I64(i64::from(v))),
            (Converter::F32ToF64, CellRef::F32(v)) => put(out, CellRef::F64(f64::from(v))),
            (Converter::Decimal { whole, scale }, CellRef::Decimal(v)) => {
                if !decimal_fits(v, whole, scale) {
                    return refuse("the number has more digits than the target column");
                }
                put(out, CellRef::Decimal(v))
            }
            (Converter::Text { max_chars }, CellRef::Text(v)) => {
                // Bytes bound characters from above, so counting is needed for long values only.
                let max = max_chars as usize;
                if v.len() > max && v.chars().count() > max {
                    return refuse("the text is longer than the target column");
                }
                out.push_raw(raw);
                Ok(())
            }
            (Converter::Bytes { max_bytes }, CellRef::Bytes(v)) => {
                if v.len() > max_bytes as usize {
                    return refuse("the value is longer than the target column");
                }
                out.push_raw(raw);
                Ok(())
            }
            (Converter::TextToJson, CellRef::Text(v)) => put(out, CellRef::Json(v)),
            (Converter::JsonToText, CellRef::Json(v)) => put(out, CellRef::Text(v)),
            (Converter::Date, CellRef::Date(v)) => {
                real_date(v)?;
                put(out, CellRef::Date(v))
            }
            (Converter::DateToTimestamp, CellRef::Date(v)) => {
                real_date(v)?;
                put(out, CellRef::Timestamp(v, 0))
            }
            (Converter::Timestamp, CellRef::Timestamp(date, micros)) => {
                real_date(date)?;
                put(out, CellRef::Timestamp(date, micros))
            }
            (Converter::Instant, CellRef::Instant(v)) => put(out, CellRef::Instant(v)),
            (Converter::Instant, CellRef::Timestamp(..)) => {
                refuse("the zero date has no counterpart in the target")
            }
            (Converter::TimeOfDay, CellRef::Time(v)) => {
                if !(0..=86_400_000_000).contains(&v) {
                    return refuse("the time is negative or above 24 hours");
                }
                put(out, CellRef::Time(v))
            }
            (Converter::TimeToInterval, CellRef::Time(micros)) => put(
                out,
                CellRef::Interval(Interval {
                    months: 0,
                    days: 0,
                    micros,
                }),
            ),
            (Converter::BitToBool, CellRef::Bits(_, bits)) => put(
                out,
                CellRef::Bool(bits.first().is_some_and(|b| b & 0x80 != 0)),
            ),
            (Converter::OtherToText, CellRef::Other(v)) => put(out, CellRef::Text(v)),
            (Converter::TextToOther, CellRef::Text(v)) => put(out, CellRef::Other(v)),
            (Converter::UuidToText, CellRef::Uuid(v)) => {
                let [a, b, c, d, e] = [(0, 4), (4, 2), (6, 2), (8, 2), (10, 6)].map(|(at, len)| {
                    v.iter()
                        .skip(at)
                        .take(len)
                        .fold(0u64, |n, byte| n << 8 | u64::from(*byte))
                });
                text(
                    out,
                    format_args!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}"),
                )
            }
            _ => refuse("the value is not of the column's type"),
        }
    }
}

fn put(out: &mut RowBatch, cell: CellRef<'_>) -> Result<(), ConvertError> {
    out.push(cell);
    Ok(())
}

fn text(out: &mut RowBatch, args: std::fmt::Arguments<'_>) -> Result<(), ConvertError> {
    use std::io::Write;
    out.push_text_with(|bytes| bytes.write_fmt(args))
        .or_else(|_| refuse("the value cannot be written as text"))
}

fn choose_int(source: (u8, bool), target: (u8, bool)) -> (Converter, Verdict) {
    if source == target {
        return (Converter::Copy, Verdict::Exact);
    }
    let (smin, smax) = int_bounds(source.0, source.1);
    let (min, max) = int_bounds(target.0, target.1);
    let fits = smin >= min && smax <= max;
    // Same signedness means same kind of cell: nothing to do where everything fits.
    let converter = if fits && source.1 == target.1 {
        Converter::Copy
    } else {
        Converter::Int {
            min,
            max,
            unsigned: target.1,
        }
    };
    (
        converter,
        if fits {
            Verdict::Widening
        } else {
            Verdict::Narrowing
        },
    )
}

fn choose_decimal(
    (sp, ss): (Option<u32>, Option<u32>),
    (tp, ts): (Option<u32>, Option<u32>),
) -> (Converter, Verdict) {
    if (sp, ss) == (tp, ts) {
        return (Converter::Copy, Verdict::Exact);
    }
    if tp.is_none() {
        return (Converter::Copy, Verdict::Widening);
    }
    let whole = whole_digits(tp, ts);
    let scale = ts.unwrap_or(0);
    let fits = sp.is_some() && whole_digits(sp, ss) <= whole && ss.unwrap_or(0) <= scale;
    let verdict = if fits {
        Verdict::Widening
    } else {
        Verdict::Narrowing
    };
    (
        if fits {
            Converter::Copy
        } else {
            Converter::Decimal { whole, scale }
        },
        verdict,
    )
}

fn choose_text(source: Option<u32>, target: Option<u32>) -> (Converter, Verdict) {
    match (source, target) {
        (s, t) if s == t => (Converter::Copy, Verdict::Exact),
        (_, None) => (Converter::Copy, Verdict::Widening),
        (Some(s), Some(t)) if s <= t => (Converter::Copy, Verdict::Widening),
        (_, Some(max_chars)) => (Converter::Text { max_chars }, Verdict::Narrowing),
    }
}

fn int_bounds(bits: u8, unsigned: bool) -> (i64, u64) {
    let bits = u32::from(bits.clamp(1, 64));
    if unsigned {
        (0, u64::MAX >> (64 - bits))
    } else {
        (i64::MIN >> (64 - bits), u64::MAX >> (65 - bits))
    }
}

fn int_digits(bits: u8, unsigned: bool) -> u32 {
    let (_, max) = int_bounds(bits, unsigned);
    max.ilog10() + 1
}

fn whole_digits(precision: Option<u32>, scale: Option<u32>) -> u32 {
    precision.map_or(u32::MAX, |p| p.saturating_sub(scale.unwrap_or(0)))
}

fn int(
    cell: CellRef<'_>,
    min: i64,
    max: u64,
    unsigned: bool,
    out: &mut RowBatch,
) -> Result<(), ConvertError> {
    let (fits, value) = match cell {
        CellRef::I64(v) => (
            v >= min && u64::try_from(v).map_or(true, |v| v <= max),
            i128::from(v),
        ),
        CellRef::U64(v) => (v <= max, i128::from(v)),
        _ => return refuse("the value is not an integer"),
    };
    if !fits {
        return refuse("the number does not fit the target column");
    }
    if unsigned {
        let value = u64::try_from(value).or_else(|_| refuse("the number is negative"))?;
        put(out, CellRef::U64(value))
    } else {
        let value = i64::try_from(value).or_else(|_| refuse("the number does not fit"))?;
        put(out, CellRef::I64(value))
    }
}

fn int_to_decimal(cell: CellRef<'_>, whole: u32, out: &mut RowBatch) -> Result<(), ConvertError> {
    let (negative, mut rest) = match cell {
        CellRef::I64(v) => (v < 0, v.unsigned_abs()),
        CellRef::U64(v) => (false, v),
        _ => return refuse("the value is not an integer"),
    };
    let mut buffer = [b'0'; 20];
    let mut used = 0;
    for slot in buffer.iter_mut().rev() {
        *slot = b'0' + u8::try_from(rest % 10).expect("a digit");
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    if used > whole as usize {
        return refuse("the number has more digits than the target column");
    }
    let digits = buffer.get(buffer.len() - used..).unwrap_or_default();
    put(
        out,
        CellRef::Decimal(DecimalRef::Finite {
            negative,
            scale: 0,
            digits,
        }),
    )
}

fn decimal_fits(value: DecimalRef<'_>, whole_max: u32, scale_max: u32) -> bool {
    let DecimalRef::Finite { scale, digits, .. } = value else {
        // PostgreSQL takes NaN in every numeric, infinities only without precision.
        return matches!(value, DecimalRef::NaN);
    };
    let zeros = digits.iter().rev().take_while(|d| **d == b'0').count();
    let needed_scale = usize::from(scale).saturating_sub(zeros);
    let whole = digits.len().saturating_sub(usize::from(scale));
    needed_scale <= scale_max as usize && (whole <= whole_max as usize || digits == b"0")
}

fn real_date(date: Date) -> Result<(), ConvertError> {
    if date.is_infinite() || date.to_unix_days().is_some() {
        Ok(())
    } else {
        refuse("the date does not exist in the calendar (a zero date, or a day past its month)")
    }
}

#[cfg(test)]
mod tests;
