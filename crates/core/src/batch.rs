//! What an applier is given: target rows, in commit order and folded.
//!
//! All rows have one cell per mapped column of their target table, in the order of
//! [`crate::plan::TargetTable::columns`], already converted to that column's type. Of a merged table
//! a row has cells for the columns of its source ([`crate::plan::Feed::columns`]); the others are
//! `Absent`. What an operation means there is said at [`TableOp`].

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use crate::position::{Layout, Position};
use crate::quarantine::Held;
use crate::schema::TableName;
use crate::value::RowBatch;

/// What to do with one target row. Numbers are row indexes into [`ApplyBatch::rows`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowOp {
    /// Write this row.
    Insert(usize),
    /// Change the row with the key of `before` to `after`; the key may differ. Cells of `after`
    /// that are `Unchanged` or `Absent` keep their value.
    ///
    /// A task without DELETE keeps rows that the source has deleted, and a row may be given the key
    /// of one: the kept row then makes way, as it does for a row that is inserted. It makes way for
    /// a row only: where `before` is not there, and nothing is inserted for it, nothing happens.
    Update {
        /// The row as it was: its key cells are present.
        before: usize,
        /// The row as it is now: its key cells are present.
        after: usize,
    },
    /// Remove the row with this key.
    Delete(usize),
    /// Remove all rows of the table.
    Truncate,
}

/// One operation on one target table.
///
/// On a merged table it is about the part of the row that its source owns. *Inserting* notes that the
/// source has a row of that key, makes the target row if there is none, and sets the source's
/// columns. *Deleting* sets them back to their defaults (NULL without one), and removes the target
/// row when no source has a row of the key any more. An update that changes the key is a delete at
/// the old key and an insert at the new one, whose left-out cells come from the old row.
/// *Truncating* is a delete of every row the source has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TableOp {
    /// Index into [`crate::plan::Plan::targets`].
    pub target: usize,
    /// Whose row it is: index into the table's [`crate::plan::TargetTable::feeds`].
    pub feed: usize,
    /// What to do.
    pub op: RowOp,
    /// Whether the source did it with foreign keys off, so that no child changed. To an applier
    /// [`ApplyBatch::kept`] says so.
    pub unchecked: bool,
    /// Which change it came of, to whoever sifts the batch ([`crate::ports::Sift`]); no matter otherwise.
    pub origin: u32,
}

/// The net effect of one source on one keyed target table; every target key stands at most once among the keys
/// it starts from and at most once among the keys it ends with. To be applied deletes first, then
/// updates, then inserts. A replaced row (deleted and inserted again) stands in both lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoldedTable {
    /// Index into [`crate::plan::Plan::targets`].
    pub target: usize,
    /// Whose rows they are: index into the table's [`crate::plan::TargetTable::feeds`].
    pub feed: usize,
    /// Rows that go: only their key cells matter.
    pub deletes: Vec<usize>,
    /// Rows that change: (row that carries the key at the batch's start, row as it is now).
    pub updates: Vec<(usize, usize)>,
    /// Rows that come.
    pub inserts: Vec<usize>,
}

impl FoldedTable {
    /// How many rows it is about.
    pub fn rows(&self) -> usize {
        self.deletes.len() + self.updates.len() + self.inserts.len()
    }

    /// The rows that stand apart from the batch before, and the others; each in the same order.
    pub fn split(&self, apart: &Apart) -> (FoldedTable, FoldedTable) {
        let at = |all: usize, part: usize| part.min(all);
        let (d, others_d) = self.deletes.split_at(at(self.deletes.len(), apart.deletes));
        let (u, others_u) = self.updates.split_at(at(self.updates.len(), apart.updates));
        let (i, others_i) = self.inserts.split_at(at(self.inserts.len(), apart.inserts));
        let of = |deletes: &[usize], updates: &[(usize, usize)], inserts: &[usize]| FoldedTable {
            target: self.target,
            feed: self.feed,
            deletes: deletes.to_vec(),
            updates: updates.to_vec(),
            inserts: inserts.to_vec(),
        };
        (of(d, u, i), of(others_d, others_u, others_i))
    }
}

