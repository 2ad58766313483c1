//! A standby that has nothing gets everything, slowly, and something happens in the middle of it.

use serde_json::json;
use tandem_tests::{PairUnderTest, Setup, Side, Traffic, audit, wait_until};

use crate::TANDEM;

/// Bodies that are there before the standby is, in bytes. With what is delivered, they are more frames than the journal
/// keeps (64 MiB).
const BODY: usize = 900_000;
const BODIES: usize = 45;
/// So much more of it is on the standby's disk whenever it is in the middle.
const MIDDLE: u64 = 6 << 20;
/// Ten seconds for all of it.
const SLOWLY: &str = "interval = \"500ms\"\nretries = 5\nfailback = \"manual\"\ncopy_rate = \"4MiB\"\n[log]\nlevel = \"debug\"";

/// A pair in sync whose store takes a while to copy.
fn large(setup: Setup, lines: &str) -> (PairUnderTest, Traffic) {
    let pair = setup.lines(lines).start();
    let traffic = Traffic::to(&pair);
    send_bodies(&pair, "first");
    (pair, traffic)
}

fn send_bodies(pair: &PairUnderTest, which: &str) {
    for number in 0..BODIES {
        let body = format!("large {which} {number} {}", "x".repeat(BODY));
        pair.main.post("/hooks/lean/in", body).expect(202);
    }
    audit::wait_until_idle(&pair.main);
}

/// The failover server loses all that it has and joins anew.
fn lose_the_standby(pair: &mut PairUnderTest) {
    pair.failover.kill9();
    pair.wipe(Side::Failover);
    let code = pair.invite(Side::Main);
    pair.join(Side::Failover, &code).expect(0);
    pair.failover.launch();
}

/// For the first, second, third time.
fn wait_for_the_middle(pair: &PairUnderTest, time: u64) {
    wait_until("a part of the rows is on the standby's disk", || {
        let came = bytes_of(pair, "more of the other node's rows are on this disk");
        came.iter().sum::<u64>() >= MIDDLE * time
    });
    assert_ne!(pair.status(Side::Main).unwrap()["sync"], "both", "it is in the middle of it");
}

/// How many bytes it had of what it needs, each time it was asked.
fn had(pair: &PairUnderTest) -> Vec<u64> {
    bytes_of(pair, "those come that are not here already")
}

/// What lines of the standby's log that say `what` say in bytes.
fn bytes_of(pair: &PairUnderTest, what: &str) -> Vec<u64> {
    let log = pair.failover.log();
    let lines = log.lines().filter(|line| line.contains(what));
    let bytes = lines.filter_map(|line| line.split("bytes=").nth(1));
    bytes.map(|bytes| bytes.split_whitespace().next().unwrap().parse().unwrap()).collect()
}

/// What came once need not come again, however often the standby dies.
#[test]
fn a_standby_that_dies_while_it_gets_everything_goes_on_where_it_was() {
    let (mut pair, traffic) = large(TANDEM.pair(), SLOWLY);
    traffic.during(|| {
        lose_the_standby(&mut pair);
        for time in 1..=3 {
            wait_for_the_middle(&pair, time);
            pair.failover.kill9();
            pair.failover.launch();
        }
        traffic.wait_durability(2);
        traffic.wait_more(50);
    });
    assert_eq!(pair.primaries(), [Side::Main]);
    let had = had(&pair);
    let again = had.iter().rev().take(3);
    assert!(again.clone().count() == 3 && again.min() > Some(&(1 << 20)), "{had:?}");
    traffic.audit(&pair);
    // It has what it needs to act.
    pair.main.kill9();
    pair.wait_primary(Side::Failover);
    let receipt = pair.failover.post("/hooks/lean/in", "after").expect(202).json();
    pair.failover.wait_for_status(receipt["id"].as_str().unwrap(), "done");
}

/// The rows are then those of another moment; what is the same in both need not come again. Nobody else takes over.
#[test]
fn a_primary_that_dies_while_it_gives_everything_goes_on() {
    let (mut pair, traffic) = large(TANDEM.pair(), SLOWLY);
    traffic.during(|| {
        lose_the_standby(&mut pair);
        for time in 1..=2 {
            wait_for_the_middle(&pair, time);
            pair.main.kill9();
            pair.main.launch();
            pair.wait_primary(Side::Main);
            traffic.wait_durability(1);
        }
        traffic.wait_durability(2);
    });
    assert_eq!(pair.primaries(), [Side::Main]);
    let had = had(&pair);
    assert!(had.iter().rev().take(2).min() > Some(&(1 << 20)), "{had:?}");
    traffic.assert_fenced();
    traffic.audit(&pair);
}

#[test]
fn a_link_that_breaks_while_everything_is_given_goes_on() {
    let (mut pair, traffic) = large(TANDEM.pair().wired(), SLOWLY);
    traffic.during(|| {
        lose_the_standby(&mut pair);
        for time in 1..=2 {
            wait_for_the_middle(&pair, time);
            for side in Side::BOTH {
                pair.wire_to(side).cut();
            }
        }
        traffic.wait_durability(2);
    });
    let had = had(&pair);
    assert!(had.last() > Some(&(1 << 20)), "{had:?}");
    traffic.audit(&pair);
}

/// More is written meanwhile than is kept for the standby: it begins anew with what it still lacks, and that is told.
#[test]
fn frames_that_are_kept_for_a_copy_have_a_bound() {
    let slowly = SLOWLY.replace("4MiB\"", "256KiB\"\ncopy_frames = \"1MiB\"");
    let (mut pair, traffic) = large(TANDEM.pair(), &slowly);
    lose_the_standby(&mut pair);
    wait_until("it was asked what it has", || !had(&pair).is_empty());
    send_bodies(&pair, "second");
    pair.wait_status(Side::Main, "it says that the copy begins anew", |status| {
        status["warnings"].to_string().contains("copy_frames")
    });
    wait_until("it was asked once more", || had(&pair).len() >= 2);
    pair.configure_both(&SLOWLY.replace("4MiB", "0B"));
    pair.main.kill9();
    pair.main.launch();
    pair.wait_even();
    let warnings = &pair.status(Side::Main).unwrap()["warnings"];
    assert_eq!(*warnings, json!([]));
    traffic.audit(&pair);
}
