//! What a node says on a link: who it is, signs of life, answers, and, as the primary, its frames and rows.

use std::time::Duration;

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior},
};

use super::{About, LOOK, Session, SessionError, Told, bring::Bringing, feed, wire};
use crate::{
    machine,
    model::pair::{
        Role,
        talk::{Hello, Said, Standing},
    },
    net::link::LinkSender,
    store::{replicate::Installing, row::segment::SegmentKey},
};

/// How long after its last frame a primary says that it shows.
const QUIET: Duration = Duration::from_millis(10);

fn term(standing: Standing) -> (Role, u64) {
    (standing.role, standing.epoch)
}

impl Session {
    async fn say_beat(&self, sender: &mut LinkSender) -> Result<(), SessionError> {
        match self.beat() {
            Some(beat) => wire::say(sender, &Said::Beat(beat)).await,
            None => Ok(()),
        }
    }

    /// Says what there is to say: who this is, signs of life, answers, and, as the primary, its frames.
    pub(super) async fn speak(
        self,
        mut sender: LinkSender,
        mut to_say: mpsc::Receiver<Said>,
        mut introduced: watch::Receiver<Option<Hello>>,
        Told { mut wanted, mut held, answers }: Told,
    ) -> SessionError {
        let mut posture = self.posture.clone();
        let mut beats = tokio::time::interval(self.own.interval);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told_last = None;
        let mut bringing = Bringing::new(answers);
        // When the archive was looked through last.
        let mut looked = None;
        let mut feed = feed::Feed::None;
        // Of segments.
        let mut pace = feed::Pace::new(self.own.copy_rate);
        let mut aside = self.aside.saying();
        // When it is told that the last frame shows, if no other comes that tells it.
        let mut quiet = None;
        loop {
            let standing = posture.borrow_and_update().standing;
            let outcome = async {
                let before = told_last.replace(standing);
                if before.map(term) != Some(term(standing)) {
                    bringing.forget();
                    wire::say(&mut sender, &Said::Hello(Box::new(self.hello()))).await?;
                    feed = self.plan(standing, &introduced, &mut sender).await?;
                } else if before != Some(standing) {
                    // At once: a standby that does not know that it is in sync cannot take over.
                    self.say_beat(&mut sender).await?;
                }
                sender.flush().await?;
                tokio::select! {
                    biased;
                    Some(said) = to_say.recv() => {
                        wire::say(&mut sender, &self.as_of_now(said)).await?;
                    }
                    Ok(()) = posture.changed() => {}
                    Ok(()) = changed(&mut wanted, pace) => {
                        let key = *wanted.borrow_and_update();
                        pace.spend(self.give_segment(key, &mut sender).await?);
                    }
                    Some(spans) = held.recv() => {
                        feed.begin_rows(&self.store, spans, self.own.copy_rate);
                    }
                    Ok(()) = introduced.changed() => {
                        bringing.forget();
                        feed = self.plan(standing, &introduced, &mut sender).await?;
                    }
                    _ = beats.tick() => {
                        self.say_beat(&mut sender).await?;
                        if standing.role == Role::Standby && is_led(&introduced) {
                            bringing.begin(&self.quarantine).map_err(SessionError::Quarantine)?;
                            self.ask_for_segment(&mut sender, &mut looked).await?;
                        }
                    }
                    piece = bringing.next(&self.quarantine) => {
                        let (name, messages) = piece.map_err(SessionError::Quarantine)?;
                        wire::recovered(&mut sender, &name, &messages).await?;
                    }
                    said = aside.next() => wire::say(&mut sender, &said).await?,
                    () = until(quiet) => quiet = self.say_that_it_shows(&mut sender).await?,
                    part = feed.next(&self.store, &self.gate) => {
                        let part = part?;
                        match part {
                            feed::Part::Frame(..) => quiet = Some(Instant::now() + QUIET),
                            feed::Part::Lost => feed = feed::Feed::Asked,
                            feed::Part::Rows(_) => {}
                        }
                        self.give(part, standing.epoch, &mut sender).await?;
                    }
                }
                Ok(())
            };
            if let Err(error) = outcome.await {
                return error;
            }
        }
    }

    /// Whoever asked for an introduction may have been told of what was so a moment ago.
    fn as_of_now(&self, said: Said) -> Said {
        match said {
            Said::Hello(_) => Said::Hello(Box::new(self.hello())),
            said => said,
        }
    }

    /// Says that the last frame shows, or when to look again.
    async fn say_that_it_shows(
        &self,
        sender: &mut LinkSender,
    ) -> Result<Option<Instant>, SessionError> {
        if self.gate.look().shown < self.store.journal_head().0.seq {
            // The other node does not have it yet.
            return Ok(Some(Instant::now() + QUIET));
        }
        self.say_beat(sender).await?;
        Ok(None)
    }

    /// Gives the other node a part of what it lacks.
    async fn give(
        &self,
        part: feed::Part,
        epoch: u64,
        sender: &mut LinkSender,
    ) -> Result<(), SessionError> {
        match part {
            feed::Part::Frame(before, frame) => {
                let place = (epoch, self.gate.look().shown);
                wire::frame(sender, place, before, &frame).await
            }
            feed::Part::Rows(rows) => {
                if matches!(rows, Installing::Done(_)) {
                    self.notices.clear(About::Rows);
                }
                wire::rows(sender, &rows).await
            }
            feed::Part::Lost => {
                self.has_room()?;
                tracing::warn!("{}", feed::LOST);
                self.notices.set(About::Rows, feed::LOST);
                wire::say(sender, &Said::Rows { epoch, diverged: false, common: 0 }).await
            }
        }
    }

    /// The file that the other lacks, if it is here; says how many bytes that is.
    async fn give_segment(
        &self,
        key: Option<SegmentKey>,
        sender: &mut LinkSender,
    ) -> Result<u64, SessionError> {
        let Some(key) = key else { return Ok(0) };
        let store = self.store.clone();
        match machine::blocking(move || store.archive().file(key)).await {
            Ok(file) => {
                wire::segment(sender, key, &file).await?;
                Ok(file.len() as u64)
            }
            // Its time may be over.
            Err(error) => {
                tracing::debug!(%error, ?key, "the other node lacks a segment that is not here");
                Ok(0)
            }
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
        let Ok(Some(key)) = machine::blocking(look).await else { return Ok(()) };
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
        if own.role != Role::Primary || hello.standing.role.makes_frames() {
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
        if self.store.disk_low().is_none() {
            return Ok(());
        }
        self.notices.set(About::Rows, feed::NO_ROOM);
        Err(SessionError::NoRoom)
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Until another segment is wanted and may be given.
async fn changed(
    wanted: &mut watch::Receiver<Option<SegmentKey>>,
    pace: feed::Pace,
) -> Result<(), watch::error::RecvError> {
    pace.wait().await;
    wanted.changed().await
}

/// Whether the other node is primary, as it introduced itself last.
fn is_led(introduced: &watch::Receiver<Option<Hello>>) -> bool {
    introduced.borrow().as_ref().is_some_and(|hello| hello.standing.role == Role::Primary)
}
