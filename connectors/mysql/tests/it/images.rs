//! Row images that lack columns: what is known of a row comes, and nothing else.

use thalweg_core::Kind;
use thalweg_core::finding::Severity;
use thalweg_core::value::CellRef;

use super::world::{World, says, shop};

const TABLES: &str = "\
    CREATE TABLE t (id INT PRIMARY KEY, a INT DEFAULT 5, b TEXT, c VARCHAR(9) DEFAULT 'x', \
    s INT AS (a + 1) STORED, u VARCHAR(9) DEFAULT (CONCAT('u', 1))); \
    CREATE TABLE pair (x INT, y VARCHAR(9), z TEXT, PRIMARY KEY (y, x)); \
    CREATE TABLE uniq (a INT, k INT NOT NULL, b TEXT, UNIQUE (a), UNIQUE (k)); \
    CREATE TABLE none (a INT, b TEXT); ";

const WORK: &str = "\
    INSERT INTO t (id) VALUES (1); INSERT INTO t (id, a, b) VALUES (2, NULL, 'two'); \
    UPDATE t SET a = 7 WHERE id = 1; UPDATE t SET b = 'B' WHERE id = 1; \
    UPDATE t SET id = 10, c = NULL WHERE id = 1; DELETE FROM t WHERE id = 10; \
    INSERT INTO t (id, a) VALUES (2, 3) ON DUPLICATE KEY UPDATE c = 'dup'; \
    INSERT INTO pair (x, y) VALUES (1, 'a'); UPDATE pair SET z = 'Z'; \
    UPDATE pair SET x = 2; DELETE FROM pair; \
    INSERT INTO uniq VALUES (1, 2, 'b'); UPDATE uniq SET a = 9; DELETE FROM uniq; \
    INSERT INTO none VALUES (1, 'x'); UPDATE none SET a = 2; DELETE FROM none;";

