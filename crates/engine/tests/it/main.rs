//! The simulation: a task between a source and a target in memory, with faults at every step.
#![allow(
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests print what they did and may panic"
)]

mod chunks;
mod figures;
mod judge;
mod layouts;
mod mappings;
mod quarantine;
mod reset;
mod simulation;
mod vault;
mod verify;
mod world;
