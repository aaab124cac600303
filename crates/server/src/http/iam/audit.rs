//! The audit log.

use serde_json::{Value, json};
use thalweg_control::model::{AuditFilter, AuditRecord};

use crate::http::error::Failure;
use crate::http::page;
use crate::http::route::{Call, Reply};

/// Later than any record.
const TIME_MAX: i64 = 9_999_999_999_999;
/// Rows that are checked within the time of one call.
const CHECKED_MAX: i64 = 100_000;

pub(crate) async fn list(call: Call) -> Result<Reply, Failure> {
    let query = &call.query;
    let filter = AuditFilter {
        begin_ms: query.int("begin_time", 0, TIME_MAX)?,
        end_ms: query.int("end_time", 0, TIME_MAX)?,
        user_name: query.text("user_name", 64)?,
        operation: query.text("operation", 256)?,
    };
    let window = page::window(query)?;
    let found = call.app.audit_list(&filter, window).await?;
    Reply::ok(page::render(&found, "records", render))
}

pub(crate) async fn check(call: Call) -> Result<Reply, Failure> {
    let after = call.query.int("after_id", 0, i64::MAX)?.unwrap_or(0);
    let limit = call
        .query
        .int("limit", 1, CHECKED_MAX)?
        .unwrap_or(CHECKED_MAX);
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    let check = call.app.audit_check(after, limit).await?;
    Reply::ok(json!({
        "rows": check.rows,
        "last_id": check.last_id,
        "intact": check.first_broken.is_none(),
        "first_broken": check.first_broken,
    }))
}

fn render(record: &AuditRecord) -> Value {
    let asked = &record.call;
    json!({
        "id": record.id,
        "request_id": asked.request,
        "time": record.at_ms,
        "user_id": asked.user_id,
        "user_name": asked.user_name,
        "credential": asked.credential,
        "address": asked.address,
        "operation": asked.operation,
        "path": asked.path,
        "asked": asked.asked,
        "before": asked.before,
        "end_time": record.ended_ms,
        "status": record.status,
        "error": record.error,
        "after": record.after,
    })
}
