//! Another key for a node, while its pair runs: the other pins the new one beside the old, then the old is done with.
//!
//! ```text
//! this node                               the other
//! key-next.pem is on disk
//!            ── the new fingerprint ──▶   pins are [old, new], on disk
//!            ◀── pinned ──
//! key-next.pem becomes key.pem
//!            ── a link with the new key ▶ pins are [new], on disk
//! ```
//!
//! A crash anywhere leaves a key that the other has pinned, and what is left is done on the next link.

use std::sync::Arc;

use tokio::sync::watch;

use super::folder::{FolderError, PairFolder};
use crate::net::link::{Fingerprint, Identity, Trust};

/// The keys of a node that runs. Clones share them.
#[derive(Debug, Clone)]
pub struct Rotation {
    folder: PairFolder,
    /// The other's keys.
    trust: Trust,
    /// What links are made with.
    own: Arc<watch::Sender<Identity>>,
    /// The key that is to come: told to the other on each link until it has pinned it.
    next: Arc<watch::Sender<Option<Fingerprint>>>,
}

impl Rotation {
    /// With what is on the disk.
    pub fn new(folder: &PairFolder, own: Identity, trust: &Trust) -> Result<Self, FolderError> {
        let next = folder.next()?.map(|next| next.fingerprint());
        Ok(Self {
            folder: folder.clone(),
            trust: trust.clone(),
            own: Arc::new(watch::Sender::new(own)),
            next: Arc::new(watch::Sender::new(next)),
        })
    }

    /// What links are made with.
    pub fn own(&self) -> watch::Receiver<Identity> {
        self.own.subscribe()
    }

    pub fn next(&self) -> watch::Receiver<Option<Fingerprint>> {
        self.next.subscribe()
    }

    /// Begins, or goes on with what was begun; gives the new key. Blocks.
    pub fn begin(&self) -> Result<Fingerprint, FolderError> {
        let next = self.folder.next_or_new()?.fingerprint();
        self.next.send_replace(Some(next));
        Ok(next)
    }

    /// The other's new key, from now on beside the one it has; on disk when this returns. Blocks.
    pub fn pin(&self, next: Fingerprint) -> Result<(), FolderError> {
        self.trust.replace(self.folder.pin_beside(next)?);
        Ok(())
    }

    /// The other has pinned this node's new key: it is the key from now on. Blocks.
    pub fn adopt(&self, pinned: Fingerprint) -> Result<(), FolderError> {
        if let Some(identity) = self.folder.adopt(pinned)? {
            tracing::info!(key = %pinned, "this node has a new key, and the other knows it");
            self.next.send_replace(None);
            self.own.send_replace(identity);
        }
        Ok(())
    }

    /// The other has shown this key on a link: if it is the newest that is pinned, older ones are refused from now on.
    /// Blocks.
    pub fn met(&self, peer: Fingerprint) -> Result<(), FolderError> {
        if let Some(pins) = self.folder.unpin_before(peer)? {
            tracing::info!(key = %peer, "the other node shows its new key: the one before is refused from now on");
            self.trust.replace(pins);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Whatever was done last before a crash: the key that is used is one that is pinned.
    #[test]
    fn a_crash_between_any_two_steps_leaves_a_pair() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (a, b) = (PairFolder::of(a.path()), PairFolder::of(b.path()));
        let (code, _) = a.invite("a:1", 0, Duration::from_mins(1)).unwrap();
        let joiner = b.identity_or_new().unwrap().fingerprint();
        let shared = a.admit(&code.secret, 0, joiner, "b:1".to_owned()).unwrap().unwrap();
        b.keep(&shared, code.fingerprint, "a:1".to_owned()).unwrap();
        // Each time anew from the disk, as after a crash.
        let of = |folder: &PairFolder| {
            let pins = folder.peer().unwrap().unwrap().pins;
            let own = folder.identity().unwrap().unwrap();
            Rotation::new(folder, own, &Trust::of(pins)).unwrap()
        };
        let is_known = || {
            let own = a.identity().unwrap().unwrap().fingerprint();
            assert!(b.peer().unwrap().unwrap().pins.contains(&own));
            own
        };
        let old = is_known();
        let next = of(&a).begin().unwrap();
        assert_eq!(is_known(), old);
        assert_eq!(*of(&a).next().borrow(), Some(next), "it goes on with it");
        assert_eq!(of(&a).begin().unwrap(), next, "asked twice, it is one key");
        // What nobody has pinned is not used.
        of(&a).adopt(Fingerprint([9; 32])).unwrap();
        assert_eq!(is_known(), old);
        of(&b).pin(next).unwrap();
        of(&b).pin(next).unwrap();
        assert_eq!(b.peer().unwrap().unwrap().pins, [old, next]);
        of(&b).met(old).unwrap();
        assert_eq!(b.peer().unwrap().unwrap().pins, [old, next], "the old one still counts");
        let rotation = of(&a);
        rotation.adopt(next).unwrap();
        assert_eq!(rotation.own().borrow().fingerprint(), next);
        assert_eq!((is_known(), *rotation.next().borrow()), (next, None));
        assert_eq!(*of(&a).next().borrow(), None);
        let met = of(&b);
        met.met(next).unwrap();
        assert_eq!((met.trust.pins(), b.peer().unwrap().unwrap().pins), (vec![next], vec![next]));
        assert_eq!(is_known(), next);
    }
}
