//! The header of a frame: what stands before the bytes of one append.
//!
//! Owns the fixed 64 bytes and their checks; the body's columns are `columns.rs`. Every length is checked against its
//! limit before anything of that size is read or allocated, and no sequence of bytes makes decoding panic.

use bytes::Bytes;
use hydrant_core::Position;
use hydrant_core::origin::OriginEntry;
use hydrant_core::varint::Reader;
use serde::{Deserialize, Serialize};

/// Bytes of a header.
pub(crate) const HEADER_BYTES: usize = 64;
/// The largest encoded origin entry.
pub(crate) const META_BYTES_MAX: usize = 16 << 20;
/// The largest body before compression: one record of the largest size, or many smaller ones, with their index.
pub(crate) const RAW_BYTES_MAX: usize = 32 << 20;
/// The largest body after compression; compressors may add a little to what they cannot shrink.
const BODY_BYTES_MAX: usize = RAW_BYTES_MAX + (RAW_BYTES_MAX >> 6);
/// No record takes less of a body: one byte each of key length, payload length and stamp.
const RECORD_BYTES_MIN: usize = 3;

const MAGIC: [u8; 4] = *b"HYDf";
const FORMAT: u8 = 1;
const FLAG_ACCOUNT: u16 = 1;
const FLAG_EXPLICIT: u16 = 2;
const FLAG_HEADERS: u16 = 4;
const FLAG_TOMBSTONES: u16 = 8;
const FLAGS_KNOWN: u16 = FLAG_ACCOUNT | FLAG_EXPLICIT | FLAG_HEADERS | FLAG_TOMBSTONES;

/// How bodies are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Codec {
    /// Stored as they are.
    None,
    /// LZ4 blocks: fastest.
    #[default]
    Lz4,
    /// Zstandard at level 1: smaller, slower.
    Zstd,
}

/// The codecs by the numbers that frames name them by.
const CODECS: [Codec; 3] = [Codec::None, Codec::Lz4, Codec::Zstd];

/// A frame ends behind the end of what holds it.
pub(crate) const CUT_SHORT: FrameFault = FrameFault("a frame is cut short");

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameFault(pub(crate) &'static str);

/// The columns that only some bodies have: those of which a record needs one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BodyColumns {
    /// Route hashes.
    pub(crate) explicit: bool,
    /// Headers.
    pub(crate) headers: bool,
    /// Payload lengths that distinguish a tombstone from an empty payload.
    pub(crate) tombstones: bool,
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// How the body is compressed.
    pub(crate) codec: Codec,
    /// Whether the last slot is an account.
    pub(crate) account: bool,
    /// The columns of the body that not every body has.
    pub(crate) columns: BodyColumns,
    /// The offset of the first slot.
    pub(crate) base: u64,
    /// Records in the body.
    pub(crate) records: u32,
    /// When the frame was appended, microseconds since 1970.
    pub(crate) arrival: i64,
    /// Bytes of the encoded origin entry.
    pub(crate) meta_len: u32,
    /// Bytes of the stored body.
    pub(crate) body_len: u32,
    /// Bytes of the body before compression.
    pub(crate) raw_len: u32,
    /// CRC32C of the encoded origin entry.
    pub(crate) meta_crc: u32,
    /// CRC32C of the stored body.
    pub(crate) body_crc: u32,
}

impl Header {
    /// Offsets that the frame takes: one a record and one for an account.
    pub(crate) fn slots(&self) -> u64 {
        u64::from(self.records) + u64::from(self.account)
    }

    /// The offset after the frame's last slot.
    pub(crate) fn next_offset(&self) -> u64 {
        self.base + self.slots()
    }

