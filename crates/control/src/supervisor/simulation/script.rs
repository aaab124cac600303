//! What happens at the source, and to the task's tables, at random.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use thalweg_core::schema::{ColumnSchema, ColumnType};
use thalweg_testkit::memory::{Alter, Given, MemoryChange, NULL, Row, Rows};

use super::world::{NAMED, TABLES, World, of};
use crate::model::Paused;
use crate::tables::Tables;

/// Numbers of rows are below.
const IDS: i64 = 40;

pub(super) struct Script {
    pub(super) rng: SmallRng,
    /// Tables and ids that an unseen transaction has touched.
    locked: BTreeSet<(usize, i64)>,
    /// Tables and names of columns whose values the log does not tell for each moment.
    pub(super) untold: BTreeSet<(usize, String)>,
    /// Tables whose rows have gone without being in the log, and from which place on.
    pub(super) vanished: BTreeMap<usize, usize>,
    /// Tables whose rows were computed anew.
    rewritten: BTreeSet<usize>,
    /// Mappings that were made.
    made: u64,
    pub(super) alters: u64,
}

impl Script {
    pub(super) fn new(seed: u64) -> Self {
        Script {
            rng: SmallRng::seed_from_u64(seed),
            locked: BTreeSet::new(),
            untold: BTreeSet::new(),
            vanished: BTreeMap::new(),
            rewritten: BTreeSet::new(),
            made: 0,
            alters: 0,
        }
    }

    /// Rows that are there at the beginning.
    pub(super) fn begin(&mut self, world: &World) {
        for table in 0..TABLES.len() {
            let insert = |n: i64| MemoryChange {
                table,
                before: None,
                after: Some(vec![n * 7, 100 + n, n]),
            };
            world.source.commit_changes((0..5).map(insert).collect());
        }
    }

    /// Everything is visible, and no transaction is under way.
    pub(super) fn settle(&mut self, world: &World) {
        world.source.reveal();
        self.locked.clear();
    }

    /// One thing more.
    pub(super) async fn act(&mut self, world: &World) {
        match self.rng.random_range(0..20) {
            0..=10 => self.transact(world),
            11..=16 => self.alter(world),
            _ => self.decide(world).await,
        }
    }

