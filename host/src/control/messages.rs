//! Messages: found, and shown with their whole life.

use axum::{Json, extract::State};

use super::{At, Shared, letters::id, state::body, wire};
use crate::{
    model::{
        clock::UnixMs,
        message::MessageId,
        outcome::{DeliveryStatus, Status},
    },
    net::problem::Problem,
    store::{
        Catalogue, ReadError, Refusal, Snapshot,
        row::{
            dead_letter::DeadLetterRow,
            delivery::{DeliveryAttemptRow, DeliveryRow, DeliveryStatusRow, delivery_key},
            life::{AttemptRow, LifeRow, OutcomeRow, StatusRow},
            message::MessageRow,
        },
        segment::Record,
        table::Table,
    },
};

mod list;

pub(super) use list::list;

fn status(row: &MessageRow, life: Option<&LifeRow>, now_ms: UnixMs) -> Status {
    let due_ms = match life.map(|life| life.status) {
        Some(StatusRow::Done) => return Status::Done,
        Some(StatusRow::Dead) => return Status::Dead,
        Some(StatusRow::Again { due_ms }) => due_ms,
        None => row.due_ms.unwrap_or(0),
    };
    if due_ms > now_ms { Status::Scheduled } else { Status::Waiting }
}

fn summary(
    id: MessageId,
    row: &MessageRow,
    life: Option<&LifeRow>,
    status: Status,
) -> wire::MessageSummary {
    let attempts = life.map_or(&[][..], |life| &life.attempts);
    let last = attempts.last().map(|attempt| outcome(&attempt.outcome));
    let (outcome, reason) =
        last.map_or((None, None), |(word, reason)| (Some(word.to_owned()), reason));
    wire::MessageSummary {
        id: id.to_string(),
        solution: row.solution.to_string(),
        source: row.source.to_string(),
        time_ms: row.time_ms,
        status: status.word().to_owned(),
        attempts: u32::try_from(attempts.len()).unwrap_or(u32::MAX),
        outcome,
        reason,
        body_bytes: row.body.len() as u64,
    }
}

/// The word for an outcome, and why.
fn outcome(row: &OutcomeRow) -> (&'static str, Option<String>) {
    match row {
        OutcomeRow::Done { .. } => ("done", None),
        OutcomeRow::Retry { reason, .. } => ("retry", Some(reason.clone())),
        OutcomeRow::Rejected { reason } => ("rejected", Some(reason.clone())),
        OutcomeRow::Failed { reason } => ("failed", Some(reason.clone())),
        OutcomeRow::Trapped { reason, .. } => ("trapped", Some(reason.clone())),
        OutcomeRow::TimedOut { limit_ms } => {
            ("timed-out", Some(format!("ran longer than its limit of {limit_ms} ms")))
        }
        OutcomeRow::OutOfMemory { limit_bytes } => {
            let mib = limit_bytes >> 20;
            ("out-of-memory", Some(format!("wanted more than its limit of {mib} MiB of memory")))
        }
        OutcomeRow::Unavailable { reason } => ("unavailable", Some(reason.clone())),
    }
}

pub(super) async fn show(
    State(house): Shared,
    At(text): At<String>,
) -> Result<Json<wire::Message>, Problem> {
    let id = id(&text)?;
    let snapshot = house.store.read()?;
    let record = snapshot.record(id)?.ok_or(Refusal::UnknownMessage(id))?;
    let Record { message: row, life, deliveries: made, .. } = record;
    let now_ms = house.clock.now_ms();
    let status = status(&row, life.as_ref(), now_ms);
    let mut summary = summary(id, &row, life.as_ref(), status);
    if status == Status::Dead
        && let Some(letter) = snapshot.get::<DeadLetterRow>(Table::DeadLetters, &id.0)?
    {
        summary.reason = Some(letter.reason);
    }
    let due_ms = match life.as_ref().map(|life| life.status) {
        Some(StatusRow::Again { due_ms }) => Some(due_ms),
        Some(StatusRow::Done | StatusRow::Dead) => None,
        None => row.due_ms,
    };
    let catalogue = house.store.catalogue().borrow().clone();
    let attempts = life.map_or_else(Vec::new, |life| life.attempts);
    let deliveries = deliveries(&snapshot, id, &attempts, made)?;
    let tries = (1..)
        .zip(attempts)
        .map(|(number, row)| attempt(number, row, &catalogue, &summary.solution));
    let tries = tries.collect();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = row.headers.iter().map(|(name, value)| (name.clone(), text(value)));
    let headers: Vec<_> = headers.collect();
    let client = headers.iter().find(|(name, _)| name == "tandem-client");
    Ok(Json(wire::Message {
        epoch: row.position.epoch,
        seq: row.position.seq,
        client: client.map(|(_, ip)| ip.clone()),
        headers,
        content_type: row.content_type,
        key: row.key,
        body: body(&row.body),
        due_ms: due_ms.filter(|&due_ms| due_ms > now_ms),
        parent: row.parent.map(|id| MessageId(id).to_string()),
        tries,
        deliveries,
        summary,
    }))
}

