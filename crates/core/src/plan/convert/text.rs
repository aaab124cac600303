//! Text forms, octets and bits of every kind of cell.
//!
//! | cell | text |
//! | --- | --- |
//! | truth value | `true`, `false` |
//! | integer, decimal | its digits, `NaN`, `Infinity`, `-Infinity` |
//! | float | the fewest digits that read back as the same float; exponents as in `1e+20` |
//! | octets | the octets, which have to be UTF-8; a geometry: EWKB in hexadecimal |
//! | date, timestamp, moment | ISO 8601 with a space: `2024-01-02 03:04:05.6`, a moment with `+00` behind it, years before 1 with ` BC` behind all; `infinity`, `-infinity` |
//! | time | `-838:59:59.999999` |
//! | interval | as PostgreSQL writes it: `1 year 2 mons -3 days +04:05:06.7` |
//! | UUID | 36 characters, lower case |
//! | bits | `0` and `1` |
//!
//! EWKB is how PostGIS writes a geometry with its SRID
//! (<https://postgis.net/docs/ST_AsEWKB.html>): WKB in which bit 29 of the type says that the SRID
//! comes behind it. MySQL stores the SRID (32 bits, little-endian) and then WKB
//! (<https://dev.mysql.com/doc/refman/8.4/en/gis-data-formats.html>).

use std::fmt::Arguments;
use std::io::Write as _;

use super::{ConvertError, Form, WRONG_KIND, refuse, time};
use crate::value::{CellRef, Date, Interval, RowBatch, Varying};

const TOO_LONG: &str = "the value is longer than the target column";

pub(super) fn text(
    raw: &[u8],
    cell: CellRef<'_>,
    max_chars: Option<u32>,
    form: Form,
    out: &mut RowBatch,
) -> Result<(), ConvertError> {
    if let CellRef::Text(v) = cell {
        limit(v.as_bytes(), max_chars)?;
        out.push_raw(raw);
        return Ok(());
    }
    out.push_with(Varying::Text, |to| {
        let start = to.len();
        write(cell, form, to)?;
        limit(to.get(start..).unwrap_or_default(), max_chars)
    })
}

/// Checks a limit in characters of UTF-8. Octets bound characters from above, so counting is needed
/// for long values only.
fn limit(text: &[u8], max_chars: Option<u32>) -> Result<(), ConvertError> {
    let Some(max) = max_chars else { return Ok(()) };
    let max = max as usize;
    let chars = || text.iter().filter(|b| **b & 0xc0 != 0x80).count();
    if text.len() > max && chars() > max {
        return refuse(TOO_LONG);
    }
    Ok(())
}

/// Appends octets as text, U+FFFD where they are none.
pub(super) fn near(
    cell: CellRef<'_>,
    max_chars: Option<u32>,
    out: &mut RowBatch,
) -> Result<bool, ConvertError> {
    let CellRef::Bytes(octets) = cell else {
        return refuse(TOO_LONG);
    };
    let text = String::from_utf8_lossy(octets);
    limit(text.as_bytes(), max_chars)?;
    out.push(CellRef::Text(&text));
    Ok(true)
}

pub(super) fn other(cell: CellRef<'_>, form: Form, out: &mut RowBatch) -> Result<(), ConvertError> {
    out.push_with(Varying::Other, |to| write(cell, form, to))
}

