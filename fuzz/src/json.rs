//! A grammar of JSON records, including hostile ones.

use crate::FuzzRandom;

/// Keys as they are written: few, so that they repeat, some in several spellings.
const KEYS: &[&str] = &[
    "id",
    "a",
    "b",
    "c",
    "d",
    "ts",
    "value",
    "device",
    "\\u0061",
    "\\u0069d",
    "i\\u0064",
    "é",
    "\\u00e9",
    "\\ud83d\\ude00",
    "😀",
    "a.b",
    "{a}",
    "\\\"",
    "\\\\",
    "\\/",
    "/",
    "",
    " ",
    "A",
    "\\n",
    "a\\u0000",
    "a-long-key-that-fills-more-than-one-word-of-the-processor",
];

const TEXTS: &[&str] = &[
    "",
    "x",
    "north",
    "é",
    "😀",
    "\\n",
    "\\\"",
    "\\\\",
    "\\/",
    "\\b\\f\\n\\r\\t",
    "\\u0000",
    "\\u001f",
    "\\u0041",
    "\\u00E9",
    "\\ud83d\\ude00",
    "\\uD83D\\uDE00",
    "\\uffff",
    "\u{7f}",
    "\u{80}",
    "\u{2028}",
    "\u{feff}",
    "12345678",
    "1234567",
    "123456789",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "'",
    "2026-01-02T03:04:05Z",
    "{\\\"id\\\":1}",
];

const BAD_TEXTS: &[&[u8]] = &[
    b"\\ud800",
    b"\\udc00",
    b"\\ud800\\u0041",
    b"\\ud800x",
    b"\\udc00\\ud800",
    b"\\x",
    b"\\u12",
    b"\\u12g4",
    b"\\u+123",
    b"\\U0041",
    b"\\",
    b"\n",
    b"\0",
    b"\x1f",
    b"\t",
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xe2\x82",
    b"\"",
    b"\\'",
];

const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "1",
    "12",
    "-7",
    "0.5",
    "-0.0",
    "1e5",
    "1E+5",
    "2.5e-3",
    "0e0",
    "-0e-0",
    "9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "18446744073709551616",
    "1e308",
    "1e-400",
    "123456789012345678901234567890",
    "0.1e1",
    "1.0",
];

const BAD_NUMBERS: &[&str] = &[
    "01",
    "-",
    "-01",
    "00",
    "1.",
    ".5",
    "1e",
    "1e+",
    "+1",
    "0x10",
    "1_0",
    "NaN",
    "-NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1e999",
    "1.5e-99999999999999999999",
    "1e99999999999999999999",
    "1.e1",
    "--1",
    "1..2",
    "1e5.5",
    "1e-",
    "\u{661}",
];

const BAD_WORDS: &[&str] = &[
    "nul",
    "nulll",
    "True",
    "tru",
    "truefalse",
    "undefined",
    "'x'",
    "",
    "None",
];

const SPACES: &[&str] = &["", "", "", "", " ", "\t", "\n", "\r\n", "  \t "];

const BAD_SPACES: &[&str] = &["\u{b}", "\u{c}", "\u{a0}", "\0", "\u{feff}", "//", "\u{85}"];

/// Makes a record: mostly a JSON object, sometimes with one fault, rarely hostile as a whole.
pub fn json(random: &mut FuzzRandom) -> Vec<u8> {
    let mut writer = Writer {
        out: Vec::new(),
        fault_in: if random.u8(0..3) == 0 {
            random.u32(1..40)
        } else {
            u32::MAX
        },
        random,
    };
    writer.space();
    match writer.random.u8(0..20) {
        0 => writer.value(4),
        1 => writer.deep(),
        _ => writer.object(4),
    }
    writer.space();
    if writer.random.u8(0..30) == 0 {
        let behind: &[u8] = [
            &b"\0"[..],
            b"x",
            b"{}",
            b",",
            b"]",
            b"\xef\xbb\xbf",
            b"\x1a",
        ][writer.random.usize(0..7)];
        writer.out.extend_from_slice(behind);
    }
    if writer.random.u8(0..60) == 0 {
        writer.out.splice(0..0, *b"\xef\xbb\xbf");
    }
    if writer.random.u8(0..20) == 0 {
        let length = writer.random.usize(0..=writer.out.len());
        writer.out.truncate(length);
    }
    writer.out
}

struct Writer<'a> {
    out: Vec<u8>,
    /// The number of tokens until a fault is written.
    fault_in: u32,
    random: &'a mut FuzzRandom,
}

