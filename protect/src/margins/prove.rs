//! Proofs that withheld values cannot be worked out, and what else must be withheld for there to be one.

use std::collections::BTreeSet;
use std::rc::Rc;

use microlp::{ComparisonOp, Error, OptimizationDirection, Problem, Variable};

use super::table::{Place, Sum, Table};

/// No proof was found, whatever is withheld, or the solver failed.
pub(super) struct Unproven;

/// How far others may move, in units of how far the withheld value must: further is never of use, and numbers stay alike in size.
const FURTHEST: f64 = 1_000.0;

/// What is less is nothing, in the same units.
const LEAST: f64 = 1e-5;

/// The solver chooses what to withhold so often, and as many more proofs are looked for to tell it again: this, divided by the table's
/// cells and by its sums, squared. After that a swap is chosen where there is one, which withholds somewhat more and takes no time.
pub(super) const SOLVED: usize = 1_000_000;

/// How inexact a proof may be, in the same units.
const INEXACT: f64 = 1e-6;

/// What may move for a proof.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum May {
    /// What the attacker does not know.
    Unknown,
    /// At its cost, also what is told: it is withheld then.
    Rows,
    /// Also totals that no row has, where they tell the value even if all rows are withheld.
    Totals,
}

/// What is to be proven: that one value may be so much more, or less.
pub(super) struct Aim {
    pub(super) target: usize,
    /// 1 or −1.
    pub(super) sign: f64,
    pub(super) far: f64,
    /// Totals that no row has and that cannot be known, else the value is, whatever is withheld.
    pub(super) unknown: BTreeSet<usize>,
}

/// Other numbers that the attacker cannot tell from the truth: the difference of every place to what it is.
type Proof = Vec<f64>;

/// Withholds until everything that a rule withholds is protected.
pub(super) fn protect(table: &mut Table, solved: usize) -> Result<(), Unproven> {
    let mut targets: Vec<usize> = (0..table.places.len()).filter(|place| table.places.get(*place).is_some_and(|it| it.primary)).collect();
    // The largest need most; what is withheld for them helps the others.
    targets.sort_by(|one, other| size(table, *other).total_cmp(&size(table, *one)).then(one.cmp(other)));
    let sides = targets.into_iter().flat_map(|target| [(target, 1.0), (target, -1.0)]);
    let aims: Vec<Aim> = sides.filter_map(|(target, sign)| aim(table, target, sign)).collect();
    let mut chosen = BTreeSet::new();
    let attempts = (solved / (table.places.len() * table.sums.len()).max(1)).pow(2);
    let mut solves = attempts;
    let mut proven: Vec<Proven> = Vec::with_capacity(aims.len());
    for mut aim in aims {
        let found = match proven.iter().find(|other| other.serves(&aim) && table.holds(&aim, &other.proof)) {
            Some(other) => Some(Rc::clone(&other.proof)),
            None => table.swap(&aim).map(Rc::new),
        };
        let proof = match found {
            Some(proof) => proof,
            None => {
                let proof = table.choose(&aim, &mut solves)?;
                chosen.extend(table.withhold(&mut aim, &proof));
                proof
            }
        };
        proven.push(Proven { aim, proof });
    }
    tell_again(table, chosen, &mut proven, attempts)?;
    if proven.iter().all(|proven| table.holds(&proven.aim, &proven.proof)) { Ok(()) } else { Err(Unproven) }
}

/// Tells what was withheld for one value and is not needed for any, as others have been withheld since: the largest first.
fn tell_again(table: &mut Table, chosen: BTreeSet<usize>, proven: &mut [Proven], mut attempts: usize) -> Result<(), Unproven> {
    let mut chosen: Vec<usize> = chosen.into_iter().collect();
    chosen.sort_by(|one, other| size(table, *other).total_cmp(&size(table, *one)).then(one.cmp(other)));
    for place in chosen {
        table.tell(place, true);
        let concerned: Vec<usize> =
            (0..).zip(&*proven).filter(|(_, it)| !table.allows(&it.aim, place, &it.proof)).map(|(at, _)| at).collect();
        let mut instead: Vec<(usize, Rc<Proof>)> = Vec::new();
        for at in &concerned {
            let Some(Proven { aim, .. }) = proven.get(*at) else { continue };
            if attempts == 0 {
                break;
            }
            attempts -= 1;
            let Some(proof) = table.find(aim)? else { break };
            instead.push((*at, proof));
        }
        if instead.len() < concerned.len() {
            table.tell(place, false);
            continue;
        }
        for (at, proof) in instead {
            if let Some(proven) = proven.get_mut(at) {
                proven.proof = proof;
            }
        }
    }
    Ok(())
}

