//! Tables as PostgreSQL's catalogue describes them, and types in both directions.

use thalweg_core::schema::{
    Calendar, ColumnSchema, ColumnType, ForeignKey, ReferenceAction, TableName, TableSchema,
    UniqueKey,
};
use thalweg_core::{Error, Result};
use tokio_postgres::Client;

use crate::error::convert;

/// Quotes an identifier.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a table's name.
pub(crate) fn quote_table(name: &TableName) -> String {
    format!("{}.{}", quote(&name.schema), quote(&name.name))
}

/// The neutral type of a column from `format_type`'s text.
pub(crate) fn neutral(native: &str) -> ColumnType {
    let (name, arguments) = match native.split_once('(') {
        Some((name, rest)) => {
            let (inside, after) = rest.split_once(')').unwrap_or((rest, ""));
            (format!("{}{after}", name.trim_end()), inside)
        }
        None => (native.to_owned(), ""),
    };
    let mut numbers = arguments
        .split(',')
        .filter_map(|n| n.trim().parse::<u32>().ok());
    let first = numbers.next();
    let precision = u8::try_from(first.unwrap_or(6)).unwrap_or(6);
    let calendar = Calendar::Real;
    let int = |bits| ColumnType::Int {
        bits,
        unsigned: false,
    };
    match name.as_str() {
        "boolean" => ColumnType::Bool,
        "smallint" => int(16),
        "integer" => int(32),
        "bigint" => int(64),
        "real" => ColumnType::Float32 { special: true },
        "double precision" => ColumnType::Float64 { special: true },
        "numeric" => ColumnType::Decimal {
            precision: first,
            scale: first.and(numbers.next()),
            special: true,
        },
        "text" => ColumnType::Text { max_chars: None },
        "character varying" | "character" => ColumnType::Text { max_chars: first },
        "bytea" => ColumnType::Bytes { max_bytes: None },
        "oid" => ColumnType::Int {
            bits: 32,
            unsigned: true,
        },
        "bit" => ColumnType::Bits {
            len: first.or(Some(1)),
            varying: false,
        },
        "bit varying" => ColumnType::Bits {
            len: first,
            varying: true,
        },
        "date" => ColumnType::Date { calendar },
        "time without time zone" => ColumnType::Time {
            precision,
            of_day: true,
        },
        "timestamp without time zone" => ColumnType::Timestamp {
            precision,
            calendar,
        },
        "timestamp with time zone" => ColumnType::Instant {
            precision,
            calendar,
        },
        "interval" => ColumnType::Interval,
        "uuid" => ColumnType::Uuid,
        "json" => ColumnType::Json { normalised: false },
        "jsonb" => ColumnType::Json { normalised: true },
        _ => ColumnType::Other {
            system: "postgres",
            name: native.to_owned(),
        },
    }
}

