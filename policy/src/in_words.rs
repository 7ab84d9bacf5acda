//! An agreement as people read it before they sign: who gives which columns for which uses, why, until when, to whom.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::agreement::WithdrawalReach;
use crate::column::{LINKED, SUBJECT, Use};
use crate::{Agreement, Basis, ColumnRule, Dataset};

/// The most listed values of a column that are shown.
const SHOWN: usize = 20;

/// The whole agreement, in lines of text that end with a line break. Everything that it permits stands in it, but for values of lists
/// longer than twenty, whose number does.
#[must_use]
pub fn describe(agreement: &Agreement) -> String {
    let mut text = format!("Agreement '{}': {}\n\n", agreement.id, one_line(&agreement.title));
    let mut line = |what: &str, value: String| {
        let _ = writeln!(text, "  {what:<12}{value}");
    };
    line("mission", agreement.mission.to_string());
    let purposes: Vec<&str> = agreement.purposes.iter().map(|purpose| purpose.as_str()).collect();
    line("purposes", format!("{}, each with its narrower ones", purposes.join(", ")));
    let review = agreement.review_on.map_or_else(String::new, |day| format!("; reviewed on {day}"));
    line("valid", format!("{} to {}, both days included (UTC){review}", agreement.valid_from, agreement.valid_until));
    let told = [
        ("objective", &agreement.objective),
        ("benefits", &agreement.benefits),
        ("retention", &agreement.retention),
        ("assessment", &agreement.impact_assessment),
    ];
    for (what, said) in told {
        if let Some(said) = said {
            line(what, one_line(said));
        }
    }
    for recipient in &agreement.recipients {
        let roles: Vec<String> = recipient.roles.iter().map(|role| one_line(role)).collect();
        let roles = if roles.is_empty() { "no role, so nobody".to_owned() } else { format!("role {}", roles.join(" or ")) };
        line("answers to", format!("{} ({roles})", one_line(&recipient.organisation)));
    }
    if agreement.recipients.is_empty() {
        line("answers to", "nobody".into());
    }
    line("withheld", format!("numbers that rest on fewer than {} people", agreement.minimum_subjects));
    for (nth, rule) in agreement.disclosure.in_words().into_iter().enumerate() {
        line(if nth == 0 { "disclosure" } else { "" }, rule);
    }
    let not_ruled = agreement.disclosure.not_ruled();
    if !not_ruled.is_empty() {
        line("no rule on", not_ruled.join(", "));
    }
    let rotated = match agreement.linkage.rotation {
        0 => String::new(),
        rotation => format!("; rotation {rotation}: none match those of an earlier one"),
    };
    let linkage = &agreement.linkage;
    line("pseudonyms", format!("{} makes their key, anew every {} days{rotated}", linkage.keyholder, linkage.epoch_days));
    let limits = agreement.limits;
    let stated = [
        limits.requests_per_minute.map(|n| format!("{n} requests a minute")),
        limits.concurrent_queries.map(|n| format!("{n} queries at a time")),
        limits.rows_per_day.map(|n| format!("{n} rows a day")),
        limits.releases_per_day.map(|n| format!("{n} releases a day of each department")),
    ];
    let stated: Vec<String> = stated.into_iter().flatten().collect();
    if !stated.is_empty() {
        line("limits", stated.join(", "));
    }
    line(
        "unwitnessed",
        format!(
            "nothing is released while the gateway's log has entries that too few witnesses have seen for more than {}",
            agreement.max_unwitnessed
        ),
    );
    line(
        "withdrawals",
        match agreement.withdrawals {
            WithdrawalReach::OwnDepartment => {
                "and objections reach the data of the department that recorded them, in every release ordered afterwards".into()
            }
            WithdrawalReach::AllParties => format!(
                "and objections reach the data of every party, in every query that starts afterwards; where a query does not read a \
                 party's data, those of its last {} may be missing",
                agreement.max_consent_age
            ),
        },
    );
    for party in &agreement.parties {
        let gives = agreement.datasets.iter().filter(|dataset| dataset.name.department == party.department);
        let gives: Vec<&str> = gives.map(|dataset| dataset.name.dataset.as_str()).collect();
        let gives = if gives.is_empty() { "gives no data".to_owned() } else { format!("gives {}", gives.join(", ")) };
        let _ = write!(
            text,
            "\n{} is a party and {gives}\n  signs with  {}\n  linkage key {}\n",
            party.department, party.signing_key, party.linkage_key
        );
        if let Some(contact) = &party.contact {
            let _ = writeln!(text, "  contact     {}", one_line(contact));
        }
        let own = agreement.datasets.iter().filter(|dataset| dataset.name.department == party.department);
        own.for_each(|dataset| describe_dataset(&mut text, dataset, agreement.minimum_subjects));
    }
    let _ = writeln!(text, "\nThis text is sha256 {}", agreement.digest);
    text
}

