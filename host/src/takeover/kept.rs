//! What a node knows of its pair, in `pair.json`: replaced whole, and on disk before it counts.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::step::Kept;

const FILE: &str = "pair.json";

#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    #[error("{} cannot be read or written: {source}", file.display())]
    Io { file: PathBuf, source: io::Error },
    #[error("{} is damaged ({source}); with the other node running, move this node's folder away: it gets everything from there", file.display())]
    Damaged { file: PathBuf, source: serde_json::Error },
}

/// Nothing, if nothing was ever kept.
pub(super) fn load(dir: &Path) -> Result<Kept, KeptError> {
    let file = dir.join(FILE);
    match fs::read(&file) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|source| KeptError::Damaged { file, source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Kept::default()),
        Err(source) => Err(KeptError::Io { file, source }),
    }
}

/// On disk when this returns.
pub(super) fn save(dir: &Path, kept: Kept) -> Result<(), KeptError> {
    let file = dir.join(FILE);
    let write = || {
        let temporary = dir.join("pair.json.new");
        let mut new = fs::File::create(&temporary)?;
        new.write_all(&serde_json::to_vec(&kept)?)?;
        new.sync_all()?;
        fs::rename(&temporary, &file)?;
        fs::File::open(dir)?.sync_all()
    };
    write().map_err(|source: io::Error| KeptError::Io { file, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::pair::{Ask, Record, StoreId};

    #[test]
    fn what_is_kept_is_read_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()).unwrap(), Kept::default());
        let record = Record::after(None, &Ask::Begin { owner: StoreId([3; 16]), epoch: 7 });
        let kept = Kept { promise: 9, record, accepted: true };
        save(dir.path(), Kept::default()).unwrap();
        save(dir.path(), kept).unwrap();
        assert_eq!(load(dir.path()).unwrap(), kept);
        fs::write(dir.path().join(FILE), b"{").unwrap();
        assert!(load(dir.path()).unwrap_err().to_string().contains("is damaged"));
    }
}
