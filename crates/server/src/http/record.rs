//! The audit log's view of a call: who, what, from where, and how it was before and after.
//!
//! Before and after are what the operation that shows the same thing says, so no operation has to know of
//! the log. Where there is none, after is what the answer said. Neither has secrets: no operation shows one
//! again, and fields that show a new one are left out here.

use serde_json::Value;
use thalweg_control::model::Audited;

use super::error::{self, Failure};
use super::route::{Call, Reply, Route, Surface};
use super::routes::ROUTES;

/// Longer texts are cut.
const CHARS_MAX: usize = 16 << 10;
/// A longer path is cut.
const PATH_CHARS_MAX: usize = 512;
/// Fields that hold secrets, besides those whose names say so: of answers that show one this once, and of requests.
/// An SQL text may hold values of rows.
const SECRETS: &[&str] = &[
    "sk",
    "authorization",
    "api_auth_detail",
    "apiauthdetail",
    "config_file_content",
    "connector_params",
    "snmp_community",
    "sql",
    // Connection strings may have a password in them, and such a one is refused.
    "url",
    "address",
];
/// Parts of the names of such fields, in small letters.
const SECRET_WORDS: &[&str] = &["passw", "secret", "token", "key_pem", "private", "pwd"];

/// Whether the log has the calls of a route: all that change something, and those that show rows.
pub(super) fn is_recorded(route: &Route) -> bool {
    let reads_rows = route
        .action
        .is_some_and(|action| action.0 == "roma:rows:read");
    route.method != "GET" && route.surface != Surface::Ops || reads_rows
}

/// A call that begins.
pub(super) fn begins(
    route: &Route,
    call: &Call,
    (id, path): (&str, &str),
    before: Option<Value>,
) -> Audited {
    let caller = call.caller.as_ref();
    let user = caller.map(|caller| caller.user().clone());
    Audited {
        request: id.to_owned(),
        user_id: user.as_ref().map(|user| user.id.clone()),
        user_name: user.map(|user| user.name).unwrap_or_default(),
        credential: caller
            .map(|caller| caller.credential().to_string())
            .unwrap_or_default(),
        address: call.address.to_string(),
        operation: format!("{} {}", route.method, route.path),
        path: path.chars().take(PATH_CHARS_MAX).collect(),
        asked: asked(call),
        before,
    }
}

/// The body, if it is JSON.
fn asked(call: &Call) -> Option<Value> {
    if call.body.is_empty() || call.body.len() > CHARS_MAX * 4 {
        return None;
    }
    serde_json::from_slice(&call.body).ok().map(clean)
}

/// Status, code, and how it is after the call.
pub(super) async fn ended(
    route: &Route,
    call: &Call,
    outcome: &Result<Reply, Failure>,
) -> (u16, Option<&'static str>, Option<Value>) {
    match outcome {
        Err(failure) => {
            let (status, code) = error::status(failure, route.surface);
            (status, Some(code), None)
        }
        Ok(reply) => {
            let said = match reply {
                Reply::Json(_, value) | Reply::WithHeader(_, _, value) => {
                    Some(clean(value.clone()))
                }
                Reply::Text(..) | Reply::Empty => None,
            };
            let after = match route.method {
                "PUT" | "PATCH" | "POST" => shown(route, call).await.or(said),
                // What was deleted is not there, and what was read is no change.
                _ => None,
            };
            (reply.status().as_u16(), None, after)
        }
    }
}

/// What the operation says that shows what a call is about.
pub(super) async fn shown(route: &Route, call: &Call) -> Option<Value> {
    if route.method == "GET" {
        return None;
    }
    let shows = showing(route)?;
    let mut asks = call.clone();
    asks.body = bytes::Bytes::new();
    match (shows.handler)(asks).await {
        Ok(Reply::Json(_, value)) => Some(clean(value)),
        _ => None,
    }
}

