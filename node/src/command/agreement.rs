//! `agreement sign`: the department binds itself, after somebody has read what it would give. `agreement end`: it is bound no longer.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf, absolute};

use chrono::Utc;
use clap::{Args, Subcommand};
use concordat_operate::Fault;
use concordat_policy::agreement::Fingerprint;
use concordat_policy::succession::Keys;
use concordat_policy::{Agreement, Name, Revocations, Seen, Signatures, in_words};
use concordat_proto::signature::files::Damaged;
use concordat_proto::signature::{self, files, kept};
use concordat_proto::token::SigningKey;
use zeroize::Zeroizing;

use super::inbox::{self, AcceptArgs, InboxArgs, WaitingArgs};
use super::succeed::{self, SucceedArgs};
use super::{eprint, print, suspend};
use crate::config::Paths;
use crate::private;
use crate::suspension::Folders;
use crate::suspension::book::{self, Suspension};

/// What can be done with the department's agreements and the key that signs them.
#[derive(Debug, Subcommand)]
pub enum AgreementCommand {
    /// Sign an agreement with the department's own key: nothing is released under one that it has not signed.
    #[command(
        after_help = "Example:\n  concordat-node agreement sign opportunity --config node.toml\n\nShows in plain words who would give which columns for which uses, why and until when, and asks. The signature is written beside\nthe agreement's file, FILE.DEPARTMENT.sig: give it to the gateway's operator and to the other parties. A changed text needs a new\none. A running node takes both within two seconds, unless `check` finds something wrong with another file."
    )]
    Sign(SignArgs),
    /// End an agreement for good, by this department's own decision.
    #[command(
        after_help = "Example:\n  concordat-node agreement end opportunity --config node.toml --reason \"the pilot is over\"\n\nIn force from the moment it returns, whether the node runs or not: new orders are refused, running releases are cut, and callers\nare told that the department has ended the agreement. It cannot be resumed; the parties would need a new one. The department's\nsignature is set aside as FILE.DEPARTMENT.sig.ended. What may go on later is suspended instead: `suspend`."
    )]
    End(EndArgs),
    /// State that a new key takes the place of the present one from a time on: no agreement needs a new text.
    #[command(
        after_help = "Example:\n  openssl genpkey -algorithm ed25519 -out keys/next.signing.key.pem && chmod 600 keys/next.signing.key.pem\n  concordat-node agreement succeed --next keys/next.signing.key.pem --from 2026-12-01T06:00:00Z --config node.toml\n\nThe statement is signed with both keys and written among the agreements, DEPARTMENT.KEY.succession: give it to the gateway's operator\nand to the other parties before that time. At that time, put the new key where [keys] names it and restart the node. What programs\nsaw signed before stays signed. A key that may have been stolen is no routine: list it in revoked.toml."
    )]
    Succeed(SucceedArgs),
    /// Offer an agreement that this department has signed to the other parties, by way of the gateway.
    #[command(
        after_help = "Example:\n  concordat-node agreement propose opportunity --config node.toml\n\nSign it first. The gateway fetches the text and this department's signature from the running node within ten seconds, and hands both\nto the other parties' nodes and its own operator, where they wait for people: nothing comes into force by it."
    )]
    Propose(WaitingArgs),
    /// List the agreements that other parties have sent, and who has signed them.
    #[command(after_help = "Example:\n  concordat-node agreement inbox --config node.toml")]
    Inbox(InboxArgs),
    /// Show an agreement that another party has sent in plain words, and whose keys are known.
    #[command(after_help = "Example:\n  concordat-node agreement review opportunity --config node.toml")]
    Review(WaitingArgs),
    /// Put an agreement that another party has sent into force here: sign it, and send the signature back.
    #[command(
        after_help = "Example:\n  concordat-node agreement accept opportunity --config node.toml\n\nShows in plain words who would give which columns for which uses, why and until when, and asks. The text is put among the agreements,\nbyte for byte, with this department's signature, which the gateway hands to the other parties."
    )]
    Accept(AcceptArgs),
    /// Take an agreement out of what others have sent, and of what this department offers. What is in force stays so.
    #[command(after_help = "Example:\n  concordat-node agreement discard opportunity --config node.toml")]
    Discard(WaitingArgs),
}

