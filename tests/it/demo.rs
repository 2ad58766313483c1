//! `tandem demo`: what a newcomer sees first holds what it says, and leaves nothing behind.

use std::{fs, path::Path, process::Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tandem_tests::{
    program::{finish_slowly, wait_for_end},
    wait::wait_until,
};

use crate::TANDEM;

#[test]
fn the_proof_holds() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = TANDEM.command(folder.path());
    command.env("TMPDIR", folder.path()).args(["demo", "--json", "--rate", "20"]);
    // It has deadlines of its own.
    let told = finish_slowly(&mut command).expect(0);
    let story = told.json();
    let proof = &story["proof"];
    assert_eq!(proof["holds"], true, "{told}");
    assert!(proof["sent"].as_u64().unwrap() > 100, "{told}");
    assert_eq!(proof["sent"], proof["receipts"], "{told}");
    assert_eq!(proof["leads"]["receipts"], proof["leads"]["delivered_once"], "{told}");
    assert!(proof["on_two_disks"].as_u64().unwrap() > 0, "{told}");
    assert!(proof["on_one_disk"].as_u64().unwrap() > 0, "the failover server acted alone: {told}");
    assert!(story["takeover"]["epoch"].as_u64() < story["hand_back"]["epoch"].as_u64(), "{told}");
    assert!(told.err.contains("kill -9"), "{told}");
    assert_eq!(left(folder.path()), 0);
}

#[test]
fn ctrl_c_ends_it_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = TANDEM.command(folder.path());
    command.env("TMPDIR", folder.path()).arg("demo");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut demo = command.spawn().unwrap();
    let is_there = |name: &str| {
        let demo = fs::read_dir(folder.path()).unwrap().next();
        demo.is_some_and(|demo| demo.unwrap().path().join(name).exists())
    };
    wait_until("the failover server listens", || is_there("failover/listen"));
    let pid = Pid::from_child(&demo);
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(wait_for_end(&mut demo), Some(1));
    assert_eq!(left(folder.path()), 0);
    assert_eq!(processes_in(folder.path()), Vec::<String>::new());
}

fn left(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

/// Command lines of those whose arguments are below a folder.
fn processes_in(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap();
    let line = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("cmdline")).ok();
    processes.filter_map(|entry| line(entry.ok()?)).filter(|line| line.contains(folder)).collect()
}
