//! TLS of the API: certificate and key from files, which are read anew when they change.
//!
//! A certificate is renewed every few weeks, and a server that moves other people's rows is not to be restarted
//! for it. New connections get the new one; connections that are open go on. Files that cannot be used, such as a
//! key that does not fit while the second of them is being written, leave everything as it is, and are tried
//! again.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// How often it is looked whether the files are others.
const LOOK: Duration = Duration::from_secs(5);

/// Where certificate and key lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// The server's certificate and those between it and its authority, PEM.
    pub(crate) cert: PathBuf,
    /// Its key, PEM.
    pub(crate) key: PathBuf,
    /// An authority whose certificates clients have to show; `None`: they show none.
    pub(crate) client_ca: Option<PathBuf>,
}

/// See the module.
pub(crate) struct Tls {
    files: TlsFiles,
    current: RwLock<(Vec<Option<SystemTime>>, Arc<ServerConfig>)>,
}

impl Tls {
    /// Reads the files. The text of an error says which cannot be used.
    pub(crate) fn open(files: TlsFiles) -> Result<Tls, String> {
        let current = (changed(&files), config(&files)?);
        Ok(Tls {
            files,
            current: RwLock::new(current),
        })
    }

    /// What takes the next connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&current.1))
    }

    /// Reads the files again whenever they have changed, until `stop`.
    pub(crate) async fn watch(&self, stop: &CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => self.look(),
            }
        }
    }

    fn look(&self) {
        let now = changed(&self.files);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.0 == now {
            return;
        }
        match config(&self.files) {
            Ok(config) => {
                tracing::info!(cert = %self.files.cert.display(), "the certificate is another one now");
                *current = (now, config);
            }
            Err(error) => tracing::warn!(error, "the certificate stays as it was"),
        }
    }
}

fn changed(files: &TlsFiles) -> Vec<Option<SystemTime>> {
    let all = [
        Some(&files.cert),
        Some(&files.key),
        files.client_ca.as_ref(),
    ];
    let time = |file: &PathBuf| fs::metadata(file).and_then(|data| data.modified()).ok();
    all.into_iter().flatten().map(time).collect()
}

