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