/// What is signed.
#[derive(Debug, Args)]
pub struct SignArgs {
    /// The agreement's id.
    #[arg(value_name = "AGREEMENT")]
    pub agreement: String,
    /// The node's configuration.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    pub config: PathBuf,
    /// Sign without being asked: needed where nobody sits at a terminal.
    #[arg(long)]
    pub yes: bool,
}

/// What is ended.
#[derive(Debug, Args)]
pub struct EndArgs {
    /// The agreement's id.
    #[arg(value_name = "AGREEMENT")]
    pub agreement: String,
    /// The node's configuration.
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    pub config: PathBuf,
    /// Why, for the department itself: it is kept in the state folder, the access log only says that there is one.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// End it without being asked: needed where nobody sits at a terminal.
    #[arg(long)]
    pub yes: bool,
}

pub(super) async fn run(command: AgreementCommand) -> miette::Result<()> {
    match command {
        AgreementCommand::Sign(args) => sign_held(&args),
        AgreementCommand::End(args) => end(args).await,
        AgreementCommand::Succeed(args) => succeed::of_node(&args),
        AgreementCommand::Propose(args) => inbox::propose(&args),
        AgreementCommand::Inbox(args) => inbox::list(&args),
        AgreementCommand::Review(args) => inbox::review(&args),
        AgreementCommand::Accept(args) => inbox::accept(&args),
        AgreementCommand::Discard(args) => inbox::discard(&args),
    }
}

async fn end(args: EndArgs) -> miette::Result<()> {
    let paths = Paths::read(&args.config)?;
    if !args.yes {
        eprint(&format!("'{}' would end for good: it cannot be resumed, and the parties would need a new agreement.", args.agreement));
        confirmed(&paths.department, "end it")?;
    }
    // The file may be gone: what counts is that the agreement has ended.
    let file = held(&paths, &args.agreement).ok();
    let ended = suspend::end(args.agreement.clone(), args.config, args.reason).await;
    // In force it may be although a running node did not confirm it.
    let book = book::read(&Folders::new(&paths.state, &paths.log), 0);
    let of_it = |suspension: &Suspension| suspension.agreement.as_ref().is_some_and(|id| id.as_str() == args.agreement);
    let in_force = book.is_ok_and(|book| book.suspended.iter().any(|suspension| suspension.ended && of_it(suspension)));
    let signature = file.map(|file| files::beside(&file, &paths.department)).filter(|path| in_force && path.exists());
    if let Some(path) = signature {
        let aside = aside(&path);
        let kept = |e: io::Error| Fault::new(path.display(), format!("cannot be set aside: {e}"), "the agreement has ended all the same");
        std::fs::rename(&path, &aside).map_err(kept)?;
        print(&format!("This department's signature is set aside: {}\n", aside.display()))?;
    }
    if in_force {
        inbox::withdraw(&paths, &args.agreement)?;
    }
    ended
}

/// Where the signature of an agreement that has ended lies.
fn aside(signature: &Path) -> PathBuf {
    let mut aside = signature.as_os_str().to_owned();
    aside.push(".ended");
    PathBuf::from(aside)
}

/// Whether this department has ended an agreement, as the signature that was set aside says.
pub(super) fn has_ended(paths: &Paths, id: &str) -> bool {
    held(paths, id).is_ok_and(|file| aside(&files::beside(&file, &paths.department)).exists())
}

fn sign_held(args: &SignArgs) -> miette::Result<()> {
    // An unsigned agreement is no reason why the rest of the configuration should be sound already.
    let paths = Paths::read(&args.config)?;
    let file = held(&paths, &args.agreement)?;
    let signature = sign(&file, &paths.department, &paths.signing, Some(&paths.state), args.yes)?;
    let taken = "A running node takes it within two seconds; `concordat-node check` tells if not.";
    print(&format!("{} is written. Give it to the gateway's operator and to the other parties.\n{taken}\n", signature.display()))
}

