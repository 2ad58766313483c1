//! Another program and this one in every pairing: one node after the other is stopped and started with the other
//! program, roles change in between, processes are killed, and back again; all that while senders send.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::fs::symlink,
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
    let built = if Path::new(from).is_file() { PathBuf::from(from) } else { build(from)? };
    let other = folder.join("tandem-other");
    fs::copy(built, &other)?;
    Ok(other)
}

/// Builds a revision as this program was built, from a copy of what it was, in the folder `other` of the target folder.
fn build(revision: &str) -> Outcome<PathBuf> {
    let commit = git(&["rev-parse", "--verify", "--quiet", &format!("{revision}^{{commit}}")])?;
    let own = std::env::current_exe()?;
    let profile = own.parent().and_then(Path::file_name).ok_or("this program is nowhere")?;
    let target = own.ancestors().nth(2).ok_or("this program is in no target folder")?;
    let other = target.join("other");
    let (tree, built) = (other.join("tree"), other.join(profile));
    fs::create_dir_all(&built)?;
    // One at a time; the next one finds what this one built.
    let lock = File::create(other.join("lock"))?;
    lock.lock()?;
    let (program, of) = (built.join("tandem-under-test"), built.join("commit"));
    if program.is_file() && fs::read_to_string(&of).is_ok_and(|of| of == commit) {
        return Ok(program);
    }
    share(target, &other, profile)?;
    fs::remove_dir_all(&tree).ok();
    fs::create_dir(&tree)?;
    // As of now, so that nothing of another revision passes for it.
    let script = "git -C \"$1\" archive \"$2\" | tar --extract --touch --directory \"$3\"";
    let mut unpack = Command::new("sh");
    unpack.args(["-c", script, "sh"]).arg(root()).arg(&commit).arg(&tree);
    if !unpack.status()?.success() {
        return Err(format!("{revision} cannot be unpacked").into());
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&tree).arg("build").arg("--target-dir").arg(&other);
    cargo.args(["--locked", "--quiet", "-p", "tandem-tests", "--bin", "tandem-under-test"]);
    if profile == "release" {
        cargo.arg("--release");
    }
    if !cargo.stdin(Stdio::null()).stdout(Stdio::null()).status()?.success() {
        return Err(format!("{revision} does not build").into());
    }
    fs::write(of, commit)?;
    Ok(program)
}

/// What both depend on is not built twice: only what is made of it, programs and components, is in a folder of its own.
fn share(target: &Path, other: &Path, profile: &OsStr) -> Outcome<()> {
    for part in ["deps", "build", ".fingerprint"] {
        let link = other.join(profile).join(part);
        if !link.exists() {
            symlink(target.join(profile).join(part), link)?;
        }
    }
    // By it a build script knows the target folder.
    Ok(fs::write(other.join("CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n")?)
}

/// The repository that this program was built from.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// Whether there is such a program or revision here, as there is not in a shallow clone.
pub fn is_there(from: &str) -> bool {
    let commit = format!("{from}^{{commit}}");
    Path::new(from).is_file() || git(&["rev-parse", "--verify", "--quiet", &commit]).is_ok()
}

fn git(words: &[&str]) -> Outcome<String> {
    let done = Command::new("git").arg("-C").arg(root()).args(words).output()?;
    if done.status.success() {
        return Ok(String::from_utf8(done.stdout)?.trim().to_owned());
    }
    let why = String::from_utf8_lossy(&done.stderr);
    Err(format!("git {}: {}", words.join(" "), why.trim()).into())
}
