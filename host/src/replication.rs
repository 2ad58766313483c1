//! One link's life: the primary's journal flows to the standby, both say how they are.
//!
//! [`feed`] gives the primary's frames, or, where no journal reaches, its rows; [`receive`] takes them on the standby.
//! Which node is which is not decided here: [`Posture`] says it and may change while the link lasts.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    durability::Gate,
    lease::Lease,
    model::pair::{
        PairId, StoreId,
        talk::{Beat, Heard, Hello, PROTOCOLS, Said, Standing},
    },
    net::link::{Link, LinkError, LinkReceiver, LinkSender},
    store::{
        Store, frame,
        recover::Fate,
        replicate::{OrderError, Span},
        row::segment::SegmentKey,
    },
};

mod aside;
mod bring;
mod feed;
mod notices;
mod quarantine;
mod receive;
mod speak;
#[cfg(test)]
mod tests;
mod wire;

pub use aside::Aside;
pub use notices::{About, Notices};
pub use quarantine::{Quarantine, Report};
pub use receive::recover;
#[cfg(any(test, fuzzing))]
pub use wire::fuzz;

/// Longest message: a frame may hold a component.
const MESSAGE_MAX: u32 = 1 << 30;
/// A writer that was not seen for this long, and for several intervals, is stuck: no sign of life is sent for it.
const STUCK: Duration = Duration::from_secs(3);
/// Between two looks for missing segments.
const LOOK: Duration = Duration::from_millis(500);
/// Messages that wait to be sent.
const WAITING: usize = 64;

/// What a session says of its own node.
#[derive(Debug, Clone)]
pub struct Own {
    pub pair: PairId,
    pub store: StoreId,
    pub is_main: bool,
    pub hooks: String,
    /// Between two signs of life.
    pub interval: Duration,
    /// After so long without any the link is given up.
    pub silence: Duration,
    /// Bytes per second of what a standby lacks that is far behind; 0: no bound.
    pub copy_rate: u64,
}

/// How this node stands, for sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posture {
    pub standing: Standing,
    /// What this node's journal ends with was only accepted: nothing has been handled here since the nodes parted.
    pub accepted: bool,
}

/// All that a session works with.
#[derive(Debug, Clone)]
pub struct Session {
    pub own: Own,
    pub store: Store,
    pub gate: Arc<Gate>,
    pub lease: Arc<Lease>,
    pub posture: watch::Receiver<Posture>,
    /// Where frames go that cannot stay.
    pub quarantine: Arc<Quarantine>,
    /// What operators should know.
    pub notices: Arc<Notices>,
    /// Whoever decides on roles.
    pub heard: mpsc::Sender<Heard>,
    /// Whoever wants to know the other node.
    pub seen: Arc<watch::Sender<Option<Seen>>>,
    /// What is told beside the journal.
    pub aside: Aside,
    /// Where the link comes from.
    pub from: Option<IpAddr>,
}

/// What is heard that decides what is said: to whom it is told.
struct Tell {
    /// The segment that the other lacks.
    wanted: watch::Sender<Option<SegmentKey>>,
    /// What the other has, before rows go there.
    held: mpsc::Sender<Vec<Span>>,
    /// What became of messages that the other was brought, by the name that they were given.
    answer: mpsc::Sender<(String, Vec<Fate>)>,
}

/// … and who is told.
struct Told {
    wanted: watch::Receiver<Option<SegmentKey>>,
    held: mpsc::Receiver<Vec<Span>>,
    answers: mpsc::Receiver<(String, Vec<Fate>)>,
}

/// The other node, as it introduced itself.
#[derive(Debug, Clone)]
pub struct Seen {
    pub hello: Hello,
    pub from: Option<IpAddr>,
}

