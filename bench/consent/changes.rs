//! What the gateway is told of whose choices reach other departments' data: of 1,000 changes, and of everybody.
//!
//! Bytes are those of the encoded messages, the signed statement among them, with the five that gRPC puts before each.

use std::path::Path;
use std::time::Instant;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use concordat_node::consent::Consent;
use concordat_node::consent::intake::{Intake, Raw};
use concordat_node::consent::ledger::Record;
use concordat_node::consent::reach::{Kind, Since};
use concordat_node::pseudonym::{DomainKey, Pseudonyms};
use concordat_policy::{Basis, IdentifierType, LinkageDomain, PurposeTree};
use concordat_proto::reach::Statement;
use concordat_proto::receipt::{AUDIENCE, LIFETIME, Receipt, Standing};
use concordat_proto::token::SigningKey;
use concordat_proto::v1;
use prost::Message as _;

use super::{TREE, name, nino};

/// People who change their minds: half of them withdraw, and half come back who had withdrawn.
const CHANGES: usize = 1_000;
/// What telling of them may cost at most, in bytes.
const BAR: usize = 100_000;
/// What gRPC puts before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// What was told: people, bytes and seconds.
struct Told {
    people: usize,
    bytes: usize,
    seconds: f64,
}

/// Measures in the ledger under `state`. What is beyond the bar.
pub(super) fn measure(state: &Path, subjects: usize) -> Option<String> {
    assert!(subjects >= CHANGES, "at least {CHANGES} subjects are needed");
    let consent = Consent::open(state, name("dhsc")).unwrap();
    // Spread over everybody, each once.
    let every_other = |first: usize| (first..CHANGES).step_by(2).map(|at| at * (subjects / CHANGES)).collect::<Vec<_>>();
    let (back, away) = (every_other(0), every_other(1));
    let version = consent.record(&chosen(&back, "withdrawn")).unwrap();
    let since = Since { version, moment: consent.catch_up().unwrap().snapshot.now() };
    consent.record(&[chosen(&back, "given"), chosen(&away, "withdrawn")].concat()).unwrap();
    let changes = told(&consent, Some(since));
    let whole = told(&consent, None);
    assert_eq!(changes.people, CHANGES, "each change is told once");
    for (what, Told { people, bytes, seconds }) in [("the changes", &changes), ("everybody", &whole)] {
        println!("told of {what}: {people} people, {bytes} bytes ({:.1} kB), made in {seconds:.2} s", *bytes as f64 / 1e3);
    }
    let bar = BAR / 1_000;
    println!(
        "{CHANGES} changes of {subjects} subjects cost {:.5} × the whole list; bar: {bar} kB, {}",
        changes.bytes as f64 / whole.bytes as f64,
        super::kept(changes.bytes <= BAR)
    );
    (changes.bytes > BAR).then(|| format!("{CHANGES} changes cost {} bytes, which is over {bar} kB", changes.bytes))
}

fn chosen(people: &[usize], event: &str) -> Vec<Record> {
    let intake = Intake::of(std::iter::once(IdentifierType::Nino), PurposeTree::parse(TREE).unwrap());
    let mut scratch = String::new();
    let mut record = |subject: &usize| {
        let identifier = nino(*subject);
        let raw = Raw { identifier: &identifier, identifier_type: "nino", purpose: "opportunity", event, ..Raw::default() };
        intake.record(raw, &mut scratch).unwrap()
    };
    people.iter().map(&mut record).collect()
}

/// As a node tells it, from its records to the messages.
fn told(consent: &Consent, since: Option<Since>) -> Told {
    let relevant = [name("opportunity.measure"), name("opportunity")];
    let domain = LinkageDomain { mission: name("m"), purpose: name("opportunity.measure"), epoch: 1, rotation: 0 };
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let signing = SigningKey::from_pkcs8(document.as_ref()).unwrap();
    let snapshot = consent.catch_up().unwrap().snapshot;
    let pseudonyms = Pseudonyms::derive(&DomainKey::new([7; 32]), &domain, &IdentifierType::Nino);
    let kind = Kind { label: "nino".into(), pseudonyms, view: snapshot.view("nino", relevant.iter()) };
    let began = Instant::now();
    let basis = Basis::Consent { text: "I agree".into() };
    let changes = consent.reach(since, snapshot.now(), &basis, &relevant, vec![kind]).unwrap();
    let people = changes.added.len() + changes.removed.len();
    let standing = |version: u64| Standing { generation: 1, version };
    let statement = Statement {
        iss: Receipt::issuer(&name("dhsc")),
        sub: "00000000-0000-0000-0000-000000000000".into(),
        aud: AUDIENCE.into(),
        nbf: snapshot.now(),
        exp: snapshot.now() + LIFETIME,
        domain: domain.to_string(),
        agreement_digest: "0".repeat(64),
        basis: v1::Basis::Consent.into(),
        since: since.map(|since| standing(since.version)),
        standing: standing(snapshot.version()),
        judged_at: snapshot.now(),
        rules: "0".repeat(64),
        changes_sha256: changes.digest(),
    };
    let messages = changes.messages(statement.sign(&signing).unwrap());
    let bytes = messages.map(|message| message.encode_to_vec().len() + PREFIX).sum();
    Told { people, bytes, seconds: began.elapsed().as_secs_f64() }
}
