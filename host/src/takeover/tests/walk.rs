//! Walks through what can happen, by a seed: first whatever comes, then nothing but what is usual.

use super::{
    super::step::{Event, Handover, Phase, Sync, WithoutWitness},
    world::{Defect, Move, Setup, World},
};

/// Small numbers that follow from a seed (`SplitMix64`).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 33).unwrap_or(0) % bound
    }

    /// One time in `n`.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Rounds of five milliseconds in which the pair has to become whole.
const ROUNDS: usize = 400;

pub struct Walk {
    pub world: World,
    dice: Dice,
    /// Moves that were made, for who wants to read them.
    pub moves: Vec<Move>,
    pub steps: u64,
    moves_now: Vec<Move>,
    /// Nothing is made while the pair heals.
    heals_idle: bool,
}

pub fn setup(seed: u64, defect: Option<Defect>) -> Setup {
    let mut dice = Dice::new(seed ^ 0x5e7);
    // Some show only without a witness, and under one of the policies.
    let policy = match defect {
        Some(Defect::PositionsTrusted | Defect::LinkOutlivesRole) => Some(WithoutWitness::Act),
        Some(Defect::AcceptingHandles | Defect::AcceptedDropped | Defect::LaterFramesTaken) => {
            Some(WithoutWitness::AcceptOnly)
        }
        Some(Defect::BegunAnew) => Some(WithoutWitness::Manual),
        _ => None,
    };
    let has_witness = if defect.is_some() { policy.is_none() } else { !dice.one_in(2) };
    let policies = [WithoutWitness::Act, WithoutWitness::AcceptOnly, WithoutWitness::Manual];
    Setup {
        has_witness,
        without_witness: policy.unwrap_or(policies[dice.below(3)]),
        goes_on_alone: !dice.one_in(6),
        fails_back: dice.one_in(2),
        defect,
    }
}

/// What went wrong, if anything did.
pub fn walk(seed: u64, setup: Setup) -> (Walk, Result<(), String>) {
    let mut walk = Walk {
        world: World::new(setup),
        dice: Dice::new(seed),
        moves: Vec::new(),
        steps: 0,
        moves_now: Vec::new(),
        heals_idle: seed % 4 == 3,
    };
    let outcome = walk.run();
    (walk, outcome)
}

impl Walk {
    fn run(&mut self) -> Result<(), String> {
        if !self.dice.one_in(4) {
            self.become_whole("at first")?;
        }
        let fault_in = [6, 12, 25, 60][self.dice.below(4)];
        for _ in 0..60 + self.dice.below(300) {
            self.anything(fault_in)?;
        }
        match self.world.setup.defect {
            None | Some(Defect::SilentWhenLevel | Defect::LaterFramesTaken) => self.heal(),
            Some(_) => Ok(()),
        }
    }

    fn go(&mut self, what: Move) -> Result<(), String> {
        self.steps += 1;
        self.world.go(&what);
        self.moves.push(what);
        self.world.violation.clone().map_or(Ok(()), Err)
    }

    fn anything(&mut self, fault_in: usize) -> Result<(), String> {
        let is_tense = self.is_tense();
        let fault_in = if is_tense { fault_in / 2 } else { fault_in };
        let next = if self.dice.one_in(fault_in.max(2)) { self.fault() } else { None };
        let next = next.unwrap_or_else(|| self.usual());
        self.go(next)
    }

    /// Something half done, where a fault is worth more.
    fn is_tense(&self) -> bool {
        self.world.nodes.iter().any(|node| {
            !node.actions.is_empty()
                || match &node.state.phase {
                    Phase::Primary(leading) => {
                        matches!(leading.sync, Sync::Joining { .. } | Sync::Shrinking)
                            || leading.handover != Handover::No
                    }
                    Phase::Candidate => true,
                    _ => false,
                }
        })
    }

