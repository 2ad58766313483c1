//! What walks came upon, told step by step.

use std::time::Duration;

use super::{
    super::step::{
        Action, Event, Facts, Handover, Kept, Phase, State, Sync, Told, WithoutWitness, Witness,
        step,
    },
    world::{STORES, Setup, rules},
};
use crate::model::pair::{
    Ask, InSync, PairId, Record, Role, StoreId,
    talk::{Heard, Hello, PROTOCOLS, Standing},
};

const SETUP: Setup = Setup {
    has_witness: true,
    without_witness: WithoutWitness::Manual,
    goes_on_alone: true,
    fails_back: true,
    defect: None,
};

fn at(ms: u64) -> Facts {
    Facts { now: Duration::from_millis(ms), head: 5, peer_has: 5, waiting_since: None }
}

fn started(setup: &Setup, node: usize, kept: Kept) -> State {
    State::new(rules(setup, node), kept, Duration::ZERO)
}

fn hello(from: usize, standing: Standing) -> Event {
    let hello = Hello {
        protocols: PROTOCOLS,
        frames: 1,
        pair: PairId::default(),
        store: STORES[from],
        is_main: from == 0,
        hooks: String::new(),
        program: String::new(),
        standing,
        tips: Vec::new(),
    };
    Event::Heard(Heard::Hello(Box::new(hello)))
}

fn record(epoch: u64, owner: usize, in_sync: InSync, version: u64) -> Record {
    let first = Record::after(None, &Ask::Begin { owner: STORES[owner], epoch }).unwrap();
    Record { in_sync, version, ..first }
}

fn leads(actions: &[Action], in_epoch: u64) -> bool {
    actions.iter().any(|action| matches!(action, Action::Lead { epoch, .. } if *epoch == in_epoch))
}

/// The failover server, primary in epoch 2 with the main server in sync.
fn leading() -> State {
    let both = record(2, 1, InSync::Both(STORES[1], STORES[0]), 1);
    let state = started(&SETUP, 1, Kept { promise: 1, ..Kept::default() });
    let standing = Standing { role: Role::Standby, epoch: 1, record: None };
    let (state, _) = step(state, hello(0, standing), &at(1));
    let (state, actions) = step(state, Event::Recorded(Ok(Some(both))), &at(2));
    assert!(
        actions.contains(&Action::Lead { epoch: 2, in_doubt: false })
            && !actions.contains(&Action::Serve(2))
    );
    let (state, actions) = step(state, Event::Shows(2), &at(2));
    assert_eq!(actions, [Action::Serve(2)]);
    state
}

fn handover(state: &State) -> Handover {
    let Phase::Primary(leading) = &state.phase else { panic!("no primary: {:?}", state.phase) };
    leading.handover
}

/// The main server was told to be primary before the pair had a record, and was a standby of nobody for ever.
#[test]
fn who_is_refused_before_the_pair_has_begun_can_still_begin_it() {
    let mut state = started(&SETUP, 0, Kept::default());
    state.rules.has_peer = false;
    let (state, _) = step(state, Event::Tick, &at(0));
    let (state, _) = step(state, Event::Promote { force: false }, &at(1));
    assert_eq!(state.phase, Phase::Candidate);
    let (state, _) = step(state, Event::Recorded(Ok(None)), &at(2));
    let (_, actions) = step(state, Event::Tick, &at(100));
    let begin = Ask::Begin { owner: STORES[0], epoch: 1 };
    assert_eq!(actions, [Action::Ask(begin)]);
}

/// The main server's machine was lost and a new one joined the other node, which did not answer for a while: it began the
/// pair anew, with nothing, and refused what it did not know. Had its record counted, the other would have followed it.
#[test]
fn a_new_main_server_waits_for_who_may_have_everything() {
    let setup = Setup { has_witness: false, ..SETUP };
    let state = started(&setup, 0, Kept::default());
    let (state, actions) = step(state, Event::Tick, &at(10_000));
    assert_eq!((state.role(), actions), (Role::Starting, Vec::new()));

    let standing = Standing { role: Role::Standby, epoch: 0, record: None };
    let begin = Action::Ask(Ask::Begin { owner: STORES[0], epoch: 1 });
    let (_, actions) = step(state.clone(), hello(1, standing), &at(10_001));
    assert!(actions.contains(&begin), "the other knows of no pair");

    // It is gone for good, and somebody says so.
    let (state, actions) = step(state, Event::Promote { force: false }, &at(10_002));
    assert!(matches!(actions[..], [Action::Told(Told::Refused(_))]), "{actions:?}");
    let (state, actions) = step(state, Event::Promote { force: true }, &at(10_003));
    assert_eq!(actions, [begin]);
    let first = Record::after(None, &Ask::Begin { owner: STORES[0], epoch: 1 });
    let (_, actions) = step(state, Event::Recorded(Ok(first)), &at(10_004));
    assert!(leads(&actions, 1));
}

