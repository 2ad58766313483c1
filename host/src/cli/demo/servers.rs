//! The pair on the demo's stage: a witness, a main server and a failover server, joined as any pair is.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::net::TcpSocket;

use crate::{
    control::wire,
    model::clock::Clock,
    net::keys::{self, PairFolder},
};

use super::{
    super::{
        exit::Failure,
        node_client::{Call, NodeClient},
    },
    child::Child,
};

const JOIN: Duration = Duration::from_secs(10);
/// For an answer about the pair.
const ASK: Duration = Duration::from_secs(1);

/// Its processes are killed when it goes.
#[derive(Debug)]
pub struct Servers {
    pub witness: Child,
    pub main: Server,
    pub failover: Server,
}

/// One of the two.
#[derive(Debug)]
pub struct Server {
    pub child: Child,
    pub node: NodeClient,
    data_dir: PathBuf,
    config: PathBuf,
    /// Where it waits for the other.
    link: Port,
    hooks: Port,
}

/// What both say of the pair; none of one that does not answer.
#[derive(Debug, Default)]
pub struct Seen {
    pub main: Option<wire::Pair>,
    pub failover: Option<wire::Pair>,
}

/// A port that stays ours, whoever listens there in between: held by a socket that is bound and never listens.
#[derive(Debug)]
struct Port {
    address: SocketAddr,
    _held: TcpSocket,
}

impl Port {
    fn reserve() -> Result<Self, Failure> {
        let reserve = || {
            let held = TcpSocket::new_v4()?;
            held.set_reuseaddr(true)?;
            held.bind(([127, 0, 0, 1], 0).into())?;
            Ok(Self { address: held.local_addr()?, _held: held })
        };
        reserve().map_err(|e: std::io::Error| {
            Failure::failed("system", format!("there is no free port: {e}"))
        })
    }
}

impl Server {
    fn new(name: &'static str, folder: &Path, word: &str) -> Result<Self, Failure> {
        let (link, hooks) = (Port::reserve()?, Port::reserve()?);
        let (data_dir, config) = (folder.join(word), folder.join(format!("{word}.toml")));
        fs::create_dir(&data_dir).map_err(|e| Failure::file("make", &data_dir, &e))?;
        let arguments = vec!["run".into(), "--config".into(), config.clone().into()];
        let child = Child::new(name, data_dir.clone(), arguments);
        let node = NodeClient::new(&format!("http://{}", hooks.address), None)?;
        Ok(Self { child, node, data_dir, config, link, hooks })
    }

    fn configure(&self, peer: SocketAddr, main: bool, witness: SocketAddr) -> Result<(), Failure> {
        let Self { data_dir, config, link, hooks, .. } = self;
        let (data_dir, listen, link) = (data_dir.display(), hooks.address, link.address);
        let text = format!(
            "data_dir = '{data_dir}'\nlisten = '{listen}'\n\n[pair]\nlisten = '{link}'\npeer = ['{peer}']\n\
             main = {main}\nwitness = '{witness}'\nprofile = 'fast'\nfailback_hold = '3s'\n"
        );
        fs::write(config, text).map_err(|e| Failure::file("write", config, &e))
    }

    async fn seen(&self) -> Option<wire::Pair> {
        self.node.read(Call::get(["pair"]).timeout(ASK)).await.ok()
    }
}

impl Servers {
    /// Nothing runs yet.
    pub fn new(folder: &Path) -> Result<Self, Failure> {
        let records = folder.join("witness");
        let place = ["witness", "--listen", "127.0.0.1:0", "--data-dir"].map(Into::into);
        let arguments = place.into_iter().chain([records.clone().into()]).collect();
        Ok(Self {
            witness: Child::new("witness", records, arguments),
            main: Server::new("main server", folder, "main")?,
            failover: Server::new("failover server", folder, "failover")?,
        })
    }

    /// Starts all three and makes the two a pair, as `tandem pair invite` and `tandem pair join` do.
    pub async fn start(&mut self) -> Result<(), Failure> {
        let witness = self.witness.start().await?;
        self.main.configure(self.failover.link.address, true, witness)?;
        self.failover.configure(self.main.link.address, false, witness)?;
        self.main.child.start().await?;
        let failed =
            |reason: String| Failure::failed("pair", format!("they are no pair: {reason}"));
        let address = self.main.link.address.to_string();
        let (code, _) = PairFolder::of(&self.main.data_dir)
            .invite(&address, Clock::system().now_ms(), JOIN)
            .map_err(|e| failed(e.to_string()))?;
        let joiner = PairFolder::of(&self.failover.data_dir);
        keys::join(&code, &joiner, self.failover.link.address.port(), JOIN)
            .await
            .map_err(|e| failed(e.to_string()))?;
        self.failover.child.start().await.map(drop)
    }

    pub async fn seen(&self) -> Seen {
        let (main, failover) = tokio::join!(self.main.seen(), self.failover.seen());
        Seen { main, failover }
    }

    /// Refuses to go on if one of them ended by itself.
    pub fn still_run(&mut self) -> Result<(), Failure> {
        [&mut self.witness, &mut self.main.child, &mut self.failover.child]
            .into_iter()
            .try_for_each(Child::still_runs)
    }

    /// Kills all, and waits until they are gone.
    pub async fn end(&mut self) {
        for child in [&mut self.main.child, &mut self.failover.child, &mut self.witness] {
            child.kill().await;
        }
    }
}

impl Seen {
    /// The main server is primary, and what it accepts is on two disks.
    pub fn main_leads(&self) -> bool {
        leads(self.main.as_ref(), self.failover.as_ref())
    }

    /// The main server is back and has what the failover server, still primary, has.
    pub fn main_is_in_sync(&self) -> bool {
        leads(self.failover.as_ref(), self.main.as_ref())
    }

    pub fn failover_is_primary(&self) -> bool {
        self.failover.as_ref().is_some_and(|node| node.role == "primary")
    }

    /// The highest epoch that one of them knows.
    pub fn epoch(&self) -> u64 {
        [&self.main, &self.failover].into_iter().flatten().map(|node| node.epoch).max().unwrap_or(0)
    }

    /// The last frame of both stores, if both end alike and the primary knows.
    pub fn common_head(&self) -> Option<u64> {
        let (main, failover) = (self.main.as_ref()?, self.failover.as_ref()?);
        let knows = main.peer_has.or(failover.peer_has) == Some(main.head);
        (main.head == failover.head && knows).then_some(main.head)
    }
}

fn leads(first: Option<&wire::Pair>, second: Option<&wire::Pair>) -> bool {
    let (Some(first), Some(second)) = (first, second) else { return false };
    first.role == "primary" && first.sync.as_deref() == Some("both") && second.role == "standby"
}
