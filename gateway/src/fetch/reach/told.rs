//! What a department tells of whose choices reach the others' data: asked for, checked message by message, and believed with its
//! statement only.

use std::time::Duration;

use concordat_policy::{Code, Name, Refusal};
use concordat_proto::reach::{Changes, ReachError, Reading, Statement};
use concordat_proto::receipt::Standing;
use concordat_proto::token::Reason;
use concordat_proto::v1::{Domain, ReachChanges, ReachRequest};
use concordat_proto::version::REACHES;
use tonic::Streaming;

use super::super::Fetcher;
use super::super::nodes::{failed, faulty, timeout};
use super::Agreed;
use super::lists::{Held, Key};
use super::room::Room;

/// How long a node may take to its next message. The first one of a whole list waits for the node to read its ledger.
const PAUSE: Duration = Duration::from_secs(60);

/// What was told.
pub(super) struct Told {
    pub(super) changes: Changes,
    /// From where on; nothing where the list is whole.
    pub(super) since: Option<Standing>,
    pub(super) standing: Standing,
    pub(super) rules: String,
    pub(super) judged_at: i64,
    /// For the list that comes of it.
    pub(super) room: Room,
    /// Of the key that its pseudonyms are made with.
    pub(super) round: u64,
}

impl Fetcher {
    /// Asks a department what changed since `held`; for everything, where that was of another key.
    ///
    /// # Errors
    /// Refusals that name the department.
    pub(super) async fn told(&self, key: &Key, (agreement, signatures): Agreed<'_>, held: Option<&Held>) -> Result<Told, Refusal> {
        let (nodes, department) = (&self.nodes, &key.department);
        if nodes.spoken(department).await? < REACHES {
            let what = format!("the node of department '{department}' is too old to tell whose withdrawals reach other departments' data");
            return Err(Refusal::new(Code::NodeRefused, what).department(department).advice("the department must upgrade its node"));
        }
        let signing = nodes.signing_key(department, agreement, signatures).await?;
        self.relay.ensure(nodes, agreement, &key.domain, std::slice::from_ref(department)).await?;
        let round = self.relay.round(&key.domain);
        let held = held.filter(|held| held.round == round);
        // Whatever was seen or said before must not be newer than what is told.
        let (seen, described) = (nodes.ledgers.seen(department), nodes.standing(department).await?);
        let since = held.map(|held| held.standing).unwrap_or_default();
        let request = ReachRequest {
            id: uuid::Uuid::now_v7().to_string(),
            domain: Some(Domain::from(&key.domain)),
            agreement: key.agreement.to_string(),
            agreement_digest: key.agreement_digest.clone(),
            basis: key.basis.into(),
            since_generation: since.generation,
            since_version: since.version,
            since_rules: held.map(|held| held.rules.clone()).unwrap_or_default(),
            since_moment: held.map(|held| held.judged_at).unwrap_or_default(),
        };
        let id = request.id.clone();
        let mut messages = nodes.call(department, nodes.reach(department)?.changes(request)).await?;
        let (mut reading, mut room) = (Reading::new(self.most_reached), self.lists.room());
        let token = loop {
            let message =
                next(department, &mut messages).await?.ok_or_else(|| wrong(department, "ended a list without a statement", ""))?;
            // What grows has room for twice what it holds.
            self.lists.extend(department, &mut room, 2 * (message.added.len() + message.removed.len()))?;
            if let Some(token) = reading.take(message).map_err(|e| unreadable(department, e))? {
                break token;
            }
        };
        if next(department, &mut messages).await?.is_some() {
            return Err(unreadable(department, ReachError::AfterTheEnd));
        }
        let changes = reading.changes().map_err(|e| unreadable(department, e))?;
        let statement = Statement::verify(&token, department, &signing, chrono::Utc::now().timestamp()).map_err(|e| match e {
            Reason::NotYet | Reason::Expired => {
                wrong(department, "signed a statement for another time: its clock is more than 30 s off, or ours", e)
                    .advice("the clocks must be corrected (NTP)")
            }
            _ => wrong(department, "sent a statement that does not verify", e),
        })?;
        if !fits(&statement, key, &id, held, &changes) {
            return Err(wrong(department, "sent the statement of another list", &statement.sub));
        }
        let standing = statement.standing;
        nodes.ledgers.check(department, seen, standing).await?;
        if standing < described {
            let what = "told of an earlier version of its consent ledger than it had already described";
            return Err(wrong(department, what, format!("{standing} after {described}")));
        }
        nodes.ledgers.note(department, standing, &id).await?;
        let Statement { since, rules, judged_at, .. } = statement;
        Ok(Told { changes, since, standing, rules, judged_at, room, round })
    }
}

