//! What nodes say, with the simulated time and the host that says it.

use std::{cell::Cell, fmt, time::Duration};

use tracing_subscriber::{
    EnvFilter,
    fmt::{format::Writer, time::FormatTime},
};

thread_local! {
    static NOW: Cell<(&'static str, Duration)> = const { Cell::new(("", Duration::ZERO)) };
}

/// From now on that host speaks.
pub fn on(host: &'static str, now: Duration) {
    NOW.set((host, now));
}

struct Simulated;

impl FormatTime for Simulated {
    fn format_time(&self, to: &mut Writer<'_>) -> fmt::Result {
        let (host, now) = NOW.get();
        write!(to, "{:>9.3} s  {host:<8}", now.as_secs_f64())
    }
}

/// Shows everything at this level and above.
pub fn show(filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_timer(Simulated)
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
}
