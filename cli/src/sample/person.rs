//! One generated person: what is true of them in every department, from which each department records a part.
//!
//! The effects are plausible, not estimated: disadvantage lowers attainment, wellbeing and completion and raises claiming and
//! cardiovascular risk; a health service that finds and supports a person early lowers heart attacks.

use super::draw::{Draw, Topic};

/// Region, share of the population, shift of disadvantage, share of homes with gigabit.
const REGIONS: [(&str, f64, f64, f64); 9] = [
    ("North East", 0.047, 0.09, 0.78),
    ("North West", 0.131, 0.06, 0.76),
    ("Yorkshire and The Humber", 0.097, 0.05, 0.79),
    ("East Midlands", 0.086, 0.01, 0.77),
    ("West Midlands", 0.105, 0.05, 0.84),
    ("East of England", 0.112, -0.05, 0.72),
    ("London", 0.157, 0.01, 0.90),
    ("South East", 0.164, -0.09, 0.75),
    ("South West", 0.101, -0.03, 0.66),
];

/// A place with so few people that its numbers must be withheld.
const TINY: &str = "Isles of Scilly";
/// How many of the people live there.
const TINY_PEOPLE: u64 = 9;

pub(super) const BANDS: [&str; 5] = ["1 most disadvantaged", "2", "3", "4", "5 least disadvantaged"];
pub(super) const CONDITIONALITY: [&str; 5] = ["none", "searching for work", "preparing for work", "working", "ill health"];
pub(super) const SECTORS: [&str; 7] = ["none", "construction", "digital", "engineering", "health and care", "hospitality", "retail"];
pub(super) const RISKS: [&str; 3] = ["low", "medium", "high"];
pub(super) const AGE_BANDS: [&str; 4] = ["18-29", "30-39", "40-49", "50-59"];

/// The first and the last year in which somebody of the sample finished school.
pub(super) const COHORTS: std::ops::RangeInclusive<i64> = 1990..=2019;
/// The sample's own present.
const YEAR: i64 = 2026;
/// 1 January 2026, in days since 1970.
pub(super) const NEW_YEAR: i32 = 20_454;

pub(super) fn regions() -> impl Iterator<Item = &'static str> {
    REGIONS.iter().map(|(name, ..)| *name).chain([TINY])
}

/// What is true of one person.
pub(super) struct Person {
    /// Recorded everywhere and tidily: only for the tiny region, whose handful must not depend on chance.
    pub(super) always_recorded: bool,
    pub(super) region: &'static str,
    pub(super) free_school_meals: bool,
    pub(super) disadvantage_band: &'static str,
    pub(super) attainment8: Option<f64>,
    pub(super) cohort_year: i64,
    pub(super) claiming: bool,
    pub(super) months_claiming: i64,
    pub(super) claim_started: Option<i32>,
    pub(super) conditionality: &'static str,
    pub(super) wellbeing: Option<f64>,
    pub(super) risk: &'static str,
    pub(super) risk_identified: bool,
    pub(super) supported: bool,
    pub(super) heart_attack: bool,
    pub(super) apprentice: bool,
    pub(super) completed: bool,
    pub(super) sector: &'static str,
    pub(super) level: Option<i64>,
    pub(super) gigabit: bool,
    pub(super) download_mbps: f64,
    pub(super) affordability_tariff: bool,
}

impl Person {
    /// The person `index` of `people`.
    pub(super) fn of(seed: u64, index: u64, people: u64) -> Self {
        let mut draw = Draw::of(seed, index, Topic::Person, 0);
        let tiny = tiny_place(index, people);
        let (region, shift, gigabit_share) = home(&mut draw, tiny.is_some());
        let disadvantage = (0.42 + shift + 0.2 * draw.normal()).clamp(0.0, 1.0);
        let poor = draw.chance(((disadvantage - 0.3) * 0.9).clamp(0.03, 0.9));
        let free_school_meals = tiny.map_or(poor, |place| place.is_multiple_of(3));
        let cohort_year = COHORTS.start() + i64::try_from(draw.below(30)).unwrap_or(0);
        let london = if region == "London" { 3.5 } else { 0.0 };
        let meals = if free_school_meals { 4.5 } else { 0.0 };
        let attainment = tenths((60.0 - 19.0 * disadvantage - meals + london + 9.0 * draw.normal()).clamp(0.0, 90.0));
        let attainment8 = (!draw.chance(0.01)).then_some(attainment);
        let gigabit = draw.chance(gigabit_share - 0.15 * disadvantage);
        let download_mbps = tenths(if gigabit { 300.0 + 700.0 * draw.unit() } else { 12.0 + 70.0 * draw.unit() });
        let training = Training::of(&mut draw, disadvantage, gigabit);
        let claim = Claim::of(&mut draw, disadvantage, training.completed);
        let health = Health::of(&mut draw, disadvantage, cohort_year, claim.claiming, training.completed);
        Self {
            always_recorded: tiny.is_some(),
            region,
            free_school_meals,
            disadvantage_band: band(disadvantage),
            attainment8,
            cohort_year,
            affordability_tariff: claim.claiming && draw.chance(0.3),
            claiming: claim.claiming,
            months_claiming: claim.months,
            claim_started: claim.started,
            conditionality: claim.conditionality,
            wellbeing: health.wellbeing,
            risk: health.risk,
            risk_identified: health.identified,
            supported: health.supported,
            heart_attack: health.heart_attack,
            apprentice: training.started,
            completed: training.completed,
            sector: training.sector,
            level: training.level,
            gigabit,
            download_mbps,
        }
    }

