//! Comparing what is expected in a table with what is there, inside the server.
//!
//! Expected rows are copied to a temporary table, cast to the types of the table's columns with their
//! modifiers, and joined by the key. Values are the same if their binary images are (`*=`), so that
//! neither a collation nor `1.0 = 1.00` makes two of them equal.

use std::pin::pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use thalweg_core::plan::{Plan, TargetTable};
use thalweg_core::ports::{Compared, Comparer, Difference, Differs};
use thalweg_core::range::KeyRange;
use thalweg_core::value::{CellRef, RowBatch};
use thalweg_core::{Error, Result};
use tokio_postgres::Client;

use super::encode::{HEADER, RowEncoder, TRAILER};
use super::send;
use super::stage::Stage;
use crate::config::Connection;
use crate::error::convert;
use crate::schema::{self, quote, quote_table};
use crate::snapshot::Rows;
use crate::wire::cells::{Codec, Form};
use crate::{literal, slot, source};

/// How long a lock on the table is waited for: whoever has it may rewrite the table.
const LOCK_WAIT: &str = "5s";

pub(super) struct PostgresComparer {
    connection: Connection,
    plan: Arc<Plan>,
    /// The table that was made ready last.
    table: Option<Prepared>,
}

/// What is needed of one table.
struct Prepared {
    target: usize,
    name: String,
    /// The temporary table.
    stage: String,
    encoder: RowEncoder,
    key: Vec<usize>,
    /// Per mapped column.
    columns: Vec<Column>,
    oid: u32,
    /// The table's files when the snapshot was taken: in others it does not see what it should.
    files: Vec<String>,
    /// Rows expected so far.
    expected: i64,
    /// The condition that a row of the table lies in the range; empty: all do.
    range: String,
}

struct Column {
    /// What the table holds, and what is expected, both of the same type (SQL).
    held: String,
    expected: String,
    /// The expected value and the held one as they are read, and how.
    read: (String, String),
    how: (Codec, Form),
}

impl PostgresComparer {
    pub(super) fn new(connection: Connection, plan: Arc<Plan>) -> Self {
        PostgresComparer {
            connection,
            plan,
            table: None,
        }
    }

    fn ready(&self) -> Result<(&Client, &Prepared)> {
        let table = self.table.as_ref();
        let table = table.ok_or_else(|| Error::bug("no table was made ready"))?;
        Ok((&self.connection.client, table))
    }
}

impl Prepared {
    async fn new(client: &Client, table: &TargetTable, target: usize) -> Result<Self> {
        let types = Stage::of(client, table).await?;
        let oid = slot::oid(client, &table.name).await?;
        let attributes = schema::attributes(client, &[oid]).await?.remove(&oid);
        let attributes = attributes.unwrap_or_default();
        let stage = format!("thalweg_verify_{target}");
        let mut columns = Vec::new();
        for (index, column) in table.columns.iter().enumerate() {
            let attribute = attributes.iter().find(|a| a.column.name == column.name);
            let attribute = attribute.ok_or_else(|| {
                Error::schema(format!("{} has no column {}", table.name, column.name))
                    .with_hint("run the task again, so that it reads the table again")
            })?;
            let (held, staged) = (format!("t.{}", quote(&column.name)), format!("s.c{index}"));
            let full = types.full(index);
            let as_text = |value: &str| {
                format!(
                    "CASE WHEN {value} IS NOT DISTINCT FROM NULL THEN NULL ELSE format('%s', {value}) END"
                )
            };
            let form = match types.is_form(index) || !attribute.codec.binary() {
                true => Form::Text,
                false => Form::Binary,
            };
            let read = match (types.is_form(index), form) {
                (true, _) => (staged.clone(), as_text(&held)),
                (false, Form::Text) => (as_text(&staged), as_text(&held)),
                (false, Form::Binary) => (staged.clone(), held.clone()),
            };
            columns.push(Column {
                expected: format!("({})::{full}", types.value(index, &staged)),
                held: format!("{held}::{full}"),
                read,
                how: (attribute.codec, form),
            });
        }
        let fields: Vec<_> = (0..columns.len())
            .map(|n| format!("c{n} {}", types.staged(n)))
            .collect();
        let create = format!(
            "DROP TABLE IF EXISTS pg_temp.{stage}; \
             CREATE TEMP TABLE {stage} (n bigint, {}) ON COMMIT DELETE ROWS",
            fields.join(", ")
        );
        client.batch_execute(&create).await.map_err(convert)?;
        Ok(Prepared {
            target,
            name: quote_table(&table.name),
            stage: format!("pg_temp.{stage}"),
            encoder: RowEncoder::new(table),
            oid,
            files: Vec::new(),
            key: table.key.clone(),
            columns,
            expected: 0,
            range: String::new(),
        })
    }

