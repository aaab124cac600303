//! The plan: mappings × source schemas × target schemas, resolved once before a run.
//!
//! A plan says for every source table which target rows its changes make ([`Route`]), with a
//! [`Converter`] per mapped column, so that nothing is decided per row. Making a plan either
//! succeeds or gives findings ([`resolve`]); it is never discovered to be wrong at run time.
//! Applying it to changes ([`Plan::project`], [`Plan::project_rows`]) is pure.

mod cascade;
mod convert;
mod key;
mod project;
mod proposal;
mod resolve;
mod unfit;

pub use cascade::{Cascade, no_old_value};
pub use convert::{ConvertError, Converter, Form, Pair, Verdict};
pub use project::{Fate, Projected, ReadCounts};
pub use proposal::join_proposals;
pub use resolve::{Resolution, TablePair, resolve};
pub use unfit::{Changed, ChangedCells};

use crate::mapping::{Operations, TaskOptions, UnfitValues};
use crate::schema::{
    ColumnSchema, ForeignKey, TableName, TableSchema, UniqueKey, difference, fnv1a,
};
use crate::value::RowRef;

/// A resolved task.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Source tables, in the order the stream is opened with.
    pub sources: Vec<SourceTable>,
    /// Target tables, parents before children along foreign keys.
    pub targets: Vec<TargetTable>,
    /// What foreign keys between the targets do by themselves.
    pub cascades: Vec<Cascade>,
    /// Operations carried over.
    pub operations: Operations,
    /// Native options.
    pub options: TaskOptions,
}

/// One source table and where its rows go.
#[derive(Clone, Debug)]
pub struct SourceTable {
    /// Its schema, as rows are decoded with: only the columns that are mapped, and its primary key.
    pub schema: TableSchema,
    /// One per target table it feeds.
    pub routes: Vec<Route>,
}

/// From one source table to one target table.
#[derive(Clone, Debug)]
pub struct Route {
    /// Index into [`Plan::targets`].
    pub target: usize,
    /// Index into that table's [`TargetTable::feeds`].
    pub feed: usize,
    /// For each of [`TargetTable::columns`]: where its cell comes from.
    pub cells: Vec<Cell>,
    /// Whether rows are carried over as they are: every cell is a copy of the cell in its place.
    pub plain: bool,
    /// Whether of a row as it was only the key is carried over: nothing else of it is asked for, unless
    /// it has what the row as it is now lacks.
    pub brief: bool,
}

/// Where a cell of a target row comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Cell {
    /// From the source column of this index, by this converter.
    Column(usize, Converter),
    /// From another of the table's sources: rows of this one leave it `Absent`.
    Absent,
}

/// One target table.
///
/// Most have one source, whose rows are its rows. A table with several (*merged*) is their full outer
/// join over its key: a row is there while at least one source has a row of that key, and the columns
/// of a source that has none are at their defaults. With a *row owner* it is a left join: only keys
/// of which the owner has a row are shown; rows of others are kept aside until it comes.
///
/// What a merged row is depends on each source's own rows only, so changes of different sources
/// commute, and a batch may be applied source by source.
#[derive(Clone, Debug)]
pub struct TargetTable {
    /// Its name.
    pub name: TableName,
    /// The mapped columns only, in the order rows carry them.
    pub columns: Vec<ColumnSchema>,
    /// The columns that identify a row, as indexes into `columns`; empty: no key, so rows are
    /// identified by all their columns.
    pub key: Vec<usize>,
    /// Whether the key is the table's primary key (otherwise a unique key of not-null columns).
    pub key_is_primary: bool,
    /// Further unique keys of the table over mapped columns, as indexes into `columns`.
    pub unique_keys: Vec<UniqueKey>,
    /// Foreign keys to other targets of this plan (or to itself), in target names. For a table
    /// with `create` or `rekey` they are to be made when the task goes live.
    pub foreign_keys: Vec<ForeignKey>,
    /// Whether the table does not exist yet and is to be created.
    pub create: bool,
    /// Whether the task made the table and then dropped foreign keys of it, which are to come back.
    pub rekey: bool,
    /// Whether the table has columns that are not mapped.
    pub has_unmapped: bool,
    /// The sources that fill it, in the order of the mappings; never empty. No source stands twice.
    pub feeds: Vec<Feed>,
    /// Of a merged table the source that decides which rows are shown, as an index into `feeds`;
    /// `None`: every source.
    pub row_owner: Option<usize>,
}

/// What one source table gives to one target table: the unit of the load and of merging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// Index into [`Plan::sources`].
    pub source: usize,
    /// The columns it fills, as indexes into [`TargetTable::columns`], in that order. All key
    /// columns are among them; any other column is filled by this source alone.
    pub columns: Vec<usize>,
}

/// Sources that one merged table may have: each is a bit of a signed 64-bit number.
pub const FEEDS_MAX: usize = 62;

impl TargetTable {
    /// Whether several sources fill it, so that each owns some columns of a row.
    pub fn merged(&self) -> bool {
        self.feeds.len() > 1
    }

