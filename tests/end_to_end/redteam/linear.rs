//! What an attacker can work out from answers, by linear programming. Written for these games alone: it shares nothing with the
//! protector but the solver.

use microlp::{ComparisonOp, LinearExpr, OptimizationDirection, Problem, Variable};

/// Places of unknowns, each with its weight.
type Weighted = Vec<(usize, f64)>;

/// Unknown numbers of which some sums are known within intervals.
#[derive(Default)]
pub struct Known {
    /// Each unknown is from 0 to its number here.
    most: Vec<f64>,
    /// Sums, each from where to where it is.
    sums: Vec<(Weighted, f64, f64)>,
}

impl Known {
    pub fn new(most: Vec<f64>) -> Self {
        Self { most, sums: Vec::new() }
    }

    /// A sum was told, rounded to multiples of `step`.
    pub fn told(&mut self, of: Vec<usize>, value: f64, step: f64) {
        self.between(of.into_iter().map(|place| (place, 1.0)).collect(), value - step / 2.0, value + step / 2.0);
    }

    /// A sum of unknowns, each with its weight, is in an interval.
    pub fn between(&mut self, of: Weighted, from: f64, to: f64) {
        self.sums.push((of, from, to));
    }

    /// The unknowns that contradict the answers least, by the sum of the distances from the intervals; and that sum.
    pub fn best(&self) -> Option<(Vec<f64>, f64)> {
        let (problem, unknowns, _) = self.problem(OptimizationDirection::Minimize, None);
        let solution = problem.solve().ok()?.into_solution().ok()?;
        Some((unknowns.iter().map(|unknown| solution.var_value(*unknown)).collect(), solution.objective()))
    }

    /// From where to where an unknown can be, if the answers contradict themselves no more than they must.
    pub fn bounds(&self, of: usize) -> Option<(f64, f64)> {
        self.bounds_of_sum(&[of])
    }

    /// The same of a sum of unknowns.
    pub fn bounds_of_sum(&self, of: &[usize]) -> Option<(f64, f64)> {
        let (_, contradiction) = self.best()?;
        let end = |direction| {
            let (mut problem, _, slacks) = self.problem(direction, Some(of));
            let all = slacks.iter().fold(LinearExpr::empty(), |mut all, slack| {
                all.add(*slack, 1.0);
                all
            });
            problem.add_constraint(all, ComparisonOp::Le, contradiction * (1.0 + 1e-6) + 1e-6);
            Some(problem.solve().ok()?.into_solution().ok()?.objective())
        };
        Some((end(OptimizationDirection::Minimize)?, end(OptimizationDirection::Maximize)?))
    }

    /// The unknowns, and for each sum how far it may be outside its interval. The objective is a sum of unknowns, or all distances.
    fn problem(&self, direction: OptimizationDirection, objective: Option<&[usize]>) -> (Problem, Vec<Variable>, Vec<Variable>) {
        let mut problem = Problem::new(direction);
        let weight = |place: usize| f64::from(u8::from(objective.is_some_and(|of| of.contains(&place))));
        let unknowns: Vec<Variable> =
            self.most.iter().enumerate().map(|(place, most)| problem.add_var(weight(place), (0.0, *most))).collect();
        let distance = if objective.is_none() { 1.0 } else { 0.0 };
        let slacks: Vec<Variable> = self.sums.iter().map(|_| problem.add_var(distance, (0.0, f64::INFINITY))).collect();
        for ((of, from, to), slack) in self.sums.iter().zip(&slacks) {
            let sum = |sign: f64| {
                let mut sum = LinearExpr::empty();
                of.iter().for_each(|(place, weight)| sum.add(unknowns[*place], *weight));
                sum.add(*slack, sign);
                sum
            };
            if from.is_finite() {
                problem.add_constraint(sum(1.0), ComparisonOp::Ge, *from);
            }
            if to.is_finite() {
                problem.add_constraint(sum(-1.0), ComparisonOp::Le, *to);
            }
        }
        (problem, unknowns, slacks)
    }
}

#[test]
fn exact_sums_are_undone_and_coarse_ones_bound_what_they_hide() {
    let mut known = Known::new(vec![100.0; 3]);
    known.told(vec![0, 1], 30.0, 0.0);
    known.told(vec![1, 2], 50.0, 0.0);
    known.told(vec![0, 1, 2], 60.0, 0.0);
    let (values, contradiction) = known.best().unwrap();
    assert!(values.iter().zip([10.0, 20.0, 30.0]).all(|(value, exact)| (value - exact).abs() < 1e-6) && contradiction < 1e-6);
    // Twice the one is no more than the other.
    let mut known = Known::new(vec![f64::INFINITY; 2]);
    known.told(vec![0], 30.0, 0.0);
    known.between(vec![(1, 2.0), (0, -1.0)], f64::NEG_INFINITY, 0.0);
    let (from, to) = known.bounds(1).unwrap();
    assert!(from.abs() < 1e-3 && (to - 15.0).abs() < 1e-3, "{from} to {to}");
    let mut known = Known::new(vec![f64::INFINITY; 2]);
    known.told(vec![0, 1], 30.0, 5.0);
    known.told(vec![1], 20.0, 5.0);
    let (from, to) = known.bounds(0).unwrap();
    assert!((from - 5.0).abs() < 1e-3 && (to - 15.0).abs() < 1e-3, "{from} to {to}");
}
