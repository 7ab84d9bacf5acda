//! The node's own log as hashes: signed checkpoints and proofs, for the gateway and the department's administrators.
//!
//! What administrators read is logged. What the gateway reads is not: it looks at checkpoints as they come, and an entry about each would
//! bring the next one.

use std::sync::Arc;

use concordat_audit::{Entry, Log, LogError};
use concordat_policy::agreement::Fingerprint;
use concordat_policy::{Code, Refusal};
use concordat_proto::peer::Peer;
use concordat_proto::v1;
use tonic::{Request, Response, Status};

use super::Control;
use crate::callers::Reader;
use crate::release::blocking;

impl Control {
    /// Reads the log for who may, and logs it before it is told.
    async fn read_log<T: Send + 'static>(
        &self,
        certificate: Option<Fingerprint>,
        what: &'static str,
        work: impl FnOnce(&Log) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let reader = self.node.callers.reader(certificate)?;
        let node = Arc::clone(&self.node);
        let read = blocking(move || {
            work(&node.log).map_err(|e| {
                Refusal::new(Code::Invalid, "this department's log has no proof of that entry and size")
                    .department(&node.department)
                    .advice("ask for what its latest checkpoint covers: an index below the size, sizes in ascending order")
                    .operator(e)
            })
        })
        .await?;
        if let Reader::Administrator(administrator) = reader {
            self.node.log(Entry::new("log.read").field("what", what).field("certificate", administrator.as_str())).await?;
        }
        Ok(read)
    }
}

#[tonic::async_trait]
impl v1::access_log_server::AccessLog for Control {
    async fn checkpoint(&self, request: Request<v1::LogCheckpointRequest>) -> Result<Response<v1::LogCheckpointResponse>, Status> {
        let peer = Peer::of(&request);
        let work = |log: &Log| {
            Ok(v1::LogCheckpointResponse { checkpoint: log.checkpoint().to_string(), cosigned: log.cosigned().unwrap_or_default() })
        };
        let outcome = self.read_log(peer.certificate.clone(), "checkpoint", work).await;
        self.answer("log.refused", &peer, outcome).await
    }

    async fn inclusion(&self, request: Request<v1::LogInclusionRequest>) -> Result<Response<v1::LogInclusionResponse>, Status> {
        let peer = Peer::of(&request);
        let v1::LogInclusionRequest { index, size } = request.into_inner();
        let work = move |log: &Log| {
            let proof = log.inclusion(index, size)?;
            Ok(v1::LogInclusionResponse { leaf_hash: log.leaf(index)?.to_vec(), proof: wire(&proof) })
        };
        let outcome = self.read_log(peer.certificate.clone(), "inclusion", work).await;
        self.answer("log.refused", &peer, outcome).await
    }

    async fn consistency(&self, request: Request<v1::LogConsistencyRequest>) -> Result<Response<v1::LogConsistencyResponse>, Status> {
        let peer = Peer::of(&request);
        let v1::LogConsistencyRequest { from, to } = request.into_inner();
        let work = move |log: &Log| Ok(v1::LogConsistencyResponse { proof: wire(&log.consistency(from, to)?) });
        let outcome = self.read_log(peer.certificate.clone(), "consistency", work).await;
        self.answer("log.refused", &peer, outcome).await
    }
}

fn wire(hashes: &[concordat_audit::Hash]) -> Vec<Vec<u8>> {
    hashes.iter().map(|hash| hash.to_vec()).collect()
}
