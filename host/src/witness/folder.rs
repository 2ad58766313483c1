//! Keeps records in a folder that both nodes see, without locks: each change is a new file, and a name is taken once.
//!
//! `PAIR.REVISION` holds a pair's record after so many changes of any kind. A change is written whole under another name,
//! synced, and then linked to the next revision's name, which fails if somebody was faster. The record is the one of the
//! highest revision.

#[cfg(any(test, fuzzing))]
pub mod fuzz;

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{WitnessError, kept::Kept, sync_folder};
use crate::{
    machine,
    model::pair::{Ask, PairId, Record},
};

/// Revisions that stay, the current one among them.
const KEPT_REVISIONS: u64 = 8;
const CHECKSUM_BYTES: usize = blake3::OUT_LEN;
/// More than a record has; what is longer is none.
const FILE_BYTES_MAX: u64 = 4 << 10;

#[derive(Debug, Clone)]
pub struct Folder {
    dir: PathBuf,
    timeout: Duration,
    /// One thread at a time: a share that hangs must not take one for each ask.
    thread: Arc<Semaphore>,
}

impl Folder {
    pub(super) fn new(dir: PathBuf, timeout: Duration) -> Self {
        Self { dir, timeout, thread: Arc::new(Semaphore::new(1)) }
    }

    pub(super) async fn ask(
        &self,
        pair: PairId,
        ask: &Ask,
    ) -> Result<Option<Record>, WitnessError> {
        let shelf = Shelf { dir: self.dir.clone(), pair };
        let (ask, until) = (*ask, Instant::now() + self.timeout);
        let work = async {
            let place = self.thread.clone().acquire_owned().await.expect("it is never closed");
            machine::blocking(move || {
                let _place = place;
                shelf.ask(&ask, until)
            })
            .await
        };
        match tokio::time::timeout(self.timeout, work).await {
            Ok(done) => done,
            Err(_) => Err(WitnessError::Stuck { dir: self.dir.clone(), after: self.timeout }),
        }
    }
}

/// One pair's files.
#[derive(Debug)]
struct Shelf {
    dir: PathBuf,
    pair: PairId,
}

/// A name in the folder: a revision, or what is on its way to be one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    revision: u64,
    /// What no other process takes, while it has no revision's name.
    draft: Option<String>,
}

/// What lies in the folder.
#[derive(Debug)]
struct Found {
    /// The highest revision that has a file, whether that can be read or not.
    last: u64,
    /// The highest that can, and its record.
    current: Option<(u64, Record)>,
}

/// What a file holds.
enum Content {
    Record(Record),
    /// Not what somebody wrote here: as if it were not there.
    Torn,
    Gone,
}

impl Shelf {
    /// As [`super::Witness::ask`]; a race with others goes on until `until`.
    fn ask(&self, ask: &Ask, until: Instant) -> Result<Option<Record>, WitnessError> {
        let began = Instant::now();
        // Once it is there, the last revision never goes but for a later one.
        let mut at_least = 0;
        while Instant::now() < until {
            let Some(found) = self.look()?.filter(|found| found.last >= at_least) else { continue };
            let record = found.current.map(|(_, record)| record);
            let Some(next) = Record::after(record.as_ref(), ask) else {
                // What is told has to stay, whoever wrote it.
                self.sync()?;
                return Ok(record);
            };
            let revision = found.last + 1;
            if !self.put(revision, &next)? {
                continue;
            }
            self.sync()?;
            // A name is free again once its revision is old. Who took one so late changed nothing: what was there
            // before is gone, and the next look finds what is there now.
            at_least = match found.current {
                Some((before, _)) if !self.path(before).exists() => before + KEPT_REVISIONS,
                _ => revision,
            };
            if at_least == revision {
                self.sweep(revision);
            }
        }
        Err(WitnessError::Stuck { dir: self.dir.clone(), after: until - began })
    }

    /// None if what the listing showed went away meanwhile.
    fn look(&self) -> Result<Option<Found>, WitnessError> {
        let mut revisions = self.names()?;
        revisions.retain(|name| name.draft.is_none());
        let last = revisions.last().map_or(0, |name| name.revision);
        for Name { revision, .. } in revisions.into_iter().rev() {
            match self.read(revision)? {
                Content::Record(record) => {
                    return Ok(Some(Found { last, current: Some((revision, record)) }));
                }
                Content::Torn => {
                    tracing::warn!(file = %self.path(revision).display(), "no record, passed over");
                }
                Content::Gone => return Ok(None),
            }
        }
        Ok(Some(Found { last, current: None }))
    }