fn size(table: &Table, place: usize) -> f64 {
    table.places.get(place).map_or(0.0, |place| place.value.abs())
}

/// `None`: that side needs no protection.
fn aim(table: &mut Table, target: usize, sign: f64) -> Option<Aim> {
    let size = size(table, target);
    let smallest = || table.places.iter().map(|place| place.value.abs()).filter(|size| *size > 0.0).min_by(f64::total_cmp);
    let far = if table.whole {
        (size / 10.0).ceil().max(1.0)
    } else if size > 0.0 {
        size / 10.0 * (1.0 + LEAST)
    } else {
        smallest()? / 10.0
    };
    if size == 0.0 && sign < 0.0 {
        return None;
    }
    let place = table.places.get(target)?;
    let mut unknown = BTreeSet::new();
    let mut rows = BTreeSet::new();
    for (total, parts) in table.totals_of(place) {
        let of = |parts: &[usize]| parts.iter().filter_map(|part| table.places.get(*part)).map(|part| part.value).sum::<f64>();
        let nonnegative = parts.iter().filter_map(|part| table.places.get(*part)).all(|part| part.nonnegative);
        if parts.len() == 1 || sign > 0.0 && nonnegative && of(&parts) < place.value + far {
            unknown.insert(total);
            rows.extend(parts);
        }
    }
    for row in rows {
        if let Some(place) = table.places.get_mut(row).filter(|place| place.row) {
            place.told = false;
        }
    }
    Some(Aim { target, sign, far, unknown })
}

/// An aim and its proof, which may be another's.
struct Proven {
    aim: Aim,
    proof: Rc<Proof>,
}

impl Proven {
    /// Whether its proof moves another's value far enough too.
    fn serves(&self, other: &Aim) -> bool {
        self.aim.unknown.is_empty() && self.proof.get(other.target).is_some_and(|moved| moved * other.sign >= other.far)
    }
}

impl Table {
    /// A proof, with what is withheld so far.
    fn find(&self, aim: &Aim) -> Result<Option<Rc<Proof>>, Unproven> {
        let proof = match self.swap(aim) {
            Some(proof) => Some(proof),
            None => self.solve(aim, May::Unknown)?,
        };
        Ok(proof.map(Rc::new))
    }

    /// A proof for which more must be withheld.
    fn choose(&self, aim: &Aim, solves: &mut usize) -> Result<Rc<Proof>, Unproven> {
        if *solves == 0
            && let Some(proof) = self.cheapest_swap(aim)
        {
            return Ok(Rc::new(proof));
        }
        *solves = solves.saturating_sub(1);
        let proof = match self.solve(aim, May::Rows)? {
            None => self.solve(aim, May::Totals)?,
            proof => proof,
        };
        proof.map(Rc::new).ok_or(Unproven)
    }

    /// By linear programming.
    fn solve(&self, aim: &Aim, may: May) -> Result<Option<Proof>, Unproven> {
        let mut problem = Problem::new(OptimizationDirection::Minimize);
        let largest = self.places.iter().map(|place| place.value.abs()).fold(0.0, f64::max);
        let terms: Vec<Vec<(Variable, f64)>> = self
            .places
            .iter()
            .enumerate()
            .map(|(number, place)| {
                if number == aim.target {
                    let bounds = if may > May::Unknown { (aim.sign, aim.sign) } else { (aim.sign.min(0.0), aim.sign.max(0.0)) };
                    return vec![(problem.add_var(-aim.sign, bounds), 1.0)];
                }
                let cost = (place.value.abs() + 1.0) / (largest + 1.0) + INEXACT;
                self.moves(aim, number, place, may)
                    .into_iter()
                    .map(|Move { by: [low, high], sign, costs }| (problem.add_var(if costs { cost } else { 0.0 }, (low, high)), sign))
                    .collect()
            })
            .collect();
        let of = |place: usize| terms.get(place).into_iter().flatten().copied();
        for Sum { total, parts } in self.needed(aim, may) {
            let parts = parts.iter().flat_map(|part| of(*part));
            let expression: Vec<_> = parts.chain(of(*total).map(|(variable, sign)| (variable, -sign))).collect();
            if !expression.is_empty() {
                problem.add_constraint(expression, ComparisonOp::Eq, 0.0);
            }
        }
        let solution = match problem.solve() {
            Ok(outcome) => outcome.into_solution().map_err(|_| Unproven)?,
            Err(Error::Infeasible) => return Ok(None),
            Err(_) => return Err(Unproven),
        };
        let moved = |terms: &Vec<(Variable, f64)>| terms.iter().map(|(variable, sign)| sign * solution.var_value(*variable)).sum::<f64>();
        let proof: Proof = terms.iter().map(moved).collect();
        let far = proof.get(aim.target).is_some_and(|moved| moved * aim.sign >= 1.0 - INEXACT);
        Ok(far.then(|| proof.into_iter().map(|moved| moved * aim.far).collect()))
    }

