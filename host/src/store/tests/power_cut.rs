//! The power goes at any operation of the disk, and goes again while the store recovers: what has a receipt is there,
//! nothing is handled twice, and all tables agree.
//!
//! A run tries a sample that its seed chooses. `TANDEM_POWER_CUT=all` tries every operation and every way in which
//! writes can be lost; `TANDEM_POWER_CUT_SEED=n` takes another seed, and makes a failure again.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use self::{
    check::{check, check_indexes, ensure, highest},
    disk::{Disk, Image, Logged, Platter, Window},
    history::{Attempt, History, Kept},
    torn::Style,
    workload::{Driver, accept, deploy, ready, request},
};
use crate::{
    contract::handler::Effects,
    model::clock::Clock,
    store::{
        Config, Store, SubmitError,
        pieces::PIECE_BYTES,
        row::{
            Row,
            life::{LifeRow, StatusRow},
        },
        table::Table,
    },
};

mod archiving;
mod check;
mod disk;
mod errors;
mod history;
mod seeds;
mod torn;
mod workload;

/// Commits of the workload are about as many.
const STEPS: usize = 130;
/// Frames beyond it go: some do.
const JOURNAL_BYTES: u64 = 200_000;
/// A few commits.
const CHECKPOINT_BYTES: u64 = 8_000;
const BEGAN_MS: u64 = 1_700_000_000_000;

#[expect(clippy::disallowed_methods, reason = "how much is tried is the tester's choice")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn seed() -> u64 {
    environment("TANDEM_POWER_CUT_SEED").map_or(20_260, |seed| seed.parse().unwrap())
}

/// Only segments are in the folder; what one holds is durable before the store names it.
fn config(dir: &Path) -> Config {
    Config {
        dir: dir.to_owned(),
        cache_bytes: 4 << 20,
        reserve_bytes: 0,
        journal_bytes: JOURNAL_BYTES,
        kept_bytes: JOURNAL_BYTES,
        checkpoint_bytes: CHECKPOINT_BYTES,
        paired: false,
    }
}

/// A workload that was driven to its end, with the disk as it was at every moment.
struct Recorded {
    seed: u64,
    dir: tempfile::TempDir,
    log: Vec<Logged>,
    /// Where in the log the store was there.
    made: usize,
    end: Window,
    clock: Clock,
    history: History,
}

fn record(seed: u64, lies: bool) -> Recorded {
    let disk = Disk::default();
    let (clock, dir) = (Clock::manual(BEGAN_MS), tempfile::tempdir().unwrap());
    let config = config(dir.path());
    let store = disk.open(&config, clock.clone()).unwrap();
    let made = disk.asked();
    if lies {
        disk.lie();
    }
    let history = History::of_new(&store);
    let mut driver = Driver::new(store, disk.clone(), clock.clone(), history, seed);
    driver.deploy_all().unwrap();
    let long = accept("a", vec![7; 2 * PIECE_BYTES + 1].into());
    driver.commit(|driver| driver.queue_new(long)).unwrap();
    for _ in 0..STEPS {
        driver.step().unwrap();
    }
    // Some seeds move little before.
    for _ in 0..60 {
        if !driver.history.last().archived.are_rich() {
            driver.step().unwrap();
            driver.commit(Driver::some_archived).unwrap();
        }
    }
    let Driver { store, history, .. } = driver;
    drop(store);
    clock.advance(Duration::from_secs(5));
    let (log, end) = (disk.take_log(), disk.window());
    Recorded { seed, dir, log, made, end, clock, history }
}

/// How much is tried.
#[derive(Debug, Clone, Copy)]
struct Effort {
    /// Operations at which the power goes; without a bound all.
    cuts: Option<usize>,
    /// Ways in which writes are lost, at each.
    styles: usize,
    /// Second cuts after each.
    second: usize,
}

impl Effort {
    fn usual() -> Self {
        if environment("TANDEM_POWER_CUT").is_some_and(|how| how == "all") {
            return Self { cuts: None, styles: Style::ALL.len(), second: 4 };
        }
        Self { cuts: Some(120), styles: 2, second: 3 }
    }
}

