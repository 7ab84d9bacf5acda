//! `concordat departments`: whether each department answers, and how fresh its data is.

use chrono::DateTime;
use clap::Args;
use concordat_proto::v1::DepartmentStatus;
use serde_json::json;

use super::Output;
use super::target::Target;
use crate::failure::Result;
use crate::out;
use crate::table::Table;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concordat departments
  concordat departments --output json

Lists the departments whose data you may use for the declared purpose: whether the node answers, the version of its consent
ledger, and when the oldest of its datasets last changed (UTC).")]
pub(crate) struct Departments {
    /// How to print the list
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(departments: Departments) -> Result<()> {
    let list = departments.target.connect().await?.departments().await?;
    match departments.output {
        Output::Json => {
            let list: Vec<_> = list.iter().map(to_json).collect();
            out::result(&format!("{}\n", json!({ "departments": list })))
        }
        Output::Table => {
            let row = |d: &DepartmentStatus| {
                let answers = if d.reachable { "yes".to_owned() } else { format!("no: {}", d.fault) };
                vec![d.id.clone(), d.title.clone(), answers, d.consent_version.to_string(), freshness(d).unwrap_or_default()]
            };
            let table = Table::of(&["department", "title", "answers", "consent version", "data of"], list.iter().map(row).collect());
            out::result(&table.text(out::colour()))
        }
    }
}

fn freshness(department: &DepartmentStatus) -> Option<String> {
    let known = department.reachable && department.freshness > 0;
    let time = DateTime::from_timestamp(department.freshness, 0).filter(|_| known)?;
    Some(time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn to_json(department: &DepartmentStatus) -> serde_json::Value {
    json!({
        "id": department.id,
        "title": department.title,
        "reachable": department.reachable,
        "fault": Some(&department.fault).filter(|fault| !fault.is_empty()),
        "consent_version": department.consent_version,
        "freshness": freshness(department),
    })
}
