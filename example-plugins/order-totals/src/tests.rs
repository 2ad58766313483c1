use serde_json::{Value, json};

use super::*;

fn order(order: &Value) -> Message {
    Message::new("orders").with_json(order).with_key("ada")
}

fn line(quantity: i64, unit_price_cents: i64) -> Value {
    json!({ "sku": "tea", "quantity": quantity, "unit_price_cents": unit_price_cents })
}

#[test]
fn orders_add_up_for_each_customer() {
    let mut mock = MockContext::new();
    let first = order(&json!({ "lines": [line(2, 350), line(1, 99)], "total_cents": 799 }));
    let answer: Answer = mock.handle::<OrderTotals>(first).reply_json();
    let customer = Totals { orders: 1, cents: 799 };
    assert_eq!(answer, Answer { order_cents: 799, customer });

    mock.handle::<OrderTotals>(order(&json!({ "lines": [line(1, 1)] })));
    mock.handle::<OrderTotals>(order(&json!({ "lines": [line(1, 5)] })).with_key("bob"));
    assert_eq!(mock.state("customer/ada"), Some(Totals { orders: 2, cents: 800 }));
    assert_eq!(mock.state("customer/bob"), Some(Totals { orders: 1, cents: 5 }));
}

#[test]
fn a_bad_order_is_rejected_with_a_reason() {
    for (bad, reason) in [
        (json!({ "lines": [] }), "lines: there are none"),
        (json!({ "lines": [line(0, 1)] }), "quantity of `tea`: 0 is not above 0"),
        (json!({ "lines": [line(-2, 1)] }), "quantity of `tea`: -2 is not above 0"),
        (json!({ "lines": [line(1, -1)] }), "price of `tea`: -1 is below 0"),
        (
            json!({ "lines": [line(2, 5)], "total_cents": 11 }),
            "total_cents: 11 given, the lines make 10",
        ),
        (json!({ "lines": [line(i64::MAX, 2)] }), "the sum is too large"),
        (json!({ "lines": [line(1, i64::MAX), line(1, 1)] }), "the sum is too large"),
    ] {
        let mut mock = MockContext::new();
        assert_eq!(mock.handle::<OrderTotals>(order(&bad)).failure(), &Failure::reject(reason));
        assert!(mock.all_state().is_empty());
    }
}

#[test]
fn a_customers_total_does_not_overflow() {
    let before = Totals { orders: 1, cents: i64::MAX };
    let mut mock = MockContext::new().with_state("customer/ada", &before);
    let handled = mock.handle::<OrderTotals>(order(&json!({ "lines": [line(1, 1)] })));
    assert_eq!(handled.failure(), &Failure::reject("the sum is too large"));
    assert_eq!(mock.state("customer/ada"), Some(before));
}

#[test]
fn the_key_names_the_customer() {
    let message = Message::new("orders").with_json(&json!({ "lines": [line(1, 1)] }));
    let handled = MockContext::new().handle::<OrderTotals>(message);
    assert_eq!(handled.failure(), &Failure::reject("no key: it names the customer"));
}
