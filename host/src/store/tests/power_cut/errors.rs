//! The disk answers with an error at any operation: the store closes for good and says so, and nothing acknowledged is
//! lost.

use std::{path::Path, sync::mpsc, time::Duration};

use bytes::Bytes;
use rand::{SeedableRng, rngs::StdRng};

use super::{
    BEGAN_MS, Effort, Recorded, at_rest,
    check::{check, ensure},
    config,
    disk::{Disk, Fault, Image, Platter},
    history::History,
    record, seed,
    torn::Style,
    workload::{Driver, accept, deploy},
};
use crate::{
    model::clock::Clock,
    store::{
        SubmitError,
        change::{deploy::Remove, due::Due},
        open::OpenError,
        tests::name,
        writer::Job,
    },
};

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

/// What came of a few commits that may meet an error.
struct Ran {
    history: History,
    /// Operations until the store was let go.
    operations: usize,
    closed: bool,
}

fn run_into(recorded: &Recorded, disk: &Disk) -> Result<Ran, OpenError> {
    let Recorded { clock, history, .. } = recorded;
    let config = config(recorded.dir.path());
    let store = disk.open(&config, clock.clone())?;
    let mut driver = Driver::new(store, disk.clone(), clock.clone(), history.clone(), 7);
    let error = (0..4).find_map(|_| driver.step().err());
    let (operations, closed) = (disk.asked(), error.is_some());
    if let Some(error) = error {
        assert!(matches!(error, SubmitError::Closed(_)), "{error}");
        let window = disk.window();
        let again = driver.commit(|driver| driver.queue(Due { now_ms: 0 }));
        assert!(matches!(again, Err(SubmitError::Closed(_))), "it took another change: {again:?}");
        disk.set_window(window);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let failed = runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(10), driver.store.failed()).await
        });
        assert!(failed.is_ok_and(|why| !why.is_empty()), "nobody is told that it failed");
    }
    Ok(Ran { history: driver.history, operations, closed })
}

/// Whether an error of the disk is called what it is.
fn is_named(error: &OpenError, errno: i32) -> bool {
    match errno {
        ENOSPC => matches!(error, OpenError::DiskFull { .. }),
        _ => matches!(error, OpenError::Io { .. }),
    }
}

/// One error at one operation; stores that were opened after it.
fn meets(recorded: &Recorded, image: &Image, fault: Fault) -> Result<usize, String> {
    let disk = Disk::holding(image.clone(), recorded.end);
    disk.fail(fault);
    let history = match run_into(recorded, &disk) {
        Ok(Ran { history, operations, closed }) => {
            let hit = operations > fault.at;
            ensure!(closed == hit, "the error was met: {hit}, the store closed: {closed}");
            history
        }
        Err(error) => {
            ensure!(is_named(&error, fault.errno), "it did not open: {error}");
            recorded.history.clone()
        }
    };
    let (window, log) = (disk.window(), disk.take_log());
    let mut platter = Platter::new(image.clone());
    for logged in &log {
        platter.step(&logged.op);
    }
    let mut rng = StdRng::seed_from_u64(fault.at as u64);
    // The process starts again; or the machine does, and what was not synced is there or not.
    let mut images = vec![disk.files()];
    images.extend([Style::Nothing, Style::Some, Style::Shuffled].map(|s| platter.cut(s, &mut rng)));
    let stores = images.len();
    for image in images {
        let disk = Disk::holding(image, window);
        let config = config(recorded.dir.path());
        let store =
            disk.open(&config, recorded.clock.clone()).map_err(|error| error.to_string())?;
        let mut history = history.clone();
        // The commit that failed may be there or not; the driver never saw its frame.
        history.follow(&store)?;
        check(&store, window, &history)?;
    }
    Ok(stores)
}

