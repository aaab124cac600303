//! Data sources, as far as no database is needed.

use serde_json::{Value, json};

use super::api::{Api, Want, bad, datasource, keys, text, with};

/// The types there are in the contract but not here.
const OTHER_TYPES: &str = "DWS KAFKA API OBS SAP MRSHBASE MRSHDFS MRSHIVE WEBSOCKET SQLSERVER ORACLE \
    REDIS MONGODB DIS HL7 RABBITMQ SNMP IBMMQ CUSTOMIZED ACTIVEMQ ARTEMISMQ FTP HIVE HANA FIKAFKA \
    MRSKAFKA FIHDFS FIHIVE GAUSS200 GAUSS100 LDAP DB2 TAURUS";

const FIELDS: [&str; 13] = [
    "app_id",
    "app_name",
    "app_permission",
    "content",
    "create_time",
    "custom_plugin_id",
    "datasource_id",
    "datasource_name",
    "datasource_type",
    "description",
    "instance_id",
    "update_time",
    "vpc_id",
];

#[test]
fn data_sources() {
    let mut api = Api::start();
    let app = api.app("owner");
    wrong_values_are_named(&mut api, &app);
    right_values_are_taken(&mut api, &app);
    names_are_unique(&mut api, &app);
    lists_are_filtered(&mut api, &app);
    looks_need_a_side(&mut api, &app);
    deleted_means_gone(&mut api, &app);
    api.finish();
}

/// What an operator sets; the defaults are in the other tests.
#[test]
fn networks_and_quotas() {
    let mut api = Api::start_with(
        &["--max-applications", "1", "--max-data-sources", "2"],
        &[
            ("THALWEG_ALLOW_NETWORKS", "127.0.0.0/8,::1,169.254.0.0/16"),
            ("THALWEG_MAX_TASKS", "1"),
            ("THALWEG_MAX_BATCH", "2"),
        ],
    );
    let app = api.app("owner");
    let (apps, create) = (api.apps(""), api.fdi("/datasources"));
    let more = json!({"name": "one too many"});
    api.ask(
        "applications",
        ("POST", &apps),
        &more,
        Want::Roma(400, "ROMA.00013000", "name"),
    );
    let at = |host: &str| {
        let body = datasource("somewhere", "POSTGRESQL", &app);
        with(&body, "content.host", Some(json!(host)))
    };
    let elsewhere = Want::Fdi(400, "FDI.3043", "allow_networks");
    // The second is allowed, and denied by default.
    let wrong = [
        "10.1.2.3",
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "fd00:ec2::254",
    ];
    for host in wrong {
        api.ask(host, ("POST", &create), &at(host), elsewhere);
    }
    let made = api.ask("here", ("POST", &create), &at("127.0.0.1"), Want::Ok(201));
    let one = api.fdi(&format!("/datasources/{}", text(&made["datasource_id"])));
    let test = format!("{one}/test-connect");
    for host in wrong {
        api.ask(host, ("PUT", &one), &at(host), elsewhere);
        api.ask(host, ("POST", &test), &at(host), elsewhere);
    }
    // Nobody is there, but may be.
    let unreachable = Want::Fdi(400, "FDI.3016", "");
    api.ask("by name", ("POST", &test), &at("localhost"), unreachable);
    let other = with(&at("::1"), "datasource_name", Some(json!("other")));
    let made = api.ask("of IPv6", ("POST", &create), &other, Want::Ok(201));
    let third = with(&at("127.0.0.1"), "datasource_name", Some(json!("third")));
    api.ask(
        "data sources",
        ("POST", &create),
        &third,
        bad("datasource_name"),
    );
    api.bare(
        "DELETE",
        &api.fdi(&format!("/datasources/{}", text(&made["datasource_id"]))),
        Want::Ok(204),
    );
    api.ask(
        "as many as before",
        ("POST", &create),
        &third,
        Want::Ok(201),
    );
    let tasks = api.fdi("/multi-tasks");
    let task = |name: &str| json!({"task_name": name, "operation_types": ["INSERT"]});
    api.ask("one task", ("POST", &tasks), &task("first"), Want::Ok(200));
    api.ask("tasks", ("POST", &tasks), &task("second"), bad("task_name"));
    let batch = api.fdi("/batch-operation/tasks");
    let list = |many: usize| {
        let one = json!({"task_id": "0123456789abcdef0123456789abcdef"});
        json!({"action_id": "stop", "list": vec![one; many]})
    };
    api.ask("two in a batch", ("POST", &batch), &list(2), Want::Ok(200));
    api.ask(
        "three",
        ("POST", &batch),
        &list(3),
        Want::Fdi(400, "FDI.3002", "at most 2"),
    );
    api.finish();
}

