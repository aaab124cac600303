//! A shop that is busy while it is copied: the load of the demo, the crash tests and benchmarks.
//!
//! | tables of [`DATABASE`] | what they are for |
//! | --- | --- |
//! | `sbtest1` … | sysbench's `oltp_read_write`: updates, and the same key deleted and inserted again |
//! | `customer`, `invoice` | a foreign key that does not cascade; parents and children come and go together |
//! | `seat` | unique values swapped and rotated inside a transaction |
//! | `every_type` | a column of every type the product carries today |
//! | `account` | a bank: every committed state has the same [`total`](bank_total) |
//!
//! Each worker sends its transactions through one client process that lives as long as the load,
//! and waits for each to be committed, so what is counted is what happened. Workers never wait for
//! each other in a circle (each table has one, except `account`, whose rows are locked in ascending
//! order), so no deadlock is expected and *every* error of a worker ends the load loudly. The
//! transactions of a worker depend on the seed alone; how far it comes depends on the machine.

mod load;
mod sysbench;
mod tables;
mod types;

use anyhow::{Context as _, Result};

use crate::servers::{MariaDb, Postgres};

pub use load::{Load, LoadOptions, Summary};
pub use types::COLUMNS as EVERY_TYPE_COLUMNS;

/// The database all tables are in.
pub const DATABASE: &str = "shop";
/// How many tables sysbench gets.
pub const SYSBENCH_TABLES: u32 = 4;

/// The names of all tables, parents before children.
pub fn tables() -> Vec<String> {
    let sysbench = (1..=SYSBENCH_TABLES).map(|number| format!("sbtest{number}"));
    let ours = ["customer", "invoice", "seat", "every_type", "account"];
    sysbench.chain(ours.map(str::to_owned)).collect()
}

/// Creates the database and fills it: `rows` in each table of sysbench, in proportion elsewhere.
///
/// # Errors
/// When sysbench is not installed, or the server refuses something.
pub fn create(server: &MariaDb, rows: u32) -> Result<()> {
    server.sql(&format!("CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4"))?;
    server.sql_in(DATABASE, &tables::create_sql(rows))?;
    server.sql_in(DATABASE, &types::create_sql(rows))?;
    sysbench::prepare(server, rows)
}

/// What all accounts hold together, at the source.
///
/// # Errors
/// When the server cannot be asked.
pub fn bank_total(server: &MariaDb) -> Result<String> {
    server.sql_in(DATABASE, "SELECT SUM(balance) FROM account")
}

/// What all accounts hold together, at a target; the same as at the source in every state a reader
/// may see once the table is Live.
///
/// # Errors
/// When the server cannot be asked.
pub fn bank_total_at_target(server: &Postgres, database: &str, table: &str) -> Result<String> {
    server
        .sql_in(database, &format!("SELECT sum(balance) FROM {table}"))
        .context("the bank's total at the target")
}
