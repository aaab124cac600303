//! Tokens: the one operation of the identity service that clients need.

use axum::http::StatusCode;
use serde_json::{Value, json};
use thalweg_control::Result;
use thalweg_control::model::Login;
use thalweg_core::secret::Secret;

use super::body::Fields;
use super::error::Failure;
use super::route::{Call, Reply};
use super::time;

pub(crate) async fn tokens(call: Call) -> Result<Reply, Failure> {
    let asked = request(call.fields()?)?;
    let login = call
        .app
        .login(
            asked.domain.as_deref(),
            &asked.name,
            &asked.password,
            asked.project_id.as_deref(),
            asked.project_name.as_deref(),
        )
        .await?;
    let header = ("x-subject-token", login.token.expose().to_owned());
    Ok(Reply::WithHeader(
        StatusCode::CREATED,
        header,
        render(&login),
    ))
}

#[derive(Debug)]
struct Asked {
    domain: Option<String>,
    name: String,
    password: Secret,
    project_id: Option<String>,
    project_name: Option<String>,
}

/// Fields we have no use for are left alone here: clients of identity services send many.
fn request(mut fields: Fields) -> Result<Asked> {
    let mut auth = needed(&mut fields, "auth")?;
    let mut identity = needed(&mut auth, "identity")?;
    let methods = identity.array("methods", 1..=16)?.unwrap_or_default();
    if methods != ["password"] {
        return Err(identity.invalid("methods", "Give [\"password\"]: no other is built."));
    }
    let mut password = needed(&mut identity, "password")?;
    let mut user = needed(&mut password, "user")?;
    let domain = match user.object("domain")? {
        Some(mut domain) => domain.text("name", 1..=64)?,
        None => None,
    };
    let mut asked = Asked {
        domain,
        name: user.text_needed("name", 1..=64)?,
        password: Secret::new(user.text_needed("password", 1..=1024)?),
        project_id: None,
        project_name: None,
    };
    if let Some(mut scope) = auth.object("scope")?
        && let Some(mut project) = scope.object("project")?
    {
        asked.project_id = project.text("id", 1..=64)?;
        asked.project_name = project.text("name", 1..=64)?;
    }
    Ok(asked)
}

fn needed(fields: &mut Fields, name: &str) -> Result<Fields> {
    let object = fields.object(name)?;
    object.ok_or_else(|| fields.missing(name))
}

fn render(login: &Login) -> Value {
    // A domain of ours has a name and no id of its own.
    let domain = json!({ "id": null, "name": login.domain });
    let (project_id, project_name) = &login.project;
    json!({ "token": {
        "methods": ["password"],
        "expires_at": time::micros(login.expires_ms),
        "issued_at": time::micros(login.issued_ms),
        "user": { "id": login.user.id, "name": login.user.name, "domain": domain },
        "project": { "id": project_id, "name": project_name, "domain": domain },
        "roles": [],
        "catalog": [],
    }})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body::tests::{field_of, fields};

    fn body() -> Value {
        json!({ "auth": {
            "identity": {
                "methods": ["password"],
                "password": { "user": {
                    "name": "admin", "password": "geheim", "domain": { "name": "thalweg" },
                }},
            },
            "scope": { "project": { "name": "default" } },
        }})
    }

    #[test]
    fn the_form_of_the_vendor_is_read() {
        let asked = request(fields(body())).unwrap();
        assert_eq!(asked.domain.as_deref(), Some("thalweg"));
        assert_eq!(
            (asked.name.as_str(), asked.password.expose()),
            ("admin", "geheim")
        );
        assert_eq!(
            (asked.project_id, asked.project_name.as_deref()),
            (None, Some("default"))
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let check = |path: &str, expected: &str| {
            let mut body = body();
            *body.pointer_mut(path).unwrap() = Value::Null;
            assert_eq!(field_of(request(fields(body))), expected);
        };
        check("/auth", "auth");
        check("/auth/identity", "identity");
        check("/auth/identity/methods", "methods");
        check("/auth/identity/password", "password");
        check("/auth/identity/password/user", "user");
        check("/auth/identity/password/user/name", "name");
        check("/auth/identity/password/user/password", "password");
    }
}
