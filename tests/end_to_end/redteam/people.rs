//! The population of the games. It is generated, deterministic and about nobody: the same on every machine, from a seed in this file.
//!
//! | dataset of `games` | a row is about | used for |
//! |---|---|---|
//! | `returns` | one of 120 people, each alone in his combination of area, band and sector, and in his ward; `income` and `pay` are the same number | differences, reconstruction, ranges |
//! | `clubs` | one of 240 people, ten in each club | reconstruction where nobody is alone |
//! | `payments` | a payment; people may have several | small cells, dominance, equal values |
//! | `tables` | one of the people of 30 cells, a quarter of which are small, in one of three grades | margins, earlier results, HAVING, ORDER BY |
//! | `sides` | one of 61 people, one of whom has values that no cast or sum can hold | errors, timing |
//! | `units` | one of 60 people, half of whom have more units together than 64 bits hold | large sums |
//! | `months` | one of the people of twenty towns, in a month; all have a row for every month | rows that all have alike |
//! | `giants` | one of the people of 24 circles, in each of which one has far more than the others | what one has |
//! | `edges` | one of the nine or ten people of forty groups | the edge of the minimum under noise |
//! | `jobs` | somebody and a firm: a link dataset | people through firms |
//! | `countries` | one of the people of twenty countries of ten regions each, three of them small | many conditions in one statement |
//! | `turns` | a turn of one of 240 people; sixty have an early one and a late one, and five of these one that is both | conditions that one person's rows meet |
//! | `invented` of `stalls` | the people of two offices of `payments`, and forty who do not exist | rows that a department invents |

use std::fmt::Write as _;

/// Numbers that are the same everywhere: splitmix64.
pub struct Draw(pub u64);

impl Draw {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.number() % u64::try_from(end).unwrap()).unwrap()
    }

    pub fn chance(&mut self, share: f64) -> bool {
        (self.number() >> 11) as f64 / ((1u64 << 53) as f64) < share
    }
}

pub const AREAS: usize = 6;
pub const BANDS: usize = 4;
pub const SECTORS: usize = 5;
pub const GRADES: usize = 3;
pub const CLUBS: usize = 24;
pub const OF_A_CLUB: usize = 10;
/// The thresholds of the bands of `pay`.
pub const PAY_BANDS: &[&str] = &["30000", "40000", "50000"];
/// The share of people who owe: what the attackers want to know of each.
const OWING: f64 = 0.3;

/// The values of a code: `a1`, `a2` and so on.
pub fn codes(letter: &str, many: usize) -> Vec<String> {
    (1..=many).map(|number| format!("{letter}{number}")).collect()
}

/// The condition that a code is one of these.
pub fn listed(column: &str, letter: &str, places: &[usize]) -> String {
    let list = places.iter().map(|place| format!("'{letter}{}'", place + 1)).collect::<Vec<_>>();
    format!("{column} IN ({})", list.join(","))
}

/// One of `returns`.
#[derive(Clone)]
pub struct Person {
    pub area: usize,
    pub band: usize,
    pub sector: usize,
    pub ward: usize,
    pub owes: bool,
    pub income: f64,
}

impl Person {
    /// The condition that only this person meets.
    pub fn alone(&self) -> String {
        format!("area = 'a{}' AND band = 'b{}' AND sector = 's{}'", self.area + 1, self.band + 1, self.sector + 1)
    }
}

pub fn people() -> Vec<Person> {
    let mut draw = Draw(2026);
    let person = |place: usize| Person {
        area: place / (BANDS * SECTORS),
        band: place / SECTORS % BANDS,
        sector: place % SECTORS,
        ward: place,
        owes: draw.chance(OWING),
        income: 20_000.0 + draw.below(40_000) as f64 + 0.25,
    };
    (0..AREAS * BANDS * SECTORS).map(person).collect()
}

