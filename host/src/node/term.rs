//! The stages that run while this node is primary.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};

use super::Config;
use crate::{
    delivery,
    dispatch::{self, Dispatch},
    ingress::schedule,
    lease::Lease,
    machine,
    model::{clock::Clock, pair::ready::Prepared},
    net::http_client::Client,
    runtime::Engine,
    store::{Store, catalogue::Solution, table::Table},
    tasks::{Panics, Tasks},
    upkeep,
};

/// How long stopping waits for the stages.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);
/// Between two looks whether everything that is deployed could still run here.
const CHECK: Duration = Duration::from_mins(1);

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
    pub panics: Panics,
    /// In a pair.
    pub lease: Option<Arc<Lease>>,
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
        panics: Panics,
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
            panics,
            lease: None,
        }
    }

    /// Starts them on what waits in the store, and on what comes.
    pub fn begin(&self) -> Term {
        let Self { store, engine, client, clock, lease, .. } = self;
        let tasks = Tasks::telling(self.panics.clone());
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
        let (outgoing, lease) = (self.delivery.clone(), lease.clone());
        delivery::start(outgoing, store.clone(), client.clone(), clock.clone(), lease, &tasks);
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

/// Compiles what is deployed as soon as it is known, so that a standby that takes over need not, and looks now and then
/// whether that still works. Until `stop` says true.
pub(super) async fn keep_warm(
    stages: Stages,
    tell: watch::Sender<Option<Arc<[Prepared]>>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut catalogue = stages.store.catalogue();
    let mut all = tokio::time::interval(CHECK);
    all.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let known = tokio::select! {
            biased;
            _ = stop.wait_for(|&stop| stop) => return,
            // The first at once.
            _ = all.tick() => None,
            changed = catalogue.changed() => match changed {
                Ok(()) => tell.borrow().clone(),
                Err(_) => return,
            },
        };
        let now = catalogue.borrow_and_update().clone();
        let stages = stages.clone();
        let prepared = machine::blocking(move || {
            let known = known.as_deref().unwrap_or_default();
            let prepare = |solution: &Arc<Solution>| stages.prepare(solution, known);
            now.solutions.values().map(prepare).collect::<Vec<_>>()
        });
        let prepared = prepared.await;
        tell_faults(tell.borrow().as_deref(), &prepared);
        tell.send_replace(Some(prepared.into()));
    }
}

impl Stages {
    /// Has a solution's component compiled here, unless just that is `known` to be so.
    pub(super) fn prepare(&self, solution: &Solution, known: &[Prepared]) -> Prepared {
        let Solution { name, revision, digest, .. } = solution;
        let is_this = |known: &&Prepared| {
            (&known.solution, known.revision, known.digest) == (name, *revision, *digest)
                && known.fault.is_none()
        };
        if let Some(known) = known.iter().find(is_this) {
            return known.clone();
        }
        let began = Instant::now();
        let fault = self.load(solution).err();
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Prepared { solution: name.clone(), revision: *revision, digest: *digest, took_ms, fault }
    }

    fn load(&self, solution: &Solution) -> Result<(), String> {
        let manifest = solution.manifest.as_ref().map_err(Clone::clone)?;
        let component = self.store.read().and_then(|snapshot| {
            let blobs = snapshot.table(Table::Blobs)?;
            blobs.get_bytes(&solution.digest.0)
        });
        let component = component.map_err(|error| error.to_string())?;
        let component = component.ok_or("its component is not in the store")?;
        let loaded = self.engine.load(solution.digest, &component, manifest);
        loaded.map(drop).map_err(|error| error.to_string())
    }
}

/// What was not so before.
fn tell_faults(before: Option<&[Prepared]>, now: &[Prepared]) {
    for Prepared { solution, fault, .. } in now {
        let was_so = |then: &Prepared| (&then.solution, &then.fault) == (solution, fault);
        if let Some(fault) = fault
            && !before.is_some_and(|before| before.iter().any(was_so))
        {
            tracing::error!(%solution, fault, "this node could not handle its messages");
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        model::name::Digest,
        net::http_client,
        runtime,
        store::{self, change::deploy::Deploy},
    };

    /// The other node may run what this one cannot: it is told before this one has to.
    #[tokio::test]
    async fn what_cannot_run_here_is_told_with_its_solution_and_the_reason() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::system());
        let store = store::Config {
            dir: dir.path().to_owned(),
            cache_bytes: 1 << 20,
            reserve_bytes: 0,
            journal_bytes: 0,
            kept_bytes: 0,
            checkpoint_bytes: 1 << 20,
            paired: false,
        };
        let store = Store::open(&store, clock.clone()).unwrap();
        let engine = Engine::new(&runtime::Config { cache_dir: None, instances: 1 }).unwrap();
        let client = Client::new(&http_client::Config::default());
        let tasks = Tasks::default();
        let config = Config::default();
        let stages = Stages::new(&config, store.clone(), engine, client, clock, tasks.panics());
        let (tell, mut warm) = watch::channel(None);
        tasks.spawn("warm", |stop| keep_warm(stages, tell, stop));
        let none = |warm: &Option<Arc<[Prepared]>>| warm.as_ref().is_some_and(|w| w.is_empty());
        warm.wait_for(none).await.unwrap();

        let manifest = |name: &str| {
            format!(
                "name = \"{name}\"\nversion = \"1\"\ncomponent = \"c\"\n[[source]]\nname = \"in\"\nkind = \"webhook\""
            )
        };
        for (name, manifest) in
            [("garbled", manifest("garbled")), ("later", "made = \"later\"".to_owned())]
        {
            let component = Bytes::from_static(b"no component");
            let (name, digest) = (name.parse().unwrap(), Digest::of(&component));
            store.submit(Deploy { name, manifest, component, digest }).await.unwrap();
        }
        let both = |warm: &Option<Arc<[Prepared]>>| warm.as_ref().is_some_and(|w| w.len() == 2);
        let warm = warm.wait_for(both).await.unwrap().clone().unwrap();
        assert_eq!((warm[0].solution.as_str(), warm[1].solution.as_str()), ("garbled", "later"));
        for prepared in &*warm {
            assert_eq!(prepared.digest, Digest::of(b"no component"));
            assert!(prepared.fault.as_ref().is_some_and(|why| !why.is_empty()), "{prepared:?}");
        }
        tasks.stop(PATIENCE).await;
    }
}
