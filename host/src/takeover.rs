//! Which of the two nodes is primary: decided purely ([`step`]), and done here.
//!
//! What is heard of the other node, what the witness answers and what operators want becomes an event; what the step says
//! is done in its order, and what has to survive is on disk ([`kept`]) before anything rests on it.

use std::{path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};

use crate::{
    durability::{Gate, Needs},
    lease::Lease,
    model::pair::{
        Ask, Record,
        talk::{Heard, Standing},
    },
    store::{
        Change, Store, SubmitError,
        change::epoch::{BeginEpoch, Nothing},
        replicate::OrderError,
    },
};

mod kept;
pub mod step;
#[cfg(test)]
mod tests;

pub use kept::KeptError;
use step::{Action, Event, Facts, Kept, Need, Phase, Rules, State, Told};

/// Steps in one interval of silence.
const TICKS: u32 = 12;
const TICK_MIN: Duration = Duration::from_millis(5);
const TICK_MAX: Duration = Duration::from_millis(250);

/// The record, or why nobody knows it.
pub type Answered<'a> = Pin<Box<dyn Future<Output = Result<Option<Record>, String>> + Send + 'a>>;

/// Who keeps the record.
pub trait Register: std::fmt::Debug + Send + Sync {
    /// The record after the ask.
    fn ask(&self, ask: Ask) -> Answered<'_>;
}

/// What takes in, handles and delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stages {
    Off,
    /// Running, in that epoch.
    On(u64),
    /// To be stopped, so that another node can go on; whoever does it says [`Event::Stopped`].
    Draining,
}

/// Where a node stands, for whoever asks.
#[derive(Debug, Clone)]
pub struct View {
    pub state: State,
    pub facts: Facts,
}

/// What the driver works with.
#[derive(Debug)]
pub struct Takeover {
    pub dir: PathBuf,
    pub rules: Rules,
    pub store: Store,
    pub gate: Arc<Gate>,
    pub lease: Arc<Lease>,
    /// None: each node asks its own copy.
    pub witness: Option<Arc<dyn Register>>,
    pub heard: mpsc::Receiver<Heard>,
    pub events: mpsc::Receiver<Event>,
    /// What the witness was asked last, and when.
    pub asked: Option<(Ask, Instant)>,
    /// What others do for it.
    pub waits: JoinSet<Event>,
    pub stages: watch::Sender<Stages>,
    pub view: watch::Sender<View>,
}

