//! Search in a catalogue: what holds a term, whatever its case and accents, and what belongs to that.
//!
//! Only what the gateway already gave is searched, so that looking for something tells nothing new about what exists.

use concordat_proto::v1::{Agreement, CatalogueResponse, Column, Dataset, Department, View};

/// The part of `whole` that holds `term`. The mission's own words and those of an agreement or department bring in all of theirs;
/// a dataset's name brings in its columns; agreements and departments of what is found stay, so that it says whom to ask.
pub(super) fn found(whole: CatalogueResponse, term: &str) -> CatalogueResponse {
    let term = Term(folded(term));
    if term.is_in([&whole.mission, &whole.mission_title, &whole.mission_goal]) {
        return whole;
    }
    let agreements: Vec<Agreement> = whole.agreements;
    let departments: Vec<Department> = whole.departments;
    let views: Vec<View> = whole.views.into_iter().filter(|v| term.is_in([&v.name, &v.title, &v.unit, &v.description])).collect();
    let above = |dataset: &Dataset| {
        term.is_in([&dataset.name, &dataset.identifier_type])
            || agreements.iter().any(|a| a.id == dataset.agreement && term.is_in([&a.id, &a.title]))
            || departments.iter().any(|d| d.id == department(dataset) && term.is_in([&d.id, &d.title, &d.contact]))
    };
    let datasets: Vec<Dataset> = whole
        .datasets
        .into_iter()
        .filter_map(|mut dataset| {
            if !above(&dataset) {
                let name = dataset.name.clone();
                dataset.columns.retain(|column| term.is_in_column(&name, column));
            }
            (!dataset.columns.is_empty()).then_some(dataset)
        })
        .collect();
    CatalogueResponse {
        agreements: agreements.into_iter().filter(|a| datasets.iter().any(|d| d.agreement == a.id)).collect(),
        departments: departments.into_iter().filter(|d| datasets.iter().any(|of| department(of) == d.id)).collect(),
        views,
        datasets,
        ..whole
    }
}

fn department(dataset: &Dataset) -> &str {
    dataset.name.split('.').next().unwrap_or_default()
}

/// A folded term.
struct Term(String);

impl Term {
    fn is_in<'t>(&self, texts: impl IntoIterator<Item = &'t String>) -> bool {
        texts.into_iter().any(|text| folded(text).contains(&self.0))
    }

    fn is_in_column(&self, dataset: &str, column: &Column) -> bool {
        let name = format!("{dataset}.{}", column.name);
        let words = [&name, &column.title, &column.r#type, &column.classification];
        self.is_in(words) || self.is_in(&column.uses) || self.is_in(&column.values)
    }
}

/// Latin letters with marks, by the letter they are told apart from.
const MARKED: &[(&str, &str)] = &[
    ("a", "àáâãäåāăą"),
    ("c", "çćĉċč"),
    ("d", "ďđð"),
    ("e", "èéêëēĕėęě"),
    ("g", "ĝğġģ"),
    ("h", "ĥħ"),
    ("i", "ìíîïĩīĭįı"),
    ("j", "ĵ"),
    ("k", "ķ"),
    ("l", "ĺļľŀł"),
    ("n", "ñńņňŉ"),
    ("o", "òóôõöøōŏő"),
    ("r", "ŕŗř"),
    ("s", "śŝşšſ"),
    ("t", "ţťŧ"),
    ("u", "ùúûüũūŭůűų"),
    ("w", "ŵẁẃẅ"),
    ("y", "ýÿŷỳ"),
    ("z", "źżž"),
    ("ae", "æ"),
    ("oe", "œ"),
    ("ss", "ß"),
    ("th", "þ"),
];

/// A text without case, and Latin letters without marks: `Ynys Môn` becomes `ynys mon`.
fn folded(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for c in text.chars().flat_map(char::to_lowercase) {
        match c {
            c if c.is_ascii() => folded.push(c),
            // Marks that stand apart from their letter.
            '\u{300}'..='\u{36f}' => {}
            c => match MARKED.iter().find(|(_, marked)| marked.contains(c)) {
                Some((plain, _)) => folded.push_str(plain),
                None => folded.push(c),
            },
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_accents_do_not_matter() {
        for (text, plain) in [
            ("Ynys Môn", "ynys mon"),
            ("Cymru: Tŷ Ŵyn", "cymru: ty wyn"),
            ("e\u{301}COLE", "ecole"),
            ("Straße", "strasse"),
            ("İ", "i"),
            ("ψ", "ψ"),
        ] {
            assert_eq!(folded(text), plain);
        }
    }

    fn catalogue() -> CatalogueResponse {
        let column = |name: &str, title: &str, values: &[&str]| Column {
            name: name.into(),
            r#type: "text".into(),
            title: title.into(),
            uses: vec!["group_by".into()],
            values: values.iter().map(|v| (*v).to_owned()).collect(),
            classification: "personal".into(),
            ..Column::default()
        };
        let dataset = |name: &str, agreement: &str, columns| Dataset {
            name: name.into(),
            agreement: agreement.into(),
            identifier_type: "nino".into(),
            columns,
            minimum_subjects: 10,
            ..Dataset::default()
        };
        let agreement = |id: &str| Agreement { id: id.into(), title: format!("About {id}"), ..Agreement::default() };
        let department = |id: &str| Department { id: id.into(), title: format!("The {id}"), contact: format!("ask@{id}.example") };
        CatalogueResponse {
            mission: "m".into(),
            mission_title: "A Goal".into(),
            mission_goal: "better".into(),
            views: vec![View { name: "by_region".into(), title: "Scores".into(), unit: "persons".into(), ..View::default() }],
            datasets: vec![
                dataset("dfe.pupils", "one", vec![column("region", "Where", &["Ynys Môn", "London"]), column("score", "Points", &[])]),
                dataset("dwp.claims", "two", vec![column("kind", "Which claim", &["ill"])]),
            ],
            agreements: vec![agreement("one"), agreement("two")],
            departments: vec![department("dfe"), department("dwp")],
        }
    }

    /// What each term brings: views, columns, agreements, departments.
    #[test]
    fn a_term_brings_what_holds_it_and_whom_to_ask() {
        for (term, brings) in [
            ("YNYS MON", " | dfe.pupils.region | one | dfe"),
            ("region", "by_region | dfe.pupils.region | one | dfe"),
            ("dfe.pupils", " | dfe.pupils.region dfe.pupils.score | one | dfe"),
            ("pupils.score", " | dfe.pupils.score | one | dfe"),
            ("about two", " | dwp.claims.kind | two | dwp"),
            ("ask@dwp", " | dwp.claims.kind | two | dwp"),
            ("persons", "by_region |  |  | "),
            ("a goal", "by_region | dfe.pupils.region dfe.pupils.score dwp.claims.kind | one two | dfe dwp"),
            ("nothing", " |  |  | "),
        ] {
            let found = found(catalogue(), term);
            let views: Vec<_> = found.views.iter().map(|v| v.name.clone()).collect();
            let columns: Vec<_> = found.datasets.iter().flat_map(|d| d.columns.iter().map(|c| format!("{}.{}", d.name, c.name))).collect();
            let agreements: Vec<_> = found.agreements.iter().map(|a| a.id.clone()).collect();
            let departments: Vec<_> = found.departments.iter().map(|d| d.id.clone()).collect();
            let text = [views, columns, agreements, departments].map(|list| list.join(" ")).join(" | ");
            assert_eq!(text, brings, "{term}");
        }
    }
}
