//! Four machines on one wire: network namespaces, each with an Ethernet device whose other end is the switch of this
//! program. Nothing of it has a name outside this program, and all of it goes with this program, however it ends.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use rustix::{
    ioctl::{Updater, ioctl, opcode},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::Outcome;

/// Which machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Main,
    Failover,
    Witness,
    /// Senders and receivers.
    Outside,
}

impl At {
    pub const ALL: [Self; 4] = [Self::Main, Self::Failover, Self::Witness, Self::Outside];

    pub fn address(self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::from([10, 77, 0, self as u8 + 1]), port)
    }

    /// Of its Ethernet device.
    pub fn mac(self) -> [u8; 6] {
        [2, 0, 0, 0, 0, self as u8 + 1]
    }
}

/// A machine. A process that does nothing keeps its namespaces, and ends when this program does.
#[derive(Debug)]
pub struct Host {
    at: At,
    keeper: Child,
    network: File,
}

impl Host {
    /// With the switch's end of its device.
    pub fn new(at: At) -> Outcome<(Self, File)> {
        let mut keeper = Command::new("unshare")
            .args(["--net", "--mount", "--propagation", "private", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("`unshare` cannot be run: {error}"))?;
        // When it answers, it is where it is to be.
        let asked = keeper.stdin.as_mut().map(|to| to.write_all(b"ready\n"));
        let answer = keeper.stdout.as_mut().map(|from| BufReader::new(from).lines().next());
        if !matches!((asked, answer), (Some(Ok(())), Some(Some(Ok(_))))) {
            keeper.wait().ok();
            return Err("`unshare` may not make namespaces (it needs root)".into());
        }
        let network = File::open(format!("/proc/{}/ns/net", keeper.id()))?;
        let host = Self { at, keeper, network };
        let device = host.inside(|| -> Outcome<File> {
            fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").ok();
            device()
        })?;
        let mac = at.mac().map(|byte| format!("{byte:02x}")).join(":");
        let address = format!("{}/24", at.address(0).ip());
        for words in [
            &["link", "set", "lo", "up"][..],
            &["link", "set", "eth0", "address", &mac],
            &["addr", "add", &address, "dev", "eth0"],
            &["link", "set", "eth0", "up"],
        ] {
            host.run(&[&["ip"], words].concat())?;
        }
        Ok((host, device))
    }

    fn words(&self) -> [String; 5] {
        let keeper = self.keeper.id().to_string();
        ["nsenter", "--target", &keeper, "--net", "--mount"].map(str::to_owned)
    }

    /// What to put before a command, so that it is run on this machine and in this folder.
    pub fn words_in(&self, folder: &Path) -> Vec<String> {
        let folder = format!("--chdir={}", folder.display());
        self.words().into_iter().chain(["env".into(), folder]).collect()
    }

    /// A command on this machine, in the folder `/`.
    pub fn command(&self, words: &[&str]) -> Command {
        let (own, mut command) = (self.words(), Command::new("nsenter"));
        command.args(&own[1..]).args(words).stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, words: &[&str]) -> Outcome<()> {
        let done = self.command(words).output()?;
        if done.status.success() {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&done.stderr);
        Err(format!("{} on {:?}: {}", words.join(" "), self.at, why.trim()).into())
    }

    /// The calling thread's sockets are this machine's from now on.
    pub fn enter(&self) -> io::Result<()> {
        let network = Some(LinkNameSpaceType::Network);
        Ok(move_into_link_name_space(self.network.as_fd(), network)?)
    }

    /// Does it with this machine's sockets.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter().expect("who may make namespaces may enter them");
                act()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A file as this machine sees it.
    pub fn path(&self, path: &Path) -> std::path::PathBuf {
        let root = Path::new("/proc").join(self.keeper.id().to_string()).join("root");
        root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        self.keeper.wait().ok();
    }
}

/// As the system wants it: a name and flags.
#[repr(C)]
struct DeviceRequest {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// Ethernet frames, without anything before them (`IFF_TAP`, `IFF_NO_PI`).
const FRAMES: u16 = 0x0002 | 0x1000;
/// `TUNSETIFF`
const SET_DEVICE: u32 = opcode::write::<u32>(b'T', 202);

/// Makes `eth0` where the calling thread is: what is read is what the machine sends, and the other way round.
fn device() -> Outcome<File> {
    let file = File::options().read(true).write(true).open("/dev/net/tun");
    let file = file.map_err(|error| format!("there is no /dev/net/tun: {error}"))?;
    let mut request = DeviceRequest { name: [0; 16], flags: FRAMES, rest: [0; 22] };
    request.name[..4].copy_from_slice(b"eth0");
    #[expect(unsafe_code, reason = "this request has no wrapper")]
    // SAFETY: the request reads and writes one `struct ifreq`, which is 40 bytes and laid out as above.
    let made = unsafe { ioctl(&file, Updater::<SET_DEVICE, _>::new(&mut request)) };
    made.map_err(|error| format!("no Ethernet device can be made: {error}"))?;
    Ok(file)
}
