//! Finds where reading continues behind a document that is damaged or too long.
//!
//! Promises: no part of such a document becomes a record by itself. It is refused as a whole, and reading continues at
//! the next value of its level: where brackets do not show that, lines do, by how far they are moved in and by how they
//! begin and end. A line that was cut costs itself, and at most the line behind it.

use super::super::shape::{LineShape, record_behind};
use super::*;

/// Lines that are looked at behind one that ends within a list or an object: does the next one continue it?
const LINES_AHEAD: usize = 2;

impl Splitter {
    /// In a document that is too long.
    pub(super) fn long(
        &mut self,
        piece: &mut Piece<'_>,
        at: usize,
        mut gone: DiscardedBytes,
    ) -> Advance {
        let rest = &piece.bytes[at..];
        let had_line_end = self.scan.has_line_end();
        match self.scan.run(rest) {
            ScanStep::Closed(length) => {
                self.line += line_ends(&rest[..length]);
                self.refuse(piece, gone.line, gone.bytes + length as u64, false);
                self.state = SplitState::Between;
                self.is_fresh = false;
                Advance::At(at + length)
            }
            ScanStep::LineEnd(end) if !self.in_array && !self.scan.is_opened() => {
                self.end_line(piece, at, end, gone)
            }
            ScanStep::LineEnd(_) => Advance::At(at),
            ScanStep::Damaged(place) if self.in_array && !had_line_end && rest[place] != b'\n' => {
                self.scan.loosen();
                Advance::At(at)
            }
            ScanStep::Damaged(place) if !self.in_array && !had_line_end && rest[place] == b'\n' => {
                self.end_line(piece, at, place, gone)
            }
            ScanStep::Damaged(place) => {
                self.line += line_ends(&rest[..place]);
                gone.bytes += place as u64;
                let mut wreck = self.new_wreck(b'{');
                wreck.is_flat = had_line_end;
                self.wreck = Some(wreck);
                self.state = SplitState::Wreck(gone, true);
                Advance::At(at + place)
            }
            ScanStep::Open => {
                let done = match piece.extent {
                    Extent::End => rest.len(),
                    Extent::More | Extent::Pause => self.scan.forget(),
                };
                self.line += line_ends(&rest[..done]);
                gone.bytes += done as u64;
                self.state = SplitState::Long(gone);
                if piece.extent == Extent::End {
                    self.refuse(piece, gone.line, gone.bytes, false);
                    self.state = self.line_start();
                }
                Advance::Wait(at + done)
            }
        }
    }

    /// In an element that is too long and has no brackets.
    pub(super) fn long_scalar(
        &mut self,
        piece: &mut Piece<'_>,
        at: usize,
        mut gone: DiscardedBytes,
        in_string: bool,
    ) -> Advance {
        let rest = &piece.bytes[at..];
        let (end, in_string) = scalar_end(rest, in_string);
        // What the last byte escapes has not come.
        let done = if end > rest.len() {
            rest.len() - 1
        } else {
            end
        };
        if end < rest.len() || piece.extent == Extent::End {
            let end = end.min(rest.len());
            self.refuse(piece, gone.line, gone.bytes + end as u64, false);
            self.state = SplitState::Between;
            return Advance::At(at + end);
        }
        gone.bytes += done as u64;
        self.state = SplitState::LongScalar(gone, in_string);
        Advance::Wait(at + done)
    }

    /// Refuses a line that is too long and that no document continues.
    fn end_line(
        &mut self,
        piece: &mut Piece<'_>,
        at: usize,
        end: usize,
        gone: DiscardedBytes,
    ) -> Advance {
        self.refuse(piece, gone.line, gone.bytes + end as u64, false);
        let mut wreck = self.new_wreck(b'{');
        wreck.was_opened = false;
        self.wreck = Some(wreck);
        self.line += 1;
        self.state = self.line_start();
        Advance::At(at + end + 1)
    }

    const fn new_wreck(&self, first: u8) -> Wreck {
        Wreck::new(self.indent, first)
    }

