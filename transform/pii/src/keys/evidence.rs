//! Evidence: what the keys above a value say about it, as a set.

use std::ops::{BitAnd, BitOr, BitOrAssign};

/// What is known about a value from the keys above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Evidence(u64);

impl Evidence {
    pub(crate) const NONE: Self = Self(0);
    /// The key stands for a person; its `name` and `address` count.
    pub(crate) const PERSON: Self = Self(1);
    /// The key stands for a thing; a `name` beneath is that of the thing.
    pub(crate) const THING: Self = Self(1 << 1);
    /// `name`, which counts only under a person.
    pub(crate) const BARE_NAME: Self = Self(1 << 2);
    /// `address`, which counts only under a person.
    pub(crate) const BARE_ADDRESS: Self = Self(1 << 3);
    pub(crate) const NAME: Self = Self(1 << 4);
    pub(crate) const STREET: Self = Self(1 << 5);
    pub(crate) const BIRTH_DATE: Self = Self(1 << 6);
    pub(crate) const EMAIL: Self = Self(1 << 7);
    pub(crate) const PHONE: Self = Self(1 << 8);
    pub(crate) const SSN: Self = Self(1 << 9);
    pub(crate) const CARD: Self = Self(1 << 10);
    pub(crate) const IP: Self = Self(1 << 11);
    pub(crate) const MAC: Self = Self(1 << 12);
    /// A text is a version, not an address; one beneath is if its numbers are small.
    pub(crate) const VERSION: Self = Self(1 << 13);
    pub(crate) const COORDINATE: Self = Self(1 << 14);
    /// The value may be a text or an array of coordinates.
    pub(crate) const COORDINATES: Self = Self(1 << 15);
    pub(crate) const SECRET: Self = Self(1 << 16);
    /// Identifiers of things: kept, and never a national phone number.
    pub(crate) const IDENTIFIER: Self = Self(1 << 17);
    /// A text may hold a pair of coordinates.
    pub(crate) const PLACE: Self = Self(1 << 18);
    /// An array may hold a pair of coordinates.
    pub(crate) const SPOT: Self = Self(1 << 19);
    /// The value itself of what the key above names.
    pub(crate) const VALUE: Self = Self(1 << 20);
    /// A part of a street address, beneath one.
    pub(crate) const LINE: Self = Self(1 << 21);

    /// Numbers of things and times, of which some look like cards.
    pub(crate) const COUNTER: Self = Self(1 << 22);
    /// Something is paid: a number that looks like a card is one.
    pub(crate) const PAYMENT: Self = Self(1 << 23);
    /// `id`, which is that of what the key above names.
    pub(crate) const BARE_ID: Self = Self(1 << 24);

    /// Says what the value beside it is: `type` in `{"type":"ssn","value":..}`.
    pub(crate) const LABEL: Self = Self(1 << 25);
    /// A value about which something beside it may say more.
    pub(crate) const CONTENT: Self = Self(1 << 26);
    /// A coordinate as an integer: degrees times ten million, or a million.
    pub(crate) const SCALED: Self = Self(1 << 27);
    /// Programs that name themselves with their versions, and things that have one: small numbers
    /// are that.
    pub(crate) const AGENT: Self = Self(1 << 28);
    /// Something that is reached at an address: a number of four parts is that, and no version.
    pub(crate) const HOSTED: Self = Self(1 << 29);
    /// A phone or a thing of the same name: what is written like a phone number is one.
    pub(crate) const DIALLED: Self = Self(1 << 30);
    /// Something about a phone: only texts that are written like a phone number are one.
    pub(crate) const NEAR_PHONE: Self = Self(1 << 31);
    /// A person or a program: a name like that of software is not a person.
    pub(crate) const PROGRAM: Self = Self(1 << 32);

