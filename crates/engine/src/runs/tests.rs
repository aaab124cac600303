//! Cut, folded and applied, random histories must end in what the source has.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use thalweg_core::batch::{ApplyBatch, RowOp, TableOp};
use thalweg_core::checkpoint::TaskKey;
use thalweg_core::mapping::{Operations, TaskOptions};
use thalweg_core::plan::{Cascade, Feed, Plan, TargetTable};
use thalweg_core::ports::{Applier, Target as _};
use thalweg_core::position::Position;
use thalweg_core::schema::{ColumnSchema, ColumnType, ForeignKey, ReferenceAction, TableName};
use thalweg_core::value::{CellRef, RowBatch};
use thalweg_testkit::memory::{Faults, MemoryTarget, NULL};

use super::{fold_runs, runs};

/// Key, referenced parent, another value.
type Row = [i64; 3];
type Model = Vec<BTreeMap<i64, Row>>;

fn table(name: &str) -> TargetTable {
    let column = |name: &str| {
        let ty = ColumnType::Int {
            bits: 64,
            unsigned: false,
        };
        ColumnSchema::new(name, ty, "bigint")
    };
    TargetTable {
        name: TableName::new("s", name),
        columns: vec![column("id"), column("parent"), column("x")],
        key: vec![0],
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
    }
}

fn cascade(parent: usize, child: usize, on_delete: ReferenceAction) -> Cascade {
    Cascade {
        parent,
        parent_columns: vec![0],
        child,
        columns: vec![1],
        on_delete,
        on_update: ReferenceAction::Cascade,
        derived: true,
        enforced: false,
        logged: false,
    }
}

fn plan(tables: usize, cascades: Vec<Cascade>) -> Arc<Plan> {
    let names = ["a", "b", "c", "d"];
    Arc::new(Plan {
        sources: Vec::new(),
        targets: names.iter().take(tables).map(|name| table(name)).collect(),
        cascades,
        operations: Operations::ALL,
        options: TaskOptions::default(),
    })
}

/// A source that follows its own foreign keys, and its log.
struct Source<'a> {
    plan: &'a Plan,
    model: Model,
    rows: RowBatch,
    ops: Vec<TableOp>,
    /// Whether before images have only the key.
    narrow: bool,
}

