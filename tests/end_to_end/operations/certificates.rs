//! Certificates are replaced while everything serves.

use std::path::Path;
use std::sync::Arc;

use concordat::federation::{Authority, GATEWAY_SERVER_NAME, Identity};
use concordat_policy::agreement::Fingerprint;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;

use super::BOTH;
use super::watch::{stderr, until};
use crate::sandbox::Sandbox;

/// The fingerprint of the certificate that the gateway shows to a new connection.
async fn shown(sandbox: &Sandbox) -> Fingerprint {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(sandbox.authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols.push(b"h2".to_vec());
    let stream = TcpStream::connect(sandbox.running.gateway().trim_start_matches("https://")).await.unwrap();
    let name = ServerName::try_from(GATEWAY_SERVER_NAME).unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    Fingerprint::of(&stream.get_ref().1.peer_certificates().unwrap()[0])
}

fn gateway(authority: &Authority) -> Identity {
    authority.server("gateway", &[GATEWAY_SERVER_NAME, "localhost", "127.0.0.1"]).unwrap()
}

/// Writes over the files of an identity; they keep their modes.
fn replace(folder: &Path, stem: &str, identity: &Identity) {
    std::fs::write(folder.join(format!("{stem}.pem")), &identity.certificate).unwrap();
    std::fs::write(folder.join(format!("{stem}.key.pem")), &identity.key).unwrap();
}

#[tokio::test]
async fn a_new_server_certificate_is_shown_without_restart_and_a_bad_one_never() {
    let sandbox = Sandbox::start(300).await;
    let (folder, process) = (sandbox.layout.gateway(), sandbox.running.process_id("gateway").unwrap());
    let before = shown(&sandbox).await;
    let open = sandbox.client().await;
    open.query(BOTH).await.unwrap();

    std::fs::write(folder.join("tls/gateway.pem"), "-----BEGIN CERTIFICATE-----\nbroken").unwrap();
    until("the broken file is reported", async || stderr(&folder).contains("not reloaded")).await;
    let said = stderr(&folder);
    assert!(said.contains("tls/gateway.pem: holds no certificate in PEM") && said.contains("remedy="), "{said}");
    assert_eq!(shown(&sandbox).await, before);
    let expired = Authority::open(&sandbox.layout, chrono::Utc::now().date_naive() - chrono::Days::new(800)).unwrap();
    replace(&folder.join("tls"), "gateway", &gateway(&expired));
    until("the expired certificate is reported", async || stderr(&folder).contains("expired on")).await;
    assert_eq!(shown(&sandbox).await, before);

    let renewed = gateway(&sandbox.authority);
    replace(&folder.join("tls"), "gateway", &renewed);
    until("the new certificate is shown", async || shown(&sandbox).await == renewed.fingerprint).await;
    assert!(stderr(&folder).contains(renewed.fingerprint.as_str()));
    open.query(BOTH).await.unwrap();
    sandbox.query(BOTH).await.unwrap();
    assert_eq!(sandbox.running.process_id("gateway"), Some(process));

    // A hang-up reads again at once what has not changed.
    let reloads = || stderr(&folder).matches("reloaded what=\"server certificate\"").count();
    let before = reloads();
    super::watch::signal(process, "HUP");
    until("SIGHUP reloads", async || reloads() > before).await;
}

#[tokio::test]
async fn the_gateways_certificate_towards_nodes_is_renewed_with_overlapping_pins() {
    let sandbox = Sandbox::start(300).await;
    let folder = sandbox.layout.gateway();
    sandbox.query(BOTH).await.unwrap();
    let old = Fingerprint::of(&CertificateDer::from_pem_file(folder.join("tls/client.pem")).unwrap());
    let new = sandbox.authority.client("gateway towards nodes").unwrap();
    let departments: Vec<String> = sandbox.running.nodes().map(|(id, _)| id.to_owned()).collect();
    let pin = async |from: String, to: String, count: usize| {
        for department in &departments {
            let path = sandbox.layout.node(department).join("node.toml");
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains(&from));
            std::fs::write(&path, text.replacen(&from, &to, 1)).unwrap();
        }
        for department in &departments {
            let node = sandbox.layout.node(department);
            until("the node reads its pins", async || stderr(&node).contains(&format!("{count} of the gateway"))).await;
        }
    };
    pin(format!("\"{old}\""), format!("\"{old}\", \"{}\"", new.fingerprint), 2).await;
    sandbox.query(BOTH).await.unwrap();
    replace(&folder.join("tls"), "client", &new);
    until("the gateway has the new one", async || {
        stderr(&folder).contains(&format!("reloaded what=\"client certificate\" now=\"{}", new.fingerprint))
    })
    .await;
    sandbox.query(BOTH).await.unwrap();
    // Without the old pin, only the new certificate can have been shown.
    pin(format!("\"{old}\", "), String::new(), 1).await;
    sandbox.query(BOTH).await.unwrap();
}
