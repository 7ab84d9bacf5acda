//! Reading the entries of access logs over the network: the gateway's with a token, a node's with a certificate.

use std::path::{Path, PathBuf};
use std::time::Duration;

use concordat_proto::MAX_CONTROL_MESSAGE;
use concordat_proto::v1;
use concordat_proto::v1::log_reading_client::LogReadingClient;
use serde::Deserialize;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Streaming};

use super::{Client, chain};
use crate::failure::{Failure, Result, UNREACHABLE};
use crate::federation::layout::read;
use crate::federation::{Layout, node_server_name};

/// A `[[node]]` of a `client.toml`: a department's node whose log this user may read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeFile {
    /// Whose node.
    pub department: String,
    /// `https://host:port`.
    pub address: String,
    /// The name in its certificate, where it is another than the department's.
    #[serde(default)]
    pub server_name: Option<String>,
    /// The certificate authority's file.
    pub ca: PathBuf,
    /// The reader's own certificate, which the node names as an administrator's or auditor's.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl NodeFile {
    /// With paths relative to the current folder instead of `folder`.
    pub(super) fn in_folder(self, folder: &Path) -> Self {
        Self { ca: folder.join(self.ca), certificate: folder.join(self.certificate), key: folder.join(self.key), ..self }
    }

    /// The running nodes of a federation's folder, with their auditors' or administrators' certificates, where these lie in it.
    #[must_use]
    pub fn of_layout(layout: &Layout) -> Vec<Self> {
        let node = |department: String| {
            let folder = layout.node(&department);
            let address = std::fs::read_to_string(folder.join("state/address")).ok()?;
            let tls = folder.join("tls");
            let of = |who: &str| (tls.join(format!("{who}.pem")), tls.join(format!("{who}.key.pem")));
            let (certificate, key) = [of("auditor"), of("administrator")].into_iter().find(|(_, key)| key.exists())?;
            let address = format!("https://{}", address.trim());
            Some(Self { department, address, server_name: None, ca: tls.join("ca.pem"), certificate, key })
        };
        layout.departments().unwrap_or_default().into_iter().filter_map(node).collect()
    }
}

/// A log that can be asked.
#[derive(Debug, Clone)]
pub enum LogDoor {
    /// The gateway's.
    Gateway(Box<Client>),
    /// A department's node's.
    Node(String, LogReadingClient<Channel>),
}

impl LogDoor {
    /// Connects to a node.
    ///
    /// # Errors
    /// When a file cannot be read, or nobody who bears the node's name answers.
    pub async fn node(node: &NodeFile) -> Result<Self> {
        let NodeFile { department, address, .. } = node;
        let server_name = node.server_name.clone().unwrap_or_else(|| node_server_name(department));
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read(&node.ca)?))
            .identity(Identity::from_pem(read(&node.certificate)?, read(&node.key)?))
            .domain_name(server_name);
        let endpoint = Endpoint::from_shared(address.clone())
            .map_err(|_| Failure::usage(format!("'{address}' is not an address; write https://host:port")))?
            .tls_config(tls)
            .map_err(|e| Failure::new(format!("the certificates for the node of {department} cannot be used: {}", chain(&e))))?
            .connect_timeout(Duration::from_secs(5));
        let channel = endpoint.connect().await.map_err(|e| Failure {
            exit: UNREACHABLE,
            department: Some(department.clone()),
            ..Failure::new(format!("the node of {department} at {address} cannot be reached: {}", chain(&e)))
                .advice("ask the department whether it runs; [[node]] of client.toml names its address and your certificate")
        })?;
        Ok(Self::Node(department.clone(), LogReadingClient::new(channel).max_decoding_message_size(MAX_CONTROL_MESSAGE)))
    }

    /// Whose log.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Gateway(_) => "gateway",
            Self::Node(department, _) => department,
        }
    }

    /// The last entries that a filter takes, a page of them.
    ///
    /// # Errors
    /// What was refused.
    pub async fn list(&self, asked: v1::LogListRequest) -> Result<v1::LogListResponse> {
        let (mut client, request) = self.request(asked)?;
        Ok(client.list(request).await.map_err(|e| self.failed(&e))?.into_inner())
    }

    /// The last entries of one query, in order: those before the one of the number `before`, where it is not 0.
    ///
    /// # Errors
    /// What was refused.
    pub async fn query(&self, query_id: &str, before: u64) -> Result<v1::LogQueryResponse> {
        let (mut client, request) = self.request(v1::LogQueryRequest { query_id: query_id.to_owned(), before })?;
        Ok(client.query(request).await.map_err(|e| self.failed(&e))?.into_inner())
    }

    /// Entries as they come, for a while.
    ///
    /// # Errors
    /// What was refused.
    pub async fn tail(&self, asked: v1::LogTailRequest) -> Result<Streaming<v1::LogTailResponse>> {
        let (mut client, request) = self.request(asked)?;
        Ok(client.tail(request).await.map_err(|e| self.failed(&e))?.into_inner())
    }

    fn request<T>(&self, message: T) -> Result<(LogReadingClient<Channel>, Request<T>)> {
        Ok(match self {
            Self::Gateway(client) => (client.log.clone(), client.request(message)?),
            Self::Node(_, client) => (client.clone(), Request::new(message)),
        })
    }

    /// What it answered; whose answer that was, where it does not say.
    pub(crate) fn failed(&self, status: &tonic::Status) -> Failure {
        let failure = Failure::status(status);
        match self {
            Self::Node(department, _) if failure.code.is_none() => {
                let message = format!("the node of {department} does not give its log: {}", status.message());
                Failure { exit: UNREACHABLE, department: Some(department.clone()), ..Failure::new(message) }
            }
            _ => failure,
        }
    }
}
