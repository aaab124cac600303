//! One connector per kind of system.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Source, Target};
use crate::error::{Error, Result};
use crate::networks::Networks;
use crate::schema::{TableName, TableSchema};
use crate::secret::Secret;

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum TlsMode {
    /// Plain text.
    Off,
    /// TLS if the server offers it, otherwise plain text; certificates are not checked.
    #[default]
    Prefer,
    /// TLS or nothing; certificates are not checked.
    Require,
    /// TLS, certificate chain checked, and not whose it is.
    VerifyCa,
    /// TLS, certificate chain and host name checked.
    VerifyFull,
}

/// TLS settings of one data source.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TlsOptions {
    /// How the connection is protected.
    pub mode: TlsMode,
    /// Own certificate authorities, PEM; `None`: the platform's.
    pub ca_pem: Option<String>,
    /// What is shown to a server that asks who connects.
    pub client: Option<ClientCertificate>,
}

impl TlsOptions {
    /// Whether the server's certificate has to be of an authority that is trusted.
    pub fn verifies(&self) -> bool {
        matches!(self.mode, TlsMode::VerifyCa | TlsMode::VerifyFull)
    }
}

/// A certificate of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, and those between it and its authority, PEM.
    pub cert_pem: String,
    /// Its key, PEM.
    pub key_pem: Secret,
}

/// How to reach one system. Built by the control plane, read by connectors.
#[derive(Clone, Debug)]
pub struct DataSourceConfig {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Database to connect to; for MySQL also the default schema of table names.
    pub database: String,
    /// User.
    pub user: String,
    /// Password.
    pub password: Secret,
    /// TLS settings.
    pub tls: TlsOptions,
    /// Whether a password may travel in clear text to a host that is not this machine.
    pub allow_cleartext_password: bool,
    /// Limit for connecting and for each question of `Inspect`; about many tables [`Self::time_for`].
    pub timeout: Duration,
    /// MySQL and MariaDB sources: the replica id to present; `None`: a random one ≥ 2³⁰.
    pub server_id: Option<u32>,
    /// Shown to the server where it takes one, such as `thalweg/<task>`.
    pub application_name: String,
    /// Where the host may lie; judged on each connect.
    pub networks: Arc<Networks>,
}

/// What is asked of one table is answered within a few milliseconds, and by a busy server within this.
const PER_TABLE: Duration = Duration::from_millis(250);

impl DataSourceConfig {
    /// How long a question about so many tables may take: the timeout, and more for each of them.
    pub fn time_for(&self, tables: usize) -> Duration {
        let tables = u32::try_from(tables).unwrap_or(u32::MAX);
        self.timeout
            .saturating_add(PER_TABLE.saturating_mul(tables))
    }
}

/// Which ends of a task a connector can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Changes can be read from it.
    pub source: bool,
    /// Changes can be written to it.
    pub target: bool,
}

/// One kind of system. The server lists its connectors in one place.
pub trait Connector: Send + Sync {
    /// The `datasource_type` of the API, such as `MYSQL`.
    fn kind(&self) -> &'static str;
    /// Which ends it can be.
    fn roles(&self) -> Roles;
    /// The schema a table name without one belongs to.
    fn default_schema(&self, config: &DataSourceConfig) -> String;
    /// Looks at a system without a task.
    fn inspect(&self, config: &DataSourceConfig) -> Result<Arc<dyn Inspect>>;
    /// Opens it as a source; no connection is made yet. `Config` error if it cannot be one.
    fn source(&self, config: &DataSourceConfig) -> Result<Arc<dyn Source>>;
    /// Opens it as a target; no connection is made yet. `Config` error if it cannot be one.
    fn target(&self, config: &DataSourceConfig) -> Result<Arc<dyn Target>>;
}

/// What can be asked of any system. Every call connects by itself and ends within the
/// configuration's timeout.
#[async_trait]
pub trait Inspect: Send + Sync {
    /// Connects, logs in and asks something trivial.
    async fn probe(&self) -> Result<()>;
    /// All base tables the user can see, system schemas left out, sorted; at most 100,000.
    async fn tables(&self) -> Result<Vec<TableName>>;
    /// The tables named, in the order asked; those that do not exist are left out.
    async fn describe(&self, tables: &[TableName]) -> Result<Vec<TableSchema>>;

    /// What a query gives, as a table without a name, as far as the system tells without running it. `Schema`
    /// error if it is no query, or none that the system takes. Asked of what [`Connector::inspect`] gives.
    async fn describe_query(&self, sql: &str) -> Result<TableSchema> {
        let _ = sql;
        Err(Error::config("this system cannot say what a query gives"))
    }
}
