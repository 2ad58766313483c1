//! Opening: makes or checks the two files, refuses what is not ours, newer, damaged or in use, and applies what only the
//! journal has.

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
};

use redb::{Database, DatabaseError, ReadableDatabase, StorageError};

use super::{
    Config, Shared, Store,
    archive::Archive,
    catalogue::Catalogue,
    content::Content,
    counts::Counts,
    frame::{Frame, FrameError},
    journal::{Journal, JournalError},
    row::{
        Row, SolutionNo,
        dead_letter::DeadLetterRow,
        head::{
            FORMAT, FORMAT_KEY, FRAMES_KEY, HEAD_KEY, HeadRow, IDENTITY_KEY, IdentityRow, TAIL_KEY,
            TailRow,
        },
        outbox::OutboxRow,
        ready::read_ready_key,
        timer::TimerRow,
    },
    rows::Rows,
    sequencer::Memory,
    signal::Signals,
    snapshot::{ReadError, Snapshot},
    table::{NODE, PIECES, Table},
    version::FrameVersion,
    writer::{self, Waiting},
};
use crate::{
    machine,
    model::{
        clock::Clock,
        position::{Chain, Position},
    },
};

const FILE: &str = "store.redb";
const JOURNAL: &str = "store.journal";
/// Where a new store stands.
const FIRST: Position = Position { epoch: 1, seq: 0 };
/// The folder of segments.
const ARCHIVE: &str = "archive";

/// Why there is no store. Each text says which file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot use the folder {}: {source}; give --data-dir a folder that this user may write to", dir.display())]
    Folder { dir: PathBuf, source: io::Error },
    #[error("{} is in use by another process; stop that node, or give this one its own --data-dir", file.display())]
    InUse { file: PathBuf },
    #[error("{} is not a Tandem store ({why}); move it away, or give --data-dir another folder", file.display())]
    NotOurs { file: PathBuf, why: String },
    #[error("{} is damaged ({why}); restore the folder from a backup, or move the folder away to begin empty", file.display())]
    Damaged { file: PathBuf, why: String },
    #[error("{} has format {found}, and this program knows format {FORMAT}; run the version of tandem that wrote it, or a newer one", file.display())]
    Format { file: PathBuf, found: u32 },
    #[error("cannot open {}: {source}", file.display())]
    Io { file: PathBuf, source: io::Error },
    #[error("no room to open {}: the disk is full; free some space and start again", file.display())]
    DiskFull { file: PathBuf },
}

/// What the writer starts from.
pub(super) struct Opened {
    pub db: Arc<Database>,
    pub memory: Memory,
    pub journal: Arc<Mutex<Journal>>,
    pub archive: Arc<Archive>,
    /// Of all rows.
    pub content: Content,
    /// In the journal, and not applied.
    pub waiting: VecDeque<Waiting>,
}

impl Opened {
    /// The highest version of frames that was ever kept.
    fn frame_version(&self) -> Result<u8, ReadError> {
        let node = self.db.begin_read()?.open_table(NODE)?;
        let kept = node.get(FRAMES_KEY)?.and_then(|row| row.value().first().copied());
        let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let last = journal.frame_from(journal.head().0.seq).map_err(StorageError::from)?;
        // The tables' file may not know it yet.
        let last = last.and_then(|(_, frame)| frame.first().copied());
        Ok(kept.max(last).unwrap_or(1))
    }
}

impl Store {
    /// Opens the store in `config.dir`, making it if there is none, and starts its writer.
    pub fn open(config: &Config, clock: Clock) -> Result<Self, OpenError> {
        let folder = |source| OpenError::Folder { dir: config.dir.clone(), source };
        fs::create_dir_all(&config.dir).map_err(folder)?;
        let path = config.dir.join(FILE);
        if let (Some(tables), Some(journal)) =
            (machine::disk(&path), machine::disk(&config.dir.join(JOURNAL)))
        {
            return Self::open_on(tables, Box::new(journal), config, clock);
        }
        if !path.exists() {
            make(config, &path)?;
        }
        // A name that is not synced can go with the power, and with it the file and every receipt in it.
        sync_folder(&config.dir).map_err(folder)?;
        refuse_foreign(&path)?;
        // Opening for writing changes a file's header: look before. A file that needs repair cannot be looked at so,
        // and is ours by its name and its beginning.
        if let Ok(db) = builder(config, &path).open_read_only(&path) {
            check_format(&db, &path)?;
        }
        let db = builder(config, &path).create(&path).map_err(|error| database(error, &path))?;
        let journal = fs::File::options().read(true).write(true).open(config.dir.join(JOURNAL));
        let journal = journal.map_err(|error| journal_io(error, &config.dir))?;
        let journal = redb::backends::FileBackend::new(journal)
            .map_err(|error| database(error, &config.dir.join(JOURNAL)))?;
        Self::start(config, clock, db, Box::new(journal), path)
    }

