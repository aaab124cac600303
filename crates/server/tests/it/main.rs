//! End to end, against real databases.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests may panic and print"
)]

mod bank;
mod crash;
mod huge;
mod lab;
mod life;
mod pair;
mod process;
mod replicates;
mod trouble;
