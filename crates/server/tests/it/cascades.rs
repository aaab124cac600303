//! Foreign keys that change rows themselves, over two levels and more: what the source's keys do
//! arrives, whether its log has it or not and whether the target has such keys or not.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use thalweg_core::mapping::{ForeignKeys, Mapping, Operations, TaskOptions};
use thalweg_core::plan::{Plan, TablePair, resolve};
use thalweg_core::schema::TableName;
use thalweg_engine::status::{TaskPhase, TaskStatus};
use thalweg_testkit::servers::System;

use crate::pair::Pair;

const TABLES: [&str; 6] = ["a", "b", "c", "d", "e", "tree"];

/// `keys` false: the same tables without foreign keys.
fn tables(keys: bool) -> String {
    let key = |columns: &str, parent: &str, actions: &str| match keys {
        true => format!(", FOREIGN KEY ({columns}) REFERENCES {parent} {actions}"),
        false => String::new(),
    };
    let both = "ON DELETE CASCADE ON UPDATE CASCADE";
    format!(
        "CREATE TABLE a (id INT PRIMARY KEY, x INT); \
         CREATE TABLE b (id INT PRIMARY KEY, a INT, x INT{}); \
         CREATE TABLE c (id INT PRIMARY KEY, b INT, x INT{}); \
         CREATE TABLE d (a INT, line INT, x INT, PRIMARY KEY (a, line){}); \
         CREATE TABLE e (a INT, line INT, n INT, x INT, PRIMARY KEY (a, line, n){}); \
         CREATE TABLE tree (id INT PRIMARY KEY, parent INT, x INT{});",
        key("a", "a (id)", both),
        key("b", "b (id)", "ON DELETE SET NULL ON UPDATE CASCADE"),
        key("a", "a (id)", both),
        key("a, line", "d (a, line)", both),
        key("parent", "tree (id)", "ON DELETE CASCADE"),
    )
}

/// One statement that both systems understand and that meets no constraint.
fn statement(rng: &mut SmallRng) -> String {
    let mut number = |below: u32| rng.random_range(0..below);
    let (id, other, line, x) = (number(40), number(40), number(4), number(100));
    let row = "FROM (SELECT 1 AS one) q WHERE NOT EXISTS (SELECT 1 FROM";
    match number(16) {
        0 => format!("INSERT INTO a SELECT {id}, {x} {row} a WHERE id = {id})"),
        1 | 2 => format!(
            "INSERT INTO b SELECT {id}, (SELECT max(id) FROM a WHERE id <= {other}), {x} {row} b \
             WHERE id = {id})"
        ),
        3 | 4 => format!(
            "INSERT INTO c SELECT {id}, (SELECT max(id) FROM b WHERE id <= {other}), {x} {row} c \
             WHERE id = {id})"
        ),
        5 => format!(
            "INSERT INTO d SELECT id, {line}, {x} FROM a WHERE id = {id} AND NOT EXISTS (SELECT 1 \
             FROM d WHERE a = {id} AND line = {line})"
        ),
        6 => format!(
            "INSERT INTO e SELECT a, line, {x}, {other} FROM d WHERE a = {id} AND line = {line} \
             AND NOT EXISTS (SELECT 1 FROM e WHERE a = {id} AND line = {line} AND n = {x})"
        ),
        7 => format!(
            "UPDATE b SET a = (SELECT max(id) FROM a WHERE id <= {other}), x = {x} WHERE id = {id}"
        ),
        8 => format!(
            "UPDATE c SET b = (SELECT max(id) FROM b WHERE id <= {other}), x = {x} WHERE id = {id}"
        ),
        9 => format!("UPDATE e SET x = {x} WHERE a = {id}"),
        10 => {
            let table = ["a", "b"][usize::from(x % 2 == 0)];
            format!(
                "UPDATE {table} SET id = {other} WHERE id = {id} AND NOT EXISTS \
                 (SELECT 1 FROM (SELECT id FROM {table}) q WHERE q.id = {other})"
            )
        }
        11 => format!(
            "UPDATE d SET line = {0} WHERE a = {id} AND line = {line} AND NOT EXISTS \
             (SELECT 1 FROM (SELECT a, line FROM d) q WHERE q.a = {id} AND q.line = {0})",
            10 + line
        ),
        12 => format!(
            "DELETE FROM {} WHERE id = {id}",
            ["a", "b", "c"][usize::from(line.min(2) == 2) + usize::from(line > 2)]
        ),
        13 => format!("DELETE FROM d WHERE a = {id} AND line >= {line}"),
        14 => format!(
            "INSERT INTO tree SELECT {id}, (SELECT max(id) FROM tree WHERE id < {id}), {x} {row} \
             tree WHERE id = {id})"
        ),
        _ => match line {
            0 | 1 => format!(
                "UPDATE tree SET x = {x}, parent = (SELECT max(id) FROM (SELECT id FROM tree) q \
                 WHERE q.id < {other} AND q.id < {id}) WHERE id = {id}"
            ),
            _ => format!("DELETE FROM tree WHERE id = {id}"),
        },
    }
}

