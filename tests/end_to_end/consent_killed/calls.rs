//! `kill -9` of a node while it records, imports, corrects or erases over gRPC. What was acknowledged is there once; what got no answer
//! is there whole or not at all, and is made once when the call is repeated. After every kill, answers through the gateway are those of
//! the oracle over what had been made: nobody who withdrew or was erased is in one.
//!
//! The ledger's version is its number of records, so that it tells what a kill left: the answers say it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use concordat_proto::v1;

use super::asked::{self, DEPARTMENT, PURPOSE, world};
use super::call::{Answered, Call, Request, until_cut_off};
use super::{Seeded, number, seed};
use crate::recording::{ledger, withdrawn};
use crate::sandbox::Sandbox;

/// People who change their minds.
const PEOPLE: usize = 600;
/// Calls that are ready when a kill is due.
const READY: usize = 12;
/// Records of an import about people of whom there is no data.
const STRANGERS: u32 = 500;
/// Records in one message of an import.
const MESSAGE: usize = 100;
const KINDS: [Kind; 4] = [Kind::Record, Kind::Import, Kind::Correct, Kind::Erase];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Record,
    Import,
    Correct,
    Erase,
}

struct Person {
    identifier: String,
    agreed: bool,
    erased: bool,
}

struct World {
    sandbox: Sandbox,
    people: Vec<Person>,
    /// Who comes next.
    next: usize,
    /// Whom the calls of this round are about.
    taken: BTreeSet<usize>,
    calls: u64,
    /// The ledger's version after everything that was made.
    version: u64,
}

impl World {
    async fn new() -> Self {
        let sandbox = world().await;
        let identifiers = asked::people(&sandbox).await.into_iter().take(PEOPLE);
        let people: Vec<_> = identifiers.map(|identifier| Person { identifier, agreed: true, erased: false }).collect();
        assert_eq!(people.len(), PEOPLE);
        let mut world = Self { sandbox, people, next: 0, taken: BTreeSet::new(), calls: 0, version: 0 };
        world.version = world.stands().await;
        world
    }

    /// At which version a query finds the ledger.
    async fn stands(&self) -> u64 {
        asked::stands(&self.sandbox).await
    }

    /// Answers are what plain DataFusion says of what was made.
    async fn compare(&self, when: &str) {
        let of = |agreed: bool| {
            let people = self.people.iter().filter(|person| person.agreed == agreed);
            people.map(|person| person.identifier.clone()).collect::<Vec<_>>()
        };
        let later = [(DEPARTMENT, "withdrawn", of(false)), (DEPARTMENT, "given", of(true))];
        asked::compare(&self.sandbox, &later, when).await;
    }

    /// People who come next, each once in a round: anybody, or such as have agreed.
    fn some(&mut self, count: usize, agreed: bool) -> Vec<usize> {
        let mut found = Vec::new();
        for _ in 0..PEOPLE {
            if found.len() == count {
                break;
            }
            let at = self.next % PEOPLE;
            self.next += 1;
            if (self.people[at].agreed || !agreed) && self.taken.insert(at) {
                found.push(at);
            }
        }
        assert_eq!(found.len(), count, "more people are needed");
        found
    }

    /// Each changes their mind.
    fn turn(&self, at: usize) -> v1::ConsentRecord {
        let person = &self.people[at];
        let event = if person.agreed { "withdrawn" } else { "given" };
        v1::ConsentRecord { event: event.into(), ..withdrawn(person.identifier.clone(), PURPOSE) }
    }

    fn id(&mut self) -> String {
        self.calls += 1;
        format!("call-{}", self.calls)
    }

    fn record(&mut self, people: &[usize]) -> Call {
        let records: Vec<_> = people.iter().map(|at| self.turn(*at)).collect();
        let after = people.iter().map(|at| (*at, !self.people[*at].agreed)).collect();
        let writes = records.len() as u64;
        Call { request: Request::Record(v1::RecordRequest { records, id: self.id() }), after, writes: writes..=writes }
    }

    fn import(&mut self, people: &[usize]) -> Call {
        let own = people.iter().map(|at| self.turn(*at));
        let strangers = (0..STRANGERS).map(|number| withdrawn(format!("ZW{number:06}A"), "health"));
        let records: Vec<_> = own.chain(strangers).collect();
        let after = people.iter().map(|at| (*at, !self.people[*at].agreed)).collect();
        let (writes, id) = (records.len() as u64, self.id());
        let message = |part: &[v1::ConsentRecord]| v1::ImportRequest { id: id.clone(), records: part.to_vec(), total: 0 };
        let mut messages: Vec<_> = records.chunks(MESSAGE).map(message).collect();
        messages.last_mut().unwrap().total = writes;
        Call { request: Request::Import(messages), after, writes: writes..=writes }
    }

    /// Calls of one kind, each about people of its own.
    async fn ready(&mut self, kind: Kind) -> Vec<Call> {
        self.taken.clear();
        if kind == Kind::Correct {
            return self.corrections().await;
        }
        let call = |_| match kind {
            Kind::Record | Kind::Correct => {
                let people = self.some(4, false);
                self.record(&people)
            }
            Kind::Import => {
                let people = self.some(20, false);
                self.import(&people)
            }
            Kind::Erase => {
                let people = self.some(2, true);
                let identifiers = people.iter().map(|at| self.people[*at].identifier.clone()).collect();
                let request = v1::EraseRequest { identifier_type: "nino".into(), identifiers };
                // That each was erased, and what of theirs is kept.
                let writes = people.len() as u64..=people.len() as u64 * 5;
                Call { request: Request::Erase(request), after: people.into_iter().map(|at| (at, false)).collect(), writes }
            }
        };
        (0..READY).map(call).collect()
    }