    /// Bytes of the whole frame.
    pub(crate) fn frame_len(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.meta_len) + u64::from(self.body_len)
    }

    /// The header's bytes in the stream whose salt is `salt`.
    pub(crate) fn encode(&self, salt: u64) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let flags = [
            (self.account, FLAG_ACCOUNT),
            (self.columns.explicit, FLAG_EXPLICIT),
            (self.columns.headers, FLAG_HEADERS),
            (self.columns.tombstones, FLAG_TOMBSTONES),
        ];
        let flags = flags.into_iter().filter(|(has, _)| *has);
        let flags = flags.fold(0, |flags, (_, flag)| flags | flag);
        out[0..4].copy_from_slice(&MAGIC);
        out[4] = FORMAT;
        out[5] = self.codec as u8;
        out[6..8].copy_from_slice(&flags.to_le_bytes());
        out[8..16].copy_from_slice(&self.base.to_le_bytes());
        out[16..20].copy_from_slice(&self.records.to_le_bytes());
        out[20..28].copy_from_slice(&self.arrival.to_le_bytes());
        out[28..32].copy_from_slice(&self.meta_len.to_le_bytes());
        out[32..36].copy_from_slice(&self.body_len.to_le_bytes());
        out[36..40].copy_from_slice(&self.raw_len.to_le_bytes());
        out[40..44].copy_from_slice(&self.meta_crc.to_le_bytes());
        out[44..48].copy_from_slice(&self.body_crc.to_le_bytes());
        out[48..56].copy_from_slice(&salt.to_le_bytes());
        let crc = crc32c::crc32c(&out[..60]);
        out[60..64].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Whether the beginning of `bytes` may be a header at all.
    pub(crate) fn starts(bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC)
    }

    /// Reads a header from the beginning of `bytes`.
    pub(crate) fn decode(bytes: &[u8], salt: u64) -> Result<Header, FrameFault> {
        let bytes = bytes
            .first_chunk::<HEADER_BYTES>()
            .ok_or(FrameFault("a frame header is cut short"))?;
        let u32_at = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[at + i]));
        let u64_at =
            |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| bytes[at + i]));
        if bytes[0..4] != MAGIC {
            return Err(FrameFault("no frame starts here"));
        }
        if u32_at(60) != crc32c::crc32c(&bytes[..60]) {
            return Err(FrameFault("the checksum of a frame header does not match"));
        }
        if bytes[4] != FORMAT {
            return Err(FrameFault(
                "a frame has a format that this build does not read",
            ));
        }
        if u64_at(48) != salt {
            return Err(FrameFault("a frame belongs to another stream"));
        }
        let flags = u16::from_le_bytes([bytes[6], bytes[7]]);
        let codec = CODECS.get(usize::from(bytes[5]));
        let codec = codec.copied().filter(|_| flags & !FLAGS_KNOWN == 0);
        let codec = codec.ok_or(FrameFault(
            "a frame has a codec or flag that this build does not know",
        ))?;
        let header = Header {
            codec,
            account: flags & FLAG_ACCOUNT != 0,
            columns: BodyColumns {
                explicit: flags & FLAG_EXPLICIT != 0,
                headers: flags & FLAG_HEADERS != 0,
                tombstones: flags & FLAG_TOMBSTONES != 0,
            },
            base: u64_at(8),
            records: u32_at(16),
            arrival: u64_at(20) as i64,
            meta_len: u32_at(28),
            body_len: u32_at(32),
            raw_len: u32_at(36),
            meta_crc: u32_at(40),
            body_crc: u32_at(44),
        };
        let (raw, body) = (header.raw_len as usize, header.body_len as usize);
        let fits = header.meta_len as usize <= META_BYTES_MAX
            && body <= BODY_BYTES_MAX
            && raw <= RAW_BYTES_MAX
            && header.records as usize <= raw / RECORD_BYTES_MIN
            && (header.codec != Codec::None || raw == body)
            && header.base.checked_add(header.slots()).is_some();
        fits.then_some(header)
            .ok_or(FrameFault("a frame header holds impossible lengths"))
    }

    /// As [`Header::decode`], of a frame for which there are `room` bytes.
    pub(crate) fn decode_before(bytes: &[u8], salt: u64, room: u64) -> Result<Header, FrameFault> {
        let header = Header::decode(bytes, salt)?;
        match header.frame_len() <= room {
            true => Ok(header),
            false => Err(CUT_SHORT),
        }
    }

    /// Checks the encoded origin entry.
    pub(crate) fn check_meta(&self, meta: &[u8]) -> Result<(), FrameFault> {
        let fits = meta.len() == self.meta_len as usize && crc32c::crc32c(meta) == self.meta_crc;
        fits.then_some(())
            .ok_or(FrameFault("the checksum of an origin entry does not match"))
    }

    /// The encoded origin entry and the stored body that follow a header, checked.
    pub(crate) fn parts(&self, after_header: &Bytes) -> Result<(Bytes, Bytes), FrameFault> {
        let meta_len = self.meta_len as usize;
        let end = meta_len + self.body_len as usize;
        if end > after_header.len() {
            return Err(CUT_SHORT);
        }
        let meta = after_header.slice(..meta_len);
        let body = after_header.slice(meta_len..end);
        self.check_meta(&meta)?;
        if crc32c::crc32c(&body) != self.body_crc {
            return Err(FrameFault("the checksum of a frame's body does not match"));
        }
        Ok((meta, body))
    }
}

