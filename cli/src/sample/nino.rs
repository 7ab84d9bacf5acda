//! Generated National Insurance numbers: of valid form, one per person, and nobody's. That a living person bears one of them
//! cannot be excluded, because every number of valid form may be allocated; nothing else about the person is real.

use std::sync::LazyLock;

use super::draw::Draw;

const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// Six digits and a suffix A to D.
const PER_PREFIX: u64 = 4_000_000;
/// Coprime to the number of valid numbers (373 · 4,000,000), so that multiplying scatters without collision.
const SCATTER: u64 = 982_451_653;

/// The valid prefixes (HMRC manual NIM39110), in alphabetical order: 373.
static PREFIXES: LazyLock<Vec<[u8; 2]>> = LazyLock::new(|| {
    let allowed = |never: &'static [u8]| LETTERS.iter().copied().filter(move |b| !never.contains(b));
    let pairs = allowed(b"DFIQUV").flat_map(|first| allowed(b"DFIOQUV").map(move |second| [first, second]));
    pairs.filter(|pair| !matches!(pair, b"BG" | b"GB" | b"KN" | b"NK" | b"NT" | b"TN" | b"ZZ")).collect()
});

/// The number of the person `index`. Different for every index below 1,492,000,000.
pub(super) fn nino(index: u64) -> String {
    let space = PREFIXES.len() as u64 * PER_PREFIX;
    let number = (index % space) * SCATTER % space;
    let prefix = usize::try_from(number / PER_PREFIX).ok().and_then(|place| PREFIXES.get(place)).copied().unwrap_or(*b"AA");
    let rest = number % PER_PREFIX;
    let suffix = match rest % 4 {
        0 => 'A',
        1 => 'B',
        2 => 'C',
        _ => 'D',
    };
    format!("{}{}{:06}{suffix}", char::from(prefix[0]), char::from(prefix[1]), rest / 4)
}

/// How a department wrote the number down: mostly well, now and then with spaces or in lower case, and one time in a hundred
/// so that it identifies nobody. `None` is an empty field.
pub(super) fn as_written(nino: &str, draw: &mut Draw) -> Option<String> {
    let style = draw.unit();
    if style >= 0.08 {
        return Some(nino.to_owned());
    }
    if style >= 0.05 {
        return Some(nino.to_ascii_lowercase());
    }
    if style >= 0.01 {
        return Some(spaced(nino));
    }
    match draw.below(5) {
        0 => None,
        1 => Some("UNKNOWN".into()),
        2 => nino.get(2..).map(|rest| format!("QQ{rest}")),
        3 => nino.get(..8).map(str::to_owned),
        _ => nino.get(..8).map(|start| format!("{start}E")),
    }
}

/// `AB 12 34 56 C`.
fn spaced(nino: &str) -> String {
    let mut text = String::with_capacity(13);
    for (index, letter) in nino.chars().enumerate() {
        if index > 0 && index.is_multiple_of(2) {
            text.push(' ');
        }
        text.push(letter);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use concordat_policy::IdentifierType;

    #[test]
    fn numbers_are_valid_and_distinct() {
        let mut seen = std::collections::HashSet::new();
        let mut out = String::new();
        for index in (0..20_000).chain(39_990_000..40_000_000) {
            let number = nino(index);
            assert!(IdentifierType::Nino.normalise(&number, &mut out) && out == number, "{number}");
            assert!(seen.insert(number));
        }
        assert_eq!(PREFIXES.len(), 373);
    }

    #[test]
    fn what_is_not_valid_was_meant_so() {
        let mut draw = Draw::of(1, 1, super::super::draw::Topic::Identifier, 0);
        let mut out = String::new();
        let number = nino(77);
        let written: Vec<_> = (0..50_000).map(|_| as_written(&number, &mut draw)).collect();
        let valid = |text: &Option<String>, out: &mut String| {
            text.as_deref().is_some_and(|t| IdentifierType::Nino.normalise(t, out) && *out == number)
        };
        let invalid = written.iter().filter(|text| !valid(text, &mut out)).count();
        assert!((400..=600).contains(&invalid), "{invalid} of 50,000");
    }
}