impl Source<'_> {
    fn image(&mut self, row: Row, whole: bool) -> usize {
        for (index, cell) in row.into_iter().enumerate() {
            self.rows.push(match cell {
                _ if index > 0 && !whole => CellRef::Absent,
                NULL => CellRef::Null,
                cell => CellRef::I64(cell),
            });
        }
        self.rows.end_row()
    }

    /// One row from `old` to `new`, and what follows at the source; `loud`: it is in the log.
    fn change(
        &mut self,
        target: usize,
        old: Option<Row>,
        new: Option<Row>,
        loud: bool,
        unchecked: bool,
    ) {
        let table = &mut self.model[target];
        old.map(|old| table.remove(&old[0]));
        new.map(|new| table.insert(new[0], new));
        if loud {
            let whole = !self.narrow;
            let op = match (old, new) {
                (None, Some(new)) => RowOp::Insert(self.image(new, true)),
                (Some(old), None) => RowOp::Delete(self.image(old, whole)),
                (Some(old), Some(new)) => RowOp::Update {
                    before: self.image(old, whole),
                    after: self.image(new, true),
                },
                (None, None) => return,
            };
            self.ops.push(TableOp {
                target,
                op,
                feed: 0,
                unchecked,
                origin: 0,
            });
        }
        let (Some(old), false) = (old, unchecked) else {
            return;
        };
        let plan = self.plan;
        for link in plan.cascades_from(target) {
            let action = match new {
                None => link.on_delete,
                Some(new) if new[0] != old[0] => link.on_update,
                Some(_) => continue,
            };
            let children = self.model[link.child].values().copied();
            let children: Vec<Row> = children
                .filter(|child| child[link.columns[0]] == old[0])
                .collect();
            for child in children {
                let with = |value: i64| {
                    let mut row = child;
                    row[link.columns[0]] = value;
                    row
                };
                let after = match (action, new) {
                    (ReferenceAction::Cascade, None) => None,
                    (ReferenceAction::Cascade, Some(new)) => Some(with(new[0])),
                    _ => Some(with(NULL)),
                };
                // Gone by another way in the meantime.
                if self.model[link.child].get(&child[0]) == Some(&child) {
                    self.change(link.child, Some(child), after, link.logged, false);
                }
            }
        }
    }

    /// One statement.
    fn step(&mut self, rng: &mut SmallRng) {
        let target = rng.random_range(0..self.model.len());
        let mut id = rng.random_range(0..6);
        let by_key = |link: &&Cascade| link.columns == [0];
        if let Some(link) = self
            .plan
            .cascades
            .iter()
            .filter(by_key)
            .find(|l| l.child == target)
        {
            // Its key is its parent's.
            let parents: Vec<i64> = self.model[link.parent].keys().copied().collect();
            let Some(parent) = parents.get(rng.random_range(0..6)) else {
                return;
            };
            id = *parent;
        }
        let mut parents: Vec<i64> = vec![NULL];
        for link in self
            .plan
            .cascades
            .iter()
            .filter(|l| l.child == target && l.columns == [1])
        {
            parents.extend(
                self.model[link.parent]
                    .keys()
                    .filter(|key| link.parent != target || **key != id),
            );
        }
        let parent = parents[rng.random_range(0..parents.len())];
        let derived = self
            .plan
            .cascades
            .iter()
            .all(|link| link.derived && link.columns == [1]);
        let unchecked = derived && rng.random_bool(0.05);
        let new = [id, parent, rng.random_range(0..9)];
        match self.model[target].get(&id).copied() {
            None => self.change(target, None, Some(new), true, false),
            Some(old) if rng.random_bool(0.35) => {
                self.change(target, Some(old), None, true, unchecked);
            }
            Some(old) if rng.random_bool(0.4) => {
                // InnoDB refuses to follow a key into the table it came from.
                let to = rng.random_range(0..6);
                let own = self
                    .plan
                    .cascades
                    .iter()
                    .any(|l| l.child == target && (l.parent == target || l.columns == [0]));
                if !own && !self.model[target].contains_key(&to) {
                    self.change(
                        target,
                        Some(old),
                        Some([to, old[1], old[2]]),
                        true,
                        unchecked,
                    );
                }
            }
            Some(old) => self.change(target, Some(old), Some(new), true, false),
        }
    }
}

async fn apply(
    applier: &mut dyn Applier,
    plan: &Plan,
    rows: RowBatch,
    ordered: Vec<TableOp>,
) -> usize {
    let batch = ApplyBatch {
        rows,
        ordered,
        position: Some(Position::new("1")),
        ..ApplyBatch::default()
    };
    let (parts, _) = fold_runs(plan, batch, &[], None).unwrap();
    for (index, part) in parts.iter().enumerate() {
        assert_eq!(part.position.is_some(), index + 1 == parts.len());
        // The memory target compares the folded rows with the ordered ones.
        applier.apply(part).await.unwrap();
    }
    parts.len()
}

/// Random histories between random tables; gives how many ran in one piece.
async fn check(plan: &Arc<Plan>, narrow: bool, seeds: std::ops::Range<u64>) -> usize {
    let mut single = 0;
    for seed in seeds {
        let mut rng = SmallRng::seed_from_u64(seed);
        let names: Vec<_> = plan.targets.iter().map(|t| t.name.clone()).collect();
        let target = MemoryTarget::new(&names, Arc::new(Faults::default()));
        let key = TaskKey {
            server: "s".into(),
            task: "t".into(),
        };
        let epoch = target.claim(&key).await.unwrap().epoch;
        let applier = target.open_applier(&key, epoch, Arc::clone(plan)).await;
        let mut applier = applier.unwrap();
        let mut source = Source {
            plan,
            model: vec![BTreeMap::new(); plan.targets.len()],
            rows: RowBatch::new(),
            ops: Vec::new(),
            narrow,
        };
        for batch in 0..3 {
            for _ in 0..rng.random_range(1..16) {
                source.step(&mut rng);
            }
            let (rows, ops) = (
                std::mem::take(&mut source.rows),
                std::mem::take(&mut source.ops),
            );
            single += usize::from(apply(applier.as_mut(), plan, rows, ops).await == 1);
            let now = target.now().tables().clone();
            for (target, name) in names.iter().enumerate() {
                let there: BTreeMap<i64, Row> = now[name]
                    .iter()
                    .map(|(key, row)| (key[0], [row[0], row[1], row[2]]))
                    .collect();
                assert_eq!(
                    there, source.model[target],
                    "table {name}, seed {seed}, batch {batch}"
                );
            }
        }
    }
    single
}

