//! Secrets and row values are planted wherever they can come from, and looked for wherever something can go: the log at
//! its most talkative, metrics, the audit log, every answer of the API, and the files of the data directory.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use thalweg_testkit::servers::System;
use thalweg_testkit::thalweg::Identity;

use crate::lab::{Lab, PATIENCE};

/// Stands in every planted value of a row.
const ROW: &str = "canary-7c1f";

const MARIADB: &str = "CREATE TABLE item (id VARCHAR(60) PRIMARY KEY, note VARCHAR(200) NOT NULL, n INT, doc JSON, \
    data VARBINARY(200)); INSERT INTO item SELECT concat('canary-7c1f-key-', seq), concat('canary-7c1f-note-', seq), seq, \
    concat('{\"a\": \"canary-7c1f-json-', seq, '\"}'), concat('canary-7c1f-data-', seq) FROM seq_1_to_200";

const POSTGRES: &str = "CREATE TABLE item (id varchar(60) PRIMARY KEY, note varchar(200) NOT NULL, n integer, \
    doc jsonb, data bytea); INSERT INTO item SELECT concat('canary-7c1f-key-', i), concat('canary-7c1f-note-', i), i, \
    jsonb_build_object('a', concat('canary-7c1f-json-', i)), concat('canary-7c1f-data-', i)::bytea \
    FROM generate_series(1, 200) i";

#[test]
fn nothing_planted_is_found_from_mariadb() {
    planted(System::MariaDb, System::Postgres).unwrap();
}

#[test]
fn nothing_planted_is_found_from_postgres() {
    planted(System::Postgres, System::MariaDb).unwrap();
}

fn planted(from: System, to: System) -> Result<()> {
    let fill = match from {
        System::MariaDb => MARIADB,
        System::Postgres => POSTGRES,
    };
    let env = [("THALWEG_LOG", "trace")];
    let lab = Lab::between_with(from, to, &env, |source| source.sql(fill).map(drop))?;
    let mut secrets = credentials(&lab)?;
    let task = lab.task("canaries", &["item"])?;
    lab.client.run_task(&task)?;
    lab.wait(&task, "live", |status| status.live(1))?;
    streams(&lab, &task)?;
    differences(&lab, &task)?;
    refusals(&lab, &task)?;
    let outputs = outputs(&lab, &task)?;
    secrets.retain(|(_, secret)| !secret.is_empty());
    let mut found = Vec::new();
    for (place, bytes) in &outputs {
        for (what, secret) in &secrets {
            if contains(bytes, secret.as_bytes()) {
                found.push(format!("{what} is in {place}"));
            }
        }
        if contains(bytes, ROW.as_bytes()) {
            let at = bytes
                .windows(ROW.len())
                .position(|part| part == ROW.as_bytes())
                .unwrap();
            let near = &bytes[at.saturating_sub(200)..(at + 80).min(bytes.len())];
            found.push(format!(
                "a row's value is in {place}: {}",
                String::from_utf8_lossy(near)
            ));
        }
    }
    println!(
        "{} outputs, {} secrets looked for",
        outputs.len(),
        secrets.len()
    );
    ensure!(found.is_empty(), "{}", found.join("\n"));
    Ok(())
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|found| found == part)
}

