//! The contract against its recorded versions: nothing that an older peer relies on may go or change, and what older peers wrote
//! is still understood. `tests/contracts/README.md` says how a version is recorded.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

use crate::order::{Order, digest};
use crate::receipt::{Receipt, Standing};
use crate::token::VerifyingKey;
use crate::{CONTRACT_VERSION, predicate, v1};
use concordat_policy::Name;
use concordat_policy::agreement::Fingerprint;

const PRESENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/contract.binpb"));
const RECORDED: [(u32, &[u8]); 2] =
    [(1, include_bytes!("../../tests/contracts/v1/contract.binpb")), (2, include_bytes!("../../tests/contracts/v2/contract.binpb"))];

/// Everything that goes over the wire, by its full name: what it is, in one line.
fn facts(files: &FileDescriptorSet) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    for file in &files.file {
        let package = file.package().to_owned();
        file.message_type.iter().for_each(|message| of_message(&mut facts, &package, message));
        file.enum_type.iter().for_each(|of| of_enum(&mut facts, &package, of));
        for service in &file.service {
            for method in &service.method {
                let streams = (method.client_streaming(), method.server_streaming());
                let name = format!("rpc {package}.{}/{}", service.name(), method.name());
                facts.insert(name, format!("{} to {}, streams {streams:?}", method.input_type(), method.output_type()));
            }
        }
    }
    facts
}

fn of_message(facts: &mut BTreeMap<String, String>, outer: &str, message: &DescriptorProto) {
    let name = format!("{outer}.{}", message.name());
    facts.insert(format!("message {name}"), String::new());
    for field in &message.field {
        let group = field.oneof_index.and_then(|index| message.oneof_decl.get(index as usize)).map_or("", |group| group.name());
        facts.insert(format!("field {name} {}", field.number()), of_field(field, group));
    }
    message.nested_type.iter().for_each(|nested| of_message(facts, &name, nested));
    message.enum_type.iter().for_each(|of| of_enum(facts, &name, of));
}

fn of_field(field: &FieldDescriptorProto, group: &str) -> String {
    format!("{} {:?} {:?} {} {group}", field.name(), field.label(), field.r#type(), field.type_name())
}

fn of_enum(facts: &mut BTreeMap<String, String>, outer: &str, of: &EnumDescriptorProto) {
    for value in &of.value {
        facts.insert(format!("enum {outer}.{} {}", of.name(), value.number()), value.name().to_owned());
    }
}

/// What of `before` is gone or different in `after`.
fn broken(before: &FileDescriptorSet, after: &FileDescriptorSet) -> Vec<String> {
    let (before, after) = (facts(before), facts(after));
    let gone = before.into_iter().filter(|(name, fact)| after.get(name) != Some(fact));
    gone.map(|(name, fact)| format!("{name}: was '{fact}', is {:?}", after.get(&name))).collect()
}

fn read(bytes: &[u8]) -> FileDescriptorSet {
    FileDescriptorSet::decode(bytes).unwrap()
}

#[test]
fn nothing_that_a_recorded_version_has_is_gone_or_different() {
    for (version, recorded) in RECORDED {
        let broken = broken(&read(recorded), &read(PRESENT));
        assert!(broken.is_empty(), "contract version {version} is broken: {broken:#?}");
        assert!(facts(&read(recorded)).len() > 150, "the recording holds the contract");
    }
}

#[test]
fn the_present_contract_is_recorded() {
    let (version, recorded) = RECORDED[RECORDED.len() - 1];
    assert_eq!(version, CONTRACT_VERSION);
    assert!(
        facts(&read(recorded)) == facts(&read(PRESENT)),
        "the contract has grown: if version {version} is released already, raise CONTRACT_VERSION; then record it:\n  \
         cp {}/contract.binpb tests/contracts/v{CONTRACT_VERSION}/",
        env!("OUT_DIR")
    );
}

/// The check above can fail: each way of breaking a peer is found, and growing is not.
#[test]
fn breaking_changes_are_found_and_additions_are_not() {
    type Change = fn(&mut FileDescriptorSet);
    fn message<'f>(files: &'f mut FileDescriptorSet, name: &str) -> &'f mut DescriptorProto {
        files.file.iter_mut().flat_map(|file| &mut file.message_type).find(|m| m.name() == name).unwrap()
    }
    let breaking: [(&str, Change); 9] = [
        ("a field is gone", |f| drop(message(f, "Description").field.remove(3))),
        ("a field has another number", |f| message(f, "Description").field[3].number = Some(40)),
        ("a field has another name", |f| message(f, "Description").field[3].name = Some("other".into())),
        ("a field has another type", |f| message(f, "Description").field[4].set_type(Type::Sint64)),
        ("a field is repeated", |f| message(f, "Description").field[4].set_label(Label::Repeated)),
        ("a field left its oneof", |f| message(f, "Predicate").field[0].oneof_index = None),
        ("a message is gone", |f| f.file.iter_mut().for_each(|file| file.message_type.retain(|m| m.name() != "AcceptResponse"))),
        ("an enum's value has another meaning", |f| {
            let basis = f.file.iter_mut().flat_map(|file| &mut file.enum_type).find(|e| e.name() == "Basis").unwrap();
            basis.value[1].name = Some("BASIS_STATUTORY".into());
        }),
        ("a call is gone", |f| {
            f.file.iter_mut().flat_map(|file| &mut file.service).filter(|s| s.name() == "Node").for_each(|s| s.method.clear());
        }),
    ];
    for (what, change) in breaking {
        let mut changed = read(PRESENT);
        change(&mut changed);
        assert!(!broken(&read(PRESENT), &changed).is_empty(), "not found: {what}");
    }
    let mut grown = read(PRESENT);
    let field = FieldDescriptorProto { name: Some("new".into()), number: Some(99), ..Default::default() };
    message(&mut grown, "Description").field.push(field);
    grown.file[0].message_type.push(DescriptorProto { name: Some("New".into()), ..Default::default() });
    assert_eq!(broken(&read(PRESENT), &grown), [""; 0]);
}

