//! What of a table is loaded, and what becomes of a change until the table is Live.
//!
//! A table is loaded in chunks: ranges of keys, each read in a snapshot of its own, so that the rows
//! in the target are of several moments. Why load and stream together lose nothing and double
//! nothing:
//!
//! - The log is secured at P0, and P0 is stored at the target, before any chunk is read. Every
//!   chunk's snapshot has seen whatever was committed before the place where the stream will begin
//!   ([`thalweg_core::ports::Source::read`]); so each transaction that touches a chunk's keys is in
//!   its snapshot, or will be streamed, or both.
//! - A chunk's rows commit at the target together with its entry in the ledger: its range and what
//!   its snapshot had seen (its *visibility*), or not at all. After a crash exactly the chunks of the
//!   ledger are there; what lies between them is a gap, and gaps are cut anew. The stream does not
//!   begin before there is none, so every key lies in exactly one chunk. (Where other tables are followed
//!   already it does begin, and there is one case more: [`crate::beside`].)
//! - Look at one key k of chunk C and at the transactions that change the row under it, in commit
//!   order. C's snapshot shows the row as those that it contains left it. The others are applied, in
//!   commit order. So the row under k goes through the rest of its history from a state it really
//!   had, and ends as at the source. This is an argument about one key, so a change that has two (an
//!   update that moves a row) is two: a row goes from the old key and comes to the new one, each
//!   judged by its own chunk ([`Fate`]). Judging both by one chunk would leave the old row, or write
//!   the new one twice or never.
//! - The one thing that a chunk's state does not give is a row that comes to its new key while the
//!   log does not carry all of it (a value stored apart that did not change, an image of the changed
//!   columns only) and the old key's chunk no longer has it. And TRUNCATE is a change of all keys at
//!   once, which no operation on rows can take apart. Both ask for the table to be loaded again
//!   ([`Fate::Again`]), as one chunk: then every change finds one visibility, and neither case
//!   exists.
//! - Rows of several moments can stand in each other's way: a unique value that moved from one row to
//!   another can be in both. So a table is cut only if at the target no row can stand in the way of a
//!   row with another key ([`thalweg_core::ports::Target::loose`]), and if the target's key holds the
//!   source's primary key, by which chunks are cut. Or if all chunks share one snapshot: then there
//!   is one moment, and the argument is that for a whole table.
//! - What a foreign key of the source changes below its log is derived from the parent's change
//!   ([`thalweg_core::plan::Cascade`]). It must reach the children exactly if their rows do not
//!   contain the transaction yet. So a table that such a key leads to is one chunk, and is read after
//!   all tables that lead to it: then the children contain whatever the parents contain, and a change
//!   that is dropped for a parent has nothing to do below it. Where that does not hold any more
//!   (a parent was loaded again), the child is loaded again too.
//! - When the stream has passed every visibility of every table, no transaction can be contained
//!   any more: the ledgers are dropped and the tables are Live, and from then on a transaction that
//!   touches several rows or tables arrives whole.

use std::cmp::Ordering;

use rustc_hash::FxHashMap;
use thalweg_core::change::{Change, ChangeKind};
use thalweg_core::checkpoint::LoadedChunk;
use thalweg_core::plan::{Fate, Plan};
use thalweg_core::position::Visibility;
use thalweg_core::range::{Bound, KeyRange, compare};
use thalweg_core::value::{CellRef, RowBatch};
use thalweg_core::{Error, Result};

/// The ledger of one target table.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    parts: Vec<Part>,
    /// Each visibility once.
    seen: Vec<Seen>,
    /// [`Self::grow`].
    grows: bool,
}

/// The chunks of one source table.
#[derive(Clone, Debug)]
struct Part {
    /// Index into the plan's sources.
    source: usize,
    /// By their beginning.
    chunks: Vec<Loaded>,
    /// The visibility of all of them, if it is one and no key is in none of them.
    only: Option<usize>,
}

#[derive(Clone, Debug)]
struct Loaded {
    range: Option<KeyRange>,
    /// Index of its visibility.
    seen: usize,
}

#[derive(Clone, Debug)]
struct Seen {
    visibility: Visibility,
    /// Whether it contains the transaction at hand, once that was asked.
    contains: Option<bool>,
    /// Whether the stream is past all that it contains.
    passed: bool,
}

