//! A private world for tests: one department's folder with keys, certificates, agreement, purposes, data and configuration, and
//! a gateway that can sign orders for it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use concordat_policy::agreement::{Fingerprint, hex};
use concordat_policy::{Agreement, LinkageDomain, Name, Revocations, Seen, Signatures};
use concordat_proto::order::{Confirmation, ISSUER, Order, digest};
use concordat_proto::signature::{self, files, kept};
use concordat_proto::token::SigningKey;
use concordat_proto::v1;
use prost::Message as _;
use tempfile::TempDir;

use crate::linkage::Keypair;
use crate::node::Node;

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A certificate and its key, in PEM, and its fingerprint.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) fingerprint: Fingerprint,
}

pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) gateway: Identity,
    pub(crate) administrator: Identity,
    pub(crate) stranger: Identity,
    pub(crate) ca: String,
    pub(crate) orders: SigningKey,
    pub(crate) agreement: Agreement,
    pub(crate) signing: SigningKey,
}

pub(crate) const PURPOSES: &str = r#"
purpose = [
  { id = "opportunity", title = "Opportunity" },
  { id = "opportunity.measure", title = "Measure", parent = "opportunity" },
  { id = "health", title = "Health" },
]"#;

pub(crate) const DATA: &str = "\
nino,REGION,score,cohort,fsm,born,secret
AB100001A,London,1.5,2024,true,2008-01-01,x
ab 10 00 02 a,Wales,2.5,2024,false,2008-01-02,x
AB100003A,London,,2023,,,x
AB100004A,,4.5,,true,2008-01-04,x
not a nino,London,5.5,2024,true,2008-01-05,x
,London,6.5,2024,true,2008-01-06,x
AB100007A,London,7.5,2023,false,2008-01-07,x
AB100001A,London,8.5,2023,true,2008-01-08,x
";

/// Under consent: 1, 2, 3, 4 agreed, 2 withdrew again; 7 never agreed.
pub(crate) const CONSENT: &str = "\
identifier,purpose,event
AB100001A,opportunity,given
AB100002A,opportunity,given
AB100003A,opportunity.measure,given
AB100004A,opportunity,given
broken,opportunity,given
ab100002a,opportunity.measure,withdrawn
";

pub(crate) struct Ca(rcgen::CertifiedIssuer<'static, rcgen::KeyPair>);

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn issue(&self, names: &[&str]) -> Identity {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let certificate = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        Identity { certificate: certificate.pem(), key: key.serialize_pem(), fingerprint: Fingerprint::of(certificate.der()) }
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a key that exists, in PEM.
    pub(crate) fn certify(&self, key: &str, name: &str) -> String {
        let key = rcgen::KeyPair::from_pem(key).unwrap();
        rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap().pem()
    }
}

/// An Ed25519 key and its PKCS#8.
pub(crate) fn signing_key() -> (SigningKey, Vec<u8>) {
    let document = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
    (SigningKey::from_pkcs8(document.as_ref()).unwrap(), document.as_ref().to_vec())
}

pub(crate) fn linkage_key() -> (Keypair, String) {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).unwrap();
    let text = hex(&bytes);
    (Keypair::from_hex(&text).unwrap(), text)
}

/// The agreement's text; `keys` are each party's fingerprints.
pub(crate) fn agreement_text(keyholder: &str, dfe: (&Fingerprint, &Fingerprint), dwp: (&Fingerprint, &Fingerprint)) -> String {
    format!(
        r#"id = "opportunity-2026"
title = "Opportunity"
mission = "opportunity"
purposes = ["opportunity"]
valid_from = "2020-01-01"
valid_until = "2090-12-31"
linkage = {{ keyholder = "{keyholder}" }}

[[party]]
department = "dfe"
signing_key = "{}"
linkage_key = "{}"

[[party]]
department = "dwp"
signing_key = "{}"
linkage_key = "{}"

[[dataset]]
department = "dfe"
name = "attainment"
identifier = {{ type = "nino", uses = ["join", "aggregate"] }}
basis = "consent"
consent_text = "I agree."
[dataset.columns]
region = {{ type = "text", classification = "personal", uses = ["group_by", "filter"], values = ["London", "Wales"] }}
score = {{ type = "number", classification = "personal", uses = ["aggregate"] }}
cohort = {{ type = "integer", classification = "personal", uses = ["filter"] }}
fsm = {{ type = "boolean", classification = "special", uses = ["filter", "aggregate"] }}
born = {{ type = "date", classification = "personal", uses = ["filter", "aggregate"] }}
unused = {{ type = "text", classification = "personal" }}

[[dataset]]
department = "dwp"
name = "claims"
identifier = {{ type = "nino", uses = ["join"] }}
basis = "statutory"
power = "Digital Economy Act 2017 s.35"
"#,
        dfe.0, dfe.1, dwp.0, dwp.1
    )
}

