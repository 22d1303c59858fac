use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use hydrant_core::budget::Budget;
use hydrant_core::clock::Instant;
use hydrant_core::error::{Error, Result};
use hydrant_core::lease::Progress;
use hydrant_core::position::Position;
use hydrant_core::shard::ShardId;
use hydrant_core::stream::{Assignment, Join, OpenAt, ShardReader, SharedStream, Stream};
use hydrant_core::subscription::{
    Claim, ClaimAnswer, ClaimId, ClaimLeft, Event, Ledger, Subscription,
};
use hydrant_testing::layer::{Layered, StreamLayer};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::seeking_client::{ClientCounts, Seek, SeekingReaders, serve};

type Progresses = Arc<Mutex<BTreeMap<ShardId, Progress>>>;

/// A stream whose shards a test hands out itself, to one worker, which reads them with one client.
#[derive(Debug)]
pub(crate) struct BrokerStream {
    stream: SharedStream,
    ledger: Progresses,
    /// The subscription answers with the progress of the whole group.
    tells_progress: bool,
    seeks: mpsc::Sender<Seek>,
    sought: Mutex<Option<mpsc::Receiver<Seek>>>,
    pub(crate) client: Arc<ClientCounts>,
    released: Arc<Mutex<Vec<ClaimId>>>,
    events: Mutex<Option<mpsc::Receiver<Event>>>,
    orders: Mutex<Option<mpsc::Sender<Event>>>,
    /// How often the subscription was asked for an event.
    asked: Arc<AtomicU64>,
    /// The progress in the ledgers of the claims.
    pub(crate) held: Arc<AtomicBool>,
    /// How often a ledger was read or written.
    touched: Arc<AtomicU64>,
    /// How many more writes the ledgers refuse.
    pub(crate) refusals: Arc<AtomicU64>,
    /// What must be answered before the subscription goes.
    pub(crate) awaited: Arc<Mutex<Vec<ClaimLeft>>>,
}

impl BrokerStream {
    pub(crate) fn around(stream: SharedStream) -> Arc<Layered<Self>> {
        Self::new(stream, Progresses::default(), false)
    }

    /// The same broker for the next worker; it reports the progress of the group.
    pub(crate) fn again(&self) -> Arc<Layered<Self>> {
        let (stream, ledger) = (Arc::clone(&self.stream), Arc::clone(&self.ledger));
        Self::new(stream, ledger, true)
    }

    fn new(stream: SharedStream, ledger: Progresses, tells_progress: bool) -> Arc<Layered<Self>> {
        let (orders, events) = mpsc::channel(100);
        let (seeks, sought) = mpsc::channel(1);
        Arc::new(Layered(BrokerStream {
            stream,
            ledger,
            tells_progress,
            seeks,
            sought: Mutex::new(Some(sought)),
            client: Arc::default(),
            released: Arc::default(),
            events: Mutex::new(Some(events)),
            orders: Mutex::new(Some(orders)),
            asked: Arc::default(),
            held: Arc::new(AtomicBool::new(true)),
            touched: Arc::default(),
            refusals: Arc::default(),
            awaited: Arc::default(),
        }))
    }

    pub(crate) async fn grant(&self, shard: &str, grant: u64) {
        let map = self.stream.shards().await.unwrap();
        let shard = map.get(&shard.into()).unwrap().clone();
        let id = ClaimId {
            shard: shard.id.clone(),
            grant,
        };
        let readers = Arc::new(SeekingReaders {
            shard: shard.id.clone(),
            seeks: self.seeks.clone(),
            counts: Arc::clone(&self.client),
        });
        let ledger = Arc::new(BrokerLedger {
            claim: id.clone(),
            ledger: Arc::clone(&self.ledger),
            released: Arc::clone(&self.released),
            held: Arc::clone(&self.held),
            touched: Arc::clone(&self.touched),
            refusals: Arc::clone(&self.refusals),
        });
        self.order(Event::Granted(Claim {
            id,
            shard,
            readers,
            ledger,
            parents: Vec::new(),
        }));
    }

    fn order(&self, event: Event) {
        let orders = self.orders.lock().unwrap();
        orders.as_ref().unwrap().try_send(event).unwrap();
    }

    /// Closes the broker for good.
    pub(crate) fn hang_up(&self) {
        self.orders.lock().unwrap().take();
    }

    pub(crate) fn ledger_touched(&self) -> u64 {
        self.touched.load(Ordering::SeqCst)
    }

    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn lose(&self, shard: &str, grant: u64) -> ClaimLeft {
        let (answer, left) = ClaimAnswer::new();
        let claim = ClaimId {
            shard: shard.into(),
            grant,
        };
        self.order(Event::Lost { claim, answer });
        left
    }

