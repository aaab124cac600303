//! Quarantine between real servers: rows that the target refuses wait, from the load and from the stream,
//! with all that comes after them; the others arrive; what is released is as at the source.

mod at_size;

use std::sync::Arc;
use std::time::Duration;

use thalweg_core::mapping::OnBadRow;
use thalweg_core::plan::Plan;
use thalweg_core::quarantine::Held;
use thalweg_core::schema::TableName;
use thalweg_engine::quarantine::{Settled, Way, groups};
use thalweg_engine::status::{TablePhase, TaskStatus};
use thalweg_engine::verify::{Finding, Progress, Request};
use thalweg_testkit::servers::{Place, System};

use crate::pair::Pair;

const PATIENCE: Duration = Duration::from_secs(300);

/// The task puts into quarantine what the target refuses, and the target takes no value of `item.v` above
/// 1,000,000.
async fn refusing(pair: &mut Pair) {
    let mut plan = Plan::clone(&pair.spec.plan);
    plan.options.on_bad_row = OnBadRow::Quarantine;
    pair.spec.plan = Arc::new(plan);
    let prepared = pair.target.prepare(&pair.spec.key, &pair.spec.plan).await;
    prepared.unwrap();
    let check = "ALTER TABLE item ADD CONSTRAINT small CHECK (v <= 1000000)";
    pair.to.sql(check).unwrap();
}

async fn held(pair: &Pair) -> Vec<Held> {
    pair.target.held(&pair.spec.key, false).await.unwrap()
}

async fn ask(pair: &Pair, way: Way, rows: Option<Vec<i64>>) -> Settled {
    let answer = pair.spec.quarantine.ask(way, rows).unwrap();
    let answer = tokio::time::timeout(PATIENCE, answer).await;
    answer.expect("it is answered").unwrap()
}

/// Of each row in quarantine its key, the operations that wait, and whether the first was refused.
fn told(held: &[Held]) -> Vec<(&str, usize, bool)> {
    let of = |group: Vec<usize>| {
        let first = &held[group[0]];
        (first.shown.as_str(), group.len(), first.error.is_some())
    };
    groups(held).into_iter().map(of).collect()
}

pairs!(bad_rows_wait_and_the_others_arrive);

fn bad_rows_wait_and_the_others_arrive(from: System, to: System) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(waits(from, to));
    if std::env::var_os("THALWEG_PROVE").is_some() {
        runtime.block_on(at_size::proved(from, to));
    }
}

mod keys {
    use super::*;

    pairs!(keys_come_when_the_rows_that_stand_in_their_way_have_left);
}

/// A row that waits may be the one that others refer to: their tables go on without the key, and have it when
/// the row is there.
fn keys_come_when_the_rows_that_stand_in_their_way_have_left(from: System, to: System) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let setup = "CREATE TABLE item (id BIGINT PRIMARY KEY, v BIGINT NOT NULL, t VARCHAR(40)); \
                     CREATE TABLE part (id BIGINT PRIMARY KEY, item BIGINT, \
                       CONSTRAINT of_item FOREIGN KEY (item) REFERENCES item (id)); \
                     INSERT INTO item VALUES (1, 1, 'a'), (2, 5000000, 'b'); \
                     INSERT INTO part VALUES (1, 1), (2, 2)";
        let mut pair = Pair::between(from, to, setup, &["item", "part"]).await;
        refusing(&mut pair).await;
        let mut running = pair.run();
        pair.caught_up(&mut running, PATIENCE).await;
        let trouble = |status: &TaskStatus| status.last_error.is_some();
        running.wait(PATIENCE, trouble).await;
        let said = running.status.borrow().last_error.clone().unwrap().message;
        assert!(said.contains("without their keys"), "{said}");
        pair.from.sql("INSERT INTO part VALUES (3, 2)").unwrap();
        pair.caught_up(&mut running, PATIENCE).await;
        assert_eq!(pair.to.sql("SELECT count(*) FROM part").unwrap(), "3");
        // It is so after a restart.
        running.stop().await.unwrap();
        pair.spec.expects_checkpoint = true;
        let mut running = pair.run();
        pair.from.sql("UPDATE item SET v = 2 WHERE id = 2").unwrap();
        pair.caught_up(&mut running, PATIENCE).await;
        let settled = ask(&pair, Way::Release, None).await;
        assert_eq!((settled.rows, settled.changes), (1, 2), "{settled:?}");
        let live = |status: &TaskStatus| {
            let mut tables = status.tables.iter();
            tables.all(|t| t.phase == TablePhase::Live) && status.last_error.is_none()
        };
        running.wait(PATIENCE, live).await;
        let orphan = pair.to.sql("INSERT INTO part VALUES (4, 77)");
        assert!(orphan.is_err(), "there is no key");
        running.stop().await.unwrap();
        pair.judge().all_equal(&["item", "part"]).unwrap();
    });
}

fn create(source: &Place) {
    let series = match source.system() {
        System::MariaDb => "(SELECT seq AS n FROM seq_1_to_1000) r",
        System::Postgres => "generate_series(1, 1000) n",
    };
    let make = format!(
        "CREATE TABLE item (id BIGINT PRIMARY KEY, v BIGINT NOT NULL, t VARCHAR(40)); \
         INSERT INTO item SELECT n, n, 'row' FROM {series}; \
         UPDATE item SET v = 5000000 + id WHERE id IN (7, 8, 900); \
         CREATE TABLE other (id BIGINT PRIMARY KEY, v BIGINT); INSERT INTO other VALUES (1, 1);"
    );
    source.sql(&make).unwrap();
}

