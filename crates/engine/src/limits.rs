//! Every queue, batch and wait has a limit, and all of them stand here.

use std::sync::Arc;
use std::time::Duration;

use thalweg_core::ports::{ChunkSize, StreamLimits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Limits of one task.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Operations after which a batch closes.
    pub batch_ops: usize,
    /// Bytes of target rows after which a batch closes.
    pub batch_bytes: usize,
    /// Transactions (or parts) the reader may be ahead.
    pub queue: usize,
    /// Bytes the reader may be ahead. A few batches are enough to keep the applier busy; more would
    /// only lie there, and take the memory from other tasks.
    pub queue_bytes: u64,
    /// Size of one part of a huge transaction, in bytes.
    pub part_bytes: usize,
    /// How large the chunks of a load may become in bytes; in rows, the task's options say it.
    pub chunk_bytes: u64,
    /// First wait after a transient error; doubled each time.
    pub backoff_first: Duration,
    /// Longest wait after a transient error.
    pub backoff_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            batch_ops: 20_000,
            batch_bytes: 8 << 20,
            queue: 32_768,
            queue_bytes: 4 << 20,
            part_bytes: 4 << 20,
            chunk_bytes: 256 << 20,
            backoff_first: Duration::from_millis(200),
            backoff_max: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// How large a chunk of `rows` may become.
    pub(crate) fn chunk(&self, rows: u64) -> ChunkSize {
        ChunkSize {
            rows,
            bytes: self.chunk_bytes,
        }
    }

    /// What a stream has to keep to.
    pub(crate) fn stream(&self, row_bytes_max: u64) -> StreamLimits {
        StreamLimits {
            part_bytes: self.part_bytes,
            row_bytes_max,
        }
    }
}

/// Memory for transactions that wait between reader and applier, shared by all tasks of a process.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    kibibytes: Arc<Semaphore>,
    total: u32,
}

impl MemoryBudget {
    /// A budget of `bytes`, at least one KiB.
    pub fn new(bytes: u64) -> Self {
        let total = u32::try_from(bytes / 1024)
            .unwrap_or(u32::MAX >> 4)
            .clamp(1, u32::MAX >> 4);
        MemoryBudget {
            kibibytes: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    /// Waits until `bytes` are free and holds them until the permit is dropped. More than the
    /// whole budget waits for all of it, so that one huge row cannot wait forever.
    pub(crate) async fn take(&self, bytes: usize) -> OwnedSemaphorePermit {
        let wanted = u32::try_from(bytes / 1024 + 1)
            .unwrap_or(u32::MAX)
            .min(self.total);
        let permit = Arc::clone(&self.kibibytes).acquire_many_owned(wanted).await;
        permit.expect("the budget is never closed")
    }
}

impl Default for MemoryBudget {
    /// 192 MiB.
    fn default() -> Self {
        MemoryBudget::new(192 << 20)
    }
}
