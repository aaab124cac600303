//! A shop that is busy while it is copied: the load of the demo, the crash tests and benchmarks.
//!
//! The tables, transactions and invariants are the same in MariaDB and PostgreSQL, but for the types.
//!
//! | table | what it is for |
//! | --- | --- |
//! | `sbtest1` … | sysbench's `oltp_read_write`: updates, and the same key deleted and inserted again |
//! | `customer`, `invoice` | a foreign key that does not cascade; parents and children come and go together |
//! | `basket`, `item`, `gift` | foreign keys that act, over two levels: rows go, change their key and get NULLs |
//! | `seat` | unique values swapped and rotated inside a transaction |
//! | `every_type` | a column of every type the product carries today |
//! | `account` | a bank: every committed state has the same [`total`](bank_total) |
//! | `mark` | one row; the [`mark`] set last tells when a target has everything |
//!
//! Each worker sends its transactions through one client process that lives as long as the load,
//! and waits for each to be committed, so what is counted is what happened. Workers never wait for
//! each other in a circle (each table has one, except `account`, whose rows are locked in ascending
//! order), so no deadlock is expected and *every* error of a worker ends the load loudly. The
//! transactions of a worker depend on the seed alone; how far it comes depends on the machine.

mod load;
mod postgres;
mod sysbench;
mod tables;
mod types;
mod types_postgres;

use anyhow::{Context as _, Result};
use rand::rngs::SmallRng;

use crate::servers::{Place, System};

pub use load::{Load, LoadOptions, Summary};

/// The name the source's database usually gets.
pub const DATABASE: &str = "shop";
/// How many tables sysbench gets.
pub const SYSBENCH_TABLES: u32 = 4;

/// The names of all tables, parents before children.
pub fn tables() -> Vec<String> {
    let sysbench = (1..=SYSBENCH_TABLES).map(|number| format!("sbtest{number}"));
    let ours = [
        "customer",
        "invoice",
        "basket",
        "item",
        "gift",
        "seat",
        "every_type",
        "account",
        "mark",
    ];
    sysbench.chain(ours.map(str::to_owned)).collect()
}

/// A literal of each column of `every_type` but for its key.
pub fn every_type_literals(system: System, random: &mut SmallRng) -> Vec<(&'static str, String)> {
    match system {
        System::MariaDb => types::literals(random),
        System::Postgres => types_postgres::literals(random),
    }
}

/// Statements that make `own_types`, a table of values only its own system has; and changes of each
/// column alone. `every_type` has to be there.
pub fn own_types(system: System) -> (String, String) {
    match system {
        System::MariaDb => (types::own_sql(), types::own_changes()),
        System::Postgres => (types_postgres::own_sql(), types_postgres::own_changes()),
    }
}

/// Statements a target of the same system needs before it can have columns of a user's own types.
pub fn user_types(system: System) -> &'static str {
    match system {
        System::MariaDb => "",
        System::Postgres => types_postgres::user_types(),
    }
}

/// Statements that make `every_type` and its first rows, for `rows` of sysbench's.
pub fn every_type_create(system: System, rows: u32) -> String {
    match system {
        System::MariaDb => types::create_sql(rows),
        System::Postgres => types_postgres::create_sql(rows),
    }
}

/// One transaction of `every_type`: rows come, change in every column or in a few, and go.
pub fn every_type_change(system: System, random: &mut SmallRng) -> String {
    match system {
        System::MariaDb => types::change(random),
        System::Postgres => types_postgres::change(random),
    }
}

/// Makes the tables in an empty database: `rows` in each of sysbench's, in proportion elsewhere.
///
/// # Errors
/// When sysbench is not installed, or the server refuses something.
pub fn create(place: &Place, rows: u32) -> Result<()> {
    match place.system() {
        System::MariaDb => place.sql(&tables::create_sql(rows))?,
        System::Postgres => place.sql(&postgres::create_sql(rows))?,
    };
    place.sql(&tables::baskets_sql(rows))?;
    place.sql(&every_type_create(place.system(), rows))?;
    place.sql("CREATE TABLE mark (id INT PRIMARY KEY, n BIGINT NOT NULL); INSERT INTO mark VALUES (1, 0);")?;
    sysbench::prepare(place, rows)
}

/// What all accounts hold together: the same at the source and in every state a reader of the target
/// may see once the table is Live.
///
/// # Errors
/// When the server cannot be asked.
pub fn bank_total(place: &Place) -> Result<String> {
    place.sql("SELECT sum(balance) FROM account")
}

/// Commits a new mark at the source; what it is now. A target that [`has`](marked) it has everything
/// that was committed before.
///
/// # Errors
/// When the server cannot be asked.
pub fn mark(place: &Place) -> Result<u64> {
    place.sql("UPDATE mark SET n = n + 1")?;
    marked(place)
}

/// The last mark a database has.
///
/// # Errors
/// When the server cannot be asked.
pub fn marked(place: &Place) -> Result<u64> {
    let told = place.sql("SELECT n FROM mark")?;
    told.trim().parse().context("the mark")
}
