//! Splits bytes into records.
//!
//! Owns the rules of the formats. In [`RecordFormat::Ndjson`] a line is a record. In [`RecordFormat::Json`] a document is one,
//! wherever lines end, and a top-level array is its elements. [`RecordFormat::Auto`] is both: a line that begins with `{`
//! and ends with `}` is a record; anything else is looked at as documents from the start of its line on. Where that
//! fails, [`damage`] decides whether a line was cut, which costs itself, or a document over several lines is damaged.
//!
//! Promises: the same bytes give the same records with the same indexes, however they are cut into reads; nothing is
//! left out but blank space, commas between documents, the brackets of top-level arrays and what is refused; a record
//! that is longer than allowed is not kept in memory.

use std::ops::Range;

use super::document::{DocumentScan, ScanStep};
use super::shape::{
    BYTE_ORDER_MARK, Wreck, another_follows, indent, is_blank, is_framed, is_mark_begun, is_opened,
    is_record, trim, trim_start,
};
use super::{LineBlock, RecordRange, RefusedLine};

mod damage;
mod replay;

pub(super) use replay::{Replay, Replayed};

/// What a record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordFormat {
    /// A line, or a JSON document where lines are not records.
    #[default]
    Auto,
    /// A line.
    Ndjson,
    /// A JSON document, or an element of a top-level array.
    Json,
}

impl RecordFormat {
    /// The name in flags.
    pub const fn name(self) -> &'static str {
        match self {
            RecordFormat::Auto => "auto",
            RecordFormat::Ndjson => "ndjson",
            RecordFormat::Json => "json",
        }
    }
}

/// How much of the input is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// More may follow at once.
    More,
    /// No more is there now; an unfinished record waits.
    Pause,
    /// Nothing follows: what is unfinished is a record.
    End,
}

/// What is there of a source, and where its records go.
struct Piece<'a> {
    bytes: &'a [u8],
    extent: Extent,
    block: &'a mut LineBlock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SplitState {
    /// At the start of a line that may be a record.
    Line,
    /// Between documents: in an array, behind another document of the line, or in [`RecordFormat::Json`].
    Between,
    /// In a document.
    Document,
    /// Behind the first document of a line, which is this long.
    Closed(usize),
    /// In a record that ends with its line.
    Rest,
    /// In an element of an array that is neither an object nor an array.
    Scalar,
    /// In a line that is too long, of which so many bytes are gone.
    Discard(u64),
    /// In a document that is too long, and that the scan is in.
    Long(DiscardedBytes),
    /// In an element that is too long and neither an object nor an array; whether in a string of it.
    LongScalar(DiscardedBytes, bool),
    /// In a document that is damaged, whose end is looked for line by line; whether it continues to the end of the line
    /// whatever that is.
    Wreck(DiscardedBytes, bool),
    /// At the start of a line behind damage of which nothing, or lines that look like the inside of a document, are
    /// gone.
    Behind(Option<DiscardedBytes>),
}

/// What was thrown away of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DiscardedBytes {
    /// The line that it began in.
    line: u64,
    bytes: u64,
}

pub(super) const ARRAY: &str = "a JSON array, each element is a record";
pub(super) const LINES: &str = "NDJSON, each line is a record";
pub(super) const SPANNING: &str = "JSON documents over several lines, each is a record";
pub(super) const DOCUMENTS: &str = "JSON documents, each is a record";
pub(super) const JOINED: &str = "JSON documents without line ends between them, each is a record";

