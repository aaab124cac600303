//! Comparing what is expected in a table with what is there, inside the server.
//!
//! Expected rows are inserted into a temporary table that was made from the table's own columns, and
//! joined by the key. Text is compared by its bytes, so that no collation makes two values equal.
//! `START TRANSACTION WITH CONSISTENT SNAPSHOT` gives the table at one moment; a temporary table may be
//! written in it.

use std::sync::Arc;

use async_trait::async_trait;
use mysql_async::prelude::Queryable;
use mysql_async::{Row, Value};
use thalweg_core::plan::Plan;
use thalweg_core::ports::{Compared, Comparer, Difference, Differs};
use thalweg_core::range::KeyRange;
use thalweg_core::schema::{ColumnSchema, ColumnType};
use thalweg_core::value::{CellRef, RowBatch};
use thalweg_core::{Error, Kind, Result};

use super::bulk;
use super::error::convert;
use super::session::{Session, quote};
use super::table::Table;
use crate::snapshot;
use crate::split::condition;
use crate::wire::cells::{self, Meaning};

pub(super) struct MySqlComparer {
    session: Session,
    plan: Arc<Plan>,
    /// The table that was made ready last.
    ready: Option<Ready>,
}

/// What is needed of one table.
struct Ready {
    target: usize,
    /// Writes to the temporary table.
    stage: Table,
    /// Quoted.
    name: String,
    /// Per mapped column.
    columns: Vec<Column>,
    expected: u64,
    /// The condition that a row of the table lies in the range.
    range: String,
}

struct Column {
    /// Quoted.
    name: String,
    /// Whether its values are compared as octets.
    octets: bool,
    meaning: Meaning,
    ty: ColumnType,
}

impl Column {
    /// The value of a table's alias, as it is compared.
    fn value(&self, of: char) -> String {
        match self.octets {
            true => format!("CAST({of}.{} AS BINARY)", self.name),
            false => format!("{of}.{}", self.name),
        }
    }

    fn same(&self) -> String {
        format!("{} <=> {}", self.value('s'), self.value('t'))
    }
}

impl MySqlComparer {
    pub(super) async fn new(mut session: Session, plan: Arc<Plan>) -> Result<Self> {
        // Its rows go into temporary tables, which no event does.
        session.events.refuse();
        // Groups of long values must not end where sorting does.
        let pins = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ";
        session.run(pins).await?;
        session.run("SET SESSION max_sort_length = 8388608").await?;
        unlogged(&mut session).await?;
        Ok(MySqlComparer {
            session,
            plan,
            ready: None,
        })
    }
}

impl Ready {
    async fn new(session: &mut Session, plan: &Plan, target: usize) -> Result<Self> {
        let table = plan.targets.get(target);
        let table = table.ok_or_else(|| Error::bug("no such target"))?;
        let mut stage = Table::new(table, session.facts.flavor)?;
        let database = quote(&table.name.schema);
        let name = std::mem::replace(&mut stage.name, format!("{database}.`_thalweg_verify`"));
        // As they are: a plan may have been made before the table was.
        let described = session.describe(&table.name).await?;
        let described = described.ok_or_else(|| gone(&table.name.to_string()))?;
        let find = |column: &ColumnSchema| {
            let mut there = described.columns.iter();
            let found = there.find(|there| there.name == column.name);
            found.ok_or_else(|| gone(&format!("{}.{}", table.name, column.name)))
        };
        let columns = table.columns.iter().map(find);
        let columns: Vec<&ColumnSchema> = columns.collect::<Result<_>>()?;
        let columns = columns.into_iter().map(|column| Column {
            name: quote(&column.name),
            octets: !matches!(
                column.ty,
                ColumnType::Bool
                    | ColumnType::Int { .. }
                    | ColumnType::Float32 { .. }
                    | ColumnType::Float64 { .. }
                    | ColumnType::Decimal { .. }
                    | ColumnType::Date { .. }
                    | ColumnType::Time { .. }
                    | ColumnType::Timestamp { .. }
                    | ColumnType::Instant { .. }
                    | ColumnType::Bits { .. }
                    | ColumnType::Uuid
            ),
            meaning: cells::meaning(column).unwrap_or(Meaning::Plain),
            ty: column.ty.clone(),
        });
        let ready = Ready {
            target,
            name,
            columns: columns.collect(),
            expected: 0,
            range: "TRUE".to_owned(),
            stage,
        };
        session
            .run(&format!(
                "DROP TEMPORARY TABLE IF EXISTS {}",
                ready.stage.name
            ))
            .await?;
        let make = format!(
            "CREATE TEMPORARY TABLE {} (thalweg_n BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY) \
             ENGINE = InnoDB SELECT {} FROM {} LIMIT 0",
            ready.stage.name,
            ready.stage.list(),
            ready.name
        );
        match session.run(&make).await {
            Err(error) if error.kind() == Kind::Config => {
                return Err(error.with_hint(format!(
                    "comparing takes a temporary table: GRANT CREATE TEMPORARY TABLES ON {database}.* TO \
                     the user"
                )));
            }
            made => made?,
        }
        session.run("COMMIT").await?;
        Ok(ready)
    }

