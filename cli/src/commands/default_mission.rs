//! `concordat use`: which mission counts when none is named, and what is saved for it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::DEFAULT_FOLDER;
use super::in_force::{InForce, Sourced};
use crate::client::{ClientFile, MissionDefaults};
use crate::failure::{Failure, Result};
use crate::federation::Layout;
use crate::federation::layout::read;
use crate::federation::text::quoted;
use crate::out;
use crate::output::{Format, Sink};
use crate::table::Table;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concordat use                                                     what is in force, and where it comes from
  concordat use healthy-life --purpose health.prevention            from now on this mission, with this purpose
  concordat use opportunity --purpose opportunity.measure --output csv

Written to client.toml as `use = \"MISSION\"` and `[mission.MISSION]`; edit it there as you like. The command line counts first, then
CONCORDAT_MISSION, CONCORDAT_PURPOSE and CONCORDAT_OUTPUT, then what is saved for the mission, then client.toml's own purpose.
A purpose given for one call sets a saved mission aside unless it is that mission's own.")]
pub(crate) struct Use {
    /// The mission that counts where none is named
    mission: Option<String>,
    /// The purpose to save for it
    #[arg(long, value_name = "PURPOSE", requires = "mission")]
    purpose: Option<String>,
    /// The output to save for it
    #[arg(long, value_enum, value_name = "FORMAT", requires = "mission")]
    output: Option<Format>,
    /// The federation's folder
    #[arg(long, env = "CONCORDAT_FOLDER", default_value = DEFAULT_FOLDER, value_name = "FOLDER")]
    folder: PathBuf,
}

pub(crate) fn run(chosen: Use) -> Result<()> {
    let path = Layout::new(&chosen.folder).client();
    if let Some(mission) = &chosen.mission {
        save(&path, mission, chosen.purpose.as_deref(), chosen.output)?;
    }
    let file = ClientFile::read(&path)?;
    let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (purpose, mission) = (environment("CONCORDAT_PURPOSE"), environment("CONCORDAT_MISSION"));
    let in_force = InForce::of(purpose.as_deref(), mission.as_deref(), &file);
    let output = environment("CONCORDAT_OUTPUT").map(|name| (name, "CONCORDAT_OUTPUT".to_owned())).or(in_force.output);
    let row = |what: &str, value: Sourced, otherwise: &str| {
        let (value, place) = value.unwrap_or_else(|| (otherwise.to_owned(), String::new()));
        vec![what.to_owned(), value, place]
    };
    let rows = vec![
        row("mission", in_force.mission, "(the one that the purpose leads to)"),
        row("purpose", in_force.purpose, "(none: name one with --purpose)"),
        row("output", output, "table"),
        vec!["gateway".into(), file.gateway, "client.toml".into()],
    ];
    out::result(&Table::of(&["in force", "value", "from"], rows).text(out::colour()))
}

/// Writes the choice, and reads it again before the file is replaced: whatever else stands there stays as it is.
fn save(path: &Path, mission: &str, purpose: Option<&str>, output: Option<Format>) -> Result<()> {
    for name in [Some(mission), purpose].into_iter().flatten() {
        concordat_policy::Name::parse(name).map_err(|e| Failure::usage(format!("'{name}': {e}")))?;
    }
    let before = read(path)?;
    let known = ClientFile::read(path)?;
    let table = if mission.contains('.') { format!("mission.{}", quoted(mission)) } else { format!("mission.{mission}") };
    let mut text = set(&before, None, "use", mission);
    for (key, value) in [("purpose", purpose), ("output", output.map(Format::name))] {
        if let Some(value) = value {
            text = set(&text, Some(&table), key, value);
        }
    }
    let mut expected = known.defaults;
    let own = expected.entry(mission.to_owned()).or_default();
    own.purpose = purpose.map(str::to_owned).or_else(|| own.purpose.take());
    own.output = output.map(|o| o.name().to_owned()).or_else(|| own.output.take());
    expected.retain(|_, defaults| *defaults != MissionDefaults::default());
    let by_hand = || Failure::new(format!("{} cannot be changed safely", path.display())).advice("write `use` and [mission.…] by hand");
    let written: ClientFile = toml::from_str(&text).map_err(|_| by_hand())?;
    let saved = written.defaults.into_iter().filter(|(_, defaults)| *defaults != MissionDefaults::default());
    if written.mission.as_deref() != Some(mission) || !saved.eq(expected) {
        return Err(by_hand());
    }
    let mut file = Sink::file(path)?;
    file.write_all(text.as_bytes()).map_err(|e| Failure::file("written", path, e))?;
    file.finish()
}

