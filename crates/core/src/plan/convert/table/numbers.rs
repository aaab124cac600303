//! The table's part for targets that are numbers.

use super::{Pair, copy, entry, impossible, widening};
use crate::plan::convert::Converter;
use crate::plan::convert::Verdict::{Exact, Lossy, Narrowing, Widening};
use crate::schema::ColumnType as T;

pub(super) fn truth(source: &T) -> Pair {
    match source {
        T::Bool => copy(Exact),
        T::Int { .. } | T::Decimal { .. } => entry(
            Converter::Bool,
            Narrowing,
            "0 is false, 1 is true, nothing else fits",
        ),
        T::Bits {
            len: Some(1),
            varying: false,
        } => entry(Converter::Bool, Exact, "0 is false, 1 is true"),
        _ => impossible(),
    }
}

/// The smallest and largest value of an integer type.
fn int_bounds(bits: u8, unsigned: bool) -> (i64, u64) {
    let bits = u32::from(bits.clamp(1, 64));
    if unsigned {
        (0, u64::MAX >> (64 - bits))
    } else {
        (i64::MIN >> (64 - bits), u64::MAX >> (65 - bits))
    }
}

/// Digits of the longest value, without sign.
pub(super) fn int_digits(bits: u8, unsigned: bool) -> u32 {
    int_bounds(bits, unsigned).1.ilog10() + 1
}

pub(super) fn int(source: &T, bits: u8, unsigned: bool) -> Pair {
    let (min, max) = int_bounds(bits, unsigned);
    let converter = Converter::Int { min, max, unsigned };
    match source {
        T::Int {
            bits: from,
            unsigned: from_unsigned,
        } => {
            if (*from, *from_unsigned) == (bits, unsigned) {
                return copy(Exact);
            }
            let (from_min, from_max) = int_bounds(*from, *from_unsigned);
            let fits = from_min >= min && from_max <= max;
            // The same signedness means the same kind of cell.
            if fits && *from_unsigned == unsigned {
                return copy(Widening);
            }
            entry(converter, widening(fits), "")
        }
        T::Bool => entry(converter, Widening, "false is 0, true is 1"),
        T::Decimal {
            precision: Some(precision),
            scale: Some(0),
            special: false,
        } if !unsigned && *precision < int_digits(bits, unsigned) => entry(converter, Widening, ""),
        T::Decimal { .. } | T::Float32 { .. } | T::Float64 { .. } => {
            entry(converter, Narrowing, "whole numbers only; -0 is 0")
        }
        T::Bits {
            len: Some(len @ 1..=64),
            varying: false,
        } => entry(
            converter,
            widening(u64::MAX >> (64 - len) <= max),
            "the bits as a number, the first bit the highest",
        ),
        _ => impossible(),
    }
}

pub(super) fn float(source: &T, single: bool, special: bool) -> Pair {
    let converter = Converter::Float { single, special };
    // Bits of a whole number that are always kept.
    let kept = if single { 24 } else { 53 };
    match source {
        T::Float32 { special: from } => match (single, *from, special) {
            (_, true, false) => entry(converter, Narrowing, "NaN and the infinities do not fit"),
            (true, true, true) | (true, false, false) => copy(Exact),
            (true, false, true) => copy(Widening),
            (false, ..) => entry(converter, Widening, ""),
        },
        T::Float64 { special: from } => match (single, *from, special) {
            (true, ..) => entry(converter, Narrowing, "numbers that single precision keeps"),
            (false, true, false) => {
                entry(converter, Narrowing, "NaN and the infinities do not fit")
            }
            (false, false, true) => copy(Widening),
            (false, ..) => copy(Exact),
        },
        T::Bool => entry(converter, Widening, "false is 0, true is 1"),
        T::Int { bits, .. } => entry(
            converter,
            widening(*bits <= kept),
            if *bits <= kept {
                ""
            } else {
                "numbers that the precision keeps"
            },
        ),
        T::Decimal { .. } => entry(
            converter,
            Narrowing,
            "numbers whose digits are those of the nearest float, as far as it has any",
        ),
        _ => impossible(),
    }
}

pub(super) fn decimal(
    source: &T,
    precision: Option<u32>,
    scale: Option<u32>,
    special: bool,
) -> Pair {
    let converter = Converter::Decimal {
        precision,
        scale,
        special,
    };
    let whole = |precision: Option<u32>, scale: Option<u32>| {
        precision.map_or(u32::MAX, |p| p.saturating_sub(scale.unwrap_or(0)))
    };
    match source {
        T::Decimal {
            precision: from,
            scale: from_scale,
            special: from_special,
        } => {
            let specials_fit = !from_special || special && (from.is_some() || precision.is_none());
            if !specials_fit {
                return entry(converter, Narrowing, "NaN and the infinities do not fit");
            }
            if (*from, *from_scale) == (precision, scale) {
                return copy(if *from_special == special {
                    Exact
                } else {
                    Widening
                });
            }
            let scale_fits = match (from_scale, scale) {
                (_, None) => true,
                (Some(from), Some(to)) => *from <= to,
                (None, Some(_)) => false,
            };
            let fits = scale_fits
                && (precision.is_none()
                    || from.is_some() && whole(*from, *from_scale) <= whole(precision, scale));
            if fits {
                copy(Widening)
            } else {
                entry(converter, Narrowing, "")
            }
        }
        T::Int { bits, unsigned } => {
            let fits = whole(precision, scale) >= int_digits(*bits, *unsigned);
            entry(converter, widening(fits), "")
        }
        T::Bool => entry(
            converter,
            widening(whole(precision, scale) >= 1),
            "false is 0, true is 1",
        ),
        T::Float32 { .. } | T::Float64 { .. } => entry(
            converter,
            Lossy,
            "the fewest digits that read back as the same float",
        ),
        _ => impossible(),
    }
}
