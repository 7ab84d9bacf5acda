//! `concordat logout`: ends the sign-in at the provider, and forgets the tokens.

use std::path::PathBuf;

use clap::Args;

use super::{DEFAULT_FOLDER, login};
use crate::failure::Result;
use crate::out::progress;
use crate::session::{self, Ended};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  concordat logout

The provider revokes what it can (most revoke the refresh token); the tokens here are removed in any case. An access token that
somebody copied before stays valid until it expires: minutes, at most an hour.")]
pub(crate) struct Logout {
    /// The federation's folder, whose client/client.toml names the provider
    #[arg(long, env = "CONCORDAT_FOLDER", default_value = DEFAULT_FOLDER, value_name = "FOLDER")]
    folder: PathBuf,
}

pub(crate) async fn run(logout: Logout) -> Result<()> {
    let settings = login::settings(&logout.folder)?;
    match session::end(&settings).await? {
        Ended::NotSignedIn => progress("nobody is signed in: nothing to do"),
        Ended::Revoked => progress(&format!("signed out: {} has revoked the sign-in, and the tokens here are removed", settings.issuer)),
        Ended::OnlyHere => {
            progress(&format!("signed out here; {} offers no revocation, so that the tokens lapse by themselves", settings.issuer))
        }
    }
    Ok(())
}
