//! What was asked for, by whom, and what became of it.

use serde_json::Value;

/// A call as the audit log has it from its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// The request's id, as the answer's header has it.
    pub request: String,
    /// Id of the user; `None`: it is not known who it was.
    pub user_id: Option<String>,
    /// Login name at that time.
    pub user_name: String,
    /// `token`, the access key, or `password`.
    pub credential: String,
    /// Where from.
    pub address: String,
    /// Method and path of the operation, with the names of its parameters.
    pub operation: String,
    /// The path that was called.
    pub path: String,
    /// What was asked for: the body, without secrets.
    pub asked: Option<Value>,
    /// What it was about, as it was before; without secrets.
    pub before: Option<Value>,
}

/// A call in the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Grows with each.
    pub id: i64,
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Who wanted what.
    pub call: Audited,
    /// When it was answered; `None`: it was not, as the server ended before.
    pub ended_ms: Option<i64>,
    /// The answer's status.
    pub status: Option<u16>,
    /// The answer's code, if it was refused or failed.
    pub error: Option<String>,
    /// What it was about, as it is now, or what the answer said; without secrets.
    pub after: Option<Value>,
}

/// Which calls to list.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Not before this; milliseconds since the Unix epoch.
    pub begin_ms: Option<i64>,
    /// Not after this.
    pub end_ms: Option<i64>,
    /// Login name, exactly.
    pub user_name: Option<String>,
    /// Part of the operation.
    pub operation: Option<String>,
}

/// Whether the audit log is as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditCheck {
    /// Rows looked at.
    pub rows: u64,
    /// Id of the last of them.
    pub last_id: i64,
    /// Id of the first that is not as it was written.
    pub first_broken: Option<i64>,
}