/// Both sides agree about the rows of `item` that are not among these.
fn others_agree(pair: &Pair, except: &str) {
    let sums =
        format!("SELECT count(*), sum(v), sum(length(t)) FROM item WHERE id NOT IN ({except})");
    let (there, here) = pair.both(&sums);
    assert_eq!(there, here);
    let (there, here) = pair.both("SELECT count(*), sum(v) FROM other");
    assert_eq!(there, here);
}

async fn waits(from: System, to: System) {
    let make = |source: &Place, _: &Place| create(source);
    let mut pair = Pair::made(from, to, make, &["item", "other"]).await;
    refusing(&mut pair).await;
    let mut running = pair.run();
    pair.caught_up(&mut running, PATIENCE).await;
    let loaded = held(&pair).await;
    assert_eq!(
        told(&loaded),
        [("id=7", 1, true), ("id=8", 1, true), ("id=900", 1, true)]
    );
    let error = loaded[0].error.clone().unwrap();
    assert!(error.contains("item"), "{error}");
    others_agree(&pair, "7, 8, 900");

    let changes = [
        "UPDATE item SET t = 'waits' WHERE id = 7",
        "DELETE FROM item WHERE id = 8",
        "BEGIN; INSERT INTO other VALUES (2, 2); UPDATE item SET v = 9000000 WHERE id = 10; \
         UPDATE item SET t = 'passes' WHERE id = 12; UPDATE other SET v = 3 WHERE id = 1; COMMIT",
        "UPDATE item SET t = 'follows' WHERE id = 10",
        "UPDATE item SET id = 5011, v = 9000000 WHERE id = 11",
        "UPDATE item SET t = 'under its new key' WHERE id = 5011",
        "INSERT INTO item VALUES (11, 1, 'a new one under the old key')",
        "INSERT INTO item VALUES (2001, 1, 'a'), (2002, 9000000, 'b'), (2003, 3, 'c')",
        "DELETE FROM item WHERE id = 900",
        "INSERT INTO item VALUES (900, 900, 'good again')",
    ];
    for change in changes {
        pair.from.sql(change).unwrap();
    }
    pair.caught_up(&mut running, PATIENCE).await;
    let waiting = held(&pair).await;
    let expected = [
        ("id=7", 2, true),
        ("id=8", 2, true),
        ("id=900", 3, true),
        ("id=10", 2, true),
        ("id=11", 3, true),
        ("id=2002", 1, true),
    ];
    assert_eq!(told(&waiting), expected, "{waiting:#?}");
    others_agree(&pair, "7, 8, 900, 10, 11, 5011, 2002");
    let tables = running.status.borrow().tables.clone();
    assert_eq!((tables[0].quarantined, tables[0].refused), (13, 6));
    assert_eq!((tables[1].quarantined, tables[1].refused), (0, 0));
    assert_eq!(
        pair.to.sql("SELECT v FROM item WHERE id = 10").unwrap(),
        "10"
    );

    // A table with rows in quarantine has no certificate.
    let request = Request {
        tables: vec![TableName::new(pair.to.schema(), "item")],
        ..Request::default()
    };
    let mut report = pair.spec.orders.verify(request).unwrap();
    let done = report
        .wait_for(|report| report.progress == Progress::Done)
        .await
        .unwrap();
    let finding = &done.tables[0].finding;
    assert!(
        matches!(finding, Finding::Failed(why) if why.contains("quarantine")),
        "{finding:?}"
    );
    drop(done);

    // All of it is there after a restart.
    running.stop().await.unwrap();
    pair.spec.expects_checkpoint = true;
    let mut running = pair.run();
    pair.from
        .sql("UPDATE item SET t = 'later' WHERE id IN (10, 12)")
        .unwrap();
    pair.caught_up(&mut running, PATIENCE).await;
    let waiting = held(&pair).await;
    assert_eq!(told(&waiting)[3], ("id=10", 3, true));
    others_agree(&pair, "7, 8, 900, 10, 11, 5011, 2002");

    // What is good by now can be released; what is not stays, and says why.
    let settled = ask(&pair, Way::Release, None).await;
    assert_eq!(
        (settled.rows, settled.changes, settled.refused.len()),
        (2, 5, 4),
        "{settled:#?}"
    );
    others_agree(&pair, "7, 10, 11, 5011, 2002");
    pair.from.sql("UPDATE item SET v = 7 WHERE id = 7").unwrap();
    pair.caught_up(&mut running, PATIENCE).await;
    let settled = ask(&pair, Way::Release, Some(vec![waiting[0].number, 77_777])).await;
    assert_eq!((settled.rows, settled.changes), (1, 3));
    assert!(settled.refused[0].1.contains("no row"), "{settled:?}");
    others_agree(&pair, "10, 11, 5011, 2002");

    // One is given up: its row stays as it is, and later changes of it arrive again.
    let number = |held: &[Held], key: &str| {
        let mut found = held.iter().filter(|held| held.shown == key);
        found.next().unwrap().number
    };
    let waiting = held(&pair).await;
    let given = vec![number(&waiting, "id=2002")];
    let settled = ask(&pair, Way::Discard, Some(given)).await;
    assert_eq!((settled.rows, settled.changes), (1, 1));
    pair.from
        .sql("UPDATE item SET v = 5 WHERE id = 2002")
        .unwrap();
    pair.caught_up(&mut running, PATIENCE).await;

    // The cause is gone.
    pair.to
        .sql("ALTER TABLE item DROP CONSTRAINT small")
        .unwrap();
    let settled = ask(&pair, Way::Release, None).await;
    assert_eq!((settled.rows, settled.refused.len()), (2, 0), "{settled:?}");
    assert_eq!(held(&pair).await, []);
    running.stop().await.unwrap();
    pair.judge().all_equal(&["item", "other"]).unwrap();
    println!(
        "proof: 6 bad rows of 2 tables waited with 8 changes behind them, 5 were released, 1 discarded; equal"
    );
}
