//! Joins through a link dataset: one that has a second pseudonym, of another identifier type than its subject's.
//!
//! ```text
//! a.people p ─ p.subject = l.subject ─ c.links l ─ l.linked_subject = h.subject ─ b.homes h
//!              (nino)                                  (uprn)
//! ```
//! A row's subject stays the one of the dataset that the joins begin with, and beside it the row carries the pseudonym of the other
//! type. A number is shown where as many distinct subjects of *each* type stand behind it as the minimum asks (`summarise/levels.rs`): one
//! home to which a link dataset gave ten people is not ten homes. For the same reason nothing that chooses people by a subquery may
//! go through a link dataset, and no statement goes through two.

use concordat_policy::{Code, Refusal};
use datafusion::common::{Column, JoinType, Result};

use super::shape::{Linked, Present, Rows, refuse};

impl Rows {
    /// The columns that the statement cannot name, and that are carried along.
    pub(super) fn hidden(&mut self) -> impl Iterator<Item = &mut Column> {
        let present = self.present.iter_mut().filter_map(|present| present.column.as_mut());
        let compared = self.compared.iter_mut().filter_map(|(_, column)| column.as_mut());
        std::iter::once(&mut self.subject).chain(present).chain(self.linked.as_mut().map(|linked| &mut linked.column)).chain(compared)
    }

    /// Refuses rows that come through a link dataset, where they cannot be protected.
    pub(super) fn unlinked(&self, what: &str) -> Result<()> {
        if self.linked.is_none() {
            return Ok(());
        }
        refuse(
            Refusal::new(Code::Disclosure, format!("{what} cannot go through a link dataset: one subject could stand for many there"))
                .advice("join it, and summarise the joined rows"),
        )
    }

    /// The datasets of a side of a join. `same` says that wherever the joined row's subject is, this side's is, and the same.
    fn parts(&self, same: bool) -> Vec<Present> {
        let own = |present: &Present| present.column.clone().or_else(|| (!same).then(|| self.subject.clone()));
        self.present.iter().map(|present| Present { column: own(present), ..present.clone() }).collect()
    }

    /// Every pseudonym that the rows carry, that of another type first.
    fn pseudonyms(&self) -> impl Iterator<Item = Linked> {
        let own = Linked { label: self.label.clone(), column: self.subject.clone() };
        self.linked.clone().into_iter().chain([own])
    }
}

/// What a joined row carries of its two sides.
pub(super) struct Carried {
    pub(super) label: String,
    pub(super) present: Vec<Present>,
    pub(super) linked: Option<Linked>,
}

/// Whether two sides may be joined in this way, and what their rows carry.
pub(super) fn carried(kind: JoinType, left: &Rows, right: &Rows) -> Result<Carried> {
    use JoinType::{Full, Inner, Left, LeftAnti, LeftSemi, Right, RightAnti, RightSemi};
    let alike = left.label == right.label;
    let semi = matches!(kind, LeftSemi | LeftAnti | RightSemi | RightAnti);
    if semi || kind == Full {
        let what = if semi { "choosing people by another dataset" } else { "a FULL join" };
        left.unlinked(what)?;
        right.unlinked(what)?;
    }
    if left.linked.is_some() && right.linked.is_some() {
        return refuse(
            Refusal::new(Code::Invalid, "a statement's joins go through one link dataset at most").advice("ask for each link by itself"),
        );
    }
    let (keep_left, keep_right) = (!matches!(kind, RightSemi | RightAnti), !matches!(kind, LeftSemi | LeftAnti));
    let by_right = matches!(kind, Right | RightSemi | RightAnti);
    let mut present = Vec::new();
    if keep_left {
        present.extend(left.parts(matches!(kind, Inner | Left | LeftSemi | LeftAnti)));
    }
    if keep_right {
        present.extend(right.parts(by_right || (kind == Inner && alike)));
    }
    if (keep_left && left.present.is_empty()) || (keep_right && right.present.is_empty()) {
        present.clear();
    }
    let label = if by_right { right.label.clone() } else { left.label.clone() };
    let (first, second) = if by_right { (right, left) } else { (left, right) };
    let linked = first.pseudonyms().chain(second.pseudonyms()).find(|pseudonym| pseudonym.label != label);
    Ok(Carried { label, present, linked })
}
