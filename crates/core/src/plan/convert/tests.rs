use super::*;
use crate::schema::Calendar;
use crate::value::{Date, DecimalRef, Interval};
use ColumnType as T;

fn convert(source: &T, target: &T, cell: CellRef<'_>) -> Result<String, &'static str> {
    let (converter, verdict) = Converter::choose(source, target);
    assert_ne!(verdict, Verdict::Impossible, "{source:?} -> {target:?}");
    let mut input = RowBatch::new();
    input.push(cell);
    input.end_row();
    let mut out = RowBatch::new();
    let raw = input.row(0).raw_cells().next().unwrap();
    match converter.convert(raw, &mut out) {
        Ok(()) => {
            out.end_row();
            Ok(format!("{:?}", out.row(0).cell(0).unwrap()))
        }
        Err(error) => {
            assert_eq!(out.open_bytes(), 0);
            assert!(
                matches!(verdict, Verdict::Narrowing | Verdict::Lossy),
                "{verdict:?} refuses: {source:?} -> {target:?}"
            );
            Err(error.reason)
        }
    }
}

fn int(bits: u8, unsigned: bool) -> T {
    T::Int { bits, unsigned }
}

fn decimal(precision: u32, scale: u32) -> T {
    T::Decimal {
        precision: Some(precision),
        scale: Some(scale),
        special: false,
    }
}

const DATE: T = T::Date {
    calendar: Calendar::Lenient,
};

fn timestamp(precision: u8, calendar: Calendar) -> T {
    T::Timestamp {
        precision,
        calendar,
    }
}

#[test]
fn values_arrive_as_they_are_or_not_at_all() {
    let zero = Date {
        year: 0,
        month: 0,
        day: 0,
    };
    let text = |max| T::Text { max_chars: max };
    let dec = |negative, scale, digits| DecimalRef::Finite {
        negative,
        scale,
        digits,
    };
    let cases: Vec<(T, T, CellRef<'_>, Option<&str>)> = vec![
        (
            int(64, true),
            decimal(20, 0),
            CellRef::U64(u64::MAX),
            Some("18446744073709551615"),
        ),
        (
            int(64, false),
            decimal(19, 0),
            CellRef::I64(i64::MIN),
            Some("9223372036854775808"),
        ),
        (
            int(32, true),
            int(64, false),
            CellRef::U64(u64::from(u32::MAX)),
            Some("4294967295"),
        ),
        (int(64, true), int(64, false), CellRef::U64(u64::MAX), None),
        (
            int(64, false),
            int(16, false),
            CellRef::I64(-32_768),
            Some("I64(-32768)"),
        ),
        (int(64, false), int(16, false), CellRef::I64(-32_769), None),
        (int(64, false), int(8, true), CellRef::I64(-1), None),
        (int(8, false), T::Bool, CellRef::I64(1), Some("Bool(true)")),
        (int(8, false), T::Bool, CellRef::I64(2), None),
        (
            int(8, false),
            text(None),
            CellRef::I64(-7),
            Some("Text(\"-7\")"),
        ),
        (
            decimal(10, 4),
            decimal(10, 2),
            CellRef::Decimal(dec(true, 4, b"12300")),
            Some("12300"),
        ),
        (
            decimal(10, 4),
            decimal(10, 2),
            CellRef::Decimal(dec(true, 4, b"12345")),
            None,
        ),
        (
            decimal(10, 2),
            decimal(4, 2),
            CellRef::Decimal(dec(false, 2, b"12345")),
            None,
        ),
        (
            text(Some(9)),
            text(Some(2)),
            CellRef::Text("žž"),
            Some("žž"),
        ),
        (text(Some(9)), text(Some(2)), CellRef::Text("abc"), None),
        (text(Some(9)), text(Some(2)), CellRef::Null, Some("Null")),
        (
            text(Some(9)),
            text(Some(2)),
            CellRef::Unchanged,
            Some("Unchanged"),
        ),
        (
            DATE,
            T::Date {
                calendar: Calendar::Real,
            },
            CellRef::Date(zero),
            None,
        ),
        (
            timestamp(0, Calendar::Lenient),
            timestamp(6, Calendar::Real),
            CellRef::Timestamp(
                Date {
                    year: 2021,
                    month: 2,
                    day: 31,
                },
                0,
            ),
            None,
        ),
        (
            T::Instant {
                precision: 0,
                calendar: Calendar::Lenient,
            },
            T::Instant {
                precision: 6,
                calendar: Calendar::Real,
            },
            CellRef::Timestamp(zero, 0),
            None,
        ),
        (
            T::Time {
                precision: 0,
                of_day: false,
            },
            T::Time {
                precision: 6,
                of_day: true,
            },
            CellRef::Time(-1),
            None,
        ),
        (
            T::Time {
                precision: 0,
                of_day: false,
            },
            T::Interval,
            CellRef::Time(-1),
            Some("micros: -1"),
        ),
        (
            T::Bits {
                len: Some(1),
                varying: false,
            },
            T::Bool,
            CellRef::Bits(1, &[0x80]),
            Some("Bool(true)"),
        ),
        (
            T::Uuid,
            text(None),
            CellRef::Uuid([
                0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8,
            ]),
            Some("12345678-9abc-def0-0102-030405060708"),
        ),
    ];
    for (source, target, cell, expected) in cases {
        let got = convert(&source, &target, cell);
        match expected {
            None => assert!(got.is_err(), "{source:?} -> {target:?}: {got:?}"),
            Some(part) => {
                let got = got.unwrap_or_else(|e| panic!("{source:?} -> {target:?}: {e}"));
                let digits = format!("{:?}", part.as_bytes());
                assert!(
                    got.contains(part) || got.contains(digits.trim_matches(['[', ']'])),
                    "{source:?} -> {target:?}: {got}"
                );
            }
        }
    }
}

/// Types of all systems, each with values at its ends.
fn samples() -> Vec<(T, Vec<CellRef<'static>>)> {
    let date = |year, month, day| Date { year, month, day };
    let real = [
        date(-4712, 1, 1),
        date(0, 2, 29),
        date(1, 1, 1),
        date(2024, 2, 29),
        date(9999, 12, 31),
        date(294_276, 12, 31),
        Date::INFINITY,
        Date::NEG_INFINITY,
    ];
    let lenient = [
        date(0, 0, 0),
        date(0, 1, 1),
        date(2021, 2, 31),
        date(2024, 0, 10),
        date(2024, 2, 29),
        date(9999, 12, 31),
    ];
    let dec = |negative, scale, digits: &'static [u8]| {
        CellRef::Decimal(DecimalRef::Finite {
            negative,
            scale,
            digits,
        })
    };
    let numbers = vec![
        dec(false, 0, b"0"),
        dec(false, 0, b"1"),
        dec(true, 2, b"150"),
        dec(false, 0, b"18446744073709551615"),
        dec(true, 0, b"9223372036854775808"),
    ];
    let mut any_number = numbers.clone();
    any_number.extend([
        dec(
            false,
            30,
            b"99999999999999999999999999999999999999999999999999999999999999999",
        ),
        dec(true, 40, b"1"),
        dec(false, 0, b"170000000000000000000000000000000000000000"),
        CellRef::Decimal(DecimalRef::NaN),
        CellRef::Decimal(DecimalRef::Infinity),
        CellRef::Decimal(DecimalRef::NegInfinity),
    ]);
    let texts = [
        "",
        "0",
        "101",
        "true",
        "a,b",
        "b,a",
        "A",
        "ž🦊",
        " a  ",
        "{\"a\": 1}",
    ];
    let uuid = "01234567-89ab-cdef-0123-456789abcdef";
    let text = || {
        texts
            .iter()
            .chain([&uuid])
            .map(|t| CellRef::Text(t))
            .collect()
    };
    let labels = |of: &[&str]| of.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>();
    let other = |system, name: &str| T::Other {
        system,
        name: name.into(),
    };
    let bits = |len, varying| T::Bits { len, varying };
    let point = b"\xe6\x10\0\0\x01\x01\0\0\0\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\0\x40";
    let flat = b"\0\0\0\0\x01\x01\0\0\0\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\0\x40";
    let mut all = vec![
        (T::Bool, vec![CellRef::Bool(false), CellRef::Bool(true)]),
        (
            T::Float32 { special: false },
            [0.0, -0.0, 1.1, 1e10, f32::MAX, -1e-45]
                .map(CellRef::F32)
                .to_vec(),
        ),
        (
            T::Float32 { special: true },
            [0.5, f32::INFINITY, f32::NEG_INFINITY]
                .map(CellRef::F32)
                .to_vec(),
        ),
        (
            T::Float64 { special: false },
            [0.0, -0.0, 1.1, 1e20, f64::MAX, 5e-324, 1e-5]
                .map(CellRef::F64)
                .to_vec(),
        ),
        (
            T::Float64 { special: true },
            [0.5, f64::INFINITY, f64::NEG_INFINITY]
                .map(CellRef::F64)
                .to_vec(),
        ),
        (
            T::Decimal {
                precision: None,
                scale: None,
                special: true,
            },
            any_number,
        ),
        (
            decimal(65, 30),
            [
                dec(true, 30, b"1"),
                dec(false, 2, b"0"),
                dec(
                    false,
                    30,
                    b"99999999999999999999999999999999999999999999999999999999999999999",
                ),
            ]
            .to_vec(),
        ),
        (
            decimal(20, 0),
            numbers
                .iter()
                .filter(|n| !matches!(n, CellRef::Decimal(DecimalRef::Finite { scale: 2, .. })))
                .copied()
                .collect(),
        ),
        (
            decimal(3, 2),
            vec![
                dec(true, 2, b"150"),
                dec(false, 2, b"999"),
                dec(false, 0, b"7"),
            ],
        ),
        (
            decimal(2, 5),
            vec![dec(true, 5, b"99"), dec(false, 5, b"10")],
        ),
        (T::Text { max_chars: None }, text()),
        (
            T::Text {
                max_chars: Some(36),
            },
            text(),
        ),
        (
            T::Text { max_chars: Some(3) },
            vec![CellRef::Text("ž🦊"), CellRef::Text("101")],
        ),
        (
            T::Bytes { max_bytes: None },
            vec![
                CellRef::Bytes(b"\xff\0"),
                CellRef::Bytes(b"a"),
                CellRef::Bytes(&[7; 16]),
                CellRef::Bytes(b""),
            ],
        ),
        (
            T::Bytes { max_bytes: Some(4) },
            vec![CellRef::Bytes(b"\xff\0"), CellRef::Bytes(b"abcd")],
        ),
        (
            T::Date {
                calendar: Calendar::Real,
            },
            real.map(CellRef::Date).to_vec(),
        ),
        (DATE, lenient.map(CellRef::Date).to_vec()),
        (
            T::Interval,
            [
                (0, 0, 0),
                (14, -3, 1),
                (-14, 3, -3_600_500_000),
                (0, 0, 86_400_000_001),
                (i32::MAX, i32::MAX, i64::MAX),
            ]
            .map(|(months, days, micros)| {
                CellRef::Interval(Interval {
                    months,
                    days,
                    micros,
                })
            })
            .to_vec(),
        ),
        (
            T::Uuid,
            vec![CellRef::Uuid([0; 16]), CellRef::Uuid([0xfe; 16])],
        ),
        (
            T::Json { normalised: false },
            vec![CellRef::Json("{\"b\": 1,  \"b\":2}")],
        ),
        (T::Json { normalised: true }, vec![CellRef::Json("[1.50]")]),
        (
            bits(Some(1), false),
            vec![CellRef::Bits(1, &[0]), CellRef::Bits(1, &[128])],
        ),
        (
            bits(Some(12), false),
            vec![
                CellRef::Bits(12, &[0xff, 0xf0]),
                CellRef::Bits(12, &[0, 0x10]),
            ],
        ),
        (
            bits(Some(64), false),
            vec![CellRef::Bits(64, &[255; 8]), CellRef::Bits(64, &[0; 8])],
        ),
        (
            bits(Some(70), false),
            vec![CellRef::Bits(70, &[255, 0, 0, 0, 0, 0, 0, 0, 4])],
        ),
        (
            bits(Some(12), true),
            vec![
                CellRef::Bits(0, &[]),
                CellRef::Bits(3, &[0b1010_0000]),
                CellRef::Bits(12, &[0, 0x10]),
            ],
        ),
        (
            bits(None, true),
            vec![CellRef::Bits(0, &[]), CellRef::Bits(9, &[1, 128])],
        ),
        (
            T::Enum {
                labels: labels(&["a", "ž🦊", ""]),
            },
            ["a", "ž🦊", ""].map(CellRef::Text).to_vec(),
        ),
        (
            T::Enum {
                labels: labels(&["a", "b"]),
            },
            ["a", "b"].map(CellRef::Text).to_vec(),
        ),
        (
            T::Set {
                labels: labels(&["a", "b"]),
            },
            ["", "a,b", "b"].map(CellRef::Text).to_vec(),
        ),
        (
            T::Set {
                labels: labels(&["b", "a", "c"]),
            },
            ["", "b,a", "b,c"].map(CellRef::Text).to_vec(),
        ),
        (
            T::Geometry,
            vec![CellRef::Bytes(point), CellRef::Bytes(flat)],
        ),
        (
            other("postgres", "integer[]"),
            vec![CellRef::Other("{1,NULL}")],
        ),
        (
            other("postgres", "inet"),
            vec![CellRef::Other("10.0.0.1/8"), CellRef::Other("::1")],
        ),
        (
            other("postgres", "public.geometry(Point,4326)"),
            vec![
                CellRef::Other("0101000020E6100000000000000000F03F0000000000000040"),
                CellRef::Other("0101000000000000000000F03F0000000000000040"),
            ],
        ),
        (other("mysql", "inet4"), vec![CellRef::Other("10.0.0.1")]),
        (
            other("mysql", "inet6"),
            vec![CellRef::Other("::ffff:1.2.3.4")],
        ),
    ];
    for (size, unsigned) in [8, 16, 24, 32, 64]
        .into_iter()
        .flat_map(|b| [(b, false), (b, true)])
    {
        let top = u64::MAX >> (64 - size);
        let cells = if unsigned {
            vec![
                CellRef::U64(0),
                CellRef::U64(1),
                CellRef::U64(top),
                CellRef::U64(top / 2 + 1),
            ]
        } else {
            let low = i64::MIN >> (64 - size);
            vec![
                CellRef::I64(low),
                CellRef::I64(-1),
                CellRef::I64(0),
                CellRef::I64(1),
                CellRef::I64(-(low + 1)),
            ]
        };
        all.push((int(size, unsigned), cells));
    }
    for precision in [0, 3, 6] {
        let part = 10_i64.pow(6 - u32::from(precision));
        let last = 86_400_000_000 - part;
        let real = real.iter().filter(|d| d.year < 294_276 || d.is_infinite());
        let infinite = |d: &Date| if d.is_infinite() { 0 } else { last };
        all.push((
            timestamp(precision, Calendar::Real),
            real.map(|d| CellRef::Timestamp(*d, infinite(d))).collect(),
        ));
        let mut civil: Vec<_> = lenient
            .iter()
            .map(|d| CellRef::Timestamp(*d, last))
            .collect();
        civil.extend([
            CellRef::Timestamp(lenient[0], 0),
            CellRef::Timestamp(lenient[4], 0),
        ]);
        all.push((timestamp(precision, Calendar::Lenient), civil));
        let micros = [
            0,
            part,
            -part,
            86_400_000_000,
            2_147_483_648_000_000,
            -62_135_596_800_000_000,
            i64::MAX,
            i64::MIN,
        ];
        all.push((
            T::Instant {
                precision,
                calendar: Calendar::Real,
            },
            micros.map(CellRef::Instant).to_vec(),
        ));
        let moments =
            [1_000_000, 86_400_000_000, 2_147_483_648_000_000 - part].map(CellRef::Instant);
        all.push((
            T::Instant {
                precision,
                calendar: Calendar::Lenient,
            },
            [moments.to_vec(), vec![CellRef::Timestamp(lenient[0], 0)]].concat(),
        ));
        let day = [0, part, last, 86_400_000_000].map(CellRef::Time);
        all.push((
            T::Time {
                precision,
                of_day: true,
            },
            day.to_vec(),
        ));
        let span =
            [0, -part, 3_020_400_000_000 - part, part - 3_020_400_000_000].map(CellRef::Time);
        all.push((
            T::Time {
                precision,
                of_day: false,
            },
            span.to_vec(),
        ));
    }
    all
}

