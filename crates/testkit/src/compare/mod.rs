//! Whether a table of the target holds exactly the rows of a table of the source, whichever servers
//! they are in.
//!
//! The judge shares nothing with the product. Each side is asked in SQL through its own
//! command-line client, each value as text of a form that both sides can give without loss
//! ([`form`]): numbers in full, floats by their bits, text and octets in hexadecimal (so neither
//! client's escaping matters), moments in UTC. Rows come ordered by key and are merged as they
//! stream, so memory does not grow with the table. The order is not trusted: a row that is not
//! greater than the one before it ends the comparison with an error, because a merge of unordered
//! rows proves nothing. Only the rows of a table without a key that both servers order alike are
//! gathered and sorted here.
//!
//! Both tables must be at rest; the comparison takes no lock and no common snapshot.

mod catalog;
mod form;
mod json;
mod rows;

use std::cmp::Ordering;
use std::fmt;

use anyhow::{Result, bail};
use ring::digest::{Context as Hash, SHA256};

use crate::client::hex;
use crate::servers::Place;
use catalog::Columns;
use rows::{Row, Rows};

/// How many differences are named; all are counted.
const NAMED_MAX: usize = 10;
/// What the rows of a table without a usable key may take in memory.
const SORTED_BYTES_MAX: usize = 1 << 30;

/// The two databases whose tables are compared.
#[derive(Debug, Clone, Copy)]
pub struct Ends<'a> {
    /// The source.
    pub source: &'a Place,
    /// The target.
    pub target: &'a Place,
}

/// One difference, by key. Values other than keys are not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// A row of the source is not at the target.
    Missing(String),
    /// A row of the target is not at the source.
    Extra(String),
    /// Both have it, but not alike: key and names of the columns.
    Different(String, Vec<String>),
}

/// What was found in one pair of tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The source's table, `schema.table`.
    pub source: String,
    /// The target's table, `schema.table`.
    pub target: String,
    /// Rows at the source.
    pub source_rows: u64,
    /// Rows at the target.
    pub target_rows: u64,
    /// Rows the target lacks.
    pub missing: u64,
    /// Rows the source lacks.
    pub extra: u64,
    /// Rows that differ.
    pub different: u64,
    /// The first differences.
    pub first: Vec<Difference>,
    /// SHA-256 of the source's rows in their common form, in key order.
    pub source_sha256: String,
    /// SHA-256 of the target's.
    pub target_sha256: String,
}

impl Report {
    /// Whether both tables hold the same rows.
    pub fn equal(&self) -> bool {
        self.missing == 0 && self.extra == 0 && self.different == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (&self.source, &self.target);
        if self.equal() {
            let sha = self.source_sha256.get(..16).unwrap_or_default();
            return write!(f, "{from} = {to}: {} rows, sha256 {sha}…", self.source_rows);
        }
        write!(
            f,
            "{from} ≠ {to}: {} and {} rows; {} missing, {} extra, {} different; first {:?}",
            self.source_rows,
            self.target_rows,
            self.missing,
            self.extra,
            self.different,
            self.first
        )
    }
}

impl Ends<'_> {
    /// Compares all columns of `source` (`schema.table`) with the columns of the same names of
    /// `target` (`schema.table`). The schema ends at the first dot.
    ///
    /// # Errors
    /// When a table cannot be read, the columns are not the same, or two types have no common
    /// form. Rows that differ are not an error.
    pub fn compare(&self, source: &str, target: &str) -> Result<Report> {
        self.compare_columns(source, target, None)
    }

    /// Like [`compare`](Self::compare), of these pairs of columns only, the source's name first. They
    /// must hold a key of the source's table, if it has one.
    ///
    /// # Errors
    /// As [`compare`](Self::compare).
    pub fn compare_mapped(
        &self,
        source: &str,
        target: &str,
        pairs: &[(&str, &str)],
    ) -> Result<Report> {
        self.compare_columns(source, target, Some(pairs))
    }

    /// Compares tables of the same name in both; an error names those that are not equal.
    ///
    /// # Errors
    /// As [`compare`](Self::compare), and when one is not equal.
    pub fn all_equal<T: AsRef<str>>(&self, tables: &[T]) -> Result<Vec<Report>> {
        let mut reports = Vec::new();
        for table in tables {
            let (from, to) = (
                self.source.table(table.as_ref()),
                self.target.table(table.as_ref()),
            );
            reports.push(self.compare(&from, &to)?);
        }
        let unequal = reports.iter().filter(|report| !report.equal());
        let unequal: Vec<String> = unequal.map(Report::to_string).collect();
        match unequal.is_empty() {
            true => Ok(reports),
            false => bail!("not equal:\n{}", unequal.join("\n")),
        }
    }

    fn compare_columns(
        &self,
        source: &str,
        target: &str,
        pairs: Option<&[(&str, &str)]>,
    ) -> Result<Report> {
        let columns = Columns::read(self, source, target, pairs)?;
        let mut left = Side::new(Rows::start(self.source, &columns, 0)?, &columns, source)?;
        let mut right = Side::new(Rows::start(self.target, &columns, 1)?, &columns, target)?;
        let mut report = Report {
            source: source.into(),
            target: target.into(),
            source_rows: 0,
            target_rows: 0,
            missing: 0,
            extra: 0,
            different: 0,
            first: Vec::new(),
            source_sha256: String::new(),
            target_sha256: String::new(),
        };
        left.advance()?;
        right.advance()?;
        loop {
            let order = match (left.row(), right.row()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(one), Some(two)) => columns.compare_keys(one, two),
            };
            report.judge(order, &left, &right, &columns);
            if order != Ordering::Greater {
                left.advance()?;
            }
            if order != Ordering::Less {
                right.advance()?;
            }
        }
        (report.source_rows, report.source_sha256) = left.end();
        (report.target_rows, report.target_sha256) = right.end();
        // The same question by two means: the merge and the hashes must agree.
        if report.equal() != (report.source_sha256 == report.target_sha256) {
            bail!("the merge and the hashes disagree: {report:?}");
        }
        Ok(report)
    }
}

