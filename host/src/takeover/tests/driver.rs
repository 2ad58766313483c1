//! The driver, with a real store and a register that is made up.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use super::{
    super::{Answered, Register, Stages, Takeover, first_view, kept, step::Kept},
    Setup, WithoutWitness,
    world::{STORES, rules},
};
use crate::{
    lease::Lease,
    model::{
        clock::Clock,
        pair::{Ask, InSync, Record},
    },
    store::{self, Store, tests::config},
};

/// Refuses everything: what it says stays as it is.
#[derive(Debug)]
struct Refusing {
    record: Record,
    asked: AtomicU64,
}

impl Register for Refusing {
    fn ask(&self, ask: Ask) -> Answered<'_> {
        if ask != Ask::Read {
            self.asked.fetch_add(1, Ordering::Relaxed);
        }
        Box::pin(async { Ok(Some(self.record)) })
    }
}

/// It was asked again as soon as it had refused, which kept it and the node busy.
#[tokio::test]
async fn what_is_refused_is_asked_again_but_not_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup {
        has_witness: true,
        without_witness: WithoutWitness::Manual,
        goes_on_alone: true,
        fails_back: false,
        defect: None,
    };
    let rules = rules(&setup, 1);
    let begin = Ask::Begin { owner: STORES[0], epoch: 1 };
    let first = Record::after(None, &begin).unwrap();
    let record = Record { in_sync: InSync::Both(STORES[0], STORES[1]), ..first };
    kept::save(dir.path(), Kept { promise: 1, record: Some(record), ..Kept::default() }).unwrap();
    let kept = store::Config { paired: true, ..config(dir.path()) };
    let register = Arc::new(Refusing { record, asked: AtomicU64::new(0) });
    let (_heard, heard) = mpsc::channel(1);
    let (_events, events) = mpsc::channel(1);
    let (stop_sender, stop) = watch::channel(false);
    let (tick, began) = (rules.silence / 6, Instant::now());
    let takeover = Takeover {
        dir: dir.path().to_owned(),
        store: Store::open(&kept, Clock::system()).unwrap(),
        gate: Arc::default(),
        lease: Arc::new(Lease::new(rules.silence)),
        witness: Some(register.clone()),
        heard,
        events,
        asked: None,
        waits: JoinSet::new(),
        stages: watch::Sender::new(Stages::Off),
        view: watch::Sender::new(first_view(dir.path(), &rules).unwrap()),
        rules,
    };
    let ends = async {
        tokio::time::sleep(tick * 100).await;
        stop_sender.send_replace(true);
    };
    let (ended, ()) = tokio::join!(takeover.run(stop), ends);
    ended.unwrap();
    let (asked, ticks) =
        (register.asked.load(Ordering::Relaxed), began.elapsed().div_duration_f64(tick));
    assert!(
        (5.0..=ticks + 2.0).contains(&f64::from(u32::try_from(asked).unwrap())),
        "{asked} in {ticks}"
    );
}
