//! Dates and times between the calendars.

use super::{ConvertError, WRONG_KIND, refuse};
use crate::schema::Calendar;
use crate::value::{CellRef, Date, Interval};

const DAY_MICROS: i64 = 86_400_000_000;
/// 838:59:59.999999, the longest `TIME` of MySQL.
const TIME_MAX: i64 = 3_020_399_999_999;
/// 1970-01-01 00:00:01 and 2038-01-19 03:14:07.999999: the ends of `TIMESTAMP` of MySQL, see
/// <https://mariadb.com/kb/en/timestamp/>.
const TIMESTAMP_MIN: i64 = 1_000_000;
const TIMESTAMP_MAX: i64 = 2_147_483_647_999_999;

const ZERO: Date = Date {
    year: 0,
    month: 0,
    day: 0,
};

/// Whether a calendar has this day.
fn exists(date: Date, calendar: Calendar) -> Result<(), ConvertError> {
    match calendar {
        Calendar::Real if date.is_infinite() || date.to_unix_days().is_some() => Ok(()),
        Calendar::Real => {
            refuse("the date does not exist in the calendar (a zero date, or a day past its month)")
        }
        Calendar::Lenient if date.is_infinite() => {
            refuse("infinity has no counterpart in the target column")
        }
        Calendar::Lenient if !(0..=9999).contains(&date.year) => {
            refuse("the year is not within 0 to 9999")
        }
        // MySQL's year 0 has no leap day.
        Calendar::Lenient if (date.year, date.month, date.day) == (0, 2, 29) => {
            refuse("the target has no leap day in the year 0")
        }
        Calendar::Lenient => Ok(()),
    }
}

/// Whether microseconds have no more digits than `precision`.
fn precise(micros: i64, precision: u8) -> Result<(), ConvertError> {
    if micros % 10_i64.pow(6 - u32::from(precision.min(6))) == 0 {
        Ok(())
    } else {
        refuse("the fraction of a second has more digits than the target column")
    }
}

/// The civil time of a moment in UTC; infinities stay.
pub(super) fn civil(instant: i64) -> Result<(Date, i64), ConvertError> {
    match instant {
        i64::MAX => Ok((Date::INFINITY, 0)),
        i64::MIN => Ok((Date::NEG_INFINITY, 0)),
        at => Date::from_unix_days(at.div_euclid(DAY_MICROS))
            .map(|date| (date, at.rem_euclid(DAY_MICROS)))
            .map_or_else(|| refuse("the moment is out of range"), Ok),
    }
}

pub(super) fn date<'a>(cell: CellRef<'_>, calendar: Calendar) -> Result<CellRef<'a>, ConvertError> {
    let (date, micros) = match cell {
        CellRef::Date(date) => (date, 0),
        CellRef::Timestamp(date, micros) => (date, micros),
        CellRef::Instant(at) => civil(at)?,
        _ => return refuse(WRONG_KIND),
    };
    if micros != 0 {
        return refuse("the time of day is not midnight");
    }
    exists(date, calendar)?;
    Ok(CellRef::Date(date))
}

pub(super) fn timestamp<'a>(
    cell: CellRef<'_>,
    calendar: Calendar,
    precision: u8,
) -> Result<CellRef<'a>, ConvertError> {
    let (date, micros) = match cell {
        CellRef::Date(date) => (date, 0),
        CellRef::Timestamp(date, micros) => (date, micros),
        CellRef::Instant(at) => civil(at)?,
        _ => return refuse(WRONG_KIND),
    };
    exists(date, calendar)?;
    precise(micros, precision)?;
    Ok(CellRef::Timestamp(date, micros))
}

pub(super) fn instant<'a>(
    cell: CellRef<'_>,
    calendar: Calendar,
    precision: u8,
) -> Result<CellRef<'a>, ConvertError> {
    let (date, micros) = match cell {
        CellRef::Instant(at) => {
            if calendar == Calendar::Lenient && !(TIMESTAMP_MIN..=TIMESTAMP_MAX).contains(&at) {
                return refuse(
                    "the moment is not within 1970-01-01 00:00:01 to 2038-01-19 03:14:07 UTC",
                );
            }
            if at != i64::MAX && at != i64::MIN {
                precise(at, precision)?;
            }
            return Ok(CellRef::Instant(at));
        }
        CellRef::Date(date) => (date, 0),
        CellRef::Timestamp(date, micros) => (date, micros),
        _ => return refuse(WRONG_KIND),
    };
    if calendar == Calendar::Lenient && (date, micros) == (ZERO, 0) {
        // How a zero TIMESTAMP is carried.
        return Ok(CellRef::Timestamp(date, micros));
    }
    exists(date, Calendar::Real)?;
    let at = match date {
        Date::INFINITY => i64::MAX,
        Date::NEG_INFINITY => i64::MIN,
        date => date
            .to_unix_days()
            .and_then(|days| days.checked_mul(DAY_MICROS)?.checked_add(micros))
            .map_or_else(|| refuse("the moment is out of range"), Ok)?,
    };
    instant(CellRef::Instant(at), calendar, precision)
}

