//! `every_type`: a column of every type the product carries from MariaDB to PostgreSQL today.
//!
//! Left out, because no target column can be made for them yet: geometry, `BIT` and `INET4`/`INET6`. Values
//! without a counterpart (zero dates) are left out as well; they stop a task, which is another test.

use rand::Rng as _;
use rand::rngs::SmallRng;
use rand::{SeedableRng as _, seq::IndexedRandom as _};

/// How many rows at the start at least and at most.
const ROWS: std::ops::RangeInclusive<u32> = 100..=2000;
/// Rows of one statement.
const BATCH: u32 = 50;

/// A name, its type, and how a literal of it is made.
type Column = (&'static str, &'static str, fn(&mut SmallRng) -> String);

/// The columns but for the key.
pub(super) const COLUMNS: &[Column] = &[
    ("c_tinyint", "TINYINT", |r| signed(r, 8)),
    ("c_tinyint_u", "TINYINT UNSIGNED", |r| unsigned(r, 8)),
    ("c_smallint", "SMALLINT", |r| signed(r, 16)),
    ("c_smallint_u", "SMALLINT UNSIGNED", |r| unsigned(r, 16)),
    ("c_mediumint", "MEDIUMINT", |r| signed(r, 24)),
    ("c_mediumint_u", "MEDIUMINT UNSIGNED", |r| unsigned(r, 24)),
    ("c_int", "INT", |r| signed(r, 32)),
    ("c_int_u", "INT UNSIGNED", |r| unsigned(r, 32)),
    ("c_int_z", "INT(8) UNSIGNED ZEROFILL", |r| unsigned(r, 32)),
    ("c_bigint", "BIGINT", |r| signed(r, 64)),
    ("c_bigint_u", "BIGINT UNSIGNED", |r| unsigned(r, 64)),
    ("c_bool", "BOOL", |r| pick(r, &["0", "1"])),
    ("c_decimal", "DECIMAL(20,6)", |r| decimal(r, 14, 6)),
    ("c_decimal_big", "DECIMAL(65,30)", |r| decimal(r, 35, 30)),
    ("c_decimal_whole", "DECIMAL(18,0)", |r| decimal(r, 18, 0)),
    ("c_float", "FLOAT", float),
    ("c_double", "DOUBLE", double),
    ("c_char", "CHAR(20)", |r| text(r, 20)),
    ("c_varchar", "VARCHAR(200)", |r| text(r, 200)),
    ("c_latin", "VARCHAR(50) CHARACTER SET latin1", latin),
    ("c_tinytext", "TINYTEXT", |r| text(r, 60)),
    ("c_text", "TEXT", |r| text(r, 3000)),
    ("c_mediumtext", "MEDIUMTEXT", |r| text(r, 300)),
    ("c_longtext", "LONGTEXT", |r| text(r, 300)),
    ("c_binary", "BINARY(8)", |r| octets(r, 8)),
    ("c_varbinary", "VARBINARY(100)", |r| octets(r, 100)),
    ("c_tinyblob", "TINYBLOB", |r| octets(r, 200)),
    ("c_blob", "BLOB", |r| octets(r, 2000)),
    ("c_mediumblob", "MEDIUMBLOB", |r| octets(r, 300)),
    ("c_longblob", "LONGBLOB", |r| octets(r, 300)),
    ("c_date", "DATE", date),
    ("c_time", "TIME", |r| time(r, 0)),
    ("c_time6", "TIME(6)", |r| time(r, 6)),
    ("c_datetime", "DATETIME", |r| datetime(r, 0)),
    ("c_datetime3", "DATETIME(3)", |r| datetime(r, 3)),
    ("c_datetime6", "DATETIME(6)", |r| datetime(r, 6)),
    ("c_timestamp", "TIMESTAMP NULL", |r| timestamp(r, 0)),
    ("c_timestamp6", "TIMESTAMP(6) NULL", |r| timestamp(r, 6)),
    ("c_year", "YEAR", |r| {
        pick(r, &["1901", "1970", "2024", "2155"])
    }),
    ("c_enum", "ENUM('a', 'ž', '', 'it''s')", |r| {
        pick(r, &["'a'", "'ž'", "''", "'it''s'"])
    }),
    ("c_set", "SET('a', 'ž', 'it''s')", |r| {
        pick(r, &["''", "'a'", "'a,ž'", "'ž,it''s'", "'a,ž,it''s'"])
    }),
    ("c_json", "JSON", json),
    ("c_uuid", "UUID", uuid),
    ("c_uuid_text", "CHAR(36) CHARACTER SET ascii", uuid),
];

