//! Composite tasks: init, create, update, reset (contract §3.2).

use std::ops::RangeInclusive;

use serde_json::{Value, json};
use thalweg_control::Result;
use thalweg_control::model::{NewTask, TaskChange, TaskInit};
use thalweg_core::mapping::Operations;

use super::mappings;
use crate::http::body::Fields;
use crate::http::error::Failure;
use crate::http::route::{Call, Reply};

const TASK_ID: RangeInclusive<usize> = 3..=50;
pub(super) const DATASOURCE_ID: RangeInclusive<usize> = 1..=64;
pub(super) const DESCRIPTION: RangeInclusive<usize> = 1..=1024;
const OPERATIONS: &[&str] = &["INSERT", "UPDATE", "DELETE"];

pub(crate) async fn init(call: Call) -> Result<Reply, Failure> {
    let init = task_init(call.fields()?)?;
    let scope = call.scope()?;
    let made = call.app.task_init(scope, init).await?;
    Reply::ok(json!([mappings::render(&made, scope.instance())]))
}

pub(crate) async fn create(call: Call) -> Result<Reply, Failure> {
    let new = new_task(call.fields()?)?;
    let id = call.app.task_create(call.scope()?, new).await?;
    Reply::ok(json!({ "task_id": id }))
}

pub(crate) async fn update(call: Call) -> Result<Reply, Failure> {
    let change = task_change(call.fields()?)?;
    let id = call.id("task_id");
    call.app.task_update(call.scope()?, id, change).await?;
    Reply::ok(json!({ "task_id": id }))
}

pub(crate) async fn reset(call: Call) -> Result<Reply, Failure> {
    if let Some(fields) = call.fields_if_any()? {
        refuse_date(fields)?;
    }
    call.app
        .task_reset(call.scope()?, call.id("task_id"))
        .await?;
    Reply::ok(json!({ "message": "Reset Success" }))
}

fn task_init(mut fields: Fields) -> Result<TaskInit> {
    let init = TaskInit {
        task_id: task_id(&mut fields)?,
        source_datasource_id: fields.text_or_empty("source_datasource_id", DATASOURCE_ID)?,
        target_datasource_id: fields.text_or_empty("target_datasource_id", DATASOURCE_ID)?,
        server_id: server_id(&mut fields)?,
        auto_mapping: fields.flag("auto_mapping")?.unwrap_or(false),
    };
    fields.finish()?;
    Ok(init)
}

fn new_task(mut fields: Fields) -> Result<NewTask> {
    let new = NewTask {
        name: task_name(&mut fields)?,
        task_id: task_id(&mut fields)?,
        description: fields.text("description", DESCRIPTION)?,
        tag: tag(&mut fields)?,
        operations: operations(&mut fields)?,
        source_app_id: fields.text_or_empty("source_app_id", 1..=64)?,
        target_app_id: fields.text_or_empty("target_app_id", 1..=64)?,
    };
    task_type(&mut fields)?;
    fields.finish()?;
    Ok(new)
}

fn task_change(mut fields: Fields) -> Result<TaskChange> {
    let repull = fields.flag("repulling_snapshot")?;
    let change = TaskChange {
        description: fields.text("description", DESCRIPTION)?,
        tag: tag(&mut fields)?,
        operations: operations(&mut fields)?,
        repulling_snapshot: repull.ok_or_else(|| fields.missing("repulling_snapshot"))?,
    };
    fields.finish()?;
    Ok(change)
}

/// A reset to a date is not built. To take the date and do something else would lose rows.
fn refuse_date(mut fields: Fields) -> Result<()> {
    let given = fields
        .take("date_from")
        .filter(|date| date.as_str() != Some(""));
    if let Some(date) = given {
        let range = 1..=9_999_999_999_999_999_999_u64;
        let text = match date.as_u64() {
            Some(ms) if range.contains(&ms) => {
                "Starting from a date is not built: leave the field out to copy everything again."
            }
            _ => "Give milliseconds since 1970 in UTC, or leave the field out.",
        };
        return Err(fields.invalid("date_from", text));
    }
    fields.finish()
}

pub(super) fn task_name(fields: &mut Fields) -> Result<String> {
    let name = fields.text_needed("task_name", 3..=100)?;
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if plain && name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Ok(name);
    }
    let text = "Begin with a letter or digit; then letters, digits, dot, underscore, hyphen.";
    Err(fields.invalid("task_name", text))
}

pub(super) fn task_id(fields: &mut Fields) -> Result<Option<String>> {
    let id = fields.text_or_empty("task_id", TASK_ID)?;
    restricted(fields, "task_id", id)
}

pub(super) fn tag(fields: &mut Fields) -> Result<Option<String>> {
    let tag = fields.text("task_tag", 4..=64)?;
    restricted(fields, "task_tag", tag)
}

/// Letters, digits, hyphen, underscore.
fn restricted(fields: &Fields, name: &str, text: Option<String>) -> Result<Option<String>> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    match text {
        Some(text) if !text.bytes().all(good) => {
            Err(fields.invalid(name, "Use letters, digits, hyphen and underscore."))
        }
        text => Ok(text),
    }
}

fn task_type(fields: &mut Fields) -> Result<()> {
    let Some(word) = fields.text_or_empty("task_type", 1..=10)? else {
        return Ok(());
    };
    if word.eq_ignore_ascii_case("REALTIME") {
        return Ok(());
    }
    Err(fields.invalid("task_type", "Composite tasks are REALTIME."))
}

