//! What the host keeps for one attempt while a component runs.

use std::{fmt, sync::Arc};

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::{
    limiter::Limiter,
    lines::{Lines, Output},
    lookup::Lookups,
    outside::LookupClient,
    pending::Pending,
};
use crate::{contract::capability::Grants, model::message::MessageId};

/// Handles of streams, sockets and the like that one instance may have open.
const RESOURCES_MAX: usize = 10_000;
/// The most random bytes that one call gives, in bytes.
const RANDOM_BYTES_MAX: u64 = 1 << 20;

pub(super) struct Attempt {
    pub(super) message: MessageId,
    pub(super) grants: Arc<Grants>,
    pub(super) pending: Pending,
    pub(super) lines: Lines,
    pub(super) limiter: Limiter,
    /// Made when first asked for: many components never do.
    wasi: Option<WasiCtx>,
    resources: ResourceTable,
    http: WasiHttpCtx,
    lookups: Lookups,
}

impl Attempt {
    pub(super) fn new(
        message: MessageId,
        grants: Arc<Grants>,
        memory_bytes: u64,
        client: Option<LookupClient>,
    ) -> Self {
        let mut resources = ResourceTable::new();
        resources.set_max_capacity(RESOURCES_MAX);
        let lines = Lines::default();
        Self {
            message,
            lookups: Lookups::new(Arc::clone(&grants), lines.clone(), client),
            grants,
            pending: Pending::default(),
            lines,
            limiter: Limiter::new(memory_bytes),
            wasi: None,
            resources,
            http: WasiHttpCtx::new(),
        }
    }
}

/// WASI without any authority: no files, no network, no environment, no arguments, no input. Output becomes lines.
fn inert(lines: &Lines) -> WasiCtx {
    WasiCtx::builder()
        .stdout(lines.output(Output::Stdout))
        .stderr(lines.output(Output::Stderr))
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .max_random_size(RANDOM_BYTES_MAX)
        .build()
}

impl WasiView for Attempt {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| inert(&self.lines));
        WasiCtxView { ctx, table: &mut self.resources }
    }
}

impl WasiHttpView for Attempt {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.resources,
            hooks: &mut self.lookups,
        }
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("message", &self.message)
            .field("pending", &self.pending)
            .field("limiter", &self.limiter)
            .finish_non_exhaustive()
    }
}
