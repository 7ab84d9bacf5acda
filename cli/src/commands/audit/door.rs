//! Which running program's log is read: the gateway's, or a department's node's.

use std::path::Path;

use clap::Args;

use super::super::target::Gateway;
use crate::client::{ClientFile, LogDoor, NodeFile};
use crate::failure::{Failure, Result};
use crate::federation::Layout;

/// Where the programs are, and who reads; without --log. The folder says where nodes are.
#[derive(Debug, Args)]
pub(crate) struct Doors {
    #[command(flatten)]
    to: Gateway,
}

impl Doors {
    /// The programs of a federation's folder, read by an auditor.
    pub(super) fn auditor(folder: &Path, token_file: &Path) -> Self {
        Self { to: Gateway::folder(folder.to_owned()).by_token(token_file.to_owned()) }
    }

    /// The gateway's log.
    pub(super) async fn gateway(&self) -> Result<LogDoor> {
        Ok(LogDoor::Gateway(Box::new(self.to.connect_auditor().await?)))
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
        let layout = Layout::new(&self.to.folder);
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
