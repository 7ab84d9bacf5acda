//! The demonstration's history: two years of monthly snapshots, and what was decided upon them.
//!
//! Each is asked of the running federation, over the data that the departments had in its month: their files are written anew for every
//! month in turn, dated as deliveries of then (`sample/past.rs`). What is kept is what was answered. The log and the receipts say when that
//! was: today.

use std::path::PathBuf;

use chrono::{Days, NaiveDate, NaiveTime, Utc};
use concordat_mission::pivot::What;
use concordat_mission::{Mission, SqliteStore};
use concordat_policy::Name;

use super::super::mission::{self, Decision, Groups, Kept, Known};
use super::super::target::Gateway;
use crate::failure::{Failure, Result};
use crate::federation::Layout;
use crate::federation::layout::write;
use crate::sample::estate::DECIDED;
use crate::sample::past::MENTORS_BEGAN;
use crate::sample::{Sample, month_before};

/// How many months there are, this one among them.
const MONTHS: u32 = 24;
/// How many months ago travel passes began.
const PASSES_BEGAN: u32 = 15;
/// On which day of a month, from 0, departments deliver.
const DELIVERED: u64 = 20;
/// In the folder while the files in it are of another month.
const MARKER: &str = ".past";

/// The day from which on snapshots are due.
pub(super) fn first(today: NaiveDate) -> NaiveDate {
    month_before(today, MONTHS - 1)
}

/// The first day of mentors.
pub(super) fn mentors_began(today: NaiveDate) -> NaiveDate {
    month_before(today, MENTORS_BEGAN)
}

/// Takes the snapshots of the months before this one, and records what was decided meanwhile. The files are then those of the last of these
/// months, or of the one in which it failed: [`present`] writes those of today.
///
/// # Errors
/// That a file cannot be written, or the first snapshot that cannot be taken.
pub(super) async fn take(sample: Sample, layout: &Layout) -> Result<()> {
    let today = Utc::now().date_naive();
    let kept = Kept::default_in_folder();
    let known = kept.known(layout).map_err(|report| Failure::new(report.to_string()))?;
    let (missions, mut store) = (known.all(), kept.store(layout)?);
    let gateway = Gateway::folder(layout.folder().to_owned());
    write(&marker(layout), "The departments' files are of another month: `concordat demo --keep` writes those of today.\n")?;
    for ago in (1..MONTHS).rev() {
        let delivered = month_before(today, ago) + Days::new(DELIVERED);
        sample.months_ago(ago).deliver(layout, delivered.and_time(NaiveTime::MIN).and_utc())?;
        mission::of_the_past(&gateway, &known, &mut store, delivered).await?;
        if ago == DECIDED + 1 {
            decided(&known, &missions, &mut store, today)?;
        }
    }
    Ok(())
}

/// Writes the departments' files of today, where those of another month lie.
///
/// # Errors
/// That a file cannot be written.
pub(super) fn present(sample: Sample, layout: &Layout) -> Result<()> {
    let marker = marker(layout);
    if marker.exists() {
        sample.deliver(layout, Utc::now())?;
        std::fs::remove_file(&marker).map_err(|e| Failure::file("removed", &marker, e))?;
    }
    Ok(())
}

fn marker(layout: &Layout) -> PathBuf {
    layout.folder().join(MARKER)
}

/// What became of outputs, on the evidence of the snapshots that there are by then. The missions' files say the same.
fn decided(known: &Known, missions: &[&Mission], store: &mut SqliteStore, today: NaiveDate) -> Result<()> {
    let name = |text: &str| Name::parse(text).map_err(|e| Failure::new(e.to_string()));
    let regions = |names: [&str; 3]| names.map(str::to_owned).to_vec();
    let passes = Groups {
        by: "region".into(),
        with: regions(["East Midlands", "East of England", "South East"]),
        // Neither where mentors began meanwhile.
        without: regions(["North West", "West Midlands", "Yorkshire and The Humber"]),
        of: None,
        began: Some(month_before(today, PASSES_BEGAN)),
        until: None,
        changed_hands: Vec::new(),
    };
    for (of, output, what, by, compared) in [
        ("opportunity", "travel-passes", What::Stopped, "dwp", Some((name("fewer-on-benefits")?, passes))),
        ("strong-economy", "export-loans", What::Changed, "dbt", None),
    ] {
        let stated = |mission: &&&Mission| mission.id.as_str() == of;
        let Some(mission) = missions.iter().find(stated) else { continue };
        let because = mission.outputs.iter().find(|one| one.id.as_str() == output).and_then(|one| one.because.clone());
        let decision = Decision {
            output: name(output)?,
            what,
            on: month_before(today, DECIDED),
            by: Some(by.into()),
            because: because.unwrap_or_default(),
            compared,
        };
        mission::decide(known, mission, store, decision)?;
    }
    Ok(())
}
