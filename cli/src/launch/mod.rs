//! Starts a federation's nodes and gateway as child processes, tells each the others' addresses, and ends them all.

mod addresses;
mod process;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};
use crate::federation::Layout;
use crate::federation::layout::create_private;

pub use self::process::EXIT_ON_STDIN_EOF;
use self::process::Process;

/// How long a child may take until it serves: a first start imports the consent records, 350,000 a second. One that ends is told of at once.
const START: Duration = Duration::from_secs(600);
/// The gateway's place among the children's names.
const GATEWAY: &str = "gateway";

/// A running federation. Dropping it ends the children.
#[derive(Debug)]
pub struct Running {
    program: PathBuf,
    layout: Layout,
    nodes: BTreeMap<String, (Process, String)>,
    gateway: Option<(Process, String)>,
    /// Held while the federation runs, so that the same folder is not started twice or removed meanwhile.
    _lock: File,
}

impl Running {
    /// Starts everything in the folder of `layout` as children of this process. `program` is a `concordat` executable.
    ///
    /// # Errors
    /// When the folder holds no federation or a running one, or a child does not come up: then with the end of its log.
    pub async fn start(program: &Path, layout: &Layout) -> Result<Self> {
        let departments = layout.departments()?;
        let lock = lock(layout)?;
        let mut running = Self { program: program.to_owned(), layout: layout.clone(), nodes: BTreeMap::new(), gateway: None, _lock: lock };
        let mut starting = Vec::new();
        for department in &departments {
            starting.push((department.clone(), running.spawn_node(department)?));
        }
        let deadline = Instant::now() + START;
        for (department, mut process) in starting {
            let address = process.address(deadline).await?;
            running.nodes.insert(department, (process, address));
        }
        let known = running.nodes.iter().map(|(department, (_, address))| (department.clone(), address.clone())).collect();
        addresses::into_estate(layout, &known)?;
        running.start_gateway().await?;
        Ok(running)
    }

    /// The gateway's address as a URL; empty while it is killed.
    #[must_use]
    pub fn gateway(&self) -> String {
        self.gateway.as_ref().map(|(_, address)| format!("https://{address}")).unwrap_or_default()
    }

    /// The departments' names and their nodes' addresses (`127.0.0.1:41234`).
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.nodes.iter().map(|(department, (_, address))| (department.as_str(), address.as_str()))
    }

    /// The process id of a department's node, or of `gateway`.
    #[must_use]
    pub fn process_id(&self, name: &str) -> Option<u32> {
        let process = if name == GATEWAY { self.gateway.as_ref() } else { self.nodes.get(name) };
        process.map(|(process, _)| process.id())
    }

    /// Kills a department's node, or `gateway`, at once.
    pub fn kill(&mut self, name: &str) {
        let process = if name == GATEWAY { self.gateway.as_mut() } else { self.nodes.get_mut(name) };
        if let Some((process, _)) = process {
            process.kill();
        }
    }

    /// Starts a department's node anew, at the address it had.
    ///
    /// # Errors
    /// As [`Running::start`].
    pub async fn restart_node(&mut self, department: &str) -> Result<()> {
        let (old, address) = self.nodes.remove(department).ok_or_else(|| Failure::new(format!("no node '{department}' was started")))?;
        drop(old);
        addresses::into_node(&self.layout, department, &address)?;
        let mut process = self.spawn_node(department)?;
        let address = process.address(Instant::now() + START).await?;
        self.nodes.insert(department.to_owned(), (process, address));
        Ok(())
    }

    /// Starts the gateway anew, with the estate as it is now.
    ///
    /// # Errors
    /// As [`Running::start`].
    pub async fn restart_gateway(&mut self) -> Result<()> {
        self.gateway = None;
        self.start_gateway().await
    }

    /// Waits until a child ends by itself.
    pub async fn watch(&mut self) -> Failure {
        loop {
            let nodes = self.nodes.values_mut();
            for (process, _) in nodes.chain(self.gateway.as_mut()) {
                if let Err(failure) = process.still_runs() {
                    return failure;
                }
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn spawn_node(&self, department: &str) -> Result<Process> {
        Process::start(&self.program, "node", &format!("the node of '{department}'"), &self.layout.node(department))
    }

    async fn start_gateway(&mut self) -> Result<()> {
        let mut process = Process::start(&self.program, GATEWAY, "the gateway", &self.layout.gateway())?;
        let address = process.address(Instant::now() + START).await?;
        addresses::into_client(&self.layout, &address)?;
        self.gateway = Some((process, address));
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // All are asked first, so that they stop at the same time; dropping each then waits for it.
        for (process, _) in self.nodes.values_mut().chain(self.gateway.as_mut()) {
            process.ask_to_stop();
        }
    }
}

/// Fails when something in the folder of `layout` runs.
pub(crate) fn lock(layout: &Layout) -> Result<File> {
    create_private(layout.folder())?;
    let path = layout.folder().join(".running");
    let file = File::create(&path).map_err(|e| Failure::file("written", &path, e))?;
    file.try_lock().map_err(|_| {
        Failure::new(format!("{} is running already", layout.folder().display()))
            .advice("ask it with `concordat query`, stop it with Ctrl-C where it was started, or choose another --folder")
    })?;
    Ok(file)
}

/// Waits for Ctrl-C or a request to end.
pub(crate) async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut hang_up)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup())) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
}
