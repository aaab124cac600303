//! Places that the log no longer has are told, never passed over.

use std::time::Duration;

use thalweg_core::Kind;
use thalweg_core::position::Position;

use super::world::{World, by_file, says};

const TABLE: &str = "CREATE TABLE t (id INT PRIMARY KEY, v TEXT)";

async fn is_lost(world: &World, from: &Position) {
    let tables = world.tables(&["t"]).await;
    let (seen, error) = world.stops(from, &tables).await;
    assert_eq!(seen, [], "from {from}: {}", error.chain());
    says(&error, Kind::PositionLost, &[]);
    assert!(error.hint().is_some(), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purged_log_is_lost() {
    let world = World::new(&[]);
    world.sql(TABLE);
    let start = world.here().await;
    world.sql("INSERT INTO t VALUES (1, 'x'); FLUSH BINARY LOGS; INSERT INTO t VALUES (2, 'x')");
    let tables = world.tables(&["t"]).await;
    let all = world.follow(&start, &tables).await;
    // The server keeps a file as long as it takes the reader above to be there.
    while world.sql("SHOW BINARY LOGS").contains("binlog.000001") {
        world.sql("PURGE BINARY LOGS TO 'binlog.000002'");
        std::thread::sleep(Duration::from_millis(50));
    }
    for from in [&start, &by_file(&start)] {
        is_lost(&world, from).await;
    }
    // All of the purged file was read: nothing is missing.
    assert_eq!(world.follow(&all[0].position, &tables).await, all[1..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_reset_is_lost() {
    let world = World::new(&[]);
    world.sql(TABLE);
    let start = world.here().await;
    world.sql("INSERT INTO t VALUES (1, 'x'); INSERT INTO t VALUES (2, 'x'); RESET MASTER");
    for from in [&start, &by_file(&start)] {
        is_lost(&world, from).await;
    }
}

/// After `RESET MASTER` the same GTIDs, files and offsets come again.
async fn is_lost_after(reset: &str) {
    let world = World::new(&[]);
    world.sql(TABLE);
    let start = world.here().await;
    let tables = world.tables(&["t"]).await;
    world.sql("INSERT INTO t VALUES (1, 'x'); INSERT INTO t VALUES (2, 'x')");
    let all = world.follow(&start, &tables).await;
    std::thread::sleep(Duration::from_millis(1100));
    world.sql(reset);
    for from in [&start, &all[0].position, &all[1].position] {
        for from in [from.clone(), by_file(from)] {
            is_lost(&world, &from).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_log_with_the_same_offsets_is_lost() {
    is_lost_after(
        "RESET MASTER; DROP TABLE t; CREATE TABLE t (id INT PRIMARY KEY, v TEXT); \
         INSERT INTO t VALUES (3, 'x'); INSERT INTO t VALUES (4, 'x'); INSERT INTO t VALUES (5, 'x')",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_log_that_has_grown_beyond_is_lost() {
    is_lost_after(
        "RESET MASTER; INSERT INTO t VALUES (3, REPEAT('x', 5000)); \
         INSERT INTO t VALUES (4, 'x'); INSERT INTO t VALUES (5, 'x'); INSERT INTO t VALUES (6, 'x'); \
         FLUSH BINARY LOGS; INSERT INTO t VALUES (7, 'x')",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_log_without_changes_is_lost() {
    is_lost_after("RESET MASTER").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_without_gtids_is_lost_after_a_reset() {
    let world = World::new(&[]);
    world.server.sql("RESET MASTER").unwrap();
    let start = world.here().await;
    world.sql(TABLE);
    world.sql("INSERT INTO t VALUES (1, 'x')");
    std::thread::sleep(Duration::from_millis(1100));
    world.sql("RESET MASTER; INSERT INTO t VALUES (2, 'x')");
    is_lost(&world, &start).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_of_another_server_is_lost_unless_gtids_find_it() {
    let (one, two) = (World::new(&[]), World::new(&[]));
    for world in [&one, &two] {
        world.sql(TABLE);
    }
    one.sql("INSERT INTO t VALUES (1, 'x')");
    let at_one = one.here().await;
    is_lost(&two, &at_one).await;
    is_lost(&two, &by_file(&at_one)).await;
    // A replica that took over has the same GTIDs.
    two.sql("RESET MASTER");
    let words: Vec<&str> = at_one.as_str().split(';').collect();
    let gtids = format!("SET GLOBAL gtid_binlog_state = '{}'", words[4]);
    two.sql(&gtids);
    two.sql("INSERT INTO t VALUES (2, 'new')");
    let tables = two.tables(&["t"]).await;
    let got = two.follow(&at_one, &tables).await;
    assert_eq!(got[0].changes, ["+t 2,'new'"]);
    assert_eq!(two.follow(&got[0].position, &tables).await, []);
}
