//! Accepts TCP connections, whatever befalls the machine meanwhile.

use std::{io, net::SocketAddr, time::Duration};

use crate::machine::{Listener, Stream};

/// The next connection. May be dropped while it waits; none is lost.
pub(super) async fn next(listener: &Listener) -> (Stream, SocketAddr) {
    let mut wait = Duration::from_millis(10);
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // The peer went away while it was in the backlog.
            Err(error) if is_the_peers(&error) => {}
            // Out of file descriptors or memory: they come back when connections end.
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted; trying again in {wait:?}");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(1));
            }
        }
    }
}

fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
