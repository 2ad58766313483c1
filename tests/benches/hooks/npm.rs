//! The peers that come from npm, and the Node.js that runs them: a folder below `target`, installed when first asked for.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Outcome, process::run};

const PACKAGES: &str = include_str!("npm/package.json");
const FILES: [(&str, &str); 3] = [
    ("package.json", PACKAGES),
    ("hook.mjs", include_str!("npm/hook.mjs")),
    ("worker.mjs", include_str!("npm/worker.mjs")),
];

/// Node.js in the folder, to be told what to run.
pub fn node() -> Outcome<Command> {
    let folder = folder()?;
    let mut command = Command::new(folder.join("node_modules/node/bin/node"));
    command.env("NODE_ENV", "production").current_dir(folder);
    Ok(command)
}

/// Where the packages are and the files that use them.
fn folder() -> Outcome<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers");
    fs::create_dir_all(&folder)?;
    for (name, text) in FILES {
        fs::write(folder.join(name), text)?;
    }
    let installed = folder.join("installed");
    if fs::read_to_string(&installed).ok().as_deref() != Some(PACKAGES) {
        eprintln!("npm installs Node-RED and graphile-worker in {}", folder.display());
        let mut npm = Command::new("npm");
        run(npm.args(["install", "--no-audit", "--no-fund"]).current_dir(&folder))
            .map_err(|error| format!("{error}; npm is needed: apt-get install npm (--install)"))?;
        fs::write(installed, PACKAGES)?;
    }
    Ok(folder)
}
