//! LZ4 blocks with their length before them, of which nobody knows that they are right.

/// LZ4 makes a byte of so many at most.
const RATIO_MAX: usize = 255;

/// What was packed, if it is at most so long. What the block says of its length takes no memory that the block cannot
/// fill.
pub fn unpack(packed: &[u8], most: usize) -> Option<Vec<u8>> {
    let (length, block) = lz4_flex::block::uncompressed_size(packed).ok()?;
    let fits = length <= most && length <= block.len().saturating_mul(RATIO_MAX);
    fits.then(|| lz4_flex::decompress(block, length).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fuzz::meter;

    #[test]
    fn what_was_packed_comes_back_up_to_the_bound() {
        for bytes in [vec![], vec![1], vec![7; 100_000]] {
            let packed = lz4_flex::compress_prepend_size(&bytes);
            assert_eq!(unpack(&packed, bytes.len()).as_ref(), Some(&bytes));
            assert!(bytes.is_empty() || unpack(&packed, bytes.len() - 1).is_none());
        }
        for damaged in [&b""[..], b"\x01\0\0", b"\x01\0\0\0"] {
            assert_eq!(unpack(damaged, 1 << 20), None);
        }
    }

    /// Found by a fuzzer: a block of a few bytes took a GiB.
    #[test]
    fn what_a_block_says_of_its_length_takes_no_memory() {
        let held = meter::most_held(|| assert_eq!(unpack(b"\0\0\0\x40\x10a", 1 << 30), None));
        assert!(held < 1000, "{held} bytes");
    }
}
