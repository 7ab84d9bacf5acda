//! A department's own system: it records people's choices over gRPC, under mutual TLS as the department's administrator.

use std::time::Duration;

use concordat::federation::{Layout, node_server_name};
use concordat_proto::v1;
use concordat_proto::v1::consent_ledger_client::ConsentLedgerClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::sandbox::Sandbox;

pub type Ledger = ConsentLedgerClient<Channel>;

/// A connection to a department's node. A call that has no answer after a minute fails.
pub async fn ledger(sandbox: &Sandbox, department: &str) -> Ledger {
    let folder = sandbox.layout.node(department).join("tls");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read("ca.pem")))
        .domain_name(node_server_name(department))
        .identity(Identity::from_pem(read("administrator.pem"), read("administrator.key.pem")));
    let (_, address) = sandbox.running.nodes().find(|(name, _)| *name == department).unwrap();
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap();
    ConsentLedgerClient::new(endpoint.timeout(Duration::from_secs(60)).connect().await.unwrap())
}

/// Somebody takes consent back.
pub fn withdrawn(identifier: String, purpose: &str) -> v1::ConsentRecord {
    let (purpose, event) = (purpose.to_owned(), "withdrawn".to_owned());
    v1::ConsentRecord { identifier, identifier_type: "nino".into(), purpose, event, ..Default::default() }
}

/// Limits that many queries of one caller for a department's data do not reach, at the gateway and at the node.
pub fn generous(layout: &Layout, department: &str) {
    many_releases(layout, department);
    let path = layout.gateway().join("gateway.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let limits = ["limits", "limits.caller", "limits.agreement"].map(|table| {
        let requests = if table == "limits" { "" } else { "requests_per_minute = 60000\n" };
        format!("\n[{table}]\nconcurrent_queries = 64\n{requests}")
    });
    std::fs::write(path, text + &limits.concat()).unwrap();
}

/// The same at the node of another department.
pub fn many_releases(layout: &Layout, department: &str) {
    let path = layout.node(department).join("node.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, format!("max_releases = 64\n{text}")).unwrap();
}
