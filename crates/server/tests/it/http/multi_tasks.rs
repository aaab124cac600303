//! Composite tasks: init, create, update, reset.

use serde_json::{Value, json};

use super::api::{Api, Want, bad, keys, text, with};

const NOWHERE: &str = "0123456789abcdef0123456789abcdef";
const UNKNOWN: Want<'_> = Want::Fdi(404, "FDI.3081", "");

#[test]
fn composite_tasks() {
    let mut api = Api::start();
    let app = api.app("owner");
    let source = api.datasource("from", "MYSQL", &app);
    let target = api.datasource("to", "POSTGRESQL", &app);
    init_names_what_is_wrong(&mut api, &source, &target);
    init_makes_drafts(&mut api, &source, &target);
    create_names_what_is_wrong(&mut api, &app);
    create_takes_the_limits(&mut api);
    create_names_a_draft(&mut api, &source, &target);
    apps_belong_to_the_ends(&mut api, &source, &target);
    update_names_what_is_wrong(&mut api);
    update_changes(&mut api);
    reset_takes_no_date(&mut api);
    api.finish();
}

fn init_names_what_is_wrong(api: &mut Api, source: &str, target: &str) {
    let base = json!({
        "source_datasource_id": source, "target_datasource_id": target, "ext_info": {"server_id": "7"},
    });
    let table: &[(&str, Option<Value>)] = &[
        ("source_datasource_id", Some(json!(NOWHERE))),
        ("source_datasource_id", Some(json!("s".repeat(65)))),
        ("source_datasource_id", Some(json!(1))),
        ("target_datasource_id", Some(json!(NOWHERE))),
        ("target_datasource_id", Some(json!("t".repeat(65)))),
        ("target_datasource_id", Some(json!(source))),
        ("target_datasource_id", Some(json!([]))),
        ("task_id", Some(json!("ab"))),
        ("task_id", Some(json!("t".repeat(51)))),
        ("task_id", Some(json!(123_456))),
        ("auto_mapping", Some(json!("true"))),
        ("auto_mapping", Some(json!(1))),
        ("ext_info", Some(json!("7"))),
        ("ext_info", Some(json!([]))),
        ("ext_info.server_id", Some(json!("0"))),
        ("ext_info.server_id", Some(json!("4294967296"))),
        ("ext_info.server_id", Some(json!("99999999999999999999"))),
        ("ext_info.server_id", Some(json!("123456789012345678901"))),
        ("ext_info.server_id", Some(json!("-1"))),
        ("ext_info.server_id", Some(json!("+1"))),
        ("ext_info.server_id", Some(json!("1.0"))),
        ("ext_info.server_id", Some(json!(" 7"))),
        ("ext_info.server_id", Some(json!("seven"))),
        ("ext_info.nonsense", Some(json!("x"))),
        ("task_name", Some(json!("abc"))),
        ("nonsense", Some(json!(1))),
    ];
    let init = api.fdi("/multi-tasks/init");
    api.wrong_fields(("POST", &init), &base, table, bad);
    let auto = json!({"auto_mapping": true});
    api.ask(
        "mappings of nothing",
        ("POST", &init),
        &auto,
        bad("source_datasource_id"),
    );
    let auto = json!({"auto_mapping": true, "source_datasource_id": source});
    api.ask(
        "half of it",
        ("POST", &init),
        &auto,
        bad("target_datasource_id"),
    );
    // Nothing listens at these data sources.
    let auto = with(&base, "auto_mapping", Some(json!(true)));
    api.ask(
        "unreachable",
        ("POST", &init),
        &auto,
        Want::Fdi(400, "FDI.3016", ""),
    );
}

