//! What holds for every operation: paths, methods, tokens, projects, bodies.

use serde_json::{Value, json};

use super::api::{Api, Want, bad, keys, text};
use super::raw::Request;

/// Every operation there is. `{t}`, `{d}`, `{m}` and `{a}` stand for ids.
const OPERATIONS: &[(&str, &str)] = &[
    ("POST", "/datasources"),
    ("GET", "/datasources"),
    ("GET", "/datasources/{d}"),
    ("PUT", "/datasources/{d}"),
    ("DELETE", "/datasources/{d}"),
    ("GET", "/datasources/{d}/tables"),
    ("GET", "/datasources/{d}/columns"),
    ("POST", "/datasources/{d}/test-connect"),
    ("POST", "/datasources/{d}/test-sql"),
    ("POST", "/multi-tasks/init"),
    ("POST", "/multi-tasks"),
    ("PUT", "/multi-tasks/{t}"),
    ("POST", "/multi-tasks/{t}/mappings"),
    ("GET", "/multi-tasks/{t}/mappings"),
    ("PUT", "/multi-tasks/{t}/mappings/{m}"),
    ("DELETE", "/multi-tasks/{t}/mappings/{m}"),
    ("POST", "/multi-tasks/{t}/reset"),
    ("POST", "/tasks"),
    ("GET", "/tasks"),
    ("PUT", "/tasks/{t}"),
    ("POST", "/tasks/{t}/dispatches"),
    ("GET", "/tasks/{t}/dispatches"),
    ("PUT", "/tasks/{t}/dispatches/{m}"),
    ("GET", "/tasks/{t}"),
    ("DELETE", "/tasks/{t}"),
    ("POST", "/tasks/{t}/run"),
    ("POST", "/tasks/{t}/terminate"),
    ("POST", "/batch-operation/tasks"),
    ("GET", "/statistics/tasks"),
    ("GET", "/task-monitors"),
    ("GET", "/tasks/{t}/monitor-logs"),
    ("GET", "/tasks/{t}/monitor-logs/{m}"),
    ("GET", "/tasks/{t}/monitor-overview"),
    ("POST", "apps"),
    ("GET", "apps"),
    ("GET", "apps/{a}"),
    ("PUT", "apps/{a}"),
    ("DELETE", "apps/{a}"),
];

/// Documented, but not built: refused like any unknown path, never pretended.
const NOT_BUILT: &[(&str, &str)] = &[
    ("GET", "/multi-tasks"),
    ("GET", "/multi-tasks/{t}"),
    ("DELETE", "/multi-tasks/{t}"),
    ("GET", "/multi-tasks/init"),
    ("POST", "/multi-tasks/{t}/mappings/{m}"),
    ("GET", "/nothing"),
    ("GET", ""),
    ("GET", "apps/{a}/secret"),
    ("PUT", "apps/{a}/secret"),
];

const NOWHERE: &str = "0123456789abcdef0123456789abcdef";

fn path(api: &Api, rest: &str) -> String {
    let rest = ["{d}", "{t}", "{m}"]
        .iter()
        .fold(rest.to_owned(), |rest, id| rest.replace(id, NOWHERE))
        .replace("{a}", "01234567-89ab-cdef-0123-456789abcdef");
    match rest.strip_prefix("apps") {
        Some(rest) => api.apps(rest),
        None => api.fdi(&rest),
    }
}

#[test]
fn paths_methods_tokens_and_projects() {
    let mut api = Api::start();
    nobody_gets_in(&mut api);
    tokens_are_given_out(&mut api);
    wrong_logins_get_no_token(&mut api);
    unknown_paths_are_told(&mut api);
    other_methods_are_unknown_paths(&mut api);
    other_projects_and_instances(&mut api);
    odd_ids_do_no_harm(&mut api);
    api.finish();
}

#[test]
fn bodies_that_are_no_json_are_refused() {
    let mut api = Api::start();
    broken_bodies(&mut api);
    content_types(&mut api);
    sizes(&mut api);
    api.finish();
}

