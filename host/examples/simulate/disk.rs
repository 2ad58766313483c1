//! The disk of a simulated host: it loses what was not synced when the power goes, fails, fills up.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[cfg(test)]
use rand::Rng as _;
use rand::rngs::StdRng;
use redb::StorageBackend;

use self::file::File;

mod file;
#[cfg(test)]
mod tests;
#[path = "../../src/store/tests/power_cut/torn.rs"]
mod torn;

pub use torn::Style;

const DISK_FULL: i32 = 28;

/// Where redb and the journal keep their bytes. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Mutex<Inner>>);

/// What happens to a disk while its host is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Only the process ended: what was written is there.
    Nothing,
    /// The power went.
    Power(Style),
}

#[derive(Debug, Default)]
struct Inner {
    files: Vec<(PathBuf, File)>,
    off: bool,
    /// Times that the power went; handles of before are dead.
    boot: u64,
    /// Error of everything that changes a file.
    failing: Option<i32>,
    /// All that files may hold together.
    room: Option<u64>,
    /// Syncs are answered and not done.
    lies: bool,
}

impl Disk {
    pub fn new() -> Self {
        Self::default()
    }

    /// The file of that name, empty if there was none. While the disk is off, a dead handle.
    pub fn open(&self, path: &Path) -> Box<dyn StorageBackend> {
        let mut inner = self.inner();
        let file = inner.find(path).unwrap_or_else(|| {
            inner.files.push((path.to_owned(), File::default()));
            inner.files.len() - 1
        });
        let boot = if inner.off { u64::MAX } else { inner.boot };
        Box::new(Handle { disk: self.clone(), file, boot })
    }

    /// From now on nothing changes, and all handles are dead for ever: whoever still has one is being torn down.
    pub fn power_off(&self) {
        let mut inner = self.inner();
        inner.off = true;
        inner.boot += 1;
    }

    /// Decides what became of each file meanwhile. After a power cut all that is there is safe; what only a process
    /// left that died can still go with the power.
    pub fn power_on(&self, cut: Cut, rng: &mut StdRng) {
        let mut inner = self.inner();
        if !inner.off {
            inner.boot += 1;
        }
        inner.off = false;
        if let Cut::Power(style) = cut {
            for (_, file) in &mut inner.files {
                file.cut(style, rng);
            }
        }
    }

    /// Somebody puts an empty disk in its place: no files, no faults.
    pub fn wipe(&self) {
        let mut inner = self.inner();
        *inner = Inner { off: inner.off, boot: inner.boot + 1, ..Inner::default() };
    }

    /// Everything that changes a file meets this error and changes nothing, syncs too; none: no longer.
    pub fn fail_writes(&self, errno: Option<i32>) {
        self.inner().failing = errno;
    }

    /// Whether it fails or has little room.
    pub fn is_bad(&self) -> bool {
        let inner = self.inner();
        inner.failing.is_some() || inner.room.is_some()
    }

    /// It says that everything is safe, and nothing is.
    pub fn lie(&self) {
        self.inner().lies = true;
    }

    /// Bytes that files may still grow by.
    pub fn free_bytes(&self) -> u64 {
        let inner = self.inner();
        inner.room.map_or(u64::MAX, |room| room.saturating_sub(inner.used()))
    }

    /// Something else takes all but so many bytes; none: it goes again.
    pub fn fill(&self, leaving: Option<u64>) {
        let mut inner = self.inner();
        inner.room = leaving.map(|leaving| inner.used().saturating_add(leaving));
    }

    /// Turns one bit of what was ever written; tells where. None if nothing was.
    #[cfg(test)]
    pub fn flip_bit_at_rest(&self, path: &Path, rng: &mut StdRng) -> Option<u64> {
        let mut inner = self.inner();
        let file = inner.find(path)?;
        let bit = rng.random_range(0..8);
        inner.files[file].1.flip(1 << bit, rng)
    }

    /// As the process sees it; empty if there is no such file.
    #[cfg(test)]
    pub fn content(&self, path: &Path) -> Vec<u8> {
        let inner = self.inner();
        inner.find(path).map_or_else(Vec::new, |file| inner.files[file].1.content())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn find(&self, path: &Path) -> Option<usize> {
        self.files.iter().position(|(name, _)| name == path)
    }

    fn used(&self) -> u64 {
        self.files.iter().map(|(_, file)| file.len() as u64).sum()
    }

    fn may_change(&self) -> io::Result<()> {
        self.failing.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }

    fn may_grow(&self, file: usize, len: usize) -> io::Result<()> {
        self.may_change()?;
        let Some(room) = self.room else { return Ok(()) };
        let more = len.saturating_sub(self.files[file].1.len()) as u64;
        if more == 0 || self.used() + more <= room {
            return Ok(());
        }
        Err(io::Error::from_raw_os_error(DISK_FULL))
    }
}

/// A file, open until the power goes.
#[derive(Debug)]
struct Handle {
    disk: Disk,
    file: usize,
    boot: u64,
}

impl Handle {
    fn on(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.disk.inner();
        if inner.off || inner.boot != self.boot {
            return Err(io::Error::other("the host of this disk went off"));
        }
        Ok(inner)
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.on()?.files[self.file].1.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.on()?.files[self.file].1.read(place(offset), out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.on()?;
        inner.may_grow(self.file, place(len))?;
        inner.files[self.file].1.set_len(place(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.on()?;
        inner.may_change()?;
        if !inner.lies {
            inner.files[self.file].1.sync();
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = self.on()?;
        inner.may_grow(self.file, place(offset) + data.len())?;
        inner.files[self.file].1.write(place(offset), data);
        Ok(())
    }
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("simulated disks are small")
}
