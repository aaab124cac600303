//! Rows that a target refuses, as the API, the command and the monitors tell of them; and what becomes of
//! them by either.

use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use crate::lab::{Lab, PATIENCE, Status, binary};

/// A row's key; nothing but the quarantine itself may show it.
const SECRET: &str = "geheim@example.org";
const SCHEMA: &str = "CREATE TABLE person (mail VARCHAR(60) PRIMARY KEY, age INT); \
    INSERT INTO person VALUES ('geheim@example.org', 30), ('b@example.org', 40); \
    CREATE TABLE item (id INT PRIMARY KEY, n INT); INSERT INTO item VALUES (1, 1);";

struct World {
    lab: Lab,
    task: String,
}

impl World {
    fn path(&self, rest: &str) -> String {
        let task = &self.task;
        self.lab
            .client
            .native(&format!("/tasks/{task}/quarantine{rest}"))
    }

    fn get(&self, rest: &str, query: &[(&str, &str)]) -> Value {
        let answer = self.lab.client.get(&self.path(rest), query).unwrap();
        answer.ok().unwrap()
    }

    /// The command: its exit code and what it prints.
    fn command(&self, args: &[&str]) -> (Option<i32>, String) {
        let identity = self.lab.thalweg.identity();
        let output = Command::new(binary())
            .env_clear()
            .env("THALWEG_SERVER", self.lab.thalweg.base_url())
            .env("THALWEG_INSTANCE", &identity.instance)
            .env("THALWEG_PASSWORD", &identity.password)
            .arg("quarantine")
            .args(args)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (out, error) = (text(output.stdout), text(output.stderr));
        println!("{args:?}: {:?}\n{out}{error}", output.status.code());
        (output.status.code(), out + &error)
    }

    fn says(&self, args: &[&str], code: i32, lines: &[&str]) -> String {
        let (found, out) = self.command(args);
        assert_eq!(found, Some(code), "{out}");
        for line in lines {
            assert!(out.contains(line), "{line} is not in {out}");
        }
        out
    }

    /// Waits until so many changes lie in quarantine, of so many rows that were refused.
    fn waits(&self, changes: u64, refused: u64) {
        let sum = |status: &Status, name| status.sum(name).unwrap_or(0);
        let there = |status: &Status| {
            sum(status, "quarantined") == changes && sum(status, "refused") == refused
        };
        self.lab.wait(&self.task, "quarantine", there).unwrap();
    }

    fn metric(&self, table: &str, changes: u64) {
        let task = &self.task;
        let line = format!(
            "thalweg_quarantined_changes{{task=\"{task}\",table=\"public.{table}\"}} {changes}\n"
        );
        let metrics = self.lab.client.get("/metrics", &[]).unwrap().json;
        assert!(metrics.as_str().unwrap().contains(&line), "{metrics}");
    }

