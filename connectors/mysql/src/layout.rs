//! How the rows of a table lie in the log: all of its columns in order, as they were at a place.
//!
//! Without `binlog_row_metadata = FULL` the log says of each column how its bytes lie, and not what it
//! is called. So the names are kept with the position ([`thalweg_core::position::Layout`]) and follow
//! each statement that alters the table ([`Layout::altered`]). Of columns that nobody asked for only the
//! name is of use, so that no type has to be understood in a statement; what is known of their types is
//! compared with the log all the same, so that a wrong layout is found out and never shifts a row.
//!
//! A table may be asked for as it was made later ([`crate::bridge`]). Then the layout has beside its
//! columns those that are *young*: they are to come behind the place, and until then all rows have the
//! same value of them. A column that is to get another type has the type it had.

use thalweg_core::position;
use thalweg_core::range::Bound;
use thalweg_core::schema::{ColumnSchema, TableName, TableSchema};
use thalweg_core::value::{CellRef, decode_raw};
use thalweg_core::{Error, Result, Side};

use crate::ddl::alter::{Action, Spot};
use crate::wire::map::Physical;
use crate::wire::rows::Missing;

/// A table's columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Those the log has, in order.
    pub(crate) columns: Vec<Column>,
    pub(crate) young: Vec<Young>,
    /// An end of the log, as the text of a position: up to there rows may go without being logged.
    pub(crate) passes: Option<String>,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// Its type, cut short; empty: not known.
    pub(crate) native: String,
    pub(crate) missing: Missing,
}

impl Column {
    /// Whether its type is known to be another than that of the column as it is asked for.
    pub(crate) fn changes_to(&self, column: &ColumnSchema) -> bool {
        !self.native.is_empty() && self.native != short(&column.native)
    }
}

/// A column that the log does not have yet, or that came lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Young {
    /// What it is when it comes.
    pub(crate) column: Column,
    /// The encoded cell it has in each row that was there when it came.
    pub(crate) fill: Box<[u8]>,
    /// The end of the log when that was found out, as the text of a position. It holds if nothing is done
    /// to the column up to there.
    pub(crate) until: String,
    /// Whether it is one of the columns by now.
    pub(crate) came: bool,
}

/// Characters of a type that are kept.
const NATIVE_MAX: usize = 40;

/// Cuts a type short. The labels of `enum` and `set` are no part of how a value lies.
pub(crate) fn short(native: &str) -> String {
    let word = first_word(native);
    match word {
        "enum" | "set" => word.to_owned(),
        _ => native.chars().take(NATIVE_MAX).collect(),
    }
}

pub(crate) fn first_word(native: &str) -> &str {
    native.split(['(', ' ']).next().unwrap_or_default()
}

/// Whether values of two types that may be cut short, of different times, can be of one column: they are
/// of one kind, sign and character set. How long they may be is told by the log.
pub(crate) fn same_kind(a: &str, b: &str) -> bool {
    let unsigned = |native: &str| native.contains("unsigned");
    let set = |native: &str| {
        let whole = native.chars().count() < NATIVE_MAX;
        let (_, set) = native.split_once(" character set ").filter(|_| whole)?;
        Some(set.to_owned())
    };
    let other_set = matches!((set(a), set(b)), (Some(a), Some(b)) if a != b);
    kind(a) == kind(b) && unsigned(a) == unsigned(b) && !other_set
}

