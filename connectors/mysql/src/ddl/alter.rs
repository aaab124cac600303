//! The actions of `ALTER TABLE`, as far as they say where columns stand.
//!
//! <https://dev.mysql.com/doc/refman/9.1/en/alter-table.html>,
//! <https://mariadb.com/kb/en/alter-table/>. What is not understood for certain is an error: no action is
//! passed over that might add, take away, move or convert a column, or rows. An action begins with a
//! reserved word or one that cannot begin another, and its place for a column stands at its end, so
//! that neither types nor expressions have to be understood.

use super::Token;
use super::stated::Stated;
use crate::layout::Column;

/// Where a column comes to stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    /// Where it is; a new one at the end.
    Stay,
    First,
    After(String),
}

/// What is done to a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Add {
        column: Column,
        spot: Spot,
        /// `IF NOT EXISTS`.
        if_new: bool,
    },
    Drop {
        name: String,
        /// `IF EXISTS`.
        if_there: bool,
    },
    Change {
        name: String,
        column: Column,
        spot: Spot,
        if_there: bool,
        /// Its type, as far as it is understood.
        stated: Option<Stated>,
        /// It may not be NULL any more.
        not_null: bool,
    },
    Rename {
        name: String,
        to: String,
        if_there: bool,
    },
    /// Another default, or none.
    Default { name: String },
}

impl Action {
    /// The column that has to be there.
    pub(crate) fn old(&self) -> Option<&str> {
        match self {
            Action::Add { .. } => None,
            Action::Drop { name, .. }
            | Action::Change { name, .. }
            | Action::Rename { name, .. }
            | Action::Default { name } => Some(name),
        }
    }

    /// Whether it need not be there.
    pub(crate) fn lenient(&self) -> bool {
        match self {
            Action::Drop { if_there, .. }
            | Action::Change { if_there, .. }
            | Action::Rename { if_there, .. } => *if_there,
            Action::Add { .. } | Action::Default { .. } => false,
        }
    }
}

/// What a statement does to a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Alter {
    pub(crate) actions: Vec<Action>,
    /// Indexes, constraints and foreign keys that go or get another name.
    pub(crate) dropped: Vec<String>,
    /// A unique key comes.
    pub(crate) unique: bool,
    /// Rows go without being logged.
    pub(crate) unsaid: bool,
    /// `IGNORE`: rows and values that do not fit are changed, whatever the session is like.
    pub(crate) ignore: bool,
}

/// Table options, and words that say how it is done: rows stay as they are.
const OPTIONS: &[&str] = &[
    "ALGORITHM",
    "AUTO_INCREMENT",
    "AVG_ROW_LENGTH",
    "CHARACTER",
    "CHARSET",
    "CHECKSUM",
    "COLLATE",
    "COMMENT",
    "COMPRESSION",
    "CONNECTION",
    "DEFAULT",
    "DELAY_KEY_WRITE",
    "DISABLE",
    "ENABLE",
    "ENCRYPTED",
    "ENCRYPTION",
    "ENCRYPTION_KEY_ID",
    "ENGINE",
    "FORCE",
    "KEY_BLOCK_SIZE",
    "LOCK",
    "MAX_ROWS",
    "MIN_ROWS",
    "NOWAIT",
    "PACK_KEYS",
    "PAGE_CHECKSUM",
    "PAGE_COMPRESSED",
    "PAGE_COMPRESSION_LEVEL",
    "PARTITION",
    "REMOVE",
    "ROW_FORMAT",
    "STATS_AUTO_RECALC",
    "STATS_PERSISTENT",
    "STATS_SAMPLE_PAGES",
    "TRANSACTIONAL",
    "WAIT",
];

/// Reads the actions behind the table's name; `Err`: what is not understood, or changes rows or keys.
pub(super) fn parse(actions: &[Token]) -> Result<Alter, &'static str> {
    let mut out = Alter::default();
    for action in split(skip_wait(actions)) {
        // `DROP PARTITION p0, p1` stands alone in its statement.
        if out.unsaid && action.len() == 1 {
            continue;
        }
        one(&Words(action), &mut out)?;
    }
    Ok(out)
}

/// `WAIT 10` and `NOWAIT` of MariaDB stand before the actions without a comma.
fn skip_wait(actions: &[Token]) -> &[Token] {
    match actions {
        [first, _, rest @ ..] if first.is("WAIT") => rest,
        [first, rest @ ..] if first.is("NOWAIT") => rest,
        all => all,
    }
}

