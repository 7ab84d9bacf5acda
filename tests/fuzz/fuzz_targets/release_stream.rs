#![no_main]

use concordat_fuzz_targets::mutate::{Draw, stream};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|data: &[u8]| concordat_fuzz_targets::release_stream(data));

// Half of the mutations know messages, and where lengths stand in them; libFuzzer's own make the rest.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if seed % 2 == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let mutated = stream(&data[..size], &mut Draw(u64::from(seed)), &mut |part| {
        let (length, room) = (part.len(), part.len() + 64);
        part.resize(room, 0);
        let length = fuzzer_mutate(part, length, room);
        part.truncate(length);
    });
    let length = mutated.len().min(max_size);
    data[..length].copy_from_slice(&mutated[..length]);
    length
});
