//! Verification: whether the tables of a running task are equal, and repair where they are not.
//!
//! A table is compared in ranges of its key where both sides order them in the same way, otherwise as a
//! whole. Each range is compared at one moment of both sides ([`crate::barrier`]), so a difference is
//! one however much is changed meanwhile. Differing rows whose keys were disputed make the range be
//! compared again.
//!
//! A table is equal *up to* the place of its last barrier: each of its keys was, at a place up to there,
//! and has been changed by the stream only since.

mod rows;
mod verifier;

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use thalweg_core::ports::Differs;
use thalweg_core::position::Position;
use thalweg_core::schema::TableName;
use tokio::sync::{Notify, watch};
use tracing::error;

use crate::barrier::Barrier;
use crate::limits::{Limits, MemoryBudget};
use crate::task::TaskSpec;
pub(crate) use rows::shown;
use verifier::Verifier;

/// Verifications that may wait behind one another.
const WAITING_MAX: usize = 8;

/// What is to be verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Target tables; empty: all.
    pub tables: Vec<TableName>,
    /// Whether rows that differ are written as they are at the source.
    pub repair: bool,
    /// Rows read from the source a second, at most; `None`: as many as can be.
    pub rows_per_second: Option<u64>,
    /// Whether it gives up its slow pace when another one waits behind it.
    pub hurries: bool,
}

/// How far a verification is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// Behind others, or until the task's tables are live.
    #[default]
    Waiting,
    /// Under way.
    Running,
    /// All tables were compared.
    Done,
    /// The task has ended first.
    Ended,
}

/// What is known of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Finding {
    /// Not compared yet.
    #[default]
    Waiting,
    /// Under way.
    Running,
    /// No row differs.
    Equal,
    /// Rows differed, and none does now: they were repaired, or the stream has written them since.
    Repaired,
    /// Rows differ.
    Different,
    /// It could not be compared, or repaired: why, and what to do.
    Failed(String),
}

/// One table in a verification: its certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableReport {
    /// The source table.
    pub source: String,
    /// The target table.
    pub target: String,
    /// What was found.
    pub finding: Finding,
    /// The place in the source's log up to which it holds.
    pub position: Option<Position>,
    /// Rows compared.
    pub rows: u64,
    /// A hash of all rows, whatever their order: the sum of the first 128 bits of each row's SHA-256, as
    /// it is written to the target. The same rows have the same hash.
    pub hash: u128,
    /// When it was finished, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Milliseconds it took.
    pub took_ms: u64,
    /// Rows that were found with other values.
    pub changed: u64,
    /// Rows that were found missing at the target.
    pub missing: u64,
    /// Rows that were found at the target only.
    pub extra: u64,
    /// Rows that were repaired.
    pub repaired: u64,
    /// The first of them, in the order of the ranges.
    pub differences: Vec<RowReport>,
}

/// A row that was found to differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowReport {
    /// The columns of its key, with their values as text.
    pub key: Vec<(String, String)>,
    /// How it differs.
    pub differs: Differs,
    /// Of a changed row, the columns that differ.
    pub columns: Vec<String>,
}

/// A verification as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How far it is.
    pub progress: Progress,
    /// What it waits for, if it does.
    pub waits: Option<String>,
    /// Its tables.
    pub tables: Vec<TableReport>,
}

/// Where verifications of a task are asked for. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Orders(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    orders: Mutex<VecDeque<Order>>,
    came: Notify,
}

#[derive(Debug)]
struct Order {
    request: Request,
    report: watch::Sender<Report>,
}

impl Orders {
    /// Asks for a verification; it is made when those before it are. `None`: too many wait. When the
    /// sender is gone without [`Progress::Done`], the task has ended.
    pub fn verify(&self, request: Request) -> Option<watch::Receiver<Report>> {
        let (report, follow) = watch::channel(Report::default());
        let mut orders = self.0.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if orders.len() >= WAITING_MAX {
            return None;
        }
        orders.push_back(Order { request, report });
        drop(orders);
        self.0.came.notify_one();
        Some(follow)
    }

    /// Whether anybody waits.
    fn waits(&self) -> bool {
        let orders = self.0.orders.lock();
        !orders.unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    async fn next(&self) -> Order {
        loop {
            let next = {
                let orders = self.0.orders.lock();
                orders.unwrap_or_else(PoisonError::into_inner).pop_front()
            };
            match next {
                Some(order) => return order,
                None => self.0.came.notified().await,
            }
        }
    }
}

/// Makes the verifications that are asked for, as long as the task runs.
pub(crate) async fn serve(
    spec: TaskSpec,
    limits: Limits,
    budget: MemoryBudget,
    barrier: Arc<Barrier>,
) {
    loop {
        let order = spec.orders.next().await;
        let verifier = Verifier {
            spec: &spec,
            limits: &limits,
            budget: &budget,
            barrier: &barrier,
            request: &order.request,
            report: &order.report,
        };
        // The next one is made whatever becomes of this; whoever follows it sees that it has ended.
        let made = AssertUnwindSafe(verifier.run()).catch_unwind().await;
        if made.is_err() {
            barrier.end();
            error!(task = %spec.key, "a verification panicked: please report it, with this log");
        }
    }
}
