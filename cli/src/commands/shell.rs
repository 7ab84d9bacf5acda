//! `concordat completions` and `concordat man`: what shells and `man` want to know of the command line.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::failure::{Failure, Result};
use crate::out;

/// The program's name in scripts and pages.
const NAME: &str = "concordat";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concordat completions bash > ~/.local/share/bash-completion/completions/concordat
  concordat completions zsh > \"${fpath[1]}/_concordat\"
  concordat completions fish > ~/.config/fish/completions/concordat.fish")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concordat man --to ~/.local/share/man/man1 && man concordat-query")]
pub(crate) struct Man {
    /// The folder for one page per command; made if it is not there
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
}

/// Prints the completion script of `line`.
pub(crate) fn completions(completions: &Completions, mut line: clap::Command) -> Result<()> {
    let shell = match completions.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut line, NAME, &mut script);
    let script = String::from_utf8(script).map_err(|e| Failure::new(format!("the script is no text: {e}")))?;
    out::result(&script)
}

/// Writes the pages of `line` and its commands.
pub(crate) fn man(man: &Man, line: clap::Command) -> Result<()> {
    std::fs::create_dir_all(&man.to).map_err(|e| Failure::file("created", &man.to, e))?;
    clap_mangen::generate_to(line, &man.to).map_err(|e| Failure::file("written", &man.to, e))?;
    out::progress(&format!("the pages are in {}", man.to.display()));
    Ok(())
}
