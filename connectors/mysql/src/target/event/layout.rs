//! How rows of a table lie in row events.

use thalweg_core::Result;
use thalweg_core::schema::ColumnType;
use thalweg_core::value::CellRef;

use super::Refused;
use super::image::{Image, Told};
use crate::target::session::Session;
use crate::target::table::Table;

/// Where the flags of a rows event are, from its beginning: behind its header and the table's id.
pub(super) const FLAGS_AT: usize = 19 + 6;
/// The id that a table has within a statement.
const TABLE_ID: [u8; 6] = [1, 0, 0, 0, 0, 0];
/// Bytes of the longest name that a table map takes.
const NAME_MAX: usize = 255;

/// A table's columns in the server's order.
#[derive(Debug)]
pub(in crate::target) struct Layout {
    /// The body of its table map.
    map: Vec<u8>,
    columns: Vec<Column>,
    /// Which of them are the primary key, in the server's order.
    key: Vec<usize>,
}

#[derive(Debug)]
struct Column {
    /// The place of its cell in a row.
    cell: usize,
    image: Image,
    nullable: bool,
}

/// Name, `DATA_TYPE`, `COLUMN_TYPE`, bytes and characters of the longest value, precision, scale, digits of a
/// fraction, character set, `IS_NULLABLE`, how it is generated.
type ColumnRow = (
    String,
    String,
    String,
    Option<u64>,
    Option<u64>,
    Option<u64>,
    Option<u64>,
    Option<u64>,
    Option<String>,
    String,
    String,
);

impl Layout {
    /// Asks the server; `None`: rows of this table have to go as statements. It has no triggers.
    pub(super) async fn of(session: &mut Session, table: &Table) -> Result<Option<Layout>> {
        let target = &table.target;
        let name = || (target.name.schema.as_str(), target.name.name.as_str());
        let plain: Vec<u8> = session
            .ask(
                "SELECT 1 FROM information_schema.tables WHERE table_schema = ? AND table_name = ? \
                 AND table_type = 'BASE TABLE' AND engine = 'InnoDB' \
                 AND create_options NOT LIKE '%partitioned%' AND NOT EXISTS \
                 (SELECT 1 FROM information_schema.check_constraints \
                 WHERE constraint_schema = table_schema AND \
                 information_schema.check_constraints.table_name = tables.table_name)",
                name(),
            )
            .await?;
        let primary: Vec<String> = session
            .ask(
                "SELECT column_name FROM information_schema.statistics WHERE table_schema = ? \
                 AND table_name = ? AND index_name = 'PRIMARY' AND sub_part IS NULL",
                name(),
            )
            .await?;
        let found: Vec<ColumnRow> = session
            .ask(
                "SELECT column_name, data_type, column_type, \
                 CAST(character_octet_length AS UNSIGNED), \
                 CAST(character_maximum_length AS UNSIGNED), \
                 CAST(numeric_precision AS UNSIGNED), CAST(numeric_scale AS UNSIGNED), \
                 CAST(datetime_precision AS UNSIGNED), character_set_name, is_nullable, \
                 COALESCE(generation_expression, '') FROM information_schema.columns \
                 WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position",
                name(),
            )
            .await?;
        let named = |&cell: &usize| {
            let column = target.columns.get(cell);
            column.is_some_and(|column| primary.contains(&column.name))
        };
        let keyed = target.key_is_primary
            && primary.len() == target.key.len()
            && target.key.iter().all(named);
        Ok((plain == [1] && keyed)
            .then(|| Layout::new(table, found))
            .flatten())
    }

