//! The document as it is written, and what makes a mission of it.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use concordat_policy::agreement::column_name_ok;
use concordat_policy::{Name, Problem};
use serde::Deserialize;

use crate::inert::inert;
use crate::mission::{Breakdown, Direction, Kind, Milestone, Mission, Outcome, Output, OutputStatus, Point, Row, place};
use crate::schedule::Every;

/// The longest that a mission, an outcome or an output may be called, in bytes: titles stand in tables.
const MAX_TITLE: usize = 200;
/// Where nothing else is said: a monthly snapshot of data that is delivered monthly.
const FRESH_FOR_DAYS: u32 = 45;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    mission: Name,
    title: String,
    goal: String,
    owner: String,
    identity: String,
    starts: NaiveDate,
    ends: NaiveDate,
    #[serde(default)]
    outcome: Vec<OutcomeFile>,
    #[serde(default)]
    output: Vec<Output>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutcomeFile {
    id: Name,
    title: String,
    #[serde(default)]
    description: String,
    purpose: Name,
    view: String,
    column: String,
    kind: KindFile,
    #[serde(default)]
    counted: Option<String>,
    #[serde(default)]
    largest: Option<f64>,
    #[serde(default)]
    row: Row,
    unit: String,
    direction: Direction,
    baseline: Point,
    target: Point,
    #[serde(default)]
    milestones: Vec<Milestone>,
    lead: Name,
    #[serde(default)]
    contributing: Vec<Name>,
    #[serde(default)]
    breakdown: Vec<Breakdown>,
    every: Every,
    #[serde(default)]
    from: Option<NaiveDate>,
    #[serde(default)]
    fresh_for_days: Option<u32>,
    #[serde(default)]
    standing: Vec<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindFile {
    Count,
    Share,
    Mean,
}

/// The mission, or everything wrong with the document by itself.
pub(crate) fn parse(text: &str) -> Result<Mission, Vec<Problem>> {
    let file: File = toml::from_str(text).map_err(|e| vec![Problem::toml(&e)])?;
    let mut found = Found { text, problems: Vec::new() };
    found.mission(&file);
    let starts = file.starts;
    let mut seen = BTreeSet::new();
    let mut outcomes = Vec::new();
    for outcome in file.outcome {
        if !seen.insert(outcome.id.clone()) {
            found.at(&outcome.id, outcome.id.as_str(), format!("two outcomes are called '{}'", outcome.id), "give each its own id");
        }
        outcomes.extend(found.outcome(outcome, starts));
    }
    seen.clear();
    for output in &file.output {
        if !seen.insert(output.id.clone()) {
            found.at(&output.id, output.id.as_str(), format!("two outputs are called '{}'", output.id), "give each its own id");
        }
        found.output(output, &outcomes);
    }
    if !found.problems.is_empty() {
        return Err(found.problems);
    }
    let File { mission: id, title, goal, owner, identity, starts, ends, output, .. } = file;
    Ok(Mission { id, title, goal, owner, identity, starts, ends, outcomes, outputs: output })
}

/// What is wrong so far.
struct Found<'t> {
    text: &'t str,
    problems: Vec<Problem>,
}

