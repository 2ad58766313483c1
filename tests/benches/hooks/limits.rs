//! What the disk and redb can do on their own: nothing that is durable is faster on this machine.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use redb::{Database, TableDefinition};

use crate::{
    Outcome, Round,
    load::{BATCH, body},
    quantile,
};

const PAGE: [u8; 4096] = [7; 4096];
/// Of the file that pages are written to, over and over.
const PAGES: u64 = 4096;

const MESSAGES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("messages");
/// As a node's, if nothing is said.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// How redb commits.
#[derive(Clone, Copy)]
pub enum Commit {
    /// In two phases with quick repair, as a node's checkpoints do.
    Safe,
    /// With one fsync.
    Fast,
}

/// One write of 4 KiB and fdatasync after the other, in a file that has its size.
pub fn fdatasync(time: Duration) -> Outcome<Round> {
    let folder = tempfile::tempdir()?;
    let file = File::create_new(folder.path().join("pages"))?;
    for page in 0..PAGES {
        file.write_all_at(&PAGE, page * 4096)?;
    }
    file.sync_all()?;
    let mut page = 0;
    repeat(time, 1, || {
        page = (page + 1) % PAGES;
        file.write_all_at(&PAGE, page * 4096)?;
        Ok(file.sync_data()?)
    })
}

/// As many bodies as a batch has, in one table, under keys that go up; one commit after the other.
pub fn redb(commit: Commit, time: Duration) -> Outcome<Round> {
    let folder = tempfile::tempdir()?;
    let mut builder = Database::builder();
    let db = builder.set_cache_size(CACHE_BYTES).create(folder.path().join("messages.redb"))?;
    let body = body();
    let mut id = 0_u128;
    repeat(time, BATCH, || {
        let mut txn = db.begin_write()?;
        if matches!(commit, Commit::Safe) {
            txn.set_two_phase_commit(true);
            txn.set_quick_repair(true);
        }
        let mut table = txn.open_table(MESSAGES)?;
        for _ in 0..BATCH {
            id += 1;
            table.insert(id.to_be_bytes().as_slice(), body.as_bytes())?;
        }
        drop(table);
        Ok(txn.commit()?)
    })
}

fn repeat(
    time: Duration,
    messages: usize,
    mut step: impl FnMut() -> Outcome<()>,
) -> Outcome<Round> {
    let began = Instant::now();
    let mut times = Vec::new();
    while began.elapsed() < time {
        let one = Instant::now();
        step()?;
        times.push(one.elapsed());
    }
    let per_second = (times.len() * messages) as f64 / began.elapsed().as_secs_f64();
    times.sort_unstable();
    Ok(Round {
        accepted: per_second,
        handled: per_second,
        p50: quantile(&times, 0.5),
        p99: quantile(&times, 0.99),
    })
}
