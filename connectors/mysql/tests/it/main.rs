//! The connector against a private server.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod bridge;
mod charsets;
mod contract;
mod dialect;
mod errors;
mod events;
mod history;
mod images;
mod position;
mod recordings;
mod refused;
mod relay;
mod shared;
mod source;
mod split;
mod storage;
mod target_checkpoint;
mod target_errors;
mod target_events;
mod target_files;
mod target_order;
mod target_quarantine;
mod target_sifted;
mod target_turns;
mod target_types;
mod target_world;
mod texts;
mod tls;
mod twin;
mod types;
mod world;
mod xa;
