//! Where origins began in the output: a session that goes back before it is refused before its first append.
//!
//! Each shard of the output knows only of the origins that it has records of, and refuses only what goes back in these:
//! without this question the other shards would have taken theirs by then. It is asked once for all sessions of a
//! process, since an app goes back only by an operator's hand, while none of its workers runs.

use std::collections::BTreeMap;

use futures::stream::{StreamExt, TryStreamExt};
use hydrant_core::error::Rewound;
use hydrant_core::origin::WriterId;
use hydrant_core::stream::{Stream, StreamWriter};
use hydrant_core::{Error, Position, Result, ShardId};
use tokio::sync::OnceCell;

use super::plan::AppendSlice;
use super::upstream::Upstream;

/// Where a session begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum FirstPosition {
    /// With a record or unit here.
    At(Position),
    /// With whatever comes after this.
    After(Position),
}

/// Shards that are asked at once: each answer takes some calls of a disk or a service.
const AT_ONCE: usize = 16;

/// Where each origin began last, and a shard of the output that has it from there.
type Origins = BTreeMap<(WriterId, ShardId), (Position, ShardId)>;

/// What an output knows of where origins began.
#[derive(Debug, Default)]
pub(super) struct Beginnings {
    origins: OnceCell<Origins>,
}

impl Beginnings {
    /// Refuses a session that begins here, where the output has its origin from later on.
    pub(super) async fn check(
        &self,
        output: &dyn Stream,
        writer: &dyn StreamWriter,
        upstream: &Upstream,
        first: FirstPosition,
    ) -> Result<()> {
        let origins = self.origins.get_or_try_init(|| read(output, writer));
        let origin = (upstream.writer, upstream.shard.clone());
        let Some((start, shard)) = origins.await?.get(&origin) else {
            return Ok(());
        };
        let (at, goes_back) = match first {
            FirstPosition::At(at) => (at, at <= *start),
            FirstPosition::After(at) => (at, at < *start),
        };
        if goes_back {
            return Err(Error::Rewound(Box::new(Rewound {
                shard: shard.clone(),
                start: *start,
                at,
            })));
        }
        Ok(())
    }
}

async fn read(output: &dyn Stream, writer: &dyn StreamWriter) -> Result<Origins> {
    // A shard that closes meanwhile answers for its children: only writers that have ended matter.
    let map = output.shards().await?;
    let open: Vec<_> = map.open().map(|shard| shard.id.clone()).collect();
    let answers = futures::stream::iter(open).map(|shard| async move {
        let begun = match writer.begun(&shard).await {
            // Appends to it are refused with the same words, and those to others are not.
            Err(error @ Error::Corrupt { .. }) => {
                tracing::warn!(%shard, error = error.report(), "cannot read the origins of a corrupt shard; appends to it will be refused");
                Vec::new()
            }
            begun => begun?,
        };
        Ok::<_, Error>((shard, begun))
    });
    let mut origins = Origins::new();
    let mut answers = std::pin::pin!(answers.buffer_unordered(AT_ONCE));
    while let Some((shard, begun)) = answers.try_next().await? {
        for one in begun {
            let known = origins.entry((one.writer, one.upstream));
            let known = known.or_insert_with(|| (one.start, shard.clone()));
            if known.0 < one.start {
                *known = (one.start, shard.clone());
            }
        }
    }
    Ok(origins)
}

