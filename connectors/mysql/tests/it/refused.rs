//! What preflight refuses, each finding with the statement that helps, and what stops the stream.

use std::sync::Arc;

use thalweg_core::Kind;
use thalweg_core::finding::{Finding, Severity};
use thalweg_core::ports::{Chunk, Connector, DataSourceConfig, Source};
use thalweg_core::schema::{ReferenceAction, TableName};

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
    assert_eq!(codes(&found), ["binlog_format"]);
    let warnings: Vec<_> = found.iter().filter(|f| !f.refuses()).collect();
    let codes_of = |all: &[&Finding]| all.iter().map(|f| f.code).collect::<Vec<_>>();
    assert_eq!(codes_of(&warnings), ["log_retention", "binlog_row_image"]);
    assert!(warnings.iter().all(|f| f.severity == Severity::Warning));
    for finding in &found {
        world.server.sql(&finding.fix).unwrap();
    }
    assert_eq!(world.check(&["t"]).await, []);
    world
        .server
        .sql("SET GLOBAL binlog_format = MIXED, GLOBAL binlog_row_image = NOBLOB")
        .unwrap();
    let found = world.check(&["t"]).await;
    assert_eq!(codes(&found), ["binlog_format"]);
    assert!(found[1].message.contains("NOBLOB"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_a_log_is_refused() {
    let world = World::new(&["skip-log-bin"]);
    world.sql("CREATE TABLE t (id INT PRIMARY KEY)");
    let found = world.check(&["t"]).await;
    assert_eq!(codes(&found), ["log_bin"]);
    assert!(found[0].fix.contains("log_bin=binlog"));
    let error = world.source().secure(&[]).await.unwrap_err();
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
    // What foreign keys do is not in the log: the plan has to know all of it.
    let names = shop(&["child '1", "child2", "child3"]);
    let children = world.source().describe(&names).await.unwrap();
    let keys = children.iter().flat_map(|table| &table.foreign_keys);
    let keys: Vec<_> = keys
        .map(|key| (key.name.as_str(), key.on_delete, key.on_update, key.logged))
        .collect();
    use ReferenceAction::{Cascade, Refuse, SetNull};
    assert_eq!(
        keys,
        [
            ("f`1", Cascade, Refuse, false),
            ("f2", Refuse, SetNull, false),
            ("f3", Refuse, Refuse, false),
        ]
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
    let start = source.secure(&[]).await.unwrap();
    let tables = source.describe(&shop(&[table])).await.unwrap();
    world.sql(&format!("INSERT INTO {table} VALUES (1)"));
    let chunk = Chunk {
        table: 0,
        schema: tables[0].clone(),
        range: None,
        empty: false,
    };
    let mut reader = source.read(&chunk, &start, LIMITS).await.unwrap();
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

/// Makes tables `t` and `u` anew, of which `t` is captured.
fn anew(world: &World) {
    world.sql(
        "DROP TABLE IF EXISTS p, t, u, away; \
         CREATE TABLE t (id INT PRIMARY KEY, a INT, b TEXT); \
         CREATE TABLE u (id INT PRIMARY KEY, a INT, b TEXT); INSERT INTO t VALUES (1, 1, 'x')",
    );
}

/// The statements stop the stream with these words before anything of their transaction is
/// delivered, and on every later try as well.
async fn stops(world: &World, sql: &str, kind: Kind, words: &[&str]) {
    anew(world);
    let tables = world.tables(&["t"]).await;
    let start = world.here().await;
    world.sql("UPDATE t SET a = 2");
    world.sql(sql);
    let (seen, error) = world.stops(&start, &tables).await;
    let lines: Vec<_> = seen.iter().flat_map(|tx| tx.changes.clone()).collect();
    assert_eq!(lines, ["~t 1,1,'x' > 1,2,'x'"], "{sql}");
    says(&error, kind, words);
    assert!(error.hint().is_some(), "{sql}: {}", error.chain());
    let (seen, error) = world.stops(&seen[0].position, &tables).await;
    assert_eq!(seen, [], "{sql}: {}", error.chain());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logged_statements_stop_the_stream() {
    let world = World::new(&["log_bin_compress=ON"]);
    for sql in [
        "UPDATE t SET a = 3",
        "INSERT INTO shop.t (id) VALUES (9)",
        "BEGIN; DELETE FROM t; INSERT INTO u VALUES (1, 2, 'u'); COMMIT",
        "REPLACE INTO u SELECT id, a, b FROM t",
    ] {
        let sql = format!("SET binlog_format = STATEMENT; {sql}");
        let words = ["statement", "shop.t", "binlog.000001:"];
        stops(&world, &sql, Kind::Config, &words).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logged_statements_that_reach_a_table_by_a_detour_stop_the_stream() {
    let world = World::new(&[]);
    for (setup, sql) in [
        ("CREATE VIEW v AS SELECT * FROM t", "UPDATE v SET a = 3"),
        (
            "CREATE TRIGGER r AFTER INSERT ON u FOR EACH ROW UPDATE t SET a = 3",
            "INSERT INTO u VALUES (1, 1, 'u')",
        ),
        (
            "CREATE FUNCTION f() RETURNS INT DETERMINISTIC MODIFIES SQL DATA \
             BEGIN UPDATE t SET a = 3; RETURN 1; END",
            "DO f(); SELECT f()",
        ),
    ] {
        // One statement each: the client knows no delimiter inside a body.
        let sql =
            format!("DELIMITER //\n{setup} //\nDELIMITER ;\nSET binlog_format = STATEMENT; {sql};");
        stops(
            &world,
            &sql,
            Kind::Config,
            &["logged as a statement", "binlog.000001:"],
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_of_a_captured_table_stop_the_stream_before_them() {
    let world = World::new(&[]);
    for (sql, word) in [
        ("ALTER TABLE t MODIFY a BIGINT", "column a is changed"),
        (
            "ALTER ONLINE TABLE shop.`t` CHANGE b c TEXT",
            "column b is changed",
        ),
        (
            "ALTER TABLE t RENAME COLUMN a TO c",
            "column a is called c now",
        ),
        ("ALTER TABLE t DROP PRIMARY KEY", "primary key"),
        ("ALTER TABLE t ADD c INT, DROP COLUMN B", "column b goes"),
        (
            "SET STATEMENT max_statement_time = 10 FOR ALTER TABLE t DROP a",
            "ALTER TABLE",
        ),
        (
            "SET binlog_alter_two_phase = 1; ALTER TABLE t DROP b",
            "ALTER TABLE",
        ),
        (
            "/* a note */ ALTER TABLE t CONVERT TO CHARACTER SET latin1",
            "ALTER TABLE",
        ),
        ("DROP TABLE u, t", "DROP TABLE"),
        ("RENAME TABLE t TO away, u TO t", "RENAME TABLE"),
        ("ALTER TABLE t RENAME TO away", "ALTER TABLE"),
        ("CREATE OR REPLACE TABLE t (id INT)", "CREATE TABLE"),
        ("DROP DATABASE shop; CREATE DATABASE shop", "DROP DATABASE"),
    ] {
        stops(
            &world,
            sql,
            Kind::Schema,
            &[word, "shop.t", "binlog.000001:"],
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_that_exchange_a_captured_table_stop_the_stream() {
    let world = World::new(&[]);
    for (partitions, change) in [
        (
            "PARTITION p0 VALUES LESS THAN (10)",
            "EXCHANGE PARTITION p0 WITH TABLE t",
        ),
        (
            "PARTITION p0 VALUES LESS THAN (0)",
            "CONVERT TABLE t TO PARTITION p1 VALUES LESS THAN (10)",
        ),
    ] {
        let sql = format!(
            "CREATE TABLE p (id INT PRIMARY KEY, a INT, b TEXT) PARTITION BY RANGE (id) \
             ({partitions}); INSERT INTO u VALUES (2, 2, 'u'); ALTER TABLE p {change}"
        );
        stops(&world, &sql, Kind::Schema, &["ALTER TABLE", "shop.t"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loss_of_the_key_that_identifies_rows_stops_the_stream() {
    let world = World::new(&[]);
    for sql in [
        "DROP INDEX k ON w",
        "ALTER TABLE w DROP INDEX k",
        "ALTER TABLE w DROP KEY IF EXISTS `K`",
    ] {
        world.sql(
            "CREATE OR REPLACE TABLE w \
             (a INT NOT NULL, b INT, UNIQUE KEY k (a), KEY other (b), c INT)",
        );
        let start = world.here().await;
        let tables = world.tables(&["w"]).await;
        world.sql("DROP INDEX other ON w; INSERT INTO w VALUES (1, 1, 1)");
        world.sql(sql);
        world.sql("INSERT INTO w VALUES (1, 2, 3)");
        let (seen, error) = world.stops(&start, &tables).await;
        assert_eq!(seen.len(), 1, "{sql}");
        says(
            &error,
            Kind::Schema,
            &["index", "tells its rows apart", "shop.w"],
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_in_another_character_set_is_not_missed() {
    let world = World::new(&[]);
    world.sql("CREATE TABLE `žluť` (id INT PRIMARY KEY)");
    let start = world.here().await;
    let tables = world.tables(&["žluť"]).await;
    // What a client that speaks cp1250 sends, in bytes: 0x9e, 0x9d.
    world.sql(
        "INSERT INTO `žluť` VALUES (1); SET character_set_client = cp1250; \
         EXECUTE IMMEDIATE CONCAT('TRUNCATE `', x'9e6c759d', '`'); SET NAMES utf8mb4; \
         INSERT INTO `žluť` VALUES (1)",
    );
    let mut log = world.open(&start, &tables).await;
    let mark = log.source.head().await.unwrap();
    let mut lines = Vec::new();
    while !log.source.reached(&log.at, &mark).unwrap() {
        match log.next().await {
            Ok(tx) => lines.extend(tx.changes),
            Err(error) => {
                says(&error, Kind::Schema, &["shop.žluť"]);
                return;
            }
        }
    }
    assert_eq!(lines, ["+žluť 1", "!žluť", "+žluť 1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncate_is_a_change() {
    let world = World::new(&[]);
    anew(&world);
    let start = world.here().await;
    world.sql(
        "TRUNCATE t; INSERT INTO t VALUES (2, 2, 'y'); TRUNCATE TABLE u; TRUNCATE TABLE `shop`.`t`",
    );
    let got = world.changes(&start, &["t"]).await;
    assert_eq!(got, [["!t"], ["+t 2,2,'y'"], ["!t"]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_of_others_pass() {
    let world = World::new(&[]);
    anew(&world);
    let start = world.here().await;
    world.sql(
        "ALTER TABLE u ADD t INT; CREATE TABLE w AS SELECT * FROM t; CREATE TABLE x LIKE t; \
         CREATE TEMPORARY TABLE t (z INT); INSERT INTO t VALUES (5); DROP TEMPORARY TABLE t; \
         RENAME TABLE x TO y; DROP TABLE y, w; CREATE INDEX i ON t (a); DROP INDEX i ON t; \
         ALTER TABLE t COMMENT 'new'; ANALYZE TABLE t; OPTIMIZE TABLE t; \
         CREATE DATABASE other; CREATE TABLE other.t (id INT); ALTER TABLE other.t ADD c INT; \
         INSERT INTO other.t VALUES (1, 1); TRUNCATE other.t; DROP DATABASE other; \
         CREATE VIEW v AS SELECT * FROM t; CREATE USER x; GRANT SELECT ON shop.t TO x; \
         CREATE SEQUENCE q; SELECT NEXTVAL(q); CREATE TABLE IF NOT EXISTS t (id INT); \
         CREATE TABLE g (id INT) ENGINE=MEMORY; INSERT INTO g VALUES (1)",
    );
    world.server.restart().unwrap();
    world.sql("SELECT * FROM g; UPDATE t SET a = 9");
    assert_eq!(
        world.changes(&start, &["t"]).await,
        [["~t 1,1,'x' > 1,9,'x'"]]
    );
    let name = TableName::new("shop", "t");
    assert_eq!(world.source().check(&[name]).await.unwrap(), []);
}
