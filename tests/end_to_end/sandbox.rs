//! A private world: temporary folder, own CA and identity provider, child processes on free ports.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use chrono::Utc;
use concordat::client::{Answer, Client, ClientFile, Connection};
use concordat::failure::Failure;
use concordat::federation::describe::Caller;
use concordat::federation::{Authority, Federation, Issuer, Layout, make, node_server_name, sign_again};
use concordat::launch::Running;
use concordat::sample::{Sample, federation};
use concordat_audit::persons::Persons;
use concordat_policy::disclosure::{Dominance, Margins, Telling};
use concordat_policy::{Code, Disclosure};
use serde_json::Value;
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

pub struct Sandbox {
    pub layout: Layout,
    pub running: Running,
    pub issuer: Issuer,
    pub authority: Authority,
    pub sample: Sample,
    // Last, so that the children have ended when the folder goes.
    _folder: TempDir,
}

impl Sandbox {
    /// The sample federation with this many people, running. Its agreements tell numbers exactly where enough people stand behind
    /// them ([`exact`]), so that answers can be compared with the oracle's.
    pub async fn start(people: u64) -> Self {
        Self::with(people, |_| {}, |_| {}).await
    }

    /// The same, after `describe` has changed the federation's description ([`disclosing`]: other rules) and `files` the files made
    /// from it.
    pub async fn with(people: u64, describe: impl FnOnce(&mut Federation), files: impl FnOnce(&Layout)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let today = Utc::now().date_naive();
        let mut described = federation(today);
        disclosing(exact())(&mut described);
        // Who audits, each test says.
        described.auditor = None;
        describe(&mut described);
        let made = make(&described, &folder.path().join("world"), today).unwrap();
        let sample = Sample::of(people);
        sample.write(&made.layout).unwrap();
        files(&made.layout);
        let own = made.layout.folder().join("program");
        let running = Running::start(&if own.exists() { own } else { program() }, &made.layout).await.unwrap();
        Self { layout: made.layout, running, issuer: made.issuer, authority: made.authority, sample, _folder: folder }
    }

    /// The caller for whom the sample's agreements are made.
    pub fn caller(&self) -> Caller {
        Caller { subject: "analyst-1".into(), organisation: "mission-unit".into(), roles: vec!["analyst".into()], purpose: String::new() }
    }

    pub fn token(&self) -> String {
        self.issuer.token(&self.caller(), 10, Utc::now()).unwrap()
    }

    /// A good token's claims, changed.
    pub fn token_with(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.issuer.claims(&self.caller(), 10, Utc::now());
        change(&mut claims);
        self.issuer.sign(&claims).unwrap()
    }