fn wrong_values_are_named(api: &mut Api, app: &str) {
    let mut table: Vec<(&str, Option<Value>)> = vec![
        ("datasource_name", None),
        ("datasource_name", Some(json!(null))),
        ("datasource_name", Some(json!(""))),
        ("datasource_name", Some(json!("d".repeat(256)))),
        ("datasource_name", Some(json!(1))),
        ("datasource_type", None),
        ("datasource_type", Some(json!(""))),
        ("datasource_type", Some(json!("mariadb"))),
        ("datasource_type", Some(json!(5))),
        ("app_id", None),
        ("app_id", Some(json!(""))),
        ("app_id", Some(json!("abc"))),
        ("app_id", Some(json!("a".repeat(256)))),
        (
            "app_id",
            Some(json!("01234567-89ab-cdef-0123-456789abcdef")),
        ),
        ("app_id", Some(json!(1))),
        ("content", None),
        ("content", Some(json!(null))),
        ("content", Some(json!("{}"))),
        ("content", Some(json!([]))),
        ("content.host", None),
        ("content.host", Some(json!(""))),
        ("content.host", Some(json!("h".repeat(256)))),
        ("content.host", Some(json!(1))),
        ("content.port", None),
        ("content.port", Some(json!(""))),
        ("content.port", Some(json!("0"))),
        ("content.port", Some(json!(3306))),
        ("content.port", Some(json!("65536"))),
        ("content.port", Some(json!("-1"))),
        ("content.port", Some(json!("33 06"))),
        ("content.port", Some(json!("mysql"))),
        ("content.port", Some(json!("99999999999999999999"))),
        ("content.database_name", None),
        ("content.database_name", Some(json!(""))),
        ("content.database_name", Some(json!(1))),
        ("content.user_name", None),
        ("content.user_name", Some(json!(""))),
        ("content.password", None),
        ("content.password", Some(json!(1))),
        ("content.mode", Some(json!("multiAddress"))),
        ("content.mode", Some(json!("multiAddress"))),
        ("content.mode", Some(json!("Default"))),
        ("content.mode", Some(json!(1))),
        ("content.encoding", Some(json!("klingon"))),
        ("content.encoding", Some(json!(8))),
        ("content.mysql_timeout", Some(json!(0))),
        ("content.mysql_timeout", Some(json!(20001))),
        ("content.mysql_timeout", Some(json!(-1))),
        ("content.mysql_timeout", Some(json!(1.5))),
        ("content.mysql_timeout", Some(json!("ten"))),
        ("content.nonsense", Some(json!("x"))),
        ("content.Host", Some(json!("x"))),
        ("description", Some(json!("abc"))),
        ("description", Some(json!("d".repeat(1025)))),
        ("description", Some(json!(1))),
        ("datasource_id", Some(json!("x"))),
        ("nonsense", Some(json!(null))),
    ];
    let odd = ["a&b", "a<b", "a>b", "a\"b", "a'b", "a(b", "a)b", "a\u{0}b"];
    table.extend(odd.map(|name| ("datasource_name", Some(json!(name)))));
    let base = datasource("a name", "MYSQL", app);
    let create = api.fdi("/datasources");
    api.wrong_fields(("POST", &create), &base, &table, bad);
    let list = api.bare("GET", &create, Want::Ok(200));
    api.same("none of them was made", list["total"].as_u64(), Some(0));
    let id = api.datasource("to be changed", "MYSQL", app);
    let one = api.fdi(&format!("/datasources/{id}"));
    // An update may leave the password out: it is never shown, so a client cannot give it back.
    table.retain(|(field, value)| *field != "content.password" || value.is_some());
    api.wrong_fields(("PUT", &one), &base, &table, bad);
    let test = api.fdi(&format!("/datasources/{id}/test-connect"));
    // Nothing is stored there, so any application will do.
    table.retain(|(field, value)| {
        *field != "app_id" || !value.as_ref().is_some_and(|v| v.is_string())
    });
    api.wrong_fields(("POST", &test), &base, &table, bad);
    let shown = api.bare("GET", &one, Want::Ok(200));
    api.same(
        "unchanged",
        text(&shown["datasource_name"]),
        "to be changed".into(),
    );
    api.bare("DELETE", &one, Want::Ok(204));
    connection_strings(api, app);
    other_types(api, app);
}

