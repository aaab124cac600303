//! What is asked of real databases: tables, columns, connections; and hosts that never answer.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use thalweg_testkit::servers::{MariaDb, MariaDbOptions, Postgres, PostgresOptions};

use super::api::{Api, Want, bad, datasource, text, with};
use super::running::{Views, mapped, until};

const UNREACHABLE: Want<'_> = Want::Fdi(400, "FDI.3016", "");

const MARIADB: &str = "CREATE DATABASE shop; USE shop;
CREATE TABLE account (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40) NOT NULL UNIQUE,
  amount DECIMAL(12,2) NOT NULL, note TEXT, ratio DOUBLE, day DATE);
CREATE TABLE `odd name` (`sloupec č` INT PRIMARY KEY COMMENT 'it''s \\\\odd');
CREATE TABLE Upper (a INT, b INT, PRIMARY KEY (a, b));
CREATE VIEW looks AS SELECT 1; CREATE DATABASE elsewhere; CREATE TABLE elsewhere.hidden (id INT PRIMARY KEY);";

const POSTGRES: &str =
    "CREATE TABLE account (id BIGINT PRIMARY KEY, name VARCHAR(40) NOT NULL UNIQUE,
  amount NUMERIC(12,2) NOT NULL, note TEXT, ratio FLOAT8, day DATE);
CREATE SCHEMA other; CREATE TABLE other.entry (id INT PRIMARY KEY);";

struct Ends {
    mariadb: MariaDb,
    postgres: Postgres,
    /// Bodies of the two data sources, and their ids.
    bodies: [Value; 2],
    ids: [String; 2],
}

#[test]
fn databases() {
    let mut api = Api::start();
    let app = api.app("owner");
    let ends = start(&mut api, &app);
    tables(&mut api, &ends);
    columns(&mut api, &ends);
    queries(&mut api, &ends);
    connections(&mut api, &ends);
    automatic_mappings(&mut api, &ends);
    automatic_mappings_by_a_call(&mut api, &ends);
    plan_is_shown(&mut api, &ends);
    failures_show(&mut api, &ends, &app);
    silence_ends(&mut api, &app);
    drop(ends.mariadb);
    drop(ends.postgres);
    for id in &ends.ids {
        let path = format!("/datasources/{id}/test-connect");
        api.bare("POST", &api.fdi(&path), UNREACHABLE);
        let path = api.fdi(&format!("/datasources/{id}/test-sql"));
        let body = json!({"sql": "SELECT 1"});
        api.ask("unreachable", ("POST", &path), &body, UNREACHABLE);
    }
    api.finish();
}

fn start(api: &mut Api, app: &str) -> Ends {
    let mariadb = MariaDb::start(MariaDbOptions::default()).unwrap();
    let postgres = Postgres::start(PostgresOptions::default()).unwrap();
    mariadb.sql(MARIADB).unwrap();
    postgres.sql(POSTGRES).unwrap();
    let body = |kind: &str, port: u16, database: &str, user: &str, password: &str| {
        let content = json!({
            "host": "127.0.0.1", "port": port.to_string(), "database_name": database,
            "user_name": user, "password": password, "mode": "default",
        });
        with(&datasource(kind, kind, app), "content", Some(content))
    };
    let (m, p) = (&mariadb, &postgres);
    let bodies = [
        body("MYSQL", m.port(), "shop", m.user(), m.password()),
        body("POSTGRESQL", p.port(), "postgres", p.user(), p.password()),
    ];
    let create = api.fdi("/datasources");
    let ids = bodies.clone().map(|body| {
        let made = api.ask("data source", ("POST", &create), &body, Want::Ok(201));
        text(&made["datasource_id"])
    });
    Ends {
        mariadb,
        postgres,
        bodies,
        ids,
    }
}

