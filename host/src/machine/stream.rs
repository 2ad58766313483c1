//! Connections: of the machine, or of a simulated one.

use std::{
    fmt::Debug,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tower_service::Service;

use super::simulated;

/// A connection on a simulated network.
pub trait SimulatedStream: AsyncRead + AsyncWrite + Debug + Send + Sync + Unpin {
    fn peer(&self) -> SocketAddr;
    fn local(&self) -> SocketAddr;
}

/// What waits for connections on a simulated network.
pub trait SimulatedListener: Debug + Send + Sync {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Box<dyn SimulatedStream>>>;
    fn local(&self) -> SocketAddr;
}

/// A connection.
#[derive(Debug)]
pub enum Stream {
    System(TcpStream),
    Simulated(Box<dyn SimulatedStream>),
}

/// What waits for connections.
#[derive(Debug)]
pub enum Listener {
    System(TcpListener),
    Simulated(Box<dyn SimulatedListener>),
}

impl Listener {
    pub async fn bind(at: SocketAddr) -> io::Result<Self> {
        match simulated() {
            Some(machine) => machine.bind(at).map(Self::Simulated),
            None => TcpListener::bind(at).await.map(Self::System),
        }
    }

    /// May be dropped while it waits; no connection is lost.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Self::System(listener) => {
                let (stream, from) = listener.accept().await?;
                Ok((Stream::System(stream), from))
            }
            Self::Simulated(listener) => {
                let stream = std::future::poll_fn(|cx| listener.poll_accept(cx)).await?;
                let from = stream.peer();
                Ok((Stream::Simulated(stream), from))
            }
        }
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::System(listener) => listener.local_addr(),
            Self::Simulated(listener) => Ok(listener.local()),
        }
    }
}

impl Stream {
    pub async fn connect(to: SocketAddr) -> io::Result<Self> {
        let simulated = simulated().map(|machine| machine.connect(to));
        match simulated {
            Some(connecting) => connecting.await.map(Self::Simulated),
            None => TcpStream::connect(to).await.map(Self::System),
        }
    }

    /// To any address that a name has.
    pub async fn connect_named(name: &str) -> io::Result<Self> {
        let mut failure = io::ErrorKind::NotFound.into();
        for address in tokio::net::lookup_host(name).await? {
            match Self::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::System(stream) => stream.peer_addr(),
            Self::Simulated(stream) => Ok(stream.peer()),
        }
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::System(stream) => stream.local_addr(),
            Self::Simulated(stream) => Ok(stream.local()),
        }
    }

    /// What is written goes out at once.
    pub fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::System(stream) => stream.set_nodelay(true),
            Self::Simulated(_) => Ok(()),
        }
    }

    /// A peer that does not confirm anything for so long is given up.
    pub fn give_up_after(&self, silence: Duration) -> io::Result<()> {
        let Self::System(stream) = self else { return Ok(()) };
        let socket = socket2::SockRef::from(stream);
        let (retries, interval) = (3, Duration::from_secs(2));
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(silence.saturating_sub(interval * retries))
            .with_interval(interval)
            .with_retries(retries);
        socket.set_tcp_keepalive(&keepalive)?;
        socket.set_tcp_user_timeout(Some(silence))
    }
}

/// Does the same on whichever there is.
macro_rules! on {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream.get_mut() {
            Stream::System($inner) => $call,
            Stream::Simulated($inner) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on!(self, inner => Pin::new(inner).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        on!(self, inner => Pin::new(inner).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on!(self, inner => Pin::new(inner).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::System(stream) => stream.is_write_vectored(),
            Self::Simulated(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self, inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self, inner => Pin::new(inner).poll_shutdown(cx))
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Self::System(stream) => stream.connected(),
            Self::Simulated(_) => Connected::new(),
        }
    }
}

/// Makes connections for HTTP requests.
#[derive(Debug, Clone)]
pub struct Connector(HttpConnector);

impl Connector {
    pub fn new(timeout: Duration) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(timeout));
        Self(http)
    }
}

type Made = Result<TokioIo<Stream>, Box<dyn std::error::Error + Send + Sync>>;

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Made> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Some(machine) = simulated() else {
            let connecting = self.0.call(uri);
            return Box::pin(async move {
                Ok(TokioIo::new(Stream::System(connecting.await?.into_inner())))
            });
        };
        // A simulated network has no names.
        let to = uri.authority().map(|authority| authority.as_str().parse());
        let connecting = match to {
            Some(Ok(to)) => machine.connect(to),
            _ => Box::pin(std::future::ready(Err(io::ErrorKind::AddrNotAvailable.into()))),
        };
        Box::pin(async move { Ok(TokioIo::new(Stream::Simulated(connecting.await?))) })
    }
}