/// In the mode `professional` a connection string stands for host, port and database.
fn connection_strings(api: &mut Api, app: &str) {
    let create = api.fdi("/datasources");
    let with_url = |kind: &str, url: &str| {
        json!({
            "datasource_name": "by url", "datasource_type": kind, "app_id": app, "content": {
                "mode": "professional", "url": url, "user_name": "user", "password": "password",
            },
        })
    };
    for (kind, url) in [
        ("MYSQL", "jdbc:mysql://db/shop?allowLoadLocalInfile=true"),
        ("MYSQL", "jdbc:postgresql://db/shop"),
        ("POSTGRESQL", "jdbc:postgresql://user:geheim@db/shop"),
        ("POSTGRESQL", "nonsense"),
    ] {
        let body = with_url(kind, url);
        api.ask("url", ("POST", &create), &body, bad("url"));
    }
    let denied = with_url("MYSQL", "jdbc:mysql://169.254.169.254:3306/shop");
    let address = Want::Fdi(400, "FDI.3043", "169.254.169.254");
    api.ask("url", ("POST", &create), &denied, address);
    let body = with_url("MYSQL", "jdbc:mysql://127.0.0.1:1/shop?useUnicode=true");
    let made = api.ask("url", ("POST", &create), &body, Want::Ok(201));
    let one = format!("{create}/{}", text(&made["datasource_id"]));
    let refused = Want::Fdi(400, "FDI.3016", "refused");
    api.bare("POST", &format!("{one}/test-connect"), refused);
    api.bare("DELETE", &one, Want::Ok(204));
}

/// What is not connected to is stored with its own fields, and says what it is wherever it would be used.
fn other_types(api: &mut Api, app: &str) {
    let create = api.fdi("/datasources");
    let mysql = api.datasource("beside others", "MYSQL", app);
    for kind in OTHER_TYPES.split_whitespace() {
        let body = json!({
            "datasource_name": format!("a {kind}"), "datasource_type": kind, "app_id": app, "content": {
                "broker": "10.0.0.1:9092", "ssl_enable": true, "ssl_password": "geheim-1",
                "api_auth_detail": { "client_secret": "geheim-2" },
                "multi_oracle_address": [{ "oracle_address": "10.0.0.2", "oracle_port": "1521" }],
            },
        });
        let made = api.ask(kind, ("POST", &create), &body, Want::Ok(201));
        let id = text(&made["datasource_id"]);
        let one = format!("{create}/{id}");
        let shown = api.bare("GET", &one, Want::Ok(200));
        api.same(kind, &shown, &made);
        api.same(
            kind,
            shown["content"]["broker"].as_str(),
            Some("10.0.0.1:9092"),
        );
        api.same("no secret", shown.to_string().contains("geheim"), false);
        let refused = Want::Fdi(400, "FDI.3016", "not supported");
        api.bare("POST", &format!("{one}/test-connect"), refused);
        let listed = api.bare(
            "GET",
            &format!("{create}?datasource_type={kind}"),
            Want::Ok(200),
        );
        api.same(kind, listed["total"].as_u64(), Some(1));
        for (source, target, field) in [
            (id.as_str(), mysql.as_str(), "source_datasource_id"),
            (mysql.as_str(), id.as_str(), "target_datasource_id"),
        ] {
            let init = json!({ "source_datasource_id": source, "target_datasource_id": target });
            let path = api.fdi("/multi-tasks/init");
            api.ask(kind, ("POST", &path), &init, bad(field));
        }
        api.bare("DELETE", &one, Want::Ok(204));
    }
    api.bare("DELETE", &format!("{create}/{mysql}"), Want::Ok(204));
}

