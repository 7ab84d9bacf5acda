//! Agreements that travel by way of the gateway: `agreement propose`, `inbox`, `review`, `accept` and `discard`. Only `accept` puts a
//! text among the agreements, after somebody has read it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use chrono::{SecondsFormat, Utc};
use clap::Args;
use concordat_operate::Fault;
use concordat_policy::agreement::Fingerprint;
use concordat_policy::{Agreement, Name, Signatures, in_words};
use concordat_proto::signature::offer::{Held, MAX_HELD, New, Offer, Texts};
use concordat_proto::signature::{self, files};
use miette::{IntoDiagnostic as _, WrapErr as _};

use super::agreement::{agreement, held, lists, signed, write};
use super::print;
use crate::config::{Paths, inbox, outbox};
use crate::consent::Consent;
use crate::consent::journal::Note;
use crate::private;

/// Where.
#[derive(Debug, Args)]
pub struct InboxArgs {
    /// The node's configuration.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    pub config: PathBuf,
}

/// Which agreement.
#[derive(Debug, Args)]
pub struct WaitingArgs {
    /// The agreement's id; of several texts with one id, the name that `inbox` shows.
    #[arg(value_name = "AGREEMENT")]
    pub agreement: String,
    /// The node's configuration.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    pub config: PathBuf,
}

/// Which agreement is put into force.
#[derive(Debug, Args)]
pub struct AcceptArgs {
    /// The agreement's id; of several texts with one id, the name that `inbox` shows.
    #[arg(value_name = "AGREEMENT")]
    pub agreement: String,
    /// The node's configuration.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    pub config: PathBuf,
    /// Sign without being asked: needed where nobody sits at a terminal.
    #[arg(long)]
    pub yes: bool,
}

pub(super) fn propose(args: &WaitingArgs) -> miette::Result<()> {
    let paths = Paths::read(&args.config)?;
    let file = held(&paths, &args.agreement)?;
    offer(&paths, &file, "agreement.proposed")?;
    print(&format!("'{}' is offered to the other parties: the gateway fetches it from the running node.\n", args.agreement))
}

pub(super) fn list(args: &InboxArgs) -> miette::Result<()> {
    let paths = Paths::read(&args.config)?;
    let mut text = String::new();
    for held in waiting(&inbox(&paths.state), &paths)? {
        let signers: Vec<&str> = signers(&held, &paths)?.into_iter().map(|(department, _)| department.as_str()).collect();
        let signers = if signers.is_empty() { "no signature counts".to_owned() } else { format!("signed by {}", signers.join(", ")) };
        let _ = writeln!(
            text,
            "{}: from {}, {signers}: {}",
            called(&held),
            in_words::one_line(&held.from),
            in_words::one_line(&held.agreement.title)
        );
    }
    for folder in unreadable(&inbox(&paths.state), &paths)? {
        let _ = writeln!(text, "{}: cannot be read as an agreement; `discard` takes it away by this name", folder_name(&folder));
    }
    print(if text.is_empty() { "Nothing waits.\n" } else { &text })
}

pub(super) fn review(args: &WaitingArgs) -> miette::Result<()> {
    let paths = Paths::read(&args.config)?;
    let held = one(&inbox(&paths.state), &paths, &args.agreement)?;
    let mut text = in_words::describe(&held.agreement);
    for (department, at) in signers(&held, &paths)? {
        let _ = writeln!(text, "signed by '{department}' at {at}");
    }
    text.push_str(&keys(&held.agreement, &paths)?);
    print(&text)
}

