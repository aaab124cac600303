//! Numbers and times as row images have them.
//!
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/field__types_8h.html>,
//! <https://mariadb.com/kb/en/rows_event_v1v2/>; decimals: "DECIMAL Data Type Characteristics" of the
//! manual; the formats before MySQL 5.6 and those of MariaDB 5.3 with fractions: `sql/field.cc` of
//! MariaDB (`Field_timestamp_hires`, `Field_time_hires`, `Field_datetime_hires`).

use std::borrow::Cow;
use std::io::Read;

use thalweg_core::value::{CellRef, DecimalRef, RowBatch};

use super::cells::Civil;
use super::{Buf, Malformed};

/// `DATE`: 3 bytes, day in 5 bits, month in 4, year above.
pub(super) fn date3(v: u64) -> Civil {
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
pub(super) fn fraction(d: &mut Buf<'_>, fsp: u8) -> Result<i64, Malformed> {
    let n = usize::from(fsp.div_ceil(2));
    let scale = [0, 10_000, 100, 1];
    let raw = d.be(n)?.cast_signed();
    Ok(raw * scale.get(n).copied().unwrap_or(0))
}

/// `DATETIME2`: 5 bytes big-endian: sign, year·13+month in 17 bits, day 5, hour 5, minute 6, second 6.
pub(super) fn datetime2(packed: u64, us: i64) -> Civil {
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
pub(super) fn time2(d: &mut Buf<'_>, fsp: u8) -> Result<i64, Malformed> {
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

/// Digits of a decimal number, with leading zeros as the precision has them.
pub(super) struct Digits {
    pub(super) negative: bool,
    bytes: [u8; 72],
    len: usize,
}

impl Digits {
    pub(super) fn digits(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(b"0")
    }
}

/// `NEWDECIMAL`: groups of nine digits in four big-endian bytes, the odd groups outside; the sign is
/// the inverted first bit, and a negative number has all bits inverted. `scale` ≤ `precision`.
pub(super) fn digits(d: &mut Buf<'_>, precision: u8, scale: u8) -> Result<Digits, Malformed> {
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
    Ok(Digits {
        negative,
        bytes: digits,
        len,
    })
}

/// A `DECIMAL` cell, with zeros behind the digits of the log.
pub(super) fn decimal(
    d: &mut Buf<'_>,
    precision: u8,
    scale: u8,
    zeros: u8,
    out: &mut RowBatch,
) -> Result<(), Malformed> {
    let mut number = digits(d, precision, scale)?;
    // What is behind the digits are zeros.
    number.len += usize::from(zeros);
    out.push(CellRef::Decimal(DecimalRef::Finite {
        negative: number.negative,
        scale: u16::from(scale) + u16::from(zeros),
        digits: number.digits(),
    }));
    Ok(())
}

/// Powers of ten by which a fraction of so many digits falls short of microseconds.
const SHORTFALL: [i64; 7] = [1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];

fn shortfall(fsp: u8) -> Result<i64, Malformed> {
    let found = SHORTFALL.get(usize::from(fsp));
    found.copied().ok_or(Malformed("fraction digits"))
}

/// The bytes of an old format with a fraction of `fsp` digits, given those for each number of digits.
fn hires(d: &mut Buf<'_>, fsp: u8, bytes: [usize; 7]) -> Result<i64, Malformed> {
    let n = bytes
        .get(usize::from(fsp))
        .ok_or(Malformed("fraction digits"))?;
    Ok(d.be(*n)?.cast_signed())
}

/// `TIME` before 5.6: a signed decimal number HHMMSS in 3 bytes; with a fraction the whole in units
/// of the last digit, offset by 839 hours, big-endian.
pub(super) fn old_time(d: &mut Buf<'_>, fsp: u8) -> Result<i64, Malformed> {
    if fsp == 0 {
        let raw = (d.le(3)? << 40).cast_signed() >> 40;
        let (sign, v) = (raw.signum(), raw.abs());
        let seconds = v / 10_000 * 3600 + v / 100 % 100 * 60 + v % 100;
        return Ok(sign * seconds * 1_000_000);
    }
    let unit = shortfall(fsp)?;
    let zero = 839 * 3600 * 1_000_000 / unit;
    let raw = hires(d, fsp, [3, 4, 4, 5, 5, 5, 6])?;
    Ok((raw - zero) * unit)
}

/// `DATETIME` before 5.6: a decimal number YYYYMMDDHHMMSS in 8 bytes; with a fraction fields packed
/// as months of 13, days of 32, hours, minutes, seconds, in units of the last digit, big-endian.
pub(super) fn old_datetime(d: &mut Buf<'_>, fsp: u8) -> Result<Civil, Malformed> {
    if fsp == 0 {
        let v = d.u64()?;
        let (day, time) = (v / 1_000_000, v % 1_000_000);
        let seconds = time / 10_000 * 3600 + time / 100 % 100 * 60 + time % 100;
        return Ok(Civil {
            year: u16::try_from(day / 10_000).map_err(|_| Malformed("DATETIME"))?,
            month: low8(day / 100 % 100),
            day: low8(day % 100),
            day_us: seconds.cast_signed() * 1_000_000,
        });
    }
    let unit = shortfall(fsp)?;
    let raw = hires(d, fsp, [5, 6, 6, 7, 7, 7, 8])?;
    let us = raw.checked_mul(unit).ok_or(Malformed("DATETIME"))?;
    let v = u64::try_from(us).map_err(|_| Malformed("DATETIME"))?;
    let days = v / 86_400_000_000;
    Ok(Civil {
        year: u16::try_from(days / 32 / 13).map_err(|_| Malformed("DATETIME"))?,
        month: low8(days / 32 % 13),
        day: low8(days % 32),
        day_us: (v % 86_400_000_000).cast_signed(),
    })
}

/// `TIMESTAMP` before 5.6, as microseconds: 4 bytes of seconds, little-endian; with a fraction
/// big-endian, and then the fraction in units of its last digit.
pub(super) fn old_timestamp(d: &mut Buf<'_>, fsp: u8) -> Result<i64, Malformed> {
    if fsp == 0 {
        return Ok(i64::from(d.u32()?) * 1_000_000);
    }
    let seconds = d.be(4)?.cast_signed();
    let fraction = hires(d, fsp, [0, 1, 1, 2, 2, 3, 3])?;
    Ok(seconds * 1_000_000 + fraction * shortfall(fsp)?)
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
    filled(flate2::read::ZlibDecoder::new(b.0), len)
}

/// The value of a `COMPRESSED` column: a byte 0 and the value, or `0x80`, the bytes of the length,
/// 8 for deflate without a frame; the big-endian length; the compressed value. Nothing at all is the
/// empty value. `sql/field_comp.cc` of MariaDB.
pub(super) fn column(bytes: &[u8], max: u64) -> Result<Cow<'_, [u8]>, Malformed> {
    let mut b = Buf(bytes);
    let Ok(head) = b.u8() else {
        return Ok(Cow::Borrowed(&[]));
    };
    if head == 0 {
        return Ok(Cow::Borrowed(b.0));
    }
    if head & 0xF0 != 0x80 {
        return Err(Malformed("unknown compression of a column"));
    }
    let len = b.be(usize::from(head & 7))?;
    if len > max {
        return Err(Malformed(
            "a compressed value is larger than the limit for a row",
        ));
    }
    let plain = if head & 8 != 0 {
        filled(flate2::read::DeflateDecoder::new(b.0), len)
    } else {
        filled(flate2::read::ZlibDecoder::new(b.0), len)
    };
    plain.map(Cow::Owned)
}

/// Everything a decoder has, which must be `len` bytes.
fn filled(from: impl Read, len: u64) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::new();
    from.take(len + 1)
        .read_to_end(&mut out)
        .map_err(|_| Malformed("compressed bytes do not inflate"))?;
    if u64::try_from(out.len()) != Ok(len) {
        return Err(Malformed(
            "compressed bytes have another length than they say",
        ));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8], precision: u8, scale: u8, zeros: u8) -> String {
        let mut batch = RowBatch::new();
        decimal(&mut Buf(bytes), precision, scale, zeros, &mut batch).unwrap();
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
        assert_eq!(decoded(&plus, 14, 4, 0), "1234567890.1234");
        assert_eq!(decoded(&minus, 14, 4, 0), "-1234567890.1234");
        assert_eq!(decoded(&minus, 14, 4, 3), "-1234567890.1234000");
    }

    #[test]
    fn compressed_size_is_checked_first() {
        assert!(inflate(&[0x84, 0xFF, 0xFF, 0xFF, 0xFF], 1000).is_err());
        assert!(inflate(&[0x81, 1, 2, 3], 1000).is_err());
        assert!(column(&[0x8C, 0xFF, 0xFF, 0xFF, 0xFF], 1000).is_err());
        assert!(column(&[0x70, 1], 1000).is_err());
        assert_eq!(column(&[], 0).unwrap(), Cow::Borrowed(&[0_u8; 0]));
        assert_eq!(column(&[0, 7], 0).unwrap(), Cow::Borrowed(&[7_u8]));
    }
}
