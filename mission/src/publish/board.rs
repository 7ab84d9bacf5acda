//! The first page, with every mission, and a mission's own.

use maud::{Markup, html};
use serde_json::Value;

use super::figure::{Scale, day, figure};
use super::outcome::{a_day, every};
use super::page::{Page, Part, table, titles, verdict};
use super::{Publication, Published};
use crate::inert::inert;
use crate::mission::{Mission, Outcome, Output, OutputStatus};
use crate::pivot::{Decided, unlike};
use crate::restated::unstated;
use crate::status::OutcomeStatus;

/// `index.html`.
pub(super) fn index(publication: &Publication<'_>) -> String {
    let page = Page { publication, part: Part::Missions, title: "Missions and outcomes".into(), depth: 0, above: Vec::new() };
    page.with(&html! {
        p.lead {
            "What each mission is to change, how it is measured, and how it stands on " (day(publication.on)) ". "
            "Departments keep their own data; each figure is an answer to one question across them, with what could identify anybody "
            "withheld."
        }
        @for published in &publication.missions {
            section.mission aria-labelledby={ "mission-" (published.mission.id) } {
                h2 id={ "mission-" (published.mission.id) } {
                    a href={ "missions/" (published.mission.id) "/index.html" } { (inert(&published.mission.title)) }
                }
                p { (inert(&published.mission.goal)) }
                (outcomes(published, &format!("missions/{}/", published.mission.id)))
            }
        }
        @if publication.missions.is_empty() { p { "No mission is published." } }
        p { a href="about.html" { "How a status is worked out, and what a trend cannot show" } }
    })
}

/// `missions/M/index.html`.
pub(super) fn mission(publication: &Publication<'_>, published: &Published<'_>) -> String {
    let mission = published.mission;
    let above = vec![("../../index.html", "Missions".to_owned())];
    let page = Page { publication, part: Part::Missions, title: mission.title.clone(), depth: 2, above };
    page.with(&html! {
        p.lead { (inert(&mission.goal)) }
        dl.facts {
            dt { "Answers for it" } dd { (inert(&mission.owner)) }
            dt { "Runs" } dd { "from " (day(mission.starts)) " to " (day(mission.ends)) }
        }
        h2 { "Outcomes" }
        (outcomes(published, ""))
        @for gone in unstated(mission, published.snapshots) { p { strong { "No more here" } ": " (inert(&gone.says())) "." } }
        @for (outcome, status) in published.outcomes() {
            section aria-labelledby={ "outcome-" (outcome.id) } {
                h3 id={ "outcome-" (outcome.id) } { a href={ (outcome.id) "/index.html" } { (inert(&outcome.title)) } }
                p { (verdict(status.verdict)) ": " (inert(&status.because)) "." }
                @if !status.restated.is_empty() { p { (inert(&sentence(&status.restated))) } }
                @if !outcome.description.is_empty() { p { (inert(&outcome.description)) } }
                p.small { "Measured every " (every(outcome.every)) "." }
            }
        }
        h2 { "What is done about it" }
        @if mission.outputs.is_empty() {
            p { "No activity is stated." }
        } @else {
            p { "Counts of activities are their owners' own. No outcome is measured by them, and they did not pass through the gateway." }
            @for output in &mission.outputs { (activity(mission, output)) }
        }
        (decided(published))
    })
}

/// Clauses as a sentence.
pub(super) fn sentence(clauses: &[String]) -> String {
    format!("Changed since it was measured first: {}.", clauses.join("; "))
}

