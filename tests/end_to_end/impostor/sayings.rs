//! What the impostor says: a stream of messages, honest or not, and a receipt, honest or not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::{Array as _, FixedSizeBinaryArray, RecordBatch};
use arrow_flight::{FlightData, FlightDescriptor};
use concordat_fuzz_targets::lies::{Honest, Lie, ROWS, rows_of};
use concordat_fuzz_targets::release_stream::encode;
use concordat_policy::{ColumnType, Name};
use concordat_proto::receipt::{AUDIENCE, Receipt};
use concordat_proto::release_stream::ReleaseMessage;
use concordat_proto::schema::split_points;

use super::node::Impostor;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Saying {
    Truth,
    /// Messages that lie.
    Stream(Lie),
    // Receipts.
    RowsOfReceipt,
    TenTimesTheRows,
    NoReceipt,
    ForgedReceipt,
    ReceiptOfAnotherOrder,
    ReceiptOfAnotherDataset,
    ReceiptForAnotherMission,
    ReceiptForAnotherPurpose,
    /// A purpose beneath the order's.
    ReceiptForANarrowerPurpose,
    ReceiptForNoPurpose,
    StaleConsent,
    /// Data of long ago, which not every agreement forbids.
    OldData,
    LongReceipt,
    RowsAfterReceipt,
    // Without an end.
    DictionariesForever,
    EmptyForever,
    RowsForever,
    Drip,
    Stall,
    /// After the last row that a join can need.
    StallAtTheEnd,
    // Orders.
    OneTicket,
    AMillionTickets,
    AnotherKey,
    /// A field that nobody asked for, large in memory: passed over.
    Descriptor,
}

/// What an order asked.
#[derive(Clone)]
pub struct Order {
    pub query_id: String,
    pub jti: String,
    pub mission: String,
    pub purpose: String,
    pub partitions: u32,
    pub columns: Vec<String>,
}

/// What is said to it.
pub struct Said {
    pub messages: Vec<FlightData>,
    pub then: Then,
}

/// What comes after that.
pub enum Then {
    End,
    Stall,
    /// Messages again and again, with a pause before each.
    Forever(Box<dyn Fn(u64) -> Vec<FlightData> + Send>, Duration),
}

impl Saying {
    pub fn say(self, by: &Impostor, order: &Order, partition: u32) -> Said {
        let kind = |name: &String| (name.clone(), if name == "conditionality" { ColumnType::Text } else { ColumnType::Boolean });
        let honest = Honest { columns: order.columns.iter().map(kind).collect(), partition, partitions: order.partitions };
        let truth = honest.batch(0, ROWS);
        let mut messages = match self {
            Self::Stream(lie) => lie.tell(&honest),
            Self::StallAtTheEnd => {
                let all = with_the_last(&honest);
                encode(&all.schema(), &[all])
            }
            _ => encode(&truth.schema(), &[truth]),
        };
        if self == Self::TenTimesTheRows {
            (1..10).for_each(|n| messages.extend(rows_of(&honest.batch(n * ROWS, ROWS))));
        }
        let then = match self {
            Self::Stall | Self::StallAtTheEnd => Then::Stall,
            Self::Drip => Then::Forever(more(honest, 1), Duration::from_millis(300)),
            Self::RowsForever => Then::Forever(more(honest, 65_536), Duration::ZERO),
            Self::EmptyForever => Then::Forever(more(honest, 0), Duration::ZERO),
            Self::DictionariesForever => {
                let dictionary = flight(honest.dictionary(24 << 20));
                Then::Forever(Box::new(move |_| vec![dictionary.clone()]), Duration::ZERO)
            }
            _ => Then::End,
        };
        if matches!(then, Then::End) && self != Self::NoReceipt {
            let rows = messages.last().cloned();
            messages.extend(rows.filter(|_| self == Self::RowsAfterReceipt));
            messages.push(self.receipt(by, order, partition));
        }
        let mut messages: Vec<FlightData> = messages.into_iter().map(flight).collect();
        if self == Self::Descriptor {
            messages[0].flight_descriptor = Some(FlightDescriptor { path: vec![String::new(); 4 << 20], ..FlightDescriptor::default() });
        }
        Said { messages, then }
    }

    fn receipt(self, by: &Impostor, order: &Order, partition: u32) -> ReleaseMessage {
        let now = chrono::Utc::now().timestamp();
        let version = by.consent_version.load(Ordering::Acquire);
        // Version 1 knows neither.
        let known = by.version.load(Ordering::Acquire) >= 2;
        let mission = if self == Self::ReceiptForAnotherMission { "opportunity" } else { order.mission.as_str() };
        let purpose = match self {
            Self::ReceiptForAnotherPurpose => "opportunity.measure".to_owned(),
            Self::ReceiptForANarrowerPurpose => format!("{}.region", order.purpose),
            _ => order.purpose.clone(),
        };
        let receipt = Receipt {
            iss: "node:dwp".into(),
            sub: if self == Self::ReceiptOfAnotherOrder { "another".into() } else { order.jti.clone() },
            aud: AUDIENCE.into(),
            nbf: now,
            exp: now + 60,
            query_id: order.query_id.clone(),
            mission: known.then(|| Name::parse(mission).unwrap()),
            purpose: (known && self != Self::ReceiptForNoPurpose).then(|| Name::parse(&purpose).unwrap()),
            dataset: if self == Self::ReceiptOfAnotherDataset { "pensions".into() } else { "claims".into() },
            partition,
            partitions: order.partitions,
            rows: ROWS as u64 + u64::from(self == Self::RowsOfReceipt),
            grouped: None,
            consent_version: if self == Self::StaleConsent { 0 } else { version },
            consent_generation: None,
            freshness: if self == Self::OldData { now - 2 * 3600 } else { now },
            log_entry: 1,
            denominators: None,
        };
        let key = if self == Self::ForgedReceipt { &by.other } else { &by.key };
        let token = if self == Self::LongReceipt { "x".repeat(1 << 20) } else { receipt.sign(key).unwrap() };
        ReleaseMessage { metadata: token.into_bytes().into(), ..ReleaseMessage::default() }
    }
}

/// The n-th `rows` rows of a release, without end.
fn more(honest: Honest, rows: usize) -> Box<dyn Fn(u64) -> Vec<FlightData> + Send> {
    Box::new(move |n| rows_of(&honest.batch(ROWS + usize::try_from(n).unwrap() * rows, rows)).into_iter().map(flight).collect())
}

/// The release, its last pseudonym the greatest of the partition.
fn with_the_last(honest: &Honest) -> RecordBatch {
    honest.changed(0, ROWS, |_, columns| {
        let end = split_points(honest.partitions).get(honest.partition as usize).map_or(u128::MAX, |bound| u128::from_be_bytes(*bound) - 1);
        let own = columns[0].as_any().downcast_ref::<FixedSizeBinaryArray>().unwrap();
        let all = own.iter().flatten().take(ROWS - 1).map(<[u8]>::to_vec).chain([end.to_be_bytes().to_vec()]);
        columns[0] = Arc::new(FixedSizeBinaryArray::try_from_iter(all).unwrap());
    })
}

fn flight(message: ReleaseMessage) -> FlightData {
    FlightData { data_header: message.header, data_body: message.body, app_metadata: message.metadata, flight_descriptor: None }
}
