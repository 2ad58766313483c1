//! The file in which a process that listens says where: for scripts, and where port 0 took any free one.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

const NAME: &str = "listen";

/// Writes the address into the folder `dir` and gives the file.
pub fn write(dir: &Path, address: SocketAddr) -> io::Result<PathBuf> {
    let file = dir.join(NAME);
    let temporary = dir.join("listen.tmp");
    // Renamed into place, so that who waits for it reads all of it.
    std::fs::write(&temporary, format!("{address}\n"))?;
    std::fs::rename(&temporary, &file)?;
    Ok(file)
}
