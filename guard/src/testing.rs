//! A folder of guard rails and the names around it.

use std::path::Path;

use concordat_policy::{Name, PurposeTree};
use tempfile::TempDir;

use crate::{Damage, Known, Settings};

const PURPOSES: &str = r#"purpose = [
  { id = "opportunity", title = "O" },
  { id = "opportunity.measure", title = "M", parent = "opportunity" },
  { id = "health", title = "H" },
]"#;

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn known() -> Known {
    let names = |all: &[&str]| all.iter().map(|text| name(text)).collect();
    Known {
        purposes: PurposeTree::parse(PURPOSES).unwrap(),
        missions: names(&["opportunity", "healthy-life"]),
        datasets: names(&["claims", "homes"]),
        agreements: names(&["one"]),
    }
}

/// The rails of a folder, in London.
pub(crate) fn settings(folder: &Path) -> Settings {
    toml::from_str::<Settings>("policies = 'guard'\ntime_zone = 'Europe/London'").unwrap().under(folder)
}

/// A folder whose `guard` holds these files.
pub(crate) fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("guard")).unwrap();
    write(folder.path(), files);
    folder
}

pub(crate) fn write(folder: &Path, files: &[(&str, &str)]) {
    for (file, text) in files {
        std::fs::write(folder.join("guard").join(file), text).unwrap();
    }
}

/// Damage without the folder's path.
pub(crate) fn told(folder: &Path, damage: &[Damage]) -> String {
    let lines: Vec<String> = damage.iter().map(|one| format!("{one}; {}", one.remedy)).collect();
    lines.join("\n").replace(&format!("{}/", folder.display()), "")
}
