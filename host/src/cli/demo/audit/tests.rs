//! The verdict on facts that are right, and on each way in which they can be wrong.

use super::{super::receiver::Figures as Received, *};
use crate::cli::{
    demo::receiver,
    output::{Colour, Format},
};

fn receipted(id: &str, what: What) -> Receipted {
    Receipted { what, id: id.into(), epoch: 1, durability: 2, at: Instant::now() }
}

fn order(cents: i64) -> What {
    What::Order { customer: "c1".into(), cents }
}

fn all() -> Vec<Receipted> {
    vec![
        receipted("a", What::Lead { number: 1 }),
        receipted("b", What::Lead { number: 2 }),
        receipted("c", order(100)),
        receipted("d", order(250)),
    ]
}

fn right(receipts: &[Receipted]) -> Facts<'_> {
    Facts {
        drained: true,
        head: Some(40),
        sent: Figures { sent: 4, receipts: 4, on_two_disks: 3, on_one_disk: 1, failed_tries: 2 },
        receipts,
        given_up: &[],
        found: receipts.iter().map(|receipt| (receipt.id.clone(), "done".to_owned())).collect(),
        totals: BTreeMap::from([("c1".to_owned(), Totals { orders: 2, cents: 350 })]),
        leads_counted: 2,
        received: receiver::Received { leads: vec![1, 2], figures: Received::default() },
    }
}

/// The one fault of the right facts after `spoil`.
fn fault(spoil: impl FnOnce(&mut Facts)) -> String {
    let all = all();
    let mut facts = right(&all);
    spoil(&mut facts);
    let proof = judge(&facts);
    assert!(!proof.holds);
    assert_eq!(proof.faults.len(), 1, "{:?}", proof.faults);
    proof.faults[0].clone()
}

#[test]
fn right_facts_are_a_proof() {
    let all = all();
    let proof = judge(&right(&all));
    assert_eq!(proof.faults, Vec::<String>::new());
    assert!(proof.holds);
    let output = Output { format: Format::Text, colour: Colour::Off };
    insta::assert_snapshot!(proof.lines(output).join("\n"), @"

    Proof
      sent                4   2 tries failed and were repeated
      receipted           4   3 on two disks, 1 on one
      handled once        4   2 leads counted, 2 orders in the totals, to the cent
      delivered once      2   of 2 leads; 0 requests were repeated, with the same key
      frames             40   the last frame of both stores

    Nothing was lost, nothing was done twice.
    ");
    insta::assert_snapshot!(serde_json::to_string(&proof).unwrap(), @r#"{"holds":true,"sent":4,"receipts":4,"on_two_disks":3,"on_one_disk":1,"failed_tries":2,"leads":{"receipts":2,"handled_once":2,"delivered_once":2},"orders":{"receipts":2,"handled_once":2,"delivered_once":null},"deliveries_repeated":0,"head":40,"faults":[]}"#);
}

#[test]
fn every_way_to_be_wrong_is_found() {
    let a = || "a".to_owned();
    assert_eq!(fault(|f| drop(f.found.remove("a"))), "1 messages with a receipt are lost: a");
    assert_eq!(
        fault(|f| drop(f.found.insert(a(), "scheduled".into()))),
        "1 messages are not done: a is scheduled"
    );
    assert_eq!(
        fault(|f| drop(f.found.insert("z".into(), "done".into()))),
        "1 messages are there that have no receipt: z"
    );
    assert_eq!(fault(|f| f.received.leads = vec![2]), "1 leads never came to the CRM: lead 1");
    assert_eq!(
        fault(|f| f.received.leads.push(2)),
        "1 leads came to the CRM as more than one: lead 2"
    );
    assert_eq!(
        fault(|f| f.received.leads.push(3)),
        "1 leads came to the CRM without a receipt: lead 3"
    );
    assert_eq!(fault(|f| f.leads_counted = 3), "3 leads were counted instead of 2");
    assert_eq!(
        fault(|f| {
            f.totals.insert("c1".into(), Totals { orders: 3, cents: 450 });
        }),
        "1 customers' totals are wrong: c1 has 3 orders of 450 cents instead of 2 of 350"
    );
    assert!(fault(|f| f.totals.clear()).contains("c1 has 0 orders"));
    assert!(fault(|f| f.drained = false).contains("stuck"));
    assert!(fault(|f| f.head = None).contains("do not end alike"));
    assert!(fault(|f| f.received.figures.wrong = 2).starts_with("2 requests"));
}

#[test]
fn a_receipt_given_for_two_messages_is_found() {
    let mut all = all();
    all[1].id = "a".into();
    assert_eq!(judge(&right(&all)).faults, ["1 receipts were given for two messages: a"]);
}

#[test]
fn what_was_given_up_may_be_there_or_not_and_is_a_fault() {
    let all = all();
    let given_up = [What::Lead { number: 9 }, order(1)];
    let mut facts = Facts { given_up: &given_up, ..right(&all) };
    let never = ["2 messages never got a receipt: lead 9, an order of c1, 1 cents"];
    assert_eq!(judge(&facts).faults, never);
    facts.received.leads.push(9);
    facts.leads_counted = 3;
    facts.found.insert("z".into(), "done".into());
    facts.totals.insert("c1".into(), Totals { orders: 3, cents: 351 });
    assert_eq!(judge(&facts).faults, never);
    facts.received.leads.push(9);
    assert_eq!(judge(&facts).faults.len(), 2);
}

#[test]
fn many_faults_of_a_kind_are_one_line() {
    let all: Vec<_> =
        (1..=9).map(|n| receipted(&n.to_string(), What::Lead { number: n })).collect();
    let facts = Facts { found: HashMap::new(), totals: BTreeMap::new(), ..right(&all) };
    let received = receiver::Received { leads: (1..=9).collect(), figures: Received::default() };
    let facts = Facts { received, leads_counted: 9, ..facts };
    assert_eq!(judge(&facts).faults, ["9 messages with a receipt are lost: 1, 2, 3, 4, 5, …"]);
}
