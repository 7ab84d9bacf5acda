//! The rules under which the games are played.

use concordat::federation::describe::Agreement;
use concordat_policy::Disclosure;
use concordat_policy::disclosure::{Perturbation, Telling};

/// Of the agreement `games-noise`.
pub const NOISE: Perturbation = Perturbation { variance: 2, most: 5 };

/// What is in force where an agreement says nothing.
pub fn plain() -> Disclosure {
    Disclosure::default()
}

/// With noise.
pub fn noise() -> Disclosure {
    Disclosure { perturbation: Some(NOISE), ..plain() }
}

/// Where numbers are told as they are.
pub fn exact() -> Disclosure {
    Disclosure { round_to: 1, ..plain() }
}

/// Where groups of one value are withheld too.
pub fn strict() -> Disclosure {
    Disclosure { homogeneous: Telling::Withheld, ..plain() }
}

/// The agreement, under these rules.
pub fn under(agreement: &mut Agreement, rules: Disclosure) {
    agreement.disclosure = rules;
}
