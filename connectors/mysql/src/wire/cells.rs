//! What a column means, and the cells both paths make from it.
//!
//! A [`Meaning`] is derived once per column from its neutral type and native text; the stream and the
//! snapshot bring raw values from their own encodings and end in the same functions here.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use thalweg_core::schema::{ColumnSchema, ColumnType};
use thalweg_core::value::{CellRef, Date, DecimalRef, RowBatch, Varying};

use super::Malformed;
use super::charset::{self, Charset};

/// What string bytes of a column mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Numbers and times: the value says it all.
    Plain,
    /// `YEAR`.
    Year,
    /// Text; `true`: `CHAR`, whose trailing spaces are not part of the value.
    Text(Charset, bool),
    /// JSON text.
    Json(Charset),
    /// Octets; `Some(n)`: `BINARY(n)`, padded with zeros.
    Bytes(Option<usize>),
    /// 16 bytes in the storage order of MariaDB's `UUID`.
    Uuid,
    /// 4 bytes.
    Inet4,
    /// 16 bytes.
    Inet6,
    /// Index into labels, from 1; 0 is the empty error value.
    Enum(Vec<String>),
    /// Bit mask of labels.
    Set(Vec<String>),
    /// `BIT(n)`.
    Bits(u32),
    /// `TIMESTAMP`: a moment.
    Instant,
    /// `VECTOR`: single floats, little-endian.
    Vector,
}

/// The part of the native text in the first parentheses.
fn argument(native: &str) -> Option<usize> {
    let (_, rest) = native.split_once('(')?;
    rest.split_once(')')?.0.parse().ok()
}

/// The meaning of a column; `None` if its character set is not read yet.
pub(crate) fn meaning(column: &ColumnSchema) -> Option<Meaning> {
    let native = column.native.as_str();
    let set = || {
        let name = native
            .split_once(" character set ")
            .map_or("utf8mb4", |(_, n)| n);
        Charset::of(name)
    };
    Some(match &column.ty {
        ColumnType::Text { .. } => Meaning::Text(set()?, native.starts_with("char(")),
        ColumnType::Json { .. } => Meaning::Json(set()?),
        ColumnType::Bytes { .. } | ColumnType::Geometry => Meaning::Bytes(
            native
                .starts_with("binary(")
                .then(|| argument(native))
                .flatten(),
        ),
        ColumnType::Uuid => Meaning::Uuid,
        ColumnType::Other { .. } if native == "inet4" => Meaning::Inet4,
        ColumnType::Other { .. } if native == "inet6" => Meaning::Inet6,
        ColumnType::Other { .. } if native.starts_with("vector(") => Meaning::Vector,
        ColumnType::Enum { labels } => Meaning::Enum(labels.clone()),
        ColumnType::Set { labels } => Meaning::Set(labels.clone()),
        ColumnType::Bits { len, .. } => Meaning::Bits(len.unwrap_or(1)),
        ColumnType::Instant { .. } => Meaning::Instant,
        ColumnType::Int { .. } if native.starts_with("year") => Meaning::Year,
        _ => Meaning::Plain,
    })
}

const NOT_VALID: Malformed = Malformed("text is not valid in its character set");

