//! `wasi:http/outgoing-handler`: look-ups while a message is handled, only where `[grants] http` allows.
//!
//! A redirect is an answer like any other: nothing here follows one, so a grant cannot be led elsewhere.

use std::{error::Error as _, io, sync::Arc, time::Duration};

use http_body_util::BodyExt;
use hyper::{
    Method, Request, Response, Uri,
    http::uri::{Authority, PathAndQuery, Scheme},
};
use hyper_util::client::legacy;
use url::Url;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::{borrowed_view, host_call, lines::Lines, outside::LookupClient};
use crate::contract::{capability::Grants, handler::Level};

/// How long a look-up may take to connect and to begin its answer, unless the component says less. The limit of
/// the attempt holds besides.
const ANSWER_TIME_MAX: Duration = Duration::from_mins(10);

/// The look-ups of one attempt.
#[derive(Debug)]
pub(super) struct Lookups {
    grants: Arc<Grants>,
    lines: Lines,
    /// None for a component that never asks for it.
    client: Option<LookupClient>,
}

impl Lookups {
    pub(super) fn new(grants: Arc<Grants>, lines: Lines, client: Option<LookupClient>) -> Self {
        Self { grants, lines, client }
    }

    /// The request with nothing left in its target that was not looked at.
    fn allow(&self, mut request: Request<WasiBody>) -> Result<Request<WasiBody>, Error> {
        let url =
            Url::parse(&request.uri().to_string()).map_err(|_| Error::HttpRequestUriInvalid)?;
        if *request.method() == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        let setting = |name: &str| borrowed_view::with(|view| view.setting(name));
        if !self.grants.http.iter().any(|target| target.allows(&url, &setting)) {
            let origin = host_call::origin(&url);
            let line = host_call::line("http", &self.grants.http, &origin);
            self.lines.push(
                Level::Warn,
                &format!(
                    "http: a request to {origin} was refused; to allow it, add under [grants] in solution.toml: {line}"
                ),
            );
            return Err(Error::HttpRequestDenied);
        }
        *request.uri_mut() = target(&url, request.uri().path_and_query())?;
        Ok(request)
    }
}

/// Scheme and authority as they were checked, path and query as they were written.
fn target(url: &Url, path: Option<&PathAndQuery>) -> Result<Uri, Error> {
    let host = url.host_str().ok_or(Error::HttpRequestUriInvalid)?;
    let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let authority: Authority = authority.parse().map_err(|_| Error::HttpRequestUriInvalid)?;
    let scheme = if url.scheme() == "https" { Scheme::HTTPS } else { Scheme::HTTP };
    Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(path.map_or("/", PathAndQuery::as_str))
        .build()
        .map_err(|_| Error::HttpRequestUriInvalid)
}

type Sent = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Lookups {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let allowed = self.allow(request);
        let client = self.client.clone().ok_or(Error::ConfigurationError);
        Box::new(async move {
            let response = answer(&client?, allowed?, options).await?;
            let connection: Box<dyn Future<Output = _> + Send> = Box::new(async { Ok(()) });
            Ok((response, connection))
        })
    }
}

async fn answer(
    client: &LookupClient,
    request: Request<WasiBody>,
    options: Option<RequestOptions>,
) -> Result<Response<WasiBody>, Error> {
    let asked = options.and_then(|options| {
        Some(options.connect_timeout?.saturating_add(options.first_byte_timeout?))
    });
    let time = asked.unwrap_or(ANSWER_TIME_MAX).min(ANSWER_TIME_MAX);
    match tokio::time::timeout(time, client.request(request)).await {
        Ok(Ok(response)) => Ok(response.map(|body| body.map_err(Error::Hyper).boxed_unsync())),
        Ok(Err(error)) => Err(reason(&error)),
        Err(_) => Err(Error::ConnectionReadTimeout),
    }
}

