//! What the user wants: tables to tables, columns to columns, operations, options.

use std::collections::BTreeMap;

use crate::schema::TableName;

/// A source column and the target column it fills.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ColumnPair {
    /// Column of the source table.
    pub source: String,
    /// Column of the target table.
    pub target: String,
}

/// What the user wants for one pair of tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The mapping's id in the API; findings name it.
    pub id: String,
    /// Table read.
    pub source: TableName,
    /// Table written.
    pub target: TableName,
    /// Columns. Empty: every source column to the target column of the same name.
    pub columns: Vec<ColumnPair>,
}

/// Which operations of the source are carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operations {
    /// Rows that come, the initial load included.
    pub insert: bool,
    /// Rows that change.
    pub update: bool,
    /// Rows that go, TRUNCATE included.
    pub delete: bool,
}

impl Operations {
    /// All three: the only choice for which equality is claimed.
    pub const ALL: Operations = Operations {
        insert: true,
        update: true,
        delete: true,
    };
}

/// Whether missing target tables are created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum CreateTables {
    /// A missing table is a finding.
    #[default]
    None,
    /// A missing table is created, with its keys.
    Missing,
}

/// What happens to rows that lie in a target table before its first load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum ExistingRows {
    /// The start is refused.
    #[default]
    Refuse,
    /// They are removed in the transaction that loads the table.
    Replace,
    /// They stay, and nothing is copied: changes are applied from then on, and the rows are compared and repaired. For a table
    /// with a primary key, one source and all operations. A table that the task creates is loaded.
    Compare,
}

/// What happens with the target's foreign keys while the task writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum ForeignKeys {
    /// The target checks them.
    #[default]
    Enforce,
    /// The target's replica mode: neither foreign keys nor triggers run for our writes.
    Replica,
}

/// What happens with a row that the target refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum OnBadRow {
    /// The task stops before the transaction that holds it.
    #[default]
    Stop,
    /// The row goes into quarantine: it and all later changes of its key wait there, beside the
    /// checkpoint, until they are released or discarded; everything else goes on.
    Quarantine,
}

/// What happens when the definition of a mapped source table changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnChange {
    /// The target table follows, if that is exact; otherwise as `Pause`. Of any other change: the table leaves the
    /// task until the log is read up to the change, and is loaded again then by itself.
    Follow,
    /// The target table stays as it is, and the task goes on; as `Pause` if it cannot.
    Ignore,
    /// The table leaves the task until somebody resumes it, and is loaded again then; the other tables
    /// go on. A task that would have no table left stops.
    Pause,
    /// The task stops.
    Stop,
}

impl OnChange {
    /// The same, where the target cannot follow and the change cannot be ignored.
    #[must_use]
    pub fn halting(self) -> Self {
        match self {
            OnChange::Stop => OnChange::Stop,
            OnChange::Follow | OnChange::Ignore | OnChange::Pause => OnChange::Pause,
        }
    }
}

/// What happens with each kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OnChanges {
    /// A column comes, in a table that is mapped without naming columns.
    pub add_column: OnChange,
    /// A mapped column goes.
    pub drop_column: OnChange,
    /// A mapped column gets another type.
    pub retype_column: OnChange,
    /// Anything else: another key, a table that is another one; and what cannot be followed of the changes above. `Follow`,
    /// `Pause` or `Stop`. A table that is gone, or has another name, pauses in any case but `Stop`.
    pub other: OnChange,
}

impl Default for OnChanges {
    fn default() -> Self {
        OnChanges {
            add_column: OnChange::Follow,
            drop_column: OnChange::Pause,
            retype_column: OnChange::Follow,
            other: OnChange::Pause,
        }
    }
}

/// What happens with a value that the target column does not take. Columns that identify a row or
/// refer to one always stop ([`crate::plan::Plan::identifies`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum UnfitValues {
    /// The task stops and names table, column, key and reason.
    #[default]
    Stop,
    /// The cell becomes NULL; where the column takes none the task stops.
    Null,
    /// The cell becomes the nearest value that the column takes, NULL where there is nothing near;
    /// text and octets that are too long stop the task.
    Nearest,
}

/// Native options of a task, with their defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskOptions {
    /// Whether missing target tables are created.
    pub create_tables: CreateTables,
    /// What happens to rows already there.
    pub existing_rows: ExistingRows,
    /// What happens with foreign keys.
    pub foreign_keys: ForeignKeys,
    /// What happens with a bad row.
    pub on_bad_row: OnBadRow,
    /// Changes that may lie in quarantine; with one more the task stops.
    pub quarantine_max: u64,
    /// What happens when source tables change.
    pub on_changes: OnChanges,
    /// What happens with a value that does not fit.
    pub unfit_values: UnfitValues,
    /// For target tables that several sources fill: the source table that decides which rows are
    /// shown, as target table → source table. Target tables not named here show a row while any
    /// source has one. Tables are written `schema.table`, or `table` alone where no other mapped
    /// table has that name.
    pub row_owner: BTreeMap<String, String>,
    /// Chunks of tables loaded at the same time, 1..=16.
    pub workers: u16,
    /// Rows of a chunk of the load, about: what a crash repeats, for each worker. Each chunk costs
    /// a snapshot and a target transaction.
    pub chunk_rows: u64,
    /// The largest row taken, in bytes; a larger one is a data error before it is read.
    pub row_bytes_max: u64,
    /// While the task runs its tables are verified again and again, and so many rows a second are read
    /// for that at most; `None`: only when somebody asks for it.
    pub verify_rows_per_second: Option<u64>,
}

impl Default for TaskOptions {
    fn default() -> Self {
        TaskOptions {
            create_tables: CreateTables::default(),
            existing_rows: ExistingRows::default(),
            foreign_keys: ForeignKeys::default(),
            on_bad_row: OnBadRow::default(),
            quarantine_max: 10_000,
            on_changes: OnChanges::default(),
            unfit_values: UnfitValues::default(),
            row_owner: BTreeMap::new(),
            workers: 2,
            chunk_rows: 200_000,
            row_bytes_max: 64 << 20,
            verify_rows_per_second: None,
        }
    }
}
