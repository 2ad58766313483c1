//! A node's disk: a file system of its own, in a file, that can be full or hang.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{Outcome, hosts::Host};

/// Takes as much of the real disk as is written.
const SIZE: u64 = 4 << 30;
/// Where there are no loop devices: memory.
const SIZE_IN_MEMORY: u64 = 512 << 20;

#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    /// It can hang; one in memory cannot.
    pub can_hang: bool,
}

impl Disk {
    /// Mounts one at `folder/data` of a machine, for this machine only.
    pub fn mount(host: &Host, folder: &Path) -> Outcome<Self> {
        let (image, data) = (folder.join("disk.img"), folder.join("data"));
        std::fs::create_dir(&data)?;
        let mounted = file_system(&image).and_then(|()| {
            host.run(&["mount", "-o", "loop", &text(&image), &text(&data)])?;
            host.run(&["rmdir", &text(&data.join("lost+found"))])
        });
        if mounted.is_err() {
            let size = format!("size={SIZE_IN_MEMORY}");
            host.run(&["mount", "-t", "tmpfs", "-o", &size, "tmpfs", &text(&data)])?;
        }
        Ok(Self { folder: data, can_hang: mounted.is_ok() })
    }

    /// Leaves so many bytes free.
    pub fn fill(&self, host: &Host, leave: u64) -> Outcome<()> {
        let stat = rustix::fs::statvfs(host.path(&self.folder))?;
        let free = (stat.f_bavail * stat.f_frsize).saturating_sub(leave);
        let (length, file) = (free.max(1).to_string(), self.filler());
        // On a disk in use the last bytes may be gone by then: as full as it gets is full.
        host.run(&["fallocate", "-l", &length, &file]).or_else(|_| {
            let half = (free / 2).max(1).to_string();
            host.run(&["fallocate", "-l", &half, &file])
        })
    }

    pub fn free(&self, host: &Host) -> Outcome<()> {
        host.run(&["rm", "-f", &self.filler()])
    }

    fn filler(&self) -> String {
        text(&self.folder.join("filler"))
    }

    /// Writes nothing for `hang`, works for `work`, so many times. It goes on by itself, whatever becomes of this
    /// program: processes that wait for a disk cannot even be killed.
    pub fn hang(&self, host: &Host, hang: Duration, work: Duration, times: u32) -> Outcome<Child> {
        let script = "for i in $(seq $4); do fsfreeze -f $1 && { sleep $2; fsfreeze -u $1; sleep $3; }; done";
        let seconds = |time: Duration| format!("{:.3}", time.as_secs_f64());
        let (folder, hang, work) = (text(&self.folder), seconds(hang), seconds(work));
        let words = ["sh", "-c", script, "sh", &folder, &hang, &work, &times.to_string()];
        Ok(host.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }
}

fn file_system(image: &Path) -> Outcome<()> {
    std::fs::File::create(image)?.set_len(SIZE)?;
    let done = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1"])
        .arg(image)
        .output()?;
    if done.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&done.stderr).into_owned().into())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
