//! The control file of a shard: where its durable end is.
//!
//! Two slots are written in turn, each with a rising counter and a checksum, so that a torn write leaves the other one.
//! It is written only after the sync of the frames it speaks of has returned, so it never runs ahead of the disk; it is
//! synced itself when a shard is made, gets a new segment, or is sealed, and else may fall behind in a power cut, which
//! recovery makes good from the frames.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use hydrant_core::Result;
use hydrant_core::disk::{Disk, DiskFile, Open, write_new};
use hydrant_core::error::OrCannot;

const MAGIC: [u8; 4] = *b"HYDc";
const FORMAT: u32 = 1;
pub(crate) const SLOT_BYTES: usize = 128;
/// The slots lie in different sectors.
const SLOT_STRIDE: usize = 512;
const FLAG_SEALING: u32 = 1;
const FLAG_SEALED: u32 = 2;

/// What a control file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ControlSlot {
    /// Rises with each write.
    pub(crate) counter: u64,
    /// The incarnation of the stream, for people: what lies in its [home](super::home) is of no other one.
    pub(crate) incarnation: u128,
    /// A reshard has begun; the manifest says whether it happened.
    pub(crate) sealing: bool,
    /// No append follows.
    pub(crate) sealed: bool,
    /// The number of the segment that is appended to.
    pub(crate) active: u64,
    /// Durable bytes of that segment.
    pub(crate) durable_bytes: u64,
    /// The offset after the last durable slot.
    pub(crate) next_offset: u64,
    /// The first offset still kept.
    pub(crate) first_offset: u64,
    /// Records appended over the shard's life.
    pub(crate) records: u64,
    /// When the newest frame was appended, microseconds since 1970; 0 before the first.
    pub(crate) newest_arrival: i64,
}

impl ControlSlot {
    /// Whether retention has left a closed shard nothing.
    pub(crate) fn is_emptied(&self) -> bool {
        self.sealed && self.first_offset == self.next_offset
    }

    pub(crate) fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut out = [0; SLOT_BYTES];
        let mut flags = 0;
        for (set, flag) in [(self.sealing, FLAG_SEALING), (self.sealed, FLAG_SEALED)] {
            if set {
                flags |= flag;
            }
        }
        out[0..4].copy_from_slice(&MAGIC);
        out[4..8].copy_from_slice(&FORMAT.to_le_bytes());
        out[8..12].copy_from_slice(&flags.to_le_bytes());
        out[16..32].copy_from_slice(&self.incarnation.to_le_bytes());
        let numbers = [
            self.counter,
            self.active,
            self.durable_bytes,
            self.next_offset,
            self.first_offset,
            self.records,
            self.newest_arrival as u64,
        ];
        for (n, number) in numbers.iter().enumerate() {
            let at = 32 + n * 8;
            out[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out[..SLOT_BYTES - 4]);
        out[SLOT_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` for a slot that was never written, or torn.
    pub(crate) fn decode(bytes: &[u8]) -> Option<ControlSlot> {
        let bytes = bytes.first_chunk::<SLOT_BYTES>()?;
        let u32_at = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[at + i]));
        if bytes[0..4] != MAGIC
            || u32_at(4) != FORMAT
            || u32_at(SLOT_BYTES - 4) != crc32c::crc32c(&bytes[..SLOT_BYTES - 4])
        {
            return None;
        }
        let number = |n: usize| {
            let at = 32 + n * 8;
            u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| bytes[at + i]))
        };
        let flags = u32_at(8);
        let incarnation: [u8; 16] = *bytes[16..].first_chunk()?;
        Some(ControlSlot {
            counter: number(0),
            incarnation: u128::from_le_bytes(incarnation),
            sealing: flags & FLAG_SEALING != 0,
            sealed: flags & FLAG_SEALED != 0,
            active: number(1),
            durable_bytes: number(2),
            next_offset: number(3),
            first_offset: number(4),
            records: number(5),
            newest_arrival: number(6) as i64,
        })
    }
}

/// An open control file.
#[derive(Clone, Debug)]
pub(crate) struct ControlFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
}

impl ControlFile {
    /// Opens the control file of the shard in `dir`.
    pub(crate) async fn open(disk: &dyn Disk, dir: &Path, how: Open) -> io::Result<Self> {
        let path = ControlFile::path(dir);
        let file = disk.open(&path, how).await?;
        Ok(ControlFile { file, path })
    }

    /// Makes the control file of a new shard, durably but for its name.
    pub(crate) async fn create(disk: &dyn Disk, dir: &Path, control: &ControlSlot) -> Result<()> {
        let path = ControlFile::path(dir);
        let mut both = vec![0; SLOT_STRIDE + SLOT_BYTES];
        let at = slot_at(control.counter);
        both[at..at + SLOT_BYTES].copy_from_slice(&control.encode());
        let made = write_new(disk, &path, both.into()).await;
        made.or_cannot("create", &path)
    }

    /// Where that of the shard in `dir` is.
    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join("control")
    }

    /// The newest intact slot; `None` when there is none.
    pub(crate) async fn read(&self) -> Result<Option<ControlSlot>> {
        let bytes = self.file.read_at(0, SLOT_STRIDE + SLOT_BYTES).await;
        let bytes = bytes.or_cannot("read", &self.path)?;
        let slots = [0, SLOT_STRIDE].map(|at| bytes.get(at..).and_then(ControlSlot::decode));
        Ok(slots.into_iter().flatten().max_by_key(|slot| slot.counter))
    }

    /// Writes `control` over the older slot.
    pub(crate) async fn write(&self, control: &ControlSlot) -> Result<()> {
        let slot = Bytes::copy_from_slice(&control.encode());
        let at = slot_at(control.counter) as u64;
        let written = self.file.write_at(at, vec![slot]).await;
        written.or_cannot("write", &self.path)
    }

    /// Makes what was written survive a power cut.
    pub(crate) async fn sync(&self) -> Result<()> {
        self.file.sync().await.or_cannot("sync", &self.path)
    }
}

fn slot_at(counter: u64) -> usize {
    if counter.is_multiple_of(2) {
        0
    } else {
        SLOT_STRIDE
    }
}

#[cfg(test)]
mod tests {
    use hydrant_core::disk::real::RealDisk;

    use super::*;

    fn control(counter: u64) -> ControlSlot {
        ControlSlot {
            counter,
            incarnation: 77,
            active: 3,
            durable_bytes: 1000,
            next_offset: counter * 10,
            first_offset: 1,
            records: 40,
            newest_arrival: -5,
            ..ControlSlot::default()
        }
    }

    #[tokio::test]
    async fn a_torn_slot_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::new();
        ControlFile::create(&disk, dir.path(), &control(1))
            .await
            .unwrap();
        let file = ControlFile::open(&disk, dir.path(), Open::Write)
            .await
            .unwrap();
        assert_eq!(file.read().await.unwrap(), Some(control(1)));
        let sealed = ControlSlot {
            sealing: true,
            sealed: true,
            ..control(2)
        };
        file.write(&sealed).await.unwrap();
        assert_eq!(file.read().await.unwrap(), Some(sealed));
        for byte in 0..SLOT_BYTES {
            file.write(&control(3)).await.unwrap();
            assert_eq!(file.read().await.unwrap(), Some(control(3)));
            let at = (slot_at(3) + byte) as u64;
            let old = file.file.read_at(at, 1).await.unwrap()[0];
            let torn = Bytes::copy_from_slice(&[!old]);
            file.file.write_at(at, vec![torn]).await.unwrap();
            assert_eq!(file.read().await.unwrap(), Some(sealed), "byte {byte}");
        }
    }
}
