//! The life of users, keys, policies, roles and projects, and what the audit log has of it.

use super::access::{PASSWORD, now, text};
use super::*;

#[tokio::test]
async fn a_user_may_what_its_policies_allow_and_no_more() {
    let world = World::start().await;
    let owner = world.token().await;
    let tasks = world.fdi("/tasks");
    let create = world.fdi("/multi-tasks");
    let task = json!({ "task_name": "one", "operation_types": ["INSERT"] });
    let anna = world.user(&owner, "anna", None).await;
    // A token from before anything was granted opens no project.
    let grant = world.grant(&owner, &anna.id, "roma-read-only-access").await;
    assert_eq!(
        world.status(&anna.token, "GET", &tasks, Value::Null).await,
        403
    );
    let token = world.sign_in("anna", PASSWORD).await.unwrap();
    assert_eq!(world.status(&token, "GET", &tasks, Value::Null).await, 200);
    let answer = world
        .with_token(&token, "POST", &create, &text(&task))
        .await;
    assert_eq!(answer.status, 403);
    let told = answer.body["error_msg"].as_str().unwrap();
    assert!(
        told.contains("user anna") && told.contains("roma:tasks:create"),
        "{told}"
    );
    let own = world.policy(
        &owner,
        "makes",
        json!([{ "Effect": "Allow", "Action": ["roma:tasks:cre*"] }]),
    );
    world.grant(&owner, &anna.id, &own.await).await;
    assert_eq!(world.status(&token, "POST", &create, task).await, 200);
    // Taken back, it counts from the next call on.
    let back = format!("/v1/users/{}/grants/{grant}", anna.id);
    world.own(&owner, "DELETE", &back, Value::Null).await;
    assert_eq!(world.status(&token, "GET", &tasks, Value::Null).await, 403);
    // Nothing of the account's is hers, but herself.
    assert_eq!(
        world.status(&token, "GET", "/v1/users", Value::Null).await,
        403
    );
    let me = world.own(&token, "GET", "/v1/users/me", Value::Null).await;
    assert_eq!(
        (&me["name"], &me["user_id"]),
        (&json!("anna"), &json!(anna.id))
    );
    assert_eq!(me["projects"][0]["id"], world.first.project);
    let other = world.user(&owner, "bert", None).await;
    let of_other = format!("/v1/users/{}", other.id);
    assert_eq!(
        world.status(&token, "GET", &of_other, Value::Null).await,
        403
    );
    let project = json!({ "name": "second" });
    assert_eq!(
        world.status(&token, "POST", "/v1/projects", project).await,
        403
    );
}

#[tokio::test]
async fn tokens_end_with_what_they_came_from() {
    let world = World::start().await;
    let owner = world.token().await;
    let me = "/v1/users/me";
    let alive = async |token: &str| world.status(token, "GET", me, Value::Null).await == 200;
    let anna = world.user(&owner, "anna", None).await;
    let second = world.sign_in("anna", PASSWORD).await.unwrap();
    assert!(
        alive(&anna.token).await && alive(&second).await,
        "a new token leaves older ones"
    );
    let end = request("DELETE", "/v3/auth/tokens")
        .header("x-auth-token", &anna.token)
        .header("x-subject-token", &second);
    assert_eq!(
        world.send(end.body(Body::empty()).unwrap()).await.status,
        204
    );
    assert!(
        alive(&anna.token).await && !alive(&second).await,
        "one was ended"
    );
    // Its own password needs the present one.
    let password = |new: &str, old: Option<&str>| json!({ "password": new, "old_password": old });
    let path = "/v1/users/me/password";
    let new = "another long password";
    for (old, status) in [(None, 400), (Some("wrong"), 400), (Some(PASSWORD), 204)] {
        let body = password(new, old);
        assert_eq!(
            world.status(&anna.token, "PUT", path, body).await,
            status,
            "{old:?}"
        );
    }
    assert!(!alive(&anna.token).await, "the password is another");
    assert_eq!(world.sign_in("anna", PASSWORD).await, Err(401));
    let token = world.sign_in("anna", new).await.unwrap();
    let of_anna = format!("/v1/users/{}", anna.id);
    let keys = format!("{of_anna}/keys");
    let key = world.own(&owner, "POST", &keys, Value::Null).await;
    let key = format!("{keys}/{}", key["ak"].as_str().unwrap());
    assert!(alive(&token).await);
    world
        .own(&owner, "PATCH", &key, json!({ "enabled": false }))
        .await;
    assert!(!alive(&token).await, "a key was disabled");
    let token = world.sign_in("anna", new).await.unwrap();
    world
        .own(&owner, "PATCH", &of_anna, json!({ "enabled": false }))
        .await;
    assert!(!alive(&token).await, "she was disabled");
    assert_eq!(world.sign_in("anna", new).await, Err(401));
    world
        .own(&owner, "PATCH", &of_anna, json!({ "enabled": true }))
        .await;
    let token = world.sign_in("anna", new).await.unwrap();
    world.own(&owner, "DELETE", &of_anna, Value::Null).await;
    assert!(!alive(&token).await, "she was deleted");
    assert_eq!(
        world.status(&owner, "GET", &of_anna, Value::Null).await,
        404
    );
    // The name is free again.
    world.user(&owner, "anna", None).await;
}

