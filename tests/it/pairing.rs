//! Two nodes become a pair: `tandem pair invite` here, `tandem pair join` there.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use serde_json::Value;
use tandem::{
    model::clock::Clock,
    net::{
        keys::PairFolder,
        link::{Acceptor, AcceptorConfig, Arrival, Link, Trust},
    },
};
use tandem_tests::{DEADLINE, program::Told};
use tempfile::TempDir;

use crate::TANDEM;

/// `tandem pair invite --wait --json` in a folder; killed when this goes.
struct Inviting {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    code: String,
}

impl Inviting {
    fn start(folder: &Path) -> Self {
        Self::start_at(folder, "127.0.0.1:0")
    }

    fn start_at(folder: &Path, address: &str) -> Self {
        let mut child = TANDEM
            .command(folder)
            .args(["pair", "invite", "--address", address, "--wait", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        Self { child, lines, code: line["code"].as_str().unwrap().to_owned() }
    }

    /// What it says in the end, once somebody has joined.
    fn joined(mut self) -> Value {
        let code = tandem_tests::program::wait_for_end(&mut self.child);
        let mut said = String::new();
        self.lines.read_to_string(&mut said).unwrap();
        let mut notes = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut notes).unwrap();
        assert_eq!(code, Some(0), "{said}{notes}");
        serde_json::from_str(&said).unwrap()
    }
}

impl Drop for Inviting {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn keys(folder: &TempDir) -> PairFolder {
    PairFolder::of(&folder.path().join("tandem-data"))
}

fn join(folder: &TempDir, code: &str) -> Told {
    TANDEM.run(folder.path(), &["pair", "join", code, "--json"])
}

fn refused(told: Told, exit: i32, code: &str) {
    let told = told.expect(exit);
    let error: Value = serde_json::from_str(&told.err).unwrap_or_else(|e| panic!("{e}: {told}"));
    assert_eq!(error["code"], code, "{told}");
    assert!(error["next"].is_string(), "it says what to do: {told}");
}

/// Both nodes' folders let each other in, whoever dials.
fn assert_paired(one: &TempDir, other: &TempDir) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for (waits, dials) in [(keys(one), keys(other)), (keys(other), keys(one))] {
            let own = |folder: &PairFolder| {
                let identity = folder.identity().unwrap().unwrap();
                (identity, Trust::of(folder.peer().unwrap().unwrap().pins))
            };
            let (identity, trust) = own(&waits);
            let anywhere = "127.0.0.1:0".parse().unwrap();
            let config = AcceptorConfig::default();
            let mut acceptor = Acceptor::bind(anywhere, &identity, &trust, config).await.unwrap();
            let address = acceptor.local_address().unwrap().to_string();
            let (identity, trust) = own(&dials);
            let dialled = Link::dial(&address, &identity, &trust, DEADLINE);
            let (dialled, arrival) = tokio::join!(dialled, acceptor.accept());
            dialled.unwrap();
            assert!(matches!(arrival, Arrival::Peer(_)));
        }
    });
    assert_eq!(keys(one).shared().unwrap().unwrap(), keys(other).shared().unwrap().unwrap());
}

#[test]
fn two_folders_become_a_pair() {
    let (main, failover) = (folder(), folder());
    let inviting = Inviting::start(main.path());
    let code = inviting.code.clone();
    let told = join(&failover, &code.to_lowercase()).expect(0).json();
    let joined = inviting.joined();
    assert_eq!(told["pair"], joined["pair"]);
    assert_eq!(joined["confirmed"], true);
    let own = keys(&failover).identity().unwrap().unwrap().fingerprint().to_string();
    assert_eq!(joined["peer"], own);
    assert_paired(&main, &failover);

    // Nobody waits there any more; and once somebody does, the old code is of no use.
    let third = folder();
    refused(join(&third, &code), 3, "unreachable");

    // A node that is lost is replaced by one that joins in its place.
    let inviting = Inviting::start(main.path());
    join(&third, &inviting.code).expect(0);
    inviting.joined();
    assert_paired(&main, &third);
    let told = keys(&main).peer().unwrap().unwrap().pins;
    assert!(!told.iter().any(|pin| pin.to_string() == own), "the lost one is trusted still");
}

