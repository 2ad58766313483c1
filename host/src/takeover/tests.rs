//! The decisions of two nodes under everything that can happen to them, checked after each step.
//!
//! `TANDEM_MODEL_SEED=n` repeats one walk, `TANDEM_MODEL_WALKS=n` makes that many.

use std::env;

mod node;
mod walk;
mod world;

use world::Defect;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

#[test]
fn whatever_happens_nothing_acknowledged_is_lost_and_the_pair_becomes_whole() {
    if let Some(seed) = number("TANDEM_MODEL_SEED") {
        let (walk, outcome) = walk::walk(seed, walk::setup(seed, None));
        if let Err(what) = outcome {
            for made in &walk.moves {
                println!("{made:?}");
            }
            panic!("seed {seed}: {what}\n{:?}", walk.world.setup);
        }
        return;
    }
    let walks = number("TANDEM_MODEL_WALKS").unwrap_or(300);
    let mut steps = 0;
    let mut bad = std::collections::BTreeMap::<String, Vec<u64>>::new();
    for seed in 0..walks {
        let (walk, outcome) = walk::walk(seed, walk::setup(seed, None));
        steps += walk.steps;
        if let Err(what) = outcome {
            let first = what.lines().next().unwrap_or_default();
            let s = &walk.world.setup;
            bad.entry(format!("{first} witness={} acts={}", s.has_witness, s.acts_alone)).or_default().push(seed);
        }
    }
    println!("{walks} walks, {steps} steps");
    for (what, seeds) in &bad {
        println!("{}x {what}: {:?}", seeds.len(), &seeds[..seeds.len().min(5)]);
    }
    assert!(bad.is_empty());
}

#[test]
fn each_rule_is_missed_when_it_does_not_hold() {
    const DEFECTS: [Defect; 11] = [
        Defect::VersionsIgnored,
        Defect::OneWhileJoining,
        Defect::OneWhileShrinking,
        Defect::AnybodyPromoted,
        Defect::PromiseForgotten,
        Defect::CutForAnybody,
        Defect::ShowsAnything,
        Defect::PositionsTrusted,
        Defect::RowsTakeBack,
        Defect::LinkOutlivesRole,
        Defect::SilentWhenLevel,
    ];
    let max = number("TANDEM_MODEL_WALKS").unwrap_or(20_000);
    for defect in DEFECTS {
        let found = (0..max).find_map(|seed| {
            let (walk, outcome) = walk::walk(seed, walk::setup(seed, Some(defect)));
            let counts = walk.world.violation.is_some() || defect == Defect::SilentWhenLevel;
            outcome.err().filter(|_| counts).map(|what| (seed, what))
        });
        match found {
            Some((seed, what)) => println!("{defect:?}: seed {seed}: {}", what.lines().next().unwrap_or_default()),
            None => println!("{defect:?} is not noticed"),
        }
    }
}