/// Every secret there is, each with its name.
fn credentials(lab: &Lab) -> Result<Vec<(&'static str, String)>> {
    let Identity { password, sk, .. } = lab.thalweg.identity().clone();
    let Identity { domain, user, .. } = lab.thalweg.identity().clone();
    let client = &lab.client;
    let token = client.login(&domain, &user, &password)?;
    let wrong = "a wrong password that somebody typed";
    ensure!(client.login(&domain, &user, wrong).is_err());
    let typed = "a password typed into the field for names";
    ensure!(client.login(&domain, typed, wrong).is_err());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let app = json!({ "name": "secretive", "secret": "the secret of an application" });
    client
        .post(&client.instance("/apps"), &[], Some(&app))?
        .ok()?;
    let anna = json!({ "name": "anna", "password": "the password of anna" });
    let anna = client.post("/v1/users", &[], Some(&anna))?.ok()?;
    let keys = format!("/v1/users/{}/keys", text(&anna["user_id"]));
    let made = client.post(&keys, &[], Some(&json!({})))?.ok()?;
    let asked = json!({ "auth": { "identity": { "methods": ["token"] } } });
    let place = "/v3.0/OS-CREDENTIAL/securitytokens";
    let temporary = client.post(place, &[], Some(&asked))?.ok()?["credential"].take();
    let other = json!({
        "datasource_name": "a broker", "datasource_type": "KAFKA", "app_id": lab.app, "content": {
            "broker": "10.0.0.1:9092", "ssl_password": "the password of a broker",
            "connector_params": { "any": "a secret that has no name" },
        },
    });
    let other = client
        .post(&client.fdi("/datasources"), &[], Some(&other))?
        .ok()?;
    let options = client.native(&format!(
        "/datasources/{}/options",
        text(&other["datasource_id"])
    ));
    let key = "-----BEGIN PRIVATE KEY-----\nthe key of a certificate\n-----END PRIVATE KEY-----";
    let shown = json!({ "client_cert_pem": "-----BEGIN CERTIFICATE-----", "client_key_pem": key });
    client.patch(&options, &[], Some(&shown))?.ok()?;
    let [reader, writer] = &lab.accounts;
    Ok(vec![
        ("the owner's password", password),
        ("the owner's secret key", sk),
        ("a token", token),
        ("a wrong password", wrong.into()),
        ("a password in the wrong field", typed.into()),
        (
            "an application's secret",
            "the secret of an application".into(),
        ),
        ("a user's password", "the password of anna".into()),
        ("a user's secret key", text(&made["sk"])),
        ("a temporary secret key", text(&temporary["secret"])),
        ("a security token", text(&temporary["securitytoken"])),
        ("a broker's password", "the password of a broker".into()),
        ("a parameter", "a secret that has no name".into()),
        ("a client's key", "the key of a certificate".into()),
        ("the source's password", reader.password.clone()),
        ("the target's password", writer.password.clone()),
    ])
}

/// Changes of every kind, and what the source says of a query that is none.
fn streams(lab: &Lab, task: &str) -> Result<()> {
    for sql in [
        "INSERT INTO item (id, note, n) VALUES ('canary-7c1f-new', 'canary-7c1f-new', 1)",
        "UPDATE item SET note = concat(note, '-canary-7c1f-more') WHERE n < 20",
        "UPDATE item SET id = concat(id, '-moved') WHERE n = 30",
        "DELETE FROM item WHERE n = 31",
        "ALTER TABLE item ADD COLUMN comes VARCHAR(60) DEFAULT 'canary-7c1f-default'",
        "INSERT INTO item (id, note, n) VALUES ('canary-7c1f-last', 'x', 2)",
    ] {
        lab.source.sql(sql)?;
    }
    let there = "SELECT count(*) FROM item WHERE id = 'canary-7c1f-last'";
    until("the last row", || Ok(lab.target.sql(there)?.trim() == "1"))?;
    let sql = json!({ "sql": "SELECT 'canary-7c1f' FROM no_such_table" });
    let path = lab
        .client
        .fdi(&format!("/datasources/{}/test-sql", lab.ends.0));
    let refused = lab.client.post(&path, &[], Some(&sql))?;
    ensure!(refused.status == 400);
    lab.status(task).map(drop)
}

/// Rows that differ are found and repaired; which they are is one of the two answers that show values.
fn differences(lab: &Lab, task: &str) -> Result<()> {
    lab.target
        .sql("UPDATE item SET note = 'canary-7c1f-changed' WHERE n = 40")?;
    lab.target.sql("DELETE FROM item WHERE n = 41")?;
    let path = lab.client.native(&format!("/tasks/{task}/verifications"));
    let asked = lab
        .client
        .post(&path, &[], Some(&json!({ "repair": true })))?
        .ok()?;
    let path = format!(
        "{path}/{}",
        asked["verification_id"].as_str().context("no id")?
    );
    until("the verification", || {
        Ok(!lab.client.get(&path, &[])?.ok()?["result"].is_null())
    })?;
    let shown = lab.client.get(&path, &[])?.ok()?.to_string();
    ensure!(shown.contains(ROW), "this one shows keys: {shown}");
    Ok(())
}

