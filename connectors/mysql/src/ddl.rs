//! What a statement in the log means for captured tables.
//!
//! A small tokenizer (quotes, comments, backticks, executable comments) and one table of statement
//! kinds. It need not understand a statement fully: what it cannot place and what mentions a
//! captured table stops the task, and what does not mention one cannot hurt it.

pub(crate) mod alter;
pub(crate) mod stated;

use std::iter::Peekable;
use std::str::Chars;

use self::alter::Alter;

/// What to do at a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing for captured tables.
    Nothing,
    /// The group begins.
    Begin,
    /// The group ends and counts.
    Commit,
    /// The group, or a part of it, is taken back.
    Rollback,
    XaStart,
    XaCommit,
    XaRollback,
    /// All rows of the captured table went.
    Truncate(usize),
    /// A change of a captured table that cannot be passed: statement kind, table.
    Schema(&'static str, usize),
    /// One that perhaps can: table, statement kind, and what it does; `Err`: why that cannot be told.
    Alter(usize, &'static str, Result<Alter, &'static str>),
    /// Rows changed by a logged statement: those of a captured table that it names, or by a view, a
    /// trigger or a function those of nobody knows which.
    Statement(&'static str, Option<usize>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A bare word, as written.
    Word(String),
    /// In backticks (or double quotes).
    Name(String),
    Text,
    Punct(char),
}

impl Token {
    fn is(&self, word: &str) -> bool {
        matches!(self, Token::Word(w) if w.eq_ignore_ascii_case(word))
    }

    fn name(&self) -> Option<&str> {
        match self {
            Token::Word(w) | Token::Name(w) => Some(w),
            _ => None,
        }
    }
}

/// What a bare word is made of; a character that could not be decoded may be a letter.
fn in_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$' | '@' | char::REPLACEMENT_CHARACTER)
}

/// Whether a second dash begins a comment: white space has to follow.
fn comment(rest: &Peekable<Chars<'_>>) -> bool {
    let mut rest = rest.clone();
    rest.next() == Some('-')
        && rest
            .next()
            .is_none_or(|c| c.is_whitespace() || c.is_control())
}

const DOUBTFUL: &str = "its text can be read in several ways (a backslash, an executable comment)";

/// Whether the tokens of a statement may not be what the server read: what a backslash or a quotation
/// mark means depends on the session, and whether an executable comment counts on the server.
fn doubtful(sql: &str) -> bool {
    let unclear = ["\\", "/*!", "/*M!"].iter().any(|text| sql.contains(text));
    unclear || sql.contains(char::REPLACEMENT_CHARACTER)
}

fn tokens(sql: &str) -> Vec<Token> {
    let mut out = Vec::new();
    let mut it = sql.chars().peekable();
    while let Some(c) = it.next() {
        match c {
            '`' | '"' => {
                let mut name = String::new();
                while let Some(d) = it.next() {
                    if d == c {
                        if it.peek() != Some(&c) {
                            break;
                        }
                        it.next();
                    }
                    name.push(d);
                }
                out.push(Token::Name(name));
            }
            '\'' => {
                while let Some(d) = it.next() {
                    if d == '\\' {
                        it.next();
                    } else if d == '\'' && it.next_if_eq(&'\'').is_none() {
                        break;
                    }
                }
                out.push(Token::Text);
            }
            '#' => while it.next_if(|d| *d != '\n').is_some() {},
            '-' if comment(&it) => while it.next_if(|d| *d != '\n').is_some() {},
            '/' if it.peek() == Some(&'*') => {
                it.next();
                let executable = it.next_if(|d| *d == '!' || *d == 'M').is_some();
                if executable {
                    // `/*!50100 …*/`: its text counts; the closing stars become harmless tokens.
                    it.next_if_eq(&'!');
                    while it.next_if(char::is_ascii_digit).is_some() {}
                } else {
                    let mut last = ' ';
                    for d in it.by_ref() {
                        if last == '*' && d == '/' {
                            break;
                        }
                        last = d;
                    }
                }
            }
            '*' if it.peek() == Some(&'/') => {
                it.next();
            }
            c if in_word(c) => {
                let mut word = String::from(c);
                while let Some(d) = it.next_if(|d| in_word(*d)) {
                    word.push(d);
                }
                out.push(Token::Word(word));
            }
            c if c.is_whitespace() => {}
            c => out.push(Token::Punct(c)),
        }
    }
    out
}

