//! Statements in the log: what they mean for the group and for our tables.

mod altered;

use std::cell::Cell;

use thalweg_core::change::{Change, ChangeKind};
use thalweg_core::{Error, Result};

use super::decode::{Began, Decoder, Step, stop};
use crate::ddl::{self, Effect};
use crate::wire::event::{self, Header};

impl Decoder {
    pub(super) fn query(&mut self, header: &Header, body: &[u8], second: bool) -> Result<Step> {
        let (db, sql) = event::query(body)?;
        let (db, sql) = (String::from_utf8_lossy(db), String::from_utf8_lossy(sql));
        if second {
            return Ok(Step::Nothing);
        }
        if self.open.is_none() {
            // A server without GTIDs: the group begins here.
            self.begin(header, true, Began::Nameless)?;
        }
        let effect = self.classify(&db, &sql);
        let at = self.here();
        let lenient = self.playing.is_some();
        // Of a recording whose tables are learned from the log, all forms are.
        let follows = self.playing.as_ref().is_none_or(|p| p.learn.is_none());
        let Some(open) = self.open.as_mut() else {
            return Ok(Step::Nothing);
        };
        match effect {
            Effect::Begin => open.single = false,
            Effect::XaStart => {
                open.single = false;
                // Only MariaDB, which names the transaction, has told whether it is to be prepared.
                open.later |= !matches!(open.began, Began::Maria(..));
            }
            Effect::Commit => return self.commit(),
            Effect::Rollback => {
                if open.touched {
                    return Err(stop(format!(
                        "the group at {at} is rolled back in part: it mixes transactional and other \
                         tables, which is not built"
                    )));
                }
                if sql.trim().eq_ignore_ascii_case("ROLLBACK") {
                    return self.commit();
                }
            }
            Effect::XaCommit => return self.xa_commit(ddl::xid(&sql)),
            Effect::XaRollback => {
                let xid = open.xid.clone().or_else(|| ddl::xid(&sql));
                if let Some(xid) = xid {
                    self.place.xa.remove(&xid);
                }
                return self.commit();
            }
            Effect::Truncate(table) => {
                open.touched = true;
                self.changes.changes.push(Change {
                    table,
                    kind: ChangeKind::Truncate,
                    before: None,
                    after: None,
                    // InnoDB truncates no table that another references, unless they are off.
                    unchecked: true,
                });
                return self.commit();
            }
            _ if open.undone => return self.commit(),
            Effect::Alter(table, kind, alter) if follows => {
                self.alter(table, kind, alter, event::strict(body), &at)?;
                return self.commit();
            }
            Effect::Schema(..) | Effect::Alter(..) | Effect::Statement(..) if lenient => {
                // What a `CREATE TABLE … SELECT` of MySQL begins goes on with its rows.
                if ddl::starts_transaction(&sql) {
                    open.single = false;
                }
                if open.single {
                    return self.commit();
                }
            }
            Effect::Schema(kind, table) => return Err(self.refused(kind, table, &at, "")),
            Effect::Alter(..) => return Err(Error::bug("an ALTER TABLE that nobody read")),
            Effect::Statement(kind, table) => return Err(self.statement(kind, table, &at)),
            Effect::Nothing => {
                if open.single {
                    return self.commit();
                }
            }
        }
        Ok(Step::Nothing)
    }

    /// Rows changed by a statement: what it is, and the table it names.
    fn statement(&self, kind: &str, table: Option<usize>, at: &str) -> Error {
        let message = match table {
            Some(table) => format!(
                "{kind} on {} at {at} is logged as a statement, not as rows",
                self.table_name(table)
            ),
            None => format!(
                "{kind} at {at} is logged as a statement: by a view, trigger or function it may \
                 change a table of the task"
            ),
        };
        stop(message).with_hint("SET GLOBAL binlog_format = 'ROW'; then reconnect all writers")
    }

    /// An event of a logged `LOAD DATA`.
    pub(super) fn load_data(&mut self) -> Result<Step> {
        if self.playing.is_some() {
            return Ok(Step::Nothing);
        }
        Err(self.statement("LOAD DATA", None, &self.here()))
    }

    /// What a statement means, with the names of our tables.
    fn classify(&self, db: &str, sql: &str) -> Effect {
        let garbled = |text: &str| text.contains(char::REPLACEMENT_CHARACTER);
        let guessed = Cell::new(false);
        let find = |schema: &str, name: &str| {
            if name.is_empty() {
                return self
                    .names
                    .iter()
                    .find_map(|((s, _), i)| (s == schema.as_bytes()).then_some(*i));
            }
            if garbled(schema) || garbled(name) {
                // Sent in a character set other than UTF-8: it may be any name that needs one.
                let hit = self
                    .names
                    .iter()
                    .find_map(|((s, n), i)| (!s.is_ascii() || !n.is_ascii()).then_some(*i));
                guessed.set(guessed.get() || hit.is_some());
                return hit;
            }
            self.names
                .get(&(schema.as_bytes().to_vec(), name.as_bytes().to_vec()))
                .copied()
        };
        match ddl::classify(db, sql, &find) {
            Effect::Truncate(table) if guessed.get() => Effect::Schema("TRUNCATE", table),
            effect => effect,
        }
    }
}
