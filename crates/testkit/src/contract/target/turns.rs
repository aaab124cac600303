//! Two appliers that take turns.

use thalweg_core::batch::{Apart, ApplyBatch, FoldedTable, Net, RowOp};

use super::{Goal, apply, at, batch, mixed, ordered, pair, two_columns, update};

/// Where a batch that was begun ahead goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// Begun before the batch before is applied.
    Before,
    /// And taken back.
    TakenBack,
    /// Not at all.
    Alone,
}

/// After [`mixed`]: rows that the batch before has changed too, and others in front of them.
fn third() -> ApplyBatch {
    let mut third = batch(3);
    let mut folded = FoldedTable::default();
    let mut ops = Vec::new();
    // 92 to 97 are touched by nobody else; 1, 4, … have been changed, 1,002, 1,005, … have moved there.
    let untouched = 92..98;
    let touched = (0..90)
        .filter(|id| id % 3 == 1)
        .chain((1_000..1_090).filter(|id| id % 3 == 0));
    for id in untouched.chain(touched) {
        let old = pair(&mut third.rows, id, 0);
        if id % 2 == 0 {
            folded.deletes.push(old);
            ops.push(RowOp::Delete(old));
        } else {
            let new = pair(&mut third.rows, id, 50_000 + id);
            folded.updates.push((old, new));
            ops.push(update(old, new));
        }
    }
    // What was deleted comes back, what never was comes, and what was moved away from comes anew.
    for id in [7_000, 7_001, 0, 3, 2, 5] {
        let new = pair(&mut third.rows, id, 90_000 + id);
        folded.inserts.push(new);
        ops.push(RowOp::Insert(new));
    }
    // Drift, apart from all others and not.
    let gone = pair(&mut third.rows, 8_000, 0);
    folded.deletes.insert(0, gone);
    ops.push(RowOp::Delete(gone));
    third.apart = vec![Apart {
        target: 0,
        deletes: 4,
        updates: 3,
        inserts: 2,
    }];
    third.ordered = ordered(&ops);
    third.folded = Some(vec![Net::Folded(folded)]);
    third
}

/// A batch that is begun while the one before is not committed does the same as one that is not, counts the
/// same, and is not seen before its turn; one that is never finished leaves nothing.
///
/// # Panics
/// When the target does not.
pub async fn batches_begun_ahead_change_nothing(goal: &Goal) {
    // With another unique key, rows are joined by more than their key.
    for unique in [&[][..], &[1]] {
        let plan = goal.plan(vec![two_columns(unique)]);
        goal.sql("DROP TABLE IF EXISTS t");
        let mut results = Vec::new();
        for way in [Way::Alone, Way::Before, Way::TakenBack] {
            let owner = goal.claim(&plan).await;
            let mut one = goal.applier(&plan, &owner).await;
            let mut two = goal.applier(&plan, &owner).await;
            goal.sql("DELETE FROM t");
            one.go_live().await.expect("keys are made");
            let (first, second) = mixed();
            apply(one.as_mut(), &first).await;
            let before = goal.rows();
            let third = third();
            if way != Way::Alone {
                two.ahead(&third).await.expect("a batch is begun");
                assert_eq!(goal.rows(), before, "{way:?}: it is seen before its turn");
            }
            if way == Way::TakenBack {
                two.give_way().await.expect("it is taken back");
            }
            let applied = apply(one.as_mut(), &second).await;
            assert_eq!(applied.durable, at(2), "{way:?}");
            let applied = apply(two.as_mut(), &third).await;
            assert_eq!(applied.durable, at(3), "{way:?}");
            results.push((goal.rows(), applied.counts));
            // Begun and never finished.
            let (_, again) = mixed();
            one.ahead(&ApplyBatch {
                position: at(4),
                ..again
            })
            .await
            .expect("a batch is begun");
            drop(one);
            let state = goal.claim(&plan).await;
            assert_eq!(state.applied, at(3), "{way:?}");
            assert_eq!(Some(&goal.rows()), results.last().map(|(rows, _)| rows));
        }
        let (first, others) = results.split_first().expect("three ways");
        for other in others {
            assert_eq!(first, other, "unique {unique:?}");
        }
        let counts = first.1.first().expect("one table was counted");
        assert_eq!((counts.repaired, counts.missing), (0, 1), "{counts:?}");
        goal.sql("DROP TABLE t");
    }
}
