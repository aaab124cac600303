//! The tables that are counted, and their rows: those of `cargo x bench`.

use thalweg_core::schema::{Calendar, ColumnSchema, ColumnType, Refuses, TableName, TableSchema};

/// A kind of column.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    BigInt,
    Int,
    /// With so many digits, and so many of them after the point.
    Decimal(u32, u32),
    /// Of so many characters.
    Text(u32),
    /// Civil time with microseconds.
    Time,
    Float,
    Flag,
}

/// A value of a column of some kind.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Int(i64),
    /// Without its point.
    Decimal(i64),
    Text(String),
    /// Microseconds since 1970.
    Time(i64),
    Float(f64),
    Flag(bool),
}

pub(crate) type Row = Vec<Value>;

/// A table; its key is the first column.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: Vec<(String, Kind, bool)>,
    /// The row with this key, before and after so many updates.
    pub(crate) row: fn(i64, i64) -> Row,
}

const NOW: i64 = 1_764_000_000_123_456;

impl Table {
    /// Of the workload `uniform`.
    pub(crate) fn item() -> Table {
        let nulls = [false, false, false, false, true, false, true, false];
        let kinds = [
            ("id", Kind::BigInt),
            ("a", Kind::Int),
            ("b", Kind::Decimal(12, 2)),
            ("c", Kind::Text(40)),
            ("d", Kind::Text(60)),
            ("e", Kind::Time),
            ("f", Kind::Float),
            ("g", Kind::Flag),
        ];
        let columns = kinds.into_iter().zip(nulls);
        Table {
            name: "item",
            columns: columns
                .map(|((n, k), null)| (n.to_owned(), k, null))
                .collect(),
            #[allow(clippy::cast_precision_loss, reason = "keys are small")]
            row: |n, updates| {
                let pad = usize::try_from(n % 60).unwrap_or(0);
                vec![
                    Value::Int(n),
                    Value::Int(n % 1000 + updates),
                    Value::Decimal(n + 25 * updates),
                    Value::Text(format!("name of {n}")),
                    match pad {
                        0 => Value::Null,
                        _ => Value::Text("d".repeat(pad)),
                    },
                    Value::Time(NOW + n + 1_000_000 * updates),
                    Value::Float(n as f64 / 3.0),
                    Value::Flag(n % 2 == 1),
                ]
            },
        }
    }

    /// Of the load `narrow`.
    pub(crate) fn narrow() -> Table {
        let kinds = [
            ("id", Kind::BigInt, false),
            ("a", Kind::Int, false),
            ("b", Kind::Int, true),
            ("c", Kind::Text(20), false),
            ("d", Kind::Decimal(10, 2), false),
            ("e", Kind::Time, false),
        ];
        Table {
            name: "narrow",
            columns: kinds.map(|(n, k, null)| (n.to_owned(), k, null)).to_vec(),
            row: |n, _| {
                vec![
                    Value::Int(n),
                    Value::Int(n % 1000),
                    Value::Int(n / 7),
                    Value::Text(format!("name {n}")),
                    Value::Decimal(n),
                    Value::Time(NOW + n),
                ]
            },
        }
    }

    /// Forty columns: a key, and thirteen each of integers, text and decimals.
    pub(crate) fn wide() -> Table {
        let thirteen = (1..=13).flat_map(|n| {
            [
                (format!("i{n}"), Kind::Int, true),
                (format!("t{n}"), Kind::Text(40), true),
                (format!("d{n}"), Kind::Decimal(12, 3), true),
            ]
        });
        let key = [("id".to_owned(), Kind::BigInt, false)];
        Table {
            name: "wide",
            columns: key.into_iter().chain(thirteen).collect(),
            row: |n, updates| {
                let thirteen = (1..=13).flat_map(|k| {
                    [
                        Value::Int(n % (k * 1000) + updates),
                        Value::Text(format!("column {k} of {n}")),
                        Value::Decimal(n + 1000 * k),
                    ]
                });
                std::iter::once(Value::Int(n)).chain(thirteen).collect()
            },
        }
    }

