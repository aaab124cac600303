//! Tables as every system describes them: names, neutral column types, keys.

use std::fmt;

use crate::position::Layout;
use crate::value::Interval;

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

/// Which days a system's dates have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Calendar {
    /// Real days of the proleptic Gregorian calendar, BC and years beyond 9999 included, and the
    /// two infinities: PostgreSQL.
    Real,
    /// Years 0 to 9999, no infinities, but zero dates and days past their month's end: MySQL and
    /// MariaDB.
    Lenient,
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
    Float32 {
        /// Whether NaN and the infinities are values of it.
        special: bool,
    },
    /// `F64` cells.
    Float64 {
        /// Whether NaN and the infinities are values of it.
        special: bool,
    },
    /// `Decimal` cells.
    Decimal {
        /// Total digits; `None`: unlimited.
        precision: Option<u32>,
        /// Digits after the point; `None`: any.
        scale: Option<u32>,
        /// Whether NaN is a value of it, and without precision also the infinities.
        special: bool,
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
    Date {
        /// Which days it has.
        calendar: Calendar,
    },
    /// `Time` cells.
    Time {
        /// Whether it is a time of day, 0 to 24 hours (PostgreSQL); otherwise a duration within
        /// ±838:59:59.999999 (MySQL).
        of_day: bool,
        /// Digits of the fraction of a second, 0..=6.
        precision: u8,
    },
    /// `Timestamp` cells: civil time without zone.
    Timestamp {
        /// Which days it has.
        calendar: Calendar,
        /// Digits of the fraction of a second, 0..=6.
        precision: u8,
    },
    /// `Instant` cells: a moment in UTC.
    Instant {
        /// Which days it has.
        calendar: Calendar,
        /// Digits of the fraction of a second, 0..=6.
        precision: u8,
    },
    /// `Interval` cells.
    Interval,
    /// `Uuid` cells.
    Uuid,
    /// `Json` cells.
    Json {
        /// Whether the system stores it in a form of its own (PostgreSQL `jsonb`, MySQL `JSON`), so
        /// that spaces, order of keys and repeated keys of a text are not kept. Otherwise the text
        /// stays as it is (PostgreSQL `json`, MariaDB `JSON`).
        normalised: bool,
    },
    /// `Bits` cells.
    Bits {
        /// Length in bits; for a varying type its limit, `None`: unlimited.
        len: Option<u32>,
        /// Whether values may be shorter.
        varying: bool,
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
    /// `Bytes` cells in MySQL's storage form of a geometry: SRID (32 bits, little-endian), then WKB.
    Geometry,
    /// `Other` cells: the text form of a type that only its own engine understands.
    Other {
        /// The engine: `postgres` or `mysql`.
        system: &'static str,
        /// The type as the engine writes it, without length where that is no part of the meaning,
        /// such as `integer[]` or `inet6`. Equal types of equal engines understand each other's text.
        name: String,
    },
}

/// What a column does not take of the values that its neutral type has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refuses {
    /// Text with a NUL character: every text of PostgreSQL.
    Nul,
    /// A document with the escape `\u0000`: `jsonb`.
    NulEscape,
    /// Text with spaces at its end: `CHAR` of MySQL.
    SpacesAtEnd,
    /// Fewer octets than this: `BINARY` of MySQL.
    Shorter(u32),
    /// A number that is neither 0 nor within 1901 to 2155: `YEAR`.
    NotYear,
    /// An interval with a part that is no multiple of these: `interval(p)` and `interval hour` of
    /// PostgreSQL. Of the largest number only 0 is one.
    Between(Interval),
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
    /// Whether the system takes different texts for equal (case, accents, trailing spaces), which
    /// matters where the column is part of a key.
    pub folds: bool,
    /// What it does not take of the values that its type has.
    pub refuses: Option<Refuses>,
    /// What its owner says of it.
    pub comment: String,
}

impl ColumnSchema {
    /// A column that allows NULL, with neither default nor comment.
    pub fn new(name: impl Into<String>, ty: ColumnType, native: impl Into<String>) -> Self {
        ColumnSchema {
            name: name.into(),
            ty,
            native: native.into(),
            nullable: true,
            has_default: false,
            generated: false,
            folds: false,
            refuses: None,
            comment: String::new(),
        }
    }
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
    /// Whether the system's log has what the key does to the children, as changes of theirs.
    pub logged: bool,
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
    /// The columns whose old values the log of a source has when a row changes or goes, as indexes
    /// into `columns`; `None`: all of them. Empty: none, so that updates and deletes cannot be
    /// followed.
    pub old_image: Option<Vec<usize>>,
    /// How its rows lie in the log of a source; `None`: the log itself says it all. As described: from
    /// now on. As a stream is opened with: from the position on ([`crate::checkpoint::Checkpoint`]).
    pub layout: Option<Layout>,
    /// Of a source table that a stream is opened with: every column is wanted, so that one that comes
    /// is a change that the stream ends at.
    pub whole: bool,
    /// The character set of columns that are made without one, where tables have one.
    pub charset: Option<String>,
    /// What its owner says of it.
    pub comment: String,
}

