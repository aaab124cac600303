//! The stored metadata, and all SQL that touches it.
//!
//! One embedded SQLite database. All that is written goes through one connection: writers take turns,
//! so a transaction here never meets another, and nothing waits on a database of the user while it
//! holds one. Reads go beside it and see what was committed before they began. A commit is a sync of
//! the disk, so what running tasks record of themselves is committed together ([`records`]). Methods
//! are named resource first. The statements keep to what PostgreSQL understands as well, for cluster
//! mode.

mod access;
mod applications;
mod audit;
mod datasources;
mod dispatches;
mod executions;
mod mappings;
mod projects;
mod records;
mod tasks;
mod verifications;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::any::{AnyPoolOptions, AnyRow};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyPool, Row as _, SqlSafeStr as _};

pub(crate) use access::{Account, AccountChange, KEYS_MAX, NewTemporaryKey};
pub(crate) use audit::{AuditKey, key as audit_key};
pub(crate) use datasources::{NewDataSourceRow, StoredDataSource};
pub(crate) use dispatches::Due;
pub(crate) use executions::REJECTED;
pub(crate) use mappings::MappingChange;
pub(crate) use tasks::{Releasing, StoredTask};

use self::records::Records;
use crate::error::{Error, Result};
use crate::model::Window;

/// How long a call waits for its turn; then it ends with [`Error::Busy`].
const TURN: Duration = Duration::from_secs(10);

/// How many calls read at the same time.
const READERS: u32 = 4;

/// The stored metadata. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Catalog {
    /// One connection, for all that is written.
    writer: AnyPool,
    reader: AnyPool,
    records: Arc<Records>,
}

impl Catalog {
    /// Opens or makes the database, and brings it to this version's form.
    pub(crate) async fn open(file: &Path) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let path = file.to_str().ok_or_else(|| {
            Error::Internal("the path of the data directory is not UTF-8".to_owned())
        })?;
        // A URL, so the characters that mean something in one are written as escapes.
        let path = path
            .replace('%', "%25")
            .replace('?', "%3F")
            .replace('#', "%23");
        let url = format!("sqlite://{path}?mode=rwc");
        let writer = connect(&url, 1, &["PRAGMA foreign_keys = ON"]).await?;
        let start = Migration::new(
            1,
            "start".into(),
            MigrationType::Simple,
            include_str!("migrations/0001_start.sql").into_sql_str(),
            false,
        );
        let verification = Migration::new(
            2,
            "verification".into(),
            MigrationType::Simple,
            include_str!("migrations/0002_verification.sql").into_sql_str(),
            false,
        );
        let tables = Migration::new(
            3,
            "tables".into(),
            MigrationType::Simple,
            include_str!("migrations/0003_tables.sql").into_sql_str(),
            false,
        );
        let access = Migration::new(
            4,
            "access".into(),
            MigrationType::Simple,
            include_str!("migrations/0004_access.sql").into_sql_str(),
            false,
        );
        let schedules = Migration::new(
            5,
            "schedules".into(),
            MigrationType::Simple,
            include_str!("migrations/0005_schedules.sql").into_sql_str(),
            false,
        );
        Migrator::with_migrations(vec![start, verification, tables, access, schedules])
            .run(&writer)
            .await
            .map_err(Error::internal)?;
        let reader = connect(&url, READERS, &["PRAGMA query_only = ON"]).await?;
        Ok(Catalog {
            writer,
            reader,
            records: Arc::default(),
        })
    }

    /// Whether it answers.
    pub(crate) async fn ready(&self) -> bool {
        let read = sqlx::query("SELECT 1").fetch_one(&self.reader);
        read.await.is_ok()
    }

    /// Stores a value under a name that has none yet; gives the one that is stored.
    pub(crate) async fn meta_set_once(&self, name: &str, value: &str) -> Result<String> {
        sqlx::query("INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
            .bind(name.to_owned())
            .bind(value.to_owned())
            .execute(&self.writer)
            .await?;
        let stored = self.meta_get(name).await?;
        stored.ok_or_else(|| Error::Internal(format!("the catalogue has no {name}")))
    }

    /// Ends the connections. The writer is last: its end folds the log into the database's file.
    pub(crate) async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// A value stored under a name.
    pub(crate) async fn meta_get(&self, name: &str) -> Result<Option<String>> {
        let row = sqlx::query("SELECT value FROM meta WHERE name = $1")
            .bind(name.to_owned())
            .fetch_optional(&self.reader)
            .await?;
        row.map(|row| text(&row, "value")).transpose()
    }
}

/// Connections for one use of the database, as many as `most`.
async fn connect(url: &str, most: u32, own: &'static [&'static str]) -> Result<AnyPool> {
    const EVERY: [&str; 3] = [
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        "PRAGMA busy_timeout = 5000",
    ];
    let pool = AnyPoolOptions::new()
        .max_connections(most)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(TURN)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                for pragma in EVERY.iter().chain(own) {
                    sqlx::query(*pragma).execute(&mut *connection).await?;
                }
                Ok(())
            })
        });
    Ok(pool.connect(url).await?)
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// 32 random hexadecimal digits.
pub(crate) fn new_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

fn text(row: &AnyRow, column: &str) -> Result<String> {
    Ok(row.try_get::<String, _>(column)?)
}

fn text_or_none(row: &AnyRow, column: &str) -> Result<Option<String>> {
    Ok(row.try_get::<Option<String>, _>(column)?)
}

fn number(row: &AnyRow, column: &str) -> Result<i64> {
    Ok(row.try_get::<i64, _>(column)?)
}

fn number_or_none(row: &AnyRow, column: &str) -> Result<Option<i64>> {
    Ok(row.try_get::<Option<i64>, _>(column)?)
}

fn flag(row: &AnyRow, column: &str) -> Result<bool> {
    Ok(number(row, column)? != 0)
}

/// A count, which is never negative.
fn count(row: &AnyRow, column: &str) -> Result<u64> {
    Ok(u64::try_from(number(row, column)?).unwrap_or(0))
}

/// A count as the database keeps it.
fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The part of a list that is asked for, and how long the whole is. Lists here have at most a few
/// thousand entries, so filters that SQL does not do the same everywhere (case, escapes) are ours.
pub(crate) fn page<T>(all: Vec<T>, window: Window) -> crate::model::Page<T> {
    crate::model::Page {
        total: all.len() as u64,
        entities: all
            .into_iter()
            .skip(window.offset as usize)
            .take(window.limit as usize)
            .collect(),
    }
}

/// Whether an insert or update failed because a value that has to be unique is there already.
fn is_taken(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.is_unique_violation())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A fresh catalogue in a directory of its own.
    pub(crate) async fn fresh() -> (std::path::PathBuf, Catalog) {
        let folder = std::env::temp_dir().join(format!("thalweg-catalog-{}", new_id()));
        std::fs::create_dir_all(&folder).unwrap();
        let catalog = Catalog::open(&folder.join("catalog.db")).await.unwrap();
        (folder, catalog)
    }

    #[tokio::test]
    async fn opens_twice_and_keeps_its_content() {
        let (folder, catalog) = fresh().await;
        assert!(catalog.ready().await);
        assert_eq!(catalog.meta_get("server").await.unwrap(), None);
        catalog.close().await;
        let again = Catalog::open(&folder.join("catalog.db")).await.unwrap();
        assert!(again.ready().await);
        again.close().await;
        std::fs::remove_dir_all(folder).unwrap();
    }
}
