//! `agreement succeed`: the department replaces its key by routine, and says so with both keys.

use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use concordat_operate::Fault;
use concordat_policy::agreement::Fingerprint;
use concordat_policy::succession::NextLinkage;
use concordat_policy::{Agreement, Name};
use concordat_proto::signature::{files, kept, succession};

use super::agreement::{confirmed, lists, private_key, private_text};
use super::{eprint, print};
use crate::config::Paths;
use crate::linkage::Keypair;
use crate::private;

/// How far two clocks may differ, in seconds.
const CLOCKS: i64 = 30;

/// What takes the place of what.
#[derive(Debug, Args)]
pub struct SucceedArgs {
    /// The new private signing key (Ed25519, PKCS#8 in PEM), which nobody else may read.
    #[arg(long, value_name = "KEY.pem")]
    pub next: PathBuf,
    /// The new private linkage key (X25519, 64 hex digits), where that is replaced too.
    #[arg(long, value_name = "KEY")]
    pub next_linkage: Option<PathBuf>,
    /// From when on (RFC 3339, UTC): time enough for the statement to reach every party and the gateway.
    #[arg(long, value_name = "TIME")]
    pub from: DateTime<Utc>,
    /// The node's configuration, which names the present keys.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    pub config: PathBuf,
    /// State it without being asked: needed where nobody sits at a terminal.
    #[arg(long)]
    pub yes: bool,
}

/// The files of a department's present keys, and of those that take their place.
#[derive(Debug)]
pub struct NewKeys<'a> {
    /// The present signing key.
    pub key: &'a Path,
    /// The one that takes its place.
    pub next: &'a Path,
    /// The present linkage key and the one that takes its place, where one does.
    pub linkage: Option<(&'a Path, &'a Path)>,
}

pub(super) fn of_node(args: &SucceedArgs) -> miette::Result<()> {
    let paths = Paths::read(&args.config)?;
    let linkage = args.next_linkage.as_deref().map(|next| (paths.linkage.as_path(), next));
    let keys = NewKeys { key: &paths.signing, next: &args.next, linkage };
    let written = succeed(&paths.agreements, Some(&paths.state), &paths.department, &keys, args.from, args.yes)?;
    print(&format!(
        "{} is written. Give it to the gateway's operator and to the other parties before that time.\n\
         At that time, put the new key where [keys] names it, and restart the node: it does not start with the old one from then on.\n",
        written.display()
    ))
}

/// Shows what is stated, asks unless `yes`, and writes the statement into a folder of agreements, whole or not at all. Gives its path.
/// At a node `state` is its folder of state: what it has seen of revoked keys and successions counts too.
///
/// # Errors
/// When a key cannot be read or others can read it, is revoked, or has a successor already; when the time has passed; when nobody
/// agrees, or the statement cannot be written.
pub fn succeed(
    folder: &Path,
    state: Option<&Path>,
    department: &Name,
    keys: &NewKeys<'_>,
    from: DateTime<Utc>,
    yes: bool,
) -> Result<PathBuf, Fault> {
    let (key, next) = (private_key(keys.key)?, private_key(keys.next)?);
    let linkage =
        keys.linkage.map(|(key, next)| Ok::<_, Fault>(NextLinkage { key: linkage_key(key)?, next: linkage_key(next)? })).transpose()?;
    let now = Utc::now();
    if from < now - TimeDelta::seconds(CLOCKS) {
        let remedy = "state a time to come: what was signed since a time in the past would count no more";
        return Err(Fault::new("--from", format!("{from} has passed"), remedy));
    }
    let (revoked, mut seen) = lists(folder, state)?;
    let failed = |cause: String| Fault::new(folder.display(), cause, "nothing was stated");
    let content = succession::sign(department, (&key, &next), linkage, from).map_err(failed)?;
    // What is written must be what others will accept.
    let stated = succession::read(content.as_bytes()).map_err(|unsound| failed(format!("the new statement {unsound}")))?;
    for print in [&stated.key, &stated.next].into_iter().chain(stated.linkage.iter().flat_map(|of| [&of.key, &of.next])) {
        if revoked.of(print).is_some() {
            let remedy = "a stolen key is succeeded by none: the parties must agree the department's new key, and sign anew";
            return Err(Fault::new(folder.join(files::REVOKED).display(), format!("the key {print} is revoked"), remedy));
        }
    }
    seen.succeeds(stated.clone())
        .map_err(|conflict| Fault::new(folder.display(), format!("the succession {conflict}"), conflict.remedy()))?;
    eprint(&format!("{stated}"));
    let concerned = concerned(folder, department, &stated.key);
    eprint(&format!("Agreements here that name the key as that of '{department}': {concerned}."));
    if !yes {
        confirmed(department, "state this in its name")?;
    }
    let path = kept::stated(folder, &stated);
    let unwritten = |e: std::io::Error| Fault::new(path.display(), format!("cannot be written: {e}"), "correct the folder's permissions");
    private::replace_public(&path, content.as_bytes()).map_err(unwritten)?;
    Ok(path)
}

