//! Writes the proposed node's folder: configuration, keys, empty folders, and what people fill in.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::Wanted;
use super::keys::{self, Fingerprints};
use super::propose::{Left, Offered, Proposed, Subject};
use super::table::InspectError;
use crate::private;

/// What stands where people must decide; no configuration takes it.
const UNDECIDED: &str = "undecided";

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// The configuration.
    pub config: PathBuf,
    /// For the agreements' `[[party]]`.
    pub fingerprints: Fingerprints,
    /// The datasets.
    pub datasets: Vec<Proposed>,
    /// Tables that could not be read to the end.
    pub left_out: Vec<InspectError>,
}

/// A text as TOML writes it.
#[must_use]
pub fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A text in a comment: one line, whatever is in it.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

pub(super) fn write(wanted: &Wanted, datasets: Vec<Proposed>) -> Result<Written, InspectError> {
    datasets.iter().try_for_each(Proposed::check)?;
    let folder = wanted.folder.as_path();
    let failed = |path: &Path, e: std::io::Error| {
        InspectError::new(path.display(), format!("cannot be written: {e}"), "correct its permissions, or name another folder")
    };
    private::folder(folder).map_err(|e| failed(folder, e))?;
    for name in ["state", "log", "spill", "agreements"] {
        let path = folder.join(name);
        private::folder(&path).map_err(|e| failed(&path, e))?;
    }
    let fingerprints = keys::make(&folder.join("keys"))?;
    keys::certificate_request(&folder.join("tls"), wanted.department.as_str(), &wanted.server_name)?;
    let config = folder.join("node.toml");
    for (path, text) in [(&config, &text(wanted, &fingerprints, &datasets)), (&folder.join("purposes.toml"), &PURPOSES.to_owned())] {
        fs::write(path, text).map_err(|e| failed(path, e))?;
    }
    Ok(Written { config, fingerprints, datasets, left_out: Vec::new() })
}

const PURPOSES: &str = r#"# What data may be used for: the purposes that the parties agreed on, in the same words everywhere. Nothing is released for a
# purpose that does not stand here. A permission for a purpose covers the narrower ones below it, never the reverse.
#
# [[purpose]]
# id = "opportunity"
# title = "Breaking down barriers to opportunity"
#
# [[purpose]]
# id = "opportunity.measure"
# title = "Measuring outcomes of that mission"
# parent = "opportunity"
"#;

fn text(wanted: &Wanted, fingerprints: &Fingerprints, datasets: &[Proposed]) -> String {
    let mut text = format!(
        r#"# The node of '{department}', proposed by `concordat-node init`. Paths are relative to this file's folder.
#
# Nothing is shared: the folder of agreements is empty, and nothing is released that no agreement there permits. Everything below
# about columns is a guess from names and a sample of values: read it, and correct it. `concordat-node check` says what is missing.
department = {quoted}
listen = "127.0.0.1:7443"      # the address on which the gateway reaches this node; port 0 takes any free one
state = "state"                # ledger of consent, used orders, linkage keys, suspensions: keep it, back it up
log = "log"                    # the access log
spill = "spill"                # releases larger than memory, wiped afterwards
purposes = "purposes.toml"     # to fill in
agreements = "agreements"      # this department's own copies; there is none yet, so nothing is shared

[tls]
certificate = "tls/node.pem"   # to be issued: tls/node.csr.pem is the request for '{server_name}'
key = "tls/node.key.pem"
ca = "tls/ca.pem"              # to be added: the authority that issues the gateway's certificate

# Agreements name these keys by their fingerprints. Tell them to the other parties out of band:
#   signing_key = "{signing}"
#   linkage_key = "{linkage}"
[keys]
signing = "keys/signing.key.pem"
linkage = "keys/linkage.key"

[gateway]
certificates = []                        # to fill in: the fingerprint (sha256:…) of the gateway's client certificate; nobody may call before
order_key = "keys/gateway-order.spki"    # to be added: the gateway's public key for orders; confirm its fingerprint out of band

[administrators]
certificates = []                        # fingerprints of client certificates that may record consent over the network; nobody needs to

[auditors]
certificates = []                        # fingerprints of client certificates that may read the node's log over the network, and nothing else
"#,
        department = wanted.department,
        quoted = quoted(wanted.department.as_str()),
        server_name = plain(&wanted.server_name),
        signing = fingerprints.signing,
        linkage = fingerprints.linkage,
    );
    if let Some(connection) = &wanted.connection {
        let _ = write!(
            text,
            "\n# The role needs to read these tables and nothing else; `check` warns of what it could do beside that.\n{connection}"
        );
    }
    datasets.iter().for_each(|proposed| dataset(&mut text, proposed));
    text
}

