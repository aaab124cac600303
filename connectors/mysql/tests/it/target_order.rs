//! Rows that stand in each other's way, rows that are not whole, rows without a key.

use std::sync::Arc;

use thalweg_core::batch::{ApplyBatch, FoldedTable, Net, RowOp, TableCounts};
use thalweg_core::mapping::{ForeignKeys, TaskOptions};
use thalweg_core::plan::Plan;
use thalweg_core::schema::{Calendar, ColumnType};
use thalweg_core::value::{CellRef, Date, RowBatch};
use thalweg_core::{Kind, Side};

use crate::target_world::{Goal, at, column, int, ordered, pair, row, says, source};

/// One operation of a test: `+`, `-` or `~` with keys and values.
enum Op {
    Insert(i64, i64),
    Update((i64, i64), (i64, i64)),
    Delete(i64),
}
use Op::{Delete, Insert, Update};

/// A batch of these operations on a table of two integers, in commit order.
fn batch(ops: &[Op], position: u32) -> ApplyBatch {
    let mut batch = ApplyBatch {
        position: at(position),
        ..ApplyBatch::default()
    };
    let rows = &mut batch.rows;
    let ops: Vec<RowOp> = ops
        .iter()
        .map(|op| match *op {
            Insert(id, v) => RowOp::Insert(pair(rows, id, v)),
            Update((id, v), (to, new)) => RowOp::Update {
                before: pair(rows, id, v),
                after: pair(rows, to, new),
            },
            Delete(id) => RowOp::Delete(pair(rows, id, 0)),
        })
        .collect();
    batch.ordered = ordered(&ops);
    batch
}

const ROWS: &str = "SELECT group_concat(concat(id, ':', v, coalesce(concat(':', extra), '')) \
                    ORDER BY id SEPARATOR ' ') FROM t";