/// What was recorded of activities when it was decided, whatever the mission's file says of them now.
fn decided(published: &Published<'_>) -> Markup {
    let mission = published.mission;
    let mut own = published.pivots.iter().filter(|pivot| pivot.decided.mission == mission.id).peekable();
    if own.peek().is_none() {
        return html! {};
    }
    let found = |decided: &Decided| decided.comparison.get("finding").and_then(Value::as_str).map(|found| found.replace('_', " "));
    html! {
        h2 { "What was decided about it" }
        p { "As it was recorded then; nothing of it is ever changed. The reasons are the words of who decided." }
        ul {
            @for (number, decided) in own.map(|pivot| (pivot.number, &pivot.decided)) {
                li {
                    code { (decided.output) } " was " (decided.what.as_str()) " from " (a_day(decided.on)) " by " (inert(&decided.by)) ": "
                    (inert(&decided.because)) ". Pivot " (number) ", recorded on " (a_day(decided.recorded_at.date_naive()))
                    @if !decided.snapshots.is_empty() {
                        " upon snapshots " (decided.snapshots.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
                    }
                    @if let Some(found) = found(decided) { ", of which a comparison said: " (inert(&found)) }
                    @if decided.comparison.get("refused").is_some() { ", of which no comparison could be made" }
                    "."
                }
            }
        }
        @for said in unlike(mission, published.pivots) { p { strong { "Said otherwise now" } ": " (inert(&said)) "." } }
    }
}

fn outcomes(published: &Published<'_>, to: &str) -> Markup {
    let rows = html! {
        @for (outcome, status) in published.outcomes() {
            tr {
                th scope="row" { a href={ (to) (outcome.id) "/index.html" } { (inert(&outcome.title)) } }
                td {
                    (verdict(status.verdict))
                    @for said in &status.restated { p.small { (inert(said)) } }
                }
                td { (latest(outcome, status)) }
                td { (Scale::of(outcome).value(outcome.target.value)) " by " (day(outcome.target.on)) }
                td { (inert(&outcome.unit)) }
                td { @if let Some(latest) = &status.latest { (day(latest.as_of)) } @else { "none yet" } }
            }
        }
    };
    let caption = html! { "Outcomes of " (inert(&published.mission.title)) };
    let head = titles(&["Outcome", "Status", "Latest", "Target", "Unit", "Data of"]);
    table(&format!("outcomes-{}", published.mission.id), &caption, &head, &rows)
}

/// The newest value with its bounds, or that there is none.
fn latest(outcome: &Outcome, status: &OutcomeStatus) -> Markup {
    let scale = Scale::of(outcome);
    let Some(latest) = &status.latest else { return html! { "no snapshot" } };
    let Some(value) = latest.value else {
        return if latest.untold.as_deref().is_some_and(|why| why.starts_with("withheld")) {
            html! { "withheld" }
        } else {
            html! { "not told" }
        };
    };
    html! {
        strong { (scale.value(value)) }
        @if let Some((low, high)) = latest.interval.and_then(|bounds| scale.bounds(bounds)) { " (" (low) " to " (high) ")" }
    }
}

/// An activity with its owner's counts.
pub(super) fn activity(mission: &Mission, output: &Output) -> Markup {
    let moves = |outcome: &Outcome| output.outcomes.contains(&outcome.id);
    let state = match output.status {
        OutputStatus::Running => "runs as planned",
        OutputStatus::Changed => "was changed",
        OutputStatus::Stopped => "was stopped",
    };
    html! {
        section.activity aria-labelledby={ "output-" (output.id) } {
            h3 id={ "output-" (output.id) } { (inert(&output.title)) }
            p { (inert(&output.activity)) }
            dl.facts {
                dt { "Owner" } dd { (inert(&output.owner)) }
                dt { "State" }
                dd {
                    (state) " since " (day(output.since))
                    @if let Some(because) = &output.because { ": " (inert(because)) }
                }
                dt { "Should move" }
                dd {
                    ul.plain { @for outcome in mission.outcomes.iter().filter(|outcome| moves(outcome)) { li { (inert(&outcome.title)) } } }
                }
                @if !output.counts.is_empty() {
                    dt { "Its owner counts" }
                    dd {
                        ul.plain {
                            @for count in &output.counts {
                                li {
                                    (figure(count.value, 12, super::figure::Round::Near)) " " (inert(&count.what)) " by " (a_day(count.on))
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
