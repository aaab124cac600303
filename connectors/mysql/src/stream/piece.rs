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