pub(super) fn accept(args: &AcceptArgs) -> miette::Result<()> {
    let paths = Paths::read(&args.config)?;
    let waiting = one(&inbox(&paths.state), &paths, &args.agreement)?;
    let id = waiting.agreement.id.as_str();
    let place = match held(&paths, id) {
        Err(_) => {
            let place = paths.agreements.join(format!("{id}.toml"));
            if place.exists() {
                return Err(Fault::new(place.display(), "is another file", "correct it or take it away; nothing is written over").into());
            }
            place
        }
        Ok(place) if agreement(&place)?.digest == waiting.agreement.digest => place,
        Ok(place) => {
            let remedy =
                "compare both with `concordat agreement diff`; take the present one away first, or have the new one named otherwise";
            return Err(Fault::new(place.display(), format!("this department holds another text of '{id}'"), remedy).into());
        }
    };
    super::eprint(&keys(&waiting.agreement, &paths)?);
    let content = signed(&waiting.file, &place, (&paths.department, &paths.signing), Some(&paths.state), args.yes)?;
    let text = std::fs::read_to_string(&waiting.file).into_diagnostic()?;
    // What people read is what is put in place.
    let signed = signature::read(content.as_bytes()).ok();
    if signed.is_none_or(|signed| Agreement::parse(&text).map_or(true, |text| text.digest != signed.sha256)) {
        return Err(Fault::new(waiting.file.display(), "was changed meanwhile", "review it again; nothing was put in place").into());
    }
    write(&place, text.as_bytes())?;
    write(&files::beside(&place, &paths.department), content.as_bytes())?;
    offer(&paths, &place, "agreement.countersigned")?;
    print(&format!(
        "{} is in place and signed; the gateway fetches the signature from the running node.\nA running node takes it within two seconds; \
         `concordat-node check` tells if not.\n",
        place.display()
    ))
}

pub(super) fn discard(args: &WaitingArgs) -> miette::Result<()> {
    let paths = Paths::read(&args.config)?;
    let (mut found, mut broken) = (Vec::new(), Vec::new());
    for texts in [inbox(&paths.state), outbox(&paths.state)] {
        found.extend(waiting(&texts, &paths)?.into_iter().filter(|held| is(held, &args.agreement)));
        broken.extend(unreadable(&texts, &paths)?.into_iter().filter(|folder| folder_name(folder) == args.agreement));
    }
    let texts: BTreeSet<String> = found.iter().map(called).chain(broken.iter().map(|folder| folder_name(folder))).collect();
    let (Some(name), 1) = (texts.first(), texts.len()) else { return Err(which(&args.agreement, &texts)) };
    match found.first() {
        Some(first) => {
            note(&paths, "agreement.discarded", &first.agreement)?;
            // What is only offered no longer may come back from others.
            let waits = inbox(&paths.state);
            if waiting(&waits, &paths)?.iter().any(|held| is(held, &args.agreement)) {
                let kept = waits.discard(&first.agreement.digest, private::replace);
                kept.into_diagnostic().wrap_err("it cannot be written down that it was discarded")?;
            }
        }
        None => noted(&paths, Note::new("agreement.discarded").field("folder", name.as_str()))?,
    }
    for folder in found.iter().map(|held| &held.folder).chain(&broken) {
        std::fs::remove_dir_all(folder).into_diagnostic().wrap_err("it cannot be taken away")?;
    }
    print(&format!("Discarded: {}.\n", in_words::one_line(name)))
}

/// Offers an agreement that has ended no longer.
pub(super) fn withdraw(paths: &Paths, id: &str) -> Result<(), Fault> {
    for held in waiting(&outbox(&paths.state), paths)?.into_iter().filter(|held| held.agreement.id.as_str() == id) {
        let kept = |e: std::io::Error| {
            Fault::new(held.folder.display(), format!("cannot be taken away: {e}"), "the agreement has ended all the same")
        };
        std::fs::remove_dir_all(&held.folder).map_err(kept)?;
    }
    Ok(())
}

