//! Cutting what a transform made of a batch into appends for the shards of one map.
//!
//! Computation only, fit for a worker thread. Everything of the input batch becomes an *item* at its input position: a
//! record that goes on, a dead letter, a drop, or what an account from further upstream holds. Items are grouped by
//! shard in position order and cut at the output's size; two items at one position are never parted, because the
//! output's marks know positions only. A transform that lost count of its records is refused here, before anything of
//! the batch is sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use hydrant_core::batch::{AccountSpan, Batch};
use hydrant_core::origin::{DeadLetter, Origin, OriginColumn, WriterId};
use hydrant_core::stream::{Unit, UnitKind};
use hydrant_core::transform::Transformed;
use hydrant_core::{Error, Position, Result, Sequence, ShardId, StreamId};

use super::route::{RouteRule, Routes, Table};

/// The upstream shard whose records a session carries.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Who writes; see [`WriterId::of_app`].
    pub writer: WriterId,
    /// The stream that is read.
    pub stream: StreamId,
    /// Its shard.
    pub shard: ShardId,
    /// Where the app began in the shard: what lies before was never sent.
    pub start: Position,
    /// The session's start: everything up to here was confirmed before.
    pub after: Position,
    /// The stage that dead letters name.
    pub stage: Arc<str>,
}

/// What the output takes at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) record_bytes_max: usize,
    pub(super) append_bytes: usize,
}

/// Cuts batches of one upstream shard; cheap to clone, and valid for ever: a plan made by an old map is routed anew when
/// it is sent.
#[derive(Clone, Debug)]
pub struct Planner {
    pub(super) rule: RouteRule,
    pub(super) upstream: Arc<Upstream>,
    pub(super) table: Arc<Table>,
    pub(super) sizes: Sizes,
}

/// A batch cut into appends.
#[derive(Debug)]
pub struct Plan {
    pub(super) to: Position,
    pub(super) table: Arc<Table>,
    pub(super) pieces: Vec<(ShardId, Piece)>,
}

/// What one append will hold; kept until it is confirmed.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) batch: Arc<Batch>,
    pub(super) picks: Vec<u32>,
    pub(super) routes: Vec<u128>,
    pub(super) explicit: bool,
    pub(super) origins: OriginColumn,
    pub(super) units: Vec<Unit>,
    pub(super) to: Position,
    pub(super) bytes: usize,
    /// Whether the output keeps an account of what it answers for.
    pub(super) counted: bool,
}

impl Piece {
    /// The upstream units that it answers for.
    pub(super) fn input(&self) -> u64 {
        self.picks.len() as u64 + self.units.iter().map(Unit::count).sum::<u64>()
    }
}

enum Item {
    Record {
        pick: u32,
        origin: Origin,
        route: u128,
    },
    Unit(Unit),
}

impl Item {
    fn origin(&self) -> Origin {
        match self {
            Item::Record { origin, .. } => *origin,
            Item::Unit(unit) => unit.origin,
        }
    }

    fn route(&self) -> u128 {
        match self {
            Item::Record { route, .. } => *route,
            Item::Unit(unit) => unit.route,
        }
    }
}

impl Planner {
    /// The routes of an input batch, to be noted before a transform takes it.
    pub fn routes(&self, batch: &Batch) -> Routes {
        self.rule.routes(batch)
    }

    /// Cuts what became of the batch that `routes` were noted from. `now` is wall time in microseconds since 1970, for
    /// dead letters.
    pub fn plan(&self, transformed: Transformed, routes: &Routes, now: i64) -> Result<Plan> {
        check_count(&transformed, routes)?;
        let Transformed {
            mut batch,
            sources,
            letters,
            dropped,
            ..
        } = transformed;
        let to = batch.to;
        let accounts = std::mem::take(&mut batch.accounts);
        let batch = Arc::new(batch);
        let mut units = Vec::with_capacity(letters.len() + dropped.len() + accounts.len());
        for (index, letter) in letters {
            units.push(unit(routes, index, UnitKind::Letter(letter)));
        }
        for (index, rule) in dropped {
            units.push(unit(routes, index, UnitKind::Dropped { rule, count: 1 }));
        }
        for span in accounts {
            self.units_of_account(span, &mut units)?;
        }
        let records = self.records(&batch, &sources, routes, now, &mut units)?;
        units.sort_by_key(|unit| (unit.origin.sequence, unit.origin.sub));
        let mut cutter = Cutter::new(&batch, &self.table, self.sizes, routes.explicit, to);
        let mut units = units.into_iter().peekable();
        for record in records {
            let at = record.origin().position();
            while let Some(unit) = units.next_if(|unit| unit.origin.position() <= at) {
                cutter.push(Item::Unit(unit))?;
            }
            cutter.push(record)?;
        }
        for unit in units {
            cutter.push(Item::Unit(unit))?;
        }
        Ok(Plan {
            to,
            table: Arc::clone(&self.table),
            pieces: cutter.finish(),
        })
    }

