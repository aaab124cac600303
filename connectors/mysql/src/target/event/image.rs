//! Cells as row images have them: the other way round than [`crate::wire`] reads them, which names the
//! sources.
//!
//! Only what is plainly a value of the column is written. The server takes what it is given: a text longer
//! than the column, a number of another width, the bytes of another character set. Where the way of the
//! literals would think about a value ([`super::super::literal`]), this one refuses it.

use thalweg_core::value::{CellRef, Date, DecimalRef};

use super::Refused;
use crate::target::literal::{Literal, bit_number, set_number};

const DAY_MICROS: i64 = 86_400_000_000;
/// `TIME` ends at 838:59:59.999999 on either side of zero.
const TIME_MICROS_MAX: i64 = 3_020_399_999_999;
/// A `DECIMAL` has 65 digits at most.
const DIGITS_MAX: usize = 65;

/// What the server says of a column, and how we write its literals.
pub(super) struct Told<'a> {
    /// `DATA_TYPE`.
    pub(super) data: &'a str,
    pub(super) unsigned: bool,
    /// Bytes and characters of the longest value.
    pub(super) octets: Option<u64>,
    pub(super) chars: Option<u64>,
    pub(super) precision: Option<u64>,
    pub(super) scale: Option<u64>,
    /// Digits of the fraction of a second.
    pub(super) fraction: Option<u8>,
    pub(super) charset: Option<&'a str>,
    pub(super) literal: &'a Literal,
}

/// How the values of a column lie in a row image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Image {
    /// Bytes.
    Int {
        bytes: usize,
        unsigned: bool,
    },
    Float,
    Double,
    Decimal {
        precision: usize,
        scale: usize,
        unsigned: bool,
    },
    Year,
    Date,
    /// Digits of the fraction.
    Time(u8),
    DateTime(u8),
    Timestamp(u8),
    /// Bits.
    Bit(u32),
    Text {
        lies: Lies,
        /// Characters of the longest value.
        chars: usize,
        /// The column's character set has only ASCII in common with UTF-8.
        ascii: bool,
        /// It does not keep trailing spaces.
        fixed: bool,
    },
    Bytes {
        lies: Lies,
        /// `BINARY`: every value is as long as the column.
        fixed: bool,
    },
    /// Bytes of the index.
    Enum(Vec<String>),
    Set(Vec<String>),
}

/// How a string lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lies {
    /// `VARCHAR` and `VARBINARY` of so many bytes at most.
    Varying(usize),
    /// `CHAR` and `BINARY` of so many bytes at most.
    Fixed(usize),
    /// `TEXT` and `BLOB`, with so many bytes of length before it.
    Long(usize),
}

impl Image {
    /// `None`: values of such a column go as literals.
    pub(super) fn of(told: &Told<'_>) -> Option<Image> {
        let int = |bytes| Image::Int {
            bytes,
            unsigned: told.unsigned,
        };
        let size = |size: Option<u64>| usize::try_from(size?).ok();
        let long = |bytes| Some(Lies::Long(bytes));
        let lies = match told.data {
            "varchar" | "varbinary" => Some(Lies::Varying(size(told.octets)?)),
            "char" | "binary" => Some(Lies::Fixed(size(told.octets)?)),
            "tinytext" | "tinyblob" => long(1),
            "text" | "blob" => long(2),
            "mediumtext" | "mediumblob" => long(3),
            "longtext" | "longblob" => long(4),
            _ => None,
        };
        Some(match (told.literal, told.data) {
            (Literal::Int, "tinyint") => int(1),
            (Literal::Int, "smallint") => int(2),
            (Literal::Int, "mediumint") => int(3),
            (Literal::Int, "int") => int(4),
            (Literal::Int, "bigint") => int(8),
            // FLOAT(m, d) rounds.
            (Literal::Float, "float") if told.scale.is_none() => Image::Float,
            (Literal::Float, "double") if told.scale.is_none() => Image::Double,
            (Literal::Decimal { .. }, "decimal") => {
                let (precision, scale) = (size(told.precision)?, size(told.scale)?);
                (precision <= DIGITS_MAX && scale <= precision).then_some(Image::Decimal {
                    precision,
                    scale,
                    unsigned: told.unsigned,
                })?
            }
            (Literal::Year, "year") => Image::Year,
            (Literal::Date, "date") => Image::Date,
            (Literal::Time(_), "time") => Image::Time(told.fraction.filter(|f| *f <= 6)?),
            (Literal::DateTime(_), "datetime") => {
                Image::DateTime(told.fraction.filter(|f| *f <= 6)?)
            }
            (Literal::Timestamp(_), "timestamp") => {
                Image::Timestamp(told.fraction.filter(|f| *f <= 6)?)
            }
            (Literal::Bits(bits), "bit") => {
                let told = told.precision.and_then(|p| u32::try_from(p).ok())?;
                (told == *bits && (1..=64).contains(bits)).then_some(Image::Bit(*bits))?
            }
            (Literal::Text(_) | Literal::Char, _) => Image::Text {
                lies: lies?,
                chars: size(told.chars)?,
                ascii: match told.charset? {
                    "utf8mb4" => false,
                    "utf8mb3" | "utf8" | "ascii" | "latin1" => true,
                    _ => return None,
                },
                fixed: told.data == "char",
            },
            (Literal::Bytes(_), _) if told.charset.is_none() => Image::Bytes {
                lies: lies?,
                fixed: told.data == "binary",
            },
            (Literal::Enum(labels), "enum") => Image::Enum(labels.clone()),
            (Literal::Set(labels), "set") if labels.len() <= 64 => Image::Set(labels.clone()),
            _ => return None,
        })
    }

