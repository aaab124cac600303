//! The one list of connectors: the capability matrix of this build.

use thalweg_control::Connectors;
use thalweg_core::ports::Connector;

/// One line each.
pub(crate) fn all() -> Connectors {
    let all: [Box<dyn Connector>; 2] = [
        Box::new(thalweg_mysql::connector()),
        Box::new(thalweg_postgres::connector()),
    ];
    all.into()
}