    /// The condition that an expected row and one of the table have one key.
    fn same_key(&self) -> String {
        let pairs = self.key.iter().filter_map(|k| self.columns.get(*k));
        let pairs = pairs.map(|c| format!("{} = {}", c.held, c.expected));
        pairs.collect::<Vec<_>>().join(" AND ")
    }

    /// The same of rows in the range: all others need not be read.
    fn joined(&self) -> String {
        match self.range.is_empty() {
            true => self.same_key(),
            false => format!("{} AND {}", self.same_key(), self.range),
        }
    }

    /// All values of a row as one.
    fn row(&self, side: impl Fn(&Column) -> &str) -> String {
        let values: Vec<&str> = self.columns.iter().map(side).collect();
        format!("ROW({})::record", values.join(", "))
    }

    /// Whether the two rows are the same.
    fn same(&self) -> String {
        format!("{} *= {}", self.row(|c| &c.expected), self.row(|c| &c.held))
    }

    /// Rows that are not there, and rows that differ.
    async fn count(&self, client: &Client) -> Result<(u64, u64)> {
        let sql = format!(
            "SELECT count(*) FILTER (WHERE t.ctid IS NULL), count(*) FILTER (WHERE t.ctid IS NOT NULL) \
             FROM {} s LEFT JOIN {} t ON {} WHERE t.ctid IS NULL OR NOT {}",
            self.stage,
            self.name,
            self.joined(),
            self.same()
        );
        let row = client.query_one(&sql, &[]).await.map_err(convert)?;
        Ok((number(row.get(0)), number(row.get(1))))
    }

    async fn there(&self, client: &Client) -> Result<u64> {
        let sql = format!("SELECT count(*) FROM {} t{}", self.name, self.within());
        let row = client.query_one(&sql, &[]).await.map_err(convert)?;
        Ok(number(row.get(0)))
    }

