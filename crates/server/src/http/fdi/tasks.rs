//! Tasks: list, show, delete, start and stop, batch, statistics (contract §3.3 and §4.4).

use serde_json::{Map, Value, json};
use thalweg_control::Result;
use thalweg_control::model::{
    BatchItem, DataSourceRef, ExecuteStatus, Execution, MappingFilter, Statistics, Task,
    TaskFilter, TaskKind, TaskSort, Window,
};

use crate::http::body::Fields;
use crate::http::error::{self, Failure};
use crate::http::native;
use crate::http::query::Query;
use crate::http::route::{Call, Reply};
use crate::http::{page, time};

/// More than any client sends, so that the wrong count is told as what it is.
const LIST_MAX: usize = 9999;

pub(crate) async fn list(call: Call) -> Result<Reply, Failure> {
    let filter = filter(&call.query)?;
    let window = page::window_of_tasks(&call.query)?;
    let scope = call.scope()?;
    let found = call.app.task_list(scope, filter, window).await?;
    let row = |task: &Task| brief(task, scope.instance());
    Reply::ok(page::render(&found, "entities", row))
}

pub(crate) async fn show(call: Call) -> Result<Reply, Failure> {
    shown(&call, call.id("task_id")).await
}

/// A `TaskResponseV2`.
pub(super) async fn shown(call: &Call, id: &str) -> Result<Reply, Failure> {
    let scope = call.scope()?;
    let none = Window {
        offset: 0,
        limit: 0,
    };
    let all = MappingFilter::default();
    let found = call.app.mapping_list(scope, id, all, none).await?;
    let live = call.app.task_live(scope, id).await?;
    let verified = call.app.task_verified(scope, id).await?;
    let paused = call.app.tables_paused(scope, id).await?;
    let status = native::status(&found.task, live.as_ref(), &verified, &paused);
    let detail = detail(&found.task, status, found.mappings.total);
    Reply::ok(json!({
        "task": basic(&found.task, scope.project()),
        "task_detail": detail.to_string(),
    }))
}

pub(crate) async fn delete(call: Call) -> Result<Reply, Failure> {
    call.app
        .task_delete(call.scope()?, call.id("task_id"))
        .await?;
    Ok(Reply::Empty)
}

pub(crate) async fn run(call: Call) -> Result<Reply, Failure> {
    call.app.task_run(call.scope()?, call.id("task_id")).await?;
    Reply::ok(json!({}))
}

pub(crate) async fn terminate(call: Call) -> Result<Reply, Failure> {
    let (scope, id) = (call.scope()?, call.id("task_id"));
    call.app.task_terminate(scope, id).await?;
    Reply::ok(json!({ "message": "success" }))
}

pub(crate) async fn batch(call: Call) -> Result<Reply, Failure> {
    let (start, ids) = batch_of(call.fields()?, call.app.quotas().batch)?;
    let items = call.app.task_batch(call.scope()?, start, &ids).await?;
    Reply::ok(outcome(&items))
}

pub(crate) async fn statistics(call: Call) -> Result<Reply, Failure> {
    let (ordinary, composite) = call.app.task_statistics(call.scope()?).await?;
    Reply::ok(json!({
        "common_task_details": counts(&ordinary),
        "cdc_task_details": counts(&composite),
    }))
}

/// The words of `execute_status`.
pub(super) const EXECUTE_STATUS: &[&str] = &[
    "UNSTARTED",
    "WAITING",
    "RUNNING",
    "SUCCESS",
    "CANCELLED",
    "ERROR",
];

fn filter(query: &Query) -> Result<TaskFilter> {
    // `name` to the vendor's client, `task_name` in the current pages.
    let name = match query.text("name", 100)? {
        Some(name) => Some(name),
        None => query.text("task_name", 100)?,
    };
    let (sort, direction) = (
        query.word(
            "sort_field",
            &["CREATED_DATE", "LAST_MODIFIED_DATE", "TASK_NAME"],
        )?,
        query.word("sort_type", &["ASC", "DESC"])?,
    );
    let sort = match sort {
        Some("TASK_NAME") => TaskSort::Name,
        Some("LAST_MODIFIED_DATE") => TaskSort::Updated,
        _ => TaskSort::Created,
    };
    // Without a word: the newest first, and names in their order.
    let descending = direction.map_or(sort != TaskSort::Name, |word| word == "DESC");
    let kind = query.word("task_type", &["realtime", "timing"])?;
    let status = query.word("execute_status", EXECUTE_STATUS)?;
    Ok(TaskFilter {
        task_id: query.text("task_id", 64)?,
        name,
        name_exact_case: None,
        running: query.int("status", 0, 1)?.map(|status| status == 1),
        realtime: kind.map(|kind| kind == "realtime"),
        source_datasource_id: query.text("source_datasource_id", 64)?,
        target_datasource_id: query.text("target_datasource_id", 64)?,
        source_app_id: query.text("source_app_id", 64)?,
        target_app_id: query.text("target_app_id", 64)?,
        tag: query.text("task_tag", 64)?,
        execute_status: status.and_then(ExecuteStatus::parse),
        sort,
        descending,
    })
}