/// Whether each of the people of `clubs` owes, club by club.
pub fn members() -> Vec<Vec<bool>> {
    let mut draw = Draw(2027);
    (0..CLUBS).map(|_| (0..OF_A_CLUB).map(|_| draw.chance(OWING)).collect()).collect()
}

/// A payment: whose, which office, how much, and whether it was paid.
pub type Payment = (usize, &'static str, f64, bool);

pub const OFFICES: &[&str] =
    &["nobody", "nine", "ten", "eleven", "rows", "crowd", "one giant", "two giants", "opposite", "same", "plenty", "others"];

/// The offices' payments: what each is for says `payments.rs`.
pub fn payments() -> Vec<Payment> {
    let (mut draw, mut person, mut payments) = (Draw(2028), 0, Vec::new());
    let mut office = |office: &'static str, people: usize, giants: &[f64]| {
        for place in 0..people {
            person += 1;
            let amount = giants.get(place).copied().unwrap_or_else(|| 50.0 + draw.below(100) as f64 + 0.5);
            payments.push((person, office, amount, draw.chance(0.5)));
        }
        person
    };
    office("nine", 9, &[]);
    office("ten", 10, &[]);
    office("eleven", 11, &[]);
    let fifty = [office("rows", 4, &[]), office("crowd", 13, &[])];
    office("one giant", 30, &[60_000.5]);
    office("two giants", 30, &[20_000.5, 18_000.5]);
    office("opposite", 30, &[500_000.5, -500_000.5]);
    office("plenty", 200, &[]);
    office("others", 150, &[]);
    let last = office("same", 0, &[]);
    payments.extend((1..=20).map(|more| (last + more, "same", 31_337.5, true)));
    // One person has fifty rows in the office.
    for (person, office) in fifty.into_iter().zip(["rows", "crowd"]) {
        payments.extend((1..50).map(|more| (person, office, 50.5 + f64::from(more), true)));
    }
    payments
}

/// How many units each of thirty people has, a size.
pub const UNITS: &[(&str, i64)] = &[("large", 900_000_000_000_000_000), ("small", 7)];

/// The incomes of the people of a cell of `tables`, by area and sector.
pub fn cells() -> Vec<Vec<Vec<f64>>> {
    let mut draw = Draw(2029);
    let mut cell = |area: usize, sector: usize| {
        let many = if draw.chance(0.25) { 1 + draw.below(9) } else { 12 + draw.below(50) };
        let mut incomes: Vec<f64> = (0..many).map(|_| 20_000.0 + draw.below(40_000) as f64 + 0.25).collect();
        // In some, one makes nearly all of it.
        if area == sector {
            incomes[0] = 30_000_000.25;
        }
        incomes
    };
    (0..AREAS).map(|area| (0..SECTORS).map(|sector| cell(area, sector)).collect()).collect()
}

/// The grade of somebody of `tables`, by the place in the cell.
pub fn grade(place: usize) -> usize {
    [0, 1, 0, 2, 0, 1][place % 6]
}

/// `sides`: reference and amount of each person of each side. One side has one person more, whose values are out of the ordinary.
pub fn sides() -> Vec<(&'static str, String, f64)> {
    let plain = |side: &'static str| (0..30).map(move |place| (side, format!("{}", 100 + place), 7.5 + f64::from(place)));
    plain("eastern").chain([("eastern", "x9".to_owned(), 9e24)]).chain(plain("western")).collect()
}

pub const TOWNS: usize = 20;
pub const MONTHS: usize = 12;
pub const GIANTS: usize = 24;
pub const EDGES: usize = 40;
pub const COUNTRIES: usize = 20;
pub const REGIONS: usize = 10;
/// The first regions of each country have fewer people than the minimum.
pub const SMALL: usize = 3;
/// The people of the largest firm of `jobs`.
pub const OF_ONE_FIRM: usize = 300;
/// The people of `turns` who have one that is early and late.
pub const WHOLE_DAY: usize = 5;
pub const PLACES: &[&str] = &["one firm", "alike", "elsewhere"];

