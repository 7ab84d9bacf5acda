//! The configuration files as text: written for people, who read and change them afterwards.

mod disclosure;

use std::collections::BTreeMap;
use std::fmt::Write as _;

pub(crate) use concordat_node::init::quoted;
use concordat_policy::agreement::Fingerprint;
use concordat_policy::{Basis, Classification, Use};

use super::describe::{AgreedDataset, Agreement, Caller, Column, Dataset, Department, Federation, Identifier, Limits};
use super::issuer::{AUDIENCE, ISSUER};
use super::keys::Fingerprints;
use crate::failure::{Failure, Result};

fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| quoted(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

fn uses(uses: &[Use]) -> String {
    list(uses.iter().map(ToString::to_string))
}

fn classification(classification: Classification) -> &'static str {
    match classification {
        Classification::Public => "public",
        Classification::Personal => "personal",
        Classification::Special => "special",
    }
}

/// `node.toml`, with the fingerprints of the client certificates that may call.
pub(super) fn node(department: &Department, gateway: &Fingerprint, administrator: &Fingerprint, auditor: Option<&Fingerprint>) -> String {
    let auditors = auditor.map_or_else(String::new, |auditor| {
        let auditor = quoted(auditor.as_str());
        format!("\n[auditors]\ncertificates = [{auditor}]   # who may read this node's log and nothing else: tls/auditor.pem\n")
    });
    let memory = department.release_memory_mib.map_or_else(String::new, |mib| format!("release_memory_mib = {mib}\n"));
    let consent = department.consent.as_ref().map_or_else(String::new, |path| {
        format!("\n[consent]\n# Imported once, when the node starts; afterwards `concordat consent` records.\nimport = {}\n", quoted(path))
    });
    let mut text = format!(
        "# The node of: {title}. Paths are relative to this file's folder.
department = {id}
listen = \"127.0.0.1:0\"   # port 0: any free one; the address is written to state/address
state = \"state\"
log = \"log\"
spill = \"spill\"
purposes = \"purposes.toml\"
agreements = \"agreements\"   # this department's own copies: nothing is released that they do not permit
{memory}
[tls]
certificate = \"tls/node.pem\"
key = \"tls/node.key.pem\"
ca = \"tls/ca.pem\"

[keys]
signing = \"keys/signing.key.pem\"
linkage = \"keys/linkage.key\"

[gateway]
certificates = [{gateway}]   # who may send release orders; two during a renewal: add the new one, renew, remove the old
order_key = \"keys/gateway-order.spki\"            # whose signature they bear

[administrators]
certificates = [{administrator}]   # who may record consent over the network: tls/administrator.pem
{auditors}{consent}",
        title = department.title.replace(['\r', '\n'], " "),
        id = quoted(&department.id),
        gateway = quoted(gateway.as_str()),
        administrator = quoted(administrator.as_str()),
    );
    for dataset in &department.datasets {
        text.push_str(&node_dataset(dataset));
    }
    text
}

fn node_dataset(dataset: &Dataset) -> String {
    let mut text = format!(
        "\n[[dataset]]\nname = {}\ntitle = {}\nsource = {}\nformat = {}\n\n[dataset.identifier]\ncolumn = {}\n{}\n",
        quoted(&dataset.name),
        quoted(&dataset.title),
        quoted(&dataset.source),
        quoted(dataset.format.as_str()),
        quoted(&dataset.identifier_column),
        identifier(&dataset.identifier).join("\n"),
    );
    if let Some(linked) = &dataset.linked {
        let lines = identifier(&linked.identifier).join("\n");
        let _ =
            write!(text, "\n[dataset.linked]   # the second identifier of a link dataset\ncolumn = {}\n{lines}\n", quoted(&linked.column));
    }
    text.push_str("\n# Anything that is not listed here does not exist outside this department.\n[dataset.columns]\n");
    for column in &dataset.columns {
        let mut parts = column_parts(column);
        if let Some(source) = &column.source {
            parts.push(format!("source = {}", quoted(source)));
        }
        let _ = writeln!(text, "{} = {{ {} }}", column.name, parts.join(", "));
    }
    text
}

