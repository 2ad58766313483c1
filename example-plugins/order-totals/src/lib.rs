//! Orders: checked, summed, and added to their customer's totals.
//!
//! Shows: rejecting with a reason, arithmetic that cannot overflow, and typed state under the message's key.

#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};
use tandem_sdk::prelude::*;

tandem_sdk::solution!(OrderTotals);

struct OrderTotals;

#[derive(Deserialize)]
struct Order {
    lines: Vec<Line>,
    /// What the shop has summed, to be checked.
    total_cents: Option<i64>,
}

#[derive(Deserialize)]
struct Line {
    sku: String,
    quantity: i64,
    unit_price_cents: i64,
}

/// Of one customer.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Totals {
    orders: u64,
    cents: i64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Answer {
    order_cents: i64,
    customer: Totals,
}

impl Solution for OrderTotals {
    fn handle(message: Message, ctx: &Context) -> Result<Option<Reply>, Failure> {
        let order: Order = message.json()?;
        let customer = message.key.as_deref();
        let customer = customer.ok_or_else(|| Failure::reject("no key: it names the customer"))?;
        let order_cents = total(&order)?;

        let key = format!("customer/{customer}");
        let mut totals: Totals = ctx.state().get(&key)?.unwrap_or_default();
        totals.orders += 1;
        totals.cents = totals.cents.checked_add(order_cents).ok_or_else(too_large)?;
        ctx.state().set(&key, &totals)?;

        Reply::json(&Answer { order_cents, customer: totals }).map(Some)
    }
}

/// The sum of an order's lines, in cents; a reject that says what is wrong with it.
fn total(order: &Order) -> Result<i64, Failure> {
    if order.lines.is_empty() {
        return Err(Failure::reject("lines: there are none"));
    }
    let mut cents = 0_i64;
    for Line { sku, quantity, unit_price_cents } in &order.lines {
        if *quantity <= 0 {
            return Err(Failure::reject(format_args!(
                "quantity of `{sku}`: {quantity} is not above 0"
            )));
        }
        if *unit_price_cents < 0 {
            return Err(Failure::reject(format_args!(
                "price of `{sku}`: {unit_price_cents} is below 0"
            )));
        }
        let line = quantity.checked_mul(*unit_price_cents);
        cents = line.and_then(|line| cents.checked_add(line)).ok_or_else(too_large)?;
    }
    match order.total_cents {
        Some(given) if given != cents => {
            Err(Failure::reject(format_args!("total_cents: {given} given, the lines make {cents}")))
        }
        _ => Ok(cents),
    }
}

fn too_large() -> Failure {
    Failure::reject("the sum is too large")
}

#[cfg(test)]
mod tests;
