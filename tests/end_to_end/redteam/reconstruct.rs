//! Games about reconstruction: many answers, each harmless, from which linear programming works out who owes (Dinur and Nissim, 2003).
//!
//! Knowledge of all: everybody's area, band, sector, ward or club, and the rules. Target: whether each person owes.
//! Score: people rightly guessed, beside guessing that nobody owes. An answer is a count of those who owe of a chosen set of people;
//! a withheld one is no answer.

use concordat::client::Client;

use super::linear::Known;
use super::people::{AREAS, BANDS, Draw, OF_A_CLUB, REGIONS, SECTORS, SMALL, listed, members, people, regions};
use super::world::{Score, World, all_told};

/// Answers asked for in each game, each by a statement of its own: beside each other they would withhold some.
const ANSWERS: usize = 500;
/// Conditions that one statement may have.
const AT_ONCE: usize = 8;
/// How many people more than by guessing may be found: of 240 in clubs of ten, where a club's share is what is told, and of 120 who
/// are alone, by conditions that analysts write.
const OF_CLUBS: usize = 12;
const OF_RETURNS: usize = 12;
/// How many of sixty small regions more than by guessing may be found.
const OF_SMALL_REGIONS: usize = 12;
/// The base of rounding.
const BASE: f64 = 5.0;

/// A set of people: the condition that selects it, and the places of the unknowns in it.
type Chosen = (String, Vec<usize>);

/// Population: the 240 people of `clubs`, ten in each club. The sets are any unions of clubs.
/// What can be learnt is how many of a club owe, not who.
pub async fn of_clubs(world: &World) -> Score {
    let exact = members();
    let mut draw = Draw(3);
    let sets = std::iter::repeat_with(|| union("club", "c", exact.len(), &mut draw)).take(ANSWERS).collect();
    let (guessed, answered) = attack(&world.plain, "clubs", sets, vec![OF_A_CLUB as f64; exact.len()]).await;
    let half = OF_A_CLUB as f64 / 2.0;
    let right: usize = exact.iter().zip(&guessed).map(|(club, guess)| club.iter().filter(|owes| **owes == (*guess >= half)).count()).sum();
    let all: Vec<bool> = exact.concat();
    score("reconstruction, nobody alone", right, &all, Some(OF_CLUBS), answered)
}

/// Population: the people of `countries`; in three of ten regions of each are fewer than the minimum. Knowledge: which these are, and how many
/// are in each region and in all, as that is told. Target: how many are in each of the three. One statement about each country counts as
/// many random halves of its regions as it may.
/// Score: regions of which the middle of what is possible is within a tenth of their number, beside guessing that it is five.
pub async fn of_small_regions(world: &World) -> Score {
    small_regions(world, "small regions, one statement", 1, Some(OF_SMALL_REGIONS)).await
}

/// The same by six statements. No rule about single answers stops it.
pub async fn of_small_regions_again(world: &World) -> Score {
    small_regions(world, "small regions, six statements", 6, None).await
}

async fn small_regions(world: &World, game: &str, statements: usize, most: Option<usize>) -> Score {
    let (mut draw, mut score) = (Draw(8), Score { game: game.into(), right: 0, of: 0, base: 0, most, note: String::new() });
    let (mut answered, mut asked) = (0, 0);
    for (country, regions) in regions().into_iter().enumerate() {
        let from = format!("FROM games.countries WHERE country = 'k{}'", country + 1);
        let each = (0..REGIONS).map(|region| (listed("region", "r", &[region]), vec![region]));
        let all: Vec<usize> = (0..REGIONS).collect();
        let table = each.chain([(listed("region", "r", &all), all)]).map(|set| vec![set]);
        let halves = std::iter::repeat_with(|| std::iter::repeat_with(|| union("region", "r", REGIONS, &mut draw)).take(AT_ONCE).collect());
        let sets: Vec<Vec<Chosen>> = table.chain(halves.take(statements)).collect();
        let statement = |sets: &Vec<Chosen>| match sets.as_slice() {
            [(set, _)] => format!("SELECT count(*) AS n {from} AND {set}"),
            several => {
                let columns = several.iter().enumerate().map(|(place, (set, _))| format!("count(*) FILTER (WHERE {set}) AS n{place}"));
                format!("SELECT {} {from}", columns.collect::<Vec<_>>().join(", "))
            }
        };
        let told = all_told(&world.plain, sets.iter().map(statement).collect()).await;
        let mut known = Known::new((0..REGIONS).map(|region| if region < SMALL { 9.0 } else { f64::INFINITY }).collect());
        for (place, ((_, of), value)) in sets.into_iter().flatten().zip(told.into_iter().flatten()).enumerate() {
            // Of whole numbers two below and two above are rounded to it.
            value.into_iter().for_each(|value| known.told(of.clone(), value, BASE - 1.0));
            asked += usize::from(place > REGIONS);
            answered += usize::from(place > REGIONS && value.is_some());
        }
        for (region, people) in regions.into_iter().enumerate().take(SMALL) {
            let (least, most) = known.bounds(region).expect("a program that can always be solved");
            score.of += 1;
            score.base += usize::from(people == 5);
            score.right += usize::from((((least + most) / 2.0).round() - people as f64).abs() <= people as f64 / 10.0);
        }
    }
    assert!(answered > 0, "nothing was answered");
    Score { note: format!("{answered} of {asked} answered"), ..score }
}

