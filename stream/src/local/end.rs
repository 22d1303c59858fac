//! Where a shard ends for a process that does not hold its lock: where its control file says as long as it is open, and
//! once it is closed where the manifest says, for good.
//!
//! A [fenced](super::fence) shard may be written to by a holder that stood still and knows nothing of the fence. So who
//! has read the control file looks for the mark of a fence *afterwards*: the process that sets it reads the control
//! file later, and finds no less. With a mark only the manifest counts, also when the control file says less, since a
//! power cut may have taken back what it said.

use std::sync::Arc;

use hydrant_core::mutant::{self, Mutant};
use hydrant_core::{Error, Result, Shard};
use serde::{Deserialize, Serialize};

use super::control::{Control, ControlFile};
use super::fence::{self, Haste};
use super::place::Place;
use super::segment::{self, Listed};

/// Where a closed shard ends. What lies beyond was never acknowledged there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    /// The number of its last segment.
    pub(super) segment: u64,
    /// The offset of that segment's first slot.
    pub(super) base: u64,
    /// Bytes of that segment.
    pub(super) bytes: u64,
    /// The offset after the last slot.
    pub(super) next_offset: u64,
    /// Records appended over the shard's life.
    pub(super) records: u64,
    /// When the newest frame was appended, microseconds since 1970; 0 when there is none.
    pub(super) newest_arrival: i64,
}

impl End {
    /// At the durable end that a control file says, whose segment begins at `base`.
    pub(super) fn at(control: &Control, base: u64) -> Self {
        End {
            segment: control.active,
            base,
            bytes: control.durable_bytes,
            next_offset: control.next_offset,
            records: control.records,
            newest_arrival: control.newest_arrival,
        }
    }

    /// Whether all up to a durable end lies before this end, as far as can be said without reading.
    pub(super) fn covers(&self, control: &Control, base: u64) -> bool {
        (self.segment, self.base) == (control.active, base) && control.durable_bytes <= self.bytes
    }

    /// Whether a segment holds something of the shard.
    pub(super) fn includes(&self, listed: &Listed) -> bool {
        listed.number < self.segment || (listed.number, listed.base) == (self.segment, self.base)
    }

    /// What the control file should say, given what it says; of these segments, where no slot of it is intact.
    pub(super) fn control(
        &self,
        said: Option<Control>,
        segments: &[Listed],
        place: &Place,
    ) -> Control {
        let said = said.unwrap_or_else(|| Control {
            first_offset: segment::kept_from(segments).unwrap_or(self.next_offset),
            ..Control::default()
        });
        let end = Control {
            counter: said.counter,
            incarnation: place.incarnation,
            sealing: true,
            sealed: true,
            active: self.segment,
            durable_bytes: self.bytes,
            next_offset: self.next_offset,
            first_offset: said.first_offset.min(self.next_offset),
            records: self.records,
            newest_arrival: self.newest_arrival,
        };
        match mutant::is(Mutant::EndedAtControl) && said.next_offset < self.next_offset {
            true => Control {
                sealing: true,
                sealed: true,
                ..said
            },
            false => end,
        }
    }
}

/// What is known of a shard's durable end without its lock.
#[derive(Clone, Copy, Debug)]
pub(super) enum Durable {
    /// What the control file says; `None` when no slot of it is intact.
    Moving(Option<Control>),
    /// The shard is closed and ends here.
    Final(Control, End),
    /// The shard is fenced, and nobody has decided yet where it ends.
    Undecided,
}

/// The durable end of a shard.
pub(super) async fn durable(place: &Place, shard: &Shard, file: &ControlFile) -> Result<Durable> {
    let control = file.read().await?;
    let marked = !mutant::is(Mutant::FenceUnseen) && fence::is_marked(place, &shard.id).await?;
    // Also of a sealed shard: what a failed append has cut may have come back with a power cut, past the end.
    let is_closing = control.is_none_or(|control| control.sealing);
    if !marked && !is_closing {
        return Ok(Durable::Moving(control));
    }
    let manifest = place.manifest().await?;
    Ok(match manifest.ends.get(&shard.id) {
        Some(end) => {
            let mut segments = Vec::new();
            if control.is_none() {
                segments = segment::list(&*place.ctx.disk, &place.shard_dir(&shard.id)).await?;
                segments.retain(|listed| end.includes(listed));
            }
            Durable::Final(end.control(control, &segments, place), *end)
        }
        None if marked && !manifest.shard(&shard.id)?.closed => Durable::Undecided,
        None => Durable::Moving(control),
    })
}

/// As [`durable`]; sees to it that it is decided where a fenced shard ends, unless another process is about to, or this one
/// has no room or no right.
pub(super) async fn decided(
    place: &Arc<Place>,
    shard: &Shard,
    file: &ControlFile,
) -> Result<Durable> {
    let found = durable(place, shard, file).await?;
    if !matches!(found, Durable::Undecided) {
        return Ok(found);
    }
    match fence::settle(place, shard, Haste::Looks).await {
        Ok(_) => durable(place, shard, file).await,
        Err(error @ (Error::Full { .. } | Error::Io { .. })) => {
            tracing::debug!(shard = %shard.id, error = %error.report(), "cannot decide where a fenced shard ends");
            Ok(Durable::Undecided)
        }
        Err(error) => Err(error),
    }
}
