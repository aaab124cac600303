//! Types whose cells are text forms: each arrives by every path exactly as if its text had been
//! written into the statement.

use std::sync::Arc;

use thalweg_core::batch::{ApplyBatch, FoldedTable, Net, RowOp, TableOp};
use thalweg_core::plan::Plan;
use thalweg_core::position::Position;
use thalweg_core::schema::{ColumnSchema, ColumnType, TableSchema};
use thalweg_core::value::{CellRef, RowBatch};

use crate::world::{World, column, load_whole, plan, source};

/// What has to be there first.
const TYPES: &str = "\
    CREATE EXTENSION hstore; CREATE EXTENSION ltree; CREATE EXTENSION cube; CREATE EXTENSION seg; \
    CREATE EXTENSION isn; CREATE EXTENSION intarray; \
    CREATE TYPE mood AS ENUM ('sad', 'so so', 'O''K'); \
    CREATE TYPE \"Pair x\" AS (a int, \"b c\" text, d int[]); \
    CREATE DOMAIN small_list AS int[] CHECK (cardinality(VALUE) < 9); \
    CREATE DOMAIN short_list AS varchar(3)[] NOT NULL; \
    CREATE DOMAIN pair_of AS \"Pair x\"; \
    CREATE TYPE span AS RANGE (subtype = float8)";

/// Types and texts of values, as the type's output function writes them or not.
const CASES: &[(&str, &[&str])] = &[
    (
        "integer[]",
        &["{}", "{1,NULL,-3}", "[0:1]={1,2}", "{{1,2},{3,4}}"],
    ),
    (
        "text[]",
        &["{\"a,b\",\"q\\\"\\\\\",\"NULL\",NULL,\"\",\" ž🦊 \"}"],
    ),
    ("character varying(3)[]", &["{abc,\"a  \"}"]),
    ("character(3)[]", &["{abc,a}"]),
    ("numeric(10,2)[]", &["{1.50,NaN}"]),
    ("bytea[]", &["{\"\\\\x00ff\",\"\\\\x\"}"]),
    (
        "timestamp(3) with time zone[]",
        &["{\"0044-03-15 12:00:00.5+00 BC\",infinity}"],
    ),
    ("interval[]", &["{\"-1 days +02:03:00\",\"1 year 2 mons\"}"]),
    ("bit(3)[]", &["{101,000}"]),
    ("mood[]", &["{sad,\"so so\",O'K}"]),
    (
        "\"Pair x\"",
        &["(1,\"a \"\"q\"\" (,)\",\"{1,2}\")", "(,,)", "(,\"\",{})"],
    ),
    ("\"Pair x\"[]", &["{\"(1,x,)\",NULL}"]),
    ("small_list", &["{1,2}"]),
    ("short_list", &["{abc}", "{}"]),
    ("pair_of", &["(1,x,)"]),
    ("int4range", &["empty", "[1,5)", "(,)", "[3,)"]),
    ("numrange", &["[1.50,2)", "(,0]"]),
    ("tstzrange", &["[\"2024-01-01 00:00:00+00\",infinity)"]),
    ("daterange", &["[2024-01-01,2024-02-01)"]),
    ("int8multirange", &["{[1,3),[9,)}", "{}"]),
    ("span", &["[0.1,1e+300]"]),
    ("inet", &["10.0.0.1", "10.0.0.1/8", "::ffff:1.2.3.4/120"]),
    ("cidr", &["10.0.0.0/8", "2001:db8::/32"]),
    ("macaddr", &["08:00:2b:01:02:03"]),
    ("macaddr8", &["08:00:2b:ff:fe:01:02:03"]),
    (
        "money",
        &["$1,234,567.89", "-$0.01", "$92,233,720,368,547,758.07"],
    ),
    ("point", &["(1.5,-0)", "(NaN,Infinity)"]),
    ("line", &["{1,2,3}"]),
    ("lseg", &["[(0,0),(1,1)]"]),
    ("box", &["(1,1),(0,0)"]),
    ("path", &["((0,0),(1,1))", "[(0,0),(1,1)]"]),
    ("polygon", &["((0,0),(1,1),(2,0))"]),
    ("circle", &["<(0.1,0),2>"]),
    (
        "time with time zone",
        &["24:00:00-15:59", "04:05:06.789+02"],
    ),
    ("pg_lsn", &["16/B374D848", "0/0"]),
    ("pg_snapshot", &["10:20:10,14,15"]),
    ("tsvector", &["'a':1A 'it''s':2,3B", ""]),
    ("tsquery", &["'a' & !'b' <2> 'c':*A"]),
    (
        "xml",
        &[
            "<a b=\"1\">ž<!-- c --></a>",
            "text",
            "<?xml version=\"1.0\"?><r/>",
        ],
    ),
    ("jsonpath", &["$.\"a\"[*]?(@ > 1)"]),
    ("hstore", &["\"a\"=>\"1\", \"b c\"=>NULL, \"q\\\"\"=>\"\""]),
    ("ltree", &["Top.Science.x_1"]),
    ("lquery", &["Top.*{0,2}.a|b"]),
    ("cube", &["(1, 2),(3, 4)"]),
    ("seg", &["1.00 .. 2.5"]),
    ("isbn13", &["978-0-393-04002-9"]),
    ("query_int", &["1 & ( 2 | !3 )"]),
    ("\"char\"", &["a", ""]),
    ("regclass", &["pg_class"]),
    ("xid", &["4294967295"]),
    ("xid8", &["18446744073709551615"]),
    ("cid", &["7"]),
    ("tid", &["(4294967295,65535)"]),
    ("oidvector", &["1 2 3"]),
];

