//! Who may do what: every route with every wrong credential, and the life of users, keys and policies.

use std::fmt::Write as _;

use thalweg_control::policy::{ACTIONS, Action};

use super::*;

const PAGE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../docs/reference/access.md"
);

pub(super) const PASSWORD: &str = "correct horse battery";

/// A user of the world with its token.
pub(super) struct User {
    pub(super) id: String,
    pub(super) token: String,
}

impl World {
    async fn with_life(token_life: Duration) -> World {
        let folder = std::env::temp_dir().join(format!("thalweg-http-{}", Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        World::open(folder, ROUTES, token_life, None).await
    }

    /// The same data in another place, where tokens live as they should.
    async fn copied(self) -> World {
        self.app.shutdown(Duration::from_secs(1)).await;
        let folder = std::env::temp_dir().join(format!("thalweg-http-{}", Uuid::new_v4()));
        std::fs::create_dir_all(folder.join("data")).unwrap();
        for file in ["key", "data/catalog.db"] {
            std::fs::copy(self.folder.join(file), folder.join(file)).unwrap();
        }
        World::open(folder, ROUTES, TOKEN_LIFE, Some(self.first.clone())).await
    }

    /// With the owner's token.
    pub(super) async fn own(&self, token: &str, method: &str, path: &str, body: Value) -> Value {
        let answer = self.with_token(token, method, path, &text(&body)).await;
        assert!(
            answer.status.is_success(),
            "{method} {path}: {} {}",
            answer.status,
            answer.body
        );
        answer.body
    }

    /// Makes a user who is granted a policy in the first project.
    pub(super) async fn user(&self, owner: &str, name: &str, policy: Option<&str>) -> User {
        let body = json!({ "name": name, "password": PASSWORD });
        let made = self.own(owner, "POST", "/v1/users", body).await;
        let id = made["user_id"].as_str().unwrap().to_owned();
        if let Some(policy) = policy {
            self.grant(owner, &id, policy).await;
        }
        let token = self.sign_in(name, PASSWORD).await.unwrap();
        User { id, token }
    }

    pub(super) async fn grant(&self, owner: &str, user: &str, policy: &str) -> String {
        let body = json!({ "policy_id": policy, "project_id": self.first.project });
        let path = format!("/v1/users/{user}/grants");
        let made = self.own(owner, "POST", &path, body).await;
        made["grant_id"].as_str().unwrap().to_owned()
    }

    pub(super) async fn policy(&self, owner: &str, name: &str, statements: Value) -> String {
        let body =
            json!({ "name": name, "document": { "Version": "1.1", "Statement": statements } });
        let made = self.own(owner, "POST", "/v1/policies", body).await;
        made["policy_id"].as_str().unwrap().to_owned()
    }

    pub(super) async fn sign_in_at(
        &self,
        name: &str,
        password: &str,
        project: Option<&str>,
    ) -> Answer {
        let mut body = json!({ "auth": {
            "identity": { "methods": ["password"], "password": { "user": {
                "name": name, "password": password,
            }}},
        }});
        if let Some(project) = project {
            body["auth"]["scope"] = json!({ "project": { "id": project } });
        }
        let asked = request("POST", "/v3/auth/tokens").body(body.to_string().into());
        self.send(asked.unwrap()).await
    }

    pub(super) async fn sign_in(&self, name: &str, password: &str) -> Result<String, u16> {
        let answer = self.sign_in_at(name, password, None).await;
        match answer.headers.get("x-subject-token") {
            Some(token) => Ok(token.to_str().unwrap().to_owned()),
            None => Err(answer.status.as_u16()),
        }
    }

    pub(super) async fn status(&self, token: &str, method: &str, path: &str, body: Value) -> u16 {
        let answer = self.with_token(token, method, path, &text(&body)).await;
        answer.status.as_u16()
    }

    /// A signed request: key, secret, date, security token.
    pub(super) async fn signed(
        &self,
        (method, path): (&str, &str),
        (ak, sk): (&str, &str),
        date: &str,
        security_token: Option<&str>,
    ) -> Answer {
        let mut asked = request(method, path)
            .header("host", "127.0.0.1:8080")
            .header("x-sdk-date", date);
        if let Some(token) = security_token {
            asked = asked.header("x-security-token", token);
        }
        let signed = Signed {
            method,
            path,
            query: "",
            headers: asked.headers_ref().unwrap(),
            body: b"",
        };
        let authorization = sign(&signed, ak, sk);
        let asked = asked.header("authorization", authorization);
        self.send(asked.body(Body::empty()).unwrap()).await
    }
}

pub(super) fn text(body: &Value) -> String {
    if body.is_null() {
        return String::new();
    }
    body.to_string()
}

pub(super) fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y%m%dT%H%M%SZ")
        .to_string()
}

/// What is wrong with a call, in the order of the page.
const WRONG: [&str; 9] = [
    "no credential",
    "wrong token",
    "expired token",
    "revoked token",
    "wrong signature",
    "old date",
    "other project",
    "not allowed",
    "denied",
];

/// Every route is refused with every wrong credential, in the shape of its surface; the page shows it. A route
/// without a row cannot be: the table is made of all of them.
#[tokio::test]
async fn every_route_refuses_every_wrong_credential() {
    // Where tokens live no longer than a moment, and again with the same data where they do.
    let short = World::with_life(Duration::from_millis(1)).await;
    let first = short.first.clone();
    let (name, password) = (&first.user, first.password.expose());
    let expired = short.sign_in(name, password).await.unwrap();
    let world = short.copied().await;
    let owner = world.token().await;
    let nothing = json!([{ "Effect": "Allow", "Action": ["iam:audit:list"] }]);
    let nothing = world.policy(&owner, "next to nothing", nothing).await;
    let denied = json!([
        { "Effect": "Allow", "Action": ["*"] },
        { "Effect": "Deny", "Action": ["*"] },
    ]);
    let denied = world.policy(&owner, "denied", denied).await;
    let revoked = world
        .user(&owner, "revoked", Some("roma-full-access"))
        .await;
    let path = format!("/v1/users/{}/password", revoked.id);
    let body = json!({ "password": "another long password" });
    world.own(&owner, "PUT", &path, body).await;
    let none = world.user(&owner, "none", Some(&nothing)).await;
    let refused = world.user(&owner, "denied", Some(&denied)).await;
    let (ak, sk) = (world.first.ak.clone(), world.first.sk.clone());
    let mut page = String::from(HEAD);
    for wrong in WRONG {
        write!(page, " {wrong} |").unwrap();
    }
    page.push('\n');
    page.push_str(&"| --- ".repeat(WRONG.len() + 2));
    page.push_str("|\n");
    for route in ROUTES.iter().filter(|route| route.access != Access::Open) {
        let path = world.path(route.path);
        let call = (route.method, path.as_str());
        let elsewhere = path.replace(&world.first.project, "c53626012ba84727b938ca8bf03108ef");
        let in_project = matches!(
            route.access,
            Access::Instance | Access::OnlyInstance | Access::Project
        );
        // Only what all may do, or what lies in no project, is not asked for.
        let with =
            async |token: &str, path: &str| world.with_token(token, route.method, path, "").await;
        let action = route.action.map_or("-", |action| action.0);
        write!(page, "| `{} {}` | {action} |", route.method, route.path).unwrap();
        for wrong in WRONG {
            let answer = match wrong {
                "no credential" => Some(world.anonymous(route.method, &path).await),
                "wrong token" => Some(with("wrong", &path).await),
                "expired token" => Some(with(&expired, &path).await),
                "revoked token" => Some(with(&revoked.token, &path).await),
                "wrong signature" => Some(world.signed(call, (&ak, "wrong"), &now(), None).await),
                "old date" => {
                    let old = "20260102T030405Z";
                    Some(world.signed(call, (&ak, sk.expose()), old, None).await)
                }
                "other project" if in_project => Some(with(&owner, &elsewhere).await),
                "not allowed" if action != "-" && action != "iam:audit:list" => {
                    Some(with(&none.token, &path).await)
                }
                "denied" if action != "-" => Some(with(&refused.token, &path).await),
                _ => None,
            };
            let Some(answer) = answer else {
                page.push_str(" |");
                continue;
            };
            let forbidden = matches!(wrong, "other project" | "not allowed" | "denied");
            let what = format!("{} {}, {wrong}: {}", route.method, route.path, answer.body);
            let (status, code) = match forbidden {
                true => (403, "APIG.1005"),
                false => (401, "APIGW.0301"),
            };
            assert_eq!(answer.status, status, "{what}");
            let shown = if route.surface == Surface::Native {
                let kind = &answer.headers[header::CONTENT_TYPE];
                assert_eq!(kind, "application/problem+json", "{what}");
                assert_eq!(answer.body["status"], status, "{what}");
                assert!(answer.body["detail"].is_string(), "{what}");
                status.to_string()
            } else {
                assert_eq!(answer.body["error_code"], code, "{what}");
                assert!(answer.body["request_id"].is_string(), "{what}");
                format!("{status} {code}")
            };
            write!(page, " {shown} |").unwrap();
        }
        page.push('\n');
    }
    if std::env::var_os("UPDATE_ACCESS").is_some() {
        std::fs::write(PAGE, &page).unwrap();
    }
    let stored = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(
        stored == page,
        "{PAGE} is old: make it anew with UPDATE_ACCESS=1"
    );
}

const HEAD: &str = "# Operations, what they need, and how they refuse\n\n\
    Made by a test of the server (`crates/server/src/http/tests/access.rs`, `UPDATE_ACCESS=1`) that calls \
    every operation with every wrong credential. An operation needs its action from a policy that is granted \
    to the caller; `-`: everybody who has signed in may call it. The owner of the account may call all of \
    them, and everybody may see and change their own password and keys. An empty cell: the operation lies in \
    no project, or needs no action. `/livez`, `/readyz`, `/metrics` and signing in need no credential.\n\n\
    | operation | needs |";

#[test]
fn every_action_is_that_of_a_route() {
    let used: BTreeSet<Action> = ROUTES.iter().filter_map(|route| route.action).collect();
    let known: BTreeSet<Action> = ACTIONS.iter().copied().collect();
    assert_eq!(used, known);
}