fn attempt(number: u32, row: AttemptRow, catalogue: &Catalogue, solution: &str) -> wire::Attempt {
    let (word, reason) = outcome(&row.outcome);
    let known = catalogue.solution(solution);
    let version = known.and_then(|s| s.versions.iter().find(|v| v.revision == row.revision));
    let parsed = version.and_then(|v| crate::contract::manifest::parse::parse(&v.manifest).ok());
    let (backtrace, reply_status) = match row.outcome {
        OutcomeRow::Trapped { backtrace, .. } => (backtrace, None),
        OutcomeRow::Done { reply: Some(reply) } => (Vec::new(), Some(reply.status)),
        _ => (Vec::new(), None),
    };
    let log = row.log.into_iter().map(|line| wire::LogLine {
        level: ["debug", "info", "warn", "error"][usize::from(line.level.min(3))].to_owned(),
        text: line.text,
    });
    wire::Attempt {
        number,
        started_ms: row.started_ms,
        duration_us: row.duration_us,
        version: parsed.map_or_else(|| format!("revision {}", row.revision), |m| m.version),
        digest: version.map_or_else(String::new, |version| version.digest.to_string()),
        outcome: word.to_owned(),
        reason,
        backtrace,
        reply_status,
        log: log.collect(),
        log_dropped: row.log_dropped,
        state_written: row.state_written,
        state_deleted: row.state_deleted,
        published: row.published.into_iter().map(|id| MessageId(id).to_string()).collect(),
        outbox: u32::from(row.outbox),
    }
}

/// Deliveries with attempts, and those that still wait for their first.
fn deliveries(
    snapshot: &Snapshot,
    id: MessageId,
    attempts: &[AttemptRow],
    made: Vec<(u16, DeliveryRow)>,
) -> Result<Vec<wire::Delivery>, ReadError> {
    let asked = attempts.last().map_or(0, |attempt| attempt.outbox);
    let letters = snapshot.table(Table::DeadLetters)?;
    let mut deliveries = Vec::new();
    for (index, row) in made {
        let letter: Option<DeadLetterRow> = letters.get(&delivery_key(id, index))?;
        let mut delivery = delivery(id, index, row);
        delivery.reason = letter.map(|letter| letter.reason);
        deliveries.push(delivery);
    }
    for index in 0..asked {
        if !deliveries.iter().any(|delivery| delivery.index == index) {
            deliveries.push(wire::Delivery {
                index,
                method: String::new(),
                url: String::new(),
                idempotency_key: id.effect_key(index),
                status: DeliveryStatus::Pending.word().to_owned(),
                reason: None,
                due_ms: None,
                tries: Vec::new(),
            });
        }
    }
    deliveries.sort_by_key(|delivery| delivery.index);
    Ok(deliveries)
}

fn delivery(id: MessageId, index: u16, row: DeliveryRow) -> wire::Delivery {
    let (status, due_ms) = match row.status {
        DeliveryStatusRow::Again { due_ms } => (DeliveryStatus::Pending, Some(due_ms)),
        DeliveryStatusRow::Delivered => (DeliveryStatus::Delivered, None),
        DeliveryStatusRow::Dead => (DeliveryStatus::Dead, None),
        DeliveryStatusRow::Begun { .. } => (DeliveryStatus::Pending, None),
        DeliveryStatusRow::Unknown => (DeliveryStatus::Unknown, None),
    };
    wire::Delivery {
        index,
        method: row.method,
        url: row.url,
        idempotency_key: id.effect_key(index),
        status: status.word().to_owned(),
        reason: None,
        due_ms,
        tries: row.attempts.into_iter().map(delivery_attempt).collect(),
    }
}

fn delivery_attempt(row: DeliveryAttemptRow) -> wire::DeliveryAttempt {
    let answer = String::from_utf8_lossy(&row.answer).into_owned();
    wire::DeliveryAttempt {
        started_ms: row.started_ms,
        duration_us: row.duration_us,
        status: row.status,
        error: row.error,
        answer: (!answer.is_empty()).then_some(answer),
    }
}
