//! Rows that the target refuses are left out, and what is put into quarantine is there with its
//! transaction.

use std::collections::BTreeSet;
use std::ops::Range;

use thalweg_core::batch::{ApplyBatch, RowOp, TableOp};
use thalweg_core::change::ChangeKind;
use thalweg_core::checkpoint::{LoadedChunk, TaskKey};
use thalweg_core::mapping::ExistingRows;
use thalweg_core::ports::Sift;
use thalweg_core::position::Visibility;
use thalweg_core::quarantine::Held;
use thalweg_core::schema::TableName;
use thalweg_core::value::RowBatch;
use thalweg_core::{Error, Kind, Result};

use super::{Goal, apply, batch, ordered, pair, two_columns, update};

/// A change in quarantine of a row of the target's only table.
fn held(goal: &Goal, number: i64, error: Option<&str>) -> Held {
    Held {
        number,
        target: TableName::new(goal.place.schema(), "t"),
        source: TableName::new("there", "t"),
        key: vec![0, 1, 2],
        moved: (number % 2 == 0).then(|| vec![3, 0]),
        shown: "id=1, \u{1F426}".into(),
        kind: ChangeKind::Update,
        error: error.map(str::to_owned),
        place: "0-1-7".into(),
        at_ms: 1_700_000_000_000,
        change: vec![255; usize::try_from(number).unwrap_or(0)],
    }
}

/// Puts rows aside by the numbers of their changes.
#[derive(Default)]
struct Aside {
    /// The row of each change, by its origin.
    rows: Vec<i64>,
    waiting: BTreeSet<i64>,
    deferred: Vec<i64>,
    refused: Vec<(i64, Error)>,
    emptied: u32,
    out: Vec<Held>,
}

impl Aside {
    fn row(&self, op: &TableOp) -> i64 {
        let row = self.rows.get(op.origin as usize);
        *row.expect("an operation keeps its origin")
    }
}

impl Sift for Aside {
    fn piece(&self, batch: &ApplyBatch, ops: Range<usize>) -> Result<ApplyBatch> {
        Ok(ApplyBatch {
            rows: batch.rows.clone(),
            ordered: batch.ordered.get(ops).unwrap_or_default().to_vec(),
            kept: batch.kept.clone(),
            ..ApplyBatch::default()
        })
    }

    fn waits(&self, op: &TableOp) -> bool {
        op.op != RowOp::Truncate && self.waiting.contains(&self.row(op))
    }

    fn defer(&mut self, op: &TableOp) -> Result<()> {
        self.deferred.push(self.row(op));
        Ok(())
    }

    fn refused(&mut self, op: &TableOp, error: Error) -> Result<()> {
        let row = self.row(op);
        self.waiting.insert(row);
        self.refused.push((row, error));
        Ok(())
    }

    fn emptied(&mut self, _op: &TableOp) {
        self.emptied += 1;
        self.waiting.clear();
    }

    fn take(&mut self) -> Vec<Held> {
        std::mem::take(&mut self.out)
    }
}

/// Operations with their origins.
fn numbered(ops: &[RowOp]) -> Vec<TableOp> {
    let mut ops = ordered(ops);
    for (origin, op) in (0..).zip(&mut ops) {
        op.origin = origin;
    }
    ops
}

