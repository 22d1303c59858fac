//! Finds the end of a JSON document, byte by byte, without parsing it.
//!
//! Owns the structure only: strings, brackets and which byte came before. A document ends with the bracket that
//! closes its first one. The scan stops where the bytes end and continues with more of them later, so that a
//! document of any length is looked at once, and it stops at a place that no valid document has, from where the caller
//! finds the next one.
//!
//! Refuses: numbers, literals, escapes, and commas without a value are not checked; later stages read them.

/// What a scan came to; places count from the document's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScanStep {
    /// The document ends before this place.
    Closed(usize),
    /// The first line end inside the document stands at this place. The scan continues behind it.
    LineEnd(usize),
    /// No valid document has this byte at this place.
    Damaged(usize),
    /// All bytes were looked at and the document is open.
    Open,
}

/// What came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Bracket,
    Comma,
    Colon,
    /// A string that names what must follow it.
    Name,
    /// A number or a literal, which may continue.
    Scalar,
    Value,
}

/// Levels whose kind of bracket is known; deeper ones are counted.
const KINDS: u32 = 128;

/// A scan of one document.
#[derive(Clone, Copy, Debug)]
pub(super) struct DocumentScan {
    place: usize,
    depth: u32,
    /// A bit for each level: set for an object.
    kinds: u128,
    before: Before,
    in_string: bool,
    has_line_end: bool,
    /// Damage was found: only brackets count.
    is_loose: bool,
}

impl DocumentScan {
    /// Of a document that begins with its bracket.
    pub(super) const fn new() -> Self {
        DocumentScan {
            place: 0,
            depth: 0,
            kinds: 0,
            before: Before::Colon,
            in_string: false,
            has_line_end: false,
            is_loose: false,
        }
    }

    /// Goes on behind damage with brackets alone, to the end of the line at most: a closing bracket closes all up to
    /// its like, and one without its like belongs to what is around the document, which ends before it.
    pub(super) const fn loosen(&mut self) {
        self.is_loose = true;
    }

    /// Whether a line end was seen.
    pub(super) const fn has_line_end(&self) -> bool {
        self.has_line_end
    }

    /// Whether the document continues behind what was scanned: another value or name must follow.
    pub(super) const fn is_opened(&self) -> bool {
        matches!(self.before, Before::Bracket | Before::Comma | Before::Colon)
    }

    /// Whether the value of a name must follow.
    pub(super) const fn is_named(&self) -> bool {
        matches!(self.before, Before::Name | Before::Colon) && self.depth > 0
    }

    /// Forgets the bytes that were looked at; answers how many these are.
    pub(super) const fn forget(&mut self) -> usize {
        std::mem::replace(&mut self.place, 0)
    }

    /// Looks at the bytes that were not looked at.
    pub(super) fn run(&mut self, bytes: &[u8]) -> ScanStep {
        while let Some(&byte) = bytes.get(self.place) {
            if self.in_string {
                match self.string(bytes) {
                    None => continue,
                    Some(step) => return step,
                }
            }
            match byte {
                b'"' if self.may_begin() => self.in_string = true,
                b'}' | b']' | b',' if self.is_named() && !self.is_loose => {
                    return ScanStep::Damaged(self.place);
                }
                b'{' | b'[' if self.may_open() => self.open(byte == b'{'),
                b'}' | b']' => {
                    if self.is_loose && !self.close_up_to(byte == b'}') {
                        return ScanStep::Closed(self.place);
                    }
                    if !self.may_close(byte == b'}') {
                        return ScanStep::Damaged(self.place);
                    }
                    self.depth -= 1;
                    self.before = Before::Value;
                    if self.depth == 0 {
                        self.place += 1;
                        return ScanStep::Closed(self.place);
                    }
                }
                b',' => self.before = Before::Comma,
                b':' => self.before = Before::Colon,
                b'\n' if self.is_loose => return ScanStep::Damaged(self.place),
                b' ' | b'\t' | b'\r' | b'\n' => {
                    if self.before == Before::Scalar {
                        self.before = Before::Value;
                    }
                    if byte == b'\n' && !std::mem::replace(&mut self.has_line_end, true) {
                        self.place += 1;
                        return ScanStep::LineEnd(self.place - 1);
                    }
                }
                0x1E if self.is_loose => {}
                b'"' | b'{' | b'[' | 0x1E => return ScanStep::Damaged(self.place),
                _ if self.before == Before::Scalar || self.may_begin() => {
                    self.before = Before::Scalar;
                }
                _ => return ScanStep::Damaged(self.place),
            }
            self.place += 1;
        }
        ScanStep::Open
    }