    /// As [`Store::open`], but on a simulated disk.
    pub(super) fn open_on(
        disk: impl redb::StorageBackend,
        journal: Box<dyn redb::StorageBackend>,
        config: &Config,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let path = config.dir.join(FILE);
        let new = disk.len().is_ok_and(|len| len == 0);
        let db = builder(config, &path)
            .create_with_backend(disk)
            .map_err(|error| database(error, &path))?;
        if new {
            create(&db).map_err(|error| failed(error, &path))?;
        }
        Self::start(config, clock, db, journal, path)
    }

    /// Reads what the file holds and starts the writer.
    fn start(
        config: &Config,
        clock: Clock,
        db: Database,
        journal: Box<dyn redb::StorageBackend>,
        path: PathBuf,
    ) -> Result<Self, OpenError> {
        check_format(&db, &path)?;
        let archive = Arc::new(Archive::new(config.dir.join(ARCHIVE)));
        let (journal, waiting) = open_journal(&db, journal, config)?;
        let opened = load(Arc::new(db), (journal, waiting), archive.clone(), &path)?;
        let signals = Arc::new(Signals::new(Catalogue::default()));
        signals.catalogue.send_replace(opened.memory.catalogue.clone());
        let counters = Arc::<writer::Counters>::default();
        let keep_after = Arc::new(AtomicU64::new(u64::MAX));
        let frames = opened.frame_version().map_err(|error| unreadable(error, &path))?;
        let frames = Arc::new(FrameVersion::new(frames, config.paired));
        let (db, journal) = (opened.db.clone(), opened.journal.clone());
        let writer = writer::start(
            config,
            clock,
            opened,
            signals.clone(),
            counters.clone(),
            (keep_after.clone(), frames.clone()),
        )
        .map_err(|source| OpenError::Io { file: path.clone(), source })?;
        Ok(Self(Arc::new(Shared {
            db,
            writer,
            signals,
            counters,
            path,
            archive,
            journal,
            keep_after,
            frames,
        })))
    }
}

/// Makes the journal, then the tables under another name that becomes theirs when they are whole: a power cut leaves a store or none, never
/// a part of one that would have to be refused.
fn make(config: &Config, path: &Path) -> Result<(), OpenError> {
    let new = path.with_extension("redb.new");
    let io = |source: io::Error| storage(source.into(), new.clone());
    let options = fs::File::options().read(true).write(true).create(true).truncate(false).clone();
    let file = options.open(&new).map_err(io)?;
    if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
        return Err(OpenError::InUse { file: path.to_owned() });
    }
    if path.exists() {
        // Another process was faster; whether it still has the store shows when it is opened.
        return Ok(());
    }
    // Before the tables get their name, so that tables without a journal have lost it.
    let journal = config.dir.join(JOURNAL);
    if is_used(&journal).map_err(|error| journal_io(error, &config.dir))? {
        let why = format!("it is missing, and {JOURNAL} beside it is not");
        return Err(OpenError::Damaged { file: path.to_owned(), why });
    }
    let disk = fs::File::create(&journal).map_err(|error| journal_io(error, &config.dir))?;
    let disk = redb::backends::FileBackend::new(disk).map_err(|error| database(error, &journal))?;
    let head = (FIRST, Chain::default());
    Journal::create(Box::new(disk), head, config.journal_bytes)
        .map_err(|error| journal_io(error, &config.dir))?;
    // What a process left that died here.
    file.set_len(0).map_err(io)?;
    let disk = redb::backends::FileBackend::new(file).map_err(|error| database(error, &new))?;
    let db =
        builder(config, &new).create_with_backend(disk).map_err(|error| database(error, &new))?;
    create(&db).map_err(|error| failed(error, &new))?;
    drop(db);
    fs::File::open(&new).and_then(|file| file.sync_all()).map_err(io)?;
    fs::rename(&new, path).map_err(io)
}

