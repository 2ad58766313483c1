//! Where components wait: the threads that look-ups and sleeps are polled on, and the client that asks.
//!
//! Made when the first solution that may wait is loaded; most nodes never need it.

use std::{fmt, io, time::Duration};

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::runtime::{Builder, Runtime};
use wasmtime_wasi_http::WasiBody;

pub(super) type LookupClient = Client<HttpsConnector<HttpConnector>, WasiBody>;

/// How long a connection that nobody uses is kept.
const IDLE: Duration = Duration::from_secs(30);
/// Connections kept for one host.
const IDLE_PER_HOST: usize = 16;

pub(super) struct Outside {
    /// Present until dropped.
    runtime: Option<Runtime>,
    client: LookupClient,
}

impl Outside {
    pub(super) fn new() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("wasm-outside")
            .enable_all()
            .build()?;
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .build(connector());
        Ok(Self { runtime: Some(runtime), client })
    }

    pub(super) fn client(&self) -> LookupClient {
        self.client.clone()
    }

    /// Waits for `future` on this thread, which must not be one that polls other tasks.
    pub(super) fn wait_for<F: Future>(&self, future: F) -> F::Output {
        self.runtime.as_ref().expect("present until dropped").block_on(future)
    }
}

fn connector() -> HttpsConnector<HttpConnector> {
    let roots = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(ring::default_provider())
        .unwrap_or_else(|error| {
            tracing::warn!(%error, "no trusted certificates were found: look-ups by https will fail");
            let config = ClientConfig::builder_with_provider(ring::default_provider().into())
                .with_safe_default_protocol_versions()
                .expect("ring knows the default protocol versions")
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth();
            HttpsConnectorBuilder::new().with_tls_config(config)
        });
    roots.https_or_http().enable_http1().build()
}

impl Drop for Outside {
    /// In the background, because the last engine may be dropped where a thread must not block.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outside").finish_non_exhaustive()
    }
}