/// How many rows of each list of a [`FoldedTable`], from its beginning, have keys that the batch before
/// does not touch. If nothing but the key joins rows of the table, these may be written
/// before that batch is, or beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Apart {
    /// The table: index into [`crate::plan::Plan::targets`]. It has one source.
    pub target: usize,
    /// Of [`FoldedTable::deletes`].
    pub deletes: usize,
    /// Of [`FoldedTable::updates`].
    pub updates: usize,
    /// Of [`FoldedTable::inserts`].
    pub inserts: usize,
}

/// What a batch does to one target table, or of a merged one to the part of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Net {
    /// This is the net effect.
    Folded(FoldedTable),
    /// There is none (the table has no key, or was truncated): the operations of
    /// [`ApplyBatch::ordered`] on the target of this index have to be applied, in that order. No
    /// foreign key joins it to another table of the batch, so when that is done among the others
    /// does not matter.
    InOrder(usize),
}

/// The targets of which the operations have to be applied in order, in a set: a batch may have ten thousands
/// of operations on a thousand tables.
pub fn unfolded(nets: &[Net]) -> BTreeSet<usize> {
    let targets = nets.iter().filter_map(|net| match net {
        Net::InOrder(target) => Some(*target),
        Net::Folded(_) => None,
    });
    targets.collect()
}

/// How long a [`ApplyBatch::brief`] batch waits for a lock at most.
pub const BRIEF_WAIT: Duration = Duration::from_secs(3);

/// Whole transactions, or parts of one huge transaction, for one target transaction.
#[derive(Clone, Debug, Default)]
pub struct ApplyBatch {
    /// The arena of all rows named below.
    pub rows: RowBatch,
    /// Every operation in commit order: the truth, and the way out when `folded` meets a
    /// constraint on the way.
    pub ordered: Vec<TableOp>,
    /// The net effect per target table and source, parents before children: the same end as
    /// `ordered` has. `None` if the batch cannot be folded: apply `ordered` then.
    pub folded: Option<Vec<Net>>,
    /// Which rows of `folded` stand apart from the batch before; of no table that is not named.
    pub apart: Vec<Apart>,
    /// The position that becomes durable with this batch. `None`: a part of a huge transaction;
    /// the target transaction stays open and nothing moves.
    pub position: Option<Position>,
    /// Source transactions that end in this batch, for figures.
    pub transactions: u64,
    /// Targets that no derived cascade leads into in this batch: the source kept their rows, or the
    /// rows were loaded as they were afterwards.
    pub kept: Vec<usize>,
    /// Whether locks are waited for [`BRIEF_WAIT`] at most: others wait for this batch that have nothing to
    /// do with it.
    pub brief: bool,
    /// Whether the net effect is tried first however little it is: some of the operations cannot be applied
    /// one by one.
    pub net: bool,
    /// Whether it comes again in pieces if the target refuses it ([`crate::ports::Sift`]): if that is for the
    /// values of a row ([`crate::Error::is_of_row`]), it need not be tried in commit order first.
    pub comes_again: bool,
    /// Source tables whose rows lie in another way from `position` on; stored with it. None without
    /// a position.
    pub layouts: Vec<(TableName, Layout)>,
    /// Changes that are put into quarantine with it, instead of being applied.
    pub held: Vec<Held>,
    /// Targets and their feeds that the source has truncated: what lies in quarantine for these from
    /// before the batch goes, before `held` comes.
    pub emptied: Vec<(usize, usize)>,
    /// Changes that leave quarantine with it, by their numbers.
    pub freed: Vec<i64>,
}

/// In which pieces a batch is tried of which the target refuses something, in commit order. One that is
/// refused is cut, down to those whose operations are tried one by one: so a row is found among many by
/// few statements.
#[derive(Clone, Debug)]
pub struct Pieces {
    /// Operations, by their indexes; the next piece is the last of them.
    left: Vec<Range<usize>>,
    alone: usize,
}

