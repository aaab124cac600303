//! Foreign keys that change rows themselves, over two levels and more: what the source's keys do
//! arrives, whether its log has it or not and whether the target has such keys or not.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use thalweg_core::mapping::{ForeignKeys, Mapping, Operations, TaskOptions};
use thalweg_core::plan::{Plan, Resolution, TablePair, resolve};
use thalweg_core::schema::TableName;
use thalweg_engine::status::{TaskPhase, TaskStatus};
use thalweg_testkit::servers::System;

use crate::pair::Pair;

const PATIENCE: Duration = Duration::from_secs(60);
const TABLES: [&str; 8] = ["a", "b", "c", "d", "e", "loose", "leaf", "tree"];

/// The tables, those of `keyed` with their foreign keys.
fn tables(keyed: &[&str]) -> String {
    let key = |child: &str, columns: &str, parent: &str, actions: &str| {
        if !keyed.contains(&child) {
            return String::new();
        }
        format!(", FOREIGN KEY ({columns}) REFERENCES {parent} {actions}")
    };
    let both = "ON DELETE CASCADE ON UPDATE CASCADE";
    let nulls = "ON DELETE SET NULL ON UPDATE SET NULL";
    let loose = "ON DELETE SET NULL ON UPDATE CASCADE";
    format!(
        "CREATE TABLE a (id INT PRIMARY KEY, x INT); \
         CREATE TABLE b (id INT PRIMARY KEY, a INT, x INT{}); \
         CREATE TABLE c (id INT PRIMARY KEY, b INT, x INT{}); \
         CREATE TABLE d (a INT, line INT, x INT, PRIMARY KEY (a, line){}); \
         CREATE TABLE e (a INT, line INT, n INT, x INT, PRIMARY KEY (a, line, n){}); \
         CREATE TABLE loose (id INT PRIMARY KEY, a INT UNIQUE, x INT{}); \
         CREATE TABLE leaf (id INT PRIMARY KEY, a INT, x INT{}); \
         CREATE TABLE tree (id INT PRIMARY KEY, parent INT, x INT{});",
        key("b", "a", "a (id)", both),
        key("c", "b", "b (id)", loose),
        key("d", "a", "a (id)", both),
        key("e", "a, line", "d (a, line)", both),
        key("loose", "a", "a (id)", nulls),
        key("leaf", "a", "loose (a)", loose),
        key("tree", "parent", "tree (id)", "ON DELETE CASCADE"),
    )
}

/// One statement that both systems understand and that meets no constraint.
fn statement(rng: &mut SmallRng) -> String {
    let mut number = |below: u32| rng.random_range(0..below);
    let (id, other, line, x) = (number(40), number(40), number(4), number(100));
    let row = "FROM (SELECT 1 AS one) q WHERE NOT EXISTS (SELECT 1 FROM";
    match number(20) {
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
        15 | 16 => format!(
            "INSERT INTO loose SELECT {id}, id, {x} FROM a WHERE id <= {other} AND NOT EXISTS \
             (SELECT 1 FROM loose l WHERE l.id = {id} OR l.a = a.id) ORDER BY id DESC LIMIT 1"
        ),
        17 => format!(
            "INSERT INTO leaf SELECT {id}, max(a), {x} FROM loose WHERE a <= {other} HAVING NOT EXISTS \
             (SELECT 1 FROM leaf WHERE id = {id})"
        ),
        18 => match line {
            0 => format!("DELETE FROM loose WHERE id = {id}"),
            1 => format!("UPDATE loose SET a = NULL, x = {x} WHERE id = {id}"),
            2 => format!("UPDATE leaf SET x = {x} WHERE a = {other}"),
            _ => format!("UPDATE tree SET parent = id WHERE id = {id}"),
        },
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
    let resolution = resolved(pair, tables, options).await;
    let findings = resolution.findings;
    let plan = resolution.plan.unwrap_or_else(|| panic!("{findings:?}"));
    let findings = pair.target.check(&pair.spec.key, &plan).await.unwrap();
    assert!(!findings.iter().any(|f| f.refuses()), "{findings:?}");
    Arc::new(plan)
}

async fn resolved(pair: &Pair, tables: &[&str], options: TaskOptions) -> Resolution {
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
            rekey: false,
        });
    resolve(pairs.collect(), Operations::ALL, options)
}

