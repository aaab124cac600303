//! The rows of one table of a batch, whichever way they go; and statements of many tables on their way at once.

use std::sync::Arc;
use std::task::Poll;

use futures_util::future::maybe_done;
use thalweg_core::Result;
use thalweg_core::batch::{FoldedTable, TableCounts};
use thalweg_core::value::RowBatch;
use tokio_postgres::Client;

use crate::target::bulk::{Bulk, BulkError};
use crate::target::merged::{Merged, Ops};

/// A target table, or the part of it that one source fills, with its staging table.
pub(super) struct Staged {
    pub(super) way: Way,
    /// The staging table was filled in the open transaction.
    pub(super) filled: bool,
}

pub(super) enum Way {
    /// Its only source.
    Plain(Box<Bulk>),
    /// One source of several, and what is staged of it.
    Merged(Arc<Merged>, Ops),
}

impl Staged {
    pub(super) async fn stage(
        &mut self,
        client: &Client,
        rows: &RowBatch,
        table: &FoldedTable,
    ) -> Result<(), BulkError> {
        match &mut self.way {
            Way::Plain(bulk) => self.filled |= bulk.stage(client, rows, table, self.filled).await?,
            Way::Merged(merged, ops) => {
                let reused = std::mem::replace(&mut self.filled, true);
                *ops = merged.stage(client, rows, table, reused).await?;
            }
        }
        Ok(())
    }

    /// Whether [`Self::prepare`] has nothing to do.
    pub(super) fn is_prepared(&self, rows: &RowBatch, table: &FoldedTable) -> bool {
        match &self.way {
            Way::Plain(bulk) => bulk.is_prepared(rows, table),
            Way::Merged(..) => true,
        }
    }

    /// Makes what the rows of a batch need.
    pub(super) async fn prepare(
        &self,
        client: &Client,
        rows: &RowBatch,
        table: &FoldedTable,
    ) -> Result<()> {
        match &self.way {
            Way::Plain(bulk) => bulk.prepare(client, rows, table).await,
            Way::Merged(..) => Ok(()),
        }
    }

    pub(super) async fn stage_all(&mut self, client: &Client) -> Result<(), BulkError> {
        let reused = std::mem::replace(&mut self.filled, true);
        if let Way::Merged(merged, ops) = &mut self.way {
            *ops = merged.stage_all(client, reused).await?;
        }
        Ok(())
    }

    pub(super) async fn delete(
        &self,
        client: &Client,
        rows: &RowBatch,
        table: &FoldedTable,
    ) -> Result<TableCounts, BulkError> {
        match &self.way {
            Way::Plain(bulk) => bulk.delete(client, rows, table).await,
            Way::Merged(merged, ops) => {
                let mut counts = TableCounts::default();
                merged.delete(client, *ops, &mut counts).await?;
                Ok(counts)
            }
        }
    }

    pub(super) async fn write(
        &self,
        client: &Client,
        rows: &RowBatch,
        table: &FoldedTable,
        may_insert: bool,
    ) -> Result<TableCounts, BulkError> {
        match &self.way {
            Way::Plain(bulk) => bulk.write(client, rows, table, may_insert).await,
            Way::Merged(merged, ops) => {
                let mut counts = TableCounts::default();
                merged.write(client, *ops, may_insert, &mut counts).await?;
                Ok(counts)
            }
        }
    }
}

/// Runs futures together, each of which is first polled after the one before: what they send to the server then
/// is done in this order.
pub(super) async fn in_turn<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = futures.map(|one| Box::pin(maybe_done(one))).collect();
    std::future::poll_fn(|context| {
        for one in &mut all {
            // Asked again below until it is done.
            let (Poll::Ready(()) | Poll::Pending) = one.as_mut().poll(context);
        }
        Poll::Ready(())
    })
    .await;
    let mut done = Vec::with_capacity(all.len());
    for mut one in all {
        one.as_mut().await;
        done.extend(one.as_mut().take_output());
    }
    done
}
