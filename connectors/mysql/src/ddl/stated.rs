//! The type that a statement gives a column, as far as it can be told from its words alone.
//!
//! `MODIFY` and `CHANGE` state the whole type, also where only a comment, a default or NULL is changed. If it
//! is the type that the column has already, the statement passes. What stands for another type in another
//! session (`REAL`), labels, and what makes or renumbers values is not understood, and so never the same.
//!
//! <https://mariadb.com/kb/en/data-types/>, <https://dev.mysql.com/doc/refman/9.1/en/data-types.html>.

use super::Token;

/// A type, in the servers' own words for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stated {
    /// Without the width of whole numbers: `int`, `decimal(10,2)`, `varchar(10)`.
    name: String,
    unsigned: bool,
    /// The character set of a text; `None`: the table's.
    set: Option<String>,
}

/// What stands behind a type, and does not change what values it has.
const BEHIND: &[&str] = &[
    "NOT",
    "NULL",
    "DEFAULT",
    "COMMENT",
    "UNIQUE",
    "ON",
    "FIRST",
    "AFTER",
    "CHECK",
    "VISIBLE",
    "INVISIBLE",
];
/// What makes values, or says how they lie.
const MAKES: &[&str] = &[
    "AS",
    "GENERATED",
    "AUTO_INCREMENT",
    "COMPRESSED",
    "REFERENCES",
    "SERIAL",
    "STORED",
    "VIRTUAL",
    "WITHOUT",
    "WITH",
];

impl Stated {
    /// Reads a column's definition behind its name; `None`: it is not understood.
    pub(super) fn read(words: &[Token]) -> Option<Self> {
        let made = |token: &Token| MAKES.iter().any(|word| token.is(word));
        if words.iter().any(made) {
            return None;
        }
        let (first, rest) = words.split_first()?;
        let Token::Word(word) = first else {
            return None;
        };
        let (lengths, mut rest) = lengths(rest)?;
        let name = named(&word.to_ascii_lowercase(), &lengths)?;
        let mut stated = Stated {
            name,
            unsigned: false,
            set: None,
        };
        while let Some((word, tail)) = rest.split_first() {
            rest = tail;
            let mut next = || {
                let (value, tail) = rest.split_first()?;
                rest = tail;
                value.name().map(str::to_ascii_lowercase)
            };
            if word.is("UNSIGNED") || word.is("ZEROFILL") {
                stated.unsigned = true;
            } else if word.is("CHARACTER") {
                if next()? != "set" {
                    return None;
                }
                stated.set = Some(next()?);
            } else if word.is("CHARSET") {
                stated.set = Some(next()?);
            } else if word.is("COLLATE") {
                // `uca1400_ai_ci` is of any set.
                let collation = next()?;
                let set = collation.split('_').next().unwrap_or_default();
                if stated.set.is_none() && !set.starts_with("uca") {
                    stated.set = Some(set.to_owned());
                }
            } else {
                let known = BEHIND.iter().any(|behind| word.is(behind));
                return known.then_some(stated);
            }
        }
        Some(stated)
    }

    /// Whether it is the type of a column, in a table whose columns get the character set `default` if they
    /// are made without one.
    pub(crate) fn is(&self, native: &str, default: Option<&str>) -> bool {
        let (ty, set) = match native.split_once(" character set ") {
            Some((ty, set)) => (ty, Some(set)),
            None => (native, None),
        };
        let word = ty.split(['(', ' ']).next().unwrap_or_default();
        // Words behind the lengths.
        let unsigned = ty.contains(" unsigned");
        let lengths = ty
            .split_once('(')
            .and_then(|(_, rest)| rest.split_once(')'));
        let lengths: Option<Vec<String>> = match lengths {
            None => Some(Vec::new()),
            Some((lengths, _)) => lengths.split(',').map(length).collect(),
        };
        let name = lengths.and_then(|lengths| named(word, &lengths));
        let sets = match (set, self.set.as_deref()) {
            (None, stated) => stated.is_none(),
            (Some(set), stated) => stated.or(default).is_some_and(|s| same_set(s, set)),
        };
        name.as_ref() == Some(&self.name) && unsigned == self.unsigned && sets
    }

    /// Whether a text gets the table's character set.
    pub(crate) fn leaves_set(&self) -> bool {
        self.set.is_none()
    }
}

fn same_set(a: &str, b: &str) -> bool {
    let whole = |set: &str| match set {
        "utf8" => "utf8mb3".to_owned(),
        set => set.to_owned(),
    };
    whole(a) == whole(b)
}

fn length(text: &str) -> Option<String> {
    let number: u32 = text.trim().parse().ok()?;
    Some(number.to_string())
}

/// The numbers in brackets, and what stands behind them.
fn lengths(words: &[Token]) -> Option<(Vec<String>, &[Token])> {
    let Some((Token::Punct('('), inside)) = words.split_first() else {
        return Some((Vec::new(), words));
    };
    let end = inside.iter().position(|t| *t == Token::Punct(')'))?;
    let (inside, rest) = inside.split_at_checked(end)?;
    let parts = inside.split(|token| *token == Token::Punct(','));
    let lengths = parts.map(|part| match part {
        [Token::Word(word)] => length(word),
        _ => None,
    });
    Some((lengths.collect::<Option<_>>()?, rest.get(1..)?))
}

