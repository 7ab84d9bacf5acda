//! Games about two answers that differ by one person.
//!
//! Population of all: the 120 people of `returns`, each alone in his combination of area, band and sector; about three in ten owe.
//! Knowledge of all: everybody's area, band and sector, and the share who owe.
//! Target of all: whether a person owes. Score: people rightly guessed, beside guessing that nobody owes.

use concordat::client::Client;

use super::people::{AREAS, Draw, Person, SECTORS, listed, people};
use super::world::{Score, World, all_told};

/// Every second person is a target.
const EVERY: usize = 2;
/// Of those who owe, rounding to five shows one in five: with his background he stands at the edge of a step. So many of 60 targets,
/// of whom about 18 owe, with three standard deviations of chance.
const LET_THROUGH: usize = 9;
/// People on whom the adaptive attacker spends twenty questions each.
const CHOSEN: usize = 8;

/// A person, and some others whom he is asked about together with: his background.
struct Target {
    person: Person,
    /// Areas and sectors, his among them.
    areas: Vec<usize>,
    sectors: Vec<usize>,
    /// Other areas.
    elsewhere: Vec<usize>,
}

impl Target {
    fn of(person: Person, draw: &mut Draw) -> Self {
        let mut own = |many: usize, own: usize, share: f64| (0..many).filter(|place| *place == own || draw.chance(share)).collect();
        let (areas, sectors) = (own(AREAS, person.area, 0.6), own(SECTORS, person.sector, 0.7));
        let elsewhere: Vec<usize> = own(AREAS, (person.area + 1) % AREAS, 0.5);
        Self { elsewhere: elsewhere.into_iter().filter(|area| *area != person.area).collect(), person, areas, sectors }
    }

    fn among(&self) -> String {
        format!("{} AND {}", listed("area", "a", &self.areas), listed("sector", "s", &self.sectors))
    }

    fn elsewhere(&self) -> String {
        listed("area", "a", &self.elsewhere)
    }
}

fn targets() -> Vec<Target> {
    let mut draw = Draw(6);
    people().into_iter().step_by(EVERY).map(|person| Target::of(person, &mut draw)).collect()
}

fn count(condition: &str) -> String {
    format!("SELECT count(*) AS n FROM games.returns WHERE owes AND {condition}")
}

/// The score of guesses; who was not guessed to owe is guessed not to.
fn scored(game: &str, targets: &[Target], owes: &[bool], most: Option<usize>, answered: usize) -> Score {
    let right = targets.iter().zip(owes).filter(|(target, owes)| target.person.owes == **owes).count();
    let base = targets.iter().filter(|target| !target.person.owes).count();
    let sure = targets.iter().zip(owes).filter(|(target, owes)| target.person.owes && **owes).count();
    let note = format!("{answered} pairs of answers, {sure} of those who owe found");
    Score { game: game.into(), right, of: targets.len(), base, most, note }
}

/// Guesses by pairs of answers, with and without the target: he owes where the first is larger.
fn larger(pairs: &[Vec<Option<f64>>]) -> (Vec<bool>, usize) {
    let larger = |pair: &Vec<Option<f64>>| matches!(pair[..], [Some(with), Some(without)] if with > without);
    let answered = pairs.iter().filter(|pair| pair.iter().all(Option::is_some)).count();
    assert!(answered > 0, "no pair was answered");
    (pairs.iter().map(larger).collect(), answered)
}

/// Asks one half of each pair of one analyst, the other half of another.
async fn pairs(first: &Client, second: &Client, statements: Vec<[String; 2]>) -> Vec<Vec<Option<f64>>> {
    let (with, without): (Vec<_>, Vec<_>) = statements.into_iter().map(|[with, without]| (with, without)).unzip();
    let (with, without) = (all_told(first, with).await, all_told(second, without).await);
    with.into_iter().zip(without).map(|(with, without)| vec![with[0], without[0]]).collect()
}

/// Two statements, of which the second leaves the target out.
fn with_and_without(target: &Target) -> [String; 2] {
    [count(&target.among()), count(&format!("{} AND NOT ({})", target.among(), target.person.alone()))]
}

/// Score: as above, where WHERE leaves the person out of the second statement.
pub async fn by_one(world: &World) -> Score {
    let targets = targets();
    let told = pairs(&world.plain, &world.plain, targets.iter().map(with_and_without).collect()).await;
    let (owes, answered) = larger(&told);
    scored("differencing by one", &targets, &owes, Some(LET_THROUGH), answered)
}

/// Score: as above, both counts in one statement; there they tell of each other, and the second is withheld.
pub async fn in_one_statement(world: &World) -> Score {
    let targets = targets();
    let statement = |target: &Target| {
        let filter = |condition: &str| format!("count(*) FILTER (WHERE owes AND {}{condition})", target.among());
        format!("SELECT {} AS a, {} AS b FROM games.returns", filter(""), filter(&format!(" AND NOT ({})", target.person.alone())))
    };
    let told = all_told(&world.plain, targets.iter().map(statement).collect()).await;
    assert!(told.iter().any(|pair| pair[0].is_some()), "the first is told");
    // Of who owes not both are the same.
    let pairs = targets.iter().zip(&told).filter(|(target, pair)| target.person.owes && pair.iter().all(Option::is_some)).count();
    Score::none("differencing by one, in one statement", pairs, targets.len(), "pairs that differ by somebody who owes".into())
}