    /// As a PostgreSQL describes it, with the number of each column's type.
    pub(crate) fn postgres(&self) -> (TableSchema, Vec<u32>) {
        let columns = self.columns.iter().map(|(name, kind, nullable)| {
            let (ty, native, number) = match *kind {
                Kind::BigInt => (int(64), "bigint".to_owned(), 20),
                Kind::Int => (int(32), "integer".to_owned(), 23),
                Kind::Decimal(p, s) => (decimal(p, s, true), format!("numeric({p},{s})"), 1700),
                Kind::Text(n) => (text(n), format!("character varying({n})"), 1043),
                Kind::Time => (
                    time(Calendar::Real),
                    "timestamp without time zone".to_owned(),
                    1114,
                ),
                Kind::Float => (
                    ColumnType::Float64 { special: true },
                    "double precision".to_owned(),
                    701,
                ),
                Kind::Flag => (ColumnType::Bool, "boolean".to_owned(), 16),
            };
            let refuses = matches!(kind, Kind::Text(_)).then_some(Refuses::Nul);
            let column = ColumnSchema {
                nullable: *nullable,
                refuses,
                ..ColumnSchema::new(name, ty, native)
            };
            (column, number)
        });
        let (columns, numbers) = columns.unzip();
        let mut schema = self.keyed("public", columns);
        schema.old_image = Some(vec![0]);
        (schema, numbers)
    }

    /// As a MariaDB describes it.
    pub(crate) fn mariadb(&self) -> TableSchema {
        let columns = self.columns.iter().map(|(name, kind, nullable)| {
            let (ty, native) = match *kind {
                Kind::BigInt => (int(64), "bigint(20)".to_owned()),
                Kind::Int => (int(32), "int(11)".to_owned()),
                Kind::Decimal(p, s) => (decimal(p, s, false), format!("decimal({p},{s})")),
                Kind::Text(n) => (text(n), format!("varchar({n}) character set utf8mb4")),
                Kind::Time => (time(Calendar::Lenient), "datetime(6)".to_owned()),
                Kind::Float => (ColumnType::Float64 { special: false }, "double".to_owned()),
                Kind::Flag => (int(8), "tinyint(1)".to_owned()),
            };
            ColumnSchema {
                nullable: *nullable,
                folds: matches!(kind, Kind::Text(_)),
                ..ColumnSchema::new(name, ty, native)
            }
        });
        self.keyed("bench", columns.collect())
    }

    fn keyed(&self, schema: &str, columns: Vec<ColumnSchema>) -> TableSchema {
        TableSchema {
            primary_key: vec![0],
            ..TableSchema::new(TableName::new(schema, self.name), columns)
        }
    }
}

fn int(bits: u8) -> ColumnType {
    ColumnType::Int {
        bits,
        unsigned: false,
    }
}

fn decimal(precision: u32, scale: u32, special: bool) -> ColumnType {
    ColumnType::Decimal {
        precision: Some(precision),
        scale: Some(scale),
        special,
    }
}

fn text(chars: u32) -> ColumnType {
    ColumnType::Text {
        max_chars: Some(chars),
    }
}

fn time(calendar: Calendar) -> ColumnType {
    ColumnType::Timestamp {
        calendar,
        precision: 6,
    }
}

/// A change of a row, as numbers of updates of it before and after.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Insert(i64),
    Update(i64),
    Delete(i64),
}

/// Transactions of the workload `uniform`: seven updates, two inserts, a delete.
pub(crate) fn transactions(count: i64) -> Vec<Vec<Change>> {
    const HIGHEST: i64 = 1_000_000;
    // Numbers that look like chance and are the same in every run.
    let mut state: i64 = 1;
    let mut chosen = || {
        state = (state * 1_103_515_245 + 12_345) & 0x7fff_ffff;
        count + 1 + state % (HIGHEST - count)
    };
    let transaction = |t| {
        let mut changes: Vec<Change> = (0..7).map(|_| Change::Update(chosen())).collect();
        changes.extend([1, 2].map(|n| Change::Insert(HIGHEST + 2 * t + n)));
        changes.push(Change::Delete(1 + t));
        changes
    };
    (0..count).map(transaction).collect()
}
