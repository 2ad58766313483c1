//! The demo's servers: processes of their own, of this same program, that do not outlive the demo.

use std::{ffi::OsString, fs, net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};

use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use super::super::exit::Failure;

const START: Duration = Duration::from_secs(30);

/// Dropped, also by a panic, it is killed; if the demo itself is killed, its standard input ends and it stops.
#[derive(Debug)]
pub struct Child {
    name: &'static str,
    arguments: Vec<OsString>,
    /// Where it keeps everything.
    data_dir: PathBuf,
    log: PathBuf,
    process: Option<tokio::process::Child>,
}

impl Child {
    /// Nothing runs yet.
    pub fn new(name: &'static str, data_dir: PathBuf, arguments: Vec<OsString>) -> Self {
        let log = data_dir.with_extension("log");
        Self { name, arguments, data_dir, log, process: None }
    }

    /// Starts it, for the first time or again, and gives where it listens.
    pub async fn start(&mut self) -> Result<SocketAddr, Failure> {
        let program = std::env::current_exe()
            .map_err(|e| Failure::failed("system", format!("cannot find this program: {e}")))?;
        let listen = self.data_dir.join("listen");
        // One that was killed left its own.
        fs::remove_file(&listen).ok();
        let log = fs::File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(|e| Failure::file("write", &self.log, &e))?;
        let mut command = Command::new(program);
        command
            .args(&self.arguments)
            .arg("--stop-with-stdin")
            .env("NO_COLOR", "1")
            // Held open for as long as it is wanted.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C is for the demo, which then ends it.
            .process_group(0)
            .kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TANDEM_") && name != "TANDEM_LOG" {
                command.env_remove(name);
            }
        }
        let started = command.spawn().map_err(|e| {
            Failure::failed("system", format!("cannot start the {}: {e}", self.name))
        })?;
        self.process = Some(started);
        let deadline = Instant::now() + START;
        loop {
            let said = fs::read_to_string(&listen).ok();
            if let Some(address) = said.and_then(|text| text.trim().parse().ok()) {
                return Ok(address);
            }
            self.still_runs()?;
            if Instant::now() >= deadline {
                return Err(self.ended("it did not start within 30 s"));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Refuses to go on if it ended by itself.
    pub fn still_runs(&mut self) -> Result<(), Failure> {
        match self.process.as_mut().map(tokio::process::Child::try_wait) {
            None | Some(Ok(None)) => Ok(()),
            Some(Ok(Some(status))) => Err(self.ended(&format!("it ended by itself: {status}"))),
            Some(Err(e)) => Err(self.ended(&format!("it cannot be asked: {e}"))),
        }
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Else it has ended already.
            let _ = process.kill().await;
        }
    }

    /// With the end of its log: the folder is gone in a moment.
    fn ended(&self, what: &str) -> Failure {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(10)..];
        let said = if last.is_empty() { "nothing".into() } else { last.join("\n  ") };
        Failure::failed(
            "server-ended",
            format!("the {}: {what}; its last words:\n  {said}", self.name),
        )
    }
}
