use std::sync::atomic::{AtomicBool, Ordering};

use chrono::TimeDelta;
use concordat_policy::{Cause, Code, Rail};

use super::*;
use crate::testing::{folder, known, name, settings, told, write};

const PEOPLE: &str = r#"
// Analysts of the unit, and nobody else.
@id("analysts")
permit(principal, action, resource in Purpose::"opportunity")
when { principal.organisation == "mission-unit" && principal.roles.contains("analyst") };

@id("training")
@advice("renew your training, then sign in again")
forbid(principal, action, resource)
unless { principal has training_until && context.time < principal.training_until };
"#;

const CIRCUMSTANCES: &str = r#"
@id("office-hours")
@advice("ask between 8 and 18 on a working day")
forbid(principal, action, resource)
when { context.hour < 8 || context.hour >= 18 || context.weekday > 5 };

@id("network")
@advice("connect from the department's network")
forbid(principal, action, resource)
unless { context.address.isInRange(ip("10.0.0.0/8")) };
"#;

/// A Wednesday in summer, 16:30 in London.
fn wednesday() -> DateTime<Utc> {
    "2026-07-01T15:30:00Z".parse().unwrap()
}

struct Asks {
    organisation: &'static str,
    roles: BTreeSet<String>,
    training: Option<DateTime<Utc>>,
    purpose: Name,
    mission: Name,
    address: Option<IpAddr>,
}

impl Asks {
    fn well() -> Self {
        Self {
            organisation: "mission-unit",
            roles: ["analyst".to_owned()].into(),
            training: Some(wednesday() + TimeDelta::days(30)),
            purpose: name("opportunity.measure"),
            mission: name("opportunity"),
            address: Some("10.1.2.3".parse().unwrap()),
        }
    }

    fn claim(&self) -> Claim<'_> {
        Claim {
            organisation: self.organisation,
            roles: &self.roles,
            issuer: "https://id.example",
            training_until: self.training,
            purpose: &self.purpose,
            mission: &self.mission,
            address: self.address,
        }
    }
}

fn open(files: &[(&str, &str)]) -> Result<ClaimGuard, String> {
    let folder = folder(files);
    ClaimGuard::open(Some(&settings(folder.path())), &known()).map_err(|damage| told(folder.path(), &damage))
}

/// Which rail decides against it; `-` where none permits it, empty where it is permitted.
fn decided(guard: &ClaimGuard, asks: &Asks, now: DateTime<Utc>) -> String {
    match guard.decide(&asks.claim(), now) {
        Ok(()) => String::new(),
        Err(refusal) => match refusal.because.as_deref() {
            Some(Cause::Guard { department: None, rail: Some(rail), failed }) => format!("{}{}", rail.id, if *failed { "!" } else { "" }),
            Some(Cause::Guard { rail: None, .. }) => "-".into(),
            _ => refusal.code.as_str().into(),
        },
    }
}

#[test]
fn people_and_circumstances_decide() {
    let guard = open(&[("people.cedar", PEOPLE), ("circumstances.cedar", CIRCUMSTANCES)]).unwrap();
    let (at, day) = (|text: &str| text.parse::<DateTime<Utc>>().unwrap(), wednesday());
    let asks = Asks::well;
    let from = |text: &str| Some(text.parse().unwrap());
    for (what, asks, now, rail) in [
        ("all is well", asks(), day, ""),
        ("another organisation", Asks { organisation: "other", ..asks() }, day, "-"),
        ("no role", Asks { roles: BTreeSet::new(), ..asks() }, day, "-"),
        ("the wider purpose is permitted too", Asks { purpose: name("opportunity"), ..asks() }, day, ""),
        ("a purpose beside", Asks { purpose: name("health"), ..asks() }, day, "-"),
        ("training is over", Asks { training: Some(day), ..asks() }, day, "training"),
        ("no training", Asks { training: None, ..asks() }, day, "training"),
        ("17:59 in London", asks(), at("2026-07-01T16:59:59Z"), ""),
        ("18:00 in London, 17:00 in UTC", asks(), at("2026-07-01T17:00:00Z"), "office-hours"),
        ("in winter 17:00 is 17:00", asks(), at("2026-01-07T17:00:00Z"), ""),
        ("a Sunday", asks(), at("2026-07-05T12:00:00Z"), "office-hours"),
        ("another network", Asks { address: from("192.0.2.7"), ..asks() }, day, "network"),
        ("the same, written as IPv6", Asks { address: from("::ffff:10.1.2.3"), ..asks() }, day, ""),
        ("IPv6", Asks { address: from("2001:db8::1"), ..asks() }, day, "network"),
        ("from nowhere", Asks { address: None, ..asks() }, day, "internal"),
        ("a purpose that was not there", Asks { purpose: name("new"), ..asks() }, day, "internal"),
        ("two at once: the first by name", Asks { training: None, address: from("192.0.2.7"), ..asks() }, day, "network"),
    ] {
        assert_eq!(decided(&guard, &asks, now), rail, "{what}");
    }
}

