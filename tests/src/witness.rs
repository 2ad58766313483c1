//! One witness: `tandem witness` in a folder of its own.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{Program, program, wait::wait_for};

/// Its process is killed when this goes, also in a panic; its folder goes too.
#[derive(Debug)]
pub struct WitnessUnderTest {
    program: Program,
    folder: TempDir,
    process: Option<Child>,
    /// Words for `env` before its command.
    within: Vec<String>,
    /// What it is told to listen at.
    listen: SocketAddr,
    /// Where it listens; after a restart another port, as another process might have the old one by then.
    pub address: SocketAddr,
}

impl WitnessUnderTest {
    pub(crate) fn start(program: Program) -> Self {
        let mut witness = Self::at(program, ([127, 0, 0, 1], 0).into());
        witness.run();
        witness
    }

    /// One that does not run yet.
    pub fn at(program: Program, listen: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        Self { program, folder, process: None, within: Vec::new(), listen, address: listen }
    }

    /// The same, with words for `env` before its command.
    #[must_use]
    pub fn within(mut self, words: Vec<String>) -> Self {
        self.within = words;
        self
    }

    /// It is another program from its next start on.
    pub fn becomes(&mut self, program: Program) {
        self.program = program;
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Where its records are.
    pub fn file(&self) -> PathBuf {
        self.data_dir().join("witness.redb")
    }

    /// Starts it and waits until it listens.
    pub fn run(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let (listen, log) = (self.data_dir().join("listen"), self.folder.path().join("log"));
        // A witness that was killed left its own.
        fs::remove_file(&listen).ok();
        let log_file = File::options().create(true).append(true).open(&log);
        let child = self
            .program
            .command_within(self.folder.path(), &self.within)
            .args(["witness", "--data-dir", "data", "--stop-with-stdin"])
            .args(["--listen", &self.listen.to_string()])
            // Held by this process: should it be killed, the witness stops.
            .stdin(Stdio::piped())
            .stderr(log_file.expect("a test's folder can be written"))
            .spawn();
        let process = self.process.insert(child.expect("the program can be run"));
        self.address = wait_for("the witness listens", || {
            if let Some(status) = process.try_wait().expect("a child can be waited for") {
                panic!("it ended: {status}\n{}", fs::read_to_string(&log).unwrap_or_default());
            }
            fs::read_to_string(&listen).ok()?.trim().parse().ok()
        });
    }

    /// As a power cut would, but for the disk's cache.
    pub fn kill9(&mut self) {
        program::kill9(self.process.take().expect("it runs"));
    }

    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// It does nothing any more until it is sent SIGCONT.
    pub fn signal(&self, signal: Signal) {
        let id = self.process.as_ref().expect("it runs").id();
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw).expect("a process has an id");
        kill_process(pid, signal).expect("a child takes signals");
    }

    /// Closes its standard input and gives the exit code.
    pub fn stop(&mut self) -> Option<i32> {
        let mut process = self.process.take().expect("it runs");
        drop(process.stdin.take());
        program::wait_for_end(&mut process)
    }
}

impl Drop for WitnessUnderTest {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill().ok();
            process.wait().ok();
        }
    }
}
