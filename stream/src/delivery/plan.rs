//! Cutting what a transform made of a batch into appends for the shards of one map.
//!
//! Computation only, fit for a worker thread. Everything of the input batch becomes an *item* at its input position: a
//! record that passes, a dead letter, a drop, or what an account from further upstream holds. What is not a record goes
//! where its record would, or by the one route of its origin, as the output wants it. Items are grouped by shard in
//! position order and cut at the output's size; two items at one position are never parted, because the
//! output's marks know positions only. A transform that lost count of its records is refused here, before anything of
//! the batch is sent. Of each record a plan holds where it is, where it goes and where it came from, in columns of some
//! 22 bytes: a batch of tiny records must not grow manifold while it waits.

use std::collections::BTreeMap;
use std::sync::Arc;

use hydrant_core::batch::{AccountSpan, Batch};
use hydrant_core::mutant::{self, Mutant};
use hydrant_core::origin::{Account, DeadLetter, Origin, OriginColumn, OriginColumnBuilder};
use hydrant_core::stream::{Unit, UnitKind};
use hydrant_core::transform::Transformed;
use hydrant_core::{Error, Position, Result, Sequence, ShardId};

use super::output_limits::OutputLimits;
use super::route::{Keys, RouteRule, Routes, Table};
use super::upstream::Upstream;

/// Cuts batches of one upstream shard; cheap to clone, and always valid: a plan made by an old map is routed again when
/// it is sent.
#[derive(Clone, Debug)]
pub struct Planner {
    pub(super) rule: RouteRule,
    pub(super) upstream: Arc<Upstream>,
    pub(super) table: Arc<Table>,
    pub(super) limits: OutputLimits,
}

/// A batch cut into appends.
#[derive(Debug)]
pub struct Plan {
    pub(super) to: Position,
    pub(super) table: Arc<Table>,
    pub(super) pieces: Vec<(ShardId, AppendSlice)>,
    /// The memory of batch and plan that the batch holds no permit for.
    pub(super) missing_bytes: u64,
}

/// What one append will hold; kept until it is confirmed.
#[derive(Debug)]
pub(super) struct AppendSlice {
    pub(super) batch: Arc<Batch>,
    pub(super) record_indexes: Arc<[u32]>,
    pub(super) routes: Arc<[u128]>,
    pub(super) explicit: bool,
    pub(super) origins: OriginColumn,
    pub(super) units: Arc<Vec<Unit>>,
    pub(super) to: Position,
    pub(super) bytes: usize,
    /// Whether the output keeps an account of what it answers for.
    pub(super) counted: bool,
}

impl AppendSlice {
    /// Nothing, which says that nothing follows.
    pub(super) fn end() -> Self {
        AppendSlice {
            batch: Arc::default(),
            record_indexes: Arc::default(),
            routes: Arc::default(),
            explicit: false,
            origins: OriginColumn::default(),
            units: Arc::default(),
            to: Position::End,
            bytes: 0,
            counted: false,
        }
    }

    /// The upstream units that it answers for.
    pub(super) fn input(&self) -> u64 {
        self.record_indexes.len() as u64 + self.units.iter().map(Unit::count).sum::<u64>()
    }
}

/// Something of the input batch, and where it goes.
enum Item {
    /// This record of the batch.
    Record(u32, Origin, u128),
    Unit(Box<Unit>),
}

