//! `tandem run`: a node in this process, until it is asked to stop.

use std::{io::IsTerminal, net::SocketAddr, path::PathBuf};

use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use crate::node::config::{Log, LogFormat};

use super::{
    exit::{Exit, Failure},
    house::{self, Overrides},
    signals::Signals,
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
    start_log(&config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed("system", format!("cannot start threads: {e}")))?;
    let ended = runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let signals = Signals::new()?;
        if args.stop_with_stdin {
            stop_with_stdin(stop.clone())?;
        }
        tokio::spawn(stop_with_signals(signals, stop));
        house::run_node(&config, stopped).await
    });
    // A component that does not come back must not keep the process: the store is closed by now.
    runtime.shutdown_background();
    ended
}

fn start_log(log: &Log) {
    let filter =
        EnvFilter::try_from_env("TANDEM_LOG").unwrap_or_else(|_| EnvFilter::new(log.level.word()));
    let colour = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colour)
        .with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
}

/// The first Ctrl-C or SIGTERM stops in order, the second at once.
async fn stop_with_signals(mut signals: Signals, stop: watch::Sender<bool>) {
    signals.next().await;
    stop.send_replace(true);
    signals.next().await;
    tracing::warn!("stopped at once");
    std::process::exit(Exit::Failed.code().into());
}

fn stop_with_stdin(stop: watch::Sender<bool>) -> Result<(), Failure> {
    // A thread of its own: a blocked read of tokio's would hold up the end of the runtime.
    let thread = std::thread::Builder::new().name("stdin".to_owned());
    let wait = move || {
        // Whether it ends or breaks: whoever held it is gone.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        stop.send_replace(true);
    };
    thread
        .spawn(wait)
        .map(drop)
        .map_err(|e| Failure::failed("system", format!("cannot start a thread: {e}")))
}
