//! Games about a number that conditions may compare: by `income` with any value, by `pay`, which is the same number, with the thresholds
//! of its bands alone.
//!
//! Population of all: the 120 people of `returns`, whose incomes are 20,000 to 60,000. Target of all: incomes.
//! Score of all: incomes of which the attacker knows less than a band's width in which they are. By `income` both attacks win, which is
//! why such columns have bands.

use concordat::client::Client;
use concordat_policy::Code;

use super::people::{Person, listed, people};
use super::world::{Score, World, number};
use crate::oracle::rows;

/// What everybody knows that an income lies in. Its halves and quarters are the bands of `pay`.
const ALL: (f64, f64) = (20_000.0, 60_000.0);
/// The width of the narrowest band.
const BAND: f64 = 10_000.0;
/// How often an interval is halved: as often as bands have thresholds for, and five times beyond.
const HALVINGS: usize = 7;
/// Every twelfth person is a target of who knows the others.
const EVERY: usize = 12;
/// So many people and one more are told as different numbers.
const BESIDE: usize = 12;

/// A question about one threshold.
struct Question {
    sql: String,
    /// The number that is told if the target is in the count.
    least: f64,
    /// Whether the count is of those below.
    below: bool,
}

/// The interval that is left of a target, and how many questions were refused.
async fn narrowed(client: &Client, ask: impl Fn(f64) -> Question) -> ((f64, f64), usize) {
    let ((mut low, mut high), mut refused) = (ALL, 0);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        let Question { sql, least, below } = ask(middle);
        let answer = match client.query(&sql).await {
            Ok(answer) => answer,
            Err(failure) => {
                assert_eq!(failure.code, Some(Code::Denied), "{sql}: {failure:?}");
                refused += 1;
                continue;
            }
        };
        let row = rows(&answer.batches, 0).into_values().next().unwrap_or_else(|| panic!("{sql}: no row"));
        // What is withheld is less than the minimum, and the target is not in it.
        let counted = number(&row[0].1).is_some_and(|told| told >= least);
        *if counted == below { &mut high } else { &mut low } = middle;
    }
    ((low, high), refused)
}

/// Plays a game by each of the two columns.
async fn by_both(world: &World, game: &str, targets: &[(f64, impl Fn(&str, f64) -> Question)]) -> Vec<Score> {
    let mut scores = Vec::new();
    for (column, most) in [("pay", Some(0)), ("income", None)] {
        let (mut right, mut refused) = (0, 0);
        for (income, ask) in targets {
            let ((low, high), denied) = narrowed(&world.plain, |threshold| ask(column, threshold)).await;
            right += usize::from(high - low < BAND && (low..high).contains(income));
            refused += denied;
        }
        let answered = targets.len() * HALVINGS - refused;
        assert!(answered >= targets.len() * 2, "{game}: comparisons with thresholds of bands are answered: {answered}");
        if most.is_none() {
            assert!(right > targets.len() / 2 && refused == 0, "{game}: the attack finds nothing, {right} of {}", targets.len());
        }
        let note = format!("{answered} questions answered, {refused} refused");
        scores.push(Score { game: format!("{game}, by {column}"), right, of: targets.len(), base: 0, most, note });
    }
    scores
}

/// Knowledge: none. Target: the income of each fifth person, in the order of incomes: rounded to five, the number of people below a
/// threshold steps up where the threshold passes that person's.
pub async fn quantiles(world: &World) -> Vec<Score> {
    let mut ordered: Vec<f64> = people().iter().map(|person| person.income).collect();
    ordered.sort_by(f64::total_cmp);
    let ask = |place: usize| {
        move |column: &str, threshold: f64| Question {
            sql: format!("SELECT count(*) AS n FROM games.returns WHERE {column} < {threshold}"),
            least: (place + 2) as f64,
            below: true,
        }
    };
    let targets: Vec<_> = (13..ordered.len()).step_by(5).map(|place| (ordered[place - 1], ask(place))).collect();
    by_both(world, "quantiles", &targets).await
}

/// Knowledge: everybody's ward, and everybody else's income. Target: one person's: beside twelve people of whom it is known on which side
/// of a threshold they are, the number of those on that side tells whether he is one.
pub async fn beside_known_people(world: &World) -> Vec<Score> {
    let everybody = people();
    let ask = |target: &Person| {
        let (own, everybody) = (target.ward, everybody.clone());
        move |column: &str, threshold: f64| {
            let side = |below: bool| {
                let others = everybody.iter().filter(|other| other.ward != own && (other.income < threshold) == below);
                others.map(|other| other.ward).take(BESIDE).collect::<Vec<_>>()
            };
            let below = side(true).len() == BESIDE;
            let among: Vec<usize> = side(below).into_iter().chain([own]).collect();
            let (wards, comparison) = (listed("ward", "w", &among), if below { "<" } else { ">=" });
            Question {
                sql: format!("SELECT count(*) AS n FROM games.returns WHERE {wards} AND {column} {comparison} {threshold}"),
                least: (BESIDE + 3) as f64,
                below,
            }
        }
    };
    let targets: Vec<_> = everybody.iter().step_by(EVERY).map(|target| (target.income, ask(target))).collect();
    by_both(world, "one person's income beside known people", &targets).await
}
