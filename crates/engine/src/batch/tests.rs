//! Folded and ordered application of random histories must end in the same rows.
#![allow(clippy::print_stdout, reason = "a proof says what it did")]

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use thalweg_core::batch::{FoldedTable, Net, RowOp, TableOp};
use thalweg_core::mapping::{Operations, TaskOptions};
use thalweg_core::plan::{Feed, Plan, TargetTable};
use thalweg_core::schema::{ColumnSchema, ColumnType, TableName, UniqueKey};
use thalweg_core::value::{CellRef, RowBatch};

use super::{fold, is_exact};

/// Key, and two other cells.
type Row = [i64; 3];
type Model = BTreeMap<i64, Row>;

pub(crate) fn plan(key: Vec<usize>) -> Plan {
    let column = |name: &str| ColumnSchema {
        nullable: false,
        ..ColumnSchema::new(
            name,
            ColumnType::Int {
                bits: 64,
                unsigned: false,
            },
            "bigint",
        )
    };
    let target = TargetTable {
        name: TableName::new("s", "t"),
        columns: vec![column("k"), column("a"), column("b")],
        key,
        key_is_primary: true,
        unique_keys: Vec::new(),
        foreign_keys: Vec::new(),
        create: false,
        rekey: false,
        has_unmapped: false,
        feeds: vec![Feed {
            source: 0,
            columns: vec![0, 1, 2],
        }],
        row_owner: None,
    };
    Plan {
        sources: Vec::new(),
        targets: vec![target],
        cascades: Vec::new(),
        operations: Operations::ALL,
        options: TaskOptions::default(),
    }
}

/// Appends a row; `mask` says which cells are sent.
fn image(rows: &mut RowBatch, row: Row, mask: [bool; 3]) -> usize {
    for (cell, sent) in row.into_iter().zip(mask) {
        rows.push(if sent {
            CellRef::I64(cell)
        } else {
            CellRef::Unchanged
        });
    }
    rows.end_row()
}

const FULL: [bool; 3] = [true; 3];

/// A history a correct source could have, and the state it ends in.
fn history(rng: &mut SmallRng, start: &Model) -> (RowBatch, Vec<TableOp>, Model) {
    let mut rows = RowBatch::new();
    let mut ops = Vec::new();
    let mut model = start.clone();
    for _ in 0..rng.random_range(1..14) {
        let key = rng.random_range(0..4);
        let op = match model.get(&key).copied() {
            None => {
                let row = [key, rng.random_range(0..9), rng.random_range(0..9)];
                model.insert(key, row);
                RowOp::Insert(image(&mut rows, row, FULL))
            }
            Some(old) if rng.random_bool(0.3) => {
                model.remove(&key);
                // A delete may carry the key only.
                let mask = [true, rng.random_bool(0.5), rng.random_bool(0.5)];
                RowOp::Delete(image(&mut rows, old, mask))
            }
            Some(old) => {
                let to = rng.random_range(0..4);
                let to = if to == key || model.contains_key(&to) {
                    key
                } else {
                    to
                };
                let mut new = [to, old[1], old[2]];
                let mut mask = [to != key || rng.random_bool(0.5), true, true];
                for cell in 1..3 {
                    if rng.random_bool(0.5) {
                        new[cell] = rng.random_range(0..9);
                    } else {
                        mask[cell] = rng.random_bool(0.5);
                    }
                }
                model.remove(&key);
                model.insert(to, new);
                let before = image(&mut rows, old, [true, rng.random_bool(0.5), true]);
                RowOp::Update {
                    before,
                    after: image(&mut rows, new, mask),
                }
            }
        };
        ops.push(TableOp {
            target: 0,
            feed: 0,
            op,
            unchecked: false,
            origin: 0,
        });
    }
    (rows, ops, model)
}

fn key(rows: &RowBatch, row: usize) -> i64 {
    match rows.row(row).cell(0) {
        Some(CellRef::I64(key)) => key,
        other => panic!("the key of row {row} is {other:?}"),
    }
}

