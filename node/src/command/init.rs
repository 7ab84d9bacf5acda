//! `init`: from existing data to a node's folder that shares nothing.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use concordat_policy::Name;

use super::print;
use crate::init::{InspectError, Proposed, Subject, Table, Wanted, Written, files, init};

/// What a node is made from.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where the data is: a CSV or Parquet file, or a folder of them. It is only read, and stays where it is.
    #[arg(long, value_name = "FOLDER|FILE")]
    pub from: String,
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
    let wanted = Wanted { department: args.department, folder: args.out, server_name };
    let written = init(&wanted, tables(&args.from).await?).await?;
    print(&told(&wanted, &written))
}

/// The tables at `from`.
async fn tables(from: &str) -> Result<Vec<Table>, InspectError> {
    if let Some((scheme, _)) = from.split_once("://") {
        // The rest of the address may hold a password.
        return Err(InspectError::new(
            "--from",
            format!("init does not read {scheme}: addresses"),
            "name a folder of CSV or Parquet files, or one of them",
        ));
    }
    files::tables(&PathBuf::from(from)).await
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
Then read every column's classification, and put agreements into {folder}/agreements when they are made. The other parties need:

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
