//! What is kept with the position of a table.
//!
//! The log describes every table before its first row, as it was there. So that a table can be read with
//! a definition of later, it has to be known which columns it had, which of ours the log does not have
//! yet, and what those are in the rows until then; and whether the table was rewritten since, because
//! then its rows may have become what the log does not say.

use thalweg_core::position;
use thalweg_core::value::decode_raw;

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The table's files ([`crate::source::files`]).
    pub(crate) files: String,
    /// The columns that the log has, in their order.
    pub(crate) columns: Vec<String>,
    /// Columns that the log does not have yet, each with the encoded cell it has in rows until then.
    pub(crate) young: Vec<(String, Vec<u8>)>,
}

impl Layout {
    /// As it is stored: a line of its version, one of the files, and one for each column; a young one has its
    /// cell behind its name.
    pub(crate) fn stored(&self) -> position::Layout {
        let mut text = format!("1\n{}", escaped(&self.files));
        for name in &self.columns {
            text.push_str(&format!("\n{}", escaped(name)));
        }
        for (name, fill) in &self.young {
            text.push_str(&format!("\n{}\t", escaped(name)));
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
        let files = unescaped(lines.next()?)?;
        let mut layout = Layout {
            files,
            ..Layout::default()
        };
        for line in lines {
            let Some((name, fill)) = line.split_once('\t') else {
                layout.columns.push(unescaped(line)?);
                continue;
            };
            let fill = octets(fill)?;
            decode_raw(&fill)?;
            layout.young.push((unescaped(name)?, fill));
        }
        Some(layout)
    }

    /// What a column that the log may not have yet is in its rows.
    pub(crate) fn fill(&self, name: &str) -> Option<&[u8]> {
        let found = self.young.iter().find(|(young, _)| young == name);
        found.map(|(_, fill)| fill.as_slice())
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
            columns: vec!["id".to_owned(), "a\tb".to_owned()],
            young: vec![
                young("a\tb\nc", CellRef::Null),
                young("", CellRef::Text("x")),
            ],
        };
        assert_eq!(Layout::parse(&layout.stored()), Some(layout.clone()));
        let text = layout.stored().as_str().to_owned();
        for wrong in ["", "2\nx", "1", "1\nx\n\\y", "1\nx\ny\tzz", "1\nx\ny\tff"] {
            let parsed = Layout::parse(&position::Layout::new(wrong));
            assert_eq!(parsed, None, "{wrong:?}");
        }
        assert_eq!(Layout::parse(&position::Layout::new(text)), Some(layout));
    }
}
