//! Solutions that publish faster than their receivers handle.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::contract::handler::Publication;

fn manifest(publish: &str, queue: u64) -> String {
    format!(
        "[[source]]\nname = \"again\"\nkind = \"message\"\n[grants]\npublish = [\"{publish}\"]\n[limits]\nqueue = {queue}\n[retry]\nattempts = 2\nbackoff = \"1ms\"\n"
    )
}

fn publish(to: &str, bodies: &[String]) -> (Outcome, Effects) {
    let publish = bodies.iter().map(|body| Publication {
        solution: name(to),
        content: content("again", body),
        after: None,
    });
    let effects = Effects { publish: publish.collect(), ..Effects::default() };
    (Outcome::Done { reply: None }, effects)
}

impl Fixture {
    fn no(&self, solution: &str) -> u32 {
        self.store.catalogue().borrow().solution(solution).unwrap().no
    }

    fn queued(&self, solution: &str) -> u64 {
        self.store.counters().queues.of(self.no(solution))
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let so = async {
            while !is_so(self) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), so).await.unwrap_or_else(|_| panic!("{what}"));
    }

    /// All lives: status, and why the last attempt failed.
    fn lives(&self) -> Vec<LifeRow> {
        let mut lives = Vec::new();
        let take = |_: &[u8], value: &[u8]| {
            lives.push(LifeRow::decode(value)?);
            Ok(true)
        };
        self.store.read().unwrap().table(Table::Lives).unwrap().scan(&[], take).unwrap();
        lives
    }

    fn dead(&self) -> u64 {
        self.store.read().unwrap().len(Table::DeadLetters).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_publishes_waits_for_a_slow_receiver_and_nothing_fails() {
    for handling in ["", "[handling]\norder = \"none\"\nconcurrency = 4\n"] {
        let gate = Arc::new(AtomicBool::new(false));
        let most = Arc::new(AtomicU64::new(0));
        let (opened, handled) = (gate.clone(), Arc::new(AtomicU64::new(0)));
        let count = handled.clone();
        let f = Fixture::new(&format!("{}{handling}", manifest("b", 100)), move |message, _, _| {
            if message.solution == name("a") {
                return publish("b", &[text(message), text(message)]);
            }
            while !opened.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            count.fetch_add(1, Ordering::SeqCst);
            done(Vec::new())
        })
        .await;
        deploy(&f.store, "b", &manifest("b", 5)).await;
        let ids = f.accept(&["x"; 40]).await;
        f.until("b fills", |f| f.queued("b") >= 4 && f.dispatch.condition(1).is_some()).await;
        let condition = f.dispatch.condition(1).unwrap();
        assert!(condition.contains("queue of solution `b`, which takes 5"), "{condition}");
        assert!(f.queued("a") >= 37, "it waits: {}", f.queued("a"));
        gate.store(true, Ordering::SeqCst);
        f.until("all are handled", |f| {
            most.fetch_max(f.queued("b"), Ordering::SeqCst);
            f.queued("a") == 0 && f.queued("b") == 0
        })
        .await;
        assert!(most.load(Ordering::SeqCst) <= 5, "{most:?}");
        f.until_over(&ids).await;
        let lives = f.lives();
        assert_eq!(lives.len(), 120);
        assert!(
            lives.iter().all(|life| life.attempts.len() == 1 && life.status == StatusRow::Done)
        );
        assert_eq!(handled.load(Ordering::SeqCst), 80);
        f.stop().await;
    }
}

/// Each message becomes two, until there are `depth` dots.
fn multiply(message: &Message, to: &str, depth: usize) -> (Outcome, Effects) {
    let text = text(message);
    if text.len() > depth {
        done(Vec::new())
    } else {
        publish(to, &[format!("{text}."), format!("{text}.")])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_solution_that_fills_its_own_queue_keeps_its_bound_and_comes_to_an_end() {
    let accepted = Arc::new(AtomicBool::new(false));
    let begin = accepted.clone();
    let f = Fixture::new(&manifest("a", 8), move |message, _, _| {
        // What comes in from outside meanwhile takes room of its own.
        while !begin.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        multiply(message, "a", 6)
    })
    .await;
    let ids = f.accept(&["", "", "", ""]).await;
    accepted.store(true, Ordering::SeqCst);
    let most = AtomicU64::new(0);
    f.until("all is over", |f| {
        most.fetch_max(f.queued("a"), Ordering::SeqCst);
        f.queued("a") == 0
    })
    .await;
    f.until_over(&ids).await;
    assert!(most.load(Ordering::SeqCst) <= 8, "{most:?}");
    // What had no room says so, in the dead letters; nothing is lost.
    assert!(f.dead() > 0);
    let reasons: Vec<_> =
        f.lives().into_iter().filter(|life| life.status == StatusRow::Dead).collect();
    for life in &reasons {
        let why = format!("{:?}", life.attempts.last().unwrap().outcome);
        assert!(
            why.contains("which takes 8 messages") && why.contains("waits for this message"),
            "{why}"
        );
        assert_eq!(life.attempts.len(), 2, "by [retry]");
    }
    assert_eq!(f.dispatch.condition(1), None, "the breaker stays closed");
    f.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn solutions_that_wait_for_each_other_go_on() {
    let f = Fixture::new(&manifest("b", 4), |message, _, _| {
        let other = if message.solution == name("a") { "b" } else { "a" };
        multiply(message, other, 6)
    })
    .await;
    deploy(&f.store, "b", &manifest("a", 4)).await;
    let ids = f.accept(&["", "", "", ""]).await;
    f.until("all is over", |f| f.queued("a") + f.queued("b") == 0).await;
    f.until_over(&ids).await;
    let over = |life: &LifeRow| matches!(life.status, StatusRow::Done | StatusRow::Dead);
    assert!(f.lives().iter().all(over) && f.dead() > 0);
    f.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_fits_fails_and_says_so() {
    let f = Fixture::new(&manifest("b", 100), |_, _, _| {
        publish("b", &["x".into(), "y".into(), "z".into()])
    })
    .await;
    deploy(&f.store, "b", &manifest("a", 2)).await;
    let ids = f.accept(&["1"]).await;
    f.until_over(&ids).await;
    let why = format!("{:?}", f.life(ids[0]).unwrap().attempts[1].outcome);
    assert!(why.contains("it publishes 3 at once"), "{why}");
    assert_eq!((f.dead(), f.queued("b")), (1, 0));
    f.stop().await;
}
