//! The departments of a query's mission that the query touches in no other way: neither does it read their data, nor do their people's
//! choices reach what it reads. Where their ledgers stand must be known all the same, and not from longer ago than the query's agreement
//! allows: nothing of a mission goes on unnoticed while one of its departments cannot be asked.
//!
//! It is asked for queries only whose data some department's withdrawals reach. Of others no record elsewhere can change the answer, whatever its
//! age: each node applies its own department's to its own data when the query starts.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use concordat_policy::{Agreement, Name, Signatures};

/// The parties of every agreement in force of the mission of `agreement`, but for its own parties: of these, lists are asked for.
pub(super) fn others<'a>(
    agreements: &'a [Agreement],
    signatures: &Signatures,
    agreement: &Agreement,
    now: DateTime<Utc>,
) -> BTreeSet<&'a Name> {
    let of_mission = agreements.iter().filter(|other| other.mission == agreement.mission && other.in_force(now));
    let in_force = of_mission.filter(|other| signatures.refusal(other, now).is_none());
    let parties = in_force.flat_map(|other| other.parties.iter().map(|party| &party.department));
    parties.filter(|department| agreement.party(department).is_none()).collect()
}

#[cfg(test)]
mod tests {
    use concordat_policy::agreement::Fingerprint;

    use super::*;
    use crate::plan::tests::{AGREEMENT, agreed, key, name, now, sign};

    #[test]
    fn who_belongs_to_the_mission_is_a_party_of_any_of_its_agreements_in_force() {
        let own = agreed(AGREEMENT);
        // Another agreement, between one of the parties and somebody else.
        let with = |department: &str, change: &dyn Fn(&mut Agreement)| {
            let mut other = own.clone();
            other.id = name("other");
            other.parties.truncate(1);
            let mut party = other.parties[0].clone();
            party.department = name(department);
            party.signing_key = Fingerprint::of(key(department).public_spki());
            other.parties.push(party);
            change(&mut other);
            other
        };
        for (other, expected) in [
            (with("z", &|_| ()), &["z"][..]),
            (with("z", &|other| other.mission = name("elsewhere")), &[]),
            (with("z", &|other| other.valid_from = now().date_naive().succ_opt().unwrap()), &[]),
            (with(own.parties[1].department.as_str(), &|_| ()), &[]),
        ] {
            let agreements = [own.clone(), other];
            let mut signatures = Signatures::default();
            agreements.iter().for_each(|agreement| sign(&mut signatures, agreement, &[]));
            let found = others(&agreements, &signatures, &own, now());
            assert_eq!(found.into_iter().map(Name::as_str).collect::<Vec<_>>(), expected);
        }
        let unsigned = [own.clone(), with("z", &|_| ())];
        assert!(others(&unsigned, &Signatures::default(), &own, now()).is_empty());
    }
}
