//! `TABLE_MAP` and row events, into the core's arena.
//!
//! <https://mariadb.com/kb/en/table_map_event/>, <https://mariadb.com/kb/en/rows_event_v1v2/>,
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/classbinary__log_1_1Table__map__event.html>.

use std::io::Read;

use thalweg_core::schema::{ColumnType, TableSchema};
use thalweg_core::value::{CellRef, DecimalRef, RowBatch};

use super::cells::{self, Civil, Meaning};
use super::{Buf, Malformed};

/// How one column's value lies in a row image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Physical {
    /// Little-endian integer of so many bytes.
    Int(u8),
    Float,
    Double,
    /// Precision and scale.
    Decimal(u8, u8),
    Year,
    Date,
    /// Fraction digits.
    Time2(u8),
    Datetime2(u8),
    Timestamp2(u8),
    /// Bytes.
    Bit(u8),
    /// Bytes of the length prefix.
    Str(u8),
    /// Bytes of the index.
    Enum(u8),
    /// Bytes of the mask.
    Set(u8),
}

/// A parsed `TABLE_MAP`.
#[derive(Clone, Debug)]
pub(crate) struct TableMap<'a> {
    pub(crate) id: u64,
    pub(crate) schema: &'a [u8],
    pub(crate) table: &'a [u8],
    types: &'a [u8],
    meta: &'a [u8],
}

impl<'a> TableMap<'a> {
    /// Reads the post-header and the names; column details on demand.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut b = Buf(body);
        let id = b.le(6)?;
        b.take(2)?;
        let schema = b.prefixed(1)?;
        b.take(1)?;
        let table = b.prefixed(1)?;
        b.take(1)?;
        let count = b.lenenc()?;
        let types = b.take(count)?;
        let len = b.lenenc()?;
        let meta = b.take(len)?;
        Ok(TableMap {
            id,
            schema,
            table,
            types,
            meta,
        })
    }

    /// The physical form of every column.
    pub(crate) fn columns(&self) -> Result<Vec<Physical>, Malformed> {
        let mut m = Buf(self.meta);
        let fsp = |n: u8| {
            if n <= 6 {
                Ok(n)
            } else {
                Err(Malformed("fraction digits"))
            }
        };
        let prefix = |max: u16| Physical::Str(if max < 256 { 1 } else { 2 });
        let blob = |n: u8| {
            if (1..=4).contains(&n) {
                Ok(Physical::Str(n))
            } else {
                Err(Malformed("blob length bytes"))
            }
        };
        self.types
            .iter()
            .map(|ty| {
                Ok(match ty {
                    1 => Physical::Int(1),
                    2 => Physical::Int(2),
                    3 => Physical::Int(4),
                    8 => Physical::Int(8),
                    9 => Physical::Int(3),
                    4 => {
                        m.u8()?;
                        Physical::Float
                    }
                    5 => {
                        m.u8()?;
                        Physical::Double
                    }
                    10 | 14 => Physical::Date,
                    13 => Physical::Year,
                    15 | 253 => prefix(m.u16()?),
                    16 => {
                        let (bits, bytes) = (m.u8()?, m.u8()?);
                        let n = bytes.saturating_add(u8::from(bits > 0));
                        if n > 8 {
                            return Err(Malformed("BIT too long"));
                        }
                        Physical::Bit(n)
                    }
                    17 => Physical::Timestamp2(fsp(m.u8()?)?),
                    18 => Physical::Datetime2(fsp(m.u8()?)?),
                    19 => Physical::Time2(fsp(m.u8()?)?),
                    246 => {
                        let (precision, scale) = (m.u8()?, m.u8()?);
                        if precision > 65 || scale > precision {
                            return Err(Malformed("decimal precision"));
                        }
                        Physical::Decimal(precision, scale)
                    }
                    249..=252 | 255 | 245 => blob(m.u8()?)?,
                    254 => {
                        let (hi, lo) = (m.u8()?, m.u8()?);
                        let (real, len) = if hi & 0x30 == 0x30 {
                            (hi, u16::from(lo))
                        } else {
                            let high = u16::from((hi & 0x30) ^ 0x30) << 4;
                            (hi | 0x30, high | u16::from(lo))
                        };
                        match real {
                            247 if len <= 2 => Physical::Enum(lo),
                            248 if len <= 8 => Physical::Set(lo),
                            254 | 253 => prefix(len),
                            _ => return Err(Malformed("string type")),
                        }
                    }
                    7 | 11 | 12 => {
                        return Err(Malformed(
                            "a temporal column in the format before MySQL 5.6",
                        ));
                    }
                    140 | 141 => return Err(Malformed("a COMPRESSED column")),
                    _ => return Err(Malformed("a column type this version does not know")),
                })
            })
            .collect()
    }
}