    /// The person's age in the sample's present.
    pub(super) fn age(&self) -> i64 {
        YEAR - self.cohort_year + 16
    }

    pub(super) fn age_band(&self) -> &'static str {
        match self.age() {
            ..30 => "18-29",
            30..40 => "30-39",
            40..50 => "40-49",
            _ => "50-59",
        }
    }
}

/// The person's place among the tiny region's people, who are spread evenly over the numbers; `None` for everybody else.
fn tiny_place(index: u64, people: u64) -> Option<u64> {
    let step = (people / TINY_PEOPLE).max(1);
    (index.is_multiple_of(step) && index / step < TINY_PEOPLE).then(|| index / step)
}

fn home(draw: &mut Draw, tiny: bool) -> (&'static str, f64, f64) {
    let mut place = draw.unit();
    if tiny {
        return (TINY, 0.0, 0.4);
    }
    for (name, share, shift, gigabit) in REGIONS {
        if place < share {
            return (name, shift, gigabit);
        }
        place -= share;
    }
    ("South West", -0.03, 0.66)
}

fn band(disadvantage: f64) -> &'static str {
    let [most, second, middle, fourth, least] = BANDS;
    match disadvantage {
        d if d > 0.61 => most,
        d if d > 0.49 => second,
        d if d > 0.39 => middle,
        d if d > 0.27 => fourth,
        _ => least,
    }
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

struct Training {
    started: bool,
    completed: bool,
    sector: &'static str,
    level: Option<i64>,
}

impl Training {
    fn of(draw: &mut Draw, disadvantage: f64, gigabit: bool) -> Self {
        let started = draw.chance(0.30 - 0.12 * disadvantage);
        let online = if gigabit { 0.06 } else { 0.0 };
        let completed = draw.chance(0.68 - 0.34 * disadvantage + online) && started;
        let sector = draw.pick(SECTORS.split_first().map_or(&[], |(_, sectors)| sectors));
        let level = 2 + i64::try_from(draw.below(6)).unwrap_or(0);
        Self { started, completed, sector: if started { sector } else { "none" }, level: started.then_some(level) }
    }
}

struct Claim {
    claiming: bool,
    months: i64,
    started: Option<i32>,
    conditionality: &'static str,
}

impl Claim {
    fn of(draw: &mut Draw, disadvantage: f64, completed: bool) -> Self {
        let skilled = if completed { 0.06 } else { 0.0 };
        let claiming = draw.chance(0.05 + 0.30 * disadvantage - skilled);
        let months = 1 + i32::try_from(draw.below(48)).unwrap_or(0);
        let kind = draw.unit();
        let [none, searching, preparing, working, ill] = CONDITIONALITY;
        let conditionality = match kind {
            _ if !claiming => none,
            k if k < 0.30 => searching,
            k if k < 0.44 => preparing,
            k if k < 0.76 => working,
            _ => ill,
        };
        let started = claiming.then(|| NEW_YEAR - 30 * months);
        Self { claiming, months: if claiming { i64::from(months) } else { 0 }, started, conditionality }
    }
}

struct Health {
    wellbeing: Option<f64>,
    risk: &'static str,
    identified: bool,
    supported: bool,
    heart_attack: bool,
}

impl Health {
    #[expect(clippy::cast_precision_loss, reason = "an age is a small number")]
    fn of(draw: &mut Draw, disadvantage: f64, cohort_year: i64, claiming: bool, completed: bool) -> Self {
        let mood = if claiming { -0.6 } else { 0.0 } + if completed { 0.4 } else { 0.0 };
        let wellbeing = tenths((7.9 - 1.3 * disadvantage + mood + 1.2 * draw.normal()).clamp(0.0, 10.0));
        let wellbeing = (!draw.chance(0.04)).then_some(wellbeing);
        let age = (YEAR - cohort_year + 16) as f64;
        let [low, medium, high] = RISKS;
        let risk = match (age - 20.0) / 40.0 * 0.5 + disadvantage * 0.4 + draw.unit() * 0.25 {
            r if r > 0.66 => high,
            r if r > 0.48 => medium,
            _ => low,
        };
        let identified = draw.chance(if risk == high { 0.78 - 0.3 * disadvantage } else { 0.04 });
        let supported = draw.chance(0.82 - 0.25 * disadvantage) && identified;
        let heart_attack = draw.chance(match (risk == high, supported, risk == medium) {
            (true, true, _) => 0.018,
            (true, false, _) => 0.065,
            (_, _, true) => 0.008,
            _ => 0.001,
        });
        Self { wellbeing, risk, identified, supported, heart_attack }
    }
}
