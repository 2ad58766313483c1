//! A drill: a takeover on a copy of the store, in a folder of its own, so that it is known to work and how long it takes.
//!
//! Nothing of it leaves the node: all solutions are paused in the copy, its handlers are none, and schedules and deliveries
//! are not started. One message of the drill's own is accepted and handled, by nobody.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use crate::{
    contract::{
        handler::{Effects, Handled, Handler, LoadError, Loader, Log, View as Seen},
        manifest::Manifest,
    },
    control::wire,
    dispatch::{self, Dispatch},
    machine::blocking,
    model::{
        message::{Content, Message},
        name::{Digest, Name},
        outcome::Outcome,
        pair::{Role, StoreId, ready::Prepared},
    },
    node::term::Stages,
    store::{
        self, Store,
        change::{
            accept::Accept,
            deploy::{Deploy, Pause},
            epoch::BeginEpoch,
        },
        replicate::Installing,
    },
    takeover::View,
    tasks::Tasks,
};

/// Below the data folder.
const FOLDER: &str = "drill";
/// The solution that the drill's message is for.
const SOLUTION: &str = "tandem-drill";
const MANIFEST: &str = "name = \"tandem-drill\"\nversion = \"1\"\ncomponent = \"none\"\n[[source]]\nname = \"probe\"\nkind = \"webhook\"\n";
/// Parts of rows between the store and its copy.
const AHEAD: usize = 2;
/// For the one message.
const ANSWER: Duration = Duration::from_secs(30);

/// What drills are made with.
pub(super) struct Drill {
    pub data_dir: PathBuf,
    pub stages: Stages,
    pub me: StoreId,
    /// Has to stay free on the disk.
    pub min_free: u64,
    pub view: watch::Receiver<View>,
    pub asked: mpsc::Receiver<()>,
    pub report: watch::Sender<Option<wire::Drill>>,
}

/// Says to whoever copies that nobody waits for it any more.
struct Given(Arc<AtomicBool>);

impl Drop for Given {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a crash in the middle of a drill left goes.
pub(super) fn clean(data_dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(data_dir.join(FOLDER)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Drill {
    /// Drills when asked, until `stop` says true.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|&stop| stop) => return,
                asked = self.asked.recv() => if asked.is_none() { return },
            }
            let began = Instant::now();
            self.report.send_replace(Some(wire::Drill {
                node: self.me.to_string(),
                state: "running".to_owned(),
                started_ms: self.stages.clock.now_ms(),
                frame: self.stages.store.journal_head().0.seq,
                copied_bytes: 0,
                steps: Vec::new(),
                took_ms: 0,
                reason: None,
            }));
            tracing::info!("a drill begins: a takeover on a copy of the store");
            let mut view = self.view.clone();
            let outcome = tokio::select! {
                biased;
                _ = stop.wait_for(|&stop| stop) => Err("this node is stopping".to_owned()),
                outcome = self.drill() => outcome,
                _ = view.wait_for(|view| view.state.role() != Role::Standby) => {
                    Err("this node is standby no more: a real takeover goes before a drill".to_owned())
                }
            };
            let cleaned = clean(&self.data_dir);
            let cleaned = cleaned.map_err(|error| format!("its folder cannot be removed: {error}"));
            let reason = outcome.and(cleaned).err();
            match &reason {
                None => tracing::info!(took = ?began.elapsed(), "the drill went well"),
                Some(reason) => tracing::warn!(reason, "the drill failed"),
            }
            let state = if reason.is_none() { "done" } else { "failed" };
            let took_ms = millis(began);
            tell(&self.report, |report| {
                *report =
                    wire::Drill { state: state.to_owned(), took_ms, reason, ..report.clone() };
            });
        }
    }

    async fn drill(&self) -> Result<(), String> {
        self.has_room()?;
        clean(&self.data_dir).map_err(text)?;
        let config = store::Config {
            dir: self.data_dir.join(FOLDER),
            cache_bytes: 64 << 20,
            reserve_bytes: 0,
            journal_bytes: 1 << 20,
            kept_bytes: 0,
            checkpoint_bytes: 1 << 20,
            paired: true,
        };
        let began = Instant::now();
        self.copy(&config).await?;
        self.did("copy", "a copy of all rows, as of one moment", began);

        let began = Instant::now();
        let store = self.open(config).await?;
        self.did("open", "the copy is opened, as a store is at a start", began);

        let began = Instant::now();
        let reader = store.clone();
        let (head, content) = blocking(move || reader.recount().map_err(text)).await?;
        if head.content != content {
            return Err(format!(
                "the copy's content hash is {content}, and should be {}",
                head.content
            ));
        }
        self.did("verify", "its content hash, counted over all rows, is right", began);

        let began = Instant::now();
        let epoch = self.view.borrow().standing().epoch + 1;
        store.lead(epoch, None).await.map_err(text)?;
        store.submit(BeginEpoch { owner: self.me }).await.map_err(text)?;
        self.did("epoch", "the next epoch is on the disk", began);

        let began = Instant::now();
        let loaded = self.load(&store).await?;
        self.did("components", &format!("{loaded} components are loaded"), began);

        let began = Instant::now();
        self.probe(&store).await?;
        self.did("message", "a message is accepted, handled and settled", began);
        close(store).await
    }

    fn did(&self, step: &str, what: &str, began: Instant) {
        let step =
            wire::Step { step: step.to_owned(), what: what.to_owned(), took_ms: millis(began) };
        tell(&self.report, |report| report.steps.push(step));
    }

