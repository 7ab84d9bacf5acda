//! `concordat demo`: a whole federation on this machine, from nothing to a joined answer.

mod history;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use chrono::Utc;
use clap::{Args, Subcommand};
use concordat_mission::Snapshots as _;

use super::target::{Gateway, Target};
use super::{DEFAULT_FOLDER, Output, folder_argument, mission, program, query, up};
use crate::failure::{Failure, Result};
use crate::federation::layout::{read, write};
use crate::federation::{Layout, make};
use crate::launch;
use crate::out::{progress, thousands};
use crate::sample::past::MENTORED;
use crate::sample::{self, MOST_PEOPLE, Sample};

/// The view that the demonstration shows.
const FIRST_VIEW: &str = "opportunity_by_region";
/// How many people the demonstration has if nothing else is said.
const PEOPLE: u64 = 100_000;
/// Says that a folder is the demonstration's, so that it may be removed.
const MARKER: &str = "demo.toml";

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  concordat demo                                 runs until Ctrl-C; try the commands that it prints
  concordat demo --once --output json            prints the joined view as JSON and ends
  concordat demo --people 1000000                ten times as many people
  concordat demo --history                       first takes two years of monthly snapshots of the missions' outcomes
  concordat demo --keep                          with the folder as you left it: agreements edited, consent recorded
  concordat demo clean                           removes the folder

Every start without --keep makes the folder anew. All people in it are generated: none is real."
)]
pub(crate) struct Demo {
    #[command(subcommand)]
    action: Option<Action>,
    /// Where everything is put, for you to read
    #[arg(long, env = "CONCORDAT_FOLDER", default_value = DEFAULT_FOLDER, value_name = "FOLDER")]
    folder: PathBuf,
    /// How many people to generate; each department records about 71 % of them [default: 100000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MOST_PEOPLE))]
    people: Option<u64>,
    /// Show the joined view, stop everything and end
    #[arg(long)]
    once: bool,
    /// How to print the view
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    /// Start from the folder as it is, instead of making it anew
    #[arg(long)]
    keep: bool,
    /// Take the missions' snapshots of the last two years too, over the departments' data of each month
    #[arg(long, conflicts_with = "keep")]
    history: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Remove the demonstration's folder
    Clean {
        /// The folder
        #[arg(long, env = "CONCORDAT_FOLDER", default_value = DEFAULT_FOLDER, value_name = "FOLDER")]
        folder: PathBuf,
    },
}

pub(crate) async fn run(demo: Demo) -> Result<()> {
    if let Some(Action::Clean { folder }) = &demo.action {
        return clean(folder);
    }
    let layout = Layout::new(&demo.folder);
    let sample = prepare(&demo, &layout)?;
    let running = up::start(&layout).await?;
    let asked = Instant::now();
    let client = Target::folder(demo.folder.clone()).connect().await?;
    let answer = client.query(&query::of_view(FIRST_VIEW)).await?;
    progress(&format!("five departments asked and joined in {:.2} s: {FIRST_VIEW}\n", asked.elapsed().as_secs_f32()));
    query::print(Some(FIRST_VIEW), &answer, demo.output.into())?;
    if demo.history && !past(sample, &layout).await? {
        return Ok(());
    }
    // Programs want the view alone.
    if demo.output == Output::Table {
        progress(&board(&layout, &demo.folder).await?);
    }
    if demo.once {
        return Ok(());
    }
    progress(&next_commands(sample, &demo.folder, demo.history));
    up::until_interrupted(running).await
}

/// Takes the snapshots of two years; `false` where Ctrl-C came first. Whatever happens, the files are then those of today.
async fn past(sample: Sample, layout: &Layout) -> Result<bool> {
    let started = Instant::now();
    progress("\ntwo years of monthly snapshots, month by month: the departments' files change meanwhile");
    let taken = tokio::select! {
        taken = history::take(sample, layout) => taken.map(|()| true),
        () = launch::interrupted() => Ok(false),
    };
    history::present(sample, layout)?;
    if matches!(taken, Ok(true)) {
        progress(&format!("taken in {:.1} s", started.elapsed().as_secs_f32()));
    }
    taken
}

/// How the missions' outcomes stand, after what is due of their snapshots was taken.
async fn board(layout: &Layout, folder: &Path) -> Result<String> {
    let kept = mission::Kept::default_in_folder();
    let known = kept.known(layout).map_err(|report| Failure::new(report.to_string()))?;
    let (missions, mut store) = (known.all(), kept.store(layout)?);
    mission::catch_up(&Gateway::folder(folder.to_owned()), &known, &missions, &mut store, &mut |_: String| Ok(())).await?;
    let snapshots = store.all().map_err(|e| Failure::new(e.to_string()))?;
    Ok(format!(
        "\nthe missions' outcomes, by the snapshots taken:\n{}",
        mission::board(&known, &missions, &snapshots, Utc::now().date_naive())
    ))
}

