//! `concordat agreement`: the permission itself, from an empty file to every party's signature.
//!
//! Everything here works on files, with no node, gateway or network: agreements are written in editors and travel as files.

mod check;
mod draft;
mod files;

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use concordat_node::command::NewKeys;
use concordat_policy::difference::difference;
use concordat_policy::{Name, in_words};

use crate::failure::Result;
use crate::out;

#[derive(Debug, Subcommand)]
pub(crate) enum Agreement {
    /// Write a draft in which every field is explained and nothing is permitted
    #[command(after_help = "\
Example:
  concordat agreement new opportunity.toml --id opportunity

Fill it in with an editor, then: concordat agreement check opportunity.toml")]
    New(New),
    /// Say what is wrong with an agreement, and which parties have signed it
    #[command(after_help = "\
Example:
  concordat agreement check opportunity.toml
  concordat agreement check state/inbox/opportunity-1a2b3c4d5e6f7a8b/opportunity.toml --estate estate --state state

Signatures are looked for beside the file, opportunity.toml.DEPARTMENT.sig, as are revoked.toml, the list of revoked keys, and
statements of succession. Neither lies in an inbox: with --estate and --state those of the gateway count instead, and without them
what waits in an inbox does not pass. Exits 0 when the file is a sound agreement that every party has signed.")]
    Check(Check),
    /// Sign an agreement in a department's name, with its key
    #[command(after_help = "\
Example:
  concordat agreement sign opportunity.toml --key keys/signing.key.pem --department dfe

Shows in plain words who would give which columns for which uses, why and until when, and asks. The signature is written beside the
file, opportunity.toml.dfe.sig: the gateway needs every party's, each node its own. It signs the file's exact bytes: a changed text
needs a new one. Beside a node: concordat-node agreement sign opportunity --config node.toml")]
    Sign(Sign),
    /// State that a department's new key takes the place of the present one: no agreement needs a new text
    #[command(after_help = "\
Example:
  concordat agreement succeed agreements --department dfe --key keys/signing.key.pem --next keys/next.signing.key.pem \\
    --from 2026-12-01T06:00:00Z

The statement is signed with both keys and written into the folder of agreements, dfe.KEY.succession; every party and the gateway put
it beside their copies. From that time on the new key signs; what programs saw signed by the present one before stays signed. Beside a
node: concordat-node agreement succeed --next keys/next.signing.key.pem --from 2026-12-01T06:00:00Z --config node.toml")]
    Succeed(Succeed),
    /// Show an agreement in plain words
    #[command(after_help = "\
Example:
  concordat agreement show opportunity.toml")]
    Show(File),
    /// Show what changes from one agreement to another: uses that are permitted no longer, those that are new, other terms
    #[command(after_help = "\
Example:
  concordat agreement diff opportunity.toml opportunity-2027.toml

Comments, spelling and order mean nothing and are not shown.")]
    Diff(Diff),
}

/// One agreement.
#[derive(Debug, Args)]
pub(crate) struct File {
    /// The agreement's file
    file: PathBuf,
}

/// One agreement, and by whose lists it is judged.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The agreement's file
    file: PathBuf,
    /// The gateway's folder of departments, agreements and views: its revoked keys and successions count, not those beside the file
    #[arg(long, value_name = "FOLDER", requires = "state")]
    estate: Option<PathBuf>,
    /// The gateway's folder of state: what it has seen of keys and signatures counts too
    #[arg(long, value_name = "FOLDER", requires = "estate")]
    state: Option<PathBuf>,
}

/// A new one.
#[derive(Debug, Args)]
pub(crate) struct New {
    /// The file to write; it must not exist yet
    file: PathBuf,
    /// The agreement's id
    #[arg(long, default_value = "draft", value_name = "NAME", value_parser = name)]
    id: Name,
}

/// Whose signature of what.
#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The agreement's file
    file: PathBuf,
    /// The department's private signing key (Ed25519, PKCS#8 in PEM), which nobody else may read
    #[arg(long, value_name = "KEY.pem")]
    key: PathBuf,
    /// The department, as the agreement names it
    #[arg(long, value_name = "NAME", value_parser = name)]
    department: Name,
    /// Sign without being asked: needed where nobody sits at a terminal
    #[arg(long)]
    yes: bool,
}

/// Which key takes the place of which.
#[derive(Debug, Args)]
pub(crate) struct Succeed {
    /// The folder of agreements
    folder: PathBuf,
    /// The department, as the agreements name it
    #[arg(long, value_name = "NAME", value_parser = name)]
    department: Name,
    /// The present private signing key (Ed25519, PKCS#8 in PEM), which nobody else may read
    #[arg(long, value_name = "KEY.pem")]
    key: PathBuf,
    /// The one that takes its place
    #[arg(long, value_name = "KEY.pem")]
    next: PathBuf,
    /// The present private linkage key (X25519, 64 hex digits), where that is replaced too
    #[arg(long, value_name = "KEY", requires = "next_linkage")]
    linkage: Option<PathBuf>,
    /// The one that takes its place
    #[arg(long, value_name = "KEY", requires = "linkage")]
    next_linkage: Option<PathBuf>,
    /// From when on (RFC 3339, UTC)
    #[arg(long, value_name = "TIME")]
    from: DateTime<Utc>,
    /// State it without being asked: needed where nobody sits at a terminal
    #[arg(long)]
    yes: bool,
}

/// Two of them.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The earlier one
    before: PathBuf,
    /// The later one
    after: PathBuf,
}

fn name(text: &str) -> std::result::Result<Name, String> {
    Name::parse(text).map_err(|e| e.to_string())
}

pub(crate) fn run(command: Agreement) -> Result<()> {
    match command {
        Agreement::New(new) => draft::write(&new.file, &new.id),
        Agreement::Check(Check { file, estate, state }) => {
            let gateway = estate.as_deref().zip(state.as_deref()).map(|(estate, state)| files::Gateway { estate, state });
            check::check(&file, gateway, Utc::now())
        }
        Agreement::Sign(sign) => {
            let written = concordat_node::command::sign(&sign.file, &sign.department, &sign.key, None, sign.yes)?;
            out::progress(&format!("{} is written. The gateway needs every party's signature, each node its own.", written.display()));
            Ok(())
        }
        Agreement::Succeed(new) => {
            let linkage = new.linkage.as_deref().zip(new.next_linkage.as_deref());
            let keys = NewKeys { key: &new.key, next: &new.next, linkage };
            let written = concordat_node::command::succeed(&new.folder, None, &new.department, &keys, new.from, new.yes)?;
            out::progress(&format!("{} is written. Every party and the gateway put it beside their agreements.", written.display()));
            Ok(())
        }
        Agreement::Show(File { file }) => {
            let agreement = files::agreement(&file)?;
            let signatures = files::signatures(&file, &agreement, None)?;
            let overlooked = if files::in_an_inbox(&file) { check::OVERLOOKED } else { "" };
            let signed = check::signatures(&agreement, &signatures, None, Utc::now());
            out::result(&format!("{}{signed}{overlooked}", in_words::describe(&agreement)))
        }
        Agreement::Diff(Diff { before, after }) => {
            out::result(&difference(&files::agreement(&before)?, &files::agreement(&after)?).to_string())
        }
    }
}

#[cfg(test)]
mod tests;
