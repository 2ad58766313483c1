//! The stages that run while this node is primary.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::Config;
use crate::{
    delivery,
    dispatch::{self, Dispatch},
    ingress::schedule,
    model::clock::Clock,
    net::http_client::Client,
    runtime::Engine,
    store::Store,
    tasks::Tasks,
    upkeep,
};

/// How long stopping waits for the stages.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);

/// What the stages are made from.
#[derive(Debug, Clone)]
pub(super) struct Stages {
    pub dispatch: dispatch::Config,
    pub delivery: delivery::Config,
    pub upkeep: upkeep::Config,
    pub store: Store,
    pub engine: Engine,
    pub client: Client,
    pub clock: Clock,
}

/// The stages of one time as primary.
#[derive(Debug)]
pub(super) struct Term {
    tasks: Tasks,
    pub dispatch: Arc<Dispatch>,
}

impl Stages {
    pub fn new(
        config: &Config,
        store: Store,
        engine: Engine,
        client: Client,
        clock: Clock,
    ) -> Self {
        Self {
            dispatch: dispatch::Config {
                threads: config.runtime.threads,
                handlers: config.runtime.instances,
            },
            delivery: delivery::Config {
                concurrency: config.delivery.concurrency,
                per_target: config.delivery.per_target,
            },
            upkeep: upkeep::Config { live_bytes: config.store.live },
            store,
            engine,
            client,
            clock,
        }
    }

    /// Starts them on what waits in the store, and on what comes.
    pub fn begin(&self) -> Term {
        let Self { store, engine, client, clock, .. } = self;
        let tasks = Tasks::default();
        let dispatch = Dispatch::start(
            &self.dispatch,
            store.clone(),
            Arc::new(engine.clone()),
            clock.clone(),
            &tasks,
        );
        tasks.spawn("schedules", {
            let (store, clock) = (store.clone(), clock.clone());
            |stop| schedule::run(store, clock, stop)
        });
        let outgoing = self.delivery.clone();
        delivery::start(outgoing, store.clone(), client.clone(), clock.clone(), &tasks);
        tasks.spawn("upkeep", {
            let (config, store, clock) = (self.upkeep, store.clone(), clock.clone());
            move |stop| upkeep::run(config, store, clock, stop)
        });
        Term { tasks, dispatch }
    }
}

impl Term {
    /// Stops them; what has begun is finished first.
    pub async fn end(self) {
        self.tasks.stop(PATIENCE).await;
    }
}

/// Compiles what is deployed as soon as it is known, so that a standby that takes over need not. Until `stop` says true.
pub(super) async fn keep_warm(stages: Stages, mut stop: watch::Receiver<bool>) {
    let mut catalogue = stages.store.catalogue();
    loop {
        let now = catalogue.borrow_and_update().clone();
        let stages = stages.clone();
        let warmed = tokio::task::spawn_blocking(move || {
            for solution in now.solutions.values() {
                let Ok(manifest) = &solution.manifest else { continue };
                let component = stages
                    .store
                    .read()
                    .and_then(|snapshot| {
                        let blobs = snapshot.table(crate::store::table::Table::Blobs)?;
                        blobs.get_bytes(&solution.digest.0)
                    })
                    .ok()
                    .flatten();
                let Some(component) = component else { continue };
                if let Err(error) = stages.engine.load(solution.digest, &component, manifest) {
                    let name = &solution.name;
                    tracing::error!(%name, %error, "this node could not handle its messages");
                }
            }
        });
        warmed.await.ok();
        tokio::select! {
            changed = catalogue.changed() => if changed.is_err() { return },
            _ = stop.wait_for(|&stop| stop) => return,
        }
    }
}
