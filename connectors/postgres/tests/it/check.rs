//! Preflight: what is said of a server that is not ready, and of one that is.

use std::sync::Arc;

use thalweg_core::finding::{Finding, Severity};
use thalweg_core::ports::{Connector, DataSourceConfig, Source};
use thalweg_core::secret::Secret;

use crate::log::{Origin, public};
use crate::world;

fn source_as(origin: &Origin, user: &str) -> Arc<dyn Source> {
    let config = DataSourceConfig {
        user: user.into(),
        password: Secret::new("pw"),
        ..world::config(&origin.server)
    };
    thalweg_postgres::connector().source(&config).unwrap()
}

fn codes(findings: &[Finding]) -> Vec<(&str, &str, Severity)> {
    let brief = |f: &'_ Finding| (f.code, f.severity);
    findings
        .iter()
        .map(|f| {
            assert!(!f.fix.is_empty(), "{f:?}");
            let (code, severity) = brief(f);
            (code, f.subject.as_str(), severity)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_ready_is_so_for_a_user_with_the_rights_alone() {
    let origin = Origin::new(
        "CREATE TABLE a (id int PRIMARY KEY, b int); CREATE TABLE \"B b\" (id int PRIMARY KEY);
         INSERT INTO a VALUES (1, 1);
         CREATE ROLE u LOGIN PASSWORD 'pw'",
    );
    let names = public(&["a", "B b"]);
    let source = source_as(&origin, "u");
    let findings = source.check(&names).await.unwrap();
    let codes: Vec<_> = codes(&findings)
        .into_iter()
        .map(|(c, s, _)| format!("{c} {s}"))
        .collect();
    assert_eq!(
        codes,
        [
            "grant_replication REPLICATION",
            "grant_select public.a",
            "grant_select public.B b",
            "grant_create \"postgres\"",
            "table_owner public.a",
            "table_owner public.B b",
        ]
    );
    // Doing what is said, statement by statement, is enough.
    for finding in &findings {
        let statement = finding.fix.split(" -- ").next().unwrap();
        origin.sql(statement);
    }
    assert_eq!(source.check(&names).await.unwrap(), []);
    let at = source.secure(&names).await.unwrap();
    let tables = source.describe(&names).await.unwrap();
    let (rows, _) = crate::log::read(source.as_ref(), &tables[0]).await;
    assert_eq!(rows.len(), 1);
    let mut log = crate::log::Log::open(Arc::clone(&source), &at, &tables, crate::log::LIMITS)
        .await
        .unwrap();
    origin.sql("INSERT INTO \"B b\" VALUES (7)");
    assert_eq!(log.change().await.changes, ["+B b 7"]);
    source.release().await.unwrap();
    assert_eq!(origin.sql("SELECT count(*) FROM pg_publication"), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_is_missing_is_said_at_once() {
    let origin = Origin::with(
        &[
            "wal_level = replica",
            "max_replication_slots = 0",
            "max_wal_senders = 1",
            "max_slot_wal_keep_size = 100MB",
        ],
        "CREATE TABLE keyless (a int);
         CREATE TABLE whole (a int); ALTER TABLE whole REPLICA IDENTITY FULL;
         CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY);
         CREATE VIEW v AS SELECT 1 AS a;
         CREATE TABLE g (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) STORED);
         CREATE TABLE r (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE r_1 PARTITION OF r FOR VALUES FROM (0) TO (9);
         ALTER TABLE r_1 REPLICA IDENTITY FULL;",
    );
    let names = [
        "keyless", "whole", "unlogged", "v", "g", "r", "r_1", "nowhere",
    ];
    let findings = origin.source.check(&public(&names)).await.unwrap();
    use Severity::{Error, Info, Warning};
    let version: u32 = origin
        .sql("SHOW server_version_num")
        .trim()
        .parse()
        .unwrap();
    // Since 18 a publication may have them.
    let logged = version >= 180_000;
    let mut wanted = vec![
        ("wal_level", "wal_level", Error),
        ("max_slot_wal_keep_size", "max_slot_wal_keep_size", Warning),
        ("max_replication_slots", "max_replication_slots", Error),
        ("max_wal_senders", "max_wal_senders", Error),
        ("replica_identity", "public.keyless", Warning),
        ("no_key", "public.whole", Warning),
        ("unlogged", "public.unlogged", Error),
        ("table_kind", "public.v", Error),
        ("generated_column", "public.g.g", Info),
        ("partitions", "public.r", Warning),
        ("replica_identity_of_partition", "public.r", Error),
        ("table_missing", "public.nowhere", Error),
        ("partition_and_root", "public.r_1", Error),
    ];
    wanted.retain(|(code, ..)| !(logged && *code == "generated_column"));
    assert_eq!(codes(&findings), wanted);
    assert!(
        findings[0]
            .fix
            .starts_with("ALTER SYSTEM SET wal_level = logical;")
    );
    let g = origin.tables(&["g"]).await.remove(0);
    let mapped = if logged { 2 } else { 1 };
    assert_eq!(g.columns.len(), mapped, "what is not logged is not mapped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_the_user_made_is_looked_at() {
    let origin = Origin::new(
        "CREATE TABLE a (id int PRIMARY KEY, x int); CREATE TABLE b (id int PRIMARY KEY);
         CREATE TABLE c (id int PRIMARY KEY);
         ALTER TABLE c ENABLE ROW LEVEL SECURITY;
         CREATE ROLE u LOGIN REPLICATION PASSWORD 'pw'; GRANT SELECT ON a, b, c TO u;
         CREATE PUBLICATION thalweg_test FOR TABLE a WHERE (id > 1), c WITH (publish = 'insert')",
    );
    let source = source_as(&origin, "u");
    let findings = source.check(&public(&["a", "b", "c"])).await.unwrap();
    use Severity::{Error, Warning};
    assert_eq!(
        codes(&findings),
        [
            ("row_security", "public.c", Error),
            ("publication_table", "public.b", Error),
            ("publication_operations", "thalweg_test", Warning),
            ("publication_filter", "public.a", Error),
        ]
    );
    for finding in &findings {
        origin.sql(finding.fix.split(" -- ").next().unwrap());
    }
    assert_eq!(source.check(&public(&["a", "b", "c"])).await.unwrap(), []);
}