    pub fn connection(&self) -> Connection {
        let file = ClientFile::read(&self.layout.client()).unwrap();
        Connection {
            gateway: self.running.gateway(),
            server_name: file.server_name,
            ca: std::fs::read_to_string(file.ca).unwrap(),
            token: Some(self.token()),
            purpose: Some("opportunity.measure".into()),
            mission: None,
        }
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.connection()).await.unwrap()
    }

    /// A client whose connection was changed.
    pub async fn client_with(&self, change: impl FnOnce(&mut Connection)) -> Client {
        let mut connection = self.connection();
        change(&mut connection);
        Client::connect(connection).await.unwrap()
    }

    pub async fn query(&self, sql: &str) -> Result<Answer, Failure> {
        self.client().await.query(sql).await
    }

    /// Has the gateway drain and end, as an operator would.
    pub async fn drained(&self) {
        self.stopped("gateway").await;
    }

    /// Has the gateway or a department's node stop as an operator does, and waits until it has ended.
    pub async fn stopped(&self, of: &str) {
        let id = self.running.process_id(of).unwrap();
        let sent = std::process::Command::new("kill").args(["-TERM", &id.to_string()]).status().unwrap();
        assert!(sent.success());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        // Until it is reaped, an ended child is a zombie.
        let ended = || std::fs::read_to_string(format!("/proc/{id}/stat")).map_or(true, |stat| stat.contains(") Z "));
        while !ended() {
            assert!(std::time::Instant::now() < deadline, "{of} does not end");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// A copy of an agreement: the gateway's, or a department's.
    pub fn copy(&self, of: &str, agreement: &str) -> PathBuf {
        let folder = if of == "gateway" { self.layout.estate() } else { self.layout.node(of) };
        folder.join(format!("agreements/{agreement}.toml"))
    }

    /// Edits a copy, and leaves its signatures as they are.
    pub fn edit(&self, of: &str, agreement: &str, from: &str, to: &str) {
        let path = self.copy(of, agreement);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
    }

    /// Signs a copy, as it is now, in the name of every party.
    pub fn sign(&self, of: &str, agreement: &str) {
        sign_again(&self.layout, &self.copy(of, agreement)).unwrap();
    }

    /// The entries of a log, `gateway` or a department's, as who may read its store sees them: with the `caller` behind each commitment.
    pub fn log(&self, of: &str) -> Vec<Value> {
        // First the entries: who is in them is in the store by then.
        let text = self.log_text(of);
        let persons = Persons::read(&self.folder(of).join("log")).unwrap().unwrap();
        let named = |line: &str| {
            let mut entry: Value = serde_json::from_str(line).unwrap();
            if let Some(named) = entry["person"].as_str().and_then(|person| persons.open(person)) {
                entry["caller"] = named.subject.as_str().into();
            }
            entry
        };
        text.lines().map(named).collect()
    }

    /// The entries as they stand in the log, one a line.
    pub fn log_text(&self, of: &str) -> String {
        let entries = concordat_audit::read(&self.folder(of).join("log"), 0).unwrap();
        entries.map(|entry| String::from_utf8(entry.unwrap().1).unwrap() + "\n").collect()
    }

    /// What a program wrote to its standard error: the gateway or a department's node.
    pub fn diagnostics(&self, of: &str) -> String {
        std::fs::read_to_string(self.folder(of).join("stderr.log")).unwrap()
    }

    fn folder(&self, of: &str) -> PathBuf {
        if of == "gateway" { self.layout.gateway() } else { self.layout.node(of) }
    }
}

/// The least that agreements can say of disclosure beside the minimum of subjects: every number is told as it is.
pub fn exact() -> Disclosure {
    Disclosure {
        dominance: BTreeSet::from([Dominance { largest: 2, share: 100 }]),
        p_percent: 0,
        round_to: 1,
        complement: Telling::Shown,
        homogeneous: Telling::Shown,
        zeros: Telling::Withheld,
        margins: Margins::Open,
        perturbation: None,
    }
}

/// For [`Sandbox::with`]: every agreement states these rules. `Disclosure::default()` are those of an agreement that states none.
pub fn disclosing(rules: Disclosure) -> impl FnOnce(&mut Federation) {
    move |federation| federation.agreements.iter_mut().for_each(|agreement| agreement.disclosure = rules.clone())
}

/// The `concordat` program that the suite built beside itself.
pub fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let built = own.parent().and_then(Path::parent).unwrap().join("concordat");
    assert!(built.exists(), "build it first: cargo build --release");
    built
}

/// Copies a folder as it is to another, which is made where there is none.
pub fn copied(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    assert!(std::process::Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap().success());
}

/// Asserts that something was refused, how and by whom.
#[track_caller]
pub fn refused<T>(outcome: Result<T, Failure>, code: Code, says: &str) -> Failure {
    let Err(failure) = outcome else { panic!("answered, but should have been refused with {code:?}") };
    assert_eq!(failure.code, Some(code), "{failure:?}");
    let text = format!("{} {}", failure.message, failure.advice.clone().unwrap_or_default());
    assert!(text.contains(says), "'{says}' is not in: {text}");
    failure
}

/// Waits until something is so, and fails after 20 s.
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !so() {
        assert!(std::time::Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// A connection to a node with a certificate, or none.
pub async fn node(sandbox: &Sandbox, department: &str, identity: Option<Identity>, ca: &str) -> Result<Channel, tonic::transport::Error> {
    let address = sandbox.running.nodes().find(|(d, _)| *d == department).unwrap().1.to_owned();
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name(node_server_name(department));
    if let Some(identity) = identity {
        tls = tls.identity(identity);
    }
    Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls)?.connect().await
}
