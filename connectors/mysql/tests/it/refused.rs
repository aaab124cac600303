//! What preflight refuses, each finding with the statement that helps, and what stops the stream.

use std::sync::Arc;

use thalweg_core::Kind;
use thalweg_core::finding::{Finding, Severity};
use thalweg_core::ports::{Chunk, Connector, DataSourceConfig, Source};

use super::world::{LIMITS, World, says, shop};

/// Codes of the findings that refuse.
fn codes(found: &[Finding]) -> Vec<&str> {
    let refusing = found.iter().filter(|f| f.refuses());
    refusing.map(|f| f.code).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_refused_with_the_statement_that_helps() {
    let world = World::new(&[
        "binlog_format=STATEMENT",
        "binlog_row_image=MINIMAL",
        "binlog_expire_logs_seconds=3600",
    ]);
    world.sql("CREATE TABLE t (id INT PRIMARY KEY)");
    let found = world.check(&["t"]).await;
    assert_eq!(codes(&found), ["binlog_format", "binlog_row_image"]);
    let warning = found.iter().find(|f| !f.refuses()).unwrap();
    assert_eq!(
        (warning.code, warning.severity),
        ("log_retention", Severity::Warning)
    );
    for finding in &found {
        world.server.sql(&finding.fix).unwrap();
    }
    assert_eq!(world.check(&["t"]).await, []);
    world
        .server
        .sql("SET GLOBAL binlog_format = MIXED, GLOBAL binlog_row_image = NOBLOB")
        .unwrap();
    let found = world.check(&["t"]).await;
    assert_eq!(codes(&found), ["binlog_format", "binlog_row_image"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_a_log_is_refused() {
    let world = World::new(&["skip-log-bin"]);
    world.sql("CREATE TABLE t (id INT PRIMARY KEY)");
    let found = world.check(&["t"]).await;
    assert_eq!(codes(&found), ["log_bin"]);
    assert!(found[0].fix.contains("log_bin=binlog"));
    let error = world.source().secure().await.unwrap_err();
    says(&error, Kind::Config, &["binary log is off"]);
    assert!(error.hint().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_refused_with_the_statement_that_helps() {
    let world = World::new(&[]);
    world.sql(
        "CREATE TABLE `my``isam t` (id INT PRIMARY KEY) ENGINE=MyISAM; \
         CREATE TABLE parent (id INT, z INT, PRIMARY KEY (id, z)); \
         CREATE TABLE `child '1` (id INT PRIMARY KEY, `p``a` INT, z INT, CONSTRAINT `f``1` \
         FOREIGN KEY (`p``a`, z) REFERENCES parent (id, z) ON DELETE CASCADE); \
         CREATE TABLE child2 (id INT PRIMARY KEY, p INT, z INT, CONSTRAINT f2 \
         FOREIGN KEY (p, z) REFERENCES parent (id, z) ON UPDATE SET NULL); \
         CREATE TABLE child3 (id INT PRIMARY KEY, p INT, z INT, CONSTRAINT f3 \
         FOREIGN KEY (p, z) REFERENCES parent (id, z) ON DELETE RESTRICT ON UPDATE NO ACTION); \
         CREATE TABLE keyless (id INT); \
         CREATE TABLE `long` (id INT PRIMARY KEY, c TEXT, UNIQUE KEY `u``c` (c)); \
         CREATE TABLE Upper (id INT PRIMARY KEY); CREATE VIEW v AS SELECT 1",
    );
    let names = [
        "my`isam t",
        "parent",
        "child '1",
        "child2",
        "child3",
        "keyless",
        "long",
        "Upper",
    ];
    let wrong = [&names[..], &["upper", "v", "missing"]].concat();
    let found = world.check(&wrong).await;
    let said: Vec<(&str, &str)> = found.iter().map(|f| (f.code, f.subject.as_str())).collect();
    assert_eq!(
        said,
        [
            ("engine", "shop.my`isam t"),
            ("cascading_foreign_key", "shop.child '1: f`1"),
            ("cascading_foreign_key", "shop.child2: f2"),
            ("no_key", "shop.keyless"),
            ("hidden_column", "shop.long: u`c"),
            ("table_missing", "shop.upper"),
            ("table_missing", "shop.v"),
            ("table_missing", "shop.missing"),
        ]
    );
    let statements = found
        .iter()
        .filter(|f| f.refuses() && f.fix.starts_with("ALTER"));
    for finding in statements {
        world.server.sql(&finding.fix).unwrap();
    }
    let left = world.check(&names).await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].code, "no_key");
    let keys = "SELECT GROUP_CONCAT(delete_rule, update_rule ORDER BY table_name) \
                FROM information_schema.referential_constraints";
    assert_eq!(
        world.sql(keys),
        "RESTRICTRESTRICT,RESTRICTRESTRICT,RESTRICTNO ACTION"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_nothing_hears_every_missing_right_at_once() {
    let world = World::new(&[]);
    world.sql("CREATE TABLE t (id INT PRIMARY KEY); CREATE TABLE `u``1` (id INT PRIMARY KEY)");
    world.sql("CREATE USER 'o''k'@'127.0.0.%' IDENTIFIED BY 'secret'");
    let source = world.source_as("o'k", "secret");
    let found = source.check(&shop(&["t", "u`1"])).await.unwrap();
    assert_eq!(
        codes(&found),
        [
            "grant_replication_slave",
            "grant_binlog_monitor",
            "grant_select",
            "grant_select"
        ]
    );
    for finding in &found {
        world.server.sql(&finding.fix).unwrap();
    }
    assert_eq!(source.check(&shop(&["t", "u`1"])).await.unwrap(), []);
    copies(&source, "t", &world).await;
}

/// Loads and follows a table, and asks all else the engine asks.
async fn copies(source: &Arc<dyn Source>, table: &str, world: &World) {
    let start = source.secure().await.unwrap();
    let tables = source.describe(&shop(&[table])).await.unwrap();
    world.sql(&format!("INSERT INTO {table} VALUES (1)"));
    let chunk = Chunk {
        table: 0,
        schema: tables[0].clone(),
    };
    let mut reader = source.read(&chunk, LIMITS).await.unwrap();
    let mut rows = Default::default();
    assert!(reader.next(&mut rows).await.unwrap());
    let (mut stream, _) = source.stream(&start, &tables, LIMITS).await.unwrap();
    loop {
        let tx = stream.next().await.unwrap();
        if !tx.changes.changes.is_empty() {
            let at = tx.commit.unwrap().position;
            source.backlog_bytes(&at).await.unwrap();
            source.head().await.unwrap();
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readmes_grants_suffice() {
    let world = World::new(&[]);
    world.sql("CREATE TABLE t (id INT PRIMARY KEY)");
    world.sql(
        "CREATE USER thalweg@'%' IDENTIFIED BY 'secret'; \
         GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO thalweg@'%'; \
         GRANT SELECT ON shop.* TO thalweg@'%'",
    );
    let source = world.source_as("thalweg", "secret");
    assert_eq!(source.check(&shop(&["t"])).await.unwrap(), []);
    copies(&source, "t", &world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_id_in_use_is_refused() {
    let world = World::new(&[]);
    world.sql("CREATE TABLE t (id INT PRIMARY KEY)");
    let as_id = |id: u32, name: &str| {
        let config = DataSourceConfig {
            server_id: Some(id),
            application_name: name.to_owned(),
            ..world.config()
        };
        thalweg_mysql::connector().source(&config).unwrap()
    };
    let own = world.sql("SELECT @@server_id").parse().unwrap();
    let found = as_id(own, "thalweg/a").check(&shop(&["t"])).await.unwrap();
    assert_eq!(codes(&found), ["server_id"]);
    // A replica of this id, which is a stream of another task.
    let start = world.here().await;
    let tables = world.tables(&["t"]).await;
    let other = as_id(4711, "thalweg/a");
    let (mut stream, _) = other.stream(&start, &tables, LIMITS).await.unwrap();
    world.sql("INSERT INTO t VALUES (1)");
    stream.next().await.unwrap();
    let found = as_id(4711, "thalweg/b").check(&shop(&["t"])).await.unwrap();
    assert_eq!(codes(&found), ["server_id"]);
    assert_eq!(
        as_id(4711, "thalweg/a").check(&shop(&["t"])).await.unwrap(),
        []
    );
    assert_eq!(
        as_id(4712, "thalweg/b").check(&shop(&["t"])).await.unwrap(),
        []
    );
}
