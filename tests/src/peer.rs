//! The other node of a pair, played by a test: it has a joined node's keys and speaks the link's protocol over TLS.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use tandem::{
    model::{
        pair::{
            Role, StoreId,
            talk::{Hello, PROTOCOLS, Said, Standing, Tip},
        },
        position::{Chain, Position},
    },
    net::{
        keys::PairFolder,
        link::{Link, LinkError, LinkReceiver, LinkSender, Trust},
    },
    store::frame,
};
use tokio::runtime::{Builder, Runtime};

use crate::DEADLINE;

const DIAL: Duration = Duration::from_secs(5);
/// Longest message.
const MOST: u32 = 1 << 30;
/// Kinds of messages.
const SAID: u8 = 1;
const FRAME: u8 = 2;

/// What a peer hears.
#[derive(Debug)]
pub enum Heard {
    Said(Said),
    /// A frame: the chain hash before it, and its bytes.
    Frame(Chain, Bytes),
    /// The link has ended.
    End,
}

/// A link from a node that is not there.
#[derive(Debug)]
pub struct PeerUnderTest {
    runtime: Runtime,
    sender: LinkSender,
    receiver: LinkReceiver,
    /// As it introduces itself, until a test changes it.
    pub hello: Hello,
}

impl PeerUnderTest {
    /// Links with the node that waits at `address`, as the one that keeps its keys in `data_dir` and does not run. It
    /// says nothing yet. None: the node does not take links now.
    pub fn dial(address: &str, data_dir: &Path, is_main: bool) -> Option<Self> {
        let folder = PairFolder::of(data_dir);
        let identity = folder.identity().expect("keys can be read").expect("the node has joined");
        let peer = folder.peer().expect("keys can be read").expect("the node has joined");
        let runtime = Builder::new_current_thread().enable_all().build().expect("it can be made");
        let trust = Trust::of(peer.pins);
        let link = runtime.block_on(Link::dial(address, &identity, &trust, DIAL)).ok()?;
        let (sender, receiver) = link.split(MOST);
        let hello = Hello {
            protocols: PROTOCOLS,
            frames: frame::VERSIONS.1,
            pair: peer.pair,
            store: StoreId([7; 16]),
            is_main,
            hooks: ":1".to_owned(),
            program: "played".to_owned(),
            standing: Standing { role: Role::Standby, epoch: 0, record: None },
            tips: vec![Tip {
                position: Position { epoch: 1, seq: 0 },
                chain: Chain::default(),
                owner: None,
            }],
        };
        Some(Self { runtime, sender, receiver, hello })
    }

    /// Introduces itself.
    pub fn introduce(&mut self) {
        let hello = Said::Hello(Box::new(self.hello.clone()));
        self.say(&hello);
    }

    pub fn say(&mut self, said: &Said) {
        let bytes = postcard::to_stdvec(said).expect("it can be said");
        self.send(SAID, &[&bytes]);
    }

    /// What no program of this version would say.
    pub fn say_bytes(&mut self, bytes: &[u8]) {
        self.send(SAID, &[bytes]);
    }

    /// Gives a frame, as the primary of that epoch.
    pub fn give(&mut self, epoch: u64, before: Chain, frame: &[u8]) {
        let (epoch, shown) = (epoch.to_be_bytes(), 0_u64.to_be_bytes());
        self.send(FRAME, &[&epoch, &shown, &before.0, &[0], frame]);
    }

    fn send(&mut self, kind: u8, parts: &[&[u8]]) {
        let Self { runtime, sender, .. } = self;
        // The other end may have closed the link; hearing tells.
        let sent: Result<(), LinkError> = runtime.block_on(async {
            sender.send(kind, parts).await?;
            sender.flush().await
        });
        drop(sent);
    }

    /// The next thing that is heard.
    #[track_caller]
    pub fn hear(&mut self) -> Heard {
        let Self { runtime, receiver, .. } = self;
        let next = async { tokio::time::timeout(DEADLINE, receiver.next()).await };
        match runtime.block_on(next).expect("something is heard, or the link ends") {
            Ok(Some((SAID, bytes))) => match postcard::from_bytes(&bytes) {
                Ok(said) => Heard::Said(said),
                Err(error) => panic!("it said what is no message: {error}"),
            },
            Ok(Some((FRAME, bytes))) => {
                let before = bytes[16..48].try_into().expect("32 bytes");
                let frame = match bytes[48] {
                    0 => bytes.slice(49..),
                    1 => lz4_flex::decompress_size_prepended(&bytes[49..])
                        .expect("it can be unpacked")
                        .into(),
                    other => panic!("packing {other} is not known"),
                };
                Heard::Frame(Chain(before), frame)
            }
            Ok(Some((kind, _))) => panic!("messages of kind {kind} were not to come"),
            Ok(None) | Err(_) => Heard::End,
        }
    }

    /// Hears until `is_it` has what it wants; signs of life are passed over with the rest.
    #[track_caller]
    pub fn hear_until<T>(&mut self, mut is_it: impl FnMut(&mut Self, Heard) -> Option<T>) -> T {
        loop {
            let heard = self.hear();
            assert!(!matches!(heard, Heard::End), "the link ended too early");
            if let Some(found) = is_it(self, heard) {
                return found;
            }
        }
    }

    /// Why the other node will have nothing to do with this one; hears until the link ends.
    #[track_caller]
    pub fn hear_refusal(&mut self) -> String {
        let mut refusal = None;
        loop {
            match self.hear() {
                Heard::Said(Said::Refused(why)) => refusal = Some(why),
                Heard::End => return refusal.expect("it says why before it closes the link"),
                _ => {}
            }
        }
    }
}
