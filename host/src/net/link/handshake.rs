//! How a connection becomes a link: TLS 1.3, a key from either side, and a byte that says "come in".

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, ServerConfig, SupportedProtocolVersion, client::Resumption,
    pki_types::ServerName, sign::SingleCertAndKey,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::{
    error::LinkError,
    identity::{Fingerprint, Identity},
    trust::{Accepts, Verifier},
};
use crate::machine::Stream;

/// What a link is for; either side offers it in the handshake (ALPN).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Both keys are pinned.
    Pair,
    /// The one who dials has a code, and wants its key to be pinned.
    Join,
}

/// A connection whose two ends know each other's keys.
#[derive(Debug)]
pub(super) struct Shaken {
    pub stream: TlsStream<Stream>,
    pub purpose: Purpose,
    pub peer: Fingerprint,
    pub peer_address: SocketAddr,
    pub local_address: SocketAddr,
}

/// In TLS 1.3 who dials is done before its key has been looked at: the first byte says what came of that.
const COME_IN: u8 = 1;
/// Its key would do to join, and not for what it wants.
const NOT_PINNED: u8 = 0;
const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

impl Purpose {
    const ALL: [Self; 2] = [Self::Pair, Self::Join];

    fn protocol(self) -> &'static [u8] {
        match self {
            Self::Pair => b"tandem-pair/1",
            Self::Join => b"tandem-join/1",
        }
    }
}

/// For who dials. A session is never resumed, because that would go by what was pinned when it began.
pub(super) fn connector(identity: &Identity, purpose: Purpose, accepts: Accepts) -> TlsConnector {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(ring)
        .with_protocol_versions(VERSIONS)
        .expect("ring does TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Verifier::new(accepts))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified())));
    config.alpn_protocols = vec![purpose.protocol().to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    TlsConnector::from(Arc::new(config))
}

/// For who is dialled.
pub(super) fn acceptor(identity: &Identity, accepts: Accepts) -> TlsAcceptor {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(ring)
        .with_protocol_versions(VERSIONS)
        .expect("ring does TLS 1.3")
        .with_client_cert_verifier(Verifier::new(accepts))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified())));
    config.alpn_protocols = Purpose::ALL.map(|purpose| purpose.protocol().to_vec()).to_vec();
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    TlsAcceptor::from(Arc::new(config))
}

/// Connects to `address` and shakes hands within `timeout`.
pub(super) async fn dial(
    address: &str,
    own: Fingerprint,
    tls: &TlsConnector,
    timeout: Duration,
) -> Result<Shaken, LinkError> {
    let name = || address.to_owned();
    let dialled = async {
        let stream = connect(address).await?;
        let server = ServerName::try_from("tandem").expect("it is a name");
        let of_handshake = |error| LinkError::of_handshake(&error, name(), own);
        let stream = tls.connect(server, stream).await.map_err(of_handshake)?;
        let mut stream = TlsStream::from(stream);
        match stream.read_u8().await.map_err(of_handshake)? {
            COME_IN => Shaken::new(stream, name()),
            NOT_PINNED => Err(LinkError::NotTrustedThere { address: name(), own }),
            word => {
                let reason = format!("its first byte is {word}");
                Err(LinkError::Foreign { address: name(), reason })
            }
        }
    };
    let late = |_| LinkError::TimedOut { address: name(), after: timeout };
    tokio::time::timeout(timeout, dialled).await.map_err(late)?
}

/// Shakes hands with who connected. `is_trusted` is asked once more, with what the link is for.
pub(super) async fn welcome(
    stream: Stream,
    from: SocketAddr,
    own: Fingerprint,
    tls: TlsAcceptor,
    is_trusted: impl Fn(Fingerprint) -> bool,
) -> Result<Shaken, LinkError> {
    prepare(&stream).map_err(|error| LinkError::closed(&error))?;
    let of_handshake = |error| LinkError::of_handshake(&error, from.to_string(), own);
    let stream = tls.accept(stream).await.map_err(of_handshake)?;
    let mut shaken = Shaken::new(stream.into(), from.to_string())?;
    let is_let_in = shaken.purpose == Purpose::Join || is_trusted(shaken.peer);
    let said = async {
        shaken.stream.write_u8(if is_let_in { COME_IN } else { NOT_PINNED }).await?;
        shaken.stream.flush().await
    };
    said.await.map_err(|error| LinkError::closed(&error))?;
    if is_let_in {
        return Ok(shaken);
    }
    let _ = shaken.stream.shutdown().await;
    Err(LinkError::NotTrusted { address: from.to_string(), seen: shaken.peer })
}

impl Shaken {
    fn new(stream: TlsStream<Stream>, address: String) -> Result<Self, LinkError> {
        let (tcp, tls) = stream.get_ref();
        let foreign = |reason: &str| LinkError::Foreign {
            address: address.clone(),
            reason: reason.to_owned(),
        };
        let spoken = tls.alpn_protocol();
        let purpose = Purpose::ALL.into_iter().find(|purpose| spoken == Some(purpose.protocol()));
        let purpose = purpose.ok_or_else(|| foreign("it did not say what it wants"))?;
        let certificate = tls.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.ok_or_else(|| foreign("it showed no key"))?;
        let peer = Fingerprint::of(certificate).map_err(|error| foreign(&error.to_string()))?;
        let closed = |error| LinkError::closed(&error);
        let peer_address = tcp.peer_addr().map_err(closed)?;
        let local_address = tcp.local_addr().map_err(closed)?;
        Ok(Self { stream, purpose, peer, peer_address, local_address })
    }
}

/// Tries every address that a name has. That all refused is known only if all were asked.
async fn connect(address: &str) -> Result<Stream, LinkError> {
    let unknown = |reason: String| LinkError::Unreachable { address: address.to_owned(), reason };
    let found = tokio::net::lookup_host(address).await;
    let found = found.map_err(|error| unknown(format!("its name is not known: {error}")))?;
    let mut attempts = tokio::task::JoinSet::new();
    for one in found {
        attempts.spawn(async move {
            let stream = Stream::connect(one).await;
            stream
                .and_then(|stream| prepare(&stream).map(|()| stream))
                .map_err(|error| LinkError::of_connecting(&error, one))
        });
    }
    let mut failure = None;
    while let Some(attempt) = attempts.join_next().await {
        match attempt.expect("nothing in it panics") {
            Ok(stream) => return Ok(stream),
            // Of several, the one that says least of the process.
            Err(refused @ LinkError::Refused { .. }) => failure = failure.or(Some(refused)),
            Err(other) => failure = Some(other),
        }
    }
    Err(failure.unwrap_or_else(|| unknown("its name has no address".to_owned())))
}

/// A dead peer is noticed below the messages as well: after 16 s of silence, or of bytes that nobody confirms.
fn prepare(stream: &Stream) -> std::io::Result<()> {
    stream.set_nodelay()?;
    stream.give_up_after(Duration::from_secs(16))
}
