//! What a change of an agreement means: the uses that were permitted and are not now, the reverse, and every other term that
//! differs, each with whether more may be done under it, or less. Comments, spelling of the TOML and order of tables mean nothing.

mod disclosed;
mod single_rows;
mod turn;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{Datelike as _, NaiveDate};

use self::turn::Measure;
pub use self::turn::Turn;
use crate::agreement::WithdrawalReach;
use crate::column::{LINKED, SUBJECT, Use};
use crate::{Agreement, Basis, ColumnRule, Dataset, DatasetName};

/// What differs between two agreements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Uses that only the first permits, by column: `department.dataset.column`.
    pub no_longer: BTreeMap<String, BTreeSet<Use>>,
    /// Uses that only the second permits, by column.
    pub newly: BTreeMap<String, BTreeSet<Use>>,
    /// Every other term.
    pub terms: Vec<Term>,
}

/// A term that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Its name.
    pub name: String,
    /// What the first agreement says of it.
    pub before: Option<String>,
    /// What the second says.
    pub after: Option<String>,
    /// Whether more may be done by it, or less.
    pub turn: Turn,
}

/// Compares two agreements, usually two versions of one.
#[must_use]
pub fn difference(before: &Agreement, after: &Agreement) -> Difference {
    let (old, new) = (permitted(before), permitted(after));
    let (old_terms, new_terms) = (terms(before), terms(after));
    let names: BTreeSet<&String> = old_terms.keys().chain(new_terms.keys()).collect();
    let differing = names.into_iter().filter_map(|name| {
        let (before, after) = (old_terms.get(name), new_terms.get(name));
        let words = |said: Option<&Said>| said.and_then(|said| said.words.clone());
        let both = before.into_iter().chain(after).all(|said| [&old_terms, &new_terms].iter().all(|terms| said.is_of(terms)));
        let turn = Turn::between(before.map(|said| &said.measure), after.map(|said| &said.measure));
        let turn = if both { turn } else { Turn::Other };
        let (before, after) = (words(before), words(after));
        (before != after).then(|| Term { name: name.clone(), before, after, turn })
    });
    let terms = differing.collect();
    Difference { no_longer: without(&old, &new), newly: without(&new, &old), terms }
}

impl Difference {
    /// Whether the two say the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.no_longer.is_empty() && self.newly.is_empty() && self.terms.is_empty()
    }
}

impl fmt::Display for Difference {
    /// Lines for people, each ended.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("Both say the same.\n");
        }
        for (title, columns) in [("No longer permitted (narrower)", &self.no_longer), ("Newly permitted (wider)", &self.newly)] {
            if !columns.is_empty() {
                writeln!(f, "{title}:")?;
            }
            for (column, uses) in columns {
                writeln!(f, "  {column}: {}", uses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))?;
            }
        }
        if !self.terms.is_empty() {
            f.write_str("Terms:\n")?;
        }
        for Term { name, before, after, turn } in &self.terms {
            match (before, after) {
                (Some(before), Some(after)) => writeln!(f, "  {name}: {before:?} became {after:?} ({turn})")?,
                (Some(before), None) => writeln!(f, "  {name}: {before:?} is gone ({turn})")?,
                (None, Some(after)) => writeln!(f, "  {name}: {after:?} is new ({turn})")?,
                (None, None) => {}
            }
        }
        Ok(())
    }
}

type Permitted = BTreeMap<String, BTreeSet<Use>>;

/// Every use of every column that has one.
fn permitted(agreement: &Agreement) -> Permitted {
    let of = |dataset: &Dataset| {
        let linked = dataset.linked.iter().map(|linked| (LINKED, &linked.uses));
        let columns = dataset.columns.iter().map(|(name, rule)| (name.as_str(), &rule.uses));
        let columns = columns.chain([(SUBJECT, &dataset.subject_uses)]).chain(linked);
        columns.map(|(column, uses)| (path(&dataset.name, Some(column)), uses.clone())).collect::<Vec<_>>()
    };
    agreement.datasets.iter().flat_map(of).filter(|(_, uses)| !uses.is_empty()).collect()
}

/// What `all` permits and `other` does not.
fn without(all: &Permitted, other: &Permitted) -> Permitted {
    let none = BTreeSet::new();
    let rest = |column: &String, uses: &BTreeSet<Use>| uses.difference(other.get(column).unwrap_or(&none)).copied().collect();
    all.iter()
        .map(|(column, uses)| (column.clone(), rest(column, uses)))
        .filter(|(_, uses): &(_, BTreeSet<Use>)| !uses.is_empty())
        .collect()
}

