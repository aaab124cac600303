//! The table: source type × target type → converter, verdict and note.
//!
//! It is written by target, one function for each kind. Where a function does not name a source
//! type there is no conversion: no number is made of text and no date of a number, because what
//! the text means would have to be guessed.

mod numbers;

use std::sync::Arc;

use super::{Converter, Form, Pair, Verdict};
use crate::schema::{Calendar, ColumnType as T};
use Verdict::{Exact, Impossible, Lossy, Narrowing, Widening};
use numbers::{decimal, float, int, int_digits, truth};

pub(super) fn pair(source: &T, target: &T) -> Pair {
    match target {
        T::Bool => truth(source),
        T::Int { bits, unsigned } => int(source, *bits, *unsigned),
        T::Float32 { special } => float(source, true, *special),
        T::Float64 { special } => float(source, false, *special),
        T::Decimal {
            precision,
            scale,
            special,
        } => decimal(source, *precision, *scale, *special),
        T::Text { max_chars } => text(source, *max_chars),
        T::Bytes { max_bytes } => bytes(source, *max_bytes),
        T::Date { calendar } => date(source, *calendar),
        T::Time { of_day, precision } => time(source, *of_day, *precision),
        T::Timestamp {
            calendar,
            precision,
        } => timestamp(source, *calendar, *precision),
        T::Instant {
            calendar,
            precision,
        } => instant(source, *calendar, *precision),
        T::Interval => interval(source),
        T::Uuid => uuid(source),
        T::Json { normalised } => json(source, *normalised),
        T::Bits { len, varying } => bits(source, *len, *varying),
        T::Enum { labels } => labels_of(source, labels, false),
        T::Set { labels } => labels_of(source, labels, true),
        T::Geometry => geometry(source),
        T::Other { system, name } => other(source, system, name),
    }
}

fn entry(converter: Converter, verdict: Verdict, note: &'static str) -> Pair {
    Pair {
        converter,
        verdict,
        note,
    }
}

fn copy(verdict: Verdict) -> Pair {
    entry(Converter::Copy, verdict, "")
}

fn impossible() -> Pair {
    entry(Converter::Copy, Impossible, "")
}

/// Widening if every value fits.
fn widening(fits: bool) -> Verdict {
    if fits { Widening } else { Narrowing }
}

/// The longest text form of a type in characters; `None`: no limit.
fn text_chars(source: &T) -> Option<u32> {
    let count = |n: usize| u32::try_from(n).ok();
    match source {
        T::Bool => Some(5),
        T::Int { bits, unsigned } => Some(int_digits(*bits, *unsigned) + u32::from(!unsigned)),
        T::Float32 { .. } => Some(16),
        T::Float64 { .. } => Some(24),
        // Sign, point, and a zero in front of it; NaN and infinity.
        T::Decimal {
            precision, scale, ..
        } => precision.map(|p| (p.max(scale.unwrap_or(0)) + 3).max(9)),
        T::Text { max_chars } => *max_chars,
        T::Enum { labels } => count(labels.iter().map(|l| l.chars().count()).max().unwrap_or(0)),
        T::Set { labels } => {
            let all: usize = labels.iter().map(|l| l.chars().count() + 1).sum();
            count(all.saturating_sub(1))
        }
        T::Date {
            calendar: Calendar::Lenient,
        } => Some(10),
        T::Date { .. } => Some(16),
        T::Time { .. } => Some(17),
        T::Timestamp { .. } => Some(32),
        T::Instant { .. } => Some(35),
        T::Uuid => Some(36),
        T::Bits { len, .. } => *len,
        T::Bytes { max_bytes } => *max_bytes,
        T::Interval | T::Json { .. } | T::Geometry | T::Other { .. } => None,
    }
}

