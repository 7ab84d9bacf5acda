//! The estate: departments, purposes, missions, agreements and outcome views, read and checked as a whole.
//!
//! Every reference must resolve, the list of revoked keys must be sound, and every view must parse and name datasets that some
//! agreement of its mission covers; otherwise the gateway does not start, and one that runs goes on with what it had, but without the
//! keys that were revoked meanwhile. An agreement that a party has not signed is kept, and nothing is planned under it. One estate never
//! changes but for its guard rails; `Current` holds the one that counts now.
//!
//! What missions are to change ([`Estate::objects`]) is checked against all of it and decides nothing: a mistake there keeps no gateway
//! from starting, and no agreement from ending.

mod composition;
mod current;
mod differing;
mod objects;
mod template;

use std::collections::BTreeSet;
use std::path::Path;

use chrono::Utc;
use concordat_guard::ClaimGuard;
use concordat_policy::{Agreement, Code, Name, Problem, PurposeTree, Refusal, Signatures};
use concordat_proto::signature::{files, kept};
use serde::Deserialize;

pub use self::composition::{Coverage, view_names};
pub(crate) use self::current::{Current, Texts, forgotten};
pub use self::objects::Objects;
pub use self::template::Template;
use crate::config::{read, report};
use crate::plan;

/// A department of the estate.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Department {
    /// Its name, the schema of its datasets in SQL.
    pub id: Name,
    /// Its title, for people.
    pub title: String,
    /// Its node: `https://host:port`.
    pub address: String,
    /// The DNS name in its node's certificate.
    pub server_name: String,
    /// Whom to ask about its datasets and rules: an address, a team, a page. Shown to callers.
    #[serde(default)]
    pub contact: Option<String>,
}

/// A mission.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mission {
    /// Its name, the catalog of its datasets and views in SQL.
    pub id: Name,
    /// Its title, for people.
    pub title: String,
    /// The goal.
    #[serde(default)]
    pub goal: String,
}

/// An outcome view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Its name, from the file's name.
    pub name: String,
    /// Its mission.
    pub mission: Name,
    /// Its title, for people.
    pub title: String,
    /// What a row is counted in.
    pub unit: String,
    /// What it says and how to read it, for people.
    pub description: String,
    /// One SELECT.
    pub sql: String,
}

/// A report for each file that is wrong.
#[derive(Debug, Default)]
pub struct Wrong {
    /// Agreements, which are left out.
    pub agreements: Vec<miette::Report>,
    /// Views.
    pub views: Vec<miette::Report>,
}

