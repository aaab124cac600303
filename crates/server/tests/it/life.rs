//! The life of the process apart from crashes: how it ends, what it keeps to itself, what it leaves.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};
use thalweg_testkit::client::End;
use thalweg_testkit::servers::Place;
use thalweg_testkit::thalweg::Thalweg;

use crate::bank;
use crate::lab::{Lab, PATIENCE, Status, binary};

/// How long the server may take to end when it is asked to.
const TERM_MAX: Duration = Duration::from_secs(8);
/// What a server without optimisation may hold when it does nothing; the goal of a release is 50 MB.
const IDLE_BYTES_MAX: u64 = 100 << 20;
/// How long such a server may take until it listens, on a busy machine; the goal is a second.
const READY_MAX: Duration = Duration::from_secs(10);

/// The bank, and a table that takes a moment to copy.
fn fill(source: &Place) -> Result<()> {
    bank::create(source)?;
    let big = "CREATE TABLE big (id INT PRIMARY KEY, text VARCHAR(200) NOT NULL); \
               INSERT INTO big SELECT seq, repeat('x', 1 + seq % 200) FROM seq_1_to_200000;";
    source.sql(big).map(drop)
}

fn tables() -> Vec<String> {
    let mut tables = vec!["big".to_owned()];
    tables.extend(bank::TABLES.map(str::to_owned));
    tables
}

/// A running task whose tables are all Live.
fn live(lab: &Lab) -> String {
    let tables = tables();
    let task = lab.task("life", &tables).unwrap();
    lab.client.run_task(&task).unwrap();
    let done = |status: &Status| status.live(tables.len());
    lab.wait(&task, "Live", done).unwrap();
    task
}

#[test]
fn sigterm_ends_a_load_and_a_stream_within_seconds() {
    let lab = Lab::start(fill).unwrap();
    let tables = tables();
    let task = lab.task("term", &tables).unwrap();
    lab.client.run_task(&task).unwrap();
    let copying = |status: &Status| status.tables().contains(&"Copying");
    lab.wait(&task, "Copying", copying).unwrap();
    let in_load = lab.thalweg.terminate().unwrap();
    let loaded = "SELECT count(*) FROM thalweg.checkpoint_table WHERE phase = 'live'";
    assert_eq!(lab.target.sql(loaded).unwrap().trim(), "0");

    lab.thalweg.restart().unwrap();
    let live = |status: &Status| status.live(tables.len());
    lab.wait(&task, "Live after the restart", live).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let customers = bank::Customers::start(runtime.handle(), &lab.source, 1, 2, 50);
    let applied = |status: &Status| status.number("transactions") > Some(10);
    lab.wait(&task, "changes are applied", applied).unwrap();
    let in_stream = lab.thalweg.terminate().unwrap();
    runtime.block_on(customers.stop()).unwrap();
    println!("proof: SIGTERM: {in_load:?} in a load, {in_stream:?} in a stream");
    assert!(in_load < TERM_MAX && in_stream < TERM_MAX);

    // What went on meanwhile is caught up with, and the execution is still the same one.
    lab.thalweg.restart().unwrap();
    let caught_up =
        |status: &Status| status.live(tables.len()) && status.number("backlog_bytes") == Some(0);
    lab.wait(&task, "caught up", caught_up).unwrap();
    let total = lab.target.sql(bank::SNAPSHOT).unwrap();
    let parts: Vec<i64> = total
        .split_whitespace()
        .map(|part| part.parse().unwrap())
        .collect();
    assert_eq!(parts[..3].iter().sum::<i64>(), bank::TOTAL);
    let logs = lab.client.monitor_logs(&task).unwrap();
    assert_eq!(logs["total"], 1, "{logs}");
    assert_eq!(logs["entities"][0]["execute_status"], "RUNNING", "{logs}");
}

#[test]
fn an_idle_server_is_small_and_soon_ready() {
    let thalweg = Thalweg::start(binary()).unwrap();
    thalweg.terminate().unwrap();
    let start = Instant::now();
    thalweg.restart().unwrap();
    let answer = thalweg.client().get("/readyz", &[]).unwrap();
    let ready = start.elapsed();
    assert_eq!(answer.status, 200);
    let memory = thalweg.rss_bytes().unwrap();
    println!(
        "proof: ready after {ready:?}, idle with {} KiB",
        memory.rss >> 10
    );
    assert!(ready < READY_MAX && memory.rss < IDLE_BYTES_MAX);
}

