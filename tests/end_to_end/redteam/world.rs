//! Where the games are played: the sample's federation, a department `games` that holds the population, and an analyst who may use it
//! as an honest one would.

use std::fmt;

use concordat::client::{Answer, Client};
use concordat::federation::Federation;
use concordat::federation::describe::{AgreedDataset, Agreement, Column, Dataset, Department, Format, Identifier, Linked, Purpose};
use concordat_policy::{Basis, Classification, ColumnType, Disclosure, Use};
use futures::StreamExt as _;
use serde_json::json;

use super::people::{
    AREAS, BANDS, CLUBS, COUNTRIES, EDGES, GIANTS, GRADES, MONTHS, OFFICES, PAY_BANDS, PLACES, REGIONS, SECTORS, TOWNS, UNITS, codes,
    files, invented_file,
};
use super::rules::{exact, noise, plain, strict, under};
use crate::oracle::{Cell, rows};
use crate::sandbox::Sandbox;

/// The department that holds the population.
pub const GAMES: &str = "games";
/// One that lifts others' cells with rows that it invents.
pub const STALLS: &str = "stalls";
/// Questions asked at a time.
const AT_A_TIME: usize = 4;
/// People of the sample, for whom utility is measured.
const SAMPLE: u64 = 20_000;

/// What the attackers have.
pub struct World {
    pub sandbox: Sandbox,
    /// The default rules.
    pub plain: Client,
    /// Another analyst under the same rules.
    pub second: Client,
    /// With noise.
    pub noise: Client,
    pub second_noise: Client,
    /// With groups of one value withheld.
    pub strict: Client,
    /// Without rounding.
    pub exact: Client,
}

impl World {
    pub async fn start() -> Self {
        let sandbox = Sandbox::with(SAMPLE, describe, |layout| {
            let of_games = files().into_iter().map(|(name, content)| (GAMES, name, content));
            for (department, name, content) in of_games.chain([(STALLS, "invented", invented_file())]) {
                let folder = layout.node(department).join("data");
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(folder.join(format!("{name}.csv")), content).unwrap();
            }
            // However fast this machine is: what is played is not who asks too often.
            let gateway = layout.gateway().join("gateway.toml");
            let limits = "\n[limits.agreement]\nrequests_per_minute = 600000\n";
            std::fs::write(&gateway, std::fs::read_to_string(&gateway).unwrap() + limits).unwrap();
        })
        .await;
        let (plain, second) = (client(&sandbox, "analyst-1", "games.plain").await, client(&sandbox, "analyst-2", "games.plain").await);
        let (noise, second_noise) =
            (client(&sandbox, "analyst-1", "games.noise").await, client(&sandbox, "analyst-2", "games.noise").await);
        let strict = client(&sandbox, "analyst-1", "games.strict").await;
        let exact = client(&sandbox, "analyst-1", "games.exact").await;
        Self { sandbox, plain, second, noise, second_noise, strict, exact }
    }
}

async fn client(sandbox: &Sandbox, subject: &str, purpose: &str) -> Client {
    // The games take longer than a token usually lives: as long as the gateway lets one.
    let token = sandbox.token_with(|claims| {
        let iat = claims["iat"].as_i64().unwrap();
        (claims["sub"], claims["exp"]) = (json!(subject), json!(iat + 3600));
    });
    sandbox.client_with(|c| (c.token, c.purpose) = (Some(token), Some(purpose.to_owned()))).await
}

/// The answer to a statement that must be answered: a game without answers proves nothing.
pub async fn answer(client: &Client, sql: &str) -> Answer {
    client.query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"))
}

/// Of an answer of one row: its numbers, `None` where they are withheld.
pub async fn told(client: &Client, sql: &str) -> Vec<Option<f64>> {
    let rows = rows(&answer(client, sql).await.batches, 0);
    let row = rows.into_values().next().unwrap_or_else(|| panic!("{sql}: no row"));
    row.iter().filter(|(name, _)| name != "withheld").map(|(_, cell)| number(cell)).collect()
}

