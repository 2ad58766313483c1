//! A few seeds in every run of the tests; any number by hand.

use super::*;

/// Seconds of faults in each; more by hand.
const SECONDS: u64 = 8;
const SEEDS: u64 = 200;

fn all<T: Send>(
    seeds: u64,
    disks_lie: bool,
    look: impl Fn(u64, Outcome) -> Option<T> + Sync,
) -> Option<T> {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path());
    let run = Run { engine: &engine, folder: folder.path(), seconds: SECONDS, disks_lie };
    let next = AtomicU64::new(0);
    let found = Mutex::new(None);
    let work = || {
        while found.lock().unwrap().is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let outcome = chance::fixed(seed, || simulate(seed, run));
            if let Some(seen) = look(seed, outcome) {
                found.lock().unwrap().get_or_insert(seen);
            }
        }
    };
    thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
    found.into_inner().unwrap()
}

fn violation(outcome: &Outcome) -> Option<String> {
    outcome.history.see().violation.clone()
}

#[test]
fn whatever_befalls_a_pair_its_guarantees_hold() {
    let failed = all(SEEDS, false, |seed, outcome| {
        let violation = violation(&outcome)?;
        Some(format!(
            "{violation}\nagain: cargo run --release -p tandem --example simulate -- --seed {seed} --seconds {SECONDS} --trace"
        ))
    });
    assert_eq!(failed, None, "\n{}", failed.as_deref().unwrap_or_default());
}

#[test]
fn disks_that_lie_are_found_out() {
    let found = all(60, true, |_, outcome| violation(&outcome));
    assert!(found.is_some(), "what was lost with the power is not missed");
}

#[test]
fn one_seed_twice_gives_the_same_log() {
    let log = || all(1, false, |_, outcome| Some(outcome.history.lines())).unwrap();
    let (one, other) = (log(), log());
    assert!(one.len() > 50, "little happened");
    for (one, other) in one.iter().zip(&other) {
        assert_eq!(one, other);
    }
    assert_eq!(one.len(), other.len());
}
