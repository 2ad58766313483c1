//! The house: opens the store and wires the stages in the order a message meets them.

use std::{
    convert::Infallible, io, net::SocketAddr, path::PathBuf, pin::Pin, sync::Arc, time::Duration,
};

use axum::{Router, body::Body};
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::{Request, Response, body::Incoming, service::Service};
use tokio::{net::TcpListener, sync::watch};
use tower_service::Service as _;

use crate::{
    control::{self, House},
    delivery,
    dispatch::{self, Dispatch},
    ingress::{
        schedule,
        webhook::{self, Webhooks},
    },
    model::clock::Clock,
    net::{http_client, http_server, listen_file},
    runtime::{self, Engine},
    store::{self, Store},
    tasks::Tasks,
    upkeep,
};

pub mod config;

pub use config::Config;

/// How long stopping waits for the stages.
const PATIENCE: Duration = Duration::from_secs(40);

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
    /// Nothing that was acknowledged is lost; what was not is refused.
    #[error(
        "the store failed and is closed: {0}; the node stops, so that nothing is accepted that cannot be kept"
    )]
    StoreFailed(String),
}

/// A node that runs.
#[derive(Debug)]
pub struct Node {
    address: SocketAddr,
    store: Store,
    tasks: Tasks,
    listen_file: PathBuf,
}

impl Node {
    /// Opens the store, starts every stage, and listens.
    pub async fn start(config: &Config) -> Result<Self, NodeError> {
        let clock = Clock::system();
        let tasks = Tasks::default();
        let dir = &config.data_dir;
        let store = Store::open(&store_config(config), clock.clone())?;
        let engine = Engine::new(&runtime_config(config))?;
        let listener = TcpListener::bind(config.listen)
            .await
            .and_then(|listener| Ok((listener.local_addr()?, listener)))
            .map_err(|source| NodeError::Listen { address: config.listen, source });
        let (address, listener) = listener?;

        let webhooks = webhook::Config {
            in_flight_bytes: config.ingress.in_flight,
            body_timeout: config.ingress.body_timeout,
        };
        let webhooks = Webhooks::new(&webhooks, store.clone(), clock.clone());
        let dispatch = Dispatch::start(
            &dispatch::Config {
                threads: config.runtime.threads,
                handlers: config.runtime.instances,
            },
            store.clone(),
            Arc::new(engine.clone()),
            clock.clone(),
            &tasks,
        );
        tasks.spawn("schedules", {
            let (store, clock) = (store.clone(), clock.clone());
            |stop| schedule::run(store, clock, stop)
        });
        let client = http_client::Client::new(&http_client::Config::default());
        let outgoing = delivery::Config {
            concurrency: config.delivery.concurrency,
            per_target: config.delivery.per_target,
        };
        delivery::start(outgoing, store.clone(), client, clock.clone(), &tasks);

        let archive = upkeep::Config { live_bytes: config.store.live };
        tasks.spawn("upkeep", {
            let (store, clock) = (store.clone(), clock.clone());
            move |stop| upkeep::run(archive, store, clock, stop)
        });

        let house = House {
            store: store.clone(),
            engine,
            dispatch,
            node: node_name(&store)?,
            listen: address.to_string(),
            data_dir: dir.display().to_string(),
            started_ms: clock.now_ms(),
            clock,
        };
        let service =
            Front { webhooks: Arc::new(webhooks), router: control::router(Arc::new(house)) };
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
        Ok(Self { address, store, tasks, listen_file })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs until `stop` turns true or the store fails, then stops in order.
    pub async fn run(self, mut stop: watch::Receiver<bool>) -> Result<(), NodeError> {
        let outcome = tokio::select! {
            _ = stop.wait_for(|&stop| stop) => Ok(()),
            why = self.store.failed() => Err(NodeError::StoreFailed(why)),
        };
        tracing::info!("stopping: what has begun is finished first");
        self.tasks.stop(PATIENCE).await;
        std::fs::remove_file(&self.listen_file).ok();
        outcome
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

/// The one listener: web hooks go to ingress, everything else to control.
#[derive(Debug, Clone)]
struct Front {
    webhooks: Arc<Webhooks>,
    router: Router,
}

impl Service<Request<Incoming>> for Front {
    type Response = Response<Either<Full<Bytes>, Body>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if request.uri().path().starts_with(webhook::PREFIX) {
            let webhooks = self.webhooks.clone();
            return Box::pin(async move { Ok(webhooks.handle(request).await.map(Either::Left)) });
        }
        let mut router = self.router.clone();
        Box::pin(async move { Ok(router.call(request).await?.map(Either::Right)) })
    }
}