impl TableSchema {
    /// A table without keys.
    pub fn new(name: TableName, columns: Vec<ColumnSchema>) -> Self {
        TableSchema {
            name,
            columns,
            primary_key: Vec::new(),
            unique_keys: Vec::new(),
            foreign_keys: Vec::new(),
            estimated_rows: None,
            old_image: None,
            layout: None,
            whole: false,
            charset: None,
            comment: String::new(),
        }
    }

    /// The index of the column with exactly this name.
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }

    /// The column with exactly this name.
    pub fn column(&self, name: &str) -> Option<&ColumnSchema> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// Without the columns that `keep` does not want and that are not of the primary key.
    #[must_use]
    pub fn with_columns(mut self, keep: impl Fn(&str) -> bool) -> Self {
        let columns = self.columns.iter().enumerate();
        let kept = columns.filter(|(at, c)| self.primary_key.contains(at) || keep(&c.name));
        let kept: Vec<usize> = kept.map(|(at, _)| at).collect();
        self.narrow(&kept);
        self
    }

    /// Leaves only these columns, given as indexes in rising order; whatever names others goes with
    /// them. The primary key has to be among them.
    pub(crate) fn narrow(&mut self, columns: &[usize]) {
        let place = |column: &usize| columns.iter().position(|kept| kept == column);
        let all = |wanted: &[usize]| wanted.iter().map(place).collect::<Option<Vec<_>>>();
        self.primary_key = all(&self.primary_key).unwrap_or_default();
        self.unique_keys.retain_mut(|key| match all(&key.columns) {
            Some(places) => {
                key.columns = places;
                true
            }
            None => false,
        });
        if let Some(image) = &mut self.old_image {
            *image = image.iter().filter_map(place).collect();
        }
        let mut index = 0;
        self.columns.retain(|_| {
            index += 1;
            columns.contains(&(index - 1))
        });
    }

    /// A text that changes whenever the way rows of this table are decoded or identified changes:
    /// column names, native types, order and primary key. Kept in the checkpoint and compared at
    /// each start ([`difference`]). It has neither `,` nor `/` in it.
    pub fn fingerprint(&self) -> String {
        let columns = self.columns.iter().map(|column| {
            let native = match column.native.len() {
                ..=NATIVE_MAX => plain(&column.native),
                _ => format!("long-{}", fnv1a(&column.native)),
            };
            format!("{}:{native}", plain(&column.name))
        });
        let key: Vec<String> = self.primary_key.iter().map(usize::to_string).collect();
        let columns: Vec<String> = columns.collect();
        format!("v2;{};{}", columns.join(";"), key.join("."))
    }
}

/// Types of more bytes (labels, say) stand in a fingerprint by their hash.
const NATIVE_MAX: usize = 200;

/// What fingerprints are made of, with `%` and two or more digits for what has a meaning in them.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '%' | ',' | '/' | ';' | ':') {
            out.push_str(&format!("%{:x}.", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

/// The text [`plain`] was given.
fn from_plain(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_once('.').unwrap_or_default();
        out.extend(
            u32::from_str_radix(digits, 16)
                .ok()
                .and_then(char::from_u32),
        );
        out.push_str(rest);
    }
    out
}

/// How a source table is another than it was, as far as its fingerprint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drift {
    /// A column came.
    Added(String),
    /// A column has another type: its name, the old type and the new one, as the system writes them (a
    /// type of many bytes as its hash).
    Retyped {
        /// Its name.
        column: String,
        /// The type it had.
        was: String,
        /// The type it has.
        is: String,
    },
    /// A column went.
    Dropped(String),
    /// The columns that stay stand in another order.
    Reordered,
    /// Other columns are the primary key.
    Key,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Drift::Added(name) => write!(f, "column {name} was not there"),
            Drift::Retyped { column, was, is } => {
                write!(f, "column {column} was {was} and is {is}")
            }
            Drift::Dropped(name) => write!(f, "column {name} is gone"),
            Drift::Reordered => f.write_str("its columns have another order"),
            Drift::Key => f.write_str("its primary key is another"),
        }
    }
}

/// What a fingerprint says.
#[derive(PartialEq)]
struct Printed {
    columns: Vec<(String, String)>,
    /// Names of the columns of the primary key, in key order.
    key: Vec<String>,
}