    /// Inside a string, to its end; `None` when the scan continues.
    fn string(&mut self, bytes: &[u8]) -> Option<ScanStep> {
        let Some(found) = memchr::memchr3(b'"', b'\\', b'\n', &bytes[self.place..]) else {
            self.place = bytes.len();
            return Some(ScanStep::Open);
        };
        let at = self.place + found;
        match bytes[at] {
            b'"' => {
                self.in_string = false;
                self.before = match (self.before, self.is_object()) {
                    (Before::Bracket | Before::Comma, Some(true)) => Before::Name,
                    _ => Before::Value,
                };
                self.place = at + 1;
                None
            }
            b'\\' if at + 1 == bytes.len() => {
                self.place = at;
                Some(ScanStep::Open)
            }
            b'\\' if bytes[at + 1] != b'\n' => {
                self.place = at + 2;
                None
            }
            // A line end in a string: the string was cut.
            _ => {
                self.place = at;
                Some(ScanStep::Damaged(
                    memchr::memchr(b'\n', &bytes[at..]).map_or(at, |end| at + end),
                ))
            }
        }
    }

    const fn is_object(&self) -> Option<bool> {
        match self.depth {
            0 => None,
            depth if depth > KINDS => None,
            depth => Some(self.kinds >> (depth - 1) & 1 == 1),
        }
    }

    /// Whether a name or a value may begin.
    const fn may_begin(&self) -> bool {
        self.is_loose || !matches!(self.before, Before::Name | Before::Value | Before::Scalar)
    }

    fn may_open(&self) -> bool {
        let is_name = self.before != Before::Colon && self.is_object() == Some(true);
        self.is_loose || (self.may_begin() && !is_name)
    }

    /// Closes what is open above the innermost bracket of this kind; `false` when there is none.
    fn close_up_to(&mut self, object: bool) -> bool {
        let depth = self.depth;
        while self.depth > 0 && !self.may_close(object) {
            self.depth -= 1;
        }
        if self.depth == 0 {
            self.depth = depth;
            return false;
        }
        true
    }

    fn may_close(&self, object: bool) -> bool {
        self.depth > 0 && self.is_object().is_none_or(|is_object| is_object == object)
    }

    fn open(&mut self, object: bool) {
        if self.depth < KINDS {
            let bit = 1 << self.depth;
            self.kinds = if object {
                self.kinds | bit
            } else {
                self.kinds & !bit
            };
        }
        self.depth += 1;
        self.before = Before::Bracket;
    }
}