    fn within(&self) -> String {
        match self.range.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", self.range),
        }
    }

    /// Reads what a query gives.
    async fn read(
        &self,
        client: &Client,
        query: &str,
        columns: Vec<(Codec, Form)>,
    ) -> Result<RowBatch> {
        let copy = format!("COPY ({query}) TO STDOUT (FORMAT binary)");
        let found = client.copy_out(copy.as_str()).await.map_err(convert)?;
        let mut found = pin!(found);
        let mut rows = Rows::new(columns, u64::MAX, self.name.clone());
        let mut batch = RowBatch::new();
        while let Some(bytes) = found.next().await {
            rows.take(&bytes.map_err(convert)?, &mut batch)?;
        }
        Ok(batch)
    }

    /// Expected rows that are not there as they should be.
    async fn wrong(&self, client: &Client, limit: usize, into: &mut Compared) -> Result<()> {
        let marks = self.columns.iter().map(|c| {
            format!(
                "CASE WHEN ROW({})::record *= ROW({})::record THEN '0' ELSE '1' END",
                c.expected, c.held
            )
        });
        let marks = marks.collect::<Vec<_>>().join(" || ");
        let values: Vec<&str> = self.columns.iter().map(|c| c.read.0.as_str()).collect();
        let query = format!(
            "SELECT CASE WHEN t.ctid IS NULL THEN '' ELSE {marks} END, {} \
             FROM {} s LEFT JOIN {} t ON {} WHERE t.ctid IS NULL OR NOT {} ORDER BY s.n LIMIT {limit}",
            values.join(", "),
            self.stage,
            self.name,
            self.joined(),
            self.same()
        );
        let mut how = vec![(Codec::Text, Form::Binary)];
        how.extend(self.columns.iter().map(|c| c.how));
        let found = self.read(client, &query, how).await?;
        for row in found.iter() {
            let mut cells = row.cells();
            let Some(CellRef::Text(marks)) = cells.next() else {
                return Err(Error::bug("a difference without marks"));
            };
            let marked = marks.bytes().enumerate().filter(|(_, mark)| *mark == b'1');
            let columns = marked.map(|(column, _)| column).collect();
            let differs = match marks.is_empty() {
                true => Differs::Missing,
                false => Differs::Changed,
            };
            for raw in row.raw_cells().skip(1) {
                into.rows.push_raw(raw);
            }
            let row = into.rows.end_row();
            into.differences.push(Difference {
                row,
                differs,
                columns,
            });
        }
        Ok(())
    }

    /// Keys of rows that are there and not expected.
    async fn extra(&self, client: &Client, limit: usize, into: &mut Compared) -> Result<()> {
        let keys = || self.key.iter().filter_map(|k| self.columns.get(*k));
        let values: Vec<&str> = keys().map(|c| c.read.1.as_str()).collect();
        let and = match self.range.is_empty() {
            true => String::new(),
            false => format!("{} AND ", self.range),
        };
        let query = format!(
            "SELECT {} FROM {} t WHERE {and}NOT EXISTS (SELECT FROM {} s WHERE {}) LIMIT {limit}",
            values.join(", "),
            self.name,
            self.stage,
            self.same_key()
        );
        let found = self
            .read(client, &query, keys().map(|c| c.how).collect())
            .await?;
        for row in found.iter() {
            for column in 0..self.columns.len() {
                let place = self.key.iter().position(|k| *k == column);
                match place.and_then(|place| row.raw_cells().nth(place)) {
                    Some(raw) => into.rows.push_raw(raw),
                    None => into.rows.push(CellRef::Absent),
                }
            }
            let row = into.rows.end_row();
            into.differences.push(Difference {
                row,
                differs: Differs::Extra,
                columns: Vec::new(),
            });
        }
        Ok(())
    }

    /// A table without a key: how often each row is there.
    async fn by_rows(&self, client: &Client) -> Result<Compared> {
        let sql = format!(
            "SELECT coalesce(sum(greatest(w, 0)), 0)::int8, coalesce(sum(greatest(-w, 0)), 0)::int8 \
             FROM (SELECT sum(w) AS w FROM (SELECT {}::text AS r, 1 AS w FROM {} s \
             UNION ALL SELECT {}::text, -1 FROM {} t) u GROUP BY r) v",
            self.row(|c| &c.expected),
            self.stage,
            self.row(|c| &c.held),
            self.name
        );
        let row = client.query_one(&sql, &[]).await.map_err(convert)?;
        Ok(Compared {
            there: self.there(client).await?,
            missing: number(row.get(0)),
            extra: number(row.get(1)),
            ..Compared::default()
        })
    }
}

