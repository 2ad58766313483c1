//! Against real sockets, with answers as they may come.

#![expect(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]

use std::net::SocketAddr;

use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

use super::*;

const SECONDS: Duration = Duration::from_secs(10);

fn client() -> Client {
    Client::new(&Config { roots: Roots::Only(Vec::new()), ..Config::default() })
}

fn get(url: &str) -> Request<Full<Bytes>> {
    Request::get(url).body(Full::default()).unwrap()
}

/// Answers every request with the same bytes; says so each time it accepts a connection. None closes instead.
async fn server(answer: Option<String>) -> (SocketAddr, mpsc::UnboundedReceiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (accepted, connections) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = accepted.send(());
            tokio::spawn(serve(stream, answer.clone()));
        }
    });
    (address, connections)
}

async fn serve<S: AsyncReadExt + AsyncWriteExt + Unpin>(mut stream: S, answer: Option<String>) {
    let mut text = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        text.push(byte);
        if text.ends_with(b"\r\n\r\n") {
            text.clear();
            let Some(answer) = &answer else { return };
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

fn answer_with(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn connections_are_used_again_also_when_little_of_the_body_is_kept() {
    let (address, mut connections) = server(Some(answer_with(&"x".repeat(40_000)))).await;
    let client = client();
    for _ in 0..3 {
        let answer = client.request(get(&format!("http://{address}/")), SECONDS, 5).await.unwrap();
        assert_eq!((answer.status, &answer.body_prefix[..]), (200, &b"xxxxx"[..]));
    }
    connections.recv().await.unwrap();
    assert!(connections.try_recv().is_err(), "a second connection was made");
}

#[tokio::test]
async fn a_body_that_is_too_long_costs_the_connection_only() {
    let (address, mut connections) = server(Some(answer_with(&"x".repeat(1_000_000)))).await;
    let client = client();
    for _ in 0..2 {
        let answer = client.request(get(&format!("http://{address}/")), SECONDS, 3).await.unwrap();
        assert_eq!((answer.status, &answer.body_prefix[..]), (200, &b"xxx"[..]));
    }
    connections.recv().await.unwrap();
    connections.recv().await.unwrap();
}

#[tokio::test]
async fn an_answer_is_an_answer_though_its_body_breaks_off_or_never_ends() {
    let head = "HTTP/1.1 201 Created\r\ncontent-length: 100\r\n\r\nbegun";
    let (address, _connections) = server(Some(head.to_owned())).await;
    let request = get(&format!("http://{address}/"));
    let answer = client().request(request, Duration::from_millis(100), 64).await.unwrap();
    assert_eq!((answer.status, &answer.body_prefix[..]), (201, &b"begun"[..]));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let text = "HTTP/1.1 302 Found\r\nlocation: http://elsewhere.example/\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n";
    let (address, mut connections) = server(Some(text.to_owned())).await;
    let answer = client().request(get(&format!("http://{address}/")), SECONDS, 64).await.unwrap();
    assert_eq!(
        answer,
        Answer {
            status: 302,
            retry_after: Some("7".to_owned()),
            location: Some("http://elsewhere.example/".to_owned()),
            body_prefix: Bytes::new(),
        }
    );
    connections.recv().await.unwrap();
    assert!(connections.try_recv().is_err());
}

#[tokio::test]
async fn faults_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let (closing, _a) = server(None).await;
    let (babbling, _b) = server(Some("what do you want?\r\n\r\n".to_owned())).await;
    let (silent, _c) = server(Some(String::new())).await;
    // A label has 63 characters at most, so nobody needs to be asked.
    let nameless = format!("{}.example", "a".repeat(64));
    let client = client();
    for (url, timeout, says) in [
        (format!("http://{closed}/"), SECONDS, "the server refuses connections: "),
        (format!("http://{nameless}/"), SECONDS, "the server's name cannot be resolved: "),
        (
            format!("http://{closing}/"),
            SECONDS,
            "the connection broke off before there was an answer: ",
        ),
        (format!("http://{babbling}/"), SECONDS, "the answer is not HTTP: "),
        (format!("http://{silent}/"), Duration::from_millis(50), "no answer within 50ms"),
        (
            "https://127.0.0.1:1/".to_owned(),
            SECONDS,
            "no secure connection: this machine has no root certificates",
        ),
        ("/only/a/path".to_owned(), SECONDS, "the request cannot be made: "),
        (
            "ftp://127.0.0.1:1/".to_owned(),
            SECONDS,
            "the server cannot be reached: unsupported scheme ftp",
        ),
    ] {
        let error = client.request(get(&url), timeout, 64).await.expect_err(&url);
        assert!(error.to_string().starts_with(says), "{url}: {error:?}");
        assert_eq!(error.is_passing(), !url.starts_with('/'), "{url}");
    }
}

/// A TLS server for `localhost`, and its certificate.
async fn secure_server() -> (SocketAddr, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                tokio::spawn(serve(stream, Some(answer_with("secret"))));
            }
        }
    });
    (address, certificate)
}

#[tokio::test]
async fn a_certificate_must_be_trusted_and_for_the_host() {
    let (address, certificate) = secure_server().await;
    let (_, another) = secure_server().await;
    let ask = async |root: &CertificateDer<'static>, host: &str| {
        let roots = Roots::Only(vec![root.clone()]);
        let client = Client::new(&Config { roots, ..Config::default() });
        let url = format!("https://{host}:{}/", address.port());
        client.request(get(&url), SECONDS, 64).await
    };
    assert_eq!(&ask(&certificate, "localhost").await.unwrap().body_prefix[..], b"secret");
    for (root, host) in [(&another, "localhost"), (&certificate, "127.0.0.1")] {
        let error = ask(root, host).await.unwrap_err();
        assert!(
            matches!(&error, CallError::Tls(reason) if reason.contains("certificate")),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_request_is_given_up_until_it_has_a_connection_and_not_later() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_, certificate) = secure_server().await;
    let roots = Roots::Only(vec![certificate]);
    let client = Client::new(&Config { roots, ..Config::default() });
    let accepts = async {
        listener.accept().await.unwrap();
    };
    let request = get(&format!("https://localhost:{}/", address.port()));
    let error = client.request_before(accepts, request, SECONDS, 64).await.unwrap_err();
    assert_eq!(error, CallError::GivenUp);
    assert!(error.is_unsent() && error.is_passing());

    let (address, mut connections) = server(Some(answer_with("late"))).await;
    let accepted = async {
        connections.recv().await.unwrap();
    };
    let request = get(&format!("http://{address}/"));
    let answer = client.request_before(accepted, request, SECONDS, 64).await;
    assert_eq!(answer.unwrap().status, 200);
    // There is one that was kept.
    let request = get(&format!("http://{address}/"));
    let answer = client.request_before(std::future::ready(()), request, SECONDS, 64).await;
    assert_eq!(answer.unwrap().status, 200);
}

#[tokio::test]
async fn plain_http_where_tls_was_expected_is_a_fault_of_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let (_, certificate) = secure_server().await;
    let roots = Roots::Only(vec![certificate]);
    let client = Client::new(&Config { roots, ..Config::default() });
    let error = client.request(get(&format!("https://{address}/")), SECONDS, 64).await.unwrap_err();
    assert!(matches!(error, CallError::Tls(_)), "{error:?}");
}
