//! `tandem pair`: two nodes become a pair, and what an operator does with one.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde_json::json;

use crate::{
    contract::toml_reader::units,
    model::clock::Clock,
    net::keys::{self, Code, CodeError, Joined, PairFolder},
    node::{Config, config::read_endpoint},
};

use super::{
    exit::{Exit, Failure},
    house::{self, Overrides},
    output::{Output, Style},
    quantity::moment,
    target::NodeArgs,
};

mod drill;
mod quarantine;
mod refusals;
mod roles;
mod wait;

use refusals::{of_folder, of_join};

/// Where a node waits for the other if nothing else is said.
const PORT: u16 = 7401;
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
const VALID_MAX: Duration = Duration::from_hours(7 * 24);

/// Make a pair of two nodes, and see to it
///
/// The first node invites, which gives a code; the second joins with it. From then on they know each other by their keys.
/// The keys are in the folder `pair` of their data.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tandem pair invite --address 10.0.0.1:7401 --wait
  tandem pair join \"$CODE\"    on the other node, with the code that this gave
  tandem pair status")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Let another node join this one
    ///
    /// Prints a code that is good for joining once, until it expires. A newer code takes the place of an older one, and who
    /// joins takes the place of the other node that there was. A node that runs with [pair] answers who joins; for one that
    /// does not run, --wait does.
    #[command(after_help = "Examples:
  tandem pair invite                                   with [pair] in tandem.toml
  tandem pair invite --address 10.0.0.1:7401 --wait    without
  tandem pair invite --valid 1h --data-dir /var/lib/tandem --config /etc/tandem.toml")]
    Invite {
        #[command(flatten)]
        place: Place,

        /// How the other node reaches this one [default: `listen` of [pair]; if that is every address, the one towards `peer`]
        #[arg(long, value_name = "HOST:PORT", value_parser = read_endpoint)]
        address: Option<String>,

        /// How long the code is good
        #[arg(long, value_name = "TIME", default_value = "15m", value_parser = parse_valid)]
        valid: Duration,

        /// Answer here until somebody has joined or the code has expired; port 0 takes a free one
        #[arg(long)]
        wait: bool,
    },

    /// Join the node that gave a code
    ///
    /// Start the node afterwards; one that runs already has to be started again.
    #[command(after_help = "Examples:
  tandem pair join \"$CODE\"
  tandem pair join \"$CODE\" --data-dir /var/lib/tandem --config /etc/tandem.toml")]
    Join {
        /// As `tandem pair invite` printed it; case does not matter, nor do the dashes
        code: String,

        #[command(flatten)]
        place: Place,
    },

    /// Show how the nodes are, as one of them sees it
    #[command(after_help = "Examples:
  tandem pair status
  tandem pair status --node http://10.0.0.2:7400 --json | jq .sync")]
    Status {
        #[command(flatten)]
        node: NodeArgs,
    },

    /// Exchange the roles: the standby becomes primary
    ///
    /// Nothing is lost, and what runs is finished first. A request that its receiver does not answer within 5 s is in doubt then:
    /// `[delivery] class` of its solution says whether it is made again. Either node may be asked.
    #[command(after_help = "Examples:
  tandem pair switchover
  tandem pair switchover --node http://10.0.0.2:7400")]
    Switchover {
        #[command(flatten)]
        node: NodeArgs,
    },

    /// Make a standby primary because the other node is gone
    ///
    /// Be sure that it is: if it only cannot be reached, both act until they meet. With a witness it refuses while the other
    /// is primary or this node lacks something, so there are never two; `--allow-data-loss` does it all the same.
    #[command(after_help = "Examples:
  tandem pair promote --node http://10.0.0.2:7400
  tandem pair promote --node http://10.0.0.2:7400 --allow-data-loss")]
    Promote {
        /// Even if this node may lack messages that have receipts
        #[arg(long)]
        allow_data_loss: bool,

        #[command(flatten)]
        node: NodeArgs,
    },

    /// Give a node another key, while both run
    ///
    /// The other node pins the new key first, beside the old one; once they are linked by the new key, the old one is refused.
    /// Of the node that is asked; ask each of the two for both.
    #[command(after_help = "Examples:
  tandem pair rotate
  tandem pair rotate --node http://10.0.0.2:7400")]
    Rotate {
        #[command(flatten)]
        node: NodeArgs,
    },

    /// Try a takeover on a copy, and tell how long each step took
    ///
    /// The standby copies its store into a folder of its own, opens it, verifies it, begins the next epoch, loads every
    /// component and handles one message of the drill's own. Nothing is delivered and no solution handles anything; the pair goes
    /// on meanwhile. The copy goes when it is done. Either node may be asked.
    #[command(after_help = "Examples:
  tandem pair drill
  tandem pair drill --node http://10.0.0.2:7400 --json | jq .steps")]
    Drill {
        #[command(flatten)]
        node: NodeArgs,
    },

    /// What one node had accepted and the other may never have had
    ///
    /// After the nodes were apart, the one that is not primary any more sets aside what it did meanwhile, and its messages
    /// go to the primary with their first ids. Nothing goes away by itself. Each node has its own quarantine.
    #[command(after_help = "Examples:
  tandem pair quarantine list --node http://10.0.0.1:7400
  tandem pair quarantine show ID
  tandem pair quarantine discard ID --reason \"looked at, all is there\"")]
    Quarantine {
        #[command(subcommand)]
        action: quarantine::Action,

        #[command(flatten)]
        node: NodeArgs,
    },
}