    /// Its type's number in a table map.
    pub(super) fn code(&self) -> u8 {
        match self {
            Image::Int { bytes: 1, .. } => 1,
            Image::Int { bytes: 2, .. } => 2,
            Image::Int { bytes: 3, .. } => 9,
            Image::Int { bytes: 4, .. } => 3,
            Image::Int { .. } => 8,
            Image::Float => 4,
            Image::Double => 5,
            Image::Decimal { .. } => 246,
            Image::Year => 13,
            Image::Date => 10,
            Image::Time(_) => 19,
            Image::DateTime(_) => 18,
            Image::Timestamp(_) => 17,
            Image::Bit(_) => 16,
            Image::Text { lies, .. } | Image::Bytes { lies, .. } => match lies {
                Lies::Varying(_) => 15,
                Lies::Fixed(_) => 254,
                Lies::Long(_) => 252,
            },
            Image::Enum(_) | Image::Set(_) => 254,
        }
    }

    /// Appends what a table map says of the column beside its type.
    pub(super) fn put_meta(&self, out: &mut Vec<u8>) {
        match self {
            Image::Int { .. } | Image::Year | Image::Date => {}
            Image::Float => out.push(4),
            Image::Double => out.push(8),
            Image::Decimal {
                precision, scale, ..
            } => out.extend([low(*precision), low(*scale)]),
            Image::Time(digits) | Image::DateTime(digits) | Image::Timestamp(digits) => {
                out.push(*digits);
            }
            Image::Bit(bits) => out.extend([low(*bits as usize % 8), low(*bits as usize / 8)]),
            Image::Text { lies, .. } | Image::Bytes { lies, .. } => match *lies {
                Lies::Varying(max) => out.extend([low(max), low(max >> 8)]),
                // The length's upper two bits stand in the type's, inverted.
                Lies::Fixed(max) => out.extend([254 ^ low((max & 0x300) >> 4), low(max)]),
                Lies::Long(prefix) => out.push(low(prefix)),
            },
            Image::Enum(labels) => out.extend([247, low(enum_bytes(labels))]),
            Image::Set(labels) => out.extend([248, low(set_bytes(labels))]),
        }
    }

