//! Data sources (contract §3.1).

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};
use thalweg_control::model::{DataSource, DataSourceFilter, DataSourceInput, Direction, Role};
use thalweg_control::{Error, Result};
use thalweg_core::schema::{ColumnSchema, ColumnType, TableSchema};

use super::content::{self, Purpose};
use crate::http::body::Fields;
use crate::http::error::Failure;
use crate::http::page;
use crate::http::query::Query;
use crate::http::route::{Call, Reply};

/// The types of the contract.
const TYPES: &[&str] = &[
    "DWS",
    "MYSQL",
    "KAFKA",
    "API",
    "OBS",
    "SAP",
    "MRSHBASE",
    "MRSHDFS",
    "MRSHIVE",
    "WEBSOCKET",
    "SQLSERVER",
    "ORACLE",
    "POSTGRESQL",
    "REDIS",
    "MONGODB",
    "DIS",
    "HL7",
    "RABBITMQ",
    "SNMP",
    "IBMMQ",
    "CUSTOMIZED",
    "ACTIVEMQ",
    "ARTEMISMQ",
    "FTP",
    "HIVE",
    "HANA",
    "FIKAFKA",
    "MRSKAFKA",
    "FIHDFS",
    "FIHIVE",
    "GAUSS200",
    "GAUSS100",
    "LDAP",
    "DB2",
    "TAURUS",
];
/// Those of them that are connected to; the others are stored, and no more.
const SUPPORTED: &[&str] = &["MYSQL", "POSTGRESQL"];

const NAME: RangeInclusive<usize> = 1..=255;
const NAME_EXCLUDES: &str = "&<>\"'()";
const APP_ID: RangeInclusive<usize> = 4..=255;
const DESCRIPTION: RangeInclusive<usize> = 4..=1024;
/// The contract has no limit; what a person writes is shorter.
const SQL: RangeInclusive<usize> = 1..=65_536;

pub(crate) async fn create(call: Call) -> Result<Reply, Failure> {
    let input = input(call.fields()?, Purpose::Create)?;
    let scope = call.scope()?;
    let made = call.app.datasource_create(scope, input).await?;
    Reply::created(render(&made, scope.instance()))
}

pub(crate) async fn list(call: Call) -> Result<Reply, Failure> {
    let filter = filter(&call.query)?;
    let window = page::window(&call.query)?;
    let scope = call.scope()?;
    let found = call.app.datasource_list(scope, filter, window).await?;
    let row = |source: &DataSource| render(source, scope.instance());
    Reply::ok(page::render(&found, "entities", row))
}

pub(crate) async fn show(call: Call) -> Result<Reply, Failure> {
    let scope = call.scope()?;
    let found = call
        .app
        .datasource_show(scope, call.id("datasource_id"))
        .await?;
    Reply::ok(render(&found, scope.instance()))
}

pub(crate) async fn update(call: Call) -> Result<Reply, Failure> {
    let input = input(call.fields()?, Purpose::Update)?;
    let (scope, id) = (call.scope()?, call.id("datasource_id"));
    let changed = call.app.datasource_update(scope, id, input).await?;
    Reply::ok(render(&changed, scope.instance()))
}

pub(crate) async fn delete(call: Call) -> Result<Reply, Failure> {
    let (scope, id) = (call.scope()?, call.id("datasource_id"));
    call.app.datasource_delete(scope, id).await?;
    Ok(Reply::Empty)
}

pub(crate) async fn tables(call: Call) -> Result<Reply, Failure> {
    let direction = direction(&call.query)?;
    // For types we do not have; its limits hold all the same.
    call.query.text("db_name", 64)?;
    let schema = call.query.text("db_schema", 64)?;
    let filter = call.query.text("filter", 64)?;
    let (scope, id) = (call.scope()?, call.id("datasource_id"));
    let found = call
        .app
        .datasource_tables(scope, id, direction, schema.as_deref(), filter.as_deref())
        .await?;
    let names: Vec<String> = found.iter().map(ToString::to_string).collect();
    Reply::ok(json!({ "tables": names }))
}

pub(crate) async fn columns(call: Call) -> Result<Reply, Failure> {
    let direction = direction(&call.query)?;
    call.query.text("db_name", 64)?;
    let missing = || Error::invalid("table_name", "Name the table.");
    let table = call.query.text("table_name", 256)?.ok_or_else(missing)?;
    let (scope, id) = (call.scope()?, call.id("datasource_id"));
    let table = call
        .app
        .datasource_table(scope, id, direction, &table)
        .await?;
    columns_of(&table)
}