fn int() -> ColumnType {
    ColumnType::Int {
        bits: 64,
        unsigned: false,
    }
}

fn form(name: &str, ty: &str) -> ColumnSchema {
    let other = ColumnType::Other {
        system: "postgres",
        name: ty.into(),
    };
    ColumnSchema::new(name, other, ty)
}

/// A row with the value of that number of each type, from the first again where there are no more;
/// the last row has NULL where the type takes it.
fn push(rows: &mut RowBatch, id: i64) -> usize {
    rows.push(CellRef::I64(id));
    for (ty, texts) in CASES {
        rows.push(match usize::try_from(id).unwrap() % 6 {
            5 if *ty != "short_list" => CellRef::Null,
            n => CellRef::Other(texts[n % texts.len()]),
        });
    }
    rows.end_row()
}

/// Asserts that row `id` has what [`push`] of `like` makes.
fn check(world: &World, table: &str, id: i64, like: i64) {
    let differs = CASES.iter().enumerate().map(|(n, (ty, texts))| {
        let want = match usize::try_from(like).unwrap() % 6 {
            5 if *ty != "short_list" => "NULL".to_owned(),
            n => format!("'{}'", texts[n % texts.len()].replace('\'', "''")),
        };
        format!(
            "SELECT '{}' WHERE ({want}::{ty})::text COLLATE \"C\" IS DISTINCT FROM \
                 (SELECT c{n}::text FROM {table} WHERE id = {id})",
            ty.replace('\'', "''")
        )
    });
    let sql = differs.collect::<Vec<_>>().join(" UNION ALL ");
    let sql =
        format!("SET lc_monetary = 'C'; SET timezone = 'UTC'; SET xmloption = content; {sql}");
    let got = world.server.sql(&sql).unwrap();
    let there = world
        .server
        .sql(&format!("SELECT count(*) FROM {table} WHERE id = {id}"));
    assert_eq!(there.unwrap().trim(), "1", "row {id} of {table}");
    let differs: Vec<_> = got.lines().filter(|line| *line != "SET").collect();
    assert!(differs.is_empty(), "row {id} of {table}: {differs:?}");
}

fn table(name: &str) -> TableSchema {
    let mut columns = vec![column("id", int())];
    let types = CASES.iter().enumerate();
    columns.extend(types.map(|(n, (ty, _))| form(&format!("c{n}"), ty)));
    source(name, columns, &[])
}

