use std::{
    cell::Cell,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use tandem::machine::{SimulatedListener, SimulatedStream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Runtime,
    task::{JoinHandle, LocalSet},
};

use super::{Link, Network, state::WINDOW};

type Stream = Box<dyn SimulatedStream>;

const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const TO_B: SocketAddr = SocketAddr::new(B, 80);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn slow(latency_ms: u64) -> Link {
    Link { latency: ms(latency_ms)..ms(latency_ms), ..Link::default() }
}

fn cut() -> Link {
    Link { cut: true, ..slow(10) }
}

/// Two hosts, 10 ms apart each way, and tasks that run whenever something arrived.
struct World {
    network: Network,
    tasks: LocalSet,
    runtime: Runtime,
    now: Rc<Cell<Duration>>,
}

impl World {
    fn new(seed: u64) -> Self {
        let network = Network::new(seed);
        drop((network.at(A), network.at(B)));
        network.link(A, B, slow(10));
        network.link(B, A, slow(10));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { network, tasks: LocalSet::new(), runtime, now: Rc::default() }
    }

    fn spawn<T: 'static>(&self, work: impl Future<Output = T> + 'static) -> JoinHandle<T> {
        self.tasks.spawn_local(work)
    }

    fn settle(&self) {
        self.tasks.block_on(&self.runtime, async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Goes on to `end`.
    fn until(&self, end: Duration) {
        self.settle();
        while let Some(due) = self.network.next_due().filter(|&due| due <= end) {
            self.now.set(due);
            self.network.advance(due);
            self.settle();
        }
        self.now.set(end);
        self.network.advance(end);
        self.settle();
    }

    fn pass(&self, time: Duration) {
        self.until(self.now.get() + time);
    }

    /// Goes on until it is done; what it gives, and when.
    fn finish<T>(&self, task: JoinHandle<T>) -> (T, Duration) {
        self.settle();
        while !task.is_finished() {
            self.until(self.network.next_due().expect("somebody waits for ever"));
        }
        (self.tasks.block_on(&self.runtime, task).unwrap(), self.now.get())
    }

    fn connect(&self, to: SocketAddr) -> JoinHandle<Result<Stream, ErrorKind>> {
        let connecting = self.network.at(A).connect(to);
        self.spawn(async { connecting.await.map_err(|error| error.kind()) })
    }

    fn accept(&self, listener: Box<dyn SimulatedListener>) -> JoinHandle<Stream> {
        self.spawn(
            async move { std::future::poll_fn(|cx| listener.poll_accept(cx)).await.unwrap() },
        )
    }

    /// A connection from A to B; nobody listens any more.
    fn pair(&self) -> (Stream, Stream) {
        let accepted = self.accept(self.network.at(B).bind(TO_B).unwrap());
        let connected = self.connect(TO_B);
        (self.finish(connected).0.unwrap(), self.finish(accepted).0)
    }

    fn read(&self, mut stream: Stream) -> JoinHandle<(Vec<u8>, Option<ErrorKind>)> {
        self.spawn(async move {
            let mut bytes = Vec::new();
            let end = stream.read_to_end(&mut bytes).await;
            (bytes, end.err().map(|error| error.kind()))
        })
    }

    fn write(&self, mut stream: Stream, bytes: Vec<u8>) -> JoinHandle<(Stream, Option<ErrorKind>)> {
        self.spawn(async move {
            let done = stream.write_all(&bytes).await;
            (stream, done.err().map(|error| error.kind()))
        })
    }

    fn open(&self) -> usize {
        self.network.with(|state| state.connections.len())
    }
}

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    StdRng::seed_from_u64(5).fill_bytes(&mut bytes);
    bytes
}

#[test]
fn connection_takes_its_latency() {
    let world = World::new(1);
    let listener = world.network.at(B).bind(TO_B).unwrap();
    assert_eq!(listener.local(), TO_B);
    let accepted = world.accept(listener);
    let connected = world.connect(TO_B);
    let (client, at) = world.finish(connected);
    let mut client = client.unwrap();
    assert_eq!(at, ms(20));
    let (server, at) = world.finish(accepted);
    assert_eq!(at, ms(30));
    assert_eq!((client.peer(), server.local()), (TO_B, TO_B));
    assert_eq!((client.local(), client.local().ip()), (server.peer(), A));
    let read = world.read(server);
    world.tasks.block_on(&world.runtime, client.write_all(b"hello")).unwrap();
    drop(client);
    assert_eq!(world.finish(read), ((b"hello".to_vec(), None), ms(40)));
    world.pass(ms(100));
    assert_eq!(world.open(), 0);
}

#[test]
fn address_is_bound_once() {
    let network = Network::new(1);
    let port = network.at(A);
    let first = port.bind("0.0.0.0:80".parse().unwrap()).unwrap();
    let again = port.bind(SocketAddr::new(A, 80));
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AddrInUse);
    assert_eq!(port.bind(TO_B).unwrap_err().kind(), ErrorKind::AddrNotAvailable);
    drop(network.at(B).bind(TO_B).unwrap());
    let any = port.bind(SocketAddr::new(A, 0)).unwrap();
    let other = port.bind(SocketAddr::new(A, 0)).unwrap();
    assert!(any.local().port() != 0 && any.local() != other.local());
    drop(first);
    drop(port.bind(SocketAddr::new(A, 80)).unwrap());
    // The new one is not taken for the old one.
    let new = port.bind(SocketAddr::new(A, 80)).unwrap();
    network.kill(A);
    let newer = port.bind(SocketAddr::new(A, 80)).unwrap();
    drop(new);
    assert!(port.bind(newer.local()).is_err());
}

