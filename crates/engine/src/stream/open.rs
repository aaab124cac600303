//! The batch that transactions are taken into.

use thalweg_core::Result;
use thalweg_core::batch::{ApplyBatch, RowOp};
use thalweg_core::position::Layout;
use thalweg_core::schema::TableName;
use tokio::task::JoinHandle;

use super::again::Lot;
use super::queue::Held;
use crate::batch::TouchedKeys;
use crate::quarantine::Sieve;
use crate::status::{Read, Written};
use crate::turns;

/// A batch, in the parts it is applied in, and what it touches.
pub(super) type Folded = (Vec<ApplyBatch>, TouchedKeys);

/// A batch that transactions are taken into.
#[derive(Default)]
pub(super) struct Open {
    pub(super) batch: ApplyBatch,
    pub(super) gathered: Gathered,
    pub(super) layouts: Vec<(TableName, Layout)>,
    /// Transactions, and parts of them, in it.
    pub(super) taken: usize,
    /// Nothing more may come into it.
    pub(super) full: bool,
    /// Its net effect on the way, begun when it was full; the batch itself is there then.
    pub(super) folding: Option<JoinHandle<Result<Folded>>>,
    /// Its net effect, and what it touches.
    pub(super) folded: Option<Folded>,
    /// What it is made of, if it may have to be made again.
    pub(super) lot: Lot,
}

impl Open {
    /// Whether it may be begun while the batch before is being written.
    pub(super) fn may_begin(&self) -> bool {
        let folded = self.folded.as_ref();
        let may = folded.is_some_and(|(batches, _)| turns::may_go_ahead(batches));
        self.full && self.gathered.again.is_empty() && may
    }
}

/// What came.
pub(super) enum More {
    /// At least one transaction.
    Some,
    /// The task is to stop.
    Stopped,
    /// The reader has ended.
    Ended,
}

/// A batch, in the parts it is applied in, and what is to be told of it.
#[derive(Default)]
pub(crate) struct Gathered {
    pub(crate) batches: Vec<ApplyBatch>,
    /// From which operation on which targets have what derived cascades do.
    pub(super) kept: Vec<(usize, Vec<usize>)>,
    pub(super) read: Read,
    /// Its counts come from the applier.
    pub(crate) written: Written,
    /// Targets that are to be loaded again before any of this can be applied.
    pub(super) again: Vec<usize>,
    /// The memory of what was large, until it is applied: the reader waits for it.
    pub(super) held: Vec<Held>,
    /// If the batch is sifted.
    pub(crate) sieve: Option<Box<Sieve>>,
}

/// Bytes of the row images that a batch brings to the target.
pub(super) fn bytes_written(batch: &ApplyBatch) -> u64 {
    let rows = batch.ordered.iter().filter_map(|op| match op.op {
        RowOp::Insert(row) | RowOp::Update { after: row, .. } => Some(row),
        RowOp::Delete(_) | RowOp::Truncate => None,
    });
    rows.map(|row| batch.rows.row(row).bytes() as u64).sum()
}
