//! Tables as PostgreSQL's catalogue describes them, and types in both directions.

use std::collections::BTreeMap;

use thalweg_core::schema::{
    Calendar, ColumnSchema, ColumnType, ForeignKey, ReferenceAction, Refuses, TableName,
    TableSchema, UniqueKey,
};
use thalweg_core::value::Interval;
use thalweg_core::{Error, Result};
use tokio_postgres::{Client, Row};

use crate::error::plain;
use crate::wire::cells::Codec;

/// Types below are the system's; from here on numbers are given to what users create (`FirstNormalObjectId`).
pub(crate) const FIRST_OWN: u32 = 16_384;

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
        .filter_map(|n| n.trim().parse::<i32>().ok());
    let first = numbers.next().and_then(|n| u32::try_from(n).ok());
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
        "numeric" => decimal(first, numbers.next()),
        "text" | "bpchar" => ColumnType::Text { max_chars: None },
        "name" => ColumnType::Text {
            max_chars: Some(63),
        },
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
        name if name == "interval" || name.starts_with("interval ") => ColumnType::Interval,
        "uuid" => ColumnType::Uuid,
        "json" => ColumnType::Json { normalised: false },
        "jsonb" => ColumnType::Json { normalised: true },
        _ => ColumnType::Other {
            system: "postgres",
            name: native.to_owned(),
        },
    }
}

/// `numeric`, `numeric(p)` or `numeric(p,s)`; since version 15 the scale may be negative (whole
/// numbers with more digits than `p`) or larger than the precision.
fn decimal(precision: Option<u32>, scale: Option<i32>) -> ColumnType {
    let scale = precision.map(|_| scale.unwrap_or(0));
    let whole = scale.map_or(0, |scale| u32::try_from(-scale).unwrap_or(0));
    let scale = scale.map(|scale| u32::try_from(scale).unwrap_or(0));
    ColumnType::Decimal {
        precision: precision.map(|p| (p + whole).max(scale.unwrap_or(0))),
        scale,
        special: true,
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
        .map_err(plain)?;
    Ok(rows
        .iter()
        .map(|row| TableName::new(row.get::<_, &str>(0), row.get::<_, &str>(1)))
        .collect())
}

/// A column with what is needed to read its values.
#[derive(Clone, Debug)]
pub(crate) struct Attribute {
    /// `attnum`.
    pub(crate) number: i16,
    /// The declared type, which for a domain is the domain.
    pub(crate) ty: u32,
    /// `atttypmod`.
    pub(crate) typmod: i32,
    /// How its values are read.
    pub(crate) codec: Codec,
    /// As others see it.
    pub(crate) column: ColumnSchema,
}

/// The name of a type as it is written, whatever the search path: with its schema, but for types of
/// the system and of extensions (which may lie in another schema elsewhere). `t` and `n` are the type
/// (for an array: of its elements) and its schema.
pub(crate) fn name_of(oid: &str, typmod: &str) -> String {
    format!(
        "(SELECT CASE WHEN n.nspname = 'pg_catalog' THEN f.text ELSE \
           CASE WHEN EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass \
             AND d.objid = e.oid AND d.deptype = 'e') THEN '' ELSE p.text END || \
           CASE WHEN left(f.text, length(p.text)) = p.text THEN substr(f.text, length(p.text) + 1) \
             ELSE f.text END END \
         FROM pg_type x JOIN pg_type e ON e.oid = CASE WHEN x.typlen = -1 AND x.typelem <> 0 \
           AND x.typcategory = 'A' THEN x.typelem ELSE x.oid END \
         JOIN pg_namespace n ON n.oid = e.typnamespace, \
         LATERAL (SELECT format_type({oid}, {typmod}) AS text) f, \
         LATERAL (SELECT quote_ident(n.nspname) || '.' AS text) p WHERE x.oid = {oid})"
    )
}

/// Tables that are asked for together, to be selected from: `w.place` counts them from 1 on, `n` and `c`
/// are their schema and themselves, as far as they are there. $1 and $2 are [`wanted`].
pub(crate) const WANTED: &str = "\
    unnest($1::text[], $2::text[]) WITH ORDINALITY w (schema, name, place) \
    JOIN pg_namespace n ON n.nspname = w.schema \
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name";

/// The schemas and the names of tables.
pub(crate) fn wanted<'a>(
    tables: impl IntoIterator<Item = &'a TableName>,
) -> (Vec<&'a str>, Vec<&'a str>) {
    let names = tables.into_iter();
    let names = names.map(|table| (table.schema.as_str(), table.name.as_str()));
    names.unzip()
}

