//! A source and a target in memory, for the simulation.
//!
//! All columns are 64-bit integers and column 0 is the key. The source **forgets its log up to the
//! confirmed position**, so that confirming too early is a loss that a later run meets. The target
//! is atomic and records every state it ever committed, so that an oracle can look for half
//! transactions. Both go through one [`Faults`], which lets the process "die" at any step.

mod faults;
mod source;
mod target;

use std::collections::BTreeMap;

pub use faults::Faults;
pub use source::{MemoryChange, MemorySource};
pub use target::{Committed, MemoryTarget};

use thalweg_core::schema::{ColumnSchema, ColumnType, TableName, TableSchema};

/// NULL in a row.
pub const NULL: i64 = i64::MIN;

/// One row: the key first.
pub type Row = Vec<i64>;

/// The rows of one table by key.
pub type Rows = BTreeMap<i64, Row>;

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
