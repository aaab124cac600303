//! Mappings of a composite task (contract §3.2 and §4.3).

use std::ops::RangeInclusive;

use serde_json::{Value, json};
use thalweg_control::Result;
use thalweg_control::model::{
    AutoMapping, ColumnInfo, ColumnLink, DataSourceRef, MappingFilter, NewMapping, NewTable,
    Selected, TableChoice, TableMapping, TaskMappings,
};
use thalweg_core::schema::TableName;

use super::multi_tasks::{server_id, server_id_in, task_id};
use crate::http::body::Fields;
use crate::http::error::Failure;
use crate::http::page;
use crate::http::query::Query;
use crate::http::route::{Call, Reply};

const COLUMNS: RangeInclusive<usize> = 1..=9999;
const NAME: RangeInclusive<usize> = 1..=256;
const ID: RangeInclusive<usize> = 1..=64;
const LENGTH: RangeInclusive<u32> = 0..=10_000_000;

pub(crate) async fn create(call: Call) -> Result<Reply, Failure> {
    let new = new_mapping(call.fields()?)?;
    let (scope, task) = (call.scope()?, call.id("task_id"));
    let id = call.app.mapping_create(scope, task, new).await?;
    Reply::ok(json!({ "mapping_id": id }))
}

pub(crate) async fn update(call: Call) -> Result<Reply, Failure> {
    let new = new_mapping(call.fields()?)?;
    let (scope, task, id) = (call.scope()?, call.id("task_id"), call.id("mapping_id"));
    call.app.mapping_update(scope, task, id, new).await?;
    Reply::ok(json!({ "mapping_id": id }))
}

/// The vendor documents form data for this one.
pub(crate) async fn auto(call: Call) -> Result<Reply, Failure> {
    let auto = auto_mapping(call.form().await?)?;
    let scope = call.scope()?;
    let made = call.app.mapping_auto(scope, auto).await?;
    Reply::ok(json!([render(&made, scope.instance())]))
}

pub(crate) async fn list(call: Call) -> Result<Reply, Failure> {
    let filter = filter(&call.query)?;
    let window = page::window_of_mappings(&call.query)?;
    let (scope, task) = (call.scope()?, call.id("task_id"));
    let found = call.app.mapping_list(scope, task, filter, window).await?;
    Reply::ok(render(&found, scope.instance()))
}

pub(crate) async fn delete(call: Call) -> Result<Reply, Failure> {
    let (scope, task, id) = (call.scope()?, call.id("task_id"), call.id("mapping_id"));
    call.app.mapping_delete(scope, task, id).await?;
    Reply::ok(json!({ "mapping_id": id }))
}

fn new_mapping(mut fields: Fields) -> Result<NewMapping> {
    let source_datasource_id = fields.text_needed("source_datasource_id", ID)?;
    let target_datasource_id = fields.text_needed("target_datasource_id", ID)?;
    let server_id = server_id(&mut fields)?;
    let tables = new_table(&mut fields)?;
    fields.finish()?;
    Ok(NewMapping {
        source_datasource_id,
        target_datasource_id,
        server_id,
        source_table: tables.source_table,
        target_table: tables.target_table,
        source_columns: tables.source_columns,
        target_columns: tables.target_columns,
        columns: tables.columns,
    })
}

/// The tables of a mapping and their columns; the other fields stay.
pub(in crate::http) fn new_table(fields: &mut Fields) -> Result<NewTable> {
    Ok(NewTable {
        source_table: fields.text_needed("source_table", NAME)?,
        target_table: fields.text_needed("target_table", NAME)?,
        source_columns: columns(fields, "source_columns")?,
        target_columns: columns(fields, "target_columns")?,
        columns: links(fields)?,
    })
}

fn auto_mapping(mut fields: Fields) -> Result<AutoMapping> {
    // There is one group on each side.
    for group in ["source_group", "target_group"] {
        fields.text_or_empty(group, ID)?;
    }
    if let Some(kind) = fields.text_or_empty("task_type", 1..=20)?
        && kind != "1"
    {
        return Err(fields.invalid("task_type", "Composite tasks are real-time: give 1."));
    }
    let auto = AutoMapping {
        task_id: task_id(&mut fields)?,
        source_datasource_id: fields.text_needed("source_ds_id", ID)?,
        target_datasource_id: fields.text_needed("target_ds_id", ID)?,
        server_id: match fields.text_or_empty("ext_info", 1..=256)? {
            None => None,
            Some(text) => server_id_in(&fields, &text)?,
        },
        choice: TableChoice {
            prefix: fields
                .text_or_empty("mapping_prefix", NAME)?
                .unwrap_or_default(),
            suffix: fields
                .text_or_empty("mapping_suffix", NAME)?
                .unwrap_or_default(),
            sources: selected(&mut fields, "source_select_mapping_tables")?,
            targets: selected(&mut fields, "target_select_mapping_tables")?,
        },
    };
    fields.finish()?;
    Ok(auto)
}

