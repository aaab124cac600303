//! Cutting an interval of keys into pieces of about so many rows, by estimates.
//!
//! A database estimates the rows between two keys in a moment, from its index or its statistics,
//! without reading them. An interval that is estimated too large is halved and its halves are asked
//! for, so that a lump of keys is found however large the holes around it are; then neighbours that
//! are small together become one piece. How good the estimates are decides how even the pieces are,
//! and nothing else.

use super::{Bound, midpoint};

/// Questions after which it takes whatever it has: as many as a table of a thousand million rows
/// needs.
const QUESTIONS_MAX: usize = 20_000;

/// Cuts one interval; the caller answers its questions until there is none.
///
/// ```
/// # use thalweg_core::range::{Bound, Cutter};
/// # use thalweg_core::value::CellRef;
/// let mut cutter = Cutter::new(Bound::new(CellRef::I64(0)), Bound::new(CellRef::I64(100)), 40);
/// while let Some((from, to)) = cutter.question() {
///     let (CellRef::I64(from), CellRef::I64(to)) = (from.cell(), to.cell()) else { panic!() };
///     cutter.answer((to - from).unsigned_abs());
/// }
/// assert_eq!(cutter.cuts(), [25, 50, 75].map(|n| Bound::new(CellRef::I64(n))));
/// ```
#[derive(Debug)]
pub struct Cutter {
    rows_max: u64,
    /// Intervals whose rows are not known, the next one last.
    open: Vec<(Bound, Bound)>,
    /// Where each interval begins that is small enough, and how many rows it has, in order.
    small: Vec<(Bound, u64)>,
    questions: usize,
}

impl Cutter {
    /// An interval to be cut into pieces of at most `rows_max` rows.
    pub fn new(from: Bound, to: Bound, rows_max: u64) -> Self {
        Cutter {
            rows_max: rows_max.max(1),
            open: vec![(from, to)],
            small: Vec::new(),
            questions: 0,
        }
    }

    /// The interval (from, to) whose rows are asked for; `None` at the end.
    pub fn question(&self) -> Option<(&Bound, &Bound)> {
        self.open.last().map(|(from, to)| (from, to))
    }

    /// The answer to [`Cutter::question`].
    pub fn answer(&mut self, rows: u64) {
        let Some((from, to)) = self.open.pop() else {
            return;
        };
        self.questions += 1;
        if rows > self.rows_max
            && self.questions < QUESTIONS_MAX
            && let Some(middle) = midpoint(from.cell(), to.cell())
        {
            self.open.push((middle.clone(), to));
            self.open.push((from, middle));
            return;
        }
        self.small.push((from, rows));
    }

    /// Where to cut, in order: between the ends of the interval.
    pub fn cuts(self) -> Vec<Bound> {
        let mut cuts = Vec::new();
        let mut piece: u64 = 0;
        for (at, (from, rows)) in self.small.into_iter().enumerate() {
            if at > 0 && piece.saturating_add(rows) > self.rows_max {
                cuts.push(from);
                piece = 0;
            }
            piece = piece.saturating_add(rows);
        }
        cuts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::CellRef;

    /// Cuts `keys` by exact counts; gives the rows of each piece and the questions asked.
    fn pieces(keys: &[i64], rows_max: u64) -> (Vec<usize>, usize) {
        let (first, last) = (keys[0], keys[keys.len() - 1]);
        let bound = |key| Bound::new(CellRef::I64(key));
        let mut cutter = Cutter::new(bound(first), bound(last), rows_max);
        let number = |bound: &Bound| match bound.cell() {
            CellRef::I64(n) => n,
            other => panic!("{other:?}"),
        };
        while let Some((from, to)) = cutter.question() {
            let within = number(from)..number(to);
            let rows = keys.iter().filter(|key| within.contains(key)).count();
            cutter.answer(rows as u64);
        }
        let questions = cutter.questions;
        let mut ends: Vec<i64> = cutter.cuts().iter().map(number).collect();
        assert!(ends.is_sorted_by(|a, b| a < b), "{ends:?}");
        ends.push(i64::MAX);
        let mut begin = i64::MIN;
        let rows = ends.iter().map(|end| {
            let within = begin..*end;
            begin = *end;
            keys.iter().filter(|key| within.contains(key)).count()
        });
        (rows.collect(), questions)
    }

    #[test]
    fn pieces_are_even_wherever_the_keys_lie() {
        let lumps = |starts: &[i64]| -> Vec<i64> {
            starts
                .iter()
                .flat_map(|start| (0..1_000).map(move |n| start + n))
                .collect()
        };
        for keys in [
            lumps(&[0]),
            lumps(&[i64::MIN, i64::MAX - 1_000]),
            lumps(&[-5_000, 0, 1 << 40, 1 << 60]),
        ] {
            let (pieces, questions) = pieces(&keys, 100);
            // The last key stands behind the interval.
            assert!(pieces.iter().all(|rows| *rows <= 101), "{pieces:?}");
            assert!(pieces.len() <= keys.len() / 45, "{pieces:?}");
            assert!(questions < 64 * pieces.len(), "{questions} questions");
        }
        assert_eq!(pieces(&[7], 1).0, [1]);
        assert_eq!(pieces(&[7, 8], 1).0, [2]);
    }

    #[test]
    fn estimates_without_sense_come_to_an_end() {
        let bound = |key| Bound::new(CellRef::U64(key));
        let mut cutter = Cutter::new(bound(0), bound(u64::MAX), 10);
        while cutter.question().is_some() {
            cutter.answer(u64::MAX);
        }
        assert!(cutter.cuts().len() < QUESTIONS_MAX);
    }
}