fn nobody_gets_in(api: &mut Api) {
    let want = Want::Gateway(401, "APIGW.0301");
    for (method, rest) in OPERATIONS {
        let request = Request::new(method, &path(api, rest)).json("{}");
        api.check("no credentials", &request, want);
        api.check(
            "a wrong token",
            &request.header("X-Auth-Token", "wrong"),
            want,
        );
    }
    let long = "a".repeat(20_000);
    let nearly = format!("{}x", api.token);
    let upper = api.token.to_uppercase();
    let tokens: [&[u8]; 7] = [
        b"",
        b" ",
        b"\xff\xfe",
        "klíč".as_bytes(),
        long.as_bytes(),
        nearly.as_bytes(),
        upper.as_bytes(),
    ];
    for token in tokens {
        let request = Request::new("GET", &api.fdi("/tasks")).header("X-Auth-Token", token);
        api.check("garbage token", &request, want);
    }
    let good = api.request("GET", &api.fdi("/tasks"));
    let one = api.answer("a token", &good, Want::Ok(200));
    let two = api.answer("a token", &good, Want::Ok(200));
    let ids = [one, two].map(|a| a.and_then(|a| a.header("x-request-id").map(str::to_owned)));
    api.same("request ids differ", ids[0] == ids[1], false);
}

fn login(api: &Api, change: impl FnOnce(&mut Value)) -> String {
    let id = &api.identity;
    let mut body = json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": {
            "name": id.user, "password": id.password, "domain": {"name": id.domain}}}},
        "scope": {"project": {"id": id.project}}}});
    change(&mut body);
    body.to_string()
}

fn tokens_are_given_out(api: &mut Api) {
    for target in ["/v3/auth/tokens", "/v3/auth/tokens?nocatalog=true"] {
        let request = Request::new("POST", target).json(login(api, |_| ()));
        let Some(answer) = api.answer("login", &request, Want::Ok(201)) else {
            return;
        };
        let token = answer
            .header("x-subject-token")
            .unwrap_or_default()
            .to_owned();
        api.same("a token", token.is_empty() || token == api.token, false);
        let body = &answer.value()["token"];
        for field in ["user", "project", "roles", "issued_at", "expires_at"] {
            api.same(field, body[field].is_null(), false);
        }
        api.same(
            "user",
            text(&body["user"]["name"]),
            api.identity.user.clone(),
        );
        let project = text(&body["project"]["id"]);
        api.same("project", project, api.identity.project.clone());
        let list = api.fdi("/tasks");
        let new = Request::new("GET", &list).header("X-Auth-Token", &token);
        api.check("the new token", &new, Want::Ok(200));
        let old = api.request("GET", &list);
        api.check("the older token", &old, Want::Ok(200));
    }
}

fn wrong_logins_get_no_token(api: &mut Api) {
    let user = "/auth/identity/password/user";
    let wrong: &[(String, Value)] = &[
        (format!("{user}/password"), json!("wrong")),
        (format!("{user}/name"), json!("nobody")),
        (format!("{user}/domain/name"), json!("elsewhere")),
        ("/auth/scope/project/id".into(), json!(NOWHERE)),
    ];
    for (place, value) in wrong {
        let body = login(api, |body| {
            *body.pointer_mut(place).unwrap() = value.clone();
        });
        let request = Request::new("POST", "/v3/auth/tokens").json(body);
        let answer = api.answer(place, &request, Want::Gateway(401, "APIGW.0301"));
        let token = answer.and_then(|answer| answer.header("x-subject-token").map(str::to_owned));
        api.same("no token", token, None);
    }
    for body in [
        "",
        "{}",
        "{",
        "[]",
        r#"{"auth": {"identity": {"methods": ["totp"]}}}"#,
    ] {
        let request = Request::new("POST", "/v3/auth/tokens").json(body);
        let Ok(answer) = request.send(&api.address) else {
            api.fail(format!("login {body:?}: no answer"));
            continue;
        };
        api.same(body, (400..=401).contains(&answer.status), true);
        api.same(body, answer.header("x-request-id").is_some(), true);
    }
}

fn unknown_paths_are_told(api: &mut Api) {
    let want = Want::Gateway(404, "APIGW.0101");
    for (method, rest) in NOT_BUILT {
        let mut request = api.request(method, &path(api, rest));
        if *method != "GET" {
            request = request.json("{}");
        }
        api.check("not built", &request, want);
    }
    let project = api.identity.project.clone();
    for target in [
        "/".into(),
        "/v2".into(),
        format!("/v2/{project}"),
        format!("/v2/{project}/fdi/multi-tasks/mappings/auto"),
        format!("/v3/{project}/fdi/instances/x/tasks"),
        "/v3/auth/token".into(),
        "//".into(),
        "/../etc/passwd".into(),
        format!("/{}", "a".repeat(5000)),
    ] {
        api.bare("GET", &target, want);
    }
}