    fn usual(&mut self) -> Move {
        let n = self.dice.below(2);
        let (world, dice) = (&self.world, &mut self.dice);
        match dice.below(8) {
            0 if world.nodes[n].is_up => {
                let by = [1, 5, 11, 21, 35, 61][dice.below(6)];
                return Move::Tick(n, if dice.one_in(200) { 31_000 } else { by });
            }
            1 if world.nodes[n].session.is_some() => return Move::Beat(n),
            2 if world.may_make(n) && dice.one_in(2) => return Move::Make(n),
            _ => {}
        }
        self.moves_now.clear();
        world.usual(&mut self.moves_now);
        if self.moves_now.is_empty() {
            return Move::Tick(n, 5);
        }
        self.moves_now.swap_remove(dice.below(self.moves_now.len()))
    }

    fn fault(&mut self) -> Option<Move> {
        let (world, dice) = (&self.world, &mut self.dice);
        let n = dice.below(2);
        let node = &world.nodes[n];
        match dice.below(12) {
            0 if world.may_lose_disk(n) && dice.one_in(3) => Some(Move::Wipe(n)),
            0 | 1 if node.is_up => Some(Move::Crash(n, dice.one_in(2))),
            0..=3 if !node.is_up => Some(Move::Start(n)),
            2 | 4 | 5 if node.session.is_some() => Some(Move::End(n)),
            3 if !world.nodes[1 - n].is_up && node.is_up && node.session.is_none() => {
                Some(Move::Probe(n))
            }
            6 | 7 if !world.asks.is_empty() => {
                let at = dice.below(world.asks.len());
                let asked = &world.asks[at];
                let waits = asked.answer.is_none() && asked.run == world.nodes[asked.node].run;
                Some(if waits && dice.one_in(2) { Move::GiveUp(at) } else { Move::Lose(at) })
            }
            8 if world.setup.has_witness => Some(Move::Witness),
            9 if node.is_up => Some(Move::Order(n, Event::Switchover)),
            10 if node.is_up && dice.one_in(3) => {
                Some(Move::Order(n, Event::Promote { force: false }))
            }
            11 => Some(Move::Forget(n)),
            _ => None,
        }
    }

    /// Everything that is due, and a little time.
    fn round(&mut self) -> Result<(), String> {
        for n in 0..2 {
            self.go(Move::Tick(n, 5))?;
            if self.world.nodes[n].session.is_some() {
                self.go(Move::Beat(n))?;
            }
        }
        let n = self.dice.below(2);
        let makes = !self.heals_idle && self.dice.one_in(4);
        if makes && self.world.may_make(n) && self.world.nodes[n].serves {
            self.go(Move::Make(n))?;
        }
        for _ in 0..200 {
            self.moves_now.clear();
            self.world.usual(&mut self.moves_now);
            if self.moves_now.is_empty() {
                break;
            }
            let next = self.moves_now.swap_remove(self.dice.below(self.moves_now.len()));
            self.go(next)?;
        }
        Ok(())
    }

    fn become_whole(&mut self, when: &str) -> Result<usize, String> {
        for _ in 0..ROUNDS {
            self.round()?;
            if let Some(primary) = self.world.is_whole() {
                return Ok(primary);
            }
        }
        let [a, b] = [0, 1].map(|n| {
            let node = &self.world.nodes[n];
            (&node.state, &node.gate, &node.store)
        });
        Err(format!("the pair does not become whole {when}:\n{a:#?}\n{b:#?}"))
    }

    fn heal(&mut self) -> Result<(), String> {
        if !self.world.witness_is_up {
            self.go(Move::Witness)?;
        }
        for n in 0..2 {
            if !self.world.nodes[n].is_up {
                self.go(Move::Start(n))?;
            }
        }
        let primary = self.become_whole("again")?;
        let failback = self.world.nodes[1].state.rules.failback_hold.is_some();
        if failback {
            for _ in 0..ROUNDS {
                let still = self.world.nodes[1].state.rules.failback_hold.is_some();
                if self.world.is_whole() == Some(0) || !still {
                    return Ok(());
                }
                self.round()?;
            }
            return Err(format!(
                "the main server is not handed its role\n{:?}",
                self.world.nodes[1].state
            ));
        }
        self.go(Move::Order(primary, Event::Switchover))?;
        for _ in 0..ROUNDS {
            self.round()?;
            if self.world.is_whole() == Some(1 - primary) {
                return Ok(());
            }
        }
        Err(format!("the switchover does not happen:\n{:#?}", self.world.nodes))
    }
}
