//! From a stored data source to a connector's configuration.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use thalweg_core::networks::Networks;
use thalweg_core::ports::{Connector, DataSourceConfig};
use thalweg_core::secret::Secret;

use crate::error::{Error, Result};
use crate::model::DataSourceOptions;

/// How long connecting, and each question, may take where the data source does not say.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The connector for a `datasource_type`.
pub(crate) fn connector<'a>(
    connectors: &'a [Box<dyn Connector>],
    kind: &str,
) -> Result<&'a dyn Connector> {
    connectors
        .iter()
        .find(|connector| connector.kind() == kind)
        .map(AsRef::as_ref)
        .ok_or_else(|| {
            let known: Vec<_> = connectors.iter().map(|c| c.kind()).collect();
            Error::invalid(
                "datasource_type",
                format!("this server connects to {}", known.join(", ")),
            )
        })
}

/// The configuration for `content` (see [`crate::model::Content`]), whose fields the API has checked.
pub(crate) fn config(
    content: &Map<String, Value>,
    password: Secret,
    options: &DataSourceOptions,
    application_name: String,
    networks: &Arc<Networks>,
) -> Result<DataSourceConfig> {
    let text = |field: &str| -> Result<String> {
        content
            .get(field)
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| Error::invalid(field, "it is needed for this type"))
    };
    let port = text("port")?
        .parse()
        .map_err(|_| Error::invalid("port", "it has to be a number from 1 to 65535"))?;
    let timeout = content
        .get("mysql_timeout")
        .and_then(Value::as_u64)
        .map_or(TIMEOUT, Duration::from_secs);
    Ok(DataSourceConfig {
        host: text("host")?,
        port,
        database: text("database_name")?,
        user: text("user_name")?,
        password,
        tls: options.tls.clone(),
        allow_cleartext_password: options.allow_cleartext_password,
        timeout,
        server_id: None,
        application_name,
        networks: Arc::clone(networks),
    })
}
