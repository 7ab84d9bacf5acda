//! `concordat audit`: reads access logs, from running programs or on disk, compares what both sides say, and verifies them. For security
//! teams. Writes nothing but proofs, erasures and archives.

mod answer;
mod archive;
mod door;
mod filter;
mod form;
mod list;
mod online;
pub(crate) mod persons;
mod proof;
pub(crate) mod read;
mod receipt;
mod reconcile;
mod show;
mod tail;
pub(crate) mod used;
mod verify;

use clap::Subcommand;

use super::inert;
use crate::failure::Result;

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
    List(list::List),
    /// Show one query as a timeline: the gateway's entries and the nodes'
    #[command(after_help = "\
Examples:
  concordat audit show QUERY_ID
  concordat audit show QUERY_ID --log concordat-demo/gateway/log --node dfe=concordat-demo/nodes/dfe/log

Asks the gateway and every node of [[node]] in client.toml; exits 3 when one of them could not be read, after what the others say.
What has no checkpoint yet, for about a second, is not among it: at once after a query, ask again.
With --log and --node it reads files and asks nobody.")]
    Show(show::Show),
    /// Show the last entries of a log, and with --follow those that come
    #[command(after_help = "\
Examples:
  concordat audit tail --follow --decision deny
  concordat audit tail --log concordat-demo/gateway/log --follow --output json")]
    Tail(tail::Tail),
    /// Compare what nodes say they released with what the gateway says it received; exits 1 when they differ
    #[command(after_help = "\
Example:
  concordat audit reconcile --gateway concordat-demo/gateway/log --node dfe=concordat-demo/nodes/dfe/log

Compares rows, dataset, its freshness, the agreement's text and the consent ledger's version, order by order, and finds releases that one
side does not know or did not complete. Only departments whose log is named are compared. `discarded` is what was released for a query
that was then refused, by the gateway's own account; `given_up` what ended before a row left, by the department's; `open` what belongs to a
query that has not ended; `archived` what one side moved to an archive that no --archive names: they are listed, and are no differences.")]
    Reconcile(reconcile::Reconcile),
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

pub(crate) async fn run(audit: &Audit) -> Result<()> {
    match audit {
        Audit::List(list) => list::run(list).await,
        Audit::Show(show) => show::run(show).await,
        Audit::Tail(tail) => tail::run(tail).await,
        Audit::Reconcile(reconcile) => reconcile::run(reconcile),
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
