//! Tables of a task without databases: what is stored, what is refused and how it is told; and the command
//! that asks for it.

use std::process::{Command, Output};
use std::thread;

use serde_json::{Value, json};

use super::api::{Api, Want, text};
use super::running::{mapped, until};

#[test]
fn tables() {
    let mut api = Api::start();
    let app = api.app("owner");
    let source = api.datasource("from", "MYSQL", &app);
    let target = api.datasource("to", "POSTGRESQL", &app);
    let task = mapped(&mut api, "shop", &source, &target);
    let empty = api.task("empty");
    unknown(&mut api, &task);
    without_data_sources(&mut api, &empty);
    wrong(&mut api, &task);
    let second = added(&mut api, &task);
    stopped(&mut api, &task, &second);
    merged(&mut api, &task);
    by_command(&mut api, &task);
    running(&mut api, &task, &second);
    at_the_same_time(&mut api, &task);
    over_a_restart(&mut api, &task);
    api.finish();
}

fn path(api: &Api, task: &str, rest: &str) -> String {
    api.native(&format!("/tasks/{task}/tables{rest}"))
}

fn listed(api: &mut Api, task: &str) -> Vec<Value> {
    let page = api.bare("GET", &path(api, task, "?limit=100"), Want::Ok(200));
    page["tables"].as_array().cloned().unwrap_or_default()
}

/// The id of the mapping of a source table.
fn id_of(api: &mut Api, task: &str, source: &str) -> String {
    let all = listed(api, task);
    let found = all.iter().find(|one| one["source_table"] == source);
    found.map_or(String::new(), |one| text(&one["mapping_id"]))
}

fn status(api: &mut Api, task: &str) -> Value {
    let path = api.native(&format!("/tasks/{task}/status"));
    api.bare("GET", &path, Want::Ok(200))
}

fn pair(source: &str, target: &str) -> Value {
    json!({"source_table": source, "target_table": target})
}

fn unknown(api: &mut Api, task: &str) {
    let none = Want::Problem(404, "task");
    api.bare("GET", &path(api, "none", ""), none);
    let add = path(api, "none", "");
    api.ask("unknown", ("POST", &add), &pair("a", "a"), none);
    for (id, none) in [
        ("none", none),
        (task, Want::Problem(404, "The mapping does not exist")),
    ] {
        api.bare("DELETE", &path(api, id, "/x"), none);
        for way in ["pause", "resume", "reload"] {
            api.bare("POST", &path(api, id, &format!("/x/{way}")), none);
        }
    }
}

fn without_data_sources(api: &mut Api, task: &str) {
    let none = listed(api, task);
    api.same("no table", none.len(), 0);
    let add = path(api, task, "");
    let refused = Want::Problem(400, "no data sources yet");
    api.ask("too early", ("POST", &add), &pair("a", "a"), refused);
    let unknown = Want::Problem(404, "The mapping does not exist");
    api.bare("DELETE", &path(api, task, "/x"), unknown);
    let shown = status(api, task);
    api.same("none is paused", &shown["paused_tables"], &json!([]));
}

fn wrong(api: &mut Api, task: &str) {
    let add = path(api, task, "");
    api.bare("POST", &add, Want::Problem(400, "JSON object"));
    for (field, value) in [
        ("source_table", json!(null)),
        ("source_table", json!("")),
        ("source_table", json!(".a")),
        ("target_table", json!(7)),
        ("target_table", json!("x".repeat(257))),
        ("mapping_columns", json!([])),
        ("source_columns", json!({})),
        ("source_datasource_id", json!("x")),
    ] {
        let mut body = pair("shop.a", "public.a");
        body[field] = value;
        api.ask("wrong", ("POST", &add), &body, Want::Problem(400, field));
    }
    let mut body = pair("shop.a", "public.a");
    body["mapping_columns"] = json!([{"source_column": "a"}]);
    let refused = Want::Problem(400, "target_column");
    api.ask("half a link", ("POST", &add), &body, refused);
    let account = pair("account", "account");
    let refused = Want::Problem(400, "shop.account is mapped to public.account already");
    api.ask("twice", ("POST", &add), &account, refused);
    let id = id_of(api, task, "shop.account");
    for way in ["pause", "resume", "reload"] {
        let call = path(api, task, &format!("/{id}/{way}"));
        let body = json!({"reason": "x"});
        api.ask("body", ("POST", &call), &body, Want::Problem(400, "reason"));
    }
    let limit = path(api, task, "?limit=-1");
    api.bare("GET", &limit, Want::Problem(400, "limit"));
}

