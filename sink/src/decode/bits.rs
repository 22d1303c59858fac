//! A growing bitmap that counts its ones and is padded with zeros on demand. One of few ones takes what these take.

use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer};

/// Among how many bits one is stored by its index, and not with the others: that takes half of what they take.
const FEW: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Bits {
    /// All bits, or none when they are few.
    words: Vec<u64>,
    /// The indexes of the ones when they are few.
    few: Vec<u32>,
    len: usize,
    ones: usize,
}

impl Bits {
    /// How many bits are one.
    pub(super) fn ones(&self) -> usize {
        self.ones
    }

    /// The bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>() + self.few.capacity() * size_of::<u32>()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.len
    }

    /// Sets the bit at `index`, which is at or behind the end; bits between are zero.
    #[inline]
    pub(super) fn set(&mut self, index: usize) {
        let word = index / 64;
        if word >= self.words.len() && !self.make_room(index) {
            return;
        }
        self.words[word] |= 1 << (index % 64);
        self.len = index + 1;
        self.ones += 1;
    }

    /// Makes room for a one behind the words, or stores it where the few are and returns `false`.
    fn make_room(&mut self, index: usize) -> bool {
        let ones = self.ones + 1;
        let are_few = match self.few.is_empty() {
            // So that a change is worth its while.
            true => ones * FEW * 2 <= index,
            false => ones * FEW <= index,
        };
        if are_few && u32::try_from(index).is_ok() {
            if self.few.is_empty() {
                let mut few = Vec::with_capacity(ones);
                self.each(|index| few.push(index as u32));
                self.few = few;
                self.words = Vec::new();
            }
            self.few.push(index as u32);
            self.len = index + 1;
            self.ones = ones;
            return false;
        }
        self.words.resize(index / 64 + 1, 0);
        for few in std::mem::take(&mut self.few) {
            self.words[few as usize / 64] |= 1 << (few % 64);
        }
        true
    }

    pub(super) fn push(&mut self, bit: bool) {
        if bit {
            self.set(self.len);
        } else {
            self.len += 1;
        }
    }

    pub(super) fn get(&self, index: usize) -> bool {
        match self.words.get(index / 64) {
            Some(word) => word >> (index % 64) & 1 == 1,
            None => self.few.binary_search(&(index as u32)).is_ok(),
        }
    }

    /// How many ones there are in this range.
    pub(super) fn ones_in(&self, range: std::ops::Range<usize>) -> usize {
        if !self.few.is_empty() {
            let before = |end: usize| self.few.partition_point(|index| (*index as usize) < end);
            return before(range.end) - before(range.start);
        }
        let mut at = range.start;
        let mut ones = 0;
        while at < range.end
            && let Some(word) = self.words.get(at / 64)
        {
            let end = range.end.min((at / 64 + 1) * 64);
            let mask = (u64::MAX >> (64 - (end - at))) << (at % 64);
            ones += (word & mask).count_ones() as usize;
            at = end;
        }
        ones
    }

    pub(super) fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        self.len = len;
        if !self.few.is_empty() {
            let kept = self.few.partition_point(|index| (*index as usize) < len);
            self.few.truncate(kept);
            self.ones = kept;
            return;
        }
        let (word, bit) = (len / 64, len % 64);
        let Some(last) = self.words.get_mut(word) else {
            return;
        };
        let kept_of_word = *last & ((1 << bit) - 1);
        let mut removed = (*last & !kept_of_word).count_ones();
        *last = kept_of_word;
        removed += self.words[word + 1..]
            .iter()
            .map(|word| word.count_ones())
            .sum::<u32>();
        self.ones -= removed as usize;
        self.words.truncate(word + 1);
    }

    /// Calls `put` with the index of each one, in order.
    #[inline]
    pub(super) fn each(&self, mut put: impl FnMut(usize)) {
        for index in &self.few {
            put(*index as usize);
        }
        for (at, word) in self.words.iter().enumerate() {
            let mut rest = *word;
            while rest != 0 {
                put(at * 64 + rest.trailing_zeros() as usize);
                rest &= rest - 1;
            }
        }
    }

    /// The bits, padded with zeros to `len`.
    pub(super) fn finish(mut self, len: usize) -> BooleanBuffer {
        self.words.resize(len.div_ceil(64), 0);
        for index in &self.few {
            self.words[*index as usize / 64] |= 1 << (index % 64);
        }
        for word in &mut self.words {
            *word = word.to_le();
        }
        BooleanBuffer::new(Buffer::from_vec(self.words), 0, len)
    }

    /// The bits as validity of `len` values, or `None` if all are valid.
    pub(super) fn finish_nulls(self, len: usize) -> Option<NullBuffer> {
        if self.ones == len {
            None
        } else {
            Some(NullBuffer::new(self.finish(len)))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum BitStep {
        Set(usize),
        Push(bool),
        Truncate(prop::sample::Index),
    }

    fn step() -> impl Strategy<Value = BitStep> {
        prop_oneof![
            (0_usize..150).prop_map(BitStep::Set),
            (0_usize..20_000).prop_map(BitStep::Set),
            (0_usize..2).prop_map(BitStep::Set),
            any::<bool>().prop_map(BitStep::Push),
            any::<prop::sample::Index>().prop_map(BitStep::Truncate),
        ]
    }

    #[test]
    fn few_ones_take_little() {
        let mut bits = Bits::default();
        bits.set(0);
        (1..1_000).for_each(|n| bits.set(n * 1_000));
        assert!(bits.bytes() <= 8 * 1_024, "{}", bits.bytes());
        (0..10_000_000).for_each(|n| bits.set(999_001 + n));
        assert!(bits.bytes() < 4_000_000, "{}", bits.bytes());
    }

    proptest! {
        #[test]
        fn bits_are_those_of_a_list(steps in prop::collection::vec(step(), 0..80)) {
            let (mut bits, mut list) = (Bits::default(), Vec::<bool>::new());
            for step in steps {
                match step {
                    BitStep::Set(gap) => {
                        bits.set(list.len() + gap);
                        list.resize(list.len() + gap, false);
                        list.push(true);
                    }
                    BitStep::Push(bit) => {
                        bits.push(bit);
                        list.push(bit);
                    }
                    BitStep::Truncate(len) => {
                        let len = len.index(list.len() + 2);
                        bits.truncate(len);
                        list.truncate(len);
                    }
                }
                prop_assert_eq!(bits.len(), list.len());
                prop_assert_eq!(bits.ones(), list.iter().filter(|bit| **bit).count());
            }
            prop_assert!(list.iter().enumerate().all(|(index, bit)| bits.get(index) == *bit));
            prop_assert!(!bits.get(list.len()) && !bits.get(list.len() + 64));
            for (from, to) in [(0, list.len()), (list.len() / 3, list.len() / 2), (63, 129)] {
                let wanted = (from..to).filter(|index| list.get(*index) == Some(&true)).count();
                prop_assert_eq!(bits.ones_in(from..to), wanted);
            }
            let mut ones = Vec::new();
            bits.each(|index| ones.push(index));
            let wanted: Vec<usize> = (0..list.len()).filter(|index| list[*index]).collect();
            prop_assert_eq!(ones, wanted);
            let padded = list.len() + 70;
            let finished: Vec<bool> = bits.finish(padded).iter().collect();
            list.resize(padded, false);
            prop_assert_eq!(finished, list);
        }
    }
}
