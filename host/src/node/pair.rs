//! The pair in this house: the link, the roles, and the stages that follow them.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use self::{drill::Drill, links::Links, ready::Looking, register::register, stages::Follower};
use super::{
    NodeError,
    config::{self, Failback, Mode, WithoutWitness},
    term::{self, Stages},
};
use crate::{
    control::{self, drill::Drills},
    dispatch::Dispatch,
    durability::{Gate, Needs},
    lease::Lease,
    model::pair::{PairId, Role, StoreId, ready::Readiness, talk::Heard},
    net::{
        keys::{PairFolder, Rotation},
        link::{Acceptor, AcceptorConfig, Fingerprint, Trust},
    },
    replication::{Aside, Notices, Own, Posture, Quarantine, Seen, Session},
    store::Store,
    takeover::{
        self, Register, Takeover, View,
        step::{Event, Rules},
    },
    tasks::Tasks,
};

mod door;
mod drill;
mod links;
mod ready;
mod register;
mod stages;

/// How long a node that stops waits until the other has taken over.
const HANDOVER: Duration = Duration::from_secs(10);
const NOT_JOINED: &str = "this node has not joined its pair yet: run `tandem pair invite` on the main server, and `tandem pair join CODE` here";
const NEW_BESIDE_ANOTHER: &str = "this main server's store is new, and another node has joined the pair: it waits for that one, which may have \
     everything; if that is gone for good, `tandem pair promote --allow-data-loss` begins anew here";
/// Without a sign of life for less than this a link is not given up.
const SILENCE_MIN: Duration = Duration::from_secs(5);
/// Between two looks at what was set aside.
const RECOVERY_PAUSE: Duration = Duration::from_secs(2);
/// What waits to be told to whoever decides on roles.
const EVENTS: usize = 256;
/// What the rest of the house sees of the pair.
#[derive(Debug, Clone)]
pub struct Pair {
    pub config: Arc<config::Pair>,
    pub view: watch::Receiver<View>,
    /// The other node, as it introduced itself last.
    pub seen: watch::Receiver<Option<Seen>>,
    /// The stages are running.
    pub serving: watch::Receiver<bool>,
    pub events: mpsc::Sender<Event>,
    pub quarantine: Arc<Quarantine>,
    pub notices: Arc<Notices>,
    gate: Arc<Gate>,
    /// How this node finds itself, while it is standby.
    ready: watch::Receiver<Option<Arc<Readiness>>>,
    aside: Aside,
    drills: Drills,
}

impl Pair {
    /// Before this node stops: lets the other be primary, if it is in sync.
    pub(super) async fn hand_over(&self) {
        let is_ready = self.view.borrow().state.handover_lacks().is_none();
        if !is_ready || self.events.send(Event::Switchover).await.is_err() {
            return;
        }
        let mut view = self.view.clone();
        let ended = view.wait_for(|view| {
            let peer = view.state.peer.as_ref();
            let is_given_up =
                view.state.role() == Role::Primary && view.state.handover_lacks().is_some();
            let has_taken_over = view.state.role() == Role::Standby
                && peer.is_none_or(|peer| !peer.is_up || peer.standing.role == Role::Primary);
            is_given_up || has_taken_over
        });
        let is_done = match tokio::time::timeout(HANDOVER, ended).await {
            Ok(Ok(view)) => view.state.role() == Role::Standby,
            _ => false,
        };
        if !is_done {
            tracing::warn!("the other node has not taken over; it will when this one is gone");
            self.close();
        }
    }

    /// Until nobody decides on roles any more: its last word stays as it is, whatever happens.
    pub(super) async fn undecided(&self) {
        self.view.clone().wait_for(|_| false).await.ok();
    }

    /// Nothing is shown any more: whatever still waits for the other node would wait for ever.
    pub(super) fn close(&self) {
        self.gate.need(Needs::Never);
    }

    /// What operators see of it.
    pub fn control(&self) -> control::pair::Pair {
        control::pair::Pair {
            is_main: self.config.main,
            policy: policy(&self.config),
            view: self.view.clone(),
            seen: self.seen.clone(),
            serving: self.serving.clone(),
            events: self.events.clone(),
            quarantine: self.quarantine.clone(),
            ready: self.ready.clone(),
            other_ready: self.aside.other.subscribe(),
            ahead: self.aside.ahead.subscribe(),
            drills: self.drills.clone(),
            rotation: self.aside.rotation.clone(),
            notices: self.notices.clone(),
        }
    }
}

