//! Mappings of composite tasks.

use serde_json::{Value, json};

use super::api::{Api, Want, bad, keys, text, with};

const NOWHERE: &str = "0123456789abcdef0123456789abcdef";
const UNKNOWN: Want<'_> = Want::Fdi(404, "FDI.3081", "");

#[test]
fn mappings() {
    let mut api = Api::start();
    let app = api.app("owner");
    let ends = [
        api.datasource("from", "MYSQL", &app),
        api.datasource("to", "POSTGRESQL", &app),
        api.datasource("from elsewhere", "MYSQL", &app),
        api.datasource("to elsewhere", "POSTGRESQL", &app),
    ];
    wrong_values_are_named(&mut api, &ends);
    right_values_are_taken(&mut api, &ends);
    one_pair_of_data_sources(&mut api, &ends);
    lists_are_filtered(&mut api, &ends);
    updated_in_place(&mut api, &ends);
    deleted_means_gone(&mut api, &ends);
    api.finish();
}

fn base(ends: &[String; 4]) -> Value {
    json!({
        "source_datasource_id": ends[0], "target_datasource_id": ends[1],
        "source_table": "shop.account", "target_table": "public.account",
        "source_columns": [{"field_name": "id", "field_type": "int", "field_length": "10"}],
        "target_columns": [{"field_name": "id", "field_type": "int4", "field_length": "10"}],
        "mapping_columns": [{
            "source_column": "id", "source_column_type": "int", "source_column_length": "10",
            "target_column": "id", "target_column_type": "int4", "target_column_length": "10",
        }],
        "ext_info": {"server_id": "7"},
    })
}

fn wrong_values_are_named(api: &mut Api, ends: &[String; 4]) {
    let id = api.task("wrong-mappings");
    let path = api.fdi(&format!("/multi-tasks/{id}/mappings"));
    let mut table: Vec<(&str, Option<Value>)> = vec![
        ("source_datasource_id", None),
        ("source_datasource_id", Some(json!(""))),
        ("source_datasource_id", Some(json!(NOWHERE))),
        ("source_datasource_id", Some(json!("s".repeat(65)))),
        ("source_datasource_id", Some(json!(1))),
        ("target_datasource_id", None),
        ("target_datasource_id", Some(json!(null))),
        ("target_datasource_id", Some(json!(NOWHERE))),
        ("target_datasource_id", Some(json!(ends[0]))),
        ("ext_info", Some(json!(7))),
        ("ext_info.server_id", Some(json!("0"))),
        ("ext_info.server_id", Some(json!("4294967296"))),
        ("ext_info.server_id", Some(json!("x"))),
        ("ext_info.nonsense", Some(json!("1"))),
        ("mapping", Some(json!([]))),
        ("mapping_id", Some(json!("x"))),
        ("nonsense", Some(json!(1))),
    ];
    for field in ["source_table", "target_table"] {
        table.push((field, Some(json!("t".repeat(257)))));
        table.push((field, Some(json!(""))));
        table.push((field, Some(json!(1))));
    }
    for field in ["source_columns", "target_columns", "mapping_columns"] {
        table.push((field, Some(json!("id"))));
        table.push((field, Some(json!({}))));
        table.push((field, Some(json!([1]))));
        table.push((field, Some(json!([null]))));
        table.push((field, Some(json!(vec![json!({}); 10_000]))));
    }
    api.wrong_fields(("POST", &path), &base(ends), &table, bad);
    let long = || json!("x".repeat(257));
    let inner: &[(&str, Option<Value>)] = &[
        ("source_columns.0.field_name", Some(long())),
        ("source_columns.0.field_name", Some(json!(1))),
        ("source_columns.0.field_type", Some(long())),
        ("source_columns.0.field_length", Some(json!("ten"))),
        ("source_columns.0.field_length", Some(json!("10000001"))),
        ("source_columns.0.field_length", Some(json!("-1"))),
        ("source_columns.0.nonsense", Some(json!(1))),
        ("target_columns.0.field_name", Some(long())),
        ("target_columns.0.field_length", Some(json!("1e3"))),
        ("mapping_columns.0.source_column", Some(long())),
        ("mapping_columns.0.source_column", Some(json!(["id"]))),
        ("mapping_columns.0.source_column_type", Some(long())),
        (
            "mapping_columns.0.source_column_length",
            Some(json!("10000001")),
        ),
        ("mapping_columns.0.target_column", Some(long())),
        ("mapping_columns.0.target_column_length", Some(json!("x"))),
        ("mapping_columns.0.nonsense", Some(json!("x"))),
    ];
    api.wrong_fields(("POST", &path), &base(ends), inner, bad);
    let list = api.bare("GET", &path, Want::Ok(200));
    api.same(
        "none of them was made",
        list["mappings_total_count"].as_u64(),
        Some(0),
    );
    let nowhere = api.fdi(&format!("/multi-tasks/{NOWHERE}/mappings"));
    api.ask("unknown task", ("POST", &nowhere), &base(ends), UNKNOWN);
}