#[tokio::test]
async fn keys_are_rotated_and_temporary_ones_end() {
    let world = World::start().await;
    let owner = world.token().await;
    let anna = world
        .user(&owner, "anna", Some("roma-read-only-access"))
        .await;
    let keys = "/v1/users/me/keys";
    let make = async || {
        world
            .own(&anna.token, "POST", keys, json!({ "description": "a" }))
            .await
    };
    let (old, new) = (make().await, make().await);
    let third = world.status(&anna.token, "POST", keys, json!({})).await;
    assert_eq!(third, 400, "two are all there are");
    let tasks = world.fdi("/tasks");
    let pair = |key: &Value| {
        (
            key["ak"].as_str().unwrap().to_owned(),
            key["sk"].as_str().unwrap().to_owned(),
        )
    };
    let call = async |key: &Value, token: Option<&str>| {
        let (ak, sk) = pair(key);
        let answer = world
            .signed(("GET", &tasks), (&ak, &sk), &now(), token)
            .await;
        answer.status.as_u16()
    };
    assert_eq!((call(&old, None).await, call(&new, None).await), (200, 200));
    assert_eq!(
        call(&old, Some("a token")).await,
        401,
        "it has no security token"
    );
    let at = |key: &Value| format!("{keys}/{}", key["ak"].as_str().unwrap());
    let token = world.sign_in("anna", PASSWORD).await.unwrap();
    world
        .own(&token, "PATCH", &at(&old), json!({ "enabled": false }))
        .await;
    assert_eq!((call(&old, None).await, call(&new, None).await), (401, 200));
    let token = world.sign_in("anna", PASSWORD).await.unwrap();
    world.own(&token, "DELETE", &at(&old), Value::Null).await;
    let listed = world
        .own(
            &world.sign_in("anna", PASSWORD).await.unwrap(),
            "GET",
            keys,
            Value::Null,
        )
        .await;
    assert_eq!(listed["keys"].as_array().unwrap().len(), 1);
    assert!(
        listed["keys"][0].get("sk").is_none(),
        "a secret is shown once"
    );
    // Temporary ones, of the same rights.
    let token = world.sign_in("anna", PASSWORD).await.unwrap();
    let place = "/v3.0/OS-CREDENTIAL/securitytokens";
    let body = |seconds: Value| json!({ "auth": { "identity": { "methods": ["token"], "token": { "duration_seconds": seconds } } } });
    for wrong in [json!(899), json!("86401"), json!("x")] {
        assert_eq!(world.status(&token, "POST", place, body(wrong)).await, 400);
    }
    let given = world.own(&token, "POST", place, body(json!("900"))).await["credential"].take();
    let temporary = json!({ "ak": given["access"], "sk": given["secret"] });
    let with = given["securitytoken"].as_str().unwrap();
    assert_eq!(call(&temporary, Some(with)).await, 200);
    assert_eq!(call(&temporary, None).await, 401);
    assert_eq!(call(&temporary, Some("another")).await, 401);
    let (ak, sk) = pair(&temporary);
    let more = world
        .signed(("POST", keys), (&ak, &sk), &now(), Some(with))
        .await;
    assert_eq!(more.status, 403, "what it made would outlive it");
    let path = format!("/v1/users/{}/password", anna.id);
    world
        .own(
            &owner,
            "PUT",
            &path,
            json!({ "password": "another long password" }),
        )
        .await;
    assert_eq!(call(&temporary, Some(with)).await, 401);
}