#[test]
fn a_code_that_is_wrong_is_told_from_one_that_is_used_or_late() {
    let (main, failover) = (folder(), folder());
    let inviting = Inviting::start(main.path());
    let code = inviting.code.clone();
    let other = if code.ends_with('0') { "1" } else { "0" };
    let mistyped = format!("{}{other}", &code[..code.len() - 1]);
    refused(join(&failover, &mistyped), 2, "code-mistyped");
    refused(join(&failover, &code[..code.len() - 6]), 2, "code-mistyped");
    refused(join(&main, &code), 1, "own-code");

    // A newer code takes its place; the one who waits answers for both.
    let address = format!("127.0.0.1:{}", port_of(&code));
    let invite = |valid: &str| {
        let line = ["pair", "invite", "--address", &address, "--valid", valid, "--json"];
        let code = TANDEM.run(main.path(), &line).expect(0).json()["code"].clone();
        code.as_str().unwrap().to_owned()
    };
    let newer = invite("1s");
    refused(join(&failover, &code), 1, "code-unknown");
    let expires_ms = keys(&main).invitation().unwrap().unwrap().expires_ms;
    tandem_tests::wait_until("the code has expired", || Clock::system().now_ms() > expires_ms);
    refused(join(&failover, &newer), 1, "code-expired");
    assert_eq!(keys(&failover).peer().unwrap(), None);

    let good = invite("15m");
    join(&failover, &good).expect(0);
    inviting.joined();
    assert_paired(&main, &failover);
    // Who belongs to a pair does not leave it for another by mistake.
    let third = folder();
    let inviting = Inviting::start(third.path());
    refused(join(&failover, &inviting.code), 1, "already-paired");
}

fn port_of(code: &str) -> u16 {
    let code: tandem::net::keys::Code = code.parse().unwrap();
    code.address.parse::<std::net::SocketAddr>().unwrap().port()
}

#[test]
fn of_two_who_join_at_once_one_does() {
    let main = folder();
    let inviting = Inviting::start(main.path());
    let (one, other) = (folder(), folder());
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| join(&one, &inviting.code));
        let second = scope.spawn(|| join(&other, &inviting.code));
        (first.join().unwrap(), second.join().unwrap())
    });
    inviting.joined();
    let (winner, loser) = if first.code == Some(0) { (&one, second) } else { (&other, first) };
    assert_ne!(loser.code, Some(0), "{loser}");
    assert_paired(&main, winner);
}

#[test]
fn another_process_of_the_node_may_answer() {
    let (main, failover) = (folder(), folder());
    let listening = Inviting::start(main.path());
    let address = format!("127.0.0.1:{}", port_of(&listening.code));
    let looking = Inviting::start_at(main.path(), &address);
    join(&failover, &looking.code).expect(0);
    assert_eq!(listening.joined()["confirmed"], true);
    let told = looking.joined();
    assert_eq!(told["confirmed"], false, "it cannot know");
    let own = keys(&failover).identity().unwrap().unwrap().fingerprint().to_string();
    assert_eq!(told["peer"], own);
    assert_paired(&main, &failover);
}

#[test]
fn a_code_that_nobody_uses_ends_the_wait() {
    let main = folder();
    let line = ["pair", "invite", "--address", "127.0.0.1:0", "--wait", "--valid", "1s", "--json"];
    let told = TANDEM.run(main.path(), &line).expect(5);
    assert!(told.err.contains("\"code\":\"expired\""), "{told}");
}

#[test]
fn where_this_node_is_comes_from_the_configuration() {
    let main = folder();
    let told = TANDEM.run(main.path(), &["pair", "invite"]).expect(2);
    assert!(told.err.contains("--address"), "{told}");
    assert_eq!(told.out, "");
    let config: PathBuf = main.path().join("tandem.toml");
    for (listen, address) in
        [("0.0.0.0:7455", "127.0.0.1:7455"), ("10.1.2.3:7400", "10.1.2.3:7400")]
    {
        let text =
            format!("[pair]\nlisten = \"{listen}\"\npeer = [\"127.0.0.1:7401\"]\nmain = true\n");
        std::fs::write(&config, text).unwrap();
        let told = TANDEM.run(main.path(), &["pair", "invite", "--json"]).expect(0).json();
        assert_eq!(told["address"], address);
        // As long as is said nowhere: for 15 minutes.
        let good_for_ms = told["expires_ms"].as_u64().unwrap() - Clock::system().now_ms();
        assert!((600_000..=900_000).contains(&good_for_ms), "{good_for_ms} ms");
    }
}
