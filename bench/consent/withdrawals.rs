//! How long a withdrawal takes until the ledger has acknowledged it: idle, and beside what 100 releases a second do with the ledger.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use concordat_node::consent::Consent;
use concordat_node::consent::intake::{Intake, Raw};
use concordat_policy::{IdentifierType, PurposeTree};

use super::{TREE, name, nino};

/// Releases a second, of what they do with the ledger.
const RELEASES: u32 = 100;
/// People whom one of them looks up.
const PEOPLE: usize = 20_000;
/// What a withdrawal may take at most in the 99th percentile.
const BAR: Duration = Duration::from_millis(50);

/// Measures in the ledger under `state`. What is beyond the bars.
pub(super) fn measure(state: &Path, subjects: usize) -> Vec<String> {
    let count: usize = std::env::var("BENCH_WITHDRAWALS").unwrap_or_else(|_| "1000".into()).parse().unwrap();
    let consent = Consent::open(state, name("dhsc")).unwrap();
    consent.catch_up().unwrap();
    let idle = acknowledged(&consent, subjects, count);
    let (ended, released) = (AtomicBool::new(false), AtomicU64::new(0));
    let began = Instant::now();
    let beside = std::thread::scope(|scope| {
        // Two take turns, so that one that is late does not hold the next one up.
        for turn in 0..2u32 {
            let (consent, ended, released) = (&consent, &ended, &released);
            scope.spawn(move || {
                let identifiers: Vec<String> = (0..PEOPLE).map(|at| nino(at.wrapping_mul(0x9e37_79b1) % subjects)).collect();
                let purposes = [name("opportunity.measure"), name("opportunity")];
                let (mut scratch, mut out) = (Vec::new(), Vec::new());
                for release in (turn..).step_by(2) {
                    std::thread::sleep((Duration::from_secs(1) / RELEASES * release).saturating_sub(began.elapsed()));
                    if ended.load(Ordering::Relaxed) {
                        break;
                    }
                    let view = consent.catch_up().unwrap().snapshot.view("nino", purposes.iter());
                    view.latest(identifiers.iter().map(String::as_str), &mut scratch, &mut out);
                    released.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let beside = acknowledged(&consent, subjects, count);
        ended.store(true, Ordering::Relaxed);
        beside
    });
    let rate = released.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    let told = |what: &str, [half, most]: [Duration; 2]| {
        println!("withdrawal acknowledged, {what}: p50 {:.2} ms, p99 {:.2} ms", half.as_secs_f64() * 1e3, most.as_secs_f64() * 1e3);
    };
    told("idle", idle);
    told(&format!("beside {rate:.0} releases a second"), beside);
    let [half, most] = [0, 1].map(|at| beside[at].as_secs_f64() / idle[at].as_secs_f64());
    let bar = BAR.as_millis();
    println!("beside releases against idle: p50 {half:.2} ×, p99 {most:.2} ×; bar: p99 of {bar} ms, {}", super::kept(beside[1] <= BAR));
    let mut missed = Vec::new();
    if beside[1] > BAR {
        missed.push(format!("a withdrawal beside releases takes over {bar} ms in the 99th percentile"));
    }
    if rate < 0.95 * f64::from(RELEASES) {
        missed.push(format!("the machine makes {rate:.0} releases a second, of {RELEASES} that are to run beside withdrawals"));
    }
    missed
}

/// Withdraws for so many people, one after the other: how long half of them took at most, and 99 in a hundred.
fn acknowledged(consent: &Consent, subjects: usize, count: usize) -> [Duration; 2] {
    let intake = Intake::of(std::iter::once(IdentifierType::Nino), PurposeTree::parse(TREE).unwrap());
    let mut scratch = String::new();
    let mut took: Vec<Duration> = (0..count)
        .map(|at| {
            let identifier = nino(at * 7 % subjects);
            let raw =
                Raw { identifier: &identifier, identifier_type: "nino", purpose: "opportunity", event: "withdrawn", ..Raw::default() };
            let since = Instant::now();
            let record = intake.record(raw, &mut scratch).unwrap();
            consent.record(&[record]).unwrap();
            // As people come: not all at once.
            let took = since.elapsed();
            std::thread::sleep(Duration::from_millis(2));
            took
        })
        .collect();
    took.sort_unstable();
    [took[count / 2], took[count * 99 / 100]]
}