fn text(source: &T, max_chars: Option<u32>) -> Pair {
    let longest = text_chars(source);
    let fits = match (longest, max_chars) {
        (_, None) => true,
        (Some(longest), Some(max)) => longest <= max,
        (None, Some(_)) => false,
    };
    let form = match source {
        T::Geometry => Form::Geometry,
        T::Date {
            calendar: Calendar::Lenient,
        }
        | T::Timestamp {
            calendar: Calendar::Lenient,
            ..
        }
        | T::Instant {
            calendar: Calendar::Lenient,
            ..
        } => Form::Lenient,
        _ => Form::Plain,
    };
    let converter = Converter::Text { max_chars, form };
    match source {
        T::Text { max_chars: from } if *from == max_chars => copy(Exact),
        T::Text { .. } | T::Enum { .. } | T::Set { .. } if fits => copy(Widening),
        T::Text { .. } | T::Enum { .. } | T::Set { .. } => entry(converter, Narrowing, ""),
        T::Bytes { .. } => entry(converter, Narrowing, "octets that are text in UTF-8"),
        T::Geometry => entry(
            converter,
            widening(fits),
            "EWKB in hexadecimal, as PostGIS writes it",
        ),
        T::Bool => entry(converter, widening(fits), "`true` or `false`"),
        T::Float32 { .. } | T::Float64 { .. } => entry(
            converter,
            widening(fits),
            "the fewest digits that read back as the same float",
        ),
        T::Interval => entry(
            converter,
            widening(fits),
            "as PostgreSQL writes it, such as `1 year 2 mons -3 days +04:05:06.7`",
        ),
        T::Date { .. } | T::Timestamp { .. } => entry(
            converter,
            widening(fits),
            "ISO 8601 with a space, such as `2024-01-02 03:04:05.6`",
        ),
        T::Instant { .. } => entry(
            converter,
            widening(fits),
            "in UTC, such as `2024-01-02 03:04:05.6+00`",
        ),
        T::Bits { .. } => entry(converter, widening(fits), "`0` and `1`"),
        T::Other { .. } => entry(converter, widening(fits), "the text its engine writes"),
        T::Json { .. } => entry(converter, widening(fits), "the text of the document"),
        T::Int { .. } | T::Decimal { .. } | T::Time { .. } | T::Uuid => {
            entry(converter, widening(fits), "")
        }
    }
}

fn bytes(source: &T, max_bytes: Option<u32>) -> Pair {
    let within = |longest: Option<u32>| match (longest, max_bytes) {
        (_, None) => true,
        (Some(longest), Some(max)) => longest <= max,
        (None, Some(_)) => false,
    };
    let plain = Converter::Bytes {
        max_bytes,
        form: Form::Plain,
    };
    match source {
        T::Bytes { max_bytes: from } if *from == max_bytes => copy(Exact),
        T::Bytes { max_bytes: from } if within(*from) => copy(Widening),
        T::Bytes { .. } => entry(plain, Narrowing, ""),
        T::Text { .. } | T::Enum { .. } | T::Set { .. } | T::Json { .. } | T::Other { .. } => {
            let longest = text_chars(source).and_then(|chars| chars.checked_mul(4));
            entry(plain, widening(within(longest)), "the text in UTF-8")
        }
        T::Uuid => entry(
            plain,
            widening(within(Some(16))),
            "16 octets in the order they are written",
        ),
        T::Bits {
            len,
            varying: false,
        } => entry(
            plain,
            widening(within(len.map(|len| len.div_ceil(8)))),
            "the first bit the highest, the last octet filled with zeros",
        ),
        T::Bits { .. } => entry(
            plain,
            Lossy,
            "the last octet is filled with zeros, the number of bits is not kept",
        ),
        T::Geometry => entry(
            Converter::Bytes {
                max_bytes,
                form: Form::Geometry,
            },
            widening(max_bytes.is_none()),
            "EWKB: WKB with the SRID inside, unless that is 0",
        ),
        _ => impossible(),
    }
}

const LENIENT: &str = "years 0 to 9999, no infinity";
const REAL: &str = "days of the calendar: no zero date, no day past its month";
const TIMESTAMP: &str = "1970-01-01 00:00:01 to 2038-01-19 03:14:07 UTC";

/// What a calendar does not have of another's days.
fn days(source: Calendar, target: Calendar) -> (Verdict, &'static str) {
    match (source, target) {
        (Calendar::Real, Calendar::Lenient) => (Narrowing, LENIENT),
        (Calendar::Lenient, Calendar::Real) => (Narrowing, REAL),
        _ => (Widening, ""),
    }
}

/// As [`days`], with a fraction that may be too long.
fn moments(source: (Calendar, u8), target: (Calendar, u8)) -> (Verdict, &'static str) {
    match days(source.0, target.0) {
        (Widening, _) if source.1 > target.1 => (
            Narrowing,
            "fractions with no more digits than the target column has",
        ),
        other => other,
    }
}

fn date(source: &T, calendar: Calendar) -> Pair {
    let converter = Converter::Date(calendar);
    match source {
        T::Date { calendar: from } if *from == calendar => copy(Exact),
        T::Date { calendar: from } => {
            let (verdict, note) = days(*from, calendar);
            entry(converter, verdict, note)
        }
        T::Timestamp { .. } => entry(converter, Narrowing, "midnight only"),
        T::Instant { .. } => entry(converter, Narrowing, "midnight in UTC only"),
        _ => impossible(),
    }
}

