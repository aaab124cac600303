//! Who may call: tokens and temporary keys in the form of the vendor's identity service, and our own
//! operations for users, their keys, policies, projects and the audit log.

pub(crate) mod audit;
pub(crate) mod policies;
pub(crate) mod projects;
pub(crate) mod roles;
pub(crate) mod users;

use axum::http::StatusCode;
use serde_json::{Value, json};
use thalweg_control::model::{Audited, Login, TemporaryKey};
use thalweg_control::{Error, Result};
use thalweg_core::secret::Secret;
use tokio::sync::Semaphore;

use super::auth::only;
use super::body::Fields;
use super::error::{self, Failure};
use super::route::{Call, Reply, Surface};
use super::time;

/// Checking a password takes memory and time on purpose, and anybody may ask for it.
static CHECKS: Semaphore = Semaphore::const_new(4);

/// How long a temporary key lives, in seconds: as the vendor has it.
const TEMPORARY: std::ops::RangeInclusive<u64> = 900..=86_400;

pub(crate) async fn tokens(call: Call) -> Result<Reply, Failure> {
    let asked = request(call.fields()?)?;
    call.gate.login(call.address, &asked.name)?;
    let _place = CHECKS.acquire().await.map_err(Error::internal)?;
    let login = call
        .app
        .login(
            asked.domain.as_deref(),
            &asked.name,
            &asked.password,
            asked.project_id.as_deref(),
            asked.project_name.as_deref(),
        )
        .await
        .map_err(Failure::from);
    let wrong = matches!(&login, Err(failure) if failure.is_wrong_password());
    // A right password of a project that is not there says nothing about passwords.
    let compared = wrong || login.is_ok();
    if compared && call.gate.tried(call.address, &asked.name, !wrong) {
        tracing::warn!(address = %call.address, "wrong passwords: this address waits");
    }
    recorded(&call, &asked.name, &login).await?;
    let login = login?;
    let header = ("x-subject-token", login.token.expose().to_owned());
    Ok(Reply::WithHeader(
        StatusCode::CREATED,
        header,
        render(&login),
    ))
}

/// Writes a sign-in into the audit log, before its token is given away. A name that nobody has may be a password
/// that was typed into the wrong place, and is not written.
async fn recorded(call: &Call, name: &str, login: &Result<Login, Failure>) -> Result<(), Failure> {
    let known = call.app.user_exists(name).await?;
    let request = super::request_id();
    let audited = Audited {
        request: request.clone(),
        user_id: login.as_ref().ok().map(|login| login.user.id.clone()),
        user_name: if known {
            name.to_owned()
        } else {
            String::new()
        },
        credential: "password".to_owned(),
        address: call.address.to_string(),
        operation: "POST /v3/auth/tokens".to_owned(),
        path: "/v3/auth/tokens".to_owned(),
        asked: None,
        before: None,
    };
    call.app.audit_begin(&audited).await?;
    let outcome = match login {
        Ok(_) => (StatusCode::CREATED.as_u16(), None),
        Err(failure) => {
            let (status, code) = error::status(failure, Surface::Iam);
            (status, Some(code))
        }
    };
    Ok(call.app.audit_end(&request, outcome, None).await?)
}

/// Ends the token that the header `X-Subject-Token` names.
pub(crate) async fn end_token(call: Call) -> Result<Reply, Failure> {
    let missing = || Error::invalid("X-Subject-Token", "Name the token that is to end.");
    let token = only(&call.headers, "x-subject-token")?.ok_or_else(missing)?;
    call.app.token_delete(call.caller()?, token).await?;
    Ok(Reply::Empty)
}

/// A temporary key with the caller's rights.
pub(crate) async fn security_tokens(call: Call) -> Result<Reply, Failure> {
    let seconds = temporary(call.fields()?)?;
    let key = call
        .app
        .temporary_key_create(call.caller()?, seconds)
        .await?;
    Reply::created(render_temporary(&key))
}

fn temporary(mut fields: Fields) -> Result<u32> {
    let mut auth = needed(&mut fields, "auth")?;
    let mut identity = needed(&mut auth, "identity")?;
    let methods = identity.array("methods", 1..=16)?.unwrap_or_default();
    if methods != ["token"] {
        return Err(identity.invalid("methods", "Give [\"token\"]: no other is built."));
    }
    let Some(mut token) = identity.object("token")? else {
        return Ok(seconds(*TEMPORARY.start()));
    };
    // The vendor has it as a text in some pages, and as a number in others.
    let text = token.digits_or_int("duration_seconds", TEMPORARY)?;
    Ok(seconds(text.unwrap_or(*TEMPORARY.start())))
}

fn seconds(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn render_temporary(key: &TemporaryKey) -> Value {
    json!({ "credential": {
        "access": key.ak,
        "secret": key.sk.expose(),
        "securitytoken": key.security_token.expose(),
        "expires_at": time::micros(key.expires_ms),
    }})
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
    let project = login
        .project
        .as_ref()
        .map(|project| json!({ "id": project.id, "name": project.name, "domain": domain }));
    json!({ "token": {
        "methods": ["password"],
        "expires_at": time::micros(login.expires_ms),
        "issued_at": time::micros(login.issued_ms),
        "user": { "id": login.user.id, "name": login.user.name, "domain": domain },
        "project": project,
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
