//! Shows what the ledger holds of some people.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use concordat_audit::DigestKey;
use concordat_policy::Refusal;
use miette::{IntoDiagnostic as _, Report, WrapErr as _, miette};
use serde_json::{Value, json};

use super::consent::{open_ledger, read_identifiers};
use crate::config::Config;
use crate::consent::intake::Intake;
use crate::consent::ledger::{Kept, moment};
use crate::consent::show::{AskError, Asked, Shown};
use crate::private;

/// Whom to show.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The identifiers' type: nino, nhs_number, upn, uprn, company_number or a custom type's name.
    #[arg(long, value_name = "TYPE")]
    pub identifier_type: String,
    /// Only what counts for this purpose.
    #[arg(long)]
    pub purpose: Option<String>,
    /// A file of identifiers, one a line; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    pub identifiers: PathBuf,
    /// How it is printed.
    #[arg(long, default_value = "text")]
    pub output: ShowOutput,
}

/// How people's records are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ShowOutput {
    /// Text for people.
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// A person as the administrator knows them: the line of their identifier, and their digest in the log.
struct Subject {
    line: usize,
    digest: String,
    shown: Shown,
}

pub(super) async fn show(args: ShowArgs) -> miette::Result<()> {
    let config = Config::load(&args.config)?;
    let (consent, intake) = open_ledger(&config)?;
    let text = read_identifiers(&args.identifiers)?;
    let (lines, asked) = ask(&intake, &args.identifier_type, &text, args.purpose.as_deref())?;
    private::folder(&config.log).into_diagnostic()?;
    let key = DigestKey::of(&config.log).into_diagnostic()?;
    let digests = asked.digests(|bytes| key.digest(bytes));
    let notes = asked.notes("consent.shown", &digests);
    let read = tokio::task::spawn_blocking(move || {
        // Durable before anything is seen: the node moves it to its access log.
        consent.ledger().note(&notes).into_diagnostic().wrap_err("this reading cannot be noted, so nothing is shown")?;
        consent.show(&asked).map_err(told)
    });
    let shown = read.await.into_diagnostic()??;
    let mut out = io::stdout().lock();
    for ((line, digest), shown) in lines.into_iter().zip(digests).zip(shown) {
        let subject = Subject { line, digest, shown };
        let text = match args.output {
            ShowOutput::Text => subject.text(),
            ShowOutput::Json => format!("{}\n", subject.json()),
        };
        out.write_all(text.as_bytes()).into_diagnostic().wrap_err("standard output cannot be written")?;
    }
    Ok(())
}

/// Whom the lines of a text name, and the lines that do.
pub(super) fn ask(intake: &Intake, identifier_type: &str, text: &str, purpose: Option<&str>) -> miette::Result<(Vec<usize>, Asked)> {
    let lines: Vec<(usize, &str)> = (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty()).collect();
    let asked = intake.ask(identifier_type, lines.iter().map(|(_, line)| *line), purpose).map_err(|e| match e {
        AskError::Identifier(at, cause) => {
            let line = lines.get(at - 1).map_or(at, |(line, _)| *line);
            miette!(help = "nothing was read from the ledger", "line {line}: {cause}")
        }
        other => miette!(help = "nothing was read from the ledger", "{other}"),
    })?;
    Ok((lines.into_iter().map(|(line, _)| line).collect(), asked))
}

/// What a refusal says at the command line.
pub(super) fn told(refusal: Refusal) -> Report {
    let help = refusal.advice.clone().unwrap_or_default();
    miette!(help = help, "{}", refusal.operator.as_deref().unwrap_or(&refusal.message))
}

impl Subject {
    fn text(&self) -> String {
        let mut text = format!("line {} · in the access log as {}\n", self.line, self.digest);
        for record in &self.shown.records {
            // Writing to a text does not fail.
            let _ = writeln!(
                text,
                "  {:>10}  {}  {:<9}  {}{}",
                record.place,
                record.recorded_at,
                record.event(),
                record.purpose,
                beside(record)
            );
        }
        if self.shown.records.is_empty() {
            text.push_str("  no records\n");
        }
        for standing in &self.shown.standing {
            let may = |allowed| if allowed { "may be used" } else { "may not be used" };
            let _ = writeln!(
                text,
                "  {}: {} on consent, {} under a statutory power that honours objections{}",
                standing.purpose,
                may(standing.under_consent),
                may(standing.honouring_objections),
                standing.last.map_or(String::new(), |place| format!(" (last: {place})"))
            );
        }
        text.push('\n');
        text
    }

    fn json(&self) -> Value {
        let records: Vec<Value> = self.shown.records.iter().map(record).collect();
        let standing = self.shown.standing.iter().map(|standing| {
            json!({
                "purpose": standing.purpose.as_str(), "last": standing.last,
                "under_consent": standing.under_consent, "honouring_objections": standing.honouring_objections,
            })
        });
        json!({ "line": self.line, "digest": self.digest, "records": records, "standing": standing.collect::<Vec<_>>() })
    }
}

/// What a record says beside its event.
fn beside(kept: &Kept) -> String {
    let mut said = Vec::new();
    said.extend(kept.term().effective_from().map(|from| format!("from {}", moment(from))));
    said.extend(kept.term().expires_at().map(|until| format!("until {}", moment(until))));
    said.extend(kept.acting.as_ref().map(|acting| format!("by {} ({})", acting.by, acting.capacity.as_str())));
    said.extend(kept.corrects().map(|place| format!("the record at {place} was wrong")));
    said.extend(kept.corrected_by.map(|place| format!("wrong: corrected at {place}")));
    said.extend((kept.erased && kept.event() != "erased").then(|| "kept of somebody erased".to_owned()));
    if said.is_empty() { String::new() } else { format!("  · {}", said.join(" · ")) }
}

fn record(kept: &Kept) -> Value {
    let mut record = json!({ "place": kept.place, "purpose": kept.purpose, "event": kept.event(), "recorded_at": kept.recorded_at });
    let beside = [
        ("effective_from", kept.term().effective_from().map(|from| moment(from).into())),
        ("expires_at", kept.term().expires_at().map(|until| moment(until).into())),
        ("capacity", kept.acting.as_ref().map(|acting| acting.capacity.as_str().into())),
        ("acted_by", kept.acting.as_ref().map(|acting| acting.by.as_str().into())),
        ("corrects", kept.corrects().map(Value::from)),
        ("corrected_by", kept.corrected_by.map(Value::from)),
        ("kept", (kept.erased && kept.event() != "erased").then(|| true.into())),
    ];
    if let Value::Object(fields) = &mut record {
        fields.extend(beside.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    }
    record
}
