//! A node of its own folder with fixture `lean` deployed.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{Outcome, Process, workspace};

pub struct Node {
    pub address: SocketAddr,
    _process: Process,
    _dir: tempfile::TempDir,
}

impl Node {
    pub fn start() -> Outcome<Self> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_tandem-under-test"));
        command.args(["run", "--listen", "127.0.0.1:0", "--data-dir"]).arg(dir.path());
        command.env("TANDEM_LOG", "warn").stdin(Stdio::null());
        let process = Process(command.spawn()?);
        let address = address(&dir.path().join("listen"))?;
        let node = Self { address, _process: process, _dir: dir };
        node.deploy()?;
        Ok(node)
    }

    fn deploy(&self) -> Outcome<()> {
        let manifest = workspace().join("tests/fixtures/lean/solution.toml");
        let text = fs::read_to_string(manifest)?;
        // The bench sends more than a queue's default bound.
        let text = text.replace("[grants]", "[limits]\nqueue = 100000000\n\n[grants]");
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("solution.toml"), text.replace("../../../target", "target"))?;
        let component = Path::new(env!("TANDEM_COMPONENT_LEAN"));
        let at = dir.path().join("target/wasm32-wasip2/component");
        fs::create_dir_all(&at)?;
        fs::copy(component, at.join("lean.wasm"))?;
        let status = Command::new(env!("CARGO_BIN_EXE_tandem-under-test"))
            .env("TANDEM_NODE", format!("http://{}", self.address))
            .arg("deploy")
            .arg(dir.path())
            .stdout(Stdio::null())
            .status()?;
        if status.success() { Ok(()) } else { Err("lean was not deployed".into()) }
    }

    pub fn set(&self, name: &str, json: &str) -> Outcome<()> {
        let answer = self.ask("PUT", &format!("/api/v1/settings/global/{name}"), json)?;
        if answer.contains(" 204 ") { Ok(()) } else { Err(answer.into()) }
    }

    /// Waits until nothing is queued and, if asked, nothing is to be delivered.
    pub fn wait_until_idle(&self, delivered: bool) -> Outcome<()> {
        let until = Instant::now() + Duration::from_mins(10);
        loop {
            let answer = self.ask("GET", "/api/v1/status", "")?;
            let (_, body) = answer.split_once("\r\n\r\n").ok_or("no body")?;
            let status: serde_json::Value = serde_json::from_str(body)?;
            let pending =
                if delivered { status["deliveries"]["pending"].as_u64() } else { Some(0) };
            if status["messages"]["queued"] == 0 && pending == Some(0) {
                return Ok(());
            }
            if Instant::now() > until {
                return Err("the node did not finish".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Outcome<String> {
        let mut stream = TcpStream::connect(self.address)?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

fn address(file: &Path) -> Outcome<SocketAddr> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        if let Ok(text) = fs::read_to_string(file) {
            return Ok(text.trim().parse()?);
        }
        if Instant::now() > until {
            return Err("the node did not start".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
