//! The audit log.

use serde_json::{Value, json};
use thalweg_control::model::{AuditFilter, AuditRecord};

use crate::http::error::Failure;
use crate::http::page;
use crate::http::route::{Call, Reply};

/// Later than any record.
const TIME_MAX: i64 = 9_999_999_999_999;

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
    let (rows, broken) = call.app.audit_check().await?;
    Reply::ok(json!({
        "rows": rows,
        "intact": broken.is_none(),
        "first_broken": broken,
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
        "before": asked.before,
        "end_time": record.ended_ms,
        "status": record.status,
        "error": record.error,
        "after": record.after,
    })
}
