//! The seams: where the command line calls the floors below in its own process rather than over HTTP.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tokio::sync::watch;

use crate::{
    contract::manifest::{Manifest, parse},
    machine::Listener,
    net::listen_file,
    node::{Config, Node},
    runtime::{self, ComponentFault, Engine},
    witness::{
        register::{PAIRS_MAX, Register},
        server,
    },
};

use super::exit::Failure;

/// What `tandem run` says over the configuration file.
#[derive(Debug, Default)]
pub struct Overrides {
    pub data_dir: Option<PathBuf>,
    pub listen: Option<SocketAddr>,
}

/// What keeps a solution from being deployed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Fault {
    /// May have several lines: a fault of the manifest shows where it is.
    pub fault: String,
    pub fix: Option<String>,
}

/// What a check found. No faults: a node will take it.
#[derive(Debug, Default, serde::Serialize)]
pub struct Findings {
    pub faults: Vec<Fault>,
    pub warnings: Vec<String>,
    /// Interfaces that the component imports.
    pub imports: Vec<String>,
}

/// `tandem.toml`, or the file that is named, with what the command line says over it.
pub fn load_config(file: Option<&Path>, overrides: Overrides) -> Result<Config, Failure> {
    let mut config = Config::load(file).map_err(|e| Failure::usage(e.to_string()))?;
    config.data_dir = overrides.data_dir.unwrap_or(config.data_dir);
    config.listen = overrides.listen.unwrap_or(config.listen);
    Ok(config)
}

/// Runs a node until `stop` turns true and everything has stopped in order.
pub async fn run_node(config: &Config, stop: watch::Receiver<bool>) -> Result<(), Failure> {
    let failed = |e: crate::node::NodeError| Failure::failed("node", e.to_string());
    Node::start(config).await.map_err(failed)?.run(stop).await.map_err(failed)
}

/// Runs a witness until `stop` turns true and everything has stopped in order.
pub async fn run_witness(
    dir: &Path,
    listen: SocketAddr,
    stop: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let failed = |message: String| Failure::failed("witness", message);
    let register = Register::open(dir, PAIRS_MAX).map_err(|e| failed(e.to_string()))?;
    let bound = Listener::bind(listen).await;
    let (address, listener) =
        bound.and_then(|listener| Ok((listener.local_addr()?, listener))).map_err(|e| {
            failed(format!(
                "cannot listen on {listen}: {e}; give --listen another address, or stop who has it"
            ))
        })?;
    let listen_file =
        listen_file::write(dir, address).map_err(|e| Failure::file("write into", dir, &e))?;
    tracing::info!(%address, data_dir = %dir.display(), "ready");
    let ended = server::serve(listener, register, stop).await;
    std::fs::remove_file(&listen_file).ok();
    ended.map_err(|e| failed(e.to_string()))
}

/// Reads a manifest; every fault is shown where it is in the file `path`.
pub fn read_manifest(path: &Path, text: &str) -> Result<Manifest, Vec<Fault>> {
    parse::parse(text).map_err(|faults| {
        let told = |fault: &parse::ManifestError| Fault {
            fault: format!("{}:{fault}", path.display()),
            fix: None,
        };
        faults.list().iter().map(told).collect()
    })
}

/// Checks a component against its manifest, as a node does at its deployment.
pub fn check_component(manifest: &Manifest, component: &[u8]) -> Findings {
    let config = runtime::Config { cache_dir: None, instances: 1 };
    let engine = match Engine::new(&config) {
        Ok(engine) => engine,
        Err(e) => {
            let fault = Fault { fault: e.to_string(), fix: None };
            return Findings { faults: vec![fault], ..Findings::default() };
        }
    };
    match engine.check(manifest, component) {
        Ok(checked) => {
            Findings { faults: Vec::new(), warnings: checked.warnings, imports: checked.imports }
        }
        Err(faults) => {
            Findings { faults: faults.iter().map(told).collect(), ..Findings::default() }
        }
    }
}

fn told(fault: &ComponentFault) -> Fault {
    Fault { fault: fault.to_string(), fix: fault.fix() }
}