/// A column ready to decode.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) physical: Physical,
    unsigned: bool,
    meaning: Meaning,
    generated: bool,
}

/// Joins what the log says with what the schema says; `Err` names the column that disagrees.
pub(crate) fn join(physical: &[Physical], schema: &TableSchema) -> Result<Vec<Column>, String> {
    if physical.len() != schema.columns.len() {
        return Err(format!(
            "it has {} columns in the log and {} in the schema",
            physical.len(),
            schema.columns.len()
        ));
    }
    physical
        .iter()
        .zip(&schema.columns)
        .map(|(p, c)| {
            let meaning = cells::meaning(c).ok_or_else(|| {
                format!("the character set of column {} is not built yet", c.name)
            })?;
            let fits = match (p, &c.ty) {
                (Physical::Int(n), ColumnType::Int { bits, .. }) => n * 8 == *bits,
                (Physical::Year, ColumnType::Int { .. }) => meaning == Meaning::Year,
                (Physical::Float, ColumnType::Float32 { .. })
                | (Physical::Double, ColumnType::Float64 { .. })
                | (Physical::Date, ColumnType::Date { .. })
                | (Physical::Bit(_), ColumnType::Bits { .. })
                | (Physical::Enum(_), ColumnType::Enum { .. })
                | (Physical::Set(_), ColumnType::Set { .. }) => true,
                (
                    Physical::Decimal(dp, ds),
                    ColumnType::Decimal {
                        precision, scale, ..
                    },
                ) => *precision == Some(u32::from(*dp)) && *scale == Some(u32::from(*ds)),
                (Physical::Time2(f), ColumnType::Time { precision, .. })
                | (Physical::Datetime2(f), ColumnType::Timestamp { precision, .. })
                | (Physical::Timestamp2(f), ColumnType::Instant { precision, .. }) => {
                    f == precision
                }
                (
                    Physical::Str(_),
                    ColumnType::Text { .. }
                    | ColumnType::Json { .. }
                    | ColumnType::Geometry
                    | ColumnType::Bytes { .. }
                    | ColumnType::Uuid
                    | ColumnType::Other { .. },
                ) => true,
                _ => false,
            };
            if !fits {
                return Err(format!("column {} has another type in the log", c.name));
            }
            Ok(Column {
                physical: *p,
                unsigned: matches!(c.ty, ColumnType::Int { unsigned: true, .. }),
                meaning,
                generated: c.generated,
            })
        })
        .collect()
}

/// The frame of a row event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowsEvent<'a> {
    pub(crate) table_id: u64,
    /// The session had `foreign_key_checks = 0` (flag `NO_FOREIGN_KEY_CHECKS_F`).
    pub(crate) unchecked: bool,
    pub(crate) width: usize,
    pub(crate) present: &'a [u8],
    /// Columns of the after image of an update.
    pub(crate) present_after: &'a [u8],
    pub(crate) data: &'a [u8],
}

impl<'a> RowsEvent<'a> {
    /// `v2`: with extra data; `update`: two bitmaps.
    pub(crate) fn parse(body: &'a [u8], v2: bool, update: bool) -> Result<Self, Malformed> {
        let mut b = Buf(body);
        let table_id = b.le(6)?;
        let unchecked = b.u16()? & 0x2 != 0;
        if v2 {
            let len = usize::from(b.u16()?);
            b.take(len.checked_sub(2).ok_or(Malformed("extra data length"))?)?;
        }
        let width = b.lenenc()?;
        let bitmap = width.div_ceil(8);
        let present = b.take(bitmap)?;
        let present_after = if update { b.take(bitmap)? } else { present };
        Ok(RowsEvent {
            table_id,
            unchecked,
            width,
            present,
            present_after,
            data: b.0,
        })
    }
}

