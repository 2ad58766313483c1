//! The node's HTTP interface as the command line calls it: one request, one answer, typed faults.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Serialize, de::DeserializeOwned};
use url::Url;

use crate::control::wire::Problem;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For an answer; a deployment, which compiles, has its own.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// One node, as named by `--node` and `--token`.
#[derive(Debug, Clone)]
pub struct NodeClient {
    base: Url,
    authorization: Option<HeaderValue>,
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// One request to be made.
#[derive(Debug, Clone)]
pub struct Call {
    method: Method,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    headers: HeaderMap,
    body: Bytes,
    timeout: Duration,
}

/// What the node answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{text}` is no address of a node: {reason}; write http://HOST:PORT")]
    Address { text: String, reason: String },
    #[error("the token has characters that HTTP cannot carry; check --token and TANDEM_TOKEN")]
    Token,
    #[error("no root certificates to check {node} with: {reason}")]
    Roots { node: String, reason: String },
    #[error("the node at {node} cannot be reached: {reason}")]
    Unreachable { node: String, reason: String },
    #[error(
        "the connection to the node at {node} broke ({reason}): it is not known whether the request took effect"
    )]
    Broken { node: String, reason: String },
    #[error("the node at {node} did not answer within {} s", after.as_secs())]
    TimedOut { node: String, after: Duration },
    #[error("{0}")]
    Refused(Refusal),
    #[error("{node} answered {status}, and not as a Tandem node does: {text}")]
    Unexpected { node: String, status: u16, text: String },
    #[error("the answer of the node at {node} cannot be read: {reason}")]
    Garbled { node: String, reason: String },
}

/// A problem in the node's own words.
#[derive(Debug)]
pub struct Refusal(pub Box<Problem>);

impl std::ops::Deref for Refusal {
    type Target = Problem;

    fn deref(&self) -> &Problem {
        &self.0
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = if self.0.detail.is_empty() { &self.0.title } else { &self.0.detail };
        // A refusal may have many lines; what could drive the terminal is escaped in each.
        let lines: Vec<String> = said.lines().map(super::output::one_line).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl Call {
    fn new<P: AsRef<str>>(method: Method, path: impl IntoIterator<Item = P>) -> Self {
        Self {
            method,
            path: path.into_iter().map(|part| part.as_ref().to_owned()).collect(),
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: ANSWER_TIMEOUT,
        }
    }

    /// `GET` of the parts below `/api/v1`; each is escaped, slashes too.
    pub fn get<'a>(path: impl IntoIterator<Item = &'a str>) -> Self {
        Self::new(Method::GET, ["api", "v1"].into_iter().chain(path))
    }

    pub fn post<'a>(path: impl IntoIterator<Item = &'a str>) -> Self {
        Self::new(Method::POST, ["api", "v1"].into_iter().chain(path))
    }

