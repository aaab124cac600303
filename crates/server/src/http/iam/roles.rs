//! Who may do what with an integration application that somebody else made.

use serde_json::{Value, json};
use thalweg_control::model::{Role, RoleHolder};

use crate::http::error::Failure;
use crate::http::route::{Call, Reply};

pub(crate) async fn list(call: Call) -> Result<Reply, Failure> {
    let (scope, id) = (call.scope()?, call.id("app_id"));
    let holders = call.app.role_list(scope, id).await?;
    let holders: Vec<Value> = holders.iter().map(render).collect();
    Reply::ok(json!({ "users": holders }))
}

pub(crate) async fn set(call: Call) -> Result<Reply, Failure> {
    let mut fields = call.fields()?;
    let words = fields.array("roles", 0..=Role::ALL.len())?;
    let words = words.ok_or_else(|| fields.missing("roles"))?;
    let roles: Option<Vec<Role>> = words
        .iter()
        .map(|word| word.as_str().and_then(Role::parse))
        .collect();
    let roles = roles.ok_or_else(|| {
        let all = Role::ALL.map(Role::as_str).join(", ");
        fields.invalid("roles", format!("Give some of {all}."))
    })?;
    fields.finish()?;
    let (scope, id) = (call.scope()?, call.id("app_id"));
    let set = call
        .app
        .role_set(scope, id, call.user_id()?, &roles)
        .await?;
    Reply::ok(render(&set))
}

fn render(holder: &RoleHolder) -> Value {
    let roles: Vec<&str> = holder.roles.iter().map(|role| role.as_str()).collect();
    json!({ "user_id": holder.user.id, "user_name": holder.user.name, "roles": roles })
}