/// Adds a second table; its id.
fn added(api: &mut Api, task: &str) -> String {
    let mut body = pair("shop.item", "item");
    body["mapping_columns"] = json!([{"source_column": "id", "target_column": "nr"}]);
    let made = api.ask("add", ("POST", &path(api, task, "")), &body, Want::Ok(201));
    let id = text(&made["mapping_id"]);
    let expected = json!({
        "mapping_id": id, "source_table": "shop.item", "target_table": "public.item",
        "paused": null, "reload": true, "status": null,
    });
    api.same("made", &made, &expected);
    let page = api.bare("GET", &path(api, task, "?limit=1&offset=1"), Want::Ok(200));
    let wanted = json!({"total": 2, "size": 1, "tables": [expected]});
    api.same("a page", &page, &wanted);
    let mappings = api.fdi(&format!("/multi-tasks/{task}/mappings"));
    let list = api.bare("GET", &mappings, Want::Ok(200));
    let column = &list["mappings"][1]["mapping"][0]["target_column"];
    api.same("a column", column, &json!("nr"));
    id
}

fn stopped(api: &mut Api, task: &str, second: &str) {
    let call = |api: &Api, id: &str, way: &str| path(api, task, &format!("/{id}/{way}"));
    let first = id_of(api, task, "shop.account");
    let again = api.bare("POST", &call(api, &first, "reload"), Want::Ok(200));
    api.same("noted", &again["reload"], &json!(true));
    for id in [&first, second] {
        let paused = api.bare("POST", &call(api, id, "pause"), Want::Ok(200));
        api.same(
            "reason",
            text(&paused["paused"]["reason"]),
            "paused by a user".into(),
        );
        api.same("fix", text(&paused["paused"]["fix"]), "resume it".into());
        let same = api.bare("POST", &call(api, id, "pause"), Want::Ok(200));
        api.same("once is enough", &same, &paused);
        let refused = Want::Problem(409, "is paused: resume it, which loads it again");
        api.bare("POST", &call(api, id, "reload"), refused);
    }
    let shown = status(api, task);
    let told = &shown["paused_tables"][1];
    api.same(
        "two",
        shown["paused_tables"].as_array().map(Vec::len),
        Some(2),
    );
    let names = (text(&told["source_table"]), text(&told["target_table"]));
    api.same("names", names, ("shop.item".into(), "public.item".into()));
    api.same("id", text(&told["mapping_id"]), second.to_owned());
    api.same("fix", text(&told["fix"]), "resume it".into());
    api.same("since", told["since_ms"].as_i64() > Some(0), true);
    let run = api.fdi(&format!("/tasks/{task}/run"));
    api.bare("POST", &run, Want::Fdi(400, "FDI.3026", "paused"));
    for id in [&first, second] {
        let back = api.bare("POST", &call(api, id, "resume"), Want::Ok(200));
        api.same("back", &back["paused"], &Value::Null);
        api.same("it is loaded again", &back["reload"], &json!(true));
        api.bare("POST", &call(api, id, "resume"), Want::Ok(200));
    }
}

