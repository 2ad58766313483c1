//! The JSON of `/api/v1`, apart from the types it shows. Times are Unix milliseconds, sizes bytes.

use serde::{Deserialize, Serialize};

use crate::{model::clock::UnixMs, replication::Report};

/// `202` of `POST /hooks/…`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Receipt {
    pub id: String,
    pub epoch: u64,
    pub seq: u64,
    /// Disks that had the message when the receipt was given.
    pub durability: u8,
}

/// `GET /api/v1/status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub node: String,
    pub role: String,
    pub epoch: u64,
    pub seq: u64,
    pub started_ms: u64,
    pub now_ms: u64,
    pub data_dir: String,
    pub listen: String,
    pub store: StoreStatus,
    pub archive: ArchiveStatus,
    pub messages: Counts,
    pub deliveries: DeliveryCounts,
    pub solutions: Vec<SolutionSummary>,
    /// Things an operator should know, each a sentence.
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoreStatus {
    pub format: u32,
    pub file_bytes: u64,
    pub disk_free_bytes: u64,
    pub commits: u64,
    /// Mean time of the last commits.
    pub commit_us: u64,
}

/// Segments of finished messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveStatus {
    pub segments: u64,
    /// In them.
    pub messages: u64,
    /// Of their files.
    pub bytes: u64,
    /// When the oldest message in them was accepted.
    pub oldest_ms: Option<u64>,
}

/// Messages by what became of them; `accepted` and the rest count since the node started.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Waiting or scheduled now.
    pub queued: u64,
    pub accepted: u64,
    pub handled: u64,
    /// In the dead letters now.
    pub dead: u64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DeliveryCounts {
    pub pending: u64,
    pub delivered: u64,
    /// In the dead letters now.
    pub dead: u64,
}

/// One line of `GET /api/v1/solutions`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SolutionSummary {
    pub name: String,
    pub version: String,
    /// SHA-256 of the active component, hex.
    pub digest: String,
    pub deployed_ms: u64,
    /// `running`, `paused` or `unavailable`.
    pub state: String,
    pub reason: Option<String>,
    pub queued: u64,
    pub dead: u64,
}

/// `GET /api/v1/solutions/{name}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Solution {
    #[serde(flatten)]
    pub summary: SolutionSummary,
    pub description: Option<String>,
    pub sources: Vec<Source>,
    pub grants: Vec<String>,
    /// The manifest as it was deployed.
    pub manifest: String,
    pub versions: Vec<Version>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Source {
    pub name: String,
    pub kind: String,
    /// Where to POST to, for a web hook.
    pub path: Option<String>,
    pub cron: Option<String>,
    pub timezone: Option<String>,
    pub next_ms: Option<u64>,
    /// Why it takes no messages, if it is paused.
    pub paused: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Version {
    /// Counts the deployments of this solution, from 1.
    pub revision: u32,
    pub version: String,
    pub digest: String,
    pub deployed_ms: u64,
    pub active: bool,
}

/// Body of `POST /api/v1/solutions`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deploy {
    /// Text of `solution.toml`.
    pub manifest: String,
    /// The component, base64 (standard alphabet, padded).
    pub component: String,
    /// Only with a standby, and not before that has it too.
    #[serde(default)]
    pub wait_standby: bool,
}

/// Answer to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deployed {
    pub name: String,
    pub version: String,
    pub revision: u32,
    pub digest: String,
    /// False if just this version was active already.
    pub changed: bool,
    /// From the last byte of the request to ready for messages.
    pub ready_ms: u64,
    /// Of a node that is one of a pair: how it is with the other.
    pub standby: Option<OnStandby>,
    pub warnings: Vec<String>,
}

/// A deployment on the standby.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OnStandby {
    /// The beginning of its store's identity.
    pub node: Option<String>,
    /// `ready`: it has the bytes, verified and compiled; `failed`: it cannot run them; `late`: that takes longer than this
    /// answer waits; `away`.
    pub state: String,
    /// From the last byte of the request to what `state` says.
    pub after_ms: u64,
    /// What verifying and compiling took there.
    pub compile_ms: Option<u64>,
    /// Why it is not ready.
    pub reason: Option<String>,
}

