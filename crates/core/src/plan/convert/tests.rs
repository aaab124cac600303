use super::*;
use crate::schema::Calendar;
use crate::value::{Date, DecimalRef};
use ColumnType as T;
use samples::samples;

mod nearest;
mod samples;

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
                let Ok(there) = converted(&pair, &cell) else {
                    refused += 1;
                    let may = matches!(pair.verdict, Verdict::Narrowing | Verdict::Lossy);
                    assert!(may, "only what narrows refuses: {what}");
                    continue;
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
fn text_forms_are_those_of_the_engines() {
    let text = T::Text { max_chars: None };
    let interval = |months, days, micros| {
        CellRef::Interval(crate::value::Interval {
            months,
            days,
            micros,
        })
    };
    let date = |year, month, day| Date { year, month, day };
    let real = T::Date {
        calendar: Calendar::Real,
    };
    let float = T::Float64 { special: true };
    for (ty, cell, expected) in [
        (T::Interval, interval(0, 0, 0), "00:00:00"),
        (
            T::Interval,
            interval(14, -3, 14_706_700_000),
            "1 year 2 mons -3 days +04:05:06.7",
        ),
        (
            T::Interval,
            interval(-1, 1, -1),
            "-1 mons +1 day -00:00:00.000001",
        ),
        (T::Interval, interval(0, 0, -90_000_000_000), "-25:00:00"),
        (T::Interval, interval(-25, 0, 0), "-2 years -1 mons"),
        (
            real.clone(),
            CellRef::Date(date(-43, 3, 15)),
            "0044-03-15 BC",
        ),
        (real, CellRef::Date(Date::INFINITY), "infinity"),
        (DATE, CellRef::Date(date(0, 0, 0)), "0000-00-00"),
        (float.clone(), CellRef::F64(1e20), "1e+20"),
        (float.clone(), CellRef::F64(-1.5e-5), "-1.5e-05"),
        (float.clone(), CellRef::F64(123_456.75), "123456.75"),
        (float, CellRef::F64(f64::NEG_INFINITY), "-Infinity"),
        (
            T::Instant {
                precision: 6,
                calendar: Calendar::Real,
            },
            CellRef::Instant(-1),
            "1969-12-31 23:59:59.999999+00",
        ),
    ] {
        let made = converted(&Pair::of(&ty, &text), &raw(cell)).unwrap();
        assert_eq!(decode_raw(&made), Some(CellRef::Text(expected)), "{cell:?}");
    }
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
