//! One child process: `concordat node serve` or `concordat gateway serve`.
//!
//! The child's standard input is a pipe from us that never carries a byte. It ends when we let go of it, be it that we stop the
//! child, that we end, or that we are killed: whichever it is, the child sees the end and stops by itself.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};

/// Set for children: stop when standard input ends.
pub const EXIT_ON_STDIN_EOF: &str = "CONCORDAT_EXIT_ON_STDIN_EOF";

const TUNABLES: &str = "GLIBC_TUNABLES";
/// How the GNU C library keeps memory: what is large is given back at once. Else a node keeps a good part of what it needed while it made a
/// snapshot. The services' units say the same, and the image all but the arenas; where there is another C library it says nothing.
const MEMORY: &str = "glibc.malloc.mmap_threshold=4194304:glibc.malloc.trim_threshold=8388608";
/// Of a node: with the sixteen arenas that two cores have else, it keeps a third more. The gateway's answers to many callers would be fewer.
const ARENAS: &str = "glibc.malloc.arena_max=4:";

/// How often we look whether something has happened.
const POLL: Duration = Duration::from_millis(20);
/// How long a child may take to stop before it is killed: longer than its drain (`run.rs`) and its farewell to a collector.
const PATIENCE: Duration = Duration::from_secs(8);

/// A running child.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) name: String,
    folder: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `program kind serve --config folder/kind.toml`. `name` is for people.
    pub(super) fn start(program: &Path, kind: &str, name: &str, folder: &Path) -> Result<Self> {
        let address = address_file(folder);
        if let Err(e) = fs::remove_file(&address)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            return Err(Failure::file("removed", &address, e));
        }
        let log = log_file(folder);
        let stderr = File::create(&log).map_err(|e| Failure::file("written", &log, e))?;
        let memory = memory(kind);
        let child = Command::new(program)
            .args([kind, "serve", "--config"])
            .arg(folder.join(format!("{kind}.toml")))
            .env(EXIT_ON_STDIN_EOF, "1")
            .env(TUNABLES, std::env::var_os(TUNABLES).unwrap_or_else(|| memory.into()))
            // A group of its own: Ctrl-C reaches us only, and we stop the children in order.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .map_err(|e| Failure::file("started", program, e))?;
        Ok(Self { name: name.to_owned(), folder: folder.to_owned(), child })
    }

    /// Waits until it serves, and returns its address: `127.0.0.1:41234`.
    pub(super) async fn address(&mut self, deadline: Instant) -> Result<String> {
        loop {
            // The file appears by a rename, so it is complete once it is there.
            if let Ok(text) = fs::read_to_string(address_file(&self.folder)) {
                return Ok(text.trim().to_owned());
            }
            self.still_runs()?;
            if Instant::now() > deadline {
                let message = format!("{} did not start in time", self.name);
                return Err(Failure::new(format!("{message}{}", self.last_words())).advice("is the machine very busy? try again"));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Fails, with the end of its log, when it has ended by itself.
    pub(super) fn still_runs(&mut self) -> Result<()> {
        let Ok(Some(status)) = self.child.try_wait() else { return Ok(()) };
        let log = log_file(&self.folder);
        Err(Failure::new(format!("{} has ended ({status}){}", self.name, self.last_words())).advice(format!("its log: {}", log.display())))
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop.
    pub(super) fn ask_to_stop(&mut self) {
        self.child.stdin = None;
    }

    /// Waits until it has ended, and kills it if it takes too long.
    pub(super) fn end(&mut self, asked: Instant) {
        while asked.elapsed() < PATIENCE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(POLL);
        }
        self.kill();
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The last lines of its standard error.
    fn last_words(&self) -> String {
        let text = fs::read(log_file(&self.folder)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.get(lines.len().saturating_sub(25)..).unwrap_or_default();
        if last.is_empty() { String::new() } else { format!(":\n{}", last.join("\n")) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.ask_to_stop();
        self.end(Instant::now());
    }
}

fn memory(kind: &str) -> String {
    let arenas = if kind == "node" { ARENAS } else { "" };
    format!("{arenas}{MEMORY}")
}

fn address_file(folder: &Path) -> PathBuf {
    folder.join("state/address")
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("stderr.log")
}

#[cfg(test)]
mod tests {
    use super::{TUNABLES, memory};

    #[test]
    fn memory_is_kept_the_same_way_wherever_programs_start() {
        for (kind, start, text) in [
            ("node", "Environment=", include_str!("../../../deploy/concordat-node.service")),
            ("gateway", "Environment=", include_str!("../../../deploy/concordat-gateway.service")),
            // One for both.
            ("gateway", "ENV ", include_str!("../../../deploy/Containerfile")),
        ] {
            let line = format!("{start}{TUNABLES}={}", memory(kind));
            assert!(text.lines().any(|found| found == line), "{line}");
        }
    }
}