fn kind(native: &str) -> &str {
    match first_word(native) {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => "int",
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => "text",
        "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => "blob",
        word => word,
    }
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
            young: Vec::new(),
            passes: None,
        }
    }

    /// The layout that a schema comes with, or else that of its columns.
    pub(crate) fn of(schema: &TableSchema) -> Result<Layout> {
        match &schema.layout {
            Some(layout) => Layout::read(layout, &schema.name),
            None => Ok(Layout::new(schema, Vec::new())),
        }
    }

    /// What [`Layout::stored`] gave for a table.
    pub(crate) fn read(stored: &position::Layout, table: &TableName) -> Result<Layout> {
        parse(stored.as_str()).ok_or_else(|| {
            Error::schema(format!(
                "this version does not understand what is stored of the columns of {table}"
            ))
            .with_hint("reset the task, so that it loads again")
            .at(Side::Source)
        })
    }

    /// As it is stored.
    pub(crate) fn stored(&self) -> position::Layout {
        let mut text = String::from("1");
        for column in &self.columns {
            text.push_str(&format!("\n{}", line(column)));
        }
        for young in &self.young {
            let sign = if young.came { '-' } else { '+' };
            let (column, fill) = (line(&young.column), hexadecimal(&young.fill));
            let until = escaped(&young.until);
            text.push_str(&format!("\n{column}\t{sign}{fill}\t{until}"));
        }
        if let Some(until) = &self.passes {
            text.push_str(&format!("\n!{}", escaped(until)));
        }
        position::Layout::new(text)
    }

    /// The young column of this name that is still to come.
    pub(crate) fn awaited(&self, name: &str) -> Option<&Young> {
        let mut young = self.young.iter().filter(|young| !young.came);
        young.find(|young| same(&young.column.name, name))
    }

    pub(crate) fn at(&self, name: &str) -> Option<usize> {
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
        let mut out = Layout {
            young: self.young.clone(),
            passes: self.passes.clone(),
            ..Layout::default()
        };
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
            let column = out.coming(column);
            out.columns.insert(at, column);
        }
        for (at, column) in out.columns.iter().enumerate() {
            if out.at(&column.name) != Some(at) {
                return Err(format!("it has a column {} already", column.name));
            }
        }
        Ok(out)
    }

    /// A column that a statement names as new, which may be a young one.
    fn coming(&mut self, named: &Column) -> Column {
        let mut young = self.young.iter_mut().filter(|young| !young.came);
        match young.find(|young| same(&young.column.name, &named.name)) {
            Some(young) => {
                young.came = true;
                Column {
                    name: named.name.clone(),
                    ..young.column.clone()
                }
            }
            None => named.clone(),
        }
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

/// A column as it is stored.
fn line(column: &Column) -> String {
    let missing = match &column.missing {
        Missing::Unknown => String::new(),
        Missing::Virtual => "v".to_owned(),
        Missing::Default(raw) => format!("={}", hexadecimal(raw)),
    };
    let (name, native) = (escaped(&column.name), escaped(&column.native));
    format!("{name}\t{native}\t{missing}")
}

fn parse(text: &str) -> Option<Layout> {
    let mut lines = text.split('\n');
    if lines.next() != Some("1") {
        return None;
    }
    let mut layout = Layout::default();
    for line in lines {
        let parts: Vec<&str> = line.split('\t').collect();
        match *parts.as_slice() {
            [end] => layout.passes = Some(unescaped(end.strip_prefix('!')?)?),
            [name, native, missing] => layout.columns.push(column(name, native, missing)?),
            // Versions that follow no changes have none of these.
            [name, native, missing, fill, until] => {
                let (came, fill) = match fill.strip_prefix('-') {
                    Some(fill) => (true, fill),
                    None => (false, fill.strip_prefix('+')?),
                };
                layout.young.push(Young {
                    column: column(name, native, missing)?,
                    fill: cell(fill)?,
                    until: unescaped(until)?,
                    came,
                });
            }
            _ => return None,
        }
    }
    Some(layout)
}

fn column(name: &str, native: &str, missing: &str) -> Option<Column> {
    Some(Column {
        name: unescaped(name)?,
        native: unescaped(native)?,
        missing: match missing {
            "" => Missing::Unknown,
            "v" => Missing::Virtual,
            text => Missing::Default(cell(text.strip_prefix('=')?)?),
        },
    })
}

fn cell(text: &str) -> Option<Box<[u8]>> {
    let raw = octets(text)?;
    decode_raw(&raw)?;
    Some(raw.into())
}

fn hexadecimal(raw: &[u8]) -> String {
    raw.iter().map(|byte| format!("{byte:02x}")).collect()
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
