//! How old a dataset's data may be when it is used.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;
use serde::de::Error as _;

use super::Agreement;
use super::terms::{DAY, in_words, parse};
use crate::signature::CLOCKS;
use crate::{Code, DatasetName, Name, Refusal};

/// How old data may be: 1 second to 3,660 days, written `90s`, `15m`, `36h` or `31d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataAge(Duration);

/// The most that an agreement may state, in seconds.
const MOST: u64 = 3_660 * DAY;

impl DataAge {
    /// The age that is written so.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        parse(text, MOST).map(Self)
    }

    /// The same as a time.
    #[must_use]
    pub fn duration(self) -> Duration {
        self.0
    }

    /// Why data may not be used, if it may not: it is older when it is `asked` for, or of a time that has not come `now`, and nobody knows
    /// how old that is. `freshness` is when it last changed or was read, as releases state it, Unix seconds.
    #[must_use]
    pub fn excludes(self, freshness: i64, [asked, now]: [DateTime<Utc>; 2]) -> Option<&'static str> {
        let most = i64::try_from(self.0.as_secs()).unwrap_or(i64::MAX);
        if freshness.saturating_sub(now.timestamp()) > CLOCKS {
            return Some("which has not come yet");
        }
        (asked.timestamp().saturating_sub(freshness) > most).then_some("which is longer ago")
    }

    /// Refuses data that `agreement` [excludes](Self::excludes).
    ///
    /// # Errors
    /// [`Code::Outdated`].
    pub fn permits(self, agreement: &Name, dataset: &DatasetName, freshness: i64, times: [DateTime<Utc>; 2]) -> Result<(), Refusal> {
        let Some(because) = self.excludes(freshness, times) else { return Ok(()) };
        let of = DateTime::from_timestamp(freshness, 0).map_or_else(|| "no day".into(), |of| of.to_rfc3339_opts(SecondsFormat::Secs, true));
        let what = format!("agreement '{agreement}' lets data of '{dataset}' be used that is at most {self} old; it is of {of}, {because}");
        Err(Refusal::new(Code::Outdated, what)
            .department(&dataset.department)
            .advice("the department brings its data up to date, or the parties agree on another max_data_age"))
    }
}

impl Agreement {
    /// How old the data of a dataset may be, if the agreement says it.
    #[must_use]
    pub fn max_data_age(&self, name: &DatasetName) -> Option<DataAge> {
        self.dataset(name)?.max_data_age
    }
}

impl fmt::Display for DataAge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&in_words(self.0))
    }
}

impl<'de> Deserialize<'de> for DataAge {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("an age is 1 second to 3660 days, written \"90s\", \"15m\", \"36h\" or \"31d\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_written_with_their_unit() {
        for (text, seconds, words) in [("1s", 1, "1 second"), ("24h", DAY, "24 hours"), ("36h", 36 * 3600, "36 hours")] {
            let age = DataAge::parse(text).unwrap();
            assert_eq!((age.duration().as_secs(), age.to_string().as_str()), (seconds, words));
        }
        assert_eq!(DataAge::parse("31d").unwrap().to_string(), "31 days");
        assert!(DataAge::parse("3660d").is_some());
        for bad in ["", "d", "0d", "3661d", "1w", "-1d", "1.5d", "99999999999999999999d"] {
            assert_eq!(DataAge::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn data_is_used_until_it_is_older_than_agreed_and_not_before_its_time() {
        let name = |text: &str| Name::parse(text).unwrap();
        let dataset = DatasetName::new(name("dfe"), name("attainment"));
        let asked = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let of = |freshness: i64, later: i64| {
            let now = asked + chrono::TimeDelta::seconds(later);
            DataAge::parse("2d").unwrap().permits(&name("one"), &dataset, freshness, [asked, now])
        };
        // A query may take long: what counts is when it was asked, and data may be read after that.
        for (ago, later) in [(0, 0), (3600, 0), (2 * 86_400, 0), (2 * 86_400, 600), (-30, 0), (-90, 60)] {
            assert_eq!(of(asked.timestamp() - ago, later), Ok(()), "{ago}, {later}");
        }
        for (freshness, because) in [
            (asked.timestamp() - 2 * 86_400 - 1, "longer ago"),
            (asked.timestamp() + 31, "not come yet"),
            (0, "of 1970-01-01T00:00:00Z"),
            (i64::MIN, "of no day"),
            (i64::MAX, "of no day"),
        ] {
            let refusal = of(freshness, 0).unwrap_err();
            assert_eq!((refusal.code, refusal.department.as_deref()), (Code::Outdated, Some("dfe")));
            let expected = ["'one'", "'dfe.attainment'", "at most 2 days old", because];
            assert!(expected.iter().all(|part| refusal.message.contains(part)), "{refusal}");
        }
    }

    #[test]
    fn an_agreement_states_it_for_a_dataset_and_says_so() {
        let text = crate::testing::AGREEMENT.replacen("basis = ", "max_data_age = \"31d\"\nbasis = ", 1);
        let agreement = Agreement::parse(&text).unwrap();
        let ages: Vec<_> = agreement.datasets.iter().map(|dataset| agreement.max_data_age(&dataset.name)).collect();
        assert_eq!(ages, [DataAge::parse("31d"), None]);
        let words = crate::in_words::describe(&agreement);
        assert_eq!(words.matches("    only while its data is at most 31 days old\n").count(), 1, "{words}");
    }
}
