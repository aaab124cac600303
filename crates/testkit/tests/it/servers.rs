//! The private servers: they start, answer, survive a kill with their data, and leave nothing.

use std::net::TcpStream;
use std::path::{Path, PathBuf};

use thalweg_testkit::servers::{MariaDb, MariaDbOptions, Postgres, PostgresOptions};

/// What must be gone after a server was dropped.
struct Traces {
    port: u16,
    pid: u32,
    data: PathBuf,
}

impl Traces {
    fn assert_gone(&self) {
        assert!(
            TcpStream::connect(("127.0.0.1", self.port)).is_err(),
            "the port still answers"
        );
        assert!(
            !Path::new(&format!("/proc/{}", self.pid)).exists(),
            "the process still lives"
        );
        assert!(!self.data.exists(), "the data directory is still there");
    }
}

#[test]
fn mariadb_keeps_committed_rows_over_kill_and_restart_and_leaves_nothing() {
    let server = MariaDb::start(MariaDbOptions {
        server_id: Some(77),
        gtid_domain_id: 5,
        config: vec![
            "binlog_row_metadata=FULL".into(),
            "max_connections=33".into(),
        ],
        ..MariaDbOptions::default()
    })
    .unwrap();
    assert_eq!(
        server
            .sql(
                "SELECT @@log_bin, @@binlog_format, @@binlog_row_image, @@server_id, \
                 @@gtid_domain_id, @@binlog_row_metadata, @@max_connections, @@sync_binlog"
            )
            .unwrap(),
        "1\tROW\tFULL\t77\t5\tFULL\t33\t0"
    );
    assert_eq!(
        server.sql("SELECT @@gtid_binlog_pos").unwrap(),
        "",
        "the log starts empty"
    );
    server
        .sql("CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY, s TEXT)")
        .unwrap();
    server
        .sql_in("shop", "INSERT INTO t VALUES (1, 'grün'), (2, NULL)")
        .unwrap();
    let port = server.port();
    let first = server.pid().unwrap();
    server.kill().unwrap();
    assert_eq!(server.pid(), None);
    assert!(TcpStream::connect((server.host(), port)).is_err());
    server.restart().unwrap();
    assert_ne!(server.pid().unwrap(), first);
    assert_eq!(server.port(), port);
    assert_eq!(
        server.sql("SELECT * FROM shop.t ORDER BY id").unwrap(),
        "1\tgrün\n2\tNULL"
    );
    assert_eq!(server.sql("SELECT @@gtid_binlog_pos").unwrap(), "5-77-3");
    server.stop().unwrap();
    server.restart().unwrap();
    let error = server
        .sql("SELECT 1; SELECT * FROM shop.missing; SELECT 2")
        .unwrap_err();
    assert!(error.to_string().contains("shop.missing"), "{error}");
    let traces = Traces {
        port,
        pid: server.pid().unwrap(),
        data: server.data_dir(),
    };
    drop(server);
    traces.assert_gone();
}

#[test]
fn postgres_keeps_committed_rows_over_kill_and_restart_and_leaves_nothing() {
    let server = Postgres::start(PostgresOptions {
        config: vec!["max_connections = 33".into()],
        ..PostgresOptions::default()
    })
    .unwrap();
    let settings = "SELECT string_agg(setting, ',' ORDER BY name) FROM pg_settings \
                    WHERE name IN ('fsync', 'max_connections', 'server_encoding', 'wal_level')";
    assert_eq!(server.sql(settings).unwrap(), "off,33,UTF8,logical");
    server.sql("CREATE DATABASE shop").unwrap();
    server
        .sql_in("shop", "CREATE TABLE t (id int PRIMARY KEY, s text)")
        .unwrap();
    server
        .sql_in("shop", "INSERT INTO t VALUES (1, 'grün'), (2, NULL)")
        .unwrap();
    let port = server.port();
    let first = server.pid().unwrap();
    server.kill().unwrap();
    assert_eq!(server.pid(), None);
    assert!(TcpStream::connect((server.host(), port)).is_err());
    server.restart().unwrap();
    assert_ne!(server.pid().unwrap(), first);
    assert_eq!(server.port(), port);
    assert_eq!(
        server
            .sql_in("shop", "SELECT * FROM t ORDER BY id")
            .unwrap(),
        "1\tgrün\n2\t"
    );
    server.stop().unwrap();
    server.restart().unwrap();
    let error = server
        .sql("SELECT 1; SELECT * FROM missing; SELECT 2")
        .unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
    let traces = Traces {
        port,
        pid: server.pid().unwrap(),
        data: server.data_dir(),
    };
    drop(server);
    traces.assert_gone();
}

#[test]
fn two_servers_of_a_kind_are_strangers() {
    let (one, two) = (
        Postgres::start(PostgresOptions::default()).unwrap(),
        Postgres::start(PostgresOptions::default()).unwrap(),
    );
    assert_ne!(one.port(), two.port());
    assert_ne!(one.password(), two.password());
    one.sql("CREATE TABLE only_here (id int)").unwrap();
    assert_eq!(
        two.sql("SELECT count(*) FROM pg_tables WHERE tablename = 'only_here'")
            .unwrap(),
        "0"
    );
}

#[test]
fn a_wrong_setting_is_told_with_the_servers_own_words() {
    let options = PostgresOptions {
        config: vec!["no_such_knob = 1".into()],
        ..Default::default()
    };
    let error = format!("{:#}", Postgres::start(options).unwrap_err());
    assert!(error.contains("no_such_knob"), "{error}");
    let options = MariaDbOptions {
        config: vec!["no_such_knob=1".into()],
        ..Default::default()
    };
    let error = format!("{:#}", MariaDb::start(options).unwrap_err());
    assert!(error.contains("no_such_knob"), "{error}");
}

#[test]
fn a_server_outlives_the_thread_that_started_it() {
    let start = || Postgres::start(PostgresOptions::default()).unwrap();
    let server = std::thread::spawn(start).join().unwrap();
    assert_eq!(server.sql("SELECT 1").unwrap(), "1");
    assert_eq!(server.sql("SELECT 2").unwrap(), "2");
}

#[test]
fn files_are_readable_by_the_server_alone() {
    let server = Postgres::start(PostgresOptions {
        config: vec!["include '{dir}/extra.conf'".into()],
        files: vec![("extra.conf".into(), b"work_mem = '7MB'\n".to_vec())],
        ..PostgresOptions::default()
    })
    .unwrap();
    assert_eq!(server.sql("SHOW work_mem").unwrap(), "7MB");
    let file = server.data_dir().parent().unwrap().join("extra.conf");
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(
        mode & 0o077,
        0,
        "keys and passwords are for the server's account only"
    );
}
