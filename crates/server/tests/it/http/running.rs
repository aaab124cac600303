//! Tasks that run: what they refuse, and how their state shows. Nothing answers at their ends, so they
//! stay running and try again.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::api::{Api, Want, text};

const RUNNING: Want<'_> = Want::Fdi(400, "FDI.3023", "");

/// What the three views of a task say of it.
pub(super) struct Views {
    pub(super) shown: Value,
    pub(super) listed: Value,
    pub(super) monitored: Value,
}

impl Views {
    pub(super) fn of(api: &mut Api, task: &str, name: &str) -> Self {
        let shown = api.bare("GET", &api.fdi(&format!("/tasks/{task}")), Want::Ok(200));
        let path = api.fdi(&format!("/tasks?task_id={task}"));
        let listed = api.bare("GET", &path, Want::Ok(200));
        let path = api.fdi(&format!("/task-monitors?task_name={name}"));
        let monitored = api.bare("GET", &path, Want::Ok(200));
        Self {
            shown: shown["task"].clone(),
            listed: listed["entities"][0].clone(),
            monitored: monitored["entities"][0].clone(),
        }
    }

    pub(super) fn are(&self, api: &mut Api, running: bool, execution: &str) {
        let word = if running { "running" } else { "stop" };
        api.same("status shown", text(&self.shown["status"]), word.into());
        for view in [&self.listed, &self.monitored] {
            api.same("status", &view["status"], &json!(u8::from(running)));
            api.same(
                "execute_status",
                text(&view["execute_status"]),
                execution.into(),
            );
        }
    }
}

