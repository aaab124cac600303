//! Ordinary tasks: create and update (contract §3.3).
//!
//! The second field of the body is a form in a text, which the contract leaves open but for the names seen in
//! its examples. What we have no use for is kept and given back. What would change which rows are moved, and
//! is not built, is refused: an SQL text of one's own, a condition, a place for rows that failed.

use serde_json::Value;
use thalweg_control::Result;
use thalweg_control::model::{ColumnInfo, ColumnLink, NewMapping, OrdinaryTask, TaskKind};

use super::multi_tasks::{DATASOURCE_ID, DESCRIPTION, tag, task_name};
use super::tasks;
use crate::http::body::Fields;
use crate::http::error::Failure;
use crate::http::route::{Call, Reply};

const TABLE: std::ops::RangeInclusive<usize> = 1..=256;
const COLUMNS_MAX: usize = 9999;
/// The contract has no limit but that of an integer; a form with thousands of columns is shorter.
const DETAIL: std::ops::RangeInclusive<usize> = 1..=256 << 10;

pub(crate) async fn create(call: Call) -> Result<Reply, Failure> {
    let new = ordinary_task(call.fields()?)?;
    let id = call.app.ordinary_create(call.scope()?, new).await?;
    tasks::shown(&call, &id).await
}

pub(crate) async fn update(call: Call) -> Result<Reply, Failure> {
    let new = ordinary_task(call.fields()?)?;
    let id = call.id("task_id");
    call.app.ordinary_update(call.scope()?, id, new).await?;
    tasks::shown(&call, id).await
}

fn ordinary_task(mut fields: Fields) -> Result<OrdinaryTask> {
    let task = fields.object("task")?;
    let mut task = task.ok_or_else(|| fields.missing("task"))?;
    let detail = fields.text_needed("task_detail", DETAIL)?;
    let form = Fields::of_json(&detail);
    let mut form =
        form.ok_or_else(|| fields.invalid("task_detail", "Give a JSON object in a text."))?;
    fields.finish()?;
    let name = task_name(&mut task)?;
    let word = task.text_needed("task_type", 1..=10)?;
    let source = task.text_needed("source_datasource_id", DATASOURCE_ID)?;
    let target = task.text_needed("target_datasource_id", DATASOURCE_ID)?;
    let description = task.text("description", DESCRIPTION)?;
    let tag = tag(&mut task)?;
    let from = form.object("sourceSelectedDatasource")?;
    let mut from = from.ok_or_else(|| form.missing("sourceSelectedDatasource"))?;
    let to = form.object("targetSelectedDatasource")?;
    let mut to = to.ok_or_else(|| form.missing("targetSelectedDatasource"))?;
    not_built(&mut form, &mut from)?;
    let kind = match word.to_ascii_uppercase().as_str() {
        "REALTIME" => TaskKind::Realtime,
        "TIMING" => TaskKind::Timing {
            incremental: from.flag("need_inc_migration")?.unwrap_or(false),
        },
        _ => return Err(task.invalid("task_type", "Give REALTIME or TIMING.")),
    };
    task.finish()?;
    let source_table = from.text_needed("sourceTable", TABLE)?;
    let target_table = to.text_needed("targetTable", TABLE)?;
    let source_columns = columns(&mut from, "sourceSelectedColumnList")?;
    let target_columns = columns(&mut to, "targetSelectedColumnList")?;
    let columns = links(&mut form, &source_columns, &target_columns)?;
    Ok(OrdinaryTask {
        name,
        description,
        tag,
        kind,
        detail,
        mapping: NewMapping {
            source_datasource_id: source,
            target_datasource_id: target,
            server_id: None,
            source_table,
            target_table,
            source_columns,
            target_columns,
            columns,
        },
    })
}

