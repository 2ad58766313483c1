//! The `tandem` command, run as a person runs it.

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
};

use crate::{NodeUnderTest, WitnessUnderTest, wait::DEADLINE};

/// Where the command is. Cargo tells that only to integration tests, so they hand it in.
#[derive(Debug, Clone, Copy)]
pub struct Program(pub &'static str);

impl Program {
    /// A node with what holds where nothing is said.
    pub fn node(self) -> NodeUnderTest {
        self.node_with("")
    }

    /// A node with this `tandem.toml`.
    pub fn node_with(self, config: &str) -> NodeUnderTest {
        NodeUnderTest::start(self, config)
    }

    pub fn witness(self) -> WitnessUnderTest {
        WitnessUnderTest::start(self)
    }

    /// A command without what the surroundings would tell it.
    pub fn command(self, folder: &Path) -> Command {
        self.command_within(folder, &[])
    }

    /// The same, with words for `env` before it.
    pub fn command_within(self, folder: &Path, words: &[String]) -> Command {
        let mut command = Command::new(if words.is_empty() { self.0 } else { "env" });
        if !words.is_empty() {
            command.args(words).arg(self.0);
        }
        for name in ["TANDEM_NODE", "TANDEM_TOKEN", "TANDEM_LOG"] {
            command.env_remove(name);
        }
        command.current_dir(folder).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(self, folder: &Path, arguments: &[&str]) -> Told {
        finish(self.command(folder).args(arguments))
    }
}

/// What a command said and how it ended.
#[derive(Debug, Clone)]
pub struct Told {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Told {
    /// Checks the exit code, and hands itself on.
    #[expect(clippy::return_self_not_must_use, reason = "often only the check is wanted")]
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self}"))
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\n-- out\n{}\n-- err\n{}", self.code, self.out, self.err)
    }
}

/// Runs to the end; who does not end by the deadline is killed, and the test fails.
pub fn finish(command: &mut Command) -> Told {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be run");
    let (out, err) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let code = wait_for_end(&mut child);
    Told { code, out: out.recv().unwrap_or_default(), err: err.recv().unwrap_or_default() }
}

/// What a command that takes minutes, such as cargo, says; without a deadline.
pub fn finish_slowly(command: &mut Command) -> Told {
    let Output { status, stdout, stderr } = command.output().expect("the program can be run");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Told { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// The exit code; none if a signal ended it.
#[expect(clippy::disallowed_methods, reason = "between two looks at a state, with a deadline")]
#[track_caller]
pub fn wait_for_end(child: &mut Child) -> Option<i32> {
    let began = std::time::Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return status.code();
        }
        if began.elapsed() > DEADLINE {
            child.kill().ok();
            child.wait().ok();
            panic!("process {} did not end within {DEADLINE:?}", child.id());
        }
        thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// As a power cut would, but for the disk's cache.
pub fn kill9(mut child: Child) {
    child.kill().expect("a child can be killed");
    child.wait().expect("a child can be waited for");
}

fn drain(from: Option<impl std::io::Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    let mut from = from.expect("it is piped");
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).ok();
        send.send(String::from_utf8_lossy(&bytes).into_owned()).ok();
    });
    receive
}
