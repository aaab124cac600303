//! The audit log: rows that are only ever added, each sealed with what stands before it.

use ring::hmac::{self, HMAC_SHA256};
use serde_json::{Value, json};
use sqlx::any::AnyRow;

use super::{Catalog, count, now_ms, number, number_or_none, text, text_or_none};
use crate::error::{Error, Result};
use crate::model::{AuditCheck, AuditFilter, AuditRecord, Audited, Page, Window};
use crate::seal::hex;

/// Signs the rows of the log.
pub(crate) type AuditKey = hmac::Key;

/// A key of this text.
pub(crate) fn key(text: &str) -> AuditKey {
    hmac::Key::new(HMAC_SHA256, text.as_bytes())
}

/// What a row's hash covers.
fn sealed(key: &AuditKey, before: &str, request: &str, at_ms: i64, body: &str) -> String {
    // Each part with its length: no two rows have the same text.
    let text = [before, request, &at_ms.to_string(), body]
        .map(|part| format!("{}:{part}", part.len()))
        .concat();
    hex(hmac::sign(key, text.as_bytes()).as_ref())
}

fn begun(call: &Audited) -> Value {
    json!({
        "user_id": call.user_id,
        "user_name": call.user_name,
        "credential": call.credential,
        "address": call.address,
        "operation": call.operation,
        "path": call.path,
        "asked": call.asked,
        "before": call.before,
    })
}

fn record(row: &AnyRow) -> Result<AuditRecord> {
    let parse = |body: &str| serde_json::from_str::<Value>(body).map_err(Error::internal);
    let mut asked = parse(&text(row, "body")?)?;
    // A call that was refused has one row.
    let mut ended = match text_or_none(row, "ended")? {
        Some(body) => parse(&body)?,
        None => asked.clone(),
    };
    let word = |value: &Value, field: &str| value.get(field)?.as_str().map(str::to_owned);
    let words = |field: &str| word(&asked, field).unwrap_or_default();
    let call = Audited {
        request: text(row, "request")?,
        user_id: word(&asked, "user_id"),
        user_name: words("user_name"),
        credential: words("credential"),
        address: words("address"),
        operation: words("operation"),
        path: words("path"),
        asked: None,
        before: None,
    };
    let status = ended.get("status").and_then(Value::as_u64);
    let part = |value: &mut Value, field: &str| {
        let part = value.get_mut(field).map(Value::take);
        part.filter(|part| !part.is_null())
    };
    Ok(AuditRecord {
        id: number(row, "id")?,
        at_ms: number(row, "at_ms")?,
        call: Audited {
            asked: part(&mut asked, "asked"),
            before: part(&mut asked, "before"),
            ..call
        },
        ended_ms: number_or_none(row, "ended_ms")?,
        status: status.and_then(|status| u16::try_from(status).ok()),
        error: word(&ended, "error"),
        after: part(&mut ended, "after"),
    })
}

impl Catalog {
    /// A call begins.
    pub(crate) async fn audit_begin(&self, key: &AuditKey, call: &Audited) -> Result<()> {
        let named = (call.user_name.as_str(), call.operation.as_str());
        self.audit_add(key, &call.request, named, &begun(call))
            .await
    }

    /// A call was refused before it began.
    pub(crate) async fn audit_refused(
        &self,
        key: &AuditKey,
        call: &Audited,
        (status, error): (u16, &str),
    ) -> Result<()> {
        let mut body = begun(call);
        if let Some(body) = body.as_object_mut() {
            body.insert("status".into(), status.into());
            body.insert("error".into(), error.into());
        }
        let named = (call.user_name.as_str(), call.operation.as_str());
        self.audit_add(key, &call.request, named, &body).await
    }

    /// It was answered.
    pub(crate) async fn audit_end(
        &self,
        key: &AuditKey,
        request: &str,
        (status, error): (u16, Option<&str>),
        after: Option<&Value>,
    ) -> Result<()> {
        let body = json!({ "status": status, "error": error, "after": after });
        self.audit_add(key, request, ("", ""), &body).await
    }

