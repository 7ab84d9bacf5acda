//! The next text of an agreement, and keys that are written anew.

use concordat_policy::agreement::{DRAFT, Fingerprint};

use super::*;
use crate::consent::Consent;
use crate::fixture::{World, agreement_text, name as named};

fn next(text: &str, keyholder: &str) -> (String, Agreement) {
    rotated(text, &Agreement::parse(text).unwrap(), &named(keyholder)).unwrap()
}

#[test]
fn the_next_text_differs_in_rotation_and_keyholder_alone() {
    let print = |text: &str| Fingerprint::of(text.as_bytes());
    let (a, b, c, d) = (print("a"), print("b"), print("c"), print("d"));
    let inline = agreement_text("dfe", (&a, &b), (&c, &d));
    let (first, agreement) = next(&inline, "dfe");
    assert!(first.contains("linkage = { keyholder = \"dfe\", rotation = 1 }"), "{first}");
    assert_eq!((agreement.linkage.rotation, agreement.linkage.epoch_days), (1, 90));
    let (second, agreement) = next(&first, "dwp");
    assert_eq!((agreement.linkage.rotation, agreement.linkage.keyholder.as_str()), (2, "dwp"));
    assert_eq!(second.replacen("\"dwp\", rotation = 2", "\"dfe\"", 1), inline, "and nothing else");

    let (table, agreement) = next(DRAFT, "department_b");
    assert!(table.contains("[linkage]\nrotation = 1\nkeyholder = \"department_b\"") && table.contains("# the party that makes"), "{table}");
    assert_eq!(agreement.linkage.rotation, 1);
    let commented = "[linkage]   # of pseudonyms\nrotation = 7   # again\nkeyholder = \"department_a\"   # makes it\n";
    let text = DRAFT.replacen(
        "[linkage]\nkeyholder = \"department_a\"          # the party that makes the key of pseudonyms; the gateway never has it\n",
        commented,
        1,
    );
    assert!(text.contains(commented));
    assert!(next(&text, "department_a").0.contains("rotation = 8   # again\nkeyholder = \"department_a\"   # makes it\n"));
}

#[test]
fn a_text_that_cannot_be_changed_so_is_left_to_people() {
    let quoted = DRAFT.replacen("[linkage]\nkeyholder = \"department_a\"", "[linkage]\n\"keyholder\" = 'department_a'", 1);
    assert_eq!(next(&quoted, "department_a").1.linkage.rotation, 1, "other quotes are understood");
    let most = DRAFT.replacen("epoch_days = 90 ", &format!("epoch_days = 90\nrotation = {} ", u32::MAX), 1);
    assert!(rotated(&most, &Agreement::parse(&most).unwrap(), &named("department_a")).is_none());
}

#[test]
fn keys_are_shown_by_their_domains_and_encrypted_on_demand() {
    let world = World::new();
    let config = world.path("node.toml");
    let now = Utc::now();
    let keys = |config: Config| linkage::LinkageKeys::open(config.linkage, config.at_rest, &world.path("state")).unwrap();
    let domain = LinkageDomain::at(named("opportunity"), named("opportunity.measure"), &world.agreement.linkage, now).unwrap();
    keys(Config::load(&config).unwrap()).make(&domain, &world.agreement).unwrap();
    let shown = |config: Config| {
        let kept = linkage::kept(&config.state, &config.at_rest).unwrap();
        shown(&config, &kept, now)
    };
    let text = shown(Config::load(&config).unwrap());
    assert!(text.contains("in clear, in files of mode 0600") && text.contains(&format!("  {domain}, written ")), "{text}");
    assert!(text.contains("agreement 'opportunity-2026': dfe makes the keys; rotation 0"), "{text}");

    let clear = std::fs::read_to_string(world.path("keys/linkage.key")).unwrap();
    world.write("passphrase", "correct horse battery staple\n");
    world.replace(
        "node.toml",
        "linkage = \"keys/linkage.key\"\n",
        "linkage = \"keys/linkage.key\"\nat_rest = { passphrase_file = \"passphrase\" }\n",
    );
    let refused = Config::load(&config).unwrap_err().findings;
    assert!(refused[0].cause().contains("linkage protect"), "{refused:?}");
    protect(&ProtectArgs { config: config.clone(), before: None }).unwrap();
    let lies = |path: &str| std::fs::read_to_string(world.path(path)).unwrap();
    assert!(!lies("keys/linkage.key").contains(clear.trim()) && lies("keys/linkage.key").starts_with("concordat key v1\npbkdf2"));
    let text = shown(Config::load(&config).unwrap());
    assert!(text.contains("encrypted under a passphrase") && text.contains(&format!("  {domain}, written ")), "{text}");
    let files: Vec<_> = std::fs::read_dir(world.path("state/linkage")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.iter().all(|file| !std::fs::read_to_string(file).unwrap().contains("opportunity")) && files.len() == 1);

    // Another passphrase; the old one is named.
    std::fs::copy(&config, world.path("node.toml.old")).unwrap();
    world.write("passphrase.new", "another horse, another staple\n");
    world.replace("node.toml", "\"passphrase\"", "\"passphrase.new\"");
    assert!(protect(&ProtectArgs { config: config.clone(), before: None }).is_err());
    protect(&ProtectArgs { config: config.clone(), before: Some(world.path("node.toml.old")) }).unwrap();
    assert!(shown(Config::load(&config).unwrap()).contains(&domain.to_string()));
    assert!(Config::load(&world.path("node.toml.old")).is_err());
    let consent = Consent::open(&world.path("state"), Config::load(&config).unwrap().department).unwrap();
    let noted = consent.ledger().notes(None).unwrap().into_iter().filter_map(|(_, entry)| entry.get("way").cloned());
    let noted: Vec<_> = noted.collect();
    assert!(noted.len() == 2 && noted.iter().all(|way| way.as_str().unwrap().contains("passphrase")), "for the log: {noted:?}");
}