fn bit(map: &[u8], i: usize) -> bool {
    map.get(i / 8).is_some_and(|b| b >> (i % 8) & 1 == 1)
}

/// Whether an image lacks a column that the server does not compute.
pub(crate) fn partial(columns: &[Column], present: &[u8]) -> bool {
    columns
        .iter()
        .enumerate()
        .any(|(i, c)| !c.generated && !bit(present, i))
}

/// One row image, appended as an open row of `out`.
pub(crate) fn image(
    data: &mut Buf<'_>,
    columns: &[Column],
    present: &[u8],
    out: &mut RowBatch,
) -> Result<(), Malformed> {
    let all = (0..columns.len()).filter(|i| bit(present, *i)).count();
    let nulls = data.take(all.div_ceil(8))?;
    let mut nth = 0;
    for (i, column) in columns.iter().enumerate() {
        if !bit(present, i) {
            out.push(CellRef::Absent);
            continue;
        }
        let null = bit(nulls, nth);
        nth += 1;
        if null {
            out.push(CellRef::Null);
        } else {
            cell(data, column, out)?;
        }
    }
    Ok(())
}

fn cell(d: &mut Buf<'_>, c: &Column, out: &mut RowBatch) -> Result<(), Malformed> {
    match c.physical {
        Physical::Int(n) => {
            let raw = d.le(usize::from(n))?;
            if c.unsigned {
                out.push(CellRef::U64(raw));
            } else {
                let shift = 64 - 8 * u32::from(n);
                out.push(CellRef::I64((raw << shift).cast_signed() >> shift));
            }
        }
        Physical::Float => out.push(CellRef::F32(f32::from_bits(d.u32()?))),
        Physical::Double => out.push(CellRef::F64(f64::from_bits(d.u64()?))),
        Physical::Decimal(precision, scale) => decimal(d, precision, scale, out)?,
        Physical::Year => {
            let y = i64::from(d.u8()?);
            out.push(CellRef::I64(if y == 0 { 0 } else { y + 1900 }));
        }
        Physical::Date => cells::push_date(out, date3(d.le(3)?)),
        Physical::Time2(fsp) => out.push(CellRef::Time(time2(d, fsp)?)),
        Physical::Datetime2(fsp) => {
            let packed = d.be(5)?;
            let us = fraction(d, fsp)?;
            cells::push_datetime(out, datetime2(packed, us));
        }
        Physical::Timestamp2(fsp) => {
            let seconds = d.be(4)?;
            let us = fraction(d, fsp)?;
            cells::push_instant(out, (seconds * 1_000_000).cast_signed() + us);
        }
        Physical::Bit(n) => {
            let value = d.be(usize::from(n))?;
            let Meaning::Bits(len) = c.meaning else {
                return Err(Malformed("BIT where the schema has another type"));
            };
            cells::push_bits(out, len, value);
        }
        Physical::Str(n) => cells::push_string(out, &c.meaning, d.prefixed(usize::from(n))?)?,
        Physical::Enum(n) => match &c.meaning {
            Meaning::Enum(labels) => cells::push_enum(out, labels, d.le(usize::from(n))?)?,
            _ => return Err(Malformed("ENUM where the schema has another type")),
        },
        Physical::Set(n) => match &c.meaning {
            Meaning::Set(labels) => cells::push_set(out, labels, d.le(usize::from(n))?)?,
            _ => return Err(Malformed("SET where the schema has another type")),
        },
    }
    Ok(())
}

