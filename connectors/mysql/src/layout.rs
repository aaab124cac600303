//! How the rows of a table lie in the log: all of its columns in order, as they were at a place.
//!
//! Without `binlog_row_metadata = FULL` the log says of each column how its bytes lie, and not what it
//! is called. So the names are kept with the position ([`thalweg_core::position::Layout`]) and follow
//! each statement that alters the table ([`Layout::altered`]). Of columns that nobody asked for only the
//! name is of use, so that no type has to be understood in a statement; what is known of their types is
//! compared with the log all the same, so that a wrong layout is found out and never shifts a row.

use thalweg_core::position;
use thalweg_core::range::Bound;
use thalweg_core::schema::TableSchema;
use thalweg_core::value::{CellRef, decode_raw};
use thalweg_core::{Error, Result, Side};

use crate::ddl::alter::{Action, Spot};
use crate::wire::map::Physical;
use crate::wire::rows::Missing;

/// A table's columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) columns: Vec<Column>,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// Its type, cut short; empty: not known.
    pub(crate) native: String,
    pub(crate) missing: Missing,
}

/// Characters of a type that are kept.
const NATIVE_MAX: usize = 40;

/// Cuts a type short. The labels of `enum` and `set` are no part of how a value lies.
fn short(native: &str) -> String {
    let word = first_word(native);
    match word {
        "enum" | "set" => word.to_owned(),
        _ => native.chars().take(NATIVE_MAX).collect(),
    }
}

fn first_word(native: &str) -> &str {
    native.split(['(', ' ']).next().unwrap_or_default()
}

/// Whether two types that may be cut short, of different times, are of one kind and sign.
pub(crate) fn same_kind(a: &str, b: &str) -> bool {
    let unsigned = |native: &str| native.contains("unsigned");
    first_word(a) == first_word(b) && unsigned(a) == unsigned(b)
}

/// Whether two names are one column's: the case of names of columns is of no account.
pub(crate) fn same(a: &str, b: &str) -> bool {
    a == b || a.to_lowercase() == b.to_lowercase()
}

impl Layout {
    /// The layout of a table whose schema has all of its columns; `missing` has one for each, or none.
    pub(crate) fn new(schema: &TableSchema, missing: Vec<Missing>) -> Layout {
        let mut missing = missing.into_iter();
        let columns = schema.columns.iter().map(|column| Column {
            name: column.name.clone(),
            native: short(&column.native),
            missing: missing.next().unwrap_or_default(),
        });
        Layout {
            columns: columns.collect(),
        }
    }

    /// The layout that a schema comes with, or else that of its columns.
    pub(crate) fn of(schema: &TableSchema) -> Result<Layout> {
        let Some(text) = &schema.layout else {
            return Ok(Layout::new(schema, Vec::new()));
        };
        parse(text.as_str()).ok_or_else(|| {
            Error::schema(format!(
                "this version does not understand what is stored of the columns of {}",
                schema.name
            ))
            .with_hint("reset the task, so that it loads again")
            .at(Side::Source)
        })
    }

    /// As it is stored.
    pub(crate) fn stored(&self) -> position::Layout {
        let mut text = String::from("1");
        for column in &self.columns {
            let missing = match &column.missing {
                Missing::Unknown => String::new(),
                Missing::Virtual => "v".to_owned(),
                Missing::Default(raw) => raw.iter().fold("=".to_owned(), |mut text, byte| {
                    text.push_str(&format!("{byte:02x}"));
                    text
                }),
            };
            let (name, native) = (escaped(&column.name), escaped(&column.native));
            text.push_str(&format!("\n{name}\t{native}\t{missing}"));
        }
        position::Layout::new(text)
    }

