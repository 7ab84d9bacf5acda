//! What a comparison says in sentences, and what it cannot show.

use chrono::NaiveDate;

use super::changes::{Group, Stretch, Told, Used};
use super::{CheckVerdict, Comparison, Finding, Question};
use crate::interval::short;
use crate::mission::{Direction, Kind, Output, OutputStatus};

/// From which difference on the numbers of values of both sides are said to have changed otherwise.
const MOVED: f64 = 0.1;

pub(super) fn says(one: &Comparison) -> String {
    let Comparison { effect, interval, unit, with, without, .. } = one;
    let difference = format!(
        "With the output the measure changed by {}, without it by {}: a difference of {}, in {unit}; 95 % interval {}",
        short(with.after - with.before),
        short(without.after - without.before),
        short(*effect),
        interval.in_words()
    );
    let found = match one.finding {
        Finding::Better | Finding::Worse => format!("{difference}."),
        Finding::Unclear => {
            format!(
                "{difference}, which holds zero. Whether the output makes a difference cannot be told; that is no sign that it makes none."
            )
        }
        Finding::NotToBeTrusted => "The comparison cannot be trusted: both sides were on different ways before the output began.".into(),
    };
    let check = &one.check;
    let before = match check.verdict {
        CheckVerdict::Apart => {
            format!("In the time before they came apart by {}; 95 % interval {}.", short(check.difference), check.interval.in_words())
        }
        CheckVerdict::Alike => "In the time before both sides changed alike, as far as can be told.".into(),
        CheckVerdict::Unclear => format!(
            "In the time before they came apart by {}; 95 % interval {}. A difference that, had it gone on, comes to as much as the effect could \
             have gone unseen.",
            short(check.difference),
            check.interval.in_words()
        ),
    };
    format!("{found} {before}")
}

pub(super) fn cannot_show(question: &Question<'_>, told: &Told, used: &Used<'_>) -> Vec<String> {
    let (before, after) = (used.before(), used.after());
    let mut said = vec![
        "Cause: unless the groups with the output were drawn by lot, why they got it may itself be why they changed.".to_owned(),
        "Choice: whoever asks chose the groups and the day, and may have tried others before; no record here says which groups had the \
         output, or since when."
            .to_owned(),
        "Other things: whatever else began in the groups with the output at the same time, and not in the others, is part of the difference.".into(),
        "Spill-over: where the output also reaches groups without it, or draws on what they had, the difference is too small or too large.".into(),
        "Moving: people count where they were at each snapshot; who came or left is not told apart from who changed.".into(),
        regression(question.outcome.direction, told, &before),
        "Who is missing: people without consent, without a link, or in no data are on neither side.".into(),
    ];
    if let Some(output) = question.output {
        said.extend(day(output, question.began));
        if !output.outcomes.contains(&question.outcome.id) {
            said.push(format!("The mission's file does not say that '{}' should move this outcome.", output.id));
        }
    }
    if question.outcome.kind == Kind::Count {
        said.push("Size: the measure is a number; where more people are, it changes by more without any output.".into());
    }
    if !told.weighted {
        said.push("Persons: each group counts equally, however many people are in it.".into());
    }
    if let Some((with, without)) = moved(told, &before, &after) {
        said.push(format!(
            "The number of values changed by {} with the output and by {} without: other people are counted after than before.",
            percent(with),
            percent(without)
        ));
    }
    if !used.same_agreements() {
        said.push("The agreements changed between snapshots: who is counted, or how, may have changed with them.".into());
    }
    if !used.still.is_empty() {
        said.push(format!("Data that did not change in the whole time tells nothing of the output: {}.", used.still.join(", ")));
    }
    if !used.moved.is_empty() {
        said.push(format!(
            "Data that changes seldom did change in the time compared, and may itself have moved the measure: {}.",
            used.moved.join(", ")
        ));
    }
    if !told.left_out.is_empty() {
        let groups: Vec<&str> = told.left_out.iter().map(|left| left.what.as_str()).collect();
        said.push(format!("Nothing is said of groups that were left out: {}.", groups.join(", ")));
    }
    said
}

/// What the day that was asked for has to do with what the mission's file says of the output.
fn day(output: &Output, began: NaiveDate) -> Option<String> {
    let Output { id, since, .. } = output;
    match output.status {
        OutputStatus::Running if *since == began => None,
        OutputStatus::Running => Some(format!("The day: the mission's file has '{id}' running since {since}, and {began} was asked for.")),
        OutputStatus::Stopped => Some(format!(
            "The day: the mission's file has '{id}' stopped since {since}, and not when it began; {began} was asked for, and what is after \
             its end is not used."
        )),
        OutputStatus::Changed if *since <= began => Some(format!(
            "The day: the mission's file has '{id}' changed since {since}, and {began} was asked for: there was some of it before too, so \
             that the difference is at most that of the change."
        )),
        OutputStatus::Changed => Some(format!(
            "The day: the mission's file has '{id}' changed since {since}, and not when it began; {began} was asked for, and what is after \
             it is partly of it as it was and partly of it as it is."
        )),
    }
}

/// Who stood worse comes nearer by itself.
fn regression(direction: Direction, told: &Told, before: &Stretch) -> String {
    let stood = |side: &[Group]| side.iter().map(|group| group.part * group.mean(before)).sum::<f64>();
    let (with, without) = (stood(&told.with), stood(&told.without));
    let worse = if direction == Direction::Up { with < without } else { with > without };
    let here =
        if worse { format!(" Here they stood worse before: {}, and the others {}.", short(with), short(without)) } else { String::new() };
    format!("Chance at the start: groups that were chosen for standing badly tend to come nearer the others by themselves.{here}")
}

/// How the number of values changed on each side, where that differs.
fn moved(told: &Told, before: &Stretch, after: &Stretch) -> Option<(f64, f64)> {
    let change = |side: &[Group]| {
        let sum = |stretch| side.iter().map(|group| group.counted(stretch)).sum::<Option<f64>>();
        Some(sum(after)? / sum(before)? - 1.0)
    };
    let (with, without) = (change(&told.with)?, change(&told.without)?);
    ((with - without).abs() > MOVED).then_some((with, without))
}

fn percent(part: f64) -> String {
    format!("{:+.0} %", part * 100.0)
}
