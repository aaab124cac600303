use super::*;

fn examples() -> Vec<CellRef<'static>> {
    let date = Date {
        year: 2024,
        month: 2,
        day: 29,
    };
    vec![
        CellRef::Null,
        CellRef::Unchanged,
        CellRef::Absent,
        CellRef::Bool(true),
        CellRef::Bool(false),
        CellRef::I64(i64::MIN),
        CellRef::U64(u64::MAX),
        CellRef::F32(-0.0),
        CellRef::F64(f64::INFINITY),
        CellRef::Decimal(DecimalRef::Finite {
            negative: true,
            scale: 2,
            digits: b"150",
        }),
        CellRef::Decimal(DecimalRef::NaN),
        CellRef::Decimal(DecimalRef::Infinity),
        CellRef::Decimal(DecimalRef::NegInfinity),
        CellRef::Text("žluť"),
        CellRef::Text(""),
        CellRef::Bytes(b"\0\xff"),
        CellRef::Date(date),
        CellRef::Date(Date {
            year: 0,
            month: 0,
            day: 0,
        }),
        CellRef::Time(-1),
        CellRef::Timestamp(date, 86_399_999_999),
        CellRef::Instant(i64::MAX),
        CellRef::Interval(Interval {
            months: -1,
            days: 2,
            micros: -3,
        }),
        CellRef::Uuid([7; 16]),
        CellRef::Json("{}"),
        CellRef::Bits(3, &[0b1010_0000]),
        CellRef::Other("(1,2)"),
    ]
}

#[test]
fn every_kind_survives_the_arena() {
    let mut batch = RowBatch::new();
    for cell in examples() {
        batch.push(cell);
    }
    let first = batch.end_row();
    batch.push(CellRef::I64(1));
    batch.discard_open_row();
    batch.push(CellRef::I64(2));
    let second = batch.end_row();

    let cells: Vec<_> = batch.row(first).cells().collect();
    assert_eq!(cells, examples());
    let raw: Vec<_> = batch
        .row(first)
        .raw_cells()
        .map(|r| decode_raw(r).unwrap())
        .collect();
    assert_eq!(raw, examples());
    assert_eq!(
        batch.row(second).cells().collect::<Vec<_>>(),
        [CellRef::I64(2)]
    );
}

#[test]
fn equal_decimals_of_one_scale_have_equal_bytes() {
    let encode = |negative, digits: &[u8]| {
        let mut batch = RowBatch::new();
        batch.push(CellRef::Decimal(DecimalRef::Finite {
            negative,
            scale: 1,
            digits,
        }));
        batch.end_row();
        batch.row(0).raw_cells().next().unwrap().to_vec()
    };
    assert_eq!(encode(false, b"0042"), encode(false, b"42"));
    assert_eq!(encode(true, b"000"), encode(false, b"0"));
    assert_ne!(encode(true, b"42"), encode(false, b"42"));
}

#[test]
fn decimals_print_as_numbers() {
    let show = |negative, scale, digits: &[u8]| {
        DecimalRef::Finite {
            negative,
            scale,
            digits,
        }
        .to_string()
    };
    assert_eq!(show(true, 2, b"150"), "-1.50");
    assert_eq!(show(false, 3, b"7"), "0.007");
    assert_eq!(show(false, 0, b"12"), "12");
    assert_eq!(show(false, 1, b"0"), "0.0");
}

#[test]
fn dates_count_days_both_ways() {
    let date = |year, month, day| Date { year, month, day };
    for (value, days) in [
        (date(1970, 1, 1), Some(0)),
        (date(2000, 2, 29), Some(11_016)),
        (date(1969, 12, 31), Some(-1)),
        (date(-4713, 11, 24), Some(-2_440_588)),
        (date(2021, 2, 31), None),
        (date(0, 0, 0), None),
        (date(2024, 13, 1), None),
        (Date::INFINITY, None),
    ] {
        assert_eq!(value.to_unix_days(), days, "{value:?}");
        if let Some(days) = days {
            assert_eq!(Date::from_unix_days(days), Some(value));
        }
    }
}