fn identifier(identifier: &Identifier) -> Vec<String> {
    let mut parts = vec![format!("type = {}", quoted(&identifier.kind))];
    parts.extend(identifier.name.iter().map(|name| format!("name = {}", quoted(name))));
    parts.extend(identifier.pattern.iter().map(|pattern| format!("pattern = {}", quoted(pattern))));
    parts
}

/// What node and agreement both state of a column.
fn column_parts(column: &Column) -> Vec<String> {
    let mut parts = vec![
        format!("type = {}", quoted(&column.kind.to_string())),
        format!("classification = {}", quoted(classification(column.classification))),
    ];
    parts.extend(column.title.iter().map(|title| format!("title = {}", quoted(title))));
    parts.extend(column.values.iter().map(|values| format!("values = {}", list(values))));
    parts
}

/// An agreement's document.
///
/// # Errors
/// When it names a party, dataset or column that nobody describes, or has more dominance rules than one.
pub fn agreement(agreement: &Agreement, departments: &[Department], keys: &BTreeMap<String, Fingerprints>) -> Result<String> {
    let mut text = format!(
        "id = {}\ntitle = {}\nmission = {}\npurposes = {}   # each with its narrower ones\nvalid_from = {}\nvalid_until = {}\nminimum_subjects = {}   # \
         numbers that rest on fewer people are withheld\n\n[linkage]\nkeyholder = {}   # makes the key of pseudonyms; the gateway never has it\nepoch_days = {}\n",
        quoted(&agreement.id),
        quoted(&agreement.title),
        quoted(&agreement.mission),
        list(&agreement.purposes),
        quoted(&agreement.valid_from.to_string()),
        quoted(&agreement.valid_until.to_string()),
        agreement.minimum_subjects,
        quoted(&agreement.keyholder),
        agreement.epoch_days,
    );
    text.push_str(&disclosure::disclosure(agreement)?);
    text.push_str(&agreement_limits(agreement));
    for department in parties(agreement) {
        let keys = keys.get(department).ok_or_else(|| unknown(agreement, department))?;
        let _ = write!(
            text,
            "\n[[party]]\ndepartment = {}\nsigning_key = {}\nlinkage_key = {}\n",
            quoted(department),
            quoted(keys.signing.as_str()),
            quoted(keys.linkage.as_str())
        );
    }
    for (organisation, roles) in &agreement.recipients {
        let _ = write!(text, "\n[[recipient]]\norganisation = {}\nroles = {}\n", quoted(organisation), list(roles));
    }
    for dataset in &agreement.datasets {
        text.push_str(&agreed_dataset(agreement, dataset, departments)?);
    }
    Ok(text)
}

/// The limits that an agreement states of its own.
fn agreement_limits(agreement: &Agreement) -> String {
    let limits = agreement.limits;
    let stated = [
        limit("requests_per_minute", limits.requests_per_minute),
        limit("concurrent_queries", limits.concurrent_queries),
        limit("rows_per_day", limits.rows_per_day),
        limit("releases_per_day", limits.releases_per_day),
    ];
    table("limits", &stated)
}

/// A line, where there is something to say.
fn limit<T: std::fmt::Display>(key: &str, value: Option<T>) -> String {
    value.map_or_else(String::new, |value| format!("{key} = {value}\n"))
}

/// A table of lines, where there are any.
fn table(name: &str, lines: &[String]) -> String {
    let lines = lines.concat();
    if lines.is_empty() { lines } else { format!("\n[{name}]\n{lines}") }
}

fn parties(agreement: &Agreement) -> Vec<&str> {
    let mut parties = vec![agreement.keyholder.as_str()];
    for dataset in &agreement.datasets {
        if !parties.contains(&dataset.department.as_str()) {
            parties.push(&dataset.department);
        }
    }
    parties
}

