//! The pair in this house: the link, the roles, and the stages that follow them.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
};

use super::{
    NodeError,
    config::{self, Failback, Mode, WithoutWitness},
    term::{Stages, Term},
};
use crate::{
    control,
    dispatch::Dispatch,
    durability::Gate,
    model::{
        clock::Clock,
        pair::{Ask, PairId, Record, StoreId, talk::Heard},
    },
    net::{
        keys::{self, PairFolder},
        link::{Acceptor, AcceptorConfig, Arrival, Identity, Link, LinkError, Trust},
    },
    replication::{Own, Posture, Seen, Session, SetAside},
    store::Store,
    takeover::{
        self, Register, Takeover, View,
        step::{Event, Rules},
    },
    tasks::Tasks,
    witness::{self, Witness},
};

/// What waits to be told to whoever decides on roles.
const EVENTS: usize = 256;
/// How long making a link may take.
const DIAL: Duration = Duration::from_secs(2);
/// How long asking whether the other's process is there may take.
const PROBE: Duration = Duration::from_millis(500);
/// Between two attempts to make a link.
const DIAL_PAUSE: Duration = Duration::from_millis(20);
const DIAL_PAUSE_MAX: Duration = Duration::from_secs(1);

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
}

impl Pair {
    /// What operators see of it.
    pub fn control(&self) -> control::pair::Pair {
        control::pair::Pair {
            is_main: self.config.main,
            policy: policy(&self.config),
            view: self.view.clone(),
            seen: self.seen.clone(),
            serving: self.serving.clone(),
            events: self.events.clone(),
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
        (None, WithoutWitness::AcceptOnly | WithoutWitness::Manual) => {
            "the standby takes over when an operator says so (`tandem pair promote`)".to_owned()
        }
    };
    let alone = match config.mode {
        Mode::Auto => "the primary goes on alone without a standby, and its receipts say so",
        Mode::Strict => "without a standby in sync the primary accepts nothing",
    };
    format!("{who}; {alone}")
}

/// All that the pair's tasks share.
struct Wiring {
    config: Arc<config::Pair>,
    folder: PairFolder,
    identity: Identity,
    trust: Trust,
    session: Session,
    clock: Clock,
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
    let store = stages.store.clone();
    let me = StoreId(store_id(&store)?);
    let rules = rules(config, me);
    let first = takeover::first_view(data_dir, &rules).map_err(failed)?;
    let (view_sender, view) = watch::channel(first);
    let (events, to_decide) = mpsc::channel(EVENTS);
    let (heard, to_hear) = mpsc::channel(EVENTS);
    let (stages_sender, wanted) = watch::channel(takeover::Stages::Off);
    let (serving_sender, serving) = watch::channel(false);
    let gate = Arc::new(Gate::default());
    let config = Arc::new(config.clone());

    let shared = folder.shared().map_err(failed)?;
    if shared.is_none() && !config.main {
        tracing::warn!(
            "this node has not joined its pair yet: run `tandem pair invite` on the main server, and `tandem pair join CODE` here"
        );
    }
    let takeover = Takeover {
        dir: data_dir.to_owned(),
        rules,
        store: store.clone(),
        gate: gate.clone(),
        witness: config.witness.as_ref().map(|place| register(place, &folder)),
        heard: to_hear,
        events: to_decide,
        again: events.clone(),
        stages: stages_sender,
        view: view_sender,
    };
    let halted = tasks.stopping();
    tasks.spawn("roles", |stop| async move {
        if let Err(error) = takeover.run(stop).await
            && !*halted.borrow()
        {
            tracing::error!(%error, "roles cannot be decided any more; this node has to be started again");
        }
    });

    let (posture_sender, posture) = watch::channel(posture_of(&view.borrow()));
    tasks.spawn("posture", {
        let mut view = view.clone();
        move |mut stop| async move {
            loop {
                let now = posture_of(&view.borrow_and_update());
                posture_sender.send_if_modified(|then| std::mem::replace(then, now) != now);
                tokio::select! {
                    changed = view.changed() => if changed.is_err() { return },
                    _ = stop.wait_for(|&stop| stop) => return,
                }
            }
        }
    });

