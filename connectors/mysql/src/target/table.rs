//! One target table as statements see it.

use futures_util::future;
use mysql_async::Error as My;
use thalweg_core::plan::TargetTable;
use thalweg_core::schema::{ColumnSchema, TableName};
use thalweg_core::value::{CellRef, RowRef};
use thalweg_core::{Error, Result, Side};

use super::error::convert;
use super::error::convert_for;
use super::literal::Literal;
use super::session::{Facts, Flavor, Session, Written, quote};
use super::statement::Statement;

/// Statements are packed to about this size.
const STATEMENT_BYTES: usize = 1 << 20;
/// Room for what the protocol adds to a statement.
const PACKET_SLACK: usize = 1 << 10;
/// Items that are written without a pause.
const PAUSE_ITEMS: u32 = 64;
/// Rows (or single statements) packed together at most.
const PACKED_MAX: usize = 2_000;

/// A table as `schema`.`name`.
pub(crate) fn quote_table(name: &TableName) -> String {
    format!("{}.{}", quote(&name.schema), quote(&name.name))
}

/// A mapped column.
#[derive(Debug)]
struct Column {
    /// Quoted.
    name: String,
    literal: Literal,
    nullable: bool,
}

/// How rows of one target table are written.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) target: TargetTable,
    /// Quoted, with its database.
    pub(super) name: String,
    columns: Vec<Column>,
    /// Whether there is a column that may hold what [`Table::unlabelled`] counts.
    labels: bool,
}

impl Table {
    /// `Schema` error for a column whose type we do not know how to write.
    pub(super) fn new(target: &TargetTable, flavor: Flavor) -> Result<Self> {
        let column = |column: &ColumnSchema| {
            let literal = Literal::of(column, flavor.maria).ok_or_else(|| {
                Error::schema(format!(
                    "column {} of {} has type {}, which cannot be written yet",
                    column.name, target.name, column.native
                ))
                .with_hint("leave the column out of the mapping, or change its type")
                .at(Side::Target)
            })?;
            Ok(Column {
                name: quote(&column.name),
                literal,
                nullable: column.nullable,
            })
        };
        let columns: Vec<Column> = target.columns.iter().map(column).collect::<Result<_>>()?;
        Ok(Table {
            name: quote_table(&target.name),
            labels: columns
                .iter()
                .any(|column| matches!(column.literal, Literal::Enum(_))),
            columns,
            target: target.clone(),
        })
    }

    /// Number of mapped columns.
    pub(super) fn width(&self) -> usize {
        self.columns.len()
    }

    /// The quoted name of a column.
    pub(super) fn column(&self, index: usize) -> &str {
        self.columns.get(index).map_or("", |c| c.name.as_str())
    }

    /// The mapped columns as a list.
    pub(super) fn list(&self) -> String {
        self.names(0..self.width())
    }

    /// Some columns as a list.
    pub(super) fn names(&self, columns: impl Iterator<Item = usize>) -> String {
        columns
            .map(|c| self.column(c))
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn refuse(&self, index: usize, reason: &str) -> Error {
        let column = self.target.columns.get(index);
        let column = column.map_or("?", |c| c.name.as_str());
        Error::data(format!(
            "a value of column {column} of {}: {reason}",
            self.target.name
        ))
        .with_hint(
            "correct the row at the source, or change the target column so that it takes the \
             value, then run the task again",
        )
        .at(Side::Target)
    }

    /// How the values of a column are written as literals.
    pub(super) fn literal(&self, index: usize) -> Option<&Literal> {
        self.columns.get(index).map(|column| &column.literal)
    }

    fn at(&self, index: usize) -> Result<&Column> {
        self.columns
            .get(index)
            .ok_or_else(|| Error::bug("a cell without a column"))
    }

    /// Appends a value to be stored.
    pub(super) fn put_value<'a>(
        &self,
        index: usize,
        cell: CellRef<'a>,
        out: &mut Statement<'a>,
    ) -> Result<()> {
        let literal = &self.at(index)?.literal;
        match literal.long(cell) {
            Ok(None) => self.put(index, cell, &mut out.text),
            Ok(Some((bytes, octets))) => {
                out.put_long(bytes, octets);
                Ok(())
            }
            Err(reason) => Err(self.refuse(index, reason)),
        }
    }

    /// Appends the literal of a value to be stored.
    pub(super) fn put(&self, index: usize, cell: CellRef<'_>, out: &mut Vec<u8>) -> Result<()> {
        let literal = self.taking(index, cell)?;
        literal
            .put(cell, out)
            .map_err(|reason| self.refuse(index, reason))
    }

    /// Whether every row can be a line of a file.
    pub(super) fn has_fields(&self) -> bool {
        // A line without anything in it is not certain to be a row.
        self.width() > 1 && self.columns.iter().all(|column| column.literal.has_field())
    }