/// Finds a captured table by database and name.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str, &str) -> Option<usize>;

/// A captured table that any part of the statement may name.
fn mentioned(all: &[Token], db: &str, find: Lookup<'_>) -> Option<usize> {
    all.iter().enumerate().find_map(|(i, token)| {
        let name = token.name()?;
        let dotted = i > 1 && all.get(i - 1) == Some(&Token::Punct('.'));
        let schema = if dotted {
            all.get(i - 2).and_then(Token::name).unwrap_or(db)
        } else {
            db
        };
        find(schema, name)
    })
}

/// The tables of a comma-separated list that starts at `rest`.
fn listed(rest: &[Token], db: &str, find: Lookup<'_>) -> Option<usize> {
    let mut i = 0;
    loop {
        let first = rest.get(i)?.name()?;
        let (hit, used) = match (rest.get(i + 1), rest.get(i + 2).and_then(Token::name)) {
            (Some(Token::Punct('.')), Some(second)) => (find(first, second), 3),
            _ => (find(db, first), 1),
        };
        if hit.is_some() {
            return hit;
        }
        i += used;
        if rest.get(i) != Some(&Token::Punct(',')) {
            return None;
        }
        i += 1;
    }
}

/// Classifies one statement with default database `db`.
pub(crate) fn classify(db: &str, sql: &str, find: Lookup<'_>) -> Effect {
    // The commonest, without taking the text apart.
    match sql.trim() {
        "BEGIN" => return Effect::Begin,
        "COMMIT" => return Effect::Commit,
        "ROLLBACK" => return Effect::Rollback,
        _ => {}
    }
    let mut all = tokens(sql);
    // `SET STATEMENT x=y FOR <statement>`.
    if all.first().is_some_and(|t| t.is("SET"))
        && all.get(1).is_some_and(|t| t.is("STATEMENT"))
        && let Some(at) = all.iter().position(|t| t.is("FOR"))
    {
        all.drain(..=at);
    }
    let word = |i: usize, w: &str| all.get(i).is_some_and(|t| t.is(w));
    let Some(first) = all.first().and_then(Token::name) else {
        return Effect::Nothing;
    };
    let any = || mentioned(&all, db, find);
    let stop = |kind| any().map_or(Effect::Nothing, |t| Effect::Schema(kind, t));
    match first.to_ascii_uppercase().as_str() {
        "BEGIN" | "START" => Effect::Begin,
        "COMMIT" => Effect::Commit,
        "ROLLBACK" => Effect::Rollback,
        "XA" if word(1, "START") || word(1, "BEGIN") => Effect::XaStart,
        "XA" if word(1, "COMMIT") => Effect::XaCommit,
        "XA" if word(1, "ROLLBACK") => Effect::XaRollback,
        "XA" | "SAVEPOINT" | "RELEASE" | "FLUSH" | "ANALYZE" | "OPTIMIZE" | "REPAIR" | "CHECK"
        | "GRANT" | "REVOKE" | "SET" | "KILL" => Effect::Nothing,
        "TRUNCATE" => {
            let skip = 1 + usize::from(word(1, "TABLE"));
            listed(all.get(skip..).unwrap_or(&[]), db, find)
                .map_or(Effect::Nothing, Effect::Truncate)
        }
        "INSERT" => Effect::Statement("INSERT", any()),
        "UPDATE" => Effect::Statement("UPDATE", any()),
        "DELETE" => Effect::Statement("DELETE", any()),
        "REPLACE" => Effect::Statement("REPLACE", any()),
        "LOAD" => Effect::Statement("LOAD DATA", any()),
        "SELECT" | "DO" | "CALL" | "WITH" => Effect::Statement("a call of a function", any()),
        "RENAME" if word(1, "USER") => Effect::Nothing,
        "RENAME" => stop("RENAME TABLE"),
        kind @ ("CREATE" | "DROP" | "ALTER") => match object(kind, &all, db, find) {
            Effect::Alter(table, kind, Ok(_)) if doubtful(sql) => {
                Effect::Alter(table, kind, Err(DOUBTFUL))
            }
            effect => effect,
        },
        _ => stop("a statement this version cannot place"),
    }
}

