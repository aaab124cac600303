//! Tables as the stream describes them, compared with what its user was told.

use std::collections::{HashMap, VecDeque};

use thalweg_core::schema::{TableName, TableSchema};
use thalweg_core::value::{CellRef, RowBatch};
use thalweg_core::{Error, Result, Side};

use crate::bridge;
use crate::layout::{self, Layout};
use crate::schema::Attribute;
use crate::wire::Malformed;
use crate::wire::cells::{Codec, Form, Reader};
use crate::wire::pgoutput::{Old, Relation, Sent, Tuple};
use crate::wire::replication::Lsn;

/// A table as its user knows it, with the types its columns have in the catalogue.
pub(crate) struct Known {
    pub(super) schema: TableSchema,
    /// What the server calls it, whatever its name.
    pub(super) oid: u32,
    /// One for each column of the schema.
    pub(super) columns: Vec<KnownColumn>,
    /// Which columns the log does not have yet where it is read.
    pub(super) layout: Layout,
    /// The numbers of all its columns when it was asked about.
    pub(super) numbers: Vec<(String, i16)>,
    /// Transactions of which the log had a `TRUNCATE` of it, the last ones.
    pub(super) truncates: VecDeque<u32>,
    /// Other files than those, and the end that the log had when they were seen.
    pub(super) refiled: Option<(String, Lsn)>,
}

/// How a column's values come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownColumn {
    ty: u32,
    typmod: i32,
    pub(crate) codec: Codec,
}

/// For each column of `schema` what the catalogue says; a `Schema` error if it says something else.
pub(crate) fn match_columns(
    schema: &TableSchema,
    attributes: &[Attribute],
) -> Result<Vec<KnownColumn>> {
    schema
        .columns
        .iter()
        .map(|column| {
            let found = attributes.iter().find(|a| a.column.name == column.name);
            match found {
                Some(a) if a.column.native == column.native => Ok(KnownColumn {
                    ty: a.ty,
                    typmod: a.typmod,
                    codec: a.codec,
                }),
                Some(a) => Err(changed(
                    &schema.name,
                    &format!(
                        "column {} has type {}, not {}",
                        column.name, a.column.native, column.native
                    ),
                )),
                None => Err(changed(
                    &schema.name,
                    &format!("column {} is gone", column.name),
                )),
            }
        })
        .collect()
}

/// The table is not as it was when the task was planned.
fn changed(table: &TableName, how: &str) -> Error {
    Error::schema(format!("table {table} has changed: {how}"))
        .with_hint(
            "make the same change in the target (or take it back), then reset the task, so that it \
             loads the table as it is now",
        )
        .at(Side::Source)
        .about(table)
}

/// What is to be said of a row that is [`IDENTITY`].
pub(super) fn other_identity(table: &str) -> Error {
    Error::schema(format!(
        "an old row of {table} cannot be told: a partition has another replica identity than the table"
    ))
    .with_hint(
        "ALTER TABLE … REPLICA IDENTITY of each partition (new ones have the default) so that it is \
         the table's; then reset the task, so that it loads again",
    )
    .at(Side::Source)
}

impl Known {
    pub(crate) fn new(schema: &TableSchema, oid: u32, attributes: &[Attribute]) -> Result<Known> {
        let columns = match_columns(schema, attributes)?;
        let mut came = attributes.iter().map(|a| &a.column);
        let came = came.find(|c| !c.generated && schema.column(&c.name).is_none());
        if let Some(column) = came.filter(|_| schema.whole) {
            return Err(changed(&schema.name, &came_now(&column.name)));
        }
        let layout = match &schema.layout {
            None => Layout::default(),
            Some(stored) => Layout::parse(stored).ok_or_else(|| {
                Error::schema(format!(
                    "this version does not understand what is stored of the columns of {}",
                    schema.name
                ))
                .with_hint("reset the task, so that it loads again")
                .at(Side::Source)
            })?,
        };
        let known = Known {
            columns,
            oid,
            layout,
            numbers: layout::numbers(attributes),
            schema: schema.clone(),
            truncates: VecDeque::new(),
            refiled: None,
        };
        known.same_columns(&known.layout, &known.numbers)?;
        Ok(known)
    }