#[tokio::test]
async fn the_owner_is_changed_by_itself_only() {
    let world = World::start().await;
    let owner = world.token().await;
    let me = world.own(&owner, "GET", "/v1/users/me", Value::Null).await;
    let of_owner = format!("/v1/users/{}", me["user_id"].as_str().unwrap());
    let all = json!([{ "Effect": "Allow", "Action": ["*"] }]);
    let all = world.policy(&owner, "all", all).await;
    let anna = world.user(&owner, "anna", None).await;
    let grants = format!("/v1/users/{}/grants", anna.id);
    world
        .own(&owner, "POST", &grants, json!({ "policy_id": all }))
        .await;
    let token = world.sign_in("anna", PASSWORD).await.unwrap();
    let status = async |token: &str, method: &str, end: &str, body: Value| {
        world
            .status(token, method, &format!("{of_owner}{end}"), body)
            .await
    };
    assert_eq!(status(&token, "GET", "", Value::Null).await, 200);
    let password = json!({ "password": "another long password" });
    assert_eq!(status(&token, "PUT", "/password", password).await, 403);
    assert_eq!(status(&token, "POST", "/keys", json!({})).await, 403);
    assert_eq!(
        status(&token, "PATCH", "", json!({ "name": "x" })).await,
        403
    );
    let key = format!("/keys/{}", world.first.ak);
    assert_eq!(status(&token, "DELETE", &key, Value::Null).await, 403);
    assert_eq!(status(&token, "DELETE", "", Value::Null).await, 400);
    assert_eq!(
        status(&owner, "PATCH", "", json!({ "enabled": false })).await,
        400
    );
    assert_eq!(status(&owner, "DELETE", "", Value::Null).await, 400);
}