pub(super) fn bytes(
    raw: &[u8],
    cell: CellRef<'_>,
    max_bytes: Option<u32>,
    form: Form,
    out: &mut RowBatch,
) -> Result<(), ConvertError> {
    let fits = |len: usize| max_bytes.is_none_or(|max| len <= max as usize);
    let plain = match cell {
        CellRef::Bytes(v) if form == Form::Geometry => {
            let (head, rest) = ewkb(v)?;
            if !fits(head.get().len() + rest.len()) {
                return refuse(TOO_LONG);
            }
            return out.push_with(Varying::Bytes, |to| {
                to.extend_from_slice(head.get());
                to.extend_from_slice(rest);
                Ok(())
            });
        }
        CellRef::Bytes(v) => {
            if !fits(v.len()) {
                return refuse(TOO_LONG);
            }
            out.push_raw(raw);
            return Ok(());
        }
        CellRef::Text(v) | CellRef::Json(v) | CellRef::Other(v) => v.as_bytes(),
        CellRef::Uuid(ref v) => v.as_slice(),
        CellRef::Bits(_, v) => v,
        _ => return refuse(WRONG_KIND),
    };
    if !fits(plain.len()) {
        return refuse(TOO_LONG);
    }
    out.push(CellRef::Bytes(plain));
    Ok(())
}

/// Appends the text form of a cell that carries a value.
fn write(cell: CellRef<'_>, form: Form, to: &mut Vec<u8>) -> Result<(), ConvertError> {
    match cell {
        CellRef::Text(v) | CellRef::Json(v) | CellRef::Other(v) => {
            to.extend_from_slice(v.as_bytes());
            Ok(())
        }
        CellRef::Bytes(v) if form == Form::Geometry => {
            let (head, rest) = ewkb(v)?;
            hex(head.get(), to);
            hex(rest, to);
            Ok(())
        }
        CellRef::Bytes(v) => match std::str::from_utf8(v) {
            Ok(_) => {
                to.extend_from_slice(v);
                Ok(())
            }
            Err(_) => refuse("the octets are not text in UTF-8"),
        },
        CellRef::Bool(v) => put(to, format_args!("{v}")),
        CellRef::I64(v) => put(to, format_args!("{v}")),
        CellRef::U64(v) => put(to, format_args!("{v}")),
        CellRef::F32(v) => float(to, v.into(), format_args!("{v}"), format_args!("{v:e}")),
        CellRef::F64(v) => float(to, v, format_args!("{v}"), format_args!("{v:e}")),
        CellRef::Decimal(v) => put(to, format_args!("{v}")),
        CellRef::Date(v) => write_date(v, None, form, to),
        CellRef::Timestamp(date, micros) => write_date(date, Some((micros, "")), form, to),
        CellRef::Instant(at) => {
            let (date, micros) = time::civil(at)?;
            write_date(date, Some((micros, "+00")), form, to)
        }
        CellRef::Time(micros) => {
            let sign = if micros < 0 { "-" } else { "" };
            put(to, format_args!("{sign}"))?;
            clock(micros.unsigned_abs(), to)
        }
        CellRef::Interval(v) => interval(v, to),
        CellRef::Uuid(v) => {
            for (index, byte) in v.iter().enumerate() {
                let dash = if matches!(index, 4 | 6 | 8 | 10) {
                    "-"
                } else {
                    ""
                };
                put(to, format_args!("{dash}{byte:02x}"))?;
            }
            Ok(())
        }
        CellRef::Bits(len, bits) => {
            let digits = bits
                .iter()
                .flat_map(|byte| (0..8).rev().map(move |place| b'0' + (byte >> place & 1)));
            to.extend(digits.take(len as usize));
            Ok(())
        }
        CellRef::Null | CellRef::Unchanged | CellRef::Absent => refuse(WRONG_KIND),
    }
}

fn put(to: &mut Vec<u8>, args: Arguments<'_>) -> Result<(), ConvertError> {
    to.write_fmt(args)
        .or_else(|_| refuse("the value cannot be written as text"))
}

