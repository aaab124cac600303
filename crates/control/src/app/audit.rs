//! The audit log.

use serde_json::Value;

use super::App;
use crate::error::Result;
use crate::model::{AuditCheck, AuditFilter, AuditRecord, Audited, Page, Window};

impl App {
    /// Stores that a call begins, before it does anything.
    pub async fn audit_begin(&self, call: &Audited) -> Result<()> {
        self.catalog().audit_begin(&self.inner.audit, call).await
    }

    /// Stores how it was answered: status and code, and what it was about afterwards.
    pub async fn audit_end(
        &self,
        request: &str,
        outcome: (u16, Option<&str>),
        after: Option<&Value>,
    ) -> Result<()> {
        let ended = self
            .catalog()
            .audit_end(&self.inner.audit, request, outcome, after);
        ended.await
    }

    /// Calls that match, newest first.
    pub async fn audit_list(
        &self,
        filter: &AuditFilter,
        window: Window,
    ) -> Result<Page<AuditRecord>> {
        self.catalog().audit_list(filter, window).await
    }

    /// Stores that a call was refused before it began: status and code.
    pub async fn audit_refused(&self, call: &Audited, outcome: (u16, &str)) -> Result<()> {
        let refused = self
            .catalog()
            .audit_refused(&self.inner.audit, call, outcome);
        refused.await
    }

    /// Whether the log is as it was written, from the row after `after` on, at most `limit` rows.
    pub async fn audit_check(&self, after: i64, limit: u32) -> Result<AuditCheck> {
        self.catalog()
            .audit_check(&self.inner.audit, after, limit)
            .await
    }
}
