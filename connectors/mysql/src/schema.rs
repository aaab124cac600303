//! Tables from `information_schema`.

use std::collections::BTreeMap;

use mysql_async::prelude::{FromValue, Queryable};
use mysql_async::{Conn, DriverError, Row, Value};
use thalweg_core::schema::{
    Calendar, ColumnSchema, ColumnType, ForeignKey, ReferenceAction, Refuses, TableName,
    TableSchema, UniqueKey,
};
use thalweg_core::{Error, Result};

use crate::error::plain;
use crate::layout::{self, Layout};
use crate::{catalog, images, labels};

const SYSTEM: &str = "('mysql', 'information_schema', 'performance_schema', 'sys')";

/// All base tables the user can see.
pub(crate) async fn tables(conn: &mut Conn) -> Result<Vec<TableName>> {
    let rows: Vec<(String, String)> = conn
        .query(format!(
            "SELECT table_schema, table_name FROM information_schema.tables \
             WHERE table_type = 'BASE TABLE' AND table_schema NOT IN {SYSTEM} LIMIT 100000"
        ))
        .await
        .map_err(plain)?;
    let mut names: Vec<TableName> = rows
        .into_iter()
        .map(|(schema, name)| TableName::new(schema, name))
        .collect();
    names.sort();
    Ok(names)
}

type ColumnRow = (
    String,
    String,
    String,
    String,
    Option<String>,
    String,
    Option<u64>,
    Option<u32>,
    Option<u32>,
    Option<u8>,
    Option<String>,
    String,
);

/// So many tables are asked for at once: a list of 1,000 would be made a table of by MariaDB
/// (`in_predicate_conversion_threshold`).
const BLOCK: usize = 500;

/// Where a table of `information_schema` has the names of tables: columns with schema and name.
pub(crate) type Names = (&'static str, &'static str);

/// Most have them there.
pub(crate) const NAMES: Names = ("table_schema", "table_name");

/// The columns of a row before the names.
pub(crate) trait Columns: Sized {
    /// `None` if they are of other types.
    fn read(row: &mut Row) -> Option<Self>;
}

macro_rules! columns {
    ($($ty:ident $index:tt),+) => {
        impl<$($ty: FromValue),+> Columns for ($($ty,)+) {
            fn read(row: &mut Row) -> Option<Self> {
                Some(($(row.take_opt($index)?.ok()?,)+))
            }
        }
    };
}

columns!(A 0);
columns!(A 0, B 1);
columns!(A 0, B 1, C 2);
columns!(A 0, B 1, C 2, D 3);
columns!(A 0, B 1, C 2, D 3, E 4);
columns!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);

/// Puts a question about tables to `information_schema`; what it answers of each table, in its order.
/// In the question, which is put once for many, `{of}` stands for the condition that it is about
/// these tables, and `{names}`, after all other columns, for the columns `names`. The servers
/// look into one schema only for it, and open no other tables than these.
pub(crate) async fn of_tables<T: Columns>(
    conn: &mut Conn,
    tables: &[TableName],
    (schema, name): Names,
    question: &str,
) -> mysql_async::Result<BTreeMap<TableName, Vec<T>>> {
    let mut schemas: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for table in tables {
        let names = schemas.entry(&table.schema).or_default();
        names.push(&table.name);
    }
    let mut found: BTreeMap<TableName, Vec<T>> = BTreeMap::new();
    for (of, names) in schemas {
        for block in names.chunks(BLOCK) {
            let places = vec!["?"; block.len()].join(", ");
            let these = format!("{schema} = ? AND {name} IN ({places})");
            let question = question.replace("{names}", &format!("{schema}, {name}"));
            let params = std::iter::once(of).chain(block.iter().copied());
            let params: Vec<Value> = params.map(Value::from).collect();
            let rows: Vec<Row> = conn.exec(question.replace("{of}", &these), params).await?;
            for mut row in rows {
                let last = row.len().saturating_sub(1);
                let read = match (row.take(last.saturating_sub(1)), row.take(last)) {
                    (Some::<String>(of), Some::<String>(name)) => {
                        T::read(&mut row).map(|columns| (TableName::new(of, name), columns))
                    }
                    _ => None,
                };
                let read = read.ok_or(DriverError::FromRow { row })?;
                found.entry(read.0).or_default().push(read.1);
            }
        }
    }
    Ok(found)
}

