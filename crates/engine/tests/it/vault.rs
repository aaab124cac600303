//! A bank whose tables are large enough to be cut, and random transactions of all kinds on it.

use std::collections::BTreeSet;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use thalweg_core::mapping::TaskOptions;
use thalweg_testkit::memory::{MemoryChange, Row, Rows};

use crate::world::{World, schemas};

const COLUMNS: [&str; 3] = ["id", "amount", "tag"];
/// Accounts in each table at the beginning.
const ACCOUNTS: i64 = 9;
/// Numbers of accounts are below.
const IDS: i64 = 1_000;

/// What of a vault is chosen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kind {
    /// Whether the log has no more than what changed, and of old rows the key.
    pub(crate) partial: bool,
    /// Whether tags are unique at the target, and if so, whether only once it is Live.
    pub(crate) unique: Option<bool>,
    /// Whether the target says, wrongly, that rows of several moments may lie in it.
    pub(crate) says_loose: bool,
    /// Whether the first attempt's load has one snapshot.
    pub(crate) one_snapshot: bool,
    /// Whether the source truncates now and then.
    pub(crate) truncates: bool,
    /// Whether a table is to be loaded again before each later run, while the other one is there.
    pub(crate) joins: bool,
    /// Whether the source is replaced now and then by a replica that lacks its last transactions.
    pub(crate) replaced: bool,
}

/// The bank, and who makes transactions on it.
pub(crate) struct Vault {
    pub(crate) world: World,
    pub(crate) customers: Customers,
}

pub(crate) struct Customers {
    kind: Kind,
    pub(crate) rng: SmallRng,
    /// Tables and ids that an unseen transaction has touched.
    locked: BTreeSet<(usize, i64)>,
    next_tag: i64,
    /// How often the source was replaced.
    pub(crate) replaced: u64,
}

impl Vault {
    pub(crate) fn new(kind: Kind, seed: u64) -> Self {
        let rows: Vec<Row> = (0..ACCOUNTS)
            .map(|n| vec![n * IDS / ACCOUNTS + 7, 100, n])
            .collect();
        let mut tables = schemas("bank", &COLUMNS);
        for table in &mut tables {
            table.old_image = kind.partial.then(|| vec![0]);
        }
        let options = TaskOptions {
            chunk_rows: 2,
            workers: 2,
            ..TaskOptions::default()
        };
        let mut world = World::with(tables, &rows, options);
        world.source.one_snapshot = kind.one_snapshot;
        world.target.says_loose = kind.says_loose;
        for target in &world.plan.targets {
            if let Some(late) = kind.unique {
                world.target.unique(&target.name, 2, late);
            }
        }
        let customers = Customers {
            kind,
            rng: SmallRng::seed_from_u64(seed),
            locked: BTreeSet::new(),
            next_tag: 1_000,
            replaced: 0,
        };
        Vault { world, customers }
    }
}

impl Customers {
    /// Commits a random transaction that keeps the total; one in four is not visible to snapshots
    /// until a later call.
    pub(crate) fn transact(&mut self, world: &World) {
        if self.kind.replaced && self.rng.random_ratio(1, 8) {
            world.source.replace();
            self.locked.clear();
            self.replaced += 1;
        }
        if !self.locked.is_empty() && self.rng.random_bool(0.5) {
            world.source.reveal();
            self.locked.clear();
        }
        let mut draft = Draft {
            tables: [0, 1].map(|table| world.source.rows(table)),
            locked: &self.locked,
            changes: Vec::new(),
        };
        if self.kind.truncates && self.locked.is_empty() && self.rng.random_ratio(1, 6) {
            draft.truncate(self.rng.random_range(0..2));
        }
        for _ in 0..self.rng.random_range(1..4) {
            draft.step(&mut self.rng, &mut self.next_tag);
        }
        let changes = draft.changes;
        let truncates = |c: &MemoryChange| c.before.is_none() && c.after.is_none();
        if self.rng.random_ratio(1, 4) && !changes.iter().any(truncates) {
            let rows = |c: &MemoryChange| {
                let rows = [c.before.clone(), c.after.clone()].into_iter().flatten();
                rows.map(|row| (c.table, row[0])).collect::<Vec<_>>()
            };
            self.locked.extend(changes.iter().flat_map(rows));
            world.source.commit_unseen(changes);
        } else {
            world.source.commit_changes(changes);
        }
    }

