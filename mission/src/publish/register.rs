//! The public register: which agreements there are, and what was really done under them.

use concordat_policy::agreement::Basis;
use concordat_policy::{Agreement, Name};
use maud::{Markup, html};

use super::figure::{month, whole};
use super::outcome::a_day;
use super::page::{Page, Part, table, titles};
use super::{Publication, Queries, Registered, Used};
use crate::inert::{cell, inert, line};

/// The columns of its CSV.
pub(super) const COLUMNS: [&str; 4] = ["agreement", "purpose", "month", "queries"];

/// `register.html`.
pub(super) fn page(publication: &Publication<'_>) -> String {
    let page = Page { publication, part: Part::Register, title: "Register of agreements".into(), depth: 0, above: Vec::new() };
    page.with(&html! {
        p.lead {
            "What departments agreed to let be computed from their data together, under which power or consent, and how often it was used. "
            "An agreement names every dataset and column that may be used; its digest is that of its exact text, which each department "
            "signs. What is in force is so by the copy of who publishes: a department that has ended or suspended an agreement since is not "
            "seen here, as its own node decides; nothing more is answered under it then."
        }
        (used_at_all(publication))
        @for registered in &publication.agreements { (entry(publication, registered)) }
        @if publication.agreements.is_empty() { p { "No agreement is published." } }
        (gone(publication))
        @if matches!(publication.used, Used::Stated { .. }) {
            p {
                a href="register.csv" { "Use of the agreements as CSV" } ", described by " a href="register.csv-metadata.json" { "its metadata (CSVW)" }
            }
        }
    })
}

fn used_at_all(publication: &Publication<'_>) -> Markup {
    match &publication.used {
        Used::NotStated { because } => html! { p { strong { "How they were used is not stated here" } ": " (inert(because)) "." } },
        Used::Stated { from, until, by, .. } => html! {
            p {
                "Use is counted from the gateway's log, from "
                (a_day(*from)) " to " (a_day(*until)) ": queries that were answered, by the day on which they "
                "ended. One that rests on several agreements counts under each. The numbers are exact: they count queries and not people, "
                "and nobody "
                "who asked is named. Counted from " (inert(by)) "."
            }
        },
    }
}

/// Agreements on which published figures rest, and which are not among the present ones.
fn gone(publication: &Publication<'_>) -> Markup {
    let present = |id: &str| publication.agreements.iter().any(|one| one.agreement.id.as_str() == id);
    let texts = publication.texts();
    let mut gone = texts.iter().filter(|(id, _)| !present(id)).peekable();
    html! {
        @if gone.peek().is_some() {
            section.agreement aria-labelledby="gone-agreements" {
                h2 id="gone-agreements" { "Agreements that are gone" }
                p { "Published figures rest on these too. Their texts are not among the present ones; the digests are theirs." }
                dl.facts {
                    @for (id, digests) in gone { dt { code { (inert(id)) } } dd { ul.plain { @for one in digests { li { code { (inert(one)) } } } } } }
                }
            }
        }
    }
}

