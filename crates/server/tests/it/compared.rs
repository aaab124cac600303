//! A task whose place in the log is lost, and whose tables have their rows already: nothing is copied, and what
//! differs is repaired.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use thalweg_testkit::servers::System;

use crate::lab::Lab;

const PATIENCE: Duration = Duration::from_secs(60);

pairs!(
    a_lost_place_in_the_log_costs_only_what_differs,
    #[cfg(all())],
    #[ignore = "the other pairs have the same sources and targets: make prove compared"]
);

fn a_lost_place_in_the_log_costs_only_what_differs(from: System, to: System) {
    let lab = lab(from, to).unwrap();
    let outcome = lost_and_compared(&lab);
    outcome.with_context(|| lab.logs()).unwrap();
}

fn lab(from: System, to: System) -> Result<Lab> {
    Lab::between(from, to, |source| {
        let series = match from {
            System::MariaDb => "(SELECT seq AS n FROM seq_1_to_2000) s",
            System::Postgres => "generate_series(1, 2000) n",
        };
        let whole = match from {
            System::MariaDb => "",
            System::Postgres => "ALTER TABLE heap REPLICA IDENTITY FULL;",
        };
        source.sql(&format!(
            "CREATE TABLE t (id INT PRIMARY KEY, n INT, b VARCHAR(20)); \
             INSERT INTO t SELECT n, n, concat('row ', n) FROM {series}; \
             CREATE TABLE parent (id INT PRIMARY KEY); INSERT INTO parent VALUES (1), (2); \
             CREATE TABLE child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id)); \
             INSERT INTO child VALUES (1, 1), (2, 2), (3, 2); \
             CREATE TABLE heap (n INT); {whole} INSERT INTO heap VALUES (1), (1)"
        ))?;
        Ok(())
    })
}

/// How the newest execution of a task ended, as soon as it has failed.
fn failure(lab: &Lab, task: &str) -> Result<String> {
    let until = Instant::now() + PATIENCE;
    loop {
        let said = lab.client.monitor_logs(task)?["entities"][0].clone();
        if said["execute_status"] == "ERROR" {
            return Ok(said.to_string());
        }
        ensure!(Instant::now() < until, "it goes on: {said}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn equal(lab: &Lab, task: &str) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while let Err(unequal) = lab.judge().all_equal(&["t", "parent", "child"]) {
        lab.status(task)?;
        ensure!(Instant::now() < until, "{unequal:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn lost_and_compared(lab: &Lab) -> Result<()> {
    let task = lab.task("compared", &["t", "parent", "child"])?;
    lab.client.run_task(&task)?;
    lab.wait(&task, "they are live", |status| status.live(3))?;
    equal(lab, &task)?;
    lab.client.stop_task(&task)?;
    let source = |sql: &str| lab.source.sql(sql).context(sql.to_owned());
    source("UPDATE t SET n = n + 5000 WHERE id <= 10")?;
    source("DELETE FROM t WHERE id BETWEEN 101 AND 105")?;
    source("INSERT INTO t VALUES (3001, 1, 'a'), (3002, 2, 'b'), (3003, 3, 'c')")?;
    source("INSERT INTO parent VALUES (3); INSERT INTO child VALUES (4, 3)")?;
    source(match lab.source.system() {
        System::MariaDb => "RESET MASTER",
        System::Postgres => {
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT temporary"
        }
    })?;
    lab.client.run_task(&task)?;
    let said = failure(lab, &task)?;
    ensure!(said.contains("existing_rows to compare"), "{said}");

    lab.client
        .set_options(&task, &json!({"existing_rows": "compare"}))?;
    let reset = lab.client.fdi(&format!("/multi-tasks/{task}/reset"));
    lab.client.post(&reset, &[], Some(&json!({})))?.ok()?;
    lab.client.run_task(&task)?;
    // Rows that are changed meanwhile, of both kinds.
    source("UPDATE t SET b = 'later' WHERE id IN (2, 1500)")?;
    source("UPDATE t SET b = 'later' WHERE id = 3002; DELETE FROM t WHERE id = 1501")?;
    equal(lab, &task)?;
    let status = lab.wait(&task, "they are live", |status| status.live(3))?;
    // Rows that foreign keys join are copied.
    ensure!(status.sum("loaded_rows")? == 7, "{}", status.0);
    repaired(lab, &task)?;
    source("DELETE FROM t WHERE id = 7; INSERT INTO t VALUES (7, 7, 'again')")?;
    equal(lab, &task)?;
    keyless(lab)
}

/// No more rows were found and repaired than differed.
fn repaired(lab: &Lab, task: &str) -> Result<()> {
    let path = lab.client.native(&format!("/tasks/{task}/verifications"));
    let until = Instant::now() + PATIENCE;
    loop {
        let all = lab.client.get(&path, &[])?.ok()?;
        let all = all["verifications"].as_array().context("no list")?.clone();
        let tables = || {
            all.iter()
                .filter_map(|one| one["tables"].as_array())
                .flatten()
        };
        let sum = |name: &str| {
            tables()
                .filter_map(|table| table[name].as_u64())
                .sum::<u64>()
        };
        let found = ["changed", "missing", "extra"].map(sum);
        let settled = |one: &Value| one["result"] == "equal" || one["result"] == "repaired";
        if all.first().is_some_and(settled) {
            // With what is changed before the task has begun; the stream brings the rest.
            let most = [11, 3, 6];
            ensure!(
                found.iter().zip(most).all(|(found, most)| *found <= most),
                "{found:?}: {all:?}"
            );
            ensure!(found[0] >= 8 && found[2] >= 5, "{found:?}: {all:?}");
            return Ok(());
        }
        ensure!(Instant::now() < until, "{all:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A table whose rows cannot be told apart is refused.
fn keyless(lab: &Lab) -> Result<()> {
    let task = lab.task("keyless", &["heap"])?;
    lab.client
        .set_options(&task, &json!({"existing_rows": "compare"}))?;
    lab.target
        .sql("CREATE TABLE heap (n INT); INSERT INTO heap VALUES (1)")?;
    if lab.target.system() == System::Postgres {
        let [_, writer] = &lab.accounts;
        lab.target
            .sql(&format!("GRANT ALL ON heap TO {}", writer.user))?;
    }
    lab.client.run_task(&task)?;
    let said = failure(lab, &task)?;
    ensure!(said.contains("cannot be compared and repaired"), "{said}");
    ensure!(said.contains("has rows already"), "{said}");
    ensure!(lab.target.sql("SELECT count(*) FROM heap")?.trim() == "1");
    Ok(())
}
