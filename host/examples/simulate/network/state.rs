//! The hosts, their connections, what is under way; and what programs do to them. What comes of it is in `events`.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    task::{Context, Poll, Waker},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    Link,
    connection::{Connection, End, EndId, Key, Known, Load, Owner, Segment, Side, Way},
    events::Event,
};

/// Bytes that one end may have written and the other not read.
pub(super) const WINDOW: u64 = 256 << 10;
const SEGMENT: usize = 16 << 10;
/// A peer that does not confirm anything for so long is given up.
pub(super) const GIVE_UP: Duration = Duration::from_secs(16);
/// Who waits for room asks so often.
pub(super) const PROBE: Duration = Duration::from_secs(2);
const CONNECT_GIVE_UP: Duration = Duration::from_secs(20);
const FIRST_PORT: u16 = 32_768;

#[derive(Debug)]
pub(super) struct State {
    pub now: Duration,
    pub events: BTreeMap<Key, Event>,
    pub connections: BTreeMap<u64, Connection>,
    pub listeners: BTreeMap<(IpAddr, u16), Waiting>,
    pub rng: StdRng,
    links: BTreeMap<(IpAddr, IpAddr), Link>,
    hosts: BTreeMap<IpAddr, Host>,
    /// Of events, connections, listeners.
    numbers: u64,
    pub wake: Vec<Waker>,
    /// Nobody needs these any more.
    pub spent: Vec<Waker>,
}

#[derive(Debug)]
struct Host {
    plugged: bool,
    next_port: u16,
}