#[tokio::test]
async fn an_application_is_seen_by_those_with_a_role() {
    let world = World::start().await;
    let owner = world.token().await;
    let anna = world.user(&owner, "anna", Some("roma-full-access")).await;
    let bert = world.user(&owner, "bert", Some("roma-full-access")).await;
    let apps = world.path("/v2/{project_id}/instances/{instance_id}/apps");
    let sources = world.fdi("/datasources");
    let app = world
        .own(&anna.token, "POST", &apps, json!({ "name": "hers" }))
        .await;
    let app = app["id"].as_str().unwrap();
    let source = |name: &str| {
        json!({ "datasource_name": name, "datasource_type": "MYSQL", "app_id": app, "content": {
            "host": "127.0.0.1", "port": "1", "database_name": "shop", "user_name": "user",
            "password": "password", "mode": "default",
        }})
    };
    let made = world
        .own(&anna.token, "POST", &sources, source("one"))
        .await;
    let made = format!("{sources}/{}", made["datasource_id"].as_str().unwrap());
    let one = format!("{apps}/{app}");
    let total = async |token: &str, path: &str| {
        world.own(token, "GET", path, Value::Null).await["total"]
            .as_u64()
            .unwrap()
    };
    let roles = world.path("/v1/projects/{project_id}/instances/{instance_id}");
    let roles = format!("{roles}/apps/{app}/roles");
    let give = async |token: &str, roles_given: Value| {
        let path = format!("{roles}/{}", bert.id);
        world
            .status(token, "PUT", &path, json!({ "roles": roles_given }))
            .await
    };
    let bert_may = async |method: &str, path: &str, body: Value| {
        world.status(&bert.token, method, path, body).await
    };
    // Nothing: it does not exist for him.
    assert_eq!(
        (
            total(&bert.token, &apps).await,
            total(&bert.token, &sources).await
        ),
        (0, 0)
    );
    assert_eq!(bert_may("GET", &one, Value::Null).await, 404);
    assert_eq!(bert_may("GET", &made, Value::Null).await, 404);
    assert_eq!(bert_may("POST", &sources, source("two")).await, 400);
    assert_eq!(give(&bert.token, json!(["admin"])).await, 404);
    let init = json!({ "source_datasource_id": made.rsplit('/').next().unwrap() });
    assert_eq!(
        bert_may("POST", &world.fdi("/multi-tasks/init"), init.clone()).await,
        400
    );
    // Everything, for her and for the owner of the account.
    let hers = world.own(&anna.token, "GET", &one, Value::Null).await;
    assert_eq!(
        hers["roles"],
        json!(["read", "access", "delete", "modify", "admin"])
    );
    assert_eq!(hers["owner"], true);
    let seen = world.own(&owner, "GET", &one, Value::Null).await;
    assert_eq!(
        (&seen["roles"], &seen["owner"]),
        (&hers["roles"], &json!(false))
    );
    // To read.
    assert_eq!(give(&anna.token, json!(["read"])).await, 200);
    assert_eq!(
        (
            total(&bert.token, &apps).await,
            total(&bert.token, &sources).await
        ),
        (1, 1)
    );
    let his = world.own(&bert.token, "GET", &made, Value::Null).await;
    assert_eq!(his["app_permission"], json!(["read"]));
    assert_eq!(
        bert_may("POST", &world.fdi("/multi-tasks/init"), init).await,
        200
    );
    assert_eq!(bert_may("PUT", &made, source("one")).await, 403);
    assert_eq!(bert_may("POST", &sources, source("two")).await, 403);
    assert_eq!(bert_may("PUT", &one, json!({ "remark": "x" })).await, 403);
    assert_eq!(
        bert_may("POST", &format!("{made}/test-connect"), source("one")).await,
        403
    );
    assert_eq!(give(&bert.token, json!(["admin"])).await, 403);
    // A task that uses it is seen by those who see its data sources.
    let task = json!({ "source_datasource_id": made.rsplit('/').next().unwrap() });
    let task = world
        .own(&anna.token, "POST", &world.fdi("/multi-tasks/init"), task)
        .await;
    let task = world.fdi(&format!("/tasks/{}", task[0]["task_id"].as_str().unwrap()));
    let options = task.replace("/v2/", "/v1/projects/").replace("/fdi", "") + "/options";
    assert_eq!(bert_may("GET", &options, Value::Null).await, 200);
    assert_eq!(give(&anna.token, json!([])).await, 200);
    assert_eq!(bert_may("GET", &options, Value::Null).await, 404);
    assert_eq!(bert_may("DELETE", &task, Value::Null).await, 404);
    assert_eq!(
        world
            .status(&anna.token, "DELETE", &task, Value::Null)
            .await,
        204
    );
    // To change, and to delete.
    assert_eq!(give(&anna.token, json!(["modify"])).await, 200);
    assert_eq!(bert_may("PUT", &made, source("one")).await, 200);
    // What is stored goes to no other place, and the data source into no other hands.
    let mut elsewhere = source("one");
    elsewhere["content"]["host"] = json!("127.0.0.2");
    elsewhere["content"]
        .as_object_mut()
        .unwrap()
        .remove("password");
    assert_eq!(bert_may("PUT", &made, elsewhere.clone()).await, 400);
    assert_eq!(
        bert_may("POST", &format!("{made}/test-connect"), elsewhere).await,
        400
    );
    let his = world
        .own(&bert.token, "POST", &apps, json!({ "name": "his" }))
        .await;
    let mut taken = source("one");
    taken["app_id"] = his["id"].clone();
    assert_eq!(bert_may("PUT", &made, taken).await, 403);
    let his = format!("{apps}/{}", his["id"].as_str().unwrap());
    assert_eq!(bert_may("DELETE", &his, Value::Null).await, 204);
    assert_eq!(bert_may("DELETE", &one, Value::Null).await, 403);
    assert_eq!(give(&anna.token, json!(["delete"])).await, 200);
    let filtered = format!("{apps}?auth_role=delete");
    assert_eq!(total(&bert.token, &filtered).await, 1);
    assert_eq!(
        total(&bert.token, &format!("{apps}?auth_role=modify")).await,
        0
    );
    assert_eq!(total(&bert.token, &format!("{apps}?owner=true")).await, 0);
    assert_eq!(give(&anna.token, json!(["every"])).await, 400);
    let listed = world.own(&anna.token, "GET", &roles, Value::Null).await;
    assert_eq!(
        listed["users"],
        json!([{ "user_id": bert.id, "user_name": "bert", "roles": ["delete"] }])
    );
    assert_eq!(give(&anna.token, json!([])).await, 200);
    assert_eq!(total(&bert.token, &apps).await, 0);
}

