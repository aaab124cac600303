use thalweg_core::schema::{ColumnSchema, ColumnType, TableName};

use super::*;
use crate::ddl::{Effect, classify};

fn table(columns: &[(&str, &str)]) -> TableSchema {
    let ty = || ColumnType::Json { normalised: false };
    let columns = columns.iter().map(|(n, t)| ColumnSchema::new(*n, ty(), *t));
    TableSchema::new(TableName::new("d", "t"), columns.collect())
}

#[test]
fn a_layout_is_stored_and_read() {
    let names = [
        ("id", "int(11)"),
        ("a\tb\\n\nc", "enum('x','y')"),
        ("`ž", ""),
    ];
    let missing = vec![Missing::Virtual, null(), Missing::Unknown];
    let mut layout = Layout::new(&table(&names), missing);
    layout.passes = Some("v1;1;b.1;4;\t;;0".to_owned());
    let stored = TableSchema {
        layout: Some(layout.stored()),
        ..table(&[])
    };
    assert_eq!(Layout::of(&stored).unwrap(), layout);
    assert_eq!(layout.columns[1].native, "enum");
    let long = format!("decimal({})", "1".repeat(500));
    let layout = Layout::new(&table(&[("a", &long)]), Vec::new());
    assert!(layout.stored().as_str().len() < 60);
    for broken in [
        "",
        "2",
        "1\na",
        "1\na\tb\tx",
        "1\na\tb\t=f",
        "1\na\tb\t=ff",
        "1\na\\x\tb\t",
        "1\n!\\x",
    ] {
        let stored = TableSchema {
            layout: Some(position::Layout::new(broken)),
            ..table(&[])
        };
        let error = Layout::of(&stored).unwrap_err();
        assert_eq!(error.kind(), thalweg_core::Kind::Schema, "{broken:?}");
    }
}

fn young(name: &str, came: bool) -> Young {
    Young {
        column: Column {
            name: name.to_owned(),
            native: "int(11)".to_owned(),
            missing: Missing::Virtual,
        },
        fill: Bound::new(CellRef::I64(7)).raw().into(),
        until: "v1;1;b.1;4;\t;;0".to_owned(),
        came,
    }
}

#[test]
fn young_columns_are_stored_beside_the_others() {
    let mut layout = Layout::new(&table(&[("id", "int(11)"), ("b", "int(11)")]), Vec::new());
    let without = layout.stored();
    layout.young = vec![young("a\t", false), young("b", true)];
    let stored = layout.stored();
    assert!(stored.as_str().starts_with(without.as_str()));
    let name = TableName::new("d", "t");
    assert_eq!(Layout::read(&stored, &name).unwrap(), layout);
    assert_eq!(layout.awaited("A\t"), layout.young.first());
    assert_eq!((layout.awaited("b"), layout.awaited("id")), (None, None));
    let broken = position::Layout::new(stored.as_str().replace("\t+", "\t"));
    Layout::read(&broken, &name).unwrap_err();
}

#[test]
fn a_young_column_comes_with_its_statement() {
    let find = |_: &str, name: &str| (name == "t").then_some(0);
    let altered = |layout: &Layout, actions: &str| {
        let sql = format!("ALTER TABLE t {actions}");
        let Effect::Alter(_, _, alter) = classify("d", &sql, &find) else {
            panic!("{sql}");
        };
        layout.altered(&alter.unwrap().actions).unwrap()
    };
    let before = Layout {
        young: vec![young("c", false)],
        ..Layout::new(&table(&[("a", "int"), ("b", "int")]), Vec::new())
    };
    let other = altered(&before, "ADD d INT, DROP b");
    assert_eq!(other.young, before.young);
    let after = altered(&other, "ADD C BIGINT DEFAULT 5 AFTER a");
    let names: Vec<_> = after.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["a", "C", "d"]);
    // It is what it was described as, but for the name.
    assert_eq!(after.columns[1].native, "int(11)");
    assert_eq!(after.columns[1].missing, Missing::Virtual);
    assert_eq!(after.young, [young("c", true)]);
    assert_eq!(after.awaited("c"), None);
}

/// Columns a, b, c, d after a statement; an error's words; or what the parser refuses.
fn after(actions: &str) -> Result<String, String> {
    let find = |_: &str, name: &str| (name == "t").then_some(0);
    let sql = format!("ALTER TABLE t {actions}");
    let Effect::Alter(_, _, alter) = classify("d", &sql, &find) else {
        panic!("{sql}");
    };
    let before = Layout::new(
        &table(&[("a", "int"), ("b", "int"), ("c", "int"), ("d", "int")]),
        Vec::new(),
    );
    let after = before.altered(&alter?.actions)?;
    let names: Vec<_> = after.columns.into_iter().map(|c| c.name).collect();
    Ok(names.join(" "))
}

