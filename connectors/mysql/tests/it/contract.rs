//! The behaviours every source has.

use thalweg_core::ports::Connector as _;
use thalweg_testkit::servers::System;

thalweg_testkit::source_contract!(System::MariaDb, |config| thalweg_mysql::connector()
    .source(config));
