//! Cutting the log into pieces: whole groups where that is easy to see, and everything else as it comes.
//!
//! A plain group begins with an ordinary GTID and ends with XID or `COMMIT`; between them are table maps,
//! rows and notes only. Whoever has no table in it need not read it: at its end its position is behind the
//! group and nothing else is changed. All else (definitions, XA, statements, files that begin and end,
//! heartbeats, a group too large to be held) is for everybody, event by event, as on a dump of one's own;
//! so nothing here has to know what it means, or where it ends but at the next GTID.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use thalweg_core::Result;

use super::cursor::Cursor;
use crate::wire::event::{self, Header, ty};

/// A piece for everybody goes on when it has so many bytes, and a group with more is no plain one.
const PIECE: usize = 1 << 20;
/// What an event takes beside its body.
const EVENT: usize = size_of::<(Header, usize)>();
/// No more than this is made ready for the next piece.
const AGAIN: usize = 1 << 10;
/// The id and the flags that stand before the names in a table map.
const MAP_HEAD: usize = 8;

/// The GTIDs of the plain groups since the last piece that was for everybody. What was before, every
/// reader has taken for itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gtids {
    last: Option<(u32, (u32, u64))>,
    /// Of other domains; of the last one's too, but then it is an older one.
    others: Arc<BTreeMap<u32, (u32, u64)>>,
}

impl Gtids {
    fn add(&mut self, domain: u32, server: u32, seq: u64) {
        let was = self.last.replace((domain, (server, seq)));
        if let Some((other, gtid)) = was.filter(|(other, _)| *other != domain) {
            Arc::make_mut(&mut self.others).insert(other, gtid);
        }
    }

    /// The last of each domain, if it is taken in this order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, (u32, u64))> {
        let others = self.others.iter().map(|(domain, gtid)| (*domain, *gtid));
        others.chain(self.last)
    }
}

/// A place in the log, with what a position there consists of.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) cursor: Cursor,
    pub(crate) gtids: Gtids,
    /// Bytes of log up to here, from some place on.
    pub(crate) bytes: u64,
}

/// Events that belong together.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) before: Point,
    pub(super) after: Point,
    events: Vec<(Header, usize)>,
    data: Vec<u8>,
    /// Where in `data` the names of its tables are; `None`: it is for everybody.
    tables: Option<Vec<Range<usize>>>,
}

impl Piece {
    /// Header and body of an event.
    pub(super) fn event(&self, index: usize) -> Option<(&Header, &[u8])> {
        let (header, end) = self.events.get(index)?;
        let before = index.checked_sub(1).and_then(|i| self.events.get(i));
        let start = before.map_or(0, |(_, end)| *end);
        Some((header, self.data.get(start..*end)?))
    }

    /// The names of its tables, as [`name`] makes them; `None`: it is for everybody.
    pub(super) fn tables(&self) -> Option<impl Iterator<Item = &[u8]>> {
        let names = self.tables.as_ref()?.iter();
        Some(names.filter_map(|range| self.data.get(range.clone())))
    }

    /// What it takes of memory.
    pub(super) fn held(&self) -> usize {
        size_of::<Piece>() + self.data.capacity() + self.events.capacity() * EVENT
    }
}

/// A table's name as it stands in a table map.
pub(super) fn name(schema: &[u8], table: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(schema.len() + table.len() + 3);
    for part in [schema, table] {
        // No name has more than 64 characters.
        out.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(part);
        out.push(0);
    }
    out.pop();
    out
}

/// Where the names are in a table map.
fn names_in(body: &[u8]) -> Option<Range<usize>> {
    let schema = usize::from(*body.get(MAP_HEAD)?);
    let between = MAP_HEAD + 1 + schema + 1;
    let end = between + 1 + usize::from(*body.get(between)?);
    (end <= body.len()).then_some(MAP_HEAD..end)
}

/// What is being collected.
#[derive(Clone, Copy, Debug)]
enum Open {
    /// A plain group, so far: domain, server, sequence.
    Plain(u32, u32, u64),
    /// Whatever is for everybody.
    Rest,
}

/// Makes pieces of events.
#[derive(Debug)]
pub(super) struct Cutter {
    /// The place behind the last event.
    at: Point,
    /// The place before what is collected.
    before: Point,
    open: Open,
    events: Vec<(Header, usize)>,
    data: Vec<u8>,
    tables: Vec<Range<usize>>,
}

impl Cutter {
    /// Begins between two groups.
    pub(super) fn new(cursor: Cursor) -> Cutter {
        let at = Point {
            cursor,
            gtids: Gtids::default(),
            bytes: 0,
        };
        Cutter {
            before: at.clone(),
            at,
            open: Open::Rest,
            events: Vec::new(),
            data: Vec::new(),
            tables: Vec::new(),
        }
    }

