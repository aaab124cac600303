//! What a user meets when the target cannot be written: a kind and the exact fix.

use std::sync::Arc;
use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use thalweg_core::batch::{ApplyBatch, FoldedTable, Net, RowOp};
use thalweg_core::mapping::{ExistingRows, ForeignKeys, TaskOptions};
use thalweg_core::plan::{Cascade, Plan};
use thalweg_core::ports::{Connector, DataSourceConfig};
use thalweg_core::schema::{ColumnType, ReferenceAction, TableName};
use thalweg_core::secret::Secret;
use thalweg_core::value::{CellRef, RowBatch};
use thalweg_core::{Kind, Result};

use crate::target_world::{
    Goal, at, column, int, load_whole, ordered, pair, plan_at, row, says, source, two_columns,
};

/// Makes a good configuration bad.
type Change = fn(&mut DataSourceConfig);

fn inserts(ids: std::ops::Range<i64>, bulk: bool) -> ApplyBatch {
    let mut batch = ApplyBatch {
        position: at(1),
        ..ApplyBatch::default()
    };
    let inserts: Vec<usize> = ids.map(|id| pair(&mut batch.rows, id, id)).collect();
    let ops: Vec<RowOp> = inserts.iter().map(|&row| RowOp::Insert(row)).collect();
    batch.ordered = ordered(&ops);
    batch.folded = bulk.then(|| {
        vec![Net::Folded(FoldedTable {
            inserts,
            ..FoldedTable::default()
        })]
    });
    batch
}