    fn at(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| same(&c.name, name))
    }

    /// What an `ALTER TABLE` that succeeded made of it; `Err`: why it cannot have been so.
    ///
    /// As the servers do it (`mysql_prepare_alter_table`): the columns that are there go, change or stay,
    /// by the names they had; then those that are new or get a new place come, in the order of the
    /// statement, each among those that are there by then.
    pub(crate) fn altered(&self, actions: &[Action]) -> Result<Layout, String> {
        for action in actions {
            if !action.lenient() && action.old().is_some_and(|name| self.at(name).is_none()) {
                let name = action.old().unwrap_or_default();
                return Err(format!("it has no column {name} there"));
            }
        }
        let mut out = Layout::default();
        for column in &self.columns {
            let of_it =
                |action: &&Action| action.old().is_some_and(|name| same(name, &column.name));
            let mut column = column.clone();
            let mut stays = true;
            for action in actions.iter().filter(of_it) {
                match action {
                    Action::Drop { .. } => stays = false,
                    Action::Change {
                        column: to, spot, ..
                    } => {
                        stays &= *spot == Spot::Stay;
                        column = to.clone();
                    }
                    Action::Rename { to, .. } => column.name.clone_from(to),
                    Action::Default { .. } => column.missing = Missing::Unknown,
                    Action::Add { .. } => {}
                }
            }
            if stays {
                out.columns.push(column);
            }
        }
        for action in actions {
            let (column, spot) = match action {
                Action::Add { column, if_new, .. }
                    if *if_new && self.at(&column.name).is_some() =>
                {
                    continue;
                }
                Action::Change { name, .. } if self.at(name).is_none() => continue,
                Action::Change { spot, .. } if *spot == Spot::Stay => continue,
                Action::Add { column, spot, .. } | Action::Change { column, spot, .. } => {
                    (column, spot)
                }
                Action::Drop { .. } | Action::Rename { .. } | Action::Default { .. } => continue,
            };
            let at = match spot {
                Spot::Stay => out.columns.len(),
                Spot::First => 0,
                Spot::After(name) => {
                    let at = out.at(name);
                    at.ok_or_else(|| format!("it has no column {name} there"))? + 1
                }
            };
            out.columns.insert(at, column.clone());
        }
        for (at, column) in out.columns.iter().enumerate() {
            if out.at(&column.name) != Some(at) {
                return Err(format!("it has a column {} already", column.name));
            }
        }
        Ok(out)
    }
}

/// Whether a value of a type can lie so; of a type that is not known any can.
pub(crate) fn agrees(native: &str, physical: Physical) -> bool {
    let text = matches!(physical, Physical::Str(_) | Physical::Compressed(_));
    match first_word(native) {
        "tinyint" => physical == Physical::Int(1),
        "smallint" => physical == Physical::Int(2),
        "mediumint" => physical == Physical::Int(3),
        "int" => physical == Physical::Int(4),
        "bigint" => physical == Physical::Int(8),
        "float" => physical == Physical::Float,
        "double" => physical == Physical::Double,
        "decimal" => matches!(physical, Physical::Decimal(..)),
        "year" => physical == Physical::Year,
        "date" => physical == Physical::Date,
        "time" => matches!(physical, Physical::Time2(_) | Physical::OldTime(_)),
        "datetime" => matches!(physical, Physical::Datetime2(_) | Physical::OldDatetime(_)),
        "timestamp" => matches!(
            physical,
            Physical::Timestamp2(_) | Physical::OldTimestamp(_)
        ),
        "bit" => matches!(physical, Physical::Bit(_)),
        "enum" => matches!(physical, Physical::Enum(_)),
        "set" => matches!(physical, Physical::Set(_)),
        "json" => text || matches!(physical, Physical::Json(_)),
        "char" | "varchar" | "binary" | "varbinary" | "tinytext" | "text" | "mediumtext"
        | "longtext" | "tinyblob" | "blob" | "mediumblob" | "longblob" => text,
        _ => true,
    }
}

/// The digits in brackets behind a type's name; 0: there are none.
pub(crate) fn digits(native: &str) -> u8 {
    let inside = native
        .split_once('(')
        .and_then(|(_, rest)| rest.split_once(')'));
    inside.and_then(|(n, _)| n.trim().parse().ok()).unwrap_or(0)
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\t', "\\t")
        .replace('\n', "\\n")
}

fn unescaped(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut it = text.chars();
    while let Some(c) = it.next() {
        out.push(match c {
            '\\' => match it.next()? {
                '\\' => '\\',
                't' => '\t',
                'n' => '\n',
                _ => return None,
            },
            c => c,
        });
    }
    Some(out)
}

fn parse(text: &str) -> Option<Layout> {
    let mut lines = text.split('\n');
    if lines.next() != Some("1") {
        return None;
    }
    let column = |line: &str| {
        let mut parts = line.split('\t');
        let (name, native) = (unescaped(parts.next()?)?, unescaped(parts.next()?)?);
        let missing = match (parts.next()?, parts.next()) {
            ("", None) => Missing::Unknown,
            ("v", None) => Missing::Virtual,
            (cell, None) => {
                let raw = octets(cell.strip_prefix('=')?)?;
                decode_raw(&raw)?;
                Missing::Default(raw.into())
            }
            (_, Some(_)) => return None,
        };
        Some(Column {
            name,
            native,
            missing,
        })
    };
    let columns = lines.map(column).collect::<Option<_>>()?;
    Some(Layout { columns })
}

fn octets(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let octet = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok();
    let bytes: Option<Vec<u8>> = pairs.iter().map(octet).collect();
    bytes.filter(|_| rest.is_empty())
}

/// A column that is NULL where an insert leaves it out.
pub(crate) fn null() -> Missing {
    Missing::Default(Bound::new(CellRef::Null).raw().into())
}

#[cfg(test)]
mod tests;
