//! The chart of an outcome: what was measured against the path from baseline to target.
//!
//! | what | how it is drawn |
//! |---|---|
//! | the path | a dashed line, a square at the baseline, a diamond at each milestone and a larger one at the target |
//! | a measured value | a circle; a solid line to the next one, unless something is missing between |
//! | its bounds | a vertical bar with caps |
//! | withheld, or without a value | a cross at the foot |
//! | a period without a snapshot | an open triangle at the foot |
//!
//! Shapes and dashes tell them apart; colour tells nothing. There are two, one for narrow pages, of which a page shows one.

use std::cell::RefCell;
use std::rc::Rc;

use chrono::{Datelike as _, Months, NaiveDate};
use maud::{Markup, PreEscaped, html};
use plotters::coord::Shift;
use plotters::coord::combinators::WithKeyPoints;
use plotters::coord::types::{RangedCoordf64, RangedCoordi32};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::PublishError;
use super::figure::{Scale, day};
use super::svg::{Drawing, Role};
use crate::inert::inert;
use crate::mission::{Direction, Kind, Outcome};
use crate::snapshot::Snapshot;
use crate::status::{Measured, OutcomeStatus};

/// How large it is, in the units of its `viewBox`.
#[derive(Debug, Clone, Copy)]
struct Size {
    class: &'static str,
    width: u32,
    height: u32,
    ticks: usize,
}

const SIZES: [Size; 2] =
    [Size { class: "wide", width: 860, height: 400, ticks: 7 }, Size { class: "narrow", width: 360, height: 330, ticks: 3 }];

/// The size of letters, in the same units.
const LETTERS: i32 = 14;

/// What is drawn.
pub(super) struct Chart<'a> {
    pub(super) outcome: &'a Outcome,
    pub(super) status: &'a OutcomeStatus,
    /// The snapshots that count.
    pub(super) snapshots: Vec<&'a Snapshot>,
    /// A sentence that says what it shows.
    pub(super) says: String,
}

type Area = DrawingArea<Drawing, Shift>;
type Plane<'c> = ChartContext<'c, Drawing, Cartesian2d<WithKeyPoints<RangedCoordi32>, RangedCoordf64>>;
type Shape = DynElement<'static, Drawing, (i32, f64)>;

