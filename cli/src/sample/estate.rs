//! The sample's federation: departments, missions, purposes, agreements and views around the generated people.

use chrono::{Days, NaiveDate, TimeDelta};
use concordat_policy::{Basis, Use};

use super::columns::{Files, Source, sources};
use super::past::{MENTORS_BEGAN, month_before};
use super::{consent, firms};
use crate::federation::describe::{
    AgreedDataset, Agreement, Caller, Column, Dataset, Department, Federation, Format, Identifier, Limits, Mission, Objects, Purpose, View,
};

/// How many months ago outputs were stopped or changed.
pub(crate) const DECIDED: u32 = 2;
const ORGANISATION: &str = "mission-unit";
const ROLE: &str = "analyst";
const POWER: &str = "Digital Economy Act 2017 s.35";

/// The federation of the sample, with agreements in force from `today` for a year.
#[must_use]
pub fn federation(today: NaiveDate) -> Federation {
    federation_since(today, today)
}

/// The same, whose missions' first snapshots are due on an earlier day.
#[must_use]
pub fn federation_since(today: NaiveDate, first: NaiveDate) -> Federation {
    Federation {
        departments: sources().iter().map(department).collect(),
        purposes: purposes(),
        missions: missions(),
        agreements: vec![opportunity(today), healthy_life(today), strong_economy(today)],
        views: views(),
        objects: objects(today, first),
        caller: Caller {
            subject: "analyst-1".into(),
            organisation: ORGANISATION.into(),
            roles: vec![ROLE.into()],
            purpose: "opportunity.measure".into(),
        },
        auditor: Some(Caller {
            subject: "auditor-1".into(),
            organisation: "audit-office".into(),
            roles: vec!["auditor".into()],
            purpose: String::new(),
        }),
        limits: Limits::default(),
    }
}

fn department(source: &Source) -> Department {
    let column = |column: &super::columns::Column| Column {
        name: column.name.into(),
        kind: column.kind(),
        classification: column.classification,
        title: Some(column.title.into()),
        values: column.values.clone(),
        bands: column.bands.map(|bands| bands.iter().map(|band| (*band).to_owned()).collect()),
        source: Some(source.source_name(column.name)).filter(|name| name != column.name),
    };
    let dataset = Dataset {
        name: source.dataset.into(),
        title: format!("{} (generated: about no real person)", source.title),
        source: source.path(),
        format: if source.files == Files::Csv { Format::Csv } else { Format::Parquet },
        identifier_column: source.source_name("nino"),
        identifier: Identifier::of("nino"),
        linked: None,
        columns: source.columns.iter().map(column).collect(),
    };
    Department {
        id: source.department.into(),
        title: source.department_title.into(),
        datasets: std::iter::once(dataset).chain(firms::datasets(source.department)).collect(),
        consent: Some(consent::path(source.department).into()),
        contact: Some(format!("data-sharing@{}.example", source.department)),
        release_memory_mib: None,
    }
}

fn purposes() -> Vec<Purpose> {
    let purpose = |id: &str, title: &str, parent: Option<&str>| Purpose {
        id: id.into(),
        title: title.into(),
        parent: parent.map(str::to_owned),
        retired: false,
    };
    vec![
        purpose("opportunity", "Break down barriers to opportunity", None),
        purpose("opportunity.measure", "Measure whether the mission's outcomes change", Some("opportunity")),
        purpose("opportunity.measure.region", "Measure by region only", Some("opportunity.measure")),
        Purpose { retired: true, ..purpose("opportunity.pilot", "The pilot of 2024, which has ended", Some("opportunity")) },
        purpose("health", "Increase healthy life expectancy", None),
        purpose("health.prevention", "Find and support people at risk before they fall ill", Some("health")),
        purpose("economy", "A strong economy", None),
        purpose("economy.measure", "Measure what public loans to firms lead to", Some("economy")),
    ]
}

fn missions() -> Vec<Mission> {
    let mission = |id: &str, title: &str, goal: &str| Mission { id: id.into(), title: title.into(), goal: goal.into() };
    vec![
        mission(
            "opportunity",
            "Break down barriers to opportunity",
            "Where a child grows up, and with how much money, decides less about attainment, work and wellbeing",
        ),
        mission(
            "healthy-life",
            "Increase healthy life expectancy",
            "People at high cardiovascular risk are identified and supported before a heart attack",
        ),
        mission("strong-economy", "A strong economy", "Firms that public loans support sell further than their own town"),
    ]
}

fn views() -> Vec<View> {
    [
        ("opportunity_by_region", include_str!("estate/opportunity_by_region.sql")),
        ("apprenticeship_gap", include_str!("estate/apprenticeship_gap.sql")),
        ("coverage", include_str!("estate/coverage.sql")),
        ("cardiovascular_support", include_str!("estate/cardiovascular_support.sql")),
        ("loans_and_markets", include_str!("estate/loans_and_markets.sql")),
        ("apprentices_of_firms", include_str!("estate/apprentices_of_firms.sql")),
        ("claims_by_region", include_str!("estate/claims_by_region.sql")),
        ("apprenticeships_completed", include_str!("estate/apprenticeships_completed.sql")),
        ("firms_selling_abroad", include_str!("estate/firms_selling_abroad.sql")),
    ]
    .map(|(name, text)| View { name: name.into(), text: text.into() })
    .to_vec()
}

