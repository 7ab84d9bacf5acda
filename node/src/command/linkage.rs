//! `linkage`: the keys of pseudonyms as this department holds them. What they are agreed on, the agreement says: a rotation is a new
//! text of it, which counts when every party has signed it.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, Subcommand};
use concordat_audit::is_written;
use concordat_operate::Fault;
use concordat_policy::agreement::Linkage;
use concordat_policy::difference::difference;
use concordat_policy::{Agreement, LinkageDomain, Name};
use miette::{IntoDiagnostic as _, miette};
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::agreement::held;
use super::inbox::noted;
use super::{eprint, print};
use crate::config::{self, Config, Paths};
use crate::consent::journal::Note;
use crate::linkage::{self, KEYPAIR, Keypair, Shown};
use crate::private;

/// What can be done with linkage keys.
#[derive(Debug, Subcommand)]
pub enum LinkageCommand {
    /// Show the linkage domains of the agreements, the keys that are held, who may hold them, and how they lie on disk.
    #[command(after_help = "Example:\n  concordat-node linkage show --config node.toml\n\nNo key is shown. Works beside a running node.")]
    Show(LinkageShowArgs),
    /// Write an agreement's next text: with it, pseudonyms begin anew, and none match earlier ones.
    #[command(
        after_help = "Example:\n  concordat-node linkage rotate opportunity --config node.toml --out opportunity.toml\n\nWrites a file and changes nothing else: any party may propose it, and it counts when every party has signed it and the gateway\nholds it. Remove a party that leaves from the file by hand, with its datasets, before anybody signs. What was begun under the\nold text ends within two seconds of a department's taking the new one; while departments or the gateway hold different texts,\nqueries are refused, naming who holds another."
    )]
    Rotate(LinkageRotateArgs),
    /// Encrypt linkage keys on disk as `keys.at_rest` says, or no longer.
    #[command(
        after_help = "Example:\n  concordat-node linkage protect --config node.toml\n  concordat-node linkage protect --config node.toml --before node.toml.old\n\nStop the node first. The department's private key and the keys of domains are written anew, each whole or not at all; it can be\nrepeated. To change a passphrase or the way, keep the old configuration and name it with --before. Remove copies in backups."
    )]
    Protect(ProtectArgs),
}

/// Of which node.
#[derive(Debug, Args)]
pub struct LinkageShowArgs {
    /// The node's configuration.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    pub config: PathBuf,
}

