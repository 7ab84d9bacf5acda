//! Missions' outcomes and outputs, read against the rest of the estate.

use std::path::Path;

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
        let mut missions: Vec<Mission> = Vec::new();
        for path in listed(&folder.join("missions"), "toml")? {
            let text = read(&path)?;
            let mission = Mission::parse(&text).map_err(|problems| report(&path, &text, &problems))?;
            let mut problems = mission.problems(&text, self);
            if missions.iter().any(|other| other.id == mission.id) {
                let cause = format!("another file states the outcomes of the mission '{}'", mission.id);
                problems.push(Problem::at(mission.id.as_str(), cause, "state all of them in one file"));
            }
            if !problems.is_empty() {
                return Err(report(&path, &text, &problems));
            }
            missions.push(mission);
        }
        Ok(missions)
    }
}

impl Known for Estate {
    fn mission(&self, id: &Name) -> Option<(&str, &str)> {
        self.mission(id).map(|mission| (mission.title.as_str(), mission.goal.as_str()))
    }

    fn department(&self, id: &Name) -> bool {
        self.departments.iter().any(|department| department.id == *id)
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
}
