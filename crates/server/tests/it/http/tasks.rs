//! Tasks that never run: list, show, delete, batch, statistics, monitors.

use serde_json::{Value, json};

use super::api::{Api, Want, bad, keys, text, with};

const NOWHERE: &str = "0123456789abcdef0123456789abcdef";
const UNKNOWN: Want<'_> = Want::Fdi(404, "FDI.3081", "");

#[test]
fn tasks() {
    let mut api = Api::start();
    let empty = api.bare("GET", &api.fdi("/tasks"), Want::Ok(200));
    api.same(
        "no tasks",
        empty,
        json!({"total": 0, "size": 0, "entities": []}),
    );
    let empty = api.bare("GET", &api.fdi("/task-monitors"), Want::Ok(200));
    api.same(
        "no monitors",
        empty,
        json!({"total": 0, "size": 0, "entities": []}),
    );
    let tasks: Vec<String> = ["alpha", "alphabet", "Beta_1"]
        .iter()
        .map(|name| api.task(name))
        .collect();
    lists_have_their_shape(&mut api, &tasks);
    lists_are_filtered(&mut api, &tasks);
    wrong_queries_are_named(&mut api, &tasks);
    monitors_count_from_one(&mut api, &tasks);
    a_task_without_mappings_does_not_run(&mut api, &tasks);
    batches_hold_their_rules(&mut api, &tasks);
    statistics_count_nothing_yet(&mut api);
    deleted_means_gone(&mut api, &tasks);
    api.finish();
}

fn lists_have_their_shape(api: &mut Api, tasks: &[String]) {
    let path = format!("/tasks?task_id={}", tasks[0]);
    let list = api.bare("GET", &api.fdi(&path), Want::Ok(200));
    let one = &list["entities"][0];
    api.same("task_id", text(&one["task_id"]), tasks[0].clone());
    api.same(
        "task_type in upper case",
        text(&one["task_type"]),
        "REALTIME".into(),
    );
    api.same("status is a number", &one["status"], &json!(0));
    api.same(
        "execute_status",
        text(&one["execute_status"]),
        "UNSTARTED".into(),
    );
    api.same("ext_type", text(&one["ext_type"]), "CDC".into());
    let created = text(&one["created_date"]);
    let digits = created.chars().filter(char::is_ascii_digit).count();
    let iso = created.ends_with('Z') && created.contains('T') && digits >= 14;
    api.same("created_date is an ISO string", iso, true);
    api.same(
        "last_modified_time is a number",
        one["last_modified_time"].is_i64(),
        true,
    );
    let lacks = [
        "last_modified_date",
        "source_datasource_id",
        "source_app_name",
        "description",
    ];
    for field in lacks {
        api.same(field, one[field].is_null(), true);
    }
    let shown = api.bare(
        "GET",
        &api.fdi(&format!("/tasks/{}", tasks[0])),
        Want::Ok(200),
    );
    let fields = ["task", "task_detail"].map(String::from).to_vec();
    api.same("fields", keys(&shown), fields);
    let task = &shown["task"];
    api.same(
        "created_date is a number",
        task["created_date"].is_i64(),
        true,
    );
    api.same(
        "last_modified_date",
        task["last_modified_date"].is_i64(),
        true,
    );
    api.same("status is a string", text(&task["status"]), "stop".into());
    api.same(
        "task_type in lower case",
        text(&task["task_type"]),
        "realtime".into(),
    );
    api.same(
        "project",
        text(&task["project_id"]),
        api.identity.project.clone(),
    );
    let detail = text(&shown["task_detail"]);
    let json: Result<Value, _> = serde_json::from_str(&detail);
    api.same("task_detail is JSON in a string", json.is_ok(), true);
}

