//! The rules of who may use what, a second time, for people to read: plain loops over plain data, written from the words of
//! the specification and not from the code that it checks. It shares no type and no function with that code.
//!
//! The question: may this caller do these things with these columns, for this purpose, at this moment? The rules:
//! 1. An agreement is *made for* a request if it is in force on that day (UTC, both its first and its last day included),
//!    permits the purpose or a wider one with nothing retired from the one down to the other, names the caller's organisation
//!    with one of the caller's roles, and serves the mission, where the request states one.
//! 2. It *binds* if the signature of every party counts.
//! 3. None made for the request: denied, without saying more. None of those that are binds: denied, naming the nearest and whose
//!    signature it lacks. Several missions among those that bind: the request must say which. One dataset in two that bind:
//!    ambiguous, and of several such datasets the first by name is told.
//! 4. A dataset of none that binds for the request may not be used. If some made for it that do not bind have the dataset, the
//!    nearest's lack is told: it lacks the fewest signatures, and of several such it is the first by identifier. Otherwise, if any
//!    agreement that is in force and signed by every party lets the organisation know of the dataset, that it exists is told;
//!    otherwise nothing is.
//! 5. Each use of each column must be written in the agreement. The first that is not, by name, is told, with owner and
//!    agreement.
//! 6. Of what protects numbers, the strictest counts that an agreement states whose dataset is read: each rule by itself.

/// Everything that a decision rests on.
#[derive(Debug, Clone, Default)]
pub(super) struct World {
    pub(super) purposes: Vec<Purpose>,
    pub(super) agreements: Vec<Agreement>,
    pub(super) signatures: Vec<Signature>,
    pub(super) revoked_keys: Vec<String>,
    pub(super) successions: Vec<Succession>,
    pub(super) sightings: Vec<Sighting>,
}

/// A department's statement that one of its keys follows another.
#[derive(Debug, Clone)]
pub(super) struct Succession {
    pub(super) department: String,
    pub(super) key: String,
    pub(super) next: String,
    pub(super) from_millisecond: i64,
}

/// When somebody here first saw a signature.
#[derive(Debug, Clone)]
pub(super) struct Sighting {
    pub(super) department: String,
    pub(super) agreement: String,
    pub(super) document: u32,
    pub(super) key: String,
    pub(super) at_millisecond: i64,
}

#[derive(Debug, Clone)]
pub(super) struct Purpose {
    pub(super) id: String,
    pub(super) parent: Option<String>,
    pub(super) retired: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Agreement {
    /// Which document this is: two documents may bear one identifier.
    pub(super) document: u32,
    pub(super) id: String,
    pub(super) mission: String,
    pub(super) purposes: Vec<String>,
    /// Days as `2026-12-31`: their order is that of their letters.
    pub(super) first_day: String,
    pub(super) last_day: String,
    pub(super) minimum_subjects: u32,
    pub(super) disclosure: Disclosure,
    pub(super) parties: Vec<Party>,
    pub(super) recipients: Vec<Recipient>,
    pub(super) datasets: Vec<Dataset>,
}

/// What numbers must not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Disclosure {
    /// Each as how many of the largest, and the percentage.
    pub(super) dominance: Vec<(u32, u32)>,
    pub(super) p_percent: u32,
    pub(super) round_to: u32,
    /// Of `complement`, `homogeneous`, `zeros` and `margins` those that are withheld or protected.
    pub(super) kept_back: Vec<&'static str>,
    /// Variance and most.
    pub(super) noise: Option<(u32, u32)>,
}

#[derive(Debug, Clone)]
pub(super) struct Party {
    pub(super) department: String,
    pub(super) key: String,
}

