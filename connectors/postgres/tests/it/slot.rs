//! The slot: what it holds, who reads it, and what happens when it is gone.

use std::time::Duration;

use thalweg_core::Kind;
use thalweg_core::position::Position;

use crate::log::{LIMITS, Log, Origin, public, read, says};

const LAG: &str =
    "SELECT pg_current_wal_lsn() - confirmed_flush_lsn < 4096 FROM pg_replication_slots";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_stream_follows_the_end_of_the_log() {
    let origin = Origin::new("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (t text)");
    let at = origin.secure(&["a"]).await;
    let tables = origin.tables(&["a"]).await;
    let mut log = origin.open(&at, &tables).await;
    // Other tables write; nothing is handed out but positions, and each is confirmed.
    origin.sql("INSERT INTO b SELECT repeat('x', 1000) FROM generate_series(1, 20000)");
    let source = origin.source.clone();
    let mark = source.head().await.unwrap();
    while !source.reached(&log.at, &mark).unwrap() {
        let tx = log.next().await.unwrap();
        assert_eq!(tx.changes, Vec::<String>::new());
        log.confirm.confirm(&tx.position).await.unwrap();
    }
    origin.until(LAG, "t").await;
    // What is not confirmed is kept.
    origin.sql("INSERT INTO a VALUES (1)");
    log.change().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = source.backlog_bytes(&at).await.unwrap();
    assert!(before.is_some_and(|bytes| bytes > 20_000_000), "{before:?}");
    drop(log);
    let mut log = Log::open(origin.again(), &at, &tables, LIMITS).await;
    let error = log.err().unwrap();
    says(
        &error,
        Kind::PositionLost,
        &["begins at", "after the position"],
    );
    log = Log::open(origin.again(), &mark, &tables, LIMITS).await;
    says(&log.err().unwrap(), Kind::PositionLost, &["of which log"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_ours_is_taken_over_and_another_never() {
    let origin = Origin::new("CREATE TABLE a (id int PRIMARY KEY)");
    let at = origin.secure(&["a"]).await;
    let tables = origin.tables(&["a"]).await;
    let mut old = origin.open(&at, &tables).await;
    origin.sql("INSERT INTO a VALUES (1)");
    let mut new = Log::open(origin.again(), &at, &tables, LIMITS)
        .await
        .unwrap();
    assert_eq!(new.change().await.changes, ["+a 1"]);
    let error = loop {
        if let Err(error) = old.next().await {
            break error;
        }
    };
    says(&error, Kind::Transient, &[]);
    let readers = "SELECT application_name FROM pg_stat_replication";
    assert_eq!(origin.sql(readers), "thalweg/test/stream");
    // The same slot, read for a task of another name.
    let error = origin.named("thalweg/TEST").secure(&public(&["a"])).await;
    let error = error.unwrap_err();
    says(
        &error,
        Kind::Config,
        &["read by another session", "thalweg/test/stream"],
    );
    assert_eq!(origin.sql(readers), "thalweg/test/stream", "it goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_gone_is_named() {
    let origin = Origin::new("CREATE TABLE a (id int PRIMARY KEY)");
    let at = origin.secure(&["a"]).await;
    let tables = origin.tables(&["a"]).await;
    origin.sql("DROP PUBLICATION thalweg_test");
    let (_, error) = origin.stops(&at, &tables).await;
    says(
        &error,
        Kind::PositionLost,
        &["publication thalweg_test does not exist"],
    );
    let at = origin.secure(&["a"]).await;
    origin.sql("ALTER PUBLICATION thalweg_test DROP TABLE a");
    let (_, error) = origin.stops(&at, &tables).await;
    says(&error, Kind::PositionLost, &["does not cover public.a"]);
    let at = origin.secure(&["a"]).await;
    origin.sql("SELECT pg_drop_replication_slot('thalweg_test')");
    let (_, error) = origin.stops(&at, &tables).await;
    says(
        &error,
        Kind::PositionLost,
        &["slot thalweg_test does not exist"],
    );
    origin.sql("SELECT pg_create_logical_replication_slot('thalweg_test', 'test_decoding')");
    let (_, error) = origin.stops(&at, &tables).await;
    says(&error, Kind::PositionLost, &["test_decoding"]);
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("pg_drop_replication_slot"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn release_leaves_nothing_and_can_be_repeated() {
    let origin = Origin::new("CREATE TABLE a (id int PRIMARY KEY)");
    let at = origin.secure(&["a"]).await;
    let tables = origin.tables(&["a"]).await;
    let _log = origin.open(&at, &tables).await;
    let there = "SELECT (SELECT count(*) FROM pg_replication_slots) + \
                 (SELECT count(*) FROM pg_publication)";
    assert_eq!(origin.sql(there), "2");
    for _ in 0..2 {
        origin.again().release().await.unwrap();
        assert_eq!(origin.sql(there), "0");
    }
    // The user's own publication is used and stays.
    origin.sql("CREATE PUBLICATION thalweg_test FOR TABLE a");
    origin.secure(&["a"]).await;
    let error = origin.source.secure(&public(&["b"])).await.unwrap_err();
    says(&error, Kind::Schema, &["public.b is gone"]);
    origin.source.release().await.unwrap();
    assert_eq!(origin.sql(there), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_waits_for_prepared_transactions_and_names_them() {
    let origin = Origin::new("CREATE TABLE a (id int PRIMARY KEY)");
    origin.sql("BEGIN; INSERT INTO a VALUES (1); PREPARE TRANSACTION 'left over'");
    let error = origin.again().secure(&public(&["a"])).await.unwrap_err();
    says(&error, Kind::Config, &["prepared", "left over"]);
    assert_eq!(origin.sql("SELECT count(*) FROM pg_replication_slots"), "0");
    // Decided while it waits, it is in the load, and prepared later it comes when it is decided.
    let source = origin.again();
    let tables = public(&["a"]);
    let decide = async {
        let slots = "SELECT count(*) FROM pg_replication_slots";
        origin.until(slots, "1").await;
        origin.sql("COMMIT PREPARED 'left over'");
    };
    let (at, ()) = tokio::join!(source.secure(&tables), decide);
    let at = at.unwrap();
    origin.sql("BEGIN; INSERT INTO a VALUES (2); PREPARE TRANSACTION 'p'");
    origin.sql("INSERT INTO a VALUES (3)");
    let tables = origin.tables(&["a"]).await;
    let (rows, _) = read(source.as_ref(), &tables[0]).await;
    assert_eq!(rows.len(), 1);
    let mut log = Log::open(source, &at, &tables, LIMITS).await.unwrap();
    assert_eq!(log.change().await.changes, ["+a 3"]);
    origin.sql("COMMIT PREPARED 'p'");
    assert_eq!(log.change().await.changes, ["+a 2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_is_read_on_where_it_was() {
    let origin = Origin::new("CREATE TABLE a (id int PRIMARY KEY)");
    let at = origin.secure(&["a"]).await;
    let tables = origin.tables(&["a"]).await;
    let mut log = origin.open(&at, &tables).await;
    origin.sql("INSERT INTO a VALUES (1); INSERT INTO a VALUES (2)");
    let first = log.change().await;
    assert_eq!(log.change().await.changes, ["+a 2"]);
    log.confirm.confirm(&first.position).await.unwrap();
    origin.server.kill().unwrap();
    let error = loop {
        if let Err(error) = log.next().await {
            break error;
        }
    };
    says(&error, Kind::Transient, &[]);
    origin.server.restart().unwrap();
    origin.sql("INSERT INTO a VALUES (3)");
    let mut log = Log::open(origin.again(), &first.position, &tables, LIMITS)
        .await
        .unwrap();
    for expected in ["+a 2", "+a 3"] {
        assert_eq!(log.change().await.changes, [expected]);
    }
    // The same place in another cluster's log.
    let text = first.position.as_str();
    let system = text.split(';').nth(2).unwrap();
    let elsewhere = Position::new(text.replace(system, "1"));
    let (_, error) = origin.stops(&elsewhere, &tables).await;
    says(&error, Kind::PositionLost, &["another system"]);
}
