//! Identifier types: how the key of a subject is normalised and validated before it becomes a pseudonym.
//!
//! Two departments link only what both write the same way, so normalisation is part of the contract. An identifier that
//! fails validation never joins; a node counts such rows for its own department.

use std::fmt;

use regex::Regex;
use serde::Deserialize;

/// The longest text that is looked at, in bytes.
pub const MAX_BYTES: usize = 64;

/// A type of identifier.
#[derive(Debug, Clone)]
pub enum IdentifierType {
    /// National Insurance number: two prefix letters, six digits, a suffix A to D (HMRC manual NIM39110).
    Nino,
    /// NHS number: ten digits, the last a modulus 11 check digit (NHS Data Dictionary).
    NhsNumber,
    /// Unique Pupil Number: a check letter (modulus 23), eleven digits, and a digit or, if temporary, a letter (DfE, UPN guide).
    Upn,
    /// Unique Property Reference Number: 1 to 12 digits; leading zeros mean nothing (GeoPlace).
    Uprn,
    /// Companies House number: eight characters; digits alone are padded with zeros on the left.
    CompanyNumber,
    /// A type of the parties' own: the trimmed text must match the whole pattern.
    Custom {
        /// What the parties call it.
        name: String,
        /// The pattern, anchored at both ends.
        pattern: Regex,
    },
}

/// How an agreement or a node's configuration writes an [`IdentifierType`]: `type`, and for `custom` a `name` and a `pattern`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentifierSpec {
    /// `nino`, `nhs_number`, `upn`, `uprn`, `company_number` or `custom`.
    #[serde(rename = "type")]
    pub kind: String,
    /// For `custom`: its name.
    #[serde(default)]
    pub name: Option<String>,
    /// For `custom`: its pattern.
    #[serde(default)]
    pub pattern: Option<String>,
}

impl PartialEq for IdentifierType {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Custom { name, pattern }, Self::Custom { name: other_name, pattern: other_pattern }) => {
                name == other_name && pattern.as_str() == other_pattern.as_str()
            }
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}
impl Eq for IdentifierType {}

impl IdentifierType {
    /// Reads a specification.
    ///
    /// # Errors
    /// A sentence, when the type is unknown or a custom type lacks a name or a valid pattern.
    pub fn from_spec(spec: &IdentifierSpec) -> Result<Self, String> {
        if spec.kind != "custom" && (spec.name.is_some() || spec.pattern.is_some()) {
            return Err(format!("identifier type '{}' has a fixed form; only 'custom' takes a name and a pattern", spec.kind));
        }
        match spec.kind.as_str() {
            "nino" => Ok(Self::Nino),
            "nhs_number" => Ok(Self::NhsNumber),
            "upn" => Ok(Self::Upn),
            "uprn" => Ok(Self::Uprn),
            "company_number" => Ok(Self::CompanyNumber),
            "custom" => {
                let (Some(name), Some(pattern)) = (&spec.name, &spec.pattern) else {
                    return Err("identifier type 'custom' needs a name and a pattern".into());
                };
                let name = crate::Name::parse(name).map_err(|e| format!("identifier name: {e}"))?;
                // By itself first: one that closes the group around it would be anchored at one end only.
                let built = |text: &str| regex::RegexBuilder::new(text).size_limit(1 << 20).build();
                let pattern = built(pattern)
                    .and_then(|_| built(&format!("^(?:{pattern})$")))
                    .map_err(|_| format!("the pattern of identifier '{name}' is not a regular expression, or is too large"))?;
                Ok(Self::Custom { name: name.to_string(), pattern })
            }
            other => Err(format!("unknown identifier type '{other}'; known are nino, nhs_number, upn, uprn, company_number and custom")),
        }
    }