/// Knowledge: beside the above, two analysts tell each other what they were told.
/// Score: as above, one asking with the target and the other without.
pub async fn by_two_analysts(world: &World) -> Score {
    let targets = targets();
    let told = pairs(&world.plain, &world.second, targets.iter().map(with_and_without).collect()).await;
    let (owes, answered) = larger(&told);
    scored("two analysts", &targets, &owes, Some(LET_THROUGH), answered)
}

/// Two analysts who ask the same hope for two different noises. Score: questions to which they are told different numbers.
pub async fn two_noises(world: &World) -> Score {
    let asked: Vec<String> = targets().iter().step_by(6).map(|target| count(&target.among())).collect();
    let (first, second) = (all_told(&world.noise, asked.clone()).await, all_told(&world.second_noise, asked).await);
    let different = first.iter().zip(&second).filter(|(first, second)| first != second).count();
    Score::none("two analysts, two noises", different, first.len(), "the same contributors, the same noise".into())
}

/// The individual tracker of Denning, Denning and Schwartz (1979). C: the target; T: some of the areas, without his.
/// count(C or T) + count(C or not T) - count(all) would be count(C), which nobody may ask.
/// Score: as above; he is guessed to owe where adding him to T or to the rest shows.
pub async fn tracker(world: &World) -> Score {
    let targets = targets();
    let with = |target: &Target| {
        let (c, t) = (target.person.alone(), target.elsewhere());
        [count(&format!("(({c}) OR {t})")), count(&format!("(({c}) OR NOT ({t}))"))]
    };
    let without = |target: &Target| [count(&target.elsewhere()), count(&format!("NOT ({})", target.elsewhere()))];
    let with = all_told(&world.plain, targets.iter().flat_map(with).collect()).await;
    let without = all_told(&world.plain, targets.iter().flat_map(without).collect()).await;
    let sum = |told: &[Vec<Option<f64>>]| Some(told[0][0]? + told[1][0]?);
    let told: Vec<Vec<Option<f64>>> = with.chunks(2).zip(without.chunks(2)).map(|(with, without)| vec![sum(with), sum(without)]).collect();
    let (owes, answered) = larger(&told);
    scored("tracker", &targets, &owes, Some(LET_THROUGH), answered)
}

/// Score: as above, where the attacker asks with ten backgrounds and averages: one of them stands at the edge of a step. Without
/// noise that finds nearly everybody who owes. What stops it is a ledger of what was asked before; quotas bound it.
pub async fn with_many_backgrounds(world: &World) -> Score {
    adaptive("differencing by one, ten backgrounds", &world.plain).await
}

/// The same under noise, of which each background has its own.
pub async fn with_many_backgrounds_and_noise(world: &World) -> Score {
    adaptive("differencing by one, ten backgrounds, with noise", &world.noise).await
}

async fn adaptive(game: &str, client: &Client) -> Score {
    let everybody = people();
    let mut draw = Draw(7);
    let chosen = everybody.iter().step_by(everybody.len() / CHOSEN).take(CHOSEN).cloned();
    let targets: Vec<Target> = chosen.map(|person| Target::of(person, &mut draw)).collect();
    // Each by a statement of its own: in one, those that differ by one person are withheld.
    let backgrounds = |target: &Target| {
        let own = target.person.area;
        let pairs = (1..AREAS).flat_map(move |one| (one + 1..AREAS).map(move |other| [0, one, other]));
        let alone = target.person.alone();
        pairs.flat_map(move |others| {
            let among = listed("area", "a", &others.map(|other| (own + other) % AREAS));
            let filter = |condition: &str| format!("SELECT count(*) FILTER (WHERE owes AND {among}{condition}) AS n FROM games.returns");
            [filter(""), filter(&format!(" AND NOT ({alone})"))]
        })
    };
    let told = all_told(client, targets.iter().flat_map(backgrounds).collect()).await;
    let told: Vec<Vec<Option<f64>>> = told.chunks(told.len() / targets.len()).map(<[_]>::concat).collect();
    let mean = |row: &Vec<Option<f64>>| {
        let differences: Vec<f64> = row.chunks(2).filter_map(|pair| Some(pair[0]? - pair[1]?)).collect();
        (differences.iter().sum::<f64>() / differences.len().max(1) as f64, differences.len())
    };
    // Each difference is 0 or 5, one on average where he owes.
    let means: Vec<(f64, usize)> = told.iter().map(mean).collect();
    let owes: Vec<bool> = means.iter().map(|(mean, _)| *mean >= 0.5).collect();
    scored(game, &targets, &owes, None, means.iter().map(|(_, answered)| answered).sum())
}
