//! Numbers to numbers. A number fits a type if reading it back gives the same number.

use std::fmt::{self, Write as _};

use super::{ConvertError, WRONG_KIND, refuse};
use crate::value::{CellRef, DecimalRef, RowBatch};

const NOT_WHOLE: &str = "the number is not whole";
const NO_FIT: &str = "the number does not fit the target column";
const SPECIAL: &str = "NaN and infinity have no counterpart in the target column";
const DIGITS: &str = "the number has more digits than the target column";

/// Bounded text on the stack.
struct Stack<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Stack<N> {
    fn new() -> Self {
        Stack {
            bytes: [0; N],
            len: 0,
        }
    }

    fn push(&mut self, byte: u8) -> fmt::Result {
        *self.bytes.get_mut(self.len).ok_or(fmt::Error)? = byte;
        self.len += 1;
        Ok(())
    }

    fn get(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl<const N: usize> fmt::Write for Stack<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().try_for_each(|byte| self.push(byte))
    }
}

/// Digits a `f64` has at most when written shortest, and room for its exponent as zeros.
const FLOAT_DIGITS: usize = 360;

/// A finite float as the decimal with the fewest digits that reads back as the same float.
struct Shortest {
    negative: bool,
    digits: Stack<FLOAT_DIGITS>,
    scale: u16,
}

impl Shortest {
    fn of(cell: CellRef<'_>) -> Result<Shortest, ConvertError> {
        let mut written = Stack::<40>::new();
        let (finite, done) = match cell {
            CellRef::F32(v) => (v.is_finite(), write!(written, "{v:e}")),
            CellRef::F64(v) => (v.is_finite(), write!(written, "{v:e}")),
            _ => return refuse(WRONG_KIND),
        };
        if !finite {
            return refuse(SPECIAL);
        }
        let made = done.ok().and_then(|()| Shortest::read(written.get()));
        made.map_or_else(|| refuse(NO_FIT), Ok)
    }

    /// From `-1.25e-7`.
    fn read(written: &[u8]) -> Option<Shortest> {
        let text = std::str::from_utf8(written).ok()?;
        let (mantissa, exponent) = text.split_once('e')?;
        let mut exponent: i32 = exponent.parse().ok()?;
        let mut digits = Stack::new();
        let mut fraction = 0;
        for byte in mantissa.bytes().filter(u8::is_ascii_digit) {
            digits.push(byte).ok()?;
            fraction += 1;
        }
        exponent -= fraction - 1;
        for _ in 0..exponent {
            digits.push(b'0').ok()?;
        }
        Some(Shortest {
            negative: mantissa.starts_with('-'),
            digits,
            scale: u16::try_from(-exponent.min(0)).ok()?,
        })
    }

    fn decimal(&self) -> DecimalRef<'_> {
        DecimalRef::Finite {
            negative: self.negative,
            scale: self.scale,
            digits: self.digits.get(),
        }
    }
}

/// A whole number.
fn whole(cell: CellRef<'_>) -> Result<i128, ConvertError> {
    match cell {
        CellRef::I64(v) => Ok(v.into()),
        CellRef::U64(v) => Ok(v.into()),
        CellRef::Bool(v) => Ok(v.into()),
        CellRef::Decimal(v) => whole_of_decimal(v),
        CellRef::F32(v) => whole_of_float(v.into()),
        CellRef::F64(v) => whole_of_float(v),
        CellRef::Bits(len, bits) => {
            let value = bits
                .iter()
                .take(9)
                .fold(0_u128, |n, b| n << 8 | u128::from(*b));
            let unused = bits.len() * 8 - (len as usize).min(bits.len() * 8);
            if bits.len() > 8 {
                return refuse(NO_FIT);
            }
            i128::try_from(value >> unused).or_else(|_| refuse(NO_FIT))
        }
        _ => refuse(WRONG_KIND),
    }
}