fn linkage_key(path: &Path) -> Result<Fingerprint, Fault> {
    let text = private_text(path)?;
    let key = Keypair::from_hex(text.trim())
        .ok_or_else(|| Fault::new(path.display(), "is not a raw X25519 private key as 64 hex digits", "make one: openssl rand -hex 32"))?;
    Ok(Fingerprint::of(&key.public()))
}

/// The agreements of a folder that name a key as the department's.
fn concerned(folder: &Path, department: &Name, key: &Fingerprint) -> String {
    let paths = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let agreements =
        paths.filter(|path| files::is_agreement(path)).filter_map(|path| Agreement::parse(&std::fs::read_to_string(path).ok()?).ok());
    let named = agreements.filter(|agreement| agreement.party(department).is_some_and(|party| party.signing_key == *key));
    let mut named: Vec<String> = named.map(|agreement| agreement.id.to_string()).collect();
    named.sort();
    if named.is_empty() { "none".to_owned() } else { named.join(", ") }
}

#[cfg(test)]
mod tests {
    use concordat_policy::Seen;
    use concordat_policy::signature::Fault as SignatureFault;
    use concordat_policy::succession::Succession;

    use super::*;
    use crate::config::Config;
    use crate::fixture::{World, linkage_key as new_linkage, name, pem, signing_key};

    /// The statement that `dfe` replaces its signing key by another, put among the agreements. Gives the new key's PEM.
    fn state(world: &World, from: DateTime<Utc>) -> (Succession, String) {
        let (next, der) = signing_key();
        let content = succession::sign(&name("dfe"), (&world.signing, &next), None, from).unwrap();
        let stated = succession::read(content.as_bytes()).unwrap();
        std::fs::write(kept::stated(&world.path("agreements"), &stated), content).unwrap();
        (stated, pem(&der))
    }