/// Population: the 120 people of `returns`, each alone. The sets are what lists of areas, bands and sectors select together.
pub async fn by_lists(world: &World) -> Score {
    let mut draw = Draw(4);
    let sets = std::iter::repeat_with(|| product(&mut draw)).take(ANSWERS).collect();
    people_found(&world.plain, "reconstruction, lists of codes", sets, Some(OF_RETURNS)).await
}

/// The same, where the sets are any unions of wards, of which each has one person: what a code with nearly as many values as there are
/// people lets through. No rule about single answers stops it: what does is a ledger of what was asked before; quotas bound it.
pub async fn by_wards(world: &World) -> Score {
    people_found(&world.plain, "reconstruction, a code for each person", wards(), None).await
}

/// The same with noise.
pub async fn by_wards_with_noise(world: &World) -> Score {
    people_found(&world.noise, "reconstruction, a code for each person, with noise", wards(), None).await
}

fn wards() -> Vec<Chosen> {
    let mut draw = Draw(5);
    std::iter::repeat_with(|| union("ward", "w", people().len(), &mut draw)).take(ANSWERS).collect()
}

/// Any half of the values of a code.
fn union(column: &str, letter: &str, many: usize, draw: &mut Draw) -> Chosen {
    let chosen = some(many, 0.5, draw);
    (listed(column, letter, &chosen), chosen)
}

/// Some areas, some bands and some sectors, and whoever is in all three.
fn product(draw: &mut Draw) -> Chosen {
    let [areas, bands, sectors] = [AREAS, BANDS, SECTORS].map(|many| some(many, 0.7, draw));
    let lists = [listed("area", "a", &areas), listed("band", "b", &bands), listed("sector", "s", &sectors)];
    let inside = |place: &usize| {
        areas.contains(&(place / (BANDS * SECTORS))) && bands.contains(&(place / SECTORS % BANDS)) && sectors.contains(&(place % SECTORS))
    };
    (lists.join(" AND "), (0..AREAS * BANDS * SECTORS).filter(inside).collect())
}

/// At least one of `0..many`.
fn some(many: usize, share: f64, draw: &mut Draw) -> Vec<usize> {
    let chosen: Vec<usize> = (0..many).filter(|_| draw.chance(share)).collect();
    if chosen.is_empty() { vec![draw.below(many)] } else { chosen }
}

async fn people_found(client: &Client, game: &str, sets: Vec<Chosen>, most: Option<usize>) -> Score {
    let owes: Vec<bool> = people().iter().map(|person| person.owes).collect();
    let (guessed, answered) = attack(client, "returns", sets, vec![1.0; owes.len()]).await;
    let right = owes.iter().zip(&guessed).filter(|(owes, guess)| **owes == (**guess >= 0.5)).count();
    score(game, right, &owes, most, answered)
}

/// Asks for every set, and finds the numbers that contradict the answers least.
async fn attack(client: &Client, dataset: &str, sets: Vec<Chosen>, most: Vec<f64>) -> (Vec<f64>, usize) {
    let statement = |(set, _): &Chosen| format!("SELECT count(*) FILTER (WHERE owes AND {set}) AS n FROM games.{dataset}");
    let told = all_told(client, sets.iter().map(statement).collect()).await;
    let mut known = Known::new(most);
    let mut answered = 0;
    for ((_, of), value) in sets.into_iter().zip(told.into_iter().flatten()) {
        if let Some(value) = value {
            known.told(of, value, BASE);
            answered += 1;
        }
    }
    assert!(answered > 0, "nothing was answered");
    let (guessed, _) = known.best().expect("a program that can always be solved");
    (guessed, answered)
}

fn score(game: &str, right: usize, owes: &[bool], most: Option<usize>, answered: usize) -> Score {
    let base = owes.iter().filter(|owes| !**owes).count();
    Score { game: game.into(), right, of: owes.len(), base, most, note: format!("{answered} of {ANSWERS} answered") }
}