fn init_makes_drafts(api: &mut Api, source: &str, target: &str) {
    let init = api.fdi("/multi-tasks/init");
    let both = json!({"source_datasource_id": source, "target_datasource_id": target});
    let more = [
        json!({}),
        json!({"task_id": ""}),
        json!({"source_datasource_id": source}),
        json!({"target_datasource_id": target}),
        json!({"auto_mapping": false}),
        with(&both, "ext_info", Some(json!({}))),
        with(&both, "ext_info", Some(json!({"server_id": "1"}))),
        with(&both, "ext_info", Some(json!({"server_id": "4294967295"}))),
        with(
            &both,
            "ext_info",
            Some(json!({"server_id": "00000000000000000007"})),
        ),
        with(&both, "task_id", Some(json!("abc"))),
        with(&both, "task_id", Some(json!("t".repeat(50)))),
    ];
    for body in more {
        let made = api.ask("init", ("POST", &init), &body, Want::Ok(200));
        let elements = made.as_array().map(Vec::len);
        api.same("a top-level array of one", elements, Some(1));
        let one = &made[0];
        api.same("mappings", &one["mappings"], &json!([]));
        api.same(
            "mappings_total_count",
            &one["mappings_total_count"],
            &json!(0),
        );
        let id = text(&one["task_id"]);
        let chosen = text(&body["task_id"]);
        if chosen.is_empty() {
            let hex = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
            api.same("32 hex digits", hex, true);
        } else {
            api.same("the chosen id", &id, &chosen);
        }
        let ids = (
            text(&one["source_datasource_id"]),
            text(&one["source_ds_id"]),
        );
        let given = text(&body["source_datasource_id"]);
        api.same("source", ids, (given.clone(), given));
        let list = api.bare(
            "GET",
            &api.fdi(&format!("/tasks?task_id={id}")),
            Want::Ok(200),
        );
        api.same("a draft is not listed", list["total"].as_u64(), Some(0));
    }
    let list = api.bare("GET", &api.fdi("/task-monitors"), Want::Ok(200));
    api.same("drafts are not monitored", list["total"].as_u64(), Some(0));
}

fn common_fields() -> Vec<(&'static str, Option<Value>)> {
    vec![
        ("description", Some(json!("d".repeat(1025)))),
        ("description", Some(json!(""))),
        ("description", Some(json!(1))),
        ("task_tag", Some(json!("abc"))),
        ("task_tag", Some(json!("t".repeat(65)))),
        ("task_tag", Some(json!("a tag"))),
        ("task_tag", Some(json!("štítek"))),
        ("task_tag", Some(json!("tag.1"))),
        ("task_tag", Some(json!(12345))),
        ("operation_types", None),
        ("operation_types", Some(json!(null))),
        ("operation_types", Some(json!([]))),
        (
            "operation_types",
            Some(json!(["INSERT", "UPDATE", "DELETE", "INSERT"])),
        ),
        ("operation_types", Some(json!(["TRUNCATE"]))),
        ("operation_types", Some(json!([""]))),
        ("operation_types", Some(json!(["insert"]))),
        ("operation_types", Some(json!([1]))),
        ("operation_types", Some(json!([null]))),
        ("operation_types", Some(json!("INSERT"))),
        ("operation_types", Some(json!({"INSERT": true}))),
        ("nonsense", Some(json!(null))),
        ("status", Some(json!(1))),
    ]
}

fn create_names_what_is_wrong(api: &mut Api, app: &str) {
    let mut table = common_fields();
    table.extend([
        ("task_name", None),
        ("task_name", Some(json!(null))),
        ("task_name", Some(json!(""))),
        ("task_name", Some(json!("ab"))),
        ("task_name", Some(json!("n".repeat(101)))),
        ("task_name", Some(json!("-abc"))),
        ("task_name", Some(json!(".abc"))),
        ("task_name", Some(json!("_abc"))),
        ("task_name", Some(json!("a b c"))),
        ("task_name", Some(json!("úkol1"))),
        ("task_name", Some(json!("任务任务"))),
        ("task_name", Some(json!("abc\n"))),
        ("task_name", Some(json!("a/b"))),
        ("task_name", Some(json!(123))),
        ("task_id", Some(json!("ab"))),
        ("task_id", Some(json!("t".repeat(51)))),
        ("task_id", Some(json!(1))),
        ("task_type", Some(json!("TIMING"))),
        ("task_type", Some(json!("timing"))),
        ("task_type", Some(json!("STREAM"))),
        ("task_type", Some(json!(1))),
        ("source_app_id", Some(json!("a".repeat(65)))),
        ("source_app_id", Some(json!(NOWHERE))),
        ("source_app_id", Some(json!(1))),
        ("target_app_id", Some(json!("a".repeat(65)))),
        ("target_app_id", Some(json!(NOWHERE))),
        ("target_app_id", Some(json!(false))),
        ("repulling_snapshot", Some(json!(true))),
        ("source_datasource_id", Some(json!(NOWHERE))),
    ]);
    let base = json!({"task_name": "a-name", "operation_types": ["INSERT"], "source_app_id": app});
    let create = api.fdi("/multi-tasks");
    api.wrong_fields(("POST", &create), &base, &table, bad);
    let unknown = with(&base, "task_id", Some(json!(NOWHERE)));
    api.ask("unknown draft", ("POST", &create), &unknown, UNKNOWN);
    let list = api.bare("GET", &api.fdi("/tasks"), Want::Ok(200));
    api.same("none of them was made", list["total"].as_u64(), Some(0));
}

