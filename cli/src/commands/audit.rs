//! `concordat audit`: reads access logs on disk, compares what both sides say, and verifies them. For security teams. Asks nobody but for
//! receipts, and writes nothing but proofs, erasures and archives.

mod answer;
mod archive;
mod inert;
mod list;
pub(crate) mod persons;
mod proof;
pub(crate) mod read;
mod receipt;
mod reconcile;
mod tail;
mod verify;

use std::collections::VecDeque;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use self::list::{Asked, Filter, Form, printed, rows};
use self::persons::Names;
use self::read::{Archives, NodeLog, entries, of_query, text, time};
use self::reconcile::{Difference, Period, Sides};
use self::tail::Tail;
use crate::failure::{Failure, Result};
use crate::out;

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// List entries of a log, the latest that are asked for
    #[command(after_help = "\
Example:
  concordat audit list --log concordat-demo/gateway/log --decision deny --from 2027-04-01T00:00:00Z

An entry that ends a query is listed with the caller, organisation and purpose of the one that opened it.")]
    List(List),
    /// Show one query as a timeline: the gateway's entries and the nodes'
    #[command(after_help = "\
Example:
  concordat audit show QUERY_ID --log concordat-demo/gateway/log --node dfe=concordat-demo/nodes/dfe/log")]
    Show(Show),
    /// Show the last entries of a log, and with --follow those that come
    #[command(after_help = "\
Example:
  concordat audit tail --log concordat-demo/gateway/log --follow --output json")]
    Tail(Tail),
    /// Compare what nodes say they released with what the gateway says it received; exits 1 when they differ
    #[command(after_help = "\
Example:
  concordat audit reconcile --gateway concordat-demo/gateway/log --node dfe=concordat-demo/nodes/dfe/log

Compares rows, dataset, its freshness, the agreement's text and the consent ledger's version, order by order, and finds releases that one
side does not know or did not complete. Only departments whose log is named are compared. `discarded` is what was released for a query
that was then refused, `open` what belongs to one that has not ended: both are listed, and are no differences.")]
    Reconcile(Reconcile),
    /// Prove that nobody edited a log: from its folder and keys alone, without any service
    Verify(verify::Verify),
    /// Move old entries of a log to an archive, where they can still be read and verified
    Archive(archive::Archive),
    /// Tell by which commitment a log knows a caller
    Person(persons::Person),
    /// Tell who the caller behind a commitment is
    Who(persons::Who),
    /// Make it impossible for everybody to tell who the caller behind a commitment is
    ErasePerson(persons::ErasePerson),
    /// Fetch the proof that a query stands in the gateway's log, to hand to someone else
    Receipt(receipt::Fetch),
    /// Verify such a proof offline, with keys alone
    VerifyReceipt(receipt::VerifyReceipt),
    /// Make proofs from a log's folder: that an entry is in it, that an older log is its beginning
    Proof(proof::Proof),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// The folder of a gateway's or node's log
    #[arg(long, value_name = "FOLDER")]
    log: PathBuf,
    #[command(flatten)]
    archives: Archives,
    #[command(flatten)]
    filter: Filter,
    /// The most entries
    #[arg(long, default_value_t = 1000, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    /// How it is printed
    #[arg(long, value_enum, default_value = "table")]
    output: Form,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// What an answer, a refusal or an explanation gave as its query id
    #[arg(value_name = "QUERY_ID")]
    query_id: String,
    /// The folder of the gateway's log
    #[arg(long, value_name = "FOLDER")]
    log: PathBuf,
    /// A department and the folder of its node's log
    #[arg(long = "node", value_name = "DEPARTMENT=FOLDER")]
    nodes: Vec<NodeLog>,
    #[command(flatten)]
    archives: Archives,
    /// How it is printed
    #[arg(long, value_enum, default_value = "table")]
    output: Form,
}

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

