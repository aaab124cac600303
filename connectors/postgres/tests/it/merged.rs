//! Tables that several sources fill: random changes against a model of each source's rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use thalweg_core::batch::{ApplyBatch, FoldedTable, Net, RowOp, TableOp};
use thalweg_core::checkpoint::{Epoch, LoadedChunk};
use thalweg_core::mapping::{ExistingRows, Mapping, Operations, TaskOptions};
use thalweg_core::plan::{Plan, TablePair, resolve};
use thalweg_core::position::{Position, Visibility};
use thalweg_core::schema::{ColumnSchema, ColumnType, TableName, TableSchema};
use thalweg_core::value::{CellRef, RowBatch};

use crate::world::World;

/// The sources' own columns; all share the key `K "1"` and `k2`.
const OWNED: [&[&str]; 3] = [&["a", "A b\""], &["select"], &[]];
const SETUP: &str = "CREATE SCHEMA \"Sch \"\"ema.x\"; \
    CREATE TABLE \"Sch \"\"ema.x\".\"#-😀 table\" (\"K \"\"1\" bigint, k2 text COLLATE \"C\", a text, \
    \"A b\"\"\" bigint NOT NULL DEFAULT -1, \"select\" bigint, other bigint DEFAULT 7, \
    PRIMARY KEY (k2, \"K \"\"1\"))";

type Key = (i64, i64);
type Owned = Vec<Option<i64>>;

fn column(name: &str, text: bool) -> ColumnSchema {
    let int = ColumnType::Int {
        bits: 64,
        unsigned: false,
    };
    let ty = if text {
        ColumnType::Text { max_chars: None }
    } else {
        int
    };
    ColumnSchema {
        nullable: !["K \"1", "k2", "A b\""].contains(&name),
        ..ColumnSchema::new(name, ty, "of the source")
    }
}

