//! Senders in a closed loop: each connection sends the next request when it has the answer to the last.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::{Outcome, PATH, quantile};

/// Of one message's body, a JSON object.
pub const BODY_BYTES: usize = 1024;
/// Messages of one batch.
pub const BATCH: usize = 100;

/// Holds the answer to a batch.
const ANSWER_BYTES: usize = 32 * 1024;

#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub connections: usize,
    /// In one request: one, or more as lines of JSON.
    pub messages: usize,
}

/// What was sent and answered.
#[derive(Debug)]
pub struct Sent {
    pub messages: usize,
    pub took: Duration,
    /// From sending a request to its whole answer.
    pub p50: Duration,
    pub p99: Duration,
}

pub fn body() -> String {
    format!("{{\"text\":\"{}\"}}", "x".repeat(BODY_BYTES - "{\"text\":\"\"}".len()))
}

impl Load {
    #[tokio::main(flavor = "current_thread")]
    pub async fn send(self, address: SocketAddr, time: Duration) -> Outcome<Sent> {
        let request: &'static [u8] = self.request(address).into_bytes().leak();
        let began = Instant::now();
        let until = began + time;
        let mut senders = JoinSet::new();
        for _ in 0..self.connections {
            senders.spawn(send(address, request, until));
        }
        let mut times = Vec::new();
        while let Some(sent) = senders.join_next().await {
            times.extend(sent?.map_err(|error| error.to_string())?);
        }
        let took = began.elapsed();
        let messages = times.len() * self.messages;
        times.sort_unstable();
        Ok(Sent { messages, took, p50: quantile(&times, 0.5), p99: quantile(&times, 0.99) })
    }

    fn request(self, address: SocketAddr) -> String {
        let (media_type, body) = match self.messages {
            1 => ("application/json", body()),
            messages => ("application/x-ndjson", (body() + "\n").repeat(messages)),
        };
        format!(
            "POST {PATH} HTTP/1.1\r\nhost: {address}\r\ncontent-type: {media_type}\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

async fn send(
    address: SocketAddr,
    request: &'static [u8],
    until: Instant,
) -> Result<Vec<Duration>, Box<dyn std::error::Error + Send + Sync>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut times = Vec::new();
    let mut answer = vec![0; ANSWER_BYTES];
    while Instant::now() < until {
        let began = Instant::now();
        stream.write_all(request).await?;
        let mut have = 0;
        while !is_whole(&answer[..have]) {
            match stream.read(&mut answer[have..]).await? {
                0 => return Err("the server closed the connection".into()),
                read => have += read,
            }
        }
        if !answer.starts_with(b"HTTP/1.1 202") {
            return Err(String::from_utf8_lossy(&answer[..have]).into());
        }
        times.push(began.elapsed());
    }
    Ok(times)
}

/// Whether these are all bytes of an answer that says its length.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().filter_map(|line| line.split_once(": "));
    let mut length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.next().and_then(|(_, length)| length.parse().ok()) == Some(body.len())
}