/// A department's signature of an agreement, as its file would hold it.
pub(crate) fn signature_of(agreement: &Agreement, department: &str, key: &SigningKey) -> String {
    // Before any time at which a test pretends to be.
    signature::sign(agreement, &name(department), key, "2019-06-01T00:00:00Z".parse().unwrap()).unwrap()
}

/// What a department finds beside an agreement that it signed, having seen this.
pub(crate) fn signed_by(agreement: &Agreement, department: &str, key: &SigningKey, seen: Seen) -> Signatures {
    let mut signatures = Signatures::new(Revocations::default(), seen);
    let statement = signature::read(signature_of(agreement, department, key).as_bytes());
    signatures.add(&agreement.id, &name(department), statement);
    signatures
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64_STANDARD.encode(der))
}

impl World {
    /// The department `dfe`, which keeps the linkage keys.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        let ca = Ca::new();
        let (gateway, administrator, stranger) = (ca.issue(&["gateway"]), ca.issue(&["administrator"]), ca.issue(&["stranger"]));
        let server = ca.issue(&["dfe.node.concordat.internal"]);
        write(&at("tls/ca.pem"), &ca.pem(), 0o644);
        write(&at("tls/node.pem"), &server.certificate, 0o644);
        write(&at("tls/node.key.pem"), &server.key, 0o600);
        let ((signing, signing_der), (linkage, linkage_hex)) = (signing_key(), linkage_key());
        write(&at("keys/signing.key.pem"), &pem(&signing_der), 0o600);
        write(&at("keys/linkage.key"), &linkage_hex, 0o600);
        let (orders, _) = signing_key();
        write(&at("keys/gateway-order.spki"), &BASE64_STANDARD.encode(orders.public_spki()), 0o644);
        let own = (&Fingerprint::of(signing.public_spki()), &Fingerprint::of(&linkage.public()));
        let other = (&Fingerprint::of(b"s"), &Fingerprint::of(b"l"));
        let text = agreement_text("dfe", own, other);
        write(&at("agreements/opportunity.toml"), &text, 0o644);
        let agreement = Agreement::parse(&text).unwrap();
        write(&at("agreements/opportunity.toml.dfe.sig"), &signature_of(&agreement, "dfe", &signing), 0o644);
        write(&at("purposes.toml"), PURPOSES, 0o644);
        write(&at("data/attainment.csv"), DATA, 0o644);
        write(&at("consent.csv"), CONSENT, 0o644);
        write(&at("node.toml"), &node_toml(&gateway.fingerprint, &administrator.fingerprint), 0o644);
        Self { folder, gateway, administrator, stranger, ca: ca.pem(), orders, agreement, signing }
    }

    /// Has a node make the linkage key of its orders, as the gateway does before them.
    pub(crate) fn bring_key(&self, node: &Node) {
        let domain = self.request(Utc::now()).domain.unwrap();
        node.linkage.make(&domain.under(self.agreement.linkage.rotation).unwrap(), &self.agreement).unwrap();
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// The node's access log, one entry a line.
    pub(crate) fn log(&self) -> String {
        let entries = concordat_audit::read(&self.path("log"), 0).unwrap();
        entries.map(|entry| String::from_utf8(entry.unwrap().1).unwrap() + "\n").collect()
    }

    /// Takes the department's signature away.
    pub(crate) fn unsign(&self) {
        fs::remove_file(self.path("agreements/opportunity.toml.dfe.sig")).unwrap();
    }

    /// Signs the agreement as it is now.
    pub(crate) fn resign(&self) {
        let agreement = Agreement::parse(&fs::read_to_string(self.path("agreements/opportunity.toml")).unwrap()).unwrap();
        self.write("agreements/opportunity.toml.dfe.sig", &signature_of(&agreement, "dfe", &self.signing));
    }

    /// Changes the agreement, and signs it as it is then.
    pub(crate) fn agree(&mut self, from: &str, to: &str) {
        self.replace("agreements/opportunity.toml", from, to);
        self.agreement = Agreement::parse(&fs::read_to_string(self.path("agreements/opportunity.toml")).unwrap()).unwrap();
        self.resign();
    }

    /// What lies beside the agreement.
    pub(crate) fn signatures(&self) -> Signatures {
        let file = self.path("agreements/opportunity.toml");
        let mut signatures =
            Signatures::new(files::revoked(&self.path("agreements")).unwrap(), kept::seen(&self.path("agreements"), None).unwrap());
        signatures.add(&self.agreement.id, &name("dfe"), files::find(&file, &name("dfe")));
        signatures
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        write(&self.path(path), text, 0o600);
    }

    pub(crate) fn replace(&self, path: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(path)).unwrap();
        assert!(text.contains(from), "{path} holds no {from}");
        self.write(path, &text.replace(from, to));
    }

    /// A request that the agreement permits.
    pub(crate) fn request(&self, now: DateTime<Utc>) -> v1::ReleaseRequest {
        let domain = LinkageDomain::at(name("opportunity"), name("opportunity.measure"), &self.agreement.linkage, now).unwrap();
        v1::ReleaseRequest {
            contract_version: 1,
            query_id: "q-1".into(),
            domain: Some(v1::Domain::from(&domain)),
            agreement: "opportunity-2026".into(),
            agreement_digest: self.agreement.digest.clone(),
            dataset: "attainment".into(),
            columns: vec!["region".into(), "score".into(), "fsm".into(), "born".into()],
            predicate: None,
            partitions: 4,
            basis: v1::Basis::Consent.into(),
            log_entry: 0,
            grouping: None,
            dense: false,
        }
    }

    /// The claims that fit a request.
    pub(crate) fn claims(&self, request: &v1::ReleaseRequest, now: DateTime<Utc>) -> Order {
        let domain = request.domain.clone().unwrap_or_default();
        Order {
            iss: ISSUER.into(),
            sub: "user-1".into(),
            aud: "node:dfe".into(),
            nbf: now.timestamp(),
            exp: now.timestamp() + 60,
            jti: uuid::Uuid::now_v7().to_string(),
            request_sha256: digest(&request.encode_to_vec()),
            query_id: request.query_id.clone(),
            caller_issuer: "https://issuer.example".into(),
            organisation: "opportunity-unit".into(),
            mission: Name::parse(&domain.mission).unwrap_or(name("none")),
            purpose: Name::parse(&domain.purpose).unwrap_or(name("none")),
            agreement: Name::parse(&request.agreement).unwrap_or(name("none")),
            agreement_digest: request.agreement_digest.clone(),
            cnf: Confirmation { thumbprints: vec![self.gateway.fingerprint.to_string()] },
        }
    }

    /// A signed order.
    pub(crate) fn order(&self, request: &v1::ReleaseRequest, now: DateTime<Utc>) -> v1::ReleaseOrder {
        self.sign(&self.claims(request, now), request)
    }

    pub(crate) fn sign(&self, claims: &Order, request: &v1::ReleaseRequest) -> v1::ReleaseOrder {
        v1::ReleaseOrder { order: claims.sign(&self.orders).unwrap(), request: request.encode_to_vec() }
    }
}

