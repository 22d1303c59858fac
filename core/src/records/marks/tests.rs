//! Marks against a naive oracle: for each hash and each origin, the set of positions that are known.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::position::Sequence;

/// Hashes 0..8 stand for the hash space.
const HASHES: u128 = 8;
/// Positions 1..=14 of an upstream shard; 0 is its beginning, [`END`] its end.
const POSITIONS: u64 = 14;
const END: u64 = POSITIONS + 1;
/// Each upstream record has so many outputs.
const OUTPUTS: u32 = 2;
const ORIGINS: u8 = 2;
/// An ended origin is forgotten after so many microseconds.
const ENDED_KEPT: i64 = 6;

fn range(first: u128, last: u128) -> HashRange {
    HashRange { first, last }
}

fn name(origin: u8) -> OriginName {
    // The same writer, so that its bytes are shared.
    (WriterId(7), ShardId::new(format!("{origin}")))
}

/// Two positions share a sequence number; the numbers of one origin have more than 64 bits.
fn origin(origin: u8, position: u64, index: u32) -> Origin {
    let high = u128::from(origin) << 40;
    Origin {
        sequence: Sequence::from_parts(high, u128::from(position / 2)),
        sub: (position % 2) as u32,
        index,
    }
}

fn p(of: u8, position: u64) -> Position {
    match position {
        0 => Position::Begin,
        END => Position::End,
        position => origin(of, position, 0).position(),
    }
}

/// Where an output of an upstream record goes, always.
fn route(origin: u8, position: u64, index: u32) -> u128 {
    u128::from((position * 5 + u64::from(index) * 3 + u64::from(origin)) % 8)
}

#[derive(Clone, Debug)]
struct Claimed {
    first: u128,
    last: u128,
    from: u64,
    to: u64,
}

#[derive(Clone, Debug)]
struct NaiveEntry {
    origin: u8,
    low: Option<u64>,
    claims: Vec<Claimed>,
}

#[derive(Clone, Debug)]
struct NaiveItem {
    entry: usize,
    position: u64,
    index: u32,
    is_record: bool,
}

#[derive(Clone, Debug)]
enum MarksOp {
    /// The shard that owns this hash gets a record, so much later than the one before.
    Read {
        hash: u128,
        later: i64,
        entries: Vec<NaiveEntry>,
        items: Vec<NaiveItem>,
    },
    Split {
        hash: u128,
        at: u128,
    },
    Merge {
        hash: u128,
    },
    /// The reader of a shard begins again from what it stored.
    Reopen {
        hash: u128,
    },
    /// The reader of a shard is set back to its beginning.
    Rewind {
        hash: u128,
    },
}

fn claim() -> impl Strategy<Value = Claimed> {
    let to = prop_oneof![4 => 0..=POSITIONS, 1 => Just(END)];
    (0..HASHES, 0..HASHES, 0..=POSITIONS, to).prop_map(|(a, b, from, to)| Claimed {
        first: a.min(b),
        last: a.max(b),
        from,
        to,
    })
}

fn entry() -> impl Strategy<Value = NaiveEntry> {
    let low = prop_oneof![2 => Just(None), 1 => (0..=POSITIONS).prop_map(Some)];
    (0..ORIGINS, low, prop::collection::vec(claim(), 0..3)).prop_map(|(origin, low, claims)| {
        NaiveEntry {
            origin,
            low,
            claims,
        }
    })
}

fn item() -> impl Strategy<Value = NaiveItem> {
    (0..4usize, 1..=POSITIONS, 0..OUTPUTS, any::<bool>()).prop_map(
        |(entry, position, index, is_record)| NaiveItem {
            entry,
            position,
            index,
            is_record,
        },
    )
}

fn op() -> impl Strategy<Value = MarksOp> {
    let entries = prop::collection::vec(entry(), 0..4);
    let items =
        (prop::collection::vec(item(), 0..8), any::<bool>()).prop_map(|(mut items, rise)| {
            if rise {
                items.sort_by_key(|item| (item.position, item.index));
            }
            items
        });
    prop_oneof![
        8 => (0..HASHES, 1i64..4, entries, items)
            .prop_map(|(hash, later, entries, items)| MarksOp::Read { hash, later, entries, items }),
        1 => (0..HASHES, 0..HASHES).prop_map(|(hash, at)| MarksOp::Split { hash, at }),
        1 => (0..HASHES).prop_map(|hash| MarksOp::Merge { hash }),
        1 => (0..HASHES).prop_map(|hash| MarksOp::Reopen { hash }),
        1 => (0..HASHES).prop_map(|hash| MarksOp::Rewind { hash }),
    ]
}