/// The tables named, in the order asked; those that do not exist under exactly this name are left out.
pub(crate) async fn describe(conn: &mut Conn, names: &[TableName]) -> Result<Vec<TableSchema>> {
    let there = "SELECT table_rows, table_comment, table_collation, {names} \
                 FROM information_schema.tables WHERE {of} AND table_type = 'BASE TABLE'";
    let there = of_tables::<(Option<u64>, String, Option<String>)>(conn, names, NAMES, there);
    let mut there = there.await.map_err(plain)?;
    let columns = "SELECT column_name, column_type, data_type, is_nullable, column_default, extra, \
                   character_maximum_length, CAST(numeric_precision AS UNSIGNED), \
                   CAST(numeric_scale AS UNSIGNED), CAST(datetime_precision AS UNSIGNED), \
                   character_set_name, COALESCE(generation_expression, ''), {names} \
                   FROM information_schema.columns WHERE {of} ORDER BY ordinal_position";
    let columns = of_tables::<ColumnRow>(conn, names, NAMES, columns).await;
    let mut columns = columns.map_err(plain)?;
    let maria = conn.server_version() >= (10, 0, 0);
    let checks =
        "SELECT check_clause, {names} FROM information_schema.check_constraints WHERE {of}";
    let mut checks = match maria {
        true => of_tables::<(String,)>(conn, names, ("constraint_schema", "table_name"), checks)
            .await
            .map_err(plain)?,
        false => BTreeMap::new(),
    };
    let notes = "SELECT column_name, collation_name, column_comment, {names} \
                 FROM information_schema.columns WHERE {of}";
    let notes = of_tables::<Note>(conn, names, NAMES, notes).await;
    let mut notes = notes.map_err(plain)?;
    let keys = "SELECT index_name, CAST(non_unique AS UNSIGNED), column_name, sub_part, {names} \
                FROM information_schema.statistics WHERE {of} ORDER BY index_name, seq_in_index";
    let keys = of_tables::<KeyRow>(conn, names, NAMES, keys).await;
    let mut keys = keys.map_err(plain)?;
    let mut defaults = catalog::defaults(conn, names).await?;
    let mut foreign_keys = foreign_keys(conn, names).await?;
    let image = images::image(conn).await?;
    let mut out = Vec::new();
    for name in names {
        let Some((estimated_rows, comment, collation)) =
            there.remove(name).and_then(|mut rows| rows.pop())
        else {
            continue;
        };
        let checks = checks.remove(name).unwrap_or_default();
        let checks: Vec<String> = checks.into_iter().map(|(check,)| check).collect();
        let rows = columns.remove(name).unwrap_or_default().into_iter();
        let mut columns: Vec<ColumnSchema> = rows.map(|row| column(row, &checks)).collect();
        labels::settle(conn, name, &mut columns).await?;
        note(&mut columns, notes.remove(name).unwrap_or_default());
        let (primary_key, unique_keys) = unique(keys.remove(name).unwrap_or_default(), &columns);
        let old_image = images::old_image(conn, &image, name, &columns, &primary_key).await?;
        let defaults = defaults.remove(name).unwrap_or_default();
        let missing = catalog::missing(&defaults, &columns, maria);
        let schema = TableSchema {
            old_image,
            primary_key,
            unique_keys,
            foreign_keys: foreign_keys.remove(name).unwrap_or_default(),
            estimated_rows,
            // A collation's name begins with its character set.
            charset: collation.and_then(|c| Some(c.split('_').next()?.to_owned())),
            comment,
            ..TableSchema::new(name.clone(), columns)
        };
        out.push(TableSchema {
            layout: Some(Layout::new(&schema, missing).stored()),
            ..schema
        });
    }
    Ok(out)
}

/// Index, whether it is not unique, column, how much of it.
type KeyRow = (String, u8, String, Option<u64>);