/// What was tried.
#[derive(Debug, Default)]
struct Tally {
    operations: usize,
    images: usize,
    second: usize,
    /// Cuts after which a commit was there that nobody had been told of.
    ahead: usize,
}

/// Cuts the power at operations of the log; the first store that is not right ends it.
fn try_cuts(recorded: &Recorded, effort: Effort) -> Result<Tally, String> {
    let Recorded { log, made, end, seed, .. } = recorded;
    let mut rng = StdRng::seed_from_u64(*seed);
    let mut tally = Tally { operations: log.len() - made, ..Tally::default() };
    let cuts = effort.cuts.unwrap_or(usize::MAX).min(tally.operations);
    let mut platter = Platter::new(Image::default());
    for (at, Logged { op, window }) in log.iter().enumerate() {
        let sync = op.is_sync();
        if !sync {
            platter.step(op);
        }
        // So many of so many operations, each with the same chance.
        if at >= *made && rng.random_range(0..tally.operations) < cuts {
            try_cut(recorded, effort, &platter, at, *window, &mut tally)?;
        }
        if sync {
            platter.step(op);
        }
    }
    try_cut(recorded, effort, &platter, log.len(), *end, &mut tally)?;
    Ok(tally)
}

fn try_cut<'a>(
    recorded: &'a Recorded,
    effort: Effort,
    platter: &Platter<'a>,
    at: usize,
    window: Window,
    tally: &mut Tally,
) -> Result<(), String> {
    let seed = recorded.seed.wrapping_mul(1_000_003).wrapping_add(at as u64);
    let mut rng = StdRng::seed_from_u64(seed);
    for style in Style::ALL.choose_multiple(&mut rng.clone(), effort.styles) {
        let image = platter.cut(*style, &mut rng);
        // The process dies at first, and the power goes later: what was not synced by then was never safe.
        let killed = *style == Style::Everything;
        let base = if killed { platter.clone() } else { Platter::new(image.clone()) };
        tally.images += 1;
        let lived = catch_unwind(AssertUnwindSafe(|| {
            live_on(recorded, image, base, window, effort.second, &mut rng, tally)
        }));
        let lived = lived.unwrap_or_else(|_| Err("it panicked".to_owned()));
        lived.map_err(|why| {
            let seed = recorded.seed;
            format!("seed {seed}, cut at operation {at}, {style:?} kept, {window:?}: {why}")
        })?;
    }
    Ok(())
}

/// Opens what a power cut left, checks it, works on; and cuts the power while it does, once more. What the second cut
/// leaves is told by `base` and what was done since.
fn live_on<'a>(
    recorded: &'a Recorded,
    image: Image,
    base: Platter<'a>,
    window: Window,
    second: usize,
    rng: &mut StdRng,
    tally: &mut Tally,
) -> Result<(), String> {
    let Recorded { clock, history, dir, .. } = recorded;
    let config = config(dir.path());
    let disk = Disk::holding(image, window);
    let store = disk.open(&config, clock.clone()).map_err(|error| error.to_string())?;
    let opened = disk.asked();
    let head = check(&store, window, history)?;
    tally.ahead += usize::from(head > window.acked);
    let redone = history.attempts.iter().rfind(|attempt| attempt.seq <= head + 1);
    let mut history = history.clone();
    history.back_to(head);
    // What a reader saw may have gone out: it is never taken back.
    disk.set_window(Window { acked: head, tried: head });
    let mut driver = Driver::new(store, disk.clone(), clock.clone(), history, 0);
    redone.map_or(Ok(()), |attempt| hand_in_again(&mut driver, *attempt, head))?;
    driver.finish_sweeps()?;
    work(&mut driver)?;
    let Driver { store, history, .. } = driver;
    drop(store);

    let (log, end) = (disk.take_log(), disk.window());
    let mut cuts = vec![log.len(), opened];
    // Most of them while it recovers.
    for n in 2..second {
        let until = if n % 3 == 0 { log.len() } else { opened };
        cuts.push(rng.random_range(0..=until.min(log.len())));
    }
    let mut platter = base;
    for at in 0..=log.len() {
        let (window, op) = log.get(at).map_or((end, None), |l| (l.window, Some(&l.op)));
        let sync = op.is_none_or(disk::Op::is_sync);
        op.filter(|_| !sync).into_iter().for_each(|op| platter.step(op));
        for _ in cuts.iter().filter(|cut| **cut == at) {
            tally.second += 1;
            let style = *Style::ALL.choose(rng).expect("there are some");
            let disk = Disk::holding(platter.cut(style, rng), window);
            let checked = disk
                .open(&config, clock.clone())
                .map_err(|error| error.to_string())
                .and_then(|store| check(&store, window, &history));
            checked.map_err(|why| {
                format!("cut again at operation {at} ({opened} to open), {style:?} kept: {why}")
            })?;
        }
        op.filter(|_| sync).into_iter().for_each(|op| platter.step(op));
    }
    Ok(())
}