/// Finds records in bytes that come piece by piece.
#[derive(Clone, Debug)]
pub(super) struct Splitter {
    format: RecordFormat,
    bytes_max: usize,
    state: SplitState,
    scan: DocumentScan,
    in_array: bool,
    /// How far the line of the document is moved in, and, between documents, whether it is still blank.
    indent: usize,
    is_fresh: bool,
    /// How far a line is moved in whose blank space was taken before the rest of it came.
    lead: usize,
    /// Whether blank space of the line was taken.
    is_begun: bool,
    /// Records at the top level have commas behind them.
    has_commas: bool,
    /// The damaged document whose parts may still come.
    wreck: Option<Wreck>,
    /// Bytes from the record's start in which no line end was found.
    searched: usize,
    /// The number of the line, from 1.
    pub(super) line: u64,
    /// The index of the next record.
    pub(super) index: u64,
    /// Where the last record began of which bytes were thrown away, if it began in the bytes of the last call.
    discarded: Option<RecordStart>,
    /// Whether a record was handed out.
    has_taken: bool,
    pub(super) found: Option<&'static str>,
}

impl Splitter {
    pub(super) const fn new(format: RecordFormat, bytes_max: usize) -> Self {
        Splitter {
            format,
            bytes_max,
            state: match format {
                RecordFormat::Json => SplitState::Between,
                RecordFormat::Auto | RecordFormat::Ndjson => SplitState::Line,
            },
            scan: DocumentScan::new(),
            in_array: false,
            indent: 0,
            is_fresh: true,
            lead: 0,
            is_begun: false,
            has_commas: false,
            wreck: None,
            searched: 0,
            line: 1,
            index: 0,
            discarded: None,
            has_taken: false,
            found: None,
        }
    }

    /// Whether a top-level array is open.
    pub(super) const fn is_in_array(&self) -> bool {
        self.in_array
    }

    /// Whether bytes were thrown away of a record that has not ended.
    pub(super) const fn is_discarding(&self) -> bool {
        matches!(
            self.state,
            SplitState::Discard(..)
                | SplitState::Long(_)
                | SplitState::LongScalar(..)
                | SplitState::Wreck(..)
                | SplitState::Behind(Some(_))
        )
    }

    /// Where the record begins that is being thrown away, if it began in the bytes of the last call.
    pub(super) const fn discarded(&self) -> Option<RecordStart> {
        if self.is_discarding() {
            self.discarded
        } else {
            None
        }
    }

    const fn stands(&self, at: usize) -> RecordStart {
        RecordStart {
            at,
            line: self.line,
            index: self.index,
        }
    }

    /// Takes the finished records out of `bytes`, which begin with what the last call left; answers how many bytes
    /// are done with.
    pub(super) fn split(&mut self, bytes: &[u8], extent: Extent, block: &mut LineBlock) -> usize {
        let piece = &mut Piece {
            bytes,
            extent,
            block,
        };
        let mut at = 0;
        self.discarded = None;
        loop {
            let (stood, was_discarding) = (self.stands(at), self.is_discarding());
            let next = self.step(piece, at);
            if self.is_discarding() && !was_discarding {
                self.discarded = Some(stood);
            }
            let (Advance::At(place) | Advance::Wait(place)) = next;
            debug_assert!((at..=bytes.len()).contains(&place), "reading goes forward");
            at = place;
            if matches!(next, Advance::Wait(_)) {
                break;
            }
        }
        let unfinished = bytes.len() - at;
        if unfinished >= self.window() && matches!(self.state, SplitState::Line | SplitState::Rest)
        {
            self.discarded = Some(self.stands(at));
            self.state = SplitState::Discard(unfinished as u64);
            self.searched = 0;
            return bytes.len();
        }
        at
    }

    /// Does what the state asks for at `at`.
    fn step(&mut self, piece: &mut Piece<'_>, at: usize) -> Advance {
        match self.state {
            SplitState::Line => self.lines(piece, at),
            SplitState::Between => self.between(piece, at),
            SplitState::Document => self.document(piece, at),
            SplitState::Closed(length) => self.closed(piece, at, length),
            SplitState::Rest => self.rest(piece, at),
            SplitState::Scalar => self.scalar(piece, at),
            SplitState::Discard(gone) => self.discard(piece, at, gone),
            SplitState::Long(gone) => self.long(piece, at, gone),
            SplitState::LongScalar(gone, in_string) => self.long_scalar(piece, at, gone, in_string),
            SplitState::Wreck(gone, in_line) => self.wreck(piece, at, gone, in_line),
            SplitState::Behind(gone) => self.behind(piece, at, gone),
        }
    }

