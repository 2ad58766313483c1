//! The house: opens the store and wires the stages in the order a message meets them.

use std::{future::pending, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    control::{self, House},
    ingress::webhook::{self, Webhooks},
    machine::Listener,
    model::clock::Clock,
    net::{
        http_client::{self, Client},
        http_server,
        keys::PairFolder,
        listen_file,
    },
    runtime::{self, Engine},
    store::{self, Store},
    tasks::Tasks,
};

pub mod config;
mod front;
#[cfg(any(test, fuzzing))]
pub use front::fuzz;
pub mod pair;
mod term;

pub use config::Config;
use front::{Front, client::Signer};
use term::{PATIENCE, Stages, Term};

/// Why a node does not run (any more).
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Store(#[from] store::open::OpenError),
    #[error(transparent)]
    Engine(#[from] runtime::EngineError),
    #[error(
        "cannot listen on {address}: {source}; give --listen another address, or stop who has it"
    )]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot write into {}: {source}", dir.display())]
    Folder { dir: PathBuf, source: io::Error },
    #[error(
        "cannot listen on {address} for the other node: {source}; give `listen` in [pair] another address, or stop who has it"
    )]
    PairListen { address: SocketAddr, source: io::Error },
    #[error("the pair cannot work: {0}")]
    Pair(String),
    /// Nothing that was acknowledged is lost; what was not is refused.
    #[error(
        "the store failed and is closed: {0}; the node stops, so that nothing is accepted that cannot be kept"
    )]
    StoreFailed(String),
    /// What that task did is done by nobody now.
    #[error(
        "the task {0:?} panicked, which is a fault in this program, and standard error says where; the node stops, so that it is started again"
    )]
    TaskPanicked(&'static str),
    /// The other node takes over, as from one that died.
    #[error(
        "who is primary cannot be decided here any more, for the reason above; the node stops, so that it is started again when that is gone"
    )]
    Undecided,
}

/// What a node is made with and does not make again while it runs; simulated nodes share it.
#[derive(Debug, Clone)]
pub struct Parts {
    pub clock: Clock,
    pub engine: Engine,
    pub client: Client,
}

impl Parts {
    pub fn new(config: &Config) -> Result<Self, NodeError> {
        Ok(Self {
            clock: Clock::system(),
            engine: Engine::new(&runtime_config(config))?,
            client: Client::new(&http_client::Config::default()),
        })
    }
}

/// A store that fails takes the deciding on roles with it, and is the reason.
const STORE_FIRST: Duration = Duration::from_millis(200);

/// A node that runs.
#[derive(Debug)]
pub struct Node {
    address: SocketAddr,
    store: Store,
    tasks: Tasks,
    /// Without a pair; with one, the stages follow its roles.
    term: Option<Term>,
    pair: Option<pair::Pair>,
    listen_file: PathBuf,
}

impl Node {
    /// Opens the store, starts every stage, and listens.
    pub async fn start(config: &Config) -> Result<Self, NodeError> {
        // First, because it may be in use, or not to be used.
        let store = Store::open(&store_config(config), Clock::system())?;
        Self::start_on(store, Parts::new(config)?, config).await
    }

    /// The same, with parts that are there already.
    pub async fn start_with(parts: Parts, config: &Config) -> Result<Self, NodeError> {
        let store = Store::open(&store_config(config), parts.clock.clone())?;
        Self::start_on(store, parts, config).await
    }

