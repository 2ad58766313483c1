//! `tandem:solution/log`: lines for the operator.

use crate::{
    contract::handler,
    runtime::{
        attempt::Attempt,
        bindings::tandem::solution::log::{Host, Level},
    },
};

impl Host for Attempt {
    fn log(&mut self, level: Level, line: String) {
        let level = match level {
            Level::Debug => handler::Level::Debug,
            Level::Info => handler::Level::Info,
            Level::Warn => handler::Level::Warn,
            Level::Error => handler::Level::Error,
        };
        self.lines.push(level, &line);
    }
}