    fn has_room(&self) -> Result<(), String> {
        let Some(free) = self.stages.store.disk_free_bytes() else { return Ok(()) };
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let file = self.stages.store.file_bytes();
        // A new file is not as full as an old one.
        let needs = file.saturating_add(file / 2).saturating_add(16 << 20);
        if free.saturating_sub(needs) >= self.min_free {
            return Ok(());
        }
        Err(format!(
            "the copy needs about {} MiB, and {} MiB of the {} MiB that the disk has free are to stay so (`min_free` in \
             [pair]); make room first",
            mib(needs),
            mib(self.min_free),
            mib(free)
        ))
    }

    /// All rows as of now, in a store of their own.
    async fn copy(&self, config: &store::Config) -> Result<(), String> {
        let copy = self.open(config.clone()).await?;
        let (give, rows) = mpsc::channel(AHEAD);
        let (from, report) = (self.stages.store.clone(), self.report.clone());
        let is_over = Arc::new(AtomicBool::new(false));
        let _given = Given(is_over.clone());
        let giving = blocking(move || {
            from.give_rows(&[], |part| {
                let bytes = bytes_of(&part);
                tell(&report, |report| report.copied_bytes += bytes);
                !is_over.load(Ordering::Relaxed) && give.blocking_send(part).is_ok()
            })
            .map_err(text)
        });
        // The copy is new: it has no rows that need not come.
        let (tell_spans, _) = oneshot::channel();
        let (installed, given) = tokio::join!(copy.install(rows, tell_spans), giving);
        given?;
        installed.map_err(text)?;
        close(copy).await
    }

    async fn open(&self, config: store::Config) -> Result<Store, String> {
        let clock = self.stages.clock.clone();
        blocking(move || Store::open(&config, clock).map_err(text)).await
    }

    /// Every component that the copy says is deployed, as a takeover loads them; gives how many.
    async fn load(&self, copy: &Store) -> Result<usize, String> {
        let stages = Stages { store: copy.clone(), ..self.stages.clone() };
        blocking(move || {
            let now = stages.store.catalogue().borrow().clone();
            for solution in now.solutions.values() {
                let Prepared { solution, fault, .. } = stages.prepare(solution, &[]);
                if let Some(fault) = fault {
                    return Err(format!("solution {solution} cannot run on this node: {fault}"));
                }
            }
            Ok(now.solutions.len())
        })
        .await
    }

    /// Handles one message of the drill's own, and none of anybody else's.
    async fn probe(&self, copy: &Store) -> Result<(), String> {
        let names: Vec<Name> = copy.catalogue().borrow().solutions.keys().cloned().collect();
        for name in names {
            let reason = Some("a drill".to_owned());
            copy.submit(Pause { name, source: None, reason }).await.map_err(text)?;
        }
        let tasks = Tasks::default();
        let config = dispatch::Config { threads: 1, handlers: 1 };
        let clock = self.stages.clock.clone();
        let _dispatch = Dispatch::start(&config, copy.clone(), Arc::new(Nobody), clock, &tasks);
        let handled = tokio::time::timeout(ANSWER, handled(copy)).await;
        tasks.stop(ANSWER).await;
        handled.unwrap_or_else(|_| Err(format!("its message was not handled within {ANSWER:?}")))
    }
}

async fn handled(copy: &Store) -> Result<(), String> {
    let component = Bytes::from_static(SOLUTION.as_bytes());
    let (name, digest): (Name, _) = (SOLUTION.parse().map_err(text)?, Digest::of(&component));
    let manifest = MANIFEST.to_owned();
    copy.submit(Deploy { name: name.clone(), manifest, component, digest }).await.map_err(text)?;
    let content = Content {
        source: "probe".parse().map_err(text)?,
        headers: Vec::new(),
        content_type: None,
        key: None,
        body: Bytes::new(),
    };
    copy.submit(Accept { solution: name, content }).await.map_err(text)?;
    let finished = &copy.counters().finished;
    while finished.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// Handles the drill's own messages, by doing nothing.
#[derive(Debug)]
struct Nobody;

impl Handler for Nobody {
    fn handle(&self, _: &Message, _: u32, _: &dyn Seen) -> Handled {
        Handled {
            outcome: Outcome::Done { reply: None },
            effects: Effects::default(),
            log: Log::default(),
            duration: Duration::ZERO,
        }
    }

    fn may_wait(&self) -> bool {
        false
    }
}

impl Loader for Nobody {
    fn load(
        &self,
        _: Digest,
        _: &[u8],
        manifest: &Manifest,
    ) -> Result<Arc<dyn Handler>, LoadError> {
        if manifest.name.as_str() == SOLUTION {
            return Ok(Arc::new(Self));
        }
        Err(LoadError("in a drill no solution handles anything".to_owned()))
    }
}

fn tell(report: &watch::Sender<Option<wire::Drill>>, change: impl FnOnce(&mut wire::Drill)) {
    report.send_modify(|report| {
        if let Some(report) = report {
            change(report);
        }
    });
}

/// Until its writer has ended.
async fn close(store: Store) -> Result<(), String> {
    blocking(move || {
        drop(store);
        Ok(())
    })
    .await
}

fn bytes_of(part: &Installing) -> u64 {
    match part {
        Installing::Rows { rows, .. } => {
            rows.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
        }
        Installing::Same { .. } | Installing::Done(_) => 0,
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
