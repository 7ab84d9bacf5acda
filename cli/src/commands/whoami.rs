//! `concordat whoami`: whom the gateway takes the caller for.

use chrono::DateTime;
use clap::Args;
use concordat_proto::v1::WhoAmIResponse;
use serde_json::json;

use super::Output;
use super::inert::{self, inert};
use super::target::Target;
use crate::failure::Result;
use crate::out;
use crate::table::Table;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concordat whoami
  concordat whoami --output json

Asks the gateway, which checks the token: who you are to it, for which purposes you may use data now, and of which datasets your
organisation may know that they exist: ask their departments for an agreement.")]
pub(crate) struct Whoami {
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(whoami: Whoami) -> Result<()> {
    let caller = whoami.target.connect().await?.who_am_i().await?;
    if whoami.output == Output::Json {
        return out::result(&(inert::json(&to_json(&caller)) + "\n"));
    }
    let known = [
        ("user", caller.subject.clone()),
        ("of", caller.organisation.clone()),
        ("roles", caller.roles.join(", ")),
        ("issuer", caller.issuer.clone()),
        ("token expires", expires(&caller)),
        ("bound to purpose", Some(caller.bound_purpose.clone()).filter(|p| !p.is_empty()).unwrap_or_else(|| "none".into())),
    ];
    let known = known.into_iter().map(|(what, value)| vec![what.to_owned(), inert(&value)]).collect();
    out::result(&Table::of(&["whom the gateway takes you for", ""], known).text(out::colour()))?;
    let purposes = caller.purposes.iter().map(|p| shown([&p.id, &p.title, &p.missions.join(", ")])).collect();
    out::result(&format!("\n{}", Table::of(&["purpose you may declare", "title", "mission"], purposes).text(out::colour())))?;
    if caller.known.is_empty() {
        return Ok(());
    }
    let datasets = caller.known.iter().map(|d| shown([&d.dataset, &d.department_title, &d.contact])).collect();
    out::result(&format!("\n{}", Table::of(&["dataset that exists", "of", "ask"], datasets).text(out::colour())))
}

fn shown(texts: [&String; 3]) -> Vec<String> {
    texts.map(|text| inert(text)).into()
}

fn expires(caller: &WhoAmIResponse) -> String {
    DateTime::from_timestamp(caller.expires, 0).map(|time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default()
}

fn to_json(caller: &WhoAmIResponse) -> serde_json::Value {
    let purposes: Vec<_> = caller.purposes.iter().map(|p| json!({ "id": p.id, "title": p.title, "missions": p.missions })).collect();
    let contact = |contact: &str| Some(contact.to_owned()).filter(|contact| !contact.is_empty());
    let known: Vec<_> = caller
        .known
        .iter()
        .map(|d| json!({ "dataset": d.dataset, "department_title": d.department_title, "contact": contact(&d.contact) }))
        .collect();
    json!({
        "issuer": caller.issuer,
        "subject": caller.subject,
        "organisation": caller.organisation,
        "roles": caller.roles,
        "bound_purpose": Some(&caller.bound_purpose).filter(|purpose| !purpose.is_empty()),
        "expires": expires(caller),
        "purposes": purposes,
        "known": known,
    })
}
