//! End to end, against real databases.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "tests may panic and print"
)]

mod docs;
mod http;
mod bank;
mod crash;
mod huge;
mod lab;
mod life;
mod pair;
mod check;
mod process;
mod replicates;
mod sdk;
mod trouble;