fn tables(api: &mut Api, ends: &Ends) {
    // Every schema the account may see, because a task may map tables of several.
    let maria = [
        "elsewhere.hidden",
        "shop.Upper",
        "shop.account",
        "shop.odd name",
    ];
    let postgres = ["other.entry", "public.account"];
    let cases: &[(usize, &str, &[&str])] = &[
        (0, "position=SOURCE", &maria),
        (0, "direction_type=SOURCE", &maria),
        (0, "position=SOURCE&direction_type=SOURCE", &maria),
        (0, "position=SOURCE&db_schema=shop", &maria[1..]),
        (0, "position=SOURCE&db_schema=nothing", &[]),
        (0, "position=SOURCE&filter=acc", &["shop.account"]),
        (0, "position=SOURCE&filter=%25", &[]),
        (0, "position=SOURCE&filter=nothing", &[]),
        (0, "position=SOURCE&db_name=only-for-hive", &maria),
        (1, "position=TARGET", &postgres),
        (1, "position=TARGET&filter=account", &["public.account"]),
    ];
    for (end, query, wanted) in cases {
        let path = api.fdi(&format!("/datasources/{}/tables?{query}", ends.ids[*end]));
        let answer = api.bare("GET", &path, Want::Ok(200));
        let mut found: Vec<String> = answer["tables"]
            .as_array()
            .map(|list| list.iter().map(text).collect())
            .unwrap_or_default();
        found.sort();
        api.same(
            query,
            found,
            wanted.iter().map(ToString::to_string).collect(),
        );
    }
}

fn columns(api: &mut Api, ends: &Ends) {
    // name, primary, null_able, unique, decimal_digits
    let wanted = [
        ("id", "1", "0", None),
        ("name", "0", "0", None),
        ("amount", "0", "0", Some("2")),
        ("note", "0", "1", None),
        ("ratio", "0", "1", None),
        ("day", "0", "1", None),
    ];
    for (end, query) in [
        (0, "position=SOURCE&table_name=shop.account"),
        (0, "direction_type=SOURCE&table_name=shop.account"),
        (1, "position=TARGET&table_name=public.account"),
    ] {
        let path = api.fdi(&format!("/datasources/{}/columns?{query}", ends.ids[end]));
        let answer = api.bare("GET", &path, Want::Ok(200));
        let list = answer["columns"].as_array().cloned().unwrap_or_default();
        api.same("columns", list.len(), wanted.len());
        for (column, (name, primary, null_able, digits)) in list.iter().zip(wanted) {
            let found = ["field_name", "primary", "null_able"].map(|field| text(&column[field]));
            api.same(
                "column",
                found,
                [name, primary, null_able].map(String::from),
            );
            let unique = matches!(name, "id" | "name");
            api.same(name, text(&column["unique"]), u8::from(unique).to_string());
            api.same("is_partition", &column["is_partition"], &json!(false));
            api.same("field_type", text(&column["field_type"]).is_empty(), false);
            let length = &column["field_length"];
            api.same(
                "a length is a string",
                length.is_string() || length.is_null(),
                true,
            );
            // Of numbers without a scale, both "0" and null are right.
            if matches!(name, "amount" | "name" | "note" | "day") {
                let found = column["decimal_digits"].as_str().map(str::to_owned);
                api.same(name, found, digits.map(str::to_owned));
            }
        }
    }
    let path = api.fdi(&format!("/datasources/{}/columns", ends.ids[0]));
    let odd = format!("{path}?position=SOURCE&table_name=shop.odd%20name");
    let answer = api.bare("GET", &odd, Want::Ok(200));
    let name = text(&answer["columns"][0]["field_name"]);
    api.same("an odd name", name, "sloupec č".into());
    for table in [
        "shop.nothing",
        "nothing",
        "elsewhere.nothing",
        "%00",
        "'",
        "",
    ] {
        let query = format!("position=SOURCE&table_name={table}");
        api.queries(&path, &[(&query, bad("table_name"))]);
    }
    api.queries(&path, &[("position=SOURCE", bad("table_name"))]);
}

