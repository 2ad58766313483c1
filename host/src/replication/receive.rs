//! What a node hears on a link, and what it does with frames and rows.

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use super::{Seen, Session, SessionError, wire};
use crate::{
    model::{
        pair::{
            Role,
            talk::{Beat, Heard, Hello, PROTOCOLS, Said},
        },
        position::{Chain, Position},
    },
    net::link::LinkReceiver,
    store::{
        Store,
        change::recover::Recover,
        content::Content,
        frame,
        recover::{Aside, Fate},
        replicate::{Installing, OrderError, Span},
        row::segment::SegmentKey,
    },
};

/// Frames that are taken together, in bytes.
const TOGETHER: usize = 4 << 20;
/// Parts of rows between the link and the store.
const AHEAD: usize = 2;

/// Rows on their way into the store.
struct Install {
    rows: mpsc::Sender<Installing>,
    /// One task.
    done: JoinSet<Result<(), OrderError>>,
}

pub(super) struct Hearing {
    session: Session,
    receiver: LinkReceiver,
    say: mpsc::Sender<Said>,
    introduce: watch::Sender<Option<Hello>>,
    /// The segment that the other lacks.
    wanted: watch::Sender<Option<SegmentKey>>,
    /// What the other has, before rows go there.
    held: mpsc::Sender<Vec<Span>>,
    install: Option<Install>,
    /// The epoch of the primary whose rows come, and whether they are to replace what is no past of theirs.
    rows_of: Option<(u64, bool)>,
    /// Came while frames were gathered.
    put_back: Option<(u8, Bytes)>,
    /// The other's messages on their way in: that takes what is heard meanwhile.
    recovering: JoinSet<Option<(String, Vec<Fate>)>>,
}

impl Hearing {
    pub fn new(
        session: Session,
        receiver: LinkReceiver,
        say: mpsc::Sender<Said>,
        introduce: watch::Sender<Option<Hello>>,
        (wanted, held): (watch::Sender<Option<SegmentKey>>, mpsc::Sender<Vec<Span>>),
    ) -> Self {
        Self {
            session,
            receiver,
            say,
            introduce,
            wanted,
            held,
            install: None,
            rows_of: None,
            put_back: None,
            recovering: JoinSet::new(),
        }
    }

    /// The next message, and what follows from it.
    pub async fn hear(&mut self) -> Result<(), SessionError> {
        let (kind, payload) = if let Some(message) = self.put_back.take() {
            message
        } else {
            tokio::select! {
                message = self.receiver.next() => message?.ok_or(SessionError::Closed)?,
                Some(recovered) = self.recovering.join_next() => {
                    if let Ok(Some((name, fates))) = recovered {
                        let fates = fates.into_iter().map(Fate::number).collect();
                        self.say.send(Said::Recovered { name, fates }).await.ok();
                    }
                    return Ok(());
                }
            }
        };
        match kind {
            wire::SAID => self.take_in(postcard::from_bytes(&payload)?).await,
            wire::FRAME => self.take_frames(&payload).await,
            wire::ROWS => self.take_rows(&payload).await,
            wire::SEGMENT => self.take_segment(&payload).await,
            wire::RECOVERED => self.take_recovered(&payload),
            other => Err(SessionError::Unfit(format!("messages of kind {other} are not known"))),
        }
    }

    async fn take_in(&mut self, said: Said) -> Result<(), SessionError> {
        match said {
            Said::Hello(hello) => {
                if let Err(why) = self.check(&hello) {
                    self.say.send(Said::Refused(why.clone())).await.ok();
                    // Long enough to be sent.
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    return Err(SessionError::Unfit(why));
                }
                self.tell(Heard::Hello(hello.clone())).await;
                let Session { seen, from, .. } = &self.session;
                seen.send_replace(Some(Seen { hello: (*hello).clone(), from: *from }));
                self.introduce.send_replace(Some(*hello));
            }
            Said::Beat(beat) => {
                self.tell(Heard::Beat(beat)).await;
                self.follow(&beat).await?;
            }
            Said::Has { epoch, seq, chain } => {
                if self.session.store.chain_at(seq) != Some(chain) {
                    let why = format!("it has another frame {seq} than this node");
                    return Err(SessionError::Unfit(why));
                }
                self.session.gate.has(epoch, seq);
            }
            Said::Cut { epoch } if !self.obeys(epoch).await => {}
            Said::Rows { epoch, .. } if !self.obeys(epoch).await => self.rows_of = None,
            Said::Cut { .. } => {
                // Set aside first: whatever happens then, it is somewhere.
                if let Some(frame) = self.session.store.unshown()? {
                    self.session.quarantine.take_frame(&frame)?;
                    self.session.store.cut_last().await?;
                }
                // Introduces itself again, by where the journal ends now.
                let again = Said::Hello(Box::new(self.session.hello()));
                self.say.send(again).await.ok();
            }
            Said::Rows { epoch, diverged, common } => {
                // Of another moment than those that may have begun to come.
                self.install = None;
                self.rows_of = Some((epoch, diverged));
                tracing::info!(
                    diverged,
                    "the other node's journal does not reach back far enough: taking its rows"
                );
                if diverged && self.session.store.journal_head().0.seq > 0 {
                    let quarantine = self.session.quarantine.clone();
                    tokio::task::spawn_blocking(move || quarantine.take_store(common))
                        .await
                        .unwrap_or_else(|error| Err(std::io::Error::other(error)))?;
                }
                self.install = Some(self.begin_install());
            }
            Said::Holds { spans } => {
                self.held.send(wire::read_holds(&spans)?).await.ok();
            }
            Said::Lacks { segment } => {
                let wanted = SegmentKey::from_bytes(&segment);
                self.wanted.send_replace(wanted);
            }
            Said::Recovered { name, fates } => {
                let fates: Vec<_> = fates.into_iter().filter_map(Fate::of_number).collect();
                self.session.quarantine.settle(&name, &fates)?;
            }
            Said::Refused(why) => return Err(SessionError::Refused(why)),
            said @ (Said::Ready(_)
            | Said::WhatTime { .. }
            | Said::Time { .. }
            | Said::NewKey { .. }
            | Said::Pinned { .. }) => {
                if let Some(answer) = self.session.aside.hear(said).await {
                    self.say.send(answer).await.ok();
                }
            }
        }
        Ok(())
    }

