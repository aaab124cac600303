//! PostgreSQL as a target: bulk load by `COPY BINARY`, exactly-once apply with the checkpoint in the
//! same transaction. It cannot be a source yet.

mod config;
pub mod error;
mod schema;
mod target;
mod tls;

use std::sync::Arc;

use thalweg_core::ports::{Connector, DataSourceConfig, Inspect, Roles, Source, Target};
use thalweg_core::{Error, Result};

/// The connector.
pub fn connector() -> impl Connector {
    Postgres
}

struct Postgres;

impl Connector for Postgres {
    fn kind(&self) -> &'static str {
        "POSTGRESQL"
    }

    fn roles(&self) -> Roles {
        Roles {
            source: false,
            target: true,
        }
    }

    fn default_schema(&self, _config: &DataSourceConfig) -> String {
        "public".to_owned()
    }

    fn inspect(&self, config: &DataSourceConfig) -> Result<Arc<dyn Inspect>> {
        Ok(Arc::new(target::PostgresTarget::new(config.clone())))
    }

    fn source(&self, _config: &DataSourceConfig) -> Result<Arc<dyn Source>> {
        Err(Error::config("PostgreSQL cannot be a source yet")
            .with_hint("choose a MySQL or MariaDB data source as the source"))
    }

    fn target(&self, config: &DataSourceConfig) -> Result<Arc<dyn Target>> {
        Ok(Arc::new(target::PostgresTarget::new(config.clone())))
    }
}