/// The table and its first rows.
pub(super) fn create_sql(rows: u32) -> String {
    let columns: Vec<String> = COLUMNS
        .iter()
        .map(|(name, ty, _)| format!("{name} {ty}"))
        .collect();
    let mut sql = format!(
        "CREATE TABLE every_type (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, {}) \
         AUTO_INCREMENT = 1000001;\n",
        columns.join(", ")
    );
    let nulls = vec!["NULL"; COLUMNS.len()].join(", ");
    sql.push_str(&format!("INSERT INTO every_type VALUES (-1, {nulls});\n"));
    // The same rows whatever the load's seed.
    let mut random = SmallRng::seed_from_u64(1);
    let count = (rows / 20).clamp(*ROWS.start(), *ROWS.end());
    for first in (1..=count).step_by(BATCH as usize) {
        let rows: Vec<String> = (first..(first + BATCH).min(count + 1))
            .map(|id| values(&mut random, &id.to_string()))
            .collect();
        sql.push_str(&format!(
            "INSERT INTO every_type VALUES {};\n",
            rows.join(", ")
        ));
    }
    sql
}

/// `own_types`: values only MySQL and MariaDB have. The session has to allow them.
const OWN: &[(&str, &str, &[&str])] = &[
    (
        "o_date",
        "DATE",
        &["'0000-00-00'", "'2024-00-00'", "'2024-02-31'"],
    ),
    (
        "o_datetime",
        "DATETIME(6)",
        &["'0000-00-00 00:00:00'", "'2024-02-00 01:02:03.000004'"],
    ),
    (
        "o_timestamp",
        "TIMESTAMP(6) NULL",
        &["'0000-00-00 00:00:00'", "'1970-01-01 00:00:01'"],
    ),
    (
        "o_time",
        "TIME(6)",
        &["'-838:59:59'", "'838:59:59'", "'-00:00:00.000001'"],
    ),
    ("o_year", "YEAR", &["0", "1901", "2155"]),
    ("o_enum", "ENUM('a','b')", &["'a'", "'b'"]),
    ("o_bit", "BIT(64)", &["b'0'", "~0", "b'101'"]),
    (
        "o_point",
        "GEOMETRY",
        &[
            "ST_GeomFromText('POINT(1 2)', 4326)",
            "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(0 0,1 1))')",
        ],
    ),
    ("o_inet4", "INET4", &["'10.0.0.1'", "'255.255.255.255'"]),
    ("o_inet6", "INET6", &["'::1'", "'2001:db8::ff00:42:8329'"]),
    (
        "o_text",
        "LONGTEXT",
        &["repeat('🦊', 100000)", "char(0, 1, 127)"],
    ),
    ("o_blob", "LONGBLOB", &["repeat(x'00ff', 200000)", "''"]),
    ("o_ucs2", "VARCHAR(9) CHARACTER SET ucs2", &["'ž'", "''"]),
    (
        "o_sjis",
        "VARCHAR(9) CHARACTER SET sjis",
        &["'日本'", "'a'"],
    ),
];

/// `own_types` with every value of every column, and NULLs where there are no more.
pub(super) fn own_sql() -> String {
    let columns: Vec<String> = OWN
        .iter()
        .map(|(name, ty, _)| format!("{name} {ty}"))
        .collect();
    let mut sql = format!(
        "SET sql_mode = 'ALLOW_INVALID_DATES'; CREATE TABLE own_types (id BIGINT PRIMARY KEY, {});\n",
        columns.join(", ")
    );
    let most = OWN.iter().map(|(_, _, values)| values.len()).max();
    for row in 0..most.unwrap_or(0) {
        let values: Vec<&str> = OWN
            .iter()
            .map(|(_, _, values)| values.get(row).copied().unwrap_or("NULL"))
            .collect();
        sql.push_str(&format!(
            "INSERT INTO own_types VALUES ({row}, {});\n",
            values.join(", ")
        ));
    }
    sql
}