fn lists_are_filtered(api: &mut Api, tasks: &[String]) {
    for (query, total) in [
        ("", 3),
        ("name=lph", 2),
        ("task_name=lph", 2),
        ("name=%25", 0),
        ("name=_", 1),
        ("name=a_p", 0),
        ("status=0", 3),
        ("status=1", 0),
        ("task_type=realtime", 3),
        ("task_type=REALTIME", 3),
        ("task_type=timing", 0),
        ("execute_status=UNSTARTED", 3),
        ("execute_status=WAITING", 0),
        ("execute_status=SUCCESS", 0),
        ("execute_status=unstarted", 3),
        ("task_tag=none", 0),
        ("source_app_id=none", 0),
        ("target_datasource_id=none", 0),
        ("task_id=none", 0),
        ("sort_type=ASC", 3),
        ("sort_type=DESC", 3),
        ("unknown=1", 3),
    ] {
        let list = api.bare("GET", &api.fdi(&format!("/tasks?{query}")), Want::Ok(200));
        let fields = ["entities", "size", "total"].map(String::from).to_vec();
        api.same("fields", keys(&list), fields);
        api.same(query, list["total"].as_u64(), Some(total));
        api.same(query, list["size"].as_u64(), Some(total));
    }
    for (query, size) in [
        ("limit=1", 1),
        ("limit=&offset=", 3),
        ("limit=999", 3),
        ("limit=1000", 3),
        ("limit=100000", 3),
        ("offset=2", 1),
        ("offset=-1&limit=2", 2),
        ("offset=5", 0),
    ] {
        let list = api.bare("GET", &api.fdi(&format!("/tasks?{query}")), Want::Ok(200));
        api.same(query, list["total"].as_u64(), Some(3));
        api.same(query, list["size"].as_u64(), Some(size));
        let found = list["entities"].as_array().map(|list| list.len() as u64);
        api.same(query, found, Some(size));
    }
    let names = |list: &Value| -> Vec<String> {
        let entities = list["entities"].as_array().cloned().unwrap_or_default();
        entities.iter().map(|one| text(&one["task_id"])).collect()
    };
    let sorted = "/tasks?sort_field=CREATED_DATE&sort_type=";
    let up = api.bare("GET", &api.fdi(&format!("{sorted}ASC")), Want::Ok(200));
    api.same("oldest first", names(&up), tasks.to_vec());
    let down = api.bare("GET", &api.fdi(&format!("{sorted}DESC")), Want::Ok(200));
    let turned: Vec<String> = tasks.iter().rev().cloned().collect();
    api.same("newest first", names(&down), turned);
}

fn wrong_queries_are_named(api: &mut Api, tasks: &[String]) {
    let list = api.fdi("/tasks");
    let wrong = [
        ("limit=x", bad("limit")),
        ("limit=2.5", bad("limit")),
        ("limit=99999999999999999999", bad("limit")),
        ("offset=x", bad("offset")),
        ("status=2", bad("status")),
        ("status=-1", bad("status")),
        ("status=running", bad("status")),
        ("task_type=other", bad("task_type")),
        ("execute_status=DONE", bad("execute_status")),
        ("sort_type=UP", bad("sort_type")),
        ("sort_field=1;drop", bad("sort_field")),
    ];
    api.queries(&list, &wrong);
    let long = format!("task_name={}", "n".repeat(101));
    let monitors = api.fdi("/task-monitors");
    let wrong = [
        ("limit=x", bad("limit")),
        ("limit=-1", bad("limit")),
        ("offset=x", bad("offset")),
        ("execute_status=DONE", bad("execute_status")),
        (long.as_str(), bad("task_name")),
    ];
    api.queries(&monitors, &wrong);
    let logs = api.fdi(&format!("/tasks/{}/monitor-logs", tasks[0]));
    let wrong = [
        ("limit=x", bad("limit")),
        ("offset=1.5", bad("offset")),
        ("begin_time=0", bad("begin_time")),
        ("begin_time=-5", bad("begin_time")),
        ("begin_time=10000000000000", bad("begin_time")),
        ("begin_time=today", bad("begin_time")),
        ("end_time=0", bad("end_time")),
        ("end_time=x", bad("end_time")),
        ("end_time=10000000000000", bad("end_time")),
    ];
    api.queries(&logs, &wrong);
}