fn right_values_are_taken(api: &mut Api, ends: &[String; 4]) {
    let id = api.task("right-mappings");
    let path = api.fdi(&format!("/multi-tasks/{id}/mappings"));
    let base = base(ends);
    let table: &[(&str, Option<Value>)] = &[
        ("ext_info", None),
        ("ext_info", Some(json!({"server_id": "4294967295"}))),
        ("source_columns", None),
        ("target_columns", None),
        ("source_columns.0.field_length", Some(json!("0"))),
        ("source_columns.0.field_length", Some(json!("10000000"))),
        ("source_columns.0.field_name", Some(json!("x".repeat(256)))),
        (
            "source_table",
            Some(json!(format!("s.{}", "t".repeat(254)))),
        ),
    ];
    for (field, value) in table {
        let body = with(&base, field, value.clone());
        let made = api.ask(field, ("POST", &path), &body, Want::Ok(200));
        api.same("fields", keys(&made), vec!["mapping_id".to_owned()]);
        let mapping = text(&made["mapping_id"]);
        let list = api.bare("GET", &path, Want::Ok(200));
        api.same("total", list["mappings_total_count"].as_u64(), Some(1));
        let one = &list["mappings"][0];
        api.same("id", text(&one["id"]), mapping.clone());
        api.same("status", text(&one["status"]), "MANUAL".into());
        api.same(
            "target_table",
            text(&one["target_table"]),
            "public.account".into(),
        );
        api.same("updated_time", one["updated_time"].is_i64(), true);
        api.same("mapping_percent", one["mapping_percent"].is_u64(), true);
        for side in ["source_columns", "target_columns", "mapping"] {
            api.same(side, one[side].is_array(), true);
        }
        api.same(
            "the request's name of the list",
            one["mapping_columns"].is_null(),
            true,
        );
        let pair = &one["mapping"][0];
        let found = (text(&pair["source_column"]), text(&pair["target_column"]));
        api.same("pair", found, ("id".into(), "id".into()));
        let gone = api.bare("DELETE", &format!("{path}/{mapping}"), Want::Ok(200));
        api.same("deleted", gone, json!({"mapping_id": mapping}));
    }
    let largest: Vec<Value> = (0..9999)
        .map(|number| {
            let name = format!("c{number}");
            json!({"source_column": name, "target_column": name})
        })
        .collect();
    let body = with(&base, "mapping_columns", Some(json!(largest)));
    api.ask("9999 columns", ("POST", &path), &body, Want::Ok(200));
}

fn one_pair_of_data_sources(api: &mut Api, ends: &[String; 4]) {
    let id = api.task("one-pair");
    let path = api.fdi(&format!("/multi-tasks/{id}/mappings"));
    let show = api.fdi(&format!("/tasks/{id}"));
    let before = api.bare("GET", &show, Want::Ok(200));
    api.same(
        "no source yet",
        text(&before["task"]["source_datasource_id"]),
        String::new(),
    );
    let base = base(ends);
    api.ask("the first", ("POST", &path), &base, Want::Ok(200));
    let shown = api.bare("GET", &show, Want::Ok(200));
    let source = text(&shown["task"]["source_datasource_id"]);
    api.same("its source is the task's", source, ends[0].clone());
    let other_task = Want::Fdi(400, "FDI.3037", "");
    for (field, end) in [("source_datasource_id", 2), ("target_datasource_id", 3)] {
        let body = with(&base, field, Some(json!(ends[end])));
        let body = with(&body, "source_table", Some(json!("shop.other")));
        api.ask("another data source", ("POST", &path), &body, other_task);
    }
}

fn lists_are_filtered(api: &mut Api, ends: &[String; 4]) {
    let id = api.task("listed");
    let path = api.fdi(&format!("/multi-tasks/{id}/mappings"));
    let base = base(ends);
    for number in 0..12 {
        let body = with(
            &base,
            "source_table",
            Some(json!(format!("shop.table{number}"))),
        );
        let body = with(
            &body,
            "target_table",
            Some(json!(format!("public.copy{number}"))),
        );
        api.ask("mapping", ("POST", &path), &body, Want::Ok(200));
    }
    for (query, page, total) in [
        ("".to_owned(), None, 12),
        ("limit=5".into(), Some(5), 12),
        ("limit=1000".into(), Some(12), 12),
        ("limit=5&offset=10".into(), Some(2), 12),
        ("offset=50".into(), Some(0), 12),
        ("source_table=shop.table3".into(), Some(1), 1),
        ("target_table=public.copy4".into(), Some(1), 1),
        ("table_name=copy11".into(), Some(1), 1),
        ("table_name=table11".into(), Some(1), 1),
        (format!("source_datasource_id={}", ends[0]), None, 12),
        (format!("source_datasource_id={}", ends[2]), Some(0), 0),
        (format!("target_datasource_id={}", ends[3]), Some(0), 0),
    ] {
        let list = api.bare("GET", &format!("{path}?{query}"), Want::Ok(200));
        let found = list["mappings"].as_array().map(Vec::len);
        api.same(&query, list["mappings_total_count"].as_u64(), Some(total));
        if page.is_some() {
            api.same(&query, found, page);
        }
        api.same("task_id", text(&list["task_id"]), id.clone());
        api.same("an object", list.is_object(), true);
    }
    let wrong = [
        ("limit=x", bad("limit")),
        ("offset=x", bad("offset")),
        ("offset=99999999999999999999", bad("offset")),
    ];
    api.queries(&path, &wrong);
    let nowhere = api.fdi(&format!("/multi-tasks/{NOWHERE}/mappings"));
    api.bare("GET", &nowhere, UNKNOWN);
}

