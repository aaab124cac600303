//! Integration applications.

use serde_json::{Value, json};

use super::api::{Api, Want, bad_app, keys, text};

const FIELDS: [&str; 11] = [
    "create_time",
    "created_user",
    "favorite",
    "id",
    "key",
    "last_updated_user",
    "name",
    "owner",
    "remark",
    "roles",
    "update_time",
];

#[test]
fn applications() {
    let mut api = Api::start();
    wrong_values_are_named(&mut api);
    right_values_are_taken(&mut api);
    names_and_keys_are_unique(&mut api);
    changes_keep_the_rest(&mut api);
    lists_are_filtered(&mut api);
    deleted_means_gone(&mut api);
    the_quota_holds(&mut api);
    api.finish();
}

fn wrong_values_are_named(api: &mut Api) {
    let shared: &[(&str, Option<Value>)] = &[
        ("name", Some(json!(""))),
        ("name", Some(json!("a".repeat(257)))),
        ("name", Some(json!("a/b"))),
        ("name", Some(json!("a&b"))),
        ("name", Some(json!("<b>"))),
        ("name", Some(json!("a\u{0}b"))),
        ("name", Some(json!("a\nb"))),
        ("name", Some(json!("a'b"))),
        ("name", Some(json!(7))),
        ("name", Some(json!(["a"]))),
        ("remark", Some(json!("r".repeat(256)))),
        ("remark", Some(json!(1))),
        ("favorite", Some(json!("false"))),
        ("favorite", Some(json!(0))),
        ("owner", Some(json!(true))),
        ("id", Some(json!("x"))),
        ("nonsense", Some(json!(null))),
    ];
    let only_create: &[(&str, Option<Value>)] = &[
        ("name", None),
        ("name", Some(json!(null))),
        ("key", Some(json!("ab"))),
        ("key", Some(json!("k".repeat(201)))),
        ("key", Some(json!("-abc"))),
        ("key", Some(json!("_abc"))),
        ("key", Some(json!(123))),
        ("secret", Some(json!("s".repeat(7)))),
        ("secret", Some(json!("s".repeat(129)))),
        ("secret", Some(json!(12_345_678))),
    ];
    let base = json!({"name": "application"});
    let create = api.apps("");
    api.wrong_fields(("POST", &create), &base, shared, bad_app);
    api.wrong_fields(("POST", &create), &base, only_create, bad_app);
    let id = api.app("to be changed");
    let update = api.apps(&format!("/{id}"));
    api.wrong_fields(("PUT", &update), &base, shared, bad_app);
    let secrets = [
        ("key", Some(json!("key-1"))),
        ("secret", Some(json!("s".repeat(9)))),
    ];
    api.wrong_fields(("PUT", &update), &base, &secrets, bad_app);
    let list = api.bare("GET", &api.apps(""), Want::Ok(200));
    api.same("none of them was made", list["total"].as_u64(), Some(1));
    api.bare("DELETE", &update, Want::Ok(204));
}

fn right_values_are_taken(api: &mut Api) {
    let create = api.apps("");
    let names = [
        "a".to_owned(),
        "n".repeat(256),
        "应用 Aa0-_.() x".into(),
        "9".into(),
        "字".repeat(256),
    ];
    for name in names {
        let made = api.ask(
            "name",
            ("POST", &create),
            &json!({"name": name}),
            Want::Ok(201),
        );
        let found: Vec<String> = keys(&made);
        let extra: Vec<&String> = found
            .iter()
            .filter(|key| !FIELDS.contains(&key.as_str()))
            .collect();
        api.same("fields the contract lacks", extra, vec![]);
        for field in FIELDS.iter().filter(|field| **field != "remark") {
            api.same(field, made[*field].is_null(), false);
        }
        api.same("name", text(&made["name"]), name);
        let path = api.apps(&format!("/{}", text(&made["id"])));
        let shown = api.bare("GET", &path, Want::Ok(200));
        api.same("shown", shown, made);
        api.bare("DELETE", &path, Want::Ok(204));
    }
    let more = [
        json!({"name": "a", "remark": "", "key": "abc", "secret": "s".repeat(8), "favorite": true}),
        json!({"name": "a", "remark": "字".repeat(255), "key": "k".repeat(200), "favorite": false}),
        json!({"name": "a", "key": "字_-1", "secret": "s".repeat(128)}),
        json!({"name": "a", "key": "1ab", "secret": null, "remark": null}),
    ];
    for body in more {
        let made = api.ask("values", ("POST", &create), &body, Want::Ok(201));
        api.same("key", &made["key"], &body["key"]);
        let favorite = body["favorite"].as_bool().unwrap_or(false);
        api.same("favorite", made["favorite"].as_bool(), Some(favorite));
        let secret = text(&body["secret"]);
        let leaked = !secret.is_empty() && made.to_string().contains(&secret);
        api.same("no secret in the answer", leaked, false);
        let path = api.apps(&format!("/{}", text(&made["id"])));
        api.bare("DELETE", &path, Want::Ok(204));
    }
}

