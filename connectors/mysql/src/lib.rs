//! MariaDB (and MySQL, unproven) as a source, by row binlog and consistent snapshots, and as a target.
//!
//! The driver moves bytes; the decoders of [`wire`] are plain functions from bytes to cells and are
//! shared by the stream and the snapshot, so that a row looks the same on both paths.

mod bridge;
mod catalog;
mod check;
mod config;
mod ddl;
mod error;
mod gtid;
mod images;
mod labels;
mod layout;
mod position;
mod query;
pub mod recordings;
mod schema;
mod server;
mod snapshot;
mod source;
mod split;
pub mod stages;
mod stream;
mod target;
mod wire;

use std::sync::Arc;

use thalweg_core::Result;
use thalweg_core::ports::{Connector, DataSourceConfig, Inspect, Roles, Source, Target};

/// The connector for `MYSQL` data sources.
pub fn connector() -> impl Connector {
    MySql::default()
}

#[derive(Default)]
struct MySql {
    /// What tasks of one source share.
    hubs: stream::hub::Hubs,
}

impl Connector for MySql {
    fn kind(&self) -> &'static str {
        "MYSQL"
    }

    fn roles(&self) -> Roles {
        Roles {
            source: true,
            target: true,
        }
    }

    fn default_schema(&self, config: &DataSourceConfig) -> String {
        config.database.clone()
    }

    fn inspect(&self, config: &DataSourceConfig) -> Result<Arc<dyn Inspect>> {
        Ok(Arc::new(source::MySqlSource::new(config, None)))
    }

    fn source(&self, config: &DataSourceConfig) -> Result<Arc<dyn Source>> {
        let hub = self.hubs.of(config);
        Ok(Arc::new(source::MySqlSource::new(config, hub)))
    }

    fn target(&self, config: &DataSourceConfig) -> Result<Arc<dyn Target>> {
        Ok(Arc::new(target::MySqlTarget::new(config)))
    }
}
