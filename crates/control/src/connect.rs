//! From a stored data source to a connector's configuration.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use thalweg_core::networks::Networks;
use thalweg_core::ports::{Connector, DataSourceConfig};
use thalweg_core::secret::Secret;

use crate::error::{Error, Result};
use crate::jdbc::{self, Place};
use crate::model::DataSourceOptions;

/// How long connecting, and each question, may take where the data source does not say.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The connector for a `datasource_type`; `Unreachable` if the type is stored, and no more.
pub(crate) fn connector<'a>(
    connectors: &'a [Box<dyn Connector>],
    kind: &str,
) -> Result<&'a dyn Connector> {
    let found = connectors.iter().find(|connector| connector.kind() == kind);
    found.map(AsRef::as_ref).ok_or_else(|| {
        let known: Vec<_> = connectors.iter().map(|c| c.kind()).collect();
        Error::Unreachable {
            reason: format!(
                "data sources of the type {kind} are stored, but not supported: this server connects to {}",
                known.join(" and ")
            ),
            detail: None,
        }
    })
}

/// Where a data source lies: as its form says, or its connection string.
pub(crate) fn place(kind: &str, content: &Map<String, Value>) -> Result<Place> {
    let text = |field: &str| -> Result<&str> {
        let value = content.get(field).and_then(Value::as_str);
        value.ok_or_else(|| Error::invalid(field, "it is needed for this type"))
    };
    if content.get("mode").and_then(Value::as_str) == Some("professional") {
        return jdbc::parse(kind, text("url")?);
    }
    let port = text("port")?
        .parse()
        .map_err(|_| Error::invalid("port", "it has to be a number from 1 to 65535"))?;
    Ok(Place {
        host: text("host")?.to_owned(),
        port,
        database: text("database_name")?.to_owned(),
    })
}

/// The configuration for `content` (see [`crate::model::Content`]), whose fields the API has checked.
pub(crate) fn config(
    kind: &str,
    content: &Map<String, Value>,
    password: Secret,
    options: &DataSourceOptions,
    application_name: String,
    networks: &Arc<Networks>,
) -> Result<DataSourceConfig> {
    let place = place(kind, content)?;
    let user = content.get("user_name").and_then(Value::as_str);
    let user = user.ok_or_else(|| Error::invalid("user_name", "it is needed for this type"))?;
    let timeout = content
        .get("mysql_timeout")
        .and_then(Value::as_u64)
        .map_or(TIMEOUT, Duration::from_secs);
    Ok(DataSourceConfig {
        host: place.host,
        port: place.port,
        database: place.database,
        user: user.to_owned(),
        password,
        tls: options.tls.clone(),
        allow_cleartext_password: options.allow_cleartext_password,
        timeout,
        server_id: None,
        application_name,
        networks: Arc::clone(networks),
    })
}
