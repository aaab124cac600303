//! Which columns two tables share, what to ask for them, and which of them are the key.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};

use super::Ends;
use super::form::{self, Form, NULL, Type};
use super::rows::Row;
use crate::servers::{Place, System};

/// One column of both tables.
#[derive(Debug)]
struct Column {
    /// At the source and at the target.
    names: [String; 2],
    form: Form,
    /// Whether both sides order it as a number; otherwise by the bytes of its form.
    number: bool,
    /// What to ask at the source and at the target.
    asked: [String; 2],
}

/// The columns of a pair of tables.
#[derive(Debug)]
pub(super) struct Columns {
    columns: Vec<Column>,
    key: Vec<usize>,
    /// Whether the key is one; otherwise all columns stand in for it.
    pub(super) keyed: bool,
    /// Whether both servers can give the rows in the order of the key.
    pub(super) ordered: bool,
    systems: [System; 2],
    /// Quoted.
    tables: [String; 2],
}

impl Columns {
    /// Asks both servers. Columns of one name belong together, or those that `pairs` names.
    pub(super) fn read(
        ends: &Ends<'_>,
        source: &str,
        target: &str,
        pairs: Option<&[(&str, &str)]>,
    ) -> Result<Self> {
        let here = types(ends.source, source, true)?;
        let mut there: BTreeMap<String, Type> =
            types(ends.target, target, false)?.into_iter().collect();
        if here.is_empty() {
            bail!("{source} is no table, or does not exist");
        }
        let mut columns = Vec::new();
        for (name, from) in here {
            let mut other = name.as_str();
            if let Some(pairs) = pairs {
                match pairs.iter().find(|(from, _)| *from == name) {
                    Some((_, to)) => other = to,
                    None => continue,
                }
            }
            let to = there
                .remove(other)
                .with_context(|| format!("{target} has no {other}"))?;
            columns.push(column([&name, other], [&from, &to]).with_context(|| {
                let (from, to) = (from.full(), to.full());
                format!("{source}.{name}: {from} and {to} have no common form")
            })?);
        }
        if pairs.is_none() && !there.is_empty() {
            bail!("{target} has more columns: {:?}", there.keys());
        }
        if pairs.is_some_and(|pairs| pairs.len() != columns.len()) {
            bail!("{source} lacks some of {pairs:?}");
        }
        let key = key(ends.source, source, &columns)?;
        let keyed = !key.is_empty();
        let key = if keyed {
            key
        } else {
            (0..columns.len()).collect()
        };
        // NULL has no place among numbers, and without a key there may be NULLs.
        let sortable = |index: &usize| {
            let column = columns.get(*index);
            column.is_some_and(|column| !matches!(column.form, Form::Float | Form::Json))
        };
        Ok(Self {
            ordered: keyed && key.iter().all(sortable),
            systems: [ends.source.system(), ends.target.system()],
            tables: [
                ends.source.system().quote_table(source),
                ends.target.system().quote_table(target),
            ],
            columns,
            key,
            keyed,
        })
    }

    /// The query that streams the rows of the source (0) or the target (1).
    pub(super) fn query(&self, end: usize) -> Option<(System, String)> {
        let system = *self.systems.get(end)?;
        let mut fields = Vec::new();
        for column in &self.columns {
            fields.push(format!("coalesce({}, '{NULL}')", column.asked.get(end)?));
        }
        let (fields, table) = (fields.join(", "), self.tables.get(end)?);
        let order = match self.ordered {
            true => format!(" ORDER BY {}", self.order(system, end)?),
            false => String::new(),
        };
        let query = format!("SELECT {fields} FROM {table}{order}");
        let query = match system {
            System::MariaDb => format!("{query};\n"),
            System::Postgres => format!("COPY ({query}) TO STDOUT;\n"),
        };
        Some((system, query))
    }

    fn order(&self, system: System, end: usize) -> Option<String> {
        let mut order = Vec::new();
        for index in &self.key {
            let column = self.columns.get(*index)?;
            let asked = column.asked.get(end)?;
            order.push(match (column.number, system) {
                (true, _) => system.quote(column.names.get(end)?),
                (false, System::MariaDb) => format!("CAST({asked} AS BINARY)"),
                (false, System::Postgres) => format!("{asked} COLLATE \"C\""),
            });
        }
        Some(order.join(", "))
    }

    /// The form of each column, in order.
    pub(super) fn forms(&self) -> impl ExactSizeIterator<Item = Form> {
        self.columns.iter().map(|column| column.form)
    }