    /// Decides what the damage at `place` costs: the line, or the document.
    pub(super) fn damaged(&mut self, piece: &mut Piece<'_>, at: usize, place: usize) -> Advance {
        let bytes = piece.bytes;
        let (rest, is_all) = self.look(bytes, at);
        let Some(first_end) = memchr::memchr(b'\n', &rest[..place]) else {
            if !self.in_array {
                self.wreck = Some(self.new_wreck(bytes[at]));
                self.state = SplitState::Rest;
            } else if rest[place] == b'\n' {
                self.wreck = Some(self.new_wreck(bytes[at]));
                let gone = self.gone(place);
                self.state = SplitState::Wreck(gone, true);
                return Advance::At(at + place);
            } else {
                self.scan.loosen();
            }
            return Advance::At(at);
        };
        // All of the damaged line shows whether it is one of a document.
        let line_end = memchr::memchr(b'\n', &rest[place..]);
        if line_end.is_none() && !is_all && piece.extent != Extent::End {
            return Advance::Wait(at);
        }
        let end = line_end.map_or(rest.len(), |end| place + end);
        let last = memchr::memrchr(b'\n', &rest[..place]).map_or(0, |end| end + 1);
        let mut wreck = self.new_wreck(bytes[at]);
        let is_document = self.pass_lines(&mut wreck, &rest[first_end + 1..last])
            | self.pass_lines(&mut wreck.clone(), &rest[last..end]);
        let is_whole = line_end.is_some() || !is_all;
        if !self.in_array && !is_document && is_whole {
            let damaged = trim_start(rest, last..end).start;
            let behind = (end + 1).min(rest.len());
            let cut = if damaged == place { last } else { behind };
            return self.cut(piece, at, first_end, cut, behind);
        }
        let gone = self.gone(last);
        self.line += line_ends(&rest[..last]);
        self.state = SplitState::Wreck(gone, false);
        if wreck.is_flat || self.flat_after(wreck, &rest[last..end]) {
            // The damaged line is one of it.
            if let Some(shape) = LineShape::of(&rest[last..end]) {
                wreck.pass(&shape);
                wreck.was_closed = false;
            }
            self.state = SplitState::Wreck(
                DiscardedBytes {
                    bytes: end as u64,
                    ..gone
                },
                true,
            );
            self.wreck = Some(wreck);
            return Advance::At(at + end);
        }
        self.wreck = Some(wreck);
        Advance::At(at + last)
    }

    /// Takes note of lines of a document; answers whether one looks like that.
    fn pass_lines(&self, wreck: &mut Wreck, lines: &[u8]) -> bool {
        let mut is_document = false;
        for shape in lines.split(|byte| *byte == b'\n').filter_map(LineShape::of) {
            is_document |= shape.is_inner(wreck.margin, self.has_commas);
            wreck.pass(&shape);
        }
        is_document
    }

    fn flat_after(&self, mut wreck: Wreck, line: &[u8]) -> bool {
        if let (Some(shape), false) = (LineShape::of(line), self.in_array) {
            wreck.pass(&shape);
        }
        wreck.is_flat
    }

    /// What ends in the middle of a document, with all that there is.
    pub(super) fn open_at_end(&mut self, piece: &mut Piece<'_>, at: usize) -> Advance {
        let rest = &piece.bytes[at..];
        let first_end = memchr::memchr(b'\n', rest);
        match first_end.filter(|_| !self.in_array) {
            Some(end) if !self.pass_lines(&mut self.new_wreck(rest[0]), &rest[end + 1..]) => {
                self.cut(piece, at, end, rest.len(), rest.len())
            }
            _ => self.take_document(piece, at, rest.len()),
        }
    }

    /// Sends lines that no document begins with as one record that others refuse: up to `cut`, but without a line
    /// before `end` that is a record by itself; the first alone where nothing was to follow it.
    fn cut(
        &mut self,
        piece: &mut Piece<'_>,
        at: usize,
        first_end: usize,
        cut: usize,
        end: usize,
    ) -> Advance {
        let bytes = piece.bytes;
        let wreck = Some(self.new_wreck(bytes[at]));
        if !is_opened(&bytes[at..at + first_end]) && !self.scan.is_named() {
            self.wreck = wreck;
            self.state = SplitState::Rest;
            return Advance::At(at);
        }
        let record = record_behind(&bytes[at..at + end], first_end);
        let length = record.map_or(cut, |record| record.min(cut));
        if record.is_some() {
            self.found.get_or_insert(LINES);
        }
        let next = self.take_document(piece, at, length);
        self.wreck = wreck;
        if bytes[at..at + length].ends_with(b"\n") {
            self.state = self.line_start();
        }
        next
    }

    /// In a damaged document, at the start of a line of it, or within one.
    pub(super) fn wreck(
        &mut self,
        piece: &mut Piece<'_>,
        at: usize,
        mut gone: DiscardedBytes,
        in_line: bool,
    ) -> Advance {
        let bytes = piece.bytes;
        let (rest, is_all) = self.look(bytes, at);
        let end = memchr::memchr(b'\n', rest);
        let is_last = piece.extent == Extent::End && !is_all;
        if end.is_none() && !is_last && !is_all && !in_line {
            return Advance::Wait(at);
        }
        let line = &rest[..end.unwrap_or(rest.len())];
        let is_known = !in_line && (end.is_some() || is_last);
        let (in_array, commas) = (self.in_array, self.has_commas);
        let wreck = self.wreck.as_mut().filter(|_| is_known);
        if let Some(place) = wreck.and_then(|wreck| wreck.ends_in(line, in_array, commas)) {
            debug_assert!(
                gone.bytes > 0 && place <= line.len(),
                "it is refused as a whole, and reading goes forward"
            );
            self.wreck = None;
            if trim_start(line, 0..place).is_empty() {
                self.refuse(piece, gone.line, gone.bytes, true);
                self.state = self.line_start();
                return Advance::At(at);
            }
            self.refuse(piece, gone.line, gone.bytes + place as u64, true);
            if !in_array {
                let mut wreck = self.new_wreck(b'{');
                wreck.was_opened = false;
                self.wreck = Some(wreck);
            }
            self.state = SplitState::Between;
            self.is_fresh = false;
            return Advance::At(at + place);
        }
        gone.bytes += (line.len() + usize::from(end.is_some())) as u64;
        self.line += u64::from(end.is_some());
        self.state = SplitState::Wreck(gone, end.is_none());
        match end {
            Some(end) => Advance::At(at + end + 1),
            None if is_last => {
                self.refuse(piece, gone.line, gone.bytes, true);
                self.wreck = None;
                self.state = self.line_start();
                Advance::Wait(bytes.len())
            }
            None if rest.is_empty() => Advance::Wait(at),
            None => Advance::At(at + rest.len()),
        }
    }