/// The type a column of a created table gets, as text. It need not exist there: see
/// [`crate::target`]'s `settle`.
pub(crate) fn native(ty: &ColumnType) -> String {
    match ty {
        ColumnType::Bool => "boolean".into(),
        ColumnType::Int { bits, unsigned } => match (bits, unsigned) {
            (..=8, _) | (16, false) => "smallint".into(),
            (16, true) | (24, _) | (32, false) => "integer".into(),
            (32, true) | (_, false) => "bigint".into(),
            (_, true) => "numeric(20,0)".into(),
        },
        ColumnType::Float32 { .. } => "real".into(),
        ColumnType::Float64 { .. } => "double precision".into(),
        ColumnType::Decimal {
            precision: Some(p),
            scale,
            ..
        } => {
            format!("numeric({p},{})", scale.unwrap_or(0))
        }
        ColumnType::Decimal {
            precision: None, ..
        } => "numeric".into(),
        ColumnType::Text {
            max_chars: Some(n @ 1..=10_000_000),
        } => format!("character varying({n})"),
        ColumnType::Text { .. } | ColumnType::Enum { .. } | ColumnType::Set { .. } => "text".into(),
        ColumnType::Bytes { .. } => "bytea".into(),
        ColumnType::Date { .. } => "date".into(),
        // A MySQL TIME may be negative and exceed 24 hours, which no time of day can.
        ColumnType::Time { of_day: false, .. } | ColumnType::Interval => "interval".into(),
        ColumnType::Time { precision, .. } => format!("time({precision}) without time zone"),
        ColumnType::Timestamp { precision, .. } => {
            format!("timestamp({precision}) without time zone")
        }
        ColumnType::Instant { precision, .. } => format!("timestamp({precision}) with time zone"),
        ColumnType::Uuid => "uuid".into(),
        // json keeps the text as it came; jsonb would reorder keys and drop repeated ones.
        ColumnType::Json { normalised: false } => "json".into(),
        ColumnType::Json { normalised: true } => "jsonb".into(),
        ColumnType::Bits { len, varying } => {
            let name = if *varying { "bit varying" } else { "bit" };
            len.map_or_else(|| name.to_owned(), |len| format!("{name}({len})"))
        }
        ColumnType::Geometry => GEOMETRY.into(),
        ColumnType::Other { system, name } => match (*system, name.as_str()) {
            ("postgres", name) => name.to_owned(),
            ("mysql", "inet4" | "inet6") => "inet".into(),
            _ => "text".into(),
        },
    }
}

/// The type of PostGIS.
pub(crate) const GEOMETRY: &str = "geometry";

/// All base tables the user can see.
pub(crate) async fn tables(client: &Client) -> Result<Vec<TableName>> {
    let rows = client
        .query(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n \
             ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') \
             AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'thalweg') \
             AND n.nspname NOT LIKE 'pg\\_%' AND NOT c.relispartition ORDER BY 1, 2 LIMIT 100000",
            &[],
        )
        .await
        .map_err(convert)?;
    Ok(rows
        .iter()
        .map(|row| TableName::new(row.get::<_, &str>(0), row.get::<_, &str>(1)))
        .collect())
}

/// One table; `None` if it does not exist.
pub(crate) async fn describe(client: &Client, name: &TableName) -> Result<Option<TableSchema>> {
    let found = client
        .query_opt(
            "SELECT c.oid, c.reltuples::float8 FROM pg_class c JOIN pg_namespace n \
             ON n.oid = c.relnamespace \
             WHERE n.nspname = $1::text AND c.relname = $2::text AND c.relkind IN ('r', 'p')",
            &[&name.schema, &name.name],
        )
        .await
        .map_err(convert)?;
    let Some(found) = found else { return Ok(None) };
    let oid: u32 = found.get(0);
    let estimate: f64 = found.get(1);
    let rows = client
        .query(
            "SELECT a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, \
             a.atthasdef OR a.attidentity <> '', a.attgenerated <> '' FROM pg_attribute a \
             WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            &[&oid],
        )
        .await
        .map_err(convert)?;
    let numbers: Vec<i16> = rows.iter().map(|row| row.get(0)).collect();
    let columns = rows
        .iter()
        .map(|row| {
            let native: String = row.get(2);
            ColumnSchema {
                nullable: row.get(3),
                has_default: row.get(4),
                generated: row.get(5),
                ..ColumnSchema::new(row.get::<_, &str>(1), neutral(&native), native)
            }
        })
        .collect();
    let place = |number: &i16| numbers.iter().position(|n| n == number);
    let mut schema = TableSchema {
        foreign_keys: foreign_keys(client, oid).await?,
        // The estimate is -1 while unknown.
        estimated_rows: (estimate >= 0.0).then(|| format!("{estimate:.0}").parse().unwrap_or(0)),
        ..TableSchema::new(name.clone(), columns)
    };
    let indexes = client
        .query(
            "SELECT c.relname, i.indisprimary, (i.indkey::int2[])[0:i.indnkeyatts - 1] \
             FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = $1 \
             AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL \
             ORDER BY 1",
            &[&oid],
        )
        .await
        .map_err(convert)?;
    for row in indexes {
        let key: Vec<i16> = row.get(2);
        let Some(columns) = key.iter().map(place).collect::<Option<Vec<_>>>() else {
            continue;
        };
        if row.get(1) {
            schema.primary_key = columns;
        } else {
            schema.unique_keys.push(UniqueKey {
                name: row.get(0),
                columns,
            });
        }
    }
    Ok(Some(schema))
}

