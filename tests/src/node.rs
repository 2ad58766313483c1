//! One node: `tandem run` in a folder of its own, and what tests do to it.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    Program, Request, Response, Solution,
    program::{self, Told},
    wait::{wait_for, wait_until},
};

/// Lines of its log that a failing test shows.
const LOG_SHOWN: usize = 60;

/// Its process is killed when this goes, also in a panic; its folder goes too.
#[derive(Debug)]
pub struct NodeUnderTest {
    program: Program,
    folder: TempDir,
    process: Option<Child>,
    /// Words for `env` before each of its commands: in which namespaces it is, for example.
    within: Vec<String>,
    /// What it is told to listen at.
    listen: SocketAddr,
    /// Where it listens; after a restart another port, as another process might have the old one by then, unless a test
    /// holds a port for it.
    pub address: SocketAddr,
}

impl NodeUnderTest {
    pub(crate) fn start(program: Program, config: &str) -> Self {
        let mut node = Self::at(program, ([127, 0, 0, 1], 0).into());
        node.configure(config);
        node.run();
        node
    }

    /// One that does not run yet.
    pub fn at(program: Program, listen: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        Self { program, folder, process: None, within: Vec::new(), listen, address: listen }
    }

    /// The same, with words for `env` before each of its commands.
    #[must_use]
    pub fn within(mut self, words: Vec<String>) -> Self {
        self.within = words;
        self
    }

    /// It is another program from its next start on: an older or newer one.
    pub fn becomes(&mut self, program: Program) {
        self.program = program;
    }

    /// Its `tandem.toml` from the next start on.
    pub fn configure(&self, config: &str) {
        fs::write(self.folder.path().join("tandem.toml"), config)
            .expect("a test's folder can be written");
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts it and waits until it takes messages.
    pub fn run(&mut self) {
        self.launch();
        wait_until("the node is ready", || {
            self.must_live();
            self.get("/readyz").is_ok_and(|response| response.status == 200)
        });
    }

    /// Starts it and waits until it listens.
    pub fn launch(&mut self) {
        self.launch_with(&[]);
    }

    /// The same, with words for `env` before the command.
    pub fn launch_with(&mut self, env: &[&str]) {
        self.spawn_with(env);
        let listen = self.listen_path();
        self.address = wait_for("the node listens", || {
            self.must_live();
            fs::read_to_string(&listen).ok()?.trim().parse().ok()
        });
    }

    /// Starts it and waits for nothing; then where it listens is known only if that was given.
    pub fn spawn_with(&mut self, env: &[&str]) {
        assert!(self.process.is_none(), "it runs already");
        // A node that was killed left its own.
        fs::remove_file(self.listen_path()).ok();
        let log = File::options().create(true).append(true).open(self.log_path());
        let child = self
            .command(env)
            .args(["run", "--data-dir", "data", "--stop-with-stdin"])
            .args(["--listen", &self.listen.to_string()])
            // Held by this process: should it be killed, the node stops.
            .stdin(Stdio::piped())
            .stderr(log.expect("a test's folder can be written"))
            .spawn();
        self.process = Some(child.expect("the program can be run"));
    }

    fn listen_path(&self) -> PathBuf {
        self.data_dir().join("listen")
    }

    /// A command of its program in its folder, where it is.
    fn command(&self, env: &[&str]) -> Command {
        let env = env.iter().map(ToString::to_string);
        let words: Vec<_> = self.within.iter().cloned().chain(env).collect();
        self.program.command_within(self.folder.path(), &words)
    }

    /// How its process ended by itself, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.as_mut()?.try_wait().expect("a child can be waited for")?;
        self.process = None;
        Some(status)
    }

    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    fn must_live(&mut self) {
        let process = self.process.as_mut().expect("it was started");
        if let Some(status) = process.try_wait().expect("a child can be waited for") {
            panic!("the node ended: {status}\n{}", self.log());
        }
    }

    /// As a power cut would, but for the disk's cache.
    pub fn kill9(&mut self) {
        program::kill9(self.process.take().expect("it runs"));
    }