/// Whether a `CREATE TABLE … SELECT` of MySQL goes on with its rows
/// (<https://dev.mysql.com/doc/refman/8.4/en/atomic-ddl.html>).
pub(crate) fn starts_transaction(sql: &str) -> bool {
    sql.trim_end().ends_with(" START TRANSACTION")
}

/// The transaction of `XA COMMIT X'61',X'62',1`, as `format.gtrid.bqual` in hexadecimal.
pub(crate) fn xid(sql: &str) -> Option<String> {
    let (_, rest) = sql.split_once("X'")?;
    let (gtrid, rest) = rest.split_once("',X'")?;
    let (bqual, format) = rest.split_once("',")?;
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_hexdigit());
    let format: u32 = format.split_whitespace().next()?.parse().ok()?;
    (digits(gtrid) && digits(bqual)).then(|| {
        let (gtrid, bqual) = (gtrid.to_ascii_lowercase(), bqual.to_ascii_lowercase());
        format!("{format}.{gtrid}.{bqual}")
    })
}

fn object(kind: &str, all: &[Token], db: &str, find: Lookup<'_>) -> Effect {
    let mut i = 1;
    let mut replace = false;
    let mut unique = false;
    let mut ignore = false;
    let word = |i: usize| match all.get(i) {
        Some(Token::Word(w)) => w.to_ascii_uppercase(),
        _ => String::new(),
    };
    let stop = |what, t: Option<usize>| t.map_or(Effect::Nothing, |t| Effect::Schema(what, t));
    loop {
        match word(i).as_str() {
            "OR" if word(i + 1) == "REPLACE" => {
                replace = true;
                i += 2;
            }
            // A temporary table hides a captured one of its name only from its own session.
            "TEMPORARY" => return Effect::Nothing,
            "UNIQUE" => {
                unique = true;
                i += 1;
            }
            "IGNORE" => {
                ignore = true;
                i += 1;
            }
            "ONLINE" | "OFFLINE" | "FULLTEXT" | "SPATIAL" => i += 1,
            _ => break,
        }
    }
    let what = word(i);
    i += 1;
    let mut conditional = false;
    while matches!(word(i).as_str(), "IF" | "NOT" | "EXISTS") {
        conditional = true;
        i += 1;
    }
    let rest = all.get(i..).unwrap_or(&[]);
    match (kind, what.as_str()) {
        ("CREATE", "TABLE") if conditional && !replace => Effect::Nothing,
        ("CREATE", "TABLE") => match listed(rest, db, find) {
            None if all.last().is_some_and(|t| t.is("TRANSACTION")) => Effect::Begin,
            // It was not there before, as the stream does not pass the end of a captured table.
            Some(_) if !replace => match all.last().is_some_and(|t| t.is("TRANSACTION")) {
                true => Effect::Begin,
                false => Effect::Nothing,
            },
            table => stop("CREATE TABLE", table),
        },
        ("DROP", "TABLE" | "TABLES") => stop("DROP TABLE", listed(rest, db, find)),
        ("ALTER", "TABLE") => match alter_table(rest, db, find) {
            Effect::Alter(table, kind, Ok(alter)) => {
                Effect::Alter(table, kind, Ok(Alter { ignore, ..alter }))
            }
            effect => effect,
        },
        ("DROP", "DATABASE" | "SCHEMA") => {
            let gone = rest.first().and_then(Token::name).unwrap_or(db);
            // An empty table name asks for any table of the database.
            stop("DROP DATABASE", find(gone, ""))
        }
        ("DROP", "INDEX") => match (rest.first().and_then(Token::name), rest.get(2..)) {
            (Some(index), Some(table)) => {
                let dropped = vec![index.to_owned()];
                index_of(listed(table, db, find), "DROP INDEX", dropped)
            }
            _ => stop("DROP INDEX", mentioned(all, db, find)),
        },
        ("CREATE", "INDEX") if unique => {
            index_of(mentioned(all, db, find), "CREATE UNIQUE INDEX", Vec::new())
        }
        (
            _,
            "INDEX" | "VIEW" | "TRIGGER" | "PROCEDURE" | "FUNCTION" | "EVENT" | "USER" | "ROLE"
            | "DATABASE" | "SCHEMA" | "SERVER" | "SEQUENCE" | "DEFINER" | "ALGORITHM" | "SQL"
            | "AGGREGATE" | "PACKAGE",
        ) => Effect::Nothing,
        _ => stop(
            "a definition this version cannot place",
            mentioned(all, db, find),
        ),
    }
}

