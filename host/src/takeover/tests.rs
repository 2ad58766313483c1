//! The decisions of two nodes under everything that can happen to them, checked after each step.
//!
//! The decisions are the real ones ([`super::step`]) and so are the register's rules; stores, links and the witness are as
//! small as they can be, and keep to what the real ones have to keep to. What that is worth is shown by taking away one
//! rule at a time ([`Defect`]). `TANDEM_MODEL_SEED=n` repeats one walk and says what was done, `TANDEM_MODEL_WALKS=n`
//! makes that many; `TANDEM_MODEL=all` searches through more than there is time for each time.

use std::{env, time::Duration};

mod decisions;
mod driver;
mod exhaustive;
mod node;
mod walk;
mod world;

use super::step::WithoutWitness;
use exhaustive::{Bounds, HANDED_BACK, Order, Report, Search, TAKEN_OVER, WHOLE_AGAIN};
use world::{Defect, Setup};

const WALKS: u64 = 6000;

#[expect(clippy::disallowed_methods, reason = "how much is tried is the tester's choice")]
fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

#[expect(clippy::disallowed_methods, reason = "how much is tried is the tester's choice")]
fn env_is(what: &str) -> bool {
    env::var("TANDEM_MODEL").is_ok_and(|value| value == what)
}

#[test]
fn whatever_happens_nothing_acknowledged_is_lost_and_the_pair_becomes_whole() {
    let only = number("TANDEM_MODEL_SEED");
    let seeds = match only {
        Some(seed) => seed..seed + 1,
        None => 0..number("TANDEM_MODEL_WALKS").unwrap_or(WALKS),
    };
    let mut steps = 0;
    for seed in seeds {
        let setup = walk::setup(seed, None);
        let (walk, outcome) = walk::walk(seed, setup.clone());
        steps += walk.steps;
        if let Err(what) = outcome {
            if only.is_some() {
                walk.moves.iter().for_each(|made| println!("{made:?}"));
            }
            panic!("TANDEM_MODEL_SEED={seed}, {setup:?}: {what}");
        }
    }
    println!("{steps} steps");
}

/// From which seed on a walk comes upon it soon.
const BY_WALK: [(Defect, u64); 22] = [
    (Defect::VersionsIgnored, 2158),
    (Defect::OneWhileJoining, 0),
    (Defect::OneWhileShrinking, 0),
    (Defect::AnybodyPromoted, 0),
    (Defect::PromiseForgotten, 0),
    (Defect::OldEpochsObeyed, 3258),
    (Defect::ShowsAnything, 0),
    (Defect::PositionsTrusted, 3023),
    (Defect::RowsTakeBack, 525_500),
    (Defect::ServesAtOnce, 0),
    (Defect::LinkOutlivesRole, 92_138),
    (Defect::SilentWhenLevel, 0),
    (Defect::AcceptingHandles, 0),
    (Defect::AcceptedDropped, 0),
    (Defect::LaterFramesTaken, 2394),
    (Defect::RowsReplaceTwice, 962_600),
    (Defect::OldRecordsTaken, 6253),
    (Defect::AloneWithoutWitness, 0),
    (Defect::LengthsCompared, 0),
    (Defect::NameOutlivesData, 0),
    (Defect::HalfFrameKept, 0),
    (Defect::BegunAnew, 0),
];

#[test]
fn each_rule_is_missed_when_it_does_not_hold() {
    for (defect, from) in BY_WALK {
        let is_noticed = |seed: &u64| {
            let (walk, outcome) = walk::walk(*seed, walk::setup(*seed, Some(defect)));
            // These harm no data, but the pair stands still.
            let stands_still =
                [Defect::SilentWhenLevel, Defect::LaterFramesTaken].contains(&defect);
            let counts = walk.world.violation.is_some() || stands_still;
            outcome.is_err() && counts
        };
        let found = (from..from + 50_000).find(is_noticed);
        assert!(found.is_some(), "{defect:?} is not noticed");
        println!("{defect:?}: seed {found:?}");
    }
}

/// The smallest bounds within which most rules are missed.
const SMALL: Bounds = Bounds {
    messages: 1,
    epochs: 2,
    versions: 2,
    crashes: 0,
    wipes: 0,
    orders: 0,
    in_flight: 2,
    on_link: 1,
};

fn with_witness(defect: Option<Defect>) -> Setup {
    Setup {
        has_witness: true,
        without_witness: WithoutWitness::Act,
        goes_on_alone: true,
        fails_back: false,
        defect,
    }
}

/// Without anything wrong, all that is within the bounds.
fn exhaust(name: &str, search: Search) -> Report {
    let report = exhaustive::search(search, Order::Depth, Duration::from_hours(3));
    let Report { states, depth, took, reached, .. } = &report;
    println!("{name}: {states} states, depth {depth}, {took:?}; {reached:?}");
    assert_eq!(report.wrong, None, "{name}");
    assert!(report.is_exhausted, "{name}: there is more");
    report
}