impl Pieces {
    /// Operations of a piece at most.
    const OPS_MAX: usize = 2_000;
    /// Into so many a piece is cut at most.
    const CUT: usize = 8;

    /// Of a batch of so many operations. Pieces of `alone` operations or fewer are not cut.
    pub fn new(ops: usize, alone: usize) -> Self {
        let mut pieces = Pieces {
            left: Vec::new(),
            alone: alone.max(1),
        };
        pieces.add(0..ops, Self::OPS_MAX);
        pieces
    }

    /// The next piece: which operations of the batch. `None`: all have been tried.
    pub fn take(&mut self) -> Option<Range<usize>> {
        self.left.pop()
    }

    /// Cuts a piece that was refused; its parts come next. `false`: it is too small, and its
    /// operations are to be tried one by one.
    pub fn cut(&mut self, piece: Range<usize>) -> bool {
        let cuts = piece.len() > self.alone;
        if cuts {
            let size = piece.len().div_ceil(Self::CUT).max(self.alone);
            self.add(piece, size);
        }
        cuts
    }

    fn add(&mut self, all: Range<usize>, size: usize) {
        let begins = all.clone().step_by(size).rev();
        let pieces = begins.map(|begin| begin..all.end.min(begin + size));
        self.left.extend(pieces);
    }
}

/// What an applied batch did to one target table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableCounts {
    /// Operations by kind as the source did them.
    pub inserts: u64,
    /// Updates, likewise.
    pub updates: u64,
    /// Deletes, likewise.
    pub deletes: u64,
    /// Rows an update did not find and that were inserted from its full image, or that an insert
    /// found already there and overwrote: signs of drift.
    pub repaired: u64,
    /// Rows an update (with INSERT off) or a delete did not find.
    pub missing: u64,
}

impl TableCounts {
    /// Adds another count.
    pub fn add(&mut self, other: &TableCounts) {
        self.inserts += other.inserts;
        self.updates += other.updates;
        self.deletes += other.deletes;
        self.repaired += other.repaired;
        self.missing += other.missing;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces that are tried of so many operations, of which some are refused, and the operations that
    /// are tried one by one.
    fn tried(ops: usize, alone: usize, refused: &[usize]) -> (usize, Vec<usize>) {
        let (mut tries, mut one_by_one, mut passed) = (0, Vec::new(), 0);
        let mut pieces = Pieces::new(ops, alone);
        while let Some(piece) = pieces.take() {
            assert_eq!(piece.start, passed, "in commit order");
            tries += 1;
            let refuses = refused.iter().any(|op| piece.contains(op));
            if refuses && pieces.cut(piece.clone()) {
                continue;
            }
            passed = piece.end;
            if refuses {
                one_by_one.extend(piece);
            }
        }
        assert_eq!(passed, ops, "nothing is left out");
        (tries, one_by_one)
    }

    #[test]
    fn a_row_among_many_is_found_by_few_tries() {
        assert_eq!(tried(0, 50, &[]), (0, vec![]));
        assert_eq!(tried(700, 50, &[]), (1, vec![]));
        assert_eq!(tried(50, 50, &[7]), (1, (0..50).collect()));
        let (tries, one_by_one) = tried(20_000, 50, &[16_789]);
        assert!(tries <= 10 + 8 + 5, "{tries}");
        assert_eq!(one_by_one, (16_750..16_800).collect::<Vec<_>>());
        for refused in [vec![0], vec![4_998], vec![0, 1, 2_000, 4_998]] {
            let (_, one_by_one) = tried(4_999, 10, &refused);
            assert!(refused.iter().all(|op| one_by_one.contains(op)));
            assert!(one_by_one.len() <= 10 * refused.len());
        }
        assert_eq!(tried(3, 0, &[1]).1, [1]);
    }
}