    async fn audit_add(
        &self,
        key: &AuditKey,
        request: &str,
        (user_name, operation): (&str, &str),
        body: &Value,
    ) -> Result<()> {
        let body = body.to_string();
        let mut tx = self.writer.begin().await?;
        let last = sqlx::query("SELECT hash FROM audit ORDER BY id DESC LIMIT 1")
            .fetch_optional(&mut *tx)
            .await?;
        let before = last.map(|row| text(&row, "hash")).transpose()?;
        let at_ms = now_ms();
        let hash = sealed(key, &before.unwrap_or_default(), request, at_ms, &body);
        sqlx::query("INSERT INTO audit (request, at_ms, user_name, operation, body, hash) VALUES ($1, $2, $3, $4, $5, $6)")
            .bind(request.to_owned())
            .bind(at_ms)
            .bind(user_name.to_owned())
            .bind(operation.to_owned())
            .bind(body)
            .bind(hash)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Calls that match, newest first.
    pub(crate) async fn audit_list(
        &self,
        filter: &AuditFilter,
        window: Window,
    ) -> Result<Page<AuditRecord>> {
        // The first row of a request is its call and names an operation, the second its answer.
        const ROWS: &str = "FROM audit b LEFT JOIN audit e ON e.request = b.request AND e.id > b.id \
            WHERE b.operation <> '' AND b.at_ms >= $1 AND b.at_ms <= $2 \
            AND ($3 IS NULL OR b.user_name = $3) \
            AND ($4 IS NULL OR b.operation LIKE $4 ESCAPE '!')";
        const ALL: &str = "SELECT b.*, e.body AS ended, e.at_ms AS ended_ms ";
        let (begin, end) = (
            filter.begin_ms.unwrap_or(0),
            filter.end_ms.unwrap_or(i64::MAX),
        );
        let part = filter.operation.as_ref().map(|part| {
            let part = part
                .replace('!', "!!")
                .replace('%', "!%")
                .replace('_', "!_");
            format!("%{part}%")
        });
        let select = |what: &str, more: &str| sqlx::AssertSqlSafe(format!("{what}{ROWS}{more}"));
        let total = sqlx::query(select("SELECT COUNT(*) AS n ", ""))
            .bind(begin)
            .bind(end)
            .bind(filter.user_name.clone())
            .bind(part.clone())
            .fetch_one(&self.reader)
            .await?;
        let rows = sqlx::query(select(ALL, " ORDER BY b.id DESC LIMIT $5 OFFSET $6"))
            .bind(begin)
            .bind(end)
            .bind(filter.user_name.clone())
            .bind(part)
            .bind(i64::from(window.limit))
            .bind(i64::from(window.offset))
            .fetch_all(&self.reader)
            .await?;
        Ok(Page {
            total: count(&total, "n")?,
            entities: rows.iter().map(record).collect::<Result<_>>()?,
        })
    }

    /// Whether no row was changed, put in or taken out, from the one after `after` on, at most `limit` of them. A log
    /// whose last rows were cut off shows nothing; compare its last id with one from before.
    pub(crate) async fn audit_check(
        &self,
        key: &AuditKey,
        after: i64,
        limit: u32,
    ) -> Result<AuditCheck> {
        const PAGE: u32 = 1_000;
        let first = sqlx::query("SELECT hash FROM audit WHERE id = $1")
            .bind(after)
            .fetch_optional(&self.reader)
            .await?;
        let mut before = first
            .map(|row| text(&row, "hash"))
            .transpose()?
            .unwrap_or_default();
        let mut check = AuditCheck {
            rows: 0,
            last_id: after,
            first_broken: None,
        };
        while check.rows < u64::from(limit) {
            let rows = sqlx::query("SELECT * FROM audit WHERE id > $1 ORDER BY id LIMIT $2")
                .bind(check.last_id)
                .bind(i64::from(PAGE.min(limit)))
                .fetch_all(&self.reader)
                .await?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                check.last_id = number(row, "id")?;
                check.rows += 1;
                let (request, body) = (text(row, "request")?, text(row, "body")?);
                let hash = sealed(key, &before, &request, number(row, "at_ms")?, &body);
                before = text(row, "hash")?;
                if hash != before {
                    check.first_broken = Some(check.last_id);
                    return Ok(check);
                }
            }
        }
        Ok(check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::fresh;

    fn call(request: &str) -> Audited {
        Audited {
            request: request.into(),
            user_id: Some("1".into()),
            user_name: "anna".into(),
            credential: "token".into(),
            address: "127.0.0.1".into(),
            operation: "DELETE /tasks/{task_id}".into(),
            path: "/tasks/1".into(),
            asked: Some(json!({ "c": 3 })),
            before: Some(json!({ "a": 1 })),
        }
    }

    const ALL: Window = Window {
        offset: 0,
        limit: 10,
    };

    #[tokio::test]
    async fn rows_cannot_be_changed_and_a_change_shows() {
        let (folder, catalog) = fresh().await;
        let key = key("secret");
        for request in ["one", "two", "three"] {
            catalog.audit_begin(&key, &call(request)).await.unwrap();
        }
        let after = json!({ "b": 2 });
        let ended = catalog.audit_end(&key, "two", (409, Some("FDI.3023")), Some(&after));
        ended.await.unwrap();
        let filter = AuditFilter::default();
        let found = catalog.audit_list(&filter, ALL).await.unwrap();
        let seen: Vec<_> = found
            .entities
            .iter()
            .map(|one| one.call.request.as_str())
            .collect();
        assert_eq!((found.total, seen), (3, vec!["three", "two", "one"]));
        let two = &found.entities[1];
        assert_eq!(two.call, call("two"));
        assert_eq!(
            (two.status, two.error.as_deref()),
            (Some(409), Some("FDI.3023"))
        );
        assert_eq!(two.after, Some(after));
        assert_eq!(found.entities[0].status, None);
        let check = async |after: i64, limit: u32| {
            let found = catalog.audit_check(&key, after, limit).await.unwrap();
            (found.rows, found.last_id, found.first_broken)
        };
        assert_eq!(check(0, 100).await, (4, 4, None));
        assert_eq!(check(2, 100).await, (2, 4, None));
        assert_eq!(check(0, 1).await, (1, 1, None));
        let four = call("four");
        let refused = catalog.audit_refused(&key, &four, (403, "APIG.1005"));
        refused.await.unwrap();
        let found = catalog.audit_list(&filter, ALL).await.unwrap();
        assert_eq!((found.entities[0].status, found.total), (Some(403), 4));
        for sql in [
            "UPDATE audit SET at_ms = 0 WHERE id = 2",
            "DELETE FROM audit WHERE id = 4",
        ] {
            let refused = sqlx::query(sql).execute(&catalog.writer).await.unwrap_err();
            assert!(refused.to_string().contains("append-only"), "{refused}");
        }
        for sql in [
            "DROP TRIGGER audit_stays",
            "UPDATE audit SET at_ms = at_ms + 1 WHERE id = 2",
        ] {
            sqlx::query(sql).execute(&catalog.writer).await.unwrap();
        }
        assert_eq!(check(0, 100).await, (2, 2, Some(2)));
        catalog.close().await;
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn calls_are_found_by_user_operation_and_time() {
        let (folder, catalog) = fresh().await;
        let key = key("secret");
        catalog.audit_begin(&key, &call("one")).await.unwrap();
        let other = Audited {
            user_name: "bert".into(),
            ..call("two")
        };
        catalog.audit_begin(&key, &other).await.unwrap();
        let check = async |filter: AuditFilter, expected: &[&str]| {
            let found = catalog.audit_list(&filter, ALL).await.unwrap().entities;
            let found: Vec<_> = found.iter().map(|one| one.call.request.as_str()).collect();
            assert_eq!(found, expected, "{filter:?}");
        };
        let name = |name: &str| AuditFilter {
            user_name: Some(name.into()),
            ..AuditFilter::default()
        };
        check(name("anna"), &["one"]).await;
        check(name("ann"), &[]).await;
        let operation = AuditFilter {
            operation: Some("DELETE".into()),
            ..AuditFilter::default()
        };
        check(operation, &["two", "one"]).await;
        let joker = AuditFilter {
            operation: Some("%".into()),
            ..AuditFilter::default()
        };
        check(joker, &[]).await;
        let before = AuditFilter {
            end_ms: Some(1),
            ..AuditFilter::default()
        };
        check(before, &[]).await;
        catalog.close().await;
        std::fs::remove_dir_all(folder).unwrap();
    }
}
