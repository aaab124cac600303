//! Random tasks: tables, mappings, options and a history, and what the target has to be in the end.
//!
//! [`Case::random`] makes a task that the plan must accept; [`model`] says, by other means than the
//! product's, what its target tables hold. All columns are 64-bit integers with the two special
//! values of [`crate::memory`]; a real database has them as `bigint` or as text made of the number.

mod model;
mod sql;

use rand::Rng;
use rand::seq::SliceRandom as _;
use thalweg_core::mapping::{ColumnPair, Mapping, Operations, TaskOptions};
use thalweg_core::plan::{Resolution, TablePair, resolve};
use thalweg_core::schema::{ColumnSchema, ColumnType, TableName, TableSchema, UniqueKey};

pub use model::{Expected, model};

use crate::memory::{MemoryChange, NULL, Row};

/// Values are `0..VALUES`, so that keys of different sources often meet.
const VALUES: i64 = 6;

/// Names that a careless statement would break on, and every system takes.
const NAMES: [&str; 12] = [
    "plain",
    "Case",
    "with space",
    "qu\"ote",
    "back`tick",
    "dot.ted",
    "select",
    "snow☃",
    "da-sh#",
    "it's",
    "back\\slash",
    "über",
];

/// What random tasks may have.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The schemas of the source's and the target's tables.
    pub schemas: [String; 2],
    /// Names that a careless statement would break on.
    pub hostile_names: bool,
    /// Whether tables are truncated.
    pub truncates: bool,
    /// Whether several sources may fill one table.
    pub merges: bool,
    /// Whether logs leave out what did not change.
    pub partial_images: bool,
}

impl Default for Setting {
    /// For the connectors in memory.
    fn default() -> Self {
        Setting {
            schemas: ["source".to_owned(), "target".to_owned()],
            hostile_names: false,
            truncates: true,
            merges: true,
            partial_images: true,
        }
    }
}

/// A task, and what happens at its source.
#[derive(Clone, Debug)]
pub struct Case {
    /// Source tables.
    pub sources: Vec<TableSchema>,
    /// Target tables; columns that no mapping fills included.
    pub targets: Vec<TableSchema>,
    /// Which is mapped to which.
    pub mappings: Vec<Mapping>,
    /// Operations carried over.
    pub operations: Operations,
    /// Row owners.
    pub options: TaskOptions,
    /// What is there before the task starts, as transactions.
    pub before: Vec<Vec<MemoryChange>>,
    /// What happens then.
    pub history: Vec<Vec<MemoryChange>>,
}

impl Case {
    /// A random task.
    pub fn random(rng: &mut impl Rng, setting: &Setting) -> Case {
        let mut case = Case {
            sources: Vec::new(),
            targets: Vec::new(),
            mappings: Vec::new(),
            operations: operations(rng),
            options: TaskOptions::default(),
            before: Vec::new(),
            history: Vec::new(),
        };
        for n in 0..rng.random_range(1..=4) {
            case.sources.push(source(rng, n, setting));
        }
        for n in 0..rng.random_range(1..=3) {
            case.target(rng, n, setting);
        }
        let mut state: Vec<Vec<Row>> = case.sources.iter().map(|_| Vec::new()).collect();
        for _ in 0..rng.random_range(0..4) {
            let inserts = transaction(rng, &case.sources, &mut state, None);
            case.before.push(inserts);
        }
        for _ in 0..rng.random_range(1..10) {
            let changes = transaction(rng, &case.sources, &mut state, Some(setting));
            case.history.push(changes);
        }
        case
    }

    /// The plan of these tables.
    pub fn resolve(&self, sources: &[TableSchema], targets: &[TableSchema]) -> Resolution {
        let find = |tables: &[TableSchema], name: &TableName| {
            tables.iter().find(|table| table.name == *name).cloned()
        };
        let pairs = self.mappings.iter().map(|mapping| TablePair {
            mapping: mapping.clone(),
            source: find(sources, &mapping.source),
            target: find(targets, &mapping.target),
            create: false,
            rekey: false,
        });
        resolve(pairs.collect(), self.operations, self.options.clone())
    }

