//! Rows that come, go or change without the log saying so.

use std::time::Duration;

use thalweg_core::Kind;
use thalweg_core::ports::{Rows, Source};
use thalweg_core::position::Layout;
use thalweg_core::schema::{TableName, TableSchema};

use crate::log::{LIMITS, Log, Origin, public, says};

/// What is done to `p`, which has parts `p_1` (with rows) and `p_2` (without), and what is said of it: what has
/// become of its rows, and a word.
const CASES: &[(&str, Option<(Rows, &str)>)] = &[
    (
        "INSERT INTO p VALUES (3, 'x'), (150, 'y'); UPDATE p SET t = 'z'",
        None,
    ),
    ("ALTER TABLE p ADD c int; CREATE INDEX ON p (t)", None),
    (
        "CREATE TABLE p_3 PARTITION OF p FOR VALUES FROM (200) TO (300); INSERT INTO p VALUES (250, 'new')",
        None,
    ),
    // A part with parts of its own.
    (
        "CREATE TABLE p_3 PARTITION OF p FOR VALUES FROM (200) TO (300) PARTITION BY RANGE (id); \
         CREATE TABLE p_4 PARTITION OF p_3 FOR VALUES FROM (200) TO (300); INSERT INTO p VALUES (250, 'new')",
        None,
    ),
    ("DROP TABLE p_1", Some((Rows::Went, "dropped"))),
    ("DROP TABLE p_2", Some((Rows::Went, "dropped"))),
    (
        "ALTER TABLE p DETACH PARTITION p_1",
        Some((Rows::Went, "detached")),
    ),
    (
        "CREATE TABLE p_3 (id int NOT NULL, t text); INSERT INTO p_3 VALUES (250, 'there'); \
         ALTER TABLE p ATTACH PARTITION p_3 FOR VALUES FROM (200) TO (300)",
        Some((Rows::Came, "attached")),
    ),
    // One that was away for a moment.
    (
        "ALTER TABLE p DETACH PARTITION p_1; UPDATE p_1 SET t = 'meanwhile'; \
         ALTER TABLE p ATTACH PARTITION p_1 FOR VALUES FROM (0) TO (100)",
        Some((Rows::Came, "attached")),
    ),
    // All in one transaction.
    (
        "BEGIN; CREATE TABLE p_3 (id int NOT NULL, t text); INSERT INTO p_3 VALUES (250, 'there'); \
         ALTER TABLE p ATTACH PARTITION p_3 FOR VALUES FROM (200) TO (300); COMMIT",
        Some((Rows::Came, "attached")),
    ),
    (
        "BEGIN; CREATE TABLE p_3 (id int NOT NULL, t text) PARTITION BY RANGE (id); \
         CREATE TABLE p_4 PARTITION OF p_3 FOR VALUES FROM (200) TO (300); INSERT INTO p_3 VALUES (250, 'there'); \
         ALTER TABLE p ATTACH PARTITION p_3 FOR VALUES FROM (200) TO (300); COMMIT",
        Some((Rows::Came, "attached")),
    ),
    // An empty one.
    (
        "CREATE TABLE p_3 (LIKE p); ALTER TABLE p ATTACH PARTITION p_3 FOR VALUES FROM (200) TO (300); \
         INSERT INTO p VALUES (250, 'new')",
        None,
    ),
    ("TRUNCATE p_1", Some((Rows::Went, "truncated"))),
    (
        "CREATE TABLE p_3 PARTITION OF p FOR VALUES FROM (200) TO (300); INSERT INTO p VALUES (250, 'new'); \
         TRUNCATE p_3",
        Some((Rows::Went, "truncated")),
    ),
    // It is in the log, but nobody has read it.
    ("TRUNCATE p", Some((Rows::Perhaps, "not read"))),
    (
        "ALTER TABLE p ALTER t TYPE text USING upper(t)",
        Some((Rows::Perhaps, "writes its rows anew")),
    ),
    ("VACUUM FULL p_1", Some((Rows::Perhaps, "VACUUM FULL"))),
];

const MADE: &str = "CREATE TABLE p (id int PRIMARY KEY, t text) PARTITION BY RANGE (id); \
     CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (100); \
     CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (100) TO (200); INSERT INTO p VALUES (1, 'a'), (2, 'b');";

