//! Compact integers and byte strings, for frame headers and origin entries: LEB128, least significant group first,
//! strings after their length.

use crate::position::{Position, Sequence};

/// Encoded bytes that end early or hold a number that is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the encoded bytes are cut short or out of range")]
pub struct Malformed;

/// Appends `value` in 1 to 19 bytes.
pub fn put_u128(out: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `value` in 1 to 10 bytes.
pub fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed value, zigzag-mapped.
pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends the length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a position.
pub fn put_position(out: &mut Vec<u8>, position: Position) {
    match position {
        Position::Begin => out.push(0),
        Position::At { sequence, sub } => {
            out.push(1);
            put_u128(out, sequence.high());
            put_u128(out, sequence.low());
            put_u64(out, u64::from(sub));
        }
        Position::End => out.push(2),
    }
}

/// Reads what the `put_*` functions wrote, in the same order, and never past the slice.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Creates a reader of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// The bytes not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Reads one byte.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.rest.split_first().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*first)
    }

    /// Reads `count` bytes as they are.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        if count > self.rest.len() {
            return Err(Malformed);
        }
        let (head, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(head)
    }

    /// The inverse of [`put_u128`].
    pub fn u128(&mut self) -> Result<u128, Malformed> {
        let mut value = 0u128;
        for shift in (0..).step_by(7) {
            let byte = self.byte()?;
            let group = u128::from(byte & 0x7f);
            if shift >= 128 || (group << shift) >> shift != group {
                return Err(Malformed);
            }
            value |= group << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    /// The inverse of [`put_u64`].
    #[inline]
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_u64(),
        }
    }

    fn long_u64(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..).step_by(7) {
            let byte = self.byte()?;
            let group = u64::from(byte & 0x7f);
            if shift >= 64 || (group << shift) >> shift != group {
                return Err(Malformed);
            }
            value |= group << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    /// A `u64` that must fit 32 bits.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.u64()?).map_err(|_| Malformed)
    }

    /// The inverse of [`put_i64`].
    #[inline]
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        let value = self.u64()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The inverse of [`put_bytes`].
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let count = usize::try_from(self.u64()?).map_err(|_| Malformed)?;
        self.take(count)
    }

    /// [`Reader::bytes`] as text.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    /// The inverse of [`put_position`].
    pub fn position(&mut self) -> Result<Position, Malformed> {
        match self.byte()? {
            0 => Ok(Position::Begin),
            1 => {
                let sequence = Sequence::from_parts(self.u128()?, self.u128()?);
                Ok(Position::At {
                    sequence,
                    sub: self.u32()?,
                })
            }
            2 => Ok(Position::End),
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_put_is_read(a in any::<u128>(), b in any::<u64>(), c in any::<i64>(), d in any::<Vec<u8>>()) {
            let mut out = Vec::new();
            put_u128(&mut out, a);
            put_u64(&mut out, b);
            put_i64(&mut out, c);
            put_bytes(&mut out, &d);
            put_position(&mut out, Position::at(Sequence::from_parts(a, a), b as u32));
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.u128(), Ok(a));
            prop_assert_eq!(reader.u64(), Ok(b));
            prop_assert_eq!(reader.i64(), Ok(c));
            prop_assert_eq!(reader.bytes(), Ok(d.as_slice()));
            prop_assert_eq!(reader.position(), Ok(Position::at(Sequence::from_parts(a, a), b as u32)));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn arbitrary_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
            let mut reader = Reader::new(&bytes);
            while reader.u128().is_ok() {}
            let mut reader = Reader::new(&bytes);
            while reader.bytes().is_ok() {}
            let _read = reader.position();
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        assert_eq!(Reader::new(&[0xff; 10]).u64(), Err(Malformed));
        assert_eq!(Reader::new(&[0xff; 19]).u128(), Err(Malformed));
    }
}