fn history(rng: &mut SmallRng, transactions: u32) -> String {
    let mut out = String::new();
    for _ in 0..transactions {
        out.push_str("START TRANSACTION;\n");
        for _ in 0..rng.random_range(1..60) {
            out.push_str(&statement(rng));
            out.push_str(";\n");
        }
        out.push_str("COMMIT;\n");
    }
    out
}

async fn plan(pair: &Pair, options: TaskOptions) -> Arc<Plan> {
    plan_of(pair, &TABLES, options).await
}

/// The plan between the tables as they are at both ends now.
async fn plan_of(pair: &Pair, tables: &[&str], options: TaskOptions) -> Arc<Plan> {
    let names = |schema: &str| -> Vec<TableName> {
        let tables = tables.iter();
        tables.map(|table| TableName::new(schema, *table)).collect()
    };
    let sources = pair
        .source
        .describe(&names(pair.from.schema()))
        .await
        .unwrap();
    let targets = pair
        .target
        .describe(&names(pair.to.schema()))
        .await
        .unwrap();
    let pairs = sources
        .into_iter()
        .zip(targets)
        .map(|(source, target)| TablePair {
            mapping: Mapping {
                id: source.name.name.clone(),
                source: source.name.clone(),
                target: target.name.clone(),
                columns: Vec::new(),
            },
            source: Some(source),
            target: Some(target),
            create: false,
        });
    let resolution = resolve(pairs.collect(), Operations::ALL, options);
    let findings = resolution.findings;
    let plan = resolution.plan.unwrap_or_else(|| panic!("{findings:?}"));
    let findings = pair.target.check(&pair.spec.key, &plan).await.unwrap();
    assert!(!findings.iter().any(|f| f.refuses()), "{findings:?}");
    Arc::new(plan)
}

/// Random histories while the task runs and while it does not; afterwards both sides are equal and
/// nothing has looked like drift.
async fn follow(pair: &mut Pair, seed: u64, rounds: u32) {
    let patience = Duration::from_secs(60);
    let mut rng = SmallRng::seed_from_u64(seed);
    println!("seed {seed}");
    for round in 0..rounds {
        let mut running = pair.run();
        pair.caught_up(&mut running, patience).await;
        pair.spec.expects_checkpoint = true;
        pair.from.sql(&history(&mut rng, 6)).unwrap();
        pair.caught_up(&mut running, patience).await;
        compare(pair, &format!("round {round}, running"));
        running.stop().await.unwrap();
        // What comes in one go is folded.
        pair.from.sql(&history(&mut rng, 20)).unwrap();
        let mut running = pair.run();
        pair.caught_up(&mut running, patience).await;
        compare(pair, &format!("round {round}, behind"));
        let drift: Vec<_> = {
            let status = running.status.borrow();
            let tables = status.tables.iter();
            tables
                .map(|table| (table.written.missing, table.written.repaired))
                .collect()
        };
        assert_eq!(drift, [(0, 0); TABLES.len()], "round {round}");
        running.stop().await.unwrap();
    }
}

