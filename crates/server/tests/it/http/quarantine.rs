//! Quarantine without databases: what is refused, what waits and how it ends; and the command that asks
//! for it.

use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::api::{Api, Want, text};
use super::running::mapped;

#[test]
fn quarantine() {
    let mut api = Api::start();
    let app = api.app("owner");
    let source = api.datasource("from", "MYSQL", &app);
    let target = api.datasource("to", "POSTGRESQL", &app);
    let task = mapped(&mut api, "held", &source, &target);
    options(&mut api, &task);
    unknown(&mut api, &task);
    wrong(&mut api, &task);
    never_run(&mut api, &task);
    stopped(&mut api, &task);
    by_command(&mut api, &task);
    let path = api.fdi(&format!("/tasks/{task}/run"));
    api.bare("POST", &path, Want::Ok(200));
    away(&mut api, &task);
    too_many(&mut api, &task);
    api.finish();
}

fn path(api: &Api, task: &str, rest: &str) -> String {
    api.native(&format!("/tasks/{task}/quarantine{rest}"))
}

fn options(api: &mut Api, task: &str) {
    let call = api.native(&format!("/tasks/{task}/options"));
    let shown = api.bare("GET", &call, Want::Ok(200));
    api.same("default", text(&shown["on_bad_row"]), "stop".into());
    api.same("default", &shown["quarantine_max"], &json!(10_000));
    for (body, names) in [
        (json!({"on_bad_row": "skip"}), "on_bad_row"),
        (json!({"quarantine_max": 0}), "quarantine_max"),
        (json!({"quarantine_max": 1_000_001}), "quarantine_max"),
    ] {
        api.ask("wrong", ("PATCH", &call), &body, Want::Problem(400, names));
    }
    let body = json!({"on_bad_row": "quarantine", "quarantine_max": 5});
    api.ask("set", ("PATCH", &call), &body, Want::Ok(200));
    let shown = api.bare("GET", &call, Want::Ok(200));
    api.same("stored", text(&shown["on_bad_row"]), "quarantine".into());
    api.same("stored", &shown["quarantine_max"], &json!(5));
}

fn unknown(api: &mut Api, task: &str) {
    let body = json!({"all": true});
    let none = Want::Problem(404, "task");
    for rest in ["", "/1"] {
        api.bare("GET", &path(api, "none", rest), none);
    }
    for rest in ["/release", "/discard"] {
        let call = path(api, "none", rest);
        api.ask("unknown", ("POST", &call), &body, none);
    }
    let none = Want::Problem(404, "no row with this id");
    for row in ["1", "0", "-1", "x", "9223372036854775808"] {
        api.bare("GET", &path(api, task, &format!("/{row}")), none);
    }
}

fn wrong(api: &mut Api, task: &str) {
    let many: Vec<u64> = (1..=10_001).collect();
    for way in ["/release", "/discard"] {
        let call = path(api, task, way);
        api.bare("POST", &call, Want::Problem(400, "JSON object"));
        for (body, names) in [
            (json!({}), "rows"),
            (json!({"rows": []}), "rows"),
            (json!({"rows": [1], "all": true}), "rows"),
            (json!({"all": false}), "rows"),
            (json!({"all": "true"}), "all"),
            (json!({"rows": [1, 0]}), "rows[1]"),
            (json!({"rows": ["1"]}), "rows[0]"),
            (json!({"rows": many}), "10000"),
            (json!({"row": [1]}), "row"),
        ] {
            api.ask("wrong", ("POST", &call), &body, Want::Problem(400, names));
        }
    }
    let long = format!("?table={}", "x".repeat(257));
    api.bare("GET", &path(api, task, &long), Want::Problem(400, "table"));
    let limit = path(api, task, "?limit=-1");
    api.bare("GET", &limit, Want::Problem(400, "limit"));
}

/// Nothing is asked at the target of a task that was never run.
fn never_run(api: &mut Api, task: &str) {
    for query in ["", "?table=account&limit=5"] {
        let page = api.bare("GET", &path(api, task, query), Want::Ok(200));
        let none = json!({"total": 0, "size": 0, "changes": 0, "rows": []});
        api.same("none", &page, &none);
    }
}

fn stopped(api: &mut Api, task: &str) {
    let refused = Want::Problem(409, "held is not running; run it first");
    for way in ["/release", "/discard"] {
        for body in [json!({"all": true}), json!({"rows": [1]})] {
            let call = path(api, task, way);
            api.ask("stopped", ("POST", &call), &body, refused);
        }
    }
}

/// The command, with what has to be given to it.
fn command(api: &Api, args: &[&str]) -> Output {
    let server = format!("http://{}", api.address);
    Command::new(env!("CARGO_BIN_EXE_thalweg"))
        .env_clear()
        .env("THALWEG_SERVER", server)
        .env("THALWEG_INSTANCE", &api.identity.instance)
        .env("THALWEG_PASSWORD", &api.identity.password)
        .arg("quarantine")
        .args(args)
        .output()
        .unwrap()
}

fn by_command(api: &mut Api, task: &str) {
    for (args, names) in [
        (&["list", "no task"][..], "no task with the id or the name"),
        (&["show", task, "1"], "no row with this id"),
        (&["release", "held", "--all"], "held is not running"),
        (&["discard", task, "1", "2"], "held is not running"),
        (&["release", "held"], "required"),
        (&["release", "held", "1", "--all"], "cannot be used with"),
    ] {
        let output = command(api, args);
        let error = String::from_utf8(output.stderr).unwrap();
        api.same(&error, output.status.code(), Some(2));
        api.same(&error, error.contains(names), true);
    }
    for args in [&["list", task][..], &["list", "held", "--table", "account"]] {
        let output = command(api, args);
        api.same("exit code", output.status.code(), Some(0));
        api.same("no row", output.stdout.is_empty(), true);
    }
    let output = command(api, &["discard", "held", "--table", "account"]);
    let out = String::from_utf8(output.stdout).unwrap();
    api.same("exit code", output.status.code(), Some(0));
    api.same("none", out.as_str(), "discarded 0 rows with 0 changes\n");
}

/// Nothing answers at the target.
fn away(api: &mut Api, task: &str) {
    for rest in ["", "/1"] {
        let call = path(api, task, rest);
        api.bare("GET", &call, Want::Problem(400, "127.0.0.1"));
    }
}

/// Eight wait for a task that does not come to its stream, and learn that it has stopped.
fn too_many(api: &mut Api, task: &str) {
    let call = path(api, task, "/release");
    let request = api.request("POST", &call).json(r#"{"all": true}"#);
    let ask = || {
        let (request, address) = (request.clone(), api.address.clone());
        thread::spawn(move || request.send(&address).unwrap())
    };
    let asked: Vec<_> = (0..9).map(|_| ask()).collect();
    let end = Instant::now() + Duration::from_secs(30);
    while !asked.iter().any(thread::JoinHandle::is_finished) && Instant::now() < end {
        thread::sleep(Duration::from_millis(10));
    }
    let stop = api.fdi(&format!("/tasks/{task}/terminate"));
    api.bare("POST", &stop, Want::Ok(200));
    let mut told = Vec::new();
    for one in asked {
        let answer = one.join().unwrap();
        told.push((answer.status, text(&answer.value()["detail"])));
    }
    told.sort();
    let many = told.pop().unwrap();
    let all = told
        .iter()
        .all(|(status, detail)| *status == 409 && detail.contains("stopped before it was done"));
    api.same(&format!("{told:?}"), all, true);
    let many = many.0 == 429 && many.1.contains("wait already");
    api.same("one was too many", many, true);
}
