//! The sample's past: the same people and firms so many months ago, and the files that departments delivered then.
//!
//! It is worked out backwards from the present, so that the present is the same with a past and without. Who claims now did not before the
//! claim began; some of the others did until a claim of theirs ended. Where mentors began, more claims ended since: that effect is there to
//! be found. Travel passes have none. Who has completed an apprenticeship by now had not always, nor did each firm sell as far.
//!
//! A file's last change is the day that a node states as its source's: so a delivery is dated, as the department would have made it.

use std::fs::{self, File};
use std::path::Path;

use chrono::{DateTime, Datelike as _, Months, NaiveDate, TimeZone as _, Utc};

use super::draw::{Draw, Topic};
use super::person::{CONDITIONALITY, NEW_YEAR, Person};
use super::{Sample, columns, firms, write};
use crate::failure::{Failure, Result};
use crate::federation::Layout;

/// How many months ago mentors began, and where.
pub(crate) const MENTORS_BEGAN: u32 = 9;
/// Where there are mentors.
pub(crate) const MENTORED: [&str; 3] = ["London", "North East", "South West"];

/// The chance that somebody who does not claim had a claim that ended in the last three years.
const CLAIM_ENDED: f64 = 0.20;
/// The chance that somebody's claim ended since a mentor came.
const CLAIM_ENDED_BY_MENTOR: f64 = 0.15;

/// The first day of the month so many months before `today`.
#[must_use]
pub fn month_before(today: NaiveDate, months: u32) -> NaiveDate {
    today.with_day(1).and_then(|first| first.checked_sub_months(Months::new(months))).unwrap_or(today)
}

impl Sample {
    /// The same people and firms, as they were so many months ago.
    #[must_use]
    pub fn months_ago(self, months: u32) -> Self {
        Self { months_ago: months, ..self }
    }

    /// Writes what the missions' outcomes rest on anew, as departments delivered it at a time: claims, apprenticeships and firms each
    /// month. Attainment is published once a year and stays as it is, dated so.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn deliver(&self, layout: &Layout, at: DateTime<Utc>) -> Result<()> {
        self.each_department(layout, |source, part, folder| {
            let (people, of_firms) = match source.department {
                "dfe" => return dated(&folder.join(source.path()), last_october(at)),
                "dwp" => (true, false),
                "dbt" => (true, true),
                "dsit" => (false, true),
                _ => return Ok(()),
            };
            if people {
                write::dataset(self, source, part, folder)?;
                dated(&folder.join(source.path()), at)?;
            }
            if of_firms {
                firms::write(self, source.department, folder)?;
                firms::datasets(source.department).iter().try_for_each(|dataset| dated(&folder.join(&dataset.source), at))?;
            }
            Ok(())
        })
    }

    /// Calls `work` for every department at once, with its number and its node's folder.
    pub(super) fn each_department(&self, layout: &Layout, work: impl Fn(&columns::Source, u64, &Path) -> Result<()> + Sync) -> Result<()> {
        let sources = columns::sources();
        let work = &work;
        std::thread::scope(|scope| {
            let departments: Vec<_> = sources
                .iter()
                .zip(0..)
                .map(|(source, part)| {
                    let folder = layout.node(source.department);
                    scope.spawn(move || work(source, part, &folder))
                })
                .collect();
            let ended = |thread: std::thread::ScopedJoinHandle<'_, Result<()>>| {
                thread.join().unwrap_or_else(|_| Err(Failure::new("generating the sample failed unexpectedly")))
            };
            departments.into_iter().try_for_each(ended)
        })
    }
}

impl Person {
    /// As this person was recorded so many months ago.
    pub(super) fn months_ago(self, sample: &Sample, index: u64) -> Self {
        let ago = i64::from(sample.months_ago);
        if ago == 0 || self.always_recorded {
            return self;
        }
        let mut draw = Draw::of(sample.seed, index, Topic::Past, 0);
        let mut below = |bound: u64| i64::try_from(draw.below(bound)).unwrap_or(0);
        let (ended, lasted) = (1 + below(36), 18 + below(42));
        let (ended_by_mentor, completed) = (1 + below(MENTORS_BEGAN.into()), below(120));
        let mentored = draw.chance(CLAIM_ENDED_BY_MENTOR) && MENTORED.contains(&self.region);
        let had_claimed = draw.chance(CLAIM_ENDED);
        let kind = draw.pick(CONDITIONALITY.split_first().map_or(&[], |(_, kinds)| kinds));
        // Months of the claim that ran then, and what it asked.
        let claim = if self.claiming {
            Some((self.months_claiming - ago, self.conditionality)).filter(|(months, _)| *months > 0)
        } else if mentored && ended_by_mentor <= ago {
            Some((ended_by_mentor + 60 - ago, kind))
        } else if had_claimed && (ended..ended + lasted).contains(&ago) {
            Some((ended + lasted - ago, kind))
        } else {
            None
        };
        let started = |months: i64| i32::try_from(months + ago).ok().map(|months| NEW_YEAR - 30 * months);
        Self {
            claiming: claim.is_some(),
            months_claiming: claim.map_or(0, |(months, _)| months),
            claim_started: claim.and_then(|(months, _)| started(months)),
            conditionality: claim.map_or(CONDITIONALITY[0], |(_, kind)| kind),
            completed: self.completed && completed >= ago,
            ..self
        }
    }
}