fn right_values_are_taken(api: &mut Api, app: &str) {
    let create = api.fdi("/datasources");
    let base = datasource("d", "MYSQL", app);
    let table: &[(&str, Value)] = &[
        ("datasource_name", json!("d")),
        ("datasource_name", json!("字".repeat(255))),
        (
            "datasource_name",
            json!("with space, comma; / and 'nothing else'".replace('\'', "")),
        ),
        ("datasource_type", json!("POSTGRESQL")),
        ("description", json!("d".repeat(1024))),
        ("description", json!("desc")),
        ("content.host", json!("h".repeat(255))),
        ("content.host", json!("db.example.org")),
        ("content.host", json!("::1")),
        ("content.port", json!("1")),
        ("content.port", json!("65535")),
        ("content.database_name", json!("d")),
        ("content.user_name", json!("u")),
        ("content.password", json!("p")),
        ("content.password", json!("p\"'\\ \u{1F600}")),
        ("content.mysql_timeout", json!(1)),
        ("content.mysql_timeout", json!(20000)),
        ("content.encoding", json!("utf8mb4")),
        // A field of another type of data source belongs to the operation.
        ("content.broker", json!("10.0.0.1:9092")),
    ];
    for (field, value) in table {
        let body = super::api::with(&base, field, Some(value.clone()));
        let made = api.ask(field, ("POST", &create), &body, Want::Ok(201));
        let leaf = field.strip_prefix("content.");
        if leaf != Some("password") {
            let found = leaf.map_or(&made[*field], |leaf| &made["content"][leaf]);
            api.same(field, found, value);
        }
        api.same("no password", made["content"]["password"].is_null(), true);
        let extra: Vec<String> = keys(&made)
            .into_iter()
            .filter(|key| !FIELDS.contains(&key.as_str()))
            .collect();
        api.same("fields the contract lacks", extra, vec![]);
        let path = api.fdi(&format!("/datasources/{}", text(&made["datasource_id"])));
        let shown = api.bare("GET", &path, Want::Ok(200));
        api.same("shown", shown, made);
        let request = api.request("DELETE", &path);
        if let Some(answer) = api.answer("delete", &request, Want::Ok(204)) {
            api.same("no body", answer.body.len(), 0);
        }
    }
}

fn names_are_unique(api: &mut Api, app: &str) {
    let one = api.datasource("only", "MYSQL", app);
    let two = api.datasource("other", "POSTGRESQL", app);
    let create = api.fdi("/datasources");
    let body = datasource("only", "POSTGRESQL", app);
    api.ask(
        "same name",
        ("POST", &create),
        &body,
        bad("datasource_name"),
    );
    let path = api.fdi(&format!("/datasources/{two}"));
    api.ask(
        "renamed to it",
        ("PUT", &path),
        &body,
        bad("datasource_name"),
    );
    let path = api.fdi(&format!("/datasources/{one}"));
    let body = datasource("only", "MYSQL", app);
    api.ask("its own name", ("PUT", &path), &body, Want::Ok(200));
    for id in [one, two] {
        api.bare(
            "DELETE",
            &api.fdi(&format!("/datasources/{id}")),
            Want::Ok(204),
        );
    }
}

