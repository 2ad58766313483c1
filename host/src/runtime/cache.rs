//! Compiled code on disk, so that a restart does not compile again. A cache: losing it costs time, nothing else.
//!
//! A file is named by the component and by the engine that compiled it. It begins with a BLAKE3 hash over both names
//! and the code, and only bytes that were hashed are ever mapped, so damage is noticed. Against someone who may write
//! here a key beside the files would not help; the folder is the node's own (mode 0700) and code is never taken from
//! a network or a backup.

use std::{
    fs::{self, DirBuilder, Permissions},
    hash::{Hash, Hasher},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;
use wasmtime::component::Component;

use crate::model::name::Digest;

const MAGIC: &[u8; 16] = b"tandem compiled\n";
const HASH_BYTES: usize = 32;
const SUFFIX: &str = ".compiled";

/// The folder cannot be trusted or used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("the folder for compiled code {path:?} cannot be used: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("the folder for compiled code {path:?} belongs to another user (uid {owner})")]
    Owner { path: PathBuf, owner: u32 },
}

#[derive(Debug)]
pub(super) struct Cache {
    dir: PathBuf,
    /// What the engine's settings, version and processor come to: other code does not run in it.
    engine_hash: u64,
}

impl Cache {
    pub(super) fn open(dir: &Path, engine: &wasmtime::Engine) -> Result<Self, CacheError> {
        let io = |error| CacheError::Io { path: dir.to_owned(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        let owner = fs::metadata(dir).map_err(io)?.uid();
        if owner != rustix::process::geteuid().as_raw() {
            return Err(CacheError::Owner { path: dir.to_owned(), owner });
        }
        fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(io)?;
        let mut hasher = std::hash::DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let cache = Self { dir: dir.to_owned(), engine_hash: hasher.finish() };
        cache.forget_other_engines().map_err(io)?;
        Ok(cache)
    }

    /// The component, if its code is here and whole.
    pub(super) fn get(&self, engine: &wasmtime::Engine, digest: Digest) -> Option<Component> {
        let path = self.path(digest);
        let file = match fs::read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(?path, %error, "compiled code cannot be read; compiling again");
                return None;
            }
        };
        let Some(code) = self.verified(digest, &file) else {
            tracing::warn!(?path, "compiled code is damaged; compiling again");
            return None;
        };
        #[expect(unsafe_code, reason = "machine code cannot be checked, only its origin")]
        // SAFETY: the code was made by `Component::serialize` of an engine with the same compatibility hash: `put`
        // writes nothing else, the hash shows that these very bytes are what it wrote for this component and
        // engine, and only this user may write into the folder. They are copied, so that a later change of the
        // file changes nothing.
        let component = unsafe { Component::deserialize(engine, code) };
        component
            .inspect_err(|error| tracing::warn!(?path, %error, "compiled code does not load; compiling again"))
            .ok()
    }

    /// Keeps the code. A failure is told and costs only time.
    pub(super) fn put(&self, digest: Digest, component: &Component) {
        let written = component
            .serialize()
            .map_err(io::Error::other)
            .and_then(|code| self.write(digest, &code));
        if let Err(error) = written {
            tracing::warn!(%digest, %error, "compiled code could not be kept");
        }
    }

    fn write(&self, digest: Digest, code: &[u8]) -> io::Result<()> {
        let mut file = NamedTempFile::new_in(&self.dir)?;
        file.write_all(MAGIC)?;
        file.write_all(self.hash(digest, code).as_bytes())?;
        file.write_all(code)?;
        file.as_file().sync_all()?;
        file.persist(self.path(digest)).map_err(|error| error.error)?;
        Ok(())
    }

    fn verified<'a>(&self, digest: Digest, file: &'a [u8]) -> Option<&'a [u8]> {
        let (hash, code) = file.strip_prefix(MAGIC)?.split_at_checked(HASH_BYTES)?;
        let hash: [u8; HASH_BYTES] = hash.try_into().ok()?;
        (self.hash(digest, code) == hash).then_some(code)
    }

    fn hash(&self, digest: Digest, code: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&digest.0).update(&self.engine_hash.to_be_bytes()).update(code);
        hasher.finalize()
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.dir.join(format!("{digest}-{:016x}{SUFFIX}", self.engine_hash))
    }

    /// Removes what another version or other settings left behind.
    fn forget_other_engines(&self) -> io::Result<()> {
        let own = format!("-{:016x}{SUFFIX}", self.engine_hash);
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(SUFFIX) && !name.ends_with(&own) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}