async fn unsaid(
    source: &dyn Source,
    table: &TableName,
    layout: &Layout,
) -> Option<(Rows, String, Layout)> {
    let mut found = source.unsaid(&[(table, layout, false)]).await.unwrap();
    let one = found.pop()?;
    assert_eq!((found.len(), one.table), (0, 0));
    Some((one.rows, one.how, one.layout))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_log_does_not_say_is_seen_by_the_files() {
    let origin = Origin::new("");
    let source = origin.source.as_ref();
    for (sql, want) in CASES {
        origin.sql("DROP TABLE IF EXISTS p; DROP TABLE IF EXISTS p_1; DROP TABLE IF EXISTS p_3");
        origin.sql(MADE);
        let table = origin.tables(&["p"]).await.remove(0);
        let layout = table.layout.unwrap();
        assert_eq!(unsaid(source, &table.name, &layout).await, None, "{sql}");
        origin.sql(sql);
        let found = unsaid(source, &table.name, &layout).await;
        match (&found, want) {
            (None, None) => {}
            (Some((rows, how, after)), Some((want, word))) => {
                assert_eq!(rows, want, "{sql}: {how}");
                assert!(how.contains(word), "{sql}: {how}");
                // With the new layout it is not said again.
                assert_eq!(unsaid(source, &table.name, after).await, None, "{sql}");
            }
            _ => panic!("{sql}: {found:?}"),
        }
    }
}

/// Reads until the stream ends.
async fn reads_on(
    origin: &Origin,
    name: &str,
    table: &TableSchema,
    sql: &str,
) -> thalweg_core::Error {
    let source = origin.named(name);
    let tables = [table.clone()];
    let at = source
        .secure(&public(&[table.name.name.as_str()]))
        .await
        .unwrap();
    let mut log = Log::open(source, &at, &tables, LIMITS).await.unwrap();
    origin.sql(sql);
    loop {
        if let Err(error) = log.part().await {
            return error;
        }
    }
}

/// Reads until a table is said to lie in another way, or the stream ends.
async fn reads(
    origin: &Origin,
    name: &str,
    table: &TableSchema,
    sql: &str,
) -> thalweg_core::Result<Vec<Layout>> {
    let source = origin.named(name);
    let tables = [table.clone()];
    let at = source.secure(&public(&[table.name.name.as_str()])).await?;
    let mut log = Log::open(source, &at, &tables, LIMITS).await?;
    origin.sql(sql);
    let mut found = Vec::new();
    while found.is_empty() {
        let part = log.part().await?;
        found.extend(part.schema.into_iter().map(|change| change.layout));
    }
    Ok(found)
}

/// A `TRUNCATE` that is in the log, and a new part, let the stream go on with other files; it ends at what is not
/// in the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stream_ends_at_what_the_log_does_not_say() {
    let origin = Origin::new("");
    let roots = ["p", "q", "r", "s", "t"];
    for root in roots {
        origin.sql(
            &MADE
                .replace("p ", &format!("{root} "))
                .replace("p_", &format!("{root}_")),
        );
    }
    let mut tables = origin.tables(&roots).await.into_iter();
    let mut next = || tables.next().unwrap();
    let (p, q, r, s, t) = (next(), next(), next(), next(), next());
    let part = "CREATE TABLE q_3 PARTITION OF q FOR VALUES FROM (200) TO (300); INSERT INTO q VALUES (250, 'new')";
    let gone = "CREATE TABLE t_3 PARTITION OF t FOR VALUES FROM (200) TO (300); INSERT INTO t VALUES (250, 'new'); \
                DROP TABLE t_3";
    let all = async {
        tokio::join!(
            // Noted when its rows are read, and missed at the next look.
            reads_on(&origin, "thalweg/t", &t, gone),
            reads(
                &origin,
                "thalweg/p",
                &p,
                "TRUNCATE p; INSERT INTO p VALUES (1, 'again')"
            ),
            reads(&origin, "thalweg/q", &q, part),
            reads(&origin, "thalweg/r", &r, "TRUNCATE r_1"),
            reads(&origin, "thalweg/s", &s, "DROP TABLE s_1"),
        )
    };
    let (t_read, p_read, q_read, r_read, s_read) =
        tokio::time::timeout(Duration::from_secs(60), all)
            .await
            .unwrap();
    says(&t_read, Kind::Schema, &["public.t", "dropped"]);
    let source = origin.source.as_ref();
    for (table, read) in [(p, p_read), (q, q_read)] {
        let layout = read.unwrap().pop().unwrap();
        assert_ne!(Some(&layout), table.layout.as_ref());
        assert_eq!(unsaid(source, &table.name, &layout).await, None);
    }
    says(
        &r_read.unwrap_err(),
        Kind::Schema,
        &["public.r", "truncated"],
    );
    says(&s_read.unwrap_err(), Kind::Schema, &["public.s", "dropped"]);
}
