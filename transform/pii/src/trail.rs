//! The position of the walk in a record: the open containers, their names, and what they hand down.
//!
//! Owns the arenas of names, of waiting path states and of values that may be looked at again; they
//! grow and shrink with the depth, so that nothing is allocated per scalar. Renders RFC 6901 pointers of bounded length.

use crate::keys::Evidence;
use crate::policy::PathEffect;

/// One step of a pointer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum PointerSegment {
    /// The record itself.
    #[default]
    Root,
    /// A name in the arena of names.
    Name(u32, u32),
    /// A key without escapes, as a range of the text that is walked now.
    Written(u32, u32),
    /// An index in an array.
    Index(u32),
    /// Into a string that holds JSON.
    Inside,
}

/// The value that is walked now: where it stands and what holds for it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Member {
    pub(crate) segment: PointerSegment,
    pub(crate) evidence: Evidence,
    /// What its own key says, without what stands above.
    pub(crate) key: Evidence,
    /// Index of its effect; 0 is that of no path.
    pub(crate) effect: u32,
    /// The rule for the whole value.
    pub(crate) rule: Option<u16>,
    /// Path states that wait for its children.
    pub(crate) waiting: (u32, u32),
    /// Where the member starts: at the quote of its key, or at the value.
    pub(crate) start: usize,
    /// The comma before it.
    pub(crate) comma: Option<usize>,
}

/// An open container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenContainer {
    pub(crate) object: bool,
    /// The container as a member of what it lies in.
    pub(crate) member: Member,
    /// Whether it is inside of something that is removed as a whole.
    pub(crate) removed: bool,
    /// Whether a member before the present one stays.
    pub(crate) kept: bool,
    /// Where it opened in its text.
    pub(crate) at: usize,
    /// How many containers lie inside each other in it, so far.
    pub(crate) height: u32,
    /// Index of the next element.
    pub(crate) index: u32,
    /// What a member like `"type":"ssn"` says about one like `"value":..` beside it.
    pub(crate) said: Evidence,
    /// Lengths of the arenas when it opened. A whole [`TrailMark`] would cost the walk of small records a tenth of its
    /// speed.
    pub(crate) values: usize,
    names: usize,
    states: usize,
    effects: usize,
}

/// A value about which a later member may say something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Noted {
    /// Where it lies in its text.
    pub(crate) value: (u32, u32),
    /// Where its key lies.
    pub(crate) key: (u32, u32),
    /// What its key says.
    pub(crate) says: Evidence,
}

/// Longest pointer, in bytes; a longer one ends with `/…`.
const POINTER_BYTES_MAX: usize = 1024;
/// Longest name in a pointer, in bytes; a longer one ends with `…`.
const NAME_BYTES_MAX: usize = 128;

/// The open containers with their arenas.
#[derive(Debug, Default)]
pub(crate) struct WalkTrail {
    pub(crate) frames: Vec<OpenContainer>,
    segments: Vec<PointerSegment>,
    names: Vec<u8>,
    pub(crate) states: Vec<u16>,
    effects: Vec<PathEffect>,
    /// Values of the open containers about which a later member may say something. At most one for
    /// each few bytes of the record.
    pub(crate) values: Vec<Noted>,
}

/// A place to come back to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TrailMark {
    frames: usize,
    segments: usize,
    names: usize,
    states: usize,
    effects: usize,
    values: usize,
}

impl WalkTrail {
    pub(crate) fn clear(&mut self) {
        self.back_to(TrailMark::default());
    }

    /// What the paths above a member do.
    pub(crate) fn effect(&self, member: &Member) -> &PathEffect {
        match member.effect {
            0 => &PathEffect::NONE,
            index => &self.effects[index as usize - 1],
        }
    }

    /// Keeps an effect for members, and returns its index.
    pub(crate) fn keep_effect(&mut self, effect: PathEffect) -> u32 {
        if effect == PathEffect::NONE {
            return 0;
        }
        self.effects.push(effect);
        narrow(self.effects.len())
    }

    pub(crate) fn mark(&self) -> TrailMark {
        TrailMark {
            frames: self.frames.len(),
            segments: self.segments.len(),
            names: self.names.len(),
            states: self.states.len(),
            effects: self.effects.len(),
            values: self.values.len(),
        }
    }

