//! A hostile gateway: orders that were replayed, altered or bound to something else, and keys that were substituted. It holds
//! the real gateway's certificate and order key, so only the nodes' own checks stand in its way.

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightDescriptor, FlightInfo};
use chrono::Utc;
use concordat_policy::{Agreement, Code, LinkageDomain, Name};
use concordat_proto::order::{Confirmation, ISSUER, Order, digest};
use concordat_proto::status::from_status;
use concordat_proto::token::SigningKey;
use concordat_proto::v1;
use concordat_proto::v1::linkage_keys_client::LinkageKeysClient;
use concordat_proto::v1::node_client::NodeClient;
use prost::Message as _;
use tonic::transport::{Channel, Identity};

use crate::sandbox::{Sandbox, node};

pub struct Rogue {
    pub sandbox: Sandbox,
    pub key: SigningKey,
    certificate: String,
    agreement: Agreement,
}

impl Rogue {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// The same, after `files` has changed the files.
    pub async fn with(files: impl FnOnce(&concordat::federation::Layout)) -> Self {
        let sandbox = Sandbox::with(500, |_| {}, files).await;
        // Brings the linkage keys to the nodes.
        sandbox.query("SELECT count(*) FROM dfe.attainment a JOIN dwp.claims c ON a.subject = c.subject").await.unwrap();
        let key = SigningKey::from_pem(&std::fs::read_to_string(sandbox.layout.gateway().join("keys/order.key.pem")).unwrap()).unwrap();
        let config: toml::Value = toml::from_str(&std::fs::read_to_string(sandbox.layout.node("dwp").join("node.toml")).unwrap()).unwrap();
        let certificate = config["gateway"]["certificates"][0].as_str().unwrap().to_owned();
        let text = std::fs::read_to_string(sandbox.layout.node("dwp").join("agreements/opportunity.toml")).unwrap();
        Self { sandbox, key, certificate, agreement: Agreement::parse(&text).unwrap() }
    }

    pub async fn channel(&self, department: &str) -> Channel {
        let tls = self.sandbox.layout.gateway().join("tls");
        let read = |name: &str| std::fs::read_to_string(tls.join(name)).unwrap();
        node(&self.sandbox, department, Some(Identity::from_pem(read("client.pem"), read("client.key.pem"))), &read("ca.pem"))
            .await
            .unwrap()
    }

    pub fn request(&self) -> v1::ReleaseRequest {
        let name = |s: &str| Name::parse(s).unwrap();
        let domain = LinkageDomain::at(name("opportunity"), name("opportunity.measure"), &self.agreement.linkage, Utc::now()).unwrap();
        v1::ReleaseRequest {
            contract_version: 1,
            query_id: "q-rogue".into(),
            domain: Some((&domain).into()),
            agreement: "opportunity".into(),
            agreement_digest: self.agreement.digest.clone(),
            dataset: "claims".into(),
            columns: vec!["claiming".into()],
            predicate: None,
            partitions: 2,
            basis: v1::Basis::StatutoryHonouringObjections.into(),
            log_entry: 1,
            grouping: None,
            dense: false,
        }
    }

    pub fn order(&self, request: &v1::ReleaseRequest, jti: &str) -> Order {
        let now = Utc::now().timestamp();
        Order {
            iss: ISSUER.into(),
            sub: "analyst-1".into(),
            aud: "node:dwp".into(),
            nbf: now,
            exp: now + 60,
            jti: format!("rogue-order-{jti}"),
            request_sha256: digest(&request.encode_to_vec()),
            query_id: request.query_id.clone(),
            caller_issuer: "https://issuer.example.internal".into(),
            organisation: "mission-unit".into(),
            mission: Name::parse("opportunity").unwrap(),
            purpose: Name::parse("opportunity.measure").unwrap(),
            agreement: Name::parse("opportunity").unwrap(),
            agreement_digest: request.agreement_digest.clone(),
            cnf: Confirmation { thumbprints: vec![self.certificate.clone()] },
        }
    }

    pub async fn place(
        &self,
        department: &str,
        order: &Order,
        request: &v1::ReleaseRequest,
        key: &SigningKey,
    ) -> Result<FlightInfo, tonic::Status> {
        self.place_raw(department, v1::ReleaseOrder { order: order.sign(key).unwrap(), request: request.encode_to_vec() }.encode_to_vec())
            .await
    }

    async fn place_raw(&self, department: &str, command: Vec<u8>) -> Result<FlightInfo, tonic::Status> {
        let mut flight = FlightServiceClient::new(self.channel(department).await);
        flight.get_flight_info(FlightDescriptor::new_cmd(command)).await.map(tonic::Response::into_inner)
    }
}

#[track_caller]
fn code<T: std::fmt::Debug>(outcome: Result<T, tonic::Status>) -> Code {
    from_status(&outcome.unwrap_err()).expect("a refusal of our own").code
}