    fn key(&self) -> impl Iterator<Item = &Column> {
        let key = self.stage.target.key.iter();
        key.filter_map(|column| self.columns.get(*column))
    }

    /// The condition that an expected row and one of the table have one key, as the key's index has it.
    fn same_key(&self) -> String {
        let pairs = self.key().map(|c| format!("s.{0} = t.{0}", c.name));
        pairs.collect::<Vec<_>>().join(" AND ")
    }

    fn same(&self) -> String {
        let pairs: Vec<String> = self.columns.iter().map(Column::same).collect();
        pairs.join(" AND ")
    }

    /// What the columns are read as.
    fn read(&self, of: char) -> String {
        let read = self.columns.iter();
        let read = read.map(|c| snapshot::read(&format!("{of}.{}", c.name), &c.meaning));
        read.collect::<Vec<_>>().join(", ")
    }

    async fn count(&self, session: &mut Session, sql: &str) -> Result<(u64, u64)> {
        let found: Option<(u64, u64)> = session.first(sql).await?;
        found.ok_or_else(|| Error::bug("a count without an answer").context(&self.name))
    }

    /// Reads rows: `marks` first, if they have any, then so many of the columns.
    async fn differences(
        &self,
        session: &mut Session,
        sql: &str,
        differs: Differs,
        into: &mut Compared,
    ) -> Result<()> {
        let found: Vec<Row> = session.conn().exec(sql, ()).await.map_err(convert)?;
        for row in found {
            let mut values = row
                .unwrap_raw()
                .into_iter()
                .map(|v| v.unwrap_or(Value::NULL));
            let marks = match differs {
                Differs::Changed => values.next(),
                _ => None,
            };
            let columns = match marks {
                Some(Value::Bytes(marks)) => marks
                    .iter()
                    .enumerate()
                    .filter(|(_, mark)| **mark == b'1')
                    .map(|(column, _)| column)
                    .collect(),
                _ => Vec::new(),
            };
            for (index, column) in self.columns.iter().enumerate() {
                if differs == Differs::Extra && !self.stage.target.key.contains(&index) {
                    into.rows.push(CellRef::Absent);
                    continue;
                }
                let value = values.next().unwrap_or(Value::NULL);
                snapshot::push(&mut into.rows, &column.meaning, &column.ty, &value)?;
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

    /// A table without a key: how often each row is there.
    async fn by_rows(&self, session: &mut Session) -> Result<Compared> {
        let values = |of: char| {
            let values = self.columns.iter().enumerate();
            let values = values.map(|(n, c)| format!("{} AS c{n}", c.value(of)));
            values.collect::<Vec<_>>().join(", ")
        };
        let names: Vec<String> = (0..self.columns.len()).map(|n| format!("c{n}")).collect();
        let (missing, extra) = self
            .count(
                session,
                &format!(
                    "SELECT CAST(COALESCE(SUM(GREATEST(w, 0)), 0) AS UNSIGNED), \
                     CAST(COALESCE(SUM(GREATEST(-w, 0)), 0) AS UNSIGNED) FROM (SELECT SUM(w) AS w \
                     FROM (SELECT {}, 1 AS w FROM {} s UNION ALL SELECT {}, -1 FROM {} t) u \
                     GROUP BY {}) v",
                    values('s'),
                    self.stage.name,
                    values('t'),
                    self.name,
                    names.join(", ")
                ),
            )
            .await?;
        Ok(Compared {
            there: self.there(session).await?,
            missing,
            extra,
            ..Compared::default()
        })
    }

    async fn there(&self, session: &mut Session) -> Result<u64> {
        let sql = format!("SELECT COUNT(*), 0 FROM {} WHERE {}", self.name, self.range);
        Ok(self.count(session, &sql).await?.0)
    }

    async fn by_key(&self, session: &mut Session, limit: usize) -> Result<Compared> {
        let (stage, name) = (&self.stage.name, &self.name);
        let (found, changed) = self
            .count(
                session,
                &format!(
                    "SELECT COUNT(*), CAST(COALESCE(SUM(NOT ({})), 0) AS UNSIGNED) \
                     FROM {stage} s STRAIGHT_JOIN {name} t ON {}",
                    self.same(),
                    self.same_key()
                ),
            )
            .await?;
        let there = self.there(session).await?;
        let mut compared = Compared {
            there,
            changed,
            missing: self.expected.saturating_sub(found),
            extra: there.saturating_sub(found),
            ..Compared::default()
        };
        let all = self.read('s');
        if changed > 0 {
            let marks = self.columns.iter();
            let marks: Vec<String> = marks
                .map(|c| format!("IF({}, '0', '1')", c.same()))
                .collect();
            let sql = format!(
                "SELECT CONCAT({}), {all} FROM {stage} s STRAIGHT_JOIN {name} t ON {} \
                 WHERE NOT ({}) ORDER BY s.thalweg_n LIMIT {limit}",
                marks.join(", "),
                self.same_key(),
                self.same()
            );
            self.differences(session, &sql, Differs::Changed, &mut compared)
                .await?;
        }
        let left = |compared: &Compared| limit.saturating_sub(compared.differences.len());
        if compared.missing > 0 {
            let sql = format!(
                "SELECT {all} FROM {stage} s WHERE NOT EXISTS (SELECT 1 FROM {name} t WHERE {}) \
                 ORDER BY s.thalweg_n LIMIT {}",
                self.same_key(),
                left(&compared)
            );
            self.differences(session, &sql, Differs::Missing, &mut compared)
                .await?;
        }
        if compared.extra > 0 {
            let read: Vec<String> = self
                .key()
                .map(|c| snapshot::read(&format!("t.{}", c.name), &c.meaning))
                .collect();
            let names = |of: char| {
                let names = self.key().map(|c| format!("{of}.{}", c.name));
                names.collect::<Vec<_>>().join(", ")
            };
            // The list of keys is made once, with an index; it has no NULL.
            let sql = format!(
                "SELECT {} FROM {name} t WHERE {} AND ({}) NOT IN (SELECT {} FROM {stage} s) LIMIT {}",
                read.join(", "),
                self.range,
                names('t'),
                names('s'),
                left(&compared)
            );
            self.differences(session, &sql, Differs::Extra, &mut compared)
                .await?;
        }
        Ok(compared)
    }
}

/// Keeps what is compared out of the server's log. Where that has rows, changes of temporary tables
/// never stand in it; where it has statements, they do.
async fn unlogged(session: &mut Session) -> Result<()> {
    let logged = "SELECT @@log_bin AND @@binlog_format <> 'ROW'";
    if session.first::<u8>(logged).await? != Some(1) {
        return Ok(());
    }
    let off = session.run("SET SESSION sql_log_bin = 0").await;
    off.map_err(|error| {
        Error::config("what is compared would be written to the target's log, which has statements")
            .with_hint(
                "SET GLOBAL binlog_format = 'ROW', or GRANT BINLOG ADMIN ON *.* TO the user (before \
                 MariaDB 10.5 and on MySQL 5.7: SUPER; on MySQL 8: SYSTEM_VARIABLES_ADMIN)",
            )
            .caused_by(error)
    })
}

fn gone(what: &str) -> Error {
    Error::schema(format!("{what} is not there any more"))
        .with_hint("run the task again, so that it reads the table again")
}

#[async_trait]
impl Comparer for MySqlComparer {
    async fn prepare(&mut self, target: usize) -> Result<()> {
        if self
            .ready
            .as_ref()
            .is_none_or(|ready| ready.target != target)
        {
            self.ready = Some(Ready::new(&mut self.session, &self.plan, target).await?);
        }
        Ok(())
    }

    async fn open(&mut self, range: Option<&KeyRange>) -> Result<()> {
        let ready = self.ready.as_mut();
        let ready = ready.ok_or_else(|| Error::bug("no table was made ready"))?;
        ready.expected = 0;
        ready.range = match range {
            None => "TRUE".to_owned(),
            Some(range) => {
                let column = ready.stage.target.columns.get(range.column);
                condition(
                    column.ok_or_else(|| Error::bug("a range over no column"))?,
                    range,
                )?
            }
        };
        self.session
            .run("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            .await
    }

    async fn expect(&mut self, rows: &RowBatch) -> Result<()> {
        let ready = self.ready.as_mut();
        let ready = ready.ok_or_else(|| Error::bug("no table was made ready"))?;
        ready.expected += bulk::insert(&mut self.session, &ready.stage, rows.iter()).await?;
        Ok(())
    }

    async fn compare(&mut self, limit: usize) -> Result<Compared> {
        let ready = self.ready.as_ref();
        let ready = ready.ok_or_else(|| Error::bug("no table was made ready"))?;
        let session = &mut self.session;
        if ready.stage.target.key.is_empty() {
            return ready.by_rows(session).await;
        }
        // Text comes as it is stored, as the snapshot's decoders have it.
        session
            .run("SET SESSION character_set_results = NULL")
            .await?;
        let compared = ready.by_key(session, limit).await;
        session
            .run("SET SESSION character_set_results = utf8mb4")
            .await?;
        compared
    }

    async fn close(&mut self) -> Result<()> {
        let ready = self.ready.as_ref();
        let ready = ready.ok_or_else(|| Error::bug("no table was made ready"))?;
        let empty = format!("TRUNCATE TABLE {}", ready.stage.name);
        // Nothing else was written, and a rollback would undo row by row.
        self.session.run("COMMIT").await?;
        self.session.run(&empty).await
    }
}
