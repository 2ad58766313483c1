//! What is chosen for a pair without a standby, or without a primary.

use serde_json::Value;
use tandem_tests::{Side, Third, Traffic, wait_until};

use crate::TANDEM;

/// A receipt always means two disks: without a standby there is none, and the refusal says what to do.
#[test]
fn strict_takes_nothing_in_without_a_standby() {
    let lines = "interval = \"500ms\"\nretries = 5\nfailback = \"manual\"\nmode = \"strict\"";
    let mut pair = TANDEM.pair().third(Third::Server).lines(lines).start();
    let traffic = Traffic::to(&pair);
    let refuses = |node: &tandem_tests::NodeUnderTest| {
        wait_until("it takes nothing in", || {
            let answer = node.post("/hooks/lean/in", "refused");
            assert_ne!(answer.status, 202, "{answer}");
            answer.status == 503 && answer.json()["code"] == "no-standby"
        });
        let says = node.post("/hooks/lean/in", "refused").expect(503).json()["detail"].to_string();
        assert!(says.contains("not kept") && says.contains("`mode`"), "{says}");
    };
    traffic.during(|| traffic.wait_more(30));
    for dead in [Side::Failover, Side::Main] {
        let alive = dead.other();
        pair.wait_in_sync();
        pair.node_mut(dead).kill9();
        pair.wait_primary(alive);
        refuses(pair.node(alive));
        let status = pair.status(alive).unwrap();
        assert!(status["warnings"].to_string().contains("strict"), "{status}");
        // Also one that was primary alone and starts again.
        pair.node_mut(alive).kill9();
        pair.node_mut(alive).launch();
        pair.wait_primary(alive);
        refuses(pair.node(alive));
        pair.node_mut(dead).launch();
        traffic.during(|| traffic.wait_more(30));
    }
    traffic.audit(&pair);
    assert!(traffic.got().iter().all(|got| got.durability == 2));
}

/// Without a witness and with an operator: silence alone makes nobody primary.
#[test]
fn manual_waits_for_an_operator() {
    let lines = "profile = \"fast\"\nfailback = \"manual\"\nwithout_witness = \"manual\"";
    let mut pair = TANDEM.pair().lines(lines).start();
    let traffic = Traffic::to(&pair);
    traffic.during(|| {
        traffic.wait_more(30);
        pair.main.kill9();
        // Five times as long as it takes to notice.
        let is_late = |status: &Value| status["peer"]["heard_ms_ago"].as_u64() > Some(3000);
        let status = pair.wait_status(Side::Failover, "it has heard nothing for long", is_late);
        assert_eq!(status["role"], "standby", "{status}");
        pair.failover.tandem(&["pair", "promote"]).expect(0);
        pair.wait_primary(Side::Failover);
        traffic.wait_more(30);
        pair.main.launch();
        assert_eq!(pair.wait_in_sync(), Side::Failover);
        traffic.wait_durability(2);
    });
    traffic.assert_fenced();
    traffic.audit(&pair);
}