#[derive(Debug, Clone)]
pub(super) struct Recipient {
    pub(super) organisation: String,
    pub(super) roles: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Dataset {
    pub(super) department: String,
    pub(super) name: String,
    pub(super) basis: Basis,
    /// Organisations that may know that it exists.
    pub(super) known_to: Vec<String>,
    /// Each column, `subject` among them, with the uses that are permitted.
    pub(super) columns: Vec<(String, Vec<&'static str>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Basis {
    Consent,
    PowerHonouringObjections,
    Power,
}

/// What lies beside an agreement as the signature of a department. Where there is none, it is missing.
#[derive(Debug, Clone)]
pub(super) struct Signature {
    pub(super) beside: String,
    pub(super) of: String,
    pub(super) says: Says,
}

#[derive(Debug, Clone)]
pub(super) enum Says {
    /// No statement of anybody: what is wrong with it.
    Nothing(&'static str),
    /// Somebody's statement.
    Statement { speaks_for: String, agreement: String, document: u32, key: String, at_millisecond: i64 },
}

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) organisation: String,
    pub(super) roles: Vec<String>,
    pub(super) purpose: String,
    pub(super) mission: Option<String>,
    pub(super) day: String,
    pub(super) millisecond: i64,
    /// Datasets that are read: department and name.
    pub(super) reads: Vec<(String, String)>,
    /// Department, dataset, column, use.
    pub(super) does: Vec<(String, String, String, &'static str)>,
}

/// An agreement that does not bind, and each party whose signature does not count with everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lacks {
    pub(super) agreement: String,
    pub(super) parties: Vec<(String, Vec<&'static str>)>,
}

/// The answer. Where several things are at fault and the rules do not say which is told (two documents may bear one identifier), all
/// stand in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// With the datasets that are read, each with its agreement, the strictest minimum of subjects and the strictest of each
    /// disclosure rule.
    Permitted { mission: String, tables: Vec<(String, String, String)>, minimum: u32, disclosure: Disclosure },
    /// Denied: nothing is made for the caller.
    NoAgreement,
    /// Denied: nothing that is made for the caller binds.
    NothingBinds(Vec<Lacks>),
    /// Invalid: the request must state its mission.
    SeveralMissions,
    /// Invalid: department, dataset, and the agreements that have it, by identifier.
    Ambiguous(String, String, Vec<String>),
    /// Denied: a dataset of which the caller learns nothing.
    HiddenDataset,
    /// Denied: department and dataset, of which the caller may know.
    KnownDataset(String, String),
    /// Denied: a dataset of agreements that do not bind.
    UnsignedDataset(Vec<Lacks>),
    /// Denied: a use that is not written in the agreement.
    Use { department: String, dataset: String, column: String, used: &'static str, agreement: String },
}

/// The answer to a request.
pub(super) fn answer(world: &World, ask: &Ask) -> Answer {
    let mut binding: Vec<&Agreement> = Vec::new();
    let mut unsigned: Vec<(&Agreement, Lacks)> = Vec::new();
    for agreement in &world.agreements {
        if !is_made_for(world, agreement, ask) {
            continue;
        }
        let lacks = lacks(world, agreement, ask);
        if lacks.parties.is_empty() {
            binding.push(agreement);
        } else {
            unsigned.push((agreement, lacks));
        }
    }

    if binding.is_empty() && unsigned.is_empty() {
        return Answer::NoAgreement;
    }
    if binding.is_empty() {
        return Answer::NothingBinds(nearest(unsigned.into_iter().map(|(_, lacks)| lacks).collect()));
    }
    let mission = binding[0].mission.clone();
    for agreement in &binding {
        if agreement.mission != mission {
            return Answer::SeveralMissions;
        }
    }
    let mut twice = in_two(&binding);
    twice.sort();
    if let Some((department, dataset, agreements)) = twice.into_iter().next() {
        return Answer::Ambiguous(department, dataset, agreements);
    }

    let mut reads = ask.reads.clone();
    for (department, dataset, _, _) in &ask.does {
        reads.push((department.clone(), dataset.clone()));
    }
    reads.sort();
    reads.dedup();
    let mut tables = Vec::new();
    let mut minimum = 0;
    let mut disclosure = Disclosure::default();
    for (department, name) in &reads {
        let mut found = false;
        for agreement in &binding {
            if dataset_of(agreement, department, name).is_some() {
                found = true;
                tables.push((department.clone(), name.clone(), agreement.id.clone()));
                minimum = minimum.max(agreement.minimum_subjects);
                tighten(&mut disclosure, &agreement.disclosure);
            }
        }
        if !found {
            let mut lacking = Vec::new();
            for (agreement, lacks) in &unsigned {
                if agreement.mission == mission && dataset_of(agreement, department, name).is_some() {
                    lacking.push(lacks.clone());
                }
            }
            if !lacking.is_empty() {
                return Answer::UnsignedDataset(nearest(lacking));
            }
            for agreement in &world.agreements {
                let in_force = agreement.first_day <= ask.day && ask.day <= agreement.last_day;
                let signed = self::lacks(world, agreement, ask).parties.is_empty();
                let known = dataset_of(agreement, department, name).is_some_and(|dataset| dataset.known_to.contains(&ask.organisation));
                if in_force && signed && known {
                    return Answer::KnownDataset(department.clone(), name.clone());
                }
            }
            return Answer::HiddenDataset;
        }
    }

    let mut does = ask.does.clone();
    does.sort_by_key(|(department, dataset, column, used)| (department.clone(), dataset.clone(), column.clone(), rank(used)));
    for (department, name, column, used) in does {
        for agreement in &binding {
            let Some(dataset) = dataset_of(agreement, &department, &name) else { continue };
            let written = dataset.columns.iter().any(|(named, uses)| *named == column && uses.contains(&used));
            if !written {
                return Answer::Use { department, dataset: name, column, used, agreement: agreement.id.clone() };
            }
        }
    }
    Answer::Permitted { mission, tables, minimum, disclosure }
}

/// Whatever one more agreement forbids is forbidden too.
fn tighten(rules: &mut Disclosure, more: &Disclosure) {
    for rule in &more.dominance {
        if !rules.dominance.contains(rule) {
            rules.dominance.push(*rule);
        }
    }
    rules.dominance.sort();
    if more.p_percent > rules.p_percent {
        rules.p_percent = more.p_percent;
    }
    if more.round_to > rules.round_to {
        rules.round_to = more.round_to;
    }
    for what in &more.kept_back {
        if !rules.kept_back.contains(what) {
            rules.kept_back.push(what);
        }
    }
    rules.kept_back.sort_unstable();
    if let Some((variance, most)) = more.noise {
        let (before, bound) = rules.noise.unwrap_or((0, 0));
        rules.noise = Some((before.max(variance), bound.max(most)));
    }
}

/// Rule 1.
fn is_made_for(world: &World, agreement: &Agreement, ask: &Ask) -> bool {
    let in_force = agreement.first_day <= ask.day && ask.day <= agreement.last_day;
    let right_mission = ask.mission.is_none() || ask.mission.as_ref() == Some(&agreement.mission);
    let mut named = false;
    for recipient in &agreement.recipients {
        for role in &recipient.roles {
            if recipient.organisation == ask.organisation && ask.roles.contains(role) {
                named = true;
            }
        }
    }
    in_force && right_mission && named && permitted_purposes(world, agreement).contains(&ask.purpose)
}

/// The agreement's purposes that exist and are not retired, then their children that are not, then theirs.
fn permitted_purposes(world: &World, agreement: &Agreement) -> Vec<String> {
    let mut permitted: Vec<String> = Vec::new();
    for purpose in &world.purposes {
        if agreement.purposes.contains(&purpose.id) && !purpose.retired {
            permitted.push(purpose.id.clone());
        }
    }
    for _ in &world.purposes {
        for purpose in &world.purposes {
            let below = purpose.parent.as_ref().is_some_and(|parent| permitted.contains(parent));
            if below && !purpose.retired && !permitted.contains(&purpose.id) {
                permitted.push(purpose.id.clone());
            }
        }
    }
    permitted
}

/// Rule 2. A signature counts if it is the party's own statement of this very document under this identifier, with the key
/// that the agreement names, or one that followed it, of which nobody has revoked any, and made at most 30 s after now (clocks differ).
/// A key that was followed by another signs only what was seen before that.
fn lacks(world: &World, agreement: &Agreement, ask: &Ask) -> Lacks {
    let mut parties = Vec::new();
    for party in &agreement.parties {
        let mut wrong = vec!["is missing"];
        for signature in &world.signatures {
            if signature.beside != agreement.id || signature.of != party.department {
                continue;
            }
            wrong.clear();
            match &signature.says {
                Says::Nothing(why) => wrong.push(why),
                Says::Statement { speaks_for, agreement: id, document, key, at_millisecond } => {
                    if *speaks_for != party.department {
                        wrong.push("is another department's");
                    }
                    if *id != agreement.id {
                        wrong.push("is for another agreement");
                    }
                    if *document != agreement.document {
                        wrong.push("signs another text");
                    }
                    let keys = keys(world, agreement, party, ask);
                    let mut seen = ask.millisecond;
                    for sighting in &world.sightings {
                        let of_it = sighting.department == *speaks_for && sighting.agreement == *id && sighting.document == *document;
                        if of_it && sighting.key == *key {
                            seen = seen.min(sighting.at_millisecond);
                        }
                    }
                    match keys.iter().find(|(known, _)| known == key) {
                        None => wrong.push("is made with another key than the agreement names"),
                        Some((_, Some(until))) if seen >= *until => {
                            wrong.push("is made with a key that was replaced, and was not seen here before");
                        }
                        Some(_) => {}
                    }
                    let no_present_key = keys.iter().all(|(_, until)| until.is_some());
                    if no_present_key || keys.iter().any(|(known, _)| world.revoked_keys.contains(known)) {
                        wrong.push("is void: another key of it is revoked that counts here, or the agreement names another party by a key that took its place");
                    }
                    if world.revoked_keys.contains(key) {
                        wrong.push("is made with a revoked key");
                    }
                    if *at_millisecond > ask.millisecond + 30_000 {
                        wrong.push("was made more than 30 s in the future");
                    }
                }
            }
        }
        if !wrong.is_empty() {
            parties.push((party.department.clone(), wrong));
        }
    }
    Lacks { agreement: agreement.id.clone(), parties }
}

/// A party's keys: the one that the agreement names, and those that followed it by now; each with when it was followed. A revoked key
/// has no follower. A key that the agreement names of somebody else is none of the party's: what it followed ended then, and the party
/// has no present key.
fn keys(world: &World, agreement: &Agreement, party: &Party, ask: &Ask) -> Vec<(String, Option<i64>)> {
    let mut keys = vec![(party.key.clone(), None)];
    loop {
        let Some((present, until)) = keys.last_mut() else { return keys };
        let mut follower = None;
        for succession in &world.successions {
            let counts = succession.department == party.department && succession.from_millisecond <= ask.millisecond;
            if succession.key == *present && counts && !world.revoked_keys.contains(present) {
                follower = Some(succession);
            }
        }
        let Some(follower) = follower else { return keys };
        *until = Some(follower.from_millisecond);
        for other in &agreement.parties {
            if other.department != party.department && other.key == follower.next {
                return keys;
            }
        }
        keys.push((follower.next.clone(), None));
    }
}

/// Those that lack the fewest signatures, and of these the first by identifier.
fn nearest(mut candidates: Vec<Lacks>) -> Vec<Lacks> {
    let fewest = candidates.iter().map(|lacks| lacks.parties.len()).min();
    candidates.retain(|lacks| Some(lacks.parties.len()) == fewest);
    let first = candidates.iter().map(|lacks| lacks.agreement.clone()).min();
    candidates.retain(|lacks| Some(&lacks.agreement) == first.as_ref());
    candidates
}

fn in_two(binding: &[&Agreement]) -> Vec<(String, String, Vec<String>)> {
    let mut twice = Vec::new();
    for agreement in binding {
        for dataset in &agreement.datasets {
            let mut having = Vec::new();
            for other in binding {
                if dataset_of(other, &dataset.department, &dataset.name).is_some() {
                    having.push(other.id.clone());
                }
            }
            having.sort();
            if having.len() > 1 {
                twice.push((dataset.department.clone(), dataset.name.clone(), having));
            }
        }
    }
    twice
}

fn dataset_of<'a>(agreement: &'a Agreement, department: &str, name: &str) -> Option<&'a Dataset> {
    agreement.datasets.iter().find(|dataset| dataset.department == department && dataset.name == name)
}

