//! Messages are found: by solution, source, key, status and time.

use axum::{Json, extract::State, http::StatusCode};

use super::{
    super::{Asked, Shared, letters::id, wire},
    status, summary,
};
use crate::{
    model::{clock::UnixMs, message::MessageId, outcome::Status},
    net::problem::Problem,
    store::{
        ReadError, Snapshot,
        records::Wanted,
        row::{Row, dead_letter::DeadLetterRow, message::MessageRow},
        segment::Record,
        table::Table,
    },
};

const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 1000;
/// One request looks at no more messages than this; it answers with where to go on.
const LOOKED_AT_MAX: usize = 20_000;

/// Takes what is wanted from what it is shown.
struct Finder {
    solution: Option<String>,
    source: Option<String>,
    key: Option<String>,
    status: Option<Status>,
    since: Option<MessageId>,
    limit: usize,
    now_ms: UnixMs,
    looked_at: usize,
    found: Vec<wire::MessageSummary>,
    last: Option<MessageId>,
}

impl Finder {
    /// Looks at one message; says whether to go on.
    fn look(&mut self, record: &Record) -> bool {
        if self.found.len() == self.limit || self.looked_at == LOOKED_AT_MAX {
            return false;
        }
        if self.since.is_some_and(|since| record.id < since) {
            return false;
        }
        self.looked_at += 1;
        self.last = Some(record.id);
        let Record { id, message, life, .. } = record;
        let is = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
        if is(&self.solution, message.solution.as_str())
            && is(&self.source, message.source.as_str())
            && self.key.as_ref().is_none_or(|key| message.key.as_ref() == Some(key))
        {
            let status = status(message, life.as_ref(), self.now_ms);
            if self.status.is_none_or(|wanted| wanted == status) {
                self.found.push(summary(*id, message, life.as_ref(), status));
            }
        }
        true
    }

    /// Where the next page begins, if this one is full.
    fn next(&self) -> Option<String> {
        let full = self.found.len() == self.limit || self.looked_at == LOOKED_AT_MAX;
        self.last.filter(|_| full).map(|id| id.to_string())
    }
}

pub(in super::super) async fn list(
    State(house): Shared,
    Asked(query): Asked<wire::MessageQuery>,
) -> Result<Json<wire::MessagePage>, Problem> {
    let mut finder = Finder {
        solution: query.solution,
        source: query.source,
        key: query.key,
        status: query.status.as_deref().map(parse_status).transpose()?,
        since: query.since.map(MessageId::first_at),
        limit: query.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX),
        now_ms: house.clock.now_ms(),
        looked_at: 0,
        found: Vec::new(),
        last: None,
    };
    let snapshot = house.store.read()?;
    if let Some(after) = query.after.as_deref().map(id).transpose()? {
        follow(&snapshot, &mut finder, after)?;
        return Ok(Json(wire::MessagePage { messages: finder.found, next: None }));
    }
    let until = query.until.map(|until| MessageId::first_at(until.saturating_add(1)));
    let before = query.before.as_deref().map(id).transpose()?;
    let below = before.into_iter().chain(until).min();
    if finder.status == Some(Status::Dead) {
        dead(&snapshot, &mut finder, below)?;
    } else {
        let (solution, key) = (finder.solution.clone(), finder.key.clone());
        let wanted = Wanted {
            solution: solution.as_deref(),
            key: key.as_deref(),
            unfinished: matches!(finder.status, Some(Status::Waiting | Status::Scheduled)),
            below,
        };
        for record in snapshot.records(&wanted)? {
            if !finder.look(&record?) {
                break;
            }
        }
    }
    let next = finder.next();
    Ok(Json(wire::MessagePage { messages: finder.found, next }))
}

/// The oldest first, of those that are not in the archive yet: a follower is not that far behind.
fn follow(snapshot: &Snapshot, finder: &mut Finder, after: MessageId) -> Result<(), ReadError> {
    let lives = snapshot.table(Table::Lives)?;
    snapshot.table(Table::Messages)?.scan(&[&after.0[..], &[0]].concat(), |key, value| {
        let id = MessageId(key.try_into().map_err(|_| ReadError::Key("messages"))?);
        let (message, life) = (MessageRow::decode(value)?, lives.get(key)?);
        Ok(finder.look(&Record { id, message, life, deliveries: Vec::new() }))
    })
}

/// Few and far between: all messages need not be walked for them.
fn dead(
    snapshot: &Snapshot,
    finder: &mut Finder,
    below: Option<MessageId>,
) -> Result<(), ReadError> {
    let (messages, lives) = (snapshot.table(Table::Messages)?, snapshot.table(Table::Lives)?);
    let below = below.as_ref().map(|id| &id.0[..]);
    snapshot.table(Table::DeadLetters)?.scan_back(below, |key, value| {
        if DeadLetterRow::decode(value)?.outbox.is_some() {
            return Ok(true);
        }
        let id = MessageId(key.try_into().map_err(|_| ReadError::Key("dead_letters"))?);
        let Some(message) = messages.get(key)? else { return Ok(true) };
        let life = lives.get(key)?;
        Ok(finder.look(&Record { id, message, life, deliveries: Vec::new() }))
    })
}

fn parse_status(text: &str) -> Result<Status, Problem> {
    Status::ALL.into_iter().find(|status| status.word() == text).ok_or_else(|| {
        let words: Vec<_> = Status::ALL.into_iter().map(Status::word).collect();
        let detail = format!("there is no status `{text}`; there are {}", words.join(", "));
        Problem::new(StatusCode::BAD_REQUEST, "bad-status", detail)
    })
}
