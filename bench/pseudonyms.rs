//! How long a pseudonym takes: of 65,536 National Insurance numbers at once, as nodes make them for a release, on one thread, beside
//! HMAC-SHA-256 of the same numbers. In turns; medians. Fails where one takes more than 10 ns.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "a benchmark")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use concordat_node::pseudonym::{DomainKey, Pseudonyms};
use concordat_policy::{IdentifierType, LinkageDomain, Name};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

const NUMBERS: usize = 65_536;
const TURNS: usize = 101;
/// What one may take, in nanoseconds.
const BAR: f64 = 10.0;

fn main() {
    // `cargo test --all-targets` starts benchmarks too; only `cargo bench` measures.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let name = |text| Name::parse(text).unwrap();
    let domain = LinkageDomain { mission: name("m"), purpose: name("p"), epoch: 1, rotation: 0 };
    let pseudonyms = Pseudonyms::derive(&DomainKey::new([7; 32]), &domain, &IdentifierType::Nino);
    let hmac = Hmac::<Sha256>::new_from_slice(&[7; 32]).unwrap();
    let numbers: Vec<String> = (0..NUMBERS).map(|number| format!("AB{number:06}C")).collect();
    let (mut ours, mut theirs, mut made) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let since = Instant::now();
        pseudonyms.make(numbers.iter().map(String::as_str), &mut made);
        ours.push(since.elapsed());
        black_box(&made);
        let since = Instant::now();
        for number in &numbers {
            black_box(hmac.clone().chain_update(number.as_bytes()).finalize());
        }
        theirs.push(since.elapsed());
    }
    let [ours, theirs] = [ours, theirs].map(each);
    println!("a pseudonym: {ours:.1} ns; HMAC-SHA-256 {theirs:.0} ns: {:.0} ×", theirs / ours);
    assert!(ours <= BAR, "a pseudonym takes {ours:.1} ns, more than {BAR}");
}

/// Nanoseconds for one number, of the median.
fn each(mut took: Vec<Duration>) -> f64 {
    took.sort_unstable();
    took[took.len() / 2].as_secs_f64() * 1e9 / NUMBERS as f64
}