    async fn tell(&self, heard: Heard) {
        self.session.heard.send(heard).await.ok();
    }

    /// Whether the other is the other node of this pair.
    fn check(&self, hello: &Hello) -> Result<(), String> {
        let own = &self.session.own;
        if hello.pair != own.pair {
            return Err(format!("it belongs to pair {}, this node to {}", hello.pair, own.pair));
        }
        if hello.store == own.store {
            return Err(format!(
                "both have the store {}: one is a copy of the other; move the copy's folder away, and it gets its rows \
                 from the other node",
                own.store
            ));
        }
        if hello.is_main == own.is_main {
            let which = if own.is_main { "both are" } else { "neither is" };
            return Err(format!(
                "{which} the main server: set `main = true` in [pair] of just one"
            ));
        }
        if hello.protocols.0 > PROTOCOLS.1 || hello.protocols.1 < PROTOCOLS.0 {
            return Err(format!(
                "it speaks protocol {} to {}, this node {} to {}; upgrade the older one ({} and {})",
                hello.protocols.0,
                hello.protocols.1,
                PROTOCOLS.0,
                PROTOCOLS.1,
                hello.program,
                env!("CARGO_PKG_VERSION"),
            ));
        }
        if hello.frames < frame::VERSION {
            return Err(format!("its program {} cannot read this one's frames", hello.program));
        }
        Ok(())
    }

    /// As a standby: shows what the primary shows, and compares.
    async fn follow(&self, beat: &Beat) -> Result<(), SessionError> {
        let posture = *self.session.posture.borrow();
        let leads = beat.standing.role == Role::Primary;
        if !leads || posture.standing.role != Role::Standby || self.install.is_some() {
            return Ok(());
        }
        if beat.standing.epoch < posture.standing.epoch {
            return Ok(());
        }
        // Journals of the same length may differ; what follows then is taken anew.
        if self.session.store.chain_at(beat.shown) != Some(beat.chain) {
            return Ok(());
        }
        self.session.store.take(Vec::new(), beat.shown).await?;
        let head = self.session.store.read()?.head()?;
        if head.position.seq == beat.shown && head.content.to_bytes() != beat.content {
            let theirs = Content::from_bytes(beat.content);
            tracing::error!(
                position = %head.position, ours = %head.content, %theirs,
                "the stores differ although their journals do not: stop the standby, and move its folder away but for `pair`, so that it gets everything anew"
            );
        }
        Ok(())
    }

    /// Takes a frame and those that have come right behind it.
    async fn take_frames(&mut self, payload: &Bytes) -> Result<(), SessionError> {
        let first = wire::read_frame(payload)?;
        let (epoch, mut shown) = (first.epoch, first.shown);
        let mut bytes = first.frame.len();
        let mut frames = vec![(first.before, first.frame)];
        while bytes < TOGETHER {
            let Some(more) = self.already().await? else { break };
            if more.0 != wire::FRAME {
                self.put_back = Some(more);
                break;
            }
            let more = wire::read_frame(&more.1)?;
            bytes += more.frame.len();
            shown = shown.max(more.shown);
            frames.push((more.before, more.frame));
        }
        if !self.obeys(epoch).await {
            // Of one who does not know yet that it is primary no more.
            return Ok(());
        }
        let (position, chain) = self.session.store.take(frames, shown).await?;
        self.has(epoch, position, chain).await;
        Ok(())
    }

    /// A message that is here already.
    async fn already(&mut self) -> Result<Option<(u8, Bytes)>, SessionError> {
        tokio::select! {
            biased;
            message = self.receiver.next() => Ok(Some(message?.ok_or(SessionError::Closed)?)),
            () = std::future::ready(()) => Ok(None),
        }
    }