/// What the missions are to change, from a year before `today`, or the first snapshot's day, to two years after it.
fn objects(today: NaiveDate, first: NaiveDate) -> Vec<Objects> {
    let day = |days: i64| today + TimeDelta::days(days);
    let dates = [
        ("STARTS", day(-365).min(first)),
        ("ENDS", day(730)),
        ("HALF WAY", day(182)),
        ("FIRST SNAPSHOT", first),
        ("LAST MONTH", day(-30)),
        ("MENTORS BEGAN", month_before(today, MENTORS_BEGAN)),
        ("DECIDED", month_before(today, DECIDED)),
    ];
    [("opportunity", include_str!("estate/opportunity.toml")), ("strong-economy", include_str!("estate/strong-economy.toml"))]
        .map(|(mission, text)| {
            let text = dates.iter().fold(text.to_owned(), |text, (what, day)| text.replace(&format!("\"{what}\""), &format!("\"{day}\"")));
            Objects { mission: mission.into(), text }
        })
        .to_vec()
}

const SUMMARISE: &[Use] = &[Use::Aggregate];
const SUMMARISE_AND_FILTER: &[Use] = &[Use::Aggregate, Use::Filter];
const GROUP: &[Use] = &[Use::GroupBy, Use::Filter];
const FILTER_ONLY: &[Use] = &[Use::Filter];

fn statutory() -> Basis {
    Basis::Statutory { power: POWER.into(), honours_objections: true }
}

fn agreed(department: &str, dataset: &str, basis: Basis, columns: &[(&str, &[Use])]) -> AgreedDataset {
    AgreedDataset {
        department: department.into(),
        dataset: dataset.into(),
        basis,
        subject_uses: vec![Use::Join, Use::Aggregate, Use::GroupBy],
        linked_uses: Vec::new(),
        columns: columns.iter().map(|(name, uses)| ((*name).to_owned(), uses.to_vec())).collect(),
    }
}

fn agreement(id: &str, title: &str, purpose: &str, keyholder: &str, today: NaiveDate, datasets: Vec<AgreedDataset>) -> Agreement {
    Agreement {
        id: id.into(),
        title: title.into(),
        mission: id.into(),
        purposes: vec![purpose.into()],
        valid_from: today - Days::new(1),
        valid_until: today + Days::new(365),
        minimum_subjects: 10,
        disclosure: Default::default(),
        keyholder: keyholder.into(),
        epoch_days: 90,
        limits: Default::default(),
        recipients: vec![(ORGANISATION.into(), vec![ROLE.into()])],
        datasets,
    }
}

fn opportunity(today: NaiveDate) -> Agreement {
    let consent = Basis::Consent { text: "May we use what you told us about your wellbeing to see whether chances become fairer?".into() };
    let datasets = vec![
        agreed(
            "dfe",
            "attainment",
            statutory(),
            &[
                ("region", GROUP),
                ("free_school_meals", &[Use::GroupBy, Use::Aggregate, Use::Filter]),
                ("disadvantage_band", GROUP),
                ("attainment8", SUMMARISE_AND_FILTER),
                ("cohort_year", GROUP),
            ],
        ),
        agreed(
            "dwp",
            "claims",
            statutory(),
            &[
                ("claiming", SUMMARISE_AND_FILTER),
                ("months_claiming", SUMMARISE),
                ("claim_started", FILTER_ONLY),
                ("conditionality", FILTER_ONLY),
            ],
        ),
        agreed("dhsc", "health", consent, &[("wellbeing_score", SUMMARISE), ("age_band", GROUP)]),
        agreed(
            "dbt",
            "apprenticeships",
            statutory(),
            &[("started", SUMMARISE_AND_FILTER), ("completed", SUMMARISE_AND_FILTER), ("sector", GROUP), ("level", SUMMARISE)],
        ),
        agreed(
            "dsit",
            "connectivity",
            statutory(),
            &[("gigabit", SUMMARISE_AND_FILTER), ("download_mbps", SUMMARISE), ("affordability_tariff", SUMMARISE_AND_FILTER)],
        ),
    ];
    agreement("opportunity", "Measuring barriers to opportunity", "opportunity.measure", "dfe", today, datasets)
}

fn healthy_life(today: NaiveDate) -> Agreement {
    let consent = Basis::Consent { text: "May we use the results of your health check to learn who gets support in time?".into() };
    let health = &[
        ("age_band", GROUP),
        ("cardiovascular_risk", FILTER_ONLY),
        ("risk_identified", SUMMARISE_AND_FILTER),
        ("supported", SUMMARISE_AND_FILTER),
        ("heart_attack", SUMMARISE_AND_FILTER),
    ];
    let datasets = vec![
        agreed("dhsc", "health", consent, health),
        agreed("dwp", "claims", statutory(), &[("claiming", SUMMARISE_AND_FILTER), ("conditionality", SUMMARISE_AND_FILTER)]),
    ];
    agreement("healthy-life", "Support before a heart attack", "health.prevention", "dhsc", today, datasets)
}

fn strong_economy(today: NaiveDate) -> Agreement {
    let loans: &[(&str, &[Use])] = &[
        ("region", GROUP),
        ("sector", GROUP),
        ("jobs", SUMMARISE),
        ("supported", &[Use::GroupBy, Use::Aggregate, Use::Filter]),
        ("loan_thousands", SUMMARISE),
    ];
    let employers = agreed("dwp", firms::EMPLOYERS, statutory(), &[]);
    let datasets = vec![
        agreed("dbt", firms::LOANS, statutory(), loans),
        agreed(
            "dsit",
            firms::MARKETS,
            statutory(),
            &[("market", &[Use::GroupBy, Use::Aggregate, Use::Filter]), ("abroad_share", SUMMARISE)],
        ),
        AgreedDataset { linked_uses: vec![Use::Join, Use::Aggregate], ..employers },
        agreed("dbt", "apprenticeships", statutory(), &[("started", SUMMARISE_AND_FILTER), ("completed", SUMMARISE_AND_FILTER)]),
    ];
    agreement("strong-economy", "What loans to firms lead to", "economy.measure", "dbt", today, datasets)
}