/// What happens when a node is gone, in a sentence.
fn policy(config: &config::Pair) -> String {
    let silence = config.interval * (config.retries + 1);
    let who = match (&config.witness, config.without_witness) {
        (Some(_), _) => format!(
            "the standby takes over after {silence:?} of silence, at once after a crash, if the witness lets it: there are never two"
        ),
        (None, WithoutWitness::Act) => format!(
            "the standby takes over after {silence:?} of silence, at once after a crash; without a witness both nodes act while only the link between them is cut"
        ),
        (None, WithoutWitness::AcceptOnly) => format!(
            "after {silence:?} of silence, at once after a crash, the standby takes messages in and handles none; it handles them when an operator says so (`tandem pair promote`), else the primary does when it is back"
        ),
        (None, WithoutWitness::Manual) => {
            "the standby takes over when an operator says so (`tandem pair promote`)".to_owned()
        }
    };
    let alone = match config.mode {
        Mode::Auto => "the primary goes on alone without a standby, and its receipts say so",
        Mode::Strict => "without a standby in sync the primary accepts nothing",
    };
    format!("{who}; {alone}")
}

/// What the pair's tasks are made from.
struct Making<'a> {
    config: Arc<config::Pair>,
    data_dir: &'a Path,
    folder: PairFolder,
    stages: Stages,
    rules: Rules,
    /// Where this node listens for senders.
    hooks: SocketAddr,
    gate: Arc<Gate>,
    lease: Arc<Lease>,
    witness: Option<Arc<dyn Register>>,
    tasks: &'a Tasks,
}

/// Starts the pair's tasks. `hooks` is where this node listens for senders.
pub(super) async fn start(
    config: &config::Pair,
    data_dir: &Path,
    hooks: SocketAddr,
    stages: Stages,
    dispatch: watch::Sender<Option<Arc<Dispatch>>>,
    tasks: &Tasks,
) -> Result<Pair, NodeError> {
    let folder = PairFolder::of(data_dir);
    let identity = folder.identity_or_new().map_err(failed)?;
    let pins = pins(&folder);
    let rules = rules(config, StoreId(store_id(&stages.store)?), !pins.is_empty());
    let witness = config.witness.as_ref().map(|place| register(place, &folder));
    let (config, gate) = (Arc::new(config.clone()), Arc::new(Gate::default()));
    let lease = Arc::new(Lease::new(rules.silence));
    let stages = Stages { lease: Some(lease.clone()), ..stages };
    let making =
        Making { config, data_dir, folder, stages, rules, hooks, gate, lease, witness, tasks };

    let (events, to_decide) = mpsc::channel(EVENTS);
    let (heard, to_hear) = mpsc::channel(EVENTS);
    let (stages_sender, wanted) = watch::channel(takeover::Stages::Off);
    let view = making.decide(to_hear, to_decide, stages_sender)?;
    let (ready_sender, ready) = watch::channel(None);
    let trust = Trust::of(pins);
    let rotation = Rotation::new(&making.folder, identity, &trust).map_err(failed)?;
    let session = making.session(heard, view.clone(), ready.clone(), rotation)?;
    let (aside, seen) = (session.aside.clone(), session.seen.subscribe());
    let (quarantine, notices) = (session.quarantine.clone(), session.notices.clone());
    let trouble = making.link(trust, session).await?;
    making.look(view.clone(), &aside, trouble, ready_sender);
    let drills = making.drill(view.clone())?;
    let serving = making.follow(dispatch, wanted, events.clone());
    tasks.spawn("recovery", {
        let (quarantine, serving) = (quarantine.clone(), serving.clone());
        |stop| take_in(quarantine, serving, stop)
    });
    let Making { config, gate, .. } = making;
    Ok(Pair {
        config,
        view,
        seen,
        serving,
        events,
        quarantine,
        notices,
        gate,
        ready,
        aside,
        drills,
    })
}

