//! How sensitive a column is, by a guess: from its name and from what its values look like. Whoever guesses says why.
//!
//! Where signs differ, the stricter one counts. Health, ethnicity and the like are *special* (UK GDPR Art. 9); offences are not in
//! Art. 9 but no less protected (Art. 10), and guessed so too. Beside an identifier everything else is *personal*.

use concordat_policy::{Classification, ColumnType};

use super::profile::{Profile, TYPES};

/// A guess.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Guess {
    pub(super) classification: Classification,
    pub(super) why: String,
    /// Why it should not be offered at all: it would single people out whatever else is done.
    pub(super) identifies: Option<String>,
}

/// Words in a column's name, and what they tell of.
const SPECIAL: &[(&str, &[&str])] = &[
    ("racial or ethnic origin", &["ethnic", "ethnicity", "race", "racial", "nationality"]),
    ("political opinions", &["political", "politics", "party_member"]),
    ("religion or belief", &["religion", "religious", "belief", "faith"]),
    ("trade union membership", &["union"]),
    ("genetic or biometric data", &["genetic", "genome", "dna", "biometric", "fingerprint"]),
    (
        "health",
        &[
            "health",
            "diagnosis",
            "diagnoses",
            "icd",
            "icd10",
            "snomed",
            "disability",
            "disabled",
            "disabilities",
            "medical",
            "medication",
            "medicine",
            "treatment",
            "therapy",
            "condition",
            "conditions",
            "illness",
            "disease",
            "hospital",
            "hospitalised",
            "admission",
            "admissions",
            "patient",
            "clinical",
            "clinic",
            "prescription",
            "prescribed",
            "vaccinated",
            "vaccination",
            "bmi",
            "smoker",
            "smoking",
            "alcohol",
            "drug",
            "drugs",
            "pregnant",
            "pregnancy",
            "mental",
            "depression",
            "cancer",
            "diabetes",
            "asthma",
            "blood",
            "bp",
            "hiv",
            "cardiovascular",
            "sen",
            "send",
            "ehcp",
            "pip",
            "dla",
            "esa",
            "limiting",
        ],
    ),
    ("sex life or sexual orientation", &["sexual", "sexuality", "orientation", "lgbt"]),
    ("gender identity", &["transgender", "gender_identity"]),
    (
        "offences (UK GDPR Art. 10)",
        &["crime", "criminal", "offence", "offences", "offender", "conviction", "convictions", "convicted", "arrest", "prison", "custody"],
    ),
];

/// Words that tell of the extract, not of a person.
const PUBLIC: &[&str] = &["snapshot", "extract", "extracted", "extraction"];

/// Words and pairs of words in a name that tell of a direct identifier.
const IDENTIFYING: &[(&str, &[&str])] = &[
    (
        "a person's name",
        &["surname", "forename", "forenames", "firstname", "lastname", "fullname", "initials", "signature", "photo", "username", "login"],
    ),
    ("an address", &["address", "address1", "address2", "address3", "street", "house", "easting", "northing", "latitude", "longitude"]),
    ("a way to reach a person", &["email", "mail", "telephone", "phone", "mobile", "fax"]),
    ("another identifier", &["nino", "upn", "uprn", "utr", "passport", "iban", "ssn", "crn"]),
];

/// The words of a name: `dateOfBirth`, `DATE_OF_BIRTH` and `date of birth` are three.
pub(super) fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut lower = false;
    for c in name.chars() {
        let starts = (lower && c.is_uppercase()) || !c.is_alphanumeric();
        if starts && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        lower = c.is_lowercase() || c.is_ascii_digit();
    }
    words.retain(|word| !word.is_empty());
    words
}

fn has(words: &[String], wanted: &str) -> bool {
    match wanted.split_once('_') {
        Some((a, b)) => words.windows(2).any(|pair| pair == [a, b]),
        None => words.iter().any(|word| word == wanted),
    }
}

/// The first subject of which one of the words stands in the name, and that word.
fn told(words: &[String], table: &[(&'static str, &[&'static str])]) -> Option<(&'static str, &'static str)> {
    table.iter().find_map(|(subject, wanted)| Some((*subject, *wanted.iter().find(|wanted| has(words, wanted))?)))
}

/// The guess for one column.
pub(super) fn guess(name: &str, kind: ColumnType, profile: &Profile) -> Guess {
    let words = words(name);
    let identifies = identifies(&words, kind, profile);
    let (classification, why) = match told(&words, SPECIAL) {
        Some((subject, word)) => (Classification::Special, format!("'{word}' in its name may tell of {subject}")),
        None if profile.share(profile.diagnoses) > 0.5 => (Classification::Special, "its values look like ICD-10 diagnoses".to_owned()),
        None if identifies.is_some() => (Classification::Personal, "it singles people out".to_owned()),
        None => plain(&words),
    };
    Guess { classification, why, identifies }
}