/// The primary's folder was lost, and an empty one was there before the standby missed it: each heard the other, nobody was
/// primary, and so it stayed.
#[test]
fn an_empty_store_in_the_primarys_place_does_not_keep_the_standby_waiting() {
    let both = record(1, 0, InSync::Both(STORES[0], STORES[1]), 1);
    let kept = Kept { promise: 1, record: Some(both), accepted: false };
    let (mut state, _) = step(started(&SETUP, 1, kept), Event::Recorded(Ok(Some(both))), &at(1));
    state.phase = Phase::Standby;
    let standing = Standing { role: Role::Standby, epoch: 1, record: Some(both) };

    // The primary's own store, that only finds its role yet, is waited for.
    let (after, actions) = step(state.clone(), hello(0, standing), &at(2));
    assert_eq!((after.phase, actions), (Phase::Standby, Vec::new()));

    let Event::Heard(Heard::Hello(mut other)) = hello(0, standing) else { unreachable!() };
    other.store = StoreId([9; 16]);
    // Whoever has put it there has said that the primary is gone.
    let ask = Ask::Acquire { candidate: STORES[1], seen_epoch: 1, alone: true };
    for (has_witness, without_witness) in [
        (true, WithoutWitness::Manual),
        (false, WithoutWitness::Act),
        (false, WithoutWitness::AcceptOnly),
        (false, WithoutWitness::Manual),
    ] {
        let setup = Setup { has_witness, without_witness, ..SETUP };
        let state = State { rules: rules(&setup, 1), ..state.clone() };
        let (after, actions) = step(state, Event::Heard(Heard::Hello(other.clone())), &at(2));
        assert_eq!((after.phase, actions), (Phase::Candidate, vec![Action::Ask(ask)]));
    }
}

/// Without a witness both began epoch 2 and the failover server had got further in it: the main server, which was to
/// stay primary, took that record for its own, asked itself for changes of it without end, and was refused.
#[test]
fn of_two_records_of_one_epoch_the_main_servers_counts() {
    let setup = Setup { has_witness: false, without_witness: WithoutWitness::Act, ..SETUP };
    let of = |node: usize, version| record(2, node, InSync::Only(STORES[node]), version);
    let primary = |node: usize, version| {
        let kept = Kept {
            promise: 1,
            record: Some(record(1, node, InSync::Only(STORES[node]), 0)),
            accepted: false,
        };
        let taken = Event::Recorded(Ok(Some(of(node, version))));
        let (state, _) = step(started(&setup, node, kept), taken, &at(1));
        assert_eq!(state.role(), Role::Primary);
        state
    };
    let (main, other) = (primary(0, 0), primary(1, 7));

    let (after, actions) = step(main.clone(), hello(1, other.standing()), &at(2));
    assert_eq!((after.role(), after.kept.record), (Role::Primary, Some(of(0, 0))));
    assert!(!actions.contains(&Action::Follow));

    let (after, actions) = step(other, hello(0, main.standing()), &at(2));
    assert_eq!((after.role(), after.kept.record), (Role::Standby, Some(of(0, 0))));
    assert!(actions.contains(&Action::Follow));
}

/// The stages had stopped and nobody answered for the record: the pair stood still until somebody did, and later, for half
/// a minute.
#[test]
fn a_handover_that_nobody_answers_is_given_up() {
    let (state, actions) = step(leading(), Event::Switchover, &at(3));
    assert_eq!(actions, [Action::Told(Told::HandingOver), Action::Drain]);
    let (state, actions) = step(state, Event::Stopped, &at(4));
    assert!(matches!(actions[..], [Action::Ask(Ask::Transfer { .. })]));
    let (state, actions) = step(state, Event::Recorded(Err(())), &at(5));
    assert!(actions.contains(&Action::Confirm(2)) && handover(&state) == Handover::No);
    assert!(state.handover_lacks().is_some_and(|why| why.contains("witness")));

    // It had been granted after all.
    let standing = Standing { role: Role::Standby, epoch: 2, record: None };
    let (state, _) = step(state, hello(0, standing), &at(30_005));
    let granted = record(3, 0, InSync::Both(STORES[1], STORES[0]), 0);
    let (state, actions) = step(state, Event::Recorded(Ok(Some(granted))), &at(30_010));
    assert_eq!(state.role(), Role::Standby);
    assert!(actions.contains(&Action::Follow));
}