    /// Cuts a batch whose records all go on as they are, without an account: what a producer sends, which answers for
    /// nothing upstream. A record larger than the output takes is refused; the caller has sorted those out.
    pub fn plan_records(&self, batch: Batch) -> Result<Plan> {
        let routes = self.rule.routes(&batch);
        let to = batch.to;
        let batch = Arc::new(batch);
        let sources: Vec<u32> = (0..batch.len() as u32).collect();
        let mut units = Vec::new();
        let records = self.records(&batch, &sources, &routes, 0, &mut units)?;
        if !units.is_empty() {
            return Err(Error::fatal(format!(
                "{} records are larger than the {} bytes that the output takes",
                units.len(),
                self.sizes.record_bytes_max
            )));
        }
        let mut cutter = Cutter::new(&batch, &self.table, self.sizes, routes.explicit, to);
        for record in records {
            cutter.push(record)?;
        }
        let mut pieces = cutter.finish();
        for (_, piece) in &mut pieces {
            piece.counted = false;
        }
        Ok(Plan {
            to,
            table: Arc::clone(&self.table),
            pieces,
        })
    }

    /// The records that go on; those that no append of the output can hold become dead letters.
    fn records(
        &self,
        batch: &Batch,
        sources: &[u32],
        routes: &Routes,
        now: i64,
        units: &mut Vec<Unit>,
    ) -> Result<Vec<Item>> {
        let mut records = Vec::with_capacity(sources.len());
        let mut before: Option<(u32, u32)> = None;
        for (pick, (&source, entry)) in sources.iter().zip(&batch.records).enumerate() {
            let index = match before {
                Some((last, index)) if last == source => index + 1,
                Some((last, _)) if last > source => {
                    return Err(Error::fatal("a transform changed the order of records"));
                }
                _ => 0,
            };
            before = Some((source, index));
            let (sequence, sub) = routes.position(source);
            let origin = Origin {
                sequence,
                sub,
                index,
            };
            let route = routes.hashes[source as usize];
            let bytes = entry.payload.len as usize + entry.key.map_or(0, |key| key.len as usize);
            if bytes <= self.sizes.record_bytes_max {
                let pick = pick as u32;
                records.push(Item::Record {
                    pick,
                    origin,
                    route,
                });
                continue;
            }
            metrics::counter!("hydrant_lanes_dead_letters_total", "reason" => "record_too_large")
                .increment(1);
            let max = self.sizes.record_bytes_max;
            let key = batch.key(entry);
            let letter = DeadLetter {
                stream: Arc::from(self.upstream.stream.to_string()),
                shard: self.upstream.shard.clone(),
                sequence,
                sub,
                key: key.map(|key| Arc::from(String::from_utf8_lossy(key))),
                stage: Arc::clone(&self.upstream.stage),
                reason: Arc::from("record_too_large"),
                detail: format!("{bytes} bytes of key and payload; the output takes {max}"),
                length: u64::from(entry.payload.len),
                time: now,
            };
            units.push(Unit {
                origin,
                route,
                what: UnitKind::Letter(letter),
            });
        }
        Ok(records)
    }

    /// Hands on what an account from further upstream holds; its records are records here and counted as such.
    fn units_of_account(&self, span: AccountSpan, units: &mut Vec<Unit>) -> Result<()> {
        let account = span.account;
        if account.letters.is_empty() && account.dropped.is_empty() {
            return Ok(());
        }
        let Position::At { sequence, sub } = span.at else {
            return Err(Error::fatal(format!(
                "an account of shard `{}` counts at `{}`, where nothing can lie",
                self.upstream.shard, span.at
            )));
        };
        let route = self.rule.of_account(sequence, sub);
        let letters = account.letters.into_iter().map(UnitKind::Letter);
        let dropped = account
            .dropped
            .into_iter()
            .map(|dropped| UnitKind::Dropped {
                rule: dropped.rule,
                count: dropped.count,
            });
        units.extend(letters.chain(dropped).zip(0..).map(|(what, index)| Unit {
            origin: Origin {
                sequence,
                sub,
                index,
            },
            route,
            what,
        }));
        Ok(())
    }
}

fn unit(routes: &Routes, index: u32, what: UnitKind) -> Unit {
    let (sequence, sub) = routes.position(index);
    Unit {
        origin: Origin {
            sequence,
            sub,
            index: 0,
        },
        route: routes.hashes[index as usize],
        what,
    }
}

/// Each record that came in went on, or is a dead letter, or was dropped: exactly one of the three.
fn check_count(transformed: &Transformed, routes: &Routes) -> Result<()> {
    let input = routes.hashes.len();
    let lost = || {
        Error::fatal(format!(
            "a transform lost count of its {input} input records; nothing of the batch was sent"
        ))
    };
    let mut fates = vec![0u8; input];
    const WENT_ON: u8 = 1;
    const GIVEN_UP: u8 = 2;
    for &source in &transformed.sources {
        *fates.get_mut(source as usize).ok_or_else(lost)? |= WENT_ON;
    }
    let letters = transformed.letters.iter().map(|(index, _)| *index);
    let dropped = transformed.dropped.iter().map(|(index, _)| *index);
    for index in letters.chain(dropped) {
        let fate = fates.get_mut(index as usize).ok_or_else(lost)?;
        if *fate != 0 {
            return Err(lost());
        }
        *fate = GIVEN_UP;
    }
    let counted = transformed.input as usize == input
        && transformed.sources.len() == transformed.batch.len()
        && !fates.contains(&0);
    counted.then_some(()).ok_or_else(lost)
}

