//! What is kept with the position of a table.
//!
//! The log describes every table before its first row, as it was there. So that a table can be read with
//! a definition of later, it has to be known which columns it had, which of ours the log does not have
//! yet, and what those are in the rows until then; and whether the table was rewritten since, because
//! then its rows may have become what the log does not say.

use thalweg_core::Result;
use thalweg_core::position;
use thalweg_core::schema::TableSchema;
use thalweg_core::value::decode_raw;
use tokio_postgres::Client;

use crate::schema::{self, Attribute};
use crate::{slot, source};

/// A column as the log has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// The number of its type and its modifier, as the log tells them.
    pub(crate) ty: (u32, i32),
}

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The table's files ([`crate::source::files`]).
    pub(crate) files: String,
    /// The largest number of a column when the table was asked about (`attnum`). One that comes later has
    /// a larger one; another name is no other number.
    pub(crate) last: i16,
    /// The columns that the log has, in their order.
    pub(crate) columns: Vec<Column>,
    /// Columns that the log does not have yet, each with the encoded cell it has in rows until then.
    pub(crate) young: Vec<(String, Vec<u8>)>,
}

impl Layout {
    /// As it is stored: a line of its version, one of the files, and one for each column with its type, or of
    /// a young one with its cell.
    pub(crate) fn stored(&self) -> position::Layout {
        let mut text = format!("1\n{}\t{}", escaped(&self.files), self.last);
        for Column { name, ty } in &self.columns {
            text.push_str(&format!("\n{}\t{} {}", escaped(name), ty.0, ty.1));
        }
        for (name, fill) in &self.young {
            text.push_str(&format!("\n{}\t=", escaped(name)));
            fill.iter()
                .for_each(|byte| text.push_str(&format!("{byte:02x}")));
        }
        position::Layout::new(text)
    }

    /// What was stored; `None`: not by this version.
    pub(crate) fn parse(stored: &position::Layout) -> Option<Self> {
        let mut lines = stored.as_str().split('\n');
        if lines.next() != Some("1") {
            return None;
        }
        let (files, last) = lines.next()?.split_once('\t')?;
        let mut layout = Layout {
            files: unescaped(files)?,
            last: last.parse().ok()?,
            ..Layout::default()
        };
        for line in lines {
            let (name, rest) = line.split_once('\t')?;
            let name = unescaped(name)?;
            if let Some(fill) = rest.strip_prefix('=') {
                let fill = octets(fill)?;
                decode_raw(&fill)?;
                layout.young.push((name, fill));
            } else {
                let (ty, modifier) = rest.split_once(' ')?;
                let ty = (ty.parse().ok()?, modifier.parse().ok()?);
                layout.columns.push(Column { name, ty });
            }
        }
        Some(layout)
    }

    /// Whether it is of the table of this number: another one may have got its name.
    pub(crate) fn is_of(&self, table: u32) -> bool {
        let mut files = self
            .files
            .split(' ')
            .filter_map(|file| file.split_once(':'));
        files.any(|(of, _)| of.parse() == Ok(table))
    }

    /// A column that the log has.
    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// What a column that the log may not have yet is in its rows.
    pub(crate) fn fill(&self, name: &str) -> Option<&[u8]> {
        let found = self.young.iter().find(|(young, _)| young == name);
        found.map(|(_, fill)| fill.as_slice())
    }
}

/// Puts into tables, as they are described now, how they lie in the log now. Those that are gone by now are
/// left out.
pub(crate) async fn describe(
    client: &Client,
    tables: Vec<TableSchema>,
) -> Result<Vec<TableSchema>> {
    let names: Vec<_> = tables.iter().map(|table| table.name.clone()).collect();
    let found = slot::found(client, &names).await?;
    let oids: Vec<u32> = found.iter().flatten().copied().collect();
    let attributes = schema::attributes(client, &oids).await?;
    let mut files = source::files(client, &oids).await?.into_iter();
    let mut out = Vec::with_capacity(tables.len());
    for (table, oid) in tables.into_iter().zip(found) {
        let Some(oid) = oid else { continue };
        let attributes = attributes.get(&oid).map_or(&[][..], Vec::as_slice);
        // What the log does not have is not in the table.
        let logged = attributes
            .iter()
            .filter(|a| table.column(&a.column.name).is_some());
        let present = Layout {
            files: files.next().unwrap_or_default(),
            last: last_of(attributes),
            columns: logged.map(Column::of).collect(),
            young: Vec::new(),
        };
        out.push(TableSchema {
            layout: Some(present.stored()),
            ..table
        });
    }
    Ok(out)
}

/// The largest number of a column that is there.
pub(crate) fn last_of(attributes: &[Attribute]) -> i16 {
    attributes.iter().map(|a| a.number).max().unwrap_or(0)
}

impl Column {
    fn of(attribute: &Attribute) -> Self {
        Column {
            name: attribute.column.name.clone(),
            ty: (attribute.ty, attribute.typmod),
        }
    }
}

fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\\\");
    text.replace('\t', "\\t").replace('\n', "\\n")
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

fn octets(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let octet = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok();
    let bytes: Option<Vec<u8>> = pairs.iter().map(octet).collect();
    bytes.filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_core::range::Bound;
    use thalweg_core::value::CellRef;

    #[test]
    fn a_layout_comes_back() {
        let young = |name: &str, cell| (name.to_owned(), Bound::new(cell).raw().to_vec());
        let layout = Layout {
            files: "16384,\\1".to_owned(),
            last: 7,
            columns: vec![
                Column {
                    name: "id".to_owned(),
                    ty: (23, -1),
                },
                Column {
                    name: "a\tb".to_owned(),
                    ty: (1043, 14),
                },
            ],
            young: vec![
                young("a\tb\nc", CellRef::Null),
                young("", CellRef::Text("x")),
            ],
        };
        assert_eq!(Layout::parse(&layout.stored()), Some(layout.clone()));
        let text = layout.stored().as_str().to_owned();
        for wrong in [
            "",
            "2\nx\t1",
            "1",
            "1\nx",
            "1\nx\ty",
            "1\nx\t1\ny",
            "1\nx\t1\ny\t=zz",
            "1\nx\t1\ny\t=ff",
            "1\nx\t1\ny\t5",
        ] {
            let parsed = Layout::parse(&position::Layout::new(wrong));
            assert_eq!(parsed, None, "{wrong:?}");
        }
        assert_eq!(Layout::parse(&position::Layout::new(text)), Some(layout));
    }
}