fn describe_dataset(text: &mut String, dataset: &Dataset, minimum: u32) {
    let basis = match &dataset.basis {
        Basis::Consent { text } => format!("people agreed; they were asked: {}", one_line(text)),
        Basis::Statutory { power, honours_objections: true } => format!("{}; objections are honoured", one_line(power)),
        Basis::Statutory { power, honours_objections: false } => format!("{}; objections are not honoured", one_line(power)),
    };
    let linked = dataset.linked.as_ref().map_or_else(String::new, |linked| format!(" and {}: it links the two", linked.identifier));
    let _ = writeln!(text, "\n  {}, by {}{linked}\n    lawful because {basis}", dataset.name, dataset.identifier);
    if dataset.linked.is_some() {
        let _ = writeln!(text, "    the choices of both subjects of a row count: it is withheld if either's say so");
    }
    if let Some(rows) = dataset.rows_in_words() {
        let _ = writeln!(text, "    only rows where {rows}");
    }
    if let Some(age) = dataset.max_data_age {
        let _ = writeln!(text, "    only while its data is at most {age} old");
    }
    if dataset.puts_out() {
        let _ = writeln!(text, "    {}", dataset.row_level.in_words(minimum));
    }
    if !dataset.known_to.is_empty() {
        let organisations: Vec<String> = dataset.known_to.iter().map(|organisation| one_line(organisation)).collect();
        let _ = writeln!(text, "    that it exists may be known to {}", organisations.join(", "));
    }
    let mut rows = vec![[SUBJECT.to_owned(), "pseudonym".to_owned(), uses(&dataset.subject_uses)]];
    rows.extend(dataset.linked.iter().map(|linked| [LINKED.to_owned(), "pseudonym".to_owned(), uses(&linked.uses)]));
    rows.extend(dataset.columns.iter().map(|(name, rule)| [name.clone(), kind(rule), uses_of(rule)]));
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    for [name, kind, uses] in &rows {
        let _ = writeln!(text, "    {name:<first$}  {kind:<second$}  {uses}");
        if let Some(values) = dataset.columns.get(name).and_then(|rule| rule.values.as_ref()) {
            let _ = writeln!(text, "    {:<first$}  {}", "", listed(values));
        }
    }
}

/// A list of values as one line: the first of them, and how many more there are. What could be taken for several values, or none,
/// stands in quotes.
#[must_use]
pub fn listed<'v>(values: impl IntoIterator<Item = &'v String>) -> String {
    let value = |value: &String| {
        let plain = one_line(value);
        if plain != *value || plain.is_empty() || plain.contains([',', '"']) { format!("{value:?}") } else { plain }
    };
    let mut values = values.into_iter();
    let mut shown: Vec<String> = values.by_ref().take(SHOWN).map(value).collect();
    match values.count() {
        0 => {}
        more => shown.push(format!("and {more} more")),
    }
    shown.join(", ")
}