/// A table with a unique key and a column that is not mapped, with the rows 1:1:a, 2:2:b, 3:3:c.
async fn three(goal: &Goal, options: TaskOptions) -> Arc<Plan> {
    goal.sql(
        "CREATE TABLE t (id bigint PRIMARY KEY, v bigint UNIQUE, \
           extra varchar(10) DEFAULT 'new', twice bigint AS (v * 2) STORED); \
         INSERT INTO t (id, v, extra) VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c')",
    );
    goal.plan_columns(&[("t", &["id", "v"])], options).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_swap_pass_each_other_and_keep_what_is_not_mapped() {
    let goal = Goal::new();
    let plan = three(&goal, TaskOptions::default()).await;
    let mut applier = goal.applier(&plan).await;
    let cases: [(&[Op], &str); 6] = [
        // Unique values.
        (
            &[Update((1, 1), (1, 2)), Update((2, 2), (2, 1))],
            "1:2:a 2:1:b 3:3:c",
        ),
        // Keys, and back to where it began.
        (
            &[Update((1, 2), (2, 2)), Update((2, 1), (1, 1))],
            "1:1:b 2:2:a 3:3:c",
        ),
        // In a ring.
        (
            &[
                Update((1, 1), (1, 2)),
                Update((2, 2), (2, 3)),
                Update((3, 3), (3, 1)),
            ],
            "1:2:b 2:3:a 3:1:c",
        ),
        // A parked row changes again; a new one waits for the value of one that goes.
        (
            &[
                Update((1, 2), (1, 3)),
                Insert(4, 1),
                Update((1, 3), (1, 30)),
                Delete(3),
            ],
            "1:30:b 2:3:a 4:1:new",
        ),
        // A parked row goes.
        (
            &[Update((1, 30), (1, 3)), Delete(1), Update((2, 3), (2, 2))],
            "2:2:a 4:1:new",
        ),
        // A parked row is moved to another key.
        (
            &[
                Update((2, 2), (2, 1)),
                Update((2, 1), (5, 1)),
                Update((4, 1), (4, 2)),
            ],
            "4:2:new 5:1:a",
        ),
    ];
    for (n, (ops, expected)) in cases.into_iter().enumerate() {
        let position = u32::try_from(n).unwrap();
        let applied = applier.apply(&batch(ops, position)).await.unwrap();
        assert_eq!(goal.sql(ROWS), expected, "case {n}");
        let TableCounts {
            repaired, missing, ..
        } = applied.counts[0];
        assert_eq!((repaired, missing), (0, 0), "case {n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_over_several_parts_is_whole_at_the_end() {
    let goal = Goal::new();
    let plan = three(&goal, TaskOptions::default()).await;
    let mut applier = goal.applier(&plan).await;
    let mut first = batch(&[Update((1, 1), (1, 2))], 1);
    first.position = None;
    applier.apply(&first).await.unwrap();
    // As many as are applied in bulk, so that the parked row is seen there too.
    let mut many: Vec<Op> = (10..30).map(|n| Insert(n, n)).collect();
    many.push(Update((2, 2), (2, 1)));
    let mut second = batch(&many, 1);
    let mut folded = FoldedTable::default();
    for op in &second.ordered {
        match op.op {
            RowOp::Insert(row) => folded.inserts.push(row),
            RowOp::Update { before, after } => folded.updates.push((before, after)),
            _ => {}
        }
    }
    second.folded = Some(vec![Net::Folded(folded)]);
    applier.apply(&second).await.unwrap();
    let rows = goal.sql(ROWS);
    assert!(rows.starts_with("1:2:a 2:1:b 3:3:c 10:10:new"), "{rows}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_stays_taken_stops_the_task() {
    let goal = Goal::new();
    let plan = three(&goal, TaskOptions::default()).await;
    for ops in [
        &[Update((1, 1), (1, 2))][..],
        &[Insert(9, 2)],
        &[Update((9, 9), (9, 2))],
    ] {
        let mut applier = goal.applier(&plan).await;
        let error = applier.apply(&batch(ops, 1)).await.unwrap_err();
        says(&error, Kind::Data, "shop.t (1062, key v)", "unique value");
        drop(applier);
        assert_eq!(goal.sql(ROWS), "1:1:a 2:2:b 3:3:c");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_row_is_parked_where_that_would_do_more() {
    let goal = Goal::new();
    let plan = three(&goal, TaskOptions::default()).await;
    let swap = || batch(&[Update((1, 1), (1, 2)), Update((2, 2), (2, 1))], 1);
    goal.sql(
        "CREATE TABLE child (id bigint PRIMARY KEY, t bigint, \
           FOREIGN KEY (t) REFERENCES t (id) ON DELETE CASCADE); INSERT INTO child VALUES (1, 1)",
    );
    let mut applier = goal.applier(&plan).await;
    let error = applier.apply(&swap()).await.unwrap_err();
    says(&error, Kind::Data, "exchange a unique value", "replica");
    drop(applier);
    assert_eq!(goal.sql("SELECT count(*) FROM child"), "1");
    // A key that refuses is told by the server.
    goal.sql(
        "DROP TABLE child; CREATE TABLE child (id bigint PRIMARY KEY, t bigint, \
           FOREIGN KEY (t) REFERENCES t (id)); INSERT INTO child VALUES (1, 1)",
    );
    let mut applier = goal.applier(&plan).await;
    let error = applier.apply(&swap()).await.unwrap_err();
    says(&error, Kind::Data, "1451, constraint child", "replica");
    drop(applier);
    let replica = TaskOptions {
        foreign_keys: ForeignKeys::Replica,
        ..TaskOptions::default()
    };
    let mut freely = Plan::clone(&plan);
    freely.options = replica;
    let freely = Arc::new(freely);
    let mut applier = goal.applier(&freely).await;
    applier.apply(&swap()).await.unwrap();
    assert_eq!(goal.sql(ROWS), "1:2:a 2:1:b 3:3:c");
    assert_eq!(goal.sql("SELECT t FROM child"), "1");
    goal.sql("DROP TABLE child; CREATE TRIGGER gone BEFORE DELETE ON t FOR EACH ROW SET @a = 1");
    let mut applier = goal.applier(&freely).await;
    let back = batch(&[Update((1, 2), (1, 1)), Update((2, 1), (2, 2))], 2);
    let error = applier.apply(&back).await.unwrap_err();
    says(&error, Kind::Data, "delete triggers", "drop the triggers");
}

/// Whoever adds a unique key while the task runs must not have rows of others overwritten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unique_key_added_meanwhile_is_no_way_to_another_row() {
    let goal = Goal::new();
    goal.sql("CREATE TABLE t (id bigint PRIMARY KEY, v bigint); INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)");
    let plan = goal.plan_into(&["t"], TaskOptions::default()).await;
    let mut applier = goal.applier(&plan).await;
    let many = |from: i64, v: i64| -> ApplyBatch {
        let ops: Vec<Op> = (1..=3).map(|n| Update((n, n), (n, v + n))).collect();
        let again: Vec<Op> = (1..=9).map(|_| Update((from, 0), (from, 7))).collect();
        let mut batch = batch(&[ops, again].into_iter().flatten().collect::<Vec<_>>(), 1);
        let mut folded = FoldedTable::default();
        for op in batch.ordered.iter().take(3) {
            if let RowOp::Update { before, after } = op.op {
                folded.updates.push((before, after));
            }
        }
        batch.folded = Some(vec![Net::Folded(folded)]);
        batch
    };
    // In bulk, by overwriting.
    applier.apply(&many(1, 0)).await.unwrap();
    let values = "SELECT group_concat(concat(id, ':', v) ORDER BY id SEPARATOR ' ') FROM t";
    assert_eq!(goal.sql(values), "1:1 2:2 3:3");
    goal.sql(
        "ALTER TABLE t ADD UNIQUE (v); DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (9, 13)",
    );
    let error = applier.apply(&many(1, 10)).await.unwrap_err();
    says(&error, Kind::Data, "1062, key v", "unique value");
    drop(applier);
    assert_eq!(goal.sql(values), "1:1 2:2 9:13");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_that_leave_cells_out_keep_the_targets_values() {
    let goal = Goal::new();
    // A column that the server changes by itself must not be.
    goal.sql(
        "CREATE TABLE t (id bigint PRIMARY KEY, a bigint, b varchar(10), \
           at timestamp(6) NOT NULL DEFAULT '2000-01-01' ON UPDATE current_timestamp(6), c bigint)",
    );
    let plan = goal.plan_into(&["t"], TaskOptions::default()).await;
    let mut applier = goal.applier(&plan).await;
    for bulk in [false, true] {
        goal.sql("DELETE FROM t; INSERT INTO t SELECT seq, seq, 'old', '2001-01-01', seq FROM seq_1_to_40");
        let mut batch = ApplyBatch {
            position: at(1),
            ..ApplyBatch::default()
        };
        let mut folded = FoldedTable::default();
        let mut ops = Vec::new();
        for id in 1..=40 {
            let rows = &mut batch.rows;
            let (id, none) = (CellRef::I64(id), CellRef::Absent);
            let before = row(rows, &[id, none, none, none, none]);
            let after = match before % 4 {
                0 => [id, CellRef::I64(-1), CellRef::Unchanged, none, none],
                _ => [id, none, CellRef::Text("new"), none, CellRef::Null],
            };
            let after = row(rows, &after);
            folded.updates.push((before, after));
            ops.push(RowOp::Update { before, after });
        }
        batch.ordered = ordered(&ops);
        batch.folded = bulk.then(|| vec![Net::Folded(folded)]);
        let counts = applier.apply(&batch).await.unwrap().counts[0];
        assert_eq!(
            (counts.updates, counts.missing, counts.repaired),
            (40, 0, 0)
        );
        let kinds = "SELECT group_concat(DISTINCT concat(a = -1, b, coalesce(c = id, 'NULL'), \
                     date(at)) ORDER BY 1 SEPARATOR ' ') FROM t";
        assert_eq!(
            goal.sql(kinds),
            "0newNULL2001-01-01 1old12001-01-01",
            "bulk {bulk}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partial_images_of_missing_rows_are_counted() {
    let goal = Goal::new();
    let plan = goal.plan(vec![source(
        "t",
        vec![column("id", int()), column("a", int()), column("b", int())],
        &[],
    )]);
    for bulk in [false, true] {
        let mut applier = goal.applier(&plan).await;
        let mut batch = ApplyBatch {
            position: at(1),
            ..ApplyBatch::default()
        };
        let mut folded = FoldedTable::default();
        let mut ops = Vec::new();
        for id in 0..20 {
            let (id, one) = (CellRef::I64(id), CellRef::I64(1));
            let (old, new) = match id {
                CellRef::I64(7) => (CellRef::Absent, one),
                CellRef::I64(8) => (one, CellRef::Unchanged),
                _ => (CellRef::Absent, CellRef::Unchanged),
            };
            let before = row(&mut batch.rows, &[id, one, old]);
            let after = row(&mut batch.rows, &[id, one, new]);
            folded.updates.push((before, after));
            ops.push(RowOp::Update { before, after });
        }
        batch.ordered = ordered(&ops);
        batch.folded = bulk.then(|| vec![Net::Folded(folded)]);
        let counts = applier.apply(&batch).await.unwrap().counts[0];
        // What is whole, or with the image before it, is inserted; what the others leave out nobody
        // knows.
        assert_eq!((counts.missing, counts.repaired), (18, 2), "bulk {bulk}");
        assert_eq!(goal.sql("SELECT sum(b) FROM t"), "2");
        goal.sql("DELETE FROM t");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_without_a_key_are_found_by_all_they_hold() {
    let goal = Goal::new();
    goal.sql(
        "CREATE TABLE t (a varchar(10) COLLATE utf8mb4_general_ci, f float, d date, b varbinary(5), \
           e enum('x','y'), g geometry, k char(5), j json) CHARACTER SET utf8mb4; \
         INSERT INTO t VALUES ('A', 0.1, '2001-01-01', 'z', 'x', ST_GeomFromText('POINT(1 2)'), 'c', '1')",
    );
    let plan = goal.plan_into(&["t"], TaskOptions::default()).await;
    assert!(plan.targets[0].key.is_empty());
    let mut applier = goal.applier(&plan).await;
    let date = CellRef::Date(Date {
        year: 2001,
        month: 1,
        day: 1,
    });
    let mut point = vec![0, 0, 0, 0, 1, 1, 0, 0, 0];
    point.extend(1_f64.to_le_bytes());
    point.extend(2_f64.to_le_bytes());
    let cells = |a: &'static str, b: &'static [u8]| {
        [
            CellRef::Text(a),
            CellRef::F32(0.1),
            date,
            CellRef::Bytes(b),
            CellRef::Text("x"),
            CellRef::Bytes(&point),
            CellRef::Text("c"),
            CellRef::Json("1"),
        ]
    };
    let nulls = [CellRef::Null; 8];
    let mut batch = ApplyBatch {
        position: at(1),
        ..ApplyBatch::default()
    };
    let rows = &mut batch.rows;
    let ops = [
        // Equal to the row there for its collation, and not the same.
        RowOp::Delete(row(rows, &cells("a", b"z"))),
        RowOp::Delete(row(rows, &cells("A ", b"z"))),
        RowOp::Delete(row(rows, &cells("A", b"z\0"))),
        // Twice the same, of which one goes.
        RowOp::Insert(row(rows, &cells("a", b"z"))),
        RowOp::Insert(row(rows, &cells("a", b"z"))),
        RowOp::Delete(row(rows, &cells("a", b"z"))),
        RowOp::Insert(row(rows, &nulls)),
        RowOp::Insert(row(rows, &nulls)),
        RowOp::Update {
            before: row(rows, &nulls),
            after: row(rows, &cells("n", b"")),
        },
        RowOp::Update {
            before: row(rows, &cells("A", b"z")),
            after: row(rows, &cells("Ä", b"y")),
        },
    ];
    batch.ordered = ordered(&ops);
    let counts = applier.apply(&batch).await.unwrap().counts[0];
    assert_eq!((counts.missing, counts.repaired), (3, 0));
    let rows =
        "SELECT group_concat(coalesce(concat(a, b), 'NULL') ORDER BY 1 SEPARATOR ' ') FROM t";
    assert_eq!(goal.sql(rows), "NULL az n Äy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_key_columns_only_are_followed() {
    let goal = Goal::new();
    let columns = vec![
        column("id", int()),
        column(
            "at",
            ColumnType::Timestamp {
                calendar: Calendar::Lenient,
                precision: 6,
            },
        ),
    ];
    let mut all_key = source("t", columns, &[]);
    all_key.primary_key = vec![0, 1];
    all_key.columns[1].nullable = false;
    let plan = goal.plan(vec![all_key]);
    let day = |n: i64| {
        let date = Date {
            year: 2001,
            month: 2,
            day: 31,
        };
        CellRef::Timestamp(date, n)
    };
    for bulk in [false, true] {
        let mut applier = goal.applier(&plan).await;
        let mut batch = ApplyBatch {
            position: at(1),
            ..ApplyBatch::default()
        };
        let (mut folded, mut ops) = (FoldedTable::default(), Vec::new());
        let mut rows = RowBatch::new();
        for id in 0..20 {
            let new = row(&mut rows, &[CellRef::I64(id), day(id)]);
            folded.inserts.push(new);
            ops.push(RowOp::Insert(new));
        }
        batch.rows = rows.clone();
        batch.ordered = ordered(&ops);
        batch.folded = bulk.then(|| vec![Net::Folded(folded)]);
        applier.apply(&batch).await.unwrap();
        let (mut folded, mut ops) = (FoldedTable::default(), Vec::new());
        for id in 0..20 {
            let old = row(&mut rows, &[CellRef::I64(id), day(id)]);
            if id % 2 == 0 {
                folded.deletes.push(old);
                ops.push(RowOp::Delete(old));
            } else {
                let new = row(&mut rows, &[CellRef::I64(id), day(-id + 100)]);
                folded.updates.push((old, new));
                ops.push(RowOp::Update {
                    before: old,
                    after: new,
                });
            }
        }
        batch.rows = rows;
        batch.ordered = ordered(&ops);
        batch.folded = bulk.then(|| vec![Net::Folded(folded)]);
        let counts = applier.apply(&batch).await.unwrap().counts[0];
        assert_eq!((counts.missing, counts.repaired), (0, 0), "bulk {bulk}");
        let left = "SELECT concat(count(*), ' ', sum(microsecond(at)), ' ', min(date(at))) FROM t";
        assert_eq!(goal.sql(left), "10 900 2001-02-31", "bulk {bulk}");
        goal.sql("DELETE FROM t");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncate_empties_and_a_replaced_row_is_a_new_one() {
    let goal = Goal::new();
    let plan = three(&goal, TaskOptions::default()).await;
    let mut applier = goal.applier(&plan).await;
    // Deleted and inserted in one batch: what is not mapped is at its default again.
    let mut ops = vec![Delete(1), Insert(1, 10)];
    ops.extend((20..30).map(|n| Insert(n, n)));
    let mut replace = batch(&ops, 1);
    let mut folded = FoldedTable::default();
    for op in &replace.ordered {
        match op.op {
            RowOp::Insert(row) => folded.inserts.push(row),
            RowOp::Delete(row) => folded.deletes.push(row),
            _ => {}
        }
    }
    replace.folded = Some(vec![Net::Folded(folded)]);
    applier.apply(&replace).await.unwrap();
    assert!(goal.sql(ROWS).starts_with("1:10:new 2:2:b 3:3:c 20:20:new"));
    let mut empty = batch(&[Insert(1, 1)], 2);
    empty.ordered.insert(0, ordered(&[RowOp::Truncate])[0]);
    empty.folded = Some(vec![Net::InOrder(0)]);
    applier.apply(&empty).await.unwrap();
    assert_eq!(goal.sql(ROWS), "1:1:new");
}

/// What the source's keys do by themselves is done here, over levels, where no key of the target does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_follow_foreign_keys_that_the_target_does_not_have() {
    use thalweg_core::batch::TableOp;
    use thalweg_core::plan::Cascade;
    use thalweg_core::schema::ReferenceAction::{Cascade as Along, SetNull};
    let goal = Goal::new();
    goal.sql(
        "CREATE TABLE a (id bigint PRIMARY KEY, of bigint); \
         CREATE TABLE b (id bigint PRIMARY KEY, of bigint); \
         CREATE TABLE c (id bigint PRIMARY KEY, of bigint)",
    );
    let plan = goal
        .plan_into(&["a", "b", "c"], TaskOptions::default())
        .await;
    let mut plan = Plan::clone(&plan);
    let index = |name: &str| {
        plan.targets
            .iter()
            .position(|t| t.name.name == name)
            .unwrap()
    };
    let (a, b, c) = (index("a"), index("b"), index("c"));
    let link = |parent, child, column, on_delete, on_update| Cascade {
        parent,
        parent_columns: vec![column],
        child,
        columns: vec![1],
        on_delete,
        on_update,
        derived: true,
        enforced: false,
        logged: false,
    };
    plan.cascades = vec![
        // b.of is of a.id, c.of is of b.of, and a.of is of a.id: a tree.
        link(a, b, 0, Along, Along),
        link(b, c, 1, SetNull, Along),
        link(a, a, 0, Along, SetNull),
    ];
    let plan = Arc::new(plan);
    let mut applier = goal.applier(&plan).await;
    let fill = "DELETE FROM a; DELETE FROM b; DELETE FROM c; \
                INSERT INTO a VALUES (1, NULL), (2, 1), (3, 2), (9, NULL); \
                INSERT INTO b VALUES (10, 1), (30, 3), (90, 9); \
                INSERT INTO c VALUES (100, 1), (300, 3), (900, 9)";
    let rows = "SELECT group_concat(concat(t, id, ':', coalesce(of, '-')) ORDER BY t, id SEPARATOR ' ') \
                FROM (SELECT 'a' t, a.* FROM a UNION ALL SELECT 'b', b.* FROM b \
                  UNION ALL SELECT 'c', c.* FROM c) x";
    let mut apply = async |op: fn(&mut RowBatch) -> RowOp, unchecked: bool| {
        goal.sql(fill);
        let mut batch = ApplyBatch {
            position: at(1),
            ..ApplyBatch::default()
        };
        let op = op(&mut batch.rows);
        batch.ordered = vec![TableOp {
            target: a,
            feed: 0,
            op,
            unchecked,
            origin: 0,
        }];
        if unchecked {
            batch.kept = vec![a, b, c];
        }
        let counts = applier.apply(&batch).await.unwrap().counts[a];
        assert_eq!((counts.missing, counts.repaired), (0, 0));
        goal.sql(rows)
    };
    let gone: fn(&mut RowBatch) -> RowOp = |rows| RowOp::Delete(pair(rows, 1, 0));
    let moved: fn(&mut RowBatch) -> RowOp = |rows| RowOp::Update {
        before: pair(rows, 1, 0),
        after: row(rows, &[CellRef::I64(7), CellRef::Unchanged]),
    };
    assert_eq!(apply(gone, false).await, "a9:- b90:9 c100:- c300:- c900:9");
    let with = "a2:- a3:2 a7:- a9:- b10:7 b30:3 b90:9 c100:7 c300:3 c900:9";
    assert_eq!(apply(moved, false).await, with);
    // The source did it with its keys off.
    let without = "a2:1 a3:2 a9:- b10:1 b30:3 b90:9 c100:1 c300:3 c900:9";
    assert_eq!(apply(gone, true).await, without);
    // By which value children are found, an image may not say.
    let mut batch = ApplyBatch {
        position: at(1),
        ..ApplyBatch::default()
    };
    let gone = row(&mut batch.rows, &[CellRef::I64(10), CellRef::Absent]);
    batch.ordered = vec![TableOp {
        target: b,
        feed: 0,
        op: RowOp::Delete(gone),
        unchecked: false,
        origin: 0,
    }];
    let error = applier.apply(&batch).await.unwrap_err();
    let hint = error.hint().unwrap_or_default();
    assert_eq!(
        (error.kind(), error.side()),
        (Kind::Data, Some(Side::Source))
    );
    assert!(
        error.message().contains("old value of column of"),
        "{error}"
    );
    assert!(hint.contains("binlog_row_image"), "{hint}");
}