async fn plan(world: &World, owner: Option<usize>) -> Arc<Plan> {
    let name = TableName::new("Sch \"ema.x", "#-😀 table");
    let target = world
        .target
        .describe(std::slice::from_ref(&name))
        .await
        .unwrap();
    let pairs = OWNED.iter().enumerate().map(|(n, owned)| {
        let mut columns = vec![column("k2", true), column("K \"1", false)];
        columns.extend(owned.iter().map(|name| column(name, *name == "a")));
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
    Arc::new(
        resolution
            .plan
            .unwrap_or_else(|| panic!("{:?}", resolution.findings)),
    )
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
        let table = &self.plan.targets[0];
        for column in &table.columns {
            let place = OWNED[feed].iter().position(|name| *name == column.name);
            let cell = match (column.name.as_str(), place) {
                ("K \"1" | "k2", _) if !key_sent => CellRef::Unchanged,
                ("K \"1", _) => CellRef::I64(key.0),
                ("k2", _) => CellRef::Text(["x", "X", "y"][usize::try_from(key.1).unwrap()]),
                (_, None) => CellRef::Absent,
                (name, Some(place)) => match owned[place] {
                    None => CellRef::Unchanged,
                    Some(None) => CellRef::Null,
                    Some(Some(value)) if name == "a" => {
                        self.batch
                            .rows
                            .push(CellRef::Text(&value.to_string().repeat(3)));
                        continue;
                    }
                    Some(Some(value)) => CellRef::I64(value),
                },
            };
            self.batch.rows.push(cell);
        }
        self.batch.rows.end_row()
    }

    fn value(&mut self, feed: usize, place: usize) -> Option<i64> {
        let not_null = OWNED[feed][place] == "A b\"";
        (not_null || self.rng.random_bool(0.8)).then(|| self.rng.random_range(0..100))
    }

    /// One change of one source, in the model and as an operation.
    fn change(&mut self, folded: &mut FoldedTable) {
        let feed = folded.feed;
        let key = (self.rng.random_range(0..3), self.rng.random_range(0..3));
        let none: Vec<Option<Option<i64>>> = OWNED[feed].iter().map(|_| None).collect();
        let whole = |owned: &Owned| owned.iter().map(|cell| Some(*cell)).collect::<Vec<_>>();
        let op = match self.rows[feed].get(&key).cloned() {
            None => {
                let owned: Owned = (0..OWNED[feed].len())
                    .map(|n| self.value(feed, n))
                    .collect();
                let row = self.image(feed, key, &whole(&owned), true);
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
            Some(old) => {
                let to = (self.rng.random_range(0..3), self.rng.random_range(0..3));
                let to = if self.rows[feed].contains_key(&to) {
                    key
                } else {
                    to
                };
                let mut new = old;
                let mut sent = none.clone();
                for n in 0..new.len() {
                    if self.rng.random_bool(0.6) {
                        new[n] = self.value(feed, n);
                        sent[n] = Some(new[n]);
                    }
                }
                let before = self.image(feed, key, &none, true);
                let key_sent = to != key || self.rng.random_bool(0.5);
                let after = self.image(feed, to, &sent, key_sent);
                self.rows[feed].remove(&key);
                self.rows[feed].insert(to, new);
                folded.updates.push((before, after));
                RowOp::Update { before, after }
            }
        };
        self.batch.ordered.push(TableOp {
            target: 0,
            feed,
            op,
            unchecked: false,
        });
    }

    /// What the target has to show: a line per row.
    fn shown(&self, owner: Option<usize>) -> String {
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
            let second = match has(0) {
                Some(owned) => owned[1],
                None => Some(-1),
            };
            lines.push(format!(
                "{}|{}|{}|{}|{}|7",
                key.0,
                ["x", "X", "y"][usize::try_from(key.1).unwrap()],
                text(cell(0, 0).map(|v| v.to_string().repeat(3))),
                text(second.map(|v| v.to_string())),
                text(cell(1, 0).map(|v| v.to_string())),
            ));
        }
        lines.sort();
        lines.join("\n")
    }
}

/// What the target shows.
fn rows(world: &World) -> String {
    let rows = "SELECT line FROM (SELECT concat_ws('|', \"K \"\"1\", k2, coalesce(a, '-'), \
        \"A b\"\"\", coalesce(\"select\"::text, '-'), other) AS line \
        FROM \"Sch \"\"ema.x\".\"#-😀 table\") l ORDER BY line COLLATE \"C\"";
    world.server.sql(rows).unwrap()
}

/// Loads some rows of each source; two of them at the same time, in opposite order of their keys.
async fn load(world: &World, epoch: Epoch, life: &mut Life) {
    let mut loaders = Vec::new();
    for (feed, own) in OWNED.iter().enumerate() {
        let mut rows = RowBatch::new();
        let keys: Vec<i64> = if feed == 0 {
            (0..6).collect()
        } else {
            (3..9).rev().collect()
        };
        for k in keys {
            let key = (k / 3, k % 3);
            let owned: Owned = (0..own.len()).map(|n| life.value(feed, n)).collect();
            let cells: Vec<_> = owned.iter().map(|cell| Some(*cell)).collect();
            let row = life.image(feed, key, &cells, true);
            rows.append(life.batch.rows.row(row));
            life.rows[feed].insert(key, owned);
        }
        let loader = world
            .target
            .open_loader(&world.key, epoch, Arc::clone(&life.plan));
        let mut loader = loader.await.unwrap();
        loader.begin(0, feed).await.unwrap();
        if feed == 0 {
            let print = life.plan.fingerprint(0);
            loader.empty(ExistingRows::Refuse, &print).await.unwrap();
            loader.commit(None).await.unwrap();
            loader.begin(0, feed).await.unwrap();
        }
        loader.load(&rows).await.unwrap();
        let chunk = LoadedChunk {
            source: TableName::new("shop", format!("s{feed}")),
            range: None,
            seen: Visibility::new("1"),
            rows: rows.len() as u64,
        };
        loaders.push((loader, chunk));
    }
    let commits = loaders
        .iter_mut()
        .map(|(loader, chunk)| loader.commit(Some(chunk)));
    for done in futures_util::future::join_all(commits).await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_several_sources_meet_by_key() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(20_261_125);
    println!("SEED={seed}");
    for owner in [None, Some(0), Some(1), Some(2)] {
        let world = World::new();
        world.server.sql(SETUP).unwrap();
        let plan = plan(&world, owner).await;
        let epoch = world.claim(&plan).await.epoch;
        let applier = world
            .target
            .open_applier(&world.key, epoch, Arc::clone(&plan));
        let mut applier = applier.await.unwrap();
        let mut life = Life {
            rng: SmallRng::seed_from_u64(seed),
            plan,
            batch: ApplyBatch::default(),
            rows: Default::default(),
        };
        load(&world, epoch, &mut life).await;
        assert_eq!(rows(&world), life.shown(owner), "owner {owner:?}, loaded");
        for round in 0..30 {
            life.batch = ApplyBatch {
                position: Some(Position::new(round.to_string())),
                ..ApplyBatch::default()
            };
            // One change of each source is its own net effect; the order of the sources is any.
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
            if in_order && round % 2 == 0 {
                let feed = life.rng.random_range(0..3);
                life.rows[feed].clear();
                let op = RowOp::Truncate;
                life.batch.ordered.push(TableOp {
                    target: 0,
                    feed,
                    op,
                    unchecked: false,
                });
            }
            life.batch.folded = Some(if in_order {
                vec![Net::InOrder(0)]
            } else {
                nets
            });
            let applied = applier.apply(&life.batch).await.unwrap();
            let counts = applied.counts[0];
            assert_eq!(
                (counts.repaired, counts.missing),
                (0, 0),
                "owner {owner:?}, round {round}"
            );
            assert_eq!(
                rows(&world),
                life.shown(owner),
                "owner {owner:?}, round {round}"
            );
        }
        world.target.release(&world.key).await.unwrap();
        let left = "SELECT count(*) FROM pg_namespace WHERE nspname = 'thalweg'";
        assert_eq!(
            world.server.sql(left).unwrap(),
            "0",
            "release removes the side table"
        );
    }
}