/// Takes the white space between the tokens out, in place; answers the length that is left. Everything else keeps its
/// bytes. Where white space alone parts two tokens, one space stays: what is not JSON does not become JSON.
pub(super) fn compact(bytes: &mut [u8]) -> usize {
    let (mut from, mut to) = (0, 0);
    let mut in_string = false;
    while from < bytes.len() {
        let byte = bytes[from];
        let kept = if in_string {
            let run = memchr::memchr2(b'"', b'\\', &bytes[from..]).unwrap_or(bytes.len() - from);
            let end = match bytes.get(from + run) {
                Some(b'\\') => (from + run + 2).min(bytes.len()),
                Some(_) => {
                    in_string = false;
                    from + run + 1
                }
                None => bytes.len(),
            };
            from..end
        } else if is_space(byte) {
            let run = bytes[from..].iter().take_while(|byte| is_space(**byte));
            from += run.count();
            let parts = |byte: Option<&u8>| byte.is_some_and(|byte| !is_structural(*byte));
            if parts(bytes[..to].last()) && parts(bytes.get(from)) {
                bytes[to] = b' ';
                to += 1;
            }
            continue;
        } else {
            in_string = byte == b'"';
            from..from + 1
        };
        let length = kept.len();
        from = kept.end;
        bytes.copy_within(kept, to);
        to += length;
    }
    to
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

const fn is_structural(byte: u8) -> bool {
    matches!(byte, b'{' | b'}' | b'[' | b']' | b',' | b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> ScanStep {
        let mut scan = DocumentScan::new();
        loop {
            match scan.run(text.as_bytes()) {
                ScanStep::LineEnd(_) => {}
                step => return step,
            }
        }
    }

    #[test]
    fn a_document_ends_with_the_bracket_that_closes_its_first_one() {
        for (document, behind) in [
            ("{}", "{}"),
            ("{\"a\":\"}\\\"{\"}", " x"),
            ("[1,[2,{\"a\":[]}]]", "]"),
            ("{\n \"a\" : {\"b\":\n[{},{}]}\n}", "\n"),
            ("{\"\\\\\":\"\\\\\"}", "\"}"),
        ] {
            let text = format!("{document}{behind}");
            assert_eq!(whole(&text), ScanStep::Closed(document.len()), "{text}");
            for cut in 0..document.len() {
                let mut scan = DocumentScan::new();
                while let ScanStep::LineEnd(_) = scan.run(&text.as_bytes()[..cut]) {}
                assert_eq!(
                    scan.run(&text.as_bytes()[..cut]),
                    ScanStep::Open,
                    "{cut} of {text}"
                );
                let rest = loop {
                    match scan.run(text.as_bytes()) {
                        ScanStep::LineEnd(_) => {}
                        step => break step,
                    }
                };
                assert_eq!(rest, ScanStep::Closed(document.len()), "{cut} of {text}");
            }
        }
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(whole(&deep), ScanStep::Closed(20_000));
    }

    #[test]
    fn what_no_document_has_is_damage() {
        for (text, place) in [
            ("{\"a\":1}}", None),
            ("{\"a\":[1}", Some(7)),
            ("[{]", Some(2)),
            ("{\"a\":1,\n{\"b\":2}", Some(8)),
            ("{\"a\":{\"b\":1}\n{", Some(13)),
            ("{\"a\":\"cut\n{\"b\":2}", Some(9)),
            ("{{", Some(1)),
            ("{\"a\":1\n 2}", Some(8)),
            ("{\"a\":tr\nue}", Some(8)),
            ("{\"a\":1 \"b\":2}", Some(7)),
            ("{\"a\"}", Some(4)),
            ("{\"a\":}", Some(5)),
            ("[WARN unclosed", Some(6)),
            ("[1,\n\u{1E}{}", Some(4)),
        ] {
            match place {
                Some(place) => assert_eq!(whole(text), ScanStep::Damaged(place), "{text}"),
                None => assert!(matches!(whole(text), ScanStep::Closed(_)), "{text}"),
            }
        }
    }

    #[test]
    fn compacting_takes_white_space_between_tokens_only() {
        for (text, wanted) in [
            (
                "{\r\n  \"a b\" : [ 1.0e+5 ,\t\"x \\\" y\" ]\n}",
                "{\"a b\":[1.0e+5,\"x \\\" y\"]}",
            ),
            ("[ ]", "[]"),
            ("\"cut \\", "\"cut \\"),
            ("\" a \" \" b", "\" a \" \" b"),
            ("{\"a\": 1\n 2}", "{\"a\":1 2}"),
            ("{\"b\":tr\nue}", "{\"b\":tr ue}"),
            ("{\"b\":tr\"\" \"u\" e }", "{\"b\":tr\"\" \"u\" e}"),
        ] {
            let mut bytes = text.as_bytes().to_vec();
            let length = compact(&mut bytes);
            assert_eq!(std::str::from_utf8(&bytes[..length]).unwrap(), wanted);
        }
    }
}