fn config(files: &TlsFiles) -> Result<Arc<ServerConfig>, String> {
    let unread = |file: &PathBuf| {
        let file = file.display().to_string();
        move |error: rustls_pki_types::pem::Error| format!("cannot use the file {file}: {error}")
    };
    let certificates = |file: &PathBuf| -> Result<Vec<CertificateDer<'static>>, String> {
        let found = CertificateDer::pem_file_iter(file).map_err(unread(file))?;
        let found: Result<Vec<_>, _> = found.collect();
        match found.map_err(unread(file))? {
            none if none.is_empty() => {
                Err(format!("the file {} holds no certificate", file.display()))
            }
            found => Ok(found),
        }
    };
    let chain = certificates(&files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(unread(&files.key))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in certificates(file)? {
                let added = roots.add(certificate);
                added
                    .map_err(|error| format!("cannot use the file {}: {error}", file.display()))?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| error.to_string())?)
        }
    };
    let config = builder.with_single_cert(chain, key).map_err(|error| {
        let (cert, key) = (files.cert.display(), files.key.display());
        format!("the certificate {cert} and the key {key} do not go together: {error}")
    })?;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use rustls::ClientConfig;
    use rustls_pki_types::ServerName;
    use thalweg_testkit::certificates::Authority;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinSet;
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::http::{Limits, serve};

    struct World {
        folder: PathBuf,
        files: TlsFiles,
    }

    impl Drop for World {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.folder).unwrap();
        }
    }

    impl World {
        fn new(authority: &Authority) -> World {
            let name = format!("thalweg-tls-{}", uuid::Uuid::new_v4());
            let folder = std::env::temp_dir().join(name);
            fs::create_dir(&folder).unwrap();
            let files = TlsFiles {
                cert: folder.join("server.crt"),
                key: folder.join("server.key"),
                client_ca: None,
            };
            let world = World { folder, files };
            world.write(authority);
            world
        }

        fn write(&self, authority: &Authority) {
            for (name, bytes) in authority.server_files("localhost").unwrap() {
                fs::write(self.folder.join(name), bytes).unwrap();
            }
        }
    }

    struct Server {
        address: std::net::SocketAddr,
        tls: Arc<Tls>,
        _serving: JoinSet<()>,
    }

    async fn start(tls: Tls) -> Server {
        let tls = Arc::new(tls);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { "served" }));
        let mut serving = JoinSet::new();
        let (limits, stop) = (Limits::default(), CancellationToken::new());
        serving.spawn(serve(
            listener,
            router,
            limits,
            Some(Arc::clone(&tls)),
            stop,
        ));
        Server {
            address,
            tls,
            _serving: serving,
        }
    }

    /// What a client gets that trusts `authority`, and shows what it is given.
    async fn ask(
        server: &Server,
        authority: &Authority,
        shows: Option<Vec<(String, Vec<u8>)>>,
    ) -> Result<String, String> {
        let mut roots = rustls::RootCertStore::empty();
        let pem = authority.pem().as_bytes();
        roots
            .add(CertificateDer::from_pem_slice(pem).unwrap())
            .unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match shows {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let certificate = CertificateDer::from_pem_slice(&files[0].1).unwrap();
                let key = PrivateKeyDer::from_pem_slice(&files[1].1).unwrap();
                builder
                    .with_client_auth_cert(vec![certificate], key)
                    .unwrap()
            }
        };
        let told = |error: std::io::Error| error.to_string();
        let stream = TcpStream::connect(server.address).await.map_err(told)?;
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(name, stream).await.map_err(told)?;
        let request = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.map_err(told)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map_err(told)?;
        Ok(answer)
    }

    #[tokio::test]
    async fn a_new_certificate_is_taken_up_and_a_broken_one_is_not() {
        let (old, new) = (Authority::new().unwrap(), Authority::new().unwrap());
        let world = World::new(&old);
        let server = start(Tls::open(world.files.clone()).unwrap()).await;
        assert!(ask(&server, &old, None).await.unwrap().ends_with("served"));
        assert!(
            ask(&server, &new, None).await.is_err(),
            "it is not of that authority"
        );
        fs::write(&world.files.cert, "nonsense").unwrap();
        server.tls.look();
        assert!(ask(&server, &old, None).await.is_ok(), "it stays as it was");
        // The time of a file may be coarse.
        tokio::time::sleep(Duration::from_millis(20)).await;
        world.write(&new);
        server.tls.look();
        assert!(ask(&server, &new, None).await.unwrap().ends_with("served"));
        assert!(ask(&server, &old, None).await.is_err());
    }

    #[tokio::test]
    async fn clients_show_a_certificate_if_they_have_to() {
        let (ours, clients) = (Authority::new().unwrap(), Authority::new().unwrap());
        let world = World::new(&ours);
        let ca = world.folder.join("clients.crt");
        fs::write(&ca, clients.pem()).unwrap();
        let files = TlsFiles {
            client_ca: Some(ca),
            ..world.files.clone()
        };
        let server = start(Tls::open(files).unwrap()).await;
        let shown = |authority: &Authority| Some(authority.server_files("client").unwrap());
        assert!(
            ask(&server, &ours, shown(&clients))
                .await
                .unwrap()
                .ends_with("served")
        );
        assert!(ask(&server, &ours, None).await.is_err());
        assert!(ask(&server, &ours, shown(&ours)).await.is_err());
    }

    #[tokio::test]
    async fn plain_text_gets_nothing() {
        let authority = Authority::new().unwrap();
        let world = World::new(&authority);
        let server = start(Tls::open(world.files.clone()).unwrap()).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer).await;
        assert!(read.is_err() || !answer.windows(6).any(|part| part == b"served"));
    }

    #[test]
    fn files_that_do_not_fit_are_named() {
        let (one, two) = (Authority::new().unwrap(), Authority::new().unwrap());
        let world = World::new(&one);
        let other = World::new(&two);
        let told = |files: TlsFiles| Tls::open(files).map(drop).unwrap_err();
        let missing = TlsFiles {
            cert: world.folder.join("missing.crt"),
            ..world.files.clone()
        };
        assert!(told(missing).contains("missing.crt"));
        let strange = TlsFiles {
            key: other.files.key.clone(),
            ..world.files.clone()
        };
        assert!(told(strange).contains("do not go together"));
    }
}
