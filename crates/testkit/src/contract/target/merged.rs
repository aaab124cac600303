//! Tables that several sources fill: random changes against a model of each source's rows, keys that
//! the target takes for equal, and what the side table was made for.
#![allow(clippy::indexing_slicing, reason = "tests may panic")]

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use thalweg_core::batch::{ApplyBatch, FoldedTable, Net, RowOp, TableOp};
use thalweg_core::checkpoint::{Checkpoint, LoadedChunk, TablePhase};
use thalweg_core::mapping::{ExistingRows, Mapping, Operations, TaskOptions};
use thalweg_core::plan::{Plan, TablePair, resolve};
use thalweg_core::position::Visibility;
use thalweg_core::schema::{ColumnSchema, ColumnType, TableName, TableSchema};
use thalweg_core::value::{CellRef, RowBatch};
use thalweg_core::{Kind, Result};
use tokio::task::JoinSet;

use super::{Goal, apply, batch, update};
use crate::servers::System;

/// The target's name, and its columns' beside those of [`OWNED`].
const TABLE: &str = "#-☃ table";
const KEY: [&str; 2] = ["K `\"1", "k2"];
/// The sources' own columns.
const OWNED: [&[&str]; 3] = [&["a", "A b\""], &["select"], &[]];
const TEXTS: [&str; 3] = ["x", "X", "y"];

type Key = (i64, i64);
type Owned = Vec<Option<i64>>;

fn quoted(goal: &Goal, name: &str) -> String {
    goal.place.system().quote(name)
}

/// Makes the target; its second key column has this type.
fn create(goal: &Goal, key: &str) {
    let [k1, k2] = KEY.map(|name| quoted(goal, name));
    let (table, ab, select) = (
        quoted(goal, TABLE),
        quoted(goal, "A b\""),
        quoted(goal, "select"),
    );
    goal.sql(&format!(
        "CREATE TABLE {table} ({k1} bigint, {k2} {key}, a text, {ab} bigint NOT NULL DEFAULT -1, \
         {select} bigint, other bigint DEFAULT 7, PRIMARY KEY ({k2}, {k1}))"
    ));
    if goal.place.system() == System::Postgres {
        goal.sql(&format!("GRANT ALL ON {table} TO PUBLIC"));
    }
}

/// A type of short texts, none of which are equal.
fn exact(goal: &Goal) -> &'static str {
    match goal.place.system() {
        System::MariaDb => "varchar(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
        System::Postgres => "varchar(10) COLLATE \"C\"",
    }
}

fn column(name: &str) -> ColumnSchema {
    let ty = match name {
        "k2" => ColumnType::Text {
            max_chars: Some(10),
        },
        "a" => ColumnType::Text { max_chars: None },
        _ => ColumnType::Int {
            bits: 64,
            unsigned: false,
        },
    };
    ColumnSchema {
        nullable: !KEY.contains(&name) && name != "A b\"",
        ..ColumnSchema::new(name, ty, "of the source")
    }
}

async fn plan(goal: &Goal, owner: Option<usize>) -> Arc<Plan> {
    let name = TableName::new(goal.place.schema(), TABLE);
    let target = goal.target().describe(std::slice::from_ref(&name)).await;
    let target = target.expect("a table is described");
    let pairs = OWNED.iter().enumerate().map(|(n, owned)| {
        let mut columns = vec![column("k2"), column(KEY[0])];
        columns.extend(owned.iter().map(|name| column(name)));
        // A target's key that takes texts for equal is for sources that do.
        for column in &mut columns {
            let key = column_of(&target, &column.name);
            column.folds = key.is_some_and(|key| key.folds);
        }
        let source = TableSchema {
            primary_key: vec![0, 1],
            ..TableSchema::new(TableName::new("shop", format!("s{n}")), columns)
        };
        TablePair {
            mapping: Mapping {
                id: format!("m{n}"),
                source: source.name.clone(),
                target: name.clone(),
                columns: Vec::new(),
            },
            source: Some(source),
            target: target.first().cloned(),
            create: false,
            rekey: false,
        }
    });
    let options = TaskOptions {
        row_owner: owner
            .map(|owner| (name.to_string(), format!("shop.s{owner}")))
            .into_iter()
            .collect(),
        ..TaskOptions::default()
    };
    let resolution = resolve(pairs.collect(), Operations::ALL, options);
    let findings = resolution.findings;
    Arc::new(resolution.plan.unwrap_or_else(|| panic!("{findings:?}")))
}