    /// A word that turns what may be a coordinate into a statistic, mostly of latency.
    pub(super) const STATISTIC: Self = Self(1 << 33);
    /// A word before `long` that makes it a type, or a length.
    pub(super) const TYPE: Self = Self(1 << 34);
    /// A word around `lat` and `long` that says in what way a coordinate is written.
    pub(super) const NOTATION: Self = Self(1 << 35);
    /// A word at the end of a key that says nothing.
    pub(super) const FILLER: Self = Self(1 << 36);
    /// A word in the names of programs that is none in those of persons.
    pub(super) const SOFTWARE: Self = Self(1 << 37);

    /// Whether both have something in common.
    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// This without what `other` has.
    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether nothing is known.
    pub(crate) const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Constant form of `|`.
    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What also holds for the members of an object: `{"ssn":{"value":..}}`.
    const HANDED_DOWN: Self = Self::SSN
        .with(Self::CARD)
        .with(Self::PHONE)
        .with(Self::EMAIL)
        .with(Self::SECRET)
        .with(Self::BIRTH_DATE)
        .with(Self::PAYMENT);

    /// Phones and cards are also things, which have counters, ids and times: what their keys say
    /// holds for the member that is the number itself.
    const OF_THINGS: Self = Self::PHONE.with(Self::CARD);

    /// What holds for a member that is the value itself: `{"latitude":{"value":..}}`,
    /// `{"mac":{"S":..}}`.
    const OF_VALUES: Self = Self::COORDINATE
        .with(Self::COORDINATES)
        .with(Self::SCALED)
        .with(Self::PLACE)
        .with(Self::SPOT)
        .with(Self::MAC)
        .with(Self::IP)
        .with(Self::VERSION)
        .with(Self::AGENT)
        .with(Self::OF_THINGS);

    /// What a value has whose key says `self`, beneath keys that said `above`.
    pub(crate) fn beneath(self, above: Self) -> Self {
        if above.is_none() {
            return self;
        }
        let everywhere = Self::PERSON | Self::NAME | Self::PAYMENT;
        let mut evidence = self | above & (everywhere | Self::BIRTH_DATE);
        if above.has(Self::PERSON | Self::STREET) && self.has(Self::BARE_NAME) {
            evidence |= Self::NAME | above & Self::PROGRAM;
        }
        if above.has(Self::PERSON) && self.has(Self::BARE_ADDRESS) {
            evidence |= Self::STREET;
        }
        if self.has(Self::VALUE) {
            evidence |= above & (Self::OF_VALUES | Self::STREET | Self::PROGRAM);
        } else if above.has(Self::VERSION) {
            // Not all members are the version: `{"firmware":{"current":..,"fetched_by":..}}`.
            evidence |= Self::AGENT;
        }
        if self.has(Self::LINE) {
            evidence |= above & Self::STREET;
        }
        let apart = self.has(Self::IDENTIFIER | Self::VERSION | Self::COUNTER);
        if !apart || self.has(Self::VALUE) {
            evidence |= above & Self::HANDED_DOWN.without(Self::OF_THINGS);
            evidence |= above & Self::NEAR_PHONE;
        } else if self.has(Self::BARE_ID) {
            // A phone is also a device, which has an id of its own.
            evidence |= above & Self::HANDED_DOWN.without(Self::PHONE);
        }
        evidence
    }

    /// What the members of an object learn from the evidence of the object itself, whose key says
    /// `key`.
    pub(crate) fn for_members(self, key: Self) -> Self {
        if self.is_none() {
            return self;
        }
        let mut kept = self
            & Self::HANDED_DOWN
                .with(Self::PERSON)
                .with(Self::NAME)
                .with(Self::STREET)
                .with(Self::NEAR_PHONE)
                .with(Self::PROGRAM)
                .with(Self::OF_VALUES);
        if self.has(Self::PHONE | Self::DIALLED) {
            kept |= Self::PHONE | Self::NEAR_PHONE;
        }
        if key.has(Self::THING) {
            kept.without(Self::PERSON)
        } else {
            kept
        }
    }
}

impl BitOr for Evidence {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Evidence {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOrAssign for Evidence {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
