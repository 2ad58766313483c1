//! What all components of a node share: wasmtime's engine, the linkers, the pool and the compiled code.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use wasmtime::component::{Component, HasSelf, Linker};

use super::{
    attempt::Attempt,
    bindings::Solution,
    cache::{Cache, CacheError},
    component::{self, Checked},
    component_fault::ComponentFault,
    epoch,
    instance::{Linked, Ready},
    outside::Outside,
    places::Places,
    pool,
};
use crate::{
    contract::{
        handler::{self, Handler, Loader, View, ViewError},
        manifest::Manifest,
    },
    model::name::Digest,
};

/// What an engine is told once.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where compiled code is kept between runs; none keeps nothing. Must be this user's own.
    pub cache_dir: Option<PathBuf>,
    /// The most handlers that run at once; whoever comes later waits.
    pub instances: u32,
}

/// The engine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("wasmtime could not be set up: {0}")]
    Wasm(String),
    #[error("the thread that counts time could not be started: {0}")]
    Ticker(io::Error),
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// A component could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the component's bytes are not those of {expected}: they are {found}")]
    OtherBytes { expected: Digest, found: Digest },
    #[error("{}", sentences(.0))]
    Refused(Vec<ComponentFault>),
}

/// Compiles components and makes handlers of them. Clones share everything.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    wasm: wasmtime::Engine,
    /// For components that only compute: calls without a fiber.
    computing: Linker<Attempt>,
    /// For components that may wait.
    waiting: Linker<Attempt>,
    cache: Option<Cache>,
    places: Places,
    outside: OnceLock<Arc<Outside>>,
    /// One compilation at a time: each uses all processors.
    compiling: Mutex<()>,
}

impl Engine {
    pub fn new(config: &Config) -> Result<Self, EngineError> {
        let pooling = pool::pooling(config.instances.max(1));
        let wasm = wasmtime::Engine::new(&pooling).or_else(|error| {
            tracing::warn!(%error, "no pool of instances: handlers start more slowly");
            wasmtime::Engine::new(&pool::on_demand())
        });
        Self::on(wasm.map_err(|error| wasm_error(&error))?, config)
    }

    /// On wasmtime set up in one of the two ways that `pool` has.
    pub(super) fn on(wasm: wasmtime::Engine, config: &Config) -> Result<Self, EngineError> {
        epoch::start_ticker(&wasm).map_err(EngineError::Ticker)?;
        let cache = config.cache_dir.as_deref().map(|dir| Cache::open(dir, &wasm)).transpose()?;
        Ok(Self(Arc::new(Inner {
            computing: computing(&wasm).map_err(|error| wasm_error(&error))?,
            waiting: waiting(&wasm).map_err(|error| wasm_error(&error))?,
            wasm,
            cache,
            places: Places::new(config.instances.max(1)),
            outside: OnceLock::new(),
            compiling: Mutex::new(()),
        })))
    }

    /// What `check` and `deploy` say: every fault, not only the first.
    ///
    /// Compiles, so it takes as long as the component is large; with a cache, a later [`Engine::load`] does not
    /// compile again. Must not be called on a thread that polls other tasks.
    pub fn check(&self, manifest: &Manifest, bytes: &[u8]) -> Result<Checked, Vec<ComponentFault>> {
        let component = self.component(Digest::of(bytes), bytes).map_err(|fault| vec![fault])?;
        let shape = component::shape(&component, manifest);
        if !shape.faults.is_empty() {
            return Err(shape.faults);
        }
        let ready = self
            .ready(&component, manifest, shape.checked.may_wait)
            .map_err(|fault| vec![fault])?;
        match ready.try_to_start(&Nothing) {
            Ok(()) => Ok(shape.checked),
            Err(reason) => Err(vec![ComponentFault::Start { reason }]),
        }
    }

    /// Ready to handle; compiles, or takes the code from the cache.
    ///
    /// The handler blocks, so it must be called on a thread that polls no other tasks.
    pub fn load(
        &self,
        digest: Digest,
        bytes: &[u8],
        manifest: &Manifest,
    ) -> Result<Arc<dyn Handler>, LoadError> {
        let found = Digest::of(bytes);
        if found != digest {
            return Err(LoadError::OtherBytes { expected: digest, found });
        }
        let refused = |fault| LoadError::Refused(vec![fault]);
        let component = self.component(digest, bytes).map_err(refused)?;
        let shape = component::shape(&component, manifest);
        if !shape.faults.is_empty() {
            return Err(LoadError::Refused(shape.faults));
        }
        let ready = self.ready(&component, manifest, shape.checked.may_wait).map_err(refused)?;
        Ok(Arc::new(ready))
    }

