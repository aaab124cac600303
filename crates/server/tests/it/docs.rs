//! The examples of `docs/reference/api.md` run as they stand there.

use std::path::Path;
use std::process::{Command, Stdio};

use thalweg_testkit::servers::{MariaDb, MariaDbOptions, Postgres, PostgresOptions};
use thalweg_testkit::thalweg::Thalweg;

/// All `sh` blocks of a page as one script.
fn script(page: &str) -> String {
    let mut script = vec!["set -euo pipefail"];
    let blocks = page.split("\n```sh\n").skip(1);
    script.extend(blocks.filter_map(|block| block.split("\n```").next()));
    script.join("\n")
}

#[test]
fn the_examples_of_the_api_page_work() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/api.md");
    let script = script(&std::fs::read_to_string(page).unwrap());
    let mariadb = MariaDb::start(MariaDbOptions::default()).unwrap();
    let postgres = Postgres::start(PostgresOptions::default()).unwrap();
    let table = "CREATE TABLE account (id INT PRIMARY KEY, name VARCHAR(40));";
    mariadb
        .sql(&format!("CREATE DATABASE shop; USE shop; {table}"))
        .unwrap();
    postgres.sql(table).unwrap();
    let server = Thalweg::start(Path::new(env!("CARGO_BIN_EXE_thalweg"))).unwrap();
    let id = server.identity();
    let (mysql_port, pg_port) = (mariadb.port().to_string(), postgres.port().to_string());
    let output = Command::new("bash")
        .arg("-xc")
        .arg(&script)
        .stdin(Stdio::null())
        .env("SERVER", server.base_url())
        .env("PROJECT", &id.project)
        .env("INSTANCE", &id.instance)
        .env("PASSWORD", &id.password)
        .env("MYSQL_HOST", mariadb.host())
        .env("MYSQL_PORT", mysql_port)
        .env("MYSQL_USER", mariadb.user())
        .env("MYSQL_PASSWORD", mariadb.password())
        .env("PG_HOST", postgres.host())
        .env("PG_PORT", pg_port)
        .env("PG_USER", postgres.user())
        .env("PG_PASSWORD", postgres.password())
        .env("PG_DATABASE", "postgres")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines.contains(&r#"["shop.account"]"#), "{out}");
    assert!(lines.contains(&r#"{"message":"Reset Success"}"#), "{out}");
    assert!(lines.contains(&"equal"), "{out}\n{err}");
    assert!(!lines.contains(&"null"), "{out}");
}
