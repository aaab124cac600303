//! Protection of the connection, and when it may be absent.

use std::error::Error as StdError;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WantsClientCert, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use thalweg_core::ports::{ClientCertificate, DataSourceConfig, TlsMode, TlsOptions};
use thalweg_core::{Error, Result};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// The platform's roots, read once.
static PLATFORM: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    // A certificate that cannot be read is none that vouches for anyone.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(roots)
});

/// What to ask of the server. A password never travels without TLS to another machine unless the
/// user allowed it: `prefer` is `require` there.
pub(crate) fn mode(config: &DataSourceConfig) -> Result<SslMode> {
    let may_be_plain = may_be_plain(config);
    match config.tls.mode {
        TlsMode::Off if may_be_plain => Ok(SslMode::Disable),
        TlsMode::Prefer if may_be_plain => Ok(SslMode::Prefer),
        TlsMode::Off => Err(Error::config(format!(
            "the connection to {} would not be encrypted",
            config.host
        ))
        .with_hint(
            "set the data source's TLS mode to require, or allow clear-text passwords for it if \
             the network is trusted",
        )),
        TlsMode::Prefer | TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => {
            Ok(SslMode::Require)
        }
    }
}

/// Whether a password may travel in clear text.
pub(crate) fn may_be_plain(config: &DataSourceConfig) -> bool {
    is_this_machine(&config.host) || config.allow_cleartext_password
}

fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// The client's side of the handshake, for the driver.
pub(crate) fn connector(options: &TlsOptions) -> Result<MakeRustlsConnect> {
    Ok(MakeRustlsConnect::new(client(options)?))
}

/// The client's side of the handshake.
pub(crate) fn client(options: &TlsOptions) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::bug("TLS without a version").caused_by(error))?;
    let verifier: Arc<dyn ServerCertVerifier> = if options.verifies() {
        let roots = roots(options.ca_pem.as_deref())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        let verifier = verifier.map_err(|error| {
            Error::config("the certificate authorities cannot be used").caused_by(error)
        })?;
        match options.mode {
            TlsMode::VerifyCa => Arc::new(AnyName(verifier)),
            _ => verifier,
        }
    } else {
        Arc::new(Anyone(provider))
    };
    let builder = builder.dangerous();
    let builder = builder.with_custom_certificate_verifier(verifier);
    match &options.client {
        None => Ok(builder.with_no_client_auth()),
        Some(client) => shows(builder, client),
    }
}

/// With a certificate of ours for a server that asks.
fn shows(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    client: &ClientCertificate,
) -> Result<ClientConfig> {
    let unusable = || {
        Error::config("the client certificate of the data source, or its key, cannot be used")
            .with_hint("give both as PEM: the certificate, and the key it was made with")
    };
    let chain: std::result::Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(client.cert_pem.as_bytes()).collect();
    let chain = chain.map_err(|error| unusable().caused_by(error))?;
    let key = PrivateKeyDer::from_pem_slice(client.key_pem.expose().as_bytes());
    let key = key.map_err(|error| unusable().caused_by(error))?;
    let config = builder.with_client_auth_cert(chain, key);
    config.map_err(|error| unusable().caused_by(error))
}

fn roots(ca_pem: Option<&str>) -> Result<Arc<RootCertStore>> {
    let Some(pem) = ca_pem else {
        return Ok(Arc::clone(&PLATFORM));
    };
    let unusable = || {
        Error::config("the certificate authority of the data source cannot be read")
            .with_hint("give it as PEM: lines from -----BEGIN CERTIFICATE----- on")
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| unusable().caused_by(error))?;
        roots
            .add(certificate)
            .map_err(|error| unusable().caused_by(error))?;
    }
    if roots.is_empty() {
        return Err(unusable());
    }
    Ok(Arc::new(roots))
}

/// What a failed handshake asks for; `None`: it is none.
pub(crate) fn handshake_error(error: &tokio_postgres::Error) -> Option<Error> {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(tls) = as_tls(inner) {
            return Some(refused(tls));
        }
        if inner.to_string() == "server does not support TLS" {
            return Some(not_offered());
        }
        cause = inner.source();
    }
    None
}

/// The same for a handshake of our own.
pub(crate) fn failed(error: &std::io::Error) -> Option<Error> {
    as_tls(error).map(refused)
}

