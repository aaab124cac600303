//! Values in the server's binary form (each type's `send` function) and in its text form, both into
//! the same cells: one [`Codec`] per column, chosen once.
//!
//! The text form is the one of sessions pinned as [`crate::session::PINNED`] says.

use thalweg_core::value::{CellRef, Date, DecimalRef, Interval, RowBatch, Varying};

use super::replication::EPOCH_MICROS;
use super::{Buf, LEFT, Malformed, NO_UTF8, SHORT, text, utf8};

/// Days from 1970-01-01 to 2000-01-01, PostgreSQL's epoch.
const EPOCH_DAYS: i64 = 10_957;
pub(crate) const DAY_MICROS: i64 = 86_400_000_000;

/// A row does not fit into what the task allows.
pub(crate) const TOO_LARGE: Malformed = Malformed("a row is larger than the limit");
/// A moment that cells cannot hold.
pub(crate) const MOMENT: Malformed =
    Malformed("a moment after the year 294246, the last one that can be carried");

/// How the values of a column are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric,
    Text,
    /// `char(n)`: without the spaces it is padded with, which mean nothing.
    Padded,
    Json,
    Jsonb,
    Bytea,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    Uuid,
    Bits,
    /// A type only its own engine understands: always its text form.
    Other,
}

impl Codec {
    /// What the type's binary form is called, if a value in it is what the target's type of the same
    /// name takes: not where values are changed when they are read.
    pub(crate) fn wire(self) -> Option<&'static str> {
        Some(match self {
            Codec::Bool => "bool",
            Codec::Int2 => "int2",
            Codec::Int4 => "int4",
            Codec::Int8 => "int8",
            Codec::Oid => "oid",
            Codec::Float4 => "float4",
            Codec::Float8 => "float8",
            Codec::Numeric => "numeric",
            Codec::Text => "text",
            Codec::Jsonb => "jsonb",
            Codec::Bytea => "bytea",
            Codec::Date => "date",
            Codec::Time => "time",
            Codec::Timestamp => "timestamp",
            Codec::Timestamptz => "timestamptz",
            Codec::Interval => "interval",
            Codec::Uuid => "uuid",
            Codec::Bits => "bits",
            Codec::Padded | Codec::Json | Codec::Other => return None,
        })
    }

    /// Whether the binary form is read too, and not only the text form.
    pub(crate) fn binary(self) -> bool {
        self != Codec::Other
    }
}

/// The form a value has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Binary,
    Text,
}

/// Reads values of one stream or chunk into rows.
#[derive(Debug)]
pub(crate) struct Reader {
    /// Bytes a row may take.
    row_bytes_max: u64,
    scratch: Vec<u8>,
}

impl Reader {
    pub(crate) fn new(row_bytes_max: u64) -> Self {
        Reader {
            row_bytes_max,
            scratch: Vec::new(),
        }
    }

    /// Appends a value to the open row.
    #[inline]
    pub(crate) fn push(
        &mut self,
        codec: Codec,
        form: Form,
        bytes: &[u8],
        out: &mut RowBatch,
    ) -> Result<(), Malformed> {
        self.room(bytes.len(), out)?;
        match form {
            Form::Binary if codec.binary() => self.binary(codec, bytes, out),
            Form::Binary => Err(Malformed("a binary value of a type without a binary form")),
            Form::Text => text::push(codec, bytes, &mut self.scratch, out),
        }
    }

    /// Whether the open row may take so many bytes more.
    fn room(&self, more: usize, out: &RowBatch) -> Result<(), Malformed> {
        let all = out.open_bytes().saturating_add(more);
        if u64::try_from(all).unwrap_or(u64::MAX) > self.row_bytes_max {
            return Err(TOO_LARGE);
        }
        Ok(())
    }

    #[inline]
    fn binary(&mut self, codec: Codec, bytes: &[u8], out: &mut RowBatch) -> Result<(), Malformed> {
        // What most columns are, each in one piece.
        match codec {
            Codec::Int4 => out.push(CellRef::I64(i32::from_be_bytes(exact(bytes)?).into())),
            Codec::Int8 => out.push(CellRef::I64(i64::from_be_bytes(exact(bytes)?))),
            Codec::Text => {
                if !out.push_utf8(Varying::Text, bytes) {
                    return Err(NO_UTF8);
                }
            }
            Codec::Numeric => return self.numeric(bytes, out),
            Codec::Timestamp => out.push(timestamp(i64::from_be_bytes(exact(bytes)?))?),
            codec => return self.other(codec, bytes, out),
        }
        Ok(())
    }

