//! The verdict on facts that are right, and on each way in which they can be wrong.

use super::{
    super::{receiver::Figures, traffic::Hook},
    *,
};

fn sent(id: &str, what: What) -> Sent {
    Sent { id: id.into(), what }
}

fn order(cents: i64) -> What {
    What::Order { customer: "c1".into(), cents }
}

fn all_sent() -> Vec<Sent> {
    vec![
        sent("a", What::Lead { number: 1 }),
        sent("b", What::Lead { number: 2 }),
        sent("c", order(100)),
        sent("d", order(250)),
        sent("e", What::Wrong { hook: Hook::Leads }),
        sent("f", What::Heartbeat),
    ]
}

fn right(sent: &[Sent]) -> Facts<'_> {
    let status = |sent: &Sent| match sent.what {
        What::Wrong { .. } => "dead".to_owned(),
        _ => "done".to_owned(),
    };
    Facts {
        drained: true,
        sent,
        unclear: &[],
        found: sent.iter().map(|sent| (sent.id.clone(), status(sent))).collect(),
        totals: BTreeMap::from([("c1".to_owned(), Totals { orders: 2, cents: 350 })]),
        received: Received { leads: vec![1, 2], figures: Figures::default() },
    }
}

/// The one fault of the right facts after `spoil`.
fn fault(spoil: impl FnOnce(&mut Facts)) -> String {
    let sent = all_sent();
    let mut facts = right(&sent);
    spoil(&mut facts);
    let audit = judge(&facts);
    assert!(!audit.clean);
    assert_eq!(audit.faults.len(), 1, "{:?}", audit.faults);
    audit.faults[0].clone()
}

#[test]
fn right_facts_are_clean() {
    let sent = all_sent();
    let audit = judge(&right(&sent));
    assert_eq!(audit.faults, Vec::<String>::new());
    assert!(audit.clean);
    assert_eq!((audit.receipts, audit.done, audit.dead), (6, 5, 1));
    assert_eq!((audit.leads, audit.leads_received, audit.orders), (2, 2, 2));
}

#[test]
fn every_way_to_be_wrong_is_found() {
    let a = || "a".to_owned();
    assert_eq!(fault(|f| drop(f.found.remove("a"))), "1 messages with a receipt are lost: a");
    assert_eq!(
        fault(|f| drop(f.found.insert(a(), "scheduled".into()))),
        "1 messages did not end as they should: a is scheduled, not done"
    );
    assert_eq!(
        fault(|f| drop(f.found.insert("e".into(), "done".into()))),
        "1 messages did not end as they should: e is done, not dead"
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
    assert_eq!(
        fault(|f| {
            f.totals.insert("c1".into(), Totals { orders: 3, cents: 450 });
        }),
        "1 customers' totals are wrong: c1 has 3 orders of 450 cents instead of 2 of 350"
    );
    assert!(fault(|f| f.totals.clear()).contains("c1 has 0 orders"));
    assert!(fault(|f| f.drained = false).contains("stuck"));
    assert!(fault(|f| f.received.figures.wrong = 2).starts_with("2 requests"));
}

#[test]
fn a_receipt_given_for_two_messages_is_found() {
    let mut sent = all_sent();
    sent.push(self::sent("f", What::Heartbeat));
    let audit = judge(&right(&sent));
    assert_eq!(audit.faults, ["1 receipts were given twice: f"]);
}

#[test]
fn what_was_never_answered_may_be_there_or_not() {
    let sent = all_sent();
    let unclear = [What::Lead { number: 9 }, order(1)];
    let mut facts = Facts { unclear: &unclear, ..right(&sent) };
    assert!(judge(&facts).clean);
    facts.received.leads.push(9);
    facts.totals.insert("c1".into(), Totals { orders: 3, cents: 351 });
    assert!(judge(&facts).clean);
    facts.received.leads.push(9);
    assert!(!judge(&facts).clean);
}

#[test]
fn many_faults_of_a_kind_are_one_line() {
    let sent: Vec<Sent> = (0..9).map(|n| sent(&n.to_string(), What::Heartbeat)).collect();
    let facts = Facts { found: HashMap::new(), totals: BTreeMap::new(), ..right(&sent) };
    let facts = Facts { received: Received::default(), ..facts };
    assert_eq!(judge(&facts).faults, ["9 messages with a receipt are lost: 0, 1, 2, 3, 4, …"]);
}
