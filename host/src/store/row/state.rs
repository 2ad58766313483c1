//! What a solution keeps: bytes as the solution wrote them, without a version of ours.
//!
//! Key: solution number (4 bytes), the solution's key (UTF-8).

use super::SolutionNo;

pub fn state_key(solution: SolutionNo, name: &str) -> Vec<u8> {
    super::key([&solution.to_be_bytes(), name.as_bytes()])
}

pub fn read_state_key(key: &[u8]) -> Option<(SolutionNo, &str)> {
    let (solution, name) = key.split_first_chunk::<4>()?;
    Some((SolutionNo::from_be_bytes(*solution), std::str::from_utf8(name).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        assert_eq!(state_key(1, "k"), [0, 0, 0, 1, b'k']);
        assert_eq!(read_state_key(&state_key(1, "k")), Some((1, "k")));
        assert_eq!(read_state_key(b"abc"), None);
    }
}