impl Writer<'_> {
    fn fault(&mut self) -> bool {
        self.fault_in = self.fault_in.saturating_sub(1);
        self.fault_in == 0 && {
            self.fault_in = u32::MAX;
            true
        }
    }

    fn one<'t, T: ?Sized>(&mut self, of: &[&'t T]) -> &'t T {
        of[self.random.usize(0..of.len())]
    }

    fn put(&mut self, of: &[&str]) {
        let text = self.one(of);
        self.out.extend_from_slice(text.as_bytes());
    }

    fn space(&mut self) {
        let of = if self.random.u8(0..20) == 0 && self.fault() {
            BAD_SPACES
        } else {
            SPACES
        };
        self.put(of);
    }

    /// Writes a punctuation mark.
    fn sign(&mut self, sign: u8) {
        self.space();
        if self.fault() {
            let of = [&b""[..], b",", b":", b"}", b"]", b";", b"\"", b",,"];
            let other = self.one(&of);
            self.out.extend_from_slice(other);
        } else {
            self.out.push(sign);
        }
        self.space();
    }

    fn value(&mut self, depth: u32) {
        let kinds = if depth == 0 { 5 } else { 8 };
        match self.random.u8(0..kinds) {
            0 | 1 => self.text(TEXTS),
            2 | 3 if self.fault() => self.put(BAD_NUMBERS),
            2 | 3 => self.number(),
            4 if self.fault() => self.put(BAD_WORDS),
            4 => self.put(&["true", "false", "null"]),
            5 => self.list(depth - 1),
            _ => self.object(depth - 1),
        }
    }

    fn number(&mut self) {
        if self.random.bool() {
            return self.put(NUMBERS);
        }
        let digits = |random: &mut FuzzRandom, most| -> String {
            (0..random.usize(1..=most))
                .map(|_| char::from(random.u8(b'0'..=b'9')))
                .collect()
        };
        let whole = digits(self.random, 22);
        let whole = whole.trim_start_matches('0');
        let sign = ["", "-"][self.random.usize(0..2)];
        let mut number = format!("{sign}{}", if whole.is_empty() { "0" } else { whole });
        if self.random.bool() {
            number.push('.');
            number.push_str(&digits(self.random, 22));
        }
        if self.random.u8(0..4) == 0 {
            number.push_str(["e", "E", "e+", "e-", "E-"][self.random.usize(0..5)]);
            number.push_str(&digits(self.random, 4));
        }
        self.out.extend_from_slice(number.as_bytes());
    }

    fn text(&mut self, of: &[&str]) {
        self.out.push(b'"');
        let parts = if of.len() == KEYS.len() {
            1
        } else {
            self.random.u8(0..4)
        };
        for _ in 0..parts {
            self.put(of);
        }
        if self.fault() {
            let bad = self.one(BAD_TEXTS);
            self.out.extend_from_slice(bad);
        }
        if self.random.u8(0..12) == 0 {
            self.out
                .extend(std::iter::repeat_n(b'y', self.random.usize(0..40)));
        }
        self.out.push(b'"');
    }

    fn object(&mut self, depth: u32) {
        self.sign(b'{');
        for index in 0..self.random.u8(0..6) {
            if index > 0 {
                self.sign(b',');
            }
            self.text(KEYS);
            self.sign(b':');
            self.value(depth);
        }
        self.sign(b'}');
    }

    /// Writes a list, mostly of one kind, as tables need it.
    fn list(&mut self, depth: u32) {
        self.sign(b'[');
        let kind = self.random.u8(0..5);
        for index in 0..self.random.u8(0..4) {
            if index > 0 {
                self.sign(b',');
            }
            match kind {
                0 => self.number(),
                1 => self.text(TEXTS),
                2 if depth > 0 => self.object(depth - 1),
                3 if depth > 0 => self.list(depth - 1),
                _ => self.value(depth),
            }
        }
        self.sign(b']');
    }

    /// Writes containers nested around the limit of depth.
    fn deep(&mut self) {
        let depth = [62, 63, 64, 65, 126, 127, 128, 129, 1_023, 1_025][self.random.usize(0..10)];
        let (open, close) = if self.random.bool() {
            ("{\"a\":", "}")
        } else {
            ("[", "]")
        };
        self.out.extend_from_slice(b"{\"d\":");
        self.out.extend_from_slice(open.repeat(depth).as_bytes());
        self.put(&["1", "null", "{}", "[]", "\"x\""]);
        let closed = if self.fault() { depth - 1 } else { depth };
        self.out.extend_from_slice(close.repeat(closed).as_bytes());
        self.out.extend_from_slice(b",\"id\":1}");
    }
}