/// Cuts at the commas outside of brackets.
fn split(tokens: &[Token]) -> Vec<&[Token]> {
    let mut depth = 0;
    let mut parts = tokens.split(|token| {
        match token {
            Token::Punct('(') => depth += 1,
            Token::Punct(')') => depth -= 1,
            _ => {}
        }
        depth == 0 && *token == Token::Punct(',')
    });
    let all: Vec<_> = parts.by_ref().collect();
    all.into_iter().filter(|part| !part.is_empty()).collect()
}

/// The words of one action.
struct Words<'a>(&'a [Token]);

impl<'a> Words<'a> {
    fn is(&self, at: usize, words: &[&str]) -> bool {
        let token = self.0.get(at);
        token.is_some_and(|token| words.iter().any(|word| token.is(word)))
    }

    fn name(&self, at: usize) -> Result<String, &'static str> {
        let name = self.0.get(at).and_then(Token::name);
        name.map(str::to_owned).ok_or("a name that is not there")
    }

    fn has(&self, word: &str) -> bool {
        self.0.iter().any(|token| token.is(word))
    }

    /// How many words from `at` on are `IF [NOT] EXISTS`.
    fn condition(&self, at: usize) -> usize {
        match (self.is(at, &["IF"]), self.is(at + 1, &["NOT"])) {
            (false, _) => 0,
            (true, true) => 3,
            (true, false) => 2,
        }
    }

    fn from(&self, at: usize) -> Words<'a> {
        Words(self.0.get(at..).unwrap_or(&[]))
    }

    /// Whether a foreign key in it changes rows by itself.
    fn acts(&self) -> bool {
        self.has("REFERENCES") && (self.has("CASCADE") || self.has("SET"))
    }
}

const KEY: &str = "a change of the primary key";
pub(crate) const ROWS: &str = "rows that come or go without being logged";
const ACTS: &str = "a foreign key that changes rows by itself";
const UNKNOWN: &str = "an action this version cannot place";

