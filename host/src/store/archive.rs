//! The folder of segments: which file is which, and those that were read lately.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use uuid::Uuid;

use super::{
    row::segment::{SegmentKey, SegmentRow},
    segment::{Segment, SegmentError},
};

/// Segments that stay open, with their indexes in memory.
const OPEN_MAX: usize = 64;
const ENDING: &str = "seg";

/// The segments of a store.
#[derive(Debug)]
pub struct Archive {
    dir: PathBuf,
    /// The last used one is last. Held for moments.
    open: Mutex<Vec<(SegmentKey, Arc<Segment>)>>,
    /// Files that are being written and have no name yet. Held for moments.
    installing: Mutex<BTreeSet<PathBuf>>,
}

/// A file that is no rest of a crash, until this is dropped.
struct Installing<'a> {
    archive: &'a Archive,
    file: &'a Path,
}

impl<'a> Installing<'a> {
    fn begin(archive: &'a Archive, file: &'a Path) -> Self {
        archive.installing().insert(file.to_owned());
        Self { archive, file }
    }
}

impl Drop for Installing<'_> {
    fn drop(&mut self) {
        self.archive.installing().remove(self.file);
    }
}

impl Archive {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, open: Mutex::default(), installing: Mutex::default() }
    }

    /// Where the file of a segment will be; makes the folder.
    pub fn place(&self, key: SegmentKey) -> Result<PathBuf, SegmentError> {
        self.make_folder().map_err(|source| SegmentError::Io { file: self.dir.clone(), source })?;
        // Should one lie there that cannot be read, nobody goes on with it.
        self.opened().retain(|(other, _)| *other != key);
        Ok(self.path(key))
    }

    /// A folder whose name is not synced can go with the power, and every segment with it.
    fn make_folder(&self) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let above = self.dir.parent().filter(|above| !above.as_os_str().is_empty());
        fs::File::open(above.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn opened(&self) -> MutexGuard<'_, Vec<(SegmentKey, Arc<Segment>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn installing(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.installing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, key: SegmentKey) -> PathBuf {
        let first = Uuid::from_bytes(key.first.0);
        self.dir.join(format!("{:08}-{first}.{ENDING}", key.solution_no))
    }

    pub fn open(&self, key: SegmentKey) -> Result<Arc<Segment>, SegmentError> {
        let mut open = self.opened();
        let segment = match open.iter().position(|(other, _)| *other == key) {
            Some(place) => open.remove(place).1,
            None => Arc::new(Segment::open(&self.path(key))?),
        };
        open.push((key, segment.clone()));
        if open.len() > OPEN_MAX {
            open.remove(0);
        }
        Ok(segment)
    }

    /// Whether the file that a row names is not here, or not all of it.
    pub fn lacks(&self, key: SegmentKey, row: &SegmentRow) -> bool {
        fs::metadata(self.path(key)).map_or(true, |file| file.len() != row.bytes)
    }

    /// All of a segment's file, for the other node.
    pub fn file(&self, key: SegmentKey) -> io::Result<Vec<u8>> {
        fs::read(self.path(key))
    }

    /// Keeps a segment's file that came from the other node, if it is one.
    pub fn install(&self, key: SegmentKey, file: &[u8]) -> Result<(), SegmentError> {
        let path = self.place(key)?;
        let new = path.with_extension("new");
        let _installing = Installing::begin(self, &new);
        let keep = || {
            fs::write(&new, file)?;
            fs::File::open(&new)?.sync_all()
        };
        keep().map_err(|source| SegmentError::Io { file: new.clone(), source })?;
        Segment::open(&new)?;
        let show = || {
            fs::rename(&new, &path)?;
            fs::File::open(&self.dir)?.sync_all()
        };
        show().map_err(|source| SegmentError::Io { file: path.clone(), source })
    }

    /// Deletes files that are no part of the store: those whose time is over, and what a crash left.
    pub fn clean(&self, known: &BTreeSet<SegmentKey>) -> io::Result<()> {
        let known: BTreeSet<PathBuf> = known.iter().map(|key| self.path(*key)).collect();
        let files = match fs::read_dir(&self.dir) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for file in files {
            let path = file?.path();
            // Held until it is gone: its writing may begin right now.
            let installing = self.installing();
            if is_ours(&path) && !known.contains(&path) && !installing.contains(&path) {
                match fs::remove_file(&path) {
                    // It has got its name since the folder was read.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    removed => removed?,
                }
            }
        }
        self.opened().retain(|(key, _)| known.contains(&self.path(*key)));
        Ok(())
    }
}

fn is_ours(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == ENDING || ending == "new")
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use bytes::Bytes;

    use super::*;
    use crate::{
        model::message::MessageId,
        store::segment::{Entry, SegmentWriter},
    };

    const KEY: SegmentKey = SegmentKey { solution_no: 1, first: MessageId([1; 16]) };

    /// A segment's file, large enough that writing it takes a while.
    fn file(dir: &Path) -> Vec<u8> {
        let path = dir.join("made");
        let mut writer = SegmentWriter::create(&path).unwrap();
        let message = Bytes::from(rand::random::<[u8; 1 << 16]>().to_vec());
        for number in 1..64 {
            let (life, deliveries) = (Bytes::new(), Vec::new());
            let entry = Entry { id: [number; 16], message: message.clone(), life, deliveries };
            writer.add(&entry, None).unwrap();
        }
        writer.seal().unwrap();
        fs::read(path).unwrap()
    }

    /// As a standby does with every look, also while a slow disk takes a segment.
    #[test]
    fn cleaning_leaves_what_is_being_installed() {
        let dir = tempfile::tempdir().unwrap();
        let (archive, file) = (Archive::new(dir.path().join("archive")), file(dir.path()));
        let rest = archive.place(KEY).unwrap().with_extension("new");
        fs::write(&rest, b"half").unwrap();
        archive.clean(&BTreeSet::new()).unwrap();
        assert!(!rest.exists(), "what a crash left goes");
        let is_done = AtomicBool::new(false);
        let known = BTreeSet::from([KEY]);
        thread::scope(|threads| {
            threads.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    archive.clean(&known).unwrap();
                }
            });
            let installed: Vec<_> = (0..20).map(|_| archive.install(KEY, &file)).collect();
            is_done.store(true, Ordering::Relaxed);
            assert!(installed.iter().all(Result::is_ok), "{installed:?}");
        });
        archive.open(KEY).unwrap();
        archive.clean(&BTreeSet::new()).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("archive")).unwrap().count(), 0);
    }
}