    /// The label that separates pseudonyms of one type from those of another.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Nino => "nino".into(),
            Self::NhsNumber => "nhs_number".into(),
            Self::Upn => "upn".into(),
            Self::Uprn => "uprn".into(),
            Self::CompanyNumber => "company_number".into(),
            Self::Custom { name, pattern } => format!("custom:{name}:{}", pattern.as_str()),
        }
    }

    /// Writes the normalised form of `raw` into `out` (cleared first). Returns whether it is valid; if not, `out` is empty.
    pub fn normalise(&self, raw: &str, out: &mut String) -> bool {
        out.clear();
        if raw.len() > MAX_BYTES {
            return false;
        }
        let valid = match self {
            Self::Custom { pattern, .. } => {
                out.push_str(raw.trim());
                pattern.is_match(out)
            }
            _ => {
                // As most are written.
                if raw.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()) {
                    out.push_str(raw);
                } else {
                    out.extend(raw.chars().filter(|c| !matches!(c, ' ' | '-')).map(|c| c.to_ascii_uppercase()));
                }
                out.is_ascii() && self.check(out)
            }
        };
        if !valid {
            out.clear();
        }
        valid
    }

    /// Checks (and for numbers of free length, canonicalises) upper-case text without separators.
    fn check(&self, text: &mut String) -> bool {
        match self {
            Self::Nino => nino(text.as_bytes()),
            Self::NhsNumber => nhs_number(text.as_bytes()),
            Self::Upn => upn(text.as_bytes()),
            Self::Uprn => {
                let zeros = text.bytes().take_while(|b| *b == b'0').count();
                text.drain(..zeros);
                (1..=12).contains(&text.len()) && digits(text.as_bytes())
            }
            Self::CompanyNumber => {
                if !text.is_empty() && text.len() < 8 && digits(text.as_bytes()) {
                    *text = format!("{text:0>8}");
                }
                company_number(text.as_bytes())
            }
            Self::Custom { .. } => false,
        }
    }
}

impl fmt::Display for IdentifierType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Custom { name, .. } => f.write_str(name),
            other => f.write_str(&other.label()),
        }
    }
}

fn digits(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_digit)
}

fn nino(bytes: &[u8]) -> bool {
    let [first, second, number @ .., suffix] = bytes else { return false };
    let never = |b: u8| matches!(b, b'D' | b'F' | b'I' | b'Q' | b'U' | b'V');
    number.len() == 6
        && first.is_ascii_uppercase()
        && second.is_ascii_uppercase()
        && !never(*first)
        && !never(*second)
        && *second != b'O'
        && !matches!(&[*first, *second], b"BG" | b"GB" | b"KN" | b"NK" | b"NT" | b"TN" | b"ZZ")
        && digits(number)
        && matches!(suffix, b'A'..=b'D')
}

fn nhs_number(bytes: &[u8]) -> bool {
    let [number @ .., check] = bytes else { return false };
    if number.len() != 9 || !digits(bytes) {
        return false;
    }
    let sum: u32 = number.iter().zip((2..=10).rev()).map(|(b, weight)| u32::from(b - b'0') * weight).sum();
    // A remainder of 1 would need the digit 10: such numbers are never issued.
    (11 - sum % 11) % 11 == u32::from(check - b'0')
}

fn upn(bytes: &[u8]) -> bool {
    const LETTERS: &[u8; 23] = b"ABCDEFGHJKLMNPQRTUVWXYZ";
    let [check, number @ .., last] = bytes else { return false };
    if number.len() != 11 || !digits(number) {
        return false;
    }
    let value = |b: u8| match b {
        b'0'..=b'9' => Some(u32::from(b - b'0')),
        _ => LETTERS.iter().position(|l| *l == b).and_then(|p| u32::try_from(p).ok()),
    };
    let Some(last) = value(*last) else { return false };
    let sum: u32 = number.iter().map(|b| u32::from(b - b'0')).chain([last]).zip(2..=13).map(|(v, weight)| v * weight).sum();
    LETTERS.iter().zip(0..).any(|(letter, index)| index == sum % 23 && letter == check)
}

