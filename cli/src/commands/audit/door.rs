//! Which running program's log is read: the gateway's, or a department's node's.

use std::path::{Path, PathBuf};

use clap::Args;

use super::super::DEFAULT_FOLDER;
use super::super::target::Target;
use crate::client::{ClientFile, LogDoor, NodeFile};
use crate::failure::{Failure, Result};
use crate::federation::{GATEWAY_SERVER_NAME, Layout};

/// Where the programs are, and who reads.
#[derive(Debug, Args)]
pub(crate) struct Doors {
    /// Without --log: the federation's folder, whose client/client.toml says how its programs are reached
    #[arg(long, env = "CONCORDAT_FOLDER", default_value = DEFAULT_FOLDER, value_name = "FOLDER")]
    folder: PathBuf,
    /// A gateway elsewhere, instead of --folder: https://host:port
    #[arg(long, env = "CONCORDAT_GATEWAY", value_name = "URL", requires = "ca", requires = "token_file")]
    gateway: Option<String>,
    /// With --gateway: the certificate authority that it is verified against (PEM)
    #[arg(long, env = "CONCORDAT_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// With --gateway: the name in its certificate
    #[arg(long, value_name = "NAME", default_value = GATEWAY_SERVER_NAME)]
    server_name: String,
    /// The file of an auditor's bearer token, instead of the one that client.toml says
    #[arg(long, env = "CONCORDAT_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Doors {
    /// The programs of a federation's folder, read by an auditor.
    pub(super) fn auditor(folder: &Path, token_file: &Path) -> Self {
        let (folder, token_file) = (folder.to_owned(), Some(token_file.to_owned()));
        Self { folder, gateway: None, ca: None, server_name: GATEWAY_SERVER_NAME.to_owned(), token_file }
    }

    /// The gateway's log.
    pub(super) async fn gateway(&self) -> Result<LogDoor> {
        let target = Target::without_purpose(
            self.folder.clone(),
            (self.gateway.clone(), self.ca.clone(), self.server_name.clone()),
            self.token_file.clone(),
        );
        Ok(LogDoor::Gateway(Box::new(target.connect().await?)))
    }

    /// The gateway's log, or that of a department's node.
    pub(super) async fn one(&self, department: Option<&str>) -> Result<LogDoor> {
        let Some(department) = department else { return self.gateway().await };
        let nodes = self.nodes()?;
        let node = nodes.iter().find(|node| node.department == department).ok_or_else(|| {
            let known: Vec<&str> = nodes.iter().map(|node| node.department.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Failure::usage(format!("nothing says how the node of '{department}' is reached; known: {known}"))
                .advice("add [[node]] to client.toml: department, address, ca, certificate and key; or read its folder with --log")
        })?;
        LogDoor::node(node).await
    }

    /// The nodes that can be asked: those of `client.toml`, then those that run in the federation's folder.
    pub(super) fn nodes(&self) -> Result<Vec<NodeFile>> {
        let layout = Layout::new(&self.folder);
        let mut nodes = match layout.client() {
            path if path.exists() => ClientFile::read(&path)?.nodes,
            _ => Vec::new(),
        };
        for node in NodeFile::of_layout(&layout) {
            if nodes.iter().all(|known| known.department != node.department) {
                nodes.push(node);
            }
        }
        Ok(nodes)
    }
}