/// The order in which uses are told.
fn rank(used: &str) -> usize {
    ["output", "group_by", "aggregate", "filter", "join"].iter().position(|known| *known == used).unwrap()
}

/// One record of a person's choices: for which purpose, `given`, `withdrawn` or `objected`, at which place of the ledger.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) purpose: String,
    pub(super) event: &'static str,
    pub(super) place: u64,
}

/// Whether a person's data may be used for a purpose. Records for the purpose and for wider ones speak, whether retired or not;
/// the later one wins. Consent must have been given last. An objection stands until *given*, where the basis honours it; under
/// a power *withdrawn* means nothing.
pub(super) fn person_counts(world: &World, basis: Basis, records: &[Record], purpose: &str) -> bool {
    let mut speaking = vec![purpose.to_owned()];
    for _ in &world.purposes {
        for candidate in &world.purposes {
            if let (true, Some(parent)) = (speaking.contains(&candidate.id), &candidate.parent)
                && !speaking.contains(parent)
            {
                speaking.push(parent.clone());
            }
        }
    }
    let mut in_order = records.to_vec();
    in_order.sort_by_key(|record| record.place);
    let (mut agreed, mut objected) = (false, false);
    for record in in_order {
        if speaking.contains(&record.purpose) {
            match record.event {
                "given" => (agreed, objected) = (true, false),
                "withdrawn" => agreed = false,
                _ => (agreed, objected) = (false, true),
            }
        }
    }
    match basis {
        Basis::Consent => agreed,
        Basis::PowerHonouringObjections => !objected,
        Basis::Power => true,
    }
}