#[test]
fn an_error_of_the_disk_closes_the_store_for_good_and_loses_nothing() {
    {
        let recorded = record(seed(), false);
        let image = at_rest(&recorded);
        let quiet = Disk::holding(image.clone(), recorded.end);
        let ran = run_into(&recorded, &quiet).unwrap();
        assert!(!ran.closed);
        let every = if Effort::usual().cuts.is_some() { 3 } else { 1 };
        let mut stores = 0;
        for (errno, stays) in [(ENOSPC, true), (EIO, false)] {
            for at in (0..quiet.asked()).step_by(every) {
                let fault = Fault { at, errno, stays };
                stores += meets(&recorded, &image, fault)
                    .unwrap_or_else(|why| panic!("seed {}, {fault:?}: {why}", seed()));
            }
        }
        println!("{} operations, {stores} stores opened after errors", quiet.asked());
    }
}

#[test]
fn a_store_that_cannot_be_made_says_what_the_disk_said() {
    let quiet = Disk::default();
    let clock = Clock::manual(BEGAN_MS);
    quiet.open(&config(Path::new("nowhere")), clock.clone()).unwrap();
    for at in 0..quiet.asked() {
        for errno in [ENOSPC, EIO] {
            let disk = Disk::default();
            disk.fail(Fault { at, errno, stays: true });
            let opened = disk.open(&config(Path::new("nowhere")), clock.clone());
            let error = opened.err();
            let named = error.as_ref().is_none_or(|error| is_named(error, errno));
            assert!(named, "errno {errno} at operation {at}: {error:?}");
        }
    }
}

#[test]
fn a_disk_that_cannot_be_read_is_not_called_a_damaged_store() {
    let recorded = record(seed(), false);
    let image = at_rest(&recorded);
    let config = config(recorded.dir.path());
    let open = |disk: Disk| disk.open(&config, recorded.clock.clone());
    let quiet = Disk::holding(image.clone(), recorded.end);
    open(quiet.clone()).unwrap();
    for from in 0..quiet.reads() {
        let disk = Disk::holding(image.clone(), recorded.end);
        disk.fail_reads(from, EIO);
        let error = open(disk).err();
        assert!(error.as_ref().is_none_or(|error| is_named(error, EIO)), "read {from}: {error:?}");
    }
}

#[test]
fn a_refusal_that_rests_on_what_was_not_kept_is_none() {
    let disk = Disk::default();
    let clock = Clock::manual(BEGAN_MS);
    let store = disk.open(&config(Path::new("nowhere")), clock.clone()).unwrap();
    let history = History::of_new(&store);
    let mut driver = Driver::new(store, disk.clone(), clock, history, 0);
    driver.commit(|driver| driver.queue(deploy("a", Bytes::from_static(b"one")))).unwrap();
    let (answers, answered) = mpsc::channel();
    let outcome = driver.commit(|driver| {
        disk.fail(Fault { at: disk.asked(), errno: EIO, stays: true });
        driver.queue(Remove { name: name("a") })?;
        // After the removal there is no such solution; but the removal is never kept.
        driver.store.submit_blocking(accept("a", Bytes::new()), move |result| {
            answers.send(result).unwrap();
        })
    });
    assert!(matches!(outcome, Err(SubmitError::Closed(_))), "{outcome:?}");
    let told = answered.recv().unwrap();
    assert!(matches!(told, Err(SubmitError::Closed(_))), "told {told:?}");
}

#[test]
fn who_had_a_place_in_the_queue_when_the_store_closed_is_told_so() {
    let disk = Disk::default();
    let clock = Clock::manual(BEGAN_MS);
    let store = disk.open(&config(Path::new("nowhere")), clock.clone()).unwrap();
    let place = store.0.writer.place();
    disk.fail(Fault { at: disk.asked(), errno: EIO, stays: true });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let failing = deploy("a", Bytes::from_static(b"one"));
    let outcome = runtime.block_on(store.submit(failing));
    assert!(matches!(outcome, Err(SubmitError::Closed(_))), "{outcome:?}");
    let why = runtime.block_on(store.failed());
    let late = runtime.block_on(store.submit(Due { now_ms: 0 }));
    assert_eq!(late.unwrap_err().to_string(), format!("the store is closed: {why}"));

    let (answers, answered) = mpsc::channel();
    place.send(Job::new(Due { now_ms: 0 }, move |result| answers.send(result).unwrap()));
    let told = answered.recv_timeout(Duration::from_secs(10)).expect("nobody answers");
    assert!(matches!(told, Err(SubmitError::Closed(_))), "{told:?}");
}
