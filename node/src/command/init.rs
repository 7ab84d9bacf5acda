//! `init`: from existing data to a node's folder that shares nothing.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use concordat_policy::Name;

use super::{eprint, print};
use crate::init::databases::{self, Reached};
use crate::init::{Proposed, Subject, Wanted, Written, files, init};

/// What a node is made from.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where the data is: a CSV or Parquet file, a folder of them, postgresql://role@host:port/database, mysql://user@host:port/database, sqlite:file or,
    /// where this program has ODBC, odbc:Driver={…};Server=…;UID=…. It is only read, and stays where it is.
    #[arg(long, value_name = "FOLDER|FILE|URL")]
    pub from: String,
    /// With a database: a file of mode 0600 that holds the role's password.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// With a database: the authorities of its certificate, in PEM.
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// With a database on this machine's own loopback: without TLS.
    #[arg(long)]
    pub plaintext: bool,
    /// By ODBC: the driver protects the connection, or reads a file. Needed where the keywords alone do not tell.
    #[arg(long)]
    pub protected_by_driver: bool,
    /// The department's name, as agreements write it, for example dfe.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub department: Name,
    /// The folder to make.
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// The DNS name for the node's certificate [default: DEPARTMENT.node.concordat.internal].
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
}

fn name(text: &str) -> Result<Name, String> {
    match Name::parse(text) {
        Ok(name) if concordat_policy::agreement::column_name_ok(text) => Ok(name),
        _ => Err("a department's name stands in SQL: write it with a-z, 0-9 and _, a letter first".into()),
    }
}

pub(super) async fn run(args: InitArgs) -> miette::Result<()> {
    let server_name = args.server_name.unwrap_or_else(|| format!("{}.node.concordat.internal", args.department));
    let mut wanted = Wanted { department: args.department, folder: args.out, server_name, connection: None };
    let (tables, unreadable) = if databases::is_address(&args.from) {
        let reached = Reached {
            url: args.from,
            password_file: args.password_file,
            ca: args.tls_ca,
            plaintext: args.plaintext,
            protected_by_driver: args.protected_by_driver,
        };
        let offer = databases::tables(&reached).await?;
        wanted.connection = Some(offer.connection);
        (offer.tables, offer.unreadable)
    } else {
        (files::tables(&PathBuf::from(args.from)).await?, Vec::new())
    };
    let written = init(&wanted, tables).await?;
    for table in unreadable {
        eprint(&format!("left out table {table}: the role may not read it, or not all of its columns"));
    }
    for table in &written.left_out {
        eprint(&format!("left out {table} ({})", table.remedy));
    }
    print(&told(&wanted, &written))
}

fn told(wanted: &Wanted, written: &Written) -> String {
    let mut text = String::new();
    written.datasets.iter().for_each(|dataset| of_dataset(&mut text, dataset));
    let undecided: Vec<&str> =
        written.datasets.iter().filter(|d| matches!(d.subject, Subject::Undecided(_))).map(|dataset| dataset.name.as_str()).collect();
    let (config, folder) = (written.config.display(), wanted.folder.display());
    let _ = write!(
        text,
        "
{config} is written, and nothing is shared. What remains, and `concordat-node check --config {config}` tells:

  certificate   have {folder}/tls/node.csr.pem signed as {folder}/tls/node.pem; put the authority's into {folder}/tls/ca.pem
  gateway       the fingerprint of its client certificate into [gateway] certificates, its order key into
                {folder}/keys/gateway-order.spki; confirm both out of band
  purposes      {folder}/purposes.toml
"
    );
    if !undecided.is_empty() {
        let _ = writeln!(text, "  identifier    of {}: decide whom or what a row is about", undecided.join(", "));
    }
    let _ = write!(
        text,
        "
Then read every column's classification. An agreement goes into {folder}/agreements when it is made, and binds this department
when it is signed: concordat-node agreement sign AGREEMENT --config {config}. The other parties need:

  signing_key = \"{}\"
  linkage_key = \"{}\"
",
        written.fingerprints.signing, written.fingerprints.linkage
    );
    text
}

fn of_dataset(text: &mut String, dataset: &Proposed) {
    let subject = match &dataset.subject {
        Subject::Clear(answer) => format!("identified by '{}' ({})", answer.column, answer.kind),
        Subject::Undecided(_) => "identifier undecided".into(),
    };
    let _ = writeln!(text, "{}: {} column(s) offered, {} left out; {subject}", dataset.name, dataset.offered.len(), dataset.left.len());
    if let Some((rows, valid)) = dataset.rows() {
        let _ = writeln!(text, "  {valid} of {rows} row(s) have a valid identifier");
    }
    for left in &dataset.left {
        let _ = writeln!(text, "  left out '{}': {}", left.source.escape_debug(), left.why);
    }
}
