//! `concordat errors`: the one table of codes, exit codes, gRPC statuses and SQLSTATEs.

use clap::Args;
use concordat_proto::status::{grpc_name, table};
use serde_json::json;

use super::Output;
use crate::failure::{EXITS, Result};
use crate::out;
use crate::table::Table;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concordat errors
  concordat errors --output json
  concordat query --view coverage; [ $? = 11 ] && echo 'denied'

A refusal of the gateway or of a department has a code; it travels as the metadata x-concordat-code, its SQLSTATE as
x-concordat-sqlstate, the department whose rule it is as x-concordat-department, and the query id, under which the log and the operator's
diagnostics have it, as x-concordat-query-id. ADBC hands them on as the details of its error.")]
pub(crate) struct Errors {
    /// How to print the table
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

pub(crate) fn run(errors: &Errors) -> Result<()> {
    let refusals = table();
    match errors.output {
        Output::Json => {
            let local = EXITS.iter().map(|(exit, meaning)| json!({ "exit": exit, "meaning": meaning }));
            let refused = refusals.iter().map(|row| {
                let (grpc, code) = (grpc_name(row.grpc), row.code.as_str());
                json!({ "exit": row.exit, "code": code, "grpc": grpc, "sqlstate": row.sqlstate, "meaning": row.meaning })
            });
            out::result(&format!("{}\n", json!({ "errors": local.chain(refused).collect::<Vec<_>>() })))
        }
        Output::Table => {
            let local =
                EXITS.iter().map(|(exit, meaning)| [exit.to_string(), String::new(), String::new(), String::new(), (*meaning).into()]);
            let refused = refusals
                .iter()
                .map(|row| [row.exit.to_string(), row.code.as_str().into(), grpc_name(row.grpc), row.sqlstate.into(), row.meaning.into()]);
            let mut rows: Vec<Vec<String>> = local.chain(refused).map(Vec::from).collect();
            rows.sort_by_key(|row| row.first().and_then(|exit| exit.parse::<u8>().ok()));
            out::result(&Table::of(&["exit", "code", "gRPC status", "SQLSTATE", "meaning"], rows).text(out::colour()))
        }
    }
}