    async fn start_on(store: Store, parts: Parts, config: &Config) -> Result<Self, NodeError> {
        let Parts { clock, engine, client } = parts;
        let tasks = Tasks::default();
        let dir = &config.data_dir;
        let listener = Listener::bind(config.listen)
            .await
            .and_then(|listener| Ok((listener.local_addr()?, listener)))
            .map_err(|source| NodeError::Listen { address: config.listen, source });
        let (address, listener) = listener?;

        let webhooks = webhook::Config {
            in_flight_bytes: config.ingress.in_flight,
            body_timeout: config.ingress.body_timeout,
        };
        let webhooks = Webhooks::new(&webhooks, store.clone(), clock.clone());
        let stages = Stages::new(
            config,
            store.clone(),
            engine.clone(),
            client,
            clock.clone(),
            tasks.panics(),
        );
        let (dispatch, dispatches) = watch::channel(None);
        let mut term = None;
        let mut pair = None;
        if let Some(config) = &config.pair {
            pair = Some(pair::start(config, dir, address, stages, dispatch, &tasks).await?);
        } else {
            let begun = stages.begin();
            dispatch.send_replace(Some(begun.dispatch.clone()));
            term = Some(begun);
        }

        let node = node_name(&store)?;
        let house = House {
            store: store.clone(),
            engine,
            dispatch: dispatches,
            pair: pair.as_ref().map(pair::Pair::control),
            node: node.clone(),
            listen: address.to_string(),
            data_dir: dir.display().to_string(),
            started_ms: clock.now_ms(),
            clock: clock.clone(),
        };
        let signer = Signer::new(PairFolder::of(dir), clock);
        let router = control::router(Arc::new(house));
        let service = Front::new(webhooks, router, &node, pair.clone(), signer);
        let server = http_server::Config {
            max_connections: config.ingress.max_connections,
            header_timeout: config.ingress.header_timeout,
            idle_timeout: config.ingress.idle_timeout,
            ..http_server::Config::default()
        };
        tasks.spawn("http", |stop| async move {
            http_server::serve(listener, service, stop, server).await;
        });
        let listen_file = listen_file::write(dir, address)
            .map_err(|source| NodeError::Folder { dir: dir.clone(), source })?;
        tracing::info!(%address, data_dir = %dir.display(), "ready");
        Ok(Self { address, store, tasks, term, pair, listen_file })
    }

    /// What it keeps.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The other node, and how this one stands to it, if there is a pair.
    pub fn pair(&self) -> Option<&pair::Pair> {
        self.pair.as_ref()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs until `stop` turns true, the store fails, or a task panics, then stops in order.
    pub async fn run(self, mut stop: watch::Receiver<bool>) -> Result<(), NodeError> {
        let panics = self.tasks.panics();
        let outcome = tokio::select! {
            biased;
            _ = stop.wait_for(|&stop| stop) => Ok(()),
            why = self.store.failed() => Err(NodeError::StoreFailed(why)),
            task = panics.first() => Err(NodeError::TaskPanicked(task)),
            () = self.undecided() => Err(NodeError::Undecided),
        };
        tracing::info!("stopping: what has begun is finished first");
        if let (Some(pair), Ok(())) = (&self.pair, &outcome) {
            pair.hand_over().await;
        }
        let stages = async {
            if let Some(term) = self.term {
                term.end().await;
            }
        };
        tokio::join!(self.tasks.stop(PATIENCE), stages);
        if let Some(pair) = &self.pair {
            pair.close();
        }
        std::fs::remove_file(&self.listen_file).ok();
        outcome
    }

    /// Until nobody decides on roles; for ever on a node that is alone. A store that fails says so itself.
    async fn undecided(&self) {
        match &self.pair {
            Some(pair) => pair.undecided().await,
            None => pending().await,
        }
        tokio::time::sleep(STORE_FIRST).await;
    }
}

/// The beginning of the store's identity: it stays the same wherever the folder goes.
fn node_name(store: &Store) -> Result<String, NodeError> {
    let identity = store.read().and_then(|snapshot| snapshot.identity());
    let identity = identity.map_err(|error| NodeError::StoreFailed(error.to_string()))?;
    Ok(uuid::Uuid::from_bytes(identity.store_id).simple().to_string()[..8].to_owned())
}

fn store_config(config: &Config) -> store::Config {
    store::Config {
        dir: config.data_dir.clone(),
        cache_bytes: usize::try_from(config.store.cache).unwrap_or(usize::MAX),
        reserve_bytes: config.store.reserve,
        journal_bytes: 64 << 20,
        kept_bytes: config.pair.as_ref().map_or(0, |pair| pair.copy_frames),
        checkpoint_bytes: 1 << 20,
        paired: config.pair.is_some(),
    }
}

fn runtime_config(config: &Config) -> runtime::Config {
    runtime::Config {
        cache_dir: Some(config.data_dir.join("compiled")),
        instances: u32::try_from(config.runtime.instances).unwrap_or(u32::MAX),
    }
}
