//! The records of all pairs in one redb file; what changes one is durable before it is told.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use hmac::digest::CtOutput;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageError,
    TableDefinition,
};
use sha2::Sha256;

use super::{
    kept::{Kept, TokenHash},
    sync_folder,
};
use crate::model::pair::{Ask, PairId, Record};

const FILE: &str = "witness.redb";
/// By pair.
const PAIRS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("pairs");
/// More than one witness has to serve; fewer than would fill a small disk.
pub const PAIRS_MAX: u64 = 10_000;
const CACHE_BYTES: usize = 8 << 20;

#[derive(Debug)]
pub struct Register {
    db: Database,
    pairs_max: u64,
}

/// Why there is no register. Each text says which file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot use the folder {}: {source}; give --data-dir a folder that this user may write to", dir.display())]
    Folder { dir: PathBuf, source: io::Error },
    #[error("{} is in use by another process; stop that witness, or give this one its own --data-dir", file.display())]
    InUse { file: PathBuf },
    #[error(
        "{} cannot be read as a witness's ({why}); restore it from a backup, or move it away to begin empty: \
         docs/witness.md says what the nodes do then",
        file.display()
    )]
    Damaged { file: PathBuf, why: String },
    #[error("cannot open {}: {source}", file.display())]
    Io { file: PathBuf, source: io::Error },
}

/// The disk failed: nobody knows what it has, so nothing more is recorded.
#[derive(Debug, thiserror::Error)]
#[error(
    "the records cannot be read or written: {0}; look at the disk, and start the witness again"
)]
pub struct RegisterError(redb::Error);

/// What somebody asks.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub pair: PairId,
    pub token: Option<TokenHash>,
    pub ask: Ask,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error(
        "this pair began with another token, or with none; both nodes need the token it began with"
    )]
    WrongToken,
    #[error("this witness has as many pairs as it takes ({0}); run another for this one")]
    TooManyPairs(u64),
    #[error(
        "the record of this pair is damaged, or of a newer version of tandem; run that version"
    )]
    Unreadable,
}

type Answered = Result<Option<Record>, Refusal>;

impl Register {
    /// Opens the file in `dir`; makes both if there are none.
    pub fn open(dir: &Path, pairs_max: u64) -> Result<Self, OpenError> {
        let folder = |source| OpenError::Folder { dir: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(folder)?;
        let file = dir.join(FILE);
        if !file.exists() {
            make(&file)?;
        }
        sync_folder(dir).map_err(folder)?;
        let db = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .open(&file)
            .map_err(|error| database(error, &file))?;
        // Whether it is ours.
        let read =
            || -> Result<u64, redb::Error> { Ok(db.begin_read()?.open_table(PAIRS)?.len()?) };
        let pairs = read()
            .map_err(|error| OpenError::Damaged { file: file.clone(), why: error.to_string() })?;
        tracing::info!(file = %file.display(), pairs, "the records are open");
        Ok(Self { db, pairs_max })
    }

    /// Answers all, in their order, with one commit for what they change.
    pub(super) fn ask(&self, all: &[Asked]) -> Result<Vec<Answered>, RegisterError> {
        self.answer(all).map_err(RegisterError)
    }

    fn answer(&self, all: &[Asked]) -> Result<Vec<Answered>, redb::Error> {
        let txn = self.db.begin_write()?;
        let mut answers = Vec::with_capacity(all.len());
        let mut changes = Vec::new();
        {
            let mut table = txn.open_table(PAIRS)?;
            for asked in all {
                let kept = table.get(asked.pair.0)?.map(|bytes| Kept::decode(bytes.value()));
                let is_full = table.len()? >= self.pairs_max;
                let (answer, change) = match kept {
                    Some(None) => (Err(Refusal::Unreadable), None),
                    None if is_full && matches!(asked.ask, Ask::Begin { .. }) => {
                        (Err(Refusal::TooManyPairs(self.pairs_max)), None)
                    }
                    None => decide(None, asked),
                    Some(Some(kept)) => decide(Some(&kept), asked),
                };
                if let Some(change) = change {
                    table.insert(asked.pair.0, change.encode().as_slice())?;
                    changes.push((asked.pair, change.record));
                }
                answers.push(answer);
            }
        }
        if changes.is_empty() {
            txn.abort()?;
        } else {
            txn.commit()?;
        }
        for (pair, Record { epoch, version, owner, in_sync, .. }) in changes {
            tracing::debug!(%pair, epoch, version, %owner, ?in_sync, "recorded");
        }
        Ok(answers)
    }
}

/// The answer, and what is to be kept from now on if that changes.
fn decide(kept: Option<&Kept>, asked: &Asked) -> (Answered, Option<Kept>) {
    if kept.is_some_and(|kept| !is_same(kept.token.as_ref(), asked.token.as_ref())) {
        return (Err(Refusal::WrongToken), None);
    }
    let before = kept.map(|kept| kept.record);
    match Record::after(before.as_ref(), &asked.ask) {
        Some(record) => (Ok(Some(record)), Some(Kept { record, token: asked.token })),
        None => (Ok(before), None),
    }
}

fn is_same(one: Option<&TokenHash>, other: Option<&TokenHash>) -> bool {
    // Compares in constant time.
    let output = |hash: &TokenHash| CtOutput::<Sha256>::new((*hash).into());
    match (one, other) {
        (Some(one), Some(other)) => output(one) == output(other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// Under another name that becomes the file's when it is whole: who dies here leaves a register or none.
fn make(file: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { file: file.to_owned(), source };
    let dir = file.parent().expect("it is in the data folder");
    let new = tempfile::Builder::new().prefix("witness.redb.new").tempfile_in(dir).map_err(io)?;
    let disk = new.reopen().map_err(io)?;
    let create = || -> Result<(), redb::Error> {
        let disk = redb::backends::FileBackend::new(disk)?;
        let txn = Database::builder().create_with_backend(disk)?.begin_write()?;
        txn.open_table(PAIRS)?;
        Ok(txn.commit()?)
    };
    create().map_err(|error| match error {
        redb::Error::Io(source) => io(source),
        other => OpenError::Damaged { file: file.to_owned(), why: other.to_string() },
    })?;
    new.as_file().sync_all().map_err(io)?;
    match new.persist_noclobber(file) {
        // Another process was faster; whether it still has the file shows when it is opened.
        Err(failed) if failed.error.kind() != io::ErrorKind::AlreadyExists => Err(io(failed.error)),
        _ => Ok(()),
    }
}

fn database(error: DatabaseError, file: &Path) -> OpenError {
    let file = file.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { file },
        DatabaseError::Storage(StorageError::Io(source))
            if source.kind() != io::ErrorKind::InvalidData =>
        {
            OpenError::Io { file, source }
        }
        other => OpenError::Damaged { file, why: other.to_string() },
    }
}
