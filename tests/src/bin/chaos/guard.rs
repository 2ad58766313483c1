//! What is left to do when this program is gone, however it ended: a shell that waits for that.

use std::{
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::Outcome;

/// Processes of this folder that were stopped (SIGSTOP) go on, see that nobody holds them any more, and end; then the folder
/// goes, unless it is to be kept. A signal of a terminal is for this program alone.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
while read -r word; do kept=$word; done
own() {
    for process in /proc/[0-9]*; do
        case $(readlink "$process/cwd" 2>/dev/null) in "$1"/*) echo "${process#/proc/}" ;; esac
    done
}
for i in $(seq 100); do
    pids=$(own "$1")
    [ -n "$pids" ] || break
    kill -CONT $pids 2>/dev/null
    [ "$i" -lt 90 ] || kill -KILL $pids 2>/dev/null
    sleep 0.3
done
[ -n "$kept" ] || rm -rf "$1"
"#;

#[derive(Debug)]
pub struct Guard(Child);

impl Guard {
    pub fn of(folder: &Path) -> Outcome<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT, "sh"]).arg(folder).stdin(Stdio::piped());
        Ok(Self(shell.spawn()?))
    }

    /// The folder is to stay, as somebody will want to look.
    pub fn keep(&mut self) {
        if let Some(to) = &mut self.0.stdin {
            writeln!(to, "keep").ok();
        }
    }
}
