//! Whether data may be released though too few witnesses have seen the gateway's log: every agreement says for how long
//! ([`Agreement::max_unwitnessed`]), and of those that a query uses the strictest counts.
//!
//! A log that nobody outside has seen can still be replaced by another. What was released meanwhile could then be denied. The gateway keeps
//! the rule for all witnesses together ([`permits`]); so that nobody has to believe it, each node keeps it for the gateway's log as the node
//! sees it ([`shown`]), and the gateway for each node's ([`follows`]).

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::agreement::in_words;
use crate::{Agreement, Cause, Code, Name, Refusal};

/// What whoever is refused can do.
const ADVICE: &str = "try again when enough departments' nodes answer: they see the log within seconds then; `concordat departments` shows \
                      which do, and the gateway's operator is told by its alarm";

/// Decides whether something may be released under `agreements` at `now`, when the log has had entries for the time `unwitnessed` that
/// a quorum of witnesses has not seen; zero where it has none.
///
/// # Errors
/// [`Code::Unwitnessed`] beyond the shortest time that one of them allows, naming it and its departments.
pub fn permits<'a>(agreements: impl IntoIterator<Item = &'a Agreement>, unwitnessed: Duration, now: DateTime<Utc>) -> Result<(), Refusal> {
    let strictest = agreements.into_iter().min_by_key(|agreement| agreement.max_unwitnessed);
    let Some(agreement) = strictest.filter(|agreement| unwitnessed > agreement.max_unwitnessed.duration()) else { return Ok(()) };
    let cause = Cause::Unwitnessed {
        agreement: agreement.id.clone(),
        departments: agreement.parties.iter().map(|party| party.department.clone()).collect(),
        max_unwitnessed_seconds: agreement.max_unwitnessed.duration().as_secs(),
        since: before(now, unwitnessed),
    };
    Err(Refusal::because(Code::Unwitnessed, cause).advice(ADVICE))
}

/// Decides at a department's node whether something may be released under `agreement` at `now`, when for the time `silent` the gateway has
/// owed a checkpoint of its log that covers what it ordered here; zero where it owes none.
///
/// # Errors
/// [`Code::Unwitnessed`] beyond the time that the agreement allows.
pub fn shown(agreement: &Agreement, silent: Duration, now: DateTime<Utc>) -> Result<(), Refusal> {
    let Some(late) = Late::of(agreement, silent, now) else { return Ok(()) };
    let cause = format!(
        "since {} the gateway has not shown this department's witness a checkpoint of its access log that covers what it ordered, and {late}",
        late.since()
    );
    Err(Refusal::new(Code::Unwitnessed, cause).advice(
        "the gateway's operator must show its log again, which a running gateway does by itself within seconds; where the log was restored or \
         begun anew, the department's administrator decides with `concordat-node acknowledge-log --config node.toml`",
    ))
}

/// Decides at the gateway whether releases of `department` under `agreement` may be used at `now`, when for the time `behind` its node has
/// owed a checkpoint of its log that covers what it signed receipts for; zero where it owes none.
///
/// # Errors
/// [`Code::Unwitnessed`] beyond the time that the agreement allows.
pub fn follows(agreement: &Agreement, department: &Name, behind: Duration, now: DateTime<Utc>) -> Result<(), Refusal> {
    let Some(late) = Late::of(agreement, behind, now) else { return Ok(()) };
    let cause = format!(
        "since {} the node of '{department}' has not shown the gateway's witness a checkpoint of its access log that covers the receipts it \
         signed, and {late}",
        late.since()
    );
    Err(Refusal::new(Code::Unwitnessed, cause).department(department).advice(format!(
        "the department's operator must say why its log stays behind; where it was restored or begun anew for good, the gateway's operator \
         accepts that with `concordat-gateway acknowledge-log --department {department} --config gateway.toml`"
    )))
}

/// A time that is longer than an agreement allows.
struct Late<'a> {
    agreement: &'a Agreement,
    since: DateTime<Utc>,
}

impl<'a> Late<'a> {
    fn of(agreement: &'a Agreement, time: Duration, now: DateTime<Utc>) -> Option<Self> {
        (time > agreement.max_unwitnessed.duration()).then(|| Self { agreement, since: before(now, time) })
    }

    fn since(&self) -> String {
        self.since.to_rfc3339_opts(SecondsFormat::Secs, true)
    }
}

impl std::fmt::Display for Late<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parties: Vec<&str> = self.agreement.parties.iter().map(|party| party.department.as_str()).collect();
        let most = in_words(self.agreement.max_unwitnessed.duration());
        let (id, parties) = (&self.agreement.id, parties.join(", "));
        write!(f, "the agreement '{id}' of {parties} lets nothing be released when it is so for more than {most}")
    }
}

