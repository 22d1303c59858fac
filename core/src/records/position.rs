//! Positions of records in their shards.
//!
//! A [`Position`] orders everything that a shard ever holds: `Begin < (sequence, sub) < End`. A sequence number has
//! 256 bits because Kinesis numbers have up to 56 decimal digits; the embedded log and Kafka use the low 64 bits.
//! Text forms: [`std::fmt::Display`] is what people and JSON see (`begin`, `42`, `42.3`, `end`), [`Position::name`]
//! is the fixed-width form for durable names, which sorts like the position itself.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A sequence number of 256 bits. The stream assigns it, and it rises along a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence {
    high: u128,
    low: u128,
}

impl Sequence {
    /// The smallest sequence number.
    pub const ZERO: Sequence = Sequence { high: 0, low: 0 };
    /// The largest sequence number.
    pub const MAX: Sequence = Sequence {
        high: u128::MAX,
        low: u128::MAX,
    };

    /// From its high and low 128 bits.
    pub const fn from_parts(high: u128, low: u128) -> Self {
        Sequence { high, low }
    }

    /// The high 128 bits.
    pub const fn high(self) -> u128 {
        self.high
    }

    /// The low 128 bits.
    pub const fn low(self) -> u128 {
        self.low
    }

    /// The number as an offset of a log that counts in 64 bits, `None` when it is larger.
    pub fn offset(self) -> Option<u64> {
        let low = u64::try_from(self.low).ok();
        low.filter(|_| self.high == 0)
    }

    /// `self + n`, saturating at [`Sequence::MAX`].
    pub fn saturating_add(self, n: u64) -> Self {
        let (low, carry) = self.low.overflowing_add(u128::from(n));
        match self.high.checked_add(u128::from(carry)) {
            Some(high) => Sequence { high, low },
            None => Sequence::MAX,
        }
    }

    /// `self - earlier` when it fits 64 bits and is not negative.
    pub fn distance(self, earlier: Sequence) -> Option<u64> {
        if self < earlier {
            return None;
        }
        let (low, borrow) = self.low.overflowing_sub(earlier.low);
        let high = self.high - earlier.high - u128::from(borrow);
        Sequence { high, low }.offset()
    }

    /// Its 64-bit parts, the most significant one first.
    fn limbs(self) -> [u64; 4] {
        let Sequence { high, low } = self;
        [
            (high >> 64) as u64,
            high as u64,
            (low >> 64) as u64,
            low as u64,
        ]
    }

    fn from_limbs(limbs: [u64; 4]) -> Self {
        let [a, b, c, d] = limbs.map(u128::from);
        Sequence::from_parts((a << 64) | b, (c << 64) | d)
    }

    fn div_rem_10e19(self) -> (Self, u64) {
        const TEN_19: u128 = 10_000_000_000_000_000_000;
        let mut rest: u128 = 0;
        let quotient = self.limbs().map(|limb| {
            let current = (rest << 64) | u128::from(limb);
            rest = current % TEN_19;
            (current / TEN_19) as u64
        });
        (Sequence::from_limbs(quotient), rest as u64)
    }

    fn checked_mul_10_add(self, digit: u8) -> Option<Self> {
        let mut limbs = self.limbs();
        let mut carry = u128::from(digit);
        for limb in limbs.iter_mut().rev() {
            let product = u128::from(*limb) * 10 + carry;
            *limb = product as u64;
            carry = product >> 64;
        }
        (carry == 0).then(|| Sequence::from_limbs(limbs))
    }
}

impl From<u64> for Sequence {
    fn from(offset: u64) -> Self {
        Sequence {
            high: 0,
            low: u128::from(offset),
        }
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.high == 0 {
            return write!(f, "{}", self.low);
        }
        let mut groups = Vec::with_capacity(5);
        let mut rest = *self;
        while rest != Sequence::ZERO {
            let (quotient, group) = rest.div_rem_10e19();
            groups.push(group);
            rest = quotient;
        }
        let mut groups = groups.iter().rev();
        if let Some(first) = groups.next() {
            write!(f, "{first}")?;
        }
        groups.try_for_each(|group| write!(f, "{group:019}"))
    }
}

