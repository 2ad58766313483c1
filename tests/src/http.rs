//! HTTP/1.1 as bytes on a socket: what a test wants to send is not always what a client library would.

use std::{
    fmt::{self, Write as _},
    io::{self, BufRead, BufReader, Read},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use socket2::{Domain, Socket, Type};

/// Longer than the longest `?wait` of a test.
const PATIENCE: Duration = Duration::from_secs(90);

/// Names in lower case.
pub type Headers = Vec<(String, String)>;

/// A request as it goes out, on a connection of its own.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Headers,
    pub body: Body,
}

#[derive(Debug, Clone)]
pub enum Body {
    /// With its length declared.
    Sized(Vec<u8>),
    /// In chunks of at most so many bytes; nobody knows beforehand how long it gets.
    Chunked(Vec<u8>, usize),
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, path: &str) -> Self {
        let headers = Vec::new();
        Self { method: method.into(), path: path.into(), headers, body: Body::Sized(Vec::new()) }
    }

    pub fn post(path: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: Body::Sized(body.into()), ..Self::new("POST", path) }
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    #[must_use]
    pub fn body(self, body: Body) -> Self {
        Self { body, ..self }
    }

    /// Sends it and reads the answer; an answer that comes before all is sent is an answer.
    pub fn send(&self, address: SocketAddr) -> io::Result<Response> {
        self.send_within(address, PATIENCE)
    }

    /// The same, but gives up after so much silence.
    pub fn send_within(&self, address: SocketAddr, patience: Duration) -> io::Result<Response> {
        self.send_on(TcpStream::connect_timeout(&address, patience)?, patience)
    }

    /// The same from an address of this machine, such as any of 127.0.0.0/8.
    pub fn send_from(&self, from: IpAddr, address: SocketAddr) -> io::Result<Response> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect(&address.into())?;
        self.send_on(socket.into(), PATIENCE)
    }

    fn send_on(&self, mut stream: TcpStream, patience: Duration) -> io::Result<Response> {
        stream.set_read_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        let written = io::Write::write_all(&mut stream, &self.bytes());
        Response::read(&mut BufReader::new(stream)).map_err(|error| written.err().unwrap_or(error))
    }

    fn bytes(&self) -> Vec<u8> {
        let Self { method, path, headers, body } = self;
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n");
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").expect("a string takes all text");
        }
        match body {
            Body::Sized(body) => {
                let length = format!("content-length: {}\r\n\r\n", body.len());
                [head.as_bytes(), length.as_bytes(), body].concat()
            }
            Body::Chunked(body, size) => {
                let mut bytes = [head.as_bytes(), b"transfer-encoding: chunked\r\n\r\n"].concat();
                for chunk in body.chunks(*size) {
                    bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
                    bytes.extend([chunk, b"\r\n"].concat());
                }
                bytes.extend(b"0\r\n\r\n");
                bytes
            }
        }
    }
}

impl Response {
    fn read(from: &mut impl BufRead) -> io::Result<Self> {
        let (first, headers) = read_head(from)?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status line: {first}")))?;
        let body = read_body(from, &headers)?;
        Ok(Self { status, headers, body })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self}"))
    }

    /// Checks that it has this status, and hands itself on.
    #[expect(clippy::return_self_not_must_use, reason = "often only the check is wanted")]
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }

    /// Checks that it is a problem with this status and code, as every refusal has to be, and gives its detail.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{self}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self}");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{self}");
        assert_eq!(problem["status"], status, "{self}");
        assert_eq!(problem["type"], format!("urn:tandem:error:{code}"), "{self}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.len() > 10, "it has to say why: {self}");
        detail.to_owned()
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}\n{}", self.status, self.headers, self.text())
    }
}

pub fn find<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

/// The first line and the headers, of a request or an answer.
pub fn read_head(from: &mut impl BufRead) -> io::Result<(String, Headers)> {
    let mut line = || -> io::Result<String> {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    };
    let first = line()?;
    let mut headers = Headers::new();
    loop {
        let line = line()?;
        let Some((name, value)) = line.split_once(':') else { return Ok((first, headers)) };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// As many bytes as the headers declare; nothing here sends or answers in chunks.
pub fn read_body(from: &mut impl Read, headers: &Headers) -> io::Result<Vec<u8>> {
    assert_eq!(find(headers, "transfer-encoding"), None, "chunks are not read here");
    let length = find(headers, "content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    from.read_exact(&mut body)?;
    Ok(body)
}