    /// Appends a value that is not NULL. After an error what was appended is of no use.
    #[inline]
    pub(super) fn put(&self, cell: CellRef<'_>, out: &mut Vec<u8>) -> Result<(), Refused> {
        match (self, cell) {
            (Image::Int { bytes, unsigned }, CellRef::I64(v)) => {
                int(i128::from(v), *bytes, *unsigned, out)?;
            }
            (Image::Int { bytes, unsigned }, CellRef::U64(v)) => {
                int(i128::from(v), *bytes, *unsigned, out)?;
            }
            (Image::Float, CellRef::F32(v)) if v.is_finite() => {
                out.extend_from_slice(&v.to_le_bytes());
            }
            (Image::Double, CellRef::F64(v)) if v.is_finite() => {
                out.extend_from_slice(&v.to_le_bytes());
            }
            (
                Image::Decimal {
                    precision,
                    scale,
                    unsigned,
                },
                CellRef::Decimal(v),
            ) => decimal(v, *precision, *scale, *unsigned, out)?,
            (Image::Year, CellRef::I64(0)) => out.push(0),
            (Image::Year, CellRef::I64(v)) if (1901..=2155).contains(&v) => {
                out.push(u8::try_from(v - 1900).map_err(|_| Refused)?);
            }
            (Image::Date, CellRef::Date(v)) => {
                let Date { year, month, day } = civil(v)?;
                let packed = year.unsigned_abs() << 9 | u32::from(month) << 5 | u32::from(day);
                out.extend_from_slice(packed.to_le_bytes().get(..3).unwrap_or_default());
            }
            (Image::Time(digits), CellRef::Time(v)) => time(v, *digits, out)?,
            (Image::DateTime(digits), CellRef::Timestamp(day, micros)) => {
                datetime(day, micros, *digits, out)?;
            }
            // A zero TIMESTAMP is no moment.
            (Image::Timestamp(digits), CellRef::Timestamp(day, 0))
                if (day.year, day.month, day.day) == (0, 0, 0) =>
            {
                out.resize(out.len() + 4 + usize::from(digits.div_ceil(2)), 0);
            }
            (Image::Timestamp(digits), CellRef::Instant(v)) => {
                let seconds = i32::try_from(v.div_euclid(1_000_000)).map_err(|_| Refused)?;
                if seconds < 1 {
                    return Err(Refused);
                }
                out.extend_from_slice(&seconds.to_be_bytes());
                fraction(v.rem_euclid(1_000_000), *digits, out)?;
            }
            (Image::Bit(len), CellRef::Bits(bits, bytes)) => {
                let number = bit_number(*len, bits, bytes).map_err(|_| Refused)?;
                big(number, len.div_ceil(8) as usize, out);
            }
            (
                Image::Text {
                    lies,
                    chars,
                    ascii,
                    fixed,
                },
                CellRef::Text(v),
            ) => {
                let long = v.len() > *chars && v.chars().count() > *chars;
                if long || *ascii && !v.is_ascii() || *fixed && v.ends_with(' ') {
                    return Err(Refused);
                }
                lies.put(v.as_bytes(), out)?;
            }
            (Image::Bytes { lies, fixed }, CellRef::Bytes(v)) => {
                if let (true, Lies::Fixed(len)) = (fixed, lies)
                    && v.len() != *len
                {
                    return Err(Refused);
                }
                lies.put(v, out)?;
            }
            (Image::Enum(labels), CellRef::Text(v)) => {
                let index = labels.iter().position(|label| label == v).ok_or(Refused)? + 1;
                little(index as u64, enum_bytes(labels), out);
            }
            (Image::Set(labels), CellRef::Text(v)) => {
                let number = set_number(labels, v).map_err(|_| Refused)?;
                little(number, set_bytes(labels), out);
            }
            _ => return Err(Refused),
        }
        Ok(())
    }
}