/// The same of many statements, in their order.
pub async fn all_told(client: &Client, statements: Vec<String>) -> Vec<Vec<Option<f64>>> {
    let ask = |sql: String| {
        let client = client.clone();
        async move { told(&client, &sql).await }
    };
    futures::stream::iter(statements).map(ask).buffered(AT_A_TIME).collect().await
}

/// The number of a cell.
pub fn number(cell: &Cell) -> Option<f64> {
    match cell {
        Cell::Number(number) => Some(*number),
        Cell::Null => None,
        Cell::Text(text) => panic!("a number, not '{text}'"),
    }
}

/// How a game ended.
pub struct Score {
    pub game: String,
    /// How many targets the attacker got right, and of how many.
    pub right: usize,
    pub of: usize,
    /// How many he would have got right without asking.
    pub base: usize,
    /// How many more than those the rules let through; `None` where they are known not to stop the attack.
    pub most: Option<usize>,
    /// What else is to be known of it: the answers that were given, and what an honest analyst kept.
    pub note: String,
}

impl Score {
    /// Of an attack in which there is nothing to guess: no target may be met.
    pub fn none(game: &str, right: usize, of: usize, note: String) -> Self {
        Self { game: game.into(), right, of, base: 0, most: Some(0), note }
    }

    /// Whether the attacker got more than the rules are to let through.
    pub fn lost(&self) -> bool {
        self.most.is_some_and(|most| self.right > self.base + most)
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { game, right, of, base, most, note } = self;
        write!(f, "{game}: {right} of {of} right, {base} without asking")?;
        match most {
            Some(most) => write!(f, ", at most {most} more let through")?,
            None => write!(f, ", OPEN: not stopped by these rules alone")?,
        }
        write!(f, "; {note}{}", if self.lost() { " <<< LOST" } else { "" })
    }
}

/// The sample's federation under the default rules, with the games' department and agreements.
fn describe(federation: &mut Federation) {
    federation.agreements.iter_mut().for_each(|agreement| under(agreement, plain()));
    federation.limits.caller_requests_per_minute = Some(100_000);
    let department = |id: &str, title: &str, datasets: Vec<Dataset>| Department {
        id: id.into(),
        title: format!("Department of {title} (generated: about nobody)"),
        datasets,
        consent: None,
        contact: None,
        release_memory_mib: None,
    };
    let (of_games, of_stalls) = datasets().into_iter().partition(|dataset| dataset.name != "invented");
    let departments = [department(GAMES, "Games", of_games), department(STALLS, "Stalls", of_stalls)];
    let purpose = |id: &str, parent: Option<&str>| Purpose {
        id: id.into(),
        title: format!("Games: {id}"),
        parent: parent.map(str::to_owned),
        retired: false,
    };
    let like = federation.agreements[0].clone();
    federation.purposes.push(purpose(GAMES, None));
    for (name, rules) in [("plain", plain()), ("noise", noise()), ("strict", strict()), ("exact", exact())] {
        federation.purposes.push(purpose(&format!("{GAMES}.{name}"), Some(GAMES)));
        federation.agreements.push(agreement(&like, name, rules, &departments));
    }
    federation.departments.extend(departments);
}

/// An agreement like `like`, about all datasets of the departments.
fn agreement(like: &Agreement, name: &str, rules: Disclosure, departments: &[Department]) -> Agreement {
    let agreed = |department: &Department, dataset: &Dataset| AgreedDataset {
        department: department.id.clone(),
        dataset: dataset.name.clone(),
        basis: Basis::Statutory { power: "the rules of the game".into(), honours_objections: true },
        subject_uses: vec![Use::Join, Use::Aggregate, Use::GroupBy],
        linked_uses: if dataset.linked.is_some() { vec![Use::Join, Use::Aggregate] } else { Vec::new() },
        columns: dataset.columns.iter().map(|column| (column.name.clone(), uses(column))).collect(),
    };
    let mut agreement = Agreement {
        id: format!("{GAMES}-{name}"),
        title: format!("Games: {name}"),
        purposes: vec![format!("{GAMES}.{name}")],
        keyholder: GAMES.into(),
        datasets: departments.iter().flat_map(|of| of.datasets.iter().map(move |dataset| agreed(of, dataset))).collect(),
        ..like.clone()
    };
    under(&mut agreement, rules);
    agreement
}