    /// The place before what is not in a piece yet.
    pub(super) fn cut_at(&self) -> &Point {
        &self.before
    }

    /// Takes an event; pieces that are done by it go to `done`.
    pub(super) fn event(
        &mut self,
        header: &Header,
        body: &[u8],
        done: &mut Vec<Arc<Piece>>,
    ) -> Result<()> {
        if event::begins_group(header.ty) {
            if !self.events.is_empty() {
                self.open = Open::Rest;
                self.cut(done);
            }
            self.open = plain(header, body);
        }
        self.at.cursor.advance(header, body)?;
        if !header.artificial() {
            self.at.bytes += u64::from(header.size);
        }
        let mut ends = false;
        if matches!(self.open, Open::Plain(..)) {
            match header.ty {
                ty::MARIA_GTID | ty::ANNOTATE_ROWS => {}
                ty::TABLE_MAP => match names_in(body) {
                    Some(names) => {
                        let start = self.data.len();
                        let name = names.start + start..names.end + start;
                        let last = self.tables.last().and_then(|r| self.data.get(r.clone()));
                        if last != body.get(names) {
                            self.tables.push(name);
                        }
                    }
                    None => self.open = Open::Rest,
                },
                ty::XID => ends = true,
                ty::QUERY if matches!(event::query(body), Ok((_, b"COMMIT"))) => ends = true,
                other if event::form(other).is_some() => {}
                _ => self.open = Open::Rest,
            }
        }
        self.data.extend_from_slice(body);
        self.events.push((*header, self.data.len()));
        if self.data.len() + self.events.len() * EVENT > PIECE {
            self.open = Open::Rest;
            self.cut(done);
        } else if ends {
            self.cut(done);
        }
        Ok(())
    }

    /// Nothing more is there for the moment: what is for everybody does not wait.
    pub(super) fn pause(&mut self, done: &mut Vec<Arc<Piece>>) {
        if matches!(self.open, Open::Rest) && !self.events.is_empty() {
            self.cut(done);
        }
    }

    /// Whether nothing is collected.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    fn cut(&mut self, done: &mut Vec<Arc<Piece>>) {
        let tables = std::mem::take(&mut self.tables);
        let tables = match self.open {
            Open::Plain(domain, server, seq) => {
                self.at.gtids.add(domain, server, seq);
                Some(tables)
            }
            Open::Rest => {
                self.at.gtids = Gtids::default();
                None
            }
        };
        let before = std::mem::replace(&mut self.before, self.at.clone());
        let (mut events, mut data) = (Vec::new(), Vec::new());
        std::mem::swap(&mut events, &mut self.events);
        std::mem::swap(&mut data, &mut self.data);
        // The next one is likely to be as large; and what is kept is no larger than it must be.
        self.events.reserve(events.len().min(AGAIN));
        self.data.reserve(data.len().min(AGAIN));
        events.shrink_to_fit();
        data.shrink_to_fit();
        done.push(Arc::new(Piece {
            before,
            after: self.at.clone(),
            events,
            data,
            tables,
        }));
        self.open = Open::Rest;
    }
}

