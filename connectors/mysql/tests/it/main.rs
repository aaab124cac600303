//! The connector against a private server.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod errors;
mod tls;
