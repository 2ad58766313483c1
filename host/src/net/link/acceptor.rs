//! Waits for the other node; strangers cost little and hold nobody up.

use std::{collections::VecDeque, fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    task::{AbortHandle, JoinSet},
    time::Instant,
};
use tokio_rustls::TlsAcceptor;

use super::{
    Link,
    error::LinkError,
    handshake::{self, Purpose},
    identity::{Fingerprint, Identity},
    stranger::Stranger,
    trust::{Accepts, Trust},
};
use crate::{
    machine::{Listener, Stream},
    net::accept,
};

/// Bounds of an [`Acceptor`].
#[derive(Clone)]
pub struct AcceptorConfig {
    /// From connecting to the end of the handshake.
    pub handshake_timeout: Duration,
    /// Handshakes at once; beyond it the oldest is given up.
    pub handshakes: usize,
    /// For all that is said with one who wants to join.
    pub stranger_timeout: Duration,
    /// Between two lines in the log about handshakes that failed.
    pub complaint_interval: Duration,
    /// Whether somebody is invited now. Asked in each handshake with a key that is not pinned; should be quick.
    pub is_inviting: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// Who came.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart where it arrives")]
pub enum Arrival {
    /// One whose key is pinned.
    Peer(Link),
    /// One who wants to join, because somebody is invited.
    Stranger(Stranger),
}

/// A listener for links. Handshakes run on their own; dropping it ends them.
#[derive(Debug)]
pub struct Acceptor {
    listener: Listener,
    door: Door,
    handshake_timeout: Duration,
    handshakes: usize,
    running: JoinSet<Result<Arrival, LinkError>>,
    /// Of those that run, oldest first.
    order: VecDeque<AbortHandle>,
    complaints: Complaints,
}

/// What a handshake needs.
#[derive(Clone)]
struct Door {
    tls: TlsAcceptor,
    accepts: Accepts,
    own: Fingerprint,
    trust: Trust,
    stranger_timeout: Duration,
}

/// Handshakes that failed, told so often at most.
#[derive(Debug)]
struct Complaints {
    interval: Duration,
    last: Option<Instant>,
    untold: u64,
}

impl Acceptor {
    pub async fn bind(
        address: SocketAddr,
        identity: &Identity,
        trust: &Trust,
        config: AcceptorConfig,
    ) -> io::Result<Self> {
        let listener = Listener::bind(address).await?;
        let pins = trust.clone();
        let is_inviting = config.is_inviting;
        let accepts: Accepts = Arc::new(move |fingerprint| pins.has(fingerprint) || is_inviting());
        let door = Door {
            tls: handshake::acceptor(identity, accepts.clone()),
            accepts,
            own: identity.fingerprint(),
            trust: trust.clone(),
            stranger_timeout: config.stranger_timeout,
        };
        Ok(Self {
            listener,
            door,
            handshake_timeout: config.handshake_timeout,
            handshakes: config.handshakes.max(1),
            running: JoinSet::new(),
            order: VecDeque::new(),
            complaints: Complaints { interval: config.complaint_interval, last: None, untold: 0 },
        })
    }

    /// Shows this key to whoever comes from now on.
    pub fn present(&mut self, identity: &Identity) {
        self.door.tls = handshake::acceptor(identity, self.door.accepts.clone());
        self.door.own = identity.fingerprint();
    }

    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next one who is let in. May be dropped while it waits: handshakes go on, and nobody is lost.
    pub async fn accept(&mut self) -> Arrival {
        loop {
            let ended = tokio::select! {
                biased;
                Some(ended) = self.running.join_next() => ended,
                (stream, from) = accept::next(&self.listener) => {
                    self.order.retain(|handshake| !handshake.is_finished());
                    if self.order.len() >= self.handshakes
                        && let Some(oldest) = self.order.pop_front()
                    {
                        oldest.abort();
                    }
                    let greeted = self.door.clone().greet(stream, from, self.handshake_timeout);
                    self.order.push_back(self.running.spawn(greeted));
                    continue;
                }
            };
            match ended {
                Ok(Ok(arrival)) => return arrival,
                Ok(Err(error)) => self.complaints.tell(&error),
                Err(given_up) if given_up.is_cancelled() => {}
                Err(panic) => tracing::error!(%panic, "a handshake failed"),
            }
        }
    }
}

impl Door {
    async fn greet(
        self,
        stream: Stream,
        from: SocketAddr,
        timeout: Duration,
    ) -> Result<Arrival, LinkError> {
        let is_trusted = |fingerprint| self.trust.has(fingerprint);
        let greeted = handshake::welcome(stream, from, self.own, self.tls, is_trusted);
        let shaken = tokio::time::timeout(timeout, greeted)
            .await
            .map_err(|_| LinkError::TimedOut { address: from.to_string(), after: timeout })??;
        Ok(match shaken.purpose {
            Purpose::Pair => Arrival::Peer(Link(Box::new(shaken))),
            Purpose::Join => Arrival::Stranger(Stranger::new(shaken, self.stranger_timeout)),
        })
    }
}

impl Complaints {
    fn tell(&mut self, error: &LinkError) {
        if self.last.is_some_and(|last| last.elapsed() < self.interval) {
            self.untold += 1;
            return;
        }
        let untold = std::mem::take(&mut self.untold);
        self.last = Some(Instant::now());
        tracing::warn!(%error, untold, "a connection to the pair's address came to nothing");
    }
}

impl Default for AcceptorConfig {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(5),
            handshakes: 64,
            stranger_timeout: Duration::from_secs(10),
            complaint_interval: Duration::from_secs(30),
            is_inviting: Arc::new(|| false),
        }
    }
}

impl fmt::Debug for AcceptorConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptorConfig").finish_non_exhaustive()
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}
