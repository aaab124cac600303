//! `every_type` of PostgreSQL: a column of every type the product carries from it.

use rand::Rng as _;
use rand::rngs::SmallRng;
use rand::{SeedableRng as _, seq::IndexedRandom as _};

/// How many rows at the start at least and at most.
const ROWS: std::ops::RangeInclusive<u32> = 100..=2000;

/// A name, its type, and literals of it.
type Column = (&'static str, &'static str, &'static [&'static str]);

/// The types that users make.
const TYPES: &str = "\
    CREATE TYPE mood AS ENUM ('sad', 'so so', 'O''K'); \
    CREATE TYPE pair AS (a int, b text, c int[]); \
    CREATE TYPE span AS RANGE (subtype = float8); \
    CREATE DOMAIN positive AS int CHECK (VALUE > 0); \
    CREATE DOMAIN short_text AS varchar(5); \
    CREATE DOMAIN list AS int[];";

/// The columns but for the key.
pub(super) const COLUMNS: &[Column] = &[
    ("c_smallint", "smallint", &["-32768", "32767", "0", "7"]),
    (
        "c_integer",
        "integer",
        &["-2147483648", "2147483647", "0", "-1"],
    ),
    (
        "c_bigint",
        "bigint",
        &["-9223372036854775808", "9223372036854775807", "0"],
    ),
    (
        "c_numeric",
        "numeric(20,6)",
        &["0", "-1.5", "12345678901234.123456", "0.000001"],
    ),
    ("c_boolean", "boolean", &["true", "false"]),
    ("c_real", "real", &["0.1", "-1.5e30", "1e-38"]),
    (
        "c_double",
        "double precision",
        &["0.1", "-1.7976931348623157e308", "5e-300"],
    ),
    (
        "c_varchar",
        "varchar(200)",
        &["''", "'a'", "'ž🦊 \\ '''", "' trailing  '"],
    ),
    (
        "c_text",
        "text",
        &["''", "'NULL'", "repeat('ž', 500)", "E'\\t\\n\\\\N'"],
    ),
    (
        "c_bytea",
        "bytea",
        &["''", "'\\x00ff5c27'", "decode(repeat('5c', 300), 'hex')"],
    ),
    (
        "c_date",
        "date",
        &["'1000-01-01'", "'2024-02-29'", "'9999-12-31'"],
    ),
    (
        "c_time",
        "time(6)",
        &["'00:00'", "'23:59:59.999999'", "'12:34:56.5'"],
    ),
    (
        "c_timestamp",
        "timestamp(6)",
        &["'1000-01-01 00:00'", "'2024-02-29 23:59:59.000001'"],
    ),
    (
        "c_timestamptz",
        "timestamptz(6)",
        &["'1990-01-01 00:00+05'", "'2024-07-01 23:59:59.12-11'"],
    ),
    (
        "c_uuid",
        "uuid",
        &[
            "'123e4567-e89b-12d3-a456-426655440000'",
            "'00000000-0000-4000-8000-0000000000ff'",
        ],
    ),
    (
        "c_json",
        "json",
        &["'{}'", "'{\"b\": 1, \"a\": [1, 2.50, null]}'"],
    ),
    (
        "c_jsonb",
        "jsonb",
        &[
            "'{}'",
            "'{\"b\": 1, \"a\": [1, 2.50, null, \"ž\"]}'",
            "'12345678901234567890.5'",
        ],
    ),
    ("c_oid", "oid", &["0", "4294967295"]),
    (
        "c_numeric_any",
        "numeric",
        &["0", "1.50", "-1e-40", "1e60 + 0.5", "'NaN'"],
    ),
    (
        "c_numeric_big",
        "numeric(65,30)",
        &["-1e34", "1e-30", "0.1"],
    ),
    ("c_numeric_tens", "numeric(5,-2)", &["9999900", "-100", "0"]),
    (
        "c_numeric_small",
        "numeric(3,5)",
        &["0.00999", "-0.00001", "0"],
    ),
    ("c_char", "char(20)", &["''", "'a'", "'ž🦊'"]),
    ("c_name", "name", &["'a'", "repeat('n', 63)"]),
    ("c_one_char", "\"char\"", &["'a'", "'~'"]),
    (
        "c_bit",
        "bit(20)",
        &[
            "B'00000000000000000000'",
            "B'11111111111111111111'",
            "B'10000000000000000001'",
        ],
    ),
    ("c_bit1", "bit(1)", &["B'0'", "B'1'"]),
    (
        "c_varbit",
        "bit varying",
        &["B''", "B'101'", "B'1' || repeat('01', 100)::varbit"],
    ),
    ("c_time0", "time(0)", &["'00:00'", "'23:59:59'"]),
    (
        "c_timetz",
        "timetz",
        &["'24:00:00-15:59'", "'04:05:06.789+02'"],
    ),
    (
        "c_timestamp0",
        "timestamp(0)",
        &["'2024-02-29 23:59:59'", "'1000-01-01 00:00:01'"],
    ),
    (
        "c_timestamptz0",
        "timestamptz(0)",
        &["'1990-01-01 00:00+05'", "'2024-07-01 23:59:59-11'"],
    ),
    (
        "c_money",
        "money",
        &["'0'", "'-1234567.89'", "'92233720368547758.07'"],
    ),
    ("c_xml", "xml", &["'<a b=\"1\">ž<!-- c --></a>'", "'text'"]),
    (
        "c_jsonpath",
        "jsonpath",
        &["'$.\"a\"[*]?(@ > 1)'", "'lax $[0]'"],
    ),
    (
        "c_inet",
        "inet",
        &["'10.0.0.1'", "'10.0.0.1/8'", "'::ffff:1.2.3.4'"],
    ),
    ("c_cidr", "cidr", &["'10.0.0.0/8'", "'2001:db8::/32'"]),
    (
        "c_macaddr",
        "macaddr",
        &["'08:00:2b:01:02:03'", "'ff:ff:ff:ff:ff:ff'"],
    ),
    (
        "c_macaddr8",
        "macaddr8",
        &["'08:00:2b:ff:fe:01:02:03'", "'00:00:00:00:00:00:00:01'"],
    ),
    ("c_point", "point", &["'(1.5,-2)'", "'(0.1,1e300)'"]),
    ("c_line", "line", &["'{1,2,3}'", "'{-1,0.5,0}'"]),
    (
        "c_lseg",
        "lseg",
        &["'[(0,0),(1,1)]'", "'[(-1,0.1),(1e10,1)]'"],
    ),
    ("c_box", "box", &["'(1,1),(0,0)'", "'(2,0.5),(-1,0)'"]),
    ("c_path", "path", &["'((0,0),(1,1))'", "'[(0,0),(1,1)]'"]),
    (
        "c_polygon",
        "polygon",
        &["'((0,0),(1,1),(2,0))'", "'((0,0),(1.5,1),(2,0),(0.1,-1))'"],
    ),
    ("c_circle", "circle", &["'<(0.1,0),2>'", "'<(-1e10,5),0>'"]),
    ("c_int4range", "int4range", &["'empty'", "'[1,5)'", "'(,)'"]),
    (
        "c_int8range",
        "int8range",
        &["'[1,9223372036854775807)'", "'empty'"],
    ),
    ("c_numrange", "numrange", &["'[1.50,2)'", "'(,0]'"]),
    (
        "c_tsrange",
        "tsrange",
        &[
            "'[2024-01-01 00:00,2024-01-02 00:00:00.5)'",
            "'(,2024-01-01)'",
        ],
    ),
    (
        "c_tstzrange",
        "tstzrange",
        &["'[2024-01-01 00:00+05,infinity)'", "'empty'"],
    ),
    (
        "c_daterange",
        "daterange",
        &["'[2024-01-01,2024-02-01)'", "'[0044-03-15 BC,)'"],
    ),
    (
        "c_multirange",
        "int8multirange",
        &["'{}'", "'{[1,3),[9,)}'"],
    ),
    ("c_tsvector", "tsvector", &["''", "$$'a':1A 'it''s':2,3B$$"]),
    (
        "c_tsquery",
        "tsquery",
        &["$$'a' & !'b' <2> 'c':*A$$", "$$'x' | 'y'$$"],
    ),
    (
        "c_ints",
        "integer[]",
        &["'{}'", "'{1,NULL,-3}'", "'[0:1]={1,2}'", "'{{1,2},{3,4}}'"],
    ),
    (
        "c_texts",
        "text[]",
        &["ARRAY['a,b', 'q\"\\', 'NULL', NULL, '', ' ž🦊 ']", "'{}'"],
    ),
    ("c_varchars", "varchar(3)[]", &["'{abc,\"a  \"}'", "'{}'"]),
    ("c_chars", "char(3)[]", &["'{abc,a}'", "'{NULL,b}'"]),
    (
        "c_numerics",
        "numeric(10,2)[]",
        &["'{1.50,NaN}'", "'{-0.01}'"],
    ),
    (
        "c_floats",
        "double precision[]",
        &["'{0.1,-0,NaN,Infinity}'", "'{1e300,5e-324}'"],
    ),
    ("c_bools", "boolean[]", &["'{t,f,NULL}'", "'{}'"]),
    (
        "c_byteas",
        "bytea[]",
        &["ARRAY['\\x00ff'::bytea, '']", "'{}'"],
    ),
    (
        "c_instants",
        "timestamptz[]",
        &[
            "'{\"0044-03-15 12:00:00.5+00 BC\",infinity}'",
            "'{\"2024-07-01 23:59:59.123456-11\"}'",
        ],
    ),
    (
        "c_uuids",
        "uuid[]",
        &["'{123e4567-e89b-12d3-a456-426655440000}'", "'{}'"],
    ),
    (
        "c_jsonbs",
        "jsonb[]",
        &["ARRAY['{\"a\": 1}'::jsonb, 'null']", "'{}'"],
    ),
    ("c_enum", "mood", &["'sad'", "'so so'", "'O''K'"]),
    ("c_enums", "mood[]", &["'{sad,\"so so\"}'", "'{}'"]),
    (
        "c_composite",
        "pair",
        &[
            "ROW(1, 'a \"q\" (,)', '{1,2}')::pair",
            "ROW(NULL, '', NULL)::pair",
        ],
    ),
    (
        "c_composites",
        "pair[]",
        &["ARRAY[ROW(1, 'x', NULL)::pair, NULL]", "'{}'"],
    ),
    ("c_domain", "positive", &["1", "2147483647"]),
    ("c_domain_text", "short_text", &["''", "'ž🦊abc'"]),
    ("c_domain_list", "list", &["'{1,2}'", "'{}'"]),
    ("c_range_own", "span", &["'[0.1,1e300]'", "'empty'"]),
    ("c_pg_lsn", "pg_lsn", &["'16/B374D848'", "'0/0'"]),
    (
        "c_pg_snapshot",
        "pg_snapshot",
        &["'10:20:10,14,15'", "'1:1:'"],
    ),
    ("c_xid8", "xid8", &["'18446744073709551615'", "'0'"]),
    ("c_tid", "tid", &["'(4294967295,65535)'", "'(0,1)'"]),
    ("c_oidvector", "oidvector", &["'1 2 3'", "'4294967295'"]),
];

