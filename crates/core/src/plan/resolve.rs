//! Making a plan, or findings that say why not.

use super::Plan;
use crate::finding::Finding;
use crate::mapping::{Mapping, Operations, TaskOptions};
use crate::schema::TableSchema;

/// One mapping with what both systems say of its tables.
#[derive(Clone, Debug)]
pub struct TablePair {
    /// What the user wants.
    pub mapping: Mapping,
    /// The source table; `None`: it does not exist.
    pub source: Option<TableSchema>,
    /// The target table, or the proposal for one that is to be created; `None`: it does not exist.
    pub target: Option<TableSchema>,
    /// Whether `target` is a proposal.
    pub create: bool,
}

/// What came of it. `plan` is set exactly if no finding refuses.
#[derive(Clone, Debug, Default)]
pub struct Resolution {
    /// The plan.
    pub plan: Option<Plan>,
    /// Everything there is to say, all at once.
    pub findings: Vec<Finding>,
}

/// Resolves a task.
pub fn resolve(
    _pairs: Vec<TablePair>,
    _operations: Operations,
    _options: TaskOptions,
) -> Resolution {
    Resolution::default()
}