/// What was asked for by a place of [`WANTED`], or of another list that is counted from 1 on.
pub(crate) fn at<T>(list: &[T], place: i64) -> Option<&T> {
    let index = usize::try_from(place).ok()?.checked_sub(1)?;
    list.get(index)
}

/// Rows by the table in their first column, in their order.
fn by_table(rows: &[Row]) -> BTreeMap<u32, Vec<&Row>> {
    let mut tables: BTreeMap<u32, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        tables.entry(row.get(0)).or_default().push(row);
    }
    tables
}

/// The columns of tables in their order. Domains are followed to the type they restrict.
pub(crate) async fn attributes(
    client: &Client,
    tables: &[u32],
) -> Result<BTreeMap<u32, Vec<Attribute>>> {
    // Columns of the catalogue that not every version has are asked for by way of JSON.
    let sql = format!(
        "WITH RECURSIVE base AS (\
           SELECT a.attrelid, a.attnum, a.atttypid AS oid, a.atttypmod AS typmod \
             FROM pg_attribute a \
             WHERE a.attrelid = ANY($1) AND a.attnum > 0 AND NOT a.attisdropped \
           UNION ALL SELECT b.attrelid, b.attnum, t.typbasetype, t.typtypmod FROM base b \
             JOIN pg_type t ON t.oid = b.oid WHERE t.typtype = 'd') \
         SELECT a.attrelid, a.attnum, a.attname::text, a.atttypid, a.atttypmod, {declared}, \
           NOT (a.attnotnull OR d.typnotnull), \
           a.atthasdef OR a.attidentity <> '' OR d.typdefault IS NOT NULL, \
           coalesce(to_jsonb(a) ->> 'attgenerated', '') <> '', \
           t.oid, t.typtype::text, {base}, t.typname::text, \
           ARRAY(SELECT l.enumlabel::text FROM pg_enum l WHERE l.enumtypid = t.oid \
             ORDER BY l.enumsortorder), \
           coalesce((SELECT to_jsonb(c) ->> 'collisdeterministic' = 'false' FROM pg_collation c \
             WHERE c.oid = a.attcollation), false), \
           coalesce(col_description(a.attrelid, a.attnum), '') \
         FROM base b JOIN pg_type t ON t.oid = b.oid AND t.typtype <> 'd' \
         JOIN pg_attribute a ON a.attrelid = b.attrelid AND a.attnum = b.attnum \
         JOIN pg_type d ON d.oid = a.atttypid ORDER BY a.attrelid, a.attnum",
        declared = name_of("a.atttypid", "a.atttypmod"),
        base = name_of("t.oid", "b.typmod"),
    );
    let rows = client.query(&sql, &[&tables]).await.map_err(plain)?;
    let columns = |rows: Vec<&Row>| rows.into_iter().map(attribute).collect();
    let tables = by_table(&rows).into_iter();
    Ok(tables.map(|(oid, rows)| (oid, columns(rows))).collect())
}