    let trust = Trust::of(pins(&folder));
    let seen = Arc::new(watch::Sender::new(None));
    let own = Own {
        pair: shared.map(|shared| shared.pair).unwrap_or_default(),
        store: me,
        run: rand::random(),
        is_main: config.main,
        hooks: config.advertise.clone().unwrap_or_else(|| format!(":{}", hooks.port())),
        interval: config.interval,
    };
    let set_aside = Arc::new(Quarantine { dir: data_dir.to_owned() });
    let session =
        Session { own, store, gate, posture, set_aside, heard, seen: seen.clone(), from: None };
    let wiring = Wiring {
        config: config.clone(),
        folder,
        identity,
        trust,
        session,
        clock: stages.clock.clone(),
    };
    let inviting = {
        let (folder, clock) = (wiring.folder.clone(), wiring.clock.clone());
        Arc::new(move || folder.is_inviting(clock.now_ms()))
    };
    let acceptor = AcceptorConfig { is_inviting: inviting, ..AcceptorConfig::default() };
    let acceptor = Acceptor::bind(config.listen, &wiring.identity, &wiring.trust, acceptor)
        .await
        .map_err(|source| NodeError::PairListen { address: config.listen, source })?;
    let address = acceptor.local_address().unwrap_or(config.listen);
    let policy = policy(&config);
    tracing::info!(%address, main = config.main, policy, "waiting for the other node");
    tasks.spawn("link", |stop| wiring.run(acceptor, stop));
    tasks.spawn("stages", {
        let (config, view) = (config.clone(), view.clone());
        let events = events.clone();
        move |stop| {
            run_stages(stages, dispatch, serving_sender, wanted, (config, view, events), stop)
        }
    });
    let seen = seen.subscribe();
    Ok(Pair { config, view, seen, serving, events })
}

fn failed(error: impl std::fmt::Display) -> NodeError {
    NodeError::Pair(error.to_string())
}

fn store_id(store: &Store) -> Result<[u8; 16], NodeError> {
    let identity = store.read().and_then(|snapshot| snapshot.identity());
    Ok(identity.map_err(failed)?.store_id)
}

fn rules(config: &config::Pair, me: StoreId) -> Rules {
    let silence = config.interval * (config.retries + 1);
    Rules {
        me,
        is_main: config.main,
        silence,
        // The standby takes over at `silence`; the primary must have noticed by then.
        ack_timeout: silence.min(Duration::from_secs(2)).max(Duration::from_millis(100)),
        ask_again: config.interval.clamp(Duration::from_millis(50), Duration::from_secs(1)),
        goes_on_alone: config.mode == Mode::Auto,
        has_witness: config.witness.is_some(),
        acts_alone: config.without_witness == WithoutWitness::Act,
        failback_hold: (config.failback == Failback::Auto).then_some(config.failback_hold),
    }
}

fn posture_of(view: &View) -> Posture {
    Posture { standing: view.standing(), is_ready: true }
}

fn pins(folder: &PairFolder) -> Vec<crate::net::link::Fingerprint> {
    match folder.peer() {
        Ok(peer) => peer.map(|peer| peer.pins).unwrap_or_default(),
        Err(error) => {
            tracing::error!(%error, "the other node's key cannot be read: no link can be made");
            Vec::new()
        }
    }
}

/// The witness, for this pair.
#[derive(Debug)]
struct OfPair {
    witness: Witness,
    folder: PairFolder,
}

fn register(place: &config::Witness, folder: &PairFolder) -> Arc<dyn Register> {
    let place = match place {
        config::Witness::Server(address) => witness::Place::Server(address.clone()),
        config::Witness::Folder(path) => witness::Place::Folder(path.clone()),
    };
    let mut config = witness::Config::new(place);
    if let Ok(Some(shared)) = folder.shared() {
        let token: String = shared.witness_token.iter().map(|byte| format!("{byte:02x}")).collect();
        config.token = witness::Token::new(token).ok();
    }
    Arc::new(OfPair { witness: Witness::new(&config), folder: folder.clone() })
}

impl Register for OfPair {
    fn ask(
        &self,
        ask: Ask,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Option<Record>, String>> + Send + '_>> {
        Box::pin(async move {
            let pair: PairId = match self.folder.shared() {
                Ok(Some(shared)) => shared.pair,
                Ok(None) => return Err("this node belongs to no pair yet".to_owned()),
                Err(error) => return Err(error.to_string()),
            };
            self.witness.ask(pair, &ask).await.map_err(|error| error.to_string())
        })
    }
}

impl Wiring {
    /// Makes links, one at a time, until `stop` says true.
    async fn run(self, mut acceptor: Acceptor, mut stop: watch::Receiver<bool>) {
        let work = async {
            let mut pause = DIAL_PAUSE;
            let mut next = None;
            loop {
                let link = match next.take() {
                    Some(link) => link,
                    None => self.next_link(&mut acceptor, &mut pause).await,
                };
                next = self.talk(link, &mut acceptor).await;
                if next.is_none() {
                    pause = DIAL_PAUSE;
                    self.probe().await;
                }
            }
        };
        tokio::select! {
            () = work => {}
            _ = stop.wait_for(|&stop| stop) => {}
        }
    }