/// A cell from the stored bytes of a string-like column.
pub(crate) fn push_string(
    out: &mut RowBatch,
    meaning: &Meaning,
    bytes: &[u8],
) -> Result<(), Malformed> {
    match meaning {
        Meaning::Text(Charset::Utf8, false) => match out.push_utf8(Varying::Text, bytes) {
            true => Ok(()),
            false => Err(NOT_VALID),
        },
        Meaning::Text(Charset::Utf8, true) => {
            let text = std::str::from_utf8(bytes).map_err(|_| NOT_VALID)?;
            out.push(CellRef::Text(text.trim_end_matches(' ')));
            Ok(())
        }
        Meaning::Text(set, trim) => out.push_text_with(|to| {
            let start = to.len();
            charset::append(*set, bytes, to)?;
            while *trim && to.len() > start && to.last() == Some(&b' ') {
                to.pop();
            }
            Ok(())
        }),
        Meaning::Json(set) => out.push_with(Varying::Json, |to| charset::append(*set, bytes, to)),
        Meaning::Bytes(Some(n)) if bytes.len() < *n => {
            let mut padded = bytes.to_vec();
            padded.resize(*n, 0);
            out.push(CellRef::Bytes(&padded));
            Ok(())
        }
        Meaning::Bytes(_) => {
            out.push(CellRef::Bytes(bytes));
            Ok(())
        }
        Meaning::Uuid => {
            out.push(CellRef::Uuid(uuid_from_storage(fixed(bytes)?)));
            Ok(())
        }
        Meaning::Inet6 => {
            let text = Ipv6Addr::from(fixed::<16>(bytes)?).to_string();
            out.push(CellRef::Other(&text));
            Ok(())
        }
        Meaning::Inet4 => {
            let text = Ipv4Addr::from(fixed::<4>(bytes)?).to_string();
            out.push(CellRef::Other(&text));
            Ok(())
        }
        Meaning::Vector => {
            out.push(CellRef::Other(&vector(bytes)?));
            Ok(())
        }
        _ => Err(Malformed("a string where the schema has another type")),
    }
}

/// A vector as the functions of MySQL (`STRING_TO_VECTOR`) and MariaDB (`VEC_FromText`) read it; each
/// number has the digits that give it back.
fn vector(bytes: &[u8]) -> Result<String, Malformed> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(Malformed("a VECTOR has a part of a number"));
    }
    let mut out = String::from("[");
    for (i, n) in numbers.iter().enumerate() {
        let comma = if i > 0 { "," } else { "" };
        let written = write!(out, "{comma}{:?}", f32::from_le_bytes(*n));
        written.map_err(|_| Malformed("a VECTOR cannot be written"))?;
    }
    out.push(']');
    Ok(out)
}

/// Short values are padded with zeros, as the log strips them.
fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Malformed> {
    let mut out = [0; N];
    out.get_mut(..bytes.len())
        .ok_or(Malformed("a fixed value is too long"))?
        .copy_from_slice(bytes);
    Ok(out)
}

/// MariaDB keeps UUIDs of versions 1 to 5 with their segments in reverse order so that those of
/// one host sort together; others as they are written.
/// <https://mariadb.com/kb/en/uuid-data-type/>, "Storage".
pub(crate) fn uuid_from_storage(s: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = s;
    let swapped = g & 0x80 != 0 && i > 0 && i < 0x60;
    if swapped {
        [m, n, o, p, k, l, i, j, g, h, a, b, c, d, e, f]
    } else {
        s
    }
}

/// An `ENUM` cell from its index.
pub(crate) fn push_enum(
    out: &mut RowBatch,
    labels: &[String],
    index: u64,
) -> Result<(), Malformed> {
    let label = match usize::try_from(index) {
        Ok(0) => "",
        Ok(i) => labels
            .get(i - 1)
            .ok_or(Malformed("ENUM index beyond its labels"))?,
        Err(_) => return Err(Malformed("ENUM index beyond its labels")),
    };
    out.push(CellRef::Text(label));
    Ok(())
}

/// A `SET` cell from its mask.
pub(crate) fn push_set(out: &mut RowBatch, labels: &[String], mask: u64) -> Result<(), Malformed> {
    out.push_text_with(|to| {
        let mut rest = mask;
        let mut first = true;
        while rest != 0 {
            let bit = rest.trailing_zeros();
            rest &= rest - 1;
            let label = labels
                .get(bit as usize)
                .ok_or(Malformed("SET bit beyond its labels"))?;
            if !first {
                to.push(b',');
            }
            first = false;
            to.extend_from_slice(label.as_bytes());
        }
        Ok(())
    })
}

/// A `BIT(n)` cell from its number.
pub(crate) fn push_bits(out: &mut RowBatch, len: u32, value: u64) {
    let shifted = value.checked_shl(64_u32.saturating_sub(len)).unwrap_or(0);
    let bytes = shifted.to_be_bytes();
    let used = bytes.get(..len.div_ceil(8) as usize).unwrap_or(&bytes);
    out.push(CellRef::Bits(len, used));
}

