//! `tandem run`: a node in this process, until it is asked to stop.

use std::{net::SocketAddr, path::PathBuf};

use super::{
    exit::Failure,
    house::{self, Overrides},
    process,
};

/// Run a node
///
/// It stops in order on Ctrl-C and SIGTERM: no new messages, what runs is finished, the store is closed. A second Ctrl-C
/// stops at once, which loses nothing either. Log lines go to standard error; [log] in the configuration says which
/// and how, and `TANDEM_LOG` over it (`debug`, `info,tandem::delivery=debug`).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tandem run
  tandem run --data-dir /var/lib/tandem --listen 0.0.0.0:7400
  TANDEM_LOG=debug tandem run --config /etc/tandem.toml")]
pub struct Args {
    /// The configuration file [default: tandem.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where the node keeps everything [default: ./tandem-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Where the node listens [default: 127.0.0.1:7400]; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,

    /// Stop in order when standard input ends: for a program that runs a node as its child
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let overrides = Overrides { data_dir: args.data_dir, listen: args.listen };
    let config = house::load_config(args.config.as_deref(), overrides)?;
    process::start_log(config.log.level.word(), config.log.format);
    process::run_until_stopped(args.stop_with_stdin, |stop| async move {
        house::run_node(&config, stop).await
    })
}