    /// Until the link ends; or the other node has made a newer one, because it has lost this.
    async fn talk(&self, link: Link, acceptor: &mut Acceptor) -> Option<Link> {
        let address = link.peer_address();
        tracing::info!(%address, "linked with the other node");
        let mut session = self.session.clone();
        if let Ok(Some(shared)) = self.folder.shared() {
            session.own.pair = shared.pair;
        }
        session.from = Some(address.ip());
        let mut talk = std::pin::pin!(session.run(link));
        loop {
            tokio::select! {
                error = &mut talk => {
                    tracing::warn!(%error, "the link to the other node has ended");
                    return None;
                }
                arrival = acceptor.accept() => {
                    if let Some(newer) = self.welcome(arrival).await {
                        return Some(newer);
                    }
                }
            }
        }
    }

    /// The failover server dials, the main server waits: there is never a link each way.
    async fn next_link(&self, acceptor: &mut Acceptor, pause: &mut Duration) -> Link {
        loop {
            if self.config.main {
                if let Some(link) = self.welcome(acceptor.accept().await).await {
                    return link;
                }
                continue;
            }
            tokio::select! {
                arrival = acceptor.accept() => drop(self.welcome(arrival).await),
                link = self.dial() => match link {
                    Some(link) => return link,
                    None => {
                        tokio::time::sleep(*pause).await;
                        *pause = (*pause * 2).min(DIAL_PAUSE_MAX.min(self.config.interval));
                    }
                },
            }
        }
    }

    async fn welcome(&self, arrival: Arrival) -> Option<Link> {
        match arrival {
            Arrival::Peer(link) => Some(link),
            Arrival::Stranger(stranger) => {
                match keys::answer_join(stranger, &self.folder, &self.clock).await {
                    Ok(joined) => {
                        tracing::info!(address = joined.address, "a node has joined this pair")
                    }
                    Err(error) => tracing::warn!(%error, "somebody tried to join this pair"),
                }
                self.trust.replace(pins(&self.folder));
                None
            }
        }
    }