/// Refuses what would move other rows than we do.
fn not_built(form: &mut Fields, from: &mut Fields) -> Result<()> {
    let given = |value: Option<Value>| match value {
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Bool(flag)) => flag,
        Some(_) => true,
        None => false,
    };
    for (name, reason) in [
        (
            "querySql",
            "An SQL text of one's own is not built: a task moves a table.",
        ),
        (
            "isAddSql",
            "An SQL text of one's own is not built: a task moves a table.",
        ),
        (
            "where",
            "Conditions are not built: a task moves all rows of its table.",
        ),
        (
            "whereOptions",
            "Conditions are not built: a task moves all rows of its table.",
        ),
        (
            "dataTimestamp",
            "An incremental task has no time to begin at: it copies the rows there are, and then follows \
             the changes in the source's log.",
        ),
    ] {
        if given(from.take(name)) {
            return Err(from.invalid(name, reason));
        }
    }
    for (name, field, reason) in [
        (
            "error_handler",
            "mode",
            "Rows that fail go into the quarantine of this server: set the task's option on_bad_row.",
        ),
        (
            "afterImplementation",
            "actionType",
            "No action after a run is built.",
        ),
    ] {
        if let Some(Value::Object(object)) = form.take(name)
            && given(object.get(field).cloned())
        {
            return Err(form.invalid(name, reason));
        }
    }
    Ok(())
}

/// Items like a `ColumnInfo`; of each the name, type and length.
fn columns(fields: &mut Fields, name: &str) -> Result<Vec<ColumnInfo>> {
    let items = fields.objects(name, 0..=COLUMNS_MAX)?.unwrap_or_default();
    items
        .into_iter()
        .map(|mut item| {
            Ok(ColumnInfo {
                field_name: Some(item.text_needed("field_name", TABLE)?),
                field_type: item.text_or_empty("field_type", TABLE)?,
                field_length: item.text_or_empty("field_length", 1..=20)?,
            })
        })
        .collect()
}