/// How many live in each town of `months`.
pub fn residents() -> Vec<usize> {
    (0..TOWNS).map(|town| 20 + town * 7 % 30).collect()
}

/// What one person has in each circle of `giants`.
pub fn giants() -> Vec<f64> {
    let mut draw = Draw(2030);
    (0..GIANTS).map(|_| 12_000.5 + draw.below(8_000) as f64).collect()
}

/// How many live in each region of each country.
pub fn regions() -> Vec<Vec<usize>> {
    let mut draw = Draw(2032);
    let mut region = |place: usize| if place < SMALL { 1 + draw.below(9) } else { 12 + draw.below(70) };
    (0..COUNTRIES).map(|_| (0..REGIONS).map(&mut region).collect()).collect()
}

/// How many people a group of `edges` has.
pub fn edge(place: usize) -> usize {
    9 + place % 2
}

/// The datasets' files: name and content.
pub fn files() -> Vec<(&'static str, String)> {
    vec![
        ("returns", returns_file()),
        ("clubs", clubs_file()),
        ("payments", payments_file()),
        ("tables", tables_file()),
        ("sides", sides_file()),
        ("units", units_file()),
        ("months", months_file()),
        ("giants", giants_file()),
        ("edges", edges_file()),
        ("jobs", jobs_file()),
        ("countries", countries_file()),
        ("turns", turns_file()),
    ]
}

/// The number of somebody of `payments`.
pub fn payer(person: usize) -> String {
    nino(2_000 + person)
}

/// The file of the department that lifts others' cells: the people of an office of nine and of one of two hundred, and forty whom it
/// says are of the former and who are nobody.
pub fn invented_file() -> String {
    let real = payments().into_iter().filter(|(_, office, ..)| ["nine", "plenty"].contains(office));
    let real = real.map(|(person, office, ..)| (payer(person), office));
    let all = real.chain((0..40).map(|more| (nino(20_000 + more), "nine")));
    all.fold("nino,office\n".to_owned(), |mut file, (number, office)| {
        writeln!(file, "{number},{office}").unwrap();
        file
    })
}

/// A National Insurance number of valid form, made by counting.
fn nino(number: usize) -> String {
    format!("AB{number:06}A")
}

fn returns_file() -> String {
    people().iter().fold("nino,area,band,sector,ward,owes,income,pay\n".to_owned(), |mut file, p| {
        let (number, ward) = (nino(p.ward), p.ward + 1);
        let (place, pay) = (format!("a{},b{},s{},w{ward}", p.area + 1, p.band + 1, p.sector + 1), format!("{:.2}", p.income));
        writeln!(file, "{number},{place},{},{pay},{pay}", p.owes).unwrap();
        file
    })
}

fn clubs_file() -> String {
    let mut file = "nino,club,owes\n".to_owned();
    for (club, members) in members().iter().enumerate() {
        for (place, owes) in members.iter().enumerate() {
            writeln!(file, "{},c{},{owes}", nino(1_000 + club * OF_A_CLUB + place), club + 1).unwrap();
        }
    }
    file
}

fn payments_file() -> String {
    payments().iter().fold("nino,office,amount,paid\n".to_owned(), |mut file, (person, office, amount, paid)| {
        writeln!(file, "{},{office},{amount:.2},{paid}", payer(*person)).unwrap();
        file
    })
}

fn tables_file() -> String {
    let (mut file, mut number) = ("nino,area,sector,grade,income\n".to_owned(), 5_000);
    for (area, sectors) in cells().iter().enumerate() {
        for (sector, incomes) in sectors.iter().enumerate() {
            for (place, income) in incomes.iter().enumerate() {
                number += 1;
                writeln!(file, "{},a{},s{},g{},{income:.2}", nino(number), area + 1, sector + 1, grade(place) + 1).unwrap();
            }
        }
    }
    file
}