#[test]
fn columns_go_where_the_statement_puts_them() {
    for (actions, want) in [
        ("ADD e INT", "a b c d e"),
        (
            "ADD COLUMN e DECIMAL(3, 1) NOT NULL DEFAULT 1.5 COMMENT 'x, DROP a' FIRST",
            "e a b c d",
        ),
        (
            "ADD `first` INT, ADD `e,f` INT AFTER `first`",
            "a b c d first e,f",
        ),
        ("ADD e ENUM('FIRST','AFTER') AFTER B", "a b e c d"),
        (
            "ADD (e INT, f VARCHAR(3), INDEX x (e, f)), ALGORITHM=INSTANT, LOCK=NONE",
            "a b c d e f",
        ),
        (
            "ADD COLUMN IF NOT EXISTS b INT FIRST, ADD IF NOT EXISTS g INT",
            "a b c d g",
        ),
        ("ADD e INT FIRST, ADD f INT FIRST", "f e a b c d"),
        ("ADD e INT AFTER a, ADD f INT AFTER a", "a f e b c d"),
        ("DROP b, DROP COLUMN d", "a c"),
        ("DROP COLUMN IF EXISTS x, DROP c", "a b d"),
        ("DROP b, ADD b BIGINT", "a c d b"),
        (
            "DROP a, ADD e INT AFTER b, DROP INDEX i, ADD UNIQUE KEY u (e)",
            "b e c d",
        ),
        ("MODIFY c BIGINT FIRST", "c a b d"),
        (
            "MODIFY COLUMN a BIGINT AFTER c, ADD e INT AFTER a",
            "b c a e d",
        ),
        ("CHANGE a b INT, CHANGE b a INT", "b a c d"),
        ("CHANGE COLUMN d z INT AFTER a", "a z b c"),
        ("CHANGE IF EXISTS x z INT FIRST", "a b c d"),
        ("MODIFY d INT, MODIFY a INT AFTER d", "b c d a"),
        (
            "RENAME COLUMN c TO `x``y`, ADD e INT AFTER `x``y`",
            "a b x`y e d",
        ),
        (
            "ALTER c SET DEFAULT 5, ALTER COLUMN d DROP DEFAULT",
            "a b c d",
        ),
        ("ALTER INDEX i INVISIBLE, RENAME INDEX i TO j", "a b c d"),
        (
            "ENGINE=InnoDB ROW_FORMAT=DYNAMIC, COMMENT 'a', DEFAULT CHARSET=utf8mb4",
            "a b c d",
        ),
        ("WAIT 5 ADD e INT", "a b c d e"),
        (
            "ADD e INT GENERATED ALWAYS AS (a + b) STORED AFTER a",
            "a e b c d",
        ),
        (
            "ADD CONSTRAINT CHECK (a > 0), ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES p (id)",
            "a b c d",
        ),
        (
            "ADD e INT UNIQUE KEY, DROP FOREIGN KEY f, DROP CHECK c",
            "a b c d e",
        ),
        (
            "ADD PARTITION (PARTITION p1 VALUES LESS THAN (5))",
            "a b c d",
        ),
        ("ADD e INT -- DROP a\n, DROP /* b */ c", "a b d e"),
        ("ADD e INT DEFAULT 5--3, DROP c", "a b d e"),
    ] {
        assert_eq!(after(actions).as_deref(), Ok(want), "{actions}");
    }
}

#[test]
fn what_cannot_be_told_is_refused() {
    for (actions, want) in [
        ("ADD A INT", "a column A already"),
        ("CHANGE a b INT", "a column b already"),
        ("DROP x", "no column x"),
        ("MODIFY x INT", "no column x"),
        ("RENAME COLUMN x TO y", "no column x"),
        ("ALTER x SET DEFAULT 1", "no column x"),
        ("ADD e INT AFTER x", "no column x"),
        ("DROP b, ADD e INT AFTER b", "no column b"),
        ("ADD e INT PRIMARY KEY", "primary key"),
        ("ADD e INT AUTO_INCREMENT KEY", "primary key"),
        ("ADD CONSTRAINT PRIMARY KEY (a)", "primary key"),
        ("DROP PRIMARY KEY, ADD PRIMARY KEY (b)", "primary key"),
        (
            "ADD FOREIGN KEY (a) REFERENCES p (id) ON DELETE CASCADE",
            "by itself",
        ),
        (
            "ADD e INT REFERENCES p (id) ON DELETE SET NULL",
            "by itself",
        ),
        ("RENAME TO u", "another name of the table"),
        ("RENAME u", "another name of the table"),
        ("EXCHANGE PARTITION p1 WITH TABLE u", "without being logged"),
        ("DISCARD TABLESPACE", "without being logged"),
        ("CONVERT TO CHARACTER SET latin1", "cannot place"),
        ("ADD SYSTEM VERSIONING", "cannot place"),
        ("ORDER BY a, b", "cannot place"),
        ("ADD e INT, FROBNICATE", "cannot place"),
        (r"ADD e INT COMMENT '\'', DROP a", "several ways"),
        ("ADD e INT /*!80000 FIRST */", "several ways"),
    ] {
        let said = after(actions).unwrap_err();
        assert!(said.contains(want), "{actions}: {said}");
    }
}