fn agreed_dataset(agreement: &Agreement, agreed: &AgreedDataset, departments: &[Department]) -> Result<String> {
    let department = departments.iter().find(|d| d.id == agreed.department);
    let dataset = department
        .and_then(|d| d.datasets.iter().find(|d| d.name == agreed.dataset))
        .ok_or_else(|| unknown(agreement, &format!("{}.{}", agreed.department, agreed.dataset)))?;
    let mut parts = identifier(&dataset.identifier);
    parts.push(format!("uses = {}", uses(&agreed.subject_uses)));
    let linked = dataset.linked.as_ref().map_or_else(String::new, |linked| {
        let parts = identifier(&linked.identifier).into_iter().chain([format!("uses = {}", uses(&agreed.linked_uses))]);
        format!("linked = {{ {} }}\n", parts.collect::<Vec<_>>().join(", "))
    });
    let basis = match &agreed.basis {
        Basis::Consent { text } => format!("basis = \"consent\"\nconsent_text = {}", quoted(text)),
        Basis::Statutory { power, honours_objections } => {
            format!("basis = \"statutory\"\npower = {}\nhonours_objections = {honours_objections}", quoted(power))
        }
    };
    let mut text = format!(
        "\n[[dataset]]\ndepartment = {}\nname = {}\n{basis}\nidentifier = {{ {} }}\n{linked}\n[dataset.columns]\n",
        quoted(&agreed.department),
        quoted(&agreed.dataset),
        parts.join(", "),
    );
    for (name, permitted) in &agreed.columns {
        let column = dataset.columns.iter().find(|c| c.name == *name);
        let column = column.ok_or_else(|| unknown(agreement, &format!("{}.{}.{name}", agreed.department, agreed.dataset)))?;
        // The uses stand first, and how far they go: they are what people decide about.
        let bands = column.bands.iter().filter(|_| permitted.contains(&Use::Filter));
        let limits = bands.flat_map(|bands| ["filter = \"bands\"".to_owned(), format!("bands = {}", list(bands))]);
        let line = std::iter::once(format!("uses = {}", uses(permitted))).chain(limits).chain(column_parts(column)).collect::<Vec<_>>();
        let _ = writeln!(text, "{name} = {{ {} }}", line.join(", "));
    }
    Ok(text)
}

fn unknown(agreement: &Agreement, what: &str) -> Failure {
    Failure::new(format!("agreement '{}' names '{what}', which nobody describes", agreement.id))
}

/// `gateway.toml`.
pub(super) fn gateway(federation: &Federation) -> String {
    let auditors = federation.auditor.as_ref().map_or_else(String::new, |auditor| {
        let role = |role: &String| {
            let (organisation, role) = (quoted(&auditor.organisation), quoted(role));
            let all = "all = true   # every entry; department = \"…\" in its place: what concerns that department";
            format!("\n[[auditors]]   # who may read the log\norganisation = {organisation}\nrole = {role}\n{all}\n")
        };
        auditor.roles.iter().map(role).collect()
    });
    format!(
        "# The gateway. Paths are relative to this file's folder.
listen = \"127.0.0.1:0\"   # port 0: any free one; the address is written to state/address
state = \"state\"
log = \"log\"
estate = \"../estate\"

[tls]   # towards callers
certificate = \"tls/gateway.pem\"
key = \"tls/gateway.key.pem\"

[nodes]   # towards the departments
certificate = \"tls/client.pem\"
key = \"tls/client.key.pem\"
ca = \"tls/ca.pem\"

[orders]
key = \"keys/order.key.pem\"

[[issuer]]   # whose tokens are believed
issuer = {}
audience = {}
jwks = \"../issuer/jwks.json\"
max_lifetime_seconds = 3600
{auditors}{}",
        quoted(ISSUER),
        quoted(AUDIENCE),
        gateway_limits(federation.limits),
    )
}

