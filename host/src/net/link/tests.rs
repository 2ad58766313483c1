//! Over real sockets, with those who come uninvited.

#![expect(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::Instant,
};

use super::*;

/// Around every border that framing and TLS have.
const LENGTHS: [usize; 9] = [0, 1, 1024, 16_384, 16_385, 65_536, 1 << 20, 20 << 20, 0];
const LONG: Duration = Duration::from_secs(30);

/// Two who trust each other, one of them waiting.
struct Two {
    main: Identity,
    other: Identity,
    address: String,
    arrivals: mpsc::Receiver<Arrival>,
}

async fn two(config: AcceptorConfig) -> Two {
    let (main, other) = (Identity::generate(), Identity::generate());
    let trust = Trust::of([other.fingerprint()]);
    let (address, arrivals) = wait_for_links(&main, &trust, config).await;
    Two { main, other, address, arrivals }
}

async fn wait_for_links(
    identity: &Identity,
    trust: &Trust,
    config: AcceptorConfig,
) -> (String, mpsc::Receiver<Arrival>) {
    let anywhere = "127.0.0.1:0".parse().unwrap();
    let mut acceptor = Acceptor::bind(anywhere, identity, trust, config).await.unwrap();
    let address = acceptor.local_address().unwrap().to_string();
    let (arrived, arrivals) = mpsc::channel(8);
    tokio::spawn(async move { while arrived.send(acceptor.accept().await).await.is_ok() {} });
    (address, arrivals)
}

impl Two {
    async fn dial(&self) -> Result<Link, LinkError> {
        let trust = Trust::of([self.main.fingerprint()]);
        Link::dial(&self.address, &self.other, &trust, LONG).await
    }

    async fn link(&mut self) -> (Link, Link) {
        let dialled = self.dial().await.unwrap();
        (dialled, self.peer().await)
    }

    async fn peer(&mut self) -> Link {
        match tokio::time::timeout(LONG, self.arrivals.recv()).await.unwrap().unwrap() {
            Arrival::Peer(link) => link,
            Arrival::Stranger(stranger) => panic!("{stranger:?}"),
        }
    }
}

async fn told(receiver: &mut LinkReceiver) -> Result<Option<(u8, Bytes)>, LinkError> {
    tokio::time::timeout(LONG, receiver.next()).await.expect("nothing came")
}

/// Bytes that differ from place to place.
fn bytes(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from((i + seed) * 31 % 251).unwrap()).collect()
}

#[tokio::test]
async fn messages_of_every_length_come_both_ways_and_in_order() {
    let mut two = two(AcceptorConfig::default()).await;
    let (dialled, accepted) = two.link().await;
    assert_eq!(dialled.peer(), two.main.fingerprint());
    assert_eq!(accepted.peer(), two.other.fingerprint());
    assert_eq!(dialled.local_address(), accepted.peer_address());
    assert_eq!(dialled.peer_address(), accepted.local_address());

    let mut ends = tokio::task::JoinSet::new();
    for link in [dialled, accepted] {
        let (mut sender, mut receiver) = link.split(MESSAGE_MAX);
        ends.spawn(async move {
            for (kind, length) in (0..).zip(LENGTHS) {
                let payload = bytes(length, length);
                let (one, two) = payload.split_at(length / 3);
                sender.send(kind, &[one, &[], two]).await.unwrap();
                sender.flush().await.unwrap();
            }
            sender.close().await.unwrap();
        });
        ends.spawn(async move {
            for (kind, length) in (0..).zip(LENGTHS) {
                let (came, payload) = told(&mut receiver).await.unwrap().unwrap();
                assert_eq!((came, payload.len()), (kind, length));
                assert!(payload == bytes(length, length), "message {kind} is another");
            }
            assert_eq!(told(&mut receiver).await, Ok(None));
        });
    }
    while let Some(end) = ends.join_next().await {
        end.unwrap();
    }
}