/// The columns of the primary key, and the unique keys over whole columns.
fn unique(rows: Vec<KeyRow>, columns: &[ColumnSchema]) -> (Vec<usize>, Vec<UniqueKey>) {
    let index = |column: &str| columns.iter().position(|c| c.name == column);
    let mut keys: Vec<(String, Option<Vec<usize>>)> = Vec::new();
    for (key_name, non_unique, column, part) in rows {
        if non_unique != 0 {
            continue;
        }
        if keys.last().is_none_or(|(n, _)| *n != key_name) {
            keys.push((key_name, Some(Vec::new())));
        }
        if let Some((_, list)) = keys.last_mut() {
            *list = match (list.take(), index(&column), part) {
                (Some(mut list), Some(i), None) => {
                    list.push(i);
                    Some(list)
                }
                _ => None,
            };
        }
    }
    let mut primary_key = Vec::new();
    let mut unique_keys = Vec::new();
    for (key_name, list) in keys {
        match list {
            Some(list) if key_name == "PRIMARY" => primary_key = list,
            Some(columns) => unique_keys.push(UniqueKey {
                name: key_name,
                columns,
            }),
            None => {}
        }
    }
    (primary_key, unique_keys)
}

/// Column, collation, comment.
type Note = (String, Option<String>, String);

/// Takes over what the catalogue says of columns beside their types: comments, and whether they fold.
fn note(columns: &mut [ColumnSchema], notes: Vec<Note>) {
    for (name, collation, comment) in notes {
        let Some(column) = columns.iter_mut().find(|column| column.name == name) else {
            continue;
        };
        column.comment = comment;
        column.folds = collation.is_some_and(|collation| folds(column, &collation));
    }
}

/// Whether a collation takes different texts of a column for equal. The binary ones do for trailing
/// spaces, but those that say otherwise in their names, and `CHAR` has none.
fn folds(column: &ColumnSchema, collation: &str) -> bool {
    match &column.ty {
        ColumnType::Text { .. } if column.native.starts_with("char(") => {
            !collation.ends_with("_bin")
        }
        ColumnType::Text { .. } | ColumnType::Json { .. } => {
            !collation.ends_with("_nopad_bin") && collation != "utf8mb4_0900_bin"
        }
        _ => false,
    }
}

/// Who may only SELECT sees which keys there are in `information_schema.key_column_usage`, but
/// nothing in `referential_constraints`. What a key does stands in SHOW CREATE TABLE, and has to be
/// known: changes that InnoDB cascades are not in the log.
async fn foreign_keys(
    conn: &mut Conn,
    names: &[TableName],
) -> Result<BTreeMap<TableName, Vec<ForeignKey>>> {
    let keys = "SELECT constraint_name, column_name, referenced_table_schema, \
                referenced_table_name, referenced_column_name, {names} \
                FROM information_schema.key_column_usage \
                WHERE {of} AND referenced_table_name IS NOT NULL \
                ORDER BY constraint_name, ordinal_position";
    let keys = of_tables::<ForeignRow>(conn, names, NAMES, keys).await;
    let keys = keys.map_err(plain)?;
    let mut out = BTreeMap::new();
    if keys.is_empty() {
        return Ok(out);
    }
    conn.query_drop("SET SESSION sql_mode = '', sql_quote_show_create = 1")
        .await
        .map_err(plain)?;
    // InnoDB changes the children below the log. MySQL 9.6 and newer do it above, unless told
    // otherwise by this variable, which other servers do not have.
    let native: Option<(String, String)> = conn
        .query_first("SHOW GLOBAL VARIABLES LIKE 'innodb_native_foreign_keys'")
        .await
        .map_err(plain)?;
    let logged = native.is_some_and(|(_, value)| value == "OFF");
    for (name, rows) in keys {
        let show = format!(
            "SHOW CREATE TABLE {}.{}",
            quoted(&name.schema),
            quoted(&name.name)
        );
        let shown: Option<(String, String)> = conn.query_first(show).await.map_err(plain)?;
        let create = shown.map_or(String::new(), |(_, create)| create);
        let keys = foreign_keys_of(&name, rows, &create, logged)?;
        out.insert(name, keys);
    }
    Ok(out)
}

/// Constraint, column, and schema, name and column of the parent.
type ForeignRow = (String, String, String, String, String);

