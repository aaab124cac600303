//! Every type arrives; what a target does with batches is in the contract suite of testkit.

use std::sync::Arc;

use thalweg_core::batch::{ApplyBatch, RowOp, TableOp};
use thalweg_core::checkpoint::TablePhase;
use thalweg_core::position::Position;
use thalweg_core::schema::{Calendar, ColumnType};
use thalweg_core::value::{CellRef, Date, DecimalRef, Interval, RowBatch};

use crate::world::{World, column, load_whole, plan, source, whole};

fn int() -> ColumnType {
    ColumnType::Int {
        bits: 64,
        unsigned: false,
    }
}

fn at(number: u32) -> Option<Position> {
    Some(Position::new(number.to_string()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_arrives_as_it_is() {
    let world = World::new();
    let date = Date {
        year: 2024,
        month: 2,
        day: 29,
    };
    let dec = |negative, scale, digits| {
        CellRef::Decimal(DecimalRef::Finite {
            negative,
            scale,
            digits,
        })
    };
    let numeric = |p, s| ColumnType::Decimal {
        precision: Some(p),
        scale: Some(s),
        special: true,
    };
    let cases: Vec<(ColumnType, CellRef<'_>, &str)> = vec![
        (ColumnType::Bool, CellRef::Bool(true), "t"),
        (
            ColumnType::Int {
                bits: 16,
                unsigned: false,
            },
            CellRef::I64(-32_768),
            "-32768",
        ),
        (
            ColumnType::Int {
                bits: 32,
                unsigned: false,
            },
            CellRef::I64(2_147_483_647),
            "2147483647",
        ),
        (int(), CellRef::I64(i64::MIN), "-9223372036854775808"),
        (
            numeric(20, 0),
            dec(false, 0, b"18446744073709551615"),
            "18446744073709551615",
        ),
        (numeric(10, 4), dec(true, 4, b"12"), "-0.0012"),
        (numeric(10, 4), dec(false, 4, b"123456789"), "12345.6789"),
        (numeric(10, 1), dec(false, 1, b"0"), "0.0"),
        (
            numeric(65, 30),
            dec(false, 30, b"1"),
            "0.000000000000000000000000000001",
        ),
        (
            numeric(65, 0),
            dec(true, 0, b"10000000000000000"),
            "-10000000000000000",
        ),
        (
            ColumnType::Float32 { special: true },
            CellRef::F32(0.1),
            "0.1",
        ),
        (
            ColumnType::Float64 { special: true },
            CellRef::F64(-0.0),
            "-0",
        ),
        (
            ColumnType::Float64 { special: true },
            CellRef::F64(f64::MAX),
            "1.7976931348623157e+308",
        ),
        (
            ColumnType::Text { max_chars: None },
            CellRef::Text("žluť"),
            "žluť",
        ),
        (
            ColumnType::Text { max_chars: Some(3) },
            CellRef::Text("a "),
            "a ",
        ),
        (
            ColumnType::Bytes { max_bytes: None },
            CellRef::Bytes(b"\0\xff"),
            "\\x00ff",
        ),
        (
            ColumnType::Date {
                calendar: Calendar::Real,
            },
            CellRef::Date(date),
            "2024-02-29",
        ),
        (
            ColumnType::Timestamp {
                precision: 6,
                calendar: Calendar::Real,
            },
            CellRef::Timestamp(date, 1),
            "2024-02-29 00:00:00.000001",
        ),
        (
            ColumnType::Instant {
                precision: 6,
                calendar: Calendar::Real,
            },
            CellRef::Instant(-1),
            "1969-12-31 23:59:59.999999+00",
        ),
        (
            ColumnType::Interval,
            CellRef::Interval(Interval {
                months: 0,
                days: 0,
                micros: -3_020_399_000_000,
            }),
            "-838:59:59",
        ),
        (
            ColumnType::Uuid,
            CellRef::Uuid([0x11; 16]),
            "11111111-1111-1111-1111-111111111111",
        ),
        (
            ColumnType::Json { normalised: false },
            CellRef::Json("{\"b\": 1, \"a\":2}"),
            "{\"b\": 1, \"a\":2}",
        ),
        (int(), CellRef::Null, "(null)"),
    ];
    let mut columns = vec![column("id", int())];
    columns.extend(
        cases
            .iter()
            .enumerate()
            .map(|(n, c)| column(&format!("C {n}\""), c.0.clone())),
    );
    let plan = plan(&world, vec![source("Every \"type\"", columns, &[])]);
    let claim = world.claim(&plan).await;
    let mut rows = RowBatch::new();
    for id in [1, 2] {
        rows.push(CellRef::I64(id));
        cases.iter().for_each(|case| rows.push(case.1));
        rows.end_row();
    }
    // One row by the load, one row by the row path: the same bytes.
    let mut load = RowBatch::new();
    load.append(rows.row(0));
    let epoch = claim.epoch;
    let mut loader = world
        .target
        .open_loader(&world.key, epoch, Arc::clone(&plan))
        .await
        .unwrap();
    let loaded = load_whole(loader.as_mut(), &plan, 0, &load, "7").await;
    loaded.unwrap();
    let mut applier = world
        .target
        .open_applier(&world.key, epoch, Arc::clone(&plan))
        .await
        .unwrap();
    let batch = ApplyBatch {
        rows,
        ordered: vec![TableOp {
            target: 0,
            feed: 0,
            op: RowOp::Insert(1),
            unchecked: false,
            origin: 0,
        }],
        position: at(1),
        ..ApplyBatch::default()
    };
    applier.apply(&batch).await.unwrap();
    for id in [1, 2] {
        for (n, (ty, _, text)) in cases.iter().enumerate() {
            let sql = format!(
                "SET timezone = 'UTC'; SELECT coalesce(\"C {n}\"\"\"::text, '(null)') \
                 FROM public.\"Every \"\"type\"\"\" WHERE id = {id}"
            );
            let got = world.server.sql(&sql).unwrap();
            let bool_text = if *text == "t" { "true" } else { text };
            assert_eq!(
                got.trim_end_matches('\n').trim_start_matches("SET\n"),
                bool_text,
                "{ty:?}"
            );
        }
    }
    let again = world.target.claim(&world.key).await.unwrap();
    assert_eq!(again.applied, at(1));
    assert_eq!(
        again.tables[0].phase,
        TablePhase::Loading(vec![whole(&plan, 0, "7", 1)])
    );
    assert_eq!(
        (
            again.tables[0].loaded_rows,
            again.tables[0].fingerprint.as_str()
        ),
        (Some(1), plan.fingerprint(0).as_str())
    );
}