/// What is known of one origin at one hash: outputs of positions, and the end.
#[derive(Clone, Debug, Default, PartialEq)]
struct NaiveCell {
    known: BTreeSet<(u64, u32)>,
    ended: Option<i64>,
}

impl NaiveCell {
    fn add(&mut self, from: u64, to: u64) {
        let covered = (from + 1..=to).flat_map(|n| (0..OUTPUTS).map(move |index| (n, index)));
        self.known.extend(covered);
    }
}

/// The oracle of one shard: a cell for each origin and each hash of the space.
#[derive(Clone, Debug)]
struct Naive {
    range: HashRange,
    cells: Vec<Vec<NaiveCell>>,
}

impl Naive {
    fn new(range: HashRange) -> Self {
        let cells = vec![vec![NaiveCell::default(); HASHES as usize]; usize::from(ORIGINS)];
        Naive { range, cells }
    }

    fn hashes(&self, claim: &Claimed) -> impl Iterator<Item = usize> + use<> {
        let first = claim.first.max(self.range.first);
        let last = claim.last.min(self.range.last);
        (first..=last).map(|hash| hash as usize)
    }

    fn read(&mut self, arrival: i64, entries: &[NaiveEntry], items: &[NaiveItem]) -> Sifted {
        // Hashes share a segment when the same is known of them and no claim begins or ends between them.
        let follows = |origin: usize, hash: usize| {
            let cells = &self.cells[origin];
            let claims = entries
                .iter()
                .filter(|entry| usize::from(entry.origin) == origin)
                .flat_map(|entry| &entry.claims);
            let cut = claims
                .into_iter()
                .any(|claim| claim.first as usize == hash || claim.last as usize + 1 == hash);
            hash > self.range.first as usize && cells[hash - 1] == cells[hash] && !cut
        };
        let mut segments = vec![vec![0usize; HASHES as usize]; usize::from(ORIGINS)];
        for (origin, segments) in segments.iter_mut().enumerate() {
            for hash in self.range.first as usize..=self.range.last as usize {
                segments[hash] = match follows(origin, hash) {
                    true => segments[hash - 1],
                    false => hash,
                };
            }
        }
        for entry in entries {
            for claim in &entry.claims {
                for hash in self.hashes(claim) {
                    self.cells[usize::from(entry.origin)][hash].add(0, entry.low.unwrap_or(0));
                }
            }
        }
        let tops = self.cells.clone();
        let mut sifted = Sifted::default();
        for item in items {
            let entry = entries.get(item.entry);
            let of = entry.map_or(0, |entry| entry.origin);
            let route = route(of, item.position, item.index);
            let verdict = if !self.range.contains(route) {
                ItemVerdict::Elsewhere
            } else if entry.is_none() {
                ItemVerdict::Kept
            } else {
                let (origin, hash) = (usize::from(of), route as usize);
                let code = (item.position, item.index);
                if self.cells[origin][hash].known.contains(&code) {
                    ItemVerdict::Duplicate
                } else {
                    let below = tops[origin][hash].known.last() > Some(&code);
                    sifted.origin_gaps += u64::from(below && item.is_record);
                    for other in 0..HASHES as usize {
                        let same = segments[origin][other] == segments[origin][hash];
                        if same && self.range.contains(other as u128) {
                            self.cells[origin][other].known.insert(code);
                        }
                    }
                    ItemVerdict::Kept
                }
            };
            sifted.verdicts.push(verdict);
        }
        for entry in entries {
            for claim in &entry.claims {
                for hash in self.hashes(claim) {
                    let cell = &mut self.cells[usize::from(entry.origin)][hash];
                    cell.add(claim.from, claim.to);
                    if claim.to == END {
                        cell.ended = Some(arrival);
                    }
                }
            }
        }
        for cell in self.cells.iter_mut().flatten() {
            if cell.ended.is_some_and(|ended| arrival > ended + ENDED_KEPT) {
                *cell = NaiveCell::default();
            }
        }
        sifted
    }

    fn of_child(range: HashRange, parents: &[&Naive]) -> Naive {
        let mut child = Naive::new(range);
        for parent in parents {
            for (mine, theirs) in child.cells.iter_mut().zip(&parent.cells) {
                for hash in 0..HASHES {
                    if range.contains(hash) && parent.range.contains(hash) {
                        mine[hash as usize] = theirs[hash as usize].clone();
                    }
                }
            }
        }
        child
    }
}

