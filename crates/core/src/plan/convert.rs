//! Converters: chosen once per mapped column from source type × target type.
//!
//! [`Pair::of`] is the table: for every pair of types it says how values are carried over
//! ([`Converter`]), what that does to them ([`Verdict`]) and, where it is not plain, what they
//! become (the note). A converter leads *to* the target's type; the kind of the cell tells what it
//! comes from, so that there is one converter for each kind of target and not one for each pair.
//!
//! A converter never changes a value silently. It carries it over, perhaps in another kind of cell,
//! or refuses it with a reason that does not show the value. NULL, `Unchanged` and `Absent` always
//! pass. Nothing is allocated for a cell; what is made grows in the arena of the row it is for.

mod nearest;
mod number;
mod refuses;
mod table;
mod text;
mod time;

use std::sync::Arc;

use crate::schema::{Calendar, ColumnSchema, ColumnType, Refuses};
use crate::value::{CellRef, RowBatch, decode_raw};

/// How a conversion treats values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Every value arrives as it is.
    Exact,
    /// Every value arrives, in a type that could hold more; nothing is lost.
    Widening,
    /// A value that does not fit is refused; one that fits arrives with nothing lost.
    Narrowing,
    /// The meaning of a value arrives, its exact form does not; the pair's note says what becomes
    /// of it. A value that does not fit is refused.
    Lossy,
    /// There is no conversion; the plan is refused.
    Impossible,
}

impl Verdict {
    /// Its name in documents and messages.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Exact => "exact",
            Verdict::Widening => "widening",
            Verdict::Narrowing => "narrowing",
            Verdict::Lossy => "lossy",
            Verdict::Impossible => "impossible",
        }
    }
}

/// What the table says of a source type and a target type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// How cells are made.
    pub converter: Converter,
    /// What that does to values.
    pub verdict: Verdict,
    /// What values become, or which of them fit, as half a sentence; empty where it is plain.
    pub note: &'static str,
}

impl Pair {
    /// The entry of the table.
    pub fn of(source: &ColumnType, target: &ColumnType) -> Pair {
        table::pair(source, target)
    }
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

const WRONG_KIND: &str = "the value is not of the column's type";

/// What text or octets a cell stands for where its kind alone does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// The kind tells; years before 1 are written as years BC.
    Plain,
    /// Dates have years 0 to 9999.
    Lenient,
    /// Octets are a geometry in MySQL's storage form.
    Geometry,
}

/// What happens to the cells of one mapped column: they become cells of this kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Converter {
    /// Cells are copied.
    Copy,
    /// An integer from any number or bits.
    Int {
        /// Smallest value that fits.
        min: i64,
        /// Largest value that fits.
        max: u64,
        /// Whether the target's cells are `U64`.
        unsigned: bool,
    },
    /// A truth value from 0 or 1 or one bit.
    Bool,
    /// Binary floating point from any number.
    Float {
        /// Single precision, otherwise double.
        single: bool,
        /// Whether NaN and the infinities fit.
        special: bool,
    },
    /// A decimal from any number.
    Decimal {
        /// Digits that fit; `None`: any number.
        precision: Option<u32>,
        /// Digits after the point that fit; `None`: any number.
        scale: Option<u32>,
        /// Whether NaN fits, and without precision the infinities.
        special: bool,
    },
    /// Text from anything that has a text form.
    Text {
        /// Characters that fit; `None`: any number.
        max_chars: Option<u32>,
        /// What the cells stand for.
        form: Form,
    },
    /// Octets from octets, text, bits, a UUID or a geometry.
    Bytes {
        /// Octets that fit; `None`: any number.
        max_bytes: Option<u32>,
        /// What the cells stand for.
        form: Form,
    },
    /// The text of a JSON column from text; the target reads it.
    Json,
    /// A day.
    Date(Calendar),
    /// A civil time without zone; from a moment, that in UTC.
    Timestamp {
        /// Which days there are.
        calendar: Calendar,
        /// Digits of the fraction that fit.
        precision: u8,
    },
    /// A moment; from a civil time, that in UTC.
    Instant {
        /// Which days there are.
        calendar: Calendar,
        /// Digits of the fraction that fit.
        precision: u8,
    },
    /// A time of day or a duration.
    Time {
        /// Whether only 0 to 24 hours fit, otherwise ±838:59:59.999999.
        of_day: bool,
        /// Digits of the fraction that fit.
        precision: u8,
    },
    /// An interval of microseconds from a time.
    Interval,
    /// A UUID from its text or its 16 octets.
    Uuid,
    /// Bits from bits, a number, binary digits or octets.
    Bits {
        /// Length, or the limit of a varying one; `None`: any.
        len: Option<u32>,
        /// Whether values may be shorter.
        varying: bool,
    },
    /// Labels from text, exactly as the target has them.
    Labels {
        /// The target's labels in declaration order.
        labels: Arc<[String]>,
        /// Whether there may be several, joined with commas in that order.
        several: bool,
    },
    /// A geometry in MySQL's storage form from EWKB, as octets or hexadecimal.
    Geometry,
    /// The text form of a type that its engine reads.
    Other {
        /// What the cells stand for.
        form: Form,
    },
    /// As another converter, without what the column does not take.
    Without(Refuses, Box<Converter>),
}

