//! `concordat audit`: reads access logs, from running programs or on disk, compares what both sides say, and verifies them. For security
//! teams. Writes nothing but proofs, erasures and archives.

mod answer;
mod archive;
mod door;
mod inert;
mod list;
mod online;
pub(crate) mod persons;
mod proof;
pub(crate) mod read;
mod receipt;
mod reconcile;
mod tail;
pub(crate) mod used;
mod verify;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use concordat_audit::facts::{Asked, Facts, datasets};
use serde_json::{Value, json};

use self::door::Doors;
use self::list::{Filter, Form, printed, rows};
use self::persons::Names;
use self::read::{Archives, NodeLog, entries, of_query, text, time};
use self::reconcile::{ARCHIVED, Difference, Period, Sides};
use self::tail::Tail;
use crate::failure::{Failure, Result};
use crate::out;

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// List entries of a log, the latest that are asked for
    #[command(after_help = "\
Examples:
  concordat audit list --decision deny --from 2027-04-01T00:00:00Z
  concordat audit list --at dfe --event release.completed
  concordat audit list --log concordat-demo/gateway/log --dataset dwp.claims --output csv

Asks the gateway, whose [[auditors]] name who may read; with --at a department's node, by a certificate that the node names; with --log
it reads files and asks nobody. Each reading stands in the log that was read, as log.read. An entry that ends a query is listed with the caller, organisation and purpose of the one that opened it.")]
    List(List),
    /// Show one query as a timeline: the gateway's entries and the nodes'
    #[command(after_help = "\
Examples:
  concordat audit show QUERY_ID
  concordat audit show QUERY_ID --log concordat-demo/gateway/log --node dfe=concordat-demo/nodes/dfe/log

Asks the gateway and every node of [[node]] in client.toml; exits 3 when one of them could not be read, after what the others say.
What has no checkpoint yet, for about a second, is not among it: at once after a query, ask again.
With --log and --node it reads files and asks nobody.")]
    Show(Show),
    /// Show the last entries of a log, and with --follow those that come
    #[command(after_help = "\
Examples:
  concordat audit tail --follow --decision deny
  concordat audit tail --log concordat-demo/gateway/log --follow --output json")]
    Tail(Tail),
    /// Compare what nodes say they released with what the gateway says it received; exits 1 when they differ
    #[command(after_help = "\
Example:
  concordat audit reconcile --gateway concordat-demo/gateway/log --node dfe=concordat-demo/nodes/dfe/log

Compares rows, dataset, its freshness, the agreement's text and the consent ledger's version, order by order, and finds releases that one
side does not know or did not complete. Only departments whose log is named are compared. `discarded` is what was released for a query
that was then refused, `open` what belongs to one that has not ended, `archived` what one side moved to an archive that no --archive names:
they are listed, and are no differences.")]
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
    /// The folder of a gateway's or node's log; without it, the running program is asked
    #[arg(long, value_name = "FOLDER")]
    log: Option<PathBuf>,
    /// Without --log: the department whose node is asked, instead of the gateway
    #[arg(long, value_name = "DEPARTMENT", conflicts_with = "log")]
    at: Option<String>,
    #[command(flatten)]
    archives: Archives,
    #[command(flatten)]
    doors: Doors,
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
    /// The folder of the gateway's log; without it, the running programs are asked
    #[arg(long, value_name = "FOLDER")]
    log: Option<PathBuf>,
    /// With --log: a department and the folder of its node's log
    #[arg(long = "node", value_name = "DEPARTMENT=FOLDER", requires = "log")]
    nodes: Vec<NodeLog>,
    #[command(flatten)]
    archives: Archives,
    #[command(flatten)]
    doors: Doors,
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
        Audit::List(list) => latest(list).await,
        Audit::Show(show) => timeline(show).await,
        Audit::Tail(tail) => tail::run(tail).await,
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

async fn latest(list: &List) -> Result<()> {
    let (entries, more) = match &list.log {
        Some(log) => of_files(list, log)?,
        None => {
            let door = list.doors.one(list.at.as_deref()).await?;
            let online::Listed { entries, more, .. } = online::list(&door, &list.filter, list.limit).await?;
            (entries, more)
        }
    };
    out::result(&printed(list.output, true, &entries))?;
    if more {
        out::progress("earlier entries are left out: --limit");
    }
    Ok(())
}

