//! What safety costs: the sample missions' views under the default rules, beside exact answers of the oracle.

use std::fmt::Write as _;

use super::world::{World, number};
use crate::oracle::{Cell, Oracle, rows};

/// The least share of values, and of the people or firms in the rows, that are told.
const VALUES_KEPT: f64 = 0.7;
const SUBJECTS_KEPT: f64 = 0.7;
/// The largest mean absolute error: of counts, in subjects; of means and shares, in parts of the exact one.
const COUNTS_OFF: f64 = 2.5;
const MEANS_OFF: f64 = 0.15;

/// A purpose with its parent, and its views with the number of key columns. The column after them counts subjects.
struct Asked {
    purposes: [&'static str; 2],
    views: &'static [(&'static str, usize)],
}

const ASKED: [Asked; 3] = [
    Asked {
        purposes: ["opportunity", "opportunity.measure"],
        views: &[("opportunity_by_region", 2), ("apprenticeship_gap", 1), ("coverage", 1)],
    },
    Asked { purposes: ["health", "health.prevention"], views: &[("cardiovascular_support", 1)] },
    Asked { purposes: ["economy", "economy.measure"], views: &[("loans_and_markets", 2), ("apprentices_of_firms", 1)] },
];

/// What became of a view's values.
#[derive(Default)]
struct Kept {
    values: (usize, usize),
    subjects: (f64, f64),
    counts: Vec<f64>,
    means: Vec<f64>,
}

impl Kept {
    fn row(&mut self, keys: usize, exact: &[(String, Cell)], told: Option<&Vec<(String, Cell)>>) {
        let subjects = number(&exact[keys].1).unwrap();
        for (column, (name, exact)) in exact.iter().enumerate().skip(keys) {
            let Some(exact) = number(exact) else { continue };
            let told = told.and_then(|row| number(&row[column].1));
            self.values.1 += 1;
            if column == keys {
                self.subjects.1 += subjects;
            }
            let Some(told) = told else { continue };
            self.values.0 += 1;
            if column == keys {
                self.subjects.0 += subjects;
            }
            let off = (told - exact).abs();
            if name.starts_with("share") || name.starts_with("average") {
                self.means.push(off / exact.abs().max(1e-9));
            } else {
                self.counts.push(off);
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.values = (self.values.0 + other.values.0, self.values.1 + other.values.1);
        self.subjects = (self.subjects.0 + other.subjects.0, self.subjects.1 + other.subjects.1);
        self.counts.extend(other.counts);
        self.means.extend(other.means);
    }

    /// Shares of values and subjects, mean errors of counts and of means.
    fn shares(&self) -> [f64; 4] {
        let mean = |errors: &[f64]| errors.iter().sum::<f64>() / errors.len().max(1) as f64;
        let (values, all) = self.values;
        [values as f64 / all.max(1) as f64, self.subjects.0 / self.subjects.1.max(1.0), mean(&self.counts), mean(&self.means)]
    }
}

/// Every view, and all together against the floors. Returns what is to be printed.
pub async fn measured(world: &World) -> String {
    let (mut all, mut text) = (Kept::default(), String::new());
    let mut shown = |name: &str, [values, subjects, counts, means]: [f64; 4]| {
        let percent = |share: f64| 100.0 * share;
        let (values, subjects, means) = (percent(values), percent(subjects), percent(means));
        let kept = format!("{values:.0} % of values and {subjects:.0} % of subjects kept");
        writeln!(text, "utility of {name}: {kept}; counts off by {counts:.2}, means by {means:.1} %").unwrap();
    };
    for Asked { purposes, views } in ASKED {
        let oracle = Oracle::for_purposes(&world.sandbox.layout, &purposes).await;
        let client = world.sandbox.client_with(|c| c.purpose = Some(purposes[1].into())).await;
        let catalogue = client.catalogue().await.unwrap();
        for (name, keys) in views {
            let view = catalogue.views.iter().find(|view| view.name == *name).unwrap_or_else(|| panic!("no view {name}"));
            let exact = rows(&oracle.query(&view.sql).await, *keys);
            let told = client.query(&format!("SELECT * FROM views.{name}")).await.unwrap_or_else(|e| panic!("{name}: {e:?}"));
            let told = rows(&told.batches, *keys);
            let mut kept = Kept::default();
            exact.iter().for_each(|(key, exact)| kept.row(*keys, exact, told.get(key)));
            shown(name, kept.shares());
            all.add(kept);
        }
    }
    let shares = all.shares();
    shown("all views", shares);
    let [values, subjects, counts, means] = shares;
    assert!(values >= VALUES_KEPT && subjects >= SUBJECTS_KEPT && counts <= COUNTS_OFF && means <= MEANS_OFF, "{text}");
    text
}
