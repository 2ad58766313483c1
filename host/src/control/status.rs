//! How the node is.

use std::sync::atomic::Ordering;

use axum::{Json, extract::State};

use super::{House, Shared, pair, solutions, wire};
use crate::{
    model::pair::Role,
    net::problem::Problem,
    store::{
        ReadError, Snapshot,
        row::{Row, dead_letter::DeadLetterRow, head::FORMAT},
        table::Table,
    },
};

/// Ready as long as messages can be kept.
pub(super) async fn ready(State(house): Shared) -> Result<&'static str, Problem> {
    house.store.read()?;
    Ok("ready\n")
}

pub(super) async fn show(State(house): Shared) -> Result<Json<wire::Status>, Problem> {
    let counters = house.store.counters();
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let solutions = solutions::summaries(&house)?;
    let (dead, dead_deliveries) = dead(&house)?;
    let snapshot = house.store.read()?;
    let disk_free_bytes = house.store.disk_free_bytes().unwrap_or(0);
    Ok(Json(wire::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: house.node.clone(),
        role: house.pair.as_ref().map_or(Role::Primary, pair::Pair::role).word().to_owned(),
        epoch: load(&counters.epoch),
        seq: load(&counters.seq),
        started_ms: house.started_ms,
        now_ms: house.clock.now_ms(),
        data_dir: house.data_dir.clone(),
        listen: house.listen.clone(),
        store: wire::StoreStatus {
            format: FORMAT,
            file_bytes: house.store.file_bytes(),
            disk_free_bytes,
            commits: load(&counters.commits),
            commit_us: load(&counters.commit_us),
        },
        archive: archive(&snapshot)?,
        messages: wire::Counts {
            queued: load(&counters.queued),
            accepted: load(&counters.accepted),
            handled: load(&counters.finished),
            dead,
        },
        deliveries: wire::DeliveryCounts {
            pending: snapshot.len(Table::Outbox)?.saturating_sub(dead_deliveries),
            delivered: load(&counters.delivered),
            dead: dead_deliveries,
        },
        warnings: warnings(&house, &solutions),
        solutions,
    }))
}

/// What the archive holds.
pub(super) fn archive(snapshot: &Snapshot) -> Result<wire::ArchiveStatus, ReadError> {
    let mut archive = wire::ArchiveStatus::default();
    for (key, row) in snapshot.segments()? {
        archive.segments += 1;
        archive.messages += u64::from(row.messages);
        archive.bytes += row.bytes;
        let first_ms = key.first.time_ms();
        archive.oldest_ms = Some(archive.oldest_ms.map_or(first_ms, |ms| ms.min(first_ms)));
    }
    Ok(archive)
}

/// Dead messages and dead deliveries.
pub(super) fn dead(house: &House) -> Result<(u64, u64), ReadError> {
    let (mut messages, mut deliveries) = (0, 0);
    house.store.read()?.table(Table::DeadLetters)?.scan(&[], |_, value| {
        let row = DeadLetterRow::decode(value)?;
        *(if row.outbox.is_some() { &mut deliveries } else { &mut messages }) += 1;
        Ok(true)
    })?;
    Ok((messages, deliveries))
}

fn warnings(house: &House, solutions: &[wire::SolutionSummary]) -> Vec<String> {
    let mut warnings = match &house.pair {
        Some(pair) => pair.warnings(),
        None => vec![
            "This node has no standby: a receipt means one disk, and the loss of the disk loses messages.".to_owned(),
        ],
    };
    if let Some(free) = house.store.disk_low() {
        warnings.push(format!(
            "The disk is nearly full ({} MiB left): new messages are refused with 507.",
            free >> 20
        ));
    }
    for solution in solutions.iter().filter(|solution| solution.state != "running") {
        let reason = solution.reason.as_deref().unwrap_or("no reason given");
        warnings.push(format!("Solution {} is {}: {reason}.", solution.name, solution.state));
    }
    warnings
}