/// The file of the agreement with this id.
pub(super) fn held(paths: &Paths, id: &str) -> Result<PathBuf, Fault> {
    let folder = &paths.agreements;
    let unreadable = |e: io::Error| Fault::new(folder.display(), format!("cannot be read: {e}"), "run this as the node's user, or as root");
    let mut known = Vec::new();
    let entries = std::fs::read_dir(folder).map_err(unreadable)?.collect::<io::Result<Vec<_>>>().map_err(unreadable)?;
    for path in entries.into_iter().map(|entry| entry.path()).filter(|path| files::is_agreement(path)) {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        match Agreement::parse(&text) {
            Ok(agreement) if agreement.id.as_str() == id => return Ok(path),
            Ok(agreement) => known.push(agreement.id.to_string()),
            Err(_) => known.push(format!("{}, which is no agreement that can be read", path.display())),
        }
    }
    known.sort();
    let known = if known.is_empty() { "nothing".to_owned() } else { known.join("; ") };
    Err(Fault::new(folder.display(), format!("no agreement '{id}'; there is: {known}"), "put the agreement's file there, then sign it"))
}

/// Shows what is signed, asks unless `yes`, and writes the signature beside the file, whole or not at all. Gives its path. At a node
/// `state` is its folder of state: what it has seen of revoked keys and successions counts too.
///
/// # Errors
/// When the file is no agreement, the department is no party, the key is not the one that the agreement names or others can read
/// it, a key of another party is revoked, nobody agrees, or the signature cannot be written.
pub fn sign(file: &Path, department: &Name, key: &Path, state: Option<&Path>, yes: bool) -> Result<PathBuf, Fault> {
    let unusable = |e: io::Error| Fault::new(file.display(), format!("cannot be read: {e}"), "correct the path or its permissions");
    let file = absolute(file).map_err(unusable)?;
    let content = signed(&file, &file, (department, key), state, yes)?;
    let path = files::beside(&file, department);
    write(&path, content.as_bytes())?;
    Ok(path)
}

/// Writes a file among the agreements, whole or not at all.
pub(super) fn write(path: &Path, content: &[u8]) -> Result<(), Fault> {
    let unwritten = |e: io::Error| Fault::new(path.display(), format!("cannot be written: {e}"), "correct the folder's permissions");
    private::replace_public(path, content).map_err(unwritten)
}

/// The signature of an agreement that lies at `place`, or is to, and the text of which is in `file`, once somebody agrees to it.
pub(super) fn signed(
    file: &Path,
    place: &Path,
    (department, key): (&Name, &Path),
    state: Option<&Path>,
    yes: bool,
) -> Result<String, Fault> {
    let agreement = agreement(file)?;
    let folder = place.parent().unwrap_or(Path::new("/"));
    let (revoked, seen) = lists(folder, state)?;
    let now = Utc::now();
    let found = Signatures::new(revoked.clone(), seen.clone());
    let keys = found.keys(&agreement, department, now).ok_or_else(|| no_party(&agreement, department))?;
    let key = department_key(&keys, department, key)?;
    if let Some(party) = found.compromised(&agreement, now) {
        let cause = format!("a key that it names of '{party}', or that leads to its present one, is revoked");
        return Err(Fault::new(file.display(), cause, "the parties must agree that department's new key; nothing was signed"));
    }
    if aside(&files::beside(place, department)).exists() {
        let remedy = "an agreement that has ended is over for good: the parties agree a new one, under an id of its own";
        return Err(Fault::new(file.display(), format!("'{department}' has ended it"), remedy));
    }
    eprint(&in_words::describe(&agreement));
    if let Ok(before) = files::find(place, department)
        && before.sha256 == agreement.digest
    {
        eprint(&format!("'{department}' signed this very text at {} already.", before.signed_at));
    }
    if agreement.valid_until < now.date_naive() {
        eprint("It is no longer in force on any day to come.");
    }
    if !yes {
        confirmed(department, "sign this in its name")?;
    }
    let failed = |cause: String| Fault::new(file.display(), cause, "nothing was signed");
    let content = signature::sign(&agreement, department, &key, now).map_err(failed)?;
    // What is written must be what others will accept.
    let statement = signature::read(content.as_bytes()).map_err(|fault| failed(format!("the new signature {fault}")))?;
    statement.judge(&agreement, department, &revoked, &seen, now).map_err(|fault| failed(format!("the new signature {fault}")))?;
    Ok(content)
}