/// When attainment was last published: in the middle of October.
fn last_october(at: DateTime<Utc>) -> DateTime<Utc> {
    let of = |year| Utc.with_ymd_and_hms(year, 10, 15, 9, 0, 0).single();
    of(at.year()).filter(|day| *day <= at).or_else(|| of(at.year() - 1)).unwrap_or(at)
}

/// Dates a file, or each file of a folder.
fn dated(path: &Path, at: DateTime<Utc>) -> Result<()> {
    if path.is_dir() {
        let failed = |e| Failure::file("read", path, e);
        return fs::read_dir(path).map_err(failed)?.try_for_each(|entry| dated(&entry.map_err(failed)?.path(), at));
    }
    let file = File::options().append(true).open(path);
    file.and_then(|file| file.set_modified(at.into())).map_err(|e| Failure::file("dated", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEOPLE: u64 = 20_000;

    fn claiming(ago: u32, regions: impl Fn(&str) -> bool) -> f64 {
        let sample = Sample::of(PEOPLE).months_ago(ago);
        let people = (0..PEOPLE).map(|index| Person::of(sample.seed, index, PEOPLE).months_ago(&sample, index));
        let of: Vec<bool> = people.filter(|person| regions(person.region)).map(|person| person.claiming).collect();
        of.iter().filter(|claiming| **claiming).count() as f64 / of.len() as f64
    }

    #[test]
    fn claims_fall_a_little_each_month_and_faster_where_mentors_began() {
        let all: Vec<f64> = (0..24).rev().map(|ago| claiming(ago, |_| true)).collect();
        assert!((0.19..0.26).contains(&all[0]) && all[0] - all[23] > 0.02, "{all:?}");
        assert!(all.windows(2).all(|pair| (pair[0] - pair[1]).abs() < 0.01), "{all:?}");
        let fell = |from, to, mentored: bool| {
            let there = move |region: &str| MENTORED.contains(&region) == mentored;
            claiming(from, there) - claiming(to, there)
        };
        let [before, since] = [(23, MENTORS_BEGAN), (MENTORS_BEGAN, 0)].map(|(from, to)| fell(from, to, true) - fell(from, to, false));
        assert!(before.abs() < 0.03 && since > 0.05, "{before} {since}");
    }

    #[test]
    fn a_claim_begins_on_one_day_whichever_month_it_is_looked_at() {
        let (then, now) = (Sample::of(PEOPLE).months_ago(4), Sample::of(PEOPLE));
        let person = |sample: &Sample, index| Person::of(sample.seed, index, PEOPLE).months_ago(sample, index);
        let (mut both, mut ended, mut begun) = (0, 0, 0);
        for index in 0..PEOPLE {
            match (person(&then, index), person(&now, index)) {
                (then, _) if then.always_recorded => {}
                (then, now) if then.claiming && now.claiming => {
                    assert_eq!((then.claim_started, then.months_claiming + 4), (now.claim_started, now.months_claiming));
                    both += 1;
                }
                (then, now) => {
                    assert!(!then.completed || now.completed);
                    (ended, begun) = (ended + u32::from(then.claiming), begun + u32::from(now.claiming));
                }
            }
        }
        assert!(both > 1_000 && ended > begun && begun > 100, "{both} {ended} {begun}");
    }

    #[test]
    fn a_delivery_is_dated_and_the_present_is_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let sample = Sample::of(600);
        sample.write(&layout).unwrap();
        let claims = layout.node("dwp").join("data/claims.parquet");
        let present = fs::read(&claims).unwrap();
        let changed = |path: &Path| DateTime::<Utc>::from(fs::metadata(path).unwrap().modified().unwrap()).date_naive().to_string();
        let at = |day: &str| format!("{day}T09:00:00Z").parse().unwrap();
        sample.months_ago(7).deliver(&layout, at("2026-04-21")).unwrap();
        assert_ne!(fs::read(&claims).unwrap(), present);
        for (department, file, day) in [
            ("dwp", "claims.parquet", "2026-04-21"),
            ("dbt", "apprenticeships.csv", "2026-04-21"),
            ("dbt", "loans.parquet", "2026-04-21"),
            ("dsit", "markets.parquet", "2026-04-21"),
            ("dfe", "attainment/part-0.parquet", "2025-10-15"),
        ] {
            assert_eq!(changed(&layout.node(department).join("data").join(file)), day, "{file}");
        }
        sample.deliver(&layout, at("2026-11-21")).unwrap();
        assert_eq!((fs::read(&claims).unwrap(), changed(&claims).as_str()), (present, "2026-11-21"));
    }
}
