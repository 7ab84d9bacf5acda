//! Cell-key noise: what is added to a count is looked up by the sum of its contributors' record keys. The same contributors always get
//! the same noise, whatever the question's words, so that asking again and averaging gain nothing; one contributor more or less gets
//! another, so that a difference by one person drowns.
//!
//! ```text
//! record key       = SipHash-2-4(secret; pseudonym)
//! contribution key = SipHash-2-4(secret; record key, contribution)
//! cell key         = SipHash-2-4(secret; Σ keys mod 2^64, subjects)
//! noise            = the k at which the distribution reaches cell key / 2^64,    P(k) ∝ exp(−λ k²), |k| ≤ most
//! ```
//!
//! A sum has two noises. One is that of a count of its contributors, in mean contributions: a sum divided by a number that all of them
//! have tells their number no better than a count does, however many columns are tried. The other is in units of the two largest of their
//! contributions: of the largest by its own contribution key, of the second by the cell key of all contributions. What the largest
//! contributor has, taken from two sums of which the second leaves him out, drowns as one person does in a count, however much it is. And as
//! his noise is the same in whatever company he is, hundreds of such pairs with other people beside him have that noise in their mean, not
//! none. The second noise is for the others: without it, two sums over the same people, of whom one is counted with another value or with
//! fewer of his rows, would differ by exactly his part. Neither is a whole number: a noise of 0 would tell the largest as it is, and that is
//! given often. Where all contributions are equal in size and sign, as those of a count are, there is the first only. Statistical offices do
//! alike: they derive the noise of a magnitude from the same keys and in proportion to the largest contributions, each by its own key
//! (Thompson, Broadfoot and Elazar). So the variance of a sum's noise is that of a count's times the square of the mean contribution and, where
//! they differ, that and a twelfth times the squares of the largest and the second largest. A mean's is that of its sum over that of its number.
//!
//! Whether there are enough people is decided by their number as noise makes it, so that nothing is told of the exact one beside what is
//! told: from the minimum and the largest noise on, so that there always are as many as the minimum asks ([`enough`]).
//!
//! What remains: the same people get the same noise, so two answers that are equal are of the same people and contributions. That
//! somebody is, or is not, among those who were counted shows by that. What somebody has who is not the largest can be had from the mean of
//! hundreds of pairs of sums, with another choice of the others in each: each pair's noise is its own. So can what the largest has, where it
//! can be counted as hundreds of slightly different numbers.
//!
//! λ is such that the variance is as agreed: of all symmetric distributions on that range with that variance it is the one of the
//! largest entropy. Variances above the uniform distribution's (λ = 0), most × (most + 1) / 3, are taken for that.
//!
//! Sources: Fraser and Wooton, *A proposed method for confidentialising tabular output to protect against differencing* (UNECE, 2005);
//! Marley and Leaver, *A method for confidentialising user-defined tables* (ISI, 2011); Thompson, Broadfoot and Elazar, *Methodology for
//! the automatic confidentialisation of statistical outputs from remote servers at the Australian Bureau of Statistics* (UNECE, 2013);
//! Aumasson and Bernstein, *SipHash* (2012).

use std::fmt;
use std::hash::Hasher;

use concordat_policy::disclosure::Perturbation;
use siphasher::sip::SipHasher24;

use crate::Spread;

/// Halvings after which λ is as near as an `f64` can be.
const HALVINGS: u32 = 100;

/// A λ at which there is next to no noise.
const STEEPEST: f64 = 64.0;

/// 2^64.
const KEYS: f64 = 18_446_744_073_709_551_616.0;

/// The distribution of the noise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noise {
    most: u32,
    /// Of each negative k, ascending: the least key that gets a larger one. The upper half of all keys mirrors the lower, so that the
    /// mean is zero exactly.
    above: Vec<u64>,
}