    /// Whether this node follows the primary of that epoch. What it is to obey it has promised first, on its disk.
    async fn obeys(&self, epoch: u64) -> bool {
        let mut posture = self.session.posture.clone();
        let promised = posture.wait_for(|posture| posture.standing.epoch >= epoch).await;
        promised.is_ok_and(|posture| {
            posture.standing.epoch == epoch && posture.standing.role != Role::Primary
        })
    }

    async fn has(&self, epoch: u64, position: Position, chain: Chain) {
        self.say.send(Said::Has { epoch, seq: position.seq, chain }).await.ok();
    }

    async fn take_segment(&mut self, payload: &Bytes) -> Result<(), SessionError> {
        let (key, _) = wire::read_segment(payload)?;
        let (store, payload) = (self.session.store.clone(), payload.clone());
        let installed = tokio::task::spawn_blocking(move || {
            let (key, file) = wire::read_segment(&payload)?;
            let installed = store.archive().install(key, file);
            installed.map_err(|error| SessionError::Unfit(error.to_string()))?;
            Ok::<_, SessionError>(store.missing_segment()?)
        });
        match installed.await {
            Ok(Ok(Some(next))) => {
                let segment = next.to_bytes().to_vec();
                self.say.send(Said::Lacks { segment }).await.ok();
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, ?key, "a segment of the other node was not taken");
            }
            Ok(Ok(None)) | Err(_) => {}
        }
        Ok(())
    }

    /// As the primary: takes in what the other had accepted while the nodes were apart.
    fn take_recovered(&mut self, payload: &Bytes) -> Result<(), SessionError> {
        let (name, aside) = wire::read_recovered(payload)?;
        let store = self.session.store.clone();
        self.recovering.spawn(async move {
            match recover(&store, aside).await {
                Ok(fates) => Some((name, fates)),
                Err(error) => {
                    // It is brought again on the next link.
                    tracing::warn!(%error, "messages of the other node were not taken in");
                    None
                }
            }
        });
        Ok(())
    }

    /// Lets rows come into the store, and says what is there already.
    fn begin_install(&self) -> Install {
        let (rows, parts) = mpsc::channel(AHEAD);
        let (tell, told) = oneshot::channel::<Vec<Span>>();
        let (store, say) = (self.session.store.clone(), self.say.clone());
        let mut done = JoinSet::new();
        done.spawn(async move {
            let say_what_is_here = async {
                let Ok(spans) = told.await else { return };
                let bytes: u64 = spans.iter().map(|span| span.bytes).sum();
                tracing::info!(bytes, "of the other node's rows those come that are not here already");
                if let Ok(holds) = wire::holds(&spans) {
                    say.send(holds).await.ok();
                }
            };
            tokio::join!(store.install(parts, tell), say_what_is_here).0
        });
        Install { rows, done }
    }

    async fn take_rows(&mut self, payload: &[u8]) -> Result<(), SessionError> {
        let part = wire::read_rows(payload)?;
        let Some((epoch, diverged)) = self.rows_of else { return Ok(()) };
        if !self.obeys(epoch).await {
            (self.install, self.rows_of) = (None, None);
            return Ok(());
        }
        if let Installing::Done(head) = &part
            && !diverged
            && self.session.store.chain_at(head.position.seq) == Some(head.chain)
        {
            // Asked for twice: this node is further by now.
            (self.install, self.rows_of) = (None, None);
            let (position, chain) = self.session.store.journal_head();
            self.has(epoch, position, chain).await;
            return Ok(());
        }
        let is_last = matches!(part, Installing::Done(_));
        let Some(install) = &mut self.install else { return Ok(()) };
        // If it was refused, `done` says why.
        let took = install.rows.send(part).await.is_ok();
        if !is_last && took {
            return Ok(());
        }
        let Install { rows, mut done } = self.install.take().expect("it was looked at right here");
        drop(rows);
        let gone = || OrderError::Closed("the store is closed".to_owned());
        done.join_next().await.and_then(Result::ok).ok_or_else(gone)??;
        let (position, chain) = self.session.store.journal_head();
        self.rows_of = None;
        self.has(epoch, position, chain).await;
        tracing::info!(%position, "this node has all rows of the other");
        Ok(())
    }
}

/// Takes messages in that the other node had accepted, each once, and says what became of them; and what it had made.
pub async fn recover(
    store: &Store,
    Aside { messages, made }: Aside,
) -> Result<Vec<Fate>, Box<dyn std::error::Error + Send + Sync>> {
    let reader = store.clone();
    let (messages, unknown) = tokio::task::spawn_blocking(move || {
        let unknown = reader.unknown_of(&messages);
        unknown.map(|unknown| (messages, unknown))
    })
    .await??;
    let of_unknown = messages.into_iter().zip(&unknown).filter(|(_, unknown)| **unknown);
    let change = Recover { messages: of_unknown.map(|(message, _)| message).collect(), made };
    let mut fates = store.submit(change).await?.answer.into_iter();
    let fate = |unknown| if unknown { fates.next().unwrap_or(Fate::Known) } else { Fate::Known };
    Ok(unknown.into_iter().map(fate).collect())
}
