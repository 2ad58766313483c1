//! What one node of a pair had accepted is taken in by the other.

use super::*;
use crate::{
    model::{
        message::{Fingerprint, OnceKey},
        position::Position,
    },
    store::{
        change::recover::Recover,
        recover::{Apart, Fate, Made, Recovered},
        row::{
            dedupe::DedupeRow,
            delivery::{DeliveryRow, DeliveryStatusRow},
            message::MessageRow,
        },
    },
};

fn recovered(number: u32) -> Recovered {
    let mut id = [9; 16];
    id[12..].copy_from_slice(&number.to_be_bytes());
    let message = MessageRow {
        solution: name("a"),
        solution_no: 1,
        source: name("in"),
        time_ms: START_MS,
        position: Position { epoch: 1, seq: 1 },
        parent: None,
        due_ms: None,
        headers: Vec::new(),
        content_type: None,
        key: None,
        body: Bytes::from_static(b"b"),
    };
    Recovered { id: MessageId(id), message, once: None }
}

fn made(number: u32) -> Made {
    let row = DeliveryRow {
        method: "POST".to_owned(),
        url: "http://a/".to_owned(),
        status: DeliveryStatusRow::Delivered,
        attempts: Vec::new(),
    };
    Made { id: recovered(number).id, index: 0, row }
}

/// Both nodes had taken something in under one key while they were apart.
#[tokio::test]
async fn what_came_under_a_key_of_another_message_is_not_taken_in_and_that_is_told() {
    let f = Fixture::new().await;
    let with_key = |number, content: u8| {
        let (id, fingerprint) = (recovered(number).id.0, Fingerprint([content; 16]));
        let position = Position { epoch: 1, seq: 1 };
        let row = DedupeRow { id, position, fingerprint, expires_ms: u64::MAX };
        Recovered { once: Some((OnceKey([7; 32]), row)), ..recovered(number) }
    };
    let messages = vec![with_key(1, 1), with_key(2, 1), with_key(3, 2)];
    let mut fates = Vec::new();
    // A change does not see its own rows.
    for recovered in messages {
        let change = Recover { messages: vec![recovered], made: Vec::new() };
        fates.extend(f.store.submit(change).await.unwrap().answer);
    }
    assert_eq!(fates, [Fate::Taken, Fate::SentAgain, Fate::Conflicting]);
    assert_eq!(f.ready().len(), 1);
    assert!(fates.into_iter().all(|fate| Fate::of_number(fate.number()) == Some(fate)));
}

#[test]
fn pieces_have_a_bound_and_effects_stay_with_their_messages() {
    let other = made(u32::MAX);
    let mut effects: Vec<_> = (0..20_000).rev().step_by(100).map(made).collect();
    effects.push(other.clone());
    let apart = Apart { messages: (0..20_000).map(recovered).collect(), made: effects };
    let pieces = apart.clone().pieces();
    assert_eq!(pieces.len(), 3);
    for piece in &pieces {
        assert!(piece.messages.len() + piece.made.len() <= 8192);
        let has = |made: &Made| piece.messages.iter().any(|message| message.id == made.id);
        assert!(piece.made.iter().all(|made| has(made) || *made == other));
        assert_eq!(piece.clone().pieces(), std::slice::from_ref(piece), "it is cut once");
    }
    assert_eq!(pieces[0].made[0], other, "what is there already may be about to be made");
    let messages: Vec<_> = pieces.iter().flat_map(|piece| piece.messages.clone()).collect();
    assert_eq!(messages, apart.messages);
    assert_eq!(pieces.iter().map(|piece| piece.made.len()).sum::<usize>(), apart.made.len());
}

#[tokio::test]
async fn a_crash_between_two_pieces_loses_and_doubles_nothing() {
    let mut node = Fixture::new().await;
    let messages = (0..10_000).map(recovered).collect();
    let pieces = Apart { messages, made: Vec::new() }.pieces();
    let recover = |piece: &Apart| Recover { messages: piece.messages.clone(), made: Vec::new() };
    node.store.submit(recover(&pieces[0])).await.unwrap();
    node = node.reopen();
    let mut fates = Vec::new();
    for piece in &pieces {
        fates.extend(node.store.submit(recover(piece)).await.unwrap().answer);
    }
    let (first, rest) = fates.split_at(pieces[0].messages.len());
    assert!(first.iter().all(|fate| *fate == Fate::Known));
    assert!(rest.iter().all(|fate| *fate == Fate::Taken));
    assert_eq!((fates.len(), node.ready().len()), (10_000, 10_000));
}
