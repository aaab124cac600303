//! Integration applications (contract §5).

use std::ops::RangeInclusive;

use serde_json::{Value, json};
use thalweg_control::Result;
use thalweg_control::model::{
    Application, ApplicationChange, ApplicationFilter, NewApplication, Role, User,
};
use thalweg_core::secret::Secret;

use crate::http::body::Fields;
use crate::http::error::Failure;
use crate::http::query::Query;
use crate::http::route::{Call, Reply};
use crate::http::{page, time};

const NAME: RangeInclusive<usize> = 1..=256;
const REMARK: RangeInclusive<usize> = 0..=255;
const KEY: RangeInclusive<usize> = 3..=200;
const SECRET: RangeInclusive<usize> = 8..=128;

pub(crate) async fn create(call: Call) -> Result<Reply, Failure> {
    let new = new_application(call.fields()?)?;
    let made = call.app.application_create(call.scope()?, new).await?;
    Reply::created(render(&made, call.scope()?.user()))
}

pub(crate) async fn list(call: Call) -> Result<Reply, Failure> {
    let filter = filter(&call.query)?;
    let window = page::window(&call.query)?;
    let scope = call.scope()?;
    let found = call.app.application_list(scope, filter, window).await?;
    let row = |app: &Application| render(app, scope.user());
    Reply::ok(page::render(&found, "apps", row))
}

pub(crate) async fn show(call: Call) -> Result<Reply, Failure> {
    let (scope, id) = (call.scope()?, call.id("app_id"));
    let found = call.app.application_show(scope, id).await?;
    Reply::ok(render(&found, scope.user()))
}

pub(crate) async fn update(call: Call) -> Result<Reply, Failure> {
    let change = application_change(call.fields()?)?;
    let (scope, id) = (call.scope()?, call.id("app_id"));
    let changed = call.app.application_update(scope, id, change).await?;
    Reply::ok(render(&changed, scope.user()))
}

pub(crate) async fn delete(call: Call) -> Result<Reply, Failure> {
    let (scope, id) = (call.scope()?, call.id("app_id"));
    call.app.application_delete(scope, id).await?;
    Ok(Reply::Empty)
}

fn new_application(mut fields: Fields) -> Result<NewApplication> {
    let name = name(&mut fields)?;
    let new = NewApplication {
        name: name.ok_or_else(|| fields.missing("name"))?,
        remark: fields.text("remark", REMARK)?,
        key: key(&mut fields)?,
        secret: fields.text("secret", SECRET)?.map(Secret::new),
        favorite: fields.flag("favorite")?.unwrap_or(false),
    };
    fields.finish()?;
    Ok(new)
}

fn application_change(mut fields: Fields) -> Result<ApplicationChange> {
    let change = ApplicationChange {
        name: name(&mut fields)?,
        remark: fields.text("remark", REMARK)?,
        favorite: fields.flag("favorite")?,
    };
    fields.finish()?;
    Ok(change)
}

fn name(fields: &mut Fields) -> Result<Option<String>> {
    let Some(name) = fields.text("name", NAME)? else {
        return Ok(None);
    };
    let allowed = |c: char| letter_or_digit(c) || "-_. ()（）".contains(c);
    if name.chars().all(allowed) {
        return Ok(Some(name));
    }
    let text = "Use letters, Chinese characters, digits, - _ . space and round brackets.";
    Err(fields.invalid("name", text))
}

fn key(fields: &mut Fields) -> Result<Option<String>> {
    let Some(key) = fields.text_or_empty("key", KEY)? else {
        return Ok(None);
    };
    let clean = !key.chars().any(|c| c.is_control() || c.is_whitespace());
    if clean && key.starts_with(letter_or_digit) {
        return Ok(Some(key));
    }
    let text = "Begin with a letter, Chinese character or digit, and leave out spaces.";
    Err(fields.invalid("key", text))
}

fn letter_or_digit(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '\u{3400}'..='\u{9fff}' | '\u{20000}'..='\u{3134f}')
}

fn filter(query: &Query) -> Result<ApplicationFilter> {
    let role = query.word("auth_role", &Role::ALL.map(Role::as_str))?;
    Ok(ApplicationFilter {
        role: role.and_then(Role::parse),
        own: query.flag("owner")?,
        name: query.text("name", 256)?,
        favorite: query.flag("favorite")?,
        user_name: query.text("user_name", 256)?,
    })
}

/// A `ServerAppInfo`.
fn render(app: &Application, caller: &User) -> Value {
    let roles: Vec<&str> = app.roles.iter().map(|role| role.as_str()).collect();
    let user = |user: &User| json!({ "user_id": user.id, "user_name": user.name });
    json!({
        "id": app.id,
        "name": app.name,
        "remark": app.remark,
        "roles": roles,
        "create_time": time::seconds(app.created_ms),
        "update_time": time::seconds(app.updated_ms),
        "created_user": user(&app.created_by),
        "last_updated_user": user(&app.updated_by),
        "owner": app.created_by == *caller,
        "key": app.key,
        "favorite": app.favorite,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body::tests::{field_of, fields};

    #[test]
    fn an_application_is_read() {
        let body = json!({ "name": "集成 app-1 (x).y", "remark": "", "key": "", "secret": null });
        let new = new_application(fields(body)).unwrap();
        assert_eq!(
            (new.key, new.secret.is_none(), new.favorite),
            (None, true, false)
        );
    }

    #[test]
    fn wrong_fields_are_named() {
        let check = |name: &str, value: Value| {
            let mut body = json!({ "name": "app" });
            body[name] = value;
            assert_eq!(field_of(new_application(fields(body))), name);
        };
        check("name", Value::Null);
        check("name", json!(""));
        check("name", json!("a/b"));
        check("name", json!("x".repeat(257)));
        check("remark", json!("x".repeat(256)));
        check("key", json!("ab"));
        check("key", json!("-abc"));
        check("key", json!("x".repeat(201)));
        check("secret", json!("1234567"));
        check("secret", json!("x".repeat(129)));
        check("favorite", json!("true"));
        check("unheard_of", json!(1));
        assert_eq!(
            field_of(application_change(fields(json!({ "key": "abc" })))),
            "key"
        );
    }
}
