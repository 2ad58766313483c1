//! `tandem witness`: the third of pairs in this process, until it is asked to stop.

use std::{net::SocketAddr, path::PathBuf};

use crate::node::config::LogFormat;

use super::{exit::Failure, house, output::Output, process};

/// Record which node of a pair may be primary
///
/// Run it on a third machine; one witness serves many pairs. It needs almost nothing, and nobody waits for it unless a node
/// comes or goes. It stops in order on Ctrl-C and SIGTERM. Log lines go to standard error; `TANDEM_LOG` says which
/// (`debug`: every change of a record). --json writes them as JSON.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tandem witness
  tandem witness --data-dir /var/lib/tandem-witness --listen 0.0.0.0:7402")]
pub struct Args {
    /// Where the witness keeps its records
    #[arg(long, value_name = "DIR", default_value = "./tandem-witness")]
    data_dir: PathBuf,

    /// Where the witness listens; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7402")]
    listen: SocketAddr,

    /// Stop in order when standard input ends: for a program that runs a witness as its child
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
}

pub fn run(args: Args, output: Output) -> Result<(), Failure> {
    process::start_log("info", if output.is_json() { LogFormat::Json } else { LogFormat::Text });
    process::run_until_stopped(args.stop_with_stdin, |stop| async move {
        house::run_witness(&args.data_dir, args.listen, stop).await
    })
}
