//! Why there is no link, or no link any more: split by what it says about the other node.

use std::{io, net::SocketAddr, time::Duration};

use rustls::AlertDescription;

use super::{framing::TooLong, identity::Fingerprint, trust::NotPinned};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The machine lives and nobody listens: the process is gone.
    #[error("nobody listens at {address}")]
    Refused { address: String },
    /// The machine or the way to it is gone, or a firewall is silent: nothing is known of the process.
    #[error("{address} cannot be reached: {reason}")]
    Unreachable { address: String, reason: String },
    /// Somebody listens and did not answer in time, or nobody said anything at all.
    #[error("{address} did not answer within {after:?}")]
    TimedOut { address: String, after: Duration },
    /// The other has a key that is not pinned here.
    #[error("{address} has the key {seen}, which this node does not trust")]
    NotTrusted { address: String, seen: Fingerprint },
    /// The other does not pin this node's key.
    #[error("{address} does not trust this node's key, {own}")]
    NotTrustedThere { address: String, own: Fingerprint },
    /// What is there is no node of this version.
    #[error("{address} does not speak as a node of a pair: {reason}")]
    Foreign { address: String, reason: String },
    /// A message is longer than it may be. The link is of no use any more.
    #[error("a message of {length} bytes was announced; at most {most} may come")]
    TooLong { length: u32, most: u32 },
    /// The link broke; it ended without a goodbye, or in the middle of a message.
    #[error("the link is closed: {reason}")]
    Closed { reason: String },
}

impl LinkError {
    /// What went wrong while a link was made.
    pub(super) fn of_handshake(error: &io::Error, address: String, own: Fingerprint) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(why))) => {
                match why.0.downcast_ref::<NotPinned>() {
                    Some(&NotPinned(seen)) => Self::NotTrusted { address, seen },
                    None => Self::Foreign { address, reason: error.to_string() },
                }
            }
            // What the other's verifier ends a handshake with.
            Some(rustls::Error::AlertReceived(AlertDescription::CertificateUnknown)) => {
                Self::NotTrustedThere { address, own }
            }
            Some(tls) => Self::Foreign { address, reason: tls.to_string() },
            None => Self::closed(error),
        }
    }

    /// What ended a link that was there.
    pub(super) fn closed(error: &io::Error) -> Self {
        Self::Closed { reason: error.to_string() }
    }

    /// What a connection could not be made for.
    pub(super) fn of_connecting(error: &io::Error, address: SocketAddr) -> Self {
        let address = address.to_string();
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused { address },
            _ => Self::Unreachable { address, reason: error.to_string() },
        }
    }

    pub(super) fn too_long(TooLong { length }: TooLong, most: u32) -> Self {
        Self::TooLong { length, most }
    }
}