fn raw(cell: CellRef<'_>) -> Vec<u8> {
    let mut batch = RowBatch::new();
    batch.push(cell);
    batch.end_row();
    batch.row(0).raw_cells().next().unwrap().to_vec()
}

fn converted(pair: &Pair, cell: &[u8]) -> Result<Vec<u8>, ConvertError> {
    let mut out = RowBatch::new();
    out.push(CellRef::Null);
    let before = out.open_bytes();
    if let Err(error) = pair.converter.convert(cell, &mut out) {
        assert_eq!(out.open_bytes(), before, "what is refused leaves nothing");
        return Err(error);
    }
    out.end_row();
    Ok(out.row(0).raw_cells().nth(1).unwrap().to_vec())
}

/// Equal as values of their type: zeros at the end of a fraction do not count in a decimal, and
/// what is no float has no -0.
fn same(a: &[u8], b: &[u8]) -> bool {
    if let (Some(CellRef::F32(0.0)), Some(CellRef::F32(0.0)))
    | (Some(CellRef::F64(0.0)), Some(CellRef::F64(0.0))) = (decode_raw(a), decode_raw(b))
    {
        return true;
    }
    let number = |raw: &[u8]| match decode_raw(raw) {
        Some(CellRef::Decimal(v @ DecimalRef::Finite { scale, .. })) => {
            let text = v.to_string();
            Some(match scale {
                0 => text,
                _ => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            })
        }
        _ => None,
    };
    a == b || number(a).is_some() && number(a) == number(b)
}

