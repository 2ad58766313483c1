use super::{Class, origin, policy};
use crate::{
    contract::manifest::Delivery,
    store::{Catalogue, row::outbox::OutboxRow},
};

mod stage;
mod twice;

#[test]
fn origins() {
    assert_eq!(&*origin("https://a.b:1/c?d"), "https://a.b:1");
    assert_eq!(&*origin("https://a.b?d"), "https://a.b");
    assert_eq!(&*origin("http://a"), "http://a");
    assert_eq!(&*origin("nonsense"), "nonsense");
}

/// A dead letter that is retried when its solution has gone may have been one that must not be made twice.
#[test]
fn without_a_manifest_nothing_may_be_repeated() {
    let row = OutboxRow {
        id: [1; 16],
        solution_no: 7,
        method: "POST".into(),
        url: "http://a".into(),
        headers: Vec::new(),
        body: bytes::Bytes::new(),
        order: None,
    };
    let expected = Delivery { class: Class::Ask, ..Delivery::default() };
    assert_eq!(policy(&Catalogue::default(), &row), expected);
}
