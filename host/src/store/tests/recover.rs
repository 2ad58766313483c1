//! What one node of a pair had accepted is taken in by the other.

use super::*;
use crate::{
    model::position::Position,
    store::{
        change::recover::Recover,
        recover::{Apart, Fate, Made, Recovered},
        row::{
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