fn names_and_keys_are_unique(api: &mut Api) {
    let create = api.apps("");
    let body = json!({"name": "only", "key": "only-key"});
    let made = api.ask("first", ("POST", &create), &body, Want::Ok(201));
    let body = json!({"name": "only"});
    api.ask("same name", ("POST", &create), &body, bad_app("name"));
    let body = json!({"name": "other", "key": "only-key"});
    api.ask("same key", ("POST", &create), &body, bad_app("key"));
    let other = api.app("other");
    let path = api.apps(&format!("/{other}"));
    let body = json!({"name": "only"});
    api.ask("renamed to it", ("PUT", &path), &body, bad_app("name"));
    let path = api.apps(&format!("/{}", text(&made["id"])));
    api.ask("its own name", ("PUT", &path), &body, Want::Ok(200));
    for id in [text(&made["id"]), other] {
        api.bare("DELETE", &api.apps(&format!("/{id}")), Want::Ok(204));
    }
}

fn changes_keep_the_rest(api: &mut Api) {
    let body = json!({"name": "before", "remark": "r", "favorite": true});
    let made = api.ask("app", ("POST", &api.apps("")), &body, Want::Ok(201));
    let path = api.apps(&format!("/{}", text(&made["id"])));
    for (body, name, remark, favorite) in [
        (json!({}), "before", "r", true),
        (json!({"name": "after"}), "after", "r", true),
        (json!({"remark": ""}), "after", "", true),
        (json!({"favorite": false}), "after", "", false),
    ] {
        let changed = api.ask("change", ("PUT", &path), &body, Want::Ok(200));
        let found = (
            text(&changed["name"]),
            text(&changed["remark"]),
            &changed["favorite"],
        );
        api.same(
            "changed",
            found,
            (name.into(), remark.into(), &json!(favorite)),
        );
        api.same("key", &changed["key"], &made["key"]);
    }
    api.bare("DELETE", &path, Want::Ok(204));
}

fn lists_are_filtered(api: &mut Api) {
    let ids: Vec<String> = ["one", "two", "three", "a_b", "a%b"]
        .iter()
        .filter(|name| !name.contains('%'))
        .map(|name| api.app(name))
        .collect();
    for (query, wanted) in [
        ("", 4),
        ("name=o", 2),
        ("name=two", 1),
        ("name=a%25b", 0),
        ("name=o_e", 0),
        ("name=_", 1),
        ("name=nothing", 0),
        ("favorite=true", 0),
        ("favorite=false", 4),
        ("owner=true", 4),
        ("unknown=1", 4),
    ] {
        let list = api.bare("GET", &api.apps(&format!("?{query}")), Want::Ok(200));
        api.same(
            "fields",
            keys(&list),
            ["apps", "size", "total"].map(String::from).to_vec(),
        );
        let found = (list["total"].as_u64(), list["size"].as_u64());
        api.same(query, found, (Some(wanted), Some(wanted)));
    }
    for (query, wanted) in [
        ("limit=2", 2),
        ("limit=3&offset=2", 2),
        ("offset=4", 0),
        ("limit=5000", 4),
    ] {
        let list = api.bare("GET", &api.apps(&format!("?{query}")), Want::Ok(200));
        api.same(query, list["total"].as_u64(), Some(4));
        api.same(query, list["apps"].as_array().map(Vec::len), Some(wanted));
        api.same(query, list["size"].as_u64(), Some(wanted as u64));
    }
    let path = api.apps("");
    let wrong = [
        ("limit=x", bad_app("limit")),
        ("limit=1.5", bad_app("limit")),
        ("limit=99999999999999999999", bad_app("limit")),
        ("offset=two", bad_app("offset")),
        ("favorite=maybe", bad_app("favorite")),
        ("favorite=1", bad_app("favorite")),
        ("owner=x", bad_app("owner")),
    ];
    api.queries(&path, &wrong);
    for id in ids {
        api.bare("DELETE", &api.apps(&format!("/{id}")), Want::Ok(204));
    }
}

fn deleted_means_gone(api: &mut Api) {
    let id = api.app("short-lived");
    let path = api.apps(&format!("/{id}"));
    let source = api.datasource("its own", "MYSQL", &id);
    api.bare("DELETE", &path, bad_app(""));
    let source = api.fdi(&format!("/datasources/{source}"));
    api.bare("DELETE", &source, Want::Ok(204));
    let request = api.request("DELETE", &path);
    if let Some(answer) = api.answer("delete", &request, Want::Ok(204)) {
        api.same("no body", answer.body.len(), 0);
    }
    let gone = Want::Roma(404, "ROMA.00110006", "");
    for method in ["GET", "DELETE"] {
        api.bare(method, &path, gone);
    }
    api.ask("change", ("PUT", &path), &json!({"name": "x"}), gone);
    let body = super::api::datasource("orphan", "MYSQL", &id);
    let create = api.fdi("/datasources");
    api.ask(
        "of a deleted app",
        ("POST", &create),
        &body,
        super::api::bad("app_id"),
    );
}

fn the_quota_holds(api: &mut Api) {
    let create = api.apps("");
    for number in 0..100 {
        api.app(&format!("quota-{number}"));
    }
    let body = json!({"name": "one too many"});
    api.ask("over the quota", ("POST", &create), &body, bad_app(""));
}