    /// In order of their revisions.
    fn names(&self) -> Result<Vec<Name>, WitnessError> {
        let list = || -> io::Result<Vec<Name>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&self.dir)? {
                names.extend(entry?.file_name().to_str().and_then(|name| self.parse(name)));
            }
            names.sort();
            Ok(names)
        };
        list().map_err(self.cannot("list the files"))
    }

    fn read(&self, revision: u64) -> Result<Content, WitnessError> {
        use io::Read as _;
        let file = self.path(revision);
        let mut bytes = Vec::new();
        let read = File::open(&file)
            .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
            .map(drop);
        match read {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::StaleNetworkFileHandle
                ) =>
            {
                return Ok(Content::Gone);
            }
            read => read.map_err(self.cannot("read a file"))?,
        }
        let Some((kept, checksum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
            return Ok(Content::Torn);
        };
        if self.checksum(revision, kept) != *checksum {
            return Ok(Content::Torn);
        }
        match Kept::decode(kept) {
            Some(kept) => Ok(Content::Record(kept.record)),
            None => Err(WitnessError::Newer { file }),
        }
    }

    /// Writes the record as this revision; false if that has been taken.
    fn put(&self, revision: u64, record: &Record) -> Result<bool, WitnessError> {
        let mut bytes = Kept { record: *record, token: None }.encode();
        let checksum = self.checksum(revision, &bytes);
        bytes.extend(checksum);
        let draft = Some(Uuid::new_v4().simple().to_string());
        let draft = self.dir.join(self.name(&Name { revision, draft }));
        let write = || -> io::Result<()> {
            let mut file = File::options().write(true).create_new(true).open(&draft)?;
            file.write_all(&bytes)?;
            file.sync_all()
        };
        let written = write().map_err(self.cannot("write a file"));
        let linked = written.map(|()| fs::hard_link(&draft, self.path(revision)));
        // A draft that stays is swept some revisions later.
        fs::remove_file(&draft).ok();
        match linked? {
            Ok(()) => Ok(true),
            // Or swept: others have made so many revisions meanwhile.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound
                ) =>
            {
                Ok(false)
            }
            Err(source) => {
                Err(self.cannot("link a file (which its file system must know)")(source))
            }
        }
    }

    /// Removes what is old, the oldest first. What cannot be removed now is removed another time.
    fn sweep(&self, current: u64) {
        let Ok(names) = self.names() else { return };
        for name in names.into_iter().filter(|name| name.revision + KEPT_REVISIONS <= current) {
            fs::remove_file(self.dir.join(self.name(&name))).ok();
        }
    }

    fn sync(&self) -> Result<(), WitnessError> {
        sync_folder(&self.dir).map_err(self.cannot("sync the folder"))
    }

    fn cannot(&self, doing: &'static str) -> impl Fn(io::Error) -> WitnessError {
        move |source| WitnessError::Folder { dir: self.dir.clone(), doing, source }
    }

    /// Over the name as well: a file that was copied to another name is none.
    fn checksum(&self, revision: u64, kept: &[u8]) -> [u8; CHECKSUM_BYTES] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.pair.0).update(&revision.to_be_bytes()).update(kept);
        *hasher.finalize().as_bytes()
    }

    fn path(&self, revision: u64) -> PathBuf {
        self.dir.join(self.name(&Name { revision, draft: None }))
    }

    fn name(&self, name: &Name) -> String {
        let Self { pair, .. } = self;
        let Name { revision, draft } = name;
        let draft = draft.as_ref().map(|own| format!(".{own}")).unwrap_or_default();
        format!("{pair}.{revision:020}{draft}")
    }

    /// None for what is another pair's or nobody's.
    fn parse(&self, name: &str) -> Option<Name> {
        let rest = name.strip_prefix(&self.pair.to_string())?.strip_prefix('.')?;
        let (revision, draft) = match rest.split_once('.') {
            Some((revision, draft)) => (revision, Some(draft.to_owned())),
            None => (rest, None),
        };
        let parsed = Name { revision: revision.parse().ok()?, draft };
        // Behind the last numbers none come; nobody has counted so far.
        let has_next = parsed.revision.checked_add(KEPT_REVISIONS).is_some();
        (has_next && self.name(&parsed) == name).then_some(parsed)
    }
}

#[cfg(test)]
mod tests;