    /// Appends a value to be stored as a field of a file.
    pub(super) fn put_field(
        &self,
        index: usize,
        cell: CellRef<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let literal = self.taking(index, cell)?;
        literal
            .put_field(cell, out)
            .map_err(|reason| self.refuse(index, reason))
    }

    /// How a column's values are written, if it takes this one.
    fn taking(&self, index: usize, cell: CellRef<'_>) -> Result<&Literal> {
        let column = self.at(index)?;
        if cell == CellRef::Null && !column.nullable {
            // The server would take a NULL for the present time, or for the next number.
            return Err(self.refuse(index, "the column takes no NULL"));
        }
        Ok(&column.literal)
    }

    /// Appends `(…, …)` with all values of a row.
    pub(super) fn put_values<'a>(&self, row: RowRef<'a>, out: &mut Statement<'a>) -> Result<()> {
        out.text.push(b'(');
        for (index, cell) in row.cells().enumerate() {
            if !cell.is_present() {
                return Err(Error::bug("a row to insert is not whole"));
            }
            if index > 0 {
                out.text.push(b',');
            }
            self.put_value(index, cell, out)?;
        }
        out.text.push(b')');
        Ok(())
    }

    /// Appends the key of a row: a literal, or `(…, …)` of several.
    pub(super) fn put_key(&self, row: RowRef<'_>, out: &mut Vec<u8>) -> Result<()> {
        let several = self.target.key.len() > 1;
        if several {
            out.push(b'(');
        }
        for (n, &index) in self.target.key.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            self.put(index, row.cell(index).unwrap_or(CellRef::Absent), out)?;
        }
        if several {
            out.push(b')');
        }
        Ok(())
    }

    /// Appends the condition that finds a row: by its key, or by all its columns. `exactly`: also
    /// not one whose key the target merely takes for equal.
    pub(super) fn put_find(&self, row: RowRef<'_>, exactly: bool, out: &mut Vec<u8>) -> Result<()> {
        let key = self.target.key.as_slice();
        let by_key = !key.is_empty();
        let count = if by_key { key.len() } else { self.width() };
        for n in 0..count {
            let index = key.get(n).copied().unwrap_or(n);
            if n > 0 {
                out.extend_from_slice(b" AND ");
            }
            let column = self.at(index)?;
            let cell = row.cell(index).unwrap_or(CellRef::Absent);
            if by_key && !exactly {
                out.extend_from_slice(column.name.as_bytes());
                out.extend_from_slice(b" = ");
                self.put(index, cell, out)?;
            } else {
                column
                    .literal
                    .put_same(&column.name, cell, out)
                    .map_err(|reason| self.refuse(index, reason))?;
            }
        }
        Ok(())
    }

    /// Appends an `UPDATE` of the row with the key (or all the cells) of `before` to what `after` has.
    /// `touched`: columns the server would change by itself.
    pub(super) fn put_update<'a>(
        &self,
        before: RowRef<'_>,
        after: RowRef<'a>,
        touched: &[usize],
        out: &mut Statement<'a>,
    ) -> Result<()> {
        out.text.extend_from_slice(b"UPDATE ");
        out.text.extend_from_slice(self.name.as_bytes());
        let mut word: &[u8] = b" SET ";
        let old = before.raw_cells();
        for (index, (cell, (new, old))) in after.cells().zip(after.raw_cells().zip(old)).enumerate()
        {
            let same_key = self.target.key.contains(&index) && new == old;
            let keep = !cell.is_present() && touched.contains(&index);
            if same_key || !cell.is_present() && !keep {
                continue;
            }
            out.text.extend_from_slice(word);
            word = b", ";
            let name = self.at(index)?.name.as_bytes();
            out.text.extend_from_slice(name);
            out.text.extend_from_slice(b" = ");
            if keep {
                out.text.extend_from_slice(name);
            } else {
                self.put_value(index, cell, out)?;
            }
        }
        if word == b" SET " {
            // Nothing to write; whether the row is there is asked all the same.
            let index = self.target.key.first().copied().unwrap_or(0);
            let name = self.at(index)?.name.as_bytes();
            for part in [word, name, b" = ", name] {
                out.text.extend_from_slice(part);
            }
        }
        out.text.extend_from_slice(b" WHERE ");
        self.put_find(before, false, &mut out.text)?;
        if self.target.key.is_empty() {
            out.text.extend_from_slice(b" LIMIT 1");
        }
        Ok(())
    }

    /// The beginning of an `INSERT` of mapped columns.
    pub(super) fn insert(&self) -> String {
        format!("INSERT INTO {} ({}) VALUES ", self.name, self.list())
    }

    /// The end of an `INSERT` that overwrites the row with the same key, and fails if it meets a row
    /// with another one. Only for a table whose one unique key is the primary key; the condition
    /// holds even if somebody adds another unique key meanwhile.
    pub(super) fn overwrite(&self, flavor: Flavor) -> String {
        let (alias, new) = if flavor.has_row_alias() {
            (" AS thalweg_new", "thalweg_new.")
        } else {
            ("", "")
        };
        let value = |column: &str| {
            if alias.is_empty() {
                format!("VALUES({column})")
            } else {
                format!("{new}{column}")
            }
        };
        let key = &self.target.key;
        let same: Vec<String> = key
            .iter()
            .map(|&c| {
                let column = self.column(c);
                format!("{}.{column} <=> {}", self.name, value(column))
            })
            .collect();
        let same = same.join(" AND ");
        let set: Vec<String> = (0..self.width())
            .map(|c| {
                let column = self.column(c);
                if key.first() == Some(&c) {
                    // A key column takes no NULL: the statement fails.
                    format!("{column} = IF({same}, {}, NULL)", value(column))
                } else {
                    format!("{column} = {}", value(column))
                }
            })
            .collect();
        format!("{alias} ON DUPLICATE KEY UPDATE {}", set.join(", "))
    }

    /// Sends a statement that writes rows of this table.
    pub(super) async fn send(
        &self,
        session: &mut Session,
        sql: &Statement<'_>,
    ) -> Result<Vec<Written>> {
        self.fits(sql.bytes(), &session.facts)?;
        let written = session.write_with_long(sql, 0).await;
        written.map_err(|error| convert_for(error, &self.target))
    }

    /// Packs items into statements and sends those, in order. While the server works on one the next is
    /// written. `done` is told of each: its items, and what the server said; nothing of one with fewer
    /// than `least` items, which is not sent.
    pub(super) async fn send_packed<'r, T>(
        &self,
        session: &mut Session,
        mut pack: Pack<'r>,
        items: &[T],
        least: usize,
        put: impl Fn(&T, &mut Statement<'r>) -> Result<()>,
        mut done: impl FnMut(&[T], Option<Vec<Written>>) -> Result<()>,
    ) -> Result<()> {
        let mut waiting = items;
        let mut items = items.iter();
        let mut ready = pack.next(&mut items, &put).await?;
        while let Some((sql, count)) = ready {
            let (packed, rest) = waiting.split_at(count);
            waiting = rest;
            if count < least {
                done(packed, None)?;
                ready = pack.next(&mut items, &put).await?;
                continue;
            }
            let send = self.send(session, &sql);
            let (written, next) = future::join(send, pack.next(&mut items, &put)).await;
            done(packed, Some(written?))?;
            ready = next?;
            pack.reuse(sql);
        }
        Ok(())
    }

    /// The same without long values.
    pub(super) async fn send_text(
        &self,
        session: &mut Session,
        sql: &[u8],
    ) -> Result<Vec<Written>> {
        self.fits(sql.len(), &session.facts)?;
        session
            .write(sql)
            .await
            .map_err(|error| convert_for(error, &self.target))
    }

    /// The same with the driver's own error, for a statement that writes this one row.
    pub(super) async fn try_send(
        &self,
        session: &mut Session,
        sql: &Statement<'_>,
        row: RowRef<'_>,
    ) -> std::result::Result<Vec<Written>, My> {
        session.write_with_long(sql, self.unlabelled(row)).await
    }

    /// How many cells of a row only a session that is not strict can write.
    pub(super) fn unlabelled(&self, row: RowRef<'_>) -> u16 {
        if !self.labels {
            return 0;
        }
        let cells = row.cells().zip(&self.columns);
        let cells = cells.filter(|(cell, column)| column.literal.is_unlabelled(*cell));
        u16::try_from(cells.count()).unwrap_or(u16::MAX)
    }

    /// Whether only a session that is not strict can write a cell.
    pub(super) fn is_unlabelled(&self, index: usize, cell: CellRef<'_>) -> bool {
        let column = self.columns.get(index);
        column.is_some_and(|column| column.literal.is_unlabelled(cell))
    }

    /// `Data` error for a statement the server would not take.
    pub(super) fn fits(&self, bytes: usize, facts: &Facts) -> Result<()> {
        fits(|| format!("a row of {}", self.target.name), bytes, facts)
    }
}

