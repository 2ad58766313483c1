//! Links to the other node, one at a time.

use std::{io, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use super::{door::Door, pins};
use crate::{
    machine::{self, Stream},
    model::{clock::Clock, pair::talk::Heard},
    net::{
        keys::{PairFolder, Rotation},
        link::{Acceptor, Fingerprint, Link, LinkError, Trust},
    },
    node::config,
    replication::Session,
};

/// How long making a link may take.
const DIAL: Duration = Duration::from_secs(2);
/// How long asking whether the other's process is there may take.
const PROBE: Duration = Duration::from_millis(500);
/// The failover server dials; after this long without a link the main server does, too: the other may look for it in the
/// wrong place, or believe to be the main server.
const LATE: Duration = Duration::from_secs(5);
/// Between two attempts to make a link.
const DIAL_PAUSE: Duration = Duration::from_millis(20);
const DIAL_PAUSE_MAX: Duration = Duration::from_secs(1);

/// What links are made from.
pub(super) struct Links {
    pub config: Arc<config::Pair>,
    pub folder: PairFolder,
    /// This node's own keys.
    pub rotation: Rotation,
    pub trust: Trust,
    pub session: Session,
    pub clock: Clock,
    /// Why there is no link; empty while there is one.
    pub trouble: watch::Sender<String>,
}

impl Links {
    /// Makes links, one at a time, until `stop` says true.
    pub async fn run(self, acceptor: Acceptor, mut stop: watch::Receiver<bool>) {
        let (folder, trust) = (self.folder.clone(), self.trust.clone());
        let mut door = Door::new(acceptor, folder, trust, self.clock.clone());
        let work = async {
            let mut pause = DIAL_PAUSE;
            let mut told = String::new();
            let mut ended = String::new();
            let mut next = None;
            let mut own = self.rotation.own();
            loop {
                if own.has_changed().unwrap_or(false) {
                    door.present(&own.borrow_and_update());
                }
                let link = match next.take() {
                    Some(link) => link,
                    None => self.next_link(&mut door, &mut pause, &mut told).await,
                };
                next = self.talk(link, &mut door, &mut ended).await;
                if next.is_none() {
                    pause = DIAL_PAUSE;
                    told.clear();
                    self.probe().await;
                }
            }
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|&stop| stop) => {}
            () = work => {}
        }
    }

    /// Until the link ends; or the other node has made a newer one, because it has lost this.
    ///
    /// Why it cannot be, though both nodes are there, is told once; the next one is not made at once then.
    async fn talk(&self, link: Link, door: &mut Door, ended: &mut String) -> Option<Link> {
        let address = link.peer_address();
        tracing::info!(%address, "linked with the other node");
        self.trouble.send_replace(String::new());
        let mut session = self.session.clone();
        if let Ok(Some(shared)) = self.folder.shared() {
            session.own.pair = shared.pair;
        }
        session.from = Some(address.ip());
        if let Err(error) = self.meet(link.peer()).await {
            tracing::error!(error, "the pair's keys stay as they are");
        }
        let mut own = self.rotation.own();
        let mut talk = std::pin::pin!(session.run(link));
        tokio::select! {
            biased;
            Ok(()) = own.changed() => {
                // The other has pinned the new key; it wants to see it.
                self.session.end().await;
                None
            }
            error = &mut talk => {
                let why = error.to_string();
                if *ended == why && error.is_lasting() {
                    tracing::debug!(why, "the link to the other node has ended");
                } else {
                    tracing::warn!(%error, "the link to the other node has ended");
                }
                self.trouble.send_replace(why.clone());
                *ended = why;
                if error.is_lasting() {
                    tokio::time::sleep(DIAL_PAUSE_MAX).await;
                }
                None
            }
            newer = door.link() => {
                self.session.end().await;
                Some(newer)
            }
        }
    }

    /// The other's key, as it has shown it: one that it had before may be done with.
    async fn meet(&self, peer: Fingerprint) -> Result<(), String> {
        let rotation = self.rotation.clone();
        let met = machine::blocking(move || rotation.met(peer)).await;
        met.map_err(|error| error.to_string())
    }

    /// The failover server dials, the main server waits: there is never a link each way.
    async fn next_link(&self, door: &mut Door, pause: &mut Duration, told: &mut String) -> Link {
        let late = Instant::now() + LATE;
        loop {
            if self.config.main && Instant::now() < late {
                tokio::select! {
                    biased;
                    link = door.link() => return link,
                    // A process that is ending may take connections for a moment.
                    () = tokio::time::sleep(*pause) => {
                        self.probe().await;
                        self.wait_longer(pause);
                    }
                }
                continue;
            }
            tokio::select! {
                biased;
                link = door.link() => return link,
                link = self.dial(told) => {
                    if let Some(link) = link {
                        return link;
                    }
                    tokio::time::sleep(*pause).await;
                    self.wait_longer(pause);
                }
            }
        }
    }

    fn wait_longer(&self, pause: &mut Duration) {
        *pause = (*pause * 2).min(DIAL_PAUSE_MAX.min(self.config.interval));
    }

    /// Tries every way to the other node. Why none works is told once.
    async fn dial(&self, told: &mut String) -> Option<Link> {
        self.trust.replace(pins(&self.folder));
        if self.trust.pins().is_empty() {
            return None;
        }
        let own = self.rotation.own().borrow().clone();
        let mut is_gone = true;
        let mut why = Vec::new();
        for address in &self.config.peer {
            match Link::dial(address, &own, &self.trust, DIAL).await {
                Ok(link) => return Some(link),
                Err(error) => {
                    is_gone &= matches!(error, LinkError::Refused { .. });
                    why.push(error.to_string());
                }
            }
        }
        let why = why.join("; ");
        if *told != why {
            tracing::warn!(why, "there is no link to the other node; it is tried again and again");
            self.trouble.send_replace(why.clone());
            *told = why;
        }
        if is_gone {
            self.session.heard.send(Heard::Down { gone: true }).await.ok();
        }
        None
    }

    /// Asks the other's machine whether its process is there: a crash is known at once, a cut link is not.
    async fn probe(&self) {
        if self.config.peer.is_empty() {
            return;
        }
        for address in &self.config.peer {
            match tokio::time::timeout(PROBE, Stream::connect_named(address)).await {
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                _ => return,
            }
        }
        self.session.heard.send(Heard::Down { gone: true }).await.ok();
    }
}
