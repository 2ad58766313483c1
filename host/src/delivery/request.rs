//! The HTTP request of an outbox entry.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Uri,
    header::{self, HeaderMap, HeaderName, HeaderValue, MaxSizeReached},
};
use url::Url;

use crate::{contract::handler, model::message::MessageId};

/// The same for all attempts of a delivery, on either node.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The message whose handling asked for the request.
pub const MESSAGE: HeaderName = HeaderName::from_static("x-tandem-message");

const USER_AGENT: &str = concat!("tandem/", env!("CARGO_PKG_VERSION"));

/// Headers that speak of the connection, which is the client's to make and to frame.
const OF_THE_CONNECTION: [HeaderName; 9] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Why an outbox entry is no HTTP request; no attempt makes it one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("`{0}` is no HTTP method that can be delivered")]
    Method(String),
    #[error("`{url}` is no URL: {reason}")]
    Url { url: String, reason: String },
    #[error("requests go to `http://` or `https://`, not `{0}://`")]
    Scheme(String),
    #[error("`{0}` is no header name")]
    HeaderName(String),
    #[error("the header `{0}` has a value that HTTP does not allow")]
    HeaderValue(String),
    #[error("it has more headers than a request can have")]
    TooManyHeaders,
}

impl From<MaxSizeReached> for RequestError {
    fn from(_: MaxSizeReached) -> Self {
        Self::TooManyHeaders
    }
}

/// The request with `Idempotency-Key` and `User-Agent` unless the solution set them, and `X-Tandem-Message`.
///
/// Headers that belong to the connection are left out. A user in the URL becomes basic authorization.
pub fn build(
    request: &handler::Request,
    message: MessageId,
    idempotency_key: &str,
) -> Result<Request<Full<Bytes>>, RequestError> {
    let method = parse_method(&request.method)?;
    let mut url = parse_url(&request.url)?;
    let mut headers = copy_headers(&request.headers)?;
    if let Some(value) = take_authorization(&mut url) {
        headers.entry(header::AUTHORIZATION).or_insert(value);
    }
    let key = HeaderValue::try_from(idempotency_key)
        .map_err(|_| RequestError::HeaderValue(IDEMPOTENCY_KEY.to_string()))?;
    headers.entry(IDEMPOTENCY_KEY).or_insert(key);
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT));
    let id = HeaderValue::try_from(message.to_string()).expect("a UUID is ASCII");
    headers.insert(MESSAGE, id);

    let mut built = Request::new(Full::new(request.body.clone()));
    *built.method_mut() = method;
    *built.uri_mut() = to_uri(&url)?;
    *built.headers_mut() = headers;
    Ok(built)
}

/// CONNECT asks for a tunnel, which is no delivery.
fn parse_method(text: &str) -> Result<Method, RequestError> {
    match Method::try_from(text) {
        Ok(method) if method != Method::CONNECT => Ok(method),
        _ => Err(RequestError::Method(text.chars().take(80).collect())),
    }
}

fn parse_url(text: &str) -> Result<Url, RequestError> {
    let url = Url::parse(text)
        .map_err(|error| RequestError::Url { url: text.to_owned(), reason: error.to_string() })?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(RequestError::Scheme(other.to_owned())),
    }
}

fn to_uri(url: &Url) -> Result<Uri, RequestError> {
    let sent = &url[..url::Position::AfterQuery];
    sent.parse().map_err(|error: hyper::http::uri::InvalidUri| RequestError::Url {
        url: url.to_string(),
        reason: error.to_string(),
    })
}

fn copy_headers(from: &[(String, Vec<u8>)]) -> Result<HeaderMap, RequestError> {
    // Four are added to them.
    let mut headers = HeaderMap::try_with_capacity(from.len() + 4)?;
    for (name, value) in from {
        let parsed = HeaderName::try_from(name.as_str())
            .map_err(|_| RequestError::HeaderName(name.chars().take(80).collect()))?;
        if OF_THE_CONNECTION.contains(&parsed) {
            continue;
        }
        let value = HeaderValue::try_from(value.as_slice())
            .map_err(|_| RequestError::HeaderValue(name.clone()))?;
        headers.try_append(parsed, value)?;
    }
    Ok(headers)
}

