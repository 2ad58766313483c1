//! A simulated computer: a clock, an address, a disk, and the process that runs on it.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{RngCore as _, SeedableRng as _, rngs::StdRng};
use tandem::machine::{self, Connecting, Simulated, SimulatedListener};
use tokio::{runtime::Runtime, task::JoinHandle, time::Instant};

use crate::{
    disk::{Cut, Disk},
    network::{Network, Port},
};

/// The smallest step of a clock.
pub const STEP: Duration = Duration::from_millis(1);

/// What its processes get instead of a real machine.
struct Machine {
    chance: Mutex<StdRng>,
    port: Port,
    disk: Disk,
    /// Time since it was made, in ms.
    awake_ms: AtomicU64,
}

impl Simulated for Machine {
    fn random(&self, bytes: &mut [u8]) {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes);
    }

    fn awake(&self) -> Duration {
        Duration::from_millis(self.awake_ms.load(Ordering::Relaxed))
    }

    fn connect(&self, to: SocketAddr) -> Connecting {
        self.port.connect(to)
    }

    fn bind(&self, at: SocketAddr) -> io::Result<Box<dyn SimulatedListener>> {
        self.port.bind(at)
    }

    fn disk(&self, file: &Path) -> Box<dyn redb::StorageBackend> {
        self.disk.open(file)
    }

    fn free_bytes(&self) -> u64 {
        self.disk.free_bytes()
    }
}

/// See the module.
pub struct Host {
    pub name: &'static str,
    pub ip: IpAddr,
    network: Network,
    machine: Arc<Machine>,
    process: Option<Process>,
    /// How fast its clock goes, in thousandths.
    rate: u64,
    /// Of the next step of its clock, in thousandths.
    part: u64,
    /// Until then it stands still.
    paused_until: Duration,
    /// For so long it stood still and has not noticed.
    behind: Duration,
}

/// What runs on a host.
struct Process {
    runtime: Runtime,
    work: JoinHandle<()>,
    began: Instant,
    steps: u32,
}

impl Host {
    pub fn new(name: &'static str, ip: IpAddr, network: &Network, seed: u64) -> Self {
        let machine = Machine {
            chance: Mutex::new(StdRng::seed_from_u64(seed)),
            port: network.at(ip),
            disk: Disk::new(),
            awake_ms: AtomicU64::new(0),
        };
        Self {
            name,
            ip,
            network: network.clone(),
            machine: Arc::new(machine),
            process: None,
            rate: 1000,
            part: 0,
            paused_until: Duration::ZERO,
            behind: Duration::ZERO,
        }
    }

    /// Starts a process, if none runs.
    pub fn start<F: Future<Output = ()> + Send + 'static>(&mut self, work: impl FnOnce() -> F) {
        if self.process.is_some() {
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O needs nothing");
        let (work, began) = machine::within(self.machine.clone(), || {
            let _inside = runtime.enter();
            (runtime.spawn(work()), Instant::now())
        });
        self.process = Some(Process { runtime, work, began, steps: 0 });
    }

    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// The process is gone in this moment; what it had written is there.
    pub fn kill(&mut self) {
        self.end(Cut::Nothing);
    }

    /// The power is gone in this moment; of what was not synced anything may be there.
    pub fn cut_power(&mut self, style: Cut) {
        self.network.unplug(self.ip);
        self.end(style);
    }

    /// The power is back.
    pub fn plug(&mut self) {
        self.network.plug(self.ip);
    }

    fn end(&mut self, style: Cut) {
        let Some(process) = self.process.take() else { return };
        self.machine.disk.power_off();
        self.network.kill(self.ip);
        machine::within(self.machine.clone(), || drop(process));
        let mut chance = self.machine.chance.lock().unwrap_or_else(PoisonError::into_inner);
        self.machine.disk.power_on(style, &mut chance);
        (self.paused_until, self.behind) = (Duration::ZERO, Duration::ZERO);
    }

    /// It stands still until then, and does not notice.
    pub fn pause_until(&mut self, until: Duration) {
        self.paused_until = until;
    }

    /// How fast its clock goes, in thousandths of the others'.
    pub fn set_rate(&mut self, rate: u64) {
        self.rate = rate;
    }

    pub fn disk(&self) -> &Disk {
        &self.machine.disk
    }

    /// What takes place within one step of the others' time. Says whether a process ended by itself.
    pub fn step(&mut self, now: Duration) -> bool {
        let is_paused = now < self.paused_until;
        self.part += self.rate;
        let steps = u32::try_from(self.part / 1000).unwrap_or(u32::MAX);
        self.part %= 1000;
        self.machine.awake_ms.fetch_add(steps.into(), Ordering::Relaxed);
        if is_paused {
            self.behind += STEP * steps;
            return false;
        }
        let behind = std::mem::take(&mut self.behind);
        let Some(process) = &mut self.process else { return false };
        machine::within(self.machine.clone(), || process.step(steps, behind));
        if !process.work.is_finished() {
            return false;
        }
        self.end(Cut::Nothing);
        true
    }
}

impl Process {
    fn step(&mut self, steps: u32, behind: Duration) {
        self.steps += steps + u32::try_from(behind.as_millis()).unwrap_or(u32::MAX);
        let until = self.began + STEP * self.steps;
        self.runtime.block_on(async {
            if !behind.is_zero() {
                tokio::time::advance(behind).await;
            }
            // Also where the time is there already: what was woken has its turn.
            tokio::task::yield_now().await;
            tokio::time::sleep_until(until).await;
        });
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("name", &self.name).finish_non_exhaustive()
    }
}