/// Tables of several sources are one.
fn merged(api: &mut Api, task: &str) {
    let add = path(api, task, "");
    let other = api.ask(
        "add",
        ("POST", &add),
        &pair("shop.extra", "public.item"),
        Want::Ok(201),
    );
    let other = text(&other["mapping_id"]);
    let pause = path(api, task, &format!("/{other}/pause"));
    api.bare("POST", &pause, Want::Ok(200));
    let paused = |all: &[Value]| all.iter().filter(|one| !one["paused"].is_null()).count();
    let all = listed(api, task);
    api.same("both", paused(&all), 2);
    let refused = Want::Problem(409, "resume it first");
    let third = pair("shop.third", "item");
    api.ask("beside a pause", ("POST", &add), &third, refused);
    let item = id_of(api, task, "shop.item");
    let resume = path(api, task, &format!("/{item}/resume"));
    api.bare("POST", &resume, Want::Ok(200));
    let all = listed(api, task);
    api.same("both are back", paused(&all), 0);
    api.bare(
        "DELETE",
        &path(api, task, &format!("/{other}")),
        Want::Ok(204),
    );
}

/// The command, with what has to be given to it.
fn command(api: &Api, args: &[&str]) -> Output {
    let server = format!("http://{}", api.address);
    Command::new(env!("CARGO_BIN_EXE_thalweg"))
        .env_clear()
        .env("THALWEG_SERVER", server)
        .env("THALWEG_INSTANCE", &api.identity.instance)
        .env("THALWEG_PASSWORD", &api.identity.password)
        .arg("tables")
        .args(args)
        .output()
        .unwrap()
}

fn by_command(api: &mut Api, task: &str) {
    let id = id_of(api, task, "shop.item");
    for (args, names) in [
        (&["list", "no task"][..], "no task with the id or the name"),
        (&["pause", "shop", "none"], "the task has no table none"),
        (&["pause", "shop", "item", "none"], "no table none"),
        (&["pause", "shop"], "required"),
        (&["add", "shop", "account", "account"], "mapped to"),
        (&["add", "empty", "a", "a"], "no data sources yet"),
    ] {
        let output = command(api, args);
        let error = String::from_utf8(output.stderr).unwrap();
        api.same(&error, output.status.code(), Some(2));
        api.same(&error, error.contains(names), true);
    }
    let item = format!("{id}  shop.item -> public.item");
    for (args, says) in [
        (
            &["list", task][..],
            format!("{item}  not running, to be loaded again\n"),
        ),
        (
            &["pause", "shop", "item"],
            format!("{item}  paused: paused by a user. Fix: resume it"),
        ),
        (
            &["list", "shop"],
            format!("{item}  paused: paused by a user. Fix: resume it"),
        ),
        (
            &["resume", "shop", "public.item"],
            format!("{item}  not running"),
        ),
        (
            &["reload", "shop", &id, "shop.account"],
            format!("{item}  not running"),
        ),
        (
            &["add", "shop", "more", "copy"],
            "shop.more -> public.copy  not running".to_owned(),
        ),
        (
            &["remove", "shop", "more"],
            "shop.more -> public.copy\n".to_owned(),
        ),
    ] {
        let output = command(api, args);
        let out = String::from_utf8(output.stdout).unwrap();
        api.same(&format!("{args:?}"), output.status.code(), Some(0));
        api.same(&format!("{args:?}: {out}"), out.contains(&says), true);
    }
}