/// Skips one value; used where no schema is known.
pub(crate) fn skip(d: &mut Buf<'_>, p: Physical) -> Result<(), Malformed> {
    let frac = |f: u8| usize::from(f.div_ceil(2));
    let n = match p {
        Physical::Int(n) | Physical::Bit(n) | Physical::Enum(n) | Physical::Set(n) => {
            usize::from(n)
        }
        Physical::Float => 4,
        Physical::Double => 8,
        Physical::Decimal(precision, scale) => {
            return decimal(d, precision, scale, &mut RowBatch::new());
        }
        Physical::Year => 1,
        Physical::Date => 3,
        Physical::Time2(f) => 3 + frac(f),
        Physical::Datetime2(f) => 5 + frac(f),
        Physical::Timestamp2(f) => 4 + frac(f),
        Physical::Str(n) => return d.prefixed(usize::from(n)).map(drop),
    };
    d.take(n).map(drop)
}

/// `DATE`: 3 bytes, day in 5 bits, month in 4, year above.
fn date3(v: u64) -> Civil {
    Civil {
        year: low16(v >> 9),
        month: low8(v >> 5 & 15),
        day: low8(v & 31),
        day_us: 0,
    }
}

fn low8(v: u64) -> u8 {
    u8::try_from(v & 0xFF).unwrap_or(0)
}

fn low16(v: u64) -> u16 {
    u16::try_from(v & 0xFFFF).unwrap_or(0)
}

/// Microseconds from the `ceil(fsp / 2)` big-endian bytes after a time.
fn fraction(d: &mut Buf<'_>, fsp: u8) -> Result<i64, Malformed> {
    let n = usize::from(fsp.div_ceil(2));
    let scale = [0, 10_000, 100, 1];
    let raw = d.be(n)?.cast_signed();
    Ok(raw * scale.get(n).copied().unwrap_or(0))
}

/// `DATETIME2`: 5 bytes big-endian: sign, year·13+month in 17 bits, day 5, hour 5, minute 6, second 6.
fn datetime2(packed: u64, us: i64) -> Civil {
    let v = packed & 0x7F_FFFF_FFFF;
    let ym = v >> 22;
    let seconds = (v >> 12 & 31) * 3600 + (v >> 6 & 63) * 60 + (v & 63);
    Civil {
        year: low16(ym / 13),
        month: low8(ym % 13),
        day: low8(v >> 17 & 31),
        day_us: seconds.cast_signed() * 1_000_000 + us,
    }
}

/// `TIME2`: 3 bytes plus fraction as one big-endian number, offset so that it sorts; negative
/// values are the negated whole, fraction included.
fn time2(d: &mut Buf<'_>, fsp: u8) -> Result<i64, Malformed> {
    let n = usize::from(fsp.div_ceil(2));
    let bits = 8 * u32::from(fsp.div_ceil(2));
    let raw = d.be(3 + n)?.cast_signed() - (0x80_0000_i64 << bits);
    let magnitude = raw.unsigned_abs();
    let whole = magnitude >> bits;
    let frac = (magnitude & ((1 << bits) - 1)).cast_signed();
    let scale = [0, 10_000, 100, 1].get(n).copied().unwrap_or(0);
    let seconds = (whole >> 12 & 1023) * 3600 + (whole >> 6 & 63) * 60 + (whole & 63);
    let us = seconds.cast_signed() * 1_000_000 + frac * scale;
    Ok(if raw < 0 { -us } else { us })
}

/// Bytes of a group of 0..=9 decimal digits.
const DIG2BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

