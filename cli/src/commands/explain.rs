//! `concordat explain`: whether a query would be answered, why, and what would be allowed instead.

mod request;
mod words;

use clap::Args;
use concordat_policy::Code;
use concordat_proto::status::exit_code;
use concordat_proto::v1::explain_response::Decision;
use concordat_proto::v1::{Denied, ExplainResponse};

use super::Output;
use super::query::{of_view, view_name};
use super::target::Target;
use crate::failure::{Failure, Result};
use crate::out;
use crate::parameters::Parameters;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concordat explain \"SELECT region, attainment8 FROM dfe.attainment\"
  concordat explain --view opportunity_by_region
  concordat explain --view cardiovascular_support --purpose health.prevention --output json
  concordat explain \"SELECT count(*) FROM dfe.attainment WHERE region = $region\" --param region=London

The gateway judges the query as it would to answer it, reads no data and asks no department. Permitted: each table's agreement and lawful
basis, the uses of columns that the query needs and those that the agreement grants, the rules that protect numbers and whose they
are, and what each department's node would be asked for. Denied: the one thing at fault and whose rule it is; and, where there is one,
the nearest query that would be permitted, which was judged as it stands.

Exits with 0 where the query would be permitted, else with the code that the query itself would end in (`concordat errors`). The
explanation stands in the gateway's log; `concordat why` tells it again.")]
#[group(skip)]
pub(crate) struct Explain {
    #[command(flatten)]
    question: Question,
    /// The value of a parameter $NAME of the SELECT; may be given several times
    #[arg(long = "param", value_name = "NAME=VALUE", conflicts_with = "view")]
    parameters: Vec<String>,
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    target: Target,
}

/// What is explained: one of the three.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Question {
    /// One SELECT
    #[arg(value_name = "SELECT")]
    statement: Option<String>,
    /// An outcome view of the estate
    #[arg(long, value_name = "NAME", value_parser = view_name)]
    view: Option<String>,
    /// One SELECT, as for `concordat query`
    #[arg(long, value_name = "SELECT")]
    sql: Option<String>,
}

pub(crate) async fn run(explain: Explain) -> Result<()> {
    let Question { statement, view, sql } = explain.question;
    let sql = view.as_deref().map(of_view).or(statement).or(sql).unwrap_or_default();
    let parameters = Parameters::parse(&explain.parameters)?;
    let explained = explain.target.connect().await?.explain_with(&sql, &parameters).await?;
    match explain.output {
        Output::Json => out::result(&format!("{}\n", words::to_json(&explained)?))?,
        Output::Table => out::result(&words::text(&explained)?)?,
    }
    outcome(explained)
}

/// How the command ends: like the query would.
fn outcome(explained: ExplainResponse) -> Result<()> {
    match explained.decision {
        Some(Decision::Permitted(_)) => Ok(()),
        Some(Decision::Denied(Denied { code, .. })) => {
            let code = Code::parse(&code);
            let failure = Failure::new("the query would be refused");
            Err(Failure { exit: code.map_or(failure.exit, exit_code), code, query_id: Some(explained.query_id), ..failure })
        }
        None => Err(Failure::new("the gateway explained nothing").advice("this program may be older than the gateway")),
    }
}