/// The column of this name of a described table.
fn column_of<'a>(described: &'a [TableSchema], name: &str) -> Option<&'a ColumnSchema> {
    let mut columns = described.iter().flat_map(|table| &table.columns);
    columns.find(|column| column.name == name)
}

/// The plan's only table.
fn columns(plan: &Plan) -> &[ColumnSchema] {
    plan.targets.first().map_or(&[], |table| &table.columns)
}

/// Appends a row of `feed` with this key and the same value in each of its columns.
fn row(plan: &Plan, rows: &mut RowBatch, feed: usize, key: (i64, &str), value: i64) -> usize {
    let own = OWNED.get(feed).copied().unwrap_or_default();
    for column in columns(plan) {
        let text = value.to_string();
        rows.push(match column.name.as_str() {
            "k2" => CellRef::Text(key.1),
            name if name == KEY[0] => CellRef::I64(key.0),
            name if !own.contains(&name) => CellRef::Absent,
            "a" => CellRef::Text(&text),
            _ => CellRef::I64(value),
        });
    }
    rows.end_row()
}

fn op(feed: usize, op: RowOp) -> TableOp {
    TableOp {
        target: 0,
        feed,
        op,
        unchecked: false,
        origin: 0,
    }
}

/// What the target shows: `key|key|a|A b"|select|other` each.
fn shown(goal: &Goal) -> Vec<String> {
    let text = match goal.place.system() {
        System::MariaDb => "char",
        System::Postgres => "text",
    };
    let [k1, k2] = KEY.map(|name| quoted(goal, name));
    let rows = goal.sql(&format!(
        "SELECT concat_ws('|', {k1}, {k2}, coalesce(a, '-'), {}, \
         coalesce(CAST({} AS {text}), '-'), other) FROM {}",
        quoted(goal, "A b\""),
        quoted(goal, "select"),
        quoted(goal, TABLE)
    ));
    let mut rows: Vec<String> = rows.lines().map(str::to_owned).collect();
    rows.sort();
    rows
}

struct Life {
    rng: SmallRng,
    plan: Arc<Plan>,
    batch: ApplyBatch,
    /// The rows of each source.
    rows: [BTreeMap<Key, Owned>; 3],
}

impl Life {
    /// Appends an image: the key, and those of the source's columns that are sent.
    fn image(
        &mut self,
        feed: usize,
        key: Key,
        owned: &[Option<Option<i64>>],
        key_sent: bool,
    ) -> usize {
        let own = OWNED[feed];
        for column in columns(&self.plan) {
            let text;
            let cell = match column.name.as_str() {
                name if KEY.contains(&name) && !key_sent => CellRef::Unchanged,
                "k2" => CellRef::Text(TEXTS[usize::try_from(key.1).unwrap_or(0)]),
                name if name == KEY[0] => CellRef::I64(key.0),
                name => match own.iter().position(|own| *own == name).map(|n| owned[n]) {
                    None => CellRef::Absent,
                    Some(None) => CellRef::Unchanged,
                    Some(Some(None)) => CellRef::Null,
                    Some(Some(Some(value))) if name == "a" => {
                        text = value.to_string().repeat(3);
                        CellRef::Text(&text)
                    }
                    Some(Some(Some(value))) => CellRef::I64(value),
                },
            };
            self.batch.rows.push(cell);
        }
        self.batch.rows.end_row()
    }

