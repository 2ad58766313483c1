//! The demo's node: a process of its own, of this same program, that does not outlive the demo.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    process::{ChildStdin, Command},
    time::{Instant, sleep, timeout},
};

use super::super::exit::Failure;

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(15);

/// Dropped, also by a panic, it is killed; if the demo itself is killed, its standard input ends and it stops.
#[derive(Debug)]
pub struct Child {
    process: tokio::process::Child,
    /// Held open for as long as the node is wanted.
    stdin: Option<ChildStdin>,
    address: SocketAddr,
    log: PathBuf,
}

impl Child {
    /// Starts a node on a free port, with everything it keeps below `folder`.
    pub async fn start(folder: &Path) -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .map_err(|e| Failure::failed("system", format!("cannot find this program: {e}")))?;
        let data_dir = folder.join("node");
        let log = folder.join("node.log");
        let log_file = fs::File::create(&log).map_err(|e| Failure::file("write", &log, &e))?;
        let mut command = Command::new(program);
        command
            .args(["run", "--stop-with-stdin", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&data_dir)
            // No configuration of the user's is picked up.
            .current_dir(folder)
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log_file)
            // Ctrl-C is for the demo, which then stops the node in its own time.
            .process_group(0)
            .kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TANDEM_") && name != "TANDEM_LOG" {
                command.env_remove(name);
            }
        }
        let mut process = command
            .spawn()
            .map_err(|e| Failure::failed("system", format!("cannot start the node: {e}")))?;
        let stdin = process.stdin.take();
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut child = Self { process, stdin, address: unknown, log };
        child.address = child.listens(&data_dir.join("listen")).await?;
        Ok(child)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Refuses to go on without a node.
    pub fn still_runs(&mut self) -> Result<(), Failure> {
        match self.process.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.ended(&format!("the node ended by itself: {status}"))),
            Err(e) => Err(self.ended(&format!("the node cannot be asked: {e}"))),
        }
    }

    /// Lets it stop in order; kills it if it does not.
    pub async fn stop(mut self) {
        drop(self.stdin.take());
        if timeout(STOP, self.process.wait()).await.is_err() {
            let _ = self.process.kill().await;
        }
    }

    /// The node writes where it listens once it does.
    async fn listens(&mut self, file: &Path) -> Result<SocketAddr, Failure> {
        let deadline = Instant::now() + START;
        loop {
            if let Some(address) = fs::read_to_string(file).ok().and_then(|t| t.trim().parse().ok())
            {
                return Ok(address);
            }
            self.still_runs()?;
            if Instant::now() >= deadline {
                return Err(self.ended("the node did not start within 30 s"));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// With the end of its log: the folder is gone in a moment.
    fn ended(&self, what: &str) -> Failure {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(10)..];
        let said = if last.is_empty() { "it said nothing".into() } else { last.join("\n  ") };
        Failure::failed("node-ended", format!("{what}; its last words:\n  {said}"))
    }
}
