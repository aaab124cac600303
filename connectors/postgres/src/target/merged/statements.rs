//! The statements over a staging table that [`super::Merged`] sends.

use thalweg_core::checkpoint::TaskKey;
use thalweg_core::plan::TargetTable;

use super::super::side;
use super::super::stage::Stage;
use super::{DELETE, INSERT, MOVE, MOVED, PATCH, UPDATE};
use crate::schema::{quote, quote_table};

/// In the order of the text of [`super`].
pub(super) struct Sql {
    pub(super) empty: String,
    pub(super) all: String,
    pub(super) fill_moves: String,
    pub(super) forget: String,
    pub(super) leave: Vec<String>,
    pub(super) strangers: String,
    pub(super) met: String,
    pub(super) lost: String,
    pub(super) update: Vec<String>,
    pub(super) patch: Vec<String>,
    pub(super) note: String,
    pub(super) come: Vec<String>,
}

/// The pieces that statements are made of.
pub(super) struct Names<'a> {
    table: &'a TargetTable,
    feed: usize,
    stage: &'a str,
    types: &'a Stage,
    /// Whether rows are kept that the source has deleted.
    keeps: bool,
    target: String,
    side: String,
}

impl<'a> Names<'a> {
    pub(super) fn new(
        task: &TaskKey,
        table: &'a TargetTable,
        feed: usize,
        stage: &'a str,
        types: &'a Stage,
        keeps: bool,
    ) -> Self {
        Names {
            table,
            feed,
            stage,
            types,
            keeps,
            target: quote_table(&table.name),
            side: side::name(task, &table.name),
        }
    }

    fn quoted(&self, column: usize) -> String {
        let name = self.table.columns.get(column).map(|c| quote(&c.name));
        name.unwrap_or_default()
    }

    fn bit(feed: usize) -> String {
        format!("{}::bigint", 1_i64 << feed)
    }

    /// The staged value of a column.
    fn new_value(&self, column: usize) -> String {
        self.types.value(column, &format!("s.c{column}"))
    }

    /// The staged value of the `n`th column of the old key, which is `column`.
    fn old_value(&self, n: usize, column: usize) -> String {
        self.types.value(column, &format!("s.o{n}"))
    }

    /// Whether the source has a row, by the side table's `p`.
    fn has(&self) -> String {
        format!("p.sources & {} <> 0", Self::bit(self.feed))
    }

    /// Whether a row of the side table's `p` is shown.
    fn shown(&self) -> String {
        match self.table.row_owner {
            Some(owner) => format!("p.sources & {} <> 0", Self::bit(owner)),
            None => "p.sources <> 0".to_owned(),
        }
    }

    /// `a0 = b0 AND a1 = b1`, for each key column.
    fn same(
        &self,
        one: impl Fn(usize, usize) -> String,
        two: impl Fn(usize, usize) -> String,
    ) -> String {
        let keys = self.table.key.iter().enumerate();
        let each: Vec<_> = keys
            .map(|(n, c)| format!("{} = {}", one(n, *c), two(n, *c)))
            .collect();
        each.join(" AND ")
    }

    fn side_is_old(&self) -> String {
        self.same(|n, _| format!("p.k{n}"), |n, c| self.old_value(n, c))
    }

    fn target_is_old(&self) -> String {
        self.same(
            |_, c| format!("t.{}", self.quoted(c)),
            |n, c| self.old_value(n, c),
        )
    }

    fn side_is_new(&self) -> String {
        self.same(|n, _| format!("p.k{n}"), |_, c| self.new_value(c))
    }

    fn target_is_new(&self) -> String {
        self.same(
            |_, c| format!("t.{}", self.quoted(c)),
            |_, c| self.new_value(c),
        )
    }

    fn target_is_side(&self) -> String {
        self.same(
            |_, c| format!("t.{}", self.quoted(c)),
            |n, _| format!("p.k{n}"),
        )
    }

    fn list(columns: impl Iterator<Item = String>) -> String {
        columns.collect::<Vec<_>>().join(", ")
    }

    /// The side table's name of the key, or the staging table's of the new one, and so on.
    fn keys(&self, each: impl Fn(usize, usize) -> String) -> String {
        Self::list(self.table.key.iter().enumerate().map(|(n, c)| each(n, *c)))
    }