async fn lines(image: &str, names: &[&str]) -> (World, Vec<String>) {
    let world = World::new(&[&format!("binlog_row_image={image}")]);
    world.sql(TABLES);
    let start = world.here().await;
    world.sql(WORK);
    let all = world.changes(&start, names).await;
    (world, all.into_iter().flatten().collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minimal_image_gives_the_key_and_what_changed() {
    let (world, lines) = lines("MINIMAL", &["t", "pair", "uniq", "none"]).await;
    let absent = "absent,absent,absent,absent,absent";
    assert_eq!(
        lines,
        [
            "+t 1,5,NULL,'x',6,'u1'".to_owned(),
            "+t 2,NULL,'two','x',NULL,'u1'".to_owned(),
            format!("~t 1,{absent} > 1,7,Unchanged,Unchanged,8,Unchanged"),
            format!("~t 1,{absent} > 1,Unchanged,'B',Unchanged,8,Unchanged"),
            format!("~t 1,{absent} > 10,Unchanged,Unchanged,NULL,8,Unchanged"),
            format!("-t 10,{absent}"),
            format!("~t 2,{absent} > 2,NULL,Unchanged,'dup',NULL,'u1'"),
            "+pair 1,'a',NULL".to_owned(),
            "~pair 1,'a',absent > 1,'a','Z'".to_owned(),
            "~pair 1,'a',absent > 2,'a',Unchanged".to_owned(),
            "-pair 2,'a',absent".to_owned(),
            "+uniq 1,2,'b'".to_owned(),
            "~uniq absent,2,absent > 9,2,Unchanged".to_owned(),
            "-uniq absent,2,absent".to_owned(),
            "+none 1,'x'".to_owned(),
            "~none 1,'x' > 2,'x'".to_owned(),
            "-none 2,'x'".to_owned(),
        ]
    );
    old_images(&world, [Some(&[0][..]), Some(&[0, 1]), Some(&[1]), None]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_noblob_image_lacks_only_long_values() {
    let (world, lines) = lines("NOBLOB", &["t", "pair", "uniq", "none"]).await;
    assert_eq!(
        lines,
        [
            "+t 1,5,NULL,'x',6,'u1'",
            "+t 2,NULL,'two','x',NULL,'u1'",
            "~t 1,5,absent,'x',6,'u1' > 1,7,Unchanged,'x',8,'u1'",
            "~t 1,7,absent,'x',8,'u1' > 1,7,'B','x',8,'u1'",
            "~t 1,7,absent,'x',8,'u1' > 10,7,Unchanged,NULL,8,'u1'",
            "-t 10,7,absent,NULL,8,'u1'",
            "~t 2,NULL,absent,'x',NULL,'u1' > 2,NULL,Unchanged,'dup',NULL,'u1'",
            "+pair 1,'a',NULL",
            "~pair 1,'a',absent > 1,'a','Z'",
            "~pair 1,'a',absent > 2,'a',Unchanged",
            "-pair 2,'a',absent",
            "+uniq 1,2,'b'",
            "~uniq 1,2,absent > 9,2,Unchanged",
            "-uniq 9,2,absent",
            "+none 1,'x'",
            "~none 1,'x' > 2,'x'",
            "-none 2,'x'",
        ]
    );
    let t = [0, 1, 3, 4, 5];
    old_images(&world, [Some(&t[..]), Some(&[0, 1]), Some(&[0, 1]), None]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_image_has_everything() {
    let (world, lines) = lines("FULL", &["t"]).await;
    assert!(
        !lines
            .iter()
            .any(|l| l.contains("bsent") || l.contains("nchanged"))
    );
    old_images(&world, [None; 4]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_value_that_stays_comes_once() {
    let world = World::new(&[]);
    world.sql("CREATE TABLE t (id INT PRIMARY KEY, a INT, b LONGBLOB, c LONGTEXT)");
    world.sql(
        "INSERT INTO t VALUES (1, 1, repeat(x'00ff', 50000), repeat('c', 100000)), \
         (2, 1, repeat(x'00ff', 30000), repeat('c', 60000))",
    );
    let start = world.here().await;
    world.sql(
        "UPDATE t SET a = 2; UPDATE t SET c = concat('d', substr(c, 2)) WHERE id = 1; \
         UPDATE t SET b = concat(b, x'00') WHERE id = 1; UPDATE t SET b = NULL WHERE id = 1",
    );
    let tables = world.tables(&["t"]).await;
    let mut images = Vec::new();
    let mut log = world.open(&start, &tables).await;
    while images.len() < 5 {
        let changes = log.part().await.unwrap().changes;
        for change in &changes.changes {
            let image = |row: Option<usize>| {
                let cells = changes.rows.row(row.unwrap()).cells();
                cells.map(|cell| match cell {
                    CellRef::Bytes(v) => v.len().to_string(),
                    CellRef::Text(v) => format!("{}{}", &v[..1], v.len()),
                    CellRef::Unchanged => "=".to_owned(),
                    CellRef::I64(v) => v.to_string(),
                    _ => "-".to_owned(),
                })
            };
            let (before, after) = (image(change.before), image(change.after));
            let row = before.zip(after).map(|(old, new)| format!("{old}>{new}"));
            images.push(row.collect::<Vec<_>>().join(" "));
        }
    }
    assert_eq!(
        images,
        [
            "1>1 1>2 100000>= c100000>=",
            "2>2 1>2 60000>60000 c60000>c60000",
            "1>1 2>2 100000>= c100000>d100000",
            "1>1 2>2 100000>100001 d100000>=",
            "1>1 2>2 100001>- d100000>=",
        ]
    );
}

/// What the schemas say of old values is what the log had.
async fn old_images(world: &World, want: [Option<&[usize]>; 4]) {
    let tables = world.tables(&["t", "pair", "uniq", "none"]).await;
    let got: Vec<_> = tables.iter().map(|t| t.old_image.as_deref()).collect();
    assert_eq!(got, want);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_insert_leaves_out_is_its_default() {
    let world = World::new(&["binlog_row_image=MINIMAL"]);
    let columns = [
        ("BIGINT", "-9", "-9"),
        (
            "BIGINT UNSIGNED",
            "18446744073709551615",
            "18446744073709551615",
        ),
        ("YEAR", "2020", "2020"),
        ("FLOAT", "1.5", "F32(1.5)"),
        ("DOUBLE", "-1e100", "F64(-1e100)"),
        (
            "DECIMAL(9,3)",
            "-1.5",
            "Decimal(Finite { negative: true, scale: 3, digits: [49, 53, 48, 48] })",
        ),
        ("VARCHAR(20)", "'it''s'", "'it's'"),
        ("VARCHAR(20) CHARACTER SET latin1", "'plain'", "'plain'"),
        ("VARCHAR(20) CHARACTER SET utf8mb4", "'é'", "'é'"),
        ("CHAR(20)", "'c  '", "'c'"),
        ("ENUM('a','b')", "'b'", "'b'"),
        ("SET('a','b','c')", "'a,c'", "'a,c'"),
        ("SET('a','b')", "''", "''"),
        ("BIT(10)", "b'1000000001'", "Bits(10, [128, 64])"),
        (
            "DATE",
            "'2020-02-29'",
            "Date(Date { year: 2020, month: 2, day: 29 })",
        ),
        ("TIME(3)", "'-100:00:01.5'", "Time(-360001500000)"),
        (
            "DATETIME(6)",
            "'2020-02-29 01:02:03.000004'",
            "Timestamp(Date { year: 2020, month: 2, day: 29 }, 3723000004)",
        ),
        (
            "TIMESTAMP(6) NOT NULL",
            "'2020-01-01 00:00:00.5'",
            "Instant(1577836800500000)",
        ),
        ("INT", "NULL", "NULL"),
    ];
    let list = |(i, (ty, default, _)): (usize, &(&str, &str, &str))| {
        format!("c{i} {ty} DEFAULT {default}")
    };
    let list: Vec<String> = columns.iter().enumerate().map(list).collect();
    world.sql(&format!(
        "SET time_zone = '+00:00'; CREATE TABLE d (id INT PRIMARY KEY, {})",
        list.join(", ")
    ));
    let start = world.here().await;
    world.sql("INSERT INTO d (id) VALUES (1)");
    let table = world.tables(&["d"]).await.remove(0);
    let want: Vec<&str> = columns.iter().map(|(_, _, want)| *want).collect();
    let want = format!("+d 1,{}", want.join(","));
    assert_eq!(world.changes(&start, &["d"]).await, [[want.clone()]]);
    // The snapshot reads the same row.
    let (rows, _) = world.read(&table).await;
    assert_eq!(format!("+d {}", super::world::text(rows.row(0))), want);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_default_that_cannot_be_told_stops_the_stream() {
    let world = World::new(&["binlog_row_image=MINIMAL"]);
    world.sql("CREATE TABLE d (id INT PRIMARY KEY, c VARBINARY(9) DEFAULT 0xFFFE)");
    let tables = world.tables(&["d"]).await;
    let start = world.here().await;
    world.sql("INSERT INTO d VALUES (1, 'x'); INSERT INTO d (id) VALUES (2)");
    let (seen, error) = world.stops(&start, &tables).await;
    assert_eq!(seen.len(), 1);
    says(
        &error,
        Kind::Config,
        &["shop.d.c", "default is not known", "binlog.000001:"],
    );
    assert!(error.hint().unwrap().contains("FULL"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_virtual_column_is_not_guessed() {
    let world = World::new(&["binlog_row_image=MINIMAL"]);
    world.sql("CREATE TABLE v (id INT PRIMARY KEY, a INT, g INT AS (a + 1) VIRTUAL)");
    let found = world.check(&["v"]).await;
    let codes: Vec<_> = found.iter().map(|f| (f.code, f.severity)).collect();
    let want = [
        ("binlog_row_image", Severity::Warning),
        ("virtual_column", Severity::Error),
    ];
    assert_eq!(codes, want);
    let tables = world.tables(&["v"]).await;
    let start = world.here().await;
    world.sql("INSERT INTO v (id, a) VALUES (1, 2)");
    let (_, error) = world.stops(&start, &tables).await;
    says(&error, Kind::Config, &["shop.v.g", "virtual"]);
    // With the setting of the finding the log has it.
    world.server.sql(&found[1].fix).unwrap();
    let found = world.source().check(&shop(&["v"])).await.unwrap();
    assert!(found.iter().all(|f| !f.refuses()));
    let start = world.here().await;
    world.sql("INSERT INTO v (id, a) VALUES (2, 2); UPDATE v SET a = 3 WHERE id = 2");
    let want = ["+v 2,2,3", "~v 2,2,3 > 2,3,4"].map(|l| vec![l.to_owned()]);
    assert_eq!(world.changes(&start, &["v"]).await, want);
}