#[test]
fn a_refusal_names_rail_file_owner_and_way_out() {
    let guard = open(&[("people.cedar", PEOPLE)]).unwrap();
    let refusal = guard.decide(&Asks { training: None, ..Asks::well() }.claim(), wednesday()).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the guard rail 'training' of the gateway (people.cedar) forbids this request (renew your training, then sign in again)"
    );
    assert_eq!((refusal.code, refusal.department.as_deref()), (Code::Denied, None));
    assert_eq!(refusal.cause().and_then(|cause| cause.owner()).as_deref(), Some("the gateway"));
    let nobody = guard.decide(&Asks { organisation: "other", ..Asks::well() }.claim(), wednesday()).unwrap_err();
    assert!(nobody.to_string().starts_with("no guard rail of the gateway permits this request (ask who keeps"), "{nobody}");
}

#[test]
fn without_a_folder_nothing_is_narrowed_and_an_empty_one_is_a_mistake() {
    let none = ClaimGuard::open(None, &known()).unwrap();
    assert_eq!((decided(&none, &Asks::well(), wednesday()), none.loaded(), none.reload(&known()).unwrap()), (String::new(), None, None));
    let none_of_them = [("readme.txt", "not a rail")];
    for empty in [&none_of_them[..0], &none_of_them[..]] {
        assert!(
            open(empty).unwrap_err().ends_with("guard: holds no *.cedar file; put the guard rails there; to have none, remove [guard]")
        );
    }
    for nothing in ["", "\n", "// all that is left of a rail"] {
        let found = open(&[("people.cedar", PEOPLE), ("z.cedar", nothing)]).unwrap_err();
        assert_eq!(found, "guard/z.cedar: holds no guard rail; write one, or remove the file");
    }
}

/// Cedar leaves the failing `forbid` out and would permit.
#[test]
fn an_error_of_evaluation_denies_whatever_else_permits() {
    let broken = "@id(\"broken\") @advice(\"none\")\nforbid(principal, action, resource)\nwhen { context.hour * 9223372036854775807 > 0 };";
    let failing = "@id(\"failing\")\npermit(principal, action, resource) when { context.weekday * 9223372036854775807 > 0 };";
    for (text, rail) in [(broken, "broken!"), (failing, "failing!")] {
        let guard = open(&[("people.cedar", PEOPLE), ("z.cedar", text)]).unwrap();
        assert_eq!(decided(&guard, &Asks::well(), wednesday()), rail);
        let refusal = guard.decide(&Asks::well().claim(), wednesday()).unwrap_err();
        assert!(refusal.operator.as_deref().is_some_and(|text| text.contains("overflow")) && !refusal.to_string().contains("overflow"));
    }
}

