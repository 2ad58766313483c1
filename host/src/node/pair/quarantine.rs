//! What this node had accepted and the other never had.

use std::{fs, io, path::PathBuf};

use bytes::Bytes;

use crate::replication::SetAside;

/// The folder of what had no place any more.
#[derive(Debug)]
pub(super) struct Quarantine {
    pub dir: PathBuf,
}

impl Quarantine {
    fn folder(&self) -> io::Result<PathBuf> {
        let folder = self.dir.join("quarantine");
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

impl SetAside for Quarantine {
    fn frame(&self, frame: &Bytes) -> io::Result<()> {
        let name = format!("{}.frame", blake3::hash(frame).to_hex());
        let file = self.folder()?.join(name);
        fs::write(&file, frame)?;
        fs::File::open(&file)?.sync_all()?;
        tracing::warn!(file = %file.display(), "a frame that the other node never had was set aside");
        Ok(())
    }

    fn store(&self) -> io::Result<()> {
        let folder = self.folder()?.join(format!("store-{}", uuid::Uuid::now_v7().simple()));
        fs::create_dir_all(&folder)?;
        for name in ["store.redb", "store.journal"] {
            let to = folder.join(name);
            fs::copy(self.dir.join(name), &to)?;
            fs::File::open(&to)?.sync_all()?;
        }
        tracing::warn!(folder = %folder.display(), "this node's own rows, which the other never had, were set aside");
        Ok(())
    }
}