impl Printed {
    fn parse(text: &str) -> Self {
        let parts: Vec<&str> = text.split(';').skip(1).collect();
        let (key, columns) = parts.split_last().unwrap_or((&"", &[]));
        let pairs = columns.iter().filter_map(|part| part.split_once(':'));
        let columns: Vec<_> = pairs
            .map(|(name, ty)| (from_plain(name), from_plain(ty)))
            .collect();
        let place = |n: &str| columns.get(n.parse::<usize>().ok()?);
        let key = key.split('.').filter_map(place).map(|c| c.0.clone());
        Printed {
            key: key.collect(),
            columns,
        }
    }

    fn ty(&self, name: &str) -> Option<&str> {
        let found = self.columns.iter().find(|(other, _)| other == name);
        found.map(|(_, ty)| ty.as_str())
    }
}

/// All that makes a source table of fingerprint `now` another than that of `before`; nothing: it is the same.
pub fn drifts(before: &str, now: &str) -> Vec<Drift> {
    if before == now {
        return Vec::new();
    }
    let (before, now) = (Printed::parse(before), Printed::parse(now));
    let mut out = Vec::new();
    for (name, ty) in &now.columns {
        match before.ty(name) {
            None => out.push(Drift::Added(name.clone())),
            Some(was) if was != ty => out.push(Drift::Retyped {
                column: name.clone(),
                was: was.to_owned(),
                is: ty.clone(),
            }),
            Some(_) => {}
        }
    }
    let gone = before.columns.iter().map(|(name, _)| name);
    let gone = gone.filter(|name| now.ty(name).is_none());
    out.extend(gone.cloned().map(Drift::Dropped));
    let stay = |of: &Printed, other: &Printed| -> Vec<String> {
        let names = of.columns.iter().map(|(name, _)| name);
        names.filter(|n| other.ty(n).is_some()).cloned().collect()
    };
    if stay(&before, &now) != stay(&now, &before) {
        out.push(Drift::Reordered);
    }
    if before.key != now.key || out.is_empty() {
        out.push(Drift::Key);
    }
    out
}

/// How a table of fingerprint `now` differs from one of fingerprint `before`, naming one thing; `None`: it
/// does not.
pub fn difference(before: &str, now: &str) -> Option<String> {
    drifts(before, now).first().map(Drift::to_string)
}

/// FNV-1a as hexadecimal digits: stable across versions and platforms, which the standard hasher does
/// not promise.
pub fn fnv1a(text: &str) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: &[(&str, &str)], key: &[usize]) -> TableSchema {
        let ty = || ColumnType::Json { normalised: false };
        let columns = columns.iter().map(|(n, t)| ColumnSchema::new(*n, ty(), *t));
        TableSchema {
            primary_key: key.to_vec(),
            ..TableSchema::new(TableName::new("s", "t"), columns.collect())
        }
    }

    #[test]
    fn a_fingerprint_tells_what_changed() {
        let long = format!("enum('{}')", "x".repeat(300));
        let before = table(&[("a:;,/%", "decimal(3,1)"), ("b", &long)], &[0]);
        let check = |columns: &[(&str, &str)], key: &[usize], want: Option<&str>| {
            let now = table(columns, key).fingerprint();
            assert!(!now.contains(['/', ',']), "{now}");
            let said = difference(&before.fingerprint(), &now);
            assert_eq!(said.as_deref(), want);
        };
        let (a, b) = (("a:;,/%", "decimal(3,1)"), ("b", long.as_str()));
        check(&[a, b], &[0], None);
        check(&[a, b], &[1], Some("its primary key is another"));
        check(&[b, a], &[0], Some("its columns have another order"));
        check(&[b], &[0], Some("column a:;,/% is gone"));
        check(&[a, b, ("c", "int")], &[0], Some("column c was not there"));
        let other = [("a:;,/%", "decimal(4,1)"), b];
        let want = "column a:;,/% was decimal(3,1) and is decimal(4,1)";
        check(&other, &[0], Some(want));
        check(
            &[a, ("b", "int")],
            &[0],
            Some(&format!("column b was long-{} and is int", fnv1a(&long))),
        );
    }

    #[test]
    fn a_narrow_table_keeps_what_its_columns_have() {
        let mut wide = table(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")], &[2]);
        let key = |columns: &[usize]| UniqueKey {
            name: "u".to_owned(),
            columns: columns.to_vec(),
        };
        wide.unique_keys = vec![key(&[3, 2]), key(&[0, 2])];
        wide.old_image = Some(vec![0, 2]);
        wide.narrow(&[2, 3]);
        let names: Vec<_> = wide.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["c", "d"]);
        assert_eq!((wide.primary_key, wide.old_image), (vec![0], Some(vec![0])));
        assert_eq!(wide.unique_keys, [key(&[1, 0])]);
    }
}
