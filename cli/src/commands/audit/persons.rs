//! Who the callers in a log are: its entries carry commitments, and who may read the store beside the log can open them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use concordat_audit::filter::{Commitment, SHORT};
use concordat_audit::is_written;
use concordat_audit::persons::{Named, Persons, erase, is_untold};
use serde_json::{Value, json};

use super::form::{Form, rows};
use super::inert;
use super::read::text;
use crate::failure::{Failure, Result};
use crate::out;

/// How long the running program is waited for until it has told of an erasure.
const TELLING: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  concordat audit person --log concordat-demo/gateway/log --subject analyst-1")]
pub(crate) struct Person {
    /// The folder of a gateway's or node's log
    #[arg(long, value_name = "FOLDER")]
    log: PathBuf,
    /// What the issuer of their tokens calls them
    #[arg(long)]
    subject: String,
    /// The issuer, where several call somebody so
    #[arg(long)]
    issuer: Option<String>,
    /// How it is printed
    #[arg(long, value_enum, default_value = "table")]
    output: Form,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  concordat audit who 5f0c1b8a9d3e --log concordat-demo/gateway/log")]
pub(crate) struct Who {
    /// The commitment, or its first 12 characters or more
    #[arg(value_name = "COMMITMENT")]
    person: Commitment,
    /// The folder of the log whose commitment it is
    #[arg(long, value_name = "FOLDER")]
    log: PathBuf,
    /// How it is printed
    #[arg(long, value_enum, default_value = "table")]
    output: Form,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  concordat audit erase-person 5f0c1b8a9d3e --log concordat-demo/gateway/log

From then on nobody can tell who the commitment is, and the log still verifies. The log tells of it as `person.erased`: at once if its
program runs, else before anything else once it does. What stays are the commitment, the organisation and its roles; copies of the
store in backups open it still. Somebody who comes again has another commitment.")]
pub(crate) struct ErasePerson {
    /// The commitment, or its first 12 characters or more
    #[arg(value_name = "COMMITMENT")]
    person: Commitment,
    /// The folder of the log whose commitment it is
    #[arg(long, value_name = "FOLDER")]
    log: PathBuf,
}

/// What the store of a log opens.
#[derive(Debug, Default)]
pub(crate) struct Names(Option<Persons>);

impl Names {
    /// Of the log in a folder; nothing where this reader may not read its store.
    pub(crate) fn of(log: &Path) -> Self {
        Self(Persons::read(log).unwrap_or_else(|e| {
            out::progress(&format!("callers are shown as commitments: who they are cannot be read: {e}"));
            None
        }))
    }

    /// The entry with its caller's name, where it can be opened.
    pub(crate) fn name(&self, mut entry: Value) -> Value {
        let opened = self.0.as_ref().and_then(|persons| persons.open(text(&entry, "person")?)).map(|of| of.subject.clone());
        if let (Some(subject), Some(fields)) = (opened, entry.as_object_mut()) {
            fields.insert("caller".into(), subject.into());
        }
        entry
    }
}

/// The caller as people are shown one: the name, else the beginning of the commitment.
pub(crate) fn caller(entry: &Value) -> String {
    let short = || text(entry, "person").map(|person| person.chars().take(SHORT).chain(['…']).collect::<String>());
    text(entry, "caller").map(str::to_owned).or_else(short).unwrap_or_default()
}

pub(super) fn person(command: &Person) -> Result<()> {
    let persons = required(&command.log)?;
    let found = persons.called(&command.subject, command.issuer.as_deref());
    if found.is_empty() {
        return Err(Failure::new("nobody of that name is in the log's store").advice(
            "the subject is the issuer's name, as `concordat whoami` tells it; they never called, or were erased: see `--event person.erased`",
        ));
    }
    told(command.output, &found)
}

pub(super) fn who(command: &Who) -> Result<()> {
    told(command.output, &[one(&required(&command.log)?, &command.person)?])
}

pub(super) fn erase_person(command: &ErasePerson) -> Result<()> {
    let commitment = one(&required(&command.log)?, &command.person)?.commitment.clone();
    let failed = |e: std::io::Error| {
        Failure::file("written", &command.log, e)
            .advice("it is the user who runs the log's program that may; repeat the command until it succeeds")
    };
    let erased = erase(&command.log, &commitment).map_err(failed)?;
    if !erased {
        return Err(Failure::new("somebody else has just erased them"));
    }
    out::result(&format!("erased {commitment}: nobody can tell any more who that is, except from copies of the store\n"))?;
    let begun = Instant::now();
    while is_written(&command.log) && begun.elapsed() < TELLING {
        if !is_untold(&command.log).map_err(failed)? {
            return out::result("the log tells of it: person.erased\n");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    out::progress("the log will tell of it once its program runs and can write");
    Ok(())
}

fn required(log: &Path) -> Result<Persons> {
    let advice = "name the folder `log` of a gateway or node; only the user who runs it may tell who its callers are";
    let persons = Persons::read(log).map_err(|e| Failure::file("read", log, e).advice(advice))?;
    persons.ok_or_else(|| Failure::new(format!("{} has no store of persons that you may read", log.display())).advice(advice))
}

fn one<'p>(persons: &'p Persons, commitment: &Commitment) -> Result<&'p Named> {
    match persons.beginning(commitment.as_str())[..] {
        [one] => Ok(one),
        [] => Err(Failure::new("no person of the log's store has that commitment").advice(
            "each log has its own commitments: is it of this log? Or the person was erased: see `audit list --event person.erased`",
        )),
        _ => Err(Failure::new("several commitments begin so").advice("write more of its characters")),
    }
}

fn told(form: Form, found: &[&Named]) -> Result<()> {
    if form == Form::Json {
        let line = |of: &&Named| {
            let value = json!({
                "person": of.commitment, "subject": of.subject, "issuer": of.issuer, "first_seen": of.seen.0, "last_seen": of.seen.1,
            });
            inert::json(&value) + "\n"
        };
        return out::result(&found.iter().map(line).collect::<String>());
    }
    let row = |of: &&Named| vec![of.commitment.clone(), of.subject.clone(), of.issuer.clone(), of.seen.0.clone(), of.seen.1.clone()];
    out::result(&rows(form, true, &["person", "subject", "issuer", "first_seen", "last_seen"], found.iter().map(row).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_named_where_the_store_opens_it_and_else_short() {
        let commitment = "5f0c1b8a9d3e0000000000000000000000000000000000000000000000000000";
        let entry = json!({ "person": commitment });
        assert_eq!(caller(&Names::default().name(entry.clone())), "5f0c1b8a9d3e…");
        assert_eq!(caller(&json!({ "person": commitment, "caller": "analyst-1" })), "analyst-1");
        assert_eq!(caller(&json!({ "person": 7 })), "");
    }
}