fn queries(api: &mut Api, ends: &Ends) {
    // Of every kind of type; names, then types at a MariaDB and at a PostgreSQL.
    let sql =
        "SELECT id, name, amount, note, ratio, day, amount + 1 AS more, 'a' AS letter FROM account";
    let wanted = [
        ("id", "int unsigned", "bigint"),
        ("name", "varchar(40)", "character varying(40)"),
        ("amount", "decimal(12,2)", "numeric(12,2)"),
        ("note", "text", "text"),
        ("ratio", "double", "double precision"),
        ("day", "date", "date"),
        ("more", "decimal(13,2)", "numeric"),
        ("letter", "varchar(1)", "text"),
    ];
    for (end, id) in ends.ids.iter().enumerate() {
        let path = api.fdi(&format!("/datasources/{id}/test-sql"));
        let mut ask = |sql: &str, want| {
            let body = json!({ "sql": sql });
            api.ask(sql, ("POST", &path), &body, want)
        };
        let answer = ask(sql, Want::Ok(200));
        for wrong in [
            "SELEC 1",
            "SELECT 1 FROM nothing",
            "SELECT 1; SELECT 2",
            "DELETE FROM account",
            "DROP TABLE account",
            if end == 0 {
                "SELECT ?"
            } else {
                "SELECT $1::int"
            },
        ] {
            ask(wrong, Want::Fdi(400, "FDI.3035", ""));
        }
        ask("", bad("sql"));
        ask(sql, Want::Ok(200));
        let list = answer["columns"].as_array().cloned().unwrap_or_default();
        api.same("columns", list.len(), wanted.len());
        for (column, (name, maria, postgres)) in list.iter().zip(wanted) {
            api.same("field_name", text(&column["field_name"]), name.to_owned());
            let native = text(&column["field_type"]);
            let native = native.split(" character set ").next().unwrap_or_default();
            api.same(name, native, [maria, postgres][end]);
            // PostgreSQL does not tell keys, nor what may be NULL.
            let key = name == "id" && end == 0;
            api.same(name, text(&column["primary"]), u8::from(key).to_string());
        }
        for body in [
            json!({}),
            json!({"sql": null}),
            json!({"sql": 1}),
            json!({"sql": "SELECT 1", "x": 1}),
        ] {
            let field = if body.get("x").is_some() { "x" } else { "sql" };
            api.ask("no text", ("POST", &path), &body, bad(field));
        }
    }
}

fn connections(api: &mut Api, ends: &Ends) {
    for (id, body) in ends.ids.iter().zip(&ends.bodies) {
        let path = api.fdi(&format!("/datasources/{id}/test-connect"));
        let good = json!({"result": true});
        let found = api.bare("POST", &path, Want::Ok(200));
        api.same("the stored one", found, good.clone());
        let found = api.ask("the given one", ("POST", &path), body, Want::Ok(200));
        api.same("the given one", found, good);
        for (field, value) in [
            ("content.password", "wrong"),
            ("content.user_name", "nobody_here"),
            ("content.database_name", "no_such_database"),
            ("content.port", "1"),
            ("content.host", "no-such-host.invalid"),
        ] {
            let wrong = with(body, field, Some(json!(value)));
            let answer = api.ask(field, ("POST", &path), &wrong, UNREACHABLE);
            let told = answer.to_string();
            let secret = text(&body["content"]["password"]);
            api.same("no password in the answer", told.contains(&secret), false);
        }
        let found = api.bare("POST", &path, Want::Ok(200));
        api.same(
            "the stored one is as before",
            &found["result"],
            &json!(true),
        );
    }
}

fn automatic_mappings(api: &mut Api, ends: &Ends) {
    let init = api.fdi("/multi-tasks/init");
    let body = json!({
        "source_datasource_id": ends.ids[0], "target_datasource_id": ends.ids[1], "auto_mapping": true,
    });
    let made = api.ask("init", ("POST", &init), &body, Want::Ok(200));
    let one = &made[0];
    let found: Vec<(String, String)> = one["mappings"]
        .as_array()
        .map(|list| {
            let tables = |m: &Value| (text(&m["source_table"]), text(&m["target_table"]));
            list.iter().map(tables).collect()
        })
        .unwrap_or_default();
    let account = ("shop.account".to_owned(), "public.account".to_owned());
    api.same("account is mapped", found.contains(&account), true);
    let total = one["mappings_total_count"].as_u64();
    api.same("all are in the answer", total, Some(found.len() as u64));
    let mapping = one["mappings"].as_array().and_then(|list| {
        let mut list = list.iter();
        list.find(|m| text(&m["source_table"]) == "shop.account")
            .cloned()
    });
    let mapping = mapping.unwrap_or_default();
    api.same("status", text(&mapping["status"]), "AUTO".into());
    api.same("percent", &mapping["mapping_percent"], &json!(100));
    let pairs = mapping["mapping"].as_array().map(Vec::len);
    api.same("pairs of columns", pairs, Some(6));
}