    /// A `Schema` error if a column that is read is another one by now than that of a layout.
    pub(super) fn same_columns(&self, layout: &Layout, now: &[(String, i16)]) -> Result<()> {
        let read = self.schema.columns.iter().map(|c| c.name.as_str());
        match layout.made_anew(read, now) {
            None => Ok(()),
            Some(column) => {
                let how = format!("column {column} was made anew");
                Err(changed(&self.schema.name, &how))
            }
        }
    }
}

/// A `Schema` error if a table is not the one that was read up to the place of its layout.
pub(crate) fn same_table(schema: &TableSchema, oid: u32) -> Result<()> {
    let stored = schema.layout.as_ref().and_then(Layout::parse);
    match stored.is_none_or(|layout| layout.is_of(oid)) {
        true => Ok(()),
        false => Err(changed(&schema.name, MADE_ANEW)),
    }
}

/// Its rows may have become what the log does not say.
pub(super) fn not_said(name: &TableName, how: &str) -> Error {
    changed(name, how).of_unsaid()
}

/// The table of a name is another one now, or there is none.
pub(super) fn other_table(name: &TableName) -> Error {
    changed(name, "it was dropped or renamed")
}

const MADE_ANEW: &str = "it was dropped or renamed, and made anew";

/// How a table has changed that has a column more.
fn came_now(column: &str) -> String {
    format!("column {column} came")
}

/// A table of ours in the stream, in its present form.
pub(super) struct Captured {
    /// Index into the stream's tables.
    pub(super) table: usize,
    /// Whether it is logged with whole old rows.
    full: bool,
    /// For each column as it is sent, if it is one of ours.
    columns: Vec<Option<Column>>,
    /// What those of our columns are that are not sent yet. They come last.
    pub(super) fills: Vec<Vec<u8>>,
}

/// A row that its table's replica identity does not explain.
pub(super) const IDENTITY: Malformed =
    Malformed("a partition of it has another replica identity than the table");

#[derive(Clone, Copy)]
struct Column {
    codec: Codec,
    /// Whether it belongs to the replica identity.
    key: bool,
    /// Whether it takes no NULL.
    required: bool,
}

/// Which columns of a row mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// All, of a row as it is now.
    New,
    /// All, of a row as it was.
    Old,
    /// Those of the replica identity.
    Key,
}