impl Ledger {
    /// The ledger that `chunks` make. Chunks of tables that the plan does not know are left out; a
    /// `Bug` error if some overlap.
    pub fn new(plan: &Plan, chunks: &[LoadedChunk]) -> Result<Self> {
        let mut ledger = Ledger::default();
        let mut known = FxHashMap::default();
        for chunk in chunks {
            let source = plan
                .sources
                .iter()
                .position(|source| source.schema.name == chunk.source);
            if let Some(source) = source {
                let seen = *known.entry(&chunk.seen).or_insert_with(|| {
                    ledger.seen.push(Seen {
                        visibility: chunk.seen.clone(),
                        contains: None,
                        passed: false,
                    });
                    ledger.seen.len() - 1
                });
                ledger.add(source, chunk, seen);
            }
        }
        for part in &mut ledger.parts {
            part.chunks
                .sort_by(|a, b| order(from(&a.range), from(&b.range)));
            part.check()?;
            let first = part.chunks.first().map(|chunk| chunk.seen);
            let one = part.chunks.iter().all(|chunk| Some(chunk.seen) == first);
            part.only = first.filter(|_| one && part.gaps().is_empty());
        }
        Ok(ledger)
    }

    fn add(&mut self, source: usize, chunk: &LoadedChunk, seen: usize) {
        let loaded = Loaded {
            range: chunk.range.clone(),
            seen,
        };
        match self.parts.iter_mut().find(|part| part.source == source) {
            Some(part) => part.chunks.push(loaded),
            None => self.parts.push(Part {
                source,
                chunks: vec![loaded],
                only: None,
            }),
        }
    }

    /// Says whether something is missing that is loaded beside the stream, by chunks that contain the
    /// transactions that were judged before they were begun ([`crate::beside`]).
    pub fn grow(&mut self, grows: bool) {
        self.grows = grows;
    }

    /// Whether something is missing that is loaded beside the stream.
    pub fn grows(&self) -> bool {
        self.grows
    }

    /// What of a source table is not loaded yet, in key order; `None` in it: all of the table.
    pub fn gaps(&self, source: usize) -> Vec<Option<KeyRange>> {
        let part = self.parts.iter().find(|part| part.source == source);
        part.map_or_else(|| vec![None], Part::gaps)
    }

    /// The visibilities of its chunks, each once.
    pub fn visibilities(&self) -> impl Iterator<Item = &Visibility> {
        self.seen.iter().map(|seen| &seen.visibility)
    }

    /// Another transaction is at hand.
    pub fn next_transaction(&mut self) {
        for seen in &mut self.seen {
            seen.contains = None;
        }
    }

    /// What becomes of a change of the transaction at hand. `contains` says of a visibility whether
    /// it contains that transaction; it is asked once for each that matters.
    pub fn fate(
        &mut self,
        change: &Change,
        rows: &RowBatch,
        contains: &mut dyn FnMut(&Visibility) -> Result<bool>,
    ) -> Result<Fate> {
        let Some(part) = self.parts.iter().find(|part| part.source == change.table) else {
            return Ok(fate(self.grows, None));
        };
        let grows = self.grows;
        let mut contains = |chunk: Option<usize>| match chunk.and_then(|at| self.seen.get_mut(at)) {
            // What will never be loaded contains nothing.
            None => Ok(grows),
            Some(seen) if seen.passed => Ok(false),
            Some(seen) => match seen.contains {
                Some(known) => Ok(known),
                None => Ok(*seen.contains.insert(contains(&seen.visibility)?)),
            },
        };
        if let Some(seen) = part.only {
            return Ok(fate(contains(Some(seen))?, None));
        }
        let (old, new) = match change.kind {
            ChangeKind::Insert => (change.after, None),
            ChangeKind::Delete => (change.before, None),
            ChangeKind::Update => (change.before, change.after),
            ChangeKind::Truncate => {
                let missing = (grows && !part.gaps().is_empty()).then_some(None);
                let chunks = part.chunks.iter().map(|chunk| Some(chunk.seen));
                let mut all = chunks.chain(missing).map(&mut contains);
                let first = all.next().unwrap_or(Ok(false))?;
                for other in all {
                    if other? != first {
                        return Ok(Fate::Again);
                    }
                }
                return Ok(fate(first, None));
            }
        };
        let image = |row: Option<usize>| row.map(|row| rows.row(row));
        let key = |row: Option<usize>| {
            let cell = image(row)?.cell(part.column()?)?;
            cell.is_present().then_some(cell)
        };
        let old = key(old).ok_or_else(|| Error::bug("a change without the key of its row"))?;
        let in_old = contains(part.find(old)?)?;
        // A key that the new image leaves out did not change.
        let in_new = match key(new) {
            Some(new) => Some(contains(part.find(new)?)?),
            None => None,
        };
        Ok(fate(in_old, in_new))
    }