#[test]
fn every_mistake_is_found_where_it_stands() {
    let scope = "(principal, action, resource);";
    let permit = |before: &str, rest: &str| format!("{before}\npermit(principal, action, resource){rest};");
    for (text, says) in [
        ("permit(principal, action, resource)\nwhen { principal.organisation = \"x\" };".to_owned(), "z.cedar:2:"),
        (permit("@id(\"a\")", " when { principal.team == \"x\" }"), "z.cedar:2:44: "),
        (permit("@id(\"a\")", " when { principal.training_until > context.time }"), "unable to guarantee safety of access to optional"),
        (permit("@id(\"a\")", " when { context.hour == \"9\" }"), "z.cedar:2:"),
        (permit("@id(\"a\")", " when { context.hour < 8 && context.hour > 9 && false }"), "z.cedar:"),
        (permit("@id(\"a\")", " when { principal.organisation == \"mission-unіt\" }"), "mend the rule"),
        (permit("", ""), "z.cedar:2:1: a guard rail has no name"),
        (permit("@id(\"Not A Name\")", ""), "is no name of a guard rail"),
        (permit("@id(\"a\") @owner(\"x\")", ""), "@owner means nothing here"),
        (format!("\n @id(\"a\")\nforbid{scope}"), "z.cedar:2:2: a forbid says no way out"),
        (format!("@id(\"a\") @advice(\"\")\nforbid{scope}"), "an advice is empty"),
        ("@id(\"a\")\npermit(principal == Caller::\"u\", action, resource);".to_owned(), "callers have no names here"),
        (permit("@id(\"a\")", " when { principal == Caller::\"u\" }"), "callers have no names here"),
        ("@id(\"a\")\npermit(principal, action, resource in Purpose::\"oportunity\");".to_owned(), "Purpose::\"oportunity\" here"),
        (permit("@id(\"a\")", " when { context.mission == Mission::\"opportunіty\" }"), "opportun\\u{456}ty"),
        ("@id(\"a\")\npermit(principal, action == Action::\"release\", resource);".to_owned(), "z.cedar:"),
        ("@id(\"a\")\npermit(principal == ?principal, action, resource);".to_owned(), "holds a template"),
        (format!("{}\n{}", permit("@id(\"a\")", ""), permit("@id(\"a\")", "")), "two guard rails are called 'a'"),
        (permit("@id(\"training\")", ""), "'training': one in people.cedar, one in z.cedar"),
    ] {
        let found = open(&[("people.cedar", PEOPLE), ("z.cedar", &text)]).err().unwrap_or_else(|| panic!("taken: {text}"));
        assert!(found.contains(says) && found.contains("; "), "{text}\n{found}\nlacks {says}");
    }
    assert!(open(&[("Über.cedar", PEOPLE)]).unwrap_err().contains("not one that a refusal could show"));
    let nowhere = ClaimGuard::open(Some(&settings(Path::new("/nowhere"))), &known()).unwrap_err();
    assert!(nowhere[0].to_string().starts_with("/nowhere/guard: cannot be read"), "{nowhere:?}");
}

/// Whatever is asked fits the schema: what validation promised of the rails holds.
#[test]
fn what_is_asked_fits_the_schema() {
    use cedar_policy::{Context, Entities, Entity, EntityUid, Request};
    let validator = Side::Gateway.validator().unwrap();
    let kept = crate::moment::Moment::new(wednesday(), chrono_tz::Tz::UTC);
    let mut context = kept.context().to_vec();
    context.push(("mission".into(), RestrictedExpression::new_entity_uid("Mission::\"opportunity\"".parse().unwrap())));
    context.push(("address".into(), RestrictedExpression::new_ip("10.0.0.1")));
    let uid = |text: &str| text.parse::<EntityUid>().unwrap();
    let (caller, action, resource) = (uid("Caller::\"\""), uid("Action::\"claim_purpose\""), uid("Purpose::\"health\""));
    let attributes = HashMap::from([
        ("organisation".into(), RestrictedExpression::new_string("o".into())),
        ("issuer".into(), RestrictedExpression::new_string("i".into())),
        ("roles".into(), RestrictedExpression::new_set([])),
        ("training_until".into(), datetime(wednesday())),
    ]);
    let entity = Entity::new(caller.clone(), attributes, [].into()).unwrap();
    Entities::from_entities([entity], Some(validator.schema())).unwrap();
    let context = Context::from_pairs(context).unwrap();
    Request::new(caller, action, resource, context, Some(validator.schema())).unwrap();
}

