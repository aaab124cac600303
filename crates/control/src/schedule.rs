//! When a scheduled task is run: by a cron expression of Quartz's form, or by a period.
//!
//! Both are read in one time zone, where days have 23, 24 or 25 hours. A time that a day leaves out because
//! clocks are put forward is run at the first moment after the gap, and one that a day has twice is run
//! once, at the first of the two; what is run every so many seconds, minutes or hours goes on by the
//! hour hand of the world, not of the wall.

use chrono::{
    DateTime, Days, LocalResult, Months, NaiveDateTime, Offset as _, TimeDelta, TimeZone as _, Utc,
};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use crate::error::{Error, Result};

/// The unit of a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Minutes.
    Minute,
    /// Hours.
    Hour,
    /// Days of the calendar.
    Day,
    /// Weeks of the calendar.
    Week,
    /// Months of the calendar; the 31st is the last day of a shorter one.
    Month,
}

impl Unit {
    /// All of them.
    pub const ALL: [Unit; 5] = [Unit::Minute, Unit::Hour, Unit::Day, Unit::Week, Unit::Month];

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Unit::Minute => "MIN",
            Unit::Hour => "HOUR",
            Unit::Day => "DAY",
            Unit::Week => "WEEK",
            Unit::Month => "MON",
        }
    }

    /// From the word of the API.
    pub fn parse(word: &str) -> Option<Unit> {
        Unit::ALL.into_iter().find(|unit| unit.as_str() == word)
    }
}

/// When a task is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// A cron expression of six fields, or seven with years, as Quartz has it.
    Cron(String),
    /// Every so many units from its start.
    Every(u32, Unit),
}

/// When a scheduled task is run, with what the API has beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Whose it is.
    pub task_id: String,
    /// Not before this; milliseconds since the Unix epoch. `None`: since it was made.
    pub start_ms: Option<i64>,
    /// When.
    pub when: When,
    /// Free text.
    pub remark: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Milliseconds since the Unix epoch.
    pub updated_ms: i64,
}

/// Reads a cron expression. `Invalid(cron)` says what is wrong.
pub fn parse_cron(text: &str) -> Result<Cron> {
    let parser = CronParser::builder()
        .seconds(Seconds::Required)
        .year(Year::Optional)
        .dom_and_dow(true)
        .alternative_weekdays(true)
        .build();
    let cron = parser.parse(text).map_err(|error| {
        Error::invalid(
            "cron",
            format!(
                "give six fields as Quartz has them (second minute hour day month weekday), such as \
                 \"0 30 12 * * ?\": {error}"
            ),
        )
    })?;
    Ok(cron)
}

/// A time zone by its IANA name, such as `Asia/Shanghai`.
pub fn parse_zone(name: &str) -> Option<Tz> {
    name.parse().ok()
}

impl Dispatch {
    /// The first time after `after_ms`, in milliseconds since the Unix epoch; `None`: never again.
    pub fn next_after(&self, zone: Tz, after_ms: i64) -> Result<Option<i64>> {
        let start = self.start_ms.unwrap_or(self.created_ms);
        match &self.when {
            When::Cron(text) => {
                let cron = parse_cron(text)?;
                // It runs at whole seconds; its start is one at which it may.
                let from = after_ms.max(start - 1).div_euclid(1000) * 1000;
                let from = at(zone, from)?;
                Ok(match every_hour(text) {
                    true => next_by_length(&cron, from),
                    false => next_by_wall(&cron, from),
                }
                .map(|time| time.timestamp_millis()))
            }
            When::Every(count, unit) => self.next_period(zone, start, (*count, *unit), after_ms),
        }
    }

    fn next_period(
        &self,
        zone: Tz,
        start_ms: i64,
        (count, unit): (u32, Unit),
        after_ms: i64,
    ) -> Result<Option<i64>> {
        let count = count.max(1);
        let minutes = match unit {
            Unit::Minute => 1,
            Unit::Hour => 60,
            // At least so long; the calendar says the rest.
            Unit::Day => 60 * 24,
            Unit::Week => 60 * 24 * 7,
            Unit::Month => 60 * 24 * 31,
        };
        let length = i64::from(count) * minutes * 60_000;
        let passed = (after_ms - start_ms).max(-1);
        let begin = at(zone, start_ms)?;
        // A step before the one that is the first by the length of a unit, as days may be shorter.
        let mut step = (passed.div_euclid(length) - 1).max(0);
        loop {
            let units = step
                .checked_mul(i64::from(count))
                .and_then(|n| u32::try_from(n).ok());
            let Some(units) = units else { return Ok(None) };
            let Some(time) = stepped(zone, begin, units, unit) else {
                return Ok(None);
            };
            if time > after_ms {
                return Ok(Some(time));
            }
            step += 1;
        }
    }
}