    /// From what the server says of all the table's columns. `None`: one of them is not mapped, or of
    /// a type whose values go as literals.
    fn new(table: &Table, found: Vec<ColumnRow>) -> Option<Layout> {
        let target = &table.target;
        let (schema, name) = (target.name.schema.as_str(), target.name.name.as_str());
        if schema.len() > NAME_MAX || name.len() > NAME_MAX {
            return None;
        }
        let column = |row: ColumnRow| {
            let cell = target.columns.iter().position(|c| c.name == row.0)?;
            Column::of(cell, table, row)
        };
        let columns: Vec<Column> = found.into_iter().map(column).collect::<Option<_>>()?;
        let is_key = |column: &Column| target.key.contains(&column.cell);
        let key: Vec<usize> = (0..columns.len())
            .filter(|&index| columns.get(index).is_some_and(is_key))
            .collect();
        let whole = key.len() == target.key.len() && columns.len() == target.columns.len();
        whole.then(|| Layout {
            map: map(schema, name, &columns),
            columns,
            key,
        })
    }

    /// Of a table that a server makes by the types its columns are said to have, of those that the
    /// instruction counts use.
    pub(in crate::target) fn proposed(table: &Table) -> Option<Layout> {
        let found = table.target.columns.iter().map(|column| {
            let native = column.native.as_str();
            let data = native.split(['(', ' ']).next().unwrap_or_default();
            let mut numbers = native
                .split(|c: char| !c.is_ascii_digit())
                .filter_map(|number| number.parse::<u64>().ok());
            let (first, second) = (numbers.next(), numbers.next());
            (
                column.name.clone(),
                data.to_owned(),
                native.to_owned(),
                first.map(|chars| chars * 4),
                Some(first.unwrap_or(u64::from(u32::MAX))),
                first,
                second.or_else(|| (data == "decimal").then_some(0)),
                Some(first.unwrap_or(0)).filter(|digits| *digits <= 6),
                matches!(column.ty, ColumnType::Text { .. }).then(|| "utf8mb4".to_owned()),
                if column.nullable { "YES" } else { "NO" }.to_owned(),
                String::new(),
            )
        });
        Layout::new(table, found.collect())
    }

    pub(in crate::target) fn width(&self) -> usize {
        self.columns.len()
    }

