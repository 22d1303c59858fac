//! A growing bitmap that counts its ones and is padded with zeros on demand.

use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer};

#[derive(Debug, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
    len: usize,
    ones: usize,
}

impl Bits {
    /// How many bits are one.
    pub(super) fn ones(&self) -> usize {
        self.ones
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.len
    }

    /// Sets the bit at `index`, which is at or behind the end; bits between are zero.
    #[inline]
    pub(super) fn set(&mut self, index: usize) {
        let word = index / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (index % 64);
        self.len = index + 1;
        self.ones += 1;
    }

    pub(super) fn push(&mut self, bit: bool) {
        if bit {
            self.set(self.len);
        } else {
            let word = self.len / 64;
            if word >= self.words.len() {
                self.words.push(0);
            }
            self.len += 1;
        }
    }

    pub(super) fn get(&self, index: usize) -> bool {
        index < self.len && self.words[index / 64] >> (index % 64) & 1 == 1
    }

    pub(super) fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        let (word, bit) = (len / 64, len % 64);
        let kept_of_word = self.words[word] & ((1 << bit) - 1);
        let mut removed = (self.words[word] & !kept_of_word).count_ones();
        removed += self.words[word + 1..]
            .iter()
            .map(|word| word.count_ones())
            .sum::<u32>();
        self.ones -= removed as usize;
        self.words.truncate(word + 1);
        self.words[word] = kept_of_word;
        self.len = len;
    }

    /// Calls `put` with the index of each one, in order.
    #[inline]
    pub(super) fn each(&self, mut put: impl FnMut(usize)) {
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
            any::<bool>().prop_map(BitStep::Push),
            any::<prop::sample::Index>().prop_map(BitStep::Truncate),
        ]
    }

    proptest! {
        #[test]
        fn bits_are_those_of_a_list(steps in prop::collection::vec(step(), 0..40)) {
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