fn one(words: &Words<'_>, out: &mut Alter) -> Result<(), &'static str> {
    if words.has("PARTITION") && words.is(0, &["ADD", "DROP", "TRUNCATE", "EXCHANGE", "CONVERT"]) {
        // A partition that is added is empty.
        let goes = words.is(0, &["DROP", "TRUNCATE"]) && words.is(1, &["PARTITION"]);
        out.unsaid |= goes;
        return match goes || words.is(0, &["ADD"]) {
            true => Ok(()),
            false => Err(ROWS),
        };
    }
    if words.has("TABLESPACE") {
        return Err(ROWS);
    }
    if words.is(0, &["ADD"]) {
        return add(words, out);
    }
    if words.is(0, &["DROP"]) {
        return drop(words, out);
    }
    if words.is(0, &["CHANGE", "MODIFY"]) {
        return change(words, out);
    }
    if words.is(0, &["RENAME"]) {
        return rename(words, out);
    }
    if words.is(0, &["ALTER"]) {
        return alter(words, out);
    }
    let partitions = [
        "REORGANIZE",
        "COALESCE",
        "ANALYZE",
        "CHECK",
        "OPTIMIZE",
        "REBUILD",
        "REPAIR",
    ];
    let whole = words.has("PARTITION") && words.is(0, &partitions);
    let validation = words.is(0, &["WITH", "WITHOUT"]) && words.is(1, &["VALIDATION"]);
    match whole || validation || words.is(0, OPTIONS) {
        true => Ok(()),
        false => Err(UNKNOWN),
    }
}

fn add(words: &Words<'_>, out: &mut Alter) -> Result<(), &'static str> {
    let mut at = 1;
    if words.is(at, &["CONSTRAINT"]) {
        at += 1 + words.condition(at + 1);
        let kinds = ["PRIMARY", "UNIQUE", "FOREIGN", "CHECK"];
        at += usize::from(!words.is(at, &kinds));
    }
    if words.is(at, &["PRIMARY"]) {
        return Err(KEY);
    }
    if words.is(at, &["UNIQUE"]) {
        out.unique = true;
        return Ok(());
    }
    if words.is(at, &["FOREIGN"]) {
        return if words.acts() { Err(ACTS) } else { Ok(()) };
    }
    if words.is(at, &["CHECK", "INDEX", "KEY", "FULLTEXT", "SPATIAL"]) {
        return Ok(());
    }
    let hidden = words.is(at, &["SYSTEM"]) && words.is(at + 1, &["VERSIONING"])
        || words.is(at, &["PERIOD"]) && words.is(at + 1, &["FOR"])
        || words.is(at, &["VECTOR"]) && words.is(at + 1, &["INDEX", "KEY"]);
    if hidden || at > 1 {
        return Err(UNKNOWN);
    }
    at += usize::from(words.is(at, &["COLUMN"]));
    let if_new = words.condition(at) > 0;
    at += words.condition(at);
    if words.0.get(at) != Some(&Token::Punct('(')) {
        let (column, spot) = column(&words.from(at), out)?;
        out.actions.push(Action::Add {
            column,
            spot,
            if_new,
        });
        return Ok(());
    }
    // ADD (a INT, b INT, INDEX (a)).
    let inside = words.0.get(at + 1..words.0.len() - 1).unwrap_or(&[]);
    if words.0.last() != Some(&Token::Punct(')')) {
        return Err(UNKNOWN);
    }
    for part in split(inside) {
        let part = [&[Token::Word("ADD".to_owned())][..], part].concat();
        add(&Words(&part), out)?;
    }
    Ok(())
}

/// A column's definition, which begins with its name.
fn column(words: &Words<'_>, out: &mut Alter) -> Result<(Column, Spot), &'static str> {
    let name = words.name(0)?;
    let spot = match words.0 {
        [.., last] if last.is("FIRST") => Spot::First,
        [.., after, last] if after.is("AFTER") => {
            Spot::After(last.name().ok_or(UNKNOWN)?.to_owned())
        }
        _ => Spot::Stay,
    };
    if words.acts() {
        return Err(ACTS);
    }
    let unique = words.has("UNIQUE") || words.has("SERIAL");
    if words.has("PRIMARY") || words.has("KEY") && !unique {
        return Err(KEY);
    }
    out.unique |= unique;
    if words.0.len() < 2 {
        return Err(UNKNOWN);
    }
    // What a type's name stands for depends on the session that altered the table (`sql_mode`).
    let column = Column {
        name,
        ..Column::default()
    };
    Ok((column, spot))
}

fn drop(words: &Words<'_>, out: &mut Alter) -> Result<(), &'static str> {
    if words.is(1, &["PRIMARY"]) {
        return Err(KEY);
    }
    if words.is(1, &["INDEX", "KEY", "CONSTRAINT", "CHECK"]) {
        out.dropped.push(words.name(2 + words.condition(2))?);
        return Ok(());
    }
    if words.is(1, &["FOREIGN"]) && words.is(2, &["KEY"]) {
        out.dropped.push(words.name(3 + words.condition(3))?);
        return Ok(());
    }
    let mut at = 1 + usize::from(words.is(1, &["COLUMN"]));
    let if_there = words.condition(at) > 0;
    at += words.condition(at);
    let tail = words.from(at + 1);
    if !tail.0.is_empty() && !tail.is(0, &["RESTRICT", "CASCADE"]) {
        return Err(UNKNOWN);
    }
    let name = words.name(at)?;
    out.actions.push(Action::Drop { name, if_there });
    Ok(())
}

fn change(words: &Words<'_>, out: &mut Alter) -> Result<(), &'static str> {
    let mut at = 1 + usize::from(words.is(1, &["COLUMN"]));
    let if_there = words.condition(at) > 0;
    at += words.condition(at);
    let name = words.name(at)?;
    at += usize::from(words.is(0, &["CHANGE"]));
    let (column, spot) = column(&words.from(at), out)?;
    let definition = words.from(at + 1);
    // A TIMESTAMP is not NULL unless that is said, in sessions that are so set.
    let implied = definition.is(0, &["TIMESTAMP"]) && !definition.has("NULL");
    out.actions.push(Action::Change {
        name,
        column,
        spot,
        if_there,
        stated: Stated::read(definition.0),
        not_null: implied || definition.has("NOT"),
    });
    Ok(())
}

fn rename(words: &Words<'_>, out: &mut Alter) -> Result<(), &'static str> {
    if words.is(1, &["INDEX", "KEY"]) {
        out.dropped.push(words.name(2 + words.condition(2))?);
        return Ok(());
    }
    if !words.is(1, &["COLUMN"]) {
        return Err("another name of the table");
    }
    let at = 2 + words.condition(2);
    if !words.is(at + 1, &["TO"]) || words.0.len() != at + 3 {
        return Err(UNKNOWN);
    }
    out.actions.push(Action::Rename {
        name: words.name(at)?,
        to: words.name(at + 2)?,
        if_there: at > 2,
    });
    Ok(())
}

fn alter(words: &Words<'_>, out: &mut Alter) -> Result<(), &'static str> {
    if words.is(1, &["INDEX", "KEY", "CHECK", "CONSTRAINT"]) {
        return Ok(());
    }
    let mut at = 1 + usize::from(words.is(1, &["COLUMN"]));
    let if_there = words.condition(at) > 0;
    at += words.condition(at);
    if !words.is(at + 1, &["SET", "DROP"]) || if_there {
        return Err(UNKNOWN);
    }
    let name = words.name(at)?;
    out.actions.push(Action::Default { name });
    Ok(())
}
