//! Proofs that need no solver: values are swapped between a withheld value and another place. Totals over keys in which they differ stay.
//!
//! ```text
//!            urban  rural  total                  urban  rural  total
//!     north    +1     −1     0             north    +1     −1     0
//!     south    −1     +1     0             south     0      0     0
//!     total     0      0     0             total    +1     −1     0    where these totals are rounded, or withheld
//! ```
//!
//! Most values are protected so where others are rounded. That none is found so proves nothing.

use super::prove::Aim;
use super::table::Table;

/// Swaps of less are not tried, in units of the aim.
const LEAST: f64 = 1e-3;

impl Table<'_> {
    /// A proof by swaps with one place after another.
    pub(super) fn swap(&self, aim: &Aim) -> Option<Vec<f64>> {
        let mut moved = vec![0.0; self.places.len()];
        let mut rest = aim.far;
        let totals_move = self.totals_move();
        for other in 0..self.places.len() {
            let Some(corners) = self.corners(aim.target, other, totals_move) else { continue };
            let sign = |odd: bool| if odd { -aim.sign } else { aim.sign };
            let free = |(place, odd): &(usize, bool)| if *place == aim.target { rest } else { self.free(aim, *place, sign(*odd), &moved) };
            let most = corners.iter().map(free).fold(rest, f64::min);
            if most < aim.far * LEAST {
                continue;
            }
            for (place, odd) in corners {
                if let Some(moved) = moved.get_mut(place) {
                    *moved += most * sign(odd);
                }
            }
            rest -= most;
            if rest <= 0.0 {
                if let Some(moved) = moved.get_mut(aim.target) {
                    *moved = aim.far * aim.sign;
                }
                return Some(moved);
            }
        }
        None
    }

    /// A proof by the one swap for which the least must be withheld: the hypercube method.
    pub(super) fn cheapest_swap(&self, aim: &Aim) -> Option<Vec<f64>> {
        let totals_move = self.totals_move();
        let still = vec![0.0; self.places.len()];
        let sign = |odd: bool| if odd { -aim.sign } else { aim.sign };
        let cost = |corners: &Vec<(usize, bool)>| {
            let costs = corners.iter().filter(|(place, _)| *place != aim.target).map(|(number, odd)| {
                let place = self.places.get(*number)?;
                let free = self.free(aim, *number, sign(*odd), &still) >= aim.far;
                let withheld = place.row && (sign(*odd) > 0.0 || place.falls >= aim.far);
                if free { Some(0.0) } else { withheld.then_some(place.size + 1.0) }
            });
            costs.sum::<Option<f64>>()
        };
        let swaps = (0..self.places.len()).filter_map(|other| self.corners(aim.target, other, totals_move));
        let priced = swaps.filter_map(|corners| cost(&corners).map(|cost| (cost, corners)));
        let (_, cheapest) = priced.min_by(|(one, _), (other, _)| one.total_cmp(other))?;
        let mut moved = still;
        for (place, odd) in cheapest {
            if let Some(moved) = moved.get_mut(place) {
                *moved = aim.far * sign(odd);
            }
        }
        Some(moved)
    }

    /// How much further a place may move.
    fn free(&self, aim: &Aim, number: usize, sign: f64, moved: &[f64]) -> f64 {
        let (Some(place), Some(moved)) = (self.places.get(number), moved.get(number)) else { return 0.0 };
        let known = place.told && !aim.unknown.contains(&number);
        match (known, sign > 0.0) {
            (true, true) => place.shown[1] - moved,
            (true, false) => moved - place.shown[0],
            (false, false) => self.falls(aim, number) + moved,
            (false, true) => f64::INFINITY,
        }
    }
}
