//! `thalweg check` against a live MariaDB and PostgreSQL: findings with their fix, and the exit code.

use std::process::{Command, Output};

use thalweg_testkit::servers::{MariaDb, MariaDbOptions, Postgres, PostgresOptions};

const SCHEMA: &str = "CREATE DATABASE shop; USE shop;
CREATE TABLE account (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL);
CREATE TABLE entry (id INT PRIMARY KEY, account INT NOT NULL);";

struct Ends {
    mariadb: MariaDb,
    postgres: Postgres,
}

impl Ends {
    fn check(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let (m, p) = (&self.mariadb, &self.postgres);
        let source = format!("mysql://{}@{}:{}/shop", m.user(), m.host(), m.port());
        let target = format!(
            "postgresql://{}@{}:{}/postgres",
            p.user(),
            p.host(),
            p.port()
        );
        let output = Command::new(env!("CARGO_BIN_EXE_thalweg"))
            .env_clear()
            .env("THALWEG_SOURCE_PASSWORD", m.password())
            .env("THALWEG_TARGET_PASSWORD", p.password())
            .args(["check", &source, &target])
            .args(args)
            .output();
        told(output.unwrap())
    }
}

fn told(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn check_finds_what_is_in_the_way_and_changes_nothing() {
    let ends = Ends {
        mariadb: MariaDb::start(MariaDbOptions::default()).unwrap(),
        postgres: Postgres::start(PostgresOptions::default()).unwrap(),
    };
    ends.mariadb.sql(SCHEMA).unwrap();

    let (code, out, error) = ends.check(&["--create-tables", "missing"]);
    assert_eq!(code, Some(0), "{out}{error}");
    assert!(out.ends_with("2 tables can be replicated\n"), "{out}");
    let made = "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";
    assert_eq!(
        ends.postgres.sql(made).unwrap().trim(),
        "0",
        "nothing was made"
    );

    let (code, out, error) = ends.check(&[]);
    assert_eq!(code, Some(1), "{out}{error}");
    assert!(
        out.contains("public.account") && out.contains("fix: "),
        "{out}"
    );
    assert!(out.contains("public.entry"), "all findings at once: {out}");

    ends.postgres
        .sql("CREATE TABLE konto (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL)")
        .unwrap();
    let (code, out, error) = ends.check(&["--table", "shop.account=public.konto"]);
    assert_eq!(code, Some(0), "{out}{error}");
    assert!(out.ends_with("1 table can be replicated\n"), "{out}");

    let (code, _, error) = ends.check(&["--table", "=x"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("--table =x"), "{error}");
    ends.postgres.stop().unwrap();
    let (code, _, error) = ends.check(&[]);
    assert_eq!(code, Some(1));
    assert!(error.starts_with("thalweg: "), "{error}");
}
