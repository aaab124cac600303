//! Tests of the test kit itself.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod compare;
mod servers;
mod thalweg;
mod workload;