fn node_toml(gateway: &Fingerprint, administrator: &Fingerprint) -> String {
    format!(
        r#"department = "dfe"
listen = "127.0.0.1:0"
state = "state"
log = "log"
spill = "spill"
snapshot_reserve_mib = 0
purposes = "purposes.toml"
agreements = "agreements"

[tls]
certificate = "tls/node.pem"
key = "tls/node.key.pem"
ca = "tls/ca.pem"

[keys]
signing = "keys/signing.key.pem"
linkage = "keys/linkage.key"

[gateway]
certificates = ["{gateway}"]
order_key = "keys/gateway-order.spki"

[administrators]
certificates = ["{administrator}"]

[consent]
import = "consent.csv"
skip_invalid = true

[[dataset]]
name = "attainment"
title = "Attainment"
source = "data/attainment.csv"
format = "csv"
[dataset.identifier]
column = "nino"
type = "nino"
[dataset.columns]
region = {{ type = "text", classification = "personal", values = ["London", "Wales"], source = "REGION" }}
score = {{ type = "number", classification = "personal" }}
cohort = {{ type = "integer", classification = "personal" }}
fsm = {{ type = "boolean", classification = "special" }}
born = {{ type = "date", classification = "personal" }}
unused = {{ type = "text", classification = "personal", source = "secret" }}
"#
    )
}