#[test]
fn a_text_cell_can_be_filled_in_place_or_taken_back() {
    let mut batch = RowBatch::new();
    batch
        .push_text_with(|out| -> Result<(), ()> {
            out.extend_from_slice(b"ab");
            Ok(())
        })
        .unwrap();
    assert!(
        batch
            .push_text_with(|out| {
                out.push(b'x');
                Err(())
            })
            .is_err()
    );
    batch.end_row();
    assert_eq!(
        batch.row(0).cells().collect::<Vec<_>>(),
        [CellRef::Text("ab")]
    );
}

#[test]
fn the_memory_of_a_long_row_is_not_kept() {
    let mut batch = RowBatch::new();
    batch.push(CellRef::Bytes(&vec![1; KEPT_BYTES]));
    let held = batch.held_bytes();
    // There is room behind a long value.
    for _ in 0..100 {
        batch.push(CellRef::Null);
    }
    batch.end_row();
    assert!(batch.held_bytes() < held + 1024);
    batch.clear();
    assert!(batch.held_bytes() <= KEPT_BYTES + 1024);
}

#[test]
fn a_row_laid_over_another_leaves_out_what_both_do() {
    let mut batch = RowBatch::new();
    let mut row = |cells: [CellRef<'_>; 3]| {
        cells.iter().for_each(|cell| batch.push(*cell));
        batch.end_row()
    };
    let (one, two) = (CellRef::I64(1), CellRef::I64(2));
    let old = row([one, one, CellRef::Absent]);
    let new = row([two, CellRef::Unchanged, CellRef::Unchanged]);
    let (old, new) = (batch.row(old), batch.row(new));
    let both = RowBatch::laid_over(new, old);
    let cells: Vec<_> = both.row(0).cells().collect();
    assert_eq!(cells, [two, one, CellRef::Absent]);
    assert!(!new.is_whole_over(old) && !both.row(0).is_whole());
}

/// What an index keeps apart in this order is ranked in this order.
#[test]
fn cells_are_ranked_as_an_index_has_them() {
    let decimal = |negative, digits, scale| {
        CellRef::Decimal(DecimalRef::Finite {
            negative,
            scale,
            digits,
        })
    };
    let day = |year, month, day| CellRef::Date(Date { year, month, day });
    let orders: [&[CellRef<'_>]; 7] = [
        &[i64::MIN, -3, -2, 0, 1, i64::MAX].map(CellRef::I64),
        &[0, 1, u64::MAX].map(CellRef::U64),
        &[
            decimal(true, b"12345", 0),
            decimal(true, b"3", 0),
            decimal(false, b"0", 0),
            decimal(false, b"150", 2),
            decimal(false, b"25", 1),
            decimal(false, b"11", 0),
            decimal(false, b"12345", 0),
        ],
        &["", "a", "ab", "b", "č"].map(CellRef::Text),
        &[
            day(-1, 12, 31),
            day(1969, 1, 1),
            day(2024, 2, 1),
            day(2024, 2, 29),
        ],
        &[CellRef::Uuid([1; 16]), CellRef::Uuid([2; 16])],
        &[CellRef::Bytes(b"\0"), CellRef::Bytes(b"\xff")],
    ];
    for cells in orders {
        let mut rows = RowBatch::new();
        for cell in cells {
            rows.push(*cell);
        }
        rows.end_row();
        let ranks: Vec<u64> = rows.row(0).raw_cells().map(rank).collect();
        assert!(ranks.is_sorted(), "{cells:?}: {ranks:?}");
        let same = ranks.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!(same <= 1, "{cells:?}: {ranks:?}");
    }
}

#[test]
fn presence_and_text_are_seen_without_decoding() {
    for cell in examples() {
        let mut rows = RowBatch::new();
        rows.push(cell);
        rows.end_row();
        let raw = rows.row(0).raw_cells().next().unwrap();
        assert_eq!(is_present(raw), cell.is_present(), "{cell:?}");
        let text = match cell {
            CellRef::Text(text) | CellRef::Json(text) => Some(text.as_bytes()),
            _ => None,
        };
        assert_eq!(text_bytes(raw), text, "{cell:?}");
    }
}