fn plain(words: &[String]) -> (Classification, String) {
    if let Some(word) = PUBLIC.iter().find(|word| has(words, word)) {
        return (Classification::Public, format!("'{word}' in its name tells of the extract, not of a person"));
    }
    if has(words, "dob") || has(words, "birth") || has(words, "born") || has(words, "death") {
        return (
            Classification::Personal,
            "a date of birth or death singles people out beside other facts: rather offer a year or a band".into(),
        );
    }
    if has(words, "postcode") {
        return (Classification::Personal, "a small area singles people out beside other facts: rather offer a larger one".into());
    }
    (Classification::Personal, "it stands beside an identifier, and nothing tells that it is about no person".into())
}

/// Why a column names people by itself.
fn identifies(words: &[String], kind: ColumnType, profile: &Profile) -> Option<String> {
    let mostly = |count: u64| profile.share(count) > 0.5;
    if let Some((what, word)) = told(words, IDENTIFYING) {
        return Some(format!("'{word}' in its name tells of {what}"));
    }
    if persons_name(words) {
        return Some("its name tells of a person's name".into());
    }
    if has(words, "nhs_number") || has(words, "ni_number") || has(words, "insurance_number") || has(words, "account_number") {
        return Some("its name tells of another identifier".into());
    }
    // UPRNs and company numbers are so wide that any whole number may be one.
    let strict = profile.valid.iter().zip(&TYPES).take(3).find(|(count, _)| mostly(**count));
    if let Some((_, (identifier, _))) = strict {
        return Some(format!("its values are valid identifiers of the type {identifier}"));
    }
    for (count, what) in
        [(profile.emails, "e-mail addresses"), (profile.postcodes, "whole postcodes"), (profile.telephones, "telephone numbers")]
    {
        if mostly(count) {
            return Some(format!("its values look like {what}"));
        }
    }
    if kind == ColumnType::Text && profile.share(profile.prose) > 0.1 {
        return Some("its values look like free text, in which people may be named".into());
    }
    let unique = profile.filled >= 20 && profile.share(profile.distinct()) > 0.9;
    (kind == ColumnType::Text && unique).then(|| "nearly every value stands once, as a name or a reference does".into())
}

fn persons_name(words: &[String]) -> bool {
    const WHOSE: &[&str] = &[
        "first",
        "last",
        "full",
        "family",
        "given",
        "middle",
        "maiden",
        "preferred",
        "person",
        "child",
        "pupil",
        "patient",
        "customer",
        "claimant",
        "parent",
        "mother",
        "father",
        "contact",
    ];
    let alone = matches!(words, [only] if only == "name");
    alone || (words.last().is_some_and(|word| word == "name") && words.iter().any(|word| WHOSE.contains(&word.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, kind: ColumnType, values: &[&str]) -> Guess {
        let (mut profile, mut scratch) = (Profile::default(), String::new());
        values.iter().for_each(|value| profile.take(value, &mut scratch));
        guess(name, kind, &profile)
    }

    #[test]
    fn names_fall_into_words() {
        for (name, expected) in [
            ("dateOfBirth", "date of birth"),
            ("DATE_OF_BIRTH", "date of birth"),
            ("NI number", "ni number"),
            ("Ks4 score", "ks4 score"),
            ("_x_", "x"),
        ] {
            assert_eq!(words(name).join(" "), expected, "{name}");
        }
    }

    #[test]
    fn names_and_values_tell_how_sensitive_a_column_is() {
        use Classification::{Personal, Public, Special};
        for (name, expected) in [
            ("ethnic_group", Special),
            ("PrimaryDiagnosis", Special),
            ("has_disability", Special),
            ("conviction_count", Special),
            ("region", Personal),
            ("conditionality", Personal),
            ("trace_id", Personal),
            ("dob", Personal),
            ("snapshot_date", Public),
        ] {
            let guess = of(name, ColumnType::Text, &["a", "b"]);
            assert_eq!(guess.classification, expected, "{name}: {}", guess.why);
        }
        assert_eq!(of("code", ColumnType::Text, &["F32.1", "I10.9", "J45.0"]).classification, Special);
        assert_eq!(of("claiming", ColumnType::Boolean, &["true"; 50]).classification, Personal, "what is so of all is so of each");
    }

    #[test]
    fn what_singles_people_out_is_told() {
        let unique: Vec<String> = (0..30).map(|i| format!("ref-{i}")).collect();
        let unique: Vec<&str> = unique.iter().map(String::as_str).collect();
        for (name, values) in [
            ("Surname", &["x"][..]),
            ("pupil_name", &["x"]),
            ("name", &["x"]),
            ("a", &["a@example.org", "b@example.org"]),
            ("a", &["SW1A 1AA", "m1 1ae"]),
            ("a", &["020 7946 0000", "+44 20 7946 0001"]),
            ("a", &["AB123456C", "AB123457C"]),
            ("a", &["the pupil moved here from another school in May"]),
            ("a", &unique),
        ] {
            assert!(of(name, ColumnType::Text, values).identifies.is_some(), "{name} {values:?}");
        }
        let numbers: Vec<String> = (0..30).map(|i| i.to_string()).collect();
        let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
        for (name, kind, values) in [
            ("school_name", ColumnType::Text, &["Hill", "Vale", "Hill"][..]),
            ("region", ColumnType::Text, &["North", "South", "North"]),
            ("income", ColumnType::Integer, &numbers),
        ] {
            assert_eq!(of(name, kind, values).identifies, None, "{name}");
        }
    }
}