fn timestamp(source: &T, calendar: Calendar, precision: u8) -> Pair {
    let converter = Converter::Timestamp {
        calendar,
        precision,
    };
    match source {
        T::Timestamp {
            calendar: from,
            precision: digits,
        } => {
            if (*from, *digits) == (calendar, precision) {
                return copy(Exact);
            }
            match moments((*from, *digits), (calendar, precision)) {
                (Widening, _) => copy(Widening),
                (verdict, note) => entry(converter, verdict, note),
            }
        }
        T::Date { calendar: from } => {
            let (verdict, note) = days(*from, calendar);
            entry(
                converter,
                verdict,
                if note.is_empty() { "midnight" } else { note },
            )
        }
        T::Instant {
            calendar: from,
            precision: digits,
        } => {
            let (verdict, note) = moments((*from, *digits), (calendar, precision));
            entry(
                converter,
                verdict,
                match note {
                    LENIENT => "the civil time in UTC; years 0 to 9999, no infinity",
                    REAL => "the civil time in UTC; no zero date",
                    "" => "the civil time in UTC",
                    _ => "the civil time in UTC; fractions as long as the target column's",
                },
            )
        }
        _ => impossible(),
    }
}

fn instant(source: &T, calendar: Calendar, precision: u8) -> Pair {
    let converter = Converter::Instant {
        calendar,
        precision,
    };
    match source {
        T::Instant {
            calendar: from,
            precision: digits,
        } => {
            if (*from, *digits) == (calendar, precision) {
                return copy(Exact);
            }
            match moments((*from, *digits), (calendar, precision)) {
                (Widening, _) => copy(Widening),
                (verdict, LENIENT) => entry(converter, verdict, TIMESTAMP),
                (verdict, REAL) => entry(converter, verdict, "no zero date"),
                (verdict, note) => entry(converter, verdict, note),
            }
        }
        T::Timestamp { .. } | T::Date { .. } => entry(
            converter,
            Lossy,
            "taken as civil time in UTC, which the source does not say",
        ),
        _ => impossible(),
    }
}

fn time(source: &T, of_day: bool, precision: u8) -> Pair {
    let converter = Converter::Time { of_day, precision };
    match source {
        T::Time {
            of_day: from,
            precision: digits,
        } => match (*from, of_day) {
            (false, true) => entry(converter, Narrowing, "0 to 24 hours"),
            _ if *digits > precision => entry(
                converter,
                Narrowing,
                "fractions with no more digits than the target column has",
            ),
            (from, to) if from == to && *digits == precision => copy(Exact),
            _ => copy(Widening),
        },
        T::Interval => entry(
            converter,
            Narrowing,
            if of_day {
                "0 to 24 hours, without days or months"
            } else {
                "within 838:59:59.999999, without days or months"
            },
        ),
        _ => impossible(),
    }
}

fn interval(source: &T) -> Pair {
    match source {
        T::Interval => copy(Exact),
        T::Time { .. } => entry(Converter::Interval, Widening, ""),
        _ => impossible(),
    }
}

fn uuid(source: &T) -> Pair {
    match source {
        T::Uuid => copy(Exact),
        T::Text { .. } => entry(
            Converter::Uuid,
            Narrowing,
            "36 characters with hyphens; letters come out in lower case",
        ),
        T::Bytes { .. } => entry(
            Converter::Uuid,
            Narrowing,
            "16 octets in the order they are written",
        ),
        _ => impossible(),
    }
}

fn json(source: &T, normalised: bool) -> Pair {
    const KEPT: &str =
        "values stay; spaces, the order of keys and all but the last of repeated keys do not";
    match source {
        T::Json { normalised: from } => match (*from, normalised) {
            (false, true) => entry(Converter::Copy, Lossy, KEPT),
            (true, false) => entry(
                Converter::Copy,
                Widening,
                "the text as the source prints it",
            ),
            _ => copy(Exact),
        },
        T::Text { .. } if normalised => entry(Converter::Json, Lossy, KEPT),
        T::Text { .. } => entry(
            Converter::Json,
            Narrowing,
            "documents that the target accepts",
        ),
        _ => impossible(),
    }
}

