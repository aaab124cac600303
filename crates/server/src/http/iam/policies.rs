//! Policies, and who is granted which.

use std::ops::RangeInclusive;

use serde_json::{Value, json};
use thalweg_control::Result;
use thalweg_control::model::{Grant, NamedPolicy, NewPolicy};
use thalweg_control::policy::Policy;

use crate::http::body::Fields;
use crate::http::error::Failure;
use crate::http::route::{Call, Reply};

const NAME: RangeInclusive<usize> = 1..=64;
const DESCRIPTION: RangeInclusive<usize> = 0..=255;
const ID: RangeInclusive<usize> = 1..=64;

pub(crate) async fn list(call: Call) -> Result<Reply, Failure> {
    let policies = call.app.policy_list().await?;
    let policies: Vec<Value> = policies.iter().map(render).collect();
    Reply::ok(json!({ "policies": policies }))
}

pub(crate) async fn show(call: Call) -> Result<Reply, Failure> {
    Reply::ok(render(&call.app.policy_show(call.id("policy_id")).await?))
}

pub(crate) async fn create(call: Call) -> Result<Reply, Failure> {
    let new = new_policy(call.fields()?)?;
    Reply::created(render(&call.app.policy_create(call.caller()?, new).await?))
}

pub(crate) async fn update(call: Call) -> Result<Reply, Failure> {
    let new = new_policy(call.fields()?)?;
    let id = call.id("policy_id");
    Reply::ok(render(
        &call.app.policy_update(call.caller()?, id, new).await?,
    ))
}

pub(crate) async fn delete(call: Call) -> Result<Reply, Failure> {
    call.app.policy_delete(call.id("policy_id")).await?;
    Ok(Reply::Empty)
}

pub(crate) async fn list_grants(call: Call) -> Result<Reply, Failure> {
    let grants = call.app.grant_list(call.user_id()?).await?;
    let grants: Vec<Value> = grants.iter().map(render_grant).collect();
    Reply::ok(json!({ "grants": grants }))
}

pub(crate) async fn create_grant(call: Call) -> Result<Reply, Failure> {
    let mut fields = call.fields()?;
    let policy = fields.text_needed("policy_id", ID)?;
    let project = fields.text("project_id", ID)?;
    fields.finish()?;
    let grant = call
        .app
        .grant_create(call.caller()?, call.user_id()?, &policy, project)
        .await?;
    Reply::created(render_grant(&grant))
}

pub(crate) async fn delete_grant(call: Call) -> Result<Reply, Failure> {
    let user = call.user_id()?;
    call.app.grant_delete(user, call.id("grant_id")).await?;
    Ok(Reply::Empty)
}

fn new_policy(mut fields: Fields) -> Result<NewPolicy> {
    let name = fields.text_needed("name", NAME)?;
    if name.chars().any(char::is_control) {
        return Err(fields.invalid("name", "Leave out control characters."));
    }
    let description = fields.text("description", DESCRIPTION)?;
    let document = fields.take("document");
    let document = document.ok_or_else(|| fields.missing("document"))?;
    fields.finish()?;
    Ok(NewPolicy {
        name,
        description,
        policy: Policy::parse(&document)?,
    })
}

fn render(policy: &NamedPolicy) -> Value {
    json!({
        "policy_id": policy.id,
        "name": policy.name,
        "description": policy.description,
        "document": policy.policy.document(),
        "system": policy.system,
        "updated_time": policy.updated_ms,
    })
}

fn render_grant(grant: &Grant) -> Value {
    json!({
        "grant_id": grant.id,
        "policy_id": grant.policy_id,
        "policy_name": grant.policy_name,
        "project_id": grant.project,
        "created_time": grant.created_ms,
    })
}