/// Nothing answers at either end, so the task waits; what is decided is stored all the same.
fn running(api: &mut Api, task: &str, second: &str) {
    let run = api.fdi(&format!("/tasks/{task}/run"));
    api.bare("POST", &run, Want::Ok(200));
    let call = |api: &Api, id: &str, way: &str| path(api, task, &format!("/{id}/{way}"));
    let first = id_of(api, task, "shop.account");
    // A table comes to a task that runs only if the task can go on with it.
    let away = Want::Problem(400, "could not be asked whether the task can go on");
    let add = path(api, task, "");
    api.ask("away", ("POST", &add), &pair("more", "more"), away);
    let all = listed(api, task);
    api.same("not added", all.len(), 2);
    api.bare("POST", &call(api, second, "pause"), Want::Ok(200));
    api.bare("POST", &call(api, second, "resume"), away);
    let last = Want::Problem(
        409,
        "the last one that the task is running for: stop the task",
    );
    api.bare("POST", &call(api, &first, "pause"), last);
    api.bare("DELETE", &path(api, task, &format!("/{first}")), last);
    let metric = format!("thalweg_paused_tables{{task=\"{task}\"}} 1\n");
    let metrics = api.request("GET", "/metrics");
    let metrics = metrics.send(&api.address).unwrap();
    let metrics = String::from_utf8(metrics.body).unwrap();
    api.same(&metrics, metrics.contains(&metric), true);
    let again = api.bare("POST", &call(api, &first, "reload"), Want::Ok(200));
    api.same("noted", &again["reload"], &json!(true));
    api.bare(
        "DELETE",
        &path(api, task, &format!("/{second}")),
        Want::Ok(204),
    );
    let all = listed(api, task);
    api.same("one is left", all.len(), 1);
    stop(api, task);
}

fn stop(api: &mut Api, task: &str) {
    let stop = api.fdi(&format!("/tasks/{task}/terminate"));
    api.bare("POST", &stop, Want::Ok(200));
}

/// Of four tables that are paused at once while the task runs, one goes on; of calls that say the same
/// at once, one does it.
fn at_the_same_time(api: &mut Api, task: &str) {
    let add = path(api, task, "");
    for name in ["b", "c", "d"] {
        api.ask("add", ("POST", &add), &pair(name, name), Want::Ok(201));
    }
    let run = api.fdi(&format!("/tasks/{task}/run"));
    api.bare("POST", &run, Want::Ok(200));
    let send = |requests: Vec<super::raw::Request>, address: &str| -> Vec<u16> {
        let send = |request: super::raw::Request| {
            let address = address.to_owned();
            thread::spawn(move || request.send(&address).unwrap().status)
        };
        let sent: Vec<_> = requests.into_iter().map(send).collect();
        let mut statuses: Vec<u16> = sent.into_iter().map(|one| one.join().unwrap()).collect();
        statuses.sort_unstable();
        statuses
    };
    let all = listed(api, task);
    let pause = |one: &Value| {
        let id = text(&one["mapping_id"]);
        api.request("POST", &path(api, task, &format!("/{id}/pause")))
    };
    let told = send(all.iter().map(pause).collect(), &api.address);
    api.same("one goes on", told, vec![200, 200, 200, 409]);
    stop(api, task);
    let body = pair("e", "e").to_string();
    let adds = (0..4).map(|_| api.request("POST", &add).json(&body));
    let told = send(adds.collect(), &api.address);
    api.same("one is added", told, vec![201, 400, 400, 400]);
    let e = id_of(api, task, "shop.e");
    let delete = path(api, task, &format!("/{e}"));
    let removes = (0..4).map(|_| api.request("DELETE", &delete));
    let told = send(removes.collect(), &api.address);
    api.same("it is gone", told[0], 204);
    let other = told.iter().all(|status| [204, 404].contains(status));
    api.same("and unknown then", other, true);
}

/// What was decided holds when the server is killed right after the answer.
fn over_a_restart(api: &mut Api, task: &str) {
    let paused = |all: &[Value]| -> Vec<(String, bool, bool)> {
        let told = |one: &Value| {
            let name = text(&one["source_table"]);
            (name, one["paused"].is_null(), one["reload"] == json!(true))
        };
        all.iter().map(told).collect()
    };
    let before = listed(api, task);
    let held: Vec<&Value> = before
        .iter()
        .filter(|one| !one["paused"].is_null())
        .collect();
    let call = path(
        api,
        task,
        &format!("/{}/resume", text(&held[0]["mapping_id"])),
    );
    api.bare("POST", &call, Want::Ok(200));
    let before = listed(api, task);
    api.restart();
    let list = path(api, task, "?limit=100");
    until(api, &list, "the same", |page| {
        let now = page["tables"].as_array().cloned().unwrap_or_default();
        paused(&now) == paused(&before)
    });
}
