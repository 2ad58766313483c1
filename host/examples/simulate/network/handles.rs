//! What programs have of the network: connections, listeners, connections that are being made.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tandem::machine::{SimulatedListener, SimulatedStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    Network,
    connection::{EndId, Known, Owner, Side},
    state::{State, WINDOW},
};

pub(super) fn bind(
    network: &Network,
    host: IpAddr,
    at: SocketAddr,
) -> io::Result<Box<dyn SimulatedListener>> {
    let (number, at) = network.with(|state| state.bind(host, at))?;
    Ok(Box::new(Listener { network: network.clone(), host, at, number }))
}

#[derive(Debug)]
struct Listener {
    network: Network,
    host: IpAddr,
    at: SocketAddr,
    number: u64,
}

impl SimulatedListener for Listener {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Box<dyn SimulatedStream>>> {
        let accepted = self.network.with(|state| {
            let accepted = state.poll_accept((self.host, self.at.port()), self.number, cx);
            accepted.map_ok(|end| (end, addresses(state, end)))
        });
        accepted.map_ok(|(end, at)| Stream::boxed(&self.network, end, at))
    }

    fn local(&self) -> SocketAddr {
        self.at
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let at = (self.host, self.at.port());
        self.network.with(|state| state.unbind(at, Some(self.number)));
    }
}

/// A connection that is being made.
#[derive(Debug)]
pub(super) struct Connect {
    network: Network,
    /// None when somebody has it.
    end: Option<EndId>,
}

impl Connect {
    pub(super) fn new(network: &Network, host: IpAddr, to: SocketAddr) -> Self {
        let end = network.with(|state| state.connect(host, to));
        Self { network: network.clone(), end: Some(end) }
    }
}

impl Future for Connect {
    type Output = io::Result<Box<dyn SimulatedStream>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let end = self.end.expect("a future is not polled once it is done");
        let made = self.network.with(|state| {
            let (it, spent) = match owned(state, end) {
                Ok(both) => both,
                Err(error) => return Poll::Ready(Err(error)),
            };
            if let Some(error) = it.error {
                return Poll::Ready(Err(error.into()));
            }
            if it.known == Known::Opening {
                wait(&mut it.writer, cx, spent);
                return Poll::Pending;
            }
            Poll::Ready(Ok(addresses(state, end)))
        });
        let Poll::Ready(Ok(at)) = made else { return made.map_ok(|_| unreachable!("it is none")) };
        self.end = None;
        Poll::Ready(Ok(Stream::boxed(&self.network, end, at)))
    }
}

impl Drop for Connect {
    fn drop(&mut self) {
        if let Some(end) = self.end {
            self.network.with(|state| state.release(end));
        }
    }
}

/// One end of a connection.
#[derive(Debug)]
struct Stream {
    network: Network,
    end: EndId,
    local: SocketAddr,
    peer: SocketAddr,
}

impl Stream {
    fn boxed(
        network: &Network,
        end: EndId,
        (local, peer): (SocketAddr, SocketAddr),
    ) -> Box<dyn SimulatedStream> {
        Box::new(Self { network: network.clone(), end, local, peer })
    }
}

impl SimulatedStream for Stream {
    fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn local(&self) -> SocketAddr {
        self.local
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.network.with(|state| state.release(self.end));
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.network.with(|state| read(state, self.end, cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.network.with(|state| write(state, self.end, cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.network.with(|state| {
            if owned(state, self.end)?.0.known == Known::Gone {
                return Err(io::ErrorKind::NotConnected.into());
            }
            state.finish(self.end);
            Ok(())
        }))
    }
}

fn read(
    state: &mut State,
    id: EndId,
    cx: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    owned(state, id)?;
    let way = state.way(id.other()).expect("its end is there");
    if !way.inbox.bytes.is_empty() {
        let wanted = buffer.remaining().min(way.inbox.bytes.len());
        let (front, back) = way.inbox.bytes.as_slices();
        let from_front = wanted.min(front.len());
        buffer.put_slice(&front[..from_front]);
        buffer.put_slice(&back[..wanted - from_front]);
        way.inbox.bytes.drain(..wanted);
        way.inbox.read += wanted as u64;
        // Less is told with the next that arrives.
        if way.inbox.read - way.inbox.told >= WINDOW / 4 {
            state.tell(id.other());
        }
        return Poll::Ready(Ok(()));
    }
    if way.inbox.ended {
        return Poll::Ready(Ok(()));
    }
    let (end, spent) = owned(state, id)?;
    if let Some(error) = end.error {
        return Poll::Ready(Err(error.into()));
    }
    wait(&mut end.reader, cx, spent);
    Poll::Pending
}

fn write(
    state: &mut State,
    id: EndId,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    let (end, _) = owned(state, id)?;
    if let Some(error) = end.error {
        return Poll::Ready(Err(error.into()));
    }
    if state.way(id).is_none_or(|way| way.ended) {
        return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
    }
    let taken = state.write(id, bytes);
    if taken > 0 || bytes.is_empty() {
        return Poll::Ready(Ok(taken));
    }
    let (end, spent) = owned(state, id)?;
    wait(&mut end.writer, cx, spent);
    state.wait_for_room(id);
    Poll::Pending
}

/// An end that is still the program's, and where wakers go that nobody needs. What is left of a process that died
/// gets an error.
fn owned(
    state: &mut State,
    end: EndId,
) -> io::Result<(&mut super::connection::End, &mut Vec<Waker>)> {
    let connection = state.connections.get_mut(&end.connection);
    let it = connection.map(|connection| connection.end(end.side));
    let it = it.filter(|end| end.owner == Owner::Program);
    it.map(|end| (end, &mut state.spent)).ok_or(io::ErrorKind::NotConnected.into())
}

/// Of this end, and of the other.
fn addresses(state: &State, end: EndId) -> (SocketAddr, SocketAddr) {
    let connection = &state.connections[&end.connection];
    let at = |side: Side| connection.peek(side).at;
    (at(end.side), at(end.side.other()))
}

fn wait(slot: &mut Option<Waker>, cx: &Context<'_>, spent: &mut Vec<Waker>) {
    if !slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        spent.extend(slot.replace(cx.waker().clone()));
    }
}
