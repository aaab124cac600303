//! `every_type` of PostgreSQL: a column of every type a plain server has, with values that every target
//! can hold; and `own_types`, with those that only PostgreSQL has.

use rand::Rng as _;
use rand::rngs::SmallRng;
use rand::{SeedableRng as _, seq::IndexedRandom as _};

/// How many rows at the start at least and at most.
const ROWS: std::ops::RangeInclusive<u32> = 100..=2000;

/// A name, its type, and literals of it.
type Column = (&'static str, &'static str, &'static [&'static str]);

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
    ("c_char", "char(10)", &["''", "'a'", "'ž  b'"]),
    (
        "c_any_numeric",
        "numeric",
        &["0", "-1.50", "12345678901234567890.000001"],
    ),
    (
        "c_jsonb",
        "jsonb",
        &["'{}'", "'{\"b\": 1.50, \"a\": [null, \"ž\"]}'", "'\"x\"'"],
    ),
    (
        "c_interval",
        "interval",
        &["'1 mon 2 days 03:04:05.000006'", "'-5 days'", "'0'"],
    ),
    ("c_timetz", "timetz", &["'12:34:56.5+02'", "'00:00-11:30'"]),
    ("c_inet", "inet", &["'10.0.0.1'", "'10.1.0.0/16'", "'::1'"]),
    ("c_cidr", "cidr", &["'10.1.0.0/16'", "'2001:db8::/32'"]),
    (
        "c_macaddr",
        "macaddr",
        &["'08:00:2b:01:02:03'", "'ff:ff:ff:ff:ff:ff'"],
    ),
    (
        "c_macaddr8",
        "macaddr8",
        &["'08:00:2b:01:02:03:04:05'", "'00:00:00:00:00:00:00:01'"],
    ),
    (
        "c_bit",
        "bit(9)",
        &["B'000000000'", "B'101010101'", "B'111111111'"],
    ),
    ("c_varbit", "bit varying(20)", &["B''", "B'1'", "B'0101'"]),
    ("c_money", "money", &["0", "-12.34", "1000000"]),
    (
        "c_ints",
        "integer[]",
        &["'{}'", "'{1,NULL,-3}'", "'{{1,2},{3,4}}'"],
    ),
    (
        "c_texts",
        "text[]",
        &["'{}'", "'{a,\"b,c\",NULL,\"\",\"ž \\\" \\\\\"}'"],
    ),
    (
        "c_moments",
        "timestamptz[]",
        &["'{2024-01-01 00:00+02}'", "'{NULL,infinity}'"],
    ),
    ("c_range", "int4range", &["'[1,5)'", "'empty'", "'(,7]'"]),
    ("c_numrange", "numrange", &["'[1.50,2)'", "'(,)'"]),
    ("c_point", "point", &["'(1.5,-2)'", "'(0,0)'"]),
    ("c_line", "line", &["'{1,2,3}'", "'{0,-1,0.5}'"]),
    (
        "c_lseg",
        "lseg",
        &["'[(1,2),(3,4)]'", "'[(-1e300,0),(0,1e-300)]'"],
    ),
    ("c_box", "box", &["'(3,4),(1,2)'", "'(0,0),(-1.5,-0.1)'"]),
    ("c_path", "path", &["'[(1,2),(3,4)]'", "'((1,2),(3,4))'"]),
    (
        "c_polygon",
        "polygon",
        &["'((1,2),(3,4),(5,6))'", "'((0,0))'"],
    ),
    ("c_circle", "circle", &["'<(1,2),3>'", "'<(-0.5,1e10),0>'"]),
    ("c_xml", "xml", &["'<a b=\"1\">ž</a>'", "'text'"]),
    ("c_tsvector", "tsvector", &["'a:1 fat:2,4'", "''"]),
    (
        "c_tsquery",
        "tsquery",
        &["'fat & (rat | cat)'", "'!a <-> b:*'"],
    ),
    ("c_oid", "oid", &["0", "4294967295"]),
    ("c_enum", "mood", &["'sad'", "'ž'", "'it''s'"]),
    ("c_domain", "amount", &["0", "12.5", "-99999999.9"]),
    ("c_composite", "named", &["'(1,a)'", "'(,\"b, c\")'"]),
];

