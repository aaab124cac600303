//! The data plane: runs one task from load to stream to apply. It knows only the ports.

mod answers;
mod barrier;
pub mod batch;
mod beside;
pub mod ledger;
pub mod limits;
mod load;
mod other_log;
mod probe;
pub mod quarantine;
pub mod retry;
mod runs;
pub mod status;
mod stream;
pub mod task;
mod turns;
pub mod verify;