fn compare(pair: &Pair, when: &str) {
    for table in TABLES {
        let report = pair
            .judge()
            .compare(&pair.from.table(table), &pair.to.table(table))
            .unwrap();
        assert!(report.equal(), "{when}: {report}");
    }
}

async fn start(source: System, target: System) -> Pair {
    let mut rng = SmallRng::seed_from_u64(1);
    let setup = format!("{} {}", tables(true), history(&mut rng, 10));
    Pair::between(source, target, &setup, &TABLES).await
}

/// The task makes the tables and their keys; later it finds them there.
async fn target_has_the_keys(source: System, target: System) {
    let mut pair = start(source, target).await;
    follow(&mut pair, 2, 2).await;
    pair.spec.plan = plan(&pair, TaskOptions::default()).await;
    let enforced = pair
        .spec
        .plan
        .cascades
        .iter()
        .filter(|c| c.enforced && !c.derived);
    assert_eq!(enforced.count(), 5);
    follow(&mut pair, 3, 3).await;
}

/// Makes the target's tables, for the task's user to write.
fn make_tables(pair: &Pair, keys: bool) {
    pair.to.sql(&tables(keys)).unwrap();
    if pair.to.system() == System::Postgres {
        let grant = "GRANT ALL ON ALL TABLES IN SCHEMA public TO thalweg_writer; \
             GRANT SET ON PARAMETER session_replication_role TO thalweg_writer";
        pair.to.sql(grant).unwrap();
    }
}

/// The tables are there without foreign keys.
async fn target_has_no_keys(source: System, target: System) {
    let mut pair = start(source, target).await;
    make_tables(&pair, false);
    pair.spec.plan = plan(&pair, TaskOptions::default()).await;
    assert!(
        pair.spec
            .plan
            .cascades
            .iter()
            .all(|cascade| !cascade.enforced)
    );
    follow(&mut pair, 4, 4).await;
}