/// Rows that the target refuses: first they wait in quarantine, and then the task stops at one.
fn refusals(lab: &Lab, task: &str) -> Result<()> {
    lab.client.stop_task(task)?;
    let options = json!({ "on_bad_row": "quarantine" });
    lab.client.set_options(task, &options)?;
    lab.target
        .sql("ALTER TABLE item ADD CONSTRAINT small CHECK (n < 1000000)")?;
    lab.client.run_task(task)?;
    lab.source
        .sql("UPDATE item SET n = 5000000, note = 'canary-7c1f-bad' WHERE n = 50")?;
    let quarantine = lab.client.native(&format!("/tasks/{task}/quarantine"));
    until("a row in quarantine", || {
        Ok(lab.client.get(&quarantine, &[])?.ok()?["total"] == 1)
    })?;
    let shown = lab.client.get(&quarantine, &[])?.ok()?.to_string();
    ensure!(shown.contains(ROW), "this one shows keys: {shown}");
    lab.client.stop_task(task)?;
    let options = json!({ "on_bad_row": "stop" });
    lab.client.set_options(task, &options)?;
    lab.client.run_task(task)?;
    // One that is there already, by another writer's hand, and one that is too large.
    lab.target
        .sql("INSERT INTO item (id, note, n) VALUES ('canary-7c1f-taken', 'x', 3)")?;
    lab.source
        .sql("INSERT INTO item (id, note, n) VALUES ('canary-7c1f-taken', 'y', 3)")?;
    lab.source
        .sql("UPDATE item SET n = 6000000, note = 'canary-7c1f-worse' WHERE n = 51")?;
    until("the task stops", || {
        let logs = lab.client.monitor_logs(task)?;
        Ok(logs["entities"][0]["execute_status"] == "ERROR")
    })
}

fn until(what: &str, done: impl Fn() -> Result<bool>) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while !done()? {
        ensure!(Instant::now() < until, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Everything that comes out, each with where.
fn outputs(lab: &Lab, task: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let client = &lab.client;
    let mut out = Vec::new();
    let (tasks, sources) = (client.fdi("/tasks"), client.fdi("/datasources"));
    let of_task = client.native(&format!("/tasks/{task}"));
    for path in [
        tasks.clone(),
        format!("{tasks}/{task}"),
        format!("{tasks}/{task}/monitor-logs"),
        format!("{tasks}/{task}/monitor-overview"),
        client.fdi("/task-monitors"),
        client.fdi("/statistics/tasks"),
        client.fdi(&format!("/multi-tasks/{task}/mappings")),
        sources.clone(),
        format!("{sources}/{}", lab.ends.0),
        client.instance("/apps"),
        format!("{of_task}/status"),
        format!("{of_task}/options"),
        format!("{of_task}/plan"),
        format!("{of_task}/tables"),
        format!("{of_task}/verifications"),
        client.native("/leftovers"),
        "/v1/users".into(),
        "/v1/users/me".into(),
        "/v1/policies".into(),
        "/v1/projects".into(),
        "/metrics".into(),
    ] {
        let answer = client.get(&path, &[("limit", "900")])?;
        ensure!(answer.status == 200, "{path}: {answer:?}");
        out.push((path, answer.json.to_string().into_bytes()));
    }
    let audit = client.get("/v1/audit", &[("limit", "900")])?.ok()?;
    ensure!(audit["total"].as_u64() > Some(10), "{audit}");
    out.push(("the audit log".into(), audit.to_string().into_bytes()));
    let log = fs::read(lab.thalweg.log())?;
    ensure!(
        contains(&log, b" DEBUG sqlx"),
        "the log is at its most talkative"
    );
    out.push(("the log".into(), log));
    // Also what is not written back to the file yet.
    for file in fs::read_dir(lab.thalweg.data_dir())? {
        let file = file?.path();
        out.push((file.display().to_string(), fs::read(&file)?));
    }
    Ok(out)
}