    /// As an operator would (SIGTERM); gives the exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.ask_to_stop();
        program::wait_for_end(&mut self.process.take().expect("it runs"))
    }

    /// The same, without waiting for it.
    pub fn ask_to_stop(&self) {
        self.signal(Signal::TERM);
    }

    /// It does nothing any more until it is resumed, as if its machine hung.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("a child takes signals");
    }

    pub fn pid(&self) -> Pid {
        let id = self.process.as_ref().expect("it runs").id();
        i32::try_from(id).ok().and_then(Pid::from_raw).expect("a process has an id")
    }

    /// Its files can grow no more, as on a full disk: writing beyond what they have now fails. It has to be launched with
    /// [`Self::launch_on_a_disk_that_fills`].
    pub fn fill_disk(&self) {
        let longest = ["store.redb", "store.journal"]
            .map(|name| fs::metadata(self.data_dir().join(name)).map_or(0, |file| file.len()));
        let limit = Rlimit { current: longest.into_iter().max(), maximum: None };
        prlimit(Some(self.pid()), Resource::Fsize, limit).expect("a child can be limited");
    }

    /// What is too long for a file is an error then, and not the process's end.
    pub fn launch_on_a_disk_that_fills(&mut self) {
        self.launch_with(&["--ignore-signal=XFSZ"]);
    }

    /// Waits until its process has ended by itself, and gives the exit code.
    pub fn wait_for_end(&mut self) -> Option<i32> {
        program::wait_for_end(&mut self.process.take().expect("it runs"))
    }

    /// Stops it in order and starts it again.
    pub fn restart(&mut self) {
        assert_eq!(self.stop(), Some(0), "{}", self.log());
        self.run();
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("node.log")
    }

    /// What it said of itself, over all its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Memory that it has at hand, in KiB, where the system tells (`VmRSS`).
    pub fn resident_kib(&self) -> Option<u64> {
        let pid = self.process.as_ref().expect("it runs").id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sends a request to it.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        request
            .send(self.address)
            .unwrap_or_else(|e| panic!("{} {}: {e}", request.method, request.path))
    }

    fn get(&self, path: &str) -> std::io::Result<Response> {
        Request::new("GET", path).send(self.address)
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: impl Into<Vec<u8>>) -> Response {
        self.send(&Request::post(path, body))
    }

    /// Sends a message and gives the id in its receipt.
    #[track_caller]
    pub fn accept(&self, hook: &str, body: impl std::fmt::Display) -> String {
        let receipt = self.post(&format!("/hooks/{hook}"), body.to_string()).expect(202).json();
        assert_eq!(receipt["durability"], 1, "{receipt}");
        text(&receipt["id"])
    }

    /// What `GET /api/v1/…` answers.
    #[track_caller]
    pub fn api(&self, path: &str) -> Value {
        self.call("GET", path, None).expect(200).json()
    }

    /// Any other call below `/api/v1/`.
    #[track_caller]
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Response {
        let path = format!("/api/v1/{path}");
        let bytes = body.map(ToString::to_string).unwrap_or_default();
        let mut request = Request { method: method.into(), ..Request::post(&path, bytes) };
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        self.send(&request)
    }

    #[track_caller]
    pub fn deploy(&self, solution: &Solution) -> Value {
        self.try_deploy(solution).expect(200).json()
    }

    #[track_caller]
    pub fn try_deploy(&self, solution: &Solution) -> Response {
        let component = BASE64_STANDARD.encode(&solution.component);
        let body = json!({ "manifest": solution.manifest, "component": component });
        self.call("POST", "solutions", Some(&body))
    }

    /// Sets a setting; `scope` is a solution or `global`.
    #[track_caller]
    pub fn set(&self, scope: &str, name: &str, value: &Value) {
        self.call("PUT", &format!("settings/{scope}/{name}"), Some(value)).expect(204);
    }

    /// The whole life of a message.
    #[track_caller]
    pub fn message(&self, id: &str) -> Value {
        self.api(&format!("messages/{id}"))
    }

    /// The same, where the node may not have it yet: a standby shows a message a moment after its receipt.
    #[track_caller]
    fn find_message(&self, id: &str) -> Option<Value> {
        let answer = self.call("GET", &format!("messages/{id}"), None);
        (answer.status != 404).then(|| answer.expect(200).json())
    }

    /// Waits until the message is `done` or `dead` (or what is asked for), and gives its life.
    #[track_caller]
    pub fn wait_for_status(&self, id: &str, status: &str) -> Value {
        wait_for(&format!("message {id} is {status}: {:#?}", self.find_message(id)), || {
            self.find_message(id).filter(|message| message["status"] == status)
        })
    }

    /// Waits until the message's delivery `index` is `pending`, `delivered` or `dead`, and gives the message.
    #[track_caller]
    pub fn wait_for_delivery(&self, id: &str, index: usize, status: &str) -> Value {
        let what = format!("delivery {index} of {id} is {status}: {:#?}", self.find_message(id));
        wait_for(&what, || {
            let message = self.find_message(id)?;
            (message["deliveries"][index]["status"] == status).then_some(message)
        })
    }

    /// A value that a solution keeps, as text; none if there is none.
    #[track_caller]
    pub fn state(&self, solution: &str, key: &str) -> Option<String> {
        let entries = self.api(&format!("state/{solution}?prefix={key}"));
        let entry = entries.as_array()?.iter().find(|entry| entry["key"] == key)?;
        Some(text(&entry["value"]["text"]))
    }

    /// Runs a command against it.
    pub fn tandem(&self, arguments: &[&str]) -> Told {
        let mut command = self.command(&[]);
        command.env("TANDEM_NODE", format!("http://{}", self.address)).args(arguments);
        program::finish(&mut command)
    }
}

impl Drop for NodeUnderTest {
    #[expect(clippy::print_stderr, reason = "a failing test shows it")]
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill().ok();
            process.wait().ok();
        }
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(LOG_SHOWN)..];
            eprintln!("-- the node's log\n{}", last.join("\n"));
        }
    }
}

/// A JSON text.
#[track_caller]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
