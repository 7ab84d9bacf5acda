//! Corrects records and erases people.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};

use clap::Args;
use miette::{IntoDiagnostic as _, miette};

use super::consent::{at, open_ledger, read_identifiers};
use super::consent_show::ask;
use super::eprint;
use crate::config::Config;
use crate::consent::journal::Note;

/// What was wrong.
#[derive(Debug, Args)]
pub struct CorrectArgs {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The identifiers' type: nino, nhs_number, upn, uprn, company_number or a custom type's name.
    #[arg(long, value_name = "TYPE")]
    pub identifier_type: String,
    /// The place of the record that was wrong.
    #[arg(long)]
    pub place: u64,
    /// A file with the identifier of the person whose record it is; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    pub identifiers: PathBuf,
}

/// Whom to erase.
#[derive(Debug, Args)]
pub struct EraseArgs {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The identifiers' type: nino, nhs_number, upn, uprn, company_number or a custom type's name.
    #[arg(long, value_name = "TYPE")]
    pub identifier_type: String,
    /// A file of identifiers, one a line; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    pub identifiers: PathBuf,
    /// Erase without being asked: needed where nobody sits at a terminal, or where the identifiers come from it.
    #[arg(long)]
    pub yes: bool,
}

pub(super) async fn correct(args: CorrectArgs) -> miette::Result<()> {
    let (consent, intake) = open_ledger(&Config::load(&args.config)?)?;
    let (lines, asked) = ask(&intake, &args.identifier_type, &read_identifiers(&args.identifiers)?, None)?;
    if lines.len() != 1 {
        return Err(miette!(help = "nothing was corrected", "a correction is about one person: give one identifier"));
    }
    let (place, generation) = (args.place, consent.generation().into_diagnostic()?);
    let note = Note::new("consent.corrected").field("corrects", place);
    let version = tokio::task::spawn_blocking(move || consent.correct(&asked, place, Some(&note))).await.into_diagnostic()?;
    let version = version.map_err(|e| miette!(help = "nothing was corrected; `consent show` tells places", "{e}"))?;
    eprint(&format!("corrected: the record at place {place} says nothing any more; {}", at(generation, version)));
    Ok(())
}

pub(super) async fn erase(args: EraseArgs) -> miette::Result<()> {
    let config = Config::load(&args.config)?;
    let (consent, intake) = open_ledger(&config)?;
    let (lines, asked) = ask(&intake, &args.identifier_type, &read_identifiers(&args.identifiers)?, None)?;
    if !args.yes {
        confirmed(config.department.as_str(), lines.len(), &args.identifiers)?;
    }
    let note = Note::new("consent.erased").field("subjects", asked.subjects());
    let generation = consent.generation().into_diagnostic()?;
    let work = move || consent.erase(&asked, &intake, Some(&note));
    let erased = tokio::task::spawn_blocking(work).await.into_diagnostic()?.into_diagnostic()?;
    let unknown = lines.len().saturating_sub(erased.subjects);
    let unknown = if unknown == 0 { String::new() } else { format!("; the ledger held nothing of {unknown}") };
    eprint(&format!("{} erased{unknown}; {}", erased.subjects, at(generation, erased.version)));
    if !erased.wiped {
        eprint("its file still holds older copies, because somebody reads it: the node wipes them as soon as nobody does");
    }
    Ok(())
}

/// Asks at the terminal.
fn confirmed(department: &str, people: usize, identifiers: &Path) -> miette::Result<()> {
    if identifiers == Path::new("-") || !io::stdin().is_terminal() {
        return Err(miette!(help = "add --yes; nothing was erased", "nobody can be asked whether {people} person(s) are to be erased"));
    }
    eprint(&format!(
        "What the ledger holds of {people} person(s) is erased for good, but for objections and withdrawals in force and, encrypted, whose they \
         are. Type the department's name ({department}) to do it:"
    ));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).into_diagnostic()?;
    if answer.trim() == department { Ok(()) } else { Err(miette!("nothing was erased")) }
}