/// Asks until `holds`, for at most half a minute.
pub(super) fn until(
    api: &mut Api,
    path: &str,
    what: &str,
    holds: impl Fn(&Value) -> bool,
) -> Value {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = api.bare("GET", path, Want::Ok(200));
        if holds(&answer) {
            return answer;
        }
        if Instant::now() > end {
            api.fail(format!("{what}: not within half a minute: {answer}"));
            return answer;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A task with one mapping.
pub(super) fn mapped(api: &mut Api, name: &str, source: &str, target: &str) -> String {
    let task = api.task(name);
    let path = api.fdi(&format!("/multi-tasks/{task}/mappings"));
    let body = json!({
        "source_datasource_id": source, "target_datasource_id": target,
        "source_table": "shop.account", "target_table": "public.account",
    });
    api.ask("mapping", ("POST", &path), &body, Want::Ok(200));
    task
}

#[test]
fn running_tasks() {
    let mut api = Api::start();
    let app = api.app("owner");
    let source = api.datasource("from", "MYSQL", &app);
    let target = api.datasource("to", "POSTGRESQL", &app);
    let task = mapped(&mut api, "runs", &source, &target);
    let other = mapped(&mut api, "stands", &source, &target);
    runs_at_once(&mut api, &task);
    refuses_changes(&mut api, &task, &source, &target);
    is_counted_and_filtered(&mut api, &task);
    stops(&mut api, &task);
    in_batches(&mut api, &task, &other);
    api.finish();
}

fn runs_at_once(api: &mut Api, task: &str) {
    Views::of(api, task, "runs").are(api, false, "UNSTARTED");
    let run = api.fdi(&format!("/tasks/{task}/run"));
    let answer = api.bare("POST", &run, Want::Ok(200));
    api.same("an empty object", answer, json!({}));
    // It shall run from now on, but waits for a moment to be taken up.
    let list = api.fdi(&format!("/tasks?task_id={task}"));
    until(api, &list, "it is taken up", |list| {
        let one = &list["entities"][0];
        one["status"] == json!(1) && text(&one["execute_status"]) != "WAITING"
    });
    Views::of(api, task, "runs").are(api, true, "RUNNING");
}

fn refuses_changes(api: &mut Api, task: &str, source: &str, target: &str) {
    let path = api.fdi(&format!("/tasks/{task}"));
    let multi = api.fdi(&format!("/multi-tasks/{task}"));
    let list = api.bare("GET", &format!("{multi}/mappings"), Want::Ok(200));
    let mapping = text(&list["mappings"][0]["id"]);
    api.bare("POST", &format!("{path}/run"), RUNNING);
    api.bare("DELETE", &path, RUNNING);
    api.bare("POST", &format!("{multi}/reset"), RUNNING);
    api.bare("DELETE", &format!("{multi}/mappings/{mapping}"), RUNNING);
    let update = json!({"operation_types": ["INSERT"], "repulling_snapshot": true});
    api.ask("update", ("PUT", &multi), &update, RUNNING);
    let create = json!({
        "source_datasource_id": source, "target_datasource_id": target,
        "source_table": "shop.more", "target_table": "public.more",
    });
    let mappings = format!("{multi}/mappings");
    api.ask("mapping", ("POST", &mappings), &create, RUNNING);
    let after = api.bare("GET", &mappings, Want::Ok(200));
    api.same("nothing changed", &after["mappings"], &list["mappings"]);
}

fn is_counted_and_filtered(api: &mut Api, task: &str) {
    for (query, total) in [
        ("status=1", 1),
        ("status=0", 1),
        ("execute_status=RUNNING", 1),
        ("execute_status=UNSTARTED", 1),
        ("status=1&name=stands", 0),
    ] {
        let list = api.bare("GET", &api.fdi(&format!("/tasks?{query}")), Want::Ok(200));
        api.same(query, list["total"].as_u64(), Some(total));
    }
    let counts = api.bare("GET", &api.fdi("/statistics/tasks"), Want::Ok(200));
    let running = &counts["cdc_task_details"]["running_tasks_count"];
    api.same("running", running, &json!(1));
    let logs = api.fdi(&format!("/tasks/{task}/monitor-logs"));
    let list = api.bare("GET", &logs, Want::Ok(200));
    api.same("one execution", list["total"].as_u64(), Some(1));
    let one = &list["entities"][0];
    api.same(
        "execute_status",
        text(&one["execute_status"]),
        "RUNNING".into(),
    );
    let length = text(&one["id"]).len();
    api.same(
        "an id of 10 to 40 characters",
        (10..=40).contains(&length),
        true,
    );
    api.same("no end yet", one["end_time"].is_null(), true);
    // Whoever looks learns why nothing moves.
    until(api, &logs, "the trouble is told", |list| {
        let one = &list["entities"][0];
        let steps = one["detail_logs"].as_array().cloned().unwrap_or_default();
        let told = |entry: &Value| !text(&entry["remarks"]).is_empty();
        told(one) || steps.iter().any(told)
    });
}

fn stops(api: &mut Api, task: &str) {
    let path = api.fdi(&format!("/tasks/{task}"));
    let answer = api.bare("POST", &format!("{path}/terminate"), Want::Ok(200));
    api.same("stopped", answer, json!({"message": "success"}));
    let logs = format!("{path}/monitor-logs");
    let list = until(api, &logs, "the execution ends", |list| {
        text(&list["entities"][0]["execute_status"]) == "CANCELLED"
    });
    let one = &list["entities"][0];
    api.same(
        "position_status",
        text(&one["position_status"]),
        "RUNTIME_CANCEL".into(),
    );
    api.same("an end", one["end_time"].is_i64(), true);
    let detail = format!("{logs}/{}", text(&one["id"]));
    let detail = api.bare("GET", &detail, Want::Ok(200));
    api.same(
        "what the list says of it",
        detail,
        json!({
            "id": one["id"], "dirty_data_count": one["dirty_data_count"],
            "detail_logs": one["detail_logs"],
        }),
    );
    let all = list["total"].as_u64().unwrap_or(0);
    let overview = format!("{path}/monitor-overview");
    let overview = api.bare("GET", &overview, Want::Ok(200));
    api.same("name", text(&overview["task_name"]), "runs".into());
    api.same("all", overview["total_num"].as_u64(), Some(all));
    let sum = ["error_num", "success_num", "running_num", "cancel_num"];
    let sum = sum.iter().filter_map(|name| overview[name].as_u64());
    api.same("each once", sum.sum::<u64>(), all);
    api.same("none runs", &overview["running_num"], &json!(0));
    Views::of(api, task, "runs").are(api, false, "CANCELLED");
    let counts = api.bare("GET", &api.fdi("/statistics/tasks"), Want::Ok(200));
    let terminated = &counts["cdc_task_details"]["terminated_tasks_count"];
    api.same("terminated", terminated, &json!(1));
    let again = Want::Fdi(400, "FDI.3027", "");
    api.bare("POST", &format!("{path}/terminate"), again);
    let multi = api.fdi(&format!("/multi-tasks/{task}"));
    let update = json!({"operation_types": ["INSERT"], "repulling_snapshot": true});
    api.ask("update", ("PUT", &multi), &update, Want::Ok(200));
    api.bare("POST", &format!("{multi}/reset"), Want::Ok(200));
}

fn in_batches(api: &mut Api, one: &str, two: &str) {
    let path = api.fdi("/batch-operation/tasks");
    let body =
        |action: &str| json!({"action_id": action, "list": [{"task_id": one}, {"task_id": two}]});
    let both = |answer: &Value, list: &str| {
        let items = answer[list].as_array().cloned().unwrap_or_default();
        let ids: Vec<String> = items.iter().map(|item| text(&item["task_id"])).collect();
        let codes: Vec<String> = items.iter().map(|item| text(&item["error_code"])).collect();
        (ids, codes)
    };
    let ids = vec![one.to_owned(), two.to_owned()];
    for (action, list, code) in [
        ("start", "success", ""),
        ("start", "failure", "FDI.3023"),
        ("stop", "success", ""),
        ("stop", "failure", "FDI.3027"),
    ] {
        let answer = api.ask("batch", ("POST", &path), &body(action), Want::Ok(200));
        let wanted = (ids.clone(), vec![code.to_owned(); 2]);
        api.same(&format!("{action} {list}"), both(&answer, list), wanted);
        let count = format!("{list}_count");
        api.same(&count, answer[&count].as_u64(), Some(2));
        if action == "stop" && list == "success" {
            let names: Vec<Value> = answer[list]
                .as_array()
                .map(|items| items.iter().map(|item| item["task_name"].clone()).collect())
                .unwrap_or_default();
            api.same("names", names, vec![json!("runs"), json!("stands")]);
        }
    }
    for task in [one, two] {
        let path = api.fdi(&format!("/tasks/{task}"));
        until(api, &path, "it stops", |shown| {
            text(&shown["task"]["status"]) == "stop"
        });
        api.bare("DELETE", &path, Want::Ok(204));
    }
}