impl Seen {
    /// Where its web hooks are, as `host:port`.
    pub fn hooks(&self) -> Option<String> {
        match (self.hello.hooks.strip_prefix(':'), self.from) {
            (None, _) => Some(self.hello.hooks.clone()),
            (Some(port), Some(from)) => Some(SocketAddr::new(from, port.parse().ok()?).to_string()),
            (Some(_), None) => None,
        }
    }
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the other node said what is no message: {0}")]
    Garbled(#[from] postcard::Error),
    #[error("the other node closed the link")]
    Closed,
    /// What it said is not in order.
    #[error("{0}")]
    Unfit(String),
    /// It is not the other node of this pair, or not in a state to be.
    #[error("{0}")]
    Foreign(String),
    #[error("{}", feed::NO_ROOM)]
    NoRoom,
    #[error("the other node will have nothing to do with this one: {0}")]
    Refused(String),
    /// A newer program made its frames.
    #[error("{0}")]
    Unknown(String),
    #[error("it was silent for {0:?}")]
    Silent(Duration),
    #[error("its frames cannot be taken: {0}")]
    Frames(#[from] OrderError),
    #[error("this store cannot be read: {0}")]
    Read(#[from] crate::store::ReadError),
    #[error("the journal cannot be read: {0}")]
    Journal(#[from] std::io::Error),
    #[error("the quarantine cannot be used: {0}")]
    Quarantine(std::io::Error),
}

impl SessionError {
    /// Whether the next link will end for the same reason, as far as can be told.
    pub fn is_lasting(&self) -> bool {
        matches!(
            self,
            Self::Foreign(_)
                | Self::NoRoom
                | Self::Refused(_)
                | Self::Unknown(_)
                | Self::Quarantine(_)
        )
    }
}

impl Session {
    /// Until the link ends. Always says [`Heard::Down`] at last, without knowing whether the process is gone.
    pub async fn run(self, link: Link) -> SessionError {
        self.lease.linked();
        let (sender, receiver) = link.split(MESSAGE_MAX);
        let session = self.clone();
        let ended = self.talk(sender, receiver).await;
        session.end().await;
        ended
    }

    /// There is no link any more: what the other node has is not known, and nothing is kept for it.
    pub async fn end(&self) {
        self.gate.lost();
        self.aside.end();
        self.store.keep_after(u64::MAX);
        self.heard.send(Heard::Down { gone: false }).await.ok();
    }

    async fn talk(self, sender: LinkSender, receiver: LinkReceiver) -> SessionError {
        let (say, said) = mpsc::channel(WAITING);
        let (introduce, introduced) = watch::channel(None);
        let (want, wanted) = watch::channel(None);
        let (hold, held) = mpsc::channel(1);
        let (answer, answers) = mpsc::channel(WAITING);
        let told = Told { wanted, held, answers };
        let speaking = self.clone().speak(sender, said, introduced, told);
        let tell = Tell { wanted: want, held: hold, answer };
        let receiving = self.receive(receiver, say, introduce, tell);
        tokio::select! {
            biased;
            error = speaking => error,
            error = receiving => error,
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            protocols: PROTOCOLS,
            frames: frame::VERSIONS.1,
            pair: self.own.pair,
            store: self.own.store,
            is_main: self.own.is_main,
            hooks: self.own.hooks.clone(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            standing: self.posture.borrow().standing,
            tips: self.store.tips(),
        }
    }

    /// A sign of life, if the writer gives any.
    fn beat(&self) -> Option<Beat> {
        let stuck = STUCK.max(self.own.interval * 4);
        if self.store.counters().pulse.age() > stuck {
            return None;
        }
        let head = self.store.read().and_then(|snapshot| snapshot.head()).ok()?;
        let Posture { standing, .. } = *self.posture.borrow();
        let shown = head.position.seq;
        let (number, answers) = self.lease.say();
        let content = head.content.to_bytes();
        let (chain, last) = (head.chain, self.store.journal_head().0);
        Some(Beat { number, answers, standing, head: last, shown, chain, content })
    }

    /// Hears what the other says, until the link ends or it was silent for too long.
    async fn receive(
        self,
        receiver: LinkReceiver,
        say: mpsc::Sender<Said>,
        introduce: watch::Sender<Option<Hello>>,
        tell: Tell,
    ) -> SessionError {
        let silence = self.own.silence;
        let mut hearing = receive::Hearing::new(self, receiver, say, introduce, tell);
        let mut until = Instant::now() + silence;
        loop {
            match tokio::time::timeout_at(until, hearing.hear()).await {
                Ok(Ok(())) => until = Instant::now() + silence,
                Ok(Err(error)) => return error,
                Err(_) => return SessionError::Silent(silence),
            }
        }
    }
}
