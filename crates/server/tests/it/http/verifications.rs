//! Verifications without databases: what is refused, what waits and how it ends; and the command that asks
//! for one.

use std::process::{Command, Output};

use serde_json::{Value, json};

use super::api::{Api, Want, keys, text};
use super::running::{mapped, until};

const FIELDS: [&str; 11] = [
    "asked_by",
    "asked_ms",
    "ended_ms",
    "only",
    "reason",
    "repair",
    "result",
    "rows_per_second",
    "state",
    "tables",
    "verification_id",
];

#[test]
fn verifications() {
    let mut api = Api::start();
    let app = api.app("owner");
    let source = api.datasource("from", "MYSQL", &app);
    let target = api.datasource("to", "POSTGRESQL", &app);
    let task = mapped(&mut api, "compared", &source, &target);
    unknown(&mut api, &task);
    wrong(&mut api, &task);
    stopped(&mut api, &task);
    waiting(&mut api, &task);
    by_command(&mut api, &task);
    too_many(&mut api, &task);
    ended(&mut api, &task);
    in_the_background(&mut api, &task);
    api.finish();
}

fn path(api: &Api, task: &str) -> String {
    api.native(&format!("/tasks/{task}/verifications"))
}

fn run(api: &mut Api, task: &str) {
    api.bare(
        "POST",
        &api.fdi(&format!("/tasks/{task}/run")),
        Want::Ok(200),
    );
}

fn stop(api: &mut Api, task: &str) {
    let path = api.fdi(&format!("/tasks/{task}/terminate"));
    api.bare("POST", &path, Want::Ok(200));
}

fn unknown(api: &mut Api, task: &str) {
    let none = path(api, "none");
    api.bare("GET", &none, Want::Problem(404, "task"));
    api.bare("POST", &none, Want::Problem(404, "task"));
    api.bare("GET", &format!("{none}/none"), Want::Problem(404, "task"));
    let own = path(api, task);
    let no = Want::Problem(404, "verification");
    api.bare("GET", &format!("{own}/none"), no);
}

fn wrong(api: &mut Api, task: &str) {
    let call = path(api, task);
    for (body, names) in [
        (json!({"tables": "public.account"}), "tables"),
        (json!({"tables": []}), "tables"),
        (json!({"tables": ["account", 1]}), "tables[1]"),
        (json!({"tables": ["public.accounts"]}), "public.accounts"),
        (json!({"tables": ["accounts"]}), "public.account"),
        (json!({"tables": ["shop.account"]}), "public.account"),
        (json!({"repair": 1}), "repair"),
        (json!({"rows_per_second": 0}), "rows_per_second"),
        (json!({"rows_per_second": 10_000_001}), "rows_per_second"),
        (json!({"table": "account"}), "table"),
    ] {
        api.ask("wrong", ("POST", &call), &body, Want::Problem(400, names));
    }
    let page = api.bare("GET", &call, Want::Ok(200));
    api.same("none was stored", &page["total"], &json!(0));
}

fn stopped(api: &mut Api, task: &str) {
    let call = path(api, task);
    let refused = Want::Problem(409, "compared is not running; run it first");
    api.bare("POST", &call, refused);
    let body = json!({"tables": ["account"]});
    api.ask("stopped", ("POST", &call), &body, refused);
}

fn waiting(api: &mut Api, task: &str) {
    run(api, task);
    let call = path(api, task);
    let first = api.bare("POST", &call, Want::Ok(202));
    let body =
        json!({"tables": ["account", "public.account"], "repair": true, "rows_per_second": 9});
    let second = api.ask("whole", ("POST", &call), &body, Want::Ok(202));
    let null = Value::Null;
    for (one, only, repair, rate) in [
        (&first, null.clone(), false, null),
        (&second, json!(["public.account"]), true, json!(9)),
    ] {
        api.same("fields", keys(one), FIELDS.map(str::to_owned).to_vec());
        api.same("only", &one["only"], &only);
        api.same("repair", &one["repair"], &json!(repair));
        api.same("rows_per_second", &one["rows_per_second"], &rate);
        api.same("asked_by", text(&one["asked_by"]), "user".into());
        api.same("state", text(&one["state"]), "waiting".into());
        api.same("no result", one["result"].is_null(), true);
        api.same("no end", one["ended_ms"].is_null(), true);
        api.same("asked", one["asked_ms"].is_i64(), true);
        let shown = format!("{call}/{}", text(&one["verification_id"]));
        let shown = api.bare("GET", &shown, Want::Ok(200));
        api.same("shown", &shown, one);
    }
    let page = api.bare("GET", &format!("{call}?limit=1"), Want::Ok(200));
    api.same("total", &page["total"], &json!(2));
    api.same("size", &page["size"], &json!(1));
    api.same("newest first", &page["verifications"][0], &second);
    let status = api.native(&format!("/tasks/{task}/status"));
    api.bare("GET", &status, Want::Ok(200));
}

