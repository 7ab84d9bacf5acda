//! Numbers of equally many bits, one behind the other, the lowest bit first.

/// The most bits of a number: with those that are skipped before it, eight bytes hold it.
pub(super) const MOST: u32 = 56;

/// How many bits it takes to tell numbers up to `greatest` apart.
pub(super) fn needed(greatest: u64) -> u32 {
    u64::BITS - greatest.leading_zeros()
}

/// Bytes of so many numbers of `bits` bits.
pub(super) fn bytes(numbers: usize, bits: u32) -> usize {
    (numbers * bits as usize).div_ceil(8)
}

/// Appends numbers of at most `bits` bits, which are [`MOST`] at most.
pub(super) fn put(numbers: impl Iterator<Item = u64>, bits: u32, out: &mut Vec<u8>) {
    let (mut word, mut filled) = (0u128, 0);
    for number in numbers {
        word |= u128::from(number) << filled;
        filled += bits;
        if filled >= u64::BITS {
            out.extend((word as u64).to_le_bytes());
            word >>= u64::BITS;
            filled -= u64::BITS;
        }
    }
    out.extend(word.to_le_bytes().iter().take(filled.div_ceil(8) as usize));
}

/// Numbers of `bits` bits, which are [`MOST`] at most.
#[derive(Clone, Copy)]
pub(super) struct Numbers<'m> {
    packed: &'m [u8],
    bits: u32,
}

impl<'m> Numbers<'m> {
    pub(super) fn new(packed: &'m [u8], bits: u32) -> Self {
        Self { packed, bits }
    }

    /// The number at a place; of bits that are not there, zero.
    #[inline]
    pub(super) fn at(&self, place: usize) -> u64 {
        if self.bits == 0 {
            return 0;
        }
        let bit = place * self.bits as usize;
        let rest = self.packed.get(bit / 8..).unwrap_or_default();
        let word = rest.first_chunk().map_or_else(|| short(rest), |word| u64::from_le_bytes(*word));
        (word >> (bit % 8)) & ((1 << self.bits) - 1)
    }
}

#[cold]
fn short(rest: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_width_are_read_as_they_were_put() {
        for bits in 0..=MOST {
            let greatest = (1u64 << bits) - 1;
            let numbers: Vec<u64> = (0..100u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15) & greatest).chain([greatest]).collect();
            let mut out = vec![7];
            put(numbers.iter().copied(), bits, &mut out);
            assert_eq!((out.len() - 1, needed(greatest)), (bytes(numbers.len(), bits), bits));
            let read = Numbers::new(&out[1..], bits);
            assert_eq!((0..numbers.len()).map(|place| read.at(place)).collect::<Vec<_>>(), numbers, "{bits} bits");
        }
        assert_eq!(Numbers::new(&[], 9).at(3), 0);
    }
}
