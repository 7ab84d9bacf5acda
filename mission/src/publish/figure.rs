//! Numbers and days as people read them.

use chrono::NaiveDate;

use crate::interval::Interval;
use crate::mission::{Kind, Outcome};

/// How many digits of a measure that is no whole number are shown. Files have all.
const DIGITS: i32 = 4;

/// How an outcome's numbers are shown: as they are, a share in per cent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    percent: bool,
}

impl Scale {
    pub(super) fn of(outcome: &Outcome) -> Self {
        Self { percent: matches!(outcome.kind, Kind::Share { .. }) }
    }

    /// For a chart's axis.
    pub(super) fn drawn(self, value: f64) -> f64 {
        if self.percent { value * 100.0 } else { value }
    }

    /// Of a number that was made by [`Scale::drawn`].
    pub(super) fn axis(self, drawn: f64) -> String {
        self.marked(figure(drawn, DIGITS, Round::Near))
    }

    pub(super) fn value(self, value: f64) -> String {
        self.axis(self.drawn(value))
    }

    /// Bounds, rounded outwards: nothing is told closer than it is known. `None` where the value is exact.
    pub(super) fn bounds(self, bounds: Interval) -> Option<(String, String)> {
        let [low, high] = [(bounds.low, Round::Down), (bounds.high, Round::Up)]
            .map(|(value, round)| self.marked(figure(self.drawn(value), DIGITS, round)));
        (bounds.high > bounds.low).then_some((low, high))
    }

    /// A difference of two values.
    pub(super) fn apart(self, bounds: Interval) -> String {
        let unit = if self.percent { " percentage points" } else { "" };
        let text = |value: f64, round| figure(self.drawn(value), DIGITS, round);
        if bounds.high > bounds.low {
            format!("between {} and {}{unit}", text(bounds.low, Round::Down), text(bounds.high, Round::Up))
        } else {
            format!("{}{unit}", text(bounds.low, Round::Near))
        }
    }

    /// What it is measured in.
    pub(super) fn unit(self, outcome: &Outcome) -> String {
        if self.percent { format!("{}; shown in per cent", outcome.unit) } else { outcome.unit.clone() }
    }

    fn marked(self, text: String) -> String {
        if self.percent { text + "%" } else { text }
    }
}

/// Which way a number goes where digits are left out.
#[derive(Debug, Clone, Copy)]
pub(super) enum Round {
    Near,
    Down,
    Up,
}

/// A part of a whole, in per cent.
pub(super) fn percent(part: f64, round: Round) -> String {
    figure(part * 100.0, 3, round) + "%"
}

/// A count of something.
pub(super) fn whole(number: u64) -> String {
    grouped(&number.to_string())
}

/// With so many digits, and all of those before the point.
pub(super) fn figure(number: f64, digits: i32, round: Round) -> String {
    if number == 0.0 {
        return "0".into();
    }
    #[expect(clippy::cast_possible_truncation, reason = "a logarithm is below 400")]
    let magnitude = number.abs().log10().floor() as i32;
    let places = (digits - 1 - magnitude).clamp(0, 12);
    let unit = 10_f64.powi(places);
    // What is a whole number of units but for the last bits is that number.
    let scaled = number * unit;
    let near = scaled.round();
    let units = match round {
        _ if (scaled - near).abs() <= 1e-9 * scaled.abs().max(1.0) => near,
        Round::Near => near,
        Round::Down => scaled.floor(),
        Round::Up => scaled.ceil(),
    };
    let text = format!("{:.*}", usize::try_from(places).unwrap_or(0), units.abs() / unit);
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    let sign = if units < 0.0 { "\u{2212}" } else { "" };
    format!("{sign}{}", grouped(text))
}

fn grouped(text: &str) -> String {
    let (whole, rest) = text.split_once('.').map_or((text, None), |(whole, rest)| (whole, Some(rest)));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    rest.map_or_else(|| grouped.clone(), |rest| format!("{grouped}.{rest}"))
}

/// `1 April 2026`.
pub(super) fn day(on: NaiveDate) -> String {
    on.format("%-d %B %Y").to_string()
}

/// `April 2026`.
pub(super) fn month(of: NaiveDate) -> String {
    of.format("%B %Y").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_digits_that_people_read() {
        for (number, expected) in [
            (0.0, "0"),
            (12_345.0, "12,345"),
            (1_234_567.8, "1,234,568"),
            (25.374_91, "25.37"),
            (0.004_213_7, "0.004214"),
            (-3.5, "\u{2212}3.5"),
            (100.0, "100"),
            (0.3, "0.3"),
        ] {
            assert_eq!(figure(number, DIGITS, Round::Near), expected, "{number}");
        }
        assert_eq!(whole(1_000), "1,000");
    }

    #[test]
    fn bounds_are_rounded_outwards_and_dust_is_no_digit() {
        for (number, down, up) in [(25.123_41, "25.12", "25.13"), (0.1 + 0.2, "0.3", "0.3"), (-25.123_41, "\u{2212}25.13", "\u{2212}25.12")]
        {
            assert_eq!((figure(number, DIGITS, Round::Down), figure(number, DIGITS, Round::Up)), (down.into(), up.into()), "{number}");
        }
    }
}
