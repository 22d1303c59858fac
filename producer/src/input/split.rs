//! Where one record ends and the next one begins.
//!
//! Owns the rules of the formats. In [`Format::Ndjson`] a line is a record. In [`Format::Json`] a document is one,
//! wherever lines end, and a top-level array is its elements. [`Format::Auto`] is both: a line that begins with `{`
//! and ends with `}` is a record; anything else is looked at as documents from the start of its line on, and falls
//! back to lines where it fails, so that a damaged line costs itself and not the lines behind it.
//!
//! Promises: the same bytes give the same records with the same indexes, however they are cut into reads; nothing is
//! left out but blank space, commas between documents and the brackets of top-level arrays; a record that is longer
//! than allowed is not kept in memory.

use std::ops::Range;

use super::document::{Scan, Step};
use super::{Line, LineBlock, LineCounts, RefusedLine};

/// What a record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A line, or where lines are none a JSON document.
    #[default]
    Auto,
    /// A line.
    Ndjson,
    /// A JSON document, or an element of a top-level array.
    Json,
}

impl Format {
    /// The name in flags.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Auto => "auto",
            Format::Ndjson => "ndjson",
            Format::Json => "json",
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the start of a line that may be a record.
    Line,
    /// Between documents: in an array, behind another document of the line, or in [`Format::Json`].
    Between,
    /// In a document.
    Document,
    /// Behind the first document of a line, which is this long.
    Closed(usize),
    /// In a record that ends with its line.
    Rest,
    /// In an element of an array that is neither an object nor an array.
    Scalar,
    /// In a line that is too long, of which so many bytes are gone; whether all of them were blank space.
    Discard(u64, bool),
}

pub(super) const ARRAY: &str = "a JSON array, each element is a record";
pub(super) const LINES: &str = "NDJSON, each line is a record";
pub(super) const SPANNING: &str = "JSON documents over several lines, each is a record";
pub(super) const DOCUMENTS: &str = "JSON documents, each is a record";
pub(super) const JOINED: &str = "JSON documents without line ends between them, each is a record";

/// Finds records in bytes that come piece by piece.
#[derive(Debug)]
pub(super) struct Splitter {
    format: Format,
    bytes_max: usize,
    state: State,
    scan: Scan,
    in_array: bool,
    /// Bytes from the record's start in which no line end was found.
    searched: usize,
    /// The number of the line, from 1.
    pub(super) line: u64,
    /// The index of the next record.
    pub(super) index: u64,
    pub(super) counts: LineCounts,
    pub(super) found: Option<&'static str>,
}

impl Splitter {
    pub(super) const fn new(format: Format, bytes_max: usize) -> Self {
        Splitter {
            format,
            bytes_max,
            state: match format {
                Format::Json => State::Between,
                Format::Auto | Format::Ndjson => State::Line,
            },
            scan: Scan::new(),
            in_array: false,
            searched: 0,
            line: 1,
            index: 0,
            counts: LineCounts {
                taken: 0,
                empty: 0,
                refused: 0,
                bytes: 0,
            },
            found: None,
        }
    }

    /// Whether a top-level array is open.
    pub(super) const fn is_in_array(&self) -> bool {
        self.in_array
    }

    /// Whether bytes were thrown away of a record that has not ended.
    pub(super) const fn is_discarding(&self) -> bool {
        matches!(self.state, State::Discard(..))
    }

    /// Takes the finished records out of `bytes`, which begin with what the last call left; answers how many bytes
    /// are done with.
    pub(super) fn split(&mut self, bytes: &[u8], extent: Extent, block: &mut LineBlock) -> usize {
        let mut at = 0;
        loop {
            let next = match self.state {
                State::Line => self.lines(bytes, at, extent, block),
                State::Between => self.between(bytes, at, extent),
                State::Document => self.document(bytes, at, extent, block),
                State::Closed(length) => self.closed(bytes, at, length, extent, block),
                State::Rest => self.rest(bytes, at, extent, block),
                State::Scalar => self.scalar(bytes, at, extent, block),
                State::Discard(gone, blank) => {
                    self.discard(bytes, at, (gone, blank), extent, block)
                }
            };
            match next {
                Next::At(place) => at = place,
                Next::Wait(place) => {
                    at = place;
                    break;
                }
            }
        }
        let unfinished = bytes.len() - at;
        if unfinished >= self.window() && matches!(self.state, State::Line | State::Rest) {
            let blank = bytes[at..].iter().all(|byte| is_blank(*byte));
            self.state = State::Discard(unfinished as u64, blank);
            self.searched = 0;
            return bytes.len();
        }
        at
    }

