//! An outcome's page: the figure, how far to trust it, and what it rests on.

use chrono::NaiveDate;
use concordat_policy::Name;
use maud::{Markup, html};
use serde_json::Value;

use super::board::{activity, sentence};
use super::chart::Chart;
use super::figure::{Round, Scale, day, percent, whole};
use super::page::{Made, Page, Part, table, titles, verdict};
use super::record::{Record, Told};
use super::{Publication, Published, Receipts};
use crate::inert::inert;
use crate::mission::{Breakdown, Direction, Outcome};
use crate::restated::paths;
use crate::schedule::Every;
use crate::snapshot::{Snapshot, Source, Stated};
use crate::status::{BreakdownStatus, Group, Measured, OutcomeStatus, Trend, Way};

/// An outcome with everything about it.
pub(super) struct Of<'a> {
    pub(super) publication: &'a Publication<'a>,
    pub(super) published: &'a Published<'a>,
    pub(super) outcome: &'a Outcome,
    pub(super) status: &'a OutcomeStatus,
}

impl Of<'_> {
    /// `missions/M/O/index.html`.
    pub(super) fn page(&self, records: &[Record]) -> Made {
        let (mission, outcome) = (self.published.mission, self.outcome);
        let above = vec![("../../../index.html", "Missions".to_owned()), ("../index.html", mission.title.clone())];
        let page = Page { publication: self.publication, part: Part::Missions, title: outcome.title.clone(), depth: 3, above };
        let newest = self.status.latest.as_ref().and_then(|latest| self.published.snapshot(latest.snapshot));
        let chart = Chart {
            outcome,
            status: self.status,
            snapshots: self.published.counting(self.status).collect(),
            says: Chart::words(outcome, self.status),
        };
        Ok(page.with(&html! {
            @if !outcome.description.is_empty() { p.lead { (inert(&outcome.description)) } }
            (self.headline())
            h2 { "Trend against the target" }
            @if let Some(trend) = &self.status.trend { p { (self.trend(trend)) } }
            figure {
                (chart.markup()?)
                figcaption { p { (chart.says) } (chart.legend()) }
            }
            (self.history(records))
            h2 { "What the headline hides" }
            (self.hidden())
            @for (breakdown, status) in outcome.breakdowns.iter().zip(&self.status.breakdowns) { (self.breakdown(breakdown, status)) }
            h2 { "What is withheld, and why" }
            (self.withheld(newest))
            h2 { "Who is missing" }
            (self.missing(newest))
            h2 { "What is done about it" }
            (self.activities())
            h2 { "What it rests on" }
            (self.rests_on(newest))
            (self.changed_paths())
            h2 { "Corrections" }
            (self.corrected())
            h2 { "Data" }
            ul {
                li {
                    a href={ (outcome.id) ".csv" } { "Figures as CSV" } ", described by " a href={ (outcome.id) ".csv-metadata.json" } { "its metadata (CSVW)" }
                }
                li { a href={ (outcome.id) ".json" } { "Figures and what they rest on as JSON" } }
            }
        }))
    }

    fn scale(&self) -> Scale {
        Scale::of(self.outcome)
    }

    fn headline(&self) -> Markup {
        let (outcome, status, scale) = (self.outcome, self.status, self.scale());
        html! {
            section.headline aria-labelledby="headline" {
                h2 id="headline" { "Where it stands" }
                p.figure { (self.latest()) }
                p { (verdict(status.verdict)) ": " (inert(&status.because)) "." }
                @if !status.restated.is_empty() { p { (inert(&sentence(&status.restated))) } }
                dl.facts {
                    dt { "Unit" } dd { (inert(&scale.unit(outcome))) }
                    dt { "Baseline" } dd { (scale.value(outcome.baseline.value)) " on " (a_day(outcome.baseline.on)) }
                    dt { "Target" }
                    dd {
                        (scale.value(outcome.target.value)) " by " (a_day(outcome.target.on)) "; " @if outcome.direction == Direction::Up { "more" } @else { "less" } " is better"
                    }
                    @for milestone in &outcome.milestones {
                        dt { "Milestone" } dd { (inert(&milestone.title)) ": " (scale.value(milestone.value)) " by " (a_day(milestone.on)) }
                    }
                    @if let (Some(path), Some(latest)) = (status.path, &status.latest) {
                        dt { "The path on that day" } dd { (scale.value(path)) " on " (a_day(latest.as_of)) }
                    }
                    @if let (Some(done), Some(expected)) = (status.progress, status.expected) {
                        dt { "Of the way" }
                        dd {
                            @if done.high > done.low { "between " (percent(done.low, Round::Down)) " and " (percent(done.high, Round::Up)) }
                            @else { (percent(done.low, Round::Near)) }
                            " is done; " (percent(expected, Round::Near)) " should be"
                        }
                    }
                    dt { "Freshness" }
                    dd {
                        @if let (Some(latest), Some(days)) = (&status.latest, status.days_old) {
                            "its oldest source is of " (a_day(latest.oldest)) ", " (whole(days.unsigned_abs()))
                            @if days == 1 { " day" } @else { " days" } " old when this page was made; "
                        }
                        "it says how things stand for " (whole(outcome.fresh_for_days.into())) " days"
                        @if !outcome.standing.is_empty() { "; what changes seldom is passed over: " (inert(&outcome.standing.join(", "))) }
                    }
                    dt { "Leads" } dd { (self.department(outcome.lead.as_str())) }
                    @if !outcome.contributing.is_empty() {
                        dt { "Contribute" } dd { ul.plain { @for one in &outcome.contributing { li { (self.department(one.as_str())) } } } }
                    }
                }
            }
        }
    }

    fn latest(&self) -> Markup {
        let scale = self.scale();
        let Some(latest) = &self.status.latest else { return html! { strong { "No figure yet" } " no snapshot was taken" } };
        let Some(value) = latest.value else {
            return html! { strong { "No figure" } " " (untold(latest)) " (" (self.dated(latest)) ")" };
        };
        html! {
            strong { (scale.value(value)) } " " (inert(&self.outcome.unit)) ", " (self.dated(latest))
            @if let Some((low, high)) = latest.interval.and_then(|bounds| scale.bounds(bounds)) {
                "; it lies between " (low) " and " (high) ", as coarsely as it is told"
            }
        }
    }

    /// When it was computed, and of which day the data is: two days.
    fn dated(&self, measured: &Measured) -> Markup {
        html! { "computed on " (self.computed(measured)) " of data of " (a_day(measured.as_of)) }
    }

    fn computed(&self, measured: &Measured) -> Markup {
        let snapshot = self.published.snapshot(measured.snapshot);
        html! { @if let Some(snapshot) = snapshot { (a_day(snapshot.taken.taken_at.date_naive())) } }
    }

    fn trend(&self, trend: &Trend) -> Markup {
        let way = match trend.way {
            Way::Better => "It is getting better, whatever rounding hides",
            Way::Worse => "It is getting worse, whatever rounding hides",
            Way::Unclear => "Which way it goes cannot be told",
        };
        html! {
            (way) ": over the last " (whole(trend.snapshots as u64)) " values it changed by " (self.scale().apart(trend.per_year)) " a year. "
            "This is no forecast, and does not show what caused it: "
            a href="../../../about.html#trend" { "what a trend cannot show" } "."
        }
    }

    fn history(&self, records: &[Record]) -> Markup {
        let rows = html! {
            @for record in records.iter().filter(|record| record.breakdown.is_none()) {
                tr {
                    th scope="row" { (a_day(record.date)) }
                    (self.told(record.date, &record.told))
                    td { @if let Told::Measured(measured) = &record.told { (self.computed(measured)) } }
                    td.number {
                        @if let Told::Measured(measured) = &record.told {
                            a href={ "receipts/" (measured.snapshot) ".json" } { "Snapshot " (measured.snapshot) }
                        }
                    }
                }
            }
        };
        let caption =
            html! { (inert(&self.outcome.title)) ", by the day that the data is of. Unit: " (inert(&self.scale().unit(self.outcome))) };
        html! {
            (table("history", &caption, &titles(&["Data of", "Value", "Lies between", "What is told", "Computed on", "Receipt"]), &rows))
            @if !self.status.of_another_definition.is_empty() {
                p {
                    "Snapshots that measured something else under this name are not compared with these, and not shown: "
                    (self.status.of_another_definition.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")) "."
                }
            }
        }
    }

    /// The cells of a value: it, its bounds, and what is said of it.
    fn told(&self, date: NaiveDate, told: &Told) -> Markup {
        let scale = self.scale();
        let measured = if let Told::Measured(measured) = told { Some(measured) } else { None };
        html! {
            td.number {
                @match measured.and_then(|measured| measured.value) {
                    Some(value) => { (scale.value(value)) }
                    None => { em { (told.status()) } }
                }
            }
            td.number {
                @if let Some(bounds) = measured.and_then(|measured| measured.interval) {
                    @match scale.bounds(bounds) {
                        Some((low, high)) => { (low) " to " (high) }
                        None => { "exact" }
                    }
                }
            }
            td { @match told.reason(date) { Some(reason) => { (reason) } None => { "told" } } }
        }
    }

    fn hidden(&self) -> Markup {
        let hidden = self.status.hidden();
        html! {
            @if self.outcome.breakdowns.is_empty() { p { "The outcome is not broken down." } }
            @else if hidden.is_empty() { p { "No group is behind the headline or fell back as far as can be told, and every group is told." } }
            @else { ul { @for one in &hidden { li { (inert(one)) } } } }
        }
    }

    fn breakdown(&self, breakdown: &Breakdown, status: &BreakdownStatus) -> Markup {
        let place = self.outcome.breakdowns.iter().position(|one| one == breakdown).unwrap_or(0);
        let as_of = self.status.latest.as_ref().map(|latest| latest.as_of);
        let said = |group: &Group| match (group.behind, group.fell_back) {
            (true, true) => "; behind the headline, and fell back",
            (true, false) => "; behind the headline",
            (false, true) => "; fell back while the headline came on",
            (false, false) => "",
        };
        let rows = html! {
            @for group in &status.groups {
                tr {
                    @for (column, key) in group.keys.iter().enumerate() {
                        @if column == 0 { th scope="row" { (inert(key)) } } @else { td { (inert(key)) } }
                    }
                    (self.told(group.measured.as_of, &Told::Measured(group.measured.clone())))
                    td { (said(group).trim_start_matches("; ")) }
                }
            }
        };
        let head = html! {
            @for column in &breakdown.by { th scope="col" { (inert(&column.replace('_', " "))) } }
            (titles(&["Value", "Lies between", "What is told", "Beside the headline"]))
        };
        let caption = html! {
            (inert(&breakdown.title)) @if let Some(day) = as_of { ", data of " (a_day(day)) }
            ". Unit: " (inert(&self.scale().unit(self.outcome)))
        };
        html! {
            h3 { (inert(&breakdown.title)) }
            (table(&format!("breakdown-{place}"), &caption, &head, &rows))
            @if let Some(gap) = status.gap { p { "Of the groups that are told, the best is ahead of the worst by " (self.scale().apart(gap)) "." } }
        }
    }

    fn withheld(&self, newest: Option<&Snapshot>) -> Markup {
        let Some(newest) = newest else { return html! { p { "There is no snapshot." } } };
        let stated = &newest.taken.stated;
        let groups = || self.status.breakdowns.iter().flat_map(|breakdown| &breakdown.groups).map(|group| &group.measured);
        let all = || groups().chain(&self.status.latest);
        let withheld = all().filter(|measured| measured.value.is_none()).count();
        html! {
            p {
                @if withheld == 0 { "Nothing of the newest snapshot's figures above is withheld." }
                @else {
                    "Of the newest snapshot's " (whole(all().count() as u64)) " figures above, " (whole(withheld as u64))
                    @if withheld == 1 { " is" } @else { " are" } " not told, withheld or missing. A withheld figure is not zero: "
                    "it is not said how large it is."
                }
                " Each place that is empty says why beside it."
            }
            p {
                "No number is told behind which stand fewer than " (whole(stated.minimum_subjects.into())) " distinct subjects. "
                @if stated.precision.round_to > 1 { "Counts are told to the nearest " (whole(stated.precision.round_to.into())) ". " }
                @if stated.precision.noise.is_some() { "Small random noise is added to counts, the same to the same people. " }
            }
            @if !stated.rules.is_empty() {
                p { "The rules that were at work:" }
                ul { @for rule in &stated.rules { li { (inert(rule)) } } }
            }
        }
    }

    fn missing(&self, newest: Option<&Snapshot>) -> Markup {
        let Some(newest) = newest else { return html! { p { "There is no snapshot." } } };
        html! {
            p {
                "As the newest snapshot's answer states it, dataset by dataset. Numbers are of distinct subjects, rounded; none is told "
                "of few."
            }
            @for source in &newest.taken.stated.sources {
                h3 { (self.department(&source.department)) ": " (inert(&source.dataset)) }
                ul { @for sentence in who(source) { li { (sentence) } } }
            }
        }
    }

    fn activities(&self) -> Markup {
        let mut outputs = self.published.mission.outputs_of(self.outcome).peekable();
        if outputs.peek().is_none() {
            return html! { p { "No activity is stated that should move it." } };
        }
        html! {
            p {
                "Counts of activities are their owners' own. The outcome is not measured by them, and they did not pass through the "
                "gateway."
            }
            @for output in outputs { (activity(self.published.mission, output)) }
        }
    }

    fn rests_on(&self, newest: Option<&Snapshot>) -> Markup {
        let Some(snapshot) = newest else { return html! { p { "There is no snapshot." } } };
        let (taken, stated) = (&snapshot.taken, &snapshot.taken.stated);
        html! {
            (self.sources(stated))
            (self.agreements(stated))
            h3 { "Receipt" }
            p {
                "The file is the log's signed promise that it holds an entry for the answer behind the newest snapshot: of this query, "
                "so many rows, this salted digest and this time. Whoever has the log's key from its operator can check the signature: "
                code { "concordat audit verify-receipt " (snapshot.number) ".json --log-key KEY" }
                ". The answer itself is not published, so that the file alone does not show that the figure is in it; nor does a signature "
                "cover which period, outcome, definition and days of data are stated here. Who has "
                "the store of snapshots can compare the figure with the answer (" code { "concordat mission verify" } ")."
            }
            p { (inert(&self.publication.receipts.says())) " " (self.whose_word()) }
            dl.facts {
                dt { "Receipt" }
                dd {
                    a href={ "receipts/" (snapshot.number) ".json" } download { "Receipt of snapshot " (snapshot.number) " (JSON)" }
                }
                dt { "Query" } dd { code { (inert(&stated.query_id)) } }
                dt { "Entry of the log" } dd { (whole(stated.log_entry)) }
                dt { "Taken" }
                dd {
                    time datetime=(taken.taken_at.to_rfc3339()) { (day(taken.taken_at.date_naive())) ", " (taken.taken_at.format("%H:%M")) " UTC" }
                }
                @if let Some(period) = taken.period { dt { "For the period from" } dd { (a_day(period)) } }
                dt { "View" } dd { code { (inert(&taken.view)) } }
                dt { "What is measured (digest)" } dd { code { (inert(&taken.definition)) } }
                dt { "Snapshot" } dd { (whole(snapshot.number)) ", digest " code { (snapshot.digest) } }
                dt { "The one before it" } dd { code { (snapshot.previous) } }
            }
        }
    }

    /// What of all this is held to the log, and what is the word of who publishes.
    fn whose_word(&self) -> &'static str {
        if let Receipts::By { held: true, .. } = self.publication.receipts {
            "Held to the log are the mission, the view's name, the purpose, the organisation that asked, agreements and guard rails by their digests, sources with \
             the day on which they last changed, versions of consent ledgers, how many people were delivered and matched, how coarsely numbers \
             are told and by which rules, and the answer's rows. The word of who publishes are the text of the view, which outcome and period \
             the answer is kept for, that the whole view was asked for, corrections, and the path to the target; the service identity by \
             which it was asked; how many were left out by their choice or for want of an identifier, of which only the sum is checked; why \
             such a number is not told; and why something is withheld, beside the answer's own words."
        } else {
            "All that is stated here beside the answer's rows, its query and its time is the word of who publishes."
        }
    }

    fn sources(&self, stated: &Stated) -> Markup {
        let rows = html! {
            @for source in &stated.sources {
                tr {
                    th scope="row" { (self.department(&source.department)) }
                    td { (inert(&source.dataset)) }
                    td {
                        time datetime=(source.freshness.to_rfc3339()) { (day(source.freshness.date_naive())) ", " (source.freshness.format("%H:%M")) " UTC" }
                    }
                }
            }
        };
        let head = titles(&["Department", "Dataset", "Last changed"]);
        html! {
            h3 { "Sources" }
            (table("sources", &html! { "Where the newest snapshot's data came from" }, &head, &rows))
        }
    }

    fn agreements(&self, stated: &Stated) -> Markup {
        let known = |id: &str| self.publication.agreements.iter().any(|one| one.agreement.id.as_str() == id);
        let rows = html! {
            @for (id, digest) in &stated.agreement_digests {
                tr {
                    th scope="row" { @if known(id) { a href={ "../../../register.html#" (id) } { (inert(id)) } } @else { (inert(id)) } }
                    td { code { (inert(digest)) } }
                }
            }
        };
        html! {
            h3 { "Agreements" }
            p { "Asked for the purpose " code { (inert(&stated.purpose)) } "." }
            (table("agreements", &html! { "The agreements that permitted it, each with the digest of its text" }, &titles(&["Agreement", "Digest (SHA-256)"]), &rows))
            @if let Some(digest) = &stated.guard_rails_digest { p { "Guard rails of the gateway, digest " code { (inert(digest)) } "." } }
        }
    }

    /// Superseded snapshots of the outcome, each with the one that took its place.
    pub(super) fn corrections(&self) -> impl Iterator<Item = (&Snapshot, &Snapshot)> {
        let here = |one: &&Snapshot| one.taken.mission == self.published.mission.id && one.taken.outcome == self.outcome.id;
        self.published.snapshots.iter().filter(here).filter_map(|by| Some((self.published.snapshot(by.taken.supersedes?)?, by)))
    }

    /// Where direction, baseline or target were stated otherwise when a snapshot was taken.
    fn changed_paths(&self) -> Markup {
        let scale = self.scale();
        let said = paths(self.published.mission, self.outcome, self.published.snapshots);
        html! {
            @if !said.is_empty() {
                h2 { "What was aimed at before" }
                p { "Baseline, target or direction were changed since. The chart and the status are of those that are stated now." }
                ul {
                    @for (snapshot, aim) in said.into_iter().map(|snapshot| (snapshot, &snapshot.taken.aim)) {
                        li {
                            "With snapshot " (whole(snapshot.number)) ", of " (a_day(snapshot.taken.taken_at.date_naive())) ": from "
                            (scale.value(aim.baseline.value)) " on " (a_day(aim.baseline.on)) " to " (scale.value(aim.target.value)) " by "
                            (a_day(aim.target.on)) "; " @if aim.direction == Direction::Up { "more" } @else { "less" } " was better"
                        }
                    }
                }
            }
        }
    }

    fn corrected(&self) -> Markup {
        let mut corrections = self.corrections().peekable();
        if corrections.peek().is_none() {
            return html! { p { "No snapshot of this outcome was corrected." } };
        }
        html! {
            ul {
                @for (corrected, by) in corrections {
                    li {
                        "Snapshot " (corrected.number) ", taken on " (a_day(corrected.taken.taken_at.date_naive())) ", was superseded by snapshot "
                        (by.number) ", taken on " (a_day(by.taken.taken_at.date_naive()))
                        @if let Some(because) = &by.taken.because { ": " (inert(because)) }
                        ". The earlier one stays in the history, digest " code { (corrected.digest) } "."
                    }
                }
            }
        }
    }

    /// A department's title, or its name where it has none.
    fn department(&self, id: &str) -> Markup {
        let title = Name::parse(id).ok().and_then(|id| self.publication.departments.get(&id));
        html! { (inert(title.map_or(id, String::as_str))) }
    }
}