fn sides_file() -> String {
    sides().iter().zip(9_000..).fold("nino,side,reference,amount\n".to_owned(), |mut file, ((side, reference, amount), number)| {
        writeln!(file, "{},{side},{reference},{amount:.2}", nino(number)).unwrap();
        file
    })
}

fn months_file() -> String {
    let (mut file, mut number) = ("nino,town,month\n".to_owned(), 30_000);
    for (town, people) in residents().into_iter().enumerate() {
        for _ in 0..people {
            number += 1;
            (1..=MONTHS).for_each(|month| writeln!(file, "{},t{},m{month}", nino(number), town + 1).unwrap());
        }
    }
    file
}

fn giants_file() -> String {
    let (mut file, mut draw, mut number) = ("nino,circle,amount\n".to_owned(), Draw(2031), 32_000);
    for (circle, giant) in giants().into_iter().enumerate() {
        let amounts: Vec<f64> = (0..40).map(|_| 90.5 + draw.below(21) as f64).chain([giant]).collect();
        for amount in amounts {
            number += 1;
            writeln!(file, "{},g{},{amount:.2}", nino(number), circle + 1).unwrap();
        }
    }
    file
}

fn edges_file() -> String {
    let people = (0..EDGES).flat_map(|place| (0..edge(place)).map(move |_| place));
    people.zip(34_000..).fold("nino,edge\n".to_owned(), |mut file, (place, number)| {
        writeln!(file, "{},e{}", nino(number), place + 1).unwrap();
        file
    })
}

fn jobs_file() -> String {
    let sizes = std::iter::once(OF_ONE_FIRM).chain([1; 9]).zip(std::iter::repeat("one firm"));
    let alike = std::iter::repeat_n((25, "alike"), 12);
    let firms = sizes.chain(alike).zip(100..);
    let people = firms.flat_map(|((people, place), firm)| std::iter::repeat_n((place, firm), people));
    let strangers = people.zip(35_000..).map(|((place, firm), number)| (nino(number), place, firm));
    // Thirty of an office, for three firms.
    let office = payments().into_iter().filter(|(_, office, ..)| *office == "others").take(30);
    let payers = office.zip((200..203).cycle()).map(|((person, ..), firm)| (payer(person), "elsewhere", firm));
    strangers.chain(payers).fold("nino,company_number,place\n".to_owned(), |mut file, (number, place, firm)| {
        writeln!(file, "{number},{firm:08},{place}").unwrap();
        file
    })
}

fn countries_file() -> String {
    let (mut file, mut number) = ("nino,country,region\n".to_owned(), 40_000);
    for (country, regions) in regions().into_iter().enumerate() {
        for (region, people) in regions.into_iter().enumerate() {
            for _ in 0..people {
                number += 1;
                writeln!(file, "{},k{},r{}", nino(number), country + 1, region + 1).unwrap();
            }
        }
    }
    file
}

fn turns_file() -> String {
    let (early, late, both, neither) = ("true,false,4", "false,true,4", "true,true,8", "false,false,");
    let two = (0..60).map(|place| if place < WHOLE_DAY { vec![early, late, both] } else { vec![early, late] });
    let one = [early, late, neither].into_iter().flat_map(|turn| std::iter::repeat_n(vec![turn], 60));
    two.chain(one).zip(45_000..).fold("nino,early,late,hours\n".to_owned(), |mut file, (turns, number)| {
        turns.into_iter().for_each(|turn| writeln!(file, "{},{turn}", nino(number)).unwrap());
        file
    })
}

fn units_file() -> String {
    let people = UNITS.iter().flat_map(|one| (0..30).map(move |place| (one, place)));
    people.zip(9_500..).fold("nino,size,units\n".to_owned(), |mut file, (((size, units), place), number)| {
        writeln!(file, "{},{size},{}", nino(number), units + place).unwrap();
        file
    })
}
