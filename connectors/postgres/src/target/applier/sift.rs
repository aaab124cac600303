//! Batches in which the target refuses rows, and what goes into quarantine.
//!
//! A batch that is sifted is tried in pieces, each as always behind a savepoint of its own. One that is
//! refused is rolled back to it and comes again in smaller pieces, until its operations are tried one by one:
//! what is refused then is refused for itself, and goes into quarantine.

use std::ops::Range;

use thalweg_core::batch::{ApplyBatch, Pieces, RowOp, TableCounts, TableOp};
use thalweg_core::ports::Sift;
use thalweg_core::{Kind, Result};

use super::{BULK_OPS_MIN, PostgresApplier, count};

/// Takes back what was done behind the savepoint.
const BACK: &str = "ROLLBACK TO SAVEPOINT thalweg_sift; RELEASE SAVEPOINT thalweg_sift";

impl PostgresApplier {
    /// Applies those operations of a batch that the target takes, in the open transaction.
    pub(super) async fn sift_rows(
        &mut self,
        batch: &ApplyBatch,
        sift: &mut dyn Sift,
        counts: &mut Vec<TableCounts>,
    ) -> Result<()> {
        // What is made behind a savepoint goes with it.
        for op in &batch.ordered {
            if self.plan.targets.get(op.target).is_some_and(|t| t.merged()) {
                self.prepare_stage((op.target, op.feed)).await?;
            }
        }
        let mut pieces = Pieces::new(batch.ordered.len(), BULK_OPS_MIN);
        while let Some(piece) = pieces.take() {
            let ops = batch.ordered.get(piece.clone()).unwrap_or_default();
            let waits = ops.iter().any(|op| sift.waits(op));
            let done = !waits && self.sift_whole(batch, piece.clone(), sift, counts).await?;
            if !done && !pieces.cut(piece) {
                self.sift_each(batch, ops, sift, counts).await?;
            }
        }
        Ok(())
    }

    /// Applies all of a piece; `false`: the target refuses something of it, and nothing is applied.
    async fn sift_whole(
        &mut self,
        batch: &ApplyBatch,
        piece: Range<usize>,
        sift: &mut dyn Sift,
        counts: &mut Vec<TableCounts>,
    ) -> Result<bool> {
        let made;
        let batch = match piece.len() == batch.ordered.len() {
            true => batch,
            false => {
                made = sift.piece(batch, piece)?;
                &made
            }
        };
        self.prepare_stages(&batch.rows, self.bulk(batch).unwrap_or_default())
            .await?;
        self.sql("SAVEPOINT thalweg_sift").await?;
        let mut all = counts.clone();
        match self.apply_rows(batch, &mut all).await {
            Ok(()) => self.sql("RELEASE SAVEPOINT thalweg_sift").await?,
            Err(error) if error.kind() == Kind::Data => {
                self.sql(BACK).await?;
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        batch.ordered.iter().for_each(|op| count(op, &mut all));
        *counts = all;
        let truncates = batch.ordered.iter().filter(|op| op.op == RowOp::Truncate);
        truncates.for_each(|op| sift.emptied(op));
        Ok(true)
    }

    /// Applies operations one by one.
    async fn sift_each(
        &mut self,
        batch: &ApplyBatch,
        ops: &[TableOp],
        sift: &mut dyn Sift,
        counts: &mut Vec<TableCounts>,
    ) -> Result<()> {
        for op in ops {
            if sift.waits(op) {
                sift.defer(op)?;
                continue;
            }
            self.sql("SAVEPOINT thalweg_sift").await?;
            let mut more = counts.clone();
            let one = std::iter::once(op);
            match self.apply_ordered(batch, one, &mut more).await {
                Ok(()) => {
                    self.sql("RELEASE SAVEPOINT thalweg_sift").await?;
                    count(op, &mut more);
                    *counts = more;
                }
                Err(error) if error.kind() == Kind::Data => {
                    self.sql(BACK).await?;
                    sift.refused(op, error)?;
                    continue;
                }
                Err(error) => return Err(error),
            }
            if op.op == RowOp::Truncate {
                sift.emptied(op);
            }
        }
        Ok(())
    }
}