    /// Commits a random transaction; some are not visible to snapshots until a later one.
    fn transact(&mut self, world: &World) {
        if !self.locked.is_empty() && self.rng.random_bool(0.5) {
            self.settle(world);
        }
        let mut tables: Vec<Rows> = (0..TABLES.len()).map(|t| world.source.rows(t)).collect();
        let mut changes = Vec::new();
        for _ in 0..self.rng.random_range(1..6) {
            let table = self.rng.random_range(0..TABLES.len());
            let columns = world.source.table(table).columns;
            let (old, id) = (self.rng.random_range(0..IDS), self.rng.random_range(0..IDS));
            if self.locked.contains(&(table, old)) || self.locked.contains(&(table, id)) {
                continue;
            }
            let rows = &mut tables[table];
            let before = rows.remove([old].as_slice());
            let goes = before.is_some() && self.rng.random_ratio(1, 4);
            let moves = before.is_none() || self.rng.random_ratio(1, 5);
            let id = if moves { id } else { old };
            if rows.contains_key([id].as_slice()) {
                // Its place is taken: the old row stays.
                rows.extend(before.map(|row| (vec![old], row)));
                continue;
            }
            let after = (!goes).then(|| self.row(id, &columns, before.as_ref()));
            rows.extend(after.clone().map(|row| (vec![id], row)));
            changes.push(MemoryChange {
                table,
                before,
                after,
            });
        }
        if self.locked.is_empty() && self.rng.random_ratio(1, 25) {
            let table = self.rng.random_range(0..TABLES.len());
            let (before, after) = (None, None);
            changes.push(MemoryChange {
                table,
                before,
                after,
            });
            world.source.commit_changes(changes);
        } else if self.rng.random_ratio(1, 6) {
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

    fn row(&mut self, id: i64, columns: &[ColumnSchema], before: Option<&Row>) -> Row {
        let mut row = vec![id];
        for (at, column) in columns.iter().enumerate().skip(1) {
            let wide = matches!(column.ty, ColumnType::Int { bits: 64, .. });
            let old = before.map(|row| row[at]);
            row.push(match self.rng.random_range(0..8) {
                0 if column.nullable => NULL,
                1 | 2 if wide => i64::from(i32::MAX) + self.rng.random_range(1..1000),
                3..=5 if old.is_some() => old.unwrap_or_default(),
                _ => self.rng.random_range(0..1000),
            });
        }
        row
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.rng.random_range(0..all.len())].clone()
    }

    fn default(&mut self) -> Given {
        match self.rng.random_range(0..10) {
            0..=1 => Given::Null,
            2..=6 => Given::Value(self.rng.random_range(0..1000)),
            _ => Given::Own,
        }
    }

    /// Alters a table at random.
    fn alter(&mut self, world: &World) {
        let table = self.rng.random_range(0..TABLES.len());
        let there = world.source.table(table).columns;
        let free =
            |name: &&ColumnSchema| name.name != "id" && (table != NAMED || name.name != "amount");
        let names: Vec<String> = there.iter().filter(free).map(|c| c.name.clone()).collect();
        let new = self.pick(&["c1", "c2", "c3", "c4"]).to_owned();
        let of: Vec<String> = there.iter().skip(1).map(|c| c.name.clone()).collect();
        let alter = match self.rng.random_range(0..22) {
            20..=21 => Alter::Vanish(self.rng.random_range(0..IDS)),
            0..=8 => Alter::Add {
                name: new,
                bits: self.pick(&[32, 64]),
                default: self.default(),
            },
            9..=10 if !names.is_empty() => Alter::Drop(self.pick(&names)),
            11..=14 if !of.is_empty() => Alter::Retype {
                name: self.pick(&of),
                bits: 64,
                // A server whose catalog does not say what rows of before have got (MySQL) gives a column
                // another type with the values it had.
                rewrites: self.rng.random_ratio(1, 3) && !world.source.guesses,
            },
            15 if !of.is_empty() => Alter::Retype {
                name: self.pick(&of),
                bits: 32,
                rewrites: false,
            },
            16 if !names.is_empty() => Alter::Rename {
                name: self.pick(&names),
                to: new,
            },
            17..=19 if !of.is_empty() => Alter::Default {
                name: self.pick(&of),
                default: self.default(),
            },
            _ => return,
        };
        if !world.source.alter(table, &alter) {
            return;
        }
        let place = world.source.position();
        world.tell(|| format!("{} at {place}: {alter:?}", TABLES[table]));
        self.alters += 1;
        self.locked.clear();
        if matches!(alter, Alter::Vanish(_)) {
            let place = place.as_str().parse().unwrap();
            self.vanished.entry(table).or_insert(place);
            // Until they are repaired, the target has rows that the source has not.
            world.target.distrust();
        }
        self.untell(table, &alter, &there);
    }

    /// Notes columns whose values the log does not tell: those that are computed for each row, and those that
    /// came before that was seen or come after it.
    fn untell(&mut self, table: usize, alter: &Alter, before: &[ColumnSchema]) {
        let (own, name) = match alter {
            Alter::Add { name, default, .. } => (*default == Given::Own, name),
            Alter::Default { name, default } if *default == Given::Own => {
                self.untold.insert((table, name.clone()));
                return;
            }
            Alter::Retype { name, rewrites, .. } => (*rewrites, name),
            Alter::Rename { name, to } if self.untold.contains(&(table, name.clone())) => {
                self.untold.insert((table, to.clone()));
                return;
            }
            _ => return,
        };
        if own {
            self.rewritten.insert(table);
            let came = before.iter().filter(|column| column.name.starts_with('c'));
            let came = came.map(|column| (table, column.name.clone()));
            self.untold.extend(came);
        }
        let adds = matches!(alter, Alter::Add { .. });
        if own || adds && self.rewritten.contains(&table) {
            self.untold.insert((table, name.clone()));
        }
    }

    /// Somebody decides something about a table of the task.
    async fn decide(&mut self, world: &World) {
        let all = world.mappings();
        let paused = all.iter().find(|one| one.paused.is_some());
        let gone = (0..TABLES.len()).find(|at| all.iter().all(|one| of(one) != *at));
        if let Some(at) = gone
            && !world.uses(at)
            && self.rng.random_bool(0.6)
        {
            self.made += 1;
            self.fit(world, at);
            world.add(at, format!("new-{}", self.made)).await;
            return;
        }
        if let Some(one) = paused
            && !world.uses(of(one))
            && self.rng.random_bool(0.6)
        {
            self.fit(world, of(one));
            world.decide(|tables| tables.resume(&one.id)).await;
            return;
        }
        let one = self.pick(&all);
        let why = Paused {
            reason: "paused by a user".to_owned(),
            fix: "resume it".to_owned(),
            since_ms: 0,
            returns: false,
        };
        let (id, what) = (&one.id, self.rng.random_range(0..3));
        let decide = |tables: &Tables| match what {
            0 => tables.pause(true, id, &why),
            1 => tables.load_again(id),
            _ => tables.remove(true, id),
        };
        world.decide(decide).await;
    }

    /// Makes a target table fit by hand.
    pub(super) fn fit(&mut self, world: &World, at: usize) {
        let made = world.fit(at).into_iter();
        self.untold.extend(made.map(|name| (at, name)));
    }
}
