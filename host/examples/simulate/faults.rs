//! What befalls the pair, drawn from the seed: one fault after the other, up to three at a time.

use std::{fmt, time::Duration};

use rand::{Rng as _, seq::IndexedRandom as _};

use crate::{
    disk::{Cut, Style},
    network::Link,
    world::{Setup, WITNESS, Wish, World},
};

/// Faults at a time.
const AT_ONCE: usize = 3;
/// So long after something was wrong with the witness no machine is lost: what it was asked may have come late, and whom it
/// made primary then must not be lost, as nobody could tell what that one has taken in.
const WITNESS_RESTS: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process is gone.
    Kill(usize),
    /// The power is gone, and what was not synced.
    CutPower(usize, Cut),
    /// It is lost with its disk; a new machine takes its place.
    Lose(usize),
    /// A process stands still.
    Pause(usize),
    /// Nothing comes through, one way.
    CutOneWay(usize, usize),
    /// Nothing comes through, either way.
    CutBoth(usize, usize),
    /// A firewall between them answers for each that nobody is there.
    Refuse(usize, usize),
    /// Segments are lost and come late.
    Lossy(usize, usize),
    /// They take long.
    Slow(usize, usize),
    /// Its clock shows another time, from one moment to the next.
    MoveClock(usize, i64),
    /// Its clock goes faster or slower, in thousandths.
    Rate(usize, u64),
    /// Writes fail with that number.
    DiskFails(usize, i32),
    /// There is little room on its disk.
    DiskNearlyFull(usize),
    Deploy(usize, u64),
    Set(usize),
    SwitchOver(usize),
}

/// A fault that lasts.
#[derive(Debug)]
struct Lasting {
    fault: Fault,
    until: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Faults {
    lasting: Vec<Lasting>,
    drawn: u64,
    /// When something was wrong with the witness last.
    witness_was_out: Option<Duration>,
}

/// What a seed draws of the pair itself.
pub fn setup(dice: &mut impl rand::Rng) -> Setup {
    let policies = ["act", "accept-only", "manual"];
    let has_witness = dice.random_ratio(7, 10);
    let without_witness = *policies.choose(dice).expect("there are three");
    // What is accepted for one disk, and what is not taken for one, do not go together.
    let may_be_strict = has_witness || without_witness != "accept-only";
    Setup {
        has_witness,
        without_witness,
        is_strict: may_be_strict && dice.random_ratio(1, 6),
        fails_back: dice.random_bool(0.5),
        pace: *[40, 80, 160].choose(dice).expect("there are three"),
    }
}

impl Faults {
    /// What befalls for so long; at the end everything is as it should be again.
    pub fn befall(&mut self, world: &mut World, time: Duration) {
        let until = world.now + time;
        // Some seeds have few faults, others one upon the other.
        let gap = *[300_u64, 1000, 3000].choose(&mut world.dice).expect("there are three");
        while world.now < until && world.history.is_well() {
            let wait = Duration::from_millis(world.dice.random_range(1..=gap * 2));
            let next = (world.now + wait).min(until);
            while world.now < next {
                world.step();
                self.end_due(world);
            }
            if self.lasting.len() < AT_ONCE {
                let fault = self.draw(world);
                self.begin(world, fault);
            }
        }
        self.end_all(world);
    }

