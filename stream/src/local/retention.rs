//! Removing old segments.
//!
//! Whole segments go, oldest first; the segment that is appended to stays. The first offset kept is written, durably,
//! before the files are removed, so that readers are told of a gap and not of missing files.

use hydrant_core::disk::Open;
use hydrant_core::stream::Trim;
use hydrant_core::{Error, Result};

use super::segment::{self, Segment};
use super::shard_log::Held;

impl Held<'_> {
    /// Removes what the stream's retention does not keep.
    pub(super) async fn retain(&mut self) -> Result<u64> {
        let place = &self.log.place;
        let age = place.settings.retention_micros;
        let bytes = place.settings.retention_bytes;
        let now = place.ctx.clock.wall_micros();
        let mut freed = 0;
        if let Some(age) = age {
            let age = i64::try_from(age).unwrap_or(i64::MAX);
            freed += self
                .remove(Trim::OlderThan(now.saturating_sub(age)))
                .await?;
        }
        if let Some(bytes) = bytes {
            freed += self.remove(Trim::ToBytes(bytes)).await?;
        }
        Ok(freed)
    }

    /// Removes what an operator names, which may be all that the shard holds.
    pub(super) async fn trim(&mut self, what: Trim) -> Result<u64> {
        let mut freed = 0;
        if let Some(known) = self.known_if_any() {
            let control = known.control;
            let everything = match what {
                Trim::After(position) => position
                    .next_offset()
                    .is_none_or(|next| next >= control.next_offset),
                Trim::OlderThan(time) => known.newest < time,
                Trim::ToBytes(bytes) => bytes == 0,
            };
            let holds_frames = control.durable_bytes > known.head_len;
            if everything && holds_frames && !control.sealed {
                match self.start_segment(Vec::new(), None).await {
                    // There is room for the next segment once the older ones are gone.
                    Err(Error::Full { path }) => {
                        freed = self.remove(what).await?;
                        if freed == 0 {
                            return Err(Error::Full { path });
                        }
                        self.start_segment(Vec::new(), None).await?;
                    }
                    started => started?,
                }
            }
        }
        Ok(freed + self.remove(what).await?)
    }

    async fn remove(&mut self, what: Trim) -> Result<u64> {
        let place = std::sync::Arc::clone(&self.log.place);
        let disk = &*place.ctx.disk;
        let Some(known) = self.known_if_any() else {
            return Ok(0);
        };
        let (control, newest_of_active) = (known.control, known.newest);
        let dir = self.log.dir.clone();
        let segments = segment::list(disk, &dir).await?;
        let mut left: u64 = segments.iter().map(|s| s.len).sum();
        let mut first_offset = control.first_offset;
        let mut going = Vec::new();
        for (n, listed) in segments.iter().enumerate() {
            let (next_base, newest) = match segments.get(n + 1) {
                Some(next) => {
                    let opened = Segment::open(disk, &dir, next.number, next.base, Open::Read);
                    let opened = opened.await?.ok_or_else(|| place.gone())?;
                    let head = opened.head(place.incarnation).await?;
                    (next.base, head.previous_newest)
                }
                None if control.sealed => (control.next_offset, newest_of_active),
                None => break,
            };
            let goes = match what {
                Trim::After(position) => {
                    position.next_offset().is_none_or(|next| next_base <= next)
                }
                Trim::OlderThan(time) => newest < time,
                Trim::ToBytes(bytes) => left > bytes,
            };
            if !goes {
                break;
            }
            left -= listed.len;
            first_offset = next_base;
            going.push(listed);
        }
        if going.is_empty() {
            return Ok(0);
        }
        self.set_control(true, |control| control.first_offset = first_offset)
            .await?;
        let mut freed = 0;
        for listed in going {
            let path = dir.join(segment::name(listed.number, listed.base));
            let removed = disk.remove(&path).await;
            removed.map_err(|e| Error::io("remove", &path, e))?;
            freed += listed.len;
        }
        if segment::list(disk, &dir).await?.is_empty() {
            self.forget();
        }
        Ok(freed)
    }
}
