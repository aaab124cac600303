//! Types and the values at their ends.

use super::{DATE, T, decimal, int, timestamp};
use crate::schema::Calendar;
use crate::value::{CellRef, Date, DecimalRef, Interval};

/// Types of all systems, each with values at its ends.
pub(super) fn samples() -> Vec<(T, Vec<CellRef<'static>>)> {
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