    /// Adds a target table and its mappings.
    fn target(&mut self, rng: &mut impl Rng, n: usize, setting: &Setting) {
        let names = setting.hostile_names;
        let [_, schema] = &setting.schemas;
        let mut feeds: Vec<usize> = (0..self.sources.len()).collect();
        feeds.shuffle(rng);
        let merged =
            setting.merges && self.operations.insert && feeds.len() > 1 && rng.random_bool(0.5);
        let width = rng.random_range(1..=2);
        let fits = |feed: &usize| {
            self.sources
                .get(*feed)
                .is_some_and(|s| key_of(s, width).is_some())
        };
        let keyed: Vec<usize> = feeds.iter().copied().filter(fits).collect();
        let name = TableName::new(schema, named(rng, &format!("t{n}"), names));
        let keyless = keyed.is_empty() || (!merged && rng.random_bool(0.15));
        let mut table = TableSchema::new(name, Vec::new());
        if keyless {
            let feed = feeds.first().copied().unwrap_or(0);
            self.map(rng, &mut table, feed, &[], None, names);
        } else {
            let count = if merged {
                rng.random_range(1..=keyed.len())
            } else {
                1
            };
            let keys: Vec<usize> = (0..width).collect();
            for place in &keys {
                table
                    .columns
                    .push(column(named(rng, &format!("k{place}"), names), false));
            }
            // The order of the key is not that of the columns.
            let mut order = keys.clone();
            order.shuffle(rng);
            if rng.random_bool(0.2) {
                table.unique_keys.push(unique(order));
            } else {
                table.primary_key = order;
            }
            let chosen: Vec<usize> = keyed.into_iter().take(count).collect();
            let owner = chosen
                .first()
                .copied()
                .filter(|_| count > 1 && rng.random_bool(0.4));
            if let Some(source) = owner.and_then(|owner| self.sources.get(owner)) {
                let owner = source.name.to_string();
                self.options.row_owner.insert(table.name.to_string(), owner);
            }
            let mut mapped = chosen;
            mapped.shuffle(rng);
            for feed in mapped {
                let fills = count == 1 || owner == Some(feed);
                self.map(rng, &mut table, feed, &keys, Some(fills), names);
            }
        }
        for extra in 0..rng.random_range(0..2) {
            let name = named(rng, &format!("x{extra}"), names);
            let mut free = column(name, true);
            free.has_default = rng.random_bool(0.5);
            table.columns.push(free);
        }
        self.targets.push(table);
    }

    /// Maps a source to a target. `fills`: whether every row of a keyed target has one of it.
    fn map(
        &mut self,
        rng: &mut impl Rng,
        table: &mut TableSchema,
        feed: usize,
        keys: &[usize],
        fills: Option<bool>,
        names: bool,
    ) {
        let Some(source) = self.sources.get_mut(feed) else {
            return;
        };
        let mut behind = key_of(source, keys.len())
            .filter(|_| fills.is_some())
            .unwrap_or_default();
        behind.shuffle(rng);
        let pair = |source: &TableSchema, from: usize, to: &ColumnSchema| ColumnPair {
            source: source
                .columns
                .get(from)
                .map_or(String::new(), |c| c.name.clone()),
            target: to.name.clone(),
        };
        let mut columns = Vec::new();
        for (to, from) in keys.iter().zip(&behind) {
            columns.extend(table.columns.get(*to).map(|to| pair(source, *from, to)));
        }
        let mut owned: Vec<usize> = (0..source.columns.len()).collect();
        owned.shuffle(rng);
        // At least one column without key; at times one column twice; at times none.
        let least = usize::from(keys.is_empty());
        owned.truncate(rng.random_range(least..=owned.len()));
        if rng.random_bool(0.2) {
            owned.extend(owned.first().copied());
        }
        for from in owned {
            let name = named(rng, &format!("c{}", table.columns.len()), names);
            let nullable = source.columns.get(from).is_none_or(|c| c.nullable);
            let mut to = column(name, nullable || rng.random_bool(0.5));
            to.has_default = rng.random_bool(0.4);
            // A row that the source does not have leaves it empty.
            to.nullable |= fills == Some(false) && !to.has_default;
            columns.push(pair(source, from, &to));
            table.columns.push(to);
        }
        columns.shuffle(rng);
        // The log has to find what changes or goes.
        let logged = |source: &TableSchema| match &source.old_image {
            Some(logged) if keys.is_empty() => {
                (0..source.columns.len()).all(|c| logged.contains(&c))
            }
            Some(logged) => behind.iter().all(|c| logged.contains(c)),
            None => true,
        };
        if !logged(source) {
            source.old_image = None;
        }
        self.mappings.push(Mapping {
            id: format!("m{}", self.mappings.len()),
            source: source.name.clone(),
            target: table.name.clone(),
            columns,
        });
    }
}

fn operations(rng: &mut impl Rng) -> Operations {
    if rng.random_bool(0.5) {
        return Operations::ALL;
    }
    let bits = rng.random_range(1..7);
    Operations {
        insert: bits & 1 != 0,
        update: bits & 2 != 0,
        delete: bits & 4 != 0,
    }
}

/// A name that is its own: `plain`, or one that a careless statement would break on.
fn named(rng: &mut impl Rng, plain: &str, hostile: bool) -> String {
    if !hostile {
        return plain.to_owned();
    }
    let name = NAMES
        .get(rng.random_range(0..NAMES.len()))
        .copied()
        .unwrap_or_default();
    format!("{name}{plain}")
}

fn column(name: String, nullable: bool) -> ColumnSchema {
    let ty = ColumnType::Int {
        bits: 64,
        unsigned: false,
    };
    ColumnSchema {
        nullable,
        ..ColumnSchema::new(name, ty, "bigint")
    }
}

