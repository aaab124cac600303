//! The behaviours every source and every target has.

mod source {
    use thalweg_core::ports::Connector as _;
    use thalweg_testkit::servers::System;

    thalweg_testkit::source_contract!(System::Postgres, |config| thalweg_postgres::connector()
        .source(config));
}

mod target {
    use thalweg_core::ports::Connector as _;
    use thalweg_testkit::servers::System;

    thalweg_testkit::target_contract!(System::Postgres, |config| thalweg_postgres::connector()
        .target(config));
}
