//! A takeover on a copy, while the pair goes on.

use tandem_tests::{DEADLINE, Side, Solution, Traffic, wait_until};

use crate::TANDEM;

const STEPS: [&str; 6] = ["copy", "open", "verify", "epoch", "components", "message"];

/// Traffic flows meanwhile; nothing is handled or delivered twice, and the roles stay.
#[test]
fn a_drill_tells_each_step_and_touches_nothing() {
    let pair = TANDEM.pair().start();
    let traffic = Traffic::to(&pair);
    let epoch = pair.status(Side::Main).unwrap()["epoch"].clone();
    let standby = pair.status(Side::Failover).unwrap()["node"].clone();
    traffic.during(|| {
        traffic.wait_more(100);
        // Either node is asked, and the standby does it.
        for side in Side::BOTH {
            let told = pair.node(side).tandem(&["pair", "drill", "--json"]).expect(0).json();
            assert_eq!(told["state"], "done", "{told}");
            assert_eq!(told["node"], standby);
            let steps = told["steps"].as_array().unwrap();
            let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
            assert_eq!(names, STEPS);
            let sum: u64 = steps.iter().map(|step| step["took_ms"].as_u64().unwrap()).sum();
            assert!(sum <= told["took_ms"].as_u64().unwrap(), "{told}");
            assert!(told["frame"].as_u64().unwrap() > 10, "{told}");
            assert!(told["copied_bytes"].as_u64().unwrap() > 1000, "{told}");
            assert!(!pair.failover.data_dir().join("drill").exists(), "the copy is gone");
            traffic.wait_more(20);
        }
        let told = pair.main.tandem(&["pair", "drill"]).expect(0);
        assert!(told.out.contains("STEP") && told.out.contains("the copy is gone"), "{told}");
    });
    assert_eq!(pair.primaries(), [Side::Main]);
    assert_eq!(pair.status(Side::Main).unwrap()["epoch"], epoch);
    // It also shows that the drill's own solution and message are nowhere.
    traffic.audit(&pair);
    for side in Side::BOTH {
        let solutions = pair.node(side).api("solutions");
        assert_eq!(solutions.as_array().unwrap().len(), 1, "{solutions}");
        assert_ne!(solutions[0]["state"], "paused");
    }
}

#[test]
fn a_drill_that_cannot_be_is_refused_with_the_reason() {
    let mut pair = TANDEM.pair().start();
    assert_eq!(pair.failover.stop(), Some(0));
    pair.configure(Side::Failover, "min_free = \"1023GiB\"");
    pair.failover.launch();
    pair.wait_in_sync();
    let told = pair.main.tandem(&["pair", "drill"]).expect(1);
    assert!(told.err.contains("make room first"), "{told}");
    assert!(!pair.failover.data_dir().join("drill").exists());
    let told = pair.main.tandem(&["pair", "drill", "--json"]).expect(1).json();
    assert_eq!((told["state"].as_str(), &told["steps"]), (Some("failed"), &serde_json::json!([])));

    pair.failover.kill9();
    pair.wait_status(Side::Main, "it is alone", |status| status["peer"]["linked"] == false);
    let told = pair.main.tandem(&["pair", "drill"]).expect(1);
    assert!(told.err.contains("a drill is done on the standby"), "{told}");
    let alone = TANDEM.node();
    let told = alone.tandem(&["pair", "drill"]).expect(1);
    assert!(told.err.contains("[no-pair]"), "{told}");
}

/// Killed in the middle: what it left goes with the next start.
#[test]
fn a_drill_that_was_killed_leaves_nothing() {
    let mut pair = TANDEM.pair().start();
    pair.main.deploy(&Solution::lean());
    for _ in 0..100 {
        pair.main.post("/hooks/lean/in", vec![b'a'; 100_000]).expect(202);
    }
    pair.wait_even();
    let folder = pair.failover.data_dir().join("drill");
    let began = std::time::Instant::now();
    loop {
        assert!(began.elapsed() < DEADLINE, "every drill was over before it was killed");
        pair.failover.call("POST", "pair/drill", None).expect(202);
        wait_until("it has begun", || {
            folder.join("store.redb").exists()
                || pair.failover.api("pair/drill")["state"] != "running"
        });
        pair.failover.kill9();
        let was_in_the_middle = folder.exists();
        pair.failover.launch();
        assert!(!folder.exists(), "it is gone once the node runs again");
        pair.wait_in_sync();
        if was_in_the_middle {
            break;
        }
    }
    assert_eq!(pair.primaries(), [Side::Main]);
    let told = pair.failover.tandem(&["pair", "drill", "--json"]).expect(0).json();
    assert_eq!(told["state"], "done");
}
