//! The statements over a staging table that [`super::Merged`] sends.
//!
//! - Values go from column to column and through no expression: `CASE` and the like would give both
//!   sides one common type first, in which not every value is what it was.
//! - The staging table stands first in every join, as the others have an index on what they are
//!   found by, and once in every statement, as MySQL takes no temporary table twice.

use thalweg_core::plan::TargetTable;

use super::{DELETE, INSERT, MOVE, MOVED, PATCH, UPDATE};
use crate::target::session::quote;

/// In the order of the text of [`super`].
pub(super) struct Sql {
    names: Names,
    pub(super) empty: String,
    pub(super) fill: String,
    pub(super) all: String,
    pub(super) moves: String,
    pub(super) forget: String,
    pub(super) leave: String,
    pub(super) strangers: String,
    pub(super) met: String,
    pub(super) lost_whole: String,
    pub(super) lost: String,
    pub(super) update: String,
    pub(super) twins: String,
    pub(super) note: String,
    pub(super) come: String,
}

/// The pieces that statements are made of.
pub(super) struct Names {
    pub(super) table: TargetTable,
    pub(super) feed: usize,
    /// Whether rows are kept that the source has deleted.
    pub(super) keeps: bool,
    /// Columns of the target that the server changes by itself when a row changes.
    pub(super) touched: Vec<usize>,
    pub(super) stage: String,
    pub(super) target: String,
    pub(super) side: String,
}

impl Names {
    fn quoted(&self, column: usize) -> String {
        let name = self.table.columns.get(column).map(|c| quote(&c.name));
        name.unwrap_or_default()
    }

    fn bit(feed: usize) -> u64 {
        1 << feed
    }

    /// Whether a source has a row, by the side table's `p`.
    fn has(feed: usize) -> String {
        format!("p.sources & {} <> 0", Self::bit(feed))
    }

    /// Whether a row of the side table's `p` is shown.
    fn shown(&self) -> String {
        match self.table.row_owner {
            Some(owner) => Self::has(owner),
            None => "p.sources <> 0".to_owned(),
        }
    }

    /// A list over the key columns: their number in the key, and their index.
    fn keys(&self, between: &str, each: impl Fn(usize, usize) -> String) -> String {
        let keys = self.table.key.iter().enumerate();
        let each: Vec<_> = keys.map(|(n, c)| each(n, *c)).collect();
        each.join(between)
    }

    /// `stage s` with the side table at the old key.
    fn side_at_old(&self) -> String {
        let same = self.keys(" AND ", |n, _| format!("p.k{n} = s.o{n}"));
        let Names { stage, side, .. } = self;
        format!("{stage} s STRAIGHT_JOIN {side} p ON {same}")
    }

    fn side_at_new(&self) -> String {
        let same = self.keys(" AND ", |n, c| format!("p.k{n} = s.c{c}"));
        let Names { stage, side, .. } = self;
        format!("{stage} s STRAIGHT_JOIN {side} p ON {same}")
    }

    fn target_is_old(&self) -> String {
        self.keys(" AND ", |n, c| format!("t.{} = s.o{n}", self.quoted(c)))
    }

    fn target_is_new(&self) -> String {
        self.keys(" AND ", |_, c| format!("t.{} = s.c{c}", self.quoted(c)))
    }

    /// `SET` list of an update of the target; what the server would touch stays. `None` if nothing
    /// is written.
    fn set_target(&self, columns: &[usize], value: impl Fn(usize) -> String) -> Option<String> {
        let set = |c: &usize| format!("t.{} = {}", self.quoted(*c), value(*c));
        let mut list: Vec<String> = columns.iter().map(set).collect();
        let kept = self.touched.iter().filter(|c| !columns.contains(c));
        list.extend(kept.map(|c| format!("t.{0} = t.{0}", self.quoted(*c))));
        (!columns.is_empty()).then(|| list.join(", "))
    }

    /// The columns that a feed owns.
    fn owned(&self, feed: usize) -> Vec<usize> {
        self.table.owned(feed).collect()
    }

    /// The columns that this source owns and of which such an image has cells.
    fn sent(&self, sent: &str) -> Vec<usize> {
        let feed = self.table.feeds.get(self.feed);
        let columns = feed.into_iter().flat_map(|feed| &feed.columns);
        let with = columns.zip(sent.bytes()).filter(|(_, mark)| *mark == b'1');
        let with = with.map(|(column, _)| *column);
        with.filter(|column| !self.table.key.contains(column))
            .collect()
    }

    /// Updates under an unchanged key, of these columns.
    fn change(&self, op: u8, columns: &[usize], which: &str) -> String {
        let of = format!("WHERE s.op = {op} AND {}{which}", Self::has(self.feed));
        let (at_old, shown) = (self.side_at_old(), self.shown());
        let Some(set) = self.set_target(columns, |c| format!("s.c{c}")) else {
            return String::new();
        };
        let mut sql = format!(
            "UPDATE {at_old} STRAIGHT_JOIN {} t ON {} SET {set} {of} AND {shown}",
            self.target,
            self.target_is_old()
        );
        if self.parks() {
            let set = list(columns, |c| format!("p.c{c} = s.c{c}"));
            sql.push_str(&format!(
                ";UPDATE {at_old} SET {set} {of} AND NOT ({shown})"
            ));
        }
        sql
    }

