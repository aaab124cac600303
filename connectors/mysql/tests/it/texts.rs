//! Text in every character set, and names of every kind, by both paths.

use thalweg_core::schema::TableName;
use thalweg_core::value::CellRef;

use super::types::twin;
use super::world::World;

pub(crate) async fn every_character_set_is_read_exactly() {
    let world = World::new(&[]);
    let sets = world.sql("SELECT character_set_name FROM information_schema.character_sets");
    let mut count = 0;
    for set in sets.lines().filter(|set| *set != "binary") {
        world.sql(&format!(
            "CREATE TABLE s_{set} (id INT PRIMARY KEY, c CHAR(20) CHARACTER SET {set}, \
             v VARCHAR(200) CHARACTER SET {set}, x TEXT CHARACTER SET {set}, \
             tiny TINYTEXT CHARACTER SET {set}, medium MEDIUMTEXT CHARACTER SET {set}, \
             whole LONGTEXT CHARACTER SET {set}, e ENUM('a','é','日本') CHARACTER SET utf8mb4)"
        ));
        let name = format!("s_{set}");
        assert_eq!(world.check(&[&name]).await, [], "{set}");
        count += 1;
        let table = world.tables(&[&name]).await.remove(0);
        let samples = [
            "abc xyz 0",
            " a  ",
            "",
            "é€ÿ¼",
            "ěščřž",
            "žluťoučký кůň",
            "日本語テキスト",
            "中文字符",
            "한국어",
            "🦊👩‍💻",
            "a\u{301}",
            "~\\|",
            "ﾊﾝｶｸ",
        ];
        let rows: Vec<String> = samples
            .iter()
            .enumerate()
            .map(|(i, s)| {
                format!(
                    "({i}, '{0}', '{0}', '{0}', '{0}', '{0}', '{0}', 'é')",
                    s.replace('\\', "\\\\")
                )
            })
            .collect();
        // Every byte and every unit that the set has, as stored.
        let fill = format!(
            "SET sql_mode = ''; INSERT INTO shop.{name} VALUES {}",
            rows.join(", ")
        );
        twin(&world, &table, &fill).await;
        // And what the server itself makes of it in UTF-8.
        let (rows, _) = world.read(&table).await;
        for row in rows.iter() {
            let Some(CellRef::I64(id)) = row.cell(0) else {
                panic!("a key")
            };
            let hex = world.sql(&format!(
                "SELECT HEX(CONVERT(c USING utf8mb4)), HEX(CONVERT(v USING utf8mb4)), \
                 HEX(CONVERT(x USING utf8mb4)) FROM {name} WHERE id = {id}"
            ));
            let ours: Vec<String> = row
                .cells()
                .skip(1)
                .take(3)
                .map(|cell| match cell {
                    CellRef::Text(t) => t.bytes().map(|b| format!("{b:02X}")).collect(),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(hex.split('\t').collect::<Vec<_>>(), ours, "{set} {id}");
        }
    }
    assert!(count >= 39, "{count} sets");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_opaque() {
    let world = World::new(&[]);
    let schema = "my`shop ž.x";
    for table in [
        "select",
        "Ta ble",
        "a`b\"c'd",
        "žluťoučký_日本語",
        "dot.ted",
        "back\\slash",
        "Select",
    ] {
        let quoted = |name: &str| format!("`{}`", name.replace('`', "``"));
        let full = format!("{}.{}", quoted(schema), quoted(table));
        world
            .server
            .sql(&format!(
                "CREATE DATABASE IF NOT EXISTS {}; CREATE TABLE {full} (id INT PRIMARY KEY, \
                 `order` INT, `a``b` JSON, `c\"d'e` ENUM('x') , `f.g h` TEXT, `ý中` BIT(3))",
                quoted(schema)
            ))
            .unwrap();
        let name = TableName::new(schema, table);
        let source = world.source();
        let found = source.check(std::slice::from_ref(&name)).await.unwrap();
        assert_eq!(found, [], "{table}");
        let described = source.describe(&[name]).await.unwrap().remove(0);
        let fill = format!(
            "INSERT INTO {full} VALUES (1, 2, '{{}}', 'x', 't', 5), (2, NULL, NULL, NULL, NULL, NULL)"
        );
        let lines = twin(&world, &described, &fill).await;
        assert_eq!(lines[0], "1,2,Json(\"{}\"),'x','t',Bits(3, [160])");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_servers_sql_mode_does_not_change_what_is_read() {
    let mode = "sql_mode=ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH,NO_BACKSLASH_ESCAPES,ORACLE";
    let world = World::new(&[mode, "default_time_zone=+05:30"]);
    world.sql(
        "SET sql_mode = ''; CREATE TABLE t (id INT PRIMARY KEY, c CHAR(9), j JSON, \
         e ENUM('a\\\\b', 'it''s'), s TIMESTAMP NULL)",
    );
    let table = world.tables(&["t"]).await.remove(0);
    let fill = "SET sql_mode = '', time_zone = '+00:00'; \
                INSERT INTO shop.t VALUES (1, 'a ', '[1]', 1, '2020-01-01 00:00:00')";
    assert_eq!(
        twin(&world, &table, fill).await,
        ["1,'a',Json(\"[1]\"),'a\\b',Instant(1577836800000000)"]
    );
}
