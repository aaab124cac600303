//! The control plane: what the product does, without HTTP.
//!
//! [`App`] is the door: one method per thing a caller can ask for, each of which validates against
//! what is stored, stores its decision in one catalogue transaction and nudges the supervisor. The
//! supervisor makes the tasks that run equal to the tasks that should.

mod app;
mod catalog;
mod connect;
mod error;
mod jdbc;
pub mod model;
pub mod policy;
mod preflight;
pub mod schedule;
mod seal;
mod stored;
mod supervisor;
mod tables;

pub use chrono_tz::Tz;

pub use app::{App, Connectors, KeySecret, OpenOptions, Quotas, TOKEN_LIFE, WRONG_PASSWORD};
pub use error::{Error, Result, Subject};
pub use preflight::{Preflight, preflight};
