//! What a user meets when the source cannot be read: a kind and the exact fix.

use std::sync::Arc;
use std::time::Duration;

use thalweg_core::networks::Networks;
use thalweg_core::ports::{Chunk, Connector, DataSourceConfig, Source, StreamLimits, TlsOptions};
use thalweg_core::schema::TableName;
use thalweg_core::secret::Secret;
use thalweg_core::{Error, Kind, Side};
use thalweg_testkit::servers::{MariaDb, MariaDbOptions};

const LIMITS: StreamLimits = StreamLimits {
    part_bytes: 1 << 20,
    row_bytes_max: 1 << 20,
};

fn config(server: &MariaDb, user: &str, password: &str) -> DataSourceConfig {
    DataSourceConfig {
        host: server.host().to_owned(),
        port: server.port(),
        database: "shop".into(),
        user: user.to_owned(),
        password: Secret::new(password),
        tls: TlsOptions::default(),
        allow_cleartext_password: false,
        timeout: Duration::from_secs(10),
        server_id: None,
        application_name: "thalweg/test".into(),
        networks: std::sync::Arc::default(),
    }
}

fn start() -> MariaDb {
    let server = MariaDb::start(MariaDbOptions::default()).unwrap();
    let setup = "CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY); \
                 CREATE USER reader@'%' IDENTIFIED BY 'secret'";
    server.sql(setup).unwrap();
    server
}

fn source(config: &DataSourceConfig) -> Arc<dyn Source> {
    thalweg_mysql::connector().source(config).unwrap()
}

/// Kind and words of the hint.
fn says(error: &Error, kind: Kind, hint: &str) {
    assert_eq!(error.kind(), kind, "{}", error.chain());
    assert_eq!(error.side(), Some(Side::Source));
    let given = error.hint().unwrap_or_default();
    assert!(given.contains(hint), "{given:?} of {}", error.chain());
}

/// Nobody listens there, and nobody is asked.
#[tokio::test]
async fn an_address_that_is_not_allowed_is_not_connected_to() {
    let nobody = DataSourceConfig {
        host: "localhost".into(),
        port: 1,
        database: String::new(),
        user: "root".into(),
        password: Secret::new(""),
        tls: TlsOptions::default(),
        allow_cleartext_password: false,
        timeout: Duration::from_secs(10),
        server_id: None,
        application_name: String::new(),
        networks: Arc::new(Networks::new(&[], &["127.0.0.0/8", "::1"]).unwrap()),
    };
    let connector = thalweg_mysql::connector();
    let (source, target) = (connector.source(&nobody), connector.target(&nobody));
    let inspect = connector.inspect(&nobody).unwrap();
    for asked in [
        inspect.probe().await,
        source.unwrap().secure(&[]).await.map(drop),
        target.unwrap().probe().await,
    ] {
        let error = asked.unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{}", error.chain());
        assert!(
            error.chain().contains("may not lie at"),
            "{}",
            error.chain()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_connect_is_told_why() {
    let server = start();
    let good = config(&server, "root", server.password());
    let probe = async |config: DataSourceConfig| source(&config).probe().await;
    probe(good.clone()).await.unwrap();
    let wrong = config(&server, "reader", "guessed");
    let error = probe(wrong).await.unwrap_err();
    says(
        &error,
        Kind::Config,
        "ALTER USER 'reader'@'%' IDENTIFIED BY",
    );
    assert!(!error.chain().contains("guessed"));
    let error = probe(config(&server, "reader", "secret")).await;
    let grant = "GRANT SELECT ON `shop`.* TO 'reader'@'%'";
    says(&error.unwrap_err(), Kind::Config, grant);
    let mut lost = good.clone();
    lost.database = "lost`one".into();
    let error = probe(lost).await.unwrap_err();
    says(&error, Kind::Config, "CREATE DATABASE `lost``one`");
    let mut nobody = good;
    nobody.port = 1;
    let error = probe(nobody).await.unwrap_err();
    says(&error, Kind::Transient, "start the server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_right_is_named_as_the_statement_that_gives_it() {
    let server = start();
    let all = source(&config(&server, "root", server.password()));
    let from = all.secure(&[]).await.unwrap();
    let tables = all.describe(&[TableName::new("shop", "t")]).await.unwrap();
    server.sql("GRANT INSERT ON shop.t TO reader@'%'").unwrap();
    let limited = source(&config(&server, "reader", "secret"));
    let grant = |error: &Error| {
        let hint = error.hint().unwrap();
        hint.trim_start_matches("on the server: ").to_owned()
    };

    let error = limited.head().await.unwrap_err();
    says(
        &error,
        Kind::Config,
        "GRANT BINLOG MONITOR ON *.* TO 'reader'@'%'",
    );
    server.sql(&grant(&error)).unwrap();
    limited.head().await.unwrap();

    let chunk = Chunk {
        table: 0,
        schema: tables[0].clone(),
        range: None,
        empty: false,
    };
    let error = limited.read(&chunk, &from, LIMITS).await.err().unwrap();
    says(
        &error,
        Kind::Config,
        "GRANT SELECT ON `shop`.`t` TO 'reader'@'%'",
    );
    server.sql(&grant(&error)).unwrap();
    limited.read(&chunk, &from, LIMITS).await.unwrap();

    // The server says so when the stream is opened, or with its first event.
    let streamed = async || match limited.stream(&from, &tables, LIMITS).await {
        Ok((mut stream, _)) => stream.next().await.map(drop),
        Err(error) => Err(error),
    };
    let error = streamed().await.unwrap_err();
    says(&error, Kind::Config, "GRANT REPLICATION SLAVE");
    server
        .sql("GRANT REPLICATION SLAVE ON *.* TO reader@'%'; INSERT INTO shop.t VALUES (1)")
        .unwrap();
    streamed().await.unwrap();
}
