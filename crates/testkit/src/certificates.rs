//! Certificates for private servers, made anew for each test.

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};

/// A certificate authority nobody else knows.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one, with a key of its own.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new() -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key)?.pem();
        Ok(Authority {
            pem,
            issuer: Issuer::new(params, key),
        })
    }

    /// Its certificate, PEM: what a client trusts.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The files of a server known by `name` (a host name or an address): `server.crt` and
    /// `server.key`, and `ca.crt`, the authority's own; as the options of private servers take them.
    ///
    /// # Errors
    /// When `name` is neither.
    pub fn server_files(&self, name: &str) -> Result<Vec<(String, Vec<u8>)>> {
        self.files(CertificateParams::new(vec![name.to_owned()])?)
    }

    /// The same of a certificate that has expired.
    ///
    /// # Errors
    /// When `name` is neither.
    pub fn expired_files(&self, name: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        self.files(params)
    }

    /// The certificate and the key, PEM, of a client.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn client(&self, name: &str) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    fn files(&self, params: CertificateParams) -> Result<Vec<(String, Vec<u8>)>> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let file = |name: &str, pem: String| (name.to_owned(), pem.into_bytes());
        Ok(vec![
            file("server.crt", certificate.pem()),
            file("server.key", key.serialize_pem()),
            file("ca.crt", self.pem.clone()),
        ])
    }
}