fn monitors_count_from_one(api: &mut Api, tasks: &[String]) {
    let path = api.fdi("/task-monitors");
    let ids = |list: &Value| -> Vec<String> {
        let entities = list["entities"].as_array().cloned().unwrap_or_default();
        entities.iter().map(|one| text(&one["task_id"])).collect()
    };
    let first = api.bare("GET", &format!("{path}?offset=1&limit=2"), Want::Ok(200));
    api.same("the first page", ids(&first).len(), 2);
    api.same("total", first["total"].as_u64(), Some(3));
    api.same("size", first["size"].as_u64(), Some(2));
    let zero = api.bare("GET", &format!("{path}?offset=0&limit=2"), Want::Ok(200));
    api.same("offset 0 is 1", ids(&zero), ids(&first));
    let none = api.bare("GET", &format!("{path}?limit=2"), Want::Ok(200));
    api.same("offset is 1 by default", ids(&none), ids(&first));
    let beyond = api.bare("GET", &format!("{path}?offset=100"), Want::Ok(200));
    api.same("beyond the end", ids(&beyond), vec![]);
    for (query, size) in [
        ("", 3),
        ("limit=999", 3),
        ("limit=999999", 3),
        ("task_name=alpha", 2),
        ("task_name=Alpha", 0),
        ("task_name=BETA", 0),
        ("task_name=Beta", 1),
        ("execute_status=UNSTARTED", 3),
        ("execute_status=ERROR", 0),
    ] {
        let list = api.bare("GET", &format!("{path}?{query}"), Want::Ok(200));
        api.same(query, list["size"].as_u64(), Some(size));
    }
    let list = api.bare("GET", &format!("{path}?task_name=Beta_1"), Want::Ok(200));
    let one = &list["entities"][0];
    api.same("task_id", text(&one["task_id"]), tasks[2].clone());
    api.same("status is a number", &one["status"], &json!(0));
    api.same("task_type", text(&one["task_type"]), "REALTIME".into());
    api.same("ext_type", text(&one["ext_type"]), "CDC".into());
    api.same(
        "enterprise_project_id",
        text(&one["enterprise_project_id"]),
        "0".into(),
    );
    let logs = api.fdi(&format!("/tasks/{}/monitor-logs", tasks[0]));
    for query in [
        "",
        "offset=0",
        "offset=1&limit=10",
        "begin_time=1&end_time=9999999999999",
    ] {
        let list = api.bare("GET", &format!("{logs}?{query}"), Want::Ok(200));
        api.same(
            "no executions",
            list,
            json!({"total": 0, "size": 0, "entities": []}),
        );
    }
    let nowhere = api.fdi(&format!("/tasks/{NOWHERE}/monitor-logs"));
    api.bare("GET", &nowhere, UNKNOWN);
    let unknown = format!("{logs}/{NOWHERE}");
    api.bare("GET", &unknown, Want::Fdi(404, "FDI.3002", "execution"));
    let overview = api.fdi(&format!("/tasks/{}/monitor-overview", tasks[0]));
    let none = api.bare("GET", &overview, Want::Ok(200));
    api.same(
        "no executions",
        json!({
            "task_name": none["task_name"], "total_num": 0, "error_num": 0, "success_num": 0,
            "running_num": 0, "cancel_num": 0,
        }),
        none,
    );
}

fn a_task_without_mappings_does_not_run(api: &mut Api, tasks: &[String]) {
    let run = api.fdi(&format!("/tasks/{}/run", tasks[0]));
    api.bare("POST", &run, Want::Fdi(400, "FDI.3026", ""));
    let stop = api.fdi(&format!("/tasks/{}/terminate", tasks[0]));
    api.bare("POST", &stop, Want::Fdi(400, "FDI.3027", ""));
    for what in ["run", "terminate"] {
        let path = api.fdi(&format!("/tasks/{NOWHERE}/{what}"));
        api.bare("POST", &path, UNKNOWN);
    }
}

