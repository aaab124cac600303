//! Rows that the target refuses, among others that it takes.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use thalweg_core::batch::{ApplyBatch, FoldedTable, Net, RowOp, TableOp};
use thalweg_core::mapping::{ExistingRows, ForeignKeys, Mapping, TaskOptions};
use thalweg_core::plan::{Plan, TablePair};
use thalweg_core::ports::{Loader, Sift};
use thalweg_core::position::Position;
use thalweg_core::quarantine::Held;
use thalweg_core::schema::{ColumnType, TableName};
use thalweg_core::value::{CellRef, RowBatch};
use thalweg_core::{Error, Kind, Result};

use crate::target_quarantine::{APPLIED, ROWS, held, lie_there, short_texts};
use crate::target_world::{Goal, at, column, int, ordered, planned, row, says, source, whole};

/// Puts aside the rows that are refused, and what follows of them. An operation's origin is the key of
/// its row.
#[derive(Default)]
struct Aside {
    waiting: BTreeSet<(usize, u32)>,
    out: Vec<Held>,
    emptied: u32,
    /// Changes that were put aside.
    put: i64,
}

impl Aside {
    fn put(&mut self, op: &TableOp, error: Option<Error>) {
        self.waiting.insert((op.feed, op.origin));
        self.put += 1;
        let number = i64::from(op.origin) * 100 + self.put;
        self.out.push(Held {
            error: error.map(|error| error.message().to_owned()),
            ..held(number, "t")
        });
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
        op.op != RowOp::Truncate && self.waiting.contains(&(op.feed, op.origin))
    }

    fn defer(&mut self, op: &TableOp) -> Result<()> {
        self.put(op, None);
        Ok(())
    }

    fn refused(&mut self, op: &TableOp, error: Error) -> Result<()> {
        self.put(op, Some(error));
        Ok(())
    }

    fn emptied(&mut self, op: &TableOp) {
        self.emptied += 1;
        self.waiting.retain(|(feed, _)| *feed != op.feed);
        self.out.clear();
    }

    fn take(&mut self) -> Vec<Held> {
        std::mem::take(&mut self.out)
    }
}

