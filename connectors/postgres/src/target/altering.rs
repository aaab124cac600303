//! Target tables that follow their source tables.

use thalweg_core::Result;
use thalweg_core::checkpoint::TaskKey;
use thalweg_core::ports::{Alteration, Following};
use thalweg_core::schema::TableName;
use thalweg_core::value::{CellRef, decode_raw};
use tokio_postgres::Client;

use super::{checkpoint, layouts};
use crate::error::convert;
use crate::literal;
use crate::schema::{quote, quote_table};

/// The statements that take steps at a table.
pub(super) fn statements(
    table: &TableName,
    steps: &[Alteration],
) -> std::result::Result<Vec<String>, String> {
    let table = quote_table(table);
    let step = |step: &Alteration| {
        Ok(match step {
            Alteration::Add { column, fill } => {
                let (name, native) = (quote(&column.name), &column.native);
                let fill = decode_raw(fill).unwrap_or(CellRef::Null);
                let constant = literal::constant(fill).ok_or_else(|| {
                    format!("the constant of column {} cannot be written", column.name)
                })?;
                let rest = match (fill, column.nullable) {
                    // Rows may be there that have none.
                    (CellRef::Null, _) => String::new(),
                    (_, true) => format!(" DEFAULT {constant}"),
                    (_, false) => format!(" NOT NULL DEFAULT {constant}"),
                };
                format!("ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {name} {native}{rest}")
            }
            Alteration::Retype(column) => format!(
                "ALTER TABLE {table} ALTER COLUMN {} TYPE {}",
                quote(&column.name),
                column.native
            ),
            Alteration::Remake => format!("DROP TABLE IF EXISTS {table}"),
            Alteration::Drop(name) => {
                format!("ALTER TABLE {table} DROP COLUMN IF EXISTS {}", quote(name))
            }
        })
    };
    steps.iter().map(step).collect()
}

/// Alters tables and notes it, in one transaction.
pub(super) async fn follow(
    client: &mut Client,
    task: &TaskKey,
    following: &Following,
) -> Result<()> {
    let transaction = client.transaction().await.map_err(convert)?;
    let wait = "SET LOCAL lock_timeout = '10s'";
    transaction.batch_execute(wait).await.map_err(convert)?;
    for statement in &following.statements {
        transaction
            .batch_execute(statement)
            .await
            .map_err(convert)?;
    }
    checkpoint::again(&transaction, task, &following.again).await?;
    layouts::put(transaction.client(), task, &following.layouts).await?;
    for (table, fingerprint) in &following.fingerprints {
        transaction
            .execute(
                "UPDATE thalweg.checkpoint_table SET fingerprint = $5 \
                 WHERE server = $1 AND task = $2 AND target_schema = $3 AND target_table = $4",
                &[
                    &task.server,
                    &task.task,
                    &table.schema,
                    &table.name,
                    fingerprint,
                ],
            )
            .await
            .map_err(convert)?;
    }
    transaction.commit().await.map_err(convert)
}
