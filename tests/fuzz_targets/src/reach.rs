//! Changes of the lists of those whose choices reach other departments' data, as a node sends them.
//!
//! ```text
//! messages: length (16 bits, big-endian) │ a ReachChanges' protobuf │ …
//! ```

use concordat_proto::reach::{PER_MESSAGE, Reading};
use concordat_proto::v1::ReachChanges;
use prost::Message as _;

use crate::memory::within;

/// The most pseudonyms that are taken.
const MOST: usize = 64;

/// The target.
pub fn reach(data: &[u8]) {
    let limit = 16 * data.len() + (16 << 10);
    let Some((reading, ended)) = within(limit, || read(data)) else { return };
    let Ok(changes) = reading.changes() else { return };
    for all in [&changes.added, &changes.removed] {
        assert!(all.windows(2).all(|two| two[0] < two[1]), "pseudonyms that do not ascend were taken");
    }
    assert!(changes.added.len() + changes.removed.len() <= MOST);
    assert!(changes.removed.iter().all(|removed| !changes.added.contains(removed)), "a pseudonym is added and removed");
    let mut again = Reading::new(MOST);
    let messages: Vec<ReachChanges> = changes.clone().messages("statement".into()).collect();
    assert!(messages.iter().all(|message| message.encoded_len() <= 16 * PER_MESSAGE + 16));
    let statements: Vec<String> = messages.into_iter().filter_map(|message| again.take(message).unwrap()).collect();
    assert_eq!(statements, ["statement"]);
    assert!(again.changes().unwrap() == changes, "changes are read again as other ones");
    assert!(ended <= 1, "a message after the statement was taken");
}

/// What is taken of the messages, and how many statements; nothing where one is refused.
fn read(mut data: &[u8]) -> Option<(Reading, usize)> {
    let (mut reading, mut ended) = (Reading::new(MOST), 0);
    while let Some((length, rest)) = data.split_first_chunk::<2>() {
        let (message, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        ended += usize::from(reading.take(ReachChanges::decode(message).ok()?).ok()?.is_some());
        data = rest;
    }
    Some((reading, ended))
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let input = |messages: &[ReachChanges]| {
        let framed = |message: &ReachChanges| {
            let bytes = message.encode_to_vec();
            [u16::try_from(bytes.len()).unwrap().to_be_bytes().as_slice(), &bytes].concat()
        };
        messages.iter().flat_map(framed).collect()
    };
    let all = |of: &[u8]| of.iter().flat_map(|n| [*n; 16]).collect::<Vec<u8>>();
    let part = |added: &[u8], removed: &[u8]| ReachChanges { added: all(added), removed: all(removed), statement: String::new() };
    let end = ReachChanges { statement: "a.b.c".into(), ..Default::default() };
    vec![
        input(&[part(&[1, 3], &[]), part(&[4], &[2]), part(&[], &[5, 9]), end.clone()]),
        input(&[part(&[3, 1], &[]), end.clone()]),
        input(&[part(&[7], &[7]), end.clone()]),
        input(&[end.clone(), end]),
    ]
}
