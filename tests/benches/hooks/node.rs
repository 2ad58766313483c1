//! A node with fixture `lean`: state get and set for each message, and one effect or none.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use serde_json::json;
use tandem_tests::{NodeUnderTest, Program, Solution};

use crate::{Outcome, Server, bare::Bare, process::wait};

const PROGRAM: Program = Program(env!("CARGO_BIN_EXE_tandem-under-test"));

/// What handling asks for.
#[derive(Clone, Copy)]
pub enum Effect {
    None,
    /// One request that stays in the outbox: its receiver takes connections and does not answer.
    Kept,
    /// One request that a bare hyper server answers.
    Delivered,
}

enum Receiver {
    None,
    Silent(TcpListener),
    Answers(Bare),
}

pub struct Node {
    node: NodeUnderTest,
    receiver: Receiver,
}

impl Node {
    pub fn start(effect: Effect) -> Outcome<Box<dyn Server>> {
        let receiver = Receiver::start(effect)?;
        let node = PROGRAM.node_with("[log]\nlevel = \"warn\"\n");
        // More is sent than a queue's default bound, and a silent receiver is not given up.
        let lean = Solution::lean().with(
            "\n[limits]\nqueue = 100000000\noutbox = 100000000\n\n[delivery]\ntimeout = \"10m\"",
        );
        node.deploy(&lean);
        if let Some(address) = receiver.address()? {
            node.set("global", "sink", &json!(format!("http://{address}/hooks/lean/in")));
        }
        Ok(Box::new(Self { node, receiver }))
    }
}

impl Receiver {
    fn start(effect: Effect) -> Outcome<Self> {
        Ok(match effect {
            Effect::None => Self::None,
            Effect::Kept => Self::Silent(TcpListener::bind("127.0.0.1:0")?),
            Effect::Delivered => Self::Answers(Bare::start()?),
        })
    }

    fn address(&self) -> Outcome<Option<SocketAddr>> {
        Ok(match self {
            Self::None => None,
            Self::Silent(listener) => Some(listener.local_addr()?),
            Self::Answers(bare) => Some(bare.address()),
        })
    }
}

impl Server for Node {
    fn address(&self) -> SocketAddr {
        self.node.address
    }

    fn wait_until_idle(&self, patience: Duration) -> Outcome<()> {
        wait("the node is idle", patience, || {
            let status = self.node.api("status");
            let to_deliver = match self.receiver {
                Receiver::Answers(_) => status["deliveries"]["pending"].as_u64(),
                Receiver::None | Receiver::Silent(_) => Some(0),
            };
            Ok(status["messages"]["queued"] == 0 && to_deliver == Some(0))
        })
    }
}
