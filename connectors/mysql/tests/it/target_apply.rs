//! Loading, applying, fencing, going Live at a MariaDB.

use std::sync::Arc;

use thalweg_core::Kind;
use thalweg_core::batch::{ApplyBatch, FoldedTable, Net, RowOp, TableOp};
use thalweg_core::schema::{ForeignKey, ReferenceAction, TableName};

use crate::target_world::{Goal, at, column, int, load_whole, ordered, pair, source, two_columns};

/// 100 rows, then a batch of updates, deletes, key moves and inserts.
fn mixed() -> (ApplyBatch, ApplyBatch) {
    let mut first = ApplyBatch {
        position: at(1),
        ..ApplyBatch::default()
    };
    let mut inserts = Vec::new();
    for id in 0..100 {
        inserts.push(pair(&mut first.rows, id, id));
    }
    let ops: Vec<_> = inserts.iter().map(|&row| RowOp::Insert(row)).collect();
    first.ordered = ordered(&ops);
    first.folded = Some(vec![Net::Folded(FoldedTable {
        inserts,
        ..FoldedTable::default()
    })]);

    let mut second = ApplyBatch {
        position: at(2),
        ..ApplyBatch::default()
    };
    let mut folded = FoldedTable::default();
    let mut ops = Vec::new();
    for id in 0..90 {
        let old = pair(&mut second.rows, id, id);
        if id % 3 == 0 {
            folded.deletes.push(old);
            ops.push(RowOp::Delete(old));
        } else {
            // Every third keeps its key, every third moves.
            let key = if id % 3 == 1 { id } else { 1_000 + id };
            let new = pair(&mut second.rows, key, -id);
            folded.updates.push((old, new));
            ops.push(RowOp::Update {
                before: old,
                after: new,
            });
        }
    }
    // Drift: an update and a delete of rows that are not there, an insert of one that is.
    let gone = pair(&mut second.rows, 5_000, 0);
    let new = pair(&mut second.rows, 5_000, 1);
    folded.updates.push((gone, new));
    ops.push(RowOp::Update {
        before: gone,
        after: new,
    });
    let never = pair(&mut second.rows, 6_000, 0);
    folded.deletes.push(never);
    ops.push(RowOp::Delete(never));
    let there = pair(&mut second.rows, 99, 7);
    folded.inserts.push(there);
    ops.push(RowOp::Insert(there));
    second.ordered = ordered(&ops);
    second.folded = Some(vec![Net::Folded(folded)]);
    (first, second)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_paths_do_the_same_and_count_the_same() {
    let mut results = Vec::new();
    for bulk in [true, false] {
        let goal = Goal::new();
        let plan = goal.plan(vec![two_columns(&[])]);
        let epoch = goal.claim(&plan).await.epoch;
        let mut applier = goal
            .target
            .open_applier(&goal.key, epoch, plan)
            .await
            .unwrap();
        let (mut first, mut second) = mixed();
        if !bulk {
            first.folded = None;
            second.folded = None;
        }
        applier.apply(&first).await.unwrap();
        let applied = applier.apply(&second).await.unwrap();
        assert_eq!(applied.durable, at(2));
        let rows = goal.sql("SELECT id, v FROM t ORDER BY id");
        results.push((rows, applied.counts));
    }
    assert_eq!(results[0], results[1]);
    let counts = results[0].1[0];
    assert_eq!((counts.repaired, counts.missing), (2, 1), "{counts:?}");
    assert_eq!(
        (counts.updates, counts.deletes, counts.inserts),
        (61, 31, 1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_swap_unique_values_fall_back_to_commit_order() {
    let goal = Goal::new();
    let plan = goal.plan(vec![two_columns(&[1])]);
    let epoch = goal.claim(&plan).await.epoch;
    let mut applier = goal
        .target
        .open_applier(&goal.key, epoch, plan)
        .await
        .unwrap();
    let (first, _) = mixed();
    applier.apply(&first).await.unwrap();
    applier.go_live().await.unwrap();
    applier.go_live().await.unwrap();
    let mut batch = ApplyBatch {
        position: at(2),
        ..ApplyBatch::default()
    };
    let (mut ops, mut folded) = (Vec::new(), FoldedTable::default());
    for id in (0..100).step_by(2) {
        let rows = &mut batch.rows;
        let [a, aside, b] = [
            pair(rows, id, id),
            pair(rows, id, -1),
            pair(rows, id + 1, id + 1),
        ];
        let [a_new, b_new] = [pair(rows, id, id + 1), pair(rows, id + 1, id)];
        ops.push(RowOp::Update {
            before: a,
            after: aside,
        });
        ops.push(RowOp::Update {
            before: b,
            after: b_new,
        });
        ops.push(RowOp::Update {
            before: aside,
            after: a_new,
        });
        folded.updates.extend([(a, a_new), (b, b_new)]);
    }
    batch.ordered = ordered(&ops);
    batch.folded = Some(vec![Net::Folded(folded)]);
    let applied = applier.apply(&batch).await.unwrap();
    assert_eq!(applied.counts[0].updates, 150);
    let swapped = "SELECT count(*) FROM t WHERE v = id + 1 - 2 * (id % 2)";
    assert_eq!(goal.sql(swapped), "100");
    let unique = "SELECT count(*) FROM information_schema.table_constraints WHERE table_name = 't' AND constraint_type = 'UNIQUE'";
    assert_eq!(goal.sql(unique), "1", "go_live made the unique key once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_owner_writes_nothing() {
    let goal = Goal::new();
    let plan = goal.plan(vec![two_columns(&[])]);
    let old = goal.claim(&plan).await.epoch;
    let target = &goal.target;
    let mut applier = target
        .open_applier(&goal.key, old, Arc::clone(&plan))
        .await
        .unwrap();
    let mut loader = target
        .open_loader(&goal.key, old, Arc::clone(&plan))
        .await
        .unwrap();
    assert!(goal.claim(&plan).await.epoch > old);
    let (first, _) = mixed();
    assert_eq!(
        applier.apply(&first).await.unwrap_err().kind(),
        Kind::Fenced
    );
    // What it wrote before it was told is rolled back with its connection.
    drop(applier);
    let loaded = load_whole(loader.as_mut(), &plan, 0, &first.rows, "7").await;
    assert_eq!(loaded.unwrap_err().kind(), Kind::Fenced);
    drop(loader);
    assert_eq!(goal.sql("SELECT count(*) FROM t"), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_show_nothing_until_the_last() {
    let goal = Goal::new();
    let plan = goal.plan(vec![two_columns(&[])]);
    let epoch = goal.claim(&plan).await.epoch;
    let (mut first, second) = mixed();
    first.position = None;
    let count = || goal.sql("SELECT count(*) FROM t");
    for whole in [false, true] {
        let mut applier = goal
            .target
            .open_applier(&goal.key, epoch, Arc::clone(&plan))
            .await
            .unwrap();
        assert_eq!(applier.apply(&first).await.unwrap().durable, None);
        assert_eq!(count(), "0");
        if whole {
            assert_eq!(applier.apply(&second).await.unwrap().durable, at(2));
            assert_eq!(count(), "71");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parents_come_first_and_go_last() {
    let goal = Goal::new();
    let columns = || vec![column("id", int()), column("v", int())];
    let mut child = source("child", columns(), &[]);
    child.foreign_keys.push(ForeignKey {
        name: "child_parent".into(),
        columns: vec!["v".into()],
        parent: TableName::new("there", "parent"),
        parent_columns: vec!["id".into()],
        on_delete: ReferenceAction::Refuse,
        on_update: ReferenceAction::Refuse,
        logged: true,
    });
    let plan = goal.plan(vec![child, source("parent", columns(), &[])]);
    assert_eq!(plan.targets[0].name.name, "parent");
    let epoch = goal.claim(&plan).await.epoch;
    let mut applier = goal
        .target
        .open_applier(&goal.key, epoch, plan)
        .await
        .unwrap();
    applier.go_live().await.unwrap();
    for deletes in [false, true] {
        let mut batch = ApplyBatch {
            position: at(1),
            ..ApplyBatch::default()
        };
        let mut folded = vec![
            FoldedTable::default(),
            FoldedTable {
                target: 1,
                ..Default::default()
            },
        ];
        for id in 0..60 {
            for target in [0, 1] {
                let row = pair(&mut batch.rows, id, id);
                let list = if deletes {
                    &mut folded[target].deletes
                } else {
                    &mut folded[target].inserts
                };
                list.push(row);
                let op = if deletes {
                    RowOp::Delete(row)
                } else {
                    RowOp::Insert(row)
                };
                batch.ordered.push(TableOp {
                    target,
                    feed: 0,
                    op,
                    unchecked: false,
                });
            }
        }
        batch.folded = Some(folded.into_iter().map(Net::Folded).collect());
        applier.apply(&batch).await.unwrap();
        let counts = "SELECT (SELECT count(*) FROM parent) + (SELECT count(*) FROM child)";
        assert_eq!(goal.sql(counts), if deletes { "0" } else { "120" });
    }
}