/// A row of what [`attributes`] asks.
fn attribute(row: &Row) -> Attribute {
    let native: String = row.get(5);
    let (base, kind): (u32, &str) = (row.get(9), row.get(10));
    let (name, typname): (String, &str) = (row.get(11), row.get(12));
    let citext = kind == "b" && typname == "citext";
    let ty = match kind {
        "e" => ColumnType::Enum {
            labels: row.get(13),
        },
        _ if citext => ColumnType::Text { max_chars: None },
        _ if base < FIRST_OWN => neutral(&name),
        _ => ColumnType::Other {
            system: "postgres",
            name,
        },
    };
    Attribute {
        number: row.get(1),
        ty: row.get(3),
        typmod: row.get(4),
        codec: codec(base, &ty),
        column: ColumnSchema {
            nullable: row.get(6),
            has_default: row.get(7),
            generated: row.get(8),
            folds: citext || row.get::<_, bool>(14),
            // Of a domain, as of its base type.
            refuses: refuses(&ty, row.get(11)),
            comment: row.get(15),
            ..ColumnSchema::new(row.get::<_, &str>(2), ty, native)
        },
    }
}

/// What a column of a type does not take of the type's values: no text has a NUL character, and
/// `jsonb` not even its escape.
///
/// An interval is cut to the fields and rounded to the digits that its column is declared with.
/// <https://www.postgresql.org/docs/15/datatype-datetime.html#DATATYPE-INTERVAL-INPUT>
pub(crate) fn refuses(ty: &ColumnType, native: &str) -> Option<Refuses> {
    match ty {
        ColumnType::Interval => {
            let (name, digits) = native.split_once('(').unwrap_or((native, "6)"));
            let digits: u32 = digits.trim_end_matches(')').parse().unwrap_or(6);
            let second = 10_i64.pow(6_u32.saturating_sub(digits));
            let (months, days, micros) = match name.rsplit(' ').next() {
                Some("year") => (12, i32::MAX, i64::MAX),
                Some("month") => (1, i32::MAX, i64::MAX),
                Some("day") => (1, 1, i64::MAX),
                Some("hour") => (1, 1, 3_600_000_000),
                Some("minute") => (1, 1, 60_000_000),
                _ if second == 1 => return None,
                _ => (1, 1, second),
            };
            Some(Refuses::Between(Interval {
                months,
                days,
                micros,
            }))
        }
        ColumnType::Text { .. }
        | ColumnType::Json { normalised: false }
        | ColumnType::Other { .. } => Some(Refuses::Nul),
        ColumnType::Json { normalised: true } => Some(Refuses::NulEscape),
        _ => None,
    }
}

/// How values of a base type are read. Numbers of the system's types never change.
pub(crate) fn codec(base: u32, ty: &ColumnType) -> Codec {
    match base {
        16 => Codec::Bool,
        17 => Codec::Bytea,
        26 => Codec::Oid,
        20 => Codec::Int8,
        21 => Codec::Int2,
        23 => Codec::Int4,
        19 | 25 | 1043 => Codec::Text,
        1042 => Codec::Padded,
        114 => Codec::Json,
        3802 => Codec::Jsonb,
        700 => Codec::Float4,
        701 => Codec::Float8,
        1700 => Codec::Numeric,
        1082 => Codec::Date,
        1083 => Codec::Time,
        1114 => Codec::Timestamp,
        1184 => Codec::Timestamptz,
        1186 => Codec::Interval,
        1560 | 1562 => Codec::Bits,
        2950 => Codec::Uuid,
        _ => match ty {
            ColumnType::Text { .. } | ColumnType::Enum { .. } => Codec::Text,
            _ => Codec::Other,
        },
    }
}

/// Which unique indexes are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// All.
    All,
    /// Those by which `ON CONFLICT` finds a row: none that is checked at the end of a transaction.
    Immediate,
}