/// `schema.table1,schema.table2`, `schema.*`, or both.
fn selected(fields: &mut Fields, name: &str) -> Result<Vec<Selected>> {
    let text = fields
        .text_or_empty(name, 1..=1_000_000)?
        .unwrap_or_default();
    let mut out = Vec::new();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let table = part
            .contains('.')
            .then(|| TableName::parse(part, ""))
            .flatten();
        let reason = "Give schema.table or schema.*, several with commas between them.";
        let table = table.ok_or_else(|| fields.invalid(name, reason))?;
        out.push(match table.name.as_str() {
            "*" => Selected::Schema(table.schema),
            _ => Selected::Table(table),
        });
    }
    Ok(out)
}

fn columns(fields: &mut Fields, name: &str) -> Result<Vec<ColumnInfo>> {
    let objects = fields.objects(name, COLUMNS)?.unwrap_or_default();
    let parse = |mut object: Fields| {
        let info = column(&mut object, "field_name", "field_type", "field_length")?;
        object.finish()?;
        Ok(info)
    };
    objects.into_iter().map(parse).collect()
}

fn links(fields: &mut Fields) -> Result<Vec<ColumnLink>> {
    let objects = fields
        .objects("mapping_columns", COLUMNS)?
        .unwrap_or_default();
    let parse = |mut object: Fields| {
        let [name, kind, length] = [
            "source_column",
            "source_column_type",
            "source_column_length",
        ];
        let source = column(&mut object, name, kind, length)?;
        let [name, kind, length] = [
            "target_column",
            "target_column_type",
            "target_column_length",
        ];
        let target = column(&mut object, name, kind, length)?;
        object.finish()?;
        Ok(ColumnLink { source, target })
    };
    objects.into_iter().map(parse).collect()
}

fn column(object: &mut Fields, name: &str, kind: &str, length: &str) -> Result<ColumnInfo> {
    Ok(ColumnInfo {
        field_name: object.text(name, NAME)?,
        field_type: object.text_or_empty(kind, NAME)?,
        field_length: match object.text_or_empty(length, 1..=20)? {
            None => None,
            Some(text) => Some(digits(object, length, text)?),
        },
    })
}

fn digits(object: &Fields, name: &str, text: String) -> Result<String> {
    let plain = text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u32>() {
        Ok(number) if plain && LENGTH.contains(&number) => Ok(text),
        _ => Err(object.invalid(name, "Give a string of digits from 0 to 10000000.")),
    }
}

fn filter(query: &Query) -> Result<MappingFilter> {
    Ok(MappingFilter {
        source_datasource_id: query.text("source_datasource_id", 64)?,
        target_datasource_id: query.text("target_datasource_id", 64)?,
        source_table: query.text("source_table", 256)?,
        target_table: query.text("target_table", 256)?,
        table_name: query.text("table_name", 256)?,
    })
}

/// A `MultiTaskInitElement`.
pub(super) fn render(found: &TaskMappings, instance: &str) -> Value {
    let task = &found.task;
    let (source, target) = (task.source.as_ref(), task.target.as_ref());
    let field = |end: Option<&DataSourceRef>, get: fn(&DataSourceRef) -> &String| {
        end.map_or(Value::Null, |end| get(end).as_str().into())
    };
    let mappings: Vec<Value> = found.mappings.entities.iter().map(mapping).collect();
    json!({
        "ext_info": { "server_id": task.server_id.map(|id| id.to_string()) },
        "task_id": task.id,
        "source_datasource_id": field(source, |s| &s.id),
        "target_datasource_id": field(target, |s| &s.id),
        "source_group": "SOURCE_GROUP1",
        "target_group": "TARGET_GROUP1",
        "source_ds_id": field(source, |s| &s.id),
        "target_ds_id": field(target, |s| &s.id),
        "source_instance_id": instance,
        "target_instance_id": instance,
        "source_app_id": field(source, |s| &s.app_id),
        "target_app_id": field(target, |s| &s.app_id),
        "source_datasource_name": field(source, |s| &s.name),
        "target_datasource_name": field(target, |s| &s.name),
        "source_datasource_type": field(source, |s| &s.kind),
        "target_datasource_type": field(target, |s| &s.kind),
        "mappings": mappings,
        "mappings_total_count": found.mappings.total,
    })
}

