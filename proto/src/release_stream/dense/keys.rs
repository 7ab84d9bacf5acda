//! Pseudonyms in ascending order: of their high bits only how far each is above the one before, of their low bytes all. A subject's
//! further rows take a bit each.
//!
//! ```text
//! suffix bytes u8 │ repeats u8 │ bits u8 │ first 16 bytes │ a bit per row, set where it repeats the row before (if there are repeats)
//! │ per subject, the high bits above those of the one before, in so many bits │ per subject, the low bytes
//! ```

use super::bits::{self, Numbers};

/// How many low bytes may be kept whole: for up to 2^40 subjects one of them takes the least room.
const SUFFIXES: [usize; 4] = [11, 12, 13, 14];

/// Appends pseudonyms; `None` where they do not ascend or it would take as many bytes as they have.
pub(super) fn put(keys: &[[u8; 16]], out: &mut Vec<u8>) -> Option<()> {
    let first = keys.first()?;
    let mut subjects: Vec<u128> = Vec::with_capacity(keys.len());
    let (mut greatest, mut last) = ([0; SUFFIXES.len()], u128::from_be_bytes(*first));
    for key in keys {
        let key = u128::from_be_bytes(*key);
        if key > last || subjects.is_empty() {
            greatest.iter_mut().zip(SUFFIXES).for_each(|(greatest, suffix)| *greatest = (*greatest).max(above(key, last, suffix)));
            subjects.push(key);
            last = key;
        } else if key < last {
            return None;
        }
    }
    let needs = |(greatest, suffix)| {
        let bits = bits::needed(greatest);
        (bits <= bits::MOST).then_some((bits::bytes(subjects.len(), bits) + subjects.len() * suffix, suffix, bits))
    };
    let (bytes, suffix, bits) = greatest.into_iter().zip(SUFFIXES).filter_map(needs).min()?;
    let repeats = subjects.len() < keys.len();
    if 19 + bytes + if repeats { keys.len().div_ceil(8) } else { 0 } >= 16 * keys.len() {
        return None;
    }
    out.extend([u8::try_from(suffix).ok()?, u8::from(repeats), u8::try_from(bits).ok()?]);
    out.extend(first);
    if repeats {
        let pairs = keys.iter().skip(1).zip(keys);
        bits::put(std::iter::once(0).chain(pairs.map(|(key, last)| u64::from(key == last))), 1, out);
    }
    let before = subjects.first().into_iter().chain(&subjects);
    bits::put(subjects.iter().zip(before).map(|(key, last)| above(*key, *last, suffix)), bits, out);
    match suffix {
        11 => suffixes::<11>(&subjects, out),
        12 => suffixes::<12>(&subjects, out),
        13 => suffixes::<13>(&subjects, out),
        _ => suffixes::<14>(&subjects, out),
    }
    Some(())
}

/// How far a pseudonym's high bits, above so many low bytes, are above another's.
fn above(key: u128, last: u128, suffix: usize) -> u64 {
    let high = |key: u128| ((key >> 64) as u64) >> (8 * suffix - 64);
    high(key) - high(last)
}

fn suffixes<const N: usize>(subjects: &[u128], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + N * subjects.len(), 0);
    let (to, _) = out.get_mut(start..).unwrap_or_default().as_chunks_mut::<N>();
    for (to, key) in to.iter_mut().zip(subjects) {
        if let Some(low) = key.to_le_bytes().first_chunk() {
            *to = *low;
        }
    }
}

/// Reads as many pseudonyms as `keys` are; `None` where it is not told what they are.
pub(super) fn take(rest: &mut &[u8], keys: &mut [[u8; 16]]) -> Option<()> {
    let [suffix, repeats, bits] = *rest.split_off(..3)?.first_chunk()?;
    let first = u128::from_be_bytes(*rest.split_off(..16)?.first_chunk()?);
    let (suffix, bits) = (usize::from(suffix), u32::from(bits));
    if !SUFFIXES.contains(&suffix) || bits > bits::MOST || repeats > 1 {
        return None;
    }
    let repeated = if repeats == 1 { rest.split_off(..keys.len().div_ceil(8))? } else { &[] };
    let repeated = Numbers::new(repeated, 1);
    let repeats = if repeats == 1 { (0..keys.len()).filter(|row| repeated.at(*row) == 1).count() } else { 0 };
    let subjects = keys.len() - repeats;
    let above = Numbers::new(rest.split_off(..bits::bytes(subjects, bits))?, bits);
    let low = rest.split_off(..subjects * suffix)?;
    let repeated = (repeats > 0).then_some(repeated);
    let high = first >> (8 * suffix);
    match suffix {
        11 => read::<11>(high, repeated, above, low, keys),
        12 => read::<12>(high, repeated, above, low, keys),
        13 => read::<13>(high, repeated, above, low, keys),
        _ => read::<14>(high, repeated, above, low, keys),
    }
}