/// Prepares as the superuser, does `harm`, and applies rows as `user`.
async fn apply_after(goal: &Goal, harm: &str, user: Option<(&str, &str)>) -> Result<()> {
    let plan = goal.plan(vec![two_columns(&[])]);
    let epoch = goal.claim(&plan).await.epoch;
    goal.sql(harm);
    let target = match user {
        Some((name, password)) => goal.target_as(name, password),
        None => Arc::clone(&goal.target),
    };
    let mut applier = target.open_applier(&goal.key, epoch, plan).await?;
    applier.apply(&inserts(0..3, false)).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_connect_is_told_why() {
    let goal = Goal::new();
    goal.sql("CREATE USER loader@'%' IDENTIFIED BY 'secret'; GRANT ALL ON shop.* TO loader@'%'");
    let good = goal.world.config();
    let try_it = async |change: Change| {
        let mut config = good.clone();
        config.user = "loader".into();
        config.password = Secret::new("secret");
        change(&mut config);
        let target = thalweg_mysql::connector().target(&config).unwrap();
        target.probe().await
    };
    try_it(|_| ()).await.unwrap();
    let cases: [(Change, Kind, &str, &str); 4] = [
        (
            |c| c.user = "stranger".into(),
            Kind::Config,
            "1045",
            "ALTER USER 'stranger'@'%'",
        ),
        (
            |c| c.database = "mysql".into(),
            Kind::Config,
            "1044",
            "GRANT SELECT ON `mysql`.* TO 'loader'@'%'",
        ),
        (
            |c| {
                c.database = "lost".into();
                c.user = "root".into();
                c.password = Secret::new("x");
            },
            Kind::Config,
            "1045",
            "correct the data source's user and password",
        ),
        (
            |c| c.port = 1,
            Kind::Transient,
            "connection failed",
            "start the server",
        ),
    ];
    for (change, kind, message, hint) in cases {
        says(&try_it(change).await.unwrap_err(), kind, message, hint);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_takes_no_writes_is_told() {
    let goal = Goal::new();
    goal.sql("CREATE USER loader@'%' IDENTIFIED BY 'secret'; GRANT ALL ON *.* TO loader@'%'; REVOKE READ_ONLY ADMIN, SUPER ON *.* FROM loader@'%'");
    let user = Some(("loader", "secret"));
    let error = apply_after(&goal, "SET GLOBAL read_only = 1", user).await;
    says(&error.unwrap_err(), Kind::Config, "1290", "read_only = OFF");
    let limited = goal.target_as("loader", "secret");
    let error = limited.claim(&goal.key).await.unwrap_err();
    says(&error, Kind::Config, "1290", "connect to the primary");
    let plan = goal.plan(vec![two_columns(&[])]);
    let codes = async |target: &dyn thalweg_core::ports::Target| {
        let findings = target.check(&goal.key, &plan).await.unwrap();
        findings.iter().map(|f| f.code).collect::<Vec<_>>()
    };
    assert_eq!(codes(limited.as_ref()).await, ["read_only"]);
    assert_eq!(codes(goal.target.as_ref()).await, [""; 0], "root may");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_right_is_named_as_the_statement_that_gives_it() {
    let goal = Goal::new();
    goal.sql("CREATE USER loader@'%' IDENTIFIED BY 'secret'; GRANT USAGE ON *.* TO loader@'%'");
    let user = Some(("loader", "secret"));
    let checkpoint = "GRANT ALL ON thalweg.* TO loader@'%'; GRANT SELECT ON shop.* TO loader@'%'";
    let error = apply_after(&goal, checkpoint, user).await.unwrap_err();
    let grant = "GRANT SELECT, INSERT, UPDATE, DELETE ON `shop`.`t` TO 'loader'@'%'";
    says(&error, Kind::Config, "1142", grant);
    let plan = goal.plan_into(&["t"], TaskOptions::default()).await;
    let limited = goal.target_as("loader", "secret");
    let findings = limited.check(&goal.key, &plan).await.unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].fix, grant);
    let epoch = goal.claim(&plan).await.epoch;
    let loader = limited
        .open_loader(&goal.key, epoch, Arc::clone(&plan))
        .await;
    let loaded = load_whole(loader.unwrap().as_mut(), &plan, 0, &RowBatch::new(), "1").await;
    says(&loaded.unwrap_err(), Kind::Config, "1142", grant);
    goal.sql(grant);
    assert_eq!(limited.check(&goal.key, &plan).await.unwrap(), []);
    apply_after(&goal, "DO 0", user).await.unwrap();
    // What foreign keys change is worked out in temporary tables.
    let mut followed = Plan::clone(&plan);
    followed.cascades = vec![Cascade {
        parent: 0,
        parent_columns: vec![0],
        child: 0,
        columns: vec![1],
        on_delete: ReferenceAction::Cascade,
        on_update: ReferenceAction::Refuse,
        derived: true,
        enforced: false,
        logged: false,
    }];
    goal.sql("DELETE FROM shop.t");
    let findings = limited.check(&goal.key, &followed).await.unwrap();
    let grant = "GRANT CREATE TEMPORARY TABLES ON `shop`.* TO 'loader'@'%'";
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].fix, grant);
    goal.sql(grant);
    assert_eq!(limited.check(&goal.key, &followed).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_may_create_nothing_is_told_by_the_check_and_by_the_start() {
    let goal = Goal::new();
    goal.sql("CREATE USER loader@'%' IDENTIFIED BY 'secret'; GRANT SELECT ON shop.* TO loader@'%'");
    let limited = goal.target_as("loader", "secret");
    let plan = plan_at(limited.as_ref(), vec![two_columns(&[])]);
    let findings = limited.check(&goal.key, &plan).await.unwrap();
    let codes: Vec<_> = findings.iter().map(|f| f.code).collect();
    assert_eq!(codes, ["create_database", "privileges"]);
    let error = limited.prepare(&goal.key, &plan).await.unwrap_err();
    says(&error, Kind::Config, "1044", "GRANT ALL ON thalweg.*");
    goal.sql(&findings[0].fix);
    let grant = "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, REFERENCES, CREATE \
                 TEMPORARY TABLES ON `shop`.* TO 'loader'@'%'";
    let error = limited.prepare(&goal.key, &plan).await.unwrap_err();
    says(&error, Kind::Config, "1142", grant);
    assert_eq!(findings[1].fix, grant);
    goal.sql(grant);
    limited.prepare(&goal.key, &plan).await.unwrap();
    let epoch = limited.claim(&goal.key).await.unwrap().epoch;
    let unique = plan_at(limited.as_ref(), vec![two_columns(&[1])]);
    let applier = limited.open_applier(&goal.key, epoch, unique).await;
    // All that was granted is enough to go Live.
    applier.unwrap().go_live().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_target_table_must_not_be_is_found() {
    let goal = Goal::new();
    goal.sql(
        "CREATE TABLE isam (id bigint PRIMARY KEY) ENGINE = MyISAM; \
         CREATE TABLE full (id bigint PRIMARY KEY); INSERT INTO full VALUES (1); \
         CREATE TABLE busy (id bigint PRIMARY KEY); \
         CREATE TRIGGER busy BEFORE INSERT ON busy FOR EACH ROW SET @a = 1; \
         CREATE TABLE child (id bigint PRIMARY KEY, \
           FOREIGN KEY (id) REFERENCES busy (id) ON DELETE CASCADE); \
         CREATE TABLE kid (id bigint PRIMARY KEY, FOREIGN KEY (id) REFERENCES full (id)); \
         CREATE TABLE folds (id varchar(9) COLLATE utf8mb4_general_ci PRIMARY KEY); \
         CREATE TABLE pads (id varchar(9) COLLATE utf8mb4_bin PRIMARY KEY); \
         CREATE TABLE exact (id varchar(9) COLLATE utf8mb4_nopad_bin PRIMARY KEY)",
    );
    let found = async |name: &str, options: TaskOptions, exact_source: bool| {
        let plan = goal.plan_into(&[name], options).await;
        let mut plan = Plan::clone(&plan);
        if exact_source {
            plan.sources[0].schema.columns[0].folds = false;
        }
        let findings = goal.target.check(&goal.key, &plan).await.unwrap();
        let code = |f: &thalweg_core::finding::Finding| {
            assert!(!f.fix.is_empty() && f.subject.contains(name), "{f:?}");
            format!("{} {}", f.severity.as_str(), f.code)
        };
        findings.iter().map(code).collect::<Vec<_>>().join(", ")
    };
    let none = TaskOptions::default;
    assert_eq!(found("isam", none(), true).await, "error engine");
    assert_eq!(found("full", none(), true).await, "error rows_exist");
    let replace = TaskOptions {
        existing_rows: ExistingRows::Replace,
        ..none()
    };
    assert_eq!(found("full", replace, true).await, "");
    let both = "warning triggers, warning cascades";
    assert_eq!(found("busy", none(), true).await, both);
    let replica = || TaskOptions {
        foreign_keys: ForeignKeys::Replica,
        ..none()
    };
    assert_eq!(found("busy", replica(), true).await, "warning triggers");
    assert_eq!(found("folds", none(), true).await, "error key_folds");
    assert_eq!(found("folds", none(), false).await, "warning key_folds");
    assert_eq!(found("pads", none(), true).await, "warning key_folds");
    assert_eq!(found("exact", none(), true).await, "");
    // Tables of the task that reference each other cannot be loaded apart.
    let family = goal.plan_into(&["kid", "full"], none()).await;
    let findings = goal.target.check(&goal.key, &family).await.unwrap();
    assert!(findings.iter().any(|f| f.code == "foreign_key_during_load"));
    let family = goal.plan_into(&["kid", "full"], replica()).await;
    let findings = goal.target.check(&goal.key, &family).await.unwrap();
    assert!(!findings.iter().any(|f| f.code == "foreign_key_during_load"));
    // Which of them take rows of several moments.
    assert_eq!(goal.target.loose(&family).await.unwrap(), [true, true]);
    let family = goal.plan_into(&["kid", "full"], none()).await;
    assert_eq!(goal.target.loose(&family).await.unwrap(), [false, false]);
    goal.sql(
        "CREATE TABLE one (id bigint PRIMARY KEY, v bigint, KEY (v), UNIQUE (v, id)); \
         CREATE TABLE two (id bigint PRIMARY KEY, v bigint, UNIQUE (v)); \
         CREATE TABLE none (id bigint)",
    );
    let tables = goal.plan_into(&["one", "two", "none"], none()).await;
    let loose = goal.target.loose(&tables).await.unwrap();
    let names = tables.targets.iter().map(|t| t.name.name.as_str());
    let loose: Vec<_> = names.zip(loose).filter(|(_, loose)| *loose).collect();
    assert_eq!(loose, [("one", true)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_dropped_while_streaming_stops_the_task() {
    let goal = Goal::new();
    let plan = goal.plan(vec![two_columns(&[])]);
    for bulk in [false, true] {
        let mut applier = goal.applier(&plan).await;
        applier.apply(&inserts(0..100, bulk)).await.unwrap();
        goal.sql("DROP TABLE t");
        let error = applier.apply(&inserts(200..300, bulk)).await.unwrap_err();
        says(
            &error,
            Kind::Schema,
            "1146",
            "create the target table again",
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_the_target_refuses_is_named_without_its_value() {
    let goal = Goal::new();
    let secret = 987_654_321;
    let cases = [
        (
            "ALTER TABLE t ADD CONSTRAINT small CHECK (v < 2)",
            "4025, constraint small",
        ),
        ("ALTER TABLE t MODIFY v tinyint", "1264, column v"),
        ("ALTER TABLE t MODIFY v varchar(3)", "1406, column v"),
        ("ALTER TABLE t MODIFY v enum('a')", "1265, column v"),
        ("ALTER TABLE t MODIFY v date", "1292, column v"),
        ("ALTER TABLE t ADD w int NOT NULL", "1364, column w"),
        (
            "ALTER TABLE t ADD UNIQUE odd (v); INSERT INTO t VALUES (-1, 987654321)",
            "1062, key odd",
        ),
        (
            "CREATE TABLE p (id bigint PRIMARY KEY); \
             ALTER TABLE t ADD CONSTRAINT of FOREIGN KEY (v) REFERENCES p (id)",
            "1452, constraint of",
        ),
    ];
    for (harm, place) in cases {
        let plan = goal.plan(vec![two_columns(&[])]);
        let mut applier = goal.applier(&plan).await;
        goal.sql(harm);
        let mut batch = inserts(0..1, false);
        batch.rows.clear();
        pair(&mut batch.rows, 5, secret);
        let error = applier.apply(&batch).await.unwrap_err();
        let message = format!("a row of shop.t ({place})");
        says(&error, Kind::Data, &message, " ");
        drop(applier);
        let mut loader = goal.loader(&plan).await;
        loader.begin(0, 0).await.unwrap();
        let error = loader.load(&batch.rows).await.unwrap_err();
        says(&error, Kind::Data, &message, " ");
        assert!(!error.chain().contains("987654321"), "{}", error.chain());
        drop(loader);
        goal.sql("SET foreign_key_checks = 0; DROP TABLE IF EXISTS t, p");
    }
}

/// Values that look like the words around them do not mislead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_does_not_come_out_as_a_name() {
    let goal = Goal::new();
    goal.sql("CREATE TABLE t (id bigint PRIMARY KEY, s varchar(60) UNIQUE, d date)");
    let plan = goal.plan_into(&["t"], TaskOptions::default()).await;
    let mut batch = ApplyBatch {
        position: at(1),
        ..ApplyBatch::default()
    };
    let value = CellRef::Text("' for key 'secret");
    let first = row(&mut batch.rows, &[CellRef::I64(1), value, CellRef::Null]);
    let second = row(&mut batch.rows, &[CellRef::I64(2), value, CellRef::Null]);
    batch.ordered = ordered(&[RowOp::Insert(first), RowOp::Insert(second)]);
    let mut applier = goal.applier(&plan).await;
    let error = applier.apply(&batch).await.unwrap_err();
    says(
        &error,
        Kind::Data,
        "a row of shop.t (1062, key s)",
        "unique",
    );
    assert!(!error.chain().contains("secret"), "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_above_the_servers_packet_is_told_before_it_is_sent() {
    let goal = Goal::with(&["max_allowed_packet=1M"]);
    let text = ColumnType::Text { max_chars: None };
    let plan = goal.plan(vec![source(
        "t",
        vec![column("id", int()), column("s", text)],
        &[],
    )]);
    let apply = async |bytes: usize, count: i64| {
        let mut batch = ApplyBatch {
            position: at(1),
            ..ApplyBatch::default()
        };
        let value = "x".repeat(bytes);
        let inserts: Vec<usize> = (0..count)
            .map(|id| row(&mut batch.rows, &[CellRef::I64(id), CellRef::Text(&value)]))
            .collect();
        let ops: Vec<RowOp> = inserts.iter().map(|&row| RowOp::Insert(row)).collect();
        batch.ordered = ordered(&ops);
        batch.folded = Some(vec![Net::Folded(FoldedTable {
            inserts,
            ..FoldedTable::default()
        })]);
        let mut applier = goal.applier(&plan).await;
        let applied = applier.apply(&batch).await;
        drop(applier);
        let sum = goal.sql("SELECT concat(count(*), ' ', coalesce(sum(length(s)), 0)) FROM t");
        goal.sql("DELETE FROM t");
        (applied, sum)
    };
    // Many rows that fit only apart from each other, and one that fills a packet.
    let (applied, sum) = apply(600_000, 20).await;
    applied.unwrap();
    assert_eq!(sum, "20 12000000");
    apply(1_040_000, 1).await.0.unwrap();
    let (error, sum) = apply(1_100_000, 12).await;
    let fix = "SET GLOBAL max_allowed_packet = 2097152";
    says(
        &error.unwrap_err(),
        Kind::Data,
        "a row of shop.t takes 1100",
        fix,
    );
    assert_eq!(sum, "0 0");
    goal.sql(fix);
    apply(1_100_000, 12).await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_of_others_are_waited_for_and_then_told() {
    let goal = Goal::with(&["innodb_lock_wait_timeout=50"]);
    let plan = goal.plan(vec![two_columns(&[])]);
    let mut applier = goal.applier(&plan).await;
    applier.apply(&inserts(0..3, false)).await.unwrap();
    let config = goal.world.config();
    let opts = mysql_async::OptsBuilder::default()
        .ip_or_hostname(config.host.clone())
        .tcp_port(config.port)
        .user(Some(config.user.clone()))
        .pass(Some(goal.world.server.password().to_owned()))
        .db_name(Some("shop"));
    let mut other = mysql_async::Conn::new(opts).await.unwrap();
    other.query_drop("BEGIN").await.unwrap();
    other
        .query_drop("SELECT * FROM t WHERE id = 1 FOR UPDATE")
        .await
        .unwrap();
    let mut update = inserts(1..2, false);
    let row = pair(&mut update.rows, 1, 9);
    update.ordered = ordered(&[RowOp::Update {
        before: row,
        after: row,
    }]);
    // While the other holds its lock the change waits, and goes on when it is let go.
    let wait = tokio::time::timeout(Duration::from_millis(500), applier.apply(&update)).await;
    assert!(wait.is_err(), "it waits");
    drop(applier);
    let mut applier = goal.applier(&plan).await;
    let release = async {
        let waiting = "SELECT count(*) FROM information_schema.innodb_trx \
                       WHERE trx_state = 'LOCK WAIT'";
        while goal.sql(waiting) == "0" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        other.query_drop("COMMIT").await.unwrap();
    };
    let (applied, ()) = tokio::join!(applier.apply(&update), release);
    applied.unwrap();
    assert_eq!(goal.sql("SELECT v FROM t WHERE id = 1"), "9");
    // A server that ends the session, or is gone.
    let kill = "SELECT group_concat(concat('KILL ', id) SEPARATOR ';') FROM \
                information_schema.processlist WHERE db = 'shop' AND id <> connection_id()";
    let kill = goal.sql(kill);
    goal.sql(&kill);
    let error = applier.apply(&inserts(5..6, false)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Transient, "{}", error.chain());
}

/// Two tasks whose changes meet crosswise: one of them is told to try again, nothing is half done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_transient() {
    let goal = Goal::new();
    let plan = goal.plan(vec![two_columns(&[])]);
    let mut first = goal.applier(&plan).await;
    first.apply(&inserts(0..2, false)).await.unwrap();
    let mut key = goal.key.clone();
    key.task = "other".into();
    goal.target.prepare(&key, &plan).await.unwrap();
    let epoch = goal.target.claim(&key).await.unwrap().epoch;
    let second = goal
        .target
        .open_applier(&key, epoch, Arc::clone(&plan))
        .await;
    let mut second = second.unwrap();
    let change = |id: i64| {
        let mut batch = inserts(id..id + 1, false);
        let (old, new) = (pair(&mut batch.rows, id, id), pair(&mut batch.rows, id, 7));
        batch.ordered = ordered(&[RowOp::Update {
            before: old,
            after: new,
        }]);
        batch.position = None;
        batch
    };
    first.apply(&change(0)).await.unwrap();
    second.apply(&change(1)).await.unwrap();
    let (change0, change1) = (change(0), change(1));
    let (a, b) = tokio::join!(first.apply(&change1), second.apply(&change0));
    let error = match (a, b) {
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => error,
        other => panic!("one gives way: {other:?}"),
    };
    says(&error, Kind::Transient, "1213", "");
}

/// A server that greets, lets in, and answers the first statement by asking for a file. Gives what it
/// is sent after that.
async fn asks_for_a_file(listener: tokio::net::TcpListener) -> Vec<u8> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (mut socket, _) = listener.accept().await.unwrap();
    let packet = |number: u8, body: &[u8]| {
        let len = u32::try_from(body.len()).unwrap().to_le_bytes();
        [&len[..3], &[number], body].concat()
    };
    let mut greeting = b"\x0a10.11.0-MariaDB\0\x01\0\0\0abcdefgh\0".to_vec();
    // Protocol 4.1, secure connections, plugins, LOCAL INFILE, many statements.
    let capabilities: u32 = 0x1 | 0x8 | 0x80 | 0x200 | 0x8000 | 0x1_0000 | 0x2_0000 | 0x8_0000;
    let [a, b, c, d] = capabilities.to_le_bytes();
    greeting.extend([a, b, 45, 2, 0, c, d, 21]);
    greeting.extend([0; 10]);
    greeting.extend(b"ijklmnopqrst\0mysql_native_password\0");
    socket.write_all(&packet(0, &greeting)).await.unwrap();
    let mut buffer = vec![0; 1 << 16];
    assert!(socket.read(&mut buffer).await.unwrap() > 0, "a login");
    let ok = packet(2, &[0, 0, 0, 2, 0, 0, 0]);
    socket.write_all(&ok).await.unwrap();
    assert!(socket.read(&mut buffer).await.unwrap() > 4, "a statement");
    let ask = packet(1, b"\xfb/etc/passwd");
    socket.write_all(&ask).await.unwrap();
    let mut sent = Vec::new();
    // An empty packet ends a file, so one is all that may come.
    while let Ok(count @ 1..) = socket.read(&mut buffer).await {
        sent.extend_from_slice(&buffer[..count]);
        let refused = packet(3, b"\xff\x10\x04#HY000no file");
        if socket.write_all(&refused).await.is_err() {
            break;
        }
    }
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_asks_for_a_file_gets_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = DataSourceConfig {
        host: "127.0.0.1".into(),
        port: listener.local_addr().unwrap().port(),
        database: String::new(),
        user: "u".into(),
        password: Secret::new(""),
        tls: thalweg_core::ports::TlsOptions {
            mode: thalweg_core::ports::TlsMode::Off,
            ..thalweg_core::ports::TlsOptions::default()
        },
        allow_cleartext_password: false,
        timeout: Duration::from_secs(5),
        server_id: None,
        application_name: "thalweg/test".into(),
        networks: std::sync::Arc::default(),
    };
    let target = thalweg_mysql::connector().target(&config).unwrap();
    let ask = async {
        let outcome = target.probe().await;
        drop(target);
        outcome
    };
    let (outcome, sent) = tokio::join!(ask, asks_for_a_file(listener));
    outcome.unwrap_err();
    let file = std::fs::read("/etc/passwd").unwrap();
    assert!(!file.is_empty() && sent.len() < 64, "{} bytes", sent.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_with_quotes_and_dots_and_hundreds_of_columns() {
    let goal = Goal::new();
    let mut columns = vec![column("id", int())];
    for n in 0..400 {
        let ty = match n % 4 {
            0 => ColumnType::Text { max_chars: None },
            1 => ColumnType::Text {
                max_chars: Some(255),
            },
            2 => int(),
            _ => ColumnType::Bytes { max_bytes: None },
        };
        columns.push(column(&format!("c{n} `'\".-#ü"), ty));
    }
    let name = "t `'\".-#ü";
    let plan = goal.plan(vec![source(name, columns.clone(), &[])]);
    let mut applier = goal.applier(&plan).await;
    let mut batch = ApplyBatch {
        position: at(1),
        ..ApplyBatch::default()
    };
    let mut cells = vec![CellRef::I64(1)];
    for n in 0..400 {
        cells.push(match n % 4 {
            0 | 1 => CellRef::Text("it's"),
            2 => CellRef::I64(n),
            _ => CellRef::Bytes(b"\0'\\"),
        });
    }
    let new = row(&mut batch.rows, &cells);
    batch.ordered = ordered(&[RowOp::Insert(new)]);
    applier.apply(&batch).await.unwrap();
    let quoted = format!("`{}`", name.replace('`', "``"));
    let sum = format!(
        "SELECT concat(count(*), ' ', sum(`c398 ``'\".-#ü`), ' ', hex(max(`c399 ``'\".-#ü`))) FROM {quoted}"
    );
    assert_eq!(goal.sql(&sum), "1 398 00275C");
    let described = goal.target.describe(&[TableName::new("shop", name)]).await;
    assert_eq!(described.unwrap()[0].columns.len(), 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_sources_of_a_table_take_the_right_to_temporary_tables() {
    let goal = Goal::new();
    goal.sql(
        "CREATE TABLE t (id bigint PRIMARY KEY, v bigint); \
         CREATE USER loader@'%' IDENTIFIED BY 'secret'; GRANT ALL ON shop.* TO loader@'%'; \
         GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP ON thalweg.* TO loader@'%'",
    );
    let plan = goal.plan_into(&["t"], TaskOptions::default()).await;
    let mut plan = Plan::clone(&plan);
    let feed = plan.targets[0].feeds[0].clone();
    plan.targets[0].feeds.push(feed);
    let plan = Arc::new(plan);
    let limited = goal.target_as("loader", "secret");
    let findings = limited.check(&goal.key, &plan).await.unwrap();
    let codes: Vec<_> = findings.iter().map(|f| f.code).collect();
    assert_eq!(codes, ["create_temporary_tables"]);
    limited.prepare(&goal.key, &plan).await.unwrap();
    let epoch = limited.claim(&goal.key).await.unwrap().epoch;
    let open = async || {
        let opened = limited.open_applier(&goal.key, epoch, Arc::clone(&plan));
        opened.await.map(drop)
    };
    let grant = "GRANT CREATE TEMPORARY TABLES ON `thalweg`.* TO ";
    says(&open().await.unwrap_err(), Kind::Config, "1044", grant);
    assert_eq!(findings[0].fix, format!("{grant}'loader'@'%'"));
    goal.sql(&findings[0].fix);
    open().await.unwrap();
    assert_eq!(limited.check(&goal.key, &plan).await.unwrap(), []);
}
