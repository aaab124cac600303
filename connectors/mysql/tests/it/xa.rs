//! XA: rows are logged when a transaction is prepared, and count when it is committed.

use std::time::Duration;

use thalweg_core::Kind;
use tokio::task::JoinSet;

use super::world::{World, says};

const TABLES: &str = "CREATE TABLE t (id INT PRIMARY KEY, v TEXT); \
                      CREATE TABLE other (id INT PRIMARY KEY)";

/// Prepares an XA transaction that inserts `id`; its session ends, it stays.
fn prepare(world: &World, xid: &str, id: u32) {
    world.sql(&format!(
        "XA START '{xid}'; INSERT INTO t VALUES ({id}, '{xid}'); XA END '{xid}'; XA PREPARE '{xid}'"
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_come_at_the_commit_and_in_the_order_of_commits() {
    let world = World::new(&[]);
    world.sql(TABLES);
    let start = world.here().await;
    prepare(&world, "first", 1);
    prepare(&world, "second", 2);
    prepare(&world, "never", 3);
    world.sql("INSERT INTO t VALUES (4, 'between')");
    world.sql("XA COMMIT 'second'; XA ROLLBACK 'never'; INSERT INTO t VALUES (3, 'free again')");
    world.sql("XA COMMIT 'first'; UPDATE t SET v = 'after' WHERE id = 1");
    let want = [
        "+t 4,'between'",
        "+t 2,'second'",
        "+t 3,'free again'",
        "+t 1,'first'",
        "~t 1,'first' > 1,'after'",
    ];
    assert_eq!(world.changes(&start, &["t"]).await, want.map(|line| [line]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_one_phase_it_is_an_ordinary_transaction() {
    let world = World::new(&[]);
    world.sql(TABLES);
    let start = world.here().await;
    world.sql(
        "XA START 'a'; INSERT INTO t VALUES (1, 'x'); XA END 'a'; XA COMMIT 'a' ONE PHASE; \
         XA START 'b'; INSERT INTO t VALUES (2, 'x'); XA END 'b'; XA ROLLBACK 'b'; \
         XA START 'c'; SELECT * FROM t; XA END 'c'; XA PREPARE 'c'; XA COMMIT 'c'; \
         XA START 'd'; INSERT INTO other VALUES (1); XA END 'd'; XA PREPARE 'd'; XA COMMIT 'd'; \
         INSERT INTO t VALUES (3, 'x')",
    );
    assert_eq!(
        world.changes(&start, &["t"]).await,
        [["+t 1,'x'"], ["+t 3,'x'"]]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_committed_after_rotations_and_a_crash_and_read_from_any_position() {
    for config in [&["log_bin_compress=OFF"], &["log_bin_compress=ON"]] {
        let world = World::new(config);
        world.sql(TABLES);
        let start = world.here().await;
        world.sql("INSERT INTO t VALUES (1, 'before')");
        world.sql(
            "XA START 'g\\'r','b',7; INSERT INTO t VALUES (2, 'xa'); \
             INSERT INTO t VALUES (3, REPEAT('z', 1000)); XA END 'g\\'r','b',7; \
             XA PREPARE 'g\\'r','b',7",
        );
        world.sql("INSERT INTO t VALUES (4, 'between'); FLUSH BINARY LOGS");
        world.sql("INSERT INTO t VALUES (5, 'between')");
        world.server.kill().unwrap();
        world.server.restart().unwrap();
        world.sql("INSERT INTO t VALUES (6, 'between'); FLUSH BINARY LOGS");
        world.sql("XA COMMIT 'g\\'r','b',7; INSERT INTO t VALUES (7, 'after')");
        let tables = world.tables(&["t"]).await;
        let all = world.follow(&start, &tables).await;
        let lines: Vec<_> = all.iter().map(|tx| tx.changes.clone()).collect();
        let xa = vec!["+t 2,'xa'".to_owned(), "+t 3,'z…'1000".to_owned()];
        assert_eq!(lines[4], xa);
        let others: Vec<_> = lines
            .concat()
            .into_iter()
            .filter(|l| !xa.contains(l))
            .collect();
        let want = [1, 4, 5, 6, 7].map(|id| match id {
            1 => "+t 1,'before'".to_owned(),
            7 => "+t 7,'after'".to_owned(),
            id => format!("+t {id},'between'"),
        });
        assert_eq!(others, want);
        for (i, tx) in all.iter().enumerate() {
            assert_eq!(world.follow(&tx.position, &tables).await, all[i + 1..]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_has_its_rows_from_the_commit_on() {
    let world = World::new(&[]);
    world.sql(TABLES);
    let start = world.here().await;
    let tables = world.tables(&["t"]).await;
    prepare(&world, "x", 1);
    let (rows, before) = world.read(&tables[0]).await;
    assert_eq!(rows.len(), 0);
    world.sql("XA COMMIT 'x'");
    let (rows, after) = world.read(&tables[0]).await;
    assert_eq!(rows.len(), 1);
    let all = world.follow(&start, &tables).await;
    let source = world.source();
    assert!(!source.contains(&before, &all[0].id).unwrap());
    assert!(source.contains(&after, &all[0].id).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_waits_for_what_is_prepared() {
    let world = World::new(&[]);
    world.sql(TABLES);
    prepare(&world, "slow", 1);
    let source = world.source();
    let mut secured = JoinSet::new();
    secured.spawn(async move { source.secure(&[]).await });
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(secured.try_join_next().is_none());
    world.sql("INSERT INTO t VALUES (2, 'meanwhile'); XA COMMIT 'slow'");
    // Prepared behind the place: the stream has it.
    prepare(&world, "later", 3);
    let start = secured.join_next().await.unwrap().unwrap().unwrap();
    world.sql("XA COMMIT 'later'");
    let tables = world.tables(&["t"]).await;
    let (rows, seen) = world.read(&tables[0]).await;
    assert_eq!(rows.len(), 3);
    let source = world.source();
    for tx in world.follow(&start, &tables).await {
        assert!(source.contains(&seen, &tx.id).unwrap(), "{tx:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_refuses_naming_what_stays_prepared() {
    let world = World::new(&[]);
    world.sql(TABLES);
    prepare(&world, "forgotten", 1);
    let error = world.source().secure(&[]).await.unwrap_err();
    says(&error, Kind::Config, &["forgotten"]);
    assert!(error.hint().unwrap().contains("XA ROLLBACK"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_inside_a_prepared_transaction_stops_before_it() {
    let world = World::new(&[]);
    world.sql(TABLES);
    let tables = world.tables(&["t"]).await;
    let start = world.here().await;
    world.sql(
        "INSERT INTO t VALUES (1, 'x'); SET binlog_format = STATEMENT; XA START 's'; \
         UPDATE t SET v = 'y'; XA END 's'; XA PREPARE 's'; XA COMMIT 's'",
    );
    let (seen, error) = world.stops(&start, &tables).await;
    assert_eq!(seen.len(), 1);
    says(&error, Kind::Config, &["UPDATE", "shop.t", "statement"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partial_rollback_that_was_logged_is_not_read_as_rows() {
    let world = World::new(&[]);
    world.sql(TABLES);
    world.sql("CREATE TABLE m (id INT) ENGINE=MyISAM");
    let tables = world.tables(&["t"]).await;
    for begin_end in [
        ["BEGIN", "COMMIT"],
        ["XA START 'p'", "XA END 'p'; XA PREPARE 'p'; XA COMMIT 'p'"],
    ] {
        let start = world.here().await;
        let [begin, end] = begin_end;
        world.sql(&format!(
            "DELETE FROM t; {begin}; INSERT INTO t VALUES (1, 'yes'); SAVEPOINT s; \
             INSERT INTO t VALUES (2, 'no'); INSERT INTO m VALUES (1); ROLLBACK TO s; \
             INSERT INTO t VALUES (3, 'yes'); {end}"
        ));
        let mut log = world.open(&start, &tables).await;
        let mark = log.source.head().await.unwrap();
        let mut lines = Vec::new();
        let error = loop {
            match log.next().await {
                Ok(tx) => lines.extend(tx.changes),
                Err(error) => break Some(error),
            }
            if log.source.reached(&log.at, &mark).unwrap() {
                break None;
            }
        };
        // Exact, or stopped; never the row that was taken back.
        lines.retain(|line| !line.starts_with('-'));
        match error {
            Some(error) => says(&error, Kind::Config, &["rolled back"]),
            None => assert_eq!(lines, ["+t 1,'yes'", "+t 3,'yes'"]),
        }
    }
}
