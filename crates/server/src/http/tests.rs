//! The router as a whole: every route is guarded and documented, and every answer has its shape.

mod access;
mod users;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use serde_json::{Value, json};
use thalweg_control::model::FirstStart;
use thalweg_control::{App, OpenOptions, Quotas, TOKEN_LIFE};
use thalweg_core::networks::Networks;
use tower::ServiceExt as _;

use super::route::{Access, Route, Surface, TIME_MAX};
use super::routes::ROUTES;
use super::sign::{Signed, tests::sign};
use super::*;
use crate::connectors;

const DOCUMENT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../docs/reference/openapi.json"
);

/// A server without a socket, in a directory of its own.
struct World {
    app: App,
    first: FirstStart,
    folder: PathBuf,
    router: Router,
}

impl Drop for World {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl World {
    async fn start() -> World {
        World::with(ROUTES).await
    }

    async fn with(routes: &'static [Route]) -> World {
        let folder = std::env::temp_dir().join(format!("thalweg-http-{}", Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        World::open(folder, routes, TOKEN_LIFE, None).await
    }

    /// On the data of a folder; with what its first start made, if that is over.
    async fn open(
        folder: PathBuf,
        routes: &'static [Route],
        token_life: Duration,
        first: Option<FirstStart>,
    ) -> World {
        let options = OpenOptions {
            data: folder.join("data"),
            key_file: folder.join("key"),
            connectors: connectors::all(),
            networks: Networks::default(),
            quotas: Quotas::default(),
            zone: thalweg_control::schedule::parse_zone("UTC").unwrap(),
            token_life,
            announce: |_| Ok(()),
        };
        let (app, made) = App::open(options).await.unwrap();
        let router = router_of(&app, routes, &Arc::new(Gate::new(GateOptions::default())));
        let first = made.or(first).unwrap();
        World {
            app,
            first,
            folder,
            router,
        }
    }

    /// A path of the contract with everything before the dots filled in.
    fn path(&self, template: &str) -> String {
        template
            .replace("{project_id}", &self.first.project)
            .replace("{instance_id}", &self.first.instance)
            .replace("{task_id}", "no-task")
            .replace("{datasource_id}", "no-source")
            .replace("{mapping_id}", "no-mapping")
            .replace("{verification_id}", "no-verification")
            .replace("{row_id}", "no-row")
            .replace("{app_id}", "no-app")
            .replace("{dispatch_id}", "no-dispatch")
            .replace("{tracking_id}", "no-execution")
            .replace("{user_id}", "no-user")
            .replace("{ak}", "no-key")
            .replace("{policy_id}", "no-policy")
            .replace("{grant_id}", "no-grant")
    }

    fn fdi(&self, rest: &str) -> String {
        self.path(&format!(
            "/v2/{{project_id}}/fdi/instances/{{instance_id}}{rest}"
        ))
    }

    /// Sends; every answer has to carry a request id.
    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let id = parts
            .headers
            .get(REQUEST_ID)
            .expect("every answer has an id");
        let id = id.to_str().unwrap();
        assert!(
            id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()),
            "{id}"
        );
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        }
    }

    async fn anonymous(&self, method: &str, path: &str) -> Answer {
        self.send(request(method, path).body(Body::empty()).unwrap())
            .await
    }

    async fn token(&self) -> String {
        let body = json!({ "auth": {
            "identity": { "methods": ["password"], "password": { "user": {
                "name": self.first.user, "password": self.first.password.expose(),
                "domain": { "name": self.first.domain },
            }}},
            "scope": { "project": { "id": self.first.project } },
        }});
        let asked = request("POST", "/v3/auth/tokens").body(body.to_string().into());
        let answer = self.send(asked.unwrap()).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.headers["x-subject-token"]
            .to_str()
            .unwrap()
            .to_owned()
    }

    async fn with_token(&self, token: &str, method: &str, path: &str, body: &str) -> Answer {
        let asked = request(method, path).header("x-auth-token", token);
        self.send(asked.body(body.to_owned().into()).unwrap()).await
    }
}

fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
}

#[test]
fn the_document_has_exactly_the_routes() {
    let text = std::fs::read_to_string(DOCUMENT).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let mut documented = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let open = operation["security"] == json!([]);
            documented.insert((method.to_uppercase(), path.clone(), open));
        }
    }
    let open = |route: &Route| route.access == Access::Open;
    let built: BTreeSet<(String, String, bool)> = ROUTES
        .iter()
        .map(|r| (r.method.into(), r.path.into(), open(r)))
        .collect();
    assert_eq!(built.len(), ROUTES.len(), "a route stands twice");
    assert_eq!(documented, built);
}