impl Making<'_> {
    /// Starts deciding on roles.
    fn decide(
        &self,
        heard: mpsc::Receiver<Heard>,
        events: mpsc::Receiver<Event>,
        stages: watch::Sender<takeover::Stages>,
    ) -> Result<watch::Receiver<View>, NodeError> {
        let first = takeover::first_view(self.data_dir, &self.rules).map_err(failed)?;
        if self.rules.is_main && self.rules.has_peer && first.state.kept.record.is_none() {
            tracing::warn!(NEW_BESIDE_ANOTHER);
        }
        let (view_sender, view) = watch::channel(first);
        let takeover = Takeover {
            dir: self.data_dir.to_owned(),
            rules: self.rules.clone(),
            store: self.stages.store.clone(),
            gate: self.gate.clone(),
            lease: self.lease.clone(),
            witness: self.witness.clone(),
            heard,
            events,
            asked: None,
            waits: JoinSet::new(),
            stages,
            view: view_sender,
        };
        self.tasks.spawn("roles", |stop| decide(takeover, stop));
        Ok(view)
    }

    /// What links are for.
    fn session(
        &self,
        heard: mpsc::Sender<Heard>,
        view: watch::Receiver<View>,
        ready: watch::Receiver<Option<Arc<Readiness>>>,
        rotation: Rotation,
    ) -> Result<Session, NodeError> {
        let shared = self.folder.shared().map_err(failed)?;
        if shared.is_none() && !self.config.main {
            tracing::warn!(NOT_JOINED);
        }
        let (posture_sender, posture) = watch::channel(posture_of(&view.borrow()));
        self.tasks.spawn("posture", |stop| tell_posture(view, posture_sender, stop));
        let pair = shared.map(|shared| shared.pair).unwrap_or_default();
        let (store, clock) = (self.stages.store.clone(), self.stages.clock.clone());
        let min_free = self.config.min_free;
        let quarantine = Quarantine::open(self.data_dir, store.clone(), clock.clone(), min_free);
        Ok(Session {
            own: own(&self.config, pair, self.rules.me, self.hooks),
            store,
            gate: self.gate.clone(),
            lease: self.lease.clone(),
            posture,
            quarantine: Arc::new(quarantine.map_err(failed)?),
            notices: Arc::default(),
            heard,
            seen: Arc::new(watch::Sender::new(None)),
            aside: Aside {
                clock,
                own: ready,
                other: Arc::default(),
                ahead: Arc::default(),
                differs: Arc::default(),
                rotation,
            },
            from: None,
        })
    }

    /// Starts making links; gives why there is none.
    async fn link(
        &self,
        trust: Trust,
        session: Session,
    ) -> Result<watch::Receiver<String>, NodeError> {
        let (trouble_sender, trouble) = watch::channel(String::new());
        let links = Links {
            config: self.config.clone(),
            folder: self.folder.clone(),
            rotation: session.aside.rotation.clone(),
            trust,
            session,
            clock: self.stages.clock.clone(),
            trouble: trouble_sender,
        };
        let acceptor = bind(&links).await?;
        self.tasks.spawn("link", |stop| links.run(acceptor, stop));
        Ok(trouble)
    }

    /// Starts looking whether this node could take over.
    fn look(
        &self,
        view: watch::Receiver<View>,
        aside: &Aside,
        trouble: watch::Receiver<String>,
        tell: watch::Sender<Option<Arc<Readiness>>>,
    ) {
        let (warm_sender, warm) = watch::channel(None);
        let stages = self.stages.clone();
        self.tasks.spawn("warm", |stop| term::keep_warm(stages, warm_sender, stop));
        let looking = Looking {
            config: self.config.clone(),
            store: self.stages.store.clone(),
            view,
            warm,
            ahead: aside.ahead.subscribe(),
            differs: aside.differs.subscribe(),
            trouble,
            witness: self.witness.clone(),
            listen: self.hooks,
            tell,
        };
        self.tasks.spawn("readiness", |stop| looking.run(stop));
    }

    /// Waits for drills to be asked for.
    fn drill(&self, view: watch::Receiver<View>) -> Result<Drills, NodeError> {
        drill::clean(self.data_dir).map_err(failed)?;
        let (ask, asked) = mpsc::channel(1);
        let (report_sender, report) = watch::channel(None);
        let drill = Drill {
            data_dir: self.data_dir.to_owned(),
            stages: self.stages.clone(),
            me: self.rules.me,
            min_free: self.config.min_free,
            view,
            asked,
            report: report_sender,
        };
        self.tasks.spawn("drill", |stop| drill.run(stop));
        Ok(Drills { ask, report })
    }

    /// Has the stages follow the roles; gives whether they run.
    fn follow(
        &self,
        dispatch: watch::Sender<Option<Arc<Dispatch>>>,
        wanted: watch::Receiver<takeover::Stages>,
        events: mpsc::Sender<Event>,
    ) -> watch::Receiver<bool> {
        let (serving_sender, serving) = watch::channel(false);
        let follower = Follower {
            config: self.config.clone(),
            stages: self.stages.clone(),
            dispatch,
            serving: serving_sender,
            wanted,
            events,
        };
        self.tasks.spawn("stages", |stop| follower.run(stop));
        serving
    }
}

