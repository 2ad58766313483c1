//! A node's process dies, or both do.

use std::{
    thread,
    time::{Duration, Instant},
};

use tandem_tests::{DEADLINE, PairUnderTest, Request, Side, Third, Traffic, wait_until};

use crate::TANDEM;

/// The failover server acts; the main server comes back, catches up, and gets its role back by itself.
#[test]
fn the_main_server_dies_and_returns() {
    let lines = "interval = \"500ms\"\nretries = 5\nfailback_hold = \"1s\"";
    let mut pair = TANDEM.pair().lines(lines).start();
    let traffic = Traffic::to(&pair);
    traffic.during(|| {
        traffic.wait_more(100);
        pair.main.kill9();
        pair.wait_primary(Side::Failover);
        traffic.wait_durability(1);
        traffic.wait_more(100);
        pair.main.launch();
        traffic.wait_durability(2);
        wait_until("the main server has its role back", || pair.primaries() == [Side::Main]);
        pair.wait_in_sync();
        traffic.wait_durability(2);
    });
    traffic.assert_fenced();
    traffic.audit(&pair);
}

/// Again and again, whoever is primary.
#[test]
fn the_primary_dies_again_and_again() {
    let mut pair = TANDEM.pair().third(Third::Server).start();
    let traffic = Traffic::to(&pair);
    traffic.during(|| {
        for _ in 0..5 {
            let primary = pair.wait_in_sync();
            traffic.wait_more(50);
            pair.node_mut(primary).kill9();
            pair.wait_primary(primary.other());
            traffic.wait_more(50);
            pair.node_mut(primary).launch();
        }
        pair.wait_in_sync();
    });
    traffic.assert_fenced();
    traffic.audit(&pair);
}

#[test]
fn the_standby_dies_and_returns() {
    let mut pair = TANDEM.pair().start();
    let traffic = Traffic::to(&pair);
    traffic.during(|| {
        for _ in 0..3 {
            traffic.wait_durability(2);
            pair.failover.kill9();
            traffic.wait_durability(1);
            traffic.wait_more(50);
            pair.failover.launch();
            traffic.wait_durability(2);
        }
    });
    assert_eq!(pair.primaries(), [Side::Main]);
    traffic.audit(&pair);
}

/// Who was in sync may begin, whoever is there first.
#[test]
fn both_die_and_return_in_either_order() {
    for third in [Third::None, Third::Server] {
        both_die_and_return(TANDEM.pair().third(third).start());
    }
}

fn both_die_and_return(mut pair: PairUnderTest) {
    let traffic = Traffic::to(&pair);
    for first in Side::BOTH {
        traffic.during(|| {
            traffic.wait_more(50);
            // At the same time, as far as they can see.
            let primary = pair.wait_in_sync();
            pair.node(primary.other()).pause();
            pair.node_mut(primary).kill9();
            pair.node_mut(primary.other()).kill9();
            pair.node_mut(first).launch();
            pair.wait_primary(first);
            traffic.wait_durability(1);
            pair.node_mut(first.other()).launch();
            pair.wait_in_sync();
            traffic.wait_durability(2);
        });
    }
    traffic.audit(&pair);
}

/// Either dies in the middle of an exchange of roles, at whatever point that has come to.
#[test]
fn who_dies_in_the_middle_of_a_switchover_is_missed_by_nobody() {
    let mut pair = TANDEM.pair().third(Third::Server).lines("failback = \"manual\"").start();
    let traffic = Traffic::to(&pair);
    traffic.during(|| {
        for round in 0..12 {
            let primary = pair.wait_in_sync();
            traffic.wait_durability(2);
            let victim = if round % 2 == 0 { primary } else { primary.other() };
            let (ask, address) =
                (Request::post("/api/v1/pair/switchover", ""), pair.node(primary).address);
            let asked = thread::spawn(move || ask.send_within(address, DEADLINE).ok());
            // Nothing, the stages stopping, the record changing, the other beginning: all within some 30 ms.
            let moment = Duration::from_millis(round * 3);
            let began = Instant::now();
            while began.elapsed() < moment {
                thread::yield_now();
            }
            pair.node_mut(victim).kill9();
            pair.wait_primary(victim.other());
            traffic.wait_more(20);
            pair.node_mut(victim).launch();
            pair.wait_in_sync();
            asked.join().unwrap();
        }
    });
    traffic.assert_fenced();
    traffic.audit(&pair);
}
