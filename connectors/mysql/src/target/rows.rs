//! The row path: one statement per change, in commit order. Slower, and always right: what the source
//! did one after the other meets no constraint that the source did not meet.

use thalweg_core::Result;
use thalweg_core::batch::{RowOp, TableCounts};
use thalweg_core::value::{RowBatch, RowRef};

use super::error::convert_for;
use super::session::Session;
use super::table::{Rules, Table, is_duplicate};

/// Applies one change.
pub(super) async fn apply(
    session: &mut Session,
    table: &Table,
    rules: &Rules,
    rows: &RowBatch,
    op: RowOp,
    may_insert: bool,
    counts: &mut TableCounts,
) -> Result<()> {
    match op {
        RowOp::Insert(row) => {
            let met = insert(session, table, rules, rows.row(row)).await?;
            counts.repaired += u64::from(met);
        }
        RowOp::Delete(row) => {
            let mut sql = format!("DELETE FROM {} WHERE ", table.name).into_bytes();
            table.put_find(rows.row(row), false, &mut sql)?;
            if table.target.key.is_empty() {
                sql.extend_from_slice(b" LIMIT 1");
            }
            counts.missing += u64::from(found(session, table, &sql).await? == 0);
        }
        RowOp::Update { before, after } => {
            let (old, new) = (rows.row(before), rows.row(after));
            let mut sql = Vec::new();
            table.put_update(old, new, &rules.touched, &mut sql)?;
            if found(session, table, &sql).await? == 0 {
                if may_insert && new.cells().all(|cell| cell.is_present()) {
                    insert(session, table, rules, new).await?;
                    counts.repaired += 1;
                } else {
                    counts.missing += 1;
                }
            }
        }
        RowOp::Truncate => {
            // DELETE, not TRUNCATE: that would commit.
            let sql = format!("DELETE FROM {}", table.name);
            table.send(session, sql.as_bytes()).await?;
        }
    }
    Ok(())
}

/// The rows a single statement found or wrote.
async fn found(session: &mut Session, table: &Table, sql: &[u8]) -> Result<u64> {
    let written = table.send(session, sql).await?;
    Ok(written.iter().map(|w| w.rows).sum())
}

/// Inserts a row; whether its key was there already, and the row overwritten.
async fn insert(
    session: &mut Session,
    table: &Table,
    rules: &Rules,
    row: RowRef<'_>,
) -> Result<bool> {
    let mut sql = table.insert().into_bytes();
    table.put_values(row, &mut sql)?;
    table.fits(&sql, &session.facts)?;
    let error = match table.try_send(session, &sql).await {
        Ok(_) => return Ok(false),
        Err(error) if is_duplicate(&error) && !table.target.key.is_empty() => error,
        Err(error) => return Err(convert_for(error, &table.target)),
    };
    // Its own key, or another unique key?
    let mut sql = format!("SELECT 1 FROM {} WHERE ", table.name).into_bytes();
    table.put_find(row, true, &mut sql)?;
    sql.extend_from_slice(b" FOR UPDATE");
    if session.first::<u8>(&sql).await?.is_none() {
        return Err(convert_for(error, &table.target));
    }
    let mut sql = Vec::new();
    table.put_update(row, row, &rules.touched, &mut sql)?;
    found(session, table, &sql).await?;
    Ok(true)
}