fn lists_are_filtered(api: &mut Api, app: &str) {
    let other = api.app("other owner");
    let ids = [
        api.datasource("alpha", "MYSQL", app),
        api.datasource("beta", "POSTGRESQL", app),
        api.datasource("gamma_1", "MYSQL", &other),
    ];
    let path = api.fdi("/datasources");
    let mut wanted = Vec::new();
    for (query, count) in [
        ("", 3),
        ("datasource_type=MYSQL", 2),
        ("datasource_type=POSTGRESQL&name=e", 1),
        ("datasource_type=KAFKA", 0),
        ("name=a", 3),
        ("name=lph", 1),
        ("name=%25", 0),
        ("name=a_a", 0),
        ("name=_", 1),
        (&format!("app_id={other}"), 1),
        ("app_id=unknown", 0),
        ("custom_plugin_id=x", 0),
        ("sort_field=CREATED_DATE&sort_type=ASC", 3),
        ("sort_field=CREATED_DATE&sort_type=DESC", 3),
        ("unknown=parameter", 3),
    ] {
        let list = api.bare("GET", &format!("{path}?{query}"), Want::Ok(200));
        wanted.push(count);
        let fields = ["entities", "size", "total"].map(String::from).to_vec();
        api.same("fields", keys(&list), fields);
        let found = (list["total"].as_u64(), list["size"].as_u64());
        api.same(query, found, (Some(count), Some(count)));
    }
    for (query, count) in [
        ("limit=2", 2),
        ("limit=999", 3),
        ("limit=1000", 3),
        ("limit=2000000", 3),
        ("limit=", 3),
        ("offset=2", 1),
        ("offset=-5", 3),
        ("offset=-5&limit=1", 1),
        ("offset=100", 0),
    ] {
        let list = api.bare("GET", &format!("{path}?{query}"), Want::Ok(200));
        api.same(query, list["total"].as_u64(), Some(3));
        api.same(
            query,
            list["entities"].as_array().map(Vec::len),
            Some(count),
        );
        api.same(query, list["size"].as_u64(), Some(count as u64));
    }
    let wrong = [
        ("limit=x", bad("limit")),
        ("limit=1.0", bad("limit")),
        ("limit=99999999999999999999", bad("limit")),
        ("offset=1e3", bad("offset")),
        ("datasource_type=mariadb", bad("datasource_type")),
        ("sort_type=UP", bad("sort_type")),
        ("sort_field=PASSWORD", bad("sort_field")),
    ];
    api.queries(&path, &wrong);
    for id in ids {
        api.bare(
            "DELETE",
            &api.fdi(&format!("/datasources/{id}")),
            Want::Ok(204),
        );
    }
}

fn looks_need_a_side(api: &mut Api, app: &str) {
    let id = api.datasource("nobody there", "MYSQL", app);
    let long = "x".repeat(65);
    let tables = api.fdi(&format!("/datasources/{id}/tables"));
    let columns = api.fdi(&format!("/datasources/{id}/columns"));
    for path in [&tables, &columns] {
        let wrong = [
            ("", bad("position")),
            ("position=", bad("position")),
            ("position=LEFT", bad("position")),
            ("position=TARGETS", bad("position")),
            ("direction_type=UP", bad("direction_type")),
            ("table_name=shop.t", bad("position")),
        ];
        api.queries(path, &wrong);
    }
    for field in ["filter", "db_name", "db_schema"] {
        let query = format!("position=SOURCE&{field}={long}");
        api.queries(&tables, &[(&query, bad(field))]);
    }
    // Nothing listens there.
    let unreachable = Want::Fdi(400, "FDI.3016", "");
    for query in [
        "position=SOURCE",
        "direction_type=SOURCE",
        "position=SOURCE&filter=a",
    ] {
        api.queries(&tables, &[(query, unreachable)]);
    }
    api.queries(
        &columns,
        &[("position=SOURCE&table_name=shop.t", unreachable)],
    );
    let test = api.fdi(&format!("/datasources/{id}/test-connect"));
    api.bare("POST", &test, unreachable);
    let body = datasource("nobody there", "MYSQL", app);
    api.ask("the given one", ("POST", &test), &body, unreachable);
    api.bare(
        "DELETE",
        &api.fdi(&format!("/datasources/{id}")),
        Want::Ok(204),
    );
}

fn deleted_means_gone(api: &mut Api, app: &str) {
    let id = api.datasource("short-lived", "MYSQL", app);
    let path = api.fdi(&format!("/datasources/{id}"));
    api.bare("DELETE", &path, Want::Ok(204));
    let gone = Want::Fdi(404, "FDI.3002", "");
    let body = datasource("short-lived", "MYSQL", app);
    for (method, rest) in [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/tables?position=SOURCE"),
        ("GET", "/columns?position=SOURCE&table_name=a.b"),
        ("POST", "/test-connect"),
    ] {
        api.bare(method, &format!("{path}{rest}"), gone);
    }
    api.ask("change", ("PUT", &path), &body, gone);
    let test = format!("{path}/test-connect");
    api.ask("test", ("POST", &test), &body, gone);
    let sql = format!("{path}/test-sql");
    let body = json!({"sql": "SELECT 1"});
    api.ask("sql", ("POST", &sql), &body, gone);
}