/// The columns of `own_types` but for its key.
const OWN: &[Column] = &[
    (
        "o_numeric",
        "numeric",
        &["'NaN'", "1e300", "-1e-200", "0.0"],
    ),
    ("o_wide", "numeric(400,100)", &["'NaN'", "1e200", "1e-100"]),
    (
        "o_real",
        "real",
        &["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "1e-45"],
    ),
    (
        "o_double",
        "double precision",
        &["'NaN'", "'Infinity'", "'-0'", "5e-324"],
    ),
    (
        "o_date",
        "date",
        &[
            "'infinity'",
            "'-infinity'",
            "'4713-01-01 BC'",
            "'5874897-12-31'",
        ],
    ),
    (
        "o_timestamp",
        "timestamp",
        &[
            "'infinity'",
            "'0044-03-15 12:00 BC'",
            "'294276-12-31 23:59:59.999999'",
        ],
    ),
    (
        "o_timestamptz",
        "timestamptz",
        &[
            "'-infinity'",
            "'0044-03-15 12:00+00 BC'",
            "'10000-01-01 00:00+00'",
        ],
    ),
    ("o_time", "time", &["'24:00'", "'00:00'"]),
    (
        "o_interval",
        "interval",
        &[
            "'178000000 years'",
            "'-178000000 years'",
            "'1 mon -1 day 00:00:00.000001'",
        ],
    ),
    (
        "o_dates",
        "date[]",
        &["'{infinity,NULL}'", "'[0:1]={2024-01-01,2024-01-02}'"],
    ),
    ("o_deep", "numeric[]", &["'{{1.50,NaN},{NULL,3}}'"]),
    (
        "o_range",
        "tstzrange",
        &["'[-infinity,infinity)'", "'[2024-01-01 00:00+00,)'"],
    ),
    ("o_text", "text", &["E'\\x01\\x7f'", "repeat('🦊', 100000)"]),
    (
        "o_bytea",
        "bytea",
        &["decode(repeat('00ff', 200000), 'hex')"],
    ),
    (
        "o_json",
        "json",
        &["'{\"a\":1, \"a\":2}'", "'[1e400, 12345678901234567890123]'"],
    ),
    (
        "o_jsonb",
        "jsonb",
        &["'{\"a\":1, \"a\":2}'", "'[1e400, 12345678901234567890123]'"],
    ),
    (
        "o_composites",
        "named[]",
        &["'{\"(1,a)\",\"(2,\\\"b c\\\")\"}'"],
    ),
    ("o_char", "\"char\"", &["'a'", "''"]),
    ("o_name", "name", &["'a name'"]),
    ("o_regclass", "regtype", &["'integer'"]),
    ("o_lsn", "pg_lsn", &["'16/B374D848'"]),
    ("o_path", "jsonpath", &["'$.a[*] ? (@ > 1)'"]),
    (
        "o_int8range",
        "int8range",
        &["'[1,9223372036854775807)'", "'empty'"],
    ),
    (
        "o_tsrange",
        "tsrange",
        &[
            "'[2024-01-01 00:00,2024-01-02 00:00:00.5)'",
            "'(,infinity)'",
        ],
    ),
    (
        "o_daterange",
        "daterange",
        &["'[0044-03-15 BC,2024-02-01)'"],
    ),
    ("o_span", "span", &["'[0.1,1e300]'", "'empty'", "'[NaN,)'"]),
    ("o_varchars", "varchar(3)[]", &["'{abc,\"a  \"}'", "'{}'"]),
    ("o_chars", "char(3)[]", &["'{abc,a}'"]),
    ("o_numerics", "numeric(10,2)[]", &["'{1.50,NaN}'"]),
    (
        "o_floats",
        "double precision[]",
        &["'{0.1,-0,NaN,Infinity,5e-324}'"],
    ),
    ("o_bools", "boolean[]", &["'{t,f,NULL}'"]),
    ("o_byteas", "bytea[]", &["ARRAY['\\x00ff'::bytea, '']"]),
    ("o_bits", "bit(3)[]", &["'{101,000}'"]),
    (
        "o_uuids",
        "uuid[]",
        &["'{123e4567-e89b-12d3-a456-426655440000}'"],
    ),
    (
        "o_jsonbs",
        "jsonb[]",
        &["ARRAY['{\"a\": 1}'::jsonb, 'null']"],
    ),
    ("o_enums", "mood[]", &["'{sad,it''s}'", "'{}'"]),
    ("o_short_text", "short_text", &["''", "'ž🦊abc'"]),
    ("o_list", "list", &["'{1,NULL}'", "'{}'"]),
    ("o_snapshot", "txid_snapshot", &["'10:20:10,14,15'"]),
    ("o_tid", "tid", &["'(4294967295,65535)'", "'(0,1)'"]),
    ("o_oids", "oidvector", &["'1 2 3'"]),
    (
        "o_bit",
        "bit(20)",
        &["B'11111111111111111111'", "B'10000000000000000001'"],
    ),
];

/// The types a user made.
const OWN_TYPES: &str = "CREATE TYPE mood AS ENUM ('sad', 'ž', 'it''s');
CREATE DOMAIN amount AS numeric(9,1) CHECK (VALUE < 1000000000);
CREATE TYPE named AS (a integer, b text);
CREATE TYPE span AS RANGE (subtype = float8);
CREATE DOMAIN short_text AS varchar(5);
CREATE DOMAIN list AS integer[];\n";

/// Statements that make the types of columns of both tables; a target that is to have them too needs
/// them first.
pub(super) fn user_types() -> &'static str {
    OWN_TYPES
}

/// `own_types` with every value of every column, and rows of NULLs between.
pub(super) fn own_sql() -> String {
    let columns: Vec<String> = OWN
        .iter()
        .map(|(name, ty, _)| format!("{name} {ty}"))
        .collect();
    let mut sql = format!(
        "CREATE TABLE own_types (id bigint PRIMARY KEY, {});\n",
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
    let mut sql = String::new();
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

/// The table and its first rows.
pub(super) fn create_sql(rows: u32) -> String {
    let columns: Vec<String> = COLUMNS
        .iter()
        .map(|(name, ty, _)| format!("{name} {ty}"))
        .collect();
    let mut sql = OWN_TYPES.to_owned();
    sql += &format!(
        "CREATE TABLE every_type (id bigint GENERATED BY DEFAULT AS IDENTITY (START WITH 1000001) \
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
