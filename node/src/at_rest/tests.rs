//! What lies on disk opens where it was meant to, and nowhere else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::*;

const SECRET: &str = "m/p/229\n00112233\n";

fn passphrase(folder: &Path, text: &str) -> AtRest {
    let path = folder.join("passphrase");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    AtRest::under(Passphrase::read(&path).unwrap())
}

/// A key store of a few lines: it adds a word, and takes it away again.
fn script(folder: &Path, name: &str, body: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, body).unwrap();
    path
}

/// Read by the shell: a file that was just written may be busy.
fn command(path: &Path) -> Command {
    Command::new(&["/bin/sh".into(), path.display().to_string()]).unwrap()
}

const STORE: &str = "read line\ncase \"$1\" in wrap) echo \"kept:$line\" ;; unwrap) echo \"${line#kept:}\" ;; esac";

#[test]
fn what_was_sealed_opens_again_in_another_process_and_shows_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = script(folder.path(), "store", STORE);
    let ways: [fn(&Path, &Path) -> AtRest; 2] =
        [|folder, _| passphrase(folder, "correct horse battery staple\n"), |_, store| AtRest::under(command(store))];
    for way in ways {
        let sealed = way(folder.path(), &store).seal("here", SECRET).unwrap();
        assert!(sealed.starts_with("concordat key v1\n") && !sealed.contains("00112233") && !sealed.contains("m/p"), "{}", *sealed);
        let other = way(folder.path(), &store);
        assert_eq!(*other.open("here", &sealed).unwrap(), SECRET);
        assert!(matches!(other.open("elsewhere", &sealed), Err(AtRestError::DoesNotOpen)), "moved to another place");
        let again = other.seal("here", SECRET).unwrap();
        assert!(*again != *sealed, "a nonce is used once");
        for (what, altered) in [
            ("recipe", sealed.replacen("a", "b", 2).replacen("concordbt", "concordat", 1)),
            ("body", format!("{}AAAA\n", sealed.trim_end())),
            ("cut", sealed.lines().take(2).collect::<Vec<_>>().join("\n")),
            ("no body", "concordat key v1\n".into()),
        ] {
            assert!(other.open("here", &altered).is_err(), "{what}");
        }
    }
}

#[test]
fn clear_and_encrypted_are_not_taken_for_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let (clear, first) = (AtRest::default(), passphrase(folder.path(), "the first passphrase"));
    let sealed = first.seal("here", SECRET).unwrap();
    assert_eq!(*clear.open("here", &clear.seal("here", SECRET).unwrap()).unwrap(), SECRET);
    assert!(matches!(clear.open("here", &sealed), Err(AtRestError::Encrypted)));
    assert!(matches!(first.open("here", SECRET), Err(AtRestError::Clear)));
    let second = passphrase(folder.path(), "the second passphrase");
    for (after, before, text) in [(&first, &clear, SECRET), (&second, &first, &sealed), (&clear, &first, &sealed)] {
        let renewed = after.renewed(before, "here", text).unwrap().unwrap();
        assert_eq!(*after.open("here", &renewed).unwrap(), SECRET);
        assert!(after.renewed(before, "here", &renewed).unwrap().is_none(), "it is as it should be");
    }
    assert!(second.renewed(&clear, "here", &sealed).is_err());
    assert!(matches!(second.open("here", &sealed), Err(AtRestError::DoesNotOpen)));
    let store = AtRest::under(command(&script(folder.path(), "store", STORE)));
    assert!(matches!(store.open("here", &sealed), Err(AtRestError::OtherWay)));
}

#[test]
fn a_passphrase_that_is_short_or_that_others_can_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passphrase");
    for (text, mode, says) in [
        ("too short\n", 0o600, "less than 16 characters"),
        ("long enough, surely\n", 0o644, "others can read"),
        ("long enough, surely\n", 0o660, "others can read or change"),
        ("", 0o600, "less than 16"),
    ] {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let (cause, _) = Passphrase::read(&path).unwrap_err();
        assert!(cause.contains(says), "{cause}");
    }
    // As systemd lays down credentials.
    fs::write(&path, "long enough, surely\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
    assert_eq!(format!("{:?}", Passphrase::read(&path).unwrap()), "Passphrase");
}

#[test]
fn a_command_that_fails_hangs_or_lies_gives_no_key_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for (name, body, says) in [
        ("fails", "exit 3", "failed: exit status: 3"),
        ("silent", "read line", "one line of visible ASCII"),
        ("two", "echo a; echo b", "one line of visible ASCII"),
        ("floods", "while :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; done", "(wrap)"),
        ("other", "read line; case $1 in wrap) echo x ;; unwrap) head -c 32 /dev/zero | base64 ;; esac", "another key than it was given"),
        ("short", "read line; case $1 in wrap) echo x ;; unwrap) echo AAAA ;; esac", "no 32 bytes"),
    ] {
        let refused = AtRest::under(command(&script(folder.path(), name, body))).seal("here", SECRET).unwrap_err().to_string();
        assert!(refused.contains(says), "{name}: {refused}");
    }
    let started = Instant::now();
    let hangs = command(&script(folder.path(), "hangs", "exec sleep 60")).within(Duration::from_millis(300));
    let refused = AtRest::under(hangs).seal("here", SECRET).unwrap_err().to_string();
    assert!(refused.contains("did not answer in time") && started.elapsed() < Duration::from_secs(20), "{refused}");
    let nowhere = AtRest::under(Command::new(&["/nowhere/at/all".into()]).unwrap());
    assert!(nowhere.seal("here", SECRET).unwrap_err().to_string().contains("cannot be started"));
    assert!(Command::new(&["store".into()]).is_err() && Command::new(&[]).is_err());
}

#[test]
fn a_key_store_is_asked_once_for_each_of_its_keys() {
    let folder = tempfile::tempdir().unwrap();
    let calls = folder.path().join("calls");
    let store = script(folder.path(), "store", &format!("echo \"$1\" >> {}\n{STORE}", calls.display()));
    let at_rest = AtRest::under(command(&store));
    let sealed: Vec<_> = (0..3).map(|i| at_rest.seal(&i.to_string(), SECRET).unwrap()).collect();
    let other = AtRest::under(command(&store));
    for (i, sealed) in sealed.iter().enumerate() {
        assert_eq!(*other.open(&i.to_string(), sealed).unwrap(), SECRET);
    }
    assert_eq!(fs::read_to_string(calls).unwrap(), "wrap\nunwrap\nunwrap\n");
}