/// `true` to start, and the ids.
fn batch_of(mut fields: Fields, max: u32) -> Result<(bool, Vec<String>), Failure> {
    let action = fields.word("action_id", &["start", "stop"])?;
    let action = action.ok_or_else(|| fields.missing("action_id"))?;
    let items = fields.objects("list", 0..=LIST_MAX)?.unwrap_or_default();
    fields.finish()?;
    if items.is_empty() {
        return Err(Failure::EmptyList);
    }
    if items.len() > max as usize {
        let text = format!(
            "The list has {} tasks, at most {max} go at once.",
            items.len()
        );
        return Err(thalweg_control::Error::Parameters(text).into());
    }
    let mut ids = Vec::with_capacity(items.len());
    for (index, mut item) in items.into_iter().enumerate() {
        let id = item.text_or_empty("task_id", 1..=64)?;
        item.finish()?;
        ids.push(id.ok_or(Failure::EmptyTaskId { index })?);
    }
    Ok((action == "start", ids))
}

fn outcome(items: &[BatchItem]) -> Value {
    let render = |item: &BatchItem| {
        let (code, message) = error::item(item.error.as_ref());
        json!({
            "task_id": item.task_id,
            "task_name": item.task_name,
            "error_code": code,
            "error_msg": message,
        })
    };
    let (failure, success): (Vec<&BatchItem>, Vec<&BatchItem>) =
        items.iter().partition(|item| item.error.is_some());
    json!({
        "success_count": success.len(),
        "failure_count": failure.len(),
        "success": success.into_iter().map(render).collect::<Vec<Value>>(),
        "failure": failure.into_iter().map(render).collect::<Vec<Value>>(),
    })
}

fn counts(statistics: &Statistics) -> Value {
    json!({
        "running_tasks_count": statistics.running,
        "abnormal_tasks_count": statistics.abnormal,
        "terminated_tasks_count": statistics.terminated,
        "completed_tasks_count": statistics.completed,
    })
}

fn field(end: Option<&DataSourceRef>, get: fn(&DataSourceRef) -> &String) -> Value {
    end.map_or(Value::Null, |end| get(end).as_str().into())
}

/// A `BriefTaskRespBean`: numbers for the status, capitals for the type, and a date as text, since
/// the vendor's client cannot read another.
fn brief(task: &Task, instance: &str) -> Value {
    let (source, target) = (task.source.as_ref(), task.target.as_ref());
    json!({
        "task_id": task.id,
        "task_name": task.name,
        "task_type": task_type(task).to_ascii_uppercase(),
        "status": i32::from(task.is_on()),
        "created_date": time::millis(task.created_ms),
        "version": null,
        "last_modified_time": task.updated_ms,
        "execute_status": task.execute_status().as_str(),
        "source_app_id": field(source, |s| &s.app_id),
        "target_app_id": field(target, |s| &s.app_id),
        "source_instance_id": instance,
        "target_instance_id": instance,
        "ext_type": ext_type(task),
        "enterprise_project_id": "0",
        "task_tag": task.tag,
    })
}

/// A `TaskBasicRsp`: words for the status, small letters for the type, dates as numbers.
fn basic(task: &Task, project: &str) -> Value {
    let (source, target) = (task.source.as_ref(), task.target.as_ref());
    json!({
        "task_id": task.id,
        "task_name": task.name,
        "task_type": task_type(task),
        "status": if task.is_on() { "running" } else { "stop" },
        "project_id": project,
        "source_datasource_id": field(source, |s| &s.id),
        "target_datasource_id": field(target, |s| &s.id),
        "source_datasource_name": field(source, |s| &s.name),
        "target_datasource_name": field(target, |s| &s.name),
        "source_app_id": field(source, |s| &s.app_id),
        "target_app_id": field(target, |s| &s.app_id),
        "source_app_name": field(source, |s| &s.app_name),
        "target_app_name": field(target, |s| &s.app_name),
        "created_date": task.created_ms,
        "last_modified_date": task.updated_ms,
        "description": task.description,
        "task_tag": task.tag,
    })
}

/// The type of a task, in small letters.
pub(super) fn task_type(task: &Task) -> &'static str {
    match task.kind {
        TaskKind::Composite | TaskKind::Realtime => "realtime",
        TaskKind::Timing { .. } => "timing",
    }
}

/// What marks a composite task.
pub(super) fn ext_type(task: &Task) -> Option<&'static str> {
    (task.kind == TaskKind::Composite).then_some("CDC")
}

/// What `task_detail` tells: of an ordinary task the form it was made with, and what we have to say under a name of
/// our own; of a composite task that alone, as the contract leaves it open.
fn detail(task: &Task, status: Value, mappings: u64) -> Value {
    let ours = ours(task, status, mappings);
    let form = task.detail.as_ref();
    let form = form.and_then(|form| serde_json::from_str::<Map<String, Value>>(form).ok());
    match form {
        None => ours,
        Some(mut form) => {
            form.insert("thalweg".into(), ours);
            Value::Object(form)
        }
    }
}