/// Stages took too long to stop, once, and the main server never got its role back.
#[test]
fn a_handover_that_was_given_up_is_tried_again() {
    let (state, actions) = step(leading(), Event::Tick, &at(100));
    assert!(actions.contains(&Action::Drain));
    let (state, actions) = step(state, Event::Tick, &at(30_100));
    assert!(actions.contains(&Action::Confirm(2)));
    let Phase::Primary(leading) = &state.phase else { panic!("no primary: {:?}", state.phase) };
    assert_eq!(leading.sync, Sync::Both);
    let (state, actions) = step(state, Event::Tick, &at(30_110));
    assert!(!actions.contains(&Action::Drain), "not at once");
    let (_, actions) = step(state, Event::Tick, &at(30_200));
    assert!(actions.contains(&Action::Drain));
}

/// It says that it only accepts, promises nothing, and gives way to the primary of the epoch before its own.
#[test]
fn who_only_accepts_gives_way_to_the_primary() {
    let setup = Setup { has_witness: false, without_witness: WithoutWitness::AcceptOnly, ..SETUP };
    let both = record(2, 0, InSync::Both(STORES[0], STORES[1]), 1);
    let kept = Kept { promise: 2, record: Some(both), accepted: false };
    let primary = Standing { role: Role::Primary, epoch: 2, record: Some(both) };
    let (state, _) = step(started(&setup, 1, kept), hello(0, primary), &at(1));
    assert_eq!((state.role(), state.due(&at(1))), (Role::Standby, Some(Duration::from_millis(31))));
    let (state, actions) = step(state, Event::Tick, &at(30));
    assert_eq!((state.role(), actions), (Role::Standby, Vec::new()), "not a moment too soon");
    let (state, actions) = step(state, Event::Tick, &at(31));
    assert!(actions.contains(&Action::Accept(3)) && !leads(&actions, 3));
    assert_eq!((state.standing().role, state.standing().epoch), (Role::Accepting, 2));
    assert!(state.kept.accepted);

    let (after, actions) = step(state.clone(), hello(0, primary), &at(40));
    assert_eq!(actions, [Action::Follow, Action::Told(Told::AcceptedEnough)]);
    assert!(after.role() == Role::Standby && after.kept.accepted);

    // Or an operator says that it is primary, in the epoch that it accepted in.
    let (state, actions) = step(state, Event::Promote { force: false }, &at(40));
    assert_eq!(actions[0], Action::Follow);
    let taken = Record::after(
        state.kept.record.as_ref(),
        match actions.last() {
            Some(Action::Ask(ask)) => ask,
            other => panic!("{other:?}"),
        },
    );
    let (state, actions) = step(state, Event::Recorded(Ok(taken)), &at(40));
    assert!(leads(&actions, 3));
    assert!(state.role() == Role::Primary && !state.kept.accepted);
}

/// A witness was restored from a copy, and nobody noticed; another was emptied, and was never used again.
#[test]
fn a_witness_that_forgot_is_told_and_begins_anew() {
    let mut state = leading();
    state.rules.failback_hold = None;
    let old = record(1, 0, InSync::Only(STORES[0]), 0);
    let (soon, actions) = step(state.clone(), Event::Recorded(Ok(Some(old))), &at(50));
    assert!(
        soon.witness == Witness::Answers && actions.is_empty(),
        "it may be an answer to what was asked before"
    );
    let (state, actions) = step(state, Event::Recorded(Ok(Some(old))), &at(5000));
    assert!(state.witness == Witness::Forgot && state.role() == Role::Primary);
    assert!(actions.contains(&Action::Told(Told::WitnessForgot)));
    let (state, actions) = step(state, Event::Recorded(Ok(Some(old))), &at(5001));
    assert!(!actions.contains(&Action::Told(Told::WitnessForgot)), "once");

    let state = State { asked: None, ..state };
    let (state, actions) = step(state, Event::Recorded(Ok(None)), &at(9000));
    let begin = Ask::Begin { owner: STORES[1], epoch: 3 };
    assert!(actions.contains(&Action::Ask(begin)), "{actions:?}");
    let (state, actions) = step(state, Event::Recorded(Ok(Record::after(None, &begin))), &at(9001));
    assert!(leads(&actions, 3) && !actions.contains(&Action::Follow));
    assert!(state.witness == Witness::Answers);
}
