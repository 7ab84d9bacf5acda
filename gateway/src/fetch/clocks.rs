//! Clocks: orders and receipts live for seconds, so a node's clock and ours may differ by [`LEEWAY`] seconds. Beyond that nothing
//! is ordered, and the refusal says who is off, as far as the other departments' clocks tell.

use std::sync::atomic::{AtomicI64, Ordering};

use concordat_policy::{Code, Name, Refusal};
use concordat_proto::token::LEEWAY;

/// A node that has not told its clock.
const UNKNOWN: i64 = i64::MIN;

/// How far a node's clock was ahead of ours when it told it last, in seconds.
#[derive(Debug)]
pub(super) struct Offset(AtomicI64);

impl Default for Offset {
    fn default() -> Self {
        Self(AtomicI64::new(UNKNOWN))
    }
}

impl Offset {
    /// Notes what the node `told` between two moments of our clock (Unix seconds); 0 when it tells nothing.
    pub(super) fn note(&self, told: i64, (asked, answered): (i64, i64)) {
        // Anything between the two moments is no difference.
        let ahead = if told > answered { told.saturating_sub(answered) } else { told.saturating_sub(asked).min(0) };
        self.0.store(if told == 0 { UNKNOWN } else { ahead.max(UNKNOWN + 1) }, Ordering::Relaxed);
    }

    pub(super) fn ahead(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|ahead| *ahead != UNKNOWN)
    }
}

/// Judges a department's clock. `others` are the last known differences of the other departments.
///
/// # Errors
/// [`Code::NodeRefused`] when it is too far off.
pub(super) fn judge(department: &Name, ahead: Option<i64>, others: impl Iterator<Item = i64>) -> Result<(), Refusal> {
    let Some(ahead) = ahead.filter(|ahead| ahead.unsigned_abs() > LEEWAY.unsigned_abs()) else { return Ok(()) };
    let (mut agree, mut differ) = (0usize, 0usize);
    others.for_each(|other| if other.unsigned_abs() > LEEWAY.unsigned_abs() { differ += 1 } else { agree += 1 });
    let seconds = ahead.unsigned_abs();
    let (behind, apart) = if ahead > 0 { ("ahead of", "behind") } else { ("behind", "ahead of") };
    let (off, who) = if agree > 0 {
        (
            format!("the clock of department '{department}' is {seconds} s {behind} this gateway's and the other departments'"),
            "the department",
        )
    } else if differ > 1 {
        (
            format!("this gateway's clock is {seconds} s {apart} that of department '{department}', and off the others' too"),
            "the gateway's operator",
        )
    } else {
        (
            format!("the clock of department '{department}' is {seconds} s {behind} this gateway's"),
            "the department or the gateway's operator",
        )
    };
    Err(Refusal::new(Code::NodeRefused, format!("{off}; {LEEWAY} s are allowed, so nothing was ordered"))
        .department(department)
        .advice(format!("{who} must correct the clock (NTP)")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(ahead: i64, others: &[i64]) -> Option<String> {
        judge(&Name::parse("dfe").unwrap(), Some(ahead), others.iter().copied()).err().map(|refusal| refusal.to_string())
    }

    #[test]
    fn beyond_thirty_seconds_it_is_said_who_is_off_and_by_how_much() {
        for good in [0, 1, -1, 30, -30] {
            assert_eq!(judged(good, &[]), None);
        }
        let ahead = judged(31, &[0, 2, 4000]).unwrap();
        assert!(ahead.contains("'dfe' is 31 s ahead of this gateway's and the other") && ahead.contains("(the department must"), "{ahead}");
        assert!(judged(-31, &[0]).unwrap().contains("'dfe' is 31 s behind this gateway's"));
        let ours = judged(-40, &[-39, -41]).unwrap();
        assert!(ours.contains("this gateway's clock is 40 s ahead of") && ours.contains("(the gateway's operator must"), "{ours}");
        assert!(judged(31, &[]).unwrap().contains("the department or the gateway's operator"));
        assert!(judged(i64::MIN + 1, &[]).is_some());
        assert!(judge(&Name::parse("dfe").unwrap(), None, [900, 900].into_iter()).is_ok());
    }

    #[test]
    fn the_time_between_question_and_answer_is_no_difference() {
        let offset = Offset::default();
        for (told, between, ahead) in [
            (0, (100, 100), None),
            (105, (100, 110), Some(0)),
            (141, (100, 110), Some(31)),
            (69, (100, 110), Some(-31)),
            (i64::MIN, (100, 110), Some(i64::MIN + 1)),
            (i64::MAX, (-5, -1), Some(i64::MAX)),
        ] {
            offset.note(told, between);
            assert_eq!(offset.ahead(), ahead, "{told}");
        }
    }
}
