//! The decisions of two nodes under everything that can happen to them, checked after each step.
//!
//! The decisions are the real ones ([`super::step`]) and so are the register's rules; stores, links and the witness are as
//! small as they can be, and keep to what the real ones have to keep to. What that is worth is shown by taking away one
//! rule at a time ([`Defect`]). `TANDEM_MODEL_SEED=n` repeats one walk and says what was done, `TANDEM_MODEL_WALKS=n`
//! makes that many.

use std::env;

mod decisions;
mod node;
mod walk;
mod world;

use world::Defect;

const WALKS: u64 = 6000;

#[expect(clippy::disallowed_methods, reason = "how much is tried is the tester's choice")]
fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
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

#[test]
fn each_rule_is_missed_when_it_does_not_hold() {
    // From which seed on a walk comes upon it soon.
    for (defect, from) in [
        (Defect::VersionsIgnored, 2730),
        (Defect::OneWhileJoining, 0),
        (Defect::OneWhileShrinking, 0),
        (Defect::AnybodyPromoted, 0),
        (Defect::PromiseForgotten, 0),
        (Defect::CutForAnybody, 100),
        (Defect::ShowsAnything, 50),
        (Defect::PositionsTrusted, 9_119),
        (Defect::RowsTakeBack, 16_449),
        (Defect::ServesAtOnce, 0),
        (Defect::LinkOutlivesRole, 70_000),
        (Defect::SilentWhenLevel, 0),
        (Defect::AcceptingHandles, 0),
        (Defect::AcceptedDropped, 0),
        (Defect::LaterFramesTaken, 0),
    ] {
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
