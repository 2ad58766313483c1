//! Every bound of the host in one place, each with its unit.

use std::time::Duration;

/// Body of a message when its source says nothing, in bytes.
pub const BODY_BYTES_DEFAULT: u64 = 1 << 20;
/// The most that a source may allow for a body, in bytes.
pub const BODY_BYTES_MAX: u64 = 16 << 20;
/// Headers of a message, names and values together, in bytes.
pub const HEADER_BYTES_MAX: usize = 32 << 10;
/// Headers that a solution gives to a request, a message or a reply.
pub const HEADERS_MAX: usize = 1000;
/// A message's key, in bytes.
pub const KEY_BYTES_MAX: usize = 512;
/// Messages of one solution that wait to be handled, when `[limits] queue` says nothing.
pub const QUEUE_DEFAULT: u64 = 100_000;
/// Outbox requests of one solution that wait to be delivered, when `[limits] outbox` says nothing.
pub const OUTBOX_DEFAULT: u64 = 100_000;

/// A component file, in bytes.
pub const COMPONENT_BYTES_MAX: usize = 64 << 20;

/// A state key, in bytes.
pub const STATE_KEY_BYTES_MAX: usize = 512;
/// A state value, in bytes.
pub const STATE_VALUE_BYTES_MAX: usize = 1 << 20;
/// All that one attempt writes and asks for, in bytes.
pub const EFFECT_BYTES_MAX: usize = 16 << 20;
/// Outbox requests, and messages published, of one attempt.
pub const EFFECTS_MAX: usize = 1000;
/// A reply to a waiting sender, in bytes.
pub const REPLY_BYTES_MAX: usize = 4 << 20;
/// URL of an outbox request, in bytes.
pub const URL_BYTES_MAX: usize = 8 << 10;

/// Log lines that are kept of one attempt.
pub const LOG_LINES_MAX: usize = 1000;
/// One log line, in bytes.
pub const LOG_LINE_BYTES_MAX: usize = 8 << 10;
/// A reason, a trap's text or a backtrace, in bytes.
pub const REASON_BYTES_MAX: usize = 16 << 10;

/// Time to handle one message, when `[limits] time` says nothing.
pub const HANDLE_TIME_DEFAULT: Duration = Duration::from_secs(10);
/// The most that a solution may ask for.
pub const HANDLE_TIME_MAX: Duration = Duration::from_mins(10);
/// Memory of one instance, when `[limits] memory` says nothing, in bytes.
pub const MEMORY_BYTES_DEFAULT: u64 = 64 << 20;
/// The most that a solution may ask for, in bytes.
pub const MEMORY_BYTES_MAX: u64 = 1 << 30;

/// Body of a receiver's answer that is kept for `messages show`, in bytes.
pub const ANSWER_BYTES_KEPT: usize = 1 << 10;
/// The longest that a sender may wait for a reply.
pub const WAIT_MAX: Duration = Duration::from_mins(2);
