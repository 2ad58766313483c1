//! Senders in a closed loop: each connection sends the next message when it has the receipt of the last.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::Outcome;

const BODY_BYTES: usize = 1024;

/// What one round came to.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    pub count: usize,
    pub per_second: f64,
    pub p50: Duration,
    pub p99: Duration,
}

#[tokio::main(flavor = "current_thread")]
pub async fn run(
    address: SocketAddr,
    path: &str,
    connections: usize,
    time: Duration,
) -> Outcome<Figures> {
    let body = "x".repeat(BODY_BYTES);
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: text/plain\r\n\
         content-length: {BODY_BYTES}\r\n\r\n{body}"
    );
    let request: &'static [u8] = request.into_bytes().leak();
    let began = Instant::now();
    let until = began + time;
    let mut senders = JoinSet::new();
    for _ in 0..connections {
        senders.spawn(send(address, request, until));
    }
    let mut times = Vec::new();
    while let Some(sent) = senders.join_next().await {
        times.extend(sent?.map_err(|error| error.to_string())?);
    }
    let took = began.elapsed();
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Ok(Figures {
        count: times.len(),
        per_second: times.len() as f64 / took.as_secs_f64(),
        p50: at(0.5),
        p99: at(0.99),
    })
}

async fn send(
    address: SocketAddr,
    request: &'static [u8],
    until: Instant,
) -> Result<Vec<Duration>, Box<dyn std::error::Error + Send + Sync>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut times = Vec::new();
    let mut answer = vec![0; 4096];
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
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.and_then(|length| length.parse().ok()) == Some(body.len())
}
