//! Reads a folder of guard rails: everything that is wrong with it, or a set that was checked as a whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cedar_policy::{Effect, Policy, PolicyId, PolicySet, PrincipalConstraint, ResourceConstraint, Schema, ValidationMode, Validator};
use concordat_policy::Name;
use concordat_policy::agreement::hex;
use sha2::{Digest as _, Sha256};

use crate::kept::Loaded;
use crate::rails::{About, Rails, Types, entity, purposes};
use crate::{Damage, Known};

/// The longest `@advice`, in characters.
const MAX_ADVICE: usize = 300;
/// The name of the permission that a department's agreements give, in Cedar's terms. No rail can have it: it is no name.
const AGREED: &str = "(agreements)";

/// Whose rails they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Permits and forbids, about claiming purposes.
    Gateway,
    /// Forbids only, about releasing datasets.
    Node,
}

impl Side {
    fn schema(self) -> &'static str {
        match self {
            Self::Gateway => include_str!("gateway.cedarschema"),
            Self::Node => include_str!("node.cedarschema"),
        }
    }

    pub(crate) fn types(self) -> Result<Types, String> {
        match self {
            Self::Gateway => Types::of("claim_purpose", "Purpose"),
            Self::Node => Types::of("release", "Dataset"),
        }
    }

    pub(crate) fn validator(self) -> Result<Validator, String> {
        let (schema, _) = Schema::from_cedarschema_str(self.schema()).map_err(|e| e.to_string())?;
        Ok(Validator::new(schema))
    }
}

/// A rail, under its own name.
struct Checked {
    policy: Policy,
    id: Name,
    about: About,
}

/// Reads the `*.cedar` files of `folder`. That there are none, or that one holds no rail, is damage: it is what a deployment that failed
/// leaves behind, and a department without its forbids would release more.
///
/// # Errors
/// All [`Damage`].
pub(crate) fn read(folder: &Path, side: Side, known: &Known) -> Result<Rails, Vec<Damage>> {
    let fault = |cause: String| vec![Damage::of(folder, cause, "this is a fault of the program: report it")];
    let (types, validator) = (side.types().map_err(fault)?, side.validator().map_err(fault)?);
    let (mut rails, mut damage): (Vec<Checked>, Vec<Damage>) = (Vec::new(), Vec::new());
    let mut digest = Sha256::new();
    let paths = listed(folder).map_err(|one| vec![one])?;
    if paths.is_empty() {
        damage.push(Damage::of(folder, "holds no *.cedar file", "put the guard rails there; to have none, remove [guard]"));
    }
    for path in &paths {
        match file(path, side, known, &validator, &mut digest) {
            Ok(checked) => rails.extend(checked),
            Err(found) => damage.extend(found),
        }
    }
    let mut about = BTreeMap::new();
    for rail in &rails {
        if let Some(other) = about.insert(rail.id.clone(), rail.about.clone()) {
            let cause = format!("two guard rails are called '{}': one in {}, one in {}", rail.id, other.file, rail.about.file);
            damage.push(Damage::of(&folder.join(rail.about.file.as_str()), cause, "give each its own @id"));
        }
    }
    if !damage.is_empty() {
        return Err(damage);
    }
    let loaded = Loaded { rails: rails.len(), files: paths.len(), digest: hex(&digest.finalize()) };
    let by_resource = laid_out(&rails, side, known, &types).map_err(fault)?;
    Ok(Rails { purposes: purposes(&known.purposes, &types.purpose), types, about, by_resource, loaded })
}