    /// Whether any of its chunks contains the transaction at hand, or one that is missing will; `contains`
    /// as for [`fate`](Self::fate).
    pub fn contains_any(
        &mut self,
        contains: &mut dyn FnMut(&Visibility) -> Result<bool>,
    ) -> Result<bool> {
        if self.grows {
            return Ok(true);
        }
        for seen in self.seen.iter_mut().filter(|seen| !seen.passed) {
            let known = match seen.contains {
                Some(known) => known,
                None => *seen.contains.insert(contains(&seen.visibility)?),
            };
            if known {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the stream has passed every chunk when it stands at a place of which `passed` says
    /// whether every transaction that a visibility contains lies before it.
    pub fn passed(&mut self, mut passed: impl FnMut(&Visibility) -> Result<bool>) -> Result<bool> {
        for seen in &mut self.seen {
            seen.passed = seen.passed || passed(&seen.visibility)?;
        }
        Ok(!self.grows && self.seen.iter().all(|seen| seen.passed))
    }
}

/// By whether the chunk of the row before, and that of the row after (`None`: the same), have the
/// change.
fn fate(old: bool, new: Option<bool>) -> Fate {
    match (old, new.unwrap_or(old)) {
        (false, false) => Fate::Apply,
        (true, true) => Fate::Drop,
        (false, true) => Fate::Old,
        (true, false) => Fate::New,
    }
}

impl Part {
    fn column(&self) -> Option<usize> {
        let range = self.chunks.first()?.range.as_ref()?;
        Some(range.column)
    }

    /// The visibility of the chunk that holds a key.
    fn find(&self, key: CellRef<'_>) -> Result<Option<usize>> {
        let unordered = || Error::bug("a key without an order in a table loaded in chunks");
        compare(key, key).ok_or_else(unordered)?;
        let after = |chunk: &Loaded| match from(&chunk.range) {
            Some(from) => compare(from.cell(), key).is_some_and(Ordering::is_le),
            None => true,
        };
        let at = self.chunks.partition_point(after);
        let Some(chunk) = at.checked_sub(1).and_then(|at| self.chunks.get(at)) else {
            return Ok(None);
        };
        let inside = match &chunk.range {
            Some(range) => range.contains(key).ok_or_else(unordered)?,
            None => true,
        };
        Ok(inside.then_some(chunk.seen))
    }

    /// Chunks are of one column and do not overlap.
    fn check(&self) -> Result<()> {
        for (a, b) in self.chunks.iter().zip(self.chunks.iter().skip(1)) {
            let apart = match (&a.range, &b.range) {
                (Some(a), Some(b)) if a.column == b.column => {
                    let ends = a.to.as_ref().zip(b.from.as_ref());
                    ends.and_then(|(to, from)| compare(to.cell(), from.cell()))
                        .is_some_and(Ordering::is_le)
                }
                _ => false,
            };
            if !apart {
                return Err(Error::bug("the ledger has chunks that overlap"));
            }
        }
        Ok(())
    }

    fn gaps(&self) -> Vec<Option<KeyRange>> {
        let Some(column) = self.column() else {
            // One chunk that is all of the table.
            return Vec::new();
        };
        let mut gaps = Vec::new();
        let mut gap = |from: Option<&Bound>, to: Option<&Bound>| {
            gaps.push(Some(KeyRange {
                column,
                from: from.cloned(),
                to: to.cloned(),
            }));
        };
        let ranges = || self.chunks.iter().filter_map(|chunk| chunk.range.as_ref());
        if let Some(first) = ranges().next().and_then(|range| range.from.as_ref()) {
            gap(None, Some(first));
        }
        for (a, b) in ranges().zip(ranges().skip(1)) {
            if a.to != b.from {
                gap(a.to.as_ref(), b.from.as_ref());
            }
        }
        if let Some(last) = ranges().next_back().and_then(|range| range.to.as_ref()) {
            gap(Some(last), None);
        }
        gaps
    }
}

fn from(range: &Option<KeyRange>) -> Option<&Bound> {
    range.as_ref()?.from.as_ref()
}

/// The order of two beginnings; without a bound is first.
fn order(a: Option<&Bound>, b: Option<&Bound>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => compare(a.cell(), b.cell()).unwrap_or(Ordering::Equal),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

/// Whether `parts` are the ranges that a source may cut `whole` into.
pub(crate) fn tiles(whole: &Option<KeyRange>, parts: &[Option<KeyRange>]) -> bool {
    if let [part] = parts {
        return part == whole;
    }
    let ranges: Option<Vec<&KeyRange>> = parts.iter().map(Option::as_ref).collect();
    let Some(ranges) = ranges else { return false };
    let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else {
        return false;
    };
    let ends = whole.as_ref().map_or((&None, &None), |w| (&w.from, &w.to));
    let column = whole.as_ref().map_or(first.column, |w| w.column);
    let rising = |range: &&KeyRange| match (&range.from, &range.to) {
        (Some(from), Some(to)) => {
            compare(from.cell(), to.cell()).is_some_and(|order| order == Ordering::Less)
        }
        _ => true,
    };
    (&first.from, &last.to) == ends
        && ranges.iter().all(|range| range.column == column)
        && ranges.iter().all(rising)
        && ranges
            .iter()
            .zip(ranges.iter().skip(1))
            .all(|(a, b)| a.to.is_some() && a.to == b.from)
}
