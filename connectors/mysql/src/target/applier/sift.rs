//! Batches in which the target refuses rows, and what goes into quarantine.
//!
//! A batch that is sifted is tried in pieces, each as always behind a savepoint of its own. One that is
//! refused is rolled back to it and comes again in smaller pieces, until its operations are tried one by one:
//! what is refused then is refused for itself, and goes into quarantine. So rows that exchange a unique value
//! pass each other only in a piece that is taken as a whole.

use std::ops::Range;

use thalweg_core::batch::{ApplyBatch, Pieces, RowOp, TableCounts, TableOp};
use thalweg_core::ports::Sift;
use thalweg_core::quarantine::Held;
use thalweg_core::{Error, Kind, Result};

use super::super::park::Parked;
use super::super::quarantine;
use super::{BULK_OPS_MIN, MySqlApplier, count, missing};

impl MySqlApplier {
    /// Applies those operations of a batch that the target takes, in the open transaction.
    pub(super) async fn sift_rows(
        &mut self,
        batch: &ApplyBatch,
        sift: &mut dyn Sift,
        counts: &mut [TableCounts],
    ) -> Result<()> {
        self.know_all(batch).await?;
        let mut pieces = Pieces::new(batch.ordered.len(), BULK_OPS_MIN);
        while let Some(piece) = pieces.take() {
            let ops = batch.ordered.get(piece.clone()).unwrap_or_default();
            let waits = ops.iter().any(|op| sift.waits(op));
            let done = !waits && self.apply_whole(batch, piece.clone(), sift, counts).await?;
            if !done && !pieces.cut(piece) {
                self.apply_each(batch, ops, sift, counts).await?;
            }
        }
        // What a part before has left parked has to be back by the end of the transaction.
        match batch.position {
            Some(_) => self.settle_all().await,
            None => Ok(()),
        }
    }

    /// Applies all of a piece behind a savepoint that takes the place of the one before; `false`: the target
    /// refuses something of it, and nothing is applied.
    async fn apply_whole(
        &mut self,
        batch: &ApplyBatch,
        piece: Range<usize>,
        sift: &mut dyn Sift,
        counts: &mut [TableCounts],
    ) -> Result<bool> {
        let made;
        let whole = piece.len() == batch.ordered.len();
        let batch = match whole {
            true => batch,
            false => {
                made = sift.piece(batch, piece)?;
                &made
            }
        };
        self.session.run("SAVEPOINT thalweg_sifted").await?;
        let (mut tried, parked) = (counts.to_vec(), self.parking.parked().to_vec());
        let mut applied = self.apply_rows(batch, &mut tried).await;
        // Whom it waits for may be refused.
        if applied.is_ok() && !whole && self.parking.parked().len() > parked.len() {
            applied = self.settle_all().await;
        }
        if self.back_if_refused(applied, parked).await?.is_some() {
            return Ok(false);
        }
        count(&batch.ordered, &mut tried);
        counts.copy_from_slice(&tried);
        let truncates = batch.ordered.iter().filter(|op| op.op == RowOp::Truncate);
        truncates.for_each(|op| sift.emptied(op));
        Ok(true)
    }

    /// Applies operations one by one.
    async fn apply_each(
        &mut self,
        batch: &ApplyBatch,
        ops: &[TableOp],
        sift: &mut dyn Sift,
        counts: &mut [TableCounts],
    ) -> Result<()> {
        for op in ops {
            if sift.waits(op) {
                sift.defer(op)?;
                continue;
            }
            match self.apply_alone(batch, op, counts).await? {
                Some(refused) => sift.refused(op, refused)?,
                None if op.op == RowOp::Truncate => sift.emptied(op),
                None => {}
            }
        }
        Ok(())
    }

    /// Applies one operation behind a savepoint that takes the place of the one before; gives why the
    /// target refuses it. A row that it parks has to find its place at once.
    async fn apply_alone(
        &mut self,
        batch: &ApplyBatch,
        op: &TableOp,
        counts: &mut [TableCounts],
    ) -> Result<Option<Error>> {
        self.session.run("SAVEPOINT thalweg_sifted").await?;
        let (mut tried, parked) = (counts.to_vec(), self.parking.parked().to_vec());
        let one = std::slice::from_ref(op);
        let ops = one.iter();
        let mut applied = self.apply_ordered(batch, ops, false, &mut tried).await;
        if applied.is_ok() && self.parking.parked().len() > parked.len() {
            applied = self.settle_all().await;
        }
        let refused = self.back_if_refused(applied, parked).await?;
        if refused.is_none() {
            count(one, &mut tried);
            counts.copy_from_slice(&tried);
        }
        Ok(refused)
    }

    async fn settle_all(&mut self) -> Result<()> {
        let (session, tables) = (&mut self.session, &self.tables);
        self.parking.settle(session, tables, true).await
    }

    /// Goes back to the savepoint if a row was refused, when these rows were parked, and gives why.
    async fn back_if_refused(
        &mut self,
        applied: Result<()>,
        parked: Vec<Parked>,
    ) -> Result<Option<Error>> {
        match applied {
            Ok(()) => Ok(None),
            Err(error) if error.kind() == Kind::Data => {
                let back = "ROLLBACK TO SAVEPOINT thalweg_sifted";
                self.session.run(back).await?;
                self.parking.reset_to(parked);
                Ok(Some(error))
            }
            Err(error) => Err(error),
        }
    }

    /// Moves changes into and out of quarantine in the open transaction.
    pub(super) async fn quarantine(&mut self, batch: &ApplyBatch, sifted: &[Held]) -> Result<()> {
        let (session, place, task) = (&mut self.session, &self.place, &self.owner.task);
        for &(target, feed) in &batch.emptied {
            let table = self.plan.targets.get(target).ok_or_else(missing)?;
            let source = self.plan.source_of(target, feed).ok_or_else(missing)?;
            let source = &source.schema.name;
            quarantine::empty(session, place, task, &table.name, source).await?;
        }
        quarantine::free(session, place, task, &batch.freed).await?;
        quarantine::put(session, place, task, &batch.held).await?;
        quarantine::put(session, place, task, sifted).await
    }
}
