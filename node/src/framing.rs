//! An unambiguous encoding of several texts as one: each part behind its length (32 bits, big-endian). Keys are derived from
//! and bound to such encodings, so that no two different lists of parts may ever look alike.

/// The parts, each behind its length.
pub(crate) fn framed(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
    for part in parts {
        // Parts are names, digests and keys: a length beyond 32 bits cannot occur, and would only repeat the greatest one.
        out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::framed;

    #[test]
    fn moving_a_boundary_changes_the_encoding() {
        assert_ne!(framed(&[b"ab", b"c"]), framed(&[b"a", b"bc"]));
        assert_ne!(framed(&[b"ab"]), framed(&[b"ab", b""]));
        assert_eq!(framed(&[b"a", b"bc"]), [0, 0, 0, 1, b'a', 0, 0, 0, 2, b'b', b'c']);
    }
}
