//! What every target does.

mod merged;
mod quarantine;
mod turns;

use std::sync::Arc;

use thalweg_core::batch::{ApplyBatch, FoldedTable, Net, RowOp, TableOp};
use thalweg_core::checkpoint::{Checkpoint, LoadedChunk, TablePhase, TaskKey};
use thalweg_core::mapping::{ExistingRows, Mapping, Operations, TaskOptions};
use thalweg_core::plan::{Plan, TablePair, resolve};
use thalweg_core::ports::{Applier, DataSourceConfig, Loader, Target};
use thalweg_core::position::{Layout, Position, Visibility};
use thalweg_core::schema::{
    ColumnSchema, ColumnType, ForeignKey, ReferenceAction, TableName, TableSchema, UniqueKey,
};
use thalweg_core::value::{CellRef, RowBatch};
use thalweg_core::{Kind, Result};

use super::config;
use crate::servers::{Account, Place, System};

pub use merged::{equal_keys_meet_once, side_table_follows_types, sources_meet};
pub use quarantine::refused_rows_are_left_out;
pub use turns::batches_begun_ahead_change_nothing;

/// Opens a target.
pub type Open = fn(&DataSourceConfig) -> Result<Arc<dyn Target>>;

/// A private server with a database, and how a target of it is opened.
pub struct Goal {
    /// The database.
    pub place: Place,
    account: Account,
    open: Open,
    key: TaskKey,
}

impl Goal {
    /// Starts a server.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(system: System, open: Open) -> Self {
        let place = Place::start(system, "warehouse").expect("a private server starts");
        let account = place.target_account().expect("an account is made");
        let key = TaskKey {
            server: "s".into(),
            task: "t".into(),
        };
        Goal {
            place,
            account,
            open,
            key,
        }
    }

    /// A target, as a task opens it.
    fn target(&self) -> Arc<dyn Target> {
        (self.open)(&config(&self.place, &self.account)).expect("a target is opened")
    }

    fn sql(&self, sql: &str) -> String {
        self.place.sql(sql).expect("the test's own statement")
    }

    fn rows(&self) -> String {
        self.sql("SELECT id, v FROM t ORDER BY id")
    }

    /// Prepares and claims.
    async fn claim(&self, plan: &Plan) -> Checkpoint {
        let target = self.target();
        let prepared = target.prepare(&self.key, plan).await;
        prepared.expect("a target is prepared");
        let claimed = target.claim(&self.key).await;
        claimed.expect("a target is claimed")
    }

    /// The writer of the stream for this owner.
    async fn applier(&self, plan: &Arc<Plan>, owner: &Checkpoint) -> Box<dyn Applier> {
        let target = self.target();
        let opened = target.open_applier(&self.key, owner.epoch, Arc::clone(plan));
        opened.await.expect("an applier is opened")
    }

    /// A writer of the load for this owner.
    async fn loader(&self, plan: &Arc<Plan>, owner: &Checkpoint) -> Box<dyn Loader> {
        let target = self.target();
        let opened = target.open_loader(&self.key, owner.epoch, Arc::clone(plan));
        opened.await.expect("a loader is opened")
    }

    /// A plan that creates a table for each source table.
    fn plan(&self, sources: Vec<TableSchema>) -> Arc<Plan> {
        let target = self.target();
        let pairs = sources.into_iter().map(|source| {
            let mapping = Mapping {
                id: "m".into(),
                source: source.name.clone(),
                target: TableName::new(self.place.schema(), &source.name.name),
                columns: Vec::new(),
            };
            let columns = mapping.pairs(&source);
            let proposed = target.propose(&source, &mapping.target, &columns);
            TablePair {
                target: Some(proposed.expect("every type has a counterpart")),
                mapping,
                source: Some(source),
                create: true,
                rekey: false,
            }
        });
        let resolution = resolve(pairs.collect(), Operations::ALL, TaskOptions::default());
        let findings = resolution.findings;
        Arc::new(resolution.plan.unwrap_or_else(|| panic!("{findings:?}")))
    }

    /// A plan that writes to table `t`, which is there, from a source table of the same shape.
    async fn plan_into_t(&self, operations: Operations) -> Arc<Plan> {
        let name = TableName::new(self.place.schema(), "t");
        let found = self.target().describe(std::slice::from_ref(&name)).await;
        let mut found = found.expect("a table is described");
        let pair = TablePair {
            mapping: Mapping {
                id: "m".into(),
                source: name.clone(),
                target: name,
                columns: Vec::new(),
            },
            source: found.first().cloned(),
            target: found.pop(),
            create: false,
            rekey: false,
        };
        let resolution = resolve(vec![pair], operations, TaskOptions::default());
        let findings = resolution.findings;
        Arc::new(resolution.plan.unwrap_or_else(|| panic!("{findings:?}")))
    }
}