    fn draw(&mut self, world: &mut World) -> Fault {
        self.drawn += 1;
        let drawn = self.drawn;
        let has_witness = world.setup.has_witness;
        let dice = &mut world.dice;
        let node = dice.random_range(0..2_usize);
        // Two of node, node and witness, or node and who sends.
        let other = match dice.random_range(0..6) {
            0 if has_witness => WITNESS,
            1 => crate::world::PEOPLE,
            2 => crate::world::RECEIVER,
            _ => 1 - node,
        };
        let (from, to) = if dice.random() { (node, other) } else { (other, node) };
        let victim = if has_witness && dice.random_ratio(1, 6) { WITNESS } else { node };
        match dice.random_range(0..100) {
            0..=13 => Fault::Kill(victim),
            14..=20 => {
                Fault::CutPower(node, Cut::Power(*Style::ALL.choose(dice).expect("there are six")))
            }
            21..=32 => Fault::Pause(victim),
            33..=42 => Fault::CutOneWay(from, to),
            43..=52 => Fault::CutBoth(from, to),
            53..=55 => Fault::Refuse(from, to),
            56..=62 => Fault::Lossy(from, to),
            63..=67 => Fault::Slow(from, to),
            68..=71 => {
                let most = *[5_000, 60_000].choose(dice).expect("there are two");
                Fault::MoveClock(node, dice.random_range(-most..most))
            }
            72..=75 => Fault::Rate(node, dice.random_range(850..=1150)),
            76..=79 => Fault::DiskFails(node, *[5, 28].choose(dice).expect("EIO and ENOSPC")),
            80..=82 => Fault::DiskNearlyFull(node),
            83..=85 => Fault::Deploy(node, drawn),
            86..=89 => Fault::Set(node),
            90..=97 => Fault::SwitchOver(node),
            _ => Fault::Lose(node),
        }
    }

    fn begin(&mut self, world: &mut World, fault: Fault) {
        // What is so already is not made so again.
        if self.lasting.iter().any(|lasting| lasting.fault.concerns(fault)) {
            return;
        }
        if matches!(fault, Fault::Lose(n) if !world.can_spare(n) || self.is_witness_out(world.now))
        {
            return;
        }
        world.history.log(format!("FAULT {fault}"));
        let lasts = Duration::from_millis(world.dice.random_range(20..=4000));
        match fault {
            Fault::Kill(n) => world.kill(n),
            Fault::Lose(n) => world.lose(n),
            Fault::CutPower(n, style) => world.cut_power(n, style),
            Fault::Pause(n) => world.hosts[n].pause_until(world.now + lasts),
            Fault::CutOneWay(a, b) => world.link(a, b, Link { cut: true, ..Link::default() }),
            Fault::CutBoth(a, b) => {
                world.link_both(a, b, &Link { cut: true, ..Link::default() });
            }
            Fault::Refuse(a, b) => {
                let link = Link { refuses: true, ..Link::default() };
                world.link_both(a, b, &link);
            }
            Fault::Lossy(a, b) => {
                let loss = world.dice.random_range(0.02..0.3);
                world.link_both(a, b, &Link { loss, ..Link::default() });
            }
            Fault::Slow(a, b) => {
                let most = Duration::from_millis(world.dice.random_range(10..1500));
                let link = Link { latency: most / 4..most, ..Link::default() };
                world.link(a, b, link);
            }
            Fault::MoveClock(n, by_ms) => return world.move_clock(n, by_ms),
            Fault::Rate(n, rate) => world.hosts[n].set_rate(rate),
            Fault::DiskFails(n, errno) => world.hosts[n].disk().fail_writes(Some(errno)),
            Fault::DiskNearlyFull(n) => world.hosts[n].disk().fill(Some(1 << 20)),
            Fault::Deploy(n, number) => return world.wish(Wish::Deploy(n, number)),
            Fault::Set(n) => return world.wish(Wish::Set(n)),
            Fault::SwitchOver(n) => return world.wish(Wish::SwitchOver(n)),
        }
        self.lasting.push(Lasting { fault, until: world.now + lasts });
    }

    fn is_witness_out(&self, now: Duration) -> bool {
        self.witness_was_out.is_some_and(|at| now < at + WITNESS_RESTS)
    }

    fn end_due(&mut self, world: &mut World) {
        let now = world.now;
        if self.lasting.iter().any(|lasting| lasting.fault.is_of_witness()) {
            self.witness_was_out = Some(now);
        }
        let due: Vec<_> = self.lasting.extract_if(.., |lasting| lasting.until <= now).collect();
        for Lasting { fault, .. } in due {
            end(world, fault);
        }
    }