/// A listener and who waits in front of it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub number: u64,
    pub at: SocketAddr,
    pub queue: VecDeque<u64>,
    pub acceptors: Vec<Waker>,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: Duration::ZERO,
            events: BTreeMap::new(),
            connections: BTreeMap::new(),
            listeners: BTreeMap::new(),
            rng: StdRng::seed_from_u64(seed),
            links: BTreeMap::new(),
            hosts: BTreeMap::new(),
            numbers: 0,
            wake: Vec::new(),
            spent: Vec::new(),
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn schedule(&mut self, at: Duration, event: Event) {
        let key = (at, self.number());
        self.events.insert(key, event);
    }

    #[cfg(test)]
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn add(&mut self, host: IpAddr) {
        self.hosts.entry(host).or_insert(Host { plugged: true, next_port: FIRST_PORT });
    }

    pub(super) fn link(&mut self, from: IpAddr, to: IpAddr, link: Link) {
        self.links.insert((from, to), link);
    }

    pub(super) fn heal(&mut self) {
        self.links.clear();
    }

    /// When what is sent now arrives; none if it does not.
    pub(super) fn travel(&mut self, from: IpAddr, to: IpAddr) -> Option<Duration> {
        let default = Link::default();
        let Link { latency, loss, cut, .. } = self.links.get(&(from, to)).unwrap_or(&default);
        if *cut || (*loss > 0.0 && self.rng.random_bool(loss.min(1.0))) {
            return None;
        }
        let takes =
            if latency.is_empty() { latency.start } else { self.rng.random_range(latency.clone()) };
        Some(self.now + takes)
    }

    /// Whether what was under way gets in.
    pub(super) fn gets_in(&self, from: IpAddr, to: IpAddr) -> bool {
        self.hosts.get(&to).is_some_and(|host| host.plugged)
            && !self.links.get(&(from, to)).is_some_and(|link| link.cut)
    }

    pub(super) fn is_refused(&self, from: IpAddr, to: IpAddr) -> bool {
        self.links.get(&(from, to)).is_some_and(|link| link.refuses)
    }

    pub(super) fn bind(&mut self, host: IpAddr, at: SocketAddr) -> io::Result<(u64, SocketAddr)> {
        if at.ip() != host && !at.ip().is_unspecified() && !at.ip().is_loopback() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let mut at = at;
        if at.port() == 0 {
            at.set_port(self.free_port(host));
        }
        if self.listeners.contains_key(&(host, at.port())) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let number = self.number();
        let waiting = Waiting { number, at, queue: VecDeque::new(), acceptors: Vec::new() };
        self.listeners.insert((host, at.port()), waiting);
        Ok((number, at))
    }

    pub(super) fn poll_accept(
        &mut self,
        (host, port): (IpAddr, u16),
        number: u64,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<EndId>> {
        let waiting = self.listeners.get_mut(&(host, port));
        let Some(waiting) = waiting.filter(|waiting| waiting.number == number) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if let Some(connection) = waiting.queue.pop_front() {
            let end = EndId { connection, side: Side::Server };
            self.end(end).expect("who waits to be accepted has an owner").owner = Owner::Program;
            return Poll::Ready(Ok(end));
        }
        if !waiting.acceptors.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.acceptors.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// The listener with that number, if it is still that one.
    pub(super) fn unbind(&mut self, at: (IpAddr, u16), number: Option<u64>) {
        let it = self.listeners.get(&at);
        if it.is_none_or(|waiting| number.is_some_and(|number| number != waiting.number)) {
            return;
        }
        let Some(waiting) = self.listeners.remove(&at) else { return };
        self.spent.extend(waiting.acceptors);
        for connection in waiting.queue {
            let end = EndId { connection, side: Side::Server };
            self.disown(end);
            self.abort(end);
        }
    }

    pub(super) fn connect(&mut self, host: IpAddr, to: SocketAddr) -> EndId {
        let port = self.free_port(host);
        let (server, mine) = match to.ip() {
            ip if ip.is_loopback() => (host, ip),
            IpAddr::V4(ip) if ip.is_unspecified() => (host, Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => (host, Ipv6Addr::LOCALHOST.into()),
            ip => (ip, host),
        };
        let client = End::new(host, SocketAddr::new(mine, port), Owner::Program);
        let server = End::new(server, to, Owner::Nobody);
        let connection = self.number();
        self.connections.insert(connection, Connection::new(client, server));
        self.knock(connection, 0);
        self.schedule(self.now + CONNECT_GIVE_UP, Event::ConnectGiveUp(connection));
        EndId { connection, side: Side::Client }
    }

    fn free_port(&mut self, host: IpAddr) -> u16 {
        loop {
            let Some(known) = self.hosts.get_mut(&host) else { return FIRST_PORT };
            let port = known.next_port;
            known.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
            if !self.listeners.contains_key(&(host, port)) {
                return port;
            }
        }
    }

    pub(super) fn end(&mut self, end: EndId) -> Option<&mut End> {
        self.connections.get_mut(&end.connection).map(|connection| connection.end(end.side))
    }

    /// What an end sends.
    pub(super) fn way(&mut self, end: EndId) -> Option<&mut Way> {
        self.connections.get_mut(&end.connection).map(|connection| connection.way(end.side))
    }

    pub(super) fn hosts_from(&self, end: EndId) -> Option<(IpAddr, IpAddr)> {
        let connection = self.connections.get(&end.connection)?;
        Some((connection.peek(end.side).host, connection.peek(end.side.other()).host))
    }

    /// As many as there is room for; 0 if there is none.
    pub(super) fn write(&mut self, end: EndId, bytes: &[u8]) -> usize {
        let Some(way) = self.way(end) else { return 0 };
        let room = usize::try_from(WINDOW - (way.written - way.known_read));
        let taken = bytes.len().min(room.expect("it is at most the window"));
        way.written += taken as u64;
        for part in bytes[..taken].chunks(SEGMENT) {
            self.send(end, Load::Bytes(part.to_vec()));
        }
        taken
    }

    /// There will be no more from this end.
    pub(super) fn finish(&mut self, end: EndId) {
        if let Some(way) = self.way(end).filter(|way| !way.ended) {
            way.ended = true;
            self.send(end, Load::End);
        }
    }

    pub(super) fn send(&mut self, end: EndId, load: Load) {
        let (now, sequence) = (self.now, self.number());
        let Some((from, to)) = self.hosts_from(end) else { return };
        let (flies, when) = self.launch(from, to, now);
        let segment = Segment { load, first_sent: now, flies, when, again: false, sequence };
        let way = self.way(end).expect("its hosts are known");
        way.queue.push_back(segment);
        if !way.unconfirmed() {
            way.confirmed_at = now;
        }
        way.sent += 1;
        let (first, watched) = (way.queue.len() == 1, std::mem::replace(&mut way.watched, true));
        if first {
            self.schedule_first(end);
        }
        if !watched {
            self.schedule(now + GIVE_UP, Event::GiveUp(end));
        }
    }

    /// The program lets go of its end, unless it died before.
    pub(super) fn release(&mut self, end: EndId) {
        let Some(known) = self.end(end).filter(|end| end.owner == Owner::Program) else { return };
        let known = known.known;
        self.disown(end);
        // As Linux does it: what comes back is a reset then.
        let unread = self.way(end.other()).is_some_and(|way| !way.inbox.bytes.is_empty());
        match known {
            Known::Open if !unread => self.finish(end),
            Known::Open | Known::Opening => self.abort(end),
            Known::Gone => {}
        }
        self.clean(end.connection);
    }

    pub(super) fn disown(&mut self, end: EndId) {
        let Some(it) = self.end(end) else { return };
        it.owner = Owner::Nobody;
        let wakers = it.reader.take().into_iter().chain(it.writer.take());
        self.spent.extend(wakers);
    }

    /// This end knows nothing any more; when the last that it sent arrives.
    fn vanish(&mut self, end: EndId) -> Duration {
        let Some(it) = self.end(end) else { return Duration::ZERO };
        it.known = Known::Gone;
        let way = self.way(end).expect("its end is there");
        let last = way.forget();
        if way.queue.is_empty()
            && let Some(key) = way.scheduled.take()
        {
            self.events.remove(&key);
        }
        last
    }

    /// This end is over without being finished, and the other is told so once.
    pub(super) fn abort(&mut self, end: EndId) {
        let after = self.vanish(end);
        self.reset(end.other(), after);
        self.clean(end.connection);
    }

    /// This end learns that the other is lost.
    pub(super) fn fail(&mut self, end: EndId, why: io::ErrorKind) {
        self.vanish(end);
        let Some(it) = self.end(end) else { return };
        it.error = Some(why);
        let wakers = it.reader.take().into_iter().chain(it.writer.take());
        self.wake.extend(wakers);
        self.clean(end.connection);
    }

    pub(super) fn clean(&mut self, connection: u64) {
        if self.connections.get(&connection).is_some_and(Connection::is_over) {
            self.connections.remove(&connection);
        }
    }

    pub(super) fn kill(&mut self, host: IpAddr) {
        for at in self.listeners_of(host) {
            self.unbind(at, None);
        }
        for end in self.ends_of(host) {
            let Some(it) = self.end(end) else { continue };
            if it.owner != Owner::Program {
                continue;
            }
            let known = it.known;
            self.disown(end);
            match known {
                Known::Open if self.rng.random() => self.finish(end),
                Known::Open | Known::Opening => {
                    self.lose_some(end);
                    self.abort(end);
                }
                Known::Gone => {}
            }
            self.clean(end.connection);
        }
    }

    /// What the program had written may not have left the machine.
    fn lose_some(&mut self, end: EndId) {
        let sent = self.way(end).map_or(0, |way| way.queue.len());
        let left = self.rng.random_range(0..=sent);
        if let Some(way) = self.way(end) {
            way.queue.truncate(left);
        }
    }

    pub(super) fn unplug(&mut self, host: IpAddr) {
        self.hosts.entry(host).or_insert(Host { plugged: true, next_port: FIRST_PORT }).plugged =
            false;
        for at in self.listeners_of(host) {
            let gone = self.listeners.remove(&at).map(|waiting| waiting.acceptors);
            self.spent.extend(gone.into_iter().flatten());
        }
        for end in self.ends_of(host) {
            let client = EndId { side: Side::Client, ..end };
            let knocks = self.end(client).is_some_and(|end| end.known == Known::Opening);
            self.disown(end);
            // The machine that comes up again may take one that still knocks.
            if end.side == Side::Client || !knocks {
                self.vanish(end);
            }
            self.clean(end.connection);
        }
    }

    pub(super) fn plug(&mut self, host: IpAddr) {
        self.hosts.entry(host).or_insert(Host { plugged: true, next_port: FIRST_PORT }).plugged =
            true;
    }

    fn listeners_of(&self, host: IpAddr) -> Vec<(IpAddr, u16)> {
        self.listeners.keys().copied().filter(|(of, _)| *of == host).collect()
    }

    fn ends_of(&self, host: IpAddr) -> Vec<EndId> {
        let ends = self.connections.iter().flat_map(|(&connection, it)| {
            let here = Side::BOTH.into_iter().filter(|&side| it.peek(side).host == host);
            here.map(move |side| EndId { connection, side })
        });
        ends.collect()
    }
}
