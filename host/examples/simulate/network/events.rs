//! What happens as time goes on: things arrive, are sent again, are given up.

use std::{io, net::IpAddr, time::Duration};

use super::{
    connection::{EndId, Known, Load, Owner, Side},
    state::{GIVE_UP, PROBE, State, WINDOW},
};

/// What was lost is sent again after this, after twice as long, and so on.
const SEND_AGAIN: Duration = Duration::from_millis(200);
/// Who gets no answer knocks again after these.
const KNOCK_AGAIN: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
const BACKLOG: usize = 128;

#[derive(Debug)]
pub(super) enum Event {
    /// The first segment that this end has under way arrives, or is sent again.
    Segment(EndId),
    /// The end that sent something is told what arrived of it.
    Confirm(Confirm),
    ConfirmAgain(Confirm),
    /// The other end is lost.
    Reset(EndId),
    GiveUp(EndId),
    Probe(EndId),
    KnockAgain(u64, usize),
    Knock(u64),
    Answer(u64),
    ConnectGiveUp(u64),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Confirm {
    sender: EndId,
    arrived: u64,
    read: u64,
    first_sent: Duration,
}

impl State {
    pub(super) fn advance(&mut self, to: Duration) {
        while let Some(first) = self.events.first_entry() {
            if first.key().0 > to {
                break;
            }
            let ((at, _), event) = first.remove_entry();
            self.now = self.now.max(at);
            self.happens(event);
        }
        self.now = self.now.max(to);
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Segment(sender) => self.segment(sender),
            Event::Confirm(confirm) => self.confirmed(confirm),
            Event::ConfirmAgain(confirm) => self.confirm_again(confirm),
            Event::Reset(end) => self.was_reset(end),
            Event::GiveUp(end) => self.look_at(end),
            Event::Probe(end) => self.ask_for_room(end),
            Event::KnockAgain(connection, times) => self.knock(connection, times),
            Event::Knock(connection) => self.answer(connection),
            Event::Answer(connection) => self.answered(connection),
            Event::ConnectGiveUp(connection) => {
                if self.opens(connection) {
                    let client = EndId { connection, side: Side::Client };
                    self.fail(client, io::ErrorKind::TimedOut);
                }
            }
        }
    }

    /// Whether a segment that is sent now flies, and when it arrives or is to be sent again.
    pub(super) fn launch(
        &mut self,
        from: IpAddr,
        to: IpAddr,
        first_sent: Duration,
    ) -> (bool, Duration) {
        match self.travel(from, to) {
            Some(at) => (true, at),
            None => (false, again_after(first_sent, self.now)),
        }
    }

    pub(super) fn schedule_first(&mut self, sender: EndId) {
        let now = self.now;
        let Some(way) = self.way(sender) else { return };
        let Some(first) = way.queue.front() else { return };
        let key = (first.when.max(now), first.sequence);
        way.scheduled = Some(key);
        self.events.insert(key, Event::Segment(sender));
    }

    fn segment(&mut self, sender: EndId) {
        let Some((from, to)) = self.hosts_from(sender) else { return };
        let Some(way) = self.way(sender) else { return };
        way.scheduled = None;
        let Some(first) = way.queue.front() else { return };
        if !first.flies {
            let first_sent = first.first_sent;
            let (flies, when) = self.launch(from, to, first_sent);
            let first = self.way(sender).and_then(|way| way.queue.front_mut());
            let first = first.expect("it is still there");
            (first.flies, first.when, first.again) = (flies, when, true);
            return self.schedule_first(sender);
        }
        if !self.gets_in(from, to) {
            return self.lost(sender);
        }
        if self.is_refused(from, to) {
            self.reset(sender, Duration::ZERO);
            return self.lost(sender);
        }
        if !self.is_taken(sender) {
            return self.lost(sender);
        }
        self.take(sender);
    }

    /// The sender has it still, and sends it again if it is still there itself.
    fn lost(&mut self, sender: EndId) {
        let now = self.now;
        let gone = self.end(sender).is_none_or(|end| end.known == Known::Gone);
        let Some(way) = self.way(sender) else { return };
        if gone {
            way.queue.clear();
            return self.clean(sender.connection);
        }
        // What flies behind it meets the same.
        for segment in &mut way.queue {
            (segment.flies, segment.when) = (false, again_after(segment.first_sent, now));
        }
        self.schedule_first(sender);
    }