/// Body of `POST /api/v1/solutions/{name}/pause` and `…/resume`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Pause {
    /// Only this source: it answers 409. Without it handling stops, and messages are still accepted.
    pub source: Option<String>,
    pub reason: Option<String>,
}

/// Body of `POST /api/v1/solutions/{name}/rollback`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Rollback {
    /// Without it the one before the active.
    pub revision: Option<u32>,
}

/// Query of `GET /api/v1/messages`; newest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct MessageQuery {
    pub solution: Option<String>,
    pub source: Option<String>,
    /// `waiting`, `scheduled`, `done` or `dead`.
    pub status: Option<String>,
    pub key: Option<String>,
    /// Only messages accepted at this time, in Unix ms, or later.
    pub since: Option<u64>,
    /// Only messages accepted at this time, in Unix ms, or earlier.
    pub until: Option<u64>,
    /// 1 to 1000; 50 unless said otherwise.
    pub limit: Option<usize>,
    /// Only messages with an id below this one: the next page.
    pub before: Option<String>,
    /// Only messages with an id above this one, oldest first: to follow.
    pub after: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MessagePage {
    pub messages: Vec<MessageSummary>,
    /// Hand it in as `before` for the next page.
    pub next: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MessageSummary {
    pub id: String,
    pub solution: String,
    pub source: String,
    pub time_ms: u64,
    pub status: String,
    pub attempts: u32,
    /// Outcome of the last attempt.
    pub outcome: Option<String>,
    pub reason: Option<String>,
    pub body_bytes: u64,
}

/// `GET /api/v1/messages/{id}`: its whole life.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    #[serde(flatten)]
    pub summary: MessageSummary,
    pub epoch: u64,
    pub seq: u64,
    pub headers: Vec<(String, String)>,
    /// The address of the sender, for a message from outside: also in the header `tandem-client`.
    pub client: Option<String>,
    pub content_type: Option<String>,
    pub key: Option<String>,
    pub body: Body,
    /// When it is tried next.
    pub due_ms: Option<u64>,
    /// The message whose handling published it.
    pub parent: Option<String>,
    pub tries: Vec<Attempt>,
    pub deliveries: Vec<Delivery>,
}

/// Bytes as a person wants them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    Text(String),
    Base64(String),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attempt {
    pub number: u32,
    pub started_ms: u64,
    pub duration_us: u64,
    /// Version and digest of the component that ran.
    pub version: String,
    pub digest: String,
    pub outcome: String,
    pub reason: Option<String>,
    pub backtrace: Vec<String>,
    pub reply_status: Option<u16>,
    pub log: Vec<LogLine>,
    pub log_dropped: u32,
    pub state_written: Vec<String>,
    pub state_deleted: Vec<String>,
    /// Ids of the messages it published.
    pub published: Vec<String>,
    pub outbox: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogLine {
    pub level: String,
    pub text: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Delivery {
    pub index: u16,
    pub method: String,
    pub url: String,
    pub idempotency_key: String,
    /// `pending`, `delivered`, `dead`, or `unknown`: it may have been made, and is not made again.
    pub status: String,
    /// Why it is dead.
    pub reason: Option<String>,
    pub due_ms: Option<u64>,
    pub tries: Vec<DeliveryAttempt>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeliveryAttempt {
    pub started_ms: u64,
    pub duration_us: u64,
    /// The receiver's status, if it answered.
    pub status: Option<u16>,
    /// What went wrong, if it did not answer.
    pub error: Option<String>,
    /// The first KiB of the answer's body, as text.
    pub answer: Option<String>,
}

/// One setting; `scope` is a solution's name, or `global`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setting {
    pub scope: String,
    pub name: String,
    pub value: serde_json::Value,
    pub set_ms: u64,
}

/// `GET /api/v1/state/{solution}?prefix=&after=&limit=`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StateQuery {
    pub prefix: Option<String>,
    pub after: Option<String>,
    pub limit: Option<usize>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StateEntry {
    pub key: String,
    pub value: Body,
}

/// RFC 9457 problem details: every error of every path.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Problem {
    /// `https://…/docs/errors/{code}`-style reference; the last part is the stable code.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    /// Whose fault, what happened, what to do next.
    pub detail: String,
    /// The stable code, e.g. `unknown-solution`.
    pub code: String,
}

/// A pair, as one of its nodes sees it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Pair {
    pub node: String,
    /// `primary`, `standby` or `starting`.
    pub role: String,
    pub is_main: bool,
    pub epoch: u64,
    /// On a primary: `both`, `alone`, `joining` or `shrinking`.
    pub sync: Option<String>,
    pub handing_over: bool,
    /// The last frame here.
    pub head: u64,
    /// On a primary: the last frame there.
    pub peer_has: Option<u64>,
    pub record: Option<Record>,
    /// `none`, `answers` or `silent`.
    pub witness: String,
    /// What happens when a node is gone.
    pub policy: String,
    pub peer: Option<Peer>,
    /// Whether the standby could take over, if that is known here.
    pub standby: Option<Standby>,
    /// How far the other node's clock is ahead of this one's, about.
    pub clock_ahead_ms: Option<i64>,
    pub warnings: Vec<String>,
}