/// The number a float is, not the one its shortest digits are: 2147483648 in single precision, which
/// is written 2147483600.
fn whole_of_float(value: f64) -> Result<i128, ConvertError> {
    if !value.is_finite() {
        return refuse(SPECIAL);
    }
    if value.fract() != 0.0 {
        return refuse(NOT_WHOLE);
    }
    if value.abs() > 1e20 {
        return refuse(NO_FIT);
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole and small enough")]
    let whole = value as i128;
    Ok(whole)
}

fn whole_of_decimal(value: DecimalRef<'_>) -> Result<i128, ConvertError> {
    let DecimalRef::Finite {
        negative,
        scale,
        digits,
    } = value
    else {
        return refuse(SPECIAL);
    };
    let whole = digits.len().saturating_sub(usize::from(scale));
    let (whole, fraction) = digits.split_at(whole);
    if fraction.iter().any(|digit| *digit != b'0') {
        return refuse(NOT_WHOLE);
    }
    let start = whole.iter().take_while(|digit| **digit == b'0').count();
    let whole = whole.get(start..).unwrap_or_default();
    if whole.len() > 20 {
        return refuse(NO_FIT);
    }
    let value = whole
        .iter()
        .fold(0_i128, |n, digit| n * 10 + i128::from(digit - b'0'));
    Ok(if negative { -value } else { value })
}

pub(super) fn int<'a>(
    cell: CellRef<'_>,
    min: i64,
    max: u64,
    unsigned: bool,
) -> Result<CellRef<'a>, ConvertError> {
    let value = whole(cell)?;
    if value < i128::from(min) || value > i128::from(max) {
        return refuse(NO_FIT);
    }
    whole_cell(value, unsigned)
}

fn whole_cell<'a>(value: i128, unsigned: bool) -> Result<CellRef<'a>, ConvertError> {
    if unsigned {
        u64::try_from(value)
            .map(CellRef::U64)
            .or_else(|_| refuse(NO_FIT))
    } else {
        i64::try_from(value)
            .map(CellRef::I64)
            .or_else(|_| refuse(NO_FIT))
    }
}

pub(super) fn truth(cell: CellRef<'_>) -> Result<bool, ConvertError> {
    match whole(cell)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => refuse("the number is neither 0 nor 1"),
    }
}

pub(super) fn float<'a>(
    cell: CellRef<'_>,
    single: bool,
    special: bool,
) -> Result<CellRef<'a>, ConvertError> {
    let wide = match cell {
        CellRef::F32(v) if single => return special_fits(v.is_finite(), special, CellRef::F32(v)),
        CellRef::F32(v) => {
            return special_fits(v.is_finite(), special, CellRef::F64(f64::from(v)));
        }
        CellRef::F64(v) if !single => {
            return special_fits(v.is_finite(), special, CellRef::F64(v));
        }
        CellRef::F64(v) => v,
        CellRef::Decimal(v) => return float_of_decimal(v, single, special),
        _ => {
            let value = whole(cell)?;
            let (near, back) = nearest(value, single);
            if back != value {
                return refuse("the number has more digits than a floating point number keeps");
            }
            return Ok(near);
        }
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "compared with the value below"
    )]
    let narrow = wide as f32;
    if wide.is_finite() && f64::from(narrow) != wide {
        return refuse("the number has more digits than single precision keeps");
    }
    special_fits(wide.is_finite(), special, CellRef::F32(narrow))
}

fn special_fits(
    finite: bool,
    special: bool,
    cell: CellRef<'_>,
) -> Result<CellRef<'_>, ConvertError> {
    if finite || special {
        Ok(cell)
    } else {
        refuse(SPECIAL)
    }
}

/// The float next to a whole number of at most 64 bits, and the number it is.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a float of at most 64 bits' size fits an i128"
)]
fn nearest<'a>(value: i128, single: bool) -> (CellRef<'a>, i128) {
    if single {
        let near = value as f32;
        (CellRef::F32(near), near as i128)
    } else {
        let near = value as f64;
        (CellRef::F64(near), near as i128)
    }
}

/// A decimal fits a float if the float's shortest digits are those of the decimal.
fn float_of_decimal<'a>(
    value: DecimalRef<'_>,
    single: bool,
    special: bool,
) -> Result<CellRef<'a>, ConvertError> {
    let make = |v: f32, w: f64| {
        if single {
            CellRef::F32(v)
        } else {
            CellRef::F64(w)
        }
    };
    let DecimalRef::Finite {
        negative,
        scale,
        digits,
    } = value
    else {
        let cell = match value {
            DecimalRef::Infinity => make(f32::INFINITY, f64::INFINITY),
            DecimalRef::NegInfinity => make(f32::NEG_INFINITY, f64::NEG_INFINITY),
            _ => make(f32::NAN, f64::NAN),
        };
        return special_fits(false, special, cell);
    };
    const TOO_MANY: &str = "the number has more digits than a floating point number keeps";
    let (zeros, digits) = trimmed(digits);
    if digits.is_empty() {
        return Ok(make(0.0, 0.0));
    }
    if digits.len() > 17 {
        return refuse(TOO_MANY);
    }
    let exponent = i64::try_from(zeros).unwrap_or(i64::MAX) - i64::from(scale);
    let mut text = Stack::<48>::new();
    let sign = if negative { "-" } else { "" };
    let shown = std::str::from_utf8(digits).unwrap_or_default();
    if write!(text, "{sign}{shown}e{exponent}").is_err() {
        return refuse(TOO_MANY);
    }
    let text = std::str::from_utf8(text.get()).unwrap_or_default();
    let (Ok(narrow), Ok(wide)) = (text.parse::<f32>(), text.parse::<f64>()) else {
        return refuse(TOO_MANY);
    };
    let cell = make(narrow, wide);
    let Ok(back) = Shortest::of(cell) else {
        return refuse(NO_FIT);
    };
    let (back_zeros, back_digits) = trimmed(back.digits.get());
    let back_exponent = i64::try_from(back_zeros).unwrap_or(i64::MAX) - i64::from(back.scale);
    if back_digits != digits || back_exponent != exponent {
        return refuse(TOO_MANY);
    }
    Ok(cell)
}