/// Puts an agreement with this department's signature where the gateway fetches it.
fn offer(paths: &Paths, file: &Path, event: &'static str) -> miette::Result<()> {
    let unfit = |cause: String| Fault::new(file.display(), cause, "sign it first: `concordat-node agreement sign`; nothing was offered");
    let offer = Offer::of(file, &paths.department).map_err(unfit)?;
    let (revoked, seen) = lists(&paths.agreements, Some(&paths.state))?;
    Signatures::new(revoked, seen)
        .would_count(&offer.statement, &offer.agreement, Utc::now())
        .map_err(|fault| unfit(format!("this department's signature {fault}")))?;
    let texts = outbox(&paths.state);
    if texts.new_in(&offer).into_diagnostic()? == New::TooMany {
        let remedy = "take those away that every party has: `concordat-node agreement discard`";
        return Err(Fault::new(paths.state.display(), format!("{MAX_HELD} agreements are offered already"), remedy).into());
    }
    note(paths, event, &offer.agreement)?;
    texts.keep(&offer, private::replace).into_diagnostic().wrap_err("it cannot be offered")?;
    // Others' signatures of it are welcome again.
    inbox(&paths.state).welcome(&offer.agreement.digest).into_diagnostic().wrap_err("others' signatures of it cannot be taken")
}

/// Has the access log told: a running node does it now, else the next one that starts.
fn note(paths: &Paths, event: &'static str, agreement: &Agreement) -> miette::Result<()> {
    noted(paths, Note::new(event).field("agreement", agreement.id.as_str()).field("agreement_digest", agreement.digest.as_str()))
}

pub(super) fn noted(paths: &Paths, note: Note) -> miette::Result<()> {
    private::folder(&paths.state).into_diagnostic().wrap_err("the state folder cannot be used")?;
    let consent = Consent::open(&paths.state, paths.department.clone()).into_diagnostic()?;
    consent.ledger().note(&[note]).into_diagnostic().wrap_err("it cannot be recorded, so nothing was done")
}

fn waiting(texts: &Texts, paths: &Paths) -> Result<Vec<Held>, Fault> {
    texts.held().map_err(|e| closed(paths, &e))
}

fn unreadable(texts: &Texts, paths: &Paths) -> Result<Vec<PathBuf>, Fault> {
    texts.unreadable().map_err(|e| closed(paths, &e))
}

fn closed(paths: &Paths, e: &std::io::Error) -> Fault {
    Fault::new(paths.state.display(), format!("cannot be read: {e}"), "run this as the node's user, or as root")
}

/// What tells a text from others of the same agreement.
fn called(held: &Held) -> String {
    folder_name(&held.folder)
}

fn folder_name(folder: &Path) -> String {
    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn is(held: &Held, text: &str) -> bool {
    held.agreement.id.as_str() == text || called(held) == text
}

fn one(texts: &Texts, paths: &Paths, text: &str) -> miette::Result<Held> {
    let mut found: Vec<Held> = waiting(texts, paths)?.into_iter().filter(|held| is(held, text)).collect();
    match (found.pop(), found.is_empty()) {
        (Some(held), true) => Ok(held),
        (last, _) => Err(which(text, &found.iter().chain(&last).map(called).collect())),
    }
}

fn which(text: &str, found: &BTreeSet<String>) -> miette::Report {
    let cause = match found.len() {
        0 => format!("no agreement '{text}' waits here"),
        _ => format!("several texts of '{text}' wait here: {}", found.iter().map(String::as_str).collect::<Vec<_>>().join(", ")),
    };
    Fault::new("inbox", cause, "name one that `concordat-node agreement inbox` shows").into()
}

/// Who has signed this very text, with a key that counts as the text names it, and when.
fn signers<'h>(held: &'h Held, paths: &Paths) -> Result<Vec<(&'h Name, String)>, Fault> {
    let (revoked, seen) = lists(&paths.agreements, Some(&paths.state))?;
    let signatures = Signatures::new(revoked, seen);
    let signer = |department: &'h Name| {
        let statement = files::find(&held.file, department).ok().filter(|statement| statement.department == *department)?;
        signatures.would_count(&statement, &held.agreement, Utc::now()).ok()?;
        Some((department, statement.signed_at.to_rfc3339_opts(SecondsFormat::Secs, true)))
    };
    Ok(held.agreement.parties.iter().filter_map(|party| signer(&party.department)).collect())
}

