//! `thalweg verify` against a running task: its lines, its exit code, and what stays to be seen of it.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lab::{Lab, PATIENCE, Status, binary};

/// Where the secret of a row lies; nothing but the verification itself may show it.
const SECRET: &str = "geheim@example.org";

const SCHEMA: &str = "CREATE TABLE person (mail VARCHAR(60) PRIMARY KEY, name VARCHAR(40)); \
    INSERT INTO person VALUES ('geheim@example.org', 'A'), ('b@example.org', 'B'); \
    CREATE TABLE big (id INT PRIMARY KEY, n INT); \
    INSERT INTO big SELECT seq, seq FROM seq_1_to_1000;";

/// The command: its exit code and what it prints.
fn verify(lab: &Lab, args: &[&str]) -> (Option<i32>, String) {
    let identity = lab.thalweg.identity();
    let output = Command::new(binary())
        .env_clear()
        .env("THALWEG_SERVER", lab.thalweg.base_url())
        .env("THALWEG_INSTANCE", &identity.instance)
        .env("THALWEG_PASSWORD", &identity.password)
        .arg("verify")
        .args(args)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, error) = (text(output.stdout), text(output.stderr));
    println!("{args:?}: {:?}\n{out}{error}", output.status.code());
    (output.status.code(), out + &error)
}

fn verified(lab: &Lab, task: &str) -> Vec<(String, String)> {
    let status = lab.status(task).unwrap().0;
    let tables = status["tables"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let found = tables.iter().map(|table| {
        let verified = &table["verified"];
        assert!(verified.is_null() || verified["at_ms"].is_u64());
        (text(&table["target"]), text(&verified["result"]))
    });
    found.collect()
}

#[test]
fn the_command_tells_what_differs_and_repairs_it() {
    let lab = Lab::start(|source| source.sql(SCHEMA).map(drop)).unwrap();
    let tables = ["person", "big"];
    let task = lab.task("people", &tables).unwrap();
    lab.client.run_task(&task).unwrap();
    lab.wait(&task, "Live", |status: &Status| status.live(2))
        .unwrap();
    let none = vec![
        ("public.person".into(), String::new()),
        ("public.big".into(), String::new()),
    ];
    assert_eq!(verified(&lab, &task), none);

    let (code, out) = verify(&lab, &["people"]);
    assert_eq!(code, Some(0), "{out}");
    let lines: Vec<&str> = out.lines().collect();
    assert!(
        lines[0].starts_with("equal     public.person: 2 rows, hash "),
        "{out}"
    );
    assert!(
        lines[1].starts_with("equal     public.big: 1000 rows, hash "),
        "{out}"
    );
    assert!(
        lines[2].starts_with("equal up to ") && lines.len() == 3,
        "{out}"
    );
    let equal = "equal".to_owned();
    let all = verified(&lab, &task);
    assert!(all.iter().all(|(_, result)| *result == equal), "{all:?}");
    let age = format!("thalweg_verified_age_seconds{{task=\"{task}\"}}");
    let metrics = lab.client.get("/metrics", &[]).unwrap().json;
    assert!(metrics.as_str().unwrap().contains(&age), "{metrics}");

    lab.target
        .sql(
            "UPDATE person SET name = 'X' WHERE mail = 'geheim@example.org'; \
             DELETE FROM big WHERE id = 7; INSERT INTO big VALUES (-1, 0);",
        )
        .unwrap();
    let (code, out) = verify(&lab, &[&task, "--table", "person"]);
    assert_eq!(code, Some(1), "{out}");
    let row = format!("changed   public.person mail={SECRET}: name\n");
    assert!(out.contains(&row) && out.ends_with("different\n"), "{out}");
    assert!(!out.contains("public.big"), "{out}");

    let (code, out) = verify(&lab, &["people", "--repair", "--rows-per-second", "100000"]);
    assert_eq!(code, Some(0), "{out}");
    for line in [
        row.as_str(),
        "missing   public.big id=7\n",
        "extra     public.big id=-1\n",
        "repaired, equal up to ",
    ] {
        assert!(out.contains(line), "{line} is not in {out}");
    }
    let (code, out) = verify(&lab, &["people"]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("equal     public.person"), "{out}");

    let path = lab.client.native(&format!("/tasks/{task}/verifications"));
    let list = lab.client.get(&path, &[]).unwrap().ok().unwrap();
    let results = list["verifications"].as_array().unwrap().iter();
    let results: Vec<&str> = results.map(|one| one["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["equal", "repaired", "different", "equal"]);
    keeps_to_itself(&lab, &task, &list);
    in_the_background(&lab, &task, &path);
}

/// A row's key is in no list, log, metric, nor readable in the state.
fn keeps_to_itself(lab: &Lab, task: &str, list: &Value) {
    let logs = lab.client.fdi(&format!("/tasks/{task}/monitor-logs"));
    let logs = lab.client.get(&logs, &[]).unwrap().json;
    let metrics = lab.client.get("/metrics", &[]).unwrap().json;
    let status = lab.status(task).unwrap().0;
    let shown = format!("{list}{logs}{metrics}{status}{}", lab.thalweg.log_tail());
    assert!(!shown.contains(SECRET));
    for entry in fs::read_dir(lab.thalweg.data_dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            let found = bytes.windows(SECRET.len()).any(|w| w == SECRET.as_bytes());
            assert!(!found, "{} holds a row's key", path.display());
        }
    }
}

fn in_the_background(lab: &Lab, task: &str, path: &str) {
    lab.client.stop_task(task).unwrap();
    let options = json!({"verify_rows_per_second": 1000});
    lab.client.set_options(task, &options).unwrap();
    lab.client.run_task(task).unwrap();
    let until = Instant::now() + PATIENCE;
    loop {
        let list = lab.client.get(path, &[]).unwrap().ok().unwrap();
        let newest = &list["verifications"][0];
        if newest["asked_by"] == "background" && newest["result"] == "equal" {
            assert_eq!(newest["rows_per_second"], 1000);
            return;
        }
        assert!(Instant::now() < until, "not verified by itself: {list}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
