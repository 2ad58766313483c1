//! `DATA_DIR/pair`: what a node keeps of its pair. Only its owner may read it, and every file is replaced as a whole.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    model::{clock::UnixMs, pair::PairId},
    net::link::{Fingerprint, Identity, IdentityError},
};

use super::{code::Code, invitation::Invitation, join::Refusal};

const KEY: &str = "key.pem";
/// The key that is to come, while the other node does not have it pinned for certain.
const NEXT: &str = "key-next.pem";
/// For people only: it is made from the key.
const CERTIFICATE: &str = "certificate.pem";
const PEER: &str = "peer.json";
const INVITATION: &str = "invitation";
const WITNESS_TOKEN: &str = "witness-token";
const SEALING_KEY: &str = "sealing-key";

/// The folder `pair` of a node's data.
#[derive(Debug, Clone)]
pub struct PairFolder {
    path: PathBuf,
}

/// The other node, as this one knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    #[serde(with = "hex")]
    pub pair: PairId,
    /// Its keys. Empty: nobody has joined yet.
    pub pins: Vec<Fingerprint>,
    /// Where it was when the nodes met, as `host:port`; where it is now says the configuration.
    pub address: Option<String>,
}

/// What both nodes have and nobody else.
#[derive(Clone, PartialEq, Eq)]
pub struct Shared {
    pub pair: PairId,
    /// Shown to the witness.
    pub witness_token: [u8; 32],
    /// Seals secrets.
    pub sealing_key: [u8; 32],
}

/// Why the folder is of no use.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("cannot {doing} {}: {source}", path.display())]
    File { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "{} can be read by everybody on this machine; take that away with `chmod 600`, and if somebody may have read \
         it, delete the folder it is in and join anew", path.display()
    )]
    Open { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Key { path: PathBuf, source: IdentityError },
    #[error("{} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "{} is missing, but this node belongs to a pair; restore it, or delete the folder it is in and join anew",
        path.display()
    )]
    Missing { path: PathBuf },
}

/// The folder while one process changes it.
#[derive(Debug)]
pub(super) struct Locked<'f> {
    folder: &'f PairFolder,
    _lock: File,
}