/// `Data` error for something of so many bytes that the server would not take as a statement.
pub(super) fn fits(what: impl FnOnce() -> String, bytes: usize, facts: &Facts) -> Result<()> {
    if bytes <= facts.packet_max.saturating_sub(PACKET_SLACK) {
        return Ok(());
    }
    let needed = (bytes + PACKET_SLACK).next_multiple_of(1 << 20);
    Err(Error::data(format!(
        "{} takes {bytes} bytes as a statement, the server takes {} at most (max_allowed_packet)",
        what(),
        facts.packet_max
    ))
    .with_hint(if needed <= 1 << 30 {
        format!("on the server: SET GLOBAL max_allowed_packet = {needed}")
    } else {
        "the server takes no statement above 1 GiB: leave the column out of the mapping".into()
    })
    .at(Side::Target))
}

/// Packs rows, or single statements, into statements of about a megabyte.
#[derive(Debug)]
pub(super) struct Pack<'a> {
    prefix: Vec<u8>,
    between: &'static [u8],
    suffix: Vec<u8>,
    limit: usize,
    open: Statement<'a>,
    rows: usize,
    ready: Statement<'a>,
    ready_rows: usize,
}

impl<'a> Pack<'a> {
    pub(super) fn new(prefix: String, between: &'static [u8], suffix: &str, facts: &Facts) -> Self {
        Pack {
            open: prefix.clone().into(),
            prefix: prefix.into_bytes(),
            between,
            suffix: suffix.as_bytes().to_vec(),
            limit: STATEMENT_BYTES.min(facts.packet_max.saturating_sub(PACKET_SLACK)),
            rows: 0,
            ready: Statement::default(),
            ready_rows: 0,
        }
    }