/// What is bad in a load or a batch is left out, and only that; what is put into quarantine comes and goes
/// with the transaction that says so.
///
/// # Panics
/// When the target does otherwise.
pub async fn refused_rows_are_left_out(goal: &Goal) {
    let plan = goal.plan(vec![two_columns(&[])]);
    let target = goal.target();
    let nothing = target.held(&goal.key, true).await;
    assert_eq!(nothing.expect("a task that is not known"), []);
    let owner = goal.claim(&plan).await;
    goal.sql("ALTER TABLE t ADD CONSTRAINT small CHECK (v < 1000)");

    // A load.
    let mut loader = goal.loader(&plan, &owner).await;
    let mut rows = RowBatch::new();
    for id in 0..300 {
        pair(
            &mut rows,
            id,
            if [7, 8, 250].contains(&id) { 5_000 } else { id },
        );
    }
    let print = plan.fingerprint(0);
    loader.begin(0, 0).await.expect("a load begins");
    loader
        .empty(ExistingRows::Refuse, &print)
        .await
        .expect("a table is emptied");
    let mut left = Vec::new();
    for _ in 0..2 {
        let refused = loader.load_sifted(&rows).await.expect("rows are sifted");
        let mut refused: Vec<_> = refused
            .iter()
            .map(|(at, error)| (*at, error.kind()))
            .collect();
        refused.sort_by_key(|(at, _)| *at);
        left.push(refused);
        rows.clear();
        pair(&mut rows, 1_000, 5);
        pair(&mut rows, 1_001, 5_000);
    }
    let data = |rows: &[usize]| {
        rows.iter()
            .map(|row| (*row, Kind::Data))
            .collect::<Vec<_>>()
    };
    assert_eq!(left, [data(&[7, 8, 250]), data(&[1])]);
    let source = plan.source_of(0, 0).expect("a target has a source");
    let chunk = LoadedChunk {
        source: source.schema.name.clone(),
        range: None,
        seen: Visibility::new("7"),
        rows: 298,
    };
    let first = [held(goal, 1, Some("too large")), held(goal, 2, None)];
    loader
        .commit(Some(&chunk), &first)
        .await
        .expect("a chunk is in");
    assert_eq!(goal.sql("SELECT count(*) FROM t"), "298");
    let there = async |changes| {
        let there = goal.target().held(&goal.key, changes).await;
        there.expect("a quarantine is read")
    };
    assert_eq!(there(true).await, first);
    assert!(there(false).await.iter().all(|held| held.change.is_empty()));
    let other = TaskKey {
        task: "other".into(),
        ..goal.key.clone()
    };
    let of_other = target.held(&other, true).await;
    assert_eq!(of_other.expect("another task's"), []);

    // A batch with bad rows: refused by themselves, with what comes after them.
    let mut applier = goal.applier(&plan, &owner).await;
    applier.go_live().await.expect("tables are live");
    let mut sifted = batch(2);
    let (mut ops, mut of) = (Vec::new(), Vec::new());
    for id in 2_000..2_100 {
        let value = if id == 2_042 { 5_000 } else { 1 };
        ops.push(RowOp::Insert(pair(&mut sifted.rows, id, value)));
        of.push(id);
    }
    let rows = &mut sifted.rows;
    let old = [(2_042, 5_000), (1, 1), (2, 2)].map(|(id, v)| pair(rows, id, v));
    let new = [(2_042, 6), (1, 999), (2, 1_000)].map(|(id, v)| pair(rows, id, v));
    ops.extend(old.into_iter().zip(new).map(|(old, new)| update(old, new)));
    of.extend([2_042, 1, 2]);
    let gone = pair(&mut sifted.rows, 3, 3);
    ops.push(RowOp::Delete(gone));
    of.push(3);
    sifted.ordered = numbered(&ops);
    sifted.held = vec![held(goal, 3, Some("another"))];
    let mut aside = Aside {
        rows: of,
        out: vec![held(goal, 4, None)],
        ..Aside::default()
    };
    let applied = applier.apply_sifted(&sifted, &mut aside).await;
    let applied = applied.expect("a batch is sifted");
    assert_eq!(applied.durable, sifted.position);
    let counts = applied.counts.first().expect("one table was counted");
    assert_eq!((counts.inserts, counts.updates, counts.deletes), (99, 1, 1));
    let refused: Vec<_> = aside
        .refused
        .iter()
        .map(|(id, error)| (*id, error.kind(), error.is_of_row()))
        .collect();
    assert_eq!(refused, [(2_042, Kind::Data, true), (2, Kind::Data, true)]);
    assert_eq!(aside.deferred, [2_042]);
    assert_eq!(goal.sql("SELECT count(*) FROM t WHERE id >= 2000"), "99");
    let few = goal.sql("SELECT id, v FROM t WHERE id < 5 ORDER BY id");
    assert_eq!(
        few.replace('\t', ":").replace('\n', " "),
        "0:0 1:999 2:2 4:4"
    );
    let numbers = async || {
        there(false)
            .await
            .iter()
            .map(|held| held.number)
            .collect::<Vec<_>>()
    };
    assert_eq!(numbers().await, [1, 2, 3, 4]);

    // One in which nothing is bad, in two parts; what is not committed is not there.
    for whole in [false, true] {
        let mut good = batch(3);
        let row = pair(&mut good.rows, 3_000, 1);
        good.ordered = numbered(&[RowOp::Insert(row)]);
        good.held = vec![held(goal, 5, None)];
        good.freed = vec![1, 4];
        good.position.take_if(|_| !whole);
        let mut aside = Aside {
            rows: vec![3_000],
            ..Aside::default()
        };
        let applied = applier.apply_sifted(&good, &mut aside).await;
        let applied = applied.expect("a good batch is sifted");
        assert_eq!(applied.durable, good.position);
        assert_eq!(aside.refused.len(), 0);
        if !whole {
            assert_eq!(numbers().await, [1, 2, 3, 4]);
            drop(applier);
            applier = goal.applier(&plan, &owner).await;
        }
    }
    assert_eq!(numbers().await, [2, 3, 5]);

    // What only leaves; what a TRUNCATE takes along.
    let mut leaves = batch(4);
    leaves.freed = vec![3];
    apply(applier.as_mut(), &leaves).await;
    assert_eq!(numbers().await, [2, 5]);
    let mut truncated = batch(5);
    let bad = pair(&mut truncated.rows, 9, 5_000);
    let also = pair(&mut truncated.rows, 9, 5_000);
    truncated.ordered = numbered(&[RowOp::Insert(bad), RowOp::Truncate, RowOp::Insert(also)]);
    truncated.emptied = vec![(0, 0)];
    let mut aside = Aside {
        rows: vec![9, 0, 9],
        out: vec![held(goal, 6, Some("again"))],
        ..Aside::default()
    };
    let applied = applier.apply_sifted(&truncated, &mut aside).await;
    applied.expect("a truncated table is sifted");
    assert_eq!((aside.refused.len(), aside.emptied), (2, 1));
    assert_eq!(numbers().await, [6]);
    assert_eq!(goal.sql("SELECT count(*) FROM t"), "0");

    // A table that is to be loaded again has nothing in quarantine, and neither has a task that is gone.
    applier
        .load_again(&[0], true)
        .await
        .expect("a load is given up");
    assert!(numbers().await.is_empty());
    let mut more = batch(6);
    more.held = vec![held(goal, 7, None)];
    apply(applier.as_mut(), &more).await;
    assert_eq!(numbers().await, [7]);
    drop(applier);
    target
        .forget(&goal.key)
        .await
        .expect("a position is forgotten");
    assert!(numbers().await.is_empty());
    target.release(&goal.key).await.expect("a task is removed");
    let nothing = target.held(&goal.key, true).await;
    assert_eq!(nothing.expect("a task that is gone"), []);
}
