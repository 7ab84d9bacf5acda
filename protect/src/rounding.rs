//! Rounding: counts to multiples of a base, and anything to multiples of a unit. Which unit that is says [`crate::units`].
//!
//! How many of a group have a value at all, `count(column)` beside `count(*)`, is hidden by rounding alone: both are rounded to the same
//! base, and whether nobody or a few lack one is not told. Who lacks a value has no part of a sum or mean, so that two of them over
//! the same column never differ by him. A condition is another matter: it chooses by any column, and its rest is judged
//! ([`crate::primary`]). To withhold where all have a value would withhold nearly every ordinary column.
//!
//! Source: Hundepool et al., *Statistical Disclosure Control* (Wiley, 2012), chapter 5: conventional rounding.

/// The nearest multiple of `unit`, halves away from zero.
#[must_use]
pub fn to_unit(value: f64, unit: f64) -> f64 {
    if unit <= 0.0 {
        return value;
    }
    // Of a unit such as 0.1 or 0.02 the reciprocal is whole, the unit itself not exact.
    let reciprocal = unit.recip().round();
    let whole = unit < 1.0 && (reciprocal * unit - 1.0).abs() < 1e-12;
    let rounded = if whole { (value * reciprocal).round() / reciprocal } else { (value / unit).round() * unit };
    // Zero has no sign: it would tell on which side the value is.
    rounded + 0.0
}

/// As [`to_unit`], of a whole number, a count for example: exact where an `f64` is not. As it is where the unit is 1 or less. Where the
/// nearest multiple is beyond what an `i64` holds, the last before it.
#[must_use]
pub fn whole_to_unit(value: i64, unit: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "saturates; a unit of 1 or more is whole")]
    let unit = unit.round() as i128;
    if unit <= 1 {
        return value;
    }
    let exact = i128::from(value);
    let multiples = (exact.abs() + unit / 2) / unit;
    let rounded = |multiples: i128| multiples.checked_mul(unit * exact.signum()).and_then(|rounded| i64::try_from(rounded).ok());
    rounded(multiples).or_else(|| rounded(multiples - 1)).unwrap_or(0)
}

/// The least of 1, 2 and 5 times powers of ten that is not below `raw`; the largest there is where that is no number.
pub(crate) fn step(raw: f64) -> f64 {
    let raw = raw.clamp(1e-300, 5e307).min(5e307);
    #[expect(clippy::cast_possible_truncation, reason = "between -300 and 307")]
    let power = raw.log10().floor() as i32;
    // Powers of ten are exact up to 22, and so are quotients by them as near as an `f64` can be.
    let tens = 10_f64.powi(power.abs());
    let steps = [1.0, 2.0, 5.0].map(|digit| if power < 0 { digit / tens } else { digit * tens });
    let beyond = if power < 0 { 10.0 / tens } else { 10.0 * tens };
    // What an inexact quotient is above a step is not above it.
    steps.into_iter().find(|step| *step >= raw * (1.0 - 1e-12)).unwrap_or(beyond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_rounded_to_multiples_of_the_base() {
        for (value, base, expected) in [
            (0, 5, 0),
            (2, 5, 0),
            (3, 5, 5),
            (7, 5, 5),
            (8, 5, 10),
            (-2, 5, 0),
            (-3, 5, -5),
            (5, 10, 10),
            (-5, 10, -10),
            (4, 10, 0),
            (7, 0, 7),
            (7, 1, 7),
            (i64::MAX, 5, i64::MAX - 2),
            (i64::MAX, 100, i64::MAX - 7),
            (i64::MIN, 100, i64::MIN + 8),
            (i64::MAX, u32::MAX, 9_223_372_034_707_292_160),
        ] {
            assert_eq!(whole_to_unit(value, f64::from(base)), expected, "{value} to {base}");
        }
    }

    /// Of each pair of told counts, of a group and of those in it who have a value, a whole base of different numbers could lack one:
    /// whether nobody does is never told.
    #[test]
    fn how_many_lack_a_value_is_told_as_coarsely_as_a_count() {
        for base in [2, 3, 5, 10] {
            let mut told = std::collections::BTreeMap::<(i64, i64), std::collections::BTreeSet<i64>>::new();
            for all in 10..120 {
                for lack in 0..=all - 10 {
                    let unit = f64::from(base);
                    let pair = (whole_to_unit(all, unit), whole_to_unit(all - lack, unit));
                    told.entry(pair).or_default().insert(lack);
                }
            }
            // Pairs at the ends of what was tried are not complete.
            let complete = told.iter().filter(|((all, some), _)| (20..100).contains(all) && *some >= 20);
            assert!(complete.clone().count() > 0 && complete.into_iter().all(|(_, lack)| lack.len() >= base as usize), "to {base}");
        }
    }

    #[test]
    fn units_are_steps() {
        for (raw, expected) in [
            (1.0, 1.0),
            (1.1, 2.0),
            (2.1, 5.0),
            (5.1, 10.0),
            (999.0, 1_000.0),
            (1_000.0, 1_000.0),
            (1_001.0, 2_000.0),
            (0.3, 0.5),
            (0.6, 1.0),
            (0.02, 0.02),
            (0.021, 0.05),
            (3e-9, 5e-9),
        ] {
            assert_eq!(step(raw), expected, "{raw}");
        }
        assert!([f64::INFINITY, f64::NAN, f64::MAX].into_iter().all(|raw| step(raw).is_finite() && step(raw) > 1e307));
        assert!([0.0, f64::MIN_POSITIVE].into_iter().all(|raw| step(raw) > 0.0));
    }

    #[test]
    fn rounded_numbers_are_written_as_short_as_they_are() {
        for (value, unit, expected) in [
            (0.3, 0.1, "0.3"),
            (0.61, 0.2, "0.6"),
            (0.07, 0.02, "0.08"),
            (1.0 / 3.0, 0.05, "0.35"),
            (1_234.5, 0.001, "1234.5"),
            (31_234.0, 500.0, "31000"),
            (-31_250.0, 500.0, "-31500"),
            (-0.01, 0.05, "0"),
            (12.3, 0.0, "12.3"),
            (0.0000123, 0.00005, "0"),
            (0.000_043, 0.000_05, "0.00005"),
        ] {
            assert_eq!(to_unit(value, unit).to_string(), expected, "{value} in {unit}");
        }
    }

    #[test]
    fn whole_sums_are_rounded_exactly() {
        for (value, unit, expected) in [
            (1_234, 500.0, 1_000),
            (-1_250, 500.0, -1_500),
            (7, 0.5, 7),
            ((1 << 60) + 7, 5.0, (1 << 60) + 9),
            (i64::MAX, 1e19, 0),
            (i64::MAX, 1e300, 0),
            (7, f64::NAN, 7),
        ] {
            assert_eq!(whole_to_unit(value, unit), expected, "{value} in {unit}");
        }
    }

    #[test]
    fn a_rounded_value_is_half_a_unit_away_at_most() {
        arbtest::arbtest(|u| {
            let (value, base) = (u.arbitrary::<i64>()? / 2, u.int_in_range(2..=100_u32)?);
            let rounded = whole_to_unit(value, f64::from(base));
            assert!(rounded % i64::from(base) == 0 && (rounded - value).unsigned_abs() * 2 <= u64::from(base));
            Ok(())
        });
    }
}