/// A text is neither a sequence number nor a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a position: write `begin`, `end`, a sequence number, or `SEQUENCE.SUB`")]
pub struct ParsePositionError(String);

impl FromStr for Sequence {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParsePositionError(text.to_owned());
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        text.bytes().try_fold(Sequence::ZERO, |number, b| {
            number.checked_mul_10_add(b - b'0').ok_or_else(bad)
        })
    }
}

impl Serialize for Sequence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sequence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A position in a shard; as a checkpoint it means "done up to and including this".
///
/// ```
/// use hydrant_core::Position;
///
/// let position = Position::offset(42);
/// assert!(Position::Begin < position && position < Position::End);
/// assert_eq!(position.to_string(), "42");
/// assert_eq!("42".parse(), Ok(position));
/// assert_eq!(Position::from_name(&position.name()), Some(position));
/// // A checkpoint at 42 means that 43 comes next.
/// assert_eq!(position.next_offset(), Some(43));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Position {
    /// Before the first record.
    #[default]
    Begin,
    /// At a record.
    At {
        /// The sequence number given by the stream.
        sequence: Sequence,
        /// The index inside an aggregate; 0 where the stream has none.
        sub: u32,
    },
    /// After the last record of a shard that has ended.
    End,
}

impl Position {
    /// The position of record `sub` of `sequence`.
    pub const fn at(sequence: Sequence, sub: u32) -> Self {
        Position::At { sequence, sub }
    }

    /// The position of the record at `offset` in a log that counts in 64 bits.
    pub fn offset(offset: u64) -> Self {
        Position::At {
            sequence: Sequence::from(offset),
            sub: 0,
        }
    }

    /// The sequence number, `None` at the two ends.
    pub fn sequence(self) -> Option<Sequence> {
        match self {
            Position::At { sequence, .. } => Some(sequence),
            _ => None,
        }
    }

    /// The first offset that is *not* done when this is a checkpoint of a log that counts in 64 bits:
    /// 0 for `Begin`, `None` for `End` and for numbers that do not fit.
    pub fn next_offset(self) -> Option<u64> {
        match self {
            Position::Begin => Some(0),
            Position::At { sequence, .. } => {
                sequence.offset().and_then(|offset| offset.checked_add(1))
            }
            Position::End => None,
        }
    }

    /// The form for durable names: `b`, a letter and the decimal digits of the sequence number, or `z`. It sorts as
    /// the positions do, also in front of `_` and `.`. `p` has 20 digits, enough for every offset of 64 bits, `q` has
    /// the 56 of Kinesis, and `r` has 78. Behind them stands `s` with the ten digits of the index inside an aggregate,
    /// unless that is 0.
    pub fn name(self) -> String {
        let Position::At { sequence, sub } = self else {
            return if self == Position::Begin { "b" } else { "z" }.to_owned();
        };
        let digits = sequence.to_string();
        let fits = |(_, width): &&(char, usize)| digits.len() <= *width;
        let (letter, width) = NAME_WIDTHS.iter().find(fits).unwrap_or(&NAME_WIDTHS[2]);
        match sub {
            0 => format!("{letter}{digits:0>width$}"),
            sub => format!("{letter}{digits:0>width$}s{sub:010}"),
        }
    }

    /// The inverse of [`Position::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        let position = match name {
            "b" => Position::Begin,
            "z" => Position::End,
            _ => {
                let digits = name.strip_prefix(NAME_WIDTHS.map(|(letter, _)| letter))?;
                let (sequence, sub) = digits.split_once('s').unwrap_or((digits, "0"));
                Position::at(sequence.parse().ok()?, sub.parse().ok()?)
            }
        };
        // A position has one name.
        (position.name() == name).then_some(position)
    }
}

/// The letters of the names of positions, and how many digits follow them.
const NAME_WIDTHS: [(char, usize); 3] = [('p', 20), ('q', 56), ('r', 78)];

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Begin => f.write_str("begin"),
            Position::At { sequence, sub: 0 } => write!(f, "{sequence}"),
            Position::At { sequence, sub } => write!(f, "{sequence}.{sub}"),
            Position::End => f.write_str("end"),
        }
    }
}