fn untold(measured: &Measured) -> String {
    inert(measured.untold.as_deref().unwrap_or("there is no value"))
}

/// A day, for people and programs.
pub(super) fn a_day(on: NaiveDate) -> Markup {
    html! { time datetime=(on) { (day(on)) } }
}

pub(super) fn every(every: Every) -> &'static str {
    match every {
        Every::Day => "day",
        Every::Week => "week",
        Every::Month => "month",
        Every::Quarter => "quarter",
    }
}

/// Who stands behind a source and who does not, a sentence each.
pub(super) fn who(source: &Source) -> Vec<String> {
    let Some(counts) = &source.counts else { return vec!["The answer does not say.".into()] };
    if let Some(why) = counts.get("not_told").and_then(Value::as_str) {
        return vec![format!("It is not told: {}.", inert(why))];
    }
    let Some(subjects) = counts.get("subjects").and_then(Value::as_object) else { return vec!["The answer does not say.".into()] };
    let told = |name: &str| subjects.get(name).map(Value::as_u64);
    let rounded = told("rounded_to").flatten().filter(|unit| *unit > 1);
    let about = |number: u64| if rounded.is_some() { format!("about {}", whole(number)) } else { whole(number) };
    let few = "too few to be told, or nobody";
    let mut said = Vec::new();
    let mut sentence = |name: &str, some: fn(String) -> String, none: &str| match told(name) {
        Some(Some(number)) => said.push(some(about(number))),
        Some(None) => said.push(format!("{none}: {few}.")),
        None => {}
    };
    sentence("delivered", |n| format!("Delivered of this dataset: {n} subjects."), "How many subjects were delivered of this dataset");
    sentence(
        "matched",
        |n| format!("Of them {n} were found in the other datasets too, and are in the figure where it needs both."),
        "How many of them were found in the other datasets too, and are in the figure where it needs both",
    );
    sentence(
        "withheld",
        |n| format!("Left out by their own choice, a withdrawal or an objection: {n}."),
        "Left out by their own choice, a withdrawal or an objection",
    );
    sentence(
        "invalid_identifiers",
        |n| format!("Left out because what stands in the place of their identifier is none: {n}."),
        "Left out because what stands in the place of their identifier is none",
    );
    match (told("considered").flatten(), subjects.get("considered_not_told").and_then(Value::as_str)) {
        (Some(number), _) => said.push(format!("Together, {} were considered.", about(number))),
        (None, Some(why)) => said.push(format!("How many were considered is not told: {}.", inert(why))),
        (None, None) => {}
    }
    if let Some(unit) = rounded {
        said.push(format!("These numbers are rounded to the nearest {}.", whole(unit)));
    }
    said
}
