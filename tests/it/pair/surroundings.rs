//! What is around the nodes fails: their disks, their clocks, what the witness remembers.

use std::{fs, path::Path};

use tandem_tests::{DEADLINE, Request, Side, Third, Traffic, audit::messages, wait_until};

use crate::TANDEM;

/// It fails when it writes, stops, and acknowledges nothing that it has not kept; the other goes on.
#[test]
fn a_node_whose_disk_is_full_leaves_the_work_to_the_other() {
    let mut pair = TANDEM.pair().third(Third::Server).start();
    let traffic = Traffic::to(&pair);
    for full in [Side::Failover, Side::Main] {
        let other = full.other();
        pair.wait_in_sync();
        assert_eq!(pair.node_mut(full).stop(), Some(0));
        pair.node_mut(full).launch_on_a_disk_that_fills();
        if pair.wait_in_sync() == Side::Failover {
            pair.failover.call("POST", "pair/switchover", None).expect(200);
        }
        assert_eq!(
            pair.wait_in_sync(),
            Side::Main,
            "once the standby's disk is full, once the primary's"
        );
        traffic.during(|| {
            traffic.wait_durability(2);
            pair.node(full).fill_disk();
            assert_ne!(pair.node_mut(full).wait_for_end(), Some(0));
            pair.wait_primary(other);
            traffic.wait_durability(1);
            traffic.wait_more(30);
            let log = pair.node(full).log();
            assert!(log.contains("the store failed and is closed"), "{log}");
            // There is room again.
            pair.node_mut(full).launch();
            traffic.wait_durability(2);
        });
    }
    traffic.assert_fenced();
    traffic.audit(&pair);
}

/// A node that cannot write down its role, for want of room or otherwise, ends, so that whoever starts nodes starts it again.
/// It used to stay, showing for ever that it handed over, while the other was primary and had no standby.
#[test]
fn a_node_that_cannot_keep_its_role_ends_and_is_standby_when_it_can() {
    let mut pair = TANDEM.pair().third(Third::Server).start();
    let traffic = Traffic::to(&pair);
    // Where it writes what it keeps before that takes the old one's place.
    let obstacle = pair.main.data_dir().join("pair.json.new");
    traffic.during(|| {
        traffic.wait_durability(2);
        fs::create_dir(&obstacle).unwrap();
        // It answers or not, as it is about to end.
        let ask = Request::post("/api/v1/pair/switchover", "");
        ask.send_within(pair.main.address, DEADLINE).ok();
        assert_eq!(pair.main.wait_for_end(), Some(1));
        let log = pair.main.log();
        assert!(log.contains("cannot be decided here any more"), "{log}");
        pair.wait_primary(Side::Failover);
        traffic.wait_durability(1);
        fs::remove_dir(&obstacle).unwrap();
        pair.main.launch();
        assert_eq!(pair.wait_in_sync(), Side::Failover);
        traffic.wait_durability(2);
    });
    traffic.assert_fenced();
    traffic.audit(&pair);
}

/// Debian's package `faketime`.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// Nothing that is safe rests on what time it is. Skipped where `faketime` is not installed.
#[test]
fn a_clock_that_is_a_day_off_changes_nothing() {
    if !Path::new(FAKETIME).exists() {
        eprintln!("skipped: there is no {FAKETIME}");
        return;
    }
    let preload = format!("LD_PRELOAD={FAKETIME}");
    for off in ["+1d", "-1d"] {
        let time = format!("FAKETIME={off}");
        let env = [preload.as_str(), time.as_str(), "FAKETIME_DONT_FAKE_MONOTONIC=1"];
        let mut pair = TANDEM.pair().third(Third::Server).start();
        let traffic = Traffic::to(&pair);
        traffic.during(|| {
            pair.failover.kill9();
            pair.failover.launch_with(&env);
            pair.wait_in_sync();
            traffic.wait_durability(2);
            // It takes over, gives the role back, and takes it again.
            pair.main.kill9();
            pair.wait_primary(Side::Failover);
            traffic.wait_more(30);
            pair.main.launch();
            pair.wait_in_sync();
            pair.failover.call("POST", "pair/switchover", None).expect(200);
            assert_eq!(pair.wait_in_sync(), Side::Main);
            traffic.wait_more(30);
        });
        traffic.assert_fenced();
        traffic.audit(&pair);
        // It was off indeed.
        let times: Vec<_> = messages(&pair.main)
            .values()
            .map(|message| message["time_ms"].as_u64().unwrap())
            .collect();
        let (first, last) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        assert!(last - first > 80_000_000, "{first} to {last}");
    }
}

/// An old copy of the witness grants nothing, and it is told; emptied, it is used again.
#[test]
fn a_witness_that_was_set_back_is_noticed_and_begins_anew() {
    let mut pair = TANDEM.pair().third(Third::Server).start();
    let traffic = Traffic::to(&pair);
    let folder = pair.witness().data_dir();
    let copy = folder.with_file_name("copy");
    traffic.during(|| {
        assert_eq!(pair.witness().stop(), Some(0));
        fs::create_dir(&copy).unwrap();
        fs::copy(pair.witness().file(), copy.join("witness.redb")).unwrap();
        pair.run_witness();
        pair.main.call("POST", "pair/switchover", None).expect(200);
        assert_eq!(pair.wait_in_sync(), Side::Failover);

        pair.witness().kill9();
        fs::copy(copy.join("witness.redb"), pair.witness().file()).unwrap();
        pair.run_witness();
        for side in Side::BOTH {
            let told = |status: &serde_json::Value| status["witness"] == "forgot";
            let status = pair.wait_status(side, "the witness forgot", told);
            assert!(status["warnings"].to_string().contains("move its folder away"), "{status}");
        }
        traffic.wait_durability(2);
        // Who was primary in that copy is not by that.
        assert_eq!(pair.wait_in_sync(), Side::Failover);

        pair.witness().kill9();
        fs::remove_dir_all(&folder).unwrap();
        pair.run_witness();
        for side in Side::BOTH {
            let is_well = |status: &serde_json::Value| status["witness"] == "answers";
            pair.wait_status(side, "the witness is used again", is_well);
        }
        assert_eq!(pair.wait_in_sync(), Side::Failover);
        traffic.wait_durability(2);
        // It counts again.
        pair.failover.kill9();
        pair.wait_primary(Side::Main);
        traffic.wait_durability(1);
        pair.failover.launch();
        traffic.wait_durability(2);
    });
    wait_until("the log says so", || pair.main.log().contains("the witness has an older record"));
    traffic.assert_fenced();
    traffic.audit(&pair);
}
