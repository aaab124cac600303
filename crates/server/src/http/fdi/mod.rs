//! Operations of the data-integration API, as the contract has them.

pub(super) mod content;
pub(super) mod datasources;
pub(super) mod dispatches;
pub(super) mod mappings;
pub(super) mod monitors;
pub(super) mod multi_tasks;
pub(super) mod ordinary;
pub(super) mod tasks;