fn read<const N: usize>(
    mut high: u128,
    repeated: Option<Numbers<'_>>,
    above: Numbers<'_>,
    low: &[u8],
    keys: &mut [[u8; 16]],
) -> Option<()> {
    let (low, _) = low.as_chunks::<N>();
    let mut low = low.iter().enumerate();
    let mut key = None;
    for (row, to) in keys.iter_mut().enumerate() {
        if repeated.is_none_or(|repeated| repeated.at(row) == 0) {
            let (subject, low) = low.next()?;
            high += u128::from(above.at(subject));
            if high >> (128 - 8 * N) > 0 {
                return None;
            }
            let mut whole = [0; 16];
            whole.first_chunk_mut::<N>()?.copy_from_slice(low);
            key = Some((u128::from_le_bytes(whole) | (high << (8 * N))).to_be_bytes());
        }
        // None before the first: it repeats nothing.
        *to = key?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(subjects: u64, step: u128) -> Vec<[u8; 16]> {
        let mut state = 7u128;
        let mut next = || {
            state = state.wrapping_mul(0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645).wrapping_add(0x5851_F42D_4C95_7F2D_1405_7B7E_F767_814F);
            state ^ (state >> 64)
        };
        let mut keys: Vec<u128> = (0..subjects).map(|_| next() % (u128::from(subjects) * step).max(1)).collect();
        keys.sort_unstable();
        keys.into_iter().map(u128::to_be_bytes).collect()
    }

    fn through(keys: &[[u8; 16]]) -> Option<usize> {
        let mut out = Vec::new();
        put(keys, &mut out)?;
        let (mut rest, mut read) = (out.as_slice(), vec![[1; 16]; keys.len()]);
        take(&mut rest, &mut read).unwrap();
        assert!(rest.is_empty() && read == keys);
        Some(out.len())
    }

    #[test]
    fn pseudonyms_come_as_they_were_sent_in_fewer_bytes() {
        let all = spread(65_536, u128::MAX >> 16);
        assert!(through(&all).unwrap() < 147 * 65_536 / 10, "65,536 of as many");
        let of_millions = spread(65_536, u128::MAX >> 23);
        assert!(through(&of_millions).unwrap() < 138 * 65_536 / 10, "65,536 of eight million");
        let rows: Vec<[u8; 16]> = of_millions.iter().flat_map(|key| [*key; 5]).collect();
        assert!(through(&rows).unwrap() < 145 * 65_536 / 10, "five rows of each");
        for few in [1, 2, 9, 100] {
            let _ = through(&spread(few, 1));
            let _ = through(&spread(few, u128::MAX / u128::from(few)));
        }
        assert!(through(&vec![[0xFF; 16]; 100]).is_some_and(|bytes| bytes < 60));
    }

    #[test]
    fn pseudonyms_that_do_not_ascend_or_fill_their_room_are_left_as_they_are() {
        let mut out = Vec::new();
        assert_eq!(put(&[[2; 16], [1; 16]], &mut out), None);
        assert_eq!(put(&[], &mut out), None);
        assert_eq!(put(&[[1; 16]], &mut out), None);
        assert!(out.is_empty());
    }

    #[test]
    fn what_does_not_say_which_pseudonyms_is_refused() {
        let keys = spread(50, u128::MAX / 50);
        let keys: Vec<[u8; 16]> = keys.iter().flat_map(|key| [*key; 2]).collect();
        let mut good = Vec::new();
        put(&keys, &mut good).unwrap();
        let taken = |bytes: &[u8]| take(&mut &*bytes, &mut vec![[0; 16]; keys.len()]);
        assert_eq!(taken(&good), Some(()));
        for length in 0..good.len() {
            assert_eq!(taken(&good[..length]), None, "{length} bytes");
        }
        let changed = |place: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[place] = byte;
            taken(&bytes)
        };
        for suffix in [0, 10, 15, 16, 255] {
            assert_eq!(changed(0, suffix), None, "{suffix} low bytes");
        }
        assert_eq!(changed(1, 2), None, "neither repeats nor none");
        assert_eq!(changed(2, 57), None, "57 bits");
        assert_eq!(changed(19, good[19] | 1), None, "the first row repeats one");
        assert_eq!(changed(3, 0xFF).or_else(|| changed(3, 0xFE)), None, "beyond the highest");
    }
}
