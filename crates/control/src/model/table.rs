//! Tables of a task, as they are seen and handled one by one.

use thalweg_engine::status::TableStatus;

use super::{ColumnInfo, ColumnLink, Paused};

/// One mapping of a task, and what becomes of its table.
#[derive(Clone, Debug)]
pub struct TaskTable {
    /// The mapping's id: 32 hexadecimal digits.
    pub mapping: String,
    /// The source table, `schema.table`.
    pub source: String,
    /// The target table, `schema.table`; several mappings may fill one.
    pub target: String,
    /// Why the target table is left out of the task's runs; `None`: it is not.
    pub paused: Option<Paused>,
    /// Whether it is loaded again as soon as the task plans again.
    pub reload: bool,
    /// What a running task says of the target table; `None`: the task does not run, or has no plan with it.
    pub status: Option<TableStatus>,
}

/// A table to be added to a task.
#[derive(Clone, Debug)]
pub struct NewTable {
    /// `schema.table` or `table`.
    pub source_table: String,
    /// Likewise.
    pub target_table: String,
    /// As given.
    pub source_columns: Vec<ColumnInfo>,
    /// As given.
    pub target_columns: Vec<ColumnInfo>,
    /// Empty: by name.
    pub columns: Vec<ColumnLink>,
}