fn dataset(text: &mut String, proposed: &Proposed) {
    let _ = writeln!(
        text,
        "\n[[dataset]]\nname = {}\ntitle = {}   # for people: say what it is",
        quoted(&proposed.name),
        quoted(&proposed.name)
    );
    for (key, value) in &proposed.source {
        let _ = writeln!(text, "{key} = {value}");
    }
    text.push_str("\n[dataset.identifier]\n");
    subject(text, proposed);
    text.push_str("\n# What is not listed here does not exist outside this department.\n[dataset.columns]\n");
    proposed.offered.iter().for_each(|column| offered(text, column));
    if !proposed.left.is_empty() {
        text.push_str("\n# Left out:\n");
    }
    proposed.left.iter().for_each(|column| left(text, column));
}

fn subject(text: &mut String, proposed: &Proposed) {
    match &proposed.subject {
        Subject::Clear(answer) => {
            let _ = writeln!(
                text,
                "# A guess: {}. A row must be about the person (or household, firm, place) of this identifier.\ncolumn = {}\ntype = {}",
                plain(&answer.why),
                quoted(&answer.column),
                quoted(answer.kind)
            );
        }
        Subject::Undecided(answers) => {
            text.push_str("# TO DECIDE, in place of the two lines below: whom or what is a row about? These are possible:\n");
            for answer in answers {
                let _ = writeln!(
                    text,
                    "#   column = {}\n#   type = {}   # {}",
                    plain(&quoted(&answer.column)),
                    quoted(answer.kind),
                    plain(&answer.why)
                );
            }
            let _ = writeln!(
                text,
                "# Another identifier of the parties' own: type = \"custom\", name = \"member\", pattern = \"[0-9]{{8}}\"\ncolumn = {undecided}\ntype = {undecided}",
                undecided = quoted(UNDECIDED)
            );
        }
    }
}

fn line(name: &str, source: &str, kind: concordat_policy::ColumnType, classification: concordat_policy::Classification) -> String {
    let other = if source == name { String::new() } else { format!(", source = {}", quoted(source)) };
    format!("{name} = {{ type = \"{kind}\", classification = \"{classification}\"{other} }}")
}

fn offered(text: &mut String, column: &Offered) {
    let _ = writeln!(text, "# {}: {}", column.classification, plain(&column.why));
    for note in &column.notes {
        let _ = writeln!(text, "#   {}", plain(note));
    }
    if let Some(values) = &column.values {
        let list = values.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(", ");
        let _ = writeln!(
            text,
            "#   if it is a code whose list may be published (each value stands for ten subjects or more): values = [{}]",
            plain(&list)
        );
    }
    let _ = writeln!(text, "{}", line(&column.name, &column.source, column.kind, column.classification));
}

fn left(text: &mut String, column: &Left) {
    let _ = writeln!(text, "# '{}': {}", plain(&column.source), plain(&column.why));
    if let Some((name, kind, classification)) = &column.could_be {
        let _ = writeln!(text, "#   {}", plain(&line(name, &column.source, *kind, *classification)));
    }
}