/// Takes the user out of the URL: sent as part of it, servers do not see it.
fn take_authorization(url: &mut Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut plain = percent_decoded(url.username());
    plain.push(b':');
    plain.extend(percent_decoded(url.password().unwrap_or_default()));
    url.set_username("").expect("http and https URLs have a host");
    url.set_password(None).expect("http and https URLs have a host");
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(plain)))
        .expect("base64 is ASCII");
    value.set_sensitive(true);
    Some(value)
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).filter(|_| *first == b'%');
        let byte = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .filter(|hex| !hex.starts_with('+'))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        decoded.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    decoded
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    const ID: MessageId = MessageId([7; 16]);

    fn request(method: &str, url: &str, headers: &[(&str, &str)]) -> handler::Request {
        handler::Request {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
                .collect(),
            body: Bytes::from_static(b"{}"),
            order: None,
        }
    }

    fn built(method: &str, url: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
        build(&request(method, url, headers), ID, "key-1").unwrap()
    }

    fn values<'r>(request: &'r Request<Full<Bytes>>, name: &str) -> Vec<&'r str> {
        request.headers().get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_request_carries_its_key_its_message_and_who_sends_it() {
        let built = built(
            "PATCH",
            "https://CRM.example.com:8443/a b?q=1#part",
            &[("content-type", "application/json"), ("x-tag", "1"), ("x-tag", "2")],
        );
        assert_eq!(built.method(), "PATCH");
        assert_eq!(built.uri(), "https://crm.example.com:8443/a%20b?q=1");
        assert_eq!(values(&built, "content-type"), ["application/json"]);
        assert_eq!(values(&built, "x-tag"), ["1", "2"]);
        assert_eq!(values(&built, "idempotency-key"), ["key-1"]);
        assert_eq!(values(&built, "x-tandem-message"), [ID.to_string()]);
        assert_eq!(values(&built, "user-agent"), [USER_AGENT]);
        assert_eq!(built.headers().len(), 6);
        assert_eq!(built.into_body().collect().await.unwrap().to_bytes(), "{}");
    }

    #[test]
    fn the_solutions_own_key_and_agent_stay_and_the_message_is_always_ours() {
        let built = built(
            "POST",
            "http://x.example/",
            &[("idempotency-key", "order-7"), ("user-agent", "me"), ("x-tandem-message", "forged")],
        );
        assert_eq!(values(&built, "idempotency-key"), ["order-7"]);
        assert_eq!(values(&built, "user-agent"), ["me"]);
        assert_eq!(values(&built, "x-tandem-message"), [ID.to_string()]);
    }

    #[test]
    fn headers_of_the_connection_are_left_out() {
        let of_the_connection = [
            ("host", "other.example"),
            ("content-length", "7"),
            ("Transfer-Encoding", "chunked"),
            ("connection", "close"),
            ("keep-alive", "x"),
            ("proxy-connection", "x"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("upgrade", "websocket"),
        ];
        let built = built("POST", "http://x.example/", &of_the_connection);
        for (name, _) in of_the_connection {
            assert!(values(&built, name).is_empty(), "{name}");
        }
    }

    #[test]
    fn a_user_in_the_url_becomes_authorization() {
        let of_user = built("POST", "https://me:a%3Ab%2@x.example/p", &[]);
        assert_eq!(of_user.uri(), "https://x.example/p");
        // `me:a:b%2`
        assert_eq!(values(&of_user, "authorization"), ["Basic bWU6YTpiJTI="]);
        assert!(of_user.headers()["authorization"].is_sensitive());
        let own = built("POST", "https://me@x.example/", &[("authorization", "Bearer t")]);
        assert_eq!(values(&own, "authorization"), ["Bearer t"]);
        assert_eq!(own.uri(), "https://x.example/");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (method, url, headers, says) in [
            ("", "http://x.example/", [("a", "b")], "`` is no HTTP method"),
            ("GET /", "http://x.example/", [("a", "b")], "`GET /` is no HTTP method"),
            ("CONNECT", "http://x.example/", [("a", "b")], "`CONNECT` is no HTTP method"),
            (
                "GET",
                "x.example",
                [("a", "b")],
                "`x.example` is no URL: relative URL without a base",
            ),
            ("GET", "http://", [("a", "b")], "`http://` is no URL: empty host"),
            ("GET", "ftp://x.example/", [("a", "b")], "not `ftp://`"),
            ("GET", "http://x.example/", [("a b", "b")], "`a b` is no header name"),
            ("GET", "http://x.example/", [("a", "b\r\nc: d")], "the header `a` has a value"),
        ] {
            let error = build(&request(method, url, &headers), ID, "k").expect_err(url).to_string();
            assert!(error.contains(says), "{error}");
        }
        let request = request("GET", "http://x.example/", &[]);
        assert_eq!(
            build(&request, ID, "k\n").unwrap_err(),
            RequestError::HeaderValue("idempotency-key".to_owned())
        );
    }

    /// They are more than the type holds; it panicked.
    #[test]
    fn more_headers_than_a_request_can_have_are_refused() {
        let headers = vec![("a", ""); 30_000];
        let request = request("GET", "http://x.example/", &headers);
        assert_eq!(build(&request, ID, "k").unwrap_err(), RequestError::TooManyHeaders);
    }
}