    fn value(&mut self, name: &str) -> Option<i64> {
        let not_null = name == "A b\"";
        (not_null || self.rng.random_bool(0.8)).then(|| self.rng.random_range(0..100))
    }

    fn values(&mut self, feed: usize) -> Owned {
        OWNED[feed].iter().map(|name| self.value(name)).collect()
    }

    fn key(&mut self) -> Key {
        (self.rng.random_range(0..3), self.rng.random_range(0..3))
    }

    /// One change of one source, in the model and as an operation.
    fn change(&mut self, folded: &mut FoldedTable) {
        let feed = folded.feed;
        let key = self.key();
        let none: Vec<Option<Option<i64>>> = OWNED[feed].iter().map(|_| None).collect();
        let change = match self.rows[feed].get(&key).cloned() {
            None => {
                let owned = self.values(feed);
                let cells: Vec<_> = owned.iter().map(|cell| Some(*cell)).collect();
                let row = self.image(feed, key, &cells, true);
                self.rows[feed].insert(key, owned);
                folded.inserts.push(row);
                RowOp::Insert(row)
            }
            Some(_) if self.rng.random_bool(0.3) => {
                self.rows[feed].remove(&key);
                let row = self.image(feed, key, &none, true);
                folded.deletes.push(row);
                RowOp::Delete(row)
            }
            Some(mut new) => {
                let to = self.key();
                let to = match self.rows[feed].contains_key(&to) {
                    true => key,
                    false => to,
                };
                let mut sent = none.clone();
                for (n, name) in OWNED[feed].iter().enumerate() {
                    if self.rng.random_bool(0.6) {
                        new[n] = self.value(name);
                        sent[n] = Some(new[n]);
                    }
                }
                let before = self.image(feed, key, &none, true);
                let key_sent = to != key || self.rng.random_bool(0.5);
                let after = self.image(feed, to, &sent, key_sent);
                self.rows[feed].remove(&key);
                self.rows[feed].insert(to, new);
                folded.updates.push((before, after));
                update(before, after)
            }
        };
        self.batch.ordered.push(op(feed, change));
    }

    /// What the target has to show.
    fn expected(&self, owner: Option<usize>) -> Vec<String> {
        let mut lines = Vec::new();
        for k in 0..9 {
            let key = (k / 3, k % 3);
            let has = |feed: usize| self.rows[feed].get(&key);
            let shown = match owner {
                Some(owner) => has(owner).is_some(),
                None => (0..3).any(|feed| has(feed).is_some()),
            };
            if !shown {
                continue;
            }
            let cell = |feed: usize, n: usize| has(feed).and_then(|owned| owned[n]);
            let text = |value: Option<String>| value.unwrap_or_else(|| "-".into());
            lines.push(format!(
                "{}|{}|{}|{}|{}|7",
                key.0,
                TEXTS[usize::try_from(key.1).unwrap_or(0)],
                text(cell(0, 0).map(|v| v.to_string().repeat(3))),
                cell(0, 1).unwrap_or(-1),
                text(cell(1, 0).map(|v| v.to_string())),
            ));
        }
        lines.sort();
        lines
    }
}

fn chunk(feed: usize, rows: usize) -> LoadedChunk {
    LoadedChunk {
        source: TableName::new("shop", format!("s{feed}")),
        range: None,
        seen: Visibility::new("1"),
        rows: rows as u64,
    }
}

/// Loads these rows of each source; all of them at the same time.
async fn load(
    goal: &Goal,
    plan: &Arc<Plan>,
    owner: &Checkpoint,
    rows: [RowBatch; 3],
) -> Result<()> {
    let mut loaders = Vec::new();
    for (feed, rows) in rows.iter().enumerate() {
        let mut loader = goal.loader(plan, owner).await;
        loader.begin(0, feed).await?;
        if feed == 0 {
            let print = plan.fingerprint(0);
            loader.empty(ExistingRows::Replace, &print).await?;
            loader.commit(None, &[]).await?;
            loader.begin(0, feed).await?;
        }
        loader.load(rows).await?;
        loaders.push((loader, chunk(feed, rows.len())));
    }
    let mut commits = JoinSet::new();
    for (mut loader, chunk) in loaders {
        commits.spawn(async move { loader.commit(Some(&chunk), &[]).await });
    }
    commits.join_all().await.into_iter().collect()
}