    pub(super) fn wasm(&self) -> &wasmtime::Engine {
        &self.0.wasm
    }

    pub(super) fn places(&self) -> &Places {
        &self.0.places
    }

    fn component(&self, digest: Digest, bytes: &[u8]) -> Result<Component, ComponentFault> {
        component::recognise(bytes)?;
        let cached = || self.0.cache.as_ref().and_then(|cache| cache.get(&self.0.wasm, digest));
        if let Some(component) = cached() {
            return Ok(component);
        }
        let _one_at_a_time = self.0.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have compiled it meanwhile.
        if let Some(component) = cached() {
            return Ok(component);
        }
        let component = Component::from_binary(&self.0.wasm, bytes)
            .map_err(|error| ComponentFault::Compile { reason: format!("{error:#}") })?;
        if let Some(cache) = &self.0.cache {
            cache.put(digest, &component);
        }
        Ok(component)
    }

    fn ready(
        &self,
        component: &Component,
        manifest: &Manifest,
        may_wait: bool,
    ) -> Result<Ready, ComponentFault> {
        let linker = if may_wait { &self.0.waiting } else { &self.0.computing };
        let outside = may_wait.then(|| self.outside()).transpose()?;
        let linked = linker
            .instantiate_pre(component)
            .map_err(|error| ComponentFault::Link { reason: format!("{error:#}") })?;
        let handle = component
            .get_export_index(None, "handle")
            .ok_or(ComponentFault::NoHandle { found: Vec::new() })?;
        Ok(Ready {
            engine: self.clone(),
            linked: Linked { component: linked, handle, outside },
            grants: Arc::new(manifest.grants.clone()),
            limits: manifest.limits.clone(),
            places: component.resources_required().map_or(1, |required| pool::places(&required)),
        })
    }

    fn outside(&self) -> Result<Arc<Outside>, ComponentFault> {
        if let Some(outside) = self.0.outside.get() {
            return Ok(Arc::clone(outside));
        }
        let outside = Outside::new().map_err(|error| ComponentFault::Host {
            reason: format!("no thread to wait on: {error}"),
        })?;
        Ok(Arc::clone(self.0.outside.get_or_init(|| Arc::new(outside))))
    }
}

fn computing(wasm: &wasmtime::Engine) -> wasmtime::Result<Linker<Attempt>> {
    let mut linker = Linker::new(wasm);
    Solution::add_to_linker::<_, HasSelf<_>>(&mut linker, |attempt| attempt)?;
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
    Ok(linker)
}

fn waiting(wasm: &wasmtime::Engine) -> wasmtime::Result<Linker<Attempt>> {
    let mut linker = Linker::new(wasm);
    Solution::add_to_linker::<_, HasSelf<_>>(&mut linker, |attempt| attempt)?;
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    Ok(linker)
}

/// What a component sees that is only tried.
struct Nothing;

impl View for Nothing {
    fn state_get(&self, _key: &str) -> Result<Option<bytes::Bytes>, ViewError> {
        Ok(None)
    }

    fn state_list(
        &self,
        _prefix: &str,
        _after: Option<&str>,
        _limit: usize,
    ) -> Result<Vec<(String, bytes::Bytes)>, ViewError> {
        Ok(Vec::new())
    }

    fn setting(&self, _name: &str) -> Option<String> {
        None
    }
}

fn wasm_error(error: &wasmtime::Error) -> EngineError {
    EngineError::Wasm(format!("{error:#}"))
}

fn sentences(faults: &[ComponentFault]) -> String {
    let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("cache", &self.cache)
            .field("places", &self.places)
            .finish_non_exhaustive()
    }
}

impl Loader for Engine {
    fn load(
        &self,
        digest: Digest,
        component: &[u8],
        manifest: &Manifest,
    ) -> Result<Arc<dyn Handler>, handler::LoadError> {
        self.load(digest, component, manifest)
            .map_err(|error| handler::LoadError(error.to_string()))
    }
}