/// The agreement in a file, whole and sound.
pub(super) fn agreement(file: &Path) -> Result<Agreement, Fault> {
    let unreadable = |e: io::Error| Fault::new(file.display(), format!("cannot be read: {e}"), "correct the path or its permissions");
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    Agreement::parse(&text).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|p| format!("line {}: {} ({})", p.line(&text), p.cause, p.remedy)).collect();
        Fault::new(file.display(), format!("is no complete agreement:\n{}", lines.join("\n")), "correct it; nothing was signed")
    })
}

fn no_party(agreement: &Agreement, department: &Name) -> Fault {
    let parties: Vec<&str> = agreement.parties.iter().map(|party| party.department.as_str()).collect();
    let cause = format!("'{department}' is no party of it; its parties are {}", parties.join(", "));
    Fault::new(format!("agreement '{}'", agreement.id), cause, "name the department as the agreement does; nothing was signed")
}

/// Which keys are revoked, and which are in succession, as a folder of agreements says, and as a folder of state has seen it where there
/// is one: a list or a statement that is gone is not forgotten.
pub(super) fn lists(folder: &Path, state: Option<&Path>) -> Result<(Revocations, Seen), Fault> {
    let unsound = |what: &'static str| {
        move |damaged: Damaged| {
            let cause = damaged.problems.first().map(|problem| format!(" ({})", problem.cause)).unwrap_or_default();
            let cause = format!("cannot be relied on{cause}, so nobody can tell which keys are {what}");
            Fault::new(damaged.path.display(), cause, "correct it; nothing was signed")
        }
    };
    let revoked = match state {
        Some(state) => files::revoked_ever(folder, state).map(|(revoked, _)| revoked),
        None => files::revoked(folder),
    };
    Ok((revoked.map_err(unsound("revoked"))?, kept::seen(folder, state).map_err(unsound("in succession"))?))
}

/// The key in a file, if it is the one by which the department signs now.
fn department_key(keys: &Keys<'_>, department: &Name, path: &Path) -> Result<SigningKey, Fault> {
    let key = private_key(path)?;
    let print = Fingerprint::of(key.public_spki());
    if !keys.signs(&print) {
        let agreed = keys.present().map(|(signing, _)| signing.to_string()).unwrap_or_default();
        let cause = format!("is the key {print}; the agreement names {agreed} as the key of '{department}', or it is in succession now");
        return Err(Fault::new(path.display(), cause, "sign with that key; nothing was signed"));
    }
    Ok(key)
}

/// The signing key in a file.
pub(super) fn private_key(path: &Path) -> Result<SigningKey, Fault> {
    let text = private_text(path)?;
    SigningKey::from_pem(&text).ok_or_else(|| {
        let cause = "is not an Ed25519 private key in PKCS#8 PEM";
        Fault::new(path.display(), cause, "name the department's key; openssl genpkey -algorithm ed25519 makes a new one")
    })
}

/// The text of a file that nobody else may read.
pub(super) fn private_text(path: &Path) -> Result<Zeroizing<String>, Fault> {
    let fault = |cause: String, remedy: &str| Fault::new(path.display(), cause, remedy);
    let text = std::fs::read_to_string(path).map_err(|e| fault(format!("cannot be read: {e}"), "correct the path or its permissions"))?;
    let text = Zeroizing::new(text);
    let mode = std::fs::metadata(path).map_or(0o777, |m| m.permissions().mode());
    if mode & 0o077 != 0 {
        let cause = format!("is a private key that others can read (mode {:o})", mode & 0o777);
        return Err(fault(cause, "chmod 600; if others could read it, replace the key"));
    }
    Ok(text)
}