/// The table and its first rows.
pub(super) fn create_sql(rows: u32) -> String {
    let columns: Vec<String> = COLUMNS
        .iter()
        .map(|(name, ty, _)| format!("{name} {ty}"))
        .collect();
    let mut sql = format!(
        "{TYPES}\nCREATE TABLE every_type (id bigint GENERATED BY DEFAULT AS IDENTITY (START WITH 1000001) \
         PRIMARY KEY, {});\nINSERT INTO every_type (id) VALUES (-1);\n",
        columns.join(", ")
    );
    // The same rows whatever the load's seed.
    let mut random = SmallRng::seed_from_u64(1);
    for id in 1..=(rows / 20).clamp(*ROWS.start(), *ROWS.end()) {
        sql.push_str(&insert(&mut random, &id.to_string()));
        sql.push('\n');
    }
    sql
}

/// One transaction: rows come, change in every column or in a few, and go.
pub(super) fn change(random: &mut SmallRng) -> String {
    let old = random.random_range(1..=*ROWS.start());
    match random.random_range(0..10) {
        0..3 => insert(random, "DEFAULT"),
        3..6 => {
            let insert = insert(random, &old.to_string());
            format!("BEGIN; DELETE FROM every_type WHERE id = {old}; {insert} COMMIT;")
        }
        6..9 => {
            let mut changes = Vec::new();
            for column in COLUMNS.choose_multiple(random, 3).collect::<Vec<_>>() {
                changes.push(format!("{} = {}", column.0, literal(random, column)));
            }
            format!(
                "UPDATE every_type SET {} WHERE id = {old};",
                changes.join(", ")
            )
        }
        _ => "DELETE FROM every_type WHERE id IN (SELECT id FROM every_type WHERE id > 1000000 \
              ORDER BY id LIMIT 2);"
            .to_owned(),
    }
}

/// A literal of each column.
pub(super) fn literals(random: &mut SmallRng) -> Vec<(&'static str, String)> {
    let literal = |column: &Column| (column.0, literal(random, column));
    COLUMNS.iter().map(literal).collect()
}

fn insert(random: &mut SmallRng, id: &str) -> String {
    let values: Vec<String> = COLUMNS
        .iter()
        .map(|column| literal(random, column))
        .collect();
    format!(
        "INSERT INTO every_type VALUES ({id}, {});",
        values.join(", ")
    )
}

fn literal(random: &mut SmallRng, column: &Column) -> String {
    match random.random_range(0..12) {
        0 => "NULL".to_owned(),
        _ => column
            .2
            .choose(random)
            .copied()
            .unwrap_or("NULL")
            .to_owned(),
    }
}