fn foreign_keys_of(
    name: &TableName,
    rows: Vec<ForeignRow>,
    create: &str,
    logged: bool,
) -> Result<Vec<ForeignKey>> {
    let mut out: Vec<ForeignKey> = Vec::new();
    for (constraint, column, schema, table, parent_column) in rows {
        if out.last().is_none_or(|f| f.name != constraint) {
            let (on_delete, on_update) = actions(create, &constraint).ok_or_else(|| {
                Error::schema(format!(
                    "cannot tell what foreign key {constraint} of {name} does"
                ))
                .with_hint("drop the foreign key, or leave the table out of the task")
            })?;
            out.push(ForeignKey {
                name: constraint,
                columns: Vec::new(),
                parent: TableName::new(schema, table),
                parent_columns: Vec::new(),
                on_delete,
                on_update,
                logged,
            });
        }
        if let Some(key) = out.last_mut() {
            key.columns.push(column);
            key.parent_columns.push(parent_column);
        }
    }
    Ok(out)
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// What a foreign key does on delete and on update, from the text of SHOW CREATE TABLE; `None` if
/// the key is not in it.
fn actions(create: &str, name: &str) -> Option<(ReferenceAction, ReferenceAction)> {
    let begin = format!("CONSTRAINT {} FOREIGN KEY ", quoted(name));
    // Keys come after the columns, whose comments could hold anything.
    let mut lines = create.lines().rev();
    let line = lines.find(|line| line.trim_start().starts_with(&begin))?;
    // Only what is outside of quoted names.
    let words: String = line.split('`').step_by(2).collect();
    let action = |on: &str| {
        let rest = words.split_once(on).map_or("", |(_, rest)| rest);
        match rest {
            rest if rest.starts_with("CASCADE") => ReferenceAction::Cascade,
            rest if rest.starts_with("SET NULL") => ReferenceAction::SetNull,
            rest if rest.starts_with("SET DEFAULT") => ReferenceAction::SetDefault,
            _ => ReferenceAction::Refuse,
        }
    };
    Some((action(" ON DELETE "), action(" ON UPDATE ")))
}

fn column(row: ColumnRow, checks: &[String]) -> ColumnSchema {
    let (
        name,
        column_type,
        data_type,
        nullable,
        default,
        extra,
        chars,
        precision,
        scale,
        fsp,
        set,
        expr,
    ) = row;
    let unsigned = column_type.contains("unsigned");
    let int = |bits| ColumnType::Int { bits, unsigned };
    let limit = chars.and_then(|n| u32::try_from(n).ok());
    let precision_of = fsp.unwrap_or(0);
    let calendar = Calendar::Lenient;
    let json = checks
        .iter()
        .any(|c| c.eq_ignore_ascii_case(&format!("json_valid(`{}`)", name.replace('`', "``"))));
    let ty = match data_type.to_ascii_lowercase().as_str() {
        "tinyint" => int(8),
        "smallint" => int(16),
        "mediumint" => int(24),
        "int" | "integer" => int(32),
        "bigint" => int(64),
        "year" => ColumnType::Int {
            bits: 16,
            unsigned: false,
        },
        "float" => ColumnType::Float32 { special: false },
        "double" | "real" => ColumnType::Float64 { special: false },
        "decimal" | "numeric" => ColumnType::Decimal {
            precision,
            scale,
            special: false,
        },
        "bit" => ColumnType::Bits {
            len: precision,
            varying: false,
        },
        "date" => ColumnType::Date { calendar },
        "time" => ColumnType::Time {
            precision: precision_of,
            of_day: false,
        },
        "datetime" => ColumnType::Timestamp {
            precision: precision_of,
            calendar,
        },
        "timestamp" => ColumnType::Instant {
            precision: precision_of,
            calendar,
        },
        // MariaDB's JSON is a LONGTEXT with a check; MySQL's has a form of its own.
        "longtext" if json => ColumnType::Json { normalised: false },
        "json" => ColumnType::Json { normalised: true },
        "char" | "varchar" => ColumnType::Text { max_chars: limit },
        "tinytext" | "text" | "mediumtext" | "longtext" => ColumnType::Text { max_chars: None },
        "binary" | "varbinary" => ColumnType::Bytes { max_bytes: limit },
        "tinyblob" | "blob" | "mediumblob" | "longblob" => ColumnType::Bytes { max_bytes: None },
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
        | "multipolygon" | "geometrycollection" => ColumnType::Geometry,
        "enum" => ColumnType::Enum {
            labels: labels(&column_type),
        },
        "set" => ColumnType::Set {
            labels: labels(&column_type),
        },
        "uuid" => ColumnType::Uuid,
        name => ColumnType::Other {
            system: "mysql",
            name: name.to_owned(),
        },
    };
    let native = match (&ty, set) {
        (ColumnType::Text { .. } | ColumnType::Json { .. }, Some(set)) => {
            format!("{column_type} character set {set}")
        }
        _ => column_type,
    };
    let nullable = nullable == "YES";
    let auto = extra.contains("auto_increment") || extra.contains("on update");
    ColumnSchema {
        has_default: auto || default.is_some_and(|d| d != "NULL") || nullable,
        generated: !expr.is_empty() || extra.contains("GENERATED") && !extra.contains("DEFAULT_"),
        nullable,
        refuses: refuses(&ty, &native),
        ..ColumnSchema::new(name, ty, native)
    }
}

/// A column of a type as [`ColumnSchema::native`] has it. What the text does not say (whether a document is
/// kept in a form of its own, say) is not known.
pub(crate) fn of_native(native: &str) -> ColumnSchema {
    let word = layout::first_word(native).to_owned();
    let labels = matches!(word.as_str(), "enum" | "set");
    let (ty, set) = match native.split_once(" character set ") {
        Some((ty, set)) if !labels => (ty, Some(set.to_owned())),
        _ => (native, None),
    };
    let inside = ty
        .split_once('(')
        .and_then(|(_, rest)| rest.split_once(')'));
    let mut numbers = inside.map_or("", |(numbers, _)| numbers).split(',');
    let mut number = || numbers.next()?.trim().parse::<u32>().ok();
    let (first, second) = (number(), number());
    let row = (
        String::new(),
        ty.to_owned(),
        word,
        "YES".to_owned(),
        None,
        String::new(),
        first.map(u64::from),
        first,
        second,
        first.and_then(|n| u8::try_from(n).ok()),
        set,
        String::new(),
    );
    column(row, &[])
}

/// Tables asked about in one statement.
const AT_ONCE: usize = 100;

/// Whether tables still have the columns they were described with; an error names one that has not.
pub(crate) async fn unchanged(conn: &mut Conn, tables: &[&TableSchema]) -> Result<()> {
    const ONE: &str = "SELECT table_schema, table_name, column_name, column_type, character_set_name \
                       FROM information_schema.columns WHERE table_schema = ? AND table_name = ?";
    for some in tables.chunks(AT_ONCE) {
        // Only a table that is named alone is found without a look at all others.
        let statement = vec![ONE; some.len()].join(" UNION ALL ");
        let names = some.iter().flat_map(|t| [&t.name.schema, &t.name.name]);
        let names: Vec<mysql_async::Value> = names.map(|name| name.as_str().into()).collect();
        let rows: Vec<(String, String, String, String, Option<String>)> =
            conn.exec(statement, names).await.map_err(plain)?;
        for table in some {
            let of_it = |(schema, name, ..): &&(String, String, _, _, _)| {
                *schema == table.name.schema && *name == table.name.name
            };
            let now = rows.iter().filter(of_it);
            let now = now.map(|(_, _, name, ty, set)| (name.as_str(), ty.as_str(), set.as_deref()));
            if let Some(why) = differs(table, &now.collect::<Vec<_>>()) {
                let message = format!(
                    "table {} was changed while the task started: {why}",
                    table.name
                );
                return Err(Error::schema(message).with_hint("run the task again"));
            }
        }
    }
    Ok(())
}

/// How a table's columns (name, type, character set) are others than it was described with.
fn differs(table: &TableSchema, now: &[(&str, &str, Option<&str>)]) -> Option<String> {
    for (name, ty, set) in now {
        let Some(column) = table.column(name) else {
            return Some(format!("column {name} came"));
        };
        // What the catalogue cannot show was found in another way.
        let labels = matches!(layout::first_word(ty), "enum" | "set");
        let hidden = labels && ty.contains('?');
        let with_set = set.map(|set| format!("{ty} character set {set}"));
        if !hidden && column.native != *ty && Some(&column.native) != with_set.as_ref() {
            return Some(format!("column {name} was {} and is {ty}", column.native));
        }
    }
    let gone = |column: &&ColumnSchema| now.iter().all(|(name, ..)| *name != column.name);
    let gone = table.columns.iter().find(gone);
    gone.map(|column| format!("column {} is gone", column.name))
}

/// What a column does not take of its type's values: the server would change them in silence.
pub(crate) fn refuses(ty: &ColumnType, native: &str) -> Option<Refuses> {
    match ty {
        ColumnType::Text { .. } if native.starts_with("char") => Some(Refuses::SpacesAtEnd),
        ColumnType::Int { .. } if native.starts_with("year") => Some(Refuses::NotYear),
        ColumnType::Bytes {
            max_bytes: Some(len),
        } if native.starts_with("binary") => Some(Refuses::Shorter(*len)),
        _ => None,
    }
}

/// Why a column cannot be captured.
pub(crate) fn unsupported(column: &ColumnSchema) -> Option<String> {
    if column.native.ends_with(labels::HIDDEN) {
        return Some("a label with a question mark or an emoji cannot be told exactly".to_owned());
    }
    if column.native == "year(2)" {
        return Some("YEAR(2) does not tell the century".to_owned());
    }
    if matches!(column.ty, ColumnType::Other { .. })
        && !matches!(column.native.as_str(), "inet4" | "inet6")
        && !column.native.starts_with("vector(")
    {
        return Some(format!("the type {} is not built yet", column.native));
    }
    if crate::wire::cells::meaning(column).is_none() {
        return Some(format!(
            "the character set of {} is not built yet",
            column.native
        ));
    }
    None
}

/// Labels of `enum('a','b''c')` as `information_schema` writes them.
fn labels(column_type: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut it = column_type.chars().peekable();
    while let Some(c) = it.next() {
        if c != '\'' {
            continue;
        }
        let mut label = String::new();
        while let Some(d) = it.next() {
            match d {
                '\'' if it.next_if_eq(&'\'').is_some() => label.push('\''),
                '\'' => break,
                '\\' => label.push(match it.next() {
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some('0') => '\0',
                    Some(other) => other,
                    None => '\\',
                }),
                d => label.push(d),
            }
        }
        out.push(label);
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn labels_are_unquoted() {
        assert_eq!(
            super::labels("enum('a','b''c','','d\\\\e')"),
            ["a", "b'c", "", "d\\e"]
        );
    }

    #[test]
    fn what_a_foreign_key_does_is_read_from_the_table_as_it_is_shown() {
        use super::ReferenceAction::{Cascade, Refuse, SetNull};
        let create = "CREATE TABLE `t` (\n  `a` int(11) DEFAULT NULL COMMENT 'CONSTRAINT `x`',\n  \
                      CONSTRAINT `plain` FOREIGN KEY (`a`) REFERENCES `p` (`id`),\n  \
                      CONSTRAINT `both` FOREIGN KEY (`a`,`b`) REFERENCES `p` (`id`, ` ON DELETE \
                      CASCADE`) ON DELETE SET NULL ON UPDATE CASCADE,\n  \
                      CONSTRAINT `a``b` FOREIGN KEY (`a`) REFERENCES `o`.`p``` (`id`) ON DELETE \
                      CASCADE,\n  \
                      CONSTRAINT `named` FOREIGN KEY (` ON UPDATE CASCADE`) REFERENCES `p` (`id`) \
                      ON DELETE NO ACTION\n) ENGINE=InnoDB";
        let check = |name: &str, expected| assert_eq!(super::actions(create, name), expected);
        check("plain", Some((Refuse, Refuse)));
        check("both", Some((SetNull, Cascade)));
        check("a`b", Some((Cascade, Refuse)));
        check("named", Some((Refuse, Refuse)));
        check("x", None);
    }
}