async fn settled(world: &World, plan: &Plan) {
    for target in &plan.targets {
        let proposed = TableSchema::new(target.name.clone(), target.columns.clone());
        let settled = world.target.settle(vec![proposed.clone()]).await.unwrap();
        assert_eq!(settled, [(proposed, vec![])], "every type is there");
    }
}

fn ordered(ops: &[RowOp]) -> Vec<TableOp> {
    ops.iter()
        .map(|&op| TableOp {
            target: 0,
            feed: 0,
            op,
            unchecked: false,
            origin: 0,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_forms_arrive_by_every_path() {
    let world = World::new();
    world.server.sql(TYPES).unwrap();
    // Of the server's configuration nothing may shine through.
    world
        .server
        .sql(
            "ALTER DATABASE postgres SET datestyle = 'German'; \
              ALTER DATABASE postgres SET intervalstyle = 'sql_standard'; \
              ALTER DATABASE postgres SET timezone = 'Asia/Kolkata'; \
              ALTER DATABASE postgres SET xmloption = 'document'",
        )
        .unwrap();
    let plan = plan(&world, vec![table("forms")]);
    settled(&world, &plan).await;
    let epoch = world.claim(&plan).await.epoch;
    let mut load = RowBatch::new();
    for id in 0..6 {
        push(&mut load, id);
    }
    let loader = world
        .target
        .open_loader(&world.key, epoch, Arc::clone(&plan));
    let mut loader = loader.await.unwrap();
    let loaded = load_whole(loader.as_mut(), &plan, 0, &load, "7").await;
    loaded.unwrap();
    drop(loader);
    (0..6).for_each(|id| check(&world, "forms", id, id));

    let applier = world
        .target
        .open_applier(&world.key, epoch, Arc::clone(&plan));
    let mut applier = applier.await.unwrap();
    for bulk in [false, true] {
        let base = if bulk { 600 } else { 60 };
        let mut batch = ApplyBatch {
            position: Some(Position::new("1")),
            ..ApplyBatch::default()
        };
        let inserts: Vec<_> = (base..base + 60)
            .map(|id| push(&mut batch.rows, id))
            .collect();
        let ops: Vec<_> = inserts.iter().map(|row| RowOp::Insert(*row)).collect();
        batch.ordered = ordered(&ops);
        batch.folded = bulk.then(|| {
            vec![Net::Folded(FoldedTable {
                inserts,
                ..FoldedTable::default()
            })]
        });
        applier.apply(&batch).await.unwrap();
        (base..base + 6).for_each(|id| check(&world, "forms", id, id));

        // Every value becomes every other.
        let mut batch = ApplyBatch {
            position: Some(Position::new("2")),
            ..ApplyBatch::default()
        };
        let mut folded = FoldedTable::default();
        let mut ops = Vec::new();
        for id in base..base + 60 {
            let before = push(&mut batch.rows, id);
            let mut scratch = RowBatch::new();
            push(&mut scratch, id + 1 + id / 6 % 5);
            batch.rows.push(CellRef::I64(id));
            let cells = scratch.row(0).cells().skip(1);
            cells.for_each(|cell| batch.rows.push(cell));
            let after = batch.rows.end_row();
            folded.updates.push((before, after));
            ops.push(RowOp::Update { before, after });
        }
        batch.ordered = ordered(&ops);
        batch.folded = bulk.then(|| vec![Net::Folded(folded)]);
        let applied = applier.apply(&batch).await.unwrap();
        assert_eq!(applied.counts[0].missing, 0);
        for id in base..base + 30 {
            check(&world, "forms", id, id + 1 + id / 6 % 5);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_without_a_key_is_found_by_its_text_forms() {
    let world = World::new();
    world.server.sql(TYPES).unwrap();
    let mut keyless = table("forms");
    keyless.primary_key.clear();
    keyless.columns.extend([
        ColumnSchema::new("j", ColumnType::Json { normalised: false }, "json"),
        ColumnSchema::new(
            "f",
            ColumnType::Float64 { special: true },
            "double precision",
        ),
        ColumnSchema::new("s", ColumnType::Interval, "interval"),
    ]);
    let plan = plan(&world, vec![keyless]);
    let epoch = world.claim(&plan).await.epoch;
    let applier = world.target.open_applier(&world.key, epoch, plan).await;
    let mut applier = applier.unwrap();
    let mut batch = ApplyBatch {
        position: Some(Position::new("1")),
        ..ApplyBatch::default()
    };
    let mut ops = Vec::new();
    // Pairs of rows that the types' equality does not tell apart.
    let row = |rows: &mut RowBatch, id, other: bool| {
        let mut scratch = RowBatch::new();
        push(&mut scratch, id);
        scratch.row(0).cells().for_each(|cell| rows.push(cell));
        rows.push(CellRef::Json(if other { "{ }" } else { "{}" }));
        rows.push(CellRef::F64(if other { -0.0 } else { 0.0 }));
        rows.push(CellRef::Interval(thalweg_core::value::Interval {
            months: i32::from(other),
            days: if other { 0 } else { 30 },
            micros: 0,
        }));
        rows.end_row()
    };
    for id in 0..6 {
        for other in [false, true] {
            ops.push(RowOp::Insert(row(&mut batch.rows, id, other)));
        }
    }
    for id in 0..6 {
        ops.push(RowOp::Delete(row(&mut batch.rows, id, true)));
    }
    batch.ordered = ordered(&ops);
    let counts = applier.apply(&batch).await.unwrap().counts[0];
    assert_eq!(
        (counts.missing, counts.repaired),
        (0, 0),
        "every row is found"
    );
    let left = "SELECT count(*), string_agg(DISTINCT concat_ws(' ', j, f, s), ',') FROM forms";
    assert_eq!(world.server.sql(left).unwrap().trim(), "6\t{} 0 30 days");
    (0..6).for_each(|id| check(&world, "forms", id, id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_form_that_does_not_fit_is_refused_and_never_cut() {
    let world = World::new();
    world.server.sql(TYPES).unwrap();
    let mut number = 0;
    for (ty, text) in [
        ("character varying(3)[]", "{abcd}"),
        ("numeric(3,1)[]", "{100}"),
        ("bit(3)[]", "{1010}"),
        ("short_list", "{abcd}"),
        ("small_list", "{1,2,3,4,5,6,7,8,9}"),
        ("inet", "10.0.0.256"),
    ] {
        for path in ["load", "rows", "bulk"] {
            number += 1;
            let name = format!("t{number}");
            let columns = vec![column("id", int()), form("v", ty)];
            let plan = plan(&world, vec![source(&name, columns, &[])]);
            let epoch = world.claim(&plan).await.epoch;
            let mut rows = RowBatch::new();
            for id in 0..60 {
                rows.push(CellRef::I64(id));
                rows.push(CellRef::Other(text));
                rows.end_row();
            }
            let error = if path == "load" {
                let loader = world
                    .target
                    .open_loader(&world.key, epoch, Arc::clone(&plan));
                let mut loader = loader.await.unwrap();
                let loaded = load_whole(loader.as_mut(), &plan, 0, &rows, "7").await;
                loaded.unwrap_err()
            } else {
                let inserts: Vec<usize> = (0..60).collect();
                let ops: Vec<_> = inserts.iter().map(|row| RowOp::Insert(*row)).collect();
                let folded = FoldedTable {
                    inserts,
                    ..FoldedTable::default()
                };
                let batch = ApplyBatch {
                    rows,
                    ordered: ordered(&ops),
                    folded: (path == "bulk").then(|| vec![Net::Folded(folded)]),
                    position: Some(Position::new("1")),
                    ..ApplyBatch::default()
                };
                let applier = world.target.open_applier(&world.key, epoch, plan).await;
                applier.unwrap().apply(&batch).await.unwrap_err()
            };
            assert_eq!(
                error.kind(),
                thalweg_core::Kind::Data,
                "{ty} {path}: {}",
                error.chain()
            );
            assert!(
                !error.chain().to_string().contains(text),
                "{ty} {path}: {}",
                error.chain()
            );
            assert_eq!(
                world
                    .server
                    .sql(&format!("SELECT count(*) FROM {name}"))
                    .unwrap()
                    .trim(),
                "0"
            );
        }
    }
}
