//! Operations of the service that keeps integration applications.

pub(super) mod apps;
