//! Rows as row events: a MariaDB's own `BINLOG` statement, by which row events of a log are replayed.
//!
//! It costs the server about half of what a statement of many rows does: nothing is parsed but one long
//! literal, a row is found by its primary key, and the values lie as the server keeps them. It is
//! what the server's own replicas do, and therefore asks for a right of its own, `BINLOG REPLAY`; where
//! the task's user does not have it, rows go as files and statements.
//!
//! The server believes a row event. It neither checks what a value may be nor runs triggers, and it knows
//! columns by their order only. So:
//!
//! - Whatever is not plainly a value of the column is refused here ([`image`]), and such rows go as statements,
//!   which stay the only truth of what fits.
//! - Tables with triggers, generated columns, `CHECK`s or columns that are not mapped are written by
//!   statements ([`Layout::of`]).
//! - What we know of a table is compared with the server's `SHOW CREATE TABLE` in the very
//!   transaction that writes, behind a lock that keeps others from altering it ([`Events::look`]).
//! - A row to change or remove that is not there, and a row to insert that is, is an error, if the
//!   server does not forgive it (`slave_exec_mode`). After any error all goes back to a savepoint
//!   and the same rows go as statements, which find out and count what is there.
//!
//! Foreign keys and unique keys are InnoDB's and hold for row events as for statements.
//!
//! <https://mariadb.com/kb/en/binlog/>, <https://mariadb.com/kb/en/2-binlog-event-header/>,
//! <https://mariadb.com/kb/en/table_map_event/>, <https://mariadb.com/kb/en/rows_event_v1v2/>

mod image;
pub(super) mod layout;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::future;
use mysql_async::prelude::Queryable;
use mysql_async::{Error as My, Row};
use thalweg_core::Result;
use thalweg_core::value::{CellRef, RowBatch, RowRef};

use self::layout::Layout;
use super::error::{convert, convert_for};
use super::session::{Session, text};
use super::statement::LONG_BYTES;
use super::table::Table;

/// Fewer rows are sent as statements: a look at the table costs more than is saved.
const ROWS_MIN: usize = 256;
/// Events of one statement take about this many bytes.
const EVENTS_BYTES: usize = 512 << 10;
/// A statement with all that is around the events; the longest row that is taken is shorter.
const STATEMENT_BYTES: usize = 1 << 20;
/// Rows that are written without a pause.
const PAUSE_ROWS: usize = 64;
/// After rows of a table were refused, so many times its rows go as statements at once: whatever it was
/// may be in the next batch as well, and the server writes a line about each into its error log.
const PAUSE_TIMES: u32 = 64;
/// So many times where a table cannot be written by events at all.
const RARELY: u32 = 1_000;

/// Server errors after which the transaction is gone or has to be tried again as a whole: lock wait,
/// deadlock, killed, shutting down.
const WHOLE: [u16; 4] = [1205, 1213, 1317, 1053];

/// What a connection knows of row events.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// The server's id, once it has said that it takes row events. `None`: not asked yet.
    server: Option<Option<u32>>,
    /// Per table, by its quoted name.
    known: HashMap<String, Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// How the table was made when [`Known::layout`] was found.
    made: String,
    /// `None`: its rows cannot go as events.
    layout: Option<Arc<Layout>>,
    /// So many times statements are used.
    pause: u32,
}

/// What is written of one row.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item {
    Insert(usize),
    /// The row with the key of the second is changed to it.
    Update(usize),
    /// The row with its key goes.
    Delete(usize),
}

impl Events {
    /// This session's rows go as statements: its foreign keys are not checked, and an event's are.
    pub(super) fn refuse(&mut self) {
        self.server = Some(None);
    }
}

impl Item {
    pub(super) fn row(self) -> usize {
        match self {
            Item::Insert(row) | Item::Update(row) | Item::Delete(row) => row,
        }
    }