/// Makes the folder, or takes it as it is. Returns the sample that lies in it.
fn prepare(demo: &Demo, layout: &Layout) -> Result<Sample> {
    let people = demo.people.unwrap_or(PEOPLE);
    if !absent_or_empty(&demo.folder) {
        let made = made_for(&demo.folder)?;
        if demo.keep && demo.people.is_none_or(|people| people == made) {
            history::present(Sample::of(made), layout)?;
            progress(&format!("{} as it is, with {} generated people", demo.folder.display(), thousands(made)));
            return Ok(Sample::of(made));
        }
        if demo.keep {
            return Err(Failure::usage(format!("{} holds {made} people, not {people}", demo.folder.display()))
                .advice("leave --keep out to make it anew"));
        }
        clean(&demo.folder)?;
    }
    let started = Instant::now();
    let sample = Sample::of(people);
    // Made beside its place and then moved, so that the folder is complete whenever it exists.
    let unfinished = unfinished(&demo.folder)?;
    let today = Utc::now().date_naive();
    let first = if demo.history { history::first(today) } else { today };
    make(&sample::federation_since(today, first), &unfinished, today)?;
    sample.write(&Layout::new(&unfinished))?;
    write(&unfinished.join(MARKER), &format!("# The demonstration's folder: `concordat demo clean` removes it.\npeople = {people}\n"))?;
    fs::rename(&unfinished, layout.folder()).map_err(|e| Failure::file("created", layout.folder(), e))?;
    progress(&format!("generated {} people into {} ({:.1} s)", thousands(people), demo.folder.display(), started.elapsed().as_secs_f32()));
    Ok(sample)
}

fn absent_or_empty(folder: &Path) -> bool {
    !folder.exists() || fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// For how many people the folder was made; fails when it is not the demonstration's.
fn made_for(folder: &Path) -> Result<u64> {
    let not_ours = || {
        Failure::new(format!("{} exists and is not a demonstration's folder", folder.display()))
            .advice("choose another with --folder; nothing was changed")
    };
    let marker: toml::Table = read(&folder.join(MARKER)).ok().and_then(|text| text.parse().ok()).ok_or_else(not_ours)?;
    marker.get("people").and_then(toml::Value::as_integer).and_then(|people| u64::try_from(people).ok()).ok_or_else(not_ours)
}

/// An empty place beside `folder`; what an interrupted run left there is removed.
fn unfinished(folder: &Path) -> Result<PathBuf> {
    let name = folder.file_name().ok_or_else(|| Failure::usage(format!("'{}' is not a folder's name", folder.display())))?;
    let path = folder.with_file_name(format!(".{}-unfinished", name.to_string_lossy()));
    if path.exists() {
        fs::remove_dir_all(&path).map_err(|e| Failure::file("removed", &path, e))?;
    }
    Ok(path)
}

/// Removes the demonstration's folder, unless it runs.
fn clean(folder: &Path) -> Result<()> {
    if !folder.exists() {
        progress(&format!("{} does not exist: nothing to remove", folder.display()));
        return Ok(());
    }
    made_for(folder)?;
    let _not_running = launch::lock(&Layout::new(folder))?;
    fs::remove_dir_all(folder).map_err(|e| Failure::file("removed", folder, e))?;
    progress(&format!("removed {}", folder.display()));
    Ok(())
}

fn next_commands(sample: Sample, folder: &Path, history: bool) -> String {
    let program = program();
    let here = folder_argument(folder);
    let began = history::mentors_began(Utc::now().date_naive());
    let regions: String = MENTORED.iter().map(|region| format!(" --with '{region}'")).collect();
    let learnt = if history {
        format!(
            "  {program} mission compare opportunity --outcome fewer-on-benefits --by region --began {began}{regions}{here}
      whether claims fell faster where mentors began; `{program} mission pivots` has what was decided of travel passes
  {program} publish opportunity strong-economy --to site --note 'Generated people and firms.' --log {log}{here}
      the same as a site for everybody
",
            log = Layout::new(folder).gateway().join("log").display()
        )
    } else {
        String::new()
    };
    let somebody = sample.somebody().unwrap_or_else(|| "AB123456C".into());
    format!(
        "
Everything lies in {}: configurations, agreements, generated data, logs. Try next, in another terminal:

  {program} catalogue{here}
      what you may use for the purpose 'opportunity.measure', column by column
  {program} query --view cardiovascular_support --purpose health.prevention{here}
      another mission, another agreement, one shared dataset
  {program} mission status{here}
      how the missions' outcomes stand, and what their headlines hide
{learnt}  {program} query --view coverage{here}
      how many people each department can speak about
  {program} query --view apprentices_of_firms --purpose economy.measure{here}
      people and firms, joined through a link dataset that nobody but its department sees in clear
  {program} linkage report {FIRST_VIEW} --by region{here}
      who is missing from the joined view, and how they differ
  echo {somebody} | {program} consent record --department dhsc --purpose opportunity --event withdrawn{here}
      somebody in London withdraws; the next `query --view {FIRST_VIEW}` no longer counts them
  {program} query --sql 'SELECT subject, attainment8 FROM dfe.attainment'{here}
      refused: rows of single people never leave; the message says what would be allowed
  {program} audit list --decision deny{here}
      the same in the gateway's log, as its auditor reads it; a department's own log with --at dfe
",
        folder.display()
    )
}