/// Lays the sent cells of `row` over `old`.
fn lay(rows: &RowBatch, row: usize, mut old: Row) -> Row {
    for (slot, cell) in old.iter_mut().zip(rows.row(row).cells()) {
        if let CellRef::I64(value) = cell {
            *slot = value;
        }
    }
    old
}

/// Applies a folded table: deletes, all updates at once, inserts. Panics on any clash.
fn apply(rows: &RowBatch, folded: &FoldedTable, start: &Model) -> Model {
    let mut model = start.clone();
    for &row in &folded.deletes {
        model
            .remove(&key(rows, row))
            .expect("a delete finds its row");
    }
    let taken: Vec<_> = folded
        .updates
        .iter()
        .map(|&(before, after)| {
            let old = model
                .remove(&key(rows, before))
                .expect("an update finds its row");
            (key(rows, after), lay(rows, after, old))
        })
        .collect();
    for (key, row) in taken {
        assert!(
            model.insert(key, row).is_none(),
            "updates end in different keys"
        );
    }
    for &row in &folded.inserts {
        assert!(
            rows.row(row).cells().all(|cell| cell.is_present()),
            "inserts are whole"
        );
        assert!(
            model
                .insert(key(rows, row), lay(rows, row, [0; 3]))
                .is_none(),
            "keys are free"
        );
    }
    model
}

/// The only table of a batch.
fn folded(plan: &Plan, rows: &mut RowBatch, ops: &[TableOp]) -> FoldedTable {
    let mut nets = fold(plan, rows, ops, None)
        .nets
        .expect("nothing keeps it from being folded");
    assert_eq!(nets.len(), 1);
    match nets.remove(0) {
        Net::Folded(table) => table,
        Net::InOrder(_) => panic!("a correct history folds: {ops:?}"),
    }
}

#[test]
fn folded_histories_end_like_ordered_ones() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(20_261_124);
    println!("SEED={seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let plan = plan(vec![0]);
    let (mut folds, mut longest) = (0, 0);
    let rounds = match std::env::var_os("THALWEG_PROVE") {
        Some(_) => 300_000,
        None => 30_000,
    };
    for round in 0..rounds {
        let mut start = Model::new();
        for key in 0..4 {
            if rng.random_bool(0.5) {
                start.insert(
                    key,
                    [key, rng.random_range(10..19), rng.random_range(10..19)],
                );
            }
        }
        let (mut rows, ops, end) = history(&mut rng, &start);
        let table = &folded(&plan, &mut rows, &ops);
        assert_eq!(
            apply(&rows, table, &start),
            end,
            "round {round}: {ops:?} {table:?}"
        );
        longest = longest.max(ops.len());
        folds += ops.len() - table.deletes.len() - table.updates.len() - table.inserts.len();
    }
    println!(
        "proof: {rounds} sequences of operations, {folds} operations folded away, at most {longest} in one"
    );
    assert!(
        folds > rounds,
        "the histories must give something to fold: {folds}"
    );
}

#[test]
fn a_swap_of_keys_is_two_updates() {
    let mut rows = RowBatch::new();
    let mut ops = Vec::new();
    for (from, to) in [(1, 9), (2, 1), (9, 2)] {
        let before = image(&mut rows, [from, 0, 0], FULL);
        let after = image(&mut rows, [to, 0, 0], FULL);
        ops.push(TableOp {
            target: 0,
            feed: 0,
            op: RowOp::Update { before, after },
            unchecked: false,
            origin: 0,
        });
    }
    let folded = folded(&plan(vec![0]), &mut rows, &ops);
    let moves: Vec<_> = folded
        .updates
        .iter()
        .map(|&(a, b)| (key(&rows, a), key(&rows, b)))
        .collect();
    assert_eq!(moves, [(1, 2), (2, 1)]);
    assert!(folded.deletes.is_empty() && folded.inserts.is_empty());
}