/// What an agreement says of a term, for people and for comparing. Without words it is silent, and what then holds is measured.
struct Said {
    words: Option<String>,
    measure: Measure,
}

impl Said {
    /// Whether what the term is about is there, whatever is said of it: a condition that went with its dataset permits nothing more.
    fn is_of(&self, terms: &BTreeMap<String, Said>) -> bool {
        match &self.measure {
            Measure::AllOf { of, .. } | Measure::OnlyOf { of, .. } | Measure::MostOf { of, .. } => terms.contains_key(of),
            _ => true,
        }
    }
}

/// Every term beside the uses. The agreement is taken apart by name, so that a field that is added is not forgotten here.
fn terms(agreement: &Agreement) -> BTreeMap<String, Said> {
    let Agreement {
        id,
        title,
        mission,
        purposes,
        valid_from,
        valid_until,
        review_on,
        benefits,
        objective,
        retention,
        impact_assessment,
        minimum_subjects,
        disclosure,
        limits,
        withdrawals,
        max_consent_age,
        max_unwitnessed,
        linkage,
        parties,
        recipients,
        datasets,
        digest: _,
    } = agreement;
    let of_rows = |dataset: &Dataset| {
        let dataset_path = path(&dataset.name, None);
        let of = single_rows::terms(dataset, *minimum_subjects);
        of.map(|(what, words, measure)| (format!("{dataset_path}: row_level {what}"), Said { words, measure }))
    };
    let mut terms: BTreeMap<String, Said> = datasets.iter().flat_map(of_rows).collect();
    let mut term = |name: String, words: Option<String>, measure: Measure| {
        if words.is_some() {
            terms.insert(name, Said { words, measure });
        }
    };
    let most = |n: Option<u64>| Measure::Most(n.unwrap_or(u64::MAX));
    let day = |day: &NaiveDate| u64::from(day.num_days_from_ce().unsigned_abs());
    let reach = *withdrawals == WithdrawalReach::AllParties;
    let own = [
        ("id", Some(id.to_string()), Measure::Words),
        ("title", Some(title.clone()), Measure::Words),
        ("mission", Some(mission.to_string()), Measure::Words),
        ("purposes", Some(list(purposes)), Measure::any_of(purposes)),
        ("valid_from", Some(valid_from.to_string()), Measure::Least(day(valid_from))),
        ("valid_until", Some(valid_until.to_string()), Measure::Most(day(valid_until))),
        ("review_on", review_on.map(|day| day.to_string()), Measure::Words),
        ("benefits", benefits.clone(), Measure::Words),
        ("objective", objective.clone(), Measure::Words),
        ("retention", retention.clone(), Measure::Words),
        ("impact_assessment", impact_assessment.clone(), Measure::Words),
        ("minimum_subjects", Some(minimum_subjects.to_string()), Measure::Least((*minimum_subjects).into())),
        ("requests_per_minute", limits.requests_per_minute.map(|n| n.to_string()), most(limits.requests_per_minute.map(u64::from))),
        ("concurrent_queries", limits.concurrent_queries.map(|n| n.to_string()), most(limits.concurrent_queries.map(u64::from))),
        ("rows_per_day", limits.rows_per_day.map(|n| n.to_string()), most(limits.rows_per_day)),
        ("releases_per_day", limits.releases_per_day.map(|n| n.to_string()), most(limits.releases_per_day.map(u64::from))),
        // Whom a choice reaches is taken out of more data.
        ("withdrawals", Some(withdrawals.to_string()), Measure::Least(reach.into())),
        ("max_consent_age", reach.then(|| max_consent_age.to_string()), Measure::Most(max_consent_age.duration().as_secs())),
        ("max_unwitnessed", Some(max_unwitnessed.to_string()), Measure::Most(max_unwitnessed.duration().as_secs())),
        ("keyholder", Some(linkage.keyholder.to_string()), Measure::Words),
        // One person's pseudonyms match for as long.
        ("epoch_days", Some(linkage.epoch_days.to_string()), Measure::Most(linkage.epoch_days.into())),
        ("rotation", Some(linkage.rotation.to_string()), Measure::Words),
    ];
    own.into_iter().chain(disclosed::terms(disclosure)).for_each(|(name, words, measure)| term(name.into(), words, measure));
    for party in parties {
        term(format!("party {}: signing_key", party.department), Some(party.signing_key.to_string()), Measure::Words);
        term(format!("party {}: linkage_key", party.department), Some(party.linkage_key.to_string()), Measure::Words);
        term(format!("party {}: contact", party.department), party.contact.clone(), Measure::Words);
    }
    let organisations: BTreeSet<&String> = recipients.iter().map(|recipient| &recipient.organisation).collect();
    for organisation in organisations {
        // An organisation may stand in several tables: a caller needs the roles of one.
        let roles: BTreeSet<&String> = recipients.iter().filter(|r| r.organisation == *organisation).flat_map(|r| &r.roles).collect();
        let measure = Measure::any_of(roles.iter());
        term(format!("recipient {organisation}: roles"), Some(list(roles)), measure);
    }
    for Dataset { name, identifier, subject_uses: _, linked, basis, columns, rows, row_level: _, max_data_age, known_to } in datasets {
        // With its pattern, where it has one of its own.
        let path = |column| path(name, column);
        let dataset = format!("{}: identifier", path(None));
        term(dataset.clone(), Some(format!("{identifier:?}")), Measure::Words);
        let linked = linked.as_ref().map(|linked| format!("{:?}", linked.identifier));
        term(format!("{}: linked", path(None)), linked, Measure::Words);
        let measure = match basis {
            Basis::Consent { .. } => Measure::Words,
            Basis::Statutory { power, honours_objections } => Measure::Power { power: power.clone(), honours: *honours_objections },
        };
        term(format!("{}: basis", path(None)), Some(basis_of(basis)), measure);
        term(format!("{}: known_to", path(None)), (!known_to.is_empty()).then(|| list(known_to)), Measure::any_of(known_to));
        if let Some(age) = max_data_age {
            let measure = Measure::MostOf { of: dataset.clone(), most: age.duration().as_secs() };
            term(format!("{}: max_data_age", path(None)), Some(age.to_string()), measure);
        }
        // By column, so that one condition's change is told alone.
        for column in rows.iter().map(|condition| &condition.column).collect::<BTreeSet<_>>() {
            let tests = rows.iter().filter(|condition| condition.column == *column).map(|condition| condition.test.to_string());
            let tests: BTreeSet<String> = tests.collect();
            let words = tests.iter().cloned().collect::<Vec<_>>().join(", and ");
            term(format!("{}: rows only where it", path(Some(column))), Some(words), Measure::AllOf { of: dataset.clone(), tests });
        }
        for (column, rule) in columns {
            let ColumnRule { kind, classification, uses: _, values, filter, bands, coded, title } = rule;
            term(format!("{}: type", path(Some(column))), Some(kind.to_string()), Measure::Words);
            term(format!("{}: classification", path(Some(column))), Some(classification.to_string()), Measure::Words);
            term(format!("{}: values", path(Some(column))), values.as_ref().map(list), Measure::Words);
            if let Some(coded) = coded {
                let tests: BTreeSet<String> = coded.to_string().split(", ").map(str::to_owned).collect();
                let measure = Measure::AllOf { of: format!("{}: type", path(Some(column))), tests };
                term(format!("{}: coded", path(Some(column))), Some(coded.to_string()), measure);
            }
            if let Some(limit) = filter {
                let thresholds = bands.as_ref().map_or_else(String::new, |bands| format!(" at {}", list(bands)));
                let those = bands.as_ref().map_or_else(|| BTreeSet::from([limit.to_string()]), |bands| bands.iter().cloned().collect());
                let measure = Measure::OnlyOf { of: format!("{}: type", path(Some(column))), those };
                term(format!("{}: filter", path(Some(column))), Some(format!("{limit}{thresholds}")), measure);
            }
            term(format!("{}: title", path(Some(column))), title.clone(), Measure::Words);
        }
    }
    terms
}

/// A list as text. What could be taken for several items, or none, stands in quotes.
fn list<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let item = |text: String| if text.is_empty() || text.contains([',', '"']) { format!("{text:?}") } else { text };
    items.into_iter().map(|text| item(text.to_string())).collect::<Vec<_>>().join(", ")
}

/// `department.dataset`, or a column of it. A part that has a dot of its own stands in quotes, so that no two names read the same.
fn path(dataset: &DatasetName, column: Option<&str>) -> String {
    let part = |text: &str| if text.contains(['.', '"']) { format!("{text:?}") } else { text.to_owned() };
    let parts = [Some(dataset.department.as_str()), Some(dataset.dataset.as_str()), column];
    parts.into_iter().flatten().map(part).collect::<Vec<_>>().join(".")
}

fn basis_of(basis: &Basis) -> String {
    match basis {
        Basis::Consent { text } => format!("consent: {text}"),
        Basis::Statutory { power, honours_objections: true } => format!("statutory, objections honoured: {power}"),
        Basis::Statutory { power, honours_objections: false } => format!("statutory, objections not honoured: {power}"),
    }
}

#[cfg(test)]
mod tests;
