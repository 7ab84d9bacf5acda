//! `concordat token`: a bearer token of the trial's own identity provider.

use std::path::PathBuf;

use chrono::Utc;
use clap::Args;
use serde_json::json;

use super::DEFAULT_FOLDER;
use crate::client::ClientFile;
use crate::failure::{Failure, Result};
use crate::federation::{Issuer, Layout};
use crate::out;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concordat token > token.jwt && concordat query --token-file token.jwt --view opportunity_by_region
  concordat token --organisation newspaper --role reporter      (the gateway will refuse it: no agreement names it)

For trying out, on the machine where the federation's folder lies. Elsewhere the identity provider issues tokens.")]
pub(crate) struct Token {
    /// The federation's folder
    #[arg(long, env = "CONCORDAT_FOLDER", default_value = DEFAULT_FOLDER, value_name = "FOLDER")]
    folder: PathBuf,
    /// Who the token is about
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// The organisation in the token
    #[arg(long, value_name = "NAME")]
    organisation: Option<String>,
    /// A role in the token; may be given several times
    #[arg(long = "role", value_name = "NAME")]
    roles: Vec<String>,
    /// Binds the token to one purpose
    #[arg(long, value_name = "PURPOSE")]
    purpose: Option<String>,
    /// How long the token is valid
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=60))]
    minutes: u32,
}

pub(crate) fn run(token: Token) -> Result<()> {
    let path = Layout::new(&token.folder).client();
    let Some(file) = ClientFile::read(&path)?.issuer else {
        return Err(Failure::new(format!("{} names no [issuer]", path.display())).advice("get a token from your identity provider"));
    };
    let mut caller = file.caller();
    caller.subject = token.subject.unwrap_or(caller.subject);
    caller.organisation = token.organisation.unwrap_or(caller.organisation);
    if !token.roles.is_empty() {
        caller.roles = token.roles;
    }
    let issuer = Issuer::open(&file.key)?;
    let mut claims = issuer.claims(&caller, token.minutes, Utc::now());
    if let (Some(purpose), Some(claims)) = (token.purpose, claims.as_object_mut()) {
        claims.insert("purpose".into(), json!(purpose));
    }
    out::result(&format!("{}\n", issuer.sign(&claims)?))
}
