//! The row path: one statement per change, in commit order. Slower, and always right: what the source
//! did one after the other meets no constraint that the source did not meet.

use bytes::BytesMut;
use postgres_types::{Format, IsNull, ToSql, Type, to_sql_checked};
use rustc_hash::FxHashMap;
use thalweg_core::batch::{RowOp, TableCounts};
use thalweg_core::mapping::Operations;
use thalweg_core::plan::{Plan, TargetTable};
use thalweg_core::schema::ColumnType;
use thalweg_core::value::{RowBatch, RowRef};
use thalweg_core::{Error, Result};
use tokio_postgres::{Client, Statement};

use super::column_list;
use super::encode::RowEncoder;
use super::stage::Stage;
use crate::error::convert;
use crate::schema::{quote, quote_table};

/// Statements kept of a table, one per set of columns that an update has: with many columns that are
/// stored apart, there can be more sets than the server has memory for.
const UPDATES_MAX: usize = 64;

/// A parameter; without bytes, NULL.
#[derive(Debug)]
struct Raw<'a> {
    bytes: Option<&'a [u8]>,
    /// Whether the bytes are the type's text form, otherwise its binary one.
    form: bool,
}

impl ToSql for Raw<'_> {
    fn to_sql(
        &self,
        _ty: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let Some(bytes) = self.bytes else {
            return Ok(IsNull::Yes);
        };
        out.extend_from_slice(bytes);
        Ok(IsNull::No)
    }

    fn accepts(_ty: &Type) -> bool {
        true
    }

    fn encode_format(&self, _ty: &Type) -> Format {
        if self.form {
            Format::Text
        } else {
            Format::Binary
        }
    }

    to_sql_checked!();
}

/// What the row path needs of one table.
pub(super) struct Rows {
    encoder: RowEncoder,
    types: Stage,
    /// Columns that identify a row: the key, or all of them.
    identity: Vec<usize>,
    /// [`Plan::is_echoed`].
    echoed: bool,
    /// Whether that is a key.
    keyed: bool,
    insert: Statement,
    /// The same over the row that has the key.
    overwrite: Statement,
    delete: Statement,
    /// Prepared when it is needed.
    make_way: Option<Statement>,
    /// One UPDATE per set of columns that are present.
    updates: FxHashMap<Vec<usize>, Statement>,
}

impl Rows {
    pub(super) async fn new(client: &Client, plan: &Plan, target: usize) -> Result<Self> {
        let table = plan.targets.get(target);
        let table = table.ok_or_else(|| Error::bug("no such target"))?;
        let identity: Vec<usize> = match table.key.as_slice() {
            [] => (0..table.columns.len()).collect(),
            key => key.to_vec(),
        };
        let columns = column_list(table.columns.iter(), "");
        let values: Vec<_> = (1..=table.columns.len()).map(|n| format!("${n}")).collect();
        let name = quote_table(&table.name);
        let insert = format!(
            "INSERT INTO {name} ({columns}) OVERRIDING SYSTEM VALUE VALUES ({})",
            values.join(", ")
        );
        // A key that is met is overwritten and counted.
        let (insert, overwrite) = if table.key.is_empty() {
            (insert.clone(), insert)
        } else {
            let set = table
                .columns
                .iter()
                .map(|c| format!("{0} = excluded.{0}", quote(&c.name)));
            let set = set.collect::<Vec<_>>().join(", ");
            let met = format!("ON CONFLICT ({})", super::ddl::names(table, &table.key));
            (
                format!("{insert} {met} DO NOTHING"),
                format!("{insert} {met} DO UPDATE SET {set}"),
            )
        };
        let types = Stage::of(client, table).await?;
        let found = find(table, &types, &identity, 1);
        let (with, found) = found;
        let delete = format!("{with}DELETE FROM {name} WHERE {found}");
        Ok(Rows {
            encoder: RowEncoder::new(table),
            types,
            insert: client.prepare(&insert).await.map_err(convert)?,
            overwrite: client.prepare(&overwrite).await.map_err(convert)?,
            delete: client.prepare(&delete).await.map_err(convert)?,
            make_way: None,
            identity,
            echoed: plan.is_echoed(target),
            keyed: !table.key.is_empty(),
            updates: FxHashMap::default(),
        })
    }