impl Chart<'_> {
    /// Both of them.
    pub(super) fn markup(&self) -> Result<Markup, PublishError> {
        let drawn = SIZES.iter().map(|size| self.one(*size)).collect::<Result<Vec<_>, _>>()?;
        Ok(html! { @for one in drawn { (one) } })
    }

    /// What the shapes mean, of those that occur.
    pub(super) fn legend(&self) -> Markup {
        let told = || self.status.history.iter().filter(|measured| measured.value.is_some());
        let untold = self.status.history.iter().any(|measured| measured.value.is_none());
        let icon = |inside: &str| html! { svg viewBox="0 0 36 16" aria-hidden="true" { (PreEscaped(inside)) } };
        let bounds = told().any(|measured| measured.interval.is_some_and(|bounds| bounds.high > bounds.low));
        html! {
            ul.legend {
                li { (icon("<path class=\"path\" d=\"M2 8L34 8\"/>")) "the straight path from baseline (square) to target (diamond)" }
                @if told().next().is_some() {
                    li { (icon("<path class=\"measured\" d=\"M2 8L34 8\"/><circle class=\"measured filled\" cx=\"18\" cy=\"8\" r=\"4\"/>")) "measured" }
                }
                @if bounds { li { (icon("<path class=\"bounds\" d=\"M18 2L18 14M14 2L22 2M14 14L22 14\"/>")) "the bounds within which the value lies" } }
                @if untold { li { (icon("<path class=\"untold\" d=\"M14 4L22 12M22 4L14 12\"/>")) "withheld, or without a value" } }
                @if self.status.missed().next().is_some() {
                    li { (icon("<path class=\"untold\" d=\"M18 3L23 13L13 13Z\"/>")) "no snapshot was taken in the period" }
                }
            }
        }
    }

    fn one(&self, size: Size) -> Result<Markup, PublishError> {
        let inside = Rc::new(RefCell::new(String::new()));
        self.draw(size, &inside).map_err(PublishError::Chart)?;
        let (title, says) = (format!("chart-title-{}", size.class), format!("chart-says-{}", size.class));
        Ok(html! {
            svg.chart.(size.class) role="img" aria-labelledby=(title) aria-describedby=(says)
                viewBox=(format!("0 0 {} {}", size.width, size.height)) {
                title id=(title) { (inert(&self.outcome.title)) " against its target" }
                desc id=(says) { (self.says) }
                (PreEscaped(inside.take()))
            }
        })
    }

    fn draw(&self, size: Size, inside: &Rc<RefCell<String>>) -> Result<(), String> {
        let failed = |e: &dyn std::fmt::Display| e.to_string();
        let root = Drawing { size: (size.width, size.height), inside: Rc::clone(inside) }.into_drawing_area();
        let ((from, to), (low, high)) = (self.days(), self.values());
        let ticks: Vec<i32> = ticks(from, to, size.ticks).into_iter().map(number).collect();
        let margin = (number(to) - number(from)) / 33 + 1;
        let mut plane = ChartBuilder::on(&root)
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(62)
            .build_cartesian_2d((number(from) - margin..number(to) + margin).with_key_points(ticks), low..high)
            .map_err(|e| failed(&e))?;
        self.mesh(&mut plane, size)?;
        self.path(&mut plane)?;
        self.measured(&mut plane)?;
        self.untold(&mut plane, &root)?;
        Ok(())
    }

    /// From the first day that is shown to the last.
    fn days(&self) -> (NaiveDate, NaiveDate) {
        let Outcome { baseline, target, .. } = self.outcome;
        let measured = self.status.history.iter().map(|measured| measured.as_of);
        let missed = self.status.missed();
        let all = || measured.clone().chain([baseline.on, target.on]);
        let first = all().min().unwrap_or(baseline.on);
        let last = all().max().unwrap_or(target.on);
        let missed: Vec<NaiveDate> = missed.collect();
        (missed.iter().copied().chain([first]).min().unwrap_or(first), missed.into_iter().chain([last]).max().unwrap_or(last))
    }

    /// From the lowest value that is shown to the highest, with room for what stands at the foot.
    fn values(&self) -> (f64, f64) {
        let Outcome { baseline, target, milestones, .. } = self.outcome;
        let stated = [baseline.value, target.value].into_iter().chain(milestones.iter().map(|milestone| milestone.value));
        let told = self.status.history.iter().flat_map(|measured| {
            let bounds = measured.interval.map(|bounds| [bounds.low, bounds.high]);
            measured.value.into_iter().chain(bounds.into_iter().flatten())
        });
        let all: Vec<f64> = stated.chain(told).map(|value| self.scale().drawn(value)).collect();
        let (low, high) = all.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)));
        let room = (high - low).max(f64::EPSILON);
        (low - room * 0.2, high + room * 0.12)
    }

    fn scale(&self) -> Scale {
        Scale::of(self.outcome)
    }

    fn mesh(&self, plane: &mut Plane<'_>, size: Size) -> Result<(), String> {
        let scale = self.scale();
        let never_negative = !matches!(self.outcome.kind, Kind::Mean { .. });
        let value = |drawn: &f64| if never_negative && *drawn < 0.0 { String::new() } else { scale.axis(*drawn) };
        let yearly = size.ticks < (self.days().1.year() - self.days().0.year()).try_into().unwrap_or(usize::MAX);
        let date = |at: &i32| NaiveDate::from_num_days_from_ce_opt(*at).map_or_else(String::new, |day| label(day, yearly));
        plane
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(Role::Grid.colour())
            .axis_style(Role::Frame.colour())
            .label_style(words())
            .y_labels(6)
            .x_label_formatter(&date)
            .y_label_formatter(&value)
            .draw()
            .map_err(|e| e.to_string())
    }

    fn path(&self, plane: &mut Plane<'_>) -> Result<(), String> {
        let Outcome { baseline, target, milestones, direction, .. } = self.outcome;
        let at = |value: f64, on: NaiveDate| (number(on), self.scale().drawn(value));
        let [from, to] = [at(baseline.value, baseline.on), at(target.value, target.on)];
        // Where the line is not.
        let above = *direction == Direction::Down;
        let (first, last) = if above { ((8, -10), (-10, 12)) } else { ((8, 12), (-10, -10)) };
        let anchored = |horizontal, over: bool| words().pos(Pos::new(horizontal, if over { VPos::Bottom } else { VPos::Top }));
        let mut draw = |element: Shape| plane.draw_series(std::iter::once(element)).map(drop).map_err(|e| e.to_string());
        draw(PathElement::new(vec![from, to], Role::Path.colour()).into_dyn())?;
        let square = vec![(-5, -5), (5, -5), (5, 5), (-5, 5), (-5, -5)];
        draw((EmptyElement::at(from) + PathElement::new(square, Role::Goal.colour())).into_dyn())?;
        draw((EmptyElement::at(from) + Text::new("baseline", first, anchored(HPos::Left, above))).into_dyn())?;
        for milestone in milestones {
            draw((EmptyElement::at(at(milestone.value, milestone.on)) + PathElement::new(diamond(5), Role::Goal.colour())).into_dyn())?;
        }
        draw((EmptyElement::at(to) + PathElement::new(diamond(8), Role::Goal.colour())).into_dyn())?;
        draw((EmptyElement::at(to) + Text::new("target", last, anchored(HPos::Right, !above))).into_dyn())
    }

    fn measured(&self, plane: &mut Plane<'_>) -> Result<(), String> {
        let scale = self.scale();
        let at = |measured: &Measured| measured.value.map(|value| (number(measured.as_of), scale.drawn(value)));
        let mut draw = |element: Shape| plane.draw_series(std::iter::once(element)).map(drop).map_err(|e| e.to_string());
        for stretch in self.stretches() {
            let points: Vec<(i32, f64)> = stretch.iter().filter_map(|measured| at(measured)).collect();
            draw(PathElement::new(points, Role::Measured.colour()).into_dyn())?;
        }
        for measured in &self.status.history {
            let bounds = measured.interval.filter(|bounds| bounds.high > bounds.low);
            if let Some(bounds) = bounds {
                let (x, [low, high]) = (number(measured.as_of), [bounds.low, bounds.high].map(|value| scale.drawn(value)));
                draw(PathElement::new(vec![(x, low), (x, high)], Role::Bounds.colour()).into_dyn())?;
                for end in [low, high] {
                    draw((EmptyElement::at((x, end)) + PathElement::new(vec![(-4, 0), (4, 0)], Role::Bounds.colour())).into_dyn())?;
                }
            }
            if let Some(point) = at(measured) {
                draw((EmptyElement::at(point) + Circle::new((0, 0), 4, Role::Measured.colour().filled())).into_dyn())?;
            }
        }
        Ok(())
    }

    /// Crosses and triangles at the foot.
    fn untold(&self, plane: &mut Plane<'_>, root: &Area) -> Result<(), String> {
        let foot = plane.plotting_area().get_pixel_range().1.end - 11;
        let place = |plane: &Plane<'_>, on: NaiveDate, shape: &[(i32, i32)]| {
            let (x, _) = plane.backend_coord(&(number(on), 0.0));
            PathElement::new(shape.iter().map(|(right, down)| (x + right, foot + down)).collect::<Vec<_>>(), Role::Untold.colour())
        };
        let without = self.status.history.iter().filter(|measured| measured.value.is_none()).map(|measured| measured.as_of);
        let crosses = without.flat_map(|on| [(on, [(-4, -4), (4, 4)]), (on, [(4, -4), (-4, 4)])]);
        for (on, stroke) in crosses {
            root.draw(&place(plane, on, &stroke)).map_err(|e| e.to_string())?;
        }
        for on in self.status.missed() {
            let triangle = [(0, -5), (5, 5), (-5, 5), (0, -5)];
            root.draw(&place(plane, on, &triangle)).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// The measured values, cut wherever something is missing: no line passes what is not known.
    pub(super) fn stretches(&self) -> Vec<Vec<&Measured>> {
        let mut stretches: Vec<Vec<&Measured>> = Vec::new();
        let mut whole = false;
        let mut before: Option<&Measured> = None;
        for measured in &self.status.history {
            let gap = before.is_none_or(|before| self.gap(before, measured));
            if measured.value.is_some() {
                match stretches.last_mut() {
                    Some(stretch) if whole && !gap => stretch.push(measured),
                    _ => stretches.push(vec![measured]),
                }
            }
            whole = measured.value.is_some();
            before = Some(measured);
        }
        stretches
    }

    /// Whether a period between two snapshots has none, or one that measured something else.
    fn gap(&self, before: &Measured, after: &Measured) -> bool {
        let taken = |measured: &Measured| {
            self.snapshots.iter().find(|snapshot| snapshot.number == measured.snapshot).map(|snapshot| snapshot.taken.taken_at.date_naive())
        };
        let (Some(from), Some(to)) = (taken(before), taken(after)) else { return true };
        let lacks = |state: &crate::schedule::State| match state {
            crate::schedule::State::Missed | crate::schedule::State::Withdrawn(_) => true,
            crate::schedule::State::Taken(number) => self.status.of_another_definition.contains(number),
            crate::schedule::State::Due => false,
        };
        self.status.schedule.iter().any(|one| one.period.starts > from && one.period.ends <= to && lacks(&one.state))
    }

    /// What it shows, in a sentence or two.
    pub(super) fn words(outcome: &Outcome, status: &OutcomeStatus) -> String {
        let scale = Scale::of(outcome);
        let told: Vec<(f64, NaiveDate)> = status.history.iter().filter_map(|one| Some((one.value?, one.as_of))).collect();
        let measured = match (told.first(), told.last()) {
            (Some(first), Some(last)) if told.len() > 1 => {
                format!("It was {} on {} and {} on {}.", scale.value(first.0), day(first.1), scale.value(last.0), day(last.1))
            }
            (Some(only), _) => format!("It was {} on {}.", scale.value(only.0), day(only.1)),
            _ => "No value is told.".to_owned(),
        };
        let (withheld, missed) = (status.history.len() - told.len(), status.missed().count());
        let missing = match (withheld > 0, missed > 0) {
            (true, true) => " Some values are withheld or missing, and some periods have no snapshot.",
            (true, false) => " Some values are withheld or missing.",
            (false, true) => " Some periods have no snapshot.",
            (false, false) => "",
        };
        format!(
            "The path leads from {} on {} to {} on {}. {measured}{missing} The table below has every value.",
            scale.value(outcome.baseline.value),
            day(outcome.baseline.on),
            scale.value(outcome.target.value),
            day(outcome.target.on)
        )
    }
}

