//! A few seeds in every run of the tests; any number by hand.

use super::*;

/// Seconds of faults in each; more by hand.
const SECONDS: u64 = 6;
const SEEDS: u64 = 200;

/// What the first seed comes to that comes to something.
fn first<T: Send>(
    seeds: u64,
    disks_lie: bool,
    look: impl Fn(u64, Outcome) -> Option<T> + Sync,
) -> Option<T> {
    let folder = folder();
    let next = AtomicU64::new(0);
    let found = Mutex::new(None);
    let work = || {
        while found.lock().unwrap().is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let folder = folder.path().to_owned();
            let outcome = Run { seed, seconds: SECONDS, disks_lie, folder, log: None }.apart();
            if let Some(seen) = look(seed, outcome) {
                found.lock().unwrap().get_or_insert(seen);
            }
        }
    };
    thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
    found.into_inner().unwrap()
}

#[test]
#[ignore = "others start it in a process of its own"]
fn simulates_for_another() {
    asked().expect("another test has started it").here();
}

#[test]
fn whatever_befalls_a_pair_its_guarantees_hold() {
    let failed = first(SEEDS, false, |seed, outcome| {
        let violation = outcome.violation?;
        Some(format!(
            "{violation}\nagain: cargo run --release -p tandem --example simulate -- --seed {seed} --seconds {SECONDS} --trace"
        ))
    });
    assert_eq!(failed, None, "\n{}", failed.as_deref().unwrap_or_default());
}

#[test]
fn disks_that_lie_are_found_out() {
    // What is left may be so damaged that no node starts from it.
    let is_loss = |violation: &String| {
        let says = |what| violation.contains(what);
        says("lost: ") || says("is damaged") || says("is not a Tandem store")
    };
    let found = first(60, true, |_, outcome| outcome.violation.filter(is_loss));
    assert!(found.is_some(), "what was lost with the power is not missed");
}

#[test]
fn one_seed_twice_gives_the_same_log() {
    let folder = folder();
    let log = |seed| {
        let folder = folder.path().to_owned();
        Run { seed, seconds: SECONDS, disks_lie: false, folder, log: None }.apart().lines
    };
    for seed in 0..3 {
        let (one, other) = (log(seed), log(seed));
        assert!(one.len() > 50, "little happened");
        for (one, other) in one.iter().zip(&other) {
            assert_eq!(one, other, "seed {seed}");
        }
        assert_eq!(one.len(), other.len());
    }
}