struct ReaderPair {
    marks: ReaderMarks,
    naive: Naive,
}

/// What a child gets of its parent: its bytes, which alone say whose they are.
fn stored(marks: &ReaderMarks) -> Result<ReaderMarks, String> {
    let mut bytes = Vec::new();
    marks.encode(&mut bytes);
    let again = ReaderMarks::decode(&bytes).map_err(|error| error.to_string())?;
    match again.range == marks.range {
        true => Ok(again),
        false => Err(format!("{:?} comes back as {:?}", marks.range, again.range)),
    }
}

/// One run of readers and their oracles; says where they part.
fn run(ops: &[MarksOp]) -> Result<(), String> {
    let whole = range(0, HASHES - 1);
    let mut readers = vec![ReaderPair {
        marks: ReaderMarks::new(whole),
        naive: Naive::new(whole),
    }];
    let (mut now, mut next) = (0, 0);
    for op in ops {
        let of = |hash: u128, readers: &[ReaderPair]| {
            let owner = readers
                .iter()
                .position(|one| one.naive.range.contains(hash));
            owner.expect("each hash has an owner")
        };
        match op {
            MarksOp::Read {
                hash,
                later,
                entries,
                items,
            } => {
                now += later;
                next += 1;
                let n = of(*hash, &readers);
                let reader = &mut readers[n];
                let (tag, tagged) = tagged(entries, items);
                let record = StoredRecord {
                    at: Position::offset(next),
                    arrival: now,
                    entries: &tag,
                    items: &tagged,
                };
                let kept = Duration::from_micros(ENDED_KEPT as u64);
                let before = reader.marks.clone();
                let sifted = reader.marks.read(&record, kept);
                let expected = reader.naive.read(now, entries, items);
                if sifted != expected {
                    return Err(format!("{sifted:?}, not {expected:?}, after {before:?}"));
                }
            }
            MarksOp::Split { hash, at } => {
                let n = of(*hash, &readers);
                let Some((low, high)) = readers[n].naive.range.split(*at) else {
                    continue;
                };
                let parent = readers.remove(n);
                let known = stored(&parent.marks)?;
                for part in [low, high] {
                    readers.push(ReaderPair {
                        marks: ReaderMarks::of_child(part, std::slice::from_ref(&known)),
                        naive: Naive::of_child(part, &[&parent.naive]),
                    });
                }
            }
            MarksOp::Merge { hash } => {
                let a = readers.remove(of(*hash, &readers));
                let neighbour = |one: &ReaderPair| one.naive.range.join(a.naive.range);
                let found = readers.iter().position(|one| neighbour(one).is_some());
                let Some(n) = found else {
                    readers.push(a);
                    continue;
                };
                let b = readers.remove(n);
                let joined = neighbour(&b).expect("they are neighbours");
                readers.push(ReaderPair {
                    marks: ReaderMarks::of_child(joined, &[stored(&a.marks)?, stored(&b.marks)?]),
                    naive: Naive::of_child(joined, &[&a.naive, &b.naive]),
                });
            }
            MarksOp::Reopen { hash } => {
                let n = of(*hash, &readers);
                let reader = &mut readers[n];
                let mut stored = Vec::new();
                reader.marks.encode(&mut stored);
                let at = reader.marks.at();
                reader.marks = ReaderMarks::restored(&stored, reader.naive.range, at)
                    .map_err(|error| format!("{error} in {:?}", reader.marks))?;
            }
            MarksOp::Rewind { hash } => {
                let n = of(*hash, &readers);
                let reader = &mut readers[n];
                if reader.marks.at() == Position::Begin {
                    continue;
                }
                let mut stored = Vec::new();
                reader.marks.encode(&mut stored);
                reader.marks = ReaderMarks::restored(&stored, reader.naive.range, Position::Begin)
                    .map_err(|error| format!("{error} in {:?}", reader.marks))?;
                reader.naive = Naive::new(reader.naive.range);
            }
        }
        for reader in &readers {
            agrees(reader)?;
        }
    }
    Ok(())
}