/// One operation of a test: keys and texts.
#[derive(Clone, Copy)]
pub(crate) enum Op {
    Insert(u32, &'static str),
    Update(u32, &'static str),
    Delete(u32),
    Truncate,
}
use Op::{Delete, Insert, Truncate, Update};

/// A batch of these operations on a table of a number and a text; with its net effect, if each row is
/// changed once.
pub(crate) fn batch(ops: &[Op], position: Option<Position>) -> ApplyBatch {
    let mut batch = ApplyBatch {
        position,
        ..ApplyBatch::default()
    };
    let mut folded = FoldedTable::default();
    let mut keys = BTreeSet::new();
    let mut add = |id: u32, v: &str| {
        keys.insert(id);
        let cells = [CellRef::I64(id.into()), CellRef::Text(v)];
        row(&mut batch.rows, &cells)
    };
    let mut all = Vec::new();
    for op in ops {
        let (origin, op) = match *op {
            Insert(id, v) => {
                let row = add(id, v);
                folded.inserts.push(row);
                (id, RowOp::Insert(row))
            }
            Update(id, v) => {
                let after = add(id, v);
                folded.updates.push((after, after));
                let before = after;
                (id, RowOp::Update { before, after })
            }
            Delete(id) => {
                let row = add(id, "");
                folded.deletes.push(row);
                (id, RowOp::Delete(row))
            }
            Truncate => (0, RowOp::Truncate),
        };
        let mut op = ordered(&[op]);
        op[0].origin = origin;
        all.append(&mut op);
    }
    batch.ordered = all;
    // One that is changed twice, or a TRUNCATE, has none.
    batch.folded = (keys.len() == ops.len()).then(|| vec![Net::Folded(folded)]);
    batch
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_goes_aside_and_what_follows_it_waits() {
    let goal = Goal::new();
    let plan = short_texts(&goal, "").await;
    let mut applier = goal.applier(&plan).await;
    // By row, and in bulk: as row events and by statements.
    for many in [5, 40, 400] {
        let mut sift = Aside::default();
        let value = |id| {
            if id == 3 || id == many {
                "much too long"
            } else {
                "ok"
            }
        };
        let first: Vec<Op> = (1..=many).map(|id| Insert(id, value(id))).collect();
        let applied = applier
            .apply_sifted(&batch(&first, at(many)), &mut sift)
            .await
            .unwrap();
        assert_eq!(applied.durable, at(many));
        let counts = applied.counts[0];
        let (inserts, drift) = (counts.inserts, counts.repaired + counts.missing);
        assert_eq!((inserts, drift), (u64::from(many) - 2, 0), "{many}");
        let refused = (i64::from(many) * 100 + 2, true);
        assert_eq!(lie_there(&goal).await, [(301, true), refused], "{many}");
        let error = goal
            .target
            .held(&goal.key, false)
            .await
            .unwrap()
            .remove(0)
            .error;
        assert!(error.unwrap().contains("1406, column v"));
        // Values that it would take.
        let ops = [
            Update(3, "new"),
            Update(2, "two"),
            Delete(many),
            Insert(3, "x"),
            Delete(1),
        ];
        let applied = applier
            .apply_sifted(&batch(&ops, at(many + 1)), &mut sift)
            .await
            .unwrap();
        let counts = applied.counts[0];
        assert_eq!((counts.inserts, counts.updates, counts.deletes), (0, 1, 1));
        assert_eq!((counts.repaired, counts.missing), (0, 0));
        assert_eq!(goal.sql(APPLIED), (many + 1).to_string());
        let left = "SELECT concat(count(*), ' ', sum(v = 'two'), ' ', min(id)) FROM t";
        assert_eq!(goal.sql(left), format!("{} 1 2", many - 3));
        let all = lie_there(&goal).await;
        assert_eq!(all.iter().filter(|(_, refused)| *refused).count(), 2);
        assert_eq!(all.len(), 5);
        // Whatever waits goes with all other rows.
        let mut truncated = batch(&[Truncate, Insert(3, "x")], at(many + 2));
        truncated.emptied = vec![(0, 0)];
        let applied = applier.apply_sifted(&truncated, &mut sift).await.unwrap();
        assert_eq!(
            (applied.counts[0].inserts, applied.counts[0].deletes),
            (1, 1)
        );
        assert_eq!((goal.sql(ROWS).as_str(), sift.emptied), ("3:x", 1));
        assert_eq!(lie_there(&goal).await, []);
        // Also where nothing is refused.
        let truncated = batch(&[Truncate], at(many + 3));
        applier.apply_sifted(&truncated, &mut sift).await.unwrap();
        assert_eq!(sift.emptied, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_pass_each_other_unless_one_of_the_batch_is_refused() {
    let goal = Goal::new();
    let plan = short_texts(&goal, "UNIQUE").await;
    goal.sql("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')");
    let mut applier = goal.applier(&plan).await;
    let mut sift = Aside::default();
    let swap = batch(&[Update(1, "b"), Update(2, "a")], at(1));
    applier.apply_sifted(&swap, &mut sift).await.unwrap();
    assert_eq!(goal.sql(ROWS), "1:b 2:a 3:c");
    // Each for itself, none of them can be; nothing of them stays.
    let ops = [
        Update(1, "a"),
        Update(2, "b"),
        Insert(4, "long"),
        Update(3, "d"),
    ];
    let applied = applier
        .apply_sifted(&batch(&ops, at(2)), &mut sift)
        .await
        .unwrap();
    assert_eq!(goal.sql(ROWS), "1:b 2:a 3:d");
    assert_eq!(
        (applied.counts[0].updates, applied.counts[0].inserts),
        (1, 0)
    );
    assert_eq!(
        lie_there(&goal).await,
        [(101, true), (202, true), (403, true)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_waits_for_a_later_part_survives_one_that_is_refused() {
    let goal = Goal::new();
    let plan = short_texts(&goal, "UNIQUE").await;
    goal.sql("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')");
    let mut applier = goal.applier(&plan).await;
    let mut sift = Aside::default();
    let first = batch(&[Update(1, "b")], None);
    let applied = applier.apply_sifted(&first, &mut sift).await.unwrap();
    assert_eq!((applied.durable, applied.counts[0].updates), (None, 1));
    // 1 is out of the table; 3 is tried behind the savepoint before and after it.
    let ops = [Insert(4, "long"), Update(3, "b"), Update(2, "a")];
    let second = batch(&ops, at(1));
    applier.apply_sifted(&second, &mut sift).await.unwrap();
    assert_eq!(goal.sql(ROWS), "1:b 2:a 3:c");
    assert_eq!(lie_there(&goal).await, [(302, true), (401, true)]);
    // Where its place stays taken, the transaction cannot end.
    let first = batch(&[Update(1, "a")], None);
    applier.apply_sifted(&first, &mut sift).await.unwrap();
    let second = batch(&[Update(2, "long")], at(2));
    let error = applier.apply_sifted(&second, &mut sift).await.unwrap_err();
    says(&error, Kind::Data, "1062, key v", "unique value");
    drop(applier);
    assert_eq!(goal.sql(ROWS), "1:b 2:a 3:c");
    assert_eq!(goal.sql(APPLIED), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_fault_of_a_row_ends_the_batch() {
    let goal = Goal::new();
    let plan = short_texts(&goal, "").await;
    let mut applier = goal.applier(&plan).await;
    goal.sql("DROP TABLE t");
    let mut sift = Aside::default();
    let ops = batch(&[Insert(1, "a"), Insert(2, "b")], at(1));
    let error = applier.apply_sifted(&ops, &mut sift).await.unwrap_err();
    assert_ne!(error.kind(), Kind::Data, "{}", error.chain());
    assert!(sift.out.is_empty());
}

/// Two sources of one table: where the part of one is refused, the other's is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_of_one_table_are_sifted_by_themselves() {
    let goal = Goal::new();
    let plan = merged(&goal).await;
    let mut applier = goal.applier(&plan).await;
    let mut all = ApplyBatch {
        position: at(1),
        ..ApplyBatch::default()
    };
    let target = &plan.targets[0];
    let mut add = |feed: usize, id: u32, v: &str| {
        let cells = target
            .columns
            .iter()
            .enumerate()
            .map(|(at, c)| match c.name.as_str() {
                "id" => CellRef::I64(id.into()),
                _ if target.feeds[feed].columns.contains(&at) => CellRef::Text(v),
                _ => CellRef::Absent,
            });
        let cells: Vec<_> = cells.collect();
        all.ordered.push(TableOp {
            target: 0,
            feed,
            op: RowOp::Insert(row(&mut all.rows, &cells)),
            unchecked: false,
            origin: id,
        });
    };
    add(0, 1, "a1");
    add(0, 2, "long");
    add(1, 2, "b2");
    add(1, 3, "long");
    let mut sift = Aside::default();
    let applied = applier.apply_sifted(&all, &mut sift).await.unwrap();
    let rows = "SELECT group_concat(concat(id, ':', coalesce(a, '-'), coalesce(b, '-')) \
                ORDER BY id SEPARATOR ' ') FROM t";
    assert_eq!(goal.sql(rows), "1:a1- 2:-b2");
    assert_eq!(applied.counts[0].inserts, 2);
    assert_eq!(lie_there(&goal).await, [(201, true), (302, true)]);
    let mut loader = goal.loader(&plan).await;
    loader.begin(0, 0).await.unwrap();
    let error = loader.load_sifted(&all.rows).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Bug);
}

async fn merged(goal: &Goal) -> Arc<Plan> {
    goal.sql("CREATE TABLE t (id bigint PRIMARY KEY, a varchar(3), b varchar(3))");
    let name = TableName::new("shop", "t");
    let target = goal
        .target
        .describe(std::slice::from_ref(&name))
        .await
        .unwrap()
        .remove(0);
    let pairs = ["a", "b"].map(|own| {
        let text = ColumnType::Text { max_chars: Some(3) };
        let from = source(own, vec![column("id", int()), column(own, text)], &[]);
        TablePair {
            mapping: Mapping {
                id: own.into(),
                source: from.name.clone(),
                target: name.clone(),
                columns: Vec::new(),
            },
            source: Some(from),
            target: Some(target.clone()),
            create: false,
            rekey: false,
        }
    });
    planned(pairs.into(), TaskOptions::default())
}

/// Rows 0, 1 … with their numbers as texts, but those of `bad` with one that does not fit.
fn numbered(many: usize, bad: &BTreeSet<usize>) -> RowBatch {
    let mut rows = RowBatch::new();
    for n in 0..many {
        let text = format!("{n:x}");
        let v = if bad.contains(&n) {
            "much too long"
        } else {
            &text
        };
        let id = i64::try_from(n).unwrap();
        row(&mut rows, &[CellRef::I64(id), CellRef::Text(v)]);
    }
    rows
}

/// How many rows there are, the sum of their numbers, and how many have not their own text.
const NUMBERED: &str =
    "SELECT concat(count(*), ' ', sum(id), ' ', sum(conv(v, 16, 10) <> id)) FROM t";

async fn refused_are(goal: &Goal, bad: &BTreeSet<usize>) {
    let refused = bad.iter().map(|n| (i64::try_from(*n).unwrap(), true));
    assert_eq!(lie_there(goal).await, refused.collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_leaves_out_what_is_refused_and_nothing_else() {
    let goal = Goal::new();
    let plan = short_texts(&goal, "UNIQUE").await;
    let mut loader = goal.loader(&plan).await;
    // As several statements, of which the first is taken; as row events, as files, as one statement.
    for (many, bad) in [
        (4_000_usize, vec![2_300]),
        (1_000, vec![0, 3, 4, 999]),
        (100, vec![0, 3, 4, 99]),
        (7, vec![0, 3, 4, 6]),
    ] {
        let sum = (0..many).sum::<usize>() - bad.iter().sum::<usize>();
        let bad = bad.into_iter().collect();
        load(loader.as_mut(), &plan, &numbered(many, &bad), &bad).await;
        assert_eq!(goal.sql(NUMBERED), format!("{} {sum} 0", many - bad.len()));
        refused_are(&goal, &bad).await;
    }
    // Of two that are equal the second is refused; all of them; no row.
    for (value, many, bad) in [("ok", 2, vec![1]), ("long", 2, vec![0, 1]), ("", 0, vec![])] {
        let mut rows = RowBatch::new();
        for n in 0..many {
            row(&mut rows, &[CellRef::I64(n), CellRef::Text(value)]);
        }
        let bad = bad.into_iter().collect();
        load(loader.as_mut(), &plan, &rows, &bad).await;
        refused_are(&goal, &bad).await;
    }
}

/// Without its checks the server may insert into an empty table in a way that is taken back as a whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_loaded_without_checks_stays_when_others_are_refused() {
    let goal = Goal::new();
    short_texts(&goal, "").await;
    let options = TaskOptions {
        foreign_keys: ForeignKeys::Replica,
        ..TaskOptions::default()
    };
    let plan = goal.plan_into(&["t"], options).await;
    for many in [4_000_usize, 1_000, 100, 7] {
        goal.sql("TRUNCATE t");
        let mut loader = goal.loader(&plan).await;
        let bad = BTreeSet::from([many - 3]);
        load(loader.as_mut(), &plan, &numbered(many, &bad), &bad).await;
        let sum = (0..many).sum::<usize>() - (many - 3);
        assert_eq!(goal.sql(NUMBERED), format!("{} {sum} 0", many - 1));
    }
    let mut applier = goal.applier(&plan).await;
    for many in [400, 40, 5] {
        goal.sql("TRUNCATE t");
        let value = |id| if id == many { "much too long" } else { "ok" };
        let ops: Vec<Op> = (1..=many).map(|id| Insert(id, value(id))).collect();
        let mut sift = Aside {
            put: many.into(),
            ..Aside::default()
        };
        applier
            .apply_sifted(&batch(&ops, None), &mut sift)
            .await
            .unwrap();
        let next = batch(
            &[Insert(1_000, "a"), Insert(1_001, "much too long")],
            at(many),
        );
        applier.apply_sifted(&next, &mut sift).await.unwrap();
        let left = "SELECT concat(count(*), ' ', max(id)) FROM t";
        assert_eq!(goal.sql(left), format!("{many} 1000"));
    }
}

/// A statement that fails without its checks must not take the rows of those before it along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_met_without_checks_costs_no_other_row() {
    let goal = Goal::new();
    short_texts(&goal, "").await;
    for foreign_keys in [ForeignKeys::Enforce, ForeignKeys::Replica] {
        let options = TaskOptions {
            foreign_keys,
            ..TaskOptions::default()
        };
        let plan = goal.plan_into(&["t"], options).await;
        goal.sql("TRUNCATE t");
        let mut applier = goal.applier(&plan).await;
        let ops = [Insert(5, "e"), Insert(1, "a"), Insert(1, "b")];
        let applied = applier.apply(&batch(&ops, at(1))).await.unwrap();
        assert_eq!(applied.counts[0].repaired, 1);
        let rows = "SELECT group_concat(concat(id, ':', v) ORDER BY id SEPARATOR ' ') FROM t";
        assert_eq!(goal.sql(rows), "1:b 5:e", "{foreign_keys:?}");
    }
}

/// Loads these rows as all of the table, of which those are refused.
async fn load(loader: &mut dyn Loader, plan: &Plan, rows: &RowBatch, bad: &BTreeSet<usize>) {
    loader.begin(0, 0).await.unwrap();
    let print = plan.fingerprint(0);
    loader.empty(ExistingRows::Replace, &print).await.unwrap();
    let refused = loader.load_sifted(rows).await.unwrap();
    let put = refused.iter().map(|(at, error)| {
        says(error, Kind::Data, "a row of shop.t", "");
        Held {
            error: Some(error.message().to_owned()),
            ..held(i64::try_from(*at).unwrap(), "t")
        }
    });
    let put: Vec<_> = put.collect();
    assert_eq!(
        refused.iter().map(|(at, _)| *at).collect::<BTreeSet<_>>(),
        *bad
    );
    let chunk = whole(plan, 0, "1", rows.len() - bad.len());
    loader.commit(Some(&chunk), &put).await.unwrap();
}
