//! Every order of what can happen, within bounds: the same world as the walks', driven by a search.
//!
//! Here a node does all that follows from an event before the next comes, unless it dies amid that; what nodes say of
//! themselves is heard at once, frames and answers to them, and what the witness is asked, are on their way as long as they
//! like, late and lost. The walks take each action and each word for itself.

use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::{
    super::step::{Action, Event},
    node::Message,
    walk::Dice,
    world::{Move, Setup, World},
};

mod canonical;

const NOTHING_WRONG: &str = "nothing is wrong";
pub const TAKEN_OVER: &str = "the other node acknowledges in the second epoch";
pub const HANDED_BACK: &str = "the first node acknowledges in the third epoch";
pub const WHOLE_AGAIN: &str = "the pair is whole again";

/// How much of everything there is.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Frames beside those that begin an epoch.
    pub messages: u8,
    /// The highest epoch.
    pub epochs: u64,
    /// Changes of who is in sync, in one epoch.
    pub versions: u64,
    pub crashes: u8,
    /// Disks that are lost.
    pub wipes: u8,
    /// What an operator orders.
    pub orders: u8,
    /// On its way between the nodes, and to the witness and back, together.
    pub in_flight: usize,
    /// A node says no more while so much is on its way to the other.
    pub on_link: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Point {
    world: World,
    spent: Spent,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Spent {
    messages: u8,
    crashes: u8,
    wipes: u8,
    orders: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    Go(Move),
    /// And of what follows from it, the node does so many actions before it dies.
    Dies {
        of: Move,
        node: usize,
        after: usize,
    },
}

#[derive(Debug, Clone)]
pub struct Search {
    pub bounds: Bounds,
    pub start: World,
}

impl Search {
    /// From a pair that is whole.
    pub fn from_whole(setup: Setup, bounds: Bounds) -> Self {
        Self { start: canonical::whole(setup), bounds }
    }

    /// What the step leads to, in whatever form.
    fn after(&self, last: &Point, step: &Step) -> Point {
        let mut point = last.clone();
        match step {
            Step::Go(what) => {
                let is_epochs = matches!(*what, Move::Make(n) if last.world.nodes[n].begins_epoch);
                if !is_epochs {
                    point.spent.spend(what);
                }
                point.world.go(what);
                if let Move::End(n) = *what {
                    point.world.go(&Move::End(1 - n));
                }
            }
            Step::Dies { of, node, after } => {
                point.spent.spend(of);
                point.spent.crashes += 1;
                point.world.go(of);
                for _ in 0..*after {
                    point.world.go(&Move::Act(*node));
                }
                point.world.go(&Move::Crash(*node, true));
            }
        }
        self.settle(&mut point);
        point
    }

    /// Walks by a seed, and tells a step after which a state and its canonical form are not alike.
    pub fn differs(&self, seed: u64) -> Option<Step> {
        let mut dice = Dice::new(seed);
        let mut point = Point { world: self.start.clone(), spent: Spent::default() };
        let mut steps = Vec::new();
        for _ in 0..200 {
            let mut alike = point.clone();
            canonical::canonical(&mut alike.world);
            steps.clear();
            // What is on its way is left out or in another order there: the same step is another.
            let (a, b) = (&alike.world, &point.world);
            let is_other = a.asks != b.asks || a.link != b.link;
            self.actions(if is_other { &point } else { &alike }, &mut steps);
            if steps.is_empty() {
                return None;
            }
            let step = steps.swap_remove(dice.below(steps.len()));
            let mut after = self.after(&point, &step);
            point = after.clone();
            if !is_other {
                let mut same = self.after(&alike, &step);
                canonical::canonical(&mut after.world);
                canonical::canonical(&mut same.world);
                if after != same {
                    return Some(step);
                }
            }
        }
        None
    }

    fn settle(&self, Point { world, spent }: &mut Point) {
        let none_dies = spent.crashes >= self.bounds.crashes;
        let mut moves = Vec::new();
        loop {
            moves.clear();
            world.usual(&mut moves);
            let Some(next) = moves.iter().find(|next| {
                self.follows(world, next) || matches!(next, Move::Sync(_) if none_dies)
            }) else {
                return;
            };
            world.go(next);
        }
    }

    /// Whether it follows from what has happened, without waiting for anybody.
    fn follows(&self, world: &World, next: &Move) -> bool {
        match *next {
            Move::Speak(n) => self.has_room(world, n),
            Move::Receive(n) => {
                matches!(world.link[n].front(), Some(Message::Hello(_) | Message::Beat(_)))
            }
            // A link ends for one when it has ended for the other.
            Move::Act(_)
            | Move::Hear(_)
            | Move::Learn(..)
            | Move::Posture(_)
            | Move::Make(_)
            | Move::Show(_)
            | Move::End(_) => true,
            _ => false,
        }
    }

    /// Whether the node may say more.
    fn has_room(&self, world: &World, n: usize) -> bool {
        world.link[1 - n].len() < self.bounds.on_link
    }

    fn faults(&self, point: &Point, moves: &mut Vec<Move>) {
        let (world, spent, bounds) = (&point.world, &point.spent, &self.bounds);
        for n in 0..2 {
            let node = &world.nodes[n];
            if !node.is_up {
                moves.push(Move::Start(n));
                if spent.wipes < bounds.wipes && world.may_lose_disk(n) {
                    moves.push(Move::Wipe(n));
                }
                continue;
            }
            if node.is_idle() {
                moves.push(Move::Tick(n, 1));
            }
            let to = &world.link[1 - n];
            if node.session.is_some() {
                moves.push(Move::End(n));
                if world.nodes[1 - n].session.is_some() && to.is_empty() {
                    moves.push(Move::Beat(n));
                }
            } else if !world.nodes[1 - n].is_up {
                moves.push(Move::Probe(n));
            }
            if spent.messages < bounds.messages
                && world.may_make(n)
                && !node.begins_epoch
                && (node.serves || node.accepts)
            {
                moves.push(Move::Make(n));
            }
            if spent.crashes < bounds.crashes {
                moves.extend([Move::Crash(n, false), Move::Crash(n, true)]);
            }
            if spent.orders < bounds.orders {
                moves.push(Move::Order(n, Event::Switchover));
                moves.push(Move::Order(n, Event::Promote { force: false }));
            }
        }
        for (at, asked) in world.asks.iter().enumerate() {
            if world.asks.len() >= bounds.in_flight {
                moves.push(Move::Lose(at));
            }
            if asked.run == world.nodes[asked.node].run {
                moves.push(Move::GiveUp(at));
            }
        }
    }

    /// Deaths amid what a node does because of a move.
    fn deaths(&self, point: &Point, moves: &[Move], steps: &mut Vec<Step>) {
        if point.spent.crashes >= self.bounds.crashes {
            return;
        }
        let decides = |next: &&Move| {
            !matches!(next, Move::Serve(_) | Move::Make(_) | Move::Sync(_) | Move::Connect)
        };
        for of in moves.iter().filter(decides) {
            let mut world = point.world.clone();
            world.go(of);
            for node in 0..2 {
                let actions = &world.nodes[node].actions;
                // What is not on the disk and was not said is gone, whether or not it was done.
                let survive = (1..actions.len())
                    .filter(|&at| matches!(actions[at - 1], Action::Keep(_) | Action::Ask(_)));
                steps.extend(survive.map(|after| Step::Dies { of: of.clone(), node, after }));
            }
        }
    }
}

impl Spent {
    fn spend(&mut self, what: &Move) {
        match what {
            Move::Make(_) => self.messages += 1,
            Move::Crash(..) => self.crashes += 1,
            Move::Wipe(_) => self.wipes += 1,
            Move::Order(..) => self.orders += 1,
            _ => {}
        }
    }
}

impl Model for Search {
    type State = Point;
    type Action = Step;

    fn init_states(&self) -> Vec<Point> {
        let mut world = self.start.clone();
        canonical::canonical(&mut world);
        vec![Point { world, spent: Spent::default() }]
    }

    fn actions(&self, point: &Point, steps: &mut Vec<Step>) {
        if point.world.violation.is_some() {
            return;
        }
        let mut moves = Vec::new();
        point.world.usual(&mut moves);
        moves.retain(|next| match *next {
            Move::Speak(n) => self.has_room(&point.world, n),
            _ => true,
        });
        self.faults(point, &mut moves);
        self.deaths(point, &moves, steps);
        steps.extend(moves.into_iter().map(Step::Go));
    }

    fn next_state(&self, last: &Point, step: Step) -> Option<Point> {
        let mut point = self.after(last, &step);
        canonical::canonical(&mut point.world);
        (point != *last).then_some(point)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NOTHING_WRONG, |_, point: &Point| point.world.violation.is_none()),
            Property::sometimes(TAKEN_OVER, |_, point: &Point| {
                point.world.ackers.contains(&(2, 1))
            }),
            Property::sometimes(HANDED_BACK, |_, point: &Point| {
                let ackers = &point.world.ackers;
                ackers.contains(&(2, 1)) && ackers.contains(&(3, 0))
            }),
            Property::sometimes(WHOLE_AGAIN, |_, point: &Point| {
                point.world.ackers.contains(&(2, 1)) && point.world.is_whole().is_some()
            }),
        ]
    }

    fn within_boundary(&self, point: &Point) -> bool {
        let records = point.world.nodes.iter().map(|node| node.state.kept.record);
        let fits = records.chain([point.world.record]).flatten().all(|record| {
            let changes = record.version - u64::from(record.epoch == 1);
            record.epoch <= self.bounds.epochs && changes <= self.bounds.versions
        });
        // Who accepts begins an epoch as often as it likes.
        let made = u64::from(point.world.next_id);
        let fits = fits && made <= u64::from(self.bounds.messages) + 2 * self.bounds.epochs;
        let [a, b] = &point.world.link;
        fits && a.len() + b.len() + point.world.asks.len() <= self.bounds.in_flight
    }
}