fn create_takes_the_limits(api: &mut Api) {
    let create = api.fdi("/multi-tasks");
    let base = json!({"task_name": "right", "operation_types": ["INSERT"]});
    let table: &[(&str, Value)] = &[
        ("task_name", json!("abc")),
        ("task_name", json!("9._-Z")),
        ("task_name", json!("n".repeat(100))),
        ("task_id", json!("")),
        ("task_type", json!("REALTIME")),
        ("task_type", json!("realtime")),
        ("task_type", json!("")),
        ("description", json!("d")),
        ("description", json!("字".repeat(1024))),
        ("task_tag", json!("tag_")),
        ("task_tag", json!("-".repeat(64))),
        ("operation_types", json!(["DELETE"])),
        ("operation_types", json!(["DELETE", "UPDATE", "INSERT"])),
    ];
    for (field, value) in table {
        let body = with(&base, field, Some(value.clone()));
        let made = api.ask(field, ("POST", &create), &body, Want::Ok(200));
        api.same("fields", keys(&made), vec!["task_id".to_owned()]);
        let path = api.fdi(&format!("/tasks/{}", text(&made["task_id"])));
        let shown = api.bare("GET", &path, Want::Ok(200));
        api.same(
            "task_type is in lower case",
            text(&shown["task"]["task_type"]),
            "realtime".into(),
        );
        api.same(
            "status is a string",
            text(&shown["task"]["status"]),
            "stop".into(),
        );
        if !matches!(*field, "task_id" | "task_type" | "operation_types") {
            api.same(field, &shown["task"][*field], value);
        }
        api.ask("its name again", ("POST", &create), &body, bad("task_name"));
        let request = api.request("DELETE", &path);
        if let Some(answer) = api.answer("delete", &request, Want::Ok(204)) {
            api.same("no body", answer.body.len(), 0);
        }
        api.bare("GET", &path, UNKNOWN);
    }
}

fn create_names_a_draft(api: &mut Api, source: &str, target: &str) {
    let init = api.fdi("/multi-tasks/init");
    let body = json!({"source_datasource_id": source, "target_datasource_id": target});
    let made = api.ask("init", ("POST", &init), &body, Want::Ok(200));
    let id = text(&made[0]["task_id"]);
    let create = api.fdi("/multi-tasks");
    let body = json!({"task_name": "of-a-draft", "task_id": id, "operation_types": ["UPDATE"]});
    let made = api.ask("create", ("POST", &create), &body, Want::Ok(200));
    api.same("the draft's id", text(&made["task_id"]), id.clone());
    let path = api.fdi(&format!("/tasks/{id}"));
    let shown = api.bare("GET", &path, Want::Ok(200));
    let ids = (
        text(&shown["task"]["source_datasource_id"]),
        text(&shown["task"]["target_datasource_id"]),
    );
    api.same(
        "the draft's data sources",
        ids,
        (source.into(), target.into()),
    );
    let again = with(&body, "task_name", Some(json!("of-a-draft-2")));
    api.ask(
        "a draft used twice",
        ("POST", &create),
        &again,
        Want::Refused,
    );
    // Data sources of a task stay.
    for id in [source, target] {
        let path = api.fdi(&format!("/datasources/{id}"));
        api.bare("DELETE", &path, bad(""));
    }
    api.bare("DELETE", &path, Want::Ok(204));
}

