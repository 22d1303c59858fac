//! Copies into a stream, whose filters may change once nothing that was sent under the old ones is unconfirmed.

use hydrant_core::budget::Budget;
use hydrant_core::clock;
use hydrant_core::stream::{OpenAt, SharedStream, Stream};
use hydrant_stream::delivery::{Keys, deliver};

use super::*;
use crate::transform_stage::TransformStage;

/// Ten records, of which the fifth is no JSON, read two at a time.
fn poisoned() -> Arc<MemoryStream> {
    let stream = memory_stream(1);
    stream.batch_appends(2);
    for n in 0..10 {
        let payload: &[u8] = if n == 4 { b"{" } else { b"{\"a\":1}" };
        stream.append_payload("a", payload);
    }
    stream
}

async fn spec_into(from: &Arc<MemoryStream>, to: &SharedStream, on_poison: OnPoison) -> RunSpec {
    let filter = RecordFilter::new(vec!["/a=1".parse().unwrap()], on_poison);
    let (input, context): (SharedStream, _) = (Arc::clone(from) as _, context(1, 1 << 20));
    let delivery = deliver(&input, to, Keys::Kept, &context).await.unwrap();
    let pin = Some(filter.digest().to_owned());
    let stage = TransformStage {
        name: STAGE,
        app: "app".to_owned(),
        input: from.id().clone(),
        tally: Arc::clone(&filter.tally),
        transform: Arc::new(filter),
        delivery,
        context,
    };
    RunSpec {
        pin,
        ..spec(from, stage)
    }
}

fn output() -> SharedStream {
    let clock = Arc::new(clock::SystemClock);
    Arc::new(MemoryStream::lettered("output", 1, clock))
}

/// The number of records in an output.
async fn stored(output: &SharedStream) -> usize {
    let at = OpenAt::After {
        progress: Progress::default(),
        parents: Vec::new(),
    };
    let (shard, budget) = ("a".into(), Budget::new(1 << 20));
    let mut reader = output.reader(&shard, at, &budget).await.unwrap();
    let mut records = 0;
    while let Read::Batch(batch) = reader.next().await.unwrap() {
        records += batch.len();
    }
    records
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_stopped_at_poison_continues_as_its_message_says() {
    let (from, output) = (poisoned(), output());
    let spec = spec_into(&from, &output, OnPoison::Stop).await;
    let error = RunningWorker::start(spec).ended().await.unwrap_err();
    assert!(
        error.to_string().contains("`--on-poison dead-letter`"),
        "{error}"
    );
    assert_eq!(stored(&output).await, 4);
    let spec = spec_into(&from, &output, OnPoison::DeadLetter).await;
    RunningWorker::start(spec).ended().await.unwrap();
    assert_eq!(stored(&output).await, 9);
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_waits_at_poison_can_be_stopped_and_changed() {
    let (from, output) = (poisoned(), output());
    let spec = spec_into(&from, &output, OnPoison::Retry).await;
    let worker = RunningWorker::start(spec);
    clock::sleep(Duration::from_secs(12)).await;
    assert!(!worker.has_ended());
    worker.drained().await.unwrap();
    assert_eq!(stored(&output).await, 4);
    let spec = spec_into(&from, &output, OnPoison::DeadLetter).await;
    RunningWorker::start(spec).ended().await.unwrap();
    assert_eq!(stored(&output).await, 9);
}

/// A process that was killed may have sent more than its successor, which meets the poison, can confirm.
#[tokio::test(start_paused = true)]
async fn a_copy_that_was_killed_and_cannot_catch_up_stays_pinned_and_says_the_way_out() {
    let (from, output) = (poisoned(), output());
    let worker = RunningWorker::start(spec_into(&from, &output, OnPoison::Retry).await);
    clock::sleep(Duration::from_secs(12)).await;
    drop(worker);
    let worker = RunningWorker::start(spec_into(&from, &output, OnPoison::Retry).await);
    clock::sleep(Duration::from_secs(12)).await;
    worker.drained().await.unwrap();
    let spec = spec_into(&from, &output, OnPoison::DeadLetter).await;
    let error = RunningWorker::start(spec).ended().await.unwrap_err();
    for words in ["did not stop cleanly", "`--on-poison`", "stream reprocess"] {
        assert!(error.to_string().contains(words), "{error}");
    }
}