fn gateway_limits(limits: Limits) -> String {
    let all = [
        limit("memory_mib", limits.memory_mib),
        limit("deadline_seconds", limits.deadline_seconds),
        limit("answer_mib", limits.answer_mib),
        limit("unread_seconds", limits.unread_seconds),
        limit("concurrent_queries", limits.concurrent_queries),
        limit("wait_seconds", limits.wait_seconds),
    ];
    let caller = [
        limit("requests_per_minute", limits.caller_requests_per_minute),
        limit("concurrent_queries", limits.caller_concurrent_queries),
        limit("rows_per_day", limits.caller_rows_per_day),
    ];
    let detached = [limit("deadline_seconds", limits.detached_deadline_seconds), limit("keep_minutes", limits.detached_keep_minutes)];
    [table("limits", &all), table("limits.caller", &caller), table("limits.detached", &detached)].concat()
}

/// `departments.toml`. Addresses are filled in when the nodes have started.
pub(super) fn departments(federation: &Federation) -> String {
    let mut text = String::from("# The departments' nodes. `concordat up` writes the addresses after the nodes have started.\n");
    for department in &federation.departments {
        let _ = write!(
            text,
            "\n[[department]]\nid = {}\ntitle = {}\naddress = \"https://127.0.0.1:1\"\nserver_name = {}\n",
            quoted(&department.id),
            quoted(&department.title),
            quoted(&super::node_server_name(&department.id)),
        );
        if let Some(contact) = &department.contact {
            let _ = writeln!(text, "contact = {}", quoted(contact));
        }
    }
    text
}

/// `purposes.toml`.
pub(super) fn purposes(federation: &Federation) -> String {
    let mut text =
        String::from("# What data may be used for. A permission for a purpose covers the narrower ones below it, never the reverse.\n");
    for purpose in &federation.purposes {
        let _ = write!(text, "\n[[purpose]]\nid = {}\ntitle = {}\n", quoted(&purpose.id), quoted(&purpose.title));
        if let Some(parent) = &purpose.parent {
            let _ = writeln!(text, "parent = {}", quoted(parent));
        }
        if purpose.retired {
            text.push_str("retired = true\n");
        }
    }
    text
}

/// `missions.toml`.
pub(super) fn missions(federation: &Federation) -> String {
    federation.missions.iter().fold(String::from("# The missions.\n"), |mut text, mission| {
        let (id, title, goal) = (quoted(&mission.id), quoted(&mission.title), quoted(&mission.goal));
        let _ = write!(text, "\n[[mission]]\nid = {id}\ntitle = {title}\ngoal = {goal}\n");
        text
    })
}

/// `client.toml`.
pub(super) fn client(federation: &Federation) -> String {
    let auditor = federation.auditor.as_ref().map_or_else(String::new, |auditor| {
        format!("\n[auditor]   # as whom `concordat audit` reads the gateway's log here\n{}", issued(auditor))
    });
    format!(
        "# How `concordat query` reaches the gateway. Paths are relative to this file's folder.
gateway = \"https://127.0.0.1:1\"
server_name = {}
ca = \"../ca/ca.pem\"
purpose = {}   # declared where --purpose is not given

# Elsewhere an identity provider issues tokens: then remove [issuer], and name a token's file or where `concordat login` signs in.
# token_file = \"token.jwt\"
# [login]
# issuer = \"https://id.example\"
# client_id = \"concordat\"
[issuer]   # here every call gets a fresh token, signed with the key of the trial's own identity provider
{}{auditor}",
        quoted(super::GATEWAY_SERVER_NAME),
        quoted(&federation.caller.purpose),
        issued(&federation.caller),
    )
}

/// For whom the trial's own identity provider signs tokens.
fn issued(caller: &Caller) -> String {
    let Caller { subject, organisation, roles, .. } = caller;
    format!(
        "key = \"../issuer/issuer.key.pem\"\nsubject = {}\norganisation = {}\nroles = {}\n",
        quoted(subject),
        quoted(organisation),
        list(roles)
    )
}