impl PairFolder {
    /// Of the node that keeps everything in `data_dir`. Nothing is looked at yet.
    pub fn of(data_dir: &Path) -> Self {
        Self { path: data_dir.join("pair") }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// This node's key, if it was made.
    pub fn identity(&self) -> Result<Option<Identity>, FolderError> {
        self.read_identity(KEY)
    }

    /// The key that is to come, if there is one.
    pub(super) fn next(&self) -> Result<Option<Identity>, FolderError> {
        self.read_identity(NEXT)
    }

    fn read_identity(&self, name: &str) -> Result<Option<Identity>, FolderError> {
        let Some(key) = self.read_secret(name)? else { return Ok(None) };
        let path = self.path.join(name);
        let identity = Identity::of_key(&String::from_utf8_lossy(&key));
        identity.map(Some).map_err(|source| FolderError::Key { path, source })
    }

    /// This node's key; made if there is none.
    pub fn identity_or_new(&self) -> Result<Identity, FolderError> {
        self.lock()?.identity_or_new()
    }

    /// The key that is to come; made if there is none.
    pub(super) fn next_or_new(&self) -> Result<Identity, FolderError> {
        let locked = self.lock()?;
        if let Some(next) = self.next()? {
            return Ok(next);
        }
        let next = Identity::generate();
        locked.write(NEXT, next.key_pem().as_bytes())?;
        Ok(next)
    }

    /// Makes the key that is to come this node's key, if it is that one.
    pub(super) fn adopt(&self, pinned: Fingerprint) -> Result<Option<Identity>, FolderError> {
        let locked = self.lock()?;
        let Some(next) = self.next()?.filter(|next| next.fingerprint() == pinned) else {
            return Ok(None);
        };
        locked.write(CERTIFICATE, next.certificate_pem().as_bytes())?;
        let renamed = fs::rename(self.path.join(NEXT), self.path.join(KEY))
            .and_then(|()| File::open(&self.path)?.sync_all());
        renamed.map_err(|error| self.error("write", KEY, error))?;
        Ok(Some(next))
    }

    /// Pins the other's next key beside the one it has; gives the pins.
    pub(super) fn pin_beside(&self, next: Fingerprint) -> Result<Vec<Fingerprint>, FolderError> {
        let locked = self.lock()?;
        let missing = || FolderError::Missing { path: self.path.join(PEER) };
        let mut peer = self.peer()?.ok_or_else(missing)?;
        if !peer.pins.contains(&next) {
            // One that was announced before and never shown counts for nothing.
            peer.pins.truncate(1);
            peer.pins.push(next);
            locked.write_peer(&peer)?;
        }
        Ok(peer.pins)
    }

    /// If `shown` is the newest of several keys that are pinned, the others are not any more; gives the pins then.
    pub(super) fn unpin_before(
        &self,
        shown: Fingerprint,
    ) -> Result<Option<Vec<Fingerprint>>, FolderError> {
        let locked = self.lock()?;
        let is_newest = |peer: &Peer| peer.pins.len() > 1 && peer.pins.last() == Some(&shown);
        let Some(mut peer) = self.peer()?.filter(is_newest) else { return Ok(None) };
        peer.pins = vec![shown];
        locked.write_peer(&peer)?;
        Ok(Some(peer.pins))
    }

    /// What is known of the other node; none before the first invitation or joining.
    pub fn peer(&self) -> Result<Option<Peer>, FolderError> {
        self.read_json(PEER)
    }

    /// What both nodes share; none before the first invitation or joining.
    pub fn shared(&self) -> Result<Option<Shared>, FolderError> {
        let Some(Peer { pair, .. }) = self.peer()? else { return Ok(None) };
        let witness_token = self.read_shared(WITNESS_TOKEN)?;
        let sealing_key = self.read_shared(SEALING_KEY)?;
        Ok(Some(Shared { pair, witness_token, sealing_key }))
    }

    pub fn invitation(&self) -> Result<Option<Invitation>, FolderError> {
        self.read_json(INVITATION)
    }

    /// Whether to talk to strangers now: somebody is invited, or was until lately and may be told so.
    pub fn is_inviting(&self, now_ms: UnixMs) -> bool {
        matches!(self.invitation(), Ok(Some(invitation)) if invitation.is_told(now_ms))
    }

    /// Invites one to come to `address`; makes what this node lacks for it. An earlier invitation is of no use any more.
    pub fn invite(
        &self,
        address: &str,
        now_ms: UnixMs,
        valid: Duration,
    ) -> Result<(Code, Invitation), FolderError> {
        let locked = self.lock()?;
        let identity = locked.identity_or_new()?;
        if self.peer()?.is_none() {
            let pair = PairId::random();
            let (witness_token, sealing_key) = (rand::random(), rand::random());
            locked.write_shared(&Shared { pair, witness_token, sealing_key })?;
            locked.write_peer(&Peer { pair, ..Peer::default() })?;
        }
        // Before anybody hears of the code: what it will hand out is there.
        self.shared()?;
        let secret = rand::random();
        let valid_ms = u64::try_from(valid.as_millis()).unwrap_or(u64::MAX);
        let invitation = Invitation::new(&secret, now_ms.saturating_add(valid_ms));
        locked.write_json(INVITATION, &invitation)?;
        let fingerprint = identity.fingerprint();
        Ok((Code { address: address.to_owned(), fingerprint, secret }, invitation))
    }

    /// Lets in who shows `secret`: the invitation is used up and the key pinned, on disk, before this returns.
    /// The other node that there was, if any, is not trusted any more.
    pub(super) fn admit(
        &self,
        secret: &[u8; 16],
        now_ms: UnixMs,
        joiner: Fingerprint,
        address: String,
    ) -> Result<Result<Shared, Refusal>, FolderError> {
        let locked = self.lock()?;
        let Some(mut invitation) = self.invitation()? else { return Ok(Err(Refusal::Wrong)) };
        if let Err(refusal) = invitation.admits(secret, now_ms) {
            return Ok(Err(refusal));
        }
        let missing = || FolderError::Missing { path: self.path.join(PEER) };
        let shared = self.shared()?.ok_or_else(missing)?;
        invitation.used = true;
        locked.write_json(INVITATION, &invitation)?;
        let peer = Peer { pair: shared.pair, pins: vec![joiner], address: Some(address) };
        locked.write_peer(&peer)?;
        Ok(Ok(shared))
    }

    /// Keeps what the one who invited has answered.
    pub(super) fn keep(
        &self,
        shared: &Shared,
        inviter: Fingerprint,
        address: String,
    ) -> Result<(), FolderError> {
        let locked = self.lock()?;
        locked.write_shared(shared)?;
        // Last: with it, this node belongs to the pair.
        locked.write_peer(&Peer { pair: shared.pair, pins: vec![inviter], address: Some(address) })
    }

    /// Waits while another process changes the folder; makes it if there is none.
    pub(super) fn lock(&self) -> Result<Locked<'_>, FolderError> {
        let failed = |source| self.error("write to", "", source);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.path);
        made.map_err(failed)?;
        let lock = File::open(&self.path).map_err(failed)?;
        lock.lock().map_err(failed)?;
        if let Some(above) = self.path.parent() {
            File::open(above).and_then(|above| above.sync_all()).map_err(failed)?;
        }
        Ok(Locked { folder: self, _lock: lock })
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, FolderError> {
        match fs::read(self.path.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error("read", name, error)),
        }
    }

    /// A file that nobody else may read. A group may: volumes of containers are made so.
    fn read_secret(&self, name: &str) -> Result<Option<Vec<u8>>, FolderError> {
        let bytes = self.read(name)?;
        let path = self.path.join(name);
        let is_open = fs::metadata(&path).is_ok_and(|file| file.permissions().mode() & 0o007 != 0);
        if bytes.is_some() && is_open { Err(FolderError::Open { path }) } else { Ok(bytes) }
    }

    fn read_shared(&self, name: &str) -> Result<[u8; 32], FolderError> {
        let path = self.path.join(name);
        let Some(bytes) = self.read_secret(name)? else {
            return Err(FolderError::Missing { path });
        };
        let read = hex::read(String::from_utf8_lossy(&bytes).trim());
        read.ok_or_else(|| FolderError::Damaged {
            path,
            reason: "it is not 64 hexadecimal digits".to_owned(),
        })
    }

    fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, FolderError> {
        let Some(bytes) = self.read(name)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| FolderError::Damaged {
            path: self.path.join(name),
            reason: error.to_string(),
        })
    }

    fn error(&self, doing: &'static str, name: &str, source: io::Error) -> FolderError {
        FolderError::File { doing, path: self.path.join(name), source }
    }
}

