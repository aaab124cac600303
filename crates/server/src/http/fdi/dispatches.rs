//! Schedules of ordinary tasks (contract §3.4).

use serde_json::{Value, json};
use thalweg_control::Result;
use thalweg_control::model::NewDispatch;
use thalweg_control::schedule::{Dispatch, Unit, When};

use crate::http::body::Fields;
use crate::http::error::Failure;
use crate::http::route::{Call, Reply};
use crate::http::time;

const UNITS: &[&str] = &["MIN", "HOUR", "DAY", "WEEK", "MON"];
/// The contract has 1..59 in one place and 1..60 in another.
const INTERVAL: std::ops::RangeInclusive<u64> = 1..=60;
/// The contract's minimum of 8 is contradicted by its own example.
const REMARK: std::ops::RangeInclusive<usize> = 1..=36;
const CRON: std::ops::RangeInclusive<usize> = 8..=255;
/// The year 5138, in milliseconds since 1970: later than any schedule.
const START_MAX: u64 = 99_999_999_999_999;

pub(crate) async fn create(call: Call) -> Result<Reply, Failure> {
    let new = new_dispatch(call.fields()?)?;
    let (scope, task) = (call.scope()?, call.id("task_id"));
    Reply::ok(render(&call.app.dispatch_create(scope, task, new).await?))
}

pub(crate) async fn show(call: Call) -> Result<Reply, Failure> {
    let (scope, task) = (call.scope()?, call.id("task_id"));
    Reply::ok(render(&call.app.dispatch_show(scope, task).await?))
}

pub(crate) async fn update(call: Call) -> Result<Reply, Failure> {
    let new = new_dispatch(call.fields()?)?;
    let (scope, task, id) = (call.scope()?, call.id("task_id"), call.id("dispatch_id"));
    let changed = call.app.dispatch_update(scope, task, id, new).await?;
    Reply::ok(render(&changed))
}

fn new_dispatch(mut fields: Fields) -> Result<NewDispatch> {
    let start_ms = start(&mut fields)?;
    let by_cron = fields.flag("use_quartz_cron")?;
    let cron = fields.text_or_empty("cron", CRON)?;
    let unit = match fields.text_or_empty("period", 0..=36)? {
        None => None,
        Some(word) => {
            let unit = Unit::parse(&word.to_ascii_uppercase());
            let reason = format!("Give one of {}.", UNITS.join(", "));
            Some(unit.ok_or_else(|| fields.invalid("period", reason))?)
        }
    };
    let interval = fields.int("dispatch_interval", INTERVAL)?;
    let remark = fields.text_or_empty("remark", REMARK)?;
    let when = match (by_cron, cron, unit) {
        (Some(true), None, _) => return Err(fields.missing("cron")),
        (Some(true) | None, Some(_), Some(_)) => {
            return Err(fields.invalid("period", "Leave it out, as there is a cron expression."));
        }
        (Some(true) | None, Some(cron), None) => When::Cron(cron),
        (Some(false), Some(_), _) => {
            return Err(fields.invalid("cron", "Leave it out, or set use_quartz_cron."));
        }
        (Some(false) | None, None, None) => return Err(fields.missing("period")),
        (Some(false) | None, None, Some(unit)) => {
            let every = u32::try_from(interval.unwrap_or(1)).unwrap_or(1);
            When::Every(every, unit)
        }
    };
    fields.finish()?;
    Ok(NewDispatch {
        start_ms,
        when,
        remark,
    })
}

/// Milliseconds since 1970, or, as in the contract's example, a text such as `2020-11-14T07:38:25.609Z`.
fn start(fields: &mut Fields) -> Result<Option<i64>> {
    let Some(value) = fields.take("start_datetime") else {
        return Ok(None);
    };
    let ms = match &value {
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::String(text) => {
            let most = i64::try_from(START_MAX).unwrap_or(i64::MAX);
            time::parse_iso(text).filter(|ms| (0..=most).contains(ms))
        }
        other => other
            .as_u64()
            .filter(|ms| *ms <= START_MAX)
            .and_then(|ms| i64::try_from(ms).ok()),
    };
    let reason = "Give milliseconds since 1970 in UTC, or a text such as 2020-11-14T07:38:25.609Z.";
    ms.map(Some)
        .ok_or_else(|| fields.invalid("start_datetime", reason))
}

/// A `TaskDispatchRsp`.
fn render(dispatch: &Dispatch) -> Value {
    let (cron, period) = match &dispatch.when {
        When::Cron(cron) => (Some(cron.as_str()), None),
        When::Every(every, unit) => (None, Some((*every, unit.as_str()))),
    };
    json!({
        "dispatch_id": dispatch.id,
        "task_id": dispatch.task_id,
        "start_datetime": dispatch.start_ms,
        "period": period.map(|(_, unit)| unit),
        "dispatch_interval": period.map(|(every, _)| every),
        "remark": dispatch.remark,
        "use_quartz_cron": cron.is_some(),
        "cron": cron,
        "created_date": dispatch.created_ms,
        "last_modified_date": dispatch.updated_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body::tests::{field_of, fields};

    #[test]
    fn a_schedule_is_a_cron_or_a_period() {
        let read = |body: Value| new_dispatch(fields(body)).unwrap();
        let cron = read(json!({ "use_quartz_cron": true, "cron": "0 30 12 * * ?", "period": "" }));
        assert_eq!(cron.when, When::Cron("0 30 12 * * ?".into()));
        let alone = read(json!({ "cron": "0 30 12 * * ?" }));
        assert_eq!(alone.when, cron.when);
        let period = json!({
            "start_datetime": "2020-11-14T07:38:25.609Z", "period": "MIN", "dispatch_interval": 5,
            "remark": "123", "use_quartz_cron": false, "cron": "",
        });
        let period = read(period);
        assert_eq!(period.when, When::Every(5, Unit::Minute));
        assert_eq!(period.start_ms, Some(1_605_339_505_609));
        assert_eq!(
            read(json!({ "period": "DAY" })).when,
            When::Every(1, Unit::Day)
        );
        let start = read(json!({ "period": "DAY", "start_datetime": 1_605_339_505_609_u64 }));
        assert_eq!(start.start_ms, period.start_ms);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |body: Value, field: &str| {
            assert_eq!(
                field_of(new_dispatch(fields(body.clone()))),
                field,
                "{body}"
            );
        };
        check(json!({}), "period");
        check(json!({ "use_quartz_cron": true }), "cron");
        check(json!({ "use_quartz_cron": true, "period": "DAY" }), "cron");
        check(
            json!({ "use_quartz_cron": false, "cron": "0 30 12 * * ?" }),
            "cron",
        );
        check(
            json!({ "cron": "0 30 12 * * ?", "period": "DAY" }),
            "period",
        );
        check(json!({ "period": "YEAR" }), "period");
        check(
            json!({ "period": "DAY", "dispatch_interval": 0 }),
            "dispatch_interval",
        );
        check(
            json!({ "period": "DAY", "dispatch_interval": 61 }),
            "dispatch_interval",
        );
        check(
            json!({ "period": "DAY", "start_datetime": "now" }),
            "start_datetime",
        );
        check(
            json!({ "period": "DAY", "start_datetime": -1 }),
            "start_datetime",
        );
        check(
            json!({ "period": "DAY", "remark": "x".repeat(37) }),
            "remark",
        );
        check(json!({ "period": "DAY", "other": 1 }), "other");
    }
}