/// Whose keys.
#[derive(Debug, clap::Args)]
struct Place {
    /// The configuration file [default: tandem.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where the node keeps everything [default: ./tandem-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

fn parse_valid(text: &str) -> Result<Duration, String> {
    let valid = units::parse_duration(text).map_err(|error| error.to_string())?;
    if valid < Duration::from_secs(1) || valid > VALID_MAX {
        return Err("a code is good for 1s to 7d".to_owned());
    }
    Ok(valid)
}

impl Place {
    fn open(self) -> Result<(Config, PairFolder), Failure> {
        let overrides = Overrides { data_dir: self.data_dir, listen: None };
        let config = house::load_config(self.config.as_deref(), overrides)?;
        let folder = PairFolder::of(&config.data_dir);
        Ok((config, folder))
    }
}

pub async fn run(args: Args, output: Output) -> Result<(), Failure> {
    match args.action {
        Action::Invite { place, address, valid, wait } => {
            let (config, folder) = place.open()?;
            let address = address.map_or_else(|| own_address(&config), Ok)?;
            if wait {
                let listen = config.pair.map_or_else(|| listen_at(&address), |pair| pair.listen);
                wait::invite(&folder, &address, listen, valid, output).await
            } else {
                let code = invite(&folder, &address, valid, output)?;
                output.note(format_args!(
                    "A node that runs with [pair] answers who joins. If it does not run yet, start it meanwhile, or invite \
                     with --wait.\nOn the other node: tandem pair join {code}"
                ));
                Ok(())
            }
        }
        Action::Join { code, place } => {
            let code: Code = code.parse().map_err(|error: CodeError| {
                Failure::new(Exit::Usage, "code-mistyped", error.to_string())
                    .next("type all of what `tandem pair invite` printed")
            })?;
            let (config, folder) = place.open()?;
            let port = config.pair.map_or(PORT, |pair| pair.listen.port());
            let joined = keys::join(&code, &folder, port, DIAL_TIMEOUT).await;
            tell(&joined.map_err(|error| of_join(error, &folder))?, output)?;
            output.note("Start this node now; one that runs already has to be started again.");
            Ok(())
        }
        Action::Status { node } => roles::status(&node.client()?, output).await,
        Action::Switchover { node } => roles::switch_over(&node.client()?, output).await,
        Action::Promote { allow_data_loss, node } => {
            roles::promote(&node.client()?, allow_data_loss, output).await
        }
        Action::Rotate { node } => roles::rotate(&node.client()?, output).await,
        Action::Drill { node } => drill::run(&node.client()?, output).await,
        Action::Quarantine { action, node } => {
            quarantine::run(action, &node.client()?, output).await
        }
    }
}

/// Makes a code and prints it.
fn invite(
    folder: &PairFolder,
    address: &str,
    valid: Duration,
    output: Output,
) -> Result<Code, Failure> {
    if address.ends_with(":0") {
        return Err(Failure::usage(format!("nobody can join at {address}"))
            .next("name a port, or let --wait take a free one"));
    }
    let now_ms = Clock::system().now_ms();
    let (code, invitation) = folder.invite(address, now_ms, valid).map_err(of_folder)?;
    if output.is_json() {
        output.json(&json!({
            "code": code.to_string(),
            "address": code.address,
            "fingerprint": code.fingerprint,
            "expires_ms": invitation.expires_ms,
        }))?;
    } else {
        output.line(&code)?;
        let until = moment(invitation.expires_ms);
        output.note(format_args!(
            "It is good until {until}, for joining once, at {}. This node's key is {}.",
            code.address, code.fingerprint
        ));
    }
    Ok(code)
}

fn tell(joined: &Joined, output: Output) -> Result<(), Failure> {
    let Joined { pair, peer, address, is_confirmed } = joined;
    if output.is_json() {
        output.json(&json!({
            "pair": pair.to_string(),
            "peer": peer,
            "address": address,
            "confirmed": is_confirmed,
        }))?;
    } else {
        let paired = output.paint(Style::Good, "paired");
        output.line(format_args!("{paired} with the node at {address}, whose key is {peer}"))?;
    }
    if !is_confirmed {
        output.note(
            "That node has not said that it is done. If its own command failed, invite and join again.",
        );
    }
    Ok(())
}

/// How the other node reaches this one, as far as the configuration says.
fn own_address(config: &Config) -> Result<String, Failure> {
    let unknown = || {
        Failure::usage("it is not known how the other node reaches this one").next(
            "say it with --address HOST:PORT, or set `listen` or `peer` of [pair] in tandem.toml",
        )
    };
    let pair = config.pair.as_ref().ok_or_else(unknown)?;
    if !pair.listen.ip().is_unspecified() {
        return Ok(pair.listen.to_string());
    }
    let towards = |peer: &String| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
        // It sends nothing: the system only says which way it would go.
        socket.connect(peer).ok()?;
        socket.local_addr().ok()
    };
    let own = pair.peer.iter().find_map(towards).ok_or_else(unknown)?;
    Ok(SocketAddr::new(own.ip(), pair.listen.port()).to_string())
}

/// Without [pair]: at the address itself if that is an address, else at every one.
fn listen_at(address: &str) -> SocketAddr {
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(PORT);
    address.parse().unwrap_or_else(|_| ([0, 0, 0, 0], port).into())
}