/// What is written.
#[derive(Debug, Args)]
pub struct LinkageRotateArgs {
    /// The agreement's id.
    #[arg(value_name = "AGREEMENT")]
    pub agreement: String,
    /// The node's configuration.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    pub config: PathBuf,
    /// Another party that makes the keys from then on.
    #[arg(long, value_name = "DEPARTMENT", value_parser = name)]
    pub keyholder: Option<Name>,
    /// The file to write; it must not exist yet.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// How keys lay on disk before.
#[derive(Debug, Args)]
pub struct ProtectArgs {
    /// The node's configuration.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    pub config: PathBuf,
    /// The configuration by which the keys were encrypted until now, if it was another.
    #[arg(long, value_name = "FILE")]
    pub before: Option<PathBuf>,
}

fn name(text: &str) -> Result<Name, String> {
    Name::parse(text).map_err(|e| e.to_string())
}

pub(super) async fn run(command: LinkageCommand) -> miette::Result<()> {
    let work = move || match command {
        LinkageCommand::Show(args) => show(&args.config),
        LinkageCommand::Rotate(args) => rotate(&args),
        LinkageCommand::Protect(args) => protect(&args),
    };
    tokio::task::spawn_blocking(work).await.into_diagnostic()?
}

fn show(path: &Path) -> miette::Result<()> {
    let config = Config::load(path)?;
    let kept = linkage::kept(&config.state, &config.at_rest).into_diagnostic()?;
    print(&shown(&config, &kept, Utc::now()))
}

fn shown(config: &Config, kept: &[Shown], now: DateTime<Utc>) -> String {
    let mut text = format!("Linkage keys of '{}' lie on disk {}.\n", config.department, config.at_rest.title());
    for agreement in &config.agreements {
        let linkage = &agreement.linkage;
        let _ = writeln!(text, "\nagreement '{}': {} makes the keys; rotation {}", agreement.id, linkage.keyholder, linkage.rotation);
        for purpose in &agreement.purposes {
            let Some(domain) = LinkageDomain::at(agreement.mission.clone(), purpose.clone(), linkage, now) else { continue };
            let last = domain.days(linkage).and_then(|days| days.end.pred_opt());
            let until = last.map_or_else(String::new, |day| format!(", until {day}"));
            let _ = writeln!(text, "  now {domain}{until}; each narrower purpose has a domain of its own");
        }
    }
    text.push_str(if kept.is_empty() { "\nNo key is held yet: the first query brings it.\n" } else { "\nKeys that are held:\n" });
    for Shown { domain, given, written, .. } in kept {
        let departments: Vec<&str> = given.iter().map(|(department, _)| department.as_str()).collect();
        let written = DateTime::<Utc>::from(*written).to_rfc3339_opts(SecondsFormat::Secs, true);
        let _ = writeln!(text, "  {domain}, written {written}; may be held by {}", departments.join(", "));
    }
    text
}

fn rotate(args: &LinkageRotateArgs) -> miette::Result<()> {
    let paths = Paths::read(&args.config)?;
    let file = held(&paths, &args.agreement)?;
    let unreadable = |e: std::io::Error| Fault::new(file.display(), format!("cannot be read: {e}"), "correct its permissions");
    let text = std::fs::read_to_string(&file).map_err(unreadable)?;
    let Ok(before) = Agreement::parse(&text) else { return Err(miette!("{} changed meanwhile; try again", file.display())) };
    let keyholder = args.keyholder.as_ref().unwrap_or(&before.linkage.keyholder);
    if before.party(keyholder).is_none() {
        return Err(miette!(help = "name one of its parties", "'{keyholder}' is no party of the agreement '{}'", before.id));
    }
    let (text, after) = rotated(&text, &before, keyholder).ok_or_else(|| {
        miette!(
            help = "raise `rotation` under [linkage] by hand; `concordat agreement diff` shows what that changes",
            "{} is written in a way that this command does not change",
            file.display()
        )
    })?;
    let unwritten =
        |e: std::io::Error| Fault::new(args.out.display(), format!("cannot be written: {e}"), "name a file that does not exist yet");
    let mut out = OpenOptions::new().write(true).create_new(true).open(&args.out).map_err(unwritten)?;
    out.write_all(text.as_bytes()).map_err(unwritten)?;
    print(&difference(&before, &after).to_string())?;
    eprint(&format!(
        "{} is written. Where a party leaves, remove its [[party]] and its datasets. Then every party signs this very file and puts it in \
         place of the old one, and the gateway's operator too.",
        args.out.display()
    ));
    Ok(())
}

/// The text with the next rotation and that keyholder; whatever else stands in it stays as it is. `None` where it cannot be found.
fn rotated(text: &str, before: &Agreement, keyholder: &Name) -> Option<(String, Agreement)> {
    let wanted =
        Linkage { keyholder: keyholder.clone(), rotation: before.linkage.rotation.checked_add(1)?, epoch_days: before.linkage.epoch_days };
    let (range, next) = (value(text, "keyholder")?, wanted.rotation);
    let with = |keyholder: &str| {
        format!("{}{keyholder}{}", text.get(..range.start).unwrap_or_default(), text.get(range.end..).unwrap_or_default())
    };
    let named = format!("\"{keyholder}\"");
    let line = text.get(..range.start)?.rfind('\n').map_or(0, |end| end + 1);
    let tried = match value(text, "rotation") {
        Some(_) => {
            let text = with(&named);
            let range = value(&text, "rotation")?;
            vec![format!("{}{next}{}", text.get(..range.start)?, text.get(range.end..)?)]
        }
        // As a table of lines, or in one.
        None => {
            let mut lines = with(&named);
            lines.insert_str(line, &format!("rotation = {next}\n"));
            vec![lines, with(&format!("{named}, rotation = {next}"))]
        }
    };
    tried.into_iter().find_map(|text| {
        let after = Agreement::parse(&text).ok()?;
        let differs = difference(before, &after);
        let else_alike = differs.no_longer.is_empty() && differs.newly.is_empty();
        let terms = differs.terms.iter().all(|term| term.name == "rotation" || term.name == "keyholder");
        (after.linkage == wanted && else_alike && terms).then_some((text, after))
    })
}

/// Where a value of the agreement's `[linkage]` stands.
fn value(text: &str, key: &str) -> Option<std::ops::Range<usize>> {
    let table = DeTable::parse(text).ok()?.into_inner();
    let (_, linkage) = table.iter().find(|(name, _)| name.get_ref() == "linkage")?;
    let DeValue::Table(linkage) = linkage.get_ref() else { return None };
    linkage.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value.span())
}

fn protect(args: &ProtectArgs) -> miette::Result<()> {
    let paths = Paths::read(&args.config)?;
    if is_written(&paths.log) {
        return Err(miette!(help = "stop it, and start it again afterwards", "the node runs, and would go on with what it has read"));
    }
    let at_rest = config::at_rest(&args.config)?;
    let before = args.before.as_deref().map_or_else(|| Ok(at_rest.clone()), config::at_rest)?;
    let place = &paths.linkage;
    let fault = |cause: String, remedy: &str| Fault::new(place.display(), cause, remedy);
    let text = std::fs::read_to_string(place).map_err(|e| fault(format!("cannot be read: {e}"), "run this as the node's user"))?;
    let text = Zeroizing::new(text);
    let remedy = "name the configuration by which it was encrypted with --before; nothing was changed";
    let renewed = at_rest.renewed(&before, KEYPAIR, &text).map_err(|e| fault(e.to_string(), remedy))?;
    let changed = usize::from(renewed.is_some());
    if let Some(renewed) = &renewed {
        let readable = at_rest.open(KEYPAIR, renewed).is_ok_and(|text| Keypair::from_hex(text.trim()).is_some());
        if !readable {
            return Err(fault("is not a raw X25519 private key as 64 hex digits".into(), "restore it; nothing was changed").into());
        }
    }
    // The log is to have it whatever becomes of it.
    noted(&paths, Note::new("linkage.protected").field("way", at_rest.title()))?;
    if let Some(renewed) = renewed {
        private::replace(place, renewed.as_bytes()).map_err(|e| fault(format!("cannot be written: {e}"), "run this as the node's user"))?;
    }
    let domains = linkage::protect(&paths.state, &at_rest, &before).into_diagnostic()?;
    print(&format!("{} key(s) were written anew; linkage keys lie on disk {}.\n", changed + domains, at_rest.title()))
}

#[cfg(test)]
mod tests;
