//! Terms of a whole agreement: what may be taken under it, and how far a withdrawal reaches.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::Error as _;

/// What all callers together may take under the agreement. The gateway keeps its part, with limits of its own beside it; each
/// department keeps what is said of releases and rows for its own data, whatever the gateway says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Queries and their descriptions per minute.
    pub requests_per_minute: Option<u32>,
    /// Queries at a time.
    pub concurrent_queries: Option<u32>,
    /// Rows that departments release, per UTC day: all together by the gateway's count, each one alone by its own. The release
    /// that reaches the number is the day's last.
    pub rows_per_day: Option<u64>,
    /// Releases that each department makes, per UTC day. A query needs one for every dataset that it reads.
    pub releases_per_day: Option<u32>,
}

/// How far a withdrawal or an objection reaches. No agreement may promise more than is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WithdrawalReach {
    /// The data of the department that recorded it, in every release that is ordered afterwards. A release under way keeps to
    /// the records as they were when it was ordered.
    #[default]
    OwnDepartment,
    /// Under this agreement, the other parties' data too: the gateway removes the subject from them ([`crate::consent::reaches`]).
    AllParties,
}

impl fmt::Display for WithdrawalReach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OwnDepartment => "own_department",
            Self::AllParties => "all_parties",
        })
    }
}

/// How old what a party recorded may be where a query does not read its data; 15 minutes where the agreement says nothing.
pub type ConsentAge = Term<{ 15 * 60 }>;

/// For how long the gateway's log may have entries that too few witnesses have seen while something is released; 4 hours where the
/// agreement says nothing.
pub type MaxUnwitnessed = Term<{ 4 * 3600 }>;

/// A time that an agreement states: 1 second to 24 hours, written `90s`, `15m` or `2h`; so many seconds where it says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term<const DEFAULT: u64>(Duration);

impl<const DEFAULT: u64> Default for Term<DEFAULT> {
    fn default() -> Self {
        Self(Duration::from_secs(DEFAULT))
    }
}

impl<const DEFAULT: u64> Term<DEFAULT> {
    /// The time that is written so.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        parse(text, MOST).map(Self)
    }

    /// The same as a time.
    #[must_use]
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl<const DEFAULT: u64> fmt::Display for Term<DEFAULT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&in_words(self.0))
    }
}

impl<'de, const DEFAULT: u64> Deserialize<'de> for Term<DEFAULT> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("a term is 1 second to 24 hours, written \"90s\", \"15m\" or \"2h\""))
    }
}

/// The longest time that an agreement may state here, in seconds.
const MOST: u64 = DAY;

/// Seconds of a day.
pub(super) const DAY: u64 = 24 * 3600;

/// A time from 1 second to `most`, in days only where that is more than one.
pub(super) fn parse(text: &str, most: u64) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" if most > DAY => DAY,
        _ => return None,
    };
    let plain = number.bytes().all(|b| b.is_ascii_digit());
    let seconds = number.parse::<u64>().ok().filter(|_| plain)?.checked_mul(unit)?;
    (1..=most).contains(&seconds).then(|| Duration::from_secs(seconds))
}

/// `90 seconds`, `15 minutes`, `1 hour`, `31 days`.
pub(crate) fn in_words(time: Duration) -> String {
    let (number, unit) = match time.as_secs() {
        seconds if seconds > DAY && seconds % DAY == 0 => (seconds / DAY, "day"),
        seconds if seconds % 3600 == 0 => (seconds / 3600, "hour"),
        seconds if seconds % 60 == 0 => (seconds / 60, "minute"),
        seconds => (seconds, "second"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agreement_does_not_say_is_its_terms_own() {
        assert_eq!((ConsentAge::default().to_string(), MaxUnwitnessed::default().to_string()), ("15 minutes".into(), "4 hours".into()));
    }

    #[test]
    fn terms_are_written_with_their_unit() {
        for (text, seconds, words) in [
            ("1s", 1, "1 second"),
            ("90s", 90, "90 seconds"),
            ("15m", 900, "15 minutes"),
            ("60m", 3600, "1 hour"),
            ("24h", 86_400, "24 hours"),
        ] {
            let age = ConsentAge::parse(text).unwrap();
            assert_eq!((age.duration().as_secs(), age.to_string().as_str()), (seconds, words));
            let unwitnessed = MaxUnwitnessed::parse(text).unwrap();
            assert_eq!((unwitnessed.duration(), unwitnessed.to_string()), (age.duration(), age.to_string()));
        }
        for bad in ["", "s", "15", "0m", "25h", "-1m", "+1m", "1.5h", "1d", "15 m", "99999999999999999999h", "15\u{b5}", "\u{b5}m"] {
            assert_eq!((ConsentAge::parse(bad), MaxUnwitnessed::parse(bad)), (None, None), "{bad}");
        }
    }
}
