//! Messages are taken in together, all or nothing, each at most once if it says what makes it one.
//!
//! One message that may come twice takes the shorter way of [`super::accept::Accept`].

use std::collections::HashMap;

use super::{
    Change, ChangeError, Refusal,
    accept::{NewMessage, check_source, has_room, keep},
    once::{Known, Once, Receipt, expire, look_up, remember, row_key},
};
use crate::{
    model::{
        message::{Content, Fingerprint, OnceKey},
        name::Name,
    },
    store::{catalogue::Solution, sequencer::Sequencer},
};

/// Messages from outside, for one web-hook source.
#[derive(Debug)]
pub struct Intake {
    pub solution: Name,
    pub source: Name,
    /// At least one; the source that their contents name is the one above.
    pub arrivals: Vec<Arrival>,
}

#[derive(Debug)]
pub struct Arrival {
    pub content: Content,
    pub once: Option<Once>,
}

/// What is to be done with an arrival.
enum Plan {
    /// Its key's row, if it has one.
    Keep(Option<(Vec<u8>, Known)>),
    Before(Receipt),
    /// The same as an earlier one of the batch.
    Same(usize),
}

impl Change for Intake {
    /// In the order of the arrivals.
    type Answer = Vec<Receipt>;

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<Vec<Receipt>, ChangeError> {
        let catalogue = seq.catalogue();
        let solution = catalogue
            .solution(self.solution.as_str())
            .ok_or_else(|| Refusal::UnknownSolution(self.solution.to_string()))?;
        check_source(solution, &self.source, "webhook")?;
        let plans = self.plan(seq, solution)?;
        let new = plans.iter().filter(|plan| matches!(plan, Plan::Keep(_))).count();
        if new > 0 {
            // What came before is told again even if nothing new may come in.
            has_room(seq, solution, &self.source, new)?;
            let keyed = plans.iter().filter(|plan| matches!(plan, Plan::Keep(Some(_)))).count();
            if keyed > 0 {
                expire(seq, keyed)?;
            }
        }
        let mut receipts = Vec::with_capacity(plans.len());
        for (arrival, plan) in self.arrivals.into_iter().zip(plans) {
            let receipt = match plan {
                Plan::Keep(row) => take_in(seq, solution, arrival, row),
                Plan::Before(receipt) => receipt,
                Plan::Same(earlier) => Receipt { is_duplicate: true, ..receipts[earlier] },
            };
            receipts.push(receipt);
        }
        Ok(receipts)
    }
}

impl Intake {
    /// Reads only: a refusal of one refuses all.
    fn plan(&self, seq: &Sequencer<'_, '_>, solution: &Solution) -> Result<Vec<Plan>, ChangeError> {
        let is_batch = self.arrivals.len() > 1;
        let mut seen: HashMap<OnceKey, (usize, Fingerprint)> = HashMap::new();
        let mut plans = Vec::with_capacity(self.arrivals.len());
        for (at, Arrival { once, .. }) in self.arrivals.iter().enumerate() {
            let Some(once) = once else {
                plans.push(Plan::Keep(None));
                continue;
            };
            let line = is_batch.then_some(at + 1);
            if let Some(&(earlier, fingerprint)) = seen.get(&once.key) {
                if fingerprint != once.fingerprint {
                    return Err(Refusal::KeyTwice { earlier: earlier + 1, line: at + 1 }.into());
                }
                plans.push(Plan::Same(earlier));
                continue;
            }
            if is_batch {
                seen.insert(once.key, (at, once.fingerprint));
            }
            let row_key = row_key(solution.no, &self.source, once);
            plans.push(match look_up(seq, &row_key, once, line)? {
                Known::Before(receipt) => Plan::Before(receipt),
                known => Plan::Keep(Some((row_key, known))),
            });
        }
        Ok(plans)
    }
}

fn take_in(
    seq: &mut Sequencer<'_, '_>,
    solution: &Solution,
    Arrival { content, once }: Arrival,
    row: Option<(Vec<u8>, Known)>,
) -> Receipt {
    let (id, position, time_ms) = (seq.new_id(), seq.position(), seq.now_ms());
    if let (Some(once), Some((row_key, known))) = (&once, row) {
        remember(seq, &row_key, once, &known, id);
    }
    keep(seq, solution, NewMessage { id, time_ms, parent: None, content, due: None });
    Receipt { id, position, is_duplicate: false }
}
