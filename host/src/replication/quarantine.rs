//! What this node had accepted and the other may never have had: kept in a folder, and brought to the primary.
//!
//! ```text
//! quarantine/ID/report.json     when, why, and what became of it
//!               messages        messages from outside, as they were accepted
//!               frame           the frame they were in, if it was only one
//!               store.redb …    this node's store as it was, if the nodes were apart for longer
//! quarantine/ID.unfinished/     the same while it is being written, and after a crash until the next start
//! ```
//!
//! Nothing in it that is finished goes away without an operator's word.

use std::{
    collections::BTreeMap,
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::recover;

use crate::{
    machine,
    model::{
        clock::{Clock, UnixMs},
        position::Position,
    },
    store::{
        Store,
        records::Wanted,
        recover::{self as recovered, Accepted, Apart, Fate, Recovered},
    },
};

const FOLDER: &str = "quarantine";
const REPORT: &str = "report.json";
const MESSAGES: &str = "messages";
const FRAME: &str = "frame";
const STORE: [&str; 2] = ["store.redb", "store.journal"];
/// How the name of a folder ends that is being filled.
const UNFINISHED: &str = "unfinished";

/// What is set aside when another node's rows take the place of this one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Everything: messages were handled here.
    Store,
    /// What was taken in: nothing was handled here since the nodes parted.
    Messages,
}

/// What lies in one of its folders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub id: String,
    pub time_ms: UnixMs,
    /// In a sentence.
    pub why: String,
    /// The last frame that both nodes have for certain.
    pub common: u64,
    /// The last frame of this node.
    pub last: Position,
    /// Messages from outside after it, by solution.
    pub messages: BTreeMap<String, u64>,
    /// Requests that this node had made, of these messages and of others, as far as it still knew.
    #[serde(default)]
    pub made: u64,
    /// Segments of the archive, or parts of them, that could not be read: what they had is only in their files.
    #[serde(default)]
    pub unreadable: u64,
    /// Whether the primary has answered.
    pub settled: bool,
    /// How many messages came to what.
    pub fates: BTreeMap<String, u64>,
}

/// The quarantine of one node.
#[derive(Debug)]
pub struct Quarantine {
    dir: PathBuf,
    store: Store,
    clock: Clock,
    /// Bytes that a copy of the store leaves free on the disk.
    min_free: u64,
    /// Whoever sets the store aside has it, to the end: also if its link has broken meanwhile.
    turn: Arc<Semaphore>,
    /// Not settled, oldest first. None: not looked yet.
    pending: Mutex<Option<Vec<String>>>,
}

impl Quarantine {
    /// What a crash left unfinished goes: nothing was given up for it.
    pub fn open(data_dir: &Path, store: Store, clock: Clock, min_free: u64) -> io::Result<Self> {
        let dir = data_dir.join(FOLDER);
        for folder in folders(&dir)? {
            if is_unfinished(&folder) {
                fs::remove_dir_all(&folder)?;
            }
        }
        Ok(Self {
            dir,
            store,
            clock,
            min_free,
            turn: Arc::new(Semaphore::new(1)),
            pending: Mutex::new(None),
        })
    }

    /// Everything there is, oldest first.
    pub fn list(&self) -> io::Result<Vec<Report>> {
        let mut reports = Vec::new();
        for folder in folders(&self.dir)? {
            if !is_unfinished(&folder)
                && let Ok(bytes) = fs::read(folder.join(REPORT))
            {
                reports.push(serde_json::from_slice(&bytes)?);
            }
        }
        reports.sort_by(|one: &Report, other| one.id.cmp(&other.id));
        Ok(reports)
    }