/// The last attempt comes once more: as one that was kept it counts for nothing, as one that was lost it counts.
fn hand_in_again(driver: &mut Driver, last: Attempt, head: u64) -> Result<(), String> {
    let effects =
        Effects { outbox: vec![request(Bytes::from_static(b"again"))], ..Effects::default() };
    driver
        .commit(|driver| driver.queue_settle(last, effects))
        .map_err(|error| error.to_string())?;
    if last.seq <= head {
        ensure!(driver.history.head() == head, "an attempt on {} counted twice", last.id);
        return Ok(());
    }
    let life = driver.history.last().rows.get(&(Table::Lives, last.id.0.to_vec())).cloned();
    let life =
        life.map(|life| LifeRow::decode(&life).unwrap()).ok_or("a lost attempt stays lost")?;
    let attempts = life.attempts.len();
    ensure!(attempts == last.earlier as usize + 1, "{} has {attempts} attempts", last.id);
    ensure!(life.status == StatusRow::Done, "{} is {:?}", last.id, life.status);
    Ok(())
}

/// The store goes on: a message is taken and handled, with an id and a place above all before.
fn work(driver: &mut Driver) -> Result<(), String> {
    let closed = |error: SubmitError| error.to_string();
    let (ordinal, id) = highest(&driver.history.last().rows);
    driver
        .commit(|driver| driver.queue(deploy("after", Bytes::from_static(b"component"))))
        .map_err(closed)?;
    let accepted = driver
        .commit(|driver| driver.queue_new(accept("after", Bytes::from_static(b"body"))))
        .map_err(closed)?;
    let [new] = accepted[..] else { return Err(format!("accepted {accepted:?}")) };
    ensure!(Some(new) > id, "message {new} sorts before {id:?}");
    let waiting = ready(&driver.history.last().rows, driver.next_seq());
    let ours = waiting.into_iter().find(|attempt| attempt.id == new);
    let ours = ours.ok_or("a new message is not ready")?;
    ensure!(ours.ordinal > ordinal, "place {} comes before {ordinal}", ours.ordinal);
    let state = vec![("k".to_owned(), Some(Bytes::from_static(b"v")))];
    let effects = Effects { state, outbox: vec![request(Bytes::new())], ..Effects::default() };
    driver.commit(|driver| driver.queue_settle(ours, effects)).map_err(closed)?;
    let life = driver.history.last().rows.get(&(Table::Lives, new.0.to_vec())).cloned();
    let done = life.is_some_and(|life| LifeRow::decode(&life).unwrap().status == StatusRow::Done);
    ensure!(done, "a new message was not handled");
    Ok(())
}

