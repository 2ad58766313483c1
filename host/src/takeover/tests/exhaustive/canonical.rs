//! One form for all states of the world that behave alike, so that there are finitely many of them.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash as _, Hasher as _},
    time::Duration,
};

use super::super::{
    node::{Message, Node},
    world::{Move, Setup, World},
};
use crate::{
    model::pair::Ask,
    takeover::step::{Handover, Phase, Witness},
};

/// A moment, after which everything that waits has waited long enough.
const UNIT: Duration = Duration::from_millis(1);

fn shorten(world: &mut World) {
    for node in &mut world.nodes {
        let rules = &mut node.state.rules;
        (rules.silence, rules.ack_timeout, rules.ask_again) = (UNIT, UNIT, UNIT);
        rules.failback_hold = rules.failback_hold.map(|_| UNIT);
    }
}

/// Everything that is due.
fn settle(world: &mut World) {
    let mut moves = Vec::new();
    loop {
        moves.clear();
        world.usual(&mut moves);
        let Some(next) = moves.first() else { return };
        world.go(next);
    }
}

/// One that is a pair, of which node 0 is primary.
pub fn whole(setup: Setup) -> World {
    let mut world = World::new(setup);
    for _ in 0..100 {
        for n in 0..2 {
            world.go(&Move::Tick(n, 5));
            if world.nodes[n].session.is_some() {
                world.go(&Move::Beat(n));
            }
        }
        settle(&mut world);
        let [first, other] = [0, 1].map(|n| world.nodes[n].state.kept.record);
        if world.is_whole() == Some(0) && first == other {
            shorten(&mut world);
            (0..2).for_each(|n| world.go(&Move::Beat(n)));
            settle(&mut world);
            return world;
        }
    }
    panic!("the pair does not become whole: {world:#?}");
}

/// What behaves alike is the same after this.
pub fn canonical(world: &mut World) {
    for node in &mut world.nodes {
        age(node);
        forget(node);
    }
    let runs = [0, 1].map(|n| world.nodes[n].run);
    let is_up = [0, 1].map(|n| world.nodes[n].is_up);
    for asked in &mut world.asks {
        if asked.run != runs[asked.node] || !is_up[asked.node] {
            asked.run = u32::MAX;
        }
    }
    // Of no use to anybody any more.
    world.asks.retain(|asked| {
        asked.run != u32::MAX || (asked.answer.is_none() && asked.ask != Ask::Read)
    });
    world.asks.sort_by_cached_key(|asked| {
        let mut hasher = DefaultHasher::new();
        asked.hash(&mut hasher);
        hasher.finish()
    });
    world.asks.dedup();
    for (n, node) in world.nodes.iter().enumerate() {
        // What it has been told before, or of an epoch that is over.
        let is_news = |said: &Message| match said {
            Message::Has { epoch, tip } => {
                node.store.chain_at(tip.position.seq) != Some(tip.chain)
                    || (node.gate.epoch == *epoch && tip.position.seq > node.gate.peer_has)
            }
            _ => true,
        };
        world.link[n].retain(is_news);
        if node.session.is_none() {
            world.link[n].clear();
        }
    }
    world.ackers.sort_unstable();
    if world.setup.has_witness {
        world.handled = 0;
        world.nodes.iter_mut().for_each(|node| node.store.aside = 0);
    }
}

/// What is longer ago than anything waits is not told apart.
fn age(node: &mut Node) {
    let before = node.now;
    // How long it runs matters until it has heard the other node.
    node.now = if node.state.peer.is_some() { UNIT } else { before.min(UNIT) };
    let now = node.now;
    let older = |at: &mut Duration| *at = (*at + now).saturating_sub(before);
    let state = &mut node.state;
    match &mut state.phase {
        Phase::Starting { since } => older(since),
        Phase::Primary(leading) => {
            leading.both_since.iter_mut().for_each(older);
            match &mut leading.handover {
                Handover::Draining { since } | Handover::Ready { since } => older(since),
                Handover::No => {}
            }
            if state.rules.failback_hold.is_none() {
                leading.both_since = None;
            }
        }
        Phase::Standby | Phase::Candidate | Phase::Accepting => {}
    }
    state.peer.iter_mut().for_each(|peer| older(&mut peer.heard));
    state.asked.iter_mut().for_each(older);
    state.asked = state.asked.filter(|at| now < *at + state.rules.ask_again);
    // Whether the witness has forgotten is not asked here.
    (state.learned, state.looked, state.witness) = (now, now, Witness::Answers);
    let kept = state.changes.len().min(3);
    state.changes = match state.rules.failback_hold {
        Some(_) => vec![now; kept],
        None => Vec::new(),
    };
    node.gate.waiting_since.iter_mut().for_each(older);
}

/// What nobody reads.
fn forget(node: &mut Node) {
    if let Some(peer) = &mut node.state.peer {
        (peer.standing.record, peer.standing.epoch) = (None, 0);
    }
    if let Some(hello) = node.session.as_mut().and_then(|session| session.introduced.as_mut()) {
        (hello.standing.record, hello.standing.epoch) = (None, 0);
    }
    if node.is_idle() {
        node.at_once = 0;
    }
}
