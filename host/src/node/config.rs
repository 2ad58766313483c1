//! `tandem.toml`: what a node is told, with every default.
//!
//! Values only; each stage has its own configuration, which `node` makes from this.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    num::NonZero,
    ops::Range,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crate::{
    contract::toml_reader::{Document, Faults, Table},
    model::limits,
};

mod pair;

pub use pair::{Failback, Mode, Pair, WithoutWitness, Witness, read_endpoint};

/// The file that is read if it is there and no other is named.
pub const FILE: &str = "tandem.toml";

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
const AT_ONCE_MAX: u64 = 65_536;
/// Whatever a source may accept has to find room.
const IN_FLIGHT: Range<u64> = limits::BODY_BYTES_MAX..TIB;
const TIMEOUT: Range<Duration> = Duration::from_millis(100)..Duration::from_hours(1);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the node keeps everything; relative to the working directory.
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    pub store: Store,
    pub runtime: Runtime,
    pub ingress: Ingress,
    pub delivery: Delivery,
    pub pair: Option<Pair>,
    pub log: Log,
}

/// `[store]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Memory for pages of the store's file, in bytes.
    pub cache: u64,
    /// Finished messages among the live ones, in bytes; beyond it the oldest move into the archive.
    pub live: u64,
    /// Free space on the disk below which new messages are refused, in bytes.
    pub reserve: u64,
}

/// `[runtime]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// Threads that run components.
    pub threads: usize,
    /// Instances of components at once.
    pub instances: usize,
}

/// `[ingress]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingress {
    /// Connections at once; further ones wait to be accepted.
    pub max_connections: usize,
    /// Bodies that are being received or wait to be kept, together, in bytes; beyond it senders get 503.
    pub in_flight: u64,
    /// From a request's first byte (or from connecting) to the end of its head.
    pub header_timeout: Duration,
    /// From the end of a message's head to the end of its body.
    pub body_timeout: Duration,
    /// How long a connection may stay open without a request.
    pub idle_timeout: Duration,
}

/// `[delivery]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Requests at once.
    pub concurrency: usize,
    /// Requests at once to one origin; never more than `concurrency`.
    pub per_target: usize,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the configuration {} cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Wrong(Faults),
}

impl Default for Config {
    /// What holds where nothing is said.
    fn default() -> Self {
        Self::parse("").expect("nothing is required")
    }
}

impl Config {
    /// Reads the file at `path`; without one, [`FILE`] if there is one, else the defaults hold.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let named = path.unwrap_or(Path::new(FILE));
        match fs::read_to_string(named) {
            Ok(text) => Self::parse(&text)
                .map_err(|faults| ConfigError::Wrong(faults.in_file(named.display().to_string()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_none() => {
                Ok(Self::default())
            }
            Err(source) => Err(ConfigError::Read { path: named.to_owned(), source }),
        }
    }

    /// Reads a configuration. All of its faults come back at once, as of a file `tandem.toml`.
    pub fn parse(text: &str) -> Result<Self, Faults> {
        Document::parse(text)
            .and_then(|document| {
                let config = read_config(&document);
                document.finish(Some(config))
            })
            .map_err(|faults| faults.in_file(FILE))
    }
}

fn read_config(document: &Document<'_>) -> Config {
    let mut root = document.root();
    let data_dir = root.parsed("data_dir", r#""./tandem-data""#, read_path);
    let listen = root.parsed("listen", r#""127.0.0.1:7400""#, read_address);
    let config = Config {
        data_dir: data_dir.unwrap_or_else(|| "./tandem-data".into()),
        listen: listen.unwrap_or((Ipv4Addr::LOCALHOST, 7400).into()),
        store: read_store(root.table("store")),
        runtime: read_runtime(root.table("runtime")),
        ingress: read_ingress(root.table("ingress")),
        delivery: read_delivery(root.table("delivery")),
        pair: pair::read_pair(root.table("pair")),
        log: read_log(root.table("log")),
    };
    root.finish();
    config
}

fn read_path(text: &str) -> Result<PathBuf, &'static str> {
    if text.is_empty() { Err("a folder's path is not empty") } else { Ok(text.into()) }
}

fn read_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("`{text}` is no IP address with a port; write for example `127.0.0.1:7400` or `[::]:7400`")
    })
}

fn read_store(mut table: Table<'_>) -> Store {
    let store = Store {
        cache: table.size("cache", 64 * MIB, MIB..TIB),
        live: table.size("live", 128 * MIB, MIB..TIB),
        reserve: table.size("reserve", 256 * MIB, 0..TIB),
    };
    table.finish();
    store
}

fn read_runtime(mut table: Table<'_>) -> Runtime {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let runtime = Runtime {
        threads: count(&mut table, "threads", cores as u64, 1024),
        instances: count(&mut table, "instances", 64, 10_000),
    };
    table.finish();
    runtime
}