pub(crate) async fn test_sql(call: Call) -> Result<Reply, Failure> {
    let mut fields = call.fields()?;
    let sql = fields.text_needed("sql", SQL)?;
    fields.finish()?;
    let (scope, id) = (call.scope()?, call.id("datasource_id"));
    let gives = call.app.datasource_query(scope, id, &sql).await?;
    columns_of(&gives)
}

fn columns_of(table: &TableSchema) -> Result<Reply, Failure> {
    let columns = 0..table.columns.len();
    let columns: Vec<Value> = columns.filter_map(|at| column(table, at)).collect();
    Reply::ok(json!({ "columns": columns }))
}

pub(crate) async fn test_connect(call: Call) -> Result<Reply, Failure> {
    let input = match call.fields_if_any()? {
        // What is stored may stand in for the password, so that a form can be tested unseen.
        Some(fields) => Some(self::input(fields, Purpose::Update)?),
        None => None,
    };
    let (scope, id) = (call.scope()?, call.id("datasource_id"));
    call.app.datasource_test(scope, id, input).await?;
    Reply::ok(json!({ "result": true }))
}

/// A body `DatasourceInfo`.
fn input(mut fields: Fields, purpose: Purpose) -> Result<DataSourceInput> {
    let name = fields.text_needed("datasource_name", NAME)?;
    if name.contains(|c: char| NAME_EXCLUDES.contains(c) || c.is_control()) {
        let text = format!("Leave out the characters {NAME_EXCLUDES} and control characters.");
        return Err(fields.invalid("datasource_name", text));
    }
    let kind = fields.word("datasource_type", TYPES)?;
    let kind = kind.ok_or_else(|| fields.missing("datasource_type"))?;
    let app_id = fields.text_needed("app_id", APP_ID)?;
    let description = fields.text("description", DESCRIPTION)?;
    let content = fields.object("content")?;
    let content = content.ok_or_else(|| fields.missing("content"))?;
    let content = content::parse(content, purpose, SUPPORTED.contains(&kind))?;
    fields.finish()?;
    Ok(DataSourceInput {
        name,
        kind: kind.to_owned(),
        app_id,
        content,
        description,
    })
}

fn filter(query: &Query) -> Result<DataSourceFilter> {
    query.word("sort_field", &["CREATED_DATE"])?;
    let sort = query.word("sort_type", &["ASC", "DESC"])?;
    Ok(DataSourceFilter {
        kind: query.word("datasource_type", TYPES)?.map(str::to_owned),
        name: query.text("name", 255)?,
        app_id: query.text("app_id", 255)?,
        custom_plugin_id: query.text("custom_plugin_id", 64)?,
        newest_first: sort != Some("ASC"),
    })
}

/// `position` to the vendor's client, `direction_type` in the current pages.
fn direction(query: &Query) -> Result<Direction> {
    let words = &["SOURCE", "TARGET"];
    let word = match query.word("position", words)? {
        Some(word) => Some(word),
        None => query.word("direction_type", words)?,
    };
    match word {
        Some("SOURCE") => Ok(Direction::Source),
        Some(_) => Ok(Direction::Target),
        None => Err(Error::invalid("position", "Give SOURCE or TARGET.")),
    }
}

/// A `DataSourceRsp`.
fn render(source: &DataSource, instance: &str) -> Value {
    // The contract has four words here; an administrator has the four.
    let words = source.roles.iter().filter(|role| **role != Role::Admin);
    let permissions: Vec<&str> = words.map(|role| role.as_str()).collect();
    json!({
        "datasource_id": source.id,
        "datasource_name": source.name,
        "datasource_type": source.kind,
        "vpc_id": null,
        "app_id": source.app_id,
        "app_name": source.app_name,
        "instance_id": instance,
        "create_time": source.created_ms,
        "update_time": source.updated_ms,
        "custom_plugin_id": null,
        "content": shown(&source.content),
        "description": source.description,
        "app_permission": permissions,
    })
}