impl Locked<'_> {
    fn identity_or_new(&self) -> Result<Identity, FolderError> {
        if let Some(identity) = self.folder.identity()? {
            return Ok(identity);
        }
        // Another key would be trusted by nobody: that has to be meant.
        if self.folder.peer()?.is_some_and(|peer| !peer.pins.is_empty()) {
            return Err(FolderError::Missing { path: self.folder.path.join(KEY) });
        }
        let identity = Identity::generate();
        self.write(CERTIFICATE, identity.certificate_pem().as_bytes())?;
        self.write(KEY, identity.key_pem().as_bytes())?;
        Ok(identity)
    }

    fn write_shared(&self, shared: &Shared) -> Result<(), FolderError> {
        self.write(WITNESS_TOKEN, hex::write(&shared.witness_token).as_bytes())?;
        self.write(SEALING_KEY, hex::write(&shared.sealing_key).as_bytes())
    }

    fn write_peer(&self, peer: &Peer) -> Result<(), FolderError> {
        self.write_json(PEER, peer)
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), FolderError> {
        let text = serde_json::to_string_pretty(value).expect("our own types are JSON");
        self.write(name, format!("{text}\n").as_bytes())
    }

    /// The whole file, on disk, or what was there before.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FolderError> {
        let path = &self.folder.path;
        let written = || {
            let mut file = tempfile::Builder::new()
                .prefix(".new-")
                .permissions(Permissions::from_mode(0o600))
                .tempfile_in(path)?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(path.join(name))?;
            File::open(path)?.sync_all()
        };
        written().map_err(|error| self.folder.error("write", name, error))
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shared({})", self.pair)
    }
}

