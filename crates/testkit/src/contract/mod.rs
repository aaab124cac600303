//! What every source and every target has to do, whichever system it is: named behaviours, each a test
//! against a real private server.
//!
//! A connector's tests make the suite theirs by one line, which becomes a test for each behaviour:
//!
//! ```ignore
//! thalweg_testkit::source_contract!(System::Postgres, |config| thalweg_postgres::connector().source(config));
//! thalweg_testkit::target_contract!(System::Postgres, |config| thalweg_postgres::connector().target(config));
//! ```
//!
//! What only one system has (replica identity, XA, checksums of the log) is tested beside its
//! connector.

pub mod log;
pub mod source;
pub mod target;

use std::time::Duration;

use thalweg_core::ports::DataSourceConfig;
use thalweg_core::secret::Secret;

use crate::servers::{Account, Place};

/// How the product reaches a database as this account.
pub fn config(place: &Place, account: &Account) -> DataSourceConfig {
    DataSourceConfig {
        host: place.server.host().into(),
        port: place.server.port(),
        database: place.database.clone(),
        user: account.user.clone(),
        password: Secret::new(account.password.as_str()),
        tls: Default::default(),
        allow_cleartext_password: false,
        timeout: Duration::from_secs(10),
        server_id: None,
        application_name: "thalweg/contract".into(),
        networks: std::sync::Arc::default(),
    }
}

/// A test for each behaviour of a source. The second argument opens one:
/// `fn(&DataSourceConfig) -> Result<Arc<dyn Source>>`.
#[macro_export]
macro_rules! source_contract {
    ($system:expr, $open:expr) => {
        $crate::source_contract!(
            $system, $open, load_then_stream_is_whole, types_roundtrip, commit_order, pk_update,
            truncate, no_pk_table, huge_transaction, resume_after_kill, idle_advances, log_purged,
            release_is_repeatable
        );
    };
    ($system:expr, $open:expr, $($behaviour:ident),*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let subject = $crate::contract::source::Subject::start($system, $open);
                $crate::contract::source::$behaviour(&subject).await;
            }
        )*
    };
}

/// A test for each behaviour of a target. The second argument opens one:
/// `fn(&DataSourceConfig) -> Result<Arc<dyn Target>>`.
#[macro_export]
macro_rules! target_contract {
    ($system:expr, $open:expr) => {
        $crate::target_contract!(
            $system, $open, both_paths_agree, batches_begun_ahead_change_nothing, unique_values_swap, epoch_fences, huge_transaction,
            parents_come_first, resume_after_kill, truncate, no_pk_table,
            layouts_move_with_the_position, kept_rows_make_way, sources_meet, equal_keys_meet_once,
            side_table_follows_types, refused_rows_are_left_out
        );
    };
    ($system:expr, $open:expr, $($behaviour:ident),*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let goal = $crate::contract::target::Goal::start($system, $open);
                $crate::contract::target::$behaviour(&goal).await;
            }
        )*
    };
}
