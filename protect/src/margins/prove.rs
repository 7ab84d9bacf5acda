//! Proofs that withheld values cannot be worked out, and what else must be withheld for there to be one.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use microlp::{ComparisonOp, Error, OptimizationDirection, Problem, Variable};

use super::table::{Place, Sum, Table};

/// No proof was found, whatever is withheld, the solver failed, or time is up.
pub(super) struct Unproven;

/// How far others may move, in units of how far the withheld value must: further is never of use, and numbers stay alike in size.
const FURTHEST: f64 = 1_000.0;

/// What is less is nothing, in the same units.
const LEAST: f64 = 1e-5;

/// The solver chooses what to withhold so often, and as many more proofs are looked for to tell it again: this, divided by the table's
/// cells and by its sums, squared. After that a swap is chosen where there is one, which withholds somewhat more and takes no time.
pub(super) const SOLVED: usize = 1_000_000;

/// From so many keys on, no proof may take a total for unknown that the result does not have.
const STRICT: usize = 3;

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
pub(super) fn protect(table: &mut Table<'_>, solved: usize) -> Result<(), Unproven> {
    let far = |table: &Table<'_>, place: usize| table.places.get(place).and_then(|place| place.far);
    let mut targets: Vec<(usize, f64)> = (0..table.places.len()).filter_map(|place| far(table, place).map(|far| (place, far))).collect();
    // What must move furthest needs most; what is withheld for it helps the others.
    targets.sort_by(|(one, far), (other, further)| further.total_cmp(far).then(one.cmp(other)));
    let sides = targets.into_iter().flat_map(|(target, far)| [(target, far, 1.0), (target, far, -1.0)]);
    let aims: Vec<Aim> = sides.map(|(target, far, sign)| aim(table, target, far, sign)).collect();
    let mut chosen = BTreeSet::new();
    let attempts = (solved / (table.places.len() * table.sums.len()).max(1)).pow(2);
    let mut solves = attempts;
    let mut proven: Vec<Proven> = Vec::with_capacity(aims.len());
    for mut aim in aims {
        table.in_time()?;
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
    // Of several keys: what others than these totals tell then is not known well enough to tell any value.
    if table.width() >= STRICT && proven.iter().any(|proven| !proven.aim.unknown.is_empty()) {
        return Err(Unproven);
    }
    if proven.iter().all(|proven| table.holds(&proven.aim, &proven.proof)) { Ok(()) } else { Err(Unproven) }
}

/// Tells what was withheld for one value and is not needed for any, as others have been withheld since: the largest first.
fn tell_again(table: &mut Table<'_>, chosen: BTreeSet<usize>, proven: &mut [Proven], mut attempts: usize) -> Result<(), Unproven> {
    let mut chosen: Vec<usize> = chosen.into_iter().collect();
    chosen.sort_by(|one, other| size(table, *other).total_cmp(&size(table, *one)).then(one.cmp(other)));
    for place in chosen {
        table.in_time()?;
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

fn size(table: &Table<'_>, place: usize) -> f64 {
    table.places.get(place).map_or(0.0, |place| place.size)
}

/// What is to be proven of one side. Where a total has too little beside the target that could be less, all its parts are withheld.
fn aim(table: &mut Table<'_>, target: usize, far: f64, sign: f64) -> Aim {
    let mut unknown = BTreeSet::new();
    let mut rows = BTreeSet::new();
    for (total, parts) in table.totals_of(target).into_iter().filter(|_| sign > 0.0) {
        let others = parts.iter().filter(|part| **part != target).filter_map(|part| table.places.get(*part));
        let falls: f64 = others.map(|part| if part.told { part.falls.max(-part.shown[0]) } else { part.falls }).sum();
        let rises = table.places.get(total).map_or(0.0, |total| total.shown[1]);
        if falls + rises < far {
            unknown.insert(total);
            rows.extend(parts);
        }
    }
    for row in rows {
        if let Some(place) = table.places.get_mut(row).filter(|place| place.row) {
            place.told = false;
        }
    }
    Aim { target, sign, far, unknown }
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

impl Table<'_> {
    /// How much longer this may take.
    fn in_time(&self) -> Result<Duration, Unproven> {
        Some((self.left)()).filter(|left| !left.is_zero()).ok_or(Unproven)
    }

    /// How far a place may fall that is not told. Where the target is a total of few that has something, so has a part.
    pub(super) fn falls(&self, aim: &Aim, number: usize) -> f64 {
        let Some(place) = self.places.get(number) else { return 0.0 };
        let part = aim.sign < 0.0 && self.places.get(aim.target).is_some_and(|target| target.few && target.has(place));
        if part { place.falls.max(aim.far) } else { place.falls }
    }

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
        problem.set_time_limit(self.in_time()?);
        let largest = self.places.iter().map(|place| place.size).fold(0.0, f64::max);
        let terms: Vec<Vec<(Variable, f64)>> = self
            .places
            .iter()
            .enumerate()
            .map(|(number, place)| {
                if number == aim.target {
                    let bounds = if may > May::Unknown { (aim.sign, aim.sign) } else { (aim.sign.min(0.0), aim.sign.max(0.0)) };
                    return vec![(problem.add_var(-aim.sign, bounds), 1.0)];
                }
                // What is lost with it, for each unit that it could give: the solver charges by movement, withholding does not. Of
                // those that are alike in this, the smaller.
                let by_room = ((place.size + 1.0) / (place.falls.min(aim.far * FURTHEST) + 1.0)).min(FURTHEST);
                let cost = by_room + (place.size + 1.0) / (largest + 1.0) / 10.0 + INEXACT;
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
        let down = units(-self.falls(aim, number));
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
        let falls = |(number, (place, moved)): (usize, (&Place, &f64))| {
            moved.is_finite() && (place.told || number == aim.target || self.falls(aim, number) + moved >= -inexact)
        };
        let numbers = self.places.iter().zip(proof).enumerate().all(falls);
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