/// The operation that shows what a route is about: that of the same path, or of what the path is a part of.
fn showing(route: &Route) -> Option<&'static Route> {
    let get = |path: &str| {
        ROUTES
            .iter()
            .find(|one| one.method == "GET" && one.path == path)
    };
    // A list is none: it would show what the call is not about.
    let one = |path: &str| path.ends_with('}').then(|| get(path)).flatten();
    let mut path = route.path.replace("/multi-tasks/", "/tasks/");
    if let Some(found) = get(&path).filter(|_| path.ends_with('}') || path.ends_with("options")) {
        return Some(found);
    }
    while let Some((parent, last)) = path.rsplit_once('/') {
        let is_id = last.starts_with('{');
        path = parent.to_owned();
        if is_id {
            return None;
        }
        if let Some(found) = one(&path) {
            return Some(found);
        }
    }
    None
}

/// Without secrets, and no longer than the log takes.
fn clean(mut value: Value) -> Value {
    without_secrets(&mut value);
    let text = value.to_string();
    if text.len() <= CHARS_MAX {
        return value;
    }
    let cut: String = text.chars().take(CHARS_MAX).collect();
    Value::String(format!("{cut}…"))
}

fn without_secrets(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| {
                let name = name.to_ascii_lowercase();
                let said = SECRET_WORDS.iter().any(|word| name.contains(word));
                !said && !SECRETS.contains(&name.as_str())
            });
            fields.values_mut().for_each(without_secrets);
        }
        Value::Array(values) => values.iter_mut().for_each(without_secrets),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_call_is_about_is_shown_by_another() {
        let check = |method: &str, end: &str, expected: Option<&str>| {
            let route = ROUTES
                .iter()
                .find(|one| one.method == method && one.path.ends_with(end));
            let found = showing(route.unwrap()).map(|one| one.path);
            match expected {
                Some(expected) => assert!(found.unwrap().ends_with(expected), "{found:?}"),
                None => assert_eq!(found, None, "{method} {end}"),
            }
        };
        check(
            "PUT",
            "/datasources/{datasource_id}",
            Some("/datasources/{datasource_id}"),
        );
        check(
            "POST",
            "/datasources/{datasource_id}/test-connect",
            Some("/datasources/{datasource_id}"),
        );
        check(
            "PUT",
            "/multi-tasks/{task_id}",
            Some("fdi/instances/{instance_id}/tasks/{task_id}"),
        );
        check(
            "POST",
            "/multi-tasks/{task_id}/reset",
            Some("/tasks/{task_id}"),
        );
        check(
            "POST",
            "/tasks/{task_id}/run",
            Some("fdi/instances/{instance_id}/tasks/{task_id}"),
        );
        check(
            "PATCH",
            "/tasks/{task_id}/options",
            Some("/tasks/{task_id}/options"),
        );
        check("POST", "/datasources", None);
        check("POST", "/multi-tasks/init", None);
        check("PUT", "/users/{user_id}/password", Some("/users/{user_id}"));
        check(
            "DELETE",
            "/policies/{policy_id}",
            Some("/policies/{policy_id}"),
        );
        check("POST", "/v3/auth/tokens", None);
    }

    #[test]
    fn what_changes_something_or_shows_rows_is_recorded() {
        let recorded = |method: &str, end: &str| {
            let route = ROUTES
                .iter()
                .find(|one| one.method == method && one.path.ends_with(end));
            is_recorded(route.unwrap())
        };
        assert!(recorded("GET", "/quarantine") && recorded("GET", "/quarantine/{row_id}"));
        assert!(recorded("GET", "/verifications/{verification_id}"));
        assert!(recorded("DELETE", "/tasks/{task_id}") && recorded("POST", "/run"));
        assert!(!recorded("GET", "/tasks/{task_id}") && !recorded("GET", "/metrics"));
    }

    #[test]
    fn secrets_are_left_out() {
        let value = json!({ "user": { "password": "a", "name": "b" }, "keys": [{ "sk": "c", "enabled": true }] });
        let left = json!({ "user": { "name": "b" }, "keys": [{ "enabled": true }] });
        assert_eq!(clean(value), left);
        let asked = json!({ "client_key_pem": "a", "securityToken": "b", "Password": "c", "url": "d", "host": "e" });
        assert_eq!(clean(asked), json!({ "host": "e" }));
        let long = clean(json!({ "text": "x".repeat(100_000) }));
        assert!(long.as_str().unwrap().len() < 17 << 10);
    }
}