fn other_methods_are_unknown_paths(api: &mut Api) {
    let known = |method: &str, rest: &str| {
        OPERATIONS.contains(&(method, rest)) || NOT_BUILT.contains(&(method, rest))
    };
    for (_, rest) in OPERATIONS {
        for method in [
            "GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW",
        ] {
            // A path of one id may have several methods.
            let unknown = !known(method, rest) && *rest != "/multi-tasks/init";
            if unknown {
                api.bare(method, &path(api, rest), Want::Gateway(404, "APIGW.0101"));
            }
        }
    }
    api.bare("GET", "/v3/auth/tokens", Want::Gateway(404, "APIGW.0101"));
}

fn other_projects_and_instances(api: &mut Api) {
    let own = api.identity.clone();
    for (method, rest) in OPERATIONS {
        let here = path(api, rest);
        for project in [NOWHERE, "x", "%2e", "c53626012ba84727b938ca8bf03108ef"] {
            let request = api.request(method, &here.replace(&own.project, project));
            api.check(
                "other project",
                &request.json("{}"),
                Want::Gateway(403, "APIG.1005"),
            );
        }
        for instance in ["fae7ff6c-8e07-4cf8-9e67-589cab2f017c", "x"] {
            let request = api.request(method, &here.replace(&own.instance, instance));
            let want = Want::Gateway(404, "APIG.3030");
            api.check("unknown instance", &request.json("{}"), want);
        }
    }
    let list = api.request("GET", &api.fdi("/tasks"));
    let right = list.clone().header("X-Project-Id", &own.project);
    api.check("the same project id", &right, Want::Ok(200));
    for id in [NOWHERE, "x", ""] {
        let request = list.clone().header("X-Project-Id", id);
        api.check(
            "another X-Project-Id",
            &request,
            Want::Fdi(400, "FDI.3039", ""),
        );
    }
}

fn odd_ids_do_no_harm(api: &mut Api) {
    let long = "a".repeat(4000);
    let ids = [
        "%00",
        "%2F",
        "..%2F..",
        "%FF%FE",
        "%E4%B8%AD",
        "'",
        "%27%20OR%201=1--",
        "%25",
        "%",
        "%zz",
        ";",
        "*",
        "null",
        "undefined",
        "-1",
        "%20",
        "%0D%0AX-A:1",
        &long,
    ];
    for id in ids {
        for rest in ["/tasks/", "/datasources/"] {
            let target = api.fdi(&format!("{rest}{id}"));
            api.bare("GET", &target, Want::Refused);
        }
        let target = api.apps(&format!("/{id}"));
        api.bare("GET", &target, Want::Refused);
        let target = api.fdi(&format!("/multi-tasks/{id}/reset"));
        api.bare("POST", &target, Want::Refused);
    }
    for rest in [
        "/tasks/{t}",
        "/tasks/{t}/monitor-logs",
        "/tasks/{t}/monitor-logs/{m}",
        "/tasks/{t}/monitor-overview",
        "/multi-tasks/{t}/mappings",
    ] {
        let target = path(api, rest);
        api.bare("GET", &target, Want::Fdi(404, "FDI.3081", ""));
    }
    let target = path(api, "apps/{a}");
    api.bare("GET", &target, Want::Roma(404, "ROMA.00110006", ""));
    let target = path(api, "/datasources/{d}");
    api.bare("GET", &target, Want::Fdi(404, "FDI.3002", ""));
}

