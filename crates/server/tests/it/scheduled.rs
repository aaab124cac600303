//! Ordinary tasks that are run by hand and by a schedule: each run ends by itself, with both sides equal.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use thalweg_testkit::servers::System;

use crate::lab::{Lab, PATIENCE};

const ROWS: u64 = 3_000;

const MARIADB: &str = "CREATE TABLE item (id INT PRIMARY KEY, name VARCHAR(60) NOT NULL, n INT); \
    INSERT INTO item SELECT seq, concat('name of ', seq), seq % 100 FROM seq_1_to_{rows}";

const POSTGRES: &str = "CREATE TABLE item (id integer PRIMARY KEY, name varchar(60) NOT NULL, n integer); \
    INSERT INTO item SELECT i, concat('name of ', i), i % 100 FROM generate_series(1, {rows}) i";

/// Changes of rows there are: 10 of each kind.
const CHANGES: [&str; 3] = [
    "UPDATE item SET n = -1 - n WHERE id > 100 AND id <= 110",
    "DELETE FROM item WHERE id > 200 AND id <= 210",
    "INSERT INTO item SELECT id + 100000, name, n FROM item WHERE id > 300 AND id <= 310",
];

pairs!(
    runs_end_by_themselves_with_both_sides_equal,
    #[cfg(all())],
    #[ignore = "each half is half of another pair; make prove scheduled"]
);

fn runs_end_by_themselves_with_both_sides_equal(from: System, to: System) {
    let fill = match from {
        System::MariaDb => MARIADB,
        System::Postgres => POSTGRES,
    };
    let fill = fill.replace("{rows}", &ROWS.to_string());
    let lab = Lab::between(from, to, |source| source.sql(&fill).map(drop)).unwrap();
    let done = full(&lab).and_then(|()| incremental(&lab));
    done.with_context(|| lab.logs()).unwrap();
}

/// A task of `item` to a table of another name; its id.
fn create(lab: &Lab, name: &str, table: &str, incremental: bool) -> Result<String> {
    let detail = json!({
        "sourceSelectedDatasource": {
            "sourceTable": lab.source.table("item"), "sourceSelectedColumnList": [],
            "need_inc_migration": incremental, "querySql": "",
        },
        "targetSelectedDatasource": {
            "targetTable": lab.target.table(table), "targetSelectedColumnList": [],
        },
    });
    let body = json!({
        "task": {
            "task_name": name, "task_type": "TIMING", "source_datasource_id": lab.ends.0,
            "target_datasource_id": lab.ends.1,
        },
        "task_detail": detail.to_string(),
    });
    let made = lab
        .client
        .post(&lab.client.fdi("/tasks"), &[], Some(&body))?
        .ok()?;
    ensure!(made["task"]["task_type"] == "timing", "{made}");
    let shown: Value = serde_json::from_str(made["task_detail"].as_str().unwrap_or_default())?;
    ensure!(
        shown["targetSelectedDatasource"]["targetTable"] == lab.target.table(table),
        "{shown}"
    );
    let id = made["task"]["task_id"]
        .as_str()
        .context("no id")?
        .to_owned();
    lab.client
        .set_options(&id, &json!({ "create_tables": "missing" }))?;
    Ok(id)
}

/// Gives a task a schedule; its id.
fn schedule(lab: &Lab, task: &str, cron: &str) -> Result<String> {
    let path = lab.client.fdi(&format!("/tasks/{task}/dispatches"));
    let body = json!({ "use_quartz_cron": true, "cron": cron });
    let made = lab.client.post(&path, &[], Some(&body))?.ok()?;
    ensure!(lab.client.get(&path, &[])?.ok()? == made);
    Ok(made["dispatch_id"].as_str().context("no id")?.to_owned())
}

fn executions(lab: &Lab, task: &str) -> Result<Vec<Value>> {
    let logs = lab.client.monitor_logs(task)?;
    Ok(logs["entities"].as_array().context("no list")?.clone())
}

