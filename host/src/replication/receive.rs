//! What a node hears on a link, and what it does with frames and rows.

use std::io;

use bytes::Bytes;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{About, Session, SessionError, Tell, wire};
use crate::{
    machine,
    model::{
        pair::{
            Role,
            talk::{Beat, Heard, Hello, Said},
        },
        position::{Chain, Position},
    },
    net::link::LinkReceiver,
    store::{
        Store,
        change::recover::Recover,
        content::Content,
        recover::{Apart, Fate},
        row::{head::HeadRow, segment::SegmentKey},
    },
};

mod frames;
mod greet;
mod rows;

use rows::Install;

pub(super) struct Hearing {
    session: Session,
    receiver: LinkReceiver,
    say: mpsc::Sender<Said>,
    introduce: watch::Sender<Option<Hello>>,
    tell: Tell,
    install: Option<Install>,
    /// The epoch of the primary whose rows come, and whether they are to replace what is no past of theirs.
    rows_of: Option<(u64, bool)>,
    /// Where the journal ended when the primary's last rows or frames on this link were in it: up to there it is its past.
    agreed: Option<(Position, Chain)>,
    /// One task at most: what is here, before rows take its place. Signs of life are heard meanwhile.
    setting_aside: JoinSet<io::Result<()>>,
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
        tell: Tell,
    ) -> Self {
        Self {
            session,
            receiver,
            say,
            introduce,
            tell,
            install: None,
            rows_of: None,
            agreed: None,
            setting_aside: JoinSet::new(),
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
                biased;
                Some(recovered) = self.recovering.join_next() => {
                    if let Ok(Some((name, fates))) = recovered {
                        let fates = fates.into_iter().map(Fate::number).collect();
                        self.say.send(Said::Recovered { name, fates }).await.ok();
                    }
                    return Ok(());
                }
                Some(set_aside) = self.setting_aside.join_next() => {
                    let set_aside = set_aside.unwrap_or_else(|error| Err(error.into()));
                    set_aside.map_err(SessionError::Quarantine)?;
                    self.begin_after_setting_aside();
                    return Ok(());
                }
                message = self.receiver.next() => message?.ok_or(SessionError::Closed)?,
            }
        };
        match kind {
            wire::SAID => match postcard::from_bytes(&payload) {
                Ok(said) => self.take_in(said).await,
                Err(error) => self.refuse_garbled(&payload, error).await,
            },
            wire::FRAME => self.take_frames(&payload).await,
            wire::ROWS => self.take_rows(&payload).await,
            wire::SEGMENT => self.take_segment(&payload).await,
            wire::RECOVERED => self.take_recovered(&payload),
            other => Err(SessionError::Unfit(format!("messages of kind {other} are not known"))),
        }
    }

    async fn take_in(&mut self, said: Said) -> Result<(), SessionError> {
        match said {
            Said::Hello(hello) => self.welcome(hello).await?,
            Said::Beat(beat) => self.hear_beat(beat).await?,
            Said::Has { epoch, seq, chain } => {
                if self.session.store.chain_at(seq) != Some(chain) {
                    let why = format!("it has another frame {seq} than this node");
                    return Err(SessionError::Unfit(why));
                }
                self.session.notices.clear(About::Refusal);
                self.session.gate.has(epoch, seq);
            }
            Said::Cut { epoch } if !self.obeys(epoch).await => {}
            Said::Rows { epoch, .. } if !self.obeys(epoch).await => self.rows_of = None,
            Said::Cut { .. } => {
                // Set aside first: whatever happens then, it is somewhere.
                if let Some(frame) = self.session.store.unshown()? {
                    self.session.quarantine.take_frame(&frame).map_err(SessionError::Quarantine)?;
                    self.session.store.cut_last().await?;
                }
                // Introduces itself again, by where the journal ends now.
                let again = Said::Hello(Box::new(self.session.hello()));
                self.say.send(again).await.ok();
            }
            Said::Rows { epoch, diverged, common } => {
                self.await_rows(epoch, diverged, common);
            }
            Said::Holds { spans } => {
                self.tell.held.send(wire::read_holds(&spans)?).await.ok();
            }
            Said::Lacks { segment } => {
                let wanted = SegmentKey::from_bytes(&segment);
                self.tell.wanted.send_replace(wanted);
            }
            Said::Recovered { name, fates } => {
                let fates: Vec<_> = fates.into_iter().filter_map(Fate::of_number).collect();
                self.tell.answer.send((name, fates)).await.ok();
            }
            Said::Refused(why) => {
                let notice =
                    format!("The other node will have nothing to do with this one: {why}.");
                self.session.notices.set(About::Refusal, &notice);
                return Err(SessionError::Refused(why));
            }
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

    async fn hear_beat(&self, beat: Beat) -> Result<(), SessionError> {
        self.session.lease.hear(beat.number, beat.answers);
        self.report(Heard::Beat(beat)).await;
        self.follow(&beat).await
    }

    async fn report(&self, heard: Heard) {
        self.session.heard.send(heard).await.ok();
    }

    /// As a standby: shows what the primary shows, and compares.
    async fn follow(&self, beat: &Beat) -> Result<(), SessionError> {
        let posture = *self.session.posture.borrow();
        let leads = beat.standing.role == Role::Primary;
        if !leads || posture.standing.role != Role::Standby {
            self.session.aside.differs.send_replace(false);
            return Ok(());
        }
        if self.install.is_some() || !self.setting_aside.is_empty() {
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
        self.session.compare(&self.session.store.read()?.head()?, beat);
        Ok(())
    }

    /// Whether this node follows the primary of that epoch. What it is to obey it has promised first, on its disk.
    async fn obeys(&self, epoch: u64) -> bool {
        let mut posture = self.session.posture.clone();
        let promised = posture.wait_for(|posture| posture.standing.epoch >= epoch).await;
        promised.is_ok_and(|posture| {
            posture.standing.epoch == epoch && !posture.standing.role.makes_frames()
        })
    }

    async fn has(&self, epoch: u64, position: Position, chain: Chain) {
        self.say.send(Said::Has { epoch, seq: position.seq, chain }).await.ok();
    }

    async fn take_segment(&mut self, payload: &Bytes) -> Result<(), SessionError> {
        let (key, _) = wire::read_segment(payload)?;
        let (store, payload) = (self.session.store.clone(), payload.clone());
        let installed = machine::blocking(move || {
            let (key, file) = wire::read_segment(&payload)?;
            let installed = store.archive().install(key, file);
            installed.map_err(|error| SessionError::Unfit(error.to_string()))?;
            Ok::<_, SessionError>(store.missing_segment()?)
        });
        match installed.await {
            Ok(Some(next)) => {
                let segment = next.to_bytes().to_vec();
                self.say.send(Said::Lacks { segment }).await.ok();
            }
            Err(error) => {
                tracing::warn!(%error, ?key, "a segment of the other node was not taken");
            }
            Ok(None) => {}
        }
        Ok(())
    }

    /// As the primary: takes in what the other had accepted while the nodes were apart.
    fn take_recovered(&mut self, payload: &Bytes) -> Result<(), SessionError> {
        let (name, apart) = wire::read_recovered(payload)?;
        let store = self.session.store.clone();
        self.recovering.spawn(async move {
            match recover(&store, apart).await {
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
}

impl Session {
    /// As a standby: whether one journal has led to the same rows.
    pub(super) fn compare(&self, head: &HeadRow, beat: &Beat) {
        if head.position.seq != beat.shown {
            return;
        }
        let differs = head.content.to_bytes() != beat.content;
        if !self.aside.differs.send_replace(differs) && differs {
            let theirs = Content::from_bytes(beat.content);
            tracing::error!(
                position = %head.position, ours = %head.content, %theirs,
                "the stores differ although their journals do not: stop the standby, and move its folder away but for `pair`, \
                 so that it gets everything anew"
            );
        }
    }
}

/// The other's store is further than the role it speaks in.
fn made_later(epoch: u64) -> SessionError {
    SessionError::Unfit(format!(
        "what it gives as the primary of epoch {epoch} was made after that"
    ))
}

type RecoverError = Box<dyn std::error::Error + Send + Sync>;

/// Takes messages in that the other node had accepted, each once, and says what became of them; and what it had made.
pub async fn recover(store: &Store, apart: Apart) -> Result<Vec<Fate>, RecoverError> {
    let mut fates = Vec::new();
    for piece in apart.pieces() {
        fates.extend(recover_piece(store, piece).await?);
    }
    Ok(fates)
}

async fn recover_piece(
    store: &Store,
    Apart { messages, made }: Apart,
) -> Result<Vec<Fate>, RecoverError> {
    let reader = store.clone();
    let (messages, unknown) = machine::blocking(move || {
        let unknown = reader.unknown_of(&messages);
        unknown.map(|unknown| (messages, unknown))
    })
    .await?;
    let of_unknown = messages.into_iter().zip(&unknown).filter(|(_, unknown)| **unknown);
    let change = Recover { messages: of_unknown.map(|(message, _)| message).collect(), made };
    let mut fates = store.submit(change).await?.answer.into_iter();
    let fate = |unknown| if unknown { fates.next().unwrap_or(Fate::Known) } else { Fate::Known };
    Ok(unknown.into_iter().map(fate).collect())
}