fn broken_bodies(api: &mut Api) {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_field = format!(r#"{{"task_name": "abc", "operation_types": {deep}}}"#);
    let utf16: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let broken: &[&[u8]] = &[
        b"",
        b" ",
        b"{",
        b"}",
        b"[]",
        b"[{}]",
        b"\"text\"",
        b"1",
        b"true",
        b"null",
        b"{} {}",
        b"{}x",
        b"{\"task_name\": }",
        b"{\"task_name\": \"abc\",}",
        b"{'task_name': 'abc'}",
        b"{task_name: 1}",
        b"{\"task_name\": NaN}",
        b"{\"task_name\": 01}",
        b"{\"task_name\": \"\xff\xfe\"}",
        b"{\"task_name\": \"\xed\xa0\x80\"}",
        b"{\"task_name\": \"\\ud800\"}",
        b"{\"task_name\": \"\\x41\"}",
        b"{\"task_name\": \"a\nb\"}",
        b"\xef\xbb\xbf{\"task_name\": \"abc\", \"operation_types\": [\"INSERT\"]}",
        b"{\"task_name\": \"abc\" /* comment */}",
        b"\0",
        b"<xml/>",
        &utf16,
        deep.as_bytes(),
        deep_field.as_bytes(),
    ];
    let body_taking = [
        ("POST", "/multi-tasks"),
        ("POST", "/multi-tasks/init"),
        ("POST", "/datasources"),
        ("POST", "/batch-operation/tasks"),
    ];
    for (method, rest) in body_taking {
        let request = api.request(method, &api.fdi(rest));
        for body in broken {
            let what = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            let request = request.clone().json(body);
            api.check(&what, &request, Want::Fdi(400, "FDI.3002", ""));
        }
    }
    let request = api.request("POST", &api.apps(""));
    for body in broken {
        let what = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let want = Want::Roma(400, "ROMA.00013000", "");
        api.check(&what, &request.clone().json(body), want);
    }
    let twice = br#"{"task_name": "abc", "task_name": "abd", "operation_types": ["INSERT"]}"#;
    let request = api.request("POST", &api.fdi("/multi-tasks")).json(twice);
    api.check("a field twice", &request, Want::Refused);
    let number = br#"{"task_name": "abc", "operation_types": ["INSERT"], "task_id": 1e999}"#;
    let request = api.request("POST", &api.fdi("/multi-tasks")).json(number);
    api.check("a number without end", &request, Want::Refused);
}

fn content_types(api: &mut Api) {
    let create = api.request("POST", &api.fdi("/multi-tasks"));
    let body = |name: &str| json!({"task_name": name, "operation_types": ["INSERT"]}).to_string();
    for kind in [
        "text/plain",
        "application/xml",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "json",
        "application",
    ] {
        let request = create
            .clone()
            .json(body("kind"))
            .header("Content-Type", kind);
        api.check(kind, &request, Want::Fdi(400, "FDI.3002", ""));
    }
    for (number, kind) in [
        "application/json",
        "application/json;charset=UTF-8",
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
    ]
    .iter()
    .enumerate()
    {
        let request = create.clone().json(body(&format!("kind-{number}")));
        api.check(kind, &request.header("Content-Type", kind), Want::Ok(200));
    }
    let mut request = create.clone().json(body("chunked"));
    request.chunked = true;
    api.check("in chunks", &request, Want::Ok(200));
    let unknown = create
        .clone()
        .json(r#"{"task_name": "abc", "operation_types": [], "x": 1}"#);
    api.check("an unknown field", &unknown, bad(""));
}

fn sizes(api: &mut Api) {
    const MAX: usize = 8 << 20;
    let create = api.request("POST", &api.fdi("/multi-tasks"));
    let body = |size: usize| {
        let head = r#"{"task_name": "abc", "operation_types": ["INSERT"], "description": ""#;
        let fill = "x".repeat(size - head.len() - 2);
        format!("{head}{fill}\"}}")
    };
    let request = create.clone().json(body(MAX));
    api.check("the largest body", &request, bad("description"));
    let too_large = Want::Gateway(413, "APIG.0201");
    let mut request = create.clone().json(body(MAX + 1));
    api.check("a body too large", &request, too_large);
    request.chunked = true;
    api.check("a body too large in chunks", &request, too_large);
    request.chunked = false;
    request.body = body(64 << 20).into_bytes();
    api.check("a huge body", &request, too_large);
    let announced = create.json("{}").header("Content-Length", "99999999999");
    api.check("a huge body announced", &announced, too_large);
    let request = api.request("POST", &api.apps("")).json(body(MAX + 1));
    api.check("a body too large for an application", &request, too_large);
    let list = api.request("GET", &api.fdi("/tasks"));
    let answer = api.check("it still answers", &list, Want::Ok(200));
    api.same(
        "a list",
        keys(&answer),
        ["entities", "size", "total"].map(String::from).to_vec(),
    );
}