/// The tables named, in the order asked; those that do not exist are left out.
pub(crate) async fn describe(
    client: &Client,
    names: &[TableName],
    keys: Keys,
) -> Result<Vec<TableSchema>> {
    let (schemas, tables) = wanted(names);
    let found = format!(
        "SELECT c.oid, w.place, c.reltuples::float8, c.relreplident::text, \
         coalesce(obj_description(c.oid, 'pg_class'), '') FROM {WANTED} \
         WHERE c.relkind IN ('r', 'p') ORDER BY w.place"
    );
    let found = client.query(&found, &[&schemas, &tables]).await;
    let found = found.map_err(plain)?;
    let oids: Vec<u32> = found.iter().map(|row| row.get(0)).collect();
    let attributes = attributes(client, &oids).await?;
    let foreign_keys = foreign_keys(client, &oids).await?;
    let indexes = client
        .query(
            "SELECT i.indrelid, c.relname, i.indisprimary, \
             (i.indkey::int2[])[0:i.indnkeyatts - 1], i.indisreplident, i.indimmediate \
             FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = ANY($1) \
             AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL \
             AND (i.indimmediate OR $2) ORDER BY c.relname",
            &[&oids, &(keys == Keys::All)],
        )
        .await
        .map_err(plain)?;
    let indexes = by_table(&indexes);
    let mut out = Vec::with_capacity(found.len());
    for row in &found {
        let (oid, place): (u32, i64) = (row.get(0), row.get(1));
        let name = at(names, place).ok_or_else(|| Error::bug("a table nobody asked for"))?;
        let attributes = attributes.get(&oid).cloned().unwrap_or_default();
        let numbers: Vec<i16> = attributes.iter().map(|a| a.number).collect();
        let columns = attributes.into_iter().map(|a| a.column).collect();
        let estimate: f64 = row.get(2);
        let mut schema = TableSchema {
            foreign_keys: foreign_keys.get(&oid).cloned().unwrap_or_default(),
            // The estimate is -1 while unknown.
            estimated_rows: (estimate >= 0.0)
                .then(|| format!("{estimate:.0}").parse().unwrap_or(0)),
            comment: row.get(4),
            ..TableSchema::new(name.clone(), columns)
        };
        let indexes = indexes.get(&oid).map_or(&[][..], Vec::as_slice);
        take_keys(&mut schema, row.get(3), indexes, &numbers);
        out.push(schema);
    }
    Ok(out)
}

/// Puts the unique indexes into a table as its keys; `numbers` are the `attnum` of its columns.
fn take_keys(schema: &mut TableSchema, replica_identity: &str, indexes: &[&Row], numbers: &[i16]) {
    let place = |number: &i16| numbers.iter().position(|n| n == number);
    let by_default = replica_identity == "d";
    let mut identity = Vec::new();
    for row in indexes {
        let key: Vec<i16> = row.get(3);
        let Some(columns) = key.iter().map(place).collect::<Option<Vec<_>>>() else {
            continue;
        };
        // The log names no row by a primary key that is deferrable.
        let (primary, chosen, immediate): (bool, bool, bool) = (row.get(2), row.get(4), row.get(5));
        if if by_default {
            primary && immediate
        } else {
            chosen
        } {
            identity.clone_from(&columns);
        }
        if primary {
            schema.primary_key = columns;
        } else {
            schema.unique_keys.push(UniqueKey {
                name: row.get(1),
                columns,
            });
        }
    }
    schema.old_image = match replica_identity {
        "f" => None,
        "d" | "i" => Some(identity),
        _ => Some(Vec::new()),
    };
}

/// The columns of tables that the server computes and stores: version 18 can log them.
pub(crate) async fn stored(
    client: &Client,
    tables: &[TableName],
) -> Result<BTreeMap<TableName, Vec<String>>> {
    let (schemas, names) = wanted(tables);
    let stored = format!(
        "SELECT w.schema, w.name, a.attname::text FROM {WANTED} \
         JOIN pg_attribute a ON a.attrelid = c.oid WHERE a.attgenerated = 's'"
    );
    let rows = client.query(&stored, &[&schemas, &names]).await;
    let mut columns: BTreeMap<TableName, Vec<String>> = BTreeMap::new();
    for row in rows.map_err(plain)? {
        let table = TableName::new(row.get::<_, &str>(0), row.get::<_, &str>(1));
        columns.entry(table).or_default().push(row.get(2));
    }
    Ok(columns)
}