/// Asks at the terminal.
pub(super) fn confirmed(department: &Name, to: &str) -> Result<(), Fault> {
    if !io::stdin().is_terminal() {
        return Err(Fault::new("terminal", "nobody sits there who could agree", "add --yes to agree to what is shown above"));
    }
    eprint(&format!("Type the department's name ({department}) to {to}:"));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && answer.trim() == department.as_str() {
        return Ok(());
    }
    Err(Fault::new("terminal", "nobody agreed, so nothing was changed", "read the text above, and run the command again"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{World, name, pem, signing_key};

    #[test]
    fn a_department_signs_what_it_holds_with_its_own_key() {
        let world = World::new();
        let (file, config) = (world.path("agreements/opportunity.toml"), world.path("node.toml"));
        world.unsign();
        let paths = Paths::read(&config).unwrap();
        assert_eq!(held(&paths, "opportunity-2026").unwrap(), file);
        let absent = held(&paths, "other").unwrap_err();
        assert!(absent.cause.contains("no agreement 'other'; there is: opportunity-2026"), "{absent:?}");
        let written = sign(&file, &name("dfe"), &paths.signing, None, true).unwrap();
        assert_eq!(written, world.path("agreements/opportunity.toml.dfe.sig"));
        let statement = files::find(&file, &name("dfe")).unwrap();
        assert_eq!(statement.judge(&world.agreement, &name("dfe"), &Default::default(), &Default::default(), Utc::now()), Ok(()));
        // Nobody sits at a terminal.
        assert!(sign(&file, &name("dfe"), &paths.signing, None, false).unwrap_err().remedy.contains("--yes"));
    }

    #[test]
    fn another_key_another_department_and_another_file_are_refused() {
        let world = World::new();
        world.unsign();
        let file = world.path("agreements/opportunity.toml");
        let own = world.path("keys/signing.key.pem");
        world.write("other.key.pem", &pem(&signing_key().1));
        world.write("broken.key.pem", "-----BEGIN PRIVATE KEY-----\n");
        world.write("agreements/broken.toml", "id = 1\n");
        for (file, department, key, says) in [
            (&file, "dfe", world.path("other.key.pem"), "the agreement names sha256:"),
            (&file, "dwp", own.clone(), "as the key of 'dwp'"),
            (&file, "dft", own.clone(), "'dft' is no party of it; its parties are dfe, dwp"),
            (&file, "dfe", world.path("broken.key.pem"), "is not an Ed25519 private key"),
            (&file, "dfe", world.path("none.pem"), "cannot be read"),
            (&world.path("agreements/broken.toml"), "dfe", own.clone(), "line 1: "),
        ] {
            let fault = sign(file, &name(department), &key, None, true).unwrap_err();
            assert!(fault.cause.contains(says), "{says}: {fault:?}");
        }
        let print = Fingerprint::of(world.signing.public_spki());
        let list = format!("[[key]]\nfingerprint = \"{print}\"\nreason = \"stolen\"\nsince = \"2026-05-01T10:00:00Z\"\n");
        for (list, says) in [
            (list.as_str(), "a key that it names of 'dfe', or that leads to its present one, is revoked"),
            ("rubbish", "cannot be relied on"),
        ] {
            world.write("agreements/revoked.toml", list);
            assert!(sign(&file, &name("dfe"), &own, None, true).unwrap_err().cause.contains(says), "{says}");
        }
        // Another party's, and one that only the node has seen revoked.
        std::fs::remove_file(world.path("agreements/revoked.toml")).unwrap();
        let state = world.path("state");
        world.write("state/revoked.toml", &list.replace(print.as_str(), Fingerprint::of(b"l").as_str()));
        let fault = sign(&file, &name("dfe"), &own, Some(&state), true).unwrap_err();
        assert!(fault.cause.contains("a key that it names of 'dwp'"), "{fault:?}");
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(sign(&file, &name("dfe"), &own, None, true).unwrap_err().cause.contains("others can read"));
        assert!(!world.path("agreements/opportunity.toml.dfe.sig").exists());
    }
}