/// Random histories while the task runs and while it does not; afterwards both sides are equal and
/// nothing has looked like drift.
async fn follow(pair: &mut Pair, seed: u64, rounds: u32) {
    let mut rng = SmallRng::seed_from_u64(seed);
    println!("seed {seed}");
    for round in 0..rounds {
        let mut running = pair.run();
        pair.caught_up(&mut running, PATIENCE).await;
        pair.spec.expects_checkpoint = true;
        pair.from.sql(&history(&mut rng, 6)).unwrap();
        pair.caught_up(&mut running, PATIENCE).await;
        compare(pair, &format!("round {round}, running"));
        running.stop().await.unwrap();
        // What comes in one go is folded.
        pair.from.sql(&history(&mut rng, 20)).unwrap();
        let mut running = pair.run();
        pair.caught_up(&mut running, PATIENCE).await;
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
    compare_all(pair, &TABLES, when);
}

fn compare_all(pair: &Pair, tables: &[&str], when: &str) {
    for &table in tables {
        let report = pair
            .judge()
            .compare(&pair.from.table(table), &pair.to.table(table))
            .unwrap();
        assert!(report.equal(), "{when}: {report}");
    }
}

async fn start(source: System, target: System) -> Pair {
    let mut rng = SmallRng::seed_from_u64(1);
    let setup = format!("{} {}", tables(&TABLES), history(&mut rng, 10));
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
    assert_eq!(enforced.count(), 7);
    follow(&mut pair, 3, 3).await;
}

fn replica() -> TaskOptions {
    TaskOptions {
        foreign_keys: ForeignKeys::Replica,
        ..TaskOptions::default()
    }
}

/// Makes the target's tables, for the task's user to write.
fn make_tables(pair: &Pair, keyed: &[&str]) {
    pair.to.sql(&tables(keyed)).unwrap();
    grant(pair);
}

fn grant(pair: &Pair) {
    if pair.to.system() == System::Postgres {
        let grant = "GRANT ALL ON ALL TABLES IN SCHEMA public TO thalweg_writer; \
             GRANT SET ON PARAMETER session_replication_role TO thalweg_writer";
        pair.to.sql(grant).unwrap();
    }
}

/// The tables are there without foreign keys.
async fn target_has_no_keys(source: System, target: System) {
    let mut pair = start(source, target).await;
    make_tables(&pair, &[]);
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
    make_tables(&pair, &TABLES);
    pair.spec.plan = plan(&pair, replica()).await;
    follow(&mut pair, 5, 2).await;
}

/// A child moves to another parent, then its old parent goes: all in one batch.
async fn moved_in_time(source: System, target: System) {
    let rows = |row: fn(u32) -> String| (1..=100).map(row).collect::<Vec<_>>().join(", ");
    let setup = format!(
        "CREATE TABLE parent (id INT PRIMARY KEY); \
         CREATE TABLE child (id INT PRIMARY KEY, parent INT, \
           CONSTRAINT of_parent FOREIGN KEY (parent) REFERENCES parent (id)); \
         CREATE TABLE toy (id INT PRIMARY KEY, child INT, \
           CONSTRAINT of_child FOREIGN KEY (child) REFERENCES child (id)); \
         INSERT INTO parent VALUES {}; INSERT INTO child VALUES {}; INSERT INTO toy VALUES {}",
        rows(|n| format!("({n})")),
        rows(|n| format!("({n}, {n})")),
        rows(|n| format!("({n}, {n})"))
    );
    let names = ["parent", "child", "toy"];
    let mut pair = Pair::between(source, target, &setup, &names).await;
    let mut running = pair.run();
    pair.caught_up(&mut running, PATIENCE).await;
    let live = |status: &TaskStatus| {
        use thalweg_engine::status::TablePhase::Live;
        status.tables.iter().all(|table| table.phase == Live)
    };
    running.wait(PATIENCE, live).await;
    running.stop().await.unwrap();
    // At the source the keys refuse. Where they act, there is nothing left to act on.
    for (table, key, column, parent) in [
        ("child", "of_parent", "parent", "parent"),
        ("toy", "of_child", "child", "child"),
    ] {
        let drop = format!("ALTER TABLE {table} DROP CONSTRAINT {key}");
        let add = format!(
            "ALTER TABLE {table} ADD FOREIGN KEY ({column}) REFERENCES {parent} (id) ON DELETE CASCADE"
        );
        pair.to.sql(&format!("{drop}; {add}")).unwrap();
    }
    pair.spec.plan = plan_of(&pair, &names, TaskOptions::default()).await;
    pair.spec.expects_checkpoint = true;
    let changes = "START TRANSACTION; UPDATE child SET parent = 100; \
                   DELETE FROM parent WHERE id < 100; COMMIT";
    pair.from.sql(changes).unwrap();
    let mut running = pair.run();
    pair.caught_up(&mut running, PATIENCE).await;
    compare_all(&pair, &names, "moved");
    assert_eq!(pair.to.sql("SELECT count(*) FROM toy").unwrap(), "100");
    running.stop().await.unwrap();
}

/// What is done with foreign keys off does not cascade at the source: neither at the target, or, if
/// the target's own key would, the task says so and stops.
async fn keys_off(target: System) {
    for keys in [false, true] {
        let mut pair = start(System::MariaDb, target).await;
        if !keys {
            make_tables(&pair, &[]);
            pair.spec.plan = plan(&pair, TaskOptions::default()).await;
        }
        let mut running = pair.run();
        pair.caught_up(&mut running, PATIENCE).await;
        running.stop().await.unwrap();
        pair.spec.expects_checkpoint = true;
        if keys {
            pair.spec.plan = plan(&pair, TaskOptions::default()).await;
        }
        let off = "SET foreign_key_checks = 0; START TRANSACTION; \
                   UPDATE a SET id = id + 1000 WHERE id % 2 = 0; DELETE FROM a WHERE id % 2 = 1; \
                   DELETE FROM tree WHERE parent IS NULL; COMMIT; SET foreign_key_checks = 1; \
                   INSERT INTO a VALUES (5000, 1); INSERT INTO b VALUES (5000, 5000, 1); \
                   UPDATE a SET id = 5001 WHERE id = 5000";
        pair.from.sql(off).unwrap();
        let mut running = pair.run();
        if keys {
            let error = running.failed().await;
            let hint = error.hint().unwrap_or_default();
            assert!(error.message().contains("foreign_key_checks"), "{error}");
            assert!(hint.contains("replica"), "{hint}");
        } else {
            pair.caught_up(&mut running, PATIENCE).await;
            compare(&pair, "with the keys off");
            let kept = "SELECT count(*) FROM b WHERE a < 1000";
            assert_ne!(pair.to.sql(kept).unwrap(), "0");
            running.stop().await.unwrap();
        }
    }
}

/// A key that refuses where the source's acts is refused, unless it is not used.
async fn keys_with_other_actions(source: System, target: System) {
    let mut pair = start(source, target).await;
    let plain = tables(&TABLES).replace(" ON DELETE CASCADE", "");
    pair.to.sql(&plain).unwrap();
    grant(&pair);
    let resolution = resolved(&pair, &TABLES, TaskOptions::default()).await;
    assert!(resolution.plan.is_none());
    let mut codes: Vec<_> = resolution.findings.iter().map(|f| f.code).collect();
    codes.dedup();
    assert_eq!(codes, ["foreign_key_differs"]);
    pair.spec.plan = plan(&pair, replica()).await;
    follow(&mut pair, 8, 1).await;
}

/// What a key of the target does is not seen by who would have to go on from there.
async fn keys_at_one_level(target: System) {
    let mut pair = start(System::MariaDb, target).await;
    make_tables(&pair, &["b", "d", "loose"]);
    let resolution = resolved(&pair, &TABLES, TaskOptions::default()).await;
    assert!(resolution.plan.is_none());
    let found = resolution.findings.iter();
    let mut found: Vec<_> = found.map(|f| format!("{} {}", f.code, f.subject)).collect();
    found.sort();
    let schema = pair.to.schema();
    let missing = ["c", "e", "leaf"].map(|table| format!("foreign_key_missing {schema}.{table}"));
    assert_eq!(found, missing);
    // A key further down than those that are missing does what is left to do.
    pair.to
        .sql("DROP TABLE b, d, loose, a, c, e, leaf, tree")
        .unwrap();
    make_tables(&pair, &["c", "e", "leaf"]);
    let options = TaskOptions::default();
    let resolution = resolved(&pair, &TABLES, options).await;
    assert!(resolution.plan.is_some(), "{:?}", resolution.findings);
    pair.spec.plan = plan(&pair, replica()).await;
    follow(&mut pair, 9, 1).await;
}

#[test]
fn keys_at_one_level_of_postgres() {
    run(keys_at_one_level(System::Postgres));
}

#[test]
fn keys_at_one_level_of_mariadb() {
    run(keys_at_one_level(System::MariaDb));
}

#[test]
fn keys_off_to_postgres() {
    run(keys_off(System::Postgres));
}

#[test]
fn keys_off_to_mariadb() {
    run(keys_off(System::MariaDb));
}

mod the_target_has_the_keys {
    use super::*;
    pairs!(each);
    fn each(source: System, target: System) {
        run(target_has_the_keys(source, target));
    }
}

mod the_target_has_no_keys {
    use super::*;
    pairs!(each, #[ignore = "PostgreSQL logs what its keys change; in `make prove cascades`"]);
    fn each(source: System, target: System) {
        run(target_has_no_keys(source, target));
    }
}

mod the_target_does_not_use_its_keys {
    use super::*;
    pairs!(each, #[ignore = "PostgreSQL logs what its keys change; in `make prove cascades`"]);
    fn each(source: System, target: System) {
        run(target_does_not_use_its_keys(source, target));
    }
}

mod the_targets_keys_have_other_actions {
    use super::*;
    pairs!(each, #[ignore = "PostgreSQL logs what its keys change; in `make prove cascades`"]);
    fn each(source: System, target: System) {
        run(keys_with_other_actions(source, target));
    }
}

mod a_child_that_moved_in_time_stays {
    use super::*;
    pairs!(each, #[ignore = "PostgreSQL logs what its keys change; in `make prove cascades`"]);
    fn each(source: System, target: System) {
        run(moved_in_time(source, target));
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(test);
}

/// Parents and children are read at different moments, while what the log does not have happens.
async fn during_the_load(target: System) {
    let rows = "INSERT INTO a SELECT seq, seq FROM seq_1_to_3000; \
        INSERT INTO b SELECT seq, 1 + seq % 3000, seq FROM seq_1_to_20000; \
        INSERT INTO c SELECT seq, 1 + seq % 20000, seq FROM seq_1_to_20000; \
        INSERT INTO d SELECT 1 + seq % 3000, seq, seq FROM seq_1_to_10000; \
        INSERT INTO e SELECT a, line, 1, x FROM d; \
        INSERT INTO tree SELECT seq, NULL, seq FROM seq_1_to_10; \
        INSERT INTO tree SELECT seq, seq DIV 10, seq FROM seq_11_to_5000;";
    let setup = format!("{} {rows}", tables(&TABLES));
    let mut pair = Pair::between(System::MariaDb, target, &setup, &TABLES).await;
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

#[test]
fn cascades_during_the_load_arrive_in_postgres() {
    run(during_the_load(System::Postgres));
}

#[test]
fn cascades_during_the_load_arrive_in_mariadb() {
    run(during_the_load(System::MariaDb));
}
