//! A stream whose readers keep marks, and fail when they are opened with others than those of the place.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hydrant_core::batch::MarksAt;
use hydrant_core::budget::Budget;
use hydrant_core::error::Result;
use hydrant_core::position::Position;
use hydrant_core::shard::{ShardId, ShardMap};
use hydrant_core::stream::{OpenAt, Read, ShardReader, ShardState, SharedStream, Stream};
use hydrant_testing::layer::{Layered, StreamLayer};

/// The marks of a place are words: the final ones of its shard's parents, and the newest record before it.
#[derive(Debug)]
pub(crate) struct MarkedStream {
    stream: SharedStream,
    /// Where readers were opened.
    opened: Mutex<Vec<(ShardId, Position)>>,
    /// Shards that the map has no more, those that were not read to their ends with how far they were read.
    gone: Mutex<BTreeMap<ShardId, Option<Position>>>,
    /// A place without marks is opened, too.
    pub(crate) forgives: AtomicBool,
}

impl MarkedStream {
    pub(crate) fn around(stream: SharedStream) -> Arc<Layered<Self>> {
        Arc::new(Layered(MarkedStream {
            stream,
            opened: Mutex::default(),
            gone: Mutex::default(),
            forgives: AtomicBool::default(),
        }))
    }

    pub(crate) fn opened(&self) -> Vec<(ShardId, Position)> {
        self.opened.lock().unwrap().clone()
    }

    /// Removes a closed shard from the map.
    pub(crate) fn forget(&self, shard: &str) {
        self.gone.lock().unwrap().insert(shard.into(), None);
    }

    /// Removes a closed shard from the map, of which nothing beyond `to` was read.
    pub(crate) fn forget_after(&self, shard: &str, to: Position) {
        self.gone.lock().unwrap().insert(shard.into(), Some(to));
    }

    /// What a shard begins with.
    fn inherited(map: &ShardMap, tips: &BTreeMap<ShardId, Position>, shard: &ShardId) -> String {
        let mut parents = map.get(shard).unwrap().parents.clone();
        parents.sort();
        let finals = parents.iter().map(|parent| {
            let inherited = Self::inherited(map, tips, parent);
            marks(&inherited, parent, tips[parent])
        });
        finals.collect()
    }
}

/// The marks of a place, `to` being that of a record or the beginning.
fn marks(inherited: &str, shard: &ShardId, to: Position) -> String {
    match to {
        Position::Begin => inherited.to_owned(),
        to => format!("{inherited}{shard}@{to} "),
    }
}

#[derive(Debug)]
struct MarkedReader {
    reader: Box<dyn ShardReader>,
    shard: ShardId,
    inherited: String,
    /// The newest record that was read.
    newest: Position,
}

/// The marks along a batch.
#[derive(Debug)]
struct MarkedBatch {
    shard: ShardId,
    inherited: String,
}

impl MarksAt for MarkedBatch {
    fn at(&self, to: Position) -> Vec<u8> {
        marks(&self.inherited, &self.shard, to).into_bytes()
    }
}

#[async_trait]
impl ShardReader for MarkedReader {
    async fn next(&mut self) -> Result<Read> {
        let mut read = self.reader.next().await?;
        match &mut read {
            Read::Batch(batch) => {
                self.newest = batch.to;
                batch.marks = Some(Arc::new(MarkedBatch {
                    shard: self.shard.clone(),
                    inherited: self.inherited.clone(),
                }));
            }
            Read::Idle { .. } => {}
            Read::Gap {
                to, marks: found, ..
            } => {
                self.newest = *to;
                *found = marks(&self.inherited, &self.shard, *to).into_bytes();
            }
            Read::End { marks: found, .. } => {
                *found = marks(&self.inherited, &self.shard, self.newest).into_bytes();
            }
        }
        Ok(read)
    }
}

#[async_trait]
impl StreamLayer for MarkedStream {
    fn below(&self) -> &dyn Stream {
        &*self.stream
    }

    async fn shards(&self) -> Result<ShardMap> {
        let map = self.stream.shards().await?;
        let gone = self.gone.lock().unwrap();
        let kept = map
            .all()
            .iter()
            .filter(|shard| !gone.contains_key(&shard.id));
        Ok(ShardMap::new(kept.cloned().collect()))
    }

    async fn states(&self) -> Result<Vec<ShardState>> {
        let mut states = self.stream.states().await?;
        let gone = self.gone.lock().unwrap();
        states.retain(|state| !gone.contains_key(&state.shard.id));
        Ok(states)
    }

    async fn reader(
        &self,
        shard: &ShardId,
        at: OpenAt,
        budget: &Budget,
    ) -> Result<Box<dyn ShardReader>> {
        let map = self.stream.shards().await?;
        let states = self.stream.states().await?;
        let tips = states.into_iter();
        let mut tips: BTreeMap<_, _> = tips
            .map(|state| (state.shard.id, state.tip.unwrap()))
            .collect();
        let gone = self.gone.lock().unwrap().clone();
        let unread = gone
            .iter()
            .filter_map(|(id, to)| Some((id.clone(), (*to)?)));
        tips.extend(unread);
        let inherited = Self::inherited(&map, &tips, shard);
        let OpenAt::After { progress, parents } = &at else {
            // Such a reader knows nothing of what came before.
            return Ok(Box::new(MarkedReader {
                reader: self.stream.reader(shard, at, budget).await?,
                shard: shard.clone(),
                inherited: String::new(),
                newest: Position::Begin,
            }));
        };
        let forgives = |given: &str| given.is_empty() && self.forgives.load(Ordering::SeqCst);
        let newest = match progress.to {
            Position::End => tips[shard],
            to => to,
        };
        let given = String::from_utf8(progress.marks.clone()).unwrap();
        match progress.to {
            Position::Begin => {
                assert_eq!(given, "", "{shard} begins with marks of another place");
                let mut parents = parents.clone();
                parents.sort_by(|(a, _), (b, _)| a.cmp(b));
                let given = parents.iter().map(|(parent, progress)| {
                    let last = gone.get(parent).copied().flatten();
                    let last = last.unwrap_or(Position::End);
                    assert_eq!(progress.to, last, "{parent} is not done");
                    String::from_utf8(progress.marks.clone()).unwrap()
                });
                let given: String = given.collect();
                let is_right = given == inherited || forgives(&given);
                assert!(is_right, "{shard} begins without its parents' marks");
            }
            to => {
                let offset = newest.next_offset().unwrap() as i64 - 1;
                let arrival = progress.arrival.unwrap_or_default();
                assert!(arrival <= offset, "{shard} after {to} arrived at {arrival}");
                let wanted = marks(&inherited, shard, newest);
                let is_right = given == wanted || forgives(&given);
                assert!(
                    is_right,
                    "{shard} is opened after {to} with {given}, not {wanted}"
                );
            }
        }
        self.opened
            .lock()
            .unwrap()
            .push((shard.clone(), progress.to));
        Ok(Box::new(MarkedReader {
            reader: self.stream.reader(shard, at, budget).await?,
            shard: shard.clone(),
            inherited,
            newest,
        }))
    }
}
