//! A preview says what a release then does.

use super::*;
use crate::fixture::{World, name};
use crate::node::Node;
use crate::suspension::book::{Act, Wanted, change};
use crate::suspension::{Folders, Person};

async fn of(world: &World, agreement: &str, purpose: Option<&str>) -> Result<Preview, Refusal> {
    let config = Config::load(&world.path("node.toml")).unwrap();
    let datasets = Datasets::open(&config).await.unwrap();
    preview(&config, &datasets, agreement, purpose).await
}

/// The world after its node imported the consent records.
async fn world() -> (World, Arc<Node>) {
    let world = World::new();
    let node = Node::open(Config::load(&world.path("node.toml")).unwrap()).await.unwrap();
    (world, node)
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_those_of_the_release_by_purpose() {
    let (world, node) = world().await;
    let shown = of(&world, "opportunity-2026", None).await.unwrap();
    let [dataset] = shown.datasets.as_slice() else { panic!("{shown:?}") };
    let counts: Vec<_> = dataset.purposes.iter().map(|p| (p.purpose.as_str(), p.rows, p.without_consent, p.invalid_identifiers)).collect();
    // For the wider purpose, the one who agreed to the narrower only is left out, and the one who withdrew from it only is not.
    assert_eq!(counts, [("opportunity", 4, 2, 2), ("opportunity.measure", 4, 2, 2)]);

    let now = Utc::now();
    world.bring_key(&node);
    let release = node.order(&world.order(&world.request(now), now), Some(world.gateway.fingerprint.clone()), now).await.unwrap();
    let released = release.partition(0).await.unwrap().counts();
    assert_eq!((released.released, released.without_consent, released.invalid_identifiers), (4, 2, 2));
    assert_eq!(std::fs::read_dir(world.path("spill")).unwrap().count(), 1, "the release's own folder, and none of the preview");
    let one = of(&world, "opportunity-2026", Some("opportunity.measure")).await.unwrap();
    assert_eq!(one.datasets[0].purposes.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_rows_of_the_agreements_condition_are_counted() {
    let (mut world, _node) = world().await;
    let rows = "consent_text = \"I agree.\"\nrows = [{ column = \"cohort\", less_than = 2024 }]";
    world.agree("consent_text = \"I agree.\"", rows);
    let shown = of(&world, "opportunity-2026", Some("opportunity.measure")).await.unwrap();
    let [dataset] = shown.datasets.as_slice() else { panic!("{shown:?}") };
    assert_eq!(dataset.only_rows.as_deref(), Some("cohort is less than 2024"));
    let counts = &dataset.purposes[0];
    assert_eq!((counts.rows, counts.without_consent, counts.invalid_identifiers), (2, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_is_older_than_agreed_is_said_not_to_leave() {
    let (mut world, _node) = world().await;
    world.agree("consent_text = \"I agree.\"", "consent_text = \"I agree.\"\nmax_data_age = \"2h\"");
    let file = std::fs::File::options().append(true).open(world.path("data/attainment.csv")).unwrap();
    for (ago, outdated) in [(0, false), (3 * 3600, true)] {
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(ago)).unwrap();
        let shown = of(&world, "opportunity-2026", None).await.unwrap();
        let [dataset] = shown.datasets.as_slice() else { panic!("{shown:?}") };
        assert_eq!((dataset.max_data_age.as_deref(), dataset.outdated), (Some("2 hours"), outdated));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_how_many_people_the_gateway_is_told_is_counted_where_the_agreement_says_so() {
    let (mut world, _node) = world().await;
    let of_reach = |shown: Preview| -> Vec<(String, &'static str, u64)> {
        shown.reach.into_iter().map(|reach| (reach.purpose, reach.basis, reach.subjects)).collect()
    };
    assert!(of_reach(of(&world, "opportunity-2026", None).await.unwrap()).is_empty());
    let other = "basis = \"statutory\"\npower = \"Digital Economy Act 2017 s.35\"";
    world.agree(other, "basis = \"consent\"\nconsent_text = \"May we?\"");
    world.agree("mission = ", "withdrawals = \"all_parties\"\nmission = ");
    let shown = of_reach(of(&world, "opportunity-2026", None).await.unwrap());
    let expected = [("opportunity", 0), ("opportunity.measure", 1)].map(|(purpose, subjects)| (purpose.to_owned(), "consent", subjects));
    assert_eq!(shown, expected, "who withdrew from the narrower purpose only is told of for that one only");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_tell_what_leaves_and_for_whom() {
    let (world, _node) = world().await;
    let shown = of(&world, "opportunity-2026", None).await.unwrap();
    let columns: Vec<String> = shown.datasets[0]
        .columns
        .iter()
        .map(|c| format!("{} {} {} {} [{}]", c.column, c.r#type, c.classification, c.leaves, c.uses.join(" ")))
        .collect();
    assert_eq!(
        columns,
        [
            "born date personal true [aggregate filter]",
            "cohort integer personal false [filter]",
            "fsm boolean special true [aggregate filter]",
            "region text personal true [group_by filter]",
            "score number personal true [aggregate]",
            "unused text personal false []",
        ]
    );
    assert_eq!((shown.in_force, shown.suspended), (true, false));
    assert_eq!((shown.gateway, shown.parties.join(" ")), (vec![world.gateway.fingerprint.to_string()], "dfe dwp".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_suspended_unknown_or_unreadable_is_said() {
    let (world, _node) = world().await;
    let unknown = of(&world, "other", None).await.unwrap_err();
    assert!(unknown.message.contains("holds no agreement 'other'; it holds: opportunity-2026"), "{unknown}");
    let uncovered = of(&world, "opportunity-2026", Some("health")).await.unwrap_err();
    assert!(uncovered.message.contains("it covers: opportunity, opportunity.measure"), "{uncovered}");
    let agreement = name("opportunity-2026");
    let wanted = Wanted { act: Act::Suspended, agreement: Some(&agreement), by: &Person::here().unwrap(), reason: None, held: None };
    change(&Folders::new(&world.path("state"), &world.path("log")), &wanted).unwrap();
    let shown = of(&world, "opportunity-2026", None).await.unwrap();
    assert_eq!((shown.in_force, shown.suspended, shown.datasets[0].purposes[0].rows), (false, true, 4), "counted all the same");
    world.replace("data/attainment.csv", "1.5", "one and a half");
    let unreadable = of(&world, "opportunity-2026", None).await.unwrap_err();
    assert_eq!(unreadable.code, Code::NodeUnavailable);
    assert!(!format!("{unreadable:?}").contains("half"), "{unreadable:?}");
}
