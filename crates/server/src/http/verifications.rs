//! Verifications of a running task: asked for, listed, shown.
//!
//! The keys of rows that differ are values of the user. They are in the answer of [`show`] and nowhere
//! else: not in a log, a metric, a list or an error.

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use thalweg_control::Result;
use thalweg_control::model::{NewVerification, Outcome, Verification};
use thalweg_core::ports::Differs;
use thalweg_engine::verify::{Finding, Progress, RowReport, TableReport};

use super::body::Fields;
use super::error::Failure;
use super::native::ROWS_PER_SECOND;
use super::page;
use super::route::{Call, Reply};

/// Tables that one request may name.
const TABLES_MAX: usize = 2000;
const NAME_CHARS_MAX: usize = 256;

pub(crate) async fn create(call: Call) -> Result<Reply, Failure> {
    let new = match call.fields_if_any()? {
        Some(fields) => asked(fields)?,
        None => NewVerification::default(),
    };
    let (scope, id) = (call.scope()?, call.id("task_id"));
    let made = call.app.verification_create(scope, id, new).await?;
    Ok(Reply::Json(StatusCode::ACCEPTED, whole(&made)))
}

pub(crate) async fn list(call: Call) -> Result<Reply, Failure> {
    let window = page::window(&call.query)?;
    let (scope, id) = (call.scope()?, call.id("task_id"));
    let found = call.app.verification_list(scope, id, window).await?;
    Reply::ok(page::render(&found, "verifications", brief))
}

pub(crate) async fn show(call: Call) -> Result<Reply, Failure> {
    let (scope, id) = (call.scope()?, call.id("task_id"));
    let verification = call.id("verification_id");
    let found = call.app.verification_show(scope, id, verification).await?;
    Reply::ok(whole(&found))
}

fn asked(mut fields: Fields) -> Result<NewVerification> {
    let mut tables = Vec::new();
    let given = fields.array("tables", 1..=TABLES_MAX)?;
    for (at, table) in given.unwrap_or_default().into_iter().enumerate() {
        match table {
            Value::String(name) if (1..=NAME_CHARS_MAX).contains(&name.chars().count()) => {
                tables.push(name);
            }
            _ => {
                let text = "Give the name of a target table.";
                return Err(fields.invalid(&format!("tables[{at}]"), text));
            }
        }
    }
    let new = NewVerification {
        tables,
        repair: fields.flag("repair")?.unwrap_or_default(),
        rows_per_second: fields.int("rows_per_second", ROWS_PER_SECOND)?,
    };
    fields.finish()?;
    Ok(new)
}

/// A verification without the rows that differ.
fn brief(verification: &Verification) -> Value {
    render(verification, table)
}

/// With them.
fn whole(verification: &Verification) -> Value {
    render(verification, |table| {
        let mut value = self::table(table);
        if let Value::Object(map) = &mut value {
            let rows = table.differences.iter().map(row).collect();
            map.insert("differences".into(), Value::Array(rows));
        }
        value
    })
}

fn render(verification: &Verification, table: impl Fn(&TableReport) -> Value) -> Value {
    let (request, report) = (&verification.request, &verification.report);
    let names = request.tables.iter().map(ToString::to_string);
    let names: Vec<String> = names.collect();
    json!({
        "verification_id": verification.id,
        "asked_by": verification.asked_by.as_str(),
        "asked_ms": verification.asked_ms,
        "ended_ms": verification.ended_ms,
        "repair": request.repair,
        "rows_per_second": request.rows_per_second,
        "only": (!names.is_empty()).then_some(names),
        "state": match report.progress {
            Progress::Waiting => "waiting",
            Progress::Running => "running",
            Progress::Done => "done",
            Progress::Ended => "ended",
        },
        "result": verification.outcome().map(Outcome::as_str),
        "reason": report.waits,
        "tables": report.tables.iter().map(table).collect::<Vec<Value>>(),
    })
}