    /// `SET` list over the columns a feed owns; `None` if it owns none.
    fn set(&self, feed: usize, each: impl Fn(usize) -> String) -> Option<String> {
        let set = Self::list(self.table.owned(feed).map(each));
        (!set.is_empty()).then_some(set)
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

impl Sql {
    pub(super) fn new(names: &Names<'_>) -> Sql {
        let Names { stage, side, .. } = names;
        let (has, bit) = (names.has(), Names::bit(names.feed));
        let leaving = format!("s.op IN ({DELETE}, {MOVED})");
        let here = names.side_is_old();
        // Rows that change and are not there: they come if they are whole.
        let lost = |ops: &str| {
            format!(
                "WITH lost AS (SELECT s.ctid, $1::boolean AND s.sent IS NULL AS whole FROM {stage} s \
                 WHERE s.op IN ({ops}) AND NOT EXISTS (SELECT FROM {side} p WHERE {here} AND {has})), \
                 done AS (UPDATE {stage} s SET op = CASE WHEN lost.whole THEN {INSERT} ELSE 0 END \
                 FROM lost WHERE s.ctid = lost.ctid) \
                 SELECT count(*) FILTER (WHERE whole), count(*) FILTER (WHERE NOT whole) FROM lost"
            )
        };
        Sql {
            empty: format!("TRUNCATE {stage}"),
            all: format!(
                "INSERT INTO {stage} (op, {}) SELECT {DELETE}, {} FROM {side} p WHERE {has}",
                names.keys(|n, _| format!("o{n}")),
                names.keys(|n, c| names.types.as_staged(c, &format!("p.k{n}"))),
            ),
            fill_moves: fill_moves(names),
            forget: format!(
                "UPDATE {side} p SET sources = p.sources & ~{bit} FROM {stage} s \
                 WHERE {leaving} AND {here} AND {has}"
            ),
            leave: leave(names, &leaving),
            strangers: strangers(names),
            met: format!(
                "UPDATE {stage} s SET op = {UPDATE} FROM {side} p \
                 WHERE s.op = {INSERT} AND {here} AND {has}"
            ),
            lost: lost(&format!("{UPDATE}, {PATCH}, {MOVE}")),
            update: change(names, UPDATE),
            patch: change(names, PATCH),
            note: note(names),
            come: come(names),
        }
    }
}

/// Rows that move are looked for at their old keys and made whole.
fn fill_moves(names: &Names<'_>) -> String {
    let Names {
        stage,
        target,
        side,
        ..
    } = names;
    let filled = |c: usize| {
        let there = match names.parks() {
            true => format!(
                "CASE WHEN {} THEN t.{} ELSE p.c{c} END",
                names.shown(),
                names.quoted(c)
            ),
            false => format!("t.{}", names.quoted(c)),
        };
        let there = names.types.as_staged(c, &there);
        format!(
            "c{c} = CASE WHEN s.sent IS NULL OR substr(s.sent, {}, 1) = '1' THEN s.c{c} \
             ELSE {there} END",
            c + 1
        )
    };
    let mut set = vec![format!("op = {MOVED}")];
    set.extend(names.set(names.feed, filled));
    format!(
        "UPDATE {stage} s SET {} FROM {side} p LEFT JOIN {target} t ON {} \
         WHERE s.op = {MOVE} AND {} AND {}",
        set.join(", "),
        names.target_is_side(),
        names.side_is_old(),
        names.has()
    )
}

/// What becomes of rows whose bit has gone.
fn leave(names: &Names<'_>, leaving: &str) -> Vec<String> {
    let Names {
        stage,
        target,
        side,
        ..
    } = names;
    let here = format!("{leaving} AND {}", names.side_is_old());
    let row = names.target_is_old();
    let mut out = Vec::new();
    if names.table.row_owner == Some(names.feed) {
        for feed in names.parked() {
            let set = names.set(feed, |c| format!("c{c} = t.{}", names.quoted(c)));
            out.extend(set.map(|set| {
                format!(
                    "UPDATE {side} p SET {set} FROM {stage} s, {target} t WHERE {here} AND {row}"
                )
            }));
        }
    } else {
        let set = names.set(names.feed, |c| format!("{} = DEFAULT", names.quoted(c)));
        out.extend(set.map(|set| {
            let shown = names.shown();
            format!(
                "UPDATE {target} t SET {set} FROM {stage} s, {side} p \
                 WHERE {here} AND {row} AND {shown}"
            )
        }));
    }
    if names.parks() {
        let set = names.set(names.feed, |c| format!("c{c} = NULL"));
        out.extend(set.map(|set| format!("UPDATE {side} p SET {set} FROM {stage} s WHERE {here}")));
    } else {
        out.push(format!(
            "DELETE FROM {target} t USING {stage} s, {side} p \
             WHERE {here} AND {row} AND NOT ({})",
            names.shown()
        ));
    }
    out.push(format!(
        "DELETE FROM {side} p USING {stage} s WHERE {here} AND p.sources = 0"
    ));
    out
}

/// Updates under an unchanged key.
fn change(names: &Names<'_>, op: i16) -> Vec<String> {
    let Names {
        stage,
        target,
        side,
        ..
    } = names;
    let value = |c: usize, there: String| match op {
        PATCH => format!(
            "CASE substr(s.sent, {}, 1) WHEN '1' THEN {} ELSE {there} END",
            c + 1,
            names.new_value(c)
        ),
        _ => names.new_value(c),
    };
    let here = format!(
        "s.op = {op} AND {} AND {}",
        names.side_is_old(),
        names.has()
    );
    let mut out = Vec::new();
    let shown = names.set(names.feed, |c| {
        let name = names.quoted(c);
        format!("{name} = {}", value(c, format!("t.{name}")))
    });
    out.extend(shown.map(|set| {
        format!(
            "UPDATE {target} t SET {set} FROM {stage} s, {side} p WHERE {here} AND {} AND {}",
            names.target_is_old(),
            names.shown()
        )
    }));
    if names.parks() {
        let aside = names.set(names.feed, |c| {
            format!("c{c} = {}", value(c, format!("p.c{c}")))
        });
        out.extend(aside.map(|set| {
            format!(
                "UPDATE {side} p SET {set} FROM {stage} s WHERE {here} AND NOT ({})",
                names.shown()
            )
        }));
    }
    out
}

/// Whether a row comes to a key that its source has a row of. Where rows are kept that the source has
/// deleted, it may be one of those, if the key is the very same.
fn strangers(names: &Names<'_>) -> String {
    let Names { stage, side, .. } = names;
    let mut sql = format!(
        "SELECT FROM {stage} s, {side} p WHERE s.op IN ({INSERT}, {MOVED}) AND {} AND {}",
        names.side_is_new(),
        names.has()
    );
    if names.keeps {
        let same = names.same(
            |n, _| format!("p.k{n}::text COLLATE \"C\""),
            |_, c| format!("({})::text COLLATE \"C\"", names.new_value(c)),
        );
        sql.push_str(&format!(" AND NOT ({same})"));
    }
    sql.push_str(" LIMIT 1");
    sql
}

/// Notes rows that come.
fn note(names: &Names<'_>) -> String {
    let Names { stage, side, .. } = names;
    let bit = Names::bit(names.feed);
    let mut columns = vec![names.keys(|n, _| format!("k{n}")), "sources".to_owned()];
    let mut values = vec![names.keys(|_, c| names.new_value(c)), bit.clone()];
    let mut set = vec![format!("sources = p.sources | {bit}")];
    if names.parks() {
        columns.extend(names.set(names.feed, |c| format!("c{c}")));
        values.extend(names.set(names.feed, |c| names.new_value(c)));
        set.extend(names.set(names.feed, |c| format!("c{c} = excluded.c{c}")));
    }
    format!(
        "INSERT INTO {side} AS p ({}) SELECT {} FROM {stage} s WHERE s.op IN ({INSERT}, {MOVED}) \
         ORDER BY {} ON CONFLICT ({}) DO UPDATE SET {}",
        columns.join(", "),
        values.join(", "),
        names.keys(|_, c| names.new_value(c)),
        names.keys(|n, _| format!("k{n}")),
        set.join(", ")
    )
}

/// Makes the rows that come.
fn come(names: &Names<'_>) -> Vec<String> {
    let Names {
        stage,
        target,
        side,
        ..
    } = names;
    let coming = format!("s.op IN ({INSERT}, {MOVED})");
    let mut out = Vec::new();
    if names.parks() {
        let set = names.set(names.feed, |c| {
            format!("{} = {}", names.quoted(c), names.new_value(c))
        });
        out.extend(set.map(|set| {
            format!(
                "UPDATE {target} t SET {set} FROM {stage} s WHERE {coming} AND {}",
                names.target_is_new()
            )
        }));
        return out;
    }
    let columns = || {
        names
            .table
            .feeds
            .get(names.feed)
            .into_iter()
            .flat_map(|f| &f.columns)
    };
    let set = names.set(names.feed, |c| {
        format!("{0} = excluded.{0}", names.quoted(c))
    });
    let conflict = set.map_or("NOTHING".to_owned(), |set| format!("UPDATE SET {set}"));
    out.push(format!(
        "INSERT INTO {target} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {stage} s WHERE {coming} \
         ON CONFLICT ({}) DO {conflict}",
        Names::list(columns().map(|c| names.quoted(*c))),
        Names::list(columns().map(|c| names.new_value(*c))),
        names.keys(|_, c| names.quoted(c)),
    ));
    for feed in names.parked() {
        let set = names.set(feed, |c| format!("{} = p.c{c}", names.quoted(c)));
        out.extend(set.map(|set| {
            format!(
                "UPDATE {target} t SET {set} FROM {stage} s, {side} p WHERE {coming} AND {} AND {} \
                 AND p.sources & {} <> 0",
                names.side_is_new(),
                names.target_is_new(),
                Names::bit(feed)
            )
        }));
    }
    out
}
