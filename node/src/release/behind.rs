//! The distinct subjects whose rows a release leaves out, and what is told of their number. Subjects, not rows: one person's choice
//! withholds all of his rows, and must not show by their number.
//!
//! Subjects are counted by parts of their pseudonyms, 64 bits: equal for two of ten million with a probability of 3 in a million. Up to
//! [`MOST_KEPT`] they are counted exactly. Beyond it every second pseudonym is dropped, by one bit of it, as often as it takes, and
//! those that are left stand for all: memory stays bounded, and the same people give the same number in whatever order they come. What
//! is told is then rounded to four standard errors at least, which is more than one subject moves it by.
//!
//! Source: Flajolet, *On adaptive sampling*, Computing 43 (1990).

use std::collections::HashSet;

use concordat_policy::denominator::Grain;
use concordat_proto::receipt::Denominators;

use crate::pseudonym::{Pseudonym, Pseudonyms};

/// The most subjects of a kind that are kept in mind: some 5 MB.
const MOST_KEPT: usize = 1 << 18;
/// Four standard errors of what one kept subject stands for: 4 × √[`MOST_KEPT`].
const ERRORS: u32 = 4 << 9;
/// How many characters of an identifier that is not valid are kept in mind. Longer ones that begin alike count once.
const MOST_CHARACTERS: usize = 64;

/// The pseudonym of what stands in the place of an identifier; nothing counts as an empty text.
pub(super) fn stand_in(pseudonyms: &Pseudonyms, raw: Option<&str>) -> Pseudonym {
    let raw = raw.unwrap_or_default();
    let end = raw.char_indices().nth(MOST_CHARACTERS).map_or(raw.len(), |(end, _)| end);
    pseudonyms.one(raw.get(..end).unwrap_or_default())
}

/// Subjects that are left out. Those without a valid identifier by what stands in its place: nothing and the same text may each be
/// somebody's many times over.
#[derive(Default)]
pub(super) struct Behind {
    /// `None` where nothing is told, and nobody is counted.
    grain: Option<Grain>,
    /// Whether a condition of the caller chose among the rows. Of those whose choices withhold them no number is told then: condition
    /// by condition it would say who they are, of just those who asked to be left out.
    conditional: bool,
    withheld: Distinct,
    invalid: Distinct,
}

impl Behind {
    /// Nobody yet.
    pub(super) fn new(grain: Option<Grain>, conditional: bool) -> Self {
        Self { grain, conditional, ..Self::default() }
    }

    /// Whether anybody is counted whose choices withhold the row.
    pub(super) fn counts_withheld(&self) -> bool {
        self.grain.is_some() && !self.conditional
    }

    /// Whether anybody is counted whose identifier is not valid.
    pub(super) fn counts_invalid(&self) -> bool {
        self.grain.is_some()
    }

    /// Notes the subject of a row that is withheld, by its pseudonym.
    pub(super) fn withheld(&mut self, subject: impl FnOnce() -> Pseudonym) {
        if self.counts_withheld() {
            self.withheld.note(subject());
        }
    }

    /// Notes what stands in the place of a row's identifier, by its pseudonym.
    pub(super) fn invalid(&mut self, stand_in: impl FnOnce() -> Pseudonym) {
        if self.counts_invalid() {
            self.invalid.note(stand_in());
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.withheld.add(&other.withheld);
        self.invalid.add(&other.invalid);
    }

    /// What may be told outside of the department.
    pub(super) fn denominators(&self) -> Option<Denominators> {
        let grain = self.grain?.at_least(self.withheld.coarse().max(self.invalid.coarse()));
        let [withheld, invalid_identifiers] =
            [&self.withheld, &self.invalid].map(|subjects| grain.told(subjects.count(), subjects.count()));
        Some(Denominators { rounded_to: grain.unit(), invalid_identifiers, withheld })
    }
}

/// Distinct subjects.
#[derive(Default)]
struct Distinct {
    kept: HashSet<u64>,
    /// How often every second one was dropped: those that are left end in so many zero bits.
    halved: u32,
}

impl Distinct {
    fn note(&mut self, pseudonym: Pseudonym) {
        let [.., a, b, c, d, e, f, g, h] = pseudonym;
        self.keep(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
    }

    fn keep(&mut self, subject: u64) {
        if subject.trailing_zeros() >= self.halved && self.kept.insert(subject) {
            while self.kept.len() > MOST_KEPT {
                self.halve(self.halved.saturating_add(1));
            }
        }
    }

    /// Drops those that end in fewer zero bits.
    fn halve(&mut self, halved: u32) {
        self.halved = halved;
        self.kept.retain(|subject| subject.trailing_zeros() >= halved);
    }

    fn add(&mut self, other: &Self) {
        if other.halved > self.halved {
            self.halve(other.halved);
        }
        other.kept.iter().for_each(|subject| self.keep(*subject));
    }

    /// How many there are, or about how many.
    fn count(&self) -> u64 {
        (self.kept.len() as u64).saturating_mul(1_u64.checked_shl(self.halved).unwrap_or(u64::MAX))
    }

    /// The least unit in which their number may be told; 0 while it is exact.
    fn coarse(&self) -> u32 {
        if self.halved == 0 { 0 } else { ERRORS.saturating_mul(1_u32.checked_shl(self.halved).unwrap_or(u32::MAX)) }
    }
}

#[cfg(test)]
mod tests {
    use concordat_policy::disclosure::{Disclosure, Perturbation};
    use concordat_policy::{IdentifierType, LinkageDomain};