/// Some rows of each source; those of two in opposite order of their keys.
fn first_rows(life: &mut Life) -> [RowBatch; 3] {
    [0, 1, 2].map(|feed| {
        let mut rows = RowBatch::new();
        let keys: Vec<i64> = match feed {
            0 => (0..6).collect(),
            _ => (3..9).rev().collect(),
        };
        for key in keys.into_iter().map(|k| (k / 3, k % 3)) {
            let owned = life.values(feed);
            let cells: Vec<_> = owned.iter().map(|cell| Some(*cell)).collect();
            let row = life.image(feed, key, &cells, true);
            rows.append(life.batch.rows.row(row));
            life.rows[feed].insert(key, owned);
        }
        rows
    })
}

/// Rows of several sources meet by key, in every order and with every owner; nothing is left of
/// the side table in the end.
///
/// # Panics
/// When the target does not.
pub async fn sources_meet(goal: &Goal) {
    let seed = std::env::var("SEED").ok();
    let seed = seed.and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(20_261_125);
    #[allow(clippy::print_stdout, reason = "a failure is repeated by its seed")]
    {
        println!("SEED={seed}");
    }
    for owner in [None, Some(0), Some(1), Some(2)] {
        create(goal, exact(goal));
        let plan = plan(goal, owner).await;
        let claimed = goal.claim(&plan).await;
        let mut life = Life {
            rng: SmallRng::seed_from_u64(seed),
            plan: Arc::clone(&plan),
            batch: ApplyBatch::default(),
            rows: Default::default(),
        };
        let rows = first_rows(&mut life);
        let loaded = load(goal, &plan, &claimed, rows).await;
        loaded.expect("all sources are loaded");
        assert_eq!(shown(goal), life.expected(owner), "owner {owner:?}, loaded");
        let mut applier = goal.applier(&plan, &claimed).await;
        for round in 0..30 {
            one_batch(&mut life, round);
            let applied = apply(applier.as_mut(), &life.batch).await;
            let counts = applied.counts.first().expect("one table was counted");
            let at = format!("owner {owner:?}, round {round}");
            assert_eq!((counts.repaired, counts.missing), (0, 0), "{at}");
            assert_eq!(shown(goal), life.expected(owner), "{at}");
        }
        drop(applier);
        let released = goal.target().release(&goal.key).await;
        released.expect("a task is released");
        let left = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'thalweg'";
        assert_eq!(goal.sql(left), "0", "release removes the side table");
        goal.sql(&format!("DROP TABLE {}", quoted(goal, TABLE)));
    }
}

/// One change of each source is its own net effect; the order of the sources is any. Every third
/// batch is several of each, in order, at times with a source that is truncated.
fn one_batch(life: &mut Life, round: u32) {
    life.batch = batch(round);
    let mut nets = Vec::new();
    let in_order = round % 3 == 2;
    for _ in 0..if in_order { 4 } else { 1 } {
        for feed in [1, 0, 2] {
            let mut folded = FoldedTable {
                feed,
                ..FoldedTable::default()
            };
            life.change(&mut folded);
            nets.push(Net::Folded(folded));
        }
    }
    if in_order && round.is_multiple_of(2) {
        let feed = life.rng.random_range(0..3);
        life.rows[feed].clear();
        life.batch.ordered.push(op(feed, RowOp::Truncate));
    }
    life.batch.folded = Some(match in_order {
        true => vec![Net::InOrder(0)],
        false => nets,
    });
}