#[tokio::test]
async fn four_routes_are_open() {
    let world = World::start().await;
    let open: Vec<&str> = ROUTES
        .iter()
        .filter(|route| route.access == Access::Open)
        .map(|route| route.path)
        .collect();
    assert_eq!(open, ["/v3/auth/tokens", "/livez", "/readyz", "/metrics"]);
    assert_eq!(world.anonymous("GET", "/livez").await.status, 200);
    assert_eq!(world.anonymous("GET", "/readyz").await.status, 200);
    assert_eq!(world.anonymous("GET", "/metrics").await.status, 200);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_404_in_the_gateways_shape() {
    let world = World::start().await;
    let unbuilt = world.fdi("/tasks/no-task/dispatches/no-dispatch/runs");
    let wrong_method = world.fdi("/statistics/tasks");
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/v2/x"),
        ("GET", "/%ff/%00"),
        ("GET", &unbuilt),
        ("PUT", &wrong_method),
        ("TRACE", "/livez"),
    ] {
        let answer = world.anonymous(method, path).await;
        assert_eq!(answer.status, 404, "{method} {path}");
        assert_eq!(answer.body["error_code"], "APIGW.0101", "{method} {path}");
    }
    let answer = world.anonymous("GET", "/v1/x").await;
    assert_eq!(
        answer.headers[header::CONTENT_TYPE],
        "application/problem+json"
    );
    let invalid = format!("/v2/%ff/fdi/instances/{}/tasks", world.first.instance);
    assert_eq!(world.anonymous("GET", &invalid).await.status, 404);
}

#[tokio::test]
async fn a_token_opens_its_project_and_no_other() {
    let world = World::start().await;
    let token = world.token().await;
    let tasks = world.fdi("/tasks");
    let get = async |path: &str| world.with_token(&token, "GET", path, "").await;
    assert_eq!(get(&tasks).await.status, 200);
    let foreign = tasks.replace(&world.first.project, "c53626012ba84727b938ca8bf03108ef");
    let answer = get(&foreign).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body["error_code"]),
        (403, &json!("APIG.1005"))
    );
    let unknown = tasks.replace(&world.first.instance, "no-instance");
    let answer = get(&unknown).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body["error_code"]),
        (404, &json!("APIG.3030"))
    );
    let asked = request("GET", &tasks)
        .header("x-auth-token", &token)
        .header("x-project-id", "other");
    let answer = world.send(asked.body(Body::empty()).unwrap()).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body["error_code"]),
        (400, &json!("FDI.3039"))
    );
}

#[tokio::test]
async fn a_wrong_password_gives_no_token() {
    let world = World::start().await;
    let body = |password: &str| {
        json!({ "auth": { "identity": { "methods": ["password"], "password": { "user": {
            "name": world.first.user, "password": password,
        }}}}})
    };
    let post = async |body: String| {
        let asked = request("POST", "/v3/auth/tokens")
            .body(body.into())
            .unwrap();
        world.send(asked).await
    };
    let answer = post(body("wrong").to_string()).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body["error_code"]),
        (401, &json!("APIGW.0301"))
    );
    let answer = post("{}".into()).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body["error_code"]),
        (400, &json!("APIG.2012"))
    );
}

#[tokio::test]
async fn a_signed_request_passes_and_a_changed_one_does_not() {
    let world = World::start().await;
    let path = world.fdi("/tasks");
    let now = jiff::Timestamp::now()
        .strftime("%Y%m%dT%H%M%SZ")
        .to_string();
    let signed = |token: Option<&str>| {
        let mut request = request("GET", &format!("{path}?limit=5&name=a%20b"))
            .header("host", "127.0.0.1:8080")
            .header("user-agent", "test")
            .header("x-project-id", &world.first.project)
            .header("x-sdk-date", &now);
        if let Some(token) = token {
            request = request.header("x-security-token", token);
        }
        let authorization = sign(
            &Signed {
                method: "GET",
                path: &path,
                query: "limit=5&name=a%20b",
                headers: request.headers_ref().unwrap(),
                body: b"",
            },
            &world.first.ak,
            world.first.sk.expose(),
        );
        request
            .header("authorization", authorization)
            .body(Body::empty())
            .unwrap()
    };
    assert_eq!(world.send(signed(None)).await.status, 200);
    let mut changed = signed(None);
    *changed.uri_mut() = format!("{path}?limit=6&name=a%20b").parse().unwrap();
    assert_eq!(world.send(changed).await.status, 401);
    let answer = world.send(signed(Some("temporary"))).await;
    assert_eq!(answer.status, 401);
    let text = answer.body["error_msg"].as_str().unwrap();
    assert!(text.contains("X-Security-Token"), "{text}");
}