impl Item {
    fn origin(&self) -> Origin {
        match self {
            Item::Record(_, origin, _) => *origin,
            Item::Unit(unit) => unit.origin,
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
            mut dead_letters,
            mut dropped,
            ..
        } = transformed;
        let to = batch.to;
        let accounts = self.accounts(&mut batch)?;
        self.limits.fit_headers(&mut batch);
        let held = batch.permit.bytes();
        let missing_bytes = shrink_permit(&mut batch);
        let batch = Arc::new(batch);
        // Each becomes a unit only when its turn has come: a batch of tiny records must not be there several times.
        dead_letters.sort_unstable_by_key(|(index, _)| *index);
        dropped.sort_unstable_by_key(|(index, _)| *index);
        let dead_letters = dead_letters
            .into_iter()
            .map(|(index, letter)| self.unit(routes, index, UnitKind::DeadLetter(letter)));
        let dropped = dropped
            .into_iter()
            .map(|(index, rule)| self.unit(routes, index, UnitKind::Dropped { rule, count: 1 }));
        let mut next = (None, 0);
        let accounts = accounts.into_iter().flat_map(|(at, account)| {
            let first = if next.0 == Some(at) { next.1 } else { 0 };
            let units = account.dead_letters.len() + account.dropped.len();
            next = (Some(at), first + units as u32);
            self.units_of_account(at, first, account)
        });
        let mut units = in_order(in_order(dead_letters, dropped), accounts).peekable();
        let mut cutter = Cutter::new(&batch, &self.table, self.limits, routes.explicit, to);
        self.records(&batch, sources.iter().copied(), routes, now, |record| {
            let at = record.origin().position();
            while let Some(unit) = units.next_if(|unit| unit.origin.position() <= at) {
                cutter.unit(unit)?;
            }
            cutter.push(record)
        })?;
        for unit in units {
            cutter.unit(unit)?;
        }
        let pieces = cutter.finish(true);
        let units = pieces.iter().flat_map(|(_, piece)| &*piece.units);
        let units_bytes: u64 = units.map(Unit::memory_bytes).sum();
        Ok(Plan {
            to,
            table: Arc::clone(&self.table),
            missing_bytes: match held {
                0 => 0,
                _ => missing_bytes + units_bytes,
            },
            pieces,
        })
    }

    /// Cuts a batch whose records all go on as they are, without an account: what a producer sends, which answers for
    /// nothing upstream. A record that the output cannot hold is refused; the caller has sorted those out.
    pub fn plan_records(&self, mut batch: Batch) -> Result<Plan> {
        let routes = self.rule.routes(&batch);
        let to = batch.to;
        self.limits.fit_headers(&mut batch);
        let missing_bytes = shrink_permit(&mut batch);
        let batch = Arc::new(batch);
        let mut cutter = Cutter::new(&batch, &self.table, self.limits, routes.explicit, to);
        let sources = 0..batch.len() as u32;
        self.records(&batch, sources, &routes, 0, |record| match record {
            Item::Record(..) => cutter.push(record),
            Item::Unit(_) => Err(Error::fatal(
                "a producer sent a record that the output cannot hold",
            )),
        })?;
        Ok(Plan {
            to,
            table: Arc::clone(&self.table),
            pieces: cutter.finish(false),
            missing_bytes,
        })
    }

    /// Hands on the records; those that no append of the output can hold become dead letters.
    fn records(
        &self,
        batch: &Batch,
        sources: impl Iterator<Item = u32>,
        routes: &Routes,
        now: i64,
        mut push: impl FnMut(Item) -> Result<()>,
    ) -> Result<()> {
        let mut before: Option<(u32, u32)> = None;
        for (pick, (source, entry)) in sources.zip(&batch.records).enumerate() {
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
            let Some(misfit) = self.limits.misfit(batch, pick) else {
                push(Item::Record(pick as u32, origin, route))?;
                continue;
            };
            let reason = misfit.reason;
            metrics::counter!("hydrant_lanes_dead_letters_total", "reason" => reason).increment(1);
            // A key that is kept was not scanned and may be personal.
            let key = batch
                .key(entry)
                .filter(|_| self.rule.keys == Keys::Replaced);
            let letter = DeadLetter {
                stream: Arc::from(self.upstream.stream.to_string()),
                shard: self.upstream.shard.clone(),
                sequence,
                sub,
                key: key.map(|key| Arc::from(String::from_utf8_lossy(key))),
                stage: Arc::clone(&self.upstream.stage),
                reason: Arc::from(reason),
                detail: misfit.detail,
                length: u64::from(entry.payload.len),
                time: now,
            };
            push(Item::Unit(Box::new(Unit {
                origin,
                route: self.unit_route(route),
                what: UnitKind::DeadLetter(letter),
            })))?;
        }
        Ok(())
    }