#[tokio::test]
async fn a_receiver_that_is_dropped_while_it_waits_loses_nothing() {
    let mut two = two(AcceptorConfig::default()).await;
    let (dialled, accepted) = two.link().await;
    let (mut sender, _keep) = dialled.split(MESSAGE_MAX);
    let (_also, mut receiver) = accepted.split(MESSAGE_MAX);
    let sending = tokio::spawn(async move {
        for n in 0..200_usize {
            sender.send(7, &[&bytes(n * 700, n)]).await.unwrap();
            sender.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        sender
    });
    let mut came = 0;
    while came < 200 {
        tokio::select! {
            biased;
            message = receiver.next() => {
                let (_, payload) = message.unwrap().unwrap();
                assert!(payload == bytes(came * 700, came), "message {came} is another");
                came += 1;
            }
            () = tokio::task::yield_now() => {}
        }
    }
    sending.await.unwrap();
}

#[tokio::test]
async fn a_wrong_key_on_either_side_is_refused_and_named() {
    let mut two = two(AcceptorConfig::default()).await;
    let stranger = Identity::generate();
    let main = Trust::of([two.main.fingerprint()]);

    let refused = Link::dial(&two.address, &stranger, &main, LONG).await.unwrap_err();
    let (address, own) = (two.address.clone(), stranger.fingerprint());
    assert_eq!(refused, LinkError::NotTrustedThere { address: address.clone(), own });
    assert!(refused.to_string().contains(&own.to_string()));

    let elsewhere = Trust::of([stranger.fingerprint()]);
    let refused = Link::dial(&two.address, &two.other, &elsewhere, LONG).await.unwrap_err();
    let seen = two.main.fingerprint();
    assert_eq!(refused, LinkError::NotTrusted { address, seen });
    assert!(refused.to_string().contains(&seen.to_string()));

    two.link().await;
    assert!(two.arrivals.try_recv().is_err(), "somebody else was let in");
}

#[tokio::test]
async fn pins_change_while_it_waits() {
    let (main, other) = (Identity::generate(), Identity::generate());
    let trust = Trust::default();
    let (address, _arrivals) = wait_for_links(&main, &trust, AcceptorConfig::default()).await;
    let pinned = Trust::of([main.fingerprint()]);
    let dial = || Link::dial(&address, &other, &pinned, LONG);
    assert!(matches!(dial().await, Err(LinkError::NotTrustedThere { .. })));
    trust.replace([other.fingerprint()]);
    let link = dial().await.unwrap();
    trust.replace([]);
    // No session is taken up again that began when the key was pinned.
    assert!(matches!(dial().await, Err(LinkError::NotTrustedThere { .. })));
    drop(link);
}

#[tokio::test]
async fn a_key_that_is_shown_must_also_be_had() {
    let mut two = two(AcceptorConfig::default()).await;
    // The other's certificate, which is public, with a key of one's own.
    let thief = Identity::generate().with_certificate_of(&two.other);
    let main = Trust::of([two.main.fingerprint()]);
    let refused = Link::dial(&two.address, &thief, &main, LONG).await.unwrap_err();
    assert!(matches!(refused, LinkError::Foreign { .. }), "{refused:?}");
    two.link().await;
    assert!(two.arrivals.try_recv().is_err(), "the thief was let in");
}

#[tokio::test]
async fn who_speaks_otherwise_does_no_harm() {
    let mut two = two(AcceptorConfig::default()).await;
    for words in [&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..], &[0xff; 3000], &[22, 3, 1, 0xff, 0xff]]
    {
        let mut stream = TcpStream::connect(&two.address).await.unwrap();
        stream.write_all(words).await.unwrap();
        stream.shutdown().await.unwrap();
        // It answers with an alert at most, and closes.
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.len() < 100, "{} bytes", answer.len());
    }
    two.link().await;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let trust = Trust::of([two.main.fingerprint()]);
    let refused = Link::dial(&address, &two.other, &trust, LONG).await.unwrap_err();
    assert!(matches!(refused, LinkError::Foreign { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_message_beyond_the_bound_ends_the_link() {
    let mut two = two(AcceptorConfig::default()).await;
    let (dialled, accepted) = two.link().await;
    let (mut sender, mut answers) = dialled.split(MESSAGE_MAX);
    let (keep, mut receiver) = accepted.split(100);
    sender.send(1, &[&[0; 100]]).await.unwrap();
    sender.send(2, &[&[0; 101]]).await.unwrap();
    sender.flush().await.unwrap();
    assert_eq!(told(&mut receiver).await.unwrap().unwrap().1.len(), 100);
    let too_long = LinkError::TooLong { length: 101, most: 100 };
    assert_eq!(told(&mut receiver).await, Err(too_long.clone()));
    assert_eq!(told(&mut receiver).await, Err(too_long));
    drop((keep, receiver));
    assert!(matches!(told(&mut answers).await, Err(LinkError::Closed { .. })));
}

#[tokio::test]
async fn a_link_that_breaks_is_told_from_a_goodbye() {
    let mut two = two(AcceptorConfig::default()).await;
    let (dialled, accepted) = two.link().await;
    let (_keep, mut receiver) = accepted.split(MESSAGE_MAX);
    drop(dialled);
    assert!(matches!(told(&mut receiver).await, Err(LinkError::Closed { .. })));

    let (dialled, accepted) = two.link().await;
    let (sender, _keep) = dialled.split(MESSAGE_MAX);
    let (_also, mut receiver) = accepted.split(MESSAGE_MAX);
    sender.close().await.unwrap();
    assert_eq!(told(&mut receiver).await, Ok(None));
}

#[tokio::test]
async fn who_never_ends_a_handshake_keeps_nobody_out() {
    let config = AcceptorConfig {
        handshake_timeout: Duration::from_millis(300),
        handshakes: 4,
        ..AcceptorConfig::default()
    };
    let mut two = two(config).await;
    let mut silent = Vec::new();
    for _ in 0..12 {
        silent.push(TcpStream::connect(&two.address).await.unwrap());
    }
    two.link().await;
    // All of them are closed, those beyond the bound before their time.
    for stream in &mut silent {
        let closed = tokio::time::timeout(LONG, stream.read(&mut [0; 100])).await.unwrap();
        assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    }
    two.link().await;
}

#[tokio::test]
async fn a_process_that_is_gone_is_told_from_a_machine_that_is_silent() {
    let (own, trust) = (Identity::generate(), Trust::default());
    let dial = async |address: &str, timeout| {
        Link::dial(address, &own, &trust, timeout).await.unwrap_err()
    };
    // The port is held, and nobody listens at it.
    let held = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    held.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let address = held.local_addr().unwrap().as_socket().unwrap().to_string();
    assert_eq!(dial(&address, LONG).await, LinkError::Refused { address: address.clone() });

    // It listens and never looks: the system answers until the backlog is full, then nobody.
    held.listen(0).unwrap();
    let short = Duration::from_millis(300);
    let mut crowd = Vec::new();
    for _ in 0..3 {
        let started = Instant::now();
        let late = dial(&address, short).await;
        assert_eq!(late, LinkError::TimedOut { address: address.clone(), after: short });
        assert!(started.elapsed() >= short);
        crowd.push(tokio::time::timeout(short, TcpStream::connect(&address)).await);
    }
    let unknown = dial("nobody.invalid:7401", LONG).await;
    assert!(matches!(unknown, LinkError::Unreachable { .. }), "{unknown:?}");
    // A connection to everybody: the system refuses to send it anywhere.
    let nowhere = dial("255.255.255.255:7401", LONG).await;
    assert!(matches!(nowhere, LinkError::Unreachable { .. }), "{nowhere:?}");
}

#[tokio::test]
async fn who_wants_to_join_is_handed_out_only_while_somebody_is_invited() {
    let inviting = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&inviting);
    let config = AcceptorConfig {
        is_inviting: Arc::new(move || asked.load(Ordering::SeqCst)),
        stranger_timeout: Duration::from_millis(500),
        ..AcceptorConfig::default()
    };
    let mut two = two(config).await;
    let joiner = Identity::generate();
    let main = two.main.fingerprint();
    let dial = || Stranger::dial(&two.address, &joiner, move |seen| seen == main, LONG);
    assert!(matches!(dial().await, Err(LinkError::NotTrustedThere { .. })));

    inviting.store(true, Ordering::SeqCst);
    let mut out = dial().await.unwrap();
    let Some(Arrival::Stranger(mut came)) = two.arrivals.recv().await else { panic!() };
    assert_eq!(came.fingerprint(), joiner.fingerprint());
    out.say(3, b"hello").await.unwrap();
    assert_eq!(came.hear().await, Ok(Some((3, Bytes::from_static(b"hello")))));
    let _ = out.say(4, &[0; 2000]).await;
    assert_eq!(came.hear().await, Err(LinkError::TooLong { length: 2000, most: 1024 }));
    // Who says nothing does not stay for long.
    let mut silent = dial().await.unwrap();
    let Some(Arrival::Stranger(mut came)) = two.arrivals.recv().await else { panic!() };
    assert!(matches!(came.hear().await, Err(LinkError::TimedOut { .. })));
    drop(came);
    assert!(matches!(silent.hear().await, Err(LinkError::Closed { .. })));

    // Whose key is not the one in the code gets no word.
    let wrong = Stranger::dial(&two.address, &joiner, |_| false, LONG).await;
    assert!(matches!(wrong, Err(LinkError::NotTrusted { .. })));
    // An invitation lets nobody in as a peer.
    let trust = Trust::of([main]);
    let refused = Link::dial(&two.address, &joiner, &trust, LONG).await;
    assert!(matches!(refused, Err(LinkError::NotTrustedThere { .. })), "{refused:?}");
    two.link().await;
    assert!(two.arrivals.try_recv().is_err(), "somebody else was let in");
}

/// `cargo test --release -p tandem --lib link::tests::measure -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures"]
async fn measure() {
    let mut two = two(AcceptorConfig::default()).await;
    let (dialled, accepted) = two.link().await;
    let (mut sender, mut answers) = dialled.split(MESSAGE_MAX);
    let (mut back, mut receiver) = accepted.split(MESSAGE_MAX);
    tokio::spawn(async move {
        while let Ok(Some((kind, payload))) = receiver.next().await {
            let answer: &[u8] = if kind == 0 { &payload } else { &[] };
            back.send(kind, &[answer]).await.unwrap();
            back.flush().await.unwrap();
        }
    });
    let mut trips: Vec<_> = Vec::new();
    let payload = bytes(1024, 0);
    for _ in 0..20_000 {
        let started = std::time::Instant::now();
        sender.send(0, &[&payload]).await.unwrap();
        sender.flush().await.unwrap();
        answers.next().await.unwrap().unwrap();
        trips.push(started.elapsed());
    }
    trips.sort();
    println!("round trip of 1 KiB: p50 {:?}, p99 {:?}", trips[10_000], trips[19_800]);

    let payload = bytes(1 << 20, 0);
    let started = std::time::Instant::now();
    let sending = tokio::spawn(async move {
        for _ in 0..1000 {
            sender.send(1, &[&payload]).await.unwrap();
        }
        sender.flush().await.unwrap();
        sender
    });
    for _ in 0..1000 {
        answers.next().await.unwrap().unwrap();
    }
    let took = started.elapsed();
    sending.await.unwrap();
    let mb = 1000.0 * 1.048_576;
    println!("messages of 1 MiB: {:.0} MB/s", mb / took.as_secs_f64());
}