#[test]
fn host_talks_to_itself() {
    let world = World::new(1);
    let at: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let listener = world.network.at(A).bind(at).unwrap();
    let refused = world.spawn(world.network.at(B).connect(SocketAddr::new(A, 80)));
    assert_eq!(world.finish(refused).0.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let connected = world.connect(at);
    let accepted = world.accept(listener);
    let (client, server) = (world.finish(connected).0.unwrap(), world.finish(accepted).0);
    assert_eq!((client.peer(), server.peer()), (at, client.local()));
}

#[test]
fn nobody_listens_so_it_is_refused() {
    let world = World::new(1);
    let connected = world.connect(TO_B);
    let (refused, at) = world.finish(connected);
    assert_eq!((refused.unwrap_err(), at), (ErrorKind::ConnectionRefused, ms(20)));
    assert_eq!(world.open(), 0);
}

#[test]
fn machine_that_is_gone_does_not_answer() {
    let world = World::new(1);
    let _listener = world.network.at(B).bind(TO_B).unwrap();
    world.network.unplug(B);
    let connected = world.connect(TO_B);
    let (silence, at) = world.finish(connected);
    assert_eq!((silence.unwrap_err(), at), (ErrorKind::TimedOut, ms(20_000)));
    // It has no listeners when it is back.
    world.network.plug(B);
    let connected = world.connect(TO_B);
    assert_eq!(world.finish(connected).0.unwrap_err(), ErrorKind::ConnectionRefused);
}

#[test]
fn client_knocks_again() {
    for (from, to) in [(A, B), (B, A)] {
        let world = World::new(1);
        let accepted = world.accept(world.network.at(B).bind(TO_B).unwrap());
        world.network.link(from, to, cut());
        let connected = world.connect(TO_B);
        world.until(ms(1500));
        assert!(!connected.is_finished() && !accepted.is_finished());
        world.network.link(from, to, slow(10));
        assert_eq!(world.finish(connected).1, ms(3020));
        assert_eq!(world.finish(accepted).1, ms(3030));
    }
}

#[test]
fn backlog_is_bounded() {
    let world = World::new(1);
    let listener = world.network.at(B).bind(TO_B).unwrap();
    let clients: Vec<_> = (0..130).map(|_| world.connect(TO_B)).collect();
    world.until(ms(900));
    assert_eq!(world.network.with(|state| state.listeners[&(B, 80)].queue.len()), 128);
    let accepted = world.spawn(async move {
        let mut accepted = Vec::new();
        for _ in 0..130 {
            let next = std::future::poll_fn(|cx| listener.poll_accept(cx)).await;
            accepted.push(next.unwrap());
        }
        accepted
    });
    let accepted = world.finish(accepted).0;
    assert!(clients.iter().all(JoinHandle::is_finished));
    drop(accepted);
}

#[test]
fn order_is_kept_and_nothing_lost() {
    let mut slowest = Duration::ZERO;
    for seed in 0..30 {
        let world = World::new(seed);
        let (mut client, server) = world.pair();
        let bad = Link { latency: ms(1)..ms(80), loss: 0.3, ..Link::default() };
        world.network.link(A, B, bad.clone());
        world.network.link(B, A, bad);
        let bytes = noise(300_000);
        let sent = bytes.clone();
        let mut rng = StdRng::seed_from_u64(seed);
        let sender = world.spawn(async move {
            for part in sent.chunks(rng.random_range(500..30_000)) {
                client.write_all(part).await?;
            }
            client.shutdown().await
        });
        let read = world.read(server);
        let ((received, error), at) = world.finish(read);
        // A link like this one can be given up, too: then an end is missing, and nothing before it.
        if error.is_none() && world.finish(sender).0.is_ok() {
            assert!(received == bytes, "{seed}");
        }
        assert!(bytes.starts_with(&received), "{seed}");
        slowest = slowest.max(at);
    }
    assert!(slowest > ms(1000), "{slowest:?}");
}

#[test]
fn lost_segment_comes_later() {
    let world = World::new(1);
    let (client, server) = world.pair();
    let start = world.now.get();
    let lossy = Link { loss: 1.0, ..slow(10) };
    world.network.link(A, B, lossy);
    let wrote = world.write(client, b"late".to_vec());
    drop(world.finish(wrote).0);
    let read = world.read(server);
    world.until(start + ms(500));
    world.network.link(A, B, slow(10));
    // After 200 ms it was lost again; its end goes out when it was confirmed.
    assert_eq!(world.finish(read), ((b"late".to_vec(), None), start + ms(620)));
}

#[test]
fn cut_holds_one_direction_only() {
    let world = World::new(1);
    let (client, server) = world.pair();
    let start = world.now.get();
    world.network.link(A, B, cut());
    let (mut to_b, mut at_b) = (client, server);
    let waiting = world.spawn(async move {
        to_b.write_all(b"held").await.unwrap();
        let mut answer = [0; 4];
        to_b.read_exact(&mut answer).await.unwrap();
        (to_b, answer)
    });
    let answer = world.spawn(async move {
        at_b.write_all(b"free").await.unwrap();
        at_b
    });
    let at_b = world.finish(answer).0;
    let ((to_b, answer), at) = world.finish(waiting);
    assert_eq!((&answer, at), (b"free", start + ms(10)));
    drop(to_b);
    let read = world.read(at_b);
    world.until(start + ms(5000));
    assert!(!read.is_finished());
    world.network.heal();
    let ((bytes, error), at) = world.finish(read);
    assert_eq!((bytes.as_slice(), error), (b"held".as_slice(), None));
    assert!(at >= start + ms(6200) && at < start + ms(6300), "{at:?}");
}

/// What flies when the link is cut does not get in.
#[test]
fn cut_holds_what_is_under_way() {
    let world = World::new(1);
    let (client, server) = world.pair();
    let start = world.now.get();
    let wrote = world.write(client, b"held".to_vec());
    drop(world.finish(wrote).0);
    let read = world.read(server);
    world.until(start + ms(5));
    world.network.link(A, B, cut());
    world.until(start + ms(50));
    assert!(!read.is_finished());
    world.network.link(A, B, slow(10));
    assert_eq!(world.finish(read), ((b"held".to_vec(), None), start + ms(220)));
}

#[test]
fn sender_gives_up_a_cut_link() {
    // Also if only what confirms is cut off.
    for (from, to, arrives) in [(A, B, 0), (B, A, 1)] {
        let world = World::new(1);
        let (client, server) = world.pair();
        world.pass(ms(50));
        let start = world.now.get();
        world.network.link(from, to, cut());
        let wrote = world.write(client, b"one".to_vec());
        let client = world.finish(wrote).0.0;
        let failed = world.read(client);
        assert_eq!(world.finish(failed), ((vec![], Some(ErrorKind::TimedOut)), start + ms(16_000)));
        world.network.heal();
        let read = world.read(server);
        world.pass(ms(60_000));
        // Its peer is not told until it sends something itself.
        assert!(!read.is_finished());
        assert_eq!(
            world.network.with(|state| {
                let connection = state.connections.first_entry().unwrap().into_mut();
                connection.way(super::connection::Side::Client).inbox.arrived - 1
            }),
            arrives
        );
    }
}

#[test]
fn firewall_that_refuses_looks_as_if_nobody_were_there() {
    let world = World::new(1);
    let (a, b) = world.pair();
    let _listens = world.network.at(B).bind(TO_B).unwrap();
    let refuses = Link { refuses: true, ..slow(10) };
    world.network.link(A, B, refuses.clone());
    world.network.link(B, A, refuses);
    let at = world.now.get();
    let (refused, then) = world.finish(world.connect(TO_B));
    assert_eq!((refused.err(), then), (Some(ErrorKind::ConnectionRefused), at + ms(20)));
    let reading = world.read(b);
    let (a, _) = world.finish(world.write(a, vec![1])).0;
    assert_eq!(world.finish(world.read(a)).0, (Vec::new(), Some(ErrorKind::ConnectionReset)));
    world.pass(ms(100));
    assert!(!reading.is_finished(), "who sent nothing is not told");
}

#[test]
fn short_cut_is_not_given_up() {
    let world = World::new(1);
    let (client, server) = world.pair();
    let start = world.now.get();
    world.network.link(A, B, cut());
    let wrote = world.write(client, noise(100_000));
    let client = world.finish(wrote).0.0;
    world.until(start + ms(12_000));
    world.network.link(A, B, slow(10));
    drop(client);
    let read = world.read(server);
    let ((bytes, error), at) = world.finish(read);
    assert!(bytes == noise(100_000) && error.is_none());
    assert!(at < start + ms(12_700), "{at:?}");
}

#[test]
fn peers_of_a_process_that_died_are_told() {
    let (mut ends, mut resets, mut partly) = (0, 0, 0);
    for seed in 0..40 {
        let world = World::new(seed);
        let (client, server) = world.pair();
        let start = world.now.get();
        let wrote = world.write(server, noise(100_000));
        let server = world.finish(wrote).0.0;
        world.network.kill(B);
        drop(server);
        let read = world.read(client);
        let ((bytes, error), at) = world.finish(read);
        assert_eq!(at, start + ms(10));
        assert!(noise(100_000).starts_with(&bytes));
        match error {
            None => {
                assert_eq!(bytes.len(), 100_000);
                ends += 1;
            }
            Some(error) => {
                assert_eq!(error, ErrorKind::ConnectionReset);
                resets += 1;
            }
        }
        partly += u32::from(bytes.len() < 100_000);
        let connected = world.connect(TO_B);
        assert_eq!(world.finish(connected).0.unwrap_err(), ErrorKind::ConnectionRefused);
        world.pass(ms(20_000));
        assert_eq!(world.open(), 0);
    }
    assert!(ends > 5 && resets > 5 && partly > 5, "{ends} {resets} {partly}");
}

#[test]
fn who_writes_to_a_process_that_died_hears_of_it() {
    let world = World::new(1);
    let (client, server) = world.pair();
    world.network.kill(B);
    drop(server);
    world.pass(ms(50));
    let broken = world.spawn(async move {
        let mut client = client;
        loop {
            if let Err(error) = client.write_all(&noise(100_000)).await {
                return error.kind();
            }
        }
    });
    let error = world.finish(broken).0;
    assert!(matches!(error, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error:?}");
}

#[test]
fn waiting_clients_of_a_listener_that_goes_are_reset() {
    let world = World::new(1);
    let listener = world.network.at(B).bind(TO_B).unwrap();
    let connected = world.connect(TO_B);
    let client = world.finish(connected).0.unwrap();
    world.pass(ms(50));
    drop(listener);
    let read = world.read(client);
    assert_eq!(world.finish(read).0, (vec![], Some(ErrorKind::ConnectionReset)));
    assert_eq!(world.open(), 0);
}

#[test]
fn unplugged_machine_is_silent_and_forgets() {
    let world = World::new(1);
    let (client, server) = world.pair();
    world.network.unplug(B);
    drop(server);
    let read = world.read(client);
    world.pass(ms(60_000));
    assert!(!read.is_finished());

    let world = World::new(1);
    let (client, _server) = world.pair();
    world.network.unplug(B);
    let start = world.now.get();
    let wrote = world.write(client, b"who is there".to_vec());
    let client = world.finish(wrote).0.0;
    world.until(start + ms(1000));
    world.network.plug(B);
    let read = world.read(client);
    let ((bytes, error), at) = world.finish(read);
    assert_eq!((bytes.len(), error), (0, Some(ErrorKind::ConnectionReset)));
    assert_eq!(at, start + ms(1420));
}

#[test]
fn who_writes_faster_than_others_read_waits() {
    let world = World::new(1);
    let (client, mut server) = world.pair();
    let bytes = noise(1_000_000);
    let wrote = world.write(client, bytes.clone());
    world.pass(ms(60_000));
    assert!(!wrote.is_finished());
    let part = world.spawn(async move {
        let mut all = vec![0; usize::try_from(WINDOW).unwrap()];
        server.read_exact(&mut all).await.unwrap();
        assert!(server.read_u8().await.is_ok());
        (server, all)
    });
    let (server, all) = world.finish(part).0;
    assert!(all == bytes[..all.len()]);
    assert!(!wrote.is_finished());
    let read = world.read(server);
    let (client, error) = world.finish(wrote).0;
    assert_eq!(error, None);
    drop(client);
    let (rest, error) = world.finish(read).0;
    assert_eq!(error, None);
    assert!(rest == bytes[all.len() + 1..]);
}

/// Who waits for room notices that nobody will make any.
#[test]
fn writer_without_room_finds_out() {
    let world = World::new(1);
    let (client, server) = world.pair();
    let wrote = world.write(client, noise(1_000_000));
    world.pass(ms(5000));
    world.network.unplug(B);
    drop(server);
    assert_eq!(world.finish(wrote).0.1, Some(ErrorKind::TimedOut));
}

#[test]
fn half_that_is_closed_leaves_the_other() {
    let world = World::new(1);
    let (mut client, mut server) = world.pair();
    let asked = world.spawn(async move {
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let closed = client.write_all(b"more").await.unwrap_err().kind();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        (answer, closed)
    });
    let answered = world.spawn(async move {
        let mut question = Vec::new();
        server.read_to_end(&mut question).await.unwrap();
        server.write_all(&question.repeat(2)).await.unwrap();
    });
    world.finish(answered);
    let (answer, closed) = world.finish(asked).0;
    assert_eq!(
        (answer.as_slice(), closed),
        (b"questionquestion".as_slice(), ErrorKind::BrokenPipe)
    );
    world.pass(ms(100));
    assert_eq!(world.open(), 0);
}

/// As with Linux: what it did not read comes back as a reset; what it wrote before arrives.
#[test]
fn stream_dropped_unread_resets() {
    let world = World::new(1);
    let (client, server) = world.pair();
    let wrote = world.write(client, b"unread".to_vec());
    let client = world.finish(wrote).0.0;
    world.pass(ms(50));
    let wrote = world.write(server, b"answer".to_vec());
    drop(world.finish(wrote).0);
    let read = world.read(client);
    assert_eq!(world.finish(read).0, (b"answer".to_vec(), Some(ErrorKind::ConnectionReset)));
}

#[test]
fn futures_that_are_dropped_lose_nothing() {
    let world = World::new(1);
    let listener = Rc::new(world.network.at(B).bind(TO_B).unwrap());
    let waits = listener.clone();
    let dropped = world.spawn(async move {
        drop(std::future::poll_fn(|cx| waits.poll_accept(cx)).await);
    });
    world.settle();
    dropped.abort();
    let connected = world.connect(TO_B);
    let mut client = world.finish(connected).0.unwrap();
    world.pass(ms(50));
    let again = listener.clone();
    let accepted =
        world.spawn(async move { std::future::poll_fn(|cx| again.poll_accept(cx)).await.unwrap() });
    let mut server = world.finish(accepted).0;
    // A read that is given up, and another one.
    let read = world.spawn(async move {
        let mut bytes = [0; 4];
        {
            let mut reading = std::pin::pin!(server.read(&mut bytes));
            let first = std::future::poll_fn(|cx| {
                std::task::Poll::Ready(reading.as_mut().poll(cx).is_pending())
            });
            assert!(first.await);
        }
        server.read_exact(&mut bytes).await.unwrap();
        bytes
    });
    world.settle();
    world.tasks.block_on(&world.runtime, client.write_all(b"here")).unwrap();
    assert_eq!(&world.finish(read).0, b"here");
    // A connection that nobody waits for any more.
    drop(world.network.at(A).connect(TO_B));
    drop((client, world.network.at(A).connect(TO_B)));
    world.pass(ms(100));
    let waiting = world.network.with(|state| state.listeners[&(B, 80)].queue.len());
    assert_eq!((waiting, world.open()), (0, 0));
}

/// Reader and writer of one connection are different tasks; each is woken for its own.
#[test]
fn halves_wait_each_for_itself() {
    let world = World::new(1);
    let (client, server) = world.pair();
    let (mut read_half, mut write_half) = tokio::io::split(client);
    let reads = world.spawn(async move {
        let mut all = Vec::new();
        read_half.read_to_end(&mut all).await.map(|_| all)
    });
    let writes = world.spawn(async move {
        write_half.write_all(&noise(1_000_000)).await.unwrap();
        write_half.shutdown().await.unwrap();
    });
    let (mut read_half, mut write_half) = tokio::io::split(server);
    let echo = world.spawn(async move {
        tokio::io::copy(&mut read_half, &mut write_half).await.unwrap();
        write_half.shutdown().await.unwrap();
    });
    world.finish(writes);
    world.finish(echo);
    assert!(world.finish(reads).0.unwrap() == noise(1_000_000));
}

#[test]
fn same_seed_same_story() {
    let story = |seed| {
        let world = World::new(seed);
        let bad = Link { latency: ms(1)..ms(500), loss: 0.2, ..Link::default() };
        let (client, server) = world.pair();
        world.network.link(A, B, bad.clone());
        world.network.link(B, A, bad);
        let wrote = world.write(client, noise(500_000));
        let read = world.read(server);
        let wrote = world.finish(wrote);
        let at = (wrote.0.1, wrote.1);
        drop(wrote);
        let (received, end) = world.finish(read);
        (at, received.0.len(), received.1, end)
    };
    assert_eq!(story(3), story(3));
    assert_ne!(story(3), story(4));
}