    /// Takes the accounts from further upstream that hold more than records, which are counted here, out of a batch; in
    /// order.
    fn accounts(&self, batch: &mut Batch) -> Result<Vec<((Sequence, u32), Account)>> {
        let mut accounts = Vec::new();
        for AccountSpan { at, account, .. } in std::mem::take(&mut batch.accounts) {
            if account.dead_letters.is_empty() && account.dropped.is_empty() {
                continue;
            }
            let Position::At { sequence, sub } = at else {
                return Err(Error::fatal(format!(
                    "an account of shard `{}` counts at `{at}`, where nothing can lie",
                    self.upstream.shard
                )));
            };
            accounts.push(((sequence, sub), account));
        }
        accounts.sort_by_key(|(at, _)| *at);
        Ok(accounts)
    }

    /// The route of a unit that is not a record: `by_record`, where its record would have gone, if the output checks
    /// appends, so that it keeps the first fate of a record. Else the one that the origin has for all of them.
    fn unit_route(&self, by_record: u128) -> u128 {
        if self.limits.checks_appends {
            return by_record;
        }
        let route = self.upstream.unit_route;
        match self.table.find(route) {
            Some(number) if mutant::is(Mutant::UnitsByLane) => self.table.shard(number).0.first,
            _ => route,
        }
    }

    fn unit(&self, routes: &Routes, index: u32, what: UnitKind) -> Unit {
        let (sequence, sub) = routes.position(index);
        Unit {
            origin: Origin {
                sequence,
                sub,
                index: 0,
            },
            route: self.unit_route(routes.hashes[index as usize]),
            what,
        }
    }

    /// What an account from further upstream hands on; `first` is the index of its first unit among those of its
    /// position.
    fn units_of_account(
        &self,
        (sequence, sub): (Sequence, u32),
        first: u32,
        account: Account,
    ) -> impl Iterator<Item = Unit> + use<> {
        let route = self.unit_route(self.rule.of_account(sequence, sub));
        let dead_letters = account.dead_letters.into_iter().map(UnitKind::DeadLetter);
        let dropped = account
            .dropped
            .into_iter()
            .map(|dropped| UnitKind::Dropped {
                rule: dropped.rule,
                count: dropped.count,
            });
        dead_letters
            .chain(dropped)
            .zip(first..)
            .map(move |(what, index)| Unit {
                origin: Origin {
                    sequence,
                    sub,
                    index,
                },
                route,
                what,
            })
    }
}

/// What picks, routes and origin of a record take in a plan.
const PLANNED_BYTES: u64 = 24;

/// What a batch may grow by while it is changed and planned: by the bytes that a change writes again, and by its plan,
/// whichever of its records become dead letters, of which the transform keeps the list until all are planned. Nothing
/// for one that is counted elsewhere.
pub(super) fn growth_bytes(batch: &Batch) -> u64 {
    if batch.permit.bytes() == 0 {
        return 0;
    }
    let planned = PLANNED_BYTES + (size_of::<(u32, DeadLetter)>() + size_of::<Unit>()) as u64;
    batch.memory_bytes() + batch.account_bytes() + batch.len() as u64 * planned
}

/// Holds for a batch what it will take in memory with its plan, as far as it holds that much; answers what is missing.
/// One that holds nothing is counted elsewhere.
fn shrink_permit(batch: &mut Batch) -> u64 {
    let held = batch.permit.bytes();
    if held == 0 {
        return 0;
    }
    let needed = batch.memory_bytes() + batch.len() as u64 * PLANNED_BYTES;
    batch.permit.shrink_to(needed);
    needed.saturating_sub(held)
}

