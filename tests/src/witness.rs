//! One witness: `tandem witness` in a folder of its own.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Stdio},
};

use tempfile::TempDir;

use crate::{Program, program, wait::wait_for};

/// Its process is killed when this goes, also in a panic; its folder goes too.
#[derive(Debug)]
pub struct WitnessUnderTest {
    program: Program,
    folder: TempDir,
    process: Option<Child>,
    /// Where it listens; after a restart another port, as another process might have the old one by then.
    pub address: SocketAddr,
}

impl WitnessUnderTest {
    pub(crate) fn start(program: Program) -> Self {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut witness = Self { program, folder, process: None, address };
        witness.run();
        witness
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
            .command(self.folder.path())
            .args(["witness", "--data-dir", "data", "--listen", "127.0.0.1:0", "--stop-with-stdin"])
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
