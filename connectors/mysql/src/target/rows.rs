//! The row path: one statement per change, in commit order. Slower, and always right: what the source
//! did one after the other meets no constraint that the source did not meet.

use thalweg_core::Result;
use thalweg_core::batch::{RowOp, TableCounts, TableOp};
use thalweg_core::mapping::Operations;
use thalweg_core::value::{RowBatch, RowRef};

use super::error::convert_for;
use super::park::Parking;
use super::rules::Rules;
use super::session::Session;
use super::statement::Statement;
use super::table::{Table, is_duplicate};

/// What the row path needs of one table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'a> {
    pub(super) target: usize,
    pub(super) table: &'a Table,
    pub(super) rules: &'a Rules,
    pub(super) operations: Operations,
}

impl Rows<'_> {
    /// Applies one change.
    pub(super) async fn apply(
        self,
        session: &mut Session,
        parking: &mut Parking,
        rows: &RowBatch,
        op: &TableOp,
        counts: &mut TableCounts,
    ) -> Result<()> {
        let table = self.table;
        match op.op {
            RowOp::Insert(row) => {
                let met = self.insert(session, parking, rows.row(row)).await?;
                counts.repaired += u64::from(met);
            }
            RowOp::Delete(row) => {
                let row = rows.row(row);
                let mut sql = format!("DELETE FROM {} WHERE ", table.name).into_bytes();
                table.put_find(row, false, &mut sql)?;
                if table.target.key.is_empty() {
                    sql.extend_from_slice(b" LIMIT 1");
                }
                let written = table.send_text(session, &sql).await?;
                if written.iter().all(|w| w.rows == 0) {
                    match self.parked(parking, row) {
                        Some(parked) => parking.remove(parked),
                        None => counts.missing += u64::from(!self.rules.echoed),
                    }
                }
            }
            RowOp::Update { before, after } => {
                let (old, new) = (rows.row(before), rows.row(after));
                if self.update(session, parking, old, new).await? {
                    return Ok(());
                }
                if let Some(parked) = self.parked(parking, old) {
                    self.make_way(session, old, new).await?;
                    parking.change(parked, new);
                } else if self.rules.echoed
                    && self
                        .update(session, parking, RowBatch::laid_over(new, old).row(0), new)
                        .await?
                {
                    // A foreign key of the target had moved it already.
                } else if self.operations.insert && new.is_whole_over(old) {
                    let whole = RowBatch::laid_over(new, old);
                    self.insert(session, parking, whole.row(0)).await?;
                    counts.repaired += 1;
                } else {
                    counts.missing += 1;
                }
            }
            RowOp::Truncate => {
                // DELETE, not TRUNCATE: that would commit.
                let sql = format!("DELETE FROM {}", table.name);
                table.send_text(session, sql.as_bytes()).await?;
                parking.clear(self.target);
            }
        }
        Ok(())
    }

    /// The parked row of a key that the table does not have. The table comes first: of two rows that
    /// exchange their keys, the parked one has the key of the other already.
    fn parked(self, parking: &Parking, row: RowRef<'_>) -> Option<usize> {
        if parking.is_empty() {
            return None;
        }
        parking.find(self.target, self.table, row)
    }

    /// Changes a row; whether it was there.
    async fn update(
        self,
        session: &mut Session,
        parking: &mut Parking,
        old: RowRef<'_>,
        new: RowRef<'_>,
    ) -> Result<bool> {
        let table = self.table;
        let mut sql = Statement::default();
        table.put_update(old, new, &self.rules.touched, &mut sql)?;
        table.fits(sql.bytes(), &session.facts)?;
        let mut written = table.try_send(session, &sql, new).await;
        if written.as_ref().is_err_and(is_duplicate) && self.make_way(session, old, new).await? {
            written = table.try_send(session, &sql, new).await;
        }
        match written {
            Ok(written) => Ok(written.iter().any(|w| w.rows > 0)),
            Err(error) if is_duplicate(&error) && !table.target.key.is_empty() => {
                let of = (self.target, table, self.rules);
                parking.park(session, of, old, new).await?;
                Ok(true)
            }
            Err(error) => Err(convert_for(error, &table.target)),
        }
    }

    /// Removes a row that was kept under the key to which a row moves ([`RowOp::Update`]); whether
    /// there was one. A key that the target takes for equal is the moving row's own.
    async fn make_way(
        self,
        session: &mut Session,
        old: RowRef<'_>,
        new: RowRef<'_>,
    ) -> Result<bool> {
        let table = self.table;
        if self.operations.delete || !table.target.moves(old, new) {
            return Ok(false);
        }
        let there = RowBatch::laid_over(new, old);
        let mut sql = format!("DELETE FROM {} WHERE ", table.name).into_bytes();
        table.put_find(there.row(0), false, &mut sql)?;
        sql.extend_from_slice(b" AND NOT (");
        table.put_find(old, false, &mut sql)?;
        sql.push(b')');
        let written = table.send_text(session, &sql).await?;
        Ok(written.iter().any(|w| w.rows > 0))
    }

    /// Inserts a row; whether its key was there already, and the row overwritten.
    async fn insert(
        self,
        session: &mut Session,
        parking: &mut Parking,
        row: RowRef<'_>,
    ) -> Result<bool> {
        let table = self.table;
        let mut sql = Statement::from(table.insert());
        table.put_values(row, &mut sql)?;
        table.fits(sql.bytes(), &session.facts)?;
        let error = match table.try_send(session, &sql, row).await {
            Ok(_) => return Ok(false),
            Err(error) if is_duplicate(&error) && !table.target.key.is_empty() => error,
            Err(error) => return Err(convert_for(error, &table.target)),
        };
        // Its own key, or another unique key?
        let find = |exactly: bool| {
            let mut sql = format!("SELECT 1 FROM {} WHERE ", table.name).into_bytes();
            table.put_find(row, exactly, &mut sql)?;
            sql.extend_from_slice(b" FOR UPDATE");
            Ok::<_, thalweg_core::Error>(sql)
        };
        if session.first::<u8>(find(true)?).await?.is_some() {
            self.update(session, parking, row, row).await?;
            return Ok(true);
        }
        if session.first::<u8>(find(false)?).await?.is_some() {
            // A key that the target takes for equal is another row's all the same.
            return Err(convert_for(error, &table.target));
        }
        parking.park_new(self.target, row);
        Ok(false)
    }
}
