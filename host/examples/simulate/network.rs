//! A network of simulated hosts: TCP as programs see it, in global time and from one seed.
//!
//! Bytes of a connection come in order and none is missing. What a link loses or cuts off is sent again by the host that
//! sent it, as TCP does, until it gives up. Who is told of anything is told by something that travels: a host knows
//! nothing sooner than its link allows.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tandem::machine::{Connecting, SimulatedListener};

use self::{handles::Connect, state::State};

mod connection;
mod events;
mod handles;
mod state;
#[cfg(test)]
mod tests;

/// Clones are the same network.
#[derive(Clone)]
pub struct Network(Arc<Mutex<State>>);

/// One direction between two hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// Drawn for each segment.
    pub latency: Range<Duration>,
    /// From 0 to 1.
    pub loss: f64,
    /// Nothing arrives.
    pub cut: bool,
    /// A firewall answers for the host behind it: nobody is there, and no connection is known.
    pub refuses: bool,
}

impl Default for Link {
    fn default() -> Self {
        let latency = Duration::from_micros(100)..Duration::from_millis(1);
        Self { latency, loss: 0.0, cut: false, refuses: false }
    }
}

/// The network as a host sees it.
#[derive(Debug, Clone)]
pub struct Port {
    network: Network,
    host: IpAddr,
}

impl Network {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State::new(seed))))
    }

    /// A host that was never there before is plugged in.
    pub fn at(&self, host: IpAddr) -> Port {
        self.with(|state| state.add(host));
        Port { network: self.clone(), host }
    }

    /// Lets everything arrive that is due by this global time, and wakes who waits for it.
    pub fn advance(&self, to: Duration) {
        self.with(|state| state.advance(to));
    }

    /// When something happens next, if nobody sends anything before.
    #[cfg(test)]
    pub fn next_due(&self) -> Option<Duration> {
        self.with(|state| state.next_due())
    }

    /// What goes from `from` to `to` is treated so from now on; also what is under way, if it is cut.
    pub fn link(&self, from: IpAddr, to: IpAddr, link: Link) {
        self.with(|state| state.link(from, to, link));
    }

    /// All links are as in the beginning.
    pub fn heal(&self) {
        self.with(State::heal);
    }

    /// The process died and its machine is there: peers are told, by an end or a reset. Before its runtime is dropped:
    /// what it still has does nothing then.
    pub fn kill(&self, host: IpAddr) {
        self.with(|state| state.kill(host));
    }

    /// The machine is gone with all its connections, and nobody is told. Before its runtime is dropped.
    pub fn unplug(&self, host: IpAddr) {
        self.with(|state| state.unplug(host));
    }

    /// The machine is there again and knows no connection.
    pub fn plug(&self, host: IpAddr) {
        self.with(|state| state.plug(host));
    }

    /// Wakers are used and dropped outside the lock: with them a whole task may go, and what it has of the network.
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let done = work(&mut state);
        let (wake, spent) = (std::mem::take(&mut state.wake), std::mem::take(&mut state.spent));
        drop(state);
        for waker in wake {
            waker.wake();
        }
        drop(spent);
        done
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

impl Port {
    /// Port 0 gets a free one.
    pub fn bind(&self, at: SocketAddr) -> io::Result<Box<dyn SimulatedListener>> {
        handles::bind(&self.network, self.host, at)
    }

    /// Sets out at once; whoever drops it gives it up.
    pub fn connect(&self, to: SocketAddr) -> Connecting {
        Box::pin(Connect::new(&self.network, self.host, to))
    }
}