/// Why roles are no longer decided here.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    #[error(transparent)]
    Kept(#[from] KeptError),
    #[error("the store does not do as it is told: {0}")]
    Order(#[from] OrderError),
}

/// What is known before the first event.
pub fn first_view(dir: &std::path::Path, rules: &Rules) -> Result<View, KeptError> {
    let state = State::new(rules.clone(), kept::load(dir)?, Duration::ZERO);
    Ok(View { state, facts: Facts::default() })
}

impl View {
    pub fn standing(&self) -> Standing {
        self.state.standing()
    }

    /// Of a primary: what it takes in now does not come to two disks.
    pub fn lacks_standby(&self) -> bool {
        let Phase::Primary(leading) = &self.state.phase else { return false };
        let is_there = self.state.peer.as_ref().is_some_and(|peer| peer.is_up);
        leading.sync != step::Sync::Both
            || !is_there
            || self.waits_for(self.state.rules.ack_timeout)
    }

    /// Whether a frame has waited for the other node for so long.
    pub fn waits_for(&self, time: Duration) -> bool {
        let since = self.facts.waiting_since;
        since.is_some_and(|since| self.facts.now >= since.saturating_add(time))
    }
}

impl Takeover {
    /// Until `stop` says true; then the node is a standby that nobody hears.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), TakeoverError> {
        let start = Instant::now();
        let mut state = self.view.borrow().state.clone();
        let mut ticks = tokio::time::interval(self.tick());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let gate = self.gate.clone();
        loop {
            let due = state.due(&self.facts(start)).map(|at| start + at);
            let event = tokio::select! {
                biased;
                _ = stop.wait_for(|&stop| stop) => return Ok(()),
                Some(heard) = self.heard.recv() => Event::Heard(heard),
                Some(event) = self.events.recv() => event,
                Some(Ok(event)) = self.waits.join_next() => event,
                () = gate.heard.notified() => Event::Tick,
                _ = ticks.tick() => Event::Tick,
                () = until(due) => Event::Tick,
            };
            let mut next = Some(event);
            while let Some(event) = next {
                let facts = self.facts(start);
                let (after, actions) = step::step(state, event, &facts);
                state = after;
                next = self.act_all(actions, &state).await?;
                self.view.send_replace(View { state: state.clone(), facts });
            }
        }
    }

    fn tick(&self) -> Duration {
        (self.rules.silence / TICKS).clamp(TICK_MIN, TICK_MAX)
    }

    fn facts(&self, start: Instant) -> Facts {
        let look = self.gate.look();
        Facts {
            now: start.elapsed(),
            head: self.store.journal_head().0.seq,
            peer_has: look.peer_has,
            waiting_since: look.waiting_since.map(|since| since.saturating_duration_since(start)),
        }
    }

    async fn act_all(
        &mut self,
        actions: Vec<Action>,
        state: &State,
    ) -> Result<Option<Event>, TakeoverError> {
        let mut answer = None;
        for action in actions {
            answer = self.act(action, state).await?.or(answer);
        }
        Ok(answer)
    }

    /// Does what is to be done; an answer that is there at once comes back.
    async fn act(&mut self, action: Action, state: &State) -> Result<Option<Event>, TakeoverError> {
        match action {
            Action::Keep(kept) => kept::save(&self.dir, kept)?,
            Action::Ask(ask) => return Ok(self.ask(ask, &state.kept)),
            Action::Need(need) => self.need(match need {
                Need::One => Needs::One,
                Need::Both => Needs::Both,
            }),
            Action::Lead { epoch, in_doubt } => {
                self.lease.begin(in_doubt);
                self.lead(epoch, Event::Shows(epoch)).await?;
            }
            Action::Accept(epoch) => self.lead(epoch, Event::Tick).await?,
            Action::Follow => {
                self.need(Needs::Never);
                self.lease.follow();
                self.stages.send_replace(Stages::Off);
                self.store.follow().await?;
            }
            Action::Drain => drop(self.stages.send_replace(Stages::Draining)),
            Action::Confirm(epoch) => self.confirm(Nothing, Event::Shows(epoch)),
            Action::Serve(epoch) => drop(self.stages.send_replace(Stages::On(epoch))),
            Action::Told(told) => tell(&told),
        }
        Ok(None)
    }

    fn ask(&mut self, ask: Ask, kept: &Kept) -> Option<Event> {
        let Some(witness) = self.witness.clone() else {
            let now = Record::after(kept.record.as_ref(), &ask).or(kept.record);
            return Some(Event::Recorded(Ok(now)));
        };
        // What was refused is asked again, but not as fast as the witness can refuse it.
        let now = Instant::now();
        let before = self.asked.filter(|(before, _)| *before == ask);
        let at = before.map_or(now, |(_, at)| now.max(at + self.tick()));
        self.asked = Some((ask, at));
        self.waits.spawn(async move {
            tokio::time::sleep_until(at).await;
            let answer = witness.ask(ask).await.map_err(|error| {
                tracing::debug!(%error, "the witness did not answer");
            });
            Event::Recorded(answer)
        });
        None
    }

    fn need(&self, needs: Needs) {
        self.gate.need(needs);
        self.lease.alone(needs == Needs::One);
    }

    /// Frames are made here from now on.
    async fn lead(&mut self, epoch: u64, then: Event) -> Result<(), TakeoverError> {
        let head = self.store.journal_head().0.seq;
        self.gate.begin(epoch, head);
        self.store.lead(epoch, Some(self.gate.clone())).await?;
        self.confirm(BeginEpoch { owner: self.rules.me }, then);
        Ok(())
    }

    /// Reports when the change shows, and so all before it: what reads the store sees all that it rests on.
    fn confirm<C: Change>(&mut self, change: C, then: Event) {
        let store = self.store.clone();
        // It may have to wait for the other node, and that for this driver.
        self.waits.spawn(async move {
            match store.submit(change).await {
                Ok(_) => return then,
                Err(SubmitError::NotPrimary) => {}
                Err(error) => tracing::error!(%error, "the epoch's beginning was not kept"),
            }
            Event::Tick
        });
    }
}

/// Until that time; without one, for ever.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn tell(told: &Told) {
    match told {
        Told::Promoted { epoch, alone: true } => {
            tracing::warn!(epoch, "this node is primary now, alone");
        }
        Told::Promoted { epoch, alone: false } => {
            tracing::info!(epoch, "this node is primary now; the other is in sync");
        }
        Told::Demoted { epoch } => tracing::info!(epoch, "this node is primary no more"),
        Told::Accepting => tracing::warn!(
            "the primary is silent: this node takes messages in and handles none; they go to the primary when it is there \
             again, and are handled here after `tandem pair promote`"
        ),
        Told::AcceptedEnough => {
            tracing::info!("this node takes nothing in beside a primary any more");
        }
        Told::InSync => tracing::info!("both nodes are in sync: receipts are on two disks"),
        Told::Alone => {
            tracing::warn!("the other node is not in sync any more: receipts are on one disk");
        }
        Told::WitnessSilent => tracing::warn!(
            "the witness does not answer; nothing stops, but no node can take over until it does"
        ),
        Told::WitnessForgot => tracing::error!(
            "the witness has an older record than it had, or none: it was restored from a copy, or lost its folder. No node can \
             take over; with both nodes running and in sync, stop the witness, move its folder away and start it again: the \
             pair begins anew there"
        ),
        Told::HandingOver => tracing::info!("handing over to the other node"),
        Told::Flapping => tracing::error!(
            "roles changed too often within an hour: from now on only `tandem pair switchover` changes them"
        ),
        Told::Refused(why) => tracing::warn!(why, "roles stay as they are"),
    }
}