    /// How many bytes of a record are looked at before it is too long, whatever is there: so that it does not matter
    /// how much is. One byte more than allowed may be a carriage return.
    const fn window(&self) -> usize {
        self.bytes_max.saturating_add(2)
    }

    /// The bytes from `at` on that are looked at, and whether these are all that ever will be.
    fn look<'a>(&self, bytes: &'a [u8], at: usize) -> (&'a [u8], bool) {
        let rest = &bytes[at..];
        (
            &rest[..rest.len().min(self.window())],
            rest.len() >= self.window(),
        )
    }

    /// Throws the record at `at` away, to the end of the line that its last byte that is looked at lies in.
    fn give_up(&mut self, at: usize) -> Next {
        self.state = State::Discard(self.window() as u64, false);
        Next::At(at + self.window())
    }

    /// Takes whole lines as long as they look like records. This is the path of NDJSON.
    fn lines(
        &mut self,
        bytes: &[u8],
        mut at: usize,
        extent: Extent,
        block: &mut LineBlock,
    ) -> Next {
        let from = at + std::mem::take(&mut self.searched);
        if self.format == Format::Auto {
            let mut several = false;
            for place in memchr::memchr2_iter(b'\n', b'}', &bytes[from..]) {
                let place = from + place;
                if bytes[place] == b'}' {
                    several |= another_follows(&bytes[place + 1..]);
                } else if std::mem::take(&mut several) || !is_framed(&bytes[at..place]) {
                    let line = trim(bytes, at..place);
                    if !line.is_empty() && matches!(bytes[line.start], b'{' | b'[') {
                        return self.begin(bytes, line.start, extent);
                    }
                    self.take_line(bytes, at..place, block);
                    at = place + 1;
                } else {
                    self.take_line(bytes, at..place, block);
                    at = place + 1;
                }
            }
        } else {
            for end in memchr::memchr_iter(b'\n', &bytes[from..]) {
                self.take_line(bytes, at..from + end, block);
                at = from + end + 1;
            }
        }
        self.unfinished_line(bytes, at, extent, block)
    }

    fn take_line(&mut self, bytes: &[u8], line: Range<usize>, block: &mut LineBlock) {
        let whole = line.len();
        let range = trim(bytes, line);
        if !range.is_empty() {
            self.found.get_or_insert(LINES);
        }
        self.take(bytes, range, whole, block);
        self.line += 1;
    }

    fn unfinished_line(
        &mut self,
        bytes: &[u8],
        at: usize,
        extent: Extent,
        block: &mut LineBlock,
    ) -> Next {
        let line = trim_start(bytes, at..bytes.len());
        let looks = self.format == Format::Auto;
        match bytes.get(line.start) {
            Some(b'{' | b'[') if looks => self.begin(bytes, line.start, extent),
            _ if extent != Extent::End && is_mark_begun(&bytes[line.clone()]) => Next::Wait(at),
            Some(_) if looks => {
                self.state = State::Rest;
                Next::At(line.start)
            }
            _ if extent == Extent::End => {
                if at < bytes.len() {
                    self.take(bytes, trim(bytes, line), bytes.len() - at, block);
                }
                Next::Wait(bytes.len())
            }
            _ => {
                // The hole that a truncation left may be long: it is not kept.
                let at = at + holes(&bytes[at..]);
                self.searched = bytes.len() - at;
                Next::Wait(at)
            }
        }
    }

    /// Begins the document, or the top-level array of records, at `at`.
    fn begin(&mut self, bytes: &[u8], at: usize, extent: Extent) -> Next {
        if bytes[at] == b'[' && !self.in_array {
            let (rest, is_all) = self.look(bytes, at);
            let inside = rest[1..].iter().find(|byte| !is_blank(**byte));
            match (inside, self.format) {
                (_, Format::Json) | (Some(b'{' | b']'), _) => return self.enter(at),
                (Some(_), _) => {}
                (None, _) if extent != Extent::End && !is_all => {
                    self.state = State::Line;
                    return Next::Wait(at);
                }
                // Where a place lies behind it, the array was entered.
                (None, _) => return self.enter(at),
            }
        }
        self.scan = Scan::new();
        self.state = State::Document;
        Next::At(at)
    }

    fn enter(&mut self, at: usize) -> Next {
        self.found.get_or_insert(ARRAY);
        self.in_array = true;
        self.state = State::Between;
        Next::At(at + 1)
    }

    fn between(&mut self, bytes: &[u8], mut at: usize, extent: Extent) -> Next {
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b'\n' => {
                    self.line += 1;
                    if !self.in_array && self.format == Format::Auto {
                        self.state = State::Line;
                        return Next::At(at + 1);
                    }
                }
                b']' if self.in_array => self.in_array = false,
                b',' => {}
                b'{' | b'[' => return self.begin(bytes, at, extent),
                _ if is_blank(byte) => {}
                0xEF if extent != Extent::End && is_mark_begun(&bytes[at..]) => {
                    return Next::Wait(at);
                }
                0xEF if bytes[at..].starts_with(BYTE_ORDER_MARK) => at += 2,
                _ => {
                    self.state = if self.in_array {
                        State::Scalar
                    } else {
                        State::Rest
                    };
                    return Next::At(at);
                }
            }
            at += 1;
        }
        Next::Wait(at)
    }

    fn document(&mut self, bytes: &[u8], at: usize, extent: Extent, block: &mut LineBlock) -> Next {
        let by_line = self.format == Format::Auto && !self.in_array;
        let (rest, is_all) = self.look(bytes, at);
        match self.scan.run(rest) {
            Step::Closed(length) => {
                if !by_line {
                    return self.take_document(bytes, at, length, block);
                }
                if memchr::memchr(b'\n', &bytes[at..at + length]).is_some() {
                    self.found.get_or_insert(SPANNING);
                    return self.take_document(bytes, at, length, block);
                }
                self.state = State::Closed(length);
                Next::At(at)
            }
            // A line that is a record to those who look at it as a whole is one here, too.
            Step::LineEnd(end) if by_line && is_record(&bytes[at..at + end]) => {
                self.found.get_or_insert(LINES);
                self.state = State::Rest;
                Next::At(at)
            }
            Step::LineEnd(_) => Next::At(at),
            Step::Damaged(place) => self.damaged(bytes, at, place, block),
            Step::Open if is_all => self.give_up(at),
            // What follows says whether it is a document, so that it does not matter when the source paused.
            Step::Open if extent != Extent::End => Next::Wait(at),
            Step::Open => {
                let length = bytes.len() - at;
                match memchr::memchr(b'\n', &bytes[at..]) {
                    Some(end) if by_line => self.broken(bytes, at, length, end, block),
                    _ => self.take_document(bytes, at, length, block),
                }
            }
        }
    }

    /// Sends what was taken for a document as far as its damage, or its first line, as a record that others refuse.
    fn damaged(&mut self, bytes: &[u8], at: usize, place: usize, block: &mut LineBlock) -> Next {
        if self.in_array {
            // The damaged byte may begin the next element.
            return self.take_document(bytes, at, place, block);
        }
        match memchr::memchr(b'\n', &bytes[at..at + place]) {
            Some(end) => self.broken(bytes, at, place, end, block),
            None => {
                self.state = State::Rest;
                Next::At(at)
            }
        }
    }

    /// Sends what of the `length` bytes at `at` no document begins with, and of which the first line ends at `end`:
    /// that line, or all of it where it looks like a document of several lines; but no line that is a record by itself.
    fn broken(
        &mut self,
        bytes: &[u8],
        at: usize,
        length: usize,
        end: usize,
        block: &mut LineBlock,
    ) -> Next {
        if !is_opened(&bytes[at..at + end]) {
            self.state = State::Rest;
            return Next::At(at);
        }
        let by_line = self.format == Format::Auto;
        match record_behind(&bytes[at..at + length], end).filter(|_| by_line) {
            Some(record) => {
                self.found.get_or_insert(LINES);
                let next = self.take_document(bytes, at, record, block);
                self.state = State::Line;
                next
            }
            None => self.take_document(bytes, at, length, block),
        }
    }

    /// Takes `length` bytes from `at` as a record, and goes on between documents.
    fn take_document(
        &mut self,
        bytes: &[u8],
        at: usize,
        length: usize,
        block: &mut LineBlock,
    ) -> Next {
        let range = trim(bytes, at..at + length);
        let ends = memchr::memchr_iter(b'\n', &bytes[at..at + length]).count() as u64;
        let spans = memchr::memchr2(b'\n', b'\r', &bytes[range.clone()]).is_some();
        if !self.in_array {
            self.found.get_or_insert(match self.format {
                Format::Json => DOCUMENTS,
                _ if spans => SPANNING,
                _ => JOINED,
            });
        }
        let before = block.lines.len();
        self.take(bytes, range, length, block);
        if spans && block.lines.len() > before {
            block.spanning.push(before);
        }
        self.line += ends;
        self.state = State::Between;
        Next::At(at + length)
    }

    /// Behind the first document of a line: is it all of the line?
    fn closed(
        &mut self,
        bytes: &[u8],
        at: usize,
        length: usize,
        extent: Extent,
        block: &mut LineBlock,
    ) -> Next {
        let (rest, is_all) = self.look(bytes, at);
        let mut comma = false;
        for (n, &byte) in rest[length..].iter().enumerate() {
            match byte {
                b'\n' => {
                    self.found.get_or_insert(LINES);
                    self.take(bytes, at..at + length, length, block);
                    self.line += 1;
                    self.state = State::Line;
                    return Next::At(at + length + n + 1);
                }
                b'{' if !comma => return self.take_document(bytes, at, length, block),
                b',' if !comma => comma = true,
                _ if is_blank(byte) => {}
                _ => {
                    self.state = State::Rest;
                    return Next::At(at);
                }
            }
        }
        if extent == Extent::End || is_all {
            self.found.get_or_insert(LINES);
            self.take(bytes, at..at + length, length, block);
            self.state = State::Between;
            return Next::At(at + rest.len());
        }
        Next::Wait(at)
    }

    fn rest(&mut self, bytes: &[u8], at: usize, extent: Extent, block: &mut LineBlock) -> Next {
        let from = at + std::mem::take(&mut self.searched);
        let end = match memchr::memchr(b'\n', &bytes[from..]) {
            Some(end) => from + end,
            None if extent == Extent::End => bytes.len(),
            None => {
                self.searched = bytes.len() - at;
                return Next::Wait(at);
            }
        };
        self.take(bytes, trim(bytes, at..end), end - at, block);
        self.state = self.line_start();
        if end == bytes.len() {
            return Next::Wait(end);
        }
        self.line += 1;
        Next::At(end + 1)
    }

    const fn line_start(&self) -> State {
        match self.format {
            Format::Json => State::Between,
            Format::Auto if self.in_array => State::Between,
            Format::Auto | Format::Ndjson => State::Line,
        }
    }

    fn scalar(&mut self, bytes: &[u8], at: usize, extent: Extent, block: &mut LineBlock) -> Next {
        let (rest, is_all) = self.look(bytes, at);
        let mut in_string = false;
        let mut end = 0;
        while let Some(&byte) = rest.get(end) {
            match byte {
                b'\\' if in_string => end += 1,
                b'"' => in_string = !in_string,
                b'\n' => break,
                b',' | b']' | b'{' if !in_string => break,
                _ => {}
            }
            end += 1;
        }
        match extent {
            _ if end < rest.len() => {}
            _ if is_all => return self.give_up(at),
            Extent::End => {}
            Extent::More | Extent::Pause => return Next::Wait(at),
        }
        self.take_document(bytes, at, end.clamp(1, rest.len()), block)
    }

    fn discard(
        &mut self,
        bytes: &[u8],
        at: usize,
        (gone, blank): (u64, bool),
        extent: Extent,
        block: &mut LineBlock,
    ) -> Next {
        let end = memchr::memchr(b'\n', &bytes[at..]).map(|end| at + end);
        let more = &bytes[at..end.unwrap_or(bytes.len())];
        let blank = blank && more.iter().all(|byte| is_blank(*byte));
        let gone = gone + more.len() as u64;
        if end.is_none() && extent != Extent::End {
            self.state = State::Discard(gone, blank);
            return Next::Wait(bytes.len());
        }
        if blank {
            self.counts.empty += 1;
            self.index += 1;
        } else {
            self.refuse(gone, block);
        }
        self.state = self.line_start();
        match end {
            None => Next::Wait(bytes.len()),
            Some(end) => {
                self.line += 1;
                Next::At(end + 1)
            }
        }
    }

    /// Takes, skips or refuses the record at `range`; `whole` bytes are its own with the space around it.
    fn take(&mut self, bytes: &[u8], range: Range<usize>, whole: usize, block: &mut LineBlock) {
        if range.is_empty() {
            self.counts.empty += 1;
            self.index += 1;
        } else if range.len() > self.bytes_max {
            self.refuse(whole as u64, block);
        } else {
            debug_assert!(range.end <= bytes.len());
            self.counts.taken += 1;
            block.lines.push(Line {
                range,
                number: self.line,
                index: self.index,
            });
            self.index += 1;
        }
    }

    fn refuse(&mut self, length: u64, block: &mut LineBlock) {
        self.counts.refused += 1;
        block.refused.push(RefusedLine {
            number: self.line,
            index: self.index,
            length,
        });
        self.index += 1;
    }
}

