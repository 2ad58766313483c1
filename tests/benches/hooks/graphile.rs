//! graphile-worker: a web hook that adds a job, and a worker whose jobs do in PostgreSQL what `lean` does in a node.

use std::{net::SocketAddr, time::Duration};

use tandem_tests::Request;

use crate::{
    Outcome, Server, npm,
    postgres::Postgres,
    process::{Process, free_address, wait, wait_for_hook},
};

/// 24 jobs at once, each taken and completed by itself.
pub const ONE_BY_ONE: &str = "{}";
/// As in "Performance" of its documentation: jobs are taken and completed many at a time.
pub const BATCHING: &str =
    r#"{"localQueue":{"size":500},"completeJobBatchDelay":0,"failJobBatchDelay":0}"#;

/// They go in this order.
pub struct Graphile {
    _worker: Process,
    _hook: Process,
    address: SocketAddr,
    _postgres: Postgres,
}

impl Graphile {
    pub fn start(preset: &str) -> Outcome<Box<dyn Server>> {
        let postgres = Postgres::start()?;
        let node = |script: &str, argument: &str| -> Outcome<Process> {
            let mut command = npm::node()?;
            postgres.tell(command.args([script, argument]));
            Process::spawn(&mut command)
        };
        let address = free_address()?;
        let hook = node("hook.mjs", &address.port().to_string())?;
        wait_for_hook("graphile-worker's hook", address)?;
        let worker = node("worker.mjs", preset)?;
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
