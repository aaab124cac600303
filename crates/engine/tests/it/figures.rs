//! What a task says of itself is true.

use std::sync::Arc;
use std::time::Duration;

use thalweg_core::batch::TableCounts;
use thalweg_engine::status::{TaskPhase, TaskStatus};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::world::World;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn counts(inserts: u64, updates: u64, deletes: u64) -> TableCounts {
    TableCounts {
        inserts,
        updates,
        deletes,
        ..TableCounts::default()
    }
}

#[tokio::test(start_paused = true)]
async fn rows_and_bytes_are_counted_once_on_each_side() {
    let world = World::new();
    let (status, seen) = watch::channel(TaskStatus::default());
    let body = async {
        world.caught_up().await;
        let loaded = seen.borrow().clone();
        assert_eq!(loaded.phase, TaskPhase::Streaming);
        for (source, table) in loaded.sources.iter().zip(&loaded.tables) {
            assert_eq!((source.loaded_rows, table.loaded_rows), (3, 3));
            assert_eq!(source.read, counts(0, 0, 0));
        }
        // Six rows of two cells of nine bytes, and eight bytes of offsets each.
        assert_eq!((loaded.bytes_read, loaded.bytes_written), (156, 156));
        assert_eq!(loaded.applied_commit_us, None);
        // A transaction in three parts: `part_changes` is three.
        world.source.commit(&[
            (0, Ok(vec![1, 90])),
            (0, Ok(vec![9, 10])),
            (1, Ok(vec![1, 100])),
            (1, Ok(vec![8, 0])),
            (1, Ok(vec![8, 0])),
            (1, Err(8)),
            (0, Ok(vec![2, 100])),
        ]);
        sleep(seconds(1)).await;
        let done = seen.borrow().clone();
        let expected = [counts(1, 2, 0), counts(1, 2, 1)];
        for (n, expected) in expected.into_iter().enumerate() {
            assert_eq!(done.sources[n].read, expected, "table {n}");
            assert_eq!(done.tables[n].written, expected, "table {n}");
        }
        assert_eq!(done.transactions, 1);
        assert_eq!(done.applied_commit_us, Some(3_000_000));
        // Six images were written; the deleted row brings none.
        assert_eq!(done.bytes_written - loaded.bytes_written, 6 * 18);
        assert!(done.bytes_read > loaded.bytes_read);
    };
    let source = Arc::new(world.source.clone());
    world.run_while(source, status, body).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lag_grows_while_the_target_is_blocked_and_falls_after() {
    let world = World::new();
    let (status, seen) = watch::channel(TaskStatus::default());
    let figures = || (seen.borrow().lag_ms, seen.borrow().backlog_bytes);
    let body = async {
        assert_eq!(figures(), (None, None));
        world.caught_up().await;
        sleep(seconds(2)).await;
        assert_eq!(figures(), (Some(0), Some(0)));
        world.target.hold(true);
        world.transact(0);
        let mut before = 0;
        for n in 1..=4 {
            sleep(seconds(10)).await;
            let (lag, backlog) = figures();
            let lag = lag.unwrap();
            assert!((n * 10_000 - 2_000..=n * 10_000).contains(&lag), "{lag}");
            assert!(lag > before);
            // The log in memory has a byte a transaction.
            assert_eq!(backlog, Some(1));
            before = lag;
        }
        world.target.hold(false);
        sleep(seconds(2)).await;
        assert_eq!(figures(), (Some(0), Some(0)));
    };
    let source = Arc::new(world.source.clone());
    world.run_while(source, status, body).await.unwrap();
    assert_eq!(figures(), (None, None), "nobody looks after the end");
}

#[tokio::test(start_paused = true)]
async fn lag_is_unknown_while_the_source_cannot_be_asked() {
    let world = World::new();
    let (status, seen) = watch::channel(TaskStatus::default());
    let figures = || (seen.borrow().lag_ms, seen.borrow().backlog_bytes);
    let body = async {
        world.caught_up().await;
        sleep(seconds(2)).await;
        assert_eq!(figures(), (Some(0), Some(0)));
        world.source.silent(true);
        // Not at once: one slow answer is no loss of sight.
        sleep(seconds(3)).await;
        assert_eq!(figures().0, Some(0));
        sleep(seconds(8)).await;
        assert_eq!(figures(), (None, None));
        // The stream has gone on all the while.
        world.transact(0);
        sleep(seconds(1)).await;
        assert!(world.equal());
        assert_eq!(figures(), (None, None));
        world.source.silent(false);
        sleep(seconds(8)).await;
        assert_eq!(figures(), (Some(0), Some(0)));
    };
    let source = Arc::new(world.source.clone());
    world.run_while(source, status, body).await.unwrap();
}

/// Whoever waits for a batch that was begun ahead, and holds up the one before, does not wait for long.
#[tokio::test(start_paused = true)]
async fn a_batch_that_is_ahead_too_long_gives_way() {
    let mut world = World::new();
    world.limits.batch_ops = 3;
    let (status, _) = watch::channel(TaskStatus::default());
    let n = std::cell::Cell::new(0);
    // The target holds up a batch for so long, while others wait.
    let blocked = async |time: Duration| {
        let before = world.target.begun();
        world.target.hold(true);
        for _ in 0..16 {
            world.transact(n.replace(n.get() + 1));
        }
        sleep(time).await;
        // Batches are folded on another thread: each is held until the one behind it is there, however long the
        // machine takes for that.
        for _ in 0..3 {
            let states = world.target.history().len();
            world.target.hold(false);
            while world.target.history().len() == states && !world.equal() {
                tokio::task::yield_now().await;
            }
            world.target.hold(true);
            sleep(Duration::from_millis(50)).await;
        }
        world.target.hold(false);
        world.caught_up().await;
        assert!(world.equal());
        world.target.begun() - before
    };
    let body = async {
        world.caught_up().await;
        assert!(
            blocked(Duration::from_millis(1_500)).await > 1,
            "many go ahead"
        );
        assert_eq!(blocked(seconds(5)).await, 1, "one has given way");
        assert_eq!(blocked(seconds(1)).await, 0, "none for a minute");
        sleep(seconds(60)).await;
        assert!(blocked(seconds(1)).await > 1, "and again");
        // A task that keeps up has one connection, whether or not there is something to do.
        for changes in [true, false] {
            blocked(seconds(1)).await;
            assert_eq!(world.target.appliers(), 2);
            for _ in 0..12 {
                if changes {
                    world.transact(n.replace(n.get() + 1));
                }
                sleep(seconds(1)).await;
            }
            assert_eq!(world.target.appliers(), 1, "changes: {changes}");
        }
    };
    let source = Arc::new(world.source.clone());
    world.run_while(source, status, body).await.unwrap();
}