/// The units of both, which stand in the order of their positions each, in that order.
fn in_order(
    a: impl Iterator<Item = Unit>,
    b: impl Iterator<Item = Unit>,
) -> impl Iterator<Item = Unit> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    std::iter::from_fn(move || match b.peek().map(|unit| unit.origin.position()) {
        Some(at) => {
            let first = a.next_if(|unit| unit.origin.position() <= at);
            first.or_else(|| b.next())
        }
        None => a.next(),
    })
}

/// Each record that came in went on, or is a dead letter, or was dropped: exactly one of the three.
fn check_count(transformed: &Transformed, routes: &Routes) -> Result<()> {
    let input = routes.hashes.len();
    let lost = || {
        Error::fatal(format!(
            "a transform did not account for all of its {input} input records, which is a fault of hydrant; nothing of \
             the batch was sent"
        ))
    };
    let mut fates = vec![0u8; input];
    const WENT_ON: u8 = 1;
    const GIVEN_UP: u8 = 2;
    for &source in &transformed.sources {
        *fates.get_mut(source as usize).ok_or_else(lost)? |= WENT_ON;
    }
    let dead_letters = transformed.dead_letters.iter().map(|(index, _)| *index);
    let dropped = transformed.dropped.iter().map(|(index, _)| *index);
    for index in dead_letters.chain(dropped) {
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

/// Routes the items of several pieces of one batch again.
pub(super) fn reroute(
    pieces: Vec<AppendSlice>,
    table: &Table,
    limits: OutputLimits,
    to: Position,
) -> Result<Vec<(ShardId, AppendSlice)>> {
    let Some(first) = pieces.first() else {
        return Ok(Vec::new());
    };
    let batch = Arc::clone(&first.batch);
    let counted = first.counted;
    let explicit = pieces.iter().any(|piece| piece.explicit);
    let mut items = Vec::new();
    for piece in pieces {
        let records = piece.record_indexes.iter().zip(piece.routes.iter());
        for ((pick, route), origin) in records.zip(piece.origins.iter()) {
            items.push(Item::Record(*pick, origin, *route));
        }
        items.extend(piece.units.iter().cloned().map(Box::new).map(Item::Unit));
    }
    // Stable: records of one position keep their order.
    items.sort_by_key(|item| item.origin().position());
    let mut cutter = Cutter::new(&batch, table, limits, explicit, to);
    for item in items {
        cutter.push(item)?;
    }
    Ok(cutter.finish(counted))
}

/// Memory that a dead letter is counted with beside its detail.
const UNIT_BYTES: usize = 160;

#[derive(Default)]
struct GrowingSlice {
    record_indexes: Vec<u32>,
    routes: Vec<u128>,
    origins: OriginColumnBuilder,
    units: Vec<Unit>,
    bytes: usize,
    last: (Sequence, u32),
    appended_bytes: usize,
}

struct Cutter<'a> {
    batch: &'a Arc<Batch>,
    table: &'a Table,
    limits: OutputLimits,
    explicit: bool,
    to: Position,
    growing: BTreeMap<usize, GrowingSlice>,
    done: Vec<(ShardId, AppendSlice)>,
}

impl<'a> Cutter<'a> {
    fn new(
        batch: &'a Arc<Batch>,
        table: &'a Table,
        limits: OutputLimits,
        explicit: bool,
        to: Position,
    ) -> Self {
        Cutter {
            batch,
            table,
            limits,
            explicit,
            to,
            growing: BTreeMap::new(),
            done: Vec::new(),
        }
    }

    /// Items of one shard come in position order.
    fn push(&mut self, item: Item) -> Result<()> {
        match item {
            Item::Record(pick, origin, route) => {
                let bytes = self.batch.record_bytes(pick as usize);
                let growing = self.growing(origin, route, bytes, bytes)?;
                growing.record_indexes.push(pick);
                growing.routes.push(route);
                growing.origins.push(origin);
                Ok(())
            }
            Item::Unit(unit) => self.unit(*unit),
        }
    }

    /// Like [`Self::push`], for a unit that is not a record.
    fn unit(&mut self, unit: Unit) -> Result<()> {
        let (held, appended) = match &unit.what {
            UnitKind::DeadLetter(letter) => {
                let bytes = UNIT_BYTES + letter.detail.len();
                (bytes, bytes)
            }
            UnitKind::Dropped { .. } => (UNIT_BYTES, 0),
        };
        let growing = self.growing(unit.origin, unit.route, held, appended)?;
        growing.units.push(unit);
        Ok(())
    }

    /// The append that an item of these bytes joins.
    fn growing(
        &mut self,
        origin: Origin,
        route: u128,
        held: usize,
        appended: usize,
    ) -> Result<&mut GrowingSlice> {
        let number = self.table.find(route).ok_or_else(|| {
            Error::fatal(format!(
                "no open shard of the output owns the hash {route:032x}"
            ))
        })?;
        let at = (origin.sequence, origin.sub);
        let full = self.growing.get(&number).is_some_and(|growing| {
            growing.appended_bytes + appended > self.limits.append_bytes && growing.last != at
        });
        if full && let Some(growing) = self.growing.remove(&number) {
            let to = Position::at(growing.last.0, growing.last.1);
            self.close(number, growing, to);
        }
        let growing = self.growing.entry(number).or_default();
        growing.last = at;
        growing.appended_bytes += appended;
        growing.bytes += held;
        Ok(growing)
    }

    fn close(&mut self, number: usize, mut growing: GrowingSlice, to: Position) {
        growing.units.shrink_to_fit();
        let piece = AppendSlice {
            batch: Arc::clone(self.batch),
            record_indexes: growing.record_indexes.into(),
            routes: growing.routes.into(),
            explicit: self.explicit,
            origins: growing.origins.finish(),
            units: Arc::new(growing.units),
            to,
            bytes: growing.bytes,
            counted: true,
        };
        let (_, shard) = self.table.shard(number);
        self.done.push((shard.clone(), piece));
    }

    /// The appends; `counted` says whether the output keeps accounts of them.
    fn finish(mut self, counted: bool) -> Vec<(ShardId, AppendSlice)> {
        for (number, growing) in std::mem::take(&mut self.growing) {
            self.close(number, growing, self.to);
        }
        for (_, piece) in &mut self.done {
            piece.counted = counted;
        }
        self.done
    }
}

#[cfg(test)]
mod tests {
    use hydrant_core::Budget;
    use hydrant_core::batch::{Entry, Span};

    use super::*;

    /// Records of few bytes take more with their plan than their text does.
    #[test]
    fn a_batch_holds_what_it_takes_with_its_plan() {
        const RECORDS: usize = 100;
        let budget = Budget::new(1 << 20);
        let empty = Entry {
            segment: 0,
            key: None,
            payload: Span::default(),
            stamp: 0,
        };
        let batch = |held| Batch {
            records: vec![empty; RECORDS],
            permit: budget.try_acquire(held).unwrap(),
            ..Batch::default()
        };
        // A pick and a route, and where the record came from.
        let planned = (RECORDS * (size_of::<u32>() + size_of::<u128>() + 1)) as u64;
        let mut large = batch(1 << 16);
        let least = large.memory_bytes() + planned;
        assert_eq!(shrink_permit(&mut large), 0);
        let needed = large.permit.bytes();
        assert!((least..1 << 16).contains(&needed), "{needed} of {least}");
        // One that a transform made larger holds too little.
        let mut little = batch(7);
        assert_eq!(shrink_permit(&mut little), needed - 7);
        // What holds nothing is counted elsewhere.
        let mut none = Batch {
            permit: hydrant_core::Permit::default(),
            ..batch(1)
        };
        assert_eq!(shrink_permit(&mut none), 0);
    }
}