    #[test]
    fn both_keys_state_who_follows_whom() {
        let world = World::new();
        let (own, agreements) = (world.path("keys/signing.key.pem"), world.path("agreements"));
        world.write("keys/next.pem", &pem(&signing_key().1));
        world.write("keys/next.linkage", &new_linkage().1);
        let (next, next_linkage, linkage) = (world.path("keys/next.pem"), world.path("keys/next.linkage"), world.path("keys/linkage.key"));
        let keys = NewKeys { key: &own, next: &next, linkage: Some((&linkage, &next_linkage)) };
        let soon = Utc::now() + TimeDelta::hours(1);
        let stated = |keys: &NewKeys<'_>, from| succeed(&agreements, None, &name("dfe"), keys, from, true);
        let late = stated(&keys, Utc::now() - TimeDelta::hours(1)).unwrap_err();
        assert!(late.cause.contains("has passed"), "{late:?}");
        assert!(succeed(&agreements, None, &name("dfe"), &keys, soon, false).unwrap_err().remedy.contains("--yes"));
        let itself = NewKeys { key: &own, next: &own, linkage: None };
        assert!(stated(&itself, soon).unwrap_err().cause.contains("leads back"));
        let path = stated(&keys, soon).unwrap();
        let read = succession::read(&std::fs::read(&path).unwrap()).unwrap();
        assert!(read.key == Fingerprint::of(world.signing.public_spki()) && read.linkage.is_some(), "{read:?}");
        assert_eq!(concerned(&agreements, &name("dfe"), &read.key), "opportunity-2026");
        // A second one would be ambiguous.
        world.write("keys/other.pem", &pem(&signing_key().1));
        let other = world.path("keys/other.pem");
        let twice = stated(&NewKeys { key: &own, next: &other, linkage: None }, soon).unwrap_err();
        assert!(twice.cause.contains("is not the only one of its key"), "{twice:?}");
        // Before its time nothing is different.
        let config = Config::load(&world.path("node.toml")).unwrap();
        assert_eq!(config.unsigned(Utc::now()).count(), 0);
        assert_eq!(config.unsigned(soon + TimeDelta::seconds(1)).count(), 0, "it was seen before");

        // The node has seen it: that its file goes makes no room for another.
        let state = world.path("state");
        std::fs::create_dir_all(&state).unwrap();
        kept::keep(&state, &kept::seen(&agreements, None).unwrap(), private::replace).unwrap();
        std::fs::remove_file(path).unwrap();
        let another = NewKeys { key: &own, next: &other, linkage: None };
        let twice = succeed(&agreements, Some(&state), &name("dfe"), &another, soon, true).unwrap_err();
        assert!(twice.cause.contains("is not the only one of its key"), "{twice:?}");
        let list = format!("[[key]]\nfingerprint = \"{}\"\nreason = \"stolen\"\nsince = \"2026-05-01T10:00:00Z\"\n", read.key);
        world.write("agreements/revoked.toml", &list);
        assert!(stated(&keys, soon).unwrap_err().cause.contains("is revoked"));
    }

    #[test]
    fn a_node_holds_the_key_that_is_its_departments_now() {
        let world = World::new();
        let config = || Config::load(&world.path("node.toml"));
        // This node saw its signature before, and keeps that.
        let before = config().unwrap();
        let file = world.path("agreements/opportunity.toml");
        let mut seen = Seen::default();
        seen.saw(&files::find(&file, &name("dfe")).unwrap(), Utc::now() - TimeDelta::hours(1));
        std::fs::create_dir_all(&before.state).unwrap();
        assert_eq!(before.papers.keep(&seen).unwrap().len(), 1);
        let (stated, next) = state(&world, Utc::now());
        let findings = config().unwrap_err().findings;
        assert!(findings[0].cause().contains("the agreement states another signing_key of 'dfe'"), "{findings:?}");
        world.write("keys/signing.key.pem", &next);
        assert_eq!(config().unwrap().unsigned(Utc::now()).count(), 0);
        // A program that never saw it needs a new signature, of the same text.
        std::fs::remove_dir_all(&before.state).unwrap();
        let unseen = config().unwrap();
        assert_eq!(unseen.unsigned(Utc::now()).next().unwrap().1, SignatureFault::Replaced);
        super::super::sign(&file, &name("dfe"), &world.path("keys/signing.key.pem"), None, true).unwrap();
        assert_eq!(files::find(&file, &name("dfe")).unwrap().key, stated.next);
        assert_eq!(config().unwrap().unsigned(Utc::now()).count(), 0);
        // The old key signs nothing any more.
        world.resign();
        assert_eq!(config().unwrap().unsigned(Utc::now()).next().unwrap().1, SignatureFault::Replaced);
    }
}