type Change = Box<dyn Fn(&mut Order, &mut v1::ReleaseRequest)>;

#[tokio::test]
async fn only_the_very_order_that_the_agreement_allows_is_released_and_once() {
    let rogue = Rogue::new().await;
    let request = rogue.request();
    let order = rogue.order(&request, "good");
    let info = rogue.place("dwp", &order, &request, &rogue.key).await.expect("the untouched order is good");
    assert_eq!(info.endpoint.len(), 2);
    assert_eq!(code(rogue.place("dwp", &order, &request, &rogue.key).await), Code::Replayed);

    // A ticket is good once, and only at its node.
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let mut flight = FlightServiceClient::new(rogue.channel("dwp").await);
    let mut first = flight.do_get(ticket.clone()).await.unwrap().into_inner();
    assert_eq!(code(flight.do_get(ticket.clone()).await), Code::Replayed);
    while first.message().await.unwrap().is_some() {}
    assert!(FlightServiceClient::new(rogue.channel("dfe").await).do_get(ticket).await.is_err());

    let order_changes: Vec<(&str, Change)> = vec![
        ("another node's order", Box::new(|o, _| o.aud = "node:dfe".into())),
        ("an expired order", Box::new(|o, _| (o.nbf, o.exp) = (o.nbf - 300, o.nbf - 240))),
        ("an order of next year", Box::new(|o, _| (o.nbf, o.exp) = (o.nbf + 86_400, o.nbf + 86_430))),
        ("an order of an hour", Box::new(|o, _| o.exp = o.nbf + 3600)),
        ("another certificate's order", Box::new(|o, _| o.cnf.thumbprints = vec![format!("sha256:{}", "0".repeat(64))])),
        ("another request's order", Box::new(|o, _| o.request_sha256 = "0".repeat(64))),
        ("another issuer's order", Box::new(|o, _| o.iss = "somebody".into())),
        ("another query's order", Box::new(|o, _| o.query_id = "q-other".into())),
        ("another purpose in the order", Box::new(|o, _| o.purpose = Name::parse("opportunity.measure.region").unwrap())),
        ("another agreement in the order", Box::new(|o, _| o.agreement = Name::parse("healthy-life").unwrap())),
    ];
    for (n, (what, change)) in order_changes.iter().enumerate() {
        let mut request = rogue.request();
        let mut order = rogue.order(&request, &format!("o{n}-padding"));
        change(&mut order, &mut request);
        let outcome = rogue.place("dwp", &order, &request, &rogue.key).await;
        assert!(outcome.is_err(), "released: {what}");
    }
    let request_changes: Vec<(&str, Change)> = vec![
        (
            "a purpose outside the agreement",
            Box::new(|o, r| {
                r.domain.as_mut().unwrap().purpose = "health.prevention".into();
                o.purpose = Name::parse("health.prevention").unwrap();
            }),
        ),
        (
            "a wider purpose",
            Box::new(|o, r| {
                r.domain.as_mut().unwrap().purpose = "opportunity".into();
                o.purpose = Name::parse("opportunity").unwrap();
            }),
        ),
        (
            "another mission",
            Box::new(|o, r| {
                r.domain.as_mut().unwrap().mission = "healthy-life".into();
                o.mission = Name::parse("healthy-life").unwrap();
            }),
        ),
        ("another epoch", Box::new(|_, r| r.domain.as_mut().unwrap().epoch += 1)),
        (
            "another text of the agreement",
            Box::new(|o, r| {
                r.agreement_digest = "0".repeat(64);
                o.agreement_digest = "0".repeat(64);
            }),
        ),
        ("an unknown dataset", Box::new(|_, r| r.dataset = "people".into())),
        ("an unknown column", Box::new(|_, r| r.columns = vec!["salary".into()])),
        ("the identifier itself", Box::new(|_, r| r.columns = vec!["nino".into()])),
        ("a column that may only filter", Box::new(|_, r| r.columns = vec!["conditionality".into()])),
        ("a column twice", Box::new(|_, r| r.columns = vec!["claiming".into(), "claiming".into()])),
        ("a laxer basis", Box::new(|_, r| r.basis = v1::Basis::Statutory.into())),
        ("one partition", Box::new(|_, r| r.partitions = 1)),
        ("a thousand partitions", Box::new(|_, r| r.partitions = 1000)),
        (
            "a filter on a column without that use",
            Box::new(|_, r| {
                r.predicate = Some(v1::Predicate { condition: Some(v1::predicate::Condition::IsNull("months_claiming".into())) })
            }),
        ),
        (
            "a filter on the identifier",
            Box::new(|_, r| r.predicate = Some(v1::Predicate { condition: Some(v1::predicate::Condition::IsNull("nino".into())) })),
        ),
        ("a predicate without a condition", Box::new(|_, r| r.predicate = Some(v1::Predicate { condition: None }))),
        ("an unknown contract version", Box::new(|_, r| r.contract_version = 99)),
    ];
    for (n, (what, change)) in request_changes.iter().enumerate() {
        let mut request = rogue.request();
        let mut order = rogue.order(&request, &format!("r{n}-padding"));
        change(&mut order, &mut request);
        order.request_sha256 = digest(&request.encode_to_vec());
        let outcome = rogue.place("dwp", &order, &request, &rogue.key).await;
        assert!(outcome.is_err(), "released: {what}");
    }
    let stranger = SigningKey::from_pem(&std::fs::read_to_string(rogue.sandbox.layout.issuer().join("issuer.key.pem")).unwrap()).unwrap();
    assert_eq!(code(rogue.place("dwp", &rogue.order(&request, "stranger"), &request, &stranger).await), Code::Unauthenticated);
    assert!(rogue.place_raw("dwp", vec![0xff; 1000]).await.is_err());
    assert!(rogue.place_raw("dwp", vec![]).await.is_err());
    let refusals = rogue.sandbox.log("dwp").iter().filter(|e| e["event"] == "order.refused").count();
    assert!(refusals >= order_changes.len() + request_changes.len() + 4, "each refusal stands in the department's own log: {refusals}");
}