#[tokio::test]
async fn bodies_that_are_no_json_object_are_refused() {
    let world = World::start().await;
    let token = world.token().await;
    let path = world.fdi("/multi-tasks");
    for body in ["", "{", "[]", "null", "{\"a\":1,\"a\":2}"] {
        let answer = world.with_token(&token, "POST", &path, body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.body["error_code"], "FDI.3002", "{body}");
    }
    let asked = Request::builder().method("POST").uri(&path);
    let asked = asked
        .header("x-auth-token", &token)
        .body("{}".into())
        .unwrap();
    let answer = world.send(asked).await;
    assert_eq!(
        answer.body["error_code"], "FDI.3002",
        "without a content type"
    );
    let answer = world
        .with_token(&token, "POST", &path, "{\"unheard_of\":1}")
        .await;
    assert_eq!(answer.body["error_code"], "FDI.3033");
    let apps = world.path("/v2/{project_id}/instances/{instance_id}/apps");
    let answer = world
        .with_token(&token, "POST", &apps, "{\"name\":\"a/b\"}")
        .await;
    assert_eq!(answer.body["error_code"], "ROMA.00013000");
    assert!(answer.body["error_details"].is_string());
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_even_for_strangers() {
    let world = World::start().await;
    for (bytes, status) in [(BODY_BYTES_MAX, 401), (BODY_BYTES_MAX + 1, 413)] {
        let asked = request("POST", &world.fdi("/multi-tasks"));
        let answer = world
            .send(asked.body(vec![b' '; bytes].into()).unwrap())
            .await;
        assert_eq!(answer.status.as_u16(), status);
    }
}

const BROKEN: &[Route] = &[
    Route {
        method: "GET",
        path: "/panics",
        surface: Surface::Fdi,
        access: Access::Open,
        action: None,
        time_max: TIME_MAX,
        handler: |_| Box::pin(async { panic!("on purpose") }),
    },
    Route {
        method: "GET",
        path: "/hangs",
        surface: Surface::Fdi,
        access: Access::Open,
        action: None,
        time_max: TIME_MAX,
        handler: |_| Box::pin(std::future::pending()),
    },
];

#[tokio::test]
async fn a_handler_that_panics_or_hangs_answers_500() {
    let world = World::with(BROKEN).await;
    let answer = world.anonymous("GET", "/panics").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body["error_code"]),
        (500, &json!("FDI.9999"))
    );
    tokio::time::pause();
    let answer = world.anonymous("GET", "/hangs").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body["error_code"]),
        (500, &json!("FDI.9999"))
    );
    tokio::time::resume();
    world.app.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn what_does_not_exist_is_named_by_its_code() {
    let world = World::start().await;
    let token = world.token().await;
    let check = async |method: &str, path: String, code: &str| {
        let answer = world.with_token(&token, method, &path, "").await;
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.body);
        assert_eq!(answer.body["error_code"], code, "{method} {path}");
    };
    let long = "x".repeat(65);
    for id in ["no-task", "%20", long.as_str()] {
        check("GET", world.fdi(&format!("/tasks/{id}")), "FDI.3081").await;
        check("DELETE", world.fdi(&format!("/tasks/{id}")), "FDI.3081").await;
        check("POST", world.fdi(&format!("/tasks/{id}/run")), "FDI.3081").await;
        check(
            "POST",
            world.fdi(&format!("/tasks/{id}/terminate")),
            "FDI.3081",
        )
        .await;
        check(
            "GET",
            world.fdi(&format!("/tasks/{id}/monitor-logs")),
            "FDI.3081",
        )
        .await;
        check(
            "POST",
            world.fdi(&format!("/multi-tasks/{id}/reset")),
            "FDI.3081",
        )
        .await;
        check(
            "GET",
            world.fdi(&format!("/multi-tasks/{id}/mappings")),
            "FDI.3081",
        )
        .await;
        check("GET", world.fdi(&format!("/datasources/{id}")), "FDI.3002").await;
        check(
            "DELETE",
            world.fdi(&format!("/datasources/{id}")),
            "FDI.3002",
        )
        .await;
        let app = format!("/v2/{{project_id}}/instances/{{instance_id}}/apps/{id}");
        check("GET", world.path(&app), "ROMA.00110006").await;
    }
}