/// Codes may be grouped by, everything may decide who counts.
fn uses(column: &Column) -> Vec<Use> {
    if column.values.is_some() { vec![Use::GroupBy, Use::Filter] } else { vec![Use::Aggregate, Use::Filter] }
}

fn datasets() -> Vec<Dataset> {
    let column = |name: &str, kind: ColumnType, values: Option<Vec<String>>| Column {
        name: name.into(),
        kind,
        classification: Classification::Personal,
        title: None,
        values,
        bands: None,
        source: None,
    };
    let code = |name: &str, values: Vec<String>| column(name, ColumnType::Text, Some(values));
    let dataset = |name: &str, columns: Vec<Column>| Dataset {
        name: name.into(),
        title: format!("Games: {name} (generated: about nobody)"),
        source: format!("data/{name}.csv"),
        format: Format::Csv,
        identifier_column: "nino".into(),
        identifier: Identifier::of("nino"),
        linked: None,
        columns,
    };
    let (areas, sectors) = (code("area", codes("a", AREAS)), code("sector", codes("s", SECTORS)));
    let owes = column("owes", ColumnType::Boolean, None);
    let income = column("income", ColumnType::Number, None);
    let bands = PAY_BANDS.iter().map(|threshold| (*threshold).to_owned()).collect();
    let pay = Column { bands: Some(bands), ..column("pay", ColumnType::Number, None) };
    let offices: Vec<String> = OFFICES.iter().map(|office| (*office).to_owned()).collect();
    let (bands, wards) = (code("band", codes("b", BANDS)), code("ward", codes("w", AREAS * BANDS * SECTORS)));
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let firms = Linked { column: "company_number".into(), identifier: Identifier::of("company_number") };
    vec![
        dataset("months", vec![code("town", codes("t", TOWNS)), code("month", codes("m", MONTHS))]),
        dataset("giants", vec![code("circle", codes("g", GIANTS)), column("amount", ColumnType::Number, None)]),
        dataset("edges", vec![code("edge", codes("e", EDGES))]),
        dataset("countries", vec![code("country", codes("k", COUNTRIES)), code("region", codes("r", REGIONS))]),
        dataset(
            "turns",
            vec![
                column("early", ColumnType::Boolean, None),
                column("late", ColumnType::Boolean, None),
                column("hours", ColumnType::Integer, None),
            ],
        ),
        Dataset { linked: Some(firms), ..dataset("jobs", vec![code("place", named(PLACES))]) },
        dataset("returns", vec![areas.clone(), bands, sectors.clone(), wards, owes.clone(), income.clone(), pay]),
        dataset("clubs", vec![code("club", codes("c", CLUBS)), owes]),
        dataset("invented", vec![code("office", offices.clone())]),
        dataset(
            "payments",
            vec![code("office", offices), column("amount", ColumnType::Number, None), column("paid", ColumnType::Boolean, None)],
        ),
        dataset("tables", vec![areas, sectors, code("grade", codes("g", GRADES)), income]),
        dataset(
            "sides",
            vec![
                code("side", vec!["eastern".into(), "western".into()]),
                column("reference", ColumnType::Text, None),
                column("amount", ColumnType::Number, None),
            ],
        ),
        dataset(
            "units",
            vec![code("size", UNITS.iter().map(|(size, _)| (*size).to_owned()).collect()), column("units", ColumnType::Integer, None)],
        ),
    ]
}