pub(super) fn time<'a>(
    cell: CellRef<'_>,
    of_day: bool,
    precision: u8,
) -> Result<CellRef<'a>, ConvertError> {
    let micros = match cell {
        CellRef::Time(micros) => micros,
        CellRef::Interval(Interval {
            months: 0,
            days: 0,
            micros,
        }) => micros,
        CellRef::Interval(_) => {
            return refuse("the interval has days or months, whose length a time does not tell");
        }
        _ => return refuse(WRONG_KIND),
    };
    if of_day && !(0..=DAY_MICROS).contains(&micros) {
        return refuse("the time is negative or above 24 hours");
    }
    if micros.unsigned_abs() > TIME_MAX.unsigned_abs() {
        return refuse("the time is beyond 838:59:59.999999");
    }
    precise(micros, precision)?;
    Ok(CellRef::Time(micros))
}

pub(super) fn interval<'a>(cell: CellRef<'_>) -> Result<CellRef<'a>, ConvertError> {
    match cell {
        CellRef::Interval(v) => Ok(CellRef::Interval(v)),
        CellRef::Time(micros) => Ok(CellRef::Interval(Interval {
            months: 0,
            days: 0,
            micros,
        })),
        _ => refuse(WRONG_KIND),
    }
}

/// The civil time next to a date, a civil time or a moment; `None` if there is none.
pub(super) fn near_civil(
    cell: CellRef<'_>,
    calendar: Calendar,
    precision: u8,
) -> Result<Option<(Date, i64)>, ConvertError> {
    let (date, micros) = match cell {
        CellRef::Date(date) => (date, 0),
        CellRef::Timestamp(date, micros) => (date, micros),
        CellRef::Instant(at) => civil(at)?,
        _ => return refuse(WRONG_KIND),
    };
    let unit = unit(precision);
    let (first, last) = (day(0, 1, 1), day(9999, 12, 31));
    if calendar == Calendar::Lenient && date.is_infinite() || date == ZERO {
        return Ok(None);
    }
    if calendar == Calendar::Lenient && date < first {
        return Ok(Some((first, 0)));
    }
    if calendar == Calendar::Lenient && date.year > last.year {
        return Ok(Some((last, DAY_MICROS - unit)));
    }
    let date = near_day(date, calendar);
    let rounded = (micros + unit / 2) / unit * unit;
    if rounded < DAY_MICROS {
        return Ok(Some((date, rounded)));
    }
    let next = date
        .to_unix_days()
        .map(|days| Date::from_unix_days(days + 1));
    let next = next
        .flatten()
        .filter(|next| exists(*next, calendar).is_ok());
    Ok(Some(match next {
        Some(next) => (next, 0),
        None => (date, DAY_MICROS - unit),
    }))
}

fn day(year: i32, month: u8, day: u8) -> Date {
    Date { year, month, day }
}

/// Microseconds of the last of `precision` digits of a second.
fn unit(precision: u8) -> i64 {
    10_i64.pow(6 - u32::from(precision.min(6)))
}

/// Zero parts become 1, and days past their month's end the last one.
fn near_day(date: Date, calendar: Calendar) -> Date {
    if exists(date, calendar).is_ok() {
        return date;
    }
    let month = date.month.clamp(1, 12);
    let days = (28..=date.day.clamp(1, 31)).rev();
    let mut there = days.filter(|d| exists(day(date.year, month, *d), calendar).is_ok());
    day(
        date.year,
        month,
        there.next().unwrap_or(date.day.clamp(1, 28)),
    )
}

pub(super) fn near_instant<'a>(
    cell: CellRef<'_>,
    calendar: Calendar,
    precision: u8,
) -> Result<Option<CellRef<'a>>, ConvertError> {
    let at = match cell {
        CellRef::Instant(at) => at,
        CellRef::Date(_) | CellRef::Timestamp(..) => {
            let Some((date, micros)) = near_civil(cell, Calendar::Real, 6)? else {
                return Ok(None);
            };
            let CellRef::Instant(at) =
                instant(CellRef::Timestamp(date, micros), Calendar::Real, 6)?
            else {
                return refuse(WRONG_KIND);
            };
            at
        }
        _ => return refuse(WRONG_KIND),
    };
    let infinite = at == i64::MAX || at == i64::MIN;
    Ok(match (calendar, infinite) {
        (Calendar::Real, true) => Some(CellRef::Instant(at)),
        (Calendar::Lenient, true) => None,
        (Calendar::Real, false) => Some(CellRef::Instant(near_micros(
            at,
            i64::MIN,
            i64::MAX,
            precision,
        ))),
        (Calendar::Lenient, false) => {
            let near = near_micros(at, TIMESTAMP_MIN, TIMESTAMP_MAX, precision);
            Some(CellRef::Instant(near))
        }
    })
}

pub(super) fn near_time<'a>(
    cell: CellRef<'_>,
    of_day: bool,
    precision: u8,
) -> Result<Option<CellRef<'a>>, ConvertError> {
    let micros = match cell {
        CellRef::Time(micros) => micros,
        CellRef::Interval(Interval {
            months: 0,
            days: 0,
            micros,
        }) => micros,
        CellRef::Interval(_) => return Ok(None),
        _ => return refuse(WRONG_KIND),
    };
    let (min, max) = if of_day {
        (0, DAY_MICROS)
    } else {
        (-TIME_MAX, TIME_MAX)
    };
    Ok(Some(CellRef::Time(near_micros(
        micros, min, max, precision,
    ))))
}

/// Rounded to `precision` digits of a second, half away from zero, and within bounds.
fn near_micros(micros: i64, min: i64, max: i64, precision: u8) -> i64 {
    let unit = unit(precision);
    let micros = micros.clamp(min, max);
    let half = unit / 2 * micros.signum();
    let rounded = micros.saturating_add(half) / unit * unit;
    rounded.clamp(min / unit * unit, max / unit * unit)
}