/// The command, with what has to be given to it.
fn command(api: &Api, args: &[&str], env: &[(&str, &str)]) -> Output {
    let server = format!("http://{}", api.address);
    Command::new(env!("CARGO_BIN_EXE_thalweg"))
        .env_clear()
        .env("THALWEG_SERVER", server)
        .env("THALWEG_INSTANCE", &api.identity.instance)
        .env("THALWEG_PASSWORD", &api.identity.password)
        .envs(env.iter().copied())
        .arg("verify")
        .args(args)
        .output()
        .unwrap()
}

fn by_command(api: &mut Api, task: &str) {
    let id = [task];
    for (args, env, names) in [
        (
            &["no task"][..],
            &[][..],
            "no task with the id or the name no task",
        ),
        (&id, &[("THALWEG_PASSWORD", "geheim")], "password is wrong"),
        (&id, &[("THALWEG_INSTANCE", "none")], "instance"),
        (
            &id,
            &[("THALWEG_SERVER", "http://127.0.0.1:1")],
            "cannot ask",
        ),
        (
            &id,
            &[("THALWEG_SERVER", "http://10.0.0.1:1")],
            "clear text",
        ),
        (&[task, "--table", "x"], &[], "no target table x;"),
        (&[task, "--rows-per-second", "0"], &[], "rows-per-second"),
    ] {
        let output = command(api, args, env);
        let error = String::from_utf8(output.stderr).unwrap();
        api.same(names, output.status.code(), Some(2));
        api.same(
            &error,
            error.contains(names) && !error.contains("geheim"),
            true,
        );
    }
}

fn too_many(api: &mut Api, task: &str) {
    let call = path(api, task);
    let many = Want::Problem(429, "wait until one has ended");
    for n in 2..=8 {
        let want = if n < 8 { Want::Ok(202) } else { many };
        api.bare("POST", &call, want);
    }
    let page = api.bare("GET", &call, Want::Ok(200));
    api.same("the refused one is not kept", &page["total"], &json!(8));
}

fn ended(api: &mut Api, task: &str) {
    let call = path(api, task);
    stop(api, task);
    let page = until(api, &call, "all end with the task", |page| {
        let all = page["verifications"].as_array().unwrap();
        all.iter().all(|one| one["ended_ms"].is_i64())
    });
    for one in page["verifications"].as_array().unwrap() {
        api.same("state", text(&one["state"]), "ended".into());
        api.same("result", text(&one["result"]), "failed".into());
        let reason = text(&one["reason"]);
        api.same(&reason, reason.contains("the task stopped"), true);
    }
    let output = command(api, &["compared"], &[]);
    let error = String::from_utf8(output.stderr).unwrap();
    api.same("exit code", output.status.code(), Some(2));
    api.same(&error, error.contains("is not running; run it first"), true);
}

fn in_the_background(api: &mut Api, task: &str) {
    let options = api.native(&format!("/tasks/{task}/options"));
    let wrong = Want::Problem(400, "verify_rows_per_second");
    let body = json!({"verify_rows_per_second": 0});
    api.ask("wrong", ("PATCH", &options), &body, wrong);
    let body = json!({"verify_rows_per_second": 100});
    let set = api.ask("set", ("PATCH", &options), &body, Want::Ok(200));
    let rate = &set["verify_rows_per_second"];
    api.same("set", rate, &json!(100));
    run(api, task);
    let refused = Want::Problem(400, "running");
    api.ask("while it runs", ("PATCH", &options), &body, refused);
    stop(api, task);
    let body = json!({"verify_rows_per_second": null});
    let set = api.ask("off", ("PATCH", &options), &body, Want::Ok(200));
    api.same("off", set["verify_rows_per_second"].is_null(), true);
}
