//! Loading, applying, fencing, going Live.

use std::sync::Arc;

use thalweg_core::Kind;
use thalweg_core::batch::{ApplyBatch, FoldedTable, Net, RowOp, TableOp};
use thalweg_core::checkpoint::TablePhase;
use thalweg_core::plan::Plan;
use thalweg_core::position::Position;
use thalweg_core::schema::{Calendar, ColumnType, ForeignKey, ReferenceAction, TableName};
use thalweg_core::value::{CellRef, Date, DecimalRef, Interval, RowBatch};

use crate::world::{World, column, load_whole, pair, plan, source, whole};

fn int() -> ColumnType {
    ColumnType::Int {
        bits: 64,
        unsigned: false,
    }
}

fn two_columns(world: &World, unique: &[usize]) -> Arc<Plan> {
    let columns = vec![column("id", int()), column("v", int())];
    plan(world, vec![source("t", columns, unique)])
}

fn ordered(ops: &[RowOp]) -> Vec<TableOp> {
    ops.iter()
        .map(|&op| TableOp {
            target: 0,
            feed: 0,
            op,
            unchecked: false,
        })
        .collect()
}

fn at(number: u32) -> Option<Position> {
    Some(Position::new(number.to_string()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_arrives_as_it_is() {
    let world = World::new();
    let date = Date {
        year: 2024,
        month: 2,
        day: 29,
    };
    let dec = |negative, scale, digits| {
        CellRef::Decimal(DecimalRef::Finite {
            negative,
            scale,
            digits,
        })
    };
    let numeric = |p, s| ColumnType::Decimal {
        precision: Some(p),
        scale: Some(s),
        special: true,
    };
    let cases: Vec<(ColumnType, CellRef<'_>, &str)> = vec![
        (ColumnType::Bool, CellRef::Bool(true), "t"),
        (
            ColumnType::Int {
                bits: 16,
                unsigned: false,
            },
            CellRef::I64(-32_768),
            "-32768",
        ),
        (
            ColumnType::Int {
                bits: 32,
                unsigned: false,
            },
            CellRef::I64(2_147_483_647),
            "2147483647",
        ),
        (int(), CellRef::I64(i64::MIN), "-9223372036854775808"),
        (
            numeric(20, 0),
            dec(false, 0, b"18446744073709551615"),
            "18446744073709551615",
        ),
        (numeric(10, 4), dec(true, 4, b"12"), "-0.0012"),
        (numeric(10, 4), dec(false, 4, b"123456789"), "12345.6789"),
        (numeric(10, 1), dec(false, 1, b"0"), "0.0"),
        (
            numeric(65, 30),
            dec(false, 30, b"1"),
            "0.000000000000000000000000000001",
        ),
        (
            numeric(65, 0),
            dec(true, 0, b"10000000000000000"),
            "-10000000000000000",
        ),
        (
            ColumnType::Float32 { special: true },
            CellRef::F32(0.1),
            "0.1",
        ),
        (
            ColumnType::Float64 { special: true },
            CellRef::F64(-0.0),
            "-0",
        ),
        (
            ColumnType::Float64 { special: true },
            CellRef::F64(f64::MAX),
            "1.7976931348623157e+308",
        ),
        (
            ColumnType::Text { max_chars: None },
            CellRef::Text("žluť"),
            "žluť",
        ),
        (
            ColumnType::Text { max_chars: Some(3) },
            CellRef::Text("a "),
            "a ",
        ),
        (
            ColumnType::Bytes { max_bytes: None },
            CellRef::Bytes(b"\0\xff"),
            "\\x00ff",
        ),
        (
            ColumnType::Date {
                calendar: Calendar::Real,
            },
            CellRef::Date(date),
            "2024-02-29",
        ),
        (
            ColumnType::Timestamp {
                precision: 6,
                calendar: Calendar::Real,
            },
            CellRef::Timestamp(date, 1),
            "2024-02-29 00:00:00.000001",
        ),
        (
            ColumnType::Instant {
                precision: 6,
                calendar: Calendar::Real,
            },
            CellRef::Instant(-1),
            "1969-12-31 23:59:59.999999+00",
        ),
        (
            ColumnType::Interval,
            CellRef::Interval(Interval {
                months: 0,
                days: 0,
                micros: -3_020_399_000_000,
            }),
            "-838:59:59",
        ),
        (
            ColumnType::Uuid,
            CellRef::Uuid([0x11; 16]),
            "11111111-1111-1111-1111-111111111111",
        ),
        (
            ColumnType::Json { normalised: false },
            CellRef::Json("{\"b\": 1, \"a\":2}"),
            "{\"b\": 1, \"a\":2}",
        ),
        (int(), CellRef::Null, "(null)"),
    ];
    let mut columns = vec![column("id", int())];
    columns.extend(
        cases
            .iter()
            .enumerate()
            .map(|(n, c)| column(&format!("C {n}\""), c.0.clone())),
    );
    let plan = plan(&world, vec![source("Every \"type\"", columns, &[])]);
    let claim = world.claim(&plan).await;
    let mut rows = RowBatch::new();
    for id in [1, 2] {
        rows.push(CellRef::I64(id));
        cases.iter().for_each(|case| rows.push(case.1));
        rows.end_row();
    }
    // One row by the load, one row by the row path: the same bytes.
    let mut load = RowBatch::new();
    load.append(rows.row(0));
    let epoch = claim.epoch;
    let mut loader = world
        .target
        .open_loader(&world.key, epoch, Arc::clone(&plan))
        .await
        .unwrap();
    let loaded = load_whole(loader.as_mut(), &plan, 0, &load, "7").await;
    loaded.unwrap();
    let mut applier = world
        .target
        .open_applier(&world.key, epoch, Arc::clone(&plan))
        .await
        .unwrap();
    let batch = ApplyBatch {
        rows,
        ordered: ordered(&[RowOp::Insert(1)]),
        position: at(1),
        ..ApplyBatch::default()
    };
    applier.apply(&batch).await.unwrap();
    for id in [1, 2] {
        for (n, (ty, _, text)) in cases.iter().enumerate() {
            let sql = format!(
                "SET timezone = 'UTC'; SELECT coalesce(\"C {n}\"\"\"::text, '(null)') \
                 FROM public.\"Every \"\"type\"\"\" WHERE id = {id}"
            );
            let got = world.server.sql(&sql).unwrap();
            let bool_text = if *text == "t" { "true" } else { text };
            assert_eq!(
                got.trim_end_matches('\n').trim_start_matches("SET\n"),
                bool_text,
                "{ty:?}"
            );
        }
    }
    let again = world.target.claim(&world.key).await.unwrap();
    assert_eq!(again.applied, at(1));
    assert_eq!(
        again.tables[0].phase,
        TablePhase::Loading(vec![whole(&plan, 0, "7", 1)])
    );
    assert_eq!(
        (
            again.tables[0].loaded_rows,
            again.tables[0].fingerprint.as_str()
        ),
        (Some(1), plan.fingerprint(0).as_str())
    );
}

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
        let world = World::new();
        let plan = two_columns(&world, &[]);
        let epoch = world.claim(&plan).await.epoch;
        let mut applier = world
            .target
            .open_applier(&world.key, epoch, plan)
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
        let rows = world
            .server
            .sql("SELECT id, v FROM public.t ORDER BY id")
            .unwrap();
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
    let world = World::new();
    let plan = two_columns(&world, &[1]);
    let epoch = world.claim(&plan).await.epoch;
    let mut applier = world
        .target
        .open_applier(&world.key, epoch, plan)
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
    let swapped = "SELECT count(*) FROM public.t WHERE v = id + 1 - 2 * (id % 2)";
    assert_eq!(world.server.sql(swapped).unwrap(), "100");
    let unique = "SELECT count(*) FROM pg_constraint WHERE conrelid = 'public.t'::regclass AND contype = 'u'";
    assert_eq!(
        world.server.sql(unique).unwrap(),
        "1",
        "go_live made the unique key once"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_owner_writes_nothing() {
    let world = World::new();
    let plan = two_columns(&world, &[]);
    let old = world.claim(&plan).await.epoch;
    let target = &world.target;
    let mut applier = target
        .open_applier(&world.key, old, Arc::clone(&plan))
        .await
        .unwrap();
    let mut loader = target
        .open_loader(&world.key, old, Arc::clone(&plan))
        .await
        .unwrap();
    assert!(world.claim(&plan).await.epoch > old);
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
    assert_eq!(
        world.server.sql("SELECT count(*) FROM public.t").unwrap(),
        "0"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_show_nothing_until_the_last() {
    let world = World::new();
    let plan = two_columns(&world, &[]);
    let epoch = world.claim(&plan).await.epoch;
    let (mut first, second) = mixed();
    first.position = None;
    let count = || world.server.sql("SELECT count(*) FROM public.t").unwrap();
    for whole in [false, true] {
        let mut applier = world
            .target
            .open_applier(&world.key, epoch, Arc::clone(&plan))
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
    let world = World::new();
    let columns = || vec![column("id", int()), column("v", int())];
    let mut child = source("child", columns(), &[]);
    child.foreign_keys.push(ForeignKey {
        name: "child_parent".into(),
        columns: vec!["v".into()],
        parent: TableName::new("shop", "parent"),
        parent_columns: vec!["id".into()],
        on_delete: ReferenceAction::Refuse,
        on_update: ReferenceAction::Refuse,
        logged: true,
    });
    let plan = plan(&world, vec![child, source("parent", columns(), &[])]);
    assert_eq!(plan.targets[0].name.name, "parent");
    let epoch = world.claim(&plan).await.epoch;
    let mut applier = world
        .target
        .open_applier(&world.key, epoch, plan)
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
        assert_eq!(
            world.server.sql(counts).unwrap(),
            if deletes { "0" } else { "120" }
        );
    }
}
