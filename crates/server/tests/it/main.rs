//! End to end: the built server, real databases, and the contract.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests may panic and print"
)]

/// A test of each live pair: `pairs!(body)` calls `body(source, target)`. `pairs!(body, #[ignore = "why"])`
/// leaves those from PostgreSQL to `make prove`.
macro_rules! pairs {
    ($body:ident) => {
        pairs!($body, #[cfg(all())]);
    };
    ($body:ident, #[$postgres:meta] $(,)?) => {
        pairs!($body, #[$postgres], #[cfg(all())]);
    };
    // The last is for pairs of one system, each half of which is half of another pair too.
    ($body:ident, #[$postgres:meta], #[$same:meta] $(,)?) => {
        #[test]
        fn mariadb_to_postgres() {
            $body(System::MariaDb, System::Postgres);
        }

        #[test]
        #[$postgres]
        #[$same]
        fn postgres_to_postgres() {
            $body(System::Postgres, System::Postgres);
        }

        #[test]
        #[$postgres]
        fn postgres_to_mariadb() {
            $body(System::Postgres, System::MariaDb);
        }

        #[test]
        #[$same]
        fn mariadb_to_mariadb() {
            $body(System::MariaDb, System::MariaDb);
        }
    };
}

mod bank;
mod big;
mod canaries;
mod cascades;
mod check;
mod compared;
mod conn;
mod crash;
mod docs;
mod faults;
mod history;
mod http;
mod huge;
mod idle;
mod lab;
mod life;
mod mappings;
mod matrix;
mod pair;
mod process;
mod quarantine;
mod recordings;
mod replicates;
mod resume;
mod scheduled;
mod schema_changes;
mod schemathesis;
mod sdk;
mod start;
mod tables;
mod trouble;
mod types_page;
mod unfit;
mod verify;
mod verify_command;
