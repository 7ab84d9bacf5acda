//! Programs one version of the contract apart work together; two apart, each says which side to upgrade.

use std::collections::BTreeSet;

use arrow_flight::flight_service_client::FlightServiceClient;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use concordat_policy::Code;
use concordat_proto::status::from_status;
use concordat_proto::v1;
use concordat_proto::v1::node_client::NodeClient;
use concordat_proto::version::GROUPS;
use concordat_proto::{CONTRACT_VERSION, order::digest};
use prost::Message as _;
use serde::Deserialize;

use super::peer::{Peer, ROWS, Script};
use crate::orders::Rogue;
use crate::sandbox::{Sandbox, refused};

#[tokio::test]
async fn a_gateway_takes_nodes_one_version_behind_and_ahead_and_no_others() {
    let mut sandbox = Sandbox::start(300).await;
    sandbox.query("SELECT count(*) AS n FROM dwp.claims").await.unwrap();
    let truthful = |version| {
        let standing = Script::ledger(0, 1_000_000);
        Script { version, ..standing }
    };
    let peer = Peer::instead_of_dwp(&mut sandbox, truthful(CONTRACT_VERSION)).await;
    let mut told = BTreeSet::new();
    for (version, spoken) in
        [(CONTRACT_VERSION - 1, CONTRACT_VERSION - 1), (CONTRACT_VERSION, CONTRACT_VERSION), (CONTRACT_VERSION + 1, CONTRACT_VERSION)]
    {
        peer.says(&mut sandbox, truthful(version)).await;
        let answer = sandbox.query(ROWS).await.unwrap_or_else(|failure| panic!("a node of version {version}: {failure:?}"));
        assert_eq!(answer.summary["sources"][0]["consent_version"], 1_000_000);
        let ordered = peer.ordered();
        assert_eq!(ordered.contract_version, spoken, "ordered in the words of the older of the two");
        assert_eq!(ordered.grouping.is_some(), spoken >= GROUPS, "rows are grouped where the node knows how, and here where it does not");
        told.insert(format!("{:?} of {}", answer.batches, answer.summary["sources"][0]["counts"]));
    }
    assert_eq!(told.len(), 1, "by whomever they are grouped, the same is told: {told:?}");
    // One that refuses to talk, and one that talks nevertheless.
    peer.says(&mut sandbox, truthful(CONTRACT_VERSION + 2)).await;
    let failure = refused(sandbox.query(ROWS).await, Code::NodeRefused, "contract version");
    assert_eq!(failure.department.as_deref(), Some("dwp"));
    peer.says(&mut sandbox, Script { takes_any: true, ..truthful(CONTRACT_VERSION + 2) }).await;
    refused(sandbox.query(ROWS).await, Code::NodeFaulty, "upgrade this gateway");
    peer.says(&mut sandbox, Script { takes_any: true, ..truthful(0) }).await;
    refused(sandbox.query(ROWS).await, Code::NodeFaulty, "upgrade its node");
}

/// A receipt as a gateway of version 1 reads it: exactly these claims.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "what matters is that nothing else is there")]
struct ReceiptOfVersion1 {
    iss: String,
    sub: String,
    aud: String,
    nbf: i64,
    exp: i64,
    query_id: String,
    dataset: String,
    partition: u32,
    partitions: u32,
    rows: u64,
    consent_version: u64,
    freshness: i64,
    log_entry: u64,
}

/// Orders a release of DWP in a version, as its gateway would, and returns the claims of a receipt.
async fn receipt(rogue: &Rogue, version: u32) -> Result<Vec<u8>, tonic::Status> {
    let request = v1::ReleaseRequest { contract_version: version, ..rogue.request() };
    let mut order = rogue.order(&request, &format!("version-{version}"));
    order.request_sha256 = digest(&request.encode_to_vec());
    let info = rogue.place("dwp", &order, &request, &rogue.key).await?;
    let mut flight = FlightServiceClient::new(rogue.channel("dwp").await);
    let mut stream = flight.do_get(info.endpoint[0].ticket.clone().unwrap()).await?.into_inner();
    let mut last = None;
    while let Some(message) = stream.message().await? {
        last = Some(message);
    }
    let token = String::from_utf8(last.unwrap().app_metadata.to_vec()).unwrap();
    Ok(BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap())
}

#[tokio::test]
async fn a_node_serves_gateways_one_version_behind_and_ahead_and_no_others() {
    let rogue = Rogue::new().await;
    let old: ReceiptOfVersion1 = serde_json::from_slice(&receipt(&rogue, 1).await.unwrap()).expect("an older gateway reads it");
    for version in [CONTRACT_VERSION, CONTRACT_VERSION + 1] {
        let new: serde_json::Value = serde_json::from_slice(&receipt(&rogue, version).await.unwrap()).unwrap();
        assert_eq!((&new["consent_generation"], &new["rows"]), (&0.into(), &old.rows.into()));
        let domain = rogue.request().domain.unwrap();
        assert_eq!((&new["mission"], &new["purpose"]), (&domain.mission.into(), &domain.purpose.into()), "the order's");
    }
    let channel = rogue.channel("dwp").await;
    for version in [CONTRACT_VERSION - 1, CONTRACT_VERSION, CONTRACT_VERSION + 1] {
        let description = NodeClient::new(channel.clone()).describe(v1::DescribeRequest { contract_version: version }).await.unwrap();
        assert_eq!(description.get_ref().contract_version, CONTRACT_VERSION);
    }
    for (version, behind) in [(CONTRACT_VERSION - 2, "upgrade the gateway"), (CONTRACT_VERSION + 2, "upgrade this department's node")] {
        let ordered = receipt(&rogue, version).await.unwrap_err();
        let described = NodeClient::new(channel.clone()).describe(v1::DescribeRequest { contract_version: version }).await.unwrap_err();
        for status in [ordered, described] {
            let refusal = from_status(&status).unwrap();
            assert_eq!((refusal.code, refusal.department.as_deref()), (Code::Invalid, Some("dwp")));
            assert!(refusal.message.contains(behind), "{refusal}");
        }
    }
}