/// Whether a cron expression names no hours of the day, so that it goes on through an hour that a day has twice.
fn every_hour(text: &str) -> bool {
    text.split_whitespace()
        .nth(2)
        .is_some_and(|hours| hours == "*")
}

/// The next time by the clock on the wall: what it does not show is the end of the gap, and what it shows twice the
/// first.
fn next_by_wall(cron: &Cron, from: DateTime<Tz>) -> Option<DateTime<Tz>> {
    let zone = from.timezone();
    let mut wall = Utc.from_utc_datetime(&from.naive_local());
    loop {
        wall = cron.find_next_occurrence(&wall, false).ok()?;
        let time = real(zone, wall.naive_utc())?;
        // In the hour that comes a second time, or another of the same gap.
        if time > from.timestamp_millis() {
            return at(zone, time).ok();
        }
    }
}

/// The next time by clocks that are not put forward or back: those of each offset the zone has, as long as it has
/// it.
fn next_by_length(cron: &Cron, from: DateTime<Tz>) -> Option<DateTime<Tz>> {
    let zone = from.timezone();
    let offset = |time: &DateTime<Tz>| time.offset().fix();
    let mut from = from;
    loop {
        let now = offset(&from);
        let found = cron
            .find_next_occurrence(&from.with_timezone(&now), false)
            .ok()?;
        let found = found.with_timezone(&zone);
        if offset(&found) == now {
            return Some(found);
        }
        // The first second of another offset lies between; it may be a time itself.
        let (mut before, mut after) = (from.timestamp(), found.timestamp());
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            match offset(&at(zone, middle * 1000).ok()?) == now {
                true => before = middle,
                false => after = middle,
            }
        }
        let first = at(zone, after * 1000).ok()?;
        let there = offset(&first);
        if cron.is_time_matching(&first.with_timezone(&there)).ok()? {
            return Some(first);
        }
        from = first;
    }
}

/// The moment in the zone.
fn at(zone: Tz, ms: i64) -> Result<DateTime<Tz>> {
    let moment = DateTime::<Utc>::from_timestamp_millis(ms);
    let moment = moment.ok_or_else(|| {
        Error::invalid(
            "start_datetime",
            "give milliseconds since 1970 of a year there is",
        )
    })?;
    Ok(moment.with_timezone(&zone))
}

/// So many units after a moment; milliseconds since the Unix epoch.
fn stepped(zone: Tz, begin: DateTime<Tz>, units: u32, unit: Unit) -> Option<i64> {
    let length = |minutes: i64| TimeDelta::try_minutes(minutes * i64::from(units));
    let wall = begin.naive_local();
    let wall = match unit {
        Unit::Minute => return Some(begin.checked_add_signed(length(1)?)?.timestamp_millis()),
        Unit::Hour => return Some(begin.checked_add_signed(length(60)?)?.timestamp_millis()),
        Unit::Day => wall.checked_add_days(Days::new(u64::from(units)))?,
        Unit::Week => wall.checked_add_days(Days::new(u64::from(units) * 7))?,
        Unit::Month => wall.checked_add_months(Months::new(units))?,
    };
    real(zone, wall)
}

/// The moment at which the wall's clock of a zone shows a time; milliseconds since the Unix epoch.
fn real(zone: Tz, wall: NaiveDateTime) -> Option<i64> {
    match zone.from_local_datetime(&wall) {
        LocalResult::Single(time) => Some(time.timestamp_millis()),
        LocalResult::Ambiguous(first, _) => Some(first.timestamp_millis()),
        LocalResult::None => {
            // In a gap: its end is where the clock shows more than was wanted. Gaps are of whole quarters of an
            // hour, and no day has one of more than a day.
            let quarter = TimeDelta::try_minutes(15)?;
            let mut later = wall;
            for _ in 0..4 * 24 {
                later = later.checked_add_signed(quarter)?;
                if let LocalResult::Single(time) = zone.from_local_datetime(&later) {
                    return first_after_gap(zone, wall, time);
                }
            }
            None
        }
    }
}

