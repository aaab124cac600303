//! Each TLS mode against servers with and without TLS, with right and wrong certificates.

use thalweg_core::ports::{ClientCertificate, Connector, DataSourceConfig, TlsMode, TlsOptions};
use thalweg_core::secret::Secret;
use thalweg_core::{Kind, Result};
use thalweg_testkit::certificates::Authority;
use thalweg_testkit::servers::{Postgres, PostgresOptions};

use crate::world;

fn with_tls(authority: &Authority, name: &str) -> Postgres {
    with_files(authority.server_files(name).unwrap())
}

fn with_files(files: Vec<(String, Vec<u8>)>) -> Postgres {
    let lines = [
        "ssl = on",
        "ssl_cert_file = '{dir}/server.crt'",
        "ssl_key_file = '{dir}/server.key'",
        "ssl_ca_file = '{dir}/ca.crt'",
    ];
    Postgres::start(PostgresOptions {
        config: lines.map(str::to_owned).to_vec(),
        files,
        ..PostgresOptions::default()
    })
    .unwrap()
}

/// Connects; gives whether the server says that the connection is encrypted.
async fn encrypted(server: &Postgres, mode: TlsMode, ca: Option<&Authority>) -> Result<bool> {
    encrypted_as(server, None, mode, ca, None).await
}

async fn encrypted_as(
    server: &Postgres,
    user: Option<&str>,
    mode: TlsMode,
    ca: Option<&Authority>,
    client: Option<(String, String)>,
) -> Result<bool> {
    let config = DataSourceConfig {
        tls: TlsOptions {
            mode,
            ca_pem: ca.map(|ca| ca.pem().to_owned()),
            client: client.map(|(cert_pem, key_pem)| ClientCertificate {
                cert_pem,
                key_pem: Secret::new(key_pem),
            }),
        },
        user: user.unwrap_or(server.user()).to_owned(),
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

/// Each mode with each certificate; what is refused says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mode_with_every_certificate() {
    use TlsMode::{Off, Prefer, Require, VerifyCa, VerifyFull};
    let (ours, stranger) = (Authority::new().unwrap(), Authority::new().unwrap());
    let (good, expired) = (
        ours.server_files("127.0.0.1"),
        ours.expired_files("127.0.0.1"),
    );
    let other = ours.server_files("elsewhere.example");
    for (what, files, trusted, by_ca, by_all) in [
        ("good", good.unwrap(), &ours, None, None),
        (
            "expired",
            expired.unwrap(),
            &ours,
            Some("expired"),
            Some("expired"),
        ),
        (
            "wrong host",
            other.unwrap(),
            &ours,
            None,
            Some("another host name"),
        ),
        (
            "unknown authority",
            ours.server_files("127.0.0.1").unwrap(),
            &stranger,
            Some("not trusted"),
            Some("not trusted"),
        ),
    ] {
        let server = with_files(files);
        assert!(!encrypted(&server, Off, Some(trusted)).await.unwrap());
        for mode in [Prefer, Require] {
            assert!(
                encrypted(&server, mode, Some(trusted)).await.unwrap(),
                "{what} {mode:?}"
            );
        }
        for (mode, words) in [(VerifyCa, by_ca), (VerifyFull, by_all)] {
            match words {
                Some(words) => refused(&server, mode, Some(trusted), words).await,
                None => {
                    let encrypted = encrypted(&server, mode, Some(trusted)).await;
                    assert!(encrypted.unwrap(), "{what} {mode:?}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_asks_is_shown_a_certificate() {
    let (ours, stranger) = (Authority::new().unwrap(), Authority::new().unwrap());
    let server = with_tls(&ours, "127.0.0.1");
    server.sql("CREATE ROLE shown SUPERUSER LOGIN").unwrap();
    let rule = "hostssl all shown 127.0.0.1/32 trust clientcert=verify-ca";
    server.rule(rule).unwrap();
    let full = TlsMode::VerifyFull;
    let encrypted = async |client: Option<(String, String)>| {
        encrypted_as(&server, Some("shown"), full, Some(&ours), client).await
    };
    let shown = ours.client("shown").unwrap();
    assert!(encrypted(Some(shown.clone())).await.unwrap());
    assert!(encrypted(None).await.is_err(), "it has to be shown one");
    let strange = stranger.client("shown").unwrap();
    assert!(
        encrypted(Some(strange.clone())).await.is_err(),
        "of its authority"
    );
    let mixed = encrypted(Some((shown.0, strange.1))).await.unwrap_err();
    assert_eq!(mixed.kind(), Kind::Config, "{}", mixed.chain());
}
