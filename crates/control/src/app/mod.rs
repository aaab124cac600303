//! What callers can ask for.

mod access;
mod applications;
mod audit;
mod auto;
mod datasources;
mod dispatches;
mod executions;
mod mappings;
mod ordinary;
mod projects;
mod quarantine;
mod roles;
mod tables;
mod tasks;
mod users;
mod verifications;

pub use access::{KeySecret, WRONG_PASSWORD};
pub(crate) use dispatches::dispatch_due;

use std::fs::{self, DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;
use thalweg_core::networks::Networks;
use thalweg_core::ports::Connector;

use crate::catalog::{AuditKey, Catalog, audit_key};
use crate::error::{Error, Result};
use crate::model::{FirstStart, Live};
use crate::seal::Seal;
use crate::supervisor::Supervisor;

/// The connectors there are.
pub type Connectors = Arc<[Box<dyn Connector>]>;

/// How much an instance may have, and a call may ask for. The original's figures by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Integration applications of an instance.
    pub applications: u32,
    /// Data sources of an instance.
    pub data_sources: u32,
    /// Tasks of an instance.
    pub tasks: u32,
    /// Tasks that one call starts or stops.
    pub batch: u32,
}

impl Default for Quotas {
    fn default() -> Self {
        Quotas {
            applications: 100,
            data_sources: 500,
            tasks: 1000,
            batch: 10,
        }
    }
}

/// How long a token lives by the contract.
pub const TOKEN_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// Where the state lies.
#[derive(Clone)]
pub struct OpenOptions {
    /// The data directory; made if missing, mode 0700.
    pub data: PathBuf,
    /// The key file; made at the first start, mode 0600. It has to lie outside the data directory.
    pub key_file: PathBuf,
    /// The connectors there are.
    pub connectors: Connectors,
    /// Where data sources may lie.
    pub networks: Networks,
    /// How much there may be.
    pub quotas: Quotas,
    /// Where days and hours of schedules are.
    pub zone: Tz,
    /// How long a token lives; [`TOKEN_LIFE`] to whoever knows the contract.
    pub token_life: Duration,
    /// Shows what the first start makes, before it is stored: a process that is killed in between has
    /// shown credentials nobody needs, and the next start makes others; never the other way round.
    pub announce: fn(&FirstStart) -> Result<(), String>,
}

/// The control plane of one process. Cheap to clone.
#[derive(Clone)]
pub struct App {
    pub(crate) inner: Arc<Inner>,
    pub(crate) supervisor: Arc<Supervisor>,
}

/// What the calls and the supervisor share.
pub(crate) struct Inner {
    pub(crate) catalog: Catalog,
    pub(crate) seal: Seal,
    /// Signs the rows of the audit log.
    audit: AuditKey,
    pub(crate) connectors: Connectors,
    /// Where data sources may lie.
    pub(crate) networks: Arc<Networks>,
    pub(crate) quotas: Quotas,
    token_life: Duration,
    /// Where days and hours of schedules are.
    pub(crate) zone: Tz,
    /// Names this server at every target.
    pub(crate) server: String,
    domain: String,
    /// Held as long as the process lives.
    _lock: File,
}

impl App {
    /// Opens the catalogue (making it, with a project, an instance and an administrator, at the
    /// first start) and starts the supervisor.
    pub async fn open(options: OpenOptions) -> Result<(App, Option<FirstStart>)> {
        let lock = data_directory(&options.data)?;
        key_outside(&options.data, &options.key_file)?;
        let catalog = Catalog::open(&options.data.join("catalog.db")).await?;
        let known = catalog.meta_get("server").await?;
        let seal = Seal::open(&options.key_file, known.is_none())?;
        let first = match known {
            Some(_) => None,
            None => Some(access::first_start(&catalog, &seal, options.announce).await?),
        };
        let meta = async |name: &str| {
            catalog
                .meta_get(name)
                .await?
                .ok_or_else(|| Error::Internal(format!("the catalogue has no {name}")))
        };
        check_key(&seal, &meta("canary").await?)?;
        let inner = Arc::new(Inner {
            server: meta("server").await?,
            domain: meta("domain").await?,
            audit: audit(&catalog, &seal).await?,
            catalog,
            seal,
            connectors: options.connectors,
            networks: Arc::new(options.networks),
            quotas: options.quotas,
            token_life: options.token_life,
            zone: options.zone,
            _lock: lock,
        });
        inner.catalog.executions_orphaned().await?;
        inner.catalog.verifications_orphaned().await?;
        let supervisor = Supervisor::start(Arc::clone(&inner));
        Ok((App { inner, supervisor }, first))
    }

    /// Stops every task after its batch in flight, within `limit`, and closes the catalogue. Tasks
    /// that should run go on at the next start.
    pub async fn shutdown(&self, limit: Duration) {
        self.supervisor.shutdown(limit).await;
        self.inner.catalog.close().await;
    }

    /// Whether the catalogue answers.
    pub async fn ready(&self) -> bool {
        self.inner.catalog.ready().await
    }

    /// All tasks that run in this process: id, name, and what each says of itself.
    pub fn lives(&self) -> Vec<(String, String, Live)> {
        self.supervisor.lives()
    }

    /// How much there may be.
    pub fn quotas(&self) -> Quotas {
        self.inner.quotas
    }

    fn catalog(&self) -> &Catalog {
        &self.inner.catalog
    }
}

/// Whether the key file is the one the stored secrets were made with.
fn check_key(seal: &Seal, sealed: &str) -> Result<()> {
    seal.unseal("canary", sealed).map(drop)
}

/// The key of the audit log, made once.
async fn audit(catalog: &Catalog, seal: &Seal) -> Result<AuditKey> {
    const NAME: &str = "audit_key";
    let stored = match catalog.meta_get(NAME).await? {
        Some(stored) => stored,
        None => {
            let made = seal.seal(NAME, &access::new_key_pair().1)?;
            catalog.meta_set_once(NAME, &made).await?
        }
    };
    Ok(audit_key(seal.unseal(NAME, &stored)?.expose()))
}

/// Makes the data directory and takes its lock.
fn data_directory(data: &Path) -> Result<File> {
    let place = data.display();
    let internal = |what: &str, error: &dyn std::fmt::Display| {
        Error::Internal(format!("cannot {what} the data directory {place}: {error}"))
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(|error| internal("make", &error))?;
    let lock = File::create(data.join("lock")).map_err(|error| internal("write to", &error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Error::Internal(format!(
            "another thalweg uses the data directory {place}: stop it, or give --data another one"
        ))),
        Err(TryLockError::Error(error)) => Err(internal("lock", &error)),
    }
}

/// A key beside the secrets it protects would protect nothing.
fn key_outside(data: &Path, key_file: &Path) -> Result<()> {
    let folder = match key_file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let (Ok(data), Ok(folder)) = (fs::canonicalize(data), fs::canonicalize(folder)) else {
        return Err(Error::Internal(format!(
            "the folder of the key file {} does not exist",
            key_file.display()
        )));
    };
    if folder.starts_with(&data) {
        return Err(Error::Internal(format!(
            "the key file {} lies inside the data directory: a copy of the directory would give \
             every secret away; give --key-file a place outside it",
            key_file.display()
        )));
    }
    Ok(())
}