    use super::*;
    use crate::fixture::name;
    use crate::pseudonym::DomainKey;

    fn pseudonyms() -> Pseudonyms {
        let domain = LinkageDomain { mission: name("m"), purpose: name("p"), epoch: 1, rotation: 0 };
        Pseudonyms::derive(&DomainKey::new([5; 32]), &domain, &IdentifierType::Nino)
    }

    fn grain(minimum: u32, round_to: u32) -> Option<Grain> {
        Grain::of(minimum, &Disclosure { round_to, ..Disclosure::default() })
    }

    fn behind(grain: Option<Grain>, withheld: &[&str], invalid: &[Option<&str>]) -> Behind {
        let (mut behind, pseudonyms) = (Behind::new(grain, false), pseudonyms());
        withheld.iter().for_each(|subject| behind.withheld(|| pseudonyms.one(subject)));
        invalid.iter().for_each(|raw| behind.invalid(|| stand_in(&pseudonyms, *raw)));
        behind
    }

    fn told(rounded_to: u32, invalid_identifiers: Option<u64>, withheld: Option<u64>) -> Option<Denominators> {
        Some(Denominators { rounded_to, invalid_identifiers, withheld })
    }

    #[test]
    fn many_rows_of_few_people_are_few_and_workers_know_together_what_each_does_not() {
        let three = grain(3, 1);
        let mut all = behind(three, &["x", "y", "x", "x"], &[]);
        assert_eq!(all.denominators(), told(3, None, None));
        all.add(&behind(three, &["y"], &[]));
        assert_eq!(all.denominators(), told(3, None, None), "nobody counts twice");
        all.add(&behind(three, &["z", "v", "v"], &[]));
        assert_eq!(all.denominators(), told(3, None, Some(3)), "four people, whatever their rows");
        let others = ["1", "2", "3", "4", "5", "6"];
        assert_eq!(behind(three, &others, &[]).denominators(), told(3, None, Some(6)));
        assert_eq!(behind(grain(3, 10), &others, &[]).denominators(), told(10, None, Some(10)), "as coarse as counts are");
    }

    #[test]
    fn many_rows_of_the_same_invalid_identifier_are_few() {
        let three = grain(3, 1);
        let mut all = behind(three, &[], &[None, Some(""), Some("UNKNOWN"), Some("UNKNOWN"), None]);
        assert_eq!(all.denominators(), told(3, None, None), "five rows of two");
        let [one, other] = ["a", "b"].map(|end| "x".repeat(MOST_CHARACTERS) + end);
        let long = behind(three, &[], &[Some(&one), Some(&other)]);
        assert_eq!(long.invalid.count(), 1, "what begins alike is one");
        all.add(&long);
        assert_eq!(all.denominators(), told(3, Some(3), None));
    }

    #[test]
    fn under_a_condition_nobody_is_told_of_who_is_withheld() {
        let (mut behind, pseudonyms) = (Behind::new(grain(3, 1), true), pseudonyms());
        for subject in ["1", "2", "3", "4"] {
            behind.withheld(|| pseudonyms.one(subject));
            behind.invalid(|| stand_in(&pseudonyms, Some(subject)));
        }
        assert_eq!((behind.denominators(), behind.withheld.count()), (told(3, Some(3), None), 0));
    }

    #[test]
    fn under_noise_nothing_is_told_and_nobody_kept() {
        let noisy = Disclosure { perturbation: Some(Perturbation { variance: 1, most: 2 }), ..Disclosure::default() };
        let behind = behind(Grain::of(3, &noisy), &["1", "2", "3", "4"], &[Some("?")]);
        assert_eq!(behind.denominators(), None);
        assert_eq!((behind.withheld.count(), behind.invalid.count()), (0, 0));
    }

    #[test]
    fn of_very_many_some_stand_for_all_within_what_is_told() {
        const MANY: u64 = 1_000_000;
        let (pseudonyms, mut out) = (pseudonyms(), Vec::new());
        let texts: Vec<String> = (0..MANY).map(|number| number.to_string()).collect();
        pseudonyms.make(texts.iter().map(String::as_str), &mut out);
        let of = |pseudonyms: &[Pseudonym]| {
            let mut distinct = Distinct::default();
            pseudonyms.iter().for_each(|pseudonym| distinct.note(*pseudonym));
            distinct
        };
        let exact = of(&out[..MOST_KEPT]);
        assert_eq!((exact.count(), exact.coarse()), (MOST_KEPT as u64, 0));
        let whole = of(&out);
        assert_eq!((whole.halved, whole.coarse()), (2, 8_192));
        assert!(whole.kept.len() <= MOST_KEPT && whole.count().abs_diff(MANY) < 4_096, "{}", whole.count());
        // The same people give the same, in parts that overlap and in another order.
        let (first, last) = (&out[..700_000], &out[300_000..]);
        for (one, other) in [(first, last), (last, first), (&out[..1_000], &out[..])] {
            let mut parts = of(one);
            parts.add(&of(other));
            assert_eq!((parts.count(), parts.halved), (whole.count(), whole.halved));
        }
        let behind = Behind { grain: grain(10, 5), conditional: false, withheld: whole, invalid: Distinct::default() };
        assert_eq!(behind.denominators(), told(8_200, None, Some(1_000_400)), "to the next multiple of 10 above 8,192");
    }
}
