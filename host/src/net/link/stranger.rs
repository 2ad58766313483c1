//! A link between two that do not trust each other yet: short messages, and not for long.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    error::LinkError,
    halves::{self, LinkReceiver, LinkSender},
    handshake::{self, Purpose, Shaken},
    identity::{Fingerprint, Identity},
};

/// A message of a stranger, in bytes.
const MESSAGE_MAX: u32 = 1 << 10;

/// Somebody who has proved to have a key, and nothing else. All that is said takes 10 s at most.
#[derive(Debug)]
pub struct Stranger {
    sender: LinkSender,
    receiver: LinkReceiver,
    fingerprint: Fingerprint,
    address: SocketAddr,
    until: Instant,
    patience: Duration,
}

impl Stranger {
    /// Calls at a node that waits for one to join. `is_expected` says if its key is the right one, before anything is sent.
    pub async fn dial(
        address: &str,
        identity: &Identity,
        is_expected: impl Fn(Fingerprint) -> bool + Send + Sync + 'static,
        timeout: Duration,
    ) -> Result<Self, LinkError> {
        let tls = handshake::connector(identity, Purpose::Join, Arc::new(is_expected));
        let shaken = handshake::dial(address, identity.fingerprint(), &tls, timeout).await?;
        Ok(Self::new(shaken, timeout))
    }

    pub(super) fn new(shaken: Shaken, patience: Duration) -> Self {
        let (sender, receiver) = halves::split(shaken.stream, MESSAGE_MAX);
        Self {
            sender,
            receiver,
            fingerprint: shaken.peer,
            address: shaken.peer_address,
            until: Instant::now() + patience,
            patience,
        }
    }

    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub async fn say(&mut self, kind: u8, payload: &[u8]) -> Result<(), LinkError> {
        let late = self.late();
        let said = async {
            self.sender.send(kind, &[payload]).await?;
            self.sender.flush().await
        };
        tokio::time::timeout_at(self.until, said).await.map_err(|_| late)?
    }

    /// The next message; none after a goodbye.
    pub async fn hear(&mut self) -> Result<Option<(u8, Bytes)>, LinkError> {
        let late = self.late();
        tokio::time::timeout_at(self.until, self.receiver.next()).await.map_err(|_| late)?
    }

    /// Says goodbye and waits until the other has heard it.
    pub async fn leave(mut self) {
        let left = async {
            // Whether it works out or not: nothing is left to say.
            let _ = self.sender.close().await;
            while let Ok(Some(_)) = self.receiver.next().await {}
        };
        let _ = tokio::time::timeout_at(self.until, left).await;
    }

    fn late(&self) -> LinkError {
        LinkError::TimedOut { address: self.address.to_string(), after: self.patience }
    }
}
