//! `concordat init`: a federation around files that already exist, sharing nothing until people have decided what.

mod draft;
mod infer;

use std::path::{Path, PathBuf};

use chrono::{NaiveDate, Utc};
use clap::Args;
use concordat_policy::{IdentifierType, Name, identifier::IdentifierSpec};

use super::program;
use crate::failure::{Failure, Result};
use crate::federation::describe::{Caller, Dataset, Department, Federation, Identifier, Mission, Purpose};
use crate::federation::layout::write;
use crate::federation::{Made, make};
use crate::out::{progress, thousands};

use self::infer::Inferred;

/// What a draft names as the legal power.
pub(crate) const POWER_TO_BE_NAMED: &str = "TO BE NAMED";

#[derive(Debug, Args)]
#[command(after_help = "\
Example: two departments, two files, from an empty folder to a joined answer

  concordat init trial --mission fairness --purpose fairness.measure \\
    --dataset dfe:pupils:pupils.csv:nino:nino --dataset dwp:claims:claims.parquet:NI_NUMBER:nino
  $EDITOR trial/agreement.toml            (decide who may use which column for what)
  concordat agreement show trial/agreement.toml     (in plain words, as people read it before they sign)
  concordat adopt trial trial/agreement.toml trial/first_view.sql
  concordat up trial
  concordat query --folder trial --view first_view        (in another terminal)

The files stay where they are and are read there; nothing is copied. Column types are inferred. Short lists of values are
published only where every value stands for at least ten people. The agreement is a draft in which no column may be used.")]
pub(crate) struct Init {
    /// The folder to make
    folder: PathBuf,
    /// The mission's name, for example fairness
    #[arg(long, value_name = "NAME", value_parser = name)]
    mission: Name,
    /// The purpose, for example fairness.measure
    #[arg(long, value_name = "NAME", value_parser = name)]
    purpose: Name,
    /// A dataset: its department, its name, its file or folder, the column that identifies people, and that identifier's type
    /// (nino, nhs_number, upn, uprn or company_number)
    #[arg(long = "dataset", required = true, value_name = "DEPARTMENT:NAME:FILE:COLUMN:TYPE", value_parser = Given::parse)]
    datasets: Vec<Given>,
    /// The organisation that may receive answers
    #[arg(long, default_value = "mission-unit", value_name = "NAME")]
    organisation: String,
    /// The role that its people need
    #[arg(long, default_value = "analyst", value_name = "NAME")]
    role: String,
}

fn name(text: &str) -> std::result::Result<Name, String> {
    Name::parse(text).map_err(|e| e.to_string())
}

/// One `--dataset`.
#[derive(Debug, Clone)]
struct Given {
    department: Name,
    name: Name,
    path: PathBuf,
    identifier_column: String,
    identifier: String,
}

impl Given {
    /// The file's name may hold colons; the other parts may not.
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let parts = || {
            let (department, rest) = text.split_once(':')?;
            let (name, rest) = rest.split_once(':')?;
            let (rest, identifier) = rest.rsplit_once(':')?;
            let (path, column) = rest.rsplit_once(':')?;
            Some((department, name, path, column, identifier))
        };
        let (department, dataset, path, column, identifier) = parts().ok_or("write DEPARTMENT:NAME:FILE:COLUMN:TYPE")?;
        identifier_type(identifier)?;
        let plain = |what: &str, text: &str| match name(text) {
            Ok(name) if concordat_policy::agreement::column_name_ok(text) => Ok(name),
            _ => Err(format!("the {what} '{text}' stands in SQL: write it with a-z, 0-9 and _, a letter first")),
        };
        Ok(Self {
            department: plain("department", department)?,
            name: plain("dataset", dataset)?,
            path: path.into(),
            identifier_column: column.into(),
            identifier: identifier.into(),
        })
    }
}

fn identifier_type(kind: &str) -> std::result::Result<IdentifierType, String> {
    IdentifierType::from_spec(&IdentifierSpec { kind: kind.into(), name: None, pattern: None })
        .map_err(|e| format!("{e}; init knows the fixed types, a custom one is written into node.toml and the agreement by hand"))
}

