//! Programs that are measured: each ends with what holds it.

use std::{
    io,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tandem_tests::Request;

use crate::{Outcome, PATH, load};

/// Of a program's start.
const START: Duration = Duration::from_mins(1);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

pub struct Process(pub Child);

impl Process {
    pub fn spawn(command: &mut Command) -> Outcome<Self> {
        Ok(Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Runs a program to its end; what it says is told if it fails.
pub fn run(command: &mut Command) -> Outcome<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| missing(command, error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {}: {}", output.status, said.trim()).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn missing(command: &Command, error: io::Error) -> String {
    format!("{}: {error}", command.get_program().display())
}

/// Nobody listens there yet.
pub fn free_address() -> Outcome<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Looks until it is so.
pub fn wait(
    what: &str,
    patience: Duration,
    mut is_so: impl FnMut() -> Outcome<bool>,
) -> Outcome<()> {
    let began = Instant::now();
    while !is_so()? {
        if began.elapsed() > patience {
            return Err(format!("waited {patience:?} for this: {what}").into());
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
    Ok(())
}

/// Waits until a program is up.
pub fn wait_for_start(what: &str, is_up: impl FnMut() -> Outcome<bool>) -> Outcome<()> {
    wait(&format!("{what} starts"), START, is_up)
}

/// Waits until a web hook is taken there.
pub fn wait_for_hook(what: &str, address: SocketAddr) -> Outcome<()> {
    let request = Request::post(PATH, load::body()).header("content-type", "application/json");
    wait_for_start(what, || Ok(request.send(address).is_ok_and(|response| response.status == 202)))
}