/// What a search came to.
#[derive(Debug)]
pub struct Report {
    pub states: usize,
    pub depth: usize,
    pub took: Duration,
    /// Nothing within the bounds is left.
    pub is_exhausted: bool,
    /// What is wrong, and the shortest way there.
    pub wrong: Option<(String, Vec<Step>)>,
    /// What was met that is to be met: [`TAKEN_OVER`] and so on.
    pub reached: Vec<&'static str>,
}

/// In which order: both see the same states.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// The shortest way to what is wrong, and all states of one depth in memory.
    Breadth,
    /// A long way to what is wrong, and little memory.
    Depth,
}

/// Searches until something is wrong, all is seen, or `most` is over.
pub fn search(search: Search, order: Order, most: Duration) -> Report {
    let began = Instant::now();
    let checker =
        search.checker().threads(2).timeout(most).finish_when(HasDiscoveries::AnyFailures);
    match order {
        Order::Breadth => report(&checker.spawn_bfs().join(), began.elapsed(), most),
        Order::Depth => report(&checker.spawn_dfs().join(), began.elapsed(), most),
    }
}

fn report(found: &impl Checker<Search>, took: Duration, most: Duration) -> Report {
    let mut discoveries = found.discoveries();
    let wrong = discoveries.remove(NOTHING_WRONG).map(|path| {
        let what = path.last_state().world.violation.clone().unwrap_or_default();
        (what, path.into_actions())
    });
    let mut reached: Vec<_> = discoveries.into_keys().collect();
    reached.sort_unstable();
    Report {
        states: found.unique_state_count(),
        depth: found.max_depth(),
        took,
        is_exhausted: wrong.is_none() && took < most,
        wrong,
        reached,
    }
}