async fn foreign_keys(client: &Client, oid: u32) -> Result<Vec<ForeignKey>> {
    let rows = client
        .query(
            "SELECT k.conname, n.nspname, p.relname, k.confdeltype::text, k.confupdtype::text, \
             ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(n, o) \
               JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY u.o), \
             ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(n, o) \
               JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY u.o) \
             FROM pg_constraint k JOIN pg_class p ON p.oid = k.confrelid \
             JOIN pg_namespace n ON n.oid = p.relnamespace \
             WHERE k.contype = 'f' AND k.conrelid = $1 ORDER BY 1",
            &[&oid],
        )
        .await
        .map_err(convert)?;
    let action = |code: &str| match code {
        "c" => Ok(ReferenceAction::Cascade),
        "n" => Ok(ReferenceAction::SetNull),
        "d" => Ok(ReferenceAction::SetDefault),
        "a" | "r" => Ok(ReferenceAction::Refuse),
        _ => Err(Error::bug(
            "an action of a foreign key this version does not know",
        )),
    };
    rows.iter()
        .map(|row| {
            Ok(ForeignKey {
                name: row.get(0),
                columns: row.get(5),
                parent: TableName::new(row.get::<_, &str>(1), row.get::<_, &str>(2)),
                parent_columns: row.get(6),
                on_delete: action(row.get(3))?,
                on_update: action(row.get(4))?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_back_as_they_are_made() {
        let calendar = Calendar::Real;
        for ty in [
            ColumnType::Bool,
            ColumnType::Int {
                bits: 16,
                unsigned: false,
            },
            ColumnType::Int {
                bits: 32,
                unsigned: false,
            },
            ColumnType::Int {
                bits: 64,
                unsigned: false,
            },
            ColumnType::Float32 { special: true },
            ColumnType::Float64 { special: true },
            ColumnType::Decimal {
                precision: Some(30),
                scale: Some(4),
                special: true,
            },
            ColumnType::Decimal {
                precision: None,
                scale: None,
                special: true,
            },
            ColumnType::Text { max_chars: None },
            ColumnType::Text {
                max_chars: Some(20),
            },
            ColumnType::Bytes { max_bytes: None },
            ColumnType::Date { calendar },
            ColumnType::Timestamp {
                precision: 3,
                calendar,
            },
            ColumnType::Instant {
                precision: 6,
                calendar,
            },
            ColumnType::Interval,
            ColumnType::Uuid,
            ColumnType::Json { normalised: false },
            ColumnType::Json { normalised: true },
            ColumnType::Time {
                precision: 0,
                of_day: true,
            },
            ColumnType::Bits {
                len: Some(70),
                varying: false,
            },
            ColumnType::Bits {
                len: None,
                varying: true,
            },
            ColumnType::Other {
                system: "postgres",
                name: "integer[]".into(),
            },
        ] {
            assert_eq!(neutral(&native(&ty)), ty);
        }
        assert!(matches!(neutral("point"), ColumnType::Other { .. }));
        assert_eq!(
            native(&ColumnType::Int {
                bits: 64,
                unsigned: true
            }),
            "numeric(20,0)"
        );
    }

    #[test]
    fn identifiers_are_opaque() {
        assert_eq!(quote("a\"b"), "\"a\"\"b\"");
    }
}