fn company_number(bytes: &[u8]) -> bool {
    let letters = |b: &[u8]| b.iter().all(u8::is_ascii_uppercase);
    match bytes {
        all if all.len() == 8 && digits(all) => true,
        [a, b, rest @ ..] if rest.len() == 6 && letters(&[*a, *b]) => {
            digits(rest) || (matches!(&[*a, *b], b"IP" | b"SP" | b"NP") && matches!(rest, [n @ .., c] if digits(n) && letters(&[*c])))
        }
        [b'R', rest @ ..] => rest.len() == 7 && digits(rest),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(kind: &IdentifierType, raw: &str) -> Option<String> {
        let mut out = String::from("left over");
        kind.normalise(raw, &mut out).then_some(out)
    }

    #[test]
    fn each_type_normalises_and_validates() {
        use IdentifierType::{CompanyNumber, NhsNumber, Nino, Uprn};
        let cases: &[(&IdentifierType, &str, Option<&str>)] = &[
            (&Nino, "ab 12 34 56 c", Some("AB123456C")),
            (&Nino, "AB-12-34-56-C", Some("AB123456C")),
            (&Nino, "QQ123456C", None),
            (&Nino, "AO123456C", None),
            (&Nino, "GB123456C", None),
            (&Nino, "AB123456E", None),
            (&Nino, "AB12345C", None),
            (&Nino, "", None),
            (&Nino, "ＡB123456C", None),
            (&NhsNumber, "943 476 5919", Some("9434765919")),
            (&NhsNumber, "943-476-5919", Some("9434765919")),
            (&NhsNumber, "9434765918", None),
            (&NhsNumber, "943476591", None),
            (&NhsNumber, "94347659190", None),
            (&Uprn, "000100023336956", Some("100023336956")),
            (&Uprn, "0", None),
            (&Uprn, "1234567890123", None),
            (&CompanyNumber, "445790", Some("00445790")),
            (&CompanyNumber, "sc123456", Some("SC123456")),
            (&CompanyNumber, "IP12345R", Some("IP12345R")),
            (&CompanyNumber, "XX12345R", None),
            (&CompanyNumber, "", None),
        ];
        for (kind, raw, expected) in cases {
            assert_eq!(normal(kind, raw).as_deref(), *expected, "{kind} {raw:?}");
        }
    }

    #[test]
    fn upn_check_letter_catches_every_single_change_of_a_digit() {
        let number = "82012345678";
        let valid: Vec<String> =
            ('A'..='Z').map(|c| format!("{c}{number}9")).filter(|u| normal(&IdentifierType::Upn, u).is_some()).collect();
        assert_eq!(valid.len(), 1, "exactly one check letter fits");
        let good = valid.first().unwrap();
        for position in 1..13 {
            for digit in '0'..='9' {
                let mut changed: Vec<char> = good.chars().collect();
                if changed[position] != digit {
                    changed[position] = digit;
                    assert_eq!(normal(&IdentifierType::Upn, &changed.iter().collect::<String>()), None);
                }
            }
        }
    }

    #[test]
    fn custom_patterns_match_the_whole_text() {
        let spec = |pattern: &str| IdentifierSpec { kind: "custom".into(), name: Some("member".into()), pattern: Some(pattern.into()) };
        let kind = IdentifierType::from_spec(&spec("[A-Z]{3}|[0-9]{4}")).unwrap();
        assert_eq!(normal(&kind, " ABC ").as_deref(), Some("ABC"));
        assert_eq!(normal(&kind, "ABCD"), None);
        assert_eq!(normal(&kind, "x1234"), None);
        assert!(IdentifierType::from_spec(&spec("(")).is_err());
        assert!(IdentifierType::from_spec(&spec("a)|(?:b")).is_err(), "it would be anchored at one end only");
        assert!(IdentifierType::from_spec(&spec("(a{1000}){1000}")).is_err());
    }

    #[test]
    fn normalising_is_idempotent_and_never_panics() {
        use IdentifierType::{CompanyNumber, NhsNumber, Nino, Upn, Uprn};
        arbtest::arbtest(|u| {
            let raw: String = u.arbitrary()?;
            for kind in [Nino, NhsNumber, Upn, Uprn, CompanyNumber] {
                if let Some(once) = normal(&kind, &raw) {
                    assert_eq!(normal(&kind, &once), Some(once));
                }
            }
            Ok(())
        });
    }
}
