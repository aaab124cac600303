//! Which columns two tables share, what to ask for them, and which of them are the key.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};

use super::Ends;
use super::form::{self, Form, NULL};
use super::rows::Row;

/// One column of both tables.
#[derive(Debug)]
struct Column {
    name: String,
    form: Form,
    /// Whether both sides order it as a number; otherwise by the bytes of its form.
    integer: bool,
    mariadb: String,
    postgres: String,
}

/// The columns of a pair of tables.
#[derive(Debug)]
pub(super) struct Columns {
    columns: Vec<Column>,
    key: Vec<usize>,
    /// Whether the key is one; otherwise all columns stand in for it.
    pub(super) keyed: bool,
    mariadb_table: String,
    postgres_table: String,
}

impl Columns {
    /// Asks both servers.
    pub(super) fn read(ends: &Ends<'_>, source: &str, target: &str) -> Result<Self> {
        let (schema, table) = source
            .split_once('.')
            .context("the source is database.table")?;
        let found = ends.source.sql(&format!(
            "SELECT column_name, data_type, column_type FROM information_schema.columns \
             WHERE table_schema = {0} AND table_name = {1} AND is_generated = 'NEVER' \
             ORDER BY ordinal_position",
            literal(schema),
            literal(table)
        ))?;
        let mut types = postgres_types(ends, target)?;
        let mut columns = Vec::new();
        for line in found.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let &[name, data, full] = fields.as_slice() else {
                bail!("{source}: the catalogue says {line:?}");
            };
            let there = types
                .remove(name)
                .with_context(|| format!("{target} has no {name}"))?;
            columns.push(column(name, (data, full), &there).with_context(|| {
                format!("{source}.{name}: {full} and {there} have no common form")
            })?);
        }
        if columns.is_empty() {
            bail!("{source} is no table");
        }
        if !types.is_empty() {
            bail!("{target} has more columns: {:?}", types.keys());
        }
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let key = key(ends, schema, table, &names)?;
        let keyed = !key.is_empty();
        let key = if keyed {
            key
        } else {
            (0..columns.len()).collect()
        };
        let mut this = Self {
            columns,
            key,
            keyed,
            mariadb_table: quoted(source, '`'),
            postgres_table: quoted(target, '"'),
        };
        this.check_key(source)?;
        Ok(this)
    }

    fn check_key(&mut self, source: &str) -> Result<()> {
        for index in &self.key {
            let Some(column) = self.columns.get_mut(*index) else {
                continue;
            };
            if matches!(column.form, Form::Float | Form::Json) {
                bail!(
                    "{source}: {} cannot order rows alike on both sides",
                    column.name
                );
            }
            // NULL has no place among numbers, so without a key everything is ordered as text.
            column.integer &= self.keyed;
        }
        Ok(())
    }

    /// The query that streams the source's rows.
    pub(super) fn mariadb_query(&self) -> String {
        let fields: Vec<String> = self
            .columns
            .iter()
            .map(|column| format!("IFNULL({}, '{NULL}')", column.mariadb))
            .collect();
        let order: Vec<String> = self
            .key()
            .map(|column| {
                if column.integer {
                    column.mariadb.clone()
                } else {
                    format!("CAST(IFNULL({}, '{NULL}') AS BINARY)", column.mariadb)
                }
            })
            .collect();
        let (fields, order) = (fields.join(", "), order.join(", "));
        format!(
            "SELECT {fields} FROM {} ORDER BY {order};\n",
            self.mariadb_table
        )
    }

    /// The query that streams the target's rows.
    pub(super) fn postgres_query(&self) -> String {
        let fields: Vec<String> = self
            .columns
            .iter()
            .map(|column| format!("coalesce({}, '{NULL}')", column.postgres))
            .collect();
        let order: Vec<String> = self
            .key()
            .map(|column| {
                if column.integer {
                    quoted(&column.name, '"')
                } else {
                    format!("coalesce({}, '{NULL}') COLLATE \"C\"", column.postgres)
                }
            })
            .collect();
        let (fields, order) = (fields.join(", "), order.join(", "));
        format!(
            "COPY (SELECT {fields} FROM {} ORDER BY {order}) TO STDOUT;\n",
            self.postgres_table
        )
    }

    /// The form of each column, in order.
    pub(super) fn forms(&self) -> impl ExactSizeIterator<Item = Form> {
        self.columns.iter().map(|column| column.form)
    }

    fn key(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().filter_map(|index| self.columns.get(*index))
    }

    /// The order both servers were asked for.
    pub(super) fn compare_keys(&self, one: &Row, two: &Row) -> Ordering {
        for index in &self.key {
            let integer = self
                .columns
                .get(*index)
                .is_some_and(|column| column.integer);
            let (one, two) = (one.field(*index), two.field(*index));
            let order = if integer {
                compare_integers(one, two)
            } else {
                one.cmp(two)
            };
            if order != Ordering::Equal {
                return order;
            }
        }
        Ordering::Equal
    }

    /// A row's key for people.
    pub(super) fn key_text(&self, row: &Row) -> String {
        let parts: Vec<String> = self
            .key
            .iter()
            .map(|index| {
                let said = row.field(*index);
                let text = self
                    .columns
                    .get(*index)
                    .is_some_and(|c| c.form == Form::Text);
                match form::unhex(said) {
                    Ok(bytes) if text => format!("{:?}", String::from_utf8_lossy(&bytes)),
                    _ => String::from_utf8_lossy(said).into_owned(),
                }
            })
            .collect();
        parts.join(", ")
    }

    /// The names of the columns in which two rows differ.
    pub(super) fn different(&self, one: &Row, two: &Row) -> Vec<String> {
        self.columns
            .iter()
            .enumerate()
            .filter(|(index, _)| one.field(*index) != two.field(*index))
            .map(|(_, column)| column.name.clone())
            .collect()
    }
}