fn words() -> TextStyle<'static> {
    ("sans-serif", LETTERS).into_font().color(&Role::Words.colour())
}

fn diamond(half: i32) -> Vec<(i32, i32)> {
    vec![(0, -half), (half, 0), (0, half), (-half, 0), (0, -half)]
}

/// A day as a number.
fn number(on: NaiveDate) -> i32 {
    on.num_days_from_ce()
}

fn label(day: NaiveDate, yearly: bool) -> String {
    let format = if day.day() != 1 {
        "%-d %b"
    } else if yearly {
        "%Y"
    } else {
        "%b %Y"
    };
    day.format(format).to_string()
}

/// First days of months, evenly apart, at most so many; both ends where that leaves fewer than two.
fn ticks(from: NaiveDate, to: NaiveDate, most: usize) -> Vec<NaiveDate> {
    for months in [1_u32, 2, 3, 6, 12, 24, 60, 120, 600] {
        let place = from.year() * 12 + i32::try_from(from.month0()).unwrap_or(0);
        let step = i32::try_from(months).unwrap_or(1);
        let first = place.div_euclid(step) * step;
        let Some(mut day) = NaiveDate::from_ymd_opt(first.div_euclid(12), u32::try_from(first.rem_euclid(12)).unwrap_or(0) + 1, 1) else {
            break;
        };
        let mut days = Vec::new();
        while day <= to && days.len() <= most {
            if day >= from {
                days.push(day);
            }
            let Some(next) = day.checked_add_months(Months::new(months)) else { break };
            day = next;
        }
        if days.len() <= most {
            return if days.len() < 2 { vec![from, to] } else { days };
        }
    }
    vec![from, to]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::day;

    #[test]
    fn ticks_are_first_days_evenly_apart() {
        let of = |from: &str, to: &str, most| ticks(day(from), day(to), most).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(of("2026-04-01", "2026-09-15", 6), "2026-04-01 2026-05-01 2026-06-01 2026-07-01 2026-08-01 2026-09-01");
        assert_eq!(of("2026-04-02", "2029-03-31", 3), "2027-01-01 2028-01-01 2029-01-01");
        assert_eq!(of("2026-04-02", "2026-04-20", 5), "2026-04-02 2026-04-20");
    }
}
