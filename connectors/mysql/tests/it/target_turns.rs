//! Two appliers that take turns at a table that is large enough for it.

use std::sync::Arc;
use std::time::Duration;

use thalweg_core::batch::{Apart, ApplyBatch, FoldedTable, Net, RowOp};
use thalweg_core::mapping::TaskOptions;
use thalweg_core::plan::Plan;
use thalweg_core::ports::Applier;

use crate::target_world::{Goal, at, ordered, pair};

/// Updates, deletes and inserts of these rows; the first `apart` of each list stand apart.
fn batch(
    position: u32,
    deletes: &[i64],
    updates: &[i64],
    inserts: &[i64],
    apart: [usize; 3],
) -> ApplyBatch {
    let mut batch = ApplyBatch {
        position: at(position),
        ..ApplyBatch::default()
    };
    let rows = &mut batch.rows;
    let mut folded = FoldedTable::default();
    let mut ops = Vec::new();
    for &id in deletes {
        let row = pair(rows, id, 0);
        folded.deletes.push(row);
        ops.push(RowOp::Delete(row));
    }
    for &id in updates {
        let (before, after) = (pair(rows, id, 0), pair(rows, id, i64::from(position)));
        folded.updates.push((before, after));
        ops.push(RowOp::Update { before, after });
    }
    for &id in inserts {
        let row = pair(rows, id, i64::from(position));
        folded.inserts.push(row);
        ops.push(RowOp::Insert(row));
    }
    batch.ordered = ordered(&ops);
    batch.folded = Some(vec![Net::Folded(folded)]);
    let [deletes, updates, inserts] = apart;
    batch.apart = vec![Apart {
        target: 0,
        deletes,
        updates,
        inserts,
    }];
    batch
}

const STATE: &str = "SELECT CONCAT(COUNT(*), ' ', SUM(id), ' ', SUM(v), ' ', SUM(id * v)) FROM t";

async fn large(goal: &Goal) -> Arc<Plan> {
    goal.sql(
        "CREATE TABLE t (id bigint PRIMARY KEY, v bigint); \
         INSERT INTO t SELECT seq, 0 FROM seq_1_to_300000; ANALYZE TABLE t",
    );
    goal.plan_into(&["t"], TaskOptions::default()).await
}

async fn two(goal: &Goal, plan: &Arc<Plan>) -> (Box<dyn Applier>, Box<dyn Applier>) {
    let epoch = goal.claim(plan).await.epoch;
    let open = async || {
        let plan = Arc::clone(plan);
        let opened = goal.target.open_applier(&goal.key, epoch, plan).await;
        opened.unwrap()
    };
    (open().await, open().await)
}

/// Waits until so many rows are written by transactions that are open: the server looks anew only if
/// nobody has asked for a tenth of a second.
async fn written(goal: &Goal, rows: &str) {
    let sum = "SELECT COALESCE(SUM(trx_rows_modified), 0) FROM information_schema.innodb_trx";
    let comes = async {
        while goal.sql(sum) != rows {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    let came = tokio::time::timeout(Duration::from_secs(15), comes).await;
    assert!(came.is_ok(), "{} rows, not {rows}", goal.sql(sum));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_apart_are_written_beside_the_batch_before() {
    let goal = Goal::new();
    let plan = large(&goal).await;
    let ids = |from: i64, count: i64, step: i64| -> Vec<i64> {
        (0..count).map(|n| from + n * step).collect()
    };
    let first = || {
        batch(
            1,
            &ids(100_000, 3_000, 3),
            &ids(200_000, 5_000, 1),
            &ids(400_000, 3_000, 1),
            [0; 3],
        )
    };
    // Behind those that are apart: rows that the first has deleted, changed and inserted.
    let (deletes, updates, inserts) = (
        [ids(10_000, 2_500, 1), ids(400_000, 500, 2)].concat(),
        [ids(20_000, 4_000, 2), ids(200_000, 1_000, 3)].concat(),
        [ids(500_000, 2_000, 1), ids(100_000, 1_000, 3)].concat(),
    );
    let second = || batch(2, &deletes, &updates, &inserts, [2_500, 4_000, 2_000]);
    let mut states = Vec::new();
    for way in ["alone", "ahead", "taken back", "given up"] {
        goal.sql(
            "DELETE FROM t WHERE id > 300000; REPLACE INTO t SELECT seq, 0 FROM seq_1_to_300000",
        );
        let (mut one, mut two) = two(&goal, &plan).await;
        let before = goal.sql(STATE);
        if way != "alone" {
            two.ahead(&second()).await.unwrap();
            assert_eq!(goal.sql(STATE), before, "{way}: it is not seen");
            written(&goal, "8500").await;
        }
        if way == "taken back" {
            assert!(two.give_way().await.unwrap(), "something was taken back");
            written(&goal, "0").await;
        }
        let first = first();
        let applied = one.apply(&first);
        // Neither waits for the other.
        let applied = tokio::time::timeout(Duration::from_secs(15), applied).await;
        assert_eq!(applied.unwrap().unwrap().durable, at(1), "{way}");
        let between = goal.sql(STATE);
        if way == "given up" {
            drop(two);
            written(&goal, "0").await;
            assert_eq!(goal.sql(STATE), between);
            continue;
        }
        let applied = two.apply(&second()).await.unwrap();
        assert_eq!(applied.durable, at(2), "{way}");
        let counts = applied.counts[0];
        assert_eq!((counts.repaired, counts.missing), (0, 0), "{way}");
        states.push((between, goal.sql(STATE), counts));
    }
    assert_eq!(states[0], states[1]);
    assert_eq!(states[0], states[2]);
}

/// Drift among the rows that stand apart is counted as ever, and what the bulk path cannot do is done row by
/// row, in its turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_among_rows_apart_is_counted() {
    let goal = Goal::new();
    let plan = large(&goal).await;
    let mut states = Vec::new();
    for ahead in [false, true] {
        goal.sql(
            "DELETE FROM t WHERE id > 300000; REPLACE INTO t SELECT seq, 0 FROM seq_1_to_300000",
        );
        let (mut one, mut two) = two(&goal, &plan).await;
        let first = batch(1, &[], &(1..100).collect::<Vec<_>>(), &[], [0; 3]);
        // An insert of a row that is there, an update and a delete of rows that are not.
        let second = batch(
            2,
            &[900_001, 5, 6],
            &[900_002, 1_000, 1_001, 7, 8, 9],
            &[2_000, 700_000, 700_001, 700_002],
            [1, 3, 4],
        );
        if ahead {
            two.ahead(&second).await.unwrap();
        }
        one.apply(&first).await.unwrap();
        let counts = two.apply(&second).await.unwrap().counts[0];
        assert_eq!((counts.repaired, counts.missing), (2, 1), "{counts:?}");
        states.push((goal.sql(STATE), counts));
    }
    assert_eq!(states[0], states[1]);
}