    /// People withdraw, and each withdrawal was a slip.
    async fn corrections(&mut self) -> Vec<Call> {
        let people = self.some(READY, true);
        let slips = self.record(&people);
        let answer = slips.send(&mut ledger(&self.sandbox, DEPARTMENT).await).await.unwrap();
        self.made(&slips, answer.version);
        let first = answer.version - READY as u64 + 1;
        let correction = |(at, place): (usize, u64)| {
            let identifier = self.people[at].identifier.clone();
            let request = v1::CorrectRequest { identifier_type: "nino".into(), identifier, place };
            Call { request: Request::Correct(request), after: vec![(at, true)], writes: 1..=1 }
        };
        people.into_iter().zip(first..).map(correction).collect()
    }

    /// A call was made, and the ledger is at this version after it.
    fn made(&mut self, call: &Call, version: u64) {
        let written = version.checked_sub(self.version);
        assert!(written.is_some_and(|written| call.writes.contains(&written)), "{written:?} records, not {:?}", call.writes);
        self.version = version;
        for (at, agreed) in &call.after {
            (self.people[*at].agreed, self.people[*at].erased) = (*agreed, call.erases());
        }
    }

    /// Kills the node at a point of these calls, and starts it again.
    async fn killed(&mut self, calls: Vec<Call>, point: Duration) -> (Vec<(Call, Answered)>, Option<Call>) {
        let caller = tokio::spawn(until_cut_off(ledger(&self.sandbox, DEPARTMENT).await, calls));
        tokio::time::sleep(point).await;
        self.sandbox.running.kill(DEPARTMENT);
        let outcome = caller.await.unwrap();
        self.sandbox.running.restart_node(DEPARTMENT).await.unwrap();
        outcome
    }

    /// One kill, and what must be so after it. Whether a call without an answer had been made.
    async fn round(&mut self, kind: Kind, point: Duration, when: &str) -> Option<bool> {
        let calls = self.ready(kind).await;
        let (answered, unanswered) = self.killed(calls, point).await;
        for (call, answer) in &answered {
            assert!(!answer.before, "{when}");
            self.made(call, answer.version);
        }
        let found = self.stands().await;
        assert!(found >= self.version, "{when}: acknowledged calls are lost, {found} of {} records are there", self.version);
        let before = unanswered.is_some() && found > self.version;
        if let Some(call) = unanswered.as_ref().filter(|_| before) {
            self.made(call, found);
        }
        assert_eq!(found, self.version, "{when}: something was applied twice");
        self.compare(&format!("{when}, after the kill")).await;

        let mut ledger = ledger(&self.sandbox, DEPARTMENT).await;
        // An erasure does not say that it had been made before: it writes nothing then, and tells where the ledger stands.
        for (call, answer) in &answered {
            let again = call.send(&mut ledger).await.unwrap();
            assert!(again.before || (call.erases() && again.version == found), "{when}: an acknowledged call was made once more");
            let as_then = matches!(kind, Kind::Import | Kind::Erase) || again.version == answer.version;
            assert!(as_then, "{when}: {again:?}, {answer:?}");
        }
        if let Some(call) = &unanswered {
            let again = call.send(&mut ledger).await.unwrap();
            let made_before = again.before || (call.erases() && again.version == found);
            assert_eq!(made_before, before, "{when}");
            if !made_before {
                self.made(call, again.version);
            }
        }
        assert_eq!(self.stands().await, self.version, "{when}: what was repeated was made once");
        self.compare(&format!("{when}, after what was repeated")).await;
        unanswered.map(|_| before)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_in_any_call_has_made_it_once_or_not_and_answers_say_so() {
    let mut world = World::new().await;
    let mut random = Seeded(seed());
    let mut usual = Vec::new();
    for kind in KINDS {
        let call = world.ready(kind).await.remove(0);
        let mut ledger = ledger(&world.sandbox, DEPARTMENT).await;
        let since = Instant::now();
        let answer = call.send(&mut ledger).await.unwrap();
        usual.push(u64::try_from(since.elapsed().as_micros()).unwrap());
        world.made(&call, answer.version);
    }
    world.compare("before any kill").await;
    let (mut cut_off, mut made) = (0, 0);
    for round in 0..number("CONCORDAT_KILLS", 4) {
        let at = (round % KINDS.len() as u64) as usize;
        // From before the first call has arrived until after some have been answered.
        let point = Duration::from_micros(random.below(usual[at] * 5 + 1));
        let outcome = world.round(KINDS[at], point, &format!("round {round}, {:?}, killed after {point:?}", KINDS[at])).await;
        cut_off += u64::from(outcome.is_some());
        made += u64::from(outcome == Some(true));
    }
    eprintln!("of {cut_off} calls without an answer {made} had been made");

    // The ledger names everybody but those who were erased.
    let file = rusqlite::Connection::open(world.sandbox.layout.node(DEPARTMENT).join("state/consent.sqlite")).unwrap();
    let mut named = file.prepare("SELECT count(*) FROM records WHERE identifier = ?1").unwrap();
    for person in &world.people {
        let records: i64 = named.query_row([&person.identifier], |row| row.get(0)).unwrap();
        assert_eq!(records == 0, person.erased);
    }
}
