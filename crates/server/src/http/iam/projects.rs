//! Projects and their instances.

use serde_json::{Value, json};
use thalweg_control::model::{Instance, Project};

use super::users::name;
use crate::http::error::Failure;
use crate::http::route::{Call, Reply};

pub(crate) async fn list(call: Call) -> Result<Reply, Failure> {
    let projects = call.app.project_list(call.caller()?).await?;
    let projects: Vec<Value> = projects.iter().map(render).collect();
    Reply::ok(json!({ "projects": projects }))
}

pub(crate) async fn create(call: Call) -> Result<Reply, Failure> {
    let name = named(&call)?;
    Reply::created(render(&call.app.project_create(name).await?))
}

pub(crate) async fn delete(call: Call) -> Result<Reply, Failure> {
    call.app.project_delete(call.id("project_id")).await?;
    Ok(Reply::Empty)
}

pub(crate) async fn list_instances(call: Call) -> Result<Reply, Failure> {
    let instances = call.app.instance_list(call.id("project_id")).await?;
    let instances: Vec<Value> = instances.iter().map(render_instance).collect();
    Reply::ok(json!({ "instances": instances }))
}

pub(crate) async fn create_instance(call: Call) -> Result<Reply, Failure> {
    let name = named(&call)?;
    let project = call.id("project_id");
    Reply::created(render_instance(
        &call.app.instance_create(project, name).await?,
    ))
}

pub(crate) async fn delete_instance(call: Call) -> Result<Reply, Failure> {
    let scope = call.scope()?;
    call.app
        .instance_delete(scope.project(), scope.instance())
        .await?;
    Ok(Reply::Empty)
}

fn named(call: &Call) -> Result<String, Failure> {
    let mut fields = call.fields()?;
    let name = name(&mut fields)?.ok_or_else(|| fields.missing("name"))?;
    fields.finish()?;
    Ok(name)
}

fn render(project: &Project) -> Value {
    json!({
        "project_id": project.id,
        "name": project.name,
        "created_time": project.created_ms,
    })
}

fn render_instance(instance: &Instance) -> Value {
    json!({
        "instance_id": instance.id,
        "name": instance.name,
        "created_time": instance.created_ms,
    })
}
