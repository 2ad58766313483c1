//! `[pair]`: the other node, and what happens when it is gone.

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    path::PathBuf,
    time::Duration,
};

use crate::contract::toml_reader::{Problem, Table};
pub use crate::takeover::step::WithoutWitness;

const INTERVAL: Range<Duration> = Duration::from_millis(20)..Duration::from_mins(1);
/// Twice what the store keeps in reserve.
const MIN_FREE: u64 = 512 << 20;
const CLOCK_DIFFERENCE: Range<Duration> = Duration::from_millis(10)..Duration::from_hours(24);
const FRAMES: Range<u64> = super::MIB..super::TIB;
const HOLD: Range<Duration> = Duration::ZERO..Duration::from_hours(24);

/// `[pair]`. Without it a node is alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Where this node waits for the other.
    pub listen: SocketAddr,
    /// Where the other waits for this one, as `host:port`; further ones are other ways to the same node.
    pub peer: Vec<String>,
    /// Whether this is the main server; the other is the failover server.
    pub main: bool,
    /// How this node's `listen` of web hooks is reached from the other, as `host:port`; none: as the other sees it.
    pub advertise: Option<String>,
    /// Between two signs of life.
    pub interval: Duration,
    /// Signs of life that may be missed in a row before the next one missing counts as a failure.
    pub retries: u32,
    pub mode: Mode,
    pub witness: Option<Witness>,
    pub without_witness: WithoutWitness,
    pub failback: Failback,
    /// How long the main server has to be back and in sync before it is handed its role.
    pub failback_hold: Duration,
    /// Bytes per second that a standby gets of what it lacks when it is far behind; 0: no bound.
    pub copy_rate: u64,
    /// Bytes of frames that are kept for it meanwhile.
    pub copy_frames: u64,
    /// Whether settings and solutions may be changed on a failover server that acts.
    pub settings_while_acting: bool,
    /// A standby with less free disk, in bytes, is not ready to take over.
    pub min_free: u64,
    /// A standby whose clock is further from the primary's is not ready.
    pub max_clock_difference: Duration,
    /// Program and arguments, run when this node becomes primary.
    pub on_promote: Vec<String>,
    /// Program and arguments, run when it is primary no more.
    pub on_demote: Vec<String>,
}

/// What the primary does without a standby in sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It goes on alone, and says so in every receipt.
    Auto,
    /// It accepts nothing.
    Strict,
}

/// Who keeps the record of who may be primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Witness {
    /// `host:port` of a `tandem witness`.
    Server(String),
    /// A folder that both nodes see.
    Folder(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failback {
    Auto,
    Manual,
}

pub(super) fn read_pair(mut table: Table<'_>) -> Option<Pair> {
    if !table.is_present() {
        return None;
    }
    let every_address = (Ipv4Addr::UNSPECIFIED, 7401).into();
    let listen = table.parsed("listen", r#""0.0.0.0:7401""#, super::read_address);
    let peer = table.list("peer", r#"["10.0.0.2:7401"]"#, read_endpoint);
    let main = table.boolean("main");
    if table.span_of("peer").is_none() {
        table.missing("peer", r#"peer = ["10.0.0.2:7401"]"#);
    }
    if table.span_of("main").is_none() {
        table.missing("main", "main = true");
    }
    // The default is what people know from servers of this kind: every few seconds, a couple of retries.
    let profiles = [
        ("calm", (Duration::from_secs(2), 2)),
        ("fast", (Duration::from_millis(200), 2)),
        ("lan", (Duration::from_millis(75), 3)),
    ];
    let (interval, retries) = table.one_of("profile", &profiles).unwrap_or(profiles[0].1);
    let modes = [("auto", Mode::Auto), ("strict", Mode::Strict)];
    let mode = table.one_of("mode", &modes).unwrap_or(Mode::Auto);
    let pair = Pair {
        listen: listen.unwrap_or(every_address),
        peer,
        main: main.unwrap_or(false),
        advertise: table.parsed("advertise", r#""10.0.0.1:7400""#, read_endpoint),
        interval: table.duration("interval", interval, INTERVAL),
        retries: u32::try_from(table.integer("retries", retries, 0..1000)).unwrap_or(u32::MAX),
        mode,
        witness: table.parsed("witness", r#""10.0.0.3:7402""#, read_witness),
        without_witness: read_without_witness(&mut table, mode),
        failback: table
            .one_of("failback", &[("auto", Failback::Auto), ("manual", Failback::Manual)])
            .unwrap_or(Failback::Auto),
        failback_hold: table.duration("failback_hold", Duration::from_mins(1), HOLD),
        copy_rate: table.size("copy_rate", 32 * super::MIB, 0..super::TIB),
        copy_frames: table.size("copy_frames", 1024 * super::MIB, FRAMES),
        settings_while_acting: table.boolean("settings_while_acting").unwrap_or(false),
        min_free: table.size("min_free", MIN_FREE, 0..1 << 40),
        max_clock_difference: table.duration(
            "max_clock_difference",
            Duration::from_secs(5),
            CLOCK_DIFFERENCE,
        ),
        on_promote: table.list("on_promote", r#"["/etc/tandem/promoted"]"#, str::parse::<String>),
        on_demote: table.list("on_demote", r#"["/etc/tandem/demoted"]"#, str::parse::<String>),
    };
    table.finish();
    Some(pair)
}

fn read_without_witness(table: &mut Table<'_>, mode: Mode) -> WithoutWitness {
    let words = [
        ("act", WithoutWitness::Act),
        ("accept-only", WithoutWitness::AcceptOnly),
        ("manual", WithoutWitness::Manual),
    ];
    let chosen = table.one_of("without_witness", &words).unwrap_or(WithoutWitness::Act);
    if let (WithoutWitness::AcceptOnly, Mode::Strict, Some(span)) =
        (chosen, mode, table.span_of("without_witness"))
    {
        let why = "`accept-only` gives receipts for one disk, and `mode = \"strict\"` says that there are none; write \
                   `\"manual\"`, or `mode = \"auto\"`";
        table.fault("without_witness", &span, Problem::Invalid(why.to_owned()));
    }
    chosen
}

/// Reads `host:port`; what the host is called is not looked up.
pub fn read_endpoint(text: &str) -> Result<String, String> {
    let right = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
    });
    let wrong = || format!("`{text}` is no host with a port; write for example `10.0.0.2:7401`");
    right.then(|| text.to_owned()).ok_or_else(wrong)
}

fn read_witness(text: &str) -> Result<Witness, String> {
    let wrong = || {
        format!(
            "`{text}` is neither a host with a port, such as `10.0.0.3:7402`, nor an absolute path of a folder that \
             both nodes see"
        )
    };
    if text.starts_with('/') {
        return Ok(Witness::Folder(text.into()));
    }
    read_endpoint(text).map(Witness::Server).map_err(|_| wrong())
}
