//! Messages: found, and shown with their whole life.

use axum::{Json, extract::State, http::StatusCode};

use super::{Asked, At, House, Shared, letters::id, state::body, wire};
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
            Row,
            dead_letter::DeadLetterRow,
            delivery::{
                DeliveryAttemptRow, DeliveryRow, DeliveryStatusRow, delivery_key, read_delivery_key,
            },
            life::{AttemptRow, LifeRow, OutcomeRow, StatusRow},
            message::MessageRow,
        },
        snapshot::SnapshotTable,
        table::Table,
    },
};

const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 1000;
/// One request looks at no more messages than this; it answers with where to go on.
const LOOKED_AT_MAX: usize = 20_000;

/// What to look for.
struct Wanted {
    solution: Option<String>,
    source: Option<String>,
    status: Option<Status>,
}

struct Finder<'a> {
    house: &'a House,
    wanted: Wanted,
    lives: SnapshotTable,
    limit: usize,
    looked_at: usize,
    found: Vec<wire::MessageSummary>,
    last: Option<MessageId>,
}

impl Finder<'_> {
    /// Looks at one message; says whether to go on.
    fn look(&mut self, key: &[u8], row: &MessageRow) -> Result<bool, ReadError> {
        if self.found.len() == self.limit || self.looked_at == LOOKED_AT_MAX {
            return Ok(false);
        }
        let id = MessageId(key.try_into().map_err(|_| ReadError::Key("messages"))?);
        self.looked_at += 1;
        self.last = Some(id);
        let is = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
        if !is(&self.wanted.solution, row.solution.as_str())
            || !is(&self.wanted.source, row.source.as_str())
        {
            return Ok(true);
        }
        let life: Option<LifeRow> = self.lives.get(key)?;
        let status = status(row, life.as_ref(), self.house.clock.now_ms());
        if self.wanted.status.is_none_or(|wanted| wanted == status) {
            self.found.push(summary(id, row, life.as_ref(), status));
        }
        Ok(true)
    }
}

pub(super) async fn list(
    State(house): Shared,
    Asked(query): Asked<wire::MessageQuery>,
) -> Result<Json<wire::MessagePage>, Problem> {
    let status = query.status.as_deref().map(parse_status).transpose()?;
    let snapshot = house.store.read()?;
    let messages = snapshot.table(Table::Messages)?;
    let mut finder = Finder {
        house: &house,
        wanted: Wanted { solution: query.solution, source: query.source, status },
        lives: snapshot.table(Table::Lives)?,
        limit: query.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX),
        looked_at: 0,
        found: Vec::new(),
        last: None,
    };
    let before = query.before.as_deref().map(id).transpose()?;
    if let Some(after) = query.after.as_deref().map(id).transpose()? {
        let from = [&after.0[..], &[0]].concat();
        messages.scan(&from, |key, value| finder.look(key, &MessageRow::decode(value)?))?;
        return Ok(Json(wire::MessagePage { messages: finder.found, next: None }));
    }
    let below = before.as_ref().map(|id| &id.0[..]);
    if status == Some(Status::Dead) {
        // Few and far between: do not walk all messages for them.
        snapshot.table(Table::DeadLetters)?.scan_back(below, |key, value| {
            if DeadLetterRow::decode(value)?.outbox.is_some() {
                return Ok(true);
            }
            match messages.get::<MessageRow>(key)? {
                Some(row) => finder.look(key, &row),
                None => Ok(true),
            }
        })?;
    } else {
        messages.scan_back(below, |key, value| finder.look(key, &MessageRow::decode(value)?))?;
    }
    let full = finder.found.len() == finder.limit || finder.looked_at == LOOKED_AT_MAX;
    let next = finder.last.filter(|_| full).map(|id| id.to_string());
    Ok(Json(wire::MessagePage { messages: finder.found, next }))
}

fn parse_status(text: &str) -> Result<Status, Problem> {
    Status::ALL.into_iter().find(|status| status.word() == text).ok_or_else(|| {
        let words: Vec<_> = Status::ALL.into_iter().map(Status::word).collect();
        let detail = format!("there is no status `{text}`; there are {}", words.join(", "));
        Problem::new(StatusCode::BAD_REQUEST, "bad-status", detail)
    })
}

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
    let row: Option<MessageRow> = snapshot.get(Table::Messages, &id.0)?;
    let row = row.ok_or(Refusal::UnknownMessage(id))?;
    let life: Option<LifeRow> = snapshot.get(Table::Lives, &id.0)?;
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
    let deliveries = deliveries(&snapshot, id, &attempts)?;
    let tries = (1..)
        .zip(attempts)
        .map(|(number, row)| attempt(number, row, &catalogue, &summary.solution));
    let tries = tries.collect();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = row.headers.iter().map(|(name, value)| (name.clone(), text(value)));
    Ok(Json(wire::Message {
        epoch: row.position.epoch,
        seq: row.position.seq,
        headers: headers.collect(),
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
) -> Result<Vec<wire::Delivery>, ReadError> {
    let asked = attempts.last().map_or(0, |attempt| attempt.outbox);
    let letters = snapshot.table(Table::DeadLetters)?;
    let mut deliveries = Vec::new();
    snapshot.table(Table::Deliveries)?.scan(&delivery_key(id, 0), |key, value| {
        let (of, index) = read_delivery_key(key).ok_or(ReadError::Key("deliveries"))?;
        if of != id {
            return Ok(false);
        }
        let letter: Option<DeadLetterRow> = letters.get(key)?;
        let mut delivery = delivery(id, index, DeliveryRow::decode(value)?);
        delivery.reason = letter.map(|letter| letter.reason);
        deliveries.push(delivery);
        Ok(true)
    })?;
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