/// For each other party, whether its keys are its present ones by an agreement that this department has signed: a text names its parties'
/// keys itself, and one that merely lies here proves nothing. No revoked key is anybody's.
fn keys(proposed: &Agreement, paths: &Paths) -> Result<String, Fault> {
    let (revoked, seen) = lists(&paths.agreements, Some(&paths.state))?;
    let (mut signatures, now) = (Signatures::new(revoked, seen), Utc::now());
    let entries = std::fs::read_dir(&paths.agreements).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut agreed: Vec<Agreement> = Vec::new();
    for path in entries.filter(|path| files::is_agreement(path)) {
        let Ok(held) = agreement(&path) else { continue };
        signatures.add(&held.id, &paths.department, files::find(&path, &paths.department));
        agreed.push(held);
    }
    agreed.retain(|agreed| signatures.judge(agreed, &paths.department, now).is_ok());
    let revoked = |key: &Fingerprint| signatures.revoked().of(key).is_some();
    let mut text = String::new();
    for party in proposed.parties.iter().filter(|party| party.department != paths.department) {
        if revoked(&party.signing_key) || revoked(&party.linkage_key) {
            let _ = writeln!(text, "a key that it names of '{}' is revoked: do not accept it", party.department);
            continue;
        }
        let same = agreed.iter().find(|agreed| {
            let keys = signatures.keys(agreed, &party.department, now);
            keys.is_some_and(|keys| keys.signs(&party.signing_key) && keys.links(&party.linkage_key))
        });
        let _ = match same {
            Some(same) => writeln!(text, "the keys of '{}' are its present ones by the agreement '{}'", party.department, same.id),
            None => writeln!(
                text,
                "no agreement that this department has signed names these keys of '{}': confirm their fingerprints with that department, by another way than this",
                party.department
            ),
        };
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use concordat_proto::signature::kept;

    use super::*;
    use crate::fixture::{World, agreement_text, name, signature_of, signing_key};

    /// Another agreement, between `dfe` and a department whose key exists, sent by that one.
    fn sent(world: &World) -> (String, Paths) {
        let other = signing_key().0;
        let party = world.agreement.party(&name("dfe")).unwrap();
        let print = Fingerprint::of(other.public_spki());
        let text = agreement_text("dfe", (&party.signing_key, &party.linkage_key), (&print, &Fingerprint::of(b"l")));
        let text = text.replace("opportunity-2026", "another");
        let agreement = Agreement::parse(&text).unwrap();
        let signature = signature_of(&agreement, "dwp", &other);
        let wire =
            concordat_proto::v1::SignedAgreement { text: text.clone().into(), department: "dwp".into(), signature: signature.into() };
        let paths = Paths::read(&world.path("node.toml")).unwrap();
        inbox(&paths.state).keep(&Offer::read(wire).unwrap(), private::replace).unwrap();
        (text, paths)
    }

    #[test]
    fn only_accepting_puts_a_text_in_place_signed_and_offered_back() {
        let world = World::new();
        let (text, paths) = sent(&world);
        let (config, place) = (world.path("node.toml"), world.path("agreements/another.toml"));
        let args = |id: &str, yes| AcceptArgs { agreement: id.into(), config: config.clone(), yes };
        let which = |id: &str| WaitingArgs { agreement: id.into(), config: config.clone() };
        list(&InboxArgs { config: config.clone() }).unwrap();
        review(&which("another")).unwrap();
        assert!(accept(&args("another", false)).is_err() && accept(&args("nothing", true)).is_err());
        assert!(propose(&which("another")).is_err() && !place.exists() && outbox(&paths.state).held().unwrap().is_empty());
        let held = one(&inbox(&paths.state), &paths, "another").unwrap();
        assert_eq!(signers(&held, &paths).unwrap().len(), 1);
        assert!(keys(&held.agreement, &paths).unwrap().contains("names these keys of 'dwp': confirm"));

        accept(&args(&called(&held), true)).unwrap();
        assert_eq!(std::fs::read_to_string(&place).unwrap(), text);
        let seen = kept::seen(&paths.agreements, None).unwrap();
        let statement = files::find(&place, &name("dfe")).unwrap();
        let agreement = Agreement::parse(&text).unwrap();
        assert_eq!(statement.judge(&agreement, &name("dfe"), &Default::default(), &seen, Utc::now()), Ok(()));
        let [offered] = outbox(&paths.state).held().unwrap().try_into().unwrap();
        assert_eq!(offered.agreement.digest, agreement.digest);
        let consent = Consent::open(&paths.state, name("dfe")).unwrap();
        assert_eq!(consent.ledger().notes(None).unwrap().len(), 1);
        let again = Offer::of(&held.file, &name("dwp")).unwrap();
        discard(&which("another")).unwrap();
        assert!(place.exists() && one(&inbox(&paths.state), &paths, "another").is_err());
        assert!(outbox(&paths.state).held().unwrap().is_empty());
        assert_eq!(inbox(&paths.state).new_in(&again).unwrap(), New::Discarded, "it does not come back");
        // Unless this department offers it itself; and what has ended is offered no longer.
        propose(&which("another")).unwrap();
        assert_eq!(inbox(&paths.state).new_in(&again).unwrap(), New::Text);
        withdraw(&paths, "another").unwrap();
        assert!(outbox(&paths.state).held().unwrap().is_empty());
        // A folder that a crash left, or an older version, is shown and goes by its name.
        world.write("state/inbox/revoked-0123456789abcdef/revoked.toml", &text);
        assert_eq!(unreadable(&inbox(&paths.state), &paths).unwrap().len(), 1);
        discard(&which("revoked-0123456789abcdef")).unwrap();
        assert!(unreadable(&inbox(&paths.state), &paths).unwrap().is_empty());
    }

    #[test]
    fn only_what_this_department_signed_vouches_for_keys_and_for_no_revoked_ones() {
        let world = World::new();
        let paths = Paths::read(&world.path("node.toml")).unwrap();
        let said = || keys(&world.agreement, &paths).unwrap();
        assert!(said().contains("the keys of 'dwp' are its present ones by the agreement 'opportunity-2026'"), "{}", said());
        world.unsign();
        assert!(said().contains("no agreement that this department has signed names these keys of 'dwp'"), "{}", said());
        world.resign();
        // The list is gone, but the node has seen it.
        let key = Fingerprint::of(b"l");
        let list = format!("[[key]]\nfingerprint = \"{key}\"\nreason = \"stolen\"\nsince = \"2026-05-01T10:00:00Z\"\n");
        world.write("state/revoked.toml", &list);
        assert_eq!(said(), "a key that it names of 'dwp' is revoked: do not accept it\n");
    }

    #[test]
    fn a_text_takes_no_other_ones_place() {
        let world = World::new();
        let (text, paths) = sent(&world);
        world.write("agreements/another.toml", &format!("{text}# another\n"));
        let refused = accept(&AcceptArgs { agreement: "another".into(), config: world.path("node.toml"), yes: true }).unwrap_err();
        assert!(refused.to_string().contains("holds another text"), "{refused}");
        assert!(outbox(&paths.state).held().unwrap().is_empty());
        // What is signed can be offered.
        let own = WaitingArgs { agreement: "opportunity-2026".into(), config: world.path("node.toml") };
        propose(&own).unwrap();
        assert_eq!(outbox(&paths.state).held().unwrap().len(), 1);
        world.unsign();
        assert!(propose(&own).is_err());
    }
}
