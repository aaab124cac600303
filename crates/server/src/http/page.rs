//! Paging: which part of a list was asked for, and how a part is answered.
//!
//! Where the contract gives no default we use its only one, 10. Monitors count rows from 1, and 0 is
//! 1; the contract does not say whether they count rows or pages, and we count rows.

use serde_json::{Value, json};
use thalweg_control::Result;
use thalweg_control::model::{Page, Window};

use super::query::Query;

const LIMIT_DEFAULT: i64 = 10;
/// Longer windows are cut to this silently, as the contract says.
const LIMIT_MAX: i64 = 999;
/// The list of tasks and that of mappings allow one more in the current pages.
const LIMIT_MAX_WIDE: i64 = 1000;

/// Data sources and applications: rows to skip, negative is 0.
pub(crate) fn window(query: &Query) -> Result<Window> {
    from_zero(query, 0, LIMIT_MAX)
}

/// Tasks: as [`window`], up to 1000 rows.
pub(crate) fn window_of_tasks(query: &Query) -> Result<Window> {
    from_zero(query, 0, LIMIT_MAX_WIDE)
}

/// Mappings: 1 to 1000 rows.
pub(crate) fn window_of_mappings(query: &Query) -> Result<Window> {
    from_zero(query, 1, LIMIT_MAX_WIDE)
}

/// Monitors: the first row is 1.
pub(crate) fn window_of_monitors(query: &Query) -> Result<Window> {
    let offset = query.int("offset", 0, 999_999)?.unwrap_or(1).max(1);
    let limit = query.int("limit", 0, 999_999)?.unwrap_or(LIMIT_DEFAULT);
    Ok(Window {
        offset: narrow(offset - 1),
        limit: narrow(limit.min(LIMIT_MAX)),
    })
}

fn from_zero(query: &Query, limit_min: i64, limit_max: i64) -> Result<Window> {
    let offset = query.int("offset", i64::MIN, i64::MAX)?.unwrap_or(0);
    let limit = query.int("limit", limit_min, i64::MAX)?;
    Ok(Window {
        offset: narrow(offset.max(0)),
        limit: narrow(limit.unwrap_or(LIMIT_DEFAULT).min(limit_max)),
    })
}

fn narrow(number: i64) -> u32 {
    // Further than any list reaches.
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// `total`, `size` and the rows under `name`.
pub(crate) fn render<T>(page: &Page<T>, name: &str, row: impl Fn(&T) -> Value) -> Value {
    let rows: Vec<Value> = page.entities.iter().map(row).collect();
    json!({ "total": page.total, "size": rows.len(), name: rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(parse: fn(&Query) -> Result<Window>, query: &str, expected: Option<(u32, u32)>) {
        let window = parse(&Query::parse(query)).ok();
        assert_eq!(window.map(|w| (w.offset, w.limit)), expected, "{query}");
    }

    #[test]
    fn windows_follow_the_caps_of_each_list() {
        check(window, "", Some((0, 10)));
        check(window, "offset=-5&limit=5000", Some((0, 999)));
        check(window, "offset=99999999999", Some((u32::MAX, 10)));
        check(window, "limit=-1", None);
        check(window_of_tasks, "limit=1000", Some((0, 1000)));
        check(window_of_tasks, "limit=1001", Some((0, 1000)));
        check(window_of_mappings, "limit=0", None);
        check(window_of_monitors, "", Some((0, 10)));
        check(window_of_monitors, "offset=0&limit=999999", Some((0, 999)));
        check(window_of_monitors, "offset=3", Some((2, 10)));
        check(window_of_monitors, "offset=-1", None);
        check(window_of_monitors, "limit=1000000", None);
    }
}