    /// At the start of a line behind damage: what looks like the inside of a document may be of that which is damaged.
    pub(super) fn behind(
        &mut self,
        piece: &mut Piece<'_>,
        at: usize,
        gone: Option<DiscardedBytes>,
    ) -> Advance {
        let (rest, is_all) = self.look(piece.bytes, at);
        let is_final = is_all || piece.extent == Extent::End;
        let end = memchr::memchr(b'\n', rest);
        if end.is_none() && !is_final {
            return Advance::Wait(at);
        }
        let length = end.unwrap_or(rest.len());
        let (Some(mut wreck), Some(shape)) = (self.wreck, LineShape::of(&rest[..length])) else {
            let (has_end, is_last) = (end.is_some(), piece.extent == Extent::End && !is_all);
            return self.blank_behind(piece, at, length, gone, has_end, is_last);
        };
        let margin = wreck.margin;
        let is_whole = end.is_some() || !is_all;
        let may_be = wreck.is_sure || !shape.begins();
        let mut is_inner = may_be && is_whole && shape.is_inner(margin, self.has_commas);
        if !is_inner && is_whole && wreck.was_opened && shape.begins() {
            match self.continues(&rest[length..], margin, is_final) {
                None if !is_final => return Advance::Wait(at),
                continues => is_inner = continues.unwrap_or(false),
            }
        }
        if is_inner {
            let mut gone = gone.unwrap_or(self.gone(0));
            wreck.pass(&shape);
            wreck.is_sure = true;
            self.wreck = Some(wreck);
            gone.bytes += (length + usize::from(end.is_some())) as u64;
            self.line += u64::from(end.is_some());
            self.state = SplitState::Behind(Some(gone));
            return match end {
                Some(end) => Advance::At(at + end + 1),
                None => self.end_behind(piece, gone),
            };
        }
        if let Some(gone) = gone {
            self.refuse(piece, gone.line, gone.bytes, true);
        }
        if wreck.is_like(&shape) {
            self.wreck = None;
            self.state = self.line_start();
        } else {
            self.state = SplitState::Rest;
        }
        Advance::At(at)
    }

    /// Whether the lines behind one that may be of a document are of it; `None` where that depends on what follows.
    fn continues(&self, behind: &[u8], margin: usize, is_final: bool) -> Option<bool> {
        // What follows the last line end is not a whole line, unless nothing follows it.
        let whole = match memchr::memrchr(b'\n', behind) {
            Some(end) if !is_final => &behind[..end],
            _ => behind,
        };
        let lines = whole.split(|byte| *byte == b'\n');
        let mut shapes = lines.skip(1).filter_map(LineShape::of);
        for _ in 0..LINES_AHEAD {
            let shape = shapes.next()?;
            if shape.is_inner(margin, self.has_commas) {
                return Some(true);
            }
            if !shape.is_record {
                return Some(false);
            }
        }
        Some(false)
    }

    fn blank_behind(
        &mut self,
        piece: &mut Piece<'_>,
        at: usize,
        length: usize,
        gone: Option<DiscardedBytes>,
        has_end: bool,
        is_last: bool,
    ) -> Advance {
        match gone {
            Some(mut gone) => {
                gone.bytes += (length + usize::from(has_end)) as u64;
                self.line += u64::from(has_end);
                self.state = SplitState::Behind(Some(gone));
                if !has_end && is_last {
                    return self.end_behind(piece, gone);
                }
            }
            None if self.format == RecordFormat::Json => {
                self.line += u64::from(has_end);
                if !has_end {
                    self.lead = indent(&piece.bytes[at..at + length]);
                    if length == 0 {
                        return Advance::Wait(at);
                    }
                }
            }
            None if length > 0 || has_end => {
                self.state = SplitState::Rest;
                return Advance::At(at);
            }
            None => return Advance::Wait(at),
        }
        Advance::At(at + length + usize::from(has_end))
    }

    fn end_behind(&mut self, piece: &mut Piece<'_>, gone: DiscardedBytes) -> Advance {
        self.refuse(piece, gone.line, gone.bytes, true);
        self.state = SplitState::Behind(None);
        Advance::Wait(piece.bytes.len())
    }
}

pub(super) fn line_ends(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}