fn journal_io(error: io::Error, dir: &Path) -> OpenError {
    let file = dir.join(JOURNAL);
    if error.kind() == io::ErrorKind::NotFound {
        let why = "it is missing, and with it the last commits".to_owned();
        return OpenError::Damaged { file, why };
    }
    storage(error.into(), file)
}

/// Whether there is a journal that ever had a frame: the first one lies at its beginning.
fn is_used(journal: &Path) -> io::Result<bool> {
    use io::Read as _;
    let mut begin = Vec::new();
    match fs::File::open(journal) {
        Ok(file) => file.take(4).read_to_end(&mut begin)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    Ok(begin.iter().any(|byte| *byte != 0))
}

/// Makes the names in the folder durable, and the folder's own.
fn sync_folder(dir: &Path) -> io::Result<()> {
    let dir = dir.canonicalize()?;
    fs::File::open(&dir)?.sync_all()?;
    // The folder above may be one that this user cannot read; then it was not made here.
    if let Some(above) = dir.parent().and_then(|above| fs::File::open(above).ok()) {
        above.sync_all()?;
    }
    Ok(())
}

fn builder(config: &Config, path: &Path) -> redb::Builder {
    let progress = path.to_owned();
    let mut builder = Database::builder();
    builder.set_cache_size(config.cache_bytes).set_repair_callback(move |session| {
        let percent = (session.progress() * 100.0).round();
        tracing::info!(file = %progress.display(), percent, "repairing after a crash");
    });
    builder
}

fn database(error: DatabaseError, path: &Path) -> OpenError {
    let file = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { file },
        DatabaseError::Storage(error) => storage(error, file),
        DatabaseError::UpgradeRequired(version) => OpenError::NotOurs {
            file,
            why: format!("redb file format {version}, which this program cannot read"),
        },
        other => OpenError::Damaged { file, why: other.to_string() },
    }
}

/// redb would say "invalid magic number"; say it in words, before it touches the file.
fn refuse_foreign(path: &Path) -> Result<(), OpenError> {
    use io::Read as _;
    let file = path.to_owned();
    let mut begin = Vec::new();
    fs::File::open(path)
        .and_then(|opened| opened.take(4).read_to_end(&mut begin))
        .map_err(|source| OpenError::Io { file: file.clone(), source })?;
    if begin.is_empty() {
        return Err(OpenError::Damaged { file, why: "it is empty".into() });
    }
    if begin != b"redb" {
        return Err(OpenError::NotOurs { file, why: "it does not begin as one".into() });
    }
    Ok(())
}

fn storage(error: StorageError, file: PathBuf) -> OpenError {
    match error {
        StorageError::Io(source) if source.kind() == io::ErrorKind::StorageFull => {
            OpenError::DiskFull { file }
        }
        StorageError::Io(source) if source.kind() == io::ErrorKind::InvalidData => {
            OpenError::Damaged { file, why: source.to_string() }
        }
        StorageError::Io(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
            OpenError::Damaged { file, why: "it ends early".into() }
        }
        StorageError::Io(source) => OpenError::Io { file, source },
        other => OpenError::Damaged { file, why: other.to_string() },
    }
}

fn failed(error: redb::Error, path: &Path) -> OpenError {
    let file = path.to_owned();
    match error {
        redb::Error::Io(source) => storage(source.into(), file),
        other => OpenError::Damaged { file, why: other.to_string() },
    }
}

fn unreadable(error: ReadError, path: &Path) -> OpenError {
    match error {
        ReadError::Storage(error) => failed(error.into(), path),
        ReadError::Transaction(error) => failed((*error).into(), path),
        ReadError::Table(error) => failed(error.into(), path),
        error @ (ReadError::Row(_) | ReadError::Key(_) | ReadError::Segment(_)) => {
            OpenError::Damaged { file: path.to_owned(), why: error.to_string() }
        }
    }
}

/// Writes what every store has.
pub(super) fn create(db: &Database) -> Result<(), redb::Error> {
    let txn = db.begin_write()?;
    {
        let mut node = txn.open_table(NODE)?;
        node.insert(FORMAT_KEY, FORMAT.to_be_bytes().as_slice())?;
        let identity = IdentityRow {
            store_id: uuid::Builder::from_random_bytes(machine::random()).into_uuid().into_bytes(),
        };
        node.insert(IDENTITY_KEY, identity.encode().as_slice())?;
        let head =
            HeadRow { position: FIRST, chain: Chain::default(), content: Content::default() };
        node.insert(HEAD_KEY, head.encode().as_slice())?;
        node.insert(TAIL_KEY, TailRow::first().encode().as_slice())?;
        txn.open_table(PIECES)?;
        for table in Table::ALL {
            txn.open_table(table.definition())?;
        }
    }
    txn.commit()?;
    Ok(())
}

