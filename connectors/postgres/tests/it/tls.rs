//! Each TLS mode against servers with and without TLS, with right and wrong certificates.

use thalweg_core::ports::{Connector, DataSourceConfig, TlsMode, TlsOptions};
use thalweg_core::{Kind, Result};
use thalweg_testkit::certificates::Authority;
use thalweg_testkit::servers::{Postgres, PostgresOptions};

use crate::world;

fn with_tls(authority: &Authority, name: &str) -> Postgres {
    let lines = [
        "ssl = on",
        "ssl_cert_file = '{dir}/server.crt'",
        "ssl_key_file = '{dir}/server.key'",
    ];
    Postgres::start(PostgresOptions {
        config: lines.map(str::to_owned).to_vec(),
        files: authority.server_files(name).unwrap(),
        ..PostgresOptions::default()
    })
    .unwrap()
}

/// Connects; gives whether the server says that the connection is encrypted.
async fn encrypted(server: &Postgres, mode: TlsMode, ca: Option<&Authority>) -> Result<bool> {
    let config = DataSourceConfig {
        tls: TlsOptions {
            mode,
            ca_pem: ca.map(|ca| ca.pem().to_owned()),
        },
        ..world::config(server)
    };
    let inspect = thalweg_postgres::connector().inspect(&config)?;
    inspect.probe().await?;
    let target = thalweg_postgres::connector().target(&config)?;
    let log = "SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
               WHERE s.ssl AND a.application_name LIKE 'thalweg/%'";
    let plan = world::one_table_at(target.as_ref());
    let key = thalweg_core::checkpoint::TaskKey {
        server: "s".into(),
        task: "t".into(),
    };
    target.prepare(&key, &plan).await?;
    let epoch = target.claim(&key).await?.epoch;
    let applier = target.open_applier(&key, epoch, plan).await?;
    let count = server.sql(log).unwrap();
    drop(applier);
    Ok(count != "0")
}

async fn refused(server: &Postgres, mode: TlsMode, ca: Option<&Authority>, words: &str) {
    let error = encrypted(server, mode, ca).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config, "{}", error.chain());
    assert!(error.message().contains(words), "{}", error.chain());
    assert!(error.hint().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_tls_is_spoken_to_in_it() {
    let (authority, stranger) = (Authority::new().unwrap(), Authority::new().unwrap());
    let server = with_tls(&authority, "127.0.0.1");
    assert!(!encrypted(&server, TlsMode::Off, None).await.unwrap());
    for mode in [TlsMode::Prefer, TlsMode::Require] {
        assert!(encrypted(&server, mode, None).await.unwrap(), "{mode:?}");
        // Who does not check does not mind.
        assert!(encrypted(&server, mode, Some(&stranger)).await.unwrap());
    }
    let full = TlsMode::VerifyFull;
    assert!(encrypted(&server, full, Some(&authority)).await.unwrap());
    refused(&server, full, Some(&stranger), "not trusted").await;
    refused(&server, full, None, "not trusted").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_for_another_host_is_refused() {
    let authority = Authority::new().unwrap();
    let server = with_tls(&authority, "elsewhere.example");
    let full = TlsMode::VerifyFull;
    refused(&server, full, Some(&authority), "another host name").await;
    let require = encrypted(&server, TlsMode::Require, Some(&authority)).await;
    assert!(require.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_refused_where_tls_was_asked_for() {
    let authority = Authority::new().unwrap();
    let server = Postgres::start(PostgresOptions::default()).unwrap();
    for mode in [TlsMode::Off, TlsMode::Prefer] {
        assert!(!encrypted(&server, mode, None).await.unwrap(), "{mode:?}");
    }
    for mode in [TlsMode::Require, TlsMode::VerifyFull] {
        refused(&server, mode, Some(&authority), "offers no TLS").await;
    }
}