    pub fn put<'a>(path: impl IntoIterator<Item = &'a str>) -> Self {
        Self::new(Method::PUT, ["api", "v1"].into_iter().chain(path))
    }

    pub fn delete<'a>(path: impl IntoIterator<Item = &'a str>) -> Self {
        Self::new(Method::DELETE, ["api", "v1"].into_iter().chain(path))
    }

    /// `POST` to a web hook.
    pub fn hook(solution: &str, source: &str) -> Self {
        Self::new(Method::POST, ["hooks", solution, source])
    }

    #[must_use]
    pub fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    #[must_use]
    pub fn json(self, value: &impl Serialize) -> Self {
        let text = serde_json::to_vec(value).expect("our own types are JSON");
        self.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(text)
    }

    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl NodeClient {
    pub fn new(node: &str, token: Option<&str>) -> Result<Self, Error> {
        let base = parse_address(node)?;
        let authorization = token
            .map(|token| {
                let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
                value.set_sensitive(true);
                Ok(value)
            })
            .transpose()
            .map_err(|_: hyper::header::InvalidHeaderValue| Error::Token)?;
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let tls = HttpsConnectorBuilder::new().with_tls_config(tls_config(&base)?);
        let connector = tls.https_or_http().enable_http1().wrap_connector(tcp);
        let http = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { base, authorization, http })
    }

    pub fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Makes the call; anything but a 2xx is an error.
    pub async fn call(&self, call: Call) -> Result<Answer, Error> {
        let answer = self.ask(call).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        Err(self.refusal(&answer))
    }

    /// Makes the call and reads the JSON of the answer.
    pub async fn read<T: DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        let answer = self.call(call).await?;
        self.decode(&answer)
    }

    pub fn decode<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, Error> {
        serde_json::from_slice(&answer.body)
            .map_err(|e| Error::Garbled { node: self.address().to_owned(), reason: e.to_string() })
    }

    /// Makes the call and gives back whatever was answered, refusals too.
    pub async fn ask(&self, call: Call) -> Result<Answer, Error> {
        let timeout = call.timeout;
        let request = self.request(call)?;
        let node = || self.address().to_owned();
        let exchange = async {
            let response = self.http.request(request).await.map_err(|e| {
                let reason = innermost(&e);
                if e.is_connect() {
                    Error::Unreachable { node: node(), reason }
                } else {
                    Error::Broken { node: node(), reason }
                }
            })?;
            let (head, body) = response.into_parts();
            let body = body
                .collect()
                .await
                .map_err(|e| Error::Broken { node: node(), reason: innermost(&e) })?
                .to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(Error::TimedOut { node: node(), after: timeout }))
    }

    /// What an answer that is no success says.
    pub fn refusal(&self, answer: &Answer) -> Error {
        match answer.problem() {
            Some(problem) => Error::Refused(Refusal(Box::new(problem))),
            None => Error::Unexpected {
                node: self.address().to_owned(),
                status: answer.status.as_u16(),
                text: super::output::cut(
                    &super::output::one_line(String::from_utf8_lossy(&answer.body).trim()),
                    200,
                ),
            },
        }
    }

    fn request(&self, call: Call) -> Result<Request<Full<Bytes>>, Error> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .expect("the address was checked to have a host")
            .pop_if_empty()
            .extend(&call.path);
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query);
        }
        let mut request = Request::builder()
            .method(call.method)
            .uri(url.as_str())
            .body(Full::new(call.body))
            .map_err(|e| Error::Address { text: url.to_string(), reason: e.to_string() })?;
        let headers = request.headers_mut();
        *headers = call.headers;
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("tandem/", env!("CARGO_PKG_VERSION"))),
        );
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        Ok(request)
    }
}

impl Answer {
    /// The problem in it, if a node (and not a solution or a proxy) wrote it.
    pub fn problem(&self) -> Option<Problem> {
        let kind = self.headers.get(CONTENT_TYPE)?.to_str().ok()?;
        kind.starts_with("application/problem+json")
            .then(|| serde_json::from_slice(&self.body).ok())
            .flatten()
    }

    pub fn content_type(&self) -> Option<&str> {
        self.headers.get(CONTENT_TYPE)?.to_str().ok()
    }
}

/// `http://host:port`, also without the `http://`, also below a path of a proxy.
fn parse_address(text: &str) -> Result<Url, Error> {
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let wrong = |reason: &str| Error::Address { text: text.to_owned(), reason: reason.to_owned() };
    let url = Url::parse(&full).map_err(|e| wrong(&e.to_string()))?;
    match url.scheme() {
        "http" | "https" => {}
        _ => return Err(wrong("it is neither http nor https")),
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it has more than a host, a port and a path"));
    }
    Ok(url)
}

fn tls_config(base: &Url) -> Result<rustls::ClientConfig, Error> {
    use hyper_rustls::ConfigBuilderExt;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions");
    if base.scheme() == "http" {
        // Never used: a node by plain HTTP must not need a machine with certificates.
        return Ok(builder
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth());
    }
    let roots = builder
        .with_native_roots()
        .map_err(|e| Error::Roots { node: base.to_string(), reason: e.to_string() })?;
    Ok(roots.with_no_client_auth())
}

/// The cause at the bottom of an error: "connection refused" rather than "client error (Connect)".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests;