fn column(name: &str, (data, full): (&str, &str), there: &str) -> Option<Column> {
    let (form, mariadb) = form::of_mariadb(data, full, &quoted_name(name, '`'))?;
    let (form, postgres) = form::of_postgres(form, there, &quoted_name(name, '"'))?;
    let whole = data.ends_with("int") || data == "year";
    Some(Column {
        name: name.to_owned(),
        form,
        integer: whole && there != "boolean",
        mariadb,
        postgres,
    })
}

fn postgres_types(ends: &Ends<'_>, target: &str) -> Result<BTreeMap<String, String>> {
    let table = literal(&quoted(target, '"'));
    let found = ends.target.sql_in(
        ends.database,
        &format!(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute \
             WHERE attrelid = {table}::regclass AND attnum > 0 AND NOT attisdropped"
        ),
    )?;
    let lines = found.lines().filter_map(|line| line.split_once('\t'));
    Ok(lines
        .map(|(name, ty)| (name.to_owned(), ty.to_owned()))
        .collect())
}

/// The primary key, else the first unique key without NULLs, else nothing.
fn key(ends: &Ends<'_>, schema: &str, table: &str, names: &[&str]) -> Result<Vec<usize>> {
    let found = ends.source.sql(&format!(
        "SELECT index_name, column_name FROM information_schema.statistics s \
         WHERE table_schema = {0} AND table_name = {1} AND non_unique = 0 AND NOT EXISTS \
         (SELECT 1 FROM information_schema.statistics n WHERE n.table_schema = {0} \
         AND n.table_name = {1} AND n.index_name = s.index_name \
         AND (n.nullable = 'YES' OR n.sub_part IS NOT NULL)) \
         ORDER BY index_name <> 'PRIMARY', index_name, seq_in_index",
        literal(schema),
        literal(table)
    ))?;
    let mut parts = found
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .peekable();
    let first = parts.peek().map(|(index, _)| *index);
    parts
        .take_while(|(index, _)| Some(*index) == first)
        .map(|(_, column)| {
            let place = names.iter().position(|name| *name == column);
            place.with_context(|| format!("the key column {column} is not compared"))
        })
        .collect()
}

/// Whole numbers of any length, as their digits.
fn compare_integers(one: &[u8], two: &[u8]) -> Ordering {
    let size = |one: &[u8], two: &[u8]| one.len().cmp(&two.len()).then_with(|| one.cmp(two));
    match (one.strip_prefix(b"-"), two.strip_prefix(b"-")) {
        (None, None) => size(one, two),
        (Some(one), Some(two)) => size(two, one),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn quoted_name(name: &str, mark: char) -> String {
    let double: String = [mark, mark].iter().collect();
    format!("{mark}{}{mark}", name.replace(mark, &double))
}

fn quoted(name: &str, mark: char) -> String {
    match name.split_once('.') {
        Some((schema, table)) => {
            format!("{}.{}", quoted_name(schema, mark), quoted_name(table, mark))
        }
        None => quoted_name(name, mark),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_ordered_by_value() {
        let ordered = [
            "-100",
            "-99",
            "-1",
            "0",
            "1",
            "9",
            "10",
            "18446744073709551615",
        ];
        for (at, one) in ordered.iter().enumerate() {
            for (to, two) in ordered.iter().enumerate() {
                assert_eq!(
                    compare_integers(one.as_bytes(), two.as_bytes()),
                    at.cmp(&to)
                );
            }
        }
    }
}