    /// The same of the other types.
    fn other(&mut self, codec: Codec, bytes: &[u8], out: &mut RowBatch) -> Result<(), Malformed> {
        let mut buf = Buf(bytes);
        let cell = match codec {
            Codec::Bool => CellRef::Bool(match buf.u8()? {
                0 => false,
                1 => true,
                _ => return Err(Malformed("a boolean that is neither true nor false")),
            }),
            Codec::Int2 => CellRef::I64(buf.i16()?.into()),
            Codec::Int4 => CellRef::I64(buf.i32()?.into()),
            Codec::Int8 => CellRef::I64(buf.i64()?),
            Codec::Oid => CellRef::U64(buf.u32()?.into()),
            Codec::Float4 => single(f32::from_bits(buf.u32()?)),
            Codec::Float8 => double(f64::from_bits(buf.u64()?)),
            Codec::Numeric => return self.numeric(bytes, out),
            Codec::Text => CellRef::Text(utf8(rest(&mut buf))?),
            Codec::Padded => CellRef::Text(utf8(rest(&mut buf))?.trim_end_matches(' ')),
            Codec::Json => CellRef::Json(utf8(rest(&mut buf))?),
            Codec::Jsonb => {
                if buf.u8()? != 1 {
                    return Err(Malformed("jsonb of an unknown version"));
                }
                CellRef::Json(utf8(rest(&mut buf))?)
            }
            Codec::Bytea => CellRef::Bytes(rest(&mut buf)),
            Codec::Date => CellRef::Date(date(buf.i32()?)?),
            Codec::Time => CellRef::Time(buf.i64()?),
            Codec::Timestamp => timestamp(buf.i64()?)?,
            Codec::Timestamptz => CellRef::Instant(instant(buf.i64()?)?),
            Codec::Interval => {
                let (micros, days, months) = (buf.i64()?, buf.i32()?, buf.i32()?);
                CellRef::Interval(Interval {
                    months,
                    days,
                    micros,
                })
            }
            Codec::Uuid => CellRef::Uuid(buf.array()?),
            Codec::Bits => {
                let len = buf.u32()?;
                let bits = buf.take(usize::try_from(len.div_ceil(8)).unwrap_or(usize::MAX))?;
                CellRef::Bits(len, bits)
            }
            Codec::Other => return Err(Malformed("a type without a binary form")),
        };
        buf.end()?;
        out.push(cell);
        Ok(())
    }

    /// `numeric_send`: number of base-10000 digits, weight of the first, sign, display scale, digits.
    fn numeric(&mut self, bytes: &[u8], out: &mut RowBatch) -> Result<(), Malformed> {
        let (head, rest) = bytes.split_first_chunk::<8>().ok_or(SHORT)?;
        let [a, b, c, d, e, f, g, h] = *head;
        let (count, sign) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([e, f]));
        let weight = i32::from(i16::from_be_bytes([c, d]));
        let scale = u16::from_be_bytes([g, h]);
        let (groups, odd) = rest.as_chunks::<2>();
        if groups.len() < usize::from(count) {
            return Err(SHORT);
        }
        if groups.len() > usize::from(count) || !odd.is_empty() {
            return Err(LEFT);
        }
        if scale > 0x3fff {
            return Err(NO_NUMERIC);
        }
        let negative = match sign {
            0x0000 => false,
            0x4000 => true,
            0xc000 => return special(DecimalRef::NaN, out),
            0xd000 => return special(DecimalRef::Infinity, out),
            0xf000 => return special(DecimalRef::NegInfinity, out),
            _ => return Err(NO_NUMERIC),
        };
        let whole = usize::try_from(weight + 1).unwrap_or(0) * 4;
        let digits = whole + usize::from(scale);
        self.room(digits, out)?;
        let mut push = |digits: &[u8]| {
            out.push(CellRef::Decimal(DecimalRef::Finite {
                negative,
                scale,
                digits,
            }));
        };
        // The first group is of the whole part, or else of the fraction's first four digits. A number
        // below 0.0001 has its first stored group further behind.
        let first = (weight + 1).min(0);
        let places = digits.div_ceil(4);
        let mut short = [[0; 4]; SHORT_GROUPS];
        if let (0, Some(made)) = (first, short.get_mut(..places)) {
            // What is not stored is zero.
            made.fill(*b"0000");
            for (slot, group) in made.iter_mut().zip(groups) {
                *slot = four(u16::from_be_bytes(*group))?;
            }
            push(made.as_flattened().get(..digits).unwrap_or_default());
            return Ok(());
        }
        self.scratch.clear();
        for place in first.. {
            if self.scratch.len() >= digits {
                break;
            }
            let group = usize::try_from(place).ok().and_then(|at| groups.get(at));
            let group = group.map_or(0, |bytes| u16::from_be_bytes(*bytes));
            self.scratch.extend_from_slice(&four(group)?);
        }
        self.scratch.truncate(digits);
        push(&self.scratch);
        Ok(())
    }
}