/// The server does not do what has to be.
pub(crate) fn not_offered() -> Error {
    Error::config("the server offers no TLS").with_hint(
        "set ssl = on with ssl_cert_file and ssl_key_file on the server, or choose TLS mode off \
         and allow clear-text passwords if the network is trusted",
    )
}

/// An I/O error wraps the handshake's own without naming it as its source.
fn as_tls<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let wrapped = || {
        let io: &std::io::Error = error.downcast_ref()?;
        io.get_ref()?.downcast_ref()
    };
    error.downcast_ref().or_else(wrapped)
}

fn refused(error: &rustls::Error) -> Error {
    use rustls::CertificateError as Bad;
    let (message, hint) = match error {
        rustls::Error::InvalidCertificate(
            Bad::NotValidForName | Bad::NotValidForNameContext { .. },
        ) => (
            "the server's certificate is for another host name",
            "use the name the certificate has as the data source's host, or give the server a \
             certificate with this name",
        ),
        // A bad signature: another authority of the same name, made anew for example.
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => (
            "the server's certificate is from an authority that is not trusted",
            "give the authority's certificate (PEM) as the data source's CA, or choose TLS mode \
             require to connect without checking",
        ),
        rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => (
            "the server's certificate has expired",
            "renew it, then SELECT pg_reload_conf() on the server",
        ),
        rustls::Error::InvalidCertificate(_) => (
            "the server's certificate is not valid",
            "give the server a certificate that the data source's CA has signed",
        ),
        _ => (
            "the TLS handshake failed",
            "the server has to offer TLS 1.2 or 1.3",
        ),
    };
    Error::config(message)
        .with_hint(hint)
        .caused_by(error.clone())
}

/// Takes every certificate, as `prefer` and `require` say: it protects against listening, not
/// against a machine in the middle. Signatures are checked all the same.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes a certificate of a trusted authority, whoever it is for.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
        let verified =
            self.0
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is looked at last.
            Err(rustls::Error::InvalidCertificate(
                NotValidForName | NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use thalweg_core::Kind;
    use thalweg_core::secret::Secret;

    use super::*;

    fn config(host: &str, mode: TlsMode, allowed: bool) -> DataSourceConfig {
        DataSourceConfig {
            host: host.into(),
            port: 5432,
            database: String::new(),
            user: String::new(),
            password: Secret::default(),
            tls: TlsOptions {
                mode,
                ..TlsOptions::default()
            },
            allow_cleartext_password: allowed,
            timeout: Duration::from_secs(1),
            server_id: None,
            application_name: String::new(),
            networks: std::sync::Arc::default(),
        }
    }

    #[test]
    fn nothing_is_plain_to_another_machine_unless_allowed() {
        use TlsMode::{Off, Prefer, Require, VerifyCa, VerifyFull};
        for (host, mode, allowed, expected) in [
            ("127.0.0.1", Off, false, Some(SslMode::Disable)),
            ("::1", Prefer, false, Some(SslMode::Prefer)),
            ("LocalHost", Prefer, false, Some(SslMode::Prefer)),
            ("localhost", Require, false, Some(SslMode::Require)),
            ("db.example", Off, false, None),
            ("db.example", Off, true, Some(SslMode::Disable)),
            ("db.example", Prefer, false, Some(SslMode::Require)),
            ("db.example", Prefer, true, Some(SslMode::Prefer)),
            ("db.example", Require, true, Some(SslMode::Require)),
            ("10.0.0.1", VerifyFull, true, Some(SslMode::Require)),
            ("10.0.0.1", VerifyCa, true, Some(SslMode::Require)),
            ("localhost.example", Off, false, None),
            ("127.0.0.1.example", Off, false, None),
        ] {
            match (super::mode(&config(host, mode, allowed)), expected) {
                (Ok(got), Some(expected)) => assert_eq!(got, expected, "{host} {mode:?}"),
                (Err(error), None) => assert_eq!(error.kind(), Kind::Config),
                (got, _) => panic!("{host} {mode:?} {allowed}: {got:?}"),
            }
        }
    }

    #[test]
    fn an_authority_that_cannot_be_read_is_told() {
        for pem in [
            "",
            "no PEM",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            let error = roots(Some(pem)).unwrap_err();
            assert!(error.kind() == Kind::Config && error.hint().is_some());
        }
    }
}