#[tokio::test]
async fn projects_do_not_see_each_other() {
    let world = World::start().await;
    let owner = world.token().await;
    let second = world
        .own(&owner, "POST", "/v1/projects", json!({ "name": "second" }))
        .await;
    let second = second["project_id"].as_str().unwrap().to_owned();
    assert_eq!(
        world
            .status(&owner, "POST", "/v1/projects", json!({ "name": "second" }))
            .await,
        400
    );
    let instances = format!("/v1/projects/{second}/instances");
    // A token is good for one project; that of the owner too.
    assert_eq!(
        world.status(&owner, "GET", &instances, Value::Null).await,
        403
    );
    let there = world
        .sign_in_at("admin", world.first.password.expose(), Some(&second))
        .await;
    assert_eq!(there.body["token"]["project"]["id"], second);
    let there = there.headers["x-subject-token"]
        .to_str()
        .unwrap()
        .to_owned();
    let made = world
        .own(&there, "POST", &instances, json!({ "name": "here" }))
        .await;
    let instance = made["instance_id"].as_str().unwrap().to_owned();
    let tasks = format!("/v2/{second}/fdi/instances/{instance}/tasks");
    assert_eq!(world.status(&there, "GET", &tasks, Value::Null).await, 200);
    assert_eq!(
        world
            .status(&there, "GET", &world.fdi("/tasks"), Value::Null)
            .await,
        403
    );
    let crossed = world
        .fdi("/tasks")
        .replace(&world.first.instance, &instance);
    assert_eq!(
        world.status(&owner, "GET", &crossed, Value::Null).await,
        404
    );
    // Somebody of the first project knows nothing of the second, and the other way round.
    let anna = world.user(&owner, "anna", Some("roma-full-access")).await;
    assert_eq!(
        world.status(&anna.token, "GET", &tasks, Value::Null).await,
        403
    );
    let listed = world
        .own(&anna.token, "GET", "/v1/projects", Value::Null)
        .await;
    assert_eq!(listed["projects"].as_array().unwrap().len(), 1);
    assert_eq!(
        world
            .sign_in_at("anna", PASSWORD, Some(&second))
            .await
            .status,
        401
    );
    // It goes when nothing is left.
    let project = format!("/v1/projects/{second}");
    assert_eq!(
        world.status(&owner, "DELETE", &project, Value::Null).await,
        400
    );
    let apps = format!("/v2/{second}/instances/{instance}/apps");
    let app = world
        .own(&there, "POST", &apps, json!({ "name": "app" }))
        .await;
    let of_instance = format!("/v1/projects/{second}/instances/{instance}");
    assert_eq!(
        world
            .status(&there, "DELETE", &of_instance, Value::Null)
            .await,
        400
    );
    let app = format!("{apps}/{}", app["id"].as_str().unwrap());
    world.own(&there, "DELETE", &app, Value::Null).await;
    world.own(&there, "DELETE", &of_instance, Value::Null).await;
    assert_eq!(world.status(&there, "GET", &tasks, Value::Null).await, 404);
    world.own(&owner, "DELETE", &project, Value::Null).await;
    assert_eq!(
        world.status(&there, "GET", &tasks, Value::Null).await,
        401,
        "its tokens are gone"
    );
}