/// The table without columns the log does not have: those the server computes, but for `logged` ones.
pub(crate) fn in_the_log(schema: TableSchema, logged: &[String]) -> TableSchema {
    let left_out = |column: &ColumnSchema| column.generated && !logged.contains(&column.name);
    if !schema.columns.iter().any(left_out) {
        return schema;
    }
    let mut places = Vec::with_capacity(schema.columns.len());
    let mut columns = Vec::new();
    for column in schema.columns {
        let out = left_out(&column);
        places.push((!out).then_some(columns.len()));
        if !out {
            columns.push(column);
        }
    }
    let moved = |key: &[usize]| -> Option<Vec<usize>> {
        key.iter()
            .map(|c| places.get(*c).copied().flatten())
            .collect()
    };
    TableSchema {
        columns,
        primary_key: moved(&schema.primary_key).unwrap_or_default(),
        unique_keys: schema
            .unique_keys
            .into_iter()
            .filter_map(|key| {
                Some(UniqueKey {
                    columns: moved(&key.columns)?,
                    ..key
                })
            })
            .collect(),
        old_image: schema.old_image.map(|image| {
            image
                .iter()
                .filter_map(|c| places.get(*c).copied().flatten())
                .collect()
        }),
        ..schema
    }
}

async fn foreign_keys(client: &Client, tables: &[u32]) -> Result<BTreeMap<u32, Vec<ForeignKey>>> {
    let rows = client
        .query(
            "SELECT k.conrelid, k.conname, n.nspname, p.relname, k.confdeltype::text, \
             k.confupdtype::text, \
             ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(n, o) \
               JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY u.o), \
             ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(n, o) \
               JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY u.o) \
             FROM pg_constraint k JOIN pg_class p ON p.oid = k.confrelid \
             JOIN pg_namespace n ON n.oid = p.relnamespace \
             WHERE k.contype = 'f' AND k.conrelid = ANY($1) ORDER BY k.conname",
            &[&tables],
        )
        .await
        .map_err(plain)?;
    let action = |code: &str| match code {
        "c" => Ok(ReferenceAction::Cascade),
        "n" => Ok(ReferenceAction::SetNull),
        "d" => Ok(ReferenceAction::SetDefault),
        "a" | "r" => Ok(ReferenceAction::Refuse),
        _ => Err(Error::bug(
            "an action of a foreign key this version does not know",
        )),
    };
    let mut keys: BTreeMap<u32, Vec<ForeignKey>> = BTreeMap::new();
    for row in &rows {
        keys.entry(row.get(0)).or_default().push(ForeignKey {
            name: row.get(1),
            columns: row.get(6),
            parent: TableName::new(row.get::<_, &str>(2), row.get::<_, &str>(3)),
            parent_columns: row.get(7),
            on_delete: action(row.get(4))?,
            on_update: action(row.get(5))?,
            logged: true,
        });
    }
    Ok(keys)
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
    fn an_interval_is_as_fine_as_its_column() {
        for (native, unit) in [
            ("interval", None),
            ("interval(6)", None),
            ("interval(3)", Some((1, 1, 1_000))),
            ("interval day to second(0)", Some((1, 1, 1_000_000))),
            ("interval day to second", None),
            ("interval day to minute", Some((1, 1, 60_000_000))),
            ("interval hour", Some((1, 1, 3_600_000_000))),
            ("interval day", Some((1, 1, i64::MAX))),
            ("interval year to month", Some((1, i32::MAX, i64::MAX))),
            ("interval year", Some((12, i32::MAX, i64::MAX))),
        ] {
            let unit = unit.map(|(months, days, micros)| {
                Refuses::Between(Interval {
                    months,
                    days,
                    micros,
                })
            });
            assert_eq!(refuses(&neutral(native), native), unit, "{native}");
        }
    }

    #[test]
    fn identifiers_are_opaque() {
        assert_eq!(quote("a\"b"), "\"a\"\"b\"");
    }
}