fn number(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

#[async_trait]
impl Comparer for PostgresComparer {
    async fn prepare(&mut self, target: usize) -> Result<()> {
        if self
            .table
            .as_ref()
            .is_some_and(|table| table.target == target)
        {
            return Ok(());
        }
        let table = self.plan.targets.get(target);
        let table = table.ok_or_else(|| Error::bug("no such target"))?;
        self.table = Some(Prepared::new(&self.connection.client, table, target).await?);
        Ok(())
    }

    async fn open(&mut self, range: Option<&KeyRange>) -> Result<()> {
        let table = self.table.as_mut();
        let table = table.ok_or_else(|| Error::bug("no table was made ready"))?;
        table.expected = 0;
        let mut within = Vec::new();
        if let Some(range) = range {
            let column = table.columns.get(range.column);
            let column = &column
                .ok_or_else(|| Error::bug("a range over no column"))?
                .held;
            for (sign, bound) in [(">=", &range.from), ("<", &range.to)] {
                if let Some(bound) = bound {
                    let literal = literal::of(bound.cell());
                    let literal = literal.ok_or_else(|| Error::bug("a bound without an order"))?;
                    within.push(format!("{column} {sign} {literal}"));
                }
            }
        }
        table.range = within.join(" AND ");
        // The last statement takes the snapshot. The table is not locked before it is read: who waits for
        // it would be waited for by the applier. Unlike the applier's statements these
        // are about as many rows as the table may have, and there are statistics.
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL lock_timeout = '{LOCK_WAIT}'; \
             SET LOCAL work_mem = '64MB'; SET LOCAL jit = off; \
             SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on; \
             SET LOCAL enable_seqscan = on; \
             SELECT 1"
        );
        let client = &self.connection.client;
        table.files = source::files(client, &[table.oid]).await?;
        client.batch_execute(&begin).await.map_err(convert)
    }

    async fn expect(&mut self, rows: &RowBatch) -> Result<()> {
        let table = self.table.as_mut();
        let table = table.ok_or_else(|| Error::bug("no table was made ready"))?;
        let copy = format!("COPY {} FROM STDIN (FORMAT binary)", table.stage);
        let client = &self.connection.client;
        let sink = client.copy_in::<_, Bytes>(copy.as_str()).await;
        let mut sink = Box::pin(sink.map_err(convert)?);
        let width = i16::try_from(1 + table.encoder.width());
        let width = width.map_err(|_| Error::bug("too many columns"))?;
        let mut bytes = HEADER.to_vec();
        for row in rows.iter() {
            bytes.extend_from_slice(&width.to_be_bytes());
            bytes.extend_from_slice(&8_i32.to_be_bytes());
            bytes.extend_from_slice(&table.expected.to_be_bytes());
            table.encoder.row(row, &mut bytes)?;
            table.expected += 1;
        }
        bytes.extend_from_slice(TRAILER);
        send(&mut sink, bytes).await.map_err(convert)?;
        sink.as_mut().finish().await.map_err(convert)?;
        Ok(())
    }

    async fn compare(&mut self, limit: usize) -> Result<Compared> {
        let (client, table) = self.ready()?;
        let lock = format!("LOCK TABLE {} IN ACCESS SHARE MODE", table.name);
        client.batch_execute(&lock).await.map_err(convert)?;
        if source::files(client, &[table.oid]).await? != table.files {
            return Err(Error::transient(
                "the table was rewritten while it was compared",
            ));
        }
        if table.key.is_empty() {
            return table.by_rows(client).await;
        }
        let analyze = format!("ANALYZE {}", table.stage);
        client.batch_execute(&analyze).await.map_err(convert)?;
        let (missing, changed) = table.count(client).await?;
        let there = table.there(client).await?;
        let found = number(table.expected).saturating_sub(missing);
        let mut compared = Compared {
            there,
            changed,
            missing,
            extra: there.saturating_sub(found),
            ..Compared::default()
        };
        if changed + missing > 0 {
            table.wrong(client, limit, &mut compared).await?;
        }
        if compared.extra > 0 {
            let left = limit.saturating_sub(compared.differences.len());
            table.extra(client, left, &mut compared).await?;
        }
        Ok(compared)
    }

    async fn close(&mut self) -> Result<()> {
        let client = &self.connection.client;
        client.batch_execute("ROLLBACK").await.map_err(convert)
    }
}
