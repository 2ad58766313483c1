//! Each thing that is to hold is missed when it does not.

use super::*;

/// Two messages of each route, all well: a keyed one, with its receipt given twice, and one sent once.
struct World {
    seen: Seen,
    stored: Stored,
    calls: HashMap<String, Vec<(String, String)>>,
    told: &'static str,
    apart: Apart,
}

fn receipt(id: &str, epoch: u64) -> Receipt {
    let at = Instant::now();
    let (id, node) = (id.to_owned(), "a".to_owned());
    let (is_first_try, is_again) = (true, false);
    Receipt { id, epoch, durability: 2, node, sent: at, at, is_first_try, is_again }
}

fn world() -> World {
    let mut world = World {
        seen: Seen::default(),
        stored: Stored::default(),
        calls: HashMap::new(),
        told: "delivered",
        apart: Apart::default(),
    };
    for route in Route::ALL {
        for number in 1..3 {
            let (id, name) =
                (format!("{}{number}", route.name()), format!("{}-0-{number}", route.name()));
            let receipts = vec![receipt(&id, 1), receipt(&id, 1)];
            world.seen.sent.push(Sent { name: name.clone(), route, receipts });
            world.stored.handled[route as usize].insert(name.clone(), 1);
            let calls = world.calls.entry(format!("/{}", route.name())).or_default();
            calls.push((format!("{id}-0"), name));
            world.stored.messages.insert(id, (route.name().into(), "done".into()));
        }
    }
    world
}

impl World {
    fn check(&self) -> (Figures, Vec<String>) {
        Check::of(&self.seen, &self.stored, &self.calls, &|_| self.told.to_owned(), self.apart)
    }
}

/// What is found when the world is bent so.
fn found(bend: impl FnOnce(&mut World)) -> String {
    let mut world = world();
    bend(&mut world);
    world.check().1.join("\n")
}

#[test]
fn nothing_is_found_where_all_is_well() {
    let (figures, violations) = world().check();
    assert_eq!(violations, Vec::<String>::new());
    assert_eq!((figures.receipts_on_two_disks, figures.lost, figures.doubled), (12, 0, 0));
}

#[test]
fn what_is_lost_is_found() {
    let lost = found(|world| drop(world.stored.messages.remove("again1")));
    assert!(lost.contains("receipts' messages are lost: again-0-1 (again1, epoch 1"), "{lost}");
    let unhandled = found(|world| world.stored.handled[0].retain(|name, _| name != "again-0-1"));
    assert!(
        unhandled.contains("1 messages with a receipt were never handled: again-0-1"),
        "{unhandled}"
    );
    let dead = found(|world| {
        world.stored.messages.insert("lane1".into(), ("lane".into(), "dead".into()));
    });
    assert!(dead.contains("lane-0-1 (lane1) is dead"), "{dead}");
    let unmade = found(|world| drop(world.calls.remove("/again")));
    assert!(unmade.contains("2 messages' requests were never made: again1, again2"), "{unmade}");
}

#[test]
fn what_is_there_twice_is_found() {
    let taken = found(|world| world.seen.sent[0].receipts[1].id = "again2".into());
    assert!(taken.contains("taken as two, or two as one: again-0-1"), "{taken}");
    let handled = found(|world| world.stored.handled[2].extend([("lane-0-1".to_owned(), 2)]));
    assert!(handled.contains("1 messages were not handled once: lane-0-1 2 times"), "{handled}");
    let more = found(|world| {
        world.stored.messages.insert("again3".into(), ("again".into(), "done".into()));
    });
    assert!(more.contains("`again` has 3 messages, and has handled 2"), "{more}");
    let keys = found(|world| {
        let calls = world.calls.get_mut("/again").unwrap();
        calls.push(("again3-0".into(), "again-0-1".into()));
    });
    assert!(keys.contains("made under several keys: again-0-1"), "{keys}");
}

/// With the same key an idempotent request may come again; one that must not may not, and if it is not made that is told.
#[test]
fn each_class_of_request_is_held_to_what_it_promises() {
    let again = |path: &'static str| {
        move |world: &mut World| {
            let calls = world.calls.get_mut(path).unwrap();
            calls.push(calls[0].clone());
        }
    };
    assert_eq!(found(again("/again")), "");
    let twice = found(again("/once"));
    assert!(twice.contains("made more than once: once1, 2 times, told as delivered"), "{twice}");
    let silent = found(|world| drop(world.calls.remove("/once")));
    assert!(
        silent.contains("2 requests of class `at-most-once` were not made, and not told"),
        "{silent}"
    );
    let told = found(|world| {
        world.calls.remove("/once");
        world.told = "unknown";
    });
    assert_eq!(told, "");
}

#[test]
fn without_a_witness_each_policy_is_held_to_what_it_promises() {
    let under = |policy: &str, bend: fn(&mut World)| {
        let mut world = world();
        world.apart = Apart::under(Some(policy));
        bend(&mut world);
        let (figures, violations) = world.check();
        (figures.doubled, violations.len())
    };
    let taken = |world: &mut World| world.seen.sent[0].receipts[1].id = "elsewhere".into();
    let handled = |world: &mut World| *world.stored.handled[0].get_mut("again-0-1").unwrap() = 2;
    let lost = |world: &mut World| {
        world.stored.messages.remove("again1");
        world.stored.handled[0].remove("again-0-1");
    };
    assert_eq!(["act", "accept-only", "manual"].map(|policy| under(policy, handled).1), [0, 1, 1]);
    // The id that is not there is lost, where it cannot be told to be of a duplicate.
    assert_eq!(["act", "accept-only", "manual"].map(|policy| under(policy, taken).1), [0, 0, 2]);
    assert_eq!(under("act", handled).0, 1, "it is counted");
    for policy in ["act", "accept-only", "manual"] {
        assert!(under(policy, lost).1 > 0, "{policy}");
    }
}

#[test]
fn order_and_epochs_are_held_to() {
    let order = found(|world| world.calls.get_mut("/lane").unwrap().reverse());
    assert!(order.contains("requests are out of order: lane-0-1 after lane-0-2"), "{order}");
    // Sent after somebody had a receipt of epoch 2.
    let late = found(|world| {
        world.seen.sent[0].receipts.push(receipt("again1", 2));
        world.seen.sent[1].receipts.push(receipt("again2", 1));
    });
    assert!(late.contains("1 receipts are of an epoch that was over"), "{late}");
}