    /// Applies one change.
    pub(super) async fn apply(
        &mut self,
        client: &Client,
        table: &TargetTable,
        rows: &RowBatch,
        op: RowOp,
        operations: Operations,
        counts: &mut TableCounts,
    ) -> Result<()> {
        match op {
            RowOp::Insert(row) => {
                let met = self.insert(client, rows.row(row)).await?;
                counts.repaired += u64::from(met);
            }
            RowOp::Delete(row) => {
                let row = rows.row(row);
                let found = self.delete(client, row).await?;
                counts.missing += u64::from(found == 0 && !self.echoed);
            }
            RowOp::Update { before, after } => {
                let row = rows.row(after);
                let present: Vec<usize> = row
                    .cells()
                    .enumerate()
                    .filter(|(_, cell)| cell.is_present())
                    .map(|(index, _)| index)
                    .collect();
                if present.is_empty() {
                    return Ok(());
                }
                if !operations.delete && table.moves(rows.row(before), row) {
                    self.make_way(client, table, rows.row(before), row).await?;
                }
                let mut bytes = Vec::new();
                self.encoder
                    .fields(row, present.iter().copied(), &mut bytes)?;
                let values = bytes.len();
                let old = self.identity.iter().copied();
                self.encoder.fields(rows.row(before), old, &mut bytes)?;
                let statement = self.update(client, table, &present).await?;
                let written = present.iter().chain(&self.identity);
                let params = self.params(written.copied(), &bytes);
                let mut found = client
                    .execute_raw(&statement, &params)
                    .await
                    .map_err(convert)?;
                if found == 0 && self.echoed {
                    // A foreign key of the target may have moved it already.
                    bytes.truncate(values);
                    for &column in &self.identity {
                        let sent = present.contains(&column);
                        let row = if sent { row } else { rows.row(before) };
                        let column = std::iter::once(column);
                        self.encoder.fields(row, column, &mut bytes)?;
                    }
                    let written = present.iter().chain(&self.identity);
                    let params = self.params(written.copied(), &bytes);
                    let moved = client.execute_raw(&statement, &params);
                    found = moved.await.map_err(convert)?;
                }
                let old = rows.row(before);
                if found == 0 && operations.insert && row.is_whole_over(old) {
                    let whole = RowBatch::laid_over(row, old);
                    self.insert(client, whole.row(0)).await?;
                    counts.repaired += 1;
                } else {
                    counts.missing += u64::from(found == 0);
                }
            }
            RowOp::Truncate => {
                // DELETE, not TRUNCATE: it takes no exclusive lock from readers.
                let delete = format!("DELETE FROM {}", quote_table(&table.name));
                client.batch_execute(&delete).await.map_err(convert)?;
            }
        }
        Ok(())
    }

    /// Removes the row that `row` identifies; how many there were.
    async fn delete(&self, client: &Client, row: RowRef<'_>) -> Result<u64> {
        let mut bytes = Vec::new();
        let identity = self.identity.iter().copied();
        self.encoder.fields(row, identity.clone(), &mut bytes)?;
        let params = self.params(identity, &bytes);
        let deleted = client.execute_raw(&self.delete, &params).await;
        deleted.map_err(convert)
    }

    /// Removes a row that was kept under the key to which the row of `old` moves, if that is there
    /// to move. A key that the target takes for equal is its own row's.
    async fn make_way(
        &mut self,
        client: &Client,
        table: &TargetTable,
        old: RowRef<'_>,
        new: RowRef<'_>,
    ) -> Result<()> {
        let statement = match &self.make_way {
            Some(statement) => statement.clone(),
            None => {
                let name = quote_table(&table.name);
                // A table with a key needs nothing before the statement.
                let at = |first| find(table, &self.types, &self.identity, first).1;
                let (there, here) = (at(1), at(1 + self.identity.len()));
                let sql = format!(
                    "DELETE FROM {name} WHERE {there} AND NOT ({here}) \
                     AND EXISTS (SELECT FROM {name} WHERE {here})"
                );
                let statement = client.prepare(&sql).await.map_err(convert)?;
                self.make_way.insert(statement).clone()
            }
        };
        let mut bytes = Vec::new();
        for &column in &self.identity {
            let sent = new.cell(column).is_some_and(|cell| cell.is_present());
            let from = if sent { new } else { old };
            let column = std::iter::once(column);
            self.encoder.fields(from, column, &mut bytes)?;
        }
        let identity = || self.identity.iter().copied();
        self.encoder.fields(old, identity(), &mut bytes)?;
        let params = self.params(identity().chain(identity()), &bytes);
        let made = client.execute_raw(&statement, &params).await;
        made.map(drop).map_err(convert)
    }

