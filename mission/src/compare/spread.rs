//! A weighted mean of groups' changes, between which bounds it lies, and how far chance moves it.
//!
//! With parts p (their sum is 1), changes d, their mean m = Σ p·d and S = Σ p²: if the changes vary independently with one variance σ², the
//! residual d − m of a group has the variance σ²·(1 − 2p + S), so that
//!
//! V = Σ p² · (d − m)² / (1 − 2p + S)
//!
//! estimates the mean's variance without bias; for equal parts it is the usual s² / n. It stays near it where variances differ. Its degrees of
//! freedom are those of the chi-squared distribution with V's own mean and variance (Satterthwaite, 1946; Bell and McCaffrey, 2002): for equal
//! parts n − 1, fewer where few groups hold most of the people.
//!
//! The difference of two such means has both variances' sum V + W, and (V + W)² / (V² / v + W² / w) degrees of freedom where the two have v
//! and w (Welch, 1947).

use crate::interval::Interval;

/// Student's t, two-sided at 95 %, by degrees of freedom: 1 to 30.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093,
    2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// A mean of changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mean {
    value: f64,
    bounds: Interval,
    variance: f64,
    degrees: f64,
}

/// One mean less another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Difference {
    /// As told.
    pub(super) value: f64,
    /// By rounding and noise.
    pub(super) bounds: Interval,
    /// Its standard error.
    error: f64,
    /// The degrees of freedom.
    pub(super) degrees: f64,
}

/// The mean of changes by their parts, of which there are two or more.
pub(super) fn mean(changes: &[(f64, Interval)], parts: &[f64]) -> Mean {
    let pairs = || changes.iter().zip(parts);
    let value: f64 = pairs().map(|((change, _), part)| change * part).sum();
    let bounds = pairs().fold(Interval::exact(0.0), |sum, ((_, bounds), part)| sum.plus(bounds.times(*part)));
    let squares: f64 = parts.iter().map(|part| part * part).sum();
    let weight = |part: f64| part * part / (1.0 - 2.0 * part + squares);
    let variance = pairs().map(|((change, _), part)| weight(*part) * (change - value).powi(2)).sum();
    // The covariance of two residuals, in units of the variance.
    let shared = |one: usize, other: usize, (p, q): (f64, f64)| f64::from(u8::from(one == other)) - p - q + squares;
    let trace: f64 = parts.iter().map(|part| weight(*part) * (1.0 - 2.0 * part + squares)).sum();
    let numbered = || parts.iter().copied().enumerate();
    let of_squares: f64 =
        numbered().flat_map(|(i, p)| numbered().map(move |(j, q)| weight(p) * weight(q) * shared(i, j, (p, q)).powi(2))).sum();
    Mean { value, bounds, variance, degrees: trace * trace / of_squares }
}

impl Difference {
    /// `with` less `without`.
    pub(super) fn of(with: &Mean, without: &Mean) -> Self {
        let variance = with.variance + without.variance;
        let shares = with.variance.powi(2) / with.degrees + without.variance.powi(2) / without.degrees;
        let fewer = with.degrees.min(without.degrees);
        Self {
            value: with.value - without.value,
            bounds: with.bounds.minus(without.bounds),
            error: variance.sqrt(),
            // Of what does not vary at all, the division has no result.
            degrees: if shares > 0.0 { (variance.powi(2) / shares).max(fewer) } else { fewer },
        }
    }

    /// How much chance adds on each side.
    pub(super) fn chance(&self) -> f64 {
        student(self.degrees) * self.error
    }

    /// The bounds with chance around them.
    pub(super) fn interval(&self) -> Interval {
        self.bounds.plus(Interval::around(0.0, self.chance()))
    }
}

