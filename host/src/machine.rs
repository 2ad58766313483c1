//! What a node takes from the machine it runs on: threads, connections, chance, disks, time awake.
//!
//! A simulation runs whole nodes on one thread and stands in for the machine there ([`Simulated`], [`within`]): with it,
//! work is done where it is asked for, and all that a machine decides comes from one seed. Nothing above notices.

use std::{
    cell::RefCell, io, net::SocketAddr, panic::resume_unwind, path::Path, pin::Pin, sync::Arc,
    thread::JoinHandle, time::Duration,
};

use redb::StorageBackend;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;

mod disk;
mod stream;

pub use disk::Disk;
pub use stream::{Connector, Listener, SimulatedListener, SimulatedStream, Stream};

/// A connection that is being made.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn SimulatedStream>>> + Send>>;

/// What a simulation gives a node instead.
pub trait Simulated: Send + Sync {
    fn random(&self, bytes: &mut [u8]);
    fn awake(&self) -> Duration;
    fn connect(&self, to: SocketAddr) -> Connecting;
    fn bind(&self, at: SocketAddr) -> io::Result<Box<dyn SimulatedListener>>;
    /// The file of that name; empty if there was none.
    fn disk(&self, file: &Path) -> Box<dyn StorageBackend>;
    fn free_bytes(&self) -> u64;
}

thread_local! {
    static SIMULATED: RefCell<Option<Arc<dyn Simulated>>> = const { RefCell::new(None) };
}

/// Runs `work` on a simulated machine; it must not outlive it on another thread.
pub fn within<T>(machine: Arc<dyn Simulated>, work: impl FnOnce() -> T) -> T {
    struct Back(Option<Arc<dyn Simulated>>);
    impl Drop for Back {
        fn drop(&mut self) {
            SIMULATED.set(self.0.take());
        }
    }
    let _back = Back(SIMULATED.replace(Some(machine)));
    work()
}

fn simulated() -> Option<Arc<dyn Simulated>> {
    SIMULATED.with_borrow(Clone::clone)
}

/// Whether everything happens on this thread.
pub fn is_simulated() -> bool {
    SIMULATED.with_borrow(Option::is_some)
}

/// Does what blocks for a while where it keeps nobody waiting.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    if is_simulated() {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        // The runtime ends, and with it whoever waits here.
        Err(_) => std::future::pending().await,
    }
}

/// The same, for work that borrows: others on this thread move to another one.
pub fn in_place<T>(work: impl FnOnce() -> T) -> T {
    if is_simulated() { work() } else { tokio::task::block_in_place(work) }
}

/// What `work` gives, one by one, as far as it is taken: at most `ahead` wait. `work` blocks meanwhile.
pub fn produce<T: Send + 'static>(
    ahead: usize,
    work: impl FnOnce(&mut dyn FnMut(T) -> bool) + Send + 'static,
) -> mpsc::Receiver<T> {
    let (give, taken) = mpsc::channel(ahead);
    if !is_simulated() {
        tokio::task::spawn_blocking(move || work(&mut |part| give.blocking_send(part).is_ok()));
        return taken;
    }
    let mut parts = Vec::new();
    work(&mut |part| {
        parts.push(part);
        true
    });
    start(async move {
        for part in parts {
            if give.send(part).await.is_err() {
                return;
            }
        }
    });
    taken
}

/// A thread of its own for what blocks again and again, and is async only to wait.
pub fn thread<F>(
    name: &str,
    work: impl FnOnce() -> F + Send + 'static,
) -> io::Result<Option<JoinHandle<()>>>
where
    F: Future<Output = ()> + Send + 'static,
{
    if is_simulated() {
        start(work());
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(move || runtime.block_on(work())).map(Some)
}

/// On a simulated machine only, where a thread would do it else.
#[expect(clippy::disallowed_methods, reason = "it ends with the simulated machine")]
pub fn start(work: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(work));
}

/// Bytes that nobody can foretell.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    match simulated() {
        Some(machine) => machine.random(&mut bytes),
        None => rand::fill(&mut bytes),
    }
    bytes
}

/// From 0 to 1.
pub fn chance() -> f64 {
    const STEPS: u32 = u32::MAX;
    f64::from(u32::from_be_bytes(random())) / f64::from(STEPS)
}

/// Time that goes on also while the machine sleeps.
pub fn awake() -> Duration {
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    match simulated() {
        Some(machine) => machine.awake(),
        None => Duration::try_from(clock_gettime(clock)).unwrap_or_default(),
    }
}

/// A file of a simulated machine; on another the file system has it.
pub fn disk(file: &Path) -> Option<Disk> {
    simulated().map(|machine| Disk(machine.disk(file)))
}

/// Copies a file that [`disk`] may have to one that the file system has.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let Some(disk) = disk(from) else { return std::fs::copy(from, to).map(drop) };
    let mut bytes = vec![0; usize::try_from(disk.len()?).map_err(io::Error::other)?];
    disk.read(0, &mut bytes)?;
    std::fs::write(to, bytes)
}

/// Bytes that this process may still write to the file system of `path`; none if it cannot be asked.
pub fn free_bytes(path: &Path) -> Option<u64> {
    match simulated() {
        Some(machine) => Some(machine.free_bytes()),
        None => {
            rustix::fs::statvfs(path).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
        }
    }
}