fn bits(source: &T, len: Option<u32>, varying: bool) -> Pair {
    let converter = Converter::Bits { len, varying };
    match source {
        T::Bits {
            len: from,
            varying: from_varying,
        } => {
            if (*from, *from_varying) == (len, varying) {
                return copy(Exact);
            }
            let within = match (from, len) {
                (_, None) => true,
                (Some(from), Some(len)) => *from <= len,
                (None, Some(_)) => false,
            };
            match (varying, within) {
                (true, true) => copy(Widening),
                (true, false) => entry(converter, Narrowing, "bits no more than the target has"),
                (false, _) if *from_varying => entry(
                    converter,
                    Narrowing,
                    "exactly as many bits as the target has",
                ),
                // No value has the length the other type wants.
                (false, _) => impossible(),
            }
        }
        T::Bool if len == Some(1) => entry(converter, Widening, "false is 0, true is 1"),
        T::Int { bits, unsigned } if !varying && len.is_some_and(|len| len <= 64) => {
            let fits = *unsigned && len.is_some_and(|len| u32::from(*bits) <= len);
            entry(
                converter,
                widening(fits),
                "the number in binary, zeros in front; not negative",
            )
        }
        T::Text { .. } => entry(
            converter,
            Narrowing,
            "`0` and `1`, as many as the target has",
        ),
        T::Bytes { .. } => entry(
            converter,
            Narrowing,
            "the first bit the highest; as many as the target has",
        ),
        _ => impossible(),
    }
}

fn labels_of(source: &T, target: &Vec<String>, several: bool) -> Pair {
    let converter = Converter::Labels {
        labels: Arc::from(target.as_slice()),
        several,
    };
    match source {
        T::Enum { labels } if !several => {
            if labels == target {
                copy(Exact)
            } else {
                match labels.iter().all(|label| target.contains(label)) {
                    true => copy(Widening),
                    false => entry(converter, Narrowing, "labels that the target has"),
                }
            }
        }
        T::Set { labels } if several => {
            if labels == target {
                copy(Exact)
            } else {
                let mut rest = target.iter();
                match labels.iter().all(|label| rest.any(|other| other == label)) {
                    true => copy(Widening),
                    false => entry(
                        converter,
                        Narrowing,
                        "labels that the target has, in its order",
                    ),
                }
            }
        }
        T::Enum { .. } | T::Text { .. } => entry(
            converter,
            Narrowing,
            if several {
                "labels that the target has, joined with commas in its order"
            } else {
                "labels that the target has"
            },
        ),
        _ => impossible(),
    }
}

/// The name of a type of PostGIS, whatever its schema and its arguments are.
fn is_postgis(system: &str, name: &str) -> bool {
    let name = name.split('(').next().unwrap_or_default();
    let name = name.rsplit('.').next().unwrap_or_default();
    system == "postgres" && matches!(name, "geometry" | "geography")
}

fn geometry(source: &T) -> Pair {
    match source {
        T::Geometry => copy(Exact),
        T::Other { system, name } if is_postgis(system, name) => entry(
            Converter::Geometry,
            Narrowing,
            "two dimensions, points to collections",
        ),
        T::Bytes { .. } | T::Text { .. } => entry(
            Converter::Geometry,
            Narrowing,
            "EWKB of two dimensions, in hexadecimal where it is text",
        ),
        _ => impossible(),
    }
}

fn other(source: &T, system: &str, name: &str) -> Pair {
    const READS: &str = "its text, as far as the target reads it";
    let plain = Converter::Other { form: Form::Plain };
    let is_address = |name: &str| matches!(name, "inet" | "inet4" | "inet6");
    match source {
        T::Other {
            system: from_system,
            name: from,
        } => match (*from_system == system, from == name) {
            (true, true) => copy(Exact),
            (true, false) => entry(Converter::Copy, Narrowing, READS),
            (false, _) if system == "postgres" && is_address(from) && is_address(name) => {
                copy(Widening)
            }
            (false, _) if is_address(from) && is_address(name) => entry(
                Converter::Copy,
                Narrowing,
                "single addresses, without a mask, of the target's version",
            ),
            (false, _) => impossible(),
        },
        T::Geometry if is_postgis(system, name) => entry(
            Converter::Other {
                form: Form::Geometry,
            },
            Widening,
            "EWKB in hexadecimal, as PostGIS reads it",
        ),
        T::Text { .. } | T::Enum { .. } | T::Set { .. } | T::Json { .. } => {
            entry(plain, Narrowing, READS)
        }
        _ => impossible(),
    }
}