impl Converter {
    /// The converter between two column types, and how it treats values: [`Pair::of`] without the
    /// note.
    pub fn choose(source: &ColumnType, target: &ColumnType) -> (Converter, Verdict) {
        let pair = Pair::of(source, target);
        (pair.converter, pair.verdict)
    }

    /// This converter, and behind it what the target column refuses of its type's values, unless
    /// the source column refuses the same.
    #[must_use]
    pub fn between(self, source: &ColumnSchema, target: &ColumnSchema) -> Converter {
        match target.refuses {
            Some(refuses) if source.refuses != Some(refuses) || self != Converter::Copy => {
                Converter::Without(refuses, Box::new(self))
            }
            _ => self,
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
        match *self {
            Converter::Copy => out.push_raw(raw),
            Converter::Without(refuses, ref inner) => {
                let start = out.open_bytes();
                inner.convert(raw, out)?;
                let made = out.open_cell(start).unwrap_or(CellRef::Absent);
                if let Err(error) = refuses::check(refuses, made) {
                    out.take_back(start);
                    return Err(error);
                }
            }
            Converter::Int { min, max, unsigned } => {
                out.push(number::int(cell, min, max, unsigned)?);
            }
            Converter::Bool => out.push(CellRef::Bool(number::truth(cell)?)),
            Converter::Float { single, special } => {
                out.push(number::float(cell, single, special)?);
            }
            Converter::Decimal {
                precision,
                scale,
                special,
            } => return number::decimal(cell, precision, scale, special, out),
            Converter::Text { max_chars, form } => {
                return text::text(raw, cell, max_chars, form, out);
            }
            Converter::Bytes { max_bytes, form } => {
                return text::bytes(raw, cell, max_bytes, form, out);
            }
            Converter::Json => match cell {
                CellRef::Text(v) | CellRef::Json(v) => out.push(CellRef::Json(v)),
                _ => return refuse(WRONG_KIND),
            },
            Converter::Date(calendar) => out.push(time::date(cell, calendar)?),
            Converter::Timestamp {
                calendar,
                precision,
            } => out.push(time::timestamp(cell, calendar, precision)?),
            Converter::Instant {
                calendar,
                precision,
            } => out.push(time::instant(cell, calendar, precision)?),
            Converter::Time { of_day, precision } => {
                out.push(time::time(cell, of_day, precision)?);
            }
            Converter::Interval => out.push(time::interval(cell)?),
            Converter::Uuid => out.push(text::uuid(cell)?),
            Converter::Bits { len, varying } => return text::bits(cell, len, varying, out),
            Converter::Labels {
                ref labels,
                several,
            } => {
                text::labels(cell, labels, several)?;
                out.push_raw(raw);
            }
            Converter::Geometry => return text::geometry(cell, out),
            Converter::Other { form } => return text::other(cell, form, out),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