#[test]
fn every_order_of_events_within_bounds_keeps_what_was_acknowledged() {
    let report = exhaust("one message, two epochs", Search::from_whole(with_witness(None), SMALL));
    assert_eq!(report.reached, [TAKEN_OVER, WHOLE_AGAIN]);
    let bounds = Bounds { messages: 2, epochs: 3, versions: 1, ..SMALL };
    let search = Search::from_whole(with_witness(None), bounds);
    let report = exhaust("two messages, three epochs", search);
    assert_eq!(report.reached, [HANDED_BACK, TAKEN_OVER, WHOLE_AGAIN]);
    let bounds = Bounds { messages: 0, versions: 1, crashes: 1, ..SMALL };
    exhaust("two epochs, a crash", Search::from_whole(with_witness(None), bounds));
    if env_is("all") {
        large();
    }
}

#[test]
fn without_a_witness_each_policy_keeps_its_promise_in_every_order() {
    for (policy, acknowledges) in [
        (WithoutWitness::Act, true),
        (WithoutWitness::AcceptOnly, true),
        (WithoutWitness::Manual, false),
    ] {
        let setup = Setup { has_witness: false, without_witness: policy, ..with_witness(None) };
        let report = exhaust(&format!("{policy:?}"), Search::from_whole(setup.clone(), SMALL));
        assert_eq!(report.reached.contains(&TAKEN_OVER), acknowledges);
        if env_is("all") {
            let bounds = Bounds { messages: 2, crashes: 1, ..SMALL };
            exhaust(&format!("{policy:?}, more"), Search::from_whole(setup, bounds));
        }
    }
}

#[test]
fn states_of_one_form_behave_alike() {
    let bounds = Bounds { messages: 3, epochs: 9, crashes: 2, wipes: 1, orders: 2, ..SMALL };
    for (has_witness, fails_back) in [(true, false), (true, true), (false, true)] {
        let setup = Setup { has_witness, fails_back, ..with_witness(None) };
        let search = Search::from_whole(setup, bounds);
        for seed in 0..500 {
            let differs = search.differs(seed);
            assert_eq!(differs, None, "seed {seed}, {has_witness}, {fails_back}");
        }
    }
}

/// By hand: a quarter of an hour of two cores, with optimised code.
fn large() {
    let whole = |bounds| Search::from_whole(with_witness(None), bounds);
    let report = exhaust("two messages, two epochs", whole(Bounds { messages: 2, ..SMALL }));
    assert_eq!(report.reached, [TAKEN_OVER, WHOLE_AGAIN]);
    let bounds = Bounds { messages: 2, epochs: 3, ..SMALL };
    let report = exhaust("two messages, three epochs", whole(bounds));
    assert_eq!(report.reached, [HANDED_BACK, TAKEN_OVER, WHOLE_AGAIN]);
    let report = exhaust("one message, two epochs, a crash", whole(Bounds { crashes: 1, ..SMALL }));
    assert_eq!(report.reached, [TAKEN_OVER, WHOLE_AGAIN]);
    let bounds = Bounds { versions: 1, crashes: 1, ..bounds };
    let report = exhaust("two messages, three epochs, a crash", whole(bounds));
    assert_eq!(report.reached, [HANDED_BACK, TAKEN_OVER, WHOLE_AGAIN]);
}

#[test]
fn a_search_misses_each_rule_that_does_not_hold() {
    for (defect, steps, bounds) in [
        (Defect::OneWhileJoining, 10, SMALL),
        (Defect::OneWhileShrinking, 7, SMALL),
        (Defect::AnybodyPromoted, 7, SMALL),
        (Defect::ServesAtOnce, 7, SMALL),
        (Defect::OldRecordsTaken, 14, SMALL),
        (Defect::AloneWithoutWitness, 7, SMALL),
        (Defect::PromiseForgotten, 9, Bounds { crashes: 1, ..SMALL }),
        (Defect::HalfFrameKept, 5, Bounds { crashes: 1, ..SMALL }),
        (Defect::NameOutlivesData, 5, Bounds { crashes: 1, wipes: 1, ..SMALL }),
    ] {
        let search = Search::from_whole(with_witness(Some(defect)), bounds);
        let report = exhaustive::search(search, Order::Breadth, Duration::from_hours(1));
        let (what, way) = report.wrong.expect("the rule is missed");
        println!(
            "{defect:?}: {what}: {} steps, {} states, {:?}",
            way.len(),
            report.states,
            report.took
        );
        // Two threads may come upon one that is a little longer first.
        assert!((steps..steps + 3).contains(&way.len()), "{defect:?}: {way:?}");
    }
}