/// As PostgreSQL writes floats: an exponent where there would be many zeros.
fn float(
    to: &mut Vec<u8>,
    value: f64,
    plain: Arguments<'_>,
    scientific: Arguments<'_>,
) -> Result<(), ConvertError> {
    if value.is_nan() {
        return put(to, format_args!("NaN"));
    }
    if value.is_infinite() {
        let sign = if value < 0.0 { "-" } else { "" };
        return put(to, format_args!("{sign}Infinity"));
    }
    let size = value.abs();
    if size == 0.0 || (1e-4..1e15).contains(&size) {
        return put(to, plain);
    }
    let start = to.len();
    put(to, scientific)?;
    // `1e20` becomes `1e+20`, `1e-5` becomes `1e-05`.
    let at = to.iter().skip(start).position(|b| *b == b'e');
    let Some(at) = at.map(|at| start + at + 1) else {
        return Ok(());
    };
    let at = match to.get(at) {
        Some(b'-') => at + 1,
        _ => {
            to.insert(at, b'+');
            at + 1
        }
    };
    if to.len() - at == 1 {
        to.insert(at, b'0');
    }
    Ok(())
}

fn write_date(
    date: Date,
    behind: Option<(i64, &str)>,
    form: Form,
    to: &mut Vec<u8>,
) -> Result<(), ConvertError> {
    match date {
        Date::INFINITY => return put(to, format_args!("infinity")),
        Date::NEG_INFINITY => return put(to, format_args!("-infinity")),
        _ => {}
    }
    let Date { year, month, day } = date;
    let before = form != Form::Lenient && year <= 0;
    let shown = if before {
        1 - i64::from(year)
    } else {
        i64::from(year)
    };
    put(to, format_args!("{shown:04}-{month:02}-{day:02}"))?;
    if let Some((micros, zone)) = behind {
        put(to, format_args!(" "))?;
        clock(micros.unsigned_abs(), to)?;
        put(to, format_args!("{zone}"))?;
    }
    if before {
        put(to, format_args!(" BC"))?;
    }
    Ok(())
}

fn clock(micros: u64, to: &mut Vec<u8>) -> Result<(), ConvertError> {
    let seconds = micros / 1_000_000;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    put(
        to,
        format_args!("{hours:02}:{minutes:02}:{:02}", seconds % 60),
    )?;
    fraction(micros % 1_000_000, to)
}

fn fraction(micros: u64, to: &mut Vec<u8>) -> Result<(), ConvertError> {
    if micros == 0 {
        return Ok(());
    }
    put(to, format_args!(".{micros:06}"))?;
    while to.last() == Some(&b'0') {
        to.pop();
    }
    Ok(())
}

/// `EncodeInterval` of PostgreSQL with `INTSTYLE_POSTGRES`, its default. Each part has its own sign,
/// and a plus where the one before has a minus.
fn interval(value: Interval, to: &mut Vec<u8>) -> Result<(), ConvertError> {
    let Interval {
        months,
        days,
        micros,
    } = value;
    match (months, days, micros) {
        // From version 17 on.
        (i32::MAX, i32::MAX, i64::MAX) => return put(to, format_args!("infinity")),
        (i32::MIN, i32::MIN, i64::MIN) => return put(to, format_args!("-infinity")),
        _ => {}
    }
    let (mut space, mut plus) = ("", "");
    for (number, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if number == 0 {
            continue;
        }
        let plus_here = if number > 0 { plus } else { "" };
        let plural = if number == 1 { "" } else { "s" };
        put(
            to,
            format_args!("{space}{plus_here}{number} {unit}{plural}"),
        )?;
        space = " ";
        plus = if number < 0 { "+" } else { "" };
    }
    if micros == 0 && !space.is_empty() {
        return Ok(());
    }
    let sign = if micros < 0 { "-" } else { plus };
    put(to, format_args!("{space}{sign}"))?;
    clock(micros.unsigned_abs(), to)
}

