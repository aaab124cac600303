//! Rows in quarantine: listed, shown, released and discarded.
//!
//! The keys of rows are values of the user. They are in the answers of [`list`] and [`show`] and nowhere
//! else: not in a log, a metric or an error.

use serde_json::{Value, json};
use thalweg_control::model::QuarantinedRow;
use thalweg_control::{Error, Result};
use thalweg_core::quarantine::{Held, kind_word};
use thalweg_engine::quarantine::{Settled, Way};

use super::body::Fields;
use super::error::Failure;
use super::page;
use super::route::{Call, Reply};

/// Rows that one request may name.
const ROWS_MAX: usize = 10_000;
const NAME_CHARS_MAX: usize = 256;

pub(crate) async fn list(call: Call) -> Result<Reply, Failure> {
    let window = page::window(&call.query)?;
    let table = call.query.text("table", NAME_CHARS_MAX)?;
    let (scope, id) = (call.scope()?, call.id("task_id"));
    let found = call
        .app
        .quarantine_list(scope, id, table.as_deref(), window);
    let found = found.await?;
    let mut value = page::render(&found.rows, "rows", brief);
    if let Value::Object(map) = &mut value {
        map.insert("changes".into(), found.changes.into());
    }
    Reply::ok(value)
}

pub(crate) async fn show(call: Call) -> Result<Reply, Failure> {
    let (scope, id) = (call.scope()?, call.id("task_id"));
    // What is no number is the id of nothing, and so is 0.
    let row = call.id("row_id").parse().unwrap_or(0);
    Reply::ok(whole(&call.app.quarantine_show(scope, id, row).await?))
}

pub(crate) async fn release(call: Call) -> Result<Reply, Failure> {
    settle(call, Way::Release).await
}

pub(crate) async fn discard(call: Call) -> Result<Reply, Failure> {
    settle(call, Way::Discard).await
}

async fn settle(call: Call, way: Way) -> Result<Reply, Failure> {
    let rows = asked(call.fields()?)?;
    let (scope, id) = (call.scope()?, call.id("task_id"));
    let settled = call.app.quarantine_settle(scope, id, way, rows).await?;
    Reply::ok(render(&settled))
}

/// The rows that are asked for; `None`: all.
fn asked(mut fields: Fields) -> Result<Option<Vec<i64>>> {
    let rows = match fields.array("rows", 1..=ROWS_MAX)? {
        Some(rows) => Some(ids(&fields, &rows)?),
        None => None,
    };
    let all = fields.flag("all")?.unwrap_or_default();
    fields.finish()?;
    match (rows, all) {
        (Some(rows), false) => Ok(Some(rows)),
        (None, true) => Ok(None),
        _ => Err(Error::invalid(
            "rows",
            "Give either rows, an array of row ids, or all as true.",
        )),
    }
}

fn ids(fields: &Fields, rows: &[Value]) -> Result<Vec<i64>> {
    let id = |(at, row): (usize, &Value)| {
        let id = row.as_i64().filter(|id| *id > 0);
        id.ok_or_else(|| fields.invalid(&format!("rows[{at}]"), "Give the id of a row."))
    };
    let ids: Result<Vec<i64>> = rows.iter().enumerate().map(id).collect();
    let mut ids = ids?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// A row by its first change.
fn brief(row: &QuarantinedRow) -> Value {
    let first = &row.first;
    json!({
        "row_id": first.number,
        "source": first.source.to_string(),
        "target": first.target.to_string(),
        "key": first.shown,
        "operation": kind_word(first.kind),
        "error": first.error,
        "position": first.place,
        "since_ms": first.at_ms,
        "changes": row.changes(),
    })
}

/// A row with all its changes.
fn whole(row: &QuarantinedRow) -> Value {
    let mut value = brief(row);
    if let Value::Object(map) = &mut value {
        let all = std::iter::once(&row.first).chain(&row.later);
        map.insert("waiting".into(), all.map(change).collect());
    }
    value
}

fn change(held: &Held) -> Value {
    json!({
        "number": held.number,
        "operation": kind_word(held.kind),
        "error": held.error,
        "position": held.place,
        "since_ms": held.at_ms,
    })
}

fn render(settled: &Settled) -> Value {
    let refused = settled.refused.iter();
    let refused = refused.map(|(row, reason)| json!({ "row_id": row, "reason": reason }));
    json!({
        "rows": settled.rows,
        "changes": settled.changes,
        "refused": refused.collect::<Vec<Value>>(),
    })
}

#[cfg(test)]
mod tests {
    use thalweg_core::change::ChangeKind;
    use thalweg_core::schema::TableName;

    use super::*;
    use crate::http::body::tests::{field_of, fields};

    #[test]
    fn either_rows_are_named_or_all_are_meant() {
        let read = |value: Value| asked(fields(value));
        assert_eq!(read(json!({"all": true})).unwrap(), None);
        let rows = json!({"rows": [7, i64::MAX, 7, 1], "all": null});
        assert_eq!(read(rows).unwrap(), Some(vec![1, 7, i64::MAX]));
        let rows = json!({"rows": [7], "all": false});
        assert_eq!(read(rows).unwrap(), Some(vec![7]));
        let most = json!({"rows": (1..=10_000).collect::<Vec<i64>>()});
        assert_eq!(read(most).unwrap().unwrap().len(), 10_000);
        for (wrong, field) in [
            (json!({}), "rows"),
            (json!({"all": false}), "rows"),
            (json!({"rows": [1], "all": true}), "rows"),
            (json!({"rows": []}), "rows"),
            (json!({"rows": 1}), "rows"),
            (json!({"rows": (1..=10_001).collect::<Vec<i64>>()}), "rows"),
            (json!({"rows": [1, "2"]}), "rows[1]"),
            (json!({"rows": [0]}), "rows[0]"),
            (json!({"rows": [-1]}), "rows[0]"),
            (json!({"rows": [1.5]}), "rows[0]"),
            (json!({"all": 1}), "all"),
            (json!({"all": true, "row": [1]}), "row"),
        ] {
            assert_eq!(field_of(read(wrong)), field);
        }
    }

    #[test]
    fn a_row_is_told_by_its_first_change() {
        let held = |number: i64, kind: ChangeKind, error: Option<&str>| Held {
            number,
            target: TableName::new("public", "a"),
            source: TableName::new("shop", "a"),
            key: vec![1],
            moved: None,
            shown: format!("id={number}"),
            kind,
            error: error.map(str::to_owned),
            place: format!("0-1-{number}"),
            at_ms: 5,
            change: Vec::new(),
        };
        let row = QuarantinedRow {
            first: held(3, ChangeKind::Insert, Some("too long")),
            later: vec![held(8, ChangeKind::Delete, None)],
        };
        let expected = json!({
            "row_id": 3, "source": "shop.a", "target": "public.a", "key": "id=3",
            "operation": "insert", "error": "too long", "position": "0-1-3", "since_ms": 5,
            "changes": 2,
        });
        assert_eq!(brief(&row), expected);
        let waiting = json!([
            {"number": 3, "operation": "insert", "error": "too long", "position": "0-1-3",
             "since_ms": 5},
            {"number": 8, "operation": "delete", "error": null, "position": "0-1-8",
             "since_ms": 5},
        ]);
        assert_eq!(whole(&row)["waiting"], waiting);
    }
}