    /// Whether the host of the other end takes the first segment; if it cannot, the sender hears of it.
    fn is_taken(&mut self, sender: EndId) -> bool {
        let receiver = sender.other();
        let load = self.way(sender).and_then(|way| way.queue.front()).map(|first| &first.load);
        let (opens, bytes) =
            (matches!(load, Some(Load::Open)), matches!(load, Some(Load::Bytes(_))));
        let Some(end) = self.end(receiver) else { return false };
        match end.known {
            Known::Gone => {}
            Known::Opening if opens => match self.queue_up(receiver) {
                Some(taken) => return taken,
                None => {
                    self.end(receiver).expect("it was there").known = Known::Gone;
                }
            },
            Known::Open if bytes && end.owner == Owner::Nobody => {
                self.abort(receiver);
                return false;
            }
            Known::Opening | Known::Open => return true,
        }
        self.reset(sender, Duration::ZERO);
        false
    }

    /// A client that has its answer waits for being accepted; false if too many do, none if there is no listener.
    fn queue_up(&mut self, server: EndId) -> Option<bool> {
        let end = self.end(server)?;
        let (host, at) = (end.host, end.at);
        let waiting = self.listeners.get_mut(&(host, at.port()))?;
        if waiting.queue.len() >= BACKLOG {
            return Some(false);
        }
        waiting.queue.push_back(server.connection);
        self.wake.append(&mut waiting.acceptors);
        let end = self.end(server)?;
        (end.known, end.owner) = (Known::Open, Owner::Listener);
        Some(true)
    }

    fn take(&mut self, sender: EndId) {
        let receiver = sender.other();
        let Some(way) = self.way(sender) else { return };
        let Some(segment) = way.queue.pop_front() else { return };
        way.inbox.arrived += 1;
        match segment.load {
            Load::Open => {}
            Load::Bytes(bytes) => way.inbox.bytes.extend(&bytes),
            Load::End => way.inbox.ended = true,
        }
        let reader = self.end(receiver).and_then(|end| end.reader.take());
        self.wake.extend(reader);
        self.tell(sender);
        if segment.again {
            self.catch_up(sender);
        }
        self.schedule_first(sender);
        self.clean(sender.connection);
    }

    /// What was lost meanwhile goes out at once when the sender sees that something gets through again.
    fn catch_up(&mut self, sender: EndId) {
        let (now, hosts) = (self.now, self.hosts_from(sender));
        let Some((from, to)) = hosts else { return };
        let Some(way) = self.way(sender) else { return };
        let mut queue = std::mem::take(&mut way.queue);
        for segment in queue.iter_mut().filter(|segment| !segment.flies) {
            (segment.flies, segment.when) = self.launch(from, to, now);
        }
        self.way(sender).expect("it was there").queue = queue;
    }

    /// Tells an end what became of that which it sent.
    pub(super) fn tell(&mut self, sender: EndId) {
        let first_sent = self.now;
        let Some(way) = self.way(sender) else { return };
        way.inbox.told = way.inbox.read;
        let confirm =
            Confirm { sender, arrived: way.inbox.arrived, read: way.inbox.read, first_sent };
        self.confirm(confirm);
    }

    fn confirm(&mut self, confirm: Confirm) {
        let Some((from, to)) = self.hosts_from(confirm.sender.other()) else { return };
        match self.launch(from, to, confirm.first_sent) {
            (true, at) => self.schedule(at, Event::Confirm(confirm)),
            (false, at) => self.schedule(at, Event::ConfirmAgain(confirm)),
        }
    }

    fn confirm_again(&mut self, confirm: Confirm) {
        let gone = |end| {
            self.connections
                .get(&confirm.sender.connection)
                .is_none_or(|connection| connection.peek(end).known == Known::Gone)
        };
        if Side::BOTH.into_iter().any(gone) {
            return;
        }
        let Some(way) = self.way(confirm.sender) else { return };
        // Another one came through.
        if way.confirmed >= confirm.arrived && way.known_read >= confirm.read {
            return;
        }
        self.confirm(confirm);
    }

    fn confirmed(&mut self, confirm: Confirm) {
        let now = self.now;
        let Some((to, from)) = self.hosts_from(confirm.sender) else { return };
        if !self.gets_in(from, to) {
            let at = again_after(confirm.first_sent, now);
            return self.schedule(at, Event::ConfirmAgain(confirm));
        }
        let Some(way) = self.way(confirm.sender) else { return };
        if confirm.arrived > way.confirmed {
            (way.confirmed, way.confirmed_at) = (confirm.arrived, now);
        }
        way.known_read = way.known_read.max(confirm.read);
        if way.written - way.known_read < WINDOW {
            let writer = self.end(confirm.sender).and_then(|end| end.writer.take());
            self.wake.extend(writer);
        }
    }

