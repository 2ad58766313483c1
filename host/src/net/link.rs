//! The link between the two nodes of a pair: messages over TLS 1.3, between keys that know each other.
//!
//! Each node has one key; the other's is pinned by its fingerprint, and nothing else of a certificate counts. What the
//! messages say is not known here.

use std::{net::SocketAddr, sync::Arc, time::Duration};

mod acceptor;
mod error;
mod framing;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod halves;
mod handshake;
mod identity;
mod stranger;
mod trust;

pub use acceptor::{Acceptor, AcceptorConfig, Arrival};
pub use error::LinkError;
pub use halves::{LinkReceiver, LinkSender};
pub use identity::{Fingerprint, Identity, IdentityError, NoFingerprint};
pub use stranger::Stranger;
pub use trust::Trust;

use handshake::{Purpose, Shaken};

/// A payload's length at most, where nothing else is said, in bytes: a frame may hold a component.
pub const MESSAGE_MAX: u32 = 1 << 30;

/// A connection to the other node; either side has the other's key pinned.
#[derive(Debug)]
pub struct Link(Box<Shaken>);

impl Link {
    /// Connects to `host:port`. There is a link once the other has let this node in.
    pub async fn dial(
        address: &str,
        identity: &Identity,
        trust: &Trust,
        timeout: Duration,
    ) -> Result<Self, LinkError> {
        let pins = trust.clone();
        let accepts = Arc::new(move |fingerprint| pins.has(fingerprint));
        let tls = handshake::connector(identity, Purpose::Pair, accepts);
        let shaken = handshake::dial(address, identity.fingerprint(), &tls, timeout).await?;
        Ok(Self(Box::new(shaken)))
    }

    /// The key that the other has proved to have.
    pub fn peer(&self) -> Fingerprint {
        self.0.peer
    }

    pub fn peer_address(&self) -> SocketAddr {
        self.0.peer_address
    }

    pub fn local_address(&self) -> SocketAddr {
        self.0.local_address
    }

    /// For sending and receiving, each on its own. A message that announces more than `most` bytes is an error.
    pub fn split(self, most: u32) -> (LinkSender, LinkReceiver) {
        halves::split(self.0.stream, most)
    }
}

#[cfg(test)]
mod tests;
