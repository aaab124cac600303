//! Days.

/// A civil date. Month and day may be zero, as MySQL's zero dates have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Date {
    /// Astronomical year (1 BC is 0).
    pub year: i32,
    /// 1..=12, or 0 in a zero date.
    pub month: u8,
    /// 1..=31, or 0 in a zero date.
    pub day: u8,
}

impl Date {
    /// Later than every date (PostgreSQL `infinity`).
    pub const INFINITY: Date = Date {
        year: i32::MAX,
        month: 0,
        day: 0,
    };
    /// Earlier than every date (PostgreSQL `-infinity`).
    pub const NEG_INFINITY: Date = Date {
        year: i32::MIN,
        month: 0,
        day: 0,
    };

    /// Whether a part is zero that no calendar has (and it is not an infinity).
    pub fn is_zero_date(self) -> bool {
        !self.is_infinite() && (self.month == 0 || self.day == 0)
    }

    /// Whether it is one of the infinities.
    pub fn is_infinite(self) -> bool {
        self == Date::INFINITY || self == Date::NEG_INFINITY
    }

    /// Days since 1970-01-01 in the proleptic Gregorian calendar; `None` for zero dates,
    /// infinities and days that do not exist (MySQL can store 2021-02-31).
    pub fn to_unix_days(self) -> Option<i64> {
        if self.is_infinite() || self.month == 0 || self.month > 12 || self.day == 0 {
            return None;
        }
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let last = match self.month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        if self.day > last {
            return None;
        }
        // Howard Hinnant's days_from_civil: years begin in March so that the leap day is last.
        let y = i64::from(self.year) - i64::from(self.month <= 2);
        let era = y.div_euclid(400);
        let yoe = y.rem_euclid(400);
        let mp = (i64::from(self.month) + 9) % 12;
        let doy = (153 * mp + 2) / 5 + i64::from(self.day) - 1;
        let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
        Some(era * 146_097 + doe - 719_468)
    }

    /// The date `days` after 1970-01-01; `None` if the year does not fit.
    pub fn from_unix_days(days: i64) -> Option<Date> {
        let z = days.checked_add(719_468)?;
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let day = u8::try_from(doy - (153 * mp + 2) / 5 + 1).ok()?;
        let month = u8::try_from(if mp < 10 { mp + 3 } else { mp - 9 }).ok()?;
        let year = i32::try_from(yoe + era * 400 + i64::from(month <= 2)).ok()?;
        Some(Date { year, month, day })
    }
}