/// Each column of `own_types` gets each of its values alone.
pub(super) fn own_changes() -> String {
    let mut sql = "SET sql_mode = 'ALLOW_INVALID_DATES';\n".to_owned();
    for (name, _, values) in OWN {
        for (at, value) in values.iter().enumerate() {
            let id = (at + 1) % values.len();
            sql.push_str(&format!(
                "UPDATE own_types SET {name} = {value} WHERE id = {id};\n"
            ));
        }
    }
    sql
}

/// One transaction: rows come, change in every column or in a few, and go.
pub(super) fn change(random: &mut SmallRng) -> String {
    let old = random.random_range(1..=*ROWS.start());
    match random.random_range(0..10) {
        0..3 => format!("INSERT INTO every_type VALUES {};", values(random, "NULL")),
        3..6 => {
            let row = values(random, &old.to_string());
            format!("REPLACE INTO every_type VALUES {row};")
        }
        6..9 => {
            let mut changes = Vec::new();
            for _ in 0..3 {
                if let Some((name, _, make)) = COLUMNS.choose(random) {
                    changes.push(format!("{name} = {}", literal(random, *make)));
                }
            }
            format!(
                "UPDATE every_type SET {} WHERE id = {old};",
                changes.join(", ")
            )
        }
        _ => "DELETE FROM every_type WHERE id > 1000000 ORDER BY id LIMIT 2;".to_owned(),
    }
}

/// A literal of each column.
pub(super) fn literals(random: &mut SmallRng) -> Vec<(&'static str, String)> {
    let literal = |(name, _, make): &Column| (*name, literal(random, *make));
    COLUMNS.iter().map(literal).collect()
}

fn values(random: &mut SmallRng, id: &str) -> String {
    let values: Vec<String> = COLUMNS
        .iter()
        .map(|(_, _, make)| literal(random, *make))
        .collect();
    format!("({id}, {})", values.join(", "))
}

fn literal(random: &mut SmallRng, make: fn(&mut SmallRng) -> String) -> String {
    if random.random_range(0..12) == 0 {
        "NULL".to_owned()
    } else {
        make(random)
    }
}

fn pick(random: &mut SmallRng, choices: &[&str]) -> String {
    choices.choose(random).copied().unwrap_or("NULL").to_owned()
}

/// The ends of the range as often as anything between them.
fn signed(random: &mut SmallRng, bits: u32) -> String {
    let (min, max) = (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits));
    let any = random.random_range(min..=max);
    [min, max, 0, -1, any, any, any, any]
        .choose(random)
        .map_or_else(String::new, i64::to_string)
}

fn unsigned(random: &mut SmallRng, bits: u32) -> String {
    let max = u64::MAX >> (64 - bits);
    let any = random.random_range(0..=max);
    [0, max, max / 2 + 1, any, any, any]
        .choose(random)
        .map_or_else(String::new, u64::to_string)
}

fn digits(random: &mut SmallRng, most: u32) -> String {
    let count = random.random_range(0..=most);
    (0..count)
        .map(|_| char::from(b'0' + random.random_range(0..10)))
        .collect()
}

fn decimal(random: &mut SmallRng, whole: u32, fraction: u32) -> String {
    let sign = if random.random() { "-" } else { "" };
    format!(
        "{sign}0{}.{}0",
        digits(random, whole),
        digits(random, fraction.saturating_sub(1))
    )
}

fn float(random: &mut SmallRng) -> String {
    let value = f32::from_bits(random.random());
    // The text of the largest values rounds to more than the type takes.
    if value.abs() < 3.4e38 {
        format!("{value:e}")
    } else {
        "0.1e0".to_owned()
    }
}