/// A workload that leaves a table empty proves nothing about it.
fn is_rich(recorded: &Recorded) {
    let history = &recorded.history;
    let ever = |table| {
        let has = |kept: &Arc<Kept>| kept.rows.keys().any(|(of, _)| *of == table);
        history.commits.iter().any(has)
    };
    let empty: Vec<_> = Table::ALL.into_iter().filter(|table| !ever(*table)).collect();
    assert!(empty.is_empty(), "seed {}: nothing was ever in {empty:?}", recorded.seed);
    let journal: usize = history.commits.iter().map(|kept| kept.frame.len()).sum();
    assert!(journal as u64 > JOURNAL_BYTES, "the journal never came to its bound");
    assert!(history.receipts.len() > 50 && history.attempts.len() > 50, "few messages");
    assert!(history.last().archived.are_rich(), "few messages moved, or none of them went");
    let cut = |((table, _), value): (&(Table, Vec<u8>), &Bytes)| {
        value.len() > PIECE_BYTES && !matches!(table, Table::Blobs | Table::State)
    };
    let long = |kept: &Arc<Kept>| kept.rows.iter().any(cut);
    assert!(history.commits.iter().any(long), "no value was ever cut");
}

#[test]
fn a_store_survives_power_cuts() {
    let recorded = record(seed(), false);
    is_rich(&recorded);
    match try_cuts(&recorded, Effort::usual()) {
        Ok(tally) => println!("seed {}: {tally:?}", recorded.seed),
        Err(why) => panic!("{why}"),
    }
}

#[test]
fn a_disk_that_lies_about_syncs_is_found_out() {
    let recorded = record(seed(), true);
    let effort = Effort { cuts: Some(200), styles: 1, second: 1 };
    let why = try_cuts(&recorded, effort).expect_err("syncs that were not done lost nothing");
    println!("{why}");
}

#[test]
fn tables_that_disagree_are_found_out() {
    let recorded = record(seed(), false);
    let commits = &recorded.history.commits;
    let found_out = |table: Table| {
        commits.iter().step_by(5).any(|kept| {
            let keys = kept.rows.keys().filter(|(of, key)| *of == table && !key.is_empty());
            keys.into_iter().any(|key| {
                let mut rows = kept.rows.clone();
                rows.remove(key).is_some() && check_indexes(&rows, &kept.archived).is_err()
            })
        })
    };
    let tables = [
        Table::Solutions,
        Table::Blobs,
        Table::Messages,
        Table::Ready,
        Table::Timers,
        Table::Lives,
        Table::Outbox,
        Table::Deliveries,
        Table::DeadLetters,
        Table::Segments,
    ];
    for table in tables {
        assert!(found_out(table), "a missing row of {table:?} went unnoticed");
    }
}

/// The disk as the workload left it, for what comes after.
fn at_rest(recorded: &Recorded) -> Image {
    let mut platter = Platter::new(Image::default());
    recorded.log.iter().for_each(|logged| platter.step(&logged.op));
    platter.cut(Style::Everything, &mut StdRng::seed_from_u64(0))
}

#[test]
fn a_store_that_was_half_made_is_made_anew() {
    let disk = Disk::default();
    let clock = Clock::manual(BEGAN_MS);
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    drop(disk.open(&config, clock.clone()).unwrap());
    let log = disk.take_log();
    let mut platter = Platter::new(Image::default());
    let mut rng = StdRng::seed_from_u64(seed());
    for (at, logged) in log.iter().enumerate() {
        let style = *Style::ALL.choose(&mut rng).expect("there are some");
        let [tables, journal] = platter.cut(style, &mut rng);
        std::fs::write(dir.path().join("store.redb.new"), tables).unwrap();
        std::fs::write(dir.path().join("store.journal"), journal).unwrap();
        let store = Store::open(&config, clock.clone())
            .unwrap_or_else(|error| panic!("cut at operation {at}, {style:?} kept: {error}"));
        assert_eq!(store.read().unwrap().head().unwrap().position.seq, 0);
        drop(store);
        let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        assert_eq!(names, ["store.journal", "store.redb"]);
        std::fs::remove_file(dir.path().join("store.redb")).unwrap();
        platter.step(&logged.op);
    }
}