impl Found<'_> {
    fn at(&mut self, id: &Name, near: &str, cause: impl Into<String>, remedy: &str) {
        self.problems.push(place(self.text, id, near, cause, remedy));
    }

    fn words(&mut self, id: &Name, what: &str, text: &str) {
        if text.trim().is_empty() {
            self.at(id, what, format!("'{what}' of '{id}' is empty"), "say it in a line of words");
        }
        self.plain(id, what, text);
        if what == "title" && text.len() > MAX_TITLE {
            self.at(id, text, format!("the title of '{id}' is longer than {MAX_TITLE} bytes"), "shorten it; `description` has room");
        }
    }

    /// Nothing that moves, hides or reorders what is shown.
    fn plain(&mut self, id: &Name, what: &str, text: &str) {
        if inert(text) != text {
            let cause = format!("'{what}' of '{id}' has a line break, or a character that hides or reorders others");
            self.at(id, what, cause, "say it in a line of words");
        }
    }

    fn mission(&mut self, file: &File) {
        let id = &file.mission;
        for (what, text) in [("title", &file.title), ("goal", &file.goal), ("owner", &file.owner), ("identity", &file.identity)] {
            self.words(id, what, text);
        }
        if file.ends <= file.starts {
            self.at(id, "ends", "the mission ends before it begins, or on the same day", "set ends to a day after starts");
        }
        if file.outcome.is_empty() {
            self.at(id, id.as_str(), "the mission has no outcome: nobody could tell whether it is reached", "add an [[outcome]]");
        }
    }

    fn outcome(&mut self, file: OutcomeFile, starts: NaiveDate) -> Option<Outcome> {
        let id = file.id.clone();
        if id.as_str().contains('.') {
            self.at(&id, id.as_str(), format!("the outcome's id '{id}' has a dot, and names files"), "use a-z, 0-9 and '-'");
        }
        self.words(&id, "title", &file.title);
        self.words(&id, "unit", &file.unit);
        self.plain(&id, "description", &file.description);
        self.path(&file);
        let kind = self.kind(&file);
        let named = file.row.keys().chain(file.breakdown.iter().flat_map(|breakdown| breakdown.by.iter().chain(breakdown.row.keys())));
        for column in [&file.view, &file.column].into_iter().chain(&file.counted).chain(named) {
            if !column_name_ok(column) {
                self.at(&id, column, format!("'{column}' cannot name a view or column"), "use a-z, 0-9 and '_', as the view does");
            }
        }
        if file.row.contains_key(&file.column) {
            self.at(&id, "row", "the headline's row is chosen by the measure itself", "choose it by columns that the view groups by");
        }
        for breakdown in &file.breakdown {
            self.words(&id, "title", &breakdown.title);
            if breakdown.by.is_empty() {
                self.at(&id, &breakdown.title, "the breakdown has no column in `by`", "name the columns that the view groups by");
            }
            if breakdown.by.contains(&file.column) {
                self.at(&id, &breakdown.title, "the breakdown is by the measure itself", "name the columns that the view groups by");
            }
        }
        let mut departments = BTreeSet::from([&file.lead]);
        for department in &file.contributing {
            if !departments.insert(department) {
                self.at(
                    &id,
                    department.as_str(),
                    format!("the department '{department}' is named twice"),
                    "name it once, as lead or as contributing",
                );
            }
        }
        let fresh_for_days = file.fresh_for_days.unwrap_or(FRESH_FOR_DAYS);
        if fresh_for_days == 0 {
            self.at(&id, "fresh_for_days", "data would be too old on the day that it is taken", "state 1 or more");
        }
        let mut standing = BTreeSet::new();
        for dataset in &file.standing {
            let named = dataset.split_once('.').is_some_and(|(department, name)| Name::parse(department).is_ok() && column_name_ok(name));
            if !named || !standing.insert(dataset) {
                let cause = format!("'{dataset}' in `standing` is no dataset, or is named twice");
                self.at(&id, dataset, cause, "name each once, as department.dataset");
            }
        }
        Some(Outcome {
            id,
            title: file.title,
            description: file.description,
            purpose: file.purpose,
            view: file.view,
            column: file.column,
            kind: kind?,
            row: file.row,
            unit: file.unit,
            direction: file.direction,
            baseline: file.baseline,
            target: file.target,
            milestones: file.milestones,
            lead: file.lead,
            contributing: file.contributing,
            breakdowns: file.breakdown,
            every: file.every,
            from: file.from.unwrap_or(starts),
            fresh_for_days,
            standing: file.standing,
        })
    }

    /// Baseline, milestones and target.
    fn path(&mut self, file: &OutcomeFile) {
        let OutcomeFile { id, direction, baseline, target, milestones, .. } = file;
        let values = [baseline.value, target.value].into_iter().chain(milestones.iter().map(|milestone| milestone.value));
        let allowed = |value: f64| match file.kind {
            KindFile::Count => value.is_finite() && value >= 0.0,
            KindFile::Share => (0.0..=1.0).contains(&value),
            KindFile::Mean => value.is_finite() && file.largest.is_none_or(|largest| value.abs() <= largest),
        };
        for value in values.filter(|value| !allowed(*value)) {
            let remedy = "a count is 0 or more, a share between 0 and 1, a mean at most `largest`";
            self.at(id, "baseline", format!("the measure of outcome '{id}' cannot be {value}"), remedy);
        }
        if target.on <= baseline.on {
            self.at(id, "target", "the target is due before the baseline, or on the same day", "set target.on to a later day");
        }
        let further = match direction {
            Direction::Up => target.value > baseline.value,
            Direction::Down => target.value < baseline.value,
        };
        if !further {
            let cause = "the target does not lie in the direction that is better, seen from the baseline";
            self.at(id, "target", cause, "correct direction, baseline or target");
        }
        let mut before = baseline.on;
        for milestone in milestones {
            self.words(id, "title", &milestone.title);
            if milestone.on <= before || milestone.on > target.on {
                let cause = format!("the milestone of {} is not after the one before it, or not by the target's day", milestone.on);
                self.at(id, &milestone.title, cause, "order milestones by day, between baseline and target");
            }
            before = milestone.on;
        }
    }

    fn kind(&mut self, file: &OutcomeFile) -> Option<Kind> {
        let (id, counted, largest) = (&file.id, file.counted.clone(), file.largest);
        if counted.as_ref() == Some(&file.column) {
            self.at(
                id,
                "counted",
                "the measure is said to be the number behind itself",
                "name the column with the number of values behind it",
            );
        }
        match (file.kind, counted, largest) {
            (KindFile::Count, None, None) => Some(Kind::Count),
            (KindFile::Share, Some(counted), None) => Some(Kind::Share { counted }),
            (KindFile::Mean, Some(counted), Some(largest)) if largest.is_finite() && largest > 0.0 => Some(Kind::Mean { counted, largest }),
            _ => {
                let cause = format!("kind, counted and largest of outcome '{id}' do not fit together");
                let remedy = "a count has neither; a share has `counted`, the view's column with the number of values behind it; a mean has \
                              `counted` and `largest`, the most that one subject's value can be by size";
                self.at(id, "kind", cause, remedy);
                None
            }
        }
    }

    fn output(&mut self, output: &Output, outcomes: &[Outcome]) {
        let id = &output.id;
        for (what, text) in [("title", &output.title), ("activity", &output.activity), ("owner", &output.owner)] {
            self.words(id, what, text);
        }
        if output.outcomes.is_empty() {
            self.at(id, id.as_str(), format!("the output '{id}' should move no outcome"), "name one of the mission's in `outcomes`");
        }
        for outcome in output.outcomes.iter().filter(|named| !outcomes.iter().any(|outcome| outcome.id == **named)) {
            let cause = format!("the outcome '{outcome}' of output '{id}' is not one of this mission");
            self.at(id, outcome.as_str(), cause, "name the id of an [[outcome]] of this file, or correct what is wrong with that");
        }
        self.plain(id, "because", output.because.as_deref().unwrap_or_default());
        let reason = output.because.as_ref().is_some_and(|because| !because.trim().is_empty());
        if reason != (output.status != OutputStatus::Running) {
            let cause = format!("the output '{id}' is {} and does{} say why", output.status.as_str(), if reason { "" } else { " not" });
            self.at(id, "status", cause, "what was stopped or changed says why in `because`; what runs as planned has none");
        }
        for count in &output.counts {
            self.words(id, "what", &count.what);
            if !count.value.is_finite() || count.value < 0.0 {
                self.at(id, &count.what, format!("the count of '{}' is {}", count.what, count.value), "a count is 0 or more");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::mission::{Computed, Is, Known};
    use crate::testing::{MISSION, mission};

    #[test]
    fn a_mission_is_what_its_file_says() {
        let mission = mission();
        let outcome = mission.outcome("fewer").unwrap();
        assert_eq!((outcome.kind.counted().map(String::as_str), outcome.row.get("total")), (Some("persons"), Some(&Is::Whole(1))));
        assert_eq!((outcome.from, outcome.fresh_for_days, outcome.breakdowns.len()), (mission.starts, 45, 1));
        assert_eq!(mission.outputs_of(outcome).map(|output| output.id.as_str()).collect::<Vec<_>>(), ["visits"]);
        assert_eq!(outcome.columns().collect::<Vec<_>>(), ["share", "persons", "total", "region", "total"]);
    }

    #[test]
    fn the_draft_is_a_document() {
        let draft = Mission::parse(crate::mission::DRAFT).unwrap_or_else(|problems| panic!("{problems:?}"));
        assert_eq!((draft.id.as_str(), draft.outcomes.len(), draft.outputs.len()), ("draft", 1, 1));
    }

    #[test]
    fn everything_wrong_is_named_with_its_line_and_a_remedy() {
        for (from, to, line, says) in [
            ("title = \"T\"", "title = \" \"", "title", "'title' of 'm' is empty"),
            ("ends = \"2029-03-31\"", "ends = \"2026-04-01\"", "ends", "ends before it begins"),
            ("direction = \"down\"", "direction = \"up\"", "target", "does not lie in the direction"),
            ("value = 0.4, on", "value = 1.4, on", "baseline", "cannot be 1.4"),
            ("on = \"2028-12-26\"", "on = \"2026-03-01\"", "target", "due before the baseline"),
            ("on = \"2027-08-14\"", "on = \"2029-08-14\"", "milestones", "milestone of 2029-08-14"),
            ("counted = \"persons\"\n", "", "kind", "do not fit together"),
            ("kind = \"share\"", "kind = \"mean\"", "kind", "do not fit together"),
            ("counted = \"persons\"", "counted = \"share\"", "counted", "the number behind itself"),
            ("row = { total = 1 }", "row = { share = 1 }", "row", "chosen by the measure itself"),
            ("view = \"v\"", "view = \"V;\"", "view", "cannot name a view"),
            ("by = [\"region\"]", "by = []", "title = \"By", "no column in `by`"),
            ("contributing = [\"b\"]", "contributing = [\"a\"]", "lead", "named twice"),
            ("every = \"month\"", "every = \"month\"\nfresh_for_days = 0", "fresh_for_days", "too old on the day"),
            ("every = \"month\"", "every = \"month\"\nstanding = [\"areas\"]", "standing", "'areas' in `standing` is no dataset"),
            ("every = \"month\"", "every = \"month\"\nstanding = [\"a.b\", \"a.b\"]", "standing", "is named twice"),
            ("outcomes = [\"fewer\"]", "outcomes = [\"fewr\"]", "outcomes", "the outcome 'fewr' of output 'visits'"),
            ("outcomes = [\"fewer\"]", "outcomes = []", "id = \"visits", "should move no outcome"),
            ("status = \"running\"", "status = \"stopped\"", "status", "does not say why"),
            ("value = 120", "value = -1", "counts", "the count of 'calls' is -1"),
            ("every = \"month\"", "every = \"year\"", "every", "unknown variant"),
            ("id = \"fewer\"", "id = \"fewer.html\"", "id", "has a dot"),
            ("unit = \"share", "description = \"a\\u202Eb\"\nunit = \"share", "description", "hides or reorders"),
            ("title = \"Visits\"", "title = \"Vi\\u200Bsits\"", "title", "hides or reorders"),
            ("status = \"running\"", "status = \"stopped\"\nbecause = \"a\\u001B[2J\"", "because", "hides or reorders"),
            ("unit = \"share", "units = \"share", "units", "unknown field"),
        ] {
            assert!(MISSION.contains(from), "{from}");
            let text = MISSION.replacen(from, to, 1);
            let problems = Mission::parse(&text).unwrap_err();
            let found = problems.iter().find(|problem| problem.cause.contains(says)).unwrap_or_else(|| panic!("{says}: {problems:?}"));
            assert!(!found.remedy.is_empty());
            assert!(text.lines().nth(found.line(&text) - 1).unwrap().starts_with(line), "{says}: line {}: {found:?}", found.line(&text));
        }
        let twice = MISSION.replace(
            "[[output]]",
            &format!("[[outcome]]\n{}\n[[output]]", MISSION.split("[[outcome]]").nth(1).unwrap().split("[[outcome.").next().unwrap()),
        );
        assert!(Mission::parse(&twice).unwrap_err().iter().any(|problem| problem.cause.contains("two outcomes are called 'fewer'")));
    }

    struct Estate(BTreeMap<&'static str, Vec<&'static str>>);

    impl Known for Estate {
        fn mission(&self, id: &Name) -> Option<(&str, &str)> {
            self.0["missions"].contains(&id.as_str()).then_some(("T", "G"))
        }
        fn department(&self, id: &Name) -> bool {
            self.0["departments"].contains(&id.as_str())
        }
        fn receives(&self, _mission: &Name, organisation: &str) -> bool {
            self.0["recipients"].contains(&organisation)
        }
        fn permits(&self, _mission: &Name, purpose: &Name) -> bool {
            self.0["purposes"].contains(&purpose.as_str())
        }
        fn covers(&self, _mission: &Name, dataset: &str) -> bool {
            self.0["datasets"].contains(&dataset)
        }
        fn columns(&self, _mission: &Name, view: &str) -> Option<Result<Vec<String>, String>> {
            let columns = self.0.get(view)?;
            Some(if columns.is_empty() { Err("it selects *".into()) } else { Ok(columns.iter().map(|c| (*c).to_owned()).collect()) })
        }
        fn computed(&self, _mission: &Name, _view: &str, column: &str) -> Option<Computed> {
            let by = *self.0.get("computed")?.first()?;
            (column == "share").then(|| match by {
                "count" => Computed::Count,
                "ones" => Computed::MeanOfOnes,
                "avg" => Computed::Mean,
                other => Computed::Other(other.to_owned()),
            })
        }
    }

    #[test]
    fn what_the_estate_does_not_have_is_named_where_it_stands() {
        let whole = || {
            Estate(BTreeMap::from([
                ("missions", vec!["m"]),
                ("recipients", vec!["unit"]),
                ("departments", vec!["a", "b"]),
                ("purposes", vec!["m.measure"]),
                ("datasets", vec!["a.areas"]),
                ("v", vec!["region", "total", "persons", "share"]),
            ]))
        };
        let text = MISSION.replace("every = \"month\"", "every = \"month\"\nstanding = [\"a.areas\"]");
        let mission = Mission::parse(&text).unwrap();
        assert_eq!(mission.problems(&text, &whole()), []);
        for (what, has, line, says) in [
            ("missions", vec![], "mission", "not in missions.toml"),
            ("recipients", vec!["units"], "owner", "its owner 'unit' among its recipients"),
            ("departments", vec!["b"], "lead", "the department 'a'"),
            ("departments", vec!["a"], "contributing", "the department 'b'"),
            ("purposes", vec!["m"], "purpose", "the purpose 'm.measure'"),
            ("datasets", vec!["a.people"], "standing", "the dataset 'a.areas'"),
            ("v", vec![], "view", "it selects *"),
            ("v", vec!["region", "total", "persons"], "column", "no column 'share'"),
            ("v", vec!["region", "total", "share"], "counted", "no column 'persons'"),
            ("v", vec!["total", "persons", "share"], "by", "no column 'region'"),
        ] {
            let mut estate = whole();
            estate.0.insert(what, has);
            let problems = mission.problems(&text, &estate);
            let found = problems.iter().find(|problem| problem.cause.contains(says)).unwrap_or_else(|| panic!("{says}: {problems:?}"));
            assert!(text.lines().nth(found.line(&text) - 1).unwrap().starts_with(line), "{says}: line {}: {found:?}", found.line(&text));
        }
        // A kind by which bounds would be worked out that do not hold.
        let (count, share) = ("kind = \"count\"", "kind = \"share\"\ncounted = \"persons\"");
        let mean = format!("{}\nlargest = 9.0", share.replace("share", "mean"));
        for (kind, by, says) in [
            (count, "count", None),
            (count, "sum", Some("computed by sum()")),
            (count, "avg", Some("a mean")),
            (count, "ones", Some("a mean of zeros and ones")),
            (share, "ones", None),
            (share, "avg", None),
            (share, "count", Some("a count")),
            (share, "sum", Some("computed by sum()")),
            (mean.as_str(), "avg", None),
            (mean.as_str(), "max", Some("computed by max()")),
        ] {
            let text = text.replace(share, kind);
            let mut estate = whole();
            estate.0.insert("computed", vec![by]);
            let problems = Mission::parse(&text).unwrap().problems(&text, &estate);
            match (says, problems.as_slice()) {
                (None, []) => {}
                (Some(says), [problem]) if problem.cause.contains(says) => {
                    assert!(text.lines().nth(problem.line(&text) - 1).unwrap().starts_with("kind"), "{problem:?}");
                }
                _ => panic!("{kind} {by}: {problems:?}"),
            }
        }
        // What the draft says is no word of the mission's.
        let drafted = MISSION.replace("activity = \"Somebody calls\"", "activity = \"HOW\"");
        let found = Mission::parse(&drafted).unwrap().problems(&drafted, &whole());
        assert!(found.len() == 1 && found[0].cause.contains("'HOW' is the draft's word"), "{found:?}");
        let mut estate = whole();
        estate.0.remove("v");
        assert!(mission.problems(&text, &estate)[0].cause.contains("the view 'v'"));
        let renamed = Mission { goal: "another".into(), ..mission };
        assert!(renamed.problems(&text, &whole())[0].cause.contains("the goal of the mission 'm' is another"));
    }
}
