//! graphile-worker: a web hook that adds a job, and a worker whose jobs do in PostgreSQL what `lean` does in a node.

use std::{net::SocketAddr, time::Duration};

use tandem_tests::Request;

use crate::{
    Outcome, Server, npm,
    postgres::Postgres,
    process::{Process, free_address, wait, wait_for_hook},
};

/// How jobs are kept by the hook and taken by the worker.
pub struct Use {
    hook: &'static str,
    /// Of the worker, beside 24 jobs at once.
    preset: &'static str,
}

/// One by one, as its examples do.
pub const ALONE: Use = Use { hook: "alone", preset: "{}" };
/// As in "Performance" of its documentation: many jobs are added, taken and completed at a time.
pub const TOGETHER: Use = Use {
    hook: "together",
    preset: r#"{"localQueue":{"size":500},"completeJobBatchDelay":0,"failJobBatchDelay":0}"#,
};

/// They go in this order.
pub struct Graphile {
    _worker: Process,
    _hook: Process,
    address: SocketAddr,
    _postgres: Postgres,
}

impl Graphile {
    pub fn start(how: &Use) -> Outcome<Box<dyn Server>> {
        let postgres = Postgres::start()?;
        let node = |arguments: &[&str]| -> Outcome<Process> {
            let mut command = npm::node()?;
            postgres.tell(command.args(arguments));
            Process::spawn(&mut command)
        };
        let address = free_address()?;
        let hook = node(&["hook.mjs", &address.port().to_string(), how.hook])?;
        wait_for_hook("graphile-worker's hook", address)?;
        let worker = node(&["worker.mjs", how.preset])?;
        Ok(Box::new(Self { _worker: worker, _hook: hook, address, _postgres: postgres }))
    }
}

impl Server for Graphile {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn wait_until_idle(&self, patience: Duration) -> Outcome<()> {
        wait("all jobs are done", patience, || {
            let answer = Request::new("GET", "/").send(self.address)?;
            Ok(answer.json()["idle"] == true)
        })
    }
}