    /// How many bytes of a record are looked at before it is too long, whatever is there: so that it does not matter
    /// how much is. One byte more than allowed may be a carriage return.
    const fn window(&self) -> usize {
        self.bytes_max.saturating_add(2)
    }

    /// So many bytes of a record that began in this line.
    const fn gone(&self, bytes: usize) -> DiscardedBytes {
        DiscardedBytes {
            line: self.line,
            bytes: bytes as u64,
        }
    }

    /// The bytes from `at` on that are looked at, and whether these are all that ever will be.
    fn look<'a>(&self, bytes: &'a [u8], at: usize) -> (&'a [u8], bool) {
        let rest = &bytes[at..];
        (
            &rest[..rest.len().min(self.window())],
            rest.len() >= self.window(),
        )
    }

    /// Takes whole lines as long as they look like records. This is the path of NDJSON.
    fn lines(&mut self, piece: &mut Piece<'_>, mut at: usize) -> Advance {
        let bytes = piece.bytes;
        let from = at + std::mem::take(&mut self.searched);
        let (begun_at, is_begun) = (at, std::mem::take(&mut self.is_begun));
        if self.format == RecordFormat::Auto {
            let window = self.window();
            let mut several = false;
            for place in memchr::memchr2_iter(b'\n', b'}', &bytes[from..]) {
                let place = from + place;
                if bytes[place] == b'}' {
                    several |= another_follows(&bytes[place + 1..]);
                } else if std::mem::take(&mut several)
                    || !is_framed(&bytes[at..place])
                    || place - at >= window
                {
                    let line = trim(bytes, at..place);
                    if !line.is_empty() && matches!(bytes[line.start], b'{' | b'[') {
                        self.indent = self.lead(&bytes[at..line.start]);
                        return self.begin(piece, line.start);
                    }
                    self.take_line(piece, at..place);
                    at = place + 1;
                } else {
                    self.take_line(piece, at..place);
                    at = place + 1;
                }
            }
        } else {
            for end in memchr::memchr_iter(b'\n', &bytes[from..]) {
                self.take_line(piece, at..from + end);
                at = from + end + 1;
            }
        }
        let line = trim_start(bytes, at..bytes.len());
        let margin = self.lead(&bytes[at..line.start]);
        let is_begun = at < line.start || at == begun_at && is_begun;
        self.unfinished_line(piece, line, margin, is_begun)
    }

    fn take_line(&mut self, piece: &mut Piece<'_>, line: Range<usize>) {
        let bytes = piece.bytes;
        self.lead = 0;
        let line = trim_start(bytes, line);
        let whole = line.len();
        let range = trim(bytes, line);
        if !range.is_empty() {
            self.found.get_or_insert(LINES);
        }
        self.take(piece, range, whole);
        self.line += 1;
    }

    /// At a line whose end has not come, behind the blank space before it, which may be long and is not kept.
    fn unfinished_line(
        &mut self,
        piece: &mut Piece<'_>,
        line: Range<usize>,
        margin: usize,
        is_begun: bool,
    ) -> Advance {
        let bytes = piece.bytes;
        let looks = self.format == RecordFormat::Auto;
        match bytes.get(line.start) {
            Some(b'{' | b'[') if looks => {
                self.indent = margin;
                self.begin(piece, line.start)
            }
            Some(_)
                if looks
                    && (piece.extent == Extent::End || !is_mark_begun(&bytes[line.clone()])) =>
            {
                self.state = SplitState::Rest;
                Advance::At(line.start)
            }
            _ if piece.extent == Extent::End => {
                if is_begun || !line.is_empty() {
                    let whole = line.len();
                    self.take(piece, trim(bytes, line), whole);
                }
                self.lead = margin;
                Advance::Wait(bytes.len())
            }
            _ => {
                self.lead = margin;
                self.is_begun = is_begun && line.is_empty();
                self.searched = line.len();
                Advance::Wait(line.start)
            }
        }
    }

    /// Begins the document, or the top-level array of records, at `at`.
    fn begin(&mut self, piece: &mut Piece<'_>, at: usize) -> Advance {
        let bytes = piece.bytes;
        if bytes[at] == b'[' && !self.in_array {
            let (rest, is_all) = self.look(bytes, at);
            let inside = rest[1..].iter().find(|byte| !is_blank(**byte));
            match (inside, self.format) {
                (_, RecordFormat::Json) | (Some(b'{' | b']'), _) => return self.enter(at),
                (Some(_), _) => {}
                (None, _) if piece.extent != Extent::End && !is_all => {
                    self.state = SplitState::Line;
                    self.lead = self.indent;
                    return Advance::Wait(at);
                }
                // Where a place lies behind it, the array was entered.
                (None, _) => return self.enter(at),
            }
        }
        self.scan = DocumentScan::new();
        self.state = SplitState::Document;
        Advance::At(at)
    }

    fn enter(&mut self, at: usize) -> Advance {
        self.found.get_or_insert(ARRAY);
        self.in_array = true;
        self.is_fresh = false;
        self.state = SplitState::Between;
        Advance::At(at + 1)
    }

    fn between(&mut self, piece: &mut Piece<'_>, mut at: usize) -> Advance {
        let bytes = piece.bytes;
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b'\n' => {
                    self.line += 1;
                    (self.indent, self.is_fresh) = (0, true);
                    if !self.in_array && (self.format == RecordFormat::Auto || self.wreck.is_some())
                    {
                        self.state = self.line_start();
                        return Advance::At(at + 1);
                    }
                }
                b' ' | b'\t' => self.indent += usize::from(self.is_fresh),
                b']' if self.in_array => (self.in_array, self.is_fresh) = (false, false),
                b',' => {
                    self.is_fresh = false;
                    self.has_commas |= !self.in_array;
                }
                b'{' | b'[' => {
                    self.is_fresh = false;
                    return self.begin(piece, at);
                }
                _ if is_blank(byte) => {}
                0xEF if piece.extent != Extent::End && is_mark_begun(&bytes[at..]) => {
                    return Advance::Wait(at);
                }
                0xEF if bytes[at..].starts_with(BYTE_ORDER_MARK) => at += 2,
                _ => {
                    self.is_fresh = false;
                    if self.in_array {
                        self.state = SplitState::Scalar;
                    } else {
                        self.wreck = Some(Wreck::new(self.indent, b'{'));
                        self.state = SplitState::Rest;
                    }
                    return Advance::At(at);
                }
            }
            at += 1;
        }
        Advance::Wait(at)
    }

    fn document(&mut self, piece: &mut Piece<'_>, at: usize) -> Advance {
        let bytes = piece.bytes;
        let by_line = self.format == RecordFormat::Auto && !self.in_array;
        let (rest, is_all) = self.look(bytes, at);
        match self.scan.run(rest) {
            ScanStep::Closed(length) => {
                if !by_line {
                    return self.take_document(piece, at, length);
                }
                if memchr::memchr(b'\n', &bytes[at..at + length]).is_some() {
                    self.found.get_or_insert(SPANNING);
                    return self.take_document(piece, at, length);
                }
                self.state = SplitState::Closed(length);
                Advance::At(at)
            }
            // A line that is a record to those who look at it as a whole is one here, too.
            ScanStep::LineEnd(end) if by_line && is_record(&bytes[at..at + end]) => {
                self.found.get_or_insert(LINES);
                self.state = SplitState::Rest;
                Advance::At(at)
            }
            ScanStep::LineEnd(_) => Advance::At(at),
            ScanStep::Damaged(place) => self.damaged(piece, at, place),
            ScanStep::Open if is_all => {
                let done = self.scan.forget();
                self.state = SplitState::Long(self.gone(done));
                self.line += damage::line_ends(&rest[..done]);
                Advance::At(at + done)
            }
            // What follows says whether it is a document, so that it does not matter when the source paused.
            ScanStep::Open if piece.extent != Extent::End => Advance::Wait(at),
            ScanStep::Open => self.open_at_end(piece, at),
        }
    }

    /// Takes `length` bytes from `at` as a record, and continues between documents.
    fn take_document(&mut self, piece: &mut Piece<'_>, at: usize, length: usize) -> Advance {
        let bytes = piece.bytes;
        let range = trim(bytes, at..at + length);
        let spans = memchr::memchr2(b'\n', b'\r', &bytes[range.clone()]).is_some();
        if !self.in_array {
            self.found.get_or_insert(match self.format {
                RecordFormat::Json => DOCUMENTS,
                _ if spans => SPANNING,
                _ => JOINED,
            });
        }
        let before = piece.block.lines.len();
        self.take(piece, range, length);
        if spans && piece.block.lines.len() > before {
            piece.block.spanning.push(before);
        }
        self.line += damage::line_ends(&bytes[at..at + length]);
        self.wreck = (spans && !self.in_array).then(|| Wreck::behind(self.indent));
        self.state = SplitState::Between;
        self.is_fresh = false;
        Advance::At(at + length)
    }

    /// Behind the first document of a line: is it all of the line?
    fn closed(&mut self, piece: &mut Piece<'_>, at: usize, length: usize) -> Advance {
        let bytes = piece.bytes;
        let (rest, is_all) = self.look(bytes, at);
        let mut comma = false;
        for (n, &byte) in rest[length..].iter().enumerate() {
            match byte {
                // Where records have no commas behind them, this may be the inside of a document.
                b'\n' if comma && !self.has_commas && self.has_taken => {
                    self.wreck = Some(Wreck::new(self.indent, bytes[at]));
                    let gone = self.gone(length + n + 1);
                    self.line += 1;
                    self.state = SplitState::Behind(Some(gone));
                    return Advance::At(at + length + n + 1);
                }
                b'\n' => {
                    self.found.get_or_insert(LINES);
                    self.take(piece, at..at + length, length);
                    self.line += 1;
                    self.has_commas |= comma;
                    (self.state, self.wreck) = (SplitState::Line, None);
                    return Advance::At(at + length + n + 1);
                }
                b'{' if !comma => return self.take_document(piece, at, length),
                b',' if !comma => comma = true,
                _ if is_blank(byte) => {}
                _ => {
                    self.wreck = Some(Wreck::new(self.indent, bytes[at]));
                    self.state = SplitState::Rest;
                    return Advance::At(at);
                }
            }
        }
        if piece.extent == Extent::End || is_all {
            self.found.get_or_insert(LINES);
            self.take(piece, at..at + length, length);
            self.state = SplitState::Between;
            return Advance::At(at + rest.len());
        }
        Advance::Wait(at)
    }

    /// In a record that ends with its line. Blank space before it is not kept.
    fn rest(&mut self, piece: &mut Piece<'_>, at: usize) -> Advance {
        let bytes = piece.bytes;
        let from = at + std::mem::take(&mut self.searched);
        let found = memchr::memchr(b'\n', &bytes[from..]).map(|end| from + end);
        let end = found.unwrap_or(bytes.len());
        let line = trim_start(bytes, at..end);
        let lead = self.lead(&bytes[at..line.start]);
        if found.is_none() && piece.extent != Extent::End {
            if line.is_empty() {
                self.lead = lead;
            }
            self.searched = line.len();
            return Advance::Wait(line.start);
        }
        self.take(piece, trim(bytes, line.clone()), line.len());
        let is_short = line.len() < self.window();
        if self.format == RecordFormat::Auto && is_short && is_record(&bytes[line.clone()]) {
            self.wreck = None;
        } else if let Some(wreck) = &mut self.wreck {
            wreck.was_opened = is_short && is_opened(&bytes[line.clone()]);
        }
        self.state = self.line_start();
        if found.is_none() {
            if line.is_empty() {
                self.lead = lead;
            }
            return Advance::Wait(end);
        }
        self.line += 1;
        Advance::At(end + 1)
    }

    /// How far a line is moved in, with what was taken of its blank space before `more` of it.
    fn lead(&mut self, more: &[u8]) -> usize {
        let before = std::mem::take(&mut self.lead);
        let indent = indent(more);
        indent + if indent == more.len() { before } else { 0 }
    }

    fn line_start(&mut self) -> SplitState {
        self.is_fresh = true;
        self.indent = match self.format {
            RecordFormat::Json => std::mem::take(&mut self.lead),
            RecordFormat::Auto | RecordFormat::Ndjson => 0,
        };
        match self.format {
            _ if self.wreck.is_some() => SplitState::Behind(None),
            RecordFormat::Json => SplitState::Between,
            RecordFormat::Auto if self.in_array => SplitState::Between,
            RecordFormat::Auto | RecordFormat::Ndjson => SplitState::Line,
        }
    }

    fn scalar(&mut self, piece: &mut Piece<'_>, at: usize) -> Advance {
        let (rest, is_all) = self.look(piece.bytes, at);
        let (end, _) = scalar_end(rest, false);
        match piece.extent {
            _ if end < rest.len() => {}
            _ if is_all => {
                let gone = self.gone(0);
                self.state = SplitState::LongScalar(gone, false);
                return Advance::At(at);
            }
            Extent::End => {}
            Extent::More | Extent::Pause => return Advance::Wait(at),
        }
        self.take_document(piece, at, end.clamp(1, rest.len()))
    }

    fn discard(&mut self, piece: &mut Piece<'_>, at: usize, gone: u64) -> Advance {
        let bytes = piece.bytes;
        let end = memchr::memchr(b'\n', &bytes[at..]).map(|end| at + end);
        let gone = gone + (end.unwrap_or(bytes.len()) - at) as u64;
        if end.is_none() && piece.extent != Extent::End {
            self.state = SplitState::Discard(gone);
            return Advance::Wait(bytes.len());
        }
        self.refuse(piece, self.line, gone, false);
        if let Some(wreck) = &mut self.wreck {
            wreck.was_opened = false;
        }
        self.state = self.line_start();
        match end {
            None => Advance::Wait(bytes.len()),
            Some(end) => {
                self.line += 1;
                Advance::At(end + 1)
            }
        }
    }

    /// Takes, skips or refuses the record at `range`; `whole` bytes are its own with the blank space behind it.
    fn take(&mut self, piece: &mut Piece<'_>, range: Range<usize>, whole: usize) {
        if range.is_empty() {
            self.index += 1;
        } else if range.len() > self.bytes_max || whole >= self.window() {
            self.refuse(piece, self.line, whole as u64, false);
        } else {
            debug_assert!(range.end <= piece.bytes.len());
            self.has_taken = true;
            piece.block.lines.push(RecordRange {
                range,
                number: self.line,
                index: self.index,
            });
            self.index += 1;
        }
    }

    fn refuse(&mut self, piece: &mut Piece<'_>, number: u64, length: u64, is_damaged: bool) {
        piece.block.refused.push(RefusedLine {
            number,
            index: self.index,
            length,
            is_damaged,
        });
        self.index += 1;
    }
}

/// Where a record begins in the bytes of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordStart {
    pub(super) at: usize,
    pub(super) line: u64,
    pub(super) index: u64,
}

/// Where the next state continues.
enum Advance {
    /// There, in whatever state is next.
    At(usize),
    /// There, when more bytes have come.
    Wait(usize),
}

/// Where an element that is neither an object nor an array ends, and whether that is in a string of it; beyond the
/// bytes where the last one escapes the next.
fn scalar_end(bytes: &[u8], mut in_string: bool) -> (usize, bool) {
    let mut end = 0;
    while let Some(&byte) = bytes.get(end) {
        match byte {
            b'\\' if in_string => end += 1,
            b'"' => in_string = !in_string,
            b'\n' => break,
            b',' | b']' | b'{' if !in_string => break,
            _ => {}
        }
        end += 1;
    }
    (end, in_string)
}
