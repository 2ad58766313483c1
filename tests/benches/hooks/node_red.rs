//! Node-RED: web hook, a function that gets and sets flow context in memory, answer. It keeps nothing.

use std::{fs, net::SocketAddr};

use tempfile::TempDir;

use crate::{
    Outcome, Server, npm,
    process::{Process, free_address, wait_for_hook},
};

pub struct NodeRed {
    address: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

impl NodeRed {
    pub fn start() -> Outcome<Box<dyn Server>> {
        let address = free_address()?;
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("settings.js"), include_str!("node_red/settings.js"))?;
        fs::write(folder.path().join("flows.json"), include_str!("node_red/flows.json"))?;
        let mut command = npm::node()?;
        command.args(["node_modules/node-red/red.js", "--port", &address.port().to_string()]);
        command.arg("--userDir").arg(folder.path());
        let process = Process::spawn(&mut command)?;
        wait_for_hook("Node-RED", address)?;
        Ok(Box::new(Self { address, _process: process, _folder: folder }))
    }
}

impl Server for NodeRed {
    fn address(&self) -> SocketAddr {
        self.address
    }
}
