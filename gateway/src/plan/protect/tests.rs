//! The operator as it runs.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use concordat_policy::Disclosure;
use concordat_policy::disclosure::{Margins, Telling};
use concordat_protect::noise::Secret;
use datafusion::arrow::array::{ArrayRef, Int64Array};
use datafusion::arrow::datatypes::Schema;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::memory_pool::{MemoryPool, UnboundedMemoryPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use futures::StreamExt as _;

use super::*;

/// How many values each of two keys has: enough for the search to take a while.
const VALUES: i64 = 20;

/// Exact counts by two keys, about one in six of few people.
fn counts() -> Arc<dyn ExecutionPlan> {
    let places = || (0..VALUES * VALUES).map(|place| (place / VALUES, place % VALUES));
    let column = |of: fn((i64, i64)) -> i64| Arc::new(places().map(of).collect::<Int64Array>()) as ArrayRef;
    let keys = [("k0", column(|(one, _)| one)), ("k1", column(|(_, other)| other))];
    let people = column(|(one, other)| (one * 37 + other * 23 + one * other * 7) % 60);
    let batch = |columns: Vec<(&str, ArrayRef)>| {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
    };
    let domain = Some(batch(keys.to_vec()));
    let groups = batch(keys.into_iter().chain([("n", people)]).collect());
    let disclosure = Disclosure {
        dominance: BTreeSet::new(),
        p_percent: 0,
        round_to: 1,
        complement: Telling::Shown,
        margins: Margins::Protected,
        ..Disclosure::default()
    };
    let value = Value {
        kind: Kind::Rows,
        column: 2,
        contributors: 2,
        contributed: Vec::new(),
        through: Vec::new(),
        rests: Vec::new(),
        number: None,
        condition: None,
        whole: true,
    };
    let (values, known, secret, mask) = (vec![value], Vec::new(), Secret::new([3; 16]), "m".to_owned());
    let rule = Rule { keys: 2, sets: None, values, subjects: 2, known, kinds: Vec::new(), minimum: 10, disclosure, secret, domain, mask };
    let fields = groups.schema().fields().iter().cloned().chain([Arc::new(Field::new("m", DataType::UInt64, false))]).collect::<Vec<_>>();
    let input = MemorySourceConfig::try_new_exec(&[vec![groups.clone()]], groups.schema(), None).unwrap();
    over(Arc::new(ProtectExec { rule: Arc::new(rule), schema: Arc::new(Schema::new(fields)) }), input).unwrap()
}

/// The search for further groups to withhold is over soon after nobody reads its result any more, and its memory is given back.
#[tokio::test]
async fn work_ends_when_its_reader_is_gone() {
    let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool.clone()).build_arc().unwrap();
    let (plan, context) = (counts(), Arc::new(TaskContext::default().with_runtime(runtime)));

    let begun = Instant::now();
    let told: Vec<RecordBatch> = plan.execute(0, context.clone()).unwrap().try_collect().await.unwrap();
    let to_its_end = begun.elapsed();
    assert_eq!(told.iter().map(RecordBatch::num_rows).sum::<usize>(), 400);
    assert_eq!(pool.reserved(), 0);

    let mut reading = plan.execute(0, context.clone()).unwrap();
    while pool.reserved() == 0 {
        assert!(futures::poll!(reading.next()).is_pending(), "it ended before it was seen to work");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(reading);
    let gone = Instant::now();
    while pool.reserved() > 0 {
        assert!(
            gone.elapsed() < to_its_end / 2,
            "{:?} after its reader has gone it works on; all of it takes {to_its_end:?}",
            gone.elapsed()
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(plan.execute(1, context).is_err(), "it has one partition");
}