/// `NEWDECIMAL`: groups of nine digits in four big-endian bytes, the odd groups outside; the sign is
/// the inverted first bit, and a negative number has all bits inverted.
fn decimal(d: &mut Buf<'_>, precision: u8, scale: u8, out: &mut RowBatch) -> Result<(), Malformed> {
    let (whole, frac) = (usize::from(precision - scale), usize::from(scale));
    let of = |n: usize| DIG2BYTES.get(n % 9).copied().unwrap_or(0);
    let size = whole / 9 * 4 + of(whole) + frac / 9 * 4 + of(frac);
    let raw = d.take(size)?;
    let negative = raw.first().is_some_and(|b| b & 0x80 == 0);
    let mask = if negative { 0xFF } else { 0 };
    let mut first = 0x80;
    let mut source = Buf(raw);
    let mut digits = [b'0'; 72];
    let mut len = 0;
    let mut group = |n: usize| -> Result<(), Malformed> {
        if n == 0 {
            return Ok(());
        }
        let bytes = source.take(if n == 9 { 4 } else { of(n) })?;
        let mut v: u32 = 0;
        for b in bytes {
            v = v << 8 | u32::from(b ^ mask ^ first);
            first = 0;
        }
        let slot = digits
            .get_mut(len..len + n)
            .ok_or(Malformed("decimal too long"))?;
        for digit in slot.iter_mut().rev() {
            *digit = b'0' + low8(u64::from(v % 10));
            v /= 10;
        }
        len += n;
        Ok(())
    };
    group(whole % 9)?;
    for _ in 0..whole / 9 {
        group(9)?;
    }
    for _ in 0..frac / 9 {
        group(9)?;
    }
    group(frac % 9)?;
    out.push(CellRef::Decimal(DecimalRef::Finite {
        negative,
        scale: u16::from(scale),
        digits: digits.get(..len).unwrap_or(b"0"),
    }));
    Ok(())
}

/// A compressed part of a MariaDB event: one byte `0x80 | algorithm << 4 | length bytes`, the
/// big-endian length, zlib. The size is checked before anything is inflated.
/// <https://mariadb.com/kb/en/compressing-events-to-reduce-size-of-the-binary-log/>.
pub(crate) fn inflate(bytes: &[u8], max: u64) -> Result<Vec<u8>, Malformed> {
    let mut b = Buf(bytes);
    let head = b.u8()?;
    let n = usize::from(head & 7);
    if head & 0xF0 != 0x80 || n == 0 || n > 4 {
        return Err(Malformed("unknown compression"));
    }
    let len = b.be(n)?;
    if len > max {
        return Err(Malformed(
            "a compressed event is larger than the limit for a row",
        ));
    }
    let mut out = Vec::new();
    flate2::read::ZlibDecoder::new(b.0)
        .take(len + 1)
        .read_to_end(&mut out)
        .map_err(|_| Malformed("a compressed event does not inflate"))?;
    if u64::try_from(out.len()) != Ok(len) {
        return Err(Malformed(
            "a compressed event has another length than it says",
        ));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(bytes: &[u8], precision: u8, scale: u8) -> String {
        let mut batch = RowBatch::new();
        decimal(&mut Buf(bytes), precision, scale, &mut batch).unwrap();
        batch.end_row();
        match batch.row(0).cells().next().unwrap() {
            CellRef::Decimal(d) => d.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn manual_decimal_example() {
        // The manual's 1234567890.1234 as DECIMAL(14,4), and its negative.
        let plus = [0x81, 0x0D, 0xFB, 0x38, 0xD2, 0x04, 0xD2];
        let minus = [0x7E, 0xF2, 0x04, 0xC7, 0x2D, 0xFB, 0x2D];
        assert_eq!(decoded(&plus, 14, 4), "1234567890.1234");
        assert_eq!(decoded(&minus, 14, 4), "-1234567890.1234");
    }

    #[test]
    fn compressed_size_is_checked_first() {
        assert!(inflate(&[0x84, 0xFF, 0xFF, 0xFF, 0xFF], 1000).is_err());
        assert!(inflate(&[0x81, 1, 2, 3], 1000).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), v2: bool, up: bool) {
            if let Ok(map) = TableMap::parse(&bytes) {
                let _ignored = map.columns();
            }
            let _ignored = RowsEvent::parse(&bytes, v2, up);
            let _ignored = inflate(&bytes, 10_000);
            for p in [Physical::Int(3), Physical::Decimal(65, 30), Physical::Time2(5),
                Physical::Datetime2(6), Physical::Timestamp2(3), Physical::Bit(8), Physical::Str(4)] {
                let c = Column { physical: p, unsigned: false, meaning: Meaning::Bytes(None), generated: false };
                let _ignored = cell(&mut Buf(&bytes), &c, &mut RowBatch::new());
            }
        }
    }
}
