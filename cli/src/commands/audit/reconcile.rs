//! `concordat audit reconcile`: what departments' logs and the gateway's say of the same orders.

mod sides;

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::json;

use self::sides::{ARCHIVED, Compared, DISCARDED, Difference, GIVEN_UP, Period, Sides};
use super::form::{Form, rows};
use super::inert;
use super::read::{Archives, NodeLog};
use crate::failure::{Failure, Result};
use crate::out;

#[derive(Debug, Args)]
pub(crate) struct Reconcile {
    /// The folder of the gateway's log
    #[arg(long, value_name = "FOLDER")]
    gateway: PathBuf,
    /// A department and the folder of its node's log
    #[arg(long = "node", value_name = "DEPARTMENT=FOLDER", required = true)]
    nodes: Vec<NodeLog>,
    #[command(flatten)]
    archives: Archives,
    /// Not before this time
    #[arg(long, value_name = "TIME")]
    from: Option<DateTime<Utc>>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    to: Option<DateTime<Utc>>,
    /// How it is printed
    #[arg(long, value_enum, default_value = "table")]
    output: Form,
}

/// Compares the logs, and fails where they differ.
pub(super) fn run(of: &Reconcile) -> Result<()> {
    let Compared { orders, agreed, found } =
        Sides::of(&of.gateway, &of.nodes, &of.archives, Period { from: of.from, to: of.to })?.compare();
    let count = |kind: &str| found.iter().filter(|difference| difference.kind == kind).count();
    let [discarded, given_up, archived] = [DISCARDED, GIVEN_UP, ARCHIVED].map(count);
    let differ = found.iter().filter(|difference| difference.counts()).count();
    if of.output == Form::Json {
        let line = |d: &Difference| {
            let value = json!({
                "kind": d.kind, "query_id": d.query_id, "department": d.department, "dataset": d.dataset, "order": d.order,
                "node": d.node, "gateway": d.gateway,
            });
            inert::json(&value) + "\n"
        };
        out::result(&found.iter().map(line).collect::<String>())?;
    } else {
        let row = |d: Difference| vec![d.kind.to_owned(), d.query_id, d.department, d.dataset, d.order, d.node, d.gateway];
        let titles = ["kind", "query_id", "department", "dataset", "order", "node", "gateway"];
        out::result(&rows(of.output, true, &titles, found.into_iter().map(row).collect()))?;
    }
    out::progress(&format!("{orders} orders compared, {differ} differences: both sides say the same of {agreed}"));
    for (some, says) in [
        (discarded, "were discarded by the gateway's own account: that no answer rests on them, nothing here proves"),
        (given_up, "ended before a row left, by the departments' own accounts"),
        (archived, "are not judged: the entries of their time were moved to an archive; give --archive FOLDER"),
    ] {
        if some > 0 {
            out::progress(&format!("{some} orders {says}"));
        }
    }
    if orders == 0 {
        out::progress("nothing is shown by this: no order of these departments falls into the period");
    }
    if differ == 0 {
        return Ok(());
    }
    Err(Failure::new(format!("the departments' logs and the gateway's differ in {differ} points"))
        .advice("`concordat audit show QUERY_ID` tells what each log says; ask who runs the log that says less"))
}
