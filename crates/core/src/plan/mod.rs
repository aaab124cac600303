//! The plan: mappings × source schemas × target schemas, resolved once before a run.
//!
//! A plan says for every source table which target rows its changes make ([`Route`]), with a
//! [`Converter`] per mapped column, so that nothing is decided per row. Making a plan either
//! succeeds or gives findings ([`resolve`]); it is never discovered to be wrong at run time.
//! Applying it to changes ([`Plan::project`], [`Plan::project_rows`]) is pure.

mod convert;
mod project;
mod resolve;

pub use convert::{ConvertError, Converter, Form, Pair, Verdict};
pub use project::Projected;
pub use resolve::{Resolution, TablePair, resolve};

use crate::mapping::{Operations, TaskOptions};
use crate::schema::{ColumnSchema, ForeignKey, TableName, TableSchema, UniqueKey, fnv1a};

/// A resolved task.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Source tables, in the order the stream is opened with.
    pub sources: Vec<SourceTable>,
    /// Target tables, parents before children along foreign keys.
    pub targets: Vec<TargetTable>,
    /// Operations carried over.
    pub operations: Operations,
    /// Native options.
    pub options: TaskOptions,
}

/// One source table and where its rows go.
#[derive(Clone, Debug)]
pub struct SourceTable {
    /// Its schema, as rows are decoded with.
    pub schema: TableSchema,
    /// One per target table it feeds.
    pub routes: Vec<Route>,
}

/// From one source table to one target table.
#[derive(Clone, Debug)]
pub struct Route {
    /// Index into [`Plan::targets`].
    pub target: usize,
    /// For each of [`TargetTable::columns`]: the source column's index and the converter.
    pub cells: Vec<(usize, Converter)>,
}

/// One target table.
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
    /// with `create` they are to be made when the task goes live.
    pub foreign_keys: Vec<ForeignKey>,
    /// Whether the table does not exist yet and is to be created.
    pub create: bool,
    /// Whether the table has columns that are not mapped.
    pub has_unmapped: bool,
    /// Index into [`Plan::sources`] of the table that feeds it.
    pub source: usize,
}

impl Plan {
    /// The schemas of the source tables, as [`crate::ports::Source::stream`] takes them.
    pub fn source_schemas(&self) -> Vec<TableSchema> {
        self.sources.iter().map(|s| s.schema.clone()).collect()
    }

    /// The fingerprint kept in the checkpoint for a target table: that of its source table's schema,
    /// a `/`, and one of how the columns are mapped.
    ///
    /// # Panics
    /// If `target` is not an index into [`Plan::targets`].
    pub fn fingerprint(&self, target: usize) -> String {
        let table = self
            .targets
            .get(target)
            .expect("an index into the plan's targets");
        let source = self.sources.get(table.source).expect("plans are closed");
        let mut mapped = String::new();
        let route = source.routes.iter().find(|route| route.target == target);
        for ((from, _), column) in route.iter().flat_map(|r| &r.cells).zip(&table.columns) {
            mapped.push_str(&format!("{from} {:?};", column.name));
        }
        format!("{}/{}", source.schema.fingerprint(), fnv1a(&mapped))
    }
}

/// Whether two fingerprints speak of the same source schema.
pub fn same_schema(a: &str, b: &str) -> bool {
    let schema = |text: &str| text.split('/').next().unwrap_or_default().to_owned();
    schema(a) == schema(b)
}