fn read_ingress(mut table: Table<'_>) -> Ingress {
    let ingress = Ingress {
        max_connections: count(&mut table, "max_connections", 4096, 1_000_000),
        in_flight: table.size("in_flight", 64 * MIB, IN_FLIGHT),
        header_timeout: table.duration("header_timeout", Duration::from_secs(30), TIMEOUT),
        body_timeout: table.duration("body_timeout", Duration::from_mins(1), TIMEOUT),
        idle_timeout: table.duration("idle_timeout", Duration::from_mins(5), TIMEOUT),
    };
    table.finish();
    ingress
}

fn read_delivery(mut table: Table<'_>) -> Delivery {
    let concurrency = count(&mut table, "concurrency", 256, AT_ONCE_MAX);
    let per_target = count(&mut table, "per_target", 32, AT_ONCE_MAX).min(concurrency);
    table.finish();
    Delivery { concurrency, per_target }
}

fn read_log(mut table: Table<'_>) -> Log {
    let levels =
        [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace]
            .map(|level| (level.word(), level));
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let log = Log {
        level: table.one_of("level", &levels).unwrap_or(LogLevel::Info),
        format: table.one_of("format", &formats).unwrap_or(LogFormat::Text),
    };
    table.finish();
    log
}

/// An integer from 1 to `most`.
fn count(table: &mut Table<'_>, key: &'static str, default: u64, most: u64) -> usize {
    usize::try_from(table.integer(key, default, 1..most)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::toml_reader::Problem;

    const DOCUMENTED: &str = include_str!("../../../docs/configuration.md");

    fn fails(text: &str) -> String {
        Config::parse(text).expect_err(text).to_string()
    }

    #[test]
    fn the_defaults_are_those_that_are_documented() {
        let example =
            DOCUMENTED.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
        let config = Config::parse(example.expect("it begins with an example")).unwrap();
        let runtime = Runtime { threads: config.runtime.threads, ..Config::default().runtime };
        assert_eq!(config, Config { runtime, ..Config::default() });
    }

    #[test]
    fn every_key_is_documented() {
        for table in ["", "store", "runtime", "ingress", "delivery", "pair", "log"] {
            let header = if table.is_empty() { String::new() } else { format!("[{table}]\n") };
            let faults = Config::parse(&format!("{header}xyzzy = 1")).unwrap_err();
            let valid = faults.list().iter().find_map(|fault| match &fault.problem {
                Problem::UnknownKey { valid, .. } => Some(valid),
                _ => None,
            });
            let valid = valid.unwrap_or_else(|| panic!("{faults}"));
            let heading = match table {
                "" => "## The node".to_owned(),
                table => format!("## `[{table}]`"),
            };
            let section = DOCUMENTED.split(&heading).nth(1).expect("each table has its section");
            let section = section.split("\n## ").next().unwrap_or_default();
            for key in valid {
                let row = format!("| `{key}` |");
                let is_table = DOCUMENTED.contains(&format!("## `[{key}]`"));
                assert!(section.contains(&row) || is_table, "[{table}] {key}");
            }
        }
    }

    #[expect(clippy::too_many_lines, reason = "there are many keys")]
    #[test]
    fn a_configuration_that_says_everything() {
        let config = Config::parse(
            r#"
data_dir = "/var/lib/tandem"
listen = "[::]:80"
[store]
cache = "1GiB"
live = "1MiB"
reserve = 0
[runtime]
threads = 3
instances = 10_000
[ingress]
max_connections = 1
in_flight = "16MiB"
header_timeout = "100ms"
body_timeout = "2s"
idle_timeout = "1h"
[delivery]
concurrency = 8
[pair]
listen = "10.0.0.1:7401"
peer = ["failover:7401", "[fd00::2]:7401"]
main = true
advertise = "main:80"
profile = "fast"
interval = "100ms"
retries = 3
mode = "strict"
witness = "witness:7402"
without_witness = "manual"
failback = "manual"
failback_hold = "0s"
copy_rate = "0B"
copy_frames = "5MiB"
settings_while_acting = true
min_free = "1MiB"
max_clock_difference = "1s"
on_promote = ["/bin/up", "eth0"]
on_demote = ["/bin/down"]
[log]
level = "trace"
format = "json"
"#,
        )
        .unwrap();
        assert_eq!(
            config,
            Config {
                data_dir: "/var/lib/tandem".into(),
                listen: "[::]:80".parse().unwrap(),
                store: Store { cache: 1 << 30, live: 1 << 20, reserve: 0 },
                runtime: Runtime { threads: 3, instances: 10_000 },
                ingress: Ingress {
                    max_connections: 1,
                    in_flight: 16 << 20,
                    header_timeout: Duration::from_millis(100),
                    body_timeout: Duration::from_secs(2),
                    idle_timeout: Duration::from_hours(1),
                },
                // 32 to one target, but 8 in all.
                delivery: Delivery { concurrency: 8, per_target: 8 },
                pair: Some(Pair {
                    listen: "10.0.0.1:7401".parse().unwrap(),
                    peer: vec!["failover:7401".into(), "[fd00::2]:7401".into()],
                    main: true,
                    advertise: Some("main:80".into()),
                    interval: Duration::from_millis(100),
                    retries: 3,
                    mode: Mode::Strict,
                    witness: Some(Witness::Server("witness:7402".into())),
                    without_witness: WithoutWitness::Manual,
                    failback: Failback::Manual,
                    failback_hold: Duration::ZERO,
                    copy_rate: 0,
                    copy_frames: 5 << 20,
                    settings_while_acting: true,
                    min_free: 1 << 20,
                    max_clock_difference: Duration::from_secs(1),
                    on_promote: vec!["/bin/up".into(), "eth0".into()],
                    on_demote: vec!["/bin/down".into()],
                }),
                log: Log { level: LogLevel::Trace, format: LogFormat::Json },
            }
        );
    }

    #[test]
    fn every_wrong_value_says_what_is_right() {
        for (text, says) in [
            (
                "dat_dir = \"x\"",
                "tandem.toml:1:1: `dat_dir` is no key of this file, did you mean `data_dir`?",
            ),
            ("data_dir = \"\"", "1:12: a folder's path is not empty"),
            ("data_dir = 7", "expected a string such as `\"./tandem-data\"`, found an integer"),
            (
                "listen = \"localhost\"",
                "`localhost` is no IP address with a port; write for example `127.0.0.1:7400`",
            ),
            ("[stor]", "did you mean `store`?"),
            ("[store]\ncache = \"1KiB\"", "`cache` must be at least 1MiB and at most 1024GiB"),
            ("[store]\nreserve = \"1TB\"", "`TB` is no unit"),
            ("[runtime]\nthreads = 0", "`threads` must be at least 1 and at most 1024"),
            ("[runtime]\ninstances = \"64\"", "expected an integer such as `64`, found a string"),
            ("[runtime]\ninstances = 10_001", "`instances` must be at least 1 and at most 10000"),
            ("[ingress]\nmax_connections = 0", "`max_connections` must be at least 1"),
            (
                "[ingress]\nheader_timeout = \"2h\"",
                "`header_timeout` must be at least 100ms and at most 1h",
            ),
            ("[ingress]\nin_flight = \"1MiB\"", "`in_flight` must be at least 16MiB"),
            ("[delivery]\nconcurrency = 0", "`concurrency` must be at least 1 and at most 65536"),
            ("[delivery]\nper_target = -1", "`per_target` must be at least 1"),
            (
                "[log]\nlevel = \"verbose\"",
                "`verbose` is none of `error`, `warn`, `info`, `debug`, `trace`",
            ),
            ("[log]\nformat = \"xml\"", "`xml` is none of `text`, `json`"),
            ("[pair]\nmain = true", "`peer` is missing, for example `peer = [\"10.0.0.2:7401\"]`"),
            (
                "[pair]\npeer = [\"b:1\"]\nmain = true\nmode = \"strict\"\nwithout_witness = \"accept-only\"",
                "`accept-only` gives receipts for one disk",
            ),
            ("[pair]\npeer = [\"b:1\"]", "`main` is missing, for example `main = true`"),
            (
                "[pair]\npeer = [\"b:1\"]\nmain = 1",
                "expected true or false such as `true`, found an integer",
            ),
            (
                "[pair]\nmain = true\npeer = [\"b\"]",
                "`b` is no host with a port; write for example",
            ),
            (
                "[pair]\npeer = [\"b:1\"]\nmain = true\nwitness = \"share/x\"",
                "nor an absolute path of a folder",
            ),
            (
                "[pair]\npeer = [\"b:1\"]\nmain = true\nprofile = \"slow\"",
                "`slow` is none of `calm`, `fast`, `lan`",
            ),
            (
                "[pair]\npeer = [\"b:1\"]\nmain = true\ninterval = \"1ms\"",
                "`interval` must be at least 20ms and at most 1m",
            ),
            ("log = \"info\"", "expected a table such as `[log]`, found a string"),
        ] {
            let shown = fails(text);
            assert!(shown.contains(says), "{text}: {shown}");
            assert_eq!(shown.matches("tandem.toml:").count(), 1, "{text}: {shown}");
        }
    }

    #[test]
    fn a_named_file_must_be_there_and_is_named_in_its_faults() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.toml");
        let missing = Config::load(Some(&path)).unwrap_err();
        assert!(matches!(&missing, ConfigError::Read { path: named, .. } if *named == path));
        fs::write(&path, "listen = 1").unwrap();
        let wrong = Config::load(Some(&path)).unwrap_err().to_string();
        assert!(
            wrong.starts_with(&format!("{}:1:10: expected a string", path.display())),
            "{wrong}"
        );
        fs::write(&path, "listen = \"127.0.0.1:0\"").unwrap();
        assert_eq!(Config::load(Some(&path)).unwrap().listen.port(), 0);
    }
}