impl Lies {
    fn put(self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refused> {
        let (prefix, max) = match self {
            Lies::Varying(max) | Lies::Fixed(max) => (if max < 256 { 1 } else { 2 }, max),
            Lies::Long(prefix) => (prefix, (1 << (8 * prefix)) - 1),
        };
        if bytes.len() > max {
            return Err(Refused);
        }
        little(bytes.len() as u64, prefix, out);
        out.extend_from_slice(bytes);
        Ok(())
    }
}

fn low(number: usize) -> u8 {
    u8::try_from(number & 0xFF).unwrap_or(0)
}

fn enum_bytes(labels: &[String]) -> usize {
    if labels.len() < 256 { 1 } else { 2 }
}

fn set_bytes(labels: &[String]) -> usize {
    match labels.len().div_ceil(8) {
        bytes @ 0..=4 => bytes.max(1),
        _ => 8,
    }
}

/// The lowest bytes of a number, the lowest first.
fn little(number: u64, bytes: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(number.to_le_bytes().get(..bytes).unwrap_or_default());
}

/// The lowest bytes of a number, the highest first.
fn big(number: u64, bytes: usize, out: &mut Vec<u8>) {
    let all = number.to_be_bytes();
    out.extend_from_slice(
        all.get(all.len() - bytes.min(all.len())..)
            .unwrap_or_default(),
    );
}

fn int(value: i128, bytes: usize, unsigned: bool, out: &mut Vec<u8>) -> Result<(), Refused> {
    let values = 1_i128 << (8 * bytes);
    let (min, end) = match unsigned {
        true => (0, values),
        false => (-values / 2, values / 2),
    };
    if value < min || value >= end {
        return Err(Refused);
    }
    out.extend_from_slice(value.to_le_bytes().get(..bytes).unwrap_or_default());
    Ok(())
}

fn decimal(
    value: DecimalRef<'_>,
    precision: usize,
    scale_max: usize,
    unsigned: bool,
    out: &mut Vec<u8>,
) -> Result<(), Refused> {
    let DecimalRef::Finite {
        negative,
        scale,
        digits,
    } = value
    else {
        return Err(Refused);
    };
    if negative && unsigned {
        return Err(Refused);
    }
    // Zeros at the end of the fraction say nothing; other digits would be rounded away.
    let scale = usize::from(scale);
    let cut = scale.saturating_sub(scale_max);
    let zeros = digits.iter().rev().take_while(|d| **d == b'0').count();
    let (digits, scale) = match digits {
        b"0" => (&[][..], 0),
        _ if cut > zeros => return Err(Refused),
        _ => (
            digits.get(..digits.len() - cut).unwrap_or(digits),
            scale - cut,
        ),
    };
    let whole = precision - scale_max;
    let mut all = [b'0'; DIGITS_MAX];
    let end = whole + scale;
    let start = end.checked_sub(digits.len()).ok_or(Refused)?;
    all.get_mut(start..end)
        .ok_or(Refused)?
        .copy_from_slice(digits);
    let at = out.len();
    let (whole, fraction) = all.get(..precision).ok_or(Refused)?.split_at(whole);
    let (odd, nines) = whole.split_at(whole.len() % 9);
    group(odd, out);
    nines.chunks(9).for_each(|nine| group(nine, out));
    fraction.chunks(9).for_each(|nine| group(nine, out));
    let number = out.get_mut(at..).unwrap_or_default();
    if let Some(first) = number.first_mut() {
        *first ^= 0x80;
    }
    if negative {
        number.iter_mut().for_each(|byte| *byte = !*byte);
    }
    Ok(())
}

/// At most nine decimal digits as a number.
fn group(digits: &[u8], out: &mut Vec<u8>) {
    const BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
    let number = digits
        .iter()
        .fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    big(number, BYTES.get(digits.len()).copied().unwrap_or(4), out);
}

/// A date that a column can have, be it in the calendar or not.
fn civil(day: Date) -> Result<Date, Refused> {
    let fits =
        !day.is_infinite() && (0..=9999).contains(&day.year) && day.month <= 12 && day.day <= 31;
    fits.then_some(day).ok_or(Refused)
}

/// Hours, minutes and seconds in 6 bits each, the hours in what is above.
fn clock(seconds: u64) -> u64 {
    (seconds / 3600) << 12 | (seconds / 60 % 60) << 6 | (seconds % 60)
}

fn datetime(day: Date, micros: i64, digits: u8, out: &mut Vec<u8>) -> Result<(), Refused> {
    let Date { year, month, day } = civil(day)?;
    if !(0..DAY_MICROS).contains(&micros) {
        return Err(Refused);
    }
    let months = u64::from(year.unsigned_abs()) * 13 + u64::from(month);
    let clock = clock((micros / 1_000_000).unsigned_abs());
    big(
        1 << 39 | months << 22 | u64::from(day) << 17 | clock,
        5,
        out,
    );
    fraction(micros % 1_000_000, digits, out)
}

fn time(value: i64, digits: u8, out: &mut Vec<u8>) -> Result<(), Refused> {
    if !(-TIME_MICROS_MAX..=TIME_MICROS_MAX).contains(&value) {
        return Err(Refused);
    }
    let micros = value.unsigned_abs();
    let bytes = usize::from(digits.div_ceil(2));
    let units = units((micros % 1_000_000).cast_signed(), digits)?;
    let number = (clock(micros / 1_000_000) << (8 * bytes) | units).cast_signed();
    let number = if value < 0 { -number } else { number };
    let number = (0x80_0000_i64 << (8 * bytes)) + number;
    big(number.cast_unsigned(), 3 + bytes, out);
    Ok(())
}

/// Appends the microseconds of a second.
fn fraction(micros: i64, digits: u8, out: &mut Vec<u8>) -> Result<(), Refused> {
    big(units(micros, digits)?, usize::from(digits.div_ceil(2)), out);
    Ok(())
}

/// Microseconds in the unit of a column with so many digits: hundredths, ten-thousandths, or themselves.
fn units(micros: i64, digits: u8) -> Result<u64, Refused> {
    let keeps = 10_i64.pow(6 - u32::from(digits.min(6)));
    if micros % keeps != 0 {
        return Err(Refused);
    }
    Ok(match digits {
        0 => 0,
        1 | 2 => micros / 10_000,
        3 | 4 => micros / 100,
        _ => micros,
    }
    .unsigned_abs())
}
