//! A snapshot of a table of a source in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use thalweg_core::Result;
use thalweg_core::ports::ChunkReader;
use thalweg_core::position::Visibility;
use thalweg_core::value::RowBatch;

use super::Row;
use super::source::Shared;
use super::stream::push;

/// Reads one table, two rows at a time so that a load has several steps.
pub(super) struct Snapshot {
    pub(super) visibility: Visibility,
    pub(super) rows: VecDeque<Row>,
    pub(super) shared: Arc<Shared>,
}

#[async_trait]
impl ChunkReader for Snapshot {
    fn visibility(&self) -> &Visibility {
        &self.visibility
    }

    async fn next(&mut self, into: &mut RowBatch) -> Result<bool> {
        self.shared.faults.step()?;
        tokio::task::yield_now().await;
        into.clear();
        for row in self.rows.drain(..self.rows.len().min(2)) {
            push(into, &row);
        }
        Ok(!into.is_empty())
    }
}