    /// Tries every way to the other node.
    async fn dial(&self) -> Option<Link> {
        self.trust.replace(pins(&self.folder));
        if self.trust.pins().is_empty() {
            return None;
        }
        let mut is_gone = true;
        for address in &self.config.peer {
            match Link::dial(address, &self.identity, &self.trust, DIAL).await {
                Ok(link) => return Some(link),
                Err(LinkError::Refused { .. }) => {}
                Err(error) => {
                    tracing::debug!(%error, "no link");
                    is_gone = false;
                }
            }
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
            match tokio::time::timeout(PROBE, TcpStream::connect(address)).await {
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                _ => return,
            }
        }
        self.session.heard.send(Heard::Down { gone: true }).await.ok();
    }
}

type Whom = (Arc<config::Pair>, watch::Receiver<View>, mpsc::Sender<Event>);

/// Starts and stops the stages as roles want it.
async fn run_stages(
    stages: Stages,
    dispatch: watch::Sender<Option<Arc<Dispatch>>>,
    serving: watch::Sender<bool>,
    mut wanted: watch::Receiver<takeover::Stages>,
    (config, view, events): Whom,
    mut stop: watch::Receiver<bool>,
) {
    let mut term: Option<Term> = None;
    let mut was_primary = false;
    loop {
        let now = *wanted.borrow_and_update();
        if let takeover::Stages::On(epoch) = now {
            if term.is_none() {
                let begun = stages.begin();
                dispatch.send_replace(Some(begun.dispatch.clone()));
                term = Some(begun);
            }
            serving.send_replace(true);
            if !was_primary {
                run_hook(&config.on_promote, "promote", epoch);
            }
            was_primary = true;
        } else {
            serving.send_replace(false);
            dispatch.send_replace(None);
            if let Some(term) = term.take() {
                term.end().await;
            }
            if now == takeover::Stages::Draining {
                events.send(Event::Stopped).await.ok();
            } else if std::mem::take(&mut was_primary) {
                run_hook(&config.on_demote, "demote", view.borrow().standing().epoch);
            }
        }
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { break },
            _ = stop.wait_for(|&stop| stop) => break,
        }
    }
    serving.send_replace(false);
    if let Some(term) = term {
        term.end().await;
    }
}

/// Runs an operator's program; nothing waits for it.
fn run_hook(command: &[String], what: &'static str, epoch: u64) {
    let [program, arguments @ ..] = command else { return };
    let mut command = tokio::process::Command::new(program);
    command
        .args(arguments)
        .env("TANDEM_EVENT", what)
        .env("TANDEM_EPOCH", epoch.to_string())
        .stdin(Stdio::null());
    let program = program.clone();
    match command.spawn() {
        Ok(mut child) => {
            tokio::task::spawn(async move {
                match child.wait().await {
                    Ok(status) if status.success() => {}
                    Ok(status) => tracing::error!(program, %status, "on_{what} failed"),
                    Err(error) => tracing::error!(program, %error, "on_{what} failed"),
                }
            });
        }
        Err(error) => tracing::error!(program, %error, "on_{what} cannot be run"),
    }
}

/// The folder of what had no place any more.
#[derive(Debug)]
struct Quarantine {
    dir: PathBuf,
}

impl Quarantine {
    fn folder(&self) -> io::Result<PathBuf> {
        let folder = self.dir.join("quarantine");
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

impl SetAside for Quarantine {
    fn frame(&self, frame: &Bytes) -> io::Result<()> {
        let name = format!("{}.frame", blake3::hash(frame).to_hex());
        let file = self.folder()?.join(name);
        fs::write(&file, frame)?;
        fs::File::open(&file)?.sync_all()?;
        tracing::warn!(file = %file.display(), "a frame that the other node never had was set aside");
        Ok(())
    }

    fn store(&self) -> io::Result<()> {
        let folder = self.folder()?.join(format!("store-{}", uuid::Uuid::now_v7().simple()));
        fs::create_dir_all(&folder)?;
        for name in ["store.redb", "store.journal"] {
            let to = folder.join(name);
            fs::copy(self.dir.join(name), &to)?;
            fs::File::open(&to)?.sync_all()?;
        }
        tracing::warn!(folder = %folder.display(), "this node's own rows, which the other never had, were set aside");
        Ok(())
    }
}