    pub(crate) fn back_to(&mut self, mark: TrailMark) {
        self.frames.truncate(mark.frames);
        self.segments.truncate(mark.segments);
        self.names.truncate(mark.names);
        self.states.truncate(mark.states);
        self.effects.truncate(mark.effects);
        self.values.truncate(mark.values);
    }

    /// Gives memory back that only an unusual record needed.
    pub(crate) fn shrink(&mut self, bytes_max: usize) {
        if self.values.capacity() * size_of::<Noted>() > bytes_max {
            self.values = Vec::new();
        }
    }

    /// Keeps a name for pointers, cut to a bounded length.
    pub(crate) fn name(&mut self, name: &[u8]) -> PointerSegment {
        let start = self.names.len();
        if name.len() <= NAME_BYTES_MAX {
            self.names.extend_from_slice(name);
        } else {
            let mut end = NAME_BYTES_MAX;
            while name[end] & 0xc0 == 0x80 {
                end -= 1;
            }
            self.names.extend_from_slice(&name[..end]);
            self.names.extend_from_slice("…".as_bytes());
        }
        PointerSegment::Name(narrow(start), narrow(self.names.len()))
    }

    /// A segment that stays valid when the walk continues: a key of the text `bytes` becomes a name.
    pub(crate) fn lasting(&mut self, segment: PointerSegment, bytes: &[u8]) -> PointerSegment {
        match segment {
            PointerSegment::Written(start, end) => self.name(&bytes[start as usize..end as usize]),
            segment => segment,
        }
    }

    /// Opens a container that is `member` of the innermost one, at `at` in the text `bytes`.
    pub(crate) fn open(
        &mut self,
        object: bool,
        mut member: Member,
        removed: bool,
        (bytes, at): (&[u8], usize),
    ) {
        member.segment = self.lasting(member.segment, bytes);
        self.segments.push(member.segment);
        self.frames.push(OpenContainer {
            object,
            member,
            removed,
            kept: false,
            at,
            height: 0,
            index: 0,
            said: Evidence::NONE,
            values: self.values.len(),
            names: self.names.len(),
            states: self.states.len(),
            effects: self.effects.len(),
        });
    }

    /// Closes the innermost container.
    pub(crate) fn close(&mut self) -> Option<OpenContainer> {
        let frame = self.frames.pop()?;
        if let Some(around) = self.frames.last_mut() {
            around.height = around.height.max(frame.height + 1);
        }
        self.segments.pop();
        self.names.truncate(frame.names);
        self.states.truncate(frame.states);
        self.effects.truncate(frame.effects);
        self.values.truncate(frame.values);
        Some(frame)
    }

    /// Forgets the names and states of the member before, when the next one of the same container
    /// starts.
    pub(crate) fn next_member(&mut self) {
        if let Some(frame) = self.frames.last() {
            self.names.truncate(frame.names);
            self.states.truncate(frame.states);
            self.effects.truncate(frame.effects);
        }
    }

    /// Goes into the string `segment` of the text `bytes`, which holds JSON.
    pub(crate) fn enter(&mut self, segment: PointerSegment, bytes: &[u8]) {
        let segment = self.lasting(segment, bytes);
        self.segments.push(segment);
        self.segments.push(PointerSegment::Inside);
    }

    /// Appends the pointer of the innermost container's member `last` in the text `bytes`.
    pub(crate) fn render(&mut self, last: PointerSegment, bytes: &[u8], out: &mut Vec<u8>) {
        let names = self.names.len();
        let last = self.lasting(last, bytes);
        let start = out.len();
        for segment in self.segments.iter().chain([&last]) {
            let before = out.len();
            match *segment {
                PointerSegment::Root | PointerSegment::Written(..) => {}
                PointerSegment::Inside => out.push(b'#'),
                PointerSegment::Index(index) => {
                    out.extend_from_slice(format!("/{index}").as_bytes())
                }
                PointerSegment::Name(from, to) => {
                    out.push(b'/');
                    for byte in &self.names[from as usize..to as usize] {
                        match byte {
                            b'~' => out.extend_from_slice(b"~0"),
                            b'/' => out.extend_from_slice(b"~1"),
                            byte => out.push(*byte),
                        }
                    }
                }
            }
            if out.len() - start > POINTER_BYTES_MAX {
                out.truncate(before);
                out.extend_from_slice("/…".as_bytes());
                break;
            }
        }
        self.names.truncate(names);
    }
}

fn narrow(length: usize) -> u32 {
    u32::try_from(length).expect("arenas are bounded by the depth and the record")
}
