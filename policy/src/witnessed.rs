//! Whether data may be released though too few witnesses have seen the gateway's log: every agreement says for how long
//! ([`Agreement::max_unwitnessed`]), and of those that a query uses the strictest counts.
//!
//! A log that nobody outside has seen can still be replaced by another. What was released meanwhile could then be denied.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::{Agreement, Cause, Code, Refusal};

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
    let ago = chrono::TimeDelta::from_std(unwitnessed).unwrap_or(chrono::TimeDelta::MAX);
    let cause = Cause::Unwitnessed {
        agreement: agreement.id.clone(),
        departments: agreement.parties.iter().map(|party| party.department.clone()).collect(),
        max_unwitnessed_seconds: agreement.max_unwitnessed.duration().as_secs(),
        since: now.checked_sub_signed(ago).unwrap_or(DateTime::UNIX_EPOCH),
    };
    Err(Refusal::because(Code::Unwitnessed, cause).advice(ADVICE))
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
}