/// The files, by name.
fn listed(folder: &Path) -> Result<Vec<PathBuf>, Damage> {
    let unreadable = |e: std::io::Error| {
        Damage::of(folder, format!("cannot be read: {e}"), "create the folder, or correct [guard].policies or the folder's permissions")
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension() == Some(OsStr::new("cedar")) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// One file's rails.
fn file(path: &Path, side: Side, known: &Known, validator: &Validator, digest: &mut Sha256) -> Result<Vec<Checked>, Vec<Damage>> {
    let named = path.file_name().and_then(OsStr::to_str).and_then(|name| Name::parse(name).ok());
    let name = named.ok_or_else(|| vec![Damage::of(path, "its name is not one that a refusal could show", "use a-z, 0-9, '_' and '-'")])?;
    let text = std::fs::read_to_string(path)
        .map_err(|e| vec![Damage::of(path, format!("cannot be read: {e}"), "correct the file's permissions; it is UTF-8 text")])?;
    for part in [name.as_str(), text.as_str()] {
        digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(part);
    }
    let said = "correct the line; https://docs.cedarpolicy.com explains the language";
    let parsed: PolicySet = text.parse().map_err(|errors: cedar_policy::ParseErrors| {
        errors.iter().map(|error| Damage::cedar(path, &text, error, said)).collect::<Vec<_>>()
    })?;
    let mut damage = Vec::new();
    if parsed.templates().next().is_some() {
        damage.push(Damage::of(path, "holds a template (?principal or ?resource), which nothing fills in", "write the rule without it"));
    } else if parsed.policies().next().is_none() {
        damage.push(Damage::of(path, "holds no guard rail", "write one, or remove the file"));
    }
    let (mut rails, mut set) = (Vec::new(), PolicySet::new());
    for (offset, policy) in placed(&parsed, &text) {
        let found = wrong(&policy, side, known);
        let id = policy.annotation("id").and_then(|id| Name::parse(id).ok());
        damage.extend(found.into_iter().map(|(cause, remedy)| Damage::at(path, &text, offset, cause, remedy)));
        let Some(id) = id else { continue };
        let advice = policy.annotation("advice").map(str::to_owned);
        let policy = policy.new_id(PolicyId::new(id.as_str()));
        if set.add(policy.clone()).is_err() {
            damage.push(Damage::at(path, &text, offset, format!("two guard rails are called '{id}'"), "give each its own @id"));
        }
        rails.push(Checked { policy, id, about: About { file: name.clone(), advice } });
    }
    let checked = validator.validate(&set, ValidationMode::Strict);
    let schema = "deploy/README.md lists what a rule may speak of; ask with `has` before a value that may be missing";
    damage.extend(checked.validation_errors().map(|error| Damage::cedar(path, &text, error, schema)));
    // A rule that can never apply, or a name with look-alike letters, is a mistake.
    damage.extend(
        checked.validation_warnings().map(|warning| Damage::cedar(path, &text, warning, "mend the rule: it does not do what it seems to")),
    );
    if damage.is_empty() { Ok(rails) } else { Err(damage) }
}

/// The policies of a file in its order, and where each begins.
fn placed(parsed: &PolicySet, text: &str) -> Vec<(usize, Policy)> {
    // Cedar numbers them: policy0, policy1, …
    let number = |policy: &Policy| AsRef::<str>::as_ref(policy.id()).trim_start_matches("policy").parse().unwrap_or(usize::MAX);
    let mut policies: Vec<Policy> = parsed.policies().cloned().collect();
    policies.sort_by_key(number);
    let mut from = 0;
    let place = |policy: Policy| {
        let own = policy.to_cedar().unwrap_or_default();
        let at = text.get(from..).and_then(|rest| rest.find(&own)).map_or(from, |at| from + at);
        from = (at + own.len()).min(text.len());
        (at, policy)
    };
    policies.into_iter().map(place).collect()
}

/// What is wrong with a policy beside what Cedar finds: cause, remedy.
fn wrong(policy: &Policy, side: Side, known: &Known) -> Vec<(String, &'static str)> {
    let mut wrong = Vec::new();
    match policy.annotation("id") {
        None => wrong.push(("a guard rail has no name, and a refusal must name it".to_owned(), "write @id(\"a-name\") in front of it")),
        Some(id) if Name::parse(id).is_err() => {
            wrong.push((format!("'{}' is no name of a guard rail", id.escape_default()), "use a-z, 0-9, '_', '-' and '.', at most 64"));
        }
        Some(_) => {}
    }
    match policy.annotation("advice") {
        None if policy.effect() == Effect::Forbid => {
            wrong.push(("a forbid says no way out".to_owned(), "write @advice(\"…\"): what a caller whom it stops can do"));
        }
        Some(advice) if advice.trim().is_empty() || advice.chars().count() > MAX_ADVICE || advice.chars().any(char::is_control) => {
            wrong.push(("an advice is empty, longer than 300 characters or not one line".to_owned(), "write one plain sentence"));
        }
        _ => {}
    }
    if let Some((other, _)) = policy.annotations().find(|(key, _)| !matches!(*key, "id" | "advice")) {
        wrong.push((format!("@{other} means nothing here"), "use @id and @advice"));
    }
    if side == Side::Node && policy.effect() == Effect::Permit {
        wrong.push((
            "a department's guard rails only forbid".to_owned(),
            "what the department permits stands in its agreements; write a forbid",
        ));
    }
    if matches!(policy.principal_constraint(), PrincipalConstraint::Eq(_) | PrincipalConstraint::In(_) | PrincipalConstraint::IsIn(..)) {
        wrong.push(("callers have no names here".to_owned(), "leave `principal` alone in the scope and speak of its attributes"));
        return wrong;
    }
    wrong.extend(policy.entity_literals().iter().filter_map(|entity| known.wrong(entity)));
    wrong
}

/// What is to be looked at for each resource. Resources for which that is the same share it.
fn laid_out(rails: &[Checked], side: Side, known: &Known, types: &Types) -> Result<HashMap<Name, Arc<PolicySet>>, String> {
    let resources: Vec<(&Name, Vec<Name>)> = match side {
        Side::Gateway => {
            known.purposes.iter().map(|p| (&p.id, known.purposes.ancestry(&p.id).map(|wider| wider.id.clone()).collect())).collect()
        }
        Side::Node => known.datasets.iter().map(|dataset| (dataset, vec![dataset.clone()])).collect(),
    };
    let mut shared: HashMap<Vec<usize>, Arc<PolicySet>> = HashMap::new();
    let mut all = HashMap::new();
    for (resource, within) in resources {
        let own = entity(&types.resource, resource);
        let within: BTreeSet<_> = within.iter().map(|name| entity(&types.resource, name)).collect();
        let concerns = |policy: &Policy| match policy.resource_constraint() {
            ResourceConstraint::Any | ResourceConstraint::Is(_) => true,
            ResourceConstraint::Eq(named) => named == own,
            ResourceConstraint::In(named) | ResourceConstraint::IsIn(_, named) => within.contains(&named),
        };
        let indices: Vec<usize> = rails.iter().enumerate().filter(|(_, rail)| concerns(&rail.policy)).map(|(index, _)| index).collect();
        let set = match shared.get(&indices) {
            Some(set) => Arc::clone(set),
            None => {
                let set = Arc::new(set(indices.iter().filter_map(|index| rails.get(*index)), side)?);
                shared.insert(indices, Arc::clone(&set));
                set
            }
        };
        all.insert(resource.clone(), set);
    }
    Ok(all)
}

fn set<'r>(rails: impl Iterator<Item = &'r Checked>, side: Side) -> Result<PolicySet, String> {
    let mut set = PolicySet::new();
    if side == Side::Node {
        let agreed = Policy::parse(Some(PolicyId::new(AGREED)), "permit(principal, action, resource);").map_err(|e| e.to_string())?;
        set.add(agreed).map_err(|e| e.to_string())?;
    }
    for rail in rails {
        set.add(rail.policy.clone()).map_err(|e| e.to_string())?;
    }
    Ok(set)
}