    /// Whether what this source owns is put aside while the owner has no row.
    fn parks(&self) -> bool {
        self.table.row_owner.is_some_and(|owner| owner != self.feed)
    }

    /// The sources whose columns are put aside.
    fn parked(&self) -> impl Iterator<Item = usize> + '_ {
        let owner = self.table.row_owner;
        (0..self.table.feeds.len()).filter(move |feed| owner.is_some_and(|owner| owner != *feed))
    }
}

/// A list over columns.
fn list(columns: &[usize], each: impl Fn(usize) -> String) -> String {
    let each: Vec<_> = columns.iter().map(|c| each(*c)).collect();
    each.join(", ")
}

impl Sql {
    pub(super) fn new(names: Names) -> Sql {
        let Names { stage, side, .. } = &names;
        let (has, bit) = (Names::has(names.feed), Names::bit(names.feed));
        let side_at_old = names.side_at_old();
        let key = |place: &str| names.keys(", ", |n, _| format!("{place}{n}"));
        let new_key = names.keys(", ", |_, c| format!("s.c{c}"));
        let columns = names.table.feeds.get(names.feed);
        let columns = columns.map_or(&[][..], |feed| &feed.columns);
        // Rows that change and are not there.
        let lost = |op: &str, which: &str| {
            let same = names.keys(" AND ", |n, _| format!("p.k{n} = s.o{n}"));
            format!(
                "UPDATE {stage} s LEFT JOIN {side} p ON {same} AND {has} SET s.op = {op} \
                 WHERE s.op IN ({UPDATE}, {PATCH}, {MOVE}) AND p.sources IS NULL{which}"
            )
        };
        Sql {
            empty: format!("DELETE FROM {stage}"),
            fill: format!(
                "INSERT INTO {stage} (op, sent, {}, {}) VALUES ",
                key("o"),
                list(columns, |c| format!("c{c}"))
            ),
            all: format!(
                "INSERT INTO {stage} (op, {}) SELECT {DELETE}, {} FROM {side} p WHERE {has}",
                key("o"),
                key("p.k")
            ),
            moves: format!(
                "UPDATE {side_at_old} SET s.op = {MOVED} \
                 WHERE s.op = {MOVE} AND s.sent IS NULL AND {has}"
            ),
            forget: format!(
                "UPDATE {side_at_old} SET p.sources = p.sources & ~{bit} \
                 WHERE s.op IN ({DELETE}, {MOVED}) AND {has}"
            ),
            leave: leave(&names),
            strangers: strangers(&names),
            met: format!(
                "UPDATE {side_at_old} SET s.op = {UPDATE} WHERE s.op = {INSERT} AND {has}"
            ),
            lost_whole: lost(&INSERT.to_string(), " AND s.sent IS NULL"),
            lost: lost("0", ""),
            update: names.change(UPDATE, &names.owned(names.feed), ""),
            twins: format!(
                "SELECT 1 FROM {stage} s WHERE s.op IN ({INSERT}, {MOVED}) GROUP BY {new_key} \
                 HAVING COUNT(*) > 1 LIMIT 1"
            ),
            note: note(&names),
            come: come(&names),
            names,
        }
    }

    /// Makes rows whole that move, of which this was sent: a character for each column of the
    /// source, 1 if it is there.
    pub(super) fn fill_moves(&self, sent: &str) -> String {
        let names = &self.names;
        let Names { target, .. } = names;
        let with = names.sent(sent);
        let mut left = names.owned(names.feed);
        left.retain(|column| !with.contains(column));
        let set = |place: &dyn Fn(usize) -> String| {
            let mut set = vec![format!("s.op = {MOVED}")];
            set.extend(left.iter().map(|c| format!("s.c{c} = {}", place(*c))));
            set.join(", ")
        };
        let of = format!(
            "WHERE s.op = {MOVE} AND s.sent = '{sent}' AND {}",
            Names::has(names.feed)
        );
        let mut out = vec![format!(
            "UPDATE {} LEFT JOIN {target} t ON {} SET {} {of} AND {}",
            names.side_at_old(),
            names.target_is_old(),
            set(&|c| format!("t.{}", names.quoted(c))),
            names.shown()
        )];
        if names.parks() {
            out.push(format!(
                "UPDATE {} SET {} {of}",
                names.side_at_old(),
                set(&|c| format!("p.c{c}"))
            ));
        }
        out.join(";")
    }

    /// Writes updates under an unchanged key of which this was sent; empty if that is nothing.
    pub(super) fn patch(&self, sent: &str) -> String {
        let with = self.names.sent(sent);
        let which = format!(" AND s.sent = '{sent}'");
        self.names.change(PATCH, &with, &which)
    }
}