/// Compares a table with what is known of it; `None`: it is not one of ours. `news`: the place that is
/// read lies behind the one at which the tables were asked about, so that a column that is not known
/// is a new one. Otherwise it is gone by now.
pub(super) fn compare(
    relation: &Relation<'_>,
    known: &[Known],
    names: &HashMap<TableName, usize>,
    news: bool,
) -> Result<Option<Captured>> {
    let schema = match relation.schema {
        "" => "pg_catalog",
        schema => schema,
    };
    let name = TableName::new(schema, relation.name);
    let renamed = |known: &&Known| known.oid == relation.id && known.schema.name != name;
    if let Some(known) = known.iter().find(renamed) {
        return Err(changed(&known.schema.name, &format!("it is {name} now")));
    }
    let Some((table, known)) = names.get(&name).and_then(|at| Some((*at, known.get(*at)?))) else {
        return Ok(None);
    };
    if known.oid != relation.id {
        return Err(changed(&name, MADE_ANEW));
    }
    // Of an identity that is no primary key not all columns need be ours.
    let told = relation.identity == b'd' && known.schema.old_image.is_some();
    let key = |name: &str| {
        let at = known.schema.column_index(name);
        let image = known.schema.old_image.as_ref();
        at.is_some_and(|at| image.is_none_or(|image| image.contains(&at)))
    };
    let mut others = relation.columns.iter().filter(|c| c.key && !key(c.name));
    if let Some(column) = others.next().filter(|_| told) {
        let how = format!("column {} belongs to its replica identity now", column.name);
        return Err(changed(&name, &how));
    }
    let mut columns = Vec::with_capacity(relation.columns.len());
    let mut wanted = known.schema.columns.iter().zip(&known.columns).enumerate();
    let mut next = wanted.next();
    for column in &relation.columns {
        columns.push(match next {
            Some((index, (ours, how))) if ours.name == column.name => {
                let codec = match (how.ty, how.typmod) == (column.ty, column.typmod) {
                    true => Some(how.codec),
                    // Of before it was made wider, perhaps more than once.
                    false => {
                        let ty = (column.ty, column.typmod);
                        let before = known.layout.column(column.name).map(|before| before.ty);
                        before
                            .filter(|before| {
                                *before == ty || bridge::widened(*before, ty).is_some()
                            })
                            .and_then(|_| bridge::widened(ty, (how.ty, how.typmod)))
                    }
                };
                let Some(codec) = codec else {
                    return Err(changed(
                        &name,
                        &format!("column {} has another type than {}", ours.name, ours.native),
                    ));
                };
                let identifies = match &known.schema.old_image {
                    None => true,
                    Some(image) => image.contains(&index),
                };
                if identifies && !column.key && relation.identity != b'f' {
                    return Err(changed(
                        &name,
                        &format!(
                            "column {} does not belong to its replica identity any more",
                            ours.name
                        ),
                    ));
                }
                next = wanted.next();
                Some(Column {
                    codec,
                    key: column.key,
                    required: !ours.nullable,
                })
            }
            // Columns keep their order: the one that should come first was dropped.
            Some(_) if known.schema.column(column.name).is_some() => break,
            _ if known.schema.whole && news && known.schema.column(column.name).is_none() => {
                return Err(changed(&name, &came_now(column.name)));
            }
            _ => None,
        });
    }
    let mut fills = Vec::new();
    while let Some((_, (ours, _))) = next {
        let again = relation.columns.iter().any(|c| c.name == ours.name);
        match known.layout.fill(&ours.name) {
            Some(fill) if !again => fills.push(fill.to_vec()),
            _ => {
                let how = if again { "was made anew" } else { "is gone" };
                return Err(changed(&name, &format!("column {} {how}", ours.name)));
            }
        }
        next = wanted.next();
    }
    Ok(Some(Captured {
        table,
        full: relation.identity == b'f',
        columns,
        fills,
    }))
}

impl Captured {
    /// Whether an old row is of the kind that the table has. A partition made later has the default
    /// identity whatever its root's is, and its old rows would be read as the root's.
    pub(super) fn explains(&self, old: Option<&Old<'_>>) -> std::result::Result<(), Malformed> {
        match old {
            None | Some(Old::Key(_)) if self.full => Err(IDENTITY),
            _ => Ok(()),
        }
    }

    /// Appends a row and gives its index. Values that were not sent because they did not change are
    /// taken from the row `fill`, if there is one.
    pub(super) fn image(
        &self,
        tuple: Tuple<'_>,
        which: Which,
        fill: Option<usize>,
        reader: &mut Reader,
        rows: &mut RowBatch,
    ) -> std::result::Result<usize, Malformed> {
        if tuple.width != self.columns.len() {
            return Err(Malformed("a row has another width than its table"));
        }
        let mut place = 0;
        for (value, column) in tuple.values().zip(&self.columns) {
            let Some(column) = column else { continue };
            match value {
                _ if which == Which::Key && !column.key => rows.push(CellRef::Absent),
                // No column of a replica identity can be NULL. What another identity leaves out is NULL.
                Sent::Null if which == Which::Key || which == Which::Old && column.required => {
                    return Err(IDENTITY);
                }
                Sent::Null => rows.push(CellRef::Null),
                Sent::Text(bytes) => reader.push(column.codec, Form::Text, bytes, rows)?,
                Sent::Binary(bytes) => reader.push(column.codec, Form::Binary, bytes, rows)?,
                Sent::Unchanged if which == Which::Key => {
                    return Err(Malformed("a key that was not sent"));
                }
                Sent::Unchanged => {
                    let old = fill.and_then(|row| rows.row(row).raw_cells().nth(place));
                    match old.map(<[u8]>::to_vec) {
                        Some(old) => rows.push_raw(&old),
                        None => rows.push(CellRef::Unchanged),
                    }
                }
            }
            place += 1;
        }
        for fill in &self.fills {
            match which {
                Which::Key => rows.push(CellRef::Absent),
                Which::New | Which::Old => rows.push_raw(fill),
            }
        }
        Ok(rows.end_row())
    }
}