/// The first whole minute after the gap that a time lies in; `after` lies behind the gap.
fn first_after_gap(zone: Tz, wall: NaiveDateTime, after: DateTime<Tz>) -> Option<i64> {
    let minute = TimeDelta::try_minutes(1)?;
    let mut first = after;
    loop {
        let before = first.checked_sub_signed(minute)?;
        if before.with_timezone(&zone).naive_local() < wall {
            // The minute before is on the other side of the gap.
            let cut = first.timestamp_millis().div_euclid(60_000) * 60_000;
            return Some(cut);
        }
        first = before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text)
            .unwrap()
            .timestamp_millis()
    }

    fn dispatch(when: When, start: &str) -> Dispatch {
        Dispatch {
            id: "d".into(),
            task_id: "t".into(),
            start_ms: Some(ms(start)),
            when,
            remark: None,
            created_ms: 0,
            updated_ms: 0,
        }
    }

    /// The times after the start, by the clock of the zone.
    fn times(when: When, zone: &str, start: &str, count: usize) -> Vec<String> {
        let (zone, dispatch) = (parse_zone(zone).unwrap(), dispatch(when, start));
        let mut after = ms(start) - 1;
        let mut out = Vec::new();
        for _ in 0..count {
            let Some(next) = dispatch.next_after(zone, after).unwrap() else {
                break;
            };
            assert!(next > after);
            after = next;
            out.push(
                at(zone, next)
                    .unwrap()
                    .format("%m-%d %H:%M:%S %z")
                    .to_string(),
            );
        }
        out
    }

    fn cron(text: &str) -> When {
        When::Cron(text.into())
    }

    #[test]
    fn cron_is_read_as_quartz_has_it() {
        let day = |text: &str, expected: &[&str]| {
            let found = times(cron(text), "UTC", "2026-11-01T00:00:00Z", expected.len());
            let found: Vec<&str> = found
                .iter()
                .map(|one| one.trim_end_matches(" +0000"))
                .collect();
            assert_eq!(found, expected, "{text}");
        };
        day("0 30 12 * * ?", &["11-01 12:30:00", "11-02 12:30:00"]);
        day(
            "*/20 * * * * ?",
            &[
                "11-01 00:00:00",
                "11-01 00:00:20",
                "11-01 00:00:40",
                "11-01 00:01:00",
            ],
        );
        // Sunday is 1. The first of November 2026 is one.
        day("0 0 6 ? * 2", &["11-02 06:00:00", "11-09 06:00:00"]);
        day("0 0 6 ? * MON-FRI", &["11-02 06:00:00", "11-03 06:00:00"]);
        day("0 0 0 L * ?", &["11-30 00:00:00", "12-31 00:00:00"]);
        day("0 0 0 ? * 6L", &["11-27 00:00:00", "12-25 00:00:00"]);
        day("0 0 0 ? * 2#2", &["11-09 00:00:00", "12-14 00:00:00"]);
        day("0 0 0 15W * ?", &["11-16 00:00:00", "12-15 00:00:00"]);
        day("0 0 0 1 1 ? 2027", &["01-01 00:00:00"]);
        assert_eq!(
            times(cron("0 0 0 1 1 ? 2020"), "UTC", "2026-11-01T00:00:00Z", 1).len(),
            0
        );
    }

    #[test]
    fn what_is_no_cron_is_told() {
        for wrong in [
            "",
            "x",
            "0 0 12 * *",
            "* * * * *",
            "0 60 * * * ?",
            "0 0 0 32 * ?",
            "0 0 0 ? * 8",
        ] {
            let error = parse_cron(wrong).unwrap_err().to_string();
            assert!(error.starts_with("cron: "), "{wrong}: {error}");
        }
    }

    /// Berlin puts its clocks forward on 2026-03-29 at 2 and back on 2026-10-25 at 3.
    #[test]
    fn a_day_that_is_shorter_or_longer_runs_once() {
        let found = times(
            cron("0 30 2 * * ?"),
            "Europe/Berlin",
            "2026-03-28T00:00:00Z",
            3,
        );
        assert_eq!(
            found,
            [
                "03-28 02:30:00 +0100",
                "03-29 03:00:00 +0200",
                "03-30 02:30:00 +0200"
            ]
        );
        let found = times(
            cron("0 30 2 * * ?"),
            "Europe/Berlin",
            "2026-10-24T00:00:00Z",
            3,
        );
        assert_eq!(
            found,
            [
                "10-24 02:30:00 +0200",
                "10-25 02:30:00 +0200",
                "10-26 02:30:00 +0100"
            ]
        );
        // Several times of one gap are one, and the second time an hour comes nothing is.
        let found = times(
            cron("0 0,30 2,4 * * ?"),
            "Europe/Berlin",
            "2026-03-28T23:00:00Z",
            3,
        );
        assert_eq!(
            found,
            [
                "03-29 03:00:00 +0200",
                "03-29 04:00:00 +0200",
                "03-29 04:30:00 +0200"
            ]
        );
        let found = times(
            cron("0 30 2 * * ?"),
            "Europe/Berlin",
            "2026-10-25T01:15:00Z",
            1,
        );
        assert_eq!(found, ["10-26 02:30:00 +0100"]);
        // What is run every half hour goes on through both.
        let found = times(
            cron("0 */30 * * * ?"),
            "Europe/Berlin",
            "2026-10-25T00:00:00Z",
            5,
        );
        assert_eq!(
            found,
            [
                "10-25 02:00:00 +0200",
                "10-25 02:30:00 +0200",
                "10-25 02:00:00 +0100",
                "10-25 02:30:00 +0100",
                "10-25 03:00:00 +0100"
            ]
        );
        let found = times(
            cron("0 */30 * * * ?"),
            "Europe/Berlin",
            "2026-03-29T00:30:00Z",
            3,
        );
        assert_eq!(
            found,
            [
                "03-29 01:30:00 +0100",
                "03-29 03:00:00 +0200",
                "03-29 03:30:00 +0200"
            ]
        );
    }

    #[test]
    fn periods_are_counted_from_their_start() {
        let check = |(count, unit), zone: &str, start: &str, expected: &[&str]| {
            let found = times(When::Every(count, unit), zone, start, expected.len());
            assert_eq!(found, expected, "{count} {unit:?}");
        };
        let berlin = "Europe/Berlin";
        check(
            (15, Unit::Minute),
            "UTC",
            "2026-11-01T00:07:00Z",
            &["11-01 00:07:00 +0000", "11-01 00:22:00 +0000"],
        );
        check(
            (6, Unit::Hour),
            berlin,
            "2026-10-24T22:00:00Z",
            &["10-25 00:00:00 +0200", "10-25 05:00:00 +0100"],
        );
        check(
            (1, Unit::Day),
            berlin,
            "2026-10-24T00:30:00Z",
            &[
                "10-24 02:30:00 +0200",
                "10-25 02:30:00 +0200",
                "10-26 02:30:00 +0100",
            ],
        );
        check(
            (1, Unit::Day),
            berlin,
            "2026-03-28T01:30:00Z",
            &[
                "03-28 02:30:00 +0100",
                "03-29 03:00:00 +0200",
                "03-30 02:30:00 +0200",
            ],
        );
        check(
            (2, Unit::Week),
            "UTC",
            "2026-11-01T00:00:00Z",
            &["11-01 00:00:00 +0000", "11-15 00:00:00 +0000"],
        );
        check(
            (1, Unit::Month),
            "UTC",
            "2026-01-31T12:00:00Z",
            &[
                "01-31 12:00:00 +0000",
                "02-28 12:00:00 +0000",
                "03-31 12:00:00 +0000",
            ],
        );
    }

    #[test]
    fn a_start_far_back_takes_no_time() {
        for unit in Unit::ALL {
            let one = dispatch(When::Every(1, unit), "1990-01-01T00:00:00Z");
            let now = ms("2026-11-01T00:00:30Z");
            let next = one.next_after(chrono_tz::UTC, now).unwrap().unwrap();
            assert!(next > now && next - now <= 32 * 86_400_000, "{unit:?}");
        }
    }

    #[test]
    fn nothing_is_due_before_the_start() {
        let zone = chrono_tz::UTC;
        let start = "2026-11-10T12:30:00Z";
        for when in [cron("0 30 12 * * ?"), When::Every(1, Unit::Day)] {
            let next = dispatch(when, start).next_after(zone, ms("2026-11-01T00:00:00Z"));
            assert_eq!(next.unwrap(), Some(ms(start)));
        }
    }
}
