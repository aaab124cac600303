//! Source tables that change while a task runs, is behind or is down, driven through the API: what can be
//! followed is, with rows before, between and after it; what cannot pauses its table, and the others go on.

mod policies;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use thalweg_testkit::servers::{Place, System};

use crate::lab::Lab;

const PATIENCE: Duration = Duration::from_secs(60);

/// The tables of the tests: one that changes, and one that has nothing to do with it.
fn fill(source: &Place) -> Result<()> {
    source.sql(
        "CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(10)); \
         INSERT INTO t VALUES (1, 1, 'one'), (2, 2, 'two'), (3, NULL, NULL); \
         CREATE TABLE other (id INT PRIMARY KEY, n INT); INSERT INTO other VALUES (1, 0)",
    )?;
    Ok(())
}

/// A task that maps tables without naming their columns.
fn task(lab: &Lab, name: &str, tables: &[&str], options: &serde_json::Value) -> Result<String> {
    let task = lab.task::<&str>(name, &[])?;
    let path = lab.client.fdi(&format!("/multi-tasks/{task}/mappings"));
    for table in tables {
        let body = json!({
            "source_datasource_id": lab.ends.0, "target_datasource_id": lab.ends.1,
            "source_table": lab.source.table(table), "target_table": lab.target.table(table),
        });
        lab.client.post(&path, &[], Some(&body))?.ok()?;
    }
    lab.client.set_options(&task, options)?;
    Ok(task)
}

/// A lab with a task of both tables that runs, and is live.
fn running(from: System, to: System, options: &serde_json::Value) -> Result<(Lab, String)> {
    let lab = Lab::between(from, to, fill)?;
    let task = task(&lab, "follows", &["t", "other"], options)?;
    lab.client.run_task(&task)?;
    lab.wait(&task, "both are live", |status| status.live(2))?;
    Ok((lab, task))
}

/// Waits until tables are equal, columns and rows, while the task has not failed.
fn equal(lab: &Lab, task: &str, tables: &[&str]) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        let Err(unequal) = lab.judge().all_equal(tables) else {
            return Ok(());
        };
        let status = lab.status(task)?;
        if Instant::now() > until {
            let said = lab.client.monitor_logs(task)?;
            bail!("{unequal:#}\n{}\n{said}\n{}", status.0, lab.logs());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn columns(place: &Place) -> Result<String> {
    let schema = match place.system() {
        System::MariaDb => "database()",
        System::Postgres => "current_schema()",
    };
    place.sql(&format!(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = {schema} \
         AND table_name = 't' ORDER BY ordinal_position"
    ))
}

/// How a column's type is changed.
fn retype(system: System, column: &str, ty: &str) -> String {
    match system {
        System::MariaDb => format!("ALTER TABLE t MODIFY {column} {ty}"),
        System::Postgres => format!("ALTER TABLE t ALTER {column} TYPE {ty}"),
    }
}

pairs!(changes_are_followed);

fn changes_are_followed(from: System, to: System) {
    follows(from, to).unwrap();
}

fn follows(from: System, to: System) -> Result<()> {
    let (lab, task) = running(from, to, &json!({}))?;
    let sql = |sql: &str| lab.source.sql(sql).context(sql.to_owned());
    // While it runs; rows before, between and after, in one transaction where the system has that.
    let (begin, commit) = match from {
        System::Postgres => ("BEGIN; ", "; COMMIT"),
        System::MariaDb => ("", ""),
    };
    let wider = retype(from, "b", "VARCHAR(40)");
    sql(&format!(
        "{begin}INSERT INTO t (id, a, b) VALUES (10, 10, 'before'); UPDATE t SET a = 5 WHERE id = 1; \
         ALTER TABLE t ADD c INT NOT NULL DEFAULT 7; \
         INSERT INTO t (id, a, b, c) VALUES (11, 11, 'between', 12); UPDATE t SET c = 8 WHERE id = 2; \
         {wider}; \
         INSERT INTO t (id, a, b) VALUES (12, 12, 'after all this, and long'); \
         UPDATE other SET n = n + 1{commit}"
    ))?;
    equal(&lab, &task, &["t", "other"])?;
    // Several at once while it is down, and one that comes and goes.
    lab.client.stop_task(&task)?;
    sql("INSERT INTO t (id, a, b) VALUES (20, 20, 'down'); \
         ALTER TABLE t ADD d VARCHAR(20) DEFAULT 'it''s'; \
         INSERT INTO t (id, a, d) VALUES (21, 21, 'mine'); \
         ALTER TABLE t ADD gone INT; INSERT INTO t (id, gone) VALUES (22, 1); \
         ALTER TABLE t DROP gone; INSERT INTO t (id, d) VALUES (23, NULL); DELETE FROM t WHERE id = 10")?;
    lab.client.run_task(&task)?;
    equal(&lab, &task, &["t", "other"])?;
    // By which the server writes all rows anew, and rows that were there get values of their own: they are
    // compared and repaired.
    let big = retype(from, "a", "BIGINT");
    let own = match from {
        System::Postgres => "FLOAT8 DEFAULT random()",
        System::MariaDb => "DATETIME(6) DEFAULT CURRENT_TIMESTAMP(6)",
    };
    sql(&format!(
        "INSERT INTO t (id, a) VALUES (30, 30); {big}; UPDATE t SET a = 5000000000 WHERE id = 1; \
         ALTER TABLE t ADD own {own}; INSERT INTO t (id, a) VALUES (31, 31)"
    ))?;
    equal(&lab, &task, &["t", "other"])?;
    // With crashes wherever they come.
    for (n, wait_ms) in [0, 10, 50, 150, 400].into_iter().enumerate() {
        sql(&format!(
            "INSERT INTO t (id, b) VALUES ({n} + 100, 'before'); \
             ALTER TABLE t ADD e{n} INT; UPDATE t SET e{n} = {n} WHERE id > 20"
        ))?;
        std::thread::sleep(Duration::from_millis(wait_ms));
        lab.thalweg.kill();
        lab.thalweg.restart()?;
    }
    sql("UPDATE other SET n = n + 1")?;
    equal(&lab, &task, &["t", "other"])?;
    assert_eq!(columns(&lab.source)?, columns(&lab.target)?);
    Ok(())
}