/// Routes the items of several pieces of one batch anew.
pub(super) fn reroute(
    pieces: Vec<Piece>,
    table: &Table,
    sizes: Sizes,
    to: Position,
) -> Result<Vec<(ShardId, Piece)>> {
    let Some(first) = pieces.first() else {
        return Ok(Vec::new());
    };
    let batch = Arc::clone(&first.batch);
    let counted = first.counted;
    let explicit = pieces.iter().any(|piece| piece.explicit);
    let mut items = Vec::new();
    for piece in pieces {
        let records = piece.picks.into_iter().zip(piece.routes);
        for ((pick, route), origin) in records.zip(piece.origins.iter()) {
            items.push(Item::Record {
                pick,
                origin,
                route,
            });
        }
        items.extend(piece.units.into_iter().map(Item::Unit));
    }
    // Stable: records of one position keep their order.
    items.sort_by_key(|item| {
        let origin = item.origin();
        (origin.sequence, origin.sub)
    });
    let mut cutter = Cutter::new(&batch, table, sizes, explicit, to);
    for item in items {
        cutter.push(item)?;
    }
    let mut pieces = cutter.finish();
    for (_, piece) in &mut pieces {
        piece.counted = counted;
    }
    Ok(pieces)
}

/// Memory that a dead letter is counted with beside its detail.
const UNIT_BYTES: usize = 160;

struct Growing {
    piece: Piece,
    origins: Vec<Origin>,
    last: (Sequence, u32),
    appended_bytes: usize,
}

struct Cutter<'a> {
    batch: &'a Arc<Batch>,
    table: &'a Table,
    sizes: Sizes,
    explicit: bool,
    to: Position,
    growing: BTreeMap<usize, Growing>,
    done: Vec<(ShardId, Piece)>,
}

impl<'a> Cutter<'a> {
    fn new(
        batch: &'a Arc<Batch>,
        table: &'a Table,
        sizes: Sizes,
        explicit: bool,
        to: Position,
    ) -> Self {
        Cutter {
            batch,
            table,
            sizes,
            explicit,
            to,
            growing: BTreeMap::new(),
            done: Vec::new(),
        }
    }

    /// Items of one shard come in position order.
    fn push(&mut self, item: Item) -> Result<()> {
        let route = item.route();
        let number = self.table.find(route).ok_or_else(|| {
            Error::fatal(format!(
                "no open shard of the output owns the hash {route:032x}"
            ))
        })?;
        let origin = item.origin();
        let at = (origin.sequence, origin.sub);
        let (held, appended) = match &item {
            Item::Record { pick, .. } => {
                let entry = &self.batch.records[*pick as usize];
                let bytes = entry.payload.len as usize + entry.key.map_or(0, |k| k.len as usize);
                (bytes, bytes)
            }
            Item::Unit(unit) => match &unit.what {
                UnitKind::Letter(letter) => {
                    let bytes = UNIT_BYTES + letter.detail.len();
                    (bytes, bytes)
                }
                UnitKind::Dropped { .. } => (UNIT_BYTES, 0),
            },
        };
        let full = self.growing.get(&number).is_some_and(|growing| {
            growing.appended_bytes + appended > self.sizes.append_bytes && growing.last != at
        });
        if full && let Some(growing) = self.growing.remove(&number) {
            let to = Position::at(growing.last.0, growing.last.1);
            self.close(number, growing, to);
        }
        let (batch, explicit) = (self.batch, self.explicit);
        let growing = self.growing.entry(number).or_insert_with(|| Growing {
            piece: Piece {
                batch: Arc::clone(batch),
                picks: Vec::new(),
                routes: Vec::new(),
                explicit,
                origins: OriginColumn::default(),
                units: Vec::new(),
                to: Position::Begin,
                bytes: 0,
                counted: true,
            },
            origins: Vec::new(),
            last: at,
            appended_bytes: 0,
        });
        growing.last = at;
        growing.appended_bytes += appended;
        growing.piece.bytes += held;
        match item {
            Item::Record {
                pick,
                origin,
                route,
            } => {
                growing.piece.picks.push(pick);
                growing.piece.routes.push(route);
                growing.origins.push(origin);
            }
            Item::Unit(unit) => growing.piece.units.push(unit),
        }
        Ok(())
    }

    fn close(&mut self, number: usize, growing: Growing, to: Position) {
        let mut piece = growing.piece;
        piece.origins = growing.origins.into_iter().collect();
        piece.to = to;
        let (_, shard) = self.table.shard(number);
        self.done.push((shard.clone(), piece));
    }

    fn finish(mut self) -> Vec<(ShardId, Piece)> {
        for (number, growing) in std::mem::take(&mut self.growing) {
            let to = self.to;
            self.close(number, growing, to);
        }
        self.done
    }
}
