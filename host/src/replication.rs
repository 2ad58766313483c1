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
    model::pair::{
        PairId, StoreId,
        talk::{Beat, Heard, Hello, PROTOCOLS, Said, Standing},
    },
    net::link::{Link, LinkError, LinkReceiver, LinkSender},
    store::{
        Store, frame,
        replicate::{OrderError, Span},
        row::segment::SegmentKey,
    },
};

mod aside;
mod feed;
mod notices;
mod quarantine;
mod receive;
mod speak;
mod wire;

pub use aside::Aside;
pub use notices::{About, Notices};
pub use quarantine::{Quarantine, Report};
pub use receive::recover;

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
    /// Bytes per second of what a standby lacks that is far behind; 0: no bound.
    pub copy_rate: u64,
}

/// How this node stands, for sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posture {
    pub standing: Standing,
}

/// All that a session works with.
#[derive(Debug, Clone)]
pub struct Session {
    pub own: Own,
    pub store: Store,
    pub gate: Arc<Gate>,
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
}

impl SessionError {
    /// Whether the next link will end for the same reason, as far as can be told.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::Foreign(_) | Self::NoRoom | Self::Refused(_) | Self::Unknown(_))
    }
}

impl Session {
    /// Until the link ends. Always says [`Heard::Down`] at last, without knowing whether the process is gone.
    pub async fn run(self, link: Link) -> SessionError {
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
        let speaking = self.clone().speak(sender, said, introduced, (wanted, held));
        let receiving = self.receive(receiver, say, introduce, (want, hold));
        tokio::select! {
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
        let Posture { standing } = *self.posture.borrow();
        let shown = head.position.seq;
        let content = head.content.to_bytes();
        let (chain, last) = (head.chain, self.store.journal_head().0);
        Some(Beat { standing, head: last, shown, chain, content })
    }

    async fn say_beat(&self, sender: &mut LinkSender) -> Result<(), SessionError> {
        match self.beat() {
            Some(beat) => wire::say(sender, &Said::Beat(beat)).await,
            None => Ok(()),
        }
    }

    async fn say_aside(
        &self,
        said: Option<Said>,
        sender: &mut LinkSender,
    ) -> Result<(), SessionError> {
        match said {
            Some(said) => wire::say(sender, &said).await,
            None => self.say_beat(sender).await,
        }
    }

    /// Says what there is to say: who this is, signs of life, answers, and, as the primary, its frames.
    async fn speak(
        self,
        mut sender: LinkSender,
        mut answers: mpsc::Receiver<Said>,
        mut introduced: watch::Receiver<Option<Hello>>,
        (mut wanted, mut held): (watch::Receiver<Option<SegmentKey>>, mpsc::Receiver<Vec<Span>>),
    ) -> SessionError {
        let mut posture = self.posture.clone();
        let mut beats = tokio::time::interval(self.own.interval);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = None;
        // Recovered messages that were brought and not answered yet.
        let mut brought = None;
        // When the archive was looked through last.
        let mut looked = None;
        let mut feed = feed::Feed::None;
        let mut aside = self.aside.saying();
        loop {
            let standing = posture.borrow_and_update().standing;
            let outcome = async {
                let before = told.replace(standing);
                let is_same =
                    |then: Standing| (then.role, then.epoch) == (standing.role, standing.epoch);
                if !before.is_some_and(is_same) {
                    wire::say(&mut sender, &Said::Hello(Box::new(self.hello()))).await?;
                    feed = self.plan(standing, &introduced, &mut sender).await?;
                } else if before != Some(standing) {
                    // At once: a standby that does not know that it is in sync cannot take over.
                    self.say_beat(&mut sender).await?;
                }
                sender.flush().await?;
                tokio::select! {
                    biased;
                    Some(said) = answers.recv() => {
                        let again = matches!(said, Said::Hello(_));
                        let said = if again { Said::Hello(Box::new(self.hello())) } else { said };
                        wire::say(&mut sender, &said).await?;
                    }
                    Ok(()) = posture.changed() => {}
                    Ok(()) = wanted.changed() => {
                        let key = *wanted.borrow_and_update();
                        self.give_segment(key, &mut sender).await?;
                    }
                    Some(spans) = held.recv() => {
                        // An answer to what was asked before this was: it has begun.
                        if matches!(feed, feed::Feed::Asked) {
                            feed = feed::Feed::rows(&self.store, spans, self.own.copy_rate);
                        }
                    }
                    Ok(()) = introduced.changed() => {
                        feed = self.plan(standing, &introduced, &mut sender).await?;
                    }
                    _ = beats.tick() => {
                        self.say_beat(&mut sender).await?;
                        if standing.role == Role::Standby && is_led(&introduced) {
                            self.bring(&mut sender, &mut brought).await?;
                            self.ask_for_segment(&mut sender, &mut looked).await?;
                        }
                    }
                    said = aside.next() => self.say_aside(said, &mut sender).await?,
                    part = feed.next(&self.store, &self.gate) => match part? {
                        feed::Part::Frame(before, frame) => {
                            let place = (standing.epoch, self.gate.look().shown);
                            wire::frame(&mut sender, place, before, &frame).await?;
                        }
                        feed::Part::Rows(rows) => {
                            if matches!(rows, Installing::Done(_)) {
                                self.notices.clear(About::Rows);
                            }
                            wire::rows(&mut sender, &rows).await?;
                        }
                        feed::Part::Lost => {
                            let rows = Said::Rows {
                                epoch: standing.epoch,
                                diverged: false,
                                common: 0,
                            };
                            self.has_room()?;
                            tracing::warn!("{}", feed::LOST);
                            self.notices.set(About::Rows, feed::LOST);
                            wire::say(&mut sender, &rows).await?;
                            feed = feed::Feed::Asked;
                        }
                    },
                }
                Ok(())
            };
            if let Err(error) = outcome.await {
                return error;
            }
        }
    }

    /// Brings the primary what this node had accepted and that one may not have.
    async fn bring(
        &self,
        sender: &mut LinkSender,
        brought: &mut Option<String>,
    ) -> Result<(), SessionError> {
        let pending = self.quarantine.pending()?;
        if let Some(name) = pending.filter(|name| brought.as_ref() != Some(name)) {
            let messages = self.quarantine.packed(&name)?;
            wire::recovered(sender, &name, &messages).await?;
            *brought = Some(name);
        }
        Ok(())
    }

    /// The file that the other lacks, if it is here.
    async fn give_segment(
        &self,
        key: Option<SegmentKey>,
        sender: &mut LinkSender,
    ) -> Result<(), SessionError> {
        let Some(key) = key else { return Ok(()) };
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || store.archive().file(key)).await {
            Ok(Ok(file)) => wire::segment(sender, key, &file).await,
            // Its time may be over.
            Ok(Err(error)) => {
                tracing::debug!(%error, ?key, "the other node lacks a segment that is not here");
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    /// Says which file of the archive is missing here, now and then.
    async fn ask_for_segment(
        &self,
        sender: &mut LinkSender,
        looked: &mut Option<Instant>,
    ) -> Result<(), SessionError> {
        if looked.is_some_and(|at| at.elapsed() < LOOK) {
            return Ok(());
        }
        *looked = Some(Instant::now());
        let store = self.store.clone();
        let look = move || store.clean_archive().and_then(|()| store.missing_segment());
        let missing = tokio::task::spawn_blocking(look).await;
        let Ok(Ok(Some(key))) = missing else { return Ok(()) };
        wire::say(sender, &Said::Lacks { segment: key.to_bytes().to_vec() }).await
    }

    /// What the other node is to be fed with, as it introduced itself last.
    async fn plan(
        &self,
        own: Standing,
        introduced: &watch::Receiver<Option<Hello>>,
        sender: &mut LinkSender,
    ) -> Result<feed::Feed, SessionError> {
        let Some(hello) = introduced.borrow().clone() else { return Ok(feed::Feed::None) };
        if own.role != Role::Primary || hello.standing.role == Role::Primary {
            return Ok(feed::Feed::None);
        }
        let (feed, said) = feed::plan(&self.store, &self.gate, own.epoch, &hello.tips);
        if let Some(said) = said {
            if matches!(said, Said::Rows { .. }) {
                self.has_room()?;
            }
            wire::say(sender, &said).await?;
        }
        Ok(feed)
    }

    /// While rows are given, what they were and the frames since are kept.
    fn has_room(&self) -> Result<(), SessionError> {
        match self.store.disk_low() {
            None => Ok(()),
            Some(_) => {
                self.notices.set(About::Rows, feed::NO_ROOM);
                Err(SessionError::NoRoom)
            }
        }
    }

    /// Hears what the other says, until the link ends or it was silent for too long.
    async fn receive(
        self,
        receiver: LinkReceiver,
        say: mpsc::Sender<Said>,
        introduce: watch::Sender<Option<Hello>>,
        (want, hold): (watch::Sender<Option<SegmentKey>>, mpsc::Sender<Vec<Span>>),
    ) -> SessionError {
        // Long enough that a standby decides first whether it takes over.
        let silence = (self.own.interval * 20).max(Duration::from_secs(5));
        let mut hearing = receive::Hearing::new(self, receiver, say, introduce, (want, hold));
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
