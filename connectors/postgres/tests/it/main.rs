//! The connector against a real PostgreSQL.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests may panic"
)]

mod apply;
mod awkward;
mod check;
mod checkpoint;
mod contract;
mod ddl;
mod errors;
mod log;
mod relay;
mod slot;
mod source;
mod tls;
mod twin;
mod types;
mod unfriendly;
mod unsaid;
mod world;