/// The control plane keeps secrets apart; that no field named like one leaves is checked here again,
/// where it would leave.
fn shown(content: &Map<String, Value>) -> Map<String, Value> {
    let secret = |name: &str| name.contains("password") || name == "sk" || name == "secret";
    let fields = content.iter().filter(|(name, _)| !secret(name));
    fields
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// A `ColumnInfo`: numbers and flags are texts, as the contract has them.
fn column(table: &TableSchema, at: usize) -> Option<Value> {
    let column = table.columns.get(at)?;
    let flag = |yes: bool| if yes { "1" } else { "0" };
    let alone = [at];
    let unique = table.primary_key == alone || table.unique_keys.iter().any(|k| k.columns == alone);
    let (length, decimals) = sizes(column);
    Some(json!({
        "field_name": column.name,
        "field_type": column.native,
        "field_length": length.map(|n| n.to_string()),
        "null_able": flag(column.nullable),
        "is_partition": false,
        "primary": flag(table.primary_key.contains(&at)),
        "unique": flag(unique),
        "decimal_digits": decimals.map(|n| n.to_string()),
    }))
}

/// Length, and digits after the point of a number.
fn sizes(column: &ColumnSchema) -> (Option<u32>, Option<u32>) {
    match &column.ty {
        ColumnType::Text { max_chars } => (*max_chars, None),
        ColumnType::Bytes { max_bytes } => (*max_bytes, None),
        ColumnType::Bits { len, .. } => (*len, None),
        ColumnType::Decimal {
            precision, scale, ..
        } => (*precision, *scale),
        ColumnType::Int { .. } => (None, Some(0)),
        _ => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use thalweg_core::schema::{TableName, UniqueKey};

    use super::*;
    use crate::http::body::tests::{field_of, fields};

    fn body() -> Value {
        json!({
            "datasource_name": "shop", "datasource_type": "MYSQL", "app_id": "app-1",
            "content": {
                "host": "db", "port": "3306", "database_name": "shop", "user_name": "root",
                "password": "geheim",
            },
        })
    }

    #[test]
    fn a_data_source_is_read() {
        let input = input(fields(body()), Purpose::Create).unwrap();
        assert_eq!(
            (input.name.as_str(), input.kind.as_str()),
            ("shop", "MYSQL")
        );
        assert_eq!(input.description, None);
    }

    #[test]
    fn wrong_fields_are_named() {
        let check = |name: &str, value: Value| {
            let mut body = body();
            body[name] = value;
            assert_eq!(field_of(input(fields(body), Purpose::Create)), name);
        };
        check("datasource_name", json!(""));
        check("datasource_name", json!("a<b"));
        check("datasource_name", json!("x".repeat(256)));
        check("datasource_name", Value::Null);
        check("datasource_type", json!("mysql"));
        check("datasource_type", json!("Oracle"));
        check("datasource_type", Value::Null);
        check("app_id", json!("abc"));
        check("app_id", Value::Null);
        check("content", json!("x"));
        check("content", Value::Null);
        check("description", json!("abc"));
        check("unheard_of", json!(1));
    }

    #[test]
    fn the_direction_has_two_names_and_has_to_be_given() {
        let parse = |text: &str| direction(&Query::parse(text));
        assert_eq!(parse("position=SOURCE").unwrap(), Direction::Source);
        assert_eq!(parse("direction_type=target").unwrap(), Direction::Target);
        assert_eq!(field_of(parse("")), "position");
        assert_eq!(field_of(parse("position=up")), "position");
        assert_eq!(field_of(parse("direction_type=up")), "direction_type");
    }

    #[test]
    fn columns_tell_numbers_and_flags_as_text() {
        let plain = |name: &str, ty| ColumnSchema {
            nullable: false,
            ..ColumnSchema::new(name, ty, "native")
        };
        let (precision, scale) = (Some(10), Some(2));
        let table = TableSchema {
            primary_key: vec![0],
            unique_keys: vec![UniqueKey {
                name: "u".into(),
                columns: vec![1, 2],
            }],
            ..TableSchema::new(
                TableName::new("shop", "orders"),
                vec![
                    plain(
                        "id",
                        ColumnType::Int {
                            bits: 32,
                            unsigned: false,
                        },
                    ),
                    plain(
                        "sum",
                        ColumnType::Decimal {
                            precision,
                            scale,
                            special: false,
                        },
                    ),
                    plain(
                        "note",
                        ColumnType::Text {
                            max_chars: Some(20),
                        },
                    ),
                ],
            )
        };
        let id = column(&table, 0).unwrap();
        assert_eq!((&id["primary"], &id["unique"]), (&json!("1"), &json!("1")));
        assert_eq!(id["decimal_digits"], json!("0"));
        let sum = column(&table, 1).unwrap();
        assert_eq!(
            (&sum["unique"], &sum["null_able"]),
            (&json!("0"), &json!("0"))
        );
        assert_eq!(
            (&sum["field_length"], &sum["decimal_digits"]),
            (&json!("10"), &json!("2"))
        );
        let note = column(&table, 2).unwrap();
        assert_eq!(
            (&note["field_length"], &note["decimal_digits"]),
            (&json!("20"), &Value::Null)
        );
        assert!(column(&table, 3).is_none());
    }
}
