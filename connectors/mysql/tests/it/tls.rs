//! Each TLS mode against servers with and without TLS, with right and wrong certificates.

use std::time::Duration;

use thalweg_core::ports::{ClientCertificate, Connector, DataSourceConfig, TlsMode, TlsOptions};
use thalweg_core::secret::Secret;
use thalweg_core::{Kind, Result};
use thalweg_testkit::certificates::Authority;
use thalweg_testkit::servers::{MariaDb, MariaDbOptions};

/// A user that may log in with TLS only.
const TLS_USER: &str = "CREATE USER safe@'%' IDENTIFIED BY 'secret' REQUIRE SSL; \
                        CREATE USER shown@'%' IDENTIFIED BY 'secret' REQUIRE X509; \
                        CREATE USER any@'%' IDENTIFIED BY 'secret'";

fn start(files: Vec<(String, Vec<u8>)>) -> MariaDb {
    let lines = [
        "ssl_cert={dir}/server.crt",
        "ssl_key={dir}/server.key",
        "ssl_ca={dir}/ca.crt",
    ];
    let tls = !files.is_empty();
    let server = MariaDb::start(MariaDbOptions {
        config: lines
            .iter()
            .filter(|_| tls)
            .map(|&line| line.to_owned())
            .collect(),
        files,
        ..MariaDbOptions::default()
    });
    let server = server.unwrap();
    server.sql(TLS_USER).unwrap();
    server
}

async fn connects(
    server: &MariaDb,
    user: &str,
    mode: TlsMode,
    ca: Option<&Authority>,
) -> Result<()> {
    connects_as(server, user, mode, ca, None).await
}

async fn connects_as(
    server: &MariaDb,
    user: &str,
    mode: TlsMode,
    ca: Option<&Authority>,
    client: Option<(String, String)>,
) -> Result<()> {
    let config = DataSourceConfig {
        host: server.host().to_owned(),
        port: server.port(),
        database: String::new(),
        user: user.to_owned(),
        password: Secret::new("secret"),
        tls: TlsOptions {
            mode,
            ca_pem: ca.map(|ca| ca.pem().to_owned()),
            client: client.map(|(cert_pem, key_pem)| ClientCertificate {
                cert_pem,
                key_pem: Secret::new(key_pem),
            }),
        },
        allow_cleartext_password: false,
        timeout: Duration::from_secs(10),
        server_id: None,
        application_name: "thalweg/test".into(),
        networks: std::sync::Arc::default(),
    };
    thalweg_mysql::connector().inspect(&config)?.probe().await
}

async fn refused(server: &MariaDb, mode: TlsMode, ca: Option<&Authority>, words: &str) {
    let error = connects(server, "any", mode, ca).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config, "{}", error.chain());
    assert!(error.message().contains(words), "{}", error.chain());
    assert!(error.hint().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_tls_is_spoken_to_in_it() {
    let (authority, stranger) = (Authority::new().unwrap(), Authority::new().unwrap());
    let server = start(authority.server_files("127.0.0.1").unwrap());
    connects(&server, "any", TlsMode::Off, None).await.unwrap();
    // The account that demands TLS proves that there is some.
    let plain = connects(&server, "safe", TlsMode::Off, None).await;
    assert_eq!(plain.unwrap_err().kind(), Kind::Config);
    for mode in [TlsMode::Prefer, TlsMode::Require] {
        for ca in [None, Some(&stranger)] {
            connects(&server, "safe", mode, ca).await.unwrap();
        }
    }
    let full = TlsMode::VerifyFull;
    connects(&server, "safe", full, Some(&authority))
        .await
        .unwrap();
    refused(&server, full, Some(&stranger), "not trusted").await;
    refused(&server, full, None, "not trusted").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_for_another_host_is_refused() {
    let authority = Authority::new().unwrap();
    let server = start(authority.server_files("elsewhere.example").unwrap());
    let full = TlsMode::VerifyFull;
    refused(&server, full, Some(&authority), "another host name").await;
    connects(&server, "safe", TlsMode::Require, Some(&authority))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_refused_where_tls_was_asked_for() {
    let authority = Authority::new().unwrap();
    let server = start(Vec::new());
    for mode in [TlsMode::Off, TlsMode::Prefer] {
        connects(&server, "any", mode, None).await.unwrap();
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
        let server = start(files);
        for mode in [Prefer, Require] {
            let connected = connects(&server, "safe", mode, Some(trusted)).await;
            assert!(connected.is_ok(), "{what} {mode:?}: {connected:?}");
        }
        connects(&server, "any", Off, Some(trusted)).await.unwrap();
        for (mode, words) in [(VerifyCa, by_ca), (VerifyFull, by_all)] {
            match words {
                Some(words) => refused(&server, mode, Some(trusted), words).await,
                None => {
                    let connected = connects(&server, "safe", mode, Some(trusted)).await;
                    assert!(connected.is_ok(), "{what} {mode:?}: {connected:?}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_asks_is_shown_a_certificate() {
    let (ours, stranger) = (Authority::new().unwrap(), Authority::new().unwrap());
    let server = start(ours.server_files("127.0.0.1").unwrap());
    let shown = ours.client("shown").unwrap();
    let full = TlsMode::VerifyFull;
    let connects = async |client: Option<(String, String)>| {
        connects_as(&server, "shown", full, Some(&ours), client).await
    };
    connects(Some(shown.clone())).await.unwrap();
    assert!(connects(None).await.is_err(), "it has to be shown one");
    let strange = stranger.client("shown").unwrap();
    assert!(
        connects(Some(strange.clone())).await.is_err(),
        "of its authority"
    );
    let mixed = connects(Some((shown.0, strange.1))).await.unwrap_err();
    assert_eq!(mixed.kind(), Kind::Config, "{}", mixed.chain());
}