    fn end_all(&mut self, world: &mut World) {
        for lasting in std::mem::take(&mut self.lasting) {
            end(world, lasting.fault);
        }
        world.network.heal();
        for n in 0..world.hosts.len() {
            if n != WITNESS || world.setup.has_witness {
                world.start(n);
            }
        }
    }
}

fn end(world: &mut World, fault: Fault) {
    world.history.log(format!("  end {fault}"));
    match fault {
        Fault::Kill(n) => world.start(n),
        Fault::Lose(n) | Fault::CutPower(n, _) => {
            world.hosts[n].plug();
            world.start(n);
        }
        Fault::CutOneWay(a, b)
        | Fault::CutBoth(a, b)
        | Fault::Refuse(a, b)
        | Fault::Lossy(a, b)
        | Fault::Slow(a, b) => world.link_both(a, b, &Link::default()),
        Fault::Rate(n, _) => world.hosts[n].set_rate(1000),
        Fault::DiskFails(n, _) => world.hosts[n].disk().fail_writes(None),
        Fault::DiskNearlyFull(n) => world.hosts[n].disk().fill(None),
        Fault::Pause(_)
        | Fault::MoveClock(..)
        | Fault::Deploy(..)
        | Fault::Set(_)
        | Fault::SwitchOver(_) => {}
    }
}

impl Fault {
    fn is_of_witness(self) -> bool {
        match self {
            Self::Kill(n) | Self::Pause(n) => n == WITNESS,
            _ => self.link().is_some_and(|(a, b)| a == WITNESS || b == WITNESS),
        }
    }

    /// Between whom it is, in order.
    fn link(self) -> Option<(usize, usize)> {
        match self {
            Self::CutOneWay(a, b)
            | Self::CutBoth(a, b)
            | Self::Refuse(a, b)
            | Self::Lossy(a, b)
            | Self::Slow(a, b) => Some((a.min(b), a.max(b))),
            _ => None,
        }
    }

    /// Whether one would undo what the other did.
    fn concerns(self, other: Self) -> bool {
        let host = |fault| match fault {
            Self::Kill(n) | Self::CutPower(n, _) | Self::Lose(n) | Self::Pause(n) => {
                Some(("process", n))
            }
            Self::Rate(n, _) => Some(("clock", n)),
            Self::DiskFails(n, _) | Self::DiskNearlyFull(n) => Some(("disk", n)),
            _ => None,
        };
        self.link().is_some() && self.link() == other.link()
            || host(self).is_some() && host(self) == host(other)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |n: usize| crate::world::NAMES[n];
        match *self {
            Self::Kill(n) => write!(f, "{} is killed", name(n)),
            Self::CutPower(n, style) => write!(f, "the power of {} is gone ({style:?})", name(n)),
            Self::Lose(n) => write!(f, "{} is lost with its disk", name(n)),
            Self::Pause(n) => write!(f, "{} stands still", name(n)),
            Self::CutOneWay(a, b) => write!(f, "nothing comes from {} to {}", name(a), name(b)),
            Self::CutBoth(a, b) => {
                write!(f, "nothing comes through between {} and {}", name(a), name(b))
            }
            Self::Refuse(a, b) => {
                write!(f, "a firewall refuses {} and {} each other", name(a), name(b))
            }
            Self::Lossy(a, b) => write!(f, "segments between {} and {} are lost", name(a), name(b)),
            Self::Slow(a, b) => write!(f, "from {} to {} takes long", name(a), name(b)),
            Self::MoveClock(n, by) => write!(f, "the clock of {} is moved by {by} ms", name(n)),
            Self::Rate(n, rate) => write!(f, "the clock of {} goes at {rate} of 1000", name(n)),
            Self::DiskFails(n, errno) => {
                write!(f, "the disk of {} fails with error {errno}", name(n))
            }
            Self::DiskNearlyFull(n) => write!(f, "the disk of {} is nearly full", name(n)),
            Self::Deploy(n, number) => write!(f, "deploy number {number} at {}", name(n)),
            Self::Set(n) => write!(f, "a setting at {}", name(n)),
            Self::SwitchOver(n) => write!(f, "switchover asked of {}", name(n)),
        }
    }
}