fn tagged(entries: &[NaiveEntry], items: &[NaiveItem]) -> (Vec<TagEntry>, Vec<TagItem>) {
    let tag = entries.iter().map(|entry| {
        let (writer, shard) = name(entry.origin);
        let claims = entry.claims.iter().map(|claim| TagClaim {
            range: range(claim.first, claim.last),
            from: p(entry.origin, claim.from),
            to: p(entry.origin, claim.to),
        });
        TagEntry {
            writer,
            shard,
            low: entry.low.map(|low| p(entry.origin, low)),
            claims: claims.collect(),
        }
    });
    let items = items.iter().map(|item| {
        let of = entries.get(item.entry).map_or(0, |entry| entry.origin);
        TagItem {
            entry: item.entry,
            origin: origin(of, item.position, item.index),
            route: route(of, item.position, item.index),
            is_record: item.is_record,
        }
    });
    (tag.collect(), items.collect())
}

/// Marks know what the oracle knows, in segments of which no neighbours are alike, and come back from their bytes.
fn agrees(reader: &ReaderPair) -> Result<(), String> {
    let ReaderPair { marks, naive } = reader;
    for of in 0..ORIGINS {
        let segments = marks.origins.get(&name(of));
        for hash in naive.range.first..=naive.range.last {
            let cell = &naive.cells[usize::from(of)][hash as usize];
            let segment = segments.map(|segments| {
                let at = segments.partition_point(|segment| segment.last < hash);
                &segments[at]
            });
            for (position, index) in (1..=END).flat_map(|n| (0..OUTPUTS).map(move |i| (n, i))) {
                let edge = match position {
                    END => Edge {
                        position: Position::End,
                        outputs: u64::from(index),
                    },
                    position => Edge::before(origin(of, position, index)),
                };
                let known = segment.is_some_and(|segment| segment.known.contains(edge));
                if known != cell.known.contains(&(position, index)) {
                    return Err(format!("{position}.{index} at {hash} in {marks:?}"));
                }
            }
            if segment.and_then(|segment| segment.ended) != cell.ended {
                return Err(format!("the end at {hash} in {marks:?}"));
            }
        }
        let alike = segments.is_some_and(|segments| {
            let alike =
                |two: &[HashSegment]| two[0].known == two[1].known && two[0].ended == two[1].ended;
            segments.windows(2).any(alike)
        });
        if alike {
            return Err(format!("neighbours are alike in {marks:?}"));
        }
    }
    let mut out = Vec::new();
    marks.encode(&mut out);
    match ReaderMarks::decode(&out) {
        Ok(again) if again == *marks => Ok(()),
        other => Err(format!("{marks:?} comes back as {other:?}")),
    }
}

fn ops() -> impl Strategy<Value = Vec<MarksOp>> {
    prop::collection::vec(op(), 1..24)
}

