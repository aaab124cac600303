//! A source and a target in memory, for the simulation.
//!
//! All columns are 64-bit integers, of which two stand for [`NULL`] and the [`DEFAULT`] of a column
//! that has one. The source **forgets its log up to the
//! confirmed position**, so that confirming too early is a loss that a later run meets. The target
//! is atomic and records every state it ever committed, so that an oracle can look for half
//! transactions. Both go through one [`Faults`], which lets the process "die" at any step.

mod alter;
mod altering;
mod applier;
mod compare;
mod faults;
mod loader;
mod places;
mod quarantine;
mod rows;
mod snapshot;
mod source;
mod stream;
mod target;

use std::collections::BTreeMap;

pub use alter::{Alter, Given, Lie};
pub use altering::Slip;
pub use faults::Faults;
pub use source::{MemoryChange, MemorySource, Moment};
pub use target::{Committed, MemoryTarget};

use thalweg_core::schema::{ColumnSchema, ColumnType, TableName, TableSchema};

/// One row: of a source all columns, of a target the mapped ones, in the plan's order.
pub type Row = Vec<i64>;

/// The rows of one table by the cells of their key; in a table without key by all cells and a number
/// that tells equal rows apart.
pub type Rows = BTreeMap<Row, Row>;

/// NULL.
pub const NULL: i64 = i64::MIN;

/// What a target's column that has a default is set to when no source fills it.
pub const DEFAULT: i64 = -1;

/// A table with these columns, the first of which is the primary key.
pub fn table(schema: &str, name: &str, columns: &[&str]) -> TableSchema {
    let column = |name: &&str| ColumnSchema {
        nullable: false,
        ..ColumnSchema::new(
            *name,
            ColumnType::Int {
                bits: 64,
                unsigned: false,
            },
            "bigint",
        )
    };
    let columns = columns.iter().map(column).collect();
    TableSchema {
        primary_key: vec![0],
        ..TableSchema::new(TableName::new(schema, name), columns)
    }
}