    /// `WRITE_ROWS_EVENT_V1`, `UPDATE_ROWS_EVENT_V1`, `DELETE_ROWS_EVENT_V1`.
    fn event(self) -> u8 {
        match self {
            Item::Insert(_) => 23,
            Item::Update(_) => 24,
            Item::Delete(_) => 25,
        }
    }
}

/// Writes rows as events, in order, in the open transaction. `false`: none of them, and they have to go as
/// statements.
pub(super) async fn write(
    session: &mut Session,
    table: &Table,
    rows: &RowBatch,
    items: &[Item],
) -> Result<bool> {
    let rows = |item: &Item| rows.row(item.row());
    send(session, table, items, rows, |item| *item).await
}

/// Inserts rows as events; as [`write`].
pub(super) async fn insert(
    session: &mut Session,
    table: &Table,
    rows: &[RowRef<'_>],
) -> Result<bool> {
    send(session, table, rows, |row| *row, |_| Item::Insert(0)).await
}

async fn send<'r, T>(
    session: &mut Session,
    table: &Table,
    items: &[T],
    row: impl Fn(&T) -> RowRef<'r>,
    item: impl Fn(&T) -> Item,
) -> Result<bool> {
    let takes = items.len() >= ROWS_MIN
        && session.facts.flavor.maria
        && session.facts.flavor.version >= (10, 5, 0)
        && session.facts.packet_max > 2 * STATEMENT_BYTES
        && items.iter().all(|item| row(item).bytes() < LONG_BYTES);
    if !takes || paused(session, table) {
        return Ok(false);
    }
    let Some(server) = server(session).await? else {
        return Ok(false);
    };
    let Some(layout) = look(session, table).await? else {
        session.run("RELEASE SAVEPOINT thalweg_event").await?;
        return Ok(false);
    };
    let mut writer = Writer::new(&layout, server);
    let mut waiting = items.iter();
    let mut ready = writer.next(&mut waiting, &row, &item).await;
    loop {
        let halves = match ready {
            Ok(Some(halves)) => halves,
            Ok(None) => break,
            Err(Refused) => return back(session, table).await,
        };
        let send = replay(session, halves);
        let (sent, following) = future::join(send, writer.next(&mut waiting, &row, &item)).await;
        match sent {
            Ok(()) => {}
            Err(My::Server(error)) if !WHOLE.contains(&error.code) => {
                tracing::debug!(table = table.name, code = error.code, "row events refused");
                return back(session, table).await;
            }
            Err(error) => return Err(convert_for(error, &table.target)),
        }
        ready = following;
    }
    session.run("RELEASE SAVEPOINT thalweg_event").await?;
    Ok(true)
}

/// Replays events that are given in two halves, for which `BINLOG` takes variables. A literal would cost the
/// server a look at each of its characters, a tenth of what it does with the rows; and it forgets the variables'
/// values by itself.
async fn replay(session: &mut Session, (first, second): Halves) -> std::result::Result<(), My> {
    let set = "SET @thalweg_event_1 = ?, @thalweg_event_2 = ?";
    session.conn().exec_drop(set, (first, second)).await?;
    let replay = "BINLOG @thalweg_event_1, @thalweg_event_2";
    session.conn().query_drop(replay).await
}

/// Takes back what was written; the same rows go as statements, and so do the next ones.
async fn back(session: &mut Session, table: &Table) -> Result<bool> {
    let known = session.events.known.get_mut(&table.name);
    if let Some(known) = known {
        known.pause = PAUSE_TIMES;
    }
    let back = "ROLLBACK TO SAVEPOINT thalweg_event";
    session.run(back).await.map(|()| false)
}

fn paused(session: &mut Session, table: &Table) -> bool {
    let known = session.events.known.get_mut(&table.name);
    let paused = known.filter(|known| known.pause > 0);
    paused.is_some_and(|known| {
        known.pause -= 1;
        true
    })
}