/// Bytes as hexadecimal digits, through the reader and writer of fingerprints.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::{Fingerprint, PairId};

    pub fn write(bytes: &[u8; 32]) -> String {
        format!("{}\n", Fingerprint(*bytes))
    }

    pub fn read(text: &str) -> Option<[u8; 32]> {
        text.parse().ok().map(|Fingerprint(bytes)| bytes)
    }

    pub fn serialize<S: Serializer>(pair: &PairId, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(pair)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PairId, D::Error> {
        let text = String::deserialize(from)?;
        let number = (text.len() == 32).then(|| u128::from_str_radix(&text, 16).ok()).flatten();
        let wrong = || D::Error::custom("a pair's id is 32 hexadecimal digits");
        number.map(|number| PairId(number.to_be_bytes())).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn folder() -> (tempfile::TempDir, PairFolder) {
        let data = tempfile::tempdir().unwrap();
        let folder = PairFolder::of(data.path());
        (data, folder)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn everything_is_there_after_the_first_invitation_and_for_nobody_else() {
        let (_data, folder) = folder();
        assert_eq!(folder.peer().unwrap(), None);
        assert!(folder.identity().unwrap().is_none() && folder.shared().unwrap().is_none());
        let (code, _) = folder.invite("a:1", 0, MINUTE).unwrap();
        assert_eq!(code.fingerprint, folder.identity().unwrap().unwrap().fingerprint());
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .inspect(|entry| assert_eq!(mode(&entry.path()), 0o600, "{entry:?}"))
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, [CERTIFICATE, INVITATION, KEY, PEER, SEALING_KEY, WITNESS_TOKEN]);
        assert_eq!(mode(folder.path()), 0o700);

        let before = (folder.peer().unwrap(), folder.shared().unwrap());
        let (again, _) = folder.invite("a:1", 0, MINUTE).unwrap();
        assert_eq!(again.fingerprint, code.fingerprint);
        assert_ne!(again.secret, code.secret);
        assert_eq!((folder.peer().unwrap(), folder.shared().unwrap()), before);
        // The newer one has taken its place.
        let joiner = Fingerprint([1; 32]);
        let late = folder.admit(&code.secret, 0, joiner, "b:1".to_owned()).unwrap();
        assert_eq!(late, Err(Refusal::Wrong));
        assert!(folder.admit(&again.secret, 0, joiner, "b:1".to_owned()).unwrap().is_ok());
        assert_eq!(folder.peer().unwrap().unwrap().pins, [joiner]);
    }

    #[test]
    fn what_others_could_read_or_what_is_damaged_is_not_used() {
        let (_data, folder) = folder();
        folder.invite("a:1", 0, MINUTE).unwrap();
        let key = folder.path().join(KEY);
        fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
        let error = folder.identity().unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
        fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
        folder.identity().unwrap().unwrap();
        fs::write(&key, "no key").unwrap();
        assert!(matches!(folder.identity(), Err(FolderError::Key { .. })));

        for (name, text) in
            [(SEALING_KEY, "ab"), (PEER, "{}"), (PEER, "{\"pair\":\"+1\",\"pins\":[]}")]
        {
            fs::write(folder.path().join(name), text).unwrap();
            let error = folder.shared().unwrap_err();
            assert!(matches!(error, FolderError::Damaged { .. }), "{error}");
        }
        fs::write(folder.path().join(INVITATION), "{").unwrap();
        assert!(!folder.is_inviting(0));
    }

    #[test]
    fn a_lost_key_of_a_pair_is_not_replaced_in_silence() {
        let (_data, folder) = folder();
        let (code, _) = folder.invite("a:1", 0, MINUTE).unwrap();
        fs::remove_file(folder.path().join(KEY)).unwrap();
        // Nobody has joined yet, so nobody misses it.
        let (anew, _) = folder.invite("a:1", 0, MINUTE).unwrap();
        assert_ne!(anew.fingerprint, code.fingerprint);
        folder.admit(&anew.secret, 0, Fingerprint([1; 32]), "b:1".to_owned()).unwrap().unwrap();
        fs::remove_file(folder.path().join(KEY)).unwrap();
        for error in
            [folder.invite("a:1", 0, MINUTE).unwrap_err(), folder.identity_or_new().unwrap_err()]
        {
            assert!(matches!(error, FolderError::Missing { .. }), "{error}");
        }
    }

    #[test]
    fn of_many_who_have_one_secret_one_gets_in() {
        let (_data, folder) = folder();
        let (code, _) = folder.invite("a:1", 0, MINUTE).unwrap();
        let admit = &|n: u8| folder.admit(&code.secret, 0, Fingerprint([n; 32]), "b:1".to_owned());
        let came: Vec<_> = std::thread::scope(|scope| {
            let joiners = [0, 1, 2, 3, 4, 5, 6, 7].map(|n| (n, scope.spawn(move || admit(n))));
            joiners.into_iter().map(|(n, joiner)| (n, joiner.join().unwrap().unwrap())).collect()
        });
        let (let_in, refused): (Vec<_>, Vec<_>) =
            came.into_iter().partition(|(_, came)| came.is_ok());
        assert!(refused.into_iter().all(|(_, came)| came == Err(Refusal::Used)));
        assert_eq!(let_in.len(), 1);
        assert_eq!(folder.peer().unwrap().unwrap().pins, [Fingerprint([let_in[0].0; 32])]);
    }
}
