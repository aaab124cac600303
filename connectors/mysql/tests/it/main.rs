//! The connector against a private server.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod errors;
mod position;
mod source;
mod tls;
mod world;
mod xa;