/// Where the target takes keys for equal, rows of different sources meet there, and two rows of one
/// source stop the task, whether they come together or not, and whether or not another source's row
/// is there.
///
/// # Panics
/// When the target does not.
pub async fn equal_keys_meet_once(goal: &Goal) {
    let folding = match goal.place.system() {
        System::MariaDb => "varchar(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
        System::Postgres => {
            goal.sql(
                "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', \
                 deterministic = false)",
            );
            "varchar(10) COLLATE ci"
        }
    };
    create(goal, folding);
    let plan = plan(goal, None).await;
    let claimed = goal.claim(&plan).await;
    let mut applier = goal.applier(&plan, &claimed).await;
    let mut good = batch(1);
    for (feed, key, value) in [(0, "a", 1), (1, "A", 2), (0, "b", 3)] {
        let row = row(&plan, &mut good.rows, feed, (1, key), value);
        good.ordered.push(op(feed, RowOp::Insert(row)));
    }
    // A key that is taken for equal is a row's own.
    let (old, new) = (
        row(&plan, &mut good.rows, 0, (1, "b"), 3),
        row(&plan, &mut good.rows, 0, (1, "B"), 4),
    );
    good.ordered.push(op(0, update(old, new)));
    apply(applier.as_mut(), &good).await;
    let there = ["1|B|4|4|-|7", "1|a|1|1|2|7"];
    assert_eq!(shown(goal), there);
    let cases: [(usize, &[&str]); 4] = [
        (0, &["A"]),
        (1, &["c", "C"]),
        (1, &["b", "B"]),
        (2, &["d", "D"]),
    ];
    for (feed, keys) in cases {
        for folds in [true, false] {
            let mut bad = batch(2);
            let mut folded = FoldedTable {
                feed,
                ..FoldedTable::default()
            };
            for key in keys {
                let row = row(&plan, &mut bad.rows, feed, (1, key), 5);
                bad.ordered.push(op(feed, RowOp::Insert(row)));
                folded.inserts.push(row);
            }
            bad.folded = folds.then(|| vec![Net::Folded(folded)]);
            let refused = applier.apply(&bad).await.map(drop);
            let kind = refused.expect_err("two rows of one source met").kind();
            assert_eq!(kind, Kind::Data, "{keys:?} of {feed}");
            drop(applier);
            applier = goal.applier(&plan, &goal.claim(&plan).await).await;
            assert_eq!(shown(goal), there, "{keys:?} of {feed}");
        }
    }
}

/// A side table of other types than the target's is made anew, and the table loaded again; any other
/// stays.
///
/// # Panics
/// When the target does not.
pub async fn side_table_follows_types(goal: &Goal) {
    create(goal, exact(goal));
    let before = plan(goal, None).await;
    let claimed = goal.claim(&before).await;
    let rows = [0, 1, 2].map(|feed| {
        let mut rows = RowBatch::new();
        row(&before, &mut rows, feed, (1, "k"), 5);
        rows
    });
    let loaded = load(goal, &before, &claimed, rows).await;
    loaded.expect("all sources are loaded");
    let mut applier = goal.applier(&before, &claimed).await;
    applier.go_live().await.expect("it goes live");
    drop(applier);
    let longer = exact(goal).replace("10", "20");
    let alter = match goal.place.system() {
        System::MariaDb => format!("MODIFY k2 {longer} NOT NULL"),
        System::Postgres => format!("ALTER k2 TYPE {longer}"),
    };
    for altered in [false, true] {
        if altered {
            goal.sql(&format!("ALTER TABLE {} {alter}", quoted(goal, TABLE)));
        }
        let plan = plan(goal, None).await;
        let claimed = goal.claim(&plan).await;
        let phase = claimed.tables.first().map(|table| &table.phase);
        let waits = matches!(phase, Some(TablePhase::Waiting));
        assert_eq!(waits, altered, "{phase:?}");
        assert_eq!(shown(goal), ["1|k|5|5|5|7"]);
    }
}