impl Noise {
    /// As agreed.
    #[must_use]
    pub fn new(agreed: Perturbation) -> Self {
        let Perturbation { variance, most } = agreed;
        let (mut low, mut high) = (0.0, STEEPEST);
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(low, high);
            let [lower, upper] = if variance_of(&weights(middle, most)) > f64::from(variance) { [middle, high] } else { [low, middle] };
            (low, high) = (lower, upper);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "half of all keys at most: it is one of two sides")]
        let side: Vec<u64> = weights(low, most).iter().skip(1).map(|share| (share * KEYS) as u64).collect();
        let mut below = 0_u64;
        let reached = side.iter().rev().map(|keys| {
            below = below.saturating_add(*keys);
            below
        });
        let above = reached.collect();
        Self { most, above }
    }

    /// The noise of a cell key.
    #[must_use]
    pub fn of(&self, key: u64) -> i64 {
        let mirrored = key > u64::MAX / 2;
        let lower = if mirrored { !key } else { key };
        let place = self.above.partition_point(|above| *above <= lower);
        let size = i64::from(self.most).saturating_sub(i64::try_from(place).unwrap_or(0));
        if mirrored { size } else { -size }
    }

    /// The same, and evenly up to half more or less, by the key's lower half: no whole number.
    #[must_use]
    pub fn between(&self, key: u64) -> f64 {
        let (part, all) = (u32::try_from(key & u64::from(u32::MAX)).unwrap_or(u32::MAX), f64::from(u32::MAX));
        #[expect(clippy::cast_precision_loss, reason = "small whole numbers")]
        let whole = self.of(key) as f64;
        whole + f64::from(part) / all - 0.5
    }

    /// Its variance, in subjects squared.
    #[must_use]
    pub fn variance(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "small whole numbers")]
        self.table().into_iter().map(|(k, share)| (k * k) as f64 * share).sum()
    }

    /// Its largest size.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.most
    }

    /// Every noise and how often it is given, ascending.
    #[must_use]
    pub fn table(&self) -> Vec<(i64, f64)> {
        let mut start = 0;
        #[expect(clippy::cast_precision_loss, reason = "as near as an `f64` can be")]
        let negative: Vec<f64> = self.above.iter().map(|end| (end - std::mem::replace(&mut start, *end)) as f64 / KEYS).collect();
        let none = 1.0 - 2.0 * negative.iter().sum::<f64>();
        let shares = negative.iter().copied().chain([none]).chain(negative.iter().rev().copied());
        (-i64::from(self.most)..).zip(shares).collect()
    }
}

/// Of 0, and of each k and its opposite alike.
fn weights(steepness: f64, most: u32) -> Vec<f64> {
    let raw: Vec<f64> = (0..=most).map(|k| (-steepness * f64::from(k) * f64::from(k)).exp()).collect();
    let total = raw.iter().sum::<f64>() * 2.0 - 1.0;
    raw.into_iter().map(|weight| weight / total).collect()
}

fn variance_of(weights: &[f64]) -> f64 {
    (0_u32..).zip(weights).map(|(k, weight)| 2.0 * f64::from(k) * f64::from(k) * weight).sum()
}

/// The noise of what contributors have: none where they are all equal, as their number's noise hides them then. `largest` is the
/// contribution key of whoever has most, `cell` the cell key of all contributions.
#[must_use]
pub fn of_contributions(noise: &Noise, secret: &Secret, largest: u64, cell: u64, spread: &Spread) -> f64 {
    let [first, second, ..] = spread.largest;
    if spread.nonzero == 0 || spread.even() {
        return 0.0;
    }
    noise.between(own_key(secret, largest)) * first + noise.between(cell) * second
}

/// Whether `subjects`, whose number carries this noise, are as many as `minimum` asks. Decided by the noisy number alone, and never where they
/// are fewer.
#[must_use]
pub fn enough(minimum: u32, most: u32, subjects: u64, noise: i64) -> bool {
    let noisy = i64::try_from(subjects).unwrap_or(i64::MAX).saturating_add(noise);
    noisy >= i64::from(minimum).saturating_add(i64::from(most))
}