/// A `DECIMAL` cell from its text.
pub(crate) fn push_decimal_text(out: &mut RowBatch, text: &[u8]) -> Result<(), Malformed> {
    let mut digits = [0_u8; 96];
    let mut len = 0;
    let mut scale: Option<u16> = None;
    let mut negative = false;
    for &b in text {
        match b {
            b'-' if len == 0 => negative = true,
            b'.' if scale.is_none() => scale = Some(0),
            b'0'..=b'9' => {
                *digits.get_mut(len).ok_or(Malformed("decimal too long"))? = b;
                len += 1;
                scale = scale.map(|s| s + 1);
            }
            _ => return Err(Malformed("not a decimal")),
        }
    }
    out.push(CellRef::Decimal(DecimalRef::Finite {
        negative,
        scale: scale.unwrap_or(0),
        digits: digits.get(..len).unwrap_or(b"0"),
    }));
    Ok(())
}

/// Calendar fields as either path reads them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Civil {
    pub(crate) year: u16,
    pub(crate) month: u8,
    pub(crate) day: u8,
    pub(crate) day_us: i64,
}

/// A `DATE` cell.
pub(crate) fn push_date(out: &mut RowBatch, c: Civil) {
    out.push(CellRef::Date(date(c)));
}

fn date(c: Civil) -> Date {
    Date {
        year: i32::from(c.year),
        month: c.month,
        day: c.day,
    }
}

/// A `DATETIME` cell.
pub(crate) fn push_datetime(out: &mut RowBatch, c: Civil) {
    out.push(CellRef::Timestamp(date(c), c.day_us));
}

/// A `TIMESTAMP` cell; zero seconds are the zero date, which is no moment.
pub(crate) fn push_instant(out: &mut RowBatch, micros: i64) {
    if micros == 0 {
        let zero = Date {
            year: 0,
            month: 0,
            day: 0,
        };
        out.push(CellRef::Timestamp(zero, 0));
    } else {
        out.push(CellRef::Instant(micros));
    }
}

/// A `TIMESTAMP` cell from its fields in UTC.
pub(crate) fn push_instant_civil(out: &mut RowBatch, c: Civil) -> Result<(), Malformed> {
    if c.year == 0 {
        push_instant(out, 0);
        return Ok(());
    }
    let days = date(c)
        .to_unix_days()
        .ok_or(Malformed("TIMESTAMP without a calendar day"))?;
    push_instant(out, days * 86_400_000_000 + c.day_us);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(fill: impl FnOnce(&mut RowBatch)) -> String {
        let mut batch = RowBatch::new();
        fill(&mut batch);
        batch.end_row();
        format!("{:?}", batch.row(0).cells().next().unwrap())
    }

    #[test]
    fn bits_sets_enums() {
        assert_eq!(one(|b| push_bits(b, 1, 1)), "Bits(1, [128])");
        assert_eq!(
            one(|b| push_bits(b, 10, 0b10_0000_0001)),
            "Bits(10, [128, 64])"
        );
        let labels = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        assert_eq!(one(|b| push_set(b, &labels, 5).unwrap()), "Text(\"a,c\")");
        assert_eq!(one(|b| push_set(b, &labels, 0).unwrap()), "Text(\"\")");
        assert_eq!(one(|b| push_enum(b, &labels, 2).unwrap()), "Text(\"b\")");
        assert!(push_enum(&mut RowBatch::new(), &labels, 4).is_err());
        assert!(push_set(&mut RowBatch::new(), &labels, 8).is_err());
    }

    #[test]
    fn binary_is_padded_and_char_trimmed() {
        assert_eq!(
            one(|b| push_string(b, &Meaning::Bytes(Some(3)), &[1]).unwrap()),
            "Bytes([1, 0, 0])"
        );
        assert_eq!(
            one(|b| push_string(b, &Meaning::Text(Charset::Utf16, true), &[0, 97, 0, 32]).unwrap()),
            "Text(\"a\")"
        );
    }
}