/// Waits until so many runs have ended, and gives the last.
fn ended(lab: &Lab, task: &str, count: usize) -> Result<Value> {
    let until = Instant::now() + PATIENCE;
    loop {
        let all = executions(lab, task)?;
        let done: Vec<&Value> = all
            .iter()
            .filter(|one| one["execute_status"] == "SUCCESS")
            .collect();
        if done.len() >= count {
            let last = done[0].clone();
            ensure!(last["status"] == 901, "{last}");
            return Ok(last);
        }
        let failed = all.iter().any(|one| one["execute_status"] == "ERROR");
        ensure!(!failed && Instant::now() < until, "{all:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn run(lab: &Lab, task: &str, count: usize) -> Result<Value> {
    lab.client.run_task(task)?;
    let last = ended(lab, task, count)?;
    ensure!(lab.client.show_task(task)?["task"]["status"] == "stop");
    Ok(last)
}

fn change(lab: &Lab) -> Result<()> {
    CHANGES
        .iter()
        .try_for_each(|sql| lab.source.sql(sql).map(drop))
}

fn equal(lab: &Lab, table: &str) -> Result<()> {
    let report = lab
        .judge()
        .compare(&lab.source.table("item"), &lab.target.table(table))?;
    ensure!(report.equal(), "{report}");
    Ok(())
}

/// What PostgreSQL keeps its log for.
fn slots(lab: &Lab) -> Result<Option<usize>> {
    if lab.source.server.system() == System::MariaDb {
        return Ok(None);
    }
    let found = lab
        .source
        .sql("SELECT count(*) FROM pg_replication_slots")?;
    Ok(Some(found.trim().parse()?))
}

fn full(lab: &Lab) -> Result<()> {
    let task = create(lab, "full", "full_copy", false)?;
    let path = lab.client.fdi(&format!("/tasks/{task}/run"));
    let refused = lab.client.post(&path, &[], None)?;
    ensure!(
        refused.status == 404 && refused.json["error_code"] == "FDI.3083",
        "{refused:?}"
    );
    let batch = |action: &str| {
        let body = json!({ "action_id": action, "list": [{ "task_id": task }] });
        lab.client
            .post(&lab.client.fdi("/batch-operation/tasks"), &[], Some(&body))?
            .ok()
    };
    ensure!(batch("start")?["failure"][0]["error_code"] == "FDI.3083");
    schedule(lab, &task, "0 0 3 1 1 ?")?;
    let first = run(lab, &task, 1)?;
    ensure!(first["data_count"] == ROWS, "{first}");
    equal(lab, "full_copy")?;
    ensure!(
        slots(lab)?.is_none_or(|slots| slots == 0),
        "a full run leaves nothing at the source"
    );
    change(lab)?;
    run(lab, &task, 2)?;
    equal(lab, "full_copy")?;
    // What is compared instead of copied is repaired before the run ends.
    let compare = json!({ "existing_rows": "compare" });
    lab.client.set_options(&task, &compare)?;
    lab.target
        .sql("UPDATE full_copy SET n = 12345 WHERE id = 7")?;
    run(lab, &task, 3)?;
    equal(lab, "full_copy")?;
    // By its schedule nothing has run; it is on until it is stopped.
    batch("start")?;
    ensure!(lab.client.show_task(&task)?["task"]["status"] == "running");
    lab.client.stop_task(&task)?;
    ensure!(lab.client.show_task(&task)?["task"]["status"] == "stop");
    ensure!(executions(lab, &task)?.len() == 3);
    lab.client.delete_task(&task)
}

fn incremental(lab: &Lab) -> Result<()> {
    let task = create(lab, "incremental", "followed", true)?;
    let dispatch = schedule(lab, &task, "0 0 3 1 1 ?")?;
    run(lab, &task, 1)?;
    equal(lab, "followed")?;
    ensure!(
        slots(lab)?.is_none_or(|slots| slots == 1),
        "it keeps its place"
    );
    let changes = [
        "UPDATE item SET n = -2 WHERE id > 400 AND id <= 410",
        "DELETE FROM item WHERE id > 500 AND id <= 510",
        "INSERT INTO item SELECT id + 200000, name, n FROM item WHERE id > 600 AND id <= 610",
    ];
    for sql in changes {
        lab.source.sql(sql)?;
    }
    let second = run(lab, &task, 2)?;
    ensure!(
        second["data_count"] == 30,
        "only the changes are moved: {second}"
    );
    equal(lab, "followed")?;
    // Every two seconds, as long as it is on.
    let path = lab
        .client
        .fdi(&format!("/tasks/{task}/dispatches/{dispatch}"));
    let body = json!({ "use_quartz_cron": true, "cron": "*/2 * * * * ?" });
    lab.client.put(&path, &[], Some(&body))?.ok()?;
    let body = json!({ "action_id": "start", "list": [{ "task_id": task }] });
    let started = lab
        .client
        .post(&lab.client.fdi("/batch-operation/tasks"), &[], Some(&body))?
        .ok()?;
    ensure!(started["success_count"] == 1, "{started}");
    ended(lab, &task, 4)?;
    lab.source
        .sql("INSERT INTO item VALUES (900000, 'by schedule', 1)")?;
    ended(lab, &task, executions(lab, &task)?.len() + 2)?;
    equal(lab, "followed")?;
    lab.client.stop_task(&task)?;
    let count = executions(lab, &task)?.len();
    std::thread::sleep(Duration::from_secs(3));
    ensure!(executions(lab, &task)?.len() == count, "it is off");
    let list = lab
        .client
        .get(&lab.client.fdi("/statistics/tasks"), &[])?
        .ok()?;
    ensure!(
        list["cdc_task_details"]["completed_tasks_count"] == 0,
        "{list}"
    );
    lab.client.delete_task(&task)
}
