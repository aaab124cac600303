//! Who calls: a signature with an access key, or a token.

use axum::http::{HeaderMap, header};
use thalweg_control::model::Caller;
use thalweg_control::{App, Error, Result};

use super::sign::{Authorization, Signed};
use super::time;

const TOKEN: &str = "x-auth-token";
const SECURITY_TOKEN: &str = "x-security-token";

/// The caller of a request. A signature counts before a token, since it covers the whole request.
pub(crate) async fn caller(app: &App, request: &Signed<'_>) -> Result<Caller> {
    if request.headers.contains_key(header::AUTHORIZATION) {
        return by_signature(app, request).await;
    }
    match only(request.headers, TOKEN)? {
        Some(token) => app.caller_by_token(token).await,
        None => refuse("sign the request with AK/SK, or send a token in X-Auth-Token"),
    }
}

async fn by_signature(app: &App, request: &Signed<'_>) -> Result<Caller> {
    let text = only(request.headers, "authorization")?.unwrap_or_default();
    let authorization = Authorization::parse(text).map_err(Error::Unauthenticated)?;
    let (caller, secret) = app.caller_by_access_key(&authorization.access).await?;
    authorization
        .verify(request, secret.sk.expose(), time::now_ms())
        .map_err(Error::Unauthenticated)?;
    match secret.goes_with(only(request.headers, SECURITY_TOKEN)?) {
        true => Ok(caller),
        false => refuse(
            "a temporary key needs the security token it was given with in X-Security-Token; any other \
             key has none",
        ),
    }
}

/// The only value of a header.
pub(super) fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match value.to_str() {
            Ok(text) if !text.trim().is_empty() => Ok(Some(text.trim())),
            _ => refuse(&format!("the header {name} is empty or not ASCII")),
        },
        (Some(_), Some(_)) => refuse(&format!("the header {name} stands twice")),
    }
}

fn refuse<T>(reason: &str) -> Result<T> {
    Err(Error::Unauthenticated(reason.to_owned()))
}
