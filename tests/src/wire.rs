//! A wire that can be cut: whoever connects to its one end is connected with what is at the other.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From who connected.
    There,
    /// To who connected.
    Back,
}

#[derive(Debug)]
struct State {
    to: SocketAddr,
    /// Nothing arrives: there, and back.
    is_stalled: [bool; 2],
    /// All connections of an earlier one are to end.
    generation: u64,
    open: Vec<TcpStream>,
    is_gone: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// Passes everything on, until it is stalled or cut. Its threads end when it goes.
#[derive(Debug)]
pub struct Wire {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Wire {
    /// To whoever listens there, now or later.
    pub fn to(address: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let own = listener.local_addr().expect("a bound socket has an address");
        let state = State {
            to: address,
            is_stalled: [false; 2],
            generation: 0,
            open: Vec::new(),
            is_gone: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let of_thread = shared.clone();
        thread::spawn(move || take_connections(&of_thread, &listener));
        Self { address: own, shared }
    }

    /// From now on somebody else is at its other end.
    pub fn lead_to(&self, address: SocketAddr) {
        self.shared.lock().to = address;
    }

    /// Bytes that go this way wait from now on, as when a network loses all packets.
    pub fn stall(&self, way: Way) {
        self.shared.lock().is_stalled[way as usize] = true;
    }

    /// Both ways.
    pub fn stall_all(&self) {
        self.shared.lock().is_stalled = [true; 2];
    }

    /// What waited goes on.
    pub fn resume(&self) {
        self.shared.lock().is_stalled = [false; 2];
        self.shared.changed.notify_all();
    }

    /// Ends all connections; new ones can be made.
    pub fn cut(&self) {
        let mut state = self.shared.lock();
        state.generation += 1;
        for stream in state.open.drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.lock().is_gone = true;
        self.cut();
        // Wakes who waits for connections.
        TcpStream::connect(self.address).ok();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while this way is stalled; false if the connection is to end.
    fn may_pass(&self, way: Way, generation: u64) -> bool {
        let mut state = self.lock();
        while state.is_stalled[way as usize] && state.generation == generation {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.generation == generation
    }
}

fn take_connections(shared: &Arc<Shared>, listener: &TcpListener) {
    for stream in listener.incoming() {
        if shared.lock().is_gone {
            return;
        }
        // An error is another's: nobody is there, or it went away.
        stream.and_then(|stream| connect(shared, stream)).ok();
    }
}

fn connect(shared: &Arc<Shared>, from: TcpStream) -> io::Result<()> {
    let address = shared.lock().to;
    let to = TcpStream::connect(address)?;
    for stream in [&from, &to] {
        stream.set_nodelay(true)?;
    }
    let generation = {
        let mut state = shared.lock();
        state.open.extend([from.try_clone()?, to.try_clone()?]);
        state.generation
    };
    let ways = [(Way::There, from.try_clone()?, to.try_clone()?), (Way::Back, to, from)];
    for (way, from, to) in ways {
        let shared = shared.clone();
        thread::spawn(move || carry(&shared, generation, way, from, to));
    }
    Ok(())
}

fn carry(shared: &Shared, generation: u64, way: Way, mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 16 * 1024];
    loop {
        let read = from.read(&mut bytes).unwrap_or(0);
        if !shared.may_pass(way, generation) {
            return;
        }
        if read == 0 || to.write_all(&bytes[..read]).is_err() {
            // What was under way the other way is lost too, as when a process dies.
            from.shutdown(Shutdown::Both).ok();
            to.shutdown(Shutdown::Both).ok();
            return;
        }
    }
}