fn check_format(db: &impl ReadableDatabase, path: &Path) -> Result<(), OpenError> {
    let file = path.to_owned();
    let read = || -> Result<Option<Vec<u8>>, redb::Error> {
        let node = db.begin_read()?.open_table(NODE)?;
        Ok(node.get(FORMAT_KEY)?.map(|value| value.value().to_vec()))
    };
    let found = match read() {
        Ok(found) => found,
        Err(redb::Error::TableDoesNotExist(_) | redb::Error::TableTypeMismatch { .. }) => None,
        Err(error) => return Err(failed(error, path)),
    };
    match found.as_deref().map(<[u8; 4]>::try_from) {
        Some(Ok(bytes)) if u32::from_be_bytes(bytes) == FORMAT => Ok(()),
        Some(Ok(bytes)) => Err(OpenError::Format { file, found: u32::from_be_bytes(bytes) }),
        _ => Err(OpenError::NotOurs { file, why: "a redb file of another program".into() }),
    }
}

/// Opens the journal and applies what the tables do not have.
pub(super) fn open_journal(
    db: &Database,
    disk: Box<dyn redb::StorageBackend>,
    config: &Config,
) -> Result<(Journal, VecDeque<Waiting>), OpenError> {
    let file = config.dir.join(JOURNAL);
    let (path, bound) = (config.dir.join(FILE), config.journal_bytes);
    let (head, tail) = read_node(db).map_err(|error| unreadable(error, &path))?;
    // Only a test's disk is new here.
    let is_new = disk.len().is_ok_and(|len| len == 0) && head.position == FIRST;
    let journal = if is_new {
        Journal::create(disk, (FIRST, Chain::default()), bound).map_err(JournalError::from)
    } else {
        Journal::open(disk, tail, (head.position, head.chain), bound)
    };
    let journal = journal.map_err(|error| match error {
        JournalError::Io(error) => storage(error.into(), file.clone()),
        other => OpenError::Damaged { file: file.clone(), why: other.to_string() },
    })?;
    let (end, _) = journal.head();
    // In a pair, whether the other node has the last frame is not known yet.
    let last = if config.paired { end.seq.saturating_sub(1) } else { end.seq };
    let told = |error: ReplayError| match error {
        ReplayError::Redb(error) => failed(error, &path),
        ReplayError::Journal(error) => storage(error.into(), file.clone()),
        ReplayError::Frame(error) => {
            OpenError::Damaged { file: file.clone(), why: error.to_string() }
        }
    };
    if last > head.position.seq {
        let frames = last - head.position.seq;
        tracing::info!(frames, "the journal has what the tables do not have yet: applying it");
        replay(db, &journal, &head, last).map_err(told)?;
    }
    let waiting = if end.seq > last.max(head.position.seq) {
        waiting(&journal, last.max(head.position.seq)).map_err(told)?
    } else {
        VecDeque::new()
    };
    Ok((journal, waiting))
}

/// The frame after number `before`, which is the last.
fn waiting(journal: &Journal, before: u64) -> Result<VecDeque<Waiting>, ReplayError> {
    let Some((_, frame)) = journal.frame_from(before + 1)? else { return Ok(VecDeque::new()) };
    let (position, chain) = journal.head();
    let chain_before = journal.chain_at(before).unwrap_or_default();
    let epoch = match journal.frame_from(before)? {
        Some((seq, earlier)) if seq == before => Frame::decode(&earlier)?.position.epoch,
        // The tables begin right before it.
        _ => position.epoch,
    };
    let before = Position { epoch, seq: before };
    Ok([Waiting { position, chain, before, chain_before, frame: frame.into() }].into())
}

