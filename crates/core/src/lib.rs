//! The words of Thalweg: values, schemas, changes, mappings, plans, errors, and the ports that
//! connectors implement.
//!
//! This crate is pure: it has no async runtime, no clock, no network and no driver. Given the same
//! input it gives the same output. Everything else in the workspace depends on it; it depends on
//! nothing of ours.

pub mod batch;
pub mod change;
pub mod checkpoint;
pub mod error;
pub mod finding;
pub mod mapping;
pub mod networks;
pub mod plan;
pub mod ports;
pub mod position;
pub mod quarantine;
pub mod range;
pub mod schema;
pub mod secret;
pub mod value;

pub use error::{Error, Kind, Result, Side};