    /// Adds one; whether that made a statement of those before it ready.
    pub(super) fn push(
        &mut self,
        put: impl FnOnce(&mut Statement<'a>) -> Result<()>,
    ) -> Result<bool> {
        let mark = self.open.text.len();
        if self.rows > 0 {
            self.open.text.extend_from_slice(self.between);
        }
        let start = self.open.end();
        put(&mut self.open)?;
        let over = self.open.bytes() + self.suffix.len() > self.limit || self.rows >= PACKED_MAX;
        if self.rows == 0 || !over {
            self.rows += 1;
            return Ok(false);
        }
        std::mem::swap(&mut self.ready, &mut self.open);
        self.open.clear();
        self.open.text.extend_from_slice(&self.prefix);
        self.open.take_from(&mut self.ready, start);
        self.ready.text.truncate(mark);
        self.ready.text.extend_from_slice(&self.suffix);
        self.ready_rows = std::mem::replace(&mut self.rows, 1);
        Ok(true)
    }

    /// Makes the last statement ready; `false` if there is none.
    pub(super) fn finish(&mut self) -> bool {
        if self.rows == 0 {
            return false;
        }
        std::mem::swap(&mut self.ready, &mut self.open);
        self.ready.text.extend_from_slice(&self.suffix);
        self.open.clear();
        self.open.text.extend_from_slice(&self.prefix);
        self.ready_rows = std::mem::take(&mut self.rows);
        true
    }

    /// Takes items until a statement is ready, and gives it with the number of them; `None` when none
    /// is left. Pauses on the way, so that what is being sent goes on.
    async fn next<T>(
        &mut self,
        items: &mut std::slice::Iter<'_, T>,
        put: &impl Fn(&T, &mut Statement<'a>) -> Result<()>,
    ) -> Result<Option<(Statement<'a>, usize)>> {
        let mut pause = PAUSE_ITEMS;
        for item in items {
            if self.push(|out| put(item, out))? {
                return Ok(Some((std::mem::take(&mut self.ready), self.ready_rows)));
            }
            pause -= 1;
            if pause == 0 {
                pause = PAUSE_ITEMS;
                tokio::task::yield_now().await;
            }
        }
        let last = self.finish();
        Ok(last.then(|| (std::mem::take(&mut self.ready), self.ready_rows)))
    }

    /// Takes back a statement that was sent, for its memory.
    fn reuse(&mut self, sent: Statement<'a>) {
        if self.ready.text.capacity() == 0 {
            self.ready = sent;
            self.ready.clear();
        }
    }

    /// The ready statement.
    pub(super) fn sql(&self) -> &Statement<'a> {
        &self.ready
    }
}

/// Whether a table has no row.
pub(super) async fn is_empty(session: &mut Session, name: &TableName) -> Result<bool> {
    let any = format!("SELECT 1 FROM {} LIMIT 1", quote_table(name));
    let found: Option<u8> = session.first(&any).await?;
    Ok(found.is_none())
}

/// Whether an error says that a table or a database is not there.
pub(super) fn is_gone(error: &My) -> bool {
    matches!(error, My::Server(server) if matches!(server.code, 1146 | 1049))
}

pub(super) fn gone_is_none<T>(result: std::result::Result<T, My>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(convert(error)),
    }
}

/// Whether an error says that another row has the same unique value.
pub(super) fn is_duplicate(error: &My) -> bool {
    matches!(error, My::Server(server) if matches!(server.code, 1062 | 1169 | 1586))
}