#[tokio::test]
async fn what_foreign_keys_do_keeps_its_place_in_a_folded_batch() {
    use ReferenceAction::{Cascade as Go, SetNull};
    let mut single = 0;
    for (first, second) in [(Go, Go), (Go, SetNull), (SetNull, Go), (SetNull, SetNull)] {
        let two_levels = plan(3, vec![cascade(0, 1, first), cascade(1, 2, second)]);
        single += check(&two_levels, false, 0..250).await;
        let mut logged = Plan::clone(&two_levels);
        for link in &mut logged.cascades {
            (link.derived, link.enforced, link.logged) = (false, true, true);
        }
        for narrow in [false, true] {
            single += check(&Arc::new(logged.clone()), narrow, 0..250).await;
        }
        let mut same_key = Plan::clone(&two_levels);
        same_key
            .cascades
            .iter_mut()
            .for_each(|link| link.columns = vec![0]);
        if (first, second) == (Go, Go) {
            single += check(&Arc::new(same_key.clone()), false, 0..500).await;
            same_key.cascades[1].columns = vec![1];
            single += check(&Arc::new(same_key), false, 0..500).await;
        }
        let tree = plan(1, vec![cascade(0, 0, first)]);
        single += check(&tree, false, 0..250).await;
        let mut keys = vec![cascade(0, 1, first), cascade(0, 2, second)];
        keys[0].on_update = SetNull;
        single += check(&plan(3, keys), false, 0..250).await;
    }
    // Cutting everything would be right too, and slow.
    assert!(single > 900, "{single}");
}

#[test]
fn what_cannot_meet_is_not_cut() {
    let plan = plan(2, vec![cascade(0, 1, ReferenceAction::Cascade)]);
    let mut rows = RowBatch::new();
    let mut ops = Vec::new();
    let row = |rows: &mut RowBatch, row: Row| {
        row.into_iter()
            .for_each(|cell| rows.push(CellRef::I64(cell)));
        rows.end_row()
    };
    // Many children of other parents change, and of each parent that goes the children went before.
    for id in 0..40 {
        let (old, new) = (row(&mut rows, [id, 900, 1]), row(&mut rows, [id, 901, 2]));
        let gone = row(&mut rows, [id + 100, id + 500, 1]);
        let parent = row(&mut rows, [id + 500, 0, 1]);
        for (target, op) in [
            (
                1,
                RowOp::Update {
                    before: old,
                    after: new,
                },
            ),
            (1, RowOp::Delete(gone)),
            (0, RowOp::Delete(parent)),
        ] {
            ops.push(TableOp {
                target,
                op,
                feed: 0,
                unchecked: false,
                origin: 0,
            });
        }
    }
    assert_eq!(runs(&plan, &rows, &ops, &[]).len(), 1);
    // One that moves away from a parent that goes.
    let (old, new) = (row(&mut rows, [1, 950, 1]), row(&mut rows, [1, 901, 2]));
    let parent = row(&mut rows, [950, 0, 1]);
    ops.push(TableOp {
        target: 1,
        op: RowOp::Update {
            before: old,
            after: new,
        },
        feed: 0,
        unchecked: false,
        origin: 0,
    });
    ops.push(TableOp {
        target: 0,
        op: RowOp::Delete(parent),
        feed: 0,
        unchecked: false,
        origin: 0,
    });
    let ends: Vec<_> = runs(&plan, &rows, &ops, &[])
        .iter()
        .map(|run| run.end)
        .collect();
    assert_eq!(ends, [121, 122]);
}

/// InnoDB empties a parent only with foreign keys off, and its children stay. A key of the target would
/// take them along.
#[test]
fn a_parent_emptied_with_keys_off_is_not_emptied_where_a_key_acts() {
    for (enforced, child) in [(false, 1), (true, 1), (true, 0)] {
        let mut link = cascade(0, child, ReferenceAction::Cascade);
        link.enforced = enforced;
        let plan = plan(2, vec![link]);
        let batch = ApplyBatch {
            ordered: vec![TableOp {
                target: 0,
                feed: 0,
                op: RowOp::Truncate,
                unchecked: true,
                origin: 0,
            }],
            ..ApplyBatch::default()
        };
        let folded = fold_runs(&plan, batch, &[], None);
        let refused = folded.is_err_and(|error| error.message().contains("foreign_key_checks"));
        assert_eq!(refused, enforced && child == 1);
    }
}

