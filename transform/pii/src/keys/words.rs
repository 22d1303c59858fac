//! Splits a key into words.

/// Bytes of a key that are looked at, from the end.
pub(super) const KEY_BYTES_MAX: usize = 96;

/// A key split into words, in lower case, written together.
pub(super) struct Words {
    text: [u8; KEY_BYTES_MAX],
    length: usize,
    starts: [u8; KEY_BYTES_MAX],
    count: usize,
}

impl Words {
    pub(super) fn split(key: &[u8]) -> Self {
        let key = &key[key.len().saturating_sub(KEY_BYTES_MAX)..];
        let mut words = Self {
            text: [0; KEY_BYTES_MAX],
            length: 0,
            starts: [0; KEY_BYTES_MAX],
            count: 0,
        };
        let mut before = b' ';
        for (at, &byte) in key.iter().enumerate() {
            let next = key.get(at + 1).copied().unwrap_or(b' ');
            let inside = byte.is_ascii_alphanumeric() || byte >= 0x80;
            if inside {
                let starts = !(before.is_ascii_alphanumeric() || before >= 0x80)
                    || before.is_ascii_digit() != byte.is_ascii_digit()
                    || byte.is_ascii_uppercase()
                        && (before.is_ascii_lowercase()
                            || before.is_ascii_uppercase() && next.is_ascii_lowercase());
                // `IPv4` and `IPv6` are one word.
                let of_ip = byte == b'v' && before.eq_ignore_ascii_case(&b'p')
                    || matches!(byte, b'4' | b'6') && before.eq_ignore_ascii_case(&b'v');
                if starts && !of_ip {
                    words.starts[words.count] =
                        u8::try_from(words.length).expect("so few bytes are looked at");
                    words.count += 1;
                }
                words.text[words.length] = byte.to_ascii_lowercase();
                words.length += 1;
            }
            before = byte;
        }
        words
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Where a word starts; the one behind the last starts at the end.
    fn start(&self, index: usize) -> usize {
        match self.starts[..self.count].get(index) {
            Some(&start) => usize::from(start),
            None => self.length,
        }
    }

    pub(super) fn word(&self, index: usize) -> &[u8] {
        &self.text[self.start(index)..self.start(index + 1)]
    }

    /// The last `count` words together.
    pub(super) fn tail(&self, count: usize) -> &[u8] {
        &self.text[self.start(self.count - count)..self.length]
    }

    pub(super) fn drop_last(&mut self) {
        if self.count > 0 {
            self.length = self.start(self.count - 1);
            self.count -= 1;
        }
    }

    /// All words together.
    pub(super) fn joined(&self) -> &[u8] {
        &self.text[..self.length]
    }
}