fn operations(fields: &mut Fields) -> Result<Operations> {
    let values = fields.array("operation_types", 1..=3)?;
    let values = values.ok_or_else(|| fields.missing("operation_types"))?;
    let known = |value: &Value| {
        value
            .as_str()
            .is_some_and(|word| OPERATIONS.contains(&word))
    };
    if !values.iter().all(known) {
        let text = format!("Give one or more of {}.", OPERATIONS.join(", "));
        return Err(fields.invalid("operation_types", text));
    }
    let has = |word: &str| values.iter().any(|value| value == word);
    Ok(Operations {
        insert: has("INSERT"),
        update: has("UPDATE"),
        delete: has("DELETE"),
    })
}

/// `ext_info.server_id`: the id our reader presents to a MySQL source.
pub(super) fn server_id(fields: &mut Fields) -> Result<Option<u32>> {
    match fields.object("ext_info")? {
        Some(info) => server_id_of(info),
        None => Ok(None),
    }
}

/// The same, of an `ext_info` that is JSON in a text.
pub(super) fn server_id_in(fields: &Fields, text: &str) -> Result<Option<u32>> {
    match Fields::of_json(text) {
        Some(info) => server_id_of(info),
        None => Err(fields.invalid("ext_info", "Give a JSON object in a text.")),
    }
}

fn server_id_of(mut info: Fields) -> Result<Option<u32>> {
    let id = match info.text_or_empty("server_id", 1..=20)? {
        None => None,
        Some(text) => {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            let number = text.parse::<u32>().ok().filter(|id| digits && *id > 0);
            let reason = "Give a string of digits from 1 to 4294967295.";
            Some(number.ok_or_else(|| info.invalid("server_id", reason))?)
        }
    };
    info.finish()?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body::tests::{field_of, fields};

    fn create() -> Value {
        json!({ "task_name": "cdctest1", "operation_types": ["INSERT", "UPDATE", "DELETE"] })
    }

    #[test]
    fn a_new_task_is_read() {
        let new = new_task(fields(create())).unwrap();
        assert_eq!(
            (new.name.as_str(), new.operations),
            ("cdctest1", Operations::ALL)
        );
        let mut body = create();
        body["task_id"] = json!("");
        body["task_type"] = json!("realtime");
        body["operation_types"] = json!(["INSERT"]);
        let new = new_task(fields(body)).unwrap();
        assert_eq!(new.task_id, None);
        assert!(new.operations.insert && !new.operations.update && !new.operations.delete);
    }

    #[test]
    fn wrong_fields_of_a_new_task_are_named() {
        let check = |name: &str, value: Value| {
            let mut body = create();
            body[name] = value;
            assert_eq!(field_of(new_task(fields(body))), name);
        };
        for wrong in ["ab", "_abc", "a b c", "äbc", &"a".repeat(101), ""] {
            check("task_name", json!(wrong));
        }
        check("task_name", json!(1));
        check("task_name", Value::Null);
        for wrong in ["ab", "a/b/c", &"a".repeat(51)] {
            check("task_id", json!(wrong));
        }
        check("task_type", json!("TIMING"));
        check("task_type", json!(1));
        check("description", json!(""));
        check("description", json!("x".repeat(1025)));
        check("task_tag", json!("abc"));
        check("task_tag", json!("a b c"));
        check("operation_types", json!([]));
        check("operation_types", json!(["TRUNCATE"]));
        check(
            "operation_types",
            json!(["INSERT", "INSERT", "INSERT", "INSERT"]),
        );
        check("operation_types", json!([1]));
        check("operation_types", json!("INSERT"));
        check("operation_types", Value::Null);
        check("source_app_id", json!("x".repeat(65)));
        check("unheard_of", json!(1));
    }

    #[test]
    fn an_update_needs_operations_and_the_choice_of_a_snapshot() {
        let body = || json!({ "operation_types": ["INSERT"], "repulling_snapshot": true });
        assert!(task_change(fields(body())).unwrap().repulling_snapshot);
        for name in ["operation_types", "repulling_snapshot"] {
            let mut body = body();
            body[name] = Value::Null;
            assert_eq!(field_of(task_change(fields(body))), name);
        }
        let mut renamed = body();
        renamed["task_name"] = json!("other");
        assert_eq!(field_of(task_change(fields(renamed))), "task_name");
    }

    #[test]
    fn the_server_id_is_a_number_in_a_string() {
        let check = |value: Value| server_id(&mut fields(json!({ "ext_info": value })));
        assert_eq!(check(json!({ "server_id": "42" })).unwrap(), Some(42));
        assert_eq!(check(json!({ "server_id": "" })).unwrap(), None);
        assert_eq!(check(json!({})).unwrap(), None);
        assert_eq!(check(Value::Null).unwrap(), None);
        for wrong in [
            json!("0"),
            json!("4294967296"),
            json!("+1"),
            json!("x"),
            json!(42),
        ] {
            assert_eq!(field_of(check(json!({ "server_id": wrong }))), "server_id");
        }
        assert_eq!(field_of(check(json!("42"))), "ext_info");
        assert_eq!(field_of(check(json!({ "other": 1 }))), "other");
    }

    #[test]
    fn a_reset_takes_no_date() {
        for fine in [
            json!({}),
            json!({ "date_from": null }),
            json!({ "date_from": "" }),
        ] {
            assert!(refuse_date(fields(fine)).is_ok());
        }
        for date in [json!(1_630_052_714_000_u64), json!(0), json!("x")] {
            assert_eq!(
                field_of(refuse_date(fields(json!({ "date_from": date })))),
                "date_from"
            );
        }
    }
}
