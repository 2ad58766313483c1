//! A receiver of deliveries: a small HTTP server that answers as it is told and remembers every request.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    io::{self, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use crate::http::{Headers, find, read_body, read_head};

/// How to answer one request.
#[derive(Debug, Clone)]
pub enum Answer {
    Status(u16),
    With {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: &'static str,
    },
    /// 200, after a while.
    Late(Duration),
    /// Never; until the other side gives up.
    Hang,
    /// Half of the head, and then nothing more: nobody knows what it would have said.
    CloseInHead,
    /// 200 and half of the body, and then nothing more.
    CloseInBody,
}

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Call {
    pub at: Instant,
    pub method: String,
    pub path: String,
    pub headers: Headers,
    pub body: String,
}

impl Call {
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    #[track_caller]
    pub fn key(&self) -> String {
        self.header("idempotency-key").unwrap_or_else(|| panic!("no key: {self:?}")).to_owned()
    }
}

#[derive(Debug, Default)]
struct Shared {
    /// By path: each answer once, and the last one from then on.
    scripts: BTreeMap<String, VecDeque<Answer>>,
    calls: Vec<Call>,
}

/// Answers 200 unless told otherwise. Its threads end with their connections.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    /// Holds the port until it listens.
    closed: Mutex<Option<Socket>>,
    shared: Arc<Mutex<Shared>>,
}

impl Receiver {
    pub fn start() -> Self {
        let receiver = Self::closed();
        receiver.open();
        receiver
    }

    /// One whose port is taken but refuses connections, until it is opened.
    pub fn closed() -> Self {
        Self::closed_at(([127, 0, 0, 1], 0).into())
    }

    /// The same at this address.
    pub fn closed_at(address: SocketAddr) -> Self {
        let bind = || -> io::Result<(Socket, SocketAddr)> {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.bind(&address.into())?;
            let address = socket.local_addr()?.as_socket().expect("it is an IP socket");
            Ok((socket, address))
        };
        let (socket, address) = bind().expect("there is a free port");
        Self { address, closed: Mutex::new(Some(socket)), shared: Arc::default() }
    }

    pub fn open(&self) {
        let socket = lock(&self.closed).take().expect("it is closed");
        socket.listen(128).expect("a bound socket can listen");
        let listener = TcpListener::from(socket);
        let shared = self.shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = shared.clone();
                // An error is the other side's: it went away, or gave up waiting.
                thread::spawn(move || stream.and_then(|stream| serve(stream, &shared)));
            }
        });
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers requests to this path so: each answer once, the last one from then on.
    pub fn script(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        lock(&self.shared).scripts.insert(path.to_owned(), answers.into_iter().collect());
    }

    pub fn calls(&self) -> Vec<Call> {
        lock(&self.shared).calls.clone()
    }

    pub fn calls_to(&self, path: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.path == path).collect()
    }
}

/// One connection, which may carry many requests.
#[expect(clippy::disallowed_methods, reason = "being late is what it is told")]
fn serve(stream: TcpStream, shared: &Mutex<Shared>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let (first, headers) = read_head(&mut reader)?;
        let body = String::from_utf8_lossy(&read_body(&mut reader, &headers)?).into_owned();
        let mut words = first.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let answer = {
            let mut shared = lock(shared);
            let answer = next(&mut shared.scripts, &path);
            shared.calls.push(Call { at: Instant::now(), method, path, headers, body });
            answer
        };
        match answer {
            Answer::Status(status) => reader.get_mut().write_all(&response(status, &[], ""))?,
            Answer::With { status, headers, body } => {
                reader.get_mut().write_all(&response(status, &headers, body))?;
            }
            Answer::Late(wait) => {
                thread::sleep(wait);
                reader.get_mut().write_all(&response(200, &[], ""))?;
            }
            Answer::Hang => return reader.read_to_end(&mut Vec::new()).map(drop),
            Answer::CloseInHead => return reader.get_mut().write_all(b"HTTP/1.1 20"),
            Answer::CloseInBody => {
                let whole = response(200, &[], "the second half of this never comes");
                return reader.get_mut().write_all(&whole[..whole.len() - 17]);
            }
        }
    }
}

fn next(scripts: &mut BTreeMap<String, VecDeque<Answer>>, path: &str) -> Answer {
    let Some(script) = scripts.get_mut(path) else { return Answer::Status(200) };
    let answer = if script.len() > 1 { script.pop_front() } else { script.front().cloned() };
    answer.unwrap_or(Answer::Status(200))
}

fn response(status: u16, headers: &[(&str, String)], body: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        write!(text, "{name}: {value}\r\n").expect("a string takes all text");
    }
    format!("{text}\r\n{body}").into_bytes()
}

/// A test that failed while it held the lock has said so itself.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