/// What a group's first event begins.
fn plain(header: &Header, body: &[u8]) -> Open {
    if header.ty == ty::MARIA_GTID
        && let Ok(gtid) = event::maria_gtid(body)
        && !gtid.standalone
        && !gtid.prepared
        && !gtid.undone
        && gtid.xid.is_none()
    {
        return Open::Plain(gtid.domain, header.server_id, gtid.seq);
    }
    Open::Rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events at the places where a log would have them.
    struct Log {
        cutter: Cutter,
        pos: u32,
        done: Vec<Arc<Piece>>,
    }

    impl Log {
        fn new() -> Log {
            let cursor = Cursor {
                file: "b.1".into(),
                born: 7,
                ..Cursor::new(1)
            };
            Log {
                cutter: Cutter::new(cursor),
                pos: 4,
                done: Vec::new(),
            }
        }

        fn event(&mut self, ty: u8, body: &[u8]) -> &mut Log {
            let size = u32::try_from(body.len()).unwrap() + 19;
            self.pos += size;
            let header = Header {
                timestamp: 0,
                ty,
                server_id: 1,
                size,
                log_pos: self.pos,
                flags: 0,
            };
            self.cutter.event(&header, body, &mut self.done).unwrap();
            self
        }

        /// Flag 1: one statement alone.
        fn gtid(&mut self, domain: u32, seq: u64, flags: u8) -> &mut Log {
            let rest = [&domain.to_le_bytes()[..], &[flags; 1], &[0; 6]].concat();
            self.event(ty::MARIA_GTID, &[&seq.to_le_bytes()[..], &rest].concat())
        }

        fn map(&mut self, table: &str) -> &mut Log {
            let names = name(b"shop", table.as_bytes());
            let body = [&[0; MAP_HEAD][..], &names, &[0, 1, 3, 0, 0]].concat();
            self.event(ty::TABLE_MAP, &body)
        }

        fn query(&mut self, sql: &str) -> &mut Log {
            let head = [&[0; 13][..], &[0]].concat();
            self.event(ty::QUERY, &[&head, sql.as_bytes()].concat())
        }

        /// What is done: events of each piece, and for whom.
        fn pieces(&mut self) -> Vec<(usize, Option<Vec<String>>)> {
            let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
            let one = |piece: Arc<Piece>| {
                let tables = piece.tables().map(|names| names.map(text).collect());
                (piece.events.len(), tables)
            };
            std::mem::take(&mut self.done)
                .into_iter()
                .map(one)
                .collect()
        }
    }

    fn shop(tables: &[&str]) -> Option<Vec<String>> {
        let name = |t: &&str| String::from_utf8(name(b"shop", t.as_bytes())).unwrap();
        Some(tables.iter().map(name).collect())
    }

    #[test]
    fn plain_groups_are_whole_and_all_else_is_for_everybody() {
        let mut log = Log::new();
        log.gtid(0, 1, 0)
            .map("a")
            .event(30, b"rows")
            .map("a")
            .map("b");
        log.event(ty::ANNOTATE_ROWS, b"sql");
        assert_eq!(log.pieces(), [], "not at its end");
        log.event(ty::XID, &[0; 8]);
        assert_eq!(log.pieces(), [(7, shop(&["a", "b"]))]);
        log.gtid(0, 2, 0)
            .map("m")
            .event(30, b"rows")
            .query("COMMIT");
        assert_eq!(log.pieces(), [(4, shop(&["m"]))]);
        // A statement, whose end nobody here knows.
        log.gtid(0, 3, 1).query("CREATE TABLE t (id INT)");
        log.gtid(0, 4, 0).map("a").event(ty::XID, &[0; 8]);
        assert_eq!(log.pieces(), [(2, None), (3, shop(&["a"]))]);
        // One that turns out not to be plain, and what lies between groups.
        log.gtid(0, 5, 0).map("a").query("SAVEPOINT s");
        log.event(ty::XID, &[0; 8]).event(161, b"checkpoint");
        assert_eq!(log.pieces(), []);
        log.cutter.pause(&mut log.done);
        assert_eq!(log.pieces(), [(5, None)]);
        log.gtid(0, 6, 0).map("a").event(ty::HEARTBEAT, b"b.1");
        log.cutter.pause(&mut log.done);
        assert_eq!(log.pieces(), [(3, None)]);
    }

    #[test]
    fn a_large_group_goes_on_as_it_comes() {
        let mut log = Log::new();
        log.gtid(0, 1, 0).map("a");
        for _ in 0..5 {
            log.event(30, &vec![0; PIECE / 2]);
        }
        log.event(ty::XID, &[0; 8]);
        log.gtid(0, 2, 0).map("b").event(ty::XID, &[0; 8]);
        let want = [(4, None), (2, None), (2, None), (3, shop(&["b"]))];
        assert_eq!(log.pieces(), want);
    }

    #[test]
    fn a_piece_says_what_lies_before_it() {
        let mut log = Log::new();
        for (domain, seq) in [(0, 1), (7, 5), (0, 2), (0, 3), (7, 6), (0, 4)] {
            log.gtid(domain, seq, 0).event(ty::XID, &[0; 8]);
        }
        log.gtid(0, 9, 1).query("ANALYZE TABLE a");
        log.gtid(7, 7, 0).event(ty::XID, &[0; 8]);
        log.gtid(7, 8, 0).event(ty::XID, &[0; 8]);
        let before = |piece: &Arc<Piece>| {
            let last: BTreeMap<u32, (u32, u64)> = piece.before.gtids.iter().collect();
            last.into_iter()
                .map(|(d, (_, seq))| (d, seq))
                .collect::<Vec<_>>()
        };
        let want: [&[(u32, u64)]; 9] = [
            &[],
            &[(0, 1)],
            &[(0, 1), (7, 5)],
            &[(0, 2), (7, 5)],
            &[(0, 3), (7, 5)],
            &[(0, 3), (7, 6)],
            &[(0, 4), (7, 6)],
            // Everybody has read the statement, and knows all before it.
            &[],
            &[(7, 7)],
        ];
        assert_eq!(log.done.iter().map(before).collect::<Vec<_>>(), want);
        for (one, next) in log.done.iter().zip(log.done.iter().skip(1)) {
            assert!(one.after.cursor.meets(&next.before.cursor));
            assert_eq!(one.after.bytes, next.before.bytes);
            assert_eq!(one.after.bytes + 4, one.after.cursor.pos);
        }
    }
}
