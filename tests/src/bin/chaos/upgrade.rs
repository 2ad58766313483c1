//! Another program and this one in every pairing: one node after the other is stopped and started with the other
//! program, roles change in between, processes are killed, and back again; all that while senders send.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rand::Rng;
use tandem_tests::{Program, Request, Side};

use crate::{
    Outcome,
    cluster::Cluster,
    faults::Dice,
    history::Episode,
    lock,
    run::{self, BOUND},
    senders,
};

/// For what is sent while programs are paired so.
const TOGETHER: Duration = Duration::from_millis(1_500);

/// The programs, and what to call them.
#[derive(Debug, Clone, Copy)]
pub struct Programs {
    pub other: Program,
    pub this: Program,
}

/// All pairings, up and down, again and again for so long; at least once.
pub fn rounds(
    cluster: &mut Cluster,
    dice: &mut Dice,
    programs: Programs,
    time: Duration,
) -> Outcome<()> {
    let until = Instant::now() + time;
    loop {
        for (name, program) in [("this", programs.this), ("the other", programs.other)] {
            roll(cluster, dice, name, program)?;
        }
        if Instant::now() >= until {
            return Ok(());
        }
    }
}

/// Both nodes, and the witness between them, become this program; the standby first.
fn roll(cluster: &mut Cluster, dice: &mut Dice, name: &str, program: Program) -> Outcome<()> {
    let first = cluster.primary().map_or(Side::Failover, Side::other);
    become_program(cluster, first, name, program)?;
    // Old and new with each primary: the first to change is standby, then primary.
    maybe_kill(cluster, dice)?;
    if cluster.primary() != Some(first) {
        switch_over(cluster)?;
    }
    maybe_kill(cluster, dice)?;
    if let Some(witness) = &mut cluster.witness {
        witness.kill9();
        witness.becomes(program);
        witness.run();
        cluster.history.tell(&format!("the witness is {name} program"));
    }
    become_program(cluster, first.other(), name, program)?;
    maybe_kill(cluster, dice)
}

fn become_program(cluster: &mut Cluster, side: Side, name: &str, program: Program) -> Outcome<()> {
    timed(cluster, "upgrade", |cluster| {
        cluster.stop(side);
        cluster.node_mut(side).under.becomes(program);
        cluster.spawn(side);
        cluster.history.tell(&format!("{side:?} is {name} program"));
        run::whole(cluster)
    })?;
    cluster.pass(TOGETHER);
    Ok(())
}

fn switch_over(cluster: &mut Cluster) -> Outcome<()> {
    let from = cluster.primary().ok_or("nobody is primary")?;
    timed(cluster, "switchover", |cluster| {
        let target = senders::targets()[from as usize];
        let answer = Request::post("/api/v1/pair/switchover", "").send(target)?;
        cluster.history.tell(&format!("switchover: {}", answer.status));
        if answer.status != 200 {
            cluster.history.violation(format!("roles cannot be exchanged: {answer}"));
        }
        run::whole(cluster)
    })?;
    cluster.pass(TOGETHER);
    Ok(())
}

/// One or the other, or none.
fn maybe_kill(cluster: &mut Cluster, dice: &mut Dice) -> Outcome<()> {
    let side = match dice.random.random_range(0..3) {
        0 => Side::Main,
        1 => Side::Failover,
        _ => return Ok(()),
    };
    timed(cluster, "kill", |cluster| {
        cluster.history.tell(&format!("kill: {side:?}"));
        cluster.kill(side);
        cluster.pass(TOGETHER);
        cluster.spawn(side);
        cluster.wait_whole(BOUND).map(drop)
    })
}

fn timed(
    cluster: &mut Cluster,
    fault: &'static str,
    act: impl FnOnce(&mut Cluster) -> Outcome<()>,
) -> Outcome<()> {
    let began = Instant::now();
    act(cluster)?;
    let episode = Episode { fault, began, healed: Instant::now() };
    lock(&cluster.history.seen).episodes.push(episode);
    Ok(())
}

/// The other program: a file, or what a revision of this repository builds to, copied into `folder`.
pub fn program(from: &str, folder: &Path) -> Outcome<PathBuf> {
    if Path::new(from).is_file() {
        return Ok(std::path::absolute(from)?);
    }
    let tree = folder.join("tree");
    let path = tree.display().to_string();
    let root = root();
    git(&root, &["worktree", "add", "--detach", &path, from])?;
    let built = build(&root, &tree, folder);
    git(&root, &["worktree", "remove", "--force", &path])?;
    built
}

/// In this program's target folder, so that what both depend on is not built twice; and as this one was built.
fn build(root: &Path, tree: &Path, folder: &Path) -> Outcome<PathBuf> {
    let own = std::env::current_exe()?;
    let built = own.parent().ok_or("this program is nowhere")?;
    let target = built.parent().ok_or("this program is in no target folder")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(tree).args(["build", "--locked", "-p", "tandem-tests", "--bin", "tandem-under-test"]);
    if built.file_name().is_some_and(|name| name == "release") {
        cargo.arg("--release");
    }
    let status = cargo
        .env("CARGO_TARGET_DIR", target)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        return Err("the other revision does not build".into());
    }
    let other = folder.join("tandem-other");
    std::fs::copy(built.join("tandem-under-test"), &other)?;
    // What stands there now is the other's: whoever builds here next puts its own there.
    std::fs::remove_file(built.join("tandem-under-test"))?;
    let _ = root;
    Ok(other)
}

/// The repository that this program was built from.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// Whether there is such a revision here, as there is not in a shallow clone.
pub fn is_there(from: &str) -> bool {
    let commit = format!("{from}^{{commit}}");
    Path::new(from).is_file() || git(&root(), &["rev-parse", "--verify", "--quiet", &commit]).is_ok()
}

fn git(root: &Path, words: &[&str]) -> Outcome<()> {
    let done = Command::new("git").arg("-C").arg(root).args(words).output()?;
    match done.status.success() {
        true => Ok(()),
        false => {
            let why = String::from_utf8_lossy(&done.stderr);
            Err(format!("git {}: {}", words.join(" "), why.trim()).into())
        }
    }
}