/// A type with all that decides about its values; `None`: it is not understood.
fn named(word: &str, lengths: &[String]) -> Option<String> {
    let word = match word {
        "integer" | "int4" => "int",
        "int1" => "tinyint",
        "int2" => "smallint",
        "int3" | "middleint" => "mediumint",
        "int8" => "bigint",
        "dec" | "numeric" | "fixed" => "decimal",
        "float4" => "float",
        "float8" => "double",
        word => word,
    };
    let of = |default: &str| match lengths {
        [] => Some(format!("{word}({default})")),
        [one] => Some(format!("{word}({one})")),
        _ => None,
    };
    match (word, lengths) {
        // How wide they are shown.
        ("tinyint" | "smallint" | "mediumint" | "int" | "bigint", [] | [_]) => {
            Some(word.to_owned())
        }
        ("bool" | "boolean", []) => Some("tinyint".to_owned()),
        ("decimal", []) => Some("decimal(10,0)".to_owned()),
        ("decimal", [digits]) => Some(format!("decimal({digits},0)")),
        ("decimal", [digits, scale]) => Some(format!("decimal({digits},{scale})")),
        ("datetime" | "timestamp" | "time", _) => of("0"),
        ("char" | "binary" | "bit", _) => of("1"),
        ("varchar" | "varbinary", [_]) => of(""),
        (
            "float" | "double" | "date" | "json" | "uuid" | "inet4" | "inet6" | "tinytext" | "text"
            | "mediumtext" | "longtext" | "tinyblob" | "blob" | "mediumblob" | "longblob",
            [],
        ) => Some(word.to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ddl::tokens;

    #[test]
    fn a_type_that_is_stated_again_is_known() {
        let long = "varchar(10) character set utf8mb4";
        for (stated, native, want) in [
            ("INT", "int(11)", true),
            ("INTEGER(5) NOT NULL DEFAULT 5 COMMENT 'x'", "int(11)", true),
            ("INT UNSIGNED", "int(10) unsigned", true),
            ("INT ZEROFILL", "int(10) unsigned zerofill", true),
            ("INT", "int(10) unsigned", false),
            ("INT UNSIGNED", "int(11)", false),
            ("BIGINT", "int(11)", false),
            ("INT AUTO_INCREMENT", "int(11)", false),
            ("INT AS (a + 1)", "int(11)", false),
            ("BOOL", "tinyint(1)", true),
            ("NUMERIC(6, 2)", "decimal(6,2)", true),
            ("DECIMAL", "decimal(10,0)", true),
            ("DEC(6)", "decimal(6,2)", false),
            ("DOUBLE NULL", "double", true),
            ("DOUBLE PRECISION", "double", false),
            ("REAL", "double", false),
            ("FLOAT(5)", "float", false),
            ("DATETIME(0)", "datetime", true),
            ("DATETIME(3)", "datetime", false),
            (
                "TIMESTAMP(6) NULL ON UPDATE CURRENT_TIMESTAMP(6)",
                "timestamp(6)",
                true,
            ),
            ("YEAR", "year(4)", false),
            ("VARCHAR(10) NULL", long, true),
            ("VARCHAR(11) NULL", long, false),
            ("VARCHAR(10) CHARACTER SET utf8mb4 AFTER a", long, true),
            ("VARCHAR(10) CHARSET latin1", long, false),
            ("VARCHAR(10) COLLATE utf8mb4_bin", long, true),
            ("VARCHAR(10) COLLATE latin1_bin", long, false),
            ("VARCHAR(10) COLLATE uca1400_ai_ci", long, true),
            ("VARCHAR(10)", "varchar(10) character set latin1", false),
            ("VARCHAR(10) ASCII", long, false),
            ("VARCHAR(10) COMPRESSED", long, false),
            (
                "VARCHAR(10) CHARACTER SET utf8",
                "varchar(10) character set utf8mb3",
                true,
            ),
            ("CHAR", "char(1) character set utf8mb4", true),
            ("CHARACTER VARYING(10)", long, false),
            ("TEXT", "text character set utf8mb4", true),
            ("TEXT(100)", "text character set utf8mb4", false),
            ("MEDIUMTEXT", "text character set utf8mb4", false),
            ("VARBINARY(3)", "varbinary(3)", true),
            ("BLOB", "blob", true),
            ("ENUM('a','b')", "enum('a','b')", false),
            ("LONG VARCHAR", long, false),
            ("`int`", "int(11)", false),
            ("", "int(11)", false),
        ] {
            let found = Stated::read(&tokens(stated));
            let is = found.is_some_and(|stated| stated.is(native, Some("utf8mb4")));
            assert_eq!(is, want, "{stated} {native}");
        }
        let bare = Stated::read(&tokens("VARCHAR(10)")).unwrap();
        assert!(!bare.is(long, None) && bare.leaves_set());
    }
}