    /// Keeps messages, and with `more` what else there is to keep.
    fn keep(
        &self,
        why: &str,
        common: u64,
        Accepted { apart, unreadable }: &Accepted,
        more: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let now_ms = self.clock.now_ms();
        let id = uuid::Builder::from_unix_timestamp_millis(now_ms, &machine::random());
        let id = id.as_uuid().simple().to_string();
        let messages = &apart.messages;
        let by_solution = recovered::by_solution(messages).into_iter();
        let report = Report {
            id: id.clone(),
            time_ms: now_ms,
            why: why.to_owned(),
            common,
            last: self.store.journal_head().0,
            messages: by_solution.map(|(name, count)| (name.to_string(), count)).collect(),
            made: apart.made.len() as u64,
            unreadable: *unreadable,
            settled: apart.is_empty(),
            fates: BTreeMap::new(),
        };
        let unfinished = self.dir.join(&id).with_extension(UNFINISHED);
        let fill = || {
            fs::create_dir_all(&unfinished)?;
            more(&unfinished)?;
            write(&unfinished.join(MESSAGES), &apart.pack().map_err(io::Error::other)?)?;
            write(&unfinished.join(REPORT), &serde_json::to_vec_pretty(&report)?)?;
            fs::File::open(&unfinished)?.sync_all()?;
            fs::rename(&unfinished, self.dir.join(&id))?;
            let above = self.dir.parent().unwrap_or(Path::new("."));
            [&self.dir, above].into_iter().try_for_each(|folder| fs::File::open(folder)?.sync_all())
        };
        if let Err(error) = fill() {
            // It may be the room on the disk that was too little.
            fs::remove_dir_all(&unfinished).ok();
            return Err(error);
        }
        self.look_again();
        tracing::warn!(
            id,
            why,
            messages = messages.len(),
            made = apart.made.len(),
            "set aside in the quarantine; its messages go to the primary"
        );
        Ok(())
    }

    fn report(&self, report: &Report) -> io::Result<()> {
        let file = self.dir.join(&report.id).join(REPORT);
        write(&file, &serde_json::to_vec_pretty(report)?)
    }

    /// One frame that was not shown.
    pub(super) fn take_frame(&self, frame: &Bytes) -> io::Result<()> {
        let apart = recovered::accepted_in(frame).map_err(io::Error::other)?;
        let common = self.store.journal_head().0.seq;
        let why = "the last frame of this node was never on the other, which has gone on without it; it was acknowledged only if \
                   this node was alone then";
        let accepted = Accepted { apart, unreadable: 0 };
        self.keep(why, common, &accepted, |folder| write(&folder.join(FRAME), frame))
    }

    /// Of the store, which is about to be replaced; after frame `common` the other node has nothing of it.
    ///
    /// May be dropped while it waits; what has begun goes on, and whoever comes then waits for it and finds what it took.
    pub(super) async fn take(self: Arc<Self>, extent: Extent, common: u64) -> io::Result<()> {
        let turn = self.turn().await;
        machine::blocking(move || {
            let _turn = turn;
            match extent {
                Extent::Store => self.take_store(common),
                Extent::Messages => self.take_accepted(common),
            }
        })
        .await
    }

    /// Until it is dropped, nobody else sets the store aside.
    pub(super) async fn turn(&self) -> OwnedSemaphorePermit {
        self.turn.clone().acquire_owned().await.expect("it is never closed")
    }

    fn take_accepted(&self, common: u64) -> io::Result<()> {
        let parted = self.store.parted().map_err(io::Error::other)?;
        let common = parted.unwrap_or(0).max(common);
        // What was not handled is in no segment.
        let wanted = Wanted { unfinished: true, ..Wanted::default() };
        let accepted = self.store.accepted_after(common, &wanted).map_err(io::Error::other)?;
        let packed = accepted.apart.pack().map_err(io::Error::other)?;
        for report in self.list()? {
            if self.packed(&report.id)? == packed {
                // The link broke before the other's rows were here.
                return Ok(());
            }
        }
        let why = "this node took messages in while it did not hear the primary, and handled none";
        self.keep(why, common, &accepted, |_| Ok(()))
    }

    fn take_store(&self, common: u64) -> io::Result<()> {
        let last = self.store.journal_head().0;
        let is_here = |report: &Report| report.last == last && self.has_store(&report.id);
        if self.list()?.iter().any(is_here) {
            // The link broke before the other's rows were here.
            return Ok(());
        }
        self.has_room()?;
        let accepted = self.store.accepted_after(common, &Wanted::default());
        let accepted = accepted.map_err(io::Error::other)?;
        let why = "both nodes were primary while they did not hear of each other; the other's rows hold now";
        let from = self.store_folder();
        self.keep(why, common, &accepted, |folder| {
            for name in STORE {
                machine::copy(&from.join(name), &folder.join(name))?;
                fs::File::open(folder.join(name))?.sync_all()?;
            }
            Ok(())
        })
    }

    fn store_folder(&self) -> &Path {
        self.store.path().parent().unwrap_or(Path::new("."))
    }

