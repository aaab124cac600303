//! A case in a real database: its tables, its changes, and what they hold.

use anyhow::{Context as _, Result, bail};
use thalweg_core::schema::{TableName, TableSchema};

use super::{Case, VALUES};
use crate::memory::{DEFAULT, MemoryChange, NULL, Row};
use crate::servers::{Place, System};

/// Which columns of a table hold texts made of the numbers.
type Texts = Vec<bool>;

impl Case {
    /// The statements that make the source's tables.
    pub fn create_sources(&self, system: System) -> String {
        let tables = self.sources.iter();
        tables
            .map(|table| create(system, table, &texts_of(table)))
            .collect()
    }

    /// The statements that make the target's tables.
    pub fn create_targets(&self, system: System) -> String {
        let mut sql = String::new();
        for table in &self.targets {
            sql.push_str(&create(system, table, &self.texts(table)));
            if system == System::Postgres {
                let name = named(system, &table.name);
                sql.push_str(&format!("GRANT ALL ON {name} TO PUBLIC;\n"));
            }
        }
        sql
    }

    /// The statements that remove the tables.
    pub fn drop(system: System, tables: &[TableSchema]) -> String {
        let drop = |table: &TableSchema| format!("DROP TABLE {};\n", named(system, &table.name));
        tables.iter().map(drop).collect()
    }

    /// Transactions of the source as statements.
    pub fn statements(&self, system: System, transactions: &[Vec<MemoryChange>]) -> String {
        let mut sql = String::new();
        for transaction in transactions {
            sql.push_str("BEGIN;\n");
            for change in transaction {
                if let Some(table) = self.sources.get(change.table) {
                    sql.push_str(&statement(system, table, change));
                }
            }
            sql.push_str("COMMIT;\n");
        }
        sql
    }

    /// The rows of a target table, sorted.
    ///
    /// # Errors
    /// If the database cannot be asked, or holds a value that no case has.
    pub fn rows(&self, place: &Place, table: &TableSchema) -> Result<Vec<Row>> {
        let system = place.system();
        let texts = self.texts(table);
        let cells: Vec<String> = (table.columns.iter().zip(&texts))
            .map(|(column, text)| number(system, &system.quote(&column.name), *text))
            .collect();
        let query = format!(
            "SELECT concat_ws(',', {}) FROM {}",
            cells.join(", "),
            named(system, &table.name)
        );
        let answer = place.sql(&query)?;
        let mut rows = Vec::new();
        for line in answer.lines() {
            let cell = |text: &str| match text {
                "N" => Ok(NULL),
                text => text
                    .parse()
                    .with_context(|| format!("a cell {text:?} of {}", table.name)),
            };
            rows.push(line.split(',').map(cell).collect::<Result<Row>>()?);
        }
        if rows.iter().any(|row| row.len() != table.columns.len()) {
            bail!("a row of {} with other columns than asked for", table.name);
        }
        rows.sort();
        Ok(rows)
    }

    /// A target's column holds texts where the source's behind it does.
    fn texts(&self, table: &TableSchema) -> Texts {
        let behind = |name: &String| {
            self.mappings
                .iter()
                .filter(|m| m.target == table.name)
                .any(|mapping| {
                    let source = self.sources.iter().find(|s| s.name == mapping.source);
                    let pair = mapping.columns.iter().find(|pair| pair.target == *name);
                    let column = source
                        .zip(pair)
                        .and_then(|(s, pair)| s.column_index(&pair.source));
                    let texts = source.map(texts_of).unwrap_or_default();
                    column.is_some_and(|column| texts.get(column) == Some(&true))
                })
        };
        table
            .columns
            .iter()
            .map(|column| behind(&column.name))
            .collect()
    }
}

/// Columns that are never part of a key take turns.
fn texts_of(table: &TableSchema) -> Texts {
    (0..table.columns.len())
        .map(|column| column > 1 && column % 2 == 0)
        .collect()
}

fn named(system: System, table: &TableName) -> String {
    format!(
        "{}.{}",
        system.quote(&table.schema),
        system.quote(&table.name)
    )
}