    /// The order both servers were asked for.
    pub(super) fn compare_keys(&self, one: &Row, two: &Row) -> Ordering {
        for index in &self.key {
            let number = self.ordered && self.columns.get(*index).is_some_and(|c| c.number);
            let (one, two) = (one.field(*index), two.field(*index));
            let order = if number {
                compare_numbers(one, two)
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

    /// The names of the columns in which two rows differ, as the source has them.
    pub(super) fn different(&self, one: &Row, two: &Row) -> Vec<String> {
        self.columns
            .iter()
            .enumerate()
            .filter(|(index, _)| one.field(*index) != two.field(*index))
            .filter_map(|(_, column)| column.names.first().cloned())
            .collect()
    }
}

fn column(names: [&str; 2], [from, to]: [&Type; 2]) -> Option<Column> {
    let form = form::common(from, to)?;
    let [here, there] = names;
    Some(Column {
        asked: [
            from.ask(form, &from.system.quote(here)),
            to.ask(form, &to.system.quote(there)),
        ],
        number: form == Form::Number && from.is_number() && to.is_number(),
        names: names.map(str::to_owned),
        form,
    })
}

/// The columns of a table and their types; of the source without those it computes itself.
fn types(place: &Place, table: &str, source: bool) -> Result<Vec<(String, Type)>> {
    let (schema, name) = table
        .split_once('.')
        .with_context(|| format!("{table:?} is not schema.table"))?;
    let system = place.system();
    let found = place.sql(&match system {
        System::MariaDb => format!(
            "SELECT HEX(column_name), HEX(data_type), HEX(column_type) \
             FROM information_schema.columns WHERE table_schema = {} AND table_name = {}{} \
             ORDER BY ordinal_position",
            system.literal(schema),
            system.literal(name),
            if source {
                " AND is_generated = 'NEVER'"
            } else {
                ""
            }
        ),
        // A domain is the type below it, however many domains are between.
        System::Postgres => format!(
            "WITH RECURSIVE c AS (SELECT attname, attnum, atttypid AS type, atttypmod AS mod \
             FROM pg_attribute WHERE attrelid = {}::regclass AND attnum > 0 AND NOT attisdropped{} \
             UNION ALL SELECT attname, attnum, typbasetype, typtypmod \
             FROM c JOIN pg_type t ON t.oid = c.type WHERE typtype = 'd') \
             SELECT encode(convert_to(attname::text, 'UTF8'), 'hex'), \
             encode(convert_to(format_type(type, mod), 'UTF8'), 'hex') \
             FROM c JOIN pg_type t ON t.oid = c.type WHERE typtype <> 'd' ORDER BY attnum",
            system.literal(&system.quote_table(table)),
            if source { " AND attgenerated = ''" } else { "" }
        ),
    })?;
    let mut columns = Vec::new();
    for line in found.lines() {
        let fields = line.split('\t').map(unhex).collect::<Result<Vec<_>>>()?;
        columns.push(match fields.as_slice() {
            [name, data, full] => (name.clone(), Type::mariadb(data, full)),
            [name, full] => (name.clone(), Type::postgres(full)),
            _ => bail!("{table}: the catalogue says {line:?}"),
        });
    }
    Ok(columns)
}

fn unhex(text: &str) -> Result<String> {
    Ok(String::from_utf8(form::unhex(text.as_bytes())?)?)
}

/// The primary key, else the first unique key without NULLs, else nothing.
fn key(place: &Place, table: &str, columns: &[Column]) -> Result<Vec<usize>> {
    let system = place.system();
    let (schema, name) = table.split_once('.').unwrap_or(("", table));
    let found = place.sql(&match system {
        System::MariaDb => format!(
            "SELECT HEX(index_name), HEX(column_name) FROM information_schema.statistics s \
             WHERE table_schema = {0} AND table_name = {1} AND non_unique = 0 AND NOT EXISTS \
             (SELECT 1 FROM information_schema.statistics n WHERE n.table_schema = {0} \
             AND n.table_name = {1} AND n.index_name = s.index_name \
             AND (n.nullable = 'YES' OR n.sub_part IS NOT NULL)) \
             ORDER BY index_name <> 'PRIMARY', index_name, seq_in_index",
            system.literal(schema),
            system.literal(name)
        ),
        System::Postgres => format!(
            "SELECT i.indexrelid, encode(convert_to(a.attname::text, 'UTF8'), 'hex') \
             FROM pg_index i CROSS JOIN unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY k(num, place) \
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num \
             WHERE i.indrelid = {}::regclass AND i.indisunique AND i.indpred IS NULL \
             AND i.indexprs IS NULL AND NOT EXISTS (SELECT 1 FROM pg_attribute n \
             WHERE n.attrelid = i.indrelid AND n.attnum = ANY(i.indkey) AND NOT n.attnotnull) \
             ORDER BY NOT i.indisprimary, i.indexrelid, k.place",
            system.literal(&system.quote_table(table))
        ),
    })?;
    let mut parts = found
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .peekable();
    let first = parts.peek().map(|(index, _)| *index);
    let mut key = Vec::new();
    for (_, name) in parts.take_while(|(index, _)| Some(*index) == first) {
        let name = unhex(name)?;
        let place = columns
            .iter()
            .position(|column| column.names.first() == Some(&name));
        key.push(place.with_context(|| format!("the key column {name} is not compared"))?);
    }
    Ok(key)
}

/// Canonical numbers by value: what is not a number comes where PostgreSQL puts it.
fn compare_numbers(one: &[u8], two: &[u8]) -> Ordering {
    let rank = |text: &[u8]| match text {
        b"-Infinity" => 0,
        b"Infinity" => 2,
        b"NaN" => 3,
        _ => 1,
    };
    let ranks = rank(one).cmp(&rank(two));
    if ranks != Ordering::Equal || rank(one) != 1 {
        return ranks;
    }
    match (one.strip_prefix(b"-"), two.strip_prefix(b"-")) {
        (None, None) => compare_sizes(one, two),
        (Some(one), Some(two)) => compare_sizes(two, one),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
    }
}

/// Of numbers without sign: the longer whole part, then digit by digit.
fn compare_sizes(one: &[u8], two: &[u8]) -> Ordering {
    let whole = |text: &[u8]| text.iter().take_while(|byte| **byte != b'.').count();
    whole(one).cmp(&whole(two)).then_with(|| one.cmp(two))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_ordered_by_value() {
        let ordered = [
            "-Infinity",
            "-100",
            "-99.5",
            "-99",
            "-1",
            "0",
            "0.25",
            "0.3",
            "1",
            "9",
            "9.000001",
            "10",
            "18446744073709551615",
            "Infinity",
            "NaN",
        ];
        for (at, one) in ordered.iter().enumerate() {
            for (to, two) in ordered.iter().enumerate() {
                let found = compare_numbers(one.as_bytes(), two.as_bytes());
                assert_eq!(found, at.cmp(&to), "{one} {two}");
            }
        }
    }
}