#[test]
fn every_pair_carries_every_value_there_and_back_or_says_why_not() {
    let samples = samples();
    let (mut values, mut refused, mut back_again) = (0, 0, 0);
    for (source, cells) in &samples {
        for (target, targets) in &samples {
            let pair = Pair::of(source, target);
            let back = Pair::of(target, source);
            if source == target {
                assert_eq!(
                    (&pair.converter, pair.verdict),
                    (&Converter::Copy, Verdict::Exact)
                );
            }
            if pair.verdict == Verdict::Lossy {
                assert!(
                    !pair.note.is_empty(),
                    "{source:?} -> {target:?} says what is lost"
                );
            }
            if pair.verdict == Verdict::Impossible {
                continue;
            }
            let kinds: Vec<_> = targets.iter().map(CellRef::kind_name).collect();
            for cell in cells {
                let what = format!("{cell:?}: {source:?} -> {target:?} by {pair:?}");
                values += 1;
                let cell = raw(*cell);
                let there = match converted(&pair, &cell) {
                    Ok(there) => there,
                    Err(_) => {
                        refused += 1;
                        let may = matches!(pair.verdict, Verdict::Narrowing | Verdict::Lossy);
                        assert!(may, "only what narrows refuses: {what}");
                        continue;
                    }
                };
                let kind = decode_raw(&there).unwrap().kind_name();
                assert!(kinds.contains(&kind), "{kind} of {what}");
                if pair.verdict == Verdict::Lossy || back.verdict == Verdict::Impossible {
                    continue;
                }
                let again = converted(&back, &there);
                let again = again.unwrap_or_else(|e| panic!("{}: back of {what}", e.reason));
                assert!(
                    same(&again, &cell),
                    "{:?} is back of {what}",
                    decode_raw(&again)
                );
                back_again += 1;
            }
        }
    }
    println!(
        "{} types, {values} values, {refused} refused, {back_again} there and back",
        samples.len()
    );
    assert!(values > 5_000 && refused > 1_500 && back_again > 2_000);
}

#[test]
fn states_without_a_value_always_pass() {
    let samples = samples();
    for (source, _) in &samples {
        for (target, _) in &samples {
            let pair = Pair::of(source, target);
            for state in [CellRef::Null, CellRef::Unchanged, CellRef::Absent] {
                assert_eq!(converted(&pair, &raw(state)), Ok(raw(state)));
            }
        }
    }
}

#[test]
fn verdicts_are_told_apart() {
    let verdict = |s: &T, t: &T| Converter::choose(s, t).1;
    assert_eq!(verdict(&int(32, false), &int(32, false)), Verdict::Exact);
    assert_eq!(verdict(&int(32, true), &int(64, false)), Verdict::Widening);
    assert_eq!(verdict(&int(64, true), &int(64, false)), Verdict::Narrowing);
    assert_eq!(verdict(&int(64, true), &decimal(20, 0)), Verdict::Widening);
    assert_eq!(
        verdict(&T::Text { max_chars: None }, &int(32, false)),
        Verdict::Impossible
    );
    assert_eq!(
        verdict(&timestamp(6, Calendar::Real), &timestamp(0, Calendar::Real)),
        Verdict::Narrowing,
        "nothing is rounded: what does not fit is refused"
    );
}