/// What a statement on an index does to its table: one that goes, or a unique one that comes.
fn index_of(table: Option<usize>, kind: &'static str, dropped: Vec<String>) -> Effect {
    let alter = Alter {
        unique: dropped.is_empty(),
        dropped,
        ..Alter::default()
    };
    table.map_or(Effect::Nothing, |t| Effect::Alter(t, kind, Ok(alter)))
}

/// `ALTER TABLE`; `rest` begins with the table's name.
fn alter_table(rest: &[Token], db: &str, find: Lookup<'_>) -> Effect {
    if let Some(table) = listed(rest, db, find) {
        let start = if rest.get(1) == Some(&Token::Punct('.')) {
            3
        } else {
            1
        };
        let actions = rest.get(start..).unwrap_or(&[]);
        return Effect::Alter(table, "ALTER TABLE", alter::parse(actions));
    }
    // EXCHANGE PARTITION … WITH TABLE and CONVERT TABLE take rows of another table.
    rest.iter()
        .enumerate()
        .filter(|(_, token)| token.is("TABLE"))
        .find_map(|(i, _)| listed(rest.get(i + 1..)?, db, find))
        .map_or(Effect::Nothing, |t| Effect::Schema("ALTER TABLE", t))
}

#[cfg(test)]
mod tests {
    use super::alter::{Action, Spot};
    use super::*;
    use crate::layout::Column;

    #[test]
    fn xa_transactions_are_named() {
        let check = |sql, want: Option<&str>| assert_eq!(xid(sql).as_deref(), want, "{sql}");
        check("XA COMMIT X'6162',X'',1", Some("1.6162."));
        check("XA COMMIT X'6A',X'6b',7 ONE PHASE", Some("7.6a.6b"));
        check("XA COMMIT 'a'", None);
        check("XA COMMIT X'6',X'g',1", None);
    }