/// Digits without zeros at either end, and how many there were at the right.
fn trimmed(digits: &[u8]) -> (usize, &[u8]) {
    let start = digits.iter().take_while(|d| **d == b'0').count();
    let digits = digits.get(start..).unwrap_or_default();
    let zeros = digits.iter().rev().take_while(|d| **d == b'0').count();
    (
        zeros,
        digits.get(..digits.len() - zeros).unwrap_or_default(),
    )
}

pub(super) fn decimal(
    cell: CellRef<'_>,
    precision: Option<u32>,
    scale: Option<u32>,
    special: bool,
    out: &mut RowBatch,
) -> Result<(), ConvertError> {
    let mut push = |value: DecimalRef<'_>| {
        fits(value, precision, scale, special)?;
        out.push(CellRef::Decimal(value));
        Ok(())
    };
    match cell {
        CellRef::Decimal(value) => push(value),
        CellRef::F32(v) if !v.is_finite() => push(special_decimal(v.into())),
        CellRef::F64(v) if !v.is_finite() => push(special_decimal(v)),
        CellRef::F32(_) | CellRef::F64(_) => push(Shortest::of(cell)?.decimal()),
        _ => {
            let value = whole(cell)?;
            let mut digits = Stack::<40>::new();
            if write!(digits, "{}", value.unsigned_abs()).is_err() {
                return refuse(DIGITS);
            }
            push(DecimalRef::Finite {
                negative: value < 0,
                scale: 0,
                digits: digits.get(),
            })
        }
    }
}

fn special_decimal<'a>(value: f64) -> DecimalRef<'a> {
    if value.is_nan() {
        DecimalRef::NaN
    } else if value > 0.0 {
        DecimalRef::Infinity
    } else {
        DecimalRef::NegInfinity
    }
}

/// Whether a decimal of so many digits holds the number as it is. Zeros at the end of the fraction
/// do not count: the target writes as many as it has room for.
fn fits(
    value: DecimalRef<'_>,
    precision: Option<u32>,
    scale_max: Option<u32>,
    special: bool,
) -> Result<(), ConvertError> {
    let DecimalRef::Finite { scale, digits, .. } = value else {
        // PostgreSQL takes NaN in every numeric, infinities only without precision.
        let fits = special && (value == DecimalRef::NaN || precision.is_none());
        return if fits { Ok(()) } else { refuse(SPECIAL) };
    };
    let start = digits.iter().take_while(|d| **d == b'0').count();
    let digits = digits.get(start..).unwrap_or_default();
    if digits.is_empty() {
        return Ok(());
    }
    let scale = usize::from(scale);
    let zeros = digits.iter().rev().take_while(|d| **d == b'0').count();
    let needed = scale.saturating_sub(zeros);
    let most = scale_max.map_or(usize::MAX, |most| most as usize);
    if needed > most {
        return refuse("the number has more digits after the point than the target column");
    }
    let Some(precision) = precision else {
        return Ok(());
    };
    // Digits of the number once it is written with all digits after the point the target has.
    let filled = scale_max.map_or(0, |most| most as usize - needed);
    let written = digits.len() - (scale - needed) + filled;
    if written > precision as usize {
        return refuse(DIGITS);
    }
    Ok(())
}

