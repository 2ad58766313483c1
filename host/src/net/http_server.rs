//! Serves HTTP/1.1: accepts up to a bound, closes who is slow, finishes what has begun.

use std::{error::Error, net::IpAddr, sync::Arc, time::Duration};

use hyper::{
    Request, Response,
    body::{Body, Incoming},
    server::conn::http1,
    service::Service,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};

use self::{connection::Connection, guests::Guests, phase::Phases};
use crate::machine::{Listener, Stream};

mod connection;
mod guests;
mod phase;

/// How long one that was asked to leave has until another is asked.
const BETWEEN_LEAVES: Duration = Duration::from_millis(10);

/// Where a request came from: an extension of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client(pub IpAddr);

/// Bounds of a server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Connections at once; beyond it who comes takes the place of one that does nothing, or waits for a place.
    pub max_connections: usize,
    /// From a request's first byte (or from connecting) to the end of its head. Checked in steps of half of it.
    pub header_timeout: Duration,
    /// How long a connection may stay open without a request.
    pub idle_timeout: Duration,
    /// Request line and headers together, in bytes; beyond it the answer is 431.
    pub header_bytes: usize,
    /// On shutdown, how long begun requests have until their connections are cut.
    pub drain: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_mins(5),
            header_bytes: 64 << 10,
            drain: Duration::from_secs(10),
        }
    }
}

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut because they were not done by the deadline.
    pub cut: usize,
}

/// Serves until `shutdown` says true or its sender is gone, then drains.
///
/// What a service does for one request must not panic; if it does, only that connection is lost.
pub async fn serve<S, B>(
    listener: Listener,
    service: S,
    mut shutdown: watch::Receiver<bool>,
    config: Config,
) -> Drained
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let places = Arc::new(Semaphore::new(config.max_connections));
    let http = protocol(&config);
    let mut connections = JoinSet::new();
    let mut guests = Guests::default();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = shutdown.wait_for(|stop| *stop) => break,
            accepted = accept(&listener, &places, &mut guests) => accepted,
        };
        let (stream, place) = accepted;
        let phases = Phases::default();
        guests.add(&phases);
        let connection = Connection {
            stream,
            phases,
            service: service.clone(),
            http: http.clone(),
            shutdown: shutdown.clone(),
            header_timeout: config.header_timeout,
            idle_timeout: config.idle_timeout,
        };
        connections.spawn(async move {
            connection.run().await;
            drop(place);
        });
        // Only the results of those that are done; they say nothing, but take room until they are taken.
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    drain(connections, config.drain).await
}

fn protocol(config: &Config) -> http1::Builder {
    let mut http = http1::Builder::new();
    // hyper's own time limit makes a timer for each request and also ends idle connections; `phase` does neither.
    // `pipeline_flush` stays off: with it, an answer given before all of a request was read is never sent.
    http.header_read_timeout(None).max_header_size(config.header_bytes);
    http
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &Listener,
    places: &Arc<Semaphore>,
    guests: &mut Guests,
) -> (Stream, OwnedSemaphorePermit) {
    let (stream, _) = super::accept::next(listener).await;
    if let Err(error) = stream.set_nodelay() {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    (stream, place(places, guests).await)
}

/// A place among the connections; while there is none, those that do nothing are asked to leave, one by one.
async fn place(places: &Arc<Semaphore>, guests: &mut Guests) -> OwnedSemaphorePermit {
    loop {
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return place;
        }
        guests.ask_one_to_leave();
        let place = Arc::clone(places).acquire_owned();
        if let Ok(place) = tokio::time::timeout(BETWEEN_LEAVES, place).await {
            return place.expect("it is never closed");
        }
    }
}

async fn drain(mut connections: JoinSet<()>, deadline: Duration) -> Drained {
    let all_done = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(deadline, all_done).await.is_ok() {
        return Drained { cut: 0 };
    }
    let mut cut = 0;
    connections.abort_all();
    while let Some(ended) = connections.join_next().await {
        cut += usize::from(ended.is_err_and(|error| error.is_cancelled()));
    }
    Drained { cut }
}

#[cfg(test)]
mod tests;
