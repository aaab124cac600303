//! End to end: the built server, real databases, and the contract.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests may panic and print"
)]

mod bank;
mod cascades;
mod check;
mod conn;
mod crash;
mod docs;
mod http;
mod huge;
mod idle;
mod lab;
mod life;
mod matrix;
mod pair;
mod process;
mod replicates;
mod sdk;
mod trouble;