    /// Sends the other end word that this one is lost, once; what went before it arrives before it.
    pub(super) fn reset(&mut self, other: EndId, after: Duration) {
        let Some((from, to)) = self.hosts_from(other.other()) else { return };
        if let Some(at) = self.travel(from, to) {
            self.schedule(at.max(after), Event::Reset(other));
        }
    }

    fn was_reset(&mut self, end: EndId) {
        let Some((from, to)) = self.hosts_from(end.other()) else { return };
        if !self.gets_in(from, to) {
            return;
        }
        let ended = self.way(end.other()).is_some_and(|way| way.inbox.ended);
        let why = match self.end(end).map(|end| end.known) {
            Some(Known::Opening) if end.side == Side::Client => io::ErrorKind::ConnectionRefused,
            Some(Known::Open) if ended => io::ErrorKind::BrokenPipe,
            Some(Known::Open) => io::ErrorKind::ConnectionReset,
            _ => return,
        };
        self.fail(end, why);
    }

    /// Gives a peer up that did not confirm anything for too long.
    fn look_at(&mut self, end: EndId) {
        let now = self.now;
        if self.end(end).is_none_or(|end| end.known == Known::Gone) {
            return;
        }
        let Some(way) = self.way(end) else { return };
        way.watched = way.unconfirmed();
        let at = way.confirmed_at + GIVE_UP;
        match way.watched {
            false => {}
            true if at > now => self.schedule(at, Event::GiveUp(end)),
            true => self.fail(end, io::ErrorKind::TimedOut),
        }
    }

    /// Who waits for room finds out so whether anybody is there who could make some.
    pub(super) fn wait_for_room(&mut self, end: EndId) {
        let Some(way) = self.way(end) else { return };
        if !std::mem::replace(&mut way.probed, true) {
            self.schedule(self.now + PROBE, Event::Probe(end));
        }
    }

    fn ask_for_room(&mut self, end: EndId) {
        let waits = self.end(end).is_some_and(|it| it.known == Known::Open && it.writer.is_some());
        let Some(way) = self.way(end) else { return };
        way.probed = false;
        if waits && way.written - way.known_read == WINDOW {
            self.send(end, Load::Bytes(Vec::new()));
            self.wait_for_room(end);
        }
    }

    fn opens(&self, connection: u64) -> bool {
        let connection = self.connections.get(&connection);
        connection.is_some_and(|it| it.peek(Side::Client).known == Known::Opening)
    }

    pub(super) fn knock(&mut self, connection: u64, times: usize) {
        if !self.opens(connection) {
            return;
        }
        if let Some(pause) = KNOCK_AGAIN.get(times) {
            self.schedule(self.now + *pause, Event::KnockAgain(connection, times + 1));
        }
        let hosts = self.hosts_from(EndId { connection, side: Side::Client });
        let Some((from, to)) = hosts else { return };
        if let Some(at) = self.travel(from, to) {
            self.schedule(at, Event::Knock(connection));
        }
    }

    /// At the host of the server, whoever is there.
    fn answer(&mut self, connection: u64) {
        let client = EndId { connection, side: Side::Client };
        let Some((from, to)) = self.hosts_from(client) else { return };
        if !self.gets_in(from, to) {
            return;
        }
        if self.is_refused(from, to) {
            return self.reset(client, Duration::ZERO);
        }
        let Some(server) = self.end(client.other()) else { return };
        let at = server.at;
        let waiting = self
            .listeners
            .get(&(to, at.port()))
            .filter(|waiting| waiting.at.ip().is_unspecified() || waiting.at.ip() == at.ip());
        match waiting.map(|waiting| waiting.queue.len()) {
            None => self.reset(client, Duration::ZERO),
            Some(BACKLOG..) => {}
            Some(_) => {
                if let Some(at) = self.travel(to, from) {
                    self.schedule(at, Event::Answer(connection));
                }
            }
        }
    }

    fn answered(&mut self, connection: u64) {
        let client = EndId { connection, side: Side::Client };
        let Some((to, from)) = self.hosts_from(client) else { return };
        if !self.gets_in(from, to) || !self.opens(connection) {
            return;
        }
        let Some(end) = self.end(client) else { return };
        end.known = Known::Open;
        let waker = end.writer.take();
        self.wake.extend(waker);
        self.send(client, Load::Open);
    }
}

/// The next time at which TCP would send again what it first sent then.
fn again_after(first_sent: Duration, now: Duration) -> Duration {
    let mut pause = SEND_AGAIN;
    let mut at = first_sent + pause;
    while at <= now {
        pause *= 2;
        at += pause;
    }
    at
}