/// The server's id, if this session may replay row events. The first time the server is told how
/// they look, which it wants to be told once.
async fn server(session: &mut Session) -> Result<Option<u32>> {
    if let Some(known) = session.events.server {
        return Ok(known);
    }
    let mode: Option<(String, u32)> = session
        .first("SELECT @@GLOBAL.slave_exec_mode, @@server_id")
        .await?;
    let mode = mode.filter(|(mode, _)| mode == "STRICT");
    let mut found = None;
    if let Some((_, id)) = mode {
        let format = halves(&layout::format_description(id));
        match replay(session, format).await {
            Ok(()) => found = Some(id),
            // No right, most of all.
            Err(My::Server(_)) => {}
            Err(error) => return Err(convert(error)),
        }
    }
    if found.is_some() {
        // The statement would be written into the server's log beside its rows; who may not say so has
        // a longer log.
        let quiet = "SET SESSION binlog_annotate_row_events = 0";
        match session.conn().query_drop(quiet).await {
            Ok(()) | Err(My::Server(_)) => {}
            Err(error) => return Err(convert(error)),
        }
    }
    session.events.server = Some(found);
    Ok(found)
}

/// Sets the savepoint, keeps others from altering the table, and gives how its rows lie.
async fn look(session: &mut Session, table: &Table) -> Result<Option<Arc<Layout>>> {
    let name = &table.target.name;
    let sql = format!(
        "SAVEPOINT thalweg_event; SELECT 1 FROM {table} LIMIT 0; SHOW CREATE TABLE {table}; \
         SELECT COUNT(*) FROM information_schema.triggers \
         WHERE event_object_schema = {} AND event_object_table = {}",
        text(&name.schema),
        text(&name.name),
        table = table.name,
    );
    let mut made = String::new();
    let asked: std::result::Result<(), My> = async {
        let mut answers = session.conn().query_iter(sql).await?;
        while !answers.is_empty() {
            // Of the table: its name and how it is made. Of the triggers: their number.
            for row in answers.collect::<Row>().await? {
                let told = row.get_opt::<String, _>(row.len() - 1);
                made.push_str(&told.and_then(std::result::Result::ok).unwrap_or_default());
                made.push('\n');
            }
        }
        answers.drop_result().await
    }
    .await;
    asked.map_err(|error| convert_for(error, &table.target))?;
    let made = without_counter(&made);
    let known = session.events.known.get(&table.name);
    if let Some(known) = known.filter(|known| known.made == made) {
        return Ok(known.layout.clone());
    }
    let layout = match made.ends_with("\n0\n") {
        true => Layout::of(session, table).await?.map(Arc::new),
        false => None,
    };
    let known = Known {
        made,
        pause: if layout.is_some() { 0 } else { RARELY },
        layout: layout.clone(),
    };
    session.events.known.insert(table.name.clone(), known);
    Ok(layout)
}

/// How a table is made without the next value of its counter, which moves with every row.
fn without_counter(made: &str) -> String {
    let counter = made.rfind("\n) ENGINE=").and_then(|options| {
        let at = options + made.get(options..)?.find(" AUTO_INCREMENT=")?;
        let digits = at + " AUTO_INCREMENT=".len();
        let rest = made.get(digits..)?;
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        Some([made.get(..at)?, rest].concat())
    });
    counter.unwrap_or_else(|| made.to_owned())
}

/// Events as `BINLOG` takes them, in base64.
type Halves = (Vec<u8>, Vec<u8>);

fn halves(events: &[u8]) -> Halves {
    // Three bytes are four characters: neither half ends within them.
    let (first, second) = events.split_at(events.len() / 6 * 3);
    (
        BASE64.encode(first).into_bytes(),
        BASE64.encode(second).into_bytes(),
    )
}

/// A value is not plainly one of its column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused;

/// From rows to events.
#[derive(Debug)]
pub(super) struct Writer<'l> {
    layout: &'l Layout,
    server: u32,
    events: Vec<u8>,
    /// The rows event that is open: its type, and where it begins.
    open: Option<(u8, usize)>,
    now: u32,
}