    /// Waits until the monitor logs count so many rows of the last execution.
    fn dirty(&self, rows: u64) {
        let logs = format!("/tasks/{}/monitor-logs", self.task);
        let logs = self.lab.client.fdi(&logs);
        let until = Instant::now() + PATIENCE;
        loop {
            let list = self.lab.client.get(&logs, &[]).unwrap().ok().unwrap();
            let last = &list["entities"][0];
            let steps = last["detail_logs"].as_array().unwrap().iter();
            let steps: u64 = steps.map(|s| s["dirty_data_count"].as_u64().unwrap()).sum();
            if last["dirty_data_count"] == rows && steps == rows {
                assert!(!list.to_string().contains(SECRET));
                return;
            }
            assert!(Instant::now() < until, "{list}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

#[test]
fn refused_rows_are_told_and_leave() {
    let lab = Lab::start(|source| source.sql(SCHEMA).map(drop)).unwrap();
    let task = lab.task("people", &["person", "item"]).unwrap();
    let options = json!({"on_bad_row": "quarantine", "quarantine_max": 50});
    let shown = lab.client.set_options(&task, &options).unwrap();
    assert_eq!(shown["on_bad_row"], "quarantine");
    lab.client.run_task(&task).unwrap();
    lab.wait(&task, "Live", |status: &Status| status.live(2))
        .unwrap();
    let world = World { lab, task };
    world.says(&["list", "people"], 0, &[]);
    let constraints = "ALTER TABLE person ADD CONSTRAINT old CHECK (age < 100); \
        ALTER TABLE item ADD CONSTRAINT small CHECK (n < 100);";
    world.lab.target.sql(constraints).unwrap();
    for change in [
        "UPDATE person SET age = 300 WHERE mail = 'geheim@example.org'",
        "UPDATE person SET age = 301 WHERE mail = 'geheim@example.org'",
        "INSERT INTO item VALUES (2, 200)",
        "INSERT INTO item VALUES (3, 3)",
    ] {
        world.lab.source.sql(change).unwrap();
    }
    world.waits(3, 2);
    let rows = told(&world);
    by_command(&world, &rows);
    world.metric("person", 2);
    world.metric("item", 1);
    world.dirty(2);
    stays_without_the_task(&world);
    leave(&world, &rows);
    let status = world.lab.status(&world.task).unwrap().0;
    let metrics = world.lab.client.get("/metrics", &[]).unwrap().json;
    let shown = format!("{metrics}{status}{}", world.lab.thalweg.log_tail());
    assert!(!shown.contains(SECRET));
}

/// What the API says of both rows; their ids.
fn told(world: &World) -> [String; 2] {
    let page = world.get("", &[]);
    let counts = (&page["total"], &page["size"], &page["changes"]);
    assert_eq!(counts, (&json!(2), &json!(2), &json!(3)), "{page}");
    let rows = page["rows"].as_array().unwrap();
    let person = &rows[0];
    let source = world.lab.source.table("person");
    for (field, value) in [
        ("source", json!(source)),
        ("target", json!("public.person")),
        ("key", json!(format!("mail={SECRET}"))),
        ("operation", json!("update")),
        ("changes", json!(2)),
    ] {
        assert_eq!(person[field], value, "{field} of {person}");
    }
    let error = person["error"].as_str().unwrap();
    assert!(error.contains("old"), "{error}");
    assert!(person["since_ms"].is_u64() && person["position"].is_string());
    assert_eq!(rows[1]["key"], "id=2");
    for (table, rows) in [("person", 1), ("public.item", 1), ("items", 0)] {
        let found = world.get("", &[("table", table)]);
        assert_eq!(found["total"], rows, "{table}");
    }
    let second = world.get("", &[("limit", "1"), ("offset", "1")]);
    assert_eq!(second["rows"], json!([rows[1]]), "{second}");
    assert_eq!(
        (&second["total"], &second["changes"]),
        (&json!(2), &json!(3))
    );
    let ids = [0, 1].map(|at: usize| rows[at]["row_id"].to_string());
    let whole = world.get(&format!("/{}", ids[0]), &[]);
    let waiting = whole["waiting"].as_array().unwrap();
    assert_eq!(waiting.len(), 2, "{whole}");
    assert_eq!(waiting[0]["number"], person["row_id"]);
    assert!(waiting[0]["error"].is_string() && waiting[1]["error"].is_null());
    ids
}

fn by_command(world: &World, [person, item]: &[String; 2]) {
    let row = format!("{person}  public.person  mail={SECRET}  update  (+1 waiting)  ");
    let out = world.says(&["list", "people"], 0, &[&row]);
    assert!(out.lines().count() == 2 && out.contains("old"), "{out}");
    let row = format!("{item}  public.item  id=2  insert  ");
    let out = world.says(&["list", &world.task, "--table", "item"], 0, &[&row]);
    assert_eq!(out.lines().count(), 1, "{out}");
    let out = world.says(&["show", "people", person, item], 0, &["waits", "id=2"]);
    assert_eq!(out.lines().count(), 5, "{out}");
    world.says(&["show", "people", "999"], 2, &["no row with this id"]);
    // The cause is there still.
    let stays = [
        format!("stays  {person}  "),
        format!("stays  {item}  "),
        "released 0 rows with 0 changes".to_owned(),
    ];
    let stays = stays.each_ref().map(String::as_str);
    world.says(&["release", "people", "--all"], 1, &stays);
    let out = world.says(&["release", "people", "999"], 1, &["stays  999  no row"]);
    assert!(!out.contains(SECRET), "{out}");
}

/// They lie at the target, and can be seen without the task; only the task lets them leave.
fn stays_without_the_task(world: &World) {
    world.lab.client.stop_task(&world.task).unwrap();
    assert_eq!(world.get("", &[])["total"], 2);
    let stands = ["people is not running"];
    world.says(&["release", "people", "--all"], 2, &stands);
    world.lab.client.run_task(&world.task).unwrap();
    // Asked before its tables are live it waits until they are.
    world.says(&["release", "people", "--all"], 1, &["released 0 rows"]);
    world.waits(3, 0);
    world.dirty(0);
}

fn leave(world: &World, [person, item]: &[String; 2]) {
    let drop = "ALTER TABLE person DROP CONSTRAINT old";
    world.lab.target.sql(drop).unwrap();
    let ids = [person.parse::<i64>().unwrap(), item.parse().unwrap()];
    let body = json!({ "rows": ids });
    let client = &world.lab.client;
    let settled = client.post(&world.path("/release"), &[], Some(&body));
    let settled = settled.unwrap().ok().unwrap();
    assert_eq!(
        (&settled["rows"], &settled["changes"]),
        (&json!(1), &json!(2))
    );
    let refused = settled["refused"].as_array().unwrap();
    assert_eq!(refused[0]["row_id"], ids[1], "{settled}");
    let age = "SELECT age FROM person WHERE mail = 'geheim@example.org'";
    assert_eq!(world.lab.target.sql(age).unwrap(), "301");
    let discarded = ["discarded 1 rows with 1 changes"];
    world.says(&["discard", "people", "--table", "item"], 0, &discarded);
    world.waits(0, 0);
    assert_eq!(world.says(&["list", "people"], 0, &[]), "");
    world.metric("item", 0);
}