/// The whole number next to a number; `None` if it is none. What is beyond 38 digits is cut to them.
fn near_whole(cell: CellRef<'_>) -> Result<Option<i128>, ConvertError> {
    const MOST: i128 = 10_i128.pow(38);
    match cell {
        CellRef::F32(v) => near_whole(CellRef::F64(v.into())),
        CellRef::F64(v) if !v.is_finite() => Ok(None),
        CellRef::F64(v) => {
            #[expect(clippy::cast_possible_truncation, reason = "cut to what an i128 holds")]
            let near = v.round().clamp(-1e38, 1e38) as i128;
            Ok(Some(near))
        }
        CellRef::Decimal(DecimalRef::Finite {
            negative,
            scale,
            digits,
        }) => {
            let digits = rounded(digits, scale.into(), 0);
            let value = match digits.len() {
                ..=38 => digits.iter().fold(0, |n, d| n * 10 + i128::from(d - b'0')),
                _ => MOST,
            };
            Ok(Some(if negative { -value } else { value }))
        }
        CellRef::Decimal(_) => Ok(None),
        CellRef::Bits(_, bits) if bits.len() > 8 => Ok(Some(MOST)),
        _ => whole(cell).map(Some),
    }
}

pub(super) fn near_int<'a>(
    cell: CellRef<'_>,
    min: i64,
    max: u64,
    unsigned: bool,
) -> Result<Option<CellRef<'a>>, ConvertError> {
    let Some(near) = near_whole(cell)? else {
        return Ok(None);
    };
    whole_cell(near.clamp(min.into(), max.into()), unsigned).map(Some)
}

pub(super) fn near_float<'a>(
    cell: CellRef<'_>,
    single: bool,
    special: bool,
) -> Result<Option<CellRef<'a>>, ConvertError> {
    let wide = match cell {
        CellRef::F32(v) => v.into(),
        CellRef::F64(v) => v,
        CellRef::Decimal(value) => {
            let text = value.to_string();
            match (single, text.parse::<f32>(), text.parse::<f64>()) {
                // By way of a double it could be rounded twice.
                (true, Ok(narrow), _) => narrow.into(),
                (_, _, Ok(wide)) => wide,
                _ => return refuse(NO_FIT),
            }
        }
        _ => return Ok(Some(nearest(whole(cell)?, single).0)),
    };
    let is_special = match cell {
        CellRef::Decimal(value) => !matches!(value, DecimalRef::Finite { .. }),
        _ => !wide.is_finite(),
    };
    if is_special && !special {
        return Ok(None);
    }
    let most = if single { f32::MAX.into() } else { f64::MAX };
    let near = if is_special {
        wide
    } else {
        wide.clamp(-most, most)
    };
    #[expect(clippy::cast_possible_truncation, reason = "the nearest is asked for")]
    let narrow = near as f32;
    Ok(Some(if single {
        CellRef::F32(narrow)
    } else {
        CellRef::F64(near)
    }))
}

/// Appends the decimal next to a number.
pub(super) fn near_decimal(
    cell: CellRef<'_>,
    precision: Option<u32>,
    scale_max: Option<u32>,
    special: bool,
    out: &mut RowBatch,
) -> Result<bool, ConvertError> {
    // The number as a decimal of any size.
    let mut exact = RowBatch::new();
    decimal(cell, None, None, true, &mut exact)?;
    exact.end_row();
    let Some(CellRef::Decimal(DecimalRef::Finite {
        negative,
        scale,
        digits,
    })) = exact.row(0).cell(0)
    else {
        return Ok(false);
    };
    let scale = usize::from(scale);
    let kept = scale_max.map_or(scale, |most| scale.min(most as usize));
    let mut digits = rounded(digits, scale, kept);
    let filled = scale_max.map_or(0, |most| most as usize - kept);
    let too_many = |precision: u32| digits.len() + filled > precision as usize;
    let mut scale = kept;
    if let Some(precision) = precision.filter(|precision| too_many(*precision)) {
        digits = vec![b'9'; precision as usize];
        scale += filled;
    }
    let near = DecimalRef::Finite {
        negative,
        scale: u16::try_from(scale).or_else(|_| refuse(DIGITS))?,
        digits: &digits,
    };
    fits(near, precision, scale_max, special)?;
    out.push(CellRef::Decimal(near));
    Ok(true)
}

/// Unscaled digits with fewer digits after the point, rounded half away from zero; at least one,
/// without zeros in front.
fn rounded(digits: &[u8], scale: usize, kept: usize) -> Vec<u8> {
    let cut = scale.saturating_sub(kept);
    let up = digits.len() >= cut
        && digits
            .get(digits.len() - cut)
            .is_some_and(|first| cut > 0 && *first >= b'5');
    let mut all = vec![b'0'];
    all.extend_from_slice(
        digits
            .get(..digits.len().saturating_sub(cut))
            .unwrap_or_default(),
    );
    if up {
        for digit in all.iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                break;
            }
            *digit = b'0';
        }
    }
    let zeros = all.iter().take_while(|d| **d == b'0').count();
    all.split_off(zeros.min(all.len() - 1))
}