impl<'l> Writer<'l> {
    pub(super) fn new(layout: &'l Layout, server: u32) -> Self {
        Writer {
            layout,
            server,
            events: Vec::with_capacity(EVENTS_BYTES + LONG_BYTES),
            open: None,
            now: 0,
        }
    }

    /// The events for the rows that come next; `None` when none is left.
    async fn next<'r, T>(
        &mut self,
        waiting: &mut std::slice::Iter<'_, T>,
        row: &impl Fn(&T) -> RowRef<'r>,
        item: &impl Fn(&T) -> Item,
    ) -> std::result::Result<Option<Halves>, Refused> {
        if waiting.as_slice().is_empty() {
            return Ok(None);
        }
        let mut cells: Vec<CellRef<'r>> = Vec::with_capacity(self.layout.width());
        let mut pause = PAUSE_ROWS;
        for one in waiting.by_ref() {
            cells.clear();
            cells.extend(row(one).cells());
            if self.put(item(one), &cells)? {
                break;
            }
            pause -= 1;
            if pause == 0 {
                pause = PAUSE_ROWS;
                // What is being sent goes on.
                tokio::task::yield_now().await;
            }
        }
        Ok(Some(self.finish()))
    }

    /// Adds a row; whether there are enough for a statement.
    pub(super) fn put(
        &mut self,
        item: Item,
        cells: &[CellRef<'_>],
    ) -> std::result::Result<bool, Refused> {
        let ty = item.event();
        if self.open.is_none_or(|(open, _)| open != ty) {
            match self.open {
                Some((_, at)) => self.end(at),
                None => self.map(),
            }
            let at = self.begin(ty);
            self.layout.put_rows_header(
                matches!(item, Item::Update(_)),
                matches!(item, Item::Delete(_)),
                &mut self.events,
            );
            self.open = Some((ty, at));
        }
        if !matches!(item, Item::Insert(_)) {
            self.layout.put_key(cells, &mut self.events)?;
        }
        if !matches!(item, Item::Delete(_)) {
            self.layout.put_row(cells, &mut self.events)?;
        }
        Ok(self.events.len() >= EVENTS_BYTES)
    }

    /// The events of the rows that were put; the next begin.
    pub(super) fn finish(&mut self) -> Halves {
        if let Some((_, at)) = self.open.take() {
            self.end(at);
            // STMT_END_F: the table is closed behind this event.
            if let Some(flags) = self.events.get_mut(at + layout::FLAGS_AT) {
                *flags |= 1;
            }
        }
        let halves = halves(&self.events);
        self.events.clear();
        halves
    }

    /// Appends the event that says what the rows behind it have.
    fn map(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.now = now.map_or(0, |now| u32::try_from(now.as_secs()).unwrap_or(0));
        let at = self.begin(19);
        self.layout.put_map(&mut self.events);
        self.end(at);
    }

    /// Begins an event: a header whose length is not known yet.
    fn begin(&mut self, ty: u8) -> usize {
        let at = self.events.len();
        layout::put_header(ty, self.now, self.server, &mut self.events);
        at
    }

    /// Puts the length into an event's header.
    fn end(&mut self, at: usize) {
        let len = u32::try_from(self.events.len() - at).unwrap_or(u32::MAX);
        if let Some(place) = self.events.get_mut(at + 9..at + 13) {
            place.copy_from_slice(&len.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_counter_is_left_out_of_how_a_table_is_made() {
        let made = |counter: &str| {
            format!(
                "CREATE TABLE `t` (\n  `a` int COMMENT ' AUTO_INCREMENT=9'\n) ENGINE=InnoDB{counter} DEFAULT\n0\n"
            )
        };
        assert_eq!(without_counter(&made(" AUTO_INCREMENT=17")), made(""));
        assert_eq!(without_counter(&made("")), made(""));
        assert_eq!(without_counter("\n1\n"), "\n1\n");
    }
}