    pub(crate) fn revoke(&self, shard: &str, grant: u64, until: Instant) -> ClaimLeft {
        let (answer, left) = ClaimAnswer::new();
        let claim = ClaimId {
            shard: shard.into(),
            grant,
        };
        self.order(Event::Revoking {
            claim,
            until,
            answer,
        });
        left
    }

    /// The progress that the broker keeps.
    pub(crate) fn keep(&self, shard: &str, progress: Progress) {
        let mut ledger = self.ledger.lock().unwrap();
        ledger.insert(shard.into(), progress);
    }

    pub(crate) fn to(&self, shard: &str) -> Option<Position> {
        let id = ShardId::from(shard);
        self.ledger
            .lock()
            .unwrap()
            .get(&id)
            .map(|progress| progress.to)
    }

    pub(crate) fn released(&self) -> Vec<u64> {
        self.released
            .lock()
            .unwrap()
            .iter()
            .map(|claim| claim.grant)
            .collect()
    }
}

#[derive(Debug)]
struct BrokerLedger {
    claim: ClaimId,
    ledger: Progresses,
    released: Arc<Mutex<Vec<ClaimId>>>,
    held: Arc<AtomicBool>,
    touched: Arc<AtomicU64>,
    refusals: Arc<AtomicU64>,
}

#[async_trait]
impl Ledger for BrokerLedger {
    async fn read(&self) -> Result<Option<Progress>> {
        self.touched.fetch_add(1, Ordering::SeqCst);
        Ok(self.ledger.lock().unwrap().get(&self.claim.shard).cloned())
    }

    async fn write(&self, progress: &Progress) -> Result<()> {
        self.touched.fetch_add(1, Ordering::SeqCst);
        let left = self.refusals.load(Ordering::SeqCst);
        if left > 0 {
            self.refusals.store(left - 1, Ordering::SeqCst);
            return Err(Error::Unavailable {
                message: "not now".to_owned(),
                after: Duration::ZERO,
            });
        }
        self.ledger
            .lock()
            .unwrap()
            .insert(self.claim.shard.clone(), progress.clone());
        Ok(())
    }

    async fn release(&self) -> Result<()> {
        self.released.lock().unwrap().push(self.claim.clone());
        Ok(())
    }

    fn is_held(&self) -> bool {
        self.held.load(Ordering::SeqCst)
    }

    fn generation(&self) -> u64 {
        0
    }
}

struct BrokerOrders {
    events: mpsc::Receiver<Event>,
    asked: Arc<AtomicU64>,
    progress: Option<Progresses>,
    awaited: Arc<Mutex<Vec<ClaimLeft>>>,
    // Ends with the subscription.
    _client: JoinSet<()>,
}

impl Drop for BrokerOrders {
    fn drop(&mut self) {
        for left in self.awaited.lock().unwrap().drain(..) {
            assert!(left.now_or_never().is_some(), "a claim is at work");
        }
    }
}

#[async_trait]
impl Subscription for BrokerOrders {
    async fn next(&mut self) -> Result<Event> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let event = self.events.recv().await;
        event.ok_or_else(|| Error::fatal("no more orders"))
    }

    fn progress(&self) -> BoxFuture<'static, Result<Vec<(ShardId, Progress)>>> {
        let known = self.progress.as_ref();
        let known = known.map(|known| known.lock().unwrap().clone());
        let known = known.unwrap_or_default().into_iter().collect();
        std::future::ready(Ok(known)).boxed()
    }

    fn stop_claiming(&mut self) {}

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl StreamLayer for BrokerStream {
    fn below(&self) -> &dyn Stream {
        &*self.stream
    }

    async fn reader(
        &self,
        shard: &ShardId,
        at: OpenAt,
        budget: &Budget,
    ) -> Result<Box<dyn ShardReader>> {
        self.client.clients.fetch_add(1, Ordering::SeqCst);
        self.stream.reader(shard, at, budget).await
    }

    async fn assignment(&self, join: &Join) -> Result<Assignment> {
        let events = self.events.lock().unwrap().take().expect("one worker");
        let asked = Arc::clone(&self.asked);
        let sought = self.sought.lock().unwrap().take().expect("one worker");
        let mut client = JoinSet::new();
        let stream = Arc::clone(&self.stream);
        let counts = Arc::clone(&self.client);
        client.spawn(serve(stream, join.budget.clone(), sought, counts));
        let known = Arc::clone(&self.ledger);
        Ok(Assignment::Broker(Box::new(BrokerOrders {
            events,
            asked,
            progress: self.tells_progress.then_some(known),
            awaited: Arc::clone(&self.awaited),
            _client: client,
        })))
    }
}