fn apps_belong_to_the_ends(api: &mut Api, source: &str, target: &str) {
    let stranger = api.app("of neither end");
    let init = api.fdi("/multi-tasks/init");
    let body = json!({"source_datasource_id": source, "target_datasource_id": target});
    let made = api.ask("init", ("POST", &init), &body, Want::Ok(200));
    let body = json!({
        "task_name": "strange", "task_id": made[0]["task_id"], "operation_types": ["INSERT"],
    });
    let create = api.fdi("/multi-tasks");
    for field in ["source_app_id", "target_app_id"] {
        let body = with(&body, field, Some(json!(stranger)));
        api.ask(
            "an app of neither end",
            ("POST", &create),
            &body,
            bad(field),
        );
    }
}

fn update_names_what_is_wrong(api: &mut Api) {
    let mut table = common_fields();
    table.extend([
        ("repulling_snapshot", None),
        ("repulling_snapshot", Some(json!(null))),
        ("repulling_snapshot", Some(json!("true"))),
        ("repulling_snapshot", Some(json!(1))),
        ("task_name", Some(json!("another"))),
        ("task_type", Some(json!("REALTIME"))),
        ("source_app_id", Some(json!(NOWHERE))),
        ("source_datasource_id", Some(json!(NOWHERE))),
    ]);
    let id = api.task("update-wrong");
    let base = json!({"operation_types": ["INSERT"], "repulling_snapshot": false});
    let path = api.fdi(&format!("/multi-tasks/{id}"));
    api.wrong_fields(("PUT", &path), &base, &table, bad);
    let nowhere = api.fdi(&format!("/multi-tasks/{NOWHERE}"));
    api.ask("unknown task", ("PUT", &nowhere), &base, UNKNOWN);
}

fn update_changes(api: &mut Api) {
    let id = api.task("update-right");
    let path = api.fdi(&format!("/multi-tasks/{id}"));
    let show = api.fdi(&format!("/tasks/{id}"));
    for (description, tag, repulling) in [("d", "tag1", true), ("e", "tag_2", false)] {
        let body = json!({
            "description": description, "task_tag": tag, "operation_types": ["DELETE"],
            "repulling_snapshot": repulling,
        });
        let made = api.ask("update", ("PUT", &path), &body, Want::Ok(200));
        api.same("the answer", made, json!({"task_id": id}));
        let shown = api.bare("GET", &show, Want::Ok(200));
        let found = (
            text(&shown["task"]["description"]),
            text(&shown["task"]["task_tag"]),
        );
        api.same("changed", found, (description.into(), tag.into()));
        api.same(
            "name",
            text(&shown["task"]["task_name"]),
            "update-right".into(),
        );
    }
    let least = json!({"operation_types": ["INSERT"], "repulling_snapshot": false});
    api.ask("only what is needed", ("PUT", &path), &least, Want::Ok(200));
}

fn reset_takes_no_date(api: &mut Api) {
    let id = api.task("reset-me");
    let path = api.fdi(&format!("/multi-tasks/{id}/reset"));
    let success = json!({"message": "Reset Success"});
    let found = api.bare("POST", &path, Want::Ok(200));
    api.same("without a body", found, success.clone());
    for body in [json!({}), json!({"date_from": null})] {
        let found = api.ask("without a date", ("POST", &path), &body, Want::Ok(200));
        api.same("reset", found, success.clone());
    }
    for date in [
        json!(1_630_052_714_000_i64),
        json!(0),
        json!(-1),
        json!("x"),
        json!(1.5),
    ] {
        let body = json!({"date_from": date});
        api.ask("with a date", ("POST", &path), &body, bad("date_from"));
    }
    api.ask(
        "a field too much",
        ("POST", &path),
        &json!({"date_to": 1}),
        bad("date_to"),
    );
    for body in ["[]", "{", "1"] {
        let request = api.request("POST", &path).json(body);
        api.check("no object", &request, Want::Fdi(400, "FDI.3002", ""));
    }
    let nowhere = api.fdi(&format!("/multi-tasks/{NOWHERE}/reset"));
    api.bare("POST", &nowhere, UNKNOWN);
}