/// What an encoded origin entry says; `None` for a frame without one.
pub(crate) fn entry_of(meta: &[u8]) -> Result<Option<OriginEntry>, FrameFault> {
    if meta.is_empty() {
        return Ok(None);
    }
    let mut reader = Reader::new(meta);
    let entry = OriginEntry::decode(&mut reader);
    let entry = entry.ok().filter(|_| reader.is_empty());
    entry
        .map(Some)
        .ok_or(FrameFault("an origin entry is malformed"))
}

/// The frame's origin entry, if the frame is intact; `None` when it is not.
#[allow(
    clippy::option_option,
    reason = "intact without an entry differs from not intact"
)]
pub(crate) fn intact(header: &Header, bytes: &Bytes) -> Option<Option<OriginEntry>> {
    if bytes.len() < HEADER_BYTES {
        return None;
    }
    let (meta, _) = header.parts(&bytes.slice(HEADER_BYTES..)).ok()?;
    entry_of(&meta).ok()
}

/// The position of an offset that is the first one after what is done.
pub(crate) fn position_before(next_offset: u64) -> Position {
    match next_offset.checked_sub(1) {
        Some(offset) => Position::offset(offset),
        None => Position::Begin,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> impl Strategy<Value = Header> {
        let codec = prop_oneof![Just(Codec::Lz4), Just(Codec::Zstd)];
        (
            codec,
            any::<(bool, [bool; 3], i64, u32, u32)>(),
            0u64..1 << 62,
            0u32..1000,
            0u32..9000,
        )
            .prop_map(
                |(
                    codec,
                    (account, [explicit, headers, tombstones], arrival, meta_crc, body_crc),
                    base,
                    records,
                    body_len,
                )| Header {
                    codec,
                    account,
                    columns: BodyColumns {
                        explicit,
                        headers,
                        tombstones,
                    },
                    base,
                    records,
                    arrival,
                    meta_len: body_len / 2,
                    body_len,
                    raw_len: records * 4,
                    meta_crc,
                    body_crc,
                },
            )
    }

    proptest! {
        #[test]
        fn a_header_gives_itself_back(header in header(), salt in any::<u64>()) {
            prop_assert_eq!(Header::decode(&header.encode(salt), salt), Ok(header));
            prop_assert!(Header::decode(&header.encode(salt), !salt).is_err());
        }

        #[test]
        fn a_changed_bit_is_noticed(header in header(), bit in 0usize..HEADER_BYTES * 8) {
            let mut bytes = header.encode(7);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Header::decode(&bytes, 7).is_err());
        }

        #[test]
        fn arbitrary_bytes_are_no_header(bytes in any::<Vec<u8>>(), mut fixed in any::<[u8; 32]>()) {
            prop_assert!(Header::decode(&bytes, 0).is_err());
            // Behind a matching checksum too.
            fixed[..4].copy_from_slice(&MAGIC);
            let mut bytes = [0; HEADER_BYTES];
            bytes[..32].copy_from_slice(&fixed);
            let crc = crc32c::crc32c(&bytes[..60]);
            bytes[60..].copy_from_slice(&crc.to_le_bytes());
            if let Ok(header) = Header::decode(&bytes, 0) {
                prop_assert!(header.raw_len as usize <= RAW_BYTES_MAX);
            }
        }
    }
}