fn unique(columns: Vec<usize>) -> UniqueKey {
    UniqueKey {
        name: "u".into(),
        columns,
    }
}

fn source(rng: &mut impl Rng, n: usize, setting: &Setting) -> TableSchema {
    let names = setting.hostile_names;
    let [schema, _] = &setting.schemas;
    let name = TableName::new(schema, named(rng, &format!("s{n}"), names));
    let mut table = TableSchema::new(name, Vec::new());
    for n in 0..rng.random_range(2..=5) {
        table
            .columns
            .push(column(named(rng, &format!("a{n}"), names), n > 1));
    }
    match rng.random_range(0..10) {
        0 => {}
        1..=6 => table.primary_key = vec![0],
        _ => table.primary_key = vec![1, 0],
    }
    if table.primary_key.len() == 1 && rng.random_bool(0.3) {
        table.unique_keys.push(unique(vec![1]));
    }
    if setting.partial_images && !table.primary_key.is_empty() && rng.random_bool(0.4) {
        // As a log with images of the key and of what changes.
        table.old_image = Some(table.primary_key.clone());
    }
    table
}

/// Columns of a source that fill a key of this width without two rows meeting.
fn key_of(table: &TableSchema, width: usize) -> Option<Vec<usize>> {
    let unique = table.unique_keys.iter().map(|key| &key.columns);
    // The further unique key first, so that keys are often mapped from other columns.
    let mut keys = unique
        .chain([&table.primary_key])
        .filter(|key| !key.is_empty());
    let mut key = keys.find(|key| key.len() <= width)?.clone();
    let more = (0..2).filter(|c| !key.contains(c)).collect::<Vec<_>>();
    key.extend(more.into_iter().take(width - key.len()));
    (key.len() == width).then_some(key)
}

/// One transaction, which the state then has seen; inserts only without a setting.
fn transaction(
    rng: &mut impl Rng,
    sources: &[TableSchema],
    state: &mut [Vec<Row>],
    setting: Option<&Setting>,
) -> Vec<MemoryChange> {
    let mut changes = Vec::new();
    for _ in 0..rng.random_range(1..8) {
        let table = rng.random_range(0..sources.len());
        let (Some(schema), Some(rows)) = (sources.get(table), state.get_mut(table)) else {
            continue;
        };
        let at = (!rows.is_empty()).then(|| rng.random_range(0..rows.len()));
        let (before, after) = match (at, rng.random_range(0..20)) {
            (None, _) | (_, 0..=6) => (None, Some(row(rng, schema))),
            _ if setting.is_none() => (None, Some(row(rng, schema))),
            (Some(_), 19) if setting.is_some_and(|s| s.truncates) && rng.random_bool(0.2) => {
                rows.clear();
                (None, None)
            }
            (Some(at), 7..=11) => (rows.get(at).cloned(), None),
            (Some(at), _) => {
                let old = rows.get(at).cloned();
                let new = old.clone().map(|old| changed(rng, schema, old));
                (old, new)
            }
        };
        if before.is_some() && before == after {
            // Whether such an update is logged differs, and a row that was kept can tell.
            continue;
        }
        let others = |row: &&Row| before.as_ref().is_none_or(|before| before != *row);
        let clash = |new: &Row| {
            rows.iter()
                .filter(others)
                .any(|old| meets(schema, old, new))
        };
        if after.as_ref().is_some_and(clash) {
            continue;
        }
        if let Some(place) = before
            .as_ref()
            .and_then(|old| rows.iter().position(|r| r == old))
        {
            rows.swap_remove(place);
        }
        rows.extend(after.clone());
        changes.push(MemoryChange {
            table,
            before,
            after,
        });
    }
    changes
}

/// Whether two rows cannot both be there.
fn meets(schema: &TableSchema, one: &Row, two: &Row) -> bool {
    let unique = schema.unique_keys.iter().map(|key| &key.columns);
    let mut keys = unique
        .chain([&schema.primary_key])
        .filter(|key| !key.is_empty());
    keys.any(|key| key.iter().all(|c| one.get(*c) == two.get(*c)))
}

fn value(rng: &mut impl Rng, nullable: bool) -> i64 {
    if nullable && rng.random_bool(0.2) {
        return NULL;
    }
    rng.random_range(0..VALUES)
}

fn row(rng: &mut impl Rng, schema: &TableSchema) -> Row {
    schema
        .columns
        .iter()
        .map(|c| value(rng, c.nullable))
        .collect()
}

/// Each column stays, or does not.
fn changed(rng: &mut impl Rng, schema: &TableSchema, mut row: Row) -> Row {
    for (cell, column) in row.iter_mut().zip(&schema.columns) {
        if rng.random_bool(0.35) {
            *cell = value(rng, column.nullable);
        }
    }
    row
}