#[test]
fn a_mistake_in_one_file_leaves_the_old_rails_in_force() {
    let folder = folder(&[("people.cedar", PEOPLE), ("circumstances.cedar", CIRCUMSTANCES)]);
    let guard = ClaimGuard::open(Some(&settings(folder.path())), &known()).unwrap();
    let before = guard.loaded().unwrap();
    assert_eq!((before.rails, before.files), (4, 2));
    write(folder.path(), &[("circumstances.cedar", "@id(\"x\")\npermit(principal action, resource);")]);
    let damage = guard.reload(&known()).unwrap_err();
    assert!(told(folder.path(), &damage).starts_with("guard/circumstances.cedar:2:18: "), "{}", told(folder.path(), &damage));
    assert_eq!((guard.loaded().unwrap(), decided(&guard, &Asks::well(), wednesday())), (before.clone(), String::new()));
    write(folder.path(), &[("circumstances.cedar", "@id(\"none\") @advice(\"wait\")\nforbid(principal, action, resource);")]);
    let after = guard.reload(&known()).unwrap().unwrap();
    assert!(after.digest != before.digest && after.rails == 3);
    assert_eq!(decided(&guard, &Asks::well(), wednesday()), "none");
    write(folder.path(), &[("circumstances.cedar", "")]);
    assert!(guard.reload(&known()).is_err());
    for file in ["circumstances.cedar", "people.cedar"] {
        std::fs::remove_file(folder.path().join("guard").join(file)).unwrap();
    }
    assert!(guard.reload(&known()).is_err());
    assert_eq!(decided(&guard, &Asks::well(), wednesday()), "none");
    std::fs::remove_dir_all(folder.path().join("guard")).unwrap();
    assert!(guard.reload(&known()).is_err());
    assert_eq!(decided(&guard, &Asks::well(), wednesday()), "none");
}

/// Set A forbids by two rails in two files, those of set B never match: a mixture would forbid by the second alone, which no set does.
#[test]
fn a_reload_is_atomic_under_load() {
    let forbid = |id: &str, when: &str| format!("@id(\"{id}\") @advice(\"wait\")\nforbid(principal, action, resource) when {{ {when} }};");
    let (first, second) = (forbid("a-first", "context.hour >= 0"), forbid("b-second", "context.hour >= 0"));
    let (never, neither) = (forbid("a-first", "context.hour < 0"), forbid("b-second", "context.hour < 0"));
    let folder = folder(&[("people.cedar", PEOPLE), ("a.cedar", &first), ("b.cedar", &second)]);
    let guard = ClaimGuard::open(Some(&settings(folder.path())), &known()).unwrap();
    let (stop, asks) = (AtomicBool::new(false), Asks::well());
    std::thread::scope(|scope| {
        let load: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let (mut permitted, mut forbidden) = (0, 0);
                    while !stop.load(Ordering::Relaxed) {
                        match decided(&guard, &asks, wednesday()).as_str() {
                            "" => permitted += 1,
                            "a-first" => forbidden += 1,
                            other => panic!("'{other}' is of neither set"),
                        }
                    }
                    (permitted, forbidden)
                })
            })
            .collect();
        for round in 0..40 {
            let (a, b) = if round % 2 == 0 { (never.as_str(), neither.as_str()) } else { (first.as_str(), second.as_str()) };
            write(folder.path(), &[("a.cedar", a), ("b.cedar", b)]);
            guard.reload(&known()).unwrap();
            // A file that cannot be used changes nothing, however often it is tried.
            write(folder.path(), &[("b.cedar", "forbid(")]);
            guard.reload(&known()).unwrap_err();
        }
        stop.store(true, Ordering::Relaxed);
        let counts: Vec<(usize, usize)> = load.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(counts.iter().any(|(permitted, _)| *permitted > 0) && counts.iter().any(|(_, forbidden)| *forbidden > 0), "{counts:?}");
    });
}