async fn apply(applier: &mut dyn Applier, batch: &ApplyBatch) -> thalweg_core::ports::Applied {
    applier.apply(batch).await.expect("a batch is applied")
}

/// Loads `rows` as all of a target table, replacing what is there.
async fn load_whole(
    loader: &mut dyn Loader,
    plan: &Plan,
    target: usize,
    rows: &RowBatch,
    seen: &str,
) -> Result<()> {
    loader.begin(target, 0).await?;
    let print = plan.fingerprint(target);
    loader.empty(ExistingRows::Replace, &print).await?;
    loader.load(rows).await?;
    let source = plan.source_of(target, 0).expect("a target has a source");
    let chunk = LoadedChunk {
        source: source.schema.name.clone(),
        range: None,
        seen: Visibility::new(seen),
        rows: rows.len() as u64,
    };
    loader.commit(Some(&chunk), &[]).await
}

/// 100 rows, then a batch of updates, deletes, key moves and inserts.
fn mixed() -> (ApplyBatch, ApplyBatch) {
    let mut first = batch(1);
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

    let mut second = batch(2);
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

/// In bulk and row by row, a batch does the same and counts the same, drift included.
///
/// # Panics
/// When the target does not.
pub async fn both_paths_agree(goal: &Goal) {
    let plan = goal.plan(vec![two_columns(&[])]);
    let mut results = Vec::new();
    for bulk in [true, false] {
        let owner = goal.claim(&plan).await;
        let mut applier = goal.applier(&plan, &owner).await;
        goal.sql("DELETE FROM t");
        let (mut first, mut second) = mixed();
        if !bulk {
            first.folded = None;
            second.folded = None;
        }
        apply(applier.as_mut(), &first).await;
        let applied = apply(applier.as_mut(), &second).await;
        assert_eq!(applied.durable, at(2));
        results.push((goal.rows(), applied.counts));
    }
    assert_eq!(results.first(), results.last());
    let counts = results.first().and_then(|(_, counts)| counts.first());
    let counts = counts.expect("one table was counted");
    assert_eq!((counts.repaired, counts.missing), (2, 1), "{counts:?}");
    assert_eq!(
        (counts.updates, counts.deletes, counts.inserts),
        (61, 31, 1)
    );
}

/// Rows that take each other's unique value come out right, although no order of their net effects
/// does.
///
/// # Panics
/// When the target does not.
pub async fn unique_values_swap(goal: &Goal) {
    let plan = goal.plan(vec![two_columns(&[1])]);
    let owner = goal.claim(&plan).await;
    let mut applier = goal.applier(&plan, &owner).await;
    let (first, _) = mixed();
    apply(applier.as_mut(), &first).await;
    for _ in 0..2 {
        applier.go_live().await.expect("keys are made");
    }
    let mut batch = batch(2);
    let (mut ops, mut folded) = (Vec::new(), FoldedTable::default());
    for id in (0..100).step_by(2) {
        let rows = &mut batch.rows;
        let [a, aside, b] = [
            pair(rows, id, id),
            pair(rows, id, -1),
            pair(rows, id + 1, id + 1),
        ];
        let [a_new, b_new] = [pair(rows, id, id + 1), pair(rows, id + 1, id)];
        ops.push(update(a, aside));
        ops.push(update(b, b_new));
        ops.push(update(aside, a_new));
        folded.updates.extend([(a, a_new), (b, b_new)]);
    }
    batch.ordered = ordered(&ops);
    batch.folded = Some(vec![Net::Folded(folded)]);
    // No row is refused for its own values, so that nothing has to come again.
    batch.comes_again = true;
    let applied = apply(applier.as_mut(), &batch).await;
    assert_eq!(
        applied.counts.first().map(|counts| counts.updates),
        Some(150)
    );
    let swapped = "SELECT count(*) FROM t WHERE v = id + 1 - 2 * (id % 2)";
    assert_eq!(goal.sql(swapped), "100");
    let unique = "SELECT count(*) FROM information_schema.table_constraints \
                  WHERE table_name = 't' AND constraint_type = 'UNIQUE'";
    assert_eq!(goal.sql(unique), "1", "the unique key is made once");
}

/// An owner that was replaced writes nothing any more, neither changes nor loads.
///
/// # Panics
/// When the target does not.
pub async fn epoch_fences(goal: &Goal) {
    let plan = goal.plan(vec![two_columns(&[])]);
    let old = goal.claim(&plan).await;
    let mut applier = goal.applier(&plan, &old).await;
    let mut loader = goal.loader(&plan, &old).await;
    assert!(goal.claim(&plan).await.epoch > old.epoch);
    let (first, _) = mixed();
    let error = applier.apply(&first).await.expect_err("it is fenced");
    assert_eq!(error.kind(), Kind::Fenced, "{}", error.chain());
    // What it wrote before it was told is rolled back with its connection.
    drop(applier);
    let loaded = load_whole(loader.as_mut(), &plan, 0, &first.rows, "7").await;
    assert_eq!(loaded.map_err(|error| error.kind()), Err(Kind::Fenced));
    drop(loader);
    assert_eq!(goal.sql("SELECT count(*) FROM t"), "0");
}

/// Parts of a transaction show nothing until the last, and without it are as if they had not been.
///
/// # Panics
/// When the target does not.
pub async fn huge_transaction(goal: &Goal) {
    let plan = goal.plan(vec![two_columns(&[])]);
    let owner = goal.claim(&plan).await;
    let (mut first, second) = mixed();
    first.position = None;
    let count = || goal.sql("SELECT count(*) FROM t");
    for whole in [false, true] {
        let mut applier = goal.applier(&plan, &owner).await;
        assert_eq!(apply(applier.as_mut(), &first).await.durable, None);
        assert_eq!(count(), "0");
        if whole {
            let applied = apply(applier.as_mut(), &second).await;
            assert_eq!(applied.durable, at(2));
            assert_eq!(count(), "71");
        }
    }
}

/// Parents are written before their children and go after them, whatever the order in the batch.
///
/// # Panics
/// When the target does not.
pub async fn parents_come_first(goal: &Goal) {
    let columns = || vec![column("id"), column("v")];
    let mut child = source("child", columns(), &[]);
    child.foreign_keys.push(ForeignKey {
        name: "child_parent".into(),
        columns: vec!["v".into()],
        parent: TableName::new("there", "parent"),
        parent_columns: vec!["id".into()],
        on_delete: ReferenceAction::Refuse,
        on_update: ReferenceAction::Refuse,
        logged: false,
    });
    let plan = goal.plan(vec![child, source("parent", columns(), &[])]);
    let first = plan.targets.first().map(|target| target.name.name.as_str());
    assert_eq!(first, Some("parent"));
    let owner = goal.claim(&plan).await;
    let mut applier = goal.applier(&plan, &owner).await;
    applier.go_live().await.expect("keys are made");
    for deletes in [false, true] {
        let mut batch = batch(1);
        let tables = [0, 1].map(|target| FoldedTable {
            target,
            ..FoldedTable::default()
        });
        let mut folded = tables.to_vec();
        for id in 0..60 {
            for (target, table) in folded.iter_mut().enumerate() {
                let row = pair(&mut batch.rows, id, id);
                let op = match deletes {
                    true => RowOp::Delete(row),
                    false => RowOp::Insert(row),
                };
                match deletes {
                    true => table.deletes.push(row),
                    false => table.inserts.push(row),
                }
                batch.ordered.push(TableOp {
                    target,
                    feed: 0,
                    op,
                    unchecked: false,
                    origin: 0,
                });
            }
        }
        batch.folded = Some(folded.into_iter().map(Net::Folded).collect());
        apply(applier.as_mut(), &batch).await;
        let counts = "SELECT (SELECT count(*) FROM parent) + (SELECT count(*) FROM child)";
        assert_eq!(goal.sql(counts), if deletes { "0" } else { "120" });
    }
}

/// What was said to be durable is there after a crash of the server, with its checkpoint; what was
/// not is not.
///
/// # Panics
/// When the target does not.
pub async fn resume_after_kill(goal: &Goal) {
    let plan = goal.plan(vec![two_columns(&[])]);
    let owner = goal.claim(&plan).await;
    let mut loader = goal.loader(&plan, &owner).await;
    let mut rows = RowBatch::new();
    pair(&mut rows, 77, 77);
    let loaded = load_whole(loader.as_mut(), &plan, 0, &rows, "7").await;
    loaded.expect("a table is loaded");
    let mut applier = goal.applier(&plan, &owner).await;
    let (first, mut second) = mixed();
    goal.sql("DELETE FROM t");
    apply(applier.as_mut(), &first).await;
    let before = goal.rows();
    second.position = None;
    assert_eq!(apply(applier.as_mut(), &second).await.durable, None);
    goal.place.server.kill().expect("a server is killed");
    goal.place.server.restart().expect("it starts again");
    assert_eq!(goal.rows(), before);
    let found = goal.claim(&plan).await;
    assert!(found.epoch > owner.epoch);
    assert_eq!(found.applied, at(1));
    let phase = found.tables.first().map(|table| &table.phase);
    assert!(
        matches!(phase, Some(TablePhase::Loading(chunks)) if chunks.len() == 1),
        "{phase:?}"
    );
    // And it goes on from there.
    second.position = at(2);
    let mut applier = goal.applier(&plan, &found).await;
    apply(applier.as_mut(), &second).await;
    assert_eq!(goal.sql("SELECT count(*) FROM t"), "71");
}

/// A truncate takes everything before it and nothing after it.
///
/// # Panics
/// When the target does not.
pub async fn truncate(goal: &Goal) {
    let plan = goal.plan(vec![two_columns(&[])]);
    let owner = goal.claim(&plan).await;
    let mut applier = goal.applier(&plan, &owner).await;
    let mut batch = batch(1);
    let [one, two] = [pair(&mut batch.rows, 1, 1), pair(&mut batch.rows, 2, 2)];
    batch.ordered = ordered(&[RowOp::Insert(one), RowOp::Truncate, RowOp::Insert(two)]);
    let applied = apply(applier.as_mut(), &batch).await;
    assert_eq!(applied.durable, at(1));
    assert_eq!(goal.rows(), "2\t2");
}

/// Rows of a table without a key count as often as they are there, and one of equal ones goes alone.
///
/// # Panics
/// When the target does not.
pub async fn no_pk_table(goal: &Goal) {
    let mut table = two_columns(&[]);
    table.primary_key.clear();
    for column in &mut table.columns {
        column.nullable = true;
    }
    let plan = goal.plan(vec![table]);
    let owner = goal.claim(&plan).await;
    let mut applier = goal.applier(&plan, &owner).await;
    let mut batch = batch(1);
    let mut insert = |id: i64| RowOp::Insert(pair(&mut batch.rows, id, 0));
    let mut ops = vec![insert(1), insert(1), insert(1), insert(2)];
    let gone = pair(&mut batch.rows, 1, 0);
    let [old, new] = [pair(&mut batch.rows, 2, 0), pair(&mut batch.rows, 3, 0)];
    ops.extend([RowOp::Delete(gone), update(old, new)]);
    batch.ordered = ordered(&ops);
    apply(applier.as_mut(), &batch).await;
    assert_eq!(goal.rows(), "1\t0\n1\t0\n3\t0");
}

/// Layouts of source tables become durable with the position and not before it, whatever is in them;
/// only the owner writes them, and they go with the task.
///
/// # Panics
/// When the target does not.
pub async fn layouts_move_with_the_position(goal: &Goal) {
    let plan = goal.plan(vec![two_columns(&[])]);
    let owner = goal.claim(&plan).await;
    assert_eq!(owner.layouts, []);
    let layout = |table: &str, text: &str| (TableName::new("there", table), Layout::new(text));
    let stored = async || {
        let mut claimed = goal.claim(&plan).await;
        claimed.layouts.sort_by(|a, b| a.0.cmp(&b.0));
        claimed
    };
    let long = "é\t'\"\\\n🦊".repeat(20_000);
    let mut applier = goal.applier(&plan, &owner).await;
    let (t, u) = (layout("t", "one"), layout("u'\"`", &long));
    let kept = applier.keep_layouts(&[t.clone(), u.clone()]).await;
    kept.expect("layouts are kept");
    // Without its end a transaction changes nothing.
    let mut part = batch(1);
    let row = pair(&mut part.rows, 1, 1);
    part.ordered = ordered(&[RowOp::Insert(row)]);
    let mut end = batch(2);
    end.layouts = vec![layout("t", "two")];
    apply(
        applier.as_mut(),
        &ApplyBatch {
            position: None,
            ..part.clone()
        },
    )
    .await;
    drop(applier);
    let owner = stored().await;
    assert_eq!(owner.layouts, [t, u.clone()]);
    let mut applier = goal.applier(&plan, &owner).await;
    apply(
        applier.as_mut(),
        &ApplyBatch {
            position: None,
            ..part
        },
    )
    .await;
    assert_eq!(apply(applier.as_mut(), &end).await.durable, at(2));
    let owner = stored().await;
    assert_eq!(
        (owner.applied, &owner.layouts),
        (at(2), &vec![layout("t", "two"), u])
    );
    // The old owner is fenced, and a new one forgets what it does not name.
    let error = applier.keep_layouts(&[]).await.expect_err("it is fenced");
    assert_eq!(error.kind(), Kind::Fenced, "{}", error.chain());
    drop(applier);
    let owner = stored().await;
    assert_eq!(owner.layouts.len(), 2);
    let mut applier = goal.applier(&plan, &owner).await;
    let kept = applier.keep_layouts(&[layout("v", "three")]).await;
    kept.expect("layouts are kept");
    drop(applier);
    assert_eq!(stored().await.layouts, [layout("v", "three")]);
    let released = goal.target().release(&goal.key).await;
    released.expect("a task is released");
    assert_eq!(stored().await.layouts, []);
}

/// Without DELETE a row that was kept makes way for one that moves to its key, and only for that.
///
/// # Panics
/// When the target does not.
pub async fn kept_rows_make_way(goal: &Goal) {
    let key = match goal.place.system() {
        System::MariaDb => "varchar(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
        System::Postgres => {
            goal.sql(
                "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', \
                 deterministic = false)",
            );
            "varchar(10) COLLATE ci"
        }
    };
    goal.sql(&format!(
        "CREATE TABLE t (id {key} PRIMARY KEY, v bigint, kept bigint DEFAULT 7)"
    ));
    if goal.place.system() == System::Postgres {
        goal.sql("GRANT ALL ON t TO PUBLIC");
    }
    let all_but_delete = Operations {
        delete: false,
        ..Operations::ALL
    };
    let plan = goal.plan_into_t(all_but_delete).await;
    let owner = goal.claim(&plan).await;
    let mut applier = goal.applier(&plan, &owner).await;
    // Old key, new key and value; without a value the log does not have it. Then what is there, and
    // how many rows were repaired and missing.
    type Row = (&'static str, Option<i64>);
    type Case = (Option<&'static str>, Row, &'static str, (u64, u64));
    let cases: [Case; 7] = [
        (None, ("a", Some(1)), "a:1", (0, 0)),
        (None, ("b", Some(2)), "a:1 b:2", (0, 0)),
        // What is not logged comes along.
        (Some("a"), ("b", None), "b:1", (0, 0)),
        // A key that is taken for equal is its own.
        (Some("b"), ("B", None), "B:1", (0, 0)),
        (None, ("c", Some(3)), "B:1 c:3", (0, 0)),
        // Nothing comes to this key.
        (Some("d"), ("c", None), "B:1 c:3", (0, 1)),
        // The row comes anew.
        (Some("d"), ("c", Some(4)), "B:1 c:4", (1, 0)),
    ];
    for (n, (old, (key, value), expected, counted)) in cases.into_iter().enumerate() {
        let mut batch = batch(u32::try_from(n).unwrap_or_default());
        let mut row = |key: &str, value: Option<i64>, kept: Option<i64>| {
            batch.rows.push(CellRef::Text(key));
            for cell in [value, kept] {
                let cell = cell.map_or(CellRef::Unchanged, CellRef::I64);
                batch.rows.push(cell);
            }
            batch.rows.end_row()
        };
        let before = old.map(|old| row(old, None, None));
        let after = row(key, value, value.map(|_| 7));
        batch.ordered = ordered(&[match before {
            Some(before) => RowOp::Update { before, after },
            None => RowOp::Insert(after),
        }]);
        let applied = apply(applier.as_mut(), &batch).await;
        let rows = goal.sql("SELECT id, v FROM t WHERE kept = 7 ORDER BY v");
        assert_eq!(rows.replace('\t', ":").replace('\n', " "), expected, "{n}");
        let counts = applied.counts.first().expect("one table was counted");
        assert_eq!((counts.repaired, counts.missing), counted, "{n}");
    }
}

fn batch(position: u32) -> ApplyBatch {
    ApplyBatch {
        position: at(position),
        ..ApplyBatch::default()
    }
}

fn update(before: usize, after: usize) -> RowOp {
    RowOp::Update { before, after }
}

fn column(name: &str) -> ColumnSchema {
    let int = ColumnType::Int {
        bits: 64,
        unsigned: false,
    };
    ColumnSchema {
        nullable: name != "id",
        ..ColumnSchema::new(name, int, "of the source")
    }
}

/// A source table whose first column is its key; `unique` are further unique columns.
fn source(name: &str, columns: Vec<ColumnSchema>, unique: &[usize]) -> TableSchema {
    let unique_key = |c: &usize| UniqueKey {
        name: format!("u{c}"),
        columns: vec![*c],
    };
    TableSchema {
        primary_key: vec![0],
        unique_keys: unique.iter().map(unique_key).collect(),
        ..TableSchema::new(TableName::new("there", name), columns)
    }
}

/// A source table `t` of two integers, `id` and `v`.
fn two_columns(unique: &[usize]) -> TableSchema {
    source("t", vec![column("id"), column("v")], unique)
}

/// Appends a row of two integers.
fn pair(rows: &mut RowBatch, id: i64, value: i64) -> usize {
    rows.push(CellRef::I64(id));
    rows.push(CellRef::I64(value));
    rows.end_row()
}

fn ordered(ops: &[RowOp]) -> Vec<TableOp> {
    let of_first = |&op: &RowOp| TableOp {
        target: 0,
        feed: 0,
        op,
        unchecked: false,
        origin: 0,
    };
    ops.iter().map(of_first).collect()
}

fn at(number: u32) -> Option<Position> {
    Some(Position::new(number.to_string()))
}