#[derive(Debug, thiserror::Error)]
enum ReplayError {
    #[error(transparent)]
    Redb(redb::Error),
    #[error(transparent)]
    Journal(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Applies the journal's frames behind the tables' head, up to number `last`, as the writer did.
fn replay(db: &Database, journal: &Journal, head: &HeadRow, last: u64) -> Result<(), ReplayError> {
    let redb = |error: redb::Error| ReplayError::Redb(error);
    let mut txn = db.begin_write().map_err(|error| redb(error.into()))?;
    txn.set_two_phase_commit(true);
    txn.set_quick_repair(true);
    let mut rows = Rows::open(&txn).map_err(|error| redb(error.into()))?;
    let mut position = head.position;
    while position.seq < last
        && let Some((_, bytes)) = journal.frame_from(position.seq + 1)?
    {
        let frame = Frame::decode(&bytes)?;
        rows.gather(frame.ops(), bytes.len())?;
        rows.bring_all(&bytes).map_err(|error| redb(error.into()))?;
        position = frame.position;
    }
    let mut content = head.content;
    content.add(rows.changed());
    drop(rows);
    let chain = journal.chain_at(position.seq).unwrap_or_default();
    let head = HeadRow { position, chain, content };
    let node = || -> Result<(), redb::Error> {
        let mut node = txn.open_table(NODE)?;
        node.insert(HEAD_KEY, head.encode().as_slice())?;
        Ok(())
    };
    node().map_err(redb)?;
    txn.commit().map_err(|error| redb(error.into()))
}

pub(super) fn read_node(db: &Database) -> Result<(HeadRow, TailRow), ReadError> {
    let node = db.begin_read()?.open_table(NODE)?;
    let row = |key: &[u8]| node.get(key)?.ok_or(ReadError::Key("node"));
    Ok((HeadRow::decode(row(HEAD_KEY)?.value())?, TailRow::decode(row(TAIL_KEY)?.value())?))
}

fn load(
    db: Arc<Database>,
    (journal, waiting): (Journal, VecDeque<Waiting>),
    archive: Arc<Archive>,
    path: &Path,
) -> Result<Opened, OpenError> {
    let read = || Ok((read_memory(&db, &archive)?, Snapshot::open(&db, archive.clone())?.head()?));
    let ((catalogue, queued, undelivered), head) =
        read().map_err(|error| unreadable(error, path))?;
    let memory = Memory::new(catalogue, Counts::new(queued), Counts::new(undelivered));
    let journal = Arc::new(Mutex::new(journal));
    Ok(Opened { db, memory, journal, archive, content: head.content, waiting })
}

type PerSolution = BTreeMap<SolutionNo, u64>;

/// What the writer knows beside the rows: the catalogue, how many messages wait, and how many effects.
pub(super) fn read_memory(
    db: &Database,
    archive: &Arc<Archive>,
) -> Result<(Arc<Catalogue>, PerSolution, PerSolution), ReadError> {
    let txn = db.begin_read()?;
    let solutions = txn.open_table(Table::Solutions.definition())?;
    let settings = txn.open_table(Table::Settings.definition())?;
    let pieces = txn.open_table(PIECES)?;
    let catalogue = Arc::new(Catalogue::read(&solutions, &settings, &pieces)?);
    let snapshot = Snapshot::open(db, archive.clone())?;
    Ok((catalogue, count_queued(&snapshot)?, count_undelivered(&snapshot)?))
}

fn count_queued(snapshot: &Snapshot) -> Result<BTreeMap<SolutionNo, u64>, ReadError> {
    let mut queued = BTreeMap::new();
    snapshot.table(Table::Ready)?.scan(&[], |key, _| {
        let (solution, _) = read_ready_key(key).ok_or(ReadError::Key("ready"))?;
        *queued.entry(solution).or_default() += 1;
        Ok(true)
    })?;
    snapshot.table(Table::Timers)?.scan(&[], |_, value| {
        *queued.entry(TimerRow::decode(value)?.solution_no).or_default() += 1;
        Ok(true)
    })?;
    Ok(queued)
}

/// Effects in the outbox, but for dead ones.
fn count_undelivered(snapshot: &Snapshot) -> Result<BTreeMap<SolutionNo, u64>, ReadError> {
    let mut undelivered = BTreeMap::<SolutionNo, u64>::new();
    snapshot.table(Table::Outbox)?.scan(&[], |_, value| {
        *undelivered.entry(OutboxRow::decode(value)?.solution_no).or_default() += 1;
        Ok(true)
    })?;
    snapshot.table(Table::DeadLetters)?.scan(&[], |_, value| {
        let letter = DeadLetterRow::decode(value)?;
        if let (Some(_), Some(count)) = (letter.outbox, undelivered.get_mut(&letter.solution_no)) {
            *count = count.saturating_sub(1);
        }
        Ok(true)
    })?;
    Ok(undelivered)
}