pub(crate) async fn run(audit: &Audit) -> Result<()> {
    match audit {
        Audit::List(list) => latest(list),
        Audit::Show(show) => timeline(show),
        Audit::Tail(tail) => tail::run(tail),
        Audit::Reconcile(reconcile) => compare(reconcile),
        Audit::Verify(verify) => verify::run(verify),
        Audit::Archive(archive) => archive::run(archive),
        Audit::Person(person) => persons::person(person),
        Audit::Who(who) => persons::who(who),
        Audit::ErasePerson(erase) => persons::erase_person(erase),
        Audit::Receipt(fetch) => receipt::fetch(fetch).await,
        Audit::VerifyReceipt(verify) => receipt::verify(verify),
        Audit::Proof(proof) => proof::run(proof),
    }
}

fn latest(list: &List) -> Result<()> {
    let (mut asked, mut found, mut left_out) = (Asked::default(), VecDeque::new(), 0_u64);
    let names = Names::of(&list.log);
    for entry in entries(&list.log, &list.archives, 0)? {
        let entry = asked.complete(names.name(entry?.1));
        if list.filter.takes(&entry) {
            found.push_back(entry);
        }
        if found.len() as u64 > u64::from(list.limit) {
            found.pop_front();
            left_out = left_out.saturating_add(1);
        }
    }
    out::result(&printed(list.output, true, found.make_contiguous()))?;
    if left_out > 0 {
        out::progress(&format!("{left_out} earlier entries are left out: --limit"));
    }
    Ok(())
}

fn timeline(show: &Show) -> Result<()> {
    let logs = std::iter::once(("gateway", &show.log)).chain(show.nodes.iter().map(|node| (node.department.as_str(), &node.folder)));
    let mut found: Vec<(&str, Value)> = Vec::new();
    for (who, log) in logs {
        found.extend(of_query(log, &show.archives, &show.query_id)?.into_iter().map(|entry| (who, entry)));
    }
    if found.is_empty() {
        return Err(Failure::new(format!("no log that is named has an entry of the query '{}'", inert::inert(&show.query_id)))
            .advice("the query id stands in answers, refusals and explanations; --log is the gateway's folder, --node a department's"));
    }
    // Stable: each log's own order stays where times are the same.
    found.sort_by_key(|(_, entry)| time(entry));
    let first = found.first().and_then(|(_, entry)| time(entry));
    let after = |entry: &Value| time(entry).zip(first).map(|(time, first)| (time - first).num_milliseconds());
    if show.output == Form::Json {
        let line =
            |(who, entry): &(&str, Value)| inert::json(&json!({ "log": who, "after_milliseconds": after(entry), "entry": entry })) + "\n";
        return out::result(&found.iter().map(line).collect::<String>());
    }
    let told = found.iter().map(|(who, entry)| {
        let after = after(entry).map(|milliseconds| milliseconds.to_string());
        let field = |name: &str| entry.get(name).map_or_else(String::new, |v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
        let event = text(entry, "event").unwrap_or_default().to_owned();
        let datasets = read::datasets(entry).into_iter().collect::<Vec<_>>().join(" ");
        let (after, caller) = (after.unwrap_or_default(), persons::caller(entry));
        vec![(*who).to_owned(), field("entry"), field("time"), after, event, caller, datasets, field("rows"), field("code")]
    });
    out::result(&rows(show.output, true, &["log", "entry", "time", "ms", "event", "caller", "datasets", "rows", "code"], told.collect()))
}

fn compare(of: &Reconcile) -> Result<()> {
    let (compared, found) = Sides::of(&of.gateway, &of.nodes, &of.archives, Period { from: of.from, to: of.to })?.compare();
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
    out::progress(&format!("{compared} orders compared, {differ} differences"));
    if compared == 0 {
        out::progress("nothing is shown by this: no order of these departments falls into the period");
    }
    if differ == 0 {
        return Ok(());
    }
    Err(Failure::new(format!("the departments' logs and the gateway's differ in {differ} points"))
        .advice("`concordat audit show QUERY_ID` tells what each log says; ask who runs the log that says less"))
}
