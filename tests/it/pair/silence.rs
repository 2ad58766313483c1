//! A node hangs, or the link between the nodes is cut: the other cannot know which.

use std::time::Duration;

use tandem_tests::{DEADLINE, PairUnderTest, Side, Third, Traffic, wait_until, wire::Way};

use crate::TANDEM;

/// Short enough that a test is; a machine that hangs for that long only makes a test do more.
const FAST: &str = "profile = \"fast\"\nfailback = \"manual\"";

/// Beyond the time-out, and back: it is told that it is primary no more before it acknowledges anything.
#[test]
fn a_primary_that_hung_is_fenced_by_the_witness() {
    let pair = TANDEM.pair().third(Third::Server).lines(FAST).start();
    let traffic = Traffic::to(&pair);
    traffic.during(|| {
        for _ in 0..3 {
            let primary = pair.wait_in_sync();
            traffic.wait_more(30);
            pair.node(primary).pause();
            pair.wait_primary(primary.other());
            traffic.wait_more(30);
            pair.node(primary).resume();
            pair.wait_in_sync();
        }
    });
    traffic.assert_fenced();
    traffic.audit(&pair);
}

/// With a witness there is never more than one that takes messages, however the link is cut.
#[test]
fn a_cut_link_leaves_one_primary_with_a_witness() {
    let pair = TANDEM.pair().third(Third::Server).lines(FAST).wired().start();
    let traffic = Traffic::to(&pair);
    traffic.during(|| {
        let cuts: [fn(&PairUnderTest); 3] = [
            PairUnderTest::stall_links,
            |pair| pair.wire_to(Side::Main).stall(Way::There),
            |pair| pair.wire_to(Side::Main).stall(Way::Back),
        ];
        for cut in cuts {
            pair.wait_in_sync();
            traffic.wait_durability(2);
            cut(&pair);
            traffic.wait_durability(1);
            traffic.wait_more(20);
            pair.heal_links();
        }
        pair.wait_in_sync();
    });
    traffic.assert_fenced();
    traffic.audit(&pair);
}

/// A link that works for a moment, again and again.
#[test]
fn a_flapping_link_leaves_one_primary_with_a_witness() {
    let pair = TANDEM.pair().third(Third::Server).lines(FAST).wired().start();
    let traffic = Traffic::to(&pair);
    traffic.during(|| {
        for round in 0..20 {
            traffic.wait_more(5);
            match round % 3 {
                0 => pair.stall_links(),
                1 => pair.wire_to(Side::Main).cut(),
                _ => pair.wire_to(Side::Main).stall(Way::Back),
            }
            traffic.wait_more(5);
            pair.heal_links();
        }
        pair.wait_in_sync();
    });
    traffic.assert_fenced();
    traffic.audit(&pair);
}

/// Without a witness both act while the link is cut; when it heals there is one primary, and all that was receipted.
#[test]
fn without_a_witness_both_act_and_nothing_is_lost() {
    let pair = TANDEM.pair().lines(FAST).wired().start();
    let traffic = Traffic::to(&pair).while_both_act();
    traffic.during(|| {
        traffic.wait_more(30);
        pair.stall_links();
        wait_until("both act", || pair.primaries() == Side::BOTH);
        traffic.wait_more(50);
        pair.heal_links();
        pair.wait_in_sync();
        traffic.wait_durability(2);
    });
    traffic.audit_loosely(&pair);
}

/// The same when the primary hung.
#[test]
fn without_a_witness_a_primary_that_hung_comes_back_and_nothing_is_lost() {
    let pair = TANDEM.pair().lines(FAST).start();
    let traffic = Traffic::to(&pair).while_both_act();
    traffic.during(|| {
        traffic.wait_more(30);
        pair.main.pause();
        pair.wait_primary(Side::Failover);
        traffic.wait_more(30);
        pair.main.resume();
        pair.wait_in_sync();
        traffic.wait_durability(2);
    });
    traffic.audit_loosely(&pair);
}

/// Nobody may take over while the witness is away; nothing stops, either, as long as both nodes are there.
#[test]
fn the_witness_goes_and_returns_and_forgets() {
    let mut pair = TANDEM.pair().third(Third::Server).start();
    let traffic = Traffic::to(&pair);
    let is_silent = |pair: &PairUnderTest| pair.status(Side::Main).unwrap()["witness"] == "silent";
    traffic.during(|| {
        traffic.wait_durability(2);
        pair.witness().kill9();
        traffic.wait_more(50);
        traffic.wait_durability(2);
        pair.run_witness();
        traffic.wait_more(50);
        traffic.wait_durability(2);

        // Without what it knew.
        pair.witness().kill9();
        let folder = pair.witness().data_dir();
        std::fs::remove_dir_all(folder).unwrap();
        pair.run_witness();
        traffic.wait_more(50);
        traffic.wait_durability(2);
        assert_eq!(pair.wait_in_sync(), Side::Main);
        assert!(!is_silent(&pair));
    });
    traffic.audit(&pair);
    assert!(traffic.longest_gap() < DEADLINE);
}

/// Roles cannot change without the witness, so nothing stops for it: an exchange that is asked for is given up as soon as the
/// witness does not answer, and refused once that is known. It used to hold everything up for half a minute.
#[test]
fn an_exchange_of_roles_does_not_wait_for_a_witness_that_is_silent() {
    let pair = TANDEM.pair().third(Third::Server).wired().start();
    let traffic = Traffic::to(&pair);
    traffic.during(|| {
        traffic.wait_durability(2);
        for side in Side::BOTH {
            pair.wire_to_witness(side).stall_all();
        }
        // Now it is not known yet, then it is.
        for _ in 0..2 {
            let answer = pair.main.call("POST", "pair/switchover", None);
            let why = answer.problem(409, "no-switchover");
            assert!(why.contains("the witness"), "{why}");
            pair.wait_status(Side::Main, "the witness is silent", |s| s["witness"] == "silent");
        }
        traffic.wait_durability(2);
        for side in Side::BOTH {
            pair.wire_to_witness(side).resume();
        }
        pair.wait_status(Side::Main, "the witness answers", |s| s["witness"] == "answers");
        pair.main.call("POST", "pair/switchover", None).expect(200);
    });
    // An ask of the witness takes two seconds at most.
    assert!(traffic.longest_gap() < Duration::from_secs(15), "{:?}", traffic.longest_gap());
    traffic.audit(&pair);
}