fn entry(publication: &Publication<'_>, registered: &Registered<'_>) -> Markup {
    let agreement = registered.agreement;
    html! {
        section.agreement aria-labelledby=(agreement.id) {
            h2 id=(agreement.id) { (inert(&agreement.title)) }
            dl.facts {
                dt { "Identifier" } dd { code { (agreement.id) } }
                dt { "Digest (SHA-256)" } dd { code { (agreement.digest) } }
                @if let Some(digests) = publication.texts().get(agreement.id.as_str()) {
                    dt { "Texts on which published figures rest" }
                    dd { ul.plain { @for one in digests { li { code { (inert(one)) } } } } }
                }
                dt { "Standing" } dd { (inert(&registered.standing)) }
                dt { "Valid" }
                dd {
                    "from " (a_day(agreement.valid_from)) " to " (a_day(agreement.valid_until))
                    @if let Some(review) = agreement.review_on { ", to be reviewed on " (a_day(review)) }
                }
                dt { "Mission" } dd { (mission(publication, agreement)) }
                dt { "Purposes" } dd { ul.plain { @for purpose in &agreement.purposes { li { code { (purpose) } } } } }
                dt { "Departments" }
                dd {
                    ul.plain { @for party in &agreement.parties { li { (title(publication, &party.department)) } } }
                }
                dt { "Answers go to" }
                dd {
                    ul.plain { @for recipient in &agreement.recipients { li { (inert(&recipient.organisation)) } } }
                }
                @for (name, text) in [
                    ("Objective", &agreement.objective), ("Expected benefits", &agreement.benefits),
                    ("Kept for", &agreement.retention), ("Impact assessment", &agreement.impact_assessment),
                ] {
                    @if let Some(text) = text { dt { (name) } dd { (inert(text)) } }
                }
                dt { "Fewest subjects behind a number" } dd { (whole(agreement.minimum_subjects.into())) }
            }
            (datasets(agreement))
            (used(publication, agreement))
        }
    }
}

/// A department's title, or its name where it has none.
fn title(publication: &Publication<'_>, department: &Name) -> String {
    inert(publication.departments.get(department).map_or(department.as_str(), String::as_str))
}

fn mission(publication: &Publication<'_>, agreement: &Agreement) -> Markup {
    match publication.missions.iter().find(|published| published.mission.id == agreement.mission) {
        Some(published) => html! { a href={ "missions/" (agreement.mission) "/index.html" } { (inert(&published.mission.title)) } },
        None => html! { code { (agreement.mission) } },
    }
}

fn datasets(agreement: &Agreement) -> Markup {
    let basis = |basis: &Basis| match basis {
        Basis::Consent { .. } => "consent of the people".to_owned(),
        Basis::Statutory { power, honours_objections: true } => format!("{power}; objections are honoured"),
        Basis::Statutory { power, .. } => power.clone(),
    };
    let rows = html! {
        @for dataset in &agreement.datasets {
            tr {
                th scope="row" { code { (dataset.name.to_string()) } }
                td { (inert(&basis(&dataset.basis))) }
                td { (dataset.columns.keys().map(|column| inert(column)).collect::<Vec<_>>().join(", ")) }
            }
        }
    };
    let caption = html! { "Datasets of " (inert(&agreement.title)) };
    table(&format!("datasets-{}", agreement.id), &caption, &titles(&["Dataset", "Lawful basis", "Columns"]), &rows)
}

fn used(publication: &Publication<'_>, agreement: &Agreement) -> Markup {
    let Used::Stated { from, until, queries, .. } = &publication.used else { return html! {} };
    let own: Vec<&Queries> = queries.iter().filter(|one| one.agreement == agreement.id.as_str()).collect();
    if own.is_empty() {
        return html! { p { "No query was answered under it from " (a_day(*from)) " to " (a_day(*until)) "." } };
    }
    let rows = html! {
        @for one in own {
            tr { th scope="row" { (month(one.month)) } td { code { (inert(&one.purpose)) } } td.number { (whole(one.answered)) } }
        }
    };
    let caption = html! { "Use of " (inert(&agreement.title)) ": answered queries by month and purpose" };
    table(&format!("used-{}", agreement.id), &caption, &titles(&["Month", "Purpose", "Queries"]), &rows)
}

/// `register.csv`: of published agreements, a line a month and purpose; the line of titles alone where use is not stated.
pub(super) fn csv(publication: &Publication<'_>) -> String {
    let titles = line(&COLUMNS.map(str::to_owned));
    let Used::Stated { queries, .. } = &publication.used else { return titles };
    let known = |one: &&Queries| publication.agreements.iter().any(|registered| registered.agreement.id.as_str() == one.agreement);
    let row =
        |one: &Queries| line(&[cell(&one.agreement), cell(&one.purpose), one.month.format("%Y-%m").to_string(), one.answered.to_string()]);
    titles + &queries.iter().filter(known).map(row).collect::<String>()
}
