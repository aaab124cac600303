//! Tables as every system describes them: names, neutral column types, keys.

use std::fmt;

/// A table's name: schema (MySQL: database) and table. Names are opaque and case-sensitive.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// Schema, or database for MySQL and MariaDB.
    pub schema: String,
    /// Table.
    pub name: String,
}

impl TableName {
    /// Both parts given.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        TableName {
            schema: schema.into(),
            name: name.into(),
        }
    }

    /// Reads `schema.table`, or `table` alone in `default_schema`. The first dot separates, so a
    /// schema with a dot in its name cannot be written; a table can. `None` if a part is empty.
    pub fn parse(text: &str, default_schema: &str) -> Option<Self> {
        let (schema, name) = text.split_once('.').unwrap_or((default_schema, text));
        if schema.is_empty() || name.is_empty() {
            return None;
        }
        Some(TableName::new(schema, name))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// The neutral type of a column: what kind of value its cells carry (see
/// [`crate::value::CellRef`]) and its limits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// `Bool` cells.
    Bool,
    /// `I64` cells, or `U64` cells when unsigned. `bits` is 8, 16, 24, 32 or 64.
    Int {
        /// Width in bits.
        bits: u8,
        /// Whether negative values are excluded.
        unsigned: bool,
    },
    /// `F32` cells.
    Float32,
    /// `F64` cells.
    Float64,
    /// `Decimal` cells.
    Decimal {
        /// Total digits; `None`: unlimited.
        precision: Option<u32>,
        /// Digits after the point; `None`: any.
        scale: Option<u32>,
    },
    /// `Text` cells.
    Text {
        /// Limit in characters.
        max_chars: Option<u32>,
    },
    /// `Bytes` cells.
    Bytes {
        /// Limit in bytes.
        max_bytes: Option<u32>,
    },
    /// `Date` cells.
    Date,
    /// `Time` cells.
    Time {
        /// Digits of the fraction of a second, 0..=6.
        precision: u8,
    },
    /// `Timestamp` cells: civil time without zone.
    Timestamp {
        /// Digits of the fraction of a second, 0..=6.
        precision: u8,
    },
    /// `Instant` cells: a moment in UTC.
    Instant {
        /// Digits of the fraction of a second, 0..=6.
        precision: u8,
    },
    /// `Interval` cells.
    Interval,
    /// `Uuid` cells.
    Uuid,
    /// `Json` cells.
    Json,
    /// `Bits` cells.
    Bits {
        /// Length in bits; for a varying type its limit, `None`: unlimited.
        len: Option<u32>,
    },
    /// `Text` cells: one of the labels.
    Enum {
        /// Labels in declaration order.
        labels: Vec<String>,
    },
    /// `Text` cells: labels joined with commas, in declaration order (MySQL `SET`).
    Set {
        /// Labels in declaration order.
        labels: Vec<String>,
    },
    /// `Other` cells: the text form of a type that only its own engine understands.
    Other,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ColumnSchema {
    /// Name, case as declared.
    pub name: String,
    /// Neutral type.
    pub ty: ColumnType,
    /// The system's own type text, such as `int(10) unsigned` or `character varying(20)`.
    pub native: String,
    /// Whether NULL is allowed.
    pub nullable: bool,
    /// Whether the system fills it when it is left out (default, identity, auto-increment).
    pub has_default: bool,
    /// Whether the system computes it, so that it cannot be written.
    pub generated: bool,
}

/// A set of columns no two rows share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UniqueKey {
    /// Name of the constraint or index.
    pub name: String,
    /// Indexes into [`TableSchema::columns`], in key order.
    pub columns: Vec<usize>,
}

/// What a foreign key does to children when a parent row goes or its key changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReferenceAction {
    /// RESTRICT or NO ACTION.
    Refuse,
    /// CASCADE.
    Cascade,
    /// SET NULL.
    SetNull,
    /// SET DEFAULT.
    SetDefault,
}

/// A foreign key of the table that declares it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ForeignKey {
    /// Name of the constraint.
    pub name: String,
    /// Referencing columns, by name.
    pub columns: Vec<String>,
    /// Referenced table.
    pub parent: TableName,
    /// Referenced columns, by name.
    pub parent_columns: Vec<String>,
    /// ON DELETE.
    pub on_delete: ReferenceAction,
    /// ON UPDATE.
    pub on_update: ReferenceAction,
}

/// One table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableSchema {
    /// Its name.
    pub name: TableName,
    /// Columns in ordinal order.
    pub columns: Vec<ColumnSchema>,
    /// Primary key as indexes into `columns`, in key order; empty: none.
    pub primary_key: Vec<usize>,
    /// Further unique keys over whole columns (no expressions, no predicates).
    pub unique_keys: Vec<UniqueKey>,
    /// Foreign keys it declares.
    pub foreign_keys: Vec<ForeignKey>,
    /// The system's estimate of its rows, if it has one.
    pub estimated_rows: Option<u64>,
}

impl TableSchema {
    /// The index of the column with exactly this name.
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }

    /// The column with exactly this name.
    pub fn column(&self, name: &str) -> Option<&ColumnSchema> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// A text that changes whenever the way rows of this table are decoded or identified changes:
    /// column names, native types, order and primary key. Kept in the checkpoint and compared at
    /// each start, because a log must be decoded with the schema it was written under.
    pub fn fingerprint(&self) -> String {
        let mut text = String::new();
        for column in &self.columns {
            text.push_str(&format!(
                "{:?} {:?} {};",
                column.name, column.native, column.nullable
            ));
        }
        text.push_str(&format!("{:?}", self.primary_key));
        format!("v1:{}", fnv1a(&text))
    }
}

/// FNV-1a as hexadecimal digits: stable across versions and platforms, which the standard hasher does
/// not promise.
pub(crate) fn fnv1a(text: &str) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{hash:016x}")
}
