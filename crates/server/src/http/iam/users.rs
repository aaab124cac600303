//! Users and their access keys.

use std::ops::RangeInclusive;

use axum::http::StatusCode;
use serde_json::{Value, json};
use thalweg_control::Result;
use thalweg_control::model::{AccessKey, UserChange, UserInfo};
use thalweg_core::secret::Secret;

use super::CHECKS;
use crate::http::body::Fields;
use crate::http::error::Failure;
use crate::http::route::{Call, Reply};

const NAME: RangeInclusive<usize> = 1..=64;
const PASSWORD: RangeInclusive<usize> = 12..=128;
const DESCRIPTION: RangeInclusive<usize> = 0..=255;

pub(crate) async fn list(call: Call) -> Result<Reply, Failure> {
    let users: Vec<Value> = call.app.user_list().await?.iter().map(render).collect();
    Reply::ok(json!({ "users": users }))
}

pub(crate) async fn show(call: Call) -> Result<Reply, Failure> {
    let user = call.app.user_show(call.user_id()?).await?;
    let shown = render(&user);
    let projects = match user.user == *call.caller()?.user() {
        true => call.app.project_list(call.caller()?).await?,
        false => return Reply::ok(shown),
    };
    // Where the caller may go: what a client needs first.
    let projects: Vec<Value> = projects
        .iter()
        .map(|project| json!({ "id": project.id, "name": project.name }))
        .collect();
    Reply::ok(with(shown, "projects", projects.into()))
}

pub(crate) async fn create(call: Call) -> Result<Reply, Failure> {
    let mut fields = call.fields()?;
    let name = name(&mut fields)?.ok_or_else(|| fields.missing("name"))?;
    let password = password(&mut fields, "password")?;
    fields.finish()?;
    let _place = CHECKS
        .acquire()
        .await
        .map_err(thalweg_control::Error::internal)?;
    let (user, password) = call.app.user_create(call.caller()?, name, password).await?;
    Reply::created(with(render(&user), "password", password.expose().into()))
}

pub(crate) async fn update(call: Call) -> Result<Reply, Failure> {
    let mut fields = call.fields()?;
    let change = UserChange {
        name: name(&mut fields)?,
        enabled: fields.flag("enabled")?,
    };
    fields.finish()?;
    let (caller, id) = (call.caller()?, call.user_id()?);
    Reply::ok(render(&call.app.user_update(caller, id, change).await?))
}

pub(crate) async fn set_password(call: Call) -> Result<Reply, Failure> {
    let mut fields = call.fields()?;
    let new = password(&mut fields, "password")?.ok_or_else(|| fields.missing("password"))?;
    let old = fields.text("old_password", 1..=1024)?.map(Secret::new);
    fields.finish()?;
    let (caller, id) = (call.caller()?, call.user_id()?);
    // The present password is one that can be guessed here as well as at the sign-in.
    let name = &caller.user().name;
    if old.is_some() {
        call.gate.login(call.address, name)?;
    }
    let _place = CHECKS
        .acquire()
        .await
        .map_err(thalweg_control::Error::internal)?;
    let compared = old.is_some() && id == caller.user().id;
    let set = call.app.user_password_set(caller, id, new, old).await;
    // Only what has compared the present password says whether it was right.
    match &set {
        Ok(()) if compared => {
            call.gate.tried(call.address, name, true);
        }
        Err(thalweg_control::Error::Invalid { field, .. })
            if compared && field == "old_password" =>
        {
            call.gate.tried(call.address, name, false);
        }
        _ => {}
    }
    set?;
    Ok(Reply::Empty)
}

pub(crate) async fn delete(call: Call) -> Result<Reply, Failure> {
    call.app.user_delete(call.user_id()?).await?;
    Ok(Reply::Empty)
}

pub(crate) async fn list_keys(call: Call) -> Result<Reply, Failure> {
    let keys = call.app.key_list(call.user_id()?).await?;
    let keys: Vec<Value> = keys.iter().map(render_key).collect();
    Reply::ok(json!({ "keys": keys }))
}

pub(crate) async fn create_key(call: Call) -> Result<Reply, Failure> {
    let description = match call.fields_if_any()? {
        None => None,
        Some(mut fields) => {
            let description = fields.text("description", DESCRIPTION)?;
            fields.finish()?;
            description
        }
    };
    let (caller, id) = (call.caller()?, call.user_id()?);
    let new = call.app.key_create(caller, id, description).await?;
    let shown = with(render_key(&new.key), "sk", new.sk.expose().into());
    Ok(Reply::Json(StatusCode::CREATED, shown))
}

pub(crate) async fn update_key(call: Call) -> Result<Reply, Failure> {
    let mut fields = call.fields()?;
    let (enabled, about) = (
        fields.flag("enabled")?,
        fields.text("description", DESCRIPTION)?,
    );
    fields.finish()?;
    let which = (call.user_id()?, call.id("ak"));
    let key = call
        .app
        .key_update(call.caller()?, which, enabled, about)
        .await?;
    Reply::ok(render_key(&key))
}

pub(crate) async fn delete_key(call: Call) -> Result<Reply, Failure> {
    let (caller, id) = (call.caller()?, call.user_id()?);
    call.app.key_delete(caller, id, call.id("ak")).await?;
    Ok(Reply::Empty)
}

/// A name that fits into a URL and a log line.
pub(super) fn name(fields: &mut Fields) -> Result<Option<String>> {
    let Some(name) = fields.text("name", NAME)? else {
        return Ok(None);
    };
    match name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_.@".contains(c))
    {
        true => Ok(Some(name)),
        false => Err(fields.invalid("name", "Use letters, digits and - _ . @.")),
    }
}

fn password(fields: &mut Fields, name: &str) -> Result<Option<Secret>> {
    Ok(fields.text(name, PASSWORD)?.map(Secret::new))
}

fn render(user: &UserInfo) -> Value {
    json!({
        "user_id": user.user.id,
        "name": user.user.name,
        "owner": user.owner,
        "enabled": user.enabled,
        "created_time": user.created_ms,
    })
}

/// With one field more.
fn with(mut shown: Value, name: &str, value: Value) -> Value {
    if let Some(fields) = shown.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
    shown
}

fn render_key(key: &AccessKey) -> Value {
    json!({
        "ak": key.ak,
        "enabled": key.enabled,
        "description": key.description,
        "created_time": key.created_ms,
    })
}
