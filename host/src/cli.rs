//! What a person types: one file per command, all of them thin over the node's HTTP interface.
//!
//! Standard output is data, standard error everything else; `cli/exit.rs` holds the exit codes. Only `run`, `witness`,
//! `check`, the check at the end of `build`, and what works on the keys of a pair do so in this process, through
//! `cli/house.rs`.

#![expect(
    clippy::disallowed_methods,
    clippy::exit,
    reason = "the top floor reads the environment, ends the process, and its tasks end with it"
)]

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

mod build;
mod check;
mod completions;
mod demo;
mod deploy;
mod exit;
mod house;
mod messages;
mod new;
mod node_client;
mod output;
mod pair;
mod process;
mod project;
mod quantity;
mod run;
mod send;
mod settings;
mod signals;
mod solutions;
mod state;
mod status;
mod table;
mod target;
mod witness;

use exit::Failure;
use output::{Format, Output};

/// An automation server that does not stop.
///
/// A solution is a program that handles messages. Write one, deploy it to a node, send messages to it; every message that
/// was acknowledged is handled, whatever happens to the process in between.
#[derive(Debug, Parser)]
#[command(name = "tandem", version, propagate_version = true, max_term_width = 100)]
#[command(after_long_help = after_help())]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Print JSON on standard output, and errors as JSON on standard error
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Demo(demo::Args),
    New(new::Args),
    Build(build::Args),
    Check(check::Args),
    Deploy(deploy::Args),
    Solutions(solutions::Args),
    Send(send::Args),
    Messages(messages::Args),
    Settings(settings::Args),
    State(state::Args),
    Status(status::Args),
    Witness(witness::Args),
    Pair(pair::Args),
    Completions(completions::Args),
}

fn after_help() -> String {
    format!(
        "Examples:\n  \
           tandem demo                                  see it work, on this computer\n  \
           tandem run                                   a node on http://127.0.0.1:7400\n  \
           tandem new hello && cd hello && tandem build && tandem deploy\n\n{}",
        exit::exit_code_help()
    )
}

/// Runs what the command line says.
pub fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    let output = Output::new(if cli.json { Format::Json } else { Format::Text });
    match cli.command.run(output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure, output);
            ExitCode::from(failure.exit.code())
        }
    }
}

fn report(failure: &Failure, output: Output) {
    if failure.said {
        return;
    }
    if output.is_json() {
        output.note(failure.as_json());
    } else {
        output.note(format_args!("error: {failure}"));
    }
}

impl Command {
    fn run(self, output: Output) -> Result<(), Failure> {
        match self {
            Self::Run(args) => run::run(args),
            Self::Demo(args) => block_on(demo::run(args, output)),
            Self::New(args) => new::run(&args, output),
            Self::Build(args) => build::run(&args, output),
            Self::Check(args) => check::run(&args, output),
            Self::Deploy(args) => block_on(deploy::run(args, output)),
            Self::Solutions(args) => block_on(solutions::run(args, output)),
            Self::Send(args) => block_on(send::run(args, output)),
            Self::Messages(args) => block_on(messages::run(args, output)),
            Self::Settings(args) => block_on(settings::run(args, output)),
            Self::State(args) => block_on(state::run(args, output)),
            Self::Status(args) => block_on(status::run(args, output)),
            Self::Witness(args) => witness::run(args, output),
            Self::Pair(args) => block_on(pair::run(args, output)),
            Self::Completions(args) => completions::run(&args, &mut Cli::command(), output),
        }
    }
}

/// One thread is enough for a client.
fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed("system", format!("cannot start: {e}")))?
        .block_on(work)
}

#[cfg(test)]
mod tests;
