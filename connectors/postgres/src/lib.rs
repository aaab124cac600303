//! PostgreSQL as a source: a logical slot read by `pgoutput`, and snapshots by `COPY BINARY`; and as a
//! target: bulk load by `COPY BINARY`, exactly-once apply with the checkpoint in the same
//! transaction.

mod bridge;
mod check;
mod config;
pub mod error;
mod layout;
mod literal;
mod position;
mod query;
mod schema;
mod session;
mod slot;
mod snapshot;
mod source;
mod split;
pub mod stages;
mod stream;
mod target;
mod tls;
mod unsaid;
mod wire;

use std::sync::Arc;

use thalweg_core::Result;
use thalweg_core::ports::{Connector, DataSourceConfig, Inspect, Roles, Source, Target};

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
            source: true,
            target: true,
        }
    }

    fn default_schema(&self, _config: &DataSourceConfig) -> String {
        "public".to_owned()
    }

    fn inspect(&self, config: &DataSourceConfig) -> Result<Arc<dyn Inspect>> {
        Ok(Arc::new(target::PostgresTarget::new(config.clone())))
    }

    fn source(&self, config: &DataSourceConfig) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(source::PostgresSource::new(config)))
    }

    fn target(&self, config: &DataSourceConfig) -> Result<Arc<dyn Target>> {
        Ok(Arc::new(target::PostgresTarget::new(config.clone())))
    }
}
