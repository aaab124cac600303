//! Trouble at either end while a task runs: what it says, and that it goes on.

use std::time::{Duration, Instant};

use thalweg_core::{Kind, Side};
use thalweg_engine::status::{LastError, TaskPhase, TaskStatus};

use crate::pair::Pair;

const TABLE: &str = "CREATE TABLE t (id INT PRIMARY KEY, v INT); INSERT INTO t VALUES (1, 1)";
const ROWS: &str = "SELECT count(*), sum(id), sum(v) FROM t";
const SOON: Duration = Duration::from_secs(30);

fn waits(status: &TaskStatus, side: Side, hint: &str) -> bool {
    let told = |error: &LastError| {
        error.kind == Kind::Transient
            && error.side == Some(side)
            && error
                .hint
                .as_ref()
                .is_some_and(|given| given.contains(hint))
    };
    status.phase == TaskPhase::Waiting && status.last_error.as_ref().is_some_and(told)
}

fn streams(status: &TaskStatus) -> bool {
    status.phase == TaskPhase::Streaming
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_at_the_target_is_waited_out() {
    let pair = Pair::start(TABLE, &["t"]).await;
    let mut running = pair.run();
    pair.caught_up(&mut running, SOON).await;
    let full = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$; \
                CREATE TRIGGER full_disk BEFORE INSERT ON t EXECUTE FUNCTION full_disk()";
    pair.to.sql(full).unwrap();
    pair.from.sql("INSERT INTO shop.t VALUES (2, 2)").unwrap();
    let told = |status: &TaskStatus| waits(status, Side::Target, "disk is full");
    running.wait(SOON, told).await;
    assert_eq!(running.status.borrow().lag_ms, None, "nobody measures now");
    pair.to.sql("DROP TRIGGER full_disk ON t").unwrap();
    pair.caught_up(&mut running, SOON).await;
    running.wait(SOON, streams).await;
    let (source, target) = pair.both(ROWS);
    assert_eq!(source, target);
    assert_eq!(running.status.borrow().last_error, None);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_vanishes_while_streaming_is_waited_for() {
    let pair = Pair::start(TABLE, &["t"]).await;
    let mut running = pair.run();
    pair.caught_up(&mut running, SOON).await;
    // The probe has measured: a number, not a guess.
    running.wait(SOON, |status| status.lag_ms.is_some()).await;
    pair.from.server.kill().unwrap();
    let gone = |status: &TaskStatus| status.phase == TaskPhase::Waiting;
    running.wait(SOON, gone).await;
    {
        let status = running.status.borrow();
        let error = status.last_error.as_ref().unwrap();
        assert_eq!(
            (error.kind, error.side),
            (Kind::Transient, Some(Side::Source)),
            "{error:?}"
        );
        assert_eq!((status.lag_ms, status.backlog_bytes), (None, None));
    }
    pair.from.server.restart().unwrap();
    pair.from.sql("INSERT INTO shop.t VALUES (2, 2)").unwrap();
    pair.caught_up(&mut running, SOON).await;
    let (source, target) = pair.both(ROWS);
    assert_eq!(source, target);
    running.wait(SOON, |status| status.lag_ms.is_some()).await;
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purged_log_is_told_and_a_reset_loads_again() {
    let pair = Pair::start(TABLE, &["t"]).await;
    let mut running = pair.run();
    pair.caught_up(&mut running, SOON).await;
    running.stop().await.unwrap();
    let changes = "INSERT INTO shop.t VALUES (2, 2); FLUSH BINARY LOGS; \
                   DELETE FROM shop.t WHERE id = 1; FLUSH BINARY LOGS";
    pair.from.sql(changes).unwrap();
    // The server keeps a log until it has noticed that its reader is gone.
    let purge = "PURGE BINARY LOGS BEFORE now() + INTERVAL 1 DAY; SHOW BINARY LOGS";
    let since = Instant::now();
    while pair.from.sql(purge).unwrap().lines().count() > 1 {
        assert!(since.elapsed() < SOON, "the log is not purged");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut running = pair.run();
    let error = running.failed().await;
    assert_eq!(error.kind(), Kind::PositionLost, "{}", error.chain());
    assert_eq!(error.side(), Some(Side::Source));
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("reset the task"))
    );
    assert_eq!(running.status.borrow().phase, TaskPhase::Failed);
    pair.target.forget(&pair.spec.key).await.unwrap();
    let mut running = pair.run();
    pair.caught_up(&mut running, SOON).await;
    let (source, target) = pair.both(ROWS);
    assert_eq!(source, target);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_does_not_fit_stops_the_task_without_being_shown() {
    let pair = Pair::start(TABLE, &["t"]).await;
    let mut running = pair.run();
    pair.caught_up(&mut running, SOON).await;
    pair.to
        .sql("ALTER TABLE t ALTER COLUMN v TYPE smallint")
        .unwrap();
    pair.from
        .sql("INSERT INTO shop.t VALUES (2, 777777)")
        .unwrap();
    let error = running.failed().await;
    assert_eq!(error.kind(), Kind::Data, "{}", error.chain());
    assert_eq!(error.side(), Some(Side::Target));
    assert!(!error.chain().contains("777777") && error.hint().is_some());
}