fn create(system: System, table: &TableSchema, texts: &Texts) -> String {
    let mut parts = Vec::new();
    for (column, text) in table.columns.iter().zip(texts) {
        let ty = match (text, system) {
            (false, _) => "bigint",
            (true, System::MariaDb) => "longtext",
            (true, System::Postgres) => "text",
        };
        let mut part = format!("{} {ty}", system.quote(&column.name));
        if !column.nullable {
            part.push_str(" NOT NULL");
        }
        if column.has_default {
            part.push_str(&format!(" DEFAULT {}", literal(system, DEFAULT, *text)));
        }
        parts.push(part);
    }
    let list = |key: &[usize]| {
        let columns = key.iter().filter_map(|c| table.columns.get(*c));
        columns
            .map(|c| system.quote(&c.name))
            .collect::<Vec<_>>()
            .join(", ")
    };
    if !table.primary_key.is_empty() {
        parts.push(format!("PRIMARY KEY ({})", list(&table.primary_key)));
    }
    for key in &table.unique_keys {
        parts.push(format!("UNIQUE ({})", list(&key.columns)));
    }
    let name = named(system, &table.name);
    let mut sql = format!("CREATE TABLE {name} ({})", parts.join(", "));
    sql.push_str(match system {
        System::MariaDb => " CHARACTER SET utf8mb4;\n",
        System::Postgres => ";\n",
    });
    if system == System::Postgres && table.old_image.is_none() {
        sql.push_str(&format!("ALTER TABLE {name} REPLICA IDENTITY FULL;\n"));
    }
    sql
}

fn statement(system: System, table: &TableSchema, change: &MemoryChange) -> String {
    let texts = texts_of(table);
    let name = named(system, &table.name);
    let cells = |row: &Row| -> Vec<(String, String)> {
        let columns = table.columns.iter().zip(&texts);
        let cells = row.iter().zip(columns);
        cells
            .map(|(cell, (c, text))| (system.quote(&c.name), literal(system, *cell, *text)))
            .collect()
    };
    // One row, even of several that are equal.
    let one = |row: &Row| {
        let equals = match system {
            System::MariaDb => "<=>",
            System::Postgres => "IS NOT DISTINCT FROM",
        };
        let each = cells(row)
            .into_iter()
            .map(|(name, cell)| format!("{name} {equals} {cell}"));
        let condition = each.collect::<Vec<_>>().join(" AND ");
        match system {
            System::MariaDb => format!("{condition} LIMIT 1"),
            System::Postgres => {
                format!("ctid = (SELECT ctid FROM {name} WHERE {condition} LIMIT 1)")
            }
        }
    };
    match (&change.before, &change.after) {
        (None, Some(after)) => {
            let (names, values): (Vec<_>, Vec<_>) = cells(after).into_iter().unzip();
            format!(
                "INSERT INTO {name} ({}) VALUES ({});\n",
                names.join(", "),
                values.join(", ")
            )
        }
        (Some(before), Some(after)) => {
            let each = cells(after).into_iter();
            let set: Vec<_> = each
                .map(|(column, cell)| format!("{column} = {cell}"))
                .collect();
            format!(
                "UPDATE {name} SET {} WHERE {};\n",
                set.join(", "),
                one(before)
            )
        }
        (Some(before), None) => format!("DELETE FROM {name} WHERE {};\n", one(before)),
        (None, None) => format!("TRUNCATE TABLE {name};\n"),
    }
}

/// A value as SQL has it.
fn literal(system: System, value: i64, text: bool) -> String {
    match value {
        NULL => "NULL".to_owned(),
        value if text => system.literal(&text_of(value)),
        value => value.to_string(),
    }
}

/// The text that stands for a number: empty, with marks of every kind, long enough to be stored
/// apart from its row, and with a space at its end.
fn text_of(value: i64) -> String {
    match value {
        0 => String::new(),
        1 => "it's \"q\" \\ back\\slash".to_owned(),
        2 => "žluťoučký 😀".to_owned(),
        3 => "x".repeat(100),
        4 => {
            let digit = |n: u64| {
                let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58;
                char::from_u32(u32::try_from(mixed).unwrap_or(0) + 0x40).unwrap_or('-')
            };
            (0..6000).map(digit).collect()
        }
        5 => "five ".to_owned(),
        other => format!("number {other}"),
    }
}

/// The expression that gives the number back; a text that no number has is a `?`.
fn number(system: System, column: &str, text: bool) -> String {
    let cast = match system {
        System::MariaDb => "char",
        System::Postgres => "text",
    };
    if !text {
        return format!("coalesce(CAST({column} AS {cast}), 'N')");
    }
    let mut sql = format!("CASE WHEN {column} IS NULL THEN 'N'");
    for value in std::iter::once(DEFAULT).chain(0..VALUES) {
        let literal = literal(system, value, true);
        let same = match system {
            System::MariaDb => format!("CAST({column} AS binary) = CAST({literal} AS binary)"),
            System::Postgres => format!("{column} = {literal}"),
        };
        sql.push_str(&format!(" WHEN {same} THEN '{value}'"));
    }
    sql.push_str(" ELSE '?' END");
    sql
}