pub(super) fn uuid<'a>(cell: CellRef<'_>) -> Result<CellRef<'a>, ConvertError> {
    const NOT_ONE: &str = "the value is not a UUID";
    match cell {
        CellRef::Uuid(v) => Ok(CellRef::Uuid(v)),
        CellRef::Bytes(v) => v
            .try_into()
            .map(CellRef::Uuid)
            .or_else(|_| refuse("the value does not have 16 octets")),
        CellRef::Text(v) => {
            let mut uuid = [0; 16];
            let mut digits = 0;
            for (at, byte) in v.bytes().enumerate() {
                if matches!(at, 8 | 13 | 18 | 23) {
                    if byte != b'-' {
                        return refuse(NOT_ONE);
                    }
                    continue;
                }
                let Some(slot) = uuid.get_mut(digits / 2) else {
                    return refuse(NOT_ONE);
                };
                *slot = *slot << 4 | digit(byte)?;
                digits += 1;
            }
            if digits != 32 {
                return refuse(NOT_ONE);
            }
            Ok(CellRef::Uuid(uuid))
        }
        _ => refuse(WRONG_KIND),
    }
}

fn digit(byte: u8) -> Result<u8, ConvertError> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        b'A'..=b'F' => Ok(byte - b'A' + 10),
        _ => refuse("the value is not hexadecimal"),
    }
}

fn hex(bytes: &[u8], to: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |n: u8| DIGITS.get(usize::from(n)).copied().unwrap_or(b'0');
    to.extend(bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]));
}

pub(super) fn bits(
    cell: CellRef<'_>,
    len: Option<u32>,
    varying: bool,
    out: &mut RowBatch,
) -> Result<(), ConvertError> {
    let check = |got: u32| {
        let fits = len.is_none_or(|len| if varying { got <= len } else { got == len });
        if fits {
            Ok(())
        } else {
            refuse("the value has another number of bits than the target column")
        }
    };
    let count = |n: usize| u32::try_from(n).or_else(|_| refuse(TOO_LONG));
    match cell {
        CellRef::Bits(got, bits) => {
            check(got)?;
            out.push(CellRef::Bits(got, bits));
        }
        CellRef::Bytes(v) => {
            let all = count(v.len().saturating_mul(8))?;
            // Octets of a fixed number of bits are filled up with zeros.
            let got = match len {
                Some(len) if !varying && len < all && all - len < 8 => len,
                _ => all,
            };
            check(got)?;
            let unused = all - got;
            let filled = v.last().is_none_or(|b| b.trailing_zeros() >= unused);
            if !filled {
                return refuse("the value has more bits than the target column");
            }
            out.push(CellRef::Bits(got, v));
        }
        CellRef::Text(v) => {
            let mut packed = Vec::with_capacity(v.len().div_ceil(8));
            for eight in v.as_bytes().chunks(8) {
                let mut byte = 0;
                for (place, digit) in eight.iter().enumerate() {
                    match digit {
                        b'0' => {}
                        b'1' => byte |= 0x80 >> place,
                        _ => return refuse("the text has other characters than 0 and 1"),
                    }
                }
                packed.push(byte);
            }
            let got = count(v.len())?;
            check(got)?;
            out.push(CellRef::Bits(got, &packed));
        }
        CellRef::I64(_) | CellRef::U64(_) | CellRef::Bool(_) => {
            let len = len.unwrap_or(64).clamp(1, 64);
            let max = u64::MAX >> (64 - len);
            let CellRef::U64(value) = super::number::int(cell, 0, max, true)? else {
                return refuse(WRONG_KIND);
            };
            let bytes = (value << (64 - len)).to_be_bytes();
            let used = bytes.get(..len.div_ceil(8) as usize).unwrap_or(&bytes);
            out.push(CellRef::Bits(len, used));
        }
        _ => return refuse(WRONG_KIND),
    }
    Ok(())
}

/// Whether the target has the labels, in its order. It has to be asked here because a server may
/// take a label for another that its collation finds equal, or put labels into another order.
pub(super) fn labels(
    cell: CellRef<'_>,
    labels: &[String],
    several: bool,
) -> Result<(), ConvertError> {
    let CellRef::Text(text) = cell else {
        return refuse(WRONG_KIND);
    };
    let place = |label: &str| labels.iter().position(|l| l == label);
    if !several {
        return match place(text) {
            Some(_) => Ok(()),
            None => refuse("the target column has no such label"),
        };
    }
    if text.is_empty() {
        return Ok(());
    }
    let mut last = None;
    for label in text.split(',') {
        let place = place(label);
        if place.is_none() {
            return refuse("the target column has no such label");
        }
        if place <= last {
            return refuse("the labels are not in the order of the target column");
        }
        last = place;
    }
    Ok(())
}