/// Student's t. Between two entries of the table it is linear in the reciprocal of the degrees, which is on the safe side: in that, it is convex.
fn student(degrees: f64) -> f64 {
    let known = (1_u32..).zip(STUDENT).chain([(40, 2.021), (60, 2.000), (120, 1.980)]);
    let (mut below, mut t) = (1.0, f64::INFINITY);
    for (next, of_next) in known.map(|(known, t)| (f64::from(known), t)) {
        if degrees < next {
            let part = (1.0 / below - 1.0 / degrees.max(below)) / (1.0 / below - 1.0 / next);
            return if next > 1.0 { t + part * (of_next - t) } else { of_next };
        }
        (below, t) = (next, of_next);
    }
    t
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The part of Student's distribution within ± t, for whole degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4).
    fn within(t: f64, degrees: u32) -> f64 {
        let angle = (t / f64::from(degrees).sqrt()).atan();
        let (sin, cos) = angle.sin_cos();
        let even = degrees.is_multiple_of(2);
        let (mut term, mut sum) = if even { (1.0, 1.0) } else { (cos, cos) };
        let mut k = if even { 2 } else { 3 };
        while k < degrees {
            term *= cos * cos * f64::from(k - 1) / f64::from(k);
            sum += term;
            k += 2;
        }
        match (even, degrees) {
            (true, _) => sin * sum,
            (false, 1) => 2.0 / std::f64::consts::PI * angle,
            (false, _) => 2.0 / std::f64::consts::PI * (angle + sin * sum),
        }
    }

    #[test]
    fn the_table_is_student_s() {
        for degrees in (1..=30).chain([40, 60, 120]) {
            let part = within(student(f64::from(degrees)), degrees);
            assert!((part - 0.95).abs() < 6e-5, "{degrees}: {part}");
        }
        for degrees in [31, 39, 41, 59, 61, 119, 121, 900] {
            assert!((0.9499..0.953).contains(&within(student(f64::from(degrees)), degrees)), "{degrees} is on the safe side");
        }
        // Of two and a half it is 3.558.
        let between = student(2.5);
        assert!((3.558..3.70).contains(&between), "{between}");
        assert_eq!([0.2, 1.0 - 1e-12].map(student), [12.706; 2], "there are no fewer than one");
        assert!(student(1.0) > student(1.3) && student(1.3) > student(2.0) && student(30.0) > student(35.0));
    }

    #[test]
    fn equal_parts_are_welch_s() {
        let changes = [1.0, 2.0, 4.0, 5.0].map(|value| (value, Interval::around(value, 0.5)));
        let four = mean(&changes, &[0.25; 4]);
        // The squares around 3 are 4, 1, 1 and 4; a third of 10 by 4.
        assert!(
            (four.value - 3.0).abs() < 1e-12 && (four.variance - 10.0 / 12.0).abs() < 1e-12 && (four.degrees - 3.0).abs() < 1e-9,
            "{four:?}"
        );
        let three = mean(&changes[..3], &[1.0 / 3.0; 3]);
        let apart = Difference::of(&four, &three);
        // (10/12 + 7/9)² by (10/12)²/3 + (7/9)²/2; t is 2.776 at 4 and 2.571 at 5.
        assert!((apart.degrees - 4.861_3).abs() < 1e-4, "{apart:?}");
        assert!((apart.bounds.low - (apart.value - 1.0)).abs() < 1e-12, "bounds add up and do not shrink: {apart:?}");
        let by_hand = 2.594_4 * (10.0 / 12.0 + 7.0 / 9.0_f64).sqrt();
        assert!((apart.chance() - by_hand).abs() < 1e-4 && (apart.interval().high - apart.value - 1.0 - by_hand).abs() < 1e-4);
    }

    #[test]
    fn who_holds_most_of_the_people_leaves_few_degrees() {
        let changes = [1.0, 2.0, 3.0, 4.0, 5.0].map(|value| (value, Interval::exact(value)));
        let uneven = mean(&changes, &[0.8, 0.05, 0.05, 0.05, 0.05]);
        assert!(uneven.degrees >= 1.0 - 1e-9 && uneven.degrees < 2.5, "{uneven:?}");
    }

    /// Without bias where all vary alike, whatever their parts.
    #[test]
    fn the_variance_is_right_on_average() {
        let parts = [0.5, 0.2, 0.2, 0.1];
        let mut random = super::super::simulated::Random::seeded(7);
        let (mut squares, mut estimated) = (0.0, 0.0);
        for _ in 0..20_000 {
            let changes: Vec<(f64, Interval)> =
                parts.iter().map(|_| random.normal()).map(|value| (value, Interval::exact(value))).collect();
            let one = mean(&changes, &parts);
            squares += one.value * one.value;
            estimated += one.variance;
        }
        assert!((estimated / squares - 1.0_f64).abs() < 0.05, "{estimated} of {squares}");
    }
}
