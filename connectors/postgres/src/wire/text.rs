//! Values in their text form (each type's `out` function) into cells.

use thalweg_core::value::{CellRef, Date, DecimalRef, Interval, RowBatch};

use super::cells::{Codec, DAY_MICROS, MOMENT, double, single};
use super::{Malformed, utf8};

const BAD: Malformed = Malformed("a value is not in the text form of its type");

/// Appends a value to the open row. `scratch` is emptied.
pub(crate) fn push(
    codec: Codec,
    bytes: &[u8],
    scratch: &mut Vec<u8>,
    out: &mut RowBatch,
) -> Result<(), Malformed> {
    let text = utf8(bytes)?;
    let cell = match codec {
        Codec::Bool => CellRef::Bool(match text {
            "t" => true,
            "f" => false,
            _ => return Err(BAD),
        }),
        Codec::Int2 => CellRef::I64(text.parse::<i16>().map_err(|_| BAD)?.into()),
        Codec::Int4 => CellRef::I64(text.parse::<i32>().map_err(|_| BAD)?.into()),
        Codec::Int8 => CellRef::I64(text.parse().map_err(|_| BAD)?),
        Codec::Oid => CellRef::U64(text.parse::<u32>().map_err(|_| BAD)?.into()),
        Codec::Float4 => single(text.parse().map_err(|_| BAD)?),
        Codec::Float8 => double(text.parse().map_err(|_| BAD)?),
        Codec::Numeric => CellRef::Decimal(numeric(text, scratch)?),
        Codec::Text => CellRef::Text(text),
        Codec::Padded => CellRef::Text(text.trim_end_matches(' ')),
        Codec::Json | Codec::Jsonb => CellRef::Json(text),
        Codec::Bytea => CellRef::Bytes(bytea(text, scratch)?),
        Codec::Date => CellRef::Date(match text {
            "infinity" => Date::INFINITY,
            "-infinity" => Date::NEG_INFINITY,
            text => era(text, date)?,
        }),
        Codec::Time => CellRef::Time(time(text)?),
        Codec::Timestamp => match text {
            "infinity" => CellRef::Timestamp(Date::INFINITY, 0),
            "-infinity" => CellRef::Timestamp(Date::NEG_INFINITY, 0),
            text => {
                let (date, micros) = moment(text, false)?;
                CellRef::Timestamp(date, micros)
            }
        },
        Codec::Timestamptz => CellRef::Instant(match text {
            "infinity" => i64::MAX,
            "-infinity" => i64::MIN,
            text => {
                let (date, micros) = moment(text, true)?;
                let days = date.to_unix_days().ok_or(BAD)?;
                // In two steps, because the first moments' days alone are out of range.
                days.checked_add(1)
                    .and_then(|days| days.checked_mul(DAY_MICROS))
                    .and_then(|at| at.checked_add(micros - DAY_MICROS))
                    .filter(|at| *at != i64::MAX)
                    .ok_or(MOMENT)?
            }
        }),
        Codec::Interval => CellRef::Interval(interval(text)?),
        Codec::Uuid => CellRef::Uuid(uuid(text)?),
        Codec::Bits => {
            let len = u32::try_from(text.len()).map_err(|_| BAD)?;
            CellRef::Bits(len, bits(text, scratch)?)
        }
        Codec::Other => CellRef::Other(text),
    };
    out.push(cell);
    Ok(())
}

fn numeric<'a>(text: &str, scratch: &'a mut Vec<u8>) -> Result<DecimalRef<'a>, Malformed> {
    match text {
        "NaN" => return Ok(DecimalRef::NaN),
        "Infinity" => return Ok(DecimalRef::Infinity),
        "-Infinity" => return Ok(DecimalRef::NegInfinity),
        _ => {}
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    scratch.clear();
    scratch.extend_from_slice(whole.as_bytes());
    scratch.extend_from_slice(fraction.as_bytes());
    if scratch.is_empty() || !scratch.iter().all(u8::is_ascii_digit) {
        return Err(BAD);
    }
    Ok(DecimalRef::Finite {
        negative,
        scale: u16::try_from(fraction.len()).map_err(|_| BAD)?,
        digits: scratch,
    })
}

fn bytea<'a>(text: &str, scratch: &'a mut Vec<u8>) -> Result<&'a [u8], Malformed> {
    let digits = text.strip_prefix("\\x").ok_or(BAD)?;
    scratch.clear();
    hex(digits.as_bytes(), scratch)?;
    Ok(scratch)
}

fn hex(digits: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(BAD),
    };
    let (pairs, odd) = digits.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(BAD);
    }
    out.reserve(pairs.len());
    for [high, low] in pairs {
        out.push(nibble(*high)? << 4 | nibble(*low)?);
    }
    Ok(())
}

fn uuid(text: &str) -> Result<[u8; 16], Malformed> {
    let mut out = [0; 16];
    let mut digits = text.bytes().filter(|b| *b != b'-');
    for byte in &mut out {
        let mut nibble = || {
            let digit = char::from(digits.next()?).to_digit(16)?;
            u8::try_from(digit).ok()
        };
        let (high, low) = (nibble().ok_or(BAD)?, nibble().ok_or(BAD)?);
        *byte = high << 4 | low;
    }
    match digits.next() {
        None => Ok(out),
        Some(_) => Err(BAD),
    }
}