/// Everything together.
#[derive(Debug, Clone)]
pub struct Estate {
    /// The departments.
    pub departments: Vec<Department>,
    /// The purposes.
    pub purposes: PurposeTree,
    /// The missions.
    pub missions: Vec<Mission>,
    /// The agreements, signed or not.
    pub agreements: Vec<Agreement>,
    /// What lies beside them as signatures, and which keys are revoked.
    pub signatures: Signatures,
    /// The views.
    pub views: Vec<View>,
    /// What views with values are made of; none of them is a view.
    pub templates: Vec<Template>,
    /// The guard rails, as they were read for this estate's purposes and missions.
    pub(crate) guard: ClaimGuard,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DepartmentsFile {
    #[serde(default)]
    department: Vec<Department>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MissionsFile {
    #[serde(default)]
    mission: Vec<Mission>,
}

impl Estate {
    /// Reads `folder`: `departments.toml`, `purposes.toml`, `missions.toml`, `agreements/*.toml` with their signatures and
    /// `revoked.toml` and statements of succession, `views/*.sql`. What `state` has seen of these counts too. Guard rails come to it in `Current`.
    ///
    /// # Errors
    /// A report of everything wrong in the first file that is wrong.
    pub fn load(folder: &Path, state: &Path) -> miette::Result<Self> {
        let (estate, Wrong { agreements, views }) = Self::load_each(folder, state)?;
        agreements.into_iter().chain(views).next().map_or(Ok(estate), Err)
    }

    /// The same for who tells of the past and plans nothing: agreements that are wrong are left out, views that rest on what is gone are
    /// kept, and both are reported.
    ///
    /// # Errors
    /// As [`Estate::load`], but for agreements and views.
    pub fn load_each(folder: &Path, state: &Path) -> miette::Result<(Self, Wrong)> {
        let departments: DepartmentsFile = parsed(&folder.join("departments.toml"))?;
        let missions: MissionsFile = parsed(&folder.join("missions.toml"))?;
        let purposes_path = folder.join("purposes.toml");
        let purposes_text = read(&purposes_path)?;
        let purposes = PurposeTree::parse(&purposes_text).map_err(|p| report(&purposes_path, &purposes_text, &p))?;
        let papers = folder.join("agreements");
        let revoked = files::revoked_ever(&papers, state);
        let (revoked, _) = revoked.map_err(|damaged| report(&damaged.path, &damaged.text, &damaged.problems))?;
        let seen = kept::seen(&papers, Some(state)).map_err(|damaged| report(&damaged.path, &damaged.text, &damaged.problems))?;
        let mut estate = Self {
            departments: departments.department,
            purposes,
            missions: missions.mission,
            agreements: Vec::new(),
            signatures: Signatures::new(revoked, seen),
            views: Vec::new(),
            templates: Vec::new(),
            guard: ClaimGuard::default(),
        };
        estate.unique(folder)?;
        let mut wrong = Wrong::default();
        for path in listed(&papers, "toml")?.into_iter().filter(|path| files::is_agreement(path)) {
            let agreement = match estate.agreement(&path) {
                Ok(agreement) => agreement,
                Err(report) => {
                    wrong.agreements.push(report);
                    continue;
                }
            };
            for party in &agreement.parties {
                estate.signatures.add(&agreement.id, &party.department, files::find(&path, &party.department));
            }
            estate.agreements.push(agreement);
        }
        estate.signatures.witness(&estate.agreements, Utc::now());
        let files = listed(&folder.join("views"), "sql")?.into_iter().map(|path| read(&path).map(|text| (path, text)));
        let files = files.collect::<miette::Result<Vec<_>>>()?;
        let (templates, views): (Vec<_>, Vec<_>) = files.into_iter().partition(|(_, text)| Template::is(text));
        for (path, text) in templates {
            match Template::parse(&path, &text) {
                Ok(template) => estate.templates.push(template),
                Err(problem) => wrong.views.push(report(&path, &text, &[problem])),
            }
        }
        for (path, text) in views {
            match View::parse(&path, &text).and_then(|view| estate.written_out(view)) {
                Ok(view) => {
                    wrong.views.extend(estate.view_problems(&view).map(|problem| report(&path, &text, &[problem])));
                    estate.views.push(view);
                }
                Err(problem) => wrong.views.push(report(&path, &text, &[problem])),
            }
        }
        Ok((estate, wrong))
    }

    /// The agreement of a file, beside those that were read before.
    fn agreement(&self, path: &Path) -> miette::Result<Agreement> {
        let text = read(path)?;
        let agreement = Agreement::parse(&text).map_err(|problems| report(path, &text, &problems))?;
        let problems = self.agreement_problems(&agreement);
        if problems.is_empty() { Ok(agreement) } else { Err(report(path, &text, &problems)) }
    }

    /// The mission of that name.
    #[must_use]
    pub fn mission(&self, id: &Name) -> Option<&Mission> {
        self.missions.iter().find(|m| m.id == *id)
    }

    /// The refusal, with whom to ask where it is one department's rule and that department says who answers for it.
    pub(crate) fn with_contact(&self, refusal: Refusal) -> Refusal {
        let department = refusal.department.as_deref().filter(|_| refusal.code == Code::Denied);
        let Some(contact) = department.and_then(|id| self.departments.iter().find(|d| d.id.as_str() == id)?.contact.as_deref()) else {
            return refusal;
        };
        let advice = refusal.advice.iter().map(String::as_str).chain([format!("ask {contact}").as_str()]).collect::<Vec<_>>().join("; ");
        refusal.advice(advice)
    }

    fn unique(&self, folder: &Path) -> miette::Result<()> {
        let check = |file: &str, ids: Vec<&Name>| {
            let mut seen = BTreeSet::new();
            match ids.into_iter().find(|id| !seen.insert(*id)) {
                Some(twice) => {
                    let path = folder.join(file);
                    let text = read(&path)?;
                    Err(report(&path, &text, &[Problem::at(twice.as_str(), format!("'{twice}' stands twice"), "keep one of the two")]))
                }
                None => Ok(()),
            }
        };
        check("departments.toml", self.departments.iter().map(|d| &d.id).collect())?;
        check("missions.toml", self.missions.iter().map(|m| &m.id).collect())
    }

    fn agreement_problems(&self, agreement: &Agreement) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.agreements.iter().any(|a| a.id == agreement.id) {
            problems.push(Problem::at(
                "id",
                format!("another file holds an agreement '{}'", agreement.id),
                "give each agreement its own id",
            ));
        }
        if self.mission(&agreement.mission).is_none() {
            problems.push(Problem::at(
                "mission",
                format!("the mission '{}' is not in missions.toml", agreement.mission),
                "declare it, or correct its name",
            ));
        }
        for purpose in &agreement.purposes {
            if self.purposes.active(purpose).is_none() {
                problems.push(Problem::at(
                    purpose.as_str(),
                    format!("the purpose '{purpose}' is unknown or retired"),
                    "name an active purpose of purposes.toml",
                ));
            }
        }
        for party in &agreement.parties {
            if !self.departments.iter().any(|d| d.id == party.department) {
                problems.push(Problem::at(
                    party.department.as_str(),
                    format!("the party '{}' is not in departments.toml", party.department),
                    "declare it, with its node's address",
                ));
            }
        }
        problems
    }

    fn view_problems(&self, view: &View) -> Option<Problem> {
        if self.mission(&view.mission).is_none() {
            return Some(Problem::at(
                "mission",
                format!("the mission '{}' is not in missions.toml", view.mission),
                "declare it, or correct its name",
            ));
        }
        if self.views.iter().any(|v| v.mission == view.mission && v.name == view.name) {
            return Some(Problem::at(&view.name, "another view of the mission has this name", "rename the file"));
        }
        let tables = match plan::tables(&view.sql) {
            Ok(tables) => tables,
            Err(refusal) => return Some(Problem::at("SELECT", refusal.message, "a view is one SELECT of the SQL that the gateway takes")),
        };
        let of_mission = || self.agreements.iter().filter(|a| a.mission == view.mission);
        tables.into_iter().find_map(|(schema, table)| {
            let known = match &schema {
                None => true,
                Some(schema) if schema == "views" => true,
                Some(schema) => {
                    of_mission().flat_map(|a| &a.datasets).any(|d| d.name.department.as_str() == schema && d.name.dataset.as_str() == table)
                }
            };
            (!known).then(|| {
                Problem::at(
                    &table,
                    format!("no agreement of mission '{}' covers the dataset '{}.{table}'", view.mission, schema.unwrap_or_default()),
                    "correct the name, or add the agreement to agreements/",
                )
            })
        })
    }
}

impl View {
    /// Reads a view: leading comment lines `-- key: value` (`mission` and `title` required, `unit`, `description`), then one SELECT.
    fn parse(path: &Path, text: &str) -> Result<Self, Problem> {
        let name = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_owned();
        if !concordat_policy::agreement::column_name_ok(&name) {
            return Err(Problem::at("", format!("'{name}' cannot name a view"), "use a-z, 0-9 and '_' in the file's name"));
        }
        let header = |key: &str| headers(text, key).next();
        let required = |key: &str| {
            header(key).ok_or_else(|| Problem::at("", format!("the view has no '-- {key}: …' line"), "add it above the SELECT"))
        };
        let mission = required("mission")?;
        let mission = Name::parse(&mission).map_err(|e| Problem::at(&mission, e.to_string(), "name a mission of missions.toml"))?;
        let (unit, description) = (header("unit").unwrap_or_default(), header("description").unwrap_or_default());
        Ok(Self { name, mission, title: required("title")?, unit, description, sql: text.to_owned() })
    }
}

/// What the leading comment lines `-- key: value` of a view's file say of a key, in their order.
fn headers<'t>(text: &'t str, key: &'t str) -> impl Iterator<Item = String> + 't {
    let lines = text.lines().take_while(|line| line.starts_with("--") || line.trim().is_empty());
    lines.filter_map(move |line| {
        line.trim_start_matches('-').trim().strip_prefix(key)?.strip_prefix(':').map(|value| value.trim().to_owned())
    })
}

fn parsed<T: serde::de::DeserializeOwned>(path: &Path) -> miette::Result<T> {
    let text = read(path)?;
    toml::from_str(&text).map_err(|e| report(path, &text, &[Problem::toml(&e)]))
}

/// The files of a folder with an extension, by name; none where the folder does not exist.
fn listed(folder: &Path, extension: &str) -> miette::Result<Vec<std::path::PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(miette::miette!(help = "check that this user may read the folder", "{}: {e}", folder.display())),
    };
    let mut paths: Vec<_> =
        entries.filter_map(|e| e.ok().map(|e| e.path())).filter(|p| p.extension().is_some_and(|e| e == extension)).collect();
    paths.sort();
    Ok(paths)
}