/// A `MultiTaskMappingElement`.
fn mapping(mapping: &TableMapping) -> Value {
    let info = |column: &ColumnInfo| {
        json!({
            "field_name": column.field_name,
            "field_type": column.field_type,
            "field_length": column.field_length,
        })
    };
    let link = |link: &ColumnLink| {
        json!({
            "source_column": link.source.field_name,
            "source_column_type": link.source.field_type,
            "source_column_length": link.source.field_length,
            "target_column": link.target.field_name,
            "target_column_type": link.target.field_type,
            "target_column_length": link.target.field_length,
        })
    };
    json!({
        "id": mapping.id,
        "source_table": mapping.source_table,
        "target_table": mapping.target_table,
        "updated_time": mapping.updated_ms,
        "mapping_percent": mapping.percent,
        "status": mapping.status.as_str(),
        "source_columns": mapping.source_columns.iter().map(info).collect::<Vec<Value>>(),
        "target_columns": mapping.target_columns.iter().map(info).collect::<Vec<Value>>(),
        "mapping": mapping.columns.iter().map(link).collect::<Vec<Value>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body::tests::{field_of, fields};

    fn body() -> Value {
        json!({
            "source_datasource_id": "a", "target_datasource_id": "b",
            "source_table": "shop.orders", "target_table": "public.orders",
        })
    }

    #[test]
    fn a_mapping_is_read_with_its_columns() {
        let mut body = body();
        body["mapping_columns"] = json!([{
            "source_column": "id", "source_column_type": "int", "source_column_length": "11",
            "target_column": "id", "target_column_length": "",
        }]);
        let new = new_mapping(fields(body)).unwrap();
        assert_eq!(new.columns[0].source.field_length.as_deref(), Some("11"));
        assert_eq!(new.columns[0].target.field_length, None);
    }

    fn form() -> Value {
        json!({ "source_ds_id": "a", "target_ds_id": "b" })
    }

    #[test]
    fn a_form_is_read_with_its_selections() {
        let mut form = form();
        for (name, value) in [
            ("task_id", ""),
            ("task_type", "1"),
            ("source_group", "SOURCE_GROUP1"),
            ("ext_info", "{\"server_id\": \"7\"}"),
            ("mapping_suffix", "_copy"),
            ("source_select_mapping_tables", "shop.*, sales.a.b ,"),
        ] {
            form[name] = json!(value);
        }
        let auto = auto_mapping(fields(form)).unwrap();
        assert_eq!((auto.task_id, auto.server_id), (None, Some(7)));
        assert_eq!(auto.choice.suffix, "_copy");
        let wanted = [
            Selected::Schema("shop".into()),
            Selected::Table(TableName::new("sales", "a.b")),
        ];
        assert_eq!(auto.choice.sources, wanted);
        assert!(auto.choice.targets.is_empty());
    }

    #[test]
    fn wrong_fields_of_a_form_are_named() {
        let check = |name: &str, value: Value, wrong: &str| {
            let mut form = form();
            form[name] = value;
            assert_eq!(field_of(auto_mapping(fields(form))), wrong);
        };
        for name in ["source_ds_id", "target_ds_id"] {
            check(name, Value::Null, name);
            check(name, json!(""), name);
            check(name, json!("x".repeat(65)), name);
        }
        check("task_type", json!("2"), "task_type");
        check("task_id", json!("a/b"), "task_id");
        check("ext_info", json!("{\"server_id\": \"0\"}"), "server_id");
        check("ext_info", json!("server_id"), "ext_info");
        check("source_group", json!("x".repeat(65)), "source_group");
        for wrong in ["a", "a.", ".b", "shop.a,b", "*"] {
            for name in [
                "source_select_mapping_tables",
                "target_select_mapping_tables",
            ] {
                check(name, json!(wrong), name);
            }
        }
        check("unheard_of", json!("1"), "unheard_of");
    }

    #[test]
    fn wrong_fields_are_named() {
        let check = |name: &str, value: Value, wrong: &str| {
            let mut body = body();
            body[name] = value;
            assert_eq!(field_of(new_mapping(fields(body))), wrong);
        };
        for name in [
            "source_datasource_id",
            "target_datasource_id",
            "source_table",
            "target_table",
        ] {
            check(name, Value::Null, name);
            check(name, json!(""), name);
            check(name, json!("x".repeat(257)), name);
        }
        check("mapping_columns", json!([]), "mapping_columns");
        check("mapping_columns", json!(["id"]), "mapping_columns[0]");
        let length = json!([{ "source_column_length": 11 }]);
        check(
            "mapping_columns",
            length,
            "mapping_columns[0].source_column_length",
        );
        let length = json!([{}, { "field_length": "10000001" }]);
        check("source_columns", length, "source_columns[1].field_length");
        check(
            "target_columns",
            json!([{ "name": "x" }]),
            "target_columns[0].name",
        );
        check("unheard_of", json!(1), "unheard_of");
    }
}
