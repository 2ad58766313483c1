//! How much room the disk has left.

use std::path::Path;

/// Bytes that this process may still write to the file system of `path`; none if it cannot be asked.
pub fn free_bytes(path: &Path) -> Option<u64> {
    rustix::fs::statvfs(path).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}
