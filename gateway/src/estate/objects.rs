//! Missions' outcomes and outputs, read against the rest of the estate.

use std::path::Path;

use concordat_mission::mission::Computed;
use concordat_mission::{Known, Mission};
use concordat_policy::{Agreement, Name, Problem};

use super::{Estate, listed};
use crate::config::{read, report};
use crate::plan;

impl Estate {
    /// Reads `missions/*.toml` of `folder`, which holds the estate: what each mission is to change and what is done about it. None where there
    /// is no such folder.
    ///
    /// # Errors
    /// A report of everything wrong in the first file that is wrong, by itself or beside the rest of the estate.
    pub fn objects(&self, folder: &Path) -> miette::Result<Vec<Mission>> {
        let Objects { sound, wrong, .. } = self.objects_each(folder)?;
        wrong.into_iter().next().map_or(Ok(sound), Err)
    }

    /// The same, file by file: what is wrong with one is its own mission's matter.
    ///
    /// # Errors
    /// That the folder cannot be read.
    pub fn objects_each(&self, folder: &Path) -> miette::Result<Objects> {
        let mut objects = Objects::default();
        for path in listed(&folder.join("missions"), "toml")? {
            match self.object(&path, &objects) {
                Ok((mission, None)) => objects.sound.push(mission),
                Ok((mission, Some(wrong))) => {
                    objects.unsound.push(mission);
                    objects.wrong.push(wrong);
                }
                Err(wrong) => objects.wrong.push(wrong),
            }
        }
        Ok(objects)
    }

    /// The mission of a file, and what it names and the estate does not have.
    fn object(&self, path: &Path, before: &Objects) -> miette::Result<(Mission, Option<miette::Report>)> {
        let text = read(path)?;
        let mission = Mission::parse(&text).map_err(|problems| report(path, &text, &problems))?;
        let mut problems = mission.problems(&text, self);
        if before.sound.iter().chain(&before.unsound).any(|other| other.id == mission.id) {
            let cause = format!("another file states the outcomes of the mission '{}'", mission.id);
            problems.push(Problem::at(mission.id.as_str(), cause, "state all of them in one file"));
            return Err(report(path, &text, &problems));
        }
        let wrong = (!problems.is_empty()).then(|| report(path, &text, &problems));
        Ok((mission, wrong))
    }
}

/// The missions of an estate, and what is wrong with their files.
#[derive(Debug, Default)]
pub struct Objects {
    /// Those of whose files nothing is wrong.
    pub sound: Vec<Mission>,
    /// Those that name what the estate does not have: an agreement that ended, a view that is gone. What was measured can be told.
    pub unsound: Vec<Mission>,
    /// A report for each file that is wrong, of these and of those that state no mission.
    pub wrong: Vec<miette::Report>,
    /// How many agreements are not in the estate because their files are wrong.
    pub agreements_left_out: usize,
}

impl Known for Estate {
    fn mission(&self, id: &Name) -> Option<(&str, &str)> {
        self.mission(id).map(|mission| (mission.title.as_str(), mission.goal.as_str()))
    }

    fn department(&self, id: &Name) -> bool {
        self.departments.iter().any(|department| department.id == *id)
    }

    fn receives(&self, mission: &Name, organisation: &str) -> bool {
        let named = |one: &Agreement| one.mission == *mission && one.recipients.iter().any(|one| one.organisation == organisation);
        self.agreements.iter().any(named)
    }

    fn permits(&self, mission: &Name, purpose: &Name) -> bool {
        let covers = |one: &Agreement| one.mission == *mission && one.purposes.iter().any(|agreed| self.purposes.covers(agreed, purpose));
        self.agreements.iter().any(covers)
    }

    fn covers(&self, mission: &Name, dataset: &str) -> bool {
        let named = |one: &Agreement| one.mission == *mission && one.datasets.iter().any(|agreed| agreed.name.to_string() == dataset);
        self.agreements.iter().any(named)
    }

    fn columns(&self, mission: &Name, view: &str) -> Option<Result<Vec<String>, String>> {
        let view = self.views.iter().find(|one| one.mission == *mission && one.name == view)?;
        Some(plan::columns(&view.sql))
    }

    fn computed(&self, mission: &Name, view: &str, column: &str) -> Option<Computed> {
        let view = self.views.iter().find(|one| one.mission == *mission && one.name == view)?;
        plan::computed(&view.sql, column)
    }
}
