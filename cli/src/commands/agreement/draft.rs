//! `agreement new`: the draft that explains every field.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use concordat_policy::Name;
use concordat_policy::agreement::DRAFT;

use crate::failure::{Failure, Result};
use crate::out;

pub(super) fn write(path: &Path, id: &Name) -> Result<()> {
    let text = DRAFT.replacen("id = \"draft\"", &format!("id = \"{id}\""), 1);
    let made = OpenOptions::new().write(true).create_new(true).open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    made.map_err(|e| Failure::file("written", path, e).advice("name a file that does not exist yet: nothing is replaced"))?;
    out::progress(&format!("{} is written and permits nothing. Fill it in; then: concordat agreement check {0}", path.display()));
    Ok(())
}
