//! What takes the place of a value that does not fit.

use super::*;
use crate::value::Interval;

/// The nearest value; `None`: there is none. An error: it is refused all the same.
fn near(converter: &Converter, cell: CellRef<'_>) -> Result<Option<String>, &'static str> {
    let mut out = RowBatch::new();
    out.push(CellRef::Null);
    let before = out.open_bytes();
    match converter.nearest(&raw(cell), &mut out) {
        Ok(true) => {
            out.end_row();
            Ok(Some(format!("{:?}", out.row(0).cell(1).unwrap())))
        }
        Ok(false) => {
            assert_eq!(out.open_bytes(), before);
            Ok(None)
        }
        Err(error) => {
            assert_eq!(out.open_bytes(), before, "what is refused leaves nothing");
            Err(error.reason)
        }
    }
}

fn dec(text: &str) -> (bool, u16, Vec<u8>) {
    let scale = text
        .split_once('.')
        .map_or(0, |(_, fraction)| fraction.len());
    let digits = text.bytes().filter(u8::is_ascii_digit).collect();
    (text.starts_with('-'), u16::try_from(scale).unwrap(), digits)
}

#[test]
fn a_number_becomes_the_nearest_one() {
    let smallint = int(16, false);
    for (target, value, expected) in [
        (&smallint, "32768", "I64(32767)"),
        (
            &smallint,
            "-99999999999999999999999999999999999999999",
            "I64(-32768)",
        ),
        (&smallint, "1.5", "I64(2)"),
        (&smallint, "-1.5", "I64(-2)"),
        (&smallint, "1.49", "I64(1)"),
        (&smallint, "0.5", "I64(1)"),
        (&smallint, "0.05", "I64(0)"),
        (&int(64, true), "-1", "U64(0)"),
        (&T::Bool, "7", "Bool(true)"),
        (&T::Bool, "-7", "Bool(false)"),
    ] {
        let (negative, scale, digits) = dec(value);
        let cell = CellRef::Decimal(DecimalRef::Finite {
            negative,
            scale,
            digits: &digits,
        });
        let source = T::Decimal {
            precision: None,
            scale: None,
            special: true,
        };
        let made = near(&Pair::of(&source, target).converter, cell);
        assert_eq!(made, Ok(Some(expected.to_owned())), "{value} -> {target:?}");
    }
    for (value, expected) in [
        ("123.456", "123.46"),
        ("-123.455", "-123.46"),
        ("999.995", "999.99"),
        ("-1234.5", "-999.99"),
        ("0.004", "0.00"),
        ("99.999", "100.00"),
    ] {
        let (negative, scale, digits) = dec(value);
        let cell = CellRef::Decimal(DecimalRef::Finite {
            negative,
            scale,
            digits: &digits,
        });
        let made = near(&Pair::of(&decimal(30, 10), &decimal(5, 2)).converter, cell);
        let (negative, scale, digits) = dec(expected);
        let mut row = RowBatch::new();
        row.push(CellRef::Decimal(DecimalRef::Finite {
            negative,
            scale,
            digits: &digits,
        }));
        row.end_row();
        assert_eq!(
            made,
            Ok(Some(format!("{:?}", row.row(0).cell(0).unwrap()))),
            "{value}"
        );
    }
    let (double, single) = (T::Float64 { special: true }, T::Float32 { special: false });
    let to_single = Pair::of(&double, &single).converter;
    for (value, expected) in [
        (0.1, Some("F32(0.1)")),
        (1e300, Some("F32(3.4028235e38)")),
        (-1e300, Some("F32(-3.4028235e38)")),
        (f64::NAN, None),
        (f64::INFINITY, None),
    ] {
        let made = near(&to_single, CellRef::F64(value));
        assert_eq!(made, Ok(expected.map(str::to_owned)), "{value}");
    }
    for special in [
        DecimalRef::NaN,
        DecimalRef::Infinity,
        DecimalRef::NegInfinity,
    ] {
        for target in [int(32, false), decimal(5, 2), single.clone()] {
            let source = T::Decimal {
                precision: None,
                scale: None,
                special: true,
            };
            let made = near(
                &Pair::of(&source, &target).converter,
                CellRef::Decimal(special),
            );
            assert_eq!(made, Ok(None), "{special:?} -> {target:?}");
        }
    }
}

#[test]
fn a_day_or_a_moment_becomes_the_nearest_one() {
    let day = |year, month, day| CellRef::Date(Date { year, month, day });
    let real = T::Date {
        calendar: Calendar::Real,
    };
    let (to_real, to_lenient) = (Pair::of(&DATE, &real), Pair::of(&real, &DATE));
    for (pair, cell, expected) in [
        (&to_real, day(0, 0, 0), None),
        (&to_real, day(2021, 0, 0), Some(day(2021, 1, 1))),
        (&to_real, day(2021, 5, 0), Some(day(2021, 5, 1))),
        (&to_real, day(0, 0, 5), Some(day(0, 1, 5))),
        (&to_real, day(2021, 2, 31), Some(day(2021, 2, 28))),
        (&to_real, day(2024, 2, 31), Some(day(2024, 2, 29))),
        (&to_real, day(2024, 4, 31), Some(day(2024, 4, 30))),
        (&to_lenient, day(12_000, 5, 6), Some(day(9999, 12, 31))),
        (&to_lenient, day(-44, 3, 15), Some(day(0, 1, 1))),
        (&to_lenient, day(0, 2, 29), Some(day(0, 2, 28))),
        (&to_lenient, CellRef::Date(Date::INFINITY), None),
        (&to_lenient, CellRef::Date(Date::NEG_INFINITY), None),
    ] {
        let expected = expected.map(|cell| format!("{cell:?}"));
        assert_eq!(near(&pair.converter, cell), Ok(expected), "{cell:?}");
    }
    let civil = |year, month, day, micros| CellRef::Timestamp(Date { year, month, day }, micros);
    const DAY: i64 = 86_400_000_000;
    let seconds = Pair::of(
        &timestamp(6, Calendar::Real),
        &timestamp(0, Calendar::Lenient),
    );
    for (cell, expected) in [
        (civil(2024, 1, 31, 1_500_000), civil(2024, 1, 31, 2_000_000)),
        (civil(2024, 1, 31, DAY - 1), civil(2024, 2, 1, 0)),
        (
            civil(9999, 12, 31, DAY - 1),
            civil(9999, 12, 31, DAY - 1_000_000),
        ),
        (civil(10_000, 1, 1, 0), civil(9999, 12, 31, DAY - 1_000_000)),
    ] {
        let made = near(&seconds.converter, cell);
        assert_eq!(made, Ok(Some(format!("{expected:?}"))), "{cell:?}");
    }
    let instant = |calendar, precision| T::Instant {
        calendar,
        precision,
    };
    let moments = Pair::of(&instant(Calendar::Real, 6), &instant(Calendar::Lenient, 3));
    for (at, expected) in [
        (-1, Some(1_000_000)),
        (1_700_000_000_000_500, Some(1_700_000_000_001_000)),
        (4_000_000_000_000_000, Some(2_147_483_647_999_000)),
        (i64::MAX, None),
        (i64::MIN, None),
    ] {
        let expected = expected.map(|at| format!("{:?}", CellRef::Instant(at)));
        assert_eq!(
            near(&moments.converter, CellRef::Instant(at)),
            Ok(expected),
            "{at}"
        );
    }
    let time = |of_day, precision| T::Time { of_day, precision };
    let of_day = Pair::of(&time(false, 6), &time(true, 6)).converter;
    assert_eq!(near(&of_day, CellRef::Time(-5)), Ok(Some("Time(0)".into())));
    assert_eq!(
        near(&of_day, CellRef::Time(DAY + 5)),
        Ok(Some(format!("Time({DAY})")))
    );
    let spans = Pair::of(&T::Interval, &time(false, 0)).converter;
    let span = |days, micros| {
        CellRef::Interval(Interval {
            months: 0,
            days,
            micros,
        })
    };
    assert_eq!(near(&spans, span(1, 0)), Ok(None));
    assert_eq!(
        near(&spans, span(0, -1_500_000)),
        Ok(Some("Time(-2000000)".into()))
    );
    let most = near(&spans, span(0, i64::MAX));
    assert_eq!(most, Ok(Some("Time(3020399000000)".into())));
}

#[test]
fn what_is_too_long_is_refused_and_what_is_no_text_is_marked() {
    let short = T::Text { max_chars: Some(3) };
    let cut = Pair::of(&T::Text { max_chars: None }, &short).converter;
    assert!(near(&cut, CellRef::Text("abcd")).is_err());
    let octets = T::Bytes { max_bytes: None };
    let read = Pair::of(&octets, &short).converter;
    let made = near(&read, CellRef::Bytes(b"a\xffb"));
    assert_eq!(made, Ok(Some(format!("{:?}", CellRef::Text("a\u{fffd}b")))));
    assert!(near(&read, CellRef::Bytes(b"a\xffbc")).is_err());
    let fewer = Pair::of(&octets, &T::Bytes { max_bytes: Some(2) }).converter;
    assert!(near(&fewer, CellRef::Bytes(b"abc")).is_err());
    let label = T::Enum {
        labels: vec!["a".into()],
    };
    let label = Pair::of(&short, &label).converter;
    assert_eq!(near(&label, CellRef::Text("b")), Ok(None));
}

/// What single columns refuse, with a value and what is nearest to it.
#[test]
fn what_a_column_refuses_is_taken_out() {
    let column = |refuses, ty: &T| ColumnSchema {
        refuses,
        ..ColumnSchema::new("c", ty.clone(), "")
    };
    let text = T::Text { max_chars: None };
    let json = T::Json { normalised: true };
    let span = |months, days, micros| Interval {
        months,
        days,
        micros,
    };
    let between = |unit| Refuses::Between(unit);
    let interval = |cell: Interval| CellRef::Interval(cell);
    let octets = T::Bytes { max_bytes: Some(4) };
    for (ty, refuses, cell, expected) in [
        (
            &T::Interval,
            between(span(1, 1, 1_000)),
            interval(span(1, -2, -1_500)),
            interval(span(1, -2, -2_000)),
        ),
        (
            &T::Interval,
            between(span(12, i32::MAX, i64::MAX)),
            interval(span(-13, 40, 5)),
            interval(span(-12, 0, 0)),
        ),
        (
            &text,
            Refuses::Nul,
            CellRef::Text("a\0b\0"),
            CellRef::Text("ab"),
        ),
        (
            &json,
            Refuses::NulEscape,
            CellRef::Json(r#"{"a\u0000":"\\u0000\\\u0000"}"#),
            CellRef::Json(r#"{"a":"\\u0000\\"}"#),
        ),
        (
            &text,
            Refuses::SpacesAtEnd,
            CellRef::Text("a b  "),
            CellRef::Text("a b"),
        ),
        (
            &octets,
            Refuses::Shorter(4),
            CellRef::Bytes(b"ab"),
            CellRef::Bytes(b"ab\0\0"),
        ),
        (
            &int(16, false),
            Refuses::NotYear,
            CellRef::I64(1800),
            CellRef::I64(1901),
        ),
        (
            &int(16, false),
            Refuses::NotYear,
            CellRef::I64(9999),
            CellRef::I64(2155),
        ),
        (
            &int(16, false),
            Refuses::NotYear,
            CellRef::I64(-1),
            CellRef::I64(0),
        ),
    ] {
        let (from, to) = (column(None, ty), column(Some(refuses), ty));
        let converter = Pair::of(ty, ty).converter.between(&from, &to);
        let mut out = RowBatch::new();
        assert!(converter.convert(&raw(cell), &mut out).is_err(), "{cell:?}");
        assert_eq!(out.open_bytes(), 0);
        assert_eq!(near(&converter, cell), Ok(Some(format!("{expected:?}"))));
        converter.convert(&raw(expected), &mut out).unwrap();
        assert_eq!(out.open_bytes(), raw(expected).len());
        // A source that refuses the same has no such value.
        assert_eq!(Converter::Copy.between(&to, &to), Converter::Copy);
    }
}

/// What is nearest fits, and is nearest to itself.
#[test]
fn the_nearest_value_fits() {
    let samples = samples();
    let (mut made, mut none) = (0, 0);
    for (source, cells) in &samples {
        for (target, _) in &samples {
            let pair = Pair::of(source, target);
            if pair.verdict == Verdict::Impossible {
                continue;
            }
            for cell in cells {
                let cell = raw(*cell);
                if converted(&pair, &cell).is_ok() {
                    continue;
                }
                let mut out = RowBatch::new();
                let near = pair.converter.nearest(&cell, &mut out);
                out.end_row();
                if near != Ok(true) {
                    none += 1;
                    continue;
                }
                made += 1;
                let near = out.row(0).raw_cells().next().unwrap();
                let again = converted(&pair, near);
                let what = format!(
                    "{:?} -> {target:?}: {:?}",
                    decode_raw(&cell),
                    decode_raw(near)
                );
                assert_eq!(again.as_deref(), Ok(near), "{what}");
            }
        }
    }
    println!("{made} values made, {none} have none");
    assert!(made > 300 && none > 100, "{made} {none}");
}