/// The first octets of EWKB: byte order, type, and the SRID unless it is 0.
struct Head {
    bytes: [u8; 9],
    len: usize,
}

impl Head {
    fn get(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Bit 29 of the type: an SRID follows. Bits 30 and 31: M and Z.
const SRID: u32 = 0x2000_0000;
const DIMENSIONS: u32 = 0xc000_0000;

/// EWKB of a geometry in MySQL's storage form: its head, and the rest as it is stored.
fn ewkb(stored: &[u8]) -> Result<(Head, &[u8]), ConvertError> {
    const BROKEN: &str = "the geometry is cut short";
    let Some((srid, wkb)) = stored.split_first_chunk::<4>() else {
        return refuse(BROKEN);
    };
    let Some((&[order, a, b, c, d], rest)) = wkb.split_first_chunk::<5>() else {
        return refuse(BROKEN);
    };
    let kind = match order {
        1 => u32::from_le_bytes([a, b, c, d]),
        0 => u32::from_be_bytes([a, b, c, d]),
        _ => return refuse("the geometry is not in its storage form"),
    };
    let srid = u32::from_le_bytes(*srid);
    let in_order = |n: u32| {
        if order == 1 {
            n.to_le_bytes()
        } else {
            n.to_be_bytes()
        }
    };
    let [e, f, g, h] = in_order(srid);
    let [i, j, k, l] = in_order(if srid == 0 { kind } else { kind | SRID });
    let head = Head {
        bytes: [order, i, j, k, l, e, f, g, h],
        len: if srid == 0 { 5 } else { 9 },
    };
    Ok((head, rest))
}

/// A geometry in MySQL's storage form from EWKB.
pub(super) fn geometry(cell: CellRef<'_>, out: &mut RowBatch) -> Result<(), ConvertError> {
    match cell {
        CellRef::Bytes(v) => out.push_with(Varying::Bytes, |to| stored(v.iter().copied(), to)),
        CellRef::Text(v) | CellRef::Other(v) => {
            if v.len() % 2 != 0 {
                return refuse("the value is not hexadecimal");
            }
            for byte in v.bytes() {
                digit(byte)?;
            }
            let value = |b: u8| digit(b).unwrap_or(0);
            let (pairs, _) = v.as_bytes().as_chunks::<2>();
            let octets = pairs.iter().map(|[a, b]| value(*a) << 4 | value(*b));
            out.push_with(Varying::Bytes, |to| stored(octets, to))
        }
        _ => refuse(WRONG_KIND),
    }
}

fn stored(mut ewkb: impl Iterator<Item = u8>, to: &mut Vec<u8>) -> Result<(), ConvertError> {
    const BROKEN: &str = "the value is not a geometry in EWKB";
    let order = ewkb.next();
    let mut number = || {
        let mut four = [0; 4];
        for slot in &mut four {
            *slot = match ewkb.next() {
                Some(byte) => byte,
                None => return refuse(BROKEN),
            };
        }
        match order {
            Some(1) => Ok(u32::from_le_bytes(four)),
            Some(0) => refuse("the geometry is big-endian, which MySQL does not store"),
            _ => refuse(BROKEN),
        }
    };
    let kind = number()?;
    let srid = if kind & SRID != 0 { number()? } else { 0 };
    let plain = kind & !SRID;
    if plain & DIMENSIONS != 0 || !(1..=7).contains(&plain) {
        return refuse("the geometry has more than two dimensions, or is of a kind MySQL lacks");
    }
    to.extend_from_slice(&srid.to_le_bytes());
    to.push(1);
    to.extend_from_slice(&plain.to_le_bytes());
    to.extend(ewkb);
    Ok(())
}