/// The error code that tells a component most.
fn reason(error: &legacy::Error) -> Error {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return match io.kind() {
                io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
                io::ErrorKind::TimedOut => Error::ConnectionTimeout,
                io::ErrorKind::InvalidData => Error::TlsCertificateError,
                io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
                    Error::ConnectionTerminated
                }
                _ => Error::DestinationUnavailable,
            };
        }
        source = cause.source();
    }
    if error.is_connect() { Error::DestinationNotFound } else { Error::HttpProtocolError }
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;

    use super::*;
    use crate::runtime::fixture::{TableView, target as grant};

    fn asked(uri: &str) -> Result<String, Error> {
        let grants =
            Grants { http: vec![grant("https", "api.example.com", 443)], ..Grants::default() };
        let lookups = Lookups::new(Arc::new(grants), Lines::default(), None);
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = Request::builder().uri(uri).body(body).unwrap();
        let allowed = borrowed_view::lend(&TableView::default(), || lookups.allow(request))?;
        Ok(allowed.uri().to_string())
    }

    #[test]
    fn what_was_checked_is_what_is_asked() {
        for (uri, sent) in [
            ("https://api.example.com/a/../b?c=%20d", "https://api.example.com/a/../b?c=%20d"),
            ("https://API.example.com:443", "https://api.example.com/"),
            ("https://evil.example@api.example.com/", "https://api.example.com/"),
        ] {
            assert_eq!(asked(uri).unwrap(), sent);
        }
    }

    #[test]
    fn a_redirect_is_an_answer_and_nobody_follows_it() {
        use std::io::{BufRead, BufReader, Write};

        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let asked = std::thread::spawn(move || {
            let (mut connection, _) = server.accept().unwrap();
            let lines = BufReader::new(connection.try_clone().unwrap()).lines();
            let head: Vec<String> =
                lines.map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
            let answer = "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\n";
            write!(connection, "{answer}content-length: 2\r\n\r\nno").unwrap();
            head
        });
        let grants = Grants { http: vec![grant("http", "127.0.0.1", port)], ..Grants::default() };
        let outside = crate::runtime::outside::Outside::new().unwrap();
        let mut lookups = Lookups::new(Arc::new(grants), Lines::default(), Some(outside.client()));
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let uri = format!("http://127.0.0.1:{port}/a?b");
        let request = Request::builder().uri(uri).body(body).unwrap();
        let sent = borrowed_view::lend(&TableView::default(), || {
            lookups.send_request(request, None, Box::new(async { Ok(()) }))
        });
        let (response, body) = outside.wait_for(async {
            let (response, _) = Box::into_pin(sent).await.unwrap();
            let (head, body) = response.into_parts();
            (head, body.collect().await.unwrap().to_bytes())
        });
        assert_eq!((response.status.as_u16(), &body[..]), (302, &b"no"[..]));
        let head = asked.join().unwrap();
        assert_eq!(head[0], "GET /a?b HTTP/1.1");
        assert!(head.contains(&format!("host: 127.0.0.1:{port}")), "{head:?}");
    }

    #[test]
    fn a_server_that_is_not_there_is_told_as_such() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let outside = crate::runtime::outside::Outside::new().unwrap();
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let uri = format!("http://127.0.0.1:{port}/");
        let request = Request::builder().uri(uri).body(body).unwrap();
        let refused = outside.wait_for(answer(&outside.client(), request, None));
        assert!(matches!(refused, Err(Error::ConnectionRefused)), "{refused:?}");
    }

    #[test]
    fn what_is_not_granted_is_refused_with_the_line_to_add() {
        for uri in [
            "http://api.example.com/",
            "https://api.example.com:444/",
            "https://other.example.com/",
            "https://api.example.com@evil.example/",
            "http://169.254.169.254/latest/meta-data",
        ] {
            assert!(matches!(asked(uri), Err(Error::HttpRequestDenied)), "{uri}");
        }
        let lines = Lines::default();
        let lookups = Lookups::new(Arc::default(), lines.clone(), None);
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = Request::builder().uri("http://10.0.0.1:81/x").body(body).unwrap();
        assert!(borrowed_view::lend(&TableView::default(), || lookups.allow(request)).is_err());
        let text = &lines.take().lines[0].text;
        assert!(text.ends_with(r#"http = ["http://10.0.0.1:81"]"#), "{text}");
    }
}
