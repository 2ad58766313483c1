//! Debian's PostgreSQL as it comes, with a folder and a socket of its own.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::{
    Outcome,
    process::{Process, run, wait_for_start},
};

const NEEDED: &str = "PostgreSQL is needed: apt-get install postgresql (--install)";

pub struct Postgres {
    process: Process,
    folder: TempDir,
}

impl Postgres {
    pub fn start() -> Outcome<Self> {
        let programs = programs()?;
        let user = User::find()?;
        let folder = tempfile::tempdir()?;
        user.own(folder.path())?;
        let data = folder.path().join("data");
        let mut initdb = user.command(&programs.join("initdb"));
        initdb.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]);
        run(initdb.arg("--pgdata").arg(&data))?;
        let mut server = user.command(&programs.join("postgres"));
        server.args(["-c", "listen_addresses=", "-c", "synchronous_commit=on"]);
        server.arg("-k").arg(folder.path()).arg("-D").arg(&data).stderr(Stdio::null());
        let process = Process::spawn(&mut server)?;
        wait_for_start("PostgreSQL", || {
            let mut ready = Command::new(programs.join("pg_isready"));
            Ok(ready.arg("-q").arg("-h").arg(folder.path()).status()?.success())
        })?;
        Ok(Self { process, folder })
    }

    /// Tells a client where it is and whom it serves.
    pub fn tell(&self, client: &mut Command) {
        client.env("PGHOST", self.folder.path());
        client.env("PGUSER", "postgres").env("PGDATABASE", "postgres");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Killed outright it would leave the processes of its connections for a while.
        if let Some(pid) = i32::try_from(self.process.0.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::QUIT).ok();
            self.process.0.wait().ok();
        }
    }
}

/// The newest of those that Debian installs.
fn programs() -> Outcome<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").map_err(|_| NEEDED)?;
    let versions = versions.flatten().map(|version| version.path());
    let version = versions
        .filter(|path| path.join("bin/postgres").exists())
        .max_by_key(|path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()));
    Ok(version.ok_or(NEEDED)?.join("bin"))
}

/// Who runs it: not root, which it refuses.
enum User {
    Me,
    Other { uid: u32, gid: u32 },
}

impl User {
    fn find() -> Outcome<Self> {
        if !geteuid().is_root() {
            return Ok(Self::Me);
        }
        let id = |what| -> Outcome<u32> {
            let id = run(Command::new("id").args([what, "postgres"]));
            Ok(id.map_err(|error| format!("{error}; {NEEDED}"))?.parse()?)
        };
        Ok(Self::Other { uid: id("-u")?, gid: id("-g")? })
    }

    fn own(&self, folder: &Path) -> Outcome<()> {
        match *self {
            Self::Me => Ok(()),
            Self::Other { uid, gid } => Ok(chown(folder, Some(uid), Some(gid))?),
        }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/");
        if let Self::Other { uid, gid } = *self {
            command.uid(uid).gid(gid);
        }
        command
    }
}
