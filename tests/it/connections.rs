//! Senders that are slow, and connections that do nothing.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, getrlimit, setrlimit};
use tandem_tests::{
    DEADLINE, NodeUnderTest, Solution,
    http::{read_body, read_head},
};

use crate::TANDEM;

/// Between two bytes.
const DRIP: Duration = Duration::from_millis(50);

/// Sends `head`, then a byte now and then, until it is answered or cut off: what came back, and when.
fn drip(address: SocketAddr, head: &str, byte: u8) -> (String, Duration) {
    // The node's clock starts when it accepts, which may be before `connect` returns.
    let began = Instant::now();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DRIP)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    loop {
        assert!(began.elapsed() < DEADLINE, "nobody cuts it off");
        // What was answered before is read all the same.
        let is_cut = stream.write_all(&[byte]).is_err();
        match stream.read_to_end(&mut answer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !is_cut => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return (String::from_utf8_lossy(&answer).into_owned(), began.elapsed()),
        }
    }
}

#[test]
fn slow_senders_are_cut_off_while_others_are_served() {
    const EACH: usize = 20;
    let limit = Duration::from_secs(1);
    let node = TANDEM.node_with("[ingress]\nheader_timeout = \"1s\"\nbody_timeout = \"1s\"");
    node.deploy(&Solution::lean());
    let address = node.address;
    thread::scope(|scope| {
        let slow = |head: &'static str| -> Vec<_> {
            (0..EACH).map(|_| scope.spawn(move || drip(address, head, b'a'))).collect()
        };
        let heads = slow("POST /hooks/lean/in HTTP/1.1\r\nhost: node\r\nx-slow: ");
        let bodies =
            slow("POST /hooks/lean/in HTTP/1.1\r\nhost: node\r\ncontent-length: 10000\r\n\r\n");
        let mut served = 0;
        while !heads.iter().chain(&bodies).all(thread::ScopedJoinHandle::is_finished) {
            node.post("/hooks/lean/in?wait=30s", "").expect(200);
            served += 1;
        }
        assert!(served > 0);
        for head in heads {
            let (answer, after) = head.join().expect("it was cut off");
            assert_eq!(answer, "", "nothing is answered to half a request");
            assert!(after >= limit, "{after:?}");
        }
        for body in bodies {
            let (answer, after) = body.join().expect("it was answered");
            assert!(
                answer.starts_with("HTTP/1.1 408 ") && answer.contains("body-too-slow"),
                "{answer}"
            );
            assert!(after >= limit, "{after:?}");
        }
        assert_eq!(node.api("messages?limit=1000")["messages"].as_array().unwrap().len(), served);
    });
}

/// A connection that was used once and stays open.
struct Idle(BufReader<TcpStream>);

impl Idle {
    fn new(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let mut idle = Self(BufReader::with_capacity(256, stream));
        idle.ask()?;
        Ok(idle)
    }

    fn ask(&mut self) -> io::Result<()> {
        self.0.get_mut().write_all(b"GET /healthz HTTP/1.1\r\nhost: node\r\n\r\n")?;
        let (first, headers) = read_head(&mut self.0)?;
        assert_eq!(first, "HTTP/1.1 200 OK");
        read_body(&mut self.0, &headers)?;
        Ok(())
    }

    fn is_closed(&mut self) -> bool {
        self.0.get_mut().set_nonblocking(true).unwrap();
        let closed = self.0.fill_buf().is_ok_and(<[u8]>::is_empty);
        self.0.get_mut().set_nonblocking(false).unwrap();
        closed
    }
}

#[test]
fn connections_that_do_nothing_do_not_keep_others_out() {
    const PLACES: usize = 16;
    let node = TANDEM.node_with(&format!("[ingress]\nmax_connections = {PLACES}"));
    node.deploy(&Solution::lean());
    let mut idle: Vec<_> = (0..PLACES).map(|_| Idle::new(node.address).unwrap()).collect();
    for _ in 0..5 {
        node.post("/hooks/lean/in?wait=30s", "").expect(200);
    }
    let closed = idle.iter_mut().filter_map(|idle| idle.is_closed().then_some(())).count();
    assert!((1..=6).contains(&closed), "as few as need be: {closed}");
    // Nor do those that say nothing at all, though their time is not over.
    let silent: Vec<_> =
        (0..2 * PLACES).map(|_| TcpStream::connect(node.address).unwrap()).collect();
    for _ in 0..5 {
        node.post("/hooks/lean/in?wait=30s", "").expect(200);
    }
    drop(silent);
}

/// How many connections this process, and with it the node, may have, up to `wanted`.
fn allowed(wanted: u64) -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    // Other tests of this process need some, too.
    if limit.current.is_some_and(|files| files < wanted * 2) {
        limit.current = Some(limit.maximum.unwrap_or(u64::MAX).min(wanted * 2));
        setrlimit(Resource::Nofile, limit).ok();
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    wanted.min(files.saturating_sub(1000))
}

fn resident_kib(node: &NodeUnderTest) -> u64 {
    node.resident_kib().unwrap_or(0)
}

/// Prints what an idle connection takes, with `--nocapture`.
#[test]
fn ten_thousand_idle_connections() {
    let count = allowed(10_000);
    if count < 10_000 {
        println!(
            "only {count} connections: the limit of open files (`ulimit -n`) is too low for more"
        );
    }
    let node = TANDEM.node_with(&format!("[ingress]\nmax_connections = {}", count + 100));
    node.deploy(&Solution::lean());
    node.post("/hooks/lean/in?wait=30s", "").expect(200);
    let before = resident_kib(&node);
    let mut idle: Vec<_> = (0..count).map(|_| Idle::new(node.address).unwrap()).collect();
    for _ in 0..20 {
        node.post("/hooks/lean/in?wait=30s", "").expect(200);
    }
    let grown = resident_kib(&node).saturating_sub(before);
    println!("{count} idle connections take {grown} KiB, {} bytes each", grown * 1024 / count);
    for idle in idle.iter_mut().step_by(100) {
        idle.ask().expect("it is still open");
    }
    assert!(!idle.iter_mut().any(Idle::is_closed));
}