/// What stands in the mappings of an answer.
fn shown(answer: &Value) -> Vec<(String, String, String, Value)> {
    let list = answer[0]["mappings"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let one = |m: &Value| {
        let [from, to, status] = ["source_table", "target_table", "status"].map(|f| text(&m[f]));
        (from, to, status, m["mapping_percent"].clone())
    };
    let mut all: Vec<_> = list.iter().map(one).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn automatic_mappings_by_a_call(api: &mut Api, ends: &Ends) {
    let path = format!("/v2/{}/fdi/multi-tasks/mappings/auto", api.identity.project);
    let base = format!("source_ds_id={}&target_ds_id={}", ends.ids[0], ends.ids[1]);
    let form = |api: &mut Api, form: &str, want: Want<'_>| {
        let mut request = api.request("POST", &path);
        request = request.header("Content-Type", "application/x-www-form-urlencoded");
        request.body = format!("{base}{form}").into_bytes();
        api.check(form, &request, want)
    };
    let auto = |from: &str, to: &str, percent: i32| {
        (
            from.to_owned(),
            to.to_owned(),
            "AUTO".to_owned(),
            json!(percent),
        )
    };
    ends.postgres
        .sql("CREATE TABLE other.\"ACCOUNT\" (\"ID\" INT, name TEXT, note JSONB, day INET)")
        .unwrap();
    let cases = [
        (
            "",
            vec![
                auto("shop.Upper", "public.Upper", 0),
                auto("shop.account", "public.account", 100),
                auto("shop.odd name", "public.odd name", 0),
            ],
        ),
        (
            "&mapping_prefix=a_&mapping_suffix=%20z&source_select_mapping_tables=shop.account,elsewhere.*",
            vec![
                auto("elsewhere.hidden", "public.a_hidden z", 0),
                auto("shop.account", "public.a_account z", 0),
            ],
        ),
        // Of six columns id and name are carried over as they are, note is not, the others not at all.
        (
            "&source_select_mapping_tables=shop.account&target_select_mapping_tables=other.*",
            vec![auto("shop.account", "other.ACCOUNT", 33)],
        ),
        (
            "&target_select_mapping_tables=public.account,other.new&task_type=1&source_group=SOURCE_GROUP1",
            vec![auto("shop.account", "public.account", 100)],
        ),
    ];
    for (given, wanted) in cases {
        let made = form(api, given, Want::Ok(200));
        api.same(given, shown(&made), wanted);
    }
    let mut parts = api
        .request("POST", &path)
        .header("Content-Type", "multipart/form-data; boundary=x");
    for (name, value) in [
        ("source_ds_id", &ends.ids[0]),
        ("target_ds_id", &ends.ids[1]),
        ("mapping_suffix", &"_ž".to_owned()),
    ] {
        let part =
            format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        parts.body.extend(part.bytes());
    }
    let cut = parts.clone();
    parts.body.extend(b"--x--\r\n");
    let made = api.check("in parts", &parts, Want::Ok(200));
    let to: Vec<String> = shown(&made).into_iter().map(|one| one.1).collect();
    api.same(
        "in parts",
        to,
        ["Upper", "account", "odd name"]
            .map(|t| format!("public.{t}_ž"))
            .to_vec(),
    );

    // A task that has one of them already.
    let task = api.task("added");
    let mapping = json!({
        "source_datasource_id": ends.ids[0], "target_datasource_id": ends.ids[1],
        "source_table": "account", "target_table": "elsewhere",
    });
    let mappings = api.fdi(&format!("/multi-tasks/{task}/mappings"));
    api.ask("mapping", ("POST", &mappings), &mapping, Want::Ok(200));
    let made = form(api, &format!("&task_id={task}"), Want::Ok(200));
    let status: Vec<_> = shown(&made).into_iter().map(|one| (one.1, one.2)).collect();
    let wanted = [
        ("elsewhere", "MANUAL"),
        ("public.Upper", "ADD"),
        ("public.odd name", "ADD"),
    ];
    api.same(
        "status",
        status,
        wanted.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec(),
    );

    // One whose target is filled by another table already.
    let task = api.task("filled");
    let mapping = with(&mapping, "source_table", Some(json!("shop.Upper")));
    let mapping = with(&mapping, "target_table", Some(json!("account")));
    let mappings = api.fdi(&format!("/multi-tasks/{task}/mappings"));
    api.ask("mapping", ("POST", &mappings), &mapping, Want::Ok(200));
    let given = format!("&task_id={task}");
    form(api, &given, bad("source_select_mapping_tables"));

    let wrong = [
        (
            "&source_select_mapping_tables=shop.nothing",
            bad("source_select_mapping_tables"),
        ),
        (
            "&source_select_mapping_tables=account",
            bad("source_select_mapping_tables"),
        ),
        (
            "&target_select_mapping_tables=.x",
            bad("target_select_mapping_tables"),
        ),
        ("&task_type=2", bad("task_type")),
        ("&nonsense=1", bad("nonsense")),
        (
            "&mapping_prefix=a&mapping_prefix=b",
            Want::Fdi(400, "FDI.3002", "mapping_prefix"),
        ),
        ("&mapping_prefix=%ff", Want::Ok(200)),
    ];
    for (given, want) in wrong {
        form(api, given, want);
    }
    for (ids, want) in [
        ("target_ds_id=x".to_owned(), bad("source_ds_id")),
        (
            format!("source_ds_id=x&target_ds_id={}", ends.ids[1]),
            bad("source_ds_id"),
        ),
        (
            format!("source_ds_id={0}&target_ds_id={0}", ends.ids[0]),
            bad("target_ds_id"),
        ),
    ] {
        let mut request = api.request("POST", &path);
        request = request.header("Content-Type", "application/x-www-form-urlencoded");
        request.body = ids.clone().into_bytes();
        api.check(&ids, &request, want);
    }
    let unread = Want::Fdi(400, "FDI.3002", "");
    api.check("cut in the middle", &cut, unread);
    api.ask(
        "not a form",
        ("POST", &path),
        &json!({"source_ds_id": "x"}),
        unread,
    );
    api.bare("POST", &path, unread);
    let elsewhere = path.replace(&api.identity.project, "0123456789abcdef0123456789abcdef");
    api.bare("POST", &elsewhere, Want::Gateway(403, "APIG.1005"));
}

/// What a run would do: columns with verdicts, findings, and the statements that make tables.
fn plan_is_shown(api: &mut Api, ends: &Ends) {
    let (from, to) = (&ends.ids[0], &ends.ids[1]);
    let task = api.task("planned");
    let mappings = api.fdi(&format!("/multi-tasks/{task}/mappings"));
    let options = api.native(&format!("/tasks/{task}/options"));
    let plan = api.native(&format!("/tasks/{task}/plan"));
    for (table, target) in [("account", "account"), ("odd name", "new'one")] {
        let body = json!({
            "source_datasource_id": from, "target_datasource_id": to,
            "source_table": format!("shop.{table}"), "target_table": format!("public.{target}"),
        });
        api.ask("mapping", ("POST", &mappings), &body, Want::Ok(200));
    }
    let codes = |plan: &Value| -> Vec<String> {
        let findings = plan["findings"].as_array().cloned().unwrap_or_default();
        findings.iter().map(|f| text(&f["code"])).collect()
    };
    let shown = api.bare("GET", &plan, Want::Ok(200));
    api.same("runnable", &shown["runnable"], &json!(false));
    let missing = codes(&shown).contains(&"target_table_missing".to_owned());
    api.same("the missing table is a finding", missing, true);
    let missing = json!({"create_tables": "missing"});
    api.ask("options", ("PATCH", &options), &missing, Want::Ok(200));
    let shown = api.bare("GET", &plan, Want::Ok(200));
    api.same("runnable", &shown["runnable"], &json!(true));
    let tables = &shown["tables"];
    let made: Vec<_> = [&tables[0], &tables[1]].map(|t| &t["create"]).into();
    api.same("tables to be made", made, vec![&json!(false), &json!(true)]);
    let amount = &tables[0]["columns"][2];
    let wanted = json!({
        "source": "amount", "source_type": "decimal(12,2)",
        "target": "amount", "target_type": "numeric(12,2)", "verdict": "widening",
    });
    for (field, value) in wanted.as_object().into_iter().flatten() {
        api.same(field, &amount[field], value);
    }
    let statements = &shown["statements"];
    let create = "CREATE TABLE IF NOT EXISTS \"public\".\"new'one\" (\"sloupec č\" integer NOT NULL, \
                  PRIMARY KEY (\"sloupec č\"))";
    let comment = "COMMENT ON COLUMN \"public\".\"new'one\".\"sloupec č\" IS E'it''s \\\\odd'";
    api.same("statements", statements, &json!([create, comment]));
    let there = "SELECT to_regclass('public.\"new''one\"') IS NULL";
    api.same(
        "nothing is made",
        ends.postgres.sql(there).unwrap(),
        "t".into(),
    );
}

/// A task whose source refuses the password fails, says so, and can be tried again.
fn failures_show(api: &mut Api, ends: &Ends, app: &str) {
    let create = api.fdi("/datasources");
    let body = with(&ends.bodies[0], "content.password", Some(json!("wrong")));
    let body = with(&body, "datasource_name", Some(json!("refused")));
    let body = with(&body, "app_id", Some(json!(app)));
    let made = api.ask("data source", ("POST", &create), &body, Want::Ok(201));
    let source = text(&made["datasource_id"]);
    let task = mapped(api, "fails", &source, &ends.ids[1]);
    let logs = api.fdi(&format!("/tasks/{task}/monitor-logs"));
    for run in 1..=2 {
        let path = api.fdi(&format!("/tasks/{task}/run"));
        api.bare("POST", &path, Want::Ok(200));
        let list = until(api, &logs, "it fails", |list| {
            list["total"] == run && text(&list["entities"][0]["execute_status"]) == "ERROR"
        });
        let one = &list["entities"][0];
        api.same("executions", list["total"].as_u64(), Some(run));
        api.same("position", text(&one["position"]), "READER".into());
        let code = one["status"].as_u64();
        api.same("code", matches!(code, Some(103 | 911)), true);
        let status = text(&one["position_status"]);
        api.same("position_status", status, "RUNTIME_ERR".into());
        Views::of(api, &task, "fails").are(api, false, "ERROR");
    }
    let counts = api.bare("GET", &api.fdi("/statistics/tasks"), Want::Ok(200));
    let abnormal = &counts["cdc_task_details"]["abnormal_tasks_count"];
    api.same("abnormal", abnormal, &json!(1));
    let path = api.fdi(&format!("/tasks/{task}"));
    let stop = format!("{path}/terminate");
    api.bare("POST", &stop, Want::Fdi(400, "FDI.3027", ""));
    api.bare("DELETE", &path, Want::Ok(204));
}

/// A host that takes the connection and never speaks.
fn silence_ends(api: &mut Api, app: &str) {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port().to_string();
    for kind in ["MYSQL", "POSTGRESQL"] {
        let body = datasource(&format!("silent {kind}"), kind, app);
        let mut body = with(&body, "content.port", Some(json!(port)));
        if kind == "MYSQL" {
            body["content"]["mysql_timeout"] = json!(2);
        }
        let create = api.fdi("/datasources");
        let made = api.ask("data source", ("POST", &create), &body, Want::Ok(201));
        let path = api.fdi(&format!("/datasources/{}", text(&made["datasource_id"])));
        let limit = Duration::from_secs(if kind == "MYSQL" { 8 } else { 40 });
        // The silence costs its whole limit each time: once is enough for the slow one.
        let looks = [
            ("POST", "/test-connect"),
            ("GET", "/tables?position=SOURCE"),
            ("GET", "/columns?position=SOURCE&table_name=a.b"),
        ];
        let looks = if kind == "MYSQL" {
            &looks[..]
        } else {
            &looks[..1]
        };
        for (method, rest) in looks {
            let start = Instant::now();
            api.bare(method, &format!("{path}{rest}"), UNREACHABLE);
            let took = start.elapsed();
            if took > limit {
                api.fail(format!("{kind} {rest} took {took:?} at a silent host"));
            }
        }
    }
}