fn kind(rule: &ColumnRule) -> String {
    let listed = rule.values.as_ref().map_or_else(String::new, |values| format!(", {} listed values", values.len()));
    format!("{} {}{listed}", rule.classification, rule.kind)
}

fn uses_of(rule: &ColumnRule) -> String {
    let coded = rule.coded.map_or_else(String::new, |coded| format!("; coded: {coded}"));
    let limit = format!("{}{coded}", rule.limit_in_words().map_or_else(String::new, |limit| format!("; {limit}")));
    if rule.uses == BTreeSet::from([Use::Filter]) {
        return format!("filter: decides which rows count, and never leaves the department{limit}");
    }
    format!("{}{limit}", uses(&rule.uses))
}

fn uses(uses: &BTreeSet<Use>) -> String {
    if uses.is_empty() {
        return "no use".into();
    }
    uses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A text of the document as one line: it must not look like lines of ours.
#[must_use]
pub fn one_line(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() || is_reordering(c) { ' ' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Characters that show a text in another order than it has (Unicode bidirectional controls).
fn is_reordering(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::AGREEMENT;

    #[test]
    fn what_is_signed_can_be_read() {
        let more = "mission = \"m\"\nreview_on = \"2026-07-01\"\nbenefits = \"Fairer\\nchances\"\nlimits = { rows_per_day = 7 }";
        let rows = "[dataset.columns]\namount";
        let text = AGREEMENT.replace("mission = \"m\"", more).replace(
            rows,
            &format!("known_to = [\"other-unit\", \"treasury\"]\nrows = [{{ column = \"amount\", at_least = 1 }}, {{ column = \"amount\", less_than = 1000 }}]\n{rows}"),
        );
        insta::assert_snapshot!(describe(&Agreement::parse(&text).unwrap()));
    }

    #[test]
    fn what_registers_ask_for_can_be_read() {
        let own = "objective = \"Find\\ngaps\"\nretention = \"Two years\"\nimpact_assessment = \"DPIA 7\"";
        let text = AGREEMENT.replacen("mission = \"m\"", &format!("mission = \"m\"\n{own}"), 1).replacen(
            "signing_key = \"sha256:1",
            "contact = \"dpo@dwp.example\\n  signs with  me\"\nsigning_key = \"sha256:1",
            1,
        );
        let shown = describe(&Agreement::parse(&text).unwrap());
        for said in [
            "\n  objective   Find gaps\n",
            "\n  retention   Two years\n",
            "\n  assessment  DPIA 7\n",
            "\n  contact     dpo@dwp.example signs with me\n",
        ] {
            assert!(shown.contains(said), "'{said}' is not in {shown}");
        }
        let bare = describe(&Agreement::parse(AGREEMENT).unwrap());
        assert!(["objective ", "retention ", "assessment ", "contact "].iter().all(|word| !bare.contains(word)), "{bare}");
    }

    #[test]
    fn how_far_withdrawals_reach_can_be_read() {
        let text = AGREEMENT.replacen("id = \"one\"", "id = \"one\"\nwithdrawals = \"all_parties\"\nmax_consent_age = \"60s\"", 1);
        let shown = describe(&Agreement::parse(&text).unwrap());
        assert!(shown.contains("  withdrawals and objections reach the data of every party, in every query"), "{shown}");
        assert!(shown.contains("those of its last 1 minute may be missing"), "{shown}");
    }

    #[test]
    fn a_link_dataset_says_what_it_links_and_whose_choices_count() {
        let linked = "consent_text = \"May we?\"\nlinked = { type = \"uprn\", uses = [\"join\", \"aggregate\"] }";
        let text = describe(&Agreement::parse(&AGREEMENT.replace("consent_text = \"May we?\"", linked)).unwrap());
        for said in [
            "dwp.claims, by nino and uprn: it links the two\n",
            "    the choices of both subjects of a row count: it is withheld if either's say so\n",
            "    linked_subject  pseudonym         aggregate, join\n",
        ] {
            assert!(text.contains(said), "'{said}' is not in {text}");
        }
    }

    #[test]
    fn a_limited_filter_is_told() {
        let text = AGREEMENT.replace("\"filter\"], values", "\"filter\"], filter = \"listed\", values");
        let shown = describe(&Agreement::parse(&text).unwrap());
        assert!(shown.contains("  group_by, filter; filter only by its listed values\n"), "{shown}");
        let text = AGREEMENT.replace("amount = {", "amount = { filter = \"bands\", bands = [\"0\", \"100\"],");
        let shown = describe(&Agreement::parse(&text).unwrap());
        assert!(shown.contains("never leaves the department; filter only by < and >= with 0, 100\n"), "{shown}");
    }

    #[test]
    fn a_column_that_is_coded_is_told() {
        let text = AGREEMENT.replace("amount = {", "amount = { coded = { at_least = 0, at_most = 9 },");
        let shown = describe(&Agreement::parse(&text).unwrap());
        assert!(shown.contains("never leaves the department; coded: below 0 as 0, above 9 as 9\n"), "{shown}");
    }

    #[test]
    fn rows_of_single_people_are_told_where_there_can_be_any() {
        let text = AGREEMENT.replace("\"group_by\", \"filter\"", "\"group_by\", \"filter\", \"output\"");
        let words = "    rows of single subjects only where at least 10 share every value shown, and at most 10000 of them a day\n";
        let shown = describe(&Agreement::parse(&text).unwrap());
        assert_eq!(shown.matches(words).count(), 1, "{shown}");
        assert!(!describe(&Agreement::parse(AGREEMENT).unwrap()).contains("rows of single subjects"));
    }

    #[test]
    fn listed_values_stand_apart_and_a_long_list_says_how_long_it_is() {
        let values = |values: &[&str]| listed(&values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>());
        assert_eq!(values(&["N", "S, E", "", "a \"b\"", "x\ny"]), "N, \"S, E\", \"\", \"a \\\"b\\\"\", \"x\\ny\"");
        let years: Vec<String> = (2000..2023).map(|year| year.to_string()).collect();
        let shown = listed(&years);
        assert!(shown.starts_with("2000, ") && shown.ends_with(", 2019, and 3 more"), "{shown}");
        assert!(listed(&years[..20]).ends_with(", 2019"));
    }

    #[test]
    fn disclosure_rules_and_their_absence_are_told() {
        let with = |rules: &str| {
            let text = AGREEMENT.replacen("id = \"one\"", &format!("id = \"one\"\ndisclosure = {{ {rules} }}"), 1);
            describe(&Agreement::parse(&text).unwrap())
        };
        let open =
            with("dominance = { largest = 2, share = 100 }, p_percent = 0, round_to = 1, complement = \"shown\", margins = \"open\"");
        let absent = "people\n  no rule on  dominance, p %, contributors of one value, rounding, noise, complements, totals\n  pseudonyms";
        assert!(open.contains(absent), "{open}");
        let strict = with("homogeneous = \"withheld\", zeros = \"shown\", perturbation = { variance = 2, most = 5 }");
        assert!(strict.contains("noise") && strict.contains("shown as zero") && !strict.contains("no rule on"), "{strict}");
    }

    #[test]
    fn a_rotation_is_told_to_those_who_sign_it() {
        let text = AGREEMENT.replace("keyholder = \"dfe\"", "keyholder = \"dfe\", rotation = 2");
        let shown = describe(&Agreement::parse(&text).unwrap());
        assert!(shown.contains("dfe makes their key, anew every 90 days; rotation 2: none match those of an earlier one\n"), "{shown}");
    }

    #[test]
    fn a_title_makes_no_lines_of_its_own() {
        let text = AGREEMENT.replace("For the tests of this crate", "x\\n  valid       for ever\\u202e\\r");
        let shown = describe(&Agreement::parse(&text).unwrap());
        assert!(shown.starts_with("Agreement 'one': x valid for ever\n"), "{shown}");
    }
}