/// The text with `key = "value"` in `table`, or above all tables.
fn set(text: &str, table: Option<&str>, key: &str, value: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let is_header = |line: &String| line.trim_start().starts_with('[');
    let header = |line: &String| line.trim().strip_prefix('[')?.split_once(']').map(|(name, _)| name.trim().to_owned());
    let start = match table {
        None => 0,
        Some(table) => match lines.iter().position(|line| header(line).as_deref() == Some(table)) {
            Some(at) => at + 1,
            None => {
                lines.extend([String::new(), format!("[{table}]")]);
                lines.len()
            }
        },
    };
    let length = lines.iter().skip(start).position(is_header).unwrap_or(lines.len() - start);
    let assigns = |line: &String| line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='));
    let new = format!("{key} = {}", quoted(value));
    let section = || lines.iter().enumerate().skip(start).take(length);
    if let Some(at) = section().find(|(_, line)| assigns(line)).map(|(at, _)| at) {
        if let Some(line) = lines.get_mut(at) {
            *line = new;
        }
    } else {
        let is_assignment = |line: &str| line.contains('=') && !line.trim_start().starts_with('#');
        let after = section().rfind(|(_, line)| is_assignment(line)).map_or(start, |(at, _)| at + 1);
        lines.insert(after, new);
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "# how to reach it\ngateway = \"g\"\nserver_name = \"s\"\nca = \"c\"\npurpose = \"p\"   # said\n\n# below\n[issuer]\nkey = \"k\"\n\
                          subject = \"u\"\norganisation = \"o\"\nroles = [\"r\"]\n";

    #[test]
    fn only_what_was_chosen_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.toml");
        std::fs::write(&path, BEFORE).unwrap();
        save(&path, "m", None, None).unwrap();
        let once = read(&path).unwrap();
        assert_eq!(once, BEFORE.replace("# said\n", "# said\nuse = \"m\"\n"));
        save(&path, "m-2", Some("p.q"), Some(Format::Csv)).unwrap();
        let expected = once.replace("use = \"m\"", "use = \"m-2\"") + "\n[mission.m-2]\npurpose = \"p.q\"\noutput = \"csv\"\n";
        assert_eq!(read(&path).unwrap(), expected);
        save(&path, "a.b", Some("p"), None).unwrap();
        save(&path, "m-2", Some("p.r"), None).unwrap();
        let file = ClientFile::read(&path).unwrap();
        assert_eq!((file.mission.as_deref(), file.purpose.as_deref(), file.defaults.len()), (Some("m-2"), Some("p"), 2));
        assert_eq!(file.defaults["m-2"].purpose.as_deref(), Some("p.r"));
        assert_eq!((file.defaults["m-2"].output.as_deref(), file.defaults["a.b"].purpose.as_deref()), (Some("csv"), Some("p")));
    }

    #[test]
    fn what_cannot_be_changed_safely_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.toml");
        let odd = format!("server_name = \"\"\"\n[x]\nuse = \"\"\"\n{}", BEFORE.replace("server_name = \"s\"\n", ""));
        for text in [odd.as_str(), &format!("mission = {{ m = {{ purpose = \"p\" }} }}\n{BEFORE}")] {
            std::fs::write(&path, text).unwrap();
            let _ = save(&path, "m", Some("q"), None);
            let file = ClientFile::read(&path).unwrap();
            assert!(read(&path).unwrap() == text || file.mission.as_deref() == Some("m"));
        }
        assert!(save(&path, "Not a name", None, None).is_err());
    }
}
