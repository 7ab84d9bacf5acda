    use crate::order::{Confirmation, Order, digest};
    use crate::receipt::Receipt;
    use crate::token::SigningKey;
    use crate::v1::{self, predicate::Condition, value::Value as V};
    use concordat_policy::Name;
    use concordat_policy::agreement::Fingerprint;
    use prost::Message as _;

    const AT: i64 = 1_764_000_000;

    #[test]
    fn record() {
        use aws_lc_rs::signature::Ed25519KeyPair;
        let to = std::path::PathBuf::from(std::env::var("RECORD_TO").unwrap());
        let document = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        let key = SigningKey::from_pkcs8(document.as_ref()).unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(to.join(name), bytes).unwrap();
        write("v1/key.spki", key.public_spki());
        let name = |t: &str| Name::parse(t).unwrap();
        let column = |n: &str, t: &str, values: &[&str]| v1::ColumnDescription {
            name: n.into(), r#type: t.into(), classification: "personal".into(), title: format!("The {n}"),
            values: values.iter().map(|v| (*v).into()).collect(),
        };
        write("v1/description.binpb", &v1::Description {
            contract_version: 1, department: "dwp".into(), signing_key: key.public_spki().to_vec(), linkage_key: vec![7; 32], consent_version: 12,
            datasets: vec![v1::DatasetDescription { name: "claims".into(), title: "Claims".into(), identifier_type: "nino".into(),
                columns: vec![column("region", "text", &["north", "south"]), column("score", "number", &[])], freshness: AT - 60 }],
            agreements: vec![v1::HeldAgreement { id: "opportunity".into(), digest: "ab".repeat(32), in_force: true }],
            time: AT, consent_generation: 0,
        }.encode_to_vec());
        let domain = v1::Domain { mission: "opportunity".into(), purpose: "opportunity.measure".into(), epoch: 226 };
        write("v1/sealed_key.binpb", &v1::SealedKey { domain: Some(domain.clone()), agreement: "opportunity".into(), agreement_digest: "ab".repeat(32),
            sender: "dfe".into(), sender_key: vec![1; 32], recipient: "dwp".into(), encapsulated: vec![2; 32], ciphertext: vec![3; 48] }.encode_to_vec());
        write("v1/record_request.binpb", &v1::RecordRequest { records: vec![v1::ConsentRecord { identifier: "QQ123456C".into(), identifier_type: "nino".into(),
            purpose: "opportunity".into(), event: "withdrawn".into() }] }.encode_to_vec());
        let value = |v| Some(v1::Value { value: Some(v) });
        let compare = |c: &str, how: v1::Comparison, v| v1::Predicate { condition: Some(Condition::Compare(v1::Compare { column: c.into(), comparison: how.into(), value: value(v) })) };
        let all = vec![
            compare("age", v1::Comparison::GreaterOrEqual, V::Integer(18)),
            compare("score", v1::Comparison::Less, V::Number(0.5)),
            compare("born", v1::Comparison::NotEqual, V::Date(12_000)),
            compare("claiming", v1::Comparison::Equal, V::Boolean(true)),
            v1::Predicate { condition: Some(Condition::Or(v1::Predicates { parts: vec![
                v1::Predicate { condition: Some(Condition::In(v1::In { column: "region".into(), values: vec![value(V::Text("north".into())).unwrap()] })) },
                v1::Predicate { condition: Some(Condition::IsTrue("claiming".into())) },
                v1::Predicate { condition: Some(Condition::Not(Box::new(v1::Predicate { condition: Some(Condition::IsNull("region".into())) }))) },
            ] })) },
        ];
        let request = v1::ReleaseRequest { contract_version: 1, query_id: "q-recorded".into(), domain: Some(domain), agreement: "opportunity".into(),
            agreement_digest: "ab".repeat(32), dataset: "claims".into(), columns: vec!["claiming".into()],
            predicate: Some(v1::Predicate { condition: Some(Condition::And(v1::Predicates { parts: all })) }), partitions: 2,
            basis: v1::Basis::StatutoryHonouringObjections.into() }.encode_to_vec();
        let order = Order { iss: crate::order::ISSUER.into(), sub: "analyst-1".into(), aud: "node:dwp".into(), nbf: AT, exp: AT + 60, jti: "recorded-order-1".into(),
            request_sha256: digest(&request), query_id: "q-recorded".into(), caller_issuer: "https://issuer.example.internal".into(), organisation: "mission-unit".into(),
            mission: name("opportunity"), purpose: name("opportunity.measure"), agreement: name("opportunity"), agreement_digest: "ab".repeat(32),
            cnf: Confirmation { thumbprints: vec![Fingerprint::of(b"the gateway's certificate").to_string()] } };
        write("v1/release_order.binpb", &v1::ReleaseOrder { order: order.sign(&key).unwrap(), request }.encode_to_vec());
        let receipt = Receipt { iss: "node:dwp".into(), sub: "recorded-order-1".into(), aud: crate::receipt::AUDIENCE.into(), nbf: AT, exp: AT + 300, query_id: "q-recorded".into(),
            dataset: "claims".into(), partition: 0, partitions: 2, rows: 100, consent_version: 12, consent_generation: None, freshness: AT - 60, log_entry: 5 };
        write("v1/receipt.jwt", format!("{}\n", receipt.sign(&key).unwrap()).as_bytes());
        let mut second = serde_json::to_value(&receipt).unwrap();
        second["consent_generation"] = 3.into();
        write("v2/receipt.jwt", format!("{}\n", key.sign(crate::receipt::TYPE, None, &second).unwrap()).as_bytes());
    }