/// The moment of the recorded tokens, Unix seconds.
const RECORDED_AT: i64 = 1_764_000_000;

fn key() -> VerifyingKey {
    VerifyingKey::ed25519_spki(include_bytes!("../../tests/contracts/v1/key.spki")).unwrap()
}

fn key_of_version_2() -> VerifyingKey {
    VerifyingKey::ed25519_spki(include_bytes!("../../tests/contracts/v2/key.spki")).unwrap()
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

#[test]
fn messages_of_version_1_are_understood_to_the_last_field() {
    /// Decodes, and shows that nothing was left unread: what is written again is what was read.
    fn whole<M: prost::Message + Default>(bytes: &[u8]) -> M {
        let message = M::decode(bytes).unwrap();
        assert_eq!(message.encode_to_vec(), bytes);
        message
    }
    let description: v1::Description = whole(include_bytes!("../../tests/contracts/v1/description.binpb"));
    assert_eq!((description.contract_version, description.consent_version, description.time), (1, 12, RECORDED_AT));
    assert_eq!(description.consent_generation, 0, "absent: the first generation");
    let column = &description.datasets[0].columns[0];
    assert_eq!((column.name.as_str(), column.r#type.as_str(), column.values.len()), ("region", "text", 2));
    let sealed: v1::SealedKey = whole(include_bytes!("../../tests/contracts/v1/sealed_key.binpb"));
    assert_eq!((sealed.recipient.as_str(), sealed.domain.unwrap().epoch), ("dwp", 226));
    let records: v1::RecordRequest = whole(include_bytes!("../../tests/contracts/v1/record_request.binpb"));
    assert_eq!(records.records[0].event, "withdrawn");
}

#[test]
fn an_order_of_version_1_verifies_and_says_what_it_said() {
    let bytes: &[u8] = include_bytes!("../../tests/contracts/v1/release_order.binpb");
    let order = v1::ReleaseOrder::decode(bytes).unwrap();
    let certificate = Fingerprint::of(b"the gateway's certificate");
    let now = chrono::DateTime::from_timestamp(RECORDED_AT, 0).unwrap();
    let claims = Order::verify(&order.order, &order.request, &name("dwp"), &certificate, &key(), now).unwrap();
    assert_eq!((claims.request_sha256, claims.organisation.as_str()), (digest(&order.request), "mission-unit"));
    let request = v1::ReleaseRequest::decode(order.request.as_slice()).unwrap();
    assert_eq!(request.encode_to_vec(), order.request, "no field is unknown");
    assert_eq!((request.contract_version, request.partitions, request.basis()), (1, 2, v1::Basis::StatutoryHonouringObjections));
    let columns: Vec<String> =
        predicate::parse(request.predicate.as_ref().unwrap()).unwrap().columns().into_iter().map(str::to_owned).collect();
    assert_eq!(columns, ["age", "born", "claiming", "region", "score"], "every kind of condition and value");
}

#[test]
fn a_receipt_of_version_1_verifies_and_one_for_version_1_is_like_it() {
    let receipt = |text: &str, key| Receipt::verify(text.trim(), &name("dwp"), &key, RECORDED_AT).unwrap();
    let first = receipt(include_str!("../../tests/contracts/v1/receipt.jwt"), key());
    assert_eq!((first.rows, first.standing()), (100, Standing { generation: 0, version: 12 }));
    let second = receipt(include_str!("../../tests/contracts/v2/receipt.jwt"), key_of_version_2());
    assert_eq!((second.rows, second.standing()), (100, Standing { generation: 3, version: 12 }));
    // Each is for a purpose in the words of its own version only.
    let of = |receipt: &Receipt, spoken| receipt.is_for(&name("opportunity"), &name("opportunity.measure"), spoken);
    assert_eq!([of(&first, 1), of(&first, 2), of(&second, 1), of(&second, 2)], [true, false, false, true]);
    // Read strictly, as a gateway of version 1 does, the first has no claim that it does not know.
    let claims = |receipt: &Receipt| serde_json::to_value(receipt).unwrap().as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let known = "aud consent_version dataset exp freshness iss log_entry nbf partition partitions query_id rows sub";
    assert!(claims(&first).iter().map(String::as_str).eq(known.split(' ')), "{:?}", claims(&first));
    assert!(["consent_generation", "mission", "purpose"].iter().all(|claim| claims(&second).contains(*claim)));
}
