//! Tables of a task, one by one: listed, added, removed, paused, resumed and loaded again, also while the
//! task runs.

use serde_json::{Map, Value, json};
use thalweg_control::Error;
use thalweg_control::model::{Paused, TaskTable};

use super::error::Failure;
use super::fdi::mappings::new_table;
use super::native::table_status;
use super::page;
use super::route::{Call, Reply};

pub(crate) async fn list(call: Call) -> Result<Reply, Failure> {
    let window = page::window(&call.query)?;
    let (scope, id) = (call.scope()?, call.id("task_id"));
    let found = call.app.table_list(scope, id, window).await?;
    Reply::ok(page::render(&found, "tables", render))
}

pub(crate) async fn add(call: Call) -> Result<Reply, Failure> {
    let mut fields = call.fields()?;
    let new = new_table(&mut fields)?;
    fields.finish()?;
    let (scope, id) = (call.scope()?, call.id("task_id"));
    Reply::created(render(&call.app.table_add(scope, id, new).await?))
}

pub(crate) async fn remove(call: Call) -> Result<Reply, Failure> {
    let (scope, task, id) = (call.scope()?, call.id("task_id"), call.id("mapping_id"));
    call.app.table_remove(scope, task, id).await?;
    Ok(Reply::Empty)
}

pub(crate) async fn pause(call: Call) -> Result<Reply, Failure> {
    no_fields(&call)?;
    let (scope, task, id) = (call.scope()?, call.id("task_id"), call.id("mapping_id"));
    Reply::ok(render(&call.app.table_pause(scope, task, id).await?))
}

pub(crate) async fn resume(call: Call) -> Result<Reply, Failure> {
    no_fields(&call)?;
    let (scope, task, id) = (call.scope()?, call.id("task_id"), call.id("mapping_id"));
    Reply::ok(render(&call.app.table_resume(scope, task, id).await?))
}

pub(crate) async fn reload(call: Call) -> Result<Reply, Failure> {
    no_fields(&call)?;
    let (scope, task, id) = (call.scope()?, call.id("task_id"), call.id("mapping_id"));
    Reply::ok(render(&call.app.table_reload(scope, task, id).await?))
}

/// There is nothing to be said in a body.
fn no_fields(call: &Call) -> Result<(), Error> {
    match call.fields_if_any()? {
        Some(fields) => fields.finish(),
        None => Ok(()),
    }
}

fn render(table: &TaskTable) -> Value {
    let names = (table.source.clone(), table.target.clone());
    let status = table.status.as_ref();
    json!({
        "mapping_id": table.mapping,
        "source_table": table.source,
        "target_table": table.target,
        "paused": table.paused.as_ref().map(why),
        "reload": table.reload,
        "status": status.map(|status| table_status(status, &names, None)),
    })
}

fn why(paused: &Paused) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("reason".into(), paused.reason.as_str().into());
    map.insert("fix".into(), paused.fix.as_str().into());
    map.insert("since_ms".into(), paused.since_ms.into());
    map.insert("returns".into(), paused.returns.into());
    map
}

/// A table that is paused, as the status of its task has it.
pub(super) fn paused(table: &TaskTable) -> Value {
    let mut map = table.paused.as_ref().map(why).unwrap_or_default();
    map.insert("mapping_id".into(), table.mapping.as_str().into());
    map.insert("source_table".into(), table.source.as_str().into());
    map.insert("target_table".into(), table.target.as_str().into());
    map.into()
}

#[cfg(test)]
mod tests {
    use thalweg_engine::status::TableStatus;

    use super::*;

    #[test]
    fn a_table_is_told_with_its_pause_and_its_figures() {
        let paused = Paused {
            reason: "changed".to_owned(),
            fix: "change it back".to_owned(),
            since_ms: 5,
            returns: false,
        };
        let table = TaskTable {
            mapping: "m".to_owned(),
            source: "shop.a".to_owned(),
            target: "public.a".to_owned(),
            paused: Some(paused),
            reload: true,
            status: None,
        };
        let why =
            json!({"reason": "changed", "fix": "change it back", "since_ms": 5, "returns": false});
        let expected = json!({
            "mapping_id": "m", "source_table": "shop.a", "target_table": "public.a",
            "paused": why, "reload": true, "status": null,
        });
        assert_eq!(render(&table), expected);
        let expected = json!({
            "mapping_id": "m", "source_table": "shop.a", "target_table": "public.a",
            "reason": "changed", "fix": "change it back", "since_ms": 5, "returns": false,
        });
        assert_eq!(super::paused(&table), expected);
        let runs = TaskTable {
            paused: None,
            status: Some(TableStatus::default()),
            ..table
        };
        let shown = render(&runs);
        assert_eq!(shown["paused"], Value::Null);
        assert_eq!(shown["status"]["phase"], "Waiting");
    }
}
