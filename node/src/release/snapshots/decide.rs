//! Whom the consent records allow, row by row of a snapshot. What was decided before is kept: the next order under the same records
//! decides nothing, and after a few changes only the rows of their subjects are decided again.

use std::sync::{Arc, OnceLock};

use arrow::array::FixedSizeBinaryArray;
use arrow::buffer::BooleanBuffer;
use concordat_policy::consent::allows;
use concordat_policy::{Basis, Refusal};
use concordat_proto::receipt::Denominators;

use super::super::worker::Rules;
use super::made::{Block, Snapshot};
use crate::consent::{Changed, View};
use crate::pseudonym::Pseudonym;

/// A decision over every row.
pub(crate) struct Decided {
    consent: View,
    linked: Option<View>,
    /// By block: which rows have valid identifiers of subjects whose records allow their use.
    pub(super) allowed: Vec<BooleanBuffer>,
    /// What may be told of subjects who are left out, of an order without a condition.
    pub(super) told: OnceLock<Option<Denominators>>,
}

impl Decided {
    /// Decides over the rows of `snapshot` by `rules`. Blocks.
    pub(super) fn by(rules: &Rules, snapshot: &Snapshot) -> Result<Arc<Self>, Refusal> {
        let all = snapshot.decided().clone();
        let mut before = None;
        for decided in &all {
            let Some([first, second]) = decided.since(rules) else { continue };
            if first.is_none() && second.is_none() {
                return Ok(Arc::clone(decided));
            }
            before = before.or(Some((decided, [first, second])));
        }
        let mut allowed = Vec::with_capacity(snapshot.blocks().len());
        for (index, block) in snapshot.blocks().iter().enumerate() {
            let before = before.as_ref().and_then(|(decided, changed)| Some((decided.allowed.get(index)?, changed)));
            allowed.push(decide(rules, snapshot, block, before)?);
        }
        let linked = rules.linked.as_ref().map(|linked| linked.consent.clone());
        let decided = Arc::new(Self { consent: rules.consent.clone(), linked, allowed, told: OnceLock::new() });
        snapshot.keep(Arc::clone(&decided));
        Ok(decided)
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.allowed.iter().map(|allowed| allowed.inner().len()).sum()
    }

    /// Whose records may have changed since; `None` for anybody's.
    fn since<'a>(&'a self, rules: &'a Rules) -> Option<[Changed<'a>; 2]> {
        let linked = match (&rules.linked, &self.linked) {
            (None, None) => Changed::nobody(),
            (Some(linked), Some(before)) => linked.consent.since(before)?,
            _ => return None,
        };
        Some([rules.consent.since(&self.consent)?, linked])
    }
}

fn decide(
    rules: &Rules,
    snapshot: &Snapshot,
    block: &Block,
    before: Option<(&BooleanBuffer, &[Changed<'_>; 2])>,
) -> Result<BooleanBuffer, Refusal> {
    if matches!(rules.basis, Basis::Statutory { honours_objections: false, .. }) {
        return Ok(block.valid.clone());
    }
    let choices = snapshot.choices(block)?;
    let second = rules.linked.as_ref().map(|linked| Ok::<_, Refusal>((linked, snapshot.linked_choices(block)?))).transpose()?;
    let decide = |row| {
        block.valid.value(row)
            && allows(&rules.basis, rules.consent.of(hash(&choices, row)))
            && second.as_ref().is_none_or(|(linked, choices)| allows(&rules.basis, linked.consent.of(hash(choices, row))))
    };
    let Some((before, [first, other])) = before else { return Ok(BooleanBuffer::collect_bool(block.valid.len(), decide)) };
    Ok(BooleanBuffer::collect_bool(block.valid.len(), |row| {
        let changed = first.holds(hash(&choices, row)) || second.as_ref().is_some_and(|(_, choices)| other.holds(hash(choices, row)));
        if changed { decide(row) } else { before.value(row) }
    }))
}

fn hash(all: &FixedSizeBinaryArray, row: usize) -> Pseudonym {
    all.value(row).try_into().unwrap_or_default()
}