impl FirstPosition {
    /// The first record or unit of appends that complete everything up to `to`.
    pub(super) fn of<'a>(
        pieces: impl Iterator<Item = &'a AppendSlice>,
        to: Position,
    ) -> FirstPosition {
        let firsts = pieces.flat_map(|piece| {
            let record = piece.origins.iter().next();
            let units = piece.units.iter().map(|unit| unit.origin);
            record.into_iter().chain(units)
        });
        let first = firsts.map(|origin| origin.position()).min();
        first.map_or(FirstPosition::After(to), FirstPosition::At)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use hydrant_core::batch::{Entry, RunBuilder, Span, Step};
    use hydrant_core::stream::SharedStream;
    use hydrant_core::transform::Transformed;
    use hydrant_core::{Batch, Random, Sequence, StreamId};
    use hydrant_testing::clock::ManualClock;
    use hydrant_testing::memory::MemoryStream;

    use super::super::session::LaneSession;
    use super::super::tests::claim;
    use super::super::{Keys, LaneLimits, Lanes, Session};
    use super::*;

    /// A worker's way into `output`, as a new process has it.
    async fn lanes(output: &SharedStream) -> Lanes {
        let context = super::super::tests::context(Random::seeded(1));
        let output = SharedStream::clone(output);
        let opened = Lanes::open(output, Keys::Kept, LaneLimits::default(), &context);
        opened.await.unwrap()
    }

    async fn session(lanes: &Lanes, start: Position, after: Position) -> LaneSession {
        let stream = StreamId::new("in", "1");
        let upstream = Upstream {
            writer: WriterId::of_app("app", 1, &stream),
            claim: Some(claim("a")),
            stream,
            shard: "a".into(),
            start,
            after,
            unit_route: 0,
            stage: "transform".into(),
        };
        lanes.session(upstream).await
    }

    /// Sends records `from..to`, each with the key that its number gives.
    async fn send(
        session: &mut LaneSession,
        from: u64,
        to: u64,
        key: impl Fn(u64) -> String,
    ) -> Result<Position> {
        let (mut bytes, mut runs) = (Vec::new(), RunBuilder::default());
        let records = (from..to).map(|n| {
            let (key, start) = (key(n), bytes.len() as u32);
            bytes.extend_from_slice(key.as_bytes());
            runs.push(Sequence::from(n), 0, Step::Sequence, 0);
            let span = Span::new(start, key.len() as u32);
            Entry {
                segment: 0,
                key: Some(span),
                payload: span,
                stamp: 0,
            }
        });
        let records = records.collect::<Vec<_>>();
        let batch = Batch {
            segments: Arc::from([Bytes::from(bytes)]),
            records,
            runs: runs.finish(),
            to: Position::offset(to - 1),
            ..Batch::default()
        };
        let planner = session.planner();
        let routes = planner.routes(&batch);
        let input = batch.len() as u32;
        let unchanged = Transformed {
            input,
            sources: (0..input).collect(),
            rekeyed: vec![false; input as usize],
            batch,
            ..Transformed::default()
        };
        let plan = planner.plan(unchanged, &routes, 0)?;
        session.send(plan).await?;
        session.drain().await
    }

    async fn stored(output: &SharedStream) -> u64 {
        let states = output.states().await.unwrap();
        states.iter().filter_map(|state| state.records).sum()
    }

    /// Four shards of which one has records of an origin that began at 99.
    async fn begun_in_one_shard() -> (SharedStream, ShardId) {
        let memory = MemoryStream::new("out", 4, Arc::new(ManualClock::new(1)));
        let output: SharedStream = Arc::new(memory);
        let start = Position::offset(99);
        let mut session = session(&lanes(&output).await, start, start).await;
        send(&mut session, 100, 110, |_| "one".into())
            .await
            .unwrap();
        let states = output.states().await.unwrap();
        let has = states.iter().filter(|state| state.records > Some(0));
        let has: Vec<_> = has.map(|state| state.shard.id.clone()).collect();
        assert_eq!((has.len(), stored(&output).await), (1, 10));
        (output, has[0].clone())
    }

    fn own(n: u64) -> String {
        format!("key-{n}")
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_goes_back_is_refused_before_any_shard_takes_something() {
        for split in [false, true] {
            let (output, shard) = begun_in_one_shard().await;
            if split {
                let admin = output.admin();
                admin.split(&shard, None).await.unwrap();
            }
            let lanes = lanes(&output).await;
            let mut session = session(&lanes, Position::Begin, Position::Begin).await;
            let refused = send(&mut session, 0, 50, own).await;
            let error = refused.unwrap_err();
            assert!(
                matches!(&error, Error::Rewound(rewound)
                    if (rewound.start, rewound.at) == (Position::offset(99), Position::offset(0))),
                "{error}"
            );
            assert_eq!(stored(&output).await, 10, "other shards took theirs");
            assert_eq!(session.confirmed(), Position::Begin);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_gap_that_ends_before_the_start_is_not_passed() {
        let (output, _) = begun_in_one_shard().await;
        let lanes = lanes(&output).await;
        let mut short = session(&lanes, Position::Begin, Position::Begin).await;
        // A ledger that noted it would make the next start look as if it went on.
        short.skip(Position::offset(49));
        assert_eq!(short.confirmed(), Position::Begin);
        assert!(matches!(short.progress().await, Err(Error::Rewound(_))));
        assert_eq!(stored(&output).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_holds_nothing_from_before_the_start_goes_on() {
        let (output, _) = begun_in_one_shard().await;
        let lanes = lanes(&output).await;
        // What was passed over has gone from the input.
        let mut late = session(&lanes, Position::Begin, Position::Begin).await;
        late.skip(Position::offset(99));
        assert_eq!(late.progress().await.unwrap(), Position::offset(99));
        send(&mut late, 100, 120, |_| "one".into()).await.unwrap();
        assert_eq!((late.duplicates(), stored(&output).await), (10, 20));
        // It begins where it did, and further on.
        for start in [Position::offset(99), Position::offset(200)] {
            let mut again = session(&lanes, start, start).await;
            send(&mut again, 201, 211, own).await.unwrap();
        }
        assert_eq!(stored(&output).await, 30);
    }
}