fn bits<'a>(text: &str, scratch: &'a mut Vec<u8>) -> Result<&'a [u8], Malformed> {
    scratch.clear();
    for eight in text.as_bytes().chunks(8) {
        let mut byte = 0;
        for place in 0..8 {
            byte = byte << 1
                | match eight.get(place) {
                    Some(b'1') => 1,
                    Some(b'0') | None => 0,
                    Some(_) => return Err(BAD),
                };
        }
        scratch.push(byte);
    }
    Ok(scratch)
}

/// Reads what may end in ` BC`, and gives the astronomical year.
fn era(text: &str, read: impl Fn(&str) -> Result<Date, Malformed>) -> Result<Date, Malformed> {
    match text.strip_suffix(" BC") {
        None => read(text),
        Some(text) => {
            let date = read(text)?;
            Ok(Date {
                year: 1 - date.year,
                ..date
            })
        }
    }
}

fn date(text: &str) -> Result<Date, Malformed> {
    let mut parts = text.splitn(3, '-');
    let mut part = || digits(parts.next().unwrap_or_default());
    let (year, month, day) = (part()?, part()?, part()?);
    let narrow = |part: u32| u8::try_from(part).map_err(|_| BAD);
    Ok(Date {
        year: i32::try_from(year).map_err(|_| BAD)?,
        month: narrow(month)?,
        day: narrow(day)?,
    })
}

/// A number of digits only, which `parse` alone would not ask for.
fn digits(text: &str) -> Result<u32, Malformed> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BAD);
    }
    text.parse().map_err(|_| BAD)
}

fn time(text: &str) -> Result<i64, Malformed> {
    i64::try_from(clock(text)?).map_err(|_| BAD)
}

/// Microseconds of `04:05:06.789`; wide, because the smallest interval has no positive counterpart.
fn clock(text: &str) -> Result<i128, Malformed> {
    let mut parts = text.splitn(3, ':');
    let (hours, minutes) = (parts.next().unwrap_or_default(), parts.next());
    let (minutes, rest) = (minutes.ok_or(BAD)?, parts.next().ok_or(BAD)?);
    let (seconds, fraction) = rest.split_once('.').unwrap_or((rest, "0"));
    if fraction.len() > 6 {
        return Err(BAD);
    }
    let scale = 10_i128.pow(6 - u32::try_from(fraction.len()).map_err(|_| BAD)?);
    let whole = i128::from(digits(hours)?) * 3_600
        + i128::from(digits(minutes)?) * 60
        + i128::from(digits(seconds)?);
    Ok(whole * 1_000_000 + i128::from(digits(fraction)?) * scale)
}

/// `2024-02-29 12:34:56.789`, with `+00` behind it if it has a zone, and `BC` last.
fn moment(text: &str, zone: bool) -> Result<(Date, i64), Malformed> {
    let (text, bc) = match text.strip_suffix(" BC") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let text = match zone {
        true => text.strip_suffix("+00").ok_or(BAD)?,
        false => text,
    };
    let (day, clock) = text.split_once(' ').ok_or(BAD)?;
    let mut day = date(day)?;
    if bc {
        day.year = 1 - day.year;
    }
    Ok((day, time(clock)?))
}

/// `1 year -2 mons +3 days -04:05:06.789`, the style `postgres`.
fn interval(text: &str) -> Result<Interval, Malformed> {
    let all = |sign: bool| match sign {
        true => Interval {
            months: i32::MAX,
            days: i32::MAX,
            micros: i64::MAX,
        },
        false => Interval {
            months: i32::MIN,
            days: i32::MIN,
            micros: i64::MIN,
        },
    };
    match text {
        "infinity" => return Ok(all(true)),
        "-infinity" => return Ok(all(false)),
        _ => {}
    }
    let (mut months, mut days, mut micros) = (0_i64, 0_i64, 0_i128);
    let mut words = text.split(' ');
    while let Some(word) = words.next() {
        if word.contains(':') {
            let (sign, word) = match word.strip_prefix('-') {
                Some(word) => (-1, word),
                None => (1, word.strip_prefix('+').unwrap_or(word)),
            };
            micros = sign * clock(word)?;
            continue;
        }
        let number: i64 = word.parse().map_err(|_| BAD)?;
        match words.next().ok_or(BAD)? {
            "year" | "years" => months = number.checked_mul(12).ok_or(BAD)?,
            "mon" | "mons" => months = months.checked_add(number).ok_or(BAD)?,
            "day" | "days" => days = number,
            _ => return Err(BAD),
        }
    }
    Ok(Interval {
        months: i32::try_from(months).map_err(|_| BAD)?,
        days: i32::try_from(days).map_err(|_| BAD)?,
        micros: i64::try_from(micros).map_err(|_| BAD)?,
    })
}
