//! Agreements: files that another department's lawyer wrote.

use concordat_policy::agreement::{Agreement, FLOOR_OF_MINIMUM_SUBJECTS};
use concordat_policy::column::{LINKED, SUBJECT, Use};
use concordat_policy::disclosure::{MOST_LARGEST, MOST_MOST};
use sha2::{Digest as _, Sha256};

/// The target.
pub fn agreement(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Agreement::parse(text) {
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            for problem in problems {
                assert!(!problem.cause.is_empty() && !problem.remedy.is_empty());
                assert!((1..=text.lines().count().max(1) + 1).contains(&problem.line(text)), "a line that the text does not have");
            }
        }
        Ok(agreement) => holds(&agreement, text),
    }
}

fn holds(agreement: &Agreement, text: &str) {
    let digest: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(agreement.digest, digest);
    assert!(agreement.valid_from <= agreement.valid_until && !agreement.purposes.is_empty());
    assert!(agreement.minimum_subjects >= FLOOR_OF_MINIMUM_SUBJECTS);
    let rules = &agreement.disclosure;
    assert!(rules.dominance.iter().all(|rule| (1..=MOST_LARGEST).contains(&rule.largest) && (1..=100).contains(&rule.share)));
    assert!(rules.dominance.len() == 1 && rules.p_percent <= 100 && (1..=100).contains(&rules.round_to));
    assert!(rules.perturbation.is_none_or(|noise| noise.most <= MOST_MOST && (1..=noise.highest_variance()).contains(&noise.variance)));
    assert!(agreement.party(&agreement.linkage.keyholder).is_some());
    for dataset in &agreement.datasets {
        assert!(agreement.party(&dataset.name.department).is_some(), "a dataset of nobody");
        assert_eq!(agreement.datasets.iter().filter(|d| d.name == dataset.name).count(), 1);
        assert!(!dataset.subject_uses.contains(&Use::Filter));
        assert!(!dataset.columns.contains_key(SUBJECT) && !dataset.columns.contains_key(LINKED));
        let linked = dataset.linked.as_ref();
        assert!(linked.is_none_or(|linked| linked.identifier.label() != dataset.identifier.label()), "a link of one type");
        assert!(linked.is_none_or(|linked| linked.uses.iter().all(|used| matches!(used, Use::Join | Use::Aggregate))));
        assert!(dataset.rows.iter().all(|condition| dataset.columns.contains_key(&condition.column)), "a condition on no column");
        let read = dataset.row_condition().map_or(0, |condition| condition.columns().len());
        assert_eq!(read == 0, dataset.rows.is_empty(), "a condition is lost");
        assert!(dataset.rows_in_words().is_none_or(|words| !words.contains('\n')));
    }
    let written = toml::from_str::<toml::Value>(text).ok().and_then(|value| toml::to_string(&value).ok()).expect("it is TOML");
    let again = Agreement::parse(&written).expect("the same agreement, written anew, is refused");
    let bare = |agreement: &Agreement| format!("{:?}", Agreement { digest: String::new(), ..agreement.clone() });
    assert_eq!(bare(&again), bare(agreement), "the same agreement, written anew, is another one");
}

const SMALL: &str = r#"id = "a.1"
title = "t"
mission = "m"
purposes = ["p.q"]
valid_from = "2026-01-01"
valid_until = "2027-01-01"
review_on = "2026-06-01"
benefits = "Fairer chances"
objective = "Find gaps"
retention = "Two years"
impact_assessment = "DPIA 7"
minimum_subjects = 10
disclosure = { dominance = { largest = 1, share = 80 }, round_to = 3, zeros = "shown", perturbation = { variance = 2, most = 5 } }
limits = { requests_per_minute = 5, rows_per_day = 7, releases_per_day = 9 }
withdrawals = "all_parties"
max_consent_age = "15m"
max_unwitnessed = "90m"
linkage = { keyholder = "dfe", epoch_days = 90 }

[[party]]
department = "dfe"
signing_key = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
linkage_key = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
contact = "dpo@dfe.example"

[[recipient]]
organisation = "unit"
roles = ["analyst"]

[[dataset]]
department = "dfe"
name = "attainment"
identifier = { type = "nino", uses = ["join", "aggregate"] }
basis = "statutory"
power = "Digital Economy Act 2017 s.35"
honours_objections = true
rows = [{ column = "region", is_in = ["Ynys Môn"] }, { column = "score", at_least = -3 }]

[dataset.columns]
region = { type = "text", classification = "personal", uses = ["group_by", "filter"], values = ["London", "Ynys Môn"] }
score = { type = "integer", classification = "special", uses = ["aggregate"] }

[[dataset]]
department = "dfe"
name = "other"
identifier = { type = "custom", name = "pupil", pattern = "[A-Z]{2}[0-9]{4}", uses = ["join"] }
basis = "consent"
consent_text = "May we?"
"#;

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    vec![
        SMALL.as_bytes().to_vec(),
        SMALL.replace("statutory", "consent").into_bytes(),
        SMALL.replace("type = \"nino\"", "type = \"x\"").into_bytes(),
    ]
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seed_is_an_agreement() {
        let _alone = crate::replay::alone();
        assert!(concordat_policy::Agreement::parse(super::SMALL).is_ok_and(|a| a.datasets.len() == 2));
    }
}
