//! Whose message it was, and where the pair is.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use serde_json::{Value, json};
use tandem_tests::{
    DEADLINE, Request, Side, Solution,
    program::{Told, finish},
    wait_for, wait_until,
};

use crate::TANDEM;

/// The address is that of the sender, also where the standby passed the message on; what a sender says of itself is not.
#[test]
fn a_message_keeps_its_senders_address_whichever_node_took_it() {
    let mut pair = TANDEM.pair().start();
    pair.main.deploy(&Solution::probe());
    let forged = "10.9.9.9 1795445777712 \
                  0000000000000000000000000000000000000000000000000000000000000000";
    let send = |side, from: &str| {
        let request = Request::post("/hooks/probe/in", "{}")
            .header("tandem-client", forged)
            .header("x-forwarded-for", "10.8.8.8");
        let receipt = request
            .send_from(from.parse().unwrap(), pair.node(side).address)
            .unwrap()
            .expect(202)
            .json();
        receipt["id"].as_str().unwrap().to_owned()
    };
    // Each end of the loopback network is an address of its own.
    for (side, from) in [(Side::Main, "127.0.0.7"), (Side::Failover, "127.0.0.8")] {
        let id = send(side, from);
        let message = pair.main.message(&id);
        assert_eq!(message["client"], from, "{message}");
        assert_eq!(
            message["headers"],
            json!([["x-forwarded-for", "10.8.8.8"], ["tandem-client", from]]),
            "what a sender says of itself is the solution's to believe, and only under another name"
        );
        let told = pair.main.tandem(&["messages", "show", &id]).expect(0);
        assert!(told.out.contains(&format!("client        {from}\n")), "{told}");
    }
    // It is the same after a takeover.
    let id = send(Side::Failover, "127.0.0.9");
    pair.main.kill9();
    pair.wait_primary(Side::Failover);
    // It shows a moment later, with the epoch's beginning.
    let path = format!("messages/{id}");
    let shown = wait_for("the message shows", || {
        let answer = pair.failover.call("GET", &path, None);
        (answer.status != 404).then(|| answer.expect(200).json())
    });
    assert_eq!(shown["client"], "127.0.0.9");
}

/// The script that the documentation shows.
fn documented_script() -> String {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/pair.md")).unwrap();
    let mut blocks = page.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    blocks.find(|block| block.contains("on_promote = [")).unwrap().to_owned()
}

/// Three machines on one wire: network namespaces joined by a bridge in a fourth. They go when this goes.
struct Machines {
    name: String,
}

impl Machines {
    /// `10.0.0.1` and `10.0.0.2` for the nodes, `10.0.0.3` for a sender; none if this machine does not allow it.
    fn new() -> Result<Self, String> {
        // Named by this process, as tests run beside each other.
        let machines = Self { name: format!("tandem{}", std::process::id()) };
        let [net, a, b, c] = ["net", "a", "b", "c"].map(|end| machines.namespace(end));
        for namespace in [&net, &a, &b, &c] {
            ip(&["netns", "add", namespace])?;
        }
        ip(&["-n", &net, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &net, "link", "set", "br0", "up"])?;
        for (port, (namespace, address)) in
            [(&a, "10.0.0.1/24"), (&b, "10.0.0.2/24"), (&c, "10.0.0.3/24")].iter().enumerate()
        {
            let port = format!("port{port}");
            let veth = ["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns"];
            ip(&[&["-n", &net], &veth[..], &[namespace.as_str()]].concat())?;
            ip(&["-n", &net, "link", "set", &port, "master", "br0", "up"])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
            ip(&["-n", namespace, "link", "set", "eth0", "up"])?;
            ip(&["-n", namespace, "addr", "add", address, "dev", "eth0"])?;
        }
        Ok(machines)
    }

    fn namespace(&self, end: &str) -> String {
        format!("{}{end}", self.name)
    }

