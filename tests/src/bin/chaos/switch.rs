//! The switch between the machines: takes each frame from one and hands it to another, late, twice or not at all, as the
//! link between the two is to be. Each direction of a link is one of its own.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{Read, Write},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::SmallRng};

use crate::{hosts::At, lock};

/// Of an Ethernet frame with its head.
const LONGEST_FRAME: usize = 2048;
/// What waits longer for its turn on a slow link is dropped, as a switch's memory is small.
const LONGEST_QUEUE: Duration = Duration::from_secs(2);

/// How one direction is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Link {
    pub is_cut: bool,
    /// Cut for so long, whole for so long, and so on.
    pub flaps: Option<Duration>,
    /// Share of frames.
    pub lost: f64,
    pub doubled: f64,
    pub delay: Duration,
    /// Up to so much more, each frame by itself: so they overtake each other.
    pub jitter: Duration,
    pub bytes_per_second: Option<f64>,
}

#[derive(Debug)]
struct State {
    links: [[Link; 4]; 4],
    /// When the last frame on a slow link is through.
    free_at: [[Instant; 4]; 4],
    late: BinaryHeap<Reverse<Late>>,
    random: SmallRng,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Late {
    due: Instant,
    to: usize,
    frame: Vec<u8>,
}

#[derive(Debug)]
pub struct Switch {
    devices: [File; 4],
    began: Instant,
    state: Mutex<State>,
    /// A late frame is new.
    is_late: Condvar,
}

impl Switch {
    /// Its threads are this program's to the end.
    pub fn start(devices: [File; 4], seed: u64) -> Arc<Self> {
        let began = Instant::now();
        let state = State {
            links: Default::default(),
            free_at: [[began; 4]; 4],
            late: BinaryHeap::new(),
            random: SmallRng::seed_from_u64(seed),
        };
        let is_late = Condvar::new();
        let switch = Arc::new(Self { devices, began, state: Mutex::new(state), is_late });
        for from in 0..4 {
            let switch = switch.clone();
            thread::spawn(move || switch.take(from));
        }
        let late = switch.clone();
        thread::spawn(move || late.hand_out_late());
        switch
    }

    /// One direction.
    pub fn set(&self, from: At, to: At, link: Link) {
        lock(&self.state).links[from as usize][to as usize] = link;
    }

    pub fn heal(&self) {
        lock(&self.state).links = Default::default();
    }

    fn take(&self, from: usize) {
        let mut buffer = [0; LONGEST_FRAME];
        // It ends with the machine.
        while let Ok(length @ 12..) = (&self.devices[from]).read(&mut buffer) {
            let frame = &buffer[..length];
            for at in At::ALL {
                let is_for_all = frame[0] & 1 == 1;
                if at as usize != from && (is_for_all || frame[..6] == at.mac()) {
                    self.pass(from, at as usize, frame);
                }
            }
        }
    }

    fn pass(&self, from: usize, to: usize, frame: &[u8]) {
        let now = Instant::now();
        let state = &mut *lock(&self.state);
        let link = state.links[from][to];
        let is_down = |period: Duration| {
            ((now - self.began).as_millis() / period.as_millis().max(1)).is_multiple_of(2)
        };
        if link.is_cut || link.flaps.is_some_and(is_down) || state.random.random_bool(link.lost) {
            return;
        }
        let times = if state.random.random_bool(link.doubled) { 2 } else { 1 };
        for _ in 0..times {
            let mut due = now + link.delay + link.jitter.mul_f64(state.random.random());
            if let Some(rate) = link.bytes_per_second {
                let free_at = &mut state.free_at[from][to];
                let begins = (*free_at).max(now);
                if begins - now > LONGEST_QUEUE {
                    return;
                }
                #[expect(clippy::cast_precision_loss, reason = "a frame is short")]
                let takes = Duration::from_secs_f64(frame.len() as f64 / rate);
                *free_at = begins + takes;
                due += *free_at - now;
            }
            if due > now {
                state.late.push(Reverse(Late { due, to, frame: frame.to_vec() }));
                self.is_late.notify_one();
            } else {
                self.hand_out(to, frame);
            }
        }
    }

    fn hand_out_late(&self) {
        let mut state = lock(&self.state);
        loop {
            let now = Instant::now();
            while let Some(Reverse(next)) = state.late.pop() {
                if next.due > now {
                    state.late.push(Reverse(next));
                    break;
                }
                self.hand_out(next.to, &next.frame);
            }
            let next = state.late.peek().map(|Reverse(next)| next.due);
            let wait =
                next.map_or(Duration::from_secs(1), |due| due.saturating_duration_since(now));
            state =
                self.is_late.wait_timeout(state, wait).map_or_else(|e| e.into_inner().0, |w| w.0);
        }
    }

    /// A machine that takes nothing loses it.
    fn hand_out(&self, to: usize, frame: &[u8]) {
        (&self.devices[to]).write_all(frame).ok();
    }
}