#[tokio::test]
async fn an_order_stays_used_across_a_restart() {
    let mut rogue = Rogue::new().await;
    let request = rogue.request();
    let order = rogue.order(&request, "restart");
    rogue.place("dwp", &order, &request, &rogue.key).await.unwrap();
    rogue.sandbox.running.kill("dwp");
    rogue.sandbox.running.restart_node("dwp").await.unwrap();
    assert_eq!(code(rogue.place("dwp", &order, &request, &rogue.key).await), Code::Replayed);
}

#[tokio::test]
async fn keys_and_recipients_that_the_gateway_substituted_are_refused() {
    let rogue = Rogue::new().await;
    let described = |department: &'static str| {
        let rogue = &rogue;
        async move {
            NodeClient::new(rogue.channel(department).await)
                .describe(v1::DescribeRequest { contract_version: 1 })
                .await
                .unwrap()
                .into_inner()
        }
    };
    let (dwp, dbt) = (described("dwp").await, described("dbt").await);
    let domain = rogue.request().domain;
    let seal = |recipient: &str, key: &[u8]| v1::SealRequest {
        domain: domain.clone(),
        agreement: "opportunity".into(),
        agreement_digest: rogue.agreement.digest.clone(),
        recipient: recipient.into(),
        recipient_key: key.to_vec(),
    };
    let mut keyholder = LinkageKeysClient::new(rogue.channel("dfe").await);
    let sealed = keyholder.seal(seal("dwp", &dwp.linkage_key)).await.expect("the honest request is served").into_inner();
    assert!(keyholder.seal(seal("dwp", &dbt.linkage_key)).await.is_err(), "sealed to another party's key");
    assert!(keyholder.seal(seal("dwp", &[9; 32])).await.is_err(), "sealed to a key of the gateway's");
    assert!(keyholder.seal(seal("hmrc", &[9; 32])).await.is_err(), "sealed to somebody who is no party");
    let mut wider = seal("dwp", &dwp.linkage_key);
    wider.domain.as_mut().unwrap().purpose = "opportunity".into();
    assert!(keyholder.seal(wider).await.is_err(), "sealed for a purpose outside the agreement");
    assert!(
        LinkageKeysClient::new(rogue.channel("dbt").await).seal(seal("dwp", &dwp.linkage_key)).await.is_err(),
        "sealed by a party that is not the keyholder"
    );

    let mut recipient = LinkageKeysClient::new(rogue.channel("dwp").await);
    recipient.accept(sealed.clone()).await.expect("the honest delivery is taken, again and again");
    type Tamper = fn(&mut v1::SealedKey);
    let tampers: [(&str, Tamper); 8] = [
        ("ciphertext", |s| s.ciphertext[0] ^= 1),
        ("encapsulation", |s| s.encapsulated[0] ^= 1),
        ("sender's key", |s| s.sender_key[0] ^= 1),
        ("sender", |s| s.sender = "dbt".into()),
        ("recipient", |s| s.recipient = "dbt".into()),
        ("purpose", |s| s.domain.as_mut().unwrap().purpose = "opportunity.measure.region".into()),
        ("epoch", |s| s.domain.as_mut().unwrap().epoch += 1),
        ("agreement", |s| s.agreement_digest = "0".repeat(64)),
    ];
    for (what, tamper) in tampers {
        let mut changed = sealed.clone();
        tamper(&mut changed);
        assert!(recipient.accept(changed).await.is_err(), "accepted with another {what}");
    }
    assert!(LinkageKeysClient::new(rogue.channel("dbt").await).accept(sealed).await.is_err(), "a key sealed to DWP was taken by DBT");
}
