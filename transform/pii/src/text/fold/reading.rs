//! The ways in which a text is read, and what makes them differ.

/// How the source is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notation {
    /// The inside of a JSON string that the walker accepted.
    Escaped,
    /// Plain bytes, possibly not UTF-8; invalid bytes separate tokens.
    Plain,
}

/// What is undone in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FoldReading {
    /// Escapes of JSON, and nothing else.
    Exact,
    /// Tricks of writing, and whatever encodes characters in the text.
    Decoded,
    /// The same, but a percent sign that is itself encoded encodes nothing.
    Once,
    /// Tricks of writing, and the colours of terminals, which also stand inside of values.
    Written,
    /// As decoded, but invisible characters separate.
    Apart,
    /// As written, but invisible characters separate.
    WrittenApart,
    /// As decoded, but invisible characters separate letters from digits.
    KindsApart,
    /// As decoded, but NULs are left out, as between the letters of UTF-16. Names are read so.
    Joined,
}

impl FoldReading {
    /// Those in which a value is looked at, the first of which says which others it needs.
    pub(crate) const ALL: [Self; 7] = [
        Self::Decoded,
        Self::Written,
        Self::Once,
        Self::Apart,
        Self::WrittenApart,
        Self::KindsApart,
        Self::Joined,
    ];

    /// Whether what encodes characters is left as it is.
    pub(super) fn is_written(self) -> bool {
        matches!(self, Self::Written | Self::WrittenApart)
    }

    /// Whether invisible characters separate characters here that are, or are not, of two kinds.
    pub(super) fn separates(self, two_kinds: bool) -> bool {
        match self {
            Self::Apart | Self::WrittenApart => true,
            Self::KindsApart => two_kinds,
            _ => false,
        }
    }
}

/// What a text has that another reading takes for something else.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Doubts {
    /// Something that encodes a character.
    pub(super) encoded: bool,
    /// Invisible characters between two characters of one kind.
    pub(super) unseen: bool,
    /// Invisible characters between a letter and a digit.
    pub(super) unseen_between_kinds: bool,
    /// NULs that alternate with characters.
    pub(super) wide: bool,
}

impl Doubts {
    /// Whether `reading` may be another text than the first one.
    pub(crate) fn concern(self, reading: FoldReading) -> bool {
        match reading {
            FoldReading::Exact | FoldReading::Decoded => false,
            FoldReading::Written | FoldReading::Once => self.encoded,
            FoldReading::Apart => self.unseen || self.unseen_between_kinds,
            FoldReading::WrittenApart => self.encoded && self.concern(FoldReading::Apart),
            FoldReading::KindsApart => self.unseen && self.unseen_between_kinds,
            FoldReading::Joined => self.wide,
        }
    }
}