#[tokio::test]
async fn wrong_passwords_lock_nobody_else_out() {
    let world = World::start().await;
    let owner = world.token().await;
    world.user(&owner, "anna", None).await;
    let mut seen = Vec::new();
    for _ in 0..11 {
        seen.push(world.sign_in("anna", "wrong").await.unwrap_err());
    }
    assert_eq!((&seen[..10], seen[10]), (&[401; 10][..], 429));
    let answer = world.sign_in_at("anna", PASSWORD, None).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body["error_code"]),
        (429, &json!("APIG.0308"))
    );
    let wait: u64 = answer.headers[header::RETRY_AFTER]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=900).contains(&wait), "{wait}");
    // Another user of the same address, and keys, do not notice.
    world.token().await;
    let (ak, sk) = (&world.first.ak, world.first.sk.expose());
    let answer = world
        .signed(("GET", &world.fdi("/tasks")), (ak, sk), &now(), None)
        .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn the_audit_log_has_who_did_what_and_no_secret() {
    let world = World::start().await;
    let owner = world.token().await;
    let anna = world
        .user(&owner, "anna", Some("roma-read-only-access"))
        .await;
    let apps = world.path("/v2/{project_id}/instances/{instance_id}/apps");
    let app = world
        .own(
            &owner,
            "POST",
            &apps,
            json!({ "name": "one", "secret": "a secret of an app" }),
        )
        .await;
    let app = format!("{apps}/{}", app["id"].as_str().unwrap());
    world
        .own(&owner, "PUT", &app, json!({ "remark": "new" }))
        .await;
    assert_eq!(
        world.status(&anna.token, "DELETE", &app, Value::Null).await,
        403
    );
    let key = world
        .own(&anna.token, "POST", "/v1/users/me/keys", Value::Null)
        .await;
    assert_eq!(world.sign_in("anna", "wrong password").await, Err(401));
    assert_eq!(
        world
            .sign_in("a password in the wrong place", "wrong password")
            .await,
        Err(401)
    );
    world.own(&owner, "DELETE", &app, Value::Null).await;
    let list = async |query: &str| {
        let path = format!("/v1/audit?limit=100{query}");
        world.own(&owner, "GET", &path, Value::Null).await
    };
    let all = list("").await;
    let records = all["records"].as_array().unwrap();
    let brief = |record: &Value| {
        let operation = record["operation"].as_str().unwrap();
        let end = operation.rsplit('/').next().unwrap();
        let verb = operation.split(' ').next().unwrap();
        format!(
            "{} {verb} {end} {}",
            record["user_name"].as_str().unwrap(),
            record["status"]
        )
    };
    let mut seen: Vec<String> = records.iter().map(brief).collect();
    seen.reverse();
    let expected = [
        "admin POST tokens 201",
        "admin POST users 201",
        "admin POST grants 201",
        "anna POST tokens 201",
        "admin POST apps 201",
        "admin PUT {app_id} 200",
        "anna DELETE {app_id} 403",
        "anna POST keys 201",
        "anna POST tokens 401",
        " POST tokens 401",
        "admin DELETE {app_id} 204",
    ];
    assert_eq!(seen, expected);
    let put = records
        .iter()
        .find(|one| one["operation"].as_str().unwrap().starts_with("PUT"));
    let put = put.unwrap();
    assert_eq!(put["before"]["remark"], Value::Null);
    assert_eq!(put["after"]["remark"], "new");
    assert_eq!(
        (&put["credential"], &put["address"]),
        (&json!("token"), &json!("0.0.0.0"))
    );
    let denied = records.iter().find(|one| one["status"] == 403).unwrap();
    assert_eq!(
        (&denied["before"], &denied["error"]),
        (&Value::Null, &json!("APIG.1005"))
    );
    let text = all.to_string();
    for secret in [
        "a secret of an app",
        PASSWORD,
        "wrong password",
        "wrong place",
        key["sk"].as_str().unwrap(),
        world.first.password.expose(),
        &owner,
        &anna.token,
    ] {
        assert!(!text.contains(secret), "{secret} is in the log");
    }
    let of_anna = list("&user_name=anna&operation=tokens").await;
    assert_eq!(of_anna["total"], 2);
    assert_eq!(list("&end_time=1").await["total"], 0);
    let check = world
        .own(&owner, "GET", "/v1/audit/check", Value::Null)
        .await;
    assert_eq!(check["intact"], true);
    // One that was refused has one row, every other two.
    assert_eq!(
        (&check["rows"], &check["last_id"]),
        (&json!(21), &json!(21))
    );
}