    /// Appends the body of the table map.
    pub(super) fn put_map(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.map);
    }

    /// Appends what stands before the rows of an event: of an update, which columns the old and the new
    /// images have; of a delete, those of the old; of an insert, those of the new. An old image has
    /// the key, a new one everything.
    pub(super) fn put_rows_header(&self, update: bool, delete: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(&TABLE_ID);
        out.extend_from_slice(&[0, 0]);
        put_length(self.columns.len(), out);
        if update || delete {
            bits(self.columns.len(), |index| self.key.contains(&index), out);
        }
        if !delete {
            bits(self.columns.len(), |_| true, out);
        }
    }

    /// Appends the image of a key.
    pub(super) fn put_key(&self, cells: &[CellRef<'_>], out: &mut Vec<u8>) -> Result<(), Refused> {
        // No part of a primary key is NULL.
        out.resize(out.len() + self.key.len().div_ceil(8), 0);
        for &index in &self.key {
            let column = self.columns.get(index).ok_or(Refused)?;
            let cell = cells.get(column.cell).ok_or(Refused)?;
            column.image.put(*cell, out)?;
        }
        Ok(())
    }

    /// Appends the image of a row.
    pub(super) fn put_row(&self, cells: &[CellRef<'_>], out: &mut Vec<u8>) -> Result<(), Refused> {
        let nulls = out.len();
        out.resize(nulls + self.columns.len().div_ceil(8), 0);
        for (index, column) in self.columns.iter().enumerate() {
            let cell = cells.get(column.cell).ok_or(Refused)?;
            if *cell != CellRef::Null {
                column.image.put(*cell, out)?;
            } else if column.nullable {
                if let Some(byte) = out.get_mut(nulls + index / 8) {
                    *byte |= 1 << (index % 8);
                }
            } else {
                return Err(Refused);
            }
        }
        Ok(())
    }
}

impl Column {
    fn of(cell: usize, table: &Table, row: ColumnRow) -> Option<Column> {
        let (_, data, ty, octets, chars, precision, scale, fraction, charset, nullable, made) = row;
        // COMPRESSED columns, and times as MariaDB 5.3 had them, say so in a comment.
        if !made.is_empty()
            || ty.contains("/*") && !ty.starts_with("enum") && !ty.starts_with("set")
        {
            return None;
        }
        let image = Image::of(&Told {
            data: &data,
            unsigned: ty.contains("unsigned"),
            octets,
            chars,
            precision,
            scale,
            fraction: fraction.and_then(|digits| u8::try_from(digits).ok()),
            charset: charset.as_deref(),
            literal: table.literal(cell)?,
        })?;
        Some(Column {
            cell,
            image,
            nullable: nullable == "YES",
        })
    }
}

/// The body of a table map.
fn map(schema: &str, name: &str, columns: &[Column]) -> Vec<u8> {
    let mut out = TABLE_ID.to_vec();
    // Flags: the exact lengths of texts.
    out.extend_from_slice(&[1, 0]);
    for name in [schema, name] {
        out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(name.as_bytes());
        out.push(0);
    }
    put_length(columns.len(), &mut out);
    out.extend(columns.iter().map(|column| column.image.code()));
    let mut meta = Vec::new();
    for column in columns {
        column.image.put_meta(&mut meta);
    }
    put_length(meta.len(), &mut out);
    out.extend_from_slice(&meta);
    let nullable = |index: usize| columns.get(index).is_some_and(|column| column.nullable);
    bits(columns.len(), nullable, &mut out);
    out
}

/// One bit for each of `count`, the first in the lowest.
fn bits(count: usize, set: impl Fn(usize) -> bool, out: &mut Vec<u8>) {
    for byte in 0..count.div_ceil(8) {
        let bits = (0..8).filter(|bit| byte * 8 + bit < count && set(byte * 8 + bit));
        out.push(bits.fold(0, |byte, bit| byte | 1 << bit));
    }
}

/// A number as the protocol writes lengths.
fn put_length(length: usize, out: &mut Vec<u8>) {
    let bytes = length.to_le_bytes();
    match length {
        0..=250 => out.extend(bytes.first()),
        251..=0xFFFF => {
            out.push(252);
            out.extend(bytes.iter().take(2));
        }
        _ => {
            out.push(253);
            out.extend(bytes.iter().take(3));
        }
    }
}

/// Appends the header of an event, with no length yet.
pub(super) fn put_header(ty: u8, now: u32, server: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&now.to_le_bytes());
    out.push(ty);
    out.extend_from_slice(&server.to_le_bytes());
    // Length, place in the log, flags.
    out.extend_from_slice(&[0; 10]);
}

/// The event that says how the others look: format 4, headers of 19 bytes, no checksums. It is created at
/// no time, so that it ends no transaction.
pub(super) fn format_description(server: u32) -> Vec<u8> {
    const TYPES: usize = 171;
    let mut out = Vec::new();
    put_header(15, 0, server, &mut out);
    out.extend_from_slice(&[4, 0]);
    let mut version = [0; 50];
    for (place, byte) in version.iter_mut().zip(b"10.11.0-MariaDB") {
        *place = *byte;
    }
    out.extend_from_slice(&version);
    out.extend_from_slice(&[0; 4]);
    out.push(19);
    // How long the fixed part of each type is, from 1 on; those that are used here, and the others as
    // the server has them.
    let first = [
        56, 13, 0, 8, 0, 18, 0, 4, 4, 4, 4, 18, 0, 0, 228, 0, 4, 26, 8, 0, 0, 0, 8, 8, 8, 2, 0, 0,
        0, 10, 10, 10, 0, 0, 0, 0, 0, 0, 10, 10, 10,
    ];
    let last = [4, 19, 4, 0, 13, 8, 8, 8, 10, 10, 10];
    out.extend_from_slice(&first);
    out.resize(out.len() + TYPES - first.len() - last.len(), 0);
    out.extend_from_slice(&last);
    // The checksums' algorithm, none, and the place of one.
    out.extend_from_slice(&[0; 5]);
    let len = u32::try_from(out.len()).unwrap_or(0).to_le_bytes();
    if let Some(place) = out.get_mut(9..13) {
        place.copy_from_slice(&len);
    }
    out
}