proptest! {
    #![proptest_config(Config::with_cases(512))]

    #[test]
    fn marks_know_what_sets_of_hashes_and_positions_know(ops in ops()) {
        run(&ops).map_err(TestCaseError::fail)?;
    }

    /// What is read again from its stored marks is the same again, at every boundary.
    #[test]
    fn an_interval_is_the_same_again_from_its_stored_marks(ops in ops(), stop in 0usize..24) {
        let whole = range(0, HASHES - 1);
        let mut marks = ReaderMarks::new(whole);
        let mut stored: Option<(ReaderMarks, Vec<Sifted>)> = None;
        let reads = ops.iter().filter_map(|op| match op {
            MarksOp::Read { entries, items, .. } => Some(tagged(entries, items)),
            _ => None,
        });
        for again in [false, true] {
            for (n, (entries, items)) in reads.clone().enumerate() {
                if n < stop && again {
                    continue;
                }
                if n == stop && !again {
                    let mut bytes = Vec::new();
                    marks.encode(&mut bytes);
                    let restored = ReaderMarks::restored(&bytes, whole, marks.at())
                        .map_err(|error| TestCaseError::fail(error.to_string()))?;
                    stored = Some((restored, Vec::new()));
                }
                let record = StoredRecord {
                    at: Position::offset(n as u64),
                    arrival: n as i64,
                    entries: &entries,
                    items: &items,
                };
                let sifted = marks.read(&record, Duration::from_micros(3));
                match &mut stored {
                    Some((_, first)) if !again => first.push(sifted),
                    Some((_, first)) => prop_assert_eq!(sifted, first.remove(0)),
                    None => {}
                }
            }
            match &stored {
                Some((from, _)) => marks = from.clone(),
                None => break,
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_marks(bytes in any::<Vec<u8>>()) {
        drop(ReaderMarks::decode(&bytes));
    }
}

/// Runs that a broken variant may take until it is killed.
const RUNS: u32 = 2_000;

fn is_killed(broken: Mutant) -> bool {
    let mut runner = TestRunner::deterministic();
    let strategy = ops();
    (0..RUNS).any(|_| {
        let ops = strategy.new_tree(&mut runner).expect("runs are made");
        mutant::with(Some(broken), || run(&ops.current())).is_err()
    })
}

#[test]
fn each_broken_variant_falls() {
    use Mutant::*;
    for broken in [
        FilteredMoveMarks,
        RangeNotFiltered,
        ClaimOfWholeSegments,
        FirstSightKnowsBefore,
        HighWaterMark,
        UnitKnownByAnySegment,
        UnitKnownByAllSegments,
        UnitKnownByFirstSegment,
        EndedPrunedAtOnce,
        OriginPerStoredRecord,
        OutputIndexIgnored,
        MarksKeptOverRewind,
        MergedByMax,
        MergedByMin,
        ChildrenWithoutMarks,
        MarksNotStored,
    ] {
        assert!(is_killed(broken), "{broken:?} survives {RUNS} runs");
    }
}

/// The example of the protocol: a shard is split, and what its parent took arrives once more in both children.
#[test]
fn children_know_what_the_reader_of_their_parent_knew() {
    let kept = Duration::from_secs(86_400);
    let item = |position, route| TagItem {
        entry: 0,
        origin: Origin {
            sequence: Sequence::from(position),
            sub: 0,
            index: 0,
        },
        route,
        is_record: true,
    };
    let entry = |low: Option<u64>, range, from: Position, to| TagEntry {
        writer: WriterId(1),
        shard: "000001".into(),
        low: low.map(Position::offset),
        claims: vec![TagClaim {
            range,
            from,
            to: Position::offset(to),
        }],
    };
    let read = |marks: &mut ReaderMarks, at, entry: &TagEntry, items: &[TagItem]| {
        let record = StoredRecord {
            at: Position::offset(at),
            arrival: 0,
            entries: std::slice::from_ref(entry),
            items,
        };
        marks.read(&record, kept)
    };
    use ItemVerdict::{Duplicate, Elsewhere, Kept};
    let whole = range(0, 99);
    let mut parent = ReaderMarks::new(whole);
    let first = entry(None, whole, Position::Begin, 2);
    let items = [item(1, 10), item(2, 90)];
    let sifted = read(&mut parent, 1, &first, &items);
    assert_eq!(sifted.verdicts, [Kept, Kept]);

    let (low, high) = whole.split(50).unwrap();
    let mut low = ReaderMarks::of_child(low, std::slice::from_ref(&parent));
    let mut high = ReaderMarks::of_child(high, std::slice::from_ref(&parent));
    assert_eq!(
        read(&mut low, 1, &first, &items).verdicts,
        [Duplicate, Elsewhere]
    );
    assert_eq!(
        read(&mut high, 1, &first, &items).verdicts,
        [Elsewhere, Duplicate]
    );

    // A later record comes first: it is kept, and so is the one that it passed.
    let fourth = entry(None, whole, Position::offset(3), 4);
    let third = entry(None, whole, Position::offset(2), 3);
    assert_eq!(read(&mut low, 2, &fourth, &[item(4, 20)]).origin_gaps, 0);
    let sifted = read(&mut low, 3, &third, &[item(3, 30)]);
    assert_eq!((sifted.verdicts, sifted.origin_gaps), (vec![Kept], 1));

    // The merged shard knows in each half what its reader knew: the third went to the lower one only.
    let mut merged = ReaderMarks::of_child(whole, &[low, high]);
    let again = entry(None, whole, Position::offset(2), 4);
    let items = [item(3, 30), item(4, 20), item(4, 60)];
    let sifted = read(&mut merged, 1, &again, &items);
    assert_eq!(sifted.verdicts, [Duplicate, Duplicate, Kept]);
    // Those of one shard are not another one's.
    let mut bytes = Vec::new();
    merged.encode(&mut bytes);
    assert!(ReaderMarks::restored(&bytes, whole, merged.at()).is_ok());
    assert_eq!(
        ReaderMarks::restored(&bytes, range(0, 50), merged.at()),
        Err(Malformed)
    );
    // What is known everywhere is one segment again.
    let segments: Vec<_> = merged.origins.values().map(Vec::len).collect();
    assert_eq!(segments, [1]);
}
