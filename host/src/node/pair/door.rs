//! Where the other node arrives, and whoever wants to join: answering that holds nobody up.

use tokio::task::JoinSet;

use super::pins;
use crate::{
    model::clock::Clock,
    net::{
        keys::{self, PairFolder},
        link::{Acceptor, Arrival, Identity, Link, Stranger, Trust},
    },
};

/// Who wants to join, at once; each takes 10 s at most.
const AT_ONCE: usize = 8;

pub(super) struct Door {
    acceptor: Acceptor,
    folder: PairFolder,
    trust: Trust,
    clock: Clock,
    /// Answers to those who want to join.
    joins: JoinSet<()>,
}

impl Door {
    pub fn new(acceptor: Acceptor, folder: PairFolder, trust: Trust, clock: Clock) -> Self {
        Self { acceptor, folder, trust, clock, joins: JoinSet::new() }
    }

    /// Shows this key to whoever comes from now on.
    pub fn present(&mut self, own: &Identity) {
        self.acceptor.present(own);
    }

    /// The next link that the other node makes. May be dropped while it waits: who wants to join is answered all the same.
    pub async fn link(&mut self) -> Link {
        loop {
            let arrival = tokio::select! {
                biased;
                Some(answered) = self.joins.join_next() => {
                    if let Err(panic) = answered {
                        tracing::error!(%panic, "answering somebody who wants to join failed");
                    }
                    continue;
                }
                arrival = self.acceptor.accept() => arrival,
            };
            match arrival {
                Arrival::Peer(link) => return link,
                Arrival::Stranger(stranger) if self.joins.len() < AT_ONCE => {
                    let (folder, trust) = (self.folder.clone(), self.trust.clone());
                    self.joins.spawn(answer(stranger, folder, trust, self.clock.clone()));
                }
                Arrival::Stranger(stranger) => {
                    let address = stranger.address();
                    tracing::warn!(%address, "too many want to join this pair at once");
                }
            }
        }
    }
}

async fn answer(stranger: Stranger, folder: PairFolder, trust: Trust, clock: Clock) {
    match keys::answer_join(stranger, &folder, &clock).await {
        Ok(joined) => tracing::info!(address = joined.address, "a node has joined this pair"),
        Err(error) => tracing::warn!(%error, "somebody tried to join this pair"),
    }
    trust.replace(pins(&folder));
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::net::{
        keys::join,
        link::{AcceptorConfig, LinkError},
    };

    const LONG: Duration = Duration::from_secs(30);

    /// Its key is pinned, and counts in a moment.
    async fn until_trusted(address: &str, own: &Identity, trust: &Trust) -> Link {
        loop {
            match Link::dial(address, own, trust, LONG).await {
                Err(LinkError::NotTrustedThere { .. }) => {}
                link => return link.unwrap(),
            }
        }
    }

    /// Who waits for a link here is the link that there is: nothing is heard or said on it meanwhile.
    #[tokio::test]
    async fn whoever_wants_to_join_and_says_nothing_holds_nobody_up() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (folder, joining) = (PairFolder::of(here.path()), PairFolder::of(there.path()));
        let (own, trust) = (folder.identity_or_new().unwrap(), Trust::default());
        let config = AcceptorConfig {
            is_inviting: Arc::new(|| true),
            stranger_timeout: LONG * 10,
            ..AcceptorConfig::default()
        };
        let anywhere = "127.0.0.1:0".parse().unwrap();
        let acceptor = Acceptor::bind(anywhere, &own, &trust, config).await.unwrap();
        let address = acceptor.local_address().unwrap().to_string();
        let clock = Clock::manual(1);
        let (code, _) = folder.invite(&address, clock.now_ms(), LONG).unwrap();
        let mut door = Door::new(acceptor, folder, trust, clock);

        let guests = async {
            let mut silent = Vec::new();
            for _ in 1..AT_ONCE {
                let guest = Stranger::dial(&address, &Identity::generate(), |_| true, LONG).await;
                silent.push(guest.unwrap());
            }
            join(&code, &joining, 1, LONG).await.unwrap();
            let joined = joining.identity().unwrap().unwrap();
            let link = until_trusted(&address, &joined, &Trust::of([own.fingerprint()])).await;
            (silent, joined.fingerprint(), link)
        };
        let met = async { tokio::join!(door.link(), guests) };
        let met = tokio::time::timeout(LONG, met).await;
        let (link, (_silent, joined, _link)) = met.expect("somebody is held up");
        assert_eq!(link.peer(), joined);
    }
}
