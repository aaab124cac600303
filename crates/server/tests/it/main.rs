//! End to end, against real databases.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests may panic and print"
)]

mod huge;
mod pair;
mod process;
mod replicates;
mod trouble;