/// The order of files changes nothing, and one more `forbid` never permits more.
#[test]
fn order_changes_nothing_and_a_forbid_never_widens() {
    let extra = "@id(\"extra\") @advice(\"wait\")\nforbid(principal, action, resource == Purpose::\"health\");\n@id(\"all\")\npermit(principal, action, resource);";
    let one = open(&[("a.cedar", PEOPLE), ("b.cedar", CIRCUMSTANCES), ("c.cedar", extra)]).unwrap();
    let other = open(&[("a.cedar", extra), ("b.cedar", PEOPLE), ("c.cedar", CIRCUMSTANCES)]).unwrap();
    let more = "@id(\"more\") @advice(\"wait\")\nforbid(principal, action, resource) when { principal.roles.contains(\"visitor\") };";
    let narrowed = open(&[("a.cedar", PEOPLE), ("b.cedar", CIRCUMSTANCES), ("c.cedar", extra), ("d.cedar", more)]).unwrap();
    for purpose in ["opportunity", "opportunity.measure", "health"] {
        for role in ["analyst", "visitor"] {
            for hours in 0..48 {
                let asks = Asks { purpose: name(purpose), roles: [role.to_owned()].into(), ..Asks::well() };
                let now = wednesday() + TimeDelta::hours(hours);
                let decision = decided(&one, &asks, now);
                assert_eq!(decision, decided(&other, &asks, now));
                assert!(decision.is_empty() || !decided(&narrowed, &asks, now).is_empty(), "{purpose} {role} {hours}");
            }
        }
    }
    let rail = Rail { id: name("training"), file: name("b.cedar") };
    let refusal = other.decide(&Asks { training: None, ..Asks::well() }.claim(), wednesday()).unwrap_err();
    assert!(matches!(refusal.because.as_deref(), Some(Cause::Guard { rail: Some(found), .. }) if *found == rail));
}

/// What the README shows is taken as it stands there.
#[test]
fn the_examples_of_the_readme_are_taken() {
    let readme = include_str!("../../../README.md");
    let blocks: Vec<&str> = readme.split("```cedar\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let [people, circumstances, own] = blocks.as_slice() else { panic!("{} examples", blocks.len()) };
    let guard = open(&[("people.cedar", people), ("circumstances.cedar", circumstances)]).unwrap();
    assert_eq!(decided(&guard, &Asks::well(), wednesday()), "");
    let folder = folder(&[("own.cedar", own)]);
    crate::ReleaseGuard::open(name("dwp"), Some(&settings(folder.path())), &known()).unwrap();
}

/// Rails are laid out by the purpose in their scope. The same rule as a condition is looked at always: both decide alike.
#[test]
fn the_layout_by_scope_changes_no_decision() {
    let mut seed = 7u64;
    let mut draw = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let (mut in_scope, mut as_condition) = (String::new(), String::new());
    for number in 0..60 {
        let effect = if draw(3) == 0 { "permit" } else { "forbid" };
        let purpose = ["opportunity", "opportunity.measure", "health"][usize::try_from(draw(3)).unwrap()];
        let place = format!("resource {} Purpose::\"{purpose}\"", if draw(2) == 0 { "==" } else { "in" });
        let (hour, more) = (draw(24), if draw(10) == 0 { " && (context.hour + 1) * 9223372036854775807 > 0" } else { "" });
        let when = format!("context.hour == {hour}{more}");
        let head = format!("@id(\"rail-{number}\") @advice(\"wait\")\n{effect}(principal, action, ");
        in_scope += &format!("{head}{place}) when {{ {when} }};\n");
        as_condition += &format!("{head}resource) when {{ {place} }} when {{ {when} }};\n");
    }
    let (laid_out, plain) = (open(&[("a.cedar", &in_scope)]).unwrap(), open(&[("a.cedar", &as_condition)]).unwrap());
    let mut decisions = BTreeSet::new();
    for purpose in ["opportunity", "opportunity.measure", "health"] {
        for hours in 0..24 {
            let (asks, now) = (Asks { purpose: name(purpose), ..Asks::well() }, wednesday() + TimeDelta::hours(hours));
            let decision = decided(&laid_out, &asks, now);
            assert_eq!(decision, decided(&plain, &asks, now), "{purpose} {now}");
            decisions.insert(decision);
        }
    }
    assert!(decisions.len() > 10 && decisions.contains("-") && decisions.iter().any(|decision| decision.ends_with('!')), "{decisions:?}");
}