    /// The columns that `feed` owns: those it fills, without the key. As indexes into `columns`.
    pub fn owned(&self, feed: usize) -> impl Iterator<Item = usize> + '_ {
        let columns = self.feeds.get(feed).into_iter().flat_map(|f| &f.columns);
        columns.copied().filter(|column| !self.key.contains(column))
    }

    /// Whether an update gives a row another key; key cells that `new` leaves out stay. Never of a
    /// table without a key.
    pub fn moves(&self, old: RowRef<'_>, new: RowRef<'_>) -> bool {
        let moved = |column: &usize| {
            let (old, new) = (old.cell(*column), new.cell(*column));
            new.is_some_and(|cell| cell.is_present()) && new != old
        };
        self.key.iter().any(moved)
    }
}

impl SourceTable {
    /// The columns that any of its rows' routes `wanted` reads, and its primary key, in rising order.
    fn used(&self, wanted: impl Fn(&Route) -> bool) -> Vec<usize> {
        let routes = self.routes.iter().filter(|route| wanted(route));
        let mapped = routes
            .flat_map(|route| &route.cells)
            .filter_map(|cell| match cell {
                Cell::Column(from, _) => Some(*from),
                Cell::Absent => None,
            });
        let mut used: Vec<usize> = mapped.chain(self.schema.primary_key.clone()).collect();
        used.sort_unstable();
        used.dedup();
        used
    }

    /// Leaves out the columns that nobody reads, so that nothing about them matters.
    fn narrow(&mut self) {
        let used = self.used(|_| true);
        self.schema.narrow(&used);
        let cells = self.routes.iter_mut().flat_map(|route| &mut route.cells);
        for cell in cells {
            if let Cell::Column(from, _) = cell {
                *from = used.partition_point(|column| column < from);
            }
        }
    }
}

impl Plan {
    /// The schemas of the source tables, as [`crate::ports::Source::stream`] takes them.
    pub fn source_schemas(&self) -> Vec<TableSchema> {
        self.sources.iter().map(|s| s.schema.clone()).collect()
    }

    /// The index of the target table of this name.
    pub fn target_index(&self, name: &TableName) -> Option<usize> {
        self.targets.iter().position(|table| table.name == *name)
    }

    /// All pairs of a target table and one of its sources, as (index into [`Plan::targets`], index
    /// into [`TargetTable::feeds`]).
    pub fn feeds(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let feeds = |(target, table): (usize, &TargetTable)| {
            (0..table.feeds.len()).map(move |feed| (target, feed))
        };
        self.targets.iter().enumerate().flat_map(feeds)
    }

    /// The source table behind a feed; `None` if there is no such feed.
    pub fn source_of(&self, target: usize, feed: usize) -> Option<&SourceTable> {
        let feed = self.targets.get(target)?.feeds.get(feed)?;
        self.sources.get(feed.source)
    }

    /// The fingerprint kept in the checkpoint for a target table: those of its source tables' schemas
    /// (of the columns it takes and the primary key), joined with commas, a `/`, and one of how the
    /// target's columns are mapped and, in a table without a key, of what becomes of values that do not
    /// fit.
    ///
    /// # Panics
    /// If there is no such target.
    pub fn fingerprint(&self, target: usize) -> String {
        let table = self.targets.get(target).expect("a target of the plan");
        let (mut schemas, mut mapped) = (Vec::new(), String::new());
        for (index, feed) in table.feeds.iter().enumerate() {
            let source = self.sources.get(feed.source).expect("plans are closed");
            let mut schema = source.schema.clone();
            schema.narrow(&source.used(|route| route.target == target && route.feed == index));
            schemas.push(schema.fingerprint());
            if table.merged() {
                let owner = if table.row_owner == Some(index) {
                    "owner"
                } else {
                    ""
                };
                mapped.push_str(&format!("{} {owner};", source.schema.name));
            }
            let mut routes = source.routes.iter();
            let route = routes.find(|r| r.target == target && r.feed == index);
            let cells = route.into_iter().flat_map(|route| &route.cells);
            for (cell, column) in cells.zip(&table.columns) {
                if let Cell::Column(from, _) = cell {
                    let from = source.schema.columns.get(*from).map(|c| &c.name);
                    mapped.push_str(&format!("{from:?} {:?};", column.name));
                }
            }
        }
        // Without a key a row is found by all its values, those that were changed included.
        if table.key.is_empty() && self.options.unfit_values != UnfitValues::Stop {
            mapped.push_str(&format!("{:?};", self.options.unfit_values));
        }
        format!("{}/{}", schemas.join(","), fnv1a(&mapped))
    }
}

/// Whether two fingerprints speak of the same mapping.
pub fn same_mapping(a: &str, b: &str) -> bool {
    a.rsplit('/').next() == b.rsplit('/').next()
}

/// The fingerprints of the source tables that a target table's fingerprint has, in the order of its feeds.
pub fn source_fingerprints(text: &str) -> Vec<&str> {
    let (sources, _) = text.split_once('/').unwrap_or((text, ""));
    sources.split(',').collect()
}

/// How the source tables of fingerprint `now` differ from those of `before`, as far as both name one:
/// index of the first that does, and what it is ([`crate::schema::difference`]).
pub fn source_difference(before: &str, now: &str) -> Option<(usize, String)> {
    let (before, now) = (source_fingerprints(before), source_fingerprints(now));
    let mut pairs = before.iter().zip(&now).enumerate();
    pairs.find_map(|(at, (before, now))| Some((at, difference(before, now)?)))
}