fn ours(task: &Task, status: Value, mappings: u64) -> Value {
    let mut detail = status;
    let more = json!({
        "operation_types": operations(task),
        "options": native::task_options(&task.options),
        "server_id": task.server_id.map(|id| id.to_string()),
        "mappings_count": mappings,
        "execution_id": task.execution.as_ref().map(|e: &Execution| e.id.as_str()),
    });
    if let (Some(detail), Value::Object(more)) = (detail.as_object_mut(), more) {
        detail.extend(more.into_iter().collect::<Map<String, Value>>());
    }
    detail
}

fn operations(task: &Task) -> Vec<&'static str> {
    let chosen = task.operations;
    let words = [
        (chosen.insert, "INSERT"),
        (chosen.update, "UPDATE"),
        (chosen.delete, "DELETE"),
    ];
    words
        .iter()
        .filter(|(yes, _)| *yes)
        .map(|(_, word)| *word)
        .collect()
}

#[cfg(test)]
mod tests {
    use thalweg_control::{Error, Subject};

    use super::*;
    use crate::http::body::tests::{field_of, fields};

    #[test]
    fn a_batch_is_read() {
        let body =
            json!({ "action_id": "start", "list": [{ "task_id": "a" }, { "task_id": "b" }] });
        let (start, ids) = batch_of(fields(body), 10).unwrap();
        assert!(start);
        assert_eq!(ids, ["a", "b"]);
    }

    #[test]
    fn batches_are_refused_with_the_codes_of_the_contract() {
        let check = |body: Value| batch_of(fields(body), 10).unwrap_err();
        let item = json!({ "task_id": "a" });
        assert!(matches!(
            check(json!({ "action_id": "stop" })),
            Failure::EmptyList
        ));
        assert!(matches!(
            check(json!({ "action_id": "stop", "list": [] })),
            Failure::EmptyList
        ));
        for empty in [
            json!({}),
            json!({ "task_id": "" }),
            json!({ "task_id": null }),
        ] {
            let body = json!({ "action_id": "stop", "list": [item, empty] });
            assert!(matches!(check(body), Failure::EmptyTaskId { index: 1 }));
        }
        let many = json!({ "action_id": "stop", "list": vec![item.clone(); 11] });
        assert!(matches!(
            check(many),
            Failure::Control(Error::Parameters(_))
        ));
        let field = |body: Value| match check(body) {
            Failure::Control(error) => field_of::<()>(Err(error)),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            field(json!({ "action_id": "go", "list": [item] })),
            "action_id"
        );
        assert_eq!(field(json!({ "list": [item] })), "action_id");
        assert_eq!(field(json!({ "action_id": "stop", "list": "a" })), "list");
        assert_eq!(
            field(json!({ "action_id": "stop", "list": ["a"] })),
            "list[0]"
        );
        let long = json!({ "action_id": "stop", "list": [{ "task_id": "x".repeat(65) }] });
        assert_eq!(field(long), "list[0].task_id");
    }

    #[test]
    fn items_of_a_batch_carry_their_own_errors() {
        let good = BatchItem {
            task_id: "a".into(),
            task_name: "one".into(),
            error: None,
        };
        let bad = BatchItem {
            task_id: "b".into(),
            task_name: String::new(),
            error: Some(Error::NotFound(Subject::Task)),
        };
        let value = outcome(&[bad, good]);
        assert_eq!(
            (&value["success_count"], &value["failure_count"]),
            (&json!(1), &json!(1))
        );
        assert_eq!(value["success"][0]["error_code"], "");
        assert_eq!(value["success"][0]["error_msg"], "");
        assert_eq!(value["failure"][0]["error_code"], "FDI.3081");
        assert_eq!(value["failure"][0]["error_msg"], "The task does not exist.");
    }

    #[test]
    fn filters_take_both_names_and_any_case_of_words() {
        let parse = |text: &str| filter(&Query::parse(text));
        assert_eq!(parse("task_name=a").unwrap().name.as_deref(), Some("a"));
        assert_eq!(
            parse("name=b&task_name=a").unwrap().name.as_deref(),
            Some("b")
        );
        assert_eq!(parse("task_type=REALTIME").unwrap().realtime, Some(true));
        assert_eq!(parse("status=1").unwrap().running, Some(true));
        assert!(parse("").unwrap().descending);
        assert!(!parse("sort_type=asc").unwrap().descending);
        for wrong in [
            "status=2",
            "status=running",
            "task_type=x",
            "execute_status=x",
            "sort_field=x",
        ] {
            assert_eq!(field_of(parse(wrong)), wrong.split('=').next().unwrap());
        }
    }

    #[test]
    fn the_words_of_the_query_are_those_of_the_model() {
        let words: Vec<&str> = ExecuteStatus::ALL.iter().map(|s| s.as_str()).collect();
        assert_eq!(words, EXECUTE_STATUS);
    }
}
