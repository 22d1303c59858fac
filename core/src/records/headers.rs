//! The headers of a record, as a block of bytes: names with values that stand beside the payload.
//!
//! ```text
//! for each header   name length   name   value length + 1, or 0 for null   value
//! ```
//!
//! Numbers are LEB128. The order of the headers and repeated names are kept, a name is text, a value is bytes or null: what
//! Kafka has. A record without headers has an empty block.

use crate::varint::{Malformed, Reader, put_bytes, put_u64};

/// One header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader<'a> {
    /// The name, which may be empty and may occur again.
    pub name: &'a str,
    /// The value; `None` for null.
    pub value: Option<&'a [u8]>,
}

/// Appends a header to a block.
pub fn put_header(block: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    put_bytes(block, name.as_bytes());
    put_u64(block, value.map_or(0, |value| value.len() as u64 + 1));
    block.extend_from_slice(value.unwrap_or_default());
}

/// The headers of a block, in order. Bytes that are not a block give an error, which is the last item.
pub fn read_headers(
    block: &[u8],
) -> impl Iterator<Item = Result<RecordHeader<'_>, Malformed>> + Clone {
    let mut reader = Reader::new(block);
    std::iter::from_fn(move || {
        if reader.is_empty() {
            return None;
        }
        let header = read_header(&mut reader);
        if header.is_err() {
            reader = Reader::new(&[]);
        }
        Some(header)
    })
}

/// Whether these bytes are a block.
pub fn is_block(bytes: &[u8]) -> bool {
    read_headers(bytes).all(|header| header.is_ok())
}

fn read_header<'a>(reader: &mut Reader<'a>) -> Result<RecordHeader<'a>, Malformed> {
    let name = reader.text()?;
    let value = match reader.u64()?.checked_sub(1) {
        None => None,
        Some(len) => Some(reader.take(usize::try_from(len).map_err(|_| Malformed)?)?),
    };
    Ok(RecordHeader { name, value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_come_back_in_order(
            all in prop::collection::vec((".{0,9}", prop::option::of(prop::collection::vec(any::<u8>(), 0..200))), 0..9),
        ) {
            let mut block = Vec::new();
            for (name, value) in &all {
                put_header(&mut block, name, value.as_deref());
            }
            let read: Vec<_> = read_headers(&block).map(|header| {
                let header = header.unwrap();
                (header.name.to_owned(), header.value.map(<[u8]>::to_vec))
            }).collect();
            prop_assert_eq!(read, all);
            prop_assert!(is_block(&block));
        }
    }

    #[test]
    fn null_and_empty_differ_and_what_is_cut_short_is_refused() {
        let mut block = Vec::new();
        put_header(&mut block, "a", None);
        put_header(&mut block, "a", Some(b""));
        put_header(&mut block, "", Some(b"xy"));
        assert_eq!(block, b"\x01a\0\x01a\x01\0\x03xy");
        let whole = [3, 6, block.len()];
        for len in 1..=block.len() {
            assert_eq!(is_block(&block[..len]), whole.contains(&len), "{len} bytes");
        }
        let read: Vec<_> = read_headers(&block[..8]).collect();
        assert_eq!((read.len(), read[2]), (3, Err(Malformed)));
        assert!(!is_block(b"\x01\xff\0"), "a name is text");
    }
}
