//! Makes HTTP requests over pooled connections; never follows a redirect, never tries again by itself.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::Incoming,
    header::{HeaderMap, HeaderName, LOCATION, RETRY_AFTER},
};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector};
use hyper_util::{
    client::legacy::{self, Client as Pool, connect::capture_connection},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use tokio::time::Instant;

pub use self::call_error::CallError;
use crate::machine::Connector;

mod call_error;

/// Bounds of a client.
#[derive(Debug, Clone)]
pub struct Config {
    pub connect_timeout: Duration,
    /// How long an unused connection is kept; below what servers commonly keep it.
    pub idle_timeout: Duration,
    /// Unused connections that are kept for one host.
    pub idle_per_host: usize,
    /// Of an answer's body, what is read at most so that its connection can be used again, in bytes.
    pub drain_bytes: usize,
    pub roots: Roots,
}

/// Whose certificates are trusted.
#[derive(Debug, Clone)]
pub enum Roots {
    /// The machine's, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    System,
    Only(Vec<CertificateDer<'static>>),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(55),
            idle_per_host: 32,
            drain_bytes: 64 << 10,
            roots: Roots::System,
        }
    }
}

/// One pool of connections; clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    pool: Pool<HttpsConnector<Connector>, Full<Bytes>>,
    /// Why no certificate can be checked.
    no_roots: Option<Arc<str>>,
    drain_bytes: usize,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// As it came: seconds or an HTTP date.
    pub retry_after: Option<String>,
    pub location: Option<String>,
    /// The body's beginning, as much as was to be kept.
    pub body_prefix: Bytes,
}

impl Client {
    /// Without usable roots only `https` fails, and each such request says why.
    pub fn new(config: &Config) -> Self {
        let (tls, no_roots) = match tls_config(&config.roots) {
            Ok(tls) => (tls, None),
            Err(reason) => (trusting_nobody(), Some(reason.into())),
        };
        let http = Connector::new(config.connect_timeout);
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(config.idle_timeout)
            .pool_max_idle_per_host(config.idle_per_host)
            .build(HttpsConnector::from((http, tls)));
        Self { pool, no_roots, drain_bytes: config.drain_bytes }
    }

    /// Makes one request, and is done `timeout` later at the latest. Keeps `keep_bytes` of the answer's body.
    ///
    /// Once a status has come there is an answer, even if its body breaks off: the server has decided.
    pub async fn request(
        &self,
        request: Request<Full<Bytes>>,
        timeout: Duration,
        keep_bytes: usize,
    ) -> Result<Answer, CallError> {
        self.request_before(std::future::pending(), request, timeout, keep_bytes).await
    }

    /// The same, unless `late` comes before there is a connection: then nothing is sent.
    ///
    /// A kept connection counts, also if it then turns out that the server has closed it and another has to be made.
    pub async fn request_before(
        &self,
        late: impl Future<Output = ()>,
        request: Request<Full<Bytes>>,
        timeout: Duration,
        keep_bytes: usize,
    ) -> Result<Answer, CallError> {
        if let (Some(reason), Some("https")) = (&self.no_roots, request.uri().scheme_str()) {
            return Err(CallError::NoRoots(reason.to_string()));
        }
        let deadline = Instant::now() + timeout;
        let response = tokio::time::timeout_at(deadline, self.call(late, request))
            .await
            .map_err(|_| CallError::TimedOut { after: timeout })??;
        let (head, body) = response.into_parts();
        let body_prefix = self.read_body(Response::new(body), deadline, keep_bytes).await;
        Ok(Answer {
            status: head.status.as_u16(),
            retry_after: text(&head.headers, &RETRY_AFTER),
            location: text(&head.headers, &LOCATION),
            body_prefix,
        })
    }

    async fn call(
        &self,
        late: impl Future<Output = ()>,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, CallError> {
        let mut connection = capture_connection(&mut request);
        let mut call = pin!(self.pool.request(request));
        let told = |error: legacy::Error| CallError::of(&error);
        tokio::select! {
            // What is sent in a turn of `call` has its connection before `late` is asked.
            biased;
            response = &mut call => return response.map_err(told),
            _ = connection.wait_for_connection_metadata() => {}
            () = late => return Err(CallError::GivenUp),
        }
        call.await.map_err(told)
    }

    /// What is to be kept; the rest is read too as far as it is short, so that the connection is free again.
    async fn read_body(
        &self,
        mut response: Response<Incoming>,
        deadline: Instant,
        keep_bytes: usize,
    ) -> Bytes {
        let mut kept = Vec::new();
        let mut read = 0;
        let most = self.drain_bytes.max(keep_bytes);
        while read < most {
            match tokio::time::timeout_at(deadline, response.frame()).await {
                Ok(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    read += data.len();
                    let room = keep_bytes - kept.len();
                    kept.extend_from_slice(&data[..data.len().min(room)]);
                }
                Ok(None | Some(Err(_))) | Err(_) => break,
            }
        }
        kept.into()
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn tls_config(roots: &Roots) -> Result<ClientConfig, String> {
    match roots {
        Roots::System => {
            let trusting = builder().with_native_roots().map_err(|error| error.to_string())?;
            Ok(trusting.with_no_client_auth())
        }
        Roots::Only(certificates) => {
            let mut store = RootCertStore::empty();
            let (_, wrong) = store.add_parsable_certificates(certificates.iter().cloned());
            if store.is_empty() {
                return Err(format!(
                    "no root certificates were given, or none is right ({wrong} wrong)"
                ));
            }
            Ok(builder().with_root_certificates(store).with_no_client_auth())
        }
    }
}

fn trusting_nobody() -> ClientConfig {
    builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth()
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .expect("ring does TLS 1.2 and 1.3")
}

#[cfg(test)]
mod tests;