    #[test]
    fn statements() {
        let find =
            |db: &str, name: &str| (db == "d" && (name == "t" || name.is_empty())).then_some(0);
        let schema = |kind| Effect::Schema(kind, 0);
        let altered = |alter| Effect::Alter(0, "ALTER TABLE", Ok(alter));
        let dropped = |name: &str| Alter {
            dropped: vec![name.to_owned()],
            ..Alter::default()
        };
        let added = |name: &str| Action::Add {
            column: Column {
                name: name.to_owned(),
                ..Column::default()
            },
            spot: Spot::Stay,
            if_new: false,
        };
        let gone = |name: &str| Action::Drop {
            name: name.to_owned(),
            if_there: false,
        };
        for (db, sql, want) in [
            ("d", "BEGIN", Effect::Begin),
            ("d", "TRUNCATE t", Effect::Truncate(0)),
            ("x", "truncate table `d`.`t`", Effect::Truncate(0)),
            ("x", "TRUNCATE TABLE t", Effect::Nothing),
            (
                "d",
                "ALTER TABLE t ADD c INT",
                altered(Alter {
                    actions: vec![added("c")],
                    ..Alter::default()
                }),
            ),
            (
                "d",
                "ALTER ONLINE IGNORE TABLE t DROP x",
                altered(Alter {
                    actions: vec![gone("x")],
                    ignore: true,
                    ..Alter::default()
                }),
            ),
            (
                "d",
                "ALTER TABLE t ADD INDEX (c, e)",
                altered(Alter::default()),
            ),
            (
                "d",
                "ALTER TABLE t ADD INDEX (c), DROP COLUMN x",
                altered(Alter {
                    actions: vec![gone("x")],
                    ..Alter::default()
                }),
            ),
            ("d", "/* t */ ALTER TABLE u ADD c INT -- t", Effect::Nothing),
            (
                "d",
                "/*!50100 ALTER TABLE t DROP c */",
                Effect::Alter(0, "ALTER TABLE", Err(DOUBTFUL)),
            ),
            ("d", "ALTER TABLE u COMMENT 'it''s \\' t'", Effect::Nothing),
            ("x", "DROP TABLE IF EXISTS u, d.t", schema("DROP TABLE")),
            ("d", "DROP TEMPORARY TABLE t", Effect::Nothing),
            ("x", "DROP DATABASE d", schema("DROP DATABASE")),
            ("x", "DROP DATABASE e", Effect::Nothing),
            ("d", "RENAME TABLE u TO t", schema("RENAME TABLE")),
            ("d", "CREATE INDEX i ON t (a)", Effect::Nothing),
            (
                "d",
                "CREATE UNIQUE INDEX i ON t (a)",
                Effect::Alter(
                    0,
                    "CREATE UNIQUE INDEX",
                    Ok(Alter {
                        unique: true,
                        ..Alter::default()
                    }),
                ),
            ),
            ("d", "CREATE TABLE u LIKE t", Effect::Nothing),
            ("d", "CREATE TABLE t (a INT)", Effect::Nothing),
            (
                "d",
                "CREATE OR REPLACE TABLE t (a INT)",
                schema("CREATE TABLE"),
            ),
            (
                "d",
                "INSERT INTO t VALUES (1)",
                Effect::Statement("INSERT", Some(0)),
            ),
            (
                "d",
                "INSERT INTO u VALUES ('t')",
                Effect::Statement("INSERT", None),
            ),
            (
                "d",
                "ALTER TABLE p EXCHANGE PARTITION x WITH TABLE t",
                schema("ALTER TABLE"),
            ),
            (
                "d",
                "ALTER TABLE p CONVERT TABLE `t` TO PARTITION x",
                schema("ALTER TABLE"),
            ),
            ("d", "ALTER TABLE p COMMENT 'WITH TABLE t'", Effect::Nothing),
            (
                "d",
                "ALTER TABLE t DROP KEY IF EXISTS `k`",
                altered(dropped("k")),
            ),
            (
                "x",
                "DROP INDEX IF EXISTS k ON d.t",
                Effect::Alter(0, "DROP INDEX", Ok(dropped("k"))),
            ),
            ("d", "DROP INDEX k ON u", Effect::Nothing),
            (
                "d",
                "ALTER TABLE t DROP KEY k, DROP a",
                altered(Alter {
                    actions: vec![gone("a")],
                    ..dropped("k")
                }),
            ),
            ("d", "XA COMMIT X'61',X'',1", Effect::XaCommit),
            (
                "d",
                "CREATE TABLE `u` (a INT) START TRANSACTION",
                Effect::Begin,
            ),
            (
                "d",
                "CREATE TABLE `t` (a INT) START TRANSACTION",
                Effect::Begin,
            ),
            ("d", "ROLLBACK TO `s`", Effect::Rollback),
        ] {
            assert_eq!(classify(db, sql, &find), want, "{sql}");
        }
    }
}
