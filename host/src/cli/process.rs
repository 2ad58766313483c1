//! A process that runs until it is asked to stop: its log, its threads, its signals.

use std::io::IsTerminal;

use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use crate::node::config::LogFormat;

use super::{
    exit::{Exit, Failure},
    signals::Signals,
};

/// Runs `work`, which ends when what it is given turns true.
pub fn run_until_stopped<W: Future<Output = Result<(), Failure>>>(
    also_with_stdin: bool,
    work: impl FnOnce(watch::Receiver<bool>) -> W,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed("system", format!("cannot start threads: {e}")))?;
    let ended = runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let signals = Signals::new()?;
        if also_with_stdin {
            stop_with_stdin(stop.clone())?;
        }
        tokio::spawn(stop_with_signals(signals, stop));
        work(stopped).await
    });
    // What does not come back, such as a component, must not keep the process: the store is closed by now.
    runtime.shutdown_background();
    ended
}

/// Log lines go to standard error: those of `level`, unless `TANDEM_LOG` says otherwise.
pub fn start_log(level: &str, format: LogFormat) {
    let filter = EnvFilter::try_from_env("TANDEM_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let colour = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colour)
        .with_writer(std::io::stderr);
    match format {
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
