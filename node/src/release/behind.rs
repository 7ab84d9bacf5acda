//! The distinct subjects behind counted rows, as far as it takes to know whether they are enough, and what is told of the counts.

use std::collections::BTreeSet;

use concordat_policy::denominator::told;
use concordat_proto::receipt::Denominators;

use super::worker::Counts;

/// The most subjects that are kept in mind, of each kind. Under a larger minimum next to nothing is told.
const MOST_KEPT: usize = 10_000;
/// How many characters of an identifier that is not valid are kept in mind. Longer ones that begin alike count once.
const MOST_CHARACTERS: usize = 64;

/// Subjects, by their normalised identifiers, until there are enough. Those without a valid one by what stands in its place:
/// nothing and the same text may each be somebody's many times over.
#[derive(Default)]
pub(super) struct Behind {
    minimum: u32,
    released: BTreeSet<String>,
    withheld: BTreeSet<String>,
    invalid: BTreeSet<String>,
}

impl Behind {
    /// Nobody yet; `minimum` are enough.
    pub(super) fn new(minimum: u32) -> Self {
        Self { minimum, ..Self::default() }
    }

    /// Notes the subjects of rows that are released.
    pub(super) fn released<'a>(&mut self, subjects: impl Iterator<Item = &'a str>) {
        keep(&mut self.released, self.minimum, subjects);
    }

    /// Notes the subject of a row that is withheld.
    pub(super) fn withheld(&mut self, subject: &str) {
        keep(&mut self.withheld, self.minimum, std::iter::once(subject));
    }

    /// Notes what stands in the place of a row's identifier; nothing counts as an empty text.
    pub(super) fn invalid(&mut self, raw: Option<&str>) {
        let raw = raw.unwrap_or_default();
        let end = raw.char_indices().nth(MOST_CHARACTERS).map_or(raw.len(), |(end, _)| end);
        keep(&mut self.invalid, self.minimum, raw.get(..end).into_iter());
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.released(other.released.iter().map(String::as_str));
        other.withheld.iter().for_each(|subject| self.withheld(subject));
        other.invalid.iter().for_each(|raw| self.invalid(Some(raw)));
    }

    /// What may be told of `counts` outside of the department.
    pub(super) fn denominators(&self, counts: Counts) -> Denominators {
        let Counts { released, invalid_identifiers: invalid, without_consent: withheld } = counts;
        let [others, strange] = [&self.withheld, &self.invalid].map(|subjects| subjects.len() as u64);
        let all: BTreeSet<&String> = [&self.released, &self.withheld, &self.invalid].into_iter().flatten().collect();
        Denominators {
            rounded_to: self.minimum,
            considered: told(released + invalid + withheld, all.len() as u64, self.minimum),
            invalid_identifiers: told(invalid, strange, self.minimum),
            withheld: told(withheld, others, self.minimum),
        }
    }
}

fn keep<'a>(kept: &mut BTreeSet<String>, minimum: u32, subjects: impl Iterator<Item = &'a str>) {
    let most = usize::try_from(minimum).unwrap_or(MOST_KEPT).min(MOST_KEPT);
    for subject in subjects {
        if kept.len() >= most {
            return;
        }
        if !kept.contains(subject) {
            kept.insert(subject.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(minimum: u32, released: &[&str], withheld: &[&str]) -> Behind {
        let mut behind = Behind::new(minimum);
        behind.released(released.iter().copied());
        withheld.iter().for_each(|subject| behind.withheld(subject));
        behind
    }

    #[test]
    fn many_rows_of_few_people_are_not_told_and_workers_know_together_what_each_does_not() {
        let counts = Counts { released: 40, invalid_identifiers: 2, without_consent: 30 };
        let mut all = behind(3, &["a", "b", "a"], &["x", "y"]);
        assert_eq!(
            all.denominators(counts),
            Denominators { rounded_to: 3, considered: Some(72), invalid_identifiers: None, withheld: None }
        );
        all.add(&behind(3, &["b"], &["y"]));
        assert_eq!(all.denominators(counts).withheld, None, "nobody counts twice");
        all.add(&behind(3, &["b"], &["z", "v"]));
        assert_eq!(all.denominators(counts).withheld, Some(30));
        assert_eq!(all.withheld.len(), 3, "no more are kept than it takes");
    }

    #[test]
    fn many_rows_of_the_same_invalid_identifier_are_not_told() {
        let counts = Counts { invalid_identifiers: 50, ..Counts::default() };
        let mut all = behind(3, &[], &[]);
        let long = "x".repeat(MOST_CHARACTERS);
        for raw in [None, Some(""), Some("UNKNOWN"), Some("UNKNOWN"), None] {
            all.invalid(raw);
        }
        assert_eq!(all.denominators(counts), Denominators { rounded_to: 3, ..Denominators::default() }, "fifty rows of two");
        let mut other = behind(3, &[], &[]);
        [format!("{long}a"), format!("{long}b")].iter().for_each(|raw| other.invalid(Some(raw)));
        assert_eq!(other.denominators(counts).invalid_identifiers, None, "what begins alike is one");
        all.add(&other);
        let told = all.denominators(counts);
        assert_eq!((told.invalid_identifiers, told.considered), (Some(51), Some(51)));
        // Together they are enough, and whoever is both is one.
        let mut few = behind(3, &["a"], &["b", "a"]);
        assert_eq!(few.denominators(counts).considered, None);
        few.invalid(Some("c"));
        assert_eq!(few.denominators(counts).considered, Some(51));
    }

    #[test]
    fn a_minimum_beyond_what_is_kept_tells_nothing() {
        let all: Vec<String> = (0..20_000).map(|i| i.to_string()).collect();
        let texts: Vec<&str> = all.iter().map(String::as_str).collect();
        let counts = Counts { released: 20_000, ..Counts::default() };
        assert_eq!(behind(15_000, &texts, &[]).denominators(counts).considered, None);
        assert_eq!(behind(9_000, &texts, &[]).denominators(counts).considered, Some(18_000));
    }
}
