//! Taking in once, and taking in together.

use super::*;
use crate::{
    model::message::{Fingerprint, OnceKey},
    store::{
        Kept,
        change::{
            intake::{Arrival, Intake},
            once::{Once, Receipt},
        },
    },
};

const WINDOW: Duration = Duration::from_mins(1);

fn once(key: u8, fingerprint: u8) -> Once {
    Once { key: OnceKey([key; 32]), fingerprint: Fingerprint([fingerprint; 16]), window: WINDOW }
}

impl Fixture {
    async fn intake(
        &self,
        keys: impl IntoIterator<Item = Option<Once>>,
    ) -> Result<Kept<Vec<Receipt>>, SubmitError> {
        let arrival = |once| Arrival { content: content("in", "b"), once };
        let arrivals = keys.into_iter().map(arrival).collect();
        self.store.submit(Intake { solution: name("a"), source: name("in"), arrivals }).await
    }

    async fn once(&self, key: u8, fingerprint: u8) -> Result<Receipt, SubmitError> {
        self.intake([Some(once(key, fingerprint))]).await.map(|kept| kept.answer[0])
    }

    fn count(&self, table: Table) -> u64 {
        self.store.read().unwrap().len(table).unwrap()
    }
}

#[tokio::test]
async fn a_key_that_came_before_gets_the_first_receipt_also_after_a_restart() {
    let f = Fixture::new().await;
    let first = f.once(1, 1).await.unwrap();
    assert!(!first.is_duplicate);
    let again = Receipt { is_duplicate: true, ..first };
    assert_eq!(f.once(1, 1).await.unwrap(), again);
    let head = f.store.read().unwrap().head().unwrap().position;
    assert_eq!(first.position, head, "what came before leaves no frame");
    let f = f.reopen();
    assert_eq!(f.once(1, 1).await.unwrap(), again);
    f.settle(Effects::default(), Next::Done).await;
    assert_eq!(f.once(1, 1).await.unwrap(), again, "also when it was handled");
    assert!(f.ready().is_empty());
    assert!(!f.once(2, 1).await.unwrap().is_duplicate, "another key is another message");
}

#[tokio::test]
async fn two_at_once_are_one() {
    let f = Fixture::new().await;
    let receipts = tokio::join!(f.once(1, 1), f.once(1, 1));
    let (one, two) = (receipts.0.unwrap(), receipts.1.unwrap());
    assert_eq!((one.id, one.position), (two.id, two.position));
    assert_ne!(one.is_duplicate, two.is_duplicate);
    assert_eq!(f.ready().len(), 1);
}

#[tokio::test]
async fn a_key_with_another_body_is_refused() {
    let f = Fixture::new().await;
    let first = f.once(1, 1).await.unwrap().id;
    let before = f.rows();
    let refused = Fixture::refusal(f.once(1, 2).await);
    assert_eq!(refused, Refusal::KeyReused { first, line: None });
    assert_eq!(f.rows(), before);
}

#[tokio::test]
async fn a_key_is_forgotten_when_its_window_is_over() {
    let f = Fixture::new().await;
    let first = f.once(1, 1).await.unwrap();
    let moment = Duration::from_millis(1);
    f.clock.advance(WINDOW.saturating_sub(moment));
    assert_eq!(f.once(1, 1).await.unwrap().id, first.id);
    f.clock.advance(moment);
    let second = f.once(1, 2).await.unwrap();
    assert!(!second.is_duplicate && second.id != first.id);
    assert_eq!(f.once(1, 2).await.unwrap().id, second.id, "its window began anew");
    assert_eq!((f.count(Table::Dedupe), f.count(Table::DedupeExpiry)), (1, 1));
}

#[tokio::test]
async fn keys_that_are_over_go_a_few_at_a_time() {
    let f = Fixture::new().await;
    let room = |keys: std::ops::Range<u8>| keys.map(|key| Some(once(key, 0)));
    for keys in [0..3, 10..13, 20..23] {
        f.intake(room(keys)).await.unwrap();
        for _ in 0..3 {
            f.settle(Effects::default(), Next::Done).await;
        }
    }
    assert_eq!(f.count(Table::Dedupe), 9);
    f.clock.advance(WINDOW);
    f.accept("without a key").await.unwrap();
    assert_eq!(f.count(Table::Dedupe), 9, "who has no key pays for none");
    f.once(30, 0).await.unwrap();
    assert_eq!((f.count(Table::Dedupe), f.count(Table::DedupeExpiry)), (6, 6));
    f.settle(Effects::default(), Next::Done).await;
    f.intake(room(31..33)).await.unwrap();
    assert_eq!((f.count(Table::Dedupe), f.count(Table::DedupeExpiry)), (3, 3));
}

#[tokio::test]
async fn an_expired_key_that_comes_again_beyond_those_let_go_leaves_no_row_behind() {
    let f = Fixture::new().await;
    for keys in [[1, 2, 3], [4, 5, 6]] {
        f.intake(keys.map(|key| Some(once(key, 0)))).await.unwrap();
        for _ in 0..3 {
            f.settle(Effects::default(), Next::Done).await;
        }
        f.clock.advance(Duration::from_secs(1));
    }
    f.clock.advance(WINDOW);
    // Its row is the last of six, and four are let go.
    f.once(6, 0).await.unwrap();
    assert_eq!((f.count(Table::Dedupe), f.count(Table::DedupeExpiry)), (2, 2));
    f.clock.advance(WINDOW);
    f.once(7, 0).await.unwrap();
    assert_eq!((f.count(Table::Dedupe), f.count(Table::DedupeExpiry)), (1, 1));
}

#[tokio::test]
async fn a_batch_is_all_or_nothing() {
    let f = Fixture::new().await;
    let kept = f.intake([Some(once(1, 1)), None, Some(once(1, 1))]).await.unwrap();
    let [first, second, third] = kept.answer[..] else { panic!("{kept:?}") };
    assert!(first.id < second.id && first.position == kept.position);
    assert_eq!(third, Receipt { is_duplicate: true, ..first });
    let ids: Vec<_> = f.ready().iter().map(|(_, row)| row.id()).collect();
    assert_eq!(ids, [first.id, second.id], "in their order");

    let before = f.rows();
    let refused = Fixture::refusal(f.intake([None, Some(once(1, 2))]).await);
    assert_eq!(refused, Refusal::KeyReused { first: first.id, line: Some(2) });
    let refused = Fixture::refusal(f.intake([Some(once(2, 1)), Some(once(2, 2))]).await);
    assert_eq!(refused, Refusal::KeyTwice { earlier: 1, line: 2 });
    let refused = Fixture::refusal(f.intake([None, None]).await);
    assert_eq!(refused, Refusal::QueueFull { solution: name("a"), bound: 3 });
    assert_eq!(f.rows(), before);
    f.intake([None]).await.unwrap();
}

#[tokio::test]
async fn what_came_before_is_told_again_when_nothing_new_may_come() {
    let f = Fixture::new().await;
    let first = f.once(1, 1).await.unwrap();
    f.intake([None, None]).await.unwrap();
    assert!(matches!(Fixture::refusal(f.once(2, 1).await), Refusal::QueueFull { .. }));
    assert_eq!(f.once(1, 1).await.unwrap().id, first.id);
    let pause =
        Pause { name: name("a"), source: Some(name("in")), reason: Some("repairs".to_owned()) };
    f.store.submit(pause).await.unwrap();
    assert!(matches!(Fixture::refusal(f.once(2, 1).await), Refusal::SourcePaused { .. }));
    assert_eq!(f.once(1, 1).await.unwrap().id, first.id);
}