    /// A `tandem` command on that machine.
    fn command(&self, end: &str, folder: &Path) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace(end), TANDEM.0])
            .env_remove("TANDEM_NODE")
            .env_remove("TANDEM_LOG")
            .current_dir(folder)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, end: &str, folder: &Path, arguments: &[&str]) -> Told {
        finish(self.command(end, folder).args(arguments))
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for end in ["net", "a", "b", "c"] {
            ip(&["netns", "del", &self.namespace(end)]).ok();
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let done = Command::new("ip").args(arguments).stdin(Stdio::null()).output();
    let done = done.map_err(|error| format!("`ip` cannot be run: {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr)))
}

/// A node on a machine of its own; killed when this goes.
struct Machine {
    end: &'static str,
    folder: tempfile::TempDir,
    process: Option<Child>,
}

impl Machine {
    fn new(end: &'static str, own: &str, other: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("address");
        fs::write(&script, documented_script()).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let (script, is_main) = (script.display(), end == "a");
        let config = format!(
            "listen = \"0.0.0.0:7400\"\n[pair]\nlisten = \"{own}:7401\"\npeer = [\"{other}:7401\"]\nmain = {is_main}\n\
             interval = \"500ms\"\nretries = 5\nfailback = \"manual\"\n\
             on_promote = [\"{script}\", \"add\"]\non_demote = [\"{script}\", \"del\"]\n"
        );
        fs::write(folder.path().join("tandem.toml"), config).unwrap();
        Self { end, folder, process: None }
    }

    fn launch(&mut self, machines: &Machines) {
        let log = fs::File::create(self.log()).unwrap();
        let mut command = machines.command(self.end, self.folder.path());
        command.args(["run", "--data-dir", "data", "--stop-with-stdin"]).stdin(Stdio::piped());
        self.process = Some(command.stderr(log).spawn().unwrap());
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("node.log")
    }

    fn kill9(&mut self) {
        tandem_tests::program::kill9(self.process.take().unwrap());
    }
}

impl Drop for Machine {
    #[expect(clippy::print_stderr, reason = "a failing test shows it")]
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill().ok();
            process.wait().ok();
        }
        if std::thread::panicking() {
            eprintln!("-- {}\n{}", self.end, fs::read_to_string(self.log()).unwrap_or_default());
        }
    }
}

/// An address moves with the role, by the script that is documented: senders know one address, and it answers again after
/// the node that had it was killed, although that machine still has it.
#[test]
fn an_address_moves_to_the_node_that_takes_over() {
    let machines = match Machines::new() {
        Ok(machines) => machines,
        Err(why) => {
            eprintln!(
                "NOT TESTED: a moving address, because namespaces cannot be made here: {why}"
            );
            return;
        }
    };
    let mut main = Machine::new("a", "10.0.0.1", "10.0.0.2");
    let mut failover = Machine::new("b", "10.0.0.2", "10.0.0.1");
    let sender = tempfile::tempdir().unwrap();
    let status = |address: &str| -> Option<Value> {
        let node = format!("http://{address}:7400");
        let told = machines.run("c", sender.path(), &["pair", "status", "--node", &node, "--json"]);
        (told.code == Some(0)).then(|| told.json())
    };
    main.launch(&machines);
    wait_until("the main server is primary", || {
        status("10.0.0.1").is_some_and(|status| status["role"] == "primary")
    });
    let invite = ["pair", "invite", "--data-dir", "data", "--json"];
    let code = machines.run("a", main.folder.path(), &invite).expect(0).json();
    let join = ["pair", "join", code["code"].as_str().unwrap(), "--data-dir", "data"];
    machines.run("b", failover.folder.path(), &join).expect(0);
    failover.launch(&machines);
    wait_until("both are in sync", || {
        status("10.0.0.9").is_some_and(|status| status["sync"] == "both")
    });

    let solution = tempfile::tempdir().unwrap();
    Solution::lean().write_to(solution.path());
    let path = solution.path().to_str().unwrap();
    let virtual_node = ["--node", "http://10.0.0.9:7400"];
    machines
        .run("c", sender.path(), &[&["deploy", path, "--wait-standby"][..], &virtual_node].concat())
        .expect(0);
    let send = |body: &str| {
        let send = ["send", "lean", "in", "--body", body, "--key", body, "--json"];
        let told = machines.run("c", sender.path(), &[&send[..], &virtual_node].concat());
        (told.code == Some(0)).then(|| told.json())
    };
    let before: Vec<_> = (0..5).map(|n| send(&format!("before {n}")).unwrap()).collect();
    main.kill9();
    let began = Instant::now();
    let mut after = Vec::new();
    for n in 0.. {
        after.extend(send(&format!("after {n}")));
        if after.len() == 5 {
            break;
        }
        assert!(began.elapsed() < DEADLINE, "the address does not answer: {after:?}");
    }
    eprintln!(
        "the address answered from the other node, and five times, after {:?}",
        began.elapsed()
    );
    let epoch = before[0]["epoch"].as_u64().unwrap();
    assert!(before.iter().all(|receipt| receipt["epoch"] == epoch), "{before:?}");
    assert!(after.iter().all(|receipt| receipt["epoch"] == epoch + 1), "{after:?}");
    let status = status("10.0.0.9").unwrap();
    assert_eq!((&status["role"], &status["is_main"]), (&json!("primary"), &json!(false)));
    // Nothing with a receipt is lost, and each message has its sender's address.
    for receipt in before.iter().chain(&after) {
        let show = ["messages", "show", receipt["id"].as_str().unwrap(), "--json"];
        let told = machines.run("c", sender.path(), &[&show[..], &virtual_node].concat());
        assert_eq!(told.expect(0).json()["client"], "10.0.0.3");
    }
}