fn updated_in_place(api: &mut Api, ends: &[String; 4]) {
    let (one, two) = (api.task("updated-1"), api.task("updated-2"));
    let path = |api: &Api, task: &str| api.fdi(&format!("/multi-tasks/{task}/mappings"));
    let list = path(api, &one);
    let base = base(ends);
    let other = with(&base, "target_table", Some(json!("public.other")));
    let made = api.ask("mapping", ("POST", &list), &base, Want::Ok(200));
    api.ask("another", ("POST", &list), &other, Want::Ok(200));
    let id = text(&made["mapping_id"]);
    let own = format!("{list}/{id}");
    let new = json!([{"source_column": "name", "target_column": "title"}]);
    let body = with(&base, "target_table", Some(json!("public.changed")));
    let body = with(&body, "mapping_columns", Some(new));
    let changed = api.ask("update", ("PUT", &own), &body, Want::Ok(200));
    api.same("answer", changed, json!({"mapping_id": id}));
    let found = api.bare(
        "GET",
        &format!("{list}?target_table=public.changed"),
        Want::Ok(200),
    );
    let mapping = &found["mappings"][0];
    api.same("id", text(&mapping["id"]), id.clone());
    api.same("status", text(&mapping["status"]), "UPDATE".into());
    let title = text(&mapping["mapping"][0]["target_column"]);
    api.same("columns", title, "title".into());
    let all = api.bare("GET", &list, Want::Ok(200));
    api.same(
        "none was added",
        all["mappings_total_count"].as_u64(),
        Some(2),
    );
    let wrong: &[(&str, Option<Value>)] = &[
        ("source_datasource_id", None),
        ("target_datasource_id", Some(json!(NOWHERE))),
        ("source_table", Some(json!(""))),
        ("mapping_columns.0.nonsense", Some(json!("x"))),
        ("nonsense", Some(json!(1))),
    ];
    api.wrong_fields(("PUT", &own), &base, wrong, bad);
    let mismatch = Want::Fdi(400, "FDI.3037", "");
    api.ask("taken", ("PUT", &own), &other, mismatch);
    let elsewhere = with(&base, "source_datasource_id", Some(json!(ends[2])));
    api.ask("another source", ("PUT", &own), &elsewhere, mismatch);
    let of_two = format!("{}/{id}", path(api, &two));
    api.ask("of another task", ("PUT", &of_two), &base, mismatch);
    let unknown = format!("{list}/{NOWHERE}");
    api.ask(
        "unknown",
        ("PUT", &unknown),
        &base,
        Want::Fdi(404, "FDI.3002", ""),
    );
    let nowhere = format!("{}/{id}", path(api, NOWHERE));
    api.ask("unknown task", ("PUT", &nowhere), &base, UNKNOWN);
}

fn deleted_means_gone(api: &mut Api, ends: &[String; 4]) {
    let (one, two) = (api.task("deleted-1"), api.task("deleted-2"));
    let path = |api: &Api, task: &str| api.fdi(&format!("/multi-tasks/{task}/mappings"));
    let created = path(api, &one);
    let made = api.ask("mapping", ("POST", &created), &base(ends), Want::Ok(200));
    let mapping = text(&made["mapping_id"]);
    let elsewhere = format!("{}/{mapping}", path(api, &two));
    api.bare("DELETE", &elsewhere, Want::Fdi(400, "FDI.3037", ""));
    let nowhere = format!("{}/{mapping}", path(api, NOWHERE));
    api.bare("DELETE", &nowhere, UNKNOWN);
    api.bare("DELETE", &format!("{created}/{mapping}"), Want::Ok(200));
    let gone = Want::Fdi(404, "FDI.3002", "");
    api.bare("DELETE", &format!("{created}/{mapping}"), gone);
    api.bare("DELETE", &format!("{created}/{NOWHERE}"), gone);
}