/// Whether a statement is about what was asked and what came.
fn fits(statement: &Statement, key: &Key, id: &str, held: Option<&Held>, changes: &Changes) -> bool {
    let asked = statement.sub == id
        && statement.domain == key.domain.to_string()
        && statement.agreement_digest == key.agreement_digest
        && statement.basis == i32::from(key.basis);
    let follows = match (statement.since, held) {
        (None, _) => changes.removed.is_empty(),
        (Some(since), Some(held)) => {
            since == held.standing && since.generation == statement.standing.generation && statement.rules == held.rules
        }
        (Some(_), None) => false,
    };
    asked && follows && statement.changes_sha256 == changes.digest()
}

async fn next(department: &Name, messages: &mut Streaming<ReachChanges>) -> Result<Option<ReachChanges>, Refusal> {
    match tokio::time::timeout(PAUSE, messages.message()).await {
        Err(_) => Err(timeout(department)),
        Ok(message) => message.map_err(|status| failed(department, &status)),
    }
}

fn unreadable(department: &Name, error: ReachError) -> Refusal {
    if let ReachError::TooMany(most) = error {
        let what = format!("department '{department}' tells of more than {most} subjects, the gateway's limit, and was stopped");
        return Refusal::new(Code::LimitExceeded, what)
            .department(department)
            .advice("if there are so many, the gateway's operator can raise reach_subjects");
    }
    wrong(department, &format!("sent a list that was not agreed ({error})"), format!("{error:?}"))
}

fn wrong(department: &Name, what: &str, operator: impl std::fmt::Display) -> Refusal {
    faulty(department, what, operator).advice("tell the department: its node, or something in its place, sends what the contract forbids")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use concordat_policy::LinkageDomain;
    use concordat_proto::v1;

    use super::*;

    /// One thing changed in a statement that fits.
    type Change<'a> = &'a dyn Fn(&mut Statement);

    #[test]
    fn a_statement_is_of_this_list_these_changes_and_this_request() {
        let name = |text: &str| Name::parse(text).unwrap();
        let key = Key {
            department: name("dwp"),
            domain: LinkageDomain { mission: name("m"), purpose: name("p"), epoch: 7, rotation: 0 },
            agreement: name("a"),
            agreement_digest: "digest".into(),
            basis: v1::Basis::Consent,
        };
        let at = |generation, version| Standing { generation, version };
        let held =
            |standing| Held { list: Arc::default(), standing, rules: "r".into(), judged_at: 0, asked: Instant::now(), as_of: 0, round: 0 };
        let changes = Changes { added: vec![[1; 16]], removed: vec![[2; 16]] };
        let statement = Statement {
            iss: "node:dwp".into(),
            sub: "id".into(),
            aud: "concordat-gateway".into(),
            nbf: 0,
            exp: 1,
            domain: "m/p/7".into(),
            agreement_digest: "digest".into(),
            basis: v1::Basis::Consent.into(),
            since: Some(at(0, 5)),
            standing: at(0, 9),
            judged_at: 0,
            rules: "r".into(),
            changes_sha256: changes.digest(),
        };
        assert!(fits(&statement, &key, "id", Some(&held(at(0, 5))), &changes));
        let differences: [Change<'_>; 9] = [
            &|s| s.sub = "other".into(),
            &|s| s.domain = "m/p/8".into(),
            &|s| s.agreement_digest = "other".into(),
            &|s| s.basis = v1::Basis::StatutoryHonouringObjections.into(),
            &|s| s.since = Some(at(0, 4)),
            &|s| s.standing = at(1, 9),
            &|s| s.rules = "other".into(),
            &|s| s.changes_sha256 = Changes::default().digest(),
            // A whole list removes nobody.
            &|s| s.since = None,
        ];
        for (at_fault, change) in differences.iter().enumerate() {
            let mut changed = statement.clone();
            change(&mut changed);
            assert!(!fits(&changed, &key, "id", Some(&held(at(0, 5))), &changes), "{at_fault}");
        }
        assert!(!fits(&statement, &key, "id", None, &changes), "changes of a list that is not there");
        assert!(!fits(&statement, &key, "id", Some(&held(at(0, 6))), &changes));
        let whole = Changes { added: vec![[1; 16]], removed: Vec::new() };
        let statement = Statement { since: None, standing: at(2, 1), rules: "new".into(), changes_sha256: whole.digest(), ..statement };
        for held in [None, Some(held(at(0, 5)))] {
            assert!(fits(&statement, &key, "id", held.as_ref(), &whole), "a whole list follows anything");
        }
    }
}
