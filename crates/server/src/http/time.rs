//! Times as the contract writes them. Inside, a time is milliseconds since the Unix epoch.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// `2020-11-13T17:32:13.684Z`.
pub(crate) fn millis(ms: i64) -> String {
    format(ms, "%Y-%m-%dT%H:%M:%S%.3fZ")
}

/// `2020-11-13T17:32:13Z`.
pub(crate) fn seconds(ms: i64) -> String {
    format(ms, "%Y-%m-%dT%H:%M:%SZ")
}

/// `2020-11-13T17:32:13.684000Z`.
pub(crate) fn micros(ms: i64) -> String {
    format(ms, "%Y-%m-%dT%H:%M:%S%.6fZ")
}

fn format(ms: i64, pattern: &str) -> String {
    let time = Timestamp::from_millisecond(ms).unwrap_or_default();
    time.strftime(pattern).to_string()
}

/// Milliseconds since the epoch of `YYYYMMDDTHHMMSSZ`.
pub(crate) fn parse_compact(text: &str) -> Option<i64> {
    if text.len() != 16 {
        return None;
    }
    let civil = DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    let zoned = civil.to_zoned(TimeZone::UTC).ok()?;
    Some(zoned.timestamp().as_millisecond())
}

/// Milliseconds since the epoch of a text such as `2020-11-14T07:38:25.609Z`.
pub(crate) fn parse_iso(text: &str) -> Option<i64> {
    let time: Timestamp = text.parse().ok()?;
    Some(time.as_millisecond())
}

/// Now.
pub(crate) fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_three_forms_of_the_contract() {
        let ms = 1_605_288_733_684;
        assert_eq!(millis(ms), "2020-11-13T17:32:13.684Z");
        assert_eq!(seconds(ms), "2020-11-13T17:32:13Z");
        assert_eq!(micros(ms), "2020-11-13T17:32:13.684000Z");
        assert_eq!(millis(0), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn compact_times_are_read_exactly() {
        assert_eq!(parse_compact("20201113T173213Z"), Some(1_605_288_733_000));
        for wrong in [
            "",
            "20201113T173213",
            "2020-11-13T17:32Z",
            "20201313T173213Z",
        ] {
            assert_eq!(parse_compact(wrong), None, "{wrong}");
        }
    }
}