fn table(table: &TableReport) -> Value {
    let (result, reason) = match &table.finding {
        Finding::Waiting => ("waiting", None),
        Finding::Running => ("running", None),
        Finding::Equal => ("equal", None),
        Finding::Repaired => ("repaired", None),
        Finding::Different => ("different", None),
        Finding::Failed(reason) => ("failed", Some(reason)),
    };
    let ended = Outcome::of(&table.finding).is_some();
    json!({
        "source": table.source,
        "target": table.target,
        "result": result,
        "reason": reason,
        "position": table.position.as_ref().map(ToString::to_string),
        "rows": table.rows,
        "hash": format!("{:032x}", table.hash),
        // A table to which it never came has no time.
        "at_ms": (ended && table.at_ms > 0).then_some(table.at_ms),
        "took_ms": table.took_ms,
        "changed": table.changed,
        "missing": table.missing,
        "extra": table.extra,
        "repaired": table.repaired,
    })
}

fn row(row: &RowReport) -> Value {
    let column = |(name, value): &(String, String)| (name.clone(), value.as_str().into());
    let key: Map<String, Value> = row.key.iter().map(column).collect();
    json!({
        "key": key,
        "differs": match row.differs {
            Differs::Changed => "changed",
            Differs::Missing => "missing",
            Differs::Extra => "extra",
        },
        "columns": row.columns,
    })
}

#[cfg(test)]
mod tests {
    use thalweg_control::model::AskedBy;
    use thalweg_core::position::Position;
    use thalweg_core::schema::TableName;
    use thalweg_engine::verify::{Report, Request};

    use super::*;
    use crate::http::body::tests::{field_of, fields};

    #[test]
    fn what_is_asked_for_is_read_and_wrong_fields_are_named() {
        let all = asked(fields(json!({"tables": null, "rows_per_second": null})));
        assert_eq!(all.unwrap(), NewVerification::default());
        let given = json!({"tables": ["a", "b.c"], "repair": true, "rows_per_second": 10_000_000});
        let expected = NewVerification {
            tables: vec!["a".into(), "b.c".into()],
            repair: true,
            rows_per_second: Some(10_000_000),
        };
        assert_eq!(asked(fields(given)).unwrap(), expected);
        for (wrong, field) in [
            (json!({"tables": "a"}), "tables"),
            (json!({"tables": []}), "tables"),
            (json!({"tables": ["a", 1]}), "tables[1]"),
            (json!({"tables": [""]}), "tables[0]"),
            (json!({"tables": ["x".repeat(257)]}), "tables[0]"),
            (json!({"repair": "yes"}), "repair"),
            (json!({"rows_per_second": 0}), "rows_per_second"),
            (json!({"rows_per_second": 10_000_001}), "rows_per_second"),
            (json!({"table": "a"}), "table"),
        ] {
            assert_eq!(field_of(asked(fields(wrong))), field);
        }
    }

    #[test]
    fn values_of_rows_are_shown_with_the_whole_only() {
        let table = TableReport {
            source: "shop.a".into(),
            target: "public.a".into(),
            finding: Finding::Different,
            position: Some(Position::new("0-1-2")),
            rows: 7,
            hash: 0xAB,
            at_ms: 9,
            changed: 1,
            differences: vec![RowReport {
                key: vec![("id".into(), "geheim".into())],
                differs: Differs::Changed,
                columns: vec!["name".into()],
            }],
            ..TableReport::default()
        };
        let verification = Verification {
            id: "v".into(),
            asked_by: AskedBy::User,
            asked_ms: 1,
            ended_ms: Some(2),
            request: Request {
                tables: vec![TableName::new("public", "a")],
                ..Request::default()
            },
            report: Report {
                progress: Progress::Done,
                waits: None,
                tables: vec![table],
            },
        };
        assert!(!brief(&verification).to_string().contains("geheim"));
        let shown = whole(&verification);
        assert_eq!(shown["result"], "different");
        assert_eq!(shown["only"], json!(["public.a"]));
        let table = &shown["tables"][0];
        assert_eq!(table["hash"], "000000000000000000000000000000ab");
        assert_eq!(
            (&table["at_ms"], &table["position"]),
            (&json!(9), &json!("0-1-2"))
        );
        let row = json!({"key": {"id": "geheim"}, "differs": "changed", "columns": ["name"]});
        assert_eq!(table["differences"], json!([row]));
    }
}