fn own(config: &config::Pair, pair: PairId, store: StoreId, hooks: SocketAddr) -> Own {
    Own {
        pair,
        store,
        is_main: config.main,
        hooks: config.advertise.clone().unwrap_or_else(|| format!(":{}", hooks.port())),
        interval: config.interval,
        // Long enough that a standby decides first whether it takes over.
        silence: (config.interval * 20).max(SILENCE_MIN),
        copy_rate: config.copy_rate,
    }
}

async fn bind(links: &Links) -> Result<Acceptor, NodeError> {
    let Links { config, folder, clock, .. } = links;
    let (inviting, clock) = (folder.clone(), clock.clone());
    let is_inviting = Arc::new(move || inviting.is_inviting(clock.now_ms()));
    let own = links.rotation.own().borrow().clone();
    let acceptor = AcceptorConfig { is_inviting, ..AcceptorConfig::default() };
    let acceptor = Acceptor::bind(config.listen, &own, &links.trust, acceptor)
        .await
        .map_err(|source| NodeError::PairListen { address: config.listen, source })?;
    let address = acceptor.local_address().unwrap_or(config.listen);
    let policy = policy(config);
    tracing::info!(%address, main = config.main, policy, "waiting for the other node");
    Ok(acceptor)
}

/// Roles, until `stop` says true.
async fn decide(takeover: Takeover, stop: watch::Receiver<bool>) {
    if let Err(error) = takeover.run(stop).await {
        tracing::error!(%error, "roles cannot be decided any more");
    }
}

/// What a primary set aside when it was none comes in again here, until `stop` says true.
async fn take_in(
    quarantine: Arc<Quarantine>,
    mut serving: watch::Receiver<bool>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        if *serving.borrow_and_update()
            && let Err(error) = quarantine.take_in().await
        {
            tracing::warn!(%error, "what was set aside cannot be taken in now");
        }
        tokio::select! {
            biased;
            _ = stop.wait_for(|&stop| stop) => return,
            changed = serving.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RECOVERY_PAUSE) => {}
        }
    }
}

/// Tells sessions how this node stands, when that changes.
async fn tell_posture(
    mut view: watch::Receiver<View>,
    tell: watch::Sender<Posture>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let now = posture_of(&view.borrow_and_update());
        tell.send_if_modified(|then| std::mem::replace(then, now) != now);
        tokio::select! {
            biased;
            _ = stop.wait_for(|&stop| stop) => return,
            changed = view.changed() => if changed.is_err() { return },
        }
    }
}

fn failed(error: impl std::fmt::Display) -> NodeError {
    NodeError::Pair(error.to_string())
}

fn store_id(store: &Store) -> Result<[u8; 16], NodeError> {
    let identity = store.read().and_then(|snapshot| snapshot.identity());
    Ok(identity.map_err(failed)?.store_id)
}

fn rules(config: &config::Pair, me: StoreId, has_peer: bool) -> Rules {
    let silence = config.interval * (config.retries + 1);
    Rules {
        me,
        is_main: config.main,
        has_peer,
        silence,
        // The standby takes over at `silence`; the primary must have noticed by then.
        ack_timeout: silence.min(Duration::from_secs(2)).max(Duration::from_millis(100)),
        ask_again: config.interval.clamp(Duration::from_millis(50), Duration::from_secs(1)),
        look: (config.interval * 10).max(Duration::from_secs(1)),
        goes_on_alone: config.mode == Mode::Auto,
        has_witness: config.witness.is_some(),
        without_witness: config.without_witness,
        failback_hold: (config.failback == Failback::Auto).then_some(config.failback_hold),
    }
}

fn posture_of(view: &View) -> Posture {
    Posture { standing: view.standing(), accepted: view.state.kept.accepted }
}

fn pins(folder: &PairFolder) -> Vec<Fingerprint> {
    match folder.peer() {
        Ok(peer) => peer.map(|peer| peer.pins).unwrap_or_default(),
        Err(error) => {
            tracing::error!(%error, "the other node's key cannot be read: no link can be made");
            Vec::new()
        }
    }
}
