//! `concordat login`: a token of one's own from the identity provider, by browser or by device code.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use chrono::Utc;
use clap::Args;

use super::DEFAULT_FOLDER;
use crate::client::{ClientFile, LoginFile};
use crate::failure::{Failure, Result};
use crate::federation::Layout;
use crate::out::progress;
use crate::session::{self, Provider, Session};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concordat login                 opens the browser; without a desktop, shows a code to enter elsewhere
  concordat login --device        always the code: for machines that you reach over SSH
  concordat login --no-browser    shows the address to open in a browser on this machine

Where to sign in stands in client.toml:
  [login]
  issuer = \"https://id.example\"
  client_id = \"concordat\"
  resource = \"https://gateway.example\"   # where the provider wants to know for whom the token is

Tokens are kept in the desktop's keyring or, where there is none, in a file that only you can read; they are never printed.")]
pub(crate) struct Login {
    /// The federation's folder, whose client/client.toml names the provider
    #[arg(long, env = "CONCORDAT_FOLDER", default_value = DEFAULT_FOLDER, value_name = "FOLDER")]
    folder: PathBuf,
    /// Show a code to enter in a browser on any device
    #[arg(long, conflicts_with = "no_browser")]
    device: bool,
    /// Show the address to open in a browser on this machine, instead of opening it
    #[arg(long)]
    no_browser: bool,
}

pub(crate) async fn run(login: Login) -> Result<()> {
    let settings = settings(&login.folder)?;
    let provider = Provider::discover(&settings).await?;
    let by_browser = login.no_browser || (!login.device && has_desktop());
    let session = if by_browser {
        provider.by_browser(|address| show_or_open(address, login.no_browser)).await?
    } else {
        provider
            .by_device(|device| {
                progress(&format!("Open {} on any device and enter the code {}", device.address, device.code));
                if let Some(complete) = &device.complete {
                    progress(&format!("or open {complete}"));
                }
            })
            .await?
    };
    let place = session::keep(&settings, &session)?;
    progress(&format!("signed in at {}{}; kept in {place}", settings.issuer, until(&session)));
    Ok(())
}

/// The `[login]` of a folder's `client.toml`.
pub(super) fn settings(folder: &std::path::Path) -> Result<LoginFile> {
    let path = Layout::new(folder).client();
    ClientFile::read(&path)?.login.ok_or_else(|| {
        Failure::new(format!("{} has no [login]", path.display())).advice(
            "add [login] with issuer and client_id, as your identity provider's operator gave them; or name a token with --token-file",
        )
    })
}

fn show_or_open(address: &str, only_show: bool) {
    if only_show {
        progress(&format!("Open this address in a browser on this machine:\n{address}"));
    } else if webbrowser::open(address).is_ok() {
        progress("Continue in the browser.");
    } else {
        progress(&format!("No browser could be opened. Open this address in one on this machine:\n{address}"));
    }
}

/// Whether there is somebody with a browser on this machine.
fn has_desktop() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let desktop = cfg!(target_os = "macos") || set("DISPLAY") || set("WAYLAND_DISPLAY") || set("BROWSER");
    std::io::stderr().is_terminal() && desktop
}

fn until(session: &Session) -> String {
    match (session.refreshable(), session.expires(Utc::now())) {
        (true, _) => ", and refreshed when needed".into(),
        (false, Some(minutes)) => format!(" for {minutes} minutes"),
        (false, None) => String::new(),
    }
}
