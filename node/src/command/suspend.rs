//! `suspend`, `resume` and `agreement end`: the department's own veto, without asking anybody.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use concordat_audit::is_written;
use concordat_operate::Fault;
use concordat_operate::check::Report;
use concordat_policy::Name;
use miette::{IntoDiagnostic as _, WrapErr as _, miette};

use super::print;
use crate::config::{Held, Paths};
use crate::suspension::book::{self, Act, Book, ChangeError, Outcome, Suspension, Wanted};
use crate::suspension::{Folders, Person, REMEDY};

/// How long a running node may take to notice; it looks five times a second.
const NOTICE: Duration = Duration::from_secs(4);
/// The longest reason, in characters.
const REASON: usize = 1000;

/// What is suspended or resumed.
#[derive(Debug, Args)]
pub struct SuspendArgs {
    /// The agreement; without one, everything.
    pub agreement: Option<String>,
    /// The node's configuration.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    pub config: PathBuf,
    /// Why, for the department itself: it is kept in the state folder, the access log only says that there is one.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

pub(super) async fn suspend(args: SuspendArgs) -> miette::Result<()> {
    act(args, Act::Suspended).await
}

pub(super) async fn resume(args: SuspendArgs) -> miette::Result<()> {
    act(args, Act::Resumed).await
}

/// Ends one agreement. The department's signature follows once that is in force, whether a running node confirms it or not.
pub(super) async fn end(agreement: String, config: PathBuf, reason: Option<String>) -> miette::Result<()> {
    act(SuspendArgs { agreement: Some(agreement), config, reason }, Act::Ended).await
}

async fn act(args: SuspendArgs, act: Act) -> miette::Result<()> {
    // Neither needs a configuration that is sound in every part: the switch works when little else does.
    let paths = Paths::read(&args.config).wrap_err("if this cannot be mended at once, stop the node itself: nothing leaves without it")?;
    if let (Act::Resumed, Some(id)) = (act, args.agreement.as_deref())
        && super::agreement::has_ended(&paths, id)
    {
        return Err(miette::miette!(help = "the parties agree a new one", "'{id}' was ended by this department, and cannot be resumed"));
    }
    let reason = args.reason.as_deref().map(plain).transpose()?;
    let by = Person::here().into_diagnostic().wrap_err("this machine does not tell who you are, which the access log needs")?;
    let held = match (Held::read(&paths), &args.agreement) {
        (Ok(held), _) => Some(held),
        // Everything can be suspended without knowing the agreements.
        (Err(_), None) => None,
        (Err(fault), Some(_)) => return Err(fault.into()),
    };
    let folders = folders(&paths);
    let agreement = args.agreement.as_deref().map(|name| known(name, &held.clone().unwrap_or_default(), &folders)).transpose()?;
    // A file that nobody can read may be an agreement.
    let all = held.as_ref().filter(|held| held.not_understood.is_empty()).map(|held| &held.agreements);
    let wanted = Wanted { act, agreement: agreement.as_ref(), by: &by, reason: reason.as_deref(), held: all };
    let (outcome, book) = book::change(&folders, &wanted).map_err(|e| unchanged(&paths.state, e))?;
    print(&told(&wanted, &outcome, &book))?;
    let done = match outcome {
        Outcome::Changed(number) => noticed(&paths, number, act).await,
        Outcome::Unchanged => Ok(String::new()),
    };
    print(&format!("{}{}", done.as_deref().unwrap_or_default(), standing(&book)))?;
    done.map(drop)
}

/// A reason as one line.
fn plain(reason: &str) -> miette::Result<String> {
    let reason: String = reason.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if reason.is_empty() || reason.chars().count() > REASON {
        return Err(miette!(
            help = "leave --reason out, or write one sentence",
            "a reason has 1 to {REASON} characters; nothing was changed"
        ));
    }
    Ok(reason)
}

/// The agreement of that name: one that is held, or one that is suspended although its file is gone.
fn known(text: &str, held: &Held, folders: &Folders) -> miette::Result<Name> {
    let suspended = book::read(folders, 0).map(|book| book.suspended).unwrap_or_default();
    let known: BTreeSet<&Name> = held.agreements.iter().chain(suspended.iter().filter_map(|s| s.agreement.as_ref())).collect();
    if let Some(name) = known.iter().find(|name| name.as_str() == text) {
        return Ok((*name).clone());
    }
    let list = known.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    let list = if list.is_empty() { "none".to_owned() } else { list };
    let unclear =
        held.not_understood.iter().map(|path| format!("; {} is no agreement that can be read", path.display())).collect::<String>();
    Err(miette!(
        help = "to be safe at once, suspend everything: leave the name out",
        "this department holds no agreement '{text}', so nothing was changed; it holds: {list}{unclear}"
    ))
}

fn unchanged(state: &Path, error: ChangeError) -> miette::Report {
    match error {
        ChangeError::Damage(damage) => {
            Fault::new(state.display(), format!("{damage}; until that is mended, everything is suspended"), REMEDY)
        }
        ChangeError::File(e) => Fault::new(
            state.display(),
            format!("cannot be written, so nothing was changed: {e}"),
            "run this as the node's user or as root, and see that the disk has room; stopping the node stops everything too",
        ),
    }
    .into()
}

fn what(agreement: Option<&Name>) -> String {
    agreement.map_or_else(|| "everything".into(), |agreement| format!("agreement '{agreement}'"))
}

fn told(wanted: &Wanted<'_>, outcome: &Outcome, book: &Book) -> String {
    let what = what(wanted.agreement);
    match (wanted.act, outcome, book.suspension(wanted.agreement)) {
        (Act::Suspended, Outcome::Changed(_), _) => format!("Suspended: {what}.\n"),
        (Act::Resumed, Outcome::Changed(_), _) => format!("Resumed: {what}.\n"),
        (Act::Ended, Outcome::Changed(_), _) => format!("Ended: {what}. It cannot be resumed.\n"),
        (_, Outcome::Unchanged, Some(was)) if was.ended => {
            format!("Nothing was changed: {what} was ended at {} by {}, and cannot be resumed.\n", was.since, was.by)
        }
        (_, Outcome::Unchanged, Some(was)) => {
            format!("Nothing was changed: {what} has been suspended since {} by {}.\n", was.since, was.by)
        }
        (_, Outcome::Unchanged, None) => format!("Nothing was changed: {what} is not suspended by itself.\n"),
    }
}

/// What is suspended, for people.
pub(super) fn standing(book: &Book) -> String {
    if book.suspended.is_empty() {
        return "Nothing is suspended now.\n".into();
    }
    book.suspended.iter().fold(String::from("Suspended now:\n"), |mut text, suspension| {
        let reason = suspension.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        let since = if suspension.ended { "ended for good at" } else { "since" };
        let _ = writeln!(text, "  {}, {since} {} by {}{reason}", what(suspension.agreement.as_ref()), suspension.since, suspension.by);
        text
    })
}

/// Waits until a running node has the change in its log.
async fn noticed(paths: &Paths, number: u64, act: Act) -> miette::Result<String> {
    if !is_written(&paths.log) {
        return Ok("No node runs here; the next one that starts writes the change into its access log and keeps to it.\n".into());
    }
    let deadline = Instant::now() + NOTICE;
    while book::logged(&folders(paths)).map_or(true, |logged| logged < number) {
        if Instant::now() > deadline {
            return Err(miette!(
                help = "look whether its process hangs or its disk is full (`check`); in doubt, stop it: nothing leaves without it",
                "the change is in force, but the running node did not confirm it within {} s",
                NOTICE.as_secs()
            ));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(match act {
        Act::Suspended | Act::Ended => "The running node keeps to it, has cut what was under way, and has it in its access log.\n",
        Act::Resumed => "The running node keeps to it, and has it in its access log.\n",
    }
    .into())
}

fn folders(paths: &Paths) -> Folders {
    Folders::new(&paths.state, &paths.log)
}

/// One line of `check`.
pub(super) fn check(report: &mut Report, paths: &Paths) {
    match book::read(&folders(paths), 0) {
        Err(damage) => report.fail("suspensions", &format!("{damage}, so everything is suspended"), REMEDY),
        Ok(book) => {
            let list = |ended: bool| {
                let of = book.suspended.iter().filter(|suspension| suspension.ended == ended);
                let line = |s: &Suspension| format!("{} since {} by {}", what(s.agreement.as_ref()), s.since, s.by);
                of.map(line).collect::<Vec<_>>().join("; ")
            };
            match list(false) {
                none if none.is_empty() => report.ok("suspensions: none"),
                suspended => report.warn("suspensions", &suspended, "`resume` lifts them"),
            }
            match list(true) {
                none if none.is_empty() => {}
                ended => report.ok(format!("ended for good: {ended}")),
            }
        }
    }
}