    /// Whether the store can be copied.
    fn has_room(&self) -> io::Result<()> {
        let Some(free) = self.store.disk_free_bytes() else { return Ok(()) };
        let size = |name| fs::metadata(self.store_folder().join(name)).map_or(0, |file| file.len());
        let needs: u64 = STORE.map(size).into_iter().sum();
        if free.saturating_sub(needs) >= self.min_free {
            return Ok(());
        }
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let why = format!(
            "a copy of the store needs about {} MiB, and {} MiB of the {} MiB that the disk has free are to stay so \
             (`min_free` in [pair]); make room",
            mib(needs),
            mib(self.min_free),
            mib(free)
        );
        Err(io::Error::new(io::ErrorKind::StorageFull, why))
    }

    /// Whose messages the primary is to be brought next.
    pub(super) fn pending(&self) -> io::Result<Option<String>> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.is_none() {
            let open = self.list()?.into_iter().filter(|report| !report.settled);
            *pending = Some(open.map(|report| report.id).collect());
        }
        Ok(pending.as_ref().and_then(|ids| ids.first()).cloned())
    }

    /// The messages of one folder, packed.
    pub fn packed(&self, id: &str) -> io::Result<Bytes> {
        Ok(fs::read(self.dir.join(id).join(MESSAGES))?.into())
    }

    /// The same, as the primary is brought them. Blocks.
    pub(super) fn pieces(&self, id: &str) -> io::Result<Vec<Apart>> {
        Ok(Apart::unpack(&self.packed(id)?).map_err(io::Error::other)?.pieces())
    }

    /// The primary has them.
    pub(super) fn settle(&self, id: &str, fates: &[Fate]) -> io::Result<()> {
        let Some(mut report) = self.get(id)? else { return Ok(()) };
        report.settled = true;
        report.fates.clear();
        for fate in fates {
            let word = serde_json::to_value(fate)?;
            *report.fates.entry(word.as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        self.report(&report)?;
        self.look_again();
        tracing::info!(id, fates = ?report.fates, "the primary has the messages that were set aside");
        if fates.contains(&Fate::Conflicting) {
            tracing::warn!(
                id,
                "the primary has others under the keys of some of them, and has not taken those in: look at them with \
                 `tandem pair quarantine show`"
            );
        }
        Ok(())
    }

    fn has_store(&self, id: &str) -> bool {
        STORE.iter().all(|name| self.dir.join(id).join(name).exists())
    }

    fn look_again(&self) {
        *self.pending.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn get(&self, id: &str) -> io::Result<Option<Report>> {
        Ok(self.list()?.into_iter().find(|report| report.id == id))
    }

    /// The messages in one folder, if there is one of that name.
    pub fn messages(&self, id: &str) -> io::Result<Option<(Report, Vec<Recovered>)>> {
        let Some(report) = self.get(id)? else { return Ok(None) };
        let packed = self.packed(id)?;
        Ok(Some((report, Apart::unpack(&packed).map_err(io::Error::other)?.messages)))
    }

    /// Brings the messages to the primary again; says whether there is such a folder.
    pub fn replay(&self, id: &str) -> io::Result<bool> {
        let Some(report) = self.get(id)? else { return Ok(false) };
        self.report(&Report { settled: false, ..report })?;
        self.look_again();
        Ok(true)
    }

    /// Deletes a folder for good; says whether there was one.
    pub fn discard(&self, id: &str, reason: &str) -> io::Result<bool> {
        let Some(report) = self.get(id)? else { return Ok(false) };
        tracing::warn!(id, reason, messages = ?report.messages, "an operator discards what was set aside");
        fs::remove_dir_all(self.dir.join(id))?;
        self.look_again();
        Ok(true)
    }

    /// Takes in here what is pending, because this node is primary itself.
    pub async fn take_in(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        while let Some(id) = self.pending()? {
            let packed = self.packed(&id)?;
            let fates = recover(&self.store, Apart::unpack(&packed)?).await?;
            self.settle(&id, &fates)?;
        }
        Ok(())
    }
}

/// What lies in the folder; it need not be there.
fn folders(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}

fn is_unfinished(folder: &Path) -> bool {
    folder.extension().is_some_and(|ending| ending == UNFINISHED)
}

/// Replaced whole, and on disk when this returns.
fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    use io::Write as _;
    let temporary = file.with_extension("new");
    let mut new = fs::File::create(&temporary)?;
    new.write_all(bytes)?;
    new.sync_all()?;
    fs::rename(&temporary, file)
}
