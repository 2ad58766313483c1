//! Threads that run lanes: as many at once as there are cores, and more when some run long.
//!
//! A run that takes longer than [`LONG_RUN`] gives its place to another thread, so that a solution that loops or waits
//! cannot stall the others; it goes on beside them.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::{self, Debug},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use crate::machine;

/// A run may keep its place this long.
const LONG_RUN: Duration = Duration::from_millis(30);
/// How often runs are looked at.
const WATCH: Duration = Duration::from_millis(10);
/// How long stopping waits for runs to end.
const STOP_WAIT: Duration = Duration::from_secs(30);

/// Something that is run for a short time, again and again.
pub(super) trait Run: Send + Sync + Debug + 'static {
    fn run(&self);
}

/// The threads.
pub(super) struct Workers<R> {
    places: usize,
    threads_max: usize,
    state: Mutex<State<R>>,
    /// Work has come, a place is free, or it is time to stop.
    changed: Condvar,
}

struct State<R> {
    /// Each lane is in it at most once, so it is bounded by the number of solutions.
    queue: VecDeque<Arc<R>>,
    running: BTreeMap<usize, Running>,
    threads: usize,
    idle: usize,
    next_run: usize,
    stopping: bool,
}

struct Running {
    since: Instant,
    has_place: bool,
}

impl<R: Run> Workers<R> {
    pub fn new(places: usize, threads_max: usize) -> Arc<Self> {
        let workers = Arc::new(Self {
            places: places.max(1),
            threads_max: threads_max.max(places).max(1),
            state: Mutex::new(State {
                queue: VecDeque::new(),
                running: BTreeMap::new(),
                threads: 0,
                idle: 0,
                next_run: 0,
                stopping: false,
            }),
            changed: Condvar::new(),
        });
        let watched = Arc::downgrade(&workers);
        if !machine::is_simulated() {
            spawn("worker-watch", move || watch(&watched));
        }
        workers
    }

    /// Runs it when there is a place for it. The caller sees to it that it is not queued twice.
    pub fn submit(self: &Arc<Self>, runnable: Arc<R>) {
        if machine::is_simulated() {
            return self.run_soon(runnable);
        }
        let mut state = self.lock();
        state.queue.push_back(runnable);
        self.wake_one(&mut state);
    }

    /// On the one thread of a simulation, after what runs now.
    fn run_soon(self: &Arc<Self>, runnable: Arc<R>) {
        let workers = Arc::downgrade(self);
        machine::start(async move {
            if let Some(workers) = workers.upgrade()
                && !workers.lock().stopping
            {
                runnable.run();
            }
        });
    }

    /// Takes nothing more from the queue and waits until what runs has ended.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.stopping = true;
        state.queue.clear();
        self.changed.notify_all();
        let until = Instant::now() + STOP_WAIT;
        while !state.running.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::warn!("a handler still runs; it will be run again after the next start");
                break;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .map_or_else(|e| e.into_inner().0, |(s, _)| s);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that a thread looks at the queue, if there is a place for one.
    fn wake_one(self: &Arc<Self>, state: &mut State<R>) {
        if state.stopping || !state.may_begin(self.places) {
            return;
        }
        if state.idle == 0 && state.threads < self.threads_max {
            state.threads += 1;
            let workers = self.clone();
            spawn("worker", move || workers.work());
        } else {
            self.changed.notify_one();
        }
    }

    fn work(self: Arc<Self>) {
        let mut state = self.lock();
        while !state.stopping {
            let next = if state.may_begin(self.places) { state.queue.pop_front() } else { None };
            let Some(next) = next else {
                state.idle += 1;
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            };
            let run = state.next_run;
            state.next_run += 1;
            state.running.insert(run, Running { since: Instant::now(), has_place: true });
            self.wake_one(&mut state);
            drop(state);
            next.run();
            drop(next);
            state = self.lock();
            state.running.remove(&run);
            if state.stopping {
                self.changed.notify_all();
            }
        }
    }

    /// Takes the place of runs that take long.
    fn relieve(self: &Arc<Self>) {
        let mut state = self.lock();
        let long = |run: &Running| run.has_place && run.since.elapsed() > LONG_RUN;
        let mut relieved = false;
        for run in state.running.values_mut().filter(|run| long(run)) {
            run.has_place = false;
            relieved = true;
        }
        if relieved {
            self.wake_one(&mut state);
        }
    }
}

impl<R> State<R> {
    fn may_begin(&self, places: usize) -> bool {
        let taken = self.running.values().filter(|run| run.has_place).count();
        !self.queue.is_empty() && taken < places
    }
}

fn watch<R: Run>(workers: &Weak<Workers<R>>) {
    loop {
        thread::park_timeout(WATCH);
        match workers.upgrade() {
            Some(workers) if !workers.lock().stopping => workers.relieve(),
            _ => return,
        }
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(body);
    spawned.expect("the operating system gives a thread");
}

impl<R> Debug for Workers<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("places", &self.places).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Job(Box<dyn Fn() + Send + Sync>);

    impl Run for Job {
        fn run(&self) {
            (self.0)();
        }
    }

    impl Debug for Job {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Job")
        }
    }

    fn job(body: impl Fn() + Send + Sync + 'static) -> Arc<Job> {
        Arc::new(Job(Box::new(body)))
    }

    #[test]
    fn runs_that_take_long_do_not_stall_the_others() {
        let workers = Workers::new(1, 4);
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        // A long run: it ends when the test drops the other end.
        workers.submit(job(move || {
            released.lock().unwrap().recv().unwrap_err();
        }));
        let (done, is_done) = mpsc::channel();
        workers.submit(job(move || done.send(()).unwrap()));
        is_done
            .recv_timeout(Duration::from_secs(10))
            .expect("the short one runs beside the long one");
        drop(release);
        workers.stop();
    }

    #[test]
    fn no_more_run_at_once_than_there_are_places() {
        let workers = Workers::new(2, 8);
        let now = Arc::new(Mutex::new((0, 0)));
        let (done, is_done) = mpsc::channel();
        for _ in 0..40 {
            let (now, done) = (now.clone(), done.clone());
            workers.submit(job(move || {
                {
                    let mut now = now.lock().unwrap();
                    now.0 += 1;
                    now.1 = now.1.max(now.0);
                }
                thread::yield_now();
                now.lock().unwrap().0 -= 1;
                done.send(()).unwrap();
            }));
        }
        for _ in 0..40 {
            is_done.recv_timeout(Duration::from_secs(10)).expect("all run");
        }
        assert!(now.lock().unwrap().1 <= 2);
        workers.stop();
    }
}
