//! What can be said on the command line.

use std::sync::OnceLock;

use clap::Parser;

use crate::{
    Outcome,
    faults::{self, Fault},
};

/// Does to a pair of nodes, really running on machines of their own, what may happen to one, and checks that what was
/// promised holds. Needs root on Linux, /dev/net/tun, iproute2 and util-linux; says NOT TESTED where it may not.
#[derive(Debug, Parser)]
#[command(name = "chaos", after_help = EXAMPLES)]
pub struct Arguments {
    /// How long faults happen
    #[arg(long, default_value_t = 3.0)]
    pub minutes: f64,
    /// What decides which fault is next; one is chosen and told if none is given
    #[arg(long)]
    seed: Option<u64>,
    /// Lists the faults, and does nothing else
    #[arg(long)]
    pub list: bool,
    /// Only these faults
    #[arg(long, value_name = "FAULT", value_delimiter = ',', num_args = 1..)]
    only: Vec<String>,
    /// All but these
    #[arg(long, value_name = "FAULT", value_delimiter = ',', num_args = 1..)]
    without: Vec<String>,
    /// No witness, but this policy: act, accept-only or manual. With `act`, what both nodes did while they were apart may be
    /// there twice, which is counted; that nothing is lost is checked
    #[arg(long, value_name = "POLICY", value_parser = ["act", "accept-only", "manual"])]
    pub no_witness: Option<String>,
    /// How soon silence counts as failure: calm, fast or lan
    #[arg(long, default_value = "fast", value_parser = ["calm", "fast", "lan"])]
    pub profile: String,
    /// Upgrades instead of faults: this program, or what this revision builds to, and this one in every pairing
    #[arg(long, value_name = "PROGRAM|REVISION")]
    pub from: Option<String>,
    /// The report as JSON on standard output
    #[arg(long)]
    pub json: bool,
    #[arg(skip)]
    chosen: OnceLock<u64>,
}

const EXAMPLES: &str = "Examples:
  chaos --minutes 30 --seed 7
  chaos --list
  chaos --only kill-primary,pause,cut-peer --minutes 1
  chaos --no-witness act --minutes 5
  chaos --from HEAD~1
  chaos --from /usr/local/bin/tandem --json > report.json

Exit code 0: all holds, or it could not be tested here. 1: what does not hold is told, with the folder of the logs.";

impl Arguments {
    /// Told, or chosen once.
    pub fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(|| *self.chosen.get_or_init(|| u64::from(rand::random::<u16>())))
    }

    pub fn faults(&self) -> Outcome<Vec<&'static Fault>> {
        let unknown =
            self.only.iter().chain(&self.without).find(|name| Fault::named(name).is_none());
        if let Some(name) = unknown {
            return Err(format!("there is no fault `{name}`; --list shows them all").into());
        }
        let is_wanted = |fault: &&Fault| {
            let is_in = |names: &[String]| names.iter().any(|name| name == fault.name);
            (self.only.is_empty() || is_in(&self.only)) && !is_in(&self.without)
        };
        let faults: Vec<_> = faults::ALL.iter().filter(is_wanted).collect();
        if faults.is_empty() {
            return Err("no fault is left: look at --only and --without".into());
        }
        Ok(faults)
    }
}