fn double(random: &mut SmallRng) -> String {
    let value = f64::from_bits(random.random());
    if value.is_finite() {
        format!("{value:e}")
    } else {
        "0.1e0".to_owned()
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn text(random: &mut SmallRng, chars: usize) -> String {
    const PIECES: &[&str] = &[
        "a",
        "Z",
        "0",
        " ",
        "ž",
        "中",
        "🦊",
        "👩‍💻",
        "'",
        "\"",
        "\\",
        "\t",
        "\n",
        "\\N",
        "%",
        "\u{301}",
        "\u{7f}",
        "\u{ffff}",
    ];
    let mut out = String::new();
    let most = random.random_range(0..=chars);
    while let Some(piece) = PIECES.choose(random) {
        if out.chars().count() + piece.chars().count() > most {
            break;
        }
        out.push_str(piece);
        // Long values grow by doubling, so that they do not take long to make.
        if out.len() > 64 && out.chars().count() * 2 <= most {
            out.push_str(&out.clone());
        }
    }
    quoted(&out)
}

fn latin(random: &mut SmallRng) -> String {
    pick(random, &["''", "'aé'", "'€ ÿ'", "'Žluťák'", "'a  '"]).replace('ť', "t")
}

fn octets(random: &mut SmallRng, bytes: usize) -> String {
    let mut out = String::from("x'");
    for _ in 0..random.random_range(0..=bytes) {
        let byte: u8 = *[0, 0x5c, 0x27, 0xff, random.random()]
            .choose(random)
            .unwrap_or(&0);
        out.push_str(&format!("{byte:02x}"));
    }
    out.push('\'');
    out
}

fn fraction(random: &mut SmallRng, places: usize) -> String {
    if places == 0 {
        return String::new();
    }
    let micros: u32 = *[0, 1, 999_999, 500_000, random.random_range(0..1_000_000)]
        .choose(random)
        .unwrap_or(&0);
    let all = format!("{micros:06}");
    format!(".{}", all.get(..places).unwrap_or(&all))
}

fn clock(random: &mut SmallRng) -> String {
    let mut below = |limit: u32| random.random_range(0..limit);
    format!("{:02}:{:02}:{:02}", below(24), below(60), below(60))
}

fn date(random: &mut SmallRng) -> String {
    let year = *[
        1,
        999,
        1582,
        1900,
        2000,
        2024,
        9999,
        random.random_range(1..=9999),
    ]
    .choose(random)
    .unwrap_or(&2024);
    let (month, day) = *[(1, 1), (2, 28), (12, 31), (10, 5), (10, 15)]
        .choose(random)
        .unwrap_or(&(1, 1));
    format!("'{year:04}-{month:02}-{day:02}'")
}

fn time(random: &mut SmallRng, places: usize) -> String {
    let sign = if random.random() { "-" } else { "" };
    let hours = *[0, 23, 24, 837, random.random_range(0..838)]
        .choose(random)
        .unwrap_or(&0);
    let mut below = |limit: u32| random.random_range(0..limit);
    let (minute, second) = (below(60), below(60));
    let fraction = fraction(random, places);
    format!("'{sign}{hours:02}:{minute:02}:{second:02}{fraction}'")
}

fn datetime(random: &mut SmallRng, places: usize) -> String {
    let day = date(random);
    let (clock, fraction) = (clock(random), fraction(random, places));
    format!("'{} {clock}{fraction}'", day.trim_matches('\''))
}

/// Between 1970 and 2038, out of the hour that a change to summer time skips.
fn timestamp(random: &mut SmallRng, places: usize) -> String {
    let (year, month) = (random.random_range(1971..2038), random.random_range(1..=12));
    let (clock, fraction) = (clock(random), fraction(random, places));
    format!("'{year}-{month:02}-10 {clock}{fraction}'")
}

fn json(random: &mut SmallRng) -> String {
    const TEXTS: &[&str] = &[
        "{}",
        "[]",
        "null",
        "{\"b\": 1, \"a\": [1, 2.50, -3e10, true, null]}",
        "{\"ž 🦊\": \"it's \\\\ \\\"quoted\\\" \\u017e\"}",
        "12345678901234567890.123456789",
        "[[[[[\"deep\"]]]]]",
    ];
    quoted(TEXTS.choose(random).copied().unwrap_or("{}"))
}

/// Of a version that is stored with its parts swapped, and of one that is not.
fn uuid(random: &mut SmallRng) -> String {
    let (high, low): (u64, u64) = (random.random(), random.random());
    let version = *[1, 4, 7].choose(random).unwrap_or(&4);
    format!(
        "'{:08x}-{:04x}-{version}{:03x}-{:04x}-{:012x}'",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 48 & 0x3fff | 0x8000,
        low & 0xffff_ffff_ffff
    )
}