/// What record keys and cell keys are made under. Who has it can undo the noise.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret([u8; 16]);

impl Secret {
    /// Of random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// A keyed hash of a message, told apart from other kinds of messages by its head.
    fn hash(&self, head: u64, parts: [&[u8]; 2]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(&head.to_le_bytes());
        parts.into_iter().for_each(|part| hasher.write(part));
        hasher.finish()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A subject's key. A group's are added, wrapping, each subject once.
#[must_use]
pub fn record_key(secret: &Secret, pseudonym: &[u8]) -> u64 {
    secret.hash(pseudonym.len() as u64, [pseudonym, &[]])
}

/// The key of what a subject contributes. Alike where it is a hundred times as much: a statement may count each row as 1 or as 100, and
/// asking both ways must not get two noises. Alike too where it differs in the last digits only, which depend on the order of addition.
#[must_use]
pub fn contribution_key(secret: &Secret, record_key: u64, own: f64) -> u64 {
    // No pseudonym is so long.
    secret.hash(u64::MAX - 1, [&record_key.to_le_bytes(), &canonical(own).to_le_bytes()])
}

/// A number rounded to its first 29 bits, without factors of a hundred.
fn canonical(own: f64) -> u64 {
    const LAST: u64 = 1 << 24;
    let mut kept = f64::from_bits(own.to_bits().saturating_add(LAST / 2) & !(LAST - 1));
    while kept != 0.0 && kept.is_finite() && kept % 100.0 == 0.0 {
        kept /= 100.0;
    }
    kept.to_bits()
}

/// The key of the noise of one contribution, whoever the others are.
#[must_use]
fn own_key(secret: &Secret, contribution_key: u64) -> u64 {
    // No pseudonym is so long.
    secret.hash(u64::MAX - 2, [&contribution_key.to_le_bytes(), &[]])
}

/// A group's key, of the sum of its distinct contributors' record keys, or of their contributions' keys, and their number.
#[must_use]
pub fn cell_key(secret: &Secret, sum_of_keys: u64, subjects: u64) -> u64 {
    secret.hash(u64::MAX, [&sum_of_keys.to_le_bytes(), &subjects.to_le_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNS: u32 = 1_000_000;

    fn secret() -> Secret {
        Secret::new(*b"sixteen bytes ok")
    }

    /// SplitMix64.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn key_of(members: impl IntoIterator<Item = u32>) -> u64 {
        let keys: Vec<u64> = members.into_iter().map(|member| record_key(&secret(), &member.to_be_bytes())).collect();
        cell_key(&secret(), keys.iter().fold(0, |sum, key| sum.wrapping_add(*key)), keys.len() as u64)
    }

    #[test]
    fn the_table_has_the_variance_that_is_agreed() {
        for (variance, most, expected) in [
            (1, 2, 1.0),
            (1, 20, 1.0),
            (2, 5, 2.0),
            (4, 5, 4.0),
            (10, 5, 10.0),
            (100, 20, 100.0),
            (140, 20, 140.0),
            (99, 5, 10.0),
            (0, 5, 0.0),
        ] {
            let noise = Noise::new(Perturbation { variance, most });
            let table = noise.table();
            assert!((noise.variance() - expected).abs() < 1e-9, "{} for {variance}, at most {most}", noise.variance());
            assert!((table.iter().map(|(_, share)| share).sum::<f64>() - 1.0).abs() < 1e-12);
            assert_eq!(table.iter().map(|(k, _)| *k).collect::<Vec<_>>(), (-i64::from(most)..=i64::from(most)).collect::<Vec<_>>());
            assert!(table.iter().zip(table.iter().rev()).all(|(one, other)| (one.1 - other.1).abs() < 1e-15), "symmetric");
            assert!([0, 1, 1 << 40, 1 << 62].into_iter().all(|key| noise.of(!key) == -noise.of(key) && noise.of(key) <= 0));
            let rarest = table.iter().find(|(_, share)| *share > 0.0).map(|(k, _)| *k);
            assert_eq!(rarest, Some(noise.of(0)));
        }
    }

    #[test]
    fn random_keys_get_noise_of_no_bias_and_of_the_stated_variance() {
        for agreed in [Perturbation { variance: 2, most: 5 }, Perturbation { variance: 50, most: 20 }] {
            let (noise, mut state) = (Noise::new(agreed), 7);
            let drawn: Vec<f64> = (0..RUNS).map(|_| noise.of(random(&mut state)) as f64).collect();
            let (runs, variance) = (f64::from(RUNS), noise.variance());
            let mean = drawn.iter().sum::<f64>() / runs;
            let found = drawn.iter().map(|k| k * k).sum::<f64>() / runs;
            assert!(mean.abs() < 5.0 * (variance / runs).sqrt(), "{mean}");
            assert!((found / variance - 1.0).abs() < 0.01, "{found} for {variance}");
            assert!(drawn.iter().all(|k| k.abs() <= f64::from(noise.most())));
        }
    }

    #[test]
    fn the_same_contributors_get_the_same_noise_in_any_order() {
        arbtest::arbtest(|u| {
            let members: Vec<u32> = u.arbitrary()?;
            assert_eq!(key_of(members.iter().copied()), key_of(members.iter().rev().copied()));
            Ok(())
        });
    }

    /// Groups that differ by one person have noise that is not correlated, and half of a difference's variance is each one's.
    #[test]
    fn one_contributor_more_gets_unrelated_noise() {
        let noise = Noise::new(Perturbation { variance: 4, most: 6 });
        let groups = 20_000;
        let pairs: Vec<(f64, f64)> = (0..groups)
            .map(|group| {
                let members = || (0..12).map(move |member| group * 100 + member);
                (noise.of(key_of(members())) as f64, noise.of(key_of(members().chain([group * 100 + 50]))) as f64)
            })
            .collect();
        let correlation = pairs.iter().map(|(one, other)| one * other).sum::<f64>() / f64::from(groups) / noise.variance();
        assert!(correlation.abs() < 5.0 / f64::from(groups).sqrt(), "{correlation}");
    }

    #[test]
    fn kinds_lengths_and_secrets_tell_keys_apart() {
        let other = Secret::new([7; 16]);
        let mut keys = vec![
            record_key(&secret(), b""),
            record_key(&secret(), &[0]),
            record_key(&secret(), &[0; 16]),
            record_key(&secret(), &[0; 300]),
            record_key(&secret(), &[0; 300 - 256]),
            record_key(&other, &[0; 16]),
            contribution_key(&secret(), 0, 1.0),
            contribution_key(&secret(), 1, 1.0),
            contribution_key(&other, 0, 1.0),
            cell_key(&secret(), 0, 0),
            cell_key(&secret(), 0, 1),
            cell_key(&secret(), 1, 0),
            cell_key(&other, 0, 0),
        ];
        keys.sort_unstable();
        assert!(keys.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(format!("{other:?}"), "Secret(…)");
    }

    #[test]
    fn contributions_get_noise_in_units_of_the_largest() {
        let noise = Noise::new(Perturbation { variance: 2, most: 5 });
        let spread = |own: &[f64]| {
            let mut spread = Spread::default();
            own.iter().for_each(|own| spread.add(*own));
            spread
        };
        let (some, even) = (spread(&[100.0, -300.0, 0.0]), spread(&[7.0, 7.0, 0.0]));
        let mut state = 11;
        let of = |largest: u64, cell: u64, spread: &Spread| of_contributions(&noise, &secret(), largest, cell, spread);
        let drawn: Vec<f64> = (0..RUNS).map(|_| of(random(&mut state), random(&mut state), &some) / 300.0).collect();
        let (runs, expected) = (f64::from(RUNS), (noise.variance() + 1.0 / 12.0) * (1.0 + 1.0 / 9.0));
        let (mean, variance) = (drawn.iter().sum::<f64>() / runs, drawn.iter().map(|k| k * k).sum::<f64>() / runs);
        assert!(mean.abs() < 5.0 * (expected / runs).sqrt() && (variance / expected - 1.0).abs() < 0.01, "{mean} {variance}");
        assert!(
            drawn.iter().all(|k| k.abs() <= 5.5 * (1.0 + 1.0 / 3.0))
                && [0, 7, 1 << 40].into_iter().all(|key| (noise.between(key) + noise.between(!key)).abs() < 1e-9)
        );
        assert!((0..100).all(|_| of(random(&mut state), random(&mut state), &even) == 0.0), "their number's noise hides them");
        assert_eq!(of(0, 0, &Spread::default()), 0.0);
    }

    /// What noise is told of the sum of what people have, of whom one may be far larger than the others.
    type InUnits<'a> = &'a dyn Fn(&Noise, u64, u64, &Spread) -> f64;

    /// A sum with its noise. People are told apart by their number.
    fn noisy(noise: &Noise, own: &[(u32, f64)], in_units: InUnits<'_>) -> f64 {
        let (mut spread, mut people, mut contributions, mut largest) = (Spread::default(), 0_u64, 0_u64, (0.0, 0));
        for (person, own) in own {
            spread.add(*own);
            let person = record_key(&secret(), &person.to_be_bytes());
            let key = contribution_key(&secret(), person, *own);
            people = people.wrapping_add(person);
            contributions = contributions.wrapping_add(key);
            if *own > largest.0 {
                largest = (*own, key);
            }
        }
        let key = |keys| cell_key(&secret(), keys, spread.nonzero);
        let mean = spread.absolute / spread.nonzero as f64;
        spread.absolute + noise.of(key(people)) as f64 * mean + in_units(noise, largest.1, key(contributions), &spread)
    }

    const GIANT: f64 = 12_000.0;

    /// What forty people of a group have, of those from `first` on; and one who has 120 times as much.
    fn group(group: u32, first: u32) -> Vec<(u32, f64)> {
        let of = |person: u32| (group * 100 + person, 90.0 + f64::from((group * 40 + person) % 21));
        (first..first + 40).map(of).chain([(group * 100 + 99, GIANT)]).collect()
    }

    /// Game. Population: 240 groups of forty alike, and one who has 120 times as much as each of them; below what dominance rules
    /// withhold. Knowledge: what the forty have. Target: what the one has, within 10 %, by the difference of two noisy sums. Score:
    /// groups in which he is right: more than half in units of the mean contribution, as it was, and hardly any in units of the largest.
    #[test]
    fn a_giants_contribution_drowns() {
        let noise = Noise::new(Perturbation { variance: 2, most: 5 });
        let groups = 240_u32;
        let won = |in_units: InUnits<'_>| {
            let right = |place: &u32| {
                let all = group(*place, 0);
                let told = noisy(&noise, &all, in_units) - noisy(&noise, &all[..40], in_units);
                (told / GIANT - 1.0).abs() <= 0.1
            };
            (0..groups).filter(right).count()
        };
        let before = won(&|noise, _, key, spread| noise.of(key) as f64 * spread.absolute / spread.nonzero as f64);
        let after = won(&|noise, largest, key, spread| of_contributions(noise, &secret(), largest, key, spread));
        assert!(before > 180 && after < 24, "{before} of {groups} before, {after} now");
    }

    /// Game. As above, but the attacker asks three hundred such pairs of sums, each with others beside the giant, and takes the mean of their
    /// differences. Score: groups in which he is right: nearly all where the noise is by all contributions' key, as it was; few where the
    /// largest has a noise of his own.
    #[test]
    fn hundreds_of_pairs_of_sums_do_not_average_a_giants_noise_away() {
        let noise = Noise::new(Perturbation { variance: 2, most: 5 });
        let (groups, pairs) = (60_u32, 300_u32);
        let won = |in_units: InUnits<'_>| {
            let right = |place: &u32| {
                let all = group(*place, 0);
                let (others, giant) = (&all[..40], all[40]);
                let of_pair = |pair: u32| {
                    // Other thirty of the forty with each pair.
                    let mut state = u64::from(place * 1_000 + pair);
                    let mut some: Vec<(u64, (u32, f64))> = others.iter().map(|own| (random(&mut state), *own)).collect();
                    some.sort_by_key(|(drawn, _)| *drawn);
                    let some: Vec<(u32, f64)> = some.into_iter().take(30).map(|(_, own)| own).collect();
                    let with = [some.as_slice(), &[giant]].concat();
                    noisy(&noise, &with, in_units) - noisy(&noise, &some, in_units)
                };
                let mean = (0..pairs).map(of_pair).sum::<f64>() / f64::from(pairs);
                (mean / GIANT - 1.0).abs() <= 0.1
            };
            (0..groups).filter(right).count()
        };
        let before = won(&|noise, _, key, spread| noise.between(key) * spread.largest[0]);
        let after = won(&|noise, largest, key, spread| of_contributions(noise, &secret(), largest, key, spread));
        assert!(before > 40 && after < 12, "{before} of {groups} before, {after} now");
    }

    /// Nobody can tell 9 from 10, or 14 from 15, by what is withheld: it says no more than the noisy number.
    #[test]
    fn whether_there_are_enough_is_decided_by_the_noisy_number_and_the_minimum_holds() {
        let agreed = Perturbation { variance: 8, most: 5 };
        let (noise, mut state) = (Noise::new(agreed), 3);
        for subjects in 0..40_u64 {
            let shown = (0..2_000).filter(|_| enough(10, agreed.most, subjects, noise.of(random(&mut state)))).count();
            match subjects {
                0..10 => assert_eq!(shown, 0, "{subjects} are fewer than the minimum"),
                10..20 => assert!(shown < 2_000, "{subjects} can look like fewer"),
                _ => assert_eq!(shown, 2_000, "{subjects}"),
            }
        }
        assert!((-5..=5).all(|noise| enough(10, 5, (15 - noise) as u64, noise) && !enough(10, 5, (14 - noise) as u64, noise)));
    }

    #[test]
    fn another_contribution_of_one_gets_another_key_and_the_same_in_another_unit_does_not() {
        let key = |own: f64| contribution_key(&secret(), 5, own);
        for (one, other, same) in [
            (1.0, 100.0, true),
            (3.0, 30_000.0, true),
            (0.1 + 0.2, 0.3, true),
            (1e9, 1e9 + 1e-6, true),
            (1.0, 1.000_001, false),
            (1.0, 10.0, false),
            (1.0, -1.0, false),
            (99_999.0, 100_000.0, false),
            (f64::INFINITY, 1.0, false),
        ] {
            assert_eq!(key(one) == key(other), same, "{one} {other}");
        }
    }

    /// Two sums over the same people, of whom one is counted with another value: their difference is hidden as each of them is.
    #[test]
    fn sums_over_the_same_people_have_unrelated_noise_of_their_contributions() {
        let noise = Noise::new(Perturbation { variance: 4, most: 6 });
        let groups = 20_000_u32;
        let of = |group: u32, coded: f64| {
            let keys = (0..12).map(|member| {
                let own = if member == 0 { coded } else { 3.0 + f64::from(member) };
                contribution_key(&secret(), record_key(&secret(), &(group * 100 + member).to_be_bytes()), own)
            });
            noise.of(cell_key(&secret(), keys.fold(0_u64, u64::wrapping_add), 12)) as f64
        };
        let correlation = (0..groups).map(|group| of(group, 500.5) * of(group, 90.0)).sum::<f64>() / f64::from(groups) / noise.variance();
        assert!(correlation.abs() < 5.0 / f64::from(groups).sqrt(), "{correlation}");
        assert!((0..groups).all(|group| of(group, 90.0) == of(group, 90.0)));
    }
}