fn batches_hold_their_rules(api: &mut Api, tasks: &[String]) {
    let path = api.fdi("/batch-operation/tasks");
    let item = |id: &str| json!({"task_id": id});
    let base = json!({"action_id": "start", "list": [item(&tasks[0])]});
    let table: &[(&str, Option<Value>)] = &[
        ("action_id", None),
        ("action_id", Some(json!(null))),
        ("action_id", Some(json!(1))),
        ("list", Some(json!("x"))),
        ("list", Some(json!([1]))),
        ("list.0.task_id", Some(json!(1))),
        ("list.0.task_id", Some(json!("t".repeat(65)))),
        ("list.0.nonsense", Some(json!(1))),
        ("nonsense", Some(json!(1))),
    ];
    api.wrong_fields(("POST", &path), &base, table, bad);
    for action in ["", "restart", "START"] {
        let body = with(&base, "action_id", Some(json!(action)));
        api.ask("action", ("POST", &path), &body, Want::Refused);
    }
    let no_list = Want::Fdi(400, "FDI.3150", "");
    let no_id = Want::Fdi(400, "FDI.3022", "");
    let many = |count: usize| json!(vec![item(NOWHERE); count]);
    for (list, want) in [
        (None, no_list),
        (Some(json!(null)), no_list),
        (Some(json!([])), no_list),
        (Some(json!([{}])), no_id),
        (Some(json!([{"task_id": ""}])), no_id),
        (Some(json!([{"task_id": null}])), no_id),
        (Some(json!([item(&tasks[0]), item("")])), no_id),
        (Some(many(11)), Want::Fdi(400, "FDI.3002", "")),
        (Some(many(9999)), Want::Fdi(400, "FDI.3002", "")),
        (Some(many(10)), Want::Ok(200)),
    ] {
        let body = with(&base, "list", list);
        api.ask("list", ("POST", &path), &body, want);
    }
    for (action, id, code) in [
        ("start", tasks[0].as_str(), "FDI.3026"),
        ("stop", &tasks[0], "FDI.3027"),
        ("start", NOWHERE, ""),
        ("stop", NOWHERE, ""),
    ] {
        let body = json!({"action_id": action, "list": [item(id)]});
        let answer = api.ask("batch", ("POST", &path), &body, Want::Ok(200));
        let fields = ["failure", "failure_count", "success", "success_count"];
        api.same("fields", keys(&answer), fields.map(String::from).to_vec());
        api.same("success", &answer["success"], &json!([]));
        let counts = (&answer["success_count"], &answer["failure_count"]);
        api.same("counts", counts, (&json!(0), &json!(1)));
        let failed = &answer["failure"][0];
        api.same("task_id", text(&failed["task_id"]), id.to_owned());
        let found = text(&failed["error_code"]);
        // An unknown task has two documented codes.
        let right = if code.is_empty() {
            found == "FDI.3021" || found == "FDI.3081"
        } else {
            found == code
        };
        api.same(&format!("{action} {id}: {found}"), right, true);
        let length = text(&failed["error_msg"]).chars().count();
        api.same("a message", (1..=512).contains(&length), true);
    }
}

fn statistics_count_nothing_yet(api: &mut Api) {
    let none = json!({
        "running_tasks_count": 0, "abnormal_tasks_count": 0, "terminated_tasks_count": 0,
        "completed_tasks_count": 0,
    });
    let found = api.bare("GET", &api.fdi("/statistics/tasks"), Want::Ok(200));
    api.same(
        "statistics",
        found,
        json!({"common_task_details": none, "cdc_task_details": none}),
    );
}

fn deleted_means_gone(api: &mut Api, tasks: &[String]) {
    for id in tasks {
        let path = api.fdi(&format!("/tasks/{id}"));
        let request = api.request("DELETE", &path);
        if let Some(answer) = api.answer("delete", &request, Want::Ok(204)) {
            api.same("no body", answer.body.len(), 0);
        }
        api.bare("DELETE", &path, UNKNOWN);
        api.bare("GET", &path, UNKNOWN);
        let multi = api.fdi(&format!("/multi-tasks/{id}"));
        let body = json!({"operation_types": ["INSERT"], "repulling_snapshot": false});
        api.ask("update", ("PUT", &multi), &body, UNKNOWN);
        api.bare("POST", &format!("{multi}/reset"), UNKNOWN);
        api.bare("GET", &format!("{multi}/mappings"), UNKNOWN);
        for rest in ["run", "terminate"] {
            api.bare("POST", &format!("{path}/{rest}"), UNKNOWN);
        }
        api.bare("GET", &format!("{path}/monitor-logs"), UNKNOWN);
    }
    let list = api.bare("GET", &api.fdi("/tasks"), Want::Ok(200));
    api.same("none is left", list["total"].as_u64(), Some(0));
}