impl Report {
    fn judge(&mut self, order: Ordering, left: &Side<'_>, right: &Side<'_>, columns: &Columns) {
        let key = |side: &Side<'_>| {
            side.row()
                .map_or(String::new(), |row| columns.key_text(row))
        };
        let found = match order {
            Ordering::Less => {
                self.missing += 1;
                Difference::Missing(key(left))
            }
            Ordering::Greater => {
                self.extra += 1;
                Difference::Extra(key(right))
            }
            Ordering::Equal => {
                let (Some(one), Some(two)) = (left.row(), right.row()) else {
                    return;
                };
                if one.text() == two.text() {
                    return;
                }
                self.different += 1;
                Difference::Different(key(left), columns.different(one, two))
            }
        };
        if self.first.len() < NAMED_MAX {
            self.first.push(found);
        }
    }
}

/// One side of the merge: the row at hand, and what was counted and hashed.
struct Side<'a> {
    rows: Rows,
    /// All of them, last first, if they could not be had in order.
    sorted: Option<Vec<Row>>,
    columns: &'a Columns,
    name: String,
    now: Row,
    before: Row,
    there: bool,
    count: u64,
    hash: Hash,
}

impl<'a> Side<'a> {
    fn new(mut rows: Rows, columns: &'a Columns, name: &str) -> Result<Self> {
        let mut sorted = None;
        if !columns.ordered {
            let (mut all, mut bytes, mut row) = (Vec::new(), 0, Row::default());
            while rows.next(columns, &mut row)? {
                bytes += row.text().len();
                if bytes > SORTED_BYTES_MAX {
                    bail!("{name} has no key to order rows by, and is too large to be sorted here");
                }
                all.push(std::mem::take(&mut row));
            }
            all.sort_by(|one, two| columns.compare_keys(two, one));
            sorted = Some(all);
        }
        Ok(Self {
            rows,
            sorted,
            columns,
            name: name.to_owned(),
            now: Row::default(),
            before: Row::default(),
            there: false,
            count: 0,
            hash: Hash::new(&SHA256),
        })
    }

    fn row(&self) -> Option<&Row> {
        self.there.then_some(&self.now)
    }

    fn advance(&mut self) -> Result<()> {
        std::mem::swap(&mut self.now, &mut self.before);
        self.there = match &mut self.sorted {
            None => self.rows.next(self.columns, &mut self.now)?,
            Some(rows) => match rows.pop() {
                Some(row) => {
                    self.now = row;
                    true
                }
                None => false,
            },
        };
        if !self.there {
            return Ok(());
        }
        self.count += 1;
        self.hash.update(self.now.text());
        self.hash.update(b"\n");
        if self.count > 1 {
            let order = self.columns.compare_keys(&self.before, &self.now);
            // Without a key the whole row is one, and may be there twice.
            let wrong = match order {
                Ordering::Less => false,
                Ordering::Equal => self.columns.keyed,
                Ordering::Greater => true,
            };
            if wrong {
                bail!(
                    "{}: row {} comes after {} although its key is not greater",
                    self.name,
                    self.columns.key_text(&self.now),
                    self.columns.key_text(&self.before)
                );
            }
        }
        Ok(())
    }

    fn end(self) -> (u64, String) {
        (self.count, hex(self.hash.finish().as_ref()))
    }
}
