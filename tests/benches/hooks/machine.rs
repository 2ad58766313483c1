//! The machine that is measured, and what Debian has for it.

use std::{env, fs, process::Command, thread};

use crate::{Outcome, process::run};

/// In one line: figures of different machines, or of a busy one, are not to be compared.
pub fn describe() -> Outcome<String> {
    let date = run(Command::new("date").arg("+%F"))?;
    let cores = thread::available_parallelism()?;
    let cpu = value("/proc/cpuinfo", "model name")?;
    let memory = value("/proc/meminfo", "MemTotal")?;
    let memory: u64 = memory.trim_end_matches(" kB").parse()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let folder = env::temp_dir();
    let disk = run(Command::new("findmnt").args(["-no", "FSTYPE", "-T"]).arg(&folder))?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default();
    Ok(format!(
        "{date}; {cores} cores of {cpu}; {} GiB; Linux {}; {} on {disk}; load {load} at the start",
        memory.div_ceil(1024 * 1024),
        kernel.trim(),
        folder.display(),
    ))
}

fn value(file: &str, name: &str) -> Outcome<String> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim());
    Ok(value.ok_or_else(|| format!("{file} has no `{name}`"))?.to_owned())
}

/// What the peers need of the system.
pub fn install() -> Outcome<()> {
    run(Command::new("apt-get").arg("update"))?;
    run(Command::new("apt-get").args(["install", "-y", "npm", "postgresql"]))?;
    Ok(())
}
