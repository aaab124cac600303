//! Preflight: every finding at once, each with the statement that fixes it.

use thalweg_core::Result;
use thalweg_core::finding::Finding;
use thalweg_core::ports::DataSourceConfig;
use thalweg_core::schema::TableName;
use tokio_postgres::Client;

use crate::error::asking;
use crate::schema;

/// Asks the server for all that is needed of it.
pub(crate) async fn check(
    client: &Client,
    _config: &DataSourceConfig,
    tables: &[TableName],
) -> Result<Vec<Finding>> {
    let mut out = Vec::new();
    let row = client
        .query_one("SELECT current_setting('wal_level')", &[])
        .await
        .map_err(asking)?;
    let level: &str = row.get(0);
    if level != "logical" {
        out.push(Finding::error(
            "wal_level",
            "wal_level",
            format!("wal_level is {level}: the log does not say what changed"),
            "ALTER SYSTEM SET wal_level = logical; -- then restart the server",
        ));
    }
    for table in tables {
        if schema::describe(client, table).await?.is_none() {
            out.push(Finding::error(
                "table_missing",
                table.to_string(),
                "there is no base table of exactly this name (case counts)",
                "correct the name in the mapping",
            ));
        }
    }
    Ok(out)
}
