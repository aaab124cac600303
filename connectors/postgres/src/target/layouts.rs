//! How rows of source tables lie in the log at the stored position, for sources that have to remember
//! it. Written in the transaction that moves the position.

use thalweg_core::Result;
use thalweg_core::checkpoint::TaskKey;
use thalweg_core::position::Layout;
use thalweg_core::schema::TableName;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use crate::error::convert;
use crate::schema::wanted;

pub(super) const TABLE: &str = "\
CREATE TABLE IF NOT EXISTS thalweg.checkpoint_layout (
  server text NOT NULL, task text NOT NULL, source_schema text NOT NULL, source_table text NOT NULL,
  layout text NOT NULL, PRIMARY KEY (server, task, source_schema, source_table))";

/// Stores layouts in the open transaction, those of other tables staying as they are.
pub(super) async fn put(
    client: &Client,
    task: &TaskKey,
    layouts: &[(TableName, Layout)],
) -> Result<()> {
    if layouts.is_empty() {
        return Ok(());
    }
    let (schemas, names) = wanted(layouts.iter().map(|(table, _)| table));
    let texts: Vec<&str> = layouts.iter().map(|(_, layout)| layout.as_str()).collect();
    let put = "INSERT INTO thalweg.checkpoint_layout \
               SELECT $1, $2, w.* FROM unnest($3::text[], $4::text[], $5::text[]) w \
               ON CONFLICT (server, task, source_schema, source_table) \
               DO UPDATE SET layout = excluded.layout";
    let key: [&(dyn ToSql + Sync); 5] = [&task.server, &task.task, &schemas, &names, &texts];
    client.execute(put, &key).await.map(drop).map_err(convert)
}

/// Forgets the layouts of a task.
pub(super) const DROP: &str =
    "DELETE FROM thalweg.checkpoint_layout WHERE server = $1 AND task = $2";

/// Those of a task.
pub(super) async fn read(
    client: &Client,
    task: &TaskKey,
) -> std::result::Result<Vec<(TableName, Layout)>, tokio_postgres::Error> {
    let read = "SELECT source_schema, source_table, layout FROM thalweg.checkpoint_layout \
                WHERE server = $1 AND task = $2";
    let rows = client.query(read, &[&task.server, &task.task]).await?;
    let stored = |row: &Row| {
        let name = TableName::new(row.get::<_, &str>(0), row.get::<_, &str>(1));
        (name, Layout::new(row.get::<_, &str>(2)))
    };
    Ok(rows.iter().map(stored).collect())
}
