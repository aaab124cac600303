//! Tables that change while a task runs, is behind or is down: what it does not read of them does not
//! matter, and what it reads stops it with a word on what changed.

use std::time::Duration;

use thalweg_core::Kind;
use thalweg_testkit::servers::System;

use crate::pair::Pair;

/// Much more than it takes.
const LONG: Duration = Duration::from_secs(60);

const TABLE: &str =
    "CREATE TABLE t (id INT PRIMARY KEY, x INT, a INT NOT NULL, y VARCHAR(9), b TEXT);
     INSERT INTO t VALUES (1, 1, 10, 'y', 'one'), (2, 1, 20, 'y', 'two'), (3, 1, 30, 'y', NULL)";

/// Statements that leave `id`, `a` and `b` alone, in the words of both systems or of one.
fn alters(system: System) -> [&'static str; 6] {
    match system {
        System::MariaDb => [
            "ADD c INT NOT NULL DEFAULT 77",
            "ADD d INT DEFAULT 78 AFTER id, DROP c",
            "MODIFY d INT FIRST, CHANGE y z VARCHAR(30)",
            "DROP x, ADD x INT DEFAULT 5 AFTER a, ADD INDEX (a)",
            "ADD e TEXT AFTER a, ADD f BIGINT DEFAULT 3 FIRST",
            "RENAME COLUMN x TO w, ALTER a SET DEFAULT 4",
        ],
        System::Postgres => [
            "ADD c INT NOT NULL DEFAULT 77",
            "ADD d INT DEFAULT 78, DROP c",
            "ALTER d TYPE bigint, ALTER y TYPE int USING 5",
            "DROP x, ADD x INT DEFAULT 5",
            "ADD e TEXT, ADD f BIGINT DEFAULT 3",
            "ALTER x SET DEFAULT 7, ALTER a SET DEFAULT 4",
        ],
    }
}

/// A round of changes whose rows have the number `n`.
fn work(pair: &Pair, n: usize) {
    let id = 100 * n;
    let sql = format!(
        "INSERT INTO t (id, a, b) VALUES ({id}, {n}, 'é {n}'), ({id} + 1, 0, 'short-lived'); \
         UPDATE t SET a = a + 1 WHERE id % 3 = {n} % 3; DELETE FROM t WHERE id = {id} + 1; \
         UPDATE t SET id = id + 50, b = 'moved' WHERE id = {id} - 100"
    );
    pair.from.sql(&sql).unwrap();
}

fn alter(pair: &Pair, alter: &str) {
    pair.from.sql(&format!("ALTER TABLE t {alter}")).unwrap();
}

fn equal(pair: &Pair) {
    let (from, to) = pair.both("SELECT id, a, coalesce(b, '-') FROM t ORDER BY id");
    assert_eq!(from, to);
    assert!(from.lines().count() > 3, "{from}");
}

async fn start(source: System, target: System) -> Pair {
    Pair::between(source, target, TABLE, &["t(id,a,b)"]).await
}

fn block<T>(body: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(body)
}

/// While it runs, while it is down, one after the other and with crashes in between.
fn goes_on(source: System, target: System) {
    block(async {
        let mut pair = start(source, target).await;
        let alters = alters(source);
        let mut running = pair.run();
        pair.caught_up(&mut running, LONG).await;
        work(&pair, 1);
        alter(&pair, alters[0]);
        work(&pair, 2);
        pair.caught_up(&mut running, LONG).await;
        equal(&pair);
        // Down, over several.
        drop(running);
        for (n, statement) in alters.iter().enumerate().skip(1).take(3) {
            work(&pair, n + 2);
            alter(&pair, statement);
        }
        work(&pair, 6);
        pair.plan_again().await;
        // Crashes wherever they come.
        for wait_ms in [0, 5, 20, 60] {
            let running = pair.run();
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            drop(running);
        }
        let mut running = pair.run();
        alter(&pair, alters[4]);
        work(&pair, 7);
        pair.caught_up(&mut running, LONG).await;
        equal(&pair);
        drop(running);
        alter(&pair, alters[5]);
        pair.plan_again().await;
        let mut running = pair.run();
        work(&pair, 8);
        pair.caught_up(&mut running, LONG).await;
        equal(&pair);
        running.stop().await.unwrap();
        pair.release().await;
    });
}

/// A column that is read: it stops, and says which, where and what to do.
fn stops(source: System, target: System) {
    let change = match source {
        System::MariaDb => "MODIFY a BIGINT NOT NULL",
        System::Postgres => "ALTER a TYPE bigint",
    };
    block(async {
        let mut pair = start(source, target).await;
        let mut running = pair.run();
        pair.caught_up(&mut running, LONG).await;
        work(&pair, 1);
        pair.caught_up(&mut running, LONG).await;
        alter(&pair, change);
        work(&pair, 2);
        let error = running.failed().await;
        let check = |error: thalweg_core::Error, words: &[&str]| {
            assert_eq!(error.kind(), Kind::Schema, "{}", error.chain());
            for word in words {
                assert!(error.message().contains(word), "{word}: {}", error.chain());
            }
            assert!(error.hint().unwrap().contains("reset the task"));
        };
        check(error, &["t", "column a"]);
        // The next run sees it before it reads anything, and so does one after a change while down.
        pair.plan_again().await;
        let error = pair.run().failed().await;
        let (before, now) = match source {
            System::MariaDb => ("int(11)", "bigint(20)"),
            System::Postgres => ("integer", "bigint"),
        };
        check(error, &["column a was", before, now]);
        let (rows, _) = pair.both("SELECT count(*) FROM t");
        assert!(rows.contains('5'), "{rows}");
    });
}

mod unread_columns_may_change {
    use super::*;
    pairs!(goes_on);
}

mod read_columns_may_not {
    use super::*;
    pairs!(stops);
}