#[test]
fn a_replaced_row_is_deleted_and_inserted() {
    let mut rows = RowBatch::new();
    let old = image(&mut rows, [1, 2, 3], FULL);
    let new = image(&mut rows, [1, 5, 6], FULL);
    let ops = [RowOp::Delete(old), RowOp::Insert(new)].map(|op| TableOp {
        target: 0,
        feed: 0,
        op,
        unchecked: false,
        origin: 0,
    });
    let folded = folded(&plan(vec![0]), &mut rows, &ops);
    assert_eq!((&folded.deletes, &folded.inserts), (&vec![old], &vec![new]));
}

#[test]
fn what_cannot_be_folded_is_left_in_order() {
    let mut rows = RowBatch::new();
    let row = image(&mut rows, [1, 2, 3], FULL);
    let other = image(&mut rows, [2, 2, 3], FULL);
    let unfolded = |key: Vec<usize>, ops: &[RowOp]| {
        let ops: Vec<_> = ops
            .iter()
            .map(|&op| TableOp {
                target: 0,
                feed: 0,
                op,
                unchecked: false,
                origin: 0,
            })
            .collect();
        fold(&plan(key), &mut rows.clone(), &ops, None).nets == Some(vec![Net::InOrder(0)])
    };
    let update = RowOp::Update {
        before: row,
        after: row,
    };
    let moved = RowOp::Update {
        before: row,
        after: other,
    };
    assert!(unfolded(vec![0], &[RowOp::Truncate]), "truncate");
    assert!(unfolded(vec![], &[RowOp::Insert(row)]), "no key");
    assert!(
        unfolded(vec![0], &[RowOp::Insert(row), RowOp::Insert(row)]),
        "twice the same key"
    );
    assert!(
        unfolded(vec![0], &[RowOp::Delete(row), update]),
        "update of a deleted row"
    );
    assert!(
        unfolded(vec![0], &[moved, RowOp::Delete(row)]),
        "delete of a row that moved away"
    );
    assert!(
        unfolded(vec![0], &[RowOp::Insert(other), moved]),
        "move onto another row"
    );
    assert!(!unfolded(vec![0], &[RowOp::Insert(row), update]));
}

/// Rows are written in the order of their keys, but in the source's where a server may mind.
#[test]
fn folded_rows_are_in_the_order_of_their_keys() {
    let mut rows = RowBatch::new();
    let keys = [7, -2, 300, 41];
    let ops: Vec<TableOp> = keys
        .iter()
        .map(|key| TableOp {
            target: 0,
            feed: 0,
            op: RowOp::Insert(image(&mut rows, [*key, 0, 0], FULL)),
            unchecked: false,
            origin: 0,
        })
        .collect();
    let mut order = |plan: &Plan| -> Vec<CellRef<'static>> {
        let nets = fold(plan, &mut rows, &ops, None).nets.unwrap();
        let [Net::Folded(table)] = nets.as_slice() else {
            panic!("{nets:?}");
        };
        let key = |row: &usize| match rows.row(*row).cell(0) {
            Some(CellRef::I64(key)) => CellRef::I64(key),
            other => panic!("{other:?}"),
        };
        table.inserts.iter().map(key).collect()
    };
    let mut plan = plan(vec![0]);
    assert_eq!(order(&plan), [-2, 7, 41, 300].map(CellRef::I64));
    let target = plan.targets.first_mut().unwrap();
    target.unique_keys.push(UniqueKey {
        name: "u".to_owned(),
        columns: vec![1],
    });
    assert_eq!(order(&plan), keys.map(CellRef::I64));
}

#[test]
fn text_of_fixed_length_is_not_told_by_its_bytes() {
    for (native, exact) in [
        ("character varying(60)", true),
        ("varchar(60)", true),
        ("text", true),
        ("char(3)", false),
        ("character(3)", false),
        ("character", false),
        ("bpchar", false),
    ] {
        let ty = ColumnType::Text { max_chars: None };
        let mut column = ColumnSchema::new("k", ty, native);
        assert_eq!(is_exact(&column), exact, "{native}");
        column.folds = true;
        assert!(!is_exact(&column), "{native}");
    }
}