/// The target has the keys and does not use them for the task's writes.
async fn target_does_not_use_its_keys(source: System, target: System) {
    let mut pair = start(source, target).await;
    make_tables(&pair, true);
    let options = TaskOptions {
        foreign_keys: ForeignKeys::Replica,
        ..TaskOptions::default()
    };
    pair.spec.plan = plan(&pair, options).await;
    follow(&mut pair, 5, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cascades_the_log_does_not_have_arrive_where_the_target_has_the_keys() {
    target_has_the_keys(System::MariaDb, System::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cascades_the_log_does_not_have_arrive_where_the_target_has_no_keys() {
    target_has_no_keys(System::MariaDb, System::Postgres).await;
}

/// A child moves to another parent, then its old parent goes: all in one batch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_moved_in_time_stays() {
    let setup = "CREATE TABLE parent (id INT PRIMARY KEY); \
        CREATE TABLE child (id INT PRIMARY KEY, parent INT, FOREIGN KEY (parent) REFERENCES parent (id)); \
        CREATE TABLE toy (id INT PRIMARY KEY, child INT, FOREIGN KEY (child) REFERENCES child (id)); \
        INSERT INTO parent SELECT seq FROM seq_1_to_100; \
        INSERT INTO child SELECT seq, seq FROM seq_1_to_100; INSERT INTO toy SELECT id, id FROM child";
    let pair = Pair::start(setup, &["parent", "child", "toy"]).await;
    let mut running = pair.run();
    pair.caught_up(&mut running, Duration::from_secs(60)).await;
    let live = |status: &TaskStatus| {
        use thalweg_engine::status::TablePhase::Live;
        status.tables.iter().all(|table| table.phase == Live)
    };
    running.wait(Duration::from_secs(60), live).await;
    running.stop().await.unwrap();
    // At the source the keys refuse. Where they act, there is nothing left to act on.
    pair.to
        .sql(
            "ALTER TABLE child DROP CONSTRAINT child_ibfk_1, \
             ADD FOREIGN KEY (parent) REFERENCES parent (id) ON DELETE CASCADE; \
             ALTER TABLE toy DROP CONSTRAINT toy_ibfk_1, \
             ADD FOREIGN KEY (child) REFERENCES child (id) ON DELETE CASCADE",
        )
        .unwrap();
    let names = ["parent", "child", "toy"];
    let mut pair = pair;
    pair.spec.plan = plan_of(&pair, &names, TaskOptions::default()).await;
    pair.spec.expects_checkpoint = true;
    pair.from
        .sql(
            "START TRANSACTION; UPDATE child SET parent = 100; \
             DELETE FROM parent WHERE id < 100; COMMIT",
        )
        .unwrap();
    let mut running = pair.run();
    pair.caught_up(&mut running, Duration::from_secs(60)).await;
    for table in names {
        let (from, to) = (pair.from.table(table), pair.to.table(table));
        let report = pair.judge().compare(&from, &to).unwrap();
        assert!(report.equal(), "{report}");
    }
    assert_eq!(pair.to.sql("SELECT count(*) FROM toy").unwrap(), "100");
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cascades_the_log_does_not_have_arrive_where_the_target_does_not_use_its_keys() {
    target_does_not_use_its_keys(System::MariaDb, System::Postgres).await;
}

/// Here the log has what the keys do; the target's own keys are there first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cascades_the_log_has_arrive_where_the_target_has_the_keys() {
    target_has_the_keys(System::Postgres, System::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cascades_the_log_has_arrive_where_the_target_has_no_keys() {
    target_has_no_keys(System::Postgres, System::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cascades_the_log_has_arrive_where_the_target_does_not_use_its_keys() {
    target_does_not_use_its_keys(System::Postgres, System::Postgres).await;
}

/// Parents and children are read at different moments, while what the log does not have happens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cascades_during_the_load_arrive() {
    let rows = "INSERT INTO a SELECT seq, seq FROM seq_1_to_3000; \
        INSERT INTO b SELECT seq, 1 + seq % 3000, seq FROM seq_1_to_20000; \
        INSERT INTO c SELECT seq, 1 + seq % 20000, seq FROM seq_1_to_20000; \
        INSERT INTO d SELECT 1 + seq % 3000, seq, seq FROM seq_1_to_10000; \
        INSERT INTO e SELECT a, line, 1, x FROM d; \
        INSERT INTO tree SELECT seq, NULL, seq FROM seq_1_to_10; \
        INSERT INTO tree SELECT seq, seq DIV 10, seq FROM seq_11_to_5000;";
    let setup = format!("{} {rows}", tables(true));
    let mut pair = Pair::between(System::MariaDb, System::Postgres, &setup, &TABLES).await;
    let mut running = pair.run();
    let mut ids = 100..2500;
    let loaded = |status: &TaskStatus| status.phase == TaskPhase::Streaming;
    while !loaded(&running.status.borrow()) {
        let (one, two) = (ids.next().unwrap(), ids.next().unwrap());
        let sql = format!(
            "DELETE FROM a WHERE id = {one}; UPDATE a SET id = {two} + 10000 WHERE id = {two}; \
             UPDATE b SET id = id + 100000 WHERE a = {two} + 10000; \
             UPDATE d SET line = line + 100000 WHERE a = {two} + 10000; \
             DELETE FROM b WHERE id = {one}; DELETE FROM tree WHERE id = {one}"
        );
        pair.from.sql(&sql).unwrap();
    }
    println!("{} changes during the load", ids.start);
    assert!(ids.start > 104, "the load was over at once");
    pair.caught_up(&mut running, Duration::from_secs(120)).await;
    compare(&pair, "after the load");
    running.stop().await.unwrap();
    follow(&mut pair, 6, 1).await;
}
