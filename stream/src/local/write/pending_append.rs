//! One append before it has an offset: checking, encoding, and leaving out what the shard has.

use std::sync::Arc;

use bytes::Bytes;
use hydrant_core::error::Rewound;
use hydrant_core::headers;
use hydrant_core::origin::{Account, DeadLetter, OriginEntry, WriterId};
use hydrant_core::stream::{Append, Unit, UnitKind};
use hydrant_core::{Error, HashRange, Result, ShardId};

use crate::local::format::columns;
use crate::local::format::dedup_state::{OriginInterval, OriginMark, Standing, standing};
use crate::local::format::frame::{
    BodyColumns, Codec, HEADER_BYTES, Header, META_BYTES_MAX, RAW_BYTES_MAX,
};

/// What an origin entry takes beside its dead letters, unless it holds many records.
const META_BYTES_USUAL: usize = 256;

/// An append on its way to the log, with the permit of its records; clones share it. The account of its entry is what
/// `input` and `units` make.
#[derive(Clone, Debug)]
pub(crate) struct PendingAppend(Arc<Append>);

/// A frame that lacks only its offset and its arrival.
#[derive(Clone, Debug)]
pub(crate) struct EncodedAppend {
    header: Header,
    /// Room for the header, and the origin entry.
    head: Vec<u8>,
    body: Bytes,
    pub(crate) claim: Option<OriginInterval>,
    /// Whether a record or unit lies at or before the start of the interval.
    pub(crate) reaches_back: bool,
}

impl EncodedAppend {
    /// Offsets that the frame takes.
    pub(crate) fn slots(&self) -> u64 {
        self.header.slots()
    }

    /// Records in it.
    pub(crate) fn records(&self) -> u64 {
        u64::from(self.header.records)
    }

    /// Bytes of the frame.
    pub(crate) fn frame_len(&self) -> u64 {
        self.header.frame_len()
    }

    /// The frame at its place.
    pub(crate) fn at(self, base: u64, arrival: i64, salt: u64) -> [Bytes; 2] {
        let header = Header {
            base,
            arrival,
            ..self.header
        };
        let mut head = self.head;
        head[..HEADER_BYTES].copy_from_slice(&header.encode(salt));
        [head.into(), self.body]
    }
}

impl PendingAppend {
    pub(crate) fn new(append: Append) -> Self {
        debug_assert_eq!(
            append.claims.iter().map(|claim| claim.from).min(),
            append.entry.as_ref().map(|entry| entry.from),
            "an entry starts at the least of its claims"
        );
        PendingAppend(Arc::new(append))
    }

    /// What ends with its process, if the append is of a run.
    pub(crate) fn run(&self) -> Option<WriterId> {
        let writer = self.0.entry.as_ref()?.writer;
        writer.is_run().then_some(writer)
    }

    /// The bytes of keys, payloads and headers; refused when a pick lies outside the batch or the parts do not match.
    pub(crate) fn bytes(&self) -> Result<u64> {
        if self.0.routes.len() != self.0.record_indexes.len() {
            return Err(Error::fatal("an append has not one route for each record"));
        }
        let mut bytes = 0;
        for pick in self.0.record_indexes.iter() {
            let entry = self.0.batch.records.get(*pick as usize);
            let entry =
                entry.ok_or_else(|| Error::fatal("an append picks no record of its batch"))?;
            let key = entry.key.map_or(0, |key| key.len);
            bytes += u64::from(key) + u64::from(entry.payload.len);
        }
        if !self.0.batch.headers.is_empty() {
            let record_indexes = self.0.record_indexes.iter().map(|pick| *pick as usize);
            let headers = record_indexes.map(|pick| self.0.batch.headers(pick).len() as u64);
            bytes += headers.sum::<u64>();
        }
        Ok(bytes)
    }

    /// About what its frame takes at most, when the bytes of its records are `bytes`.
    pub(crate) fn encoded_bytes_max(&self, bytes: u64) -> u64 {
        let hash = if self.0.explicit { 16 } else { 0 };
        let headers = if self.0.batch.headers.is_empty() {
            0
        } else {
            2
        };
        let index = columns::INDEX_BYTES_USUAL + hash + headers;
        let dead_letters: u64 = self.dead_letters().map(DeadLetter::encoded_bytes_max).sum();
        bytes + self.0.record_indexes.len() as u64 * index + dead_letters + HEADER_BYTES as u64
    }

    fn check(&self, range: HashRange) -> Result<()> {
        if !self.0.routes.iter().all(|route| range.contains(*route)) {
            return Err(Error::fatal(
                "an append holds a record that routes to another shard",
            ));
        }
        let Some(entry) = &self.0.entry else {
            return Ok(());
        };
        let outside =
            |unit: &&Unit| entry.to < unit.origin.position() || !range.contains(unit.route);
        if let Some(unit) = self.0.units.iter().find(outside) {
            return Err(Error::fatal(format!(
                "an append holds a unit of origin {} beyond its interval or outside its shard",
                unit.origin.position()
            )));
        }
        if entry.to < entry.from {
            return Err(Error::fatal(
                "the origin interval of an append ends before it starts",
            ));
        }
        let mut count = 0;
        for origin in entry.origins.iter() {
            let position = origin.position();
            if entry.to < position {
                return Err(Error::fatal(format!(
                    "an append holds a record of origin {position} beyond its interval, which ends at {}",
                    entry.to
                )));
            }
            count += 1;
        }
        if count != self.0.record_indexes.len() {
            return Err(Error::fatal("an append has not one origin for each record"));
        }
        Ok(())
    }