/// Which column goes where: as `mappingTable` says (`{"source": …, "target": …}`), else the chosen ones of the
/// same name, else, if none are chosen, all of the same name.
fn links(form: &mut Fields, from: &[ColumnInfo], to: &[ColumnInfo]) -> Result<Vec<ColumnLink>> {
    let named = |columns: &[ColumnInfo], name: &str| {
        let same = |one: &&ColumnInfo| one.field_name.as_deref() == Some(name);
        let plain = || ColumnInfo {
            field_name: Some(name.to_owned()),
            ..ColumnInfo::default()
        };
        columns.iter().find(same).cloned().unwrap_or_else(plain)
    };
    let table = form
        .objects("mappingTable", 0..=COLUMNS_MAX)?
        .unwrap_or_default();
    if !table.is_empty() {
        let link = |mut item: Fields| {
            Ok(ColumnLink {
                source: named(from, &item.text_needed("source", TABLE)?),
                target: named(to, &item.text_needed("target", TABLE)?),
            })
        };
        return table.into_iter().map(link).collect();
    }
    if from.is_empty() || to.is_empty() {
        return Ok(Vec::new());
    }
    let mut links = Vec::with_capacity(from.len());
    for source in from {
        let name = source.field_name.as_deref().unwrap_or_default();
        let same = |one: &&ColumnInfo| {
            one.field_name
                .as_deref()
                .is_some_and(|other| other.eq_ignore_ascii_case(name))
        };
        match to.iter().find(same) {
            Some(target) => links.push(ColumnLink {
                source: source.clone(),
                target: target.clone(),
            }),
            None => {
                let reason = format!(
                    "Column {name} has no target column of its name among those selected: say in \
                     mappingTable where it goes, as {{\"source\": …, \"target\": …}}."
                );
                return Err(form.invalid("mappingTable", reason));
            }
        }
    }
    Ok(links)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::http::body::tests::{field_of, fields};

    /// Of the shape of the contract's example.
    fn form() -> Value {
        let columns = |names: [&str; 2]| {
            names.map(|name| {
                json!({ "null_able": "1", "unique": "0", "field_length": "11", "field_type": "INT", "field_name": name })
            })
        };
        json!({
            "needAPI": false,
            "sourceSelectedDatasource": {
                "extend_meta_data": [], "orderType": "ASC", "sourceDateColumn": "", "dataTimestamp": "",
                "sourceTable": "mydb.tb_tmp01", "sourceSelectedColumnList": columns(["id", "age"]),
                "isParse": "true", "querySql": "", "whereOptions": [], "isAddSql": false, "where": [],
                "need_inc_migration": false, "isTextInput": false,
            },
            "targetSelectedDatasource": {
                "targetTable": "mydb.tb_tmp02", "targetSelectedColumnList": columns(["ID", "age"]),
                "batchNumber": 1000, "supportPartUpdate": false,
            },
            "mappingTable": [], "mappingRequired": false,
            "error_handler": { "path": "", "datasource_id": "", "mode": "", "app_id": "" },
            "afterImplementation": { "actionType": "" },
        })
    }

    fn body(form: &Value) -> Value {
        json!({
            "task": {
                "task_name": "fdi_task", "task_type": "TIMING", "source_datasource_id": "s",
                "target_datasource_id": "t", "description": "one", "task_tag": "fdi_autotest",
            },
            "task_detail": form.to_string(),
        })
    }

    fn read(form: &Value) -> Result<OrdinaryTask> {
        ordinary_task(fields(body(form)))
    }

    #[test]
    fn the_form_of_the_contract_is_read() {
        let task = read(&form()).unwrap();
        assert_eq!(task.kind, TaskKind::Timing { incremental: false });
        let mapping = &task.mapping;
        assert_eq!(
            (mapping.source_table.as_str(), mapping.target_table.as_str()),
            ("mydb.tb_tmp01", "mydb.tb_tmp02")
        );
        let pairs: Vec<_> = mapping
            .columns
            .iter()
            .map(|link| {
                (
                    link.source.field_name.as_deref().unwrap(),
                    link.target.field_name.as_deref().unwrap(),
                )
            })
            .collect();
        assert_eq!(pairs, [("id", "ID"), ("age", "age")]);
        let mut incremental = form();
        incremental["sourceSelectedDatasource"]["need_inc_migration"] = json!(true);
        assert_eq!(
            read(&incremental).unwrap().kind,
            TaskKind::Timing { incremental: true }
        );
        let mut by_table = form();
        by_table["mappingTable"] = json!([{ "source": "age", "target": "ID" }]);
        let links = read(&by_table).unwrap().mapping.columns;
        assert_eq!(links.len(), 1);
        assert_eq!(links[0].target.field_type.as_deref(), Some("INT"));
        let mut all = form();
        all["targetSelectedDatasource"]["targetSelectedColumnList"] = json!([]);
        assert_eq!(read(&all).unwrap().mapping.columns, []);
    }

    #[test]
    fn what_is_not_built_is_refused_by_its_name() {
        let check = |path: &str, value: Value| {
            let mut form = form();
            *form.pointer_mut(path).unwrap() = value.clone();
            let field = path.split('/').nth(1).unwrap();
            let leaf = path.rsplit('/').next().unwrap();
            let found = field_of(read(&form));
            assert!(
                found == leaf || found.starts_with(field),
                "{path} {value}: {found}"
            );
        };
        check("/sourceSelectedDatasource/querySql", json!("SELECT 1"));
        check("/sourceSelectedDatasource/isAddSql", json!(true));
        check("/sourceSelectedDatasource/where", json!([{ "id": 1 }]));
        check("/sourceSelectedDatasource/whereOptions", json!(["x"]));
        check(
            "/sourceSelectedDatasource/dataTimestamp",
            json!("2020-01-01"),
        );
        check("/sourceSelectedDatasource/sourceTable", json!(""));
        check("/sourceSelectedDatasource", Value::Null);
        check("/targetSelectedDatasource/targetTable", Value::Null);
        check("/error_handler/mode", json!("OBS"));
        check("/afterImplementation/actionType", json!("KAFKA"));
        check("/mappingTable", json!([{ "a": 1 }]).clone());
    }

    #[test]
    fn wrong_fields_are_named() {
        let check = |path: &str, value: Value, field: &str| {
            let mut body = body(&form());
            *body.pointer_mut(path).unwrap() = value;
            assert_eq!(field_of(ordinary_task(fields(body))), field, "{path}");
        };
        check("/task", Value::Null, "task");
        check("/task_detail", Value::Null, "task_detail");
        check("/task_detail", json!("x"), "task_detail");
        check("/task_detail", json!("[]"), "task_detail");
        check("/task/task_name", json!("a"), "task_name");
        check("/task/task_type", json!("DAILY"), "task_type");
        check(
            "/task/source_datasource_id",
            json!(""),
            "source_datasource_id",
        );
        check(
            "/task/target_datasource_id",
            Value::Null,
            "target_datasource_id",
        );
        check("/task/task_tag", json!("x"), "task_tag");
    }
}