/// Rows of `c` go with their `a`, and lose what rows of `d` reference with their `b`: what comes first
/// decides over those of `d`.
#[test]
fn parents_that_remove_and_that_empty_rows_keep_their_order() {
    use ReferenceAction::{Cascade as Go, SetNull};
    let mut keys = vec![cascade(0, 2, Go), cascade(1, 2, SetNull)];
    keys[1].columns = vec![2];
    let mut below = cascade(2, 3, Go);
    let apart = |keys: Vec<Cascade>, first: usize| {
        let plan = plan(4, keys);
        let mut rows = RowBatch::new();
        let mut delete = |target: usize, id: i64| {
            for cell in [id, 0, 0] {
                rows.push(CellRef::I64(cell));
            }
            TableOp {
                target,
                feed: 0,
                op: RowOp::Delete(rows.end_row()),
                unchecked: false,
                origin: 0,
            }
        };
        let ops = [delete(first, 1), delete(1 - first, 2)];
        runs(&plan, &rows, &ops, &[]).len() == 2
    };
    for first in [0, 1] {
        assert!(!apart(keys.clone(), first));
        // Of what is not set to NULL only the removal matters.
        below.parent_columns = vec![0];
        assert!(!apart([keys.clone(), vec![below.clone()]].concat(), first));
        below.parent_columns = vec![2];
        assert!(apart([keys.clone(), vec![below.clone()]].concat(), first));
    }
}

/// Where a batch is cut, tables that no foreign key joins to a cascade stay in one piece.
#[test]
fn other_tables_are_not_cut() {
    let mut plan = Plan::clone(&plan(4, vec![cascade(0, 1, ReferenceAction::Cascade)]));
    // Joined by a key that refuses.
    plan.targets[2].foreign_keys = vec![ForeignKey {
        name: "of_b".into(),
        columns: vec!["parent".into()],
        parent: plan.targets[1].name.clone(),
        parent_columns: vec!["id".into()],
        on_delete: ReferenceAction::Refuse,
        on_update: ReferenceAction::Refuse,
        logged: true,
    }];
    let mut batch = ApplyBatch {
        position: Some(Position::new("9")),
        freed: vec![7],
        emptied: vec![(1, 0)],
        ..ApplyBatch::default()
    };
    for id in 0..10 {
        // A child that comes, and goes with its parent.
        for (target, row) in [
            (3, [id, 0, 1]),
            (2, [id, 0, 1]),
            (1, [id, 500, 1]),
            (0, [500, 0, 1]),
        ] {
            row.map(CellRef::I64)
                .iter()
                .for_each(|cell| batch.rows.push(*cell));
            let row = batch.rows.end_row();
            batch.ordered.push(TableOp {
                target,
                feed: 0,
                op: if target == 0 {
                    RowOp::Delete(row)
                } else {
                    RowOp::Insert(row)
                },
                unchecked: false,
                origin: 0,
            });
        }
    }
    let kept = [(0, vec![1]), (22, vec![])];
    let (parts, _) = fold_runs(&plan, batch, &kept, None).unwrap();
    let targets: Vec<Vec<usize>> = parts
        .iter()
        .map(|part| part.ordered.iter().map(|op| op.target).collect())
        .collect();
    assert_eq!(targets[0], [3; 10]);
    assert!(
        targets[1..]
            .iter()
            .flatten()
            .eq([2, 1, 0].repeat(10).iter())
    );
    assert!(targets.len() > 10, "{targets:?}");
    let kept: Vec<usize> = parts[1..]
        .iter()
        .filter(|part| part.kept == [1])
        .flat_map(|part| &part.ordered)
        .map(|op| op.target)
        .collect();
    // Operation 22 is the seventeenth of the linked ones.
    assert_eq!(kept.len(), 16);
    let last = parts.iter().map(|part| part.position.is_some());
    assert!(last.rev().skip(1).all(|there| !there));
    let last = parts.last().unwrap();
    assert!(last.position.is_some());
    // What of the quarantine goes with the batch goes with its end.
    assert_eq!(
        (&last.freed[..], &last.emptied[..]),
        (&[7][..], &[(1, 0)][..])
    );
    assert!(parts.iter().rev().skip(1).all(|part| part.freed.is_empty()));
}
