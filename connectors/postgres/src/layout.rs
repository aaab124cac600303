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
    /// Its own number (`attnum`), which it keeps whatever it is called, and no other column gets; 0: it came
    /// and went unseen.
    pub(crate) number: i16,
}

/// A column that the log does not have yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Young {
    pub(crate) name: String,
    /// As of a [`Column`].
    pub(crate) number: i16,
    /// The encoded cell that it has in rows until then.
    pub(crate) fill: Vec<u8>,
}

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The table's files ([`crate::source::files`]).
    pub(crate) files: String,
    /// The columns that the log has, in their order.
    pub(crate) columns: Vec<Column>,
    /// Columns that the log does not have yet.
    pub(crate) young: Vec<Young>,
}

impl Layout {
    /// As it is stored: a line of its version, one of the files, and one for each column with its number and
    /// its type, or of a young one with its cell.
    pub(crate) fn stored(&self) -> position::Layout {
        let mut text = format!("1\n{}", escaped(&self.files));
        for Column { name, ty, number } in &self.columns {
            text.push_str(&format!("\n{}\t{number} {} {}", escaped(name), ty.0, ty.1));
        }
        for young in &self.young {
            text.push_str(&format!("\n{}\t{} =", escaped(&young.name), young.number));
            young
                .fill
                .iter()
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
        let mut layout = Layout {
            files: unescaped(lines.next()?)?,
            ..Layout::default()
        };
        for line in lines {
            let (name, rest) = line.split_once('\t')?;
            let name = unescaped(name)?;
            let (number, rest) = rest.split_once(' ')?;
            let number = number.parse().ok()?;
            if let Some(fill) = rest.strip_prefix('=') {
                let fill = octets(fill)?;
                decode_raw(&fill)?;
                layout.young.push(Young { name, number, fill });
            } else {
                let (ty, modifier) = rest.split_once(' ')?;
                let ty = (ty.parse().ok()?, modifier.parse().ok()?);
                layout.columns.push(Column { name, ty, number });
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
        let found = self.young.iter().find(|young| young.name == name);
        found.map(|young| young.fill.as_slice())
    }

    /// The number that the column of a name has; `None`: it is not known.
    pub(crate) fn number(&self, name: &str) -> Option<i16> {
        let columns = self.columns.iter().map(|c| (&c.name, c.number));
        let young = self.young.iter().map(|y| (&y.name, y.number));
        let mut all = columns.chain(young).filter(|(_, number)| *number != 0);
        all.find(|(of, _)| *of == name).map(|(_, number)| number)
    }

    /// The first of these columns that is another one by now, though it has its name: nothing in the log
    /// says so.
    pub(crate) fn made_anew<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
        now: &[(String, i16)],
    ) -> Option<&'a str> {
        let mut names = names;
        names.find(|name| {
            let is = now.iter().find(|(of, _)| of == name).map(|(_, n)| *n);
            let was = self.number(name);
            was.zip(is).is_some_and(|(was, is)| was != is)
        })
    }
}

/// The names and numbers of columns.
pub(crate) fn numbers(attributes: &[Attribute]) -> Vec<(String, i16)> {
    let numbers = attributes.iter().map(|a| (a.column.name.clone(), a.number));
    numbers.collect()
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

impl Column {
    fn of(attribute: &Attribute) -> Self {
        Column {
            name: attribute.column.name.clone(),
            ty: (attribute.ty, attribute.typmod),
            number: attribute.number,
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

    fn layout() -> Layout {
        let young = |name: &str, number, cell| Young {
            name: name.to_owned(),
            number,
            fill: Bound::new(cell).raw().to_vec(),
        };
        let column = |name: &str, number, ty| Column {
            name: name.to_owned(),
            number,
            ty,
        };
        Layout {
            files: "16384,\\1".to_owned(),
            columns: vec![column("id", 1, (23, -1)), column("a\tb", 0, (1043, 14))],
            young: vec![
                young("a\tb\nc", 4, CellRef::Null),
                young("", 5, CellRef::Text("x")),
            ],
        }
    }

    #[test]
    fn a_layout_comes_back() {
        let layout = layout();
        assert_eq!(Layout::parse(&layout.stored()), Some(layout));
        for wrong in [
            "",
            "2\nx",
            "1",
            "1\nx\ny",
            "1\nx\ny\t1",
            "1\nx\ny\t1 =zz",
            "1\nx\ny\t1 =ff",
            "1\nx\ny\t1 5",
            "1\nx\ny\t5 -1",
        ] {
            let parsed = Layout::parse(&position::Layout::new(wrong));
            assert_eq!(parsed, None, "{wrong:?}");
        }
    }

    #[test]
    fn a_column_is_known_by_its_number() {
        let layout = layout();
        let now = |numbers: &[(&str, i16)]| -> Option<&str> {
            let now: Vec<_> = numbers.iter().map(|(n, i)| ((*n).to_owned(), *i)).collect();
            layout.made_anew(["id", "a\tb", "", "new"].into_iter(), &now)
        };
        assert_eq!(now(&[("id", 1), ("a\tb", 7), ("", 5), ("new", 8)]), None);
        assert_eq!(now(&[("a\tb", 7)]), None, "what is gone is told elsewhere");
        assert_eq!(now(&[("id", 9), ("", 5)]), Some("id"));
        assert_eq!(now(&[("id", 1), ("", 6)]), Some(""));
    }
}