/// What must never be seen, and where it was looked for.
struct Secrets(Vec<(&'static str, Vec<u8>)>);

impl Secrets {
    fn of(lab: &Lab) -> Self {
        let identity = lab.thalweg.identity();
        let plain = |name, secret: &str| (name, secret.as_bytes().to_vec());
        Self(vec![
            plain("the source's password", &lab.accounts[0].password),
            plain("the target's password", &lab.accounts[1].password),
            plain("a wrong password", WRONG),
            plain("the secret key", &identity.sk),
            plain("the first user's password", &identity.password),
        ])
    }

    fn look(&self, place: &str, text: &[u8]) {
        for (name, secret) in &self.0 {
            assert!(secret.len() >= 8, "{name} is too short to be looked for");
            let found = text
                .windows(secret.len())
                .any(|part| part == secret.as_slice());
            assert!(!found, "{place} holds {name}");
        }
    }
}

const WRONG: &str = "canary-of-a-wrong-password";

/// Asks everything there is to ask for a task; each answer with its path.
fn answers(lab: &Lab, task: &str, wrong: &str) -> Vec<(String, Value)> {
    let client = &lab.client;
    let (from, to) = (&lab.ends.0, &lab.ends.1);
    let mut paths = vec![
        client.fdi("/datasources"),
        client.fdi("/tasks"),
        client.fdi("/statistics/tasks"),
        client.fdi("/task-monitors"),
        client.fdi(&format!("/tasks/{task}")),
        client.fdi(&format!("/tasks/{task}/monitor-logs")),
        client.fdi(&format!("/multi-tasks/{task}/mappings")),
        client.instance("/apps"),
        client.instance(&format!("/apps/{}", lab.app)),
        client.native(&format!("/tasks/{task}/options")),
        client.native(&format!("/tasks/{task}/status")),
        client.native("/leftovers"),
        "/metrics".to_owned(),
    ];
    for id in [from.as_str(), to, wrong] {
        paths.push(client.fdi(&format!("/datasources/{id}")));
        paths.push(client.fdi(&format!("/datasources/{id}/tables?position=SOURCE")));
        paths.push(client.native(&format!("/datasources/{id}/options")));
    }
    let mut answers = Vec::new();
    for path in paths {
        let (path, query) = match path.split_once('?') {
            Some((path, _)) => (path.to_owned(), vec![("position", "SOURCE")]),
            None => (path, Vec::new()),
        };
        let answer = client.get(&path, &query).unwrap();
        assert!(
            answer.status < 400 || path.contains(wrong),
            "{path}: {}",
            answer.json
        );
        let headers = json!(answer.headers);
        answers.push((path, json!([answer.json, headers])));
    }
    for id in [from.as_str(), to, wrong] {
        let path = client.fdi(&format!("/datasources/{id}/test-connect"));
        answers.push((path.clone(), client.post(&path, &[], None).unwrap().json));
    }
    answers
}

#[test]
fn secrets_stay_in() {
    let lab = Lab::start(fill).unwrap();
    let task = live(&lab);
    let wrong = End {
        password: WRONG.into(),
        ..End::of(&lab.source, &lab.accounts[0])
    };
    // Refused or taken: either way it has to be kept to itself.
    let wrong = lab.client.create_data_source("wrong", &lab.app, &wrong);
    let wrong = wrong.unwrap_or_else(|error| {
        assert!(!format!("{error:#}").contains(WRONG));
        String::new()
    });
    let secrets = Secrets::of(&lab);
    for (path, answer) in answers(&lab, &task, &wrong) {
        secrets.look(&path, answer.to_string().as_bytes());
    }
    secrets.look("the log", &fs::read(lab.thalweg.log()).unwrap());

    // The data directory, as someone without the key file finds it: in use, and after a crash.
    let mut seen = 0;
    for moment in ["in use", "after a crash"] {
        seen += look_in(&secrets, moment, &lab.thalweg.data_dir());
        lab.thalweg.kill();
    }
    assert!(seen >= 2, "no files in the data directory");
    let key = lab.thalweg.data_dir().with_file_name("key");
    assert!(key.is_file(), "the key lies beside the directory");
}

/// Looks in all files; how many there are.
fn look_in(secrets: &Secrets, moment: &str, dir: &Path) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            count += look_in(secrets, moment, &path);
            continue;
        }
        let place = format!("{} {moment}", path.file_name().unwrap().display());
        secrets.look(&place, &fs::read(&path).unwrap());
        count += 1;
    }
    count
}

#[test]
fn a_deleted_task_leaves_nothing_but_its_rows() {
    let lab = Lab::start(fill).unwrap();
    let task = live(&lab);
    assert!(dumps(&lab) > 0, "a task that runs is seen");
    lab.client.stop_task(&task).unwrap();
    lab.client.delete_task(&task).unwrap();
    // Not even a crash in the middle of it.
    lab.thalweg.restart().unwrap();
    let until = Instant::now() + PATIENCE;
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'thalweg'";
    let ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'thalweg%'";
    let left = |sql: &str| lab.target.sql(sql).unwrap().trim() != "0";
    while left(schemas) || left(ours) || dumps(&lab) > 0 {
        let leftovers = lab.client.get(&lab.client.native("/leftovers"), &[]);
        assert!(Instant::now() < until, "{:?}", leftovers.unwrap().json);
        std::thread::sleep(Duration::from_millis(50));
    }
    let status = lab.client.show_task(&task);
    assert!(status.is_err(), "{status:?}");
    let rows = lab.target.sql("SELECT count(*) FROM big");
    assert_eq!(rows.unwrap().trim(), "200000");
}

/// Connections to the source that read its log, or say they are a replica.
fn dumps(lab: &Lab) -> usize {
    let sql = "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'; \
               SHOW SLAVE HOSTS;";
    lab.source.sql(sql).unwrap().lines().count()
}