/// Where a state goes on.
enum Next {
    /// There, in whatever state is next.
    At(usize),
    /// There, when more bytes have come.
    Wait(usize),
}

pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// NUL is what a file has where a writer went on behind a truncation, and 0x1E separates records (RFC 7464).
pub(super) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0 | 0x1E)
}

/// Whether these are the first bytes of a byte order mark whose rest has not come.
fn is_mark_begun(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(bytes)
}

fn holes(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| **byte == 0).count()
}

fn trim_start(bytes: &[u8], mut range: Range<usize>) -> Range<usize> {
    loop {
        let rest = &bytes[range.clone()];
        match rest.first() {
            Some(byte) if is_blank(*byte) => range.start += 1,
            Some(0xEF) if rest.starts_with(BYTE_ORDER_MARK) => range.start += BYTE_ORDER_MARK.len(),
            _ => return range,
        }
    }
}

/// Without blank space and byte order marks around it.
fn trim(bytes: &[u8], range: Range<usize>) -> Range<usize> {
    let mut range = trim_start(bytes, range);
    while !range.is_empty() && is_blank(bytes[range.end - 1]) {
        range.end -= 1;
    }
    range
}

/// Whether the line is one object as far as its ends tell.
fn is_framed(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    line.first() == Some(&b'{') && line.last() == Some(&b'}')
}

/// Whether the bytes behind a `}` begin another object, so that the line may hold several.
fn another_follows(behind: &[u8]) -> bool {
    for &byte in behind {
        match byte {
            b'{' => return true,
            b'\n' => return false,
            _ if is_blank(byte) => {}
            _ => return false,
        }
    }
    false
}

/// What [`Splitter::lines`] decides of a whole line.
fn is_record(line: &[u8]) -> bool {
    is_framed(line) && memchr::memchr_iter(b'}', line).all(|end| !another_follows(&line[end + 1..]))
}

/// Where the first line that is a record by itself begins, behind the line that ends at `end`. A document of several
/// lines has commas between its records, unless they are the last ones.
fn record_behind(bytes: &[u8], mut end: usize) -> Option<usize> {
    loop {
        let start = end + 1;
        let rest = bytes.get(start..)?;
        let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        if is_record(&rest[..length]) {
            return Some(start);
        }
        end = start + length;
    }
}

/// Whether a first line ends as that of a document that goes on in the next line does.
fn is_opened(line: &[u8]) -> bool {
    let last = line.iter().rev().find(|byte| !is_blank(**byte));
    matches!(last, Some(b'{' | b'[' | b','))
}