    /// Everything is visible, and no transaction is under way.
    pub(crate) fn settle(&mut self, world: &World) {
        world.source.reveal();
        self.locked.clear();
    }
}

/// A transaction being made.
struct Draft<'a> {
    tables: [Rows; 2],
    locked: &'a BTreeSet<(usize, i64)>,
    changes: Vec<MemoryChange>,
}

impl Draft<'_> {
    /// Does one thing that keeps the total and each table's tags unique.
    fn step(&mut self, rng: &mut SmallRng, tag: &mut i64) {
        let (Some((a, one)), Some((b, other))) = (self.pick(rng), self.pick(rng)) else {
            return;
        };
        let same = a == b && one[0] == other[0];
        let part = rng.random_range(1..9);
        let with = |row: &Row, column: usize, value: i64| {
            let mut row = row.clone();
            row[column] = value;
            row
        };
        match rng.random_range(0..6) {
            // A transfer.
            0 if !same => {
                self.change(a, Some(&one), Some(with(&one, 1, one[1] - part)));
                self.change(b, Some(&other), Some(with(&other, 1, other[1] + part)));
            }
            // A row moves to another key.
            1 => {
                if let Some(id) = self.free(a, rng) {
                    self.change(a, Some(&one), Some(with(&one, 0, id)));
                }
            }
            // A row goes, and what it had comes to another one.
            2 if !same => {
                self.change(a, Some(&one), None);
                self.change(b, Some(&other), Some(with(&other, 1, other[1] + one[1])));
            }
            // A row comes.
            3 => {
                if let Some(id) = self.free(b, rng) {
                    *tag += 1;
                    self.change(a, Some(&one), Some(with(&one, 1, one[1] - part)));
                    self.change(b, None, Some(vec![id, part, *tag]));
                }
            }
            // Two rows swap their keys.
            4 if !same && a == b => {
                let Some(id) = self.free(a, rng) else { return };
                let parked = with(&one, 0, id);
                self.change(a, Some(&one), Some(parked.clone()));
                self.change(a, Some(&other), Some(with(&other, 0, one[0])));
                self.change(a, Some(&parked), Some(with(&one, 0, other[0])));
            }
            // A tag goes from one row to another.
            5 if !same && a == b => {
                *tag += 1;
                self.change(a, Some(&one), Some(with(&one, 2, *tag)));
                self.change(a, Some(&other), Some(with(&other, 2, one[2])));
            }
            _ => {}
        }
    }

    /// Removes all rows at once, and writes them again.
    fn truncate(&mut self, table: usize) {
        let rows = std::mem::take(&mut self.tables[table]);
        self.changes.push(MemoryChange {
            table,
            before: None,
            after: None,
        });
        for row in rows.into_values() {
            self.change(table, None, Some(row));
        }
    }

    fn change(&mut self, table: usize, before: Option<&Row>, after: Option<Row>) {
        let rows = &mut self.tables[table];
        if let Some(before) = before {
            rows.remove([before[0]].as_slice())
                .expect("a row that is there");
        }
        if let Some(after) = &after {
            rows.insert(vec![after[0]], after.clone());
        }
        self.changes.push(MemoryChange {
            table,
            before: before.cloned(),
            after,
        });
    }

    /// A row that nobody has locked.
    fn pick(&self, rng: &mut SmallRng) -> Option<(usize, Row)> {
        let table = rng.random_range(0..2);
        let free = |row: &&Row| !self.locked.contains(&(table, row[0]));
        let rows: Vec<&Row> = self.tables[table].values().filter(free).collect();
        let row = rows.get(rng.random_range(0..rows.len().max(1)))?;
        Some((table, Row::clone(row)))
    }

    /// A key that has no row.
    fn free(&self, table: usize, rng: &mut SmallRng) -> Option<i64> {
        let id = rng.random_range(0..IDS);
        let taken = self.tables[table].contains_key([id].as_slice());
        (!taken && !self.locked.contains(&(table, id))).then_some(id)
    }
}
