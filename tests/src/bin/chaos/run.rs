//! A run: faults from a seed, one or two at a time, while senders send; then everything is healed and checked.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tandem_tests::Receiver;

use crate::{
    Outcome,
    checker::{self, Figures},
    cluster::Cluster,
    faults::{Begun, Dice, End, Fault},
    history::{Episode, Route},
    hosts::At,
    lock,
    senders::{self, Senders},
};

/// From the last healing until receipts are on two disks again.
pub const BOUND: Duration = Duration::from_mins(1);
/// How often another fault begins while one lasts.
const TWO_AT_A_TIME: f64 = 0.35;
/// How often the next one begins before the pair is whole.
const IN_A_HURRY: f64 = 0.25;
/// Between two faults with whole pair.
const REST: Duration = Duration::from_millis(700);

/// A fault that lasts.
struct Lasting {
    fault: &'static Fault,
    began: Instant,
    until: Instant,
    end: End,
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        let receiver = Receiver::closed_at(At::Outside.address(9000));
        receiver.open();
        let random = StdRng::seed_from_u64(seed);
        Self { random, revision: 0, versions: [Some(0); Route::ALL.len()], setting: None, receiver }
    }
}

/// Senders for a pair.
pub fn senders(cluster: &Cluster) -> Senders {
    Senders::start(&cluster.history, senders::targets(), At::Outside.address(9000))
}

/// Faults, for so long.
pub fn faults(
    cluster: &mut Cluster,
    dice: &mut Dice,
    faults: &[&'static Fault],
    time: Duration,
) -> Outcome<()> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        episode(cluster, dice, faults)?;
        if !dice.random.random_bool(IN_A_HURRY) {
            whole(cluster)?;
            cluster.pass(REST);
        }
    }
    Ok(())
}

/// One or two faults, each from its beginning to its end.
fn episode(cluster: &mut Cluster, dice: &mut Dice, faults: &[&'static Fault]) -> Outcome<()> {
    let mut lasting = Vec::new();
    begin(cluster, dice, faults, &mut lasting)?;
    if dice.random.random_bool(TWO_AT_A_TIME) {
        let pause = dice.random.random_range(0..1_000);
        cluster.pass(Duration::from_millis(pause));
        begin(cluster, dice, faults, &mut lasting)?;
    }
    lasting.sort_by_key(|one: &Lasting| one.until);
    for Lasting { fault, began, until, end } in lasting {
        cluster.pass(until.saturating_duration_since(Instant::now()));
        end.end(cluster, dice)?;
        let lasted = began.elapsed().as_secs_f64();
        cluster.history.tell(&format!("  healed: {} after {lasted:.1} s", fault.name));
        note(cluster, fault, began);
    }
    Ok(())
}

fn begin(
    cluster: &mut Cluster,
    dice: &mut Dice,
    faults: &[&'static Fault],
    lasting: &mut Vec<Lasting>,
) -> Outcome<()> {
    let fault = *faults.choose(&mut dice.random).ok_or("there is no fault to choose from")?;
    if lasting.iter().any(|other| other.fault.name == fault.name) {
        return Ok(());
    }
    let time = fault.lasts(dice);
    let began = Instant::now();
    match fault.begin(cluster, dice) {
        Begun::Not(why) => cluster.history.tell(&format!("{}: left out, {why}", fault.name)),
        Begun::Over(how) => {
            let took = began.elapsed().as_secs_f64();
            cluster.history.tell(&format!("{}: {how}, in {took:.1} s", fault.name));
            note(cluster, fault, began);
        }
        Begun::Lasting(how, end) => {
            let seconds = time.as_secs_f64();
            cluster.history.tell(&format!("{}: {how}; for {seconds:.1} s", fault.name));
            lasting.push(Lasting { fault, began, until: Instant::now() + time, end });
        }
    }
    Ok(())
}

fn note(cluster: &Cluster, fault: &Fault, began: Instant) {
    let episode = Episode { fault: fault.name, began, healed: Instant::now() };
    lock(&cluster.history.seen).episodes.push(episode);
}

/// Waits until the pair is whole and takes messages, and notes how long that took; more than the bound is a violation.
pub fn whole(cluster: &mut Cluster) -> Outcome<()> {
    let before = cluster.history.receipts();
    let is_so =
        |cluster: &Cluster| cluster.whole().is_some() && cluster.history.receipts() > before;
    match cluster.wait("both nodes are in sync, and senders get receipts", BOUND, is_so) {
        Ok(took) => {
            lock(&cluster.history.seen).whole_after.push(took);
            Ok(())
        }
        Err(why) => {
            cluster.history.violation(format!("the pair does not become whole: {why}"));
            Err("there is nothing to go on with".into())
        }
    }
}

/// Heals all, waits until everything is done, and checks.
pub fn finish(cluster: &mut Cluster, dice: &Dice, senders: Senders) -> Outcome<Figures> {
    cluster.switch.heal();
    whole(cluster)?;
    cluster.history.tell("all is healed; the senders end");
    senders.end();
    cluster
        .history
        .tell("nothing is sent any more; what was accepted is handled, and then checked");
    checker::check(cluster, dice)
}