const NO_NUMERIC: Malformed = Malformed("a numeric that is none");

/// Groups of a number that is read without memory from the allocator.
const SHORT_GROUPS: usize = 16;

/// The four digits of a group, all at once: each step works on two numbers in one word.
fn four(group: u16) -> Result<[u8; 4], Malformed> {
    if group > 9_999 {
        return Err(NO_NUMERIC);
    }
    let group = u32::from(group);
    let hundreds = group / 100;
    let two = hundreds | (group - hundreds * 100) << 16;
    // A tenth of a number below 100: 103/1024 of it.
    let tens = (two * 103) >> 10 & 0x000f_000f;
    let ones = two - tens * 10;
    Ok((tens | ones << 8 | 0x3030_3030).to_le_bytes())
}

/// All the bytes of a value of this length.
#[inline]
fn exact<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Malformed> {
    match bytes.try_into() {
        Ok(array) => Ok(array),
        Err(_) if bytes.len() < N => Err(SHORT),
        Err(_) => Err(LEFT),
    }
}

fn special(value: DecimalRef<'_>, out: &mut RowBatch) -> Result<(), Malformed> {
    out.push(CellRef::Decimal(value));
    Ok(())
}

fn rest<'a>(buf: &mut Buf<'a>) -> &'a [u8] {
    std::mem::take(&mut buf.0)
}

/// One NaN for all: their signs and payloads have no text form.
pub(crate) fn single<'a>(value: f32) -> CellRef<'a> {
    CellRef::F32(if value.is_nan() { f32::NAN } else { value })
}

pub(crate) fn double<'a>(value: f64) -> CellRef<'a> {
    CellRef::F64(if value.is_nan() { f64::NAN } else { value })
}

/// Days since 2000.
fn date(days: i32) -> Result<Date, Malformed> {
    match days {
        i32::MAX => Ok(Date::INFINITY),
        i32::MIN => Ok(Date::NEG_INFINITY),
        days => Date::from_unix_days(i64::from(days) + EPOCH_DAYS)
            .ok_or(Malformed("a date out of range")),
    }
}

/// Microseconds since 2000.
fn timestamp<'a>(at: i64) -> Result<CellRef<'a>, Malformed> {
    Ok(match at {
        i64::MAX => CellRef::Timestamp(Date::INFINITY, 0),
        i64::MIN => CellRef::Timestamp(Date::NEG_INFINITY, 0),
        at => {
            let day = Date::from_unix_days(at.div_euclid(DAY_MICROS) + EPOCH_DAYS)
                .ok_or(Malformed("a timestamp out of range"))?;
            CellRef::Timestamp(day, at.rem_euclid(DAY_MICROS))
        }
    })
}

/// Microseconds since 2000 as those since 1970.
fn instant(at: i64) -> Result<i64, Malformed> {
    match at {
        i64::MAX | i64::MIN => Ok(at),
        at => at
            .checked_add(EPOCH_MICROS)
            .filter(|at| *at != i64::MAX)
            .ok_or(MOMENT),
    }
}