/// The last entries of a folder that are asked for, and whether there are earlier ones.
fn of_files(list: &List, log: &Path) -> Result<(Vec<Value>, bool)> {
    let (mut asked, mut found, mut left_out, filter) = (Asked::default(), VecDeque::new(), false, list.filter.asked());
    let names = Names::of(log);
    for entry in entries(log, &list.archives, 0)? {
        let (_, mut entry) = entry?;
        let facts = asked.complete(Facts::of(&entry));
        if filter.takes(&facts) {
            facts.fill(&mut entry);
            found.push_back(names.name(entry));
        }
        if found.len() as u64 > u64::from(list.limit) {
            found.pop_front();
            left_out = true;
        }
    }
    Ok((found.into(), left_out))
}

async fn timeline(show: &Show) -> Result<()> {
    let Some(log) = &show.log else {
        let timeline = online::timeline(&show.doors, &show.query_id).await?;
        if timeline.entries.is_empty() {
            return Err(unfound(&show.query_id, "no log that you may read"));
        }
        told(show.output, timeline.entries.clone(), &timeline.unread())?;
        return timeline.complete();
    };
    let logs = std::iter::once(("gateway", log)).chain(show.nodes.iter().map(|node| (node.department.as_str(), &node.folder)));
    let mut found: Vec<(String, Value)> = Vec::new();
    for (who, log) in logs {
        found.extend(of_query(log, &show.archives, &show.query_id)?.into_iter().map(|entry| (who.to_owned(), entry)));
    }
    if found.is_empty() {
        return Err(unfound(&show.query_id, "no log that is named"));
    }
    told(show.output, found, &[])
}

fn unfound(query_id: &str, nowhere: &str) -> Failure {
    Failure::new(format!("{nowhere} has an entry of the query '{}'", inert::inert(query_id)))
        .advice("the query id stands in answers, refusals and explanations; --log is the gateway's folder, --node a department's")
}

/// Prints what each side says, by time, and in JSON also whose log could not be read.
fn told(form: Form, mut found: Vec<(String, Value)>, unread: &[(String, String)]) -> Result<()> {
    // Stable: each log's own order stays where times are the same.
    found.sort_by_key(|(_, entry)| time(entry));
    let first = found.first().and_then(|(_, entry)| time(entry));
    let after = |entry: &Value| time(entry).zip(first).map(|(time, first)| (time - first).num_milliseconds());
    if form == Form::Json {
        let line =
            |(who, entry): &(String, Value)| inert::json(&json!({ "log": who, "after_milliseconds": after(entry), "entry": entry })) + "\n";
        let missing = unread.iter().map(|(who, cause)| inert::json(&json!({ "log": who, "unread": cause })) + "\n");
        return out::result(&found.iter().map(line).chain(missing).collect::<String>());
    }
    let told = found.iter().map(|(who, entry)| {
        let after = after(entry).map(|milliseconds| milliseconds.to_string());
        let field = |name: &str| entry.get(name).map_or_else(String::new, |v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
        let event = text(entry, "event").unwrap_or_default().to_owned();
        let datasets = datasets(entry).into_iter().collect::<Vec<_>>().join(" ");
        let (after, caller) = (after.unwrap_or_default(), persons::caller(entry));
        vec![who.clone(), field("entry"), field("time"), after, event, caller, datasets, field("rows"), field("code")]
    });
    out::result(&rows(form, true, &["log", "entry", "time", "ms", "event", "caller", "datasets", "rows", "code"], told.collect()))
}

fn compare(of: &Reconcile) -> Result<()> {
    let (compared, found) = Sides::of(&of.gateway, &of.nodes, &of.archives, Period { from: of.from, to: of.to })?.compare();
    let differ = found.iter().filter(|difference| difference.counts()).count();
    let archived = found.iter().filter(|difference| difference.kind == ARCHIVED).count();
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
    if archived > 0 {
        out::progress(&format!(
            "{archived} orders are not judged: the entries of their time were moved to an archive; give --archive FOLDER"
        ));
    }
    if compared == 0 {
        out::progress("nothing is shown by this: no order of these departments falls into the period");
    }
    if differ == 0 {
        return Ok(());
    }
    Err(Failure::new(format!("the departments' logs and the gateway's differ in {differ} points"))
        .advice("`concordat audit show QUERY_ID` tells what each log says; ask who runs the log that says less"))
}