    /// How a place may move, in units of the aim.
    fn moves(&self, aim: &Aim, number: usize, place: &Place, may: May) -> Vec<Move> {
        let units = |difference: f64| {
            let units = (difference / aim.far).clamp(-FURTHEST, FURTHEST);
            if units.abs() < LEAST { 0.0 } else { units }
        };
        let down = if place.nonnegative { units(-place.value) } else { -FURTHEST };
        if !place.told || aim.unknown.contains(&number) {
            return vec![Move { by: [down.min(0.0), FURTHEST], sign: 1.0, costs: false }];
        }
        let [low, high] = place.shown.map(units);
        let mut moves = Vec::new();
        if low < high {
            moves.push(Move { by: [low, high], sign: 1.0, costs: false });
        }
        if place.may_give_way(may) {
            moves.push(Move { by: [0.0, FURTHEST], sign: 1.0, costs: true });
            if down < low {
                moves.push(Move { by: [0.0, low - down], sign: -1.0, costs: true });
            }
        }
        moves
    }

    /// The sums that must hold, without those that others imply.
    fn needed(&self, aim: &Aim, may: May) -> impl Iterator<Item = &Sum> {
        let moves = |place: &usize| {
            let fixed = self.places.get(*place).is_none_or(|it| it.fixed() && !it.may_give_way(may));
            !fixed || aim.unknown.contains(place) || *place == aim.target
        };
        let sum = |number: &usize| self.sums.get(*number);
        let implied = move |ways: &&Vec<usize>| {
            let total = ways.first().and_then(sum).is_none_or(|sum| !moves(&sum.total));
            total && ways.iter().filter_map(sum).any(|sum| !sum.parts.iter().any(moves))
        };
        let needed: BTreeSet<usize> = self.ways.iter().filter(|ways| !implied(ways)).filter_map(|ways| ways.first().copied()).collect();
        needed.into_iter().filter_map(|number| self.sums.get(number))
    }

    /// Withholds what must have moved for the proof, and takes totals for unknown that have.
    fn withhold(&mut self, aim: &mut Aim, proof: &Proof) -> Vec<usize> {
        let moved = (0..proof.len()).filter(|place| !self.allows(aim, *place, proof));
        let (rows, totals): (Vec<usize>, Vec<usize>) = moved.partition(|place| self.places.get(*place).is_some_and(|place| place.row));
        rows.iter().for_each(|row| self.tell(*row, false));
        aim.unknown.extend(totals);
        rows
    }

    fn tell(&mut self, place: usize, told: bool) {
        if let Some(place) = self.places.get_mut(place) {
            place.told = told;
        }
    }

    /// Whether what the attacker knows of a place holds for a proof.
    fn allows(&self, aim: &Aim, number: usize, proof: &Proof) -> bool {
        let (Some(place), Some(moved)) = (self.places.get(number), proof.get(number)) else { return false };
        let (known, inexact) = (place.told && !aim.unknown.contains(&number), aim.far * INEXACT);
        let [low, high] = place.shown;
        !known || *moved >= low - inexact && *moved <= high + inexact
    }

    /// Whether a proof is one: everything that the attacker knows holds for it.
    fn holds(&self, aim: &Aim, proof: &Proof) -> bool {
        let inexact = aim.far * INEXACT;
        let numbers = self
            .places
            .iter()
            .zip(proof)
            .all(|(place, moved)| moved.is_finite() && (!place.nonnegative || place.value + moved >= -inexact));
        let places = numbers && (0..self.places.len()).all(|place| self.allows(aim, place, proof));
        let moved = |place: &usize| proof.get(*place).copied().unwrap_or(f64::NAN);
        let sums = self.sums.iter().all(|Sum { total, parts }| {
            let parts_moved: f64 = parts.iter().map(moved).sum();
            #[expect(clippy::cast_precision_loss, reason = "a thousand cells at most")]
            let inexact = inexact * (parts.len() + 1) as f64;
            (parts_moved - moved(total)).abs() <= inexact
        });
        places && sums && moved(&aim.target) * aim.sign >= aim.far * (1.0 - INEXACT)
    }
}

impl Place {
    /// Whether it may move at its cost.
    fn may_give_way(&self, may: May) -> bool {
        may >= if self.row { May::Rows } else { May::Totals }
    }
}

/// A variable of a place: between bounds, added or taken away, at the place's cost or none.
struct Move {
    by: [f64; 2],
    sign: f64,
    costs: bool,
}