    /// Inserts a row; whether its key was there already.
    async fn insert(&self, client: &Client, row: RowRef<'_>) -> Result<bool> {
        if !row.is_whole() {
            return Err(Error::bug("a row to insert is not whole"));
        }
        let mut bytes = Vec::new();
        self.encoder.row(row, &mut bytes)?;
        let params = self.params(0..self.encoder.width(), &bytes);
        let new = client.execute_raw(&self.insert, &params).await;
        let met = new.map_err(convert)? == 0 && self.keyed;
        if met {
            let over = client.execute_raw(&self.overwrite, &params).await;
            over.map_err(convert)?;
        }
        Ok(met)
    }

    async fn update(
        &mut self,
        client: &Client,
        table: &TargetTable,
        present: &[usize],
    ) -> Result<Statement> {
        if let Some(statement) = self.updates.get(present) {
            return Ok(statement.clone());
        }
        let set: Vec<_> = present
            .iter()
            .filter_map(|index| table.columns.get(*index))
            .enumerate()
            .map(|(n, column)| format!("{} = ${}", quote(&column.name), n + 1))
            .collect();
        let (with, found) = find(table, &self.types, &self.identity, present.len() + 1);
        let sql = format!(
            "{with}UPDATE {} SET {} WHERE {found}",
            quote_table(&table.name),
            set.join(", "),
        );
        let statement = client.prepare(&sql).await.map_err(convert)?;
        if self.updates.len() >= UPDATES_MAX {
            self.updates.clear();
        }
        self.updates.insert(present.to_vec(), statement.clone());
        Ok(statement)
    }

    /// Length-prefixed fields of these columns as parameters.
    fn params<'a>(
        &self,
        columns: impl Iterator<Item = usize>,
        mut bytes: &'a [u8],
    ) -> Vec<Raw<'a>> {
        let mut params = Vec::new();
        for column in columns {
            let (len, rest) = bytes
                .split_first_chunk::<4>()
                .expect("RowEncoder wrote a field for each column");
            let field = match usize::try_from(i32::from_be_bytes(*len)) {
                Err(_) => {
                    bytes = rest;
                    None
                }
                Ok(len) => {
                    let (field, rest) = rest
                        .split_at_checked(len)
                        .expect("RowEncoder wrote the length");
                    bytes = rest;
                    Some(field)
                }
            };
            params.push(Raw {
                bytes: field,
                form: self.encoder.is_form(column),
            });
        }
        params
    }
}

/// What stands before a statement that finds a row, and the condition that finds it; parameters from
/// `first` on. Without a key, one of the rows that are equal in every column: its place is one in each
/// partition.
fn find(table: &TargetTable, types: &Stage, identity: &[usize], first: usize) -> (String, String) {
    let names = identity
        .iter()
        .filter_map(|index| Some((*index, table.columns.get(*index)?)))
        .enumerate();
    let keyless = table.key.is_empty();
    let each: Vec<_> = names
        .map(|(n, (index, column))| {
            let (name, parameter) = (quote(&column.name), first + n);
            if !keyless {
                format!("{name} = ${parameter}")
            } else if has_identity(&column.ty) {
                format!("{name} IS NOT DISTINCT FROM ${parameter}")
            } else {
                let text = types.text_of(index, parameter);
                format!("{name}::text COLLATE \"C\" IS NOT DISTINCT FROM {text} COLLATE \"C\"")
            }
        })
        .collect();
    let condition = each.join(" AND ");
    if !keyless {
        return (String::new(), condition);
    }
    let one = format!(
        "WITH one AS (SELECT tableoid AS part, ctid AS place FROM {} WHERE {condition} LIMIT 1) ",
        quote_table(&table.name)
    );
    let there = "ctid = (SELECT place FROM one) AND tableoid = (SELECT part FROM one)";
    (one, there.to_owned())
}

/// Whether values that the type's `=` finds equal are the same. Other types have no `=` (`json`,
/// `xml`, `point`), or one that looks at less than the whole value (text that folds case, `1.0` and
/// `1.00`, 0 and -0, a month and 30 days), and are compared by their text.
fn has_identity(ty: &ColumnType) -> bool {
    match ty {
        ColumnType::Bool
        | ColumnType::Int { .. }
        | ColumnType::Bytes { .. }
        | ColumnType::Date { .. }
        | ColumnType::Time { .. }
        | ColumnType::Timestamp { .. }
        | ColumnType::Instant { .. }
        | ColumnType::Uuid
        | ColumnType::Bits { .. }
        | ColumnType::Enum { .. } => true,
        ColumnType::Decimal { .. }
        | ColumnType::Float32 { .. }
        | ColumnType::Float64 { .. }
        | ColumnType::Text { .. }
        | ColumnType::Interval
        | ColumnType::Json { .. }
        | ColumnType::Set { .. }
        | ColumnType::Geometry
        | ColumnType::Other { .. } => false,
    }
}