fn before(now: DateTime<Utc>, time: Duration) -> DateTime<Utc> {
    let ago = chrono::TimeDelta::from_std(time).unwrap_or(chrono::TimeDelta::MAX);
    now.checked_sub_signed(ago).unwrap_or(DateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{AGREEMENT, name};

    fn agreement(id: &str, max_unwitnessed: &str) -> Agreement {
        let head = format!("id = \"{id}\"\nmax_unwitnessed = \"{max_unwitnessed}\"");
        Agreement::parse(&AGREEMENT.replacen("id = \"one\"", &head, 1)).unwrap()
    }

    #[test]
    fn the_strictest_agreement_says_for_how_long() {
        let (short, long) = (agreement("short", "90s"), agreement("long", "4h"));
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        let now: DateTime<Utc> = "2026-06-01T12:00:00Z".parse().unwrap();
        let none: &[&Agreement] = &[];
        for (agreements, unwitnessed, refused_by) in [
            (&[&long][..], Duration::ZERO, None),
            (&[&long], 4 * hour, None),
            (&[&long], 4 * hour + Duration::from_nanos(1), Some("long")),
            (&[&short, &long], 90 * second, None),
            (&[&short, &long], 91 * second, Some("short")),
            (&[&long, &short], 91 * second, Some("short")),
            (&[&long, &short], 5 * hour, Some("short")),
            (&[&long], Duration::MAX, Some("long")),
            (none, Duration::MAX, None),
        ] {
            let decided = permits(agreements.iter().copied(), unwitnessed, now);
            let by = decided.as_ref().err().and_then(|refusal| refusal.because.as_deref());
            let by = by.map(|cause| if let Cause::Unwitnessed { agreement, .. } = cause { agreement.as_str() } else { "another cause" });
            assert_eq!(by, refused_by, "{agreements:?} {unwitnessed:?}");
            assert_eq!(decided.is_err(), refused_by.is_some());
        }
    }

    #[test]
    fn a_refusal_says_what_since_when_whose_rule_and_what_to_do() {
        let now: DateTime<Utc> = "2026-06-01T12:00:00Z".parse().unwrap();
        let refusal = permits([&agreement("one", "90s")], Duration::from_secs(600), now).unwrap_err();
        assert_eq!(refusal.code, Code::Unwitnessed);
        assert_eq!(
            refusal.message,
            "the gateway's access log has entries since 2026-06-01T11:50:00Z that too few witnesses have seen, and the agreement 'one' of \
             dfe, dwp lets nothing be released when it is so for more than 90 seconds"
        );
        assert!(refusal.advice.is_some_and(|advice| advice.contains("concordat departments")));
        let cause = refusal.because.unwrap();
        assert_eq!((cause.as_str(), cause.owner().as_deref()), ("unwitnessed", Some("dfe, dwp")));
        let Cause::Unwitnessed { agreement, departments, .. } = *cause else { panic!("another cause") };
        assert_eq!((agreement, departments), (name("one"), vec![name("dfe"), name("dwp")]));
    }

    #[test]
    fn each_side_refuses_what_the_other_has_not_shown_for_too_long_and_not_before() {
        let (agreement, department) = (agreement("one", "90s"), name("dfe"));
        let now: DateTime<Utc> = "2026-06-01T12:00:00Z".parse().unwrap();
        let second = Duration::from_secs(1);
        for (time, refused) in [
            (Duration::ZERO, false),
            (90 * second, false),
            (90 * second + Duration::from_nanos(1), true),
            (600 * second, true),
            (Duration::MAX, true),
        ] {
            let both = [shown(&agreement, time, now), follows(&agreement, &department, time, now)];
            assert_eq!(both.map(|decided| decided.is_err()), [refused, refused], "{time:?}");
        }
        let silent = shown(&agreement, 600 * second, now).unwrap_err();
        assert_eq!(
            silent.message,
            "since 2026-06-01T11:50:00Z the gateway has not shown this department's witness a checkpoint of its access log that covers what it \
             ordered, and the agreement 'one' of dfe, dwp lets nothing be released when it is so for more than 90 seconds"
        );
        let behind = follows(&agreement, &department, 600 * second, now).unwrap_err();
        assert!(behind.message.starts_with("since 2026-06-01T11:50:00Z the node of 'dfe' has not shown"), "{}", behind.message);
        assert_eq!((silent.code, behind.code, behind.department.as_deref()), (Code::Unwitnessed, Code::Unwitnessed, Some("dfe")));
        for (refusal, command) in [(silent, "concordat-node acknowledge-log"), (behind, "acknowledge-log --department dfe")] {
            assert!(refusal.advice.is_some_and(|advice| advice.contains(command)));
        }
    }
}
