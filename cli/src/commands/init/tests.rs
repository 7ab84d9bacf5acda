use concordat_policy::Agreement;

use super::*;
use crate::federation::{Layout, adopt};

fn init(folder: &Path, datasets: &[&str]) -> Init {
    Init {
        folder: folder.to_owned(),
        mission: name("fairness").unwrap(),
        purpose: name("fairness.measure.region").unwrap(),
        datasets: datasets.iter().map(|text| Given::parse(text).unwrap()).collect(),
        organisation: "mission-unit".into(),
        role: "analyst".into(),
    }
}

/// Twenty pupils; the code `rare` stands in one row only.
fn pupils(path: &Path) {
    let mut text = String::from("NINO,Home Region,Score,note,joined\n");
    for index in 0..20 {
        let region = if index % 2 == 0 { "North" } else { "South" };
        let note = if index == 3 { "rare" } else { "usual" };
        text.push_str(&format!("ab{index:06}c,{region},{}.5,{note},2020-01-02\n", 40 + index));
    }
    std::fs::write(path, text).unwrap();
}

#[tokio::test]
async fn from_files_to_a_draft_that_permits_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pupils.csv");
    pupils(&file);
    let given = |department: &str| format!("{department}:pupils:{}:NINO:nino", file.display());
    let target = folder.path().join("trial");
    run(init(&target, &[&given("dfe"), &given("dwp")])).await.unwrap();
    let text = std::fs::read_to_string(target.join("agreement.toml")).unwrap();
    let agreement = Agreement::parse(&text).unwrap();
    assert_eq!((agreement.parties.len(), agreement.datasets.len()), (2, 2));
    for dataset in &agreement.datasets {
        assert!(dataset.subject_uses.is_empty() && dataset.columns.values().all(|column| column.uses.is_empty()));
        let types: Vec<String> = dataset.columns.iter().map(|(name, rule)| format!("{name} {}", rule.kind)).collect();
        assert_eq!(types, ["home_region text", "joined date", "note text", "score number"]);
        assert_eq!(dataset.columns["home_region"].values.as_deref().unwrap(), ["North", "South"]);
        assert_eq!(dataset.columns["note"].values, None, "a rare value would tell of one person");
    }
    let layout = Layout::new(&target);
    assert!(!layout.node("dfe").join("agreements/fairness.toml").exists(), "a draft is no copy");
    adopt(&layout, &text).unwrap();
    assert!(layout.node("dfe").join("agreements/fairness.toml").exists());
    let node = std::fs::read_to_string(layout.node("dfe").join("node.toml")).unwrap();
    assert!(node.contains("source = \"Home Region\""), "{node}");
    let view = std::fs::read_to_string(target.join("first_view.sql")).unwrap();
    assert!(view.contains("FROM dfe.pupils d1\nJOIN dwp.pupils d2 ON d2.subject = d1.subject\nGROUP BY d1.home_region"), "{view}");
}

#[tokio::test]
async fn mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pupils.csv");
    pupils(&file);
    for bad in ["dfe:pupils", "DfE:pupils:x.csv:nino:nino", "dfe:pup-ils:x.csv:nino:nino", "dfe:pupils:x.csv:nino:passport"] {
        assert!(Given::parse(bad).is_err(), "{bad}");
    }
    assert_eq!(Given::parse("dfe:pupils:C:/x.csv:nino:nino").unwrap().path, Path::new("C:/x.csv"));
    let failure = run(init(&folder.path().join("a"), &[&format!("dfe:pupils:{}:nino:nino", file.display())])).await.unwrap_err();
    assert!(failure.advice.unwrap().contains("NINO, Home Region"));
    assert!(run(init(&folder.path().join("b"), &["dfe:pupils:absent.csv:nino:nino"])).await.is_err());
}

#[test]
fn a_purpose_implies_its_wider_ones() {
    let made: Vec<_> = purposes(&name("a.b.c").unwrap()).into_iter().map(|p| (p.id, p.parent)).collect();
    let expected = [("a", None), ("a.b", Some("a")), ("a.b.c", Some("a.b"))];
    assert_eq!(made, expected.map(|(id, parent)| (id.to_owned(), parent.map(str::to_owned))));
}