impl FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "begin" => return Ok(Position::Begin),
            "end" => return Ok(Position::End),
            _ => {}
        }
        let bad = || ParsePositionError(text.to_owned());
        let (sequence, sub) = match text.split_once('.') {
            // A number of 32 bits would take a sign.
            Some((_, sub)) if sub.starts_with('+') => return Err(bad()),
            Some((sequence, sub)) => (sequence, sub.parse().map_err(|_| bad())?),
            None => (text, 0),
        };
        Ok(Position::At {
            sequence: sequence.parse().map_err(|_| bad())?,
            sub,
        })
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position() -> impl Strategy<Value = Position> {
        let number = prop_oneof![
            (0..50_u64).prop_map(Sequence::from),
            any::<u64>().prop_map(Sequence::from),
            (any::<u128>(), any::<u128>()).prop_map(|(h, l)| Sequence::from_parts(h, l)),
        ];
        prop_oneof![
            Just(Position::Begin),
            (number, prop_oneof![Just(0), any::<u32>()]).prop_map(|(s, sub)| Position::at(s, sub)),
            Just(Position::End),
        ]
    }

    proptest! {
        #[test]
        fn text_and_name_give_the_position_back(p in position()) {
            prop_assert_eq!(p.to_string().parse::<Position>().unwrap(), p);
            prop_assert_eq!(Position::from_name(&p.name()), Some(p));
        }

        #[test]
        fn names_sort_as_positions_do(a in position(), b in position(), behind in "[_.]?") {
            prop_assert_eq!(a.cmp(&b), (a.name() + &behind).cmp(&(b.name() + &behind)));
        }

        #[test]
        fn any_text_is_a_name_or_refused(text in "[pqr][0-9]{19,21}(s[0-9]{10})?|\\PC{0,12}") {
            if let Some(p) = Position::from_name(&text) {
                prop_assert_eq!(p.name(), text);
            }
        }

        #[test]
        fn any_text_is_refused_or_read(text in "\\PC{0,12}") {
            if let Ok(p) = text.parse::<Position>() {
                prop_assert_eq!(p.to_string().parse::<Position>().unwrap(), p);
            }
        }

        #[test]
        fn distance_undoes_addition(high in any::<u128>(), low in any::<u128>(), n in any::<u64>()) {
            let start = Sequence::from_parts(high >> 1, low);
            prop_assert_eq!(start.saturating_add(n).distance(start), Some(n));
        }
    }

    #[test]
    fn names_are_as_wide_as_the_positions_of_their_stream() {
        let kinesis = "49543463076570308322303623326179887152428262250726293588";
        let sequence: Sequence = kinesis.parse().unwrap();
        for (position, name) in [
            (Position::Begin, "b".to_owned()),
            (Position::offset(41), "p00000000000000000041".to_owned()),
            (Position::offset(u64::MAX), format!("p{}", u64::MAX)),
            (
                Position::at(Sequence::from(41), 7),
                "p00000000000000000041s0000000007".to_owned(),
            ),
            (Position::at(sequence, 0), format!("q{kinesis}")),
            (Position::at(sequence, 1), format!("q{kinesis}s0000000001")),
            (
                Position::at(Sequence::MAX, 0),
                format!("r{}", Sequence::MAX),
            ),
            (Position::End, "z".to_owned()),
        ] {
            assert_eq!(position.name(), name);
            assert_eq!(Position::from_name(&name), Some(position));
        }
        for name in [
            "",
            "p",
            "p41",
            "p00000000000000000041s0000000000",
            "p00000000000000000041s7",
            "p0000000000000000004+",
            "q00000000000000000041",
            "ps0000000001",
        ] {
            assert_eq!(Position::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_kinesis_number_keeps_its_digits() {
        let text = "49543463076570308322303623326179887152428262250726293588";
        assert_eq!(text.parse::<Sequence>().unwrap().to_string(), text);
        let max = Sequence::MAX.to_string();
        assert_eq!(max.parse::<Sequence>().unwrap(), Sequence::MAX);
        assert!(format!("{max}0").parse::<Sequence>().is_err());
    }
}
