//! Counters in the text format that Prometheus reads.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

use axum::{extract::State, http::header::CONTENT_TYPE, response::IntoResponse};

use super::{Shared, status};
use crate::net::problem::Problem;

#[expect(clippy::too_many_lines, reason = "one table of all counters")]
pub(super) async fn show(State(house): Shared) -> Result<impl IntoResponse, Problem> {
    let counters = house.store.counters();
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (dead_messages, dead_deliveries) = status::dead(&house)?;
    let archive = status::archive(&house.store.read()?)?;
    let rows = [
        (
            "tandem_messages_accepted_total",
            "counter",
            "Messages accepted since the start.",
            load(&counters.accepted),
        ),
        (
            "tandem_messages_finished_total",
            "counter",
            "Messages done or dead since the start.",
            load(&counters.finished),
        ),
        (
            "tandem_messages_queued",
            "gauge",
            "Messages waiting or scheduled.",
            load(&counters.queued),
        ),
        ("tandem_messages_dead", "gauge", "Messages in the dead letters.", dead_messages),
        (
            "tandem_attempts_stale_total",
            "counter",
            "Attempts run again because what they had read was written meanwhile.",
            house.dispatch.borrow().as_ref().map_or(0, |dispatch| dispatch.stale_attempts()),
        ),
        (
            "tandem_deliveries_delivered_total",
            "counter",
            "Effects delivered since the start.",
            load(&counters.delivered),
        ),
        ("tandem_deliveries_dead", "gauge", "Deliveries in the dead letters.", dead_deliveries),
        (
            "tandem_store_commits_total",
            "counter",
            "Commits since the start.",
            load(&counters.commits),
        ),
        (
            "tandem_store_changes_total",
            "counter",
            "Changes committed since the start.",
            load(&counters.changes),
        ),
        (
            "tandem_store_commit_microseconds",
            "gauge",
            "Time of a commit, moving average.",
            load(&counters.commit_us),
        ),
        (
            "tandem_store_journal_bytes",
            "gauge",
            "Bytes of journal kept.",
            load(&counters.journal_bytes),
        ),
        (
            "tandem_store_file_bytes",
            "gauge",
            "Bytes of the tables' file.",
            house.store.file_bytes(),
        ),
        ("tandem_archive_segments", "gauge", "Segments of finished messages.", archive.segments),
        ("tandem_archive_messages", "gauge", "Messages in segments.", archive.messages),
        ("tandem_archive_bytes", "gauge", "Bytes of the segments' files.", archive.bytes),
        (
            "tandem_archive_oldest_seconds",
            "gauge",
            "Unix time of the oldest message in a segment; 0 without any.",
            archive.oldest_ms.unwrap_or(0) / 1000,
        ),
        (
            "tandem_disk_free_bytes",
            "gauge",
            "Bytes free on its disk.",
            house.store.disk_free_bytes().unwrap_or(0),
        ),
        ("tandem_epoch", "gauge", "Epoch of the journal.", load(&counters.epoch)),
        ("tandem_seq", "gauge", "Number of the last frame.", load(&counters.seq)),
    ];
    let pair = house.pair.as_ref().map(|pair| {
        let help = "1 if the standby of the pair could take over, as far as this node knows.";
        ("tandem_standby_ready", "gauge", help, u64::from(pair.is_ready()))
    });
    let mut text = String::new();
    for (name, kind, help, value) in rows.into_iter().chain(pair) {
        writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}")
            .expect("a string takes all text");
    }
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4")], text))
}