/// Whether the standby could take over, as it finds itself.
#[derive(Debug, Serialize, Deserialize)]
pub struct Standby {
    pub node: String,
    pub ready: bool,
    /// What is not as it should be, what weighs most first.
    pub lacks: Vec<Lack>,
    pub components: Vec<Component>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Lack {
    /// `link`, `in-sync`, `witness`, `component`, `intake`, `disk` or `clock`.
    pub what: String,
    pub why: String,
    /// What to do about it.
    #[serde(rename = "do")]
    pub remedy: String,
}

/// A deployed component on the standby.
#[derive(Debug, Serialize, Deserialize)]
pub struct Component {
    pub solution: String,
    pub revision: u32,
    pub digest: String,
    /// Verified and compiled within this time.
    pub took_ms: u64,
    /// Why it cannot run there.
    pub fault: Option<String>,
}

/// Who may be primary.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    pub epoch: u64,
    pub owner: String,
    pub in_sync: Vec<String>,
    pub version: u64,
}

/// The other node, as it was last heard.
#[derive(Debug, Serialize, Deserialize)]
pub struct Peer {
    pub node: String,
    pub role: String,
    pub epoch: u64,
    pub is_main: bool,
    pub linked: bool,
    pub heard_ms_ago: u64,
    /// Where its web hooks are, as `host:port`.
    pub hooks: Option<String>,
    pub program: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Promote {
    /// Even if messages that have receipts are lost.
    #[serde(default)]
    pub force: bool,
}

/// Roles have changed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Switched {
    pub epoch: u64,
    pub took_ms: u64,
}

/// What one node had accepted and the other may never have had.
#[derive(Debug, Serialize, Deserialize)]
pub struct Quarantine {
    pub entries: Vec<Report>,
    pub warning: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Quarantined {
    #[serde(flatten)]
    pub report: Report,
    pub messages: Vec<QuarantinedMessage>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct QuarantinedMessage {
    pub id: String,
    pub solution: String,
    pub source: String,
    pub time_ms: UnixMs,
    pub bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Discard {
    pub reason: String,
}

/// A takeover on a copy of the standby's store, and how long each step took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// The standby, which did it.
    pub node: String,
    /// `running`, `done` or `failed`.
    pub state: String,
    pub started_ms: u64,
    /// The last frame of the standby when it began.
    pub frame: u64,
    pub copied_bytes: u64,
    pub steps: Vec<Step>,
    /// In all.
    pub took_ms: u64,
    /// Why it failed.
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// `copy`, `open`, `verify`, `epoch`, `components` or `message`.
    pub step: String,
    /// What was done, in words.
    pub what: String,
    pub took_ms: u64,
}

/// A node has another key. Fingerprints.
#[derive(Debug, Serialize, Deserialize)]
pub struct Rotated {
    pub before: String,
    pub key: String,
    pub took_ms: u64,
}