/// What becomes of rows whose bit has gone.
fn leave(names: &Names) -> String {
    let (at_old, shown) = (names.side_at_old(), names.shown());
    let leaving = format!("s.op IN ({DELETE}, {MOVED})");
    let with_row = format!(
        "{at_old} STRAIGHT_JOIN {} t ON {}",
        names.target,
        names.target_is_old()
    );
    let own = names.owned(names.feed);
    let mut out = Vec::new();
    if names.table.row_owner == Some(names.feed) {
        let parked: Vec<usize> = names.parked().flat_map(|feed| names.owned(feed)).collect();
        if !parked.is_empty() {
            let set = list(&parked, |c| format!("p.c{c} = t.{}", names.quoted(c)));
            out.push(format!("UPDATE {with_row} SET {set} WHERE {leaving}"));
        }
    } else if let Some(set) = names.set_target(&own, |_| "DEFAULT".to_owned()) {
        out.push(format!(
            "UPDATE {with_row} SET {set} WHERE {leaving} AND {shown}"
        ));
    }
    if !names.parks() {
        out.push(format!(
            "DELETE t FROM {with_row} WHERE {leaving} AND NOT ({shown})"
        ));
    } else if !own.is_empty() {
        let set = list(&own, |c| format!("p.c{c} = NULL"));
        out.push(format!("UPDATE {at_old} SET {set} WHERE {leaving}"));
    }
    out.push(format!(
        "DELETE p FROM {at_old} WHERE {leaving} AND p.sources = 0"
    ));
    out.join(";")
}

/// Whether a row comes to a key that its source has a row of. Where rows are kept that the source has
/// deleted, it may be one of those, if the key is the very same.
fn strangers(names: &Names) -> String {
    let mut sql = format!(
        "SELECT 1 FROM {} WHERE s.op IN ({INSERT}, {MOVED}) AND {}",
        names.side_at_new(),
        Names::has(names.feed)
    );
    if names.keeps {
        let same = names.keys(" AND ", |n, c| {
            format!("CAST(p.k{n} AS BINARY) = CAST(s.c{c} AS BINARY)")
        });
        sql.push_str(&format!(" AND NOT ({same})"));
    }
    sql.push_str(" LIMIT 1");
    sql
}

/// Notes rows that come. The side table has no other unique key than the one that is met here.
fn note(names: &Names) -> String {
    let Names { stage, side, .. } = names;
    let bit = Names::bit(names.feed);
    let parked = match names.parks() {
        true => names.owned(names.feed),
        false => Vec::new(),
    };
    let mut columns = vec![
        names.keys(", ", |n, _| format!("k{n}")),
        "sources".to_owned(),
    ];
    let mut values = vec![names.keys(", ", |_, c| format!("s.c{c}")), bit.to_string()];
    let mut set = vec![format!("sources = sources | {bit}")];
    for c in parked {
        columns.push(format!("c{c}"));
        values.push(format!("s.c{c}"));
        set.push(format!("c{c} = VALUES(c{c})"));
    }
    format!(
        "INSERT INTO {side} ({}) SELECT {} FROM {stage} s WHERE s.op IN ({INSERT}, {MOVED}) \
         ORDER BY {} ON DUPLICATE KEY UPDATE {}",
        columns.join(", "),
        values.join(", "),
        names.keys(", ", |_, c| format!("s.c{c}")),
        set.join(", ")
    )
}

/// Makes the rows that come.
fn come(names: &Names) -> String {
    let Names { stage, target, .. } = names;
    let coming = format!("s.op IN ({INSERT}, {MOVED})");
    let at_new = names.target_is_new();
    let mut out = Vec::new();
    // Those that are there take the source's columns.
    let set = names.set_target(&names.owned(names.feed), |c| format!("s.c{c}"));
    out.extend(set.map(|set| {
        format!("UPDATE {stage} s STRAIGHT_JOIN {target} t ON {at_new} SET {set} WHERE {coming}")
    }));
    if names.parks() {
        return out.join(";");
    }
    let feed = names.table.feeds.get(names.feed);
    let columns = feed.map_or(&[][..], |feed| &feed.columns);
    let key = names.table.key.first().copied().unwrap_or(0);
    out.push(format!(
        "INSERT INTO {target} ({}) SELECT {} FROM {stage} s LEFT JOIN {target} t ON {at_new} \
         WHERE {coming} AND t.{} IS NULL",
        list(columns, |c| names.quoted(c)),
        list(columns, |c| format!("s.c{c}")),
        names.quoted(key)
    ));
    for feed in names.parked() {
        let set = names.set_target(&names.owned(feed), |c| format!("p.c{c}"));
        out.extend(set.map(|set| {
            format!(
                "UPDATE {} STRAIGHT_JOIN {target} t ON {at_new} SET {set} WHERE {coming} AND {}",
                names.side_at_new(),
                Names::has(feed)
            )
        }));
    }
    out.join(";")
}