pub(crate) async fn run(init: Init) -> Result<()> {
    let today = Utc::now().date_naive();
    let mut federation = describe(&init).await?;
    let made = make(&federation, &init.folder, today)?;
    federation.agreements = vec![draft::agreement(&init, &federation, today)];
    write_drafts(&init, &federation, &made, today)?;
    let (program, folder) = (program(), init.folder.display());
    progress(&format!(
        "
{folder} is ready, and shares nothing yet. Next:

  1. Decide in {folder}/agreement.toml which columns may be used for what.
  2. {program} adopt {folder} {folder}/agreement.toml {folder}/first_view.sql
  3. {program} up {folder}
  4. {program} query --folder {folder} --view first_view"
    ));
    Ok(())
}

async fn describe(init: &Init) -> Result<Federation> {
    let mut departments: Vec<Department> = Vec::new();
    for given in &init.datasets {
        let dataset = dataset(given).await?;
        match departments.iter_mut().find(|d| d.id == given.department.as_str()) {
            Some(department) if department.datasets.iter().any(|d| d.name == dataset.name) => {
                return Err(Failure::usage(format!("dataset '{}.{}' is given twice", department.id, dataset.name)));
            }
            Some(department) => department.datasets.push(dataset),
            None => {
                let id = given.department.to_string();
                departments.push(Department { title: id.clone(), id, datasets: vec![dataset], ..Department::default() });
            }
        }
    }
    let caller = Caller {
        subject: "analyst-1".into(),
        organisation: init.organisation.clone(),
        roles: vec![init.role.clone()],
        purpose: init.purpose.to_string(),
    };
    let mission = Mission { id: init.mission.to_string(), title: init.mission.to_string(), goal: "to be written".into() };
    Ok(Federation { departments, purposes: purposes(&init.purpose), missions: vec![mission], caller, ..Federation::default() })
}

/// The purpose and the wider ones that its name implies: `a.b.c` lies in `a.b`, which lies in `a`.
fn purposes(purpose: &Name) -> Vec<Purpose> {
    let ends = purpose.as_str().match_indices('.').map(|(at, _)| at).chain([purpose.as_str().len()]);
    let mut parent = None;
    ends.filter_map(|end| purpose.as_str().get(..end))
        .map(|id| Purpose { id: id.into(), title: id.into(), parent: parent.replace(id.to_owned()), retired: false })
        .collect()
}

/// Looks at the file and describes the dataset.
async fn dataset(given: &Given) -> Result<Dataset> {
    let kind = identifier_type(&given.identifier).map_err(Failure::usage)?;
    let inferred = infer::infer(&given.path, &given.identifier_column, &kind).await?;
    report(given, &inferred);
    Ok(Dataset {
        name: given.name.to_string(),
        title: given.name.to_string(),
        source: inferred.source,
        format: inferred.format,
        identifier_column: given.identifier_column.clone(),
        identifier: Identifier::of(&given.identifier),
        linked: None,
        columns: inferred.columns,
    })
}

fn report(given: &Given, inferred: &Inferred) {
    let name = format!("{}.{}", given.department, given.name);
    progress(&format!(
        "{name}: {} rows, {} columns; {} rows have a valid {}",
        thousands(inferred.rows),
        inferred.columns.len(),
        thousands(inferred.valid_identifiers),
        given.identifier
    ));
    for skipped in &inferred.skipped {
        progress(&format!("  not offered: {skipped}"));
    }
    if inferred.valid_identifiers == 0 {
        progress("  no row can be joined: is this the right column and type?");
    }
}

fn write_drafts(init: &Init, federation: &Federation, made: &Made, today: NaiveDate) -> Result<()> {
    let folder: &Path = &init.folder;
    write(&folder.join("agreement.toml"), &draft::agreement_text(federation, made, folder)?)?;
    write(&folder.join("first_view.sql"), &draft::view(init, federation, today))
}

#[cfg(test)]
mod tests;
