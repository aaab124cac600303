//! End to end, against real databases.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "tests may panic and print"
)]

mod check;
mod docs;
mod http;
mod huge;
mod pair;
mod process;
mod replicates;
mod sdk;
mod trouble;