    /// Encodes the frame for a shard that owns `range`.
    pub(crate) fn encode(&self, range: HashRange, codec: Codec) -> Result<EncodedAppend> {
        self.check(range)?;
        let columns = BodyColumns::of(&self.0.batch, &self.0.record_indexes, self.0.explicit);
        if columns.headers {
            let mut blocks = self
                .0
                .record_indexes
                .iter()
                .map(|pick| self.0.batch.headers(*pick as usize));
            if !blocks.all(headers::is_block) {
                return Err(Error::fatal("an append holds headers that are malformed"));
            }
        }
        let raw = columns::lay_out(
            &self.0.batch,
            &self.0.record_indexes,
            &self.0.routes,
            columns,
        )
        .ok_or_else(|| {
            Error::refused(format!(
                "an append exceeds {RAW_BYTES_MAX} bytes: append less at once"
            ))
        })?;
        let raw_len = raw.len() as u32;
        let (codec, body) = columns::compress(raw, codec);
        let account = self.account()?;
        let has_account = account.is_some();
        let dead_letters: u64 = self.dead_letters().map(DeadLetter::encoded_bytes_max).sum();
        let mut head = Vec::with_capacity(HEADER_BYTES + META_BYTES_USUAL + dead_letters as usize);
        head.resize(HEADER_BYTES, 0);
        if let Some(entry) = &self.0.entry {
            entry.encode_with(account.as_ref(), self.dead_letters(), &mut head);
        }
        if dead_letters > 0 {
            head.shrink_to_fit();
        }
        let meta = &head[HEADER_BYTES..];
        if meta.len() > META_BYTES_MAX {
            return Err(Error::refused(format!(
                "the origins and dead letters of an append exceed {META_BYTES_MAX} bytes: append less at once"
            )));
        }
        let header = Header {
            codec,
            account: has_account,
            columns,
            base: 0,
            records: self.0.record_indexes.len() as u32,
            arrival: 0,
            meta_len: meta.len() as u32,
            body_len: body.len() as u32,
            raw_len,
            meta_crc: crc32c::crc32c(meta),
            body_crc: crc32c::crc32c(&body),
        };
        Ok(EncodedAppend {
            header,
            head,
            body,
            claim: self.0.entry.as_ref().map(OriginInterval::from),
            reaches_back: self.0.entry.as_ref().is_some_and(|entry| {
                let mut origins = entry.origins.iter();
                let mut units = self.0.units.iter();
                origins.any(|origin| origin.position() <= entry.from)
                    || units.any(|unit| unit.origin.position() <= entry.from)
            }),
        })
    }

    fn dead_letters(&self) -> impl Iterator<Item = &DeadLetter> + Clone {
        self.0.units.iter().filter_map(|unit| match &unit.what {
            UnitKind::DeadLetter(letter) => Some(letter),
            UnitKind::Dropped { .. } => None,
        })
    }

    /// What became of the upstream units, without the dead letters; `None` when it would say nothing.
    fn account(&self) -> Result<Option<Account>> {
        let Some(input) = self.0.input else {
            return Ok(None);
        };
        if self.0.entry.is_none() {
            return Err(Error::fatal(
                "an append counts upstream units but names no origin",
            ));
        }
        let mut account = Account {
            input,
            records: self.0.record_indexes.len() as u64,
            ..Account::default()
        };
        for unit in self.0.units.iter() {
            if let UnitKind::Dropped { rule, count } = &unit.what {
                account.drop_by(rule, *count);
            }
        }
        let says_something = account != Account::default() || !self.0.units.is_empty();
        Ok(says_something.then_some(account))
    }

    /// What is left for `shard` when the records and units known by `marks` are left out; refused when it holds one from
    /// before the place where its writer began.
    ///
    /// A successor may cut its intervals elsewhere than its predecessor did, so an account may be known in part: each
    /// of its units counts at its own upstream position and route, like a record.
    pub(crate) fn without(&self, marks: &[OriginMark], shard: &ShardId) -> Result<PendingAppend> {
        let Some(entry) = &self.0.entry else {
            return Ok(self.clone());
        };
        let mut record_indexes = Vec::new();
        let mut routes = Vec::new();
        let mut origins = Vec::new();
        let mut known = 0u64;
        let is_known = |route, at| match standing(marks, route, at) {
            Standing::New => Ok(false),
            Standing::Known => Ok(true),
            Standing::Before(start) => Err(Error::Rewound(Box::new(Rewound {
                shard: shard.clone(),
                start,
                at,
            }))),
        };
        for (n, origin) in entry.origins.iter().enumerate() {
            let route = self.0.routes[n];
            if is_known(route, origin.position())? {
                known += 1;
            } else {
                record_indexes.push(self.0.record_indexes[n]);
                routes.push(route);
                origins.push(origin);
            }
        }
        let mut units = Vec::new();
        for unit in self.0.units.iter() {
            if is_known(unit.route, unit.origin.position())? {
                known += unit.count();
            } else {
                units.push(unit.clone());
            }
        }
        let input = match self.0.input {
            Some(input) => Some(input.checked_sub(known).ok_or_else(|| {
                Error::fatal("an append holds more units than it counted as its input")
            })?),
            None => None,
        };
        let entry = OriginEntry {
            origins: origins.into_iter().collect(),
            ..entry.clone()
        };
        Ok(PendingAppend(Arc::new(Append {
            batch: Arc::clone(&self.0.batch),
            record_indexes: record_indexes.into(),
            routes: routes.into(),
            explicit: self.0.explicit,
            entry: Some(entry),
            input,
            units: Arc::new(units),
            ..Append::default()
        })))
    }
}
